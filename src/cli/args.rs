//! The arguments of the program, as clap parses them.
//!
//! The doc comment of a command or of an argument is its help text. `threadkey token` starts for
//! each token, so clap builds the arguments of the invoked command alone: the others are deferred.

use std::{convert::Infallible, env, ffi::OsString, path::PathBuf, str::FromStr, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::{
    Failure,
    config_init::InitArgs,
    demand::parse_scope,
    exec_args::{ExecArgs, acting_principal},
    parse_duration,
};
use crate::{
    broker::{DEFAULT_MIN_TTL, LONGEST_OWNER_WAIT},
    ids::{Principal, ProviderId, Tenant},
    session::GrantKind,
};

/// Signs users in to OAuth providers and hands out fresh access tokens.
#[derive(Debug, Parser)]
#[command(
    name = "threadkey",
    version,
    about = "Signs users in to OAuth providers from Discord and hands fresh access tokens to agents",
    after_help = "Exit codes: 0 done, 1 internal error, 2 usage or configuration, 3 no session, \
                  4 session ended, 5 try again later, 6 store.\n\
                  THREADKEY_LOG=error|warn|info|debug|trace sets the level of the log on standard error."
)]
pub struct Cli {
    /// The configuration file [default: $THREADKEY_CONFIG,
    /// $XDG_CONFIG_HOME/threadkey/threadkey.toml, /etc/threadkey/threadkey.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Parses the arguments of this process.
    ///
    /// # Errors
    /// clap's, which is also the output of `--help` and `--version`.
    pub fn from_process() -> Result<Self, clap::Error> {
        let arguments: Vec<OsString> = env::args_os().collect();
        match Self::plain_token(&arguments) {
            Some(cli) => Ok(cli),
            None => Self::try_parse_from(arguments),
        }
    }

