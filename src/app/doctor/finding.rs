//! What `threadkey doctor` says of one thing that it looked at.

use serde::Serialize;

use crate::cli::{Exit, Failure};

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and could be better, or it could not be looked at.
    Warn,
    /// threadkey does not work like this.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What.
    pub name: String,
    /// How it is.
    pub verdict: Verdict,
    /// What was found, and what to do about it.
    pub text: String,
    /// The code to end with when this is a failure.
    #[serde(skip)]
    pub exit: Exit,
}

impl Finding {
    pub(super) fn new(name: &str, verdict: Verdict, text: impl Into<String>) -> Self {
        Self { name: name.to_owned(), verdict, text: text.into(), exit: Exit::Usage }
    }

    /// The finding that there is no sound configuration.
    pub fn no_configuration(failure: &Failure) -> Self {
        Self::new("configuration", Verdict::Fail, failure.text.clone())
    }
}
