//! Hosts that are driven from outside, by their reactors, and hosts that crash meanwhile.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use torsade_deferred::{Deferred, Failure};
use torsade_reactor::testing::{Fault, FaultKind, Host, Simulation};
use torsade_reactor::{Phase, Place, Reactor};

use crate::common::Log;

const SECOND: Duration = Duration::from_secs(1);

/// Drives a host for so long.
fn sleep(reactor: &Reactor, time: Duration) -> Result<(), Failure> {
    let (trigger, deferred) = Deferred::<()>::new();
    reactor.call_later(time, || trigger.callback(()));
    reactor.run_until(deferred)
}

#[test]
fn a_host_that_crashes_under_run_until_says_so_whoever_crashes_it() {
    let by_plan: fn(&Simulation, &Host) = |simulation, _| {
        simulation.set_faults(vec![Fault {
            at: SECOND,
            lasts: SECOND,
            what: FaultKind::Crash(0),
        }]);
    };
    let by_itself: fn(&Simulation, &Host) = |_, host| {
        let own = host.clone();
        host.reactor().call_later(SECOND, move || own.crash());
    };
    let by_another_with_restart: fn(&Simulation, &Host) = |simulation, host| {
        let victim = host.clone();
        let other = simulation.host("other");
        other.reactor().call_later(SECOND, move || {
            victim.crash();
            victim.restart();
        });
    };
    for crash in [by_plan, by_itself, by_another_with_restart] {
        let simulation = Simulation::new(1);
        let (host, lives) = (simulation.host("host"), Rc::new(Cell::new(0)));
        let count = Rc::clone(&lives);
        host.start(move |_| count.set(count.get() + 1));
        crash(&simulation, &host);
        let former = host.reactor();
        let slept = sleep(&former, SECOND * 5);
        let failure = slept.expect_err("its machine is down").to_string();
        assert!(failure.contains("the host has crashed"), "{failure}");
        assert_eq!(simulation.now(), SECOND);
        // Nor does it run ever again; what the world drives does.
        assert!(former.turn(Some(Duration::ZERO)).is_err());
        assert!(former.run().is_err() && former.close().is_err());
        simulation.run_for(SECOND * 2);
        host.restart();
        assert_eq!(lives.get(), 2);
        let slept = sleep(&host.reactor(), SECOND);
        slept.expect("the new life goes on");
    }
}

#[test]
fn a_reactor_that_is_left_when_its_simulation_is_over_does_not_wait_for_ever() {
    let simulation = Simulation::new(1);
    let reactor = simulation.host("host").reactor();
    drop(simulation);
    let slept = sleep(&reactor, SECOND);
    let failure = slept.expect_err("no time passes any more").to_string();
    assert!(failure.contains("the simulation is over"), "{failure}");
}

