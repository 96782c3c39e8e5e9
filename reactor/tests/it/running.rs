//! Running, stopping, running again; and what happens to those who ask at the wrong time.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use torsade_deferred::{Deferred, Failure, Interrupted, succeed};
use torsade_reactor::testing::virtual_time_reactor;
use torsade_reactor::{Phase, Reactor, RunError, Settle, Transport};

use crate::common::{End, Log, connect, count_unhandled, reactor, run_while};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_reactor_runs_again_after_it_was_stopped() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    for line in ["first", "second"] {
        let (handle, seen) = (reactor.clone(), log.clone());
        reactor.call_later(SECOND, move || {
            seen.add(line);
            handle.stop();
        });
        reactor.run().unwrap();
    }
    log.check(["first", "second"]);
}

#[test]
fn stop_lets_the_turn_finish_and_keeps_what_is_scheduled_later() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let handle = reactor.clone();
    reactor.call_soon(move || handle.stop());
    reactor.call_soon(log.adds("same turn"));
    reactor.call_later(SECOND, log.adds("next run"));
    reactor.run().unwrap();
    log.check(["same turn"]);
    let handle = reactor.clone();
    reactor.call_later(2 * SECOND, move || handle.stop());
    reactor.run().unwrap();
    log.check(["same turn", "next run"]);
}

#[test]
fn stop_before_run_ends_the_run_after_one_turn() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    reactor.call_soon(log.adds("one turn"));
    reactor.stop();
    reactor.stop();
    reactor.run().unwrap();
    log.check(["one turn"]);
}

#[test]
fn running_inside_running_is_an_error_and_changes_nothing() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let (handle, seen) = (reactor.clone(), log.clone());
    reactor.call_soon(move || {
        assert!(handle.is_running());
        for outcome in [handle.run(), handle.turn(None), handle.turn(Some(SECOND))] {
            assert!(matches!(outcome, Err(RunError::AlreadyRunning)));
        }
        let until = handle.run_until(succeed::<_, Failure>(()));
        assert!(matches!(
            until.unwrap_err().downcast_ref(),
            Some(RunError::AlreadyRunning)
        ));
        seen.add("all refused");
        handle.stop();
    });
    let (unhandled, _guard) = count_unhandled();
    reactor.run().unwrap();
    assert!(!reactor.is_running());
    log.check(["all refused"]);
    assert_eq!(unhandled.get(), 0);
}

#[test]
fn run_until_gives_the_result_and_leaves_everything_in_place() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let (trigger, deferred) = Deferred::<u32>::new();
    reactor.call_later(2 * SECOND, log.adds("later"));
    reactor.call_later(SECOND, move || trigger.callback(42));
    assert_eq!(reactor.run_until(deferred).unwrap(), 42);
    log.check([]);
    let (trigger, deferred) = Deferred::<()>::new();
    reactor.call_later(SECOND, move || trigger.errback(Failure::message("broken")));
    assert_eq!(
        reactor.run_until(deferred).unwrap_err().to_string(),
        "broken"
    );
    log.check(["later"]);
    assert!(reactor.run_until(succeed::<_, Failure>(())).is_ok());
}

#[test]
fn stop_cancels_what_run_until_waits_for() {
    let reactor = virtual_time_reactor();
    let (trigger, deferred) = Deferred::<()>::new();
    let cancelled = Rc::new(Cell::new(false));
    let flag = Rc::clone(&cancelled);
    trigger.on_cancel(move || flag.set(true));
    let handle = reactor.clone();
    reactor.call_later(SECOND, move || handle.stop());
    let failure = reactor.run_until(deferred).unwrap_err();
    assert!(
        matches!(failure.downcast_ref(), Some(RunError::Stopped)),
        "{failure:?}"
    );
    assert!(cancelled.get());
    drop(trigger);
}

#[test]
fn crash_leaves_the_loop_and_keeps_connections() {
    let (reactor, log) = (reactor(), Log::default());
    let pair = connect(&reactor, End::new("client", &log), End::new("server", &log));
    let handle = reactor.clone();
    reactor.call_soon(move || handle.crash());
    reactor.run().unwrap();
    assert!(pair.client.is_connected() && pair.server.is_connected());
    assert_eq!(log.lines().len(), 2);
}

