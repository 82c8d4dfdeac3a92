//! Provider answers. Every answer has an outcome. A grant comes only from a 2xx, and has the tokens
//! of the first JSON object, or of a whole form. No beginning of an answer yields a token that the
//! whole answer does not. A verdict comes only from a code or a sentence in the body. A logged code
//! contains no other text of the body.
//!
//! The first line is the status, the second the `Retry-After`, the third the content type, the
//! fourth `cut` or nothing, and the rest is the body. A body that begins with `gzip:` is compressed
//! first.
#![no_main]

use std::{collections::BTreeSet, fmt, io::Write as _, sync::LazyLock, time::Duration};

use flate2::{Compression, write::GzEncoder};
use libfuzzer_sys::fuzz_target;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Map, Value, value::RawValue};
use threadkey::{
    ids::Lineage,
    oauth::{AnswerRules, Attempt, Mismatch, Outcome, outcome, sign_in_outcome},
    secret::{Nonce, RefreshToken, State},
    session::{
        Applied, Binding, Change, Grant, MAX_BACKOFF, Pending, Session, Settlement,
        journal::{Answer, Answered},
    },
    store::{Purpose, Store as _},
};
use threadkey_fuzz::{NOW, disk, open, run, tenant};

const FORM: &str = "application/x-www-form-urlencoded";

/// The longest lifetime without a setting.
const YEAR: Duration = Duration::from_secs(365 * 86_400);

fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(5, |byte| *byte == b'\n');
    let mut line = || parts.next().unwrap_or_default();
    let text =
        |line: &[u8]| std::str::from_utf8(line).ok().filter(|text| !text.is_empty()).map(str::to_owned);
    let status = text(line()).and_then(|status| status.parse().ok()).unwrap_or(200);
    let (retry_after, content_type) = (text(line()), text(line()));
    let cut = line() == b"cut";
    let body = line();
    let plain = body.strip_prefix(b"gzip:").unwrap_or(body);
    let body = if plain.len() == body.len() { body.to_vec() } else { gzip(plain) };
    let is_form = content_type.as_deref().is_some_and(|text| text.to_ascii_lowercase().contains(FORM));
    let answer =
        Answer { status, retry_after, content_type, cut, at: NOW, body: body.into(), ..Answer::default() };
    let rules = AnswerRules {
        client_id: "c".into(),
        ended_errors: vec!["own_code".into()],
        ..AnswerRules::default()
    };
    let object = object(plain);
    let nonce = Nonce::new("n");
    for nonce in [None, Some(&nonce)] {
        let outcome = sign_in_outcome(&of(&answer), &rules, nonce);
        match outcome {
            Ok(Outcome::Granted(grant)) => {
                assert!((200..300).contains(&status));
                assert_granted(&grant);
                match &object {
                    Some(object) => assert_tokens(&grant, object),
                    None => {
                        assert!(is_json(plain) || is_gzip(plain) || (is_form && !cut), "a grant from nowhere")
                    }
                }
                if nonce.is_none() {
                    assert_kept(*grant);
                }
            }
            Ok(outcome) => {
                assert_code(&outcome, status, plain);
                let lost = object.as_ref().is_some_and(is_success);
                assert!(!lost || !(200..300).contains(&status), "the tokens were lost: {outcome:?}");
            }
            Err(Mismatch::Nonce | Mismatch::NoNonce | Mismatch::Audience | Mismatch::AuthorizedParty) => {
                assert!(nonce.is_some() && (200..300).contains(&status), "a mismatch without a nonce");
            }
            Err(other) => panic!("neither keys nor an issuer are known here: {other}"),
        }
    }
    assert_prefixes(&answer, &rules);
});

fn of(answer: &Answer) -> Attempt<Answered> {
    Attempt::Answered(Answered::for_tests(answer.clone()))
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(plain).expect("a vector can be written");
    encoder.finish().expect("a vector can be written")
}

/// Returns the tokens of an answer to a refresh.
fn tokens(answer: &Answer, rules: &AnswerRules) -> Option<(String, Option<String>)> {
    let Outcome::Granted(grant) = outcome(&of(answer), rules) else { return None };
    let refresh_token = grant.refresh_token.as_ref().map(RefreshToken::expose).map(str::to_owned);
    Some((grant.access_token.expose().to_owned(), refresh_token))
}

