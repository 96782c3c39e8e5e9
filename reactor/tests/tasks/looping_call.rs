//! `LoopingCall`: section 2.12 of the catalogue, and what is ours.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use torsade_deferred::{Deferred, Failure, Interrupted, Trigger, fail, succeed};
use torsade_reactor::Reactor;
use torsade_reactor::task::{AlreadyRunning, LoopingCall, MissedTicks};
use torsade_reactor::testing::{ManualClock, virtual_time_reactor};

use crate::support::{
    LateClock, Log, NoLuck, Place, SECOND, check_cancelled, failure, millis, reports, time, value,
};

/// A loop that logs the time of each call.
fn logging(clock: &ManualClock) -> (LoopingCall, Log) {
    let log = Log::default();
    let looping = LoopingCall::new(clock, log.adds_time(clock));
    (looping, log)
}

/// A loop that logs the time and the count of each call.
fn counting(clock: &ManualClock) -> (LoopingCall, Log) {
    let log = Log::default();
    let (notes, watch) = (log.clone(), clock.clone());
    let looping = LoopingCall::with_count(clock, move |count| {
        notes.add(format!("{} {count}", time(&watch)));
    });
    (looping, log)
}

/// A loop whose call takes `long` the first time: time passes inside it.
fn slow_at_first(clock: &ManualClock, long: Duration) -> (LoopingCall, Log) {
    let log = Log::default();
    let (notes, watch, mut left) = (log.clone(), clock.clone(), Some(long));
    let looping = LoopingCall::with_count(clock, move |count| {
        notes.add(format!("{} {count}", time(&watch)));
        if let Some(long) = left.take() {
            watch.advance(long);
        }
    });
    (looping, log)
}

/// A loop that logs the time and the count of each call, on a clock that may be late.
fn late(clock: &LateClock) -> (LoopingCall, Log) {
    let log = Log::default();
    let (notes, watch) = (log.clone(), clock.clone());
    let looping = LoopingCall::with_count(clock, move |count| {
        notes.add(format!("{:?} {count}", watch.elapsed()));
    });
    (looping, log)
}

/// A loop whose calls wait for the trigger in the place.
fn waiting(clock: &ManualClock) -> (LoopingCall, Log, Place<Trigger<()>>) {
    let (log, place) = (Log::default(), Place::new());
    let (called, left) = (log.adds_time(clock), place.clone());
    let looping = LoopingCall::new(clock, move || {
        called();
        left.deferred()
    });
    (looping, log, place)
}

#[track_caller]
fn check_fails_with_no_luck(deferred: Deferred<LoopingCall>) {
    assert!(failure(deferred).check::<NoLuck>());
}

/// #303
#[test]
fn start_makes_the_first_call_before_it_returns() {
    let clock = ManualClock::new();
    let (looping, log) = logging(&clock);
    let _ended = looping.start(SECOND);
    log.check(["0ns"]);
}

/// #304
#[test]
fn start_later_makes_the_first_call_an_interval_later() {
    let clock = ManualClock::new();
    let (looping, log) = logging(&clock);
    let _ended = looping.start_later(SECOND);
    clock.advance(millis(999));
    log.check([]);
    clock.advance(millis(1));
    log.check(["1s"]);
}

/// #306
#[test]
fn an_interval_of_zero_is_one_call_in_each_turn() {
    let reactor = virtual_time_reactor();
    let calls = Rc::new(Cell::new(0));
    let counter = Rc::clone(&calls);
    let looping = LoopingCall::new(&reactor, move || counter.set(counter.get() + 1));
    let _ended = looping.start(Duration::ZERO);
    for turn in 1..=5 {
        assert_eq!(calls.get(), turn);
        reactor.turn(Some(Duration::ZERO)).unwrap();
    }
}

