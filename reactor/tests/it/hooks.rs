//! Calls at fixed places: in the turn, at the start, at the stop.

use std::cell::{Cell, RefCell};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use torsade_deferred::{Deferred, Failure, Interrupted, succeed, unhandled};
use torsade_reactor::testing::virtual_time_reactor;
use torsade_reactor::{Hook, Phase, Place, task};

use crate::common::{End, Log, PanicsWhenDropped, connect, count_unhandled, reactor};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn hooks_of_a_turn_run_around_the_wait() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    for (place, line) in [
        (Place::Check, "check"),
        (Place::Prepare, "prepare"),
        (Place::Idle, "idle"),
    ] {
        reactor.add_hook(place, log.adds(line));
    }
    reactor.call_soon(log.adds("soon"));
    reactor.turn(Some(Duration::ZERO)).unwrap();
    log.check(["soon", "idle", "prepare", "check"]);
}

#[test]
fn an_idle_hook_keeps_the_loop_from_waiting() {
    let reactor = virtual_time_reactor();
    let begin = reactor.now();
    let hook = reactor.add_hook(Place::Idle, || ());
    reactor.call_later(SECOND, || ());
    reactor.turn(None).unwrap();
    assert_eq!(reactor.now(), begin);
    assert!(hook.remove() && !hook.remove());
    reactor.turn(None).unwrap();
    assert_eq!(reactor.now(), begin + SECOND);
}

#[test]
fn a_hook_may_remove_itself_and_add_another() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let own = Rc::new(RefCell::new(None::<Hook>));
    let (found, seen, handle) = (Rc::clone(&own), log.clone(), reactor.clone());
    let hook = reactor.add_hook(Place::Prepare, move || {
        seen.add("once");
        assert!(found.take().unwrap().remove());
        handle.add_hook(Place::Prepare, seen.adds("another"));
    });
    own.replace(Some(hook));
    for _ in 0..3 {
        reactor.turn(Some(Duration::ZERO)).unwrap();
    }
    log.check(["once", "another", "another"]);
}

#[test]
fn a_panic_in_a_hook_is_reported_and_the_hook_stays() {
    let reactor = virtual_time_reactor();
    let (unhandled, _guard) = count_unhandled();
    reactor.add_hook(Place::Check, || panic!("on purpose"));
    for _ in 0..2 {
        reactor.turn(Some(Duration::ZERO)).unwrap();
    }
    assert_eq!(unhandled.get(), 2);
}

#[test]
fn starting_and_stopping_have_three_phases_each() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    for (phase, start, stop) in [
        (Phase::After, "after start", "after stop"),
        (Phase::During, "during start", "during stop"),
        (Phase::Before, "before start", "before stop"),
    ] {
        reactor.on_startup(phase, log.adds(start));
        reactor.on_shutdown(phase, log.adds(stop));
    }
    reactor.call_when_running(log.adds("running"));
    let handle = reactor.clone();
    reactor.call_soon(move || handle.stop());
    reactor.run().unwrap();
    log.check([
        "before start",
        "during start",
        "after start",
        "running",
        "before stop",
        "during stop",
        "after stop",
    ]);
    // Each is called once: the next run has none of them.
    reactor.stop();
    reactor.run().unwrap();
    assert_eq!(log.lines().len(), 7);
}

#[test]
fn the_start_waits_for_what_the_hooks_before_it_return() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let (handle, seen) = (reactor.clone(), log.clone());
    reactor.on_startup(Phase::Before, move || {
        let (trigger, ready) = Deferred::<()>::new();
        handle.call_later(SECOND, move || {
            seen.add("ready");
            trigger.callback(());
        });
        ready
    });
    reactor.on_startup(Phase::During, log.adds("starts"));
    let (handle, seen) = (reactor.clone(), log.clone());
    reactor.call_when_running(move || {
        seen.add("runs");
        handle.stop();
    });
    reactor.run().unwrap();
    log.check(["ready", "starts", "runs"]);
}

