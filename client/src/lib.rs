#![doc = include_str!("../README.md")]

#[cfg(not(unix))]
compile_error!("threadkey runs on Unix only: its token API is a Unix socket.");

mod api;
mod error;
#[cfg(feature = "rmcp")]
pub mod mcp;
#[cfg(feature = "reqwest")]
pub mod middleware;
#[cfg(any(feature = "reqwest", feature = "rmcp"))]
mod origin;
mod program;
mod secret;
mod token;

use std::{ffi::OsString, path::PathBuf, time::Duration};

use api::Api;
pub use error::{Code, Error};
use program::Program;
pub use secret::{AccessToken, Capability};
pub use token::Token;

/// The variable with the path of the token API's socket.
pub const SOCKET_VARIABLE: &str = "THREADKEY_SOCKET";
/// The variable with the capability of this worker.
pub const CAPABILITY_VARIABLE: &str = "THREADKEY_CAPABILITY";

/// How long an answer may take. threadkey's own limit on a caller is shorter.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// The way to threadkey's tokens. It holds no token: each call asks threadkey, which answers from
/// memory while a token is fresh.
#[derive(Clone, Debug)]
pub struct Client(Source);

#[derive(Clone, Debug)]
enum Source {
    Api(Api),
    Program(Program),
}

impl Client {
    /// A client of the token API on this socket. `capability` is the secret that its requests carry.
    pub fn socket(socket: impl Into<PathBuf>, capability: Capability) -> Self {
        Self(Source::Api(Api { socket: socket.into(), capability, wait: Duration::ZERO, is_probed: false }))
    }

    /// The client of this worker process: socket and capability come from its environment.
    ///
    /// # Errors
    /// [`Error::NotInWorker`] if [`SOCKET_VARIABLE`] or [`CAPABILITY_VARIABLE`] is not set.
    pub fn from_env() -> Result<Self, Error> {
        Self::from_variables(std::env::var_os)
    }

