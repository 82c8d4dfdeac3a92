//! A token for a caller, and its JSON form.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

use super::TokenError;
use crate::{
    ids::{IdError, Lineage, Tenant},
    oauth::{EnvironmentToken, authentication_scheme},
    secret::AccessToken,
    session::{Session, UNKNOWN_EXPIRY, is_known_expiry},
    sys::clock::UnixTime,
};

/// The place that a token comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LeaseSource {
    /// The stored session.
    #[default]
    Session,
    /// An environment variable of the operator.
    Environment,
    /// An exchange of the token of another provider's session (RFC 8693).
    Exchange,
}

impl LeaseSource {
    fn is_session(&self) -> bool {
        *self == Self::Session
    }
}

/// An access token to use, with the public facts about its session.
#[derive(Clone, Debug)]
pub struct Lease {
    /// The tenant that it belongs to.
    pub tenant: Tenant,
    /// The token.
    pub access_token: AccessToken,
    /// The authentication scheme, usually `Bearer`.
    pub token_type: String,
    /// When it expires, in Unix seconds;
    /// [`UNKNOWN_EXPIRY`](crate::session::UNKNOWN_EXPIRY) if the provider names no end.
    pub expires_at: UnixTime,
    /// Its remaining life when the lease was made.
    pub expires_in: Duration,
    /// Its scopes, separated by spaces.
    pub scope: Option<String>,
    /// The account that signed in, if it is known.
    pub account: Option<String>,
    /// The session's generation; 0 for a token of the environment.
    pub generation: u64,
    /// The place that it comes from.
    pub source: LeaseSource,
    /// The sign-in that it comes from. `None` for a token of the environment, and for a lease that another
    /// process handed out.
    pub lineage: Option<Lineage>,
}

impl Lease {
    /// A lease of the session's present access token.
    pub(super) fn new(tenant: &Tenant, session: &Session, now: UnixTime) -> Self {
        Self {
            tenant: tenant.clone(),
            access_token: session.access_token.clone(),
            token_type: authentication_scheme(&session.token_type).to_owned(),
            expires_at: session.expires_at,
            expires_in: session.remaining(now),
            scope: session.scope.clone(),
            account: session.account.clone(),
            generation: session.generation,
            source: LeaseSource::Session,
            lineage: Some(session.lineage),
        }
    }

    /// A lease of a token of the environment, whose end is unknown.
    ///
    /// # Errors
    /// [`TokenError::EnvironmentRejected`] if the caller has reported this token.
    pub fn from_environment(
        tenant: &Tenant,
        token: &EnvironmentToken,
        rejected: Option<&AccessToken>,
        now: UnixTime,
    ) -> Result<Self, TokenError> {
        if rejected == Some(&token.token) {
            let (tenant, variable) = (tenant.clone(), token.variable.clone());
            return Err(TokenError::EnvironmentRejected { tenant, variable });
        }
        Ok(Self::of_environment(tenant, token, now))
    }

    pub(super) fn of_environment(tenant: &Tenant, token: &EnvironmentToken, now: UnixTime) -> Self {
        let expires_in = UNKNOWN_EXPIRY.saturating_sub(now).max(0).unsigned_abs();
        Self {
            tenant: tenant.clone(),
            access_token: token.token.clone(),
            token_type: authentication_scheme("").to_owned(),
            expires_at: UNKNOWN_EXPIRY,
            expires_in: Duration::from_secs(expires_in),
            scope: None,
            account: None,
            generation: 0,
            source: LeaseSource::Environment,
            lineage: None,
        }
    }

    /// The lease of a session that goes on, if its access token has not expired, whatever else the record
    /// notes about it.
    pub fn of_living(tenant: &Tenant, session: &Session, now: UnixTime) -> Option<Self> {
        let lives = session.ended.is_none() && !session.remaining(now).is_zero();
        lives.then(|| Self::new(tenant, session, now))
    }

    /// Whether the provider names an end of the token's life.
    pub fn has_known_expiry(&self) -> bool {
        is_known_expiry(self.expires_at)
    }
}

/// The JSON form of a [`Lease`]: the token API's answer, the output of `threadkey token --format
/// json`, and the reply of the detached refresh process. Its members are contract.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Token)]
pub struct TokenJson {
    /// The access token.
    #[serde(serialize_with = "expose", deserialize_with = "conceal")]
    #[schema(value_type = String)]
    access_token: AccessToken,
    /// The authentication scheme to present it with, mostly `Bearer`.
    token_type: String,
    /// When it expires, in Unix seconds; 253402300799 if the provider names no end.
    expires_at: UnixTime,
    /// Its remaining life, in seconds.
    expires_in: u64,
    /// Its scope, if the provider named one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    scope: Option<String>,
    /// The provider that issued it.
    provider: String,
    /// The party that its session belongs to.
    principal: String,
    /// The number of commits to its session.
    generation: u64,
    /// The account that signed in, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    account: Option<String>,
    /// The place that it comes from; absent for a token of the session.
    #[serde(default, skip_serializing_if = "LeaseSource::is_session")]
    source: LeaseSource,
}

