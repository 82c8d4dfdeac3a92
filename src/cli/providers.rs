//! `threadkey providers`.

use std::fmt::Write as _;

use serde::Serialize;

use super::{Failure, json_line, print_notice};
use crate::oauth::Providers;

#[derive(Serialize)]
struct ProviderJson<'a> {
    provider: &'a str,
    token_endpoint: &'a str,
    client_id: String,
    can_revoke: bool,
}

/// Returns the list of the configured providers, as text or as JSON.
///
/// # Errors
/// When the list has no JSON form.
pub fn list(providers: &Providers, json: bool) -> Result<String, Failure> {
    let all: Vec<_> = providers.ids().filter_map(|id| providers.get(id)).collect();
    let rows: Vec<_> = all
        .iter()
        .map(|provider| ProviderJson {
            provider: provider.id().as_str(),
            token_endpoint: provider.token_endpoint().as_str(),
            client_id: provider.binding().client_id,
            can_revoke: provider.can_revoke(),
        })
        .collect();
    if json {
        return json_line(&rows);
    }
    if rows.is_empty() {
        print_notice(
            "No provider is configured: add a section [providers.NAME] to the configuration. `threadkey doctor` names the file.",
        );
    }
    let width = rows.iter().map(|row| row.provider.len()).max().unwrap_or(0);
    Ok(rows.iter().fold(String::new(), |mut text, row| {
        let _ = writeln!(text, "{:width$}  {}", row.provider, row.token_endpoint);
        text
    }))
}