/// Checks that a beginning of the body yields the tokens of the whole body, or none.
fn assert_prefixes(answer: &Answer, rules: &AnswerRules) {
    let whole = tokens(answer, rules);
    let length = answer.body.len();
    // Each place near the end, where a token may be cut, and some before.
    let step = (length / 64).max(1);
    let ends = (0..length).filter(|end| end % step == 0 || length - end < 64);
    for end in ends {
        let body = answer.body[..end].to_vec().into();
        let cut = Answer { body, cut: true, ..answer.clone() };
        let part = tokens(&cut, rules);
        assert!(part.is_none() || part == whole, "{end} of {length} bytes yield another token");
    }
}

/// Whether the input itself is compressed, so that its content is unknown here.
fn is_gzip(body: &[u8]) -> bool {
    body.starts_with(&[0x1f, 0x8b])
}

/// Whether the text begins with an object or array.
fn is_json(body: &[u8]) -> bool {
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body).trim_ascii_start();
    matches!(body.first(), Some(b'{' | b'['))
}

/// The members of an object, in their order.
struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Members;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = from.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        from.deserialize_map(Reader)
    }
}

/// Returns a text without its letter case, `_` and `-`.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !"_-".contains(*c)).map(|c| c.to_ascii_lowercase()).collect()
}

/// Returns the readable members. Returns `None` if one of the tokens is unreadable, if a name occurs
/// twice in any style, or if the body does not begin with a JSON object in UTF-8.
fn object(body: &[u8]) -> Option<Map<String, Value>> {
    let body = std::str::from_utf8(body).ok()?;
    let body = body.strip_prefix('\u{feff}').unwrap_or(body);
    let mut objects = serde_json::Deserializer::from_str(body).into_iter::<Members>();
    let Members(members) = objects.next()?.ok()?;
    let names: BTreeSet<_> = members.iter().map(|(name, _)| plain(name)).collect();
    if names.len() < members.len() {
        return None;
    }
    let mut object = Map::new();
    for (name, value) in members {
        match serde_json::from_str(value.get()) {
            Ok(value) => _ = object.insert(name, value),
            Err(_) if ["accesstoken", "refreshtoken", "error"].contains(&plain(&name).as_str()) => {
                return None;
            }
            Err(_) => {}
        }
    }
    let has_damaged =
        object.values().any(|value| value.as_str().is_some_and(|text| text.contains('\u{fffd}')));
    (!has_damaged).then_some(object)
}

/// Returns a member with this name in any style.
fn member<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.iter().find(|(there, _)| plain(there) == plain(name)).map(|(_, value)| value)
}

/// Returns a member that is a text and not blank, without the white space around it.
fn text<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    member(object, name)?.as_str().filter(|text| !text.trim().is_empty()).map(str::trim_ascii)
}

/// Whether a text can be a token.
fn is_token(text: &str) -> bool {
    !text.contains(char::is_control)
}

/// Whether the object has a token and reports no error.
fn is_success(object: &Map<String, Value>) -> bool {
    let is_silent = match object.get("error") {
        None | Some(Value::Null | Value::Bool(false)) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(_) => false,
    };
    let ok = object.get("ok").is_none_or(|ok| *ok != Value::Bool(false) && *ok != "false");
    // A refresh token of another kind cannot be distinguished from a damaged one.
    let has_clear_refresh_token =
        member(object, "refresh_token").is_none_or(|token| token.is_string() || token.is_null());
    let is_token = |name| text(object, name).is_none_or(is_token);
    let are_tokens = is_token("access_token") && is_token("refresh_token");
    text(object, "access_token").is_some() && is_silent && ok && has_clear_refresh_token && are_tokens
}

fn assert_tokens(grant: &Grant, object: &Map<String, Value>) {
    assert_eq!(Some(grant.access_token.expose()), text(object, "access_token"));
    assert_eq!(grant.refresh_token.as_ref().map(|token| token.expose()), text(object, "refresh_token"));
}

