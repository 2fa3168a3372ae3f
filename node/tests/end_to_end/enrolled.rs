//! Nobody learns by any call whether a number is enrolled: each call that names a participant is made for one who is
//! enrolled and whom the caller does not know, and for a number that never was.
//!
//! The calls and their roles are those of [`super::roles::TABLE`], and which of them name a participant is read from
//! the descriptors: a new call without probes fails the test.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kura_client::{ParticipantNumber, wire};
use kura_node::dev::ClientFile;
use prost::Message;
use prost_types::DescriptorProto;
use tonic::transport::Channel;
use tonic::{Code, Request};
use wire::{Actor, SignedConsent};

use super::raw::{self, CALL_LIMIT};
use super::roles::TABLE;
use super::world::{CLINIC, HOSPITAL, OUTSIDER, World, number};

const CREDENTIAL: Bytes = Bytes::from_static(&[7; 32]);
const NO_RECORD: Bytes = Bytes::from_static(&[9; 16]);

/// The calls whose requests name a participant, in a field of that name at any depth.
fn calls_that_name_a_participant() -> BTreeSet<String> {
    let files = raw::descriptors().file;
    let messages: BTreeMap<String, &DescriptorProto> =
        files.iter().flat_map(|file| &file.message_type).map(|m| (format!(".kura.v1.{}", m.name()), m)).collect();
    fn names(messages: &BTreeMap<String, &DescriptorProto>, of: &str) -> bool {
        messages.get(of).is_some_and(|message| {
            message
                .field
                .iter()
                .any(|f| matches!(f.name(), "participant" | "duplicate") || names(messages, f.type_name()))
        })
    }
    let services = files.iter().flat_map(|file| &file.service).filter(|service| service.name() != "Peer");
    let calls = services.flat_map(|service| service.method.iter().map(move |method| (service, method)));
    calls.filter(|(_, m)| names(&messages, m.input_type())).map(|(s, m)| format!("{}/{}", s.name(), m.name())).collect()
}

/// What a caller is told, but for what every call has of its own.
async fn answer(channel: &Channel, call: &str, message: Vec<u8>) -> String {
    let path = format!("/kura.v1.{call}");
    let calling = raw::call(channel, &path, Request::new(vec![message]));
    match tokio::time::timeout(CALL_LIMIT, calling).await.expect("an answer in time") {
        Ok(bodies) if call == "Consents/ReverseResolve" => {
            let reply = wire::ReverseResolveReply::decode(&bodies[0][..]).unwrap();
            format!("{:?}", wire::ReverseResolveReply { journal_position: 0, ..reply })
        }
        Ok(bodies) => format!("{bodies:?}"),
        Err(status) => {
            assert!(!matches!(status.code(), Code::Unknown | Code::Internal | Code::Unimplemented), "{call}: {status}");
            let detail = wire::ErrorDetail { journal_position: 0, ..raw::detail(&status) };
            let metadata = status.metadata().clone().into_headers();
            let names: BTreeSet<&str> = metadata.keys().map(|name| name.as_str()).collect();
            format!("{:?} {} {:?} {names:?}", status.code(), status.message(), detail.encode_to_vec())
        }
    }
}

/// What is asked about a number by an actor (offices state none).
type Ask = Box<dyn Fn(Option<Actor>, String) -> Vec<u8>>;

struct Probe {
    what: &'static str,
    /// Whether it takes effect, and tells thereby: docs/consent.md has these one by one.
    takes_effect: bool,
    ask: Ask,
}

fn same<M: Message>(what: &'static str, ask: impl Fn(Option<Actor>, String) -> M + 'static) -> Probe {
    Probe { what, takes_effect: false, ask: Box::new(move |actor, number| ask(actor, number).encode_to_vec()) }
}

fn effect<M: Message>(what: &'static str, ask: impl Fn(Option<Actor>, String) -> M + 'static) -> Probe {
    Probe { takes_effect: true, ..same(what, ask) }
}

fn records() -> Vec<(&'static str, wire::NewRecord)> {
    let base = raw::record();
    vec![
        ("plain", base.clone()),
        ("a reserved class", wire::NewRecord { class: 11, ..base.clone() }),
        ("a day of the future", wire::NewRecord { clinical_day: base.clinical_day + 9, ..base.clone() }),
        ("a day before any consent", wire::NewRecord { clinical_day: 1, ..base.clone() }),
        ("to a facility", wire::NewRecord { addressees: vec![CLINIC.into()], ..base.clone() }),
        ("to itself", wire::NewRecord { addressees: vec![OUTSIDER.into()], ..base.clone() }),
        ("a further version", wire::NewRecord { record_id: NO_RECORD, ..base.clone() }),
        ("one that replaces", wire::NewRecord { related_record_id: NO_RECORD, relation: 1, ..base.clone() }),
        ("a document id", wire::NewRecord { document_id: "d-1".into(), ..base }),
    ]
}

