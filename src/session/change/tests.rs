use std::time::Duration;

use super::*;
use crate::{
    ids::Principal,
    secret::{CodeVerifier, RefreshToken},
    session::{PENDING_LIFETIME, Refusals, test_session},
};

mod starts;

const NOW: UnixTime = 1_795_358_672;
const DAY: i64 = 86_400;

fn entry() -> Entry {
    Entry { session: Some(test_session(NOW, 3600)), ..Entry::default() }
}

fn session(entry: &Entry) -> &Session {
    entry.session.as_ref().expect("there is a session")
}

fn target(entry: &Entry) -> RefreshTarget {
    session(entry).refresh_target().expect("it has a refresh token")
}

fn grant(refresh_token: Option<&str>) -> Box<Grant> {
    Box::new(Grant {
        access_token: AccessToken::new("access-8"),
        refresh_token: refresh_token.map(RefreshToken::new),
        token_type: "Bearer".into(),
        scope: None,
        expires_in: Some(Duration::from_secs(60)),
        account: None,
        refresh_expires_at: None,
        identity: None,
    })
}

fn pending(state: &str, created_at: UnixTime) -> Pending {
    let session = test_session(NOW, 3600);
    Pending {
        verifier: CodeVerifier::new("verifier"),
        state: State::new(state),
        nonce: None,
        redirect_uri: "http://127.0.0.1:1/callback".into(),
        created_at,
        started_by: Principal::Local,
        lineage_seen: None,
        binding: session.binding,
        scopes: vec![],
        wrong_codes: None,
        browser: None,
        polling: None,
    }
}

#[test]
fn the_last_use_is_recorded_once_and_the_next_token_removes_it() {
    let mut entry = Entry { session: Some(test_session(NOW, 3600)), ..Entry::default() };
    let lineage = session(&entry).lineage;
    assert_eq!(apply(&mut entry, Change::HandedOut(lineage), NOW), Applied::Already);
    assert_eq!(apply(&mut entry, Change::Unused(lineage), NOW + 7200), Applied::Done);
    assert_eq!(
        session(&entry).unused_since,
        Some(NOW + 3600),
        "the token was handed out until its end at most"
    );
    assert_eq!(apply(&mut entry, Change::Unused(lineage), NOW + 9000), Applied::Already);
    let target = session(&entry).refresh_target().expect("has a refresh token");
    let grant = grant(Some("refresh-8"));
    assert_eq!(apply(&mut entry, Settlement::Refreshed { target, grant }, NOW + 9000), Applied::Done);
    assert_eq!(session(&entry).unused_since, Some(NOW + 3600), "a refresh alone is no use");
    assert_eq!(apply(&mut entry, Change::HandedOut(lineage), NOW + 9000), Applied::Done);
    assert_eq!(session(&entry).unused_since, None);
}

#[test]
fn only_a_session_that_ended_long_ago_is_swept() {
    let fresh = test_session(NOW, 3600);
    let fingerprint = fresh.refresh_token.as_ref().expect("has one").fingerprint();
    let at = |at| {
        Some(Ended { at, code: "invalid_grant".into(), fingerprint: fingerprint.clone(), notified_at: None })
    };
    let swept = |session: &Session, now| {
        let mut entry = Entry { session: Some(session.clone()), ..Entry::default() };
        let change = Change::Sweep { lineage: session.lineage, ended_before: NOW };
        apply(&mut entry, change, now) == Applied::Done && entry == Entry::default()
    };
    let ended = Session { ended: at(NOW - 1), ..fresh.clone() };
    assert!(swept(&ended, NOW + 3600));
    assert!(!swept(&ended, NOW + 3599), "its access token works");
    assert!(!swept(&Session { ended: at(NOW), ..fresh.clone() }, NOW + 3600), "it ended later");
    assert!(!swept(&fresh, NOW + 3600), "it is live");
    let replaced = Some(RefreshToken::new("refresh-8"));
    assert!(
        !swept(&Session { refresh_token: replaced, ..ended }, NOW + 3600),
        "the verdict is on an older token"
    );
}

