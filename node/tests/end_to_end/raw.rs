//! Bare messages: what a client that keeps no rule could send.

use std::path::PathBuf;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use kura_client::tls::{ChannelOptions, ClientTls, Endpoint, TlsFiles};
use kura_client::{ParticipantNumber, RequestId, wire};
use kura_node::certificates::{Approval, Authority, AuthorityFiles, Issued, Role};
use kura_node::dev::{ClientFile, Cluster, Layout, Member};
use prost::Message;
use prost_types::FileDescriptorSet;
use time::OffsetDateTime;
use toml::Value;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::world::{DOCTOR, World, configure, set};

/// No bare call takes longer.
pub const CALL_LIMIT: Duration = Duration::from_secs(15);

/// The TLS files of a client of the cluster.
pub fn client_files(layout: &Layout, file: ClientFile) -> TlsFiles {
    let folder = layout.clients();
    TlsFiles {
        certificate: folder.join(format!("{}.pem", file.name())),
        private_key: folder.join(format!("{}.key", file.name())),
        authorities: layout.authority_certificate(),
        authorities_more: None,
        revocation_lists: Vec::new(),
    }
}

/// The TLS files of a node: what a thief of its disk has.
pub fn node_files(layout: &Layout, node: &str) -> TlsFiles {
    let folder = layout.node(node);
    TlsFiles {
        certificate: folder.join("node.pem"),
        private_key: folder.join("node.key"),
        authorities: layout.authority_certificate(),
        authorities_more: None,
        revocation_lists: Vec::new(),
    }
}

/// The cluster's own CA.
pub fn authority(cluster: &Cluster) -> Authority {
    let folder = cluster.layout().authority();
    Authority::open(&AuthorityFiles { certificate: folder.join("ca.pem"), private_key: folder.join("ca.key") }).unwrap()
}

/// Begins the CA's revocation list, and has a node follow it.
pub async fn begin_revocation_list(world: &mut World, node: &str) -> PathBuf {
    let list = world.cluster.layout().authority().join("revoked.pem");
    authority(&world.cluster).update_revocation_list(&list, &[], 30, OffsetDateTime::now_utc()).unwrap();
    configure(&world.cluster, node, |table| {
        set(table, "tls", "revocation_lists", Value::Array(vec!["../../ca/revoked.pem".into()]));
    });
    world.cluster.restart(node).await.unwrap();
    list
}

/// A new key and certificate of a CA, in a folder of its own.
pub fn issue(
    cluster: &Cluster,
    authority: &Authority,
    (role, name): (Role, &str),
    days: u32,
    now: OffsetDateTime,
) -> (TlsFiles, Issued) {
    let folder: PathBuf = cluster.layout().directory().join(format!("issued-{:08x}", rand::random::<u32>()));
    std::fs::create_dir(&folder).unwrap();
    let files = TlsFiles {
        certificate: folder.join("certificate.pem"),
        private_key: folder.join("private.key"),
        authorities: cluster.layout().authority_certificate(),
        authorities_more: None,
        revocation_lists: Vec::new(),
    };
    let approval = Approval {
        role,
        name: name.to_owned(),
        alternative_names: if role.is_node() { vec!["127.0.0.1".to_owned()] } else { Vec::new() },
        accept_requested_names: false,
        valid_days: days,
    };
    let pair = AuthorityFiles { certificate: files.certificate.clone(), private_key: files.private_key.clone() };
    let issued = authority.issue_with_key(&pair, &approval, now).unwrap();
    (files, issued)
}

/// A connection to a member with any certificate.
pub fn channel(files: TlsFiles, member: &Member) -> Channel {
    let endpoint = Endpoint { name: member.name.clone(), address: member.address() };
    ClientTls::load(files).unwrap().channel(&endpoint, &ChannelOptions::default()).unwrap()
}

/// Messages as they are on the wire.
struct AsIs;

impl Codec for AsIs {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for AsIs {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for AsIs {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// Calls a method by its path and takes all replies. It sets no limit to how long that takes.
pub async fn call(channel: &Channel, path: &str, request: Request<Vec<Vec<u8>>>) -> Result<Vec<Bytes>, Status> {
    let path: PathAndQuery = path.parse().unwrap();
    let request = request.map(|messages| tokio_stream::iter(messages.into_iter().map(Bytes::from)));
    let mut grpc = Grpc::new(channel.clone()).max_decoding_message_size(16 << 20);
    grpc.ready().await.map_err(|error| Status::unknown(format!("not ready: {error}")))?;
    let mut replies = grpc.streaming(request, path, AsIs).await?.into_inner();
    let mut bodies = Vec::new();
    while let Some(body) = replies.message().await? {
        bodies.push(body);
    }
    Ok(bodies)
}

/// What the services say of themselves.
pub fn descriptors() -> FileDescriptorSet {
    FileDescriptorSet::decode(kura_proto::FILE_DESCRIPTOR_SET).unwrap()
}

/// What a status says to programs.
pub fn detail(status: &Status) -> wire::ErrorDetail {
    wire::ErrorDetail::decode(status.details()).unwrap_or_default()
}

/// The doctor of a facility.
pub fn doctor(facility: &str) -> Option<wire::Actor> {
    Some(wire::Actor {
        kind: 1,
        facility: facility.into(),
        name: DOCTOR.into(),
        method: 1,
        authenticated_ms: kura_client::now_ms(),
        credential_sha256: Bytes::new(),
    })
}

/// A fresh request id.
pub fn request() -> Option<wire::RequestId> {
    Some(wire::RequestId { id: Bytes::copy_from_slice(RequestId::new().as_bytes()) })
}

/// A care record of today, of one short part.
pub fn put_whole(facility: &str, number: &ParticipantNumber) -> wire::PutWholeRequest {
    wire::PutWholeRequest {
        actor: doctor(facility),
        request: request(),
        participant: number.reveal().to_owned(),
        record: Some(record()),
        parts: vec![wire::WholePart {
            name: "body".into(),
            media_type: "text/plain".into(),
            data: Bytes::from_static(b"short"),
            sha256: Bytes::new(),
        }],
        beyond_prefecture: false,
    }
}

/// A care record of today.
pub fn record() -> wire::NewRecord {
    wire::NewRecord {
        class: 8,
        media_type: "text/plain".into(),
        clinical_day: kura_client::Date::today().days(),
        ..wire::NewRecord::default()
    }
}

/// The application's connection to the first voter.
pub fn application(world: &World) -> Channel {
    let layout = world.cluster.layout();
    channel(client_files(layout, ClientFile::Application), &world.cluster.plan().members[0])
}
