//! The hashes of parts, checked as their bytes pass.
//!
//! Invariant: a part is checked if its bytes were seen from its first to its last; the bytes that
//! complete a part with a wrong hash are reported before they are handed out.

use sha2::{Digest, Sha256};

use crate::record::Part;

/// The part, counted from 1, whose bytes are not those that were announced.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct WrongPart(pub usize);

pub(crate) struct Verifier {
    /// First and one past the last byte of each part, and its hash.
    parts: Vec<(u64, u64, [u8; 32])>,
    /// The part that the next byte belongs to, or that is about to begin.
    place: usize,
    /// The hash so far; none if the part was entered in its middle.
    hasher: Option<Sha256>,
}

impl Verifier {
    /// For a read that begins at a byte of the whole body.
    pub fn new(parts: &[Part], start: u64) -> Self {
        let mut end = 0;
        let parts: Vec<_> = parts
            .iter()
            .map(|part| {
                let begin = end;
                end += part.bytes;
                (begin, end, part.sha256)
            })
            .collect();
        let place = parts.iter().position(|(begin, end, _)| *begin >= start || *end > start).unwrap_or(parts.len());
        let begins_whole = parts.get(place).is_some_and(|(begin, ..)| *begin == start);
        Self { parts, place, hasher: begins_whole.then(Sha256::new) }
    }

    /// Takes the bytes at a position, in order and without gaps.
    pub fn update(&mut self, mut position: u64, mut bytes: &[u8]) -> Result<(), WrongPart> {
        loop {
            // Also ends parts without bytes, before, between and after others.
            while let Some((_, end, hash)) = self.parts.get(self.place)
                && *end == position
            {
                let right = self.hasher.take().is_none_or(|hasher| hasher.finalize().as_slice() == hash);
                self.place += 1;
                if !right {
                    return Err(WrongPart(self.place));
                }
                self.hasher = Some(Sha256::new());
            }
            let Some((_, end, _)) = self.parts.get(self.place) else { return Ok(()) };
            if bytes.is_empty() {
                return Ok(());
            }
            let here = usize::try_from(end - position).unwrap_or(usize::MAX).min(bytes.len());
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&bytes[..here]);
            }
            position += here as u64;
            bytes = &bytes[here..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(bodies: &[&[u8]]) -> Vec<Part> {
        let part = |body: &&[u8]| Part {
            name: String::new(),
            media_type: String::new(),
            bytes: body.len() as u64,
            sha256: Sha256::digest(body).into(),
        };
        bodies.iter().map(part).collect()
    }

    #[test]
    fn whole_parts_are_checked_however_the_bytes_are_cut() {
        let parts = parts(&[b"", b"abc", b"", b"defg", b""]);
        for cut in 0..=7 {
            let mut verifier = Verifier::new(&parts, 0);
            assert_eq!(verifier.update(0, &b"abcdefg"[..cut]), Ok(()));
            assert_eq!(verifier.update(cut as u64, &b"abcdefg"[cut..]), Ok(()));
            assert_eq!(verifier.place, parts.len());
            let mut verifier = Verifier::new(&parts, 0);
            let result = verifier.update(0, &b"abcdefX"[..cut]);
            assert_eq!(result.and_then(|()| verifier.update(cut as u64, &b"abcdefX"[cut..])), Err(WrongPart(4)));
        }
    }

    #[test]
    fn a_part_entered_in_its_middle_is_not_checked_but_the_next_is() {
        let parts = parts(&[b"abc", b"defg"]);
        assert_eq!(Verifier::new(&parts, 1).update(1, b"XXdefg"), Ok(()));
        assert_eq!(Verifier::new(&parts, 1).update(1, b"bcdefX"), Err(WrongPart(2)));
        assert_eq!(Verifier::new(&parts, 3).update(3, b"defX"), Err(WrongPart(2)));
        assert_eq!(Verifier::new(&parts, 0).update(0, b"abX"), Err(WrongPart(1)));
    }

    #[test]
    fn an_empty_part_has_its_hash_too() {
        let mut parts = parts(&[b""]);
        assert_eq!(Verifier::new(&parts, 0).update(0, b""), Ok(()));
        parts[0].sha256 = [0; 32];
        assert_eq!(Verifier::new(&parts, 0).update(0, b""), Err(WrongPart(1)));
    }
}
