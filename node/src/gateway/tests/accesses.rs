//! The participant's own list: narrowed, turned round, and page by page.

use kura_cluster::row::Application;

use super::*;

fn ask() -> v1::AccessesRequest {
    v1::AccessesRequest { participant: NUMBER.into(), ..Default::default() }
}

fn told(accesses: &[v1::Access]) -> Vec<(Action, bool)> {
    accesses.iter().map(|one| (Action::from_number(one.action).unwrap(), !one.denial.is_empty())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_participants_list_is_narrowed_and_paged_like_every_other() {
    let storehouse = Storehouse::new().await;
    let application = |row: &mut Application| row.participants = true;
    storehouse.edit_hashed((Table::Application, Domain::Application), &["karte"], application).await;
    let gateway = storehouse.gateway();
    let list = || v1::ListRequest { participant: NUMBER.into(), ..Default::default() };
    gateway.list(&doctor(), list()).await.unwrap();
    let revoke = v1::RevokeRequest {
        request: request(),
        participant: NUMBER.into(),
        facility: HOSPITAL.into(),
        ..Default::default()
    };
    gateway.revoke(&participant(), revoke).await.unwrap();
    gateway.list(&doctor(), list()).await.unwrap_err();
    let seen = async |request| gateway.accesses(&participant(), request).await.unwrap();

    let whole = seen(ask()).await;
    let (first, last) = (whole.accesses.last().unwrap().at_ms, whole.accesses[1].at_ms);
    let known = [(Action::ListAccesses, false), (Action::List, true), (Action::Revoke, false), (Action::List, false)];
    assert_eq!(told(&whole.accesses)[..4], known, "the newest first, and its own entry before all");

    let denied = seen(v1::AccessesRequest { denied_only: true, ..ask() }).await;
    assert_eq!(told(&denied.accesses), [(Action::List, true)]);
    let lists = v1::AccessesRequest { actions: vec![Action::List.number()], ..ask() };
    assert_eq!(told(&seen(lists).await.accesses), [(Action::List, true), (Action::List, false)]);
    let through = |application: &str| v1::AccessesRequest { application: application.into(), ..ask() };
    assert!(seen(through("karte")).await.accesses.len() > 4);
    assert_eq!(seen(through("else")).await.accesses, []);
    let of = |facility: &str| v1::AccessesRequest { facility: facility.into(), ..ask() };
    let of_hospital = told(&seen(of(HOSPITAL)).await.accesses);
    assert!(of_hospital.contains(&(Action::Revoke, false)), "about the hospital: {of_hospital:?}");
    assert!(!of_hospital.contains(&(Action::ListAccesses, false)), "{of_hospital:?}");
    assert_eq!(seen(of("nowhere")).await.accesses, []);
    assert_eq!(seen(v1::AccessesRequest { until_ms: first, ..ask() }).await.accesses, []);
    let until = seen(v1::AccessesRequest { until_ms: last, ..ask() }).await;
    assert!(until.accesses.iter().all(|one| one.at_ms < last) && !until.accesses.is_empty());

    // From the oldest on, in pages of one: it ends where it began to be asked for.
    let mut asked = v1::AccessesRequest { oldest_first: true, limit: 1, ..ask() };
    let mut found = Vec::new();
    let end = loop {
        let reply = seen(asked.clone()).await;
        found.extend(reply.accesses);
        if asked.before == 0 {
            asked.before = reply.journal_position + 1;
        }
        if !reply.more {
            break asked.before;
        }
        asked.after = reply.last;
    };
    assert_eq!(found.first().unwrap().at_ms, first);
    assert_eq!(found.last().unwrap().journal_position + 1, end, "its own first page is the newest");
    assert!(found.is_sorted_by_key(|one| one.journal_position));

    for wrong in [
        v1::AccessesRequest { actions: vec![9_999], ..ask() },
        v1::AccessesRequest { facility: "f".repeat(129), ..ask() },
        v1::AccessesRequest { application: "a".repeat(129), ..ask() },
    ] {
        let error = gateway.accesses(&participant(), wrong).await.unwrap_err();
        assert!(matches!(error, GatewayError::Invalid { .. }), "{error}");
    }
    storehouse.close().await;
}
