//! Splitting and combining, by the crate vsss-rs: polynomials over GF(256), one for each byte of the key.
//!
//! The crate's multiplication neither branches nor looks up by secrets. Its polynomials go back to the
//! allocator as they are: what splits is a short-lived command, not a node.

use std::convert::Infallible;

use rand_core::{TryCryptoRng, TryRng};
use vsss_rs::Gf256;
use zeroize::Zeroize;

use super::{HOLDERS_MAX, Share, ShareSet, THRESHOLD_MIN, is_possible};
use crate::id::ClusterId;
use crate::seal::hash::share_check_value;
use crate::seal::{KEY_BYTES, Key};

/// Why a key was not split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// Numbers that cannot be.
    #[error(
        "a split takes {THRESHOLD_MIN} to {HOLDERS_MAX} holders, of whom at least {THRESHOLD_MIN} and at most all restore the key"
    )]
    Numbers,
    /// The scheme refused; it cannot, for numbers that are possible.
    #[error("the key could not be split")]
    Scheme,
}

/// Splits a root key. `fill` gives fresh random bytes.
///
/// # Errors
/// [`SplitError`].
pub fn split(
    root: &Key,
    cluster: &ClusterId,
    threshold: u8,
    holders: u8,
    fill: impl FnMut(&mut [u8]),
) -> Result<(ShareSet, Vec<Share>), SplitError> {
    if !is_possible(threshold, holders) {
        return Err(SplitError::Numbers);
    }
    let drawn = Drawn(fill);
    let points = Gf256::split_bytes(usize::from(threshold), usize::from(holders), root.expose_bytes(), drawn)
        .map_err(|_| SplitError::Scheme)?;
    let mut bodies = Vec::with_capacity(points.len());
    for mut point in points {
        let body = body(&point);
        point.zeroize();
        bodies.push(body.ok_or(SplitError::Scheme)?);
    }
    let share_check_values = bodies.iter().map(|(index, body)| share_check_value(body, *index)).collect();
    let set = ShareSet { threshold, root_check_value: root.check_value(), share_check_values };
    let fingerprint = set.fingerprint(cluster);
    let shares = bodies.into_iter().map(|(index, body)| Share { index, threshold, set: fingerprint, body }).collect();
    Ok((set, shares))
}

/// The number and the body of a share as the scheme writes it: its number first.
fn body(point: &[u8]) -> Option<(u8, Key)> {
    let (index, bytes) = point.split_first()?;
    let mut bytes: [u8; KEY_BYTES] = bytes.try_into().ok()?;
    Some((*index, Key::from_bytes(&mut bytes)))
}

/// What so many shares, each of another number, come to. Of another set or too few, it is some other key.
pub(super) fn combine<'s>(shares: impl Iterator<Item = &'s Share>) -> Option<Key> {
    let mut points: Vec<Vec<u8>> = shares
        .map(|share| {
            let mut point = Vec::with_capacity(1 + KEY_BYTES);
            point.push(share.index);
            point.extend_from_slice(share.body.expose_bytes());
            point
        })
        .collect();
    let combined = Gf256::combine_bytes(&points);
    points.zeroize();
    let mut bytes = combined.ok()?;
    let key = <&mut [u8; KEY_BYTES]>::try_from(&mut bytes[..]).ok().map(Key::from_bytes);
    bytes.zeroize();
    key
}

/// The caller's randomness, as the scheme asks for it.
struct Drawn<F>(F);

impl<F: FnMut(&mut [u8])> TryRng for Drawn<F> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        (self.0)(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        (self.0)(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        (self.0)(bytes);
        Ok(())
    }
}

impl<F: FnMut(&mut [u8])> TryCryptoRng for Drawn<F> {}
