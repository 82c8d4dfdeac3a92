//! The values of a tool's files and variables.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use zeroize::Zeroizing;

use super::{content::Content, escape::is_quoted, placeholder::next_placeholder};
use crate::{
    ids::{ProviderId, UnixTime},
    secret::{AccessToken, IdToken, InjectSecret, Secret},
};

/// The least remaining life of a token for a tool: longer than tools cache one, which is 5 minutes.
const MIN_TTL: &str = "6m";

/// The name before the argument of a placeholder whose line is left out if there is no value.
const OPTIONAL: &str = "optional";

/// The end of a token whose provider names none: the last second of the year 9999.
pub const NO_END: UnixTime = 253_402_300_799;

/// An access token with the facts that files may name. There is no refresh token among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenValues {
    /// The token.
    pub access_token: AccessToken,
    /// When it expires, in Unix seconds; [`NO_END`] if the provider names no end.
    pub expires_at: UnixTime,
    /// The account that signed in, if it is known.
    pub account: Option<String>,
    /// Its scopes, separated by spaces.
    pub scope: Option<String>,
    /// The id token, if the provider issued one.
    pub id_token: Option<IdToken>,
}

/// The access to a route of the injecting proxy.
#[derive(Clone, Debug)]
pub struct InjectValues {
    /// The address of the route, without a slash at its end.
    pub base_url: String,
    /// The secret that opens the route.
    pub secret: InjectSecret,
    /// The socket that serves the route at its root.
    pub socket: Option<PathBuf>,
}

/// The values of one tool with one provider. A way that needs a value without one is an error.
#[derive(Clone, Copy, Debug)]
pub struct Values<'a> {
    /// The provider.
    pub provider: &'a ProviderId,
    /// The absolute path of the threadkey program, for hooks.
    pub program: &'a Path,
    /// The absolute path of the tool's folder.
    pub folder: &'a Path,
    /// The vendor's address without a slash at its end: the user's, or that of
    /// [`Means::base_url`](super::Means::base_url).
    pub base_url: Option<&'a str>,
    /// The model that the user names.
    pub model: Option<&'a str>,
    /// The token, for files.
    pub token: Option<&'a TokenValues>,
    /// The route, for the way through the injecting proxy.
    pub inject: Option<&'a InjectValues>,
    /// The time, in Unix seconds.
    pub now: UnixTime,
}

/// The value of a placeholder.
pub(crate) enum Value<'a> {
    Text(Cow<'a, str>),
    Number(i64),
}

/// The files and the variables of a tool.
#[derive(Debug, Default)]
pub struct Rendered {
    /// The files, to be written with mode 0600.
    pub files: Vec<RenderedFile>,
    /// The variables of the tool's environment. A secret of the injecting proxy may be in them.
    pub variables: BTreeMap<String, Secret>,
}

/// A file of a tool.
#[derive(Debug)]
pub struct RenderedFile {
    /// Its path, relative to the tool's folder.
    pub path: String,
    /// Its content.
    pub text: Secret,
    /// Whether an access token is in it, so that it goes stale and is removed at the end.
    pub holds_token: bool,
    /// Whether an access token or a secret of the injecting proxy is in it, so that it is removed at
    /// the end.
    pub holds_secret: bool,
}

/// A file or a variable cannot be rendered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// There is no value for a placeholder.
    #[error("there is no value for {{{0}}}")]
    Missing(String),
    /// The text has a placeholder that does not exist.
    #[error("{{{0}}} is no placeholder")]
    Unknown(String),
    /// The value has characters that cannot stand at its place.
    #[error("the value of {{{0}}} has characters that cannot stand there")]
    Characters(String),
    /// A path is not valid UTF-8.
    #[error("the path of a folder or of threadkey is not valid UTF-8")]
    NotText,
    /// One of the above, in a file or a variable.
    #[error("{place}: {error}")]
    In {
        /// The path of the file or the name of the variable.
        place: String,
        /// The problem.
        error: Box<RenderError>,
    },
}

