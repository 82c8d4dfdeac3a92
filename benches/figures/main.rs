//! Measures the figures of benches/README.md: `cargo bench --bench figures [-- WHICH…]`. WHICH is
//! any of `token`, `hot`, `commit`, `waiters` and `storm`. Without it the command measures all of
//! them.
//!
//! Each measurement and its comparison take turns in one run, so that a busy machine slows both.
#![expect(
    clippy::disallowed_methods,
    reason = "a measurement reads the clock, starts processes and lays out files"
)]

mod commit;
mod hot;
mod lab;
mod program;
mod storm;
mod waiters;

use std::path::Path;

#[global_allocator]
static ALLOCATOR: hot::Counting = hot::Counting;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [role, folder] = &arguments[..]
        && role == waiters::ROLE
    {
        return waiters::wait(Path::new(folder));
    }
    let wanted = |name: &str| arguments.is_empty() || arguments.iter().any(|argument| argument == name);
    println!("| what | measured | compared with | ratio |\n| --- | --- | --- | --- |");
    let figures: [(&str, fn()); 5] = [
        ("token", program::measure),
        ("hot", hot::measure),
        ("commit", commit::measure),
        ("waiters", waiters::measure),
        ("storm", storm::measure),
    ];
    for (_, measure) in figures.iter().filter(|(name, _)| wanted(name)) {
        measure();
    }
}
