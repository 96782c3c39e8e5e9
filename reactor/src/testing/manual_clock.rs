//! A clock that moves when a test says so.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::panic::Location;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use torsade_deferred::{Clock, Scheduled};

use crate::driver::os;

/// How many rounds of calls may be made with no time passing. A loop with an interval of
/// zero is made once a round; a thousand is more than a test of one has ever waited for.
const ROUNDS_MAX: usize = 1_000;

/// A [`Clock`] that moves when a test says so: [`advance`](ManualClock::advance).
///
/// A cheap clone: another handle on the same clock. Code that takes a `Clock` runs on it
/// as on a reactor. Twisted's `task.Clock`.
///
/// # Order
///
/// Calls are made by deadline, and equal deadlines in the order of scheduling. Each call
/// sees its own due time. What a call schedules for now is made in the next round, after
/// the other calls of this one, and in the same `advance`.
///
/// # Reentrancy
///
/// From inside a call, everything may be called. An `advance` in there makes the calls
/// that fall due; the outer one then goes on from where the time is.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use torsade_reactor::task::sleep;
/// use torsade_reactor::testing::ManualClock;
///
/// let clock = ManualClock::new();
/// let nap = sleep(&clock, Duration::from_secs(2));
/// clock.advance(Duration::from_secs(1));
/// assert!(!nap.is_fired());
/// clock.advance(Duration::from_secs(1));
/// assert!(nap.is_fired());
/// ```
#[derive(Clone)]
pub struct ManualClock {
    queue: Rc<Queue>,
}

impl ManualClock {
    /// A clock that stands still, at an instant that means nothing.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "two clocks are never the same")]
    pub fn new() -> Self {
        // An `Instant` can be had from a clock only; what it says does not matter.
        let start = os::now();
        Self {
            queue: Rc::new(Queue {
                start,
                now: Cell::new(start),
                calls: RefCell::default(),
                last_number: Cell::default(),
            }),
        }
    }