#[test]
fn a_refresh_moves_the_generation_and_keeps_what_the_answer_left_out() {
    let mut entry = entry();
    let change = Settlement::Refreshed { target: target(&entry), grant: grant(None) };
    assert_eq!(apply(&mut entry, change, NOW + 10), Applied::Done);
    let after = session(&entry);
    assert_eq!(after.generation, 8);
    assert_eq!(after.access_token.expose(), "access-8");
    assert_eq!(after.refresh_token, Some(RefreshToken::new("refresh-7")), "RFC 6749 §6");
    assert_eq!(after.scope.as_deref(), Some("read"));
    assert_eq!(after.account.as_deref(), Some("alice@example.com"));
    assert_eq!((after.issued_at, after.expires_at), (NOW + 10, NOW + 70));
}

#[test]
fn a_second_apply_of_the_same_refresh_changes_nothing() {
    let mut entry = entry();
    let change = Settlement::Refreshed { target: target(&entry), grant: grant(Some("refresh-8")) };
    assert_eq!(apply(&mut entry, change.clone(), NOW), Applied::Done);
    let after = entry.clone();
    assert_eq!(apply(&mut entry, change, NOW + 30), Applied::Already);
    assert_eq!(entry, after);
    let other = Settlement::Refreshed { target: target(&entry), grant: grant(Some("refresh-9")) };
    session_mut(&mut entry).lineage = Lineage([8; 16]);
    assert_eq!(apply(&mut entry, other, NOW + 30), Applied::Stale);
}

#[test]
fn a_refresh_sets_a_missing_account_and_replaces_no_known_one() {
    for (before, after) in [(None, "1234"), (Some("alice@example.com"), "alice@example.com")] {
        let mut entry = entry();
        session_mut(&mut entry).account = before.map(Into::into);
        let renamed = Grant { account: Some("1234".into()), ..*grant(None) };
        let change = Settlement::Refreshed { target: target(&entry), grant: Box::new(renamed) };
        assert_eq!(apply(&mut entry, change, NOW + 10), Applied::Done);
        assert_eq!(session(&entry).account.as_deref(), Some(after));
    }
}

#[test]
fn a_refresh_at_the_largest_generation_still_changes_the_revision() {
    let mut entry = entry();
    session_mut(&mut entry).generation = u64::MAX;
    let before = session(&entry).revision();
    let change = Settlement::Refreshed { target: target(&entry), grant: grant(Some("refresh-8")) };
    assert_eq!(apply(&mut entry, change, NOW), Applied::Done);
    assert_eq!(session(&entry).access_token.expose(), "access-8");
    assert_ne!(session(&entry).revision(), before);
}

#[test]
fn a_late_result_changes_only_the_session_that_it_was_sent_for() {
    let sent_for = target(&entry());
    let late = [
        Settlement::Refreshed { target: sent_for.clone(), grant: grant(Some("late")) },
        Settlement::End { target: sent_for.clone(), code: "invalid_grant".into() },
        Settlement::HoldBack {
            target: sent_for,
            retry: Retry {
                set_at: NOW,
                not_before: NOW + 60,
                attempts: 1,
                code: "connect".into(),
                refused: None,
            },
        },
    ];
    let mut refreshed = entry();
    session_mut(&mut refreshed).generation += 1;
    let mut signed_in_anew = entry();
    session_mut(&mut signed_in_anew).lineage = Lineage([8; 16]);
    let mut other_token = entry();
    session_mut(&mut other_token).refresh_token = Some(RefreshToken::new("another"));
    for before in [refreshed, signed_in_anew, other_token, Entry::default()] {
        for change in &late {
            let mut after = before.clone();
            assert_eq!(apply(&mut after, change.clone(), NOW), Applied::Stale, "{change:?}");
            assert_eq!(after, before, "{change:?}");
        }
    }
}

#[test]
fn only_the_sign_in_that_is_pending_can_be_finished() {
    let mut entry = Entry { pending: Some(pending("one", NOW)), ..Entry::default() };
    let finish =
        |state| Settlement::SignIn { state: State::new(state), session: Box::new(test_session(NOW, 3600)) };
    assert_eq!(apply(&mut entry, finish("two"), NOW), Applied::Stale);
    assert_eq!(apply(&mut entry, finish("one"), NOW), Applied::Done);
    assert_eq!(session(&entry).generation, 1);
    assert_eq!(apply(&mut entry, finish("one"), NOW), Applied::Already, "a try after a failed fsync");
    let mut another = test_session(NOW, 3600);
    another.lineage = Lineage([8; 16]);
    let again = Settlement::SignIn { state: State::new("one"), session: Box::new(another) };
    assert_eq!(apply(&mut entry, again, NOW), Applied::Stale, "it was finished");
}

