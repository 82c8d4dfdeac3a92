//! A process on the machine: its calls, and its end.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use threadkey::sys::{
    disk::{Disk, DiskFile, Open, Stat},
    filesystem::FileSystem,
};

use super::{Machine, Node, State, file::OpenFile, gone, not_found};
use crate::crash::{
    content::{Content, Names, Naming},
    faults::{End, Sabotage, When},
};

type Guest = Box<dyn FnOnce() + Send>;

/// One process's view of the disk.
#[derive(Clone)]
pub(in crate::crash) struct Process {
    pub(super) machine: Machine,
    pub(super) id: usize,
    pub(super) sabotage: Sabotage,
    guest: Arc<Mutex<Option<(u64, Guest)>>>,
}

impl Process {
    pub(super) fn new(machine: Machine, id: usize, sabotage: Sabotage) -> Self {
        Self { machine, id, sabotage, guest: Arc::default() }
    }

    /// Ends the process at a later call, counted from now; `None` cancels that.
    pub(in crate::crash) fn ends(&self, end: Option<End>) {
        let mut state = self.machine.state();
        let life = &mut state.processes[self.id];
        life.calls = 0;
        life.end = end;
    }

    /// Whether the process still runs.
    pub(in crate::crash) fn is_alive(&self) -> bool {
        self.machine.state().is_alive(self.id)
    }

    /// Waits until the process has ended.
    pub(in crate::crash) async fn ended(&self) {
        let mut alive = self.machine.state().processes[self.id].alive.subscribe();
        let _ = alive.wait_for(|alive| !alive).await;
    }

    /// Whether the store holds this token without a mark that it may be spent. The lookup counts as
    /// no call.
    pub(in crate::crash) fn store_trusts(&self, path: &Path, refresh_token: &str) -> bool {
        let state = self.machine.state();
        let Ok(Node::File(content)) = state.find(path).map(|node| &state.nodes[node]) else { return false };
        let store: serde_json::Value = serde_json::from_slice(&content.live).unwrap_or_default();
        let mut sessions = store["sessions"].as_object().into_iter().flat_map(|sessions| sessions.values());
        let session = sessions.find(|session| session["refresh_token"] == refresh_token);
        let code = session.and_then(|session| session["retry"]["code"].as_str());
        session.is_some() && !code.is_some_and(|code| code.starts_with("ambiguous_"))
    }

    /// Kills the process (kill -9) between two calls.
    pub(in crate::crash) fn kill(&self) {
        self.machine.state().kill(self.id);
        self.machine.0.changed.notify_all();
    }

    /// Runs `guest` in its own thread after `calls` more calls of this process. The guest runs to
    /// its end, or until it waits for a lock, before this process continues.
    pub(in crate::crash) fn interrupted_at(&self, calls: u64, guest: impl FnOnce() + Send + 'static) {
        *self.guest.lock().unwrap_or_else(PoisonError::into_inner) = Some((calls, Box::new(guest)));
    }

    /// Runs the guest now if the process ended too early for it.
    pub(in crate::crash) fn run_remaining_guest(&self) {
        let guest = self.guest.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((_, guest)) = guest {
            guest();
        }
    }

    fn interrupt(&self) {
        let mut waiting = self.guest.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *waiting {
            Some((0, _)) => {}
            Some((calls, _)) => return *calls -= 1,
            None => return,
        }
        let Some((_, guest)) = waiting.take() else { return };
        drop(waiting);
        let machine = self.machine.clone();
        let before = machine.state().guests_done;
        std::thread::spawn(move || {
            guest();
            machine.state().guests_done += 1;
            machine.0.changed.notify_all();
        });
        let state = self.machine.state();
        let waits = |state: &mut State| state.guests_done == before && state.blocked == 0;
        drop(self.machine.0.changed.wait_while(state, waits).unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn call<T>(&self, run: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        self.interrupt();
        let mut state = self.machine.state();
        if !state.is_alive(self.id) {
            return Err(gone());
        }
        let life = &mut state.processes[self.id];
        life.calls += 1;
        let end = life.end.filter(|end| end.at == life.calls);
        match end {
            None => run(&mut state),
            Some(end) => {
                if end.when == When::After {
                    let _ = run(&mut state);
                }
                state.end(self.id, end.how);
                self.machine.0.changed.notify_all();
                Err(gone())
            }
        }
    }
}

impl Disk for Process {
    fn effective_user(&self) -> u32 {
        0
    }

    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf> {
        self.call(|state| state.find(path).map(|_| path.to_owned()))
    }

    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        self.call(|state| state.find(path).and(Err(io::ErrorKind::InvalidInput.into())))
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        self.call(|state| Ok(state.stat(state.find(path)?)))
    }

    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>> {
        let (node, handle) = self.call(|state| {
            let node = match (state.find(path), how) {
                (Ok(_), Open::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
                (Ok(node), _) => node,
                (Err(error), Open::Read) => return Err(error),
                (Err(_), _) => state.make(path, Node::File(Content::default()))?,
            };
            state.handles += 1;
            Ok((node, state.handles))
        })?;
        Ok(Box::new(OpenFile { process: self.clone(), path: path.to_owned(), node, handle }))
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.call(|state| match state.find(path) {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(_) => state.make(path, Node::Folder(Names::default())).map(drop),
        })
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        self.call(|state| Ok(state.folder(folder)?.live.keys().cloned().collect()))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        assert_eq!(from.parent(), to.parent(), "a rename stays in its folder");
        self.call(|state| {
            let node = state.find(from)?;
            let (folder, from) = state.parent(from)?;
            let to = to.file_name().ok_or_else(not_found)?.to_owned();
            folder.change(Naming::Rename { from, to, node });
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call(|state| {
            state.find(path)?;
            let (folder, name) = state.parent(path)?;
            folder.change(Naming::Unlink(name));
            Ok(())
        })
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.call(|state| {
            let names = state.folder(folder)?;
            if self.sabotage != Sabotage::FolderSync {
                names.sync();
            }
            Ok(())
        })
    }

    fn check_writable(&self, _: &Path) -> io::Result<()> {
        self.call(|_| Ok(()))
    }

    fn is_mount_point(&self, _: &Path) -> io::Result<bool> {
        self.call(|_| Ok(false))
    }

    fn file_system(&self, _: &Path) -> io::Result<FileSystem> {
        self.call(|_| Ok(FileSystem { name: "simulated".into(), locks_hold: true }))
    }

    fn free_space(&self, _: &Path) -> io::Result<u64> {
        self.call(|_| Ok(u64::MAX))
    }
}
