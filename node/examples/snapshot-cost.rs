//! What a snapshot costs: fills a state database to some sizes and times its checkpoint, the growth of
//! this process's memory during it, and how many files are linked. For docs/performance.md.
//!
//! `cargo run --release -p kura-node --example snapshot-cost -- DIRECTORY 200 2000` (sizes in MB)

use std::path::Path;
use std::time::Instant;

use bytes::Bytes;
use kura_cluster::apply::Summary;
use kura_cluster::id::{ContentId, Pseudonym, Revision};
use kura_cluster::row::{RowKey, StoredRow};
use kura_node::state::Database;
use kura_node::state::database::Progress;

const BLOCK_BYTES: usize = 1 << 20;

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap_or(0) << 10
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().ok_or("name a directory that does not exist yet")?;
    let directory = Path::new(&directory);
    println!("{:>8}  {:>13}  {:>13}  {:>6}", "state MB", "checkpoint ms", "memory MB", "files");
    let mut number = 0_u32;
    let database = Database::open(&directory.join("database"))?;
    let summary = Summary::default();
    for (n, size) in arguments.enumerate() {
        let blocks = size.parse::<u32>()? * 1_000_000 / BLOCK_BYTES as u32;
        while number < blocks {
            let mut plain = vec![0; BLOCK_BYTES];
            kura_node::random::fill(&mut plain);
            let key = RowKey::block(&Pseudonym([1; 16]), &ContentId(kura_node::random::id()), 0, number);
            let revision = Revision { timeline: 0, index: 1 };
            let row = Some(StoredRow::new(revision, Revision::ABSENT, Bytes::from(plain)));
            let key = key.as_bytes().clone();
            database.write(
                std::iter::once((&key, &row)),
                &Progress { applied: None, membership: None, summary: &summary },
            )?;
            number += 1;
        }
        database.flush()?;
        let before = resident_bytes();
        let begun = Instant::now();
        let into = directory.join(format!("checkpoint-{n}"));
        database.checkpoint(&into)?;
        let took = begun.elapsed();
        let grown = resident_bytes().saturating_sub(before);
        let files = std::fs::read_dir(&into)?.count();
        println!("{size:>8}  {:>13.1}  {:>13.1}  {files:>6}", took.as_secs_f64() * 1e3, grown as f64 / 1e6);
    }
    Ok(())
}
