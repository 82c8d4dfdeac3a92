//! Token acquirers: the grants by which a sign-in gets its first tokens, each in one file.
//!
//! An acquirer is pure. It builds the requests of its grant and reads the answers to them. The broker
//! sends them, takes the locks and keeps the record:
//!
//! 1. [`TokenAcquirer::opening`] asks the provider to begin, where the grant needs that, and
//!    [`TokenAcquirer::opened`] reads the answer. Neither holds a lock: nothing is spent yet.
//! 2. [`TokenAcquirer::view`] is the first view for the user.
//! 3. The next token request exchanges a code that the user brought, or is a
//!    [poll](TokenAcquirer::poll). It may return tokens, so it is sent by the rules of the journal.
//! 4. [`TokenAcquirer::read`] reads its answer, live and from a journal.
//!
//! A new grant is a file here, a variant of [`GrantKind`] and a row in [`Provider::acquirer`].

mod ciba;
mod code;
mod codex_device;
mod contract;
mod device;
mod opening;
mod poll_words;
mod reading;

pub use contract::{KnownUser, TokenAcquirer, View};
pub use opening::OpeningError;
pub use reading::{Proof, Reading};

use super::Provider;
use crate::{
    ids::{Lineage, Principal},
    session::{GrantKind, Pending, Polling},
    sys::clock::UnixTime,
};

// === impl Provider ===

impl Provider {
    /// Returns the grants that the configuration offers. The first is the default.
    pub fn grants(&self) -> &[GrantKind] {
        &self.grants
    }

    /// Returns the acquirer of a grant.
    pub fn acquirer(&self, grant: GrantKind) -> &'static dyn TokenAcquirer {
        match grant {
            GrantKind::Code => &code::Code,
            GrantKind::Device if self.device_form.is_codex => &codex_device::CodexDevice,
            GrantKind::Device => &device::Device,
            GrantKind::Ciba => &ciba::Ciba,
        }
    }

    /// Begins a sign-in that the provider answered with `polling`.
    pub fn begin_polling(
        &self,
        started_by: Principal,
        lineage_seen: Option<Lineage>,
        now: UnixTime,
        polling: Polling,
    ) -> Pending {
        let mut pending = self.begin(started_by, lineage_seen, now);
        // The requests of the other grants have no nonce.
        pending.nonce = None;
        if let Some(redirect_uri) = self.acquirer(polling.grant).redirect_uri(self) {
            pending.redirect_uri = redirect_uri;
        }
        pending.polling = Some(polling);
        pending
    }
}
