//! Questions on a terminal: the answer may be a paste of several lines and many thousand
//! characters.
//!
//! # When an answer is whole
//!
//! A terminal passes a paste on in pieces. One that knows bracketed paste marks its beginning and
//! end, and a line break between them is text. Any other terminal sends the same bytes as a typing
//! user. There Enter ends the answer only once no byte has followed for a moment: a second
//! line that is on its way belongs to the paste. The moment is short if the answer is complete as
//! it stands, and longer otherwise, because more must follow the first half of an address. So
//! the rest of a paste never reaches the shell, which would run it.
//!
//! A marked paste that is complete needs no Enter. Ctrl-C in the middle of a paste waits for its rest as
//! well. Ctrl-D ends an answer as Enter does. Without an answer it is the end of the input, and
//! interrupts the question as Ctrl-C does.
//!
//! # The screen
//!
//! An address contains a code, and the screen may be shared, recorded, or scrolled back later. So
//! only the number of characters appears. No history is kept. An answer without a secret, such as
//! `keep`, is shown as it is typed; of a long one the end.

use std::{
    io::{self, Write},
    time::Duration,
};

use tokio::time::timeout;
use zeroize::Zeroizing;

use super::{Exit, Failure, output::MAX_INPUT};
use crate::{
    secret::Secret,
    sys::terminal::{Event, RawTerminal},
};

/// The pause after which a complete answer has ended.
const PAUSE: Duration = Duration::from_millis(80);

/// The pause after which any other answer has ended, once the user has pressed Enter. Between two
/// packets of one paste a slow connection can pause longer than [`PAUSE`].
const LONG_PAUSE: Duration = Duration::from_millis(400);

/// The pause after which an interrupted question no longer waits for the end of a marked paste.
const PASTE_PAUSE: Duration = Duration::from_secs(2);

/// The columns of a terminal that does not report its width, and the fewest that are counted on.
const USUAL_COLUMNS: usize = 80;
const FEWEST_COLUMNS: usize = 16;

/// The ends of a bracketed paste, as a number of six bytes.
const PASTE_BEGINS: u64 = u64::from_be_bytes(*b"\0\0\x1b[200~");
const PASTE_ENDS: u64 = u64::from_be_bytes(*b"\0\0\x1b[201~");
const MARK_LENGTH: usize = 6;

/// The form in which an answer appears on the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Echo {
    /// The number of its characters.
    Length,
    /// The answer itself. Input from before the question does not count as an answer.
    Text,
}

/// Asks a question on the terminal and returns the answer without white space around it. An answer
/// for which `is_complete` holds needs no further line.
///
/// # Errors
/// When the user interrupts the question, when a signal ends it, when the answer is longer than 64
/// KiB, or when the terminal fails.
pub(super) async fn ask(
    question: &str,
    echo: Echo,
    is_complete: impl Fn(&str) -> bool,
) -> Result<Secret, Failure> {
    let answer = ask_unless_interrupted(question, echo, is_complete).await?;
    answer.ok_or_else(|| Failure::new(Exit::Usage, "interrupted: nothing was sent or written"))
}

/// As [`ask`], but returns `None` when the user interrupts the question or a signal ends it.
///
/// # Errors
/// When the answer is longer than 64 KiB, or when the terminal fails.
pub(super) async fn ask_unless_interrupted(
    question: &str,
    echo: Echo,
    is_complete: impl Fn(&str) -> bool,
) -> Result<Option<Secret>, Failure> {
    let failed =
        |error: io::Error| Failure::new(Exit::Usage, format!("the terminal cannot be read: {error}"));
    let mut terminal = RawTerminal::open(echo == Echo::Text).map_err(failed)?;
    let mut screen = io::stderr();
    let _ = writeln!(screen, "{question}");
    let answer = read(&mut terminal, &mut screen, echo, is_complete).await;
    drop(terminal);
    let _ = writeln!(screen);
    match answer.map_err(failed)? {
        Answer::Text(text) => Ok(Some(Secret::new(text.trim()))),
        Answer::TooLong => {
            Err(Failure::new(Exit::Usage, format!("the input is longer than {MAX_INPUT} bytes")))
        }
        Answer::Interrupted => Ok(None),
    }
}

/// The source of events: the terminal, or a test.
trait Keyboard {
    async fn next(&mut self, buffer: &mut [u8]) -> io::Result<Event>;
    fn suspend(&mut self);
    fn columns(&self) -> Option<usize>;
}

impl Keyboard for RawTerminal {
    async fn next(&mut self, buffer: &mut [u8]) -> io::Result<Event> {
        RawTerminal::next(self, buffer).await
    }

    fn suspend(&mut self) {
        RawTerminal::suspend(self);
    }

