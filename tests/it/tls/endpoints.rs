//! TLS over endpoints: whoever is above sees only connections whose handshake has gone well.

use std::cell::RefCell;
use std::rc::Rc;

use torsade::prelude::*;
use torsade::protocols::tls::{self, TlsClientEndpoint, TlsError, TlsServerEndpoint, TlsStream};
use torsade::reactor::testing::{Pump, memory_pair, virtual_time_reactor};
use torsade::reactor::{Acceptor, ClientEndpoint, ServerEndpoint, Stream};

use super::authority::{Authority, localhost};
use super::speaker::{Seen, Speaker};

/// Both endpoints of one place in memory.
#[derive(Clone, Default)]
pub(super) struct Place {
    pub(super) acceptor: Rc<RefCell<Option<Rc<dyn Acceptor>>>>,
    pub(super) pumps: Rc<RefCell<Vec<Pump>>>,
}

impl ServerEndpoint for Place {
    fn listen_streams(&self, _: &Reactor, acceptor: Rc<dyn Acceptor>) -> Deferred<Port> {
        self.acceptor.replace(Some(acceptor));
        // There are no ports in memory; who listens here does not wait for one.
        Deferred::new().1
    }
}

impl ClientEndpoint for Place {
    fn connect_stream(&self, reactor: &Reactor) -> Deferred<Rc<dyn Stream>> {
        let pair = memory_pair(reactor);
        self.pumps.borrow_mut().push(pair.pump);
        let acceptor = self.acceptor.borrow().clone().expect("somebody listens");
        acceptor.accept(pair.server);
        succeed(pair.client)
    }
}

struct Listening {
    reactor: Reactor,
    place: Place,
    at_server: Seen,
    failed: Rc<RefCell<Vec<TlsError>>>,
}

fn listen(authority: &Authority) -> Listening {
    let reactor = virtual_time_reactor();
    let place = Place::default();
    let at_server = Seen::default();
    let failed = Rc::new(RefCell::new(Vec::new()));
    let failures = Rc::clone(&failed);
    let endpoint = TlsServerEndpoint::new(place.clone(), &authority.server())
        .on_failed_handshake(move |_, error| failures.borrow_mut().push(error.clone()));
    let seen = at_server.clone();
    // It never fires: see above. Forgotten, since a failure would be reported.
    std::mem::forget(reactor.listen(&endpoint, move |_: &Address| {
        seen.add("built");
        let speaker = Speaker::echo();
        Speaker {
            seen: seen.clone(),
            ..speaker
        }
    }));
    Listening {
        reactor,
        place,
        at_server,
        failed,
    }
}

#[test]
fn a_protocol_is_built_on_both_sides_after_the_handshake() {
    let authority = Authority::new();
    let here = listen(&authority);
    let endpoint = TlsClientEndpoint::new(here.place.clone(), &authority.client(), localhost());
    let client = Speaker::default();
    let seen = client.seen.clone();
    let connecting = here.reactor.connect(&endpoint, |_| client);
    here.at_server.check([]);
    let transport = here.reactor.run_until(connecting).expect("it connects");
    assert!(tls::session(&transport).is_some(), "the handshake is over");
    transport.write("hello");
    here.place.pumps.borrow()[0].run().expect("it rests");
    here.at_server.check(["built", "made"]);
    assert_eq!(seen.text(), "hello");
    transport.lose_connection();
    here.place.pumps.borrow()[0].run().expect("it rests");
    here.at_server.is_lost_with("Done");
}

#[test]
fn a_certificate_that_is_not_accepted_fails_the_attempt_and_is_never_built() {
    let authority = Authority::new();
    let here = listen(&authority);
    let stranger = Authority::new().client();
    let endpoint = TlsClientEndpoint::new(here.place.clone(), &stranger, localhost());
    let attempt = here.reactor.connect(&endpoint, |_| -> Speaker {
        unreachable!("nothing is built")
    });
    let failure = here.reactor.run_until(attempt).expect_err("it is refused");
    assert_eq!(failure.downcast_ref(), Some(&TlsError::UnknownAuthority));
    here.place.pumps.borrow()[0].run().expect("it rests");
    here.at_server.check([]);
    assert!(matches!(here.failed.borrow()[..], [TlsError::PeerAlert(_)]));
}

