//! Promises/A+, as far as its sections speak of what a Deferred is: 2.1, 2.2.1 to
//! 2.2.3, 2.2.7, 2.3.1, 2.3.2 and 2.3.4, as tables.
//!
//! Where the standard wants callbacks to run later (2.2.4), a Deferred runs them now.

use std::cell::Cell;
use std::rc::Rc;

use torsade_deferred::{Deferred, Failure, Interrupted, fail, succeed};

use crate::support::{Broken, Log, broken, failure, value};

/// How a result is settled: before the callbacks are added, after, or not at all.
#[derive(Clone, Copy, Debug, PartialEq)]
enum When {
    Before,
    After,
    Never,
}

const WHENS: [When; 3] = [When::Before, When::After, When::Never];

/// Settles a Deferred, adds what `add` adds, and gives that.
fn settled<U: 'static>(
    when: When,
    result: Result<u32, Failure>,
    add: impl FnOnce(Deferred<u32>) -> Deferred<U>,
) -> (Option<torsade_deferred::Trigger<u32>>, Deferred<U>) {
    let (trigger, deferred) = Deferred::<u32>::new();
    match when {
        When::Before => {
            trigger.fire(result);
            (None, add(deferred))
        }
        When::After => {
            let added = add(deferred);
            trigger.fire(result);
            (None, added)
        }
        When::Never => (Some(trigger), add(deferred)),
    }
}

#[test]
fn section_2_1_a_settled_deferred_changes_its_state_never_again() {
    for when in WHENS {
        for is_value in [true, false] {
            let log = Log::new();
            let (a, b) = (log.clone(), log.clone());
            let result = if is_value { Ok(1) } else { Err(broken("x")) };
            let (trigger, added) = settled(when, result, |deferred| {
                deferred.add_callbacks(move |_| a.note("value"), move |_| b.note("failure"))
            });
            added.cancel();
            let expected: &[&str] = match (when, is_value) {
                // Cancelling settles what is pending, as a failure, and firing is too late.
                (When::Never, _) => &["failure"],
                (_, true) => &["value"],
                (_, false) => &["failure"],
            };
            if let Some(trigger) = trigger {
                trigger.callback(2);
            }
            log.check(expected);
            value(added);
        }
    }
}

#[test]
fn section_2_2_1_either_side_may_be_missing() {
    let cases: [(Result<u32, Failure>, &str); 2] = [(Ok(1), "1"), (Err(broken("x")), "broken: x")];
    for (result, expected) in cases {
        let (_, only_errback) = settled(When::After, result.map_err(|f| f.clone()), |d| {
            d.add_errback(Err)
        });
        let (_, only_callback) = settled(
            When::After,
            only_errback.into_result().expect("it has fired"),
            |d| d.add_callback(Ok),
        );
        let text = only_callback.into_result().expect("it has fired");
        assert_eq!(
            text.map_or_else(|f| f.to_string(), |n| n.to_string()),
            expected
        );
    }
}

#[test]
fn sections_2_2_2_and_2_2_3_a_callback_is_called_after_settling_once_with_the_result() {
    for when in WHENS {
        for (is_value, wants_value) in [(true, true), (true, false), (false, true), (false, false)]
        {
            let calls = Log::new();
            let notes = calls.clone();
            let result = if is_value { Ok(1) } else { Err(broken("x")) };
            let (trigger, added) = settled(when, result, |deferred| {
                if wants_value {
                    deferred.map(move |n| {
                        notes.note(n);
                        n
                    })
                } else {
                    deferred.add_errback(move |failure| {
                        notes.note(failure);
                        Ok(0)
                    })
                }
            });
            let is_called = when != When::Never && is_value == wants_value;
            let expected: &[&str] = match (is_called, is_value) {
                (false, _) => &[],
                (true, true) => &["1"],
                (true, false) => &["broken: x"],
            };
            calls.check(expected);
            // Settled in the end, so that nothing is reported as unhandled.
            if let Some(trigger) = trigger {
                trigger.callback(1);
            }
            drop(added.add_both(drop));
        }
    }
}

/// What a callback may do, and what follows.
type Case = (&'static str, fn(u32) -> Deferred<u32>, &'static str);

#[test]
fn section_2_2_7_the_next_deferred_follows_what_the_callback_did() {
    let cases: [Case; 6] = [
        ("returns a value", |n| succeed(n + 1), "2"),
        ("fails", |_| fail(broken("thrown")), "broken: thrown"),
        (
            "panics",
            |_| panic!("thrown"),
            "a callback panicked: thrown",
        ),
        (
            "returns a fired Deferred",
            |n| succeed::<u32, Failure>(n).map(|n| n + 2),
            "3",
        ),
        (
            "returns a failed Deferred",
            |_| fail::<u32, Failure>(broken("inner")).map(|n| n),
            "broken: inner",
        ),
        (
            "returns an abandoned Deferred",
            |_| Deferred::new().1,
            "abandoned",
        ),
    ];
    for (name, callback, expected) in cases {
        for when in [When::Before, When::After] {
            for is_value in [true, false] {
                let result = if is_value { Ok(1) } else { Err(broken("x")) };
                let (_, added) = settled(when, result, |deferred| {
                    deferred.add_callbacks(callback, move |_| callback(1))
                });
                let text = added.into_result().expect(name);
                let text = text.map_or_else(|failure| failure.to_string(), |n| n.to_string());
                assert!(text.starts_with(expected), "{name}, {when:?}: {text}");
            }
        }
    }
}

#[test]
fn section_2_3_1_a_deferred_that_is_to_wait_for_itself_fails() {
    for depth in [0, 1, 10] {
        let (trigger, deferred) = Deferred::<u32>::new();
        let own = Rc::new(Cell::new(None::<Deferred<u32>>));
        let inside = Rc::clone(&own);
        let mut end = deferred.add_callback(move |_| inside.take().expect("set below"));
        for _ in 0..depth {
            end = end.map(|n| n + 1);
        }
        let seen = Rc::new(Cell::new(false));
        let noted = Rc::clone(&seen);
        own.set(Some(end.add_errback(move |failure| {
            noted.set(matches!(
                failure.downcast_ref(),
                Some(Interrupted::Abandoned { .. })
            ));
            Ok(0)
        })));
        trigger.callback(1);
        assert!(seen.get(), "at depth {depth}");
    }
}

#[test]
fn section_2_3_2_a_returned_deferred_decides_when_and_how() {
    for is_value in [true, false] {
        for fires_before in [true, false] {
            let (trigger, inner) = Deferred::<u32>::new();
            let result = if is_value {
                Ok(7)
            } else {
                Err(broken("inner"))
            };
            let outer = |inner| succeed(()).add_callback(move |()| -> Deferred<u32> { inner });
            let outer = if fires_before {
                trigger.fire(result);
                outer(inner)
            } else {
                let outer = outer(inner);
                assert!(!outer.is_fired());
                trigger.fire(result);
                outer
            };
            if is_value {
                assert_eq!(value(outer), 7);
            } else {
                assert!(failure(outer).check::<Broken>());
            }
        }
    }
}

#[test]
fn section_2_3_4_what_is_not_a_deferred_is_the_value_itself() {
    let (_trigger, pending) = Deferred::<u32>::new();
    let wrapped: Deferred<Option<Deferred<u32>>> =
        succeed(()).add_callback(move |()| Ok(Some(pending)));
    assert!(value(wrapped).is_some_and(|pending| !pending.is_fired()));
    assert_eq!(
        value(succeed::<u32, Failure>(1).add_callback(|n| Ok(vec![n]))),
        [1]
    );
}
