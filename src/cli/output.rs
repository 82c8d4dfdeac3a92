//! Reading from and writing to whoever started us, who may have gone.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};

use super::{Exit, Failure};
use crate::secret::Secret;

/// The longest input that is read, in bytes.
const MAX_INPUT: u64 = 64 * 1024;

/// Writes a result to the standard output. A reader that has gone (`| head`) is no failure.
///
/// # Errors
/// When it cannot be written for another reason, a full disk for example.
pub fn write_out(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Internal, format!("the result cannot be written: {error}")))
        }
        _ => Ok(()),
    }
}

/// Says something to the person, on the standard error; where nobody listens, nothing is lost.
pub fn say(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Whether a person can be asked on the standard input.
pub fn can_ask() -> bool {
    io::stdin().is_terminal()
}

/// What comes on the standard input, trimmed: one line from a terminal, after `prompt`; else everything.
///
/// # Errors
/// When it cannot be read, is longer than 64 KiB, or is no UTF-8.
pub fn read_line(prompt: &str) -> Result<Secret, Failure> {
    let stdin = io::stdin().lock();
    let terminal = stdin.is_terminal();
    if terminal {
        let mut err = io::stderr().lock();
        let _ = write!(err, "{prompt} ").and_then(|()| err.flush());
    }
    let mut text = zeroize::Zeroizing::new(String::new());
    let mut bounded = stdin.take(MAX_INPUT + 1);
    let read = if terminal { bounded.read_line(&mut text) } else { bounded.read_to_string(&mut text) };
    match read {
        Ok(read) if read as u64 > MAX_INPUT => {
            Err(Failure::new(Exit::Usage, format!("the input is longer than {MAX_INPUT} bytes")))
        }
        Ok(_) => Ok(Secret::new(text.trim())),
        Err(error) => {
            Err(Failure::new(Exit::Usage, format!("the standard input cannot be read: {}", error.kind())))
        }
    }
}
