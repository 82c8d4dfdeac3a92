use super::*;

/// Sun, 22 Nov 2026 16:04:32 GMT.
const NOW: UnixTime = 1_795_363_472;

const A_YEAR: u64 = 365 * 86_400;

const REFRESHABLE: Circumstances = Circumstances { at: NOW, is_refreshable: true, longest: None };

/// Returns the lifetime in seconds.
fn of(members: &str, circumstances: &Circumstances) -> Option<u64> {
    with_token(members, "at", circumstances)
}

fn with_token(members: &str, access_token: &str, circumstances: &Circumstances) -> Option<u64> {
    let tokens = format!("{{{members}}}");
    let tokens = Object::parse(&tokens).expect("an object");
    lifetime(&tokens, access_token, circumstances).map(|lifetime| lifetime.as_secs())
}

fn jwt(claims: &str) -> String {
    format!("eyJhbGciOiJub25lIn0.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
}

#[test]
fn expires_in_is_a_number_of_seconds_or_its_text_and_garbage_is_none() {
    for (json, expected) in [
        ("3599", Some(3599)),
        ("3599.9", Some(3599)),
        ("3.6e3", Some(3600)),
        ("0.5", Some(1)),
        (r#""28800""#, Some(28_800)),
        (r#"" 60.0 ""#, Some(60)),
        ("0", None),
        (r#""0""#, None),
        ("-5", None),
        (r#""soon""#, None),
        (r#""NaN""#, None),
        (r#""inf""#, None),
        ("1e999", None),
        ("null", None),
        ("true", None),
        ("[3600]", None),
        ("{}", None),
    ] {
        assert_eq!(of(&format!(r#""expires_in":{json}"#), &REFRESHABLE), expected, "{json}");
    }
    assert_eq!(of("", &REFRESHABLE), None, "an unnamed lifetime is unknown, and no hour");
}

#[test]
fn a_time_of_expiry_counts_if_expires_in_is_useless() {
    for (json, expected) in [
        ("1795367072", Some(3600)),
        (r#""1795367072""#, Some(3600)),
        ("1795367072.75", Some(3600)),
        ("1795367072000", Some(3600)),
        (r#""1795367072000""#, Some(3600)),
        (r#""2026-11-22T17:04:32Z""#, Some(3600)),
        (r#""2026-11-22T17:04:32.123+00:00""#, Some(3600)),
        (r#""2026-11-22T18:04:32+01:00""#, Some(3600)),
        (r#""2026-11-22T17:04:32""#, Some(3600)),
        (r#""2026-11-22 17:04:32Z""#, Some(3600)),
        (r#""Sun, 22 Nov 2026 17:04:32 GMT""#, Some(3600)),
        ("1795363472", None),
        ("1795360000", None),
        (r#""2026-11-22T15:00:00Z""#, None),
        (r#""tomorrow""#, None),
        ("null", None),
        ("-1", None),
    ] {
        for name in INSTANTS {
            let member = format!(r#""{name}":{json}"#);
            assert_eq!(of(&member, &REFRESHABLE), expected, "{member}");
            assert_eq!(of(&format!(r#""expires_in":0,{member}"#), &REFRESHABLE), expected, "{member}");
            assert_eq!(of(&format!(r#""expires_in":60,{member}"#), &REFRESHABLE), Some(60), "{member}");
        }
    }
    let first_usable = r#""expires_at":"soon","expires_on":1,"expires":1795363532"#;
    assert_eq!(of(first_usable, &REFRESHABLE), Some(60));
}

#[test]
fn the_end_of_a_jwt_shortens_a_lifetime_and_never_lengthens_it() {
    let until = |seconds: i64| jwt(&format!(r#"{{"exp":{}}}"#, NOW + seconds));
    for (members, token, expected) in [
        ("", until(600), Some(600)),
        (r#""expires_in":3600"#, until(600), Some(600)),
        (r#""expires_in":3600"#, until(7200), Some(3600)),
        (r#""expires_in":3600"#, until(-10), Some(3600)),
        (r#""expires_in":3600"#, until(0), Some(3600)),
        ("", until(-10), None),
        (r#""expires_at":1795367072"#, until(60), Some(60)),
        ("", jwt(r#"{"exp":"soon"}"#), None),
        ("", jwt(r#"{"sub":"1"}"#), None),
        ("", jwt("no json"), None),
        ("", "a.b.c".to_owned(), None),
        ("", until(600).replace('.', "_"), None),
    ] {
        assert_eq!(with_token(members, &token, &REFRESHABLE), expected, "{members} {token}");
    }
}

#[test]
fn a_lifetime_above_a_year_is_in_milliseconds_or_is_a_year() {
    let refreshable = |seconds: u64| of(&format!(r#""expires_in":{seconds}"#), &REFRESHABLE);
    assert_eq!(refreshable(A_YEAR), Some(A_YEAR));
    assert_eq!(refreshable(A_YEAR + 1), Some(A_YEAR / 1000));
    assert_eq!(refreshable(36_000_000), Some(36_000), "ten hours");
    assert_eq!(refreshable(A_YEAR * 1000), Some(A_YEAR));
    assert_eq!(refreshable(A_YEAR * 1000 + 1000), Some(A_YEAR), "more than a year in milliseconds too");
    let lasting = Circumstances { is_refreshable: false, ..REFRESHABLE };
    assert_eq!(of(r#""expires_in":36000000"#, &lasting), Some(A_YEAR), "nothing would refresh it");
    assert_eq!(of(r#""expires_in":18446744073709551615"#, &lasting), Some(A_YEAR));
    assert_eq!(of(r#""expires_in":1e300"#, &REFRESHABLE), Some(A_YEAR));
    assert_eq!(of(r#""expires_at":"2099-01-01T00:00:00Z""#, &REFRESHABLE), Some(A_YEAR));
    assert_eq!(of(r#""expires_at":253402300799"#, &REFRESHABLE), None, "in milliseconds it was in 1978");
}

#[test]
fn max_lifetime_bounds_every_token_and_allows_more_than_a_year() {
    let longest = |seconds| Circumstances { longest: Some(Duration::from_secs(seconds)), ..REFRESHABLE };
    assert_eq!(of("", &longest(600)), Some(600), "of an unknown lifetime too");
    assert_eq!(of(r#""expires_in":3600"#, &longest(600)), Some(600));
    assert_eq!(of(r#""expires_in":60"#, &longest(600)), Some(60));
    assert_eq!(of(r#""expires_at":"2026-11-22T17:04:32Z""#, &longest(600)), Some(600));
    let two_years = 2 * A_YEAR;
    assert_eq!(of(&format!(r#""expires_in":{two_years}"#), &longest(3 * A_YEAR)), Some(two_years));
    assert_eq!(of(&format!(r#""expires_in":{}"#, 4 * A_YEAR), &longest(3 * A_YEAR)), Some(4 * A_YEAR / 1000));
    assert_eq!(of(r#""expires_in":36000000"#, &longest(90 * 86_400)), Some(36_000));
}

#[test]
fn the_end_of_a_refresh_token_is_read_from_each_known_member() {
    let end = |members: &str| {
        let tokens = format!("{{{members}}}");
        refresh_expiry(&Object::parse(&tokens).expect("an object"), NOW).map(|end| end - NOW)
    };
    for (members, expected) in [
        (r#""refresh_token_expires_in":15897600"#, Some(15_897_600)),
        (r#""refresh_expires_in":"1800""#, Some(1800)),
        (r#""x_refresh_token_expires_in":8726400"#, Some(8_726_400)),
        (r#""refresh_token_expires_at":1795363572"#, Some(100)),
        (r#""refreshTokenExpiresAt":1795363572000"#, Some(100)),
        (r#""refresh_token_expires_at":"2026-11-22T16:06:12Z""#, Some(100)),
        // Keycloak's offline tokens: no end.
        (r#""refresh_expires_in":0"#, None),
        (r#""refresh_token_expires_in":-1"#, None),
        (r#""refresh_token_expires_in":1e12"#, None),
        (r#""refresh_token_expires_at":1"#, None),
        (r#""refresh_token_expires_in":null"#, None),
        (r#""expires_in":3600"#, None),
    ] {
        assert_eq!(end(members), expected, "{members}");
    }
}
