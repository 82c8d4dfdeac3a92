//! git through the proxy, against git's own HTTP server.

use std::{path::Path, sync::Arc};

use tokio::process::Command;

use super::*;
pub(crate) use crate::support::git_server::GitServer;

async fn git(folder: &Path, access: Option<&InjectAccess>, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    let settings = [("user.name", "a".to_owned()), ("user.email", "a@b".to_owned())];
    let mut settings = settings.to_vec();
    let keys = access.map(|access| {
        let base = access.base_url(&name("acme"));
        (format!("url.{base}/.insteadOf"), format!("http.{base}/.extraHeader"), access.secret.expose())
    });
    if let Some((instead, header, secret)) = &keys {
        settings.push((instead, "https://git.example/".to_owned()));
        settings.push((header, format!("Authorization: Bearer {secret}")));
    }
    for (at, (key, value)) in settings.iter().enumerate() {
        command.env(format!("GIT_CONFIG_KEY_{at}"), key).env(format!("GIT_CONFIG_VALUE_{at}"), value);
    }
    command
        .args(arguments)
        .current_dir(folder)
        .env("GIT_CONFIG_COUNT", settings.len().to_string())
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("HOME", folder)
        .kill_on_drop(true);
    let output = timeout(WAIT, command.output()).await.expect("in time").expect("git runs");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "git {arguments:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn git_clones_fetches_and_pushes_across_an_expiry_without_a_token() {
    let rig = Rig::start().await;
    let folder = rig.folder.path();
    git(folder, None, &["init", "-q", "--bare", "-b", "main", "remote.git"]).await;
    git(&folder.join("remote.git"), None, &["config", "http.receivepack", "true"]).await;
    let (_serving, address) = GitServer::serve(folder.to_owned(), rig.api.server.clone()).await;
    let tokens = WorkerTokens::new(rig.api.broker.clone(), Arc::new(WithoutBot));
    let git_route = InjectRoute {
        credential: Credential::Basic("x-access-token".into()),
        ..route(&format!("http://{address}"))
    };
    let rig = Rig { server: InjectServer::new(vec![git_route], tokens).expect("TLS is in order"), ..rig };
    let access = rig.open().await;
    let folder = rig.folder.path();

    git(folder, Some(&access), &["clone", "-q", "https://git.example/remote.git", "one"]).await;
    let one = folder.join("one");
    // Random content is not compressed, so the push is streamed in chunks (http.postBuffer is 1 MiB).
    let content: Vec<u8> = (0..3_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    std::fs::write(one.join("file"), content).expect("writes");
    git(&one, None, &["checkout", "-q", "-B", "main"]).await;
    git(&one, None, &["add", "file"]).await;
    git(&one, None, &["commit", "-q", "-m", "first"]).await;
    rig.kill_token();
    git(&one, Some(&access), &["push", "-q", "origin", "main"]).await;
    assert_eq!(rig.refreshes(), 1);
    git(folder, Some(&access), &["clone", "-q", "https://git.example/remote.git", "two"]).await;
    let heads = [
        git(&one, None, &["rev-parse", "HEAD"]).await,
        git(&folder.join("two"), None, &["rev-parse", "HEAD"]).await,
    ];
    assert_eq!(heads[0], heads[1]);
    git(&folder.join("two"), Some(&access), &["fetch", "-q"]).await;
}
