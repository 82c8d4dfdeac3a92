//! The library against the real token API, its transport against a real MCP server, and its
//! middleware for reqwest.

#![allow(unreachable_pub, reason = "a module of the root package's tests is used here too")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod api;
mod mcp;
mod middleware;
#[path = "../../../tests/support/npm.rs"]
mod npm;
mod program;
mod rig;
