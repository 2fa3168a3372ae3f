//! The network's settings as `decide` uses them.

use crate::row::{ProfessionClasses, SettingsRow};
use crate::word::{Class, Profession};

/// Which profession may see which class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Bit `class.number()` of element `profession.number()`.
    seen: [u32; 16],
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
        let mut settings = Settings { seen: [0; 16] };
        for (profession, classes) in table {
            for class in classes {
                settings.seen[profession.number() as usize] |= 1 << class.number();
            }
        }
        settings
    }
}

impl Settings {
    /// Reads the settings row; unknown numbers widen nothing.
    pub fn from_row(row: &SettingsRow) -> Settings {
        let mut settings = Settings { seen: [0; 16] };
        for ProfessionClasses { profession, classes } in &row.professions {
            let Some(seen) = settings.seen.get_mut(*profession as usize) else { continue };
            for class in classes.iter().filter_map(|c| Class::from_number(*c).ok()) {
                *seen |= 1 << class.number();
            }
        }
        settings
    }

    /// The settings row.
    pub fn to_row(&self) -> SettingsRow {
        let professions = Profession::ALL.iter().map(|p| ProfessionClasses {
            profession: p.number(),
            classes: Class::ALL.iter().filter(|c| self.may_see(p.number(), **c)).map(|c| c.number()).collect(),
        });
        SettingsRow { professions: professions.collect() }
    }

    /// Whether a profession (by number) may see a class. An unknown profession sees nothing.
    pub fn may_see(&self, profession: u32, class: Class) -> bool {
        self.seen.get(profession as usize).is_some_and(|seen| seen >> class.number() & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_row_comes_back_and_unknown_numbers_widen_nothing() {
        let settings = Settings::default();
        assert_eq!(Settings::from_row(&settings.to_row()), settings);
        let odd = SettingsRow { professions: vec![ProfessionClasses { profession: 99, classes: vec![1, 77] }] };
        assert!(!Settings::from_row(&odd).may_see(99, Class::Allergy));
        assert!(!settings.may_see(0, Class::Allergy));
        assert!(!settings.may_see(Profession::Clerk.number(), Class::Allergy));
        assert!(settings.may_see(Profession::Physician.number(), Class::Image));
    }
}
