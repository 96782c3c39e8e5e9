//! `Cooperator`: section 2.14 of the catalogue, and what is ours.

use std::cell::{Cell, RefCell};
use std::iter;
use std::rc::Rc;
use std::time::{Duration, Instant};

use torsade_deferred::{Clock, Deferred, Failure, Interrupted, Scheduled, Trigger, succeed};
use torsade_reactor::task::{CooperativeTask, Cooperator, TaskError};
use torsade_reactor::testing::{ManualClock, virtual_time_reactor};

use crate::support::{
    Log, NoLuck, Place, SECOND, check_cancelled, failure, millis, reports, value,
};

/// A clock, and a cooperator on it whose slices are one step.
fn step_by_step() -> (ManualClock, Cooperator, Log) {
    let clock = ManualClock::new();
    let cooperator = Cooperator::new(&clock);
    cooperator.set_slice(Duration::ZERO);
    (clock, cooperator, Log::default())
}

/// Work of some steps, each of which is logged as "name1", "name2", ...
fn steps(name: &'static str, count: usize, log: &Log) -> impl Iterator<Item = ()> + use<> {
    let log = log.clone();
    (1..=count).map(move |step| log.add(format!("{name}{step}")))
}

/// A step that is through, then one that waits for the trigger in the place.
fn waits_in_second_step(
    place: &Place<Trigger<()>>,
    log: &Log,
) -> impl Iterator<Item = Deferred<()>> + use<> {
    let (place, log) = (place.clone(), log.clone());
    (1..=3).map(move |step| {
        log.add(format!("step {step}"));
        if step == 2 {
            place.deferred()
        } else {
            succeed(())
        }
    })
}

#[track_caller]
fn check_ended(task: &CooperativeTask, error: TaskError) {
    assert_eq!(task.pause(), Err(error));
    assert_eq!(task.resume(), Err(error));
    assert_eq!(task.stop(), Err(error));
}

#[track_caller]
fn check_fails_with(task: &CooperativeTask, error: TaskError) {
    assert_eq!(failure(task.when_done()).downcast_ref(), Some(&error));
}

/// #356
#[test]
fn the_steps_of_several_tasks_are_interleaved() {
    let reactor = virtual_time_reactor();
    let (cooperator, log) = (Cooperator::new(&reactor), Log::default());
    let first = cooperator.cooperate(steps("a", 3, &log));
    let second = cooperator.cooperate(steps("b", 2, &log));
    log.check([]);
    reactor.turn(Some(Duration::ZERO)).unwrap();
    log.check(["a1", "b1", "a2", "b2", "a3"]);
    value(first.when_done());
    value(second.when_done());
}

/// #357
#[test]
fn a_slice_is_as_many_steps_as_fit_into_ten_milliseconds() {
    let (clock, log) = (ManualClock::new(), Log::default());
    let cooperator = Cooperator::new(&clock);
    let (watch, called) = (clock.clone(), log.adds("step"));
    let work = iter::repeat_with(move || {
        called();
        watch.advance(millis(3));
    });
    let _task = cooperator.cooperate(work);
    clock.turn();
    assert_eq!(log.len(), 4);
    clock.turn();
    assert_eq!(log.len(), 8);
    cooperator.set_slice(millis(6));
    clock.turn();
    assert_eq!(log.len(), 10);
}

/// #358
#[test]
fn a_round_is_a_step_of_each_and_a_new_task_joins_at_its_end() {
    let (clock, cooperator, log) = step_by_step();
    let (joins, names) = (cooperator.clone(), log.clone());
    let brings_one = steps("a", 3, &log).inspect(move |()| {
        if names.len() == 1 {
            joins.cooperate(steps("c", 2, &names));
        }
    });
    let _tasks = (
        cooperator.cooperate(brings_one),
        cooperator.cooperate(steps("b", 2, &log)),
    );
    clock.advance(SECOND);
    log.check(["a1", "b1", "c1", "a2", "b2", "c2", "a3"]);
}

/// #359
#[test]
fn a_slice_is_one_step_at_least() {
    let (clock, cooperator, log) = step_by_step();
    let watch = clock.clone();
    let slow = steps("a", 2, &log).inspect(move |()| watch.advance(SECOND));
    let _task = cooperator.cooperate(slow);
    clock.turn();
    log.check(["a1"]);
    clock.turn();
    log.check(["a1", "a2"]);
}