#[test]
fn after_a_crash_no_hook_no_post_and_no_call_of_the_start_is_called() {
    // Each adds what crashes the host, and something after it.
    type Program = fn(&Reactor, Host, Log);
    let programs: [(&str, Program); 8] = [
        ("soon, then hooks", |reactor, host, log| {
            reactor.add_hook(Place::Idle, log.adds("idle"));
            reactor.add_hook(Place::Prepare, log.adds("prepare"));
            reactor.add_hook(Place::Check, log.adds("check"));
            reactor.call_soon(move || host.crash());
        }),
        ("hooks of one place", |reactor, host, log| {
            reactor.add_hook(Place::Check, move || host.crash());
            reactor.add_hook(Place::Check, log.adds("check"));
            reactor.call_later(SECOND / 2, || ());
        }),
        ("posts", |reactor, host, log| {
            // What is posted could go to another thread, and a host could not.
            thread_local! {
                static KEPT: RefCell<Option<(Host, Log)>> = const { RefCell::new(None) };
            }
            let taken = || KEPT.take().expect("it is kept since a moment");
            KEPT.replace(Some((host, log)));
            let remote = reactor.remote();
            remote.call_from_thread(move |_| {
                let (host, log) = taken();
                host.crash();
                KEPT.replace(Some((host, log)));
            });
            remote.call_from_thread(move |_| taken().1.add("post"));
        }),
        ("when running", |reactor, host, log| {
            reactor.call_when_running(move || host.crash());
            reactor.call_when_running(log.adds("when running"));
        }),
        ("startup", |reactor, host, log| {
            reactor.on_startup(Phase::Before, move || host.crash());
            reactor.on_startup(Phase::Before, log.adds("before"));
            reactor.on_startup(Phase::During, log.adds("during"));
        }),
        ("shutdown", |reactor, host, log| {
            reactor.on_shutdown(Phase::Before, move || host.crash());
            reactor.on_shutdown(Phase::Before, log.adds("before"));
            reactor.on_shutdown(Phase::During, log.adds("during"));
            reactor.stop();
        }),
        ("stop before", |reactor, host, log| {
            reactor.on_shutdown(Phase::During, log.adds("during"));
            let own = reactor.clone();
            reactor.call_soon(move || {
                own.stop();
                host.crash();
            });
        }),
        ("what is begun after it", |reactor, host, log| {
            let own = reactor.clone();
            reactor.call_soon(move || {
                host.crash();
                own.call_soon(log.adds("soon"));
                own.call_later(Duration::ZERO, log.adds("later"));
                own.add_hook(Place::Check, log.adds("check"));
            });
        }),
    ];
    for (name, program) in programs {
        for is_driven in [false, true] {
            let (simulation, log) = (Simulation::new(1), Log::default());
            let host = simulation.host("host");
            let (own, lines) = (host.clone(), log.clone());
            if is_driven {
                program(&host.reactor(), own, lines);
                let failure = host.reactor().run().expect_err(name).to_string();
                assert!(failure.contains("the host has crashed"), "{failure}");
            } else {
                host.start(move |reactor| program(reactor, own.clone(), lines.clone()));
            }
            simulation.run_for(SECOND);
            assert!(!host.is_up(), "{name}");
            assert!(log.lines().is_empty(), "{name}: {:?}", log.lines());
            drop(simulation);
            assert!(log.lines().is_empty(), "{name}: {:?}", log.lines());
        }
    }
}

#[test]
fn a_step_from_inside_a_callback_leaves_its_host_alone_whoever_drives_it() {
    let (simulation, log) = (Rc::new(Simulation::new(1)), Log::default());
    let (one, two) = (simulation.host("one"), simulation.host("two"));
    let (world, lines) = (Rc::downgrade(&simulation), log.clone());
    one.reactor().call_later(SECOND, move || {
        lines.add("one, 1 s");
        if let Some(world) = world.upgrade() {
            world.run_for(SECOND * 2);
        }
        lines.add("one, 1 s: done");
    });
    one.reactor()
        .call_later(SECOND * 2, log.adds("one, 2 s, late"));
    let (other, lines) = (two.clone(), log.clone());
    one.reactor().call_later(SECOND * 4, move || {
        let reactor = other.reactor();
        let slept = sleep(&reactor, SECOND * 2);
        slept.expect("the other one is free");
        lines.add("one, 4 s: done");
    });
    one.reactor()
        .call_later(SECOND * 5, log.adds("one, 5 s, late"));
    two.reactor().call_later(SECOND * 2, log.adds("two, 2 s"));
    let reactor = one.reactor();
    sleep(&reactor, SECOND * 7).expect("it goes on");
    log.check([
        "one, 1 s",
        "two, 2 s",
        "one, 1 s: done",
        "one, 2 s, late",
        "one, 4 s: done",
        "one, 5 s, late",
    ]);
    assert_eq!(simulation.now(), SECOND * 7);
}

#[test]
fn a_host_that_is_driven_from_outside_takes_its_turn_among_the_others() {
    let mut orders = HashSet::new();
    for seed in 0..50 {
        let (simulation, log) = (Simulation::new(seed), Log::default());
        let (one, two) = (simulation.host("one"), simulation.host("two"));
        one.reactor().call_later(SECOND, log.adds("one"));
        two.reactor().call_later(SECOND, log.adds("two"));
        sleep(&one.reactor(), SECOND * 2).expect("it goes on");
        orders.insert(log.lines());
    }
    assert_eq!(orders.len(), 2, "{orders:?}");
}

#[test]
fn a_wait_beyond_all_time_ends_when_something_happens() {
    let simulation = Simulation::new(1);
    let (one, two) = (simulation.host("one"), simulation.host("two"));
    let far = one.reactor();
    let failure = far
        .turn(Some(Duration::MAX))
        .expect_err("nothing is to come");
    assert!(failure.to_string().contains("nothing"), "{failure}");
    let remote = far.remote();
    two.reactor()
        .call_later(SECOND, move || remote.call_from_thread(|_| ()));
    far.turn(Some(Duration::MAX)).expect("it is woken");
    assert_eq!(simulation.now(), SECOND);
}
