//! Removes secrets from texts, for Discord and for the log (adr/0035).
//!
//! Each secret that enters or leaves this process is noted: tokens of the store, of a provider's
//! answer and of the configuration, capabilities, verifiers, and codes while they are exchanged. A
//! noted secret stays known until [`known::MAX_KNOWN`] newer ones have followed, also after its
//! expiry. A pinned secret stays known at least as long as its [`Pin`] lives.

use std::{
    fmt,
    sync::{Arc, LazyLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use zeroize::Zeroizing;

use super::known::KnownSecrets;

/// The text that replaces a secret.
const REPLACEMENT: &str = "[secret removed]";
/// The length in bytes up to which an incomplete word is held back.
const MAX_HELD: usize = 8 * 1024;

static OF_PROCESS: LazyLock<Scrubber> = LazyLock::new(Scrubber::new);

/// Removes the secrets that it knows. Clones share them.
#[derive(Clone, Default)]
pub struct Scrubber(Arc<RwLock<KnownSecrets>>);

impl fmt::Debug for Scrubber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scrubber(…)")
    }
}

impl Scrubber {
    /// A scrubber that knows no secrets.
    pub fn new() -> Self {
        Self::default()
    }

    /// The scrubber of this process.
    pub fn of_process() -> &'static Self {
        &OF_PROCESS
    }

    fn read(&self) -> RwLockReadGuard<'_, KnownSecrets> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, KnownSecrets> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a secret among the newest ones. An empty text is ignored.
    pub fn note(&self, secret: &str) {
        // A token that is handed out again and again costs its callers no exclusive lock.
        if !self.read().is_among_the_newest(secret) {
            self.write().note(secret);
        }
    }

    /// Remembers a secret until the result is dropped.
    #[must_use = "the secret is forgotten when the pin is dropped"]
    pub fn pin(&self, secret: &str) -> Pin {
        Pin { secret: self.write().pin(secret), scrubber: self.clone() }
    }

    /// Remembers a secret as long as this scrubber exists.
    pub fn keep(&self, secret: &str) {
        let _ = self.write().pin(secret);
    }

    /// Returns the text without secrets.
    pub fn clean(&self, text: &str) -> String {
        let known = self.read();
        if known.is_empty() {
            return text.to_owned();
        }
        replaced(text, &known.find(text))
    }
}

fn replaced(text: &str, secrets: &[std::ops::Range<usize>]) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut done = 0;
    for part in secrets {
        clean.push_str(&text[done..part.start]);
        clean.push_str(REPLACEMENT);
        done = part.end;
    }
    clean.push_str(&text[done..]);
    clean
}

/// Keeps a secret known.
pub struct Pin {
    scrubber: Scrubber,
    secret: Option<Arc<Zeroizing<Vec<u8>>>>,
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pin(…)")
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        if let Some(secret) = &self.secret {
            self.scrubber.write().unpin(secret);
        }
    }
}

/// Scrubs a text that arrives in pieces. It holds back an incomplete last word, and every end that
/// a secret may begin with. So no piece of a secret becomes visible.
#[derive(Debug)]
pub struct Stream {
    scrubber: Scrubber,
    held: String,
}

impl Stream {
    /// Begins a text.
    pub fn new(scrubber: Scrubber) -> Self {
        Self { scrubber, held: String::new() }
    }

    /// Scrubs a whole text that is not part of the stream.
    pub fn clean(&self, text: &str) -> String {
        self.scrubber.clean(text)
    }

    /// Adds a piece. Returns the text that is safe to show.
    pub fn push(&mut self, text: &str) -> String {
        self.held.push_str(text);
        let known = self.scrubber.read();
        let secrets = known.find(&self.held);
        let word = match self.held.rfind(|c: char| !c.is_ascii_graphic()) {
            Some(at) => at + self.held[at..].chars().next().map_or(0, char::len_utf8),
            None => 0,
        };
        // A word that never ends is shown, except for an end that may be the beginning of a secret.
        let word = if self.held.len() - word > MAX_HELD { self.held.len() } else { word };
        let mut safe = known.unfinished(&self.held).map_or(word, |at| at.min(word));
        if let Some(cut) = secrets.iter().find(|part| part.start < safe && safe < part.end) {
            safe = cut.start;
        }
        drop(known);
        let rest = self.held.split_off(safe);
        let whole = std::mem::replace(&mut self.held, rest);
        let secrets: Vec<_> = secrets.into_iter().filter(|part| part.end <= safe).collect();
        replaced(&whole, &secrets)
    }

    /// Ends the stream. Returns the rest of the text.
    pub fn finish(&mut self) -> String {
        self.scrubber.clean(&std::mem::take(&mut self.held))
    }
}

#[cfg(test)]
mod tests;
