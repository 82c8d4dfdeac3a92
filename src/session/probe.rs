//! The last probe of a tenant's access token, which the next ones rely on for a moment.

use crate::{
    ids::UnixTime,
    secret::{AccessToken, Fingerprint},
};

/// How long a probed token counts as good, in seconds. Codex gives up seven seconds after the first 401,
/// so a token that dies just after its probe must be probed again well before.
const GOOD_FOR: i64 = 3;

/// How long an endpoint that refused two tokens in a row is not asked, in seconds.
const USELESS_FOR: i64 = 10 * 60;

/// The result of the last probe. It has no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastProbe {
    /// The fingerprint of the token.
    pub fingerprint: Fingerprint,
    /// The time of the probe.
    pub at: UnixTime,
    /// Whether the endpoint refused this token just after it was issued, and the one before it: it
    /// refuses every token, so its answers prove nothing.
    pub is_useless: bool,
}

impl LastProbe {
    /// Whether a token needs no probe now. A time in the future counts as long ago.
    pub fn spares(&self, token: &AccessToken, now: UnixTime) -> bool {
        let age = now.saturating_sub(self.at);
        if self.is_useless {
            return (0..USELESS_FOR).contains(&age);
        }
        (0..GOOD_FOR).contains(&age) && self.fingerprint.matches(&token.fingerprint())
    }

    /// Returns the text that [`LastProbe::parse`] reads.
    pub fn text(&self) -> String {
        let verdict = if self.is_useless { "useless" } else { "good" };
        format!("{verdict} {} {}\n", self.fingerprint, self.at)
    }

    /// Reads a stored result. A text of another form is none.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let is_useless = match words.next()? {
            "good" => false,
            "useless" => true,
            _ => return None,
        };
        let (fingerprint, at) = (Fingerprint::parse(words.next()?)?, words.next()?.parse().ok()?);
        words.next().is_none().then_some(Self { fingerprint, at, is_useless })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = 1_795_358_672;

    fn probed(token: &str, is_useless: bool) -> LastProbe {
        LastProbe { fingerprint: Fingerprint::of(token), at: NOW, is_useless }
    }

    #[test]
    fn a_good_probe_spares_the_same_token_a_second_one_for_seconds() {
        let (good, token) = (probed("a", false), AccessToken::new("a"));
        assert!(good.spares(&token, NOW) && good.spares(&token, NOW + 2));
        assert!(!good.spares(&token, NOW + 3));
        assert!(!good.spares(&token, NOW - 1), "the clock stepped back");
        assert!(!good.spares(&AccessToken::new("b"), NOW));
    }

    #[test]
    fn an_endpoint_that_refuses_every_token_is_not_asked_for_ten_minutes() {
        let useless = probed("a", true);
        for token in ["a", "b"] {
            assert!(useless.spares(&AccessToken::new(token), NOW + 599));
            assert!(!useless.spares(&AccessToken::new(token), NOW + 600));
        }
    }

    #[test]
    fn a_probe_passes_its_text_unchanged_and_other_texts_are_none() {
        for probe in [probed("a", false), probed("a", true)] {
            assert_eq!(LastProbe::parse(&probe.text()), Some(probe));
        }
        for other in [
            "",
            "good",
            "good ba7816bf",
            "good ba7816bf soon",
            "bad ba7816bf 5",
            "good ba7816bf 5 6",
            "good xyz 5",
        ] {
            assert_eq!(LastProbe::parse(other), None, "{other:?}");
        }
    }
}
