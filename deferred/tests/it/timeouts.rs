//! Timeouts, those that ask and those that do not.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use torsade_deferred::{Deferred, Failure, Interrupted, fail, succeed};

use crate::support::{
    Broken, Log, ManualClock, answering, broken, check_cancelled, counted, failure, is_cancelled,
    reports, value,
};

const TEN: Duration = Duration::from_secs(10);

#[track_caller]
fn check_timed_out<T: 'static>(deferred: Deferred<T>) {
    assert_eq!(
        failure(deferred).downcast_ref(),
        Some(&Interrupted::TimedOut(TEN))
    );
}

/// #140
#[test]
fn a_timeout_cancels_at_its_time() {
    let clock = ManualClock::new();
    let (_trigger, deferred, stopped) = counted();
    let deferred = deferred.add_timeout(TEN, &clock);
    clock.advance(9);
    assert_eq!(stopped.get(), 0);
    clock.advance(1);
    assert_eq!(stopped.get(), 1);
    check_timed_out(deferred);
}

/// #142
#[test]
fn a_cancellation_by_the_timeout_becomes_timed_out() {
    let clock = ManualClock::new();
    let (_trigger, deferred) = Deferred::<u32>::new();
    let deferred = deferred.add_timeout(TEN, &clock);
    clock.advance(10);
    check_timed_out(deferred);
}

/// #143
#[test]
fn timed_out_is_not_the_time_out_of_the_network() {
    let clock = ManualClock::new();
    let (_trigger, deferred) = Deferred::<u32>::new();
    let deferred = deferred.add_timeout(TEN, &clock);
    clock.advance(10);
    let failure = failure(deferred);
    assert!(failure.check::<Interrupted>() && !failure.check::<std::io::Error>());
}

/// #144
#[test]
fn a_value_in_time_is_delivered_and_ends_the_timer() {
    let clock = ManualClock::new();
    let (trigger, deferred) = Deferred::<u32>::new();
    let deferred = deferred.add_timeout(TEN, &clock);
    assert_eq!(clock.pending(), 1);
    trigger.callback(1);
    assert_eq!(clock.pending(), 0);
    assert_eq!(value(deferred), 1);
}

/// #145
#[test]
fn a_failure_in_time_is_delivered_and_ends_the_timer() {
    let clock = ManualClock::new();
    let (trigger, deferred) = Deferred::<u32>::new();
    let deferred = deferred.add_timeout(TEN, &clock);
    trigger.errback(broken("x"));
    assert_eq!(clock.pending(), 0);
    assert!(failure(deferred).check::<Broken>());
}

/// #146
#[test]
fn cancelling_by_hand_gives_cancelled_and_ends_the_timer() {
    let clock = ManualClock::new();
    let (_trigger, deferred) = Deferred::<u32>::new();
    let deferred = deferred.add_timeout(TEN, &clock);
    deferred.cancel();
    assert_eq!(clock.pending(), 0);
    check_cancelled(deferred);
}

/// #147
#[test]
fn a_hook_that_succeeds_at_the_timeout_gives_its_value() {
    let clock = ManualClock::new();
    let deferred = answering(Ok(7)).add_timeout(TEN, &clock);
    clock.advance(10);
    assert_eq!(value(deferred), 7);
}

/// #148
#[test]
fn a_hook_that_fails_at_the_timeout_gives_its_failure() {
    let clock = ManualClock::new();
    let deferred = answering(Err(broken("own"))).add_timeout(TEN, &clock);
    clock.advance(10);
    assert!(failure(deferred).check::<Broken>());
}

/// #149
#[test]
fn errbacks_before_the_timeout_see_cancelled_and_those_after_it_timed_out() {
    let log = Log::new();
    let notes = log.clone();
    let clock = ManualClock::new();
    let (_trigger, deferred) = Deferred::<u32>::new();
    let deferred = deferred
        .add_errback(move |failure| {
            notes.note(&failure);
            Err(failure)
        })
        .add_timeout(TEN, &clock);
    clock.advance(10);
    log.check(&["cancelled"]);
    check_timed_out(deferred);
}