#[test]
fn stop_loses_connections_and_ports() {
    let (reactor, log) = (reactor(), Log::default());
    let pair = connect(&reactor, End::new("client", &log), End::new("server", &log));
    let port = reactor
        .listen_tcp("127.0.0.1:0", |_: &_| None::<End>)
        .unwrap();
    reactor.stop();
    reactor.run().unwrap();
    assert!(!pair.client.is_connected() && !port.is_listening());
    let mut lost = log.lines().split_off(2);
    lost.sort();
    assert_eq!(lost, ["client lost: Stopped", "server lost: Stopped"]);
}

#[test]
fn dropping_the_last_handle_loses_what_is_left() {
    let log = Log::default();
    let reactor = reactor();
    let pair = connect(&reactor, End::new("client", &log), End::new("server", &log));
    let held = Rc::new(());
    let (later, soon) = (Rc::clone(&held), Rc::clone(&held));
    reactor.call_later(SECOND, move || drop(later));
    reactor.call_soon(move || drop(soon));
    drop(reactor);
    assert_eq!(Rc::strong_count(&held), 1);
    assert_eq!(log.lines().len(), 4);
    // What is kept of it does no harm.
    pair.client.write(b"into the void");
    pair.client.abort_connection();
    pair.client
        .call(|_, _| unreachable!("nobody sits there any more"));
    drop(pair.client.reactor().call_soon(|| ()));
}

#[test]
fn two_reactors_in_one_thread_do_not_disturb_each_other() {
    let (inner, outer, log) = (
        virtual_time_reactor(),
        virtual_time_reactor(),
        Log::default(),
    );
    inner.call_later(SECOND, log.adds("inner"));
    let (driven, handle, seen) = (inner.clone(), outer.clone(), log.clone());
    outer.call_soon(move || {
        seen.add("outer");
        driven.turn(Some(SECOND)).unwrap();
        driven.turn(Some(Duration::ZERO)).unwrap();
        handle.stop();
    });
    outer.run().unwrap();
    log.check(["outer", "inner"]);
}

#[test]
fn a_panic_in_a_call_is_reported_and_the_loop_goes_on() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let reports = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&reports);
    let _guard = torsade_deferred::unhandled::set_hook(move |report| {
        // The line that scheduled the call, not one of ours.
        assert!(report.created().file().ends_with("running.rs"), "{report}");
        seen.borrow_mut().push(
            report
                .failure()
                .and_then(|failure| failure.downcast_ref().cloned()),
        );
    });
    reactor.call_soon(|| panic!("on purpose"));
    reactor.call_soon(log.adds("goes on"));
    reactor.turn(Some(Duration::ZERO)).unwrap();
    log.check(["goes on"]);
    assert!(
        matches!(&reports.borrow()[..], [Some(Interrupted::Panicked { message })] if &**message == "on purpose")
    );
}

#[test]
fn every_reactor_has_its_own_descriptor_and_gives_it_back() {
    // More than a process may have open at once by default.
    for _ in 0..2_000 {
        let reactor = Reactor::new().unwrap();
        run_while(&reactor, || false);
    }
}

/// Runs `reactor` until a call that stops it; true if that call was made.
fn next_run_lasts(reactor: &Reactor) -> bool {
    let made = Rc::new(Cell::new(false));
    let (flag, handle) = (Rc::clone(&made), reactor.clone());
    reactor.call_later(Duration::from_millis(30), move || {
        flag.set(true);
        handle.stop();
    });
    reactor.run().unwrap();
    made.get()
}

#[test]
fn a_run_after_a_run_until_that_was_stopped_lasts_until_it_is_stopped() {
    let reactor = reactor();
    let (_trigger, never) = Deferred::<()>::new();
    let handle = reactor.clone();
    reactor.call_soon(move || handle.stop());
    reactor.run_until(never).unwrap_err();
    assert!(next_run_lasts(&reactor));
}

