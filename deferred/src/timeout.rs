//! Timeouts: one that asks the operation to stop, and one that does not ask.
//!
//! # Not here
//!
//! No clock: every timeout is given the [`Clock`] that it runs on. Deadlines that move are in
//! `movable_timeout.rs`.

use std::cell::{Cell, RefCell};
use std::panic::Location;
use std::rc::{Rc, Weak};
use std::time::Duration;

use crate::chain::{self, Node};
use crate::clock::{Clock, Scheduled};
use crate::deferred::{Deferred, IntoDeferred};
use crate::error::{ChainError, Interrupted};

impl<T: 'static, E: ChainError> Deferred<T, E> {
    /// Cancels the chain up to this point if it has no result after `duration`.
    ///
    /// If that ends in [`Interrupted::Cancelled`], it becomes
    /// [`Interrupted::TimedOut`]; any other answer of the operation, a value or a
    /// failure, stays what it is. Callbacks added after this are not covered.
    ///
    /// This asks the operation to stop, and waits for its answer: if an errback before
    /// this point takes its time, so does the whole.
    /// [`add_hard_timeout`](Deferred::add_hard_timeout) does not wait.
    ///
    /// # Typed errors
    ///
    /// In a [`Failure`](crate::Failure), an [`std::io::Error`], a boxed error or an
    /// `Interrupted` the cancellation can be recognised, and is replaced here: errbacks
    /// before this point see `Cancelled`, those after it `TimedOut`. An error type of
    /// your own cannot be looked into, so its operation is cancelled with the reason
    /// `TimedOut` to begin with, which then reaches all errbacks.
    ///
    /// # Cancellation
    ///
    /// Goes through to the operation, as without a timeout.
    #[track_caller]
    pub fn add_timeout(self, duration: Duration, clock: &(impl Clock + ?Sized)) -> Self {
        let is_seen = Interrupted::seen_in(&E::from(Interrupted::Cancelled)).is_some();
        let timed_out = Interrupted::TimedOut(duration);
        let reason = if is_seen {
            Interrupted::Cancelled
        } else {
            timed_out.clone()
        };
        self.limit(duration, clock, reason, move |result| match result {
            Err(error) if Interrupted::seen_in(&error) == Some(&Interrupted::Cancelled) => {
                Err(timed_out.into())
            }
            other => other,
        })
    }

    /// Like [`add_timeout`](Deferred::add_timeout), but `on_timeout` says what the
    /// result becomes.
    ///
    /// It is called, whatever the operation answered, if and only if the timeout
    /// cancelled it.
    #[track_caller]
    pub fn add_timeout_with<R>(
        self,
        duration: Duration,
        clock: &(impl Clock + ?Sized),
        on_timeout: impl FnOnce(Result<T, E>) -> R + 'static,
    ) -> Self
    where
        R: IntoDeferred<E, Value = T>,
    {
        self.limit(duration, clock, Interrupted::Cancelled, on_timeout)
    }

    #[track_caller]
    fn limit<R: IntoDeferred<E, Value = T>>(
        self,
        duration: Duration,
        clock: &(impl Clock + ?Sized),
        reason: Interrupted,
        on_timeout: impl FnOnce(Result<T, E>) -> R + 'static,
    ) -> Self {
        if self.is_fired() {
            return self;
        }
        let timer = Rc::new(Timer::default());
        let limit = Rc::clone(&timer);
        let limited = self.add_both(move |result| {
            if limit.stop() {
                on_timeout(result).into_deferred()
            } else {
                result.into_deferred()
            }
        });
        // The callback just added: a place in the chain that stays until it has run, and
        // then there is no timer any more.
        let place = limited.node().as_ref().map(Rc::downgrade);
        timer.start(duration, Location::caller(), clock, move || {
            if let Some(node) = place.as_ref().and_then(Weak::upgrade) {
                chain::cancel(node as Rc<dyn Node>, reason);
            }
        });
        limited
    }

    /// Gives up after `duration`, whatever the operation does.
    ///
    /// At the deadline this fails with [`Interrupted::TimedOut`] first; then the
    /// operation is cancelled. What it answers after that is dropped, a failure
    /// quietly; [`add_hard_timeout_with`](Deferred::add_hard_timeout_with) can take it.
    ///
    /// # Cancellation
    ///
    /// Is passed on to the operation, which may take its time to answer, but not beyond
    /// the deadline.
    #[track_caller]
    pub fn add_hard_timeout(self, duration: Duration, clock: &(impl Clock + ?Sized)) -> Self {
        self.add_hard_timeout_with(duration, clock, drop)
    }

    /// Like [`add_hard_timeout`](Deferred::add_hard_timeout), and hands a result that
    /// comes too late to `clean_up`: the connection to be lost, the file to be removed.
    #[track_caller]
    pub fn add_hard_timeout_with(
        self,
        duration: Duration,
        clock: &(impl Clock + ?Sized),
        clean_up: impl FnOnce(Result<T, E>) + 'static,
    ) -> Self {
        if self.is_fired() {
            return self;
        }
        let place = Location::caller();
        let (trigger, bounded) = Self::new_at(place);
        let canceller = self.canceller();
        let forward = canceller.clone();
        trigger.forward_cancel(move || forward.cancel());
        // Whoever is first takes the trigger.
        let trigger = Rc::new(Cell::new(Some(trigger)));
        let timer = Rc::new(Timer::default());
        let (in_time, limit) = (Rc::clone(&trigger), Rc::clone(&timer));
        drop(self.add_both(move |result| {
            limit.stop();
            match in_time.take() {
                // Not on this stack: timeouts may be around timeouts to any depth.
                Some(trigger) => trigger.fire_soon(result),
                None => clean_up(result),
            }
        }));
        timer.start(duration, place, clock, move || {
            if let Some(trigger) = trigger.take() {
                trigger.fire(Err(Interrupted::TimedOut(duration).into()));
                canceller.cancel();
            }
        });
        bounded
    }
}

/// A call to come, unless it is stopped.
#[derive(Default)]
struct Timer {
    scheduled: RefCell<Option<Scheduled>>,
    /// The deadline has passed.
    is_over: Cell<bool>,
    is_stopped: Cell<bool>,
}

impl Timer {
    fn start(
        self: &Rc<Self>,
        duration: Duration,
        origin: &'static Location<'static>,
        clock: &(impl Clock + ?Sized),
        call: impl FnOnce() + 'static,
    ) {
        if self.is_stopped.get() {
            return;
        }
        let this = Rc::downgrade(self);
        let scheduled = clock.schedule_for(
            duration,
            origin,
            Box::new(move || {
                // Gone with its chain, or stopped: nothing is left to limit.
                if let Some(this) = this.upgrade().filter(|this| !this.is_stopped.get()) {
                    this.is_over.set(true);
                    drop(this.scheduled.take());
                    call();
                }
            }),
        );
        self.scheduled.replace(Some(scheduled));
    }

    /// Takes the call back, and says whether it was made.
    fn stop(&self) -> bool {
        self.is_stopped.set(true);
        let scheduled = self.scheduled.take();
        if let Some(scheduled) = scheduled {
            scheduled.cancel();
        }
        self.is_over.get()
    }
}
