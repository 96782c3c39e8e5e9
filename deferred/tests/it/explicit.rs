//! Explicit chaining, ready-made Deferreds, wrappers.

use std::cell::Cell;
use std::rc::Rc;

use torsade_deferred::{Deferred, Failure, fail, maybe_deferred, succeed};

use crate::support::{Broken, Log, broken, failure, reports, value};

/// #77
#[test]
fn chain_into_fires_the_target_with_the_result_of_that_point() {
    let (trigger, source) = Deferred::<u32>::new();
    let (target_trigger, target) = Deferred::<u32>::new();
    source.map(|n| n + 1).chain_into(target_trigger);
    let target = target.map(|n| n * 10);
    trigger.callback(1);
    assert_eq!(value(target), 20);

    let (target_trigger, target) = Deferred::<u32>::new();
    fail::<u32, Failure>(broken("x")).chain_into(target_trigger);
    assert!(failure(target).check::<Broken>());
}

/// #80
#[test]
fn firing_the_source_does_not_wait_for_what_the_target_returns() {
    let log = Log::new();
    let notes = log.clone();
    let (trigger, source) = Deferred::<u32>::new();
    let (target_trigger, target) = Deferred::<u32>::new();
    let (slow_trigger, slow) = Deferred::<u32>::new();
    source.chain_into(target_trigger);
    let target = target
        .add_callback(move |_| slow)
        .map(move |n| notes.note(n));
    trigger.callback(1);
    log.note("source has fired");
    slow_trigger.callback(2);
    log.check(&["source has fired", "2"]);
    value(target);
}

/// #85
#[test]
fn succeed_is_a_deferred_fired_with_a_value() {
    assert_eq!(value::<_, Failure>(succeed(1).map(|n| n + 1)), 2);
}

/// #86
#[test]
fn fail_is_a_deferred_fired_with_a_failure() {
    let failed: Deferred<u32> = fail(Broken("x"));
    assert_eq!(failure(failed).downcast_ref(), Some(&Broken("x")));
}

/// #89
#[test]
fn maybe_deferred_makes_a_fired_deferred_of_a_plain_result() {
    assert_eq!(value::<_, Failure>(maybe_deferred(|| Ok(1))), 1);
    value::<(), Failure>(maybe_deferred(|| ()));
}

/// #90
#[test]
fn maybe_deferred_passes_arguments_by_capture() {
    let (a, b) = (1, 2);
    assert_eq!(value::<_, Failure>(maybe_deferred(move || Ok(a + b))), 3);
}

/// #91
#[test]
fn maybe_deferred_makes_a_failure_of_an_error_and_of_a_panic() {
    let failed: Deferred<u32> = maybe_deferred(|| Ok("x".parse::<u32>()?));
    assert!(failure(failed).check::<std::num::ParseIntError>());
    let failed: Deferred<u32> = maybe_deferred(|| -> Result<u32, Failure> { panic!("oh") });
    assert_eq!(failure(failed).to_string(), "a callback panicked: oh");
}

/// #92
#[test]
fn maybe_deferred_of_a_returned_failure_fails() {
    let failed: Deferred<u32> = maybe_deferred(|| Err(broken("x")));
    assert!(failure(failed).check::<Broken>());
}

/// #93
#[test]
fn maybe_deferred_passes_a_deferred_through() {
    let (trigger, deferred) = Deferred::<u32>::new();
    let line = line!() - 1;
    let same = maybe_deferred(move || deferred);
    assert!(format!("{same:?}").contains(&format!("explicit.rs:{line}:")));
    trigger.callback(1);
    assert_eq!(value(same), 1);
}

/// #94
#[test]
fn maybe_deferred_of_an_async_block_gives_its_result() {
    for (result, expected) in [(Ok(1), "1"), (Err(broken("x")), "broken: x")] {
        let (trigger, number) = Deferred::<u32>::new();
        let body = move || Deferred::<u32>::from_future(number);
        let text = maybe_deferred(body).add_both(|result| {
            Ok::<_, Failure>(result.map_or_else(|failure| failure.to_string(), |n| n.to_string()))
        });
        trigger.fire(result);
        assert_eq!(value(text), expected);
    }
}

/// #95
#[test]
fn maybe_deferred_of_a_function_that_makes_an_async_block_works_too() {
    fn indirect() -> Deferred<u32> {
        async fn body() -> Result<u32, Failure> {
            Ok(5)
        }
        Deferred::from_future(body())
    }
    assert_eq!(value(maybe_deferred(indirect)), 5);
}

