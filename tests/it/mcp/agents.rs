//! ACP agents that are handed an MCP server of their owner's login: the real program, a real MCP server
//! with OAuth, and the official MCP client in the agents.

use std::{fs, path::Path};

use super::real::{Server, installed, redirected};
use crate::{
    support::{
        discord::{Channel, Person},
        npm::program,
    },
    team::{Team, enter},
};

/// A team whose agents `http` and `shim` have the MCP server, each in its own way.
async fn team(server: &Server) -> Team {
    let (package, scripts) = installed().await;
    let (node, script) = (program("node"), scripts.join("agent.mjs"));
    let real = fs::canonicalize(&node).unwrap();
    // If Node.js has a folder of its own, its libraries are beside `bin`.
    let installation = real.ancestors().nth(2).unwrap();
    let provider = format!("[providers.linear]\nmcp = {:?}\n", server.url);
    let agents = format!(
        "[agent]\nroot = \"workers\"\ndefault = \"http\"\nmcp = [\"linear\"]\nread = [{package:?}, {installation:?}]\n
         [agents.http]\ncommand = [{node:?}, {script:?}]\nenv = {{ TAKES_HTTP = \"yes\" }}\n
         [agents.shim]\ncommand = [{node:?}, {script:?}]\nenv = {{ SHOWS_SERVERS = \"yes\", TAKES_HTTP = \"yes\" }}\nmcp_transport = \"stdio\"\n"
    );
    Team::new(&provider, &agents).await
}

async fn sign_in(team: &Team, user: &Person) {
    let started = user.command(&team.general, "auth start", &[("provider", "linear")]).await;
    let link = started.link("Sign in to linear").expect("a link");
    let callback = redirected(&link).await;
    enter(&started, &callback).await.says("Signed in").await;
}

/// Opens a thread with an agent, and waits for the calls of its first prompt.
async fn ask(team: &Team, agent: &str) -> Channel {
    let options = [("prompt", "go"), ("agent", agent)];
    let text = team.alice.command(&team.general, "ask", &options).await.text();
    let id = text.split_once("<#").and_then(|(_, rest)| rest.split_once('>')).map(|(id, _)| id);
    let id: u64 = id.and_then(|id| id.parse().ok()).unwrap_or_else(|| panic!("no thread in {text:?}"));
    let thread = team.alice.threads(&team.general).into_iter().find(|thread| thread.id == id).unwrap();
    thread.wait_for_text("20 calls of linear by").await;
    thread
}

/// Returns the value of a variable of each process below a folder.
fn variables(below: &Path, name: &str) -> Vec<String> {
    let below = below.to_string_lossy().into_owned();
    let start = format!("{name}=");
    let environments = fs::read_dir("/proc").unwrap().flatten();
    let environments = environments.filter_map(|entry| fs::read(entry.path().join("environ")).ok());
    let mut found: Vec<String> = environments
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .filter(|text| {
            text.split('\0')
                .any(|pair| pair.strip_prefix("HOME=").is_some_and(|home| home.starts_with(&below)))
        })
        .filter_map(|text| text.split('\0').find_map(|pair| Some(pair.strip_prefix(&start)?.to_owned())))
        .collect();
    found.sort();
    found.dedup();
    found
}

fn arguments_of_all_processes() -> String {
    let all = fs::read_dir("/proc").unwrap().flatten();
    let all = all.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    all.map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " ") + "\n").collect()
}

/// Returns the texts of all files below a folder.
fn files_below(folder: &Path) -> String {
    let mut all = String::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            all += &files_below(&entry.path());
        } else if kind.is_file() {
            all += &String::from_utf8_lossy(&fs::read(entry.path()).unwrap_or_default());
        }
    }
    all
}

#[tokio::test]
async fn two_agents_call_a_real_mcp_server_across_an_expiry_with_one_refresh() {
    let server = Server::with(&["--sessions"], &[]).await;
    let team = team(&server).await;
    let bot = team.run().await;
    sign_in(&team, &team.alice).await;
    let (by_http, by_shim) = tokio::join!(ask(&team, "http"), ask(&team, "shim"));
    by_http.wait_for_text("20 calls of linear by http").await;
    by_shim.wait_for_text("20 calls of linear by stdio").await;
    server.post("expire").await;
    for thread in [&by_http, &by_shim] {
        team.alice.says(thread, "and now?");
    }
    for (thread, kind) in [(&by_http, "http"), (&by_shim, "stdio")] {
        crate::team::expect_messages(thread, &format!("20 calls of linear by {kind}"), 2).await;
    }
    assert_eq!(server.log("refresh").await.len(), 1);

    let workers = team.home.path().join("workers");
    let capabilities = variables(&workers, "THREADKEY_CAPABILITY");
    assert_eq!(capabilities.len(), 2, "the agents run");
    let tokens = server.get("tokens").await;
    let tokens = tokens.as_array().unwrap().iter().map(|token| token.as_str().unwrap().to_owned());
    let arguments = arguments_of_all_processes();
    assert!(arguments.contains("THREADKEY_MCP_SOCKET"), "an agent shows its servers: {arguments}");
    assert!(!arguments.contains("Bearer "), "{arguments}");
    let files = files_below(&workers);
    for secret in capabilities.iter().cloned().chain(tokens) {
        assert!(!arguments.contains(&secret) && !files.contains(&secret), "{secret}");
    }
    for capability in &capabilities {
        let (status, problem) = team.api(capability, "GET", "/v1/token/linear", "").await;
        assert_eq!((status, problem["code"].as_str()), (403, Some("provider_not_allowed")), "{problem}");
    }
    team.discord.assert_no_violations();
    let ended = bot.stop().await;
    assert_eq!(ended.code, 0, "{ended:?}");
}

#[tokio::test]
async fn an_agent_without_a_login_for_its_mcp_server_asks_for_it_first() {
    let server = Server::start().await;
    let team = team(&server).await;
    let bot = team.run().await;
    let options = [("prompt", "go"), ("agent", "shim")];
    let card = team.alice.command(&team.general, "ask", &options).await;
    let link = card.link("Sign in to linear").unwrap_or_else(|| panic!("{card:?}"));
    enter(&card, &redirected(&link).await).await.says("Signed in").await;
    let thread = team.alice.waits_for_threads(&team.general, 1).await.pop().unwrap();
    thread.wait_for_text("20 calls of linear by stdio").await;
    team.discord.assert_no_violations();
    bot.stop().await;
}

#[tokio::test]
async fn a_demand_for_more_scopes_reaches_the_agent_and_the_next_sign_in() {
    let server = Server::start().await;
    let team = team(&server).await;
    let bot = team.run().await;
    sign_in(&team, &team.alice).await;
    let thread = ask(&team, "shim").await;
    server.post("demand/mcp:write").await;
    team.alice.says(&thread, "and now?");
    thread.wait_for_text("the MCP server demands more scopes (mcp:write)").await;
    let options = [("provider", "linear")];
    // The demand is recorded by a task of its own.
    let asked = async {
        loop {
            let started = team.alice.command(&team.general, "auth start", &options).await;
            let link = started.link("Sign in to linear").expect("a link");
            if link.contains("mcp%3Awrite") {
                break link;
            }
            team.alice.command(&team.general, "auth cancel", &[]).await;
        }
    };
    let link =
        tokio::time::timeout(std::time::Duration::from_secs(30), asked).await.expect("it asks for more");
    assert!(link.contains("mcp%3Atools"), "{link}");
    bot.stop().await;
}
