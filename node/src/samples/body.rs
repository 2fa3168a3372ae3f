//! Bodies of any length, made while they are read: for benches and for tests of large records.

use std::io::Read;

use super::random::Random;
use super::vocabulary::CARE_SENTENCES;

/// Bytes that are made at a time.
const CHUNK_BYTES: usize = 8 * 1024;

/// A body of a fixed length. Its bytes depend on seed, length and kind, not on how it is read, and
/// it keeps one small chunk in memory whatever its length.
#[derive(Debug, Clone)]
pub struct Body {
    random: Random,
    left: u64,
    compressible: bool,
    chunk: Vec<u8>,
    position: usize,
}

impl Body {
    /// `length` bytes: Japanese text with numbers in it (a last character may be cut), or noise
    /// that no compressor makes shorter.
    pub fn new(seed: u64, length: u64, compressible: bool) -> Body {
        Body { random: Random::new(seed), left: length, compressible, chunk: Vec::new(), position: 0 }
    }

    /// Bytes not read yet.
    pub fn left(&self) -> u64 {
        self.left
    }

    fn refill(&mut self) {
        self.chunk.clear();
        self.position = 0;
        while self.chunk.len() < CHUNK_BYTES {
            if self.compressible {
                self.chunk.extend_from_slice(self.random.digits(5).as_bytes());
                self.chunk.extend_from_slice(self.random.pick(CARE_SENTENCES).as_bytes());
                self.chunk.push(b'\n');
            } else {
                self.chunk.extend_from_slice(&self.random.bits().to_le_bytes());
            }
        }
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        if self.position == self.chunk.len() {
            self.refill();
        }
        let count = wanted.min(self.chunk.len() - self.position);
        buffer[..count].copy_from_slice(&self.chunk[self.position..self.position + count]);
        self.position += count;
        self.left -= count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: Body, step: usize) -> Vec<u8> {
        let (mut body, mut all, mut buffer) = (body, Vec::new(), vec![0; step]);
        loop {
            let count = body.read(&mut buffer).unwrap();
            if count == 0 {
                return all;
            }
            all.extend_from_slice(&buffer[..count]);
        }
    }

    #[test]
    fn length_and_bytes_do_not_depend_on_the_steps() {
        for compressible in [true, false] {
            let whole = read(Body::new(3, 100_003, compressible), 1 << 20);
            assert_eq!(whole.len(), 100_003);
            assert_eq!(whole, read(Body::new(3, 100_003, compressible), 7));
            assert_ne!(whole, read(Body::new(4, 100_003, compressible), 7));
        }
        assert!(read(Body::new(3, 0, true), 10).is_empty());
    }

    #[test]
    fn only_the_compressible_one_shrinks() {
        let size =
            |compressible| zstd::bulk::compress(&read(Body::new(3, 1 << 20, compressible), 4096), 3).unwrap().len();
        assert!(size(true) < (1 << 20) / 4);
        assert!(size(false) >= 1 << 20);
    }

    #[test]
    fn memory_stays_small() {
        let mut body = Body::new(1, u64::MAX, true);
        std::io::copy(&mut (&mut body).take(16 << 20), &mut std::io::sink()).unwrap();
        assert!(body.chunk.capacity() <= 4 * CHUNK_BYTES);
    }
}
