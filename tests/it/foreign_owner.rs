//! Commands of another user than the owner of the store, as with `sudo`.
#![expect(clippy::disallowed_methods, reason = "the tests' own files and processes are not the program's")]

use std::{
    os::unix::fs::{MetadataExt as _, chown},
    path::Path,
    process::Stdio,
};

use tokio::process::Command;

use crate::support::program::{Ended, Home, path};

/// A user that no system has.
const OWNER: u32 = 54_321;

const CONFIG: &str = r#"
[providers.acme]
authorization_endpoint = "https://id.acme.example/authorize"
token_endpoint = "https://id.acme.example/token"
client_id = "threadkey"
redirect_uri = "http://127.0.0.1:1/callback"
scopes = ["read"]
"#;

/// Gives a folder and all that is in it to [`OWNER`].
fn give_away(path: &Path) {
    chown(path, Some(OWNER), Some(OWNER)).unwrap();
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            give_away(&entry.unwrap().path());
        }
    }
}

/// Every path below a folder.
fn tree(path: &Path) -> Vec<std::path::PathBuf> {
    let mut found = vec![path.to_owned()];
    if path.is_dir() {
        let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        found.extend(entries.flat_map(|path| tree(&path)));
    }
    found.sort();
    found
}

/// Runs the program as [`OWNER`].
async fn as_owner(home: &Home, arguments: &[&str]) -> Ended {
    let id = OWNER.to_string();
    let output = Command::new("setpriv")
        .args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"])
        .arg(path())
        .args(arguments)
        .current_dir(home.path())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home.path().join("home"))
        .env("THREADKEY_TEST_CLOCK", home.path().join("clock"))
        .env("THREADKEY_CONFIG", home.path().join("threadkey.toml"))
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

#[tokio::test]
async fn root_in_another_users_home_is_refused_and_leaves_no_file_behind() {
    if std::fs::metadata("/proc/self").map_or(1, |own| own.uid()) != 0 {
        println!("skipped: only root can act as two users");
        return;
    }
    let setpriv = std::process::Command::new("setpriv").arg("--version").output();
    if !setpriv.is_ok_and(|output| output.status.success()) {
        println!("skipped: without setpriv(1) no command can act as another user");
        return;
    }
    let home = Home::new(CONFIG);
    give_away(home.path());
    let commands: [&[&str]; 8] = [
        &["auth", "start", "acme"],
        &["auth", "status"],
        &["auth", "cancel"],
        &["auth", "logout", "acme"],
        &["auth", "code", "acme"],
        &["token", "acme"],
        &["serve"],
        &["doctor"],
    ];
    for is_missing in [true, false] {
        let before = tree(home.path());
        for command in commands {
            // The configuration is the other user's too, so only `--config` takes it.
            let arguments = [&["--config", "threadkey.toml"], command].concat();
            let ended = home.run(&arguments).await;
            let all = format!("{}{}", ended.stdout, ended.stderr);
            assert_eq!(ended.code, 6, "{command:?}: {ended:?}");
            for words in
                ["belongs to user id 54321", "sudo -u '#54321' threadkey", "runs as root (user id 0)"]
            {
                assert!(all.contains(words), "{command:?}: {words}: {all}");
            }
            assert_eq!(all.contains("the folder above the store"), is_missing, "{command:?}: {all}");
            assert_eq!(tree(home.path()), before, "{command:?}");
        }
        let owners = as_owner(&home, &["auth", "start", "acme"]).await;
        assert_eq!(owners.code, 0, "the owner goes on: {owners:?}");
        assert_eq!(std::fs::metadata(home.store()).unwrap().uid(), OWNER);
    }
}
