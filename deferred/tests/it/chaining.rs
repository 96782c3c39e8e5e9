//! Returning a Deferred from a callback.

use std::cell::Cell;
use std::rc::Rc;

use torsade_deferred::{Deferred, Failure, fail, succeed};

use crate::support::{Broken, Log, broken, failure, reports, value};

/// #48
#[test]
fn returning_a_pending_deferred_makes_the_rest_of_the_chain_wait() {
    let log = Log::new();
    let notes = log.clone();
    let (trigger, outer) = Deferred::<()>::new();
    let (inner_trigger, inner) = Deferred::<u32>::new();
    let outer = outer
        .add_callback(move |()| inner)
        .map(move |n| notes.note(n));
    trigger.callback(());
    log.check(&[]);
    inner_trigger.callback(1);
    log.check(&["1"]);
    value(outer);
}

/// #49
#[test]
fn the_outer_goes_on_with_the_result_of_the_inner() {
    let (trigger, inner) = Deferred::<u32>::new();
    let outer = succeed(()).add_callback(move |()| inner).map(|n| n + 1);
    trigger.callback(1);
    assert_eq!(value::<_, Failure>(outer), 2);
}

/// #50
#[test]
fn the_outer_goes_on_with_the_failure_of_the_inner() {
    let (trigger, inner) = Deferred::<u32>::new();
    let outer = succeed(()).add_callback(move |()| inner).map(|n| n + 1);
    trigger.errback(broken("inner"));
    assert_eq!(failure(outer).downcast_ref(), Some(&Broken("inner")));
}

/// #51
#[test]
fn an_errback_may_return_a_deferred_too() {
    let (trigger, rescue) = Deferred::<u32>::new();
    let outer: Deferred<u32> = fail(broken("x"));
    let outer = outer.add_errback(move |_| rescue);
    assert!(!outer.is_fired());
    trigger.callback(7);
    assert_eq!(value(outer), 7);
}

/// #52
#[test]
fn returning_a_fired_deferred_goes_on_at_once() {
    let (trigger, outer) = Deferred::<()>::new();
    let outer = outer.add_callback(|()| succeed(3)).map(|n| n + 1);
    trigger.callback(());
    assert_eq!(value(outer), 4);
}

/// #54
#[test]
fn an_adopted_failure_is_not_reported_from_the_inner() {
    let (log, _guard) = reports();
    let (trigger, inner) = Deferred::<u32>::new();
    let outer = succeed(()).add_callback(move |()| inner);
    trigger.errback(broken("x"));
    log.check(&[]);
    failure(outer);
    log.check(&[]);
}

/// #55
#[test]
fn an_adopted_failure_is_reported_once_by_the_outer() {
    let (log, _guard) = reports();
    let (trigger, inner) = Deferred::<u32>::new();
    let outer = succeed(()).add_callback(move |()| inner);
    trigger.errback(broken("x"));
    drop(outer);
    log.check(&["broken: x"]);
}

/// #56
#[test]
fn callbacks_of_the_inner_run_before_the_outer_goes_on() {
    let (trigger, inner) = Deferred::<u32>::new();
    let inner = inner.map(|n| n * 10);
    let outer = succeed(()).add_callback(move |()| inner).map(|n| n + 1);
    trigger.callback(1);
    assert_eq!(value::<_, Failure>(outer), 11);
}

/// #58
#[test]
fn deferreds_returned_by_the_callbacks_of_the_inner_are_waited_for() {
    let (trigger, inner) = Deferred::<()>::new();
    let (innermost_trigger, innermost) = Deferred::<u32>::new();
    let inner = inner.add_callback(move |()| innermost);
    let outer = succeed(()).add_callback(move |()| inner);
    trigger.callback(());
    assert!(!outer.is_fired());
    innermost_trigger.callback(5);
    assert_eq!(value(outer), 5);
}

/// #59
#[test]
fn one_firing_continues_a_chain_of_any_depth() {
    let (trigger, innermost) = Deferred::<u32>::new();
    let mut deferred = innermost;
    for _ in 0..10 {
        let inner = deferred;
        deferred = succeed(()).add_callback(move |()| inner).map(|n| n + 1);
    }
    trigger.callback(0);
    assert_eq!(value(deferred), 10);
}

