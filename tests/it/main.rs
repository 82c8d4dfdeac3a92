//! The integration tests: one binary, one module per subject.

#[path = "../support/mod.rs"]
mod support;

mod broker;
mod lookalike;
mod processes;
mod providers;
mod workers;
