//! The real `threadkey` program, in a folder of its own, with a clock that the test sets.
#![expect(clippy::disallowed_methods, reason = "the tests' own files and processes are not the program's")]

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, Command},
    sync::watch,
};

/// The program's path, as Cargo built it for this test.
pub fn path() -> PathBuf {
    env!("CARGO_BIN_EXE_threadkey").into()
}

/// A folder with a configuration, a store, a clock and an empty HOME.
pub struct Home {
    folder: tempfile::TempDir,
}

/// How a program ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The exit code; -1 after a signal.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// A program that runs until it is stopped or dropped.
pub struct Running {
    child: Child,
    stderr: watch::Receiver<String>,
}

impl Home {
    /// Writes `config` as `threadkey.toml`. The clock shows the real time until it is set.
    pub fn new(config: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("tk").tempdir().expect("a temporary folder can be made");
        let home = Self { folder };
        home.configure(config);
        std::fs::write(home.clock(), "+0").expect("the clock file can be written");
        std::fs::create_dir(home.path().join("home")).expect("HOME can be made");
        home
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The store's default path.
    pub fn store(&self) -> PathBuf {
        self.path().join("home/.local/share/threadkey/auth.json")
    }

    /// Replaces the configuration.
    pub fn configure(&self, config: &str) {
        std::fs::write(self.path().join("threadkey.toml"), config).expect("the configuration can be written");
    }

    fn clock(&self) -> PathBuf {
        self.path().join("clock")
    }

    /// Moves the program's clock this far from the real one, for all processes at once.
    pub fn set_offset(&self, seconds: i64) {
        self.write_clock(&format!("{seconds:+}"));
    }

    /// Stops the program's clock at this Unix time, for all processes at once.
    pub fn set_time(&self, now: i64) {
        self.write_clock(&now.to_string());
    }

    fn write_clock(&self, text: &str) {
        let temp = self.path().join("clock.new");
        std::fs::write(&temp, text).expect("the clock file can be written");
        std::fs::rename(&temp, self.clock()).expect("the clock file can be replaced");
    }

    /// The program with these arguments, in this folder, with only PATH from this process's
    /// environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(path());
        command
            .args(arguments)
            .current_dir(self.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path().join("home"))
            .env("THREADKEY_CONFIG", self.path().join("threadkey.toml"))
            .env("THREADKEY_TEST_CLOCK", self.clock())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs it to its end.
    pub async fn run(&self, arguments: &[&str]) -> Ended {
        finish(self.command(arguments).spawn().expect("the program starts"), None).await
    }

    /// Runs it to its end with this on its standard input.
    pub async fn run_with(&self, arguments: &[&str], input: &str) -> Ended {
        let child = self.command(arguments).stdin(Stdio::piped()).spawn().expect("the program starts");
        finish(child, Some(input)).await
    }

    /// Runs it to its end with this on its standard input, and with more variables.
    pub async fn run_in(&self, arguments: &[&str], input: &str, variables: &[(&str, &str)]) -> Ended {
        let mut command = self.command(arguments);
        command.envs(variables.iter().copied()).stdin(Stdio::piped());
        finish(command.spawn().expect("the program starts"), Some(input)).await
    }

    /// Starts it and leaves it running; its standard error is collected. `environment` is added.
    pub fn start(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Running {
        let mut command = self.command(arguments);
        command.envs(environment.iter().copied()).stdout(Stdio::null());
        let mut child = command.spawn().expect("the program starts");
        let lines = BufReader::new(child.stderr.take().expect("it is piped"));
        let (sender, stderr) = watch::channel(String::new());
        tokio::spawn(async move {
            let mut lines = lines.lines();
            while let Ok(Some(line)) = lines.next_line().await {
                sender.send_modify(|all| {
                    all.push_str(&line);
                    all.push('\n');
                });
            }
        });
        Running { child, stderr }
    }
}

impl Running {
    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.child.id().and_then(|id| i32::try_from(id).ok()).expect("it runs")
    }

    /// Its standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.borrow().clone()
    }

    /// Waits until it has written this to standard error.
    pub async fn says(&self, text: &str) {
        let mut stderr = self.stderr.clone();
        let wait = stderr.wait_for(|all| all.contains(text));
        let found = matches!(tokio::time::timeout(Duration::from_secs(30), wait).await, Ok(Ok(_)));
        assert!(found, "waited in vain for {text:?} in this output:\n{}", self.stderr());
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32) {
        signal_process(self.pid(), signal);
    }

    /// Waits for its end, and returns its status.
    pub async fn status(mut self) -> std::process::ExitStatus {
        let status = tokio::time::timeout(Duration::from_secs(60), self.child.wait()).await;
        let Ok(Ok(status)) = status else { panic!("it did not end. Its output:\n{}", self.stderr()) };
        status
    }

    /// Waits for its end.
    pub async fn ended(mut self) -> Ended {
        let status = tokio::time::timeout(Duration::from_secs(60), self.child.wait()).await;
        let Ok(Ok(status)) = status else {
            panic!("it did not end. Its output:\n{}", self.stderr());
        };
        // The reader ends with the pipe; a detached child does not hold it.
        let _ = tokio::time::timeout(Duration::from_secs(5), self.stderr.wait_for(|_| false)).await;
        Ended { code: status.code().unwrap_or(-1), stdout: String::new(), stderr: self.stderr() }
    }

    /// Asks it to end, and waits.
    pub async fn stop(self) -> Ended {
        self.signal(15);
        self.ended().await
    }
}

/// Sends a signal to a process, or with a negative number to a process group, by the system's
/// `kill`.
pub fn signal_process(pid: i32, signal: i32) {
    let status = std::process::Command::new("/bin/kill")
        .args([format!("-{signal}"), "--".into(), pid.to_string()])
        .status();
    assert!(status.is_ok_and(|status| status.success()), "kill -{signal} {pid} failed");
}

async fn finish(mut child: Child, input: Option<&str>) -> Ended {
    if let Some(input) = input {
        let mut stdin = child.stdin.take().expect("it is piped");
        // The program may end without reading. The test sees that in the result.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    let output = tokio::time::timeout(Duration::from_secs(120), child.wait_with_output()).await;
    let output = output.expect("the program ends within two minutes").expect("its output can be read");
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).expect("standard output is UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("standard error is UTF-8"),
    }
}
