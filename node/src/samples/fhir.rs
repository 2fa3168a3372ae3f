//! FHIR R4 resources in the manner of JP Core and JP-CLINS: canonical addresses, code systems and
//! field names are those of the published profiles; all content is made up.

use super::context::{Context, timestamp};
use super::json::{Json, list, object};
use super::vocabulary::{ALLERGENS, CONDITIONS, DEPARTMENTS, TESTS, USAGES};

pub(super) mod document;

/// Base of the profiles of the six kinds of information (eCS).
const ECS: &str = "http://jpfhir.jp/fhir/eCS/StructureDefinition/";
/// Identifiers of single resources.
const INSTANCE: &str = "http://jpfhir.jp/fhir/core/IdSystem/resourceInstance-identifier";
const UNITS: &str = "http://jpfhir.jp/fhir/core/mhlw/CodeSystem/MedicationUnitMERIT9Code";
const UCUM: &str = "http://unitsofmeasure.org";
const XHTML: &str = "http://www.w3.org/1999/xhtml";

fn coding(system: &str, code: &str, display: &str) -> Json {
    object! {"system": system, "code": code, "display": display}
}

fn coded(system: &str, code: &str, display: &str) -> Json {
    object! {"coding": list![coding(system, code, display)]}
}

fn quantity(value: Json, unit: &str, system: &str, code: &str) -> Json {
    object! {"value": value, "unit": unit, "system": system, "code": code}
}

fn meta(context: &mut Context, profile: &str) -> Json {
    let versioned = if context.random.chance(60) { format!("{ECS}{profile}|1") } else { format!("{ECS}{profile}") };
    let mut meta = object! {"lastUpdated": context.moment(1), "profile": list![versioned]};
    if context.random.chance(20) {
        let system = "http://jpfhir.jp/fhir/clins/CodeSystem/JP_ehrshrs_indication";
        meta.push("tag", list![coding(system, "LTS", "長期保存")]);
    }
    meta
}

fn identifier(context: &mut Context) -> Json {
    let serial = context.random.digits(9);
    object! {"system": INSTANCE, "value": format!("{}-{}-{serial}", context.facility.institution_number, context.local_id)}
}

fn institution(context: &Context) -> Json {
    object! {
        "url": "http://jpfhir.jp/fhir/clins/Extension/StructureDefinition/JP_eCS_InstitutionNumber",
        "valueIdentifier": object! {
            "system": "http://jpfhir.jp/fhir/core/IdSystem/insurance-medical-institution-no",
            "value": &context.facility.institution_number,
        },
    }
}

fn department(context: &mut Context) -> Json {
    let (code, name) = context.random.pick_ref(DEPARTMENTS);
    let mut concept = coded("http://jami.jp/SS-MIX2/CodeSystem/ClinicalDepartment", code, name);
    concept.push("text", *name);
    object! {
        "url": "http://jpfhir.jp/fhir/eCS/Extension/StructureDefinition/JP_eCS_Department",
        "valueCodeableConcept": concept,
    }
}

/// The participant as other systems name them: by the insured person's number.
fn subject(context: &Context) -> Json {
    object! {
        "identifier": object! {
            "system": "http://jpfhir.jp/fhir/clins/Idsystem/JP_Insurance_memberID",
            "value": &context.insured,
        },
        "display": context.participant.name(),
    }
}

fn contained_patient(context: &Context) -> Json {
    let person = &context.participant;
    object! {
        "resourceType": "Patient", "id": "contained-patient",
        "meta": object! {"profile": list!["http://jpfhir.jp/fhir/core/StructureDefinition/JP_Patient"]},
        "identifier": list![object! {
            "system": format!("urn:oid:1.2.392.100495.20.3.51.1{}", context.facility.institution_number),
            "value": &context.local_id,
        }],
        "name": list![
            name(&person.family, &person.given, "IDE"),
            name(&person.family_kana, &person.given_kana, "SYL"),
        ],
        "gender": if person.female { "female" } else { "male" },
        "birthDate": super::context::date(person.birth_day),
    }
}

