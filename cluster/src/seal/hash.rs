//! Keyed hashes: row keys made of outside identifiers, and the MAC of commands.
//!
//! HMAC-SHA-256 over an eight-byte tag, a domain byte and length-prefixed parts, so that no two
//! lists of parts and no two domains give the same input. Without the index key nobody can test a
//! guessed participant number against a stored row key.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::{CHECK_VALUE_BYTES, Key};

/// What a keyed hash stands for. The numbers are part of every stored row key: never change one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Domain {
    /// A participant's number.
    Number = 1,
    /// A facility with its own id of a patient.
    LinkFacilityLocal = 2,
    /// The reverse of a link.
    LinkReverse = 3,
    /// A facility with its author's document id.
    DocumentId = 4,
    /// A facility.
    Facility = 5,
    /// A user of a facility.
    User = 6,
    /// An application.
    Application = 7,
    /// The facility whose inbox it is.
    InboxFacility = 8,
    /// The participant whom a journal entry is about.
    JournalSubject = 9,
    /// The facility that a journal entry is about.
    JournalFacility = 10,
    /// An application's request.
    Request = 11,
    /// The user of emergency reads.
    EmergencyUser = 12,
    /// The facility of emergency reads.
    EmergencyFacility = 13,
    /// The application of emergency reads.
    EmergencyApplication = 14,
    /// The facility that participants granted.
    GrantIndex = 15,
    /// A member of the cluster.
    Member = 16,
    /// A participant's card, by its serial.
    Card = 17,
    /// The facility that enters grants for itself.
    OwnGrants = 18,
    /// An erased participant's number, or a card's serial: never given out again.
    ErasedNumber = 19,
    /// The credential with which emergencies are opened.
    EmergencyCredential = 20,
    /// A facility whose users enter grants, and the facility that they name.
    GrantsFor = 21,
}

/// The keyed hash of `parts` in a domain.
///
/// # Panics
///
/// If a part is 4 GiB long or longer; identifiers have at most some hundred bytes.
pub fn index_hash(index_key: &Key, domain: Domain, parts: &[&[u8]]) -> [u8; 32] {
    keyed_hash(index_key, b"kura-idx", |mac| {
        mac.update(&[domain as u8]);
        for part in parts {
            let length = u32::try_from(part.len()).expect("identifiers are far shorter than 4 GiB");
            mac.update(&length.to_be_bytes());
            mac.update(part);
        }
    })
}

/// The MAC by which a leader knows that an unsealed voter made a command.
pub fn command_mac(command_key: &Key, command: &[u8]) -> [u8; 32] {
    keyed_hash(command_key, b"kura-cmd", |mac| mac.update(command))
}

/// Whether `mac` is the command's MAC; constant in time.
pub fn verify_command_mac(command_key: &Key, command: &[u8], mac: &[u8]) -> bool {
    command_mac(command_key, command).as_slice().ct_eq(mac).into()
}

/// The check value of a share of the root key: it tells nothing about the share.
pub(crate) fn share_check_value(body: &Key, index: u8) -> [u8; CHECK_VALUE_BYTES] {
    let hash = keyed_hash(body, b"kura-shc", |mac| mac.update(&[index]));
    let mut value = [0; CHECK_VALUE_BYTES];
    value.copy_from_slice(&hash[..CHECK_VALUE_BYTES]);
    value
}

/// What shows that whoever describes a set of shares has the root key.
pub(crate) fn share_set_proof(root: &Key, digest: &[u8; 32]) -> [u8; 32] {
    keyed_hash(root, b"kura-shp", |mac| mac.update(digest))
}

