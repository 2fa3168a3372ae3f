//! Holding a cluster to its journal: nodes whose journals grow, lag, are cut and are rewritten.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use kura_proto::v1;
use kura_proto::v1::audit_server::{Audit, AuditServer};
use sha2::Sha256;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use super::cluster::{PlainDial, brisk};
use crate::client::Shared;
use crate::id::Hexadecimal;
use crate::journal::Kept;
use crate::pool::Pool;
use crate::{Client, JournalError, JournalHead, Reason, Receipt, journal_leaf};

/// A node's journal, and what it does wrong.
#[derive(Default)]
struct Node {
    entries: Vec<Vec<u8>>,
    timeline: u64,
    cluster: u8,
    /// Claims to be this long.
    claims: Option<u64>,
    /// The log index that it tells, if not its length.
    index: Option<u64>,
    sealed_per_page: usize,
}

impl Node {
    fn tree(&self, size: u64) -> MemoryBackedTree<Sha256, Vec<u8>> {
        let mut tree = MemoryBackedTree::new();
        self.entries[..size as usize].iter().for_each(|entry| tree.push(entry.clone()));
        tree
    }

    fn root(&self, size: u64) -> Bytes {
        let tree = self.tree(size);
        Bytes::copy_from_slice(tree.root().as_bytes())
    }

    fn has(&self, size: u64) -> Result<(), Status> {
        match size <= self.entries.len() as u64 {
            true => Ok(()),
            false => Err(crate::fault::tests::status("unavailable", 2, 1)),
        }
    }
}

#[derive(Clone)]
struct Served(Arc<Mutex<Node>>);

#[tonic::async_trait]
impl Audit for Served {
    async fn head(&self, _: Request<v1::HeadRequest>) -> Result<Response<v1::HeadReply>, Status> {
        let node = self.0.lock().unwrap();
        let size = node.claims.unwrap_or(node.entries.len() as u64);
        let root = node.root(size.min(node.entries.len() as u64));
        let head = v1::JournalHead { timeline: node.timeline, index: node.index.unwrap_or(size), size, root };
        let cluster_id = Bytes::from(vec![node.cluster; 16]);
        Ok(Response::new(v1::HeadReply { cluster_id, node: "n".into(), head: Some(head), signed: vec![] }))
    }

    async fn consistency(
        &self,
        request: Request<v1::ConsistencyRequest>,
    ) -> Result<Response<v1::ConsistencyReply>, Status> {
        let (node, ask) = (self.0.lock().unwrap(), request.into_inner());
        node.has(ask.to)?;
        let proof = match (ask.from, ask.to - ask.from) {
            (0, _) => vec![],
            (_, more) => node.tree(ask.to).prove_consistency(more as usize).as_bytes().to_vec(),
        };
        let mut peaks = Vec::new();
        let mut from = 0;
        while from < ask.from {
            let size = 1 << (ask.from - from).ilog2();
            let mut tree = MemoryBackedTree::<Sha256, Vec<u8>>::new();
            node.entries[from as usize..(from + size) as usize].iter().for_each(|entry| tree.push(entry.clone()));
            peaks.push(Bytes::copy_from_slice(tree.root().as_bytes()));
            from += size;
        }
        let proof = proof.chunks(32).map(Bytes::copy_from_slice).collect();
        Ok(Response::new(v1::ConsistencyReply { proof, peaks }))
    }

    async fn inclusion(&self, request: Request<v1::InclusionRequest>) -> Result<Response<v1::InclusionReply>, Status> {
        let (node, ask) = (self.0.lock().unwrap(), request.into_inner());
        node.has(ask.size)?;
        let proof = node.tree(ask.size).prove_inclusion(ask.position as usize).as_bytes().to_vec();
        let proof = proof.chunks(32).map(Bytes::copy_from_slice).collect();
        let entry = node.entries[ask.position as usize].clone().into();
        Ok(Response::new(v1::InclusionReply { proof, entry }))
    }

