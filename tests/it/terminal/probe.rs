//! `token --probe`: the token is tried at the provider before it is handed out.

use super::Terminal;
use crate::support::{
    raw::{self, Ending, RawServer},
    upstream::Upstream,
};

/// Names the probe endpoint, and signs in again, because a sign-in binds it.
async fn configure(terminal: &Terminal, endpoint: &str) {
    terminal.configure(&format!("probe_endpoint = \"{endpoint}\"\n"));
    terminal.sign_in("local").await;
}

/// Starts an API that takes live tokens alone, and probes its `path`.
async fn probing(path: &str) -> (Terminal, Upstream) {
    let terminal = Terminal::start("").await;
    let server = terminal.server.clone();
    let api = Upstream::start(move |token| server.is_live(token)).await;
    configure(&terminal, &format!("{}{path}", api.base())).await;
    (terminal, api)
}

#[tokio::test]
async fn a_refused_token_is_replaced_and_a_good_one_is_probed_once_in_seconds() {
    let (mut terminal, api) = probing("/me").await;
    let first = terminal.token(&["--probe"]).await;
    assert_eq!(terminal.token(&["--probe"]).await, first);
    assert_eq!(api.seen().len(), 1, "the second command relies on the first one");
    terminal.advance(3);
    assert_eq!(terminal.token(&["--probe"]).await, first);
    assert_eq!(api.seen().len(), 2);
    terminal.kill_tokens();
    assert_eq!(terminal.token(&[]).await, first, "the clock alone finds it good");
    terminal.advance(3);
    let second = terminal.token(&["--probe"]).await;
    assert_ne!(second, first);
    assert!(terminal.server.is_live(&second));
    assert_eq!(terminal.refreshes(), 1);
    assert_eq!(api.seen()[0].headers["authorization"], format!("Bearer {first}"));
}

#[tokio::test]
async fn a_second_refusal_within_a_minute_breaks_no_hook() {
    let (mut terminal, _api) = probing("/me").await;
    terminal.kill_tokens();
    let second = terminal.token(&["--probe"]).await;
    terminal.kill_tokens();
    terminal.advance(4);
    let again = terminal.run_token(&["--probe"]).await;
    assert_eq!((again.code, again.stdout.trim_end()), (0, second.as_str()), "{again:?}");
    assert!(again.stderr.contains("no newer one can be had now"), "{again:?}");
    assert_eq!(terminal.refreshes(), 1);
    terminal.advance(61);
    let third = terminal.token(&["--probe"]).await;
    assert!(third != second && terminal.server.is_live(&third));
    assert_eq!(terminal.refreshes(), 2);
}

#[tokio::test]
async fn an_endpoint_that_refuses_every_token_costs_one_refresh() {
    let (mut terminal, api) = probing("/closed").await;
    let first = terminal.token(&[]).await;
    let second = terminal.token(&["--probe"]).await;
    assert_ne!(second, first);
    terminal.advance(120);
    assert_eq!(terminal.token(&["--probe"]).await, second);
    assert_eq!((terminal.refreshes(), api.seen().len()), (1, 2));
}

#[tokio::test]
async fn an_endpoint_that_refuses_every_token_costs_one_refresh_if_that_is_slow_too() {
    let (mut terminal, _api) = probing("/closed").await;
    let first = terminal.token(&[]).await;
    terminal.server.hold();
    assert_eq!(terminal.token(&["--probe"]).await, first, "the refresh goes on without its caller");
    terminal.server.release();
    let second = loop {
        let stored = terminal.token(&[]).await;
        if stored != first {
            break stored;
        }
    };
    for _ in 0..3 {
        terminal.advance(61);
        assert_eq!(terminal.token(&["--probe"]).await, second);
    }
    assert_eq!(terminal.refreshes(), 1);
}

#[tokio::test]
async fn an_answer_other_than_401_hands_out_the_token() {
    let mut terminal = Terminal::start("").await;
    let api = RawServer::start().await;
    configure(&terminal, &api.token_endpoint()).await;
    let first = terminal.token(&[]).await;
    for status in [200, 204, 400, 403, 404, 429, 500, 503] {
        api.answer(raw::json(status, "{}"), Ending::Close);
        terminal.advance(3);
        assert_eq!(terminal.token(&["--probe"]).await, first, "{status}");
    }
    let redirect = format!("location: {}\r\n", terminal.server.userinfo_endpoint());
    api.answer(raw::framed(302, &redirect, b""), Ending::Close);
    terminal.advance(3);
    assert_eq!(terminal.token(&["--probe"]).await, first, "no redirect is followed");
    assert_eq!((api.count(), terminal.refreshes()), (9, 0));
}

#[tokio::test]
async fn a_probe_without_an_answer_hands_out_the_token() {
    let mut terminal = Terminal::start("").await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let slow = format!("http://{}/me", silent.local_addr().unwrap());
    for endpoint in [slow.as_str(), "http://127.0.0.1:1/me"] {
        configure(&terminal, endpoint).await;
        let first = terminal.token(&[]).await;
        terminal.advance(3);
        assert_eq!(terminal.token(&["--probe"]).await, first, "{endpoint}");
    }
    assert_eq!(terminal.refreshes(), 0);
}

#[tokio::test]
async fn a_changed_client_gets_no_probe_of_an_earlier_token() {
    let (terminal, api) = probing("/me").await;
    let first = terminal.token(&[]).await;
    let config = terminal.server.config_toml("acme").replace("client_id = \"", "client_id = \"other-");
    terminal.home.configure(&format!("{config}probe_endpoint = \"{}/me\"\n", api.base()));
    assert_eq!(terminal.token(&["--probe"]).await, first);
    assert_eq!(api.seen().len(), 0);
}

#[tokio::test]
async fn a_probe_goes_with_no_report() {
    let terminal = Terminal::start("").await;
    let both = terminal.run_token(&["--probe", "--rejected", "-"]).await;
    assert_eq!(both.code, 2, "{both:?}");
}
