//! What a batch may hold: less after a topic took none so large, and more again with time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Below this every record travels alone.
const SMALLEST: usize = 256;
/// How much less is tried after a refusal, and how much more after a while.
const FACTOR: usize = 4;

/// The batch size of each transactional id.
#[derive(Debug, Clone)]
pub(super) struct BatchSizes {
    usual: usize,
    /// Of those whose topics took none of the usual size.
    small: Arc<Mutex<HashMap<String, BatchSize>>>,
}

/// The most bytes that a batch of more than one record may have, `batch.size`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BatchSize {
    pub(super) bytes: usize,
    until: Option<Instant>,
}

impl BatchSize {
    /// Whether larger ones should be tried: for ever, small ones would cost too much.
    pub(super) fn is_over(self, now: Instant) -> bool {
        self.until.is_some_and(|until| now >= until)
    }
}

impl BatchSizes {
    /// All are of the usual size.
    pub(super) fn new(usual: usize) -> Self {
        Self { usual, small: Arc::default() }
    }

    fn small(&self) -> MutexGuard<'_, HashMap<String, BatchSize>> {
        self.small.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn of(&self, id: &str) -> BatchSize {
        self.small().get(id).copied().unwrap_or(BatchSize { bytes: self.usual, until: None })
    }

    /// After records of `together` bytes that may have shared a batch were refused as too large; answers the new size.
    pub(super) fn reduce(&self, id: &str, together: usize, now: Instant, hold: Duration) -> usize {
        let bytes = match together.min(self.of(id).bytes) / FACTOR {
            ..SMALLEST => 1,
            bytes => bytes,
        };
        self.small().insert(id.to_owned(), BatchSize { bytes, until: Some(now + hold) });
        bytes
    }

    /// After a commit with batches of a size whose time is over.
    pub(super) fn raise(&self, id: &str, now: Instant, hold: Duration) {
        let bytes = self.of(id).bytes.max(SMALLEST) * FACTOR;
        let mut small = self.small();
        match bytes < self.usual {
            true => small.insert(id.to_owned(), BatchSize { bytes, until: Some(now + hold) }),
            false => small.remove(id),
        };
    }
}

/// The bytes of each record that a broker refused as too large, alone or for what travelled along, by partition.
pub(super) type TooLarge = HashMap<(String, i32), Vec<usize>>;

/// Bytes of those records of a partition that may have been refused for what they shared a batch with, where they are
/// most. A batch is refused with all of its records, and who fills one, of `most` bytes, is alone in it.
pub(super) fn together(refused: &TooLarge, most: usize) -> usize {
    let of_partition = |records: &Vec<usize>| {
        // Of no bytes there are records, too.
        let shared = || records.iter().map(|bytes| *bytes.max(&1)).filter(|bytes| *bytes < most);
        if shared().count() < 2 { 0 } else { shared().sum() }
    };
    refused.values().map(of_partition).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Duration = Duration::from_secs(60);

    #[test]
    fn sizes_fall_from_what_was_refused_and_rise_again_step_by_step() {
        let (sizes, now) = (BatchSizes::new(1_000_000), Instant::now());
        assert_eq!(sizes.of("a"), BatchSize { bytes: 1_000_000, until: None });
        assert_eq!(sizes.reduce("a", 5_000_000, now, HOLD), 250_000);
        assert_eq!(sizes.reduce("a", 40_000, now, HOLD), 10_000);
        assert!(!sizes.of("a").is_over(now) && sizes.of("a").is_over(now + HOLD));
        assert_eq!(sizes.of("b").bytes, 1_000_000);
        let mut risen = Vec::new();
        while sizes.of("a").until.is_some() {
            sizes.raise("a", now, HOLD);
            risen.push(sizes.of("a").bytes);
        }
        assert_eq!(risen, [40_000, 160_000, 640_000, 1_000_000]);
        assert!(!sizes.of("a").is_over(now + HOLD));
    }

    #[test]
    fn in_the_end_every_record_travels_alone() {
        let (sizes, now) = (BatchSizes::new(1_000_000), Instant::now());
        let fallen: Vec<usize> = (0..8).map(|_| sizes.reduce("a", usize::MAX, now, HOLD)).collect();
        assert_eq!(fallen, [250_000, 62_500, 15_625, 3_906, 976, 1, 1, 1]);
        sizes.raise("a", now, HOLD);
        assert_eq!(sizes.of("a").bytes, 1_024);
    }

    #[test]
    fn who_is_alone_in_a_batch_shares_it_with_nobody() {
        let together = |records: &[&[usize]], most| {
            let partitions = (0..).map(|partition| ("t".to_owned(), partition));
            together(&partitions.zip(records.iter().map(|each| each.to_vec())).collect(), most)
        };
        assert_eq!(together(&[], 5_000), 0);
        assert_eq!(together(&[&[300]], 5_000), 0);
        assert_eq!(together(&[&[300, 400]], 5_000), 700);
        assert_eq!(together(&[&[300], &[400]], 5_000), 0);
        assert_eq!(together(&[&[300, 400], &[500, 600, 700], &[1]], 5_000), 1_800);
        assert_eq!(together(&[&[6_000, 5_000]], 5_000), 0);
        assert_eq!(together(&[&[6_000, 400]], 5_000), 0);
        assert_eq!(together(&[&[0, 0]], 5_000), 2);
        assert_eq!(together(&[&[0, 0, 7]], 1), 0);
    }
}