#[test]
fn the_stop_waits_for_what_the_hooks_before_it_return_and_the_loop_goes_on_meanwhile() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let (handle, seen) = (reactor.clone(), log.clone());
    reactor.on_shutdown(Phase::Before, move || {
        seen.add("asked to stop");
        handle.call_later(SECOND, seen.adds("still at work"));
        let (trigger, saved) = Deferred::<()>::new();
        handle.call_later(2 * SECOND, move || trigger.callback(()));
        handle.stop();
        saved
    });
    reactor.on_shutdown(Phase::During, log.adds("stops"));
    let begin = reactor.now();
    reactor.stop();
    reactor.run().unwrap();
    log.check(["asked to stop", "still at work", "stops"]);
    assert_eq!(reactor.now() - begin, 2 * SECOND);
}

#[test]
fn a_hook_that_never_fires_cannot_keep_the_reactor_from_stopping() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let (trigger, never) = Deferred::<()>::new();
    let to_log = log.clone();
    let _guard = unhandled::set_hook(move |report| to_log.add(report));
    let line = line!() + 1;
    reactor.on_shutdown(Phase::Before, move || never);
    reactor.on_shutdown(Phase::Before, || succeed::<_, Failure>(()));
    reactor.on_shutdown(Phase::After, log.adds("stopped"));
    reactor.set_shutdown_limit(5 * SECOND);
    let begin = reactor.now();
    reactor.stop();
    reactor.run().unwrap();
    let lines = log.lines();
    assert_eq!((lines.len(), &*lines[1]), (2, "stopped"));
    let report = &lines[0];
    assert!(
        report.starts_with("a hook before the shutdown has not fired within 5s"),
        "{report}"
    );
    assert!(
        report.contains(&format!("asked for at {}:{line}:", file!())),
        "{report}"
    );
    assert_eq!(reactor.now() - begin, 5 * SECOND);
    trigger.callback(());
}

#[test]
fn a_failed_hook_is_reported_and_the_others_are_called() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let (unhandled, _guard) = count_unhandled();
    reactor.on_shutdown(Phase::Before, || {
        Err::<(), _>(Failure::message("cannot save"))
    });
    reactor.on_shutdown(Phase::Before, || -> () { panic!("on purpose") });
    reactor.on_shutdown(Phase::Before, log.adds("called"));
    let removed = reactor.on_shutdown(Phase::Before, log.adds("removed"));
    assert!(removed.remove());
    reactor.stop();
    reactor.run().unwrap();
    log.check(["called"]);
    assert_eq!(unhandled.get(), 2);
}

#[test]
fn a_panic_in_the_drop_of_a_hook_that_removes_itself_is_reported_and_no_more() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let (unhandled, _guard) = count_unhandled();
    let own = Rc::new(RefCell::new(None::<Hook>));
    let (found, bomb) = (Rc::clone(&own), PanicsWhenDropped);
    let hook = reactor.add_hook(Place::Prepare, move || {
        let _ = &bomb;
        found.take().unwrap().remove();
    });
    own.replace(Some(hook));
    reactor.add_hook(Place::Prepare, log.adds("the next"));
    reactor.turn(Some(Duration::ZERO)).unwrap();
    log.check(["the next"]);
    assert_eq!(unhandled.get(), 1);
}

#[test]
fn when_stopped_fires_after_the_hooks_before_and_the_end_of_connections() {
    let (reactor, log) = (reactor(), Log::default());
    let pair = connect(&reactor, End::new("client", &log), End::new("server", &log));
    let seen = log.clone();
    let stopped = reactor.when_stopped().map(move |()| seen.add("stopped"));
    reactor.on_shutdown(Phase::Before, log.adds("before"));
    reactor.on_shutdown(Phase::After, log.adds("after"));
    reactor.stop();
    reactor.run().unwrap();
    assert!(stopped.is_fired());
    let lines = log.lines();
    let at = |what: &str| lines.iter().position(|line| line == what).unwrap();
    let lost = |line: &String| line.contains("lost");
    let last_lost = lines.iter().rposition(lost).unwrap();
    assert!(at("before") < last_lost && last_lost < at("stopped") && at("stopped") < at("after"));
    drop(pair);
}

