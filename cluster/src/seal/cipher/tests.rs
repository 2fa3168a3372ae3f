//! The specification's vectors, the accumulated one included.

use super::super::testing::{key, nonce};
use super::*;
use crate::hexadecimal;

const SPECIFICATION_NONCE: &Nonce = b"ABCDEFGHIJKLMNOPQRSTUVWX";

#[test]
fn the_specifications_vectors() {
    for (key_byte, associated_data, expected) in [
        (0x01, "", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"),
        (0x03, "c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"),
    ] {
        let key = key(key_byte);
        let sealed = encrypt(&key, SPECIFICATION_NONCE, associated_data.as_bytes(), b"XAES-256-GCM");
        assert_eq!(hexadecimal(&sealed), expected);
        let opened = decrypt(&key, SPECIFICATION_NONCE, associated_data.as_bytes(), &sealed);
        assert_eq!(opened.as_deref(), Ok(&b"XAES-256-GCM"[..]));
    }
}

/// 10,000 messages of 0 to 255 bytes with as much associated data, drawn from SHAKE128.
#[test]
fn the_specifications_accumulated_vector() {
    let (mut drawn, mut digest) = (Shake128::new(), Shake128::new());
    for _ in 0..10_000 {
        let key = Key::from_bytes(&mut drawn.squeeze_array());
        let nonce = drawn.squeeze_array();
        let mut pieces = [Vec::new(), Vec::new()];
        for piece in &mut pieces {
            let [length] = drawn.squeeze_array();
            piece.resize(length.into(), 0);
            drawn.squeeze(piece);
        }
        let [plaintext, associated_data] = &pieces;
        let sealed = encrypt(&key, &nonce, associated_data, plaintext);
        assert_eq!(decrypt(&key, &nonce, associated_data, &sealed).as_ref(), Ok(plaintext));
        digest.absorb(&sealed);
    }
    let digest: [u8; 32] = digest.squeeze_array();
    assert_eq!(hexadecimal(digest), "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939");
}

#[test]
fn a_failed_opening_leaves_the_ciphertext_as_it_was() {
    let mut buffer = b"twelve bytes".to_vec();
    let mut tag = encrypt_in_place(&key(1), &nonce(1), b"here", &mut buffer);
    let ciphertext = buffer.clone();
    tag[0] ^= 1;
    assert_eq!(decrypt_in_place(&key(1), &nonce(1), b"here", &mut buffer, &tag), Err(DoesNotOpen));
    assert_eq!(buffer, ciphertext);
}

#[test]
fn less_than_a_tag_does_not_open() {
    for length in 0..TAG_BYTES {
        assert_eq!(decrypt(&key(1), &nonce(1), b"", &vec![0; length]), Err(DoesNotOpen));
    }
}

/// SHAKE128 (FIPS 202), only as far as the accumulated vector needs it.
struct Shake128 {
    lanes: [u64; 25],
    at: usize,
    squeezing: bool,
}

impl Shake128 {
    const RATE_BYTES: usize = 168;

    fn new() -> Shake128 {
        Shake128 { lanes: [0; 25], at: 0, squeezing: false }
    }

    fn absorb(&mut self, bytes: &[u8]) {
        assert!(!self.squeezing, "absorb before squeezing");
        for &byte in bytes {
            self.mix(byte);
            self.at += 1;
            if self.at == Self::RATE_BYTES {
                keccak_f(&mut self.lanes);
                self.at = 0;
            }
        }
    }

    fn mix(&mut self, byte: u8) {
        self.lanes[self.at / 8] ^= u64::from(byte) << (8 * (self.at % 8));
    }

    fn squeeze(&mut self, out: &mut [u8]) {
        if !self.squeezing {
            self.mix(0x1f);
            self.at = Self::RATE_BYTES - 1;
            self.mix(0x80);
            self.at = Self::RATE_BYTES;
            self.squeezing = true;
        }
        for byte in out {
            if self.at == Self::RATE_BYTES {
                keccak_f(&mut self.lanes);
                self.at = 0;
            }
            *byte = (self.lanes[self.at / 8] >> (8 * (self.at % 8))) as u8;
            self.at += 1;
        }
    }

    fn squeeze_array<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        self.squeeze(&mut out);
        out
    }
}

/// Keccak-f\[1600\]; lane (x, y) is at 5y + x.
fn keccak_f(lanes: &mut [u64; 25]) {
    let mut constant_register: u8 = 1;
    for _ in 0..24 {
        let parity: [u64; 5] = std::array::from_fn(|x| (0..5).fold(0, |sum, y| sum ^ lanes[5 * y + x]));
        for (i, lane) in lanes.iter_mut().enumerate() {
            *lane ^= parity[(i + 4) % 5] ^ parity[(i % 5 + 1) % 5].rotate_left(1);
        }
        let (mut x, mut y, mut carried) = (1, 0, lanes[1]);
        for step in 0..24_u32 {
            (x, y) = (y, (2 * x + 3 * y) % 5);
            let turned = carried.rotate_left((step + 1) * (step + 2) / 2 % 64);
            carried = std::mem::replace(&mut lanes[5 * y + x], turned);
        }
        for row in lanes.chunks_exact_mut(5) {
            let before: [u64; 5] = std::array::from_fn(|x| row[x]);
            for x in 0..5 {
                row[x] = before[x] ^ (!before[(x + 1) % 5] & before[(x + 2) % 5]);
            }
        }
        for bit in 0..7 {
            lanes[0] ^= u64::from(constant_register & 1) << ((1_u32 << bit) - 1);
            constant_register = (constant_register << 1) ^ (if constant_register & 0x80 != 0 { 0x71 } else { 0 });
        }
    }
}
