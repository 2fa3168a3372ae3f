//! XML documents: FHIR in XML, and HL7 CDA.
//!
//! Invariants
//! - A document becomes a tree only as a whole, well-formed, and within [`NODES_MAX`] and
//!   [`DEPTH_MAX`]; patients are told by a tree only. Entities that a document declares are not
//!   expanded, and nothing is ever fetched.
//! - Elements are known by their local names: prefixes differ between systems.

use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;
use serde_json::{Map, Value};

use super::day::compact_day;
use super::fhir;
use super::patient::{PatientId, Patients};
use super::recognize::{Form, PREFIX_BYTES, Recognized, named_id};

/// Most elements of a document that is read as a tree.
const NODES_MAX: usize = 200_000;
/// Deepest nesting of elements.
const DEPTH_MAX: usize = 64;
/// Patient numbers of hospitals under the Japanese guides: this and the institution's number.
const JAPANESE_HOSPITAL: &str = "1.2.392.100495.20.3.51.";

/// An element, with the attributes that are asked for here.
#[derive(Debug, Default)]
struct Node {
    name: String,
    attributes: Vec<(&'static str, String)>,
    children: Vec<Node>,
}

impl Node {
    fn attribute(&self, name: &str) -> &str {
        self.attributes.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value)
    }

    fn children<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Node> {
        self.children.iter().filter(move |child| child.name == name)
    }
}

/// What a document seems to be; nothing for what is neither XML by its declaration nor one of the
/// two forms.
pub(super) fn recognize(bytes: &[u8]) -> Option<Recognized> {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let start = &text[..text.floor_char_boundary(usize::try_from(PREFIX_BYTES).unwrap_or(usize::MAX))];
    if start.contains("xmlns=\"http://hl7.org/fhir\"") {
        return fhir::recognize_xml(tree(text).and_then(|root| as_resource(&root)), start);
    }
    if start.contains("<ClinicalDocument") {
        return Some(clinical_document(text, start));
    }
    start.starts_with("<?xml").then(|| Recognized::of(Form::Other, "document", "application/xml"))
}

fn tree(text: &str) -> Option<Node> {
    let mut reader = Reader::from_str(text);
    let mut open: Vec<Node> = Vec::new();
    let mut count = 0;
    loop {
        let (element, ends) = match reader.read_event().ok()? {
            Event::Start(element) if is_narrative(&element) => {
                reader.read_to_end(element.name()).ok()?;
                continue;
            }
            Event::Start(element) => (node(&element)?, false),
            Event::Empty(element) => (node(&element)?, true),
            Event::End(_) => (open.pop()?, true),
            Event::Eof => return None,
            _ => continue,
        };
        count += 1;
        if count > 2 * NODES_MAX || open.len() >= DEPTH_MAX {
            return None;
        }
        match (ends, open.last_mut()) {
            (false, _) => open.push(element),
            (true, Some(parent)) => parent.children.push(element),
            (true, None) => return rest_is_empty(&mut reader).then_some(element),
        }
    }
}

/// The text of a FHIR narrative says nothing that is asked for.
fn is_narrative(element: &BytesStart<'_>) -> bool {
    element.local_name().into_inner() == "div"
}

fn rest_is_empty(reader: &mut Reader<&[u8]>) -> bool {
    loop {
        match reader.read_event() {
            Ok(Event::Eof) => return true,
            Ok(Event::Text(_) | Event::Comment(_) | Event::PI(_)) => {}
            _ => return false,
        }
    }
}

fn node(element: &BytesStart<'_>) -> Option<Node> {
    let mut node = Node { name: element.local_name().into_inner().to_owned(), ..Node::default() };
    for attribute in element.attributes() {
        let attribute = attribute.ok()?;
        let Some(name) = ["value", "root", "extension"].into_iter().find(|name| *name == attribute.key.into_inner())
        else {
            continue;
        };
        let value = attribute.normalized_value(XmlVersion::Implicit1_0).ok()?;
        node.attributes.push((name, value.into_owned()));
    }
    Some(node)
}

/// A FHIR element as its JSON would be, but that lists of one are single values.
fn as_resource(root: &Node) -> Option<Value> {
    let mut fields = fields(root);
    fields.insert("resourceType".into(), Value::String(root.name.clone()));
    // Readers of JSON ask for a list here, even of one.
    if let Some(one @ Value::Object(_)) = fields.get("entry").cloned() {
        fields.insert("entry".into(), Value::Array(vec![one]));
    }
    Some(Value::Object(fields))
}

fn fields(node: &Node) -> Map<String, Value> {
    let mut fields = Map::new();
    for child in &node.children {
        let value = match &child.children[..] {
            [resource] if matches!(&child.name[..], "resource" | "contained") => as_resource(resource),
            [] if !child.attribute("value").is_empty() => Some(Value::String(child.attribute("value").to_owned())),
            _ => Some(Value::Object(self::fields(child))),
        };
        let Some(value) = value else { continue };
        match fields.get_mut(&child.name) {
            Some(Value::Array(list)) => list.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
            None => drop(fields.insert(child.name.clone(), value)),
        }
    }
    fields
}

