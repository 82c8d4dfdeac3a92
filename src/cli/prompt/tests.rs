use std::collections::VecDeque;

use super::*;

/// Pieces of input, each after a pause. Then nothing comes any more.
struct Script(VecDeque<(Duration, Event, Vec<u8>)>);

impl Keyboard for Script {
    async fn next(&mut self, buffer: &mut [u8]) -> io::Result<Event> {
        let Some((pause, ..)) = self.0.front() else { return std::future::pending().await };
        tokio::time::sleep(*pause).await;
        let (_, event, bytes) = self.0.pop_front().expect("it is the first one");
        buffer[..bytes.len()].copy_from_slice(&bytes);
        Ok(event)
    }

    fn suspend(&mut self) {}

    fn columns(&self) -> Option<usize> {
        None
    }
}

/// The same on a terminal of so many columns.
struct Wide(Script, usize);

impl Keyboard for Wide {
    async fn next(&mut self, buffer: &mut [u8]) -> io::Result<Event> {
        self.0.next(buffer).await
    }

    fn suspend(&mut self) {}

    fn columns(&self) -> Option<usize> {
        Some(self.1)
    }
}

const AT_ONCE: Duration = Duration::from_millis(1);
const SOON: Duration = Duration::from_millis(50);
const A_SECOND: Duration = Duration::from_secs(1);

/// An answer is complete if it contains this.
const COMPLETE: &str = "state=whole";

/// Reads the input of one hour; returns the answer and the screen's last line.
async fn answer_and_screen(pieces: &[(Duration, &str)], echo: Echo) -> (Option<Answer>, String) {
    let pieces =
        pieces.iter().map(|(pause, text)| (*pause, Event::Bytes(text.len()), text.as_bytes().to_vec()));
    let mut screen = Vec::new();
    let is_complete = |text: &str| text.contains(COMPLETE);
    let mut script = Script(pieces.collect());
    let answer = timeout(Duration::from_secs(3600), read(&mut script, &mut screen, echo, is_complete));
    let answer = answer.await.ok().map(|answer| answer.expect("the script has no errors"));
    (answer, String::from_utf8(screen).expect("it is UTF-8"))
}

