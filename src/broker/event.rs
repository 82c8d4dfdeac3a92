//! The events that the broker publishes.

use super::{Kept, SignedIn, Undecided};
use crate::ids::Tenant;

/// A change that users should learn of.
#[derive(Clone, Debug)]
pub enum Event {
    /// A sign-in was finished and is the session now.
    SignedIn(SignedIn),
    /// A sign-in was finished and waits for the user's choice.
    Undecided(Undecided),
    /// This process no longer finishes a sign-in of this tenant. Its result, if any, was published
    /// before.
    SignInConcluded(Tenant),
    /// The user pasted the provider's answer that the access was denied. The sign-in stays open.
    Denied(Tenant),
    /// A choice was not made in time; the session stays.
    Lapsed(Kept),
    /// The provider ended a session, and its user has not been notified.
    Ended {
        /// The tenant.
        tenant: Tenant,
        /// The provider's error code.
        code: String,
    },
    /// A user has chosen a sign-in with another account, and it is the session now.
    Switched(SignedIn),
    /// A session that had ended or was stuck works again: by a refresh, or by a sign-in that was
    /// published before.
    Recovered {
        /// The tenant.
        tenant: Tenant,
        /// The error code of its end, or [`Session::STUCK`](crate::session::Session::STUCK).
        code: String,
    },
    /// The provider refuses a session for hours without a verdict. Each further refusal publishes this
    /// again.
    Stuck {
        /// The tenant.
        tenant: Tenant,
        /// Whether the session was not stuck before.
        is_new: bool,
    },
    /// A caller reported that a resource rejected the current access token. No refresh brings another
    /// one, and the userinfo endpoint does not confirm the report.
    Reported(Tenant),
    /// A session was logged out.
    LoggedOut(Tenant),
    /// The provider's answer could not be saved; it is kept in memory and tried again.
    SaveFailed(Tenant),
}
