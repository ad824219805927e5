//! A histogram of times.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper ends of the buckets, in seconds as they are written, and in microseconds.
pub(super) const BUCKETS: [(&str, u64); 11] = [
    ("0.0005", 500),
    ("0.001", 1_000),
    ("0.005", 5_000),
    ("0.01", 10_000),
    ("0.05", 50_000),
    ("0.1", 100_000),
    ("0.5", 500_000),
    ("1", 1_000_000),
    ("5", 5_000_000),
    ("10", 10_000_000),
    ("60", 60_000_000),
];

/// Counts times by how long they are.
#[derive(Debug, Default)]
pub struct Histogram {
    /// The last is for what is longer than all buckets.
    counts: [AtomicU64; BUCKETS.len() + 1],
    micros: AtomicU64,
}

impl Histogram {
    /// One more.
    pub fn observe(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let index = BUCKETS.partition_point(|(_, end)| *end < micros);
        self.counts[index].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// How many were at most as long as each bucket's end, how many there were, and their sum in seconds.
    pub(super) fn cumulative(&self) -> (Vec<u64>, u64, f64) {
        let mut total = 0;
        let mut counts: Vec<u64> = Vec::new();
        for count in &self.counts {
            total += count.load(Ordering::Relaxed);
            counts.push(total);
        }
        counts.pop();
        let seconds = Duration::from_micros(self.micros.load(Ordering::Relaxed)).as_secs_f64();
        (counts, total, seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_counts_in_the_first_bucket_that_holds_it() {
        let histogram = Histogram::default();
        for micros in [0, 500, 501, 60_000_000, 60_000_001] {
            histogram.observe(Duration::from_micros(micros));
        }
        let (counts, total, seconds) = histogram.cumulative();
        assert_eq!(counts, [2, 3, 3, 3, 3, 3, 3, 3, 3, 3, 4]);
        assert_eq!((total, seconds), (5, 120.001_002));
    }
}
