//! The store's file. A refused file is never written over. A file that was read, changed and
//! written back has the records that the changes make, and every other member and every unknown
//! field as it was.
//!
//! The first byte chooses two updates, and the rest is the file.
#![no_main]

use std::{collections::BTreeMap, path::Path, time::Duration};

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, value::RawValue};
use threadkey::{
    ids::{Lineage, Principal, Tenant},
    secret::{AccessToken, CodeVerifier, DeviceCode, Fingerprint, RefreshToken, State},
    session::{
        Applied, Binding, Change, Changed, Entry, Grant, GrantKind, Pending, Polling, RefreshTarget,
        Refusals, Retry, Revision, Session, Settlement, Update, apply,
    },
    store::{FileStore, Purpose, Records, Store as _, StoreError},
};
use threadkey_fuzz::{NOW, STORE, assert_no_canary, disk, open, run, tenant};

fuzz_target!(|input: &[u8]| {
    let Some((choice, text)) = input.split_first() else { return };
    let disk = disk(Some(text));
    let stored = || disk.get(Path::new(STORE)).expect("the store is there");
    let mut store = open(&disk);
    let records = run(store.list());
    let writable = match &records {
        Ok(_) => json(text)["version"] == 1,
        Err(error) => {
            assert!(matches!(error, StoreError::Corrupt { .. } | StoreError::Newer { .. }), "{error}");
            assert_no_canary(&format!("{error} {error:?}"));
            false
        }
    };
    if !writable {
        for number in 0..CHANGES {
            let entry = entry_of(&records, &tenant());
            let result = change(&store, &tenant(), changed_by(number, &entry));
            // A newer store is read, and a change can find that it has nothing to do.
            let nothing_to_do =
                records.is_ok() && result.as_ref().is_ok_and(|changed| changed.applied != Applied::Done);
            assert!(nothing_to_do || result.is_err(), "it was to be refused: {result:?}");
        }
        assert!(run(store.try_lock(&tenant(), Purpose::SignIn)).is_err(), "something could be spent");
        assert_eq!(stored(), text, "what was refused was written over");
        return;
    }
    for number in [choice % CHANGES, choice / CHANGES] {
        let records = run(store.list()).expect("it was read before");
        let before = stored();
        let tenant = chosen(&records, number);
        let mut entry = records.get(&tenant).cloned().unwrap_or_default();
        let wanted = changed_by(number, &entry);
        let expected = apply(&mut entry, wanted.clone(), NOW);
        let before_entry = records.get(&tenant).cloned().unwrap_or_default();
        let changed = change(&store, &tenant, wanted).expect("it can be changed");
        assert_eq!((changed.applied, changed.before), (expected, before_entry));
        let after = stored();
        if expected != Applied::Done {
            assert_eq!(after, before, "a change without an effect was written");
            continue;
        }
        // As a process that starts now reads it.
        store = open(&disk);
        let read = run(store.list()).expect("what was written can be read");
        let wanted = after_change(&records, &tenant, &entry);
        assert_eq!(*read, wanted, "the records are not what they have to be");
        let now = wanted.get(&tenant).cloned().unwrap_or_default();
        assert_eq!(changed.after, now, "the result is not what was written");
        assert_rest_is_kept(&before, &after, &tenant, &records, &now);
        assert_fractions_are_kept(&before, &after);
    }
});

/// Kinds of [`changed_by`].
const CHANGES: u8 = 21;

fn changed_by(number: u8, entry: &Entry) -> Update {
    let session = entry.session.as_ref();
    let revision = session.map_or(Revision { lineage: Lineage([9; 16]), generation: 1 }, Session::revision);
    let target = session.and_then(Session::refresh_target);
    let target =
        target.unwrap_or_else(|| RefreshTarget { revision, fingerprint: Fingerprint::of("another") });
    let waiting = entry.candidate.as_ref().map_or(revision.lineage, |candidate| candidate.lineage);
    match number {
        0 | 1 => Change::Logout.into(),
        2 => Change::Start(pending()).into(),
        3 => Change::Cancel(None).into(),
        4 => {
            let state =
                entry.pending.as_ref().map_or_else(|| State::new("s"), |pending| pending.state.clone());
            let session = Session::begin(Lineage([5; 16]), grant(), binding(), NOW);
            Settlement::SignIn { state, session: Box::new(session) }.into()
        }
        5 | 6 => Settlement::Refreshed { target, grant: Box::new(grant()) }.into(),
        7 => {
            let retry = Retry {
                set_at: NOW,
                not_before: NOW + 9,
                attempts: 1,
                code: "connect".into(),
                refused: None,
            };
            Settlement::HoldBack { target, retry }.into()
        }
        8 => Settlement::End { target, code: "invalid_grant".into() }.into(),
        9 => {
            let token = session.map_or_else(|| AccessToken::new("a"), |s| s.access_token.clone());
            Change::Reject(token).into()
        }
        10 => Change::Notified(revision.lineage).into(),
        11 => Change::Switch { lineage: waiting }.into(),
        12 => Change::Keep { lineage: waiting }.into(),
        13 => {
            let token = session.map_or_else(|| AccessToken::new("a"), |s| s.access_token.clone());
            Change::ConfirmRejection(token).into()
        }
        14 => Change::Exhausted(revision.lineage).into(),
        15 => Change::TryAgain(revision.lineage).into(),
        16 => {
            let refused = Some(Refusals { code: "http_403".into(), since: NOW, times: 3, notified_at: None });
            let code = "http_403".to_owned();
            let retry = Retry { set_at: NOW, not_before: NOW + 9, attempts: 3, code, refused };
            Settlement::HoldBack { target, retry }.into()
        }
        17 => {
            let state =
                entry.pending.as_ref().map_or_else(|| State::new("s"), |pending| pending.state.clone());
            Settlement::WrongCode(state).into()
        }
        18 => {
            let state =
                entry.pending.as_ref().map_or_else(|| State::new("s"), |pending| pending.state.clone());
            Settlement::Polled { state, polling: Box::new(polling()) }.into()
        }
        19 => Change::Start(Pending { polling: Some(polling()), ..pending() }).into(),
        _ => Change::Account {
            lineage: revision.lineage,
            account: Some("alice".into()),
            subject: Some("17".into()),
        }
        .into(),
    }
}

