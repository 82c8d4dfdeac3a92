//! Servers that do not answer: starts share one discovery, its failure, and a limit.

use std::time::Duration;

use serde_json::json;
use threadkey::{broker::StartError, oauth::DiscoveryError, sys::clock::Clock};
use tokio::{task::yield_now, time::Instant};

use super::scripted::{ISSUER_AT, NOW, RESOURCE_AT, Scripted, tenant, user};

/// Waits until the server has this request.
async fn until_asked(server: &Scripted, line: &str) {
    while server.requests(line).is_empty() {
        yield_now().await;
    }
}

#[tokio::test]
async fn starts_that_wait_for_a_discovery_share_its_failure() {
    let server = Scripted::confidential().await;
    // No other request comes, so it never answers.
    server.gather(RESOURCE_AT, 2);
    let (folder, clock) = (tempfile::tempdir().unwrap(), Clock::fixed(NOW));
    let broker = server.process(folder.path(), &clock);
    let start = |id| {
        let broker = broker.clone();
        tokio::spawn(async move { broker.start(&tenant(id), user(id)).await })
    };
    let line = format!("GET {RESOURCE_AT}");
    let mut starts = vec![start(1)];
    until_asked(&server, &line).await;
    starts.extend((2..=5).map(start));
    // The clock goes on when every start waits.
    tokio::time::pause();
    for start in starts {
        let refused = start.await.unwrap().map(drop).expect_err("the server does not answer");
        assert!(refused.to_string().contains("did not send the document within 10 s"), "{refused}");
    }
    assert_eq!(server.requests(&line).len(), 1);
}

#[tokio::test]
async fn a_start_ends_after_30_s_at_authorization_servers_that_do_not_answer() {
    let server = Scripted::confidential().await;
    let issuers: Vec<String> = (1..=8).map(|n| format!("{{base}}/{n}")).collect();
    server.set((RESOURCE_AT, 200, "", json!({"resource": "{base}/mcp", "authorization_servers": issuers})));
    for n in 1..=8 {
        server.gather(&format!("{ISSUER_AT}/{n}"), 100);
    }
    let (folder, clock) = (tempfile::tempdir().unwrap(), Clock::fixed(NOW));
    let broker = server.process(folder.path(), &clock);
    let begun = Instant::now();
    let start = tokio::spawn(async move { broker.start(&tenant(1), user(1)).await });
    until_asked(&server, &format!("GET {ISSUER_AT}/1")).await;
    tokio::time::pause();
    let refused = start.await.unwrap().map(drop).expect_err("no server answers");
    let is_too_slow = |problem: &DiscoveryError| matches!(problem, DiscoveryError::TooSlow { .. });
    assert!(
        matches!(&refused, StartError::Undiscovered { problem, .. } if is_too_slow(problem)),
        "{refused}"
    );
    assert!(refused.to_string().contains("longer than 30 s together"), "{refused}");
    assert!(begun.elapsed() < Duration::from_secs(60), "the clock is the test's");
}
