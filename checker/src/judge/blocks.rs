//! Which messages are owed and which came: bits, in blocks of 4096 numbers of a producer.

use std::collections::HashMap;

/// How many numbers a block covers.
pub(crate) const SPAN: u64 = 4096;
const WORDS: usize = (SPAN / 64) as usize;

/// A bit for each number, and a digest of what came with them that does not depend on their order.
#[derive(Debug, Clone)]
pub(crate) struct Plane {
    bits: [u64; WORDS],
    pub(crate) digest: u64,
}

impl Plane {
    fn new() -> Self {
        Self { bits: [0; WORDS], digest: 0 }
    }

    pub(crate) fn has(&self, at: u64) -> bool {
        self.bits[(at / 64) as usize] >> (at % 64) & 1 == 1
    }

    /// Sets a bit; false if it was set already, and then the digest stays.
    pub(crate) fn put(&mut self, at: u64, digest: u64) -> bool {
        let fresh = !self.has(at);
        if fresh {
            self.bits[(at / 64) as usize] |= 1 << (at % 64);
            self.digest = self.digest.wrapping_add(digest);
        }
        fresh
    }

    /// The bits that are set here and not there.
    pub(crate) fn without<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = u64> + 'a {
        let words = self.bits.iter().zip(&other.bits).map(|(mine, others)| mine & !others).enumerate();
        words.filter(|(_, word)| *word != 0).flat_map(|(index, word)| {
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| index as u64 * 64 + bit)
        })
    }

    fn same_bits(&self, other: &Self) -> bool {
        self.bits == other.bits
    }
}

/// A copy of each message of a block in the output topics.
#[derive(Debug, Clone)]
pub(crate) struct Copies {
    pub(crate) owed: Plane,
    pub(crate) heard: Plane,
}

/// What is known of 4096 messages of a producer.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    /// In the ledger; the digest is over their fields.
    pub(crate) owed: Plane,
    /// In an input topic; the digest is over their fields.
    pub(crate) heard: Plane,
    /// Digest over the checksums of those that were heard.
    pub(crate) crcs: u64,
    /// In the table of effects; the digest is over their checksums.
    pub(crate) effects: Plane,
    /// Copies 0, 1, .. in the output topics; the digests are over their fields.
    pub(crate) copies: Vec<Copies>,
}

impl Block {
    fn new() -> Self {
        Self { owed: Plane::new(), heard: Plane::new(), crcs: 0, effects: Plane::new(), copies: Vec::new() }
    }

    pub(crate) fn copy(&mut self, number: u32) -> &mut Copies {
        let number = number as usize;
        if self.copies.len() <= number {
            self.copies.resize_with(number + 1, || Copies { owed: Plane::new(), heard: Plane::new() });
        }
        &mut self.copies[number]
    }

    /// Whether all that came is what is owed, as far as bits and digests tell.
    pub(crate) fn is_settled(&self, ledger: bool, effects: bool, outputs: bool) -> bool {
        let same = |one: &Plane, other: &Plane| one.same_bits(other) && one.digest == other.digest;
        (!ledger || same(&self.owed, &self.heard))
            && (!effects || self.effects.same_bits(&self.heard) && self.effects.digest == self.crcs)
            && (!ledger || !outputs || self.copies.iter().all(|copy| same(&copy.owed, &copy.heard)))
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.copies.capacity() * size_of::<Copies>()
    }
}

/// All blocks of all producers.
#[derive(Debug, Default)]
pub(crate) struct Blocks(HashMap<(u32, u64), Box<Block>>);

impl Blocks {
    /// The block of a message, and its place in it.
    pub(crate) fn of(&mut self, producer: u32, seq: u64) -> (&mut Block, u64) {
        let block = self.0.entry((producer, seq / SPAN)).or_insert_with(|| Box::new(Block::new()));
        (block, seq % SPAN)
    }

    /// In the order of producers and numbers.
    pub(crate) fn sorted(&self) -> Vec<((u32, u64), &Block)> {
        let mut blocks: Vec<_> = self.0.iter().map(|(place, block)| (*place, &**block)).collect();
        blocks.sort_unstable_by_key(|(place, _)| *place);
        blocks
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        self.0.values().map(|block| block.bytes() + 32).sum()
    }
}

/// Numbers blended into one that looks like chance.
pub(crate) fn blend(parts: &[u64]) -> u64 {
    parts.iter().fold(0x9e37_79b9_7f4a_7c15, |sum: u64, part| {
        let mut mixed = (sum ^ part).wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    })
}
