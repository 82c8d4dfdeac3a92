//! A system call filter for the openings that Landlock leaves between processes of one user.
//!
//! The kernel shares some objects among all processes of a user, and lets each of them change the
//! others' schedule and limits. Landlock 10 governs none of this. The filter therefore refuses:
//!
//! * key rings, System V memory, semaphores and messages, and POSIX message queues. Their names and
//!   numbers are the same in all workers. The answer is `ENOSYS`, as of a kernel built without
//!   them, because programs prepare for that;
//! * the schedule, priority and limits of every process but the caller. A CPU limit of zero kills
//!   like a signal. A process passes 0 for itself;
//! * diagnostic netlink sockets, which list the paths of all Unix sockets of the machine. A socket in
//!   another worker's folder shows the folder's secret name. The answer is that of a kernel without
//!   them;
//! * `io_uring`, with `ENOSYS`, because its operations include refused ones, such as the creation of a
//!   socket, and a filter does not see them;
//! * `fanotify`, `perf_event_open`, `bpf`, `userfaultfd` and `syslog`, which observe the whole
//!   machine. Without privileges most machines refuse them too, with the same `EPERM`;
//! * all calls of a foreign calling convention (32-bit and x32 programs on x86-64), because they
//!   would bypass the filter.
//!
//! Allowed on purpose: namespaces, with which agents sandbox their own tools; `ptrace` and access to
//! other processes' memory, which Landlock already limits to the same sandbox, for debuggers; and
//! `inotify`, without which development servers fail. No worker knows a path of another worker that
//! it could watch.
//!
//! The filter is assembled here. The crate `seccompiler` kills a process at a call of a foreign
//! convention, and its filters compare plain numbers, which x32 calls evade.

use std::io;

/// The kernel's name of this machine's own calling convention: `AUDIT_ARCH_*` of `linux/audit.h`.
#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const NATIVE: u32 = 0xC000_00B7;
#[cfg(target_arch = "riscv64")]
const NATIVE: u32 = 0xC000_00F3;

/// A filter, built before the fork and applied between fork and exec. Only machines that are
/// little-endian with 64 bits have one.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))]
    steps: Vec<libc::sock_filter>,
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))]
mod rules {
    use libc::{
        ENOSYS, EPERM, SYS_add_key, SYS_bpf, SYS_fanotify_init, SYS_io_uring_enter, SYS_io_uring_register,
        SYS_io_uring_setup, SYS_ioprio_set, SYS_keyctl, SYS_mq_open, SYS_mq_unlink, SYS_msgctl, SYS_msgget,
        SYS_msgrcv, SYS_msgsnd, SYS_perf_event_open, SYS_prlimit64, SYS_request_key, SYS_sched_setaffinity,
        SYS_sched_setattr, SYS_sched_setparam, SYS_sched_setscheduler, SYS_semctl, SYS_semget, SYS_semop,
        SYS_semtimedop, SYS_setpriority, SYS_shmat, SYS_shmctl, SYS_shmdt, SYS_shmget, SYS_syslog,
        SYS_userfaultfd, c_int, c_long,
    };

    /// Calls that are refused whatever their arguments, with the error.
    pub(super) const REFUSED: &[(c_long, c_int)] = &[
        (SYS_add_key, ENOSYS),
        (SYS_request_key, ENOSYS),
        (SYS_keyctl, ENOSYS),
        (SYS_shmget, ENOSYS),
        (SYS_shmat, ENOSYS),
        (SYS_shmdt, ENOSYS),
        (SYS_shmctl, ENOSYS),
        (SYS_semget, ENOSYS),
        (SYS_semop, ENOSYS),
        (SYS_semtimedop, ENOSYS),
        (SYS_semctl, ENOSYS),
        (SYS_msgget, ENOSYS),
        (SYS_msgsnd, ENOSYS),
        (SYS_msgrcv, ENOSYS),
        (SYS_msgctl, ENOSYS),
        (SYS_mq_open, ENOSYS),
        (SYS_mq_unlink, ENOSYS),
        (SYS_io_uring_setup, ENOSYS),
        (SYS_io_uring_enter, ENOSYS),
        (SYS_io_uring_register, ENOSYS),
        (SYS_fanotify_init, EPERM),
        (SYS_perf_event_open, EPERM),
        (SYS_bpf, EPERM),
        (SYS_userfaultfd, EPERM),
        (SYS_syslog, EPERM),
    ];

