//! Seeds: everything random in a run comes from one number.
//!
//! Invariant: each use draws from a generator of its own, named by a purpose, so that one client's
//! pace does not change what another does.

use rand::SeedableRng;
use rand::rngs::StdRng;
use sha2::{Digest, Sha256};

/// The generator of a purpose.
pub fn generator(seed: u64, purpose: &str) -> StdRng {
    let mut hash = Sha256::new();
    hash.update(seed.to_be_bytes());
    hash.update(purpose.as_bytes());
    StdRng::from_seed(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;

    #[test]
    fn purposes_and_seeds_draw_apart_and_repeat() {
        let draw = |seed, purpose| generator(seed, purpose).random::<u64>();
        assert_eq!(draw(1, "a"), draw(1, "a"));
        assert_ne!(draw(1, "a"), draw(1, "b"));
        assert_ne!(draw(1, "a"), draw(2, "a"));
    }
}