impl RenderError {
    pub(super) fn within(self, place: &str) -> Self {
        Self::In { place: place.to_owned(), error: Box::new(self) }
    }
}

/// Returns the host of an address, without its port.
pub fn host_of(base_url: &str) -> Option<String> {
    url::Url::parse(base_url).ok()?.host_str().map(str::to_owned)
}

/// Returns the host of an address, with its port if it is not that of the scheme.
fn host_and_port(base_url: &str) -> Option<String> {
    let url = url::Url::parse(base_url).ok()?;
    let host = url.host_str()?;
    Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

impl Content<'_> {
    /// Renders the text with the values of one provider.
    ///
    /// # Errors
    /// [`RenderError`] if a value is missing, or cannot stand in this format.
    pub fn render(&self, values: &Values<'_>) -> Result<Secret, RenderError> {
        fill(*self, &mut |name| values.get(name))
    }
}

/// Fills in a text. `value_of` returns `None` for a value that does not exist.
pub(crate) fn fill<'a>(
    content: Content<'_>,
    value_of: &mut dyn FnMut(&str) -> Result<Option<Value<'a>>, RenderError>,
) -> Result<Secret, RenderError> {
    let mut filled = Zeroizing::new(String::with_capacity(content.text.len() + 8192));
    for line in content.text.split_inclusive('\n') {
        let start = filled.len();
        let mut rest = line;
        let mut is_left_out = false;
        while let Some((before, placeholder, after)) = next_placeholder(rest) {
            filled.push_str(before);
            rest = after;
            let (name, is_optional) = match placeholder.split_once(':') {
                Some((OPTIONAL, name)) => (name, true),
                _ => (placeholder, false),
            };
            match value_of(name)? {
                Some(Value::Number(number)) => filled.push_str(&number.to_string()),
                Some(Value::Text(text)) => {
                    let escaped = content.format.escape(&text, is_quoted(&filled[start..]));
                    let escaped = escaped.map(Zeroizing::new);
                    filled.push_str(&escaped.ok_or_else(|| RenderError::Characters(name.to_owned()))?);
                }
                None if is_optional => is_left_out = true,
                None => return Err(RenderError::Missing(name.to_owned())),
            }
        }
        filled.push_str(rest);
        if is_left_out {
            filled.truncate(start);
        }
    }
    Ok(Secret::new(filled.as_str()))
}

impl<'a> Values<'a> {
    /// The values of a token alone, for a built-in template.
    pub fn of_token(
        provider: &'a ProviderId,
        token: &'a TokenValues,
        base_url: Option<&'a str>,
        now: UnixTime,
    ) -> Self {
        let none = Path::new("");
        let (program, folder, token) = (none, none, Some(token));
        Self { provider, program, folder, base_url, model: None, token, inject: None, now }
    }

