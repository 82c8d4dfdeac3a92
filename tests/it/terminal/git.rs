//! `token --format git-credential` and `exec-credential`, against the real git.

use std::{path::Path, process::Stdio};

use serde_json::Value;
use tokio::process::Command;

use super::Terminal;
use crate::{
    inject::GitServer,
    support::program::{self, Ended},
};

/// Runs git with threadkey as its credential helper. Returns how it ended.
async fn git(terminal: &Terminal, folder: &Path, helper: &str, arguments: &[&str]) -> Ended {
    let home = terminal.home.command(&[]);
    let mut command = Command::new("git");
    for (name, value) in home.as_std().get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    let settings =
        [("user.name", "a"), ("user.email", "a@b"), ("credential.helper", ""), ("credential.helper", helper)];
    for (at, (key, value)) in settings.iter().enumerate() {
        command.env(format!("GIT_CONFIG_KEY_{at}"), key).env(format!("GIT_CONFIG_VALUE_{at}"), value);
    }
    let output = command
        .args(arguments)
        .current_dir(folder)
        .env("GIT_CONFIG_COUNT", settings.len().to_string())
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(std::time::Duration::from_secs(60), output).await;
    let output = output.expect("in time").expect("git runs");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

/// Makes a bare repository, and serves it to live tokens.
async fn serve(terminal: &Terminal) -> (GitServer, String) {
    let folder = terminal.home.path().to_owned();
    let made = git(terminal, &folder, "", &["init", "-q", "--bare", "-b", "main", "remote.git"]).await;
    assert_eq!(made.code, 0, "{made:?}");
    let remote = folder.join("remote.git");
    git(terminal, &remote, "", &["config", "http.receivepack", "true"]).await;
    let (server, address) = GitServer::serve(folder, terminal.server.clone()).await;
    (server, address)
}

#[tokio::test]
async fn git_works_across_an_expiry_and_reports_a_refused_password() {
    let mut terminal = Terminal::start("").await;
    let (_server, address) = serve(&terminal).await;
    let helper = format!(
        "!'{}' token acme --format git-credential --host {address} --username x-access-token",
        program::path().display()
    );
    let folder = terminal.home.path().to_owned();
    let url = format!("http://{address}/remote.git");
    let cloned = git(&terminal, &folder, &helper, &["clone", "-q", &url, "one"]).await;
    assert_eq!(cloned.code, 0, "{cloned:?}");
    let one = folder.join("one");
    std::fs::write(one.join("file"), "content").unwrap();
    for arguments in
        [&["checkout", "-q", "-B", "main"][..], &["add", "file"], &["commit", "-q", "-m", "first"]]
    {
        assert_eq!(git(&terminal, &one, &helper, arguments).await.code, 0);
    }
    // An expiry by the clock: git gets the next token.
    terminal.advance(4000);
    terminal.kill_tokens();
    let pushed = git(&terminal, &one, &helper, &["push", "-q", "origin", "main"]).await;
    assert_eq!((pushed.code, terminal.refreshes()), (0, 1), "{pushed:?}");
    // An early end: git is refused once, and its erase is the report.
    terminal.advance(61);
    terminal.kill_tokens();
    let refused = git(&terminal, &one, &helper, &["fetch", "-q"]).await;
    assert_ne!(refused.code, 0, "{refused:?}");
    assert_eq!(terminal.refreshes(), 2, "{refused:?}");
    let fetched = git(&terminal, &one, &helper, &["fetch", "-q"]).await;
    assert_eq!((fetched.code, terminal.refreshes()), (0, 2), "{fetched:?}");
}

#[tokio::test]
async fn with_a_probe_no_git_command_fails_at_an_early_end() {
    let mut terminal = Terminal::start("").await;
    let (_server, address) = serve(&terminal).await;
    let helper = format!(
        "!'{}' token acme --probe --format git-credential --host {address}",
        program::path().display()
    );
    let folder = terminal.home.path().to_owned();
    let url = format!("http://{address}/remote.git");
    for (refreshes, name) in ["one", "two", "three"].into_iter().enumerate() {
        let cloned = git(&terminal, &folder, &helper, &["clone", "-q", &url, name]).await;
        assert_eq!((cloned.code, terminal.refreshes()), (0, refreshes as u64), "{cloned:?}");
        terminal.advance(61);
        terminal.kill_tokens();
    }
}

#[tokio::test]
async fn a_helper_answers_for_its_own_hosts_alone() {
    let terminal = Terminal::start("").await;
    let token = terminal.token(&[]).await;
    let ask = |more: &'static [&'static str], operation: &'static str, request: &'static str| {
        let arguments: Vec<_> = ["token", "acme", "--format", "git-credential"]
            .iter()
            .chain(more)
            .chain([&operation])
            .copied()
            .collect();
        let home = &terminal.home;
        async move { home.run_with(&arguments, request).await }
    };
    let request = "capability[]=authtype\nprotocol=https\nhost=git.acme.example\nwwwauth[]=Basic\n\n";
    let unknown = ask(&[], "get", request).await;
    assert_eq!((unknown.code, unknown.stdout.as_str()), (0, ""), "{unknown:?}");
    assert!(unknown.stderr.contains("--host"), "{unknown:?}");
    let hosts = &["--host", "git.acme.example"];
    let known = ask(hosts, "get", request).await;
    let expiry = terminal.now + 3600;
    assert_eq!(
        known.stdout,
        format!("username=oauth2\npassword={token}\npassword_expiry_utc={expiry}\n"),
        "{known:?}"
    );
    for other in ["protocol=https\nhost=evil.example\n", "protocol=http\nhost=git.acme.example\n", ""] {
        let empty = ask(hosts, "get", other).await;
        assert_eq!((empty.code, empty.stdout.as_str(), empty.stderr.as_str()), (0, "", ""), "{other:?}");
    }
    for operation in ["store", "approve", "erase"] {
        let done = ask(hosts, operation, request).await;
        assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (0, "", ""), "{operation}");
    }
    assert_eq!(terminal.refreshes(), 0);
    for (arguments, problem) in [
        (&["--format", "git-credential"][..], "git appends"),
        (&["--format", "git-credential", "--rejected", "-", "get"], "by the operation erase"),
        (&["get"], "OPERATION goes with --format git-credential"),
        (&["--host", "a"], "--host goes with"),
        (&["--format", "git-credential", "--host", "https://a/b", "get"], "is not HOST"),
    ] {
        let refused = terminal.run_token(arguments).await;
        assert_eq!((refused.code, refused.stdout.as_str()), (2, ""), "{refused:?}");
        assert!(refused.stderr.contains(problem), "{refused:?}");
    }
}

#[tokio::test]
async fn a_kubernetes_client_gets_an_exec_credential_of_its_version() {
    let terminal = Terminal::start("").await;
    let token = terminal.token(&[]).await;
    let arguments = ["token", "acme", "--probe", "--format", "exec-credential"];
    let info = r#"{"apiVersion":"client.authentication.k8s.io/v1beta1","kind":"ExecCredential","spec":{"interactive":false}}"#;
    let ended = terminal.home.run_in(&arguments, "", &[("KUBERNETES_EXEC_INFO", info)]).await;
    let answer: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(answer["apiVersion"], "client.authentication.k8s.io/v1beta1");
    assert_eq!((&answer["kind"], &answer["status"]["token"]), (&"ExecCredential".into(), &token.into()));
    assert!(answer["status"]["expirationTimestamp"].as_str().unwrap().ends_with('Z'), "{answer}");
    let ended = terminal.home.run_in(&arguments, "", &[("KUBERNETES_EXEC_INFO", "{}")]).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{ended:?}");
}
