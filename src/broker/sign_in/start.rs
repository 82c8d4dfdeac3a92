//! The start of a sign-in, with the grant that it uses.
//!
//! Some grants ask the provider first. No lock is held meanwhile, and nothing is spent: if the process
//! dies before the answer is recorded, the provider forgets the code by itself. Two starts at the same
//! time may both ask; one code is recorded, and the other start shows it.

use super::{Opener, SignIn, SignInProgress, View, WayBack};
use crate::{
    broker::{Broker, StartError},
    ids::{Principal, Tenant},
    net::Unreachable,
    oauth::{Attempt, KnownUser, OpeningError, Provider},
    secret::StartId,
    session::{Applied, BrowserReturn, Change, Entry, GrantKind, Pending, Polling},
    sys::random,
};

/// How often a start that meets another one tries again.
const TRIES: usize = 3;

/// The choices of a start.
#[derive(Clone, Debug, Default)]
pub struct StartOptions {
    /// The grant. Without it the sign-in in progress is shown again, or the provider's first grant
    /// begins.
    pub grant: Option<GrantKind>,
    /// The way on which an authorization code comes back. Other grants have none.
    pub way_back: WayBack,
    /// The user's name, for the message on another screen (CIBA).
    pub user_name: Option<String>,
}

impl Broker {
    /// Starts a sign-in with the provider's first grant, or shows again the one that `started_by` has
    /// in progress.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(&self, tenant: &Tenant, started_by: Principal) -> Result<SignIn, StartError> {
        self.start_with(tenant, started_by, StartOptions::default()).await
    }

    /// As [`Broker::start`], with this way back for an authorization code. A sign-in in progress with
    /// another way back is replaced.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start_by(
        &self,
        tenant: &Tenant,
        started_by: Principal,
        way_back: WayBack,
    ) -> Result<SignIn, StartError> {
        self.start_with(tenant, started_by, StartOptions { way_back, ..StartOptions::default() }).await
    }

    /// As [`Broker::start`], with these choices. A sign-in in progress with another grant or way back
    /// is replaced.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start_with(
        &self,
        tenant: &Tenant,
        started_by: Principal,
        options: StartOptions,
    ) -> Result<SignIn, StartError> {
        let callback = self.inner.callback(&tenant.provider);
        let callback = match &options.way_back {
            // A listener takes the port of the moment, and the server does not compare it (RFC 8252 §7.3).
            WayBack::Paste | WayBack::Listener(_) => None,
            WayBack::Browser(_) => callback.filter(|_| self.inner.may_return_to_us(&tenant.provider)),
        };
        let provider = self.inner.for_sign_in(tenant, callback.as_ref()).await?;
        self.discover_if_old(&tenant.provider);
        let (redirect_uri, opener) = match (&options.way_back, callback) {
            (WayBack::Listener(url), _) => (url.to_string(), None),
            (WayBack::Browser(opener), Some(callback)) => (callback.to_string(), Some(opener)),
            (WayBack::Paste | WayBack::Browser(_), _) => (provider.redirect_uri().to_owned(), None),
        };
        if let Some(grant) = options.grant.filter(|grant| !provider.grants().contains(grant)) {
            let offered = provider.grants().to_vec();
            return Err(StartError::NotOffered { provider: tenant.provider.clone(), grant, offered });
        }
        let is_wanted = |live: &Pending| {
            provider.takes(live)
                && provider.grants().contains(&live.grant())
                && options.grant.is_none_or(|grant| grant == live.grant())
                && (live.polling.is_some()
                    || live.redirect_uri == redirect_uri
                        && live.browser.is_some() == opener.is_some()
                        // Its link was opened, and works in that browser alone.
                        && !live.awaits_its_browser())
        };
        let mut until = 0;
        for _ in 0..TRIES {
            let now = self.inner.now();
            let entry = self.inner.store.read(tenant).await?;
            let mut replaced = None;
            if let Some(live) = entry.pending.as_ref().filter(|pending| pending.is_live(now)) {
                until = live.expires_at();
                if live.started_by != started_by {
                    break;
                }
                if is_wanted(live) {
                    return Ok(self.shown(&provider, SignInProgress::link(tenant, live, &entry), live, true));
                }
                // Another grant or way back is wanted, or the old link leads to another place because
                // the configuration has changed. Or its link was opened, and works in that browser alone.
                replaced = Some(live.clone());
            }
            let grant = options.grant.unwrap_or_else(|| provider.grants()[0]);
            let polling = self.opened(&provider, grant, &entry, started_by, &options).await?;
            let lineage_seen = entry.session.as_ref().map(|session| session.lineage);
            // The provider may have taken its time.
            let now = self.inner.now();
            let mut pending = match polling {
                Some(polling) => provider.begin_polling(started_by, lineage_seen, now, polling),
                None => provider.begin(started_by, lineage_seen, now),
            };
            if pending.polling.is_none() {
                redirect_uri.clone_into(&mut pending.redirect_uri);
                pending.browser = opener.map(begin_return);
            }
            let after = match replaced {
                Some(live) => {
                    let replace = || Change::Replace { state: live.state.clone(), pending: pending.clone() };
                    self.end_pending(tenant, &live, replace).await?;
                    self.inner.store.read(tenant).await?
                }
                None => {
                    let started = self.inner.store.change(tenant, Change::Start(pending.clone())).await?;
                    if started.applied == Applied::Done {
                        self.revoke_removed(tenant, started.before.pending.as_ref()).await;
                    }
                    started.after
                }
            };
            if after.pending.as_ref().is_some_and(|there| there.state == pending.state) {
                let link = SignInProgress::link(tenant, &pending, &after);
                return Ok(self.shown(&provider, link, &pending, false));
            }
        }
        Err(StartError::Busy { tenant: tenant.clone(), until })
    }

    fn shown(&self, provider: &Provider, shown: SignInProgress, pending: &Pending, resumed: bool) -> SignIn {
        let start = self.public_url().zip(pending.browser.as_ref());
        let start = start.map(|(public, browser)| public.start(browser.start_id.expose()));
        let by_digits = start.is_some();
        let view = match start {
            Some(page) => View::Link(page),
            None => provider.acquirer(pending.grant()).view(provider, pending),
        };
        let expires_at = pending.expires_at();
        SignIn { tenant: shown.tenant().clone(), view, expires_at, resumed, by_digits, shown }
    }

    /// Asks the provider to begin, where the grant needs that.
    async fn opened(
        &self,
        provider: &Provider,
        grant: GrantKind,
        entry: &Entry,
        started_by: Principal,
        options: &StartOptions,
    ) -> Result<Option<Polling>, StartError> {
        if grant == GrantKind::Code {
            return Ok(None);
        }
        let id = || provider.id().clone();
        let user = KnownUser {
            login_hint: login_hint(provider, entry, started_by),
            name: options.user_name.clone().unwrap_or_else(|| name_of(started_by)),
        };
        let credentials = self.inner.credentials(provider, &provider.binding()).await;
        let credentials =
            credentials.map_err(|problem| StartError::NoClientSecret { provider: id(), problem })?;
        let acquirer = provider.acquirer(grant);
        let failed = |error: OpeningError| match error {
            OpeningError::NoLoginHint => StartError::NoLoginHint { provider: id(), user: started_by },
            error => StartError::NotBegun { provider: id(), grant, problem: error.to_string() },
        };
        let Some(request) = acquirer.opening(provider, &user, &credentials).map_err(failed)? else {
            return Ok(None);
        };
        match self.inner.client.open(request).await {
            Attempt::Answered(answer) => acquirer.opened(provider, &user, &answer).map(Some).map_err(failed),
            Attempt::NotSent(step) | Attempt::Unanswered(step) => {
                let is_known = Unreachable::STEPS.contains(&step);
                let cause = self.inner.client.trouble(provider).filter(|_| is_known);
                Err(StartError::Unreachable { provider: id(), code: step.to_owned(), cause })
            }
        }
    }
}

/// Returns the name of the user at the provider: the operator's, or else the proved subject of the
/// tenant's own session, if this user signed it in.
fn login_hint(provider: &Provider, entry: &Entry, user: Principal) -> Option<String> {
    let own = entry.session.as_ref().filter(|session| session.signed_in_by == Some(user));
    let own = own.filter(|session| provider.issued(&session.binding) && session.has_proved_subject());
    provider.login_hint(user).map(str::to_owned).or_else(|| own?.subject.clone())
}

/// Returns a name for the message on another screen, where Discord gives none.
fn name_of(user: Principal) -> String {
    match user {
        Principal::User(id) => format!("Discord user {id}"),
        other => other.to_string(),
    }
}

/// Begins the way back through our own pages.
fn begin_return(opener: &Opener) -> Box<BrowserReturn> {
    Box::new(BrowserReturn {
        start_id: StartId::new(random::short_token()),
        user: opener.user.clone(),
        server: opener.server.clone(),
        cookie: None,
        unconfirmed: None,
        failed: None,
    })
}
