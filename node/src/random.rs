//! Randomness from the operating system.
//!
//! Nonces are asked of the kernel each time instead of a generator in the process: a virtual machine
//! that is rolled back must not repeat them, and the kernel is told of the rollback.

use kura_cluster::seal::{Key, Nonce};

/// Fills bytes from the kernel. There is no going on without randomness.
pub fn fill(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the kernel gives randomness");
}

/// Sixteen fresh bytes, for ids.
pub fn id() -> [u8; 16] {
    let mut bytes = [0; 16];
    fill(&mut bytes);
    bytes
}

/// An id that tells its birth: 6 bytes of milliseconds since 1970, big endian, then randomness.
pub fn born_id(born_ms: u64) -> [u8; 16] {
    let mut bytes = id();
    bytes[..6].copy_from_slice(&born_ms.to_be_bytes()[2..]);
    bytes
}

/// A fresh key.
pub fn key() -> Key {
    let mut bytes = [0; 32];
    fill(&mut bytes);
    Key::from_bytes(&mut bytes)
}

/// Fresh nonces, drawn from the kernel some at a time.
pub struct Nonces {
    bytes: [u8; 24 * 16],
    used: usize,
}

impl Nonces {
    /// Draws the first of them.
    pub fn new() -> Nonces {
        let mut nonces = Nonces { bytes: [0; 24 * 16], used: 0 };
        fill(&mut nonces.bytes);
        nonces
    }

    /// A nonce that was never given before.
    pub fn take(&mut self) -> Nonce {
        if self.used == self.bytes.len() {
            fill(&mut self.bytes);
            self.used = 0;
        }
        let mut nonce = [0; 24];
        nonce.copy_from_slice(&self.bytes[self.used..self.used + 24]);
        self.used += 24;
        nonce
    }
}

impl Default for Nonces {
    fn default() -> Nonces {
        Nonces::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_nonce_comes_twice() {
        let mut nonces = Nonces::new();
        let drawn: std::collections::HashSet<Nonce> = (0..1_000).map(|_| nonces.take()).collect();
        assert_eq!(drawn.len(), 1_000);
    }
}