/// #307
#[test]
fn start_while_running_and_stop_and_reset_while_not_are_answered() {
    let clock = ManualClock::new();
    let (looping, log) = logging(&clock);
    assert!(!looping.stop());
    assert!(!looping.reset());
    let ended = looping.start(SECOND);
    assert!(failure(looping.start(SECOND)).check::<AlreadyRunning>());
    assert!(failure(looping.start_later(SECOND)).check::<AlreadyRunning>());
    assert!(looping.is_running() && !ended.is_fired());
    clock.advance(SECOND);
    log.check(["0ns", "1s"]);
}

/// #308
#[test]
fn stop_fires_with_the_loop() {
    let clock = ManualClock::new();
    let (looping, log) = logging(&clock);
    let ended = looping.start(SECOND);
    assert!(looping.stop());
    let again = value(ended);
    let _ended = again.start(SECOND);
    assert!(looping.is_running());
    log.check(["0ns", "0ns"]);
}

/// #309
#[test]
fn a_call_that_fails_ends_the_loop_with_its_failure() {
    let clock = ManualClock::new();
    let returns_err = LoopingCall::new(&clock, || Err::<(), Failure>(NoLuck.into()));
    check_fails_with_no_luck(returns_err.start(SECOND));
    let its_deferred_fails = LoopingCall::new(&clock, || fail::<(), Failure>(NoLuck));
    check_fails_with_no_luck(its_deferred_fails.start(SECOND));
    let panics = LoopingCall::new(&clock, || panic!("out of luck") as ());
    let ended = failure(panics.start(SECOND));
    assert!(matches!(
        ended.downcast_ref(),
        Some(Interrupted::Panicked { .. })
    ));
    for looping in [returns_err, its_deferred_fails, panics] {
        assert!(!looping.is_running());
    }
    assert!(clock.pending().is_empty());
}

/// #310
#[test]
fn the_loop_is_not_running_any_more_when_its_end_is_heard_of() {
    let clock = ManualClock::new();
    let (looping, _log) = logging(&clock);
    let ended = looping.start(SECOND);
    let ended = ended.map(|looping| looping.is_running());
    looping.stop();
    assert!(!value(ended));

    let failing = LoopingCall::new(&clock, || Err::<(), Failure>(NoLuck.into()));
    let handle = failing.clone();
    let ended = failing.start(SECOND).map(|_| true);
    let ended = ended.add_errback(move |_| Ok(handle.is_running()));
    assert!(!value(ended));
}

/// #311
#[test]
fn it_starts_again_after_a_stop_and_after_a_failure() {
    let clock = ManualClock::new();
    let log = Log::default();
    let (called, mut luck) = (log.adds_time(&clock), [true, true, false].into_iter());
    let looping = LoopingCall::new(&clock, move || {
        called();
        match luck.next() {
            Some(false) => Err(Failure::from(NoLuck)),
            _ => Ok(()),
        }
    });
    let again = looping
        .start(SECOND)
        .add_callback(|looping| looping.start(SECOND));
    looping.stop();
    clock.advance(SECOND);
    check_fails_with_no_luck(again);
    let _ended = looping.start_later(SECOND);
    clock.advance(SECOND);
    log.check(["0ns", "0ns", "1s", "2s"]);
}

/// #312
#[test]
fn the_next_call_waits_for_the_deferred_of_the_last() {
    let clock = ManualClock::new();
    let (looping, log, place) = waiting(&clock);
    let _ended = looping.start(SECOND);
    clock.advance(millis(2500));
    log.check(["0ns"]);
    place.take().callback(());
    log.check(["0ns"]);
    clock.advance(millis(500));
    log.check(["0ns", "3s"]);
}

/// #313
#[test]
fn stop_during_a_call_fires_when_its_deferred_has() {
    let clock = ManualClock::new();
    let (looping, log, place) = waiting(&clock);
    let ended = looping.start(SECOND);
    assert!(looping.stop());
    assert!(!looping.is_running() && !looping.stop() && !looping.reset());
    clock.advance(2 * SECOND);
    assert!(!ended.is_fired());
    assert!(failure(looping.start(SECOND)).check::<AlreadyRunning>());
    place.take().callback(());
    value(ended);
    clock.advance(2 * SECOND);
    log.check(["0ns"]);
}