fn clinical_document(text: &str, start: &str) -> Recognized {
    let says = |words: &[&str]| words.iter().any(|word| start.contains(word));
    let class_word = if says(&["健診", "健康診査", "健康診断"]) {
        "checkup"
    } else if says(&["退院", "18842-5"]) {
        "discharge-summary"
    } else if says(&["診療情報提供", "57133-1"]) {
        "referral-letter"
    } else {
        "document"
    };
    let mut seen = Recognized::of(Form::Cda, class_word, "application/xml");
    seen.day = start.split_once("<effectiveTime").and_then(|(_, rest)| {
        let (_, value) = rest.split_once("value=\"")?;
        compact_day(value)
    });
    let Some(root) = tree(text).filter(|root| root.name == "ClinicalDocument") else { return seen };
    let id = root.children("id").next().map(|id| (id.attribute("root"), id.attribute("extension")));
    seen.document_id =
        id.filter(|(root, _)| !root.is_empty()).map(|(root, own)| named_id("cda", &format!("{root}|{own}")));
    for target in root.children("recordTarget").flat_map(|target| target.children("patientRole")) {
        let ids: Vec<&Node> = target.children("id").filter(|id| !id.attribute("extension").is_empty()).collect();
        seen.patients.add(ids.iter().flat_map(|id| patient_ids(id, ids.len() == 1)));
    }
    if seen.patients.count() == 0 {
        seen.patients = Patients::default();
    }
    seen
}

/// With its root, and alone if it is the facility's own: by its root, or since there is no other.
fn patient_ids(id: &Node, only: bool) -> impl Iterator<Item = PatientId> {
    let (root, own) = (id.attribute("root"), id.attribute("extension").trim());
    let local = (only || root.starts_with(JAPANESE_HOSPITAL)).then(|| PatientId::local(own));
    local.into_iter().chain([PatientId::other(format!("{root}|{own}"))])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(seen: &Recognized) -> Vec<&str> {
        let mut texts: Vec<&str> = seen.patients.only().unwrap_or_default().iter().map(|id| id.text.as_str()).collect();
        texts.sort_unstable();
        texts
    }

    #[test]
    fn fhir_in_xml_says_what_its_json_would() {
        let xml = r#"<?xml version="1.0"?><AllergyIntolerance xmlns="http://hl7.org/fhir"><text><div>&x;<b></b></div></text><identifier><system value="http://x/IdSystem/resourceInstance-identifier"/><value value="a&amp;b"/></identifier><patient><reference value="Patient/7"/></patient><recordedDate value="1970-01-02"/></AllergyIntolerance>"#;
        let seen = recognize(xml.as_bytes()).unwrap();
        assert_eq!((seen.form, seen.class_word, seen.day), (Form::Fhir, "allergy", Some(1)));
        assert!(seen.document_id.as_deref().unwrap().ends_with("|a&b"));
        assert_eq!(texts(&seen), ["Patient/7"]);
        let bundle = |second: &str| {
            let entry = |id: &str| {
                format!(
                    r#"<entry><resource><Condition><subject><reference value="Patient/{id}"/></subject></Condition></resource></entry>"#
                )
            };
            format!(r#"<Bundle xmlns="http://hl7.org/fhir">{}{second}</Bundle>"#, entry("7")).replace("@", &entry("8"))
        };
        assert_eq!(texts(&recognize(bundle("").as_bytes()).unwrap()), ["Patient/7"]);
        assert_eq!(recognize(bundle("@").as_bytes()).unwrap().patients.count(), 2);
        // Cut or damaged, it has a class and a day at most.
        let cut = recognize(&xml.as_bytes()[..xml.len() - 3]).unwrap();
        assert_eq!((cut.class_word, cut.day, cut.patients.count(), cut.document_id), ("allergy", Some(1), 0, None));
        assert!(recognize(b"<a/>").is_none());
    }

    #[test]
    fn a_clinical_document_names_its_patient() {
        let document = |ids: &str| {
            format!(
                r#"<ClinicalDocument xmlns="urn:hl7-org:v3"><id root="1.2" extension="d"/><title>退院</title><effectiveTime value="19700103"/><recordTarget><patientRole>{ids}</patientRole></recordTarget></ClinicalDocument>"#
            )
        };
        let one = recognize(document(r#"<id root="1.9" extension="7"/>"#).as_bytes()).unwrap();
        assert_eq!(
            (one.class_word, one.day, one.document_id.as_deref()),
            ("discharge-summary", Some(2), Some("cda/1.2|d"))
        );
        assert_eq!(texts(&one), ["1.9|7", "7"]);
        let two = document(r#"<id root="1.2.392.100495.20.3.51.1" extension="7"/><id root="1.9" extension="8"/>"#);
        assert_eq!(texts(&recognize(two.as_bytes()).unwrap()), ["1.2.392.100495.20.3.51.1|7", "1.9|8", "7"]);
        assert_eq!(recognize(document("").as_bytes()).unwrap().patients.count(), 0);
    }

    #[test]
    fn trees_are_bounded() {
        let deep = format!("{}{}", "<a>".repeat(DEPTH_MAX + 1), "</a>".repeat(DEPTH_MAX + 1));
        assert!(tree(&deep).is_none());
        assert!(tree(&format!("<a>{}</a>", "<b/>".repeat(1_000))).is_some());
        assert!(tree(&format!("<a>{}</a>", "<b/>".repeat(2 * NODES_MAX))).is_none());
        assert!(tree("<a></b>").is_none() && tree("<a/><b/>").is_none() && tree("").is_none());
    }
}
