//! A machine that forgets: a disk whose durable and volatile state are kept apart, and processes that end at any call.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use threadkey::sys::{
    disk::{Disk, DiskFile, Open, Stat},
    filesystem::FileSystem,
    lock::Mode,
};
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::{
    content::{Content, Names, Naming, Write},
    ends::{End, How, Sabotage, When, Written},
};
use crate::support::random::Random;

/// Several processes and one disk; clones are the same machine.
#[derive(Clone)]
pub(super) struct Machine(Arc<Shared>);

type Journalled = Box<dyn Fn(&Path, Written) + Send + Sync>;

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Hears of each journal with an answer in it, under the state's lock.
    journalled: Journalled,
}

#[derive(Default)]
struct State {
    nodes: Vec<Node>,
    processes: Vec<Life>,
    handles: usize,
    /// Who holds a flock, by handle.
    locks: Vec<Held>,
    blocked: usize,
    guests_done: usize,
    power_is_cut: bool,
    /// Whether reserving space extends the file with zeros, as where fallocate(2) is missing.
    reserves_with_zeros: bool,
}

enum Node {
    File(Content),
    Folder(Names),
}

struct Life {
    alive: watch::Sender<bool>,
    calls: u64,
    end: Option<End>,
}

struct Held {
    handle: usize,
    process: usize,
    node: usize,
    mode: Mode,
}

type Guest = Box<dyn FnOnce() + Send>;

/// One process's view of the disk.
#[derive(Clone)]
pub(super) struct Process {
    machine: Machine,
    id: usize,
    sabotage: Sabotage,
    guest: Arc<Mutex<Option<(u64, Guest)>>>,
}

struct OpenFile {
    process: Process,
    path: PathBuf,
    node: usize,
    handle: usize,
}

// === impl Machine ===

impl Machine {
    /// With the folder `/data`, which is there for good.
    pub(super) fn new(
        random: &mut Random,
        journalled: impl Fn(&Path, Written) + Send + Sync + 'static,
    ) -> Self {
        let (state, changed) = (Mutex::default(), Condvar::new());
        let machine = Self(Arc::new(Shared { state, changed, journalled: Box::new(journalled) }));
        let mut state = machine.state();
        let names = BTreeMap::from([("data".into(), 1)]);
        state.nodes.push(Node::Folder(Names { live: names.clone(), durable: names, pending: Vec::new() }));
        state.nodes.push(Node::Folder(Names::default()));
        state.reserves_with_zeros = random.one_in(8);
        drop(state);
        machine
    }

    /// Starts a process.
    pub(super) fn start(&self, sabotage: Sabotage) -> Process {
        let mut state = self.state();
        state.processes.push(Life { alive: watch::Sender::new(true), calls: 0, end: None });
        Process { machine: self.clone(), id: state.processes.len() - 1, sabotage, guest: Arc::default() }
    }

    /// After a power cut: settles what survived. Says whether there was one.
    pub(super) fn power_up(&self, random: &mut Random) -> bool {
        let mut state = self.state();
        if !std::mem::take(&mut state.power_is_cut) {
            return false;
        }
        for node in &mut state.nodes {
            match node {
                Node::File(content) => content.lose(random),
                Node::Folder(names) => names.lose(random),
            }
        }
        true
    }

