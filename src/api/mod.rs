//! The token API: HTTP/1.1 on a Unix socket, for the workers and for programs of the operator. It is
//! served on TCP too if the operator asks for it, for operator keys alone. Beside it, on a port of
//! their own, stand the public sign-in pages (`api::public`).
//!
//! Invariants:
//!
//! - A request under `/v1` needs a live capability or operator key. The answer depends on the rights of
//!   its holder alone: [`WorkerTokens`](crate::broker::WorkerTokens), [`KeyScope`].
//! - A capability opens nothing on TCP.
//! - No cache stores an answer (`Cache-Control: no-store`, RFC 9111 §5.2.2.5).
//! - Every error is an `application/problem+json` (RFC 9457) with a stable `code`.
//! - A caller that hangs up cancels nothing, because refreshes run in the broker's own tasks.
//! - No caller has to wait for the connections of another one: see `api::shares`.
//! - The injecting proxy (`api::inject`) has a port of its own for each worker, and no other secret opens
//!   it than that worker's.

mod browsers;
mod callers;
mod connection;
mod dispatch;
mod health;
mod inject;
mod listen;
mod metrics;
mod openapi;
mod operators;
mod owner_wait;
mod problem;
mod public;
mod reference;
mod request;
mod routes;
mod scrape;
mod server;
mod sessions;
mod shares;
mod state;
mod stream;
mod token_request;
mod via;

use std::path::PathBuf;

pub use inject::{Credential, InjectRoute, InjectServer, RouteHeaders};
pub use listen::{BoundListener, ListenError, ListenSettings, ListenTransport, bind_tcp};
pub use operators::{
    KeyProblem, KeyScope, KeySource, NoSuchRight, OperatorKeyError, OperatorKeySettings, OperatorKeys,
    PrincipalPattern, ProviderPattern, Right, SHORTEST_KEY, keys_in,
};
pub use public::{
    BoundPages, CertificateError, CertificateFiles, PagesError, PublicSettings, Transport, bind_pages,
    serve_pages,
};
pub use reference::reference;
pub use routes::document;
pub use server::{Bound, bind, serve};

use crate::sys::socket::BindError;

/// The settings of the token API.
#[derive(Clone, Debug, Default)]
pub struct ApiSettings {
    /// The path of the Unix socket.
    pub socket: PathBuf,
    /// The settings of the public sign-in pages, if there are any.
    pub public: Option<PublicSettings>,
    /// The routes of the injecting proxy.
    pub inject: Vec<InjectRoute>,
    /// Whether workers get tokens by the injecting proxy alone.
    pub inject_only: bool,
    /// The operator keys.
    pub operator_keys: Vec<OperatorKeySettings>,
    /// The settings of the TCP listener, if there is one.
    pub listen: Option<ListenSettings>,
}

/// The reason why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The socket could not be bound.
    #[error("the token API cannot be served: {0}")]
    Bind(#[from] BindError),
    /// The listening socket could not be handed to the runtime.
    #[error("the token API cannot be served on {path}: {source}", path = path.display())]
    Listen {
        /// The path of the socket.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
}
