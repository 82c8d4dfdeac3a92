//! Pastes at the prompt of `threadkey auth code`, in a real shell on a pseudo-terminal. The shell
//! runs nothing of a paste, and finds its terminal as it was.

use std::time::Duration;

use pty_process::{Pty, Size};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    support::{
        authserver::AuthServer,
        browser::{self, Callback},
        program::{Home, path, signal_process},
    },
    team::authserver,
};

/// The prompt of the shell. The quotes keep it from appearing in the line that sets it.
pub(crate) const PROMPT: &str = "shell-is-ready> ";
pub(crate) const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";

/// A provider, a home with a started sign-in, and its answer.
struct Case {
    server: AuthServer,
    home: Home,
    callback: Callback,
}

impl Case {
    async fn start() -> Self {
        let server = authserver().await;
        let home = Home::new(&server.config_toml("acme"));
        let started = home.run(&["auth", "start", "acme"]).await;
        let callback = browser::sign_in(started.stdout.trim(), "alice").await;
        Self { server, home, callback }
    }

    /// The answer with a line break in it. Its second line is a command for a shell.
    fn broken_address(&self) -> String {
        let (first, second) = self.callback.url.split_at(self.callback.url.len() / 2);
        format!("{first}\n{second}; touch ran-by-the-shell\n")
    }

    async fn shell(&self, term: &str) -> Shell {
        Shell::start(&self.home, term, &[]).await
    }

    async fn account(&self) -> Value {
        let token = self.home.run(&["token", "acme", "--format", "json"]).await;
        let token: Value = serde_json::from_str(&token.stdout).unwrap_or_default();
        token["account"].clone()
    }

    /// Asserts that the shell ran nothing of a paste, has no more input, and that its terminal has
    /// the same mode as before.
    async fn assert_untouched(&self, shell: &mut Shell) {
        shell.assert_sane().await;
        assert!(!self.home.path().join("ran-by-the-shell").exists(), "{:?}", shell.output);
        assert!(!shell.output.contains("not found"), "{:?}", shell.output);
        assert!(!shell.output.contains(&self.callback.code), "{:?}", shell.output);
        assert!(!shell.output.contains(&self.callback.state), "{:?}", shell.output);
    }
}

/// An interactive shell, and the screen of its terminal.
pub(crate) struct Shell {
    pty: Pty,
    _child: tokio::process::Child,
    pub(crate) output: String,
    /// How much of the output was waited for.
    seen: usize,
    mode: String,
}

