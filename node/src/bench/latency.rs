//! How long operations took: a histogram of fixed size.
//!
//! Invariants
//! - Memory does not grow with the number of operations.
//! - A time that is told is at most 1/64 above the one that was recorded; the longest is exact.

use std::time::Duration;

/// Microseconds below this have a bucket of their own; above, every power of two has [`STEPS`].
const EXACT_US: u64 = 128;
const STEPS: u64 = 64;
/// Buckets for all of 64 bits: 57 powers of two above the exact ones.
const BUCKETS: usize = 128 + 57 * 64;

/// Times of operations.
#[derive(Debug, Clone)]
pub(super) struct Latencies {
    counts: Vec<u64>,
    count: u64,
    longest_us: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], count: 0, longest_us: 0 }
    }
}

fn bucket(us: u64) -> usize {
    if us < EXACT_US {
        return us as usize;
    }
    // So that 64 <= us >> shift < 128.
    let shift = u64::from(us.ilog2()) - 6;
    (EXACT_US + (shift - 1) * STEPS + ((us >> shift) - STEPS)) as usize
}

/// The longest time of a bucket.
fn ceiling_us(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < EXACT_US {
        return bucket;
    }
    let (shift, step) = ((bucket - EXACT_US) / STEPS + 1, (bucket - EXACT_US) % STEPS);
    ((STEPS + step) << shift) | ((1 << shift) - 1)
}

impl Latencies {
    /// Records one.
    pub fn record(&mut self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.counts[bucket(us)] += 1;
        self.count += 1;
        self.longest_us = self.longest_us.max(us);
    }

    /// Adds another's.
    pub fn add(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(mine, theirs)| *mine += theirs);
        self.count += other.count;
        self.longest_us = self.longest_us.max(other.longest_us);
    }

    /// The time, in milliseconds, within which so many of a thousand ended; 0 if there were none.
    pub fn within_ms(&self, of_thousand: u64) -> f64 {
        let wanted = (self.count * of_thousand).div_ceil(1000).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return ceiling_us(bucket).min(self.longest_us) as f64 / 1000.0;
            }
        }
        0.0
    }

    /// The longest, in milliseconds.
    pub fn longest_ms(&self) -> f64 {
        self.longest_us as f64 / 1000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_has_a_bucket_that_is_hardly_longer() {
        for power in 0..64 {
            for near in [-1i64, 0, 1, 77] {
                let us = (1u64 << power).saturating_add_signed(near);
                let ceiling = ceiling_us(bucket(us));
                assert!(ceiling >= us && ceiling - us <= us / 64, "{us} in {ceiling}");
            }
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_count_from_the_shortest() {
        let mut first = Latencies::default();
        let mut second = Latencies::default();
        for ms in 1..=50 {
            first.record(Duration::from_millis(ms));
            second.record(Duration::from_millis(ms + 50));
        }
        first.add(&second);
        let near = |told: f64, meant: f64| (meant..=meant * (1.0 + 1.0 / 64.0)).contains(&told);
        assert!(near(first.within_ms(500), 50.0), "{}", first.within_ms(500));
        assert!(near(first.within_ms(990), 99.0), "{}", first.within_ms(990));
        assert_eq!(first.within_ms(1000), 100.0);
        assert_eq!(first.longest_ms(), 100.0);
        assert_eq!(Latencies::default().within_ms(500), 0.0);
    }
}