    /// Parses `threadkey token PROVIDER` without clap, which takes a twelfth of the whole start to
    /// prepare the other commands and options.
    fn plain_token(arguments: &[OsString]) -> Option<Self> {
        let [_, command, provider] = arguments else { return None };
        if command != "token" {
            return None;
        }
        let provider = Some(provider.to_str()?.parse().ok()?);
        let args = TokenArgs { provider, ..TokenArgs::default() };
        Some(Self { config: None, command: Command::Token(args) })
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum Command {
    /// Run the Discord bot and the token API
    Run {
        /// The form of the log on standard error [default: log.format, or text]
        #[arg(long, value_name = "text|json", hide_possible_values = true)]
        log_format: Option<LogFormat>,
    },
    /// Serve the token API without the bot
    Serve {
        /// The form of the log on standard error [default: log.format, or text]
        #[arg(long, value_name = "text|json", hide_possible_values = true)]
        log_format: Option<LogFormat>,
    },
    /// Sign in and out
    Auth(AuthArgs),
    /// Sign in with the browser of this machine, or by a paste
    Login(LoginArgs),
    /// Remove a session from this machine, and end its grant at the provider (RFC 7009)
    #[command(hide = true)]
    Logout(LogoutArgs),
    /// Show the state of one principal's sessions
    #[command(hide = true, alias = "whoami")]
    Status(StatusArgs),
    /// Not needed: `token` refreshes by itself
    #[command(name = "refresh", hide = true)]
    RefreshHint(RefreshHintArgs),
    /// Print an access token, after a refresh where one is needed
    Token(TokenArgs),
    /// Run a command whose tool is signed in by these logins, while it runs
    Exec(ExecArgs),
    /// Be an MCP server on standard input and output that forwards to a provider's server, with its login
    Mcp(McpArgs),
    /// List the configured providers, and the presets for others
    Providers {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Write or check the configuration
    Config(ConfigArgs),
    /// Check the configuration, the store and this machine
    Doctor {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Only ask a running threadkey, over its socket, whether it answers
        #[arg(long)]
        running: bool,
    },
    /// Run the built-in ACP agent on standard input and output; it shows the account of its token
    Agent,
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Refresh a session for `token`, in a detached process
    #[command(name = "__refresh", hide = true)]
    Refresh(RefreshArgs),
    /// Try a lock as the second process of the store's lock check
    #[command(name = "__lock-probe", hide = true)]
    LockProbe {
        /// The file to lock
        path: PathBuf,
    },
}

/// Be an MCP server on standard input and output that forwards to a provider's server, with its login
#[derive(Debug, Args)]
pub struct McpArgs {
    /// The provider, which has `mcp = URL` in its section
    pub provider: ProviderId,
    /// The principal that the session belongs to: user:ID, guild:ID (Discord ids) or local
    /// [default: local]. Not allowed in a worker
    #[arg(long = "as", value_name = "PRINCIPAL")]
    pub principal: Option<Principal>,
}

/// Write or check the configuration
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// The action
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// The actions of `config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Write a commented configuration, from options and on a terminal from answers
    Init(InitArgs),
    /// Check the configuration alone; `doctor` also checks the store, the network and this machine
    Check,
}

// clap builds the arguments of a command after its variant in `Command`. The doc comment of an
// `Args` struct therefore replaces the variant's text in the command's own help, and both are the
// same.

/// Sign in and out
#[derive(Debug, Args)]
pub struct AuthArgs {
    /// The `auth` command.
    #[command(subcommand)]
    pub command: AuthCommand,
}

/// The `auth` commands.
#[derive(Debug, Subcommand)]
pub enum AuthCommand {
    /// Start a sign-in and print its link; a sign-in under way is shown again
    Start {
        /// The sign-in.
        #[command(flatten)]
        args: StartArgs,
        /// A scope that an MCP server demands beyond those of the session; repeat it for several
        #[arg(long = "scope", value_name = "SCOPE", value_parser = parse_scope)]
        scopes: Vec<String>,
    },
    /// Sign in with the browser of this machine, or by a paste
    #[command(hide = true)]
    Login(LoginArgs),
    /// Finish a sign-in with the code, or the whole address, of its last page; read from standard
    /// input
    Code {
        /// The provider; needed only if several sign-ins are under way
        provider: Option<ProviderId>,
        /// The principal.
        #[command(flatten)]
        acting_as: PrincipalArgs,
    },
    /// After a sign-in with another account: use the new account from now on
    Switch {
        /// The provider; needed only if several are configured
        provider: Option<ProviderId>,
        /// The principal.
        #[command(flatten)]
        acting_as: PrincipalArgs,
    },
    /// After a sign-in with another account: keep the current account and drop the new sign-in
    Keep {
        /// The provider; needed only if several are configured
        provider: Option<ProviderId>,
        /// The principal.
        #[command(flatten)]
        acting_as: PrincipalArgs,
    },
    /// Show the state of one principal's sessions
    #[command(alias = "whoami")]
    Status(StatusArgs),
    /// List the sessions of all principals
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Not needed: `token` refreshes by itself
    #[command(name = "refresh", hide = true)]
    RefreshHint(RefreshHintArgs),
    /// Remove a session from this machine, and end its grant at the provider (RFC 7009)
    Logout(LogoutArgs),
    /// Save the token of a rescue file, which threadkey writes if it ends before it can save a
    /// token
    Restore {
        /// The rescue file; threadkey printed its path when it ended
        file: PathBuf,
    },
    /// Drop a sign-in that is under way
    Cancel {
        /// The provider; all of them if it is left out
        provider: Option<ProviderId>,
        /// The principal.
        #[command(flatten)]
        acting_as: PrincipalArgs,
    },
}

/// Sign in with the browser of this machine, or by a paste
#[derive(Clone, Debug, Args)]
pub struct LoginArgs {
    /// The sign-in.
    #[command(flatten)]
    pub start: StartArgs,
    /// Only print the link
    #[arg(long)]
    pub no_browser: bool,
}

/// Start a sign-in and print its link; a sign-in under way is shown again
#[derive(Clone, Debug, Args)]
pub struct StartArgs {
    /// The provider; needed only if several are configured
    pub provider: Option<ProviderId>,
    /// The principal.
    #[command(flatten)]
    pub acting_as: PrincipalArgs,
    /// The way to sign in, if the provider offers several: code, device or ciba
    #[arg(long)]
    pub grant: Option<GrantKind>,
    /// Print {"authorize_url", "expires_at"}, or {"verification_uri", "user_code", "expires_at"}
    #[arg(long)]
    pub json: bool,
}

/// Show the state of one principal's sessions
#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    /// The principal.
    #[command(flatten)]
    pub acting_as: PrincipalArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Not needed: `token` refreshes by itself
#[derive(Clone, Debug, Args)]
pub struct RefreshHintArgs {
    /// The provider
    pub provider: Option<ProviderId>,
    /// The principal.
    #[command(flatten)]
    pub acting_as: PrincipalArgs,
}

/// Remove a session from this machine, and end its grant at the provider (RFC 7009)
#[derive(Clone, Debug, Args)]
pub struct LogoutArgs {
    /// The provider; needed only if several are configured
    pub provider: Option<ProviderId>,
    /// The principal.
    #[command(flatten)]
    pub acting_as: PrincipalArgs,
    /// Leave the grant at the provider as it is
    #[arg(long, conflicts_with = "revoke")]
    pub keep_grant: bool,
    /// End the grant without a question, even if another session here has the same account
    #[arg(long)]
    pub revoke: bool,
}

/// The principal that a session belongs to.
#[derive(Clone, Debug, Args)]
pub struct PrincipalArgs {
    /// The principal that the session belongs to: user:ID, guild:ID (Discord ids) or local
    #[arg(long = "as", value_name = "PRINCIPAL", default_value = "local")]
    pub principal: Principal,
}

/// Print an access token, after a refresh where one is needed
#[derive(Debug, Default, Args)]
pub struct TokenArgs {
    /// The provider; needed only if several are configured, or in a worker
    pub provider: Option<ProviderId>,
    /// The principal that the session belongs to: user:ID, guild:ID (Discord ids) or local
    /// [default: local]. Not allowed in a worker: there the token API decides
    #[arg(long = "as", value_name = "PRINCIPAL")]
    pub principal: Option<Principal>,
    /// The time that the token must still live; at most half of its lifetime counts, and a token that
    /// lives shorter is printed with a warning [default: 60s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub min_ttl: Option<Duration>,
    /// In a worker, how long its owner may take to sign in if there is no session; the owner is asked on
    /// Discord. At most 5m. Elsewhere there is no owner to ask, and the error has the command that signs in
    #[arg(long, value_name = "DURATION", value_parser = parse_wait, conflicts_with = "rejected")]
    pub wait: Option<Duration>,
    /// `-`: read a token from standard input that a resource rejected before it expired; print
    /// another one
    #[arg(long, value_name = "-", conflicts_with = "min_ttl")]
    pub rejected: Option<RejectedFrom>,
    /// Try the token at the provider first, for at most 1.5 s, and print another one if it is refused. For
    /// programs that run this command and cannot report a rejected token
    #[arg(long, conflicts_with = "rejected")]
    pub probe: bool,
    /// The output format
    #[arg(long, value_enum, default_value_t = Format::Raw)]
    pub format: Format,
    /// With --format git-credential: a host that gets the token, besides those of the provider; repeat it
    /// for several
    #[arg(long = "host", value_name = "HOST[:PORT]")]
    pub hosts: Vec<String>,
    /// With --format git-credential: the user name that git sends [default: that of the provider]
    #[arg(long, value_name = "NAME")]
    pub username: Option<String>,
    /// With --format git-credential: get, store or erase, which git appends
    #[arg(value_name = "OPERATION", requires = "provider")]
    pub operation: Option<String>,
}

/// Parses the time for which the owner of a worker may be waited for.
fn parse_wait(text: &str) -> Result<Duration, String> {
    let wait = parse_duration(text).map_err(|error| error.to_string())?;
    if wait > LONGEST_OWNER_WAIT {
        let longest = LONGEST_OWNER_WAIT.as_secs() / 60;
        return Err(format!("an owner is waited for {longest}m at most; ask again after that"));
    }
    Ok(wait)
}

impl TokenArgs {
    /// Returns the time that the token must still live.
    pub fn min_ttl(&self) -> Duration {
        self.min_ttl.unwrap_or(DEFAULT_MIN_TTL)
    }

    /// Returns the tenant of a token of this provider. It is valid outside a worker only.
    ///
    /// # Errors
    /// See [`acting_principal`].
    pub fn tenant(&self, provider: ProviderId) -> Result<Tenant, Failure> {
        Ok(Tenant::new(provider, acting_principal(self.principal)?))
    }
}

/// The place of a rejected token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectedFrom {
    /// `-`: standard input, the only allowed place.
    Stdin,
    /// The arguments, which every process of the machine can read. The reader of standard input
    /// refuses this, because an error of the argument parser would print the token.
    Arguments,
}

impl FromStr for RejectedFrom {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(if text == "-" { Self::Stdin } else { Self::Arguments })
    }
}

