//! Whom a FHIR resource is about: the patients in it, and those that it refers to.

use serde_json::Value;

use super::fhir::Resource;
use super::patient::{PatientId, Patients};

/// Patient numbers of hospitals under the Japanese guides: this and the institution's number.
const JAPANESE_HOSPITAL: &str = "urn:oid:1.2.392.100495.20.3.51.";
const JAPANESE_HOSPITAL_PATIENT: &str = "JP_Hospital_PatientID";

/// A value, or each of a list of them.
pub(super) fn each(value: &Value) -> impl Iterator<Item = &Value> {
    match value {
        Value::Array(list) => list.iter(),
        one => std::slice::from_ref(one).iter(),
    }
}

/// Adds the patients that a resource is, holds or refers to. `place` tells resources of a bundle
/// apart: what is contained in one can be referred to there only.
pub(super) fn add(patients: &mut Patients, resource: &Resource, full_url: &Value, place: usize) {
    if resource.resource_type == "Patient" {
        let url = full_url.as_str().map(PatientId::other);
        let id = resource.id.as_str().map(|id| PatientId::other(format!("Patient/{id}")));
        patients.add(each(&resource.identifier).flat_map(identified).chain(url).chain(id));
    }
    let mut contained = Vec::new();
    for inner in each(&resource.contained).filter(|inner| inner["resourceType"] == "Patient") {
        let id = inner["id"].as_str().map(|id| PatientId::other(format!("#{place}/{id}")));
        contained.push(each(&inner["identifier"]).flat_map(identified).chain(id).collect::<Vec<_>>());
    }
    let named: Vec<&Value> = each(&resource.subject).chain(each(&resource.patient)).filter(|v| v.is_object()).collect();
    // What is contained is there because it is referred to: one patient, and one that is named by
    // an identifier alone, are the same.
    let alone = contained.len() == 1 && named.len() == 1;
    for reference in &named {
        let to = reference["reference"].as_str().and_then(|text| referred(text, place));
        let of_patient = reference["type"].as_str().is_none_or(|kind| kind == "Patient");
        if of_patient && (to.is_some() || reference["reference"].is_null()) {
            let held = if alone && to.is_none() { contained.pop() } else { None };
            patients.add(identified(&reference["identifier"]).into_iter().chain(to).chain(held.into_iter().flatten()));
        }
    }
    for ids in contained {
        patients.add(ids);
    }
}

/// The ids of an `Identifier`: with its system, and alone if it is a facility's own patient id.
fn identified(identifier: &Value) -> Vec<PatientId> {
    let Some(value) = identifier["value"].as_str().map(str::trim).filter(|value| !value.is_empty()) else {
        return Vec::new();
    };
    let system = identifier["system"].as_str().unwrap_or_default();
    let medical_record = each(&identifier["type"]["coding"])
        .any(|coding| coding["code"].as_str().is_some_and(|code| matches!(code, "MR" | "PI")));
    let own = medical_record || system.starts_with(JAPANESE_HOSPITAL) || system.ends_with(JAPANESE_HOSPITAL_PATIENT);
    let mut ids = vec![PatientId::other(format!("{system}|{value}"))];
    if own {
        ids.push(PatientId::local(value));
    }
    ids
}

/// A reference to a patient, without a version; nothing for one to anything else (a group, a device).
fn referred(text: &str, place: usize) -> Option<PatientId> {
    if let Some(contained) = text.strip_prefix('#') {
        return Some(PatientId::other(format!("#{place}/{contained}")));
    }
    let text = text.split_once("/_history/").map_or(text, |(resource, _)| resource);
    let kind = text.rsplit_once('/').map(|(before, _)| before.rsplit('/').next().unwrap_or_default());
    let other = kind.is_some_and(|kind| kind != "Patient" && kind.starts_with(|c: char| c.is_ascii_uppercase()));
    (!other).then(|| PatientId::other(text))
}

#[cfg(test)]
mod tests {
    use super::super::fhir::recognize;

