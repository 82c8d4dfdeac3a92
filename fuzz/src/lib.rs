//! What the fuzz targets share: a store in memory, the time, and words that may appear in no message.

#![forbid(unsafe_code)]

mod memory;

use std::{path::Path, sync::Arc};

pub use memory::MemoryDisk;
use threadkey::{
    ids::Tenant,
    store::{FileStore, FileStoreOptions},
    sys::clock::{Clock, UnixTime},
};

/// The time of every run.
pub const NOW: UnixTime = 1_795_358_672;

/// Where the store is.
pub const STORE: &str = "/data/auth.json";

/// Where the journal of a refresh of [`tenant`] is.
pub const JOURNAL: &str = "/data/auth.json.refresh/acme%2Flocal.lock";

/// Where the journal of a sign-in of [`tenant`] is.
pub const SIGN_IN_JOURNAL: &str = "/data/auth.json.refresh/acme%2Flocal.signin.lock";

/// What stands for a secret in the seeds: no message may repeat it.
pub const CANARY: &str = "canary";

/// Whose records the seeds hold.
pub fn tenant() -> Tenant {
    "acme/local".parse().expect("a tenant")
}

/// A disk with the folder of the store, and with this store in it, if one is given.
pub fn disk(store: Option<&[u8]>) -> MemoryDisk {
    let disk = MemoryDisk::new(Path::new("/data/auth.json.refresh"));
    if let Some(bytes) = store {
        disk.put(Path::new(STORE), bytes);
    }
    disk
}

/// Opens the store of a disk, as a process that has just started.
pub fn open(disk: &MemoryDisk) -> FileStore {
    let disk = Arc::new(disk.clone());
    let options = FileStoreOptions::default();
    FileStore::on_disk(disk, Path::new(STORE), Clock::fixed(NOW), options).expect("a place for a store")
}

/// Runs it to its end.
pub fn run<T>(work: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    }
    RUNTIME.with(|runtime| runtime.block_on(work))
}

/// Fails when a message repeats what stands for a secret.
pub fn assert_tells_nothing(message: &str) {
    assert!(!message.to_ascii_lowercase().contains(CANARY), "a value is repeated: {message}");
}

/// The first 24 hex digits of the SHA-256: what a line of a journal begins with.
pub fn digest(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes)[..12].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Puts the right digest before each line that begins with `~`: no fuzzer finds one by itself.
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

/// The JSON of a journal's line that was written as a whole.
pub fn whole(line: &[u8]) -> Option<&str> {
    let json = line.strip_suffix(b"\n")?.get(25..)?;
    let right = line.starts_with(digest(json).as_bytes()) && line[24] == b' ';
    std::str::from_utf8(json).ok().filter(|_| right)
}
