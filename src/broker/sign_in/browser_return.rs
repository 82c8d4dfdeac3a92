//! The way back through our own pages, from the one-time link to the digits.
//!
//! 1. [`Broker::start_page`] finds the sign-in of a link and changes nothing: programs that preview
//!    a link fetch it before its user does.
//! 2. [`Broker::open_start`] binds the sign-in to the browser that presses the button, by a cookie.
//!    The first browser gets it, and a second one is refused.
//! 3. [`Broker::browser_returned`] requires that cookie, exchanges the code at once, and returns six
//!    digits. The tokens wait inside the pending sign-in, where no other code looks for any
//!    ([`crate::session::Unconfirmed`]).
//! 4. [`Broker::confirm_in`] takes the digits from the user who started the sign-in.
//!
//! A stranger who starts a sign-in and sends its link to a victim never sees the victim's digits. A
//! stranger who sends the address of step 3 to a victim lacks the victim's cookie. A server that sends
//! the victim on to another server, to get the other's code, meets the redirect URI of the other one:
//! step 3 takes an answer only at the address that its sign-in named (RFC 9700 §4.4). The process that
//! drops the tokens revokes the grant: after the last wrong attempt, at a cancel, at a logout, and
//! once the time for the digits is over.
//!
//! # What happens when the process dies
//!
//! | dies | leaves | next |
//! | --- | --- | --- |
//! | in step 1, or before the cookie is durable | an unopened link | the user opens it again |
//! | after the cookie is durable, before the browser has it | an opened link that no browser can finish | `/auth start` replaces an opened sign-in; else it expires |
//! | before the intent is durable | an unspent code | the user reloads the page |
//! | before the answer is durable | an intent without an answer | a reload reports that the code may be spent, and ends the sign-in |
//! | before the tokens are in the pending sign-in | an answer in the journal | a reload reads it, and shows digits; without one, a broker that sees the end of the sign-in revokes the grant ([`Broker::expire_undecided`]), and so does a cancel |
//! | before the journal is emptied | an answer whose tokens wait for digits already | the next reader empties the journal |
//! | before the page is sent | a grant whose digits no user knows | the first broker that sees its end revokes it, 15 minutes later ([`Broker::expire_undecided`]) |
//! | after a cancel, before it has read the journal | an answer of a sign-in that is gone | the next look of any broker revokes the grant ([`super::orphans`]) |
//! | between the removal of the tokens and the revocation | a grant at the provider that no program holds | accepted: see [`super::account_choice`] |
//!
//! A second load of the page at the same time finds the sign-in lock held, and sends nothing. A later one
//! finds the tokens in the record, which it reads under that lock: the code is sent once, whichever
//! process serves.
//!
//! # Whose sign-in it is
//!
//! The starter may have lost the right since the start: left the server, or lost a role. So steps 2 and 3
//! check it ([`check_starter`]), and step 4 is a command of Discord, which checks it too. A starter
//! without the right loses the sign-in.
//!
//! The record of each step is in the store. So the page, the digits and the message on Discord may
//! belong to three processes.

use std::sync::Arc;

use url::{Url, form_urlencoded};

use super::{exchange::Landed, finish::live_sign_ins, sign_in_result::DigitsPage};
use crate::{
    broker::{
        Broker, FinishError, Finished, GrantEnd, OwnerRights, RightsError, owner_rights::check_starter,
    },
    ids::{Principal, ProviderId, Snowflake, Tenant},
    oauth::Provider,
    secret::{AuthorizationCode, Digits, Scrubber, Secret},
    session::{Applied, Change, DIGIT_ATTEMPTS, Pending, Session, failure},
    store::StoreError,
    sys::{clock::UnixTime, random},
};

/// The longest text from outside that a page or a message repeats.
const MAX_WORDS: usize = 200;

/// The names on the start page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opener {
    /// The user who starts the sign-in.
    pub user: String,
    /// The server where it is started.
    pub server: Option<String>,
}

/// The content of a start page.
#[derive(Clone, Debug)]
pub struct StartPage {
    /// The sign-in's tenant.
    pub tenant: Tenant,
    /// Its user and server.
    pub opener: Opener,
    /// The host of the provider's page.
    pub site: String,
}

