//! The kinds of file systems, and whether flock excludes on them.

#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd as _;
use std::{
    ffi::CString,
    fs::File,
    io,
    mem::MaybeUninit,
    os::unix::{ffi::OsStrExt as _, fs::FileExt as _},
    path::Path,
};

/// A kind of file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSystem {
    /// Its common name.
    pub name: String,
    /// Whether flock is known to exclude every process that can reach a file on it.
    pub locks_hold: bool,
}

#[cfg(target_os = "linux")]
const KNOWN: &[(u32, &str, bool)] = &[
    (0xEF53, "ext4", true),
    (0x5846_5342, "xfs", true),
    (0x9123_683E, "btrfs", true),
    (0x2FC1_2FC1, "zfs", true),
    (0x0102_1994, "tmpfs", true),
    (0x794C_7630, "overlay", true),
    (0x6969, "NFS", false),
    (0x0102_1997, "9p", false),
    (0x6573_5546, "FUSE or virtiofs", false),
    (0x517B, "SMB", false),
    (0xFF53_4D42, "SMB (cifs)", false),
    (0xFE53_4D42, "SMB 2", false),
    (0x00C3_6400, "Ceph", false),
    (0x0116_1970, "GFS2", false),
    (0x7461_636F, "OCFS2", false),
    (0x5346_414F, "AFS", false),
    (0x0BD0_0BD0, "Lustre", false),
    (0x786F_4256, "VirtualBox shared folder", false),
    (0x4D44, "FAT", false),
    (0x2011_BAB0, "exFAT", false),
    (0x5346_544E, "NTFS", false),
    (0xF2F5_2010, "F2FS", false),
    (0x8584_58F6, "ramfs", false),
    (0x7371_7368, "squashfs", false),
    (0x9FA0, "proc", false),
];

/// Returns the file system of `path`.
#[cfg(target_os = "linux")]
pub(super) fn of(path: &Path) -> io::Result<FileSystem> {
    // The field's type and sign differ between targets; the magic numbers have 32 bits.
    let magic = statfs(path)?.f_type as u32;
    let known = KNOWN.iter().find(|(number, ..)| *number == magic);
    Ok(match known {
        Some((_, name, locks_hold)) => FileSystem { name: (*name).into(), locks_hold: *locks_hold },
        None => FileSystem { name: format!("an unknown kind ({magic:#x})"), locks_hold: false },
    })
}

/// Returns the file system of `path`.
#[cfg(target_os = "macos")]
pub(super) fn of(path: &Path) -> io::Result<FileSystem> {
    let bytes = statfs(path)?.f_fstypename.map(|c| c as u8);
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    let name = String::from_utf8_lossy(&bytes[..end]).into_owned();
    Ok(FileSystem { locks_hold: name == "apfs", name })
}

/// Returns an unknown kind: the file systems of this system were not examined.
#[cfg(not(any(target_os = "linux", target_os = "macos")))]
pub(super) fn of(_: &Path) -> io::Result<FileSystem> {
    Ok(FileSystem { name: "an unknown kind".into(), locks_hold: false })
}

#[cfg(any(target_os = "linux", target_os = "macos"))]
#[expect(unsafe_code, reason = "statfs(2) has no safe wrapper in std")]
fn statfs(path: &Path) -> io::Result<libc::statfs> {
    let path = c_path(path)?;
    let mut buffer = MaybeUninit::uninit();
    // SAFETY: the path is NUL-terminated and the buffer has the size of the structure.
    done(unsafe { libc::statfs(path.as_ptr(), buffer.as_mut_ptr()) })?;
    // SAFETY: statfs returned 0, so it filled the buffer.
    Ok(unsafe { buffer.assume_init() })
}

#[expect(unsafe_code, reason = "statvfs(3) has no safe wrapper in std")]
pub(super) fn free_space(path: &Path) -> io::Result<u64> {
    let path = c_path(path)?;
    let mut buffer = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path is NUL-terminated and the buffer has the size of the structure.
    done(unsafe { libc::statvfs(path.as_ptr(), buffer.as_mut_ptr()) })?;
    // SAFETY: statvfs returned 0, so it filled the buffer.
    let buffer = unsafe { buffer.assume_init() };
    #[allow(clippy::unnecessary_cast, reason = "the fields' width differs between targets")]
    Ok((buffer.f_bavail as u64).saturating_mul(buffer.f_frsize as u64))
}