#[test]
fn a_result_that_comes_after_its_run_until_gave_up_ends_no_other_run() {
    let reactor = virtual_time_reactor();
    let (late, waited_for) = Deferred::<()>::new();
    // Nothing is scheduled: virtual time says so.
    reactor.run_until(waited_for).unwrap_err();
    let (trigger, deferred) = Deferred::<u8>::new();
    reactor.call_later(Duration::from_secs(1), move || late.callback(()));
    reactor.call_later(Duration::from_secs(2), move || trigger.callback(7));
    assert_eq!(reactor.run_until(deferred).unwrap(), 7);
}

#[test]
fn stopping_again_while_it_stops_does_not_end_the_next_run() {
    let reactor = reactor();
    let handle = reactor.clone();
    // What a client's connection_lost does, as a rule.
    reactor.on_shutdown(Phase::During, move || handle.stop());
    let handle = reactor.clone();
    reactor.call_soon(move || handle.stop());
    reactor.run().unwrap();
    assert!(next_run_lasts(&reactor));
}

#[test]
fn a_stop_in_the_turn_in_which_the_result_comes_is_a_stop() {
    let reactor = reactor();
    let shut_down = Rc::new(Cell::new(false));
    let flag = Rc::clone(&shut_down);
    reactor.on_shutdown(Phase::During, move || flag.set(true));
    let (trigger, deferred) = Deferred::<u8>::new();
    let handle = reactor.clone();
    reactor.call_soon(move || {
        handle.stop();
        trigger.callback(1);
    });
    assert_eq!(reactor.run_until(deferred).unwrap(), 1);
    assert!(
        shut_down.get() || next_run_lasts(&reactor),
        "neither stopped nor forgotten"
    );
}

#[test]
fn a_result_that_comes_while_it_shuts_down_leaves_no_half_done_shutdown() {
    let reactor = reactor();
    let (go_on, before) = Deferred::<()>::new();
    let before = Cell::new(Some(before));
    reactor.on_shutdown(Phase::Before, move || before.take().unwrap());
    let (trigger, deferred) = Deferred::<u8>::new();
    let handle = reactor.clone();
    reactor.call_soon(move || handle.stop());
    reactor.call_later(Duration::from_millis(5), move || trigger.callback(1));
    reactor.call_later(Duration::from_millis(10), move || go_on.callback(()));
    let _ = reactor.run_until(deferred);
    assert!(next_run_lasts(&reactor));
}

#[test]
fn a_call_for_when_it_runs_waits_for_the_start_also_if_asked_during_it() {
    let (reactor, log) = (reactor(), Log::default());
    let (go_on, before) = Deferred::<()>::new();
    let before = Cell::new(Some(before));
    reactor.on_startup(Phase::Before, move || before.take().unwrap());
    reactor.call_when_running(log.adds("asked before"));
    let (handle, adds) = (reactor.clone(), log.adds("asked during"));
    reactor.call_soon(move || {
        let stop = handle.clone();
        handle.call_when_running(move || {
            adds();
            stop.stop();
        });
    });
    let adds = log.adds("started");
    reactor.call_later(Duration::from_millis(10), move || {
        adds();
        go_on.callback(());
    });
    reactor.run().unwrap();
    log.check(["started", "asked before", "asked during"]);
}

#[test]
fn a_start_that_was_stopped_does_not_hold_up_the_next_one() {
    let (reactor, log) = (reactor(), Log::default());
    let (_never, before) = Deferred::<()>::new();
    let before = Cell::new(Some(before));
    reactor.on_startup(Phase::Before, move || before.take().unwrap());
    let handle = reactor.clone();
    reactor.call_soon(move || handle.stop());
    reactor.run().unwrap();
    reactor.call_when_running(log.adds("running"));
    assert!(next_run_lasts(&reactor));
    log.check(["running"]);
}

/// Something written to or closed, that logs when that is done.
struct Layer(Log);

impl Settle for Layer {
    fn settle(self: Rc<Self>) {
        self.0.add("settled");
    }
}

