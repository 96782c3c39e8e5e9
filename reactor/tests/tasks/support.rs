//! What the tests share: a log with the time in it, and ways to look at a result.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use torsade_deferred::unhandled::{self, HookGuard};
use torsade_deferred::{ChainError, Clock, Deferred, Interrupted, Scheduled, Trigger};
use torsade_reactor::testing::ManualClock;

pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// What happened, in order.
#[derive(Clone, Default)]
pub(crate) struct Log(Rc<RefCell<Vec<String>>>);

impl Log {
    pub(crate) fn add(&self, line: impl fmt::Display) {
        self.0.borrow_mut().push(line.to_string());
    }

    #[track_caller]
    pub(crate) fn check<const N: usize>(&self, expected: [&str; N]) {
        assert_eq!(*self.0.borrow(), expected);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.borrow().len()
    }

    /// A callback that adds a line.
    pub(crate) fn adds(&self, line: &'static str) -> impl Fn() + use<> + 'static {
        let log = self.clone();
        move || log.add(line)
    }

    /// A callback that adds the time by `clock`.
    pub(crate) fn adds_time(&self, clock: &ManualClock) -> impl Fn() + use<> + 'static {
        let (log, clock) = (self.clone(), clock.clone());
        move || log.add(time(&clock))
    }
}

/// The time by `clock`, as "2.5s".
pub(crate) fn time(clock: &ManualClock) -> String {
    format!("{:?}", clock.elapsed())
}

#[track_caller]
pub(crate) fn value<T: 'static, E: ChainError + fmt::Debug>(deferred: Deferred<T, E>) -> T {
    match deferred.into_result() {
        Ok(Ok(value)) => value,
        Ok(Err(error)) => panic!("failed: {error:?}"),
        Err(pending) => panic!("not fired: {pending:?}"),
    }
}

#[track_caller]
pub(crate) fn failure<T: 'static, E: ChainError>(deferred: Deferred<T, E>) -> E {
    match deferred.into_result() {
        Ok(Ok(_)) => panic!("fired with a value"),
        Ok(Err(error)) => error,
        Err(pending) => panic!("not fired: {pending:?}"),
    }
}

#[track_caller]
pub(crate) fn check_cancelled<T: 'static>(deferred: Deferred<T>) {
    assert_eq!(
        failure(deferred).downcast_ref(),
        Some(&Interrupted::Cancelled)
    );
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no luck")]
pub(crate) struct NoLuck;

/// A place for a trigger that a callback leaves behind.
pub(crate) struct Place<T>(Rc<Cell<Option<T>>>);

impl<T> Clone for Place<T> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<T> Place<T> {
    pub(crate) fn new() -> Self {
        Self(Rc::new(Cell::new(None)))
    }

    pub(crate) fn put(&self, value: T) {
        drop(self.0.replace(Some(value)));
    }

    #[track_caller]
    pub(crate) fn take(&self) -> T {
        self.0.take().expect("it was left here")
    }
}

impl<T: 'static> Place<Trigger<T>> {
    /// A pending Deferred, whose trigger is here then.
    pub(crate) fn deferred(&self) -> Deferred<T> {
        let (trigger, deferred) = Deferred::new();
        self.put(trigger);
        deferred
    }
}

/// The unhandled failures of this thread, while the guard lives.
pub(crate) fn reports() -> (Log, HookGuard) {
    let log = Log::default();
    let notes = log.clone();
    (
        log,
        unhandled::set_hook(move |report| notes.add(report.message())),
    )
}

/// A clock that arrives late: its time moves first and its calls come after, as when a
/// machine was asleep. (And as Twisted's test clock does it.)
#[derive(Clone)]
pub(crate) struct LateClock {
    /// Tells the time alone; the calls are here.
    time: ManualClock,
    calls: Rc<RefCell<Vec<LateCall>>>,
}

struct LateCall {
    due: Duration,
    cancelled: Rc<Cell<bool>>,
    run: Box<dyn FnOnce()>,
}

impl LateClock {
    pub(crate) fn new() -> Self {
        Self {
            time: ManualClock::new(),
            calls: Rc::default(),
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.time.elapsed()
    }

    /// Moves the time, then makes every call that was due on the way.
    pub(crate) fn jump(&self, time: Duration) {
        self.time.advance(time);
        let mut calls = self.calls.take();
        calls.sort_by_key(|call| call.due);
        for call in calls {
            if call.cancelled.get() {
                continue;
            }
            if call.due <= self.elapsed() {
                (call.run)();
            } else {
                self.calls.borrow_mut().push(call);
            }
        }
    }
}

impl Clock for LateClock {
    fn now(&self) -> Instant {
        self.time.now()
    }

    fn schedule(&self, delay: Duration, run: Box<dyn FnOnce()>) -> Scheduled {
        let cancelled = Rc::new(Cell::new(false));
        let cancel = Rc::clone(&cancelled);
        self.calls.borrow_mut().push(LateCall {
            due: self.elapsed() + delay,
            cancelled,
            run,
        });
        Scheduled::new(move || cancel.set(true))
    }
}
