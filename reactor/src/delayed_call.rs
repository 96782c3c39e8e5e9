//! The handles of calls that are to be made: later, or soon.

use std::fmt;
use std::panic::Location;
use std::rc::Weak;
use std::time::{Duration, Instant};

use crate::calls::CallKey;
use crate::core::Core;
use crate::sys::small_call::SmallCall;
use crate::timers::TimerKey;

/// A call that was scheduled with `call_later` or `call_at`.
///
/// Its times are those of the clock that it is due by: the reactor's, or its
/// [`BootClock`](crate::BootClock). Cheap to clone; dropping it changes nothing. Twisted's `IDelayedCall`.
#[derive(Clone)]
pub struct DelayedCall {
    pub(crate) core: Weak<Core>,
    pub(crate) key: TimerKey,
    pub(crate) time: Time,
}

/// By which clock a call is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Time {
    /// The usual one, which stands still while the machine is suspended.
    Running,
    /// The one that goes on.
    Boot,
}

impl DelayedCall {
    /// Takes the call back: it is not made, and what it holds is dropped now.
    ///
    /// True if it was still to be made; false, and nothing else, if it was made or
    /// cancelled before. Inside the call itself it counts as made.
    #[expect(clippy::must_use_candidate, reason = "it is called for what it does")]
    pub fn cancel(&self) -> bool {
        self.core.upgrade().is_some_and(|core| {
            // Detach, then drop: the call may own anything.
            let call = core.timers(self.time).borrow_mut().cancel(self.key);
            core.timers_changed(self.time);
            call.is_some()
        })
    }

    /// Puts the call off until `delay` from now, sooner or later than it was. It goes
    /// behind others of that time. False if it was made or cancelled before.
    #[expect(clippy::must_use_candidate, reason = "it is called for what it does")]
    pub fn reset(&self, delay: Duration) -> bool {
        self.core.upgrade().is_some_and(|core| {
            let deadline = core.later_by(self.time, delay);
            let timers = core.timers(self.time);
            core.note_age(self.time);
            let is_active = timers.borrow_mut().reschedule(self.key, deadline);
            if is_active {
                core.expect_turn_at(deadline);
            }
            core.timers_changed(self.time);
            is_active
        })
    }

    /// Puts the call off by `extra` from when it was due. False if it was made or
    /// cancelled before.
    #[expect(clippy::must_use_candidate, reason = "it is called for what it does")]
    pub fn delay(&self, extra: Duration) -> bool {
        self.core.upgrade().is_some_and(|core| {
            let Some(deadline) = core.timers(self.time).borrow().deadline(self.key) else {
                return false;
            };
            // Beyond the clock's range it stays where it is: that is as good as for ever.
            let deadline = deadline.checked_add(extra).unwrap_or(deadline);
            let timers = core.timers(self.time);
            core.note_age(self.time);
            let is_active = timers.borrow_mut().reschedule(self.key, deadline);
            if is_active {
                core.expect_turn_at(deadline);
            }
            core.timers_changed(self.time);
            is_active
        })
    }

    /// Whether the call is still to be made.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.deadline().is_some()
    }

    /// When it is due; `None` if it was made or cancelled.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.core
            .upgrade()
            .and_then(|core| core.timers(self.time).borrow().deadline(self.key))
    }
}

impl fmt::Debug for DelayedCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((core, deadline)) = self.core.upgrade().zip(self.deadline()) else {
            return f.write_str("DelayedCall(made or cancelled)");
        };
        let origin = core
            .timers(self.time)
            .borrow()
            .call(self.key)
            .map(|call| call.origin);
        write!(
            f,
            "DelayedCall(in {:?}, scheduled at {})",
            deadline.saturating_duration_since(core.time(self.time)),
            origin.expect("what has a deadline is there"),
        )
    }
}

/// A call that was scheduled with `call_soon`.
#[derive(Clone)]
pub struct SoonCall {
    pub(crate) core: Weak<Core>,
    pub(crate) key: CallKey,
}

impl SoonCall {
    /// Takes the call back: it is not made, and what it holds is dropped now. False if it
    /// was made or cancelled before.
    #[expect(clippy::must_use_candidate, reason = "it is called for what it does")]
    pub fn cancel(&self) -> bool {
        self.core.upgrade().is_some_and(|core| {
            let call = core.soon.borrow_mut().cancel(self.key);
            call.is_some()
        })
    }

    /// Whether the call is still to be made.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.core
            .upgrade()
            .is_some_and(|core| core.soon.borrow().is_pending(self.key))
    }
}

impl fmt::Debug for SoonCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let core = self.core.upgrade();
        let origin =
            core.and_then(|core| core.soon.borrow().call(self.key).map(|call| call.origin));
        match origin {
            Some(origin) => write!(f, "SoonCall(scheduled at {origin})"),
            None => f.write_str("SoonCall(made or cancelled)"),
        }
    }
}

/// A call for the next turn, and where it was asked for.
///
/// In a box: the allocator gives it what the one before has just left, and a box moves through the
/// queue in registers. To keep the closure in place was tried, and took 4 ns more.
pub(crate) struct SoonCallback {
    pub(crate) run: Box<dyn FnOnce()>,
    pub(crate) origin: &'static Location<'static>,
}

impl SoonCallback {
    #[track_caller]
    pub(crate) fn new(run: impl FnOnce() + 'static) -> Self {
        Self {
            run: Box::new(run),
            origin: Location::caller(),
        }
    }
}

/// A delayed call and where it was scheduled.
pub(crate) struct Call {
    /// With room for a handle and a number: queues of calls are as long as they are wide.
    pub(crate) run: SmallCall<(), 2>,
    pub(crate) origin: &'static Location<'static>,
}

impl Call {
    #[track_caller]
    pub(crate) fn new(run: impl FnOnce() + 'static) -> Self {
        Self::at(Location::caller(), run)
    }

    /// One that was scheduled there.
    pub(crate) fn at(origin: &'static Location<'static>, run: impl FnOnce() + 'static) -> Self {
        let run = SmallCall::new(move |()| run());
        Self { run, origin }
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Call(scheduled at {})", self.origin)
    }
}
