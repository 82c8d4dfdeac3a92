//! Attacks by way of the kernel's objects that all processes of a user share, and of their schedule.

use std::{
    ffi::{CStr, CString},
    io,
    sync::atomic::{AtomicI32, Ordering},
};

use super::{Attempts, CANARY, Targets, outcome};

const USER_KEYRING: libc::c_long = -4;
const KEYCTL_UNLINK: libc::c_int = 9;
const KEYCTL_SEARCH: libc::c_int = 10;
const KEYCTL_READ: libc::c_int = 11;
const KEY_TYPE: &CStr = c"user";

/// The bot's objects, which hold the canary. The kernel may lack some of them.
pub(super) struct Objects {
    /// Names the objects. Each test has objects of its own, because it removes them at its end.
    pub(super) number: i32,
    key: libc::c_long,
    memory: i32,
    queue: i32,
    mq_name: CString,
    mq: i32,
}

/// The name of the key and of the message queue.
fn name(objects: i32) -> CString {
    CString::new(format!("/threadkey-test-{objects}")).expect("no zero")
}

impl Objects {
    pub(super) fn make() -> Self {
        static MADE: AtomicI32 = AtomicI32::new(0);
        let number = std::process::id() as i32 * 8 + MADE.fetch_add(1, Ordering::Relaxed);
        let mq_name = name(number);
        // SAFETY: the arguments are C strings, plain numbers and buffers of the given length.
        unsafe {
            let key = libc::syscall(
                libc::SYS_add_key,
                KEY_TYPE.as_ptr(),
                mq_name.as_ptr(),
                CANARY.as_ptr(),
                CANARY.len(),
                USER_KEYRING,
            );
            let memory = libc::shmget(number, 4096, libc::IPC_CREAT | 0o600);
            if memory >= 0 {
                let at = libc::shmat(memory, std::ptr::null(), 0);
                std::ptr::copy_nonoverlapping(CANARY.as_ptr(), at.cast(), CANARY.len());
                libc::shmdt(at);
            }
            let queue = libc::msgget(number, libc::IPC_CREAT | 0o600);
            let mq = libc::mq_open(
                mq_name.as_ptr(),
                libc::O_CREAT | libc::O_RDWR,
                0o600,
                std::ptr::null::<libc::mq_attr>(),
            );
            Self { number, key, memory, queue, mq_name, mq }
        }
    }

    /// The attempts that succeed without isolation, because the object exists.
    pub(super) fn targets(&self) -> Vec<&'static str> {
        let all = [
            (self.key >= 0, "find the bot's key"),
            (self.memory >= 0, "attach the bot's memory"),
            (self.queue >= 0, "open the bot's System V queue"),
            (self.mq >= 0, "open the bot's message queue"),
        ];
        all.into_iter().filter(|(exists, _)| *exists).map(|(_, name)| name).collect()
    }
}

impl Drop for Objects {
    fn drop(&mut self) {
        // SAFETY: plain numbers and a C string.
        unsafe {
            libc::syscall(libc::SYS_keyctl, KEYCTL_UNLINK, self.key, USER_KEYRING);
            libc::shmctl(self.memory, libc::IPC_RMID, std::ptr::null_mut());
            libc::msgctl(self.queue, libc::IPC_RMID, std::ptr::null_mut());
            libc::mq_unlink(self.mq_name.as_ptr());
            if self.mq >= 0 {
                libc::close(self.mq);
            }
        }
    }
}

pub(super) fn attempts(targets: &Targets, all: &mut Attempts) {
    objects(targets.objects, all);
    for (target, pid) in [("the bot", targets.bot), ("the sibling", targets.sibling)] {
        schedule(target, pid, all);
    }
    whole_machine(all);
    own(all);
}

fn objects(number: i32, all: &mut Attempts) {
    let name = name(number);
    let mut bytes = [0_u8; 64];
    // SAFETY: the arguments are C strings, plain numbers and buffers of the given length.
    unsafe {
        let key =
            libc::syscall(libc::SYS_keyctl, KEYCTL_SEARCH, USER_KEYRING, KEY_TYPE.as_ptr(), name.as_ptr(), 0);
        all.push(("find the bot's key".into(), outcome(key)));
        let read = libc::syscall(libc::SYS_keyctl, KEYCTL_READ, key, bytes.as_mut_ptr(), bytes.len());
        all.push(("read the bot's key".into(), outcome(read)));
        let requested = libc::syscall(
            libc::SYS_request_key,
            KEY_TYPE.as_ptr(),
            name.as_ptr(),
            std::ptr::null::<libc::c_char>(),
            0,
        );
        all.push(("request the bot's key".into(), outcome(requested)));
        let added = libc::syscall(
            libc::SYS_add_key,
            KEY_TYPE.as_ptr(),
            c"threadkey-probe".as_ptr(),
            c"x".as_ptr(),
            1,
            USER_KEYRING,
        );
        all.push(("leave a key for others".into(), outcome(added)));
        if added >= 0 {
            libc::syscall(libc::SYS_keyctl, KEYCTL_UNLINK, added, USER_KEYRING);
        }

        let memory = libc::shmget(number, 0, 0);
        all.push(("find the bot's memory".into(), outcome(memory.into())));
        let at = libc::shmat(memory, std::ptr::null(), libc::SHM_RDONLY);
        let error = io::Error::last_os_error();
        let read = if at as isize == -1 { Err(error) } else { Ok("attached".to_owned()) };
        all.push(("attach the bot's memory".into(), read));
        let own = libc::shmget(libc::IPC_PRIVATE, 4096, libc::IPC_CREAT | 0o600);
        all.push(("make shared memory".into(), outcome(own.into())));
        if own >= 0 {
            libc::shmctl(own, libc::IPC_RMID, std::ptr::null_mut());
        }
        let semaphore = libc::semget(libc::IPC_PRIVATE, 1, libc::IPC_CREAT | 0o600);
        all.push(("make a semaphore".into(), outcome(semaphore.into())));
        if semaphore >= 0 {
            libc::semctl(semaphore, 0, libc::IPC_RMID);
        }
        all.push(("open the bot's System V queue".into(), outcome(libc::msgget(number, 0).into())));
        let queue = libc::mq_open(name.as_ptr(), libc::O_RDONLY);
        all.push(("open the bot's message queue".into(), outcome(queue.into())));
    }
}

