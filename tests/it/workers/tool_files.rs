//! Workers that change their homes while threadkey writes files with tokens into them.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use threadkey::{
    agent::{AgentFile, FileText},
    secret::Scrubber,
    tools,
};
use tokio::sync::watch;

use super::*;

/// A source whose token is another one after each change.
struct Rotating {
    /// The number of the last token that was handed out.
    count: AtomicU64,
    changes: watch::Sender<u64>,
    /// Whether there is a token.
    is_live: std::sync::atomic::AtomicBool,
}

#[async_trait::async_trait]
impl TokenSource for Rotating {
    async fn token(&self, _: &Holder, _: &ProviderId) -> Result<TokenValues, TokenRefusal> {
        if !self.is_live.load(Ordering::SeqCst) {
            return Err(TokenRefusal { reason: "signed out".to_owned(), is_final: true });
        }
        let number = *self.changes.borrow();
        self.count.fetch_max(number, Ordering::SeqCst);
        let (access_token, expires_at) = (AccessToken::new(format!("rotating-token-{number}")), NO_END);
        Ok(TokenValues { access_token, expires_at, account: None, scope: None, id_token: None })
    }

    fn changes(&self) -> Box<dyn TokenChanges> {
        Box::new(Changes(self.changes.subscribe()))
    }

    fn now(&self) -> i64 {
        NOW
    }
}

struct Changes(watch::Receiver<u64>);

#[async_trait::async_trait]
impl TokenChanges for Changes {
    async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

/// A worker with files at these paths, each with a token, and its source.
fn rotating(on_prompt: &str, paths: &[&str]) -> (WorkerRig, Arc<Rotating>) {
    let source =
        Arc::new(Rotating { count: AtomicU64::new(0), changes: watch::Sender::new(0), is_live: true.into() });
    let file = |path: &&str| AgentFile {
        path: (*path).to_owned(),
        text: FileText::Free("{\"token\": \"{token:acme}\"}".to_owned()),
    };
    let mut rig = WorkerRig::scripted(on_prompt, |_| {});
    let mut settings = settings(rig.folder.path(), &["/bin/sh", "-c", &script(on_prompt)]);
    // The worker does to its home whatever its user could do.
    settings.isolation = Isolation::None;
    settings.files = paths.iter().map(file).collect();
    let tokens: Arc<dyn TokenSource> = source.clone();
    rig.workers = Workers::new(settings, Arc::clone(&rig.capabilities), tokens, Arc::clone(&rig.names) as _);
    (rig, source)
}

/// Returns all entries of a folder with their contents.
fn snapshot(folder: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        let is_folder = entry.file_type().expect("a kind").is_dir();
        if is_folder {
            found.extend(snapshot(&path));
        }
        let content = (!is_folder).then(|| std::fs::read(&path).expect("a file"));
        found.insert(path, content);
    }
    found
}

/// The home of the only worker.
fn home_of(rig: &WorkerRig, id: u64) -> PathBuf {
    let name = rig.names.get(&conversation(id).folder_key()).expect("a folder");
    rig.folder.path().join("agents").join(name).join("home")
}

