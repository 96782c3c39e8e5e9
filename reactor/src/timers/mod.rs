//! Delayed calls, ordered by deadline.
//!
//! A [`Timers`] answers two questions for the loop: how long may we sleep,
//! and which calls are due. The calls themselves are a payload that it keeps
//! and hands back.
//!
//! # Order
//!
//! Earlier deadlines first; equal deadlines in the order in which they were
//! scheduled, and to reschedule a call is to schedule it anew.
//!
//! What is due is taken out as a batch and then handed over call by call. A
//! call of the batch that is cancelled before its turn does not come; one
//! that is rescheduled leaves the batch. What is inserted meanwhile waits for
//! the next batch, however early its deadline.
//!
//! # Not here
//!
//! No clock is read (`now` is an argument) and nothing is called or dropped
//! (the payload goes back to the caller, who does both outside any borrow).
//!
//! # Design
//!
//! Most calls are timeouts, and most timeouts are cancelled: so a deadline is
//! only compared with others when it comes near. Until then its entry lies in
//! a bucket of a timer wheel, among all whose deadlines are similar. When the
//! time of a bucket comes, its entries move to finer buckets, and at last one of
//! the finest is sorted and becomes the `run`. What is inserted for a time that
//! the wheel has passed goes to `soon`, a heap with four children per node.
//!
//! The wheel is coarse, the order is not: whole deadlines are compared, and a
//! tick only decides where an entry waits. All that lies in the run and in
//! `soon` is earlier than all that lies in the wheel.
//!
//! Each slot knows where its entry is. So a cancelled call is gone at once,
//! payload and entry: a tombstone would keep what the call holds.
//!
//! A heap alone took nearly twice as long to fire one of a million calls: it
//! misses the cache on each of ten levels, and once more for the slot of every
//! entry that it moves.

mod run;
mod wheel;

use std::mem;
use std::time::Instant;

use self::run::Run;
use self::wheel::Wheel;

/// Delayed calls with a payload of type `C` each.
#[derive(Debug)]
pub(crate) struct Timers<C> {
    /// What is due next, in order.
    ///
    /// Invariant: none has a tick after the wheel's `horizon`.
    run: Run,
    /// What else is due before what the wheel holds, as a heap.
    ///
    /// Invariant: no entry is earlier than its parent, which is at
    /// `(position - 1) / CHILDREN`; and none has a tick after the wheel's
    /// `horizon`.
    soon: Vec<Entry>,
    /// Room for entries on their way from one place to another; empty between two uses.
    moving: Vec<Entry>,
    /// What is due after those.
    ///
    /// Invariant: if `run` and `soon` are empty, the first bucket has at most
    /// `SEARCHED_MAX` entries, so that `next_deadline` is quick.
    wheel: Wheel,
    /// What was taken out as due, in order; `None` where the entry has left
    /// since.
    taken: Vec<Option<Entry>>,
    /// Which of `taken` is handed over next.
    ///
    /// Invariant: an entry is there, or `taken` is empty.
    next_taken: usize,
    /// The calls, and where the entry of each one is, by [`TimerKey::slot`].
    slots: Vec<Slot<C>>,
    /// Slots without a call. The last one freed is the first one reused.
    free: Vec<u32>,
    /// The place in the order of scheduling of the next call.
    next_sequence: u64,
    /// The generation of the next call to be inserted.
    next_generation: u32,
}

/// Names a call in a [`Timers`], from its insertion until it is cancelled or
/// handed over.
///
/// A key that has outlived its call does nothing, also when the slot holds
/// another call by then. The generations repeat after 2^32 insertions: only a
/// key kept for exactly that many could be mistaken for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimerKey {
    slot: u32,
    generation: u32,
}

impl<C> Timers<C> {
    /// Creates an empty queue.
    pub(crate) fn new() -> Self {
        Self {
            run: Run::new(),
            soon: Vec::new(),
            moving: Vec::new(),
            wheel: Wheel::new(),
            taken: Vec::new(),
            next_taken: 0,
            slots: Vec::new(),
            free: Vec::new(),
            next_sequence: 0,
            next_generation: 0,
        }
    }

    /// Schedules `call` for `deadline`.
    ///
    /// # Panics
    ///
    /// When 2^32 calls are pending.
    pub(crate) fn insert(&mut self, deadline: Instant, call: C) -> TimerKey {
        let generation = self.next_generation;
        self.next_generation = generation.wrapping_add(1);
        let slot = self.claim_slot(Slot {
            generation,
            place: Place::Nowhere,
            call: Some(call),
        });
        self.schedule(deadline, slot);
        TimerKey { slot, generation }
    }

