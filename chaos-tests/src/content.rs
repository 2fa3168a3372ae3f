//! Bodies of records, made from the seed.
//!
//! Invariant: a body follows from seed, client and number; two of one run differ.

use rand::{Rng, RngExt};
use sha2::{Digest, Sha256};

use crate::seed::generator;

/// Longest small body, in bytes.
pub const SMALL_BYTES_MAX: usize = 6 * 1024;
/// Shortest and longest large body, in bytes: several blocks of 1 MiB and a rest.
const LARGE_BYTES: std::ops::RangeInclusive<usize> = 1_100_000..=3_300_000;
/// Shortest and longest bulky body, in bytes.
const BULKY_BYTES: std::ops::RangeInclusive<usize> = 300_000..=700_000;

const WORDS: [&str; 12] = [
    "observation",
    "value",
    "unit",
    "mmol/L",
    "reference",
    "normal",
    "history",
    "allergy",
    "none",
    "dose",
    "daily",
    "code",
];

/// A small body: text, so that it compresses, with digits of its own; empty once in a while.
pub fn small(seed: u64, client: &str, number: u64) -> Vec<u8> {
    let mut random = generator(seed, &format!("small/{client}/{number}"));
    if random.random_ratio(1, 50) {
        return Vec::new();
    }
    let length = random.random_range(24..=SMALL_BYTES_MAX);
    let mut text = format!("{client} {number} {:016x} ", random.random::<u64>()).into_bytes();
    while text.len() < length {
        text.extend_from_slice(WORDS[random.random_range(0..WORDS.len())].as_bytes());
        text.push(b' ');
    }
    text
}

/// A large body: random bytes, which do not compress.
pub fn large(seed: u64, client: &str, number: u64) -> Vec<u8> {
    noise(generator(seed, &format!("large/{client}/{number}")), LARGE_BYTES)
}

/// A bulky body, which a small one is replaced by where logs and states are to grow: random bytes.
pub fn bulky(seed: u64, client: &str, number: u64) -> Vec<u8> {
    noise(generator(seed, &format!("bulky/{client}/{number}")), BULKY_BYTES)
}

fn noise(mut random: impl Rng, lengths: std::ops::RangeInclusive<usize>) -> Vec<u8> {
    let mut bytes = vec![0; random.random_range(lengths)];
    random.fill_bytes(&mut bytes);
    bytes
}

/// The SHA-256 of bytes, in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

/// Bytes in hexadecimal.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_repeat_and_differ_and_keep_to_their_sizes() {
        assert_eq!(small(1, "a", 2), small(1, "a", 2));
        let distinct: std::collections::BTreeSet<_> = (0..500).map(|n| small(1, "a", n)).collect();
        let empty = (0..500).filter(|n| small(1, "a", *n).is_empty()).count();
        assert_eq!(distinct.len(), 500 - empty.saturating_sub(1));
        assert!(distinct.iter().all(|body| body.len() < SMALL_BYTES_MAX + 16));
        let large = large(1, "a", 1);
        assert!(LARGE_BYTES.contains(&large.len()));
        assert_eq!(bulky(1, "a", 1), bulky(1, "a", 1));
        assert_eq!(sha256(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
