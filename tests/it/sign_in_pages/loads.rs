//! Several loads of the callback: a reload, two tabs, and two processes that serve the pages. The
//! provider sees the code once.

use std::sync::Arc;

use async_trait::async_trait;
use reqwest::{Method, StatusCode};
use threadkey::{
    agent::Conversation,
    broker::{OwnerRights, PageError, RightsError, Standing},
    ids::{Principal, Snowflake},
};
use tokio::sync::Notify;

use super::{Pages, send};

/// Rights that the test makes known.
#[derive(Default)]
struct Later {
    asked: Notify,
    known: Notify,
}

#[async_trait]
impl OwnerRights for Later {
    async fn of(&self, _: &Conversation) -> Result<Standing, RightsError> {
        Ok(Standing { shares: false })
    }

    async fn of_principal(&self, _: Principal) -> Result<(), RightsError> {
        self.asked.notify_one();
        self.known.notified().await;
        Ok(())
    }

    async fn manages(&self, _: Snowflake, _: Snowflake) -> Result<(), RightsError> {
        Ok(())
    }
}

fn query_of(url: &str) -> &str {
    url.split_once('?').expect("a query").1
}

#[tokio::test]
async fn loads_of_the_callback_at_once_send_its_code_once_in_any_process() {
    let pages = Pages::start().await;
    let (_, link) = pages.link().await;
    let (cookie, callback) = pages.at_callback(&link, "alice").await;
    let (_, other) = pages.another_process().await;
    let there = callback.url.replace(&pages.url, &other);
    pages.rig.server.hold();
    let first = tokio::spawn({
        let (url, cookie) = (callback.url.clone(), cookie.clone());
        async move { send(Method::GET, &url, Some(&cookie)).await }
    });
    pages.rig.server.wait_for_held(1).await;
    for url in [&callback.url, &there] {
        let second = send(Method::GET, url, Some(&cookie)).await;
        assert_eq!(second.status, StatusCode::SERVICE_UNAVAILABLE, "{}", second.text);
        assert!(second.text.contains("by an earlier load of this page"), "{}", second.text);
    }
    pages.rig.server.release();
    let first = first.await.expect("a page");
    assert_eq!(first.status, StatusCode::OK, "{}", first.text);
    for url in [&callback.url, &there] {
        let late = send(Method::GET, url, Some(&cookie)).await;
        assert_eq!(late.status, StatusCode::GONE, "{}", late.text);
        assert!(!late.text.contains("class=\"digits\""));
    }
    assert_eq!((pages.rig.server.count(), pages.live_grants()), (1, 1), "the code was sent once");
}

#[tokio::test]
async fn a_load_that_began_before_another_one_ended_finds_the_code_used() {
    let pages = Pages::start().await;
    let (reply, link) = pages.link().await;
    let (cookie, callback) = pages.at_callback(&link, "alice").await;
    let (other, _) = pages.another_process().await;
    let mut slow = Vec::new();
    for broker in [pages.rig.broker.clone(), other] {
        let rights = Arc::new(Later::default());
        let load = {
            let (query, cookie) = (query_of(&callback.url).to_owned(), cookie.clone());
            let (rights, at) = (rights.clone(), callback.url.split('?').next().unwrap().parse().unwrap());
            async move { broker.browser_returned(&at, &query, &cookie, &*rights, || {}).await }
        };
        slow.push((tokio::spawn(load), rights.clone()));
        // It has read the record, in which no tokens wait.
        rights.asked.notified().await;
    }
    let page = send(Method::GET, &callback.url, Some(&cookie)).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.text);
    for (load, rights) in slow {
        rights.known.notify_one();
        let late = load.await.expect("no panic");
        assert!(matches!(late, Err(PageError::Used)), "{late:?}");
    }
    assert_eq!((pages.rig.server.count(), pages.live_grants()), (1, 1), "the code was sent once");
    let answer = pages.type_digits(&reply, &page.digits()).await;
    assert!(answer.contains("Signed in as `alice@example.com`"), "{answer}");
}

#[tokio::test]
async fn a_robot_that_loads_the_callback_without_the_cookie_spends_nothing() {
    let pages = Pages::start().await;
    let (_, link) = pages.link().await;
    let (cookie, callback) = pages.at_callback(&link, "alice").await;
    for method in [Method::GET, Method::HEAD, Method::GET] {
        let robot = send(method, &callback.url, None).await;
        assert!(robot.status.is_client_error(), "{}", robot.status);
    }
    assert_eq!(pages.rig.server.count(), 0, "the code is unspent");
    assert_eq!(send(Method::GET, &callback.url, Some(&cookie)).await.status, StatusCode::OK);
    let after = send(Method::GET, &callback.url, None).await;
    assert_eq!(after.status, StatusCode::FORBIDDEN, "a robot after the person learns nothing");
    assert_eq!((pages.rig.server.count(), pages.live_grants()), (1, 1));
}
