//! A secret key.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::hash::keyed_hash;

/// Length of every key.
pub const KEY_BYTES: usize = 32;

/// Length of a key's check value.
pub const CHECK_VALUE_BYTES: usize = 8;

/// 32 secret bytes: a root key, an epoch key, a data key or the index key.
///
/// The bytes lie on the heap, so that moving a `Key` leaves no copy behind, and are wiped when it is
/// dropped. Deliberately neither `Clone` nor serializable: share it by `Arc`, store it by
/// [`wrap_key`](super::wrap_key).
#[derive(ZeroizeOnDrop)]
pub struct Key(Box<[u8; KEY_BYTES]>);

impl Key {
    /// Takes the bytes and wipes the argument; copies that the caller keeps are the caller's to wipe.
    pub fn from_bytes(bytes: &mut [u8; KEY_BYTES]) -> Key {
        let mut key = Key(Box::new([0; KEY_BYTES]));
        key.0.copy_from_slice(bytes);
        bytes.zeroize();
        key
    }

    /// The bytes themselves: for splitting a root key into shares, and for other ciphers' keys.
    pub fn expose_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// Eight bytes by which people and machines see that two copies of a key are the same one.
    ///
    /// The first bytes of an HMAC-SHA-256 under the key over a constant: it tells nothing about the
    /// key, but it is not a commitment against someone who chooses keys (64 bits).
    pub fn check_value(&self) -> [u8; CHECK_VALUE_BYTES] {
        let hash = keyed_hash(self, b"kura-chk", |_| {});
        let mut value = [0; CHECK_VALUE_BYTES];
        value.copy_from_slice(&hash[..CHECK_VALUE_BYTES]);
        value
    }
}

impl ConstantTimeEq for Key {
    fn ct_eq(&self, other: &Key) -> subtle::Choice {
        self.0.as_slice().ct_eq(other.0.as_slice())
    }
}

/// Constant in time.
impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.ct_eq(other).into()
    }
}

impl Eq for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::key;
    use super::*;
    use crate::hexadecimal;

    #[test]
    fn bytes_move_in_and_are_wiped_outside() {
        let mut bytes = [7; KEY_BYTES];
        let taken = Key::from_bytes(&mut bytes);
        assert_eq!(taken.expose_bytes(), &[7; KEY_BYTES]);
        assert_eq!(bytes, [0; KEY_BYTES]);
    }

    #[test]
    fn keys_compare_by_content_and_do_not_print_it() {
        assert_eq!(key(1), key(1));
        let mut other = [1; KEY_BYTES];
        other[31] ^= 0x80;
        assert_ne!(key(1), Key::from_bytes(&mut other));
        assert_eq!(format!("{:?}", key(0xab)), "Key(…)");
    }

    #[test]
    fn check_values_are_frozen_and_differ_between_keys() {
        assert_eq!(hexadecimal(key(1).check_value()), "ab5ef58d0914e9e8");
        assert_ne!(key(1).check_value(), key(2).check_value());
    }

    #[test]
    fn a_key_is_wiped_when_dropped() {
        fn wiped<T: ZeroizeOnDrop>() {}
        wiped::<Key>();
    }
}
