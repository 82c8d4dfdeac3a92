//! The look-alike against Discord's own description of its API, and its small parts.

use serde_json::{Value, json};

use crate::support::discord::{Description as _, OpenApi, find_route, iso8601, templates};

#[test]
fn times_are_written_as_discord_writes_them() {
    assert_eq!(iso8601(0), "1970-01-01T00:00:00.000000+00:00");
    assert_eq!(iso8601(1_709_210_096_789), "2024-02-29T12:34:56.789000+00:00");
}

#[test]
fn every_route_of_the_look_alike_is_one_of_discords() {
    let Some(openapi) = OpenApi::load() else { return };
    for (method, template) in templates() {
        assert!(openapi.knows(method, template), "Discord has no {method} {template}");
    }
}

#[test]
fn a_literal_segment_wins_over_a_parameter() {
    let found = find_route("PATCH", "/webhooks/1/tok/messages/@original").expect("a known route");
    assert_eq!(found.template, "/webhooks/{webhook_id}/{webhook_token}/messages/@original");
    assert_eq!(found.text(1), "tok");
    assert!(find_route("GET", "/channels/1/invites").is_none());
}

#[test]
fn a_body_that_discord_does_not_describe_is_found() {
    let Some(openapi) = OpenApi::load() else { return };
    let route = find_route("POST", "/channels/1/threads").expect("a known route");
    let bad = openapi.faults_of_request(&route, &json!({"name": "x", "auto_archive_duration": 7}), "");
    assert!(!bad.is_empty(), "7 minutes is no archive duration");
    let good = openapi.faults_of_request(&route, &json!({"name": "x", "type": 12}), "");
    assert!(good.is_empty(), "{good:?}");
}

#[test]
fn an_unknown_or_mistyped_query_parameter_is_found() {
    let Some(openapi) = OpenApi::load() else { return };
    let route = find_route("GET", "/channels/1/messages").expect("a known route");
    assert!(openapi.faults_of_request(&route, &Value::Null, "limit=5").is_empty());
    assert_eq!(openapi.faults_of_request(&route, &Value::Null, "limit=x&nope=1").len(), 2);
}
