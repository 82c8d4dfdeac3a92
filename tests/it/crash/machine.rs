//! A machine that forgets: a disk with separate durable and volatile state, and processes that end
//! at any call.

mod file;
mod process;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use threadkey::sys::{disk::Stat, lock::Mode};
use tokio::sync::watch;

use self::file::OpenFile;
pub(super) use self::process::Process;
use super::{
    content::{Content, Names, Naming},
    faults::{Durability, End, How, Sabotage},
};
use crate::support::random::Random;

/// Several processes and one disk; clones share the same machine.
#[derive(Clone)]
pub(super) struct Machine(Arc<Shared>);

type Journalled = Box<dyn Fn(&Path, Durability) + Send + Sync>;

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Called for each journal that contains an answer, under the state's lock.
    journalled: Journalled,
}

#[derive(Default)]
struct State {
    nodes: Vec<Node>,
    processes: Vec<Life>,
    handles: usize,
    /// The flocks that are held, by handle.
    locks: Vec<Held>,
    blocked: usize,
    guests_done: usize,
    power_is_cut: bool,
    /// Whether reserving space extends the file with zeros, as on systems without fallocate(2).
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

// === impl Machine ===

impl Machine {
    /// Creates a machine with the folder `/data`, which is durable.
    pub(super) fn new(
        random: &mut Random,
        journalled: impl Fn(&Path, Durability) + Send + Sync + 'static,
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
        Process::new(self.clone(), state.processes.len() - 1, sabotage)
    }

    /// Settles after a power cut which data survived. Returns whether there was a power cut.
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

    /// Returns the folder of `path`, and its name in that folder.
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
        // Node numbers are never reused, and no program edits the store in place, so versions
        // differ without a time.
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

    /// Tries flock(2): another handle's lock conflicts unless both are shared.
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
