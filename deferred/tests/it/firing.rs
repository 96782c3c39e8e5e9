//! Firing, adding callbacks, switching between the two sides.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use torsade_deferred::{
    Deferred, Failure, FireOn, Interrupted, ListResult, any, deferred_list, fail, gather_results,
    maybe_deferred, race, succeed,
};

use crate::support::{Broken, Log, broken, failure, value};

/// #1
#[test]
fn a_deferred_is_pending_or_has_a_value_or_a_failure_and_says_so() {
    let (trigger, deferred) = Deferred::<u32>::new();
    assert!(!deferred.is_fired());
    assert!(format!("{deferred:?}").starts_with("Deferred(pending, created at "));
    trigger.callback(1);
    assert!(deferred.is_fired());
    assert!(format!("{deferred:?}").starts_with("Deferred(fired, "));
    let fired: Deferred<u32> = succeed(1);
    assert!(format!("{fired:?}").starts_with("Deferred(fired with a value, "));
    let failed: Deferred<u32> = fail(broken("x"));
    assert!(format!("{failed:?}").starts_with("Deferred(fired with a failure, "));
    assert_eq!(failure(failed).to_string(), "broken: x");
}

/// #2
#[test]
fn callbacks_run_in_the_order_in_which_they_were_added() {
    let log = Log::new();
    let (trigger, mut deferred) = Deferred::<()>::new();
    for name in ["first", "second", "third"] {
        let log = log.clone();
        deferred = deferred.add_callback(move |()| log.note(name));
    }
    trigger.callback(());
    log.check(&["first", "second", "third"]);
    assert!(deferred.is_fired());
}

/// #3
#[test]
fn callbacks_run_before_the_call_that_fires_returns() {
    let log = Log::new();
    let notes = log.clone();
    let (trigger, deferred) = Deferred::<()>::new();
    let deferred = deferred.map(move |()| notes.note("callback"));
    log.note("before");
    trigger.callback(());
    log.note("after");
    log.check(&["before", "callback", "after"]);
    value(deferred);
}

/// #4
#[test]
fn callback_added_after_firing_runs_at_once_with_the_current_result() {
    let deferred: Deferred<u32> = succeed(1);
    let deferred = deferred.map(|n| n + 1);
    let seen = Rc::new(Cell::new(0));
    let slot = Rc::clone(&seen);
    let deferred = deferred.add_callback(move |n| slot.set(n));
    assert_eq!(seen.get(), 2);
    value(deferred);
}

/// #5
#[test]
fn the_current_result_is_what_the_last_callback_returned() {
    let (trigger, deferred) = Deferred::<u32>::new();
    let deferred = deferred.map(|n| n * 10).map(|n| n + 1);
    trigger.callback(4);
    assert_eq!(value(deferred), 41);
}

/// #6
#[test]
fn callback_added_to_a_paused_fired_deferred_waits() {
    let log = Log::new();
    let notes = log.clone();
    let mut deferred: Deferred<u32> = succeed(1);
    let paused = deferred.pause();
    let deferred = deferred.map(move |n| notes.note(n));
    log.check(&[]);
    drop(paused);
    log.check(&["1"]);
    value(deferred);
}

/// #7
#[test]
fn each_callback_gets_the_previous_result_and_whatever_it_captured() {
    let (trigger, deferred) = Deferred::<u32>::new();
    let (extra, more) = (10, 100);
    let deferred = deferred.map(move |n| n + extra).map(move |n| n + more);
    trigger.callback(1);
    assert_eq!(value(deferred), 111);
}

/// #8
#[test]
fn the_two_sides_of_a_pair_capture_their_own() {
    let run = |result: Result<u32, Failure>| {
        let (trigger, deferred) = Deferred::<u32>::new();
        let (plus, instead) = (10, 7);
        let deferred = deferred.add_callbacks(move |n| Ok(n + plus), move |_| Ok(instead));
        trigger.fire(result);
        value(deferred)
    };
    assert_eq!(run(Ok(1)), 11);
    assert_eq!(run(Err(broken("x"))), 7);
}

/// #9
#[test]
fn a_failure_skips_callbacks_and_a_value_skips_errbacks() {
    let log = Log::new();
    let [a, b, c, d] = [(); 4].map(|()| log.clone());
    let (trigger, deferred) = Deferred::<()>::new();
    let deferred = deferred
        .add_callback(move |()| a.note("callback 1"))
        .add_errback(move |failure| b.note(failure))
        .add_errback(move |failure| c.note(failure))
        .add_callback(move |()| d.note("callback 2"));
    trigger.errback(broken("x"));
    log.check(&["broken: x", "callback 2"]);
    value(deferred);
}

/// #10
#[test]
fn a_question_mark_in_a_callback_turns_the_result_into_that_failure() {
    let (trigger, deferred) = Deferred::<&str>::new();
    let deferred = deferred.add_callback(|text| Ok(text.parse::<u32>()?));
    trigger.callback("x");
    assert!(failure(deferred).check::<std::num::ParseIntError>());
}