/// Writes the token itself: this JSON is the one place where it belongs.
fn expose<S: Serializer>(token: &AccessToken, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(token.expose())
}

fn conceal<'de, D: Deserializer<'de>>(deserializer: D) -> Result<AccessToken, D::Error> {
    String::deserialize(deserializer).map(AccessToken::new)
}

impl From<&Lease> for TokenJson {
    fn from(lease: &Lease) -> Self {
        lease.clone().into()
    }
}

impl From<Lease> for TokenJson {
    fn from(lease: Lease) -> Self {
        Self {
            access_token: lease.access_token,
            token_type: lease.token_type,
            expires_at: lease.expires_at,
            expires_in: lease.expires_in.as_secs(),
            scope: lease.scope,
            provider: lease.tenant.provider.as_str().to_owned(),
            principal: lease.tenant.principal.to_string(),
            generation: lease.generation,
            account: lease.account,
            source: lease.source,
        }
    }
}

impl TryFrom<TokenJson> for Lease {
    type Error = IdError;

    /// Fails if the JSON names no valid tenant.
    fn try_from(json: TokenJson) -> Result<Self, IdError> {
        Ok(Self {
            tenant: Tenant::new(json.provider.parse()?, json.principal.parse()?),
            access_token: json.access_token,
            token_type: json.token_type,
            expires_at: json.expires_at,
            expires_in: Duration::from_secs(json.expires_in),
            scope: json.scope,
            account: json.account,
            generation: json.generation,
            source: json.source,
            lineage: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(scope: Option<&str>, account: Option<&str>) -> Lease {
        Lease {
            tenant: "acme/user:803".parse().expect("a tenant"),
            access_token: AccessToken::new("access-7"),
            token_type: "Bearer".into(),
            expires_at: 1_795_362_272,
            expires_in: Duration::from_secs(3600),
            scope: scope.map(str::to_owned),
            account: account.map(str::to_owned),
            generation: 7,
            source: LeaseSource::Session,
            lineage: None,
        }
    }

    fn json(lease: &Lease) -> String {
        serde_json::to_string(&TokenJson::from(lease)).expect("it is JSON")
    }

    #[test]
    fn a_token_has_these_json_members() {
        assert_eq!(
            json(&lease(Some("read"), None)),
            r#"{"access_token":"access-7","token_type":"Bearer","expires_at":1795362272,"expires_in":3600,"scope":"read","provider":"acme","principal":"user:803","generation":7}"#
        );
        assert_eq!(
            json(&lease(None, Some("alice"))),
            r#"{"access_token":"access-7","token_type":"Bearer","expires_at":1795362272,"expires_in":3600,"provider":"acme","principal":"user:803","generation":7,"account":"alice"}"#
        );
    }

    #[test]
    fn a_lease_names_the_scheme_of_a_token_type_that_an_older_program_stored() {
        for (stored, scheme) in
            [("bearer", "Bearer"), ("user", "Bearer"), ("a b\r\n", "Bearer"), ("dpop", "DPoP")]
        {
            let mut session = crate::session::test_session(1_795_358_672, 3600);
            session.token_type = stored.into();
            let lease = Lease::new(&lease(None, None).tenant, &session, 1_795_358_672);
            assert_eq!(lease.token_type, scheme, "{stored:?}");
        }
    }

    #[test]
    fn a_lease_passes_its_json_form_unchanged() {
        let text = json(&lease(Some("read"), Some("alice")));
        let parsed: TokenJson = serde_json::from_str(&text).expect("it is a token");
        assert!(!format!("{parsed:?}").contains("access-7"), "Debug is redacted");
        let back = Lease::try_from(parsed).expect("it names a tenant");
        assert_eq!((back.access_token.expose(), back.generation), ("access-7", 7));
        assert_eq!(json(&back), text);
    }

    #[test]
    fn json_without_a_valid_tenant_is_no_lease() {
        let text = json(&lease(None, None)).replace("user:803", "everybody");
        let parsed: TokenJson = serde_json::from_str(&text).expect("it is a token");
        assert!(Lease::try_from(parsed).is_err());
    }
}
