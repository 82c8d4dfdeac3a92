//! Stores that cannot be read or written.
#![expect(clippy::disallowed_methods, reason = "the tests' own files and processes are not the program's")]

use std::{fs, os::unix::fs::PermissionsExt as _};

use super::{Ended, Home, assert_fails, assert_says, start};
use crate::{
    support::{authserver::AuthServer, browser},
    team::{AN_HOUR, authserver, team},
};

/// Every command that needs the store; the last two write to it.
const COMMANDS: [&[&str]; 5] = [
    &["auth", "status"],
    &["token", "acme"],
    &["auth", "logout", "acme"],
    &["auth", "start", "acme"],
    &["auth", "cancel"],
];

/// Signs in at the embedded server.
async fn signed_in() -> (AuthServer, Home) {
    let server = authserver().await;
    let home = Home::new(&server.config_toml("acme"));
    let callback = browser::sign_in(&start(&home).await, "alice").await;
    let ended = home.run_with(&["auth", "code"], &callback.url).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    (server, home)
}

fn stored(home: &Home) -> Vec<u8> {
    fs::read(home.store()).expect("the store is there")
}

fn put(home: &Home, text: &str) {
    fs::write(home.store(), text).expect("the store can be replaced");
}

async fn with_faults(home: &Home, arguments: &[&str], faults: &str) -> Ended {
    let output = home.command(arguments).env("THREADKEY_TEST_FAILPOINTS", faults).output().await;
    let output = output.expect("the program starts");
    let text = |bytes| String::from_utf8(bytes).expect("it is UTF-8");
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

/// Asserts that each command refuses the store and leaves it unchanged.
async fn assert_refused(home: &Home, faults: &str, words: &[&str]) {
    let before = stored(home);
    for command in COMMANDS {
        let ended = with_faults(home, command, faults).await;
        assert_fails(&ended, 6, words);
        assert_says(&ended.stderr, &[&home.store().display().to_string()]);
    }
    assert_eq!(stored(home), before, "it stays as it is");
}

#[tokio::test]
async fn an_unreadable_store_is_reported_by_path_and_never_taken_for_an_empty_one() {
    let (server, home) = signed_in().await;
    let sent = server.count();
    let words = ["cannot read", "Permission denied", "give the user that runs threadkey access to it"];
    assert_refused(&home, "open@/auth.json:EACCES", &words).await;
    assert_refused(&home, "read@/auth.json:EIO", &["cannot read"]).await;
    assert_eq!(home.run(&["token", "acme"]).await.code, 0);

    let whole = home.store().with_extension("away");
    fs::rename(home.store(), &whole).expect("it can be moved");
    fs::create_dir(home.store()).expect("a folder in its place");
    for command in COMMANDS {
        assert_fails(&home.run(command).await, 6, &["this is not a regular file", "store.path"]);
    }
    fs::remove_dir(home.store()).expect("the folder is empty still");
    fs::rename(&whole, home.store()).expect("it can be moved back");
    assert_eq!(home.run(&["token", "acme"]).await.code, 0);
    assert_eq!(server.count(), sent);
}

#[tokio::test]
async fn a_corrupt_store_is_reported_with_line_and_column_and_stays_as_it_is() {
    let (server, home) = signed_in().await;
    let sent = server.count();
    let whole = String::from_utf8(stored(&home)).expect("it is UTF-8");
    let words = [
        "is not a threadkey store: line 2, column 14:",
        "Nothing was changed",
        "move it away and sign in again",
    ];
    put(&home, "{\"version\": 1,\n \"sessions\": oops}\n");
    assert_refused(&home, "", &words).await;
    for (text, place) in
        [("", "line 1"), (&whole[..whole.len() / 2], "line "), ("[]", "line 1"), ("{}", "line 1")]
    {
        put(&home, text);
        assert_refused(&home, "", &["is not a threadkey store", place, "column", "Nothing was changed"])
            .await;
    }
    put(&home, &whole);
    assert_eq!(home.run(&["token", "acme"]).await.code, 0);
    assert_eq!(server.count(), sent);
}

#[tokio::test]
async fn a_newer_store_is_read_and_never_written() {
    let (server, home) = signed_in().await;
    let token = home.run(&["token", "acme"]).await.stdout;
    let mut store: serde_json::Value = serde_json::from_slice(&stored(&home)).expect("it is JSON");
    store["version"] = 2.into();
    store["of_a_later_version"] = "kept".into();
    put(&home, &store.to_string());
    let (before, sent) = (stored(&home), server.count());

    assert_eq!(home.run(&["token", "acme"]).await.stdout, token, "it is read");
    assert_eq!(home.run(&["auth", "status"]).await.code, 0);
    let words = ["has format version 2, newer than this threadkey", "update threadkey"];
    for command in [&["auth", "start", "acme"][..], &["auth", "logout", "acme"]] {
        assert_fails(&home.run(command).await, 6, &words);
    }
    home.set_offset(AN_HOUR);
    assert_fails(&home.run(&["token", "acme"]).await, 6, &words);
    assert_eq!((stored(&home), server.count()), (before, sent), "nothing is spent that cannot be saved");
}

#[tokio::test]
async fn a_read_only_store_is_read_and_nothing_is_spent() {
    let (server, home) = signed_in().await;
    let (before, sent) = (stored(&home), server.count());
    // These are the errors of a read-only mount on writing calls.
    let faults = "access:EROFS,open@.lock:EROFS,open@.tmp:EROFS,mkdir:EROFS,rename:EROFS";
    let fresh = with_faults(&home, &["token", "acme"], faults).await;
    assert_eq!(fresh.code, 0, "reading needs no write: {fresh:?}");
    assert_eq!(with_faults(&home, &["auth", "status"], faults).await.code, 0);
    let words = ["Read-only file system", "the store has to be on a file system that can be written"];
    for command in [&["auth", "start", "acme"][..], &["auth", "logout", "acme"]] {
        assert_fails(&with_faults(&home, command, faults).await, 6, &words);
    }
    home.set_offset(AN_HOUR);
    assert_fails(&with_faults(&home, &["token", "acme"], faults).await, 6, &words);
    assert_eq!((stored(&home), server.count()), (before, sent));
    assert_eq!(home.run(&["token", "acme"]).await.code, 0, "writable again, it goes on");
}

#[tokio::test]
async fn a_store_that_others_can_read_is_reported_with_the_command_that_mends_it() {
    let (server, home) = signed_in().await;
    let sent = server.count();
    let mode = |mode| fs::set_permissions(home.store(), fs::Permissions::from_mode(mode)).expect("ours");
    for (open, shown) in [(0o644, "0644"), (0o660, "0660"), (0o604, "0604")] {
        mode(open);
        let mend = format!("run chmod 600 {}", home.store().display());
        assert_refused(&home, "", &[&format!("is open to others (mode {shown})"), &mend]).await;
    }
    mode(0o600);
    assert_eq!(home.run(&["token", "acme"]).await.code, 0);
    assert_eq!(server.count(), sent);
}

#[tokio::test]
async fn a_broken_store_is_explained_in_the_log_and_not_on_discord() {
    let (server, team) = team().await;
    let bot = team.run().await;
    team.sign_in(&team.alice, "alice").await;
    let whole = team.stored();
    let sent = server.count();
    let apology = ["Something went wrong here", "Nothing was lost"];
    let broken = [
        ("{\"version\": 1,\n \"sessions\": oops}\n", 0o600, "line 2, column 14"),
        (whole.as_str(), 0o644, "is open to others (mode 0644)"),
    ];
    for (text, mode, logged) in broken {
        put(&team.home, text);
        fs::set_permissions(team.home.store(), fs::Permissions::from_mode(mode)).expect("ours");
        let provider = [("provider", "acme")];
        for (command, options) in [
            ("auth start", &provider[..]),
            ("auth status", &[]),
            ("auth logout", &provider[..]),
            ("auth cancel", &[]),
        ] {
            let answer = team.alice.command(&team.general, command, options).await.text();
            assert_says(&answer, &apology);
            assert!(!answer.contains("auth.json"), "{answer}");
        }
        let answer = team.paste(&team.alice, "some-code").await.text();
        assert_says(&answer, &apology);
        bot.says(logged).await;
        assert_eq!(team.stored(), text);
    }
    put(&team.home, &whole);
    fs::set_permissions(team.home.store(), fs::Permissions::from_mode(0o600)).expect("ours");
    let answer = team.alice.command(&team.general, "auth status", &[]).await.text();
    assert_says(&answer, &["alice@example.com"]);
    assert_eq!(server.count(), sent);
    team.discord.assert_no_violations();
}
