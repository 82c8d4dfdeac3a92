//! The log: its level, its filter, and the report of a panic. No secret appears in it.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::{
    Layer as _,
    filter::{LevelFilter, Targets},
    fmt,
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::{
    cli::{Exit, Failure, print_notice},
    discord::UNLOGGABLE,
};

/// The variable that sets the level.
const VARIABLE: &str = "THREADKEY_LOG";

/// Returns the level of `THREADKEY_LOG`, or else `default`.
///
/// # Errors
/// When the value of `THREADKEY_LOG` is not a level.
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

/// Starts the log on standard error. Other crates are logged from `warn` up. The crates below the
/// Discord module are not logged at all, because they print tokens (adr/0010).
pub fn start_logs(level: LevelFilter) {
    let layer = fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .log_internal_errors(false)
        .with_filter(targets(level));
    // This fails only in a test that runs several programs in one process: it has a subscriber
    // already.
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

/// Makes a panic report its place and its message, if the message is a literal of the source. A
/// formatted message may contain a secret: the text of a sliced string, for example.
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = panic.payload().downcast_ref::<&'static str>().copied().unwrap_or("(message withheld)");
        print_notice(&format!(
            "threadkey has a defect at {place}: {message}. No token is lost: the journal has the state of each refresh"
        ));
    }));
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn other_crates_are_logged_from_warn_up_at_every_level() {
        let targets = targets(LevelFilter::TRACE);
        assert!(targets.would_enable("threadkey::broker", &Level::TRACE));
        for other in ["hyper", "reqwest::connect", "rustls"] {
            assert!(targets.would_enable(other, &Level::WARN), "{other}");
            assert!(!targets.would_enable(other, &Level::INFO), "{other}");
        }
        assert!(
            !targets.would_enable("serenity::gateway::ws", &Level::WARN),
            "it prints bodies that it cannot parse"
        );
        assert!(!super::targets(LevelFilter::ERROR).would_enable("hyper", &Level::WARN));
    }

    #[test]
    fn a_level_is_one_of_five_names() {
        assert_eq!(level("DEBUG"), Some(LevelFilter::DEBUG));
        assert_eq!(level("threadkey=debug"), None);
    }
}
