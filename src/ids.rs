//! Identifiers: each is validated once, where it enters, and then carried as a type. [`UnixTime`]
//! is here because all floors share it.

use std::{fmt, str::FromStr, sync::Arc};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// A point in time as it is stored and compared: whole seconds since 1970-01-01 UTC.
pub type UnixTime = i64;

/// A text is not an identifier. The message describes the right form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not a provider id.
    #[error(
        "{0:?} is not a provider name: use 1 to 64 of a-z, 0-9, '_', '.', '-', and begin with a letter or digit"
    )]
    Provider(String),
    /// Not a route's name.
    #[error("{0:?} is not a route name: use 1 to 32 of a-z, 0-9, '_', '-', and begin with a letter or digit")]
    Route(String),
    /// Not an agent's name.
    #[error(
        "{0:?} is not an agent's name: use 1 to 32 of a-z, 0-9, '_', '-', and begin with a letter or digit"
    )]
    Agent(String),
    /// Not a principal.
    #[error("{0:?} is not a principal: write user:<discord id>, guild:<discord id> or local")]
    Principal(String),
    /// Not a tenant.
    #[error("{0:?} is not a tenant: write <provider>/<principal>, for example codex/local")]
    Tenant(String),
    /// Not a Discord id.
    #[error("{0:?} is not a Discord id: it is a number of up to 20 digits")]
    Snowflake(String),
    /// Not a lineage.
    #[error("{0:?} is not a lineage: it is 32 hex digits")]
    Lineage(String),
}

/// A configured OAuth client at one authorization server: `[a-z0-9][a-z0-9_.-]{0,63}`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProviderId(Arc<str>);

impl ProviderId {
    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ProviderId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let ok = text.len() <= 64
            && text.bytes().next().is_some_and(plain)
            && text.bytes().all(|b| plain(b) || matches!(b, b'_' | b'.' | b'-'));
        if ok { Ok(Self(text.into())) } else { Err(IdError::Provider(text.chars().take(80).collect())) }
    }
}

/// A route of the injecting proxy: `[a-z0-9][a-z0-9_-]{0,31}`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteName(Arc<str>);

/// An agent of the configuration: `[a-z0-9][a-z0-9_-]{0,31}`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AgentName(Arc<str>);

impl RouteName {
    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AgentName {
    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RouteName {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if is_short_name(text) { Ok(Self(text.into())) } else { Err(IdError::Route(excerpt(text))) }
    }
}

impl FromStr for AgentName {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if is_short_name(text) { Ok(Self(text.into())) } else { Err(IdError::Agent(excerpt(text))) }
    }
}

fn is_short_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    text.len() <= 32
        && text.bytes().next().is_some_and(plain)
        && text.bytes().all(|b| plain(b) || matches!(b, b'_' | b'-'))
}

fn excerpt(text: &str) -> String {
    text.chars().take(80).collect()
}

/// A Discord id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Snowflake(pub u64);

impl FromStr for Snowflake {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits
            .then(|| text.parse().ok())
            .flatten()
            .map(Self)
            .ok_or_else(|| IdError::Snowflake(text.chars().take(40).collect()))
    }
}

impl fmt::Display for Snowflake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A conversation with a worker, named by its Discord thread or DM channel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ConversationId(pub Snowflake);

impl fmt::Display for ConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The party that a session belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Principal {
    /// One Discord user.
    User(Snowflake),
    /// A Discord server, for all its members.
    Guild(Snowflake),
    /// A terminal on this machine.
    Local,
}

impl FromStr for Principal {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let bad = || IdError::Principal(text.chars().take(80).collect());
        match text.split_once(':') {
            Some(("user", id)) => id.parse().map(Self::User).map_err(|_| bad()),
            Some(("guild", id)) => id.parse().map(Self::Guild).map_err(|_| bad()),
            None if text == "local" => Ok(Self::Local),
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) => write!(f, "user:{id}"),
            Self::Guild(id) => write!(f, "guild:{id}"),
            Self::Local => f.write_str("local"),
        }
    }
}

