//! Whether a text contains an authorization response, so that it must not reach an agent.
//!
//! The text is one if a configured redirect URI with `code=` or `state=` stands in it, or the state
//! of any sign-in in progress. Programs change an address on its way into a chat: it is wrapped,
//! quoted, escaped or encoded. So both searches ignore blanks and escapes. The bare redirect URI is
//! ordinary text, because users ask about it.

use percent_encoding::percent_decode_str;

use super::{super::Broker, PublicUrl, live_of};
use crate::{
    ids::{Principal, Tenant},
    oauth::Pasted,
    secret::{Scrubber, State},
    store::StoreError,
};

/// How often an address is decoded: a redirector puts the whole address into a parameter.
const MAX_ENCODINGS: usize = 3;
/// The bytes after a redirect URI in which its parameters stand.
const MAX_QUERY: usize = 16 * 1024;

/// An authorization response in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseInText {
    /// The user's own sign-in that it belongs to, if it is one in progress.
    pub own: Option<Tenant>,
}

impl Broker {
    /// Looks for an authorization response in a text of `user`.
    ///
    /// # Errors
    /// The store's error. The text may contain a response then.
    pub async fn response_in(
        &self,
        user: Principal,
        text: &str,
    ) -> Result<Option<ResponseInText>, StoreError> {
        let readings = readings(text);
        let has_response_at = |uri: &str| readings.iter().any(|text| has_response_at(text, uri));
        let providers = self.providers();
        let callbacks = |url: &PublicUrl| {
            let own = providers.ids().map(|id| url.callback_of(id));
            own.chain([url.callback()]).any(|callback| has_response_at(callback.as_str()))
        };
        let is_at_our_pages = self.public_url().is_some_and(callbacks);
        let is_at_ours =
            is_at_our_pages || providers.usable().any(|provider| has_response_at(provider.redirect_uri()));
        let records = match self.inner.store.list().await {
            // It is one, whichever user it is for.
            Err(_) if is_at_ours => return Ok(Some(ResponseInText { own: None })),
            records => records?,
        };
        let pending = records.values().filter_map(|entry| entry.pending.as_ref());
        let pending: Vec<_> = pending.collect();
        let is_one = is_at_ours
            || pending.iter().any(|one| has_response_at(&one.redirect_uri))
            || has_state(text, &pending.iter().map(|one| &one.state).collect::<Vec<_>>());
        if !is_one {
            return Ok(None);
        }
        let own = live_of(&records, user, self.inner.now());
        let states: Vec<&State> = own.iter().map(|(_, pending)| &pending.state).collect();
        let response = Pasted::parse(text).ok().and_then(|pasted| pasted.response(&states).ok());
        let own =
            response.and_then(|response| own.get(response.sign_in?).map(|(tenant, _)| (*tenant).clone()));
        Ok(Some(ResponseInText { own }))
    }
}

/// Whether the text contains one of the states, in any form that the scrubber or the parser of pastes
/// recognises.
fn has_state(text: &str, states: &[&State]) -> bool {
    let finder = Scrubber::new();
    states.iter().for_each(|state| finder.note(state.expose()));
    let joined: String = text.split_whitespace().collect();
    let is_found = |text: &str| finder.clean(text) != text;
    let is_parsed = || {
        let response = Pasted::parse(text).ok().and_then(|pasted| pasted.response(states).ok());
        response.is_some_and(|response| response.sign_in.is_some())
    };
    is_found(text) || is_found(&joined) || is_parsed()
}

/// The text without blanks and escapes, in lower case, as it stands and decoded, and in every form that
/// the parser of pastes reads.
fn readings(text: &str) -> Vec<String> {
    let is_kept = |c: &char| {
        !c.is_whitespace()
            && !c.is_control()
            && !matches!(c, '\\' | '^' | '`' | '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}')
    };
    let half_width = |c: char| match c {
        '！'..='～' => char::from_u32(u32::from(c) - 0xFEE0).unwrap_or(c),
        _ => c,
    };
    let plain: String = text.chars().filter(is_kept).map(half_width).collect();
    let mut readings = vec![plain.to_lowercase().replace("&amp;", "&")];
    for _ in 0..MAX_ENCODINGS {
        let Some(last) = readings.last() else { break };
        let decoded = percent_decode_str(last).decode_utf8_lossy().to_lowercase();
        if decoded == *last {
            break;
        }
        readings.push(decoded);
    }
    let forms = Pasted::parse(text).map(|pasted| pasted.forms()).unwrap_or_default();
    readings.extend(forms.iter().map(|form| form.to_lowercase()));
    readings
}

