//! The command `threadkey token`, for programs that threadkey has not started.
//!
//! The command refreshes in a process of its own. A caller that gives up kills the command, and that
//! process finishes.

use std::{path::PathBuf, process::Stdio, time::Duration};

use tokio::{io::AsyncWriteExt as _, process::Command};

use crate::{AccessToken, Error, Token, error::Code};

/// When to try again after the exit code 5. The command names no time by machine.
const TRY_AGAIN: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    pub(crate) principal: Option<String>,
    /// How long the command waits for a sign-in, in a worker.
    pub(crate) wait: Duration,
    /// Whether the command tries the token at the provider first.
    pub(crate) is_probed: bool,
}

impl Program {
    pub(crate) async fn token(&self, provider: &str, min_ttl: Option<Duration>) -> Result<Token, Error> {
        let mut command = self.command(provider);
        if let Some(ttl) = min_ttl {
            command.args(["--min-ttl", &format!("{}s", ttl.as_secs())]);
        }
        if !self.wait.is_zero() {
            command.args(["--wait", &format!("{}s", self.wait.as_secs())]);
        }
        if self.is_probed {
            command.arg("--probe");
        }
        self.run(command, None).await
    }

    pub(crate) async fn rejected(&self, provider: &str, token: &AccessToken) -> Result<Token, Error> {
        let mut command = self.command(provider);
        command.args(["--rejected", "-"]);
        self.run(command, Some(token)).await
    }

    fn command(&self, provider: &str) -> Command {
        let mut command = Command::new(&self.path);
        command.args(["token", provider, "--format", "json"]);
        if let Some(principal) = &self.principal {
            command.arg(format!("--as={principal}"));
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// Runs the command. A rejected token goes through standard input, never through arguments.
    #[expect(
        clippy::disallowed_methods,
        reason = "this package has no sys module; the rule is the root package's"
    )]
    async fn run(&self, mut command: Command, rejected: Option<&AccessToken>) -> Result<Token, Error> {
        let failed = |source| Error::Program { program: self.path.clone(), source };
        if rejected.is_some() {
            command.stdin(Stdio::piped());
        }
        let mut child = command.spawn().map_err(failed)?;
        if let (Some(token), Some(mut input)) = (rejected, child.stdin.take()) {
            // A command that ends before it reads has its reason on standard error.
            let _ = input.write_all(token.expose().as_bytes()).await;
        }
        let output = child.wait_with_output().await.map_err(failed)?;
        if output.status.success() {
            return Token::read(&output.stdout);
        }
        let detail = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let (code, retry_after) = match output.status.code() {
            Some(2) => (Code::InvalidRequest, None),
            Some(3) => (Code::NoSession, None),
            Some(4) => (Code::SessionEnded, None),
            Some(5) => (Code::ProviderUnavailable, Some(TRY_AGAIN)),
            Some(6) => (Code::StoreUnavailable, None),
            _ => (Code::Internal, None),
        };
        Err(Error::Refused { code, detail, retry_after })
    }
}
