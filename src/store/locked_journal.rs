//! A tenant's lock, and the journal that is its content: the blocking part.
//!
//! # What happens when the holder dies, line by line
//!
//! 1. *[`LockedJournal::try_take`] took the lock.* The journal is as the last holder left it.
//!    Death: the kernel releases the lock.
//! 2. *`intend`: write the intent, reserve space for the answer, fsync the file and its folders.*
//!    Death before the fsync leaves a torn or a whole intent, and nothing was sent. A whole intent
//!    counts as sent, which costs a wait and never a token. After an error the journal is put back
//!    as it was.
//! 3. *The request is in progress.* Death: an intent without an answer, the ambiguous outcome.
//! 4. *`record`: write the answer after the intent, in the reserved space, and fsync.* Death before
//!    the answer is whole: as in step 3. Death later: the next holder finds the answer and commits
//!    it.
//! 5. *`commit`*: the steps of [`super::store_file`], under this lock. Death before the rename: as
//!    in step 4. Death later: the next holder finds an answer for a state that is gone, and drops
//!    it.
//! 6. *`keep_unread`, only for an answer that cannot be parsed: write the lines to a temp file,
//!    fsync, rename it to the tenant's `.unread` file, fsync the folder.* The journal keeps its
//!    lines meanwhile. Death at any point: the next holder finds the answer and does this again.
//! 7. *`clear`: fsync the store's folder, then empty the journal.* The order matters. Another
//!    process may have died between its rename and its fsync of the folder. The journal must stay
//!    until that rename is durable.
//! 8. *Unlock.* All waiters wake at once.
//!
//! A caller that waits for such a step may give up: see [`super::tenant_lock`].

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Purpose, StoreError,
    error::{failed, unsuitable},
    journal::{self, MAX_ANSWER},
    location::Location,
    lock_files::MAX_SEARCHES,
    paths::{Paths, unread_temp},
    store_file::StoreFile,
};
use crate::{
    ids::Tenant,
    session::journal::{Answer, Intent, Journal, MAX_BODY},
    sys::{disk::DiskFile, lock::Lock},
};

/// The longest journal that is read, in bytes: far longer than any that is written.
pub(super) const MAX_JOURNAL: u64 = 1024 * 1024;

/// A tenant's lock, held.
pub(super) struct LockedJournal {
    location: Arc<Location>,
    paths: Paths,
    path: PathBuf,
    unread: PathBuf,
    lock: Lock,
}

impl LockedJournal {
    /// Takes the tenant's lock if it is free, and if the result of a request could be saved:
    /// nothing is spent for a store that cannot be written.
    pub(super) fn try_take(
        store_file: &StoreFile,
        tenant: &Tenant,
        purpose: Purpose,
    ) -> Result<Option<Self>, StoreError> {
        let location = &store_file.location;
        for _ in 0..MAX_SEARCHES {
            let paths = location.locate()?;
            location.make_folder(&paths.folder)?;
            store_file.check_writable(&paths)?;
            location.make_folder(&paths.tenant_locks())?;
            let path = paths.tenant_lock(tenant, purpose);
            let file = location.open_lock(&path)?;
            let Some(lock) = Lock::try_exclusive(file).map_err(failed("cannot lock", &path))? else {
                return Ok(None);
            };
            if location.still_there(&paths, &path, &lock)? {
                let unread = paths.unread(tenant);
                return Ok(Some(Self { location: location.clone(), paths, path, unread, lock }));
            }
        }
        location.leads_elsewhere()
    }

    /// The path of the lock file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the journal that the last holder left.
    pub(super) fn journal(&self) -> Result<Journal, StoreError> {
        Ok(self.read()?.journal)
    }

    fn file(&self) -> &dyn DiskFile {
        self.lock.file()
    }

    fn read(&self) -> Result<journal::Read, StoreError> {
        let bytes = self.file().read(MAX_JOURNAL).map_err(failed("cannot read", &self.path))?;
        journal::read(&self.path, &bytes)
    }

