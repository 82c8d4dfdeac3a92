//! The files for operators in `deploy/`.
#![expect(clippy::disallowed_methods, reason = "the tests' own files and processes are not the program's")]

use std::{fs, path::Path, process::Command};

fn unit() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/threadkey.service");
    fs::read_to_string(path).expect("the unit")
}

/// Returns the complaints of `systemd-analyze verify`, or `None` where it is missing.
fn complaints(unit: &str) -> Option<String> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("threadkey.service");
    fs::write(&file, unit.replace("/usr/local/bin/threadkey", "/bin/true")).expect("written");
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&file).output();
    let output = match output {
        Ok(output) => output,
        Err(error) => {
            println!("the unit was not verified, because systemd-analyze is missing: {error}");
            return None;
        }
    };
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    Some(text.lines().filter(|line| line.contains("threadkey.service")).collect::<Vec<_>>().join("\n"))
}

#[test]
fn systemd_accepts_every_line_of_the_unit() {
    let unit = unit();
    let Some(found) = complaints(&unit) else { return };
    assert_eq!(found, "");
    let broken = unit.replace("OOMPolicy=continue", "OOMPolicy=carry-on");
    let found = complaints(&broken).expect("it is there");
    assert!(found.contains("carry-on"), "a wrong value is found: {found}");
}

#[test]
fn the_unit_gives_agents_cgroups_and_keeps_them_from_the_metadata_service() {
    let unit = unit();
    let lines: Vec<_> = unit.lines().collect();
    for line in [
        "Delegate=memory pids",
        "OOMPolicy=continue",
        "IPAddressDeny=169.254.169.254 fd00:ec2::254",
        "KillMode=mixed",
        "LimitCORE=0",
    ] {
        assert!(lines.contains(&line), "{line}");
    }
    // With it the delegated part of the tree could not be written.
    assert!(!lines.iter().any(|line| line.starts_with("ProtectControlGroups=")));
}
