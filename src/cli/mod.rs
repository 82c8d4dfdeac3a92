//! The command line: its arguments, its output and its exit codes.
//!
//! Results go to standard output and everything else to standard error. A reader that closes the
//! output early causes no panic. `token` and `auth` need no running bot: they use the store and its
//! locks.

mod args;
pub mod auth;
mod choice;
pub mod completions;
pub mod config_init;
mod demand;
mod duration;
mod exit;
mod interrupts;
mod lease;
mod login;
mod logout;
pub mod mcp;
mod messages;
mod output;
mod polled_sign_in;
mod prompt;
pub mod provider_name;
pub mod providers;
mod sign_in;
mod status;
pub mod token;
pub mod worker;

pub use args::{
    AuthArgs, AuthCommand, Cli, Command, ConfigArgs, ConfigCommand, LoginArgs, LogoutArgs, McpArgs,
    RefreshArgs, RefreshHintArgs, StartArgs, StatusArgs, TokenArgs,
};
pub use duration::{DurationError, parse_duration};
pub use exit::{Exit, ExitError, Failure};
pub use output::{json_line, print_notice, print_result, read_input, stdin_is_terminal};
pub use status::duration_text;
