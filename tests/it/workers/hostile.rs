//! A hostile worker: it attacks the store, the bot, another worker and the machine, and gets
//! nothing.
//!
//! Fault model: the agent process is the attacker and runs as the bot's own system user (root, if
//! the tests run as root). The worker runs this test binary as its probe, which tries everything in
//! [`attempts`] and reports the results. Without isolation the same probe reads the store, which
//! shows that the probe works.
#![expect(unsafe_code, reason = "the attacks are system calls")]

mod kernel;
mod names;
mod sockets;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    net::TcpListener,
    os::{
        fd::AsRawFd as _,
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            fs::symlink,
            net::{SocketAddr, UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
};

use super::*;

const CANARY: &str = "canary-of-the-store";

/// The only attempt that Landlock permits before Linux 7.1. The documentation and doctor name it.
const SOCKET_WITH_A_PATH: &str = "a Unix socket with a path";

/// Secrets that an administrator keeps beside programs.
const OPT: &str = "read a secret in /opt";
const LOCAL: &str = "read a secret in /usr/local/etc";

/// The targets of the probe.
struct Targets {
    folder: PathBuf,
    bot: i32,
    objects: i32,
    sibling: i32,
    sibling_folder: PathBuf,
}

#[tokio::test]
async fn a_hostile_worker_in_landlock_gets_nothing() {
    if !isolated() {
        let rig =
            WorkerRig::scripted("done_with end_turn", |settings| settings.isolation = Isolation::Landlock);
        assert!(matches!(rig.prompt(1, "go").await, Err(PromptError::NoIsolation(_))));
        println!("this machine cannot isolate workers, so the hostile one was refused and not tried");
        return;
    }
    threadkey::sys::process::harden_self().expect("a process may protect itself");
    let (report, _) = attack(Isolation::Landlock).await;
    let (sockets, report): (Vec<_>, Vec<_>) =
        report.into_iter().partition(|(attempt, _)| attempt == SOCKET_WITH_A_PATH);
    let connected = sockets.iter().any(|(_, outcome)| outcome.starts_with("GOT"));
    assert_eq!(
        connected,
        !threadkey::sys::sandbox::governs_unix_sockets(),
        "the result differs from the warning of doctor: {sockets:?}"
    );
    let got: Vec<_> = report.iter().filter(|(_, outcome)| outcome.starts_with("GOT")).collect();
    assert!(got.is_empty(), "{got:#?}");
    assert!(report.len() >= 75, "the probe did not run to its end: {report:#?}");
}

#[tokio::test]
async fn a_hostile_worker_without_isolation_reads_the_store() {
    let (report, exists) = attack(Isolation::None).await;
    for name in [
        "read store/auth.json",
        "read by a symlink",
        "read the sibling's work",
        "signal the bot",
        "see and set the limits of the bot",
        "abstract socket",
        "renice the bot",
        "set the disk priority of the sibling",
        "bind the bot to a processor",
        "set the scheduler of the bot",
        "renice a user",
        "make shared memory",
        "leave a key for others",
        "find the sibling's socket by /proc",
        "find the sibling's socket by /proc of a thread",
        "find the sibling's socket by a diagnosis",
    ]
    .into_iter()
    .chain(exists)
    {
        let outcome = report.iter().find(|(attempt, _)| attempt == name).map(|(_, outcome)| outcome.as_str());
        assert!(outcome.is_some_and(|outcome| outcome.starts_with("GOT")), "{name}: {outcome:?}");
    }
}

/// Runs the probe in a worker beside a sibling. Returns its attempts and their results, and the
/// attempts whose targets this machine has.
async fn attack(isolation: Isolation) -> (Vec<(String, String)>, Vec<&'static str>) {
    let objects = kernel::Objects::make();
    let mut exists = objects.targets();
    let secrets = [("/opt", OPT), ("/usr/local/etc", LOCAL)].map(|(folder, attempt)| {
        let file = tempfile::Builder::new().suffix(".env").tempfile_in(folder);
        match &file {
            Ok(_) => exists.push(attempt),
            Err(error) => println!("{folder} has no secret here, because it cannot be written: {error}"),
        }
        file.ok()
    });
    let probe = std::env::current_exe().expect("this program has a path");
    let program_folder = probe.parent().expect("it is in a folder").to_owned();
    let run = r#"case "$line" in
  *wait*) echo "$THREADKEY_CAPABILITY" > secret; say "$$"; done_with end_turn ;;
  *ready*) done_with end_turn ;;
  *) "$PROBE" --exact workers::hostile::probe --nocapture > out 2>&1; done_with end_turn ;;
