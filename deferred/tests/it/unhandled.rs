//! Failures that nobody handled.

use std::fmt;
use std::rc::Rc;

use torsade_deferred::{Deferred, Failure, Interrupted, fail, unhandled};

use crate::support::{Broken, Log, broken, failure, reports, value};

/// #160
#[test]
fn a_deferred_dropped_with_its_failure_is_reported_at_once_with_its_places() {
    let log = Log::new();
    let notes = log.clone();
    let _guard = unhandled::set_hook(move |report| notes.note(report));
    let (trigger, deferred) = Deferred::<u32>::new();
    let deferred = deferred.map(|n| n + 1);
    let line = line!() - 2;
    trigger.errback(broken("lost"));
    let failed = line!() - 1;
    assert_eq!(log.len(), 0);
    drop(deferred);
    assert_eq!(log.len(), 1);
    let report = log.line(0);
    for part in [
        "broken: lost".to_string(),
        format!("failed at deferred/tests/it/unhandled.rs:{failed}:"),
        format!("created at deferred/tests/it/unhandled.rs:{line}:"),
        format!(
            "last callback added at deferred/tests/it/unhandled.rs:{}:",
            line + 1
        ),
    ] {
        assert!(report.contains(&part), "{report} lacks {part}");
    }
}

/// #163
#[test]
fn a_failed_deferred_that_is_kept_is_not_reported() {
    let (log, _guard) = reports();
    let kept: Deferred<u32> = fail(broken("x"));
    log.check(&[]);
    failure(kept);
    log.check(&[]);
}

/// #165
#[test]
fn an_error_whose_text_panics_is_reported_all_the_same() {
    #[derive(Debug)]
    struct Mute;
    impl fmt::Display for Mute {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            panic!("no words");
        }
    }
    impl std::error::Error for Mute {}
    let (log, _guard) = reports();
    drop(fail::<u32, Failure>(Mute));
    log.check(&["(its Display: a callback panicked: no words)"]);
}

/// #166
#[test]
fn a_failure_handled_by_a_late_errback_is_not_reported() {
    let (log, _guard) = reports();
    let (trigger, deferred) = Deferred::<u32>::new();
    trigger.errback(broken("x"));
    value(deferred.add_errback(|_| Ok(0)));
    log.check(&[]);
}

/// #167
#[test]
fn an_adopted_failure_is_reported_for_the_outer_only() {
    let log = Log::new();
    let notes = log.clone();
    let _guard = unhandled::set_hook(move |report| notes.note(report.created().line()));
    let (inner_trigger, inner) = Deferred::<u32>::new();
    let (trigger, outer) = Deferred::<()>::new();
    let line = line!() - 1;
    let outer = outer.add_callback(move |()| inner);
    trigger.callback(());
    inner_trigger.errback(broken("x"));
    drop(outer);
    log.check(&[&line.to_string()]);
}

/// #168
#[test]
fn failures_of_deferreds_returned_in_a_chain_are_reported_once() {
    let (log, _guard) = reports();
    let (trigger, mut deferred) = Deferred::<u32>::new();
    for _ in 0..5 {
        let inner = deferred;
        deferred = torsade_deferred::succeed(()).add_callback(move |()| inner);
    }
    trigger.errback(broken("x"));
    drop(deferred);
    log.check(&["broken: x"]);
}

/// #169
#[test]
fn awaiting_is_handling() {
    let (log, _guard) = reports();
    let (trigger, deferred) = Deferred::<u32>::new();
    let task = Deferred::<bool>::from_future(async move { Ok(deferred.await.is_err()) });
    trigger.errback(broken("x"));
    assert!(value(task));
    log.check(&[]);
}

/// #172
#[test]
fn a_cancelled_deferred_that_nobody_handles_is_reported() {
    let (log, _guard) = reports();
    let (_trigger, deferred) = Deferred::<u32>::new();
    deferred.cancel();
    drop(deferred);
    log.check(&["cancelled"]);
}

/// #173
#[test]
fn an_async_block_that_was_fired_and_forgotten_reports_its_failure() {
    let (log, _guard) = reports();
    let (trigger, deferred) = Deferred::<u32>::new();
    drop(Deferred::<u32>::from_future(deferred));
    log.check(&[]);
    trigger.errback(broken("forgotten"));
    log.check(&["broken: forgotten"]);
}

/// #174
#[test]
fn an_errback_that_fails_leaves_the_new_failure_to_be_reported() {
    let (log, _guard) = reports();
    let failed: Deferred<u32> = fail(broken("first"));
    drop(failed.add_errback(|_| Err(broken("second"))));
    log.check(&["broken: second"]);
}

/// #175
#[test]
fn a_ready_made_failure_dropped_at_once_is_reported() {
    let (log, _guard) = reports();
    drop(fail::<u32, Failure>(broken("x")));
    log.check(&["broken: x"]);
}

/// #176
#[test]
fn a_hook_can_turn_reports_into_the_failure_of_a_test() {
    let outcome = std::panic::catch_unwind(|| {
        let (log, guard) = reports();
        drop(fail::<u32, Failure>(broken("x")));
        drop(guard);
        log.check(&[]);
    });
    assert!(outcome.is_err());
}

#[test]
fn a_failure_dropped_inside_a_structure_is_reported() {
    let (log, _guard) = reports();
    let (trigger, deferred) = Deferred::<u32>::new();
    let held = vec![Some(Box::new(deferred))];
    trigger.errback(broken("inside"));
    log.check(&[]);
    drop(held);
    log.check(&["broken: inside"]);
}

#[test]
fn a_failure_dropped_in_a_value_of_another_chain_is_reported() {
    let (log, _guard) = reports();
    let (trigger, deferred) = Deferred::<Deferred<u32>>::new();
    let outer = deferred.add_callback(drop);
    trigger.callback(fail(broken("carried")));
    log.check(&["broken: carried"]);
    value(outer);
}

#[test]
fn hooks_nest_and_the_inner_one_leaves_with_its_guard() {
    let (outer, _outer_guard) = reports();
    let (inner, inner_guard) = reports();
    drop(fail::<u32, Failure>(broken("one")));
    drop(inner_guard);
    drop(fail::<u32, Failure>(broken("two")));
    inner.check(&["broken: one"]);
    outer.check(&["broken: two"]);
}

#[test]
fn a_hook_may_itself_lose_a_failure() {
    let depth = Rc::new(std::cell::Cell::new(0));
    let count = Rc::clone(&depth);
    let _guard = unhandled::set_hook(move |report| {
        count.set(count.get() + 1);
        if report.message() == "broken: x" {
            drop(fail::<u32, Failure>(Interrupted::Cancelled));
        }
    });
    drop(fail::<u32, Failure>(broken("x")));
    assert_eq!(depth.get(), 2);
    assert_eq!(Broken("x").to_string(), "broken: x");
}

#[test]
fn a_failure_that_comes_after_its_deferred_was_dropped_is_reported_though_the_trigger_lives() {
    let (log, _guard) = reports();
    let (trigger, deferred) = Deferred::<u32>::new();
    let canceller = deferred.canceller();
    drop(deferred);
    canceller.cancel();
    log.check(&["cancelled"]);
    trigger.callback(1);
    log.check(&["cancelled"]);
}
