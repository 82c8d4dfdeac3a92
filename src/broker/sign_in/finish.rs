//! Finishing a sign-in: which one a paste belongs to, and whether it may be exchanged.
//!
//! The `state` in a paste picks the sign-in among all that the user has in progress. The named
//! provider picks it only for a paste without one of their states: the user pressed a button or
//! typed a name, and the state is certain. A paste is checked, and refused, before anything is
//! sent. The rest is in [`super::exchange`].

use std::time::Duration;

use tokio::sync::broadcast::{self, error::RecvError};

use super::exchange::Landed;
use crate::{
    broker::{Broker, Event, FinishError, Finished, Undecided, later},
    ids::{Principal, ProviderId, Snowflake, Tenant},
    oauth::{AuthorizationResponse, PasteError, Pasted, Provider},
    secret::{Scrubber, State},
    session::{Entry, PENDING_LIFETIME, Pending, Session, failure},
    store::Records,
    sys::clock::UnixTime,
};

/// How long a caller waits after the first failure to save the answer. The saving continues.
const SAVE_WAIT: Duration = Duration::from_secs(10);

/// The errors of an authorization response that are about the request (RFC 6749 §4.1.2.1, RFC 8707
/// §2).
const REQUEST_ERRORS: [&str; 6] = [
    "invalid_request",
    "unauthorized_client",
    "unsupported_response_type",
    "invalid_scope",
    "invalid_client",
    "invalid_target",
];

/// The sign-ins that a user has in progress. It recognises the answers to them.
#[derive(Debug)]
pub struct AwaitedAnswers {
    states: Vec<State>,
}

impl AwaitedAnswers {
    /// Whether this text is certainly the answer to one of the sign-ins, whole: it contains their
    /// state, and a code or a denial.
    pub fn include(&self, text: &str) -> bool {
        let states: Vec<&State> = self.states.iter().collect();
        match Pasted::parse(text).and_then(|pasted| pasted.response(&states)) {
            Ok(response) => response.sign_in.is_some(),
            Err(error) => matches!(error, PasteError::Denied { .. }),
        }
    }
}

impl Broker {
    /// Finishes a sign-in of `user` with a paste. It is the sign-in whose `state` the paste
    /// contains. A paste without a state is for the one at `provider`, or the only one.
    ///
    /// # Errors
    /// See [`FinishError`]. The sign-in of a server is refused: see [`Broker::finish_in`].
    pub async fn finish(
        &self,
        user: Principal,
        provider: Option<&ProviderId>,
        pasted: Pasted,
    ) -> Result<Finished, FinishError> {
        self.finish_in(user, None, provider, pasted).await
    }

    /// As [`Broker::finish`], for a user who acts in the server `managed` and manages it at this
    /// moment. A server's sign-in is finished in no other way.
    ///
    /// # Errors
    /// See [`FinishError`].
    pub async fn finish_in(
        &self,
        user: Principal,
        managed: Option<Snowflake>,
        provider: Option<&ProviderId>,
        pasted: Pasted,
    ) -> Result<Finished, FinishError> {
        let finishes = |tenant: &Tenant| {
            tenant.principal == user
                || managed.is_some_and(|guild| tenant.principal == Principal::Guild(guild))
        };
        let (tenant, pending, response) = self.pending_for(user, finishes, provider, &pasted).await?;
        let id = tenant.provider.clone();
        if pending.unconfirmed().is_some() {
            return Err(FinishError::DigitsExpected(id));
        }
        if pending.browser.is_some() {
            return Err(FinishError::ByBrowser(id));
        }
        let provider = self.inner.usable(&id).await?;
        if response.sign_in.is_none() && !provider.enforces_pkce() {
            return Err(FinishError::StateNeeded(id));
        }
        check_issuer(&provider, &pending, &response)?;
        let (broker, of) = (self.clone(), tenant.clone());
        let code = response.code;
        let exchange = async move {
            let _known = Scrubber::of_process().pin(code.expose());
            let exchanged = broker.exchange(&provider, &tenant, &pending.state, &code).await?;
            match exchanged {
                Landed::Finished(exchanged) => Ok(broker.conclude(&tenant, exchanged).await),
                Landed::Digits(_) => Err(FinishError::DigitsExpected(tenant.provider.clone())),
            }
        };
        let unsaved = unsaved_for_long(self.events(), of);
        // A task of its own: a caller that gives up does not lose the answer.
        tokio::select! {
            finished = self.inner.tasks.spawn(exchange) => finished.unwrap_or(Err(FinishError::Internal(id))),
            () = unsaved => Err(FinishError::NotSaved(id)),
        }
    }