    /// Step 2.
    pub(super) fn intend(&self, intent: &Intent) -> Result<(), StoreError> {
        let before = self.file().read(MAX_JOURNAL).map_err(failed("cannot read", &self.path))?;
        if let Journal::Answered(..) = journal::read(&self.path, &before)?.journal {
            return unsuitable(
                &self.path,
                "it holds an answer that is not committed yet; nothing else is sent before it is. This is a defect of threadkey",
            );
        }
        self.write_intent(&journal::intent_line(intent), before.len() as u64).inspect_err(|_| {
            // Nothing was sent. The earlier content is worth more than a torn line.
            let file = self.file();
            let _ = file
                .write_at(0, &before)
                .and_then(|()| file.set_len(before.len() as u64))
                .and_then(|()| file.sync());
        })
    }

    fn write_intent(&self, line: &[u8], old_len: u64) -> Result<(), StoreError> {
        let failed = |action| failed(action, &self.path);
        let len = line.len() as u64;
        let file = self.file();
        file.write_at(0, line).map_err(failed("cannot write"))?;
        if old_len > len {
            file.set_len(len).map_err(failed("cannot write"))?;
        }
        file.reserve(len, len + MAX_ANSWER).map_err(failed("cannot reserve space for an answer in"))?;
        file.sync().map_err(failed("cannot make durable"))?;
        // The lock file or its folder may be new, made by this process or by one that died before
        // this step.
        for folder in [&self.paths.tenant_locks(), &self.paths.folder] {
            self.location.sync(folder)?;
        }
        Ok(())
    }

    /// Step 4.
    pub(super) fn record(&self, answer: &Answer) -> Result<(), StoreError> {
        let read = self.read()?;
        match &read.journal {
            Journal::Intended(_) => {}
            // An earlier try wrote it, perhaps not durably.
            Journal::Answered(_, before) if journal::answer_line(before) == journal::answer_line(answer) => {}
            _ => {
                return unsuitable(
                    &self.path,
                    "an answer needs an intent without an answer before it. This is a defect of threadkey",
                );
            }
        }
        if answer.body.len() > MAX_BODY {
            return unsuitable(&self.path, format!("an answer of more than {MAX_BODY} bytes has no room"));
        }
        self.file()
            .write_at(read.intent_len, &journal::answer_line(answer))
            .map_err(failed("cannot write", &self.path))?;
        self.file().sync().map_err(failed("cannot make durable", &self.path))
    }

    /// Step 6. Replaces the answer that an earlier call kept.
    pub(super) fn keep_unread(&self) -> Result<(), StoreError> {
        let bytes = self.file().read(MAX_JOURNAL).map_err(failed("cannot read", &self.path))?;
        let read = journal::read(&self.path, &bytes)?;
        let Journal::Answered(..) = read.journal else {
            return unsuitable(&self.path, "it holds no answer to keep. This is a defect of threadkey");
        };
        let temp = unread_temp(&self.path);
        self.remove(&temp)?;
        self.location
            .write_temp(&temp, &bytes[..read.len])
            .map_err(failed("cannot write", &temp))
            .and_then(|_| {
                let replaced = self.location.disk.rename(&temp, &self.unread);
                replaced.map_err(failed("cannot replace", &self.unread))
            })
            .inspect_err(|_| {
                // If this fails too, the next holder removes the file.
                let _ = self.location.disk.remove(&temp);
            })?;
        self.location.sync(&self.paths.tenant_locks())
    }

    /// Step 7.
    pub(super) fn clear(&self) -> Result<(), StoreError> {
        let failed = |action| failed(action, &self.path);
        if self.file().stat().map_err(failed("cannot examine"))?.len == 0 {
            return Ok(());
        }
        self.location.sync(&self.paths.folder)?;
        // A holder that died in step 6 may have left it, and a newer program has parsed the answer.
        self.remove(&unread_temp(&self.path))?;
        self.file().set_len(0).map_err(failed("cannot empty"))?;
        self.file().sync().map_err(failed("cannot make durable"))
    }

    fn remove(&self, path: &Path) -> Result<(), StoreError> {
        match self.location.disk.remove(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("cannot remove", path)(error))
            }
            _ => Ok(()),
        }
    }
}