fn name(family: &str, given: &str, representation: &str) -> Json {
    object! {
        "extension": list![object! {
            "url": "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation",
            "valueCode": representation,
        }],
        "use": "official",
        "text": format!("{family} {given}"),
        "family": family,
        "given": list![given],
    }
}

fn contained_encounter(context: &mut Context) -> Json {
    let (code, display) = if context.random.chance(70) { ("AMB", "外来") } else { ("IMP", "入院") };
    object! {
        "resourceType": "Encounter", "id": "contained-encounter",
        "meta": object! {"profile": list!["http://jpfhir.jp/fhir/core/StructureDefinition/JP_Encounter"]},
        "language": "ja",
        "identifier": list![object! {"system": INSTANCE, "value": context.random.digits(6)}],
        "status": "finished",
        "class": coding("http://terminology.hl7.org/CodeSystem/v3-ActCode", code, display),
    }
}

fn contained_practitioner(context: &mut Context) -> Json {
    object! {
        "resourceType": "Practitioner", "id": "contained-practitioner",
        "meta": object! {"profile": list!["http://jpfhir.jp/fhir/core/StructureDefinition/JP_Practitioner"]},
        "language": "ja",
        "identifier": list![object! {
            "system": format!("urn:oid:1.2.392.100495.20.3.41.1{}", context.facility.institution_number),
            "value": format!("D{}", context.random.digits(3)),
        }],
        "name": list![object! {
            "extension": list![object! {
                "url": "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation",
                "valueCode": "IDE",
            }],
            "text": context.author.name(),
        }],
    }
}

/// The fields that every resource of this kind starts with.
fn start(context: &mut Context, kind: &'static str, profile: &str, contained: Vec<Json>) -> Json {
    let id = context.random.uuid();
    let mut resource = object! {"resourceType": kind, "id": id, "meta": meta(context, profile), "language": "ja"};
    if context.random.chance(25) {
        let title = context.participant.name();
        resource.push(
            "text",
            object! {
                "status": "additional",
                "div": format!("<div xmlns=\"{XHTML}\"><p>{title}　{}</p></div>", context.facility.name),
            },
        );
    }
    if !contained.is_empty() {
        resource.push("contained", contained);
    }
    let department = department(context);
    resource.push("extension", list![institution(context), department]);
    resource.push("identifier", list![identifier(context)]);
    resource
}

fn references(context: &mut Context) -> Vec<Json> {
    let mut contained = vec![contained_encounter(context), contained_practitioner(context)];
    if context.random.chance(25) {
        contained.insert(0, contained_patient(context));
    }
    contained
}

/// An allergy or intolerance.
pub(super) fn allergy(context: &mut Context) -> Json {
    let (code, substance, category, _, reaction) = *context.random.pick_ref(ALLERGENS);
    let contained = if context.random.chance(40) { references(context) } else { Vec::new() };
    let mut resource = start(context, "AllergyIntolerance", "JP_AllergyIntolerance_eCS", contained);
    let terminology = "http://terminology.hl7.org/CodeSystem/allergyintolerance-";
    resource.push("clinicalStatus", coded(&format!("{terminology}clinical"), "active", "Active"));
    resource.push("verificationStatus", coded(&format!("{terminology}verification"), "confirmed", "Confirmed"));
    resource.push("type", if context.random.chance(80) { "allergy" } else { "intolerance" });
    resource.push("category", list![category]);
    resource.push("criticality", context.random.pick(&["low", "high", "unable-to-assess"]));
    let system = match category {
        "food" => "http://jpfhir.jp/fhir/core/CodeSystem/JP_JfagyFoodAllergen_CS",
        "medication" => "http://jpfhir.jp/fhir/core/CodeSystem/GCM/JP_JfagyMedicationAllergen_CS",
        _ => "http://jpfhir.jp/fhir/core/CodeSystem/JP_JfagyNonFoodNonMedicationAllergen_CS",
    };
    let mut concept = coded(system, code, substance);
    concept.push("text", substance);
    resource.push("code", concept);
    resource.push("patient", subject(context));
    resource.push("onsetDateTime", context.earlier_date(9000));
    resource.push("recordedDate", context.date());
    resource.push("recorder", object! {"display": context.author.name()});
    resource.push("asserter", object! {"display": context.random.pick(&["本人", "家族", "主治医"])});
    resource.push("note", list![object! {"text": context.clinical_text(1)}]);
    resource.push("reaction", list![object! {"manifestation": list![object! {"text": reaction}]}]);
    resource
}

