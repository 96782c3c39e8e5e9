//! A swarm of simulations: what it says of a seed that fails.

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use torsade_deferred::Failure;
use torsade_reactor::testing::{Fault, FaultKind, FaultRates, Simulation, Swarm};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_swarm_names_the_seed_and_the_faults_that_a_failure_needs() {
    // Under these the environment asks for something else.
    if env::var_os("TORSADE_SEED").is_some() {
        return;
    }
    let fails = catch_unwind(|| {
        Swarm::new("cargo test this").seeds(1).run(|simulation| {
            let (one, two) = (simulation.host("one"), simulation.host("two"));
            simulation.inject_faults(&FaultRates {
                crashes: 10.0,
                ..FaultRates::default()
            });
            let mut crashed = false;
            for _ in 0..1000 {
                simulation.run_for(SECOND / 10);
                crashed |= !one.is_up() || !two.is_up();
            }
            assert!(!crashed, "somebody was down");
        });
    });
    let panic = fails.unwrap_err();
    let message = panic.downcast_ref::<String>().unwrap();
    assert!(message.contains("somebody was down"), "{message}");
    assert!(message.contains("=0 cargo test this"), "{message}");
    let faults: Vec<&str> = message
        .lines()
        .filter(|line| line.contains("from "))
        .collect();
    assert_eq!(faults.len(), 1, "{message}");
    assert!(faults[0].contains("Crash"), "{message}");
}

/// What a swarm of one seed says of a property that fails.
fn report_of(property: impl Fn(&Simulation)) -> String {
    let swarm = AssertUnwindSafe(|| Swarm::new("cargo test this").seeds(1).run(property));
    let panic = catch_unwind(swarm).expect_err("it fails");
    panic
        .downcast_ref::<String>()
        .expect("it is a report")
        .clone()
}

#[test]
fn a_swarm_names_the_faults_that_a_failure_needs_whoever_planned_them() {
    let asked = |simulation: &Simulation, at: u32| {
        // Drawn, and of no matter.
        simulation.inject_faults(&FaultRates {
            crashes: 0.0,
            until: simulation.now() + SECOND * 60,
            ..FaultRates::default()
        });
        let hosts = [simulation.host("one"), simulation.host("two")];
        simulation.run_for(SECOND * at);
        let crash = |host: usize, at: u32| Fault {
            at: simulation.now() + SECOND * at,
            lasts: SECOND,
            what: FaultKind::Crash(host),
        };
        simulation.set_faults(vec![crash(0, 1), crash(1, 20)]);
        for _ in 0..100 {
            simulation.run_for(SECOND / 10);
            assert!(hosts[0].is_up(), "it is down");
        }
    };
    let report = report_of(|simulation| asked(simulation, 0));
    assert!(report.contains("it is down"), "{report}");
    assert!(report.contains("for 1s: Crash(0)"), "{report}");
    assert_eq!(report.matches("from ").count(), 1, "{report}");
}

#[test]
fn a_swarm_keeps_two_plans_apart_and_says_what_a_smaller_one_came_to() {
    let report = report_of(|simulation| {
        let host = simulation.host("host");
        let crash = |at: u32| Fault {
            at: SECOND * at,
            lasts: SECOND,
            what: FaultKind::Crash(0),
        };
        let mut crashes = 0;
        for at in [1, 5] {
            simulation.set_faults(vec![crash(at), crash(at + 2)]);
            for _ in 0..8 {
                simulation.run_for(SECOND / 2);
                crashes += u32::from(!host.is_up());
            }
        }
        // Three of them last two of the steps each.
        assert!(crashes < 5, "{crashes} times down");
    });
    let faults: Vec<&str> = report
        .lines()
        .filter(|line| line.contains("from "))
        .collect();
    assert_eq!(faults.len(), 3, "{report}");
    assert!(
        faults.is_sorted() && faults[2].contains("from 7s"),
        "{report}"
    );
    assert!(report.contains("6 times down"), "{report}");
}

#[test]
fn a_panic_of_a_callback_is_told_however_many_failures_came_before() {
    let report = report_of(|simulation| {
        let reactor = simulation.host("host").reactor();
        for number in 0..20 {
            reactor.call_soon(move || {
                let failure = Failure::message(format!("failure {number}"));
                drop(torsade_deferred::fail::<(), Failure>(failure));
            });
        }
        reactor.call_soon(|| panic!("the cause"));
        simulation.run_until_idle();
    });
    let place = |text: &str| report.lines().position(|line| line.contains(text));
    assert!(place("the cause") < place("failure 0"), "{report}");
    assert!(
        place("the cause").is_some() && place("failure 19").is_none(),
        "{report}"
    );
}

#[test]
fn a_failure_that_nobody_handles_fails_its_seed() {
    let fails = catch_unwind(|| {
        Swarm::new("cargo test this").seeds(1).run(|simulation| {
            let host = simulation.host("host");
            host.reactor().call_soon(|| {
                drop(torsade_deferred::fail::<(), Failure>(Failure::message(
                    "nobody looks at this",
                )));
            });
            simulation.run_until_idle();
        });
    });
    let panic = fails.unwrap_err();
    let message = panic.downcast_ref::<String>().unwrap();
    assert!(message.contains("nobody looks at this"), "{message}");
    assert!(message.contains("it needs no fault"), "{message}");
}

#[test]
fn a_swarm_tells_the_failure_of_a_callback_together_with_what_came_of_it() {
    let fails = catch_unwind(|| {
        Swarm::new("cargo test this").seeds(1).run(|simulation| {
            let host = simulation.host("host");
            host.reactor().call_soon(|| {
                drop(torsade_deferred::fail::<(), Failure>(Failure::message(
                    "what nobody looks at",
                )));
            });
            host.reactor().call_soon(|| panic!("the cause"));
            simulation.run_until_idle();
            panic!("the consequence");
        });
    });
    let panic = fails.unwrap_err();
    let message = panic.downcast_ref::<String>().unwrap();
    // One a line: panics, other failures, and what the property says.
    let place = |text: &str| message.lines().position(|line| line.contains(text));
    let places = [
        "the cause",
        "what nobody looks at",
        "and then: the consequence",
    ]
    .map(place);
    assert!(places[0].is_some() && places.is_sorted(), "{message}");
    assert_ne!(places[0], places[1], "{message}");
}
