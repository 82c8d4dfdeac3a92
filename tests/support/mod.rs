//! What the integration tests and the playground share: the servers that stand in for the world, and the people.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "each binary that includes this uses another part of it"
)]

pub mod authserver;
pub mod browser;
pub mod discord;
pub mod events;
pub mod npm;
pub mod oidc;
pub mod program;
pub mod random;
pub mod settings;