/// A start page whose button was pressed.
#[derive(Debug)]
pub struct OpenedStart {
    /// The name of the cookie.
    pub cookie: String,
    /// The value of the cookie.
    pub value: Secret,
    /// The provider's page.
    pub location: Url,
}

/// The reason why a page cannot go on. The texts are for its reader.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// No sign-in has this id or state, or it is over.
    #[error(
        "This link is not valid any more. If the bot reports on Discord that you are signed in, nothing is left to do. Otherwise type /auth start there to get a new link."
    )]
    Unknown,
    /// The link was opened in another browser.
    #[error(
        "This link was already opened in another browser, and it works in one browser only. If that was not you, do not sign in. Type /auth start on Discord to get a new link."
    )]
    OpenedElsewhere,
    /// The provider's answer arrived in another browser than the one that opened the link.
    #[error(
        "This browser did not start the sign-in, so nothing was done. If another person sent you this address, close the page. Otherwise go back to the browser in which you opened the link from Discord."
    )]
    WrongBrowser,
    /// The code was exchanged before.
    #[error(
        "This page works once, and the sign-in has gone on. On Discord, type the six digits that it showed. If you do not have them any more, type /auth cancel there and start again."
    )]
    Used,
    /// The address has no code and no error, or has one twice.
    #[error("This address is not the answer of a sign-in. Open the link from Discord again.")]
    NoAnswer,
    /// The provider did not allow the sign-in.
    #[error(
        "{provider} did not allow the access ({code}), so you are not signed in. Type /auth start on Discord to try again."
    )]
    Denied {
        /// The provider.
        provider: ProviderId,
        /// Its error code, and its description if it has one.
        code: String,
    },
    /// The exchange of the code failed for good.
    #[error(
        "You are not signed in: {provider} did not complete it ({code}). Type /auth start on Discord to try again."
    )]
    Failed {
        /// The provider.
        provider: ProviderId,
        /// A stable word.
        code: String,
    },
    /// Nothing was spent, and the same page can be loaded again.
    #[error("{0} cannot be reached at the moment. Nothing is lost: reload this page in a minute.")]
    TryAgain(ProviderId),
    /// Another load of the same page exchanges the code now.
    #[error(
        "{0} is being asked at this moment, by an earlier load of this page. Go back to it and wait. If it is closed, reload this page in a minute."
    )]
    InProgress(ProviderId),
    /// The user who started the sign-in has lost the right since.
    #[error(
        "You may no longer use this bot for that, so the sign-in is dropped and nothing was signed in. Ask a manager of the Discord server, or the bot's operator."
    )]
    NotEntitled,
    /// Discord does not answer, so the user's right is unknown.
    #[error(
        "Discord does not answer at the moment, so the bot cannot check that you may still use it. Nothing is lost: reload this page in a minute."
    )]
    RightsUnknown,
    /// The store cannot be used.
    #[error("The sign-in cannot go on at the moment. Reload this page in a minute.")]
    Store(#[from] StoreError),
}

impl Broker {
    /// Returns the content of the start page with this id. Changes nothing.
    ///
    /// # Errors
    /// [`PageError::Unknown`], [`PageError::Used`], or the store's.
    pub async fn start_page(&self, id: &str) -> Result<StartPage, PageError> {
        let (tenant, pending) = self.started_as(id).await?;
        let Some(browser) = &pending.browser else { return Err(PageError::Unknown) };
        if browser.unconfirmed.is_some() {
            return Err(PageError::Used);
        }
        let provider = self.inner.usable(&tenant.provider).await;
        let provider = provider.map_err(|_| PageError::TryAgain(tenant.provider.clone()))?;
        if !provider.takes(&pending) {
            return Err(PageError::Unknown);
        }
        let opener = Opener { user: browser.user.clone(), server: browser.server.clone() };
        Ok(StartPage { site: provider.site(), tenant, opener })
    }

