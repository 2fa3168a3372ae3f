//! The bodies of a record's parts, cut into the steps of an upload.
//!
//! Invariants
//! - [`Feed::next`] may be dropped at any await and called again: nothing read is lost.
//! - Each byte is hashed once, in order; a part's hash is there when its last step has come.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Data of one message of an upload, at most.
pub(crate) const CHUNK_BYTES_MAX: usize = 256 * 1024;

/// Where the bytes of a part come from.
pub(crate) enum Source {
    Bytes(Bytes),
    Reader(Pin<Box<dyn AsyncRead + Send>>),
}

/// A part to be written.
pub(crate) struct NewPart {
    pub name: String,
    pub media_type: String,
    pub source: Source,
}

/// One step of an upload. Parts are counted from 1.
#[derive(Clone)]
pub(crate) enum Step {
    Part { number: u32, name: String, media_type: String },
    Data { part: u32, offset: u64, bytes: Bytes },
}

impl Step {
    /// Bytes of the body in this step.
    pub fn data_bytes(&self) -> usize {
        match self {
            Self::Part { .. } => 0,
            Self::Data { bytes, .. } => bytes.len(),
        }
    }
}

struct Current {
    source: Source,
    offset: u64,
    buffer: BytesMut,
    hasher: Sha256,
}

pub(crate) struct Feed {
    waiting: VecDeque<NewPart>,
    current: Option<Current>,
    number: u32,
    hashes: Vec<Bytes>,
}

impl Feed {
    pub fn new(parts: Vec<NewPart>) -> Self {
        Self { waiting: parts.into(), current: None, number: 0, hashes: Vec::new() }
    }

    /// SHA-256 of each part that has come to its end.
    pub fn hashes(&self) -> &[Bytes] {
        &self.hashes
    }

    /// The next step; nothing after the last.
    pub async fn next(&mut self) -> io::Result<Option<Step>> {
        loop {
            let Some(current) = &mut self.current else {
                let Some(part) = self.waiting.pop_front() else { return Ok(None) };
                let NewPart { name, media_type, source } = part;
                self.number += 1;
                self.current = Some(Current { source, offset: 0, buffer: BytesMut::new(), hasher: Sha256::new() });
                return Ok(Some(Step::Part { number: self.number, name, media_type }));
            };
            let bytes = current.chunk().await?;
            if bytes.is_empty() {
                let hash = current.hasher.finalize_reset();
                self.hashes.push(Bytes::copy_from_slice(&hash));
                self.current = None;
            } else {
                let offset = current.offset;
                current.offset += bytes.len() as u64;
                current.hasher.update(&bytes);
                return Ok(Some(Step::Data { part: self.number, offset, bytes }));
            }
        }
    }
}

impl Current {
    /// A full chunk, or what is left; nothing at the end.
    async fn chunk(&mut self) -> io::Result<Bytes> {
        match &mut self.source {
            Source::Bytes(left) => Ok(left.split_to(left.len().min(CHUNK_BYTES_MAX))),
            Source::Reader(reader) => {
                while self.buffer.len() < CHUNK_BYTES_MAX {
                    if self.buffer.capacity() == self.buffer.len() {
                        // Small first, so that a small body does not take a whole chunk.
                        let more = if self.buffer.is_empty() && self.offset == 0 { 16 * 1024 } else { CHUNK_BYTES_MAX };
                        self.buffer.reserve(more.min(CHUNK_BYTES_MAX - self.buffer.len()));
                    }
                    let room = CHUNK_BYTES_MAX - self.buffer.len();
                    let mut limited = (&mut *reader).take(room as u64);
                    if limited.read_buf(&mut self.buffer).await? == 0 {
                        break;
                    }
                }
                Ok(self.buffer.split().freeze())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str, source: Source) -> NewPart {
        NewPart { name: name.into(), media_type: "text/plain".into(), source }
    }

    #[tokio::test]
    async fn parts_are_cut_and_hashed_whatever_their_source() {
        let long: Vec<u8> = (0..CHUNK_BYTES_MAX * 2 + 5).map(|i| i as u8).collect();
        let mut feed = Feed::new(vec![
            part("a", Source::Bytes(Bytes::from(long.clone()))),
            part("b", Source::Reader(Box::pin(tokio::io::empty()))),
            part("c", Source::Reader(Box::pin(io::Cursor::new(long.clone())))),
        ]);
        let mut steps = Vec::new();
        while let Some(step) = feed.next().await.unwrap() {
            steps.push(match step {
                Step::Part { number, .. } => (number, None),
                Step::Data { part, offset, bytes } => (part, Some((offset, bytes.len()))),
            });
        }
        let chunk = CHUNK_BYTES_MAX;
        let of = |part| {
            [
                (part, None),
                (part, Some((0, chunk))),
                (part, Some((chunk as u64, chunk))),
                (part, Some((2 * chunk as u64, 5))),
            ]
        };
        let expected: Vec<_> = of(1).into_iter().chain([(2, None)]).chain(of(3)).collect();
        assert_eq!(steps, expected);
        let hash = Bytes::copy_from_slice(&Sha256::digest(&long));
        assert_eq!(feed.hashes(), [hash.clone(), Bytes::copy_from_slice(&Sha256::digest(b"")), hash]);
    }
}
