//! The ways to the token API.

/// The way by which a request arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Via {
    /// The Unix socket.
    Socket,
    /// The TCP listener, which takes operator keys alone.
    Tcp,
}
