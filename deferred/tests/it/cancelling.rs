//! Cancelling, in every situation.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use torsade_deferred::{Deferred, Failure, Interrupted, Trigger, fail, succeed};

use crate::support::{
    Broken, Log, answering, broken, check_cancelled, counted, failure, is_cancelled, reports, value,
};

/// #110
#[test]
fn cancelling_a_pending_deferred_fails_it_at_once() {
    let log = Log::new();
    let notes = log.clone();
    let (_trigger, deferred) = Deferred::<()>::new();
    let deferred = deferred.add_errback(move |failure| notes.note(failure));
    deferred.cancel();
    log.check(&["cancelled"]);
    value(deferred);
}

/// #111
#[test]
fn firing_after_a_cancellation_does_nothing() {
    let (trigger, deferred) = Deferred::<u32>::new();
    deferred.cancel();
    trigger.callback(1);
    check_cancelled(deferred);
}

/// #112
#[test]
fn a_late_value_and_a_late_failure_are_both_swallowed() {
    let (log, _guard) = reports();
    for late in [Ok(1), Err(broken("late"))] {
        let (trigger, deferred) = Deferred::<u32>::new();
        deferred.cancel();
        trigger.fire(late);
        check_cancelled(deferred);
    }
    log.check(&[]);
}

/// #114
#[test]
fn cancelling_several_times_is_cancelling_once() {
    let log = Log::new();
    let notes = log.clone();
    let (trigger, deferred) = Deferred::<()>::new();
    let deferred = deferred.add_errback(move |failure| notes.note(failure));
    deferred.cancel();
    deferred.cancel();
    deferred.cancel();
    trigger.callback(());
    log.check(&["cancelled"]);
    value(deferred);
}

/// #115
#[test]
fn cancelling_after_the_swallowed_result_changes_nothing() {
    for late in [Ok(1), Err(broken("late"))] {
        let (trigger, deferred) = Deferred::<u32>::new();
        deferred.cancel();
        trigger.fire(late);
        deferred.cancel();
        check_cancelled(deferred);
    }
}

/// #116
#[test]
fn the_cancel_hook_is_called_exactly_once() {
    let (_trigger, deferred, stopped) = counted();
    deferred.cancel();
    deferred.cancel();
    assert_eq!(stopped.get(), 1);
    check_cancelled(deferred);
}

/// #117
#[test]
fn a_hook_that_does_not_fire_leaves_it_to_cancelled() {
    let log = Log::new();
    let [a, b] = [(); 2].map(|()| log.clone());
    let (trigger, deferred) = Deferred::<()>::new();
    trigger.on_cancel(move || a.note("hook"));
    let deferred = deferred.add_errback(move |failure| b.note(failure));
    deferred.cancel();
    log.check(&["hook", "cancelled"]);
    value(deferred);
}

/// #118
#[test]
fn a_hook_that_fires_a_value_decides_the_result() {
    let deferred = answering(Ok(7));
    deferred.cancel();
    assert_eq!(value(deferred), 7);
}

/// #119
#[test]
fn a_hook_that_fires_a_failure_decides_the_result() {
    let deferred = answering(Err(broken("stopped")));
    deferred.cancel();
    assert_eq!(failure(deferred).downcast_ref(), Some(&Broken("stopped")));
}

/// #121
#[test]
fn a_second_cancel_does_not_call_a_hook_that_fired() {
    let count = Rc::new(Cell::new(0));
    let counter = Rc::clone(&count);
    let held = Rc::new(Cell::new(None::<Trigger<u32>>));
    let hook = Rc::clone(&held);
    let (trigger, deferred) = Deferred::<u32>::new();
    trigger.on_cancel(move || {
        counter.set(counter.get() + 1);
        hook.take().expect("set below").callback(1);
    });
    held.set(Some(trigger));
    deferred.cancel();
    deferred.cancel();
    assert_eq!(count.get(), 1);
    assert_eq!(value(deferred), 1);
}

