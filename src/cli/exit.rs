//! The exit codes and the error that each of them stands for.

use std::fmt;

use crate::{
    broker::{CancelError, ChoiceError, FinishError, LogoutError, RestoreError, StartError, TokenError},
    oauth::{DiscoveryError, PasteError, ProviderError},
    store::StoreError,
};

/// The exit code of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// A defect, or the unexpected failure of a system call.
    Internal = 1,
    /// The user must change the arguments, the input or the configuration.
    Usage = 2,
    /// No session exists, or no sign-in is under way.
    NoSession = 3,
    /// The session has ended: the user must sign in again.
    Ended = 4,
    /// A temporary failure: the caller can try again.
    Later = 5,
    /// The store cannot be used.
    Store = 6,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The failure of a command: its exit code and one sentence for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// The failure and the way to mend it.
    pub text: String,
}

impl Failure {
    /// Creates a failure with its own text.
    pub fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, text: text.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<E: ExitError> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { exit: error.exit(), text: error.to_string() }
    }
}

/// An error that ends the process with a known exit code.
pub trait ExitError: std::error::Error {
    /// Returns the exit code.
    fn exit(&self) -> Exit;
}

impl ExitError for StoreError {
    fn exit(&self) -> Exit {
        match self {
            Self::Busy { .. } => Exit::Later,
            _ => Exit::Store,
        }
    }
}

impl ExitError for ProviderError {
    fn exit(&self) -> Exit {
        match self {
            Self::Setting { .. } => Exit::Usage,
            Self::Tls(_) => Exit::Internal,
        }
    }
}

impl ExitError for PasteError {
    fn exit(&self) -> Exit {
        Exit::Usage
    }
}

impl ExitError for TokenError {
    fn exit(&self) -> Exit {
        match self {
            Self::UnknownProvider(_)
            | Self::Misconfigured { .. }
            | Self::NoClientSecret { .. }
            | Self::ExchangeRefused { .. } => Exit::Usage,
            Self::Undiscovered { problem, .. } => undiscovered(problem),
            Self::NoSession(_) => Exit::NoSession,
            Self::Ended { .. } | Self::EnvironmentRejected { .. } => Exit::Ended,
            Self::Unavailable { .. }
            | Self::ExchangeUnavailable { .. }
            | Self::InProgress(_)
            | Self::Held { .. } => Exit::Later,
            Self::Store(error) => error.exit(),
            Self::Internal(_) => Exit::Internal,
        }
    }
}

fn undiscovered(problem: &DiscoveryError) -> Exit {
    if problem.is_temporary() { Exit::Later } else { Exit::Usage }
}

impl ExitError for StartError {
    fn exit(&self) -> Exit {
        match self {
            Self::Exchanged { .. }
            | Self::UnknownProvider(_)
            | Self::NotOffered { .. }
            | Self::NoLoginHint { .. }
            | Self::NoClientSecret { .. }
            | Self::NotBegun { .. } => Exit::Usage,
            Self::Undiscovered { problem, .. } => undiscovered(problem),
            Self::Busy { .. } | Self::Unreachable { .. } => Exit::Later,
            Self::Store(error) => error.exit(),
        }
    }
}

impl ExitError for FinishError {
    fn exit(&self) -> Exit {
        match self {
            Self::UnknownProvider(_)
            | Self::AlreadyDone { .. }
            | Self::AwaitsChoice { .. }
            | Self::Ambiguous(_)
            | Self::ManagersOnly(_)
            | Self::StateMismatch
            | Self::Paste(_)
            | Self::StateNeeded(_)
            | Self::ByBrowser(_)
            | Self::DigitsExpected(_)
            | Self::WrongDigits { .. }
            | Self::WrongDigitsOfSeveral { .. }
            | Self::DigitsUsedUp { .. }
            | Self::IssuerMismatch { .. }
            | Self::IssuerMissing(_)
            | Self::CodeSpent(_)
            | Self::Refused { .. }
            | Self::Misconfigured { .. }
            | Self::NoClientSecret { .. }
            | Self::WrongEndpoint { .. }
            | Self::RequestRefused { .. }
            | Self::Mismatch { .. }
            | Self::IdTokenRefused { .. }
            | Self::NonceMissing(_)
            | Self::NoCodeNeeded(_)
            | Self::BindingChanged(_) => Exit::Usage,
            Self::Undiscovered { problem, .. } => undiscovered(problem),
            Self::NothingPending { .. } | Self::Expired(..) | Self::Superseded(_) => Exit::NoSession,
            Self::Busy(_)
            | Self::Held { .. }
            | Self::NotSaved(_)
            | Self::TooManyCodes { .. }
            | Self::Unavailable { .. }
            | Self::Unreachable { .. }
            | Self::Uncertain { .. } => Exit::Later,
            Self::Store(error) => error.exit(),
            Self::Internal(_) => Exit::Internal,
        }
    }
}

