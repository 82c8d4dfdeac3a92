//! What can be asked.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::parse_duration;
use crate::ids::{Principal, ProviderId, Tenant};

/// How long a token should still live when nobody says otherwise.
pub(super) const DEFAULT_MIN_TTL: &str = "60s";

/// Signs people in to OAuth providers and hands out fresh access tokens.
#[derive(Debug, Parser)]
#[command(
    name = "threadkey",
    version,
    about = "Signs people in to OAuth providers from Discord and hands fresh access tokens to agents",
    after_help = "Exit codes: 0 done, 1 internal, 2 usage or configuration, 3 no session, 4 session ended, \
                  5 try again later, 6 store.\nTHREADKEY_LOG=error|warn|info|debug|trace sets what is logged to \
                  the standard error."
)]
pub struct Cli {
    /// The configuration file [default: $THREADKEY_CONFIG, ./threadkey.toml,
    /// $XDG_CONFIG_HOME/threadkey/threadkey.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the Discord bot and the token API
    Run,
    /// Serve the token API alone
    Serve,
    /// Sign in and out
    #[command(subcommand)]
    Auth(AuthCommand),
    /// Print an access token, refreshed first where that is needed
    Token(TokenArgs),
    /// List the configured providers
    Providers(ProvidersArgs),
    /// Check the configuration, the store and this machine
    Doctor(DoctorArgs),
    /// The built-in agent: ACP on the standard input and output; says whose login it has
    Agent,
    /// Print a completion script for a shell
    Completions {
        /// For which shell.
        shell: clap_complete::Shell,
    },
    /// The refresh behind `token`, in a process of its own.
    #[command(name = "__refresh", hide = true)]
    Refresh(RefreshArgs),
    /// The second process of the store's lock check.
    #[command(name = "__lock-probe", hide = true)]
    LockProbe {
        /// The file to try.
        path: PathBuf,
    },
}

/// Sign in and out.
#[derive(Debug, Subcommand)]
pub enum AuthCommand {
    /// Start a sign-in and print its link; a live one is shown again
    Start {
        /// At which provider.
        provider: ProviderId,
        /// On whose behalf.
        #[command(flatten)]
        whose: Whose,
        /// Print {"authorize_url", "expires_at"}.
        #[arg(long)]
        json: bool,
    },
    /// Finish a sign-in with the code, or the whole address, that it ended with; read from the standard input
    Code {
        /// At which provider; needed only when several sign-ins are under way.
        provider: Option<ProviderId>,
        /// On whose behalf.
        #[command(flatten)]
        whose: Whose,
    },
    /// After a sign-in as another account: use that one from now on
    Switch {
        /// At which provider.
        provider: ProviderId,
        /// On whose behalf.
        #[command(flatten)]
        whose: Whose,
    },
    /// After a sign-in as another account: keep the one that there was, and drop the new one
    Keep {
        /// At which provider.
        provider: ProviderId,
        /// On whose behalf.
        #[command(flatten)]
        whose: Whose,
    },
    /// Show how the sessions stand
    Status {
        /// On whose behalf.
        #[command(flatten)]
        whose: Whose,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Remove a session from this machine
    Logout {
        /// At which provider.
        provider: ProviderId,
        /// On whose behalf.
        #[command(flatten)]
        whose: Whose,
        /// Also end the grant at the provider (RFC 7009).
        #[arg(long)]
        revoke: bool,
    },
    /// Bring home what a rescue file holds, after a time in which nothing could be saved
    Restore {
        /// The file that threadkey named when it ended.
        file: std::path::PathBuf,
    },
    /// Drop the sign-in under way
    Cancel {
        /// At which provider; without it, everywhere.
        provider: Option<ProviderId>,
        /// On whose behalf.
        #[command(flatten)]
        whose: Whose,
    },
}

/// On whose behalf.
#[derive(Clone, Debug, Args)]
pub struct Whose {
    /// On whose behalf: user:ID, guild:ID (Discord ids) or local.
    #[arg(long = "as", value_name = "PRINCIPAL", default_value = "local")]
    pub principal: Principal,
}

/// `threadkey token`.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// At which provider.
    pub provider: ProviderId,
    /// On whose behalf: user:ID, guild:ID (Discord ids) or local [default: local]. Inside a worker
    /// the token API decides.
    #[arg(long = "as", value_name = "PRINCIPAL")]
    pub principal: Option<Principal>,
    /// How long the token should still live; at most half its lifetime counts.
    #[arg(long, value_name = "DURATION", default_value = DEFAULT_MIN_TTL, value_parser = parse_duration)]
    pub min_ttl: Duration,
    /// `-`: a token that a resource refused before its time is on the standard input; get another one.
    #[arg(long, value_name = "-", conflicts_with = "min_ttl")]
    pub rejected: Option<RejectedFrom>,
    /// How to print it.
    #[arg(long, value_enum, default_value_t = Format::Raw)]
    pub format: Format,
}

impl TokenArgs {
    /// Whose token it is, outside a worker.
    pub fn tenant(&self) -> Tenant {
        Tenant::new(self.provider.clone(), self.principal.unwrap_or(Principal::Local))
    }
}

/// Where the rejected token is said to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectedFrom {
    /// `-`, the only place that a secret is read from.
    Stdin,
    /// In the arguments, which every process of the machine can see. It is refused later, by whoever reads the standard
    /// input, because the parser of the arguments would repeat it in its error.
    Arguments,
}

impl std::str::FromStr for RejectedFrom {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(if text == "-" { Self::Stdin } else { Self::Arguments })
    }
}

/// How a token is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// The token alone.
    Raw,
    /// Everything, as the token API has it.
    Json,
    /// THREADKEY_TOKEN=…, THREADKEY_TOKEN_TYPE=… and THREADKEY_EXPIRES_AT=…, a line each, quoted for the shell.
    Env,
    /// Authorization: Bearer …
    Header,
}

/// `threadkey providers`.
#[derive(Debug, Args)]
pub struct ProvidersArgs {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `threadkey doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `threadkey __refresh`.
#[derive(Debug, Args)]
pub struct RefreshArgs {
    /// Whose session.
    #[arg(long)]
    pub tenant: Tenant,
    /// In seconds.
    #[arg(long)]
    pub min_ttl: u64,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_rejected_token_in_the_arguments_is_told_from_the_standard_input_and_not_kept() {
        let parsed = |value| {
            let cli =
                Cli::try_parse_from(["threadkey", "token", "acme", "--rejected", value]).expect("parses");
            let Command::Token(args) = cli.command else { panic!("another command") };
            args.rejected
        };
        assert_eq!(parsed("-"), Some(RejectedFrom::Stdin));
        assert_eq!(parsed("canary"), Some(RejectedFrom::Arguments));
    }
}
