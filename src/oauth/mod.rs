//! OAuth: providers, the requests of RFC 6749, 7636 and 7009, and what an answer means.
//!
//! Requests are built by the `oauth2` crate and captured before they are sent, as plain [`TokenRequest`]s; [`Client`] sends
//! them and returns the raw answer, so that the caller can write it down before [`outcome`] reads it.

mod client;
mod outcome;
mod paste;
mod provider;

pub use client::{Client, Sent, TokenRequest};
pub use outcome::{Outcome, outcome, outcome_of};
pub use paste::{PasteError, Pasted};
pub use provider::{BindingChanged, Provider, ProviderError, ProviderSettings, Providers};
