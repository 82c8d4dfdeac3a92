//! The files that give the tools of a worker their tokens: the real program on the Discord
//! look-alike, with workers that are shell scripts.
#![expect(clippy::disallowed_methods, reason = "the workers' files are not the program's")]

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;
use tokio::time::timeout;

use crate::{
    support::{authserver::AuthServer, program::Running},
    team::{AN_HOUR, Team, authserver, expect_messages, scripted_agent},
};

/// The limit of every wait. A test that reaches it fails.
const WAIT: Duration = Duration::from_secs(30);

const TOKEN_FILE: &str = ".config/acme/token.json";
const CLAUDE_FILE: &str = ".claude/.credentials.json";

/// The files of its tools that have no secret.
const SETTINGS: [&str; 2] = [".codex/config.toml", ".config/gh/config.yml"];

/// An agent with a hook, a file of a tool, and files of its own.
fn agent(on_prompt: &str) -> String {
    scripted_agent(on_prompt)
        + r#"
[agent.tools]
codex = { provider = "acme", base_url = "https://api.acme.example/v1" }
gh = { provider = "acme", way = "file", base_url = "https://git.acme.example" }

[agent.files]
".config/acme/token.json" = '{"token": "{token:acme}", "at": {expires_at:acme}, "who": "{user}"}'
".claude/.credentials.json" = { template = "claude-credentials", provider = "acme" }
"#
}

/// The bot with a worker that has a conversation, and the worker's home.
struct Rig {
    server: AuthServer,
    team: Team,
    bot: Running,
    home: PathBuf,
}

impl Rig {
    async fn start(on_prompt: &str) -> Self {
        let server = authserver().await;
        let team = Team::new(&server.config_toml("acme"), &agent(on_prompt)).await;
        let bot = team.run().await;
        team.sign_in(&team.alice, "alice").await;
        let thread = team.ask(&team.alice, "go").await;
        expect_messages(&thread, "ready", 1).await;
        let home = team.worker_folder(&thread).join("home");
        Self { server, team, bot, home }
    }

    fn session(&self, member: &str) -> String {
        let store: Value = serde_json::from_str(&self.team.stored()).expect("it is JSON");
        let tenant = format!("acme/{}", self.team.alice.principal());
        store["sessions"][tenant][member].as_str().expect("she is signed in").to_owned()
    }

    fn token_files(&self) -> [PathBuf; 3] {
        [TOKEN_FILE, CLAUDE_FILE, ".config/gh/hosts.yml"].map(|path| self.home.join(path))
    }

    /// Waits until all files with a token have this one.
    async fn files_have(&self, token: &str) {
        self.until(|| {
            let mut texts = self.token_files().into_iter().map(std::fs::read_to_string);
            texts.all(|text| text.is_ok_and(|text| text.contains(token)))
        })
        .await;
    }

    /// Waits until no file with a token is left.
    async fn files_are_gone(&self) {
        self.until(|| self.token_files().iter().all(|path| !path.exists())).await;
    }

    async fn until(&self, holds: impl Fn() -> bool) {
        let waits = async {
            while !holds() {
                tokio::task::yield_now().await;
            }
        };
        assert!(timeout(WAIT, waits).await.is_ok(), "{:#?}", texts_below(&self.home));
    }

    /// Refreshes the session from a terminal, in another process.
    async fn refresh(&self) {
        let principal = self.team.alice.principal();
        let ended = self.team.home.run(&["token", "acme", "--as", &principal]).await;
        assert_eq!(ended.code, 0, "{ended:?}");
    }
}

