//! `threadkey token` inside a worker: through the token API, as any other program there would ask.

use std::time::Duration;

use super::{
    Exit, ExitCode, Failure, TokenArgs,
    token::{print, rejected_from_stdin},
};
use crate::{
    agent::{
        CAPABILITY_VARIABLE, SOCKET_VARIABLE,
        builtin::BuiltinError,
        token_client::{TokenAnswer, TokenClient, TokenClientError, TokenQuery},
    },
    broker::Lease,
    ids::Tenant,
};

/// Whether this process is a worker, by its environment.
pub fn is_worker() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    set(SOCKET_VARIABLE) && set(CAPABILITY_VARIABLE)
}

/// Gets a token and prints it.
///
/// # Errors
/// The sentence and the code to end with.
pub async fn token(args: &TokenArgs) -> Result<(), Failure> {
    if args.principal.is_some() {
        let text = "--as has no use inside a worker: its capability says whose session it uses";
        return Err(Failure::new(Exit::Usage, text));
    }
    let client = TokenClient::from_env()?;
    let answer = match rejected_from_stdin(args)? {
        Some(rejected) => client.rejected(&args.provider, &rejected).await?,
        None => {
            let query = TokenQuery { min_ttl: Some(args.min_ttl), ..TokenQuery::default() };
            client.token(&args.provider, query).await?
        }
    };
    print(&lease(answer)?, args.format)
}

fn lease(answer: TokenAnswer) -> Result<Lease, Failure> {
    let unknown = |e: crate::ids::IdError| {
        Failure::new(Exit::Internal, format!("the token API's answer is not understood: {e}"))
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
    })
}

impl ExitCode for TokenClientError {
    fn exit(&self) -> Exit {
        match self {
            Self::NotInWorker(_) => Exit::Usage,
            Self::Unreachable { .. } | Self::Broken { .. } | Self::Silent { .. } => Exit::Later,
            Self::Refused { code, .. } => exit_of_code(code),
            Self::Unknown { .. } => Exit::Internal,
        }
    }
}

/// The same codes as outside, from the API's words.
fn exit_of_code(code: &str) -> Exit {
    match code {
        "no_session" => Exit::NoSession,
        "session_ended" => Exit::Ended,
        "provider_unavailable" | "refresh_in_progress" | "too_many_requests" => Exit::Later,
        "store_unavailable" => Exit::Store,
        "unauthorized"
        | "provider_not_allowed"
        | "unknown_provider"
        | "provider_misconfigured"
        | "invalid_request"
        | "content_too_large" => Exit::Usage,
        _ => Exit::Internal,
    }
}

impl ExitCode for BuiltinError {
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
    fn the_apis_codes_end_the_process_as_the_store_would() {
        let codes = [
            ("unknown_provider", 2),
            ("no_session", 3),
            ("session_ended", 4),
            ("refresh_in_progress", 5),
            ("too_many_requests", 5),
            ("store_unavailable", 6),
            ("internal", 1),
        ];
        for (code, exit) in codes {
            assert_eq!(exit_of_code(code) as u8, exit, "{code}");
        }
    }
}
