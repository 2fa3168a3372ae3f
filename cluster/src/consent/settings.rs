//! The network's settings as `decide` uses them.
//!
//! Invariants
//! - A setting that is absent from its row has the documented default (docs/consent.md).
//! - What is proposed is held against the bounds ([`Settings::check`]); what is stored and out of bounds
//!   nevertheless is drawn to the nearest bound, so that no setting disables a rule.

use super::emergency::WINDOW_MS_MAX;
use crate::row::{DISASTER_NAMES_MAX, DisasterRow, ProfessionClasses, SettingsRow};
use crate::word::{Class, FacilityKind, Profession};

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;

/// A setting out of its bounds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A number too low or too high.
    #[error("{field} is {given}; it must be {least} to {most}")]
    OutOfBounds {
        /// The setting.
        field: &'static str,
        /// What was given.
        given: u64,
        /// Lowest permitted.
        least: u64,
        /// Highest permitted.
        most: u64,
    },
    /// A number of a vocabulary that is not known.
    #[error("{field} names {given}, which is not known")]
    Unknown {
        /// The setting.
        field: &'static str,
        /// What was given.
        given: u32,
    },
    /// The same profession twice.
    #[error("{field} names {given} twice")]
    Twice {
        /// The setting.
        field: &'static str,
        /// What was given.
        given: u32,
    },
}

/// A number with its default and its bounds, both inclusive.
struct Bounded {
    field: &'static str,
    default: u64,
    least: u64,
    most: u64,
}

impl Bounded {
    const fn of(field: &'static str, default: u64, least: u64, most: u64) -> Bounded {
        Bounded { field, default, least, most }
    }

    fn check(&self, given: Option<u64>) -> Result<(), SettingsError> {
        match given {
            Some(given) if !(self.least..=self.most).contains(&given) => {
                Err(SettingsError::OutOfBounds { field: self.field, given, least: self.least, most: self.most })
            }
            _ => Ok(()),
        }
    }

    fn take(&self, stored: Option<u64>) -> u64 {
        stored.map_or(self.default, |stored| stored.clamp(self.least, self.most))
    }

    fn take_count(&self, stored: Option<u32>) -> u32 {
        u32::try_from(self.take(stored.map(u64::from))).unwrap_or(u32::MAX)
    }
}

const EMERGENCY_MS: Bounded = Bounded::of("emergency_ms", HOUR_MS, 5 * MINUTE_MS, DAY_MS);
const EMERGENCY_WINDOW_MS: Bounded = Bounded::of("emergency_window_ms", DAY_MS, HOUR_MS, 7 * DAY_MS);
const EMERGENCY_USER_MAX: Bounded = Bounded::of("emergency_user_max", 10, 1, 1_000);
const EMERGENCY_FACILITY_MAX: Bounded = Bounded::of("emergency_facility_max", 50, 1, 10_000);
const EMERGENCY_APPLICATION_MAX: Bounded = Bounded::of("emergency_application_max", 200, 1, 100_000);
const DISASTER_MS_MAX: Bounded = Bounded::of("disaster_ms_max", 14 * DAY_MS, DAY_MS, 90 * DAY_MS);
const ERASURE_GRACE_MS: Bounded = Bounded::of("erasure_grace_ms", 30 * DAY_MS, DAY_MS, 365 * DAY_MS);
const ERASURES_DAY_MAX: Bounded = Bounded::of("erasures_day_max", 10, 1, 1_000);
const ACT_MS: Bounded = Bounded::of("act_ms", 7 * DAY_MS, HOUR_MS, 30 * DAY_MS);
const OWN_GRANTS_MAX: Bounded = Bounded::of("own_grants_max", 100, 0, 10_000);
const OWN_GRANTS_WINDOW_MS: Bounded = Bounded::of("own_grants_window_ms", DAY_MS, HOUR_MS, WINDOW_MS_MAX);
const CAPS_FACTOR: Bounded = Bounded::of("caps_factor", 1, 0, 1_000);

