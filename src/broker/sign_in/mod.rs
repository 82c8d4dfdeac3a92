//! Sign-ins, from the link to the session.
//!
//! 1. [`Broker::start`] writes the pending sign-in and returns its link ([`Broker::cancel`] drops
//!    it).
//!    A grant that is polled needs no paste: [`poll`] finishes it.
//! 2. [`Broker::finish`] takes the user's paste, finds the sign-in whose state it contains, and refuses a
//!    foreign one before anything is sent.
//!    With the way back through our own pages, [`browser_return`] takes its place.
//! 3. [`exchange`] spends the code under the tenant's sign-in lock and commits the result.
//! 4. A sign-in with another account waits for the user: [`account_choice`].
//!    Tokens whose sign-in is gone are revoked: [`orphans`].
//! 5. [`sign_in_progress`] reports each of these steps to the message that shows the sign-in,
//!    whichever process makes them.
//!
//! [`Broker::logout`] ends a session.
//!
//! The store's global lock is taken for single writes, and the sign-in lock without waiting. So a
//! sign-in never waits for a refresh in progress.

mod account_choice;
mod browser_return;
mod exchange;
mod finish;
mod gate;
mod logout;
mod orphans;
mod poll;
mod public_url;
mod recognise;
mod sign_in_progress;
mod sign_in_result;
mod start;

pub(super) use exchange::RecoveredSignIn;

pub use browser_return::{OpenedStart, Opener, PageError, StartPage};
pub use finish::AwaitedAnswers;
use finish::live_sign_ins as live_of;
pub(super) use gate::SignInGates;
pub use logout::{LoggedOut, Revocation};
pub use poll::Polled;
pub use public_url::{PublicUrl, PublicUrlError};
pub use recognise::ResponseInText;
pub use sign_in_progress::{News, Progress, SignInProgress};
pub use sign_in_result::{DigitsPage, Finished, GrantEnd, Kept, SignedIn, Unchosen, Undecided};
pub use start::StartOptions;

pub use crate::oauth::View;

use super::{Broker, CancelError};
use crate::{
    ids::{Principal, ProviderId, Tenant},
    store::StoreError,
    sys::clock::UnixTime,
};
use url::Url;

/// A sign-in in progress.
#[derive(Clone, Debug)]
pub struct SignIn {
    /// The tenant.
    pub tenant: Tenant,
    /// The first view of it for its user.
    pub view: View,
    /// Unix seconds.
    pub expires_at: UnixTime,
    /// Whether it was started before and is shown again.
    pub resumed: bool,
    /// Whether its user finishes it with the digits of our own page.
    pub by_digits: bool,
    /// The state of its message, for [`Broker::sign_in_progress`].
    pub shown: SignInProgress,
}

/// The way on which the provider's answer comes back to threadkey.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WayBack {
    /// The user pastes it. The redirect URI is the configured one.
    #[default]
    Paste,
    /// The browser brings it to a listener on this redirect URI.
    Listener(Url),
    /// The browser brings it to our own pages, and the user types their digits. Without a public
    /// address, or at a provider whose client has a fixed redirect URI, it is [`WayBack::Paste`].
    Browser(Opener),
}

// === impl SignIn ===

impl SignIn {
    /// Returns the page where the user signs in, if the sign-in begins with one.
    pub fn link(&self) -> Option<&Url> {
        match &self.view {
            View::Link(url) => Some(url),
            _ => None,
        }
    }
}

// === impl Broker ===

impl Broker {
    /// Drops the sign-ins that `user` has in progress; with a provider only that one. Returns the
    /// tenants of the live ones.
    ///
    /// # Errors
    /// See [`CancelError`].
    pub async fn cancel(
        &self,
        user: Principal,
        provider: Option<&ProviderId>,
    ) -> Result<Vec<Tenant>, CancelError> {
        let now = self.inner.now();
        let mut dropped = Vec::new();
        for (tenant, entry) in self.inner.store.list().await?.iter() {
            let Some(pending) = &entry.pending else { continue };
            if pending.started_by != user || provider.is_some_and(|p| *p != tenant.provider) {
                continue;
            }
            if self.cancel_pending(tenant, pending).await? && pending.is_live(now) {
                dropped.push(tenant.clone());
            }
        }
        Ok(dropped)
    }

    /// Sets the public address of the sign-in pages, once, before the first sign-in.
    pub fn set_public_url(&self, url: PublicUrl) {
        let _ = self.inner.public_url.set(url);
    }

    /// The public address of the sign-in pages, if there are any.
    pub fn public_url(&self) -> Option<&PublicUrl> {
        self.inner.public_url.get()
    }
}

impl Broker {
    /// Returns the party that started the tenant's live sign-in.
    ///
    /// # Errors
    /// The store's.
    pub async fn started_by(&self, tenant: &Tenant) -> Result<Option<Principal>, StoreError> {
        let entry = self.inner.store.read(tenant).await?;
        Ok(entry
            .pending
            .filter(|pending| pending.is_live(self.inner.now()))
            .map(|pending| pending.started_by))
    }

    /// Drops the tenant's sign-in in progress if this party started it.
    ///
    /// # Errors
    /// The store's.
    pub async fn drop_sign_in_of(&self, tenant: &Tenant, started_by: Principal) -> Result<(), StoreError> {
        let entry = self.inner.store.read(tenant).await?;
        if let Some(pending) = entry.pending.filter(|pending| pending.started_by == started_by) {
            self.cancel_pending(tenant, &pending).await?;
        }
        Ok(())
    }
}