esac"#;
    let rig = WorkerRig::scripted(run, |settings| {
        settings.isolation = isolation;
        settings.read = vec![program_folder];
        settings.env.insert("PROBE".into(), probe.to_string_lossy().into_owned());
        let folder = settings.root.parent().expect("it has one").to_string_lossy().into_owned();
        settings.env.insert("PROBE_FOLDER".into(), folder);
        settings.env.insert("PROBE_BOT".into(), std::process::id().to_string());
        settings.env.insert("PROBE_OBJECTS".into(), objects.number.to_string());
    });
    let secret_paths = secrets.iter().map(|file| match file {
        Some(file) => {
            fs::write(file.path(), CANARY).expect("it can be written");
            file.path().to_string_lossy().into_owned()
        }
        None => String::new(),
    });
    let secret_paths = secret_paths.collect::<Vec<_>>().join("\n");
    let folder = rig.folder.path();
    fs::create_dir_all(folder.join("store/auth.json.refresh")).expect("the store's folder can be made");
    for name in
        ["auth.json", "auth.json.global.lock", "auth.json.bot.lock", "auth.json.refresh/acme%2Flocal.lock"]
    {
        fs::write(folder.join("store").join(name), CANARY).expect("the store can be written");
    }
    // A careless parent would pass this descriptor on.
    let leak = File::open(folder.join("store/auth.json")).expect("it is there");
    // SAFETY: the arguments are plain numbers, and the descriptor is open until the end of this
    // function.
    unsafe { libc::fcntl(leak.as_raw_fd(), libc::F_SETFD, 0) };
    let abstract_name = SocketAddr::from_abstract_name(format!("threadkey-test-{}", folder.display()));
    let _listener = UnixListener::bind_addr(&abstract_name.expect("a short name")).expect("it can be bound");

    let _bus = UnixListener::bind(folder.join("bus")).expect("it can be bound");

    let sibling = rig.turn(2, "wait").await.text;
    let _socket = UnixListener::bind(rig.own_folder(2).join("tmp/s")).expect("it can be bound");
    let report = {
        // Files in the probe's own working folder give it the sibling's process id and its folder,
        // which it cannot learn by itself.
        rig.turn(1, "ready").await;
        let own = rig.own_folder(1).join("cwd");
        fs::write(own.join("sibling"), &sibling).expect("it can be written");
        fs::write(own.join("secrets"), secret_paths).expect("it can be written");
        fs::write(own.join("sibling-folder"), rig.own_folder(2).as_os_str().as_bytes())
            .expect("it can be written");
        rig.turn(1, "attack").await;
        fs::read_to_string(own.join("out")).expect("the probe has written its report")
    };
    assert!(!rig.workers.live().is_empty());
    rig.workers.shutdown().await;
    let lines = report.lines().filter_map(|line| line.strip_prefix("probe: ")?.split_once(" => "));
    let report: Vec<_> = lines.map(|(attempt, outcome)| (attempt.to_owned(), outcome.to_owned())).collect();
    assert!(!report.is_empty(), "the probe did not run");
    (report, exists)
}

/// The program of the hostile worker. As a test of its own it does nothing.
#[test]
fn probe() {
    let Some(folder) = std::env::var_os("PROBE_FOLDER") else { return };
    let number = |text: String| text.trim().parse().expect("a number");
    let targets = Targets {
        folder: folder.into(),
        bot: number(std::env::var("PROBE_BOT").expect("it is given")),
        objects: number(std::env::var("PROBE_OBJECTS").expect("it is given")),
        sibling: number(fs::read_to_string("sibling").expect("it is in our own folder")),
        sibling_folder: fs::read_to_string("sibling-folder").expect("it is in our own folder").into(),
    };
    println!();
    for (name, outcome) in attempts(&targets) {
        match outcome {
            Ok(got) => println!("probe: {name} => GOT {}", got.lines().next().unwrap_or_default()),
            Err(error) => println!("probe: {name} => denied: {error}"),
        }
    }
}

