//! A real worker with curl, which holds no token.

use std::sync::Arc;

use threadkey::{
    agent::{AgentSettings, Capabilities, Isolation, McpServer, Update, WorkerLimits, Workers},
    discord::Conversations,
};

use super::*;

/// An ACP agent as a shell script that runs `on_prompt` at each prompt.
fn workers(rig: &Rig, on_prompt: &str, env: &[(&str, &str)], mcp: Vec<McpServer>) -> Workers {
    let folder = rig.folder.path();
    let command = ["/bin/sh", "-c", &crate::workers::script(on_prompt)];
    let is_isolated = threadkey::sys::sandbox::supported().is_ok();
    let settings = AgentSettings {
        title: "worker".to_owned(),
        command: command.map(str::to_owned).to_vec(),
        providers: vec!["acme".parse().expect("a name")],
        isolation: if is_isolated { Isolation::Auto } else { Isolation::None },
        routes: vec![name("acme")],
        mcp,
        mcp_by_stdio: false,
        tools: Vec::new(),
        files: Vec::new(),
        env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        root: folder.join("agents"),
        socket: rig.api.socket.clone(),
        read: Vec::new(),
        deny: Vec::new(),
        max_workers: 4,
        max_workers_per_user: 4,
        limits: WorkerLimits::default(),
        idle: Duration::from_secs(600),
        keep_files: Duration::from_secs(30 * 24 * 3600),
        start_within: WAIT,
        max_turn: Duration::from_secs(3600),
        max_silence: Duration::from_secs(3600),
    };
    let names = Arc::new(Conversations::load(folder.join("conversations.json")).expect("an empty map"));
    let capabilities: Arc<Capabilities> = rig.api.capabilities.clone();
    let tokens = WorkerTokens::new(rig.api.broker.clone(), Arc::new(WithoutBot));
    Workers::new(settings, capabilities, Arc::new(tokens), names)
}

/// Gives a worker of ALICE a prompt, and returns its text.
async fn turn(workers: &Workers, id: u64) -> String {
    turn_with(workers, id, "go").await
}

async fn turn_with(workers: &Workers, id: u64, prompt: &str) -> String {
    let conversation =
        Conversation { id: ConversationId(Snowflake(id)), owner: ALICE, shared_guild: None, agent: None };
    let prompted = timeout(WAIT, workers.prompt(&conversation, prompt.to_owned())).await.expect("in time");
    let mut updates = prompted.expect("the worker starts");
    let mut text = String::new();
    while let Some(update) = timeout(WAIT, updates.recv()).await.expect("the worker sends or ends") {
        match update {
            Update::Text(more) => text.push_str(&more),
            Update::Crashed(ending) => panic!("the worker crashed: {ending}"),
            _ => {}
        }
    }
    text
}

#[tokio::test]
async fn a_worker_without_a_token_uses_its_owners_login_across_an_expiry() {
    let on_prompt = r#"
a=$(curl -sS -o /dev/null -w '%{http_code}' -H "Authorization: Bearer $KEY" "$BASE/v1")
b=$(curl -sS -o /dev/null -w '%{http_code}' -H "Authorization: Bearer $NARROW" -d hello "$BASE/echo")
c=$(curl -sS -o /dev/null -w '%{http_code}' --unix-socket "$SOCK" -H "Authorization: token $KEY" http://api.github.com/user)
d=$(curl -sS -o /dev/null -w '%{http_code}' "$BASE/v1")
say "$a $b $c $d"; done_with end_turn"#;
    let rig = Rig::start().await;
    let env = [
        ("BASE", "{inject:acme}"),
        ("KEY", "{inject_secret}"),
        ("NARROW", "{inject_secret:acme}"),
        ("SOCK", "{inject_socket:acme}"),
    ];
    let workers = workers(&rig, on_prompt, &env, Vec::new());
    let tokens = WorkerTokens::new(rig.api.broker.clone(), Arc::new(WithoutBot));
    let server = InjectServer::new(vec![route(rig.upstream.base())], tokens).expect("TLS is in order");
    let server = Arc::new(server);
    workers.open_ports_by(server.clone());
    assert_eq!(turn(&workers, 1).await, "200 200 200 401");
    rig.kill_token();
    assert_eq!(turn(&workers, 1).await, "200 200 200 401");
    assert_eq!(rig.refreshes(), 1);
    assert_eq!(turn(&workers, 2).await, "200 200 200 401", "another worker has a port of its own");
    workers.shutdown().await;
    server.drain().await;
    let sockets = std::fs::read_dir(rig.folder.path().join("agents")).expect("the root");
    for own in sockets.flatten() {
        let left = std::fs::read_dir(own.path().join("sockets")).map(Iterator::count);
        assert_eq!(left.unwrap_or_default(), 0, "{own:?}");
    }
}

#[tokio::test]
async fn the_socket_of_an_mcp_server_serves_its_workers_own_processes_alone() {
    // The second process is in a session of its own. The third one has another worker's path.
    let on_prompt = r#"
ask() { "$@" curl -sS -o /dev/null -w '%{http_code}' --unix-socket "$SOCK" http://localhost/v1; }
a=$(ask); b=$(ask setsid -w); c=
case "$line" in */sockets/acme*) SOCK=$(printf '%s' "$line" | grep -o '/[^"]*/sockets/acme'); c=$(ask) ;; esac
say "$a $b $c"; done_with end_turn"#;
    let rig = Rig::start().await;
    let server =
        McpServer { provider: "acme".parse().expect("a name"), route: name("acme"), path: "/v1".into() };
    let env = [("SOCK", "{inject_socket:acme}")];
    let workers = workers(&rig, on_prompt, &env, vec![server]);
    let tokens = WorkerTokens::new(rig.api.broker.clone(), Arc::new(WithoutBot));
    let server = InjectServer::new(vec![route(rig.upstream.base())], tokens).expect("TLS is in order");
    workers.open_ports_by(Arc::new(server));
    assert_eq!(turn(&workers, 1).await.trim(), "200 200");

    // A process of the same user that knows the path, but is not the worker's.
    let root = std::fs::canonicalize(rig.folder.path().join("agents")).expect("the root");
    let path = std::fs::read_dir(&root).expect("the root").flatten();
    let path =
        path.map(|entry| entry.path().join("sockets/acme")).find(|path| path.exists()).expect("a socket");
    let mut stream = tokio::net::UnixStream::connect(&path).await.expect("it listens");
    let request = b"GET /v1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.expect("it reads");
    let mut answer = String::new();
    timeout(WAIT, stream.read_to_string(&mut answer)).await.expect("it answers").expect("text");
    assert_problem(&answer, 401, "unauthorized");
    // Newer kernels let another worker not even connect.
    let of_another = turn_with(&workers, 2, &path.to_string_lossy()).await;
    assert!(["200 200 401", "200 200 000"].contains(&of_another.trim()), "{of_another}");
    workers.shutdown().await;
}
