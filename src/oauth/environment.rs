//! A token that the operator puts into an environment variable, for the principals that the
//! configuration names.

use std::fmt;

use crate::{ids::Principal, secret::AccessToken};

/// A token from an environment variable. It is never stored and never refreshed.
#[derive(Clone, PartialEq, Eq)]
pub struct EnvironmentToken {
    /// The name of the variable.
    pub variable: String,
    /// Its value.
    pub token: AccessToken,
    /// The principals that get it.
    pub principals: Vec<Principal>,
}

impl fmt::Debug for EnvironmentToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnvironmentToken").field("variable", &self.variable).finish_non_exhaustive()
    }
}
