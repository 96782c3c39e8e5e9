//! A million of everything, on a stack of 64 KiB.

use std::cell::{Cell, RefCell};
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::time::Duration;

use torsade_deferred::{
    Deferred, DeferredEvent, DeferredLock, DeferredQueue, DeferredSemaphore, TaskGroup, Trigger,
    fail, gather_results, gather_results_or_cancel, race, succeed, unhandled,
};

use crate::support::{ManualClock, broken, on_a_small_stack, value};

const MANY: usize = 1_000_000;

#[test]
fn a_million_links_fire_on_a_small_stack() {
    on_a_small_stack(|| {
        let (trigger, mut deferred) = Deferred::<usize>::new();
        for _ in 0..MANY {
            deferred = deferred.map(|n| n + 1);
        }
        trigger.callback(0);
        assert_eq!(
            deferred
                .into_result()
                .expect("it has fired")
                .expect("with a value"),
            MANY
        );
    });
}

#[test]
fn a_million_links_are_cancelled_and_dropped_on_a_small_stack() {
    on_a_small_stack(|| {
        let (trigger, mut deferred) = Deferred::<usize>::new();
        for _ in 0..MANY {
            deferred = deferred.map(|n| n + 1);
        }
        deferred.cancel();
        assert!(deferred.into_result().expect("it was cancelled").is_err());
        drop(trigger);
        let (trigger, mut deferred) = Deferred::<usize>::new();
        for _ in 0..MANY {
            deferred = deferred.map(|n| n + 1);
        }
        let deferred = deferred.add_errback(|_| Ok(0));
        drop(trigger);
        drop(deferred);
    });
}

#[test]
fn a_million_nested_deferreds_fire_on_a_small_stack() {
    on_a_small_stack(|| {
        let mut triggers = Vec::new();
        let (last, mut deferred) = Deferred::<usize>::new();
        for _ in 0..MANY {
            let (trigger, outer) = Deferred::<()>::new();
            triggers.push(trigger);
            let inner = deferred;
            deferred = outer.add_callback(move |()| inner).map(|n| n + 1);
        }
        for trigger in triggers.into_iter().rev() {
            trigger.callback(());
        }
        last.callback(0);
        assert_eq!(
            deferred
                .into_result()
                .expect("it has fired")
                .expect("with a value"),
            MANY
        );
    });
}

#[test]
fn a_million_nested_deferreds_fired_from_the_inside_out() {
    on_a_small_stack(|| {
        let mut triggers = Vec::new();
        let (last, mut deferred) = Deferred::<usize>::new();
        for _ in 0..MANY {
            let (trigger, outer) = Deferred::<()>::new();
            triggers.push(trigger);
            let inner = deferred;
            deferred = outer.add_callback(move |()| inner).map(|n| n + 1);
        }
        last.callback(0);
        for trigger in triggers {
            trigger.callback(());
        }
        assert_eq!(
            deferred
                .into_result()
                .expect("it has fired")
                .expect("with a value"),
            MANY
        );
    });
}

#[test]
fn a_million_triggers_that_own_triggers_are_dropped_on_a_small_stack() {
    on_a_small_stack(|| {
        let _quiet = unhandled::set_hook(|_| ());
        let (mut trigger, first) = Deferred::<()>::new();
        drop(first);
        for _ in 0..MANY {
            let (outer, deferred) = Deferred::<()>::new();
            drop(deferred.add_callback(move |()| trigger.callback(())));
            trigger = outer;
        }
        drop(trigger);
    });
}

#[test]
fn a_million_chained_triggers_fire_on_a_small_stack() {
    on_a_small_stack(|| {
        let (first, mut deferred) = Deferred::<usize>::new();
        for _ in 0..MANY {
            let (trigger, next) = Deferred::<usize>::new();
            deferred.map(|n| n + 1).chain_into(trigger);
            deferred = next;
        }
        first.callback(0);
        assert_eq!(
            deferred
                .into_result()
                .expect("it has fired")
                .expect("with a value"),
            MANY
        );
    });
}

#[test]
fn a_million_links_that_change_the_type_fire_and_are_abandoned() {
    on_a_small_stack(|| {
        for is_fired in [true, false] {
            let (trigger, mut deferred) = Deferred::<u32>::new();
            for _ in 0..MANY / 2 {
                deferred = deferred.map(u64::from).map(|n| n as u32 + 1);
            }
            if is_fired {
                trigger.callback(0);
                assert_eq!(value(deferred), MANY as u32 / 2);
            } else {
                drop(trigger);
                assert!(deferred.into_result().expect("it was abandoned").is_err());
            }
        }
    });
}

#[test]
fn a_million_links_are_added_to_a_fired_deferred() {
    on_a_small_stack(|| {
        let mut deferred: Deferred<usize> = succeed(0);
        for _ in 0..MANY {
            deferred = deferred.map(|n| n + 1);
        }
        assert_eq!(value(deferred), MANY);
    });
}