/// The network's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Which profession may see which class: bit `class.number()` of element `profession.number()`.
    seen: [u32; 16],
    /// How long an emergency lasts. Default an hour, 5 minutes to a day.
    pub emergency_ms: u64,
    /// Window of the caps on emergencies. Default a day, an hour to 7 days.
    pub emergency_window_ms: u64,
    /// Emergencies that a user may open in a window. Default 10, 1 to 1,000.
    pub emergency_user_max: u32,
    /// Emergencies that a facility's users may open in a window. Default 50, 1 to 10,000.
    pub emergency_facility_max: u32,
    /// Emergencies that may be opened through an application in a window. Default 200, 1 to 100,000.
    pub emergency_application_max: u32,
    /// Whether a physician opens an emergency only with the registered credential. Default yes.
    pub emergency_credential: bool,
    /// Longest declared disaster. Default 14 days, 1 to 90 days.
    pub disaster_ms_max: u64,
    /// How long an approved erasure can be stopped. Default 30 days, 1 to 365 days.
    pub erasure_grace_ms: u64,
    /// Participants erased on a day at most. Default 10, 1 to 1,000. The cluster's own cap on deletions
    /// of key rows holds beside it.
    pub erasures_day_max: u32,
    /// How long an act waits for its second registrar. Default 7 days, an hour to 30 days.
    pub act_ms: u64,
    /// Grants that a facility may enter for itself in a window. Default 100, 0 to 10,000.
    pub own_grants_max: u32,
    /// Window of that cap. Default a day, an hour to 30 days.
    pub own_grants_window_ms: u64,
    /// Whether participants may read their own records. Default yes.
    pub participants_read: bool,
    /// Whether the participant's list of accesses shows the person at a facility. Default no: the
    /// facility alone is shown.
    pub accesses_show_person: bool,
}

impl Default for Settings {
    /// The documented default (docs/consent.md): physicians, dentists and nurses see everything;
    /// pharmacists what bears on medicines; technicians what bears on their examinations; therapists
    /// and care workers what bears on daily care; clerks nothing.
    fn default() -> Settings {
        use Class::*;
        let all = Class::ALL;
        let table: [(Profession, &[Class]); 8] = [
            (Profession::Physician, all),
            (Profession::Dentist, all),
            (Profession::Nurse, all),
            (
                Profession::Pharmacist,
                &[
                    ReferralLetter,
                    DischargeSummary,
                    LaboratoryResult,
                    Prescription,
                    Dispensing,
                    Allergy,
                    CareRecord,
                    Document,
                ],
            ),
            (Profession::Technician, &[ReferralLetter, LaboratoryResult, Image, Allergy, Checkup]),
            (
                Profession::Therapist,
                &[ReferralLetter, DischargeSummary, Prescription, Dispensing, Image, Allergy, CareRecord, Document],
            ),
            (Profession::CareWorker, &[DischargeSummary, Prescription, Dispensing, Allergy, CareRecord, Document]),
            (Profession::Clerk, &[]),
        ];
        let mut settings = Settings::from_row(&SettingsRow::default());
        for (profession, classes) in table {
            for class in classes {
                settings.seen[profession.number() as usize] |= 1 << class.number();
            }
        }
        settings
    }
}

impl Settings {
    /// Reads the settings row; unknown numbers widen nothing, numbers out of bounds become the nearest.
    pub fn from_row(row: &SettingsRow) -> Settings {
        let mut seen = [0; 16];
        for ProfessionClasses { profession, classes } in &row.professions {
            let Ok(profession) = Profession::from_number(*profession) else { continue };
            let Some(seen) = seen.get_mut(profession.number() as usize) else { continue };
            for class in classes.iter().filter_map(|c| Class::from_number(*c).ok()) {
                *seen |= 1 << class.number();
            }
        }
        Settings {
            seen,
            emergency_ms: EMERGENCY_MS.take(row.emergency_ms),
            emergency_window_ms: EMERGENCY_WINDOW_MS.take(row.emergency_window_ms),
            emergency_user_max: EMERGENCY_USER_MAX.take_count(row.emergency_user_max),
            emergency_facility_max: EMERGENCY_FACILITY_MAX.take_count(row.emergency_facility_max),
            emergency_application_max: EMERGENCY_APPLICATION_MAX.take_count(row.emergency_application_max),
            emergency_credential: row.emergency_credential.unwrap_or(true),
            disaster_ms_max: DISASTER_MS_MAX.take(row.disaster_ms_max),
            erasure_grace_ms: ERASURE_GRACE_MS.take(row.erasure_grace_ms),
            erasures_day_max: ERASURES_DAY_MAX.take_count(row.erasures_day_max),
            act_ms: ACT_MS.take(row.act_ms),
            own_grants_max: OWN_GRANTS_MAX.take_count(row.own_grants_max),
            own_grants_window_ms: OWN_GRANTS_WINDOW_MS.take(row.own_grants_window_ms),
            participants_read: row.participants_read.unwrap_or(true),
            accesses_show_person: row.accesses_show_person.unwrap_or(false),
        }
    }