    /// Takes a pending call out for good, and returns it for the caller to
    /// drop.
    ///
    /// Nothing of it stays behind. Returns `None` if it has been handed over
    /// or cancelled before.
    #[must_use = "drop the call where nothing is borrowed: dropping it may run user code"]
    pub(crate) fn cancel(&mut self, key: TimerKey) -> Option<C> {
        let place = self.place(key)?;
        self.withdraw(place);
        Some(self.release_slot(key.slot))
    }

    /// Moves a pending call to `deadline`, behind those scheduled for the same
    /// deadline before.
    ///
    /// Its key stays good. Returns false, and does nothing, if the call has
    /// been handed over or cancelled before.
    pub(crate) fn reschedule(&mut self, key: TimerKey, deadline: Instant) -> bool {
        let Some(place) = self.place(key) else {
            return false;
        };
        self.withdraw(place);
        self.schedule(deadline, key.slot);
        true
    }

    /// Takes what is due at `now` out of the queue, as a batch for
    /// [`pop_taken`](Self::pop_taken), and returns how many calls that are.
    ///
    /// If a batch was not handed over to its end, what is left of it is part
    /// of the new one.
    pub(crate) fn take_due(&mut self, now: Instant) -> usize {
        self.taken.drain(..self.next_taken);
        self.taken.retain(Option::is_some);
        self.next_taken = 0;

        let left_over = self.taken.len();
        // What is near comes out in order, and makes room for the next run.
        self.take_near(now);
        let in_order = self.taken.len();
        self.turn_wheel(now);
        let is_in_order = left_over == 0 && self.taken.len() == in_order;
        self.take_near(now);
        self.settle();
        if !is_in_order {
            // Mostly it is all the same, which this sort makes use of.
            self.taken
                .sort_by_key(|entry| entry.map(|entry| entry.key()));
        }
        debug_assert!(
            self.taken
                .is_sorted_by_key(|entry| entry.map(|entry| entry.key()))
        );
        for (index, entry) in self.taken.iter().enumerate() {
            let entry = entry.expect("only live entries were kept");
            self.slots[entry.slot as usize].place = Place::Taken(to_u32(index));
        }
        self.taken.len()
    }

    /// Whether anything of the batch is left.
    #[inline]
    pub(crate) fn has_taken(&self) -> bool {
        !self.taken.is_empty()
    }

    /// Hands over the next call of the batch; `None` at its end.
    pub(crate) fn pop_taken(&mut self) -> Option<C> {
        let first = (*self.taken.get(self.next_taken)?).expect("next_taken is at an entry");
        self.remove_taken(self.next_taken);
        Some(self.release_slot(first.slot))
    }

    /// When the call is due; `None` once it has been handed over or cancelled.
    pub(crate) fn deadline(&self, key: TimerKey) -> Option<Instant> {
        match self.place(key)? {
            Place::Run(index) => Some(self.run.entry(index).deadline),
            Place::Soon(position) => Some(self.soon[position as usize].deadline),
            Place::Later { bucket, index } => Some(self.wheel.entry(bucket, index).deadline),
            Place::Taken(index) => self.taken[index as usize].map(|entry| entry.deadline),
            Place::Nowhere => None,
        }
    }

