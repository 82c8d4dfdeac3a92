//! Durations as users write them.

use std::time::Duration;

/// A text that is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a duration: write 90 or 90s (seconds), 5m, 2h or 1d")]
pub struct DurationError(String);

/// Parses a number with a unit: seconds (`90` or `90s`), minutes (`m`), hours (`h`) or days (`d`).
///
/// # Errors
/// When the text has another form or the duration is longer than 100 years.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    const MAX_SECONDS: u64 = 100 * 365 * 86_400;
    let error = || DurationError(text.chars().take(40).collect());
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(error()),
    };
    let number: u64 = number.parse().map_err(|_| error())?;
    let seconds = number.checked_mul(unit).filter(|s| *s <= MAX_SECONDS).ok_or_else(error)?;
    Ok(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_seconds_minutes_hours_and_days_are_durations() {
        for (text, seconds) in [("90", 90), ("90s", 90), ("5m", 300), ("2h", 7200), ("1d", 86_400), ("0", 0)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in ["", "s", "-1", "1.5s", "1 m", "5ms", "99999999999999999999", "9999999d"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
