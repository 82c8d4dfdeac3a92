//! The token API: HTTP/1.1 on a Unix socket, for the workers.
//!
//! Invariants: a request under `/v1` is answered only to the holder of a live capability, and only for the providers and
//! the person that the capability stands for; an answer with a token in it is never stored (`Cache-Control: no-store`,
//! RFC 9111 §5.2.2.5); every error is a `application/problem+json` (RFC 9457) with a stable `code`. A caller that hangs up
//! cancels nothing: refreshes run in the broker's own tasks. Nobody is kept waiting by what another one holds: see `api::shares`.

mod answer;
mod problem;
mod routes;
mod server;
mod shares;
mod stream;

use std::path::PathBuf;

pub use server::{Bound, bind, serve};

use crate::sys::socket::BindError;

/// Where the API is served.
#[derive(Clone, Debug)]
pub struct ApiSettings {
    /// The Unix socket.
    pub socket: PathBuf,
}

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The socket.
    #[error("the token API cannot be served: {0}")]
    Bind(#[from] BindError),
    /// The listening socket could not be handed to the runtime.
    #[error("the token API cannot be served on {path}: {source}", path = path.display())]
    Listen {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}
