//! The JSON of the store file, as types.
//!
//! A record is read into its type and written from it by a mirror of that type: serde's `remote`. A
//! field that a mirror lacks does not compile.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    ids::{Lineage, Principal, UnixTime},
    secret::{
        AccessToken, ClientSecret, CodeVerifier, DeviceCode, Fingerprint, IdToken, Nonce, RefreshToken,
        Scrubber, StartId, State,
    },
    session::{
        Binding, BrowserReturn, Demanded, Ended, GrantKind, Pending, Polling, Refusals, RegisteredClient,
        Rejected, Retry, Session, Unconfirmed, WrongCodes,
    },
};

/// The file. Its sections are keyed by texts, because a newer version may have tenants of another
/// form.
#[derive(Deserialize)]
pub(super) struct FileDto {
    #[serde(deserialize_with = "version")]
    pub(super) version: u64,
    #[serde(default)]
    pub(super) sessions: BTreeMap<String, Record<Session>>,
    #[serde(default)]
    pub(super) pending: BTreeMap<String, Record<Pending>>,
    #[serde(default)]
    pub(super) candidates: BTreeMap<String, Record<Session>>,
    #[serde(default)]
    pub(super) clients: BTreeMap<String, ClientDto>,
}

/// A registered client. One without an id is kept, and used by no sign-in.
#[derive(Serialize, Deserialize)]
pub(super) struct ClientDto {
    #[serde(default)]
    client_id: Option<String>,
    #[serde(default, with = "optional_text", skip_serializing_if = "Option::is_none")]
    client_secret: Option<ClientSecret>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client_secret_expires_at: Option<UnixTime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token_endpoint_auth_method: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    registered_at: Option<UnixTime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unused_since: Option<UnixTime>,
}

// === impl ClientDto ===

impl ClientDto {
    pub(super) fn into_client(self) -> Option<RegisteredClient> {
        Some(RegisteredClient {
            client_id: self.client_id?,
            client_secret: self.client_secret,
            secret_expires_at: self.client_secret_expires_at,
            auth_method: self.token_endpoint_auth_method,
            registered_at: self.registered_at,
            unused_since: self.unused_since,
        })
    }
}

