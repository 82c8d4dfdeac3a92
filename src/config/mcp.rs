//! `mcp = [...]` of agents: the MCP servers that they are handed, and the routes to them.

use std::collections::BTreeMap;

use axum::http::Method;
use url::Url;

use super::{
    ConfigError,
    file::{AgentKey, AgentSection, InjectSection, NamedAgentSection},
    inject::{self, ProviderPart},
    source::Source,
};
use crate::{
    agent::McpServer,
    api::InjectRoute,
    ids::{ProviderId, RouteName},
    oauth::{Providers, no_provider, no_provider_among},
};

/// Checks the names in all agents' tables, and returns their servers. A route is added for each server
/// to which none leads.
pub(super) fn servers(
    source: &Source<'_>,
    (agent, agents): (Option<&AgentSection>, &BTreeMap<AgentKey, NamedAgentSection>),
    providers: &Providers,
    parts: &BTreeMap<ProviderId, ProviderPart>,
    routes: &mut Vec<InjectRoute>,
) -> Result<BTreeMap<ProviderId, McpServer>, ConfigError> {
    let single = agent.map(|section| (vec!["agent"], section.mcp.as_deref()));
    let named =
        agents.iter().map(|(name, section)| (vec!["agents", name.0.as_str()], section.mcp.as_deref()));
    let mut servers = BTreeMap::new();
    for (table, names) in single.into_iter().chain(named) {
        for name in names.unwrap_or_default() {
            let error = |problem: String| {
                let at = table.join(".");
                source.error_at(&[&table[..], &["mcp"]].concat(), format!("{at}.mcp: {problem}"))
            };
            let (id, url) = provider(name, parts).map_err(error)?;
            if servers.contains_key(&id) {
                continue;
            }
            let server = match through(routes, &id, url) {
                Some(server) => server,
                None => {
                    routes.push(route(source, &id, providers, parts, routes, &error)?);
                    through(routes, &id, url).ok_or_else(|| error(not_by_own(&id)))?
                }
            };
            servers.insert(id, server);
        }
    }
    Ok(servers)
}

/// Returns the provider of a name, and the URL of its MCP server.
fn provider<'a>(
    name: &str,
    parts: &'a BTreeMap<ProviderId, ProviderPart>,
) -> Result<(ProviderId, &'a Url), String> {
    let id: Option<ProviderId> = name.parse().ok();
    if let Some((id, part)) = id.and_then(|id| parts.get_key_value(&id)) {
        return match &part.mcp {
            Some(url) => Ok((id.clone(), url)),
            None => Err(format!(
                "the provider {id} has no MCP server: write its URL into providers.{id}.mcp, or remove {id} here"
            )),
        };
    }
    let with_server = parts.iter().filter(|(_, part)| part.mcp.is_some()).map(|(id, _)| id.as_str());
    let mut with_server = with_server.peekable();
    Err(match with_server.peek() {
        Some(_) => no_provider_among(name, with_server),
        None => format!("{}: add [providers.NAME] with mcp = \"https://…\"", no_provider(name)),
    })
}

/// Returns the server, if a route of its provider leads to it.
fn through(routes: &[InjectRoute], provider: &ProviderId, url: &Url) -> Option<McpServer> {
    let own = routes.iter().filter(|route| route.provider == *provider);
    own.filter_map(|route| {
        let server =
            McpServer { provider: provider.clone(), route: route.name.clone(), path: path(route, url)? };
        Some(server)
    })
    .next()
}

/// Returns the path and the query of a URL after the upstream of a route, if the route forwards to it.
fn path(route: &InjectRoute, url: &Url) -> Option<String> {
    let upstream = route.upstream.path().trim_end_matches('/');
    let rest = url.path().strip_prefix(upstream)?;
    let is_under = |prefix: &String| {
        let rest = rest.strip_prefix(prefix.trim_end_matches('/'));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let leads_there = route.upstream.origin() == url.origin()
        && (rest.is_empty() || rest.starts_with('/'))
        && (route.methods.is_empty() || route.methods.contains(&Method::POST))
        && (route.path_prefixes.is_empty() || route.path_prefixes.iter().any(is_under));
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    leads_there.then(|| format!("{rest}{query}"))
}

/// Makes the route with the provider's name.
fn route(
    source: &Source<'_>,
    id: &ProviderId,
    providers: &Providers,
    parts: &BTreeMap<ProviderId, ProviderPart>,
    routes: &[InjectRoute],
    error: &impl Fn(String) -> ConfigError,
) -> Result<InjectRoute, ConfigError> {
    if routes.iter().any(|route| route.name.as_str() == id.as_str()) {
        return Err(error(format!(
            "the table [inject.{id}] does not lead to the MCP server of {id}, whose route needs that name: give the table another name, or let it lead there"
        )));
    }
    if id.as_str().parse::<RouteName>().is_err() {
        return Err(error(format!(
            "{id} cannot be the name of a route: add a table [inject.NAME] with provider = \"{id}\""
        )));
    }
    let section = InjectSection { provider: Some(id.to_string()), ..InjectSection::default() };
    inject::route(source, id.as_str(), section, providers, parts)
}

fn not_by_own(id: &ProviderId) -> String {
    format!("no route leads to the MCP server of {id}: check providers.{id}.mcp")
}