fn assert_granted(grant: &Grant) {
    assert!(!grant.access_token.expose().trim().is_empty());
    let lifetime = grant.expires_in.unwrap_or(YEAR);
    assert!((Duration::from_secs(1)..=YEAR).contains(&lifetime), "{lifetime:?}");
    let is_scheme = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    assert!(
        !grant.token_type.is_empty() && grant.token_type.bytes().all(is_scheme),
        "{:?}",
        grant.token_type
    );
    let account = grant.account.as_deref().unwrap_or("-");
    assert!(!account.is_empty() && !account.contains(char::is_control), "{account:?}");
}

/// Checks the code of an outcome other than a grant, and that the answer allows this outcome.
fn assert_code(outcome: &Outcome, status: u16, body: &[u8]) {
    let code = match outcome {
        Outcome::Granted(_) => return,
        Outcome::Foreign { claim } => panic!("the session has no subject, and {claim} is foreign"),
        Outcome::Unspent { code, retry_after } => {
            assert!(
                retry_after.is_none_or(|asked| !asked.is_zero() && asked <= MAX_BACKOFF),
                "{retry_after:?}"
            );
            code
        }
        Outcome::Refused { code } => {
            assert!([400, 401, 403].contains(&status), "a {status} is no refusal");
            code
        }
        Outcome::Ambiguous { code } => {
            assert!(code.starts_with("ambiguous_"), "{code}");
            code
        }
        Outcome::Ended { code } => {
            assert_is_word_of_the_provider(status);
            // An escape or a form may hide the code's text.
            let has_code = plain(&String::from_utf8_lossy(body)).contains(&plain(code));
            let is_plain = !is_gzip(body) && !body.iter().any(|byte| b"\\%".contains(byte));
            let is_composed = code.ends_with("_refresh_token") || code.ends_with("_code");
            assert!(has_code || !is_plain || is_composed, "{code} is not in the answer");
            code
        }
        Outcome::Misconfigured { code } => {
            assert_is_word_of_the_provider(status);
            code
        }
    };
    let is_word = code.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    assert!(is_word && code.len() <= 50, "{code:?} is not a valid code");
}

fn assert_is_word_of_the_provider(status: u16) {
    assert!((200..500).contains(&status) && status / 100 != 3, "a {status} must not be a verdict");
    assert!(![408, 425, 429].contains(&status), "a {status} must not be a verdict");
}
/// Checks that the store can save any grant and read it back.
fn assert_kept(grant: Grant) {
    let disk = disk(Some(&SIGNING_IN));
    let session = Session::begin(Lineage([5; 16]), grant, BINDING.clone(), NOW);
    let settlement = Settlement::SignIn { state: State::new("s"), session: Box::new(session.clone()) };
    let lock = run(open(&disk).try_lock(&tenant(), Purpose::SignIn)).expect("the lock can be taken");
    let changed = run(lock.expect("the lock is free").settle(settlement)).expect("the grant can be saved");
    assert_eq!(changed.applied, Applied::Done, "the grant was not saved");
    let read = run(open(&disk).read(&tenant())).expect("the store can be read");
    assert_eq!(read.session, Some(session));
}

static BINDING: LazyLock<Binding> = LazyLock::new(|| Binding {
    issuer: None,
    token_endpoint: "https://id.example/token".into(),
    revocation_endpoint: None,
    userinfo_endpoint: None,
    probe_endpoint: None,
    client_id: "c".into(),
    resource: None,
});

/// A store with a pending sign-in.
static SIGNING_IN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let disk = disk(None);
    let pending = Pending {
        verifier: threadkey::secret::CodeVerifier::new("v"),
        state: State::new("s"),
        nonce: None,
        redirect_uri: "http://127.0.0.1:1/callback".into(),
        created_at: NOW,
        started_by: threadkey::ids::Principal::Local,
        lineage_seen: None,
        binding: BINDING.clone(),
        scopes: Vec::new(),
        wrong_codes: None,
        browser: None,
        polling: None,
    };
    run(open(&disk).change(&tenant(), Change::Start(pending))).expect("the sign-in can be saved");
    disk.get(threadkey_fuzz::STORE.as_ref()).expect("the store exists")
});
