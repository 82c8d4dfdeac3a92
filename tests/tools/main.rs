//! Unmodified tools on their owner's login, across two ends of its access token.
//!
//! tests/tools/run installs the tools and starts this program, on a machine of its own without a network.
//! Each tool runs against a look-alike of its vendor, which takes only the live token. This prints a table.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
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

use cases::{Case, Packages, Turns};
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
    let mut rows = Vec::new();
    for case in cases::all() {
        let name = case.name();
        let is_chosen = match &chosen[..] {
            [] => true,
            [only] if only == "--short" => case.is_short,
            _ => chosen.iter().any(|chosen| name.starts_with(chosen.as_str())),
        };
        if !is_chosen {
            println!("skipped {name}");
            continue;
        }
        names.take();
        let begun = std::time::Instant::now();
        let outcome = AssertUnwindSafe(try_tool(&case, &packages)).catch_unwind().await;
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
        rows.push((name, problems.is_empty()));
    }
    let failed = rows.iter().filter(|(_, is_ok)| !is_ok).count();
    println!("{} passed, {failed} failed", rows.len() - failed);
    if failed == 0 && !rows.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs the three turns of a tool, and returns what was wrong.
async fn try_tool(case: &Case, packages: &Packages) -> Vec<String> {
    let rig = Rig::new(|vendors| case.config(vendors, packages)).await;
    let bot = rig.run().await;
    let (stop, watching) = Watched::start();
    let mut problems = turns(case, &rig).await;
    let ended = bot.stop().await;
    *stop.lock().unwrap_or_else(PoisonError::into_inner) = true;
    let watched = watching.join().expect("it looks");
    if ended.code != 0 {
        problems.push(format!("the bot ended with {}", ended.code));
    }
    problems.extend(rig.problems(&watched, &case.way));
    if !problems.is_empty() {
        problems.push(format!("the bot: {}", ended.stderr));
        let seen: Vec<_> =
            rig.vendors.seen().iter().map(|seen| format!("{} {}", seen.line, seen.status)).collect();
        problems.push(format!("the vendor: {seen:?}"));
    }
    problems
}

async fn turns(case: &Case, rig: &Rig) -> Vec<String> {
    let alice = &rig.team.alice;
    let prompts = match &case.turns {
        Turns::Acp(_) => [
            "Say something.".to_owned(),
            format!("{ASKS_FOR_A_SHELL_CALL}, please."),
            "Say something else.".to_owned(),
        ],
        Turns::Commands(_) => [1, 2, 3].map(|step| format!("step {step}")),
    };
    let mut problems = Vec::new();
    let mut thread = None;
    for (at, prompt) in prompts.iter().enumerate() {
        match at {
            1 if !case.has_model => rig.end_early(),
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
        let wanted = match &case.turns {
            Turns::Acp(_) => case.answers[at].to_owned(),
            Turns::Commands(_) => format!("step {} is done", at + 1),
        };
        let earlier = case.answers[..at].iter().filter(|answer| **answer == wanted).count();
        let is_done = wait_for_answer(rig, thread, &wanted, earlier + 1).await;
        if let Turns::Commands(_) = case.turns {
            let output = rig.team.worker_file(thread, &format!("step{}", at + 1));
            if !is_done || !output.contains(case.answers[at]) {
                problems.push(format!("turn {} printed: {output}", at + 1));
            }
        } else if !is_done {
            let shown: Vec<_> = thread.messages().iter().map(MessageView::all_text).collect();
            problems.push(format!("turn {} did not show {wanted:?}: {shown:?}", at + 1));
        }
        if !problems.is_empty() {
            break;
        }
    }
    problems
}

/// Waits until a text is in this number of messages of the bot. The user allows all that the agent
/// asks for.
async fn wait_for_answer(rig: &Rig, thread: &Channel, text: &str, times: usize) -> bool {
    let has_answer = |views: &[MessageView]| {
        views.iter().filter(|view| view.all_text().contains(text)).count() >= times
    };
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

/// Whether a script agent reports a failed step.
fn has_failed(views: &[MessageView]) -> bool {
    views.iter().any(|view| view.all_text().contains(" failed"))
}
