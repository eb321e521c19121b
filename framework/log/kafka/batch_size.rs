//! What a batch may hold: less after a topic took none so large, and more again with time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// librdkafka makes no larger ones, whatever the message size (its default of `batch.size`).
const LARGEST: usize = 1_000_000;
/// Below this every record travels alone.
const SMALLEST: usize = 256;
/// How much less is tried after a refusal, and how much more after a while.
const FACTOR: usize = 4;

/// The transactional ids whose topics take smaller batches than librdkafka makes.
#[derive(Debug, Clone, Default)]
pub(super) struct BatchSizes(Arc<Mutex<HashMap<String, BatchSize>>>);

/// The most bytes that a batch of more than one record may have, `batch.size`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BatchSize {
    pub(super) bytes: usize,
    /// Then larger ones are tried; for ever, small ones would cost too much.
    pub(super) until: Instant,
}

impl BatchSizes {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, BatchSize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the next producer of that id; `None`: as librdkafka likes.
    pub(super) fn next(&self, id: &str, now: Instant, hold: Duration) -> Option<BatchSize> {
        let mut sizes = self.lock();
        let size = sizes.get_mut(id)?;
        if now >= size.until {
            *size = BatchSize { bytes: size.bytes.max(SMALLEST) * FACTOR, until: now + hold };
        }
        let size = *size;
        if size.bytes >= LARGEST {
            sizes.remove(id);
            return None;
        }
        Some(size)
    }

    /// After records of `together` bytes that may have shared batches were refused as too large; answers the new size.
    pub(super) fn reduce(&self, id: &str, together: usize, now: Instant, hold: Duration) -> usize {
        let mut sizes = self.lock();
        let used = sizes.get(id).map_or(LARGEST, |size| size.bytes);
        let bytes = match together.min(used) / FACTOR {
            ..SMALLEST => 1,
            bytes => bytes,
        };
        sizes.insert(id.to_owned(), BatchSize { bytes, until: now + hold });
        bytes
    }
}

/// Bytes of the records that may have been refused for what they shared a batch with, of all that were refused as too
/// large, given the bytes of each. A batch is refused with all of its records, and who fills one is alone in it.
pub(super) fn together(refused: &[usize], size: Option<BatchSize>) -> usize {
    if refused.len() < 2 {
        return 0;
    }
    let most = size.map_or(LARGEST, |size| size.bytes);
    // Of no bytes there are records, too.
    refused.iter().map(|bytes| *bytes.max(&1)).filter(|bytes| *bytes < most).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Duration = Duration::from_secs(60);

    #[test]
    fn sizes_fall_from_what_was_refused_and_rise_again_step_by_step() {
        let (sizes, mut now) = (BatchSizes::default(), Instant::now());
        assert_eq!(sizes.next("a", now, HOLD), None);
        assert_eq!(sizes.reduce("a", 5_000_000, now, HOLD), 250_000);
        assert_eq!(sizes.reduce("a", 40_000, now, HOLD), 10_000);
        assert_eq!(sizes.next("a", now, HOLD), Some(BatchSize { bytes: 10_000, until: now + HOLD }));
        assert_eq!(sizes.next("b", now, HOLD), None);
        let mut risen = Vec::new();
        loop {
            now += HOLD;
            match sizes.next("a", now, HOLD) {
                Some(size) => risen.push(size.bytes),
                None => break,
            }
        }
        assert_eq!(risen, [40_000, 160_000, 640_000]);
        assert_eq!(sizes.next("a", now, HOLD), None);
    }

    #[test]
    fn who_is_alone_in_a_batch_shares_it_with_nobody() {
        let size = |bytes| Some(BatchSize { bytes, until: Instant::now() });
        assert_eq!(together(&[300], size(5_000)), 0);
        assert_eq!(together(&[300, 400], size(5_000)), 700);
        assert_eq!(together(&[6_000, 5_000], size(5_000)), 0);
        assert_eq!(together(&[6_000, 400], size(5_000)), 400);
        assert_eq!(together(&[0, 0], size(5_000)), 2);
        assert_eq!(together(&[0, 0, 7], size(1)), 0);
        assert_eq!(together(&[1_000_000, 999_999], None), 999_999);
    }

    #[test]
    fn in_the_end_every_record_travels_alone() {
        let (sizes, now) = (BatchSizes::default(), Instant::now());
        let fallen: Vec<usize> = (0..8).map(|_| sizes.reduce("a", usize::MAX, now, HOLD)).collect();
        assert_eq!(fallen, [250_000, 62_500, 15_625, 3_906, 976, 1, 1, 1]);
        assert_eq!(sizes.next("a", now + HOLD, HOLD).map(|size| size.bytes), Some(1_024));
    }
}