    /// The time by this clock.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.queue.now.get()
    }

    /// How far it has moved since it was made.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.now() - self.queue.start
    }

    /// Has `call` made once, `delay` from now, by the `advance` that gets there.
    #[track_caller]
    pub fn call_later(&self, delay: Duration, call: impl FnOnce() + 'static) -> ManualCall {
        self.insert(delay, Location::caller(), Box::new(call))
    }

    /// Moves the time by `time`, and makes the calls that fall due on the way, each at its
    /// own due time.
    ///
    /// # Panics
    ///
    /// A panic in a call comes out here, with the time at that call; later calls stay
    /// scheduled. A call that schedules the next one with no delay, a thousand times on
    /// end, is a panic that names where it was scheduled: this would never return.
    /// [`turn`](ManualClock::turn) makes such calls one round at a time.
    #[track_caller]
    pub fn advance(&self, time: Duration) {
        let queue = &self.queue;
        let goal = queue.after(time);
        while let Some(deadline) = queue.next_deadline().filter(|at| *at <= goal) {
            queue.move_to(deadline);
            self.make_calls_of_this_moment();
        }
        queue.move_to(goal);
    }

    /// Moves the time by each of `times` in turn.
    ///
    /// # Panics
    ///
    /// As for [`advance`](ManualClock::advance).
    #[track_caller]
    pub fn pump(&self, times: impl IntoIterator<Item = Duration>) {
        for time in times {
            self.advance(time);
        }
    }

    /// Makes the calls that are due now, and not what these schedule: one round, like the
    /// turn of a reactor. The time stands still. Says how many there were.
    #[expect(clippy::must_use_candidate, reason = "it is called for what it does")]
    pub fn turn(&self) -> usize {
        let queue = &self.queue;
        // Order: the numbers up to here were given out before this round.
        let (last, mut made) = (queue.last_number.get(), 0);
        while let Some(call) = queue.take_due(last) {
            made += 1;
            (call.run)();
        }
        made
    }

    /// The calls that are still to be made, in the order in which they will be.
    #[must_use]
    pub fn pending(&self) -> Vec<PendingCall> {
        let calls = self.queue.calls.borrow();
        let pending = calls.iter().map(|(key, call)| PendingCall {
            deadline: key.deadline,
            after: key.deadline.saturating_duration_since(self.now()),
            origin: call.origin,
        });
        pending.collect()
    }

    #[track_caller]
    fn make_calls_of_this_moment(&self) {
        for _ in 0..ROUNDS_MAX {
            if self.turn() == 0 {
                return;
            }
        }
        if let Some(origin) = self.queue.origin_of_due() {
            panic!(
                "the time stands still: after {ROUNDS_MAX} rounds of calls there is yet \
                 another call with no delay, scheduled at {origin}"
            );
        }
    }

    fn insert(
        &self,
        delay: Duration,
        origin: &'static Location<'static>,
        run: Box<dyn FnOnce()>,
    ) -> ManualCall {
        let queue = &self.queue;
        let key = Key {
            deadline: queue.after(delay),
            number: queue.next_number(),
        };
        let place = Rc::new(Cell::new(Some(key)));
        let call = Call {
            run,
            origin,
            place: Rc::clone(&place),
        };
        queue.calls.borrow_mut().insert(key, call);
        ManualCall {
            queue: Rc::downgrade(queue),
            place,
        }
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Instant {
        self.now()
    }

    #[track_caller]
    fn schedule(&self, delay: Duration, call: Box<dyn FnOnce()>) -> Scheduled {
        self.schedule_for(delay, Location::caller(), call)
    }

    fn schedule_for(
        &self,
        delay: Duration,
        origin: &'static Location<'static>,
        call: Box<dyn FnOnce()>,
    ) -> Scheduled {
        let call = self.insert(delay, origin, call);
        Scheduled::new(move || {
            call.cancel();
        })
    }

    fn weak_clock(&self) -> Option<Rc<dyn Clock>> {
        Some(Rc::new(WeakManualClock {
            queue: Rc::downgrade(&self.queue),
            last_told: Cell::new(self.now()),
        }))
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ManualClock(at {:?}, ", self.elapsed())?;
        f.debug_list().entries(self.pending()).finish()?;
        f.write_str(")")
    }
}

/// A clock that may be gone.
struct WeakManualClock {
    queue: Weak<Queue>,
    /// For when it is.
    last_told: Cell<Instant>,
}

impl WeakManualClock {
    fn upgrade(&self) -> Option<ManualClock> {
        self.queue.upgrade().map(|queue| ManualClock { queue })
    }
}

impl Clock for WeakManualClock {
    fn now(&self) -> Instant {
        if let Some(clock) = self.upgrade() {
            self.last_told.set(clock.now());
        }
        self.last_told.get()
    }

    fn schedule(&self, delay: Duration, call: Box<dyn FnOnce()>) -> Scheduled {
        self.schedule_for(delay, Location::caller(), call)
    }

    fn schedule_for(
        &self,
        delay: Duration,
        origin: &'static Location<'static>,
        call: Box<dyn FnOnce()>,
    ) -> Scheduled {
        match self.upgrade() {
            Some(clock) => clock.schedule_for(delay, origin, call),
            None => Scheduled::new(|| ()),
        }
    }
}

/// A call that was scheduled with [`ManualClock::call_later`]; what a
/// [`DelayedCall`](crate::DelayedCall) is to a reactor.
#[derive(Clone)]
pub struct ManualCall {
    queue: Weak<Queue>,
    /// Where the call is in the queue; `None` when it was made or cancelled.
    place: Rc<Cell<Option<Key>>>,
}

impl ManualCall {
    /// Takes the call back, and drops what it holds. False, and nothing else, if it was
    /// made or cancelled before; inside the call itself it counts as made.
    #[expect(clippy::must_use_candidate, reason = "it is called for what it does")]
    pub fn cancel(&self) -> bool {
        // Detach, then drop: the call may own anything.
        self.take().is_some()
    }

    /// Puts the call off until `delay` from now, sooner or later than it was, behind
    /// others of that time. False if it was made or cancelled before.
    #[expect(clippy::must_use_candidate, reason = "it is called for what it does")]
    pub fn reset(&self, delay: Duration) -> bool {
        self.move_to(|queue, _deadline| queue.after(delay))
    }

    /// Puts the call off by `extra` from when it was due. False if it was made or
    /// cancelled before.
    #[expect(clippy::must_use_candidate, reason = "it is called for what it does")]
    pub fn delay(&self, extra: Duration) -> bool {
        self.move_to(|_queue, deadline| deadline.checked_add(extra).unwrap_or(deadline))
    }

    /// Whether the call is still to be made.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.deadline().is_some()
    }

    /// When it is due; `None` if it was made or cancelled, or its clock is gone.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let key = self.place.get()?;
        (self.queue.strong_count() > 0).then_some(key.deadline)
    }

    fn take(&self) -> Option<(Rc<Queue>, Call)> {
        let queue = self.queue.upgrade()?;
        let key = self.place.take()?;
        let call = queue.calls.borrow_mut().remove(&key);
        call.map(|call| (queue, call))
    }

    fn move_to(&self, deadline: impl FnOnce(&Queue, Instant) -> Instant) -> bool {
        let Some(key) = self.place.get() else {
            return false;
        };
        let Some((queue, call)) = self.take() else {
            return false;
        };
        let key = Key {
            deadline: deadline(&queue, key.deadline),
            number: queue.next_number(),
        };
        self.place.set(Some(key));
        queue.calls.borrow_mut().insert(key, call);
        true
    }
}

