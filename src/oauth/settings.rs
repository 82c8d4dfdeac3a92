//! The settings of a provider, and the check of each setting by itself.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use http::{
    HeaderName, HeaderValue,
    header::{
        ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT,
        HOST, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
    },
};
use oauth2::RedirectUrl;
use url::Url;

use super::{
    Discovered,
    client_key::ClientKey,
    environment::EnvironmentToken,
    request_form::{DeviceForm, RequestForm},
};
use crate::{
    ids::{ProviderId, Snowflake},
    net::{Reach, Trust, is_loopback},
    session::{GrantKind, LoginLimits},
    sys::secret_source::SecretSource,
};

/// The settings of a provider, not yet checked.
#[derive(Clone, Debug, Default)]
pub struct ProviderSettings {
    /// The preset that the settings come from, for lists.
    pub preset: Option<String>,
    /// The `issuer` (RFC 8414). It is compared with the callback's `iss` if both are present.
    pub issuer: Option<String>,
    /// The page at which users sign in.
    pub authorization_endpoint: String,
    /// The endpoint that exchanges codes and refresh tokens.
    pub token_endpoint: String,
    /// The endpoint that revokes grants (RFC 7009).
    pub revocation_endpoint: Option<String>,
    /// The endpoint that names the account (OpenID Connect Core §5.3).
    pub userinfo_endpoint: Option<String>,
    /// The member of that endpoint's answer with the account's identifier, such as `id` or `data.id`.
    /// `None` stands for `sub` (OpenID Connect Core §5.3.2).
    pub account_id_claim: Option<String>,
    /// An address that answers 401 to a GET with a dead access token. Without it the userinfo endpoint
    /// is such an address.
    pub probe_endpoint: Option<String>,
    /// The address of the issuer's public keys (RFC 7517 §5). With it, the signatures of id tokens
    /// are checked.
    pub jwks_uri: Option<String>,
    /// The `iss` of id tokens, if it is not `issuer`. `{tenantid}` in it stands for the claim `tid`.
    pub id_token_issuer: Option<String>,
    /// The endpoint that issues device codes (RFC 8628 §3.1).
    pub device_authorization_endpoint: Option<String>,
    /// The endpoint that asks a user on another screen (CIBA Core §7).
    pub backchannel_authentication_endpoint: Option<String>,
    /// The grants of a sign-in; the first is the default. Empty means the authorization code alone.
    pub grants: Vec<GrantKind>,
    /// The form of the device grant.
    pub device_form: DeviceForm,
    /// The names of Discord users at the provider, by Discord id, or `local` for a terminal.
    pub login_hints: BTreeMap<String, String>,
    /// The id under which threadkey is registered at the provider.
    pub client_id: String,
    /// How the client authenticates: `basic`, `post`, `private_key_jwt` or `none`. Without it a
    /// client with a secret uses `basic`, and one with a key `private_key_jwt`.
    pub client_auth: Option<String>,
    /// The secret of a confidential client. A public client has none.
    pub client_secret: Option<SecretSource>,
    /// The private key of a client that authenticates by `private_key_jwt`.
    pub client_key: Option<Arc<ClientKey>>,
    /// The form in which the provider wants its requests.
    pub request_form: RequestForm,
    /// The address to which the provider sends the browser after the sign-in.
    pub redirect_uri: String,
    /// The client takes no other redirect URI, so its users paste the answer even where there are public
    /// sign-in pages.
    pub paste_only: bool,
    /// The token that the operator put into an environment variable.
    pub environment: Option<EnvironmentToken>,
    /// Whether the provider sends the browser back to any port of a redirect URI on loopback (RFC 8252
    /// §7.3).
    pub redirect_any_port: bool,
    /// The requested scopes.
    pub scopes: Vec<String>,
    /// Additional parameters of the authorization request.
    pub authorize_params: BTreeMap<String, String>,
    /// The resource that the tokens are requested for (RFC 8707).
    pub resource: Option<String>,
    /// The names of the members, separated by dots, that lead to the object with the tokens, such as
    /// `authed_user`. `None` if the tokens stand at the top of an answer.
    pub token_path: Option<String>,
    /// More error codes by which this provider ends a session, such as `access_denied`.
    pub ended_errors: Vec<String>,
    /// The longest lifetime of an access token. It also bounds a token whose lifetime the provider
    /// does not name. Without it no token lives longer than a year.
    pub max_lifetime: Option<Duration>,
    /// The time after its first use in which the provider accepts a refresh token again.
    pub reuse_grace: Duration,
    /// Whether a refresh revokes the old access token.
    pub refresh_revokes_access: bool,
    /// When the provider's logins end, if its answers do not name it.
    pub login_limits: LoginLimits,
    /// The time after which an idle login is refreshed, so that it does not die. `None` leaves it
    /// alone.
    pub keepalive: Option<Duration>,
    /// Whether the provider refuses an exchange without the right PKCE verifier. Then a code
    /// without its `state` can be accepted.
    pub enforces_pkce: bool,
    /// Earlier endpoints of the same issuer. A session that is bound to one of them uses the present
    /// ones.
    pub formerly: Vec<String>,
    /// The certificate authorities that the provider's servers may use.
    pub trust: Trust,
    /// The addresses that requests to published URLs may reach. `None` for a provider whose endpoints
    /// the operator wrote: it may be anywhere.
    pub reach: Option<Reach>,
    /// Whether the server may register the client, so that the configuration needs none.
    pub registers_client: bool,
    /// The metadata that completed these settings.
    pub discovered: Option<Arc<Discovered>>,
}

