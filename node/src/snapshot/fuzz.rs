//! A fuzz target of receptions: whatever pieces come, in whatever order, what is put together is what was offered, and a
//! sender that keeps to the rules comes to the end.

use std::sync::Arc;

use kura_fuzz::{CASES, DRAWN_BYTES_MAX};
use kura_proto::v1;

use super::tests::manifest;
use super::*;

/// Files: two that RocksDB never changes, one of the same content as the first, an empty one, one that it writes to.
const FILES: [(&str, &[u8]); 5] = [
    ("000004.sst", b"a table of forty bytes, or a few more..."),
    ("000005.blob", b"seven.."),
    ("000006.sst", b"a table of forty bytes, or a few more..."),
    ("000007.sst", b""),
    ("MANIFEST-000003", b"manifest"),
];

const ID: u8 = 3;

fn piece(file: u32, offset: u64, data: &[u8]) -> v1::SnapshotPiece {
    v1::SnapshotPiece { snapshot_id: vec![ID; 16].into(), file, offset, data: data.to_vec().into() }
}

/// A piece from five drawn bytes: file, offset, length, how it is wrong, and with what; most are what comes next.
fn drawn_piece(step: &[u8], held: &[u64]) -> v1::SnapshotPiece {
    let file = usize::from(step[0]) % (FILES.len() + 1);
    let content = FILES.get(file).map_or(&b"none"[..], |(_, content)| *content);
    let next = usize::try_from(held.get(file).copied().unwrap_or(0)).unwrap_or(0);
    let from = if step[3] % 8 == 1 { usize::from(step[1]) % (content.len() + 2) } else { next }.min(content.len());
    let to = (from + usize::from(step[2]) % 48).min(content.len());
    let mut data = content[from..to].to_vec();
    let mut offset = from as u64;
    match step[3] % 8 {
        2 => data.iter_mut().take(1).for_each(|byte| *byte ^= step[4] | 1),
        3 => data.extend_from_slice(&[step[4]; 3]),
        4 => offset = u64::MAX - u64::from(step[4]),
        _ => {}
    }
    piece(u32::try_from(file).unwrap_or(0), offset, &data)
}

#[test]
fn fuzz_pieces() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let manifest = manifest(ID, &FILES);
    bolero::check!().with_iterations(CASES / 32).with_max_len(DRAWN_BYTES_MAX).for_each(|drawn: &[u8]| {
        let directory = tempfile::tempdir().unwrap();
        let receiver = SnapshotReceiver::open(directory.path().to_owned(), 0).unwrap();
        let offer = || receiver.offer("voter-1", manifest.clone(), None).unwrap();
        let Offered { mut reception, mut held } = offer();
        for step in drawn.chunks_exact(5).take(24) {
            if step[3] % 32 == 31 {
                let before = std::mem::replace(&mut reception, offer().reception);
                let late = runtime.block_on(before.take(piece(0, 0, b"a")));
                assert!(matches!(late, Err(ReceiveError::Replaced)), "{late:?}");
                held = offer_held(&receiver, &manifest, &mut reception);
            }
            let piece = drawn_piece(step, &held);
            let (file, end) = (piece.file as usize, piece.offset.saturating_add(piece.data.len() as u64));
            match runtime.block_on(reception.take(piece)) {
                // Of a file whose content has arrived under another name anything is taken, and nothing written.
                Ok(()) => held[file] = held[file].max(end),
                Err(ReceiveError::Damaged(_)) => held[file] = 0,
                Err(ReceiveError::Piece { .. }) => {}
                Err(other) => panic!("{other}"),
            }
        }
        // Now somebody sends what is right: from what is held, and again from the beginning where that was damaged.
        for _ in 0..=FILES.len() {
            held = offer_held(&receiver, &manifest, &mut reception);
            for (file, (_, content)) in FILES.iter().enumerate() {
                let from = usize::try_from(held[file]).unwrap();
                if from < content.len() {
                    let rest = piece(u32::try_from(file).unwrap(), held[file], &content[from..]);
                    let _ = runtime.block_on(reception.take(rest));
                }
            }
        }
        let snapshot = reception.assemble().expect("everything was sent");
        for (name, content) in FILES {
            assert_eq!(std::fs::read(snapshot.directory.join(name)).unwrap(), content, "{name}");
        }
    });
}

fn offer_held(receiver: &SnapshotReceiver, manifest: &SnapshotManifest, reception: &mut Arc<Reception>) -> Vec<u64> {
    let offered = receiver.offer("voter-1", manifest.clone(), None).unwrap();
    *reception = offered.reception;
    offered.held
}