/// #11
#[test]
fn a_callback_that_returns_a_failure_turns_the_result_into_it() {
    let deferred: Deferred<u32> = succeed(1);
    let deferred = deferred.add_callback(|_| -> Result<u32, Failure> { Err(broken("returned")) });
    assert_eq!(failure(deferred).downcast_ref(), Some(&Broken("returned")));
}

/// #12
#[test]
fn an_errback_that_returns_a_value_switches_back_with_it() {
    let deferred: Deferred<u32> = fail(broken("x"));
    assert_eq!(value(deferred.add_errback(|_| Ok(3)).map(|n| n + 1)), 4);
}

/// #13
#[test]
fn an_errback_that_returns_nothing_switches_back_with_the_empty_value() {
    let deferred: Deferred<()> = fail(broken("x"));
    value(deferred.add_errback(|_| ()));
}

/// #14
#[test]
fn an_errback_that_returns_a_failure_stays_on_the_error_side() {
    let deferred: Deferred<u32> = fail(broken("first"));
    let deferred = deferred.add_errback(Err);
    let deferred = deferred.add_errback(|failure| {
        assert!(failure.check::<Broken>());
        Err(broken("second"))
    });
    assert_eq!(failure(deferred).downcast_ref(), Some(&Broken("second")));
}

/// #15
#[test]
fn the_errback_of_a_pair_does_not_see_the_failure_of_its_own_callback() {
    let log = Log::new();
    let notes = log.clone();
    let deferred: Deferred<u32> = succeed(1);
    let deferred = deferred.add_callbacks(
        |_| -> Result<u32, Failure> { Err(broken("x")) },
        move |_| {
            notes.note("errback");
            Ok(0)
        },
    );
    failure(deferred);
    log.check(&[]);
}

/// #16
#[test]
fn add_callback_passes_a_failure_through() {
    let deferred: Deferred<u32> = fail(broken("x"));
    assert_eq!(
        failure(deferred.add_callback(|n| Ok(n + 1))).downcast_ref(),
        Some(&Broken("x"))
    );
}

/// #17
#[test]
fn add_errback_passes_a_value_through() {
    let deferred: Deferred<u32> = succeed(5);
    assert_eq!(value(deferred.add_errback(|_| Ok(0))), 5);
}

/// #18
#[test]
fn add_both_runs_on_either_side() {
    for (result, expected) in [(Ok(1), "value"), (Err(broken("x")), "failure")] {
        let (trigger, deferred) = Deferred::<u32>::new();
        let both = deferred.add_both(|result| Ok(if result.is_ok() { "value" } else { "failure" }));
        trigger.fire(result);
        assert_eq!(value(both), expected);
    }
}

/// #24
#[test]
fn errback_makes_a_failure_of_an_error_and_remembers_where() {
    let (trigger, deferred) = Deferred::<u32>::new();
    trigger.errback(Broken("x"));
    let failure = failure(deferred);
    assert!(failure.check::<Broken>());
    assert!(
        failure.origin().file().ends_with("firing.rs"),
        "{}",
        failure.origin()
    );
}

type Slot<T> = Rc<RefCell<Option<Deferred<T>>>>;

/// A chain whose first callback does something with the chain's own end.
fn reentrant(
    first: impl FnOnce(Slot<u32>) + 'static,
) -> (torsade_deferred::Trigger<u32>, Slot<u32>) {
    let (trigger, deferred) = Deferred::<u32>::new();
    let slot = Slot::default();
    let own = Rc::clone(&slot);
    let deferred = deferred.map(move |n| {
        first(own);
        n
    });
    slot.replace(Some(deferred));
    (trigger, slot)
}

fn add_to(slot: &Slot<u32>, callback: impl FnOnce(u32) -> u32 + 'static) {
    let deferred = slot.take().expect("the chain's end is in its slot");
    slot.replace(Some(deferred.map(callback)));
}

/// #29
#[test]
fn a_callback_added_from_inside_a_callback_is_not_run_at_once() {
    let log = Log::new();
    let notes = log.clone();
    let (trigger, slot) = reentrant(move |slot| {
        let inside = notes.clone();
        add_to(&slot, move |n| {
            inside.note("added");
            n
        });
        notes.note("adder ends");
    });
    trigger.callback(1);
    log.check(&["adder ends", "added"]);
    assert_eq!(value(slot.take().expect("it is there")), 1);
}

/// #30
#[test]
fn a_callback_added_from_inside_runs_before_the_call_that_fired_returns() {
    let (trigger, slot) = reentrant(|slot| add_to(&slot, |n| n + 1));
    trigger.callback(1);
    let deferred = slot.take().expect("it is there");
    assert!(deferred.is_fired());
    assert_eq!(value(deferred), 2);
}

/// #31
#[test]
fn callbacks_added_from_inside_keep_their_order() {
    let (trigger, slot) = reentrant(|slot| {
        add_to(&slot, |n| n + 1);
        add_to(&slot, |n| n * 10);
    });
    add_to(&slot, |n| n + 4);
    trigger.callback(1);
    assert_eq!(value(slot.take().expect("it is there")), 60);
}

