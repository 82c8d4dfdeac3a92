//! The metrics: what they count, and what they do not show.

use threadkey::ids::Principal;

use super::{ALL, get, rig};
use crate::api::{ALICE, Rig};

async fn scrape(rig: &Rig) -> String {
    let answer = get(rig, "/metrics", ALL).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.head.contains("content-type: text/plain; version=0.0.4"), "{answer:?}");
    answer.body.as_str().unwrap().to_owned()
}

/// The value of a sample, whose labels are written in order.
fn value(text: &str, sample: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{sample} is not in:\n{text}")).parse().unwrap()
}

#[tokio::test]
async fn the_metrics_count_refreshes_requests_and_sessions_by_state() {
    let rig = rig(None).await;
    let _worker = rig.worker(1, ALICE, None);
    rig.clock.advance(86_400);
    assert_eq!(get(&rig, "/v1/token/acme?principal=user:803", ALL).await.status, 200);
    assert_eq!(get(&rig, "/v1/token/acme?principal=local", ALL).await.status, 404);
    let text = scrape(&rig).await;
    assert_eq!(value(&text, r#"threadkey_refreshes_total{provider="acme",outcome="refreshed"}"#), 1.0);
    assert_eq!(
        value(&text, r#"threadkey_refresh_duration_seconds_count{provider="acme",outcome="refreshed"}"#),
        1.0
    );
    for status in ["200", "404"] {
        let sample =
            format!(r#"threadkey_api_requests_total{{route="/v1/token/{{provider}}",status="{status}"}}"#);
        assert_eq!(value(&text, &sample), 1.0);
    }
    assert_eq!(value(&text, r#"threadkey_sessions{provider="acme",state="ready"}"#), 2.0);
    assert_eq!(value(&text, r#"threadkey_sessions_dead{provider="acme"}"#), 0.0);
    for (sample, expected) in [
        ("workers", 1.0),
        ("waiters", 0.0),
        ("refreshes_in_progress", 0.0),
        ("unsaved_sessions", 0.0),
        ("lock_wait_seconds_count", 0.0),
    ] {
        assert_eq!(value(&text, &format!("threadkey_{sample}")), expected, "{sample}");
    }
}

#[tokio::test]
async fn the_time_to_expiry_counts_down_and_the_age_up_between_scrapes() {
    let rig = rig(None).await;
    let figures = async || {
        let text = scrape(&rig).await;
        let left = value(&text, r#"threadkey_token_time_to_expiry_seconds{provider="acme"}"#);
        (left, value(&text, r#"threadkey_token_age_seconds{provider="acme"}"#))
    };
    let (left, age) = figures().await;
    rig.clock.advance(100);
    assert_eq!(figures().await, (left - 100.0, age + 100.0));
    rig.clock.advance(86_400);
    assert!(figures().await.0 < 0.0, "past the expiry it is negative");
}

#[tokio::test]
async fn no_user_secret_or_path_is_in_the_metrics() {
    let rig = rig(None).await;
    rig.sign_in(Principal::Local, "carol").await;
    let _ = get(&rig, "/v1/token/acme?principal=user:803", ALL).await;
    let _ = get(&rig, "/canary/path", ALL).await;
    let _ = get(&rig, "/v1/token/canary?principal=local", ALL).await;
    let text = scrape(&rig).await;
    for hidden in ["803", "alice", "carol", "canary", "local", ALL, "user:"] {
        assert!(!text.contains(hidden), "{hidden} is in:\n{text}");
    }
    assert_eq!(value(&text, r#"threadkey_api_requests_total{route="none",status="404"}"#), 1.0);
}
