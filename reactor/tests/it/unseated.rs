//! A stream that was handed out and has no receiver belongs to whoever has it.

use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::time::Duration;

use torsade_reactor::testing::{memory_pair, virtual_time_reactor};
use torsade_reactor::{
    ClientEndpoint, ConnectionLimits, ConnectionLost, LimitedServerEndpoint, Port, RateLimit,
    RateLimitedClientEndpoint, RateLimitedServerEndpoint, Reactor, ServerEndpoint, Stream,
    TcpClientEndpoint, TcpServerEndpoint, TimeoutServerEndpoint, Transport,
};

use crate::common::{End, Log, Place, reactor, run_while};

/// A port that keeps what it accepts, and a client that is no part of the reactor.
struct Kept {
    reactor: Reactor,
    port: Port,
    accepted: Rc<dyn Stream>,
    client: TcpStream,
}

impl Kept {
    fn new() -> Self {
        Self::behind(|below| below)
    }

    fn behind<E: ServerEndpoint>(layer: impl FnOnce(TcpServerEndpoint) -> E) -> Self {
        let reactor = reactor();
        let place = Rc::new(RefCell::new(None::<Rc<dyn Stream>>));
        let slot = Rc::clone(&place);
        let endpoint = layer(TcpServerEndpoint::new("127.0.0.1:0"));
        let listening = endpoint.listen_streams(
            &reactor,
            Rc::new(move |stream| drop(slot.replace(Some(stream)))),
        );
        let port = reactor.run_until(listening).expect("loopback can listen");
        let number = port.address().port().expect("TCP has one");
        let client = TcpStream::connect(("127.0.0.1", number)).expect("it listens");
        // So that a mistake is a failure, and no standstill.
        let patience = Some(Duration::from_secs(30));
        client.set_read_timeout(patience).expect("it is no zero");
        run_while(&reactor, || place.borrow().is_none());
        let accepted = place.take().expect("it was accepted above");
        Self {
            reactor,
            port,
            accepted,
            client,
        }
    }
}

#[test]
fn one_that_is_dropped_is_gone_and_its_peer_is_told() {
    let mut kept = Kept::new();
    kept.client.write_all(b"question").expect("there is room");
    kept.reactor.turn(Some(Duration::ZERO)).expect("a turn");
    let sources = kept.reactor.dump().sources;
    assert!(
        sources
            .iter()
            .any(|it| it.to_string().contains("nobody receives")),
        "{sources:?}"
    );
    drop(kept.accepted);
    let sources = kept.reactor.dump().sources;
    assert_eq!(sources.len(), 1, "the port: {sources:?}");
    let error = kept.client.read(&mut [0]).expect_err("it is aborted");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    // What was asked of it finds nobody.
    kept.reactor.turn(Some(Duration::ZERO)).expect("a turn");
}

/// What holds of a connection holds of every layer that a policy puts on it.
#[track_caller]
fn check_layer<E: ServerEndpoint>(layer: impl Fn(TcpServerEndpoint) -> E) {
    // Dropped, it lets go of the stream below, which is aborted.
    let mut kept = Kept::behind(&layer);
    kept.client.write_all(b"question").expect("there is room");
    kept.reactor.turn(Some(Duration::ZERO)).expect("a turn");
    assert_eq!(kept.reactor.dump().sources.len(), 2);
    drop(kept.accepted);
    run_while(&kept.reactor, || kept.reactor.dump().sources.len() > 1);
    let error = kept.client.read(&mut [0]).expect_err("it is aborted");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);

    // Seated late, it has lost nothing, and the reactor holds it.
    let mut kept = Kept::behind(&layer);
    kept.client.write_all(b"question").expect("there is room");
    for _ in 0..3 {
        kept.reactor.turn(Some(Duration::ZERO)).expect("a turn");
    }
    let end = End::new("server", &Log::default()).on_data(|transport, data| transport.write(data));
    let received = Rc::clone(&end.received);
    drop(Transport::connect(end, kept.accepted));
    run_while(&kept.reactor, || received.borrow().is_empty());
    let mut answer = [0; 8];
    kept.client.read_exact(&mut answer).expect("it is echoed");

    // To be closed in order, it is dropped without loss.
    let mut kept = Kept::behind(&layer);
    kept.accepted.write(b"answer");
    kept.accepted.lose_connection(ConnectionLost::Done);
    drop(kept.accepted);
    kept.reactor.turn(Some(Duration::ZERO)).expect("a turn");
    let mut answer = Vec::new();
    let read = kept.client.read_to_end(&mut answer);
    read.expect("the end is in order");
    assert_eq!(answer, b"answer");

    // Lost meanwhile, it tells who comes later.
    let kept = Kept::behind(&layer);
    kept.reactor.turn(Some(Duration::ZERO)).expect("a turn");
    kept.accepted.abort_connection(ConnectionLost::Aborted);
    run_while(&kept.reactor, || kept.reactor.dump().sources.len() > 1);
    let log = Log::default();
    Transport::connect(End::new("server", &log), kept.accepted);
    run_while(&kept.reactor, || log.lines().len() < 2);
    log.check(["server made", "server lost: Aborted"]);
}