/// #150
#[test]
fn an_errback_before_the_timeout_that_swallows_the_cancellation_makes_it_a_success() {
    let clock = ManualClock::new();
    let (_trigger, deferred) = Deferred::<u32>::new();
    let deferred = deferred.add_errback(|_| Ok(3)).add_timeout(TEN, &clock);
    clock.advance(10);
    assert_eq!(value(deferred), 3);
}

/// #151
#[test]
fn an_on_timeout_callback_replaces_the_translation() {
    let clock = ManualClock::new();
    let (_trigger, deferred) = Deferred::<u32>::new();
    let deferred = deferred.add_timeout_with(TEN, &clock, |result| {
        assert!(result.is_err_and(|failure| is_cancelled(&failure)));
        Ok(8)
    });
    clock.advance(10);
    assert_eq!(value(deferred), 8);
}

/// #152
#[test]
fn the_on_timeout_callback_is_called_whatever_the_operation_answered() {
    let clock = ManualClock::new();
    let answered = answering(Ok(7)).add_timeout_with(TEN, &clock, |result| result.map(|n| n + 100));
    let (_trigger, swallowed) = Deferred::<u32>::new();
    let swallowed = swallowed
        .add_errback(|_| Ok(1))
        .add_timeout_with(TEN, &clock, |result| result.map(|n| n + 100));
    clock.advance(10);
    assert_eq!((value(answered), value(swallowed)), (107, 101));
}

/// #153
#[test]
fn the_on_timeout_callback_is_not_called_when_the_result_was_there_before() {
    let clock = ManualClock::new();
    let calls = Log::new();
    let limited = |deferred: Deferred<u32>| {
        let notes = calls.clone();
        deferred.add_timeout_with(TEN, &clock, move |result| {
            notes.note("on timeout");
            result
        })
    };
    let (trigger, in_time) = Deferred::<u32>::new();
    let in_time = limited(in_time);
    trigger.callback(1);
    let (_trigger, cancelled) = Deferred::<u32>::new();
    let cancelled = limited(cancelled);
    cancelled.cancel();
    clock.advance(20);
    calls.check(&[]);
    assert_eq!(value(in_time), 1);
    check_cancelled(cancelled);
}

/// #154
#[test]
fn a_timeout_covers_the_chain_up_to_where_it_was_added() {
    let clock = ManualClock::new();
    let (trigger, deferred) = Deferred::<()>::new();
    let (_slow_trigger, slow, stopped) = counted();
    let deferred = deferred
        .add_callback(move |()| slow)
        .add_timeout(TEN, &clock);
    trigger.callback(());
    clock.advance(10);
    assert_eq!(stopped.get(), 1);
    check_timed_out(deferred);
}

/// #155
#[test]
fn a_timeout_does_not_cover_what_was_added_after_it() {
    let clock = ManualClock::new();
    let (trigger, deferred) = Deferred::<()>::new();
    let (slow_trigger, slow, stopped) = counted();
    let deferred = deferred
        .add_timeout(TEN, &clock)
        .add_callback(move |()| slow);
    trigger.callback(());
    clock.advance(20);
    assert_eq!(stopped.get(), 0);
    slow_trigger.callback(1);
    assert_eq!(value(deferred), 1);
}

/// #156
#[test]
fn a_timeout_that_asks_waits_for_the_clean_up_of_the_operation() {
    let clock = ManualClock::new();
    let (_trigger, deferred) = Deferred::<u32>::new();
    let (cleanup_trigger, cleanup) = Deferred::<u32>::new();
    let deferred = deferred
        .add_errback(move |_| cleanup)
        .add_timeout(TEN, &clock);
    clock.advance(20);
    assert!(!deferred.is_fired());
    cleanup_trigger.callback(1);
    assert_eq!(value(deferred), 1);
}