    async fn sealed(&self, request: Request<v1::SealedRequest>) -> Result<Response<v1::SealedReply>, Status> {
        let (node, ask) = (self.0.lock().unwrap(), request.into_inner());
        node.has(ask.to)?;
        let found = &node.entries[ask.from as usize..ask.to as usize];
        let entries = found.iter().take(node.sealed_per_page).map(|entry| entry.clone().into()).collect();
        Ok(Response::new(v1::SealedReply { entries }))
    }

    async fn list(&self, request: Request<v1::JournalRequest>) -> Result<Response<v1::JournalReply>, Status> {
        let page = request.into_inner().page.unwrap_or_default();
        // Each list adds an entry; it ends only if the client says where it began.
        let mut node = self.0.lock().unwrap();
        node.entries.push(vec![0]);
        let own = node.entries.len() as u64 - 1;
        let before = if page.before == 0 { own } else { page.before };
        let entry = |position| v1::Access {
            journal_position: position,
            actor: Some(v1::Actor { kind: 1, ..Default::default() }),
            action: 11,
            ..Default::default()
        };
        let end = before.min(page.cursor + 2);
        let accesses = (page.cursor..end).map(entry).collect();
        Ok(Response::new(v1::JournalReply { accesses, cursor: end, more: end < before, journal_position: own }))
    }

    async fn list_reviews(&self, _: Request<v1::ListReviewsRequest>) -> Result<Response<v1::ListReviewsReply>, Status> {
        Err(Status::unimplemented("list_reviews"))
    }

    async fn review(&self, _: Request<v1::ReviewRequest>) -> Result<Response<v1::Receipt>, Status> {
        Err(Status::unimplemented("review"))
    }

    async fn facility_accesses(
        &self,
        _: Request<v1::FacilityAccessesRequest>,
    ) -> Result<Response<v1::JournalReply>, Status> {
        // Says that there is more, but not where.
        Ok(Response::new(v1::JournalReply { more: true, ..Default::default() }))
    }
}

