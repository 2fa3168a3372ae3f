//! What a gateway says that no leader hears, or that takes no part any more.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kura_proto::v1;

use super::super::group::Pending;
use super::super::limits::LEADER_WAIT;
use super::super::propose::{Failure, Proposer};
use super::{Caller, GatewayError, Storehouse, identity, request};
use crate::certificates::Role;

/// Answers every proposal so.
fn answering(failure: impl Fn(usize) -> Option<Failure> + Send + 'static) -> Proposer {
    let (proposer, mut waiting) = Proposer::held();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        let mut number = 0;
        while let Some(Pending { answer, .. }) = waiting.recv().await {
            match failure(number) {
                Some(failure) => drop(answer.send(Err(failure))),
                None => kept.push(answer),
            }
            number += 1;
        }
    });
    proposer
}

fn not_appended() -> Option<Failure> {
    Some(Failure::NotAppended("nobody leads".into()))
}

#[tokio::test(start_paused = true)]
async fn nobody_who_leads_is_told_before_the_deadline_and_as_not_committed() {
    let began = tokio::time::Instant::now();
    let proposer = answering(|_| not_appended());
    let error = proposer.propose(Bytes::new(), Instant::now() + Duration::from_secs(3600)).await.unwrap_err();
    assert!(matches!(&error, GatewayError::NoLeader { .. }), "{error}");
    assert!(error.to_string().contains("nothing was committed"), "{error}");
    let took = began.elapsed();
    assert!(took >= LEADER_WAIT && took < 2 * LEADER_WAIT, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn what_a_leader_may_have_taken_stays_unknown() {
    let soon = || Instant::now() + Duration::from_secs(3600);
    let proposer = answering(|number| if number == 0 { Some(Failure::Unknown("cut".into())) } else { not_appended() });
    assert_eq!(proposer.propose(Bytes::new(), soon()).await.unwrap_err(), GatewayError::Unknown);
    // A leader that took it and never hears from a majority again.
    let proposer = answering(|_| None);
    let deadline = Instant::now() + Duration::from_millis(100);
    assert_eq!(proposer.propose(Bytes::new(), deadline).await.unwrap_err(), GatewayError::Unknown);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_whose_log_lost_entries_sends_callers_away_at_once() {
    let house = Storehouse::new().await;
    let gateway = house.gateway_through(answering(|_| None));
    gateway.give_up();
    let registrar = Caller::parse(identity(Role::Registrar, "ito"), None).unwrap();
    let facility =
        v1::Facility { id: "F1".into(), name: "one".into(), kind: 1, status: 1, access_line: 1, ..Default::default() };
    let put = v1::PutFacilityRequest { request: request(), facility: Some(facility), ..Default::default() };
    let error = gateway.put_facility(&registrar, put).await.unwrap_err();
    assert!(matches!(&error, GatewayError::Unavailable { why } if why.contains("ask another")), "{error}");
    let outcome = v1::OutcomeRequest { request: request() };
    let error = gateway.outcome("karte", outcome).await.unwrap_err();
    assert!(matches!(&error, GatewayError::Unavailable { why } if why.contains("ask another")), "{error}");
}