type Attempts = Vec<(String, io::Result<String>)>;

fn attempts(targets: &Targets) -> Attempts {
    let mut all = Attempts::new();
    files(targets, &mut all);
    processes(targets, &mut all);
    sockets::attempts(targets, &mut all);
    machine(targets, &mut all);
    kernel::attempts(targets, &mut all);
    all
}

fn read(path: impl AsRef<Path>) -> io::Result<String> {
    let mut bytes = [0; 64];
    let read = File::open(path)?.read(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes[..read]).into_owned())
}

fn list(path: impl AsRef<Path>) -> io::Result<String> {
    Ok(fs::read_dir(path)?
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .collect())
}

fn create(path: impl AsRef<Path>) -> io::Result<String> {
    let path = path.as_ref();
    OpenOptions::new().write(true).create_new(true).open(path)?.write_all(b"x")?;
    let _ = fs::remove_file(path);
    Ok(format!("wrote {}", path.display()))
}

fn files(targets: &Targets, all: &mut Attempts) {
    let store = targets.folder.join("store");
    for name in
        ["auth.json", "auth.json.global.lock", "auth.json.bot.lock", "auth.json.refresh/acme%2Flocal.lock"]
    {
        let path = store.join(name);
        all.push((format!("read store/{name}"), read(&path)));
        let open = OpenOptions::new().append(true).open(&path);
        all.push((format!("append to store/{name}"), open.map(|_| "opened".into())));
    }
    all.push(("list the store".into(), list(&store)));
    all.push(("write into the store".into(), create(store.join("new"))));
    let renamed = fs::rename(store.join("auth.json.bot.lock"), store.join("moved"));
    all.push(("rename in the store".into(), renamed.map(|()| "renamed".into())));
    let removed = fs::remove_file(store.join("auth.json.bot.lock"));
    all.push(("remove from the store".into(), removed.map(|()| "removed".into())));
    let _ = symlink(store.join("auth.json"), "link");
    all.push(("read by a symlink".into(), read("link")));
    let linked = fs::hard_link(store.join("auth.json"), "hard").and_then(|()| read("hard"));
    all.push(("read by a hard link".into(), linked));
    all.push(("read by a path through our own folder".into(), read("../../../store/auth.json")));

    let sibling = &targets.sibling_folder;
    all.push(("list the sibling's folder".into(), list(sibling)));
    all.push(("read the sibling's work".into(), read(sibling.join("cwd/secret"))));
    all.push(("write the sibling's HOME".into(), create(sibling.join("home/x"))));
    all.push(("write the sibling's TMPDIR".into(), create(sibling.join("tmp/x"))));
    all.push(("list all workers".into(), list(targets.folder.join("agents"))));
    all.push(("write beside the workers".into(), create(targets.folder.join("agents/x"))));
}

fn processes(targets: &Targets, all: &mut Attempts) {
    let probe = std::process::id() as i32;
    for (target, pid) in [("the bot", targets.bot), ("the sibling", targets.sibling)] {
        for file in
            ["environ", "mem", "maps", "cmdline", "status", "stack", "root/etc/passwd", "cwd/Cargo.toml"]
        {
            all.push((format!("/proc of {target}: {file}"), read(format!("/proc/{pid}/{file}"))));
        }
        all.push((format!("/proc of {target}: descriptors"), list(format!("/proc/{pid}/fd"))));
        // Signal 0 only checks the permission.
        // SAFETY: the arguments are plain numbers and a buffer that outlives the calls.
        unsafe {
            all.push((format!("signal {target}"), outcome(libc::kill(pid, 0).into())));
            all.push((format!("signal the group of {target}"), outcome(libc::kill(-pid, 0).into())));
            let pidfd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
            let null = std::ptr::null::<libc::siginfo_t>();
            let sent = libc::syscall(libc::SYS_pidfd_send_signal, pidfd, 0, null, 0);
            all.push((format!("signal {target} by descriptor"), outcome(sent)));
            all.push((
                format!("take a descriptor of {target}"),
                outcome(libc::syscall(libc::SYS_pidfd_getfd, pidfd, 1, 0)),
            ));
            if pid != probe {
                let seized = libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0);
                all.push((format!("trace {target}"), outcome(seized)));
            }
            let (no_limit, mut limit) = (std::ptr::null(), libc::rlimit { rlim_cur: 0, rlim_max: 0 });
            let limited = libc::prlimit(pid, libc::RLIMIT_CPU, no_limit, &mut limit);
            all.push((format!("see and set the limits of {target}"), outcome(limited.into())));
            let mut buffer = [0_u8; 8];
            let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
            let remote = libc::iovec { iov_base: std::ptr::from_ref(targets).cast_mut().cast(), iov_len: 8 };
            let taken = libc::process_vm_readv(pid, &local, 1, &remote, 1, 0);
            // Without the permission the error is EPERM. An unmapped address gives EFAULT.
            let error = io::Error::last_os_error();
            let denied = taken < 0 && error.raw_os_error() != Some(libc::EFAULT);
            let read = if denied { Err(error) } else { Ok("its memory".into()) };
            all.push((format!("read the memory of {target}"), read));
        }
    }
    all.push(("list /proc".into(), list("/proc")));
}

