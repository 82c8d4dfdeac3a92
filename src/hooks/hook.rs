//! The events that can have a hook, and their names.

use std::fmt;

/// An event that can have a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// The provider has ended a session.
    Ended,
    /// The provider refuses a session for hours without a verdict.
    Stuck,
    /// A session that had ended or was stuck works again.
    Recovered,
    /// A user has signed in.
    SignedIn,
    /// A server's login is another one, or gone.
    SharedLoginChanged,
}

impl Hook {
    /// All events, in the order of the documentation.
    pub const ALL: [Self; 5] =
        [Self::Ended, Self::Stuck, Self::Recovered, Self::SignedIn, Self::SharedLoginChanged];

    /// The name in `[hooks]` and in the JSON object.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::Stuck => "stuck",
            Self::Recovered => "recovered",
            Self::SignedIn => "signed_in",
            Self::SharedLoginChanged => "shared_login_changed",
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