/// A diagnosis or a complaint.
pub(super) fn condition(context: &mut Context) -> Json {
    let (icd, key, exchange, display) = *context.random.pick_ref(CONDITIONS);
    let contained = references(context);
    let mut resource = start(context, "Condition", "JP_Condition_eCS", contained);
    let (status, shown) = if context.random.chance(75) { ("active", "Active") } else { ("inactive", "Inactive") };
    let terminology = "http://terminology.hl7.org/CodeSystem/condition-";
    resource.push("clinicalStatus", coded(&format!("{terminology}clinical"), status, shown));
    let (status, shown) =
        if context.random.chance(80) { ("confirmed", "Confirmed") } else { ("unconfirmed", "Unconfirmed") };
    resource.push("verificationStatus", coded(&format!("{terminology}ver-status"), status, shown));
    let category = context.random.pick(&["encounter-diagnosis", "problem-list-item"]);
    resource.push(
        "category",
        list![object! {"coding": list![object! {"system": format!("{terminology}category"), "code": category}]}],
    );
    resource.push(
        "code",
        object! {
            "coding": list![
                coding("http://medis.or.jp/CodeSystem/master-disease-exCode", exchange, display),
                coding("http://medis.or.jp/CodeSystem/master-disease-keyNumber", key, display),
                coding("http://jpfhir.jp/fhir/core/mhlw/CodeSystem/ICD10-2013-full", icd, display),
            ],
            "text": display,
        },
    );
    resource.push("subject", subject(context));
    resource.push("encounter", object! {"reference": "#contained-encounter"});
    resource.push("onsetDateTime", context.earlier_date(900));
    if status == "confirmed" && context.random.chance(30) {
        resource.push("abatementDateTime", context.date());
    }
    resource.push("recordedDate", context.date());
    resource.push("recorder", object! {"display": context.author.name()});
    let sentences = context.random.between(1, 3);
    resource.push("note", list![object! {"text": context.clinical_text(sentences as usize)}]);
    resource
}

/// One laboratory result.
pub(super) fn laboratory(context: &mut Context) -> Json {
    let (jlac, display, short, unit, low, high, places) = *context.random.pick_ref(TESTS);
    let mut contained = references(context);
    contained.push(object! {
        "resourceType": "Specimen", "id": "contained-specimen",
        "meta": object! {"profile": list!["http://jpfhir.jp/fhir/core/StructureDefinition/JP_Specimen"]},
        "type": coded("http://jpfhir.jp/fhir/core/CodeSystem/JP_ObservationSampleMaterialCode_CS", "023", "血清"),
        "collection": object! {"collectedDateTime": context.moment(0)},
    });
    let mut resource = start(context, "Observation", "JP_Observation_LabResult_eCS", contained);
    resource.push("status", "final");
    let category = "http://jpfhir.jp/fhir/core/CodeSystem/JP_SimpleObservationCategory_CS";
    resource.push("category", list![coded(category, "laboratory", "Laboratory")]);
    resource.push(
        "code",
        object! {
            "coding": list![
                coding(
                    "http://jpfhir.jp/fhir/clins/CodeSystem/JP_CLINS_ObsLabResult_LocalCode_CS",
                    &context.random.digits(10),
                    display,
                ),
                coding("http://jpfhir.jp/fhir/clins/CodeSystem/JLAC10/JP_CLINS_ObsLabResult_CoreLabo_CS", jlac, short),
                coding("http://medis.or.jp/CodeSystem/master-JLAC10-17digits", jlac, short),
            ],
            "text": display,
        },
    );
    resource.push("subject", subject(context));
    resource.push("encounter", object! {"reference": "#contained-encounter"});
    resource.push("effectiveDateTime", context.moment(0));
    resource.push("issued", context.moment(0));
    resource.push("performer", list![object! {"reference": "#contained-practitioner"}]);
    let measured = context.measured(low, high);
    resource.push("valueQuantity", quantity(decimal(measured, places), unit, UCUM, unit));
    if measured < low || measured > high {
        let (code, shown) = if measured < low { ("L", "Low") } else { ("H", "High") };
        let system = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation";
        resource.push("interpretation", list![coded(system, code, shown)]);
    }
    if context.random.chance(40) {
        resource.push("note", list![object! {"text": context.clinical_text(1)}]);
    }
    resource.push("specimen", object! {"reference": "#contained-specimen", "display": "血清"});
    resource.push(
        "referenceRange",
        list![object! {
            "low": quantity(decimal(low, places), unit, UCUM, unit),
            "high": quantity(decimal(high, places), unit, UCUM, unit),
        }],
    );
    resource
}

