//! The reference: every issued token and its owner, every request and its answer, every observation
//! of the disk, and every action.
//! It learns from the providers at the moment of each request, from the disk at each observation,
//! and from the steps; it never asks the code under test. A broken promise is recorded with its
//! number, and fails the run after the step.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::{Value, json};
use threadkey::{broker::Revocation, sys::clock::Clock};

use super::{
    choice::Choices,
    disk::{Stored, fingerprint, journal},
    steps::{Choice, TENANTS},
};
use crate::support::authserver::{Decided, Reply};

/// Shared by the driver, the callers and the providers.
pub(super) type Shared = Arc<Mutex<Reference>>;

/// The tenant and the account of one sign-in: first a code, and then every token that descends from
/// it.
#[derive(Clone, Debug)]
pub(super) struct Family {
    pub(super) tenant: usize,
    /// The account's name as the provider gives it to the client.
    pub(super) account: String,
    /// Whether the answer to the code left the account out.
    pub(super) nameless: bool,
}

/// A pair of tokens that a provider issued.
pub(super) struct Issue {
    pub(super) family: usize,
    pub(super) access: String,
    /// The refresh token that is valid after this answer.
    pub(super) refresh: String,
}

/// The meaning of an answer, by RFC 6749 and the rules of HTTP.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Meaning {
    Granted,
    /// Carries the seconds of `Retry-After`.
    Unspent(Option<i64>),
    Ambiguous,
    Verdict,
    Misconfigured,
}

/// The secret that a request presented.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Presented {
    Code(String),
    /// The refresh token, and the stored access token that it was to replace, where the store had
    /// one.
    Refresh(String, Option<String>),
}

/// A token request.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) provider: usize,
    pub(super) seq: u64,
    pub(super) tenant: usize,
    pub(super) presented: Presented,
    /// Whether this is the repetition that a provider's grace allows.
    pub(super) repeated: bool,
    pub(super) meaning: Option<Meaning>,
    pub(super) issue: Option<usize>,
    /// The clock's values around the time of the answer.
    pub(super) answered: Option<Vec<i64>>,
    /// Whether the system has been idle since.
    pub(super) settled: bool,
    /// Whether its sender may have died before the request was settled.
    pub(super) orphan: bool,
}

#[derive(Default)]
pub(super) struct Tenancy {
    /// As of the last observation.
    pub(super) stored: Option<Stored>,
    pub(super) candidate: Option<Stored>,
    pub(super) pending: Option<(String, Value)>,
    /// The number of sign-ins and logouts, counted from their start.
    pub(super) changes: u64,
    pub(super) changes_observed: u64,
    /// Whether some changes may still be in progress.
    pub(super) changing: bool,
    /// The logout in progress.
    pub(super) logging_out: Option<Revocation>,
    /// The number of choices against the session, counted from their start.
    pub(super) switches: u64,
    /// The choice in progress, and the lineage that it names.
    pub(super) choosing: Option<(Choice, String)>,
    /// Access tokens that a resource refused.
    pub(super) reported: BTreeSet<String>,
    pub(super) ended_events: usize,
}

pub(super) struct Reference {
    pub(super) store: PathBuf,
    pub(super) clock: Clock,
    /// The clock's values since the system was idle.
    pub(super) times: Vec<i64>,
    pub(super) codes: BTreeMap<String, Family>,
    pub(super) families: Vec<Family>,
    pub(super) issues: Vec<Issue>,
    pub(super) by_access: BTreeMap<String, usize>,
    pub(super) by_refresh: BTreeMap<String, usize>,
    pub(super) requests: Vec<Request>,
    pub(super) tenants: Vec<Tenancy>,
    /// Each lineage that was seen on the disk, and its family, in order of appearance.
    pub(super) lineages: Vec<(String, usize)>,
    /// Access tokens that were seen on the disk.
    pub(super) durable: BTreeSet<String>,
    pub(super) choices: Choices,
    pub(super) revoked: BTreeSet<usize>,
    /// Refresh tokens that a dead process had journalled as being spent; they may never have been
    /// sent.
    pub(super) left_behind: BTreeSet<String>,
    /// Codes, and refresh tokens of that kind, that may still arrive although their sender is dead.
    pub(super) late: BTreeSet<String>,
    pub(super) planted: [Value; 3],
    pub(super) secrets: BTreeSet<String>,
    texts: Vec<(&'static str, String)>,
    pub(super) violations: Vec<String>,
}

pub(super) fn lock(shared: &Shared) -> MutexGuard<'_, Reference> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the meaning of `reply` for the sender of a request that was decided in this way.
fn meaning(reply: &Reply, decided: Option<&Decided>) -> Meaning {
    let by_body = |status: u16, body: &Value| {
        let text = body.to_string();
        let contains_any = |codes: &[&str]| codes.iter().any(|code| text.contains(&format!("\"{code}\"")));
        if contains_any(&["invalid_grant", "refresh_token_reused", "token_expired", "bad_refresh_token"]) {
            Meaning::Verdict
        } else if contains_any(&["invalid_client", "unauthorized_client", "invalid_scope", "invalid_request"])
        {
            Meaning::Misconfigured
        } else if body.get("access_token").is_some() {
            Meaning::Granted
        } else if status < 300 {
            Meaning::Ambiguous
        } else {
            Meaning::Unspent(None)
        }
    };
    let by_status = |status: u16, retry_after: Option<i64>| match status {
        408 | 425 | 429 | 503 => Meaning::Unspent(retry_after),
        400..500 => Meaning::Unspent(None),
        _ => Meaning::Ambiguous,
    };
    match (reply, decided) {
        (Reply::Normal, Some(decided)) => by_body(decided.status, &decided.body),
        (Reply::Edit(edit), Some(decided)) => {
            let mut body = decided.body.clone();
            edit(&mut body);
            by_body(decided.status, &body)
        }
        (Reply::Json(status, body), _) => by_body(*status, body),
        (Reply::Status(status), _) => by_status(*status, None),
        (Reply::StatusRetryAfter(status, seconds), _) => by_status(*status, i64::try_from(*seconds).ok()),
        (Reply::Html503, _) => Meaning::Unspent(None),
        _ => Meaning::Ambiguous,
    }
}

/// Whether this edit removes the account.
fn is_nameless(edit: fn(&mut Value)) -> bool {
    let mut body = json!({ "id_token": "" });
    edit(&mut body);
    body.get("id_token").is_none()
}

// === impl Reference ===

impl Reference {
    pub(super) fn new(store: PathBuf, clock: Clock) -> Self {
        Self {
            store,
            times: vec![clock.now()],
            clock,
            codes: BTreeMap::new(),
            families: Vec::new(),
            issues: Vec::new(),
            by_access: BTreeMap::new(),
            by_refresh: BTreeMap::new(),
            requests: Vec::new(),
            tenants: TENANTS.iter().map(|_| Tenancy::default()).collect(),
            lineages: Vec::new(),
            durable: BTreeSet::new(),
            choices: Choices::default(),
            revoked: BTreeSet::new(),
            left_behind: BTreeSet::new(),
            late: BTreeSet::new(),
            planted: Default::default(),
            secrets: BTreeSet::new(),
            texts: Vec::new(),
            violations: Vec::new(),
        }
    }

