//! Returning a Deferred from a callback.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use torsade_deferred::{Deferred, DeferredQueue, Failure, fail, succeed};

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

/// A list of callbacks begins with single ones and goes on in groups: what one does is to be
/// the same wherever in the list it stands.
#[test]
fn each_place_in_a_long_list_may_wait_panic_fail_and_add() {
    const LINKS: usize = 40;
    #[derive(Clone, Copy, Debug)]
    enum Doing {
        Waits,
        Panics,
        Fails,
        Adds,
    }
    for doing in [Doing::Waits, Doing::Panics, Doing::Fails, Doing::Adds] {
        for place in 0..LINKS {
            let captured = Rc::new(());
            let (inner_trigger, inner) = Deferred::<Vec<usize>>::new();
            let (trigger, mut deferred) = Deferred::<Vec<usize>>::new();
            let whole = Rc::new(RefCell::new(None));
            let mut inner = Some(inner);
            for index in 0..LINKS {
                let (held, whole) = (Rc::clone(&captured), Rc::clone(&whole));
                let inner = if index == place { inner.take() } else { None };
                deferred = deferred.add_both(move |result| {
                    let _held = held;
                    let mut seen = result.unwrap_or_default();
                    seen.push(index);
                    let Some(inner) = inner else {
                        return succeed(seen);
                    };
                    match doing {
                        Doing::Waits => inner.map(move |_| seen),
                        Doing::Panics => panic!("at {place}"),
                        Doing::Fails => fail(broken("here")),
                        Doing::Adds => {
                            let rest: Option<Deferred<Vec<usize>>> = whole.take();
                            whole.replace(rest.map(|rest| {
                                (0..LINKS).fold(rest, |rest, more| {
                                    rest.map(move |mut seen| {
                                        seen.push(LINKS + more);
                                        seen
                                    })
                                })
                            }));
                            succeed(seen)
                        }
                    }
                });
            }
            whole.replace(Some(
                deferred
                    .add_both(Ok::<_, Failure>)
                    .map(|seen| seen.unwrap_or_default()),
            ));
            trigger.callback(Vec::new());
            if matches!(doing, Doing::Waits) {
                assert_eq!(Rc::strong_count(&captured), LINKS - place);
                inner_trigger.callback(Vec::new());
            } else {
                drop(inner_trigger);
            }
            assert_eq!(Rc::strong_count(&captured), 1);
            let seen = value(whole.take().expect("it was put there"));
            let expected: Vec<usize> = match doing {
                Doing::Waits => (0..LINKS).collect(),
                Doing::Panics | Doing::Fails => (place + 1..LINKS).collect(),
                Doing::Adds => (0..2 * LINKS).collect(),
            };
            assert_eq!(seen, expected, "{doing:?} at {place}");
        }
    }
}

#[test]
fn callbacks_with_and_without_captures_keep_their_order_in_a_long_list() {
    for first in 0..24 {
        for second in 0..24 {
            let captured = Rc::new(());
            let (trigger, mut deferred) = Deferred::<u32>::new();
            for links in [first, second, first] {
                for _ in 0..links {
                    deferred = deferred.map(|n| n.wrapping_mul(3));
                }
                let held = Rc::clone(&captured);
                deferred = deferred.map(move |n| n + Rc::strong_count(&held) as u32);
            }
            trigger.callback(1);
            assert_eq!(Rc::strong_count(&captured), 1);
            let mut expected = 1_u32;
            for (links, held) in [(first, 4), (second, 3), (first, 2)] {
                for _ in 0..links {
                    expected = expected.wrapping_mul(3);
                }
                expected += held;
            }
            assert_eq!(value(deferred), expected);
        }
    }
}

/// What a callback without captures finds in its input.
#[derive(Default)]
struct Plan {
    seen: usize,
    waits_at: Option<(usize, Deferred<()>)>,
    panics_at: Option<usize>,
}

impl Plan {
    fn step(mut self) -> Deferred<Self> {
        let place = self.seen;
        self.seen += 1;
        assert_ne!(self.panics_at, Some(place), "as planned");
        match self.waits_at.take() {
            Some((at, inner)) if at == place => inner.map(|()| self),
            other => {
                self.waits_at = other;
                succeed(self)
            }
        }
    }
}

#[test]
fn each_place_among_callbacks_without_captures_may_wait_and_panic() {
    const LINKS: usize = 24;
    for place in 0..LINKS {
        for panics_at in [None, Some(place + 1)] {
            let (inner_trigger, inner) = Deferred::<()>::new();
            let (trigger, mut deferred) = Deferred::<Plan>::new();
            for _ in 0..LINKS {
                deferred = deferred.add_callback(Plan::step);
            }
            trigger.callback(Plan {
                waits_at: Some((place, inner)),
                panics_at,
                seen: 0,
            });
            assert!(!deferred.is_fired());
            inner_trigger.callback(());
            if place + 1 < LINKS && panics_at.is_some() {
                assert!(failure(deferred).to_string().contains("as planned"));
            } else {
                assert_eq!(value(deferred).seen, LINKS);
            }
        }
    }
}

/// A queue of which a value is put from inside a chain, and a Deferred of what `chained`
/// makes of it that is taken there, before the put has run its chain.
fn check_taken_in_the_chain_that_fires<T: 'static>(
    first: T,
    again: T,
    chained: impl FnOnce(Deferred<T>, DeferredQueue<u32>) -> Deferred<u32>,
) {
    let queue = DeferredQueue::<u32>::new();
    let (trigger, deferred) = Deferred::<T>::new();
    let outer = chained(deferred, queue.clone());
    trigger.callback(first);
    let (trigger, deferred) = Deferred::<T>::new();
    let seen = Rc::new(Cell::new(0));
    let note = Rc::clone(&seen);
    drop(deferred.add_callback(move |_| {
        queue.put(5).expect("somebody waits");
        note.set(value(outer));
    }));
    trigger.callback(again);
    assert_eq!(seen.get(), 5);
}

#[test]
fn a_result_is_taken_in_the_chain_whose_callback_fired_it() {
    let get = |queue: DeferredQueue<u32>| queue.get().expect("the queue has no limit");
    check_taken_in_the_chain_that_fires((), (), move |deferred, queue| {
        deferred.add_callback(move |()| get(queue))
    });
    check_taken_in_the_chain_that_fires(1, 1, move |deferred, queue| {
        deferred.add_callback(move |_| get(queue))
    });
    check_taken_in_the_chain_that_fires((), (), move |deferred, queue| {
        let mut outer = deferred.add_callback(move |()| get(queue));
        drop(outer.pause());
        outer
    });
    check_taken_in_the_chain_that_fires((), (), move |_, queue| {
        let mut outer = get(queue);
        drop(outer.pause());
        outer
    });
}

#[test]
fn a_callback_is_added_in_the_chain_whose_callback_fired_what_it_waits_for() {
    let queue = DeferredQueue::<u32>::new();
    let get = queue.get().expect("the queue has no limit");
    let (trigger, deferred) = Deferred::<()>::new();
    let outer = deferred.add_callback(move |()| get);
    trigger.callback(());
    let (trigger, deferred) = Deferred::<()>::new();
    let seen = Rc::new(Cell::new(0));
    let (note, count) = (Rc::clone(&seen), Rc::clone(&seen));
    drop(deferred.add_callback(move |()| {
        queue.put(5).expect("somebody waits");
        drop(outer.add_callback(move |n| note.set(note.get() + n)));
    }));
    trigger.callback(());
    assert_eq!(count.get(), 5);
}
