use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, time::Duration};

use threadkey_client::{AccessToken, Client, Code, Error};

/// A stand-in for the command. It writes its arguments and its input into files.
fn command(folder: &tempfile::TempDir, ending: &str) -> PathBuf {
    let path = folder.path().join("threadkey");
    let files = folder.path().display();
    let script = format!("#!/bin/sh\necho \"$@\" >'{files}/arguments'\ncat >'{files}/input'\n{ending}\n");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

const ANSWER: &str = r#"echo '{"access_token":"at-2","token_type":"Bearer","expires_at":9,"expires_in":5,"provider":"acme","principal":"local","generation":2,"new":1}'"#;

#[tokio::test]
async fn the_command_is_asked_for_a_token_of_the_principal() {
    let folder = tempfile::tempdir().unwrap();
    let client = Client::program(command(&folder, ANSWER)).acting_for("user:803");
    let token = client.token("acme", Some(Duration::from_secs(90))).await.unwrap();
    assert_eq!((token.access_token.expose(), token.generation), ("at-2", 2));
    let arguments = fs::read_to_string(folder.path().join("arguments")).unwrap();
    assert_eq!(arguments.trim(), "token acme --format json --as=user:803 --min-ttl 90s");
}

#[tokio::test]
async fn the_command_is_asked_to_wait_for_the_owner_and_to_try_the_token() {
    let folder = tempfile::tempdir().unwrap();
    let client = Client::program(command(&folder, ANSWER)).waiting(Duration::from_secs(300)).probing();
    client.token("acme", None).await.unwrap();
    let arguments = fs::read_to_string(folder.path().join("arguments")).unwrap();
    assert_eq!(arguments.trim(), "token acme --format json --wait 300s --probe");
}

#[tokio::test]
async fn a_rejected_token_goes_through_the_input_of_the_command_alone() {
    let folder = tempfile::tempdir().unwrap();
    let client = Client::program(command(&folder, ANSWER));
    client.rejected("acme", &AccessToken::new("canary")).await.unwrap();
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!(
        (read("arguments").trim(), &*read("input")),
        ("token acme --format json --rejected -", "canary")
    );
}

#[tokio::test]
async fn the_exit_code_of_the_command_becomes_a_code() {
    for (status, expected) in [(3, Code::NoSession), (4, Code::SessionEnded), (5, Code::ProviderUnavailable)]
    {
        let folder = tempfile::tempdir().unwrap();
        let client = Client::program(command(&folder, &format!("echo 'the reason' >&2; exit {status}")));
        let error = client.token("acme", None).await.unwrap_err();
        let Error::Refused { code, detail, .. } = &error else { panic!("another error: {error:?}") };
        assert_eq!((code, &**detail), (&expected, "the reason"));
        assert_eq!(error.retry_after().is_some(), status == 5);
    }
    let absent = Client::program("/absent/threadkey").token("acme", None).await;
    assert!(matches!(absent, Err(Error::Program { .. })), "{absent:?}");
}
