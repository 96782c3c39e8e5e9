//! Locks, semaphores, queues, events, groups.

use std::cell::Cell;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use torsade_deferred::{
    Deferred, DeferredEvent, DeferredLock, DeferredQueue, DeferredSemaphore, Failure, FailureGroup,
    Permit, TaskGroup, fail, succeed,
};

use crate::support::{
    Broken, Log, broken, check_cancelled, counted, failure, is_cancelled, reports, value,
};

fn semaphore(limit: usize) -> DeferredSemaphore {
    DeferredSemaphore::new(NonZeroUsize::new(limit).expect("not zero"))
}

/// #217
#[test]
fn acquiring_an_open_lock_gives_a_permit_at_once() {
    let lock = DeferredLock::new();
    let permit = value(lock.acquire());
    assert!(lock.is_locked());
    drop(permit);
    assert!(!lock.is_locked());
}

/// #218
#[test]
fn acquiring_a_held_lock_waits_in_line() {
    let lock = DeferredLock::new();
    let first = value(lock.acquire());
    let (second, third) = (lock.acquire(), lock.acquire());
    assert_eq!(format!("{lock:?}"), "DeferredLock(locked, 2 waiting)");
    drop(first);
    assert!(second.is_fired() && !third.is_fired());
    drop(value(second));
    drop(value(third));
    assert_eq!(format!("{lock:?}"), "DeferredLock(open, 0 waiting)");
}

/// #219
#[test]
fn a_released_lock_goes_to_the_next_in_line_and_to_no_newcomer() {
    let lock = DeferredLock::new();
    let log = Log::new();
    let first = value(lock.acquire());
    let (notes, newcomer_lock) = (log.clone(), lock.clone());
    let newcomer = Rc::new(Cell::new(None));
    let slot = Rc::clone(&newcomer);
    let second = lock.acquire().map(move |permit| {
        assert!(newcomer_lock.is_locked());
        notes.note("second");
        slot.set(Some(newcomer_lock.acquire()));
        permit
    });
    drop(first);
    log.check(&["second"]);
    let newcomer = newcomer.take().expect("set above");
    assert!(!newcomer.is_fired());
    drop(value(second));
    drop(value(newcomer));
}

/// #220
#[test]
fn a_permit_dropped_with_nobody_waiting_opens_the_lock() {
    let lock = DeferredLock::new();
    drop(value(lock.acquire()));
    assert!(!lock.is_locked() && lock.waiting() == 0);
}

/// #222
#[test]
fn run_holds_the_lock_until_what_the_function_returned_has_fired() {
    let lock = DeferredLock::new();
    let (trigger, slow) = Deferred::<u32>::new();
    let result = lock.run(move || slow);
    assert!(lock.is_locked());
    trigger.callback(5);
    assert!(!lock.is_locked());
    assert_eq!(value(result), 5);
    assert_eq!(value(lock.run(|| Ok(1))), 1);
    assert_eq!(
        value(lock.run(|| Deferred::<u32>::from_future(async { Ok(2) }))),
        2
    );
}

/// #223
#[test]
fn run_opens_the_lock_however_the_function_fails() {
    let lock = DeferredLock::new();
    assert!(
        failure(lock.run(|| -> Result<u32, Failure> { Err(broken("returned")) })).check::<Broken>()
    );
    assert!(!lock.is_locked());
    assert!(failure(lock.run(|| fail::<u32, Failure>(broken("deferred")))).check::<Broken>());
    assert!(!lock.is_locked());
    let panicked = lock.run(|| -> Result<u32, Failure> { panic!("oh") });
    assert_eq!(failure(panicked).to_string(), "a callback panicked: oh");
    assert!(!lock.is_locked());
}

/// #225
#[test]
fn the_next_runs_when_the_one_before_has_ended() {
    let lock = DeferredLock::new();
    let log = Log::new();
    let [a, b] = [(); 2].map(|()| log.clone());
    let (trigger, slow) = Deferred::<()>::new();
    let first = lock.run(move || {
        a.note("first");
        slow
    });
    let second = lock.run(move || b.note("second"));
    log.check(&["first"]);
    trigger.callback(());
    log.check(&["first", "second"]);
    value(first);
    value(second);
}

/// #226
#[test]
fn cancelling_a_waiting_acquire_leaves_the_line() {
    let lock = DeferredLock::new();
    let held = value(lock.acquire());
    let waiting = lock.acquire();
    waiting.cancel();
    assert_eq!(lock.waiting(), 0);
    check_cancelled(waiting);
    drop(held);
}

