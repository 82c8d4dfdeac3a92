//! The arguments of `threadkey exec`, and the principal of a command outside a worker.

use std::{collections::BTreeSet, env, ffi::OsString};

use clap::Args;

use super::{Exit, Failure};
use crate::{
    ids::{Principal, ProviderId},
    net::is_loopback,
    tools::Way,
};

/// Run a command whose tool is signed in by these logins, while it runs
#[derive(Debug, Args)]
#[command(
    override_usage = "threadkey exec [OPTIONS] <PROVIDER>... -- <CMD>...",
    after_help = "Exit codes: that of the command; 128 and the signal's number if a signal ended it; 126 or 127 if \
                  it cannot be run; as for `threadkey token` if there is no login."
)]
pub struct ExecArgs {
    /// The providers whose logins the command gets
    #[arg(required = true, value_name = "PROVIDER")]
    pub providers: Vec<ProviderId>,
    /// The principal that the sessions belong to: user:ID, guild:ID (Discord ids) or local
    /// [default: local]
    #[arg(long = "as", value_name = "PRINCIPAL")]
    pub principal: Option<Principal>,
    /// The tool that the command is, if its name does not show it
    #[arg(long, value_name = "NAME")]
    pub tool: Option<String>,
    /// How the tool gets its token: hook (it runs threadkey), inject (a proxy puts the token in) or file
    /// [default: the first one that the tool and the provider have]
    #[arg(long, value_name = "hook|inject|file", value_parser = parse_way)]
    pub way: Option<Way>,
    /// The address of the API, for a provider that is not the tool's vendor
    #[arg(long, value_name = "URL", value_parser = parse_base_url)]
    pub base_url: Option<String>,
    /// The model that the tool uses
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// The command and its arguments, after `--`
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

impl ExecArgs {
    /// Returns the providers, each once.
    pub fn providers(&self) -> Vec<ProviderId> {
        let mut seen = BTreeSet::new();
        self.providers.iter().filter(|id| seen.insert(*id)).cloned().collect()
    }

    /// Checks that a command is there. Without `--`, its words are the names of providers.
    ///
    /// # Errors
    /// The form of the command line, if there is none.
    pub fn check_command(&self) -> Result<(), Failure> {
        if !self.command.is_empty() {
            return Ok(());
        }
        let provider = self.providers.first().map_or("PROVIDER", ProviderId::as_str);
        let text = format!(
            "no command is given: write it after `--`, as in `threadkey exec {provider} -- gh pr list`"
        );
        Err(Failure::new(Exit::Usage, text))
    }

    /// Returns the principal of the logins.
    ///
    /// # Errors
    /// See [`acting_principal`].
    pub fn principal(&self) -> Result<Principal, Failure> {
        acting_principal(self.principal)
    }
}

/// The variable that names the principal where `--as` is missing. `exec` sets it for the commands that it
/// runs, and their hooks.
pub const AS_VARIABLE: &str = "THREADKEY_AS";

/// Returns the principal of a command outside a worker: that of `--as`, of the environment, or `local`.
///
/// # Errors
/// When the environment names none.
pub fn acting_principal(given: Option<Principal>) -> Result<Principal, Failure> {
    match (given, env::var(AS_VARIABLE)) {
        (Some(given), _) => Ok(given),
        (None, Ok(text)) if !text.is_empty() => text
            .parse()
            .map_err(|error| Failure::new(Exit::Usage, format!("the variable {AS_VARIABLE}: {error}"))),
        (None, _) => Ok(Principal::Local),
    }
}

fn parse_way(text: &str) -> Result<Way, &'static str> {
    Way::ALL.into_iter().find(|way| way.as_str() == text).ok_or("write hook, inject or file")
}

/// Checks an address to which a tool sends a token.
fn parse_base_url(text: &str) -> Result<String, &'static str> {
    let problem = "it must be https://…, or http:// on this machine, because each request carries a token";
    let url = url::Url::parse(text).map_err(|_| problem)?;
    let is_safe = url.scheme() == "https" || url.scheme() == "http" && is_loopback(&url);
    let is_plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if !url.has_host() || !is_safe {
        return Err(problem);
    }
    is_plain
        // As the parser writes it, so that the tool finds the same host in it.
        .then(|| url.as_str().trim_end_matches('/').to_owned())
        .ok_or("it must have no user name, query or fragment")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_finds_the_host_in_its_address_that_was_checked() {
        for (text, expected) in [
            ("https://api.acme.example/v1/", "https://api.acme.example/v1"),
            ("https://api.ac\nme.example\t/v1 ", "https://api.acme.example/v1"),
            ("https://api.acme.example\\@evil.example", "https://api.acme.example/@evil.example"),
            ("HTTP://127.1:80/x", "http://127.0.0.1/x"),
        ] {
            assert_eq!(parse_base_url(text).as_deref(), Ok(expected), "{text:?}");
        }
        for text in [
            "http://api.acme.example",
            "https://u@api.acme.example",
            "https://a.example?x",
            "ftp://a.example",
            "",
        ] {
            assert!(parse_base_url(text).is_err(), "{text:?}");
        }
    }
}
