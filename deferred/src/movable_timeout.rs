//! A timeout whose deadline moves.
//!
//! # Not here
//!
//! Timeouts that stay where they are, and need no handle: see `timeout.rs`.
//!
//! # Design
//!
//! To put the deadline off is to write it down: the call that waits in the clock finds, when
//! it comes, that it is too early, and is scheduled anew. So a timeout that each received
//! byte puts off costs the clock one call in each of its durations.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::panic::Location;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use crate::chain::{self, Node};
use crate::clock::{Clock, Scheduled};
use crate::deferred::{Deferred, IntoDeferred};
use crate::error::{ChainError, Interrupted};

impl<T: 'static, E: ChainError> Deferred<T, E> {
    /// Cancels the chain up to this point if it has no result when `timeout` expires, which
    /// may be put off meanwhile. Otherwise as [`add_timeout`](Deferred::add_timeout).
    ///
    /// One timeout may be added to several Deferreds, at the same time or one after the
    /// other: its deadline is that of them all. Added when it has expired, it cancels as soon
    /// as its clock makes calls.
    #[must_use]
    #[track_caller]
    pub fn add_movable_timeout(self, timeout: &Timeout) -> Self {
        if self.is_fired() {
            return self;
        }
        let is_seen = Interrupted::seen_in(&E::from(Interrupted::Cancelled)).is_some();
        let stay = Stay {
            number: timeout.shared.next_number(),
            shared: Rc::clone(&timeout.shared),
        };
        let (shared, number) = (Rc::clone(&stay.shared), stay.number);
        let limited = self.add_both(move |result| {
            let limit = stay.shared.limit.get();
            let is_cut_short = !stay.end();
            let result = match result {
                Err(error)
                    if is_cut_short
                        && Interrupted::seen_in(&error) == Some(&Interrupted::Cancelled) =>
                {
                    Err(Interrupted::TimedOut(limit).into())
                }
                other => other,
            };
            result.into_deferred()
        });
        // The callback just added: a place in the chain that stays until it has run.
        let place = limited.node().as_ref().map(Rc::downgrade);
        let cut_short = move |limit| {
            let reason = if is_seen {
                Interrupted::Cancelled
            } else {
                Interrupted::TimedOut(limit)
            };
            if let Some(node) = place.as_ref().and_then(Weak::upgrade) {
                chain::cancel(node as Rc<dyn Node>, reason);
            }
        };
        shared.join(number, Box::new(cut_short));
        limited
    }
}

/// A timeout whose deadline can be moved, for
/// [`Deferred::add_movable_timeout`]: an idle timeout that each message puts off, or one
/// deadline for the several parts of a request.
///
/// A cheap clone: another handle on the same timeout; dropping a handle changes nothing. It
/// keeps a call in its clock only while there is something to cut short. Python's
/// `asyncio.timeout`.
///
/// # Reentrancy
///
/// Everything may be called from any callback.
#[derive(Clone)]
pub struct Timeout {
    shared: Rc<Shared>,
}

impl Timeout {
    /// A timeout that expires `duration` from now by `clock`, unless it is moved.
    #[track_caller]
    pub fn new(duration: Duration, clock: &(impl Clock + Clone + 'static)) -> Self {
        let clock = clock.weak_clock().unwrap_or_else(|| Rc::new(clock.clone()));
        let deadline = later(clock.now(), duration);
        Self {
            shared: Rc::new(Shared {
                clock,
                origin: Location::caller(),
                deadline: Cell::new(deadline),
                limit: Cell::new(duration),
                is_expired: Cell::new(false),
                bounded: RefCell::default(),
                last_number: Cell::new(0),
                timer: RefCell::default(),
            }),
        }
    }

    /// Moves the deadline to `duration` from now, sooner or later than it was. False, and
    /// nothing else, if it has expired.
    #[expect(clippy::must_use_candidate, reason = "it is called for what it does")]
    pub fn reset(&self, duration: Duration) -> bool {
        let shared = &self.shared;
        shared.move_to(later(shared.clock.now(), duration), duration)
    }

    /// Moves the deadline by `extra`. False, and nothing else, if it has expired, or there is
    /// none.
    #[expect(clippy::must_use_candidate, reason = "it is called for what it does")]
    pub fn delay(&self, extra: Duration) -> bool {
        let shared = &self.shared;
        let Some(deadline) = self.deadline() else {
            return false;
        };
        let limit = shared.limit.get().saturating_add(extra);
        shared.move_to(later(deadline, extra), limit)
    }

    /// Takes the deadline away: nothing is cut short until a [`reset`](Timeout::reset) gives
    /// it a new one. False, and nothing else, if it has expired, or there is none.
    #[expect(clippy::must_use_candidate, reason = "it is called for what it does")]
    pub fn cancel(&self) -> bool {
        let was_there = self.deadline().is_some();
        if was_there {
            self.shared.deadline.set(None);
            self.shared.disarm();
        }
        was_there
    }

    /// When it expires; `None` if it has, or was [cancelled](Timeout::cancel), or that is
    /// beyond the clock's range.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let shared = &self.shared;
        shared.deadline.get().filter(|_| !shared.is_expired.get())
    }

