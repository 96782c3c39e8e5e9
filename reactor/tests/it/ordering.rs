//! Who runs before whom.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use torsade_reactor::testing::virtual_time_reactor;

use crate::common::Log;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn soon_calls_run_in_the_order_of_asking() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    for line in ["a", "b", "c"] {
        reactor.call_soon(log.adds(line));
    }
    log.check([]);
    reactor.turn(Some(Duration::ZERO)).unwrap();
    log.check(["a", "b", "c"]);
}

#[test]
fn a_soon_call_from_a_soon_call_waits_for_the_next_turn() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let (handle, first, second) = (reactor.clone(), log.adds("first"), log.adds("second"));
    reactor.call_soon(move || {
        first();
        handle.call_soon(second);
    });
    reactor.turn(Some(Duration::ZERO)).unwrap();
    log.check(["first"]);
    reactor.turn(Some(Duration::ZERO)).unwrap();
    log.check(["first", "second"]);
}

#[test]
fn a_zero_delay_call_waits_for_the_next_turn_even_in_virtual_time() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let (handle, first, second) = (reactor.clone(), log.adds("first"), log.adds("second"));
    reactor.call_soon(move || {
        first();
        handle.call_later(Duration::ZERO, second);
    });
    reactor.turn(Some(Duration::ZERO)).unwrap();
    log.check(["first"]);
    reactor.turn(Some(Duration::ZERO)).unwrap();
    log.check(["first", "second"]);
}

#[test]
fn due_calls_run_by_deadline_and_equal_ones_by_order_of_scheduling() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    reactor.call_later(2 * SECOND, log.adds("late"));
    reactor.call_later(SECOND, log.adds("early"));
    reactor.call_later(SECOND, log.adds("early too"));
    reactor.call_later(2 * SECOND, log.adds("late too"));
    let handle = reactor.clone();
    reactor.call_later(3 * SECOND, move || handle.stop());
    reactor.run().unwrap();
    log.check(["early", "early too", "late", "late too"]);
}

#[test]
fn a_call_never_runs_before_its_deadline() {
    let reactor = crate::common::reactor();
    let (delay, ran_at) = (Duration::from_micros(900), Rc::new(Cell::new(None)));
    let deadline = reactor.now() + delay;
    let (handle, slot) = (reactor.clone(), Rc::clone(&ran_at));
    reactor.call_at(deadline, move || {
        slot.set(Some(handle.now()));
        handle.stop();
    });
    reactor.run().unwrap();
    assert!(ran_at.get().unwrap() >= deadline);
}

#[test]
fn a_timer_below_a_millisecond_takes_at_most_two_turns() {
    let reactor = crate::common::reactor();
    let done = Rc::new(Cell::new(false));
    let flag = Rc::clone(&done);
    reactor.call_later(Duration::from_micros(900), move || flag.set(true));
    let mut turns = 0;
    while !done.get() {
        reactor.turn(None).unwrap();
        turns += 1;
    }
    assert!(turns <= 2, "{turns} turns");
}

#[test]
fn thread_calls_run_before_due_calls_and_those_before_soon_calls() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    reactor.call_soon(log.adds("soon"));
    reactor.call_later(Duration::ZERO, log.adds("due"));
    // The log cannot cross a thread, so the thread call leaves its mark through a call
    // that it takes back.
    let mark = reactor.call_soon(log.adds("no thread call came first"));
    let cancelled = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let flag = std::sync::Arc::clone(&cancelled);
    reactor
        .remote()
        .call_from_thread(move |_| flag.store(true, std::sync::atomic::Ordering::Relaxed));
    let (seen, flag) = (log.clone(), cancelled);
    reactor.call_later(Duration::ZERO, move || {
        if flag.load(std::sync::atomic::Ordering::Relaxed) {
            mark.cancel();
            seen.add("after the thread call");
        }
    });
    reactor.turn(Some(Duration::ZERO)).unwrap();
    log.check(["due", "after the thread call", "soon"]);
}

#[test]
fn calls_for_when_it_runs_come_first() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    reactor.call_soon(log.adds("soon"));
    reactor.call_when_running(log.adds("running"));
    reactor.turn(Some(Duration::ZERO)).unwrap();
    log.check(["running", "soon"]);
}

#[test]
fn call_when_running_inside_a_callback_waits_for_the_next_turn() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let (handle, seen) = (reactor.clone(), log.clone());
    reactor.call_soon(move || {
        handle.call_when_running(seen.adds("running"));
        seen.add("asked");
    });
    reactor.turn(Some(Duration::ZERO)).unwrap();
    log.check(["asked"]);
    reactor.turn(Some(Duration::ZERO)).unwrap();
    log.check(["asked", "running"]);
}

#[test]
fn a_cancelled_call_in_the_same_batch_does_not_run() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let victim = Rc::new(RefCell::new(None::<torsade_reactor::DelayedCall>));
    let (found, seen) = (Rc::clone(&victim), log.clone());
    reactor.call_later(SECOND, move || {
        let victim = found.take().unwrap();
        assert!(victim.is_active());
        seen.add(format!("cancelled {}", victim.cancel()));
        seen.add(format!("again {}", victim.cancel()));
    });
    victim.replace(Some(reactor.call_later(SECOND, log.adds("the victim"))));
    let handle = reactor.clone();
    reactor.call_later(2 * SECOND, move || handle.stop());
    reactor.run().unwrap();
    log.check(["cancelled true", "again false"]);
}

#[test]
fn a_call_is_not_active_inside_itself() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let own = Rc::new(RefCell::new(None::<torsade_reactor::DelayedCall>));
    let (found, seen) = (Rc::clone(&own), log.clone());
    let call = reactor.call_later(SECOND, move || {
        let own = found.take().unwrap();
        seen.add(format!(
            "{} {} {}",
            own.is_active(),
            own.cancel(),
            own.reset(SECOND)
        ));
    });
    own.replace(Some(call));
    let handle = reactor.clone();
    reactor.call_later(2 * SECOND, move || handle.stop());
    reactor.run().unwrap();
    log.check(["false false false"]);
}

#[test]
fn reset_and_delay_move_a_call() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let first = reactor.call_later(SECOND, log.adds("reset to 3"));
    let second = reactor.call_later(SECOND, log.adds("delayed to 2"));
    assert!(first.reset(3 * SECOND));
    assert!(second.delay(SECOND));
    assert_eq!(second.deadline().unwrap() - reactor.now(), 2 * SECOND);
    let handle = reactor.clone();
    reactor.call_later(4 * SECOND, move || handle.stop());
    reactor.run().unwrap();
    log.check(["delayed to 2", "reset to 3"]);
}

#[test]
fn an_endless_delay_does_no_harm() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let never = reactor.call_later(Duration::MAX, log.adds("never"));
    assert!(never.is_active() && never.delay(Duration::MAX) && never.reset(Duration::MAX));
    let handle = reactor.clone();
    reactor.call_later(SECOND, move || handle.stop());
    reactor.run().unwrap();
    log.check([]);
}

#[test]
fn a_cancelled_call_frees_what_it_holds_at_once() {
    let reactor = virtual_time_reactor();
    let held = Rc::new(());
    let (later, soon) = (Rc::clone(&held), Rc::clone(&held));
    let later = reactor.call_later(SECOND, move || drop(later));
    let soon = reactor.call_soon(move || drop(soon));
    assert_eq!(Rc::strong_count(&held), 3);
    assert!(later.cancel() && soon.cancel());
    assert_eq!(Rc::strong_count(&held), 1);
}
