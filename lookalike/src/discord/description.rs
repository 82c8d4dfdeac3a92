//! The seam to a description of Discord's API. Only the tests pay for the real one (the feature
//! `openapi`).

use serde_json::Value;

use super::routes::Matched;

/// A description of Discord's API, which finds faults as sentences.
pub trait Description: Send + Sync {
    /// The faults of a request's body and query.
    fn faults_of_request(&self, matched: &Matched, body: &Value, query: &str) -> Vec<String>;

    /// The faults of the look-alike's own answer: the copy must not drift from the original.
    fn faults_of_answer(&self, matched: &Matched, status: u16, body: &Value) -> Vec<String>;
}

/// Discord's own description, if this library is built with it and the file is there.
#[cfg(feature = "openapi")]
pub(crate) fn load() -> Option<Box<dyn Description>> {
    Some(Box::new(super::openapi::OpenApi::load()?))
}

/// Discord's own description: never, because this library is built without it.
#[cfg(not(feature = "openapi"))]
pub(crate) fn load() -> Option<Box<dyn Description>> {
    None
}