    /// Calls whose first argument is a process: it must be 0, the caller.
    pub(super) const OWN_PROCESS: &[c_long] = &[
        SYS_prlimit64,
        SYS_sched_setscheduler,
        SYS_sched_setparam,
        SYS_sched_setattr,
        SYS_sched_setaffinity,
    ];

    /// Calls whose arguments are a kind of target and a target, with the kind "all processes of a
    /// user", which is refused. The target must be 0, the caller or its group.
    pub(super) const OWN_TARGET: &[(c_long, u32)] = &[
        // `PRIO_USER` of sys/resource.h, and `IOPRIO_WHO_USER` of linux/ioprio.h.
        (SYS_setpriority, 2),
        (SYS_ioprio_set, 3),
    ];
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))]
#[expect(unsafe_code, reason = "a system call applies the filter")]
impl Filter {
    pub(super) fn new() -> Self {
        use rules::{OWN_PROCESS, OWN_TARGET, REFUSED};
        // Offsets in `struct seccomp_data`: the call's number, its convention, and the low halves of
        // its arguments, which are all that the kernel uses of an `int`.
        const NUMBER: u32 = 0;
        const CONVENTION: u32 = 4;
        const FIRST: u32 = 16;
        const SECOND: u32 = 24;
        const THIRD: u32 = 32;
        /// The bit that marks x32 calls on x86-64; numbers are far below it elsewhere.
        const X32: u32 = 0x4000_0000;

        let load = |offset| step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0);
        // The jumps count the steps that they skip.
        let if_equal = |k, yes, no| step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, k, yes, no);
        let if_at_least = |k, yes, no| step(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, k, yes, no);
        let end = |result| step(libc::BPF_RET | libc::BPF_K, result, 0, 0);
        let allow = || end(libc::SECCOMP_RET_ALLOW);
        let refuse = |error: libc::c_int| end(libc::SECCOMP_RET_ERRNO | error as u32);

        let mut steps = vec![
            load(CONVENTION),
            if_equal(NATIVE, 1, 0),
            refuse(libc::EPERM),
            load(NUMBER),
            if_at_least(X32, 0, 1),
            refuse(libc::EPERM),
        ];
        for (number, error) in REFUSED {
            steps.extend([if_equal(*number as u32, 0, 1), refuse(*error)]);
        }
        for number in OWN_PROCESS {
            steps.extend([
                if_equal(*number as u32, 0, 4),
                load(FIRST),
                if_equal(0, 0, 1),
                allow(),
                refuse(libc::EPERM),
            ]);
        }
        for (number, all_of_user) in OWN_TARGET {
            steps.extend([
                if_equal(*number as u32, 0, 6),
                load(FIRST),
                if_equal(*all_of_user, 3, 0),
                load(SECOND),
                if_equal(0, 0, 1),
                allow(),
                refuse(libc::EPERM),
            ]);
        }
        steps.extend([
            if_equal(libc::SYS_socket as u32, 0, 5),
            load(FIRST),
            if_equal(libc::AF_NETLINK as u32, 0, 3),
            load(THIRD),
            if_equal(libc::NETLINK_SOCK_DIAG as u32, 0, 1),
            refuse(libc::EPROTONOSUPPORT),
        ]);
        steps.push(allow());
        Self { steps }
    }

    /// Applies the filter to the calling thread and all its descendants, for good. Needs
    /// `no_new_privs`. Async-signal-safe.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn apply(&self) -> io::Result<()> {
        // The kernel copies the steps, and does not write to them.
        let filter = self.steps.as_ptr().cast_mut();
        let program = libc::sock_fprog { len: self.steps.len() as u16, filter };
        // SAFETY: the program and its steps outlive the call.
        let applied = unsafe {
            libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, std::ptr::from_ref(&program), 0, 0)
        };
        if applied == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))]
const fn step(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

/// This machine has no filter.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
impl Filter {
    pub(super) fn new() -> Self {
        Self {}
    }

    pub(super) fn apply(&self) -> io::Result<()> {
        Ok(())
    }
}