    /// Binds the sign-in with this id to the browser with these cookies, and returns the provider's
    /// page.
    ///
    /// # Errors
    /// As [`Broker::start_page`], and [`PageError::OpenedElsewhere`], [`PageError::NotEntitled`] or
    /// [`PageError::RightsUnknown`].
    pub async fn open_start(
        &self,
        id: &str,
        cookies: &str,
        rights: &dyn OwnerRights,
    ) -> Result<OpenedStart, PageError> {
        let (tenant, pending) = self.started_as(id).await?;
        self.check_rights(&tenant, &pending, rights).await?;
        // At an MCP server the request names the client of this redirect URI.
        let callback = self.inner.callback(&tenant.provider);
        let provider = self.inner.for_sign_in(&tenant, callback.as_ref()).await;
        let provider = provider.map_err(|_| PageError::TryAgain(tenant.provider.clone()))?;
        // The configuration or the server has changed since: the page would lead to another place.
        if !provider.takes(&pending) {
            return Err(PageError::Unknown);
        }
        let name = cookie_name(&pending);
        // A browser that goes back and presses the button again keeps its cookie.
        let value = cookie(cookies, &name).unwrap_or_else(|| Secret::new(random::token()));
        let open = Change::OpenStart { state: pending.state.clone(), cookie: value.fingerprint() };
        let opened = self.inner.store.change(&tenant, open).await?;
        match opened.applied {
            Applied::Done | Applied::Already => {}
            Applied::Stale if opened.after.pending.as_ref().is_some_and(|now| now.state != pending.state) => {
                return Err(PageError::Unknown);
            }
            Applied::Stale
                if opened.after.pending.as_ref().is_some_and(|now| now.unconfirmed().is_some()) =>
            {
                return Err(PageError::Used);
            }
            Applied::Stale => return Err(PageError::OpenedElsewhere),
        }
        Ok(OpenedStart { cookie: name, value, location: provider.authorize_url(&pending) })
    }

    /// Takes the provider's answer from the browser with these cookies: exchanges the code, and
    /// returns the digits. It arrived at `callback`, which must be the redirect URI of the sign-in.
    /// `admitted` is called once the cookie is right. Runs on in a task of its own if the caller gives up.
    ///
    /// # Errors
    /// See [`PageError`].
    pub async fn browser_returned(
        &self,
        callback: &Url,
        query: &str,
        cookies: &str,
        rights: &dyn OwnerRights,
        admitted: impl FnOnce(),
    ) -> Result<DigitsPage, PageError> {
        let answer = Answer::parse(query)?;
        let (tenant, pending) = self.pending_of(&answer.state).await?;
        let presented = cookie(cookies, &cookie_name(&pending)).map(|value| value.fingerprint());
        if presented.is_none() || presented != pending.browser.as_ref().and_then(|b| b.cookie.clone()) {
            return Err(PageError::WrongBrowser);
        }
        admitted();
        if pending.unconfirmed().is_some() {
            return Err(PageError::Used);
        }
        self.check_rights(&tenant, &pending, rights).await?;
        let id = tenant.provider.clone();
        if pending.redirect_uri != callback.as_str() {
            self.fail_return(&tenant, &pending, failure::WRONG_CALLBACK).await?;
            return Err(PageError::Failed { provider: id, code: failure::WRONG_CALLBACK.to_owned() });
        }
        // The published metadata promises the issuer, so it must be known before the answer is read.
        let provider = self.inner.usable(&id).await.map_err(|_| PageError::TryAgain(id.clone()))?;
        let expected = pending.binding.issuer.as_ref();
        let is_foreign =
            expected.is_some_and(|expected| answer.issuer.as_ref().is_some_and(|issuer| issuer != expected));
        if is_foreign || (answer.issuer.is_none() && provider.requires_iss()) {
            // RFC 9207 §2.4: the answer of another server is not used at all.
            self.fail_return(&tenant, &pending, failure::WRONG_ISSUER).await?;
            return Err(PageError::Failed { provider: id, code: failure::WRONG_ISSUER.to_owned() });
        }
        let code = match (answer.code, answer.error) {
            (Some(code), None) => code,
            (None, Some(error)) => {
                self.fail_return(&tenant, &pending, &error).await?;
                let code = answer.description.map_or(error.clone(), |words| format!("{error}: {words}"));
                return Err(PageError::Denied { provider: id, code });
            }
            _ => return Err(PageError::NoAnswer),
        };
        let broker = self.clone();
        let returned = async move { broker.exchange_for_digits(&provider, &tenant, &pending, &code).await };
        // A task of its own: a browser that is closed does not lose the answer.
        let returned = self.inner.tasks.spawn(returned).await;
        returned.unwrap_or_else(|_| Err(PageError::Failed { provider: id, code: "internal".to_owned() }))
    }

