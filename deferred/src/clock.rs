//! The one thing that a Deferred wants from the world: the time.
//!
//! A [`Clock`] says what time it is and calls back later. Reactors implement it,
//! and so do the clocks of tests; nothing in this crate does.

use std::fmt;
use std::panic::Location;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Tells the time and calls back later.
///
/// [`Deferred::add_timeout`](crate::Deferred::add_timeout) and its siblings take
/// one, so that no timeout ever runs on a clock that its user did not choose.
/// Twisted's `IReactorTime`.
///
/// # Implementing it
///
/// Time does not run backwards; a call never runs early, and never inside
/// `schedule` itself, also with a delay of nothing. A clock that goes away drops
/// the calls that are left.
pub trait Clock {
    /// The time by this clock.
    fn now(&self) -> Instant;

    /// Runs `call` once, `delay` from now, unless it is cancelled before.
    fn schedule(&self, delay: Duration, call: Box<dyn FnOnce()>) -> Scheduled;

    /// [`schedule`](Clock::schedule) for what was asked for at `origin`, which a clock that
    /// keeps places shows in its reports. Unless a clock says otherwise, the place is lost.
    fn schedule_for(
        &self,
        delay: Duration,
        origin: &'static Location<'static>,
        call: Box<dyn FnOnce()>,
    ) -> Scheduled {
        let _ = origin;
        self.schedule(delay, call)
    }

    /// The same clock, held in a way that does not keep it: for what is itself kept by a
    /// call that waits in the clock, and would be a circle otherwise. When the clock is
    /// gone, its time stands still, and it drops what is scheduled.
    ///
    /// `None`, unless a clock says otherwise: then it is held as it is.
    fn weak_clock(&self) -> Option<Rc<dyn Clock>> {
        None
    }
}

impl<C: Clock + ?Sized> Clock for &C {
    fn now(&self) -> Instant {
        (**self).now()
    }

    fn schedule(&self, delay: Duration, call: Box<dyn FnOnce()>) -> Scheduled {
        (**self).schedule(delay, call)
    }

    fn schedule_for(
        &self,
        delay: Duration,
        origin: &'static Location<'static>,
        call: Box<dyn FnOnce()>,
    ) -> Scheduled {
        (**self).schedule_for(delay, origin, call)
    }

    fn weak_clock(&self) -> Option<Rc<dyn Clock>> {
        (**self).weak_clock()
    }
}

impl<C: Clock + ?Sized> Clock for Rc<C> {
    fn now(&self) -> Instant {
        (**self).now()
    }

    fn schedule(&self, delay: Duration, call: Box<dyn FnOnce()>) -> Scheduled {
        (**self).schedule(delay, call)
    }

    fn schedule_for(
        &self,
        delay: Duration,
        origin: &'static Location<'static>,
        call: Box<dyn FnOnce()>,
    ) -> Scheduled {
        (**self).schedule_for(delay, origin, call)
    }

    fn weak_clock(&self) -> Option<Rc<dyn Clock>> {
        (**self).weak_clock()
    }
}

/// A call that a [`Clock`] has promised to make.
///
/// Dropping it does not cancel the call; [`cancel`](Scheduled::cancel) does.
pub struct Scheduled {
    cancel: Box<dyn FnOnce()>,
}

impl Scheduled {
    /// Made by a clock: `cancel` takes the call out of its queue, and does nothing if
    /// the call has been made.
    ///
    /// `cancel` is called at most once, by [`Scheduled::cancel`].
    pub fn new(cancel: impl FnOnce() + 'static) -> Self {
        Self {
            cancel: Box::new(cancel),
        }
    }

    /// Takes the call back, if it has not been made.
    pub fn cancel(self) {
        (self.cancel)();
    }
}

impl fmt::Debug for Scheduled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scheduled").finish_non_exhaustive()
    }
}
