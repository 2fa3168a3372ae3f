//! A participant's own calls: about themselves, under any number of theirs, and about nobody else.

use kura_cluster::consent::Denial;
use kura_cluster::row::{Alias, Application, Participant};
use kura_cluster::word::ActorKind;

use super::*;
use crate::gateway::participant::number;

const OTHER: &str = "0043001234567891";
const NOBODY: &str = "0043001234567892";
const ALIAS: &str = "0043001234567893";

fn named(name: &str) -> Caller {
    let actor = v1::Actor {
        kind: ActorKind::Participant.number(),
        name: name.into(),
        method: 2,
        authenticated_ms: 1,
        ..Default::default()
    };
    Caller::parse(identity(Role::Application, "karte"), Some(&actor)).unwrap()
}

async fn settle() -> Storehouse {
    let storehouse = Storehouse::new().await;
    let set = (Table::Application, Domain::Application);
    storehouse.edit_hashed(set, &["karte"], |row: &mut Application| row.participants = true).await;
    let consent = v1::SignedConsent { signed_day: 18_000, evidence: "paper 2".into(), ..Default::default() };
    let enrol = v1::EnrolRequest { actor: None, request: request(), participant: OTHER.into(), consent: Some(consent) };
    storehouse.gateway().enrol(&doctor(), enrol).await.unwrap();
    storehouse
}

/// What each call that a participant can make about a number answers.
async fn every_call(gateway: &Gateway, caller: &Caller, asked: &str) -> Vec<(&'static str, Result<(), GatewayError>)> {
    let participant: String = asked.into();
    let show = v1::ShowRequest { participant: participant.clone(), ..Default::default() };
    let accesses = v1::AccessesRequest { participant: participant.clone(), ..Default::default() };
    let show_erasure = v1::ShowErasureRequest { participant: participant.clone(), ..Default::default() };
    let (grant, revoke) = (
        v1::GrantRequest {
            request: request(),
            participant: participant.clone(),
            facility: HOSPITAL.into(),
            ..Default::default()
        },
        v1::RevokeRequest {
            request: request(),
            participant: participant.clone(),
            facility: HOSPITAL.into(),
            ..Default::default()
        },
    );
    let withdraw = v1::WithdrawRequest { request: request(), participant: participant.clone(), ..Default::default() };
    let ask = v1::AskErasureRequest { request: request(), participant: participant.clone(), ..Default::default() };
    let stop = v1::StopErasureRequest { request: request(), participant, ..Default::default() };
    vec![
        ("show", gateway.show_consent(caller, show).await.map(|_| ())),
        ("accesses", gateway.accesses(caller, accesses).await.map(|_| ())),
        ("show erasure", gateway.show_erasure(caller, show_erasure).await.map(|_| ())),
        ("grant", gateway.grant(caller, grant).await.map(|_| ())),
        ("revoke", gateway.revoke(caller, revoke).await.map(|_| ())),
        ("ask erasure", gateway.ask_erasure(caller, ask).await.map(|_| ())),
        ("stop erasure", gateway.stop_erasure(caller, stop).await.map(|_| ())),
        ("withdraw", gateway.withdraw(caller, withdraw).await.map(|_| ())),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn about_another_number_everything_is_one_refusal_with_an_entry_enrolled_or_not() {
    let storehouse = settle().await;
    let gateway = storehouse.gateway();
    for (asked, wanted) in [(OTHER, Denial::AnotherPerson), (NOBODY, Denial::NotEnrolled)] {
        let before = storehouse.journalled().await.len();
        let answers = every_call(&gateway, &named(NUMBER), asked).await;
        for (call, answer) in &answers {
            let Err(GatewayError::Denied { reason, journal_position }) = answer else { panic!("{call}: {answer:?}") };
            assert!(*reason == wanted && reason.is_uniform() && *journal_position > 0, "{call} of {asked}: {reason:?}");
        }
        let entries = storehouse.journalled().await;
        assert_eq!(entries.len() - before, answers.len(), "each has its entry");
    }
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_two_numbers_asks_under_either() {
    let storehouse = settle().await;
    let gateway = storehouse.gateway();
    let key = {
        let mut attempt = Attempt::begin(&gateway, &JournalEntry::default()).unwrap();
        let known = attempt.participant(&number(NUMBER).unwrap()).unwrap().unwrap();
        RowKey::participant(&known.pseudonym)
    };
    let add = |row: &mut Participant| row.aliases.push(Alias { number: ALIAS.into(), ..Default::default() });
    storehouse.edit(&key, add).await;
    for name in [NUMBER, ALIAS] {
        let show = v1::ShowRequest { participant: NUMBER.into(), ..Default::default() };
        gateway.show_consent(&named(name), show).await.unwrap();
        let accesses = v1::AccessesRequest { participant: NUMBER.into(), ..Default::default() };
        gateway.accesses(&named(name), accesses).await.unwrap();
    }
    storehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_linked_an_id_is_told_to_the_participant_only_if_a_setting_says_so() {
    let storehouse = settle().await;
    let gateway = storehouse.gateway();
    let link = v1::LinkRequest {
        request: request(),
        participant: NUMBER.into(),
        local_id: "A-1".into(),
        ..Default::default()
    };
    gateway.link(&doctor(), link).await.unwrap();
    let told = async |caller: &Caller| {
        let show = v1::ShowRequest { participant: NUMBER.into(), ..Default::default() };
        let links = gateway.show_consent(caller, show).await.unwrap().links;
        (links[0].facility.clone(), links[0].linked_by_user.clone())
    };
    assert_eq!(told(&participant()).await, (HOSPITAL.into(), String::new()));
    assert_eq!(told(&doctor()).await, (HOSPITAL.into(), DOCTOR.into()));
    storehouse.set(|settings| settings.accesses_show_person = true).await;
    assert_eq!(told(&participant()).await, (HOSPITAL.into(), DOCTOR.into()));
    storehouse.close().await;
}
