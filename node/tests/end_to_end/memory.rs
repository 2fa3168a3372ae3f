//! Half a gigabyte through every node in little memory; and the made-up bodies of all tests.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use kura_client::{Class, Date, NewRecord};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, ReadBuf};

use super::world::{CLINIC, DISK, HOSPITAL, World};

/// What the issue allows a node, whatever is transferred.
const MEMORY_KIB_MAX: u64 = 400 << 10;
const BODY_BYTES: u64 = 512 << 20;

/// Bytes that a seed determines: noise, or text that compresses well. Ends after its length, and is the
/// same however it is read.
pub struct Made {
    state: u64,
    left: u64,
    noise: bool,
    /// Drawn and not read yet.
    piece: Vec<u8>,
}

impl Made {
    /// Noise: no compression helps.
    pub fn noise(seed: u64, bytes: u64) -> Self {
        Self { state: seed << 1 | 1, left: bytes, noise: true, piece: Vec::new() }
    }

    /// A table of numbers, as laboratories print them.
    pub fn text(seed: u64, bytes: u64) -> Self {
        Self { noise: false, ..Self::noise(seed, bytes) }
    }

    /// All of it.
    pub async fn gather(mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes).await.unwrap();
        bytes
    }

    /// Xorshift: fast, and good enough that nothing compresses.
    fn draw(&mut self) {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        match self.noise {
            true => self.piece.extend_from_slice(&self.state.to_le_bytes()),
            false => self.piece.extend_from_slice(format!("glucose {:03} mg/dl\n", self.state % 50 + 80).as_bytes()),
        }
    }
}

impl AsyncRead for Made {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.remaining());
        while self.piece.len() < room {
            self.draw();
        }
        buffer.put_slice(&self.piece[..room]);
        self.piece.drain(..room);
        self.left -= room as u64;
        Poll::Ready(Ok(()))
    }
}

/// Hash and length of all that a reader gives.
pub async fn print(mut reader: impl AsyncBufRead + Unpin) -> io::Result<([u8; 32], u64)> {
    let (mut hash, mut length) = (Sha256::new(), 0);
    loop {
        let chunk = reader.fill_buf().await?;
        if chunk.is_empty() {
            return Ok((hash.finalize().into(), length));
        }
        hash.update(chunk);
        let taken = chunk.len();
        length += taken as u64;
        reader.consume(taken);
    }
}

/// The most memory that a process ever had.
pub fn peak_kib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_gigabyte_of_noise_and_of_text_goes_in_and_out_in_little_memory() {
    let _disk = DISK.lock().await;
    let world = World::start(3, 0).await;
    let number = world.enrol(1).await;
    let image = || NewRecord::new(Class::Image, "application/dicom", Date::today());
    for (what, made) in [("noise", Made::noise as fn(u64, u64) -> Made), ("text", Made::text)] {
        let expected = print(tokio::io::BufReader::with_capacity(1 << 20, made(7, BODY_BYTES))).await.unwrap();
        let put = world.doctor(HOSPITAL).put(&number, image()).body(made(7, BODY_BYTES));
        let record = put.await.unwrap().record();
        let read = world.doctor(CLINIC).get(&number, record).await.unwrap().into_reader();
        assert_eq!(print(read).await.unwrap(), expected, "{what}");
        for voter in world.voters() {
            let peak = peak_kib(world.cluster.process_id(&voter).unwrap());
            assert!(peak < MEMORY_KIB_MAX, "{voter} took {} MiB for {what}", peak >> 10);
        }
    }
}