/// A fixed-point number as JSON.
fn decimal(value: i64, places: usize) -> Json {
    Json::Number(super::context::decimal(value, places))
}

/// What a prescription and a dispensing share: what, for whom, how much, how to take it.
struct Dose {
    concept: Json,
    instruction: Json,
    quantity: Json,
    supply: Json,
}

fn dose(context: &mut Context) -> Dose {
    let drug = context.drug();
    let (usage, taken, times) = *context.random.pick_ref(USAGES);
    let (each, days) = (context.random.between(1, 2), *context.random.pick_ref(&[5, 7, 14, 28, 30, 60]));
    let (code, unit) = drug.unit;
    let amount = |count: i64| quantity(Json::from(count), unit, UNITS, code);
    let text = format!("{taken}　１回{each}{unit}　{days}日分");
    let instruction = object! {
        "extension": list![object! {
            "url": "http://jpfhir.jp/fhir/core/Extension/StructureDefinition/JP_MedicationDosage_PeriodOfUse",
            "valuePeriod": object! {"start": context.date()},
        }],
        "text": &text,
        "timing": object! {
            "repeat": object! {
                "boundsDuration": quantity(Json::from(days), "日", UCUM, "d"),
                "frequency": times, "period": 1, "periodUnit": "d",
            },
            "code": object! {
                "coding": list![coding(
                    "http://jpfhir.jp/fhir/core/mhlw/CodeSystem/MedicationUsage_ePrescription", usage, taken,
                )],
                "text": taken,
            },
        },
        "route": coded("http://jpfhir.jp/fhir/core/CodeSystem/route-codes", "PO", "口"),
        "doseAndRate": list![object! {
            "type": coded(
                "http://jpfhir.jp/fhir/core/mhlw/CodeSystem/MedicationIngredientStrengthStrengthType", "1", "製剤量",
            ),
            "doseQuantity": amount(each),
            "rateRatio": object! {
                "numerator": amount(each * times),
                "denominator": quantity(Json::from(1), "日", UCUM, "d"),
            },
        }],
    };
    Dose {
        concept: object! {
            "coding": list![
                coding("http://capstandard.jp/iyaku.info/CodeSystem/YJ-code", &drug.yj, &drug.name),
                coding("http://medis.or.jp/CodeSystem/master-HOT9", &drug.hot9, &drug.name),
            ],
            "text": &drug.name,
        },
        instruction,
        quantity: amount(each * times * days),
        supply: quantity(Json::from(days), "日", UCUM, "d"),
    }
}