/// #60
#[test]
fn returning_a_failed_deferred_is_like_failing() {
    let outer = succeed(()).add_callback(|()| fail::<u32, Failure>(broken("x")));
    assert_eq!(failure(outer).downcast_ref(), Some(&Broken("x")));
}

/// #61
#[test]
fn the_outer_runs_before_control_returns_to_the_firer_of_the_inner() {
    let log = Log::new();
    let notes = log.clone();
    let (trigger, inner) = Deferred::<()>::new();
    let outer = succeed(())
        .add_callback(move |()| inner)
        .map(move |()| notes.note("outer"));
    trigger.callback(());
    log.note("fired");
    log.check(&["outer", "fired"]);
    value::<_, Failure>(outer);
}

/// #62
#[test]
fn chained_deferreds_run_from_the_innermost_outwards() {
    let log = Log::new();
    let [a, b, c] = [(); 3].map(|()| log.clone());
    let (trigger, innermost) = Deferred::<()>::new();
    let innermost = innermost.map(move |()| a.note("innermost"));
    let middle = succeed(())
        .add_callback(move |()| innermost)
        .map(move |()| b.note("middle"));
    let outer = succeed(())
        .add_callback(move |()| middle)
        .map(move |()| c.note("outer"));
    trigger.callback(());
    log.check(&["innermost", "middle", "outer"]);
    value::<_, Failure>(outer);
}

/// #63
#[test]
fn callbacks_in_the_middle_of_a_chain_all_run() {
    let (trigger, innermost) = Deferred::<String>::new();
    let middle = succeed(())
        .add_callback(move |()| innermost)
        .map(|s| s + "b")
        .map(|s| s + "c");
    let outer = succeed(()).add_callback(move |()| middle).map(|s| s + "d");
    trigger.callback("a".into());
    assert_eq!(value::<_, Failure>(outer), "abcd");
}

/// #64
#[test]
fn a_fired_but_paused_inner_makes_the_outer_wait() {
    let mut inner: Deferred<u32> = succeed(1);
    let paused = inner.pause();
    let outer = succeed(()).add_callback(move |()| inner);
    assert!(!outer.is_fired());
    drop(paused);
    assert_eq!(value(outer), 1);
}

/// #65
#[test]
fn a_paused_inner_that_has_not_fired_is_waited_for_twice() {
    for resume_first in [true, false] {
        let (trigger, mut inner) = Deferred::<u32>::new();
        let paused = inner.pause();
        let outer = succeed(()).add_callback(move |()| inner);
        if resume_first {
            drop(paused);
            assert!(!outer.is_fired());
            trigger.callback(1);
        } else {
            trigger.callback(1);
            assert!(!outer.is_fired());
            drop(paused);
        }
        assert_eq!(value(outer), 1);
    }
}

/// #66
#[test]
fn pausing_the_outer_does_not_stop_the_inner() {
    let log = Log::new();
    let notes = log.clone();
    let (trigger, inner) = Deferred::<u32>::new();
    let inner = inner.map(move |n| {
        notes.note("inner");
        n
    });
    let mut outer = succeed(()).add_callback(move |()| inner);
    let paused = outer.pause();
    let outer = outer.map(|n| n + 1);
    trigger.callback(1);
    log.check(&["inner"]);
    assert!(!outer.is_fired());
    drop(paused);
    assert_eq!(value(outer), 2);
}

/// #67
#[test]
fn a_waiting_deferred_says_what_it_waits_for() {
    let (_trigger, inner) = Deferred::<u32>::new();
    let line = line!() - 1;
    let (trigger, outer) = Deferred::<()>::new();
    let outer = outer.add_callback(move |()| inner).map(|n| n + 1);
    trigger.callback(());
    let text = format!("{outer:?}");
    assert!(
        text.contains("waiting on the Deferred created at") && text.contains(&format!(":{line}:")),
        "{text}"
    );
}