#[test]
fn a_turn_that_does_what_was_asked_for_outside_does_not_wait_then() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let before = reactor.now();
    reactor.settle_later(Rc::new(Layer(log.clone())));
    reactor.turn(Some(10 * SECOND)).unwrap();
    log.check(["settled"]);
    assert_eq!(reactor.now(), before, "its caller hears of it late");
    reactor.turn(Some(10 * SECOND)).unwrap();
    assert_eq!(reactor.now(), before + 10 * SECOND);
}

#[test]
fn a_turn_may_be_given_any_length() {
    let reactor = virtual_time_reactor();
    reactor.turn(Some(Duration::MAX)).unwrap();
    reactor.turn(Some(Duration::MAX)).unwrap();
    let reactor = crate::common::reactor();
    let remote = reactor.remote();
    let thread = std::thread::spawn(move || remote.call_from_thread(|_| ()));
    reactor.turn(Some(Duration::MAX)).unwrap();
    thread.join().unwrap();
}

#[test]
fn a_panic_in_a_call_of_any_kind_is_reported_and_the_next_one_is_made() {
    thread_local! {
        static MADE: Cell<usize> = const { Cell::new(0) };
    }
    type Asks = fn(&Reactor, fn());
    let kinds: [(&str, Asks); 5] = [
        ("soon", |reactor, call| drop(reactor.call_soon(call))),
        ("later", |reactor, call| {
            drop(reactor.call_later(Duration::ZERO, call));
        }),
        ("at", |reactor, call| {
            drop(reactor.call_at(reactor.now(), call));
        }),
        ("when running", |reactor, call| {
            reactor.call_when_running(call);
        }),
        ("from a thread", |reactor, call| {
            reactor.remote().call_from_thread(move |_| call());
        }),
    ];
    for (kind, asks) in kinds {
        let reactor = virtual_time_reactor();
        let (unhandled, _guard) = count_unhandled();
        MADE.set(0);
        asks(&reactor, || panic!("on purpose"));
        asks(&reactor, || MADE.set(MADE.get() + 1));
        reactor.turn(Some(Duration::ZERO)).unwrap();
        assert_eq!((unhandled.get(), MADE.get()), (1, 1), "{kind}");
    }
}

/// A transport whose peer keeps what it hears.
fn with_listening_peer(reactor: &Reactor) -> (Transport<End>, Rc<RefCell<Vec<u8>>>) {
    let log = Log::default();
    let server = End::new("server", &log);
    let heard = Rc::clone(&server.received);
    let pair = connect(reactor, End::new("client", &log), server);
    (pair.client, heard)
}

#[test]
fn each_of_two_reactors_in_one_thread_is_used_from_the_others_callbacks() {
    let (first, second, log) = (reactor(), reactor(), Log::default());
    let (to_first, heard_by_first) = with_listening_peer(&first);
    let (to_second, heard_by_second) = with_listening_peer(&second);
    let (one, two, seen) = (first.clone(), second.clone(), log.clone());
    first.call_soon(move || {
        seen.add("a call of the first");
        to_second.write("from the first");
        let (back, lines) = (one.clone(), seen.clone());
        two.call_soon(move || {
            lines.add("a call of the second, asked for in the first");
            to_first.write("from the second");
            let stop = back.clone();
            back.call_later(Duration::ZERO, move || {
                lines.add("a call of the first, asked for in the second");
                stop.stop();
            });
        });
        // One inside the other, which the first one's run goes on after.
        while heard_by_second.borrow().is_empty() {
            two.turn(Some(SECOND)).unwrap();
        }
        assert!(matches!(one.turn(None), Err(RunError::AlreadyRunning)));
        assert_eq!(*heard_by_second.borrow(), b"from the first");
        assert!(!two.is_running() && one.is_running());
    });
    while heard_by_first.borrow().is_empty() || log.lines().len() < 3 {
        first.turn(Some(SECOND)).unwrap();
    }
    assert_eq!(*heard_by_first.borrow(), b"from the second");
    log.check([
        "a call of the first",
        "a call of the second, asked for in the first",
        "a call of the first, asked for in the second",
    ]);
}