    /// Whether it has expired: it has cancelled whatever was to be cut short then. A deadline
    /// that passes while there is nothing of that kind can still be moved.
    #[must_use]
    pub fn is_expired(&self) -> bool {
        self.shared.is_expired.get()
    }
}

impl fmt::Debug for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = &self.shared;
        let bounded = shared.bounded.borrow().len();
        f.write_str("Timeout(")?;
        match self.deadline() {
            Some(deadline) => {
                let left = deadline.saturating_duration_since(shared.clock.now());
                write!(f, "in {left:?}, {bounded} waiting")?;
            }
            None if self.is_expired() => write!(f, "expired after {:?}", shared.limit.get())?,
            None => write!(f, "no deadline, {bounded} waiting")?,
        }
        write!(f, ", created at {})", shared.origin)
    }
}

/// Beyond the clock's range it is as good as never.
fn later(from: Instant, duration: Duration) -> Option<Instant> {
    from.checked_add(duration)
}

type CutShort = Box<dyn FnOnce(Duration)>;

/// What the handles share, and the chains that it bounds.
///
/// Invariant: none of it is borrowed while user code runs, and user code includes the clock.
struct Shared {
    clock: Rc<dyn Clock>,
    origin: &'static Location<'static>,
    deadline: Cell<Option<Instant>>,
    /// What errors say: the duration that was set last, with what was added to it.
    limit: Cell<Duration>,
    is_expired: Cell<bool>,
    /// What is cut short at the deadline, in the order in which it came.
    bounded: RefCell<BTreeMap<u64, CutShort>>,
    last_number: Cell<u64>,
    /// The call that waits in the clock, and when it comes: at the deadline, or before it.
    timer: RefCell<Option<(Instant, Scheduled)>>,
}

impl Shared {
    fn next_number(&self) -> u64 {
        self.last_number.set(self.last_number.get() + 1);
        self.last_number.get()
    }

    fn join(self: &Rc<Self>, number: u64, cut_short: CutShort) {
        self.bounded.borrow_mut().insert(number, cut_short);
        self.arm();
    }

    fn move_to(self: &Rc<Self>, deadline: Option<Instant>, limit: Duration) -> bool {
        if self.is_expired.get() {
            return false;
        }
        self.deadline.set(deadline);
        self.limit.set(limit);
        self.arm();
        true
    }

    /// Has the clock call in time, if there is anything to call for.
    fn arm(self: &Rc<Self>) {
        let Some(deadline) = self.deadline.get() else {
            return;
        };
        let is_in_time = self
            .timer
            .borrow()
            .as_ref()
            .is_some_and(|(at, _)| *at <= deadline);
        if is_in_time || self.bounded.borrow().is_empty() {
            return;
        }
        self.disarm();
        let delay = deadline.saturating_duration_since(self.clock.now());
        let this = Rc::downgrade(self);
        let call = Box::new(move || {
            if let Some(this) = this.upgrade() {
                drop(this.timer.take());
                this.come_due();
            }
        });
        let scheduled = self.clock.schedule_for(delay, self.origin, call);
        self.timer.replace(Some((deadline, scheduled)));
    }

    fn disarm(&self) {
        let timer = self.timer.take();
        if let Some((_, scheduled)) = timer {
            scheduled.cancel();
        }
    }

    fn come_due(self: &Rc<Self>) {
        let now = self.clock.now();
        if self.deadline.get().is_none_or(|deadline| deadline > now) {
            // It was put off.
            return self.arm();
        }
        self.is_expired.set(true);
        let last = self.last_number.get();
        loop {
            // Detach, then cancel: what that calls may end the others, or bring new ones,
            // which have their own turn.
            let next = {
                let mut bounded = self.bounded.borrow_mut();
                let next = bounded.first_entry().filter(|entry| *entry.key() <= last);
                next.map(|entry| entry.remove())
            };
            let Some(cut_short) = next else { break };
            cut_short(self.limit.get());
        }
        self.arm();
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.disarm();
    }
}

/// A chain under a timeout, until its result is there, or the chain is gone.
struct Stay {
    number: u64,
    shared: Rc<Shared>,
}

impl Stay {
    /// Says whether it has lasted to its own end: false if it was cut short.
    fn end(&self) -> bool {
        let (ended, is_last) = {
            let mut bounded = self.shared.bounded.borrow_mut();
            let ended = bounded.remove(&self.number);
            (ended, bounded.is_empty())
        };
        if is_last {
            self.shared.disarm();
        }
        ended.is_some()
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        self.end();
    }
}