/// #314
#[test]
fn stop_and_then_a_failure_in_one_call_is_the_failure() {
    let clock = ManualClock::new();
    let looping = LoopingCall::with_handle(&clock, |looping, _count| {
        assert!(looping.stop());
        Err::<(), Failure>(NoLuck.into())
    });
    check_fails_with_no_luck(looping.start(SECOND));
    assert!(!looping.is_running());
}

/// #315
#[test]
fn stop_before_the_first_call_takes_it_back_and_fires() {
    let clock = ManualClock::new();
    let (looping, log) = logging(&clock);
    let ended = looping.start_later(SECOND);
    looping.stop();
    value(ended);
    assert!(clock.pending().is_empty());
    clock.advance(2 * SECOND);
    log.check([]);
}

/// #316
#[test]
fn stop_from_another_callback_of_the_same_turn_prevents_the_call() {
    let reactor = virtual_time_reactor();
    let log = Log::default();
    let looping = LoopingCall::new(&reactor, log.adds("called"));
    let stops = looping.clone();
    reactor.call_later(SECOND, move || assert!(stops.stop()));
    let ended = looping.start_later(SECOND);
    reactor.run_until(ended).unwrap();
    reactor.call_later(SECOND, log.adds("a second later"));
    reactor.turn(Some(2 * SECOND)).unwrap();
    reactor.turn(Some(2 * SECOND)).unwrap();
    log.check(["a second later"]);
}

/// #317
#[test]
fn nothing_stays_scheduled_after_a_stop() {
    let clock = ManualClock::new();
    let (looping, _log) = logging(&clock);
    let _ended = looping.start(SECOND);
    clock.advance(2 * SECOND);
    assert_eq!(clock.pending().len(), 1);
    looping.stop();
    assert!(clock.pending().is_empty());
}

/// #318
#[test]
fn calls_stay_on_the_grid_of_the_start_however_long_they_take() {
    let clock = ManualClock::new();
    let log = Log::default();
    let (called, watch) = (log.adds_time(&clock), clock.clone());
    let looping = LoopingCall::new(&clock, move || {
        called();
        watch.advance(millis(300));
    });
    clock.advance(millis(100));
    let _ended = looping.start(SECOND);
    clock.advance(millis(3000));
    log.check(["100ms", "1.1s", "2.1s", "3.1s"]);
}

/// #319
#[test]
fn a_call_longer_than_the_interval_skips_to_the_next_slot_to_come() {
    let clock = ManualClock::new();
    let (looping, log) = slow_at_first(&clock, millis(2500));
    let _ended = looping.start(SECOND);
    clock.advance(2 * SECOND);
    log.check(["0ns 1", "3s 3", "4s 1"]);
}

/// #320
#[test]
fn a_slot_that_is_just_now_is_skipped() {
    let clock = ManualClock::new();
    let (looping, log) = slow_at_first(&clock, 2 * SECOND);
    let _ended = looping.start(SECOND);
    clock.advance(millis(999));
    log.check(["0ns 1"]);
    clock.advance(millis(1));
    log.check(["0ns 1", "3s 3"]);
}

/// #321
#[test]
fn after_a_long_sleep_there_is_one_call_and_then_the_grid() {
    let clock = LateClock::new();
    let (looping, log) = late(&clock);
    let _ended = looping.start(SECOND);
    clock.jump(millis(5300));
    log.check(["0ns 1", "5.3s 5"]);
    clock.jump(millis(700));
    log.check(["0ns 1", "5.3s 5", "6s 1"]);
}