    /// Cuts the power between two calls.
    pub(super) fn cut_power(&self) {
        self.state().cut_power();
        self.0.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    fn is_alive(&self, process: usize) -> bool {
        *self.processes[process].alive.borrow()
    }

    fn cut_power(&mut self) {
        self.power_is_cut = true;
        self.processes.iter().for_each(|process| _ = process.alive.send_replace(false));
        self.locks.clear();
    }

    fn kill(&mut self, process: usize) {
        self.processes[process].alive.send_replace(false);
        self.locks.retain(|held| held.process != process);
    }

    fn end(&mut self, process: usize, how: How) {
        match how {
            How::Kill => self.kill(process),
            How::PowerCut => self.cut_power(),
        }
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        let mut node = 0;
        for name in path.iter().skip(1) {
            match &self.nodes[node] {
                Node::Folder(names) => node = *names.live.get(name).ok_or_else(not_found)?,
                Node::File(_) => return Err(not_found()),
            }
        }
        Ok(node)
    }

    fn folder(&mut self, path: &Path) -> io::Result<&mut Names> {
        let node = self.find(path)?;
        match &mut self.nodes[node] {
            Node::Folder(names) => Ok(names),
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// The folder that `path` is in, and its name there.
    fn parent(&mut self, path: &Path) -> io::Result<(&mut Names, OsString)> {
        let (folder, name) = (path.parent().ok_or_else(not_found)?, path.file_name().ok_or_else(not_found)?);
        Ok((self.folder(folder)?, name.to_owned()))
    }

    fn make(&mut self, path: &Path, node: Node) -> io::Result<usize> {
        let number = self.nodes.len();
        let (folder, name) = self.parent(path)?;
        folder.change(Naming::Link(name, number));
        self.nodes.push(node);
        Ok(number)
    }

    fn file(&mut self, node: usize) -> &mut Content {
        match &mut self.nodes[node] {
            Node::File(content) => content,
            Node::Folder(_) => unreachable!("only files are opened"),
        }
    }

    fn stat(&self, node: usize) -> Stat {
        let (mode, len, is_file) = match &self.nodes[node] {
            Node::File(content) => (0o600, content.live.len() as u64, true),
            Node::Folder(_) => (0o700, 0, false),
        };
        // Numbers of nodes are never used again, and nobody edits the store in place: no time is needed to tell versions apart.
        Stat {
            device: 1,
            inode: node as u64,
            mode,
            owner: 0,
            links: 1,
            len,
            modified: (0, 0),
            changed: (0, 0),
            is_file,
        }
    }

    /// flock(2): another handle's lock is in the way, unless both are shared.
    fn try_lock(&mut self, file: &OpenFile, mode: Mode) -> bool {
        let free = self.locks.iter().all(|held| {
            held.node != file.node
                || held.handle == file.handle
                || (held.mode, mode) == (Mode::Shared, Mode::Shared)
        });
        if free {
            self.unlock(file);
            let (handle, process, node) = (file.handle, file.process.id, file.node);
            self.locks.push(Held { handle, process, node, mode });
        }
        free
    }

    fn unlock(&mut self, file: &OpenFile) {
        self.locks.retain(|held| held.handle != file.handle);
    }
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

fn gone() -> io::Error {
    io::Error::other("this process has ended")
}

// === impl Process ===

impl Process {
    /// Lets it end, counted from now; `None` takes that back.
    pub(super) fn ends(&self, end: Option<End>) {
        let mut state = self.machine.state();
        let life = &mut state.processes[self.id];
        life.calls = 0;
        life.end = end;
    }

    /// Whether it still runs.
    pub(super) fn is_alive(&self) -> bool {
        self.machine.state().is_alive(self.id)
    }

    /// Waits for its end.
    pub(super) async fn ended(&self) {
        let mut alive = self.machine.state().processes[self.id].alive.subscribe();
        let _ = alive.wait_for(|alive| !alive).await;
    }

    /// Whether the store there holds this token, and nothing that says that it may be spent; looked up without a call.
    pub(super) fn store_trusts(&self, path: &Path, refresh_token: &str) -> bool {
        let state = self.machine.state();
        let Ok(Node::File(content)) = state.find(path).map(|node| &state.nodes[node]) else { return false };
        let store: serde_json::Value = serde_json::from_slice(&content.live).unwrap_or_default();
        let mut sessions = store["sessions"].as_object().into_iter().flat_map(|sessions| sessions.values());
        let session = sessions.find(|session| session["refresh_token"] == refresh_token);
        let code = session.and_then(|session| session["retry"]["code"].as_str());
        session.is_some() && !code.is_some_and(|code| code.starts_with("ambiguous_"))
    }

    /// kill -9, between two calls.
    pub(super) fn kill(&self) {
        self.machine.state().kill(self.id);
        self.machine.0.changed.notify_all();
    }

    /// Runs `guest` in a thread of its own when this process has made `calls` more calls, up to its end or to a lock that it
    /// has to wait for, before this process goes on.
    pub(super) fn interrupted_at(&self, calls: u64, guest: impl FnOnce() + Send + 'static) {
        *self.guest.lock().unwrap_or_else(PoisonError::into_inner) = Some((calls, Box::new(guest)));
    }

    /// Runs the guest now if the process ended too early for it.
    pub(super) fn let_the_guest_in(&self) {
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

    fn call<T>(&self, run: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
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

// === impl OpenFile ===

impl OpenFile {
    fn is_tenant_lock(&self) -> bool {
        self.path.to_string_lossy().contains(".refresh/")
    }

    fn holds_an_answer(&self, file: &Content) -> bool {
        self.is_tenant_lock() && file.live.iter().filter(|byte| **byte == b'\n').count() == 2
    }

    fn is_sign_in(&self) -> bool {
        self.path.to_string_lossy().ends_with(".signin.lock")
    }

    /// Whether the program lets this lock go as soon as it has it.
    fn lets_go(&self) -> bool {
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
                (self.process.machine.0.journalled)(&self.path, Written::Volatile);
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
            let answered =
                self.is_tenant_lock() && file.live.iter().filter(|byte| **byte == b'\n').count() == 2;
            if answered && self.is_sign_in() && sabotage == Sabotage::SignInJournalKept {
                file.write(Write::Len(0));
                file.sync();
            }
            if answered {
                (self.process.machine.0.journalled)(&self.path, Written::Durable);
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
        if self.lets_go() {
            state.unlock(self);
        }
        Ok(())
    }

    fn try_lock(&self, mode: Mode) -> io::Result<bool> {
        self.process.call(|state| {
            let locked = state.try_lock(self, mode);
            if self.lets_go() {
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
