use super::*;
use crate::{
    ids::Principal,
    secret::{CodeVerifier, State},
    session::test_session,
};

const NOW: UnixTime = 1_795_358_672;

fn tenant() -> Tenant {
    "acme/user:5".parse().expect("a tenant")
}

fn pending(state: &str) -> Pending {
    Pending {
        verifier: CodeVerifier::new("verifier"),
        state: State::new(state),
        nonce: None,
        redirect_uri: "http://127.0.0.1:1/callback".into(),
        created_at: NOW,
        started_by: Principal::Local,
        lineage_seen: None,
        binding: test_session(NOW, 3600).binding,
        scopes: vec![],
        wrong_codes: None,
        browser: None,
        polling: None,
    }
}

fn session(lineage: u8, account: Option<&str>) -> Session {
    let mut session = test_session(NOW, 3600);
    session.lineage = Lineage([lineage; 16]);
    session.account = account.map(str::to_owned);
    session
}

/// Returns a sign-in under way, beside a session and a candidate.
fn link(before: Option<Session>, candidate: Option<Session>) -> (SignInProgress, Entry) {
    let entry = Entry { session: before, pending: Some(pending("one")), candidate };
    let shown = SignInProgress::link(&tenant(), &pending("one"), &entry);
    (shown, entry)
}

/// Returns the news in a few words, and whether the message is updated further.
fn news(progress: &Progress) -> (String, bool) {
    let word = match &progress.news {
        None => "nothing".into(),
        Some(News::SignedIn(done)) => format!("in as {:?}, was {:?}", done.account, done.replaced),
        Some(News::Undecided(one)) => format!("{:?} or {:?}", one.account, one.current),
        Some(News::NotChosen { account, current }) => format!("{current:?} and not {account:?}"),
        Some(other) => format!("{other:?}"),
    };
    (word.replace("Some(\"", "").replace("\")", ""), progress.next.is_some())
}

fn assert_news(shown: &SignInProgress, entry: &Entry, word: &str, continues: bool) {
    assert_eq!(news(&shown.progress(entry, NOW + 60)), (word.to_owned(), continues));
}

#[test]
fn the_stored_record_determines_the_reported_end_of_a_sign_in() {
    let alice = || session(1, Some("alice"));
    let (shown, open) = link(Some(alice()), None);
    assert_news(&shown, &open, "nothing", true);
    let ended = |change: &dyn Fn(&mut Entry)| {
        let mut entry = Entry { pending: None, ..open.clone() };
        change(&mut entry);
        entry
    };
    assert_news(&shown, &ended(&|_| {}), "Cancelled", false);
    assert_eq!(news(&shown.progress(&ended(&|_| {}), NOW + 900)).0, "Expired(900s)");
    assert_news(&shown, &ended(&|entry| entry.session = None), "LoggedOut", false);
    assert_news(&shown, &ended(&|entry| entry.pending = Some(pending("two"))), "Replaced", false);
    let renewed = |entry: &mut Entry| entry.session = Some(session(2, Some("alice")));
    assert_news(&shown, &ended(&renewed), "in as alice, was None", false);
    let as_bob = |entry: &mut Entry| entry.session = Some(session(2, Some("bob")));
    assert_news(&shown, &ended(&as_bob), "in as bob, was alice", false);
    let asks = |entry: &mut Entry| entry.candidate = Some(session(3, Some("bob")));
    assert_news(&shown, &ended(&asks), "bob or alice", true);
    let refreshed = |entry: &mut Entry| entry.session.as_mut().expect("alice's").generation += 1;
    assert_news(&shown, &ended(&refreshed), "Cancelled", false);

    let (shown, open) = link(None, None);
    assert_news(&shown, &Entry { pending: None, ..open }, "Cancelled", false);
}

#[test]
fn a_change_of_the_session_beside_a_live_sign_in_is_not_its_end() {
    let (shown, mut entry) = link(Some(session(1, Some("alice"))), Some(session(2, Some("bob"))));
    entry.session = entry.candidate.take();
    let Progress { news: None, next: Some(shown) } = shown.progress(&entry, NOW + 60) else {
        panic!("it is under way")
    };
    entry.pending = None;
    assert_news(&shown, &entry, "Cancelled", false);
    entry.session = None;
    assert_news(&shown, &entry, "LoggedOut", false);
}

#[test]
fn a_question_is_followed_to_its_answer() {
    let (shown, mut entry) = link(Some(session(1, Some("alice"))), None);
    (entry.pending, entry.candidate) = (None, Some(session(2, Some("bob"))));
    let question = shown.progress(&entry, NOW + 60).next.expect("it is followed");
    assert!(!question.is_link());
    assert_news(&question, &entry, "nothing", true);
    let chosen = Entry { session: entry.candidate.clone(), ..Entry::default() };
    assert_news(&question, &chosen, "in as bob, was alice", false);
    let kept = Entry { candidate: None, ..entry.clone() };
    assert_news(&question, &kept, "alice and not bob", false);
    let again = Entry { candidate: Some(session(3, Some("carol"))), ..entry };
    assert_news(&question, &again, "Gone", false);
    assert_news(&question, &Entry::default(), "Gone", false);
}

#[test]
fn an_account_that_becomes_known_after_the_sign_in_is_reported() {
    let (shown, mut entry) = link(None, None);
    (entry.pending, entry.session) = (None, Some(session(2, None)));
    assert_news(&shown, &entry, "in as None, was None", true);
    let nameless = shown.progress(&entry, NOW + 60).next.expect("it is followed");
    assert_news(&nameless, &entry, "nothing", true);
    assert_news(&nameless, &Entry::default(), "nothing", false);
    entry.session = Some(session(2, Some("alice")));
    assert_news(&nameless, &entry, "in as alice, was None", false);
}
