//! The choice between two accounts in a terminal, and from a script.
#![expect(clippy::disallowed_methods, reason = "the tests' own processes are not the program's")]

use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;

use crate::{
    support::{
        authserver::{AuthServer, LifeState},
        browser,
        program::{Ended, Home, path},
    },
    team::authserver,
};

/// Signs in as this account; returns the result of `auth code`.
async fn sign_in(home: &Home, account: &str) -> Ended {
    let callback = callback(home, account).await;
    home.run_with(&["auth", "code"], &callback).await
}

async fn callback(home: &Home, account: &str) -> String {
    let started = home.run(&["auth", "start", "acme"]).await;
    browser::sign_in(started.stdout.trim(), account).await.url
}

/// Signs alice in, and then as bob; the second sign-in waits for a choice.
async fn undecided() -> (AuthServer, Home, Ended) {
    let server = authserver().await;
    let home = Home::new(&server.config_toml("acme"));
    assert_eq!(sign_in(&home, "alice").await.code, 0);
    let ended = sign_in(&home, "bob").await;
    (server, home, ended)
}

async fn account(home: &Home) -> Value {
    let token = home.run(&["token", "acme", "--format", "json"]).await;
    let token: Value = serde_json::from_str(&token.stdout).unwrap();
    token["account"].clone()
}

fn bob_state(server: &AuthServer) -> LifeState {
    server.lives().into_iter().find(|life| life.account == "bob").expect("bob signed in").state
}

#[tokio::test]
async fn a_paste_without_a_terminal_names_the_choice_commands_and_replaces_nothing() {
    let (server, home, ended) = undecided().await;
    assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{ended:?}");
    for words in [
        "You signed in as bob@example.com, but acme/local is signed in as alice@example.com. Nothing was replaced",
        "`threadkey auth switch acme` or `threadkey auth keep acme`",
    ] {
        assert!(ended.stderr.contains(words), "{ended:?}");
    }
    assert_eq!(account(&home).await, "alice@example.com");
    let status = home.run(&["auth", "status"]).await;
    assert!(status.stdout.contains("as bob@example.com, waits for your choice"), "{status:?}");
    assert!(status.stdout.contains("`threadkey auth switch acme`"), "{status:?}");
    let json = home.run(&["auth", "status", "--json"]).await;
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json[0]["account"], "alice@example.com");
    assert_eq!(json[0]["undecided"]["account"], "bob@example.com");
    let other = home.run(&["auth", "switch", "acme", "--as", "user:7"]).await;
    assert_eq!((other.code, other.stdout.as_str()), (3, ""), "{other:?}");
    assert!(other.stderr.contains("no sign-in for acme/user:7 waits for your choice"), "{other:?}");

    let switched = home.run(&["auth", "switch", "acme"]).await;
    assert_eq!((switched.code, switched.stdout.as_str()), (0, ""), "{switched:?}");
    assert!(switched.stderr.contains("as bob@example.com, in place of alice@example.com."), "{switched:?}");
    assert_eq!(account(&home).await, "bob@example.com");
    assert_eq!(home.run(&["auth", "keep", "acme"]).await.code, 3);
    assert_eq!(bob_state(&server), LifeState::Live);
}

#[tokio::test]
async fn auth_keep_reports_that_the_other_grant_has_ended() {
    let (server, home, _) = undecided().await;
    let kept = home.run(&["auth", "keep", "acme"]).await;
    assert_eq!((kept.code, kept.stdout.as_str()), (0, ""), "{kept:?}");
    assert!(kept.stderr.contains("acme/local stays with alice@example.com."), "{kept:?}");
    assert!(kept.stderr.contains("dropped, and acme has ended its grant"), "{kept:?}");
    assert_eq!((account(&home).await, bob_state(&server)), ("alice@example.com".into(), LifeState::Revoked));
}

#[tokio::test]
async fn a_choice_that_expired_a_day_ago_is_revoked_by_the_next_command() {
    for command in [&["auth", "status"][..], &["token", "acme", "--min-ttl", "29m"]] {
        let (server, home, _) = undecided().await;
        home.set_offset(900 + 86_400 - 60);
        assert_eq!(home.run(command).await.code, 0);
        assert_eq!(bob_state(&server), LifeState::Live, "{command:?}: its clock may be wrong");
        home.set_offset(900 + 86_400 + 1900);
        let ended = home.run(command).await;
        assert_eq!(ended.code, 0, "{ended:?}");
        assert_eq!(bob_state(&server), LifeState::Revoked, "{command:?}");
        assert_eq!(account(&home).await, "alice@example.com");
    }
}

/// Types into a pseudo-terminal: the address after the first question, then an answer at each choice.
const TERMINAL: &str = r#"
import os, pty, sys
program, address, answers = sys.argv[1:4]
pid, terminal = pty.fork()
if pid == 0:
    os.execv(program, [program, "auth", "code"])
output = b""
def until(words, count=1):
    global output
    while output.count(words) < count:
        try:
            more = os.read(terminal, 4096)
        except OSError:
            break
        if not more:
            break
        output += more
until(b"ended on:")
os.write(terminal, address.encode() + b"\n")
for number, answer in enumerate(answers.split("|")):
    until(b"Switch or keep?", number + 1)
    os.write(terminal, answer.encode() + b"\n")
until(b"text that never appears")
sys.stdout.buffer.write(output)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

#[tokio::test]
async fn a_paste_on_a_terminal_asks_for_the_choice_and_obeys_the_answer() {
    let here = std::process::Command::new("python3").arg("--version").output();
    if !here.is_ok_and(|output| output.status.success()) {
        println!("skipped: there is no python3 here; .ci/run installs it");
        return;
    }
    for (answer, exit, holds, expected) in [
        ("switch", 0, "bob@example.com", "in place of alice@example.com"),
        ("keep", 0, "alice@example.com", "stays with alice@example.com"),
        ("maybe|switch", 0, "bob@example.com", "The answer is neither `switch` nor `keep`."),
        ("\x03", 2, "alice@example.com", "threadkey auth keep acme"),
        ("\x04", 2, "alice@example.com", "Interrupted: the new sign-in is saved, and not used."),
    ] {
        let (_server, home, _) = undecided().await;
        let address = callback(&home, "bob").await;
        let mut command = Command::new("python3");
        let ended = command
            .args(["-c", TERMINAL, &path().display().to_string(), &address, answer])
            .current_dir(home.path())
            .env("HOME", home.path().join("home"))
            .env("THREADKEY_TEST_CLOCK", home.path().join("clock"))
            .env("THREADKEY_CONFIG", home.path().join("threadkey.toml"))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let ended = tokio::time::timeout(std::time::Duration::from_secs(60), ended).await.unwrap().unwrap();
        let output = String::from_utf8_lossy(&ended.stdout);
        assert_eq!(ended.status.code(), Some(exit), "{answer}: {output}");
        assert!(output.contains(expected), "{answer}: {output}");
        assert_eq!(account(&home).await, holds, "{answer}");
    }
}
