//! A bot, its user, an authorization server and the vendors, for one tool.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use crate::{
    cases::{Case, End},
    support::{authserver::AuthServer, program::Running},
    team::{self, Team},
    vendors::{Seen, Tokens, Vendors},
};

/// More than the life of an access token.
const A_LIFE: i64 = team::AN_HOUR + 100;
/// The age of an access token that threadkey replaces ahead of its end.
const NEAR_THE_END: i64 = team::AN_HOUR - 300;
/// More than the time for which `--probe` remembers a good answer.
const AFTER_A_PROBE: i64 = 4;
/// The limit of the wait for a renewed file.
const RENEWAL: Duration = Duration::from_secs(60);

/// The access tokens of the authorization server, whose clock and threadkey's the test moves.
struct Life {
    server: AuthServer,
    /// The folder of threadkey, with its clock file and its store.
    home: OnceLock<(PathBuf, PathBuf)>,
    /// The offset of that clock.
    offset: Mutex<i64>,
    first_end: End,
}

impl Life {
    /// Moves the clock of the authorization server.
    fn age(&self, seconds: i64) {
        self.server.advance(Duration::from_secs(seconds.unsigned_abs()));
    }

    /// Moves the clock of threadkey.
    fn move_clock(&self, seconds: i64) {
        let mut offset = self.offset.lock().unwrap_or_else(PoisonError::into_inner);
        *offset += seconds;
        let (home, _) = self.home();
        let (clock, new) = (home.join("clock"), home.join("clock.new"));
        std::fs::write(&new, format!("{:+}", *offset)).expect("the clock can be written");
        std::fs::rename(&new, clock).expect("the clock can be replaced");
    }

    fn home(&self) -> &(PathBuf, PathBuf) {
        self.home.get().expect("the folder is made before a tool runs")
    }

    /// The token comes near its end, threadkey renews the tool's file, and the token ends.
    fn renew(&self) {
        let refreshes = || self.server.events().of("alice").refreshes;
        let before = refreshes();
        self.move_clock(NEAR_THE_END);
        self.age(NEAR_THE_END);
        let begun = std::time::Instant::now();
        while refreshes() == before || !self.is_in_a_file() {
            assert!(begun.elapsed() < RENEWAL, "the tool's file is not renewed");
            std::thread::sleep(Duration::from_millis(100));
        }
        self.move_clock(A_LIFE - NEAR_THE_END);
        self.age(A_LIFE - NEAR_THE_END);
    }

    /// Whether the stored token is in a file of a tool.
    fn is_in_a_file(&self) -> bool {
        let (home, store) = self.home();
        let stored = std::fs::read(store).unwrap_or_default();
        let stored: serde_json::Value = serde_json::from_slice(&stored).unwrap_or_default();
        let session = stored["sessions"].as_object().and_then(|sessions| sessions.values().next());
        let Some(token) = session.and_then(|session| session["access_token"].as_str()) else { return false };
        let files = files_below(home);
        let mut of_tools = files.iter().filter(|(path, _)| path.parent() != store.parent());
        of_tools.any(|(_, content)| content.windows(token.len()).any(|part| part == token.as_bytes()))
    }
}

impl Tokens for Life {
    fn is_live(&self, token: &str) -> bool {
        self.server.is_live(token)
    }

    fn end_early(&self) {
        match self.first_end {
            End::Early => {
                self.move_clock(AFTER_A_PROBE);
                self.age(A_LIFE);
            }
            End::AtOnce => self.age(A_LIFE),
            End::Renewed => tokio::task::block_in_place(|| self.renew()),
        }
    }

    fn expire(&self) {
        if self.first_end == End::Renewed {
            return tokio::task::block_in_place(|| self.renew());
        }
        self.move_clock(A_LIFE);
        self.age(A_LIFE);
    }
}

/// Everything for one tool. The user is signed in.
pub(crate) struct Rig {
    pub(crate) team: Team,
    pub(crate) server: AuthServer,
    pub(crate) vendors: Vendors,
    life: Arc<Life>,
    _folder: tempfile::TempDir,
}

