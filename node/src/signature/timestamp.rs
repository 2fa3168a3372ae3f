//! Timestamp tokens (RFC 3161 §2.4.2): SignedData over a TSTInfo.

use cms::cert::x509::spki::AlgorithmIdentifierOwned;
use der::asn1::{Int, ObjectIdentifier, OctetString};
use der::{Any, Decode, Reader, Sequence, SliceReader, Tag, Tagged};

use time::{Date, Month, PrimitiveDateTime, Time};

use super::Wrong;
use super::digests::{DigestAlgorithm, Digests};
use super::signed_data::Signed;
use super::trust::{Authorities, Usage};

const ID_TST_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.4");

/// A token, parsed.
#[derive(Clone)]
pub struct Token {
    signed: Signed,
    /// Digest of the TSTInfo.
    content: Vec<u8>,
    /// What it is over.
    pub imprint: (DigestAlgorithm, Vec<u8>),
    at_ms: u64,
}

/// What a valid token shows.
pub struct Shown {
    /// When, in milliseconds since 1970-01-01 UTC.
    pub at_ms: u64,
    /// That the signature was there then, not only the bytes.
    pub over_signature: bool,
}

#[derive(Sequence)]
struct MessageImprint {
    algorithm: AlgorithmIdentifierOwned,
    hashed: OctetString,
}

impl Token {
    /// Parses it.
    pub fn parse(bytes: &[u8]) -> Result<Token, Wrong> {
        let (signed, content) = Signed::parse(bytes, ID_TST_INFO)?;
        let content = content.ok_or(Wrong::unsupported("holds no time"))?;
        let (imprint, at_ms) = info(&content).ok_or(Wrong::unsupported("holds no TSTInfo in DER"))?;
        let algorithm = DigestAlgorithm::of(&imprint.algorithm.oid);
        let algorithm = algorithm.ok_or(Wrong::unsupported("uses a digest other than SHA-256, SHA-384 and SHA-512"))?;
        let imprint = (algorithm, imprint.hashed.into_bytes().into());
        Ok(Token { content: signed.digest.digest(&content), signed, imprint, at_ms })
    }

    /// Whether it is over these bytes or this signature, by a trusted authority.
    pub fn verify(
        &self,
        authorities: &Authorities,
        digests: &Digests,
        signature: Option<&Signed>,
    ) -> Result<Shown, Wrong> {
        let (algorithm, hashed) = &self.imprint;
        let over_signature = signature.is_some_and(|signed| algorithm.digest(signed.signature()) == *hashed);
        if !over_signature && digests.of(*algorithm) != *hashed {
            return Err(Wrong::invalid("is over other bytes"));
        }
        self.signed.verify_over(&self.content)?;
        authorities.verify(&self.signed, self.at_ms, Usage::Timestamping)?;
        Ok(Shown { at_ms: self.at_ms, over_signature })
    }
}

/// Imprint and time of a TSTInfo: version, policy, messageImprint, serialNumber, genTime, and what follows.
fn info(bytes: &[u8]) -> Option<(MessageImprint, u64)> {
    let content = Any::from_der(bytes).ok()?;
    if content.tag() != Tag::Sequence {
        return None;
    }
    let mut reader = SliceReader::new(content.value()).ok()?;
    let version: u8 = reader.decode().ok()?;
    let _policy: ObjectIdentifier = reader.decode().ok()?;
    let imprint: MessageImprint = reader.decode().ok()?;
    let _serial: Int = reader.decode().ok()?;
    let time: Any = reader.decode().ok()?;
    if version != 1 || time.tag() != Tag::GeneralizedTime {
        return None;
    }
    Some((imprint, moment(std::str::from_utf8(time.value()).ok()?)?))
}

/// `YYYYMMDDhhmmss[.f…]Z` (RFC 3161 allows a fraction, which DER's own time has not), in milliseconds since 1970.
fn moment(text: &str) -> Option<u64> {
    let text = text.strip_suffix('Z')?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if seconds.len() != 14 || fraction.is_empty() || fraction.len() > 9 || !digits(seconds) || !digits(fraction) {
        return None;
    }
    let two = |at: usize| seconds[at..at + 2].parse::<u8>().ok();
    let month = Month::try_from(two(4)?).ok()?;
    let date = Date::from_calendar_date(seconds[..4].parse().ok()?, month, two(6)?).ok()?;
    let time = Time::from_hms(two(8)?, two(10)?, two(12)?).ok()?;
    let whole = PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp();
    let ms: u64 = format!("{fraction:0<3}")[..3].parse().ok()?;
    u64::try_from(whole).ok()?.checked_mul(1000)?.checked_add(ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_and_without_a_fraction() {
        assert_eq!(moment("19700101000001Z"), Some(1_000));
        assert_eq!(moment("19700101000001.5Z"), Some(1_500));
        assert_eq!(moment("20260401093000.123456Z"), Some(1_775_035_800_123));
        for wrong in
            ["", "Z", "19700101000001", "1970010100000Z", "19701301000001Z", "19700101000001.Z", "1970010100000éZ"]
        {
            assert_eq!(moment(wrong), None, "{wrong:?}");
        }
    }
}
