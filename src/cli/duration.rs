//! Durations as people write them.

use std::time::Duration;

/// Not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a duration: write 90 or 90s (seconds), 5m, 2h or 1d")]
pub struct DurationError(String);

/// `90` or `90s` are seconds; `m`, `h` and `d` are minutes, hours and days.
///
/// # Errors
/// For anything else, and for more than 100 years.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    const CENTURY: u64 = 100 * 365 * 86_400;
    let bad = || DurationError(text.chars().take(40).collect());
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(bad()),
    };
    let number: u64 = number.parse().map_err(|_| bad())?;
    let seconds = number.checked_mul(unit).filter(|s| *s <= CENTURY).ok_or_else(bad)?;
    Ok(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_minutes_hours_and_days_are_understood_and_nothing_else() {
        for (text, seconds) in [("90", 90), ("90s", 90), ("5m", 300), ("2h", 7200), ("1d", 86_400), ("0", 0)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in ["", "s", "-1", "1.5s", "1 m", "5ms", "99999999999999999999", "9999999d"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
