//! The result of one check of `threadkey doctor`.

use serde::Serialize;

use crate::cli::{Exit, Failure};

/// The verdict of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Everything is in order.
    Ok,
    /// threadkey works, but something should be better or could not be checked.
    Warn,
    /// threadkey does not work.
    Fail,
}

/// The result of one check.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// The name of the check.
    pub name: String,
    /// The verdict.
    pub verdict: Verdict,
    /// The finding and the way to mend it.
    pub text: String,
    /// The exit code if the check failed.
    #[serde(skip)]
    pub exit: Exit,
}

impl Finding {
    pub(super) fn new(name: &str, verdict: Verdict, text: impl Into<String>) -> Self {
        Self { name: name.to_owned(), verdict, text: text.into(), exit: Exit::Usage }
    }

    /// Returns the finding about a missing or invalid configuration.
    pub fn no_configuration(failure: &Failure) -> Self {
        Self::new("configuration", Verdict::Fail, failure.text.clone())
    }
}
