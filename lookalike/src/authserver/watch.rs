//! Notifies a test of each token request and each revocation while it happens.

use std::sync::OnceLock;

use super::script::{Decided, Reply};
use super::token::Form;

/// A moment of the token request `seq`, or of a grant.
#[derive(Clone, Copy, Debug)]
pub enum Moment<'a> {
    /// The request has arrived and is not decided.
    Arrived {
        /// From 1, in the order of arrival.
        seq: u64,
        /// The form of the request.
        form: &'a Form,
    },
    /// The request got this reply. Without a decision the reply did not touch the grants.
    Decided {
        /// The request's number.
        seq: u64,
        /// The script's reply, or [`Reply::Normal`].
        reply: &'a Reply,
        /// The decision, before the reply changes it.
        decided: Option<&'a Decided>,
    },
    /// The answer goes out, if the client still waits.
    Answering {
        /// The request's number.
        seq: u64,
    },
    /// A client revoked its grant (RFC 7009). The answer has not gone out.
    Revoked {
        /// The token in the request.
        token: &'a str,
    },
}

type Watcher = Box<dyn Fn(Moment<'_>) + Send + Sync>;

/// The watcher. It gets the moments of one request in order, while no lock is held.
#[derive(Default)]
pub(super) struct Watch(OnceLock<Watcher>);

impl Watch {
    pub(super) fn set(&self, watcher: impl Fn(Moment<'_>) + Send + Sync + 'static) {
        assert!(self.0.set(Box::new(watcher)).is_ok(), "there is a watcher already");
    }

    pub(super) fn tell(&self, moment: Moment<'_>) {
        if let Some(watcher) = self.0.get() {
            watcher(moment);
        }
    }
}
