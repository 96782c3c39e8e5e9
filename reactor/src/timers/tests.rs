use std::collections::BTreeMap;
use std::mem;
use std::rc::Rc;
use std::time::Duration;

use super::*;

#[expect(
    clippy::disallowed_methods,
    reason = "some instant is needed to count from"
)]
fn start() -> Instant {
    Instant::now()
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Takes and hands over what is due at `now`.
fn fire<C>(timers: &mut Timers<C>, now: Instant) -> Vec<C> {
    timers.take_due(now);
    std::iter::from_fn(|| timers.pop_taken()).collect()
}

#[test]
fn calls_fall_due_in_order_of_deadline() {
    let (start, mut timers) = (start(), Timers::new());
    for delay in [30, 10, 5000, 20, 70_000, 0] {
        timers.insert(start + millis(delay), delay);
    }
    assert_eq!(fire(&mut timers, start + millis(25)), [0, 10, 20]);
    assert_eq!(fire(&mut timers, start + millis(29)), []);
    assert_eq!(
        fire(&mut timers, start + millis(100_000)),
        [30, 5000, 70_000]
    );
}

#[test]
fn calls_of_one_bucket_can_be_cancelled_and_moved_when_they_have_been_put_in_order() {
    let (start, mut timers) = (start(), Timers::new());
    timers.take_due(start);
    let at = |count| start + millis(5010) + Duration::from_nanos(count);
    // As long as something is due before, the wheel opens no bucket.
    timers.insert(start, 0);
    let keys: Vec<_> = (0..700)
        .map(|call| timers.insert(at(call * 389 % 700), call * 389 % 700))
        .collect();
    assert_eq!(fire(&mut timers, start), [0]);
    // The bucket is sorted, because it has more than are searched.
    assert_eq!(timers.run.iter().count(), 700);
    let mut expected = Vec::new();
    for (index, key) in keys.into_iter().enumerate() {
        let call = index as u64 * 389 % 700;
        match index % 10 {
            0 => expected.push(call),
            1 => {
                assert!(timers.reschedule(key, at(call + 700)));
                expected.push(call + 700);
            }
            _ => assert_eq!(timers.cancel(key), Some(call)),
        }
        assert!(
            timers.run.len() <= 2 * timers.len() + 64,
            "what is gone is forgotten"
        );
    }
    expected.sort_unstable();
    assert_eq!(timers.next_deadline(), Some(at(expected[0])));
    let fired = fire(&mut timers, start + millis(6000));
    let expected: Vec<_> = expected.into_iter().map(|call| call % 700).collect();
    assert_eq!(fired, expected);
    assert!(timers.is_empty() && timers.run.is_empty());
}

#[test]
fn no_call_is_due_before_its_deadline_by_a_nanosecond() {
    let (start, mut timers) = (start(), Timers::new());
    let deadline = start + millis(10);
    timers.insert(deadline, "call");
    assert_eq!(timers.take_due(deadline - Duration::from_nanos(1)), 0);
    assert_eq!(timers.take_due(deadline), 1);
}

#[test]
fn equal_deadlines_run_in_the_order_of_scheduling() {
    let (start, mut timers) = (start(), Timers::new());
    for deadline in [start, start + millis(5), start + millis(500_000)] {
        for call in 0..200 {
            timers.insert(deadline, call);
        }
        assert_eq!(fire(&mut timers, deadline), (0..200).collect::<Vec<_>>());
    }
}

#[test]
fn rescheduled_call_goes_behind_equal_deadlines() {
    let (start, mut timers) = (start(), Timers::new());
    let first = timers.insert(start, "first");
    timers.insert(start, "second");
    assert!(timers.reschedule(first, start));
    assert_eq!(fire(&mut timers, start), ["second", "first"]);
}

#[test]
fn rescheduled_call_keeps_its_key_and_moves_both_ways() {
    let (start, mut timers) = (start(), Timers::new());
    timers.take_due(start);
    let key = timers.insert(start + millis(10), "call");
    for delay in [90_000, 1, 500, 0, 20] {
        assert!(timers.reschedule(key, start + millis(delay)));
        assert_eq!(timers.deadline(key), Some(start + millis(delay)));
        assert_eq!(timers.next_deadline(), Some(start + millis(delay)));
    }
    assert_eq!(fire(&mut timers, start + millis(19)), [""; 0]);
    assert_eq!(fire(&mut timers, start + millis(20)), ["call"]);
    assert!(!timers.reschedule(key, start));
    assert_eq!(timers.deadline(key), None);
}

#[test]
fn cancelled_call_in_the_same_batch_does_not_run() {
    let (start, mut timers) = (start(), Timers::new());
    timers.insert(start, "first");
    let second = timers.insert(start, "second");
    timers.insert(start, "third");
    assert_eq!(timers.take_due(start), 3);
    assert_eq!(timers.pop_taken(), Some("first"));
    assert_eq!(timers.deadline(second), Some(start));
    assert_eq!(timers.cancel(second), Some("second"));
    assert_eq!(timers.deadline(second), None);
    assert_eq!(timers.pop_taken(), Some("third"));
    assert_eq!(timers.pop_taken(), None);
}

#[test]
fn call_handed_over_is_not_pending() {
    let (start, mut timers) = (start(), Timers::new());
    let key = timers.insert(start, "call");
    timers.take_due(start);
    assert_eq!(timers.deadline(key), Some(start));
    timers.pop_taken();
    assert_eq!(timers.deadline(key), None);
    assert_eq!(timers.cancel(key), None);
}

#[test]
fn call_rescheduled_from_within_the_batch_leaves_it() {
    let (start, mut timers) = (start(), Timers::new());
    timers.insert(start, "first");
    let second = timers.insert(start, "second");
    timers.take_due(start);
    timers.pop_taken();
    // Also when it is due at once.
    assert!(timers.reschedule(second, start));
    assert_eq!(timers.pop_taken(), None);
    assert_eq!(fire(&mut timers, start), ["second"]);
}

#[test]
fn zero_delay_waits_for_the_next_batch() {
    let (start, mut timers) = (start(), Timers::new());
    timers.insert(start, 0);
    timers.insert(start, 1);
    timers.take_due(start);
    assert_eq!(timers.pop_taken(), Some(0));
    timers.insert(start, 2);
    timers.insert(start - millis(1), 3);
    assert_eq!(timers.pop_taken(), Some(1));
    assert_eq!(timers.pop_taken(), None);
    assert_eq!(fire(&mut timers, start), [3, 2]);
}

#[test]
fn what_is_left_of_a_batch_is_part_of_the_next() {
    let (start, mut timers) = (start(), Timers::new());
    let keys: Vec<_> = (1..=4)
        .map(|at| timers.insert(start + millis(at), at))
        .collect();
    timers.take_due(start + millis(4));
    assert_eq!(timers.pop_taken(), Some(1));
    timers.insert(start + millis(3), 30);
    timers.insert(start, 0);
    assert_eq!(timers.cancel(keys[1]), Some(2));
    assert_eq!(timers.next_deadline(), Some(start + millis(3)));
    assert_eq!(fire(&mut timers, start + millis(4)), [0, 3, 30, 4]);
}

#[test]
fn batch_left_over_does_not_wait_for_the_clock() {
    let (start, mut timers) = (start(), Timers::new());
    timers.insert(start + millis(5), "call");
    timers.take_due(start + millis(5));
    assert_eq!(fire(&mut timers, start), ["call"]);
}

#[test]
fn huge_deadlines_are_kept_in_order_and_never_due() {
    let (start, mut timers) = (start(), Timers::new());
    timers.take_due(start);
    let year = 365 * 24 * 3600;
    for years in [100_000_000_000, 8_000, 20_000, 9_000, 1] {
        timers.insert(start + Duration::from_secs(years * year), years);
    }
    // In the last tick, a later second with an earlier fraction.
    let far = start + Duration::from_secs(30_000 * year);
    timers.insert(far + millis(1900), 30_001);
    timers.insert(far + millis(2100), 30_002);
    assert_eq!(fire(&mut timers, start + Duration::from_secs(year - 1)), []);
    let mut order = Vec::new();
    while let Some(next) = timers.next_deadline() {
        order.append(&mut fire(&mut timers, next));
    }
    assert_eq!(
        order,
        [1, 8_000, 9_000, 20_000, 30_001, 30_002, 100_000_000_000]
    );
}

#[test]
fn deadlines_in_the_past_are_due_at_once_and_in_order() {
    let (start, mut timers) = (start(), Timers::new());
    timers.take_due(start);
    for seconds in [1, 1_000_000_000, 1_000] {
        let past = start.checked_sub(Duration::from_secs(seconds));
        timers.insert(past.unwrap_or(start), seconds);
    }
    assert_eq!(timers.len(), 3);
    assert_eq!(fire(&mut timers, start).len(), 3);
}

#[test]
fn time_that_goes_back_and_forth_makes_no_call_early_and_loses_none() {
    let (start, mut timers, mut naive) = (start(), Timers::new(), BTreeMap::new());
    let mut seed = 1_u64;
    let mut below = |bound: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % bound
    };
    for call in 0..3000_u64 {
        let deadline = start + Duration::from_micros(below(100_000_000));
        timers.insert(deadline, call);
        naive.insert((deadline, call), call);
        // Anywhere, as if each time were another machine's.
        let now = start + Duration::from_micros(below(100_000_000) / (1 + below(50)));
        let later = naive.split_off(&(now + Duration::from_nanos(1), 0));
        let due: Vec<u64> = mem::replace(&mut naive, later).into_values().collect();
        assert_eq!(fire(&mut timers, now), due, "at {:?}", now - start);
        let next = naive.keys().next().map(|(deadline, _)| *deadline);
        assert_eq!(timers.next_deadline(), next);
    }
}

