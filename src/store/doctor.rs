//! Checks whether a store's path is fit for a store, by the operations of the store on files of the
//! checks' own.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    FileStoreOptions, StoreError,
    error::failed,
    location::Location,
    paths::Paths,
    store_file::StoreFile,
    unread::{self, UnreadFile},
};
use crate::{
    ids::hex,
    sys::{
        clock::Clock,
        disk::{Disk, Open, RealDisk},
        lock::{self, Lock},
        random,
    },
};

/// The free space, in bytes, below which [`doctor`] warns.
const LITTLE_SPACE: u64 = 64 * 1024 * 1024;

/// How long [`doctor`] waits for the global lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// One check of [`doctor`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Its subject.
    pub name: &'static str,
    /// Its result.
    pub verdict: Verdict,
    /// The finding, and the next step.
    pub sentence: String,
    /// Whether a failure may end by itself.
    pub is_temporary: bool,
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and could be better.
    Warn,
    /// threadkey does not work like this.
    Fail,
}

/// Checks everything that the store at `path` needs. It makes and removes files of its own beside
/// the store, and does not change the store. To check the lock between two processes it starts this
/// program as `__lock-probe PATH`. That process prints `held` where [`lock_probe`] is true and
/// `free` where it is not.
pub fn doctor(path: &Path, options: FileStoreOptions) -> Vec<Check> {
    examine(std::sync::Arc::new(RealDisk::new()), path, options, &lock::probe_from_another_process)
}

/// Whether another process holds the lock of the file at `path` exclusively. `false` if the file is
/// missing.
pub fn lock_probe(path: &Path) -> bool {
    let probe = || -> io::Result<bool> {
        let file = RealDisk::new().open(path, Open::Read)?;
        Ok(Lock::try_exclusive(file)?.is_none())
    };
    probe().unwrap_or(false)
}

/// Asks another process whether a lock is held.
pub(super) type AskAnother<'a> = &'a dyn Fn(&Path) -> io::Result<bool>;

pub(super) fn examine(
    disk: std::sync::Arc<dyn Disk>,
    path: &Path,
    options: FileStoreOptions,
    ask: AskAnother<'_>,
) -> Vec<Check> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let store_file = StoreFile::new(disk, path, Clock::system(), options);
    let location = &*store_file.location;
    let paths = match location.locate() {
        Ok(paths) => paths,
        Err(error) => return vec![check("store path", Err(error))],
    };
    if let Err(error) = location.check_owner(&paths) {
        // A file of this user, even one that is removed again, does not belong there.
        return vec![path_check(location, &paths), check("store owner", Err(error))];
    }
    let mut checks =
        vec![path_check(location, &paths), check("store file system", file_system(location, &paths))];
    if location.disk.stat(&paths.folder).is_err() {
        checks.push(check("store folder", missing_folder(location, &paths)));
        return checks;
    }
    checks.push(check("store folder", folder(location, &paths)));
    checks.push(check("store file", file(&store_file, &paths)));
    checks.push(check("store modes", modes(location, &paths)));
    checks.push(check("store space", space(location, &paths)));
    checks.push(check("store writing", writing(location, &paths)));
    checks.extend(locking(location, &paths, ask));
    checks.push(check("store lock", global_lock(location, &paths)));
    checks.extend(stopped_holders(location, &paths));
    checks.extend(unread_answers(location, &paths));
    checks
}

type Finding = Result<(Verdict, String), StoreError>;

fn check(name: &'static str, finding: Finding) -> Check {
    let is_temporary = matches!(finding, Err(StoreError::Busy { .. }));
    let (verdict, sentence) = finding.unwrap_or_else(|error| (Verdict::Fail, error.to_string()));
    Check { name, verdict, sentence, is_temporary }
}

fn path_check(location: &Location, paths: &Paths) -> Check {
    let sentence = if location.path == paths.file {
        format!("{} is the store", paths.file.display())
    } else {
        format!(
            "{} leads to {}; locks and temp files are there",
            location.path.display(),
            paths.file.display()
        )
    };
    check("store path", Ok((Verdict::Ok, sentence)))
}

fn file_system(location: &Location, paths: &Paths) -> Finding {
    location.check_file_system(paths)?;
    let folder = location.nearest(&paths.folder);
    let found = location.disk.file_system(folder).map_err(failed("cannot examine", folder))?;
    let paths = paths.folder.display();
    Ok(if found.locks_hold {
        (Verdict::Ok, format!("{paths} is on {}", found.name))
    } else {
        (Verdict::Warn, format!("{paths} is on {}, which store.trust_filesystem allows", found.name))
    })
}

fn missing_folder(location: &Location, paths: &Paths) -> Finding {
    let above = location.nearest(&paths.folder);
    location.disk.check_writable(above).map_err(failed("cannot make the store's folder in", above))?;
    Ok((Verdict::Ok, format!("{} is made at the first sign-in", paths.folder.display())))
}