/// A tenant of the store, or sometimes one that is not in it.
fn chosen(records: &Records, number: u8) -> Tenant {
    let number = usize::from(number);
    records
        .keys()
        .nth(number % (records.len() + 1))
        .cloned()
        .unwrap_or_else(|| "new/user:1".parse().expect("a tenant"))
}

fn grant() -> Grant {
    Grant {
        access_token: AccessToken::new("new \"access\"\u{0}"),
        refresh_token: Some(RefreshToken::new("new refresh")),
        token_type: "Bearer".into(),
        scope: None,
        expires_in: Some(Duration::from_secs(3600)),
        account: None,
        refresh_expires_at: None,
        identity: None,
    }
}

fn binding() -> Binding {
    Binding {
        issuer: None,
        token_endpoint: "https://id.example/token".into(),
        revocation_endpoint: None,
        userinfo_endpoint: None,
        probe_endpoint: None,
        client_id: "c".into(),
        resource: None,
    }
}

fn polling() -> Polling {
    Polling {
        grant: GrantKind::Device,
        code: DeviceCode::new("d"),
        user_code: Some("AB".into()),
        verification_uri: None,
        verification_uri_complete: None,
        binding_message: None,
        expires_at: NOW + 600,
        interval: 5,
        not_before: Some(NOW + 9),
        ended: None,
    }
}

fn pending() -> Pending {
    Pending {
        verifier: CodeVerifier::new("v"),
        state: State::new("new state"),
        nonce: None,
        redirect_uri: "http://127.0.0.1:1/callback".into(),
        created_at: NOW,
        started_by: Principal::Local,
        lineage_seen: None,
        binding: binding(),
        scopes: vec!["read".into()],
        wrong_codes: None,
        browser: None,
        polling: None,
    }
}

fn change(store: &FileStore, tenant: &Tenant, update: Update) -> Result<Changed, StoreError> {
    run(async {
        match update {
            Update::Change(change) => store.change(tenant, change).await,
            Update::Settlement(settlement) => {
                let purpose = match settlement {
                    Settlement::SignIn { .. } => Purpose::SignIn,
                    _ => Purpose::Refresh,
                };
                store.try_lock(tenant, purpose).await?.expect("the lock is free").settle(settlement).await
            }
        }
    })
}

fn entry_of(records: &Result<std::sync::Arc<Records>, StoreError>, tenant: &Tenant) -> Entry {
    records.as_ref().ok().and_then(|records| records.get(tenant)).cloned().unwrap_or_default()
}

/// The expected records: the one record changed, and sign-ins that can no longer be finished gone.
fn after_change(before: &Records, tenant: &Tenant, entry: &Entry) -> Records {
    let mut after = before.clone();
    after.insert(tenant.clone(), entry.clone());
    for entry in after.values_mut() {
        entry.pending = entry.pending.take().filter(|pending| !pending.is_swept(NOW));
        entry.candidate = entry.candidate.take().filter(|candidate| !candidate.is_swept(NOW));
    }
    after.retain(|_, entry| *entry != Entry::default());
    after
}

fn json(text: &[u8]) -> Value {
    serde_json::from_slice(text).expect("it was read before")
}

