//! Sign-ins, from the link to the session.
//!
//! 1. [`Broker::start`] writes the pending sign-in and returns its link ([`Broker::cancel`] drops
//!    it).
//! 2. [`Broker::finish`] takes the user's paste, finds the sign-in whose state it contains, and refuses a
//!    foreign one before anything is sent.
//!    With the way back through our own pages, [`browser_return`] takes its place.
//! 3. [`exchange`] spends the code under the tenant's sign-in lock and commits the result.
//! 4. A sign-in with another account waits for the user: [`account_choice`].
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
mod logout;
mod public_url;
mod recognise;
mod sign_in_progress;
mod sign_in_result;

pub use browser_return::{DigitsPage, OpenedStart, Opener, PageError, StartPage};
pub use finish::AwaitedAnswers;
use finish::live_sign_ins as live_of;
pub use logout::{LoggedOut, Revocation};
pub use public_url::{PublicUrl, PublicUrlError};
pub use recognise::ResponseInText;
pub use sign_in_progress::{News, Progress, SignInProgress};
pub use sign_in_result::{Finished, GrantEnd, Kept, SignedIn, Unchosen, Undecided};

use super::{Broker, CancelError, StartError};
use crate::{
    ids::{Principal, ProviderId, Tenant},
    oauth::Provider,
    secret::StartId,
    session::{Applied, BrowserReturn, Change, Pending},
    sys::{clock::UnixTime, random},
};
use url::Url;

/// How often a start that meets another one tries again.
const TRIES: usize = 3;

/// A sign-in that waits for its code.
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

/// The first view of a sign-in for its user. Only that user may see it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum View {
    /// A page where the user signs in. Its address carries the state.
    Link(Url),
}

/// The way on which the provider's answer comes back to threadkey.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WayBack {
    /// The user pastes it. The redirect URI is the configured one.
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
        let View::Link(url) = &self.view;
        Some(url)
    }
}

// === impl Broker ===

impl Broker {
    /// Starts a sign-in, or shows again the one that `started_by` has in progress.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(&self, tenant: &Tenant, started_by: Principal) -> Result<SignIn, StartError> {
        self.start_by(tenant, started_by, WayBack::Paste).await
    }

    /// As [`Broker::start`], with this way back for the provider's answer. A sign-in in progress with
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
        let provider = self.inner.usable(&tenant.provider).await?;
        let (redirect_uri, opener) = match (way_back, self.public_url()) {
            (WayBack::Listener(url), _) => (url.to_string(), None),
            (WayBack::Browser(opener), Some(public)) if provider.may_return_to_us() => {
                (public.callback().to_string(), Some(opener))
            }
            (WayBack::Paste | WayBack::Browser(_), _) => (provider.redirect_uri().to_owned(), None),
        };
        let mut until = 0;
        for _ in 0..TRIES {
            let now = self.inner.now();
            let entry = self.inner.store.read(tenant).await?;
            if let Some(live) = entry.pending.as_ref().filter(|pending| pending.is_live(now)) {
                until = live.expires_at();
                if live.started_by != started_by {
                    break;
                }
                let same_way = live.redirect_uri == redirect_uri
                    && live.browser.is_some() == opener.is_some()
                    && !is_bound_to_a_browser(live);
                if provider.takes(live) && same_way {
                    return Ok(self.shown(&provider, SignInProgress::link(tenant, live, &entry), live, true));
                }
                // The configuration has changed since, and the old link leads to another place. Or its
                // link was opened, and works in that browser alone.
                let cancel = Change::Cancel(Some(live.state.clone()));
                let cancelled = self.inner.store.change(tenant, cancel).await?;
                if cancelled.applied == Applied::Done {
                    self.revoke_unconfirmed(tenant, cancelled.before.pending.as_ref());
                }
            }
            let lineage_seen = entry.session.as_ref().map(|session| session.lineage);
            let mut pending = provider.begin(started_by, lineage_seen, now);
            redirect_uri.clone_into(&mut pending.redirect_uri);
            pending.browser = opener.clone().map(|Opener { user, server }| {
                Box::new(BrowserReturn {
                    start_id: StartId::new(random::short_token()),
                    user,
                    server,
                    cookie: None,
                    unconfirmed: None,
                    failed: None,
                })
            });
            let started = self.inner.store.change(tenant, Change::Start(pending.clone())).await?;
            if started.applied == Applied::Done {
                self.revoke_unconfirmed(tenant, started.before.pending.as_ref());
                let link = SignInProgress::link(tenant, &pending, &started.after);
                return Ok(self.shown(&provider, link, &pending, false));
            }
        }
        Err(StartError::Busy { tenant: tenant.clone(), until })
    }

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
            let change = Change::Cancel(Some(pending.state.clone()));
            let cancelled = self.inner.store.change(tenant, change).await?;
            if cancelled.applied.took_effect() {
                self.revoke_unconfirmed(tenant, cancelled.before.pending.as_ref());
            }
            if cancelled.applied.took_effect() && pending.is_live(now) {
                dropped.push(tenant.clone());
            }
        }
        Ok(dropped)
    }

    fn shown(&self, provider: &Provider, shown: SignInProgress, pending: &Pending, resumed: bool) -> SignIn {
        let start = self.public_url().zip(pending.browser.as_ref());
        let start = start.map(|(public, browser)| public.start(browser.start_id.expose()));
        SignIn {
            tenant: shown.tenant().clone(),
            by_digits: start.is_some(),
            view: View::Link(start.unwrap_or_else(|| provider.authorize_url(pending))),
            expires_at: pending.expires_at(),
            resumed,
            shown,
        }
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

/// Whether a browser has opened the link and not brought the answer back. The link works in no other
/// browser.
fn is_bound_to_a_browser(pending: &Pending) -> bool {
    pending.browser.as_ref().is_some_and(|browser| browser.cookie.is_some() && browser.unconfirmed.is_none())
}