#[test]
fn an_attempt_that_is_given_up_aborts_its_connection() {
    let authority = Authority::new();
    let here = listen(&authority);
    let endpoint = TlsClientEndpoint::new(here.place.clone(), &authority.client(), localhost());
    let attempt = here.reactor.connect(&endpoint, |_| -> Speaker {
        unreachable!("nothing is built")
    });
    attempt.cancel();
    let failure = attempt
        .into_result()
        .expect("it has failed")
        .expect_err("it is given up");
    assert!(failure.check::<Interrupted>(), "{failure}");
    here.place.pumps.borrow()[0].run().expect("it rests");
    here.at_server.check([]);
    assert_eq!(here.failed.borrow().len(), 1);
}

#[test]
fn a_stranger_who_says_nothing_is_counted_and_goes() {
    let here = listen(&Authority::new());
    let silent = here.place.connect_stream(&here.reactor);
    let silent = here.reactor.run_until(silent).expect("it connects");
    let visitor = Speaker::default();
    let seen = visitor.seen.clone();
    Transport::connect(visitor, silent);
    while seen.reason.borrow().is_none() {
        here.reactor.turn(None).expect("a limit is scheduled");
    }
    let limit = std::time::Duration::from_secs(60);
    assert_eq!(
        *here.failed.borrow(),
        [TlsError::HandshakeTimedOut { limit }]
    );
    here.at_server.check([]);
}

/// A factory that says when it is stopped.
struct Told {
    seen: Seen,
}

impl Factory for Told {
    type Protocol = Speaker;

    fn build_protocol(&mut self, _: &Address) -> Option<Speaker> {
        self.seen.add("built");
        let speaker = Speaker::echo();
        Some(Speaker {
            seen: self.seen.clone(),
            ..speaker
        })
    }

    fn stop_factory(&mut self) {
        self.seen.add("stopped");
    }
}

fn told(reactor: &Reactor, place: &Place, authority: &Authority) -> Seen {
    let seen = Seen::default();
    let endpoint = TlsServerEndpoint::new(place.clone(), &authority.server());
    let factory = Told { seen: seen.clone() };
    // It never fires: see `Place`.
    std::mem::forget(reactor.listen(&endpoint, factory));
    seen
}

#[test]
fn a_port_that_stops_goes_on_with_the_handshakes_that_are_under_way() {
    let (reactor, place, authority) = (virtual_time_reactor(), Place::default(), Authority::new());
    let seen = told(&reactor, &place, &authority);
    let acceptor = place.acceptor.borrow().clone().expect("somebody listens");
    let endpoint = TlsClientEndpoint::new(place.clone(), &authority.client(), localhost());
    let client = Speaker::default();
    let at_client = client.seen.clone();
    let connecting = reactor.connect(&endpoint, |_| client);
    // Another, whose handshake comes to nothing.
    let stranger = place.connect_stream(&reactor);
    let stranger = reactor.run_until(stranger).expect("it connects");
    acceptor.stop_listening();
    seen.check([]);
    let transport = reactor.run_until(connecting).expect("it connects");
    transport.write("served");
    for pump in &*place.pumps.borrow() {
        pump.run().expect("it rests");
    }
    assert_eq!(at_client.text(), "served");
    seen.check(["built", "made"]);
    stranger.abort_connection(ConnectionLost::Aborted);
    for pump in &*place.pumps.borrow() {
        pump.run().expect("it rests");
    }
    seen.check(["built", "made", "stopped"]);
}

#[test]
fn a_port_with_no_handshake_under_way_stops_its_factory_at_once() {
    let (reactor, place, authority) = (virtual_time_reactor(), Place::default(), Authority::new());
    let seen = told(&reactor, &place, &authority);
    let acceptor = place.acceptor.borrow().clone().expect("somebody listens");
    acceptor.stop_listening();
    seen.check(["stopped"]);
}

#[test]
fn a_reactor_that_stops_ends_the_handshakes_and_then_stops_the_factory() {
    let (reactor, place, authority) = (virtual_time_reactor(), Place::default(), Authority::new());
    let seen = told(&reactor, &place, &authority);
    let acceptor = place.acceptor.borrow().clone().expect("somebody listens");
    let stranger = place.connect_stream(&reactor);
    let _stranger = reactor.run_until(stranger).expect("it connects");
    acceptor.stop_listening();
    reactor.stop();
    reactor.run().expect("it runs");
    seen.check(["stopped"]);
}