    /// The deadline of the next call to be handed over: of the batch if
    /// anything is left of it, else the earliest one.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        if self.is_empty() {
            return None;
        }
        if let Some(Some(left_over)) = self.taken.get(self.next_taken) {
            return Some(left_over.deadline);
        }
        if let Some(first) = self.first_near() {
            return Some(first.deadline);
        }
        let (bucket, _) = self.wheel.first_bucket()?;
        let entries = &self.wheel.buckets[usize::from(bucket)];
        debug_assert!(entries.len() <= SEARCHED_MAX, "settle opens full buckets");
        entries.iter().map(|entry| entry.deadline).min()
    }

    /// How many calls are pending, those of the batch included.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether no call is pending.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The place in the order of scheduling of the next call.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// All pending calls with their deadlines and their places in the order of scheduling,
    /// in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Instant, u64, &C)> {
        let taken = self.taken.iter().flatten();
        let pending = taken
            .chain(self.run.iter().map(|(_, entry)| entry))
            .chain(&self.soon)
            .chain(self.wheel.buckets.iter().flatten());
        pending.map(|entry| {
            let call = self.slots[entry.slot as usize].call.as_ref();
            (
                entry.deadline,
                entry.sequence,
                call.expect("every entry has a call"),
            )
        })
    }

    /// Where the entry of `key` is; `None` if its call is not pending.
    fn place(&self, key: TimerKey) -> Option<Place> {
        let slot = self.slots.get(key.slot as usize)?;
        let is_current = slot.generation == key.generation && slot.call.is_some();
        is_current.then_some(slot.place)
    }

    fn claim_slot(&mut self, slot: Slot<C>) -> u32 {
        if let Some(index) = self.free.pop() {
            self.slots[index as usize] = slot;
            return index;
        }
        self.slots.push(slot);
        to_u32(self.slots.len() - 1)
    }

    /// Takes the call out of a slot whose entry has been withdrawn.
    fn release_slot(&mut self, index: u32) -> C {
        let slot = &mut self.slots[index as usize];
        slot.place = Place::Nowhere;
        let call = slot.call.take().expect("a slot is released once");
        self.free.push(index);
        if self.is_empty() {
            self.start_over();
        }
        call
    }

    /// Gives back what a burst took, once nothing is pending.
    fn start_over(&mut self) {
        // The horizon may be ahead of the time: let it start at the next turn.
        self.wheel.origin = None;
        self.wheel.horizon = 0;
        if self.slots.capacity() > KEPT {
            // The generations go on where they were, so no key of the old
            // slots fits the new ones.
            self.slots = Vec::new();
            self.free = Vec::new();
            self.soon = Vec::new();
            self.moving = Vec::new();
        }
    }

    fn schedule(&mut self, deadline: Instant, slot: u32) {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.file(Entry {
            deadline,
            sequence,
            slot,
            tick_low: 0,
        });
        self.settle();
    }

    /// Puts an entry where its deadline belongs.
    fn file(&mut self, entry: Entry) {
        let tick = self.wheel.tick(entry.deadline);
        self.file_at(tick, entry);
    }

    fn file_at(&mut self, tick: u64, mut entry: Entry) {
        entry.tick_low = tick as u32;
        match self.wheel.insert(tick, entry) {
            Some(place) => self.slots[entry.slot as usize].place = place,
            None => self.insert_soon(entry),
        }
    }

    /// The earliest of what the wheel does not hold any more.
    fn first_near(&self) -> Option<&Entry> {
        match (self.run.first(), self.soon.first()) {
            (Some(run), Some(soon)) if soon.key() < run.key() => Some(soon),
            (run, soon) => run.or(soon),
        }
    }

    /// Takes what is due at `now` of that, in order, into the batch.
    fn take_near(&mut self, now: Instant) {
        while let Some(first) = self.first_near().copied()
            && first.deadline <= now
        {
            match self.slots[first.slot as usize].place {
                Place::Run(_) => drop(self.run.pop()),
                _ => self.remove_soon(0),
            }
            self.taken.push(Some(first));
        }
    }

    /// Takes an entry out of wherever it is.
    fn withdraw(&mut self, place: Place) {
        match place {
            Place::Run(index) => {
                if self.run.remove(index) {
                    self.note_run();
                }
            }
            Place::Soon(position) => self.remove_soon(position as usize),
            Place::Later { bucket, index } => {
                if let Some(moved) = self.wheel.remove(bucket, index) {
                    self.slots[moved as usize].place = place;
                }
            }
            Place::Taken(index) => return self.remove_taken(index as usize),
            Place::Nowhere => unreachable!("a pending call has an entry"),
        }
        self.settle();
    }

    /// Moves what the wheel holds for the time up to `now` to `soon`, or right
    /// into the batch.
    fn turn_wheel(&mut self, now: Instant) {
        if self.wheel.origin.is_none() {
            // The wheel begins to turn. Until now all entries went to `soon`.
            self.wheel.origin = Some(now);
            if !self.soon.is_empty() {
                mem::swap(&mut self.soon, &mut self.moving);
                self.file_moving(None);
            }
        }
        let tick = self.wheel.tick(now);
        while let Some((bucket, start)) = self.wheel.first_bucket()
            && start <= tick
        {
            if start + Wheel::width(bucket) <= tick {
                // All of it is due, and the batch is sorted anyway.
                self.wheel.take(bucket, &mut self.moving);
                self.taken.extend(self.moving.drain(..).map(Some));
                self.moving.shrink_to(KEPT);
            } else {
                self.open_bucket(bucket, start);
            }
        }
        self.wheel.horizon = self.wheel.horizon.max(tick);
    }

    /// Restores the invariant of `wheel`.
    ///
    /// This may move the horizon ahead of the time. Deadlines before it then
    /// go to the heap until the time catches up: slower, in the same order.
    fn settle(&mut self) {
        while self.run.is_empty()
            && self.soon.is_empty()
            && let Some((bucket, start)) = self.wheel.first_bucket()
            && self.wheel.buckets[usize::from(bucket)].len() > SEARCHED_MAX
        {
            self.open_bucket(bucket, start);
        }
    }

    /// Moves the entries of the first bucket, which begins at tick `start`, to
    /// finer buckets, or makes them the run.
    fn open_bucket(&mut self, bucket: u16, start: u64) {
        self.wheel.horizon = start;
        self.wheel.take(bucket, &mut self.moving);
        if Wheel::width(bucket) > 1 || !self.run.is_empty() {
            return self.file_moving(Wheel::is_narrow(bucket).then_some(start));
        }
        self.run.fill(&mut self.moving);
        self.note_run();
    }

    /// Notes for the entries of the run where they are.
    fn note_run(&mut self) {
        for (index, entry) in self.run.iter() {
            self.slots[entry.slot as usize].place = Place::Run(to_u32(index));
        }
    }

    /// Puts entries where they belong, whose ticks differ from `near`, if it is given, in
    /// the lower half of their digits alone.
    fn file_moving(&mut self, near: Option<u64>) {
        let mut moving = mem::take(&mut self.moving);
        for entry in moving.drain(..) {
            match near {
                // Cheaper than the difference of two instants.
                Some(near) => self.file_at(
                    near >> u32::BITS << u32::BITS | u64::from(entry.tick_low),
                    entry,
                ),
                None => self.file(entry),
            }
        }
        // Keeps the allocation, but not that of a burst.
        moving.shrink_to(KEPT);
        self.moving = moving;
    }

    fn remove_taken(&mut self, index: usize) {
        self.taken[index] = None;
        while let Some(None) = self.taken.get(self.next_taken) {
            self.next_taken += 1;
        }
        if self.next_taken == self.taken.len() {
            self.taken.clear();
            self.taken.shrink_to(KEPT);
            self.next_taken = 0;
        }
    }

    fn insert_soon(&mut self, entry: Entry) {
        self.soon.push(entry);
        self.sift_up(self.soon.len() - 1, entry);
    }

    fn remove_soon(&mut self, position: usize) {
        let last = self
            .soon
            .pop()
            .expect("the heap holds what is to be removed");
        if position == self.soon.len() {
            return;
        }
        if position > 0 && last.key() < self.soon[(position - 1) / CHILDREN].key() {
            self.sift_up(position, last);
        } else {
            self.sift_down(position, last);
        }
    }

    /// Puts `entry` at `hole` or, as long as it is earlier than the parent
    /// there, further up.
    fn sift_up(&mut self, mut hole: usize, entry: Entry) {
        while hole > 0 {
            let parent = (hole - 1) / CHILDREN;
            if self.soon[parent].key() < entry.key() {
                break;
            }
            self.put_soon(hole, self.soon[parent]);
            hole = parent;
        }
        self.put_soon(hole, entry);
    }

    /// Puts `entry` at `hole` or, as long as a child there is earlier, further
    /// down.
    fn sift_down(&mut self, mut hole: usize, entry: Entry) {
        loop {
            let first = hole * CHILDREN + 1;
            let end = (first + CHILDREN).min(self.soon.len());
            let Some(child) = (first..end).min_by_key(|&child| self.soon[child].key()) else {
                break;
            };
            if entry.key() < self.soon[child].key() {
                break;
            }
            self.put_soon(hole, self.soon[child]);
            hole = child;
        }
        self.put_soon(hole, entry);
    }

    fn put_soon(&mut self, position: usize, entry: Entry) {
        self.soon[position] = entry;
        self.slots[entry.slot as usize].place = Place::Soon(to_u32(position));
    }
}

