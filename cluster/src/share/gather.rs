//! Shares that come in one by one, until they are enough: at a sealed node, and offline at a recovery.

use std::collections::BTreeMap;

use super::shamir::combine;
use super::{Fingerprint, Share, ShareSet};
use crate::hexadecimal;
use crate::id::ClusterId;
use crate::seal::Key;

/// Why a share was not taken. Those that were taken before stay.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GatherError {
    /// It is of another set.
    #[error("this share is of the set {}, wanted is one of the set {}", hexadecimal(found), hexadecimal(wanted))]
    OtherSet {
        /// Its set.
        found: Fingerprint,
        /// The one that is gathered.
        wanted: Fingerprint,
    },
    /// Its set and checksum fit, and yet it is not the share that was given out under this number.
    #[error("share {index} is not the one that was given out under this number")]
    Altered {
        /// Its number.
        index: u8,
    },
    /// Enough shares, each as it was given out, and still another key came out.
    #[error("the shares do not come to the root key of their set")]
    OtherKey,
}

/// How far it has come.
#[derive(Debug)]
pub enum Gathered {
    /// More are needed.
    Waiting {
        /// Different shares that are there.
        held: u8,
        /// How many restore the key.
        threshold: u8,
    },
    /// The key. Nothing is held any more.
    Key(Key),
}

/// Shares of one set. Bounded: at most one for each number, and never more than restore the key.
#[derive(Debug)]
pub struct Gathering {
    fingerprint: Fingerprint,
    set: ShareSet,
    shares: BTreeMap<u8, Share>,
}

impl Gathering {
    /// Nothing gathered yet.
    pub fn new(cluster: &ClusterId, set: ShareSet) -> Gathering {
        Gathering { fingerprint: set.fingerprint(cluster), set, shares: BTreeMap::new() }
    }

    /// The set whose shares are wanted.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// How many different shares are held.
    pub fn held(&self) -> u8 {
        self.shares.len() as u8
    }

    /// How many restore the key.
    pub fn threshold(&self) -> u8 {
        self.set.threshold
    }

    /// Whether a share is one of this set, as it was given out.
    ///
    /// # Errors
    /// [`GatherError::OtherSet`], [`GatherError::Altered`].
    pub fn check(&self, share: &Share) -> Result<(), GatherError> {
        if share.set != self.fingerprint {
            return Err(GatherError::OtherSet { found: share.set, wanted: self.fingerprint });
        }
        let known = self.set.share_check_values.get(usize::from(share.index).wrapping_sub(1));
        match share.threshold == self.set.threshold && known == Some(&share.check_value()) {
            true => Ok(()),
            false => Err(GatherError::Altered { index: share.index }),
        }
    }

    /// Takes a share. The same one again changes nothing.
    ///
    /// # Errors
    /// [`GatherError`]. After [`GatherError::OtherKey`] nothing is held any more.
    pub fn add(&mut self, share: Share) -> Result<Gathered, GatherError> {
        self.check(&share)?;
        self.shares.insert(share.index, share);
        if self.held() < self.set.threshold {
            return Ok(Gathered::Waiting { held: self.held(), threshold: self.set.threshold });
        }
        let key = combine(self.shares.values());
        self.shares.clear();
        match key.filter(|key| key.check_value() == self.set.root_check_value) {
            Some(key) => Ok(Gathered::Key(key)),
            None => Err(GatherError::OtherKey),
        }
    }
}