/// #157
#[test]
fn a_timeout_on_a_fired_deferred_leaves_no_timer() {
    let clock = ManualClock::new();
    let deferred: Deferred<u32> = succeed(1);
    let deferred = deferred
        .add_timeout(TEN, &clock)
        .add_hard_timeout(TEN, &clock);
    assert_eq!(clock.pending(), 0);
    assert_eq!(value(deferred), 1);
}

/// #158
#[test]
fn of_two_timeouts_the_earlier_wins_and_the_other_is_taken_back() {
    for (first, second) in [(10, 20), (20, 10)] {
        let clock = ManualClock::new();
        let (_trigger, deferred) = Deferred::<u32>::new();
        let deferred = deferred
            .add_timeout(Duration::from_secs(first), &clock)
            .add_timeout(Duration::from_secs(second), &clock);
        assert_eq!(clock.pending(), 2);
        clock.advance(10);
        assert_eq!(clock.pending(), 0);
        check_timed_out(deferred);
    }
}

/// #159
#[test]
fn a_timer_lives_on_the_clock_it_was_given() {
    let (one, other) = (ManualClock::new(), ManualClock::new());
    let (_trigger, deferred) = Deferred::<u32>::new();
    let deferred = deferred.add_timeout(TEN, &one);
    other.advance(100);
    assert_eq!((one.pending(), other.pending()), (1, 0));
    assert!(!deferred.is_fired());
    one.advance(10);
    check_timed_out(deferred);
}

#[test]
fn an_error_type_of_ones_own_gets_timed_out_too() {
    #[derive(Debug, PartialEq)]
    struct Mine(Interrupted);
    impl From<Interrupted> for Mine {
        fn from(interrupted: Interrupted) -> Self {
            Self(interrupted)
        }
    }
    impl std::fmt::Display for Mine {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            self.0.fmt(f)
        }
    }
    let clock = ManualClock::new();
    let (_trigger, deferred) = Deferred::<u32, Mine>::new();
    let deferred = deferred.add_timeout(TEN, &clock);
    clock.advance(10);
    assert_eq!(failure(deferred), Mine(Interrupted::TimedOut(TEN)));

    let (_trigger, deferred) = Deferred::<u32, std::io::Error>::new();
    let deferred = deferred.add_timeout(TEN, &clock);
    clock.advance(10);
    assert_eq!(failure(deferred).kind(), std::io::ErrorKind::TimedOut);
}

#[test]
fn a_hard_timeout_fires_whatever_the_operation_does() {
    let (log, _guard) = reports();
    let clock = ManualClock::new();
    let (_trigger, deferred, stopped) = counted();
    let (cleanup_trigger, cleanup) = Deferred::<u32>::new();
    let deferred = deferred
        .add_errback(move |_| cleanup)
        .add_hard_timeout(TEN, &clock);
    clock.advance(10);
    assert_eq!(stopped.get(), 1);
    check_timed_out(deferred);
    cleanup_trigger.errback(broken("late"));
    log.check(&[]);
}

#[test]
fn a_hard_timeout_hands_a_late_result_to_the_clean_up() {
    let clock = ManualClock::new();
    let late = Rc::new(Cell::new(None));
    let slot = Rc::clone(&late);
    let deferred =
        answering(Ok(7)).add_hard_timeout_with(TEN, &clock, move |result| slot.set(result.ok()));
    clock.advance(10);
    check_timed_out(deferred);
    assert_eq!(late.get(), Some(7));
}

#[test]
fn a_hard_timeout_passes_results_and_cancellations_on() {
    let clock = ManualClock::new();
    let (trigger, in_time) = Deferred::<u32>::new();
    let in_time = in_time.add_hard_timeout(TEN, &clock);
    trigger.callback(1);
    assert_eq!(value(in_time), 1);
    let (_trigger, cancelled, stopped) = counted();
    let cancelled = cancelled.add_hard_timeout(TEN, &clock);
    cancelled.cancel();
    assert_eq!((stopped.get(), clock.pending()), (1, 0));
    check_cancelled(cancelled);
    let failed = fail::<u32, Failure>(broken("x")).add_hard_timeout(TEN, &clock);
    assert!(failure(failed).check::<Broken>());
}
