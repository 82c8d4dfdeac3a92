//! Operator keys and the listener in the real program: its checks, and the commands that need no key.
#![expect(clippy::disallowed_methods, reason = "the tests' own files are not the program's")]

use std::os::unix::fs::PermissionsExt;

use crate::{
    support::{
        network::Authority,
        program::{Ended, Home},
    },
    team::authserver,
};

const GOOD: &str = "0123456789abcdef0123456789abcdef";

/// A home with an operator key in a file of this mode.
async fn home(key: &str, mode: u32, more: &str) -> Home {
    let server = authserver().await;
    let home = Home::new(&format!(
        "[api]\n{more}\n[api.operator_keys.ci]\nkey_file = \"ci.key\"\nprincipals = [\"*\"]\nproviders = [\"*\"]\n{}",
        server.config_toml("acme")
    ));
    let file = home.path().join("ci.key");
    std::fs::write(&file, key).expect("a file");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).expect("it is ours");
    home
}

/// Returns the line of a check of `doctor`.
fn line<'a>(doctor: &'a Ended, name: &str) -> &'a str {
    let mut lines = doctor.stdout.lines();
    lines.find(|line| line.get(6..).is_some_and(|rest| rest.starts_with(name))).unwrap_or_default()
}

#[tokio::test]
async fn a_bad_key_stops_only_the_commands_that_use_keys() {
    let short = "too-short-canary";
    let home = home(short, 0o600, "").await;
    assert_eq!(home.run(&["auth", "status"]).await.code, 0);
    assert_eq!(home.run(&["token", "acme"]).await.code, 3, "there is no session");
    for arguments in [&["config", "check"][..], &["serve"]] {
        let refused = home.run(arguments).await;
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(refused.stderr.contains("api.operator_keys.ci: "), "{refused:?}");
        assert!(refused.stderr.contains("shorter than 32 characters"), "{refused:?}");
        assert!(!refused.stderr.contains(short), "{refused:?}");
    }
    let doctor = home.run(&["doctor"]).await;
    assert_eq!(doctor.code, 2, "{doctor:?}");
    let found = line(&doctor, "operator keys");
    assert!(found.starts_with("FAIL") && found.contains("shorter than 32"), "{doctor:?}");
}

#[tokio::test]
async fn a_file_with_a_secret_that_others_can_read_draws_a_warning() {
    let home = home(GOOD, 0o644, "").await;
    let doctor = home.run(&["doctor"]).await;
    let found = line(&doctor, "secret files");
    assert!(
        found.starts_with("warn") && found.contains("ci.key") && found.contains("chmod 600"),
        "{doctor:?}"
    );
    let serve = home.start(&["serve"], &[]);
    serve.says("a file with a secret can be read by its group or by others").await;
    assert_eq!(serve.stop().await.code, 0);
    let file = home.path().join("ci.key");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).expect("it is ours");
    let doctor = home.run(&["doctor"]).await;
    assert!(line(&doctor, "secret files").is_empty(), "{doctor:?}");
    assert!(line(&doctor, "operator keys").starts_with("ok"), "{doctor:?}");
}

#[tokio::test]
async fn doctor_checks_the_listener_its_certificate_and_the_upstreams_of_routes() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("it is bound");
    let more = format!("listen = \"{address}\"\ncert_file = \"cert.pem\"\nkey_file = \"key.pem\"\n");
    let home = home(GOOD, 0o600, &more).await;
    let config = std::fs::read_to_string(home.path().join("threadkey.toml")).expect("a file");
    let route = "[inject.acme]\nupstream = \"http://127.0.0.1:1\"\n";
    home.configure(&(config + route));
    std::fs::write(home.path().join("cert.pem"), Authority::new().pem()).expect("a file");
    let doctor = home.run(&["doctor"]).await;
    assert_eq!(doctor.code, 2, "{doctor:?}");
    let listener = line(&doctor, "operator listener");
    assert!(listener.starts_with("FAIL") && listener.contains("cannot be listened on"), "{doctor:?}");
    assert!(doctor.stdout.contains("key.pem cannot be read"), "{doctor:?}");
    let route = line(&doctor, "network inject.acme");
    assert!(route.starts_with("warn") && route.contains("127.0.0.1:1"), "{doctor:?}");
    drop(taken);
    let doctor = home.run(&["doctor"]).await;
    assert!(line(&doctor, "operator listener").contains("can be listened on"), "{doctor:?}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_limit_of_descriptors_is_raised_for_the_program_alone() {
    let home = home(GOOD, 0o600, "").await;
    let mut command = tokio::process::Command::new("/bin/sh");
    let program = home.command(&["serve"]);
    for (name, value) in program.as_std().get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    let mut serve = command
        .args(["-c", "ulimit -S -n 256; exec \"$0\" serve"])
        .arg(crate::support::program::path())
        .current_dir(home.path())
        .kill_on_drop(true)
        .spawn()
        .expect("it starts");
    let limits = format!("/proc/{}/limits", serve.id().expect("it runs"));
    let raised = async {
        loop {
            let text = std::fs::read_to_string(&limits).unwrap_or_default();
            let line = text.lines().find(|line| line.starts_with("Max open files")).unwrap_or_default();
            let numbers: Vec<_> = line.split_whitespace().skip(3).take(2).map(str::to_owned).collect();
            if numbers.len() == 2 && numbers[0] == numbers[1] && numbers[0] != "256" {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), raised).await.expect("it is raised");
    serve.start_kill().expect("it runs");
    serve.wait().await.expect("it ends");
}
