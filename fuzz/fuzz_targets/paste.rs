//! Pasted text. A code contains only characters of the paste. A `state` or an issuer of another
//! sign-in is refused before any write or request. A complete answer is accepted in any wrapping.
//! No message contains control characters or invisible formatting characters.
#![no_main]

use std::{
    path::Path,
    sync::{Arc, LazyLock},
    time::Duration,
};

use libfuzzer_sys::fuzz_target;
use threadkey::{
    broker::{Broker, FinishError},
    ids::Principal,
    oauth::{Client, PasteError, Pasted, Provider, ProviderSettings, Providers},
    session::{Change, Pending},
    store::Store as _,
    sys::clock::Clock,
};
use threadkey_fuzz::{MemoryDisk, NOW, SIGN_IN_JOURNAL, disk, open, run, tenant};

fuzz_target!(|input: &[u8]| {
    let text = String::from_utf8_lossy(input);
    match Pasted::parse(&text) {
        Ok(pasted) => {
            let code = pasted.code.expose();
            assert!(!code.is_empty() && code.bytes().all(|b| b.is_ascii_graphic()), "{code:?} is not a code");
            assert!(is_part_of(code, &text), "{code:?} is not part of {text:?}");
            assert!(
                pasted.iss.as_ref().is_none_or(|iss| iss.len() <= 600 && !iss.contains(char::is_control))
            );
            assert_refused(pasted);
        }
        Err(error) => assert_shown(&error),
    }
    let plain: String =
        text.chars().filter(|c| matches!(c, 'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' | '~')).collect();
    let (code, state) = plain.split_at(plain.len() / 2);
    if !code.is_empty() && !code.starts_with("www") && plain.len() < 1000 {
        assert_taken(code, state);
    }
});

/// Whether the text contains the code's characters in this order, percent-encoded or not.
fn is_part_of(code: &str, text: &str) -> bool {
    let kept = |c: &char| c.is_ascii_graphic() && !matches!(c, '<' | '>' | '"' | '`');
    let text: Vec<u8> = text.chars().filter(kept).map(|c| c as u8).collect();
    let mut at = 0;
    code.bytes().all(|wanted| {
        while at < text.len() {
            let escaped = text
                .get(at..at + 3)
                .filter(|three| three[0] == b'%' && three[1..].iter().all(u8::is_ascii_hexdigit));
            let escaped =
                escaped.and_then(|three| u8::from_str_radix(std::str::from_utf8(&three[1..]).ok()?, 16).ok());
            let step = if text[at] == wanted {
                1
            } else if escaped == Some(wanted) {
                3
            } else {
                0
            };
            at += step.max(1);
            if step > 0 {
                return true;
            }
        }
        false
    })
}

fn assert_shown(error: &PasteError) {
    let shown = error.to_string();
    let is_active = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    assert!(!shown.contains(is_active), "{shown:?}");
    assert!(shown.len() < 2000, "the message is too long: {shown}");
    if let PasteError::Denied { error, .. } = error {
        assert!(!error.is_empty() && error.len() <= 64, "{error}");
    }
}

/// Checks that each usual form of a paste yields its code and state.
fn assert_taken(code: &str, state: &str) {
    let url = format!("http://127.0.0.1:1/callback?code={code}&state={state}");
    let escaped: String = code.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let (front, back) = url.split_at(url.len() * 2 / 3);
    let forms = [
        format!("{code}#{state}"),
        format!(" `{code}#{state}`\n"),
        format!("code={code}&state={state}"),
        format!("<{url}>"),
        format!("[here]({url})"),
        format!("```\n{url}\n```"),
        format!("||{url}||"),
        format!("{front}\r\n  {back}"),
        format!("https://app.example/?state={state}&code={escaped}"),
        format!("https://app.example/cb#state={state}&code={code}"),
    ];
    for form in forms {
        let pasted = Pasted::parse(&form).unwrap_or_else(|error| panic!("{form:?}: {error}"));
        assert_eq!(pasted.code.expose(), code, "{form:?}");
        assert_eq!(pasted.state.as_ref().map(|state| state.expose()), Some(state), "{form:?}");
    }
}

/// A broker with a pending sign-in, and its disk.
struct SignIn {
    broker: Broker,
    disk: MemoryDisk,
    pending: Pending,
}

/// The pending sign-in of this target.
static SIGN_IN: LazyLock<SignIn> = LazyLock::new(|| {
    let provider = Provider::new(tenant().provider, settings()).expect("a provider");
    let pending = provider.begin(Principal::Local, None, NOW);
    let disk = disk(None);
    let store = open(&disk);
    run(store.change(&tenant(), Change::Start(pending.clone()))).expect("the sign-in can be saved");
    let clock = Clock::fixed(NOW);
    let client = Client::new(clock.clone()).expect("a client");
    let broker = Broker::new(Arc::new(store), Providers::new([provider]), client, clock);
    SignIn { broker, disk, pending }
});

fn settings() -> ProviderSettings {
    ProviderSettings {
        issuer: Some("https://id.example".into()),
        authorization_endpoint: "https://id.example/authorize".into(),
        token_endpoint: "https://id.example/token".into(),
        revocation_endpoint: None,
        userinfo_endpoint: None,
        client_id: "threadkey".into(),
        client_secret: None,
        redirect_uri: "http://127.0.0.1:1/callback".into(),
        scopes: vec!["read".into()],
        authorize_params: Default::default(),
        resource: None,
        token_path: None,
        ended_errors: Vec::new(),
        max_lifetime: None,
        reuse_grace: Duration::ZERO,
        refresh_revokes_access: false,
        enforces_pkce: false,
        ..ProviderSettings::default()
    }
}

/// Checks that the broker refuses the paste. Its state is random, so it belongs to another sign-in.
fn assert_refused(pasted: Pasted) {
    let SignIn { broker, disk, pending } = &*SIGN_IN;
    let (has_state, iss) = (pasted.state.is_some(), pasted.iss.clone());
    let own_state =
        Pasted { state: Some(pending.state.clone()), code: pasted.code.clone(), iss: iss.clone() };
    let error =
        run(broker.finish(Principal::Local, None, pasted)).expect_err("the paste belongs to another sign-in");
    match error {
        FinishError::StateMismatch if has_state => {}
        FinishError::StateNeeded(_) if !has_state => {}
        error => panic!("{error}"),
    }
    if iss.is_some_and(|iss| iss != "https://id.example") {
        let error = run(broker.finish(Principal::Local, None, own_state))
            .expect_err("the paste comes from another server");
        assert!(matches!(error, FinishError::IssuerMismatch { .. }), "{error}");
    }
    assert_eq!(disk.get(Path::new(SIGN_IN_JOURNAL)), None, "the broker was about to send a request");
}