fn machine(targets: &Targets, all: &mut Attempts) {
    for path in ["/etc/shadow", "/root/.bashrc", "/dev/mem", "/dev/vda", "/proc/kcore", "/proc/1/environ"] {
        all.push((format!("read {path}"), read(path)));
    }
    let secrets = fs::read_to_string("secrets").unwrap_or_default();
    for (attempt, path) in [OPT, LOCAL].into_iter().zip(secrets.lines()).filter(|(_, path)| !path.is_empty())
    {
        all.push((attempt.to_owned(), read(path)));
    }
    for path in [
        "/tmp",
        "/root",
        "/opt",
        "/srv",
        "/nix/store",
        "/usr/local/etc",
        "/var/log",
        "/run",
        "/dev/shm",
        "/dev/pts",
    ] {
        all.push((format!("list {path}"), list(path)));
    }
    for path in [
        "/tmp/threadkey-probe",
        "/usr/local/threadkey-probe",
        "/var/tmp/threadkey-probe",
        "/dev/shm/threadkey-probe",
    ] {
        all.push((format!("write {path}"), create(path)));
    }
    let name = format!("threadkey-test-{}", targets.folder.display());
    let connected = SocketAddr::from_abstract_name(name).and_then(|name| UnixStream::connect_addr(&name));
    all.push(("abstract socket".into(), connected.map(|_| "connected".into())));
    let connected = UnixStream::connect(targets.folder.join("bus"));
    all.push((SOCKET_WITH_A_PATH.into(), connected.map(|_| "connected".into())));
    for descriptor in 3..1024 {
        let mut bytes = [0_u8; CANARY.len()];
        // SAFETY: the buffer outlives the call and has the given length.
        let read = unsafe { libc::pread(descriptor, bytes.as_mut_ptr().cast(), bytes.len(), 0) };
        if read == CANARY.len() as isize && bytes == CANARY.as_bytes() {
            all.push((format!("descriptor {descriptor}"), Ok("the store".into())));
        }
    }
    // SAFETY: the arguments are constant C strings and plain numbers.
    unsafe {
        let mounted = libc::mount(c"none".as_ptr(), c"/mnt".as_ptr(), c"tmpfs".as_ptr(), 0, std::ptr::null());
        all.push(("mount".into(), outcome(mounted.into())));
        all.push(("chroot".into(), outcome(libc::chroot(c"/usr".as_ptr()).into())));
        all.push((
            "make a device".into(),
            outcome(libc::mknod(c"disk".as_ptr(), libc::S_IFBLK | 0o600, libc::makedev(254, 0)).into()),
        ));
        let unshared = libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS);
        let mounted = libc::mount(c"none".as_ptr(), c"/mnt".as_ptr(), c"tmpfs".as_ptr(), 0, std::ptr::null());
        all.push((format!("mount in a namespace of its own ({unshared})"), outcome(mounted.into())));
    }
    // The network is allowed, because an agent without it would be useless. So success counts as
    // denied here.
    let network =
        TcpListener::bind("127.0.0.1:0").and_then(|l| std::net::TcpStream::connect(l.local_addr()?));
    all.push((
        "the network works".into(),
        network.map_or_else(|e| Ok(format!("no: {e}")), |_| Err(io::Error::other("it does"))),
    ));
}

fn outcome(returned: i64) -> io::Result<String> {
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok("allowed".into()) }
}
