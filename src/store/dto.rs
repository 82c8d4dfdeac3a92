//! The JSON of the store file, as types.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{borrow::Cow, collections::BTreeMap};

use crate::{
    ids::{Lineage, Principal},
    secret::{AccessToken, CodeVerifier, Fingerprint, Nonce, RefreshToken, State},
    session::{Binding, Ended, Pending, Rejected, Retry, Session},
    sys::clock::UnixTime,
};

#[derive(Deserialize)]
pub(super) struct FileDto {
    #[serde(deserialize_with = "version")]
    pub(super) version: u64,
    #[serde(default)]
    pub(super) sessions: BTreeMap<String, SessionDto>,
    #[serde(default)]
    pub(super) pending: BTreeMap<String, PendingDto>,
    #[serde(default)]
    pub(super) candidates: BTreeMap<String, SessionDto>,
    #[serde(default)]
    #[expect(dead_code, reason = "not used yet; here only its form is checked")]
    clients: BTreeMap<String, BTreeMap<String, de::IgnoredAny>>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct SessionDto {
    #[serde(with = "text")]
    access_token: AccessToken,
    #[serde(default, with = "optional_text", skip_serializing_if = "Option::is_none")]
    refresh_token: Option<RefreshToken>,
    token_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    issued_at: UnixTime,
    expires_at: UnixTime,
    #[serde(with = "text")]
    lineage: Lineage,
    generation: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    account: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    issuer: Option<String>,
    token_endpoint: String,
    client_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resource: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rejected: Option<RejectedDto>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry: Option<RetryDto>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended: Option<EndedDto>,
}

#[derive(Serialize, Deserialize)]
struct RejectedDto {
    #[serde(with = "text")]
    fingerprint: Fingerprint,
    at: UnixTime,
}

#[derive(Serialize, Deserialize)]
struct RetryDto {
    set_at: UnixTime,
    not_before: UnixTime,
    attempts: u32,
    code: String,
}

#[derive(Serialize, Deserialize)]
struct EndedDto {
    at: UnixTime,
    code: String,
    #[serde(with = "text")]
    fingerprint: Fingerprint,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    notified_at: Option<UnixTime>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct PendingDto {
    #[serde(with = "text")]
    verifier: CodeVerifier,
    #[serde(with = "text")]
    state: State,
    #[serde(default, with = "optional_text", skip_serializing_if = "Option::is_none")]
    nonce: Option<Nonce>,
    redirect_uri: String,
    created_at: UnixTime,
    #[serde(with = "text")]
    started_by: Principal,
    #[serde(default, with = "optional_text", skip_serializing_if = "Option::is_none")]
    lineage_seen: Option<Lineage>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    issuer: Option<String>,
    token_endpoint: String,
    client_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resource: Option<String>,
    #[serde(default)]
    scopes: Vec<String>,
}

// === impl SessionDto ===

impl From<&Session> for SessionDto {
    fn from(s: &Session) -> Self {
        let Binding { issuer, token_endpoint, client_id, resource } = s.binding.clone();
        Self {
            access_token: s.access_token.clone(),
            refresh_token: s.refresh_token.clone(),
            token_type: s.token_type.clone(),
            scope: s.scope.clone(),
            issued_at: s.issued_at,
            expires_at: s.expires_at,
            lineage: s.lineage,
            generation: s.generation,
            account: s.account.clone(),
            issuer,
            token_endpoint,
            client_id,
            resource,
            rejected: s.rejected.clone().map(|r| RejectedDto { fingerprint: r.fingerprint, at: r.at }),
            retry: s.retry.clone().map(|Retry { set_at, not_before, attempts, code }| RetryDto {
                set_at,
                not_before,
                attempts,
                code,
            }),
            ended: s.ended.clone().map(|Ended { at, code, fingerprint, notified_at }| EndedDto {
                at,
                code,
                fingerprint,
                notified_at,
            }),
        }
    }
}

impl From<SessionDto> for Session {
    fn from(s: SessionDto) -> Self {
        Self {
            access_token: s.access_token,
            refresh_token: s.refresh_token,
            token_type: s.token_type,
            scope: s.scope,
            issued_at: s.issued_at,
            expires_at: s.expires_at,
            lineage: s.lineage,
            generation: s.generation,
            account: s.account,
            subject: None,
            signed_in_by: None,
            id_token: None,
            extra: BTreeMap::new(),
            revocation_endpoint: None,
            userinfo_endpoint: None,
            binding: Binding {
                issuer: s.issuer,
                token_endpoint: s.token_endpoint,
                client_id: s.client_id,
                resource: s.resource,
            },
            rejected: s.rejected.map(|RejectedDto { fingerprint, at }| Rejected {
                fingerprint,
                at,
                decided: false,
            }),
            retry: s.retry.map(|RetryDto { set_at, not_before, attempts, code }| Retry {
                set_at,
                not_before,
                attempts,
                code,
            }),
            ended: s.ended.map(|EndedDto { at, code, fingerprint, notified_at }| Ended {
                at,
                code,
                fingerprint,
                notified_at,
            }),
        }
    }
}

// === impl PendingDto ===

impl From<&Pending> for PendingDto {
    fn from(p: &Pending) -> Self {
        let Binding { issuer, token_endpoint, client_id, resource } = p.binding.clone();
        Self {
            verifier: p.verifier.clone(),
            state: p.state.clone(),
            nonce: p.nonce.clone(),
            redirect_uri: p.redirect_uri.clone(),
            created_at: p.created_at,
            started_by: p.started_by,
            lineage_seen: p.lineage_seen,
            issuer,
            token_endpoint,
            client_id,
            resource,
            scopes: p.scopes.clone(),
        }
    }
}

impl From<PendingDto> for Pending {
    fn from(p: PendingDto) -> Self {
        Self {
            verifier: p.verifier,
            state: p.state,
            nonce: p.nonce,
            redirect_uri: p.redirect_uri,
            created_at: p.created_at,
            started_by: p.started_by,
            lineage_seen: p.lineage_seen,
            binding: Binding {
                issuer: p.issuer,
                token_endpoint: p.token_endpoint,
                client_id: p.client_id,
                resource: p.resource,
            },
            scopes: p.scopes,
        }
    }
}

fn version<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    match u64::deserialize(from)? {
        0 => Err(de::Error::custom("expected a version from 1")),
        version => Ok(version),
    }
}

/// What is a text in JSON and a type of its own here. `expected` must not repeat the text.
pub(super) trait Text: Sized {
    const EXPECTED: &'static str;
    fn read(text: Cow<'_, str>) -> Option<Self>;
    fn text(&self) -> Cow<'_, str>;
}

macro_rules! secret_text {
    ($($name:ident),+) => {$(
        impl Text for $name {
            const EXPECTED: &'static str = "a text";
            fn read(text: Cow<'_, str>) -> Option<Self> {
                Some(Self::new(text))
            }
            fn text(&self) -> Cow<'_, str> {
                self.expose().into()
            }
        }
    )+};
}

secret_text!(AccessToken, RefreshToken, CodeVerifier, State, Nonce);

impl Text for Fingerprint {
    const EXPECTED: &'static str = "a fingerprint of 8 to 64 hex digits";
    fn read(text: Cow<'_, str>) -> Option<Self> {
        Self::parse(&text)
    }
    fn text(&self) -> Cow<'_, str> {
        self.as_str().into()
    }
}