/// #360
#[test]
fn a_tick_is_scheduled_only_while_there_is_work() {
    let (clock, cooperator, log) = step_by_step();
    assert!(clock.pending().is_empty());
    let _task = cooperator.cooperate(steps("a", 2, &log));
    assert_eq!(clock.pending().len(), 1);
    assert_eq!(clock.pending()[0].after, Duration::ZERO);
    clock.turn();
    assert_eq!(clock.pending().len(), 1);
    clock.advance(Duration::ZERO);
    assert!(clock.pending().is_empty());
}

/// #361
#[test]
fn the_tick_is_cancelled_when_the_last_task_goes() {
    let (clock, cooperator, log) = step_by_step();
    let (first, second) = (
        cooperator.cooperate(steps("a", 2, &log)),
        cooperator.cooperate(steps("b", 2, &log)),
    );
    first.stop().unwrap();
    assert_eq!(clock.pending().len(), 1);
    second.pause().unwrap();
    assert!(clock.pending().is_empty());
    second.resume().unwrap();
    assert_eq!(clock.pending().len(), 1);
    second.stop().unwrap();
    assert!(clock.pending().is_empty());
    log.check([]);
}

/// #362
#[test]
fn a_step_that_gives_a_deferred_suspends_its_own_task() {
    let (clock, cooperator, log) = step_by_step();
    let place = Place::new();
    let waits = cooperator.cooperate(waits_in_second_step(&place, &log));
    let _other = cooperator.cooperate(steps("b", 4, &log));
    clock.advance(SECOND);
    log.check(["step 1", "b1", "step 2", "b2", "b3", "b4"]);
    place.take().callback(());
    log.check(["step 1", "b1", "step 2", "b2", "b3", "b4"]);
    clock.advance(SECOND);
    value(waits.when_done());
    assert_eq!(log.len(), 7);
}

/// #363
#[test]
fn a_step_that_fails_ends_its_task_with_that_failure() {
    let (clock, cooperator, log) = step_by_step();
    let err = cooperator.coiterate([Ok(()), Err(Failure::from(NoLuck)), Ok(())]);
    let place = Place::new();
    let deferred = cooperator.coiterate(waits_in_second_step(&place, &log));
    let panic = cooperator.coiterate(iter::repeat_with(|| panic!("out of luck") as ()));
    clock.advance(SECOND);
    assert!(failure(err).check::<NoLuck>());
    assert!(failure(panic).to_string().contains("out of luck"));
    assert!(!deferred.is_fired());
    place.take().errback(NoLuck);
    assert!(failure(deferred).check::<NoLuck>());
    assert!(clock.pending().is_empty());
}

/// #365
#[test]
fn when_done_is_a_new_deferred_each_time_and_fires_at_once_after_the_end() {
    let (clock, cooperator, log) = step_by_step();
    let task = cooperator.cooperate(steps("a", 2, &log));
    let (first, second) = (task.when_done(), task.when_done());
    clock.advance(SECOND);
    value(first);
    value(second);
    value(task.when_done());
    value(task.when_done());
}

/// #366
#[test]
fn a_task_that_is_done_can_be_neither_paused_nor_resumed_nor_stopped() {
    let (clock, cooperator, log) = step_by_step();
    let task = cooperator.cooperate(steps("a", 2, &log));
    clock.advance(SECOND);
    check_ended(&task, TaskError::Done);
}

/// #367
#[test]
fn a_task_that_failed_says_so_and_keeps_its_failure() {
    let (clock, cooperator, _log) = step_by_step();
    let task = cooperator.cooperate([Err::<(), Failure>(NoLuck.into())]);
    let asked_before = task.when_done();
    clock.advance(SECOND);
    check_ended(&task, TaskError::Failed);
    assert!(failure(asked_before).check::<NoLuck>());
    assert!(failure(task.when_done()).check::<NoLuck>());
}

/// #368
#[test]
fn a_task_that_was_stopped_says_so_every_time() {
    let (clock, cooperator, log) = step_by_step();
    let task = cooperator.cooperate(steps("a", 2, &log));
    let asked_before = task.when_done();
    clock.turn();
    task.stop().unwrap();
    assert_eq!(
        failure(asked_before).downcast_ref(),
        Some(&TaskError::Stopped)
    );
    check_fails_with(&task, TaskError::Stopped);
    check_ended(&task, TaskError::Stopped);
    clock.advance(SECOND);
    log.check(["a1"]);
}

