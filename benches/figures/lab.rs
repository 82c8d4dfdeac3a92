//! The place of the measurements: a folder with a configuration, a store of any size, and a slow
//! provider.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tempfile::TempDir;
use threadkey::{
    ids::Tenant,
    store::{FileStore, FileStoreOptions},
    sys::clock::Clock,
};

/// How long the provider takes to answer.
pub(crate) const ANSWER_DELAY: Duration = Duration::from_millis(200);

const HOUR: u64 = 3600;

/// The state of the access token of `acme/local`.
#[derive(Clone, Copy)]
pub(crate) enum Token {
    Fresh,
    Expired,
}

pub(crate) struct Lab {
    folder: TempDir,
    pub(crate) provider: Provider,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let provider = Provider::start();
        let config = format!(
            "[store]\npath = \"store/auth.json\"\n[providers.acme]\nauthorization_endpoint = \"{0}\"\n\
             token_endpoint = \"{0}\"\nclient_id = \"threadkey\"\nredirect_uri = \"http://127.0.0.1:1/callback\"\n",
            provider.url
        );
        fs::write(folder.path().join("threadkey.toml"), config).expect("writable");
        install(Path::new(env!("CARGO_BIN_EXE_threadkey")), &folder.path().join("threadkey"));
        fs::create_dir(folder.path().join("home")).expect("writable");
        fs::DirBuilder::new().mode(0o700).create(folder.path().join("store")).expect("writable");
        Self { folder, provider }
    }

    /// Replaces the store by one with this many sessions. The session of `acme/local` is in the
    /// middle.
    pub(crate) fn fill(&self, sessions: usize, token: Token) {
        self.fill_at(sessions, token, sessions / 2);
    }

    /// Like [`Lab::fill`], with `ours` sessions before that of `acme/local`.
    pub(crate) fn fill_at(&self, sessions: usize, token: Token, ours: usize) {
        let expires_at = match token {
            Token::Fresh => now() + HOUR,
            Token::Expired => now() - 1,
        };
        let session = |n: usize| {
            let key = if n == ours {
                "acme/local".into()
            } else {
                format!("acme/user:{}", 80_351_110_224_678_912 + n)
            };
            let (expires_at, issued_at) = (expires_at, expires_at - HOUR);
            format!(
                "    \"{key}\": {{\n      \"access_token\": \"{n:0>120}\",\n      \"refresh_token\": \"r{n:0>80}\",\n      \
                 \"token_type\": \"Bearer\",\n      \"issued_at\": {issued_at},\n      \"expires_at\": {expires_at},\n      \
                 \"lineage\": \"{n:0>32x}\",\n      \"generation\": 1,\n      \"account\": \"someone@example.com\",\n      \
                 \"token_endpoint\": \"{url}\",\n      \"client_id\": \"threadkey\"\n    }}",
                url = self.provider.url
            )
        };
        let all: Vec<String> = (0..sessions).map(session).collect();
        let text = format!(
            "{{\n  \"version\": 1,\n  \"sessions\": {{\n{}\n  }},\n  \"pending\": {{}},\n  \"clients\": {{}}\n}}\n",
            all.join(",\n")
        );
        let temp = self.folder.path().join("new.json");
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temp).expect("new");
        file.write_all(text.as_bytes()).expect("writable");
        file.sync_all().expect("durable");
        fs::rename(&temp, self.path()).expect("replaceable");
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("store/auth.json")
    }

    pub(crate) fn store(&self) -> FileStore {
        open(self.path())
    }

    /// `threadkey token acme`.
    pub(crate) fn token_command(&self) -> Command {
        let mut command = Command::new(self.folder.path().join("threadkey"));
        command
            .args(["token", "acme"])
            .current_dir(self.folder.path())
            .env("HOME", self.folder.path().join("home"))
            .env("THREADKEY_CONFIG", self.folder.path().join("threadkey.toml"));
        quiet(&mut command);
        command
    }

    /// A program that prints a line, compiled by plain rustc.
    pub(crate) fn line_command(&self) -> Command {
        let program = self.folder.path().join("line");
        if !program.exists() {
            let [source, linked] = ["line.rs", "line.linked"].map(|name| self.folder.path().join(name));
            fs::write(&source, "fn main() { println!(\"a line\"); }").expect("writable");
            let made = Command::new("rustc").arg("-O").arg(&source).arg("-o").arg(&linked).status();
            assert!(made.expect("rustc").success());
            install(&linked, &program);
        }
        let mut command = Command::new(program);
        quiet(&mut command);
        command
    }
}

/// Copies a program, as its installation does. The linker writes its output page by page, and the
/// kernel then maps each page singly: that costs a third of the start of `threadkey token`, until
/// the file is read from the disk again.
fn install(from: &Path, to: &Path) {
    let program = fs::read(from).expect("a program");
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(to).expect("new");
    file.write_all(&program).expect("writable");
}

pub(crate) fn open(path: PathBuf) -> FileStore {
    FileStore::open(&path, Clock::system(), FileStoreOptions::default()).expect("a store")
}

fn quiet(command: &mut Command) {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
}

pub(crate) fn tenant() -> Tenant {
    "acme/local".parse().expect("a tenant")
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// How long `work` takes.
pub(crate) fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

pub(crate) fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Runs both in turn and returns their medians.
pub(crate) fn in_turn(
    rounds: usize,
    mut one: impl FnMut() -> Duration,
    mut other: impl FnMut() -> Duration,
) -> (Duration, Duration) {
    let (a, b) = (0..rounds).map(|_| (one(), other())).unzip();
    (median(a), median(b))
}

pub(crate) fn row(what: &str, measured: Duration, with: &str, other: Duration) {
    let ratio = measured.as_secs_f64() / other.as_secs_f64();
    println!("| {what} | {measured:.2?} | {with}: {other:.2?} | {ratio:.2} |");
}

/// A token endpoint that answers each refresh after [`ANSWER_DELAY`].
pub(crate) struct Provider {
    pub(crate) url: String,
    pub(crate) answered: Arc<AtomicU32>,
    /// The time of its last answer.
    pub(crate) last: Arc<Mutex<Option<Instant>>>,
}

impl Provider {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/token", listener.local_addr().expect("an address"));
        let (answered, last) = (Arc::<AtomicU32>::default(), Arc::<Mutex<_>>::default());
        let (count, moment) = (answered.clone(), last.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                answer(stream, number);
                *moment.lock().expect("whole") = Some(Instant::now());
            }
        });
        Self { url, answered, last }
    }
}

fn answer(stream: TcpStream, number: u32) {
    let mut reader = BufReader::new(&stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a request");
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().expect("a length");
        }
    }
    reader.read_exact(&mut vec![0; length]).expect("a form");
    std::thread::sleep(ANSWER_DELAY);
    let body = format!(
        "{{\"access_token\":\"new-{number}\",\"refresh_token\":\"next-{number}\",\"token_type\":\"Bearer\",\"expires_in\":3600}}"
    );
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length:";
    (&stream).write_all(format!("{head} {}\r\n\r\n{body}", body.len()).as_bytes()).expect("a caller");
}
