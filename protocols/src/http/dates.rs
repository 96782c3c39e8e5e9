//! Dates as HTTP writes them (RFC 9110 §5.6.7).
//!
//! [`parse_date`] takes all three formats that a recipient has to accept, [`format_date`] writes the
//! one that a sender may use, and a [`DateCache`] writes it once a second however many messages ask.
//!
//! # Not here
//!
//! No clock is read: `now` is an argument.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderValue;

use super::values::ascii_value;

/// The last second of the year 9999: what four digits can say.
const LAST: Duration = Duration::from_secs(253_402_300_799);

/// Reads a date in any of the three formats of RFC 9110 §5.6.7.
///
/// Two-digit years from 70 on are of the last century, the others of this one. `None` if it is none;
/// most fields with such a date are then to be ignored.
#[must_use]
pub fn parse_date(text: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(text).ok()
}

/// Reads the date of a field's value, as [`parse_date`] does.
#[must_use]
pub fn parse_date_value(value: &HeaderValue) -> Option<SystemTime> {
    value.to_str().ok().and_then(parse_date)
}

/// Writes a date: `Sun, 06 Nov 1994 08:49:37 GMT`.
///
/// Times before 1970 and after 9999 are written as the first and the last second between.
#[must_use]
pub fn format_date(at: SystemTime) -> String {
    httpdate::fmt_http_date(in_range(at))
}

/// Writes a date as the value of a field.
#[must_use]
pub fn date_value(at: SystemTime) -> HeaderValue {
    ascii_value(&format_date(at))
}

/// Cuts a time to whole seconds, as every date of HTTP is.
#[must_use]
pub fn whole_seconds(at: SystemTime) -> SystemTime {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

fn in_range(at: SystemTime) -> SystemTime {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH + since.min(LAST)
}

/// The date of now, formatted once a second.
///
/// ```
/// use std::time::{Duration, UNIX_EPOCH};
/// use torsade_protocols::http::dates::DateCache;
///
/// let mut dates = DateCache::default();
/// let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
/// assert_eq!(dates.at(now), b"Sun, 06 Nov 1994 08:49:37 GMT");
/// ```
#[derive(Clone, Debug)]
pub struct DateCache {
    /// Seconds since 1970 that `text` stands for.
    second: u64,
    text: [u8; Self::LENGTH],
}

impl DateCache {
    /// Bytes of a date.
    pub const LENGTH: usize = 29;

    /// The text of `now`.
    #[must_use]
    pub fn at(&mut self, now: SystemTime) -> &[u8; Self::LENGTH] {
        let second = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if second != self.second {
            *self = Self::of(second, now);
        }
        &self.text
    }

    fn of(second: u64, at: SystemTime) -> Self {
        let text = format_date(at);
        let text = *text.as_bytes().first_chunk().expect("a date has 29 bytes");
        Self { second, text }
    }
}

impl Default for DateCache {
    fn default() -> Self {
        Self::of(0, UNIX_EPOCH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn rfc9110_5_6_7_all_three_formats_are_read() {
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(parse_date(text), Some(at(784_111_777)), "{text}");
        }
        for text in ["", "0", "tomorrow", "Sun, 06 Nov 1994 08:49:37 +0100"] {
            assert_eq!(parse_date(text), None, "{text}");
        }
    }

    #[test]
    fn a_date_is_written_as_it_is_read() {
        assert_eq!(
            format_date(at(784_111_777)),
            "Sun, 06 Nov 1994 08:49:37 GMT"
        );
        assert_eq!(
            parse_date_value(&date_value(at(784_111_777))),
            Some(at(784_111_777))
        );
    }

    #[test]
    fn times_that_have_no_date_are_written_as_the_nearest_one() {
        let before = UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(format_date(before), "Thu, 01 Jan 1970 00:00:00 GMT");
        let after = at(LAST.as_secs() + 86_400);
        assert_eq!(format_date(after), "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    #[test]
    fn the_cache_says_what_formatting_says() {
        let mut dates = DateCache::default();
        let half = Duration::from_millis(500);
        for now in [at(0), at(59), at(59) + half, at(60), at(59), at(1 << 33)] {
            assert_eq!(dates.at(now), format_date(now).as_bytes());
        }
    }
}
