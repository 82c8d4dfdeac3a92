//! Workers as real processes: their rights, their ends, and the reports to their owners.
#![expect(
    clippy::disallowed_methods,
    reason = "the tests' own files and processes do not belong to the program"
)]

mod builtin;
#[cfg(target_os = "linux")]
mod escape;
mod folders;
#[cfg(target_os = "linux")]
mod hostile;
#[cfg(target_os = "linux")]
mod isolation;
mod life;
mod npm_agent;
mod tool_files;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use threadkey::{
    agent::{
        AgentSettings, Capabilities, Conversation, FolderNames, Holder, Isolation, McpServer, PromptError,
        TokenChanges, TokenRefusal, TokenSource, Update, WorkerLimits, Workers,
    },
    discord::Conversations,
    ids::{ConversationId, ProviderId, Snowflake},
    secret::AccessToken,
    tools::{NO_END, TokenValues},
};
use tokio::{sync::mpsc, time::timeout};

/// The limit of every wait. A test that reaches it fails.
const WAIT: Duration = Duration::from_secs(30);

/// The time of all these workers.
const NOW: i64 = 1_795_358_672;

/// The canary that the token source hands out.
const TOKEN: &str = "canary-access-token";

struct Tokens;

#[async_trait::async_trait]
impl TokenSource for Tokens {
    async fn token(&self, _: &Holder, _: &ProviderId) -> Result<TokenValues, TokenRefusal> {
        let (access_token, expires_at) = (AccessToken::new(TOKEN), NO_END);
        Ok(TokenValues { access_token, expires_at, account: None, scope: None, id_token: None })
    }

    fn changes(&self) -> Box<dyn TokenChanges> {
        Box::new(NoChanges)
    }

    fn now(&self) -> i64 {
        NOW
    }
}

struct NoChanges;

#[async_trait::async_trait]
impl TokenChanges for NoChanges {
    async fn next(&mut self) {
        std::future::pending().await
    }
}

/// Workers in a folder of their own.
struct WorkerRig {
    folder: tempfile::TempDir,
    capabilities: Arc<Capabilities>,
    names: Arc<Conversations>,
    workers: Workers,
}

impl WorkerRig {
    fn new(command: &[&str], change: impl FnOnce(&mut AgentSettings)) -> Self {
        let folder = tempfile::Builder::new().prefix("tk").tempdir().expect("a temporary folder can be made");
        let mut settings = settings(folder.path(), command);
        change(&mut settings);
        let capabilities = Arc::new(Capabilities::new());
        let map = folder.path().join("store/conversations.json");
        let names = Arc::new(Conversations::load(map).expect("an empty map"));
        let workers =
            Workers::new(settings, Arc::clone(&capabilities), Arc::new(Tokens), Arc::clone(&names) as _);
        Self { folder, capabilities, names, workers }
    }

    /// A worker that is a shell script: see [`script`].
    fn scripted(on_prompt: &str, change: impl FnOnce(&mut AgentSettings)) -> Self {
        Self::new(&["/bin/sh", "-c", &script(on_prompt)], change)
    }

    async fn prompt(&self, id: u64, text: &str) -> Result<mpsc::Receiver<Update>, PromptError> {
        let prompted = timeout(WAIT, self.workers.prompt(&conversation(id), text.to_owned())).await;
        prompted.expect("the worker starts or is refused")
    }

    async fn turn(&self, id: u64, text: &str) -> Turn {
        let mut updates = self.prompt(id, text).await.expect("the prompt is taken");
        Turn::read(&mut updates).await
    }

    /// The capability that a worker wrote to `capability` in its working folder.
    fn kept_capability(&self, id: u64) -> String {
        std::fs::read_to_string(self.own_folder(id).join("cwd/capability")).expect("the worker wrote it")
    }

    /// The folder of a conversation's worker.
    fn own_folder(&self, id: u64) -> PathBuf {
        let name = FolderNames::get(&*self.names, &conversation(id).folder_key());
        let root = std::fs::canonicalize(self.folder.path().join("agents")).expect("a worker ran");
        root.join(name.expect("a worker ran in the conversation"))
    }

