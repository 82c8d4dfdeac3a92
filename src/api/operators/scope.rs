//! The scope of an operator key: whose tokens of which providers, and what its holder may do with
//! them.

use std::{collections::BTreeSet, fmt, str::FromStr};

use crate::ids::{IdError, Principal, ProviderId, Tenant, closest};

/// The principals of a key: one of them, all of a kind, or all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PrincipalPattern {
    /// `*`: all.
    Any,
    /// `user:*`: all Discord users.
    Users,
    /// `guild:*`: all Discord servers.
    Guilds,
    /// This one.
    One(Principal),
}

/// The providers of a key: one of them, or all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProviderPattern {
    /// `*`: all.
    Any,
    /// This one.
    One(ProviderId),
}

/// An action that a key may allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// Read tokens, and report them as rejected.
    Tokens,
    /// List sessions.
    List,
    /// Log sessions out.
    Delete,
    /// Read the metrics of the whole process.
    Metrics,
}

/// The scope of a key. It is closed by default: without a principal and a provider it opens no
/// session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyScope {
    /// The principals.
    pub principals: Vec<PrincipalPattern>,
    /// The providers.
    pub providers: Vec<ProviderPattern>,
    /// The rights.
    pub rights: BTreeSet<Right>,
}

/// A text does not name a right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoSuchRight(String);

impl Right {
    const NAMES: [(&'static str, Self); 4] = [
        ("tokens", Self::Tokens),
        ("list", Self::List),
        ("delete", Self::Delete),
        ("metrics", Self::Metrics),
    ];

    /// The rights of a key whose settings name none. They reach only the key's own sessions, and the
    /// metrics cover all of them.
    pub fn usual() -> BTreeSet<Self> {
        BTreeSet::from([Self::Tokens, Self::List, Self::Delete])
    }

    fn name(self) -> &'static str {
        Self::NAMES.into_iter().find(|(_, right)| *right == self).map_or("", |(name, _)| name)
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Right {
    type Err = NoSuchRight;

    fn from_str(text: &str) -> Result<Self, NoSuchRight> {
        if let Some((_, right)) = Self::NAMES.into_iter().find(|(name, _)| *name == text) {
            return Ok(right);
        }
        let names = Self::NAMES.map(|(name, _)| name);
        Err(NoSuchRight(match closest(text, names.into_iter()) {
            Some(similar) => format!("there is no such right; did you mean `{similar}`?"),
            None => format!("there is no such right; the rights are {}", names.join(", ")),
        }))
    }
}

impl FromStr for PrincipalPattern {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Ok(match text {
            "*" => Self::Any,
            "user:*" => Self::Users,
            "guild:*" => Self::Guilds,
            one => Self::One(one.parse()?),
        })
    }
}

impl FromStr for ProviderPattern {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Ok(if text == "*" { Self::Any } else { Self::One(text.parse()?) })
    }
}

impl PrincipalPattern {
    fn admits(&self, principal: Principal) -> bool {
        match self {
            Self::Any => true,
            Self::Users => matches!(principal, Principal::User(_)),
            Self::Guilds => matches!(principal, Principal::Guild(_)),
            Self::One(one) => *one == principal,
        }
    }
}

impl ProviderPattern {
    fn admits(&self, provider: &ProviderId) -> bool {
        match self {
            Self::Any => true,
            Self::One(one) => one == provider,
        }
    }
}

impl KeyScope {
    /// Whether the key has this right.
    pub fn may(&self, right: Right) -> bool {
        self.rights.contains(&right)
    }

    /// Whether the key covers this provider.
    pub fn covers_provider(&self, provider: &ProviderId) -> bool {
        self.providers.iter().any(|pattern| pattern.admits(provider))
    }

    /// Whether the key covers this principal.
    pub fn covers_principal(&self, principal: Principal) -> bool {
        self.principals.iter().any(|pattern| pattern.admits(principal))
    }

    /// Whether the key covers this tenant.
    pub fn covers(&self, tenant: &Tenant) -> bool {
        self.covers_provider(&tenant.provider) && self.covers_principal(tenant.principal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(principals: &[&str], providers: &[&str]) -> KeyScope {
        KeyScope {
            principals: principals.iter().map(|text| text.parse().expect("a pattern")).collect(),
            providers: providers.iter().map(|text| text.parse().expect("a pattern")).collect(),
            rights: Right::usual(),
        }
    }

    fn covers(scope: &KeyScope, tenant: &str) -> bool {
        scope.covers(&tenant.parse().expect("a tenant"))
    }

    #[test]
    fn a_key_covers_its_principals_of_its_providers_alone() {
        let exact = scope(&["user:803", "local"], &["acme"]);
        assert!(covers(&exact, "acme/user:803") && covers(&exact, "acme/local"));
        for other in ["acme/user:804", "acme/guild:803", "other/user:803"] {
            assert!(!covers(&exact, other), "{other}");
        }
        let users = scope(&["user:*"], &["*"]);
        assert!(covers(&users, "other/user:804"));
        assert!(!covers(&users, "acme/guild:9") && !covers(&users, "acme/local"));
        assert!(covers(&scope(&["guild:*"], &["*"]), "acme/guild:9"));
        assert!(covers(&scope(&["*"], &["*"]), "acme/local"));
    }

    #[test]
    fn a_key_without_a_principal_or_a_provider_covers_nothing() {
        for closed in [scope(&[], &["*"]), scope(&["*"], &[]), KeyScope::default()] {
            assert!(!covers(&closed, "acme/user:803"), "{closed:?}");
        }
        assert!(!KeyScope::default().may(Right::Metrics));
        assert!(!Right::usual().contains(&Right::Metrics), "the metrics cover all sessions");
    }

    #[test]
    fn a_pattern_or_a_right_that_is_none_is_refused() {
        for bad in ["user:", "user:8*", "guild", "**", ""] {
            assert!(bad.parse::<PrincipalPattern>().is_err(), "{bad}");
        }
        for bad in ["ac*", "Acme", ""] {
            assert!(bad.parse::<ProviderPattern>().is_err(), "{bad}");
        }
        let error = "token".parse::<Right>().expect_err("it is none").to_string();
        assert!(error.contains("did you mean `tokens`"), "{error}");
        for (name, right) in Right::NAMES {
            assert_eq!((name.parse(), right.to_string().as_str()), (Ok(right), name));
        }
    }
}
