//! The whole process `threadkey token` with a fresh token, compared with a Rust program that prints
//! a line.

use std::process::Command;

use crate::lab::{Lab, Token, in_turn, row, timed};

pub(crate) fn measure() {
    let lab = Lab::new();
    for (sessions, before, place, rounds) in [
        (1, 0, "", 401),
        (100, 50, "", 401),
        (1_000, 500, "", 201),
        (10_000, 5_000, "", 101),
        (10_000, 0, ", the first", 101),
        (10_000, 9_999, ", the last", 101),
    ] {
        lab.fill_at(sessions, Token::Fresh, before);
        let ours = || timed(|| run(lab.token_command()));
        let line = || timed(|| run(lab.line_command()));
        let (ours, line) = in_turn(rounds, ours, line);
        row(
            &format!("`threadkey token`, fresh, {sessions} sessions{place}"),
            ours,
            "a program that prints a line",
            line,
        );
    }
}

fn run(mut command: Command) {
    let output = command.output().expect("it starts");
    assert!(
        output.status.success() && !output.stdout.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
