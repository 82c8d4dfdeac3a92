//! The journal: the lines that are written before a token is spent, and after a crash.

use super::*;
use crate::{
    secret::Fingerprint,
    store::journal::{MAX_ANSWER, answer_line, intent_line, read},
};

const INTENT: &str = concat!(
    "e68c193f6fac5864bd398495 ",
    r#"{"version":1,"kind":"refresh","lineage":"07070707070707070707070707070707","generation":7,"#,
    r#""fingerprint":"70733995b14403143d062779","at":1795358672,"token_endpoint":"https://id.example/token"}"#,
    "\n"
);
const CODE: &str = concat!(
    "9607ddb3337dc79dbd74fc1e ",
    r#"{"version":1,"kind":"code","state":"70733995b14403143d062779","code":"70733995b14403143d062779","#,
    r#""at":1795358672,"token_endpoint":"https://id.example/token"}"#,
    "\n"
);
/// As an earlier threadkey wrote it, and as other programs may write it.
const ANSWER_1: &str = concat!(
    "111d0524dccbd4802744eec7 ",
    r#"{"version":1,"status":503,"retry_after":"30","body":"eyJhIjoxfQ==","at":1795358673}"#,
    "\n"
);
const ANSWER: &str = concat!(
    "a237a7140149a0b776e50b07 ",
    r#"{"version":2,"status":503,"retry_after":"30","content_type":"application/json","#,
    r#""content_encoding":"gzip","cut":true,"body":"eyJhIjoxfQ==","at":1795358673}"#,
    "\n"
);

fn path() -> &'static Path {
    Path::new("auth.json.refresh/codex.lock")
}

fn refresh() -> Intent {
    intent(&test_session(NOW, 3600))
}

/// The answer of [`ANSWER`].
fn unavailable() -> Answer {
    Answer {
        content_type: Some("application/json".into()),
        content_encoding: Some("gzip".into()),
        cut: true,
        ..unavailable_1()
    }
}

