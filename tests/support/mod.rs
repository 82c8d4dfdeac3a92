//! What the integration tests and the playground share.

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "one test or the playground uses only a part of what all share"
)]

pub mod discord;