#[test]
fn stop_cancels_what_the_task_waits_for_and_swallows_its_answer() {
    let (reported, _guard) = reports();
    let (clock, cooperator, log) = step_by_step();
    let place = Place::new();
    let task = cooperator.cooperate(waits_in_second_step(&place, &log));
    clock.advance(SECOND);
    let trigger = place.take();
    assert!(trigger.is_open());
    task.stop().unwrap();
    assert!(!trigger.is_open());
    trigger.errback(NoLuck);
    check_fails_with(&task, TaskError::Stopped);
    reported.check([]);
}

/// #370
#[test]
fn pauses_nest() {
    let (clock, cooperator, log) = step_by_step();
    let task = cooperator.cooperate(steps("a", 1, &log));
    task.pause().unwrap();
    task.pause().unwrap();
    clock.advance(SECOND);
    task.resume().unwrap();
    clock.advance(SECOND);
    log.check([]);
    task.resume().unwrap();
    clock.advance(SECOND);
    log.check(["a1"]);
}

/// #371
#[test]
fn resume_without_pause_is_an_error() {
    let (_clock, cooperator, log) = step_by_step();
    let task = cooperator.cooperate(steps("a", 1, &log));
    assert_eq!(task.resume(), Err(TaskError::NotPaused));
    task.pause().unwrap();
    task.resume().unwrap();
    assert_eq!(task.resume(), Err(TaskError::NotPaused));
}

/// #372
#[test]
fn resume_makes_no_step_itself() {
    let (clock, cooperator, log) = step_by_step();
    let task = cooperator.cooperate(steps("a", 1, &log));
    task.pause().unwrap();
    clock.advance(SECOND);
    task.resume().unwrap();
    log.check([]);
    clock.turn();
    log.check(["a1"]);
}

/// #373
#[test]
fn a_paused_task_that_waits_needs_the_resume_and_the_firing_in_either_order() {
    for resume_first in [true, false] {
        let (clock, cooperator, log) = step_by_step();
        let place = Place::new();
        let task = cooperator.cooperate(waits_in_second_step(&place, &log));
        clock.advance(SECOND);
        task.pause().unwrap();
        if resume_first {
            task.resume().unwrap();
        } else {
            place.take().callback(());
        }
        clock.advance(SECOND);
        log.check(["step 1", "step 2"]);
        if resume_first {
            place.take().callback(());
        } else {
            task.resume().unwrap();
        }
        clock.advance(SECOND);
        log.check(["step 1", "step 2", "step 3"]);
    }
}

/// #374
#[test]
fn a_stopped_task_that_was_paused_may_be_resumed() {
    let (clock, cooperator, log) = step_by_step();
    let task = cooperator.cooperate(steps("a", 1, &log));
    task.pause().unwrap();
    task.stop().unwrap();
    assert_eq!(task.resume(), Ok(()));
    assert_eq!(task.resume(), Err(TaskError::Stopped));
    clock.advance(SECOND);
    log.check([]);
}

/// #375
#[test]
fn stopping_the_cooperator_ends_its_tasks_and_every_new_one() {
    let (clock, cooperator, log) = step_by_step();
    let task = cooperator.cooperate(steps("a", 2, &log));
    let ended = task.when_done();
    clock.turn();
    cooperator.stop();
    assert_eq!(
        failure(ended).downcast_ref(),
        Some(&TaskError::CooperatorStopped)
    );
    check_ended(&task, TaskError::CooperatorStopped);
    check_fails_with(
        &cooperator.cooperate(steps("b", 2, &log)),
        TaskError::CooperatorStopped,
    );
    assert!(clock.pending().is_empty());
    log.check(["a1"]);
}

#[test]
fn stop_ends_every_task_whatever_it_is_doing() {
    let (clock, cooperator, log) = step_by_step();
    let place = Place::new();
    let tasks: Vec<_> = (0..4)
        .map(|_| cooperator.cooperate(steps("a", 9, &log)))
        .chain([cooperator.cooperate(waits_in_second_step(&place, &log))])
        .collect();
    tasks[1].pause().unwrap();
    for _ in 0..10 {
        clock.turn();
    }
    cooperator.stop();
    for task in &tasks {
        check_fails_with(task, TaskError::CooperatorStopped);
    }
    assert!(!place.take().is_open());
}

/// #377
#[test]
fn a_stopped_cooperator_starts_again() {
    let (clock, cooperator, log) = step_by_step();
    cooperator.stop();
    cooperator.start();
    let task = cooperator.cooperate(steps("a", 1, &log));
    clock.advance(SECOND);
    value(task.when_done());
    log.check(["a1"]);
}