#[test]
fn one_within_a_limit_of_connections_is_gone_when_it_is_dropped() {
    check_layer(|below| LimitedServerEndpoint::new(below, &ConnectionLimits::new(1)));
}

#[test]
fn one_that_may_not_be_silent_is_gone_when_it_is_dropped() {
    check_layer(TimeoutServerEndpoint::new);
}

#[test]
fn one_that_is_slowed_down_is_gone_when_it_is_dropped() {
    let rate = || RateLimit::new(1_000_000);
    check_layer(|below| {
        let endpoint = RateLimitedServerEndpoint::new(below);
        endpoint.reading(rate()).writing(rate())
    });
}

#[test]
fn layers_on_layers_are_gone_when_the_topmost_is_dropped() {
    let limits = ConnectionLimits::new(2);
    check_layer(|below| {
        let below = LimitedServerEndpoint::new(below, &limits);
        let below = TimeoutServerEndpoint::new(below);
        RateLimitedServerEndpoint::new(below).reading(RateLimit::new(1_000_000))
    });
}

#[test]
fn a_place_is_free_when_who_took_it_was_dropped_or_reset_without_a_receiver() {
    let limits = ConnectionLimits::new(1);
    let kept = Kept::behind(|below| LimitedServerEndpoint::new(below, &limits));
    assert_eq!(limits.count(), 1);
    drop(kept.accepted);
    assert_eq!(limits.count(), 0);

    let kept = Kept::behind(|below| LimitedServerEndpoint::new(below, &limits));
    assert_eq!(limits.count(), 1);
    rustix::net::sockopt::set_socket_linger(&kept.client, Some(Duration::ZERO))
        .expect("TCP has it");
    drop(kept.client);
    run_while(&kept.reactor, || limits.count() > 0);
    assert!(!kept.accepted.is_connected());
}

#[test]
fn a_client_that_is_slowed_down_is_gone_when_it_is_dropped() {
    let (reactor, log) = (reactor(), Log::default());
    let to_log = log.clone();
    let port = reactor.listen_tcp("127.0.0.1:0", move |_: &_| End::new("server", &to_log));
    let port = port.expect("loopback can listen");
    let endpoint = RateLimitedClientEndpoint::new(TcpClientEndpoint::new(port.address()))
        .writing(RateLimit::new(1_000_000));
    let stream = reactor.run_until(endpoint.connect_stream(&reactor));
    let stream = stream.expect("it listens");
    run_while(&reactor, || log.lines().is_empty());
    assert_eq!(reactor.dump().sources.len(), 3);
    drop(stream);
    run_while(&reactor, || log.lines().len() < 2);
    log.check(["server made", "server lost: ConnectionReset"]);
    assert_eq!(reactor.dump().sources.len(), 1, "the port");
}

