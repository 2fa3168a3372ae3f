//! Bytes over TLS, and before it: HTTP/2 (RFC 9113) that is cut short, repeated, too long, out of order, or none.

use std::sync::Arc;
use std::time::Duration;

use kura_client::tls::{ALPN_H2, TlsFiles, crypto_provider};
use kura_node::dev::Member;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
/// Bytes of a frame that everybody takes.
const FRAME_BYTES_MAX: usize = 16 << 10;
/// What is sent is either taken or refused by then.
const LIMIT: Duration = Duration::from_secs(3);

/// A node's door, and who comes.
#[derive(Clone)]
pub struct Door {
    config: Arc<ClientConfig>,
    name: String,
    address: String,
}

impl Door {
    /// With a certificate.
    pub fn new(config: Arc<ClientConfig>, member: &Member) -> Self {
        Self { config, name: member.name.clone(), address: member.address() }
    }

    /// Without one: of the files, only the authority's counts.
    pub fn without_certificate(files: &TlsFiles, member: &Member) -> Self {
        let material = files.read().unwrap().parse().unwrap();
        let mut config = ClientConfig::builder_with_provider(crypto_provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(material.roots(&files.authorities).unwrap())
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN_H2.to_vec()];
        Self::new(Arc::new(config), member)
    }

    /// Says something, and answers how many bytes were heard until the node had enough.
    pub async fn speak(&self, random: &mut StdRng, paths: &[String]) -> usize {
        let words = words(random, paths);
        let plain = random.random_ratio(1, 8);
        let spoken = async {
            let mut stream = TcpStream::connect(&self.address).await?;
            if plain {
                // No TLS at all, or half of a greeting.
                stream.write_all(&words).await?;
                stream.shutdown().await?;
                let mut alert = Vec::new();
                stream.read_to_end(&mut alert).await?;
                return Ok(0);
            }
            let name = ServerName::try_from(self.name.clone()).map_err(std::io::Error::other)?;
            let stream = TlsConnector::from(Arc::clone(&self.config)).connect(name, stream).await?;
            let (mut from, mut to) = tokio::io::split(stream);
            let said = async {
                // It may have had enough before all is said.
                let _ = to.write_all(&words).await;
                let _ = to.shutdown().await;
            };
            let heard = async {
                let (mut heard, mut buffer) = (0, [0; 4096]);
                while let Ok(count @ 1..) = from.read(&mut buffer).await {
                    heard += count;
                }
                heard
            };
            Ok::<_, std::io::Error>(tokio::join!(said, heard).1)
        };
        tokio::time::timeout(LIMIT, spoken).await.ok().and_then(Result::ok).unwrap_or(0)
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A field without indexing and without Huffman's code (RFC 7541, 6.2.2).
fn field(name: &str, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name.as_bytes(), value] {
        // Its length, with a prefix of 7 bits.
        let mut rest = text.len();
        if rest < 127 {
            bytes.push(rest as u8);
        } else {
            bytes.push(127);
            rest -= 127;
            while rest >= 128 {
                bytes.push(rest as u8 | 128);
                rest >>= 7;
            }
            bytes.push(rest as u8);
        }
        bytes.extend(text);
    }
    bytes
}

fn fields(path: &str) -> Vec<u8> {
    let usual = [
        (":method", "POST"),
        (":scheme", "https"),
        (":path", path),
        (":authority", "node"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    usual.iter().flat_map(|(name, value)| field(name, value.as_bytes())).collect()
}

fn noise(random: &mut StdRng, most: usize) -> Vec<u8> {
    let mut bytes = vec![0; random.random_range(0..=most)];
    random.fill_bytes(&mut bytes);
    bytes
}

/// Everything that one connection is sent.
fn words(random: &mut StdRng, paths: &[String]) -> Vec<u8> {
    let path = paths.choose(random).unwrap();
    let course = random.random_range(0..9);
    if course == 0 {
        return noise(random, 64 << 10);
    }
    let mut bytes = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    let stream = |nth: u32| 2 * nth + 1;
    match course {
        // Frames of any kind, flags, stream and length.
        1 | 2 => {
            for _ in 0..random.random_range(1..60) {
                let payload = noise(random, 400);
                let (kind, flags) = (random.random_range(0..12), random.random());
                bytes.extend(frame(kind, flags, random.random_range(0..9), &payload));
            }
        }
        // A call whose message is to have four gigabytes, of which some come; and one that is cut in its length.
        3 => {
            bytes.extend(frame(HEADERS, END_HEADERS, 1, &fields(path)));
            bytes.extend(frame(DATA, 0, 1, &[&[0, 255, 255, 255, 255][..], &noise(random, 10_000)].concat()));
            bytes.extend(frame(HEADERS, END_HEADERS, 3, &fields(path)));
            bytes.extend(frame(DATA, 1, 3, &[0, 0, 0]));
        }
        // A head without an end: four megabytes of it.
        4 => {
            bytes.extend(frame(HEADERS, 0, 1, &fields(path)));
            for nth in 0..256_u32 {
                let more = field(&format!("x-odd-{nth}"), &vec![b'a'; FRAME_BYTES_MAX - 100]);
                bytes.extend(frame(CONTINUATION, 0, 1, &more));
            }
        }
        // Thousands of calls that are begun and left, or taken back at once.
        5 | 6 => {
            for nth in 0..3_000 {
                bytes.extend(frame(HEADERS, END_HEADERS, stream(nth), &fields(path)));
                if course == 6 {
                    bytes.extend(frame(RST_STREAM, 0, stream(nth), &8_u32.to_be_bytes()));
                }
            }
        }
        // Questions and settings that nobody waits for an answer to; a window beyond every bound.
        7 => {
            for nth in 0..20_000_u64 {
                bytes.extend(frame(PING, 0, 0, &nth.to_be_bytes()));
                if nth % 4 == 0 {
                    bytes.extend(frame(SETTINGS, 0, 0, &[]));
                }
            }
            bytes.extend(frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes()));
        }
        // What is sound, and is cut anywhere.
        _ => {
            for nth in 0..20 {
                bytes.extend(frame(HEADERS, END_HEADERS, stream(nth), &fields(path)));
                bytes.extend(frame(DATA, 1, stream(nth), &[0, 0, 0, 0, 0]));
            }
            bytes.truncate(random.random_range(PREFACE.len()..bytes.len()));
        }
    }
    bytes
}