/// #378
#[test]
fn an_unstarted_cooperator_keeps_its_tasks_until_the_start() {
    let (clock, log) = (ManualClock::new(), Log::default());
    let cooperator = Cooperator::unstarted(&clock);
    let task = cooperator.cooperate(steps("a", 1, &log));
    clock.advance(SECOND);
    log.check([]);
    cooperator.start();
    log.check([]);
    clock.advance(SECOND);
    log.check(["a1"]);
    value(task.when_done());
}

/// #379
#[test]
fn it_is_running_between_start_and_stop() {
    let clock = ManualClock::new();
    let cooperator = Cooperator::unstarted(&clock);
    assert!(!cooperator.is_running());
    cooperator.start();
    assert!(cooperator.is_running());
    cooperator.stop();
    assert!(!cooperator.is_running());
    assert!(Cooperator::new(&clock).is_running());
}

/// #380
#[test]
fn joining_and_stopping_in_a_callback_of_the_end_are_safe() {
    let (clock, cooperator, log) = step_by_step();
    let (joins, names) = (cooperator.clone(), log.clone());
    let first = cooperator.coiterate(steps("a", 1, &log));
    let then = first.add_callback(move |()| joins.coiterate(steps("b", 1, &names)));
    clock.advance(SECOND);
    value(then);
    log.check(["a1", "b1"]);

    let stops = cooperator.clone();
    let third = cooperator.coiterate(steps("c", 1, &log));
    let other = cooperator.cooperate(steps("d", 5, &log));
    let then = third.add_callback(move |()| stops.stop());
    clock.advance(SECOND);
    value(then);
    check_fails_with(&other, TaskError::CooperatorStopped);
    log.check(["a1", "b1", "c1", "d1"]);
}

/// #382
#[test]
fn nothing_preempts_a_step() {
    let reactor = virtual_time_reactor();
    let (cooperator, log) = (Cooperator::new(&reactor), Log::default());
    let (notes, timer) = (log.clone(), reactor.clone());
    let slow = (1..=2).map(move |step| {
        timer.call_later(Duration::ZERO, notes.adds("the loop"));
        // However long this takes, the loop waits.
        notes.add(format!("step {step}"));
    });
    cooperator.set_slice(Duration::ZERO);
    let _task = cooperator.cooperate(slow);
    for _ in 0..4 {
        reactor.turn(Some(Duration::ZERO)).unwrap();
    }
    log.check(["step 1", "the loop", "step 2", "the loop"]);
}

#[test]
fn cancelling_a_coiteration_stops_its_work() {
    let (clock, cooperator, log) = step_by_step();
    let place = Place::new();
    let works = cooperator.coiterate(steps("a", 9, &log));
    let waits = cooperator.coiterate(waits_in_second_step(&place, &log));
    for _ in 0..4 {
        clock.turn();
    }
    works.cancel();
    waits.cancel();
    check_cancelled(works);
    check_cancelled(waits);
    assert!(clock.pending().is_empty() && !place.take().is_open());
    log.check(["a1", "step 1", "a2", "step 2"]);
}

#[test]
fn the_failure_of_a_coiteration_is_its_consumers_own() {
    let (reported, _guard) = reports();
    let (clock, cooperator, log) = step_by_step();
    let fails = cooperator.coiterate([Err::<(), Failure>(NoLuck.into())]);
    let fails = fails.add_errback(|failure| failure.trap::<NoLuck>().map(drop));
    clock.advance(SECOND);
    value(fails);
    let stopped = cooperator.coiterate(steps("a", 1, &log));
    drop(cooperator.coiterate(steps("b", 1, &log)));
    cooperator.stop();
    assert!(failure(stopped).trap::<TaskError>().is_ok());
    reported.check([]);
}

#[test]
fn cancelling_a_when_done_sends_that_consumer_away() {
    let (clock, cooperator, log) = step_by_step();
    let task = cooperator.cooperate(steps("a", 2, &log));
    let (goes, stays) = (task.when_done(), task.when_done());
    goes.cancel();
    check_cancelled(goes);
    clock.advance(SECOND);
    value(stays);
    log.check(["a1", "a2"]);
}

#[test]
fn a_predicate_may_end_the_slice() {
    let (clock, log) = (ManualClock::new(), Log::default());
    let cooperator = Cooperator::new(&clock);
    let begun = log.adds("slice");
    cooperator.set_slice_end(move || {
        begun();
        let mut left = 2;
        move || {
            left -= 1;
            left == 0
        }
    });
    let _task = cooperator.cooperate(steps("a", 3, &log));
    clock.turn();
    log.check(["slice", "a1", "a2"]);
    clock.turn();
    log.check(["slice", "a1", "a2", "slice", "a3"]);
}

