//! FHIR: class, day, id and patient of resources and bundles. JSON is read through without being
//! kept: only the few fields that tell are looked at.
//!
//! Invariants
//! - A patient is told only by what parsed as a whole. Damaged or cut JSON has a class and a day at
//!   most.
//! - Only an id that its guide makes unique is taken for a document's: a bundle's, a composition's,
//!   and the Japanese guides' instance identifier. Other identifiers number orders or groups.

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::Value;

use super::day::fhir_day;
use super::fhir_patient;
use super::patient::Patients;
use super::recognize::{Form, Recognized, named_id};

/// What a resource seems to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Outline {
    class_word: &'static str,
    day: Option<i32>,
}

/// Fields that tell the day, the most telling first.
const DAY_FIELDS: [&str; 14] = [
    "effectiveDateTime",
    "performedDateTime",
    "occurrenceDateTime",
    "authoredOn",
    "authored",
    "dateTime",
    "sent",
    "whenHandedOver",
    "recordedDate",
    "date",
    "issued",
    "started",
    "timestamp",
    "recorded",
];

/// The telling fields of a resource. Anything may stand in them: files are often wrong.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Resource {
    pub resource_type: Value,
    pub id: Value,
    pub identifier: Value,
    pub subject: Value,
    pub patient: Value,
    pub contained: Value,
    r#type: Value,
    category: Value,
    meta: Value,
    effective_date_time: Value,
    effective_period: Value,
    performed_date_time: Value,
    performed_period: Value,
    occurrence_date_time: Value,
    period: Value,
    authored_on: Value,
    authored: Value,
    date_time: Value,
    sent: Value,
    when_handed_over: Value,
    recorded_date: Value,
    date: Value,
    issued: Value,
    started: Value,
    timestamp: Value,
    recorded: Value,
    entry: Entries,
}

/// What the resources of a bundle say together.
#[derive(Debug, Default)]
struct Entries {
    /// The first Composition's class and day: it stands for the whole document.
    composition: Option<Outline>,
    /// The class that all others share, `document` ones aside.
    class_word: Option<&'static str>,
    mixed: bool,
    day: Option<i32>,
    patients: Patients,
    count: usize,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Entry {
    full_url: Value,
    resource: Option<Resource>,
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Entries, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Entries;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of entries")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Entries, A::Error> {
                let mut entries = Entries::default();
                while let Some(entry) = items.next_element::<Entry>()? {
                    if let Some(resource) = entry.resource {
                        entries.add(&resource, &entry.full_url);
                    }
                }
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(entries)
            }
        }
        deserializer.deserialize_seq(Collect)
    }
}

impl Entries {
    fn add(&mut self, resource: &Resource, full_url: &Value) {
        self.count += 1;
        fhir_patient::add(&mut self.patients, resource, full_url, self.count);
        let Some(outline) = resource.outline() else { return };
        if resource.resource_type == "Composition" {
            self.composition.get_or_insert(outline);
        }
        // Not the moment of the last update: the bundle's own says more.
        self.day = self.day.or(resource.clinical_day());
        if outline.class_word != "document" {
            self.mixed |= self.class_word.is_some_and(|word| word != outline.class_word);
            self.class_word = Some(outline.class_word);
        }
    }
}

impl Resource {
    fn outline(&self) -> Option<Outline> {
        let Value::String(name) = &self.resource_type else { return None };
        if name == "Bundle" {
            return Some(self.bundle());
        }
        let class_word = match name.as_str() {
            "Composition" => composition_class(&self.r#type.to_string()),
            "Observation" if self.category.to_string().contains("\"laboratory\"") => "laboratory-result",
            "Observation" if self.meta.to_string().contains("LabResult") => "laboratory-result",
            other => class_of(other),
        };
        Some(Outline { class_word, day: self.day() })
    }

    fn bundle(&self) -> Outline {
        let entries = &self.entry;
        let day = self.day();
        match (entries.composition, entries.class_word) {
            (Some(outline), _) => Outline { day: outline.day.or(day), ..outline },
            (None, Some(class_word)) if !entries.mixed => Outline { class_word, day: entries.day.or(day) },
            _ => Outline { class_word: "document", day: day.or(entries.day) },
        }
    }

    fn day(&self) -> Option<i32> {
        self.clinical_day().or_else(|| fhir_day(self.meta["lastUpdated"].as_str()?))
    }

    fn clinical_day(&self) -> Option<i32> {
        let fields = [
            &self.effective_date_time,
            &self.effective_period["start"],
            &self.performed_date_time,
            &self.performed_period["start"],
            &self.occurrence_date_time,
            &self.authored_on,
            &self.authored,
            &self.date_time,
            &self.sent,
            &self.period["start"],
            &self.when_handed_over,
            &self.recorded_date,
            &self.date,
            &self.issued,
            &self.started,
            &self.timestamp,
            &self.recorded,
        ];
        fields.into_iter().find_map(|value| fhir_day(value.as_str()?))
    }
}

fn class_of(resource: &str) -> &'static str {
    match resource {
        "AllergyIntolerance" => "allergy",
        "DiagnosticReport" => "laboratory-result",
        "MedicationRequest" | "MedicationOrder" => "prescription",
        "MedicationDispense" => "dispensing",
        "ImagingStudy" | "ImagingSelection" | "Media" => "image",
        "CarePlan" | "CareTeam" | "ClinicalImpression" => "care-record",
        "ReferralRequest" => "referral-letter",
        _ => "document",
    }
}