/// #122
#[test]
fn cancelling_a_fired_deferred_is_nothing() {
    let (trigger, deferred, stopped) = counted();
    trigger.callback(3);
    deferred.cancel();
    assert_eq!(stopped.get(), 0);
    assert_eq!(value(deferred), 3);
}

/// #123
#[test]
fn cancelling_a_failed_deferred_is_nothing() {
    let (trigger, deferred, stopped) = counted();
    trigger.errback(broken("x"));
    deferred.cancel();
    assert_eq!(stopped.get(), 0);
    assert!(failure(deferred).check::<Broken>());
}

/// An outer Deferred that waits for `inner`, with its own operation's hook counted.
fn waiting_on(inner: Deferred<u32>) -> (Deferred<u32>, Rc<Cell<u32>>) {
    let (trigger, outer, stopped) = counted();
    let outer = outer.add_callback(move |_| inner);
    trigger.callback(0);
    (outer, stopped)
}

/// #124
#[test]
fn cancelling_an_outer_that_waits_cancels_the_inner_and_not_its_own_operation() {
    let (_trigger, inner, inner_stopped) = counted();
    let (outer, outer_stopped) = waiting_on(inner);
    outer.cancel();
    assert_eq!((inner_stopped.get(), outer_stopped.get()), (1, 0));
    check_cancelled(outer);
}

/// #125
#[test]
fn an_inner_without_a_hook_passes_cancelled_to_the_outer() {
    let (_trigger, inner) = Deferred::<u32>::new();
    let (outer, _) = waiting_on(inner);
    outer.cancel();
    check_cancelled(outer);
}

/// #126
#[test]
fn an_inner_that_recovers_gives_the_outer_its_value() {
    let (_trigger, inner) = Deferred::<u32>::new();
    let inner = inner.add_errback(|failure| Ok(if is_cancelled(&failure) { 9 } else { 0 }));
    let (outer, _) = waiting_on(inner);
    outer.cancel();
    assert_eq!(value(outer), 9);
}

/// #127
#[test]
fn an_inner_whose_hook_succeeds_gives_the_outer_that_value() {
    let (outer, _) = waiting_on(answering(Ok(5)));
    outer.cancel();
    assert_eq!(value(outer), 5);
}

/// #128
#[test]
fn a_cancellation_goes_through_any_number_of_levels() {
    let (_trigger, mut deferred, stopped) = counted();
    for _ in 0..100 {
        deferred = waiting_on(deferred).0;
    }
    deferred.cancel();
    assert_eq!(stopped.get(), 1);
    check_cancelled(deferred);
}

/// #129
#[test]
fn a_second_cancel_goes_to_what_the_errback_of_the_inner_returned() {
    let (_trigger, inner) = Deferred::<u32>::new();
    let (_cleanup_trigger, cleanup, cleanup_stopped) = counted();
    let inner = inner.add_errback(move |_| cleanup);
    let (outer, _) = waiting_on(inner);
    outer.cancel();
    assert!(!outer.is_fired());
    outer.cancel();
    assert_eq!(cleanup_stopped.get(), 1);
    check_cancelled(outer);
}

/// #130
#[test]
fn cancelling_an_outer_that_waits_on_a_fired_but_paused_inner_does_nothing() {
    let mut inner: Deferred<u32> = succeed(1);
    let paused = inner.pause();
    let (outer, _) = waiting_on(inner);
    outer.cancel();
    assert!(!outer.is_fired());
    drop(paused);
    assert_eq!(value(outer), 1);
}

/// #131
#[test]
fn cancelling_from_inside_an_own_callback_does_nothing() {
    let (trigger, deferred) = Deferred::<u32>::new();
    let own = Rc::new(RefCell::new(None::<torsade_deferred::Canceller>));
    let inside = Rc::clone(&own);
    let deferred = deferred.map(move |n| {
        inside.borrow().as_ref().expect("set below").cancel();
        n + 1
    });
    own.replace(Some(deferred.canceller()));
    trigger.callback(1);
    assert_eq!(value(deferred), 2);
}

