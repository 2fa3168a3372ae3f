//! Receptions without a network: what is asked for, what is kept, what is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kura_cluster::ClusterId;
use kura_proto::v1;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::*;
use crate::raft::types::{Member, Membership, StoredMembership, log_id};

fn content(seed: u8, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| (i.wrapping_mul(31) >> 3) as u8 ^ seed).collect()
}

pub(super) fn manifest(id: u8, files: &[(&str, &[u8])]) -> SnapshotManifest {
    let members = BTreeMap::from([(1, Member::default())]);
    let membership = Membership::new(vec![BTreeSet::from([1])], members).unwrap();
    SnapshotManifest {
        snapshot_id: [id; 16],
        cluster_id: ClusterId([7; 16]),
        timeline: 0,
        last_log_id: Some(log_id(1, 9)),
        membership: StoredMembership::new(None, membership),
        state_digest: [0; 32],
        files: files
            .iter()
            .map(|(name, content)| SnapshotFile {
                name: FileName::parse(name).unwrap(),
                bytes: content.len() as u64,
                sha256: Some(Sha256::digest(content).into()),
            })
            .collect(),
    }
}

struct Receiving {
    directory: TempDir,
    receiver: Arc<SnapshotReceiver>,
}

impl Receiving {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let receiver = open(directory.path(), 0);
        Self { directory, receiver }
    }

    async fn offer(&self, manifest: &SnapshotManifest) -> Result<Offered, ReceiveError> {
        self.offer_beside(manifest, None).await
    }

    async fn offer_beside(&self, manifest: &SnapshotManifest, state: Option<&Path>) -> Result<Offered, ReceiveError> {
        let (receiver, manifest) = (Arc::clone(&self.receiver), manifest.clone());
        let state = state.map(Path::to_path_buf);
        tokio::task::spawn_blocking(move || receiver.offer("n1", manifest, state.as_deref())).await.unwrap()
    }

    fn left(&self) -> usize {
        std::fs::read_dir(self.directory.path()).unwrap().count()
    }
}

fn open(directory: &Path, reserve_bytes: u64) -> Arc<SnapshotReceiver> {
    Arc::new(SnapshotReceiver::open(directory.to_owned(), reserve_bytes).unwrap())
}

fn piece(id: u8, file: u32, offset: usize, data: &[u8]) -> v1::SnapshotPiece {
    let data = data[offset..].to_vec().into();
    v1::SnapshotPiece { snapshot_id: vec![id; 16].into(), file, offset: offset as u64, data }
}

#[tokio::test]
async fn a_cut_reception_goes_on_under_another_snapshot_and_after_a_restart() {
    let (a, b, c) = (content(1, 5000), content(2, 3000), content(3, 10));
    let receiving = Receiving::new();
    let first = manifest(1, &[("000001.sst", &a), ("000002.sst", &b), ("CURRENT", &c)]);
    let offered = receiving.offer(&first).await.unwrap();
    assert_eq!(offered.held, [0, 0, 0]);
    offered.reception.take(piece(1, 0, 0, &a)).await.unwrap();
    offered.reception.take(piece(1, 1, 0, &b[..1000])).await.unwrap();

    // Another leader names the same content differently, and has one file more and one less.
    let second = manifest(2, &[("000001.sst", &c), ("000007.sst", &b), ("000009.sst", &a), ("MANIFEST-1", b"")]);
    let restarted = Receiving { receiver: open(receiving.directory.path(), 0), ..receiving };
    let offered = restarted.offer(&second).await.unwrap();
    assert_eq!(offered.held, [0, 1000, 5000, 0]);
    assert!(
        matches!(offered.reception.assemble(), Err(ReceiveError::Incomplete(name)) if name.as_str() == "000001.sst")
    );
    offered.reception.take(piece(2, 0, 0, &c)).await.unwrap();
    offered.reception.take(piece(2, 1, 1000, &b)).await.unwrap();
    assert_eq!(offered.reception.received_bytes(), 2010);

    let snapshot = offered.reception.assemble().unwrap();
    for (name, expected) in [("000001.sst", &c), ("000007.sst", &b), ("000009.sst", &a), ("MANIFEST-1", &vec![])] {
        assert_eq!(&std::fs::read(snapshot.directory.join(name)).unwrap(), expected);
    }
    assert_eq!(Snapshot::open(snapshot.directory.clone()).unwrap(), snapshot);
    assert_eq!(snapshot.manifest, second);
    let receiver = Arc::clone(&restarted.receiver);
    tokio::task::spawn_blocking(move || receiver.clear()).await.unwrap().unwrap();
    assert_eq!(restarted.left(), 1, "only the assembled directory");
    drop(open(restarted.directory.path(), 0));
    assert_eq!(restarted.left(), 0, "a start removes what an installation left");
}

