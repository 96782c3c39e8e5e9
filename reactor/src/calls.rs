//! Calls for the next turn, first in, first out.
//!
//! The reactor pushes what is to run soon, and once per turn runs a batch of
//! it. The calls are a payload that [`Calls`] keeps and hands back.
//!
//! # Order
//!
//! In the order of pushing. A batch is what was pushed before it started:
//! later calls wait for the next batch, or a call that pushes itself again
//! would keep the loop from ever polling I/O. A cancelled call is never handed
//! over, not even if its batch has started.
//!
//! # Not here
//!
//! Nothing is called or dropped (the payload goes back to the caller, who does
//! both outside any borrow). Calls from other threads come in elsewhere.

use std::collections::VecDeque;
use std::mem;

/// Calls with a payload of type `C` each, first in, first out.
#[derive(Debug)]
pub(crate) struct Calls<C> {
    /// The calls in order; `None` for those cancelled.
    ///
    /// Invariant: the first one is not cancelled.
    queue: VecDeque<Option<C>>,
    /// The key of the first call of `queue`; the others count up from it.
    front: u64,
    /// The key at which the batch ends.
    batch_end: u64,
    /// How many calls of `queue` are not cancelled.
    len: usize,
}

/// Names a call in [`Calls`], and is never used again: 2^64 calls are more than
/// a century of them at a thousand million a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallKey(u64);

impl<C> Calls<C> {
    /// Creates an empty queue.
    pub(crate) fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            front: 0,
            batch_end: 0,
            len: 0,
        }
    }

    /// Adds a call at the end. It is part of the next batch, not of one that
    /// has started.
    pub(crate) fn push(&mut self, call: C) -> CallKey {
        let key = CallKey(self.end());
        self.queue.push_back(Some(call));
        self.len += 1;
        key
    }

    /// Takes a pending call out for good, and returns it for the caller to
    /// drop.
    ///
    /// Returns `None` if it has been handed over or cancelled before.
    #[must_use = "drop the call where nothing is borrowed: dropping it may run user code"]
    pub(crate) fn cancel(&mut self, key: CallKey) -> Option<C> {
        let index = self.index(key)?;
        let call = self.queue[index].take()?;
        self.len -= 1;
        self.skip_cancelled();
        Some(call)
    }

    /// Takes all pending calls out for good, and returns them for the caller to drop. Their keys
    /// name nothing from then on, whatever is pushed later.
    #[must_use = "drop the calls where nothing is borrowed: dropping them may run user code"]
    pub(crate) fn take_all(&mut self) -> Vec<C> {
        self.front = self.end();
        self.len = 0;
        mem::take(&mut self.queue).into_iter().flatten().collect()
    }

    /// Starts a batch: of all calls that are pending now, those that are left
    /// of the batch before included.
    pub(crate) fn start_batch(&mut self) {
        self.batch_end = self.end();
        // Memory of a burst is given back when it is over, not while one turn
        // after the other needs as much.
        if self.queue.capacity() / 4 > self.queue.len().max(KEPT) {
            self.queue.shrink_to(self.queue.len().max(KEPT) * 2);
        }
    }

    /// Hands over the next call of the batch; `None` at its end.
    pub(crate) fn pop_batch(&mut self) -> Option<C> {
        if self.front >= self.batch_end {
            return None;
        }
        let call = self.queue.pop_front().flatten()?;
        self.front += 1;
        self.len -= 1;
        if self.len < self.queue.len() {
            self.skip_cancelled();
        }
        Some(call)
    }

    /// Whether the call has neither been handed over nor cancelled.
    pub(crate) fn is_pending(&self, key: CallKey) -> bool {
        self.call(key).is_some()
    }

    /// The call; `None` once it has been handed over or cancelled.
    pub(crate) fn call(&self, key: CallKey) -> Option<&C> {
        self.queue[self.index(key)?].as_ref()
    }

    /// How many calls are pending, those of the batch included.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The calls that are pending, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &C> {
        self.queue.iter().flatten()
    }

    /// Whether no call is pending.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether nothing is pending, and no memory of a burst to be given back.
    #[inline]
    pub(crate) fn is_at_rest(&self) -> bool {
        self.len == 0 && self.queue.capacity() / 4 <= KEPT
    }

    /// The key of the next call to be pushed.
    fn end(&self) -> u64 {
        self.front + self.queue.len() as u64
    }

    fn index(&self, key: CallKey) -> Option<usize> {
        let index = usize::try_from(key.0.checked_sub(self.front)?).ok()?;
        (index < self.queue.len()).then_some(index)
    }

    /// Restores the invariant of `queue`.
    fn skip_cancelled(&mut self) {
        while let Some(None) = self.queue.front() {
            self.queue.pop_front();
            self.front += 1;
        }
    }
}

