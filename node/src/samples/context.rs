//! One visit: who, where, when and by whom. What a sample's form takes its content from.

use time::{Date, Duration};

use super::random::Random;
use super::roster::{Facility, Participant, Roster, User};
use super::vocabulary::{CARE_SENTENCES, CLINICAL_SENTENCES, Drug};

/// The content of one sample under construction.
pub(super) struct Context<'a> {
    pub random: Random,
    pub roster: &'a Roster,
    pub participant: Participant,
    pub facility: Facility,
    pub author: User,
    /// The facility's own id of the participant.
    pub local_id: String,
    /// Days from 1970-01-01, in Japan time.
    pub day: i32,
    /// The insured person's number as JP-CLINS joins it: insurer, symbol, number, branch.
    pub insured: String,
    /// The participant's address.
    pub home: String,
    /// Names of the medicines that were drawn.
    pub drugs: Vec<String>,
}

impl Context<'_> {
    pub fn new(
        roster: &Roster,
        mut random: Random,
        participant: Participant,
        participant_index: u64,
        facility: Facility,
        day: i32,
    ) -> Context<'_> {
        let author_index = match facility.kind_word {
            "hospital" => *random.pick_ref(&[0, 5]),
            _ => 0,
        };
        let place = roster.facility(random.below(1 << 20));
        Context {
            author: roster.user(&facility, author_index),
            local_id: roster.local_id(&facility, participant_index),
            insured: format!(
                "{}:{}:{}:{:02}",
                random.digits(8),
                random.digits(4),
                random.digits(3),
                random.between(1, 5)
            ),
            home: place.address,
            drugs: Vec::new(),
            random,
            roster,
            participant,
            facility,
            day,
        }
    }

    /// The day of the visit, `YYYY-MM-DD`.
    pub fn date(&self) -> String {
        date(self.day)
    }

    /// A day at most so many days before the visit, and never before the birth.
    pub fn earlier_date(&mut self, days: i64) -> String {
        let days = days.min(i64::from(self.day - self.participant.birth_day)).max(1);
        date(self.day - self.random.between(1, days) as i32)
    }

    /// A moment of the visit's day, or of a day at most so many days later: RFC 3339, Japan time.
    pub fn moment(&mut self, days: i64) -> String {
        let seconds = self.random.between(30_000, 68_000);
        timestamp(self.day + self.random.between(0, days) as i32, seconds)
    }

    /// A moment of the visit's day as HL7 v2 writes it, `YYYYMMDDHHMMSS`.
    pub fn stamp(&mut self) -> String {
        let seconds = self.random.between(30_000, 68_000);
        compact(&timestamp(self.day, seconds))
    }

    /// Sentences of a letter.
    pub fn clinical_text(&mut self, sentences: usize) -> String {
        self.roster.sentences(&mut self.random, CLINICAL_SENTENCES, sentences)
    }

    /// Sentences of a care note.
    pub fn care_text(&mut self, sentences: usize) -> String {
        self.roster.sentences(&mut self.random, CARE_SENTENCES, sentences)
    }

    /// A medicine; its name is remembered as one of the sample's words.
    pub fn drug(&mut self) -> Drug {
        let drug = self.roster.drug(&mut self.random);
        self.drugs.push(drug.name.clone());
        drug
    }

    /// A value near a test's limits, mostly within, never below 0.
    pub fn measured(&mut self, low: i64, high: i64) -> i64 {
        let margin = ((high - low) / 4).max(1);
        self.random.between(low - margin, high + margin).max(0)
    }

    /// Some other place of care.
    pub fn other_facility(&mut self) -> Facility {
        let index = self.random.below(1500);
        self.roster.facility(index)
    }
}

/// A day as `YYYY-MM-DD`.
pub(super) fn date(day: i32) -> String {
    let date = civil(day);
    format!("{:04}-{:02}-{:02}", date.year(), u8::from(date.month()), date.day())
}

/// A day and a second of it, RFC 3339 in Japan time.
pub(super) fn timestamp(day: i32, second: i64) -> String {
    format!("{}T{:02}:{:02}:{:02}+09:00", date(day), second / 3600, second / 60 % 60, second % 60)
}

/// The digits of a date or timestamp, without the zone.
pub(super) fn compact(text: &str) -> String {
    text.split('+').next().unwrap_or_default().chars().filter(char::is_ascii_digit).collect()
}

/// A fixed-point number: `decimal(35, 1)` is `3.5`.
pub(super) fn decimal(value: i64, places: usize) -> String {
    let scale = 10_i64.pow(places as u32);
    match places {
        0 => value.to_string(),
        _ => format!("{}.{:0places$}", value / scale, value % scale),
    }
}

fn civil(day: i32) -> Date {
    const EPOCH: Date = time::macros::date!(1970 - 01 - 01);
    EPOCH.checked_add(Duration::days(i64::from(day))).unwrap_or(Date::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_numbers_are_written_right() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(19_782), "2024-02-29");
        assert_eq!(timestamp(-1, 3661), "1969-12-31T01:01:01+09:00");
        assert_eq!(compact("2024-02-29T01:02:03+09:00"), "20240229010203");
        assert_eq!(decimal(35, 1), "3.5");
        assert_eq!(decimal(7, 2), "0.07");
        assert_eq!(decimal(140, 0), "140");
    }
}
