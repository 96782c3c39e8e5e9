//! Lists, gatherings and races.

use std::cell::Cell;
use std::rc::Rc;

use torsade_deferred::{
    Deferred, Failure, FailureGroup, FireOn, FirstError, Interrupted, ListResult, Trigger, any,
    deferred_list, fail, gather_results, gather_results_or_cancel, gather_tuple, race, succeed,
};

use crate::support::{
    Broken, Log, answering, broken, counted, failure, is_cancelled, reports, value,
};

type Pair = (Vec<Trigger<u32>>, Vec<Deferred<u32>>);

fn pending(count: usize) -> Pair {
    (0..count).map(|_| Deferred::<u32>::new()).unzip()
}

/// The texts of a list's results.
fn texts(list: Deferred<ListResult<u32, Failure>>) -> Vec<String> {
    let results = value(list).all().expect("it waited for all");
    results
        .into_iter()
        .map(|result| result.map_or_else(|f| f.to_string(), |n| n.to_string()))
        .collect()
}

#[track_caller]
fn check_first_error(failure: &Failure, index: usize, error: &str) {
    let first: &FirstError<Failure> = failure.downcast_ref().expect("it is a FirstError");
    assert_eq!(
        (first.index, first.error.to_string().as_str()),
        (index, error)
    );
}

/// #177
#[test]
fn a_list_has_the_results_in_the_order_of_its_inputs() {
    let (triggers, inputs) = pending(3);
    let list = deferred_list(inputs, FireOn::All);
    let mut triggers = triggers.into_iter();
    let [a, b, c] = [(); 3].map(|()| triggers.next().expect("there are three"));
    c.callback(3);
    a.errback(broken("a"));
    assert!(!list.is_fired());
    b.callback(2);
    assert_eq!(texts(list), ["broken: a", "2", "3"]);
}

/// #178
#[test]
fn an_empty_list_fires_at_once_with_nothing() {
    assert!(texts(deferred_list([], FireOn::All)).is_empty());
}

/// #180
#[test]
fn an_empty_list_that_waits_for_a_failure_fires_at_once_with_nothing() {
    assert!(texts(deferred_list([], FireOn::FirstFailure)).is_empty());
}

/// #181
#[test]
fn a_list_can_fire_at_the_first_value() {
    let (triggers, inputs) = pending(3);
    let list = deferred_list(inputs, FireOn::FirstValue);
    let mut triggers = triggers.into_iter().rev();
    triggers.next().expect("three").errback(broken("x"));
    triggers.next().expect("two").callback(7);
    triggers.next().expect("one").callback(8);
    assert!(matches!(
        value(list),
        ListResult::First { index: 1, value: 7 }
    ));
}

/// #182
#[test]
fn a_list_for_the_first_value_gives_all_failures_if_there_is_none() {
    let inputs = [fail(broken("a")), fail(broken("b"))];
    assert_eq!(
        texts(deferred_list(inputs, FireOn::FirstValue)),
        ["broken: a", "broken: b"]
    );
}

/// #183
#[test]
fn a_list_can_fail_at_the_first_failure() {
    let (triggers, inputs) = pending(2);
    let list = deferred_list(inputs, FireOn::FirstFailure);
    let mut triggers = triggers.into_iter();
    let _first = triggers.next();
    triggers.next().expect("two").errback(broken("b"));
    check_first_error(&failure(list), 1, "broken: b");
}

/// #184
#[test]
fn fired_inputs_are_fine_in_every_mode() {
    let inputs = || [succeed(1), fail(broken("b"))];
    assert_eq!(
        texts(deferred_list(inputs(), FireOn::All)),
        ["1", "broken: b"]
    );
    let first = deferred_list(inputs(), FireOn::FirstValue);
    assert!(matches!(
        value(first),
        ListResult::First { index: 0, value: 1 }
    ));
    check_first_error(
        &failure(deferred_list(inputs(), FireOn::FirstFailure)),
        1,
        "broken: b",
    );
}

/// #186
#[test]
fn callbacks_added_before_the_list_run_first() {
    let (trigger, input) = Deferred::<u32>::new();
    let list = deferred_list([input.map(|n| n * 2)], FireOn::All);
    trigger.callback(4);
    assert_eq!(texts(list), ["8"]);
}

/// #190
#[test]
fn a_list_that_fires_early_does_not_cancel_the_rest() {
    let (trigger, input, stopped) = counted();
    let list = deferred_list([input, succeed(1)], FireOn::FirstValue);
    assert!(list.is_fired());
    assert!(trigger.is_open());
    assert_eq!(stopped.get(), 0);
    trigger.callback(2);
}