#[tokio::test]
async fn a_damaged_file_is_named_deleted_and_taken_anew() {
    let (a, b) = (content(1, 5000), content(2, 3000));
    let receiving = Receiving::new();
    let offered = manifest(1, &[("000001.sst", &a), ("000002.sst", &b)]);
    let reception = receiving.offer(&offered).await.unwrap().reception;
    reception.take(piece(1, 0, 0, &a)).await.unwrap();
    let mut wrong = b.clone();
    wrong[2999] ^= 1;
    let refused = reception.take(piece(1, 1, 0, &wrong)).await.unwrap_err();
    assert!(matches!(&refused, ReceiveError::Damaged(name) if name.as_str() == "000002.sst"));
    let status = tonic::Status::from(refused);
    assert_eq!(receiver::damaged_file(&status).unwrap().as_str(), "000002.sst");
    assert_eq!(status.message(), "the file 000002.sst arrived damaged and was deleted");
    assert!(reception.assemble().is_err());

    let again = receiving.offer(&offered).await.unwrap();
    assert_eq!(again.held, [5000, 0]);
    again.reception.take(piece(1, 1, 0, &b)).await.unwrap();
    assert!(again.reception.assemble().is_ok());
}

#[tokio::test]
async fn pieces_that_do_not_fit_are_refused() {
    let (a, b) = (content(1, 5000), content(2, 3000));
    let receiving = Receiving::new();
    let offered = manifest(1, &[("000001.sst", &a), ("000002.sst", &b)]);
    let reception = receiving.offer(&offered).await.unwrap().reception;
    reception.take(piece(1, 0, 0, &a[..1000])).await.unwrap();
    for wrong in [piece(1, 0, 2000, &a), piece(1, 0, 0, &a[..10]), piece(1, 1, 1, &b), piece(1, 2, 0, &a)] {
        let what = (wrong.file, wrong.offset);
        let refused = reception.take(wrong).await;
        assert!(matches!(refused, Err(ReceiveError::Piece { .. })), "{what:?}");
    }
    let longer = [&a[..], &[0]].concat();
    assert!(matches!(reception.take(piece(1, 0, 1000, &longer)).await, Err(ReceiveError::Piece { .. })));
    // None of that harmed what was there.
    assert_eq!(receiving.offer(&offered).await.unwrap().held, [1000, 0]);
}

#[tokio::test]
async fn a_new_offer_ends_the_earlier_one() {
    let a = content(1, 5000);
    let receiving = Receiving::new();
    let offered = manifest(1, &[("000001.sst", &a)]);
    let before = receiving.offer(&offered).await.unwrap().reception;
    before.take(piece(1, 0, 0, &a[..1000])).await.unwrap();
    let now = receiving.offer(&offered).await.unwrap();
    assert_eq!(now.held, [1000]);
    assert!(matches!(before.take(piece(1, 0, 1000, &a)).await, Err(ReceiveError::Replaced)));
    assert!(matches!(before.assemble(), Err(ReceiveError::Replaced)));
    now.reception.take(piece(1, 0, 1000, &a)).await.unwrap();
    assert!(receiving.receiver.reception("n1", &[1; 16]).is_ok());
    assert!(receiving.receiver.reception("n2", &[1; 16]).is_err(), "offered by another node");
    assert!(receiving.receiver.reception("n1", &[2; 16]).is_err());
}

#[tokio::test]
async fn files_of_the_own_database_are_not_asked_for() {
    let (a, b, c) = (content(1, 5000), content(2, 3000), content(3, 10));
    let receiving = Receiving::new();
    let state = tempfile::tempdir().unwrap();
    let mut other = b.clone();
    other[0] ^= 1;
    for (name, content) in [("000001.sst", &a), ("000002.sst", &other), ("CURRENT", &c)] {
        std::fs::write(state.path().join(name), content).unwrap();
    }
    let offered = manifest(1, &[("000001.sst", &a), ("000002.sst", &b), ("000003.sst", &c), ("CURRENT", &c)]);
    let offered = receiving.offer_beside(&offered, Some(state.path())).await.unwrap();
    // The same name with another content, an unknown name, and a file that the database may change.
    assert_eq!(offered.held, [5000, 0, 0, 0]);
    offered.reception.take(piece(1, 1, 0, &b)).await.unwrap();
    offered.reception.take(piece(1, 2, 0, &c)).await.unwrap();
    // The sender does not know that two files are the same.
    offered.reception.take(piece(1, 3, 0, &c)).await.unwrap();
    let snapshot = offered.reception.assemble().unwrap();
    assert_eq!(std::fs::read(snapshot.directory.join("CURRENT")).unwrap(), c);
    // What RocksDB may write to is not shared.
    std::fs::write(snapshot.directory.join("CURRENT"), "changed").unwrap();
    assert_eq!(std::fs::read(offered.reception.assemble().unwrap().directory.join("CURRENT")).unwrap(), c);
}

