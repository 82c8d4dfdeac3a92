//! The URI of a forwarded request, and the paths that are refused.
//!
//! The configuration fixes scheme, host and path prefix. A path could leave the prefix only by a dot
//! segment, and a host only by a second slash at its beginning. Servers decode a path in different
//! ways, some of them twice. So every decoding of the path is checked, and a path is forwarded as it
//! came or not at all.

use axum::http::{Uri, uri::PathAndQuery};
use percent_encoding::percent_decode;
use url::Url;

use super::route::InjectRoute;
use crate::api::problem::Problem;

/// How often a path may be percent-encoded.
const MAX_ENCODINGS: usize = 3;

/// Returns the URI of a forwarded request. `rest` is the path after `/inject/NAME`.
pub(super) fn forwarded(route: &InjectRoute, rest: &str, query: Option<&str>) -> Result<Uri, Problem> {
    if !is_safe(rest) {
        return Err(Problem::invalid_request(
            "the path has a dot segment, an empty first segment, a backslash or a control character, plain or percent-encoded: send it without",
        ));
    }
    let is_under = |prefix: &String| is_under(rest, prefix);
    if !route.path_prefixes.is_empty() && !route.path_prefixes.iter().any(is_under) {
        return Err(Problem::path_not_allowed(route.name.as_str(), &route.path_prefixes));
    }
    let prefix = route.upstream.path().trim_end_matches('/');
    let path = match (prefix, rest) {
        ("", "") => "/",
        _ => rest,
    };
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    let path: PathAndQuery = format!("{prefix}{path}{query}")
        .parse()
        .map_err(|_| Problem::invalid_request("the path is not that of a URL"))?;
    let uri = Uri::builder().scheme(route.upstream.scheme()).authority(route.upstream.authority());
    uri.path_and_query(path).build().map_err(|_| Problem::invalid_request("the path is not that of a URL"))
}

/// Whether a path is the prefix or continues it at a slash.
fn is_under(path: &str, prefix: &str) -> bool {
    let prefix = prefix.trim_end_matches('/');
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether no decoding of the path leaves the path prefix of the upstream.
fn is_safe(path: &str) -> bool {
    if !path.is_empty() && !path.starts_with('/') || path.contains('\\') {
        return false;
    }
    let mut decoded = path.as_bytes().to_vec();
    for _ in 0..=MAX_ENCODINGS {
        if !is_plain(&decoded) {
            return false;
        }
        let next: Vec<u8> = percent_decode(&decoded).collect();
        if next == decoded {
            return true;
        }
        decoded = next;
    }
    false
}

/// Whether a decoded path has neither dot segments, nor an empty first segment, nor control
/// characters. A parameter after `;` does not count to a segment (RFC 3986 §3.3).
fn is_plain(path: &[u8]) -> bool {
    let is_slash = |byte: &u8| matches!(byte, b'/' | b'\\');
    let mut segments = path.split(is_slash);
    let is_dots = |segment: &[u8]| {
        let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
        matches!(name, b"." | b"..")
    };
    let has_empty_start = path.len() > 1 && is_slash(&path[1]);
    !has_empty_start && !path.iter().any(u8::is_ascii_control) && !segments.any(is_dots)
}

/// Returns the value of `Location` that leads back through this route, or that leads to the upstream
/// where the route does not. `base` is `/inject/NAME`, or nothing where the route is at the root.
pub(super) fn location(route: &InjectRoute, base: &str, sent: &Uri, location: &str) -> Option<String> {
    let sent = Url::parse(&sent.to_string()).ok()?;
    let to = sent.join(location).ok()?;
    if to.origin() != route.upstream.origin() {
        return (!location.starts_with("http")).then(|| to.into());
    }
    let prefix = route.upstream.path().trim_end_matches('/');
    let rest = to.path().strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with('/'));
    let Some(rest) = rest else { return Some(to.into()) };
    let path = if base.is_empty() && rest.is_empty() { "/" } else { rest };
    let part = |mark: char, text: Option<&str>| text.map(|text| format!("{mark}{text}")).unwrap_or_default();
    Some(format!("{base}{path}{}{}", part('?', to.query()), part('#', to.fragment())))
}