/// Room for this many calls is always kept: less is not worth the freeing.
const KEPT: usize = 256;

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    /// Starts a batch and hands it over.
    fn run<C>(calls: &mut Calls<C>) -> Vec<C> {
        calls.start_batch();
        std::iter::from_fn(|| calls.pop_batch()).collect()
    }

    #[test]
    fn calls_come_in_the_order_of_pushing() {
        let mut calls = Calls::new();
        for call in 0..1000 {
            calls.push(call);
        }
        assert_eq!(calls.len(), 1000);
        assert_eq!(run(&mut calls), (0..1000).collect::<Vec<_>>());
        assert!(calls.is_empty());
    }

    #[test]
    fn nothing_is_handed_over_before_a_batch_starts() {
        let mut calls = Calls::new();
        calls.push("call");
        assert_eq!(calls.pop_batch(), None);
        assert_eq!(run(&mut calls), ["call"]);
    }

    #[test]
    fn call_pushed_during_a_batch_waits_for_the_next() {
        let mut calls = Calls::new();
        calls.push(1);
        calls.start_batch();
        assert_eq!(calls.pop_batch(), Some(1));
        calls.push(2);
        assert_eq!(calls.pop_batch(), None);
        assert_eq!(run(&mut calls), [2]);
    }

    #[test]
    fn cancelled_call_does_not_come() {
        let mut calls = Calls::new();
        let keys: Vec<_> = (0..5).map(|call| calls.push(call)).collect();
        for cancelled in [0, 2, 4] {
            assert_eq!(calls.cancel(keys[cancelled]), Some(cancelled));
            assert!(!calls.is_pending(keys[cancelled]));
            assert_eq!(calls.cancel(keys[cancelled]), None);
        }
        assert_eq!(calls.len(), 2);
        assert_eq!(run(&mut calls), [1, 3]);
    }

    #[test]
    fn cancelled_call_in_the_same_batch_does_not_come() {
        let mut calls = Calls::new();
        calls.push(1);
        let second = calls.push(2);
        let third = calls.push(3);
        calls.start_batch();
        assert_eq!(calls.pop_batch(), Some(1));
        assert!(calls.is_pending(third));
        assert_eq!(calls.cancel(third), Some(3));
        assert_eq!(calls.cancel(second), Some(2));
        // The batch has lost its end; what comes now is not part of it.
        calls.push(4);
        assert_eq!(calls.pop_batch(), None);
        assert_eq!(run(&mut calls), [4]);
    }

    #[test]
    fn key_of_a_call_handed_over_does_nothing() {
        let mut calls = Calls::new();
        let key = calls.push(1);
        assert!(calls.is_pending(key));
        assert_eq!(run(&mut calls), [1]);
        calls.push(2);
        assert!(!calls.is_pending(key));
        assert_eq!(calls.cancel(key), None);
        assert_eq!(calls.len(), 1);
    }

    #[test]
    fn keys_of_calls_that_were_taken_all_at_once_do_nothing_to_later_ones() {
        let mut calls = Calls::new();
        let keys: Vec<_> = (0..3).map(|call| calls.push(call)).collect();
        assert_eq!(calls.cancel(keys[1]), Some(1));
        calls.start_batch();
        assert_eq!(calls.take_all(), [0, 2]);
        assert!(calls.is_empty() && calls.pop_batch().is_none());
        for call in 3..6 {
            calls.push(call);
        }
        assert_eq!(calls.pop_batch(), None, "no batch was started with these");
        for key in keys {
            assert!(!calls.is_pending(key) && calls.cancel(key).is_none());
        }
        assert_eq!(run(&mut calls), [3, 4, 5]);
    }

    #[test]
    fn what_is_left_of_a_batch_comes_first_in_the_next() {
        let mut calls = Calls::new();
        for call in 1..=3 {
            calls.push(call);
        }
        calls.start_batch();
        assert_eq!(calls.pop_batch(), Some(1));
        calls.push(4);
        assert_eq!(run(&mut calls), [2, 3, 4]);
    }

    #[test]
    fn cancelling_frees_what_the_call_holds() {
        let mut calls = Calls::new();
        let held = Rc::new(());
        calls.push(Rc::new(()));
        let key = calls.push(Rc::clone(&held));
        assert_eq!(Rc::strong_count(&held), 2);
        drop(calls.cancel(key));
        assert_eq!(Rc::strong_count(&held), 1);
    }

    #[test]
    fn pushing_and_cancelling_in_turn_takes_no_room() {
        let mut calls = Calls::new();
        for call in 0..100_000 {
            let key = calls.push(call);
            assert_eq!(calls.cancel(key), Some(call));
        }
        assert!(calls.queue.capacity() <= KEPT);
    }

    #[test]
    fn memory_of_a_burst_is_given_back_after_it() {
        let mut calls = Calls::new();
        for call in 0..100_000 {
            calls.push(call);
        }
        assert_eq!(run(&mut calls).len(), 100_000);
        calls.push(0);
        assert_eq!(run(&mut calls), [0]);
        assert!(calls.queue.capacity() <= 4 * KEPT);
    }

    #[test]
    fn bursts_of_equal_size_reuse_their_memory() {
        let mut calls = Calls::new();
        let mut capacities = Vec::new();
        for _ in 0..4 {
            for call in 0..5_000 {
                calls.push(call);
            }
            calls.start_batch();
            capacities.push(calls.queue.capacity());
            while calls.pop_batch().is_some() {}
        }
        assert!(capacities.iter().all(|capacity| *capacity == capacities[0]));
    }
}
