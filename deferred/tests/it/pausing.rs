//! Pausing a chain and letting it go on.

use torsade_deferred::{Deferred, Failure, fail, succeed};

use crate::support::{Broken, Log, broken, check_cancelled, failure, reports, value};

/// #101
#[test]
fn pauses_nest_and_the_last_one_to_end_resumes() {
    let log = Log::new();
    let notes = log.clone();
    let mut deferred: Deferred<u32> = succeed(1);
    let (first, second) = (deferred.pause(), deferred.pause());
    let deferred = deferred.map(move |n| notes.note(n));
    drop(first);
    log.check(&[]);
    drop(second);
    log.check(&["1"]);
    value(deferred);
}

/// #102
#[test]
fn firing_while_paused_keeps_the_result_until_the_pause_ends() {
    let (trigger, mut deferred) = Deferred::<u32>::new();
    let paused = deferred.pause();
    let deferred = deferred.map(|n| n + 1);
    trigger.callback(1);
    assert!(!deferred.is_fired());
    assert!(
        format!("{deferred:?}").contains("paused with a result"),
        "{deferred:?}"
    );
    drop(paused);
    assert_eq!(value(deferred), 2);
}

/// #103
#[test]
fn a_failure_is_paused_like_a_value() {
    let (trigger, mut deferred) = Deferred::<u32>::new();
    let paused = deferred.pause();
    let deferred =
        deferred.add_errback(|failure| Ok(if failure.check::<Broken>() { 1 } else { 0 }));
    trigger.errback(broken("x"));
    assert!(!deferred.is_fired());
    drop(paused);
    assert_eq!(value(deferred), 1);
}

/// #104
#[test]
fn resuming_a_pending_deferred_runs_nothing_and_firing_still_works() {
    let (trigger, mut deferred) = Deferred::<u32>::new();
    drop(deferred.pause());
    let deferred = deferred.map(|n| n + 1);
    assert!(!deferred.is_fired());
    trigger.callback(1);
    assert_eq!(value(deferred), 2);
}

/// #107
#[test]
fn a_deferred_that_waits_and_is_paused_needs_both_to_end() {
    let (trigger, inner) = Deferred::<u32>::new();
    let mut outer = succeed(()).add_callback(move |()| inner);
    let paused = outer.pause();
    drop(paused);
    assert!(!outer.is_fired());
    let paused = outer.pause();
    trigger.callback(1);
    assert!(!outer.is_fired());
    drop(paused);
    assert_eq!(value::<_, Failure>(outer), 1);
}

/// #108
#[test]
fn cancelling_a_paused_pending_deferred_delivers_when_the_pause_ends() {
    let (_trigger, mut deferred) = Deferred::<u32>::new();
    let paused = deferred.pause();
    deferred.cancel();
    assert!(!deferred.is_fired());
    drop(paused);
    check_cancelled(deferred);
}

#[test]
fn a_paused_failure_that_is_dropped_is_reported_at_once() {
    let (log, _guard) = reports();
    let mut deferred: Deferred<u32> = fail(broken("x"));
    let paused = deferred.pause();
    drop(deferred);
    log.check(&["broken: x"]);
    assert_eq!(format!("{paused:?}"), "Paused(nothing that is left)");
}

#[test]
fn a_pause_from_inside_a_callback_holds_what_is_added_after_it() {
    use std::cell::Cell;
    use std::rc::Rc;
    let (trigger, deferred) = Deferred::<u32>::new();
    let end = Rc::new(Cell::new(None::<Deferred<u32>>));
    let guard = Rc::new(Cell::new(None));
    let (own, held) = (Rc::clone(&end), Rc::clone(&guard));
    let deferred = deferred.map(move |n| {
        let mut end = own.take().expect("set below");
        held.set(Some(end.pause()));
        own.set(Some(end.map(|n| n + 1)));
        n
    });
    end.set(Some(deferred));
    trigger.callback(1);
    let end = end.take().expect("the callback put it back");
    assert!(!end.is_fired());
    drop(guard.take());
    assert_eq!(value(end), 2);
    assert!(failure(fail::<u32, Failure>(broken("x"))).check::<Broken>());
}