/// #32
#[test]
fn a_failure_after_an_addition_from_inside_reaches_the_errback_added() {
    let (trigger, deferred) = Deferred::<u32>::new();
    let slot = Slot::<u32>::default();
    let own = Rc::clone(&slot);
    let deferred = deferred.add_callback(move |_| -> Result<u32, Failure> {
        let end = own.take().expect("the chain's end is in its slot");
        own.replace(Some(end.add_errback(|failure| {
            Ok(if failure.check::<Broken>() { 7 } else { 0 })
        })));
        Err(broken("after"))
    });
    slot.replace(Some(deferred));
    trigger.callback(1);
    assert_eq!(value(slot.take().expect("it is there")), 7);
}

/// #33
#[test]
fn a_callback_runs_once_and_is_gone_when_it_has_run() {
    let count = Rc::new(Cell::new(0));
    let counter = Rc::clone(&count);
    let (trigger, deferred) = Deferred::<()>::new();
    let deferred = deferred.add_callback(move |()| counter.set(counter.get() + 1));
    assert_eq!(Rc::strong_count(&count), 2);
    trigger.callback(());
    assert_eq!((count.get(), Rc::strong_count(&count)), (1, 1));
    value(deferred.add_callback(|()| ()));
    assert_eq!(count.get(), 1);
}

/// #34
#[test]
fn firing_lets_go_of_the_cancel_hook() {
    let captured = Rc::new(());
    let (trigger, deferred) = Deferred::<u32>::new();
    let hook = Rc::clone(&captured);
    trigger.on_cancel(move || drop(hook));
    assert_eq!(Rc::strong_count(&captured), 2);
    trigger.callback(1);
    assert_eq!(Rc::strong_count(&captured), 1);
    value(deferred);
}

/// #35
#[test]
fn a_result_lives_no_longer_than_the_callback_that_takes_it() {
    let captured = Rc::new(());
    let (trigger, deferred) = Deferred::<Rc<()>>::new();
    let seen = Rc::new(Cell::new(0));
    let (slot, watched) = (Rc::clone(&seen), Rc::clone(&captured));
    let deferred = deferred
        .add_callback(drop)
        .add_callback(move |()| slot.set(Rc::strong_count(&watched)));
    trigger.callback(Rc::clone(&captured));
    // The one here and the one that the second callback looks through.
    assert_eq!(seen.get(), 2);
    value(deferred);
}

/// #37
#[test]
fn every_way_to_make_a_deferred_gives_a_plain_one() {
    fn is_plain<T>(_: Deferred<T>) {}
    is_plain::<u32>(succeed(1));
    is_plain::<u32>(maybe_deferred(|| Ok(1)));
    is_plain::<u32>(Deferred::from_future(async { Ok(1) }));
    is_plain::<Vec<u32>>(gather_results([succeed(1)]));
    is_plain::<(usize, u32)>(race([succeed(1)]));
    is_plain::<(usize, u32)>(any([succeed(1)]));
    is_plain::<u32>(succeed(1).share().wait());
    let list: Deferred<ListResult<u32, Failure>> = deferred_list([succeed(1)], FireOn::All);
    assert!(list.is_fired());
}

#[test]
fn a_panic_in_a_callback_is_the_failure_of_its_chain_and_not_of_the_firer() {
    let (trigger, deferred) = Deferred::<u32>::new();
    let result = deferred
        .add_callback(|_| -> Result<u32, Failure> { panic!("oh") })
        .add_errback(|failure| match failure.trap::<Interrupted>()? {
            Interrupted::Panicked { message } => Ok(message.len() as u32),
            other => Err(other.into()),
        });
    trigger.callback(1);
    assert_eq!(value(result), 2);
}

#[test]
fn a_panic_in_the_drop_of_a_value_leaves_the_next_chain_intact() {
    struct Grenade;
    impl Drop for Grenade {
        fn drop(&mut self) {
            panic!("boom");
        }
    }
    let (trigger, deferred) = Deferred::<Grenade>::new();
    drop(deferred);
    let thrown =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| trigger.callback(Grenade)));
    assert!(thrown.is_err());
    let (trigger, deferred) = Deferred::<u32>::new();
    let deferred = deferred.map(|n| n + 1);
    trigger.callback(1);
    assert_eq!(value(deferred), 2);
}

#[test]
fn a_typed_chain_knows_its_own_errors() {
    #[derive(Debug, PartialEq)]
    enum Oops {
        Bad,
        Stopped(Interrupted),
    }
    impl From<Interrupted> for Oops {
        fn from(interrupted: Interrupted) -> Self {
            Self::Stopped(interrupted)
        }
    }
    impl std::fmt::Display for Oops {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "{self:?}")
        }
    }
    let (trigger, deferred) = Deferred::<u32, Oops>::new();
    trigger.errback(Oops::Bad);
    assert_eq!(failure(deferred), Oops::Bad);
    let (trigger, deferred) = Deferred::<u32, Oops>::new();
    deferred.cancel();
    assert!(!trigger.is_open());
    assert_eq!(failure(deferred), Oops::Stopped(Interrupted::Cancelled));
}
