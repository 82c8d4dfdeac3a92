//! OAuth: providers, the requests of RFC 6749, 7636 and 7009, and the meaning of an answer.
//!
//! The `oauth2` crate builds each request, and this module captures it before it is sent, as a
//! plain [`TokenRequest`]. [`Client`] sends the request and returns the raw answer, so that the
//! caller can make the answer durable before [`outcome`] or [`sign_in_outcome`] reads it.
//!
//! A sign-in calls [`Provider::begin`], [`Provider::authorize_url`], [`Pasted::parse`],
//! [`Provider::exchange`], [`Client::send`] and [`sign_in_outcome`], in this order. A refresh calls
//! [`Provider::refresh`], [`Client::send`] and [`outcome`]. Only [`Client`] uses the network. All
//! other code is pure, except that [`Provider::begin`] takes random numbers.

mod acquirer;
mod answer_rules;
mod challenge;
mod client;
mod client_auth;
mod client_key;
mod content;
mod destination;
mod discovery;
mod discovery_cache;
mod discovery_error;
mod document;
mod environment;
mod excerpt;
mod exchange;
mod extension_request;
mod grant;
mod id_token;
mod jwk;
mod jws;
mod lifetime;
pub mod mcp;
mod mcp_discovery;
mod metadata;
mod outcome;
mod paste;
mod preset;
mod probe;
mod provider;
mod providers;
mod published;
mod receive;
mod request;
mod request_form;
mod scheme;
mod scope_choice;
mod settings;
mod verdict;
mod wire;

pub use acquirer::{KnownUser, OpeningError, Proof, Reading, TokenAcquirer, View};
pub use answer_rules::AnswerRules;
pub use challenge::BearerChallenge;
#[cfg(feature = "test-util")]
pub use client::ScriptedProvider;
pub use client::{Attempt, Client, Userinfo};
pub use client_auth::Credentials;
pub use client_key::ClientKey;
pub use destination::{Endpoint, Withheld};
pub use discovery_cache::{CACHE_FRESH_FOR, DiscoveryCache};
pub use discovery_error::{DiscoveryError, ResourceError};
pub use document::{DOCUMENT_TIMEOUT, Document, DocumentError, DocumentRequest, MAX_DOCUMENT};
pub use environment::EnvironmentToken;
pub use excerpt::excerpt;
pub use exchange::{Exchange, ExchangeRequest, ExchangeSettings};
pub use grant::{UserinfoAccount, printable};
pub use id_token::Mismatch;
pub use jwk::{KeySet, NoKeySet};
pub use jws::{Jws, SignatureFault};
pub use metadata::{Discovered, ServerMetadata};
pub use outcome::{Outcome, exchange_outcome, may_hold_tokens, outcome, sign_in_outcome};
pub use paste::{AuthorizationResponse, PasteError, Pasted};
pub use preset::{PlaceholderError, Preset, PresetInfo, preset, preset_names, presets};
pub use probe::{PROBE_TIMEOUT, ProbeRequest, Probed};
pub use provider::Provider;
pub use providers::{Providers, Publisher, Undiscovered, no_provider, no_provider_among};
pub use published::metadata_urls;
pub use request::{OpeningRequest, RevocationRequest, TokenRequest, UserinfoRequest};
pub use request_form::{BodyForm, DeviceForm, RequestForm};
pub use scheme::authentication_scheme;
pub use settings::{ProviderError, ProviderSettings, RECOMMENDED_REDIRECT_URI};
