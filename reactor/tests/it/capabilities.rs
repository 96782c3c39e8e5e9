//! What is asked of a world that does not have it.

use std::cell::Cell;
use std::error::Error;
use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use torsade_deferred::Failure;
use torsade_reactor::testing::{Simulation, virtual_time_reactor};
use torsade_reactor::{
    Address, Capability, ConnectError, Guest, Interest, Mode, Reactor, Signal, Unsupported,
};

use crate::common::{End, Log, count_unhandled, reactor};

const ALL: [Capability; 8] = [
    Capability::Network,
    Capability::UnixSockets,
    Capability::UnixDatagrams,
    Capability::Descriptors,
    Capability::Processes,
    Capability::Threads,
    Capability::Signals,
    Capability::Suspension,
];

fn end() -> End {
    End::new("end", &Log::default())
}

/// Looks at a reactor of each world: this machine's, a simulated host's, virtual time's.
fn in_each_world(look: impl Fn(&Reactor) + 'static) {
    look(&reactor());
    look(&virtual_time_reactor());
    in_a_simulation(look);
}

fn in_a_simulation(look: impl Fn(&Reactor) + 'static) {
    let simulation = Simulation::new(40);
    let host = simulation.host("host");
    let (unhandled, _guard) = count_unhandled();
    let looked = Rc::new(Cell::new(false));
    let looking = Rc::clone(&looked);
    host.start(move |reactor| {
        look(reactor);
        looking.set(true);
    });
    simulation.run_for(Duration::from_secs(1));
    // A panic of the host's program is a report, and no more.
    assert_eq!((looked.get(), unhandled.get()), (true, 0));
}

#[track_caller]
fn check_unsupported(error: &(dyn Error + 'static), expected: Capability) {
    let found = Unsupported::find(error);
    let capability = found.map(Unsupported::capability);
    assert_eq!(capability, Some(expected), "{error}");
}

#[test]
fn each_world_says_what_it_has() {
    let has = |reactor: &Reactor| ALL.map(|capability| reactor.supports(capability));
    let suspends = cfg!(any(target_os = "linux", target_os = "android"));
    assert_eq!(
        has(&reactor()),
        [true, true, true, true, true, true, true, suspends]
    );
    assert_eq!(
        has(&virtual_time_reactor()),
        [false, false, false, false, false, true, false, true]
    );
    in_a_simulation(move |reactor| {
        assert_eq!(
            has(reactor),
            [true, false, true, false, false, false, false, false]
        );
    });
}

#[test]
fn what_is_required_in_vain_is_named_with_its_world() {
    in_each_world(|reactor| {
        for capability in ALL {
            let required = reactor.require(capability);
            assert_eq!(required.is_ok(), reactor.supports(capability));
        }
    });
    let error = virtual_time_reactor().require(Capability::UnixSockets);
    let error = io::Error::from(error.expect_err("it has none"));
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(
        error.to_string(),
        "there is no such thing as UNIX sockets in virtual time"
    );
}

#[test]
fn without_a_network_a_port_and_a_connection_fail_with_what_is_missing() {
    let reactor = virtual_time_reactor();
    let listening = reactor.listen_tcp("127.0.0.1:0", |_: &Address| end());
    check_unsupported(&listening.expect_err("no network"), Capability::Network);
    let connecting = reactor.connect_tcp("127.0.0.1:9", |_| end());
    let failure = reactor.run_until(connecting).expect_err("no network");
    let error: &ConnectError = failure.downcast_ref().expect("it tells why");
    check_unsupported(error, Capability::Network);
}

#[test]
fn without_unix_sockets_they_fail_with_what_is_missing() {
    let ask = |reactor: &Reactor| {
        let listening = reactor.listen_unix("@torsade-capabilities", |_: &Address| end());
        check_unsupported(&listening.expect_err("none"), Capability::UnixSockets);
        let pair = reactor.connect_pair(|_| end(), |_| end());
        check_unsupported(&pair.expect_err("none"), Capability::UnixSockets);
        reactor
            .connect_unix("@torsade-capabilities", |_| end())
            .add_both(|outcome| {
                let failure: Failure = outcome.expect_err("none");
                let error: &ConnectError = failure.downcast_ref().expect("it tells why");
                check_unsupported(error, Capability::UnixSockets);
                Ok::<_, Failure>(())
            })
    };
    let reactor = virtual_time_reactor();
    let refused = ask(&reactor);
    reactor.run_until(refused).expect("it was checked");
    in_a_simulation(move |reactor| drop(ask(reactor)));
}

#[test]
fn without_descriptors_nothing_is_watched_adopted_or_waited_for() {
    let ask = |reactor: &Reactor| {
        let (reader, _writer) = io::pipe().expect("a pipe");
        let watched = reactor.watch(reader, Interest::Read, Mode::Level, |_, _| ());
        check_unsupported(&watched.expect_err("none").error, Capability::Descriptors);
        let (reader, _writer) = io::pipe().expect("a pipe");
        let awaited = reactor.async_fd(reader).expect_err("none");
        check_unsupported(&awaited.error, Capability::Descriptors);
        let (ours, _theirs) = UnixStream::pair().expect("a pair");
        let adopted = reactor.adopt_connection(ours, |_| end());
        check_unsupported(&adopted.expect_err("none"), Capability::Descriptors);
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let adopted = reactor.adopt_listener(OwnedFd::from(listener), |_: &Address| end());
        check_unsupported(&adopted.expect_err("none"), Capability::Descriptors);
        check_unsupported(
            &reactor.descriptor().expect_err("none"),
            Capability::Descriptors,
        );
        let seat = Guest::new(reactor, || ());
        check_unsupported(&seat.expect_err("none"), Capability::Descriptors);
        // It has nothing to look at, and looks.
        let _: bool = reactor.is_work_pending();
    };
    ask(&virtual_time_reactor());
    in_a_simulation(ask);
}

#[test]
fn a_program_that_uses_signals_threads_and_the_boot_clock_runs_in_every_world() {
    in_each_world(|reactor| {
        let watcher = reactor.on_signal(Signal::ALRM, |_| ());
        let watcher = watcher.expect("it may be watched everywhere");
        assert!(watcher.is_active() && watcher.remove());
        let clock = reactor.boot_clock().expect("there is one everywhere");
        assert!(clock.call_later(Duration::ZERO, || ()).cancel());
        let refused = reactor.on_signal(Signal::from_number(9), |_| ());
        refused.expect_err("nobody catches SIGKILL");
        drop(reactor.defer_to_thread(|| Ok::<_, io::Error>(())));
    });
}

#[test]
fn an_error_of_something_else_is_not_taken_for_it() {
    let error = io::Error::other(io::Error::from(ErrorKind::Unsupported));
    assert!(Unsupported::find(&error).is_none());
}
