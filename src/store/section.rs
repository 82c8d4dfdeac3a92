//! The sections of the store file: which part of a tenant's record stands in which, and in what form.

use serde_json::{Map, Value};

use super::dto::{PendingDto, SessionDto};
use crate::{
    session::{Entry, Session},
    sys::clock::UnixTime,
};

/// A member of the root whose members are keyed by tenant.
pub(super) struct Section {
    pub(super) name: &'static str,
    /// The fields of its members that are ours.
    pub(super) fields: &'static [&'static str],
    /// What an entry has for it.
    pub(super) object: fn(&Entry) -> Option<Map<String, Value>>,
    /// What becomes of an old entry's part in a new one.
    pub(super) becomes: fn(&Entry, &Entry) -> Becomes,
    /// Drops what is too old to stay, where that is a thing of time, and says whether there was something.
    pub(super) sweep: Option<fn(&mut Entry, UnixTime) -> bool>,
}

/// What becomes of a part of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Becomes {
    /// It is as it was.
    Same,
    /// It is of the same grant or sign-in as what stood in the section of this number: what others wrote into that stays.
    Continues(usize),
    /// It has nothing to do with the old one, or is gone.
    Another,
}

/// How many sections there are.
pub(super) const COUNT: usize = 3;

const SESSIONS: usize = 0;
const PENDING: usize = 1;
const CANDIDATES: usize = 2;

const SESSION: &[&str] = &[
    "access_token",
    "refresh_token",
    "token_type",
    "scope",
    "issued_at",
    "expires_at",
    "lineage",
    "generation",
    "account",
    "issuer",
    "token_endpoint",
    "client_id",
    "resource",
    "rejected",
    "retry",
    "ended",
];

pub(super) static SECTIONS: [Section; COUNT] = [
    Section {
        name: "sessions",
        fields: SESSION,
        object: |entry| entry.session.as_ref().map(|session| object(&SessionDto::from(session))),
        becomes: session_becomes,
        sweep: None,
    },
    Section {
        name: "pending",
        fields: &[
            "verifier",
            "state",
            "nonce",
            "redirect_uri",
            "created_at",
            "started_by",
            "lineage_seen",
            "issuer",
            "token_endpoint",
            "client_id",
            "resource",
            "scopes",
        ],
        object: |entry| entry.pending.as_ref().map(|pending| object(&PendingDto::from(pending))),
        becomes: |old, new| becomes(PENDING, &old.pending, &new.pending, |old, new| old.state == new.state),
        sweep: Some(|entry, now| entry.pending.take_if(|pending| pending.is_swept(now)).is_some()),
    },
    Section {
        name: "candidates",
        fields: SESSION,
        object: |entry| entry.candidate.as_ref().map(|session| object(&SessionDto::from(session))),
        becomes: |old, new| becomes(CANDIDATES, &old.candidate, &new.candidate, is_of_one_grant),
        sweep: Some(|entry, now| entry.candidate.take_if(|candidate| candidate.is_swept(now)).is_some()),
    },
];

/// The fields of the objects in a member that are ours.
pub(super) fn inner_fields(name: &str) -> &'static [&'static str] {
    match name {
        "rejected" => &["fingerprint", "at"],
        "retry" => &["set_at", "not_before", "attempts", "code"],
        "ended" => &["at", "code", "fingerprint", "notified_at"],
        _ => &[],
    }
}

fn session_becomes(old: &Entry, new: &Entry) -> Becomes {
    let Entry { session, candidate, .. } = old;
    match (becomes(SESSIONS, session, &new.session, is_of_one_grant), candidate, &new.session) {
        // A candidate that was chosen takes along what others wrote into it: it is the same grant.
        (Becomes::Another, Some(old), Some(new)) if is_of_one_grant(old, new) => {
            Becomes::Continues(CANDIDATES)
        }
        (becomes, ..) => becomes,
    }
}

fn becomes<T: PartialEq>(
    section: usize,
    old: &Option<T>,
    new: &Option<T>,
    continues: fn(&T, &T) -> bool,
) -> Becomes {
    match (old, new) {
        (old, new) if old == new => Becomes::Same,
        (Some(old), Some(new)) if continues(old, new) => Becomes::Continues(section),
        _ => Becomes::Another,
    }
}

fn is_of_one_grant(old: &Session, new: &Session) -> bool {
    old.lineage == new.lineage
}

fn object(dto: &impl serde::Serialize) -> Map<String, Value> {
    match serde_json::to_value(dto) {
        Ok(Value::Object(map)) => map,
        _ => unreachable!("a structure of texts, numbers and lists is a JSON object"),
    }
}