/// Whether the mount of an open file is read-only.
#[expect(unsafe_code, reason = "fstatvfs(3) has no safe wrapper in std")]
pub(super) fn is_read_only(file: &File) -> io::Result<bool> {
    use std::os::fd::AsRawFd as _;
    let mut buffer = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the descriptor is open and the buffer has the size of the structure.
    done(unsafe { libc::fstatvfs(file.as_raw_fd(), buffer.as_mut_ptr()) })?;
    // SAFETY: fstatvfs returned 0, so it filled the buffer.
    Ok(unsafe { buffer.assume_init() }.f_flag & libc::ST_RDONLY != 0)
}

#[expect(unsafe_code, reason = "faccessat(2) has no safe wrapper in std")]
pub(super) fn check_writable(folder: &Path) -> io::Result<()> {
    let folder = c_path(folder)?;
    // SAFETY: the path is NUL-terminated; the other arguments are integers.
    done(unsafe {
        libc::faccessat(libc::AT_FDCWD, folder.as_ptr(), libc::W_OK | libc::X_OK, libc::AT_EACCESS)
    })
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "statx(2) has no safe wrapper in std")]
pub(super) fn is_mount_point(path: &Path) -> io::Result<bool> {
    let path = c_path(path)?;
    let mut buffer = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the path is NUL-terminated and the buffer has the size of the structure.
    done(unsafe { libc::statx(libc::AT_FDCWD, path.as_ptr(), 0, 0, buffer.as_mut_ptr()) })?;
    // SAFETY: all its fields are integers, for which zeros are valid, and statx filled it.
    let buffer = unsafe { buffer.assume_init() };
    let mount_root = libc::STATX_ATTR_MOUNT_ROOT as u64;
    Ok(buffer.stx_attributes & buffer.stx_attributes_mask & mount_root != 0)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn is_mount_point(_: &Path) -> io::Result<bool> {
    Ok(false)
}

/// Reserves the bytes `from..to` of a file, by fallocate or, without it, by zeros after the end.
pub(super) fn reserve(file: &File, from: u64, to: u64) -> io::Result<()> {
    // An fallocate that keeps the length ignores this limit; the later write does not.
    if to > longest_file()? {
        return Err(io::Error::from_raw_os_error(libc::EFBIG));
    }
    match fallocate(file, from, to) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS)) => {}
        result => return result,
    }
    let zeros = [0; 8192];
    let mut at = file.metadata()?.len().max(from);
    while at < to {
        let step = (to - at).min(zeros.len() as u64);
        file.write_all_at(&zeros[..step as usize], at)?;
        at += step;
    }
    Ok(())
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "fallocate(2) has no safe wrapper in std")]
fn fallocate(file: &File, from: u64, to: u64) -> io::Result<()> {
    let offset = libc::off_t::try_from(from).map_err(io::Error::other)?;
    let len = libc::off_t::try_from(to.saturating_sub(from)).map_err(io::Error::other)?;
    loop {
        // SAFETY: all arguments are integers; a bad descriptor is an error, not undefined.
        let code = unsafe { libc::fallocate(file.as_raw_fd(), libc::FALLOC_FL_KEEP_SIZE, offset, len) };
        match done(code) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn fallocate(_: &File, _: u64, _: u64) -> io::Result<()> {
    Err(io::Error::from_raw_os_error(libc::ENOSYS))
}

/// The longest file that this process may write (`RLIMIT_FSIZE`, `ulimit -f`), in bytes.
#[expect(unsafe_code, reason = "getrlimit(2) has no safe wrapper in std")]
fn longest_file() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure outlives the call.
    done(unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &mut limit) })?;
    #[allow(clippy::unnecessary_cast, reason = "the field's width differs between targets")]
    Ok(limit.rlim_cur as u64)
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

fn done(code: libc::c_int) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
