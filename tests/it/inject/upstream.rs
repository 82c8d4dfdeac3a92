//! Upstreams that close their connections, that have a certificate of an own authority, or that only a
//! proxy reaches; and routes whose tokens do not come from a session.

use tokio::net::TcpListener;

use super::*;
use crate::{
    support::{
        authserver::{AuthServer, Reply},
        discord::Options,
        network::{Authority, Proxy, ProxyOptions, with_tls},
    },
    team::{Team, authserver, scripted_agent},
};

/// Reads a request without a body. Returns its head, or nothing at the end of the connection.
pub(super) async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match timeout(WAIT, stream.read_u8()).await.expect("in time") {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).expect("text")
}

pub(super) async fn answer(stream: &mut TcpStream) {
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.expect("it reads");
}

pub(super) async fn accept(listener: &TcpListener) -> TcpStream {
    timeout(WAIT, listener.accept()).await.expect("it connects").expect("it is open").0
}

/// Starts a proxy to an upstream, of which one connection is kept.
async fn with_kept_connection() -> (Rig, InjectAccess, TcpListener, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("it is bound");
    let rig = Rig::with(|_| vec![route(&format!("http://{address}"))]).await;
    let access = rig.open().await;
    let first = async {
        let mut stream = accept(&listener).await;
        assert!(!read_head(&mut stream).await.is_empty());
        answer(&mut stream).await;
        stream
    };
    let (asked, kept) = tokio::join!(ask(&access, "GET /inject/acme/v1", ""), first);
    assert!(asked.starts_with("HTTP/1.1 200 "), "{asked}");
    (rig, access, listener, kept)
}

#[tokio::test]
async fn a_request_that_may_be_repeated_survives_the_close_of_a_kept_connection() {
    for (line, more) in [
        ("GET /inject/acme/v1", ""),
        ("DELETE /inject/acme/v1", ""),
        ("PUT /inject/acme/v1", "Content-Length: 3\r\n"),
    ] {
        let (_rig, access, listener, mut kept) = with_kept_connection().await;
        let upstream = async {
            assert!(!read_head(&mut kept).await.is_empty(), "the request leaves on the kept connection");
            drop(kept);
            let mut new = accept(&listener).await;
            let head = read_head(&mut new).await;
            if head.contains("content-length: 3") || head.contains("transfer-encoding") {
                let mut body = Vec::new();
                while !body.windows(3).any(|part| part == b"abc") {
                    body.push(new.read_u8().await.expect("the body comes again"));
                }
            }
            answer(&mut new).await;
            head
        };
        let body = if more.is_empty() { "" } else { "abc" };
        let request = head(&access, line, more) + body;
        let (answer, head) = tokio::join!(exchange(&access, &request), upstream);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{line}: {answer}");
        assert!(head.contains("authorization: Bearer "), "{head}");
    }
}

#[tokio::test]
async fn a_post_or_a_broken_answer_is_not_repeated() {
    let (_rig, access, _listener, mut kept) = with_kept_connection().await;
    let upstream = async {
        assert!(!read_head(&mut kept).await.is_empty());
        drop(kept);
    };
    let post = ask(&access, "POST /inject/acme/v1", "Content-Length: 0\r\n");
    let (answered, ()) = tokio::join!(post, upstream);
    assert_problem(&answered, 502, "upstream_unavailable");

    let (_rig, access, _listener, mut kept) = with_kept_connection().await;
    let upstream = async {
        assert!(!read_head(&mut kept).await.is_empty());
        kept.write_all(b"HTTP/1.1 20").await.expect("it reads");
        kept.shutdown().await.expect("it is open");
    };
    let (answered, ()) = tokio::join!(ask(&access, "GET /inject/acme/v1", ""), upstream);
    assert_problem(&answered, 502, "upstream_unavailable");
}

#[tokio::test]
async fn a_server_that_closes_each_new_connection_is_asked_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("it is bound");
    let rig = Rig::with(|_| vec![route(&format!("http://{address}"))]).await;
    let access = rig.open().await;
    let upstream = async {
        let mut stream = accept(&listener).await;
        assert!(!read_head(&mut stream).await.is_empty());
    };
    let (answered, ()) = tokio::join!(ask(&access, "GET /inject/acme/v1", ""), upstream);
    assert_problem(&answered, 502, "upstream_unavailable");
    assert!(timeout(Duration::from_millis(100), listener.accept()).await.is_err(), "no other connection");
}

/// An agent that asks a URL with its secret, and reports the status.
const ASKS: &str = r#"
status() { curl -sS -o /dev/null -w '%{http_code}' -H "Authorization: Bearer $KEY" "$1" 2>/dev/null; }
say "ONE $(status "$ONE/v1") TWO $(status "$TWO/v1") THREE $(status "$TWO/closed")"; done_with end_turn"#;