/// Sets values that the target has already, so that a success changes nothing.
fn schedule(target: &str, pid: i32, all: &mut Attempts) {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    // Best effort, level 4: the default.
    const IOPRIO: libc::c_int = (2 << 13) | 4;
    // SAFETY: the arguments are plain numbers and values that outlive the calls.
    unsafe {
        let nice = libc::getpriority(libc::PRIO_PROCESS, pid as u32);
        let set = libc::setpriority(libc::PRIO_PROCESS, pid as u32, nice);
        all.push((format!("renice {target}"), outcome(set.into())));
        let set = libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, pid, IOPRIO);
        all.push((format!("set the disk priority of {target}"), outcome(set)));
        let mut cpus: libc::cpu_set_t = std::mem::zeroed();
        libc::sched_getaffinity(pid, size_of::<libc::cpu_set_t>(), &mut cpus);
        let set = libc::sched_setaffinity(pid, size_of::<libc::cpu_set_t>(), &cpus);
        all.push((format!("bind {target} to a processor"), outcome(set.into())));
        let parameters: libc::sched_param = std::mem::zeroed();
        let set = libc::sched_setscheduler(pid, libc::SCHED_OTHER, &parameters);
        all.push((format!("set the scheduler of {target}"), outcome(set.into())));
    }
}

fn whole_machine(all: &mut Attempts) {
    // No process has this user. So the error is another one, if the kernel looks for processes.
    const NOBODY: u32 = 3_999_999;
    const IOPRIO_WHO_USER: libc::c_int = 3;
    let looked = |returned: libc::c_long| {
        let error = io::Error::last_os_error();
        let is_refused = returned < 0 && error.raw_os_error() == Some(libc::EPERM);
        if is_refused { Err(error) } else { Ok("it looked for processes".to_owned()) }
    };
    // SAFETY: the arguments are plain numbers and buffers of the given length.
    unsafe {
        let set = libc::setpriority(libc::PRIO_USER, NOBODY, 0);
        all.push(("renice a user".into(), looked(set.into())));
        let set = libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_USER, NOBODY, 0);
        all.push(("set the disk priority of a user".into(), looked(set)));
        let mut attributes = [0_u8; 128];
        let opened = libc::syscall(libc::SYS_perf_event_open, attributes.as_mut_ptr(), 0, -1, -1, 0);
        all.push(("open a performance counter".into(), looked(opened)));
        let loaded = libc::syscall(libc::SYS_bpf, 0, attributes.as_mut_ptr(), 0);
        all.push(("reach bpf".into(), looked(loaded)));
        all.push(("fault handling of its own".into(), outcome(libc::syscall(libc::SYS_userfaultfd, 1))));
        let watched = libc::syscall(libc::SYS_fanotify_init, 0x200_u32, libc::O_RDONLY);
        all.push(("watch by fanotify".into(), outcome(watched)));
        let log = libc::syscall(libc::SYS_syslog, 10, 0, 0);
        all.push(("size of the kernel's log".into(), outcome(log)));
        #[cfg(target_arch = "x86_64")]
        {
            // `getpid` as an x32 call: a kernel with x32 performs it, any other answers ENOSYS.
            let x32 = libc::syscall(libc::SYS_getpid | 0x4000_0000);
            all.push(("call by the x32 convention".into(), looked(x32)));
        }
    }
}

/// Calls that a worker may make about itself. Success counts as denied here.
fn own(all: &mut Attempts) {
    // SAFETY: the arguments are plain numbers and values that outlive the calls.
    unsafe {
        let mut cpus: libc::cpu_set_t = std::mem::zeroed();
        libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut cpus);
        let results = [
            libc::setpriority(libc::PRIO_PROCESS, 0, libc::getpriority(libc::PRIO_PROCESS, 0)),
            libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &cpus),
            libc::prlimit(0, libc::RLIMIT_NOFILE, std::ptr::null(), &mut std::mem::zeroed()),
            libc::inotify_init1(libc::IN_CLOEXEC),
        ];
        let works = results.iter().all(|result| *result >= 0);
        let result = if works { Err(io::Error::other("it does")) } else { Ok(format!("{results:?}")) };
        all.push(("its own schedule and watches work".into(), result));
    }
}