/// #227
#[test]
fn the_lock_is_never_given_to_one_who_left() {
    let lock = DeferredLock::new();
    let held = value(lock.acquire());
    let (leaving, staying) = (lock.acquire(), lock.acquire());
    leaving.cancel();
    drop(held);
    assert!(staying.is_fired());
    check_cancelled(leaving);
    drop(value(staying));
    assert!(!lock.is_locked());
}

/// #228
#[test]
fn cancelling_an_acquire_that_has_the_lock_is_nothing() {
    let lock = DeferredLock::new();
    let acquired = lock.acquire();
    acquired.cancel();
    assert!(lock.is_locked());
    drop(value(acquired));
}

/// #229
#[test]
fn cancelling_a_run_that_waits_never_calls_its_function() {
    let lock = DeferredLock::new();
    let held = value(lock.acquire());
    let log = Log::new();
    let notes = log.clone();
    let run = lock.run(move || notes.note("called"));
    run.cancel();
    drop(held);
    log.check(&[]);
    check_cancelled(run);
    assert!(!lock.is_locked());
}

/// #230
#[test]
fn cancelling_a_run_in_progress_cancels_what_it_waits_for_and_opens_the_lock() {
    let lock = DeferredLock::new();
    let (_trigger, slow, stopped) = counted();
    let (cleanup_trigger, cleanup) = Deferred::<u32>::new();
    let run = lock.run(move || slow.add_errback(move |_| cleanup));
    run.cancel();
    assert_eq!(stopped.get(), 1);
    assert!(lock.is_locked());
    cleanup_trigger.callback(1);
    assert!(!lock.is_locked());
    assert_eq!(value(run), 1);
}

/// #231
#[test]
fn leaving_the_scope_of_a_permit_opens_the_lock_and_swallows_no_error() {
    let lock = DeferredLock::new();
    let own = lock.clone();
    let task = Deferred::<u32>::from_future(async move {
        let _permit = own.acquire().await?;
        Err(broken("inside"))
    });
    assert!(failure(task).check::<Broken>());
    assert!(!lock.is_locked());
}

/// #233
#[test]
fn a_semaphore_lets_as_many_in_as_it_has_tokens() {
    let semaphore = semaphore(2);
    let (first, second, third) = (
        semaphore.acquire(),
        semaphore.acquire(),
        semaphore.acquire(),
    );
    assert!(first.is_fired() && second.is_fired() && !third.is_fired());
    drop(value(second));
    assert!(third.is_fired());
    drop((value(first), value(third)));
    assert_eq!(semaphore.free(), 2);
}

/// #235
#[test]
fn a_semaphore_says_how_many_tokens_are_free() {
    let semaphore = semaphore(3);
    let permit = value(semaphore.acquire());
    assert_eq!(
        (semaphore.free(), semaphore.limit(), semaphore.waiting()),
        (2, 3, 0)
    );
    assert_eq!(
        format!("{semaphore:?}"),
        "DeferredSemaphore(2 of 3 free, 0 waiting)"
    );
    drop(permit);
    assert_eq!(semaphore.free(), 3);
}

/// #237
#[test]
fn a_semaphore_runs_and_cancels_like_a_lock() {
    let semaphore = semaphore(1);
    let (trigger, slow) = Deferred::<u32>::new();
    let running = semaphore.run(move || slow);
    let cancelled = semaphore.run(|| Ok(0));
    let waiting = semaphore.run(|| Ok(2));
    cancelled.cancel();
    check_cancelled(cancelled);
    trigger.callback(1);
    assert_eq!((value(running), value(waiting)), (1, 2));
}

/// #238
#[test]
fn a_released_token_goes_straight_to_the_first_in_line() {
    let semaphore = semaphore(1);
    let held = value(semaphore.acquire());
    let (first, second) = (semaphore.acquire(), semaphore.acquire());
    drop(held);
    assert_eq!(
        (first.is_fired(), second.is_fired(), semaphore.free()),
        (true, false, 0)
    );
    drop(value(first));
    drop(value(second));
}

/// #239
#[test]
fn cancelling_a_waiting_acquire_costs_no_token() {
    let semaphore = semaphore(1);
    let held = value(semaphore.acquire());
    let waiting = semaphore.acquire();
    waiting.cancel();
    check_cancelled(waiting);
    drop(held);
    assert_eq!(semaphore.free(), 1);
}

