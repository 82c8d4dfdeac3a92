//! The `threadkey` binary.

fn main() {}