/// #135
#[test]
fn the_hook_is_dropped_when_the_deferred_fires_either_way() {
    let (_pending_trigger, pending) = Deferred::<u32>::new();
    let pending = Rc::new(Cell::new(Some(pending)));
    for result in [Ok(1), Err(broken("x"))] {
        let captured = Rc::new(());
        let (trigger, deferred) = Deferred::<u32>::new();
        let hook = Rc::clone(&captured);
        trigger.on_cancel(move || drop(hook));
        let inner = Rc::clone(&pending);
        let deferred = deferred.add_both(move |_| inner.take().unwrap_or_else(|| succeed(0)));
        trigger.fire(result);
        assert_eq!(Rc::strong_count(&captured), 1);
        drop(deferred);
    }
}

/// #136
#[test]
fn cancelling_runs_the_pending_callbacks_with_the_failure() {
    let log = Log::new();
    let [a, b] = [(); 2].map(|()| log.clone());
    let (_trigger, deferred) = Deferred::<()>::new();
    let deferred = deferred
        .add_callback(move |()| a.note("skipped"))
        .add_errback(Err)
        .add_errback(move |failure| b.note(failure));
    deferred.cancel();
    log.check(&["cancelled"]);
    value(deferred);
}

/// #137
#[test]
fn an_errback_can_recover_from_a_cancellation() {
    let (_trigger, deferred) = Deferred::<u32>::new();
    let deferred = deferred.add_errback(|failure| match failure.trap::<Interrupted>()? {
        Interrupted::Cancelled => Ok(1),
        other => Err(other.into()),
    });
    deferred.cancel();
    assert_eq!(value(deferred), 1);
}

/// #138
#[test]
fn an_operation_that_cannot_be_stopped_still_reports_cancelled_at_once() {
    let (trigger, deferred) = Deferred::<u32>::new();
    deferred.cancel();
    assert!(deferred.is_fired() && !trigger.is_open());
    check_cancelled(deferred);
}

/// #139
#[test]
fn an_operation_that_cannot_be_stopped_goes_on_and_its_result_is_ignored() {
    let done = Rc::new(Cell::new(false));
    let (trigger, deferred) = Deferred::<u32>::new();
    deferred.cancel();
    // The operation notices nothing, unless it asks `is_open`.
    done.set(true);
    trigger.callback(1);
    assert!(done.get());
    check_cancelled(deferred);
}

#[test]
fn a_hook_that_panics_makes_that_the_failure_and_is_not_called_again() {
    let (trigger, deferred) = Deferred::<u32>::new();
    trigger.on_cancel(|| panic!("hook"));
    deferred.cancel();
    deferred.cancel();
    assert_eq!(failure(deferred).to_string(), "a callback panicked: hook");
}

#[test]
fn a_hook_that_cancels_its_own_deferred_is_not_called_again() {
    let count = Rc::new(Cell::new(0));
    let counter = Rc::clone(&count);
    let (trigger, deferred) = Deferred::<u32>::new();
    let canceller = deferred.canceller();
    trigger.on_cancel(move || {
        counter.set(counter.get() + 1);
        canceller.cancel();
    });
    deferred.cancel();
    assert_eq!(count.get(), 1);
    check_cancelled(deferred);
}

#[test]
fn a_late_result_after_a_hook_ran_is_swallowed_too() {
    let (trigger, deferred, stopped) = counted();
    deferred.cancel();
    trigger.callback(1);
    assert_eq!(stopped.get(), 1);
    check_cancelled(deferred);
}

#[test]
fn a_forwarded_cancellation_leaves_the_answer_to_the_operation() {
    let wishes = Rc::new(Cell::new(0));
    let counter = Rc::clone(&wishes);
    let (trigger, deferred) = Deferred::<u32>::new();
    trigger.forward_cancel(move || counter.set(counter.get() + 1));
    deferred.cancel();
    deferred.cancel();
    assert!(!deferred.is_fired() && trigger.is_open());
    assert_eq!(wishes.get(), 2);
    trigger.callback(1);
    assert_eq!(value(deferred), 1);
}