#[test]
fn a_waiter_that_was_dropped_takes_nothing_with_it() {
    let lock = DeferredLock::new();
    let held = value(lock.acquire());
    drop(lock.acquire());
    let patient = lock.acquire();
    drop(held);
    drop(value(patient));
    let queue = DeferredQueue::new();
    drop(queue.get().expect("no limit"));
    queue.put(1).expect("no limit");
    assert_eq!(value(queue.get().expect("no limit")), 1);
}

/// #240
#[test]
fn getting_from_a_queue_with_values_gives_the_oldest_at_once() {
    let queue = DeferredQueue::new();
    queue.put(1).expect("no limit");
    queue.put(2).expect("no limit");
    assert_eq!(value(queue.get().expect("no limit")), 1);
    assert_eq!(format!("{queue:?}"), "DeferredQueue(1 stored, 0 waiting)");
}

/// #241
#[test]
fn a_value_put_goes_straight_to_whoever_waits_longest() {
    let queue = DeferredQueue::new();
    let (first, second) = (
        queue.get().expect("no limit"),
        queue.get().expect("no limit"),
    );
    queue.put(1).expect("no limit");
    assert!(first.is_fired() && !second.is_fired() && queue.is_empty());
    queue.put(2).expect("no limit");
    assert_eq!((value(first), value(second)), (1, 2));
}

/// #242
#[test]
fn stored_values_count_towards_the_size_and_waiting_getters_do_not() {
    let queue = DeferredQueue::with_limits(Some(1), None);
    let waiting = [queue.get(), queue.get()].map(|get| get.expect("no backlog limit"));
    for n in 0..3 {
        queue.put(n).expect("two go to getters, one is stored");
    }
    assert!(queue.put(3).is_err());
    assert_eq!(waiting.map(value), [0, 1]);
}

/// #243
#[test]
fn putting_too_much_gives_the_value_back_and_stores_nothing() {
    let queue = DeferredQueue::with_limits(Some(1), None);
    queue.put("a").expect("there is room for one");
    let overflow = queue.put("b").unwrap_err();
    assert_eq!((overflow.value, overflow.size, queue.len()), ("b", 1, 1));
}

/// #244
#[test]
fn waiting_beyond_the_backlog_is_refused() {
    let queue = DeferredQueue::<u32>::with_limits(None, Some(1));
    let waiting = queue.get().expect("one may wait");
    assert_eq!(
        queue.get().unwrap_err().to_string(),
        "too many wait at the queue: at most 1 may"
    );
    queue.put(1).expect("no limit");
    assert_eq!(value(waiting), 1);
}

/// #245
#[test]
fn a_queue_without_limits_has_none() {
    let queue = DeferredQueue::new();
    for n in 0..1000 {
        queue.put(n).expect("no limit");
    }
    assert_eq!(queue.len(), 1000);
    let queue = DeferredQueue::<u32>::new();
    let waiting: Vec<_> = (0..1000).map(|_| queue.get().expect("no limit")).collect();
    assert_eq!((queue.waiting(), waiting.len()), (1000, 1000));
}

/// #246
#[test]
fn limits_of_nothing_allow_only_what_need_not_wait() {
    let queue = DeferredQueue::with_limits(Some(0), None);
    assert!(queue.put(1).is_err());
    let waiting = queue.get().expect("no backlog limit");
    queue.put(2).expect("one waits");
    assert_eq!(value(waiting), 2);
    let queue = DeferredQueue::with_limits(None, Some(0));
    assert!(queue.get().is_err());
    queue.put(3).expect("no size limit");
    assert_eq!(value(queue.get().expect("one is stored")), 3);
}

/// #247
#[test]
fn cancelling_a_waiting_get_leaves_the_line_and_a_later_value_is_stored() {
    let queue = DeferredQueue::new();
    let waiting = queue.get().expect("no limit");
    waiting.cancel();
    check_cancelled(waiting);
    queue.put(1).expect("no limit");
    assert_eq!((queue.len(), queue.waiting()), (1, 0));
}

/// #248
#[test]
fn cancelling_a_get_that_has_its_value_is_nothing() {
    let queue = DeferredQueue::new();
    queue.put(1).expect("no limit");
    let got = queue.get().expect("no limit");
    got.cancel();
    assert_eq!(value(got), 1);
}

