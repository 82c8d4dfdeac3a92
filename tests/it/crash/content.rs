//! Files and folders across a power cut: their durable and their volatile state, kept apart.

use std::{collections::BTreeMap, ffi::OsString};

use crate::support::random::Random;

/// A file: the content that programs read, the durable content, and the unsynced writes.
#[derive(Default)]
pub(super) struct Content {
    pub(super) live: Vec<u8>,
    pub(super) durable: Vec<u8>,
    pub(super) pending: Vec<Write>,
}

pub(super) enum Write {
    At(usize, Vec<u8>),
    Len(usize),
}

/// A folder: the same three parts.
#[derive(Default)]
pub(super) struct Names {
    pub(super) live: BTreeMap<OsString, usize>,
    pub(super) durable: BTreeMap<OsString, usize>,
    pub(super) pending: Vec<Naming>,
}

#[derive(Clone)]
pub(super) enum Naming {
    Link(OsString, usize),
    Rename { from: OsString, to: OsString, node: usize },
    Unlink(OsString),
}

// === impl Content and Names ===

impl Content {
    pub(super) fn write(&mut self, write: Write) {
        write.apply(&mut self.live);
        self.pending.push(write);
    }

    pub(super) fn sync(&mut self) {
        self.durable.clone_from(&self.live);
        self.pending.clear();
    }

    /// Applies a power cut. Any part of any unsynced write may have reached the disk, independently
    /// of the others.
    pub(super) fn lose(&mut self, random: &mut Random) {
        for write in self.pending.drain(..) {
            match random.below(3) {
                0 => {}
                1 => write.apply(&mut self.durable),
                _ => write.tear(random, &mut self.durable),
            }
        }
        self.live.clone_from(&self.durable);
    }
}

impl Write {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::At(offset, bytes) => {
                let end = offset + bytes.len();
                if to.len() < end {
                    to.resize(end, 0);
                }
                to[*offset..end].copy_from_slice(bytes);
            }
            Self::Len(len) => to.resize(*len, 0),
        }
    }

    /// Applies some pieces of a write. A missing piece below the new end of the file reads as
    /// zeros.
    fn tear(&self, random: &mut Random, to: &mut Vec<u8>) {
        let Self::At(offset, bytes) = self else { return };
        let mut at = 0;
        while at < bytes.len() {
            let piece = (1 + random.below(bytes.len() as u64) as usize).min(bytes.len() - at);
            if random.one_in(2) {
                Self::At(offset + at, bytes[at..at + piece].to_vec()).apply(to);
            }
            at += piece;
        }
    }
}

impl Names {
    pub(super) fn change(&mut self, naming: Naming) {
        naming.apply(&mut self.live);
        self.pending.push(naming);
    }

    pub(super) fn sync(&mut self) {
        self.durable.clone_from(&self.live);
        self.pending.clear();
    }

    pub(super) fn lose(&mut self, random: &mut Random) {
        for naming in self.pending.drain(..) {
            if random.one_in(2) {
                naming.apply(&mut self.durable);
            }
        }
        self.live.clone_from(&self.durable);
    }
}

impl Naming {
    fn apply(&self, to: &mut BTreeMap<OsString, usize>) {
        match self.clone() {
            Self::Link(name, node) => drop(to.insert(name, node)),
            Self::Unlink(name) => drop(to.remove(&name)),
            Self::Rename { from, to: name, node } => {
                to.remove(&from);
                to.insert(name, node);
            }
        }
    }
}
