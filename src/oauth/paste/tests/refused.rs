//! Pastes that are refused, and the errors.

use super::*;

#[test]
fn a_text_with_a_foreign_state_alone_is_refused() {
    let foreign = address().replace(STATE, FOREIGN);
    for text in [
        foreign.clone(),
        code_last().replace(STATE, FOREIGN),
        foreign.replace('?', "#"),
        format!("{CODE}#{FOREIGN}"),
        format!("{CODE}#x"),
        format!("{CODE}%23x"),
        format!("`{CODE}#{FOREIGN}`."),
        format!("{CODE}&state={FOREIGN}"),
        format!("<{foreign}>"),
        format!("code: {CODE}, state: {FOREIGN}"),
        format!(r#"{{"code":"{CODE}","state":"{FOREIGN}"}}"#),
        format!(
            "https://out.example/?url={}",
            foreign.replace('?', "%3F").replace('&', "%26").replace('=', "%3D")
        ),
        address().replace(STATE, &STATE[..42]),
        address().replace(STATE, &STATE.to_lowercase()),
        format!("{CODE}#{}", &STATE[1..]),
    ] {
        assert_eq!(read(&text).expect_err(&text), PasteError::StateMismatch, "{text:?}");
    }
}

#[test]
fn a_code_that_may_belong_to_another_state_is_refused() {
    for text in [
        format!("http://127.0.0.1:1/callback?code={CODE}&state={FOREIGN}&state={STATE}"),
        format!("http://127.0.0.1:1/callback?state={STATE}&code={CODE}&state={FOREIGN}"),
        format!("http://127.0.0.1:1/callback?code={CODE}&state={FOREIGN} {STATE}"),
        format!("http://127.0.0.1:1/callback?code={CODE}&state={FOREIGN}\nhttp://127.0.0.1:1/?state={STATE}"),
    ] {
        assert_eq!(read(&text).expect_err(&text), PasteError::StateMismatch, "{text:?}");
    }
    for text in
        [format!("{}&code=another", address()), format!("code=one-c0de and code=tw0-c0de for {STATE}")]
    {
        assert_eq!(read(&text).expect_err(&text), PasteError::SeveralCodes, "{text:?}");
    }
}

#[test]
fn a_refusal_shows_the_providers_description_cleaned() {
    let denied = |text: &str| match read(text) {
        Err(PasteError::Denied { error, description }) => (error, description),
        other => panic!("{text:?}: {other:?}"),
    };
    let url = format!(
        "http://localhost:1455/cb?error=access_denied&error_description=The+user%20said%1b%5Bno%E2%80%AE&state={STATE}"
    );
    assert_eq!(denied(&url), ("access_denied".into(), Some("The user said[no".into())));
    let long = format!("?error=%3Cb%3E{}&error_description={}", "x".repeat(200), "d".repeat(900));
    let (error, description) = denied(&long);
    assert_eq!(error, format!("b{}", "x".repeat(63)));
    assert_eq!(description.map(|d| d.len()), Some(200));
    assert_eq!(denied(&format!("error=%20%21&state={STATE}")), ("unknown_error".into(), None));
    let text = read(&url).expect_err("denied").to_string();
    assert!(text.contains("access_denied: The user said[no"), "{text}");
    for text in [
        format!("<http://127.0.0.1:1/callback?state={STATE}&error=access_denied>."),
        format!("http://127.0.0.1:1/callback?state={STATE}&error=access_denied."),
        format!(r#"{{"error":"access_denied","code":null,"state":"{STATE}"}}"#),
        format!("http%3A%2F%2F127.0.0.1%3A1%2Fcallback%3Ferror%3Daccess_denied%26state%3D{STATE}"),
        "http://127.0.0.1:1/callback?error=access_denied".into(),
        format!("http://127.0.0.1:1/callback?error=access_denied&state={FOREIGN}"),
    ] {
        assert_eq!(denied(&text), ("access_denied".into(), None), "{text:?}");
    }
}

#[test]
fn a_text_without_a_code_is_refused_as_such() {
    for text in [
        "https://id.example/login",
        "http://localhost:1455/auth/callback",
        "localhost:1455/auth/callback?state=x",
        "https://cb.example/?code=&state=x",
        "https://cb.example/?notcode=1&state=x",
        "https%3A%2F%2Fid.example%2Flogin",
        "wörter",
        "授权码",
        "#state",
        "hello world",
        "Status code: 404",
        "Error code: 500",
        STATE,
        r#"{"error":{"code":"invalid_request","message":"no"}}"#,
        // This is the sign-in link, and not the page after the sign-in.
        "https://id.example/authorize?response_type=code&client_id=c&state=x",
        "https://id.example/authorize?code=true&client_id=c&code_challenge=y&state=x",
    ] {
        assert_eq!(read(text).expect_err(text), PasteError::NoCode, "{text:?}");
    }
    for text in [
        format!("http://127.0.0.1:1/callback?state={STATE}"),
        format!("oauth_state={STATE}"),
        address().replace(CODE, "%00"),
        address().replace(CODE, "a%20b"),
        format!("https://id.example/authorize?code=true&client_id=c&code_challenge=y&state={STATE}"),
        format!("https://id.example/authorize?response_type=code&state={STATE}"),
        format!("https://id.example/login?to=%2Fauthorize%3Fresponse_type%3Dcode%26state%3D{STATE}"),
    ] {
        assert_eq!(read(&text).expect_err(&text), PasteError::NoCode, "{text:?}");
    }
}

#[test]
fn an_empty_paste_is_refused_as_such() {
    for text in ["", " \n\t", "``", "<>", "||||", "\u{200b}", "\u{1b}[200~\u{1b}[201~", "。"] {
        assert_eq!(read(text).expect_err(text), PasteError::Empty, "{text:?}");
    }
}

#[test]
fn an_issuer_that_is_no_url_is_escaped_and_equals_no_real_issuer() {
    let iss = |text: &str| {
        let response = read(&format!("?code=c&state={STATE}&iss={text}&x=")).expect("it is ours");
        response.foreign_issuer("https://id.example").expect("it has one").to_owned()
    };
    assert_eq!(iss("https://id.example%0A%1B%5B2J"), "https://id.example\\n\\u{1b}[2J…");
    assert_eq!(iss("https://id.example.evil.example"), "https://id.example.evil.example");
    let long = format!("https://id.example/{}", "x".repeat(5000));
    assert_eq!(iss(&long), format!("{}…", &long[..512]));
}

#[test]
fn a_foreign_issuer_that_begins_with_ours_is_found_wherever_its_line_breaks() {
    for evil in [
        "https://id.example.evil.test",
        "https://id.examplem",
        "https://id.example.2Fcb3F",
        "https://id.example.tttttttttt",
    ] {
        let text = format!("{}&iss={evil}", address());
        for at in 1..text.len() {
            let text = format!("{}\n{}", &text[..at], &text[at..]);
            let response = read(&text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
            assert!(response.foreign_issuer("https://id.example").is_some(), "{text:?}");
        }
    }
    for prose in ["\nThis is the page.", ". It ends here", "\n\nSent from my phone"] {
        let response = read(&format!("{}&iss=https://id.example{prose}", address())).expect("it is ours");
        assert_eq!(response.foreign_issuer("https://id.example"), None, "{prose:?}");
    }
}

#[test]
fn a_foreign_issuer_is_found_in_each_form() {
    let foreign = |text: &str| {
        let response = read(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        response.foreign_issuer("https://id.example").map(str::to_owned)
    };
    let evil = "https://evil.example";
    let text = format!("{}&iss={evil}", address());
    assert_eq!(foreign(&text).as_deref(), Some(evil));
    for at in 1..text.len() {
        for cut in ["\n", " ", "\n> "] {
            assert!(foreign(&format!("{}{cut}{}", &text[..at], &text[at..])).is_some(), "{at} {cut:?}");
        }
    }
    for text in [
        format!(r#"{{"code":"{CODE}","state":"{STATE}","iss":"{evil}"}}"#),
        format!("{CODE}#{STATE}&iss={evil}"),
        format!("iss={evil} {CODE}#{STATE}"),
        format!("{}&iss=https%3A%2F%2Fid.example&iss=https%3A%2F%2Fevil.example", address()),
        format!(
            "https://out.example/?u=http%3A%2F%2F127.0.0.1%3A1%2F%3Fcode%3D{CODE}%26state%3D{STATE}%26iss%3Dhttps%253A%252F%252Fevil.example"
        ),
    ] {
        assert_eq!(foreign(&text).as_deref(), Some(evil), "{text:?}");
    }
}

#[test]
fn no_paste_causes_a_panic() {
    let pieces = [
        "code=", "state=", "error=", "iss=", "&", "#", "?", "%", "%F", "%ff", "%3D", "```", "\n", "[", "](",
        "|", "é", "://", "\\", "\\u00", "\u{1b}[", "&amp;", "\"", STATE, "x",
    ];
    for a in pieces {
        for b in pieces {
            for c in pieces {
                let _ = read(&[a, b, c].concat());
            }
        }
    }
}

#[test]
fn neither_debug_nor_an_error_shows_the_code_or_the_state() {
    let pasted = Pasted::parse("s3cr3t-code#s3cr3t-state").expect("it is not empty");
    let shown = format!("{pasted:?} {:?}", read(&address().replace(CODE, "s3cr3t")));
    assert!(!shown.contains("s3cr3t"), "{shown}");
    let error = read("https://cb.example/?cod=s3cr3t&state=s3cr3t").expect_err("it has no code");
    assert!(!format!("{error:?} {error}").contains("s3cr3t"), "{error}");
}

#[test]
fn no_part_of_a_code_is_taken_for_the_code() {
    for text in [
        format!("http://127.0.0.1:1/callback?code=c\u{2013}1a2B3c4D5e&state={STATE}"),
        format!("http://127.0.0.1:1/callback?code=c1a2\n[10:03] <bob> B3c4D5e&state={STATE}"),
        format!("http://127.0.0.1:1/callback?code=c1a2 \u{2502} other pane text\nB3c4D5e&state={STATE}"),
    ] {
        let error = read(&text).expect_err(&text);
        assert!(matches!(error, PasteError::SeveralCodes | PasteError::NoCode), "{text:?}: {error}");
    }
}