/// By the document type codes of the Japanese guides (LOINC).
fn composition_class(kind: &str) -> &'static str {
    for (code, class_word) in [
        ("57133-1", "referral-letter"),
        ("18842-5", "discharge-summary"),
        ("53576-5", "checkup"),
        ("57833-6", "prescription"),
        ("29551-9", "prescription"),
    ] {
        if kind.contains(code) {
            return class_word;
        }
    }
    "document"
}

/// The id that the document has for everybody, if it has one.
fn document_id(resource: &Resource) -> Option<String> {
    let kind = resource.resource_type.as_str()?;
    let one = |identifier: &Value| {
        let value = identifier["value"].as_str().filter(|value| !value.is_empty())?;
        Some(named_id("fhir", &format!("{kind}/{}|{value}", identifier["system"].as_str().unwrap_or_default())))
    };
    if matches!(kind, "Bundle" | "Composition") {
        return one(&resource.identifier);
    }
    let instance = |identifier: &&Value| {
        identifier["system"].as_str().is_some_and(|system| system.ends_with("/IdSystem/resourceInstance-identifier"))
    };
    fhir_patient::each(&resource.identifier).find(instance).and_then(one)
}

fn recognized(resource: &Resource, media_type: &'static str) -> Option<Recognized> {
    let Outline { class_word, day } = resource.outline()?;
    let mut patients = resource.entry.patients.clone();
    fhir_patient::add(&mut patients, resource, &Value::Null, 0);
    let document_id = document_id(resource);
    Some(Recognized { day, document_id, patients, ..Recognized::of(Form::Fhir, class_word, media_type) })
}

/// Judges JSON: all of it, or where it does not parse (cut or damaged) by the first type in it.
pub(super) fn recognize(bytes: &[u8]) -> Option<Recognized> {
    const JSON: &str = "application/fhir+json";
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    if let Ok(resource) = Resource::deserialize(&mut reader) {
        let mut seen = recognized(&resource, JSON)?;
        // Of NDJSON, the first line stands for the file, but further lines may be about others.
        if reader.end().is_err() {
            (seen.document_id, seen.patients) = (None, Patients::default());
        }
        return Some(seen);
    }
    let text = String::from_utf8_lossy(bytes);
    let value = |field: &str| {
        let (_, rest) = text.split_once(&format!("\"{field}\""))?;
        rest.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?.split('"').next()
    };
    let seen = by_text(&text, value("resourceType")?, value);
    Some(Recognized { day: seen.day, ..Recognized::of(Form::Fhir, seen.class_word, JSON) })
}

/// Judges XML of FHIR's name space by the tree that was made of it, or where there is none (cut or
/// damaged) by its root.
pub(super) fn recognize_xml(tree: Option<Value>, text: &str) -> Option<Recognized> {
    const XML: &str = "application/fhir+xml";
    if let Some(seen) = tree.and_then(|tree| recognized(&Resource::deserialize(tree).ok()?, XML)) {
        return Some(seen);
    }
    let (before, _) = text.split_once("xmlns=\"http://hl7.org/fhir\"")?;
    let name = before.rsplit_once('<')?.1.split_whitespace().next()?;
    let value = |field: &str| text.split_once(&format!("<{field} value=\""))?.1.split('"').next();
    let seen = by_text(text, name, value);
    Some(Recognized { day: seen.day, ..Recognized::of(Form::Fhir, seen.class_word, XML) })
}