/// Returns all files below a folder with their texts, in order. Symlinks are named, not followed.
fn texts_below(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        let kind = entry.file_type().expect("a kind");
        if kind.is_dir() {
            found.extend(texts_below(&path));
        } else if kind.is_file() {
            let bytes = std::fs::read(&path).expect("a file");
            found.push((path, String::from_utf8_lossy(&bytes).into_owned()));
        } else {
            found.push((path, "neither a file nor a folder".to_owned()));
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn a_workers_files_follow_its_owners_login_across_an_expiry_and_a_logout() {
    // The files are there before the process starts.
    let on_prompt = r#"
test -s "$HOME/.config/acme/token.json" && test -s "$HOME/.config/gh/hosts.yml" && test -s "$HOME/.codex/config.toml" && say ready
done_with end_turn"#;
    let rig = Rig::start(on_prompt).await;
    let (first, first_refresh) = (rig.session("access_token"), rig.session("refresh_token"));
    rig.files_have(&first).await;
    let own: Value =
        serde_json::from_str(&std::fs::read_to_string(rig.home.join(TOKEN_FILE)).expect("a file"))
            .expect("JSON");
    assert_eq!(own["who"], rig.team.alice.id.to_string());
    assert!(own["at"].as_i64().is_some_and(|at| at > 1_700_000_000), "{own}");
    let config = std::fs::read_to_string(rig.home.join(".codex/config.toml")).expect("a file");
    assert!(config.contains("\"--probe\"") && !config.contains(&first), "a hook holds no token");

    rig.team.home.set_offset(AN_HOUR);
    rig.refresh().await;
    let second = rig.session("access_token");
    assert_ne!(second, first);
    rig.files_have(&second).await;
    for secret in [&first_refresh, &rig.session("refresh_token"), &first] {
        let with_it: Vec<_> =
            texts_below(&rig.home).into_iter().filter(|(_, text)| text.contains(secret.as_str())).collect();
        assert!(with_it.is_empty(), "{with_it:?}");
    }
    assert_eq!(rig.server.events().total.refreshes, 1);

    let logout = [("provider", "acme"), ("revoke", "true")];
    rig.team.alice.command(&rig.team.general, "auth logout", &logout).await;
    rig.files_are_gone().await;
    assert!(rig.home.join(".codex/config.toml").exists(), "the settings of a tool stay");

    rig.team.sign_in(&rig.team.alice, "alice").await;
    rig.files_have(&rig.session("access_token")).await;

    let Rig { team, bot, home, .. } = rig;
    assert_eq!(bot.stop().await.code, 0);
    let left: Vec<_> = texts_below(&home).into_iter().map(|(path, _)| path).collect();
    assert_eq!(left, SETTINGS.map(|path| home.join(path)), "only the folders and the settings are kept");
    assert!(!home.with_file_name("secret-files").exists());
    drop(team);
}

#[tokio::test]
async fn files_that_a_killed_bot_leaves_are_removed_at_its_next_start() {
    let rig = Rig::start("say ready; done_with end_turn").await;
    rig.files_have(&rig.session("access_token")).await;
    let Rig { team, bot, home, .. } = rig;
    bot.signal(9);
    bot.ended().await;
    assert!(home.join(TOKEN_FILE).exists(), "the test is about files that are left");
    let again = team.run().await;
    let left: Vec<_> = texts_below(&home).into_iter().map(|(path, _)| path).collect();
    assert_eq!(left, SETTINGS.map(|path| home.join(path)));
    assert_eq!(again.stop().await.code, 0);
}

#[tokio::test]
async fn a_token_that_ends_is_refused_in_a_variable_and_the_error_names_the_other_ways() {
    let server = authserver().await;
    let agent = scripted_agent("say ready; done_with end_turn") + "\n[agent.env]\nKEY = \"{token:acme}\"\n";
    let team = Team::new(&server.config_toml("acme"), &agent).await;
    let bot = team.run().await;
    team.sign_in(&team.alice, "alice").await;
    let thread = team.ask(&team.alice, "go").await;
    expect_messages(&thread, "agent.tools", 1).await;
    assert_eq!(bot.stop().await.code, 0);
}

#[tokio::test]
async fn a_sandboxed_gemini_gets_no_pseudo_terminal_unless_the_user_asks_for_it() {
    let on_prompt = r#"say "it is ${GEMINI_PTY_INFO:-unset}."; done_with end_turn"#;
    let tool = "\n[agent.tools]\ngemini = \"acme\"\n\n[inject.llm]\nprovider = \"acme\"\nupstream = \"https://api.acme.example\"\n";
    let own = "\n[agent.env]\nGEMINI_PTY_INFO = \"own\"\n";
    let is_sandboxed = threadkey::sys::sandbox::supported().is_ok();
    let built_in = if is_sandboxed { "it is child_process." } else { "it is unset." };
    for (more, expected) in [("", built_in), (own, "it is own.")] {
        let server = authserver().await;
        let agent = format!("{}{tool}{more}", scripted_agent(on_prompt));
        let team = Team::new(&server.config_toml("acme"), &agent).await;
        let bot = team.run().await;
        team.sign_in(&team.alice, "alice").await;
        let thread = team.ask(&team.alice, "go").await;
        expect_messages(&thread, expected, 1).await;
        assert_eq!(bot.stop().await.code, 0);
    }
}
