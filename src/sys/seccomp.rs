//! System calls that reach another process by its user alone, which no path rule and no scope of Landlock stands in the way
//! of (Linux).
//!
//! prlimit(2) asks only whether both processes have the same user. With it a worker could forbid the bot to write beyond a few
//! hundred bytes, open a file or use more processor time: a signal by another name, and at the wrong moment the end of a refresh
//! token. The kernel's keyrings are shared by user too. Everything else is for Landlock and the user's own rights; this
//! is no list of what an agent may do.

#![expect(unsafe_code, reason = "a filter is put on by a system call")]

use std::io;

/// The number that seccomp_data carries in `arch`, and the first call number that is none of this architecture's own.
#[cfg(target_arch = "x86_64")]
const NATIVE: Option<(u32, u32)> = Some((0xC000_003E, 0x4000_0000));
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
const NATIVE: Option<(u32, u32)> = Some((0xC000_00B7, u32::MAX));
#[cfg(not(any(target_arch = "x86_64", all(target_arch = "aarch64", target_endian = "little"))))]
const NATIVE: Option<(u32, u32)> = None;

// Where things are in `struct seccomp_data` (seccomp(2)); both architectures are little-endian.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const PID: u32 = 16;
const NEW_LIMIT: u32 = 32;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const NOT_PERMITTED: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
const NO_SUCH_CALL: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const IF_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

const fn step(code: u16, k: u32, if_true: u8, if_false: u8) -> libc::sock_filter {
    libc::sock_filter { code, jt: if_true, jf: if_false, k }
}

const fn program((architecture, foreign): (u32, u32)) -> [libc::sock_filter; 18] {
    [
        step(LOAD, ARCHITECTURE, 0, 0),
        // 32-bit programs have other numbers for the same calls.
        step(IF_EQUAL, architecture, 0, 15),
        step(LOAD, NUMBER, 0, 0),
        step(IF_AT_LEAST, foreign, 13, 0),
        step(IF_EQUAL, libc::SYS_keyctl as u32, 11, 0),
        step(IF_EQUAL, libc::SYS_add_key as u32, 10, 0),
        step(IF_EQUAL, libc::SYS_request_key as u32, 9, 0),
        step(IF_EQUAL, libc::SYS_prlimit64 as u32, 1, 0),
        step(RETURN, ALLOW, 0, 0),
        // prlimit: of the process itself (pid 0) everything, of others only to look.
        step(LOAD, PID, 0, 0),
        step(IF_EQUAL, 0, 4, 0),
        step(LOAD, NEW_LIMIT, 0, 0),
        step(IF_EQUAL, 0, 0, 3),
        step(LOAD, NEW_LIMIT + 4, 0, 0),
        step(IF_EQUAL, 0, 0, 1),
        step(RETURN, ALLOW, 0, 0),
        step(RETURN, NOT_PERMITTED, 0, 0),
        step(RETURN, NO_SUCH_CALL, 0, 0),
    ]
}

/// Puts the filter on the calling thread and all that comes of it, for good; `no_new_privs` has to be on. Async-signal-safe. Where
/// this architecture's numbers are not known here, nothing is done.
///
/// # Errors
/// The system's; the process must then not go on.
pub(super) fn put_on() -> io::Result<()> {
    let Some(native) = NATIVE else { return Ok(()) };
    let mut steps = program(native);
    let filter = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: the filter and its steps outlive the call, which copies them.
    let set = unsafe {
        let mode = libc::c_ulong::from(libc::SECCOMP_MODE_FILTER);
        libc::prctl(libc::PR_SET_SECCOMP, mode, std::ptr::from_ref(&filter), 0, 0)
    };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
