//! Unmodified tools on their owner's login, across two ends of its access token.
//!
//! tests/tools/run installs the tools and starts this program, on a machine of its own without a network.
//! Each tool runs against a look-alike of its vendor, which takes only the live token. This prints a table.
#![expect(
    clippy::disallowed_methods,
    reason = "the tests' own files, threads and processes are not the program's"
)]

mod cases;
mod dns;
mod rig;
#[path = "../it/script.rs"]
mod script;
#[path = "../support/mod.rs"]
mod support;
#[allow(dead_code, reason = "it offers more than these tests use")]
#[path = "../it/team.rs"]
mod team;
mod vendors;

use std::{panic::AssertUnwindSafe, process::ExitCode, sync::PoisonError, time::Duration};

use futures_util::FutureExt as _;

use cases::{Case, Cases, Packages, fill};
use dns::Names;
use rig::{Rig, Watched};
use support::discord::{Channel, MessageView};
use vendors::ASKS_FOR_A_SHELL_CALL;

/// The limit of a turn.
const TURN: Duration = Duration::from_secs(90);

#[tokio::main]
async fn main() -> ExitCode {
    let chosen: Vec<_> = std::env::args().skip(1).collect();
    let packages = Packages::from_environment();
    let names = Names::record();
    let cases = Cases::read(&packages);
    let mut rows = Vec::new();
    for case in cases.all() {
        let name = case.name();
        let is_missing = case.package == "gh" && !packages.has_gh();
        let is_chosen = match &chosen[..] {
            _ if is_missing => false,
            [] => true,
            [only] if only == "--short" => case.short,
            _ => chosen.iter().any(|chosen| name.starts_with(chosen.as_str())),
        };
        if !is_chosen {
            let why = match chosen == ["--short"] {
                _ if is_missing => "this system has no package gh",
                true => "not in the short form",
                false => "not chosen",
            };
            println!("skipped {name}: {why}");
            continue;
        }
        names.take();
        let begun = std::time::Instant::now();
        let outcome = AssertUnwindSafe(try_tool(&cases, case, &packages)).catch_unwind().await;
        let mut problems = outcome.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            vec![text.unwrap_or_else(|| "it panicked, see above".to_owned())]
        });
        let asked = names.take();
        if !asked.is_empty() {
            problems.push(format!("it asked for the names {asked:?}"));
        }
        let seconds = begun.elapsed().as_secs();
        let result = if problems.is_empty() { "ok" } else { "FAILED" };
        println!("{result:8}{name} ({seconds} s)");
        for problem in &problems {
            println!("        {problem}");
        }
        rows.push((case, result));
    }
    println!("\n| tool | version | way | result | refreshes |\n| --- | --- | --- | --- | --- |");
    for (case, result) in &rows {
        let version = packages.version(&case.package);
        // A row is ok if each of the two ends of a token cost one refresh.
        let refreshes = if *result == "ok" { "2" } else { "" };
        println!("| {} | {version} | {} | {result} | {refreshes} |", case.tool, case.way);
    }
    let failed = rows.iter().filter(|(_, result)| *result != "ok").count();
    println!("{} passed, {failed} failed", rows.len() - failed);
    if failed == 0 && !rows.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs the three turns of a tool, and returns the problems.
async fn try_tool(cases: &Cases, case: &Case, packages: &Packages) -> Vec<String> {
    let rig = Rig::new(case.first_end, |vendors| cases.config(case, vendors, packages)).await;
    let (stop, watching) = Watched::start();
    let (mut problems, log) = match &case.exec {
        Some(arguments) => by_exec(&rig, cases, case, packages, arguments).await,
        None => in_a_thread(&rig, case).await,
    };
    *stop.lock().unwrap_or_else(PoisonError::into_inner) = true;
    let watched = watching.join().expect("it looks");
    problems.extend(rig.problems(&watched, case));
    if !problems.is_empty() {
        problems.push(format!("threadkey: {log}"));
        let seen = rig.vendors.seen();
        let seen: Vec<_> = seen.iter().map(|seen| format!("{} {}", seen.line, seen.status)).collect();
        problems.push(format!("the vendor: {seen:?}"));
    }
    problems
}