/// #323
#[test]
fn the_count_is_one_as_long_as_no_slot_is_missed() {
    let clock = ManualClock::new();
    let (looping, log) = counting(&clock);
    let _ended = looping.start(SECOND);
    clock.advance(3 * SECOND);
    log.check(["0ns 1", "1s 1", "2s 1", "3s 1"]);
}

/// #324
#[test]
fn the_first_call_counts_one_whether_now_or_later() {
    let clock = ManualClock::new();
    let (now, log_now) = counting(&clock);
    let (later, log_later) = counting(&clock);
    let _ended = (now.start(SECOND), later.start_later(SECOND));
    clock.advance(SECOND);
    log_now.check(["0ns 1", "1s 1"]);
    log_later.check(["1s 1"]);
}

/// #325
#[test]
fn after_two_missed_slots_the_count_is_three() {
    let clock = ManualClock::new();
    let (looping, log) = slow_at_first(&clock, millis(2200));
    let _ended = looping.start(SECOND);
    clock.advance(millis(800));
    log.check(["0ns 1", "3s 3"]);
}

/// #326
#[test]
fn the_count_is_of_slots_and_not_of_time() {
    let clock = LateClock::new();
    let (looping, log) = late(&clock);
    let _ended = looping.start_later(SECOND);
    clock.jump(SECOND);
    clock.jump(millis(1750));
    clock.jump(millis(250));
    log.check(["1s 1", "2.75s 1", "3s 1"]);
}

/// #327
#[test]
fn counts_are_never_zero_and_their_sum_is_the_number_of_slots() {
    // Intervals that no decimal fraction hits, on a clock whose steps hit none of them.
    for interval in [SECOND / 3, SECOND / 7, Duration::from_nanos(314_159_265)] {
        let clock = LateClock::new();
        let sum = Rc::new(Cell::new(0));
        let total = Rc::clone(&sum);
        let looping = LoopingCall::with_count(&clock, move |count| {
            assert!(count > 0);
            total.set(total.get() + u128::from(count));
        });
        let _ended = looping.start_later(interval);
        for step in 1..=1000 {
            clock.jump(Duration::from_nanos(17_320_508 * (step % 13)));
        }
        let slots = clock.elapsed().as_nanos() / interval.as_nanos();
        // The last slot may be due with the next step.
        assert!((slots - 1..=slots).contains(&sum.get()), "{interval:?}");
        clock.jump(interval);
        assert_eq!(sum.get(), slots + 1, "{interval:?}");
    }
}

/// #328
#[test]
fn with_an_interval_of_zero_the_count_is_one() {
    let clock = LateClock::new();
    let (looping, log) = late(&clock);
    let _ended = looping.start(Duration::ZERO);
    clock.jump(SECOND);
    clock.jump(Duration::ZERO);
    log.check(["0ns 1", "1s 1", "1s 1"]);
}

/// #329
#[test]
fn slots_that_pass_while_a_deferred_is_waited_for_are_counted_as_missed() {
    let clock = ManualClock::new();
    let (log, place) = (Log::default(), Place::new());
    let (notes, left) = (log.clone(), place.clone());
    let looping = LoopingCall::with_count(&clock, move |count| {
        notes.add(count);
        left.deferred()
    });
    let _ended = looping.start(SECOND);
    clock.advance(millis(2500));
    place.take().callback(());
    clock.advance(millis(500));
    log.check(["1", "3"]);
}

/// #330
#[test]
fn a_new_interval_holds_from_the_next_scheduling_on() {
    let clock = ManualClock::new();
    let (looping, log) = logging(&clock);
    let _ended = looping.start(SECOND);
    looping.set_interval(2 * SECOND);
    assert_eq!(looping.interval(), 2 * SECOND);
    clock.advance(6 * SECOND);
    log.check(["0ns", "1s", "2s", "4s", "6s"]);
}

