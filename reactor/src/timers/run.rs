//! Entries in order: those of one bucket, when their time is near.
//!
//! To sort a thousand at once takes half as long as to put them into a heap and take them out
//! again one by one, which moves entries at each step and notes for each where it is then.

use std::cmp::Reverse;
use std::mem;

use super::{Entry, KEPT};

/// Entries in order, filled at once and then only taken from.
#[derive(Debug)]
pub(super) struct Run {
    /// The latest first. One that was taken out of the midst has [`GONE`] for its slot.
    ///
    /// Invariant: the last one is there.
    entries: Vec<Entry>,
    /// How many are gone.
    ///
    /// Invariant: at most half of them, or a few.
    gone: usize,
}

impl Run {
    pub(super) const fn new() -> Self {
        Self {
            entries: Vec::new(),
            gone: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many entries there are, those that are gone included.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The earliest.
    pub(super) fn first(&self) -> Option<&Entry> {
        self.entries.last()
    }

    pub(super) fn entry(&self, index: u32) -> &Entry {
        &self.entries[index as usize]
    }

    /// All that are there, with their indices.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &Entry)> {
        let entries = self.entries.iter().enumerate();
        entries.filter(|(_, entry)| entry.slot != GONE)
    }

    /// Takes all `entries`, which must not be more than a run can hold; for a run that is
    /// empty.
    pub(super) fn fill(&mut self, entries: &mut Vec<Entry>) {
        debug_assert!(self.is_empty(), "nothing is lost");
        if entries.capacity() > KEPT {
            self.entries = mem::take(entries);
        } else {
            // Both keep their memory for the next time.
            self.entries.append(entries);
        }
        self.entries
            .sort_unstable_by_key(|entry| Reverse(entry.key()));
    }

    /// Takes the earliest out.
    pub(super) fn pop(&mut self) -> Option<Entry> {
        let first = self.entries.pop()?;
        self.drop_gone();
        Some(first)
    }

    /// Takes an entry out. True if others have another index from now on.
    pub(super) fn remove(&mut self, index: u32) -> bool {
        self.entries[index as usize].slot = GONE;
        self.gone += 1;
        self.drop_gone();
        let moves = self.gone > GONE_KEPT && self.gone > self.entries.len() / 2;
        if moves {
            self.entries.retain(|entry| entry.slot != GONE);
            self.gone = 0;
        }
        moves
    }

    /// Restores the invariant of `entries`.
    fn drop_gone(&mut self) {
        while self.gone > 0 && self.entries.pop_if(|entry| entry.slot == GONE).is_some() {
            self.gone -= 1;
        }
        if self.entries.is_empty() && self.entries.capacity() > KEPT {
            self.entries = Vec::new();
        }
    }
}

/// The slot of nobody: the last one that there could be.
const GONE: u32 = u32::MAX;

/// So many entries may be gone and not forgotten: less is not worth the work.
const GONE_KEPT: usize = 32;
