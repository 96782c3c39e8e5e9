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
    /// When the wheel last turned.
    turned: Option<Instant>,
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
            turned: None,
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
    #[inline]
    pub(crate) fn insert(&mut self, deadline: Instant, call: C) -> TimerKey {
        let generation = self.next_generation;
        self.next_generation = generation.wrapping_add(1);
        let slot = self.claim_slot();
        let claimed = &mut self.slots[slot as usize];
        claimed.generation = generation;
        // Where the compiler can see what the call is made of: copied from there as a whole it
        // would be read in other pieces than it was just written in, which the processor waits for.
        claimed.call = Some(call);
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
        self.release_slot(key.slot)
    }

    /// Takes all pending calls out for good, and returns them for the caller to drop. Their keys
    /// name nothing from then on, whatever is inserted later.
    #[must_use = "drop the calls where nothing is borrowed: dropping them may run user code"]
    pub(crate) fn take_all(&mut self) -> Vec<C> {
        let emptied = Self {
            next_sequence: self.next_sequence,
            next_generation: self.next_generation,
            ..Self::new()
        };
        let slots = mem::replace(self, emptied).slots;
        slots.into_iter().filter_map(|slot| slot.call).collect()
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
            self.slots[entry.slot as usize].place = Place::Taken(to_u32(index)).into();
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
        self.release_slot(first.slot)
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

    /// The call; `None` once it has been handed over or cancelled.
    pub(crate) fn call(&self, key: TimerKey) -> Option<&C> {
        self.place(key)?;
        self.slots[key.slot as usize].call.as_ref()
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
        is_current.then(|| slot.place.into())
    }

    #[inline]
    fn claim_slot(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| self.new_slot())
    }

    #[inline(never)]
    fn new_slot(&mut self) -> u32 {
        self.slots.push(Slot {
            generation: 0,
            place: Whereabouts::NOWHERE,
            call: None,
        });
        to_u32(self.slots.len() - 1)
    }

    /// Takes the call out of a slot whose entry has been withdrawn: it is there.
    #[inline]
    fn release_slot(&mut self, index: u32) -> Option<C> {
        let slot = &mut self.slots[index as usize];
        debug_assert!(slot.call.is_some(), "a slot is released once");
        slot.place = Whereabouts::NOWHERE;
        let call = slot.call.take();
        self.free.push(index);
        if self.is_empty() {
            self.start_over();
        }
        call
    }

    /// Gives back what a burst took, once nothing is pending.
    #[inline(never)]
    fn start_over(&mut self) {
        // The horizon may be ahead of the time, and the origin long ago: they start anew, at
        // the last time that is known.
        self.wheel.origin = self.turned;
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

    #[inline(never)]
    fn schedule(&mut self, deadline: Instant, slot: u32) {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let entry = Entry {
            deadline,
            sequence,
            slot,
            tick_low: 0,
        };
        let place = self.file_at(self.wheel.tick(deadline), entry);
        // No other may have made a bucket too full.
        if matches!(place, Some(Place::Later { index, .. }) if index as usize >= SEARCHED_MAX) {
            self.settle();
        }
    }

    /// Puts an entry where its tick belongs; gives its place, if that is in the wheel.
    #[inline]
    fn file_at(&mut self, tick: u64, mut entry: Entry) -> Option<Place> {
        entry.tick_low = tick as u32;
        let place = self.wheel.insert(tick, entry);
        match place {
            Some(place) => self.slots[entry.slot as usize].place = place.into(),
            None => self.insert_soon(entry),
        }
        place
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
            match self.slots[first.slot as usize].place.into() {
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
                    self.slots[moved as usize].place = place.into();
                }
                if !self.wheel.buckets[usize::from(bucket)].is_empty() {
                    // The first bucket is the one that it was.
                    return;
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
        self.turned = Some(now);
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
            self.slots[entry.slot as usize].place = Place::Run(to_u32(index)).into();
        }
    }

    /// Puts entries where they belong, whose ticks differ from `near`, if it is given, in
    /// the lower half of their digits alone.
    fn file_moving(&mut self, near: Option<u64>) {
        let mut moving = mem::take(&mut self.moving);
        for entry in moving.drain(..) {
            let tick = match near {
                // Cheaper than the difference of two instants.
                Some(near) => near >> u32::BITS << u32::BITS | u64::from(entry.tick_low),
                None => self.wheel.tick(entry.deadline),
            };
            // Whether that bucket is full now is the caller's to see.
            let _ = self.file_at(tick, entry);
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
        self.slots[entry.slot as usize].place = Place::Soon(to_u32(position)).into();
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
    place: Whereabouts,
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

/// A [`Place`] in one word, which is written and read as one: of a word that was just written in
/// parts the processor waits for the whole.
#[derive(Clone, Copy, Debug)]
struct Whereabouts(u64);

impl Whereabouts {
    const NOWHERE: Self = Self::new(0, 0, 0);
    const RUN: u64 = 1;
    const SOON: u64 = 2;
    const LATER: u64 = 3;
    const TAKEN: u64 = 4;

    const fn new(kind: u64, bucket: u16, index: u32) -> Self {
        Self(kind << 48 | (bucket as u64) << 32 | index as u64)
    }
}

impl From<Place> for Whereabouts {
    #[inline]
    fn from(place: Place) -> Self {
        match place {
            Place::Run(index) => Self::new(Self::RUN, 0, index),
            Place::Soon(position) => Self::new(Self::SOON, 0, position),
            Place::Later { bucket, index } => Self::new(Self::LATER, bucket, index),
            Place::Taken(index) => Self::new(Self::TAKEN, 0, index),
            Place::Nowhere => Self::NOWHERE,
        }
    }
}

impl From<Whereabouts> for Place {
    #[inline]
    fn from(Whereabouts(word): Whereabouts) -> Self {
        let index = word as u32;
        match word >> 48 {
            Whereabouts::RUN => Self::Run(index),
            Whereabouts::SOON => Self::Soon(index),
            Whereabouts::LATER => Self::Later {
                bucket: (word >> 32) as u16,
                index,
            },
            Whereabouts::TAKEN => Self::Taken(index),
            _ => Self::Nowhere,
        }
    }
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
mod tests;