/// Puts a symlink, a FIFO, a file and a folder in the place of the folders of its files.
const SWAPPING: &str = r#"
outside=${line##*OUTSIDE=}; outside=${outside%%\"*}
end=$(( $(date +%s) + ${outside##*,} )); outside=${outside%%,*}; i=0
while [ $i -lt 150 ] || [ "$(date +%s)" -lt $end ]; do
  i=$((i + 1))
  rm -rf "$HOME/a"; ln -s "$outside" "$HOME/a"
  mkdir -p "$HOME/b" && rm -rf "$HOME/b/deep" && ln -s "$outside" "$HOME/b/deep"
  rm -f "$HOME/a"; mkdir "$HOME/a"; ln -sf "$outside/auth.json" "$HOME/a/auth.json"
  ln -sf "$outside/auth.json" "$HOME/a/.auth.json.threadkey-tmp"
  rm -rf "$HOME/b"; mkfifo "$HOME/b" 2>/dev/null; rm -rf "$HOME/b"
  mkdir -p "$HOME/b/deep" "$HOME/away"; mv "$HOME/b/deep" "$HOME/away/$i" 2>/dev/null
  rm -rf "$HOME/c"; ln -s /proc/self/root "$HOME/c"; rm -f "$HOME/c"; mkdir -m 500 "$HOME/c" 2>/dev/null
done
say "swapped"; done_with end_turn"#;

/// Sixty seconds of swaps: `THREADKEY_SWAP_SECONDS=60`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_swaps_its_folders_for_symlinks_changes_nothing_outside() {
    let (rig, source) = rotating(SWAPPING, &["a/auth.json", "b/deep/auth.json", "c/auth.json", "auth.json"]);
    let outside = rig.folder.path().join("outside");
    std::fs::create_dir(&outside).expect("made");
    for name in ["auth.json", "auth.json.lock", "other"] {
        std::fs::write(outside.join(name), format!("the content of {name}")).expect("written");
    }
    let before = snapshot(&outside);
    let seconds =
        std::env::var("THREADKEY_SWAP_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(0_u64);
    let rotations = tokio::spawn({
        let source = Arc::clone(&source);
        async move {
            loop {
                source.changes.send_modify(|count| *count += 1);
                tokio::task::yield_now().await;
            }
        }
    });
    let prompt = format!("go OUTSIDE={},{seconds}", outside.display());
    let mut updates = rig.prompt(1, &prompt).await.expect("it is taken");
    let mut text = String::new();
    let swapping = async {
        while let Some(update) = updates.recv().await {
            match update {
                Update::Text(more) => text.push_str(&more),
                Update::Crashed(ending) => panic!("{ending}"),
                _ => {}
            }
        }
    };
    timeout(WAIT * 4 + Duration::from_secs(seconds), swapping).await.expect("the swaps end");
    assert_eq!(text, "swapped");
    rotations.abort();
    assert!(source.count.load(Ordering::SeqCst) > 100, "there were rewrites during the swaps");
    let home = home_of(&rig, 1);
    rig.workers.shutdown().await;
    assert!(snapshot(&outside) == before, "the outside is byte-identical");
    for path in ["a/auth.json", "b/deep/auth.json", "c/auth.json", "auth.json"] {
        let left = home.join(path).symlink_metadata();
        assert!(!left.is_ok_and(|left| left.is_file() && left.len() > 0), "{path}");
    }
}

#[tokio::test]
async fn a_worker_that_moves_and_closes_its_files_keeps_no_live_token() {
    let on_prompt = r#"
mkdir -p "$HOME/kept"; ln "$HOME/a/auth.json" "$HOME/kept/link"; mv "$HOME/b" "$HOME/moved"; chmod 0 "$HOME/a"
say "$(cut -c 12-25 "$HOME/kept/link")"; done_with end_turn"#;
    let (rig, source) = rotating(on_prompt, &["a/auth.json", "b/auth.json"]);
    let turn = rig.turn(1, "go").await;
    assert_eq!(turn.text, "rotating-token", "the worker had its token");
    let home = home_of(&rig, 1);
    source.is_live.store(false, Ordering::SeqCst);
    source.changes.send_modify(|count| *count += 1);
    let gone = async {
        while std::fs::read(home.join("kept/link")).expect("the link stays") != b"" {
            tokio::task::yield_now().await;
        }
    };
    timeout(WAIT, gone).await.expect("a token that ends is removed at once");
    rig.workers.shutdown().await;
    assert!(!home.join("a/auth.json").exists());
    assert_eq!(std::fs::read(home.join("moved/auth.json")).expect("moved"), b"");
    assert_eq!(Scrubber::of_process().clean("rotating-token-0"), "[secret removed]");
}

#[tokio::test]
async fn the_sandbox_lets_a_tool_run_the_program_of_its_hook() {
    let on_prompt = r#"
program=$(sed -n 's/^command = "\(.*\)"$/\1/p' "$CODEX_HOME/config.toml")
"$program" --help > /dev/null && say "$(basename "$CODEX_HOME") runs"; done_with end_turn"#;
    let rig = WorkerRig::scripted(on_prompt, |settings| settings.tools = vec![codex_by_hook()]);
    assert_eq!(rig.turn(1, "go").await.text, ".codex runs");
}

/// Codex, which runs threadkey for its token.
fn codex_by_hook() -> threadkey::agent::AgentTool {
    let tool = tools::named("codex").expect("a tool");
    threadkey::agent::AgentTool {
        tool,
        way: tools::Way::Hook,
        means: tool.means(tools::Way::Hook).expect("a hook"),
        provider: "acme".parse().expect("a name"),
        base_url: Some("https://api.acme.example".to_owned()),
        model: None,
        route: None,
    }
}

/// A source whose token names a ChatGPT workspace.
struct OfWorkspace;

#[async_trait::async_trait]
impl TokenSource for OfWorkspace {
    async fn token(&self, _: &Holder, _: &ProviderId) -> Result<TokenValues, TokenRefusal> {
        // {"https://api.openai.com/auth":{"chatgpt_account_id":"acc-1"}}
        let token =
            "e30.eyJodHRwczovL2FwaS5vcGVuYWkuY29tL2F1dGgiOnsiY2hhdGdwdF9hY2NvdW50X2lkIjoiYWNjLTEifX0.c2ln";
        let (access_token, expires_at) = (AccessToken::new(token), NO_END);
        Ok(TokenValues { access_token, expires_at, account: None, scope: None, id_token: None })
    }

    fn changes(&self) -> Box<dyn TokenChanges> {
        Box::new(NoChanges)
    }

    fn now(&self) -> i64 {
        NOW
    }
}

#[tokio::test]
async fn a_workers_codex_sends_the_workspace_of_its_owners_login() {
    let on_prompt = r#"
say "$(sed -n 's/^http_headers = { "\(.*\)" = "\(.*\)" }$/\1: \2/p' "$CODEX_HOME/config.toml")"; done_with end_turn"#;
    let mut rig = WorkerRig::scripted(on_prompt, |_| {});
    let mut settings = settings(rig.folder.path(), &["/bin/sh", "-c", &script(on_prompt)]);
    settings.tools = vec![codex_by_hook()];
    rig.workers = Workers::new(
        settings,
        Arc::clone(&rig.capabilities),
        Arc::new(OfWorkspace),
        Arc::clone(&rig.names) as _,
    );
    assert_eq!(rig.turn(1, "go").await.text, "ChatGPT-Account-Id: acc-1");
}