/// Provider and principal, written `codex/user:80351110224678912`. Everything is keyed by it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tenant {
    /// The provider.
    pub provider: ProviderId,
    /// The party that the session belongs to.
    pub principal: Principal,
}

/// The characters that are percent-encoded in a file name.
const FILE_NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

impl Tenant {
    /// Joins the two.
    pub fn new(provider: ProviderId, principal: Principal) -> Self {
        Self { provider, principal }
    }

    /// Returns the tenant as one file name. ASCII letters, digits, `-`, `_` and `.` stay,
    /// everything else is percent-encoded: `codex/user:803` becomes `codex%2Fuser%3A803`.
    pub fn file_name(&self) -> String {
        utf8_percent_encode(&self.to_string(), FILE_NAME).to_string()
    }

    /// Returns the tenant of a file name; `None` if [`Tenant::file_name`] makes no such name.
    pub fn from_file_name(name: &str) -> Option<Self> {
        let tenant: Self = percent_decode_str(name).decode_utf8().ok()?.parse().ok()?;
        (tenant.file_name() == name).then_some(tenant)
    }
}

impl FromStr for Tenant {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let (provider, principal) =
            text.split_once('/').ok_or_else(|| IdError::Tenant(text.chars().take(150).collect()))?;
        Ok(Self { provider: provider.parse()?, principal: principal.parse()? })
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.provider, self.principal)
    }
}

/// 128 random bits, new at each sign-in: they identify the grant of a session.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lineage(pub [u8; 16]);

impl FromStr for Lineage {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let bad = || IdError::Lineage(text.chars().take(40).collect());
        if text.len() != 32 || !text.is_ascii() {
            return Err(bad());
        }
        let mut bytes = [0; 16];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).map_err(|_| bad())?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Display for RouteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for AgentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ProviderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! debug_as_display {
    ($($name:ident),+) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }
    )+};
}

debug_as_display!(ProviderId, RouteName, AgentName, Principal, Tenant, Lineage);

/// Returns the bytes in lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]])
        .map(char::from)
        .collect()
}

/// The similarity from which a known name is suggested for an unknown one.
const MIN_SIMILARITY: f64 = 0.8;

/// Returns the known name that is most similar to an unknown one, if any is similar enough.
pub fn closest<'a>(unknown: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.map(|name| (strsim::jaro_winkler(unknown, name), name));
    scored
        .filter(|(score, _)| *score > MIN_SIMILARITY)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_reads_as_it_is_written_and_has_a_safe_file_name() {
        let tenant: Tenant = "codex/user:80351110224678912".parse().expect("a tenant");
        assert_eq!(tenant.to_string(), "codex/user:80351110224678912");
        assert_eq!(tenant.file_name(), "codex%2Fuser%3A80351110224678912");
        assert_eq!(Tenant::from_file_name(&tenant.file_name()), Some(tenant));
        for other in ["codex", "codex/local", "codex%2fuser%3A803", "codex%2Fuser%3A803.lock", "%FF"] {
            assert_eq!(Tenant::from_file_name(other), None, "{other}");
        }
    }

    #[test]
    fn a_text_that_is_no_identifier_is_refused_with_the_right_form() {
        for bad in ["", "Codex", "-x", "a/b", "a b", &"a".repeat(65)] {
            assert!(bad.parse::<ProviderId>().is_err(), "{bad:?}");
        }
        for bad in ["", "user:", "user:-1", "user:+1", "guild:x", "local:1", "Local"] {
            let error = bad.parse::<Principal>().expect_err(bad);
            assert!(error.to_string().contains("user:<discord id>"));
        }
        assert!("codex".parse::<Tenant>().is_err());
    }

    #[test]
    fn a_lineage_survives_the_round_trip() {
        let lineage = Lineage([7; 16]);
        assert_eq!(lineage.to_string().parse(), Ok(lineage));
        assert!("xyz".parse::<Lineage>().is_err());
    }
}
