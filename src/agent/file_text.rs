//! The texts of `[agents.NAME.files]`: free ones with placeholders, and built-in templates.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Holder, InjectAccess,
    placeholder_name::check_name,
    tool_settings::{AgentFile, FileText},
};
use crate::{
    ids::{ProviderId, RouteName, UnixTime, closest},
    secret::Secret,
    tools::{Content, Format, RenderError, TokenValues, Value, Values, fill, next_placeholder},
};

/// The placeholders of free texts with a provider as their argument, and the names of their values.
const OF_PROVIDER: [(&str, &str); 6] = [
    ("token", "access_token"),
    ("expires_at", "expires_at"),
    ("expires_at_ms", "expires_at_ms"),
    ("account", "account"),
    ("scope", "scope"),
    ("id_token", "id_token"),
];

/// The names that placeholders of files may have as their argument.
#[derive(Clone, Copy, Debug)]
pub struct FileNames<'a> {
    /// The providers whose tokens workers may use.
    pub providers: &'a [ProviderId],
    /// The routes of the injecting proxy.
    pub routes: &'a [RouteName],
    /// Whether workers may hold access tokens.
    pub raw_tokens: bool,
}

impl FileText {
    /// Returns the providers whose values stand in it, each once.
    pub fn providers(&self) -> BTreeSet<ProviderId> {
        match self {
            Self::Template { provider, .. } => [provider.clone()].into(),
            Self::Free(text) => {
                let parts = placeholders(text).filter_map(|placeholder| placeholder.split_once(':'));
                let of_provider = parts.filter(|(kind, _)| value_name(kind).is_some());
                of_provider.filter_map(|(_, name)| name.parse().ok()).collect()
            }
        }
    }
}

fn value_name(kind: &str) -> Option<&'static str> {
    OF_PROVIDER.iter().find(|(known, _)| *known == kind).map(|(_, name)| *name)
}

fn placeholders(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (_, placeholder, after) = next_placeholder(rest)?;
        rest = after;
        Some(placeholder)
    })
}

/// Checks a free text for a file of a path, before any worker exists.
///
/// # Errors
/// A sentence about the first problem.
pub fn check_file_text(path: &str, text: &str, known: &FileNames<'_>) -> Result<(), String> {
    for placeholder in placeholders(text) {
        check_placeholder(placeholder, known)?;
    }
    let format = Format::of_path(path);
    let content = Content { text, format };
    // Values with each character that has a meaning in some format.
    let odd = if format.takes_any_text() { "a\"b'\\\n# :{}[]" } else { "a" };
    let filled = fill(content, &mut |placeholder| {
        let kind = placeholder.split_once(':').map_or(placeholder, |(kind, _)| kind);
        Ok(Some(match kind {
            "expires_at" | "expires_at_ms" => Value::Number(1),
            _ => Value::Text(odd.into()),
        }))
    });
    let filled = filled.map_err(|error| match error {
        RenderError::Characters(name) => {
            format!("{{{name}}} must stand between double quotes in this format")
        }
        error => error.to_string(),
    })?;
    format.check(filled.expose())
}

