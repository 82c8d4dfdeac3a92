//! Authorization code (RFC 6749 §4.1 with RFC 7636): the user follows a link and brings a code back.

use super::contract::{TokenAcquirer, View};
use crate::{oauth::Provider, session::Pending};

/// The grant.
#[derive(Debug)]
pub(super) struct Code;

impl TokenAcquirer for Code {
    fn view(&self, provider: &Provider, pending: &Pending) -> View {
        View::Link(provider.authorize_url(pending))
    }
}