/// What the heap, the wheel and the batch hold of a call.
#[derive(Clone, Copy, Debug)]
struct Entry {
    deadline: Instant,
    sequence: u64,
    slot: u32,
    /// The lower half of its tick, since it has been in the wheel.
    tick_low: u32,
}

impl Entry {
    /// What decides the order: the deadline, then the order of scheduling.
    fn key(&self) -> (Instant, u64) {
        (self.deadline, self.sequence)
    }
}

#[derive(Debug)]
struct Slot<C> {
    generation: u32,
    place: Place,
    /// `None` if the slot is free.
    call: Option<C>,
}

/// Where the entry of a slot is.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// At this index of the run.
    Run(u32),
    /// At this position of the heap.
    Soon(u32),
    /// At this index of a bucket of the wheel.
    Later { bucket: u16, index: u32 },
    /// At this index of the batch.
    Taken(u32),
    /// It was withdrawn, or is not filed yet.
    Nowhere,
}

/// Children per node of the heap. Four make it half as deep as two.
const CHILDREN: usize = 4;

/// How many entries [`Timers::next_deadline`] looks through at most.
const SEARCHED_MAX: usize = 64;

/// Room for this many calls is kept when the queue runs empty; more is given
/// back.
const KEPT: usize = 1024;

fn to_u32(index: usize) -> u32 {
    u32::try_from(index).expect("fewer than 2^32 calls are pending")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
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
        timers.take_due(start + millis(2_000));
        assert_eq!(timers.wheel.origin, Some(start + millis(2_000)));
        assert_eq!(timers.wheel.horizon, 0);
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
}
