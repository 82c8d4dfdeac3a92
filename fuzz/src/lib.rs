//! Shared parts of the fuzz targets: a store in memory, the time, and the canary that no message
//! may contain.

#![forbid(unsafe_code)]

mod memory;
pub mod paste;

use std::{path::Path, sync::Arc};

pub use memory::MemoryDisk;
use threadkey::{
    ids::Tenant,
    store::{FileStore, FileStoreOptions},
    sys::clock::{Clock, UnixTime},
};

/// The time of every run.
pub const NOW: UnixTime = 1_795_358_672;

/// The path of the store.
pub const STORE: &str = "/data/auth.json";

/// The path of [`tenant`]'s refresh journal.
pub const JOURNAL: &str = "/data/auth.json.refresh/acme%2Flocal.lock";

/// The path of [`tenant`]'s sign-in journal.
pub const SIGN_IN_JOURNAL: &str = "/data/auth.json.refresh/acme%2Flocal.signin.lock";

/// The stand-in for a secret in the seeds. No message may repeat it.
pub const CANARY: &str = "canary";

/// The tenant of the records in the seeds.
pub fn tenant() -> Tenant {
    "acme/local".parse().expect("a tenant")
}

/// Creates a disk with the store's folder, and with `store` as its file if it is given.
pub fn disk(store: Option<&[u8]>) -> MemoryDisk {
    let disk = MemoryDisk::new(Path::new("/data/auth.json.refresh"));
    if let Some(bytes) = store {
        disk.put(Path::new(STORE), bytes);
    }
    disk
}

/// Opens the store of a disk, like a process that has just started.
pub fn open(disk: &MemoryDisk) -> FileStore {
    let disk = Arc::new(disk.clone());
    let options = FileStoreOptions::default();
    FileStore::on_disk(disk, Path::new(STORE), Clock::fixed(NOW), options).expect("the folder exists")
}

/// Runs a future to its end.
pub fn run<T>(work: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    }
    RUNTIME.with(|runtime| runtime.block_on(work))
}

/// Panics if a message repeats the canary.
pub fn assert_no_canary(message: &str) {
    assert!(!message.to_ascii_lowercase().contains(CANARY), "the message repeats a value: {message}");
}

/// Returns the digest that a journal line begins with: the first 24 hex digits of the SHA-256.
pub fn digest(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes)[..12].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Replaces the `~` at the start of a line by the line's digest, which no fuzzer finds by itself.
pub fn sealed(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() + 64);
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        match line.strip_prefix(b"~") {
            Some(json) => {
                let content = json.strip_suffix(b"\n").unwrap_or(json);
                bytes.extend_from_slice(digest(content).as_bytes());
                bytes.push(b' ');
                bytes.extend_from_slice(json);
            }
            None => bytes.extend_from_slice(line),
        }
    }
    bytes
}

/// Returns the JSON of a journal line, if the line is whole.
pub fn whole(line: &[u8]) -> Option<&str> {
    let json = line.strip_suffix(b"\n")?.get(25..)?;
    let right = line.starts_with(digest(json).as_bytes()) && line[24] == b' ';
    std::str::from_utf8(json).ok().filter(|_| right)
}
