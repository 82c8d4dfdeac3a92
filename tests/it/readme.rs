//! The commands of the README, from an empty folder, on the tests' own providers and chat.
//!
//! Each block of shell commands has an entry in [`BLOCKS`]. A new block without one fails the test.
//! [`newcomer`] has the runs of the single grants.
#![expect(clippy::disallowed_methods, reason = "the test's own files and processes are not the program's")]

use std::{path::Path, process::Stdio, time::Duration};

use threadkey::sys::sandbox;
use tokio::{io::AsyncWriteExt as _, process::Command};

mod newcomer;

use crate::support::{
    authserver::{self, AuthServer, Options},
    browser,
    discord::{self, Discord},
    program,
};

const README: &str = include_str!("../../README.md");

/// The blocks by their first lines, in the README's order, and the reasons why some are not run.
const BLOCKS: &[(&str, Option<&str>)] = &[
    ("cargo run -p playground", Some("the checks of a change run it, with --check")),
    ("cargo test", Some("this test is part of it")),
    ("cargo install --locked --profile dist --path .", Some("the program is built already")),
    (
        "read -rs DISCORD_TOKEN && export DISCORD_TOKEN",
        Some("it needs a terminal; the test sets the variable"),
    ),
    ("threadkey doctor", None),
    ("threadkey run", None),
    ("threadkey auth start github", None),
    ("threadkey auth start codex", None),
    ("threadkey auth start bank", None),
    ("threadkey providers", None),
    ("threadkey token gitlab --format header | curl -H @- https://gitlab.com/oauth/userinfo", None),
    ("curl --unix-socket", Some("it needs the variables of an agent; the tests of the token API send it")),
    ("threadkey login gitlab", None),
    ("threadkey token github", None),
    ("threadkey auth start acme", None),
    ("threadkey config init", None),
    ("threadkey token gitlab --wait 5m", Some("it needs an agent's shell; the tests of questions run it")),
    ("threadkey login linear", None),
    ("cargo build --profile dist --locked --bin threadkey", Some("it installs a service, which needs root")),
    ("sudo systemctl daemon-reload", Some("it starts a service, which needs root")),
    ("sudo -u threadkey", Some("it needs the service's user")),
    ("docker build", Some("it needs a Docker daemon and a network")),
];

/// Returns the contents of the README's blocks of one language. A block in a list is indented.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    README
        .split(fence.as_str())
        .skip(1)
        .filter_map(|rest| Some(rest.split("```").next()?.trim_end()))
        .collect()
}

/// Returns the block with this first line.
fn block(first: &str) -> &'static str {
    blocks("sh").into_iter().find(|block| block.starts_with(first)).expect(first)
}

#[test]
fn each_block_of_commands_in_the_readme_is_run_or_has_a_reason() {
    let found = blocks("sh");
    for (block, (first, _)) in found.iter().zip(BLOCKS) {
        assert!(
            block.starts_with(first),
            "tests/it/readme.rs expects {first:?} and the README has:\n{block}"
        );
    }
    assert_eq!(found.len(), BLOCKS.len(), "a block of the README has no entry in tests/it/readme.rs");
}

/// A user in an empty folder, with the program in PATH and no configuration.
struct User {
    folder: tempfile::TempDir,
}

impl User {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("tk").tempdir().expect("a folder");
        for name in ["bin", "empty", "home"] {
            std::fs::create_dir(folder.path().join(name)).expect("it can be made");
        }
        std::os::unix::fs::symlink(program::path(), folder.path().join("bin/threadkey")).expect("a link");
        Self { folder }
    }

    /// Writes the configuration to its default place.
    fn configure(&self, config: &str) {
        let folder = self.folder.path().join("home/.config/threadkey");
        std::fs::create_dir_all(&folder).expect("it can be made");
        std::fs::write(folder.join("threadkey.toml"), config).expect("it can be written");
    }

    /// Returns a shell command, with only the variables of a new user.
    fn shell(&self, script: &str) -> Command {
        let path = std::env::var("PATH").expect("a PATH");
        let folder = self.folder.path();
        let mut command = Command::new("/bin/sh");
        command
            .args(["-ec", script])
            .current_dir(folder.join("empty"))
            .env_clear()
            .env("PATH", format!("{}:{path}", folder.join("bin").display()))
            .env("HOME", folder.join("home"))
            .env("DISCORD_TOKEN", discord::Options::default().token)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs a script to its end with this input. Returns its output if it succeeds.
    async fn run(&self, script: &str, input: &str) -> String {
        let mut child = self.shell(script).spawn().expect("a shell");
        let mut stdin = child.stdin.take().expect("it is piped");
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let ended = tokio::time::timeout(Duration::from_secs(60), child.wait_with_output()).await;
        let output = ended.expect("it ends").expect("its output can be read");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{script}\n{}\n{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout) + &text(&output.stderr)
    }
}

