//! Keys sealed under keys: epoch keys under the root key, data keys under the wrapping key.
//!
//! Shape: format (1 byte, 1), nonce (24), ciphertext of the key (32) and of its check value (8), tag
//! (16): [`WRAPPED_KEY_BYTES`]. The associated data is `kura-key`, format, length of the context
//! (4 bytes big endian), the context. The check value shows that what came out is the key that went
//! in, whatever sealed it: AES-GCM alone lets someone who knows two wrapping keys make bytes that
//! open under both.

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::cipher::{self, NONCE_BYTES, Nonce, TAG_BYTES, Tag};
use super::{CHECK_VALUE_BYTES, DoesNotOpen, KEY_BYTES, Key, take};

const FORMAT: u8 = 1;
const BODY_BYTES: usize = KEY_BYTES + CHECK_VALUE_BYTES;

/// Length of every wrapped key.
pub const WRAPPED_KEY_BYTES: usize = 1 + NONCE_BYTES + BODY_BYTES + TAG_BYTES;

/// Seals `key` under `wrapping_key`. `context` says which key it is (cluster, whose, version): the
/// same bytes must be given to [`unwrap_key`].
///
/// # Panics
///
/// If the context is 4 GiB or longer.
pub fn wrap_key(wrapping_key: &Key, nonce: &Nonce, context: &[u8], key: &Key) -> Vec<u8> {
    let mut body = Zeroizing::new([0; BODY_BYTES]);
    body[..KEY_BYTES].copy_from_slice(key.expose_bytes());
    body[KEY_BYTES..].copy_from_slice(&key.check_value());
    let tag = cipher::encrypt_in_place(wrapping_key, nonce, &associated_data(context), &mut body[..]);
    let mut wrapped = Vec::with_capacity(WRAPPED_KEY_BYTES);
    wrapped.push(FORMAT);
    wrapped.extend_from_slice(nonce);
    wrapped.extend_from_slice(&body[..]);
    wrapped.extend_from_slice(&tag);
    wrapped
}

/// Opens what [`wrap_key`] made, for the same context.
pub fn unwrap_key(wrapping_key: &Key, context: &[u8], wrapped: &[u8]) -> Result<Key, DoesNotOpen> {
    let (nonce, mut body, tag) = split(wrapped).ok_or(DoesNotOpen)?;
    cipher::decrypt_in_place(wrapping_key, &nonce, &associated_data(context), &mut body[..], &tag)?;
    let (bytes, check_value) = body.split_first_chunk_mut::<KEY_BYTES>().ok_or(DoesNotOpen)?;
    let key = Key::from_bytes(bytes);
    if bool::from(key.check_value().as_slice().ct_eq(check_value)) { Ok(key) } else { Err(DoesNotOpen) }
}

fn split(mut wrapped: &[u8]) -> Option<(Nonce, Zeroizing<[u8; BODY_BYTES]>, Tag)> {
    let [format] = take(&mut wrapped)?;
    let nonce = take(&mut wrapped)?;
    let body = Zeroizing::new(take(&mut wrapped)?);
    let tag = take(&mut wrapped)?;
    (format == FORMAT && wrapped.is_empty()).then_some((nonce, body, tag))
}

fn associated_data(context: &[u8]) -> Vec<u8> {
    let length = u32::try_from(context.len()).expect("a wrapping's context is far shorter than 4 GiB");
    let mut bytes = Vec::with_capacity(13 + context.len());
    bytes.extend_from_slice(b"kura-key");
    bytes.push(FORMAT);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(context);
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{key, nonce, unhex};
    use super::*;
    use crate::hexadecimal;

    const FROZEN: &str = "01505152535455565758595a5b5c5d5e5f6061626364656667a6da51c6ed37c9703e8aae6247aa2aed2e6d379f4d8363\
         ba423bbb041c404a5077623c9706f9ca1a284fba40ed91c6774e99b9a0f981e425";

    #[test]
    fn a_wrapped_key_is_frozen() {
        assert_eq!(hexadecimal(wrap_key(&key(0x21), &nonce(80), b"data key 3", &key(0x42))), FROZEN);
        assert_eq!(unwrap_key(&key(0x21), b"data key 3", &unhex(FROZEN)), Ok(key(0x42)));
    }

    #[test]
    fn a_wrong_check_value_does_not_open() {
        let mut body = [0x42; BODY_BYTES];
        let tag = cipher::encrypt_in_place(&key(0x21), &nonce(80), &associated_data(b"c"), &mut body);
        let wrapped = [&[FORMAT][..], &nonce(80), &body, &tag].concat();
        assert_eq!(unwrap_key(&key(0x21), b"c", &wrapped), Err(DoesNotOpen));
    }

    proptest! {
        #[test]
        fn opens_only_with_its_key_and_context(
            wrapping: u8, inner: u8, context in prop::collection::vec(any::<u8>(), 0..60), bit in 0_usize..480,
        ) {
            let wrapped = wrap_key(&key(wrapping), &nonce(inner), &context, &key(inner));
            prop_assert_eq!(wrapped.len(), WRAPPED_KEY_BYTES);
            prop_assert_eq!(unwrap_key(&key(wrapping), &context, &wrapped), Ok(key(inner)));
            prop_assert_eq!(unwrap_key(&key(wrapping ^ 1), &context, &wrapped), Err(DoesNotOpen));
            let mut other = context.clone();
            other.push(0);
            prop_assert_eq!(unwrap_key(&key(wrapping), &other, &wrapped), Err(DoesNotOpen));
            if !context.is_empty() {
                other.pop();
                other[bit / 8 % context.len()] ^= 1 << (bit % 8);
                prop_assert_eq!(unwrap_key(&key(wrapping), &other, &wrapped), Err(DoesNotOpen));
                prop_assert_eq!(unwrap_key(&key(wrapping), &context[1..], &wrapped), Err(DoesNotOpen));
            }
        }

        #[test]
        fn arbitrary_bytes_are_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..WRAPPED_KEY_BYTES + 5)) {
            prop_assert_eq!(unwrap_key(&key(1), b"c", &bytes), Err(DoesNotOpen));
            bytes.resize(WRAPPED_KEY_BYTES, 0);
            bytes[0] = FORMAT;
            prop_assert_eq!(unwrap_key(&key(1), b"c", &bytes), Err(DoesNotOpen));
        }
    }

    #[test]
    fn any_flipped_bit_cut_or_addition_does_not_open() {
        let wrapped = unhex(FROZEN);
        for bit in 0..8 * WRAPPED_KEY_BYTES {
            let mut flipped = wrapped.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(unwrap_key(&key(0x21), b"data key 3", &flipped), Err(DoesNotOpen), "bit {bit}");
        }
        for length in 0..WRAPPED_KEY_BYTES {
            assert_eq!(unwrap_key(&key(0x21), b"data key 3", &wrapped[..length]), Err(DoesNotOpen), "{length}");
        }
        assert_eq!(unwrap_key(&key(0x21), b"data key 3", &[&wrapped[..], &[0]].concat()), Err(DoesNotOpen));
    }
}
