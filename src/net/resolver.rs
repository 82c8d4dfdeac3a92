//! The look-up of a name.

use std::{io, net::SocketAddr};

/// Resolves names by the system, or by a script in a test.
#[derive(Clone, Default)]
pub(super) struct Resolver {
    #[cfg(feature = "test-util")]
    script: Option<ScriptedNames>,
}

/// The replacement for the system's resolver in a test: takes a name and a port and returns the
/// addresses of this look-up.
#[cfg(feature = "test-util")]
pub type ScriptedNames = std::sync::Arc<dyn Fn(&str, u16) -> Vec<SocketAddr> + Send + Sync>;

impl Resolver {
    /// Asks `names` instead of the system.
    #[cfg(feature = "test-util")]
    pub(super) fn scripted(names: ScriptedNames) -> Self {
        Self { script: Some(names) }
    }

    /// Returns the addresses of a name, in the order of the system's preference.
    pub(super) async fn look_up(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        #[cfg(feature = "test-util")]
        if let Some(names) = &self.script {
            return Ok(names(host, port));
        }
        Ok(tokio::net::lookup_host((host.to_owned(), port)).await?.collect())
    }
}
