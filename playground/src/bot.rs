//! The real bot as a child process: its folder, its configuration, its clock and its log.
#![expect(clippy::disallowed_methods, reason = "the playground's own files are not the program's")]

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use threadkey::sys::{
    clock::CLOCK_FILE_VARIABLE,
    process::{self, Child, Pipes, Spec},
    sandbox,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    task::JoinHandle,
};

/// How long the bot has for a clean end.
const GRACE: Duration = Duration::from_secs(10);
/// The number of log lines that are shown when the bot ends.
const LAST_LINES: usize = 20;
/// The longest line that is read, in bytes. The rest of a longer line becomes a line of its own.
const LINE: u64 = 64 * 1024;

/// The bot's folder. Clones share it.
#[derive(Clone)]
pub(crate) struct Home {
    folder: PathBuf,
    /// How far the bot's clock is ahead, in seconds.
    ahead: Arc<AtomicI64>,
}

/// The bot's process.
pub(crate) struct Bot {
    child: Child,
    log: PathBuf,
    last: Arc<Mutex<VecDeque<String>>>,
    reading: JoinHandle<()>,
}

/// The configuration of the bot.
pub(crate) struct Settings<'a> {
    /// The look-alike.
    pub(crate) api_base: &'a str,
    /// The bot's token there.
    pub(crate) token: &'a str,
    /// Its section in threadkey.toml.
    pub(crate) provider: &'a str,
    /// The userinfo endpoint, which names the account of an agent's token.
    pub(crate) userinfo: &'a str,
}

/// The notice for machines that cannot isolate agents.
pub(crate) fn no_isolation() -> Option<String> {
    sandbox::supported().err().map(|missing| {
        format!(
            "This machine cannot isolate agents ({missing}). Only the playground runs them without a sandbox: \
             a real bot refuses to start them."
        )
    })
}

impl Home {
    /// In an empty folder.
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), ahead: Arc::default() }
    }

    /// Its log.
    pub(crate) fn log(&self) -> PathBuf {
        self.path("bot.log")
    }

    /// Its configuration.
    pub(crate) fn config(&self) -> PathBuf {
        self.path("threadkey.toml")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Moves the bot's clock further ahead of the real one, for the bot and its agents at once.
    pub(crate) fn advance(&self, by: Duration) -> Result<(), String> {
        let by = i64::try_from(by.as_secs()).unwrap_or(i64::MAX);
        let ahead = self.ahead.fetch_add(by, Ordering::SeqCst).saturating_add(by);
        self.set_clock(ahead)
    }

    fn set_clock(&self, ahead: i64) -> Result<(), String> {
        // Renamed over the old one: the bot never reads half of it.
        let new = self.path("clock.new");
        write(&new, &format!("{ahead:+}"))?;
        fs::rename(&new, self.path("clock")).map_err(|error| format!("{}: {error}", new.display()))
    }

    fn configuration(&self, settings: &Settings<'_>, program: &Path) -> String {
        let isolation = if no_isolation().is_some() { "none" } else { "auto" };
        let text = |path: &Path| toml_string(&path.to_string_lossy());
        format!(
            "[store]\npath = {store}\n\n[discord]\ntoken_file = {token_file}\napi_base = {api_base}\n\
             allow_everyone = true\n\n\
             [api]\nsocket = {socket}\n\n{provider}\n[agent]\ncommand = [{program}, \"agent\"]\n\
             providers = [\"acme\"]\nroot = {root}\nisolation = \"{isolation}\"\n\n[agent.env]\n\
             THREADKEY_AGENT_PROVIDER = \"acme\"\nTHREADKEY_AGENT_USERINFO = {userinfo}\n",
            store = text(&self.path("store/auth.json")),
            token_file = text(&self.path("discord-token")),
            api_base = toml_string(settings.api_base),
            socket = text(&self.path("store/threadkey.sock")),
            provider = settings.provider,
            program = text(program),
            root = text(&self.path("workers")),
            userinfo = toml_string(settings.userinfo),
        )
    }

    /// Starts the bot in it: this very file, as `threadkey run`.
    pub(crate) async fn start(&self, settings: &Settings<'_>, verbose: bool) -> Result<Bot, String> {
        let program = std::env::current_exe()
            .map_err(|error| format!("the path of the playground's own program is unknown: {error}"))?;
        write(&self.config(), &self.configuration(settings, &program))?;
        // In a file, because the command line reads the same configuration.
        write(&self.path("discord-token"), settings.token)?;
        self.set_clock(0)?;
        let home = self.path("home");
        fs::create_dir(&home).map_err(|error| format!("{}: {error}", home.display()))?;
        let env = [
            ("PATH", std::env::var_os("PATH").unwrap_or_default()),
            ("HOME", home.into()),
            ("THREADKEY_CONFIG", self.config().into()),
            (CLOCK_FILE_VARIABLE, self.path("clock").into()),
        ];
        let spec = Spec {
            program,
            args: vec!["run".into()],
            env: env.into_iter().map(|(name, value)| (name.into(), value)).collect(),
            folder: self.folder.clone(),
            sandbox: None,
            limits: process::Limits::default(),
            cgroup: None,
        };
        let log = self.log();
        let file = private(&log)?;
        let (child, pipes) =
            process::spawn(spec).await.map_err(|error| format!("the bot cannot be started: {error}"))?;
        let last = Arc::new(Mutex::new(VecDeque::new()));
        let reading = tokio::spawn(read(pipes, file, Arc::clone(&last), verbose));
        Ok(Bot { child, log, last, reading })
    }
}

impl Bot {
    /// Waits until the bot's process ends, which is a fault, and returns how it ended.
    pub(crate) async fn ended(&mut self) -> String {
        let how = match self.child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        // The rest of its log; an agent that outlives it by an instant may hold the pipe.
        let _ = tokio::time::timeout(Duration::from_secs(2), &mut self.reading).await;
        format!("the bot has ended ({how})")
    }

    /// The end of its log, with the log's path.
    pub(crate) fn last_words(&self) -> String {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let lines: String = last.iter().map(|line| format!("\n  {line}")).collect();
        format!("The end of its log, which is in {}:{lines}", self.log.display())
    }

    /// Ends it and its agents.
    pub(crate) async fn stop(&mut self) {
        if let Err(error) = self.child.stop(GRACE).await {
            eprintln!("playground: the bot cannot be stopped: {error}");
        }
    }
}

/// Copies the bot's output to its log, and keeps the last lines in memory.
async fn read(pipes: Pipes, mut file: File, last: Arc<Mutex<VecDeque<String>>>, verbose: bool) {
    let Pipes { stdin, stdout, stderr } = pipes;
    // The bot reads no input and prints no results.
    drop((stdin, stdout));
    let mut stderr = BufReader::new(stderr);
    let mut line = Vec::new();
    while let Ok(1..) = (&mut stderr).take(LINE).read_until(b'\n', &mut line).await {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        line.clear();
        // The playground works without a log.
        let _ = writeln!(file, "{text}");
        if verbose {
            let _ = writeln!(std::io::stderr(), "bot: {text}");
        }
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(text);
    }
}

fn private(path: &Path) -> Result<File, String> {
    let opened = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    opened.map_err(|error| format!("{} cannot be written: {error}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    let written = private(path)?.write_all(text.as_bytes());
    written.map_err(|error| format!("{} cannot be written: {error}", path.display()))
}

/// A TOML string that holds this.
fn toml_string(text: &str) -> String {
    toml::Value::from(text).to_string()
}
