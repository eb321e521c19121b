//! Which business transactions are whole: one bit each, and a sum for every 4096.
//!
//! A message of a transaction of n adds h(transaction) / n to the sum of its page, and the first of a transaction takes
//! h(transaction) from it. A page whose transactions are all whole sums to zero. The arithmetic is that of the
//! integers modulo a prime, where a division leaves no remainder; a torn one is missed by a chance of 1 in 2^61.

use std::collections::HashMap;

use super::blocks::{SPAN, blend};

/// 2^61 - 1.
const PRIME: u64 = (1 << 61) - 1;

#[derive(Debug)]
struct Page {
    begun: [u64; (SPAN / 64) as usize],
    sum: u64,
}

/// All transactions of all producers.
#[derive(Debug, Default)]
pub(crate) struct Transactions {
    pages: HashMap<(u32, u64), Box<Page>>,
    /// 1/n for the n that came.
    inverses: HashMap<u32, u64>,
}

impl Transactions {
    /// One message, seen for the first time.
    pub(crate) fn add(&mut self, producer: u32, txn: u64, of: u32) {
        let inverse = *self.inverses.entry(of).or_insert_with(|| inverse(u64::from(of)));
        let page = self.pages.entry((producer, txn / SPAN));
        let page = page.or_insert_with(|| Box::new(Page { begun: [0; (SPAN / 64) as usize], sum: 0 }));
        let whole = blend(&[u64::from(producer), txn]) % PRIME;
        page.sum = plus(page.sum, times(whole, inverse));
        let (word, bit) = ((txn % SPAN / 64) as usize, 1 << (txn % 64));
        if page.begun[word] & bit == 0 {
            page.begun[word] |= bit;
            page.sum = plus(page.sum, PRIME - whole);
        }
    }

    /// The pages, as (producer, first number / 4096), in which a transaction is torn.
    pub(crate) fn torn_pages(&self) -> Vec<(u32, u64)> {
        let mut torn: Vec<_> =
            self.pages.iter().filter(|(_, page)| page.sum != 0).map(|(place, _)| *place).collect();
        torn.sort_unstable();
        torn
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        self.pages.len() * (size_of::<Page>() + 32)
    }
}

fn plus(one: u64, other: u64) -> u64 {
    (one + other) % PRIME
}

fn times(one: u64, other: u64) -> u64 {
    (u128::from(one) * u128::from(other) % u128::from(PRIME)) as u64
}

/// By Fermat: n to the power of the prime - 2.
fn inverse(of: u64) -> u64 {
    let (mut power, mut result, mut exponent) = (of, 1, PRIME - 2);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = times(result, power);
        }
        power = times(power, power);
        exponent >>= 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_ones_leave_no_trace() {
        let mut transactions = Transactions::default();
        for txn in 1..10_000 {
            let of = (txn % 7 + 1) as u32;
            (0..of).for_each(|_| transactions.add(3, txn, of));
        }
        assert_eq!(transactions.torn_pages(), []);
        transactions.add(3, 10_000, 2);
        assert_eq!(transactions.torn_pages(), [(3, 2)]);
        transactions.add(3, 10_000, 2);
        assert_eq!(transactions.torn_pages(), []);
    }

    #[test]
    fn two_torn_ones_do_not_make_up_for_each_other() {
        let mut transactions = Transactions::default();
        (0..1).for_each(|_| transactions.add(1, 5, 2));
        (0..3).for_each(|_| transactions.add(1, 6, 2));
        assert_eq!(transactions.torn_pages(), [(1, 0)]);
    }
}