/// Runs the steps by `threadkey exec` as one command. Returns the problems and the output.
async fn by_exec(
    rig: &Rig,
    cases: &Cases,
    case: &Case,
    packages: &Packages,
    arguments: &[String],
) -> (Vec<String>, String) {
    rig.sign_in_locally().await;
    let end = |step: &str| format!("curl -fsS -X POST @control@/{step}");
    let early = if case.ends_early { end("end-early") } else { ":".to_owned() };
    let steps: Vec<_> =
        case.steps.iter().zip(1..).map(|(step, n)| format!("( {step}\n) >step{n} 2>&1")).collect();
    let script = format!("{}\n{early}\n{}\n{}\n{}", steps[0], steps[1], end("expire"), steps[2]);
    let script = fill(&script, &rig.vendors, packages);
    let folder = rig.team.home.path().join("tools");
    std::fs::create_dir_all(folder.join("home")).expect("a folder");
    let arguments: Vec<_> = arguments.iter().map(|text| fill(text, &rig.vendors, packages)).collect();
    let mut command: Vec<&str> = vec!["exec"];
    command.extend(arguments.iter().map(String::as_str));
    command.extend(["--", "/bin/sh", "-ec", &script]);
    let mut command = rig.team.home.command(&command);
    command
        .current_dir(&folder)
        .env("HOME", folder.join("home"))
        .env("XDG_DATA_HOME", rig.team.home.path().join("home/.local/share"))
        .env("PATH", packages.path())
        .envs(cases.env(case).map(|(name, value)| (name, fill(value, &rig.vendors, packages))));
    let output = tokio::time::timeout(3 * TURN, command.output()).await;
    let output = output.expect("it ends in time").expect("it runs");
    let log = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let mut problems = Vec::new();
    if !output.status.success() {
        problems.push(format!("threadkey exec ended with {}", output.status));
    }
    for (answer, n) in case.answers.iter().zip(1..) {
        let printed = std::fs::read_to_string(folder.join(format!("step{n}"))).unwrap_or_default();
        if !printed.contains(answer.as_str()) || !output.status.success() {
            problems.push(format!("turn {n} printed: {printed}"));
        }
    }
    (problems, log)
}

/// Runs the turns in a thread of the bot. Returns the problems and the log of the bot.
async fn in_a_thread(rig: &Rig, case: &Case) -> (Vec<String>, String) {
    let bot = rig.run().await;
    let mut problems = turns(case, rig).await;
    let ended = bot.stop().await;
    if ended.code != 0 {
        problems.push(format!("the bot ended with {}", ended.code));
    }
    (problems, ended.stderr)
}

async fn turns(case: &Case, rig: &Rig) -> Vec<String> {
    let alice = &rig.team.alice;
    let is_acp = case.acp.is_some();
    let prompts = if is_acp {
        [
            "Say something.".to_owned(),
            format!("{ASKS_FOR_A_SHELL_CALL}, please."),
            "Say something else.".to_owned(),
        ]
    } else {
        [1, 2, 3].map(|step| format!("step {step}"))
    };
    let mut thread = None;
    for (at, prompt) in prompts.iter().enumerate() {
        match at {
            1 if case.ends_early => rig.end_early(),
            2 => rig.expire(),
            _ => {}
        }
        let thread = match &thread {
            None => &*thread.insert(rig.team.ask(alice, prompt).await),
            Some(thread) => {
                alice.says(thread, prompt);
                thread
            }
        };
        let (turn, answer) = (at + 1, &case.answers[at]);
        let wanted = if is_acp { answer.clone() } else { format!("step {turn} is done") };
        let earlier = case.answers[..at].iter().filter(|answer| **answer == wanted).count();
        let is_done = wait_for_answer(rig, thread, &wanted, earlier + 1).await;
        if is_acp && !is_done {
            let shown: Vec<_> = thread.messages().iter().map(MessageView::all_text).collect();
            return vec![format!("turn {turn} did not show {wanted:?}: {shown:?}")];
        }
        if !is_acp {
            let output = rig.team.worker_file(thread, &format!("step{turn}"));
            if !is_done || !output.contains(answer.as_str()) {
                return vec![format!("turn {turn} printed: {output}")];
            }
        }
    }
    Vec::new()
}

/// Waits until a text is in this number of messages of the bot. The user allows all that the agent
/// asks for.
async fn wait_for_answer(rig: &Rig, thread: &Channel, text: &str, times: usize) -> bool {
    let has_answer =
        |views: &[MessageView]| views.iter().filter(|view| view.all_text().contains(text)).count() >= times;
    let waiting = async {
        loop {
            let views = thread.messages();
            if has_answer(&views) || has_failed(&views) {
                return has_answer(&views);
            }
            if let Some(question) = views.iter().find(|view| view.button("Allow once").is_some()) {
                rig.team.alice.press(question, "Allow once").await;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(TURN, waiting).await.unwrap_or(false)
}

/// Whether a script agent reports a failed step, or an agent ended.
fn has_failed(views: &[MessageView]) -> bool {
    let is_failure = |text: &str| text.contains(" failed") || text.contains("could not be started");
    views.iter().any(|view| is_failure(&view.all_text()))
}