/// The form of the log on standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One line for each event
    #[default]
    Text,
    /// One JSON object on a line for each event
    Json,
}

/// A text is no form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write text or json")]
pub struct UnknownLogFormat;

impl FromStr for LogFormat {
    type Err = UnknownLogFormat;

    fn from_str(text: &str) -> Result<Self, UnknownLogFormat> {
        <Self as ValueEnum>::from_str(text, false).map_err(|_| UnknownLogFormat)
    }
}

/// The output format of a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// The token alone
    #[default]
    Raw,
    /// The same members as the token API's answer
    Json,
    /// THREADKEY_TOKEN=…, THREADKEY_TOKEN_TYPE=… and THREADKEY_EXPIRES_AT=…, one per line, quoted
    /// for the shell
    Env,
    /// Authorization: Bearer …
    Header,
    /// The answer of a credential helper of git, which appends the operation
    GitCredential,
    /// The answer of a credential plugin of Kubernetes
    ExecCredential,
}

/// Refresh a session for `token`, in a detached process
#[derive(Debug, Args)]
pub struct RefreshArgs {
    /// The tenant of the session
    #[arg(long)]
    pub tenant: Tenant,
    /// The time that the token must still live, in seconds
    #[arg(long)]
    pub min_ttl: u64,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn token_args(arguments: &[&str]) -> TokenArgs {
        let cli =
            Cli::try_parse_from(["threadkey", "token", "acme"].iter().chain(arguments)).expect("parses");
        let Command::Token(args) = cli.command else { panic!("another command") };
        args
    }

