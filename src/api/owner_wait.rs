//! A worker's request for a token that may wait for the owner's sign-in.
//!
//! The request alternates between attempts and waits. An attempt has a place among the requests, and
//! follows the whole rule of [`WorkerTokens`](crate::broker::WorkerTokens), the rights of the owner
//! included. A wait has a place in a pool of its own ([`super::shares`]), so that no number of waiting
//! calls keeps another request out. It costs a connection and no task.
//!
//! A wait ends with a change of the owner's sessions, the owner's refusal, the requested time, the end of
//! the worker, or that of this process. A caller that leaves drops it, and the question stays.

use std::time::Duration;

use axum::response::Response;
use tokio::time::{Instant, sleep_until};

use super::{
    problem::Problem,
    shares::{ConnectionShare, Holding},
    state::Api,
};
use crate::{
    agent::Holder,
    broker::{Lease, OwnerWait, WorkerTokenError},
    ids::ProviderId,
    secret::Secret,
};

/// The request of a worker for a token.
pub(super) struct WorkerRequest<'a> {
    pub(super) api: &'a Api,
    pub(super) share: &'a ConnectionShare,
    pub(super) secret: Secret,
    pub(super) holder: Holder,
    pub(super) provider: ProviderId,
    pub(super) min_ttl: Duration,
    pub(super) wait: Duration,
    /// Whether the token is tried at the provider first.
    pub(super) is_probed: bool,
}

impl WorkerRequest<'_> {
    /// Answers with the token, after the owner's sign-in if there is none and the request may wait.
    pub(super) async fn answer(&self) -> Result<Response, Problem> {
        let deadline = Instant::now() + self.wait;
        let holding = || Holding::Conversation(self.holder.conversation.id);
        let mut waiting: Option<OwnerWait> = None;
        loop {
            // Boxed, so that a request that waits does not hold the room of an attempt.
            let attempt = async { Ok(Box::pin(self.attempt()).await) };
            let error = match self.share.run_request(holding(), attempt).await? {
                Ok(lease) => return self.api.to_worker(&self.secret, lease),
                Err(error) => error,
            };
            if self.wait.is_zero() || !error.needs_sign_in() {
                return Err(error.into());
            }
            match &mut waiting {
                // The attempt after it finds a session from before its subscription.
                None => {
                    waiting = Some(Box::pin(self.api.tokens.owner_wait(&self.holder, &self.provider)).await?)
                }
                Some(waiting) => {
                    self.share.run_wait(holding(), self.wait_once(waiting, error, deadline)).await?;
                }
            }
        }
    }

    async fn attempt(&self) -> Result<Lease, WorkerTokenError> {
        let entitlement = self.api.tokens.entitlement(&self.holder, &self.provider).await?;
        match self.is_probed {
            false => entitlement.token(self.min_ttl).await,
            true => entitlement.probed_token(self.min_ttl).await,
        }
    }

    /// Waits for a change of the owner's sessions. `error` is that of the last attempt.
    async fn wait_once(
        &self,
        waiting: &mut OwnerWait,
        error: WorkerTokenError,
        deadline: Instant,
    ) -> Result<(), Problem> {
        let voided = self.api.capabilities.voided_for(self.secret.expose());
        tokio::select! {
            biased;
            changed = waiting.next() => changed.map_err(|end| Problem::of_owner_wait(end, error)),
            () = voided.cancelled() => Err(Problem::unauthorized(self.api.via)),
            () = sleep_until(deadline) => {
                // An owner who has lost the right cannot sign in for this worker any more.
                Box::pin(self.api.tokens.entitlement(&self.holder, &self.provider)).await?;
                Err(Problem::authorization_timeout(&self.provider, self.wait))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the bytes of the future that a method returns.
    fn room_of<'a, Answer>(_: impl FnOnce(&'a WorkerRequest<'a>) -> Answer) -> usize {
        size_of::<Answer>()
    }

    #[test]
    fn a_waiting_request_leaves_most_of_its_16_kib_to_the_connection() {
        let room = room_of(WorkerRequest::answer);
        assert!(room < 6 * 1024, "{room}");
    }
}