/// A grant of `account`, signed in for [`pending`]'s `state`.
fn signs_in(state: &str, account: Option<&str>, lineage: u8) -> Settlement {
    let mut session = test_session(NOW, 3600);
    session.lineage = Lineage([lineage; 16]);
    session.account = account.map(Into::into);
    Settlement::SignIn { state: State::new(state), session: Box::new(session) }
}

/// Alice's session, and bob's sign-in in its place.
fn undecided() -> Entry {
    let mut entry = Entry { pending: Some(pending("one", NOW)), ..entry() };
    assert_eq!(apply(&mut entry, signs_in("one", Some("bob"), 8), NOW), Applied::Done);
    entry
}

#[test]
fn a_sign_in_as_another_account_replaces_the_session_only_once_it_is_chosen() {
    let mut entry = undecided();
    assert_eq!((&entry.session, &entry.pending), (&Some(test_session(NOW, 3600)), &None));
    let candidate = entry.candidate.clone().expect("it waits");
    assert_eq!((candidate.generation, candidate.account.as_deref()), (1, Some("bob")));
    let switch = Change::Switch { lineage: candidate.lineage };
    assert_eq!(apply(&mut entry, switch.clone(), NOW + 899), Applied::Done);
    assert_eq!(entry, Entry { session: Some(candidate), ..Entry::default() }, "nothing of the old one stays");
    assert_eq!(apply(&mut entry, switch, NOW + 899), Applied::Already, "it was chosen");
}

#[test]
fn a_sign_in_of_an_unknown_account_replaces_no_known_one_unasked() {
    let before = |account: Option<&str>, is_ended: bool| {
        let mut entry = Entry { pending: Some(pending("one", NOW)), ..entry() };
        session_mut(&mut entry).account = account.map(Into::into);
        let end = Settlement::End { target: target(&entry), code: "invalid_grant".into() };
        assert!(!is_ended || apply(&mut entry, end, NOW) == Applied::Done);
        entry
    };
    for (mut entry, new, waits) in [
        (before(Some("alice"), false), None, true),
        (before(Some("alice"), true), None, false),
        (before(None, false), None, false),
    ] {
        assert_eq!(apply(&mut entry, signs_in("one", new, 8), NOW), Applied::Done);
        let place = if waits { &entry.candidate } else { &entry.session };
        assert_eq!(place.as_ref().map(|new| new.lineage), Some(Lineage([8; 16])), "{new:?}");
    }
}

#[test]
fn a_kept_session_is_unchanged() {
    let mut entry = undecided();
    let lineage = Lineage([8; 16]);
    assert_eq!(apply(&mut entry, Change::Keep { lineage }, NOW), Applied::Done);
    assert_eq!(entry, self::entry());
    for late in [Change::Keep { lineage }, Change::Switch { lineage }] {
        assert_eq!(apply(&mut entry, late, NOW), Applied::Stale);
    }
    assert_eq!(entry, self::entry());
}

#[test]
fn a_choice_applies_only_to_the_candidate_that_was_shown() {
    let mut entry = undecided();
    entry.pending = Some(pending("two", NOW));
    assert_eq!(apply(&mut entry, signs_in("two", Some("carol"), 9), NOW), Applied::Done);
    let before = entry.clone();
    let account = before.candidate.as_ref().and_then(|c| c.account.as_deref());
    assert_eq!(account, Some("carol"), "the newer sign-in takes the place of the undecided one");
    for late in [Change::Keep { lineage: Lineage([8; 16]) }, Change::Switch { lineage: Lineage([8; 16]) }] {
        assert_eq!(apply(&mut entry, late, NOW), Applied::Stale);
        assert_eq!(entry, before);
    }
}

