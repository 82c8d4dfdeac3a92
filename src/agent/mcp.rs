//! The MCP servers that a worker is handed in ACP `session/new`.
//!
//! The worker never sees a token. Its requests go to a route of the injecting proxy, in one of two
//! ways:
//!
//! - By HTTP: it gets the address of the route on its own port, with a header whose secret opens that
//!   route alone. The secret reaches it by its standard input.
//! - By stdio, where it takes no HTTP servers or would put them into its arguments: it gets the
//!   command `threadkey mcp NAME`. Arguments and variables of that command are no secret. They name
//!   the worker's own socket for the route, which serves only the worker's own processes without one.

use std::path::PathBuf;

use agent_client_protocol::v1::schema::{
    EnvVariable, HttpHeader, McpServer as Entry, McpServerHttp, McpServerStdio,
};

use super::{AgentSettings, InjectAccess, McpServer};
use crate::{secret::InjectSecret, sys::detach};

/// The variable with the path of the socket for `threadkey mcp` in a worker.
pub const MCP_SOCKET_VARIABLE: &str = "THREADKEY_MCP_SOCKET";
/// The variable with the path and the query of the MCP server's URL there.
pub const MCP_PATH_VARIABLE: &str = "THREADKEY_MCP_PATH";

/// The MCP servers of one worker.
pub(super) struct McpOffers {
    all: Vec<Offer>,
    by_stdio: bool,
}

struct Offer {
    name: String,
    url: String,
    secret: InjectSecret,
    socket: PathBuf,
    path: String,
}

impl McpOffers {
    /// Takes the servers of the settings. Without an injecting proxy there is none.
    pub(super) fn new(settings: &AgentSettings, inject: Option<&InjectAccess>) -> Self {
        let offer = |server: &McpServer| {
            let inject = inject?;
            Some(Offer {
                name: server.provider.to_string(),
                url: format!("{}{}", inject.base_url(&server.route), server.path),
                secret: inject.routes.get(&server.route)?.clone(),
                socket: inject.sockets.get(&server.route)?.clone(),
                path: server.path.clone(),
            })
        };
        Self { all: settings.mcp.iter().filter_map(offer).collect(), by_stdio: settings.mcp_by_stdio }
    }

    /// Returns the entries for `session/new`. `takes_http` is the agent's answer about HTTP servers.
    pub(super) fn servers(&self, takes_http: bool) -> Vec<Entry> {
        let by_http = takes_http && !self.by_stdio;
        self.all.iter().map(|offer| if by_http { offer.by_http() } else { offer.by_stdio() }).collect()
    }
}

impl Offer {
    fn by_http(&self) -> Entry {
        let authorization = HttpHeader::new("Authorization", format!("Bearer {}", self.secret.expose()));
        Entry::Http(McpServerHttp::new(&self.name, &self.url).headers(vec![authorization]))
    }

    fn by_stdio(&self) -> Entry {
        let program = detach::program_path().unwrap_or_else(|_| "threadkey".into());
        let variables = vec![
            EnvVariable::new(MCP_SOCKET_VARIABLE, self.socket.to_string_lossy()),
            EnvVariable::new(MCP_PATH_VARIABLE, &self.path),
        ];
        let server = McpServerStdio::new(&self.name, program);
        Entry::Stdio(server.args(vec!["mcp".to_owned(), self.name.clone()]).env(variables))
    }
}