fn check_placeholder(text: &str, known: &FileNames<'_>) -> Result<(), String> {
    let providers = || known.providers.iter().map(ProviderId::as_str);
    let routes = || known.routes.iter().map(RouteName::as_str);
    match text.split_once(':') {
        Some((kind, _)) if value_name(kind).is_some() && !known.raw_tokens => Err(format!(
            "{{{text}}} is not filled in with agent.tokens = \"inject\": agents hold no token. Write {{inject:ROUTE}} and {{inject_secret:ROUTE}}"
        )),
        Some((kind, name)) if value_name(kind).is_some() => {
            check_name(text, name, providers(), "no provider of agent.providers")
        }
        Some(("inject" | "inject_secret" | "inject_socket", name)) => {
            check_name(text, name, routes(), "no table [inject.NAME]")
        }
        None if matches!(text, "conversation" | "user") => Ok(()),
        None if text == "capability" => Err(
            "{capability} is not filled in in files, because a file can outlive its worker: a program finds it in THREADKEY_CAPABILITY"
                .to_owned(),
        ),
        _ => {
            let forms = || OF_PROVIDER.iter().map(|(kind, _)| *kind).chain(["inject", "inject_secret", "inject_socket", "conversation", "user"]);
            let name = text.split(':').next().unwrap_or_default();
            let hint = match closest(name, forms()) {
                Some("conversation") => "did you mean {conversation}?".to_owned(),
                Some("user") => "did you mean {user}?".to_owned(),
                Some(similar @ ("inject" | "inject_secret" | "inject_socket")) => format!("did you mean {{{similar}:ROUTE}}?"),
                Some(similar) => format!("did you mean {{{similar}:PROVIDER}}?"),
                None => {
                    let all: Vec<_> = OF_PROVIDER.iter().map(|(kind, _)| format!("{{{kind}:PROVIDER}}")).collect();
                    format!("use {}, {{inject:ROUTE}}, {{inject_secret:ROUTE}}, {{inject_socket:ROUTE}}, {{conversation}}, {{user}}", all.join(", "))
                }
            };
            Err(format!("{{{text}}} is no placeholder of files: {hint}"))
        }
    }
}

/// Renders a file with the tokens of its providers.
///
/// # Errors
/// [`RenderError`], if a value cannot stand in the file.
pub(super) fn render(
    file: &AgentFile,
    holder: &Holder,
    inject: Option<&InjectAccess>,
    tokens: &BTreeMap<ProviderId, TokenValues>,
    now: UnixTime,
) -> Result<Secret, RenderError> {
    match &file.text {
        FileText::Template { template, provider, base_url } => {
            let token = tokens.get(provider).ok_or_else(|| RenderError::Missing("access_token".into()))?;
            template.content().render(&Values::of_token(provider, token, base_url.as_deref(), now))
        }
        FileText::Free(text) => {
            let content = Content { text, format: Format::of_path(&file.path) };
            fill(content, &mut |placeholder| free_value(placeholder, holder, inject, tokens))
        }
    }
}

fn free_value<'a>(
    placeholder: &str,
    holder: &Holder,
    inject: Option<&'a InjectAccess>,
    tokens: &'a BTreeMap<ProviderId, TokenValues>,
) -> Result<Option<Value<'a>>, RenderError> {
    let text = |text: String| Ok(Some(Value::Text(text.into())));
    let Some((kind, name)) = placeholder.split_once(':') else {
        return match placeholder {
            "conversation" => text(holder.conversation.id.0.to_string()),
            "user" => text(holder.conversation.owner.to_string()),
            _ => Err(RenderError::Unknown(placeholder.to_owned())),
        };
    };
    if let Some(value) = value_name(kind) {
        let token = name.parse().ok().and_then(|id: ProviderId| tokens.get(&id));
        let Some(token) = token else { return Ok(None) };
        // An account or a scope that is not known is empty.
        return Ok(token.get(value)?.or(Some(Value::Text("".into()))));
    }
    let route = || name.parse().ok().zip(inject);
    let value = match kind {
        "inject" => route().map(|(route, inject): (RouteName, _)| inject.base_url(&route)),
        "inject_secret" => {
            route().and_then(|(route, inject)| Some(inject.routes.get(&route)?.expose().to_owned()))
        }
        "inject_socket" => {
            route().and_then(|(route, inject)| Some(inject.sockets.get(&route)?.to_str()?.to_owned()))
        }
        _ => return Err(RenderError::Unknown(placeholder.to_owned())),
    };
    Ok(value.map(|value| Value::Text(value.into())))
}

/// Returns the routes of all `{inject_socket:ROUTE}` of a text.
pub(super) fn named_sockets(text: &FileText) -> Vec<RouteName> {
    let FileText::Free(text) = text else { return Vec::new() };
    let named = placeholders(text).filter_map(|placeholder| placeholder.strip_prefix("inject_socket:"));
    named.filter_map(|name| name.parse().ok()).collect()
}
