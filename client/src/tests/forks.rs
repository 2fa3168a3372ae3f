//! Two clusters of one id on one timeline.

use super::cluster::{Cluster, brisk};
use super::{doctor, image, number};
use crate::{PutError, Reason};

fn is_forked(error: &PutError) -> bool {
    matches!(error, PutError::Unknown { .. })
        || matches!(error, PutError::Later(later) if later.reason() == Reason::Forked)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_taken_from_either_of_two_clusters_on_one_timeline() {
    let cluster = Cluster::start(2, brisk()).await;
    let put = async || doctor(&cluster.client).put(&number(), image()).bytes(&b"x"[..]).await;
    put().await.unwrap();
    cluster.nodes[0].is_on("1-aa");
    cluster.nodes[1].is_on("1-aa");
    put().await.unwrap();
    cluster.client.shared.pool.greet_others().await;
    put().await.unwrap();
    // The other endpoint is of another cluster: found out although nothing was asked of it.
    cluster.nodes[1].is_on("1-bb");
    cluster.client.shared.pool.greet_others().await;
    let error = put().await.unwrap_err();
    assert!(is_forked(&error), "{error}");
    assert!(cluster.client.reach().await.is_ok(), "it is reached, and not believed");
    cluster.client.shared.pool.set_current(1);
    assert!(is_forked(&put().await.unwrap_err()));
    // People took one of them over again: the client goes on there.
    cluster.nodes[0].is_on("2-cc");
    cluster.client.shared.pool.set_current(0);
    put().await.unwrap();
}