    async fn exchange_for_digits(
        &self,
        provider: &Arc<Provider>,
        tenant: &Tenant,
        pending: &Pending,
        code: &AuthorizationCode,
    ) -> Result<DigitsPage, PageError> {
        let id = tenant.provider.clone();
        let _known = Scrubber::of_process().pin(code.expose());
        let error = match self.exchange(provider, tenant, &pending.state, code).await {
            Ok(Landed::Digits(page)) => return Ok(page),
            Ok(Landed::Finished(_)) => return Err(PageError::Unknown),
            Err(error) => error,
        };
        tracing::warn!(%tenant, %error, "a sign-in by the browser did not succeed");
        let code = match error {
            FinishError::Store(error) => return Err(PageError::Store(error)),
            FinishError::Busy(_) | FinishError::Held { .. } => return Err(PageError::InProgress(id)),
            FinishError::Unreachable { .. }
            | FinishError::Unavailable { .. }
            | FinishError::NotSaved(_)
            | FinishError::TooManyCodes { .. }
            | FinishError::NoClientSecret { .. }
            | FinishError::WrongEndpoint { .. } => return Err(PageError::TryAgain(id)),
            FinishError::Superseded(_) => return Err(PageError::Unknown),
            FinishError::DigitsExpected(_) => return Err(PageError::Used),
            FinishError::Refused { code, .. }
            | FinishError::Misconfigured { code, .. }
            | FinishError::Uncertain { code, .. } => code,
            FinishError::CodeSpent(_) => failure::CODE_SPENT.to_owned(),
            FinishError::Mismatch { claim, .. } => format!("wrong_{claim}"),
            _ => "not_accepted".to_owned(),
        };
        self.fail_return(tenant, pending, &code).await?;
        Err(PageError::Failed { provider: id, code })
    }

    /// Finishes a sign-in of `user` with the digits of its page. Returns `None` if no sign-in of the
    /// user waits for digits.
    ///
    /// # Errors
    /// [`FinishError::WrongDigits`], [`FinishError::DigitsUsedUp`], or why the user cannot finish it.
    pub async fn confirm_in(
        &self,
        user: Principal,
        managed: Option<Snowflake>,
        provider: Option<&ProviderId>,
        typed: &Digits,
    ) -> Result<Option<Finished>, FinishError> {
        let (records, now) = (self.inner.store.list().await?, self.inner.now());
        let waiting: Vec<_> = live_sign_ins(&records, user, now)
            .into_iter()
            .filter(|(tenant, pending)| {
                pending.unconfirmed().is_some() && provider.is_none_or(|id| *id == tenant.provider)
            })
            .collect();
        // Digits that fit one sign-in are no wrong attempt at another one.
        let fits = |pending: &Pending| {
            pending.unconfirmed().is_some_and(|one| one.digits == typed.fingerprint(&pending.state))
        };
        let chosen = match waiting.as_slice() {
            [] => return Ok(None),
            [one] => *one,
            several => match several.iter().find(|(_, pending)| fits(pending)) {
                Some(one) => *one,
                None => {
                    let all = several.iter().map(|(tenant, pending)| ((*tenant).clone(), (*pending).clone()));
                    let (broker, typed, all) = (self.clone(), typed.clone(), all.collect());
                    let missed = async move { broker.miss(all, typed).await };
                    let id = several[0].0.provider.clone();
                    return self.inner.tasks.spawn(missed).await.unwrap_or(Err(FinishError::Internal(id)));
                }
            },
        };
        let (tenant, pending) = (chosen.0.clone(), chosen.1.clone());
        let is_theirs = tenant.principal == user
            || managed.is_some_and(|guild| tenant.principal == Principal::Guild(guild));
        if !is_theirs {
            return Err(FinishError::ManagersOnly(tenant.provider));
        }
        let (broker, typed, id) = (self.clone(), typed.clone(), tenant.provider.clone());
        let confirmed = async move { broker.confirm(&tenant, &pending, typed).await };
        // A task of its own: the change and its report belong together.
        let confirmed = self.inner.tasks.spawn(confirmed).await;
        confirmed.unwrap_or(Err(FinishError::Internal(id))).map(Some)
    }