impl Text for Lineage {
    const EXPECTED: &'static str = "a lineage of 32 hex digits";
    fn read(text: Cow<'_, str>) -> Option<Self> {
        text.parse().ok()
    }
    fn text(&self) -> Cow<'_, str> {
        self.to_string().into()
    }
}

impl Text for Principal {
    const EXPECTED: &'static str = "a principal: user:<discord id>, guild:<discord id> or local";
    fn read(text: Cow<'_, str>) -> Option<Self> {
        text.parse().ok()
    }
    fn text(&self) -> Cow<'_, str> {
        self.to_string().into()
    }
}

fn read_text<T: Text, E: de::Error>(text: Cow<'_, str>) -> Result<T, E> {
    T::read(text).ok_or_else(|| E::custom(format_args!("expected {}", T::EXPECTED)))
}

pub(super) mod text {
    use super::*;

    pub(crate) fn serialize<T: Text, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&value.text())
    }

    pub(crate) fn deserialize<'de, T: Text, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
        read_text(String::deserialize(from)?.into())
    }
}

pub(super) mod optional_text {
    use super::*;

    pub(crate) fn serialize<T: Text, S: Serializer>(value: &Option<T>, to: S) -> Result<S::Ok, S::Error> {
        value.as_ref().map(|v| v.text()).serialize(to)
    }

    pub(crate) fn deserialize<'de, T: Text, D: Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
        Option::<String>::deserialize(from)?.map(|text| read_text(text.into())).transpose()
    }
}
