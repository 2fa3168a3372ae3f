//! Trains the compression dictionary that ships with Kura, on generated samples only.
//!
//! `cargo run --release -p kura-node --example train-dictionary -- cluster/dictionaries/records-1.zdict`
//!
//! Prints the SHA-256 under which blocks name the dictionary. A dictionary that has shipped is
//! never replaced: stored blocks need it. See `samples::training`.

use std::process::ExitCode;

use kura_node::samples::training::{DICTIONARY_BYTES_MAX, training_set};
use sha2::{Digest, Sha256};

fn main() -> ExitCode {
    let Some(path) = std::env::args_os().nth(1) else {
        eprintln!("usage: train-dictionary <file to write>");
        return ExitCode::FAILURE;
    };
    let samples = training_set();
    let dictionary = match zstd::dict::from_samples(&samples, DICTIONARY_BYTES_MAX) {
        Ok(dictionary) => dictionary,
        Err(error) => {
            eprintln!("zstd could not train a dictionary: {error}");
            return ExitCode::FAILURE;
        }
    };
    if let Err(error) = std::fs::write(&path, &dictionary) {
        eprintln!("{} could not be written: {error}", path.to_string_lossy());
        return ExitCode::FAILURE;
    }
    let name = kura_cluster::hexadecimal(Sha256::digest(&dictionary));
    let sampled: usize = samples.iter().map(Vec::len).sum();
    println!("{name}  {} bytes, from {} samples of {sampled} bytes", dictionary.len(), samples.len());
    ExitCode::SUCCESS
}
