//! Shared parts of the integration tests: the look-alikes, and the parts that only tests need.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "each part offers more than the tests of one subject use"
)]

pub use threadkey_lookalike::{authserver, browser, discord, events, raw, settings, upstream};

#[cfg(target_os = "linux")]
pub mod chromium;
pub mod git_server;
pub mod network;
pub mod npm;
pub mod oidc;
pub mod program;
pub mod random;