#[test]
fn a_forwarded_cancellation_that_drops_the_trigger_fails_with_cancelled() {
    let held = Rc::new(Cell::new(None::<Trigger<u32>>));
    let hook = Rc::clone(&held);
    let (trigger, deferred) = Deferred::<u32>::new();
    trigger.forward_cancel(move || drop(hook.take()));
    held.set(Some(trigger));
    deferred.cancel();
    check_cancelled(deferred);
}

#[test]
fn cancelling_a_failed_chain_that_was_handled_is_nothing() {
    let failed: Deferred<u32> = fail(broken("x"));
    let handled = failed.add_errback(|_| Ok::<_, Failure>(1));
    handled.cancel();
    assert_eq!(value(handled), 1);
}

#[test]
fn a_hook_may_hand_the_operation_on_to_another_deferred() {
    let start = |forwarded: bool| {
        let (trigger, deferred) = Deferred::<u32>::new();
        let (close_trigger, closing) = Deferred::<u32>::new();
        let held = Rc::new(Cell::new(None::<Trigger<u32>>));
        let (hook, closing) = (Rc::clone(&held), Cell::new(Some(closing)));
        let stop = move || {
            if let (Some(closing), Some(trigger)) = (closing.take(), hook.take()) {
                closing.chain_into(trigger);
            }
        };
        if forwarded {
            trigger.forward_cancel(stop);
        } else {
            trigger.on_cancel(stop);
        }
        held.set(Some(trigger));
        (deferred, close_trigger)
    };
    for forwarded in [true, false] {
        let (deferred, close_trigger) = start(forwarded);
        deferred.cancel();
        assert!(!deferred.is_fired());
        close_trigger.callback(7);
        assert_eq!(value(deferred), 7);
        // From then on, a cancellation is the other's.
        let (deferred, _close_trigger) = start(forwarded);
        deferred.cancel();
        deferred.cancel();
        check_cancelled(deferred);
    }
}

#[test]
fn a_hook_that_makes_its_deferred_wait_for_itself_fails_it() {
    let (trigger, deferred) = Deferred::<u32>::new();
    let held = Rc::new(Cell::new(None::<(Trigger<u32>, Deferred<u32>)>));
    let hook = Rc::clone(&held);
    trigger.forward_cancel(move || {
        if let Some((trigger, deferred)) = hook.take() {
            deferred.chain_into(trigger);
        }
    });
    let canceller = deferred.canceller();
    held.set(Some((trigger, deferred)));
    let (log, _guard) = reports();
    canceller.cancel();
    assert!(!canceller.is_pending());
    assert_eq!(log.len(), 1);
}

#[test]
fn a_canceller_of_a_deferred_that_was_returned_reaches_no_further_than_that() {
    // Pending when it is returned, or fired, by a callback that runs at once.
    for fired_before in [false, true] {
        let (inner_trigger, inner) = Deferred::<u32>::new();
        let canceller = inner.canceller();
        let mut inner_trigger = Some(inner_trigger);
        if fired_before && let Some(trigger) = inner_trigger.take() {
            trigger.callback(1);
        }
        let (slow_trigger, slow, slow_stopped) = counted();
        let outer = succeed(())
            .add_callback(move |()| inner)
            .add_callback(move |_| slow);
        if let Some(trigger) = inner_trigger {
            trigger.callback(1);
        }
        assert!(!canceller.is_pending());
        canceller.cancel();
        assert_eq!(slow_stopped.get(), 0);
        // Those of the outer one still do.
        let outer_canceller = outer.canceller();
        drop(slow_trigger);
        outer_canceller.cancel();
        drop(outer.add_errback(|_abandoned| Ok(0)));
    }
}

#[test]
fn a_canceller_of_a_deferred_that_was_returned_cancels_it_while_it_is_awaited() {
    let (_inner_trigger, inner, stopped) = counted();
    let canceller = inner.canceller();
    let outer = succeed(()).add_callback(move |()| inner).map(|n| n + 1);
    canceller.cancel();
    assert_eq!(stopped.get(), 1);
    check_cancelled(outer);
}