#[test]
fn a_connection_that_nobody_takes_after_its_handshake_is_aborted() {
    type Take = fn(Rc<dyn Stream>);
    let takes: [Take; 2] = [drop, |_| panic!("thrown in the acceptor")];
    for take in takes {
        let (reactor, place, authority) =
            (virtual_time_reactor(), Place::default(), Authority::new());
        let endpoint = TlsServerEndpoint::new(place.clone(), &authority.server());
        std::mem::forget(endpoint.listen_streams(&reactor, Rc::new(take)));
        let endpoint = TlsClientEndpoint::new(place.clone(), &authority.client(), localhost());
        let client = Speaker::default();
        let seen = client.seen.clone();
        drop(reactor.connect(&endpoint, |_| client));
        place.pumps.borrow()[0].run().expect("it rests");
        assert!(seen.reason.borrow().is_some(), "the peer hears of it");
    }
}

#[test]
fn an_attempt_that_nobody_waits_for_any_more_leaves_no_connection() {
    let authority = Authority::new();
    let here = listen(&authority);
    let endpoint = TlsClientEndpoint::new(here.place.clone(), &authority.client(), localhost());
    drop(endpoint.connect_stream(&here.reactor));
    here.place.pumps.borrow()[0].run().expect("it rests");
    here.at_server.check([]);
    assert_eq!(here.failed.borrow().len(), 1);
}

type Streams = Rc<RefCell<Vec<Rc<dyn Stream>>>>;

/// Somebody who takes streams and sits down on none.
fn keep(authority: &Authority) -> (Reactor, Place, Streams) {
    let (reactor, place) = (virtual_time_reactor(), Place::default());
    let kept = Streams::default();
    let slot = Rc::clone(&kept);
    let endpoint = TlsServerEndpoint::new(place.clone(), &authority.server());
    let keep = move |stream| slot.borrow_mut().push(stream);
    std::mem::forget(endpoint.listen_streams(&reactor, Rc::new(keep)));
    (reactor, place, kept)
}

#[test]
fn a_stream_without_a_receiver_goes_when_it_is_dropped_however_late() {
    let authority = Authority::new();
    let (reactor, place, kept) = keep(&authority);
    let endpoint = TlsClientEndpoint::new(place.clone(), &authority.client(), localhost());
    let client = reactor.run_until(endpoint.connect_stream(&reactor));
    let client = client.expect("the handshake goes well");
    place.pumps.borrow()[0].run().expect("it rests");
    assert!(client.is_connected() && kept.borrow()[0].is_connected());
    assert_eq!(reactor.dump().sources.len(), 2);
    drop(client);
    place.pumps.borrow()[0].run().expect("it rests");
    assert!(!kept.borrow()[0].is_connected(), "it hears of the reset");
    assert!(reactor.dump().sources.is_empty());
    // And whoever comes now is told.
    let (speaker, stream) = (Speaker::default(), kept.borrow_mut().remove(0));
    let seen = speaker.seen.clone();
    Transport::connect(speaker, stream);
    place.pumps.borrow()[0].run().expect("it rests");
    let reason = seen.reason.borrow();
    assert!(
        matches!(&*reason, Some(ConnectionLost::Io(_))),
        "{reason:?}"
    );
}

#[test]
fn a_stream_that_is_to_be_closed_in_order_says_everything_without_its_owner() {
    let authority = Authority::new();
    let (reactor, place, kept) = keep(&authority);
    let endpoint = TlsClientEndpoint::new(place.clone(), &authority.client(), localhost());
    let client = reactor.run_until(endpoint.connect_stream(&reactor));
    let client = client.expect("the handshake goes well");
    client.write(b"the last words");
    client.lose_connection(ConnectionLost::Done);
    drop(client);
    place.pumps.borrow()[0].run().expect("it rests");
    let (speaker, stream) = (Speaker::default(), kept.borrow_mut().remove(0));
    let seen = speaker.seen.clone();
    Transport::connect(speaker, stream);
    place.pumps.borrow()[0].run().expect("it rests");
    assert_eq!(*seen.data.borrow(), b"the last words");
    let reason = seen.reason.borrow();
    assert!(matches!(&*reason, Some(ConnectionLost::Done)), "{reason:?}");
    assert!(reactor.dump().sources.is_empty());
}

#[test]
fn a_handshake_that_nobody_waits_for_ends_with_its_stream() {
    let authority = Authority::new();
    let reactor = virtual_time_reactor();
    for held in [true, false] {
        let pair = memory_pair(&reactor);
        let server = TlsStream::server(pair.server, &authority.server());
        let client = TlsStream::client(pair.client, &authority.client(), localhost());
        if held {
            pair.pump.run().expect("it rests");
            assert!(client.session().is_some());
        }
        drop(client);
        pair.pump.run().expect("it rests");
        assert!(!server.is_connected(), "held: {held}");
        assert!(reactor.dump().sources.is_empty(), "held: {held}");
    }
}
