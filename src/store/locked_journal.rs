//! A tenant's lock, and the journal that is its content: the blocking part.
//!
//! # What happens when the holder dies, line by line
//!
//! 1. *[`LockedJournal::try_take`] got the lock.* The journal is as the last holder left it. Dying: the kernel lets go.
//! 2. *`intend`: write the intent, reserve space for the answer, fsync file and folders.* Dying before the fsync: a torn
//!    or a whole intent, and nothing was sent; a whole one counts as sent, which costs a wait, never a token. An error:
//!    the journal is put back as it was.
//! 3. *The request is on its way.* Dying: an intent without an answer, which is the ambiguous outcome.
//! 4. *`record`: write the answer behind the intent, in the reserved space, fsync.* Dying before it is whole: as 3.
//!    After: the next holder finds the answer and commits it.
//! 5. *`commit`*: the steps of [`super::store_file`], under this lock. Dying before the rename: as 4. After: the next holder
//!    finds an answer to what is no longer there, and drops it.
//! 6. *`clear`: fsync the store's folder, then empty the journal.* The order matters: another process may have died between
//!    its rename and its fsync of the folder, and the journal must outlive that until the rename is durable.
//! 7. *Unlock.* Waiters wake, all at once.
//!
//! Whoever waits for one of these steps may give up: see [`super::tenant_lock`].

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Purpose, StoreError,
    error::{failed, unsuitable},
    journal::{self, MAX_ANSWER},
    location::Location,
    lock_files::MAX_SEARCHES,
    paths::Paths,
    store_file::StoreFile,
};
use crate::{
    ids::Tenant,
    session::journal::{Answer, Intent, Journal, MAX_BODY},
    sys::{disk::DiskFile, lock::Lock},
};

/// The longest journal that is read, in bytes: far above what is ever written.
const MAX_JOURNAL: u64 = 1024 * 1024;

/// A tenant's lock, held.
pub(super) struct LockedJournal {
    location: Arc<Location>,
    paths: Paths,
    path: PathBuf,
    lock: Lock,
}

impl LockedJournal {
    /// Takes the tenant's lock if nobody has it, and if what comes of holding it could be saved: nothing is spent for
    /// a store that cannot be written.
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
                return Ok(Some(Self { location: location.clone(), paths, path, lock }));
            }
        }
        location.leads_elsewhere()
    }

    /// The lock file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What the last holder left.
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

    pub(super) fn intend(&self, intent: &Intent) -> Result<(), StoreError> {
        let before = self.file().read(MAX_JOURNAL).map_err(failed("cannot read", &self.path))?;
        if let Journal::Answered(..) = journal::read(&self.path, &before)?.journal {
            return unsuitable(
                &self.path,
                "it holds an answer that is not committed yet; nothing else is sent before it is. This is a defect of threadkey",
            );
        }
        self.write_intent(&journal::intent_line(intent), before.len() as u64).inspect_err(|_| {
            // Nothing was sent. What was there before says more than a torn line does.
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
        // The lock file or its folder may be new, made by us or by somebody who died before this step.
        for folder in [&self.paths.tenant_locks(), &self.paths.folder] {
            let failed = super::error::failed("cannot make durable what is in", folder);
            self.location.disk.sync_folder(folder).map_err(failed)?;
        }
        Ok(())
    }

    pub(super) fn record(&self, answer: &Answer) -> Result<(), StoreError> {
        let read = self.read()?;
        match &read.journal {
            Journal::Intended(_) => {}
            // Written before, and perhaps not durably.
            Journal::Answered(_, before) if journal::answer_line(before) == journal::answer_line(answer) => {}
            _ => {
                return unsuitable(
                    &self.path,
                    "an answer belongs behind an intent that has none. This is a defect of threadkey",
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

    pub(super) fn keep_unread(&self) -> Result<(), StoreError> {
        Ok(())
    }

    pub(super) fn clear(&self) -> Result<(), StoreError> {
        let failed = |action| failed(action, &self.path);
        if self.file().stat().map_err(failed("cannot examine"))?.len == 0 {
            return Ok(());
        }
        self.location.sync_folder(&self.paths)?;
        self.file().set_len(0).map_err(failed("cannot empty"))?;
        self.file().sync().map_err(failed("cannot make durable"))
    }
}
