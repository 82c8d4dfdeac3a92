//! What the broker tells of by itself.

use super::signed_in::{Kept, SignedIn, Undecided};
use crate::ids::Tenant;

/// What happened to a session, for those who tell people.
#[derive(Clone, Debug)]
pub enum Event {
    /// A sign-in was finished, and is the session.
    SignedIn(SignedIn),
    /// A sign-in was finished, and waits for a choice.
    Undecided(Undecided),
    /// This process no longer finishes a sign-in of this tenant. What came of it has been told, if something did.
    Landed(Tenant),
    /// A choice was not made in its time: the session stays.
    Lapsed(Kept),
    /// The provider ended a session; its person has not been told.
    Ended {
        /// Which one.
        tenant: Tenant,
        /// The provider's word.
        code: String,
    },
    /// A session was logged out.
    LoggedOut(Tenant),
    /// A new token could not be saved although the provider gave it out; it is held and tried again.
    SaveFailed(Tenant),
}
