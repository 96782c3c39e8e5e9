//! What becomes of a panic in a callback.

use std::cell::Cell;
use std::env;
use std::io::Write;
use std::mem;
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};
use std::rc::Rc;
use std::time::Duration;

use torsade_deferred::{Deferred, Failure, fail, succeed, unhandled};
use torsade_reactor::testing::virtual_time_reactor;
use torsade_reactor::{Address, PanicPolicy, Place, Protocol, Reactor, Transport};

use crate::common::{count_unhandled, reactor};

/// Set in the process that is to abort.
const ALONE: &str = "TORSADE_TEST_PANIC_POLICY";

/// What a process says that has gone on after a panic.
const GONE_ON: &str = "the loop went on";

/// Runs the test `name` in a process of its own, by its `body`, which is not to come to its
/// end, and gives what became of it.
fn alone(name: &str, body: impl FnOnce()) -> Output {
    if env::var_os(ALONE).is_some() {
        body();
        panic!("{GONE_ON}");
    }
    Command::new(env::current_exe().expect("a running program has a path"))
        .env(ALONE, "1")
        .args(["--exact", &format!("panic_policy::{name}"), "--nocapture"])
        .output()
        .expect("it starts, for it runs now")
}

#[track_caller]
fn check_aborted(output: &Output, message: &str) {
    let said = String::from_utf8_lossy(&output.stdout);
    let wrote = String::from_utf8_lossy(&output.stderr);
    // SIGABRT.
    assert_eq!(output.status.signal(), Some(6), "{said}\n{wrote}");
    assert!(!wrote.contains(GONE_ON), "{wrote}");
    assert!(wrote.contains(message), "{wrote}");
    // The report came before the end, with the line that asked for the call.
    assert!(wrote.contains("panic_policy.rs"), "{wrote}");
}

fn aborting(reactor: &Reactor) {
    reactor.set_panic_policy(PanicPolicy::Abort);
}

struct Panics;

impl Protocol for Panics {
    fn data_received(&mut self, _: &Transport<Self>, _: &[u8]) {
        panic!("out of patience");
    }
}

#[test]
fn a_panic_in_a_call_aborts_the_process_if_the_policy_says_so() {
    let output = alone(
        "a_panic_in_a_call_aborts_the_process_if_the_policy_says_so",
        || {
            let reactor = reactor();
            aborting(&reactor);
            reactor.call_later(Duration::ZERO, || panic!("out of luck"));
            reactor.call_later(Duration::ZERO, || panic!("{GONE_ON}"));
            reactor.turn(Some(Duration::ZERO)).expect("it turns");
        },
    );
    check_aborted(&output, "out of luck");
}

#[test]
fn a_panic_in_a_protocol_aborts_the_process_if_the_policy_says_so() {
    let output = alone(
        "a_panic_in_a_protocol_aborts_the_process_if_the_policy_says_so",
        || {
            let reactor = reactor();
            aborting(&reactor);
            let port = reactor
                .listen_tcp("127.0.0.1:0", |_: &Address| Panics)
                .expect("a port is free");
            let mut client = TcpStream::connect(port.address().to_string()).expect("it listens");
            client.write_all(b"hello").expect("it is connected");
            while client.write(b"!").is_ok() {
                reactor.turn(None).expect("it turns");
            }
        },
    );
    check_aborted(&output, "out of patience");
}

#[test]
fn a_panic_is_reported_and_the_loop_goes_on_unless_told_otherwise() {
    let (reactor, (unhandled, _guard)) = (reactor(), count_unhandled());
    // A policy that was taken back before the turn, and one of another reactor.
    aborting(&reactor);
    reactor.set_panic_policy(PanicPolicy::Report);
    let other = virtual_time_reactor();
    aborting(&other);
    other.turn(Some(Duration::ZERO)).expect("it turns");
    reactor.add_hook(Place::Prepare, {
        let mut panics = true;
        move || assert!(!mem::take(&mut panics), "once")
    });
    reactor.call_soon(|| panic!("out of luck"));
    reactor.turn(Some(Duration::ZERO)).expect("it goes on");
    reactor.turn(Some(Duration::ZERO)).expect("it goes on");
    assert_eq!(unhandled.get(), 2);
}

#[test]
fn a_panic_in_a_chain_is_the_chains_failure_whatever_the_policy_is() {
    let reactor = reactor();
    aborting(&reactor);
    let seen = Rc::new(Cell::new((0, 0)));
    let counts = Rc::clone(&seen);
    let _guard = unhandled::set_hook(move |report| {
        let (panics, others) = counts.get();
        counts.set(if report.is_panic() {
            (panics + 1, others)
        } else {
            (panics, others + 1)
        });
    });
    reactor.call_soon(|| {
        let handled = succeed::<_, Failure>(())
            .add_callback(|()| -> Result<(), Failure> { panic!("out of luck") });
        drop(handled.add_errback(|_| Ok(())));
        drop(
            succeed::<_, Failure>(()).add_callback(|()| -> Result<(), Failure> {
                panic!("out of luck, and nobody minds")
            }),
        );
        drop(fail::<(), Failure>(Failure::message("no panic")));
        drop(Deferred::<()>::new());
    });
    reactor.turn(Some(Duration::ZERO)).expect("it turns");
    assert_eq!(seen.get().0, 1);
    assert!(seen.get().1 >= 1);
}
