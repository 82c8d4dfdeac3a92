//! `exec` with real commands: their variables, their ends, and no remains.

use std::{path::PathBuf, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout},
};

use super::Terminal;
use crate::{
    pastes::{CTRL_C, Shell},
    support::{
        program::{self, Ended, signal_process},
        upstream::Upstream,
    },
};

const WAIT: Duration = Duration::from_secs(60);

/// A running `exec`, and the lines of its command.
struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    async fn line(&mut self) -> String {
        let line = tokio::time::timeout(WAIT, self.lines.next_line()).await.expect("a line in time");
        line.unwrap().expect("it runs")
    }

    fn pid(&self) -> i32 {
        self.child.id().unwrap().try_into().unwrap()
    }

    async fn end(mut self) -> i32 {
        let status = tokio::time::timeout(WAIT, self.child.wait()).await.expect("it ends").unwrap();
        status.code().unwrap_or(-1)
    }
}

impl Terminal {
    fn runtime(&self) -> PathBuf {
        self.home.path().join("run")
    }

    fn exec_command(&self, arguments: &[&str]) -> tokio::process::Command {
        let arguments: Vec<_> = ["exec"].iter().chain(arguments).copied().collect();
        let mut command = self.home.command(&arguments);
        std::fs::create_dir_all(self.runtime()).unwrap();
        command.env("XDG_RUNTIME_DIR", self.runtime());
        command
    }