#[test]
fn stale_key_of_a_reused_slot_does_nothing() {
    let (start, mut timers) = (start(), Timers::new());
    let stale = timers.insert(start, "old");
    assert_eq!(timers.cancel(stale), Some("old"));
    let key = timers.insert(start, "new");
    assert_eq!(key.slot, stale.slot);
    assert_eq!(timers.cancel(stale), None);
    assert!(!timers.reschedule(stale, start + millis(1)));
    assert_eq!(timers.deadline(stale), None);
    assert_eq!(fire(&mut timers, start), ["new"]);
}

#[test]
fn stale_key_does_nothing_after_the_slots_were_given_back() {
    let (start, mut timers) = (start(), Timers::new());
    let keys: Vec<_> = (0..5_000).map(|call| timers.insert(start, call)).collect();
    for (key, call) in keys.iter().zip(0..) {
        assert_eq!(timers.cancel(*key), Some(call));
    }
    assert_eq!(timers.slots.capacity(), 0);
    timers.insert(start, 0);
    assert!(keys.iter().all(|key| timers.cancel(*key).is_none()));
    assert_eq!(timers.len(), 1);
}

#[test]
fn cancelling_frees_what_the_call_holds_wherever_it_is() {
    let (start, mut timers) = (start(), Timers::new());
    timers.take_due(start);
    let held = Rc::new(());
    for delay in [0, 1, 1_000, 1_000_000_000] {
        let key = timers.insert(start + millis(delay), Rc::clone(&held));
        timers.insert(start + millis(delay), Rc::new(()));
        assert_eq!(Rc::strong_count(&held), 2);
        drop(timers.cancel(key));
        assert_eq!(Rc::strong_count(&held), 1);
    }
    let key = timers.insert(start, Rc::clone(&held));
    timers.take_due(start);
    drop(timers.cancel(key));
    assert_eq!(Rc::strong_count(&held), 1);
}

