#![expect(clippy::disallowed_methods, reason = "the tests' own files are not the program's")]

use super::*;

fn shell(script: &str) -> SecretSource {
    SecretSource::Command(SecretCommand::new(["sh", "-c", script]).expect("it has a program"))
}

#[tokio::test]
async fn a_command_gives_its_output_without_the_line_end_and_runs_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let count = folder.path().join("count");
    let source = shell(&format!("echo x >> {}; echo ' the secret '", count.display()));
    let shared = source.clone();
    let (first, second) = tokio::join!(source.read(), shared.read());
    assert_eq!(first.expect("it succeeds").expose(), "the secret");
    assert_eq!(second.expect("it succeeds").expose(), "the secret");
    assert_eq!(std::fs::read_to_string(count).expect("it ran"), "x\n");
}

#[tokio::test]
async fn a_failed_secret_command_shows_its_name_and_nothing_of_its_output() {
    for (script, problem) in [
        ("echo canary; echo canary >&2; exit 3", "exit status: 3"),
        ("printf ' \\n'", "its output is empty"),
        ("printf '\\377canary'", "its output is not text"),
        ("head -c 70000 /dev/zero | tr '\\0' x", "longer than 64 KiB"),
    ] {
        let error = shell(script).read().await.expect_err(script).to_string();
        assert!(error.contains("\"sh\"") && error.contains(problem), "{error}");
        assert!(!error.contains("canary"), "{error}");
    }
    let missing = SecretSource::Command(SecretCommand::new(["/no/such/program"]).expect("a program"));
    assert!(missing.read().await.expect_err("it is missing").to_string().contains("cannot be started"));
}

#[test]
fn a_secret_command_needs_a_program() {
    assert!(SecretCommand::new(Vec::<String>::new()).is_none());
    assert!(SecretCommand::new([""]).is_none());
}
