//! The command line: its arguments, its output and its exit codes.
//!
//! Results go to standard output and everything else to standard error. A reader that closes the
//! output early causes no panic. `token` and `auth` need no running bot: they use the store and its
//! locks.

mod args;
pub mod auth;
mod cause;
mod choice;
pub mod completions;
pub mod config_init;
mod demand;
pub mod detached_refresh;
mod duration;
mod exec_args;
mod exec_credential;
mod exit;
pub mod git_credential;
mod interrupts;
mod lease;
mod login;
mod logout;
pub mod mcp;
mod messages;
mod output;
mod polled_sign_in;
mod prompt;
mod provider_facts;
pub mod provider_name;
mod provider_text;
pub mod providers;
mod sign_in;
mod status;
pub mod token;
pub mod worker;

pub use args::{
    AuthArgs, AuthCommand, Cli, Command, ConfigArgs, ConfigCommand, LogFormat, LoginArgs, LogoutArgs,
    McpArgs, RefreshArgs, RefreshHintArgs, StartArgs, StatusArgs, TokenArgs, UnknownLogFormat,
};
pub use duration::{DurationError, parse_duration};
pub use exec_args::{AS_VARIABLE, ExecArgs, acting_principal};
pub use exit::{Exit, ExitError, Failure};
pub use output::{json_line, print_notice, print_result, read_input, stdin_is_terminal};
pub use status::duration_text;