impl Shell {
    /// Starts a shell in this home, with more variables.
    pub(crate) async fn start(home: &Home, term: &str, variables: &[(&str, &str)]) -> Self {
        let (pty, pts) = pty_process::open().expect("a pseudo-terminal can be opened");
        pty.resize(Size::new(24, 80)).expect("it has a size");
        let child = pty_process::Command::new("/bin/sh")
            .arg("-i")
            .current_dir(home.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", home.path().join("home"))
            .env("THREADKEY_TEST_CLOCK", home.path().join("clock"))
            .env("THREADKEY_CONFIG", home.path().join("threadkey.toml"))
            .env("TERM", term)
            .env("PS1", PROMPT)
            .envs(variables.iter().copied())
            .kill_on_drop(true)
            .spawn(pts)
            .expect("the shell starts");
        let mut shell = Self { pty, _child: child, output: String::new(), seen: 0, mode: String::new() };
        shell.until(PROMPT).await;
        shell.mode = shell.run("stty -g").await;
        shell
    }

    /// Asserts that the shell has no more input, and that its terminal has the same mode as before.
    pub(crate) async fn assert_sane(&mut self) {
        self.until(PROMPT).await;
        assert_eq!(self.run("echo left-$((40 + 2))").await, "left-42", "{:?}", self.output);
        assert_eq!(self.run("stty -g").await, self.mode, "{:?}", self.output);
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.pty.write_all(text.as_bytes()).await.expect("the terminal takes input");
    }

    /// Reads until this appears; returns the output before it.
    pub(crate) async fn until(&mut self, words: &str) -> String {
        let mut buffer = [0; 4096];
        loop {
            if let Some(at) = self.output[self.seen..].find(words) {
                let before = self.output[self.seen..self.seen + at].to_owned();
                self.seen += at + words.len();
                return before;
            }
            let read = tokio::time::timeout(Duration::from_secs(30), self.pty.read(&mut buffer)).await;
            let Ok(Ok(read)) = read else { panic!("waited in vain for {words:?}: {:?}", self.output) };
            self.output.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
    }

    /// Runs a command; returns what it prints. Nothing else may appear before the next prompt.
    pub(crate) async fn run(&mut self, command: &str) -> String {
        self.send(&format!("{command}\n")).await;
        let output = self.until(PROMPT).await;
        let printed = output.strip_prefix(command).unwrap_or_else(|| panic!("{command}: {output:?}"));
        printed.trim().to_owned()
    }

    /// Runs `threadkey auth code` and waits for its question.
    async fn ask(&mut self) {
        self.send(&format!("{} auth code; echo exit=$?\n", path().display())).await;
        self.until("ended on:").await;
        self.until("> ").await;
    }
}

#[tokio::test]
async fn a_paste_of_two_lines_signs_in_and_nothing_of_it_reaches_the_shell() {
    for (term, before, after) in [
        ("dumb", "", ""),
        ("xterm", "", ""),
        ("xterm", "\x1b[200~", "\x1b[201~"),
        ("xterm", "\x1b[200~", "\x1b[201~\r"),
        ("xterm", "", "and one more line\nand another"),
    ] {
        let case = Case::start().await;
        let mut shell = case.shell(term).await;
        shell.ask().await;
        assert_eq!(shell.output.contains("\x1b[?2004h"), term == "xterm", "{:?}", shell.output);
        shell.send(&format!("{before}{}{after}", case.broken_address())).await;
        shell.until("Signed in at acme as alice@example.com.").await;
        shell.until("exit=0").await;
        case.assert_untouched(&mut shell).await;
        assert_eq!(shell.output.contains("\x1b[?2004l"), term == "xterm", "{:?}", shell.output);
        assert_eq!(case.account().await, "alice@example.com");
    }
}

#[tokio::test]
async fn an_address_of_4300_characters_is_read_whole_at_a_terminal() {
    for (before, after) in [("", "\n"), ("\x1b[200~", "\x1b[201~\r")] {
        let case = Case::start().await;
        let mut shell = case.shell("xterm").await;
        shell.ask().await;
        let padding = "x".repeat(4300 - case.callback.url.len() - "&pad=".len());
        let long = case.callback.url.replace("&state=", &format!("&pad={padding}&state="));
        assert_eq!(long.len(), 4300);
        shell.send(&format!("{before}{long}{after}")).await;
        shell.until("4300 characters").await;
        shell.until("exit=0").await;
        case.assert_untouched(&mut shell).await;
        assert_eq!(case.account().await, "alice@example.com");
    }
}

#[tokio::test]
async fn ctrl_c_in_the_middle_of_a_paste_leaves_nothing_to_the_shell() {
    let case = Case::start().await;
    let mut shell = case.shell("xterm").await;
    let (first, second) = case.callback.url.split_at(case.callback.url.len() / 2);
    for paste in [
        CTRL_C.to_owned(),
        format!("{first}{CTRL_C}"),
        format!("{first}{CTRL_C}{second}\ntouch ran-by-the-shell\n"),
        format!("\x1b[200~{first}\n{CTRL_C}"),
        format!("\x1b[200~{first}{CTRL_C}{second}\ntouch ran-by-the-shell\n\x1b[201~\r"),
    ] {
        shell.ask().await;
        shell.send(&paste).await;
        shell.until("interrupted: nothing was sent").await;
        shell.until("exit=2").await;
        case.assert_untouched(&mut shell).await;
    }
    assert_eq!(case.server.count(), 0, "nothing was sent");
    shell.ask().await;
    shell.send(&format!("{}\n", case.callback.url)).await;
    shell.until("exit=0").await;
    case.assert_untouched(&mut shell).await;
}

#[tokio::test]
async fn ctrl_d_and_a_refused_paste_end_the_question_with_their_exit_code() {
    let case = Case::start().await;
    let mut shell = case.shell("xterm").await;
    let foreign = case.broken_address().replace(&case.callback.state[20..], "another");
    for (paste, text) in [
        (CTRL_D, "interrupted"),
        ("\n", "that was empty"),
        ("hello world\ntouch ran-by-the-shell\n", "contains no code"),
        (&foreign, "its state does not match"),
    ] {
        shell.ask().await;
        shell.send(paste).await;
        shell.until(text).await;
        shell.until("exit=2").await;
        case.assert_untouched(&mut shell).await;
    }
    assert_eq!(case.server.count(), 0, "nothing was sent");
}

#[tokio::test]
async fn a_signal_at_the_prompt_restores_the_terminal() {
    let case = Case::start().await;
    let mut shell = case.shell("xterm").await;
    for signal in [15, 2, 1, 3] {
        let program = path().display().to_string();
        shell.send(&format!("sh -c 'echo pid=$$.; exec {program} auth code'; echo exit=$?\n")).await;
        // The first one is the command on the screen.
        shell.until("pid=$$.").await;
        shell.until("pid=").await;
        let pid = shell.until(".").await;
        shell.until("ended on:").await;
        shell.until("> ").await;
        signal_process(pid.parse().unwrap(), signal);
        shell.until("interrupted: nothing was sent").await;
        shell.until("exit=2").await;
        case.assert_untouched(&mut shell).await;
    }
}

#[tokio::test]
async fn a_stopped_question_gives_the_terminal_back_and_continues() {
    let case = Case::start().await;
    let mut shell = case.shell("xterm").await;
    shell.send(&format!("{} auth code\n", path().display())).await;
    shell.until("ended on:").await;
    shell.until("> ").await;
    shell.send("\x1a").await;
    shell.until(PROMPT).await;
    assert_eq!(shell.run("stty -g").await, shell.mode, "{:?}", shell.output);
    shell.send("fg\n").await;
    shell.until("> ").await;
    shell.send(&case.broken_address()).await;
    shell.until("Signed in at acme as alice@example.com.").await;
    case.assert_untouched(&mut shell).await;
}

#[tokio::test]
async fn a_long_rejected_token_in_two_lines_is_read_whole_at_a_terminal() {
    let case = Case::start().await;
    case.home.run_with(&["auth", "code"], &case.callback.url).await;
    let mut shell = case.shell("xterm").await;
    let program = path().display().to_string();
    shell.send(&format!("{program} token acme --rejected - >token; echo exit=$?\n")).await;
    shell.until("rejected access token:").await;
    shell.until("> ").await;
    shell.send(&format!("{}\ntouch ran-by-the-shell\n", "y".repeat(5000))).await;
    shell.until("exit=0").await;
    case.assert_untouched(&mut shell).await;
}

#[tokio::test]
async fn a_piped_address_of_60_kib_is_read_and_a_longer_one_is_refused() {
    let case = Case::start().await;
    let padded = |length: usize| format!("{}\n{}", "> look\n".repeat(length / 7), case.callback.url);
    let refused = case.home.run_with(&["auth", "code"], &padded(66_000)).await;
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains("the input is longer than 65536 bytes"), "{refused:?}");
    let ended = case.home.run_with(&["auth", "code"], &padded(60_000)).await;
    assert_eq!(ended.code, 0, "{ended:?}");
}
