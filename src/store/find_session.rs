//! One tenant's session out of the store's file, without reading the file in whole.
//!
//! For a program that prints one token and ends. It reads the file from its start, a window at a time, up to the end of that
//! session, and parses nothing but that session; the others are passed over by their braces. Whatever is not plainly a session
//! found gives `None`: then the whole is read ([`super::codec`]), and that says what is wrong. Nothing is ever written from here.
//!
//! # Why what is found is the session
//!
//! A file qualifies if it begins with `{ "version": 1, "sessions": {`, in any spacing, and if every brace up to the end of the session
//! stands at the end of its line, or before the comma there. So do we write, and so do others that write a member a line. Then:
//!
//! 1. A JSON string holds no raw line end (RFC 8259 §7). A brace with nothing but a line end behind it, or a comma and a line end, is
//!    therefore in no string; and there are no other braces. So the braces alone tell how many objects are open.
//! 2. A line that is `"<tenant>": {` behind its indentation begins outside of any string, for the same reason. It is a name and the start
//!    of its value, so what is innermost around it is an object, not a list.
//! 3. Where two objects are open, these are the root and `sessions`, for the count has not fallen below two since `sessions` began. So that
//!    line is a member of `sessions`, not of an object within a session and not of a section of the same form behind it.
//! 4. A tenant is written in letters that JSON need not escape. One that is escaped all the same is not found, and left to the
//!    whole reading.
//!
//! Texts that people or providers can choose, such as an account or an error code, are strings, and change nothing of this: the worst that a
//! brace in one of them does is that the whole is read.
//!
//! # What of a file that is damaged
//!
//! All this holds for what is JSON up to the end of the session. Damage before it that still has its braces at the ends of lines, and all
//! damage behind it, a second session of the same name included, goes unseen here, where the whole reading would refuse the file. The
//! session itself was checked like any other. It is served: what is torn elsewhere makes this token no less valid, and who has one that works
//! needs nothing from the rest. Whoever refreshes, signs in or out, or asks for the status reads the whole and is told.

use std::io;

use memchr::memchr2_iter;
use zeroize::Zeroizing;

use super::dto::SessionDto;
use crate::{ids::Tenant, session::Session};

/// How much of the file is in memory at a time, in bytes, and so the longest session that is found. Small, because all of it is
/// touched, and wiped in the end.
pub(super) const WINDOW: usize = 32 * 1024;

/// The longest indentation of a session, in bytes.
const INDENT: usize = 64;

/// How many objects are open around a session: the root and `sessions`.
const AROUND: u32 = 2;

/// The tenant's session, if the file is plainly a store and has one. `read` reads from an offset of the file on and says
/// how much that was; no more than `window` bytes are kept at a time.
pub(super) fn session(
    read: impl FnMut(u64, &mut [u8]) -> io::Result<usize>,
    window: usize,
    tenant: &Tenant,
) -> Option<Session> {
    let mut window = Window { read, offset: 0, bytes: Zeroizing::new(vec![0; window]), filled: 0 };
    window.slide(0)?;
    let name = format!("\"{tenant}\": ");
    let (mut at, mut open, mut found) = (start(window.text())?, AROUND, None);
    loop {
        let text = window.text();
        let mut seen = text.len();
        for brace in memchr2_iter(b'{', b'}', &text[at..]).map(|brace| at + brace) {
            let Some(behind) = text.get(brace + 1..brace + 3) else {
                seen = brace;
                break;
            };
            match (text[brace], behind) {
                (b'{', [b'\n', _]) => {
                    if open == AROUND && is_line(&text[..brace], name.as_bytes()) {
                        found = Some(brace);
                    }
                    open += 1;
                }
                (b'}', [b'\n', _] | [b',', b'\n']) => open -= 1,
                _ => return None,
            }
            match found {
                Some(begin) if open == AROUND => return parsed(&text[begin..=brace]),
                _ if open < AROUND => return None,
                _ => {}
            }
        }
        let needed = found.unwrap_or_else(|| seen.saturating_sub(name.len() + INDENT));
        window.slide(needed)?;
        at = seen - needed;
        found = found.map(|begin| begin - needed);
    }
}

/// Where the members of `sessions` begin, if the text begins as a store does.
fn start(text: &[u8]) -> Option<usize> {
    let mut rest = text;
    for token in ["{", "\"version\"", ":", "1", ",", "\"sessions\"", ":", "{"] {
        rest = rest.trim_ascii_start().strip_prefix(token.as_bytes())?;
    }
    Some(text.len() - rest.len())
}

/// Whether the last line of `text` is `line` behind its indentation.
fn is_line(text: &[u8], line: &[u8]) -> bool {
    let Some(mut indented) = text.strip_suffix(line) else { return false };
    while let [before @ .., b' ' | b'\t'] = indented {
        indented = before;
    }
    indented.ends_with(b"\n")
}

fn parsed(member: &[u8]) -> Option<Session> {
    let dto: SessionDto = serde_json::from_str(std::str::from_utf8(member).ok()?).ok()?;
    Some(dto.into())
}

/// The part of the file that is in memory.
struct Window<R> {
    read: R,
    /// Where in the file it ends.
    offset: u64,
    bytes: Zeroizing<Vec<u8>>,
    filled: usize,
}

impl<R: FnMut(u64, &mut [u8]) -> io::Result<usize>> Window<R> {
    fn text(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }

    /// Lets go what is before `needed`, and reads on; `None` where there is no room for more, or no more.
    fn slide(&mut self, needed: usize) -> Option<()> {
        self.bytes.copy_within(needed..self.filled, 0);
        self.filled -= needed;
        let read = (self.read)(self.offset, &mut self.bytes[self.filled..]).ok().filter(|read| *read > 0)?;
        self.offset += read as u64;
        self.filled += read;
        Some(())
    }
}

#[cfg(test)]
mod tests;
