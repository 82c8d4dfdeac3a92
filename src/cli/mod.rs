//! The command line: its arguments, what it prints, and with which code it ends.
//!
//! Results go to the standard output and everything else to the standard error; a closed output is no panic. `token` and
//! `auth` need no running bot: they use the store and its locks.

mod args;
pub mod auth;
mod choice;
mod duration;
mod exit;
mod lease;
mod output;
pub mod providers;
mod status;
pub mod token;
mod usual;
mod words;
pub mod worker;

pub use args::{AuthCommand, Cli, Command, DoctorArgs, ProvidersArgs, RefreshArgs, TokenArgs};
pub use duration::{DurationError, parse_duration};
pub use exit::{Exit, ExitCode, Failure};
pub use output::{can_ask, read_line, say, write_out};