/// The identifiers that tie the medicines of one prescription together.
fn prescription_identifiers(context: &mut Context) -> (Json, String) {
    let order = format!("{}-{}-{}", context.facility.institution_number, context.local_id, context.random.digits(14));
    let group = context.random.between(1, 5).to_string();
    let identifiers = list![
        object! {"system": "http://jpfhir.jp/fhir/core/mhlw/IdSystem/Medication-RPGroupNumber", "value": &group},
        object! {"system": "http://jpfhir.jp/fhir/core/mhlw/IdSystem/MedicationAdministrationIndex", "value": "1"},
        object! {"system": "urn:oid:1.2.392.100495.20.3.11", "value": &order},
        object! {"system": INSTANCE, "value": format!("{order}-{group}")},
    ];
    (identifiers, order)
}

/// One medicine of a prescription.
pub(super) fn prescription(context: &mut Context) -> Json {
    let contained = references(context);
    let dose = dose(context);
    let id = context.random.uuid();
    let (identifiers, order) = prescription_identifiers(context);
    let mut resource = object! {
        "resourceType": "MedicationRequest", "id": id, "meta": meta(context, "JP_MedicationRequest_eCS"), "language": "ja",
        "contained": contained,
        "extension": list![institution(context), department(context)],
        "identifier": identifiers,
        "status": context.random.pick(&["completed", "active"]),
        "intent": "order",
    };
    let (code, shown) = *context.random.pick_ref(&[("OHP", "外来処方"), ("IHP", "入院処方"), ("DCG", "退院時処方")]);
    let mut category = coded("http://jpfhir.jp/fhir/core/CodeSystem/JP_MedicationCategoryMERIT9_CS", code, shown);
    category.push("text", shown);
    resource.push("category", list![category]);
    resource.push("medicationCodeableConcept", dose.concept);
    resource.push("subject", subject(context));
    resource.push("encounter", object! {"reference": "#contained-encounter"});
    resource.push("authoredOn", context.moment(0));
    resource.push(
        "requester",
        object! {
            "reference": "#contained-practitioner", "type": "Practitioner", "display": context.author.name(),
        },
    );
    resource.push("recorder", object! {"reference": "#contained-practitioner", "type": "Practitioner"});
    resource.push("groupIdentifier", object! {"value": order});
    if context.random.chance(40) {
        resource.push("note", list![object! {"text": context.clinical_text(1)}]);
    }
    resource.push("dosageInstruction", list![dose.instruction]);
    resource.push("dispenseRequest", object! {"quantity": dose.quantity, "expectedSupplyDuration": dose.supply});
    if context.random.chance(30) {
        resource.push("substitution", object! {"allowedBoolean": true});
    }
    resource
}

/// One medicine as a pharmacy handed it out.
pub(super) fn dispensing(context: &mut Context) -> Json {
    let contained = references(context);
    let dose = dose(context);
    let id = context.random.uuid();
    let (identifiers, order) = prescription_identifiers(context);
    let pharmacy = context.facility.name.clone();
    let mut resource = object! {
        "resourceType": "MedicationDispense", "id": id,
        "meta": object! {
            "lastUpdated": context.moment(0),
            "profile": list!["http://jpfhir.jp/fhir/core/StructureDefinition/JP_MedicationDispense"],
        },
        "language": "ja",
        "contained": contained,
        "extension": list![institution(context)],
        "identifier": identifiers,
        "status": "completed",
        "medicationCodeableConcept": dose.concept,
        "subject": subject(context),
        "performer": list![object! {"actor": object! {"reference": "#contained-practitioner", "display": pharmacy}}],
        "authorizingPrescription": list![object! {"identifier": object! {"system": INSTANCE, "value": order}}],
        "quantity": dose.quantity,
        "daysSupply": dose.supply,
        "whenHandedOver": context.moment(0),
        "dosageInstruction": list![dose.instruction],
    };
    if context.random.chance(50) {
        resource.push("note", list![object! {"text": context.clinical_text(1)}]);
    }
    resource
}

/// The document's moment, for those who only need one.
fn now(context: &Context) -> String {
    timestamp(context.day, 43_200)
}