/// HMAC-SHA-256 (RFC 2104, FIPS 198-1) over a tag that separates the uses, then what `feed` adds.
pub(super) fn keyed_hash(key: &Key, tag: &[u8; 8], feed: impl FnOnce(&mut Hmac<Sha256>)) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose_bytes()).expect("HMAC takes keys of any length");
    mac.update(tag);
    feed(&mut mac);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::key;
    use super::*;
    use crate::hexadecimal;

    const DOMAINS: [Domain; 21] = [
        Domain::Number,
        Domain::LinkFacilityLocal,
        Domain::LinkReverse,
        Domain::DocumentId,
        Domain::Facility,
        Domain::User,
        Domain::Application,
        Domain::InboxFacility,
        Domain::JournalSubject,
        Domain::JournalFacility,
        Domain::Request,
        Domain::EmergencyUser,
        Domain::EmergencyFacility,
        Domain::EmergencyApplication,
        Domain::GrantIndex,
        Domain::Member,
        Domain::Card,
        Domain::OwnGrants,
        Domain::ErasedNumber,
        Domain::EmergencyCredential,
        Domain::GrantsFor,
    ];

    #[test]
    fn index_hashes_are_frozen() {
        let hashes = [
            hexadecimal(index_hash(&key(9), Domain::Number, &[b"0043001234567890"])),
            hexadecimal(index_hash(&key(9), Domain::LinkFacilityLocal, &[b"F0012", b"A-77"])),
            hexadecimal(index_hash(&key(9), Domain::Request, &[])),
        ];
        assert_eq!(
            hashes,
            [
                "05970afadc804bc20055026ba80d06afc0e42641eef082997bb27cd6096b16f1",
                "a469d8b42f3d7cd7bbf1852c675462898c8567815046a1f80c757a4370c47f4d",
                "beb5ae03ceec286328314d9acea6f0420b78715d21ce28e55a1a2ae5675f209f"
            ]
        );
    }

    /// HMAC-SHA-256 over "kura-idx" ‖ 05 ‖ 00000005 ‖ "F0012" computed by hand, without `index_hash`.
    #[test]
    fn an_index_hash_is_hmac_over_the_documented_bytes() {
        let mut mac = Hmac::<Sha256>::new_from_slice(&[9; 32]).unwrap();
        mac.update(b"kura-idx\x05\x00\x00\x00\x05F0012");
        let by_hand: [u8; 32] = mac.finalize().into_bytes().into();
        assert_eq!(index_hash(&key(9), Domain::Facility, &[b"F0012"]), by_hand);
    }

    #[test]
    fn domains_are_numbered_from_one_and_separate() {
        let mut hashes = Vec::new();
        for (i, domain) in DOMAINS.into_iter().enumerate() {
            assert_eq!(domain as usize, i + 1);
            hashes.push(index_hash(&key(1), domain, &[b"x"]));
        }
        hashes.sort();
        hashes.dedup();
        assert_eq!(hashes.len(), DOMAINS.len());
    }

    #[test]
    fn a_command_mac_is_frozen_and_verified_whole() {
        let mac = command_mac(&key(5), b"command");
        assert_eq!(hexadecimal(mac), "30e52dd96a82f6b4cb718783ada8b6093a77d907db7351a130aafb8dc8f547f5");
        assert!(verify_command_mac(&key(5), b"command", &mac));
        assert!(!verify_command_mac(&key(6), b"command", &mac));
        assert!(!verify_command_mac(&key(5), b"Command", &mac));
        assert!(!verify_command_mac(&key(5), b"command", &mac[..31]));
        assert!(!verify_command_mac(&key(5), b"command", &[]));
        for bit in 0..256 {
            let mut changed = mac;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(!verify_command_mac(&key(5), b"command", &changed));
        }
    }

    proptest! {
        /// Moving a byte from one part to its neighbour, or splitting a part, changes the hash.
        #[test]
        fn parts_do_not_run_together(bytes in prop::collection::vec(any::<u8>(), 0..40), a in 0_usize..41, b in 0_usize..41) {
            let (a, b) = (a.min(bytes.len()), b.min(bytes.len()));
            let of = |at: usize| index_hash(&key(3), Domain::User, &[&bytes[..at], &bytes[at..]]);
            prop_assert_eq!(of(a) == of(b), a == b);
            prop_assert_ne!(of(a), index_hash(&key(3), Domain::User, &[&bytes]));
        }
    }
}
