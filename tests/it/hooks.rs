//! The operator's commands after events of logins, in the real program: their input, their
//! number and their limits.
#![expect(clippy::disallowed_methods, reason = "the tests' own files and processes are not the program's")]

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};
use threadkey::{
    hooks::{Hook, HookSettings, Hooks},
    ids::{Principal, Snowflake},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    time::{sleep, timeout},
};

use crate::{
    api::Rig,
    processes::sign_in,
    support::{
        authserver::{AuthServer, Reply},
        browser,
        discord::Options,
        program::{Ended, Home, path},
    },
    team::{AN_HOUR, Team, authserver, scripted_agent},
};

/// The limit of every wait. A test that reaches it fails.
const WAIT: Duration = Duration::from_secs(30);

/// A section with this command for each event. `FOLDER` stands for the folder of the home.
fn section(home: &Path, command: &[&str]) -> String {
    let command: Vec<_> =
        command.iter().map(|part| part.replace("FOLDER", &home.display().to_string())).collect();
    let names = ["ended", "stuck", "recovered", "signed_in", "shared_login_changed"];
    names.iter().fold("[hooks]\n".to_owned(), |text, name| text + &format!("{name} = {command:?}\n"))
}

/// A home with a provider, and with this command for each event.
async fn home(command: &[&str]) -> (AuthServer, Home) {
    let server = authserver().await;
    let home = Home::new("");
    home.configure(&(server.config_toml("acme") + &section(home.path(), command)));
    (server, home)
}

/// A hook that adds its input to a file.
const KEEP: [&str; 3] = ["/bin/sh", "-c", "cat >>FOLDER/notices"];

/// Waits for this many notices, and returns them by event.
async fn notices(folder: &Path, count: usize) -> Vec<Value> {
    let read = async {
        loop {
            let text = std::fs::read_to_string(folder.join("notices")).unwrap_or_default();
            let lines: Result<Vec<Value>, _> = text.lines().map(serde_json::from_str).collect();
            match lines {
                Ok(lines) if lines.len() >= count => return lines,
                _ => sleep(Duration::from_millis(5)).await,
            }
        }
    };
    let mut all = timeout(WAIT, read).await.expect("the hooks run");
    all.sort_by_key(|notice| (notice["event"].to_string(), notice["reason"].to_string()));
    all
}

async fn link(home: &Home, principal: &str) -> String {
    let started = home.run(&["auth", "start", "acme", "--as", principal, "--json"]).await;
    let started: Value = serde_json::from_str(&started.stdout).expect("JSON");
    let callback = browser::sign_in(started["authorize_url"].as_str().expect("a link"), "alice").await;
    callback.url
}

/// Signs in, while the hook of the sign-in may do anything.
async fn signed_in(home: &Home) -> Ended {
    let callback = link(home, "local").await;
    home.run_with(&["auth", "code", "acme"], &callback).await
}

#[tokio::test]
async fn each_event_runs_its_hook_once_in_the_process_that_makes_the_change() {
    let (server, home) = home(&KEEP).await;
    let key = "[api.operator_keys.all]\nkey_env = \"KEY\"\n";
    let config = std::fs::read_to_string(home.path().join("threadkey.toml")).expect("a configuration");
    home.configure(&(config + key));
    // It shares the store, and sees each change.
    let serve = home.start(&["serve"], &[("KEY", "key-of-serve-0123456789abcdef0123456789")]);
    serve.says("the token API is served").await;
    sign_in(&home, "alice").await;
    server.script([Reply::Json(400, json!({"error": "invalid_grant"}))]);
    home.set_offset(AN_HOUR);
    assert_eq!(home.run(&["token", "acme"]).await.code, 4);
    notices(home.path(), 2).await;
    home.set_offset(AN_HOUR + 10);
    sign_in(&home, "alice").await;
    let mut all = notices(home.path(), 4).await;
    assert_eq!(serve.stop().await.code, 0);
    assert_eq!(notices(home.path(), 4).await.len(), 4, "no other process has run one");
    for notice in &mut all {
        assert!(notice["time"].as_i64().is_some_and(|time| time > 1_700_000_000), "{notice}");
        notice.as_object_mut().expect("an object").remove("time");
    }
    let notice = |event: &str, reason: &str| {
        json!({
            "version": 1, "event": event, "provider": "acme", "principal": "local",
            "account": "alice@example.com", "reason": reason,
        })
    };
    assert_eq!(
        all,
        [
            notice("ended", "invalid_grant"),
            notice("recovered", "invalid_grant"),
            notice("signed_in", "signed_in"),
            notice("signed_in", "signed_in"),
        ]
    );
}

