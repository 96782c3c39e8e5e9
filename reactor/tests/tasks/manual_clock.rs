//! `ManualClock`: section 2.13 of the catalogue, and what is ours.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use torsade_deferred::{Clock, Deferred, Interrupted};
use torsade_reactor::task::LoopingCall;
use torsade_reactor::testing::{ManualCall, ManualClock, virtual_time_reactor};

use crate::support::{Log, Place, SECOND, failure, millis, time};

/// #339
#[test]
fn it_starts_at_zero_and_advances_by_what_it_is_told() {
    let clock = ManualClock::new();
    let start = clock.now();
    assert_eq!(clock.elapsed(), Duration::ZERO);
    clock.advance(millis(1500));
    clock.advance(millis(500));
    assert_eq!(clock.elapsed(), 2 * SECOND);
    assert_eq!(clock.now() - start, 2 * SECOND);
}

/// #340
#[test]
fn advance_makes_every_call_that_falls_due_in_the_order_of_time() {
    let (clock, log) = (ManualClock::new(), Log::default());
    for (delay, line) in [(3, "three"), (1, "one"), (4, "four"), (2, "two")] {
        clock.call_later(delay * SECOND, log.adds(line));
    }
    clock.advance(millis(999));
    log.check([]);
    clock.advance(millis(2001));
    log.check(["one", "two", "three"]);
}

/// #341
#[test]
fn calls_due_at_the_same_time_are_made_in_the_order_of_scheduling() {
    let (clock, log) = (ManualClock::new(), Log::default());
    for line in ["a", "b", "c", "d", "e", "f"] {
        clock.call_later(SECOND, log.adds(line));
    }
    clock.advance(SECOND);
    log.check(["a", "b", "c", "d", "e", "f"]);
}

#[test]
fn each_call_sees_its_own_due_time() {
    let (clock, log) = (ManualClock::new(), Log::default());
    for delay in [1, 2, 5] {
        clock.call_later(delay * SECOND, log.adds_time(&clock));
    }
    clock.advance(10 * SECOND);
    log.check(["1s", "2s", "5s"]);
    assert_eq!(clock.elapsed(), 10 * SECOND);
}

/// #343
#[test]
fn what_a_call_schedules_on_the_way_is_made_on_the_way() {
    let (clock, log) = (ManualClock::new(), Log::default());
    let (handle, notes) = (clock.clone(), log.clone());
    clock.call_later(SECOND, move || {
        notes.add(format!("first {}", time(&handle)));
        let (watch, seen) = (handle.clone(), notes.clone());
        handle.call_later(Duration::ZERO, move || {
            seen.add(format!("now {}", time(&watch)));
        });
        handle.call_later(SECOND, notes.adds_time(&handle));
    });
    clock.call_later(SECOND, log.adds("of the same time"));
    clock.advance(3 * SECOND);
    log.check(["first 1s", "of the same time", "now 1s", "2s"]);
}

fn reschedule(clock: &ManualClock, count: &Rc<Cell<usize>>) {
    let (handle, counter) = (clock.clone(), Rc::clone(count));
    clock.call_later(Duration::ZERO, move || {
        counter.set(counter.get() + 1);
        reschedule(&handle, &counter);
    });
}

#[test]
fn a_loop_without_delay_is_bounded_and_named() {
    let (clock, count) = (ManualClock::new(), Rc::default());
    reschedule(&clock, &count);
    let stuck = catch_unwind(AssertUnwindSafe(|| clock.advance(SECOND)));
    let message = stuck.expect_err("it would never end");
    let message = message.downcast_ref::<String>().expect("it is text");
    let named = format!("scheduled at {}", file!());
    assert!(message.contains(&named), "{message}");
    assert_eq!(count.get(), 1_000);
    assert_eq!(clock.elapsed(), Duration::ZERO);
}

#[test]
fn a_thousand_calls_of_one_moment_are_no_loop() {
    let (clock, count) = (ManualClock::new(), Rc::new(Cell::new(0)));
    for _ in 0..5_000 {
        let counter = Rc::clone(&count);
        clock.call_later(SECOND, move || counter.set(counter.get() + 1));
    }
    clock.advance(SECOND);
    assert_eq!(count.get(), 5_000);
}