impl ExitError for CancelError {
    fn exit(&self) -> Exit {
        match self {
            Self::Store(error) => error.exit(),
        }
    }
}

impl ExitError for ChoiceError {
    fn exit(&self) -> Exit {
        match self {
            Self::Gone(_) => Exit::NoSession,
            Self::Store(error) => error.exit(),
        }
    }
}

impl ExitError for RestoreError {
    fn exit(&self) -> Exit {
        match self {
            Self::Nothing { .. } | Self::Outdated(_) => Exit::Usage,
            Self::Busy(_) => Exit::Later,
            Self::NoToken(_) => Exit::Ended,
            Self::Token(error) => error.exit(),
            Self::Store(error) => error.exit(),
        }
    }
}

impl ExitError for LogoutError {
    fn exit(&self) -> Exit {
        match self {
            Self::NoSession(_) | Self::FromEnvironment { .. } => Exit::NoSession,
            Self::Exchanged { .. } | Self::Shared { .. } => Exit::Usage,
            Self::Store(error) => error.exit(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        ids::{ProviderId, Tenant},
        sys::lock_holder::LockHolder,
    };

    fn tenant() -> Tenant {
        "acme/local".parse().expect("a tenant")
    }

    fn provider() -> ProviderId {
        tenant().provider
    }

    #[test]
    fn each_error_has_its_documented_exit_code() {
        let newer = || StoreError::Newer { path: "auth.json".into(), version: 2 };
        let code = |error: &dyn ExitError| error.exit() as u8;
        let held =
            TokenError::Unavailable { tenant: tenant(), code: "dns".into(), retry_after: Duration::ZERO };
        let ended = TokenError::Ended { tenant: tenant(), code: "invalid_grant".into() };
        let client = TokenError::Misconfigured { tenant: tenant(), code: "invalid_client".into() };
        assert_eq!(code(&TokenError::Internal(tenant())), 1);
        assert_eq!(code(&TokenError::UnknownProvider(provider())), 2);
        assert_eq!(code(&client), 2);
        assert_eq!(code(&TokenError::NoSession(tenant())), 3);
        assert_eq!(code(&ended), 4);
        assert_eq!(code(&held), 5);
        assert_eq!(code(&TokenError::InProgress(tenant())), 5);
        assert_eq!(code(&TokenError::from(newer())), 6);
        let busy = || StoreError::Busy { path: "auth.json.global.lock".into(), holder: None };
        assert_eq!(code(&TokenError::from(busy())), 5);
        assert_eq!(code(&StartError::from(busy())), 5);
        assert_eq!(code(&FinishError::from(busy())), 5);
        assert_eq!(code(&LogoutError::from(busy())), 5);
        assert_eq!(code(&CancelError::from(busy())), 5);
        assert_eq!(code(&ChoiceError::from(busy())), 5);
        let holder = LockHolder { pid: 41, command: Some("threadkey".into()), is_stopped: true };
        assert_eq!(code(&TokenError::still_in_progress(&tenant(), Some(holder.clone()))), 5);
        assert_eq!(code(&FinishError::Held { provider: provider(), holder }), 5);
        assert_eq!(code(&StartError::from(newer())), 6);
        assert_eq!(code(&StartError::Busy { tenant: tenant(), until: 0 }), 5);
        assert_eq!(code(&FinishError::StateMismatch), 2);
        assert_eq!(code(&FinishError::NothingPending { provider: None }), 3);
        assert_eq!(code(&FinishError::Expired(provider(), std::time::Duration::from_secs(900))), 3);
        assert_eq!(code(&FinishError::from(newer())), 6);
        assert_eq!(code(&LogoutError::NoSession(tenant())), 3);
        assert_eq!(code(&CancelError::from(newer())), 6);
        assert_eq!(code(&ChoiceError::Gone(tenant())), 3);
        assert_eq!(code(&ChoiceError::from(newer())), 6);
        assert_eq!(code(&PasteError::Empty), 2);
    }
}
