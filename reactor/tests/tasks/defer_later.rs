//! `defer_later` and `sleep`: the first part of section 2.15 of the catalogue.

use std::cell::Cell;
use std::rc::Rc;

use torsade_deferred::{Deferred, Failure};
use torsade_reactor::task::{defer_later, sleep};
use torsade_reactor::testing::{ManualClock, virtual_time_reactor};

use crate::support::{Log, NoLuck, Place, SECOND, check_cancelled, failure, millis, value};

/// #383
#[test]
fn it_calls_later_and_fires_with_the_result() {
    let clock = ManualClock::new();
    let result = defer_later(&clock, SECOND, || Ok(6 * 7));
    clock.advance(millis(999));
    assert!(!result.is_fired());
    clock.advance(millis(1));
    assert_eq!(value(result), 42);
}

/// #384
#[test]
fn a_call_that_fails_or_panics_fails_it() {
    let clock = ManualClock::new();
    let fails = defer_later(&clock, SECOND, || Err::<(), Failure>(NoLuck.into()));
    let panics = defer_later(&clock, SECOND, || panic!("out of luck") as ());
    clock.advance(SECOND);
    assert!(failure(fails).check::<NoLuck>());
    assert!(failure(panics).to_string().contains("out of luck"));
}

/// #385
#[test]
fn sleep_fires_with_nothing() {
    let clock = ManualClock::new();
    let nap = sleep(&clock, SECOND);
    clock.advance(SECOND);
    value::<(), _>(nap);
}

/// #386
#[test]
fn cancelled_before_the_call_it_makes_none_and_leaves_no_timer() {
    let (clock, log) = (ManualClock::new(), Log::default());
    let (call, nap) = (
        defer_later(&clock, SECOND, log.adds("called")),
        sleep(&clock, SECOND),
    );
    call.cancel();
    nap.cancel();
    assert!(clock.pending().is_empty());
    check_cancelled(call);
    check_cancelled(nap);
    clock.advance(SECOND);
    log.check([]);
}

/// #387
#[test]
fn a_deferred_of_the_call_is_waited_for_and_cancelled() {
    let (clock, place) = (ManualClock::new(), Place::new());
    let left = place.clone();
    let waited_for = defer_later(&clock, SECOND, move || left.deferred());
    clock.advance(SECOND);
    assert!(!waited_for.is_fired());
    place.take().callback("answer");
    assert_eq!(value(waited_for), "answer");

    let left = place.clone();
    let cancelled = defer_later(&clock, SECOND, move || left.deferred());
    clock.advance(SECOND);
    let (stopped, trigger) = (Rc::new(Cell::new(false)), place.take());
    let flag = Rc::clone(&stopped);
    trigger.on_cancel(move || flag.set(true));
    cancelled.cancel();
    assert!(stopped.get());
    check_cancelled::<&str>(cancelled);
    trigger.callback("too late");
}

#[test]
fn a_sleep_ends_with_its_clock() {
    let reactor = virtual_time_reactor();
    let nap = sleep(&reactor, SECOND);
    drop(reactor);
    assert!(failure(nap).to_string().starts_with("abandoned"));
}

#[test]
fn a_sleep_is_named_by_who_asked_for_it() {
    let clock = ManualClock::new();
    let (_nap, line) = (sleep(&clock, SECOND), line!());
    let pending = clock.pending();
    assert_eq!(pending[0].origin.line(), line);
    assert!(pending[0].origin.file().ends_with("defer_later.rs"));
}

#[test]
fn sleeps_in_an_async_block_add_up() {
    let clock = ManualClock::new();
    let watch = clock.clone();
    let naps = Deferred::<_>::from_future(async move {
        for nap in 1..=3 {
            sleep(&watch, nap * SECOND).await?;
        }
        Ok(watch.elapsed())
    });
    clock.advance(10 * SECOND);
    assert_eq!(value(naps), 6 * SECOND);
}
