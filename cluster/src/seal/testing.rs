//! What the tests of this room share.

use super::{Key, Nonce};

/// A key of 32 equal bytes.
pub fn key(byte: u8) -> Key {
    Key::from_bytes(&mut [byte; 32])
}

/// A nonce of 24 different bytes that begin with `first`.
pub fn nonce(first: u8) -> Nonce {
    std::array::from_fn(|i| first.wrapping_add(i as u8))
}

pub fn unhex(text: &str) -> Vec<u8> {
    base16ct::lower::decode_vec(text).unwrap()
}

/// Bytes without any pattern that a compressor could use (xorshift64*).
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(length);
    for _ in 0..length {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.push((state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 56) as u8);
    }
    bytes
}

/// A made-up structured document: most of its text is the same for every seed.
pub fn document(seed: u64) -> Vec<u8> {
    let numbers = noise(24, seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut text = String::from("{\"resourceType\":\"Bundle\",\"type\":\"document\",\"entry\":[");
    for pair in numbers.chunks(2) {
        text.push_str(&format!(
            "{{\"resource\":{{\"resourceType\":\"Observation\",\"status\":\"final\",\"category\":[{{\"text\":\
             \"laboratory\"}}],\"code\":{{\"coding\":[{{\"system\":\"urn:example:codes\",\"code\":\"{:03}\"}}]}},\
             \"valueQuantity\":{{\"value\":{},\"unit\":\"mg/dL\"}}}}}},",
            pair[0], pair[1]
        ));
    }
    text.push_str("null]}");
    text.into_bytes()
}