    pub(super) fn violate(&mut self, violation: impl Into<String>) {
        self.violations.push(violation.into());
    }

    /// Records the provider's decision on a request.
    pub(super) fn decided(&mut self, provider: usize, seq: u64, reply: &Reply, decided: Option<&Decided>) {
        let meaning = meaning(reply, decided);
        let Some(index) = self.request(provider, seq) else { return };
        let granted = decided.filter(|decided| decided.status == 200);
        let nameless = matches!(reply, Reply::Edit(edit) if is_nameless(*edit));
        let issue = granted.and_then(|decided| self.issued(index, &decided.body, nameless));
        let request = &mut self.requests[index];
        (request.meaning, request.issue) = (Some(meaning), issue);
    }

    /// Records a new pair of tokens.
    fn issued(&mut self, request: usize, body: &Value, nameless: bool) -> Option<usize> {
        let access = body["access_token"].as_str()?.to_owned();
        let refresh = body["refresh_token"].as_str();
        let (family, refresh) = match &self.requests[request].presented {
            Presented::Code(code) => {
                self.families.push(Family { nameless, ..self.codes[code].clone() });
                (self.families.len() - 1, refresh?.to_owned())
            }
            Presented::Refresh(old, _) => (self.by_refresh[old], refresh.unwrap_or(old).to_owned()),
        };
        self.by_access.insert(access.clone(), self.issues.len());
        self.by_refresh.insert(refresh.clone(), family);
        self.secrets.extend([access.clone(), refresh.clone()]);
        self.issues.push(Issue { family, access, refresh });
        Some(self.issues.len() - 1)
    }

    /// Records that an answer is sent.
    pub(super) fn answering(&mut self, provider: usize, seq: u64) {
        let times = self.times.clone();
        if let Some(index) = self.request(provider, seq) {
            self.requests[index].answered = Some(times);
        }
    }

    fn request(&self, provider: usize, seq: u64) -> Option<usize> {
        self.requests.iter().position(|request| request.provider == provider && request.seq == seq)
    }

    /// Records a step of the processes' clock.
    pub(super) fn clock_stepped(&mut self) {
        self.times.push(self.clock.now());
    }

    /// Records the death of a process: every unsettled request may have lost its sender.
    pub(super) fn process_died(&mut self) {
        self.requests.iter_mut().filter(|request| !request.settled).for_each(|request| request.orphan = true);
        self.observe();
        self.late.extend(self.codes.keys().cloned());
        for (tenancy, (provider, principal, _)) in self.tenants.iter().zip(TENANTS) {
            let Some(stored) = &tenancy.stored else { continue };
            let text = journal(&self.store, &super::tenant_name(provider, principal));
            if text.contains(&fingerprint(&stored.refresh)) {
                self.left_behind.insert(stored.refresh.clone());
                self.late.insert(stored.refresh.clone());
            }
        }
    }

    /// Records a text that users and logs may get.
    pub(super) fn record_text(&mut self, kind: &'static str, text: String) {
        self.texts.push((kind, text));
    }

    /// Promise 13: no recorded text contains a secret.
    pub(super) fn check_texts(&mut self) {
        for (kind, text) in std::mem::take(&mut self.texts) {
            if self.secrets.iter().any(|secret| text.contains(secret)) {
                self.violate(format!("promise 13: {kind} contains a secret: {text}"));
            }
        }
    }
}