/// Whether a reading contains this redirect URI with `code=` or `state=` among its parameters.
fn has_response_at(reading: &str, redirect_uri: &str) -> bool {
    let uri = redirect_uri.to_lowercase();
    // Browsers leave the scheme out when they show an address.
    let uri = uri.split_once("://").map_or(uri.as_str(), |(_, rest)| rest).trim_end_matches('/');
    reading.match_indices(uri).any(|(at, _)| {
        let rest = &reading[at + uri.len()..];
        let rest = rest.trim_start_matches('/');
        let end = (0..=MAX_QUERY.min(rest.len())).rev().find(|at| rest.is_char_boundary(*at)).unwrap_or(0);
        let query = &rest[..end];
        let is_query = query.starts_with(['?', '#', '&']);
        is_query && ["code=", "state="].iter().any(|name| has_parameter(query, name))
    })
}

fn has_parameter(query: &str, name: &str) -> bool {
    query.match_indices(name).any(|(at, _)| query[..at].ends_with(['?', '&', '#', ';']))
}

#[cfg(test)]
mod tests {
    use super::*;

    const URI: &str = "http://127.0.0.1:1/callback";

    fn is_response(text: &str) -> bool {
        readings(text).iter().any(|reading| has_response_at(reading, URI))
    }

    #[test]
    fn a_redirect_uri_with_a_code_or_a_state_is_a_response_in_any_wrapping() {
        for text in [
            "http://127.0.0.1:1/callback?code=c",
            "HTTP://127.0.0.1:1/callback/?iss=x&state=s",
            "look: <127.0.0.1:1/callback?error=access_denied&amp;state=s>",
            "http://127.0.0.1:1/call\nback?co\n  de=c",
            "https://r.example/?u=http%3A%2F%2F127.0.0.1%3A1%2Fcallback%3Fcode%3Dc",
            "https://r.example/?u=http%253A%252F%252F127.0.0.1%253A1%252Fcallback%253Fcode%253Dc",
            "http://127.0.0.1:1/callback\\?code\\=c",
            "http://127.0.0.1:1/callback#code=c",
            "ｈｔｔｐ：／／127.0.0.1:1/callback？code＝c",
        ] {
            assert!(is_response(text), "{text}");
        }
    }

    #[test]
    fn a_response_is_found_in_every_form_that_the_parser_of_pastes_reads() {
        for text in [
            r"http:\/\/127.0.0.1:1\/callback?code\u003dc\u0026state\u003ds",
            "http://127.0.0.1:1/callback?code&#61;c",
            "http://127.0.0.1:1/callback&#x3f;code&equals;c",
            "> http://127.0.0.1:1/call\n> back?code=c",
            "│ http://127.0.0.1:1/callback?co │\n│ de=c                           │",
            "http://127.0.0.1:1/callback=3Fcode=3Dc",
            "http://127.0.0.1:1/call\u{2066}back?code\u{202c}=c",
            "\u{1b}[4mhttp://127.0.0.1:1/callback\u{1b}[0m?code=c",
        ] {
            assert!(is_response(text), "{text}");
        }
    }

    #[test]
    fn the_bare_redirect_uri_and_other_addresses_are_ordinary_text() {
        for text in [
            "why does http://127.0.0.1:1/callback not load?",
            "http://127.0.0.1:1/callback?error=access_denied",
            "http://127.0.0.1:1/callback and then code=5",
            "http://127.0.0.1:1/other?code=c",
            "https://example.org/?code=c&state=s",
            "http://127.0.0.1:1/callback?decode=c&mystate=x",
        ] {
            assert!(!is_response(text), "{text}");
        }
    }

    #[test]
    fn a_pending_state_is_found_whole_wrapped_and_encoded() {
        let state = State::new("Yq3-kXn0_4dF7hJ2mP9sT1vW5zA8bC6eG0iK3lN-oQ2");
        let other = State::new("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
        for text in [
            "it is Yq3-kXn0_4dF7hJ2mP9sT1vW5zA8bC6eG0iK3lN-oQ2.",
            "c#Yq3-kXn0_4dF7hJ2mP9sT1vW5\nzA8bC6eG0iK3lN-oQ2",
            "Yq3%2DkXn0%5F4dF7hJ2mP9sT1vW5zA8bC6eG0iK3lN%2DoQ2",
        ] {
            assert!(has_state(text, &[&other, &state]), "{text}");
            assert!(!has_state(text, &[&other]), "{text}");
        }
    }
}
