//! Timeouts whose deadline moves.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use torsade_deferred::{Canceller, Clock, Deferred, Failure, Interrupted, Timeout};

use crate::support::{ManualClock, broken, check_cancelled, counted, failure, value};

const TEN: Duration = Duration::from_secs(10);

#[track_caller]
fn check_timed_out<T: 'static>(deferred: Deferred<T>, limit: u64) {
    let limit = Duration::from_secs(limit);
    assert_eq!(
        failure(deferred).downcast_ref(),
        Some(&Interrupted::TimedOut(limit))
    );
}

#[test]
fn without_a_move_it_is_a_timeout_like_any_other() {
    let clock = ManualClock::new();
    let timeout = Timeout::new(TEN, &clock);
    let (_trigger, deferred, stopped) = counted();
    let deferred = deferred.add_movable_timeout(&timeout);
    assert_eq!(timeout.deadline(), Some(clock.now() + TEN));
    clock.advance(9);
    assert_eq!((stopped.get(), timeout.is_expired()), (0, false));
    clock.advance(1);
    assert_eq!((stopped.get(), timeout.is_expired()), (1, true));
    assert_eq!(timeout.deadline(), None);
    check_timed_out(deferred, 10);
}

#[test]
fn reset_puts_the_deadline_off_and_costs_the_clock_nothing_until_it_was_due() {
    let clock = ManualClock::new();
    let timeout = Timeout::new(TEN, &clock);
    let (_trigger, deferred) = Deferred::<u32>::new();
    let deferred = deferred.add_movable_timeout(&timeout);
    for _ in 0..5 {
        clock.advance(6);
        assert!(timeout.reset(TEN));
        assert_eq!(clock.pending(), 1);
    }
    clock.advance(9);
    assert!(!deferred.is_fired());
    clock.advance(1);
    check_timed_out(deferred, 10);
    assert!(!timeout.reset(TEN), "it has expired");
    assert_eq!(clock.pending(), 0);
}

#[test]
fn reset_brings_the_deadline_forward() {
    let clock = ManualClock::new();
    let timeout = Timeout::new(TEN, &clock);
    let (_trigger, deferred) = Deferred::<u32>::new();
    let deferred = deferred.add_movable_timeout(&timeout);
    assert!(timeout.reset(Duration::from_secs(2)));
    clock.advance(2);
    check_timed_out(deferred, 2);
}

#[test]
fn delay_counts_from_the_deadline_and_the_error_says_the_sum() {
    let clock = ManualClock::new();
    let timeout = Timeout::new(TEN, &clock);
    let (_trigger, deferred) = Deferred::<u32>::new();
    let deferred = deferred.add_movable_timeout(&timeout);
    clock.advance(9);
    assert!(timeout.delay(Duration::from_secs(5)));
    clock.advance(5);
    assert!(!deferred.is_fired());
    clock.advance(1);
    check_timed_out(deferred, 15);
    assert!(!timeout.delay(TEN));
}

#[test]
fn cancelled_it_cuts_nothing_short_until_it_has_a_deadline_again() {
    let clock = ManualClock::new();
    let timeout = Timeout::new(TEN, &clock);
    let (_trigger, deferred) = Deferred::<u32>::new();
    let deferred = deferred.add_movable_timeout(&timeout);
    assert!(timeout.cancel());
    assert!(!timeout.cancel() && !timeout.delay(TEN));
    assert_eq!((clock.pending(), timeout.deadline()), (0, None));
    clock.advance(100);
    assert!(!deferred.is_fired() && !timeout.is_expired());
    assert!(timeout.reset(TEN));
    clock.advance(10);
    check_timed_out(deferred, 10);
}

#[test]
fn a_result_in_time_takes_the_call_out_of_the_clock() {
    let clock = ManualClock::new();
    let timeout = Timeout::new(TEN, &clock);
    let (trigger, deferred) = Deferred::<u32>::new();
    let deferred = deferred.add_movable_timeout(&timeout);
    trigger.callback(1);
    assert_eq!((value(deferred), clock.pending()), (1, 0));
    let (trigger, deferred) = Deferred::<u32>::new();
    let deferred = deferred.add_movable_timeout(&timeout);
    trigger.errback(broken("x"));
    assert!(!failure(deferred).check::<Interrupted>());
    assert_eq!(clock.pending(), 0);
}