    /// Returns the value of a placeholder of `tools.toml`.
    pub(super) fn get(&self, name: &str) -> Result<Option<Value<'a>>, RenderError> {
        let vendor_url = self.base_url.map(|url| url.trim_end_matches('/'));
        let inject_url = self.inject.map(|inject| inject.base_url.as_str());
        let base_url = inject_url.or(vendor_url);
        let owned = |text: String| Value::Text(text.into());
        Ok(match name {
            "provider" => Some(Value::Text(self.provider.as_str().into())),
            "program" => Some(Value::Text(text_of(self.program)?.into())),
            "folder" => Some(Value::Text(text_of(self.folder)?.into())),
            "token_command" => Some(owned(self.token_command()?)),
            "git_helper" => Some(owned(self.git_helper()?)),
            "base_url" => base_url.map(|url| Value::Text(url.into())),
            "base_url_parent" => {
                let parent = base_url.and_then(|url| url.rsplit_once('/')).map(|(parent, _)| parent);
                parent.map(|url| Value::Text(url.into()))
            }
            "vendor_url" => vendor_url.map(|url| Value::Text(url.into())),
            "host" => vendor_url.and_then(host_of).map(owned),
            "model" => self.model.map(|model| Value::Text(model.into())),
            "key" => self.inject.map(|inject| Value::Text(inject.secret.expose().into())),
            "socket" => match self.inject.and_then(|inject| inject.socket.as_deref()) {
                Some(path) => Some(Value::Text(text_of(path)?.into())),
                None => None,
            },
            "now" => {
                let time = OffsetDateTime::from_unix_timestamp(self.now).ok();
                time.and_then(|time| time.format(&Rfc3339).ok()).map(owned)
            }
            _ => match self.token {
                Some(token) => token.get(name)?,
                None if TokenValues::NAMES.contains(&name) => None,
                None => return Err(RenderError::Unknown(name.to_owned())),
            },
        })
    }

    /// Returns the shell command that prints a token, for hooks that take one.
    fn token_command(&self) -> Result<String, RenderError> {
        let (program, provider) = (shell_word(text_of(self.program)?), self.provider);
        Ok(format!("{program} token {provider} --probe --min-ttl {MIN_TTL}"))
    }

    /// Returns git's credential helper. git appends the operation. It reports a refused password, but its
    /// command has failed by then, so the token is tried first.
    fn git_helper(&self) -> Result<String, RenderError> {
        let (program, provider) = (shell_word(text_of(self.program)?), self.provider);
        let host = self.base_url.and_then(host_and_port);
        let host = host.map(|host| format!(" --host {}", shell_word(&host))).unwrap_or_default();
        Ok(format!("!{program} token {provider} --probe --format git-credential{host}"))
    }
}

impl TokenValues {
    /// Whether the provider names an end of the token's life.
    pub fn has_end(&self) -> bool {
        self.expires_at < NO_END
    }

    /// The names of its placeholders.
    pub(crate) const NAMES: [&'static str; 8] = [
        "access_token",
        "id_token",
        "id_or_access_token",
        "chatgpt_account_id",
        "account",
        "scope",
        "expires_at",
        "expires_at_ms",
    ];

    /// Returns the value of a placeholder, or `None` if there is no such value.
    pub(crate) fn get(&self, name: &str) -> Result<Option<Value<'_>>, RenderError> {
        let text = |text| Some(Value::Text(Cow::Borrowed(text)));
        let id_token = self.id_token.as_ref().map(IdToken::expose);
        Ok(match name {
            "access_token" => text(self.access_token.expose()),
            "id_token" => id_token.and_then(text),
            "id_or_access_token" => text(id_token.unwrap_or(self.access_token.expose())),
            "chatgpt_account_id" => self.chatgpt_account_id().map(|id| Value::Text(id.into())),
            "account" => self.account.as_deref().and_then(text),
            "scope" => self.scope.as_deref().and_then(text),
            "expires_at" => Some(Value::Number(self.expires_at)),
            "expires_at_ms" => Some(Value::Number(self.expires_at.saturating_mul(1000))),
            _ => return Err(RenderError::Unknown(name.to_owned())),
        })
    }

    /// Returns the account that a ChatGPT token names in a claim.
    fn chatgpt_account_id(&self) -> Option<String> {
        let tokens = self.id_token.as_ref().map(IdToken::expose).into_iter();
        tokens.chain([self.access_token.expose()]).find_map(|token| {
            let payload = token.split('.').nth(1)?;
            let payload = Zeroizing::new(URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?);
            let claims: serde_json::Value = serde_json::from_slice(&payload).ok()?;
            Some(claims["https://api.openai.com/auth"]["chatgpt_account_id"].as_str()?.to_owned())
        })
    }
}

fn text_of(path: &Path) -> Result<&str, RenderError> {
    path.to_str().ok_or(RenderError::NotText)
}

/// Writes a text as one word of a POSIX shell.
fn shell_word(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