    /// Counts typed digits that fit none of these sign-ins against each of them. Otherwise two sign-ins
    /// would give any number of attempts.
    async fn miss(
        &self,
        waiting: Vec<(Tenant, Pending)>,
        typed: Digits,
    ) -> Result<Option<Finished>, FinishError> {
        let mut missed = None;
        for (tenant, pending) in &waiting {
            match self.confirm(tenant, pending, typed.clone()).await {
                // Another process has just ended this sign-in.
                Err(FinishError::Superseded(_)) => {}
                Err(error @ FinishError::Store(_)) => return Err(error),
                Err(error) => missed = Some(error),
                Ok(finished) => return Ok(Some(finished)),
            }
        }
        let providers = waiting.into_iter().map(|(tenant, _)| tenant.provider).collect();
        match missed {
            Some(FinishError::WrongDigits { left, .. }) => {
                Err(FinishError::WrongDigitsOfSeveral { providers, left })
            }
            other => Err(other.unwrap_or(FinishError::Ambiguous(providers))),
        }
    }

    /// Returns until when a sign-in of this tenant takes its digits, if one waits for them.
    ///
    /// # Errors
    /// The store's.
    pub async fn digits_until(&self, tenant: &Tenant) -> Result<Option<UnixTime>, StoreError> {
        let now = self.inner.now();
        let entry = self.inner.store.read(tenant).await?;
        let pending = entry.pending.as_ref();
        let pending = pending.filter(|pending| pending.is_live(now) && pending.unconfirmed().is_some());
        Ok(pending.map(Pending::expires_at))
    }

    async fn confirm(
        &self,
        tenant: &Tenant,
        pending: &Pending,
        typed: Digits,
    ) -> Result<Finished, FinishError> {
        let id = tenant.provider.clone();
        let Some(waiting) = pending.unconfirmed() else { return Err(FinishError::Superseded(id)) };
        let finishing = self.finishing(tenant);
        let confirm = Change::Confirm { state: pending.state.clone(), typed };
        let changed = match self.inner.store.change(tenant, confirm).await {
            Ok(changed) => changed,
            Err(busy @ StoreError::Busy { .. }) => return Err(busy.into()),
            // The try may have taken effect without becoming durable. A second one would count the
            // digits twice, so it changes nothing, and only makes the end durable.
            Err(error) => {
                let after = self.inner.store.read(tenant).await?.pending;
                let is_over = |after: &Pending| {
                    after.state == pending.state && after.failure() == Some(failure::WRONG_DIGITS)
                };
                if !after.as_ref().is_some_and(is_over) {
                    return Err(error.into());
                }
                let code = failure::WRONG_DIGITS.to_owned();
                let again = Change::FailReturn { state: pending.state.clone(), code };
                self.inner.store.change(tenant, again).await?;
                drop(finishing);
                return Err(self.digits_used_up(tenant, &waiting.session).await);
            }
        };
        if changed.applied != Applied::Done {
            return Err(FinishError::Superseded(id));
        }
        if let Some(after) = changed.after.pending.as_ref().filter(|after| after.state == pending.state) {
            if let Some(waiting) = after.unconfirmed() {
                return Err(FinishError::WrongDigits {
                    provider: id,
                    left: DIGIT_ATTEMPTS.saturating_sub(waiting.wrong),
                });
            }
            drop(finishing);
            return Err(self.digits_used_up(tenant, &waiting.session).await);
        }
        Ok(self.conclude_confirmed(tenant, pending, &waiting.session, changed, finishing).await)
    }

    /// Revokes the grant after the last wrong attempt.
    async fn digits_used_up(&self, tenant: &Tenant, waiting: &Session) -> FinishError {
        tracing::warn!(%tenant, "wrong digits were typed too often; the sign-in is dropped");
        let dropped = self.revoke_dropped(tenant, waiting.clone()).await;
        let is_revoked = dropped.grant == GrantEnd::Revoked;
        FinishError::DigitsUsedUp { provider: tenant.provider.clone(), is_revoked }
    }

