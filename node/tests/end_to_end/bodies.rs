//! Bodies of every length, whole, cut off and wrong.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use kura_client::wire::put_request::Step;
use kura_client::wire::records_client::RecordsClient;
use kura_client::{Action, Class, Date, GetError, NewRecord, PutError, wire};
use kura_node::dev::Signal;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::sync::watch;
use tonic::{Code, Status};

use super::memory::Made;
use super::proxy::Proxies;
use super::raw;
use super::world::{CLINIC, HOSPITAL, SOON, World, doctor_through, listed, until};

const MIB: u64 = 1 << 20;

fn image() -> NewRecord {
    NewRecord::new(Class::Image, "application/dicom", Date::today())
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_every_length_come_back_byte_exact_whole_and_in_ranges() {
    let world = World::start(2, 0).await;
    let number = world.enrol(1).await;
    let (hospital, clinic) = (world.doctor(HOSPITAL), world.doctor(CLINIC));
    for bytes in [0, 1, 64 << 10, MIB - 1, MIB, MIB + 1, 40 * MIB] {
        let body = Made::noise(bytes, bytes).gather().await;
        // As a reader, whose length nobody knows, and as bytes.
        let streamed = hospital.put(&number, image()).body(Made::noise(bytes, bytes)).await.unwrap();
        let handed = hospital.put(&number, image()).bytes(body.clone()).await.unwrap();
        for record in [streamed.record(), handed.record()] {
            let read = clinic.get(&number, record).await.unwrap();
            assert_eq!((read.summary().bytes, read.parts().len()), (bytes, 1));
            assert_eq!(read.parts()[0].sha256[..], Sha256::digest(&body)[..]);
            assert!(read.bytes().await.unwrap() == body, "{bytes} bytes came back as others");
        }
        let record = streamed.record();
        for (start, end) in [(0, 1), (bytes / 2, bytes), (MIB - 1, MIB + 1), (bytes.saturating_sub(3), bytes + 9)] {
            if start >= bytes {
                continue;
            }
            let part = clinic.get(&number, record).range(start..end).await.unwrap();
            let end = end.min(bytes);
            assert_eq!(part.range(), start..end);
            let expected = &body[start as usize..end as usize];
            assert!(part.bytes().await.unwrap() == expected, "{start}..{end} of {bytes}");
        }
        let beyond = clinic.get(&number, record).range(bytes + 1..).await.unwrap_err();
        assert!(matches!(beyond, GetError::Invalid(_)), "{beyond}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_parts_stay_apart_and_in_order() {
    let world = World::start(1, 0).await;
    let number = world.enrol(1).await;
    let lengths = [3 * MIB + 7, 0, 5, MIB];
    let (mut put, mut whole) = (world.doctor(HOSPITAL).put(&number, image()), Vec::new());
    for (place, length) in lengths.into_iter().enumerate() {
        let made = Made::noise(place as u64, length);
        whole.extend(Made::noise(place as u64, length).gather().await);
        put = put.part(format!("part {place}"), "application/octet-stream", made);
    }
    let record = put.await.unwrap().record();
    let clinic = world.doctor(CLINIC);
    let read = clinic.get(&number, record).await.unwrap();
    let described: Vec<(String, u64)> = read.parts().iter().map(|part| (part.name.clone(), part.bytes)).collect();
    let expected: Vec<_> =
        lengths.iter().enumerate().map(|(place, length)| (format!("part {place}"), *length)).collect();
    assert_eq!(described, expected);
    let ranges: Vec<_> = (0..lengths.len()).map(|place| read.part_range(place).unwrap()).collect();
    assert!(read.bytes().await.unwrap() == whole);
    for range in ranges.into_iter().filter(|range| !range.is_empty()) {
        let part = clinic.get(&number, record).range(range.clone()).await.unwrap().bytes().await.unwrap();
        assert!(part == whole[range.start as usize..range.end as usize], "{range:?}");
    }
}

/// A body that goes on past a point only when it is told to.
struct Gated {
    made: Made,
    before: u64,
    gate: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Gated {
    fn new(made: Made, before: u64, mut open: watch::Receiver<bool>) -> Self {
        let gate = Box::pin(async move { drop(open.wait_for(|open| *open).await) });
        Self { made, before, gate }
    }
}

impl AsyncRead for Gated {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.before == 0 {
            std::task::ready!(self.gate.as_mut().poll(cx));
            // A gate that is open stays open.
            self.gate = Box::pin(std::future::ready(()));
            return Pin::new(&mut self.made).poll_read(cx, buffer);
        }
        let room = usize::try_from(self.before).unwrap_or(usize::MAX).min(buffer.remaining());
        let mut limited = ReadBuf::new(buffer.initialize_unfilled_to(room));
        std::task::ready!(Pin::new(&mut self.made).poll_read(cx, &mut limited))?;
        let filled = limited.filled().len();
        buffer.advance(filled);
        self.before -= filled as u64;
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_gateway_is_killed_goes_on_at_another_without_sending_all_again() {
    let mut world = World::start(3, 0).await;
    let number = world.enrol(1).await;
    let bytes = 32 * MIB;
    let proxies = Proxies::start(&world.cluster).await;
    let (open, gate) = watch::channel(false);
    let before = proxies.sums().to_nodes;
    let body = Gated::new(Made::noise(5, bytes), 20 * MIB, gate);
    let put = doctor_through(&proxies.client, HOSPITAL).put(&number, image()).body(body);
    let put = tokio::spawn(put.into_future());
    until("twenty MiB sent", SOON, async || match proxies.sums().to_nodes - before {
        sent if sent >= 20 * MIB => Ok(()),
        sent => Err(format!("{sent} bytes")),
    })
    .await;
    let killed = proxies.in_use();
    world.cluster.kill(&killed, Signal::KILL).await.unwrap();
    open.send_replace(true);
    let receipt = put.await.unwrap().unwrap();
    let sent = proxies.sums().to_nodes - before;
    // What a cut may cost: the client's window of 4 MiB, and TLS around everything.
    let limit = bytes + 6 * MIB;
    assert!(sent <= limit, "{sent} bytes went to the nodes for a body of {bytes}");
    assert!(proxies.in_use() == killed && sent >= bytes, "the other voters saw nothing");
    let read = world.doctor(CLINIC).get(&number, receipt.record()).await.unwrap().bytes().await.unwrap();
    assert!(read == Made::noise(5, bytes).gather().await);
    assert_eq!(listed(&world.doctor(CLINIC), &number).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_whose_gateway_is_killed_goes_on_at_another_decided_anew() {
    let mut world = World::start(3, 0).await;
    let number = world.enrol(1).await;
    let bytes = 48 * MIB;
    let record = world.doctor(HOSPITAL).put(&number, image()).body(Made::noise(6, bytes)).await.unwrap().record();
    let proxies = Proxies::start(&world.cluster).await;
    let before = proxies.sums().to_client;
    let mut reader = doctor_through(&proxies.client, CLINIC).get(&number, record).await.unwrap().into_reader();
    let mut read = vec![0; 8 * MIB as usize];
    reader.read_exact(&mut read).await.unwrap();
    world.cluster.kill(&proxies.in_use(), Signal::KILL).await.unwrap();
    reader.read_to_end(&mut read).await.unwrap();
    assert!(read == Made::noise(6, bytes).gather().await, "{} bytes came", read.len());
    let came = proxies.sums().to_client - before;
    // At most what was under way in the connection's windows came twice.
    assert!(came < bytes + 24 * MIB, "{came} bytes came to the client for a body of {bytes}");
    let accesses = world.person(number).accesses().stream().take(usize::MAX).await.unwrap();
    let gets = accesses.iter().filter(|access| access.action == Action::Get && access.denial.is_empty()).count();
    assert_eq!(gets, 2, "one read, resumed once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_under_way_ends_once_consent_is_taken_back() {
    let world = World::start(1, 0).await;
    let number = world.enrol(1).await;
    // More than all buffers between the node and a client that does not read.
    let bytes = 96 * MIB;
    let record = world.doctor(HOSPITAL).put(&number, image()).body(Made::text(6, bytes)).await.unwrap().record();
    let mut reader = world.doctor(CLINIC).get(&number, record).await.unwrap().into_reader();
    let mut first = vec![0; MIB as usize];
    reader.read_exact(&mut first).await.unwrap();
    world.person(number).revoke(CLINIC).await.unwrap();
    // The node decides again every ten seconds; read slowly until it must have.
    let ended = async {
        loop {
            tokio::time::sleep(Duration::from_millis(250)).await;
            if let Err(error) = reader.read_exact(&mut first).await {
                return error;
            }
        }
    };
    let error = tokio::time::timeout(SOON, ended).await.expect("the download goes on");
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
}

/// Fails after its bytes.
struct Breaking(Made);

impl AsyncRead for Breaking {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        std::task::ready!(Pin::new(&mut self.0).poll_read(cx, buffer))?;
        match buffer.filled().len() - before {
            0 => Poll::Ready(Err(io::Error::other("the scanner was switched off"))),
            _ => Poll::Ready(Ok(())),
        }
    }
}

async fn upload(records: &mut RecordsClient<tonic::transport::Channel>, steps: Vec<Step>) -> Result<(), Status> {
    let steps = steps.into_iter().map(|step| wire::PutRequest { step: Some(step) });
    let mut replies = records.put(tokio_stream::iter(steps)).await?.into_inner();
    while let Some(reply) = replies.message().await? {
        assert!(!matches!(reply.step, Some(wire::put_reply::Step::Receipt(_))), "it was stored");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_end_early_or_have_a_wrong_hash_leave_nothing_visible() {
    let world = World::start(1, 0).await;
    let number = world.enrol(1).await;
    let hospital = world.doctor(HOSPITAL);
    for (place, bytes) in [100, 9 * MIB].into_iter().enumerate() {
        let document = image().document_id(format!("broken {bytes}"));
        let error = hospital.put(&number, document.clone()).body(Breaking(Made::noise(1, bytes))).await.unwrap_err();
        assert!(matches!(error, PutError::Body { .. }), "{error}");
        assert_eq!(error.was_committed(), kura_client::Committed::No);
        assert_eq!(listed(&hospital, &number).await.len(), place);
        // The document id is not taken either.
        hospital.put(&number, document).body(Made::noise(2, bytes)).await.unwrap();
    }
    let before = listed(&hospital, &number).await;

    let mut records = RecordsClient::new(raw::application(&world));
    let wrong = Bytes::from_static(&[7; 32]);
    let mut whole = raw::put_whole(HOSPITAL, &number);
    whole.parts[0].sha256 = wrong.clone();
    let status = records.put_whole(whole).await.unwrap_err();
    assert_eq!((status.code(), raw::detail(&status).kind.as_str()), (Code::InvalidArgument, "invalid"), "{status}");
    assert!(raw::detail(&status).field.contains("sha256"), "{status}");

    let begin = || {
        Step::Begin(wire::PutBegin {
            actor: raw::doctor(HOSPITAL),
            request: raw::request(),
            participant: number.reveal().to_owned(),
            record: Some(raw::record()),
            resume_content: Bytes::new(),
            beyond_prefecture: false,
        })
    };
    let part = |name: &str| Step::Part(wire::PutPart { name: name.into(), media_type: "text/plain".into() });
    let data = || Step::Data(Bytes::from(vec![7; 100_000]));
    let finish = |hashes: Vec<Bytes>| Step::Finish(wire::PutFinish { part_sha256: hashes });
    let table = [
        (vec![begin(), part("a"), data(), finish(vec![wrong.clone()])], "sha256"),
        (vec![begin(), part("a"), data(), finish(vec![wrong.clone(), wrong.clone()])], "part_sha256"),
        (vec![begin(), part("a"), data()], "step"),
        (vec![begin()], "step"),
        (vec![begin(), finish(vec![])], "parts"),
        (vec![begin(), data()], "data"),
        (vec![begin(), part("a"), data(), part("a")], "parts.name"),
        (vec![begin(), part("")], "parts.name"),
        (vec![begin(), part("a"), begin()], "step"),
        (vec![part("a")], "step"),
    ];
    for (steps, field) in table {
        let status = upload(&mut records, steps).await.expect_err(field);
        assert_eq!(status.code(), Code::InvalidArgument, "{field}: {status}");
        assert!(raw::detail(&status).field.contains(field), "{field}: {status} {:?}", raw::detail(&status));
    }
    assert_eq!(listed(&hospital, &number).await, before);
}