#[test]
fn a_million_deferreds_each_returned_by_the_callback_before_it() {
    // The innermost is fired last, and every level was entered from the one around it.
    fn level(left: usize, innermost: Deferred<usize>) -> Deferred<usize> {
        succeed(()).add_callback(move |()| if left == 0 { innermost } else { succeed(left) })
    }
    on_a_small_stack(|| {
        let (trigger, deferred) = Deferred::<usize>::new();
        let (last, innermost) = Deferred::<usize>::new();
        let innermost = Rc::new(Cell::new(Some(innermost)));
        let mut chain = deferred;
        for left in (0..MANY).rev() {
            let innermost = Rc::clone(&innermost);
            chain = chain.add_callback(move |_| match innermost.take() {
                Some(pending) if left == 0 => level(0, pending),
                other => {
                    innermost.set(other);
                    succeed(left)
                }
            });
        }
        trigger.callback(0);
        assert!(!chain.is_fired());
        last.callback(7);
        assert_eq!(value(chain), 7);
    });
}

#[test]
fn a_million_levels_of_waiting_are_cancelled() {
    on_a_small_stack(|| {
        let (_last, mut deferred) = Deferred::<usize>::new();
        for _ in 0..MANY {
            let inner = deferred;
            deferred = succeed(()).add_callback(move |()| inner).map(|n| n + 1);
        }
        deferred.cancel();
        assert!(deferred.into_result().expect("it was cancelled").is_err());
    });
}

#[test]
fn a_million_pauses_are_entered_and_left() {
    on_a_small_stack(|| {
        let (trigger, mut deferred) = Deferred::<usize>::new();
        let mut pauses = Vec::new();
        for _ in 0..MANY / 2 {
            pauses.push(deferred.pause());
            deferred = deferred.map(|n| n + 1);
        }
        trigger.callback(0);
        // From the end: nothing happens before the first has gone.
        while let Some(paused) = pauses.pop() {
            drop(paused);
        }
        assert_eq!(value(deferred), MANY / 2);
    });
}

#[test]
fn a_million_waiters_take_turns_at_a_lock() {
    on_a_small_stack(|| {
        let lock = DeferredLock::new();
        let held = value(lock.acquire());
        let turns = Rc::new(Cell::new(0));
        for turn in 0..MANY {
            let turns = Rc::clone(&turns);
            drop(lock.run(move || {
                assert_eq!(turns.replace(turn + 1), turn);
            }));
        }
        drop(held);
        assert_eq!(turns.get(), MANY);
        assert!(!lock.is_locked());
    });
}

#[test]
fn a_million_waiters_who_drop_their_permit_at_once_take_turns_at_a_semaphore() {
    on_a_small_stack(|| {
        let semaphore = DeferredSemaphore::new(NonZeroUsize::new(3).expect("three"));
        let held = [(); 3].map(|()| value(semaphore.acquire()));
        let waiting: Vec<_> = (0..MANY).map(|_| semaphore.acquire().map(drop)).collect();
        drop(held);
        assert!(waiting.iter().all(Deferred::is_fired));
        assert_eq!(semaphore.free(), 3);
    });
}

#[test]
fn a_million_locks_hand_over_to_one_another() {
    // Whoever gets one lock drops the permit of the next.
    on_a_small_stack(|| {
        let mut permit = None;
        let mut waiting = Vec::new();
        for _ in 0..MANY {
            let lock = DeferredLock::new();
            let held = value(lock.acquire());
            waiting.push(lock.acquire().map(move |mine| drop((mine, permit))));
            permit = Some(held);
        }
        drop(permit);
        assert!(waiting.iter().all(Deferred::is_fired));
    });
}

#[test]
fn a_million_waiters_are_cancelled_or_dropped() {
    on_a_small_stack(|| {
        let lock = DeferredLock::new();
        let held = value(lock.acquire());
        let waiting: Vec<_> = (0..MANY).map(|_| lock.acquire()).collect();
        for (index, waiter) in waiting.into_iter().enumerate() {
            if index % 2 == 0 {
                waiter.cancel();
                assert!(waiter.into_result().expect("it was cancelled").is_err());
            }
        }
        drop(held);
        assert!(!lock.is_locked() && lock.waiting() == 0);
    });
}

#[test]
fn a_million_getters_and_a_million_waiters_for_an_event() {
    on_a_small_stack(|| {
        let queue = DeferredQueue::new();
        let getters: Vec<_> = (0..MANY).map(|_| queue.get().expect("no limit")).collect();
        for n in 0..MANY {
            queue.put(n).expect("no limit");
        }
        assert!(
            getters
                .into_iter()
                .enumerate()
                .all(|(n, getter)| value(getter) == n)
        );
        let event = DeferredEvent::new();
        let waiting: Vec<_> = (0..MANY).map(|_| event.wait()).collect();
        event.set();
        assert!(waiting.iter().all(Deferred::is_fired));
    });
}

