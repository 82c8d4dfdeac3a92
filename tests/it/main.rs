//! The integration tests: one binary, one module per subject.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

#[path = "../support/mod.rs"]
mod support;

mod api;
mod bad_input;
mod broker;
mod cli;
mod crash;
mod crash_matrix;
mod discord_auth;
mod discord_gateway;
mod discord_rig;
mod discord_talk;
mod e2e;
mod faulty_disk;
mod lookalike;
mod processes;
mod providers;
mod store;
mod town;
mod workers;