#[test]
fn a_candidate_can_be_chosen_for_15_minutes_and_be_removed_at_any_time() {
    for (since, chosen) in [(899, Applied::Done), (900, Applied::Stale), (-901, Applied::Stale)] {
        let (mut one, mut two) = (undecided(), undecided());
        let lineage = Lineage([8; 16]);
        assert_eq!(apply(&mut one, Change::Switch { lineage }, NOW + since), chosen, "{since} s");
        assert_eq!(apply(&mut two, Change::Keep { lineage }, NOW + since), Applied::Done, "{since} s");
    }
}

#[test]
fn a_sign_in_not_known_to_be_as_another_account_replaces_the_session() {
    let without_session = Entry::default();
    let mut unnamed = entry();
    session_mut(&mut unnamed).account = None;
    let mut ended = entry();
    let end = Settlement::End { target: target(&ended), code: "invalid_grant".into() };
    apply(&mut ended, end, NOW);
    let cases = [
        (entry(), Some("alice@example.com")),
        (without_session, Some("bob")),
        (unnamed, Some("bob")),
        (ended, Some("bob")),
        (undecided(), Some("alice@example.com")),
    ];
    for (mut entry, account) in cases {
        entry.pending = Some(pending("one", NOW));
        assert_eq!(apply(&mut entry, signs_in("one", account, 9), NOW), Applied::Done);
        assert_eq!(session(&entry).lineage, Lineage([9; 16]));
        assert_eq!(entry.candidate, None, "an undecided candidate is removed too");
    }
}

/// A session of [`signs_in`] with an identity at the test's issuer.
fn identified(settlement: Settlement, subject: &str) -> Settlement {
    let Settlement::SignIn { state, mut session } = settlement else { panic!("it is a sign-in") };
    session.identify(identity(subject));
    Settlement::SignIn { state, session }
}

fn identity(subject: &str) -> Identity {
    Identity {
        issuer: "https://id.example".into(),
        subject: subject.into(),
        id_token: crate::secret::IdToken::new("id"),
    }
}

#[test]
fn a_sign_in_is_told_apart_by_its_subject_where_both_sessions_have_one() {
    let (same, other) = ("alice@example.com", "bob");
    for (before, new, account, is_candidate) in [
        (Some("17"), Some("17"), other, false),
        (Some("17"), Some("18"), same, true),
        (Some("17"), None, same, false),
        (Some("17"), None, other, true),
        (None, Some("17"), same, false),
        (None, Some("17"), other, true),
    ] {
        let mut entry = Entry { pending: Some(pending("one", NOW)), ..entry() };
        before.into_iter().for_each(|subject| session_mut(&mut entry).identify(identity(subject)));
        let settlement = signs_in("one", Some(account), 8);
        let settlement = match new {
            Some(subject) => identified(settlement, subject),
            None => settlement,
        };
        assert_eq!(apply(&mut entry, settlement, NOW), Applied::Done);
        assert_eq!(entry.candidate.is_some(), is_candidate, "{before:?} {new:?} {account}");
    }
}

#[test]
fn an_identity_is_recorded_once_and_only_in_its_own_grant() {
    let mut entry = entry();
    let lineage = session(&entry).lineage;
    let change = |subject| Change::Identify { lineage, identity: identity(subject) };
    let foreign = Change::Identify { lineage: Lineage([1; 16]), identity: identity("17") };
    assert_eq!(apply(&mut entry, foreign, NOW), Applied::Stale);
    assert_eq!(apply(&mut entry, change("17"), NOW), Applied::Done);
    assert_eq!(session(&entry).subject.as_deref(), Some("17"));
    assert_eq!(apply(&mut entry, change("17"), NOW), Applied::Already);
    assert_eq!(apply(&mut entry, change("18"), NOW), Applied::Stale, "an account never changes");
    assert_eq!(session(&entry).subject.as_deref(), Some("17"));
}

#[test]
fn a_refresh_records_the_identity_that_it_brings() {
    let mut entry = entry();
    let brings = Grant { identity: Some(identity("17")), ..*grant(Some("refresh-8")) };
    let change = Settlement::Refreshed { target: target(&entry), grant: Box::new(brings) };
    assert_eq!(apply(&mut entry, change, NOW), Applied::Done);
    assert_eq!(session(&entry).subject.as_deref(), Some("17"));
    let change = Settlement::Refreshed { target: target(&entry), grant: grant(Some("refresh-9")) };
    assert_eq!(apply(&mut entry, change, NOW), Applied::Done);
    assert_eq!(
        session(&entry).subject.as_deref(),
        Some("17"),
        "an answer without an id token changes nothing"
    );
}