/// The redirect URI that the documentation recommends where no program listens: its port is none that
/// browsers refuse, and none that systems give to clients.
pub const RECOMMENDED_REDIRECT_URI: &str = "http://127.0.0.1:28471/callback";

/// The reason why a provider is refused.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// A setting is wrong.
    #[error("providers.{provider}.{key}: {what}")]
    Setting {
        /// The provider's name.
        provider: ProviderId,
        /// The key of the setting.
        key: &'static str,
        /// The fault, and how to correct it.
        what: String,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
}

/// The part of `id_token_issuer` that stands for the claim `tid`.
pub(super) const TENANT_ID: &str = "{tenantid}";

/// The smallest `max_lifetime`. A shorter one would refresh at almost each use.
const SHORTEST_MAX_LIFETIME: Duration = Duration::from_secs(60);

/// A refused setting: its key, and the sentence about it.
pub(super) struct Wrong {
    pub(super) key: &'static str,
    pub(super) what: String,
}

/// The parameters of the authorization request that only threadkey sets (RFC 6749 §4.1.1, RFC 7636
/// §4.3, RFC 8707 §2, OpenID Connect Core §3.1.2.1). The two of RFC 9101 would replace all others.
pub(super) const RESERVED: [&str; 11] = [
    "response_type",
    "client_id",
    "redirect_uri",
    "state",
    "code_challenge",
    "code_challenge_method",
    "scope",
    "nonce",
    "resource",
    "request",
    "request_uri",
];

/// Some servers compare the names of parameters without regard to case.
pub(super) fn is_reserved(name: &str) -> bool {
    RESERVED.iter().any(|reserved| name.eq_ignore_ascii_case(reserved))
}

pub(super) fn check_authorize_params(params: &BTreeMap<String, String>) -> Result<(), Wrong> {
    let wrong = |what| Err(Wrong { key: "authorize_params", what });
    for name in params.keys() {
        if name.is_empty() {
            return wrong("a parameter has no name: give it a name, or remove it".to_owned());
        }
        if is_reserved(name) {
            return wrong(format!("threadkey sets {name} itself: remove it"));
        }
    }
    Ok(())
}

/// Checks a URL of the provider that receives requests with secrets.
pub(super) fn endpoint(key: &'static str, text: &str) -> Result<Url, Wrong> {
    let wrong = |what: &str| Wrong { key, what: what.to_owned() };
    let url = web_url(key, text)?;
    // Some URLs cannot be the target of an HTTP request, for example because they are too long.
    url.as_str()
        .parse::<http::Uri>()
        .map_err(|_| wrong("it cannot be the target of a request: shorten it"))?;
    Ok(url)
}

