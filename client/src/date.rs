//! Calendar days in Japan time.
//!
//! Invariant: a [`Date`] is a number of days since 1970-01-01 as counted in Japan (UTC+9, no
//! summer time); it has no time of day, and two clinics never disagree about it.

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

const DAY_MS: i64 = 86_400_000;
const JAPAN_AHEAD_MS: i64 = 9 * 3_600_000;
/// Julian day of 1970-01-01.
const EPOCH_JULIAN_DAY: i32 = 2_440_588;

/// A day in Japan time, from 0001-01-01 to 9999-12-31.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date(i32);

/// A text that is not a day.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a day is written YYYY-MM-DD and must exist")]
pub struct DateError;

impl Date {
    /// The day it is in Japan now, by this machine's clock.
    pub fn today() -> Self {
        Self::at_ms(now_ms())
    }

    /// The day in Japan at a time in milliseconds since 1970-01-01 UTC.
    pub fn at_ms(at_ms: u64) -> Self {
        let days = i64::try_from(at_ms).unwrap_or(i64::MAX - JAPAN_AHEAD_MS).saturating_add(JAPAN_AHEAD_MS) / DAY_MS;
        Self(i32::try_from(days).unwrap_or(i32::MAX))
    }

    /// Days since 1970-01-01; negative before.
    pub const fn days(self) -> i32 {
        self.0
    }

    /// The day of a number of days since 1970-01-01.
    pub const fn from_days(days: i32) -> Self {
        Self(days)
    }

    /// When the day begins in Japan, in milliseconds since 1970-01-01 UTC; 0 for days before.
    pub fn begins_ms(self) -> u64 {
        u64::try_from(i64::from(self.0) * DAY_MS - JAPAN_AHEAD_MS).unwrap_or(0)
    }
}

impl FromStr for Date {
    type Err = DateError;

    fn from_str(text: &str) -> Result<Self, DateError> {
        let shaped = text.len() == 10
            && text.bytes().enumerate().all(|(i, b)| if i == 4 || i == 7 { b == b'-' } else { b.is_ascii_digit() });
        if !shaped {
            return Err(DateError);
        }
        let number = |range: std::ops::Range<usize>| text[range].parse::<u16>().map_err(|_| DateError);
        let month = u8::try_from(number(5..7)?).ok().and_then(|m| time::Month::try_from(m).ok()).ok_or(DateError)?;
        let day = u8::try_from(number(8..10)?).map_err(|_| DateError)?;
        let year = i32::from(number(0..4)?);
        let date = time::Date::from_calendar_date(year, month, day).map_err(|_| DateError)?;
        Ok(Self(date.to_julian_day() - EPOCH_JULIAN_DAY))
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.checked_add(EPOCH_JULIAN_DAY).and_then(|day| time::Date::from_julian_day(day).ok()) {
            Some(date) => f.pad(&format!("{:04}-{:02}-{:02}", date.year(), u8::from(date.month()), date.day())),
            // Days that the calendar does not hold still have a text, so that nothing is hidden.
            None => write!(f, "day {}", self.0),
        }
    }
}

impl Serialize for Date {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Date {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// This machine's clock, in milliseconds since 1970-01-01 UTC.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_read_written_and_counted_in_japan() {
        assert_eq!("1970-01-01".parse(), Ok(Date(0)));
        assert_eq!("2024-02-29".parse::<Date>().unwrap().to_string(), "2024-02-29");
        assert_eq!("1969-12-31".parse(), Ok(Date(-1)));
        for bad in ["", "2023-02-29", "2023-13-01", "2023-1-01", "20230101", "2023-01-0x", "+023-01-01"] {
            assert_eq!(bad.parse::<Date>(), Err(DateError), "{bad}");
        }
        // 2024-04-01 00:00 in Japan is 2024-03-31 15:00 UTC.
        let midnight_ms = 1_711_897_200_000;
        assert_eq!(Date::at_ms(midnight_ms).to_string(), "2024-04-01");
        assert_eq!(Date::at_ms(midnight_ms - 1).to_string(), "2024-03-31");
        assert_eq!(Date::at_ms(midnight_ms).begins_ms(), midnight_ms);
    }
}