#[test]
fn another_spelling_of_the_account_counts_as_another_account() {
    let mut entry = Entry { pending: Some(pending("one", NOW)), ..entry() };
    apply(&mut entry, signs_in("one", Some("Alice@example.com"), 8), NOW);
    assert!(entry.candidate.is_some());
}

#[test]
fn a_late_refresh_and_a_rejection_concern_the_session_and_never_the_candidate() {
    let mut entry = undecided();
    let candidate = entry.candidate.clone();
    entry.candidate.as_mut().expect("it waits").access_token = AccessToken::new("bobs");
    let bobs = Change::Reject(AccessToken::new("bobs"));
    assert_eq!(apply(&mut entry, bobs, NOW), Applied::Stale);
    entry.candidate = candidate.clone();
    let of_candidate = candidate.as_ref().and_then(Session::refresh_target).expect("it has a refresh token");
    let late = Settlement::Refreshed { target: of_candidate, grant: grant(Some("late")) };
    assert_eq!(apply(&mut entry, late, NOW), Applied::Stale);
    let change = Settlement::Refreshed { target: target(&entry), grant: grant(Some("refresh-8")) };
    assert_eq!(apply(&mut entry, change, NOW), Applied::Done);
    assert_eq!((session(&entry).generation, &entry.candidate), (8, &candidate));
}

#[test]
fn a_logout_removes_the_session_the_candidate_and_the_pending_sign_in() {
    let mut entry = Entry { pending: Some(pending("two", NOW)), ..undecided() };
    assert_eq!(apply(&mut entry, Change::Logout, NOW), Applied::Done);
    assert_eq!(entry, Entry::default());
    assert_eq!(apply(&mut entry, Change::Logout, NOW), Applied::Stale);
}

#[test]
fn a_logout_without_a_session_leaves_a_sign_in_alone() {
    let mut entry = Entry { pending: Some(pending("one", NOW)), ..Entry::default() };
    let before = entry.clone();
    assert_eq!(apply(&mut entry, Change::Logout, NOW), Applied::Stale);
    assert_eq!(entry, before);
}

#[test]
fn a_pending_sign_in_from_a_broken_clock_counts_as_old() {
    for created_at in [0, -5, NOW - 900, NOW + 901] {
        assert!(!pending("one", created_at).is_live(NOW), "{created_at}");
    }
    for created_at in [NOW - 899, NOW, NOW + 900] {
        assert!(pending("one", created_at).is_live(NOW), "{created_at}");
    }
}

#[test]
fn a_sign_in_whose_exchange_began_in_time_can_finish_after_its_deadline() {
    let begun = pending("one", NOW);
    let last = NOW + seconds(PENDING_LIFETIME) - 1;
    assert!(begun.is_live(last));
    let longest_exchange = 5 + 180 + 10;
    assert!(!begun.is_live(last + longest_exchange) && !begun.is_swept(last + longest_exchange));
    assert!(!begun.is_swept(last + 2 * DAY) && begun.is_swept(last + 1 + 2 * DAY));
    for broken in [0, -5, NOW + 901 + 2 * DAY] {
        assert!(pending("one", broken).is_swept(NOW), "{broken}");
    }
}

#[test]
fn a_clock_that_is_wrong_by_a_day_sweeps_no_sign_in_and_ends_no_choice() {
    let mut candidate = session(&entry()).clone();
    for wrong in [-DAY, -4 * 3600, 4 * 3600, DAY] {
        candidate.issued_at = NOW;
        let now = NOW + 899 + wrong;
        assert!(!pending("one", NOW).is_swept(now), "{wrong}");
        assert!(!candidate.is_swept(now) && !candidate.choice_is_long_over(now), "{wrong}");
        assert!(!pending("one", NOW).is_live(now), "{wrong}: no longer live is another question");
    }
    assert!(candidate.choice_is_long_over(NOW + 900 + DAY) && !candidate.is_swept(NOW + 900 + DAY));
}