impl fmt::Debug for ManualCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let queue = self.queue.upgrade();
        match queue.zip(self.deadline()) {
            Some((queue, deadline)) => {
                let left = deadline.saturating_duration_since(queue.now.get());
                write!(f, "ManualCall(in {left:?})")
            }
            None => f.write_str("ManualCall(made or cancelled)"),
        }
    }
}

/// A call that waits in a [`ManualClock`]; see [`ManualClock::pending`].
#[derive(Clone)]
#[non_exhaustive]
pub struct PendingCall {
    /// When it is due.
    pub deadline: Instant,
    /// How long that is from now.
    pub after: Duration,
    /// Where it was scheduled.
    pub origin: &'static Location<'static>,
}

impl fmt::Debug for PendingCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "in {:?} from {}", self.after, self.origin)
    }
}

/// By deadline, then by the order of scheduling.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    deadline: Instant,
    number: u64,
}

struct Call {
    run: Box<dyn FnOnce()>,
    origin: &'static Location<'static>,
    place: Rc<Cell<Option<Key>>>,
}

struct Queue {
    start: Instant,
    now: Cell<Instant>,
    /// Not borrowed while a call is made or dropped.
    calls: RefCell<BTreeMap<Key, Call>>,
    last_number: Cell<u64>,
}

impl Queue {
    /// The instant `delay` from now, or as good as for ever.
    fn after(&self, delay: Duration) -> Instant {
        const FAR_FUTURE: Duration = Duration::from_secs(86_400 * 365 * 30);
        let now = self.now.get();
        now.checked_add(delay).unwrap_or_else(|| now + FAR_FUTURE)
    }

    fn next_number(&self) -> u64 {
        self.last_number.set(self.last_number.get() + 1);
        self.last_number.get()
    }

    fn next_deadline(&self) -> Option<Instant> {
        let calls = self.calls.borrow();
        calls.first_key_value().map(|(key, _)| key.deadline)
    }

    /// Time does not run backwards, also if a call has moved it on.
    fn move_to(&self, instant: Instant) {
        self.now.set(self.now.get().max(instant));
    }

    /// The next call that is due and has a number up to `last`.
    fn take_due(&self, last: u64) -> Option<Call> {
        let mut calls = self.calls.borrow_mut();
        let due = calls
            .keys()
            .take_while(|key| key.deadline <= self.now.get())
            .find(|key| key.number <= last)
            .copied();
        let call = calls.remove(&due?)?;
        call.place.set(None);
        Some(call)
    }

    fn origin_of_due(&self) -> Option<&'static Location<'static>> {
        let calls = self.calls.borrow();
        let (key, call) = calls.first_key_value()?;
        (key.deadline <= self.now.get()).then_some(call.origin)
    }
}