    /// Holds a settings row that someone proposes against the bounds.
    pub fn check(row: &SettingsRow) -> Result<(), SettingsError> {
        let count = |given: Option<u32>| given.map(u64::from);
        for (bounds, given) in [
            (EMERGENCY_MS, row.emergency_ms),
            (EMERGENCY_WINDOW_MS, row.emergency_window_ms),
            (EMERGENCY_USER_MAX, count(row.emergency_user_max)),
            (EMERGENCY_FACILITY_MAX, count(row.emergency_facility_max)),
            (EMERGENCY_APPLICATION_MAX, count(row.emergency_application_max)),
            (DISASTER_MS_MAX, row.disaster_ms_max),
            (ERASURE_GRACE_MS, row.erasure_grace_ms),
            (ERASURES_DAY_MAX, count(row.erasures_day_max)),
            (ACT_MS, row.act_ms),
            (OWN_GRANTS_MAX, count(row.own_grants_max)),
            (OWN_GRANTS_WINDOW_MS, row.own_grants_window_ms),
        ] {
            bounds.check(given)?;
        }
        let mut named = 0_u32;
        for ProfessionClasses { profession, classes } in &row.professions {
            let known = Profession::from_number(*profession)
                .map_err(|_| SettingsError::Unknown { field: "professions", given: *profession })?;
            if named & 1 << known.number() != 0 {
                return Err(SettingsError::Twice { field: "professions", given: *profession });
            }
            named |= 1 << known.number();
            if let Some(unknown) = classes.iter().find(|class| Class::from_number(**class).is_err()) {
                return Err(SettingsError::Unknown { field: "classes", given: *unknown });
            }
        }
        Ok(())
    }

    /// Holds a disaster that someone declares against the bounds.
    pub fn check_disaster(&self, row: &DisasterRow) -> Result<(), SettingsError> {
        Bounded::of("until_ms", 0, row.from_ms.saturating_add(1), row.from_ms.saturating_add(self.disaster_ms_max))
            .check(Some(row.until_ms))?;
        CAPS_FACTOR.check(Some(row.caps_factor.into()))?;
        for (field, names) in [
            ("professions", row.professions.len()),
            ("facility_kinds", row.facility_kinds.len()),
            ("facilities", row.facilities.len()),
        ] {
            Bounded::of(field, 0, 0, DISASTER_NAMES_MAX as u64).check(Some(names as u64))?;
        }
        if let Some(given) = row.professions.iter().find(|number| Profession::from_number(**number).is_err()) {
            return Err(SettingsError::Unknown { field: "professions", given: *given });
        }
        if let Some(given) = row.facility_kinds.iter().find(|number| FacilityKind::from_number(**number).is_err()) {
            return Err(SettingsError::Unknown { field: "facility_kinds", given: *given });
        }
        Ok(())
    }