/// #331
#[test]
fn reset_puts_the_next_call_off_by_an_interval_and_moves_the_grid() {
    let clock = ManualClock::new();
    let (looping, log) = counting(&clock);
    let _ended = looping.start(SECOND);
    clock.advance(millis(1300));
    assert!(looping.reset());
    assert_eq!(clock.pending().len(), 1);
    clock.advance(millis(2000));
    log.check(["0ns 1", "1s 1", "2.3s 1", "3.3s 1"]);
}

/// #332
#[test]
fn reset_during_a_call_does_nothing() {
    let clock = ManualClock::new();
    let (log, place) = (Log::default(), Place::new());
    let (called, left, watch) = (log.adds_time(&clock), place.clone(), clock.clone());
    let looping = LoopingCall::with_handle(&clock, move |looping, _count| {
        called();
        watch.advance(millis(300));
        assert!(!looping.reset());
        left.deferred()
    });
    let _ended = looping.start(SECOND);
    assert!(!looping.reset());
    place.take().callback(());
    clock.advance(millis(700));
    log.check(["0ns", "1s"]);
}

/// #338
#[test]
fn a_jump_over_several_intervals_is_one_call_and_the_next_is_on_the_grid() {
    let clock = LateClock::new();
    let (looping, log) = late(&clock);
    let _ended = looping.start(SECOND);
    clock.jump(millis(3700));
    log.check(["0ns 1", "3.7s 3"]);
    clock.jump(millis(300));
    log.check(["0ns 1", "3.7s 3", "4s 1"]);
}

#[test]
fn cancelling_the_deferred_of_the_start_stops_the_loop() {
    let clock = ManualClock::new();
    let (looping, log) = logging(&clock);
    let ended = looping.start(SECOND);
    ended.cancel();
    check_cancelled(ended);
    assert!(!looping.is_running() && clock.pending().is_empty());
    let _ended = looping.start_later(SECOND);
    clock.advance(SECOND);
    log.check(["0ns", "1s"]);
}

#[test]
fn cancelling_while_a_call_is_waited_for_cancels_that_and_takes_its_answer() {
    let clock = ManualClock::new();
    let (looping, _log, place) = waiting(&clock);
    let ended = looping.start(SECOND);
    ended.cancel();
    check_cancelled(ended);
    assert!(!place.take().is_open());

    let kept = Place::new();
    let answers = LoopingCall::new(&clock, move || {
        let (trigger, deferred) = Deferred::<()>::new();
        kept.put(trigger);
        deferred.add_errback(|_cancelled| Err(Failure::from(NoLuck)))
    });
    let ended = answers.start(SECOND);
    ended.cancel();
    check_fails_with_no_luck(ended);
}

#[test]
fn cancelling_a_call_that_takes_its_time_to_stop_waits_for_its_end() {
    let clock = ManualClock::new();
    let place = Place::new();
    let left = place.clone();
    let looping = LoopingCall::new(&clock, move || {
        let (trigger, deferred) = Deferred::<()>::new();
        trigger.forward_cancel(|| ());
        left.put(trigger);
        deferred
    });
    let ended = looping.start(SECOND);
    ended.cancel();
    assert!(!ended.is_fired() && !looping.is_running());
    place.take().callback(());
    check_cancelled(ended);
    assert!(clock.pending().is_empty());
}

#[test]
fn cancelling_from_inside_the_call_ends_the_loop_when_it_returns() {
    let clock = ManualClock::new();
    let place = Place::<torsade_deferred::Canceller>::new();
    let (found, log) = (place.clone(), Log::default());
    let kept = Place::<Trigger<()>>::new();
    let left = kept.clone();
    let called = log.adds_time(&clock);
    let looping = LoopingCall::new(&clock, move || {
        called();
        found.take().cancel();
        left.deferred()
    });
    let ended = looping.start_later(SECOND);
    place.put(ended.canceller());
    clock.advance(SECOND);
    check_cancelled(ended);
    assert!(!looping.is_running() && !kept.take().is_open());
    log.check(["1s"]);
}