#[test]
fn a_report_counts_for_the_current_token_and_once_a_minute() {
    let mut entry = entry();
    let token = session(&entry).access_token.clone();
    assert_eq!(apply(&mut entry, Change::Reject(AccessToken::new("old")), NOW), Applied::Stale);
    assert_eq!(apply(&mut entry, Change::Reject(token.clone()), NOW), Applied::Done);
    assert!(session(&entry).is_reported() && session(&entry).awaits_forced_refresh());
    assert!(!session(&entry).is_rejected(), "a report alone takes the token from no other caller");
    let change = Settlement::Refreshed { target: target(&entry), grant: grant(Some("refresh-8")) };
    apply(&mut entry, change, NOW + 1);
    assert!(!session(&entry).is_reported());
    let refreshed = Change::Reject(session(&entry).access_token.clone());
    assert_eq!(apply(&mut entry, refreshed.clone(), NOW + 59), Applied::Stale);
    assert_eq!(apply(&mut entry, refreshed, NOW + 60), Applied::Done);
}

/// A session whose reported token came back `times` times, each time after the shortest pause.
fn came_back(times: u32) -> (Entry, UnixTime) {
    let mut entry = entry();
    let mut now = NOW;
    for time in 0..times {
        now = session(&entry).retry.as_ref().map_or(now, |retry| retry.not_before);
        let token = session(&entry).access_token.clone();
        assert_eq!(apply(&mut entry, Change::Reject(token.clone()), now), Applied::Done);
        assert!(session(&entry).awaits_forced_refresh());
        let refresh_token = format!("refresh-{}", 8 + time);
        let same = Grant { access_token: token, ..*grant(Some(&refresh_token)) };
        let change = Settlement::Refreshed { target: target(&entry), grant: Box::new(same) };
        assert_eq!(apply(&mut entry, change, now), Applied::Done);
    }
    (entry, now)
}

#[test]
fn a_reported_token_that_comes_back_lengthens_the_pause_of_forced_refreshes() {
    for (times, pause) in [(1, 60), (2, 120), (3, 240), (7, 3600), (9, 3600)] {
        let (mut entry, now) = came_back(times);
        let retry = session(&entry).retry.clone().expect("it is held back");
        assert_eq!((retry.code.as_str(), retry.attempts), ("rejected_again", times));
        assert_eq!(retry.not_before, now + pause);
        assert!(!session(&entry).awaits_forced_refresh());
        let again = Change::Reject(session(&entry).access_token.clone());
        assert_eq!(apply(&mut entry, again.clone(), now + pause - 1), Applied::Stale);
        assert_eq!(apply(&mut entry, again, now + pause), Applied::Done);
    }
}

#[test]
fn the_rotated_refresh_token_of_a_token_that_came_back_is_kept() {
    let (entry, _) = came_back(2);
    assert_eq!(session(&entry).refresh_token, Some(RefreshToken::new("refresh-9")));
    assert_eq!(session(&entry).generation, 9);
}

#[test]
fn a_confirmed_report_takes_the_token_from_every_caller_until_another_arrives() {
    let mut entry = entry();
    let token = session(&entry).access_token.clone();
    let other = Change::ConfirmRejection(AccessToken::new("other"));
    assert_eq!(apply(&mut entry, other, NOW), Applied::Stale);
    assert_eq!(apply(&mut entry, Change::ConfirmRejection(token.clone()), NOW), Applied::Done);
    assert!(session(&entry).is_rejected() && !session(&entry).is_usable(NOW));
    assert_eq!(session(&entry).verdict(), None, "the refresh token may still work");
    assert_eq!(apply(&mut entry, Change::Reject(token), NOW + 60), Applied::Done);
    assert!(session(&entry).is_rejected(), "a later report does not undo it");
    let change = Settlement::Refreshed { target: target(&entry), grant: grant(None) };
    apply(&mut entry, change, NOW + 61);
    assert!(session(&entry).is_usable(NOW + 61));
}

