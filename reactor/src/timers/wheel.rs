//! The timer wheel: entries by approximate deadline.
//!
//! What is far away waits here, unsorted among its like; see the queue's page for
//! why, and for who puts it in order in the end.

use std::mem;
use std::time::Instant;

use super::{Entry, Place, to_u32};

/// Entries by approximate deadline.
///
/// Read a tick as a number with [`LEVELS`] digits in base [`FANOUT`]. An entry
/// lies on the level of the highest digit in which its tick differs from the
/// horizon, in the bucket of that digit. So all entries of a level are earlier
/// than those of the level above, and within a level the buckets are in order.
/// The horizon may move on within the time before the first bucket: no entry's
/// bucket changes by that.
#[derive(Debug)]
pub(super) struct Wheel {
    /// The time of tick zero, once it is known.
    pub(super) origin: Option<Instant>,
    /// The last tick whose entries are not for the wheel.
    pub(super) horizon: u64,
    /// The buckets, one level after the other; empty until the first insertion.
    pub(super) buckets: Vec<Vec<Entry>>,
    /// For each level, which of its buckets have entries.
    occupied: [u64; LEVELS],
}

impl Wheel {
    pub(super) fn new() -> Self {
        Self {
            origin: None,
            horizon: 0,
            buckets: Vec::new(),
            occupied: [0; LEVELS],
        }
    }

    /// Puts an entry with this tick into its bucket, and returns where that is. Returns
    /// `None`, and does nothing, if it is not after the horizon.
    #[inline]
    pub(super) fn insert(&mut self, tick: u64, entry: Entry) -> Option<Place> {
        if tick <= self.horizon {
            return None;
        }
        if self.buckets.is_empty() {
            self.make_buckets();
        }
        let level = (tick ^ self.horizon).ilog2() / DIGIT_BITS;
        let digit = (tick >> (level * DIGIT_BITS)) % FANOUT as u64;
        self.occupied[level as usize] |= 1 << digit;
        let bucket = level as usize * FANOUT + digit as usize;
        let entries = &mut self.buckets[bucket];
        entries.push(entry);
        Some(Place::Later {
            bucket: bucket as u16,
            index: to_u32(entries.len() - 1),
        })
    }

    #[cold]
    fn make_buckets(&mut self) {
        self.buckets.resize_with(LEVELS * FANOUT, Vec::new);
    }

    /// Removes an entry, and returns the slot of the one that took its place.
    pub(super) fn remove(&mut self, bucket: u16, index: u32) -> Option<u32> {
        let entries = &mut self.buckets[usize::from(bucket)];
        entries.swap_remove(index as usize);
        let moved = entries.get(index as usize).map(|entry| entry.slot);
        if entries.is_empty() {
            self.vacate(bucket);
        } else if entries.len() < entries.capacity() / 4 {
            entries.shrink_to(entries.capacity() / 2);
        }
        moved
    }

    /// Empties a bucket into `into`, which is empty.
    pub(super) fn take(&mut self, bucket: u16, into: &mut Vec<Entry>) {
        let entries = &mut self.buckets[usize::from(bucket)];
        if entries.capacity() <= BUCKET_KEPT {
            into.append(entries);
        } else {
            *into = mem::take(entries);
        }
        self.vacate(bucket);
    }

    /// Notes that a bucket is empty, and gives back what a burst took.
    fn vacate(&mut self, bucket: u16) {
        let bucket = usize::from(bucket);
        self.occupied[bucket / FANOUT] &= !(1 << (bucket % FANOUT));
        self.buckets[bucket].shrink_to(BUCKET_KEPT);
    }

    pub(super) fn entry(&self, bucket: u16, index: u32) -> &Entry {
        &self.buckets[usize::from(bucket)][index as usize]
    }

    /// The bucket with the earliest entries, and the tick at which it begins.
    pub(super) fn first_bucket(&self) -> Option<(u16, u64)> {
        let level = self.occupied.iter().position(|&digits| digits != 0)?;
        let digit = self.occupied[level].trailing_zeros();
        let shift = level as u32 * DIGIT_BITS;
        let above = self.horizon >> shift >> DIGIT_BITS << DIGIT_BITS;
        let start = (above | u64::from(digit)) << shift;
        Some(((level * FANOUT) as u16 + digit as u16, start))
    }

    /// How many ticks the bucket spans.
    pub(super) fn width(bucket: u16) -> u64 {
        1 << (usize::from(bucket) / FANOUT * DIGIT_BITS as usize)
    }

    /// Whether the ticks of all the bucket differ in their lower 32 bits alone.
    pub(super) fn is_narrow(bucket: u16) -> bool {
        Self::width(bucket) <= 1 << u32::BITS
    }

    /// The tick of a deadline. Never decreasing; zero before the origin, and
    /// for all deadlines while there is none.
    pub(super) fn tick(&self, deadline: Instant) -> u64 {
        let Some(origin) = self.origin else {
            return 0;
        };
        let after = deadline.saturating_duration_since(origin);
        if after.as_secs() > TICK_MAX / TICKS_PER_SECOND {
            return TICK_MAX;
        }
        after.as_secs() * TICKS_PER_SECOND + u64::from(after.subsec_nanos() >> TICK_NANOS_LOG2)
    }
}

/// Room for this many entries is kept in a bucket, so that a timeout that is set and taken
/// back, again and again, allocates nothing of its own here.
const BUCKET_KEPT: usize = 8;

/// Bits per digit of a tick, so that a word can tell which buckets of a level
/// have entries.
const DIGIT_BITS: u32 = 6;

/// Buckets per level of the wheel.
const FANOUT: usize = 1 << DIGIT_BITS;

/// Levels of the wheel. With these it turns for eight thousand years;
/// deadlines even later share the last tick.
const LEVELS: usize = 8;

/// The last tick there is.
const TICK_MAX: u64 = (1 << (LEVELS as u32 * DIGIT_BITS)) - 1;

/// A tick is about a millisecond: with a million calls in the next minute, the
/// heap has some seventeen entries. Shorter ticks would mean more levels to
/// come down through.
const TICK_NANOS_LOG2: u32 = 20;

/// The number from which a second starts to count its ticks. It uses 954 of
/// them: gaps do not matter, and powers of two are cheap.
const TICKS_PER_SECOND: u64 = 1 << (30 - TICK_NANOS_LOG2);