#[test]
fn a_predicate_that_panics_has_ended_its_slice() {
    let (reported, _guard) = reports();
    let (clock, log) = (ManualClock::new(), Log::default());
    let cooperator = Cooperator::new(&clock);
    cooperator.set_slice_end(|| || panic!("no idea"));
    let _task = cooperator.cooperate(steps("a", 3, &log));
    clock.turn();
    log.check(["a1"]);
    cooperator.set_slice_end(|| -> fn() -> bool { panic!("no idea") });
    clock.turn();
    log.check(["a1", "a2"]);
    assert_eq!(reported.len(), 2);
}

#[test]
fn endless_work_leaves_the_loop_its_turn_also_where_no_time_passes() {
    let reactor = virtual_time_reactor();
    let (cooperator, count) = (Cooperator::new(&reactor), Rc::new(Cell::new(0)));
    let counter = Rc::clone(&count);
    let _task = cooperator.cooperate(iter::repeat_with(move || counter.set(counter.get() + 1)));
    reactor.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(count.get(), 10_000);
    reactor.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(count.get(), 20_000);
}

#[test]
fn a_step_may_do_anything_to_its_own_task() {
    let (clock, cooperator, log) = step_by_step();
    let own = Rc::new(RefCell::new(None::<CooperativeTask>));
    let (found, notes) = (Rc::clone(&own), log.clone());
    let work = (1..=5).map(move |step| {
        let task = found.borrow().clone().unwrap();
        notes.add(step);
        match step {
            1 => task.pause().unwrap(),
            2 => {
                task.pause().unwrap();
                task.resume().unwrap();
            }
            _ => task.stop().unwrap(),
        }
        assert!(!format!("{task:?}").is_empty());
    });
    let task = cooperator.cooperate(work);
    own.replace(Some(task.clone()));
    clock.advance(SECOND);
    log.check(["1"]);
    task.resume().unwrap();
    clock.advance(SECOND);
    log.check(["1", "2", "3"]);
    check_fails_with(&task, TaskError::Stopped);
    assert!(clock.pending().is_empty());
}

#[test]
fn what_a_step_returns_after_stopping_its_own_task_is_cancelled() {
    let (reported, _guard) = reports();
    let (clock, cooperator, _log) = step_by_step();
    let own = Rc::new(RefCell::new(None::<CooperativeTask>));
    let (place, found) = (Place::<Trigger<()>>::new(), Rc::clone(&own));
    let left = place.clone();
    let task = cooperator.cooperate(iter::repeat_with(move || {
        found.take().unwrap().stop().unwrap();
        left.deferred()
    }));
    own.replace(Some(task.clone()));
    clock.advance(SECOND);
    check_fails_with(&task, TaskError::Stopped);
    assert!(!place.take().is_open());
    reported.check([]);
}

#[test]
fn a_stopped_cooperator_started_inside_a_step_goes_on_with_new_tasks() {
    let (clock, cooperator, log) = step_by_step();
    let (handle, names) = (cooperator.clone(), log.clone());
    let work = steps("a", 3, &log).inspect(move |()| {
        handle.stop();
        handle.start();
        handle.cooperate(steps("b", 1, &names));
    });
    let task = cooperator.cooperate(work);
    clock.advance(SECOND);
    check_fails_with(&task, TaskError::CooperatorStopped);
    log.check(["a1", "b1"]);
}

#[test]
fn a_failure_that_nobody_asked_for_is_reported_and_a_stop_is_not() {
    let (reported, _guard) = reports();
    let (clock, cooperator, log) = step_by_step();
    drop(cooperator.cooperate([Err::<(), Failure>(NoLuck.into())]));
    let stopped = cooperator.cooperate(steps("a", 3, &log));
    clock.advance(Duration::ZERO);
    drop(stopped);
    let stopped = cooperator.cooperate(steps("b", 3, &log));
    stopped.stop().unwrap();
    drop(stopped);
    reported.check(["no luck"]);
}

/// Work that cannot even be dropped in peace.
struct Bomb;

impl Iterator for Bomb {
    type Item = ();

    fn next(&mut self) -> Option<()> {
        None
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a bomb");
    }
}

