//! The log: its level, its filter, and the report of a panic.
//!
//! One event is one line, and no secret that this process knows appears in it (adr/0035). Fields
//! carry foreign texts: line ends, escape sequences and bidirectional marks in them are escaped.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal as _},
};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{
    Layer as _,
    filter::{LevelFilter, Targets},
    fmt::{
        self, FmtContext, FormatEvent, FormatFields, FormattedFields,
        format::Writer,
        time::{FormatTime as _, SystemTime},
    },
    layer::SubscriberExt as _,
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

use super::json_logs::{JsonFields, JsonLine};
use crate::{
    cli::{Exit, Failure, LogFormat, print_notice},
    discord::{UNLOGGABLE, is_hidden},
    secret::Scrubber,
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
pub fn start_logs(level: LevelFilter, format: LogFormat) {
    let scrubber = Scrubber::of_process().clone();
    let layer = fmt::layer().with_writer(io::stderr).log_internal_errors(false);
    // This fails only in a test that runs several programs in one process: it has a subscriber
    // already.
    let _ = match format {
        LogFormat::Text => {
            let layer = layer.with_ansi(io::stderr().is_terminal()).event_format(OneLine(scrubber));
            tracing_subscriber::registry().with(layer.with_filter(targets(level))).try_init()
        }
        LogFormat::Json => {
            let layer = layer.with_ansi(false).fmt_fields(JsonFields).event_format(JsonLine(scrubber));
            tracing_subscriber::registry().with(layer.with_filter(targets(level))).try_init()
        }
    };
}

/// Writes each event as one line without secrets.
struct OneLine(Scrubber);

impl<S, N> FormatEvent<S, N> for OneLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let mut fields = String::new();
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            let known = span.extensions();
            let of_span = known.get::<FormattedFields<N>>().map_or("", |of_span| of_span.as_str());
            let _ = write!(fields, "{}{{{of_span}}}: ", span.name());
        }
        context.format_fields(Writer::new(&mut fields), event)?;
        SystemTime.format_time(&mut writer)?;
        let level = *event.metadata().level();
        match colour(level).filter(|_| writer.has_ansi_escapes()) {
            Some(colour) => write!(writer, " \x1b[{colour}m{level:>5}\x1b[0m")?,
            None => write!(writer, " {level:>5}")?,
        }
        writeln!(writer, " {}: {}", event.metadata().target(), one_line(&self.0.clean(&fields)))
    }
}

/// The colour of a level at a terminal, as a parameter of ECMA-48 §8.3.117.
fn colour(level: Level) -> Option<u8> {
    match level {
        Level::ERROR => Some(31),
        Level::WARN => Some(33),
        Level::INFO => Some(32),
        _ => None,
    }
}

/// Escapes every character that could end the line or change its look.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            _ if is_hidden(c) => {
                let _ = write!(line, "\\u{{{:x}}}", u32::from(c));
            }
            _ => line.push(c),
        }
    }
    line
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
    use super::*;
    use crate::app::json_logs::tests::captured;

    /// Returns the lines that the log has after these events.
    fn logged(secrets: &[&str], events: impl FnOnce()) -> String {
        let scrubber = Scrubber::new();
        secrets.iter().for_each(|secret| scrubber.note(secret));
        let layer = fmt::layer().with_ansi(false);
        captured(|writer| layer.with_writer(writer).event_format(OneLine(scrubber)), events)
    }

    #[test]
    fn a_live_token_appears_in_no_field_of_the_log() {
        let secrets = ["at-live 1234 \"odd\"", "short"];
        let line = logged(&secrets, || {
            let [odd, short] = secrets;
            tracing::warn!(line = odd, error = %odd, debug = ?odd, "it wrote {odd} and {short}");
        });
        assert!(
            line.contains("WARN threadkey::app::logs::tests: it wrote [secret removed] and [secret"),
            "{line}"
        );
        assert_eq!(line.matches("[secret removed]").count(), 5, "{line}");
        assert!(!line.contains("1234"), "{line}");
    }

    #[test]
    fn no_field_of_the_log_can_end_its_line_or_change_its_look() {
        let forged = "x\n2026-11-27T07:00:00Z ERROR threadkey: forged\r\u{1b}[2K\u{202e}\u{9b}31m\u{2028}\0";
        let log = logged(&[], || {
            tracing::warn!(error = %forged, line = forged, debug = ?forged, "{forged}");
            tracing::info!("the next one");
        });
        let lines: Vec<&str> = log.lines().collect();
        assert_eq!(lines.len(), 2, "{log}");
        assert!(lines[0].contains("x\\n2026-11-27T07:00:00Z ERROR threadkey: forged\\r"), "{log}");
        assert!(!log.chars().any(|c| c != '\n' && is_hidden(c)), "{log:?}");
        assert!(lines[1].ends_with(" INFO threadkey::app::logs::tests: the next one"), "{log}");
    }

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