    /// The ids of each patient, `*` for a facility's own.
    fn seen(json: &str) -> Option<Vec<String>> {
        let seen = recognize(json.as_bytes()).unwrap();
        let ids = seen.patients.only()?;
        let mut texts: Vec<String> =
            ids.iter().map(|id| format!("{}{}", id.text, if id.local { "*" } else { "" })).collect();
        texts.sort();
        Some(texts)
    }

    #[test]
    fn a_resource_names_its_patient_in_many_ways() {
        let condition = |rest: &str| seen(&format!(r#"{{"resourceType":"Condition",{rest}}}"#));
        assert_eq!(condition(r#""subject":{"reference":"Patient/7/_history/2"}"#).unwrap(), ["Patient/7"]);
        assert_eq!(
            condition(r#""patient":{"reference":"http://h/Patient/7","type":"Patient"}"#).unwrap(),
            ["http://h/Patient/7"]
        );
        assert_eq!(condition(r#""subject":{"identifier":{"system":"ins","value":"7"}}"#).unwrap(), ["ins|7"]);
        let hospital = r#""subject":{"identifier":{"system":"urn:oid:1.2.392.100495.20.3.51.1131","value":" 7 "}}"#;
        assert_eq!(condition(hospital).unwrap(), ["7*", "urn:oid:1.2.392.100495.20.3.51.1131|7"]);
        let contained = r##""contained":[{"resourceType":"Patient","id":"p","identifier":[{"type":{"coding":[{"code":"MR"}]},"value":"7"}]}],"subject":{"reference":"#p"}"##;
        assert_eq!(condition(contained).unwrap(), ["#0/p", "7*", "|7"]);
        let by_insurance =
            contained.replace(r##"{"reference":"#p"}"##, r#"{"identifier":{"system":"ins","value":"9"}}"#);
        assert_eq!(condition(&by_insurance).unwrap(), ["#0/p", "7*", "ins|9", "|7"]);
        for nobody in
            [r#""subject":{"reference":"Group/7"}"#, r#""subject":{"display":"x"}"#, r#""subject":7"#, r#""a":1"#]
        {
            assert_eq!(condition(nobody), None, "{nobody}");
        }
        let two = r#""subject":[{"reference":"Patient/7"},{"reference":"Patient/8"}]"#;
        assert_eq!(condition(two), None);
    }

    #[test]
    fn a_bundle_that_speaks_of_two_patients_has_none() {
        let bundle = |entries: &str| seen(&format!(r#"{{"resourceType":"Bundle","entry":[{entries}]}}"#));
        let patient = r#"{"fullUrl":"urn:uuid:a","resource":{"resourceType":"Patient","id":"a","identifier":[{"system":"s","value":"7"}]}}"#;
        let about = |whom: &str| format!(r#"{{"resource":{{"resourceType":"Condition","subject":{whom}}}}}"#);
        let (by_url, by_id) = (about(r#"{"reference":"urn:uuid:a"}"#), about(r#"{"reference":"Patient/a"}"#));
        let by_identifier = about(r#"{"identifier":{"system":"s","value":"7"}}"#);
        let one = ["Patient/a", "s|7", "urn:uuid:a"];
        assert_eq!(bundle(&format!("{by_url},{by_id},{patient},{by_identifier}")).unwrap(), one);
        assert_eq!(bundle(&format!("{patient},{}", about(r#"{"reference":"Patient/b"}"#))), None);
        assert_eq!(bundle(&format!("{patient},{}", patient.replace("a\"", "b\"").replace('7', "8"))), None);
        let contained = |id: &str| {
            format!(
                r##"{{"resource":{{"resourceType":"Condition","contained":[{{"resourceType":"Patient","id":"p","identifier":[{{"system":"s","value":"{id}"}}]}}],"subject":{{"reference":"#p"}}}}}}"##
            )
        };
        assert_eq!(bundle(&format!("{},{}", contained("7"), contained("8"))), None, "the same fragment, two patients");
        assert!(bundle(&format!("{},{}", contained("7"), contained("7"))).is_some());
    }
}
