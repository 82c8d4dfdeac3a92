//! `threadkey token` inside a worker: a client of the token API, like any other program there.

use std::time::Duration;

use super::{
    Exit, ExitError, Failure, TokenArgs,
    token::{job, print, rejected_from_stdin},
};
use crate::{
    agent::{
        CAPABILITY_VARIABLE, SOCKET_VARIABLE,
        builtin::BuiltinError,
        token_client::{TokenAnswer, TokenClient, TokenClientError, TokenQuery},
    },
    broker::{Lease, LeaseSource},
    ids::Tenant,
};

/// Whether the environment makes this process a worker.
pub fn is_worker() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    is_set(SOCKET_VARIABLE) && is_set(CAPABILITY_VARIABLE)
}

/// Gets a token from the token API and prints it.
///
/// # Errors
/// The text to print and the exit code.
pub async fn run(args: &TokenArgs) -> Result<(), Failure> {
    if args.principal.is_some() {
        let text = "--as is not allowed inside a worker: its capability determines the principal";
        return Err(Failure::new(Exit::Usage, text));
    }
    let Some(provider) = &args.provider else {
        let text = "name the provider: inside a worker threadkey reads no configuration";
        return Err(Failure::new(Exit::Usage, text));
    };
    // The hosts of git are in the arguments alone, because a worker reads no configuration.
    let Some(job) = job(args, rejected_from_stdin(args).await?, Vec::new)? else { return Ok(()) };
    let client = TokenClient::from_env()?;
    let answer = match &job.rejected {
        Some(rejected) => client.rejected(provider, rejected).await?,
        None => {
            let (min_ttl, wait, probe) = (Some(args.min_ttl()), args.wait, args.probe);
            client.token(provider, TokenQuery { min_ttl, wait, probe }).await?
        }
    };
    print(&lease(answer)?, args, &job.output)
}

fn lease(answer: TokenAnswer) -> Result<Lease, Failure> {
    let unknown = |e: crate::ids::IdError| {
        Failure::new(Exit::Internal, format!("the answer of the token API names no tenant: {e}"))
    };
    let provider = answer.provider.parse().map_err(unknown)?;
    let principal = answer.principal.parse().map_err(unknown)?;
    Ok(Lease {
        tenant: Tenant::new(provider, principal),
        access_token: answer.access_token,
        token_type: answer.token_type,
        expires_at: answer.expires_at,
        expires_in: Duration::from_secs(answer.expires_in.try_into().unwrap_or(0)),
        scope: answer.scope,
        account: answer.account,
        generation: answer.generation,
        source: match answer.source.as_deref() {
            Some("environment") => LeaseSource::Environment,
            Some("exchange") => LeaseSource::Exchange,
            _ => LeaseSource::Session,
        },
        lineage: None,
    })
}

impl ExitError for TokenClientError {
    fn exit(&self) -> Exit {
        match self {
            Self::NotInWorker(_) => Exit::Usage,
            Self::Unreachable { .. } | Self::Broken { .. } | Self::Silent { .. } => Exit::Later,
            Self::Refused { code, .. } => exit_from_code(code),
            Self::Unknown { .. } => Exit::Internal,
        }
    }
}

/// Returns the exit code for an error code of the token API: the same as outside a worker.
fn exit_from_code(code: &str) -> Exit {
    match code {
        "no_session" | "authorization_denied" => Exit::NoSession,
        "session_ended" => Exit::Ended,
        "provider_unavailable"
        | "refresh_in_progress"
        | "too_many_requests"
        | "rights_unknown"
        | "authorization_timeout" => Exit::Later,
        "store_unavailable" => Exit::Store,
        "unauthorized"
        | "provider_not_allowed"
        | "not_entitled"
        | "unknown_provider"
        | "provider_misconfigured"
        | "invalid_request"
        | "content_too_large" => Exit::Usage,
        _ => Exit::Internal,
    }
}

impl ExitError for BuiltinError {
    fn exit(&self) -> Exit {
        match self {
            Self::NotInWorker(_) | Self::Variable { .. } => Exit::Usage,
            Self::Connection(_) => Exit::Internal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_token_api_has_the_same_exit_code_as_outside_a_worker() {
        let codes = [
            ("unknown_provider", 2),
            ("not_entitled", 2),
            ("rights_unknown", 5),
            ("no_session", 3),
            ("authorization_denied", 3),
            ("authorization_timeout", 5),
            ("session_ended", 4),
            ("refresh_in_progress", 5),
            ("too_many_requests", 5),
            ("store_unavailable", 6),
            ("internal", 1),
        ];
        for (code, exit) in codes {
            assert_eq!(exit_from_code(code) as u8, exit, "{code}");
        }
    }
}
