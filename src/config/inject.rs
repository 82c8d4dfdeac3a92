//! `[inject.NAME]`: a route of the injecting proxy.

use std::{collections::BTreeMap, path::PathBuf};

use axum::http::{HeaderName, HeaderValue, Method};
use url::Url;

use super::{
    ConfigError,
    file::{InjectSection, ProviderSection},
    source::Source,
    trust,
};
use crate::{
    api::{Credential, InjectRoute, RouteHeaders},
    ids::{ProviderId, RouteName},
    net::is_loopback,
    oauth::{Providers, no_provider_among},
};

/// The parts of a provider's section that its routes need.
#[derive(Debug, Default)]
pub(super) struct ProviderPart {
    client_id: Option<String>,
    pub(super) mcp: Option<Url>,
    ca_file: Option<PathBuf>,
}

impl ProviderPart {
    pub(super) fn of(section: &ProviderSection) -> Self {
        Self {
            client_id: section.client_id.clone().filter(|id| !id.is_empty()),
            mcp: section.mcp.as_deref().and_then(|url| Url::parse(url).ok()),
            ca_file: section.ca_file.clone(),
        }
    }
}

/// Builds the routes.
pub(super) fn settings(
    source: &Source<'_>,
    sections: BTreeMap<String, InjectSection>,
    providers: &Providers,
    parts: &BTreeMap<ProviderId, ProviderPart>,
) -> Result<Vec<InjectRoute>, ConfigError> {
    sections.into_iter().map(|(name, section)| route(source, &name, section, providers, parts)).collect()
}

/// Builds one route.
pub(super) fn route(
    source: &Source<'_>,
    name: &str,
    section: InjectSection,
    providers: &Providers,
    parts: &BTreeMap<ProviderId, ProviderPart>,
) -> Result<InjectRoute, ConfigError> {
    let error_at = |key: &str, problem: String| {
        source.error_at(&["inject", name, key], format!("inject.{name}.{key}: {problem}"))
    };
    let id: RouteName =
        name.parse().map_err(|error| source.error_at(&["inject", name], format!("[inject]: {error}")))?;
    let provider = provider(name, section.provider.as_deref(), providers)
        .map_err(|problem| error_at("provider", problem))?;
    let none = ProviderPart::default();
    let part = parts.get(&provider).unwrap_or(&none);
    let mut path_prefixes = section.path_prefixes;
    let upstream = match section.upstream.filter(|text| !text.is_empty()) {
        Some(text) => upstream(&text).map_err(|problem| error_at("upstream", problem))?,
        None => match &part.mcp {
            Some(mcp) => {
                if path_prefixes.is_empty() {
                    path_prefixes.push(mcp.path().to_owned());
                }
                mcp.join("/").map_err(|_| error_at("provider", "its mcp is not a URL".to_owned()))?
            }
            None => {
                let problem = "it is required: the address before each forwarded path, as in \"https://api.example.com/v1\", or a preset that has one";
                return Err(error_at("upstream", problem.to_owned()));
            }
        },
    };
    if let Some(wrong) = path_prefixes.iter().find(|prefix| !is_prefix(prefix)) {
        let problem = format!("{wrong:?} must begin with one slash and be as in a URL, without ? and #");
        return Err(error_at("path_prefixes", problem));
    }
    let methods = section.methods.iter().map(|text| {
        let method = Method::from_bytes(text.to_ascii_uppercase().as_bytes());
        method.ok().filter(|method| ![Method::CONNECT, Method::TRACE].contains(method)).ok_or_else(|| {
            error_at("methods", format!("{text:?} cannot be forwarded: write GET, POST or another method"))
        })
    });
    let headers = |key: &'static str, given: BTreeMap<String, String>| {
        let pairs = given.into_iter().map(|(name, value)| {
            let value = match &part.client_id {
                Some(client_id) => value.replace("{client_id}", client_id),
                None if value.contains("{client_id}") => {
                    return Err(error_at(key, format!("{name} needs client_id of the provider {provider}")));
                }
                None => value,
            };
            let name = header_name(&name).map_err(|problem| error_at(key, problem))?;
            let value = HeaderValue::from_str(&value)
                .map_err(|_| error_at(key, format!("the value of {name} cannot stand in a header")))?;
            Ok((name, value))
        });
        pairs.collect::<Result<Vec<_>, ConfigError>>()
    };
    let claims = section.claim_headers.into_iter().map(|(name, path)| {
        let name = header_name(&name).map_err(|problem| error_at("claim_headers", problem))?;
        if path.is_empty() {
            return Err(error_at("claim_headers", format!("{name} needs the names of the claim")));
        }
        Ok((name, path))
    });
    Ok(InjectRoute {
        name: id,
        upstream,
        trust: match &section.ca_file {
            Some(_) => trust::with_file(source, &["inject", name], section.ca_file.as_deref())?,
            None => trust::with_file(source, &["providers", provider.as_str()], part.ca_file.as_deref())?,
        },
        credential: credential(section.auth.as_deref().unwrap_or_default())
            .map_err(|problem| error_at("auth", problem))?,
        headers: RouteHeaders {
            fixed: headers("headers", section.headers)?,
            default: headers("default_headers", section.default_headers)?,
            appended: headers("append_headers", section.append_headers)?,
            claims: claims.collect::<Result<_, _>>()?,
        },
        methods: methods.collect::<Result<_, _>>()?,
        path_prefixes,
        provider,
    })
}

