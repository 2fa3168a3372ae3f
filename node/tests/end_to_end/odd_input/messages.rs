//! Messages of every request that the services know: valid protobuf, of values that nobody sends. What the services
//! know is read from their own descriptors.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::BufMut;
use kura_client::RequestId;
use prost::Message;
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FieldDescriptorProto};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt};
use tonic::transport::Channel;
use tonic::{Code, Request};

use super::super::raw;
use super::super::world::{CLINIC, DOCTOR, HOSPITAL};

/// Texts that are sent, and must be in no log.
pub const WORDS: [&str; 4] =
    ["odd-facility-zq5", "odd\u{7}name\nzq5", "ｏｄｄ-zq5-\u{202e}-\u{0}-", "'; DROP TABLE odd-zq5; --"];

/// Depth of messages within messages.
const DEPTH_MAX: u32 = 4;

/// What the services know.
pub struct Schema {
    kinds: BTreeMap<String, DescriptorProto>,
    /// Path and request of every method.
    pub methods: Vec<(String, String)>,
}

impl Schema {
    /// Reads it.
    pub fn read() -> Self {
        let mut schema = Self { kinds: BTreeMap::new(), methods: Vec::new() };
        for file in raw::descriptors().file {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    schema.methods.push((path, method.input_type().to_owned()));
                }
            }
            let within = format!(".{}", file.package());
            file.message_type.into_iter().for_each(|kind| schema.learn(&within, kind));
        }
        schema
    }

    fn learn(&mut self, within: &str, kind: DescriptorProto) {
        let name = format!("{within}.{}", kind.name());
        kind.nested_type.iter().for_each(|nested| self.learn(&name, nested.clone()));
        self.kinds.insert(name, kind);
    }

    /// A message of a kind, about a participant.
    pub fn message(&self, random: &mut StdRng, kind: &str, number: &str) -> Vec<u8> {
        self.fields(random, kind, number, 0)
    }

    fn fields(&self, random: &mut StdRng, kind: &str, number: &str, depth: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        let Some(kind) = self.kinds.get(kind) else { return bytes };
        for field in &kind.field {
            let count = match random.random_range(0..100) {
                0..8 => 0,
                8..96 => 1,
                96..99 => 3,
                // More than any list takes; of one that is not repeated the last counts.
                _ => {
                    if depth == 0 {
                        1_100
                    } else {
                        2
                    }
                }
            };
            for _ in 0..count {
                self.field(random, field, number, depth, &mut bytes);
            }
        }
        bytes
    }

    fn field(&self, random: &mut StdRng, field: &FieldDescriptorProto, number: &str, depth: u32, bytes: &mut Vec<u8>) {
        let key = |wire: u64| (field.number() as u64) << 3 | wire;
        match field.r#type() {
            Type::Double | Type::Fixed64 | Type::Sfixed64 => {
                varint(key(1), bytes);
                bytes.put_u64_le(integer(random, field.name()));
            }
            Type::Float | Type::Fixed32 | Type::Sfixed32 => {
                varint(key(5), bytes);
                bytes.put_u32_le(integer(random, field.name()) as u32);
            }
            Type::String => delimited(key(2), &text(random, field.name(), number), bytes),
            Type::Bytes => delimited(key(2), &octets(random, field.name()), bytes),
            Type::Message if depth >= DEPTH_MAX => {}
            Type::Message => {
                let usual = field.name() == "actor" && random.random_ratio(2, 3);
                let inner = match usual {
                    true => raw::doctor([HOSPITAL, CLINIC].choose(random).unwrap()).unwrap().encode_to_vec(),
                    false => self.fields(random, field.type_name(), number, depth + 1),
                };
                delimited(key(2), &inner, bytes);
            }
            _ => {
                varint(key(0), bytes);
                varint(integer(random, field.name()), bytes);
            }
        }
    }
}

fn varint(mut value: u64, bytes: &mut Vec<u8>) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn delimited(key: u64, value: &[u8], bytes: &mut Vec<u8>) {
    varint(key, bytes);
    varint(value.len() as u64, bytes);
    bytes.extend_from_slice(value);
}

fn integer(random: &mut StdRng, field: &str) -> u64 {
    if field.ends_with("_ms") && random.random_ratio(1, 2) {
        return kura_client::now_ms();
    }
    match random.random_range(0..10) {
        0 => u64::MAX,
        1 => i64::MAX as u64,
        2 => i64::MIN as u64,
        3 => u64::from(u32::MAX),
        4 => random.random(),
        5 => 0,
        _ => random.random_range(1..12),
    }
}

fn text(random: &mut StdRng, field: &str, number: &str) -> Vec<u8> {
    let usual = match field {
        "participant" | "number" => Some(number),
        "facility" | "facility_id" | "author_facility" => Some(HOSPITAL),
        "name" | "user" => Some(DOCTOR),
        _ => None,
    };
    if let Some(usual) = usual.filter(|_| random.random_ratio(2, 3)) {
        return usual.as_bytes().to_vec();
    }
    match random.random_range(0..10) {
        0 => Vec::new(),
        1 => WORDS[0].repeat(40).into_bytes(),
        // Longer than any text may be.
        2 if random.random_ratio(1, 8) => WORDS[0].repeat(8_000).into_bytes(),
        3 => b"2026-02-30".to_vec(),
        4 => number.as_bytes().to_vec(),
        _ => WORDS.choose(random).unwrap().as_bytes().to_vec(),
    }
}

fn octets(random: &mut StdRng, field: &str) -> Vec<u8> {
    if field == "id" && random.random_ratio(2, 3) {
        return RequestId::new().as_bytes().to_vec();
    }
    let length = match random.random_range(0..10) {
        0 => 0,
        1 => 15,
        2 => 300,
        3 if random.random_ratio(1, 8) => 300 << 10,
        4 | 5 => 32,
        _ => 16,
    };
    noise_of(random, length)
}

/// So many random bytes at most.
pub fn noise(random: &mut StdRng, most: usize) -> Vec<u8> {
    let length = random.random_range(0..=most);
    noise_of(random, length)
}

fn noise_of(random: &mut StdRng, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    random.fill_bytes(&mut bytes);
    bytes
}

/// Calls a method, and answers what its status came to; nothing if it still waited at the limit.
pub async fn call(channel: &Channel, path: &str, messages: Vec<Vec<u8>>, limit: Duration) -> Option<(Code, String)> {
    let ended = tokio::time::timeout(limit, raw::call(channel, path, Request::new(messages))).await.ok()?;
    Some(ended.map_or_else(|status| (status.code(), status.message().to_owned()), |_| (Code::Ok, String::new())))
}