/// Returns the configuration of the README's step 5 with the addresses of a server.
fn step_5(server: &AuthServer) -> String {
    let config = blocks("toml").into_iter().next().expect("a configuration");
    replaced(
        config,
        &[
            ("https://gitlab.com/oauth/authorize", &server.authorization_endpoint()),
            ("https://gitlab.com/oauth/token", &server.token_endpoint()),
            ("https://gitlab.com/oauth/revoke", &server.revocation_endpoint()),
            ("https://gitlab.com/oauth/userinfo", &server.userinfo_endpoint()),
            ("REPLACE-WITH-YOUR-APPLICATION-ID", authserver::CLIENT_ID),
            // GitLab gives each client refresh tokens, and the test's provider this scope alone.
            ("\"profile\"]", "\"profile\", \"offline_access\"]"),
        ],
    )
}

/// Replaces each given part of the README, which must be there.
fn replaced(shown: &str, parts: &[(&str, &str)]) -> String {
    parts.iter().fold(shown.to_owned(), |text, (part, own)| {
        assert!(text.contains(part), "the README has no {part:?} in:\n{shown}");
        text.replace(part, own)
    })
}

fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| Path::new(&folder).join(name).exists())
}

#[tokio::test]
async fn the_commands_of_the_readme_work_from_an_empty_folder() {
    let chat = Discord::start(discord::Options::default()).await;
    chat.guild("team");
    let redirect_uris = vec!["http://127.0.0.1:28471/callback".to_owned()];
    let server = AuthServer::start(Options { redirect_uris, ..Options::default() }).await;
    let user = User::new();
    let chat_base = format!("[discord]\napi_base = {:?}\n", chat.api_base());
    user.configure(&replaced(&step_5(&server), &[("[discord]\n", &chat_base)]));

    if sandbox::supported().is_ok() {
        let checked = user.run(block("threadkey doctor"), "").await;
        assert!(!checked.contains("FAIL"), "{checked}");
        assert!(checked.contains("discord servers"), "{checked}");
    }

    let mut running = user.shell(&format!("exec {}", block("threadkey run").replace('\n', "; "))).spawn();
    let bot = running.as_mut().expect("a shell");
    chat.bot_identified(1).await;
    bot.kill().await.expect("it is ours");

    let commands = block("threadkey providers");
    let expected = [
        "threadkey providers",
        "threadkey auth start gitlab",
        "threadkey auth code gitlab",
        "threadkey auth status",
        "threadkey auth list",
    ];
    assert_eq!(commands.lines().collect::<Vec<_>>(), expected);
    assert!(user.run(expected[0], "").await.contains("gitlab"));
    let started = user.run(expected[1], "").await;
    let link = started.lines().find(|line| line.starts_with("http")).expect("a link");
    let callback = browser::sign_in(link, "alice").await;
    let signed_in = user.run(expected[2], &callback.url).await;
    assert!(signed_in.contains("Signed in at gitlab as alice@example.com"), "{signed_in}");
    let status = user.run(expected[3], "").await;
    assert!(user.run(expected[4], "").await.contains("gitlab/local"));
    assert!(status.contains("alice@example.com"), "{status}");

    let userinfo = server.userinfo_endpoint();
    let request = block("threadkey token gitlab --format header");
    let request = &replaced(request, &[("https://gitlab.com/oauth/userinfo", &userinfo)]);
    if has_program("curl") {
        assert!(user.run(request, "").await.contains("alice"));
    } else {
        println!("curl is missing, so its half of the README's request is not run");
        let (own, _) = request.split_once(" | ").expect("a pipe");
        assert!(user.run(own, "").await.starts_with("Authorization: Bearer "));
    }
    let token = user.run("threadkey token gitlab", "").await;
    let newer = user.run("threadkey token gitlab --rejected -", &token).await;
    assert_ne!(token, newer, "a rejected token is replaced");
    let environment = user.run("threadkey token gitlab --format env --min-ttl 10m", "").await;
    assert!(environment.contains("THREADKEY_TOKEN="), "{environment}");
    chat.assert_no_violations();
}