    fn columns(&self) -> Option<usize> {
        RawTerminal::columns(self)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Text(Zeroizing<String>),
    TooLong,
    Interrupted,
}

async fn read(
    keyboard: &mut impl Keyboard,
    screen: &mut impl Write,
    echo: Echo,
    is_complete: impl Fn(&str) -> bool,
) -> io::Result<Answer> {
    let mut typed = Typed::default();
    let mut buffer = Zeroizing::new([0; 4096]);
    let mut shown = String::new();
    loop {
        let columns = keyboard.columns().unwrap_or(USUAL_COLUMNS).max(FEWEST_COLUMNS);
        typed.show(screen, echo, columns, &mut shown);
        let event = match typed.pause(&is_complete) {
            None => keyboard.next(&mut buffer[..]).await?,
            Some(pause) => match timeout(pause, keyboard.next(&mut buffer[..])).await {
                Ok(event) => event?,
                Err(_) => return Ok(typed.answer()),
            },
        };
        match event {
            Event::Bytes(count) => buffer[..count].iter().for_each(|&byte| typed.push(byte)),
            Event::Interrupted => typed.is_interrupted = true,
            Event::Closed => {
                typed.is_interrupted |= typed.bytes.is_empty();
                return Ok(typed.answer());
            }
            Event::Resumed => shown.clear(),
        }
        if std::mem::take(&mut typed.is_suspended) {
            keyboard.suspend();
            shown.clear();
        }
    }
}

/// The bytes of an answer so far.
#[derive(Default)]
struct Typed {
    bytes: Zeroizing<Vec<u8>>,
    /// The last six bytes.
    recent: u64,
    is_in_paste: bool,
    /// Whether a marked paste has ended.
    is_pasted: bool,
    /// Whether the user has pressed Enter or Ctrl-D.
    is_entered: bool,
    is_interrupted: bool,
    is_suspended: bool,
    is_too_long: bool,
}

impl Typed {
    fn push(&mut self, byte: u8) {
        const CTRL_C: u8 = 0x03;
        const CTRL_D: u8 = 0x04;
        const BACKSPACE: u8 = 0x08;
        const CTRL_U: u8 = 0x15;
        const CTRL_Z: u8 = 0x1a;
        const DELETE: u8 = 0x7f;
        match byte {
            CTRL_C => self.is_interrupted = true,
            CTRL_D if !self.is_in_paste && self.bytes.is_empty() => self.is_interrupted = true,
            CTRL_D if !self.is_in_paste => self.is_entered = true,
            CTRL_Z if !self.is_in_paste => self.is_suspended = true,
            CTRL_U if !self.is_in_paste => self.bytes = Zeroizing::default(),
            BACKSPACE | DELETE if !self.is_in_paste => self.remove_last(),
            byte => {
                self.is_entered |= !self.is_in_paste && matches!(byte, b'\n' | b'\r');
                self.append(byte);
            }
        }
    }

    fn append(&mut self, byte: u8) {
        if self.bytes.capacity() == 0 {
            // A vector that grows leaves copies of its content in freed memory.
            self.bytes.reserve_exact(MAX_INPUT);
        }
        self.is_too_long |= self.bytes.len() == MAX_INPUT;
        if !self.is_too_long {
            self.bytes.push(byte);
        }
        self.recent = (self.recent << 8 | u64::from(byte)) & 0xffff_ffff_ffff;
        let is_mark = match self.recent {
            PASTE_BEGINS => !std::mem::replace(&mut self.is_in_paste, true),
            PASTE_ENDS => {
                self.is_pasted = true;
                std::mem::take(&mut self.is_in_paste)
            }
            _ => false,
        };
        if is_mark && !self.is_too_long {
            let length = self.bytes.len().saturating_sub(MARK_LENGTH);
            self.bytes.truncate(length);
        }
    }

    /// Removes the last character, of one to four bytes.
    fn remove_last(&mut self) {
        while self.bytes.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
    }

    /// Returns the pause after which the answer has ended; none while more must come.
    fn pause(&self, is_complete: impl Fn(&str) -> bool) -> Option<Duration> {
        let is_complete = || is_complete(&self.text());
        match self {
            Self { is_interrupted: true, is_in_paste: true, .. } => Some(PASTE_PAUSE),
            Self { is_interrupted: true, .. } => Some(if self.bytes.is_empty() { PAUSE } else { LONG_PAUSE }),
            Self { is_in_paste: true, .. } => None,
            Self { is_entered: true, .. } => Some(if is_complete() { PAUSE } else { LONG_PAUSE }),
            Self { is_pasted: true, .. } => is_complete().then_some(PAUSE),
            _ => None,
        }
    }

    fn text(&self) -> Zeroizing<String> {
        Zeroizing::new(String::from_utf8_lossy(&self.bytes).into_owned())
    }

    fn answer(self) -> Answer {
        match self {
            Self { is_interrupted: true, .. } => Answer::Interrupted,
            Self { is_too_long: true, .. } => Answer::TooLong,
            typed => Answer::Text(typed.text()),
        }
    }

    /// Updates the line of the answer. `shown` is its present content. A line that fills the last
    /// column would begin a second one, which no later line replaces.
    fn show(&self, screen: &mut impl Write, echo: Echo, columns: usize, shown: &mut String) {
        let text = self.text();
        let visible = text.chars().filter(|c| !c.is_control());
        let room = columns - "> ".len() - 1;
        let line = match (echo, visible.clone().count()) {
            (_, 0) => "> ".to_owned(),
            (Echo::Length, 1) => "> 1 character".to_owned(),
            (Echo::Length, count) => format!("> {count} characters"),
            (Echo::Text, count) if count > room => {
                format!("> …{}", visible.skip(count - room + 1).collect::<String>())
            }
            (Echo::Text, _) => format!("> {}", visible.collect::<String>()),
        };
        if line != *shown {
            // The blanks cover the rest of a longer line.
            let rest = " ".repeat(shown.chars().count().saturating_sub(line.chars().count()));
            let back = if rest.is_empty() { String::new() } else { format!("\r{line}") };
            let _ = write!(screen, "\r{line}{rest}{back}").and_then(|()| screen.flush());
            *shown = line;
        }
    }
}

#[cfg(test)]
mod tests;
