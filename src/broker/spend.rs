//! The steps that a refresh and the exchange of a code have in common: announce the request, send
//! it, save the answer, commit the result; and finish an earlier holder's request first.
//!
//! The caller holds the tenant's lock from before the secret is read until after [`commit`]. A
//! write that cannot be repeated is tried until it succeeds, loudly, while the lock stays held:
//!
//! * *The answer* ([`spend`]) is only in memory until it is in the journal. At an orderly exit it
//!   goes to a rescue file ([`super::rescue`]).
//! * *The result* ([`commit`]) can be derived again from the journal, so a death in between loses
//!   nothing.

use std::time::Duration;

use super::{Event, Inner};
use crate::{
    ids::Tenant,
    oauth::{self, Attempt, TokenRequest, excerpt},
    session::{
        Changed, Settlement,
        journal::{Answered, Found, Intent, Spending, Unread},
    },
    store::{Purpose, StoreError, TenantLock},
};

/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The unfinished work of an earlier holder of the lock.
pub(super) enum Recovered {
    /// Nothing.
    Nothing,
    /// A request that may have been sent, without an answer.
    Unanswered(Intent),
    /// An answer that is not committed.
    Answered(Answered),
}

/// Reads the journal. Empties it if it concerns a state that is gone: one that was committed,
/// logged out or replaced.
pub(super) async fn recover(
    lock: &mut TenantLock,
    is_current: impl Fn(&Spending) -> bool,
) -> Result<Recovered, StoreError> {
    match lock.journal().await? {
        Found::Nothing => return Ok(Recovered::Nothing),
        Found::Intended(intent) if is_current(&intent.spending) => return Ok(Recovered::Unanswered(intent)),
        Found::Answered(answered) if is_current(&answered.intent().spending) => {
            return Ok(Recovered::Answered(answered));
        }
        Found::Intended(_) | Found::Answered(_) => {}
    }
    lock.clear().await?;
    Ok(Recovered::Nothing)
}

/// Announces the request, sends it, and saves the answer.
pub(super) async fn spend(
    inner: &Inner,
    tenant: &Tenant,
    purpose: Purpose,
    lock: &mut TenantLock,
    intent: Intent,
    request: TokenRequest,
) -> Result<Attempt<Answered>, StoreError> {
    let intended = lock.intend(intent).await?;
    let (target, sent) = (request.to_string(), request.secrets());
    Ok(match inner.client.send(request, intended).await {
        Attempt::Answered(unread) => {
            let answered = save(inner, tenant, purpose, lock, &unread).await;
            let answer = answered.answer();
            tracing::debug!(
                %tenant, request = target, status = answer.status, content_type = answer.content_type,
                body = excerpt(answer, &sent), "the provider has answered"
            );
            Attempt::Answered(answered)
        }
        Attempt::NotSent(code) => {
            // Nothing was spent. If this fails, the next holder counts the request as sent.
            if let Err(error) = lock.clear().await {
                tracing::warn!(%tenant, %error, "the journal of a request that was not sent could not be emptied");
            }
            Attempt::NotSent(code)
        }
        Attempt::Unanswered(code) => Attempt::Unanswered(code),
    })
}

/// Whether a result may be the only copy of a token although none could be read.
pub(super) fn may_hold_tokens(attempt: &Attempt<Answered>) -> bool {
    matches!(attempt, Attempt::Answered(answered) if oauth::may_hold_tokens(answered.answer()))
}

async fn save(
    inner: &Inner,
    tenant: &Tenant,
    purpose: Purpose,
    lock: &mut TenantLock,
    unread: &Unread,
) -> Answered {
    let mut tries = Tries::new(inner, tenant, purpose);
    loop {
        match lock.record(unread).await {
            Ok(answered) => return tries.succeeded(answered),
            Err(error) => {
                if tries.is_first() {
                    tries.report(Some(unread.clone()));
                }
                tries.pause(&error).await;
            }
        }
    }
}

/// Commits the result. `settlement` is built anew for each try, so that a refresh can age its
/// grant. `on_failure` is called after the first failure.
pub(super) async fn commit(
    inner: &Inner,
    tenant: &Tenant,
    purpose: Purpose,
    lock: &mut TenantLock,
    settlement: &(dyn Fn() -> Settlement + Sync),
    on_failure: impl FnOnce() + Send,
) -> Changed {
    let mut on_failure = Some(on_failure);
    let mut tries = Tries::new(inner, tenant, purpose);
    loop {
        match lock.settle(settlement()).await {
            Ok(changed) => return tries.succeeded(changed),
            Err(error) => {
                if let Some(on_failure) = on_failure.take() {
                    // The answer is safe in the journal.
                    tries.report(None);
                    on_failure();
                }
                tries.pause(&error).await;
            }
        }
    }
}

/// The tries of one write that cannot be repeated from the start.
struct Tries<'a> {
    inner: &'a Inner,
    tenant: &'a Tenant,
    purpose: Purpose,
    pause: Duration,
    has_failed: bool,
}

impl<'a> Tries<'a> {
    fn new(inner: &'a Inner, tenant: &'a Tenant, purpose: Purpose) -> Self {
        Self { inner, tenant, purpose, pause: Duration::from_secs(1), has_failed: false }
    }

    fn is_first(&self) -> bool {
        !self.has_failed
    }

    /// Makes the failure known: to `/readyz`, to listeners, and to the rescue at exit.
    fn report(&mut self, only_in_memory: Option<Unread>) {
        self.has_failed = true;
        self.inner.unsaved.insert((self.tenant.clone(), self.purpose), only_in_memory);
        self.inner.publish(Event::SaveFailed(self.tenant.clone()));
    }

    async fn pause(&mut self, error: &StoreError) {
        tracing::error!(
            tenant = %self.tenant, %error,
            "the provider's answer cannot be saved; it is kept in memory and tried again"
        );
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    fn succeeded<T>(self, saved: T) -> T {
        if self.has_failed {
            self.inner.unsaved.remove(&(self.tenant.clone(), self.purpose));
            tracing::info!(tenant = %self.tenant, "saved after earlier failures");
        }
        saved
    }
}
