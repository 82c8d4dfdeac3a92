//! OAuth: providers, the requests of RFC 6749, 7636 and 7009, and what an answer means.
//!
//! Requests are built by the `oauth2` crate and captured before they are sent, as plain [`TokenRequest`]s; [`Client`] sends
//! them and returns the raw answer, so that the caller can write it down before [`outcome`] reads it.
//!
//! A sign-in goes [`Provider::begin`], [`Provider::authorize_url`], [`Pasted::parse`], [`Provider::exchange`], [`Client::send`],
//! [`outcome`]; a refresh goes [`Provider::refresh`], [`Client::send`], [`outcome`]. Only [`Client`] touches the network; all
//! else is pure but for the randomness of [`Provider::begin`].

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
pub use paste::{PasteError, Pasted};
pub use provider::{BindingChanged, Provider, Providers};
pub use request::{RevocationRequest, TokenRequest};
pub use settings::{ProviderError, ProviderSettings};
