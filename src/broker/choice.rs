//! A sign-in that came back as another account than the session's: its person chooses, and what was not chosen is ended at
//! the provider.
//!
//! Whoever takes a candidate out of the store revokes it (RFC 7009): who keeps the session, who finishes another sign-in in its
//! place, or, when the time to choose is over, the first broker that looks ([`Broker::expire_choices`]). It is taken out first,
//! so that nobody can choose what is being revoked, and one process alone does it. The sweep of the store comes later and
//! revokes nothing: the store talks to no provider.
//!
//! # Dying between the two
//!
//! An orderly end waits for the provider. A process that is killed before the provider has answered leaves a grant behind there of which nobody
//! is told, and a logout with revocation the same. It stays so, knowingly. The grant is in nobody's hands: its tokens went with the
//! record. Nobody was told that it has ended: who asked for that got no answer. What is left is a line in the account's list of
//! applications at the provider, and in our log that the provider was asked, without what came of it. All that would do better costs more:
//!
//! - *Revoke first, take out then.* Until it is out, somebody may choose it in another process, and has a dead session in place of a good
//!   one. Also what has lapsed can be chosen again, once a clock that was ahead is set right. And a session that is being logged out would
//!   be handed out, and renewed to tokens that nobody revokes, for as long as a provider takes.
//! - *A note of what is to be revoked, which a later process finishes.* It has to hold the refresh token: a live secret, kept on disk
//!   because nobody wants it. Each choice and logout costs a second durable write, the programs that share the store have to
//!   sweep one more section, and it needs a rule for when to give up a provider that never answers.
//! - *Tell of it in the status or by the doctor.* Without such a note there is nothing to tell from.

use std::time::Duration;

use tokio::time::timeout;

use super::{Broker, ChoiceError, Event, GrantEnd, Kept, SignedIn, Unchosen, Undecided};
use crate::{
    ids::{Lineage, Tenant},
    session::{Applied, Change, Entry, Session},
    store::StoreError,
    sys::clock::UnixTime,
};

/// How long a provider may take to revoke what nobody chose. Nothing depends on it but what the person is told.
const REVOKE_WITHIN: Duration = Duration::from_secs(10);

/// The longest pause before the time of a choice that waits: a clock that jumps, or a machine that slept, makes it no later. Also
/// the pause after a look that failed.
const LONGEST_PAUSE: Duration = Duration::from_secs(5 * 60);

/// The shortest one between two looks, however often the store changes.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

impl Broker {
    /// The sign-in of this tenant that waits for a choice.
    ///
    /// # Errors
    /// The store's.
    pub async fn undecided(&self, tenant: &Tenant) -> Result<Option<Undecided>, StoreError> {
        let entry = self.inner.store.read(tenant).await?;
        Ok(Undecided::of(tenant, &entry, self.inner.now()))
    }

    /// The sign-in of this lineage takes the session's place. The old session's grant is left as it is at the provider.
    ///
    /// # Errors
    /// See [`ChoiceError`].
    pub async fn switch(&self, tenant: &Tenant, lineage: Lineage) -> Result<SignedIn, ChoiceError> {
        let before = self.inner.store.read(tenant).await?;
        self.inner.store.change(tenant, Change::Switch { lineage }).await?;
        let session = self.inner.store.read(tenant).await?.session;
        // By the session, not by `applied`: stale and chosen all the same is an earlier try that took effect and could not
        // be made durable; this one did.
        let chosen = session.filter(|session| session.lineage == lineage);
        let chosen = chosen.ok_or_else(|| ChoiceError::Gone(tenant.clone()))?;
        let done = SignedIn::new(tenant, &chosen, before.session.as_ref());
        tracing::info!(%tenant, "the sign-in as another account was chosen");
        Ok(done)
    }

    /// The session stays, and the sign-in of this lineage goes: its grant is revoked where that is possible.
    ///
    /// # Errors
    /// See [`ChoiceError`].
    pub async fn keep(&self, tenant: &Tenant, lineage: Lineage) -> Result<Kept, ChoiceError> {
        let before = self.inner.store.read(tenant).await?;
        let candidate = before.candidate.filter(|candidate| candidate.lineage == lineage);
        let candidate = candidate.ok_or_else(|| ChoiceError::Gone(tenant.clone()))?;
        if !self.take_out(tenant, lineage).await? {
            return Err(ChoiceError::Gone(tenant.clone()));
        }
        tracing::info!(%tenant, "the session was kept, and the sign-in as another account is dropped");
        let account = before.session.and_then(|session| session.account);
        Ok(Kept { tenant: tenant.clone(), account, unchosen: self.give_up(tenant, candidate).await })
    }

