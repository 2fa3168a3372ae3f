//! What a facility finds addressed to it, and who named it.

use kura_cluster::row::User;

use super::*;
use crate::gateway::group::Pending;

async fn set_status(storehouse: &Storehouse, status: u32) {
    storehouse
        .edit_hashed((Table::User, Domain::User), &[HOSPITAL, DOCTOR], |row: &mut User| row.status = status)
        .await;
}

/// Carries commands on; suspends the doctor once the first is committed, and before anybody is told.
async fn suspending(storehouse: &Storehouse, mut waiting: tokio::sync::mpsc::Receiver<Pending>) {
    let mut is_first = true;
    while let Some(Pending { command, answer }) = waiting.recv().await {
        let proposed = storehouse.proposer.propose(command, Instant::now() + PATIENCE).await.unwrap();
        if std::mem::take(&mut is_first) {
            set_status(storehouse, 2).await;
        }
        let _ = answer.send(Ok(proposed));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_suspended_once_a_page_is_permitted_gets_none() {
    let storehouse = Storehouse::new().await;
    for is_inbox in [true, false] {
        set_status(&storehouse, 1).await;
        let (proposer, waiting) = Proposer::held();
        let gateway = storehouse.gateway_through(proposer);
        let asked = async {
            match is_inbox {
                true => gateway.inbox(&doctor(), v1::InboxRequest::default()).await.map(drop),
                false => gateway.granted(&doctor(), v1::GrantedRequest::default()).await.map(drop),
            }
        };
        tokio::select! {
            told = asked => assert!(matches!(told, Err(GatewayError::Denied { .. })), "{told:?}"),
            () = suspending(&storehouse, waiting) => panic!("nothing more can be asked"),
        }
    }
    storehouse.close().await;
}