#[test]
fn cancelling_a_burst_gives_its_memory_back() {
    let (start, mut timers) = (start(), Timers::new());
    timers.take_due(start);
    let delays = (0..100_000).map(|call| start + millis(call));
    let keys: Vec<_> = delays.map(|deadline| timers.insert(deadline, ())).collect();
    for key in &keys {
        assert_eq!(timers.cancel(*key), Some(()));
    }
    let buckets = timers.wheel.buckets.iter().map(Vec::capacity);
    let entries = timers.soon.capacity() + timers.taken.capacity() + buckets.sum::<usize>();
    assert!(entries + timers.slots.capacity() + timers.free.capacity() <= 4 * KEPT);
}

#[test]
fn cancelling_most_of_a_burst_gives_its_entries_back() {
    let (start, mut timers) = (start(), Timers::new());
    timers.take_due(start);
    let deadline = start + millis(1_000_000);
    timers.insert(start, ());
    let keys: Vec<_> = (0..50_000).map(|_| timers.insert(deadline, ())).collect();
    for key in &keys[1..] {
        assert_eq!(timers.cancel(*key), Some(()));
    }
    let buckets = timers.wheel.buckets.iter().map(Vec::capacity);
    assert!(buckets.sum::<usize>() <= 16);
}

#[test]
fn wheel_turned_ahead_starts_over_once_the_queue_is_empty() {
    let (start, mut timers) = (start(), Timers::new());
    timers.take_due(start);
    let deadline = start + millis(1_000_000);
    let burst = 0..2 * SEARCHED_MAX;
    let keys: Vec<_> = burst.map(|call| timers.insert(deadline, call)).collect();
    assert!(timers.wheel.horizon > 0);
    for (key, call) in keys.iter().zip(0..) {
        assert_eq!(timers.cancel(*key), Some(call));
    }
    assert_eq!(
        (timers.wheel.origin, timers.wheel.horizon),
        (Some(start), 0)
    );
}

