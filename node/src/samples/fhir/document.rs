//! FHIR bundles: the referral letter and the discharge summary as documents, and a day's
//! laboratory results as a collection.

use super::super::context::{Context, date};
use super::super::json::{Json, list, object};
use super::{ECS, INSTANCE, XHTML, allergy, coded, condition, institution, laboratory, name, now, prescription};

const SECTIONS: &str = "http://jpfhir.jp/fhir/clins/CodeSystem/document-section";

/// One entry of a bundle under construction.
struct Entry {
    url: String,
    kind: &'static str,
    resource: Json,
}

fn entry(context: &mut Context, kind: &'static str, resource: Json) -> Entry {
    Entry { url: format!("urn:uuid:{}", context.random.uuid()), kind, resource }
}

fn reference(entry: &Entry, display: &str) -> Json {
    object! {"reference": &entry.url, "type": entry.kind, "display": display}
}

fn start(context: &mut Context, kind: &'static str, profile: &str) -> Json {
    object! {
        "resourceType": kind, "id": context.random.uuid(),
        "meta": object! {"lastUpdated": context.moment(1), "profile": list![format!("{ECS}{profile}")]},
        "language": "ja",
    }
}

fn patient(context: &mut Context) -> Entry {
    let mut resource = start(context, "Patient", "JP_Patient_eCS");
    let person = &context.participant;
    resource.push(
        "identifier",
        list![
            object! {"system": "http://jpfhir.jp/fhir/clins/Idsystem/JP_Insurance_memberID", "value": &context.insured},
            object! {
                "system": format!("urn:oid:1.2.392.100495.20.3.51.1{}", context.facility.institution_number),
                "value": &context.local_id,
            },
        ],
    );
    resource.push(
        "name",
        list![name(&person.family, &person.given, "IDE"), name(&person.family_kana, &person.given_kana, "SYL"),],
    );
    resource.push("gender", if person.female { "female" } else { "male" });
    resource.push("birthDate", date(person.birth_day));
    resource.push("address", list![object! {"text": &context.home, "country": "JP"}]);
    resource.push("telecom", list![object! {"system": "phone", "value": format!("000-{}-{}", context.random.digits(4), context.random.digits(4))}]);
    entry(context, "Patient", resource)
}

fn practitioner(context: &mut Context, shown: String) -> Entry {
    let mut resource = start(context, "Practitioner", "JP_Practitioner_eCS");
    resource.push(
        "identifier",
        list![object! {
            "system": "urn:oid:1.2.392.100495.20.3.31", "value": context.random.digits(6),
        }],
    );
    resource.push(
        "name",
        list![object! {
            "extension": list![object! {
                "url": "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation", "valueCode": "IDE",
            }],
            "text": shown,
        }],
    );
    entry(context, "Practitioner", resource)
}

fn organization(context: &mut Context, facility: &super::super::roster::Facility) -> Entry {
    let base = "http://jpfhir.jp/fhir/core/Extension/StructureDefinition/JP_Organization_";
    let mut resource = start(context, "Organization", "JP_Organization_eCS");
    let extension = |what: &str, value: (&'static str, Json)| {
        Json::Object(vec![("url", Json::from(format!("{base}{what}"))), value])
    };
    let number = &facility.institution_number;
    resource.push("extension", list![
        extension("PrefectureNo", ("valueCoding", object! {
            "system": "http://jpfhir.jp/fhir/core/mhlw/CodeSystem/PrefectureNo-2digits", "code": &number[..2],
        })),
        extension("InsuranceOrganizationCategory", ("valueCoding", object! {
            "system": "http://jpfhir.jp/fhir/core/mhlw/CodeSystem/MedicationFeeScoreType", "code": &number[2..3],
        })),
        extension("InsuranceOrganizationNo", ("valueIdentifier", object! {
            "system": "http://jpfhir.jp/fhir/core/mhlw/IdSystem/MedicalOrganizationID", "value": &number[3..],
        })),
    ]);
    resource.push(
        "identifier",
        list![object! {
            "system": "http://jpfhir.jp/fhir/core/IdSystem/insurance-medical-institution-no", "value": number,
        }],
    );
    resource.push(
        "type",
        list![coded("http://terminology.hl7.org/CodeSystem/organization-type", "prov", "Healthcare Provider",)],
    );
    resource.push("name", &facility.name);
    resource.push("address", list![object! {"text": &facility.address, "country": "JP"}]);
    entry(context, "Organization", resource)
}