#[test]
fn a_turn_makes_what_is_due_and_not_what_that_schedules() {
    let (clock, count) = (ManualClock::new(), Rc::default());
    reschedule(&clock, &count);
    reschedule(&clock, &count);
    let waits = clock.call_later(SECOND, || unreachable!("the time stands still"));
    for turn in 1..=3 {
        assert_eq!(clock.turn(), 2);
        assert_eq!(count.get(), 2 * turn);
    }
    assert!(waits.is_active());
}

/// #345
#[test]
fn a_panic_in_a_call_comes_out_and_the_rest_stays_scheduled() {
    let (clock, log) = (ManualClock::new(), Log::default());
    clock.call_later(SECOND, || panic!("the first call"));
    clock.call_later(SECOND, log.adds("the second call"));
    clock.call_later(2 * SECOND, log.adds("the third call"));
    assert!(catch_unwind(AssertUnwindSafe(|| clock.advance(5 * SECOND))).is_err());
    log.check([]);
    assert_eq!(clock.elapsed(), SECOND);
    clock.advance(SECOND);
    log.check(["the second call", "the third call"]);
}

/// #346
#[test]
fn pump_advances_by_each_of_several() {
    let (clock, log) = (ManualClock::new(), Log::default());
    for delay in [1, 2, 3] {
        clock.call_later(delay * SECOND, log.adds_time(&clock));
    }
    clock.pump([millis(500), millis(600), millis(1000)]);
    log.check(["1s", "2s"]);
    assert_eq!(clock.elapsed(), millis(2100));
}

/// #347
#[test]
fn a_scheduled_call_can_be_cancelled_delayed_reset_and_asked() {
    let (clock, log) = (ManualClock::new(), Log::default());
    let start = clock.now();
    let delayed = clock.call_later(SECOND, log.adds("delayed"));
    let reset = clock.call_later(5 * SECOND, log.adds("reset"));
    let cancelled = clock.call_later(SECOND, log.adds("cancelled"));
    assert!(delayed.is_active() && delayed.deadline() == Some(start + SECOND));
    assert!(delayed.delay(2 * SECOND) && delayed.deadline() == Some(start + 3 * SECOND));
    assert!(reset.reset(2 * SECOND) && reset.deadline() == Some(start + 2 * SECOND));
    assert!(cancelled.cancel() && !cancelled.is_active());
    assert_eq!(format!("{reset:?}"), "ManualCall(in 2s)");
    clock.advance(5 * SECOND);
    log.check(["reset", "delayed"]);
    assert!(delayed.deadline().is_none() && !delayed.cancel());
    assert!(!delayed.reset(SECOND) && !delayed.delay(SECOND));
    assert_eq!(format!("{reset:?}"), "ManualCall(made or cancelled)");
}

/// #348
#[test]
fn a_cancelled_call_is_not_made_and_frees_what_it_holds() {
    let (clock, held) = (ManualClock::new(), Rc::new(()));
    let kept = Rc::clone(&held);
    let call = clock.call_later(SECOND, move || drop(kept));
    call.cancel();
    assert_eq!(Rc::strong_count(&held), 1);
    clock.advance(2 * SECOND);
    assert!(!call.cancel());
}

type Victim = Rc<RefCell<Option<ManualCall>>>;

/// #349
#[test]
fn moving_a_call_from_inside_another_sorts_it_anew() {
    let (clock, log) = (ManualClock::new(), Log::default());
    let (first, second) = (Victim::default(), Victim::default());
    let (to_reset, to_delay) = (Rc::clone(&first), Rc::clone(&second));
    clock.call_later(SECOND, move || {
        assert!(to_reset.take().unwrap().reset(3 * SECOND));
        assert!(to_delay.take().unwrap().delay(SECOND));
    });
    first.replace(Some(clock.call_later(2 * SECOND, log.adds_time(&clock))));
    second.replace(Some(clock.call_later(2 * SECOND, log.adds_time(&clock))));
    clock.advance(5 * SECOND);
    log.check(["3s", "4s"]);
}