#[test]
fn queue_that_ran_empty_goes_on_with_its_wheel_from_the_time_of_its_last_turn() {
    let (start, mut timers) = (start(), Timers::new());
    timers.insert(start + millis(10), "first");
    timers.take_due(start);
    let turned = start + millis(3_000);
    timers.take_due(turned);
    assert_eq!(timers.pop_taken(), Some("first"));
    assert_eq!(
        (timers.wheel.origin, timers.wheel.horizon),
        (Some(turned), 0)
    );
    timers.insert(turned + millis(5_000), "second");
    assert!(timers.soon.is_empty(), "it waits in the wheel");
    timers.take_due(turned + millis(4_999));
    assert_eq!(timers.pop_taken(), None);
    timers.take_due(turned + millis(5_000));
    assert_eq!(timers.pop_taken(), Some("second"));
}

#[test]
fn next_deadline_is_exact_for_calls_far_away() {
    let (start, mut timers) = (start(), Timers::new());
    timers.take_due(start);
    let hour = Duration::from_secs(3600);
    // Enough of them to be spread over finer buckets ahead of time.
    for nanos in (0..10 * SEARCHED_MAX as u64).rev() {
        timers.insert(start + hour + Duration::from_nanos(nanos), nanos);
        let expected = start + hour + Duration::from_nanos(nanos);
        assert_eq!(timers.next_deadline(), Some(expected));
    }
    // Nearer ones come first, though the wheel has been turned ahead.
    assert_eq!(fire(&mut timers, start), []);
    timers.insert(start + millis(7), 0);
    assert_eq!(timers.next_deadline(), Some(start + millis(7)));
    assert_eq!(fire(&mut timers, start + millis(7)), [0]);
    assert_eq!(timers.next_deadline(), Some(start + hour));
}

/// The queue as one would write it without any haste: all calls by deadline
/// and order of scheduling, with a mark on those taken out.
#[derive(Default)]
struct Naive {
    calls: BTreeMap<(Instant, u64), (u64, bool)>,
    next_sequence: u64,
}

impl Naive {
    fn insert(&mut self, deadline: Instant, id: u64) {
        self.calls
            .insert((deadline, self.next_sequence), (id, false));
        self.next_sequence += 1;
    }

    fn key(&self, id: u64) -> Option<(Instant, u64)> {
        let mut calls = self.calls.iter();
        calls.find(|(_, call)| call.0 == id).map(|(&key, _)| key)
    }

    fn remove(&mut self, id: u64) -> bool {
        self.key(id)
            .is_some_and(|key| self.calls.remove(&key).is_some())
    }

    fn take_due(&mut self, now: Instant) -> usize {
        for (key, call) in &mut self.calls {
            call.1 |= key.0 <= now;
        }
        self.calls.values().filter(|call| call.1).count()
    }

    fn first_taken(&self) -> Option<(Instant, u64)> {
        let mut calls = self.calls.iter();
        calls.find(|(_, call)| call.1).map(|(&key, _)| key)
    }

    fn pop_taken(&mut self) -> Option<u64> {
        let key = self.first_taken()?;
        self.calls.remove(&key).map(|call| call.0)
    }