fn folder(location: &Location, paths: &Paths) -> Finding {
    location.check_folder(&paths.folder)?;
    let stat = location.disk.stat(&paths.folder).map_err(failed("cannot examine", &paths.folder))?;
    let folder = paths.folder.display();
    Ok(match stat.mode & 0o777 {
        mode if mode & 0o077 == 0 => (Verdict::Ok, format!("{folder} has mode {mode:04o}")),
        mode => (
            Verdict::Warn,
            format!(
                "{folder} has mode {mode:04o}, so other users see which tenants there are: run chmod 700 {folder}"
            ),
        ),
    })
}

fn file(store_file: &StoreFile, paths: &Paths) -> Finding {
    let path = paths.file.display();
    if store_file.location.disk.stat(&paths.file).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    {
        return Ok((Verdict::Ok, format!("{path} is made at the first sign-in")));
    }
    let version = store_file.writable(paths)?;
    let records = version.as_ref().map(|version| version.records()).unwrap_or_default();
    let sessions = records.values().filter(|entry| entry.session.is_some()).count();
    Ok(match version.map_or(0, |version| version.foreign()) {
        0 => (Verdict::Ok, format!("{path} can be read; sessions: {sessions}")),
        foreign => (
            Verdict::Warn,
            format!(
                "{path} can be read; sessions: {sessions}; entries that this threadkey does not know, and keeps: {foreign}"
            ),
        ),
    })
}

/// Checks that no other user can read or write a file beside the store. A copy made with `cp -r`
/// has other modes than its original.
fn modes(location: &Location, paths: &Paths) -> Finding {
    let mut wrong = Vec::new();
    let mut count = 0;
    for path in private_paths(location, paths)? {
        let stat = match location.disk.stat(&path) {
            Ok(stat) => stat,
            // Another process has just removed a temp file.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed("cannot examine", &path)(error)),
        };
        count += 1;
        if stat.mode & 0o077 != 0 {
            wrong.push((path, stat.mode & 0o777));
        }
    }
    let Some((first, mode)) = wrong.first() else {
        return Ok((Verdict::Ok, format!("only this user can read its files and folders ({count})")));
    };
    let others = match wrong.len() - 1 {
        0 => String::new(),
        others => format!(", and {others} more have such a mode"),
    };
    let what = format!(
        "{} has mode {mode:04o}, so other users may read or lock it{others}: run chmod go-rwx {}",
        first.display(),
        wrong.iter().map(|(path, _)| path.display().to_string()).collect::<Vec<_>>().join(" ")
    );
    // The store does not use such a file of its own.
    let is_refused = |path: &Path| path == paths.file || path.extension().is_some_and(|end| end == "lock");
    let is_unusable = wrong.iter().any(|(path, _)| is_refused(path));
    Ok((if is_unusable { Verdict::Fail } else { Verdict::Warn }, what))
}

/// Returns the store's folders and files other than the socket and the store's own folder.
fn private_paths(location: &Location, paths: &Paths) -> Result<Vec<PathBuf>, StoreError> {
    let list = |folder: &Path| match location.disk.list(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        names => names.map_err(failed("cannot read", folder)),
    };
    let store_name = paths.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let is_ours = |name: &str| {
        name == "conversations.json" || name.strip_prefix('.').unwrap_or(name).starts_with(&store_name)
    };
    let beside = list(&paths.folder)?.into_iter().filter(|name| name.to_str().is_some_and(is_ours));
    let mut all: Vec<_> = beside.map(|name| paths.folder.join(name)).collect();
    let folder = paths.tenant_locks();
    all.extend(list(&folder)?.into_iter().map(|name| folder.join(name)));
    all.sort();
    Ok(all)
}

fn space(location: &Location, paths: &Paths) -> Finding {
    let free = location.disk.free_space(&paths.folder).map_err(failed("cannot examine", &paths.folder))?;
    let mib = free / (1024 * 1024);
    Ok(if free < LITTLE_SPACE {
        let folder = paths.folder.display();
        let what = format!(
            "{mib} MiB are free at {folder}: free some space, because nothing is refreshed while nothing can be saved"
        );
        (Verdict::Warn, what)
    } else {
        (Verdict::Ok, format!("{mib} MiB are free"))
    })
}

fn writing(location: &Location, paths: &Paths) -> Finding {
    let (first, second) = (probe_path(paths), probe_path(paths));
    let written = location
        .write_temp(&first, b"threadkey doctor\n")
        .and_then(|_| location.disk.rename(&first, &second))
        .and_then(|()| location.disk.sync_folder(&paths.folder));
    for path in [&first, &second] {
        let _ = location.disk.remove(path);
    }
    written.map_err(failed("cannot write, rename and sync in", &paths.folder))?;
    Ok((Verdict::Ok, format!("a file in {} can be written, renamed and synced", paths.folder.display())))
}

