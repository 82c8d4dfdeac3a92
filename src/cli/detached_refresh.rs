//! The detached process that refreshes for `threadkey token`: its start, and the process itself.
//!
//! The caller writes one request to its standard input and reads one reply from its standard output.
//! The process ends in the store, with or without a caller.

use std::{ffi::OsString, io, os::fd::OwnedFd, path::Path, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    net::unix::pipe,
};
use zeroize::Zeroizing;

use super::{Exit, Failure, RefreshArgs, cause::explained, choice, print_result, read_input};
use crate::{
    broker::{Broker, TokenJson},
    ids::Tenant,
    secret::AccessToken,
    sys::detach,
};

/// The longest line that the detached process may return, in bytes.
const MAX_REPLY: u64 = 512 * 1024;

/// The input of the detached process, on its standard input.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct RefreshRequest {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rejected: Option<String>,
}

/// The result of the detached process, one line on its standard output.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RefreshReply {
    Token(TokenJson),
    Failed { exit: u8, text: String },
}

/// Starts the detached process and returns its standard output.
pub(super) fn start(
    config: &Path,
    tenant: &Tenant,
    min_ttl: Duration,
    request: &RefreshRequest,
) -> io::Result<OwnedFd> {
    let mut input = Zeroizing::new(serde_json::to_vec(request)?);
    input.push(b'\n');
    let arguments: [OsString; 7] = [
        "--config".into(),
        config.into(),
        "__refresh".into(),
        "--tenant".into(),
        tenant.to_string().into(),
        "--min-ttl".into(),
        min_ttl.as_secs().to_string().into(),
    ];
    detach::spawn(&arguments, &input)
}

/// Reads the reply of the detached process. Returns `None` if it ends without one.
pub(super) async fn read_reply(output: OwnedFd) -> Option<RefreshReply> {
    let pipe = pipe::Receiver::from_owned_fd(output).ok()?;
    let mut line = Zeroizing::new(Vec::new());
    BufReader::new(pipe.take(MAX_REPLY)).read_until(b'\n', &mut line).await.ok()?;
    serde_json::from_slice(&line).ok()
}

pub(super) fn exit_from_code(code: u8) -> Exit {
    [Exit::Usage, Exit::NoSession, Exit::Ended, Exit::Later, Exit::Store]
        .into_iter()
        .find(|exit| *exit as u8 == code)
        .unwrap_or(Exit::Internal)
}

// === the detached process ===

/// Gets the token in the detached process and writes the reply to standard output, which the caller
/// may have closed. Refreshes may still be under way when this returns: the process must wait for
/// them.
pub async fn refresh(broker: &Broker, args: &RefreshArgs) {
    // The commit of the refresh sweeps expired sign-ins without revoking them, so this comes first.
    choice::drop_expired(broker).await;
    let result = match read_request() {
        Ok(RefreshRequest { rejected: Some(token) }) => {
            broker.rejected(&args.tenant, &AccessToken::new(token)).await
        }
        // The broker decides again, also about a refresh at three quarters of the lifetime.
        Ok(RefreshRequest { rejected: None }) => {
            broker.token(&args.tenant, Duration::from_secs(args.min_ttl)).await
        }
        Err(failure) => return refresh_failed(&failure),
    };
    match result {
        Ok(lease) => write_reply(&RefreshReply::Token(TokenJson::from(&lease))),
        Err(error) => {
            let id = &args.tenant.provider;
            refresh_failed(&match broker.providers().get(id) {
                Some(provider) => explained(error, &provider, broker.trouble(id)),
                None => error.into(),
            });
        }
    }
}

/// Replies to the caller of the detached process with a failure.
pub fn refresh_failed(failure: &Failure) {
    write_reply(&RefreshReply::Failed { exit: failure.exit as u8, text: failure.text.clone() });
}

fn write_reply(reply: &RefreshReply) {
    if let Ok(mut line) = serde_json::to_string(reply).map(Zeroizing::new) {
        line.push('\n');
        // A caller that has gone does not matter: the result is in the store.
        let _ = print_result(&line);
    }
}

fn read_request() -> Result<RefreshRequest, Failure> {
    let input = read_input()?;
    serde_json::from_str(input.expose()).map_err(|_| {
        Failure::new(Exit::Internal, "the refresh process got no request: only threadkey itself can start it")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exit_code_passes_the_pipe_unchanged() {
        for exit in [Exit::Internal, Exit::Usage, Exit::NoSession, Exit::Ended, Exit::Later, Exit::Store] {
            assert_eq!(exit_from_code(exit as u8), exit);
        }
    }
}
