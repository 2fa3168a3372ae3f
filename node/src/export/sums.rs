//! SHA-256 of every file of a copy, in the form that `sha256sum --check` reads.

use kura_cluster::hexadecimal;
use sha2::{Digest, Sha256};

/// A hash that grows.
#[derive(Default)]
pub struct Running(Sha256);

impl Running {
    /// Takes further bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hash, in hexadecimal.
    pub fn hexadecimal(self) -> String {
        hexadecimal(self.0.finalize())
    }
}

/// The hash of some bytes, in hexadecimal.
pub fn hexadecimal_of(bytes: &[u8]) -> String {
    hexadecimal(Sha256::digest(bytes))
}

/// Files by name below the copy, with their hashes.
#[derive(Debug, Default)]
pub struct Sums(Vec<(String, String)>);

impl Sums {
    /// Adds a file by its content.
    pub fn add(&mut self, name: &str, bytes: &[u8]) {
        self.0.push((name.to_owned(), hexadecimal_of(bytes)));
    }

    /// Adds files by name and hash.
    pub fn extend(&mut self, files: impl IntoIterator<Item = (String, String)>) {
        self.0.extend(files);
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| &name[..])
    }

    /// One line a file, in the order of their names.
    pub fn text(&mut self) -> String {
        self.0.sort();
        self.0.iter().map(|(name, hash)| format!("{hash}  {name}\n")).collect()
    }
}
