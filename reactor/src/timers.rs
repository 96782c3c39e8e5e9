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
//! A heap of small entries with four children per node, and a table of slots
//! that knows where in the heap each call's entry is. So a cancelled call is
//! gone at once, payload and entry: timeouts are cancelled more often than
//! they fire, and tombstones would keep what they hold alive until then.

use std::time::Instant;

/// Delayed calls with a payload of type `C` each.
#[derive(Debug)]
pub(crate) struct Timers<C> {
    /// What is not yet due.
    ///
    /// Invariant: no entry is earlier than its parent, which is at
    /// `(position - 1) / CHILDREN`.
    heap: Vec<Entry>,
    /// What was taken out as due, in order; `None` where the entry has left
    /// since.
    taken: Vec<Option<Entry>>,
    /// Which of `taken` is handed over next.
    ///
    /// Invariant: an entry is there, or `taken` is empty.
    next_taken: usize,
    /// Where each call's entry is, by [`TimerKey::slot`].
    slots: Vec<Slot>,
    /// The calls themselves, by [`TimerKey::slot`] too. They are apart because
    /// every step in the heap writes to a slot, and small slots stay cached.
    calls: Vec<Option<C>>,
    /// Slots without a call. The last one freed is the first one reused.
    free: Vec<u32>,
    /// The sequence number of the next call to be scheduled.
    next_sequence: u32,
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
            heap: Vec::new(),
            taken: Vec::new(),
            next_taken: 0,
            slots: Vec::new(),
            calls: Vec::new(),
            free: Vec::new(),
            next_sequence: 0,
            next_generation: 0,
        }
    }

    /// Schedules `call` for `deadline`.
    ///
    /// # Panics
    ///
    /// When 2^32 - 1 calls are pending.
    pub(crate) fn insert(&mut self, deadline: Instant, call: C) -> TimerKey {
        let generation = self.next_generation;
        self.next_generation = generation.wrapping_add(1);
        let slot = self.claim_slot(generation, call);
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
        while let Some(first) = self.heap.first().copied()
            && first.deadline <= now
        {
            self.remove_from_heap(0);
            self.taken.push(Some(first));
        }
        if left_over > 0 {
            // Two ascending runs: for the standard sort that is one merge.
            self.taken.sort_by_key(|entry| entry.map(|entry| entry.key()));
        }
        for (index, entry) in self.taken.iter().enumerate() {
            let entry = entry.expect("only live entries were kept");
            self.slots[entry.slot as usize].place = Place::Taken(to_u32(index));
        }
        self.taken.len()
    }

    /// Hands over the next call of the batch; `None` at its end.
    pub(crate) fn pop_taken(&mut self) -> Option<C> {
        let first = (*self.taken.get(self.next_taken)?).expect("next_taken is at an entry");
        self.withdraw(Place::Taken(to_u32(self.next_taken)));
        Some(self.release_slot(first.slot))
    }

    /// When the call is due; `None` once it has been handed over or cancelled.
    pub(crate) fn deadline(&self, key: TimerKey) -> Option<Instant> {
        match self.place(key)? {
            Place::Heap(position) => Some(self.heap[position as usize].deadline),
            Place::Taken(index) => self.taken[index as usize].map(|entry| entry.deadline),
            Place::Nowhere => None,
        }
    }

    /// The deadline of the next call to be handed over: of the batch if
    /// anything is left of it, else the earliest one.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let left_over = self.taken.get(self.next_taken).and_then(Option::as_ref);
        let first = left_over.or_else(|| self.heap.first());
        first.map(|entry| entry.deadline)
    }

    /// How many calls are pending, those of the batch included.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether no call is pending.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All pending calls with their deadlines, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Instant, &C)> {
        let taken = self.taken.iter().flatten();
        taken.chain(&self.heap).map(|entry| {
            let call = self.calls[entry.slot as usize].as_ref();
            (entry.deadline, call.expect("every entry has a call"))
        })
    }

    /// Where the entry of `key` is; `None` if its call is not pending.
    fn place(&self, key: TimerKey) -> Option<Place> {
        let slot = self.slots.get(key.slot as usize)?;
        let is_current = slot.generation == key.generation && slot.place != Place::Nowhere;
        is_current.then_some(slot.place)
    }

    /// Puts `call` into a free slot. Its entry is nowhere yet.
    fn claim_slot(&mut self, generation: u32, call: C) -> u32 {
        let place = Place::Nowhere;
        let slot = Slot { generation, place };
        if let Some(index) = self.free.pop() {
            self.slots[index as usize] = slot;
            self.calls[index as usize] = Some(call);
            return index;
        }
        let index = to_u32(self.slots.len());
        self.slots.push(slot);
        self.calls.push(Some(call));
        index
    }

    /// Takes the call out of a slot whose entry has been withdrawn.
    fn release_slot(&mut self, index: u32) -> C {
        self.slots[index as usize].place = Place::Nowhere;
        let call = self.calls[index as usize].take();
        self.free.push(index);
        if self.is_empty() && self.slots.capacity() > KEPT {
            // The generations go on where they were, so no key of the old
            // slots fits the new ones.
            self.heap = Vec::new();
            self.slots = Vec::new();
            self.calls = Vec::new();
            self.free = Vec::new();
        }
        call.expect("a slot is released once")
    }

    /// Puts an entry for `slot` into the heap, behind equal deadlines.
    fn schedule(&mut self, deadline: Instant, slot: u32) {
        if self.next_sequence == u32::MAX {
            self.renumber();
        }
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let entry = Entry { deadline, sequence, slot };
        self.heap.push(entry);
        self.sift_up(self.heap.len() - 1, entry);
    }

    /// Takes an entry out of the heap or the batch.
    fn withdraw(&mut self, place: Place) {
        match place {
            Place::Heap(position) => self.remove_from_heap(position as usize),
            Place::Taken(index) => {
                self.taken[index as usize] = None;
                while let Some(None) = self.taken.get(self.next_taken) {
                    self.next_taken += 1;
                }
                if self.next_taken == self.taken.len() {
                    self.taken.clear();
                    self.taken.shrink_to(KEPT);
                    self.next_taken = 0;
                }
            }
            Place::Nowhere => unreachable!("a pending call has an entry"),
        }
    }

    fn remove_from_heap(&mut self, position: usize) {
        let last = self.heap.pop().expect("the heap holds what is to be removed");
        if position == self.heap.len() {
            return;
        }
        if position > 0 && last.key() < self.heap[(position - 1) / CHILDREN].key() {
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
            if self.heap[parent].key() < entry.key() {
                break;
            }
            self.put(hole, self.heap[parent]);
            hole = parent;
        }
        self.put(hole, entry);
    }

    /// Puts `entry` at `hole` or, as long as a child there is earlier, further
    /// down.
    fn sift_down(&mut self, mut hole: usize, entry: Entry) {
        loop {
            let first = hole * CHILDREN + 1;
            let end = (first + CHILDREN).min(self.heap.len());
            let Some(child) = (first..end).min_by_key(|&child| self.heap[child].key()) else {
                break;
            };
            if entry.key() < self.heap[child].key() {
                break;
            }
            self.put(hole, self.heap[child]);
            hole = child;
        }
        self.put(hole, entry);
    }

    fn put(&mut self, position: usize, entry: Entry) {
        self.heap[position] = entry;
        self.slots[entry.slot as usize].place = Place::Heap(to_u32(position));
    }

    /// Makes room for further sequence numbers: all entries get new ones, from
    /// zero, and keep their order.
    ///
    /// That happens once in four thousand million insertions, and makes an
    /// entry smaller by a quarter.
    #[cold]
    fn renumber(&mut self) {
        // A sorted vector is a heap too.
        self.heap.sort_unstable_by_key(Entry::key);
        // Order: the batch first. With equal deadlines, what is in the batch
        // was scheduled before what is still in the heap.
        let mut sequence = 0;
        for entry in self.taken.iter_mut().flatten().chain(&mut self.heap) {
            entry.sequence = sequence;
            sequence += 1;
        }
        self.next_sequence = sequence;
        for position in 0..self.heap.len() {
            self.put(position, self.heap[position]);
        }
    }
}

/// What the heap and the batch hold of a call.
#[derive(Clone, Copy, Debug)]
struct Entry {
    deadline: Instant,
    sequence: u32,
    slot: u32,
}

impl Entry {
    fn key(&self) -> (Instant, u32) {
        (self.deadline, self.sequence)
    }
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    generation: u32,
    place: Place,
}

/// Where the entry of a slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// At this position of the heap.
    Heap(u32),
    /// At this index of the batch.
    Taken(u32),
    /// The slot is free.
    Nowhere,
}

/// Children per node of the heap. Four make it half as deep as two.
const CHILDREN: usize = 4;

/// Room for this many calls is kept when the queue runs empty; more is given
/// back.
const KEPT: usize = 1024;

fn to_u32(index: usize) -> u32 {
    u32::try_from(index).expect("fewer than 2^32 calls are pending")
}