#[test]
fn a_million_members_of_a_group_end_well_or_are_cancelled_together() {
    on_a_small_stack(|| {
        let group = TaskGroup::<usize>::new();
        let (trigger, shared) = Deferred::<usize>::new();
        let shared = shared.share();
        for _ in 0..MANY {
            let number = shared.wait();
            group.spawn(number);
        }
        let all = group.finish();
        trigger.callback(1);
        assert_eq!(value(all).len(), MANY);

        let group = TaskGroup::<usize>::new();
        let mut triggers = Vec::new();
        for _ in 0..MANY {
            let (trigger, member) = Deferred::<usize>::new();
            triggers.push(trigger);
            group.add(member);
        }
        group.add(fail(broken("one")));
        assert_eq!(group.left(), 0);
        assert!(triggers.iter().all(|trigger| !trigger.is_open()));
        assert!(
            group
                .finish()
                .into_result()
                .expect("all have ended")
                .is_err()
        );
    });
}

#[test]
fn a_million_inputs_are_gathered_raced_and_cancelled() {
    on_a_small_stack(|| {
        let (triggers, inputs): (Vec<_>, Vec<_>) =
            (0..MANY).map(|_| Deferred::<usize>::new()).unzip();
        let all = gather_results(inputs);
        for (n, trigger) in triggers.into_iter().enumerate() {
            trigger.callback(n);
        }
        assert_eq!(value(all).len(), MANY);
        let (mut triggers, inputs): (Vec<_>, Vec<_>) =
            (0..MANY).map(|_| Deferred::<usize>::new()).unzip();
        let winner = race(inputs);
        triggers.swap_remove(MANY / 2).callback(1);
        assert_eq!(value(winner), (MANY / 2, 1));
        assert!(triggers.iter().all(|trigger| !trigger.is_open()));
        let (triggers, inputs): (Vec<_>, Vec<_>) =
            (0..MANY).map(|_| Deferred::<usize>::new()).unzip();
        let all = gather_results_or_cancel(inputs);
        all.cancel();
        assert!(all.into_result().expect("it was cancelled").is_err());
        assert!(triggers.iter().all(|trigger| !trigger.is_open()));
    });
}

#[test]
fn a_million_gatherings_of_gatherings_fire() {
    on_a_small_stack(|| {
        let (trigger, mut deferred) = Deferred::<usize>::new();
        for _ in 0..MANY {
            deferred = gather_results([deferred]).map(|values| values[0] + 1);
        }
        trigger.callback(0);
        assert_eq!(value(deferred), MANY);
    });
}

fn tasks_in_a_row() -> (Trigger<usize>, Deferred<usize>) {
    let (trigger, mut deferred) = Deferred::<usize>::new();
    for _ in 0..MANY {
        let awaited = deferred;
        deferred = Deferred::from_future(async move { Ok(awaited.await? + 1) });
    }
    (trigger, deferred)
}

#[test]
fn a_million_tasks_that_await_one_another_are_fired_cancelled_and_abandoned() {
    on_a_small_stack(|| {
        let (trigger, deferred) = tasks_in_a_row();
        trigger.callback(0);
        assert_eq!(value(deferred), MANY);
        let (_trigger, deferred) = tasks_in_a_row();
        deferred.cancel();
        assert!(deferred.into_result().expect("it was cancelled").is_err());
        let (trigger, deferred) = tasks_in_a_row();
        drop(trigger);
        assert!(deferred.into_result().expect("it was abandoned").is_err());
        let _quiet = unhandled::set_hook(|_| ());
        let (trigger, deferred) = tasks_in_a_row();
        drop(deferred);
        drop(trigger);
    });
}

#[test]
fn a_million_awaits_in_one_body() {
    on_a_small_stack(|| {
        let door = Rc::new(RefCell::new(None::<Trigger<usize>>));
        let inside = Rc::clone(&door);
        let sum = Deferred::<usize>::from_future(async move {
            let mut sum = 0;
            for _ in 0..MANY {
                let (trigger, number) = Deferred::<usize>::new();
                inside.replace(Some(trigger));
                sum += number.await?;
            }
            Ok(sum)
        });
        while let Some(trigger) = door.take() {
            trigger.callback(1);
        }
        assert_eq!(value(sum), MANY);
    });
}

#[test]
fn a_hundred_thousand_hard_timeouts_around_one_another_pass_a_result_on_on_a_small_stack() {
    on_a_small_stack(|| {
        let clock = ManualClock::new();
        let (trigger, mut deferred) = Deferred::<usize>::new();
        for _ in 0..100_000 {
            deferred = deferred.add_hard_timeout(Duration::from_secs(1), &clock);
        }
        trigger.callback(7);
        assert_eq!(value(deferred), 7);
        assert_eq!(clock.pending(), 0);
    });
}
