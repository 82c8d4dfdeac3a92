//! Unix time, from one source.
//!
//! All times that are stored or compared are whole Unix seconds from a [`Clock`]. A wait within a
//! process uses `tokio::time` instead, which is monotonic.

use std::{
    sync::OnceLock,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

pub use crate::ids::UnixTime;

/// A source of the time. Clones share it.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    Real,
    #[cfg(feature = "test-util")]
    File(std::sync::Arc<std::path::PathBuf>),
    #[cfg(feature = "test-util")]
    Set(std::sync::Arc<std::sync::atomic::AtomicI64>),
}

/// How often a wait looks at the clock of a test.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The variable that names a clock file, with `test-util` only. A text that begins with `+` or `-`
/// is added to the real time, in seconds; any other is the time itself.
#[cfg(feature = "test-util")]
pub const CLOCK_FILE_VARIABLE: &str = "THREADKEY_TEST_CLOCK";

impl Clock {
    /// The machine's clock. With `test-util` it is the clock file, if `THREADKEY_TEST_CLOCK` names
    /// one.
    pub fn system() -> Self {
        #[cfg(feature = "test-util")]
        if let Some(path) = std::env::var_os(CLOCK_FILE_VARIABLE) {
            return Self(Source::File(std::sync::Arc::new(path.into())));
        }
        Self(Source::Real)
    }

    /// A clock that stands still until it is set.
    #[cfg(feature = "test-util")]
    pub fn fixed(now: UnixTime) -> Self {
        Self(Source::Set(std::sync::Arc::new(now.into())))
    }

    /// Sets a clock made by [`Clock::fixed`].
    ///
    /// # Panics
    /// On any other clock.
    #[cfg(feature = "test-util")]
    pub fn set(&self, now: UnixTime) {
        match &self.0 {
            Source::Set(at) => at.store(now, std::sync::atomic::Ordering::SeqCst),
            other => panic!("only a fixed clock can be set, this is {other:?}"),
        }
    }

    /// Moves a clock made by [`Clock::fixed`].
    ///
    /// # Panics
    /// On any other clock.
    #[cfg(feature = "test-util")]
    pub fn advance(&self, seconds: i64) {
        self.set(self.now() + seconds);
    }

    /// Returns a time that no step of the machine's clock moves, counted from any moment: the
    /// difference of two values is the time between them. With a clock of a test it is that clock's
    /// time.
    pub fn elapsed(&self) -> Duration {
        match &self.0 {
            Source::Real => monotonic(),
            #[cfg(feature = "test-util")]
            Source::File(_) | Source::Set(_) => Duration::from_secs(self.now().try_into().unwrap_or(0)),
        }
    }

    /// Returns a wait for this long, counted from this call. A test that moves its clock moves the end
    /// of the wait too.
    pub fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send + use<> {
        let of_a_test: Option<(Self, Duration)> = match &self.0 {
            Source::Real => None,
            #[cfg(feature = "test-util")]
            Source::File(_) | Source::Set(_) => Some((self.clone(), self.elapsed() + duration)),
        };
        let real = tokio::time::sleep(duration);
        async move {
            let Some((clock, until)) = of_a_test else { return real.await };
            while clock.elapsed() < until {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
    }

    /// Waits for a future, at most this long. Returns `None` at the limit.
    pub async fn within<T>(&self, limit: Duration, future: impl Future<Output = T>) -> Option<T> {
        let limit = self.sleep(limit);
        tokio::select! {
            biased;
            output = future => Some(output),
            () = limit => None,
        }
    }

    /// Returns the time in whole seconds.
    pub fn now(&self) -> UnixTime {
        match &self.0 {
            Source::Real => real(),
            #[cfg(feature = "test-util")]
            Source::File(path) => from_file(path),
            #[cfg(feature = "test-util")]
            Source::Set(at) => at.load(std::sync::atomic::Ordering::SeqCst),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "only this function reads the real clock")]
fn real() -> UnixTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[expect(clippy::disallowed_methods, reason = "only this function reads the monotonic clock")]
fn monotonic() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

#[cfg(feature = "test-util")]
#[expect(clippy::disallowed_methods, reason = "only this function reads the clock file")]
fn from_file(path: &std::path::Path) -> UnixTime {
    let text = std::fs::read_to_string(path)
        .unwrap_or_else(|error| panic!("clock file {}: {error}", path.display()));
    let text = text.trim();
    let number: i64 =
        text.parse().unwrap_or_else(|error| panic!("clock file {}: {text:?}: {error}", path.display()));
    if text.starts_with(['+', '-']) { real() + number } else { number }
}

#[cfg(all(test, feature = "test-util"))]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_clock_stands_until_it_is_moved() {
        let clock = Clock::fixed(1_795_358_672);
        let other = clock.clone();
        clock.advance(-4 * 3600);
        assert_eq!(other.now(), 1_795_358_672 - 4 * 3600);
    }
}
