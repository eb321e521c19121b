//! Backoff with jitter, pure.

use std::time::Duration;

/// Grows from `first` by doubling up to `most`, then a random share of 0 to 25 % is taken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The first wait. Defaults to 100 ms.
    pub first: Duration,
    /// The longest wait. Defaults to 10 s.
    pub most: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(100), most: Duration::from_secs(10) }
    }
}

impl Backoff {
    /// How long to wait after the `attempt`-th failure (from 1); `random` lies in 0..1.
    pub fn after(&self, attempt: u32, random: f64) -> Duration {
        let doubled = self.first.saturating_mul(1 << attempt.saturating_sub(1).min(20));
        doubled.min(self.most).mul_f64(1.0 - 0.25 * random.clamp(0.0, 1.0))
    }

    /// [`after`](Self::after) with a random number of its own.
    pub fn wait(&self, attempt: u32) -> Duration {
        self.after(attempt, fastrand::f64())
    }
}

/// How much is tried at once: one after a failure, twice as much after each success. If it failed because it was too much
/// for the time there is, less gets through; if not, little is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Portion(usize);

impl Portion {
    /// As much as there is.
    pub(crate) const ALL: Self = Self(usize::MAX);

    pub(crate) fn of(self, most: usize) -> usize {
        self.0.min(most)
    }

    pub(crate) fn failed(&mut self) {
        self.0 = 1;
    }

    pub(crate) fn succeeded(&mut self) {
        self.0 = self.0.saturating_mul(2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portions_shrink_to_one_and_grow_by_doubling() {
        let mut portion = Portion::ALL;
        assert_eq!(portion.of(500), 500);
        portion.failed();
        let sizes: Vec<usize> = (0..10)
            .map(|_| {
                let size = portion.of(100);
                portion.succeeded();
                size
            })
            .collect();
        assert_eq!(sizes, [1, 2, 4, 8, 16, 32, 64, 100, 100, 100]);
    }

    #[test]
    fn doubles_up_to_the_longest_wait() {
        let backoff = Backoff::default();
        let waits: Vec<u64> = (1..=9).map(|attempt| backoff.after(attempt, 0.0).as_millis() as u64).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
        assert_eq!(backoff.after(u32::MAX, 0.0), backoff.most);
        assert_eq!(backoff.after(1, 1.0), Duration::from_millis(75));
    }
}