fn locking(location: &Location, paths: &Paths, ask: AskAnother<'_>) -> [Check; 2] {
    let path = probe_path(paths);
    let checks = [
        check("locks in one process", two_descriptors(location, &path)),
        check("locks between processes", two_processes(location, &path, ask)),
    ];
    let _ = location.disk.remove(&path);
    checks
}

fn two_descriptors(location: &Location, path: &Path) -> Finding {
    let Some(_held) = take(location, path)? else { return Ok(not_taken(path)) };
    Ok(match take(location, path)? {
        None => (Verdict::Ok, "two descriptors of one process exclude each other".to_owned()),
        Some(_) => no_exclusion(path, "descriptors"),
    })
}

fn two_processes(location: &Location, path: &Path, ask: AskAnother<'_>) -> Finding {
    let Some(held) = take(location, path)? else { return Ok(not_taken(path)) };
    let while_held = ask(path).map_err(failed("cannot ask a second process about", path))?;
    drop(held);
    let afterwards = ask(path).map_err(failed("cannot ask a second process about", path))?;
    Ok(match (while_held, afterwards) {
        (true, false) => (Verdict::Ok, "two processes exclude each other".to_owned()),
        (true, true) => (Verdict::Fail, format!("the lock of {} stays after its release", path.display())),
        (false, _) => no_exclusion(path, "processes"),
    })
}

/// Checks that the global lock is held for moments only.
fn global_lock(location: &Location, paths: &Paths) -> Finding {
    let path = paths.global_lock();
    let file = match location.disk.open(&path, Open::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok((Verdict::Ok, "no process has changed the store yet".to_owned()));
        }
        Err(error) => return Err(failed("cannot open", &path)(error)),
    };
    match Lock::exclusive_within(file, LOCK_PATIENCE).map_err(failed("cannot lock", &path))? {
        Some(_) => Ok((Verdict::Ok, format!("{} is free", path.display()))),
        None => Err(StoreError::Busy { holder: location.disk.lock_holder(&path), path }),
    }
}

/// Finds the tenants whose locks are held by stopped processes.
fn stopped_holders(location: &Location, paths: &Paths) -> Vec<Check> {
    let folder = paths.tenant_locks();
    let names = location.disk.list(&folder).unwrap_or_default();
    let locks = names.into_iter().map(|name| folder.join(name));
    let locks = locks.filter(|path| path.extension().is_some_and(|end| end == "lock"));
    let held = locks.filter_map(|path| {
        let holder = location.disk.lock_holder(&path).filter(|holder| holder.is_stopped)?;
        let what = format!("{} is held by {holder}: {}", path.display(), holder.next_step());
        Some(check("stopped process", Ok((Verdict::Warn, what))))
    });
    held.collect()
}

fn take(location: &Location, path: &Path) -> Result<Option<Lock>, StoreError> {
    Lock::try_exclusive(location.open_lock(path)?).map_err(failed("cannot lock", path))
}

fn not_taken(path: &Path) -> (Verdict, String) {
    let path = path.display();
    (Verdict::Fail, format!("another process holds the lock of {path}, a new file; run doctor again"))
}

fn no_exclusion(path: &Path, holders: &str) -> (Verdict, String) {
    let what = format!(
        "flock on {} does not exclude two {holders}, so a refresh token would be spent twice: put the store on a local disk",
        path.display()
    );
    (Verdict::Fail, what)
}

fn unread_answers(location: &Location, paths: &Paths) -> Vec<Check> {
    let name = "answers that could not be read";
    match unread::list(location, paths) {
        Ok(files) => files.into_iter().map(|file| check(name, Ok(unread_answer(file)))).collect(),
        Err(error) => vec![check(name, Err(error))],
    }
}

fn unread_answer(UnreadFile { path, tenant, answer }: UnreadFile) -> (Verdict, String) {
    let path = path.display();
    let what = match answer {
        Ok(answer) => format!(
            "{path} holds an answer of the provider for {tenant}, HTTP {}, that threadkey could not read, or that is for another account; it may hold \
             the only copy of a new refresh token",
            answer.status
        ),
        Err(error) => format!("an answer of the provider for {tenant} was kept and is damaged: {error}"),
    };
    let next = format!(
        "update threadkey if an update reads such answers; if the session does not work, sign in again. A sign-in, a \
         logout and the next successful refresh of {tenant} remove the file"
    );
    (Verdict::Warn, format!("{what}: {next}"))
}

/// Returns a name that neither the store nor its cleaning of temp files uses.
fn probe_path(paths: &Paths) -> PathBuf {
    paths.folder.join(format!(".threadkey-doctor.{}", hex(&random::bytes::<8>())))
}
