//! `threadkey providers`.

use std::fmt::Write as _;

use serde::Serialize;

use super::{Exit, Failure, say};
use crate::oauth::Providers;

#[derive(Serialize)]
struct ProviderDto<'a> {
    provider: &'a str,
    token_endpoint: &'a str,
    client_id: String,
    can_revoke: bool,
}

/// What is configured, as text or as JSON.
///
/// # Errors
/// When it cannot be put into JSON.
pub fn list(providers: &Providers, json: bool) -> Result<String, Failure> {
    let all: Vec<_> = providers.ids().filter_map(|id| providers.get(id)).collect();
    let rows = all.iter().map(|provider| ProviderDto {
        provider: provider.id().as_str(),
        token_endpoint: provider.token_endpoint().as_str(),
        client_id: provider.binding().client_id,
        can_revoke: provider.can_revoke(),
    });
    if json {
        let rows: Vec<_> = rows.collect();
        let text = serde_json::to_string(&rows)
            .map_err(|e| Failure::new(Exit::Internal, format!("the result cannot be written: {e}")))?;
        return Ok(text + "\n");
    }
    if all.is_empty() {
        say(
            "No provider is configured: a section [providers.NAME] of the configuration makes one. `threadkey doctor` says which file that is.",
        );
    }
    let width = all.iter().map(|p| p.id().as_str().len()).max().unwrap_or(0);
    Ok(rows.fold(String::new(), |mut text, row| {
        let _ = writeln!(text, "{:width$}  {}", row.provider, row.token_endpoint);
        text
    }))
}
