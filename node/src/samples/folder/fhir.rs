//! Class and day of FHIR JSON and XML. JSON is read through without being kept: only the few
//! fields that tell are looked at.

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::Value;

use super::guess::fhir_day;

/// What a resource seems to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outline {
    pub class_word: &'static str,
    pub day: Option<i32>,
}

/// Fields that tell the day, the most telling first.
const DAY_FIELDS: [&str; 9] = [
    "effectiveDateTime",
    "authoredOn",
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
struct Resource {
    resource_type: Value,
    r#type: Value,
    category: Value,
    meta: Value,
    effective_date_time: Value,
    authored_on: Value,
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
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Entry {
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
                        entries.add(&resource);
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
    fn add(&mut self, resource: &Resource) {
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
            &self.authored_on,
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

/// Judges JSON: all of it, or where it does not parse (cut or damaged) by the first type in it.
pub(super) fn outline(bytes: &[u8]) -> Option<Outline> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    // Not to the end: of NDJSON, the first line stands for the file.
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    if let Ok(resource) = Resource::deserialize(&mut reader) {
        return resource.outline();
    }
    let text = String::from_utf8_lossy(bytes);
    let value = |field: &str| {
        let (_, rest) = text.split_once(&format!("\"{field}\""))?;
        rest.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?.split('"').next()
    };
    let name = value("resourceType")?;
    let day = DAY_FIELDS.iter().chain(&["lastUpdated"]).find_map(|field| fhir_day(value(field)?));
    // A bundle's start says little about all that is in it.
    let class_word = match name {
        "Bundle" if text.contains("\"Composition\"") => composition_class(&text),
        other => class_of(other),
    };
    Some(Outline { class_word, day })
}

/// Judges XML by its root, if that is FHIR's.
pub(super) fn xml_outline(text: &str) -> Option<Outline> {
    let (before, _) = text.split_once("xmlns=\"http://hl7.org/fhir\"")?;
    let name = before.rsplit_once('<')?.1.split_whitespace().next()?;
    let day = DAY_FIELDS.iter().chain(&["lastUpdated"]).find_map(|field| {
        let (_, rest) = text.split_once(&format!("<{field} value=\""))?;
        fhir_day(rest.split('"').next()?)
    });
    let class_word = match name {
        "Observation" if text.contains("value=\"laboratory\"") => "laboratory-result",
        "Composition" => composition_class(text),
        "Bundle" if text.contains("<Composition") => composition_class(text),
        other => class_of(other),
    };
    Some(Outline { class_word, day })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(json: &str) -> (&'static str, Option<i32>) {
        let outline = outline(json.as_bytes()).unwrap();
        (outline.class_word, outline.day)
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
        assert!(outline(b"{\"a\":1}").is_none());
        assert!(outline(b"{}").is_none());
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
        assert!(outline(b"{\"resourceType\": 5, \xff").is_none());
    }

    #[test]
    fn xml_is_judged_by_its_root() {
        let xml = r#"<?xml version="1.0"?><AllergyIntolerance xmlns="http://hl7.org/fhir"><recordedDate value="1970-01-02"/></AllergyIntolerance>"#;
        assert_eq!(xml_outline(xml), Some(Outline { class_word: "allergy", day: Some(1) }));
        assert_eq!(xml_outline("<a/>"), None);
    }
}
