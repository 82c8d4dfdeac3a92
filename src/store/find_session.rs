//! One tenant's session out of the store's text, without reading the other records.
//!
//! `threadkey token` prints one token and ends. It reads the text in windows, up to the end of that
//! session, and passes over everything before it. Only the session itself is checked and becomes a
//! record. Nothing is ever written from here.
//!
//! The result is a session only if `"version": 1` comes before `sessions`, and `sessions` has a
//! valid session of this tenant. In all other cases the result is `None`, and the caller reads the
//! whole file ([`super::codec`]), which finds the session or reports the error.
//!
//! # A damaged file
//!
//! Damage after the session goes unseen, a second session of the same name included. So does this
//! before it, in the values that are passed over: a doubled name, a value of the wrong type, a
//! missing member, half a surrogate, and a number that is too large. The full reading would refuse
//! such a file. The session that was found is served all the same: it was checked like any other,
//! and damage elsewhere does not make its access token invalid. Every process that refreshes, signs
//! in, logs out or prints the status reads the whole file and reports the damage.

use std::{borrow::Cow, io};

use serde::de::IgnoredAny;
use serde_json::{Deserializer, from_slice, from_str};
use zeroize::Zeroizing;

use super::{
    codec::VERSION,
    dto::Record,
    section::Section,
    strict_json::{self, Name},
};
use crate::{ids::Tenant, session::Session};

/// The bytes to read at a time. A session takes half a kilobyte.
pub(super) const WINDOW: u64 = 32 * 1024;

/// Finds the tenant's session in the text of a store, which is `len` bytes long. `read_at` reads
/// from an offset into a buffer. `window` is the number of bytes to read at a time.
pub(super) fn find_session(
    read_at: impl FnMut(u64, &mut [u8]) -> io::Result<usize>,
    len: u64,
    window: u64,
    tenant: &Tenant,
) -> Option<Session> {
    let bytes = Zeroizing::new(vec![0; usize::try_from(window.min(len)).ok()?]);
    let mut text = Window { read_at, offset: 0, len, bytes, start: 0, end: 0 };
    enter_sessions(&mut text)?;
    let tenant = tenant.to_string();
    loop {
        let is_wanted = text.name()? == tenant;
        text.skip(b':')?;
        let value = text.value()?;
        if is_wanted {
            let session = str::from_utf8(value).ok()?;
            strict_json::check(session).ok()?;
            let Record(session) = from_str(session).ok()?;
            return Some(session);
        }
        text.skip(b',')?;
    }
}

/// Moves to the first member of `sessions`, if the version comes before it.
fn enter_sessions<R: FnMut(u64, &mut [u8]) -> io::Result<usize>>(text: &mut Window<R>) -> Option<()> {
    let mut has_version = false;
    text.skip(b'{')?;
    loop {
        let name = text.name()?;
        let (is_version, is_sessions) = (name == "version", name == Section::Sessions.name());
        text.skip(b':')?;
        if is_sessions {
            return if has_version { text.skip(b'{') } else { None };
        }
        let value = text.value()?;
        if is_version {
            if has_version || from_slice::<u64>(value).ok()? != VERSION {
                return None;
            }
            has_version = true;
        }
        text.skip(b',')?;
    }
}

/// The part of the text that is in memory. Each method returns `None` if the text ends or is not of
/// the expected form.
struct Window<R> {
    read_at: R,
    /// The offset in the text of the byte after the window.
    offset: u64,
    /// The length of the text.
    len: u64,
    /// The window is `start..end` of it. It holds secrets.
    bytes: Zeroizing<Vec<u8>>,
    start: usize,
    end: usize,
}

impl<R: FnMut(u64, &mut [u8]) -> io::Result<usize>> Window<R> {
    /// Skips white space and this byte.
    fn skip(&mut self, wanted: u8) -> Option<()> {
        loop {
            let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
            match self.bytes[self.start..self.end].iter().position(|byte| !is_space(byte)) {
                Some(spaces) => {
                    self.start += spaces + 1;
                    return (self.bytes[self.start - 1] == wanted).then_some(());
                }
                None => {
                    self.start = self.end;
                    self.read()?;
                }
            }
        }
    }

    /// Returns the text of the next value.
    fn value(&mut self) -> Option<&[u8]> {
        // A value that the window cuts in two is an error of serde_json. The first error is slow: it
        // looks for the line in the fastest way that the processor has, and a virtual machine
        // answers slowly which that is.
        if self.end - self.start < self.bytes.len() / 8 {
            let _ = self.read();
        }
        let len = loop {
            let window = &self.bytes[self.start..self.end];
            let mut values = Deserializer::from_slice(window).into_iter::<IgnoredAny>();
            match values.next() {
                // A number at the end of the window may go on after it.
                Some(Ok(_)) if values.byte_offset() < window.len() || window.ends_with(b"}") => {
                    break values.byte_offset();
                }
                Some(Err(error)) if !error.is_eof() => return None,
                _ => self.read()?,
            }
        };
        self.start += len;
        Some(&self.bytes[self.start - len..self.start])
    }

    /// Returns the next value, which is a name.
    fn name(&mut self) -> Option<Cow<'_, str>> {
        let Name(name) = from_slice(self.value()?).ok()?;
        Some(name)
    }

    /// Reads on. A value that fills the window makes it longer.
    fn read(&mut self) -> Option<()> {
        if self.offset == self.len {
            return None;
        }
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.end == self.bytes.len() {
            let mut longer = Zeroizing::new(vec![0; self.end * 2]);
            longer[..self.end].copy_from_slice(&self.bytes);
            self.bytes = longer;
        }
        let read = (self.read_at)(self.offset, &mut self.bytes[self.end..]).ok()?;
        self.offset += read as u64;
        self.end += read;
        (read > 0).then_some(())
    }
}

#[cfg(test)]
mod tests;
