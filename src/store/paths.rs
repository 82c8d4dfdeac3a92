//! The resolved path of a store, and the names of the files beside it.

use std::{
    ffi::{OsStr, OsString},
    io,
    path::{Path, PathBuf},
};

use crate::{
    ids::{Tenant, hex},
    sys::{disk::Disk, random},
};

/// How many dangling symlinks and missing folders in a row are followed.
const MAX_DEPTH: u32 = 40;

const TEMP_END: &str = ".tmp";
const UNREAD_END: &str = ".unread";

/// The end of the name of a sign-in lock file.
const SIGN_IN_END: &str = ".signin.lock";

/// The purpose of a tenant's lock. The two do not exclude each other: a sign-in never waits for a
/// refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// A refresh: `auth.json.refresh/<tenant>.lock`.
    Refresh,
    /// The exchange of a code: `auth.json.refresh/<tenant>.signin.lock`.
    SignIn,
}

/// The path of the store file, which may be missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Paths {
    /// The store file: an absolute path without a symlink.
    pub(super) file: PathBuf,
    /// Its folder.
    pub(super) folder: PathBuf,
}

impl Paths {
    /// Follows `path`. If the file or a folder above it is missing, returns the path at which it
    /// would be made.
    pub(super) fn resolve(disk: &dyn Disk, path: &Path) -> io::Result<Self> {
        let file = follow(disk, path, MAX_DEPTH)?;
        match (file.file_name(), file.parent()) {
            (Some(_), Some(folder)) => Ok(Self { folder: folder.to_owned(), file }),
            _ => Err(io::Error::new(io::ErrorKind::IsADirectory, "this is a folder, not a file")),
        }
    }

    /// `auth.json.global.lock`: exclusive around read, change and write.
    pub(super) fn global_lock(&self) -> PathBuf {
        self.beside(".global.lock")
    }

    /// `auth.json.bot.lock`: held by the one process that talks to Discord.
    pub(super) fn bot_lock(&self) -> PathBuf {
        self.beside(".bot.lock")
    }

    /// `auth.json.refresh`: the folder of the tenants' locks.
    pub(super) fn tenant_locks(&self) -> PathBuf {
        self.beside(".refresh")
    }

    /// `auth.json.refresh/<tenant>.lock` or `<tenant>.signin.lock`.
    pub(super) fn tenant_lock(&self, tenant: &Tenant, purpose: Purpose) -> PathBuf {
        let end = match purpose {
            Purpose::Refresh => ".lock",
            Purpose::SignIn => SIGN_IN_END,
        };
        self.tenant_locks().join(tenant.file_name() + end)
    }

    /// `auth.json.refresh/<tenant>.unread`: an answer that could not be parsed.
    pub(super) fn unread(&self, tenant: &Tenant) -> PathBuf {
        self.tenant_locks().join(tenant.file_name() + UNREAD_END)
    }

    /// `auth.json.refresh/<tenant>.probe`: the last probe of the tenant's access token.
    pub(super) fn probe(&self, tenant: &Tenant) -> PathBuf {
        self.tenant_locks().join(tenant.file_name() + ".probe")
    }

    /// A new name for a temp file.
    pub(super) fn temp(&self) -> PathBuf {
        let mut name = self.temp_start();
        name.push(hex(&random::bytes::<8>()));
        name.push(TEMP_END);
        self.folder.join(name)
    }

    /// Whether [`Paths::temp`] makes names of this form.
    pub(super) fn is_temp(&self, name: &OsString) -> bool {
        let middle = name
            .as_encoded_bytes()
            .strip_prefix(self.temp_start().as_encoded_bytes())
            .and_then(|rest| rest.strip_suffix(TEMP_END.as_bytes()));
        middle.is_some_and(|hex| hex.len() == 16 && hex.iter().all(u8::is_ascii_hexdigit))
    }

    fn temp_start(&self) -> OsString {
        let mut name = OsString::from(".");
        name.push(self.file.file_name().unwrap_or_default());
        name.push(".");
        name
    }

    fn beside(&self, end: &str) -> PathBuf {
        let mut path = self.file.clone().into_os_string();
        path.push(end);
        path.into()
    }
}

/// The temp file for the `.unread` file of the tenant whose lock file is at `lock`. Only the lock's
/// holder uses that name.
pub(super) fn unread_temp(lock: &Path) -> PathBuf {
    let mut path = lock.to_owned().into_os_string();
    path.push(UNREAD_END);
    path.push(TEMP_END);
    path.into()
}

/// The tenant of a sign-in lock file; `None` if `name` is not the name of one.
pub(super) fn tenant_of_sign_in(name: &OsStr) -> Option<Tenant> {
    Tenant::from_file_name(name.to_str()?.strip_suffix(SIGN_IN_END)?)
}

/// The tenant of a `.unread` file; `None` if `name` is not the name of one.
pub(super) fn tenant_of_unread(name: &OsStr) -> Option<Tenant> {
    Tenant::from_file_name(name.to_str()?.strip_suffix(UNREAD_END)?)
}

/// The path of the store if none is configured: `$XDG_DATA_HOME/threadkey/auth.json`, else
/// `~/.local/share/threadkey/auth.json`; `None` without either variable. A relative `XDG_DATA_HOME`
/// is ignored, as the XDG Base Directory Specification requires.
pub fn default_path() -> Option<PathBuf> {
    default_path_from(|name| std::env::var_os(name).map(PathBuf::from))
}

pub(super) fn default_path_from(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let absolute = |name| variable(name).filter(|path| path.is_absolute());
    let data = absolute("XDG_DATA_HOME").or_else(|| Some(absolute("HOME")?.join(".local/share")))?;
    Some(data.join("threadkey/auth.json"))
}

fn follow(disk: &dyn Disk, path: &Path, depth: u32) -> io::Result<PathBuf> {
    match disk.canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        result => return result,
    }
    if depth == 0 {
        return Err(io::Error::other("too many symbolic links"));
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    match disk.read_link(path) {
        // The target of the symlink is missing. The file belongs where the link points.
        Ok(target) => return follow(disk, &parent.join(target), depth - 1),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) => {}
        Err(error) => return Err(error),
    }
    let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    Ok(follow(disk, parent, depth - 1)?.join(name))
}
