//! Faults for tests: a named call on a named file fails, or its process dies there.
//!
//! The text is a list, separated by `,`, of `CALL[@SUFFIX]:ERRNO`, `kill-before:CALL[@SUFFIX]` and
//! `kill-after:CALL[@SUFFIX]`. CALL is the word that [`RealDisk`](super::disk::RealDisk) passes,
//! and SUFFIX is the end of the path. `fsync@.lock:EIO` is a journal that cannot be made durable;
//! `kill-before:rename` dies with the temp file complete. A fault that ends in `#N` strikes only at
//! the N-th match, any other strikes at each.
//!
//! `record:FILE` strikes at no call. It appends a line `CALL PATH` to FILE before each call, so
//! that a test learns which calls there are.

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

/// The variable that holds the list.
pub const FAULTS_VARIABLE: &str = "THREADKEY_TEST_FAILPOINTS";

/// A list of faults; clones count together.
#[derive(Clone, Default)]
pub struct Faults(Arc<Vec<Fault>>);

/// A function that a test runs before a call. It gets the path.
pub type Hook = Box<dyn Fn(&Path) + Send + Sync>;

struct Fault {
    call: String,
    suffix: String,
    effect: Effect,
    only: Option<u32>,
    matched: AtomicU32,
}

enum Effect {
    Fail(i32),
    KillBefore,
    KillAfter,
    Run(Hook),
    Record(PathBuf),
}

impl Faults {
    /// The faults that [`FAULTS_VARIABLE`] names; none without it.
    ///
    /// # Panics
    /// When it cannot be read.
    pub fn from_environment() -> Self {
        std::env::var(FAULTS_VARIABLE).map(|text| Self::parse(&text)).unwrap_or_default()
    }

    /// The faults that `text` names.
    ///
    /// # Panics
    /// When it cannot be read.
    pub fn parse(text: &str) -> Self {
        Self(Arc::new(text.split(',').filter(|part| !part.is_empty()).map(Fault::parse).collect()))
    }

    /// Runs `hook` before each of the calls that `target`, a `CALL[@SUFFIX][#N]`, names.
    ///
    /// # Panics
    /// When `target` cannot be read.
    pub fn hook(target: &str, hook: Hook) -> Self {
        Self(Arc::new(vec![Fault {
            effect: Effect::Run(hook),
            ..Fault::parse(&format!("kill-before:{target}"))
        }]))
    }

    pub(super) fn around<T>(
        &self,
        call: &str,
        path: &Path,
        run: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let effect = self.0.iter().find(|fault| fault.strikes(call, path)).map(|fault| &fault.effect);
        match effect {
            Some(Effect::Fail(errno)) => return Err(io::Error::from_raw_os_error(*errno)),
            Some(Effect::KillBefore) => kill(),
            Some(Effect::Run(hook)) => hook(path),
            Some(Effect::Record(to)) => record(to, call, path),
            Some(Effect::KillAfter) | None => {}
        }
        let result = run();
        if matches!(effect, Some(Effect::KillAfter)) {
            kill();
        }
        result
    }
}

impl Fault {
    fn parse(text: &str) -> Self {
        let bad = || -> ! { panic!("{text:?} is not a fault: see the documentation of sys::faults") };
        let (body, only) = match text.split_once('#') {
            Some((body, number)) => (body, Some(number.parse().unwrap_or_else(|_| bad()))),
            None => (text, None),
        };
        let (target, effect) = match body.split_once(':') {
            Some(("kill-before", target)) => (target, Effect::KillBefore),
            Some(("kill-after", target)) => (target, Effect::KillAfter),
            Some(("record", to)) => ("", Effect::Record(to.into())),
            Some((target, errno)) => (target, Effect::Fail(number(errno).unwrap_or_else(|| bad()))),
            None => bad(),
        };
        let (call, suffix) = target.split_once('@').unwrap_or((target, ""));
        Self { call: call.into(), suffix: suffix.into(), effect, only, matched: AtomicU32::new(0) }
    }

    fn strikes(&self, call: &str, path: &Path) -> bool {
        let matches =
            (self.call == call || self.call.is_empty()) && path.to_string_lossy().ends_with(&self.suffix);
        matches && {
            let count = self.matched.fetch_add(1, Ordering::SeqCst) + 1;
            self.only.is_none_or(|only| only == count)
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the file is the test's, not the program's")]
fn record(to: &Path, call: &str, path: &Path) {
    let written = OpenOptions::new()
        .append(true)
        .create(true)
        .open(to)
        .and_then(|mut file| file.write_all(format!("{call} {}\n", path.display()).as_bytes()));
    written.unwrap_or_else(|error| panic!("{}: {error}", to.display()));
}

fn number(errno: &str) -> Option<i32> {
    Some(match errno {
        "EACCES" => libc::EACCES,
        "EBUSY" => libc::EBUSY,
        "EIO" => libc::EIO,
        "EMFILE" => libc::EMFILE,
        "ENOSPC" => libc::ENOSPC,
        "EROFS" => libc::EROFS,
        "EXDEV" => libc::EXDEV,
        _ => return None,
    })
}

#[expect(unsafe_code, reason = "a process that kills itself cannot clean up, which the tests need")]
fn kill() -> ! {
    // SAFETY: kill and getpid take and return integers; the signal cannot be handled.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    loop {
        std::thread::park();
    }
}