fn terms(evidence: &str) -> SignedConsent {
    SignedConsent { signed_day: 18_500, evidence: evidence.into(), ..SignedConsent::default() }
}

fn looks<M: Message>(ask: impl Fn(Option<Actor>, String, u32, Bytes) -> M + Copy + 'static) -> Vec<Probe> {
    let mut probes = vec![same("under an emergency", move |a, n| ask(a, n, 0, NO_RECORD))];
    for (what, purpose) in [("plain", 0), ("for care", 1), ("for own use", 2), ("for audit", 3), ("secondary", 4)] {
        probes.push(same(what, move |a, n| ask(a, n, purpose, Bytes::new())));
    }
    probes
}

/// What each call is asked. By a facility's user, by another participant or by an office.
fn probes(call: &str, role: &str) -> Vec<Probe> {
    let request = raw::request;
    match (call, role) {
        ("Records/PutWhole", _) => (records().into_iter())
            .map(|(what, record)| {
                same(what, move |actor, participant| wire::PutWholeRequest {
                    actor,
                    request: request(),
                    participant,
                    record: Some(record.clone()),
                    ..raw::put_whole(OUTSIDER, &number(1))
                })
            })
            .collect(),
        ("Records/Put", _) => (records().into_iter())
            .map(|(what, record)| {
                same(what, move |actor, participant| {
                    let record = Some(record.clone());
                    let begin = wire::PutBegin { actor, request: request(), participant, record, ..Default::default() };
                    wire::PutRequest { step: Some(wire::put_request::Step::Begin(begin)) }
                })
            })
            .collect(),
        ("Records/Get", _) => looks(|actor, participant, purpose, episode_id| wire::GetRequest {
            actor,
            participant,
            purpose,
            episode_id,
            record_id: NO_RECORD,
            ..Default::default()
        }),
        ("Records/GetSeveral", _) => looks(|actor, participant, purpose, episode_id| wire::GetSeveralRequest {
            actor,
            participant,
            purpose,
            episode_id,
            record_ids: vec![NO_RECORD],
        }),
        ("Records/List", _) => looks(|actor, participant, purpose, episode_id| wire::ListRequest {
            actor,
            participant,
            purpose,
            episode_id,
            ..Default::default()
        }),
        ("Records/History", _) => looks(|actor, participant, purpose, episode_id| wire::HistoryRequest {
            actor,
            participant,
            purpose,
            episode_id,
            record_id: NO_RECORD,
        }),
        ("Records/OpenEmergency", _) => {
            let ask = |reason: &'static str| {
                move |actor, participant| wire::OpenEmergencyRequest {
                    actor,
                    request: request(),
                    participant,
                    reason: reason.into(),
                }
            };
            vec![same("without a reason", ask("")), effect("with a reason", ask("unconscious"))]
        }
        ("Records/Hide", _) => {
            let ask = |hidden| {
                move |actor, participant| wire::HideRequest {
                    actor,
                    request: request(),
                    participant,
                    record_id: NO_RECORD,
                    hidden,
                    reason: String::new(),
                }
            };
            vec![same("plain", ask(true)), same("show again", ask(false))]
        }
        ("Records/Narrow", _) => vec![same("plain", move |actor, participant| wire::NarrowRequest {
            actor,
            request: request(),
            participant,
            record_id: NO_RECORD,
            addressees: vec![CLINIC.into()],
        })],
        ("Records/Hold", "registrar") => {
            let ask = |hold, evidence: &'static str| {
                same(if hold { "hold" } else { "release" }, move |_, participant| wire::HoldRequest {
                    request: request(),
                    participant,
                    record_id: NO_RECORD,
                    hold,
                    evidence: evidence.into(),
                })
            };
            vec![ask(true, ""), ask(false, ""), ask(true, "order 1"), ask(false, "order 1")]
        }
        ("Consents/Enrol", _) => {
            let ask = |consent: SignedConsent| {
                move |actor, participant| wire::EnrolRequest {
                    actor,
                    request: request(),
                    participant,
                    consent: Some(consent.clone()),
                }
            };
            vec![
                same("without evidence", ask(terms(""))),
                same("of the future", ask(SignedConsent { signed_day: 99_999, ..terms("form 1") })),
                same("of a proxy", ask(SignedConsent { proxy: "Hanako".into(), ..terms("form 1") })),
                same("for secondary use", ask(SignedConsent { secondary_use: true, ..terms("form 1") })),
                effect("with evidence", ask(terms("form 1"))),
            ]
        }
        ("Consents/Link", _) => vec![same("plain", move |actor, participant| wire::LinkRequest {
            actor,
            request: request(),
            participant,
            local_id: "00-1".into(),
        })],
        ("Consents/Relink", _) => {
            let ask = |reason: &'static str| {
                same("plain", move |actor, participant| wire::RelinkRequest {
                    actor,
                    request: request(),
                    participant,
                    local_id: "00-1".into(),
                    reason: reason.into(),
                })
            };
            vec![ask(""), ask("mistyped")]
        }
        ("Consents/ReverseResolve", _) => {
            vec![same("plain", |actor, participant| wire::ReverseResolveRequest { actor, participant })]
        }
        ("Consents/IssueCard", role) => {
            let ask = |evidence: &'static str| {
                move |actor, participant: String| wire::IssueCardRequest {
                    actor,
                    request: request(),
                    serial: format!("C{participant}"),
                    participant,
                    evidence: evidence.into(),
                }
            };
            let with =
                if role == "registrar" { effect("with evidence", ask("form 1")) } else { same("with", ask("x")) };
            vec![same("without evidence", ask("")), with]
        }
        ("Consents/Alias", "registrar") => {
            let ask = |evidence: &'static str| {
                move |_: Option<Actor>, participant: String| wire::AliasRequest {
                    request: request(),
                    participant,
                    duplicate: number(1).reveal().into(),
                    evidence: evidence.into(),
                }
            };
            vec![same("without evidence", ask("")), effect("with evidence", ask("form 1"))]
        }
        ("Consents/Grant", _) => {
            let ask = |facility: &'static str, evidence: &'static str| {
                move |actor, participant| wire::GrantRequest {
                    actor,
                    request: request(),
                    participant,
                    facility: facility.into(),
                    evidence: evidence.into(),
                }
            };
            vec![
                same("without evidence", ask(OUTSIDER, "")),
                same("to nobody", ask("F-none", "form 1")),
                effect("with evidence", ask(OUTSIDER, "form 1")),
            ]
        }
        ("Consents/Revoke", _) => {
            let ask = |facility: &'static str, evidence: &'static str| {
                move |actor, participant| wire::RevokeRequest {
                    actor,
                    request: request(),
                    participant,
                    facility: facility.into(),
                    evidence: evidence.into(),
                }
            };
            vec![
                same("without evidence", ask(HOSPITAL, "")),
                same("of one that is not named", ask(OUTSIDER, "form 1")),
                same("of one that is not there", ask("F-none", "form 1")),
                effect("of one that is named", ask(HOSPITAL, "form 1")),
            ]
        }
        ("Consents/Withdraw", _) => {
            let ask = |evidence: &'static str| {
                move |actor, participant| wire::WithdrawRequest {
                    actor,
                    request: request(),
                    participant,
                    evidence: evidence.into(),
                }
            };
            vec![same("without evidence", ask("")), effect("with evidence", ask("form 1"))]
        }
        ("Consents/Show", _) => {
            let ask = |as_of_ms| {
                same("plain", move |actor, participant| wire::ShowRequest {
                    actor,
                    participant,
                    as_of_ms,
                    ..Default::default()
                })
            };
            vec![ask(0), ask(1)]
        }
        ("Consents/Accesses", _) => {
            vec![same("plain", |actor, participant| wire::AccessesRequest { actor, participant, ..Default::default() })]
        }
        ("Erasures/Ask", role) => {
            let ask = |evidence: &'static str| {
                move |actor, participant| wire::AskErasureRequest {
                    actor,
                    request: request(),
                    participant,
                    evidence: evidence.into(),
                }
            };
            let with =
                if role == "registrar" { effect("with evidence", ask("form 1")) } else { same("with", ask("x")) };
            vec![same("without evidence", ask("")), with]
        }
        ("Erasures/Approve", "registrar") => {
            vec![same("plain", move |_, participant| wire::ApproveErasureRequest { request: request(), participant })]
        }
        ("Erasures/Stop", _) => vec![same("plain", move |actor, participant| wire::StopErasureRequest {
            actor,
            request: request(),
            participant,
            reason: "x".into(),
        })],
        ("Erasures/Show", _) => {
            vec![same("plain", |actor, participant| wire::ShowErasureRequest { actor, participant })]
        }
        // Auditors list the journal of everybody, and whoever is listed sees it.
        ("Audit/List", "auditor") => {
            vec![effect("plain", |_, participant| wire::JournalRequest { participant, ..Default::default() })]
        }
        _ => Vec::new(),
    }
}

