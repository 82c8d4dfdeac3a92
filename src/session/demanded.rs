//! The scopes that a resource demands beyond those of a session (RFC 6750 §3.1).
//!
//! An agent reports them, and may have invented them. So they are bounded, and end by themselves. They
//! stand in the session, so that a sign-in of any process requests them. A new sign-in takes over those
//! that it was not granted, and the dates of all: a resource that invents a scope for each new token
//! gets no further than the limits.

use std::time::Duration;

use super::limits::is_within;
use crate::ids::UnixTime;

/// The time for which a demand counts.
pub const DEMAND_LASTS: Duration = Duration::from_secs(60 * 60);

/// The most demands with new scopes in [`DEMAND_LASTS`].
const MAX_DEMANDS: usize = 3;

/// The most demanded scopes, and their most characters. The link of a sign-in has to stay short.
const MAX_SCOPES: usize = 16;
const MAX_TEXT: usize = 512;

/// The scopes that a resource demanded lately.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demanded {
    /// The scopes, in the order of the demands.
    pub scopes: Vec<String>,
    /// The times of the demands that brought new ones.
    pub at: Vec<UnixTime>,
}

/// The reason why a demand changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DemandRefused {
    /// There were too many lately.
    #[error("it demanded more scopes three times within an hour")]
    TooOften,
    /// The scopes are too many or too long.
    #[error("it demands more than 16 scopes or 512 characters")]
    TooMuch,
}

// === impl Demanded ===

impl Demanded {
    /// Returns the demands with these scopes added, or `None` if they were demanded before.
    ///
    /// # Errors
    /// See [`DemandRefused`].
    pub fn with(&self, scopes: &[String], now: UnixTime) -> Result<Option<Self>, DemandRefused> {
        let mut all = self.recent(now).unwrap_or_default();
        let new: Vec<&String> = scopes.iter().filter(|scope| !all.scopes.contains(scope)).collect();
        if new.is_empty() {
            return Ok(None);
        }
        if all.at.len() >= MAX_DEMANDS {
            return Err(DemandRefused::TooOften);
        }
        all.scopes.extend(new.into_iter().cloned());
        all.at.push(now);
        let length = all.scopes.iter().map(String::len).sum::<usize>();
        if all.scopes.len() > MAX_SCOPES || length > MAX_TEXT {
            return Err(DemandRefused::TooMuch);
        }
        Ok(Some(all))
    }

    /// Returns the demands that still count, or `None`. A date that is an hour ahead counts as none: a
    /// clock was wrong.
    pub fn recent(&self, now: UnixTime) -> Option<Self> {
        let is_recent = |at: &UnixTime| is_within(*at, DEMAND_LASTS, Duration::ZERO, now);
        let at: Vec<_> = self.at.iter().copied().filter(is_recent).collect();
        (!at.is_empty()).then(|| Self { scopes: self.scopes.clone(), at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = 1_795_358_672;

    fn scopes(words: &str) -> Vec<String> {
        words.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn three_demands_with_new_scopes_count_in_an_hour_and_known_ones_are_free() {
        let mut demanded = Demanded::default();
        for (step, words) in ["a", "b", "c d"].into_iter().enumerate() {
            let at = NOW + 600 * i64::try_from(step).expect("a small number");
            demanded = demanded.with(&scopes(words), at).expect("is in the limits").expect("is new");
            assert_eq!(demanded.with(&scopes(words), at), Ok(None));
        }
        assert_eq!(demanded.scopes, ["a", "b", "c", "d"]);
        assert_eq!(demanded.with(&scopes("e"), NOW + 3599), Err(DemandRefused::TooOften));
        let later = demanded.with(&scopes("e"), NOW + 3600).expect("the first one is old");
        assert_eq!(later.expect("is new").scopes, ["a", "b", "c", "d", "e"]);
        assert_eq!(demanded.recent(NOW + 1200 + 3600), None);
    }

    #[test]
    fn demands_are_bounded_by_number_and_by_length() {
        let none = Demanded::default();
        let many: Vec<String> = (0..17).map(|i| format!("s{i}")).collect();
        assert_eq!(none.with(&many, NOW), Err(DemandRefused::TooMuch));
        assert!(none.with(&many[..16], NOW).is_ok());
        assert_eq!(none.with(&["x".repeat(513)], NOW), Err(DemandRefused::TooMuch));
        let first = none.with(&["x".repeat(512)], NOW).expect("fits").expect("is new");
        assert_eq!(first.with(&scopes("y"), NOW), Err(DemandRefused::TooMuch));
    }
}