/// #350
#[test]
fn a_call_that_is_reset_to_sooner_is_made_on_the_way() {
    let (clock, log) = (ManualClock::new(), Log::default());
    let victim = Victim::default();
    let to_reset = Rc::clone(&victim);
    clock.call_later(SECOND, move || {
        assert!(to_reset.take().unwrap().reset(Duration::ZERO));
    });
    victim.replace(Some(clock.call_later(9 * SECOND, log.adds_time(&clock))));
    clock.advance(SECOND);
    log.check(["1s"]);
}

/// #351
#[test]
fn pending_lists_what_is_to_be_made_and_where_it_was_scheduled() {
    let clock = ManualClock::new();
    clock.call_later(2 * SECOND, || ());
    clock.call_later(SECOND, || ());
    let line = line!() - 1;
    let pending = clock.pending();
    assert_eq!(pending.len(), 2);
    assert_eq!((pending[0].after, pending[1].after), (SECOND, 2 * SECOND));
    assert_eq!(pending[0].deadline - clock.now(), SECOND);
    assert_eq!(pending[0].origin.line(), line);
    let shown = format!("{clock:?}");
    assert!(
        shown.starts_with("ManualClock(at 0ns, [in 1s from "),
        "{shown}"
    );
    clock.advance(2 * SECOND);
    assert!(clock.pending().is_empty());
}

/// #353
#[test]
fn inside_itself_a_call_counts_as_made() {
    let (clock, place) = (ManualClock::new(), Place::<ManualCall>::new());
    let own = place.clone();
    let call = clock.call_later(SECOND, move || {
        let own = own.take();
        assert!(!own.is_active() && !own.cancel());
        assert!(!own.reset(SECOND) && !own.delay(SECOND));
    });
    place.put(call);
    clock.advance(3 * SECOND);
    assert!(clock.pending().is_empty());
}

/// A program that takes a clock: it has a second for an answer that never comes.
fn give_up_after_a_second(clock: &impl Clock) -> Deferred<()> {
    let (trigger, deferred) = Deferred::new();
    trigger.on_cancel(|| ());
    clock.schedule(5 * SECOND, Box::new(move || drop(trigger)));
    deferred.add_timeout(SECOND, clock)
}

/// #354
#[test]
fn code_that_takes_a_clock_works_with_it_as_with_a_reactor() {
    let (clock, reactor) = (ManualClock::new(), virtual_time_reactor());
    let by_hand = give_up_after_a_second(&clock);
    let in_a_loop = give_up_after_a_second(&reactor);
    clock.advance(SECOND);
    reactor.turn(Some(SECOND)).unwrap();
    reactor.turn(Some(Duration::ZERO)).unwrap();
    for result in [by_hand, in_a_loop] {
        assert_eq!(
            failure(result).downcast_ref(),
            Some(&Interrupted::TimedOut(SECOND))
        );
    }
}

#[test]
fn an_advance_inside_a_call_is_part_of_the_way() {
    let (clock, log) = (ManualClock::new(), Log::default());
    let (handle, notes) = (clock.clone(), log.clone());
    clock.call_later(SECOND, move || {
        handle.advance(3 * SECOND);
        notes.add(format!("back at {}", time(&handle)));
    });
    clock.call_later(2 * SECOND, log.adds_time(&clock));
    clock.advance(2 * SECOND);
    log.check(["2s", "back at 4s"]);
    assert_eq!(clock.elapsed(), 4 * SECOND);
}

#[test]
fn an_endless_delay_does_no_harm() {
    let clock = ManualClock::new();
    let never = clock.call_later(Duration::MAX, || unreachable!("not in thirty years"));
    assert!(never.reset(Duration::MAX) && never.delay(Duration::MAX));
    clock.advance(SECOND);
    assert!(never.is_active());
}

#[test]
fn a_clock_that_goes_drops_what_was_scheduled() {
    let (clock, held) = (ManualClock::new(), Rc::new(()));
    let kept = Rc::clone(&held);
    let call = clock.call_later(SECOND, move || drop(kept));
    let looping = LoopingCall::new(&clock, || ());
    let ended = looping.start(SECOND);
    drop(clock);
    assert_eq!(Rc::strong_count(&held), 1);
    assert!(!call.is_active() && !call.cancel() && !call.reset(SECOND));
    assert!(failure(ended).check::<Interrupted>());
}