/// A team whose agent has two routes.
async fn team(server: &AuthServer, more_providers: &str, routes: &str) -> Team {
    let provider = server.config_toml("acme") + more_providers;
    let env = "\n[agent.env]\nKEY = \"{inject_secret}\"\nONE = \"{inject:one}\"\nTWO = \"{inject:two}\"\n";
    let agent = scripted_agent(ASKS) + env + routes;
    let everyone = |_: &_, _: &_| "allow_everyone = true\n".to_owned();
    Team::with_rights(&provider, &agent, Options::default(), everyone).await
}

#[tokio::test]
async fn an_upstream_with_an_own_authority_is_reached_straight_and_through_an_http_proxy() {
    let server = std::sync::Arc::new(authserver().await);
    let of = server.clone();
    let upstream = Upstream::start(move |token| of.is_live(token)).await;
    let address = upstream.base().trim_start_matches("http://").parse().expect("an address");
    let authority = Authority::new();
    let near = with_tls(authority.issue(&["127.0.0.1"]), address).await;
    let far = with_tls(authority.issue(&["api.example.test"]), address).await;
    let proxy = Proxy::start(ProxyOptions::default(), &[("api.example.test:443", far)]).await;
    let route = |name: &str, upstream: &str| {
        format!("[inject.{name}]\nprovider = \"acme\"\nupstream = \"{upstream}\"\nca_file = \"ca.pem\"\n")
    };
    let routes = route("one", &format!("https://{near}")) + &route("two", "https://api.example.test");
    let team = team(&server, "", &routes).await;
    std::fs::write(team.home.path().join("ca.pem"), authority.pem()).expect("a file");
    let bot = team
        .run_with(&[("HTTPS_PROXY", &format!("http://{}", proxy.address())), ("NO_PROXY", "127.0.0.1")])
        .await;
    team.sign_in(&team.alice, "alice").await;
    let thread = team.ask(&team.alice, "go").await;
    thread.wait_for_text("ONE 200 TWO 200").await;
    assert_eq!(proxy.count("api.example.test:443"), 1, "the connection is kept");
    assert!(upstream.seen().iter().all(|seen| seen.is_live), "{:?}", upstream.seen());
    bot.stop().await;
    // Without the file the authority is not trusted.
    let config = std::fs::read_to_string(team.home.path().join("threadkey.toml")).expect("a file");
    team.home.configure(&config.replace("ca_file = \"ca.pem\"\n", ""));
    let _bot = team.run_with(&[("HTTPS_PROXY", &format!("http://{}", proxy.address()))]).await;
    let thread = team.ask(&team.alice, "go").await;
    thread.wait_for_text("ONE 502 TWO 502").await;
}

#[tokio::test]
async fn a_route_puts_in_a_token_of_the_environment_or_one_by_exchange() {
    let server = authserver().await;
    let upstream = Upstream::start(|token| ["env-token-1", "exchanged-1"].contains(&token)).await;
    let route = |name: &str, provider: &str| {
        format!("[inject.{name}]\nprovider = {provider:?}\nupstream = {:?}\n", upstream.base())
    };
    let more = server.config_toml("ci")
        + "token_env = \"CI_TOKEN\"\ntoken_env_for = [\"user:ALICE\"]\n[providers.docs]\nexchange_from = \"acme\"\naudience = [\"docs\"]\n";
    let team = team(&server, &more, &(route("one", "docs") + &route("two", "ci"))).await;
    let file = team.home.path().join("threadkey.toml");
    let config = std::fs::read_to_string(&file).expect("a file");
    let alice = threadkey::ids::Snowflake(team.alice.id).to_string();
    let all = "providers = [\"acme\", \"docs\", \"ci\"]";
    team.home.configure(&config.replace("ALICE", &alice).replace("providers = [\"acme\"]", all));
    let bot = team.run_with(&[("CI_TOKEN", "env-token-1")]).await;
    team.sign_in(&team.alice, "alice").await;
    server.script([Reply::Json(
        200,
        serde_json::json!({
            "access_token": "exchanged-1", "token_type": "Bearer", "expires_in": 600,
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        }),
    )]);
    let thread = team.ask(&team.alice, "go").await;
    // An endpoint that refuses the token of the environment gives its own 401.
    thread.wait_for_text("ONE 200 TWO 200 THREE 401").await;
    let shown = |seen: &Seen| seen.headers.get("authorization").cloned().unwrap_or_default();
    let tokens: Vec<_> = upstream.seen().iter().map(shown).collect();
    assert_eq!(tokens[..2], ["Bearer exchanged-1", "Bearer env-token-1"]);
    bot.stop().await;
}