    /// Takes out the sign-ins that nobody chose in their time, begins to revoke them, and says when the next one's time is
    /// over, in Unix seconds.
    ///
    /// # Errors
    /// The store's.
    pub async fn expire_undecided(&self) -> Result<Option<UnixTime>, StoreError> {
        let now = self.inner.now();
        let mut next = None;
        let mut wrote = false;
        for (tenant, entry) in self.inner.store.list().await?.iter() {
            let Some(candidate) = &entry.candidate else { continue };
            if candidate.awaits_choice(now) {
                let end = candidate.choice_ends_at();
                next = Some(next.map_or(end, |next: UnixTime| next.min(end)));
                continue;
            }
            let taken_out = self.take_out(tenant, candidate.lineage).await?;
            // The write that took out the one before sweeps what is older still: nobody but this call knows of that one.
            if taken_out || (wrote && candidate.is_swept(now)) {
                self.lapse(tenant, entry, candidate);
            }
            wrote |= taken_out;
        }
        Ok(next)
    }

    /// Does that whenever there is something to do, also about a sign-in that another process brought; ends when dropped.
    pub async fn expire_choices(&self) {
        let mut changes = self.changes();
        loop {
            let pause = match self.expire_undecided().await {
                Ok(None) => None,
                Ok(Some(next)) => {
                    let left = next.saturating_sub(self.inner.now()).try_into().unwrap_or(0);
                    Some(Duration::from_secs(left).min(LONGEST_PAUSE))
                }
                Err(error) => {
                    tracing::warn!(%error, "sign-ins that nobody chose cannot be taken out; it is tried again");
                    Some(LONGEST_PAUSE)
                }
            };
            tokio::time::sleep(SHORTEST_PAUSE).await;
            let due = async {
                match pause {
                    Some(pause) => tokio::time::sleep(pause.saturating_sub(SHORTEST_PAUSE)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                () = changes.next() => {}
            }
        }
    }

    /// Takes a candidate out of the store. Says whether it was this call that did.
    async fn take_out(&self, tenant: &Tenant, lineage: Lineage) -> Result<bool, StoreError> {
        let take_out = || self.inner.store.change(tenant, Change::Keep { lineage });
        match take_out().await {
            Ok(applied) => Ok(applied == Applied::Done),
            // It may have taken effect without being durable, and then nobody finds it again to revoke it. What is durable
            // after a second try, this call has done, whichever of its two.
            Err(_) => take_out().await.map(|_| true),
        }
    }

    /// Tells of a choice that was not made, once its grant is revoked or not.
    pub(super) fn lapse(&self, tenant: &Tenant, entry: &Entry, candidate: &Session) {
        tracing::info!(%tenant, "the sign-in as another account was not chosen in its time and is dropped");
        let (broker, tenant, candidate) = (self.clone(), tenant.clone(), candidate.clone());
        let account = entry.session.as_ref().and_then(|session| session.account.clone());
        self.inner.tasks.spawn(async move {
            let unchosen = broker.give_up(&tenant, candidate).await;
            broker.inner.tell(Event::Lapsed(Kept { tenant, account, unchosen }));
        });
    }

    /// Ends the grant of a sign-in that is out of the store. In a task of its own: it is asked for once.
    pub(super) async fn give_up(&self, tenant: &Tenant, candidate: Session) -> Unchosen {
        let account = candidate.account.clone();
        let (broker, of) = (self.clone(), tenant.clone());
        let ended =
            self.inner.tasks.spawn(async move { broker.revoke_unchosen(&of, &candidate).await }).await;
        let grant = match ended {
            Ok(true) => GrantEnd::Revoked,
            Ok(false) | Err(_) => GrantEnd::MayLiveOn,
        };
        if grant == GrantEnd::MayLiveOn {
            tracing::warn!(%tenant, "the grant of a sign-in that was not chosen may live on at the provider");
        }
        Unchosen { account, grant }
    }

    async fn revoke_unchosen(&self, tenant: &Tenant, candidate: &Session) -> bool {
        match self.is_in_use_elsewhere(candidate).await {
            Ok(false) => {}
            Ok(true) => return false,
            Err(error) => {
                tracing::warn!(%tenant, %error, "whether the account is in use elsewhere cannot be told");
                return false;
            }
        }
        let provider = self.inner.providers.get(&tenant.provider);
        let Some(request) = provider.and_then(|provider| provider.revoke(candidate)) else { return false };
        timeout(REVOKE_WITHIN, self.inner.revoke(tenant, request)).await.unwrap_or(false)
    }

    /// Whether the store holds another grant of the same account to the same client. Some providers end all of these when one is
    /// revoked (RFC 7009 §2.1), and then somebody would lose a session by what somebody else did not choose.
    async fn is_in_use_elsewhere(&self, candidate: &Session) -> Result<bool, StoreError> {
        let same = |other: &Session| {
            other.account == candidate.account
                && other.binding.token_endpoint == candidate.binding.token_endpoint
                && other.binding.client_id == candidate.binding.client_id
        };
        let entries = self.inner.store.list().await?;
        Ok(entries.values().flat_map(|entry| entry.session.iter().chain(&entry.candidate)).any(same))
    }
}