/// Returns the named provider, or the one with the name of the route.
fn provider(name: &str, given: Option<&str>, providers: &Providers) -> Result<ProviderId, String> {
    let given = given.filter(|given| !given.is_empty());
    if let Some(id) = given.unwrap_or(name).parse().ok().filter(|id| providers.contains(id)) {
        return Ok(id);
    }
    let known = || providers.ids().map(ProviderId::as_str);
    let Some(given) = given else {
        let known = known().collect::<Vec<_>>().join(", ");
        let known =
            if known.is_empty() { "and none is configured".to_owned() } else { format!("one of: {known}") };
        return Err(format!("it is required: the provider whose tokens are put in, {known}"));
    };
    Err(no_provider_among(given, known()))
}

/// Checks an upstream. A slash at its end does not count.
fn upstream(text: &str) -> Result<Url, String> {
    let is_plain = !text.contains(['\\', '%']) && !text.split('/').any(|part| part == "." || part == "..");
    let mut url = Url::parse(text)
        .ok()
        .filter(|url| is_plain && url.host().is_some())
        .ok_or("it is not a plain URL: write it in full, as in \"https://api.example.com/v1\"")?;
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(&url) => {}
        _ => {
            return Err("it must begin with https:// (http is allowed only for 127.0.0.1, [::1] and localhost), because each request carries a token".to_owned());
        }
    }
    let has_more = url.query().is_some() || url.fragment().is_some();
    if has_more || !url.username().is_empty() || url.password().is_some() {
        return Err("it must have no user name, no password, no query and no fragment".to_owned());
    }
    if url.path().contains("//") {
        return Err("its path must have no empty part".to_owned());
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

fn is_prefix(text: &str) -> bool {
    let is_plain = text.bytes().all(|b| b.is_ascii_graphic() && !b"?#\\%".contains(&b));
    is_plain
        && text.starts_with('/')
        && !text.contains("//")
        && !text.split('/').any(|s| s == "." || s == "..")
}

fn header_name(text: &str) -> Result<HeaderName, String> {
    let name: HeaderName = text.parse().map_err(|_| format!("{text:?} is not the name of a header"))?;
    if RouteHeaders::may_set(&name) {
        return Ok(name);
    }
    Err(format!("threadkey sets {text} itself: remove it; auth decides where the token stands"))
}

fn credential(text: &str) -> Result<Credential, String> {
    match text.split_once(':') {
        None if text.is_empty() || text == "bearer" => return Ok(Credential::Bearer),
        Some(("basic", user)) if !user.is_empty() && !user.contains(':') => {
            return Ok(Credential::Basic(user.to_owned()));
        }
        Some(("header", name)) => {
            if let Ok(name) = name.parse::<HeaderName>()
                && (RouteHeaders::may_set(&name) || Credential::is_usual(&name))
            {
                return Ok(Credential::Header(name));
            }
        }
        _ => {}
    }
    Err("it must be \"bearer\", \"basic:USER\", or \"header:NAME\" as in \"header:x-api-key\"".to_owned())
}