fn participant(number: &ParticipantNumber) -> Actor {
    let authenticated_ms = kura_client::now_ms();
    Actor { kind: 2, name: number.reveal().into(), method: 2, authenticated_ms, ..Actor::default() }
}

/// What is said of a call that a recovered cluster does not serve yet.
const NOT_YET: &str = "opened step by step";

/// Makes every call that names a participant for one who is enrolled and one who never was, and answers which of them
/// were not served yet. Those that take effect use up numbers: enrolled ones from `some`, others from `next` on.
pub async fn ask_everything(world: &World, some: &mut Vec<ParticipantNumber>, mut next: u64) -> BTreeSet<String> {
    // Somebody else, who asks about others too.
    let somebody = some.pop().unwrap();
    let layout = world.cluster.layout();
    let member = &world.cluster.plan().members[0];
    let channels = [
        ("application", ClientFile::Application),
        ("registrar", ClientFile::Registrar1),
        ("auditor", ClientFile::Auditor),
    ];
    let channels: BTreeMap<&str, Channel> =
        channels.map(|(role, file)| (role, raw::channel(raw::client_files(layout, file), member))).into();
    let user = || raw::doctor(OUTSIDER).map(|actor| Actor { credential_sha256: CREDENTIAL, ..actor });

    // For those that only ask, one is enough; and each that takes effect has one of its own.
    let (enrolled, never) = (some.pop().unwrap(), number(next));
    let (mut wrong, mut not_yet) = (Vec::new(), BTreeSet::new());
    let table: BTreeMap<&str, &str> = TABLE.iter().copied().collect();
    for call in calls_that_name_a_participant() {
        for role in table[&call[..]].split(' ') {
            let asked = probes(&call, role);
            assert!(!asked.is_empty(), "{call} by {role} has no probe: what does it tell of who is enrolled?");
            for Probe { what, takes_effect, ask } in asked {
                let actors = match role {
                    "application" => vec![user(), Some(participant(&somebody))],
                    _ => vec![None],
                };
                for actor in actors {
                    let other = actor.as_ref().is_some_and(|actor| actor.kind == 2);
                    let tells = takes_effect && !other;
                    let (one, nobody) = match tells {
                        true => {
                            next += 1;
                            (some.pop().unwrap(), number(next))
                        }
                        false => (enrolled, never),
                    };
                    let channel = &channels[role];
                    let of_one = answer(channel, &call, ask(actor.clone(), one.reveal().into())).await;
                    let of_nobody = answer(channel, &call, ask(actor, nobody.reveal().into())).await;
                    let by = if other { "participant" } else { role };
                    let is_served = !of_nobody.contains(NOT_YET);
                    if !is_served {
                        not_yet.insert(format!("{call} by {by}, {what}"));
                    }
                    // What is said to tell must do so, or it says so for nothing.
                    if (of_one == of_nobody) == (tells && is_served) {
                        wrong.push(format!("{call} by {by}, {what}:\n  {of_one}\n  {of_nobody}"));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    not_yet
}

/// Enrols so many as [`ask_everything`] uses up.
pub async fn enrol_some(world: &World, first: u64) -> Vec<ParticipantNumber> {
    let mut some = Vec::new();
    for nth in first..first + 24 {
        some.push(world.enrol(nth).await);
    }
    some
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_learns_by_any_call_who_is_enrolled() {
    let world = World::start(1, 0).await;
    // Whose duplicate everybody is said to be.
    world.enrol(1).await;
    world.emergency_room(OUTSIDER, [7; 32]).await;
    let mut some = enrol_some(&world, 10).await;
    let not_yet = ask_everything(&world, &mut some, 100).await;
    assert!(not_yet.is_empty(), "{not_yet:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_enrols_is_told_no_more_than_that_a_number_is_taken() {
    let world = World::start(1, 0).await;
    let (here, left, leaving) = (world.enrol(1).await, world.enrol(2).await, world.enrol(3).await);
    for number in [left, leaving] {
        world.person(number).withdraw().await.unwrap();
    }
    world.person(leaving).ask_erasure().await.unwrap();
    let mut told = BTreeSet::new();
    for number in [here, left, leaving] {
        let enrol = wire::EnrolRequest {
            actor: raw::doctor(OUTSIDER),
            request: raw::request(),
            participant: number.reveal().into(),
            consent: Some(terms("an old form")),
        };
        told.insert(answer(&raw::application(&world), "Consents/Enrol", enrol.encode_to_vec()).await);
    }
    assert!(told.len() == 1 && told.first().unwrap().contains("already-enrolled"), "{told:?}");
}