#[test]
fn burst_makes_missed_calls_up_one_a_turn() {
    let reactor = virtual_time_reactor();
    let (log, begin, clock) = (Log::default(), reactor.now(), reactor.clone());
    let notes = log.clone();
    let place = Place::new();
    let left = place.clone();
    let mut first = true;
    let looping = LoopingCall::with_count(&reactor, move |count| {
        notes.add(format!("{:?} {count}", clock.now() - begin));
        if std::mem::take(&mut first) {
            left.deferred()
        } else {
            succeed(())
        }
    });
    looping.set_missed_ticks(MissedTicks::Burst);
    let _ended = looping.start(SECOND);
    reactor.call_later(millis(2500), move || place.take().callback(()));
    for _ in 0..2 {
        reactor.turn(Some(SECOND * 3)).unwrap();
    }
    log.check(["0ns 1"]);
    reactor.turn(Some(SECOND)).unwrap();
    log.check(["0ns 1", "2.5s 1"]);
    reactor.turn(Some(SECOND)).unwrap();
    log.check(["0ns 1", "2.5s 1", "2.5s 1"]);
    reactor.turn(Some(SECOND)).unwrap();
    reactor.turn(Some(SECOND)).unwrap();
    log.check(["0ns 1", "2.5s 1", "2.5s 1", "3s 1"]);
}

#[test]
fn delay_goes_on_an_interval_after_the_late_call_and_still_counts() {
    let clock = ManualClock::new();
    let (looping, log) = slow_at_first(&clock, millis(2500));
    looping.set_missed_ticks(MissedTicks::Delay);
    let _ended = looping.start(SECOND);
    clock.advance(millis(2100));
    log.check(["0ns 1", "3.5s 3", "4.5s 1"]);
}

#[test]
fn delay_keeps_to_the_grid_as_long_as_nothing_is_missed() {
    let clock = ManualClock::new();
    let (looping, log) = slow_at_first(&clock, millis(900));
    looping.set_missed_ticks(MissedTicks::Delay);
    let _ended = looping.start(SECOND);
    clock.advance(millis(1100));
    log.check(["0ns 1", "1s 1", "2s 1"]);
}

#[test]
fn delay_begins_its_new_grid_once() {
    let clock = ManualClock::new();
    let log = Log::default();
    let (called, watch) = (log.adds_time(&clock), clock.clone());
    let mut takes = [2500, 300, 300, 300].into_iter();
    let looping = LoopingCall::new(&clock, move || {
        called();
        watch.advance(millis(takes.next().unwrap_or(0)));
    });
    looping.set_missed_ticks(MissedTicks::Delay);
    let _ended = looping.start(SECOND);
    clock.advance(millis(3500));
    log.check(["0ns", "3.5s", "4.5s", "5.5s"]);
}

#[test]
fn burst_has_nothing_to_make_up_for_an_interval_of_zero() {
    let clock = LateClock::new();
    let (looping, log) = late(&clock);
    looping.set_missed_ticks(MissedTicks::Burst);
    let _ended = looping.start(Duration::ZERO);
    clock.jump(5 * SECOND);
    looping.set_interval(SECOND);
    clock.jump(Duration::ZERO);
    clock.jump(Duration::ZERO);
    clock.jump(SECOND);
    log.check(["0ns 1", "5s 1", "5s 1", "6s 1"]);
}

#[test]
fn a_thousand_calls_add_up_to_no_error() {
    let clock = ManualClock::new();
    let (looping, log) = logging(&clock);
    let third = SECOND / 3;
    let _ended = looping.start(third);
    clock.advance(third * 1000);
    assert_eq!(log.len(), 1001);
    assert_eq!(clock.pending()[0].after, third);
}

