//! The scopes of a sign-in at an MCP server.

/// The scope that asks for a refresh token (OpenID Connect Core §11).
pub const OFFLINE_ACCESS: &str = "offline_access";

/// Chooses the scopes of a sign-in: those of the challenge, else all that the resource supports, and
/// `offline_access` where the authorization server supports it. `more` are those that the user has,
/// or that the resource demanded since.
pub fn choose_scopes(
    challenged: &[String],
    resource: Option<&[String]>,
    server: &[String],
    more: &[String],
) -> Vec<String> {
    let initial = if challenged.is_empty() { resource.unwrap_or_default() } else { challenged };
    let mut scopes = union(more, initial);
    let offline = OFFLINE_ACCESS.to_owned();
    if server.contains(&offline) && !scopes.contains(&offline) {
        scopes.push(offline);
    }
    scopes
}

/// Returns all scopes of both lists, each once.
pub fn union(first: &[String], second: &[String]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for scope in first.iter().chain(second) {
        if !all.contains(scope) {
            all.push(scope.clone());
        }
    }
    all
}