    /// Checks that `user` has a sign-in to finish, before a caller asks for the code.
    ///
    /// # Errors
    /// As [`Broker::finish`], if no sign-in is in progress.
    pub async fn expects_code(
        &self,
        user: Principal,
        provider: Option<&ProviderId>,
    ) -> Result<AwaitedAnswers, FinishError> {
        self.check_known(provider)?;
        let (records, now) = (self.inner.store.list().await?, self.inner.now());
        let open = live_sign_ins(&records, user, now);
        if !open.iter().any(|(tenant, _)| is_at(tenant, provider)) {
            return Err(nothing_live(&records, user, provider, now));
        }
        Ok(AwaitedAnswers { states: open.into_iter().map(|(_, pending)| pending.state.clone()).collect() })
    }

    /// The pending sign-in that a paste belongs to, and the response to it.
    async fn pending_for(
        &self,
        user: Principal,
        finishes: impl Fn(&Tenant) -> bool,
        provider: Option<&ProviderId>,
        pasted: &Pasted,
    ) -> Result<(Tenant, Pending, AuthorizationResponse), FinishError> {
        self.check_known(provider)?;
        let (records, now) = (self.inner.store.list().await?, self.inner.now());
        let mut open = live_sign_ins(&records, user, now);
        let states: Vec<&State> = open.iter().map(|(_, pending)| &pending.state).collect();
        let response = pasted.response(&states);
        if !open.iter().any(|(tenant, _)| is_at(tenant, provider)) && !has_state(&response) {
            return Err(nothing_live(&records, user, provider, now));
        }
        let response = match response {
            Ok(response) => response,
            Err(error) => {
                let is_denied = |pending: &Pending| {
                    matches!(pasted.response(&[&pending.state]), Err(PasteError::Denied { .. }))
                };
                let denied = open.iter().find(|(_, pending)| is_denied(pending));
                if let Some((tenant, pending)) = denied {
                    self.check_issuer_of_denial(tenant, pending, pasted).await?;
                    if matches!(&error, PasteError::Denied { error, .. } if error == failure::DENIED) {
                        self.inner.publish(Event::Denied((*tenant).clone()));
                    }
                }
                return Err(refusal(error, denied.map(|(tenant, _)| &tenant.provider).or(provider)));
            }
        };
        match response.sign_in {
            Some(position) => open = open.get(position).copied().into_iter().collect(),
            None => {
                open.retain(|(tenant, _)| is_at(tenant, provider));
                if open.iter().any(|(tenant, _)| finishes(tenant)) {
                    open.retain(|(tenant, _)| finishes(tenant));
                }
            }
        }
        match open.as_slice() {
            [(tenant, _)] if !finishes(tenant) => Err(FinishError::ManagersOnly(tenant.provider.clone())),
            [(tenant, pending)] => Ok(((*tenant).clone(), (*pending).clone(), response)),
            several => Err(FinishError::Ambiguous(
                several.iter().map(|(tenant, _)| tenant.provider.clone()).collect(),
            )),
        }
    }

    /// RFC 9207 §2.4 holds for errors too: one of another issuer is neither shown nor acted on.
    async fn check_issuer_of_denial(
        &self,
        tenant: &Tenant,
        pending: &Pending,
        pasted: &Pasted,
    ) -> Result<(), FinishError> {
        let Some(expected) = &pending.binding.issuer else { return Ok(()) };
        let (is_named, is_foreign) = pasted.issuers(&pending.state, expected);
        if is_foreign {
            let got = "another one".to_owned();
            return Err(FinishError::IssuerMismatch { expected: expected.clone(), got });
        }
        if !is_named && self.inner.usable(&tenant.provider).await?.requires_iss() {
            return Err(FinishError::IssuerMissing(tenant.provider.clone()));
        }
        Ok(())
    }

    fn check_known(&self, provider: Option<&ProviderId>) -> Result<(), FinishError> {
        let unknown = provider.filter(|id| !self.inner.providers.contains(id));
        unknown.map_or(Ok(()), |id| Err(FinishError::UnknownProvider(id.clone())))
    }
}

