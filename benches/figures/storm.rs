//! Many processes that request the token at its expiry, compared with one such process. The
//! provider takes 200 ms. The time runs from the start of the first process to the end of the last.

use std::{
    collections::BTreeSet,
    process::Child,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use crate::lab::{Lab, Token, median, row};

const SIZES: [usize; 4] = [8, 24, 64, 128];
const ROUNDS: usize = 7;

pub(crate) fn measure() {
    let lab = Lab::new();
    let mut alone = Vec::new();
    let mut crowds = SIZES.map(|_| (Vec::new(), Vec::new()));
    for _ in 0..ROUNDS {
        alone.push(storm(&lab, 1).0);
        for (size, (all, after)) in SIZES.iter().zip(&mut crowds) {
            let (time, late) = storm(&lab, *size);
            all.push(time);
            after.push(late);
        }
    }
    let alone = median(alone);
    for (size, (all, after)) in SIZES.iter().zip(crowds) {
        row(&format!("storm: {size} processes"), median(all), "one alone", alone);
        println!("| … from the provider's answer to the end of the last | {:.2?} | | |", median(after));
    }
}

/// Returns the time until the last process holds the token, and the part of it after the provider's
/// answer.
fn storm(lab: &Lab, size: usize) -> (Duration, Duration) {
    lab.fill(1, Token::Expired);
    let before = lab.provider.answered.load(Ordering::SeqCst);
    let start = Instant::now();
    let running: Vec<Child> = (0..size).map(|_| lab.token_command().spawn().expect("it starts")).collect();
    let mut printed = BTreeSet::new();
    for child in running {
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        printed.insert(output.stdout);
    }
    let time = start.elapsed();
    let answered = lab.provider.last.lock().expect("whole").expect("it was asked");
    assert_eq!(printed.len(), 1, "all hold the winner's token");
    assert_eq!(lab.provider.answered.load(Ordering::SeqCst), before + 1, "one refresh");
    (time, answered.elapsed())
}
