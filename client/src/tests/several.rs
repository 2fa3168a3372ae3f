//! Reading several records: each once and in order, across cuts, never short or wrong without an error.

use super::cluster::{BLOCK_BYTES, Cluster, Whim, brisk};
use super::{body, doctor, number};
use crate::{GetError, OneOfSeveral, RecordId};

fn id(n: u8) -> RecordId {
    RecordId::from_bytes([n; 16])
}

#[tokio::test(flavor = "multi_thread")]
async fn several_records_come_in_the_order_asked_for() {
    let cluster = Cluster::start(1, brisk()).await;
    let parts = vec![body(100_000), vec![], body(200_001)];
    cluster.store().record = parts.clone();
    let doctor = doctor(&cluster.client);
    let mut several = doctor.get_several(&number(), [3, 0xff, 1, 2].map(id)).await.unwrap();
    let mut seen = Vec::new();
    while let Some(one) = several.next().await {
        match one.unwrap() {
            OneOfSeveral::Refused(refused) => {
                assert_eq!(refused.reason, None);
                seen.push((refused.record, 0));
            }
            OneOfSeveral::Damaged(damaged) => panic!("{damaged}"),
            // What is not taken is passed over.
            OneOfSeveral::Record(record) if record.summary().record == id(1) => seen.push((id(1), 1)),
            OneOfSeveral::Record(record) => {
                let (record_id, version) = (record.summary().record, record.summary().version);
                assert!(record.bytes().await.unwrap() == parts.concat());
                seen.push((record_id, version));
            }
        }
    }
    assert_eq!(seen, [(id(3), 5), (id(0xff), 0), (id(1), 1), (id(2), 5)]);
    assert_eq!(cluster.store().severals.len(), 1, "one call");
    for wrong in [vec![], (1..=65).map(id).collect()] {
        let error = doctor.get_several(&number(), wrong).await.unwrap_err();
        assert_eq!(error.field(), Some("record_ids"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_does_not_open_keeps_no_other_from_being_read() {
    let cluster = Cluster::start(1, brisk()).await;
    let whole = body(200_000);
    cluster.store().record = vec![whole.clone()];
    for takes in [true, false] {
        let records = [0xdd, 1, 0xde, 2].map(id);
        let mut several = doctor(&cluster.client).get_several(&number(), records).await.unwrap();
        let mut seen = Vec::new();
        while let Some(one) = several.next().await {
            match one.unwrap() {
                OneOfSeveral::Damaged(damaged) => seen.push((damaged.record, "damaged")),
                OneOfSeveral::Refused(refused) => panic!("{refused:?}"),
                OneOfSeveral::Record(record) if !takes => seen.push((record.summary().record, "passed over")),
                OneOfSeveral::Record(record) => {
                    let record_id = record.summary().record;
                    seen.push(match record.bytes().await {
                        Ok(bytes) => {
                            assert!(bytes == whole);
                            (record_id, "whole")
                        }
                        Err(GetError::Damaged(_)) => (record_id, "ends early"),
                        Err(other) => panic!("{other}"),
                    });
                }
            }
        }
        let expected = if takes {
            ["damaged", "whole", "ends early", "whole"]
        } else {
            ["damaged", "passed over", "passed over", "passed over"]
        };
        assert_eq!(seen, records.into_iter().zip(expected).collect::<Vec<_>>());
    }
    assert_eq!(cluster.store().severals.len(), 2, "one call each");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_read_of_several_goes_on_with_what_is_left() {
    let cluster = Cluster::start(3, brisk()).await;
    let whole = body(24 * BLOCK_BYTES + 17);
    cluster.store().record = vec![whole.clone()];
    let mut several = doctor(&cluster.client).get_several(&number(), [1, 2, 0xff, 3].map(id)).await.unwrap();
    let mut bodies = Vec::new();
    let mut refused = Vec::new();
    while let Some(one) = several.next().await {
        match one.unwrap() {
            OneOfSeveral::Refused(one) => refused.push(one.record),
            OneOfSeveral::Damaged(damaged) => panic!("{damaged}"),
            OneOfSeveral::Record(mut record) => {
                let mut bytes = Vec::new();
                while let Some(chunk) = record.chunk().await.unwrap() {
                    bytes.extend_from_slice(&chunk);
                    // In the middle of the first.
                    if bodies.is_empty() && bytes.len() >= BLOCK_BYTES && cluster.store().gets.is_empty() {
                        cluster.nodes[0].die();
                    }
                }
                assert!(bytes == whole, "every byte once, in order");
                bodies.push(record.summary().record);
            }
        }
    }
    assert_eq!((bodies, refused), (vec![id(1), id(2), id(3)], vec![id(0xff)]));
    let store = cluster.store();
    let [(node, rest)] = &store.gets[..] else { panic!("the record that was cut goes on once") };
    assert_eq!((*node, rest.version, &rest.record_id[..]), (1, 5, &[1; 16][..]));
    assert!(rest.range_start >= BLOCK_BYTES as u64, "nothing read is asked for again");
    let left: Vec<Vec<u8>> = store.severals[1].1.record_ids.iter().map(|id| vec![id[0]]).collect();
    assert_eq!((store.severals.len(), left), (2, vec![vec![2], vec![0xff], vec![3]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn short_and_wrong_bodies_are_errors() {
    let cluster = Cluster::start(1, brisk()).await;
    cluster.store().record = vec![body(100_000)];
    for (whim, name) in [(Whim::EndsAt(99_999), "short"), (Whim::Flips(5), "wrong")] {
        cluster.store().whims.entry(0).or_default().push_back(whim);
        let mut several = doctor(&cluster.client).get_several(&number(), [1, 2].map(id)).await.unwrap();
        let Some(Ok(OneOfSeveral::Record(record))) = several.next().await else { panic!("no record") };
        let error = record.bytes().await.unwrap_err();
        match name {
            "short" => assert!(matches!(error, GetError::EndedEarly { bytes: 99_999, expected: 100_000 }), "{error}"),
            _ => assert!(matches!(error, GetError::WrongHash { part: 1 }), "{error}"),
        }
        // It does not go on as if nothing had been.
        assert!(several.next().await.is_none_or(|next| next.is_err()));
    }
}