/// The answer of [`ANSWER_1`].
fn unavailable_1() -> Answer {
    Answer { status: 503, retry_after: Some("30".into()), ..answer(br#"{"a":1}"#) }
}

fn found(bytes: impl AsRef<[u8]>) -> Journal {
    read(path(), bytes.as_ref()).expect("a journal").journal
}

/// Returns the whole line of `json`.
fn line(json: &str) -> String {
    format!("{} {json}\n", Fingerprint::of(json).as_str())
}

#[test]
fn the_lines_have_the_documented_form_and_read_as_they_were() {
    let fingerprint = Fingerprint::of("refresh-7");
    let code =
        Intent { spending: Spending::Code { state: fingerprint.clone(), code: fingerprint }, ..refresh() };
    let text = |line: &[u8]| String::from_utf8(line.to_vec()).expect("UTF-8");
    assert_eq!(text(&intent_line(&refresh())), INTENT);
    assert_eq!(text(&intent_line(&code)), CODE);
    assert_eq!(text(&answer_line(&unavailable())), ANSWER);
    assert_eq!(found(INTENT), Journal::Intended(refresh()));
    assert_eq!(found(CODE), Journal::Intended(code));
    assert_eq!(found([INTENT, ANSWER].concat()), Journal::Answered(refresh(), unavailable()));
}

#[test]
fn an_answer_of_version_1_is_read_and_has_none_of_the_newer_members() {
    assert_eq!(found([INTENT, ANSWER_1].concat()), Journal::Answered(refresh(), unavailable_1()));
}

#[test]
fn members_that_carry_nothing_are_absent_from_an_answer() {
    let line = answer_line(&answer(b"{}"));
    let json = std::str::from_utf8(&line[25..]).expect("UTF-8");
    assert_eq!(json, "{\"version\":2,\"status\":200,\"body\":\"e30=\",\"at\":1795358673}\n");
}

#[test]
fn a_journal_torn_at_any_byte_reads_as_its_whole_lines() {
    let whole = [INTENT, ANSWER].concat();
    for cut in 0..=whole.len() {
        let expected = match cut {
            cut if cut < INTENT.len() => Journal::Empty,
            cut if cut < whole.len() => Journal::Intended(refresh()),
            _ => Journal::Answered(refresh(), unavailable()),
        };
        assert_eq!(found(&whole[..cut]), expected, "cut at {cut}");
        // Blocks that were reserved and never written read as zeros.
        let zeros = [&whole.as_bytes()[..cut], &[0; 4096]].concat();
        assert_eq!(found(zeros), expected, "cut at {cut}, zeros after it");
    }
}

#[test]
fn an_answer_whose_intent_is_damaged_is_an_error_and_not_thrown_away() {
    let damaged = INTENT.replacen("refresh", "refrash", 1) + ANSWER;
    let error = read(path(), damaged.as_bytes()).expect_err("damaged");
    assert!(error.to_string().contains("line 1"), "{error}");
    assert!(error.to_string().contains("codex.lock"), "{error}");
}

#[test]
fn a_whole_answer_is_found_at_any_position_in_the_journal() {
    let lost_newline = INTENT.trim_end().to_owned() + "?" + ANSWER;
    let lost_intent = "?\n?\n".to_owned() + ANSWER;
    let pushed_down = INTENT.to_owned() + "\n" + ANSWER;
    let second_answer = [INTENT, ANSWER, ANSWER].concat();
    for (text, number) in [(lost_newline, 1), (lost_intent, 3), (pushed_down, 3), (second_answer, 3)] {
        let error = read(path(), text.as_bytes()).expect_err("damaged").to_string();
        assert!(error.contains(&format!("line {number} of the journal")), "{error}");
    }
}

#[test]
fn a_journal_of_another_version_or_kind_is_an_error_and_never_empty() {
    let newer = line(&INTENT[25..].trim_end().replace("\"version\":1", "\"version\":2"));
    let error = read(path(), newer.as_bytes()).expect_err("newer");
    assert!(error.to_string().contains("version 2"), "{error}");
    let kind = line(&INTENT[25..].trim_end().replace("\"refresh\"", "\"device\""));
    let error = read(path(), kind.as_bytes()).expect_err("another kind");
    assert!(error.to_string().contains("does not know"), "{error}");
    for version in [0, 3] {
        let answer = ANSWER[25..].trim_end().replace("\"version\":2", &format!("\"version\":{version}"));
        let answer = line(&answer);
        let error = read(path(), (INTENT.to_owned() + &answer).as_bytes()).expect_err("a newer answer");
        let expected = format!("version {version}, which this threadkey does not know");
        assert!(error.to_string().contains(&expected), "{error}");
    }
}

#[test]
fn the_longest_answer_fits_in_what_is_reserved() {
    let longest = Answer {
        status: 599,
        retry_after: Some("\u{1}".repeat(128)),
        content_type: Some("\u{1}".repeat(1000)),
        content_encoding: Some("\u{1}".repeat(1000)),
        cut: true,
        body: Zeroizing::new(vec![0xFF; MAX_BODY]),
        at: i64::MIN,
    };
    let len = answer_line(&longest).len() as u64;
    assert!(len <= MAX_ANSWER, "{len}");
    let absurd = Answer { retry_after: Some("9".repeat(100_000)), ..longest };
    assert!(answer_line(&absurd).len() as u64 <= MAX_ANSWER, "an invalid Retry-After is dropped");
}

#[test]
fn a_header_that_is_too_long_is_cut_at_a_character() {
    let long = |text: &str| Some(format!("application/json;{}", text.repeat(200)));
    let answer = Answer { content_type: long("aé"), content_encoding: long("é"), ..unavailable() };
    let text = [INTENT.as_bytes(), &answer_line(&answer)].concat();
    let Journal::Answered(_, saved) = found(text) else { panic!("it is whole") };
    for (saved, header) in
        [(saved.content_type, answer.content_type), (saved.content_encoding, answer.content_encoding)]
    {
        let (saved, header) = (saved.expect("it is saved"), header.expect("it was there"));
        assert!(header.starts_with(&saved) && (250..=256).contains(&saved.len()), "{saved}");
    }
}

#[tokio::test]
async fn a_refresh_is_journaled_committed_and_cleared() {
    let f = Fixture::new();
    let session = f.sign_in().await;
    let mut lock = backend(&f.store).await;
    assert_eq!(lock.journal().await.expect("readable"), Journal::Empty);
    let (intent, answer) = (intent(&session), answer(&[7; MAX_BODY]));
    lock.write_intent(&intent).await.expect("room");
    assert_eq!(lock.journal().await.expect("readable"), Journal::Intended(intent.clone()));
    lock.write_answer(&answer).await.expect("reserved");
    assert_eq!(lock.journal().await.expect("readable"), Journal::Answered(intent, answer));
    let spent = session.refresh_target().expect("a refresh token");
    assert_eq!(lock.commit(refreshed(spent.clone(), 8)).await.expect("writable").applied, Applied::Done);
    assert_eq!(lock.commit(refreshed(spent, 9)).await.expect("writable").applied, Applied::Stale);
    lock.clear().await.expect("writable");
    assert_eq!(lock.journal().await.expect("readable"), Journal::Empty);
    let now = f.store.read(&alice()).await.expect("readable").session.expect("a session");
    assert_eq!((now.generation, now.access_token.expose()), (2, "access-8"));
}

#[tokio::test]
async fn a_shorter_intent_leaves_nothing_of_a_longer_one_to_the_next_holder() {
    let f = Fixture::new();
    let session = f.sign_in().await;
    let long =
        Intent { token_endpoint: format!("https://id.example/{}", "x".repeat(500)), ..intent(&session) };
    backend(&f.store).await.write_intent(&long).await.expect("room");
    let mut next = backend(&f.healthy()).await;
    assert_eq!(next.journal().await.expect("readable"), Journal::Intended(long));
    next.write_intent(&intent(&session)).await.expect("room");
    assert_eq!(next.journal().await.expect("readable"), Journal::Intended(intent(&session)));
    let file = f.folder.path().join("auth.json.refresh/codex%2Fuser%3A803.lock");
    assert!(!fs::read_to_string(file).expect("UTF-8").contains("xxx"));
}

#[tokio::test]
async fn an_intent_that_cannot_be_made_safe_is_an_error_and_the_journal_is_as_before() {
    for fault in [
        "write@803.lock:ENOSPC#2",
        "reserve@803.lock:ENOSPC#2",
        "fsync@803.lock:EIO#2",
        "fsync-folder@.refresh:EIO#2",
    ] {
        let f = Fixture::failing(fault);
        let session = f.sign_in().await;
        // `fsync-folder@.refresh` is called by each intend once.
        let mut held = backend(&f.store).await;
        let first = intent(&session);
        held.write_intent(&first).await.expect("no fault yet");
        let second =
            Intent { at: NOW + 100, token_endpoint: "https://id.example/other".into(), ..first.clone() };
        let error = held.write_intent(&second).await.expect_err(fault);
        assert!(error.to_string().contains("auth.json.refresh"), "{fault}: {error}");
        assert_eq!(held.journal().await.expect("readable"), Journal::Intended(first), "{fault}");
        held.write_intent(&second).await.expect("well again");
    }
}

#[tokio::test]
async fn a_first_intent_for_which_there_is_no_room_leaves_an_empty_journal() {
    let f = Fixture::failing("reserve:ENOSPC");
    let session = f.sign_in().await;
    let mut held = backend(&f.store).await;
    let error = held.write_intent(&intent(&session)).await.expect_err("no room");
    assert!(error.to_string().contains("nothing is spent while nothing can be saved"), "{error}");
    assert_eq!(held.journal().await.expect("readable"), Journal::Empty);
}

#[tokio::test]
async fn no_answer_is_lost_to_another_intent_or_another_answer() {
    let f = Fixture::new();
    let session = f.sign_in().await;
    let mut held = backend(&f.store).await;
    held.write_answer(&answer(b"{}")).await.expect_err("there is no intent");
    held.write_intent(&intent(&session)).await.expect("room");
    held.write_answer(&answer(&vec![0; MAX_BODY + 1])).await.expect_err("too long");
    held.write_answer(&answer(b"{}")).await.expect("room");
    held.write_intent(&intent(&session)).await.expect_err("an answer is there");
    held.write_answer(&answer(b"[]")).await.expect_err("an answer is there");
    let expected = Journal::Answered(intent(&session), answer(b"{}"));
    assert_eq!(held.journal().await.expect("readable"), expected);
}

#[tokio::test]
async fn an_answer_that_could_not_be_written_can_be_written_again() {
    let f = Fixture::failing("fsync@803.lock:EIO#2");
    let session = f.sign_in().await;
    let mut held = backend(&f.store).await;
    held.write_intent(&intent(&session)).await.expect("the first fsync");
    held.write_answer(&answer(b"{}")).await.expect_err("the second");
    // The result of the failed attempt may be read as an answer, or not; it is not lost.
    let kept = matches!(held.journal().await.expect("readable"), Journal::Answered(..));
    assert!(kept, "it is in the file, though not durably");
    held.write_answer(&answer(b"{}")).await.expect("the same answer again");
}

#[tokio::test]
async fn the_journal_is_emptied_only_after_the_store_s_folder_is_durable() {
    let f = Fixture::failing("fsync-folder@.refresh:EIO#9");
    let session = f.sign_in().await;
    let folder = fs::canonicalize(f.folder.path()).expect("there");
    let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
    // Its second call for the store's folder is the one in `clear`; the first is in `intend`.
    let faults = Faults::parse(&format!("fsync-folder@{name}:EIO#2"));
    let store = on_disk(&f.path(), faults, &f.clock).expect("a store");
    let mut held = backend(&store).await;
    held.write_intent(&intent(&session)).await.expect("room");
    held.write_answer(&answer(b"{}")).await.expect("room");
    held.clear().await.expect_err("the folder is not durable");
    let kept = Journal::Answered(intent(&session), answer(b"{}"));
    assert_eq!(held.journal().await.expect("readable"), kept);
    held.clear().await.expect("well again");
    assert_eq!(held.journal().await.expect("readable"), Journal::Empty);
}

#[tokio::test]
async fn a_journal_that_others_can_read_is_refused() {
    let f = Fixture::new();
    f.sign_in().await;
    drop(backend(&f.store).await);
    chmod(&f.folder.path().join("auth.json.refresh/codex%2Fuser%3A803.lock"), 0o644);
    let error = f.store.try_lock(&alice(), Purpose::Refresh).await.map(drop).expect_err("readable by others");
    assert!(error.to_string().contains("chmod 600"), "{error}");
}

#[tokio::test]
async fn an_answer_with_a_header_too_long_to_keep_is_recorded_again_after_a_failed_fsync() {
    let at = Fixture::failing("fsync@803.lock:EIO#2");
    let session = at.sign_in().await;
    let mut lock = backend(&at.store).await;
    lock.write_intent(&intent(&session)).await.expect("the disk works");
    let long = Answer { retry_after: Some("9".repeat(200)), ..unavailable() };
    lock.write_answer(&long).await.expect_err("the second fsync fails");
    lock.write_answer(&long).await.expect("the third one works");
}

fn unread_file(f: &Fixture) -> PathBuf {
    f.folder.path().join("auth.json.refresh/codex%2Fuser%3A803.unread")
}

#[tokio::test]
async fn an_answer_that_cannot_be_parsed_is_kept_beside_the_journal_as_it_is() {
    let f = Fixture::new();
    let session = f.sign_in().await;
    for (purpose, lock_file) in
        [(Purpose::Refresh, "codex%2Fuser%3A803.lock"), (Purpose::SignIn, "codex%2Fuser%3A803.signin.lock")]
    {
        let mut held = f.store.try_lock_backend(&alice(), purpose).await.expect("lockable").expect("free");
        held.keep_unread().await.expect_err("there is no answer");
        held.write_intent(&intent(&session)).await.expect("room");
        held.keep_unread().await.expect_err("there is no answer yet");
        held.write_answer(&answer(lock_file.as_bytes())).await.expect("room");
        let lines = fs::read(f.folder.path().join("auth.json.refresh").join(lock_file)).expect("readable");
        held.keep_unread().await.expect("writable");
        held.clear().await.expect("writable");
        let kept = fs::read(unread_file(&f)).expect("kept");
        assert!(lines.starts_with(&kept) && lines[kept.len()..].iter().all(|byte| *byte == 0));
        assert_eq!(found(&kept), Journal::Answered(intent(&session), answer(lock_file.as_bytes())));
        assert_eq!(fs::metadata(unread_file(&f)).expect("there").mode() & 0o777, 0o600);
    }
    let names = fs::read_dir(f.folder.path().join("auth.json.refresh")).expect("a folder").count();
    assert_eq!(names, 3, "two lock files and one answer");
}

#[tokio::test]
async fn an_answer_that_cannot_be_kept_stays_in_the_journal_and_is_kept_by_the_next_try() {
    for fault in [
        "open@.unread.tmp:ENOSPC#1",
        "write@.unread.tmp:ENOSPC#1",
        "fsync@.unread.tmp:EIO#1",
        "rename@.unread:EIO#1",
        "fsync-folder@.refresh:EIO#2",
    ] {
        let f = Fixture::failing(fault);
        let session = f.sign_in().await;
        let mut held = backend(&f.store).await;
        held.write_intent(&intent(&session)).await.expect("room");
        held.write_answer(&answer(b"<html>")).await.expect("room");
        let error = held.keep_unread().await.expect_err(fault);
        assert!(error.to_string().contains("auth.json.refresh"), "{fault}: {error}");
        let kept = Journal::Answered(intent(&session), answer(b"<html>"));
        assert_eq!(held.journal().await.expect("readable"), kept, "{fault}");
        held.keep_unread().await.expect("well again");
        assert_eq!(found(fs::read(unread_file(&f)).expect("kept")), kept, "{fault}");
        held.clear().await.expect("writable");
        assert!(!f.folder.path().join("auth.json.refresh/codex%2Fuser%3A803.lock.unread.tmp").exists());
    }
}

#[tokio::test]
async fn a_temp_file_of_a_dead_holder_is_removed_before_the_journal_is_emptied() {
    let f = Fixture::new();
    let session = f.sign_in().await;
    let mut held = backend(&f.store).await;
    held.write_intent(&intent(&session)).await.expect("room");
    held.write_answer(&answer(b"{}")).await.expect("room");
    let temp = f.folder.path().join("auth.json.refresh/codex%2Fuser%3A803.lock.unread.tmp");
    fs::write(&temp, "torn").expect("writable");
    held.clear().await.expect("writable");
    assert!(!temp.exists());
}
