//! Lifetimes that are unnamed, impossible, or in another unit, and the type of a token.

use std::time::Duration;

use threadkey::session::UNKNOWN_EXPIRY;

use super::Rig;
use crate::support::raw::{Ending, json};

const DAY: i64 = 86_400;

/// Refreshes with an answer that has these members besides the pair. Returns the lifetime of the
/// new token, in seconds; `None` if it is unknown.
async fn lifetime(rig: &Rig, members: &str) -> Option<i64> {
    let body = format!(r#"{{"access_token":"at-2","refresh_token":"rt-2"{members}}}"#);
    rig.server.answer(json(200, &body), Ending::Close);
    let lease = rig.token().await.unwrap();
    assert_eq!(lease.access_token.expose(), "at-2", "{members}");
    (lease.expires_at != UNKNOWN_EXPIRY).then(|| lease.expires_at - rig.clock.now())
}

#[tokio::test]
async fn a_token_of_unnamed_lifetime_is_served_for_years_without_a_request() {
    for members in ["", r#","expires_in":0"#, r#","expires_in":"soon""#, r#","expires_in":null"#] {
        let rig = Rig::start().await;
        assert_eq!(lifetime(&rig, members).await, None, "{members}");
        for days in [1, 30, 3650] {
            rig.clock.advance(days * DAY);
            assert_eq!(rig.token().await.unwrap().access_token.expose(), "at-2", "{members}");
        }
        assert_eq!(rig.server.count(), 1, "{members}");
    }
}

#[tokio::test]
async fn a_grant_never_expires_on_arrival() {
    let past = |rig: &Rig, by: i64| rig.clock.now() - by;
    for (name, by) in [("expires_at", 0), ("expires_at", 10), ("expires_on", DAY), ("expires", 1)] {
        let rig = Rig::start().await;
        let members = format!(r#","{name}":{}"#, past(&rig, by));
        assert_eq!(lifetime(&rig, &members).await, None, "{members}");
    }
    let rig = Rig::start().await;
    assert_eq!(lifetime(&rig, r#","expires_in":0.2"#).await, Some(1));
}

#[tokio::test]
async fn a_time_of_expiry_is_used_in_seconds_milliseconds_and_words() {
    let rig = Rig::start().await;
    let end = rig.clock.now() + 7200;
    let words = httpdate::fmt_http_date(std::time::UNIX_EPOCH + Duration::from_secs(end.unsigned_abs()));
    for member in [
        format!(r#","expires_at":{end}"#),
        format!(r#","expires_on":"{end}""#),
        format!(r#","expires":{end}000"#),
        format!(r#","expires_in":-1,"expires_at":"{words}""#),
    ] {
        let rig = Rig::start().await;
        assert_eq!(lifetime(&rig, &member).await, Some(7200), "{member}");
    }
}

#[tokio::test]
async fn a_lifetime_in_milliseconds_is_recognised_and_none_is_longer_than_a_year() {
    for (expires_in, expected) in
        [(36_000_000_i64, 36_000), (365 * DAY, 365 * DAY), (9_999_999_999_999, 365 * DAY)]
    {
        let rig = Rig::start().await;
        assert_eq!(lifetime(&rig, &format!(r#","expires_in":{expires_in}"#)).await, Some(expected));
    }
}

#[tokio::test]
async fn the_longest_lifetime_of_the_settings_bounds_an_unknown_one_too() {
    for (members, expected) in
        [("", 90 * DAY), (r#","expires_in":60"#, 60), (r#","expires_in":31536000"#, 90 * DAY)]
    {
        let rig = Rig::with(|settings| settings.max_lifetime = Some(Duration::from_secs(90 * 86_400))).await;
        assert_eq!(lifetime(&rig, members).await, Some(expected), "{members}");
    }
}

#[tokio::test]
async fn a_token_type_that_is_no_scheme_is_handed_out_as_bearer() {
    for (token_type, scheme) in [
        ("user", "Bearer"),
        ("bot", "Bearer"),
        ("BearerToken", "Bearer"),
        ("N_A", "Bearer"),
        ("dpop", "DPoP"),
    ] {
        let rig = Rig::start().await;
        lifetime(&rig, &format!(r#","expires_in":60,"token_type":"{token_type}""#)).await;
        assert_eq!(rig.session().await.token_type, scheme, "{token_type}");
        assert_eq!(rig.token().await.unwrap().token_type, scheme, "{token_type}");
    }
}