#[tokio::test]
async fn a_servers_login_has_a_hook_of_its_own_for_each_change() {
    let (_server, home) = home(&KEEP).await;
    let callback = link(&home, "guild:9").await;
    let done = home.run_with(&["auth", "code", "acme", "--as", "guild:9"], &callback).await;
    assert_eq!(done.code, 0, "{done:?}");
    notices(home.path(), 2).await;
    let out = home.run(&["auth", "logout", "acme", "--as", "guild:9", "--keep-grant"]).await;
    assert_eq!(out.code, 0, "{out:?}");
    let all = notices(home.path(), 3).await;
    let shown: Vec<_> = all.iter().map(|notice| (&notice["event"], &notice["reason"])).collect();
    let changed = json!("shared_login_changed");
    let (signed_in, logged_out) = (json!("signed_in"), json!("logged_out"));
    assert_eq!(shown, [(&changed, &logged_out), (&changed, &signed_in), (&signed_in, &signed_in)]);
    assert!(all.iter().all(|notice| notice["principal"] == "guild:9"), "{all:?}");
}

#[tokio::test]
async fn the_bot_runs_the_hook_of_a_sign_in_on_discord() {
    let server = authserver().await;
    let everyone = |_: &_, _: &_| "allow_everyone = true\n".to_owned();
    let agent = scripted_agent("say ready; done_with end_turn");
    let team = Team::with_rights(&server.config_toml("acme"), &agent, Options::default(), everyone).await;
    let file = team.home.path().join("threadkey.toml");
    let config = std::fs::read_to_string(&file).expect("a configuration");
    team.home.configure(&(config + &section(team.home.path(), &KEEP)));
    let bot = team.run().await;
    team.sign_in(&team.alice, "alice").await;
    let all = notices(team.home.path(), 1).await;
    assert_eq!(bot.stop().await.code, 0);
    let principal = format!("user:{}", threadkey::ids::Snowflake(team.alice.id));
    assert_eq!((&all[0]["event"], &all[0]["principal"]), (&json!("signed_in"), &json!(principal)));
    assert_eq!(all.len(), 1);
}