/// #96
#[test]
fn maybe_deferred_does_not_wait_for_deferreds_in_a_list() {
    let (_trigger, deferred) = Deferred::<u32>::new();
    let list = maybe_deferred(move || Ok::<_, Failure>(vec![deferred]));
    assert!(!value(list)[0].is_fired());
}

/// #100
#[test]
fn the_text_of_a_deferred_says_its_state_and_no_more() {
    let (trigger, deferred) = Deferred::<u32>::new();
    let pending = format!("{deferred:?}");
    assert!(
        pending.starts_with("Deferred(pending, created at ") && !pending.contains("waiting on"),
        "{pending}"
    );
    trigger.callback(1);
    assert!(format!("{deferred:?}").starts_with("Deferred(fired, created at "));
}

#[test]
fn cancelling_the_target_of_an_explicit_chain_cancels_its_source() {
    let (trigger, source) = Deferred::<u32>::new();
    let (target_trigger, target) = Deferred::<u32>::new();
    source.chain_into(target_trigger);
    target.cancel();
    assert!(!trigger.is_open());
    crate::support::check_cancelled(target);
}

#[test]
fn a_trigger_whose_deferred_nobody_has_is_dropped_quietly() {
    let (log, _guard) = reports();
    let (trigger, deferred) = Deferred::<u32>::new();
    assert!(trigger.is_watched());
    drop(deferred);
    assert!(!trigger.is_watched());
    drop(trigger);
    log.check(&[]);
}

#[test]
fn every_consumer_of_a_shared_deferred_gets_the_result() {
    let (trigger, deferred) = Deferred::<u32>::new();
    let shared = deferred.share();
    let (first, second) = (shared.wait(), shared.wait());
    let leaving = shared.wait();
    leaving.cancel();
    crate::support::check_cancelled(leaving);
    assert_eq!(format!("{shared:?}"), "Shared(pending, 2 waiting)");
    trigger.callback(4);
    assert_eq!(
        (value(first), value(second), value(shared.wait())),
        (4, 4, 4)
    );
}

#[test]
fn a_shared_failure_is_each_consumers_own_and_reported_if_nobody_asked() {
    let (log, _guard) = reports();
    let (trigger, deferred) = Deferred::<u32>::new();
    let shared = deferred.share();
    let (handled, lost) = (shared.wait(), shared.wait());
    trigger.errback(broken("x"));
    assert!(failure(handled).check::<Broken>());
    log.check(&[]);
    drop(lost);
    log.check(&["broken: x"]);
    drop(shared);
    drop(fail::<u32, Failure>(broken("y")).share());
    log.check(&["broken: x", "broken: y"]);
}

#[test]
fn cancelling_a_shared_deferred_cancels_it_for_everybody() {
    let (trigger, deferred) = Deferred::<u32>::new();
    let shared = deferred.share();
    let waiting = shared.wait();
    shared.cancel();
    assert!(!trigger.is_open());
    crate::support::check_cancelled(waiting);
}

/// Whose clones fail as often as it says.
struct Fragile {
    panics_left: Rc<Cell<u32>>,
}

impl Clone for Fragile {
    fn clone(&self) -> Self {
        let left = self.panics_left.get();
        self.panics_left.set(left.saturating_sub(1));
        assert_eq!(left, 0, "a clone broke");
        Self {
            panics_left: Rc::clone(&self.panics_left),
        }
    }
}

#[test]
fn a_shared_result_outlives_a_clone_of_it_that_panics() {
    let panics_left = Rc::new(Cell::new(1));
    let fragile = Fragile {
        panics_left: Rc::clone(&panics_left),
    };
    let shared = succeed::<Fragile, Failure>(fragile).share();
    let broken = failure(shared.wait());
    assert!(broken.to_string().contains("a clone broke"));
    value(shared.wait());
    // Of those who wait already, only whose clone it was gets a failure.
    let (trigger, deferred) = Deferred::<Fragile>::new();
    let shared = deferred.share();
    let (first, second) = (shared.wait(), shared.wait());
    panics_left.set(1);
    trigger.callback(Fragile {
        panics_left: Rc::clone(&panics_left),
    });
    assert!(failure(first).to_string().contains("a clone broke"));
    value(second);
    value(shared.wait());
}

#[test]
fn a_shared_failure_that_only_the_dropped_waited_for_is_reported_once() {
    let (log, _guard) = reports();
    let (trigger, deferred) = Deferred::<u32>::new();
    let shared = deferred.share();
    drop((shared.wait(), shared.wait()));
    trigger.errback(broken("x"));
    log.check(&[]);
    drop(shared);
    log.check(&["broken: x"]);
}
