//! Days as documents write them, in Japan time.

use time::{Date, Month, OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

/// The day of `YYYYMMDD…`, in days from 1970-01-01.
pub fn compact_day(text: &str) -> Option<i32> {
    day(text.get(..4)?, text.get(4..6)?, text.get(6..8)?)
}

/// The day, in Japan time, of a FHIR date or moment; a missing month or day counts as the first. A
/// moment without a zone is Japan's.
pub fn fhir_day(text: &str) -> Option<i32> {
    if let Ok(moment) = OffsetDateTime::parse(text, &Rfc3339) {
        let japan = moment.checked_to_offset(UtcOffset::from_hms(9, 0, 0).ok()?)?;
        return since_epoch(japan.date());
    }
    day(text.get(..4)?, text.get(5..7).unwrap_or("01"), text.get(8..10).unwrap_or("01"))
}

fn day(year: &str, month: &str, day: &str) -> Option<i32> {
    if ![year, month, day].concat().bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let month = Month::try_from(month.parse::<u8>().ok()?).ok()?;
    since_epoch(Date::from_calendar_date(year.parse().ok()?, month, day.parse().ok()?).ok()?)
}

/// Days from 1970-01-01; years that no living person's record can have are taken for mistakes.
fn since_epoch(date: Date) -> Option<i32> {
    const EPOCH: Date = time::macros::date!(1970 - 01 - 01);
    (1900..2100).contains(&date.year()).then(|| date.to_julian_day() - EPOCH.to_julian_day())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_japans() {
        assert_eq!(fhir_day("1970-01-02"), Some(1));
        assert_eq!(fhir_day("1970-01"), Some(0));
        assert_eq!(fhir_day("1971"), Some(365));
        assert_eq!(fhir_day("1970-01-01T14:59:59Z"), Some(0));
        assert_eq!(fhir_day("1970-01-01T15:00:00Z"), Some(1));
        assert_eq!(fhir_day("1970-01-02T00:00:00.000+09:00"), Some(1));
        assert_eq!(compact_day("19700103123456"), Some(2));
        for wrong in ["", "19", "1970-13-01", "1970-02-30", "0001-01-01", "+197-01-01", "漢字漢字"] {
            assert_eq!(fhir_day(wrong), None, "{wrong}");
            assert_eq!(compact_day(wrong), None, "{wrong}");
        }
    }
}
