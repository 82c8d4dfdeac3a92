//! Input and output of the process. A reader of the output may close it at any time.

use std::io::{self, IsTerminal as _, Read as _, Write as _};

use serde::Serialize;

use super::{Exit, Failure};
use crate::secret::Secret;

/// The longest input that is read, in bytes.
pub(super) const MAX_INPUT: usize = 64 * 1024;

/// Writes a result to standard output. A reader may close it early (`| head`).
///
/// # Errors
/// When the result cannot be written for another reason, a full disk for example.
pub fn print_result(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Internal, format!("the result cannot be written: {error}")))
        }
        _ => Ok(()),
    }
}

/// Returns a result as one line of JSON.
///
/// # Errors
/// When the value has no JSON form.
pub fn json_line(value: &impl Serialize) -> Result<String, Failure> {
    let json = serde_json::to_string(value)
        .map_err(|error| Failure::new(Exit::Internal, format!("the result cannot be written: {error}")))?;
    Ok(json + "\n")
}

/// Writes a line for the user to standard error. Errors are ignored.
pub fn print_notice(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Whether a user can answer a question on standard input.
pub fn stdin_is_terminal() -> bool {
    io::stdin().is_terminal()
}

/// Reads all of standard input, which is not a terminal, and trims it.
///
/// # Errors
/// When the input cannot be read, is longer than 64 KiB, or is not UTF-8.
pub fn read_input() -> Result<Secret, Failure> {
    let mut text = zeroize::Zeroizing::new(String::new());
    match io::stdin().lock().take(MAX_INPUT as u64 + 1).read_to_string(&mut text) {
        Ok(read) if read > MAX_INPUT => {
            Err(Failure::new(Exit::Usage, format!("the input is longer than {MAX_INPUT} bytes")))
        }
        Ok(_) => Ok(Secret::new(text.trim())),
        Err(error) => {
            Err(Failure::new(Exit::Usage, format!("standard input cannot be read: {}", error.kind())))
        }
    }
}
