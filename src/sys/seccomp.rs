//! A system call filter for an opening that Landlock leaves between processes of one user.
//!
//! `prlimit(2)` sets the limits of any process of the same user, and a CPU limit of zero kills like
//! a signal. The filter refuses the call for every process but the caller itself (pid 0). It also
//! refuses all system calls of a foreign calling convention (32-bit and x32 programs on x86-64),
//! because they would bypass it.

use std::io;

/// The kernel's name of this machine's own calling convention: `AUDIT_ARCH_*` of `linux/audit.h`.
#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const NATIVE: u32 = 0xC000_00B7;
#[cfg(target_arch = "riscv64")]
const NATIVE: u32 = 0xC000_00F3;

/// Applies the filter to the calling thread and all its descendants. Needs `no_new_privs`.
/// Async-signal-safe. These three machines are little-endian with 64 bits; no other has a filter.
///
/// # Errors
/// The system's.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))]
#[expect(unsafe_code, reason = "a system call applies the filter")]
pub(super) fn forbid_limiting_others() -> io::Result<()> {
    // Offsets in `struct seccomp_data`: the call's number, its convention, and the low half of its
    // first argument.
    const NUMBER: u32 = 0;
    const CONVENTION: u32 = 4;
    const FIRST_ARGUMENT: u32 = 16;
    /// The bit that marks x32 calls on x86-64; numbers are far below it elsewhere.
    const X32: u32 = 0x4000_0000;
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const IF_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

    const fn step(code: u16, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
        libc::sock_filter { code, jt, jf, k }
    }
    // The jumps count the steps that they skip.
    let mut steps = [
        step(LOAD, CONVENTION, 0, 0),
        step(IF_EQUAL, NATIVE, 0, 6),
        step(LOAD, NUMBER, 0, 0),
        step(IF_AT_LEAST, X32, 4, 0),
        step(IF_EQUAL, libc::SYS_prlimit64 as u32, 0, 2),
        step(LOAD, FIRST_ARGUMENT, 0, 0),
        step(IF_EQUAL, 0, 0, 1),
        step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0),
        step(RETURN, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32, 0, 0),
    ];
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: the program and its steps outlive the call, which copies them.
    let applied = unsafe {
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, std::ptr::from_ref(&program), 0, 0)
    };
    if applied == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// This machine has no filter.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
pub(super) fn forbid_limiting_others() -> io::Result<()> {
    Ok(())
}