    /// The settings row, nothing left to a default.
    pub fn to_row(&self) -> SettingsRow {
        let professions = Profession::ALL.iter().map(|p| ProfessionClasses {
            profession: p.number(),
            classes: Class::ALL.iter().filter(|c| self.may_see(p.number(), **c)).map(|c| c.number()).collect(),
        });
        SettingsRow {
            professions: professions.collect(),
            emergency_ms: Some(self.emergency_ms),
            emergency_window_ms: Some(self.emergency_window_ms),
            emergency_user_max: Some(self.emergency_user_max),
            emergency_facility_max: Some(self.emergency_facility_max),
            emergency_application_max: Some(self.emergency_application_max),
            emergency_credential: Some(self.emergency_credential),
            disaster_ms_max: Some(self.disaster_ms_max),
            erasure_grace_ms: Some(self.erasure_grace_ms),
            erasures_day_max: Some(self.erasures_day_max),
            act_ms: Some(self.act_ms),
            own_grants_max: Some(self.own_grants_max),
            own_grants_window_ms: Some(self.own_grants_window_ms),
            participants_read: Some(self.participants_read),
            accesses_show_person: Some(self.accesses_show_person),
        }
    }

    /// Whether a profession (by number) may see a class. An unknown profession sees nothing.
    pub fn may_see(&self, profession: u32, class: Class) -> bool {
        self.seen.get(profession as usize).is_some_and(|seen| seen >> class.number() & 1 == 1)
    }