#[tokio::test]
async fn a_file_of_the_own_database_is_read_again_each_time_it_is_taken() {
    let a = content(1, 5000);
    let receiving = Receiving::new();
    let state = tempfile::tempdir().unwrap();
    let own = state.path().join("000001.sst");
    std::fs::write(&own, &a).unwrap();
    let offered = manifest(1, &[("000001.sst", &a)]);
    assert_eq!(receiving.offer_beside(&offered, Some(state.path())).await.unwrap().held, [5000]);
    let receiver = Arc::clone(&receiving.receiver);
    tokio::task::spawn_blocking(move || receiver.clear()).await.unwrap().unwrap();
    // It rots: same inode, length and time.
    let modified = own.metadata().unwrap().modified().unwrap();
    let mut rotten = a.clone();
    rotten[2500] ^= 1;
    std::fs::write(&own, rotten).unwrap();
    std::fs::File::options().write(true).open(&own).unwrap().set_modified(modified).unwrap();
    assert_eq!(receiving.offer_beside(&offered, Some(state.path())).await.unwrap().held, [0]);
}

#[tokio::test]
async fn what_does_not_fit_on_the_disk_is_refused_and_leftovers_make_room() {
    let (a, b) = (content(1, 5000), content(2, 3000));
    let receiving = Receiving::new();
    let first = manifest(1, &[("000001.sst", &a)]);
    let reception = receiving.offer(&first).await.unwrap().reception;
    reception.take(piece(1, 0, 0, &a)).await.unwrap();

    // Young leftovers stay while there is room, for the leader may change back.
    let second = manifest(2, &[("000001.sst", &b)]);
    receiving.offer(&second).await.unwrap();
    assert_eq!(receiving.offer(&first).await.unwrap().held, [5000]);

    let full = Receiving { receiver: open(receiving.directory.path(), u64::MAX / 2), ..receiving };
    assert_eq!(full.offer(&first).await.unwrap().held, [5000], "needs nothing");
    assert!(matches!(full.offer(&second).await, Err(ReceiveError::Space { .. })));
    assert_eq!(full.left(), 0);
}

#[tokio::test]
async fn old_leftovers_go() {
    let (a, b) = (content(1, 5000), content(2, 3000));
    let receiving = Receiving::new();
    let first = manifest(1, &[("000001.sst", &a)]);
    let reception = receiving.offer(&first).await.unwrap().reception;
    reception.take(piece(1, 0, 0, &a[..10])).await.unwrap();
    for entry in std::fs::read_dir(receiving.directory.path()).unwrap() {
        let file = std::fs::File::options().write(true).open(entry.unwrap().path()).unwrap();
        file.set_modified(SystemTime::now() - LEFTOVER_AGE_MAX - Duration::from_secs(60)).unwrap();
    }
    // The newest offer's own files are never too old.
    assert_eq!(receiving.offer(&first).await.unwrap().held, [10]);
    receiving.offer(&manifest(2, &[("000001.sst", &b)])).await.unwrap();
    assert_eq!(receiving.left(), 0);
}

#[tokio::test]
async fn an_offer_names_every_content() {
    let receiving = Receiving::new();
    let mut unnamed = manifest(1, &[("000001.sst", b"x")]);
    unnamed.files[0].sha256 = None;
    assert!(matches!(receiving.offer(&unnamed).await, Err(ReceiveError::Unnamed(_))));
    let mut false_empty = manifest(1, &[("000001.sst", b"")]);
    false_empty.files[0].sha256 = Some([1; 32]);
    assert!(matches!(receiving.offer(&false_empty).await, Err(ReceiveError::Damaged(_))));
}

#[tokio::test]
async fn a_part_that_was_complete_but_not_verified_is_verified() {
    let a = content(1, 5000);
    let receiving = Receiving::new();
    let offered = manifest(1, &[("000001.sst", &a)]);
    let reception = receiving.offer(&offered).await.unwrap().reception;
    reception.take(piece(1, 0, 0, &a[..10])).await.unwrap();
    let part = std::fs::read_dir(receiving.directory.path()).unwrap().next().unwrap().unwrap().path();
    for (content, held) in [(&content(9, 5000), 0), (&a, 5000)] {
        std::fs::write(&part, content).unwrap();
        assert_eq!(receiving.offer(&offered).await.unwrap().held, [held]);
    }
}