#[test]
fn an_endless_interval_does_no_harm() {
    let clock = ManualClock::new();
    let (looping, log) = logging(&clock);
    for missed in [MissedTicks::Skip, MissedTicks::Burst, MissedTicks::Delay] {
        looping.set_missed_ticks(missed);
        let ended = looping.start(Duration::MAX);
        assert!(looping.reset());
        clock.advance(SECOND);
        looping.stop();
        value(ended);
    }
    log.check(["0ns", "1s", "2s"]);
}

#[test]
fn the_text_shows_the_interval_the_state_and_where_it_was_created() {
    let clock = ManualClock::new();
    let (looping, _log, place) = waiting(&clock);
    let shown = |state: &str| {
        let text = format!("{looping:?}");
        let begin = format!("{state}, created at ");
        assert!(
            text.contains(&begin) && text.contains("looping_call.rs:"),
            "{text}"
        );
    };
    shown("LoopingCall(every 0ns, not running");
    let _ended = looping.start(millis(1500));
    shown("LoopingCall(every 1.5s, waiting for the result of its call");
    place.take().callback(());
    shown("LoopingCall(every 1.5s, waiting for its time");
}

#[test]
fn its_call_in_the_clock_is_named_by_where_the_loop_was_made() {
    let clock = ManualClock::new();
    let (looping, line) = (LoopingCall::new(&clock, || ()), line!());
    let _ended = looping.start(SECOND);
    let pending = clock.pending();
    assert_eq!(pending[0].origin.line(), line);
    assert!(pending[0].origin.file().ends_with("looping_call.rs"));
}

#[test]
fn a_loop_that_fails_unheard_is_reported() {
    let (reported, _guard) = reports();
    let clock = ManualClock::new();
    let looping = LoopingCall::new(&clock, || Err::<(), Failure>(NoLuck.into()));
    drop(looping.start_later(SECOND));
    clock.advance(SECOND);
    reported.check(["no luck"]);
}

#[test]
fn a_loop_ends_with_its_reactor_and_does_not_keep_it() {
    let reactor = virtual_time_reactor();
    let held = Rc::new(());
    let kept = Rc::clone(&held);
    let looping = LoopingCall::new(&reactor, move || drop(Rc::clone(&kept)));
    let ended = looping.start(SECOND);
    drop::<Reactor>(reactor);
    assert!(!looping.is_running());
    assert!(matches!(
        failure(ended).downcast_ref(),
        Some(Interrupted::Abandoned { .. })
    ));
    // Started on a reactor that is gone, it makes its first call and ends.
    let ended = looping.start(SECOND);
    assert!(failure(ended).check::<Interrupted>());
    drop(looping);
    assert_eq!(Rc::strong_count(&held), 1);
}

#[test]
fn a_loop_without_a_handle_goes_on_until_its_clock_goes() {
    let clock = ManualClock::new();
    let (log, held) = (Log::default(), Rc::new(()));
    let (called, kept) = (log.adds("called"), Rc::clone(&held));
    let looping = LoopingCall::new(&clock, move || {
        called();
        drop(Rc::clone(&kept));
    });
    let ended = looping.start(SECOND);
    drop(looping);
    clock.advance(SECOND);
    log.check(["called", "called"]);
    drop(clock);
    assert!(failure(ended).check::<Interrupted>());
    assert_eq!(Rc::strong_count(&held), 1);
}

#[test]
fn its_call_may_do_anything_to_its_own_loop() {
    let clock = ManualClock::new();
    let log = Log::default();
    let notes = log.clone();
    let looping = LoopingCall::with_handle(&clock, move |looping, count| {
        notes.add(format!("call {count} running {}", looping.is_running()));
        assert!(failure(looping.start(SECOND)).check::<AlreadyRunning>());
        assert!(!looping.reset());
        looping.set_interval(2 * SECOND);
        looping.set_missed_ticks(MissedTicks::Burst);
        assert!(!format!("{looping:?}").is_empty());
        assert!(looping.stop());
        assert!(!looping.stop());
    });
    value(looping.start(SECOND));
    log.check(["call 1 running true"]);
}