/// #191
#[test]
fn cancelling_a_list_cancels_every_input() {
    let (_a_trigger, a, a_stopped) = counted();
    let (_b_trigger, b, b_stopped) = counted();
    let list = deferred_list([a, b], FireOn::All);
    list.cancel();
    assert_eq!((a_stopped.get(), b_stopped.get()), (1, 1));
    assert_eq!(texts(list), ["cancelled", "cancelled"]);
}

/// #192
#[test]
fn a_cancelled_list_fires_with_what_the_inputs_answer() {
    let list = deferred_list([answering(Ok(1)), answering(Ok(2))], FireOn::All);
    list.cancel();
    assert_eq!(texts(list), ["1", "2"]);
    // One that takes its time is waited for.
    let (_trigger, slow) = Deferred::<u32>::new();
    let (cleanup_trigger, cleanup) = Deferred::<u32>::new();
    let list = deferred_list([slow.add_errback(move |_| cleanup)], FireOn::All);
    list.cancel();
    assert!(!list.is_fired());
    cleanup_trigger.callback(3);
    assert_eq!(texts(list), ["3"]);
}

/// #193
#[test]
fn a_cancelled_list_for_the_first_failure_fails_with_cancelled() {
    let (_triggers, inputs) = pending(2);
    let list = deferred_list(inputs, FireOn::FirstFailure);
    list.cancel();
    check_first_error(&failure(list), 0, "cancelled");
}

/// #194
#[test]
fn a_cancelled_list_for_the_first_value_takes_it_from_a_hook_that_succeeds() {
    let (_trigger, a) = Deferred::<u32>::new();
    let list = deferred_list([a, answering(Ok(5))], FireOn::FirstValue);
    list.cancel();
    assert!(matches!(
        value(list),
        ListResult::First { index: 1, value: 5 }
    ));
}

/// #195
#[test]
fn an_input_whose_hook_panics_does_not_keep_the_others_from_being_cancelled() {
    let (trigger, a) = Deferred::<u32>::new();
    trigger.on_cancel(|| panic!("hook"));
    let (_b_trigger, b, stopped) = counted();
    let list = deferred_list([a, b], FireOn::All);
    list.cancel();
    assert_eq!(stopped.get(), 1);
    assert_eq!(texts(list), ["a callback panicked: hook", "cancelled"]);
}

/// #197
#[test]
fn cancelling_a_fired_list_leaves_the_remaining_inputs_alone() {
    let (trigger, a, stopped) = counted();
    let list = deferred_list([a, succeed(1)], FireOn::FirstValue);
    list.cancel();
    assert_eq!(stopped.get(), 0);
    trigger.callback(1);
    value(list);
}

/// #199
#[test]
fn gather_results_gives_the_values_in_the_order_of_the_inputs() {
    let (triggers, inputs) = pending(3);
    let all = gather_results(inputs);
    for (n, trigger) in (0..3).zip(triggers).rev() {
        trigger.callback(n);
    }
    assert_eq!(value(all), [0, 1, 2]);
}

/// #200
#[test]
fn gather_results_of_nothing_fires_at_once() {
    assert!(value(gather_results::<u32, Failure>([])).is_empty());
}

/// #201
#[test]
fn gather_results_fails_with_the_first_failure() {
    let (triggers, inputs) = pending(2);
    let all = gather_results(inputs);
    let mut triggers = triggers.into_iter();
    triggers.next().expect("two").callback(1);
    triggers.next().expect("one").errback(broken("b"));
    let failure = failure(all);
    check_first_error(&failure, 1, "broken: b");
    let sources: Vec<String> = failure.sources().map(ToString::to_string).collect();
    assert_eq!(sources, ["input 1 failed: broken: b", "broken: b"]);
}

/// #202
#[test]
fn gather_results_does_not_cancel_the_others_and_a_further_failure_is_reported() {
    let (log, _guard) = reports();
    let (trigger, a, stopped) = counted();
    let all = gather_results([a, fail(broken("b"))]);
    check_first_error(&failure(all), 1, "broken: b");
    assert_eq!(stopped.get(), 0);
    trigger.errback(broken("a"));
    log.check(&["broken: a"]);
}

