//! The source of a secret: the secret itself, or a command that prints it.
//!
//! A command such as a password manager may be slow or ask its user, so it runs when the secret is
//! first needed, and once in a process. It has no standard input, no shell, 10 seconds, and at most
//! 64 KiB of output. Nothing that it prints enters an error.

use std::{ffi::OsString, fmt, process::Stdio, sync::Arc, time::Duration};

use tokio::{
    io::AsyncReadExt as _,
    process::Command,
    sync::OnceCell,
    time::{Instant, timeout_at},
};
use zeroize::Zeroizing;

use super::process::spawn_known;
use crate::secret::Secret;

/// The longest time that a command may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest output of a command, in bytes.
const MAX_OUTPUT: u64 = 64 * 1024;

/// The source of a secret.
#[derive(Clone, Debug)]
pub enum SecretSource {
    /// The secret itself, from a variable or a file.
    Known(Secret),
    /// A command that prints the secret.
    Command(SecretCommand),
}

/// A command that prints a secret. Clones share the result.
#[derive(Clone)]
pub struct SecretCommand {
    argv: Vec<OsString>,
    output: Arc<OnceCell<Secret>>,
}

/// The reason why there is no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSecret {
    /// The command that prints it failed.
    #[error("the command {program:?} gave no secret: {problem}. Run it in a terminal to see its messages")]
    Command {
        /// The program.
        program: OsString,
        /// The failure.
        problem: String,
    },
    /// The store has it, and cannot be read now.
    #[error("the registered clients cannot be read: {0}")]
    Store(String),
}

impl NoSecret {
    /// Returns the name of the part that the operator must mend. `section` is the provider's.
    pub fn to_mend(&self, section: &str) -> String {
        match self {
            Self::Command { .. } => format!("{section}.client_secret_command"),
            Self::Store(_) => "the store".to_owned(),
        }
    }
}

impl From<Secret> for SecretSource {
    fn from(secret: Secret) -> Self {
        Self::Known(secret)
    }
}

impl SecretSource {
    /// Returns the secret. Runs the command, unless it has already succeeded.
    ///
    /// # Errors
    /// The failure of the command.
    pub async fn read(&self) -> Result<Secret, NoSecret> {
        match self {
            Self::Known(secret) => Ok(secret.clone()),
            Self::Command(command) => command.output.get_or_try_init(|| command.run()).await.cloned(),
        }
    }
}

impl SecretCommand {
    /// Takes the program and its arguments; `None` if there is no program.
    pub fn new(argv: impl IntoIterator<Item = impl Into<OsString>>) -> Option<Self> {
        let argv: Vec<OsString> = argv.into_iter().map(Into::into).collect();
        argv.first().is_some_and(|program| !program.is_empty()).then(|| Self { argv, output: Arc::default() })
    }

    /// Runs the command, whether or not it has succeeded before.
    ///
    /// # Errors
    /// The failure of the command.
    pub async fn run(&self) -> Result<Secret, NoSecret> {
        let program = self.argv[0].clone();
        let failed = |problem: String| NoSecret::Command { program: program.clone(), problem };
        let mut command = Command::new(&program);
        command.args(&self.argv[1..]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let (mut child, _known) = spawn_known(command.kill_on_drop(true))
            .map_err(|error| failed(format!("it cannot be started: {error}")))?;
        let stdout = child.stdout.take();
        let mut output = Zeroizing::new(Vec::with_capacity(4096));
        let finished = async {
            if let Some(stdout) = stdout {
                stdout.take(MAX_OUTPUT + 1).read_to_end(&mut output).await?;
            }
            child.wait().await
        };
        let status = match timeout_at(Instant::now() + PATIENCE, finished).await {
            Ok(Ok(status)) => status,
            Ok(Err(error)) => return Err(failed(error.to_string())),
            Err(_) => return Err(failed(format!("it took longer than {} seconds", PATIENCE.as_secs()))),
        };
        if output.len() as u64 > MAX_OUTPUT {
            return Err(failed("its output is longer than 64 KiB".to_owned()));
        }
        if !status.success() {
            return Err(failed(format!("it ended with {status}")));
        }
        let text = std::str::from_utf8(&output).map_err(|_| failed("its output is not text".to_owned()))?;
        match text.trim() {
            "" => Err(failed("its output is empty".to_owned())),
            secret => Ok(Secret::new(secret)),
        }
    }
}

impl fmt::Debug for SecretCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretCommand(…)")
    }
}

#[cfg(test)]
mod tests;