#[test]
fn a_client_that_is_slowed_down_and_closed_after_its_peers_reset_tells_of_the_reset() {
    for aborts in [true, false] {
        let reactor = virtual_time_reactor();
        let pair = memory_pair(&reactor);
        let place = Place::of(pair.client);
        let endpoint = RateLimitedClientEndpoint::new(place).writing(RateLimit::new(1_000_000));
        let stream = reactor.run_until(endpoint.connect_stream(&reactor));
        let stream = stream.expect("it is there");
        pair.pump.to_client().cut(ErrorKind::ConnectionReset);
        pair.pump.run().expect("it rests");
        assert!(!stream.is_connected());
        if aborts {
            stream.abort_connection(ConnectionLost::Aborted);
        } else {
            stream.lose_connection(ConnectionLost::Done);
        }
        pair.pump.run().expect("it rests");
        let log = Log::default();
        Transport::connect(End::new("client", &log), stream);
        pair.pump.run().expect("it rests");
        log.check(["client made", "client lost: ConnectionReset"]);
    }
}

#[test]
fn one_that_was_made_from_here_is_gone_when_it_is_dropped() {
    let (reactor, log) = (reactor(), Log::default());
    let to_log = log.clone();
    let port = reactor.listen_tcp("127.0.0.1:0", move |_: &_| End::new("server", &to_log));
    let port = port.expect("loopback can listen");
    let connecting = TcpClientEndpoint::new(port.address()).connect_stream(&reactor);
    let stream = reactor.run_until(connecting).expect("it listens");
    run_while(&reactor, || log.lines().is_empty());
    assert_eq!(reactor.dump().sources.len(), 3);
    drop(stream);
    assert_eq!(reactor.dump().sources.len(), 2, "the port and the server's");
    run_while(&reactor, || log.lines().len() < 2);
    log.check(["server made", "server lost: ConnectionReset"]);
}

#[test]
fn what_was_sent_to_it_waits_for_its_receiver() {
    let mut kept = Kept::new();
    kept.client.write_all(b"question").expect("there is room");
    for _ in 0..3 {
        kept.reactor.turn(Some(Duration::ZERO)).expect("a turn");
    }
    let log = Log::default();
    let end = End::new("server", &log).on_data(|transport, data| transport.write(data));
    let received = Rc::clone(&end.received);
    let transport = Transport::connect(end, kept.accepted);
    // The reactor holds it again.
    drop(transport);
    run_while(&kept.reactor, || received.borrow().is_empty());
    let mut answer = [0; 8];
    kept.client.read_exact(&mut answer).expect("it is echoed");
    assert_eq!(&answer, b"question");
    kept.client
        .shutdown(std::net::Shutdown::Write)
        .expect("it is open");
    run_while(&kept.reactor, || log.lines().len() < 2);
    log.check(["server made", "server lost: Done"]);
    assert_eq!(kept.reactor.dump().sources.len(), 1);
    assert!(kept.port.is_listening());
}

#[test]
fn one_that_is_to_close_in_order_is_dropped_without_loss() {
    const ANSWER: usize = 10_000;
    let mut kept = Kept::new();
    kept.accepted.write(&[b'x'; ANSWER]);
    kept.accepted.lose_connection(ConnectionLost::Done);
    drop(kept.accepted);
    kept.reactor.turn(Some(Duration::ZERO)).expect("a turn");
    let mut answer = Vec::new();
    let read = kept.client.read_to_end(&mut answer);
    read.expect("the end is in order");
    assert_eq!(answer.len(), ANSWER);
}

#[test]
fn one_that_nobody_receives_ends_with_its_reactor_and_tells_who_comes_later() {
    let kept = Kept::new();
    kept.reactor.stop();
    kept.reactor.run().expect("it runs");
    assert!(kept.reactor.dump().sources.is_empty());
    assert!(!kept.accepted.is_connected());
    let log = Log::default();
    Transport::connect(End::new("server", &log), kept.accepted);
    run_while(&kept.reactor, || log.lines().len() < 2);
    log.check(["server made", "server lost: Stopped"]);
}