    /// Checks that the user who started a sign-in may still finish it. Otherwise drops the sign-in.
    async fn check_rights(
        &self,
        tenant: &Tenant,
        pending: &Pending,
        rights: &dyn OwnerRights,
    ) -> Result<(), PageError> {
        match check_starter(rights, tenant, pending).await {
            Ok(()) => Ok(()),
            Err(RightsError::Unknown { .. }) => Err(PageError::RightsUnknown),
            Err(RightsError::NotEntitled) => {
                tracing::info!(%tenant, "a sign-in ends, because its starter may no longer finish it");
                self.fail_return(tenant, pending, failure::NOT_ENTITLED).await?;
                Err(PageError::NotEntitled)
            }
        }
    }

    /// Ends a sign-in by the browser. Revokes its grant if it has one.
    pub(in crate::broker) async fn fail_return(
        &self,
        tenant: &Tenant,
        pending: &Pending,
        code: &str,
    ) -> Result<bool, StoreError> {
        let fail = || Change::FailReturn { state: pending.state.clone(), code: short(code) };
        self.end_pending(tenant, pending, fail).await
    }

    /// The live sign-in of a start page.
    async fn started_as(&self, id: &str) -> Result<(Tenant, Pending), PageError> {
        let wanted = Secret::new(id).fingerprint();
        self.find(|pending| {
            pending.browser.as_ref().is_some_and(|browser| browser.start_id.fingerprint() == wanted)
        })
        .await
    }

    /// The live sign-in by the browser with this state.
    async fn pending_of(&self, state: &Secret) -> Result<(Tenant, Pending), PageError> {
        let wanted = state.fingerprint();
        self.find(|pending| pending.browser.is_some() && pending.state.fingerprint() == wanted).await
    }

    async fn find(&self, is_it: impl Fn(&Pending) -> bool) -> Result<(Tenant, Pending), PageError> {
        let (records, now) = (self.inner.store.list().await?, self.inner.now());
        let all = records.iter().filter_map(|(tenant, entry)| Some((tenant, entry.pending.as_ref()?)));
        let found = all.into_iter().find(|(_, pending)| pending.is_live(now) && is_it(pending));
        found.map(|(tenant, pending)| (tenant.clone(), pending.clone())).ok_or(PageError::Unknown)
    }
}

/// The parameters of an authorization response (RFC 6749 §4.1.2, RFC 9207).
struct Answer {
    state: Secret,
    code: Option<AuthorizationCode>,
    issuer: Option<String>,
    error: Option<String>,
    description: Option<String>,
}

impl Answer {
    /// Reads a query. A parameter that occurs twice makes it no answer (RFC 6749 §3.1).
    fn parse(query: &str) -> Result<Self, PageError> {
        let one = |name: &str| {
            let mut all = form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == name);
            match (all.next(), all.next()) {
                (Some((_, value)), None) => Ok(Some(value.into_owned()).filter(|value| !value.is_empty())),
                (None, _) => Ok(None),
                (Some(_), Some(_)) => Err(PageError::NoAnswer),
            }
        };
        Ok(Self {
            state: Secret::new(one("state")?.ok_or(PageError::NoAnswer)?),
            code: one("code")?.map(AuthorizationCode::new),
            issuer: one("iss")?,
            error: one("error")?.map(|error| short(&error)),
            description: one("error_description")?.map(|words| short(&words)),
        })
    }
}

/// A text from outside, as far as a page or a message shows it.
fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_WORDS).collect()
}

/// Each sign-in has a cookie of its own, so that two of them in one browser do not meet.
fn cookie_name(pending: &Pending) -> String {
    format!("__Host-threadkey-{}", &pending.state.fingerprint().as_str()[..12])
}

/// Returns the value of a cookie in a `Cookie` header (RFC 6265 §4.2.1).
fn cookie(cookies: &str, name: &str) -> Option<Secret> {
    let pairs = cookies.split(';').filter_map(|pair| pair.trim().split_once('='));
    pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| Secret::new(value))
}
