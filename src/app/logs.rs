//! What is logged, and what never is.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::{
    Layer as _,
    filter::{LevelFilter, Targets},
    fmt,
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::{
    cli::{Exit, Failure, say},
    discord::UNLOGGABLE,
};

/// The variable that sets the level.
const VARIABLE: &str = "THREADKEY_LOG";

/// The level of `THREADKEY_LOG`, else `default`.
///
/// # Errors
/// When `THREADKEY_LOG` is no level.
pub fn log_level(default: LevelFilter) -> Result<LevelFilter, Failure> {
    match std::env::var(VARIABLE) {
        Ok(text) if !text.is_empty() => level(&text).ok_or_else(|| {
            Failure::new(
                Exit::Usage,
                format!("{VARIABLE} is {text:?}: write error, warn, info, debug or trace"),
            )
        }),
        _ => Ok(default),
    }
}

/// Begins to log to the standard error. Other crates are heard from `warn` up only, and those below the Discord module not at
/// all: they print tokens (adr/0010).
pub fn start_logs(level: LevelFilter) {
    let layer = fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .log_internal_errors(false)
        .with_filter(targets(level));
    // Only a test that runs several in one process has a subscriber already.
    let _ = tracing_subscriber::registry().with(layer).try_init();
}

fn targets(level: LevelFilter) -> Targets {
    let ours = Targets::new().with_target("threadkey", level).with_default(level.min(LevelFilter::WARN));
    UNLOGGABLE.iter().fold(ours, |targets, target| targets.with_target(*target, LevelFilter::OFF))
}

fn level(text: &str) -> Option<LevelFilter> {
    let levels = [
        ("error", LevelFilter::ERROR),
        ("warn", LevelFilter::WARN),
        ("info", LevelFilter::INFO),
        ("debug", LevelFilter::DEBUG),
        ("trace", LevelFilter::TRACE),
    ];
    levels.into_iter().find(|(name, _)| text.eq_ignore_ascii_case(name)).map(|(_, level)| level)
}

/// Makes a panic say where it was, and only such words as stand in the source: a formatted message may hold what was being worked on,
/// the text of a sliced string for example.
pub fn guard_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let words = panic.payload().downcast_ref::<&'static str>().copied().unwrap_or("(message withheld)");
        say(&format!(
            "threadkey has a defect at {place}: {words}. Nothing is lost by it: a refresh under way is in its journal"
        ));
    }));
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn other_crates_are_capped_at_warn_however_much_is_asked_for() {
        let targets = targets(LevelFilter::TRACE);
        assert!(targets.would_enable("threadkey::broker", &Level::TRACE));
        for other in ["hyper", "reqwest::connect", "rustls"] {
            assert!(targets.would_enable(other, &Level::WARN), "{other}");
            assert!(!targets.would_enable(other, &Level::INFO), "{other}");
        }
        assert!(
            !targets.would_enable("serenity::gateway::ws", &Level::WARN),
            "it prints what it cannot read"
        );
        assert!(!super::targets(LevelFilter::ERROR).would_enable("hyper", &Level::WARN));
    }

    #[test]
    fn levels_have_five_names() {
        assert_eq!(level("DEBUG"), Some(LevelFilter::DEBUG));
        assert_eq!(level("threadkey=debug"), None);
    }
}
