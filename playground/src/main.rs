//! The playground: threadkey without a Discord account. Start it with `cargo run -p playground`.
//!
//! It starts three parts on loopback, each on a free port: an authorization server with strict
//! rotation, a Discord look-alike with a chat page, and the real bot. The bot is another process of
//! this same program. No part talks to the network. All files lie in a temporary folder, which is
//! removed at the end.
//!
//! | module | owns |
//! | --- | --- |
//! | `stage` | the servers, the users, the bot and the page together |
//! | `bot` | the bot's process, folder and log |
//! | `life` | the panel that shows every refresh token's life |
//! | `ask_all` | the questions of all users at once |
//! | `check` | a script that acts as a user |

mod ask_all;
mod bot;
mod check;
mod life;
mod stage;

use std::{io::Write as _, process::ExitCode};

use clap::{CommandFactory as _, Parser};
use threadkey::cli::Cli;
use tokio::signal::unix::{SignalKind, signal};

use bot::Bot;
use stage::{Scene, Stage};

/// Tries threadkey out without a Discord account: a chat page with the real bot in it, on this
/// machine alone.
#[derive(Debug, Parser)]
#[command(name = "playground")]
struct Arguments {
    /// The port of the page [default: a free one]
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    port: u16,
    /// Print the bot's log here too
    #[arg(long)]
    verbose: bool,
    /// Let a script sign in and ask, print "playground ok", and end
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    if is_program() {
        return threadkey::entry::main();
    }
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return ended(&format!("the runtime cannot be started: {error}")),
    };
    match runtime.block_on(play(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => ended(&why),
    }
}

/// Whether this process is the bot, an agent or a detached refresh. Each of them has a command of
/// `threadkey` as its first argument. The playground itself takes only options, so the two cannot
/// be confused.
fn is_program() -> bool {
    let first = std::env::args_os().nth(1);
    first.is_some_and(|first| Cli::command().find_subcommand(first).is_some())
}

/// Prints a line. The playground goes on if its output is closed or full.
fn print(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn ended(why: &str) -> ExitCode {
    eprintln!("playground: {why}");
    ExitCode::FAILURE
}

async fn play(arguments: &Arguments) -> Result<(), String> {
    let failed = |error| format!("signals cannot be caught: {error}");
    let mut terminated = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupted = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut hung_up = signal(SignalKind::hangup()).map_err(failed)?;
    let Stage { mut folder, scene, mut bot } = Stage::set(arguments.port, arguments.verbose).await?;
    let outcome = tokio::select! {
        outcome = perform(scene, &mut bot, arguments.check) => outcome,
        _ = interrupted.recv() => Ok(()),
        _ = terminated.recv() => Ok(()),
        _ = hung_up.recv() => Ok(()),
    };
    // After a failure the files stay for a look.
    folder.disable_cleanup(outcome.is_err());
    bot.stop().await;
    outcome
}

/// Runs until the script or the bot ends. Without a script only the bot's end returns.
async fn perform(scene: Scene, bot: &mut Bot, check: bool) -> Result<(), String> {
    // A wait of the look-alike that times out is a panic, so the script runs in its own task.
    let mut acts = tokio::spawn(async move {
        scene.discord.commands_registered(&["auth", "ask"]).await;
        scene.discord.bot_ready().await;
        if check {
            return check::run(&scene).await;
        }
        print(&scene.welcome());
        std::future::pending().await
    });
    let failed = tokio::select! {
        outcome = &mut acts => match outcome {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(why)) => why,
            Err(_) => "an expected event did not come; see above".to_owned(),
        },
        how = bot.ended() => how,
    };
    acts.abort();
    Err(format!("{failed}. {}", bot.last_words()))
}