impl Rig {
    /// Starts all but the bot. `config` gets the vendors, and returns the sections of the tool.
    pub(crate) async fn new(first_end: End, config: impl FnOnce(&Vendors) -> String) -> Self {
        let server = team::authserver().await;
        let (home, offset) = (OnceLock::new(), Mutex::default());
        let life = Arc::new(Life { server: server.clone(), home, offset, first_end });
        let folder = tempfile::tempdir().expect("a folder");
        make_repository(&folder.path().join("repositories/acme/hello.git"));
        let vendors = Vendors::start(life.clone(), folder.path()).await;
        let team = Team::new(&server.config_toml("acme"), &config(&vendors)).await;
        life.home.set((team.home.path().to_owned(), team.home.store())).expect("it is set once");
        Self { team, server, vendors, life, _folder: folder }
    }

    /// Starts the bot, and signs the user in.
    pub(crate) async fn run(&self) -> Running {
        let bot = self.team.run().await;
        self.team.sign_in(&self.team.alice, "alice").await;
        bot
    }

    /// Signs the user of the terminal in.
    pub(crate) async fn sign_in_locally(&self) {
        let started = self.team.home.run(&["auth", "start", "acme", "--json"]).await;
        let started: serde_json::Value = serde_json::from_str(&started.stdout).expect("JSON");
        let callback = self.server.allow(started["authorize_url"].as_str().expect("a link"), "alice");
        let done = self.team.home.run_with(&["auth", "code", "acme"], &callback).await;
        assert_eq!(done.code, 0, "{done:?}");
    }

    /// The vendor ends the token early.
    pub(crate) fn end_early(&self) {
        self.life.end_early();
    }

    /// The token expires for all.
    pub(crate) fn expire(&self) {
        self.life.expire();
    }

    /// Returns every refresh token that was ever issued.
    fn refresh_tokens(&self) -> BTreeSet<String> {
        let spent = self
            .server
            .requests()
            .into_iter()
            .filter_map(|request| request.form.get("refresh_token").cloned());
        let stored: serde_json::Value = serde_json::from_str(&self.team.stored()).expect("JSON");
        let sessions = stored["sessions"].as_object().into_iter().flatten();
        let live = sessions.filter_map(|(_, session)| session["refresh_token"].as_str().map(str::to_owned));
        spent.chain(live).collect()
    }

    /// Returns the problems after a tool has lived through two ends of its token: one early, one
    /// expected.
    pub(crate) fn problems(&self, watched: &Watched, case: &Case) -> Vec<String> {
        let mut found = Vec::new();
        let counts = self.server.events().of("alice");
        if (counts.refreshes, counts.reuses, counts.failed) != (2, 0, 0) {
            found.push(format!("2 refreshes were due, one for each end of a token: {counts:?}"));
        }
        let seen = self.vendors.seen();
        found.extend(failed_requests(&seen, case));
        let access_tokens: BTreeSet<_> = seen.iter().filter_map(|seen| seen.token.clone()).collect();
        let folders = [self.team.home.path().join("workers"), self.team.home.path().join("tools")];
        let files: Vec<_> = folders.iter().flat_map(|folder| files_below(folder)).collect();
        let mut check = |kind: &str, secrets: &BTreeSet<String>| {
            for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
                let holds = |text: &[u8]| text.windows(secret.len()).any(|part| part == secret.as_bytes());
                found.extend(
                    watched
                        .arguments
                        .iter()
                        .filter(|text| holds(text.as_bytes()))
                        .map(|text| format!("{kind} in arguments: {text}")),
                );
                let with = files.iter().filter(|(_, content)| holds(content));
                found.extend(with.map(|(path, _)| format!("{kind} in the file {}", path.display())));
            }
        };
        let refresh_tokens = self.refresh_tokens();
        check("a refresh token", &refresh_tokens);
        check("a capability", &watched.capabilities);
        check("an access token", &access_tokens);
        // The hooks of a terminal have no secret in their environment.
        if case.exec.is_none() && watched.capabilities.is_empty() {
            found.push("no process with a capability was seen".to_owned());
        }
        self.team.discord.assert_no_violations();
        found
    }
}