    /// Waits until no worker is live.
    async fn empty(&self) {
        let empty = async {
            while !self.workers.live().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        timeout(WAIT, empty).await.expect("all workers end");
    }
}

fn settings(folder: &Path, command: &[&str]) -> AgentSettings {
    AgentSettings {
        title: "worker".to_owned(),
        command: command.iter().map(|part| (*part).to_owned()).collect(),
        providers: vec!["acme".parse().expect("a name")],
        isolation: if isolated() { Isolation::Auto } else { Isolation::None },
        routes: Vec::new(),
        mcp: Vec::new(),
        mcp_by_stdio: false,
        tools: Vec::new(),
        files: Vec::new(),
        env: BTreeMap::new(),
        root: folder.join("agents"),
        socket: folder.join("socket"),
        read: Vec::new(),
        deny: vec![folder.join("store")],
        max_workers: 4,
        max_workers_per_user: 4,
        limits: WorkerLimits::default(),
        idle: Duration::from_secs(600),
        keep_files: Duration::from_secs(30 * 24 * 3600),
        start_within: WAIT,
        max_turn: Duration::from_secs(3600),
        max_silence: Duration::from_secs(3600),
    }
}

/// Whether this machine can isolate workers. If it cannot, only the tests of isolation need it, and
/// the others run without.
fn isolated() -> bool {
    threadkey::sys::sandbox::supported().is_ok()
}

fn conversation(id: u64) -> Conversation {
    Conversation { id: ConversationId(Snowflake(id)), owner: Snowflake(100), shared_guild: None, agent: None }
}

/// A turn, read to its end.
#[derive(Debug, Default)]
struct Turn {
    text: String,
    tools: Vec<(String, String)>,
    done: Option<String>,
    crashed: Option<String>,
}

impl Turn {
    async fn read(updates: &mut mpsc::Receiver<Update>) -> Self {
        let mut turn = Self::default();
        while let Some(update) = next(updates).await {
            match update {
                Update::Text(text) => turn.text.push_str(&text),
                Update::Tool { title, status, .. } => turn.tools.push((title, status)),
                Update::Permission(question) => drop(question),
                Update::Failed(message) | Update::LimitReached(message) => turn.text.push_str(&message),
                Update::Done(reason) => turn.done = Some(reason),
                Update::Crashed(ending) => turn.crashed = Some(ending.to_string()),
            }
        }
        turn
    }
}

async fn next(updates: &mut mpsc::Receiver<Update>) -> Option<Update> {
    timeout(WAIT, updates.recv()).await.expect("the worker sends an update or ends")
}

/// Returns an ACP agent as a shell script. It runs `on_prompt` at each prompt, which may use `say
/// TEXT`, `note UPDATE` and `reply RESULT`, and may redefine the function `on_cancel`. `$id` is the
/// request's id and `$line` is the line.
pub(super) fn script(on_prompt: &str) -> String {
    let prelude = r#"
reply() { printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$1"; }
note() { printf '{"jsonrpc":"2.0","method":"session/update","params":{"sessionId":"s","update":%s}}\n' "$1"; }
say() { note "{\"sessionUpdate\":\"agent_message_chunk\",\"content\":{\"type\":\"text\",\"text\":\"$1\"}}"; }
done_with() { reply "{\"stopReason\":\"$1\"}"; }
on_cancel() { id=$prompt; done_with cancelled; }
"#;
    let serve = r#"
while read -r line; do
  id=$(printf '%s' "$line" | sed -E 's/.*"id":("[^"]*"|[0-9]+).*/\1/')
  case "$line" in
    *'"method":"initialize"'*) reply '{"protocolVersion":1,"agentCapabilities":{}}' ;;
    *'"method":"session/new"'*) reply '{"sessionId":"s"}' ;;
    *'"method":"session/cancel"'*) on_cancel ;;
    *'"method":"session/prompt"'*) prompt=$id; on_prompt ;;
  esac
done
"#;
    format!("{prelude}\non_prompt() {{\n{on_prompt}\n}}\n{serve}")
}