#[test]
fn one_deadline_bounds_several_parts_at_once_and_one_after_the_other() {
    let clock = ManualClock::new();
    let timeout = Timeout::new(TEN, &clock);
    let (trigger, first) = Deferred::<u32>::new();
    let first = first.add_movable_timeout(&timeout);
    clock.advance(6);
    trigger.callback(1);
    assert_eq!(value(first), 1);
    let (_second, second) = Deferred::<u32>::new();
    let (_third, third) = Deferred::<u32>::new();
    let second = second.add_movable_timeout(&timeout);
    let third = third.add_movable_timeout(&timeout);
    clock.advance(4);
    check_timed_out(second, 10);
    check_timed_out(third, 10);
}

#[test]
fn added_after_it_has_expired_it_cancels_at_the_next_call_of_the_clock() {
    let clock = ManualClock::new();
    let timeout = Timeout::new(TEN, &clock);
    clock.advance(20);
    assert!(!timeout.is_expired(), "there was nothing to cut short");
    for _ in 0..2 {
        let (_trigger, deferred) = Deferred::<u32>::new();
        let deferred = deferred.add_movable_timeout(&timeout);
        assert!(!deferred.is_fired());
        clock.advance(0);
        check_timed_out(deferred, 10);
        assert!(timeout.is_expired());
    }
}

#[test]
fn only_its_own_cancellation_becomes_timed_out() {
    let clock = ManualClock::new();
    let outer = Timeout::new(TEN, &clock);
    let inner = Timeout::new(Duration::from_secs(2), &clock);
    let (_trigger, deferred) = Deferred::<u32>::new();
    let deferred = deferred
        .add_movable_timeout(&inner)
        .add_movable_timeout(&outer);
    clock.advance(2);
    check_timed_out(deferred, 2);
    assert!(!outer.is_expired());
    assert_eq!(clock.pending(), 0);
    let (_trigger, deferred) = Deferred::<u32>::new();
    let deferred = deferred.add_movable_timeout(&outer);
    deferred.cancel();
    check_cancelled(deferred);
}

#[test]
fn a_callback_of_what_was_cut_short_may_do_anything_to_the_timeout_and_the_others() {
    let clock = ManualClock::new();
    let timeout = Timeout::new(TEN, &clock);
    let (_first, first) = Deferred::<u32>::new();
    let (second_trigger, second) = Deferred::<u32>::new();
    let (_third, third) = Deferred::<u32>::new();
    let (_late, late) = Deferred::<u32>::new();
    let third_canceller: Rc<Cell<Option<Canceller>>> = Rc::default();
    let (to_cancel, handle) = (Rc::clone(&third_canceller), timeout.clone());
    let added = Rc::new(Cell::new(None));
    let adds = Rc::clone(&added);
    let first = first.add_movable_timeout(&timeout).add_both(move |result| {
        assert!(handle.is_expired() && !handle.reset(TEN) && !handle.cancel());
        second_trigger.callback(2);
        to_cancel.take().unwrap().cancel();
        adds.set(Some(late.add_movable_timeout(&handle)));
        result
    });
    let second = second.add_movable_timeout(&timeout);
    let third = third.add_movable_timeout(&timeout);
    third_canceller.set(Some(third.canceller()));
    clock.advance(10);
    check_timed_out(first, 10);
    assert_eq!(value(second), 2);
    check_cancelled(third);
    check_timed_out(added.take().unwrap(), 10);
}

#[test]
fn a_chain_that_is_gone_leaves_nothing_in_the_clock() {
    let clock = ManualClock::new();
    let timeout = Timeout::new(TEN, &clock);
    let (trigger, deferred) = Deferred::<u32>::new();
    drop(
        deferred
            .add_movable_timeout(&timeout)
            .add_errback(|_: Failure| Ok(0)),
    );
    assert_eq!(clock.pending(), 1);
    drop(timeout);
    drop(trigger);
    assert_eq!(clock.pending(), 0);
}

#[test]
fn debug_tells_the_deadline_and_what_waits_for_it() {
    let clock = ManualClock::new();
    let timeout = Timeout::new(TEN, &clock);
    let (_trigger, deferred) = Deferred::<u32>::new();
    let deferred = deferred.add_movable_timeout(&timeout);
    assert!(format!("{timeout:?}").starts_with("Timeout(in 10s, 1 waiting, created at "));
    clock.advance(10);
    assert!(format!("{timeout:?}").starts_with("Timeout(expired after 10s, created at "));
    check_timed_out(deferred, 10);
}
