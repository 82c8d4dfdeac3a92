use super::*;

/// Code, state and issuer of a paste.
fn parsed(text: &str) -> (String, Option<String>, Option<String>) {
    let pasted = Pasted::parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    (
        pasted.code.expose().to_owned(),
        pasted.state.as_ref().map(|state| state.expose().to_owned()),
        pasted.iss,
    )
}

fn both() -> (String, Option<String>, Option<String>) {
    ("ac_1-2.3".into(), Some("st-4_5".into()), None)
}

const URL: &str = "http://localhost:1455/auth/callback?code=ac_1-2.3&scope=openid&state=st-4_5";

#[test]
fn a_code_alone_is_accepted() {
    assert_eq!(parsed("ac_1-2.3"), ("ac_1-2.3".into(), None, None));
    assert_eq!(parsed("  4/0AX4XfWh+x==\n"), ("4/0AX4XfWh+x==".into(), None, None));
    assert_eq!(parsed("4%2F0AX4XfWh"), ("4/0AX4XfWh".into(), None, None));
    assert_eq!(parsed("ac_1-2.3#"), ("ac_1-2.3".into(), None, None));
}

#[test]
fn a_code_with_its_state_is_accepted() {
    assert_eq!(parsed("ac_1-2.3#st-4_5"), both());
    assert_eq!(parsed("ac_1-2.3\n#st-\n  4_5"), both());
}

#[test]
fn the_whole_callback_url_is_accepted() {
    assert_eq!(parsed(URL), both());
    assert_eq!(parsed(&URL.replace('?', "#")), both(), "in the fragment");
    assert_eq!(parsed(&format!("{URL}#_=_")), both(), "with a left-over fragment");
    assert_eq!(parsed("https://cb.example/?state=st-4_5&code=ac_1-2.3"), both());
    let with_iss = format!("{URL}&iss=https%3A%2F%2Fid.example");
    assert_eq!(parsed(&with_iss).2.as_deref(), Some("https://id.example"));
}

#[test]
fn an_address_without_its_beginning_is_accepted() {
    assert_eq!(parsed("localhost:1455/auth/callback?code=ac_1-2.3&state=st-4_5"), both());
    assert_eq!(parsed("/auth/callback?code=ac_1-2.3&state=st-4_5"), both());
    assert_eq!(parsed("?code=ac_1-2.3&state=st-4_5"), both());
    assert_eq!(parsed("code=ac_1-2.3&state=st-4_5"), both());
    assert_eq!(parsed("state=st-4_5&code=ac_1-2.3"), both());
    assert_eq!(parsed("ac_1-2.3&state=st-4_5"), both(), "the part after `code=`");
}

#[test]
fn characters_around_a_paste_are_removed() {
    for text in [
        format!("<{URL}>"),
        format!("`{URL}`"),
        format!("```\n{URL}\n```"),
        format!("```text\n{URL}\n```"),
        format!("```{URL}```"),
        format!("\"{URL}\""),
        format!("'{URL}'"),
        format!("“{URL}”"),
        format!("||{URL}||"),
        format!("|| <{URL}> ||"),
        format!("[the page]({URL})"),
        format!("[the page](<{URL}> \"title\")"),
        format!("||[{URL}]({URL})||"),
        format!("\u{feff} {URL}\u{200b}\u{a0}"),
        format!("> {}\n> {}", &URL[..50], &URL[50..]),
    ] {
        assert_eq!(parsed(&text), both(), "{text:?}");
    }
}

#[test]
fn line_breaks_and_blanks_anywhere_in_a_paste_are_removed() {
    for at in 1..URL.len() {
        for cut in ["\n", "\r\n", " ", "\n    ", "\u{200b}"] {
            let text = format!("{}{cut}{}", &URL[..at], &URL[at..]);
            assert_eq!(parsed(&text), both(), "{text:?}");
        }
    }
}

