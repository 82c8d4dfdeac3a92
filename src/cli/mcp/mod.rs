//! `threadkey mcp NAME`: an MCP server on standard input and output that forwards to one on HTTP.
//!
//! In a worker it connects to the worker's own socket for the route, and holds no secret. Elsewhere it
//! takes the token from the store, as `threadkey token` does. So any MCP client of this machine can
//! have it as its command.
//!
//! It speaks the versions 2025-03-26 to 2025-11-25, with sessions and streams that go on after a break,
//! and 2026-07-28, without them.

mod bridge;
mod events;
mod message;
mod server;
mod session;
mod tools;

use std::{env, path::PathBuf};

use bridge::Bridge;
use server::Server;

use super::{
    Exit, Failure, McpArgs, interrupts::Interrupts, print_notice, stdin_is_terminal, token::TokenContext,
};
use crate::{
    agent::{MCP_PATH_VARIABLE, MCP_SOCKET_VARIABLE},
    ids::Tenant,
    oauth::Publisher,
};

/// Whether the environment names a worker's socket for an MCP server.
pub fn is_offered() -> bool {
    env::var_os(MCP_SOCKET_VARIABLE).is_some_and(|socket| !socket.is_empty())
}

/// Forwards to the MCP server that the worker was handed.
///
/// # Errors
/// When the worker was handed none.
pub async fn run_in_worker(args: &McpArgs) -> Result<(), Failure> {
    let name = &args.provider;
    if args.principal.is_some() {
        return Err(Failure::new(
            Exit::Usage,
            "--as is not allowed inside a worker: the bot knows its owner",
        ));
    }
    let Some(socket) = env::var_os(MCP_SOCKET_VARIABLE).filter(|socket| !socket.is_empty()) else {
        return Err(Failure::new(
            Exit::Usage,
            format!(
                "this worker starts its MCP servers from ACP session/new, which names the variables of this command: add mcp = [\"{name}\"] to the agent's table, and remove {name} from the agent's own configuration"
            ),
        ));
    };
    let path = env::var(MCP_PATH_VARIABLE).unwrap_or_default();
    serve(Server::on_socket(&PathBuf::from(socket), &path)?).await
}

/// Forwards to the MCP server of a provider, with the login of a tenant.
///
/// # Errors
/// When the provider has no MCP server.
pub async fn run(context: &TokenContext<'_>, tenant: &Tenant) -> Result<(), Failure> {
    let provider = &tenant.provider;
    let undiscovered = context.providers.undiscovered(provider);
    let found = undiscovered.as_ref().and_then(|undiscovered| match &undiscovered.publisher {
        Publisher::Mcp(url) => Some((url, &undiscovered.settings.trust)),
        Publisher::Issuer(_) => None,
    });
    let Some((url, trust)) = found else {
        let text =
            format!("the provider {provider} has no MCP server: write its URL into providers.{provider}.mcp");
        return Err(Failure::new(Exit::Usage, text));
    };
    if stdin_is_terminal() {
        print_notice(&format!(
            "threadkey mcp {provider}: this is an MCP server for MCP clients, which start it themselves: give them the command `threadkey mcp {provider}`. It reads JSON-RPC from standard input"
        ));
    }
    serve(Server::with_login(url, trust, context, tenant)?).await
}

async fn serve(server: Server<'_>) -> Result<(), Failure> {
    let mut interrupts = Interrupts::new()?;
    Bridge::new(server, tokio::io::stdout()).run(tokio::io::stdin(), &mut interrupts).await;
    Ok(())
}
