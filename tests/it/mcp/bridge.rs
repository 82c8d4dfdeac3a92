//! `threadkey mcp` in a terminal: an MCP server for any client of this machine.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout},
    time::timeout,
};

use super::{
    home,
    real::{Server, redirected},
    start,
};
use crate::support::program::Home;

const WAIT: std::time::Duration = std::time::Duration::from_secs(30);

/// A running `threadkey mcp`, and the client's side of it.
struct Bridge {
    child: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
}

impl Bridge {
    fn start(home: &Home) -> Self {
        let mut command = home.command(&["mcp", "linear"]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { input: child.stdin.take(), output, child }
    }

    async fn send(&mut self, message: &Value) {
        self.send_line(&message.to_string()).await;
    }

    async fn send_line(&mut self, line: &str) {
        let input = self.input.as_mut().unwrap();
        input.write_all(line.as_bytes()).await.unwrap();
        input.write_all(b"\n").await.unwrap();
    }

    async fn request(&mut self, id: u64, method: &str, params: Value) {
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})).await;
    }

    async fn call(&mut self, id: u64, tool: &str) {
        self.request(id, "tools/call", json!({"name": tool, "arguments": {}})).await;
    }

    async fn next(&mut self) -> Value {
        let line =
            timeout(WAIT, self.output.next_line()).await.expect("it answers").unwrap().expect("it runs");
        serde_json::from_str(&line).unwrap()
    }

    /// Begins a session.
    async fn initialize(&mut self) {
        let info = json!({"name": "test", "version": "1"});
        let params =
            json!({"protocolVersion": "2025-11-25", "capabilities": {"roots": {}}, "clientInfo": info});
        self.request(0, "initialize", params).await;
        let answer = self.next().await;
        assert_eq!(answer["result"]["serverInfo"]["name"], "test", "{answer}");
        self.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
    }

    /// Ends the input, and returns the exit code.
    async fn end(mut self) -> i32 {
        drop(self.input.take());
        timeout(WAIT, self.child.wait()).await.expect("it ends").unwrap().code().unwrap_or(-1)
    }
}

async fn signed_in(server: &Server) -> Home {
    let home = home(&server.url, "");
    let started: Value = serde_json::from_str(&start(&home).await.stdout).unwrap();
    let callback = redirected(started["authorize_url"].as_str().unwrap()).await;
    let done = home.run_with(&["auth", "code"], &callback).await;
    assert_eq!(done.code, 0, "{done:?}");
    home
}

fn text(answer: &Value) -> &str {
    answer["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{answer}"))
}

#[tokio::test]
async fn a_client_of_this_machine_calls_tools_across_an_expiry() {
    let server = Server::start().await;
    let home = signed_in(&server).await;
    let mut bridge = Bridge::start(&home);
    bridge.initialize().await;
    bridge.call(1, "greet").await;
    assert_eq!(text(&bridge.next().await), "hello");
    server.post("expire").await;
    for id in 2..10 {
        bridge.call(id, "greet").await;
    }
    for _ in 2..10 {
        assert_eq!(text(&bridge.next().await), "hello");
    }
    assert_eq!(server.log("refresh").await.len(), 1);
    assert_eq!(bridge.end().await, 0);
}

#[tokio::test]
async fn streams_and_server_requests_pass_and_a_session_is_begun_again_and_ended() {
    let server = Server::with(&["--sessions"], &[]).await;
    let home = signed_in(&server).await;
    let mut bridge = Bridge::start(&home);
    bridge.initialize().await;
    // An answer that waits holds up no other one, and its news come first.
    bridge.call(1, "wait").await;
    assert_eq!(bridge.next().await["params"]["data"], "waiting");
    bridge.call(2, "ask").await;
    let asked = bridge.next().await;
    assert_eq!(asked["method"], "roots/list");
    bridge
        .send(&json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"roots": [{"uri": "file:///a"}]}}))
        .await;
    assert_eq!(text(&bridge.next().await), "1 roots");
    server.post("release").await;
    assert_eq!(text(&bridge.next().await), "released");
    server.post("forget").await;
    bridge.call(3, "greet").await;
    assert_eq!(text(&bridge.next().await), "hello", "a lost session is begun again");
    assert_eq!(bridge.end().await, 0);
    let requests = server.log("http").await;
    let of = |method: &str| requests.iter().filter(|entry| entry["method"] == method).count();
    assert_eq!(of("DELETE"), 1, "{requests:?}");
    let call = requests.iter().find(|entry| entry["message"] == "tools/call").unwrap();
    let header = |name: &str| call["headers"][name].as_str().unwrap_or_default();
    assert_eq!(header("mcp-protocol-version"), "2025-11-25");
    assert_eq!((header("mcp-method"), header("mcp-name")), ("tools/call", "wait"));
    assert!(!header("mcp-session-id").is_empty());
}

