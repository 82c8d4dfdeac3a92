//! threadkey to try out, without a Discord account: `cargo run --release --example playground`.
//!
//! On loopback, each on a free port: an authorization server with strict rotation, a Discord look-alike with a chat page, and the
//! real bot, which is another process of this very file. Nothing outside the machine is talked to, and nothing outlives it: all
//! files lie in a temporary folder, which goes with the last process.
//!
//! | module | owns |
//! | --- | --- |
//! | `support` | the servers and the people, as the tests have them |
//! | `stage` | everything put together |
//! | `bot` | the bot's process, folder and log |
//! | `life` | the panel that shows every refresh token's life |
//! | `check` | a person who goes through it all by a script |

mod bot;
mod check;
mod life;
mod stage;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser};
use threadkey::cli::Cli;
use tokio::signal::unix::{SignalKind, signal};

use bot::Bot;
use stage::{Scene, Stage};

/// Tries threadkey out without a Discord account: a chat page with the real bot in it, on this machine alone.
#[derive(Debug, Parser)]
#[command(name = "playground")]
struct Arguments {
    /// The port of the page [default: a free one]
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    port: u16,
    /// Print the bot's log here too
    #[arg(long)]
    verbose: bool,
    /// Let a script sign in and ask; says "playground ok" and ends
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

/// The bot starts itself again for its agents and its detached refreshes, with a command of `threadkey` as first argument. The
/// playground has options only, so the two are never mixed up.
fn is_program() -> bool {
    let first = std::env::args_os().nth(1);
    first.is_some_and(|first| Cli::command().find_subcommand(first).is_some())
}

fn ended(why: &str) -> ExitCode {
    eprintln!("playground: {why}");
    ExitCode::FAILURE
}

async fn play(arguments: &Arguments) -> Result<(), String> {
    let told = |error| format!("signals cannot be waited for: {error}");
    let mut terminated = signal(SignalKind::terminate()).map_err(told)?;
    let mut interrupted = signal(SignalKind::interrupt()).map_err(told)?;
    let Stage { mut folder, scene, mut bot } = Stage::set(arguments.port, arguments.verbose).await?;
    let outcome = tokio::select! {
        outcome = perform(scene, &mut bot, arguments.check) => outcome,
        _ = interrupted.recv() => Ok(()),
        _ = terminated.recv() => Ok(()),
    };
    // For whoever wants to know why.
    folder.disable_cleanup(outcome.is_err());
    bot.stop().await;
    outcome
}

/// Until the script is through or the bot ends; without a script, for ever.
async fn perform(scene: Scene, bot: &mut Bot, check: bool) -> Result<(), String> {
    // In a task of its own: what the people of the look-alike wait for in vain is a panic.
    let mut acts = tokio::spawn(async move {
        scene.discord.commands_registered(&["auth", "ask"]).await;
        scene.discord.bot_ready().await;
        if check {
            return check::run(&scene).await;
        }
        scene.welcome();
        std::future::pending().await
    });
    let failed = tokio::select! {
        outcome = &mut acts => match outcome {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(why)) => why,
            Err(_) => "what had to come did not come; see above".to_owned(),
        },
        how = bot.ended() => how,
    };
    acts.abort();
    Err(format!("{failed}. {}", bot.last_words()))
}