#[test]
fn when_stopped_is_for_one_stop_and_may_be_waited_for_anew() {
    let (reactor, count) = (virtual_time_reactor(), Rc::new(Cell::new(0)));
    for expected in 1..=2 {
        let counter = Rc::clone(&count);
        drop(
            reactor
                .when_stopped()
                .map(move |()| counter.set(counter.get() + 1)),
        );
        reactor.stop();
        reactor.run().unwrap();
        assert_eq!(count.get(), expected);
    }
}

#[test]
fn when_stopped_is_abandoned_with_its_reactor_and_cancelled_without_a_trace() {
    let reactor = virtual_time_reactor();
    let (waiting, cancelled) = (reactor.when_stopped(), reactor.when_stopped());
    cancelled.cancel();
    reactor.crash();
    reactor.run().unwrap();
    assert!(!waiting.is_fired(), "a crash is no stop");
    drop(reactor);
    let reason = |deferred: Deferred<()>| {
        let failure = deferred.into_result().unwrap().unwrap_err();
        failure.downcast_ref::<Interrupted>().cloned().unwrap()
    };
    assert!(matches!(reason(waiting), Interrupted::Abandoned { .. }));
    assert!(matches!(reason(cancelled), Interrupted::Cancelled));
}

#[test]
fn a_program_may_wait_for_the_stop_of_its_own_reactor() {
    let reactor = virtual_time_reactor();
    let code = task::react_with(&reactor, |reactor| {
        let weak = reactor.downgrade();
        reactor.call_later(SECOND, move || weak.upgrade().unwrap().stop());
        reactor.when_stopped()
    });
    assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::SUCCESS));
}

#[test]
fn what_a_hook_during_or_after_returns_is_not_waited_for() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let (triggers, begin) = (Rc::new(RefCell::new(Vec::new())), reactor.now());
    let never = |line: &'static str| {
        let (log, triggers) = (log.clone(), Rc::clone(&triggers));
        move || {
            log.add(line);
            let (trigger, never) = Deferred::<()>::new();
            triggers.borrow_mut().push(trigger);
            never
        }
    };
    for (phase, start, stop) in [
        (Phase::During, "during start", "during stop"),
        (Phase::After, "after start", "after stop"),
    ] {
        reactor.on_startup(phase, never(start));
        reactor.on_shutdown(phase, never(stop));
    }
    let handle = reactor.clone();
    reactor.call_soon(move || handle.stop());
    reactor.run().unwrap();
    log.check(["during start", "after start", "during stop", "after stop"]);
    assert_eq!(reactor.now(), begin);
}

#[test]
fn a_hook_of_any_phase_that_fails_is_reported_and_the_next_is_called() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let (unhandled, _guard) = count_unhandled();
    for phase in [Phase::Before, Phase::During, Phase::After] {
        reactor.on_startup(phase, || Err::<(), _>(Failure::message("cannot start")));
        reactor.on_startup(phase, log.adds("start"));
        reactor.on_shutdown(phase, || -> () { panic!("on purpose") });
        reactor.on_shutdown(phase, log.adds("stop"));
    }
    reactor.stop();
    reactor.run().unwrap();
    log.check(["start", "start", "start", "stop", "stop", "stop"]);
    assert_eq!(unhandled.get(), 6);
}

#[test]
fn a_hook_of_a_start_or_a_stop_that_was_called_is_gone() {
    let reactor = virtual_time_reactor();
    let hooks = [
        reactor.on_startup(Phase::Before, || ()),
        reactor.on_shutdown(Phase::Before, || ()),
    ];
    reactor.stop();
    reactor.run().unwrap();
    for hook in hooks {
        assert!(!hook.remove(), "{hook:?}");
    }
}