    fn from_variables(value: impl Fn(&'static str) -> Option<OsString>) -> Result<Self, Error> {
        let variable = |name| {
            let value = value(name).filter(|value| !value.is_empty());
            value.ok_or(Error::NotInWorker(name))
        };
        let socket = variable(SOCKET_VARIABLE)?;
        let capability = variable(CAPABILITY_VARIABLE)?.into_string().map_err(|_| Error::BadCapability)?;
        Ok(Self::socket(socket, Capability::new(capability)))
    }

    /// A client that runs the command `threadkey token`, for a program that threadkey has not started.
    /// `path` is the path of threadkey, or its name to be found in `PATH`. The command finds its
    /// configuration as always, so `THREADKEY_CONFIG` counts.
    pub fn program(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self(Source::Program(Program { path, principal: None, wait: Duration::ZERO, is_probed: false }))
    }

    /// Takes the sessions of this principal, such as `user:803`, instead of `local`. Only the command
    /// can do this. The token API takes the principal from the capability, and this method then changes
    /// nothing.
    #[must_use]
    pub fn acting_for(mut self, principal: impl Into<String>) -> Self {
        if let Source::Program(program) = &mut self.0 {
            program.principal = Some(principal.into());
        }
        self
    }

    /// Lets [`Client::token`] wait this long for a sign-in if there is no session, at most five minutes, in
    /// whole seconds. threadkey asks the owner of this worker on Discord, once for all waiting calls. The
    /// errors are [`Code::AuthorizationDenied`] if the owner declines, and [`Code::AuthorizationTimeout`]
    /// after the time; another call then joins the same question. Outside a worker no owner is asked.
    #[must_use]
    pub fn waiting(mut self, wait: Duration) -> Self {
        match &mut self.0 {
            Source::Api(api) => api.wait = wait,
            Source::Program(program) => program.wait = wait,
        }
        self
    }

    /// Lets threadkey try each token at the provider before [`Client::token`] returns it, for at most
    /// 1.5 s. If the provider refuses it, another one is returned. This is for programs that cannot report a
    /// refused token by [`Client::rejected`], which costs nothing while tokens work.
    #[must_use]
    pub fn probing(mut self) -> Self {
        match &mut self.0 {
            Source::Api(api) => api.is_probed = true,
            Source::Program(program) => program.is_probed = true,
        }
        self
    }

    fn wait(&self) -> Duration {
        match &self.0 {
            Source::Api(api) => api.wait,
            Source::Program(program) => program.wait,
        }
    }

    /// Returns a token that lives at least `min_ttl`, in whole seconds; without it, threadkey's default
    /// of one minute. At most half of a token's lifetime counts, so look at [`Token::expires_in`].
    ///
    /// # Errors
    /// [`Error`]. [`Error::needs_sign_in`] and [`Error::retry_after`] show the next step.
    pub async fn token(&self, provider: &str, min_ttl: Option<Duration>) -> Result<Token, Error> {
        let provider = checked(provider)?;
        within(ANSWER_WITHIN + self.wait(), async {
            match &self.0 {
                Source::Api(api) => api.token(provider, min_ttl).await,
                Source::Program(program) => program.token(provider, min_ttl).await,
            }
        })
        .await
    }

    /// Reports that a resource answered 401 to this token before it expired. Returns another one.
    ///
    /// # Errors
    /// [`Error`], with [`Code::RejectedAgain`] if no other token can be taken yet.
    pub async fn rejected(&self, provider: &str, token: &AccessToken) -> Result<Token, Error> {
        let provider = checked(provider)?;
        within(ANSWER_WITHIN, async {
            match &self.0 {
                Source::Api(api) => api.rejected(provider, token).await,
                Source::Program(program) => program.rejected(provider, token).await,
            }
        })
        .await
    }

    /// Reports that a resource answered 403 and demands more scopes than the token has (RFC 6750 §3.1).
    /// `challenges` are the values of its WWW-Authenticate headers. Returns the scopes of the next
    /// sign-in, which a user has to start. `None` if none would help: the token has the scopes already,
    /// or the resource demanded too many lately.
    ///
    /// A client of the command reports nothing and returns `None`: its sign-in names the scopes, by
    /// `threadkey auth start PROVIDER --scope SCOPE`.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn insufficient_scope(
        &self,
        provider: &str,
        challenges: &[&str],
    ) -> Result<Option<Vec<String>>, Error> {
        let provider = checked(provider)?;
        match &self.0 {
            Source::Api(api) => within(ANSWER_WITHIN, api.insufficient_scope(provider, challenges)).await,
            Source::Program(_) => Ok(None),
        }
    }
}

async fn within<T>(limit: Duration, answer: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::time::timeout(limit, answer).await.unwrap_or(Err(Error::Silent(limit)))
}

/// Checks the name of a provider, so that it can change neither a path nor an option.
fn checked(provider: &str) -> Result<&str, Error> {
    let mut bytes = provider.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let rest = bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_.-".contains(&b));
    if first && rest && provider.len() <= 64 {
        Ok(provider)
    } else {
        Err(Error::BadProvider(provider.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_found_by_both_variables_and_by_neither_alone() {
        let both = Client::from_variables(|name| Some(format!("/{name}").into())).expect("a worker");
        let Client(Source::Api(api)) = both else { panic!("it asks the token API") };
        assert_eq!(api.socket, PathBuf::from("/THREADKEY_SOCKET"));
        assert_eq!(api.capability.expose(), "/THREADKEY_CAPABILITY");
        for missing in [SOCKET_VARIABLE, CAPABILITY_VARIABLE] {
            let value = |name| (name != missing).then(|| OsString::from("x"));
            assert!(
                matches!(Client::from_variables(value), Err(Error::NotInWorker(name)) if name == missing)
            );
            let empty = |name| Some(OsString::from(if name == missing { "" } else { "x" }));
            assert!(
                matches!(Client::from_variables(empty), Err(Error::NotInWorker(name)) if name == missing)
            );
        }
    }
}
