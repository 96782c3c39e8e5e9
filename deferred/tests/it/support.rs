//! What the tests share: a log, a clock that is moved by hand, and ways to look at
//! a result.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use torsade_deferred::unhandled::{self, HookGuard};
use torsade_deferred::{ChainError, Clock, Deferred, Failure, Interrupted, Scheduled, Trigger};

/// Lines in the order in which they were noted.
#[derive(Clone, Default)]
pub(crate) struct Log(Rc<RefCell<Vec<String>>>);

impl Log {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn note(&self, line: impl ToString) {
        self.0.borrow_mut().push(line.to_string());
    }

    #[track_caller]
    pub(crate) fn check(&self, expected: &[&str]) {
        assert_eq!(*self.0.borrow(), expected);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.borrow().len()
    }

    pub(crate) fn line(&self, index: usize) -> String {
        self.0.borrow()[index].clone()
    }
}

/// Notes the reports of unhandled failures while the guard lives.
pub(crate) fn reports() -> (Log, HookGuard) {
    let log = Log::new();
    let notes = log.clone();
    (
        log,
        unhandled::set_hook(move |report| notes.note(report.message())),
    )
}

/// The value of a Deferred that has fired with one.
#[track_caller]
pub(crate) fn value<T: 'static, E: ChainError + fmt::Debug>(deferred: Deferred<T, E>) -> T {
    match deferred.into_result() {
        Ok(Ok(value)) => value,
        Ok(Err(error)) => panic!("failed: {error:?}"),
        Err(pending) => panic!("not fired: {pending:?}"),
    }
}

/// The failure of a Deferred that has failed.
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

pub(crate) fn is_cancelled(failure: &Failure) -> bool {
    failure.downcast_ref() == Some(&Interrupted::Cancelled)
}

/// A pending Deferred whose cancellations are counted.
pub(crate) fn counted() -> (Trigger<u32>, Deferred<u32>, Rc<Cell<u32>>) {
    let (trigger, deferred) = Deferred::<u32>::new();
    let count = Rc::new(Cell::new(0));
    let counter = Rc::clone(&count);
    trigger.on_cancel(move || counter.set(counter.get() + 1));
    (trigger, deferred, count)
}

/// A pending Deferred that answers a cancellation with `result`.
pub(crate) fn answering(result: Result<u32, Failure>) -> Deferred<u32> {
    let (trigger, deferred) = Deferred::<u32>::new();
    let held = Rc::new(Cell::new(None::<Trigger<u32>>));
    let hook = Rc::clone(&held);
    trigger.on_cancel(move || {
        if let Some(trigger) = hook.take() {
            trigger.fire(result);
        }
    });
    held.set(Some(trigger));
    deferred
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("broken: {0}")]
pub(crate) struct Broken(pub(crate) &'static str);

/// A failure made of [`Broken`].
#[track_caller]
pub(crate) fn broken(text: &'static str) -> Failure {
    Failure::new(Broken(text))
}

/// Runs `body` on a thread with a stack of 64 KiB.
pub(crate) fn on_a_small_stack(body: impl FnOnce() + Send + 'static) {
    let thread = thread::Builder::new()
        .stack_size(64 * 1024)
        .spawn(body)
        .expect("a thread starts");
    thread.join().expect("the body did not panic");
}

/// A clock that stands still until it is moved.
#[derive(Clone)]
pub(crate) struct ManualClock(Rc<Hands>);

type Calls = BTreeMap<(Instant, u64), Box<dyn FnOnce()>>;

struct Hands {
    now: Cell<Instant>,
    number: Cell<u64>,
    calls: RefCell<Calls>,
}

impl ManualClock {
    pub(crate) fn new() -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "any instant will do, and this is how one is had"
        )]
        let now = Cell::new(Instant::now());
        Self(Rc::new(Hands {
            now,
            number: Cell::new(0),
            calls: RefCell::default(),
        }))
    }

    pub(crate) fn advance(&self, seconds: u64) {
        let end = self.0.now.get() + Duration::from_secs(seconds);
        loop {
            let mut calls = self.0.calls.borrow_mut();
            let Some(first) = calls.first_entry().filter(|call| call.key().0 <= end) else {
                break;
            };
            let ((at, _), call) = first.remove_entry();
            drop(calls);
            self.0.now.set(at);
            call();
        }
        self.0.now.set(end);
    }

    pub(crate) fn pending(&self) -> usize {
        self.0.calls.borrow().len()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Instant {
        self.0.now.get()
    }

    fn schedule(&self, delay: Duration, call: Box<dyn FnOnce()>) -> Scheduled {
        let number = self.0.number.get();
        self.0.number.set(number + 1);
        let key = (self.now() + delay, number);
        self.0.calls.borrow_mut().insert(key, call);
        let hands = Rc::clone(&self.0);
        Scheduled::new(move || drop(hands.calls.borrow_mut().remove(&key)))
    }
}
