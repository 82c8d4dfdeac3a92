//! OAuth: providers, the requests of RFC 6749, 7636 and 7009, and the meaning of an answer.
//!
//! The `oauth2` crate builds each request, and this module captures it before it is sent, as a
//! plain [`TokenRequest`]. [`Client`] sends the request and returns the raw answer, so that the
//! caller can make the answer durable before [`outcome`] reads it.
//!
//! A sign-in calls [`Provider::begin`], [`Provider::authorize_url`], [`Pasted::parse`],
//! [`Provider::exchange`], [`Client::send`] and [`outcome`], in this order. A refresh calls
//! [`Provider::refresh`], [`Client::send`] and [`outcome`]. Only [`Client`] uses the network. All
//! other code is pure, except that [`Provider::begin`] takes random numbers.

mod client;
mod grant;
mod outcome;
mod paste;
mod provider;
mod request;
mod settings;

#[cfg(feature = "test-util")]
pub use client::ScriptedProvider;
pub use client::{Attempt, Client};
pub use outcome::{Outcome, outcome};
pub use paste::{AuthorizationResponse, PasteError, Pasted};
pub use provider::{BindingChanged, Provider, Providers};
pub use request::{RevocationRequest, TokenRequest};
pub use settings::{ProviderError, ProviderSettings};
