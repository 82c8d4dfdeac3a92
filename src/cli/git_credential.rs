//! git's protocol with a credential helper (gitcredentials(7), git-credential(1)).
//!
//! git starts the helper with the operation as its last argument, and writes lines `key=value` to its
//! standard input. Invariant: a token goes to the hosts of its provider alone, by TLS, or without TLS on
//! loopback. To every other host the answer is empty, and git asks its next helper or the user.

use url::Url;

use super::{Exit, Failure, TokenArgs, args::Format, print_notice, read_input};
use crate::{
    broker::Lease,
    net::is_loopback,
    oauth::Provider,
    secret::{AccessToken, Secret},
};

/// The user name for a host whose own one is unknown. Servers that take an OAuth token as a password
/// mostly ignore it.
const USERNAME: &str = "oauth2";

/// The presets whose tokens open git repositories on the host of their token endpoint, with the user name
/// for them.
const PRESETS: [(&str, &str); 2] = [("github", "x-access-token"), ("gitlab", "oauth2")];

/// A host that takes a provider's tokens as passwords.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitHost {
    /// The host in lower case, with the port if it is not that of https.
    pub host: String,
    /// The user name for it.
    pub username: String,
}

/// An operation that needs more than an empty answer.
pub(super) enum GitOperation {
    /// Print the credentials for this user name.
    Get {
        /// The user name.
        username: String,
    },
    /// Report this password as rejected.
    Erase {
        /// The password.
        rejected: AccessToken,
    },
}

/// The lines that git writes.
#[derive(Default)]
struct Request {
    protocol: String,
    host: String,
    password: Option<Secret>,
}

// === impl GitHost ===

impl GitHost {
    /// The host of an address, with this user name.
    pub fn of(url: &Url, username: &str) -> Option<Self> {
        let host = url.host_str()?.to_ascii_lowercase();
        let host = url.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
        Some(Self { host, username: username.to_owned() })
    }

    /// The host of a provider with a preset whose tokens open git repositories.
    pub fn of_provider(provider: &Provider) -> Option<Self> {
        let (_, username) = PRESETS.into_iter().find(|(preset, _)| provider.preset() == Some(preset))?;
        Self::of(provider.token_endpoint(), username)
    }
}

/// Returns the failure of `--format git-credential` without an operation.
pub(super) fn needs_operation() -> Failure {
    let text = "--format git-credential needs an operation, which git appends: make this command git's credential.helper";
    Failure::new(Exit::Usage, text)
}

/// Checks the arguments, and reads the request from standard input. `None` if the answer is empty.
///
/// # Errors
/// When the arguments or the input are wrong.
pub(super) fn operation(args: &TokenArgs, hosts: &[GitHost]) -> Result<Option<GitOperation>, Failure> {
    let Some(operation) = args.operation.as_deref() else { return Err(needs_operation()) };
    let input = read_input()?;
    // A helper ignores operations that it does not know (gitcredentials(7)).
    if !["get", "erase"].contains(&operation) {
        return Ok(None);
    }
    let request = Request::parse(input.expose());
    let Some(username) = username(args, hosts, &request)? else {
        if hosts.is_empty() && args.hosts.is_empty() && operation == "get" {
            print_notice(
                "threadkey: no host is known to take this provider's tokens as git passwords: name it with --host",
            );
        }
        return Ok(None);
    };
    Ok(match operation {
        "get" => Some(GitOperation::Get { username }),
        _ => request
            .password
            .filter(|password| !password.is_empty())
            .map(|password| GitOperation::Erase { rejected: password.into() }),
    })
}

/// Checks that no argument of this protocol stands without it.
///
/// # Errors
/// [`Exit::Usage`].
pub fn check_args(args: &TokenArgs) -> Result<(), Failure> {
    if args.format == Format::GitCredential {
        let text = "--rejected: git reports a rejected password itself, by the operation erase";
        return if args.rejected.is_some() { Err(Failure::new(Exit::Usage, text)) } else { Ok(()) };
    }
    let given = [
        ("OPERATION", args.operation.is_some()),
        ("--host", !args.hosts.is_empty()),
        ("--username", args.username.is_some()),
    ];
    match given.iter().find(|(_, is_given)| *is_given) {
        None => Ok(()),
        Some((name, _)) => {
            Err(Failure::new(Exit::Usage, format!("{name} goes with --format git-credential alone")))
        }
    }
}

/// Formats the answer to `get`.
///
/// # Errors
/// When a control character would break a line.
pub(super) fn answer(lease: &Lease, username: &str) -> Result<String, Failure> {
    let token = lease.access_token.expose();
    if [token, username].iter().any(|text| text.chars().any(char::is_control)) {
        let text = format!("the token of {} or the user name contains control characters", lease.tenant);
        return Err(Failure::new(Exit::Internal, text));
    }
    let mut answer = format!("username={username}\npassword={token}\n");
    if lease.has_known_expiry() {
        answer.push_str(&format!("password_expiry_utc={}\n", lease.expires_at));
    }
    Ok(answer)
}

impl Request {
    /// Reads the lines up to an empty one. Unknown keys are ignored, and the last line of a key counts.
    fn parse(text: &str) -> Self {
        let mut request = Self::default();
        // A line ends with LF alone, so a CR stays a part of its value.
        for line in text.split('\n').take_while(|line| !line.is_empty()) {
            match line.split_once('=') {
                Some(("protocol", value)) => request.protocol = value.to_owned(),
                Some(("host", value)) => request.host = value.to_owned(),
                Some(("password", value)) => request.password = Some(Secret::new(value)),
                _ => {}
            }
        }
        request
    }

    /// Returns the address of the request's host, if a token may travel there.
    fn address(&self) -> Option<Url> {
        let url = plain_host(&self.protocol, &self.host)?;
        (self.protocol == "https" || self.protocol == "http" && is_loopback(&url)).then_some(url)
    }
}

/// Returns the user name for the request's host, if the token may go there.
fn username(args: &TokenArgs, hosts: &[GitHost], request: &Request) -> Result<Option<String>, Failure> {
    for given in &args.hosts {
        if plain_host("https", given).is_none() {
            let text = format!("--host {given:?} is not HOST or HOST:PORT, as in git.example.com");
            return Err(Failure::new(Exit::Usage, text));
        }
    }
    let Some(address) = request.address() else { return Ok(None) };
    let own = |username: &str| args.username.as_deref().unwrap_or(username).to_owned();
    let known =
        hosts.iter().find(|known| plain_host(&request.protocol, &known.host).as_ref() == Some(&address));
    if let Some(known) = known {
        return Ok(Some(own(&known.username)));
    }
    let is_given =
        args.hosts.iter().any(|given| plain_host(&request.protocol, given).as_ref() == Some(&address));
    Ok(is_given.then(|| own(USERNAME)))
}

/// Returns the address of HOST or HOST:PORT, and nothing else. The parser of URLs removes some characters
/// and replaces others, so a name with one of them only looks like a known host.
fn plain_host(protocol: &str, host: &str) -> Option<Url> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    let is_plain = !host.is_empty() && host.chars().all(is_allowed);
    let url = is_plain.then(|| Url::parse(&format!("{protocol}://{host}/")).ok()).flatten()?;
    url.has_host().then_some(url)
}

#[cfg(test)]
mod tests;
