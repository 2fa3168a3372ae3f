//! What the fuzz targets of all crates share: input from what an engine draws, and a bound on memory.
//!
//! A target lies in the crate of what it tries, in `fuzz.rs`, and is an ordinary test: `bolero` draws the cases there
//! and under a coverage-guided engine (`make fuzz`). For tests only: linking this crate replaces the allocator.
//!
//! Invariants
//! - An input is a pure function of the drawn bytes and the samples: a kept input says the same next year, as long as
//!   the samples stay.
//! - Memory is counted for the calling thread alone: other tests do not disturb.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Cases of one target in an ordinary test run. `BOLERO_RANDOM_ITERATIONS` overrides it.
pub const CASES: usize = 4_000;

/// Bytes drawn for a case at most, so many also of a sample that is edited and of what is drawn whole.
pub const DRAWN_BYTES_MAX: usize = 512;

/// Edits of one sample at most.
const EDITS_MAX: usize = 6;

/// Makes the bytes to decode: a sample with a few edits, or what was drawn as it is.
///
/// `drawn`: which sample (1 byte; 0: none of them, the rest is taken as it is), how many edits (1), then for each
/// its kind (1), place (2, big endian, modulo the length) and value (1).
pub fn shaped(drawn: &[u8], samples: &[Vec<u8>]) -> Vec<u8> {
    let (Some((&which, rest)), false) = (drawn.split_first(), samples.is_empty()) else { return drawn.to_vec() };
    if which == 0 {
        return rest.to_vec();
    }
    let sample = |n: usize| &samples[n % samples.len()];
    let mut bytes = sample(usize::from(which) - 1).clone();
    let Some((&count, rest)) = rest.split_first() else { return bytes };
    for edit in rest.chunks_exact(4).take(usize::from(count) % (EDITS_MAX + 1)) {
        let (kind, value) = (edit[0], edit[3]);
        let at = usize::from(u16::from_be_bytes([edit[1], edit[2]])) % (bytes.len() + 1);
        match kind % 9 {
            0 if at < bytes.len() => bytes[at] ^= 1 << (value % 8),
            1 if at < bytes.len() => bytes[at] = value,
            2 => bytes.insert(at, value),
            3 if at < bytes.len() => drop(bytes.remove(at)),
            4 => bytes.truncate(at),
            // The same again, as a repeated field or a second frame would be.
            5 => {
                let again = bytes[at..].iter().copied().take(usize::from(value)).collect::<Vec<_>>();
                bytes.splice(at..at, again);
            }
            // A length or a number as large as it gets.
            6 => bytes.iter_mut().skip(at).take(usize::from(value) % 9).for_each(|byte| *byte = 0xff),
            7 => bytes.iter_mut().skip(at).take(usize::from(value) % 9).for_each(|byte| *byte = 0),
            // The end of another one.
            8 => {
                let other = sample(usize::from(value));
                bytes.truncate(at);
                bytes.extend_from_slice(&other[at.min(other.len())..]);
            }
            _ => {}
        }
    }
    bytes
}

/// Memory that decoding may hold at a time: so many bytes for each byte of input, and some whatever the input.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    /// For each byte of input.
    pub each: u64,
    /// Besides.
    pub once: u64,
}

impl Bound {
    /// What most forms need: a message of two bytes is an element of some hundred, and a page besides.
    pub const USUAL: Bound = Bound { each: 256, once: 16 << 10 };
}

/// Decodes `shaped` bytes within a bound of memory. `decode` asserts what it likes.
///
/// # Panics
/// If `decode` does, or holds more memory.
pub fn decode_within(bound: Bound, drawn: &[u8], samples: &[Vec<u8>], decode: impl Fn(&[u8])) {
    let bytes = shaped(drawn, samples);
    let mut ended = Ok(());
    // A panic must not leave the counter's stack one deeper: the engine goes on to make the input smaller.
    let counted = allocation_counter::measure(|| ended = catch_unwind(AssertUnwindSafe(|| decode(&bytes))));
    if let Err(panic) = ended {
        resume_unwind(panic);
    }
    let most = bound.each * bytes.len() as u64 + bound.once;
    assert!(counted.bytes_max <= most, "{} bytes held for {} of input, {most} at most", counted.bytes_max, bytes.len());
}

/// A target over bytes: a test that decodes what is [`shaped`] of some samples, within a bound of memory. The crate that uses it depends on
/// `bolero`.
///
/// ```text
/// kura_fuzz::target!(
///     /// What is promised.
///     name,
///     vec![b"a sample".to_vec()],
///     |bytes| assert!(parse(bytes).is_ok_and(|read| read.to_bytes() == bytes))
/// );
/// ```
#[macro_export]
macro_rules! target {
    ($(#[$doc:meta])* $name:ident, $samples:expr, $decode:expr) => {
        $crate::target!($(#[$doc])* $name, within $crate::Bound::USUAL, $samples, $decode);
    };
    ($(#[$doc:meta])* $name:ident, within $bound:expr, $samples:expr, $decode:expr) => {
        $(#[$doc])*
        #[test]
        fn $name() {
            let samples: Vec<Vec<u8>> = $samples;
            ::bolero::check!()
                .with_iterations($crate::CASES)
                .with_max_len($crate::DRAWN_BYTES_MAX)
                .for_each(|drawn: &[u8]| $crate::decode_within($bound, drawn, &samples, $decode));
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_come_as_they_are_edited_or_not_at_all() {
        let samples = [b"abcdef".to_vec(), b"UVWXYZ".to_vec()];
        assert_eq!(shaped(b"", &samples), b"");
        assert_eq!(shaped(b"\0raw", &samples), b"raw");
        assert_eq!(shaped(b"\x01", &samples), b"abcdef");
        assert_eq!(shaped(b"\x02\x01\x03\0\x01\0", &samples), b"UWXYZ");
        assert_eq!(shaped(b"\x01\x01\x08\0\x02\x01", &samples), b"abWXYZ");
        assert_eq!(shaped(b"\x01\x01\x05\0\x04\x02", &samples), b"abcdefef");
        assert_eq!(shaped(b"\x01\x00\x05\0\x04\x02", &samples), b"abcdef");
        assert_eq!(shaped(b"\x01x", &[]), b"\x01x");
    }

    #[test]
    fn memory_beyond_the_bound_is_a_failure() {
        let holds = |bytes: usize| {
            let bound = Bound { each: 2, once: 100 };
            catch_unwind(|| {
                decode_within(bound, b"\0twelve-bytes", &[Vec::new()], |_| {
                    std::hint::black_box(Vec::<u8>::with_capacity(bytes));
                })
            })
        };
        assert!(holds(124).is_ok());
        assert!(holds(125).is_err());
    }
}