    #[test]
    fn the_arguments_pass_claps_checks() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_plain_token_command_has_the_meaning_that_clap_gives_it() {
        let plain = |arguments: &[&str]| {
            let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
            let cli = Cli::plain_token(&arguments)?;
            let parsed = Cli::try_parse_from(arguments).expect("clap accepts it too");
            Some((format!("{cli:?}"), format!("{parsed:?}")))
        };
        let (cli, parsed) = plain(&["threadkey", "token", "help"]).expect("it is plain");
        assert_eq!(cli, parsed);
        for other in [
            &["threadkey", "token"][..],
            &["threadkey", "token", "--help"],
            &["threadkey", "token", "-h"],
            &["threadkey", "token", ""],
            &["threadkey", "token", "Acme"],
            &["threadkey", "token", "acme", "--format=json"],
            &["threadkey", "providers", "acme"],
        ] {
            assert_eq!(plain(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_rejected_token_in_the_arguments_is_recognized_and_not_kept() {
        let rejected = |value| token_args(&["--rejected", value]).rejected;
        assert_eq!(rejected("-"), Some(RejectedFrom::Stdin));
        assert_eq!(rejected("canary"), Some(RejectedFrom::Arguments));
    }

    #[test]
    fn a_command_has_the_same_text_in_the_list_and_in_its_own_help() {
        let listed = Cli::command();
        let mut built = Cli::command();
        built.build();
        for command in listed.get_subcommands() {
            let own = built.find_subcommand(command.get_name()).and_then(clap::Command::get_about);
            assert_eq!(
                command.get_about().map(ToString::to_string),
                own.map(ToString::to_string),
                "{}",
                command.get_name()
            );
        }
    }

    #[test]
    fn min_ttl_has_the_brokers_default_and_its_help_names_it() {
        assert_eq!(token_args(&[]).min_ttl(), DEFAULT_MIN_TTL);
        let mut command = Cli::command();
        command.build();
        let token = command.find_subcommand("token").expect("it exists");
        let help = token.get_arguments().find(|arg| arg.get_id() == "min_ttl").and_then(clap::Arg::get_help);
        let default = format!("[default: {}s]", DEFAULT_MIN_TTL.as_secs());
        assert!(help.expect("a text").to_string().ends_with(&default));
    }
}