/// Checks that a URL is https, or http on loopback, and has no user info and no fragment.
fn web_url(key: &'static str, text: &str) -> Result<Url, Wrong> {
    let wrong = |what: &str| Err(Wrong { key, what: what.to_owned() });
    if text.is_empty() {
        return wrong("it is missing: set it to the URL in the provider's documentation");
    }
    // A URL parser silently drops white space, but providers compare such a text byte for byte.
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return wrong("it contains white space: remove the white space");
    }
    let Ok(url) = Url::parse(text) else {
        return wrong("it is not a URL: write it in full, as in https://id.example.com/path");
    };
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(&url) => {}
        "http" => {
            return wrong(
                "http would show secrets to the network: write https (http is allowed only for 127.0.0.1, [::1] and localhost)",
            );
        }
        _ => return wrong("it must begin with https:// (or http:// on 127.0.0.1, [::1] or localhost)"),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return wrong("it contains a user name or password before the @: remove them");
    }
    if url.fragment().is_some() {
        return wrong("it contains a fragment: remove the # and the text after it");
    }
    Ok(url)
}

/// Checks the grants: each once, with the endpoint that it needs.
pub(super) fn grants(settings: &ProviderSettings) -> Result<Vec<GrantKind>, Wrong> {
    let wrong = |what: String| Err(Wrong { key: "grants", what });
    let grants = if settings.grants.is_empty() { vec![GrantKind::Code] } else { settings.grants.clone() };
    for (position, grant) in grants.iter().enumerate() {
        if grants[..position].contains(grant) {
            return wrong(format!("{grant} stands here twice: remove one"));
        }
        let missing = match grant {
            GrantKind::Code => None,
            GrantKind::Device => {
                settings.device_authorization_endpoint.is_none().then_some("device_authorization_endpoint")
            }
            GrantKind::Ciba => settings
                .backchannel_authentication_endpoint
                .is_none()
                .then_some("backchannel_authentication_endpoint"),
        };
        if let Some(missing) = missing {
            return wrong(format!(
                "{grant} needs {missing}: set it to the URL in the provider's documentation"
            ));
        }
    }
    Ok(grants)
}

/// Checks the form of the device grant.
pub(super) fn device_form(form: DeviceForm, opening: Option<&Url>, token: &Url) -> Result<DeviceForm, Wrong> {
    let wrong = |key, what: &str| Err(Wrong { key, what: what.to_owned() });
    if !matches!(form.scope_parameter.as_deref(), None | Some("scope" | "scopes")) {
        return wrong("device_scope_parameter", "it must be \"scope\" or \"scopes\"");
    }
    if form.is_codex && opening.is_some_and(|opening| opening.origin() != token.origin()) {
        let what = "with device_flow = \"codex\" it must have the origin of token_endpoint, to which the sign-in is bound";
        return wrong("device_authorization_endpoint", what);
    }
    Ok(form)
}

/// Checks the names of users at the provider. They become parameters of a request.
pub(super) fn login_hints(hints: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Wrong> {
    let wrong = |what: String| Err(Wrong { key: "login_hints", what });
    for (user, hint) in &hints {
        let is_id = user.parse::<Snowflake>().is_ok();
        if !is_id && user != "local" {
            return wrong(format!(
                "{:?} is no user: write the id of a Discord user, or local for this terminal",
                user.chars().take(80).collect::<String>()
            ));
        }
        if hint.trim().is_empty() || hint.chars().any(char::is_control) || hint.len() > 500 {
            return wrong(format!("the hint of {user} must be one line of at most 500 bytes"));
        }
    }
    Ok(hints)
}

pub(super) fn issuer(text: String) -> Result<String, Wrong> {
    let url = web_url("issuer", &text)?;
    if url.query().is_some() {
        let what =
            "it contains a query, and an issuer has none (RFC 8414 §2): remove the ? and the text after it";
        return Err(Wrong { key: "issuer", what: what.to_owned() });
    }
    Ok(text)
}

/// Checks the issuer of id tokens, in which one placeholder may stand.
pub(super) fn id_token_issuer(text: String) -> Result<String, Wrong> {
    let problem = |wrong: Wrong| Wrong { key: "id_token_issuer", ..wrong };
    issuer(text.replace(TENANT_ID, "tenantid")).map_err(problem)?;
    Ok(text)
}

pub(super) fn redirect_uri(text: String) -> Result<RedirectUrl, Wrong> {
    web_url("redirect_uri", &text)?;
    RedirectUrl::new(text).map_err(|_| Wrong { key: "redirect_uri", what: "it is not a URL".to_owned() })
}

pub(super) fn client_id(text: String) -> Result<String, Wrong> {
    let wrong = |what: &str| Err(Wrong { key: "client_id", what: what.to_owned() });
    if text.is_empty() {
        return wrong("it is missing: set it to the id under which threadkey is registered at the provider");
    }
    // RFC 6749 appendix A.1.
    if !text.bytes().all(|b| matches!(b, 0x20..=0x7e)) {
        return wrong("it must be printable ASCII (RFC 6749 appendix A.1)");
    }
    if is_placeholder(&text) {
        return wrong(
            "it is still the placeholder of an example: replace it by the id that the provider gave to your client",
        );
    }
    Ok(text)
}

/// Whether a text stands in an example for a value that only the reader has, such as
/// `REPLACE-WITH-YOUR-ID`, `your_client_id` or `<client id>`.
fn is_placeholder(text: &str) -> bool {
    const WHOLE: [&str; 11] = [
        "client id",
        "clientid",
        "application id",
        "app id",
        "my client id",
        "change me",
        "example",
        "placeholder",
        "todo",
        "tbd",
        "client id here",
    ];
    let lower = text.trim().to_ascii_lowercase();
    let is_bracketed = [('<', '>'), ('{', '}'), ('[', ']')]
        .iter()
        .any(|(open, close)| lower.trim_start_matches('$').starts_with(*open) && lower.ends_with(*close));
    let words: Vec<_> = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty()).collect();
    let first = words.first().copied().unwrap_or_default();
    let is_instruction = words.contains(&"your")
        || ["replace", "replaceme", "changeme", "fixme"].contains(&first)
        || (first == "the" && ["id", "client"].iter().any(|word| words.contains(word)));
    let is_filler = lower.len() > 2 && lower.chars().all(|c| matches!(c, 'x' | '-' | '.' | '…'));
    is_bracketed || is_instruction || is_filler || WHOLE.contains(&words.join(" ").as_str())
}