#[tokio::test]
async fn the_servers_own_messages_arrive_and_a_cancelled_request_ends() {
    let server = Server::with(&["--sessions"], &[]).await;
    let home = signed_in(&server).await;
    let mut bridge = Bridge::start(&home);
    bridge.initialize().await;
    // The stream for the server's own messages is open once the server has the GET.
    let opened = async {
        while !server.log("http").await.iter().any(|entry| entry["method"] == "GET") {
            tokio::task::yield_now().await;
        }
    };
    timeout(WAIT, opened).await.expect("it listens");
    server.post("announce").await;
    assert_eq!(bridge.next().await["method"], "notifications/tools/list_changed");
    bridge.call(1, "wait").await;
    assert_eq!(bridge.next().await["params"]["data"], "waiting");
    let cancelled =
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}});
    bridge.send(&cancelled).await;
    bridge.call(2, "greet").await;
    assert_eq!(bridge.next().await["id"], 2, "the cancelled request has no answer");
    assert_eq!(server.log("cancelled").await.len(), 1);
    assert_eq!(bridge.end().await, 0);
}

#[tokio::test]
async fn errors_of_the_bridge_have_the_requests_id_and_the_next_step() {
    let server = Server::start().await;
    let home = home(&server.url, "");
    let mut bridge = Bridge::start(&home);
    bridge.send_line("no JSON").await;
    let answer = bridge.next().await;
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&Value::Null, &json!(-32700)));
    bridge.send_line(&format!("{{\"id\":1,\"x\":\"{}\"}}", "x".repeat(17 << 20))).await;
    assert_eq!(bridge.next().await["error"]["message"], "a line is longer than 16 MiB");
    bridge.send_line(r#"{"jsonrpc":"2.0","id":"a-1","method":"ping"}"#).await;
    let answer = bridge.next().await;
    assert_eq!(
        (answer["id"].as_str(), answer["error"]["data"]["code"].as_str()),
        (Some("a-1"), Some("no_session"))
    );
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("threadkey auth start linear"), "{message}");
    assert_eq!(bridge.end().await, 0);

    let home = signed_in(&server).await;
    let mut bridge = Bridge::start(&home);
    server.post("demand/mcp:write").await;
    bridge.request(7, "ping", json!({})).await;
    let answer = bridge.next().await;
    let message = answer["error"]["message"].as_str().unwrap_or_default();
    assert_eq!(answer["id"], 7);
    assert!(message.contains("mcp:write") && message.contains("--scope"), "{answer}");
}

#[tokio::test]
async fn mcp_explains_a_wrong_name_and_a_worker_without_an_offer() {
    let home = Home::new("[providers.linear]\nmcp = \"https://mcp.example/mcp\"\n");
    let wrong = home.run(&["mcp", "linaer"]).await;
    assert!(wrong.code == 2 && wrong.stderr.contains("did you mean linear?"), "{wrong:?}");
    let worker = [("THREADKEY_SOCKET", "/nowhere"), ("THREADKEY_CAPABILITY", "x")];
    let refused = home.run_in(&["mcp", "linear"], "", &worker).await;
    assert!(refused.code == 2 && refused.stderr.contains("mcp = [\"linear\"]"), "{refused:?}");
}
