//! The examples that speak UDP.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use torsade::deferred::Failure;
use torsade::reactor::MulticastInterface;
use torsade::reactor::testing::{FaultRates, Host, Latency, Link, Simulation, Swarm};

use crate::examples::{udp_announce, udp_echo};

fn ask(client: &Host, host: &str, question: &str) -> Result<String, Failure> {
    let reactor = client.reactor();
    reactor.run_until(udp_echo::ask(&reactor, host, 8007, question))
}

/// A server, a client, and a network that loses a third of what is sent.
fn bad_network(simulation: &Simulation) -> (Host, Host) {
    let (server, client) = (simulation.host("server"), simulation.host("client"));
    server.start(|reactor| {
        drop(udp_echo::listen(reactor, ":8007").expect("the port is free"));
    });
    let bad = Link {
        loss: 0.3,
        duplication: 0.2,
        reordering: 0.2,
        ..Link::with_latency(Latency::LongTail {
            min: Duration::from_millis(1),
            step: Duration::from_millis(20),
        })
    };
    simulation.set_link(&server, &client, bad);
    (server, client)
}

#[test]
fn a_question_is_answered_though_datagrams_are_lost_doubled_and_late() {
    Swarm::new("cargo test a_question_is_answered_though")
        .seeds(100)
        .run(|simulation| {
            let (_server, client) = bad_network(simulation);
            for number in 0..5 {
                let question = format!("question {number}");
                // Ten tries of which half get through both ways: one in a thousand fails.
                match ask(&client, "server", &question) {
                    Ok(answer) => assert_eq!(answer, question),
                    Err(failure) => assert!(failure.check::<udp_echo::NoAnswer>()),
                }
            }
        });
}

#[test]
fn a_server_that_is_gone_is_told_apart_from_one_that_is_silent() {
    let simulation = Simulation::new(2);
    let (server, client) = (simulation.host("server"), simulation.host("client"));
    let refused = ask(&client, "server", "hello").expect_err("nobody listens");
    assert!(refused.to_string().contains("nobody listens"), "{refused}");
    server.start(|reactor| {
        drop(udp_echo::listen(reactor, ":8007").expect("the port is free"));
    });
    assert_eq!(
        ask(&client, "server", "hello").expect("it answers"),
        "hello"
    );
    simulation.partition(&server, &client);
    let before = simulation.now();
    let silent = ask(&client, "server", "hello").expect_err("nothing gets through");
    assert!(silent.check::<udp_echo::NoAnswer>(), "{silent}");
    // And the name was looked up before.
    let took = simulation.now() - before - udp_echo::PATIENCE * udp_echo::TRIES;
    assert!(took < udp_echo::PATIENCE, "{took:?}");
    simulation.heal(&server, &client);
    assert_eq!(
        ask(&client, "server", "hello").expect("it answers"),
        "hello"
    );
}

#[test]
fn every_question_has_one_outcome_under_all_faults() {
    Swarm::new("cargo test every_question_has_one_outcome")
        .seeds(50)
        .run(|simulation| {
            let (_server, client) = bad_network(simulation);
            simulation.inject_faults(&FaultRates {
                until: Duration::from_secs(20),
                lasts_max: Duration::from_secs(3),
                crashes: 10.0,
                mortals: vec![0],
                ..FaultRates::default()
            });
            let mut answered = 0;
            for number in 0..20 {
                let question = format!("question {number}");
                answered += usize::from(ask(&client, "server", &question).is_ok());
            }
            assert!(answered > 0);
            let left = client.reactor().dump();
            assert!(left.is_empty(), "{left}");
        });
}

#[test]
fn those_who_announce_themselves_know_who_comes_and_goes() {
    let simulation = Simulation::new(3);
    let lines: Rc<RefCell<Vec<String>>> = Rc::default();
    let hosts: Vec<_> = ["ann", "bob", "zoe"]
        .into_iter()
        .map(|name| {
            let (host, lines) = (simulation.host(name), Rc::clone(&lines));
            host.start(move |reactor| {
                let lines = Rc::clone(&lines);
                let print = move |line: &str| {
                    lines.borrow_mut().push(format!("{name}: {line}"));
                };
                let announced =
                    udp_announce::announce(reactor, name, MulticastInterface::Any, print);
                drop(announced.expect("the port is free"));
            });
            host
        })
        .collect();
    let said = || {
        let mut said = lines.take();
        said.sort_unstable();
        said
    };
    simulation.run_for(udp_announce::PERIOD * 2);
    assert_eq!(
        said(),
        [
            "ann: bob is here, on 10.0.0.2",
            "ann: zoe is here, on 10.0.0.3",
            "bob: ann is here, on 10.0.0.1",
            "bob: zoe is here, on 10.0.0.3",
            "zoe: ann is here, on 10.0.0.1",
            "zoe: bob is here, on 10.0.0.2",
        ]
    );
    hosts[1].crash();
    simulation.run_for(udp_announce::GONE * 2);
    assert_eq!(said(), ["ann: bob has gone", "zoe: bob has gone"]);
    hosts[1].restart();
    simulation.run_for(udp_announce::PERIOD * 2);
    assert_eq!(
        said(),
        [
            "ann: bob is here, on 10.0.0.2",
            "bob: ann is here, on 10.0.0.1",
            "bob: zoe is here, on 10.0.0.3",
            "zoe: bob is here, on 10.0.0.2",
        ]
    );
}
