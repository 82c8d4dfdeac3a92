//! The system users: the one that this process acts as, and the names of all.

use std::ffi::CStr;

/// The longest entry of the user database that is read, in bytes.
const MAX_ENTRY: usize = 16 * 1024;

/// The id of the superuser.
pub const ROOT: u32 = 0;

/// Returns the effective user id of this process. New files belong to this user.
#[expect(unsafe_code, reason = "std has no geteuid")]
pub fn effective() -> u32 {
    // SAFETY: geteuid takes nothing, touches nothing and cannot fail.
    unsafe { libc::geteuid() }
}

/// Returns the user's name; `None` if the system has no user with this id.
#[expect(unsafe_code, reason = "std has no getpwuid_r")]
pub fn name(id: u32) -> Option<String> {
    let mut entry = std::mem::MaybeUninit::<libc::passwd>::zeroed();
    let mut text = vec![0; MAX_ENTRY];
    let mut found = std::ptr::null_mut();
    // SAFETY: entry and text outlive the call, and the call gets the text's own length.
    let code = unsafe { libc::getpwuid_r(id, entry.as_mut_ptr(), text.as_mut_ptr(), text.len(), &mut found) };
    if code != 0 || found.is_null() {
        return None;
    }
    // SAFETY: the call succeeded, so it filled the entry. Its name is a NUL-terminated part of the
    // text, which is still alive.
    let name = unsafe { CStr::from_ptr(entry.assume_init().pw_name) };
    let name = name.to_str().ok()?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.$@\\".contains(c);
    (!name.is_empty() && name.chars().all(is_plain)).then(|| name.to_owned())
}

/// Whether `id` stands for all users that this process's user namespace does not map, as for the
/// files of another container's users.
pub fn is_unmapped(id: u32) -> bool {
    #[cfg(target_os = "linux")]
    {
        // The kernel's default, and the only value in use.
        const OVERFLOW: u32 = 65_534;
        let map = super::files::read_text("/proc/self/uid_map".as_ref()).unwrap_or_default();
        id == OVERFLOW && !maps_all(&map)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = id;
        false
    }
}

/// Whether a text of `/proc/PID/uid_map` maps every user to itself, as outside of any container.
#[cfg(target_os = "linux")]
fn maps_all(map: &str) -> bool {
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_a_name_only_if_the_system_knows_it() {
        assert_eq!(name(ROOT).as_deref(), Some("root"));
        assert_eq!(name(3_999_999_999), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn only_a_map_of_all_users_is_that_of_no_container() {
        assert!(maps_all("         0          0 4294967295\n"));
        assert!(!maps_all("         0       1000          1\n"));
        assert!(!maps_all(""));
    }
}