/// Distinguishes the provider's refusal of the request, which only the operator can mend, from the
/// user's own (RFC 6749 §4.1.2.1).
fn refusal(error: PasteError, provider: Option<&ProviderId>) -> FinishError {
    match (error, provider) {
        (PasteError::Denied { error, description }, Some(provider))
            if REQUEST_ERRORS.contains(&error.as_str()) =>
        {
            FinishError::RequestRefused { provider: provider.clone(), error, description }
        }
        (error, _) => error.into(),
    }
}

fn has_state(response: &Result<AuthorizationResponse, PasteError>) -> bool {
    response.as_ref().is_ok_and(|response| response.sign_in.is_some())
}

fn is_at(tenant: &Tenant, provider: Option<&ProviderId>) -> bool {
    provider.is_none_or(|id| *id == tenant.provider)
}

/// The live sign-ins of `user` that wait for a code.
pub(super) fn live_sign_ins(records: &Records, user: Principal, now: UnixTime) -> Vec<(&Tenant, &Pending)> {
    let pending = records.iter().filter_map(|(tenant, entry)| Some((tenant, entry.pending.as_ref()?)));
    let takes_code = |pending: &Pending| pending.polling.is_none() && pending.is_live(now);
    pending.filter(|(_, pending)| pending.started_by == user && takes_code(pending)).collect()
}

/// The reason why `user` has no live sign-in there.
fn nothing_live(
    records: &Records,
    user: Principal,
    provider: Option<&ProviderId>,
    now: UnixTime,
) -> FinishError {
    let mut expired = None;
    let mut just_done = None;
    let mut undecided = None;
    let polled = |entry: &Entry| {
        entry.pending.as_ref().is_some_and(|pending| {
            pending.started_by == user && pending.polling.is_some() && pending.is_live(now)
        })
    };
    if let Some((tenant, _)) = records.iter().find(|(tenant, entry)| is_at(tenant, provider) && polled(entry))
    {
        return FinishError::NoCodeNeeded(tenant.provider.clone());
    }
    for (tenant, entry) in records.iter().filter(|(tenant, _)| is_at(tenant, provider)) {
        if let Some(pending) = entry.pending.as_ref().filter(|pending| pending.started_by == user) {
            expired = Some((tenant.provider.clone(), pending.open_for()));
        } else if let Some(one) = Undecided::of(tenant, entry, now).filter(|one| one.tenant.principal == user)
        {
            undecided = Some(one);
        } else if let Some(session) =
            entry.session.as_ref().filter(|s| tenant.principal == user && just_begun(s, now))
        {
            just_done = Some((tenant.provider.clone(), session.account.clone()));
        }
    }
    match (undecided, just_done, expired) {
        (Some(Undecided { tenant, account, .. }), ..) => {
            FinishError::AwaitsChoice { provider: tenant.provider, account }
        }
        (None, Some((provider, account)), _) => FinishError::AlreadyDone { provider, account },
        (None, None, Some((provider, open_for))) => FinishError::Expired(provider, open_for),
        (None, None, None) => FinishError::NothingPending { provider: provider.cloned() },
    }
}

/// Returns once an answer for the tenant could not be saved for a while.
async fn unsaved_for_long(mut events: broadcast::Receiver<Event>, tenant: Tenant) {
    loop {
        match events.recv().await {
            Ok(Event::SaveFailed(of)) if of == tenant => return tokio::time::sleep(SAVE_WAIT).await,
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// RFC 9207 §2.4: refuses an answer from another issuer than the one asked, and one without an issuer
/// if the provider always names it.
fn check_issuer(
    provider: &Provider,
    pending: &Pending,
    response: &AuthorizationResponse,
) -> Result<(), FinishError> {
    if provider.requires_iss() && !response.has_issuer() {
        return Err(FinishError::IssuerMissing(provider.id().clone()));
    }
    let Some(expected) = &pending.binding.issuer else { return Ok(()) };
    match response.foreign_issuer(expected) {
        Some(got) => Err(FinishError::IssuerMismatch {
            expected: expected.clone(),
            got: got.chars().take(200).collect(),
        }),
        None => Ok(()),
    }
}

/// Whether the session began so recently that a code pasted now most likely belongs to its sign-in.
fn just_begun(session: &Session, now: UnixTime) -> bool {
    session.generation == 1 && now < later(session.issued_at, PENDING_LIFETIME)
}