/// Returns the requests that the tool must have seen fail.
fn failed_requests(seen: &[Seen], case: &Case) -> Vec<String> {
    let mut found = Vec::new();
    for (at, request) in seen.iter().enumerate() {
        let is_repeated =
            || seen[at + 1..].iter().any(|later| later.line == request.line && later.status < 400);
        let show = format!("{} answered {}", request.line, request.status);
        let may_fail = || case.may_fail.contains(&request.line);
        if request.status >= 400 && !(request.status == 401 && (is_repeated() || may_fail())) {
            found.push(format!("a failed request: {show}"));
        }
        if case.refused == 0 && !["", "0"].contains(&request.retries.as_str()) {
            found.push(format!("the tool repeated a request itself: {show}"));
        }
    }
    let refused = seen.iter().filter(|request| request.status == 401 && request.token.is_some()).count();
    // The proxy meets the dead token once for all requests that are on their way.
    let limit = case.refused.max(1);
    if refused > limit {
        found.push(format!("{refused} requests with a dead token, and not {limit}"));
    }
    found
}

fn make_repository(folder: &Path) {
    let git = |arguments: &[&str]| {
        let mut command = std::process::Command::new("git");
        let status = command.args(arguments).env("GIT_CONFIG_GLOBAL", "/dev/null").status();
        assert!(status.is_ok_and(|status| status.success()), "git {arguments:?}");
    };
    let path = folder.to_str().expect("a UTF-8 path");
    git(&["init", "-q", "--bare", "-b", "main", path]);
    git(&["-C", path, "config", "http.receivepack", "true"]);
}

/// Returns all files below a folder, with their contents.
fn files_below(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            all.extend(files_below(&entry.path()));
        } else if kind.is_file() {
            let content = std::fs::read(entry.path()).unwrap_or_default();
            all.push((entry.path(), content));
        }
    }
    all
}

/// The variables with the capability of a worker, or with the secret of a route.
const SECRETS: [&str; 6] = [
    "THREADKEY_CAPABILITY",
    "THREADKEY_CODEX_KEY",
    "LO_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "OPENAI_API_KEY",
    "GEMINI_API_KEY",
];

/// The arguments of all processes while a tool ran, and the capabilities of workers among them.
#[derive(Default)]
pub(crate) struct Watched {
    arguments: BTreeSet<String>,
    capabilities: BTreeSet<String>,
}

impl Watched {
    /// Looks at all processes, again and again, until the watch is stopped.
    pub(crate) fn start() -> (Arc<Mutex<bool>>, std::thread::JoinHandle<Self>) {
        let stopped = Arc::new(Mutex::new(false));
        let is_stopped = stopped.clone();
        let watching = std::thread::spawn(move || {
            let mut watched = Self::default();
            while !*is_stopped.lock().unwrap_or_else(PoisonError::into_inner) {
                watched.look();
                std::thread::sleep(Duration::from_millis(20));
            }
            watched
        });
        (stopped, watching)
    }

    fn look(&mut self) {
        for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let read = |name: &str| {
                let bytes = std::fs::read(process.path().join(name)).unwrap_or_default();
                String::from_utf8_lossy(&bytes).into_owned()
            };
            let arguments = read("cmdline");
            if arguments.is_empty() || !self.arguments.insert(arguments.replace('\0', " ")) {
                continue;
            }
            let environment = read("environ");
            let pairs = environment.split('\0').filter_map(|pair| pair.split_once('='));
            let found = pairs.filter(|(name, _)| SECRETS.contains(name)).map(|(_, value)| value.to_owned());
            self.capabilities.extend(found);
        }
    }
}
