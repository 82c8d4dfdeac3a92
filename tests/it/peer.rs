//! A Python program, tests/python/peer.py, shares the store by docs/protocol.md alone.
#![expect(clippy::disallowed_methods, reason = "the tests' own files and processes are not the program's")]

use std::{collections::BTreeSet, path::Path, process::Stdio};

use serde_json::{Value, json};
use threadkey::session::UNKNOWN_EXPIRY;
use tokio::process::{Child, Command};

use crate::support::{
    authserver::Reply,
    browser,
    oidc::{Oidc, OidcOptions},
    program::Home,
};

const AN_HOUR: i64 = 3600;

fn python_is_here() -> bool {
    let here = std::process::Command::new("python3").arg("--version").output();
    let here = here.is_ok_and(|output| output.status.success());
    if !here {
        println!("skipped: there is no python3 here; .ci/run installs it");
    }
    here
}

/// Signs in at oidc-provider, and adds unknown fields to the store. Returns `None`, with a notice,
/// on a machine without Python.
async fn shared() -> Option<(Oidc, Home)> {
    if !python_is_here() {
        return None;
    }
    let options =
        OidcOptions { access_token_ttl: std::time::Duration::from_secs(3600), ..OidcOptions::default() };
    let oidc = Oidc::start(options).await;
    let home = signed_in(&oidc.config_toml("acme")).await;
    let mut document = stored(&home);
    document["x_top"] = json!({"kept": [1, 2]});
    document["sessions"]["acme/local"]["x_session"] = json!("kept");
    let beside = home.store().with_extension("new");
    std::fs::write(&beside, document.to_string()).unwrap();
    std::fs::set_permissions(&beside, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::rename(&beside, home.store()).unwrap();
    Some((oidc, home))
}

pub(crate) async fn signed_in(provider: &str) -> Home {
    let home = Home::new(provider);
    let started = home.run(&["auth", "start", "acme", "--json"]).await;
    let started: Value = serde_json::from_str(&started.stdout).unwrap();
    let callback = browser::sign_in(started["authorize_url"].as_str().unwrap(), "alice").await;
    assert_eq!(home.run_with(&["auth", "code", "acme"], &callback.url).await.code, 0);
    home
}

pub(crate) fn stored(home: &Home) -> Value {
    serde_json::from_str(&std::fs::read_to_string(home.store()).unwrap()).unwrap()
}

pub(crate) fn peer(home: &Home, offset: i64) -> Child {
    Command::new("python3")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/peer.py"))
        .arg(home.store())
        .args(["acme/local", &offset.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

async fn printed(child: Child) -> String {
    let output = child.wait_with_output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Asserts that the session is as documented, and that no unknown field is gone.
fn assert_stored(home: &Home, token: &str, generation: u64) {
    let document = stored(home);
    let session = &document["sessions"]["acme/local"];
    assert_eq!(document["x_top"], json!({"kept": [1, 2]}));
    assert_eq!((&session["x_session"], &session["generation"]), (&json!("kept"), &json!(generation)));
    assert_eq!(session["access_token"], token.trim_end());
    let lock = home.store().with_file_name("auth.json.refresh").join("acme%2Flocal.lock");
    assert_eq!(std::fs::metadata(lock).unwrap().len(), 0, "the journal is empty");
}

#[tokio::test]
async fn a_python_process_refreshes_by_the_documented_protocol_and_threadkey_continues() {
    let Some((oidc, home)) = shared().await else { return };
    let first = printed(peer(&home, 0)).await;
    assert_eq!(first, home.run(&["token", "acme"]).await.stdout, "reading causes no request");
    home.set_offset(AN_HOUR);
    let second = printed(peer(&home, AN_HOUR)).await;
    assert_ne!(second, first);
    assert_stored(&home, &second, 2);
    assert_eq!(home.run(&["token", "acme"]).await.stdout, second);
    home.set_offset(2 * AN_HOUR + 60);
    let third = home.run(&["token", "acme"]).await;
    assert_eq!(third.code, 0, "the refresh token that Python saved works: {third:?}");
    assert_stored(&home, &third.stdout, 3);
    assert_eq!(printed(peer(&home, 2 * AN_HOUR + 60)).await, third.stdout);
    let counts = oidc.events().await.of("alice");
    assert_eq!((counts.refreshes, counts.reuses), (2, 0));
}

#[tokio::test]
async fn python_and_eight_command_lines_at_expiry_cause_one_refresh_and_share_its_token() {
    let Some((oidc, home)) = shared().await else { return };
    for round in 1..=3 {
        let offset = round * (AN_HOUR + 60);
        home.set_offset(offset);
        oidc.hold().await;
        let asking: Vec<Child> = (0..10)
            .map(|i| match i % 5 {
                0 => peer(&home, offset),
                _ => home.command(&["token", "acme"]).spawn().unwrap(),
            })
            .collect();
        oidc.wait_for_held(1).await;
        oidc.release().await;
        let tokens: BTreeSet<String> =
            futures_util::future::join_all(asking.into_iter().map(printed)).await.into_iter().collect();
        assert_eq!(tokens.len(), 1, "round {round}");
        assert_stored(&home, tokens.first().unwrap(), u64::try_from(round).unwrap() + 1);
        let counts = oidc.events().await.of("alice");
        assert_eq!((i64::from(counts.refreshes), counts.reuses, counts.failed), (round, 0, 0));
    }
}

#[tokio::test]
async fn threadkey_settles_a_journal_left_by_a_python_process_without_a_request() {
    if !python_is_here() {
        return;
    }
    let server = crate::team::authserver().await;
    let home = signed_in(&server.config_toml("acme")).await;
    home.set_offset(AN_HOUR);
    server.script([Reply::Status(503).retry_after(60)]);
    let sent = server.count();
    assert_eq!(peer(&home, AN_HOUR).wait_with_output().await.unwrap().status.code(), Some(5));
    let result = home.run(&["token", "acme"]).await;
    assert!(result.code == 5 && result.stderr.contains("http_503"), "{result:?}");
    assert_eq!(peer(&home, AN_HOUR).wait_with_output().await.unwrap().status.code(), Some(5), "held back");
    assert_eq!(server.count(), sent + 1);

    // The process is killed with its request in progress, so the result is unknown and is reported
    // as uncertain.
    let later = AN_HOUR + 120;
    home.set_offset(later);
    server.hold_before();
    let mut killed = peer(&home, later);
    server.wait_for_held(1).await;
    killed.kill().await.unwrap();
    let result = home.run(&["token", "acme"]).await;
    assert!(result.code == 5 && result.stderr.contains("ambiguous_no_answer"), "{result:?}");
    assert_eq!(server.count(), sent + 2);
    server.script([Reply::Json(400, json!({"error": "invalid_grant"}))]);
    server.release();
    server.settled(3).await;

    // A verdict is in the journal, and threadkey interprets it.
    let later = AN_HOUR + 240;
    home.set_offset(later);
    server.script([Reply::Json(400, json!({"error": "invalid_grant"}))]);
    assert_eq!(peer(&home, later).wait_with_output().await.unwrap().status.code(), Some(5));
    let result = home.run(&["token", "acme"]).await;
    assert!(result.code == 4 && result.stderr.contains("invalid_grant"), "{result:?}");
    assert_eq!(server.count(), sent + 3);
}

#[tokio::test]
async fn a_python_process_ignores_null_members_and_never_overwrites_a_damaged_journal() {
    if !python_is_here() {
        return;
    }
    let server = crate::team::authserver().await;
    let home = signed_in(&server.config_toml("acme")).await;
    let before = stored(&home)["sessions"]["acme/local"]["refresh_token"].clone();
    home.set_offset(AN_HOUR);
    // The line after a damaged intent may be the only copy of a new token.
    let lock = home.store().with_file_name("auth.json.refresh").join("acme%2Flocal.lock");
    let journal = "damaged\n44136fa355b3678a1146ad16 {}\n".to_owned();
    std::fs::write(&lock, &journal).unwrap();
    let sent = server.count();
    assert_eq!(peer(&home, AN_HOUR).wait_with_output().await.unwrap().status.code(), Some(5));
    assert_eq!(home.run(&["token", "acme"]).await.code, 6);
    assert_eq!((server.count(), std::fs::read_to_string(&lock).unwrap()), (sent, journal));
    std::fs::write(&lock, "").unwrap();

    let empty = json!({
        "access_token": "new", "refresh_token": null, "token_type": null, "scope": null, "expires_in": null
    });
    server.script([Reply::Json(200, empty)]);
    assert_eq!(printed(peer(&home, AN_HOUR)).await, "new\n");
    let session = &stored(&home)["sessions"]["acme/local"];
    assert_eq!((&session["refresh_token"], &session["token_type"]), (&before, &json!("Bearer")));
    assert_eq!(session["expires_at"], UNKNOWN_EXPIRY);
    assert_eq!(home.run(&["token", "acme"]).await.stdout, "new\n", "threadkey reads it");
}
