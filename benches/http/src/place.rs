//! A folder with a store, a configuration and the program in it.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tempfile::TempDir;
use tokio::process::{Child, Command};

/// The operator key.
pub(crate) const KEY: &str = "0123456789abcdef0123456789abcdef";
/// The request for the token of a fresh session.
pub(crate) const TOKEN_PATH: &str = "/v1/token/acme?principal=user:803";
/// The request for the token of an expired session.
pub(crate) const EXPIRED_PATH: &str = "/v1/token/acme?principal=user:804";

pub(crate) struct Place {
    folder: TempDir,
    pub(crate) port: u16,
}

impl Place {
    /// Lays out a store with a fresh session and an expired one. `more` is added to the configuration.
    pub(crate) fn new(token_endpoint: &str, more: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("tk").tempdir().expect("a folder");
        let place = Self { folder, port: free_port() };
        fs::DirBuilder::new().mode(0o700).create(place.path("store")).expect("writable");
        fs::create_dir(place.path("home")).expect("writable");
        let session = |user: u32, expires_in: i64| {
            let expires_at = now() + expires_in;
            let issued_at = expires_at - 36_000;
            format!(
                "\"acme/user:{user}\": {{\"access_token\": \"{user:0>120}\", \"refresh_token\": \"{user:0>80}\", \
                 \"token_type\": \"Bearer\", \"scope\": \"read write\", \"issued_at\": {issued_at}, \
                 \"expires_at\": {expires_at}, \"lineage\": \"{user:0>32x}\", \"generation\": 1, \
                 \"account\": \"someone@example.com\", \"token_endpoint\": \"{token_endpoint}\", \
                 \"client_id\": \"threadkey\"}}"
            )
        };
        let (fresh, expired) = (session(803, 36_000), session(804, -60));
        place.write(
            "store/auth.json",
            &format!("{{\"version\": 1, \"sessions\": {{{fresh}, {expired}}}, \"pending\": {{}}}}"),
        );
        place.write("key", KEY);
        place.write(
            "threadkey.toml",
            &format!(
                "[store]\npath = {store:?}\n\n[api]\nsocket = {socket:?}\nlisten = \"127.0.0.1:{port}\"\n\n\
                 [api.operator_keys.bench]\nkey_file = {key:?}\nprincipals = [\"*\"]\nproviders = [\"*\"]\n\n\
                 [providers.acme]\nauthorization_endpoint = \"{token_endpoint}\"\ntoken_endpoint = \"{token_endpoint}\"\n\
                 client_id = \"threadkey\"\nredirect_uri = \"http://127.0.0.1:1/callback\"\n\n{more}",
                store = place.path("store/auth.json"),
                socket = place.socket(),
                port = place.port,
                key = place.path("key"),
            ),
        );
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("threadkey.sock")
    }

    /// Writes a file that its owner alone can read.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let options =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(self.path(name));
        options.and_then(|mut file| file.write_all(text.as_bytes())).expect("writable");
    }

    /// Starts the program with this command, on this number of threads. Waits until it answers.
    pub(crate) async fn start(&self, threadkey: &Path, command: &str, threads: Option<u32>) -> Child {
        let log = fs::File::create(self.path("log")).expect("writable");
        let mut program = Command::new(threadkey);
        program
            .arg(command)
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path("home"))
            .env("THREADKEY_CONFIG", self.path("threadkey.toml"))
            .stdin(Stdio::null())
            .stderr(log)
            .kill_on_drop(true);
        if let Some(threads) = threads {
            program.env("TOKIO_WORKER_THREADS", threads.to_string());
        }
        let child = program.spawn().expect("it starts");
        for _ in 0..100 {
            if tokio::net::UnixStream::connect(self.socket()).await.is_ok() {
                return child;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("it does not listen:\n{}", fs::read_to_string(self.path("log")).unwrap_or_default());
    }
}

/// A request with the operator key.
pub(crate) fn request(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {KEY}\r\n\r\n").into_bytes()
}

/// Returns a port that is free at the moment.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_secs()).expect("before the year 292277026596")
}
