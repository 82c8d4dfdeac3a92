//! The grants of a sign-in, and the state of a sign-in that threadkey polls until the user has decided
//! on another screen.

use super::limits::seconds;
use crate::{ids::UnixTime, secret::DeviceCode};
use std::{fmt, str::FromStr, time::Duration};

/// The grants by which a sign-in gets its first token. The name stands in the configuration, in
/// commands and in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GrantKind {
    /// Authorization code (RFC 6749 §4.1).
    Code,
    /// Device authorization (RFC 8628).
    Device,
    /// Client-initiated backchannel authentication (OpenID Connect CIBA Core), in poll mode.
    Ciba,
}

/// The state of a sign-in that is polled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Polling {
    /// The grant.
    pub grant: GrantKind,
    /// The `device_code` (RFC 8628 §3.2), or the `auth_req_id` of CIBA.
    pub code: DeviceCode,
    /// The code that the user enters at the verification page.
    pub user_code: Option<String>,
    /// The verification page.
    pub verification_uri: Option<String>,
    /// The verification page with the user's code in its address.
    pub verification_uri_complete: Option<String>,
    /// The message on the user's other screen (CIBA Core §7.1).
    pub binding_message: Option<String>,
    /// When the provider forgets the code.
    pub expires_at: UnixTime,
    /// The shortest time between two polls, in seconds.
    pub interval: u32,
    /// The earliest time of the next poll, after the provider asked for fewer or could not answer.
    pub not_before: Option<UnixTime>,
    /// The provider's word for the end of the sign-in without tokens, such as `access_denied`.
    pub ended: Option<String>,
}

// === impl GrantKind ===

impl GrantKind {
    /// All grants.
    pub const ALL: [Self; 3] = [Self::Code, Self::Device, Self::Ciba];

    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::Device => "device",
            Self::Ciba => "ciba",
        }
    }
}

impl fmt::Display for GrantKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A word that names no grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a grant is \"code\", \"device\" or \"ciba\"")]
pub struct NoGrantKind;

impl FromStr for GrantKind {
    type Err = NoGrantKind;

    fn from_str(text: &str) -> Result<Self, NoGrantKind> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or(NoGrantKind)
    }
}

// === impl Polling ===

impl Polling {
    /// The interval of RFC 8628 §3.2 if the provider names none, in seconds.
    pub const DEFAULT_INTERVAL: u32 = 5;

    /// The seconds by which `slow_down` lengthens the interval (RFC 8628 §3.5).
    pub const SLOW_DOWN: u32 = 5;

    /// The longest interval, in seconds. A longer one would leave few polls in the life of a code.
    pub const LONGEST_INTERVAL: u32 = 60;

    /// The shortest time between two polls.
    pub fn pause(&self) -> Duration {
        Duration::from_secs(self.interval.clamp(1, Self::LONGEST_INTERVAL).into())
    }

    /// The time of the next poll, after one that was sent at `sent`.
    pub fn next_after(&self, sent: UnixTime) -> UnixTime {
        let next = sent.saturating_add(seconds(self.pause()));
        self.not_before.map_or(next, |not_before| next.max(not_before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_grant_is_found_by_its_own_name_alone() {
        for kind in GrantKind::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
        }
        assert_eq!("Device".parse::<GrantKind>(), Err(NoGrantKind));
    }
}