/// Whether a process runs. A process that has ended may wait for its parent to notice.
fn runs(process: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_hook_that_hangs_is_ended_with_all_processes_of_its_group() {
    let hang =
        "sleep 3000 & echo $$ $! >FOLDER/processes.new; mv FOLDER/processes.new FOLDER/processes; sleep 3000";
    let (_server, home) = home(&["/bin/sh", "-c", hang]).await;
    let done = signed_in(&home);
    let limit = async {
        let file: PathBuf = home.path().join("processes");
        while !file.exists() {
            sleep(Duration::from_millis(5)).await;
        }
        home.set_offset(11);
        std::fs::read_to_string(file).expect("two numbers")
    };
    let (done, processes) = tokio::join!(done, limit);
    assert_eq!(done.code, 0, "the sign-in itself is done: {done:?}");
    assert!(done.stderr.contains("it took longer than 10 s and was ended"), "{done:?}");
    for process in processes.split_whitespace() {
        assert!(!runs(process), "{process} is left");
    }
}

#[tokio::test]
async fn a_hook_that_fails_floods_or_is_missing_fails_nothing_else() {
    for (command, problem) in [
        (&["/bin/sh", "-c", "echo broken >&2; exit 3"][..], "a hook failed: it ended with exit status: 3"),
        (&["yes"], "it wrote more than 64 KiB and was ended"),
        (&["/nonexistent/notify"], "\"/nonexistent/notify\" cannot be started"),
    ] {
        let (_server, home) = home(command).await;
        let done = signed_in(&home).await;
        assert_eq!(done.code, 0, "{done:?}");
        assert!(done.stderr.contains(problem), "{command:?}: {done:?}");
        assert!(!problem.contains("exit status") || done.stderr.contains("broken"), "{done:?}");
        assert_eq!(home.run(&["token", "acme"]).await.code, 0);
    }
}

#[tokio::test]
async fn a_hook_need_not_read_its_input() {
    for command in [&["true"][..], &["/bin/sh", "-c", "exec 0<&-; echo fine >FOLDER/fine"]] {
        let (_server, home) = home(command).await;
        let done = signed_in(&home).await;
        assert_eq!(done.code, 0, "{done:?}");
        assert!(!done.stderr.contains("hook"), "{done:?}");
    }
}

#[tokio::test]
async fn a_hook_gets_no_secret_and_three_variables_at_most() {
    let keep =
        "{ cat; env; tr '\\0' '\\n' </proc/self/cmdline; } >FOLDER/all.new; mv FOLDER/all.new FOLDER/all";
    let (_server, home) = home(&["/bin/sh", "-c", keep]).await;
    let callback = link(&home, "local").await;
    let variables = [("CANARY", "canary-7f3"), ("LANG", "C.UTF-8"), ("THREADKEY_LOG", "trace")];
    let done = home.run_in(&["auth", "code", "acme"], &callback, &variables).await;
    assert_eq!(done.code, 0, "{done:?}");
    let all = std::fs::read_to_string(home.path().join("all")).expect("the hook has run");
    assert!(all.contains("\"event\":\"signed_in\"") && all.contains("LANG=C.UTF-8"), "{all}");
    let store: Value =
        serde_json::from_str(&std::fs::read_to_string(home.store()).expect("a store")).expect("JSON");
    let session = &store["sessions"]["acme/local"];
    let code = callback.split("code=").nth(1).and_then(|rest| rest.split('&').next()).expect("a code");
    for secret in [
        session["access_token"].as_str().expect("a token"),
        session["refresh_token"].as_str().expect("a token"),
        code,
        "canary-7f3",
    ] {
        assert!(!all.contains(secret), "{all}");
    }
    let named = |line: &str| {
        let name = line.split_once('=')?.0;
        name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_').then(|| name.to_owned())
    };
    let variables: BTreeSet<_> = all.lines().filter_map(named).collect();
    // The shell adds the others.
    let known = ["PATH", "HOME", "LANG", "PWD", "SHLVL", "OLDPWD", "_"].map(str::to_owned).into();
    assert!(variables.is_subset(&known), "{variables:?}");
}

#[tokio::test]
async fn a_hook_is_checked_by_the_configuration_and_by_doctor() {
    let (server, home) = home(&["no-such-notifier"]).await;
    let provider = server.config_toml("acme");
    let check = home.run(&["config", "check"]).await;
    assert_eq!(check.code, 2, "{check:?}");
    assert!(check.stderr.contains("hooks.ended: \"no-such-notifier\" cannot be started"), "{check:?}");
    let doctor = home.run(&["doctor"]).await;
    assert!(doctor.stdout.contains("hooks.recovered: \"no-such-notifier\" cannot be started"), "{doctor:?}");
    assert_eq!(doctor.code, 2);
    for (section, problem) in [
        ("ended = []", "hooks.ended: it needs a program"),
        ("ended = [\" \"]", "hooks.ended: the name of the program is empty"),
        ("signedin = [\"true\"]", "did you mean `signed_in`?"),
        ("ended = \"notify\"", "expected a list"),
    ] {
        home.configure(&format!("{provider}[hooks]\n{section}\n"));
        let check = home.run(&["config", "check"]).await;
        assert!(check.code == 2 && check.stderr.contains(problem), "{section}: {check:?}");
        assert!(check.stderr.contains("line "), "{check:?}");
    }
    home.configure(&format!("{provider}[hooks]\nended = [\"true\"]\n"));
    assert_eq!(home.run(&["config", "check"]).await.code, 0);
}

#[tokio::test]
async fn a_stuck_login_runs_its_hook_once_and_another_one_when_it_works_again() {
    let (server, home) = home(&KEEP).await;
    sign_in(&home, "alice").await;
    let callback = link(&home, "user:9").await;
    assert_eq!(home.run_with(&["auth", "code", "acme", "--as", "user:9"], &callback).await.code, 0);
    // The provider serves another login, so its refusals concern this one. The fifth makes it stuck.
    for round in 1..=7 {
        home.set_offset(round * 2 * AN_HOUR);
        server.script([Reply::Json(403, json!({"error": "access_denied"}))]);
        let refused = home.run(&["token", "acme"]).await;
        assert_ne!(refused.code, 0, "{refused:?}");
        let served = home.run(&["token", "acme", "--as", "user:9"]).await;
        assert_eq!(served.code, 0, "{served:?}");
    }
    home.set_offset(16 * AN_HOUR);
    let served = home.run(&["token", "acme"]).await;
    assert_eq!(served.code, 0, "{served:?}");
    let all = notices(home.path(), 4).await;
    let shown: Vec<_> = all.iter().map(|one| [&one["event"], &one["principal"], &one["reason"]]).collect();
    let [local, nine, signed_in] = [json!("local"), json!("user:9"), json!("signed_in")];
    let [stuck, recovered] = [json!("stuck"), json!("recovered")];
    let expected = [
        [&recovered, &local, &stuck],
        [&signed_in, &local, &signed_in],
        [&signed_in, &nine, &signed_in],
        [&stuck, &local, &stuck],
    ];
    assert_eq!(shown, expected, "{all:?}");
}

fn lines(file: &Path) -> usize {
    std::fs::read_to_string(file).unwrap_or_default().lines().count()
}

#[tokio::test]
async fn four_hooks_run_at_once_64_wait_and_each_further_one_is_dropped() {
    let rig = Rig::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let [begun, ended, go] = ["begun", "ended", "go"].map(|name| folder.path().join(name));
    let script =
        format!("echo x >>{begun:?}; while [ ! -e {go:?} ]; do sleep 0.02; done; echo x >>{ended:?}");
    let command = ["/bin/sh", "-c", &script].map(str::to_owned).to_vec();
    let hooks = Hooks::start(HookSettings([(Hook::SignedIn, command)].into()), &rig.broker);
    let sign_in = async |user| rig.sign_in(Principal::User(Snowflake(user)), "alice").await;
    for user in 1..=4 {
        sign_in(user).await;
    }
    let four = async {
        while lines(&begun) < 4 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(WAIT, four).await.expect("four hooks run");
    for user in 5..=4 + 64 + 3 {
        sign_in(user).await;
    }
    let release = async {
        // Until the last events have been read.
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        assert_eq!(lines(&begun), 4, "no fifth one runs");
        std::fs::write(&go, "").expect("a file");
    };
    tokio::join!(hooks.finish(), release);
    assert_eq!(lines(&ended), 4 + 64);
}

const KEY: &str = "key-of-serve-0123456789abcdef0123456789";

/// A home with a server's login, and this hook for its end.
async fn home_with_servers_login(hook: &str) -> (AuthServer, Home) {
    let server = authserver().await;
    let key = "[api.operator_keys.all]\nkey_env = \"KEY\"\nprincipals = [\"*\"]\nproviders = [\"*\"]\n";
    let config = server.config_toml("acme") + key;
    let home = Home::new(&config);
    let callback = link(&home, "guild:9").await;
    assert_eq!(home.run_with(&["auth", "code", "acme", "--as", "guild:9"], &callback).await.code, 0);
    home.configure(&(config + &section(home.path(), &["/bin/sh", "-c", hook])));
    (server, home)
}

/// Logs the server out by `threadkey serve`, which runs the hook then.
async fn log_server_out(home: &Home) {
    let socket = home.store().with_file_name("threadkey.sock");
    let connect = async {
        loop {
            match UnixStream::connect(&socket).await {
                Ok(stream) => return stream,
                Err(_) => sleep(Duration::from_millis(5)).await,
            }
        }
    };
    let mut stream = timeout(WAIT, connect).await.expect("it is served");
    let request = format!(
        "DELETE /v1/sessions/acme/guild:9?grant=keep HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {KEY}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = String::new();
    timeout(WAIT, stream.read_to_string(&mut answer)).await.expect("in time").expect("text");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// Waits for a file of a hook, and returns its text.
async fn text_of(file: &Path) -> String {
    let there = async {
        while !file.exists() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(WAIT, there).await.expect("the hook writes it");
    std::fs::read_to_string(file).expect("text")
}

#[tokio::test]
async fn the_end_of_the_program_waits_for_the_hook_of_the_last_change() {
    let hook = ">FOLDER/begun; while [ ! -e FOLDER/go ]; do sleep 0.02; done; >FOLDER/done";
    let (_server, home) = home_with_servers_login(hook).await;
    let serve = home.start(&["serve"], &[("KEY", KEY)]);
    log_server_out(&home).await;
    text_of(&home.path().join("begun")).await;
    serve.signal(15);
    serve.says("ending after the requests that are under way").await;
    std::fs::write(home.path().join("go"), "").expect("a file");
    let ended = serve.ended().await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(home.path().join("done").exists(), "{}", ended.stderr);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_end_at_once_leaves_no_process_of_a_hook() {
    let hook =
        "sleep 3000 & echo $$ $! >FOLDER/processes.new; mv FOLDER/processes.new FOLDER/processes; sleep 3000";
    let (_server, home) = home_with_servers_login(hook).await;
    let serve = home.start(&["serve"], &[("KEY", KEY)]);
    log_server_out(&home).await;
    let processes = text_of(&home.path().join("processes")).await;
    assert!(processes.split_whitespace().all(runs), "{processes}");
    serve.signal(15);
    serve.says("ending after the requests that are under way").await;
    serve.signal(15);
    let ended = serve.ended().await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    for process in processes.split_whitespace() {
        assert!(!runs(process), "{process} is left");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_hook_gets_the_limit_of_descriptors_that_the_program_started_with() {
    let hook = "ulimit -S -n >FOLDER/limit.new; mv FOLDER/limit.new FOLDER/limit";
    let (_server, home) = home_with_servers_login(hook).await;
    let mut command = tokio::process::Command::new("/bin/sh");
    for (name, value) in home.command(&["serve"]).as_std().get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    let mut serve = command
        .args(["-c", "ulimit -S -n 256; exec \"$0\" serve"])
        .arg(path())
        .env("KEY", KEY)
        .current_dir(home.path())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("it starts");
    log_server_out(&home).await;
    assert_eq!(text_of(&home.path().join("limit")).await.trim(), "256");
    serve.start_kill().expect("it runs");
    serve.wait().await.expect("it ends");
}
