//! Finishing a sign-in: which one a paste belongs to, and whether it may be exchanged.
//!
//! A paste is checked, and refused, before anything is sent. The rest is in [`super::exchange`].

use std::time::Duration;

use tokio::sync::broadcast::{self, error::RecvError};

use crate::{
    broker::{Broker, Event, FinishError, Finished, Undecided, later},
    ids::{Principal, ProviderId, Tenant},
    oauth::Pasted,
    session::{PENDING_LIFETIME, Pending, Session},
    sys::clock::UnixTime,
};

/// How long a caller waits after the first failure to save the answer. The saving continues.
const SAVE_WAIT: Duration = Duration::from_secs(10);

impl Broker {
    /// Finishes a sign-in of `user` with a paste. Without `provider` it is the sign-in whose
    /// `state` matches, or the only one in progress.
    ///
    /// # Errors
    /// See [`FinishError`].
    pub async fn finish(
        &self,
        user: Principal,
        provider: Option<&ProviderId>,
        pasted: Pasted,
    ) -> Result<Finished, FinishError> {
        let (tenant, pending) = self.pending_for(user, provider, &pasted).await?;
        let id = tenant.provider.clone();
        let provider = self.inner.providers.get(&id).cloned();
        let provider = provider.ok_or_else(|| FinishError::UnknownProvider(id.clone()))?;
        if pasted.state.is_none() && !provider.enforces_pkce() {
            return Err(FinishError::StateNeeded(id));
        }
        check_issuer(&pending, &pasted)?;
        let (broker, of) = (self.clone(), tenant.clone());
        let code = pasted.code;
        let exchange = async move {
            let exchanged = broker.exchange(&provider, &tenant, &pending.state, &code).await?;
            Ok(broker.conclude(&tenant, exchanged).await)
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
    ) -> Result<(), FinishError> {
        self.pending_of(user, provider).await.map(drop)
    }

    /// The pending sign-in that a paste belongs to.
    async fn pending_for(
        &self,
        user: Principal,
        provider: Option<&ProviderId>,
        pasted: &Pasted,
    ) -> Result<(Tenant, Pending), FinishError> {
        let mut open = self.pending_of(user, provider).await?;
        if let Some(state) = &pasted.state {
            let found = open.into_iter().find(|(_, pending)| pending.state == *state);
            return found.ok_or(FinishError::StateMismatch);
        }
        if open.len() > 1 {
            return Err(FinishError::Ambiguous(
                open.into_iter().map(|(tenant, _)| tenant.provider).collect(),
            ));
        }
        open.pop().ok_or_else(|| FinishError::NothingPending { provider: provider.cloned() })
    }

    /// The live sign-ins of `user`; at least one.
    async fn pending_of(
        &self,
        user: Principal,
        provider: Option<&ProviderId>,
    ) -> Result<Vec<(Tenant, Pending)>, FinishError> {
        if let Some(id) = provider.filter(|id| self.inner.providers.get(id).is_none()) {
            return Err(FinishError::UnknownProvider(id.clone()));
        }
        let now = self.inner.now();
        let entries = self.inner.store.list().await?;
        let here = |tenant: &Tenant| provider.is_none_or(|id| *id == tenant.provider);
        let mut open: Vec<(Tenant, Pending)> = Vec::new();
        let mut expired = None;
        let mut just_done = None;
        let mut undecided = None;
        for (tenant, entry) in entries.iter().filter(|(tenant, _)| here(tenant)) {
            if let Some(pending) = entry.pending.as_ref().filter(|pending| pending.started_by == user) {
                if pending.is_live(now) {
                    open.push((tenant.clone(), pending.clone()));
                } else {
                    expired = Some(tenant.provider.clone());
                }
            } else if let Some(one) =
                Undecided::of(tenant, entry, now).filter(|one| one.tenant.principal == user)
            {
                undecided = Some(one);
            } else if let Some(session) =
                entry.session.as_ref().filter(|s| tenant.principal == user && just_begun(s, now))
            {
                just_done = Some((tenant.provider.clone(), session.account.clone()));
            }
        }
        if open.is_empty() {
            return Err(match (undecided, just_done, expired) {
                (Some(Undecided { tenant, account, .. }), ..) => {
                    FinishError::AwaitsChoice { provider: tenant.provider, account }
                }
                (None, Some((provider, account)), _) => FinishError::AlreadyDone { provider, account },
                (None, None, Some(provider)) => FinishError::Expired(provider),
                (None, None, None) => FinishError::NothingPending { provider: provider.cloned() },
            });
        }
        Ok(open)
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

/// RFC 9207 §2.4: refuses an answer from another issuer than the one asked.
fn check_issuer(pending: &Pending, pasted: &Pasted) -> Result<(), FinishError> {
    match (&pending.binding.issuer, &pasted.iss) {
        (Some(expected), Some(got)) if expected != got => Err(FinishError::IssuerMismatch {
            expected: expected.clone(),
            got: got.chars().take(200).collect(),
        }),
        _ => Ok(()),
    }
}

/// Whether the session began so recently that a code pasted now most likely belongs to its sign-in.
fn just_begun(session: &Session, now: UnixTime) -> bool {
    session.generation == 1 && now < later(session.issued_at, PENDING_LIFETIME)
}
