//! The place of a connection to the sign-in pages.

use std::sync::{Mutex, PoisonError};

use crate::api::shares::{Peer, Place};

/// The place of a connection among those of its address. A callback gives it back as soon as its
/// cookie is right, so that no storm of other connections ends the page with the digits.
pub(super) struct Arrival(Mutex<Option<Place<Peer>>>);

impl Arrival {
    pub(super) fn at(place: Place<Peer>) -> Self {
        Self(Mutex::new(Some(place)))
    }

    pub(super) fn admit(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}