/// By what stands first in a text that cannot be read through.
fn by_text<'a>(text: &'a str, name: &str, value: impl Fn(&str) -> Option<&'a str>) -> Outline {
    let day = DAY_FIELDS.iter().chain(&["lastUpdated"]).find_map(|field| fhir_day(value(field)?));
    // A bundle's start says little about all that is in it.
    let class_word = match name {
        "Composition" => composition_class(text),
        "Bundle" if text.contains("Composition") => composition_class(text),
        other => class_of(other),
    };
    Outline { class_word, day }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(json: &str) -> (&'static str, Option<i32>) {
        let seen = recognize(json.as_bytes()).unwrap();
        (seen.class_word, seen.day)
    }

    #[test]
    fn the_type_may_stand_anywhere() {
        assert_eq!(
            seen(r#"{"recordedDate":"1970-01-03","note":[{"x":{}}],"resourceType":"AllergyIntolerance"}"#),
            ("allergy", Some(2))
        );
        assert_eq!(
            seen(r#"{"resourceType":"Observation","category":[{"coding":[{"code":"laboratory"}]}]}"#),
            ("laboratory-result", None)
        );
        assert_eq!(
            seen(r#"{"resourceType":"Observation","category":[{"coding":[{"code":"vital-signs"}]}]}"#),
            ("document", None)
        );
        assert_eq!(
            seen(r#"{"resourceType":"Patient","meta":{"lastUpdated":"1970-01-02T00:00:00+09:00"}}"#),
            ("document", Some(1))
        );
        assert_eq!(seen(r#"{"resourceType":"Encounter","period":{"start":"1970-01-02"}}"#), ("document", Some(1)));
        assert_eq!(seen(r#"{"resourceType":"Immunization","occurrenceDateTime":"1970"}"#), ("document", Some(0)));
        assert!(recognize(b"{\"a\":1}").is_none());
        assert!(recognize(b"{}").is_none());
    }

    #[test]
    fn bundles_are_what_is_in_them() {
        let bundle = |entries: &str| {
            format!(r#"{{"resourceType":"Bundle","timestamp":"1970-01-09T09:00:00+09:00","entry":[{entries}]}}"#)
        };
        let letter =
            r#"{"resource":{"resourceType":"Composition","type":{"coding":[{"code":"57133-1"}]},"date":"1970-01-05"}}"#;
        let patient = r#"{"resource":{"resourceType":"Patient"}}"#;
        let allergy = r#"{"resource":{"resourceType":"AllergyIntolerance","recordedDate":"1970-01-04"}}"#;
        let medicine = r#"{"resource":{"resourceType":"MedicationRequest"}}"#;
        assert_eq!(seen(&bundle(&format!("{letter},{patient},{allergy}"))), ("referral-letter", Some(4)));
        assert_eq!(seen(&bundle(&format!("{patient},{allergy},{allergy}"))), ("allergy", Some(3)));
        assert_eq!(seen(&bundle(&format!("{patient},{allergy},{medicine}"))), ("document", Some(8)));
        assert_eq!(seen(&bundle("{}")), ("document", Some(8)));
    }

    #[test]
    fn damaged_json_is_judged_by_its_start() {
        assert_eq!(
            seen(r#"{ "resourceType" : "MedicationDispense", "whenHandedOver": "1970-01-02", "x": ["#),
            ("dispensing", Some(1))
        );
        assert_eq!(
            seen("{\"resourceType\":\"Condition\"}\n{\"resourceType\":\"AllergyIntolerance\"}"),
            ("document", None)
        );
        assert_eq!(seen(r#"{"resourceType":"CarePlan","entry":5}"#), ("care-record", None));
        assert!(recognize(b"{\"resourceType\": 5, \xff").is_none());
    }

    #[test]
    fn only_unique_ids_are_taken_for_a_documents() {
        let id = |json: &str| recognize(json.as_bytes()).unwrap().document_id;
        let identifier = r#"{"system":"s","value":"v"}"#;
        assert_eq!(
            id(&format!(r#"{{"resourceType":"Bundle","identifier":{identifier}}}"#)).as_deref(),
            Some("fhir/Bundle/s|v")
        );
        assert_eq!(id(&format!(r#"{{"resourceType":"MedicationRequest","identifier":[{identifier}]}}"#)), None);
        let instance = r#"{"system":"http://jpfhir.jp/fhir/core/IdSystem/resourceInstance-identifier","value":"7"}"#;
        let both = format!(r#"{{"resourceType":"Condition","identifier":[{identifier},{instance}]}}"#);
        assert!(id(&both).unwrap().ends_with("resourceInstance-identifier|7"));
        assert_eq!(id(r#"{"resourceType":"Bundle","identifier":{"system":"s","value":""}}"#), None);
        assert_eq!(id(&format!(r#"{{"resourceType":"Bundle","identifier":[5,{identifier}]}}"#)), None);
    }

    #[test]
    fn damaged_json_names_no_patient() {
        let sound = r#"{"resourceType":"Patient","id":"7"}"#;
        let count = |json: &str| recognize(json.as_bytes()).unwrap().patients.count();
        assert_eq!((count(sound), count(&sound[..sound.len() - 1])), (1, 0));
        assert_eq!(count(&format!("{sound}\n{sound}")), 0, "further lines may be about others");
        assert_eq!(count(r#"{"resourceType":"Patient","id":"7","id":"8"}"#), 0, "which of the two counts is not said");
    }
}
