//! The cause of a failed connection, added to an error.

use super::{Exit, Failure};
use crate::{
    broker::TokenError,
    net::{Proxies, Unreachable},
    oauth::Provider,
};

/// Adds the cause if the provider cannot be reached.
pub(super) fn explained(error: TokenError, provider: &Provider, trouble: Option<Unreachable>) -> Failure {
    let step = match &error {
        TokenError::Unavailable { code, .. } => code.clone(),
        _ => String::new(),
    };
    with_cause(error.into(), &step, provider, trouble)
}

/// Adds the cause to a failure at a step of the connection. Only the process that tried to connect
/// knows it; for later ones `threadkey doctor` tries again.
pub(super) fn with_cause(
    mut failure: Failure,
    step: &str,
    provider: &Provider,
    trouble: Option<Unreachable>,
) -> Failure {
    if !Unreachable::STEPS.contains(&step) {
        return failure;
    }
    // A variable can be read again, and only the operator can correct it.
    let variable = Proxies::from_environment().problem(provider.token_endpoint());
    let cause = trouble.map(|cause| cause.to_string());
    let cause = match variable.filter(|_| step == "proxy") {
        Some(problem) => {
            failure.exit = Exit::Usage;
            Some(problem.to_string())
        }
        None => cause,
    };
    failure.text = match cause {
        Some(cause) => format!("{}. The cause: {cause}. `threadkey doctor` checks it", failure.text),
        None => format!("{}. `threadkey doctor` finds the cause", failure.text),
    };
    failure
}