/// #68
#[test]
fn it_says_so_no_longer_when_the_inner_has_fired() {
    let (inner_trigger, inner) = Deferred::<u32>::new();
    let (trigger, outer) = Deferred::<()>::new();
    let outer = outer.add_callback(move |()| inner);
    trigger.callback(());
    inner_trigger.callback(1);
    assert!(!format!("{outer:?}").contains("waiting"));
    value(outer);
}

/// #73
#[test]
fn a_hundred_thousand_implicit_links_use_constant_stack() {
    crate::support::on_a_small_stack(|| {
        let (last, mut deferred) = Deferred::<usize>::new();
        for _ in 0..100_000 {
            let inner = deferred;
            deferred = succeed(()).add_callback(move |()| inner).map(|n| n + 1);
        }
        last.callback(0);
        assert_eq!(value(deferred), 100_000);
    });
}

/// #74
#[test]
fn a_chain_of_already_fired_deferreds_uses_constant_stack() {
    crate::support::on_a_small_stack(|| {
        let mut deferred: Deferred<usize> = succeed(0);
        for _ in 0..100_000 {
            let inner = deferred;
            deferred = succeed(()).add_callback(move |()| inner).map(|n| n + 1);
        }
        assert_eq!(value(deferred), 100_000);
    });
}

/// #75
#[test]
fn fired_deferreds_that_return_the_next_are_flattened() {
    let mut deferred: Deferred<usize> = succeed(0);
    for _ in 0..1000 {
        deferred = deferred.add_callback(|n| succeed(n + 1));
    }
    assert!(format!("{deferred:?}").starts_with("Deferred(fired with a value"));
    assert_eq!(value(deferred), 1000);
}

#[test]
fn a_canceller_keeps_its_reach_when_its_deferred_is_given_into_another_chain() {
    // The first stage's node steps aside when the second stage begins; the canceller of
    // what was given away must follow.
    let (first_trigger, first) = Deferred::<()>::new();
    let (second_trigger, second) = Deferred::<u32>::new();
    let operation = first.add_callback(move |()| second);
    let canceller = operation.canceller();
    let (trigger, outer) = Deferred::<()>::new();
    let outer = outer.add_callback(move |()| operation);
    trigger.callback(());
    first_trigger.callback(());
    assert!(canceller.is_pending());
    canceller.cancel();
    crate::support::check_cancelled(outer);
    assert!(!second_trigger.is_open());
}

#[test]
fn a_canceller_awaited_in_a_task_keeps_its_reach() {
    let (first_trigger, first) = Deferred::<()>::new();
    let (_second_trigger, second) = Deferred::<u32>::new();
    let operation = first.add_callback(move |()| second);
    let canceller = operation.canceller();
    let task = Deferred::<u32>::from_future(operation);
    first_trigger.callback(());
    canceller.cancel();
    crate::support::check_cancelled(task);
}

#[test]
fn a_deferred_that_waits_for_itself_fails_with_abandoned() {
    let (trigger, deferred) = Deferred::<u32>::new();
    let own = Rc::new(Cell::new(None));
    let loops = Rc::clone(&own);
    let tail = deferred.add_callback(move |_| loops.take().expect("set below"));
    let failed = Rc::new(Cell::new(false));
    let seen = Rc::clone(&failed);
    own.set(Some(tail.add_errback(move |failure| {
        seen.set(failure.check::<torsade_deferred::Interrupted>());
        Ok(0)
    })));
    trigger.callback(1);
    assert!(failed.get());
}

#[test]
fn a_deferred_that_was_looked_at_while_it_waits_goes_on_all_the_same() {
    // Looking moves it behind the inner Deferred, past the node that it waited at.
    let (inner_trigger, inner) = Deferred::<u32>::new();
    let (trigger, outer) = Deferred::<()>::new();
    let outer = outer.add_callback(move |()| inner);
    trigger.callback(());
    let outer = outer.into_result().expect_err("it waits");
    inner_trigger.callback(1);
    assert_eq!(value(outer), 1);
}