    async fn exec(&self, arguments: &[&str]) -> Ended {
        let output = self.exec_command(arguments).output();
        let output = tokio::time::timeout(WAIT, output).await.expect("in time").unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ended {
            code: output.status.code().unwrap_or(-1),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    fn start_exec(&self, arguments: &[&str]) -> Running {
        let mut command = self.exec_command(arguments);
        // A user's proxy, which does not reach this machine.
        command.envs([("HTTP_PROXY", "http://127.0.0.1:1"), ("http_proxy", "http://127.0.0.1:1")]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Running { child, lines }
    }

    /// The private folders and lock files that are left.
    fn left(&self) -> Vec<String> {
        let folder = self.runtime().join("threadkey/exec");
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }
}

fn is_running(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

#[tokio::test]
async fn a_command_gets_its_tools_folder_and_its_exit_code_passes() {
    let terminal = Terminal::start("").await;
    let own = terminal.home.path().join("home/.codex");
    std::fs::create_dir_all(&own).unwrap();
    std::fs::write(own.join("config.toml"), "model = \"mine\"\n").unwrap();
    std::fs::write(own.join("auth.json"), "{}").unwrap();
    let script =
        "echo $CODEX_HOME; stat -c %a $CODEX_HOME; ls $CODEX_HOME; cat $CODEX_HOME/config.toml; exit 7";
    let api = ["--tool", "codex", "--base-url", "https://api.acme.example/v1"];
    let ended = terminal.exec(&[&["acme"][..], &api, &["--", "sh", "-c", script]].concat()).await;
    assert_eq!(ended.code, 7, "{ended:?}");
    let mut lines = ended.stdout.lines();
    let folder = lines.next().unwrap();
    assert!(folder.starts_with(terminal.runtime().to_str().unwrap()), "{ended:?}");
    assert_eq!((lines.next(), lines.next()), (Some("700"), Some("config.toml")), "{ended:?}");
    for words in ["model = \"mine\"", "https://api.acme.example/v1", "--probe"] {
        assert!(ended.stdout.contains(words), "{words}: {ended:?}");
    }
    assert_eq!(terminal.left(), Vec::<String>::new());
    assert!(own.join("auth.json").exists());
}

#[tokio::test]
async fn codex_sends_the_workspace_that_its_token_names() {
    let terminal = Terminal::start("").await;
    // {"https://api.openai.com/auth":{"chatgpt_account_id":"acc-1"}}
    let token =
        "e30.eyJodHRwczovL2FwaS5vcGVuYWkuY29tL2F1dGgiOnsiY2hhdGdwdF9hY2NvdW50X2lkIjoiYWNjLTEifX0.c2ln";
    let store = std::fs::read_to_string(terminal.home.store()).unwrap();
    std::fs::write(terminal.home.store(), store.replace(&terminal.token(&[]).await, token)).unwrap();
    let script = "cat $CODEX_HOME/config.toml; env";
    let api = ["--tool", "codex", "--base-url", "https://api.acme.example/v1"];
    let ended = terminal.exec(&[&["acme"][..], &api, &["--", "sh", "-c", script]].concat()).await;
    assert!(ended.stdout.contains("\"ChatGPT-Account-Id\" = \"acc-1\""), "{ended:?}");
    assert!(ended.stdout.contains("shell_snapshot = false") && !ended.stdout.contains(token), "{ended:?}");
}

#[tokio::test]
async fn the_users_settings_of_gh_hold_and_their_login_does_not() {
    let terminal = Terminal::start("").await;
    let own = terminal.home.path().join("home/.config/gh");
    std::fs::create_dir_all(&own).unwrap();
    let settings = "# mine\neditor: vim\nhosts:\n    github.com:\n        oauth_token: mine\n";
    std::fs::write(own.join("config.yml"), settings).unwrap();
    std::fs::write(own.join("hosts.yml"), "github.com:\n    oauth_token: mine\n").unwrap();
    let api = ["--tool", "gh", "--base-url", "https://github.acme.example"];
    let script = "cat $GH_CONFIG_DIR/config.yml $GH_CONFIG_DIR/hosts.yml";
    let ended = terminal.exec(&[&["acme"][..], &api, &["--", "sh", "-c", script]].concat()).await;
    let token = terminal.token(&[]).await;
    for words in ["# mine\neditor: vim\nversion: \"1\"\n", "github.acme.example", &token] {
        assert!(ended.stdout.contains(words), "{words}: {ended:?}");
    }
    assert!(!ended.stdout.contains("oauth_token: mine"), "{ended:?}");
    assert_eq!(std::fs::read_to_string(own.join("config.yml")).unwrap(), settings);
}

#[tokio::test]
async fn a_hook_prints_the_token_of_the_same_principal() {
    let terminal = Terminal::start("").await;
    terminal.sign_in("user:9").await;
    let theirs = terminal.token(&["--as", "user:9"]).await;
    let arguments = [
        "acme",
        "--as",
        "user:9",
        "--tool",
        "grok",
        "--",
        "sh",
        "-c",
        "eval \"$GROK_AUTH_PROVIDER_COMMAND\"",
    ];
    let ended = terminal.exec(&arguments).await;
    assert_eq!((ended.code, ended.stdout.trim_end()), (0, theirs.as_str()), "{ended:?}");
}

#[tokio::test]
async fn a_file_with_a_token_is_written_again_at_each_commit() {
    let mut terminal = Terminal::start("").await;
    let first = terminal.token(&[]).await;
    let script = "f=$ANTHROPIC_CONFIG_DIR/credentials/default.json; stat -c %a $f; cat $f | tr -d '\\n '; echo; \
                  read go <$0; until cat $f | grep -q \"$go\"; do sleep 0.05; done; echo renewed";
    let fifo = terminal.home.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let mut running = terminal.start_exec(&[
        "acme",
        "--tool",
        "anthropic-sdk",
        "--way",
        "file",
        "--base-url",
        "https://api.acme.example",
        "--",
        "sh",
        "-c",
        script,
        fifo.to_str().unwrap(),
    ]);
    assert_eq!(running.line().await, "600");
    let file = running.line().await;
    assert!(file.contains(&format!("\"access_token\":\"{first}\"")) && !file.contains("refresh"), "{file}");
    terminal.advance(4000);
    let second = terminal.token(&[]).await;
    assert_ne!(second, first);
    tokio::task::spawn_blocking(move || std::fs::write(fifo, format!("{second}\n")).unwrap()).await.unwrap();
    assert_eq!(running.line().await, "renewed");
    assert_eq!(running.end().await, 0);
    assert_eq!(terminal.left(), Vec::<String>::new());
    assert_eq!(terminal.refreshes(), 1);
}

#[tokio::test]
async fn a_command_speaks_to_the_proxy_and_holds_no_token_across_an_early_end() {
    let terminal = Terminal::start("").await;
    let server = terminal.server.clone();
    let api = Upstream::start(move |token| server.is_live(token)).await;
    terminal.configure(&format!("\n[inject.api]\nprovider = \"acme\"\nupstream = \"{}\"\n", api.base()));
    let token = terminal.token(&[]).await;
    let script = "ask() { curl -s -o /dev/null -w '%{http_code}\\n' -H \"Authorization: Bearer $OPENAI_API_KEY\" $OPENAI_BASE_URL/x; }; \
                  ask; read go <$0; ask; \
                  echo \"$OPENAI_API_KEY\" >>$1; \
                  cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' | grep -c -F -f $1; \
                  echo $OPENAI_BASE_URL";
    let fifo = terminal.home.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let patterns = terminal.home.path().join("patterns");
    std::fs::write(&patterns, format!("{token}\n")).unwrap();
    let mut running = terminal.start_exec(&[
        "acme",
        "--tool",
        "openai-sdk",
        "--",
        "sh",
        "-c",
        script,
        fifo.to_str().unwrap(),
        patterns.to_str().unwrap(),
    ]);
    assert_eq!(running.line().await, "200");
    terminal.kill_tokens();
    tokio::task::spawn_blocking(move || std::fs::write(fifo, "go\n").unwrap()).await.unwrap();
    assert_eq!(running.line().await, "200");
    let found = running.line().await;
    let base = running.line().await;
    assert_eq!(running.end().await, 0);
    assert_eq!(found, "0", "neither the token nor the secret is an argument of a process");
    assert!(base.starts_with("http://127.0.0.1:"), "{base}");
    assert_eq!(terminal.refreshes(), 1);
    let address = base.trim_start_matches("http://").split('/').next().unwrap().to_owned();
    assert!(std::net::TcpStream::connect(address).is_err(), "the port is closed with the command");
}

#[tokio::test]
async fn a_signal_reaches_the_command_and_nothing_is_left() {
    let terminal = Terminal::start("").await;
    let tool = ["acme", "--tool", "grok", "--", "sh", "-c"];
    let script = "trap 'echo got; exit 5' TERM; echo ready; while :; do sleep 0.05; done";
    let mut running = terminal.start_exec(&[&tool[..], &[script]].concat());
    assert_eq!(running.line().await, "ready");
    signal_process(running.pid(), libc::SIGTERM);
    assert_eq!(running.line().await, "got");
    assert_eq!(running.end().await, 5);
    // A descendant ends too.
    let mut running = terminal.start_exec(&[&tool[..], &["sleep 600 & echo $!; wait"]].concat());
    let descendant: i32 = running.line().await.parse().unwrap();
    signal_process(running.pid(), libc::SIGTERM);
    assert_eq!(running.end().await, 143);
    assert!(!is_running(descendant));
    assert_eq!(terminal.left(), Vec::<String>::new());
    let killed = terminal.exec(&[&tool[..], &["kill -9 $$"]].concat()).await;
    assert_eq!(killed.code, 137, "{killed:?}");
}

#[tokio::test]
async fn the_terminals_keys_reach_the_command_once_and_the_shell_stops_both() {
    let terminal = Terminal::start("").await;
    let script = terminal.home.path().join("script");
    let text = "n=0; trap 'n=$((n+1))' INT; trap 'echo goes on' CONT; echo begun; \
                while [ $n = 0 ]; do sleep 0.05; done; sleep 0.2; exit $n";
    std::fs::write(&script, text).unwrap();
    let mut shell = Shell::start(&terminal.home, "dumb", &[]).await;
    let program = program::path();
    shell.send(&format!("{} exec acme --tool grok -- sh {}\n", program.display(), script.display())).await;
    shell.until("begun").await;
    shell.send("\x1a").await;
    shell.until("Stopped").await;
    shell.send("fg; echo exit=$?\n").await;
    shell.until("goes on").await;
    shell.send(CTRL_C).await;
    shell.until("exit=1").await;
    shell.assert_sane().await;
}

#[tokio::test]
async fn a_killed_exec_takes_its_command_along_and_the_next_one_removes_its_folder() {
    let terminal = Terminal::start("").await;
    let base = ["--tool", "codex", "--base-url", "https://api.acme.example"];
    // An interactive shell ignores TERM too.
    let script = "trap '' TERM; echo $$; echo $CODEX_HOME; while :; do sleep 0.05; done";
    let mut running = terminal.start_exec(&[&["acme"][..], &base, &["--", "sh", "-c", script]].concat());
    let command: i32 = running.line().await.parse().unwrap();
    let folder = PathBuf::from(running.line().await);
    signal_process(running.pid(), libc::SIGKILL);
    running.end().await;
    let gone = async {
        while is_running(command) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if tokio::time::timeout(WAIT, gone).await.is_err() {
        signal_process(command, libc::SIGKILL);
        panic!("the command lives on");
    }
    assert!(folder.exists(), "nothing could remove it");
    let next = terminal.exec(&[&["acme"][..], &base, &["--", "true"]].concat()).await;
    assert_eq!(next.code, 0, "{next:?}");
    assert!(!folder.exists());
    assert_eq!(terminal.left(), Vec::<String>::new());
}

#[tokio::test]
async fn a_file_with_a_token_goes_with_the_login_and_comes_back_with_it() {
    let terminal = Terminal::start("").await;
    let script = "f=$ANTHROPIC_CONFIG_DIR/credentials/default.json; test -s $f && echo there; \
                  while test -e $f; do sleep 0.05; done; echo gone; \
                  until test -s $f; do sleep 0.05; done; tr -d '\\n ' <$f; echo; ls $(dirname $f)";
    let api = ["--way", "file", "--base-url", "https://api.acme.example"];
    let tool = ["acme", "--tool", "anthropic-sdk"];
    let mut running = terminal.start_exec(&[&tool[..], &api, &["--", "sh", "-c", script]].concat());
    assert_eq!(running.line().await, "there");
    let ended = terminal.home.run(&["auth", "logout", "acme", "--keep-grant"]).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(running.line().await, "gone");
    terminal.sign_in("local").await;
    let token = terminal.token(&[]).await;
    assert!(running.line().await.contains(&token));
    assert_eq!(running.line().await, "default.json", "nothing else is there");
    assert_eq!(running.end().await, 0);
}

#[tokio::test]
async fn a_signal_before_the_command_starts_keeps_it_from_starting() {
    let terminal = Terminal::start("").await;
    let own = terminal.home.path().join("home/.codex");
    std::fs::create_dir_all(&own).unwrap();
    // Exec waits at the user's settings until the test writes them.
    let (settings, marker) = (own.join("config.toml"), terminal.home.path().join("marker"));
    assert!(std::process::Command::new("mkfifo").arg(&settings).status().unwrap().success());
    let touch = ["--", "touch", marker.to_str().unwrap()];
    let api = ["acme", "--tool", "codex", "--base-url", "https://api.acme.example"];
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        let running = terminal.start_exec(&[&api[..], &touch].concat());
        let pid = running.pid();
        let settings = settings.clone();
        let signalled = tokio::task::spawn_blocking(move || {
            // It opens when exec reads.
            let fifo = std::fs::OpenOptions::new().write(true).open(settings).unwrap();
            signal_process(pid, signal);
            drop(fifo);
        });
        tokio::time::timeout(WAIT, signalled).await.expect("exec reads the settings").unwrap();
        assert_eq!(running.end().await, 128 + signal);
        assert!(!marker.exists(), "{signal}");
    }
    assert_eq!(terminal.left(), Vec::<String>::new());
}

#[tokio::test]
async fn a_user_can_leave_while_a_refresh_has_no_answer() {
    let mut terminal = Terminal::start("").await;
    terminal.advance(4000);
    terminal.server.hold();
    let mut command = terminal.exec_command(&["acme", "--tool", "grok", "--", "echo", "started"]);
    let mut child = command.spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
    let pid = child.id().unwrap().try_into().unwrap();
    terminal.server.wait_for_held(1).await;
    signal_process(pid, libc::SIGINT);
    let notice = tokio::time::timeout(WAIT, stderr.next_line()).await.expect("in time").unwrap();
    assert!(notice.as_deref().is_some_and(|notice| notice.contains("a refresh is under way")), "{notice:?}");
    assert_eq!(child.try_wait().unwrap(), None, "the refresh goes on");
    signal_process(pid, libc::SIGINT);
    let output = tokio::time::timeout(WAIT, child.wait_with_output()).await.expect("it ends").unwrap();
    assert_eq!((output.status.code(), output.stdout), (Some(130), Vec::new()));
    terminal.server.release();
}

#[tokio::test]
async fn a_runtime_folder_that_others_can_change_gets_no_files() {
    use std::os::unix::fs::PermissionsExt as _;
    let terminal = Terminal::start("").await;
    std::fs::create_dir_all(terminal.runtime()).unwrap();
    std::fs::set_permissions(terminal.runtime(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let api = ["acme", "--tool", "codex", "--base-url", "https://api.acme.example"];
    let ended = terminal.exec(&[&api[..], &["--", "sh", "-c", "echo $CODEX_HOME"]].concat()).await;
    let beside = format!("{}.exec/", terminal.home.store().display());
    assert!(ended.code == 0 && ended.stdout.starts_with(&beside), "{ended:?}");
}

#[tokio::test]
async fn a_tool_without_files_needs_no_folder() {
    let terminal = Terminal::start("").await;
    std::fs::create_dir_all(terminal.runtime()).unwrap();
    // Files stand in both places of a private folder.
    std::fs::write(terminal.runtime().join("threadkey"), "").unwrap();
    std::fs::write(format!("{}.exec", terminal.home.store().display()), "").unwrap();
    let grok = ["acme", "--tool", "grok", "--", "sh", "-c", "echo $GROK_AUTH_PROVIDER_COMMAND"];
    let ended = terminal.exec(&grok).await;
    assert!(ended.code == 0 && ended.stdout.contains("token acme"), "{ended:?}");
    let codex = ["acme", "--tool", "codex", "--base-url", "https://api.acme.example", "--", "true"];
    let refused = terminal.exec(&codex).await;
    assert!(refused.code == 1 && refused.stderr.contains("the tool's files have no place"), "{refused:?}");
}

#[tokio::test]
async fn a_configuration_that_the_hooks_would_refuse_is_refused_before_the_command() {
    use std::os::unix::fs::PermissionsExt as _;
    let terminal = Terminal::start("").await;
    let config = terminal.home.path().join("threadkey.toml");
    let set_mode = |mode| std::fs::set_permissions(&config, std::fs::Permissions::from_mode(mode)).unwrap();
    let named = ["--config", config.to_str().unwrap(), "acme", "--tool", "grok"];
    let exec = async || terminal.exec(&[&named[..], &["--", "echo", "started"]].concat()).await;
    set_mode(0o666);
    let refused = exec().await;
    assert_eq!((refused.code, refused.stdout.as_str()), (2, ""), "{refused:?}");
    let remedy = format!("run `chmod go-w {}`", config.display());
    assert!(refused.stderr.contains("other users can write it"), "{refused:?}");
    assert!(refused.stderr.contains(&remedy) && !refused.stderr.contains("--config"), "{refused:?}");
    let hook = terminal.run_token(&["--probe"]).await;
    assert!(hook.code == 2 && hook.stderr.contains("other users can write it"), "{hook:?}");
    set_mode(0o644);
    let ended = exec().await;
    assert_eq!((ended.code, ended.stdout.trim_end()), (0, "started"), "{ended:?}");
}

#[tokio::test]
async fn exec_refuses_wrong_inputs_before_the_command_starts() {
    let terminal = Terminal::start("").await;
    let marker = terminal.home.path().join("marker");
    let touch = ["--", "touch", marker.to_str().unwrap()];
    for (arguments, code, problem) in [
        (&["acme"][..], 2, "is no tool that threadkey knows"),
        (&["other", "--tool", "grok"], 2, "there is no provider other"),
        (&["acme", "--tool", "grokk"], 2, "did you mean grok?"),
        (&["acme", "--tool", "codex"], 2, "--base-url"),
        (&["acme", "--tool", "codex", "--base-url", "http://api.acme.example"], 2, "carries a token"),
        (&["acme", "--tool", "grok", "--way", "magic"], 2, "write hook, inject or file"),
        (&["acme", "--tool", "grok", "--way", "inject"], 2, "it has hook"),
        (&["acme", "--tool", "gemini"], 2, "[inject.NAME]"),
        (&["acme", "--tool", "grok", "--as", "nobody"], 2, "user:<discord id>"),
        (&["acme", "--tool", "grok", "--as", "user:7"], 3, "acme/user:7 is not signed in"),
    ] {
        let ended = terminal.exec(&[arguments, &touch].concat()).await;
        assert_eq!(ended.code, code, "{arguments:?}: {ended:?}");
        assert!(ended.stderr.contains(problem), "{arguments:?}: {ended:?}");
    }
    assert!(!marker.exists());
    let twice = terminal.exec(&["acme", "acme", "--tool", "grok", "--", "true"]).await;
    assert_eq!(twice.code, 0, "{twice:?}");
    assert_eq!(terminal.exec(&["acme", "--tool", "grok"]).await.code, 2, "no command");
    assert_eq!(terminal.exec(&["acme", "--tool", "grok", "--", "no-such-program"]).await.code, 127);
    assert_eq!(terminal.exec(&["acme", "--tool", "grok", "--", "/dev/null"]).await.code, 126);
    let in_worker = [("THREADKEY_SOCKET", "/s"), ("THREADKEY_CAPABILITY", "c")];
    let worker =
        terminal.home.run_in(&["exec", "acme", "--tool", "grok", "--", "true"], "", &in_worker).await;
    assert_eq!(worker.code, 2, "{worker:?}");
    let odd = terminal.home.run_in(&["token", "acme"], "", &[("THREADKEY_AS", "nobody")]).await;
    assert_eq!(odd.code, 2, "{odd:?}");
}
