//! `threadkey token` with a fresh token, the whole process, ÷ a Rust program that prints a line.

use std::process::Command;

use crate::lab::{Lab, Token, in_turn, row, timed};

pub(crate) fn measure() {
    let lab = Lab::new();
    for (sessions, rounds) in [(1, 201), (1_000, 101), (10_000, 51)] {
        lab.fill(sessions, Token::Fresh);
        let ours = || timed(|| run(lab.token_command()));
        let line = || timed(|| run(lab.line_command()));
        let (ours, line) = in_turn(rounds, ours, line);
        row(
            &format!("`threadkey token`, fresh, {sessions} sessions"),
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