impl From<&RegisteredClient> for ClientDto {
    fn from(client: &RegisteredClient) -> Self {
        Self {
            client_id: Some(client.client_id.clone()),
            client_secret: client.client_secret.clone(),
            client_secret_expires_at: client.secret_expires_at,
            token_endpoint_auth_method: client.auth_method.clone(),
            registered_at: client.registered_at,
            unused_since: client.unused_since,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Session")]
struct SessionDto {
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
    subject: Option<String>,
    #[serde(default, with = "optional_text", skip_serializing_if = "Option::is_none")]
    signed_in_by: Option<Principal>,
    #[serde(default, with = "optional_text", skip_serializing_if = "Option::is_none")]
    id_token: Option<IdToken>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    extra: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signed_in_at: Option<UnixTime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refresh_expires_at: Option<UnixTime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unused_since: Option<UnixTime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    notified_end: Option<UnixTime>,
    #[serde(default, with = "optional_record", skip_serializing_if = "Option::is_none")]
    demanded: Option<Demanded>,
    #[serde(flatten, with = "BindingDto")]
    binding: Binding,
    #[serde(default, with = "optional_record", skip_serializing_if = "Option::is_none")]
    rejected: Option<Rejected>,
    #[serde(default, with = "optional_record", skip_serializing_if = "Option::is_none")]
    retry: Option<Retry>,
    #[serde(default, with = "optional_record", skip_serializing_if = "Option::is_none")]
    ended: Option<Ended>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Binding")]
struct BindingDto {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    issuer: Option<String>,
    token_endpoint: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revocation_endpoint: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    userinfo_endpoint: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    probe_endpoint: Option<String>,
    client_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resource: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Demanded")]
struct DemandedDto {
    scopes: Vec<String>,
    at: Vec<UnixTime>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Rejected")]
struct RejectedDto {
    #[serde(with = "text")]
    fingerprint: Fingerprint,
    at: UnixTime,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    decided: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Retry")]
struct RetryDto {
    set_at: UnixTime,
    not_before: UnixTime,
    attempts: u32,
    code: String,
    #[serde(default, with = "optional_record", skip_serializing_if = "Option::is_none")]
    refused: Option<Refusals>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Refusals")]
struct RefusalsDto {
    code: String,
    since: UnixTime,
    times: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    notified_at: Option<UnixTime>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "WrongCodes")]
struct WrongCodesDto {
    times: u32,
    at: UnixTime,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Ended")]
struct EndedDto {
    at: UnixTime,
    code: String,
    #[serde(with = "text")]
    fingerprint: Fingerprint,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    notified_at: Option<UnixTime>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Pending")]
struct PendingDto {
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
    #[serde(flatten, with = "BindingDto")]
    binding: Binding,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default, with = "optional_record", skip_serializing_if = "Option::is_none")]
    wrong_codes: Option<WrongCodes>,
    #[serde(default, with = "optional_record", skip_serializing_if = "Option::is_none")]
    polling: Option<Polling>,
    #[serde(default, with = "boxed_record", skip_serializing_if = "Option::is_none")]
    browser: Option<Box<BrowserReturn>>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "BrowserReturn")]
struct BrowserReturnDto {
    #[serde(with = "text")]
    start_id: StartId,
    user: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    server: Option<String>,
    #[serde(default, with = "optional_text", skip_serializing_if = "Option::is_none")]
    cookie: Option<Fingerprint>,
    #[serde(default, with = "optional_record", skip_serializing_if = "Option::is_none")]
    unconfirmed: Option<Unconfirmed>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failed: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Unconfirmed")]
struct UnconfirmedDto {
    #[serde(with = "SessionDto")]
    session: Session,
    #[serde(with = "text")]
    digits: Fingerprint,
    #[serde(default)]
    wrong: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Polling")]
struct PollingDto {
    #[serde(with = "text")]
    grant: GrantKind,
    #[serde(with = "text")]
    code: DeviceCode,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user_code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    verification_uri: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    verification_uri_complete: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    binding_message: Option<String>,
    expires_at: UnixTime,
    interval: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not_before: Option<UnixTime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended: Option<String>,
}

/// A type that a mirror reads and writes.
pub(super) trait Mirrored: Sized {
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error>;
    fn write<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error>;
}

macro_rules! mirrored {
    ($($type:ident by $mirror:ident),+) => {$(
        impl Mirrored for $type {
            fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                $mirror::deserialize(from)
            }
            fn write<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                $mirror::serialize(self, to)
            }
        }
    )+};
}

mirrored!(
    Session by SessionDto,
    Pending by PendingDto,
    Demanded by DemandedDto,
    Rejected by RejectedDto,
    Retry by RetryDto,
    Refusals by RefusalsDto,
    WrongCodes by WrongCodesDto,
    BrowserReturn by BrowserReturnDto,
    Unconfirmed by UnconfirmedDto,
    Polling by PollingDto,
    Ended by EndedDto
);

/// A record in the form of the file.
pub(super) struct Record<T>(pub(super) T);

impl<'de, T: Mirrored> Deserialize<'de> for Record<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        T::read(from).map(Self)
    }
}

impl<T: Mirrored> Serialize for Record<&T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.write(to)
    }
}

mod optional_record {
    use super::*;

    pub(super) fn serialize<T: Mirrored, S: Serializer>(value: &Option<T>, to: S) -> Result<S::Ok, S::Error> {
        value.as_ref().map(Record).serialize(to)
    }

    pub(super) fn deserialize<'de, T: Mirrored, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<T>, D::Error> {
        Ok(Option::<Record<T>>::deserialize(from)?.map(|Record(value)| value))
    }
}

mod boxed_record {
    use super::*;

    pub(super) fn serialize<T: Mirrored, S: Serializer>(
        value: &Option<Box<T>>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        value.as_deref().map(Record).serialize(to)
    }

    pub(super) fn deserialize<'de, T: Mirrored, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Box<T>>, D::Error> {
        Ok(Option::<Record<T>>::deserialize(from)?.map(|Record(value)| Box::new(value)))
    }
}

fn version<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    match u64::deserialize(from)? {
        0 => Err(de::Error::custom("expected a version from 1")),
        version => Ok(version),
    }
}

/// A type of its own here that is a text in JSON. `EXPECTED` must not repeat the text.
pub(super) trait Text: Sized {
    const EXPECTED: &'static str;
    fn read(text: Cow<'_, str>) -> Option<Self>;
    fn text(&self) -> Cow<'_, str>;
}

macro_rules! secret_text {
    ($read:path: $($name:ident),+) => {$(
        impl Text for $name {
            const EXPECTED: &'static str = "a text";
            fn read(text: Cow<'_, str>) -> Option<Self> {
                Some(Self::new($read(text)))
            }
            fn text(&self) -> Cow<'_, str> {
                self.expose().into()
            }
        }
    )+};
}

secret_text!(noted: AccessToken, RefreshToken, CodeVerifier, IdToken, ClientSecret, DeviceCode);
// The link of a sign-in contains these, and its user has to see it.
secret_text!(std::convert::identity: State, Nonce, StartId);

/// Makes a secret of the file known to the scrubber.
fn noted(text: Cow<'_, str>) -> Cow<'_, str> {
    Scrubber::of_process().note(&text);
    text
}

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

impl Text for GrantKind {
    const EXPECTED: &'static str = "a grant: code, device or ciba";
    fn read(text: Cow<'_, str>) -> Option<Self> {
        text.parse().ok()
    }
    fn text(&self) -> Cow<'_, str> {
        self.name().into()
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
