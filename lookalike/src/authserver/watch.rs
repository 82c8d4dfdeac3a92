//! Telling a test of each token request and each revocation, at the very moment.

use std::sync::OnceLock;

use super::script::{Decided, Reply};
use super::token::Form;

/// A moment in the life of the token request `seq`, or of a grant.
#[derive(Clone, Copy, Debug)]
pub enum Moment<'a> {
    /// It is here, and nothing has become of it.
    Arrived {
        /// From 1, in the order of arrival.
        seq: u64,
        /// What came.
        form: &'a Form,
    },
    /// It got this reply; where that leaves the grants alone, nothing was decided.
    Decided {
        /// Which one.
        seq: u64,
        /// The script's, or [`Reply::Normal`].
        reply: &'a Reply,
        /// Before the reply made something else of it.
        decided: Option<&'a Decided>,
    },
    /// The answer goes out, if there is anybody to take it.
    Answering {
        /// Which one.
        seq: u64,
    },
    /// A grant was revoked by its client (RFC 7009), which is not told yet.
    Revoked {
        /// What it sent.
        token: &'a str,
    },
}

type Watcher = Box<dyn Fn(Moment<'_>) + Send + Sync>;

/// Who is told. Moments are told one by one for each request, while no lock is held.
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