pub(super) fn scopes(scopes: Vec<String>) -> Result<Vec<String>, Wrong> {
    // RFC 6749 §3.3: scope-token.
    let allowed = |b: u8| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    match scopes.iter().find(|scope| scope.is_empty() || !scope.bytes().all(allowed)) {
        None => Ok(scopes),
        Some(bad) => {
            let what = format!(
                "{:?} is not one scope: write each as an entry of its own, as in [\"read\", \"write\"], in printable ASCII without spaces, quotes and backslashes (RFC 6749 §3.3)",
                bad.chars().take(80).collect::<String>()
            );
            Err(Wrong { key: "scopes", what })
        }
    }
}

/// Checks the path to the tokens and splits it.
pub(super) fn token_path(text: &str) -> Result<Vec<String>, Wrong> {
    member_path("token_path", "authed_user", text)
}

/// Checks the names that lead to the account's identifier.
pub(super) fn account_id_claim(text: &str) -> Result<Vec<String>, Wrong> {
    member_path("account_id_claim", "id or data.id", text)
}

fn member_path(key: &'static str, example: &str, text: &str) -> Result<Vec<String>, Wrong> {
    let names: Vec<String> = text.split('.').map(str::to_owned).collect();
    if names.iter().any(String::is_empty) {
        let what = format!("it must be the names of members, separated by dots, as in {example}");
        return Err(Wrong { key, what });
    }
    Ok(names)
}

/// Checks the provider's own error codes. They are compared and stored in lower case.
pub(super) fn ended_errors(codes: Vec<String>) -> Result<Vec<String>, Wrong> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_-.:".contains(&b);
    match codes.iter().find(|code| !(1..=64).contains(&code.len()) || !code.bytes().all(allowed)) {
        None => Ok(codes.iter().map(|code| code.to_ascii_lowercase()).collect()),
        Some(bad) => {
            let what = format!(
                "{:?} is not an error code: each entry is one word of at most 64 letters, digits and _ - . :",
                bad.chars().take(80).collect::<String>()
            );
            Err(Wrong { key: "ended_errors", what })
        }
    }
}

/// The smallest time for the keys about logins. Refreshes for an idle login are rare.
const SHORTEST_LOGIN: Duration = Duration::from_secs(60 * 60);