/// Asserts that all but the one record is as it was, byte for byte, and that unknown members of
/// that record are kept as long as it is of the same grant.
fn assert_rest_is_kept(before: &[u8], after: &[u8], tenant: &Tenant, records: &Records, now: &Entry) {
    let (before, after) = (members(before), members(after));
    let key = tenant.to_string();
    for (name, value) in before.iter().filter(|(name, _)| !SECTIONS.contains(&name.as_str())) {
        assert_eq!(after.get(name), Some(value), "a member of the file was touched: {name}");
    }
    let section =
        |of: &Members, name: &str| of.get(name).map(|text| members(text.as_bytes())).unwrap_or_default();
    for name in SECTIONS {
        let (then, now) = (section(&before, name), section(&after, name));
        assert!(
            now.keys().all(|other| *other == key || then.contains_key(other)),
            "a record came from nowhere"
        );
        for (other, value) in then.iter().filter(|(other, _)| **other != key) {
            let known = other.parse::<Tenant>().ok().filter(|known| known.to_string() == **other);
            let entry = known.and_then(|known| records.get(&known)).cloned().unwrap_or_default();
            let swept = match name {
                "pending" => entry.pending.is_some_and(|pending| pending.is_swept(NOW)),
                "candidates" => entry.candidate.is_some_and(|candidate| candidate.is_swept(NOW)),
                _ => false,
            };
            let expected = Some(value).filter(|_| !swept);
            assert_eq!(now.get(other), expected, "another record was touched: {name} of {other}");
        }
    }
    let then = records.get(tenant).cloned().unwrap_or_default();
    let record = |of, name| section(of, name).get(&key).map_or(Value::Null, |text| json(text.as_bytes()));
    let of_grant = |session: &Option<Session>| session.as_ref().map(|session| session.lineage);
    if now.session.is_some() {
        // A candidate that was chosen keeps the unknown members that it had while it waited.
        let froms = [("sessions", of_grant(&then.session)), ("candidates", of_grant(&then.candidate))];
        let from = froms.into_iter().find(|(_, lineage)| *lineage == of_grant(&now.session));
        if let Some((from, _)) = from {
            assert_session_is_kept(&record(&before, from), &record(&after, "sessions"));
        }
    }
    if now.candidate.is_some() && of_grant(&then.candidate) == of_grant(&now.candidate) {
        assert_session_is_kept(&record(&before, "candidates"), &record(&after, "candidates"));
    }
    if matches!((&then.pending, &now.pending), (Some(then), Some(now)) if then.state == now.state) {
        assert_unknown_is_kept(&record(&before, "pending"), &record(&after, "pending"), PENDING);
    }
}

const SECTIONS: [&str; 3] = ["sessions", "pending", "candidates"];

type Members = BTreeMap<String, String>;

/// The members of an object, each as it is written.
fn members(text: &[u8]) -> Members {
    let members: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(text).expect("it was read before");
    members.into_iter().map(|(name, value)| (name, value.get().to_owned())).collect()
}

fn assert_session_is_kept(before: &Value, after: &Value) {
    assert_unknown_is_kept(before, after, SESSION);
    for (name, known) in [("rejected", REJECTED), ("retry", RETRY), ("ended", ENDED)] {
        if after[name].is_object() {
            assert_unknown_is_kept(&before[name], &after[name], known);
        }
    }
}

/// Asserts that each fraction was in the file before, to the last digit: no field of ours is one.
/// The parser is not the store's.
fn assert_fractions_are_kept(before: &[u8], after: &[u8]) {
    let numbers = |text: &[u8]| -> Vec<(String, f64)> {
        let text = std::str::from_utf8(text).expect("it was read before");
        let strings_alternate = text.replace("\\\\", "").replace("\\\"", "");
        let outside = strings_alternate.split('"').step_by(2);
        let words =
            outside.flat_map(|part| part.split(|c: char| !c.is_ascii_alphanumeric() && !"+-.".contains(c)));
        words.filter_map(|word| Some((word.to_owned(), word.parse().ok()?))).collect()
    };
    let read = numbers(before);
    for (word, number) in numbers(after).into_iter().filter(|(word, _)| word.contains(['.', 'e', 'E'])) {
        assert!(read.iter().any(|(_, one)| *one == number), "{word} was not in the file");
    }
}

fn assert_unknown_is_kept(before: &Value, after: &Value, known: &str) {
    let Some(before) = before.as_object() else { return };
    for (name, value) in before.iter().filter(|(name, _)| !known.split(' ').any(|ours| ours == *name)) {
        assert_eq!(after.get(name), Some(value), "an unknown field was lost: {name}");
    }
}

const SESSION: &str = "access_token refresh_token token_type scope issued_at expires_at lineage generation account subject \
                       signed_in_by id_token extra issuer token_endpoint client_id resource revocation_endpoint \
                       userinfo_endpoint probe_endpoint rejected retry ended";
const PENDING: &str = "verifier state nonce redirect_uri created_at started_by lineage_seen issuer token_endpoint \
                       revocation_endpoint userinfo_endpoint probe_endpoint client_id resource scopes wrong_codes \
                       browser polling";
const REJECTED: &str = "fingerprint at decided";
const RETRY: &str = "set_at not_before attempts code";
const ENDED: &str = "at code fingerprint notified_at";