#[test]
fn a_paste_is_percent_decoded_once_and_a_plus_stays() {
    let (code, state, _) = parsed("https://cb.example/?code=4%2F0%2525&state=a+b%3D");
    assert_eq!((code.as_str(), state.as_deref()), ("4/0%25", Some("a+b=")));
}

#[test]
fn an_issuer_that_is_no_url_is_escaped_and_equals_no_real_issuer() {
    let iss = |text: &str| parsed(&format!("?code=c&iss={text}")).2.expect("it has one");
    assert_eq!(iss("https://id.example%0A%1B%5B2J"), "https://id.example\\n\\u{1b}[2J…");
    let long = format!("https://id.example/{}", "x".repeat(5000));
    assert_eq!(iss(&long), format!("{}…", &long[..512]));
}

#[test]
fn a_refusal_shows_the_providers_description_cleaned() {
    let denied = |text: &str| match Pasted::parse(text) {
        Err(PasteError::Denied { error, description }) => (error, description),
        other => panic!("{text:?}: {other:?}"),
    };
    let url = "http://localhost:1455/cb?error=access_denied&error_description=The+user%20said%1b%5Bno%E2%80%AE&state=x";
    assert_eq!(denied(url), ("access_denied".into(), Some("The user said[no".into())));
    let long = format!("?error=%3Cb%3E{}&error_description={}", "x".repeat(200), "d".repeat(900));
    let (error, description) = denied(&long);
    assert_eq!(error, format!("b{}", "x".repeat(63)));
    assert_eq!(description.map(|d| d.len()), Some(200));
    assert_eq!(denied("error=%20%21&state=x"), ("unknown_error".into(), None));
    let text = Pasted::parse(url).expect_err("denied").to_string();
    assert!(text.contains("access_denied: The user said[no"), "{text}");
}

#[test]
fn an_address_without_a_code_is_refused_as_such() {
    for text in [
        "https://id.example/login",
        "http://localhost:1455/auth/callback",
        "localhost:1455/auth/callback?state=x",
        "https://cb.example/?code=&state=x",
        "https://cb.example/?notcode=1&state=x",
        "https://cb.example/?code=%00&state=x",
        "https://cb.example/?code=a%20b&state=x",
        "wörter",
        "#state",
        // This is the sign-in link, and not the page after the sign-in.
        "https://id.example/authorize?response_type=code&client_id=c&state=x",
        "https://id.example/authorize?code=true&client_id=c&code_challenge=y&state=x",
    ] {
        assert_eq!(Pasted::parse(text).expect_err(text), PasteError::NoCode, "{text:?}");
    }
}

#[test]
fn an_empty_paste_and_one_that_is_too_long_are_refused() {
    for text in ["", " \n\t", "``", "<>", "||||", "\u{200b}"] {
        assert_eq!(Pasted::parse(text).expect_err(text), PasteError::Empty, "{text:?}");
    }
    assert!(Pasted::parse(&"x".repeat(8 * 1024)).is_ok());
    assert_eq!(Pasted::parse(&"x".repeat(8 * 1024 + 1)).expect_err("too long"), PasteError::TooLong);
}

#[test]
fn no_paste_causes_a_panic() {
    let pieces = [
        "code=", "error=", "&", "#", "?", "%", "%F", "%ff", "```", "\n", "[", "](", ")", "||", "é", "://",
        "x",
    ];
    for a in pieces {
        for b in pieces {
            for c in pieces {
                for d in pieces {
                    let _ = Pasted::parse(&[a, b, c, d].concat());
                }
            }
        }
    }
}

#[test]
fn neither_debug_nor_an_error_shows_the_code_or_the_state() {
    let shown = format!("{:?}", Pasted::parse("s3cr3t-code#s3cr3t-state"));
    assert!(!shown.contains("s3cr3t"), "{shown}");
    let error = Pasted::parse("https://cb.example/?cod=s3cr3t&state=s3cr3t").expect_err("it has no code");
    assert!(!format!("{error:?} {error}").contains("s3cr3t"), "{error}");
}
