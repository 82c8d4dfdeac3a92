//! threadkey signs people in to OAuth providers from Discord and hands fresh access tokens to agent
//! processes, so that a refresh token is spent exactly once and a new one is never lost.

#[cfg(not(unix))]
compile_error!("threadkey runs on Unix only: its locks are flock(2) and its token API is a Unix socket.");

pub mod agent;
pub mod api;
pub mod app;
pub mod broker;
pub mod cli;
pub mod config;
pub mod discord;
pub mod entry;
pub mod ids;
pub mod oauth;
pub mod secret;
pub mod session;
pub mod store;
pub mod sys;
