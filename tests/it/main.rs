//! The integration tests: one binary, one module per subject.
#![expect(clippy::unwrap_used, reason = "a failed unwrap names its line")]

#[path = "../support/mod.rs"]
mod support;

mod api;
mod background;
mod bad_input;
mod broker;
mod canary;
mod change_notices;
mod choice;
mod cli;
mod clocks;
mod config_init;
mod crash;
mod crash_callback;
mod crash_matrix;
mod crash_polls;
mod damage;
mod deploy;
mod discord_agents;
mod discord_auth;
mod discord_choice;
mod discord_follow;
mod discord_gateway;
mod discord_held_prompts;
mod discord_logout;
mod discord_notices;
mod discord_outage;
mod discord_questions;
mod discord_rig;
mod discord_talk;
mod discord_voice;
mod discovery;
mod drain;
mod e2e;
mod earlier_version;
mod fair;
mod faulty_disk;
mod find_session;
mod fixtures;
#[cfg(target_os = "linux")]
mod foreign_owner;
mod hooks;
mod hostile_environment;
mod identity;
mod independence;
mod inject;
mod keepalive;
mod login;
mod login_terminal;
mod lookalike;
#[cfg(target_os = "linux")]
mod many_connections;
mod mcp;
mod model;
mod network;
mod odd_answers;
mod operators;
mod orphans;
mod outcomes;
mod pastes;
mod peer;
mod polls;
mod presets;
mod processes;
mod provider_list;
mod providers;
mod readme;
mod real_server;
mod rescue;
mod rights;
mod script;
mod shared_logins;
mod sign_in_pages;
mod sources;
mod store;
mod storm;
#[cfg(target_os = "linux")]
mod suspended;
mod team;
mod terminal;
mod tool_files;
mod workers;
