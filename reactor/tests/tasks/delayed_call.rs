//! `DelayedCall` and what tests rely on in the reactor: the rest of section 2.15 of the
//! catalogue, on a reactor whose time is virtual.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use torsade_deferred::Deferred;
use torsade_reactor::testing::virtual_time_reactor;
use torsade_reactor::{Address, ConnectionLost, Protocol, Reactor, Transport};

use crate::support::{Log, SECOND};

/// #399
#[test]
fn a_cancelled_call_stays_cancelled_whatever_is_asked_of_it() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let call = reactor.call_later(SECOND, log.adds("called"));
    assert!(call.cancel());
    assert!(!call.cancel() && !call.delay(SECOND) && !call.reset(SECOND));
    assert!(!call.is_active() && call.deadline().is_none());
    reactor.turn(Some(5 * SECOND)).unwrap();
    reactor.turn(Some(Duration::ZERO)).unwrap();
    log.check([]);
}

/// #400
#[test]
fn a_call_that_was_made_is_not_active_and_is_not_made_again() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let call = reactor.call_later(Duration::ZERO, log.adds("called"));
    assert!(call.is_active());
    reactor.turn(Some(Duration::ZERO)).unwrap();
    assert!(!call.is_active() && call.deadline().is_none());
    assert!(!call.cancel() && !call.delay(SECOND) && !call.reset(SECOND));
    reactor.turn(Some(5 * SECOND)).unwrap();
    reactor.turn(Some(Duration::ZERO)).unwrap();
    log.check(["called"]);
}

/// #402
#[test]
fn calls_from_threads_come_before_timers_of_the_same_turn() {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let came = Arc::new(AtomicBool::new(false));
    let (sets, notes) = (Arc::clone(&came), log.clone());
    reactor.call_later(Duration::ZERO, move || {
        notes.add(format!(
            "after the thread call: {}",
            came.load(Ordering::Relaxed)
        ));
    });
    reactor
        .remote()
        .call_from_thread(move |_| sets.store(true, Ordering::Relaxed));
    reactor.turn(Some(Duration::ZERO)).unwrap();
    log.check(["after the thread call: true"]);
}

/// Says how it ended.
struct Client(Option<torsade_deferred::Trigger<ConnectionLost>>);

impl Protocol for Client {
    fn data_received(&mut self, _transport: &Transport<Self>, _data: &[u8]) {}

    fn connection_lost(&mut self, reason: ConnectionLost) {
        if let Some(trigger) = self.0.take() {
            trigger.callback(reason);
        }
    }
}

/// #405
#[test]
fn a_factory_that_builds_nothing_accepts_and_drops_the_connection() {
    let reactor = Reactor::new().expect("the system has descriptors left");
    let asked = Rc::new(RefCell::new(Vec::new()));
    let peers = Rc::clone(&asked);
    let port = reactor
        .listen_tcp("127.0.0.1:0", move |peer: &Address| {
            peers.borrow_mut().push(peer.to_string());
            None::<Client>
        })
        .expect("loopback can listen");
    // That a client's factory builds nothing cannot be written: it returns a protocol.
    let (trigger, ended) = Deferred::<ConnectionLost>::new();
    drop(reactor.connect_tcp(port.address(), |_| Client(Some(trigger))));
    let ended = ended.add_hard_timeout(10 * SECOND, &reactor);
    let reason = reactor.run_until(ended).expect("it ends");
    assert!(reason.is_clean(), "{reason}");
    assert_eq!(asked.borrow().len(), 1);
}