/// #204
#[test]
fn cancelling_gather_results_cancels_all_inputs() {
    let (_a_trigger, a, a_stopped) = counted();
    let (_b_trigger, b, b_stopped) = counted();
    let (log, _guard) = reports();
    let all = gather_results([a, b]);
    all.cancel();
    assert_eq!((a_stopped.get(), b_stopped.get()), (1, 1));
    check_first_error(&failure(all), 0, "cancelled");
    log.check(&[]);
}

/// #205
#[test]
fn cancelling_gather_results_succeeds_if_all_hooks_do() {
    let all = gather_results([answering(Ok(1)), answering(Ok(2))]);
    all.cancel();
    assert_eq!(value(all), [1, 2]);
}

/// #206
#[test]
fn a_first_error_is_compared_and_shown_by_index_and_error() {
    let first = FirstError {
        index: 2,
        error: Interrupted::Cancelled,
    };
    assert_eq!(
        first,
        FirstError {
            index: 2,
            error: Interrupted::Cancelled
        }
    );
    assert_ne!(
        first,
        FirstError {
            index: 1,
            error: Interrupted::Cancelled
        }
    );
    assert_eq!(first.to_string(), "input 2 failed: cancelled");
}

/// #207
#[test]
fn a_race_fires_with_the_first_value_and_its_index() {
    let (mut triggers, inputs) = pending(3);
    let winner = race(inputs);
    triggers.remove(1).callback(5);
    assert_eq!(value(winner), (1, 5));
}

/// #208
#[test]
fn a_race_cancels_every_loser_once_and_never_the_winner() {
    let (_a_trigger, a, a_stopped) = counted();
    let (winner, b, b_stopped) = counted();
    let (_c_trigger, c, c_stopped) = counted();
    let race = race([a, b, c]);
    winner.callback(1);
    assert_eq!(
        (a_stopped.get(), b_stopped.get(), c_stopped.get()),
        (1, 0, 1)
    );
    assert_eq!(value(race), (1, 1));
}

/// #209
#[test]
fn a_failure_does_not_decide_a_race() {
    let (mut triggers, inputs) = pending(2);
    let race = race(inputs);
    triggers.remove(0).errback(broken("a"));
    assert!(!race.is_fired());
    triggers.remove(0).callback(2);
    assert_eq!(value(race), (1, 2));
}

/// #210
#[test]
fn a_race_that_all_lose_fails_with_all_failures_in_the_order_of_the_inputs() {
    let (triggers, inputs) = pending(2);
    let race = race(inputs);
    for (trigger, name) in triggers.into_iter().zip(["a", "b"]).rev() {
        trigger.errback(broken(name));
    }
    let failure = failure(race);
    let group: &FailureGroup<Failure> = failure.downcast_ref().expect("it is a FailureGroup");
    let texts: Vec<_> = group
        .failures()
        .iter()
        .map(|(index, f)| (*index, f.to_string()))
        .collect();
    assert_eq!(
        texts,
        [(0, "broken: a".to_string()), (1, "broken: b".to_string())]
    );
    assert_eq!(
        group.to_string(),
        "operation 0 failed: broken: a (and 1 more)"
    );
}

/// #211
#[test]
fn what_becomes_of_a_loser_goes_nowhere() {
    let (log, _guard) = reports();
    let (_trigger, slow) = Deferred::<u32>::new();
    let (cleanup_trigger, cleanup) = Deferred::<u32>::new();
    let race = race([slow.add_errback(move |_| cleanup), succeed(1)]);
    cleanup_trigger.errback(broken("late"));
    log.check(&[]);
    assert_eq!(value(race), (1, 1));
}

/// #212
#[test]
fn a_loser_whose_hook_succeeds_does_no_harm() {
    let race = race([answering(Ok(9)), succeed(1)]);
    assert_eq!(value(race), (1, 1));
}

/// #213
#[test]
fn cancelling_a_race_cancels_every_input() {
    let (_a_trigger, a, a_stopped) = counted();
    let (_b_trigger, b, b_stopped) = counted();
    let race = race([a, b]);
    race.cancel();
    assert_eq!((a_stopped.get(), b_stopped.get()), (1, 1));
    let group = failure(race)
        .trap::<FailureGroup<Failure>>()
        .expect("it is a FailureGroup");
    assert!(
        group
            .failures()
            .iter()
            .all(|(_, failure)| is_cancelled(failure))
    );
}

/// #214
#[test]
fn a_cancelled_race_is_won_by_a_hook_that_succeeds() {
    let (_trigger, a) = Deferred::<u32>::new();
    let race = race([a, answering(Ok(4))]);
    race.cancel();
    assert_eq!(value(race), (1, 4));
}