#[test]
fn what_becomes_of_the_end_of_a_task_may_panic_when_dropped_and_the_others_go_on() {
    let (reports, _guard) = reports();
    let (clock, cooperator, log) = step_by_step();
    let first = cooperator.cooperate(steps("a", 1, &log));
    let _second = cooperator.cooperate(steps("b", 2, &log));
    drop(first.when_done().map(|_| Bomb));
    for _ in 0..8 {
        clock.advance(SECOND);
    }
    log.check(["a1", "b1", "b2"]);
    assert_eq!(reports.len(), 1);
}

#[test]
fn work_whose_drop_panics_is_reported_and_the_others_go_on() {
    let (reported, _guard) = reports();
    let (clock, cooperator, log) = step_by_step();
    let (bomb, stopped) = (cooperator.coiterate(Bomb), cooperator.cooperate(Bomb));
    let _other = cooperator.cooperate(steps("a", 2, &log));
    stopped.stop().unwrap();
    clock.advance(SECOND);
    value(bomb);
    check_fails_with(&stopped, TaskError::Stopped);
    log.check(["a1", "a2"]);
    assert_eq!(reported.len(), 2);
}

#[test]
fn tasks_end_with_their_reactor_and_do_not_keep_it() {
    let (reactor, held) = (virtual_time_reactor(), Rc::new(()));
    let cooperator = Cooperator::new(&reactor);
    let kept = Rc::clone(&held);
    let task = cooperator.cooperate(iter::repeat_with(move || drop(Rc::clone(&kept))));
    reactor.turn(Some(Duration::ZERO)).unwrap();
    drop(reactor);
    check_fails_with(&task, TaskError::CooperatorStopped);
    assert_eq!(Rc::strong_count(&held), 1);
    cooperator.start();
    check_fails_with(&cooperator.cooperate([()]), TaskError::CooperatorStopped);
}

#[test]
fn tasks_without_a_handle_go_on_and_paused_ones_end() {
    let (clock, cooperator, log) = step_by_step();
    drop(cooperator.cooperate(steps("a", 2, &log)));
    let held = Rc::new(());
    let kept = Rc::clone(&held);
    let paused = cooperator.cooperate(iter::repeat_with(move || drop(Rc::clone(&kept))));
    paused.pause().unwrap();
    let ended = paused.when_done();
    clock.turn();
    drop(cooperator);
    clock.advance(SECOND);
    log.check(["a1", "a2"]);
    drop(paused);
    assert!(failure(ended).check::<Interrupted>());
    assert_eq!(Rc::strong_count(&held), 1);
}

#[test]
fn tasks_of_a_cooperator_that_nobody_can_start_end_with_it() {
    let clock = ManualClock::new();
    let cooperator = Cooperator::unstarted(&clock);
    let task = cooperator.cooperate([(), ()]);
    drop(cooperator);
    check_fails_with(&task, TaskError::CooperatorStopped);
}

#[test]
fn a_hundred_thousand_tasks_are_stopped_one_by_one() {
    let (clock, cooperator, _log) = step_by_step();
    let tasks: Vec<_> = (0..100_000).map(|_| cooperator.cooperate([()])).collect();
    for task in tasks.iter().rev() {
        task.stop().unwrap();
    }
    assert!(clock.pending().is_empty());
}

/// A clock that meddles with the cooperator on it whenever it is asked for the time.
#[derive(Clone)]
struct Meddler {
    clock: ManualClock,
    cooperator: Rc<RefCell<Option<Cooperator>>>,
}

impl Clock for Meddler {
    fn now(&self) -> Instant {
        let cooperator = self.cooperator.borrow().clone();
        if let Some(cooperator) = cooperator {
            cooperator.set_slice(Duration::ZERO);
            cooperator.set_slice(SECOND);
        }
        self.clock.now()
    }

    fn schedule(&self, delay: Duration, call: Box<dyn FnOnce()>) -> Scheduled {
        self.clock.schedule(delay, call)
    }
}

#[test]
fn a_clock_may_call_the_cooperator_that_asks_it_for_the_time() {
    let (log, clock) = (
        Log::default(),
        Meddler {
            clock: ManualClock::new(),
            cooperator: Rc::default(),
        },
    );
    let cooperator = Cooperator::new(&clock);
    clock.cooperator.replace(Some(cooperator.clone()));
    let done = cooperator.coiterate(steps("a", 2, &log));
    clock.clock.advance(Duration::ZERO);
    log.check(["a1", "a2"]);
    assert!(done.is_fired());
    clock.cooperator.take();
}
