//! Addresses have names, and the hosts of a simulation are found by theirs.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use torsade_deferred::{Deferred, Failure, Interrupted, Trigger, fail, succeed};
use torsade_reactor::testing::{Simulation, failure_of, success_of, virtual_time_reactor};
use torsade_reactor::{Hosts, Reactor, Resolve, Unsupported};

const DOCUMENTATION: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// Says which addresses it was asked for.
#[derive(Clone, Default)]
struct Asked(Rc<RefCell<Vec<IpAddr>>>);

impl Resolve for Asked {
    fn resolve(&self, _: &Reactor, _: &str, _: u16) -> Deferred<Vec<SocketAddr>> {
        fail(Failure::message("only addresses are looked up here"))
    }

    fn reverse_lookup(&self, _: &Reactor, ip: IpAddr) -> Deferred<String> {
        self.0.borrow_mut().push(ip);
        succeed("asked.test".to_owned())
    }
}

/// Looks names up, and leaves addresses to the system.
struct OnlyNames;

impl Resolve for OnlyNames {
    fn resolve(&self, _: &Reactor, _: &str, _: u16) -> Deferred<Vec<SocketAddr>> {
        fail(Failure::message("no name is looked up here"))
    }
}

/// Never answers, and keeps whoever asks waiting.
#[derive(Clone, Default)]
struct Silent {
    names: Rc<RefCell<Vec<Trigger<Vec<SocketAddr>>>>>,
    addresses: Rc<RefCell<Vec<Trigger<String>>>>,
}

impl Resolve for Silent {
    fn resolve(&self, _: &Reactor, _: &str, _: u16) -> Deferred<Vec<SocketAddr>> {
        let (trigger, deferred) = Deferred::new();
        self.names.borrow_mut().push(trigger);
        deferred
    }

    fn reverse_lookup(&self, _: &Reactor, _: IpAddr) -> Deferred<String> {
        let (trigger, deferred) = Deferred::new();
        self.addresses.borrow_mut().push(trigger);
        deferred
    }
}

#[track_caller]
fn check_timed_out<T: 'static>(reactor: &Reactor, answer: Deferred<T>) {
    let begun = reactor.now();
    let failure = reactor
        .run_until(answer.map(drop))
        .expect_err("nobody answers");
    let interrupted = failure.downcast_ref::<Interrupted>();
    assert!(
        matches!(interrupted, Some(Interrupted::TimedOut { .. })),
        "{failure}"
    );
    assert_eq!(reactor.now() - begun, Duration::from_secs(30));
}

#[test]
fn a_lookup_that_is_not_answered_fails_after_its_time() {
    let (reactor, silent) = (virtual_time_reactor(), Silent::default());
    reactor.set_resolver(silent.clone());
    check_timed_out(&reactor, reactor.resolve("silent.test", 80));
    check_timed_out(&reactor, reactor.reverse_lookup(DOCUMENTATION));
    // The resolver is told that nobody waits any more, and an answer that comes now is nobody's.
    assert!(
        silent
            .names
            .borrow()
            .iter()
            .all(|trigger| !trigger.is_open())
    );
    for trigger in silent.names.take() {
        trigger.callback(Vec::new());
    }
}

#[track_caller]
fn check_nobody(answer: Deferred<String>) {
    let failure = failure_of(answer);
    let error = failure.downcast_ref::<io::Error>().expect("the system's");
    assert_eq!(error.kind(), io::ErrorKind::NotFound, "{failure}");
}

#[test]
fn the_system_knows_what_its_own_address_is_called() {
    let reactor = Reactor::new().expect("there are descriptors");
    for resolver in [None, Some(OnlyNames)] {
        if let Some(resolver) = resolver {
            reactor.set_resolver(resolver);
        }
        let name = reactor.run_until(reactor.reverse_lookup(Ipv4Addr::LOCALHOST));
        // Most often `localhost`; what `/etc/hosts` calls it is not for us to say.
        assert!(!name.expect("it is in /etc/hosts").is_empty());
    }
}

