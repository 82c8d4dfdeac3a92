//! Pasted text around a sign-in in progress. A text with our own state whole, and a code, yields that
//! code in any wrapping, and no surrounding text makes it another code. A `state` or an issuer of
//! another sign-in is refused before any write or request.
//!
//! Each run makes some forty pastes of its input and asks a broker about them. `paste_text` reads the
//! input alone, about a hundred times as often.
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
    oauth::{Client, Pasted, Provider, ProviderSettings, Providers},
    session::{Change, Pending},
    store::Store as _,
    sys::clock::Clock,
};
use threadkey_fuzz::{
    MemoryDisk, NOW, SIGN_IN_JOURNAL, disk, open,
    paste::{self, STATE, is_part_of, read},
    run, tenant,
};

fuzz_target!(|input: &[u8]| {
    let text = String::from_utf8_lossy(input);
    assert_refused(&text);
    paste::assert_read(&text);
    let plain: String = text
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '~'))
        .take(1000)
        .collect();
    // A code of letters alone could be a word of the text around it.
    let code = format!("0a{}1Z", plain.replace(STATE, ""));
    let prose: String =
        text.chars().filter(|c| c.is_alphabetic() || c.is_whitespace() || PUNCTUATION.contains(*c)).collect();
    assert_taken(&code, &prose);
    assert_issuer_counts(&plain);
});

const PUNCTUATION: &str = ".,;!()[]<>\"'*|`~。，、」】»";

/// Checks that each usual form of a paste yields its code, with this prose around it.
fn assert_taken(code: &str, prose: &str) {
    let url = format!("http://127.0.0.1:1/callback?code={code}&scope=a&state={STATE}");
    let code_last = format!("http://127.0.0.1:1/callback?scope=a&state={STATE}&code={code}");
    let escape = |text: &str| -> String { text.bytes().map(|byte| format!("%{byte:02X}")).collect() };
    let wrapped = |text: &str, gap: &str| -> String {
        let width = 7 + prose.len() % 90;
        let lines: Vec<_> = text.as_bytes().chunks(width).map(String::from_utf8_lossy).collect();
        lines.join(gap)
    };
    let mut forms = vec![
        format!("{prose}{url}{prose}"),
        format!("{prose} {url} {prose}"),
        format!("{prose} <a href=\"{}\">{prose}", url.replace('&', "&amp;")),
        format!("{prose} {{\"code\":\"{code}\",\"state\":\"{STATE}\"}} {prose}"),
        format!("{prose}\n{}\n{prose}", wrapped(&url, "\r\n  ")),
        format!("{prose}\n> {}\n> {prose}", wrapped(&url, "\n> ")),
        format!("\u{1b}[200~{}\u{1b}[201~{prose}", wrapped(&url, "\n")),
        format!("{code}#{STATE}{prose}"),
        format!("code={code}&state={STATE}{prose}"),
        format!("{code}&state={STATE}"),
        url.replace(code, &escape(code)),
        url.replace(code, &escape(code).replace('%', "%25")),
        url.replace('?', "\\?").replace('&', "\\&").replace('=', "\\="),
        format!("https://out.example/?u={}", escape(&url)),
        format!("https://app.example/cb#state={STATE}&code={code}"),
    ];
    for (before, after) in
        [("<", ">."), ("[here](", ")"), ("**", "**"), ("||", "||"), ("`", "`"), ("", "。"), ("", ", thanks")]
    {
        for form in [&url, &code_last, &format!("{code}#{STATE}")] {
            forms.push(format!("{before}{form}{after}"));
        }
    }
    for form in forms {
        let response = read(&form).unwrap_or_else(|error| panic!("{form:?}: {error}"));
        assert_eq!(response.code.expose(), code, "{form:?}");
        assert_eq!(response.sign_in, Some(0), "{form:?}");
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

/// Checks that the broker refuses the paste. The state of its sign-in is random, so the paste
/// belongs to another one.
fn assert_refused(text: &str) {
    let Ok(pasted) = Pasted::parse(text) else { return };
    // libFuzzer learns the state from comparisons.
    if is_part_of(SIGN_IN.pending.state.expose(), text) {
        return;
    }
    let error = finish(pasted);
    let is_refusal = matches!(
        error,
        FinishError::StateMismatch
            | FinishError::StateNeeded(_)
            | FinishError::Paste(_)
            | FinishError::RequestRefused { .. }
    );
    assert!(is_refusal, "{error}");
}

/// Checks that an answer with our state from another issuer is refused, in one line and in two.
fn assert_issuer_counts(plain: &str) {
    let state = SIGN_IN.pending.state.expose();
    let text = format!("http://127.0.0.1:1/callback?code=0a1Z&state={state}&iss=https://id.example.{plain}a");
    for text in [text.clone(), format!("{}\n{}", &text[..text.len() / 2], &text[text.len() / 2..])] {
        let error = finish(Pasted::parse(&text).expect("it is not empty"));
        assert!(matches!(error, FinishError::IssuerMismatch { .. }), "{text:?}: {error}");
    }
}

/// The error of the broker, which sends nothing.
fn finish(pasted: Pasted) -> FinishError {
    let SignIn { broker, disk, .. } = &*SIGN_IN;
    let error = run(broker.finish(Principal::Local, None, pasted)).expect_err("the broker refuses the paste");
    assert_eq!(disk.get(Path::new(SIGN_IN_JOURNAL)), None, "the broker was about to send a request");
    error
}