fn encounter(context: &mut Context, inpatient: bool) -> Entry {
    let mut resource = start(context, "Encounter", "JP_Encounter_eCS");
    let (code, shown) = if inpatient { ("IMP", "入院") } else { ("AMB", "外来") };
    resource.push("identifier", list![object! {"system": INSTANCE, "value": context.random.digits(8)}]);
    resource.push("status", "finished");
    resource.push("class", super::coding("http://terminology.hl7.org/CodeSystem/v3-ActCode", code, shown));
    resource.push("period", object! {"start": context.earlier_date(30), "end": context.date()});
    entry(context, "Encounter", resource)
}

fn section(context: &mut Context, code: &str, title: &str, sentences: usize, entries: &[&Entry]) -> Json {
    let text = context.clinical_text(sentences);
    let mut section = object! {
        "title": title,
        "code": coded(SECTIONS, code, &format!("{title}セクション")),
        "text": object! {"status": "additional", "div": format!("<div xmlns=\"{XHTML}\">{text}</div>")},
    };
    if !entries.is_empty() {
        section.push("entry", entries.iter().map(|e| reference(e, title)).collect::<Vec<_>>());
    }
    section
}

/// Several resources of one kind. Inside a document they lean on its patient and author, so that
/// what they contain for use alone is left out.
fn several(
    context: &mut Context,
    kind: &'static str,
    make: fn(&mut Context) -> Json,
    low: i64,
    high: i64,
) -> Vec<Entry> {
    (0..context.random.between(low, high))
        .map(|_| {
            let mut resource = make(context);
            if let Json::Object(fields) = &mut resource {
                fields.retain(|(field, _)| *field != "contained");
            }
            entry(context, kind, resource)
        })
        .collect()
}

struct Shape {
    composition: &'static str,
    bundle: &'static str,
    code: &'static str,
    title: &'static str,
    inpatient: bool,
}

/// 診療情報提供書
pub(in super::super) fn referral(context: &mut Context) -> Json {
    document(
        context,
        &Shape {
            composition: "http://jpfhir.jp/fhir/eReferral/StructureDefinition/JP_Composition_eReferral|1",
            bundle: "http://jpfhir.jp/fhir/clins/StructureDefinition/JP_Bundle_eReferral|1",
            code: "57133-1",
            title: "診療情報提供書",
            inpatient: false,
        },
    )
}

/// 退院時サマリー
pub(in super::super) fn discharge(context: &mut Context) -> Json {
    document(
        context,
        &Shape {
            composition: "http://jpfhir.jp/fhir/eDischargeSummary/StructureDefinition/JP_Composition_eDischargeSummary|1",
            bundle: "http://jpfhir.jp/fhir/clins/StructureDefinition/JP_Bundle_eDischargeSummary|1",
            code: "18842-5",
            title: "退院時サマリー",
            inpatient: true,
        },
    )
}