#[test]
fn a_session_without_a_refresh_token_ends_when_its_token_is_confirmed_as_rejected() {
    let mut entry = entry();
    session_mut(&mut entry).refresh_token = None;
    let token = session(&entry).access_token.clone();
    assert_eq!(apply(&mut entry, Change::Reject(token.clone()), NOW), Applied::Done);
    assert_eq!(session(&entry).verdict(), None, "a report alone ends nothing");
    assert_eq!(apply(&mut entry, Change::ConfirmRejection(token), NOW), Applied::Done);
    assert_eq!(session(&entry).verdict().map(|ended| ended.code.as_str()), Some("rejected"));
}

#[test]
fn a_session_without_a_refresh_token_ends_once_its_access_token_has_expired() {
    let mut entry = entry();
    let lineage = session(&entry).lineage;
    assert_eq!(apply(&mut entry, Change::Exhausted(lineage), NOW + 3600), Applied::Stale);
    session_mut(&mut entry).refresh_token = None;
    assert_eq!(apply(&mut entry, Change::Exhausted(lineage), NOW + 3599), Applied::Stale);
    assert_eq!(apply(&mut entry, Change::Exhausted(lineage), NOW + 3600), Applied::Done);
    assert_eq!(session(&entry).verdict().map(|ended| ended.code.as_str()), Some("no_refresh_token"));
    assert_eq!(apply(&mut entry, Change::Exhausted(lineage), NOW + 3601), Applied::Stale, "once");
}

#[test]
fn a_stuck_session_can_be_tried_at_once_and_its_user_is_notified_once() {
    let mut entry = entry();
    let lineage = session(&entry).lineage;
    let refused = Refusals { code: "http_403".into(), since: NOW - 21_600, times: 5, notified_at: None };
    let retry = Retry {
        set_at: NOW,
        not_before: NOW + 3600,
        attempts: 5,
        code: Retry::stuck_code("http_403"),
        refused: Some(refused),
    };
    let hold_back = Settlement::HoldBack { target: target(&entry), retry };
    apply(&mut entry, hold_back, NOW);
    let retry = |entry: &Entry| session(entry).retry.clone().expect("it is held back");
    assert_eq!(retry(&entry).kind(), RetryKind::Stuck);
    assert_eq!(apply(&mut entry, Change::Notified(lineage), NOW + 5), Applied::Done);
    assert_eq!(retry(&entry).refused.and_then(|refused| refused.notified_at), Some(NOW + 5));
    assert_eq!(apply(&mut entry, Change::TryAgain(lineage), NOW + 9), Applied::Done);
    assert_eq!(retry(&entry).active(NOW + 9), None);
}

#[test]
fn a_wrong_code_is_counted_for_its_own_sign_in() {
    let mut entry = Entry { pending: Some(pending("one", NOW)), ..Entry::default() };
    assert_eq!(apply(&mut entry, Settlement::WrongCode(State::new("two")), NOW), Applied::Stale);
    for times in 1..=2 {
        assert_eq!(apply(&mut entry, Settlement::WrongCode(State::new("one")), NOW), Applied::Done);
        let counted = entry.pending.as_ref().and_then(|pending| pending.wrong_codes);
        assert_eq!(counted, Some(WrongCodes { times, at: NOW }));
    }
}

#[test]
fn a_verdict_ends_the_session_and_a_later_success_revives_it() {
    let mut entry = entry();
    let end = Settlement::End { target: target(&entry), code: "invalid_grant".into() };
    assert_eq!(apply(&mut entry, end, NOW), Applied::Done);
    assert_eq!(session(&entry).verdict().map(|ended| ended.code.as_str()), Some("invalid_grant"));
    let lineage = session(&entry).lineage;
    assert_eq!(apply(&mut entry, Change::Notified(lineage), NOW + 5), Applied::Done);
    assert_eq!(session(&entry).verdict().and_then(|ended| ended.notified_at), Some(NOW + 5));
    let change = Settlement::Refreshed { target: target(&entry), grant: grant(Some("refresh-8")) };
    assert_eq!(apply(&mut entry, change, NOW + 9), Applied::Done);
    assert_eq!(session(&entry).verdict(), None);
}

fn session_mut(entry: &mut Entry) -> &mut Session {
    entry.session.as_mut().expect("there is a session")
}