#[test]
fn an_event_lets_all_go_on_who_wait_and_may_be_cleared() {
    let event = DeferredEvent::new();
    let (first, leaving) = (event.wait(), event.wait());
    leaving.cancel();
    check_cancelled(leaving);
    assert_eq!(format!("{event:?}"), "DeferredEvent(not set, 1 waiting)");
    event.set();
    value(first);
    value(event.wait());
    event.clear();
    assert!(!event.is_set() && !event.wait().is_fired());
}

#[test]
fn a_group_gives_the_values_of_its_members_in_the_order_of_adding() {
    let group = TaskGroup::<u32>::new();
    let (trigger, slow) = Deferred::<u32>::new();
    group.add(slow);
    group.add(succeed(2));
    group.spawn(async { Ok(3) });
    assert_eq!(format!("{group:?}"), "TaskGroup(1 left)");
    let all = group.finish();
    assert!(!all.is_fired());
    trigger.callback(1);
    assert_eq!(value(all), [1, 2, 3]);
    assert!(value(TaskGroup::<u32>::new().finish()).is_empty());
}

#[test]
fn the_first_failure_in_a_group_cancels_the_others_and_all_are_waited_for() {
    let (log, _guard) = reports();
    let group = TaskGroup::<u32>::new();
    let (_trigger, sibling, stopped) = counted();
    let (cleanup_trigger, cleanup) = Deferred::<u32>::new();
    group.add(sibling.add_errback(move |failure| cleanup.add_callback(|_| Err(failure))));
    group.add(fail(broken("member")));
    assert_eq!(stopped.get(), 1);
    // Who comes after a failure is cancelled at once.
    let (_late_trigger, late, late_stopped) = counted();
    group.add(late);
    assert_eq!(late_stopped.get(), 1);
    let all = group.finish();
    assert!(!all.is_fired());
    cleanup_trigger.callback(0);
    let failures = failure(all)
        .trap::<FailureGroup<Failure>>()
        .expect("a group")
        .into_failures();
    assert_eq!(failures.len(), 1);
    assert_eq!(
        (failures[0].0, failures[0].1.to_string().as_str()),
        (1, "broken: member")
    );
    log.check(&[]);
}

#[test]
fn cancelling_what_a_group_finishes_with_cancels_its_members() {
    let group = TaskGroup::<u32>::new();
    let (_trigger, member, stopped) = counted();
    group.add(member);
    let all = group.finish();
    all.cancel();
    assert_eq!(stopped.get(), 1);
    assert!(is_cancelled(&failure(all)));
}

#[test]
fn a_group_dropped_unfinished_cancels_its_members_and_reports_a_failure_of_before() {
    let (log, _guard) = reports();
    let group = TaskGroup::<u32>::new();
    let (_trigger, member, stopped) = counted();
    group.add(member);
    drop(group);
    assert_eq!(stopped.get(), 1);
    log.check(&[]);
    let group = TaskGroup::<u32>::new();
    group.add(fail(broken("early")));
    drop(group);
    log.check(&["operation 0 failed: broken: early"]);
}

#[test]
fn a_permit_is_a_plain_value_that_can_be_kept_anywhere() {
    struct Connection {
        _slot: Permit,
    }
    let semaphore = semaphore(1);
    let connection = value(
        semaphore
            .acquire()
            .map(|permit| Connection { _slot: permit }),
    );
    assert_eq!(semaphore.free(), 0);
    drop(connection);
    assert_eq!(semaphore.free(), 1);
}

#[test]
fn a_lock_goes_to_the_next_in_line_although_what_became_of_the_one_before_panics_when_dropped() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("the bomb");
        }
    }
    let lock = DeferredLock::new();
    let first = value(lock.acquire());
    drop(lock.acquire().map(|_permit| Bomb));
    let third = lock.acquire();
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(first)));
    assert!(dropped.is_err());
    let third = value(third);
    assert!(lock.is_locked());
    let fourth = lock.acquire();
    drop(third);
    drop(value(fourth));
    assert!(!lock.is_locked());
}

#[test]
fn who_was_dropped_does_not_count_as_waiting() {
    let queue = DeferredQueue::<u32>::with_limits(None, Some(1));
    drop(queue.get().expect("nobody waits"));
    assert_eq!(queue.waiting(), 0);
    let get = queue.get().expect("nobody waits");
    assert!(queue.get().is_err());
    assert_eq!(queue.waiting(), 1);
    queue.put(1).expect("there is no limit");
    assert_eq!(value(get), 1);
}