async fn node(entries: u32) -> (Arc<Mutex<Node>>, String) {
    let entries = (0..entries).map(|n| n.to_be_bytes().to_vec()).collect();
    let node = Arc::new(Mutex::new(Node { entries, sealed_per_page: 3, ..Node::default() }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let server = tonic::transport::Server::builder().add_service(AuditServer::new(Served(Arc::clone(&node))));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    (node, address)
}

fn client(addresses: &[&String], file: Option<&Path>) -> Client {
    let names = (0..addresses.len()).map(|place| format!("node-{place}")).collect();
    let dial = PlainDial(addresses.iter().map(|address| (*address).clone()).collect());
    let pool = Pool::new(Box::new(dial), names).unwrap();
    pool.set_current(0);
    let shared = Shared::new(pool, brisk(), None);
    let kept = Kept::open(file.map(Path::to_owned)).unwrap();
    Client { shared: Arc::new(shared.with_journal(kept)) }
}

fn receipt(position: u64, entry: &[u8]) -> Receipt {
    let leaf = Hexadecimal(&journal_leaf(entry)).to_string();
    // The fake's log index is the number of its entries.
    let (index, nil) = (position + 1, "00".repeat(16));
    format!("kura2:0:1:{index}:{nil}:{nil}:1:{position}:not-awaited:{leaf}").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_grows_is_followed_and_the_last_head_survives_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("head");
    let (node, address) = node(0).await;
    let journal = client(&[&address], Some(&file)).journal();
    for size in [0, 1, 2, 9, 9, 64] {
        node.lock().unwrap().entries.resize_with(size, || vec![1]);
        assert_eq!(journal.head().await.unwrap().size(), size as u64);
    }
    let again = client(&[&address], Some(&file)).journal();
    assert_eq!(again.known().await, journal.known().await);
    assert_eq!(again.known().await.unwrap().size(), 64);
    assert_eq!(client(&[&address], None).journal().known().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_was_rewritten_is_an_alarm_in_every_later_run() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("head");
    let (node, address) = node(20).await;
    let before = client(&[&address], Some(&file)).journal().head().await.unwrap();
    // One byte of one old entry; the journal is as long as before, then longer.
    node.lock().unwrap().entries[3][0] ^= 1;
    for entries in [0, 5] {
        (0..entries).for_each(|_| node.lock().unwrap().entries.push(vec![2]));
        let journal = client(&[&address], Some(&file)).journal();
        let error = journal.head().await.unwrap_err();
        let JournalError::Rewritten { rewritten } = &error else { panic!("{error}") };
        assert_eq!((rewritten.known, rewritten.told.size()), (before, 20 + entries));
        assert!(error.is_alarm() && !error.may_retry());
        assert!(error.to_string().contains("keep both heads") && !error.to_string().contains("take-over"), "{error}");
        assert_eq!(journal.known().await, Some(before), "what is false replaces nothing");
    }
    // After a take-over the words say what to ask for.
    node.lock().unwrap().timeline = 1;
    let error = client(&[&address], Some(&file)).journal().head().await.unwrap_err();
    assert!(error.to_string().contains("loss statement"), "{error}");
    node.lock().unwrap().cluster = 9;
    let error = client(&[&address], Some(&file)).journal().head().await.unwrap_err();
    assert!(matches!(error, JournalError::OtherCluster {}), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_the_journal_hears_each_head_and_ends_with_the_alarm() {
    let (node, address) = node(5).await;
    let (mut sizes, mut failures) = (Vec::new(), 0);
    let journal = client(&[&address], None).journal();
    let following = journal.follow(Duration::from_millis(1), |told| {
        let mut node = node.lock().unwrap();
        match (told, failures) {
            (Ok(head), 0) => {
                sizes.push(head.size());
                if sizes.len() < 3 {
                    node.entries.push(vec![1]);
                } else {
                    node.entries.truncate(2);
                }
            }
            // It has fewer than were seen: perhaps it lags.
            (Err(error), 0) => {
                assert!(error.may_retry(), "{error}");
                failures = 1;
                node.entries = vec![vec![9]; 10];
            }
            (told, _) => assert!(told.as_ref().is_err_and(JournalError::is_alarm), "{told:?}"),
        }
    });
    let error = following.await;
    assert!(matches!(error, JournalError::Rewritten { .. }), "{error}");
    assert_eq!((&sizes[..], failures), (&[5, 6, 7][..], 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lags_is_passed_over_and_a_cut_journal_is_said_so() {
    let ((behind, first), (ahead, second)) = (node(10).await, node(15).await);
    let journal = client(&[&second], None).journal();
    let seen = journal.head().await.unwrap();
    let both = client(&[&first, &second], None);
    *both.shared.journal.lock().await = Kept::default();
    both.shared.journal.lock().await.keep(seen).unwrap();
    assert_eq!(both.journal().head().await.unwrap(), seen, "from the second");
    // Now nobody has what was seen.
    let cut = ahead.lock().unwrap().entries.split_off(12);
    let error = both.journal().head().await.unwrap_err();
    assert!(matches!(&error, JournalError::Later(later) if later.reason() == Reason::JournalBehind), "{error}");
    assert!(error.may_retry() && !error.is_alarm() && error.to_string().contains("behind"), "{error}");
    // One that has come as far in the log and has fewer entries is not behind.
    ahead.lock().unwrap().index = Some(seen.index());
    let error = both.journal().head().await.unwrap_err();
    assert!(matches!(&error, JournalError::Rewritten { .. }), "{error}");
    let told: JournalHead = seen.to_string().replace(":15:15:", ":15:12:").parse().unwrap();
    assert!(both.journal().continues(&seen, &told).await.unwrap_err().is_alarm());
    ahead.lock().unwrap().index = None;
    // It comes back, and all is well; it comes back otherwise, and is not.
    ahead.lock().unwrap().entries.extend(cut);
    assert_eq!(both.journal().head().await.unwrap(), seen);
    behind.lock().unwrap().entries.extend(vec![vec![7]; 30]);
    ahead.lock().unwrap().entries.truncate(5);
    assert!(matches!(both.journal().head().await.unwrap_err(), JournalError::Rewritten { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipts_entry_is_there_as_it_was_or_it_is_an_alarm() {
    let (node, address) = node(9).await;
    let journal = client(&[&address], None).journal();
    let entry = 4_u32.to_be_bytes();
    assert_eq!(journal.includes(&receipt(4, &entry)).await.unwrap().size(), 9);
    for (position, entry) in [(5, &entry[..]), (4, b"another")] {
        let error = journal.includes(&receipt(position, entry)).await.unwrap_err();
        assert!(matches!(error, JournalError::NotIncluded { position: p } if p == position), "{error}");
    }
    // One that is not there yet is waited for, in vain.
    let error = journal.includes(&receipt(9, &entry)).await.unwrap_err();
    assert!(matches!(&error, JournalError::Later(later) if later.reason() == Reason::JournalBehind), "{error}");
    // From a node that has come as far it is an alarm: the entry should be there.
    node.lock().unwrap().index = Some(10);
    let error = journal.includes(&receipt(9, &entry)).await.unwrap_err();
    assert!(matches!(error, JournalError::NotIncluded { position: 9 }), "{error}");
    assert!(error.is_alarm());
    node.lock().unwrap().index = None;
    let old: Receipt = format!("kura1:0:1:1:{}:{}:1:4:not-awaited", "00".repeat(16), "00".repeat(16)).parse().unwrap();
    assert_eq!(journal.includes(&old).await.unwrap_err().field(), Some("receipt"));
    // The node shows the right entry, with a proof of a journal that is not the head's.
    let known = journal.head().await.unwrap();
    node.lock().unwrap().entries[8] = vec![3];
    let error = journal.includes(&receipt(4, &entry)).await.unwrap_err();
    assert!(matches!(&error, JournalError::Rewritten { .. }), "{error} {known}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_head_kept_elsewhere_is_continued_with_its_subtrees() {
    let (node, address) = node(11).await;
    let journal = client(&[&address], None).journal();
    let older = journal.head().await.unwrap();
    (0..6).for_each(|_| node.lock().unwrap().entries.push(vec![5]));
    let newer = journal.head().await.unwrap();
    assert_eq!(journal.continues(&older, &newer).await.unwrap().len(), 3);
    let text = older.to_string();
    let forged: JournalHead = format!("{}{}", &text[..text.len() - 64], "ab".repeat(32)).parse().unwrap();
    let error = journal.continues(&forged, &newer).await.unwrap_err();
    assert!(error.is_alarm(), "{error}");
    assert!(matches!(journal.continues(&newer, &older).await.unwrap_err(), JournalError::Later(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn sealed_entries_and_lists_come_page_by_page_and_end() {
    let (node, address) = node(8).await;
    let client = client(&[&address], None);
    let journal = client.journal();
    let entries = journal.sealed(1, 8).take(usize::MAX).await.unwrap();
    assert_eq!(entries.len(), 7);
    assert_eq!(entries[0][..], 1_u32.to_be_bytes());
    let listed = journal.list().oldest_first().stream().take(usize::MAX).await.unwrap();
    assert_eq!(listed.iter().map(|access| access.journal_position).collect::<Vec<_>>(), (0..8).collect::<Vec<_>>());
    let error = super::doctor(&client).facility_accesses().stream().next().await.unwrap().unwrap_err();
    assert!(error.to_string().contains("where the next begins"), "{error}");
    let error = journal.list().page(0).stream().next().await.unwrap().unwrap_err();
    assert_eq!(error.field(), Some("limit"));
    node.lock().unwrap().sealed_per_page = 0;
    let error = journal.sealed(1, 8).next().await.unwrap().unwrap_err();
    assert!(matches!(error, JournalError::Broken(_)), "{error}");
}