    fn next_deadline(&self) -> Option<Instant> {
        let first = self.calls.first_key_value().map(|(&key, _)| key);
        self.first_taken().or(first).map(|key| key.0)
    }
}

/// A small generator of numbers (xorshift64*): the same seed, the same run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % limit
    }

    /// Delays of every size, many of them equal, a few in the past.
    fn deadline(&mut self, now: Instant) -> Instant {
        let unit = Duration::from_nanos(1 << self.below(50));
        let delay = unit * self.below(20) as u32;
        match self.below(10) {
            0 => now.checked_sub(delay).unwrap_or(now),
            _ => now + delay,
        }
    }
}

#[track_caller]
fn check_against_naive(seed: u64, steps: u32) {
    let (mut random, mut now) = (Random(seed), start());
    let (mut timers, mut naive) = (Timers::new(), Naive::default());
    let mut keys = Vec::new();
    for step in 0..steps {
        // The queue grows for a while, then shrinks for a while.
        let inserts = if step / 500 % 2 == 0 { 50 } else { 20 };
        let any = random.below(keys.len().max(1) as u64);
        match random.below(100) {
            draw if draw < inserts || keys.is_empty() => {
                let (id, deadline) = (keys.len() as u64, random.deadline(now));
                keys.push(timers.insert(deadline, id));
                naive.insert(deadline, id);
            }
            50..65 => {
                let cancelled = timers.cancel(keys[any as usize]);
                assert_eq!(cancelled, naive.remove(any).then_some(any));
            }
            65..80 => {
                let deadline = random.deadline(now);
                let moved = timers.reschedule(keys[any as usize], deadline);
                assert_eq!(moved, naive.remove(any));
                if moved {
                    naive.insert(deadline, any);
                }
            }
            80..84 => {
                // What is left of a batch stays: nothing may be lost.
                now = random.deadline(now).max(now);
                assert_eq!(timers.take_due(now), naive.take_due(now));
            }
            _ => assert_eq!(timers.pop_taken(), naive.pop_taken()),
        }
        let probed = naive.key(any).map(|key| key.0);
        assert_eq!(
            keys.get(any as usize).and_then(|&key| timers.deadline(key)),
            probed
        );
        assert_eq!(timers.next_deadline(), naive.next_deadline());
        assert_eq!(timers.len(), naive.calls.len());
        assert_eq!(timers.is_empty(), naive.calls.is_empty());
    }
    let mut listed: Vec<_> = timers.iter().map(|(at, _, &id)| (at, id)).collect();
    let expected = naive.calls.iter().map(|(key, call)| (key.0, call.0));
    let mut expected: Vec<_> = expected.collect();
    listed.sort();
    expected.sort();
    assert_eq!(listed, expected);
}

#[test]
fn random_use_agrees_with_the_naive_queue() {
    for seed in 1..=40 {
        check_against_naive(seed, 3_000);
    }
}

#[test]
fn keys_of_calls_that_were_taken_all_at_once_do_nothing_to_later_ones() {
    let (start, mut timers) = (start(), Timers::new());
    // In the batch, near, and in the wheel; and one slot that is used again.
    let mut keys = vec![timers.insert(start, 0)];
    timers.take_due(start);
    keys.extend([5, 10, 7000].map(|delay| timers.insert(start + millis(delay), delay)));
    assert_eq!(timers.cancel(keys[1]), Some(5));
    keys.push(timers.insert(start + millis(6), 6));
    let sequence = timers.next_sequence();
    let mut taken = timers.take_all();
    taken.sort_unstable();
    assert_eq!(taken, [0, 6, 10, 7000]);
    assert!(timers.is_empty() && !timers.has_taken());
    assert_eq!(timers.next_sequence(), sequence);
    assert_eq!(timers.next_deadline(), None);
    for delay in [4, 3, 2, 1, 9000] {
        timers.insert(start + millis(delay), delay);
    }
    for key in keys {
        assert_eq!(timers.deadline(key), None);
        assert_eq!(timers.cancel(key), None);
        assert!(!timers.reschedule(key, start));
    }
    assert_eq!(fire(&mut timers, start + millis(5)), [1, 2, 3, 4]);
    assert_eq!(fire(&mut timers, start + millis(9000)), [9000]);
}