fn document(context: &mut Context, shape: &Shape) -> Json {
    let patient = patient(context);
    let encounter = encounter(context, shape.inpatient);
    let shown = context.author.name();
    let author = practitioner(context, shown);
    let facility = context.facility.clone();
    let place = organization(context, &facility);
    let other = context.other_facility();
    let to = organization(context, &other);
    let conditions = several(context, "Condition", condition, 1, 4);
    let allergies = several(context, "AllergyIntolerance", allergy, 0, 1);
    let medicines = several(context, "MedicationRequest", prescription, 1, 3);
    let results = several(context, "Observation", laboratory, 1, 3);

    let mut inner = vec![
        section(context, "950", "紹介目的", 2, &[]),
        section(context, "340", "傷病名・主訴", 1, &conditions.iter().collect::<Vec<_>>()),
        section(context, "360", "現病歴", 4, &conditions.iter().take(1).collect::<Vec<_>>()),
        section(context, "370", "既往歴", 2, &conditions.iter().skip(1).collect::<Vec<_>>()),
        section(context, "510", "アレルギー・不耐性反応", 1, &allergies.iter().collect::<Vec<_>>()),
        section(context, "430", "投薬指示", 1, &medicines.iter().collect::<Vec<_>>()),
        section(context, "420", "検査結果", 1, &results.iter().collect::<Vec<_>>()),
        section(context, "330", "臨床経過", 5, &[]),
    ];
    if shape.inpatient {
        inner.push(section(context, "324", "退院時詳細", 3, &[]));
        inner.push(section(context, "424", "退院時投薬指示", 1, &medicines.iter().collect::<Vec<_>>()));
    }
    let mut structured = object! {"title": "構造情報", "code": coded(SECTIONS, "300", "構造情報セクション")};
    structured.push("section", inner);
    let from = section(context, "920", "紹介元情報", 1, &[&place, &author]);
    let target = section(context, "910", "紹介先情報", 1, &[&to]);

    let composition = object! {
        "resourceType": "Composition", "id": context.random.uuid(),
        "meta": object! {"lastUpdated": context.moment(1), "profile": list![shape.composition]},
        "language": "ja",
        "extension": list![object! {
            "url": "http://hl7.org/fhir/StructureDefinition/composition-clinicaldocument-versionNumber",
            "valueString": "1.0",
        }, institution(context)],
        "identifier": object! {"system": INSTANCE, "value": context.random.digits(18)},
        "status": "final",
        "type": coded("http://jpfhir.jp/fhir/Common/CodeSystem/doc-typecodes", shape.code, shape.title),
        "category": list![coded(
            "http://jpfhir.jp/fhir/Common/CodeSystem/doc-subtypecodes",
            if shape.inpatient { "INPATIENT" } else { "OUTPATIENT" },
            if shape.inpatient { "入院文書" } else { "外来文書" },
        )],
        "subject": reference(&patient, "患者"),
        "encounter": reference(&encounter, "受診"),
        "date": now(context),
        "author": list![reference(&author, "文書作成者"), reference(&place, "文書作成機関")],
        "title": shape.title,
        "custodian": reference(&place, "文書管理責任機関"),
        "event": list![object! {
            "code": list![object! {"text": format!("{}発行", shape.title)}],
            "period": object! {"start": context.date()},
        }],
        "section": list![target, from, structured],
    };
    let first = entry(context, "Composition", composition);
    let mut entries = vec![first, patient, encounter, author, place, to];
    for more in [conditions, allergies, medicines, results] {
        entries.extend(more);
    }
    bundle(context, "document", shape.bundle, entries)
}

/// A day's laboratory results as one collection.
pub(in super::super) fn laboratory_collection(context: &mut Context) -> Json {
    let mut entries = vec![patient(context)];
    entries.extend(several(context, "Observation", laboratory, 4, 10));
    bundle(context, "collection", "http://jpfhir.jp/fhir/clins/StructureDefinition/JP_Bundle_CLINS|1", entries)
}

fn bundle(context: &mut Context, kind: &str, profile: &str, entries: Vec<Entry>) -> Json {
    object! {
        "resourceType": "Bundle", "id": context.random.uuid(),
        "meta": object! {"lastUpdated": context.moment(1), "profile": list![profile]},
        "identifier": object! {"system": "http://jpfhir.jp/fhir/clins/bundle-identifier", "value": context.random.uuid()},
        "type": kind,
        "timestamp": now(context),
        "entry": entries
            .into_iter()
            .map(|entry| object! {"fullUrl": entry.url, "resource": entry.resource})
            .collect::<Vec<_>>(),
    }
}
