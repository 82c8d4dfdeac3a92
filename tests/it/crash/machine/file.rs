//! A file that a process has open: its writes, its durability, and its flock.

use std::{io, path::PathBuf, sync::PoisonError};

use threadkey::sys::{
    disk::{DiskFile, Stat},
    lock::Mode,
};
use zeroize::Zeroizing;

use super::{Process, gone};
use crate::crash::{
    content::{Content, Write},
    faults::{Durability, Sabotage},
};

/// An open file of a process.
pub(super) struct OpenFile {
    pub(super) process: Process,
    pub(super) path: PathBuf,
    pub(super) node: usize,
    pub(super) handle: usize,
}

impl OpenFile {
    fn is_tenant_lock(&self) -> bool {
        self.path.to_string_lossy().contains(".refresh/")
    }

    fn holds_an_answer(&self, file: &Content) -> bool {
        // A search in text is fast without optimisation too. The walk asks this at each write and sync.
        let lines = |text: &str| text.matches('\n').count();
        self.is_tenant_lock() && std::str::from_utf8(&file.live).map_or(0, lines) == 2
    }

    fn is_sign_in(&self) -> bool {
        self.path.to_string_lossy().ends_with(".signin.lock")
    }

    /// Whether the program releases this lock as soon as it is taken.
    fn releases_early(&self) -> bool {
        match self.process.sabotage {
            Sabotage::GlobalLock => self.path.to_string_lossy().ends_with(".global.lock"),
            Sabotage::TenantLock => self.is_tenant_lock() && !self.is_sign_in(),
            Sabotage::SignInLock => self.is_sign_in(),
            _ => false,
        }
    }
}

impl DiskFile for OpenFile {
    fn stat(&self) -> io::Result<Stat> {
        self.process.call(|state| Ok(state.stat(self.node)))
    }

    fn read(&self, limit: u64) -> io::Result<Zeroizing<Vec<u8>>> {
        self.process.call(|state| {
            let live = &state.file(self.node).live;
            Ok(Zeroizing::new(live[..live.len().min(limit as usize)].to_vec()))
        })
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        self.process.call(|state| {
            let live = state.file(self.node).live.get(offset as usize..).unwrap_or_default();
            let read = live.len().min(bytes.len());
            bytes[..read].copy_from_slice(&live[..read]);
            Ok(read)
        })
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.process.call(|state| {
            let file = state.file(self.node);
            file.write(Write::At(offset as usize, bytes.to_vec()));
            if self.holds_an_answer(file) {
                (self.process.machine.0.journalled)(&self.path, Durability::Volatile);
            }
            Ok(())
        })
    }

    fn reserve(&self, _: u64, to: u64) -> io::Result<()> {
        self.process.call(|state| {
            let zeros = state.reserves_with_zeros;
            let file = state.file(self.node);
            if zeros && file.live.len() < to as usize {
                file.write(Write::Len(to as usize));
            }
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.process.call(|state| {
            state.file(self.node).write(Write::Len(len as usize));
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        let sabotage = self.process.sabotage;
        let omitted = match sabotage {
            Sabotage::JournalSync => self.is_tenant_lock() && !self.is_sign_in(),
            Sabotage::SignInJournalSync => self.is_sign_in(),
            Sabotage::StoreSync => !self.is_tenant_lock(),
            _ => false,
        };
        self.process.call(|state| {
            let file = state.file(self.node);
            if !omitted {
                file.sync();
            }
            let answered = self.holds_an_answer(file);
            if answered && self.is_sign_in() && sabotage == Sabotage::SignInJournalKept {
                file.write(Write::Len(0));
                file.sync();
            }
            if answered {
                (self.process.machine.0.journalled)(&self.path, Durability::Durable);
            }
            Ok(())
        })
    }

    fn lock(&self, mode: Mode) -> io::Result<()> {
        self.process.call(|_| Ok(()))?;
        let shared = &self.process.machine.0;
        let mut state = self.process.machine.state();
        let mut waits = false;
        while state.is_alive(self.process.id) && !state.try_lock(self, mode) {
            if !waits {
                waits = true;
                state.blocked += 1;
                shared.changed.notify_all();
            }
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.blocked -= usize::from(waits);
        if !state.is_alive(self.process.id) {
            return Err(gone());
        }
        if self.releases_early() {
            state.unlock(self);
        }
        Ok(())
    }

    fn try_lock(&self, mode: Mode) -> io::Result<bool> {
        self.process.call(|state| {
            let locked = state.try_lock(self, mode);
            if self.releases_early() {
                state.unlock(self);
            }
            Ok(locked)
        })
    }

    fn unlock(&self) -> io::Result<()> {
        let unlocked = self.process.call(|state| {
            state.unlock(self);
            Ok(())
        });
        self.process.machine.0.changed.notify_all();
        unlocked
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        self.process.machine.state().unlock(self);
        self.process.machine.0.changed.notify_all();
    }
}