    /// Whether `after` is no wider than this in any respect: then one registrar is enough. What shows
    /// staff's names to participants, or stops showing them, counts as wider both ways.
    pub fn covers(&self, after: &Settings) -> bool {
        let sees_no_more = self.seen.iter().zip(&after.seen).all(|(before, after)| after & !before == 0);
        // The longer a window, the fewer fit into a day; the longer a grace period, the later keys go.
        sees_no_more
            && after.emergency_ms <= self.emergency_ms
            && after.emergency_window_ms >= self.emergency_window_ms
            && after.emergency_user_max <= self.emergency_user_max
            && after.emergency_facility_max <= self.emergency_facility_max
            && after.emergency_application_max <= self.emergency_application_max
            && (after.emergency_credential || !self.emergency_credential)
            && after.disaster_ms_max <= self.disaster_ms_max
            && after.erasure_grace_ms >= self.erasure_grace_ms
            && after.erasures_day_max <= self.erasures_day_max
            && after.act_ms <= self.act_ms
            && after.own_grants_max <= self.own_grants_max
            && after.own_grants_window_ms >= self.own_grants_window_ms
            && (!after.participants_read || self.participants_read)
            && after.accesses_show_person == self.accesses_show_person
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_row_comes_back_and_unknown_numbers_widen_nothing() {
        let settings = Settings::default();
        assert_eq!(Settings::from_row(&settings.to_row()), settings);
        assert_eq!(Settings::check(&settings.to_row()), Ok(()));
        let odd = SettingsRow {
            professions: vec![ProfessionClasses { profession: 99, classes: vec![1, 77] }],
            ..SettingsRow::default()
        };
        assert!(!Settings::from_row(&odd).may_see(99, Class::Allergy));
        assert!(!settings.may_see(0, Class::Allergy));
        assert!(!settings.may_see(Profession::Clerk.number(), Class::Allergy));
        assert!(settings.may_see(Profession::Physician.number(), Class::Image));
    }

    #[test]
    fn what_is_proposed_is_held_against_the_bounds_and_what_is_stored_drawn_into_them() {
        let cases: [(SettingsRow, &str); 6] = [
            (
                SettingsRow { emergency_ms: Some(DAY_MS + 1), ..Default::default() },
                "emergency_ms is 86400001; it must be 300000 to 86400000",
            ),
            (
                SettingsRow { emergency_user_max: Some(0), ..Default::default() },
                "emergency_user_max is 0; it must be 1 to 1000",
            ),
            (
                SettingsRow { erasure_grace_ms: Some(0), ..Default::default() },
                "erasure_grace_ms is 0; it must be 86400000 to 31536000000",
            ),
            (profession_row(&[99], 1), "professions names 99, which is not known"),
            (profession_row(&[1], 77), "classes names 77, which is not known"),
            (profession_row(&[1, 1], 1), "professions names 1 twice"),
        ];
        for (row, expected) in cases {
            assert_eq!(Settings::check(&row).unwrap_err().to_string(), expected);
        }
        let stored = SettingsRow { emergency_ms: Some(u64::MAX), emergency_user_max: Some(0), ..Default::default() };
        let drawn = Settings::from_row(&stored);
        assert_eq!((drawn.emergency_ms, drawn.emergency_user_max), (DAY_MS, 1));
    }

    fn profession_row(professions: &[u32], class: u32) -> SettingsRow {
        let line = |profession: &u32| ProfessionClasses { profession: *profession, classes: vec![class] };
        SettingsRow { professions: professions.iter().map(line).collect(), ..SettingsRow::default() }
    }

    #[test]
    fn a_disaster_has_bounds() {
        let settings = Settings::default();
        let good = DisasterRow { from_ms: 5, until_ms: 6, professions: vec![4], ..DisasterRow::default() };
        assert_eq!(settings.check_disaster(&good), Ok(()));
        let for_kinds =
            DisasterRow { facility_kinds: FacilityKind::ALL.iter().map(|k| k.number()).collect(), ..good.clone() };
        assert_eq!(settings.check_disaster(&for_kinds), Ok(()));
        for (row, expected) in [
            (DisasterRow { until_ms: 5, ..good.clone() }, "until_ms is 5; it must be 6 to 1209600005"),
            (DisasterRow { until_ms: 1_209_600_006, ..good.clone() }, "until_ms is 1209600006; it must be"),
            (DisasterRow { caps_factor: 1_001, ..good.clone() }, "caps_factor is 1001; it must be 0 to 1000"),
            (DisasterRow { professions: vec![77], ..good.clone() }, "professions names 77"),
            (DisasterRow { facility_kinds: vec![8], ..good.clone() }, "facility_kinds names 8"),
            (
                DisasterRow { facilities: vec!["F".into(); 513], ..good.clone() },
                "facilities is 513; it must be 0 to 512",
            ),
        ] {
            let error = settings.check_disaster(&row).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    /// Each setting alone, one step wider than the default and one step narrower.
    #[test]
    fn only_what_is_no_wider_in_any_respect_is_covered() {
        type Change = fn(&mut Settings, bool);
        let changes: [(&str, Change); 14] = [
            ("professions", |s, wider| if wider { s.seen[8] |= 1 << 7 } else { s.seen[1] &= !(1 << 7) }),
            ("emergency_ms", |s, wider| step(&mut s.emergency_ms, wider)),
            ("emergency_window_ms", |s, wider| step(&mut s.emergency_window_ms, !wider)),
            ("emergency_user_max", |s, wider| count(&mut s.emergency_user_max, wider)),
            ("emergency_facility_max", |s, wider| count(&mut s.emergency_facility_max, wider)),
            ("emergency_application_max", |s, wider| count(&mut s.emergency_application_max, wider)),
            ("emergency_credential", |s, wider| s.emergency_credential = !wider),
            ("disaster_ms_max", |s, wider| step(&mut s.disaster_ms_max, wider)),
            ("erasure_grace_ms", |s, wider| step(&mut s.erasure_grace_ms, !wider)),
            ("erasures_day_max", |s, wider| count(&mut s.erasures_day_max, wider)),
            ("act_ms", |s, wider| step(&mut s.act_ms, wider)),
            ("own_grants_max", |s, wider| count(&mut s.own_grants_max, wider)),
            ("own_grants_window_ms", |s, wider| step(&mut s.own_grants_window_ms, !wider)),
            ("participants_read", |s, wider| s.participants_read = wider),
        ];
        fn step(value: &mut u64, up: bool) {
            *value = if up { *value + 1 } else { *value - 1 };
        }
        fn count(value: &mut u32, up: bool) {
            *value = if up { *value + 1 } else { *value - 1 };
        }
        let before = Settings { participants_read: false, ..Settings::default() };
        assert!(before.covers(&before));
        for (name, change) in changes {
            let (mut wider, mut narrower) = (before.clone(), before.clone());
            change(&mut wider, true);
            change(&mut narrower, false);
            assert!(!before.covers(&wider), "{name} wider");
            assert!(before.covers(&narrower), "{name} narrower");
        }
        let shows = Settings { accesses_show_person: true, ..before.clone() };
        assert!(!before.covers(&shows) && !shows.covers(&before));
    }
}