/// Checks the ends of logins, and that keeping them alive comes before the idle end.
pub(super) fn login_limits(limits: &LoginLimits, keepalive: Option<Duration>) -> Result<(), Wrong> {
    let times = [("login_ends", limits.login), ("idle_ends", limits.idle), ("keepalive", keepalive)];
    for (key, time) in times {
        if time.is_some_and(|time| time < SHORTEST_LOGIN) {
            return Err(Wrong { key, what: "it must be at least one hour, as in \"7d\"".to_owned() });
        }
    }
    match (keepalive, limits.idle) {
        (Some(every), Some(idle)) if every >= idle => {
            let what = format!(
                "it must be shorter than idle_ends, which is {} hours: an idle login has ended by then",
                idle.as_secs() / 3600
            );
            Err(Wrong { key: "keepalive", what })
        }
        _ => Ok(()),
    }
}

/// Checks the longest lifetime of an access token.
pub(super) fn max_lifetime(longest: Duration) -> Result<Duration, Wrong> {
    if longest < SHORTEST_MAX_LIFETIME {
        let what = "it must be at least one minute, as in \"90d\"".to_owned();
        return Err(Wrong { key: "max_lifetime", what });
    }
    Ok(longest)
}

pub(super) fn resource(text: String) -> Result<String, Wrong> {
    // RFC 8707 §2: an absolute URI without a fragment.
    match Url::parse(&text) {
        Ok(url) if url.fragment().is_none() => Ok(text),
        _ => {
            let what = "it must be an absolute URI without a fragment (RFC 8707 §2)".to_owned();
            Err(Wrong { key: "resource", what })
        }
    }
}

/// The parameters of the token and revocation requests that only threadkey sets (RFC 6749 §4.1.3
/// and §6, RFC 7009 §2.1, RFC 7521 §4.2, RFC 7636 §4.5, RFC 8707 §2).
const RESERVED_IN_TOKEN_REQUESTS: [&str; 14] = [
    "grant_type",
    "code",
    "code_verifier",
    "redirect_uri",
    "refresh_token",
    "client_id",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
    "token",
    "token_type_hint",
    "state",
    "scope",
    "resource",
];

/// The headers that authenticate the client, delimit a request on its connection (RFC 9110 §7.6.1,
/// RFC 9112 §6), or encode a body. A wrong one could lose the answer to a request.
const RESERVED_HEADERS: [HeaderName; 14] = [
    ACCEPT_ENCODING,
    AUTHORIZATION,
    CONNECTION,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    EXPECT,
    HOST,
    HeaderName::from_static("keep-alive"),
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Checks the form of the requests.
pub(super) fn request_form(
    form: &RequestForm,
    token_endpoint: &Url,
    is_confidential: bool,
) -> Result<(), Wrong> {
    let wrong = |key, what: String| Err(Wrong { key, what });
    for name in form.token_params.keys() {
        if name.is_empty() {
            return wrong("token_params", "a parameter has no name: give it a name, or remove it".to_owned());
        }
        if RESERVED_IN_TOKEN_REQUESTS.iter().any(|reserved| name.eq_ignore_ascii_case(reserved)) {
            return wrong("token_params", format!("threadkey sets {name} itself: remove it"));
        }
    }
    let mut headers = HashSet::new();
    for (name, value) in &form.token_headers {
        let Ok(header) = HeaderName::try_from(name) else {
            return wrong("token_headers", format!("{name:?} is no name of a header (RFC 9110 §5.1)"));
        };
        if RESERVED_HEADERS.contains(&header) {
            return wrong("token_headers", format!("threadkey sets {name} itself: remove it"));
        }
        if !headers.insert(header) {
            let what = format!("{name} stands here twice, and the case does not matter: remove one");
            return wrong("token_headers", what);
        }
        if HeaderValue::try_from(value).is_err() {
            return wrong("token_headers", format!("the value of {name} cannot stand in a header"));
        }
    }
    if !matches!(form.scope_separator.as_str(), " " | ",") {
        return wrong("scope_separator", "it must be a space or a comma".to_owned());
    }
    if !matches!(form.scope_parameter.as_str(), "scope" | "user_scope") {
        return wrong("scope_parameter", "it must be \"scope\" or \"user_scope\"".to_owned());
    }
    if !form.pkce && !is_confidential {
        let what = "without PKCE a code is bound to nothing but the client's secret: set pkce = true, or a client secret";
        return wrong("pkce", what.to_owned());
    }
    if let Some(text) = &form.refresh_endpoint {
        let url = endpoint("refresh_endpoint", text)?;
        if url.origin() != token_endpoint.origin() {
            let what = "it must have the origin of token_endpoint, to which the session is bound";
            return wrong("refresh_endpoint", what.to_owned());
        }
    }
    Ok(())
}