/// The text of the answer; none if more must come.
async fn text(pieces: &[(Duration, &str)]) -> Option<String> {
    match answer_and_screen(pieces, Echo::Length).await.0 {
        Some(Answer::Text(text)) => Some(text.as_str().to_owned()),
        None => None,
        other => panic!("{pieces:?}: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn enter_ends_an_answer_only_when_no_more_bytes_follow() {
    let whole = Some("first state=whole\nsecond\n".to_owned());
    assert_eq!(text(&[(A_SECOND, "first state=whole\nsecond\n")]).await, whole);
    assert_eq!(text(&[(A_SECOND, "first state=whole\n"), (SOON, "second\n")]).await, whole);
    let pieces = [(A_SECOND, "first "), (A_SECOND, "state=whole\nsec"), (SOON, "ond\n"), (A_SECOND, "ls\n")];
    assert_eq!(text(&pieces).await, whole);
    assert_eq!(text(&[(A_SECOND, "first state=whole")]).await, None, "without Enter");
    // Half an answer means that more comes, and the connection may be slow.
    let pieces = [(A_SECOND, "first state=\r"), (3 * SOON, "whole\n"), (A_SECOND, "more\n")];
    assert_eq!(text(&pieces).await.as_deref(), Some("first state=\rwhole\n"));
}

#[tokio::test(start_paused = true)]
async fn a_marked_paste_keeps_its_line_breaks_and_ends_when_it_is_complete() {
    let pieces =
        [(A_SECOND, "\x1b[20"), (A_SECOND, "0~a\nb\n"), (A_SECOND, "state=whole\n\x1b[2"), (SOON, "01~")];
    assert_eq!(text(&pieces).await.as_deref(), Some("a\nb\nstate=whole\n"));
    assert_eq!(text(&[(AT_ONCE, "\x1b[200~a\nb\n\x1b[201~")]).await, None, "it is not complete");
    let pieces = [(AT_ONCE, "\x1b[200~a\nb\x1b[201~"), (A_SECOND, "\x1b[200~c\x1b[201~"), (A_SECOND, "\n")];
    assert_eq!(text(&pieces).await.as_deref(), Some("a\nbc\n"));
    let pieces = [(AT_ONCE, "\x1b[200~state=whole\x1b[201~\r"), (A_SECOND, "x")];
    assert_eq!(text(&pieces).await.as_deref(), Some("state=whole\r"));
}

#[tokio::test(start_paused = true)]
async fn ctrl_c_ends_the_question_and_the_rest_of_a_paste_is_read_first() {
    for pieces in [
        &[(A_SECOND, "\x03")][..],
        &[(A_SECOND, "half\x03 and the rest\nls\n")],
        &[(A_SECOND, "half\x03"), (SOON, "rest\n"), (SOON, "ls\n")],
        &[(A_SECOND, "\x1b[200~half\n"), (A_SECOND, "\x03")],
    ] {
        let mut script = Vec::from(pieces);
        script.push((A_SECOND, "text that is not read"));
        assert_eq!(answer_and_screen(&script, Echo::Length).await.0, Some(Answer::Interrupted), "{pieces:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn ctrl_c_in_a_paste_leaves_nothing_of_it_to_the_shell() {
    let late = 4 * SOON;
    for pieces in [
        &[(A_SECOND, "\x1b[200~half\x03"), (A_SECOND, "rest\n"), (A_SECOND, "ls\n\x1b[201~")][..],
        &[(A_SECOND, "half\x03"), (late, "rest\n"), (late, "ls\n")],
    ] {
        let pieces =
            pieces.iter().map(|(pause, text)| (*pause, Event::Bytes(text.len()), text.as_bytes().to_vec()));
        let mut script = Script(pieces.collect());
        let answer = read(&mut script, &mut io::sink(), Echo::Length, |_| false).await;
        assert_eq!(answer.expect("the script has no errors"), Answer::Interrupted);
        assert!(script.0.is_empty(), "{} pieces are left", script.0.len());
    }
}

#[tokio::test(start_paused = true)]
async fn ctrl_d_ends_an_answer_and_a_signal_or_a_closed_terminal_ends_the_question() {
    assert_eq!(answer_and_screen(&[(A_SECOND, "\x04")], Echo::Length).await.0, Some(Answer::Interrupted));
    let pieces = [(A_SECOND, Event::Closed, Vec::new())];
    let answer = read(&mut Script(pieces.into()), &mut io::sink(), Echo::Text, |_| false).await;
    assert_eq!(answer.expect("the script has no errors"), Answer::Interrupted);
    assert_eq!(text(&[(A_SECOND, "abc\x04")]).await.as_deref(), Some("abc"));
    for (event, expected) in
        [(Event::Interrupted, Answer::Interrupted), (Event::Closed, Answer::Text("abc".to_owned().into()))]
    {
        let pieces = [(A_SECOND, Event::Bytes(3), b"abc".to_vec()), (A_SECOND, event, Vec::new())];
        let answer = read(&mut Script(pieces.into()), &mut io::sink(), Echo::Length, |_| false).await;
        assert_eq!(answer.expect("the script has no errors"), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn typed_characters_can_be_taken_back() {
    assert_eq!(text(&[(AT_ONCE, "abé\x7f\x08c\n")]).await.as_deref(), Some("ac\n"));
    assert_eq!(text(&[(AT_ONCE, "abc\x15d\n")]).await.as_deref(), Some("d\n"));
    assert_eq!(text(&[(AT_ONCE, "\x7fa\n")]).await.as_deref(), Some("a\n"));
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_more_than_64_kib_is_read_to_its_end_and_refused() {
    let half = "x".repeat(4096);
    let mut pieces = vec![(AT_ONCE, half.as_str()); 16];
    pieces.push((AT_ONCE, "\n"));
    let mut script = vec![(AT_ONCE, "\x1b[200~")];
    script.extend(&pieces);
    script.extend([(A_SECOND, "\x1b[201~"), (A_SECOND, "\n")]);
    assert_eq!(answer_and_screen(&script, Echo::Length).await.0, Some(Answer::TooLong));
    assert_eq!(text(&pieces[1..]).await.map(|text| text.len()), Some(15 * 4096 + 1));
}

#[tokio::test(start_paused = true)]
async fn the_screen_shows_the_length_of_a_secret_and_the_text_of_a_short_answer() {
    let pieces = [(AT_ONCE, "c"), (AT_ONCE, "anary"), (AT_ONCE, "\x7f\n")];
    let (_, screen) = answer_and_screen(&pieces, Echo::Length).await;
    assert!(screen.contains("\r> 1 character") && screen.ends_with("\r> 5 characters"), "{screen:?}");
    assert!(!screen.contains("canary") && !screen.contains("anar"), "{screen:?}");
    let (_, screen) = answer_and_screen(&[(AT_ONCE, "keep"), (AT_ONCE, "\x7f\n")], Echo::Text).await;
    assert!(screen.ends_with("\r> keep\r> kee \r> kee"), "{screen:?}");
}

#[tokio::test(start_paused = true)]
async fn a_long_answer_shows_its_end_in_one_line_of_the_terminal() {
    let typed = "https://id.acme.example/tenant/0123456789";
    for (columns, expected) in [
        (80, "\r> https://id.acme.example/tenant/0123456789"),
        (44, "\r> https://id.acme.example/tenant/0123456789"),
        (43, "\r> …tps://id.acme.example/tenant/0123456789"),
        (20, "\r> …enant/0123456789"),
        (3, "\r> …t/0123456789"),
    ] {
        let pieces = [(AT_ONCE, Event::Bytes(typed.len()), typed.as_bytes().to_vec())];
        let end = (AT_ONCE, Event::Interrupted, Vec::new());
        let script = Script(pieces.into_iter().chain([end]).collect());
        let mut screen = Vec::new();
        let mut keyboard = Wide(script, columns);
        let answer = read(&mut keyboard, &mut screen, Echo::Text, |_| false).await;
        answer.expect("the script has no errors");
        let screen = String::from_utf8(screen).expect("it is UTF-8");
        assert!(screen.ends_with(expected), "{columns}: {screen:?}");
    }
}
