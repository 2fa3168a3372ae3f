//! Whom a file is about, as the file itself says: the ids of each patient in it.
//!
//! Invariants
//! - Ids that stand together in a file belong to one patient; patients that share an id are one.
//! - Everything is bounded: an id by [`ID_BYTES_MAX`], patients and their ids by a count. What is
//!   beyond a bound can make one patient two, never two one.
//! - Nothing of an id appears in `Debug`.

use std::fmt;

/// Longest id, in bytes of UTF-8; a longer one is passed over.
pub const ID_BYTES_MAX: usize = 256;
/// Most patients of one file that are told apart.
const PATIENTS_MAX: usize = 16;
/// Most ids of one patient that are kept.
const IDS_MAX: usize = 64;

/// One id of a patient.
#[derive(Clone, PartialEq, Eq)]
pub struct PatientId {
    /// The id as a table of participants may name it: the bare id where it is the facility's own,
    /// `system|value` for other identifiers, a reference such as `Patient/7` as it stands.
    pub text: String,
    /// Whether the file says that it is a facility's own patient id, so that a linked local id may
    /// be looked up by it. An insurance number that happens to look like one may not.
    pub local: bool,
}

impl fmt::Debug for PatientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PatientId").field("local", &self.local).finish_non_exhaustive()
    }
}

impl PatientId {
    /// A facility's own patient id.
    pub fn local(text: impl Into<String>) -> PatientId {
        PatientId { text: text.into(), local: true }
    }

    /// Any other id.
    pub fn other(text: impl Into<String>) -> PatientId {
        PatientId { text: text.into(), local: false }
    }

    fn is_usable(&self) -> bool {
        (1..=ID_BYTES_MAX).contains(&self.text.len()) && !self.text.chars().any(char::is_control)
    }
}

/// The patients of a file, told apart by their ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Patients(Vec<Vec<PatientId>>);

impl Patients {
    /// Adds ids that stand together. Whoever shares one of them is the same patient.
    pub fn add(&mut self, ids: impl IntoIterator<Item = PatientId>) {
        let mut together: Vec<PatientId> = Vec::new();
        let keep = |list: &mut Vec<PatientId>, id: PatientId| match list.iter().position(|k| k.text == id.text) {
            Some(known) => list[known].local |= id.local,
            None if list.len() < IDS_MAX => list.push(id),
            None => {}
        };
        for id in ids.into_iter().filter(PatientId::is_usable) {
            keep(&mut together, id);
        }
        if together.is_empty() {
            return;
        }
        let shared = |patient: &Vec<PatientId>| patient.iter().any(|id| together.iter().any(|t| t.text == id.text));
        let (same, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.0).into_iter().partition(shared);
        self.0 = others;
        let mut merged = Vec::new();
        for id in same.into_iter().flatten().chain(together) {
            keep(&mut merged, id);
        }
        if self.0.len() < PATIENTS_MAX {
            self.0.push(merged);
        }
    }

    /// How many patients the file is about, as far as it tells.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The ids of the one patient; none if there is no patient or more than one.
    pub fn only(&self) -> Option<&[PatientId]> {
        match &self.0[..] {
            [one] => Some(one),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patients_that_share_an_id_are_one_whatever_the_order() {
        let mut patients = Patients::default();
        patients.add([PatientId::other("Patient/1")]);
        patients.add([PatientId::other("urn:uuid:a")]);
        assert_eq!((patients.count(), patients.only()), (2, None));
        patients.add([PatientId::local("77"), PatientId::other("urn:uuid:a"), PatientId::other("Patient/1")]);
        let ids: Vec<&str> = patients.only().unwrap().iter().map(|id| &id.text[..]).collect();
        assert_eq!(ids.len(), 3);
        assert!(patients.only().unwrap().iter().any(|id| id.local && id.text == "77"));
        patients.add([PatientId::other("Patient/2")]);
        assert_eq!(patients.count(), 2);
    }

    #[test]
    fn ids_beyond_a_bound_are_none_and_never_printed() {
        let mut patients = Patients::default();
        for text in [String::new(), "x".repeat(ID_BYTES_MAX + 1), "a\tb".into()] {
            patients.add([PatientId::local(text)]);
        }
        assert_eq!(patients.count(), 0);
        for nth in 0..1_000 {
            patients.add([PatientId::local(format!("secret-{nth}"))]);
        }
        assert_eq!(patients.count(), PATIENTS_MAX);
        assert!(!format!("{patients:?}").contains("secret"));
    }
}
