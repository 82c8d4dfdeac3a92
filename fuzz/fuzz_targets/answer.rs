//! Provider answers. Every answer has an outcome. Only a 2xx with an `access_token` gives a grant,
//! and its tokens are never lost. A verdict comes only from an error in the body. A logged code
//! contains no text of the body.
//!
//! The first line is the status, the second the `Retry-After`, and the rest is the body.
#![no_main]

use std::{collections::BTreeMap, sync::LazyLock, time::Duration};

use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, value::RawValue};
use threadkey::{
    ids::Lineage,
    oauth::{AnswerRules, Attempt, Mismatch, Outcome, sign_in_outcome},
    secret::{Nonce, State},
    session::{
        Applied, Binding, Change, Grant, MAX_BACKOFF, Pending, Session, Settlement,
        journal::{Answer, Answered},
    },
    store::{Purpose, Store as _},
};
use threadkey_fuzz::{NOW, disk, open, run, tenant};

fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(3, |byte| *byte == b'\n');
    let mut line = || parts.next().unwrap_or_default();
    let status = std::str::from_utf8(line()).ok().and_then(|status| status.parse().ok()).unwrap_or(200);
    let retry_after = std::str::from_utf8(line()).ok().filter(|text| !text.is_empty()).map(str::to_owned);
    let body = line();
    let answer = Answer { status, retry_after, body: body.to_vec().into(), at: NOW, ..Answer::default() };
    let attempt = Attempt::Answered(Answered::for_tests(answer));
    let object = object(body);
    let nonce = Nonce::new("n");
    let rules = AnswerRules { client_id: "c".into(), ..AnswerRules::default() };
    for nonce in [None, Some(&nonce)] {
        let outcome = sign_in_outcome(&attempt, &rules, nonce);
        if let Ok(outcome) = &outcome {
            assert_code(outcome, status, object.as_ref());
        }
        let token = object.as_ref().and_then(|object| text(object, "access_token"));
        let has_token = (200..300).contains(&status) && token.is_some();
        match outcome {
            Ok(Outcome::Granted(grant)) => {
                assert!((200..300).contains(&status) && !grant.access_token.expose().trim().is_empty());
                if let Some(object) = &object {
                    assert!(has_token, "a grant without an access_token");
                    assert_granted(&grant, object);
                }
                if nonce.is_none() {
                    assert_kept(*grant);
                }
            }
            Err(Mismatch::Nonce | Mismatch::NoNonce | Mismatch::Audience) => {
                let id_token = object.as_ref().is_none_or(|object| text(object, "id_token").is_some());
                assert!(
                    (has_token || object.is_none()) && nonce.is_some() && id_token,
                    "a mismatch without an id token or a nonce"
                );
            }
            Ok(outcome) => assert!(!has_token, "the tokens were lost: {outcome:?}"),
        }
    }
});

/// Returns the readable members. Returns `None` if one of the tokens is unreadable, or if the body
/// is not a JSON object in UTF-8.
fn object(body: &[u8]) -> Option<Map<String, Value>> {
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    let members: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(body).ok()?;
    let mut object = Map::new();
    for (name, value) in members {
        match serde_json::from_str(value.get()) {
            Ok(value) => _ = object.insert(name, value),
            Err(_) if ["access_token", "refresh_token"].contains(&name.as_str()) => return None,
            Err(_) => {}
        }
    }
    Some(object)
}

/// Returns a member that is a text and not blank.
fn text<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    object.get(name)?.as_str().filter(|text| !text.trim().is_empty())
}

fn assert_granted(grant: &Grant, object: &Map<String, Value>) {
    assert_eq!(Some(grant.access_token.expose()), text(object, "access_token"));
    assert_eq!(grant.refresh_token.as_ref().map(|token| token.expose()), text(object, "refresh_token"));
    let lifetime = grant.expires_in.unwrap_or(Duration::from_secs(1));
    assert!(lifetime >= Duration::from_secs(1), "{lifetime:?}");
    assert!(lifetime <= Duration::from_secs(10 * 366 * 86_400), "{lifetime:?}");
    let in_a_header = |b: u8| b.is_ascii_graphic() && b != b'"' && b != b',';
    assert!(
        !grant.token_type.is_empty() && grant.token_type.bytes().all(in_a_header),
        "{:?}",
        grant.token_type
    );
    let account = grant.account.as_deref().unwrap_or("-");
    assert!(!account.is_empty() && !account.contains(char::is_control), "{account:?}");
}

/// Checks the code of an outcome other than a grant, and that the answer allows this outcome.
fn assert_code(outcome: &Outcome, status: u16, object: Option<&Map<String, Value>>) {
    let code = match outcome {
        Outcome::Granted(_) => return,
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
        Outcome::Ended { code } | Outcome::Misconfigured { code } => {
            assert!((200..500).contains(&status) && status / 100 != 3, "a {status} must not be a verdict");
            assert!(![408, 425, 429].contains(&status), "a {status} must not be a verdict");
            // A body that is not UTF-8 in another place still has its error.
            let Some(object) = object else { return };
            let error = &object.get("error").cloned().unwrap_or_default();
            let errors =
                [error, &error["code"], &error["type"], &object.get("code").cloned().unwrap_or_default()];
            let errors: Vec<&str> = errors.into_iter().filter_map(Value::as_str).collect();
            let aliased = matches!(outcome, Outcome::Misconfigured { .. }) && !errors.is_empty();
            assert!(aliased || errors.contains(&code.as_str()), "{code} is not in the answer: {errors:?}");
            code
        }
    };
    let is_word = code.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    assert!(is_word && code.len() <= 40, "{code:?} is not a valid code");
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
    };
    run(open(&disk).change(&tenant(), Change::Start(pending))).expect("the sign-in can be saved");
    disk.get(threadkey_fuzz::STORE.as_ref()).expect("the store exists")
});