#[test]
fn nothing_hangs_on_empty_inputs() {
    let none = failure(race::<u32, Failure>([]));
    assert!(
        none.downcast_ref::<FailureGroup<Failure>>()
            .is_some_and(|group| group.failures().is_empty())
    );
    assert!(failure(any::<u32, Failure>([])).check::<FailureGroup<Failure>>());
    assert!(texts(deferred_list([], FireOn::FirstValue)).is_empty());
    assert!(value(gather_results_or_cancel::<u32, Failure>([])).is_empty());
}

#[test]
fn any_lets_the_others_go_on() {
    let (trigger, a, stopped) = counted();
    let first = any([fail(broken("x")), succeed(3), a]);
    assert_eq!(value(first), (1, 3));
    assert_eq!(stopped.get(), 0);
    trigger.callback(1);
}

#[test]
fn gather_results_or_cancel_cancels_the_rest_quietly() {
    let (log, _guard) = reports();
    let (_trigger, a, stopped) = counted();
    let (b_trigger, b) = Deferred::<u32>::new();
    let all = gather_results_or_cancel([a, b]);
    b_trigger.errback(broken("b"));
    assert_eq!(stopped.get(), 1);
    check_first_error(&failure(all), 1, "broken: b");
    log.check(&[]);
}

#[test]
fn a_tuple_of_different_types_is_gathered() {
    let (a_trigger, a) = Deferred::<u32>::new();
    let (b_trigger, b) = Deferred::<String>::new();
    let tuple = gather_tuple((a, b, succeed('c')));
    b_trigger.callback("b".into());
    a_trigger.callback(1);
    assert_eq!(value(tuple), (1, "b".to_string(), 'c'));
    let (_trigger, slow, stopped) = counted();
    let tuple = gather_tuple((slow, fail::<u32, Failure>(broken("x"))));
    check_first_error(&failure(tuple), 1, "broken: x");
    let (_trigger, other, other_stopped) = counted();
    let (_b_trigger, b) = Deferred::<()>::new();
    let tuple = gather_tuple((other, b));
    let (_log, _guard) = reports();
    tuple.cancel();
    assert_eq!((stopped.get(), other_stopped.get()), (0, 1));
    check_first_error(&failure(tuple), 0, "cancelled");
}

#[test]
fn a_gathering_inside_a_callback_has_run_its_callbacks_when_the_firing_returns() {
    let log = Log::new();
    let notes = log.clone();
    let (inner_trigger, input) = Deferred::<u32>::new();
    let gathered = gather_results([input]).map(move |values| notes.note(values[0]));
    let (trigger, outer) = Deferred::<()>::new();
    let notes = log.clone();
    let outer = outer.add_callback(move |()| {
        inner_trigger.callback(1);
        notes.note("after");
    });
    trigger.callback(());
    log.check(&["1", "after"]);
    value(outer);
    value(gathered);
}

#[test]
fn a_result_that_nobody_has_is_dropped_with_its_values() {
    let captured = Rc::new(Cell::new(0));
    let (trigger, input) = Deferred::<Rc<Cell<i32>>>::new();
    drop(gather_results([input]));
    trigger.callback(Rc::clone(&captured));
    assert_eq!(Rc::strong_count(&captured), 1);
    assert!(failure(fail::<u32, Failure>(broken("x"))).check::<Broken>());
}

#[test]
fn what_a_cancelled_result_asked_for_is_not_reported_and_other_failures_are() {
    let (log, _guard) = reports();
    let pending = || Deferred::<u32>::new();
    let ((_a_trigger, a), (_b_trigger, b)) = (pending(), pending());
    let all = gather_tuple((a, b));
    all.cancel();
    check_first_error(&failure(all), 0, "cancelled");
    let ((_a_trigger, a), (_b_trigger, b)) = (pending(), pending());
    let all = deferred_list([a, b], FireOn::FirstFailure);
    all.cancel();
    check_first_error(&failure(all), 0, "cancelled");
    let (_b_trigger, b) = pending();
    let first = deferred_list([answering(Ok(1)), b], FireOn::FirstValue);
    first.cancel();
    assert!(value(first).all().is_none());
    log.check(&[]);
    let (_a_trigger, a) = pending();
    let all = gather_results([a, answering(Err(broken("b")))]);
    all.cancel();
    check_first_error(&failure(all), 0, "cancelled");
    log.check(&["broken: b"]);
}