#[test]
fn the_programs_own_resolver_names_addresses_and_is_asked_in_one_shape() {
    let (reactor, asked) = (virtual_time_reactor(), Asked::default());
    reactor.set_resolver(asked.clone());
    let v4 = Ipv4Addr::new(192, 0, 2, 1);
    for ip in [IpAddr::V4(v4), IpAddr::V6(v4.to_ipv6_mapped())] {
        assert_eq!(success_of(reactor.reverse_lookup(ip)), "asked.test");
    }
    assert_eq!(*asked.0.borrow(), [DOCUMENTATION; 2]);
}

#[test]
fn a_table_of_hosts_calls_an_address_by_the_first_name_it_was_added_to() {
    let (reactor, asked) = (virtual_time_reactor(), Asked::default());
    let hosts = Hosts::new()
        .host("Zebra.test", [DOCUMENTATION])
        .host("ant.test", [DOCUMENTATION, [192, 0, 2, 2].into()])
        .host("bücher.test", [[192, 0, 2, 3]]);
    reactor.set_resolver(hosts.clone());
    for (last, name) in [
        (1, "zebra.test"),
        (2, "ant.test"),
        (3, "xn--bcher-kva.test"),
    ] {
        let found = reactor.reverse_lookup([192, 0, 2, last]);
        assert_eq!(success_of(found), name);
    }
    check_nobody(reactor.reverse_lookup([192, 0, 2, 4]));
    reactor.set_resolver(hosts.or_else(asked));
    let found = reactor.reverse_lookup([192, 0, 2, 4]);
    assert_eq!(success_of(found), "asked.test");
}

#[test]
fn a_world_without_a_network_says_so() {
    let reactor = virtual_time_reactor();
    let answer = reactor.run_until(reactor.reverse_lookup(DOCUMENTATION));
    let failure = answer.expect_err("nobody can be asked");
    let error = failure.downcast_ref::<io::Error>().expect("the system's");
    assert!(Unsupported::find(error).is_some(), "{failure}");
}

#[test]
fn a_simulated_host_knows_the_others_by_address() {
    let simulation = Simulation::new(1);
    let (server, client) = (simulation.host("Server"), simulation.host("client"));
    let reactor = client.reactor();
    let names: Vec<_> = [server.ip(), client.ip(), Ipv4Addr::LOCALHOST.into()]
        .map(|ip| reactor.reverse_lookup(ip))
        .into();
    let nobody = reactor.reverse_lookup(DOCUMENTATION);
    simulation.run_until_idle();
    let names: Vec<_> = names.into_iter().map(success_of).collect();
    assert_eq!(names, ["server", "client", "localhost"]);
    check_nobody(nobody);
}

#[test]
fn a_simulated_host_is_found_by_its_name_in_every_script_and_case() {
    let simulation = Simulation::new(1);
    let server = simulation.host("Bücher.test");
    assert_eq!(server.name(), "Bücher.test");
    let reactor = simulation.host("client").reactor();
    for name in ["bücher.test", "BÜCHER.test", "xn--bcher-kva.TEST"] {
        let found = reactor.resolve(name, 7);
        simulation.run_until_idle();
        assert_eq!(success_of(found), [(server.ip(), 7).into()], "{name}");
    }
}

#[test]
#[should_panic(expected = "two hosts are called")]
fn two_simulated_hosts_are_not_called_the_same_in_two_scripts() {
    let simulation = Simulation::new(1);
    simulation.host("Bücher.test");
    simulation.host("xn--bcher-kva.test");
}

#[test]
fn an_answer_that_nobody_waits_for_any_more_is_thrown_away() {
    let simulation = Simulation::new(1);
    let reactor = simulation.host("client").reactor();
    let answer = reactor.reverse_lookup(DOCUMENTATION);
    answer.cancel();
    simulation.run_until_idle();
    assert!(failure_of(answer).check::<Interrupted>());
}
