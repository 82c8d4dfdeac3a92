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
    /// The meaning of its answer.
    pub verdict: ProbeVerdict,
}

/// The meaning of a probe for the next ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeVerdict {
    /// The endpoint took the token, or gave no answer.
    Good,
    /// The endpoint refused the token, which was reported.
    Refused,
    /// The endpoint refused two tokens in a row: it refuses every token, so its answers prove nothing.
    Useless,
}

impl LastProbe {
    /// Whether a token needs no probe now. A time in the future counts as long ago.
    pub fn spares(&self, token: &AccessToken, now: UnixTime) -> bool {
        match self.verdict {
            ProbeVerdict::Good => self.is_within(GOOD_FOR, now) && self.is_of(token),
            ProbeVerdict::Refused => false,
            ProbeVerdict::Useless => self.is_within(USELESS_FOR, now),
        }
    }

    /// Whether a refusal of `token` proves that the endpoint refuses every token: it has refused another
    /// one within ten minutes, and has taken none since.
    pub fn is_of_refused_predecessor(&self, token: &AccessToken, now: UnixTime) -> bool {
        self.verdict == ProbeVerdict::Refused && self.is_within(USELESS_FOR, now) && !self.is_of(token)
    }

    fn is_within(&self, seconds: i64, now: UnixTime) -> bool {
        (0..seconds).contains(&now.saturating_sub(self.at))
    }

    fn is_of(&self, token: &AccessToken) -> bool {
        self.fingerprint.matches(&token.fingerprint())
    }

    /// Returns the text that [`LastProbe::parse`] reads.
    pub fn text(&self) -> String {
        let verdict = match self.verdict {
            ProbeVerdict::Good => "good",
            ProbeVerdict::Refused => "refused",
            ProbeVerdict::Useless => "useless",
        };
        format!("{verdict} {} {}\n", self.fingerprint, self.at)
    }

    /// Reads a stored result. A text of another form is none.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let verdict = match words.next()? {
            "good" => ProbeVerdict::Good,
            "refused" => ProbeVerdict::Refused,
            "useless" => ProbeVerdict::Useless,
            _ => return None,
        };
        let (fingerprint, at) = (Fingerprint::parse(words.next()?)?, words.next()?.parse().ok()?);
        words.next().is_none().then_some(Self { fingerprint, at, verdict })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = 1_795_358_672;

    fn probed(token: &str, verdict: ProbeVerdict) -> LastProbe {
        LastProbe { fingerprint: Fingerprint::of(token), at: NOW, verdict }
    }

    #[test]
    fn a_good_probe_spares_the_same_token_a_second_one_for_seconds() {
        let (good, token) = (probed("a", ProbeVerdict::Good), AccessToken::new("a"));
        assert!(good.spares(&token, NOW) && good.spares(&token, NOW + 2));
        assert!(!good.spares(&token, NOW + 3));
        assert!(!good.spares(&token, NOW - 1), "the clock stepped back");
        assert!(!good.spares(&AccessToken::new("b"), NOW));
    }

    #[test]
    fn an_endpoint_that_refuses_every_token_is_not_asked_for_ten_minutes() {
        let useless = probed("a", ProbeVerdict::Useless);
        for token in ["a", "b"] {
            assert!(useless.spares(&AccessToken::new(token), NOW + 599));
            assert!(!useless.spares(&AccessToken::new(token), NOW + 600));
        }
    }

    #[test]
    fn two_tokens_that_an_endpoint_refuses_in_a_row_prove_that_it_refuses_every_token() {
        let (refused, other) = (probed("a", ProbeVerdict::Refused), AccessToken::new("b"));
        assert!(refused.is_of_refused_predecessor(&other, NOW + 599));
        assert!(!refused.is_of_refused_predecessor(&other, NOW + 600), "the other one had time to die");
        assert!(!refused.is_of_refused_predecessor(&AccessToken::new("a"), NOW + 5), "it is the same token");
        assert!(!probed("a", ProbeVerdict::Good).is_of_refused_predecessor(&other, NOW));
        assert!(!refused.spares(&AccessToken::new("a"), NOW) && !refused.spares(&other, NOW));
    }

    #[test]
    fn a_probe_passes_its_text_unchanged_and_other_texts_are_none() {
        for probe in
            [ProbeVerdict::Good, ProbeVerdict::Refused, ProbeVerdict::Useless].map(|v| probed("a", v))
        {
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
