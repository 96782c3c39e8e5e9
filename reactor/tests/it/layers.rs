//! What a layer, and whoever takes a stream without a protocol, relies on.

use std::cell::RefCell;
use std::rc::Rc;

use torsade_deferred::{Deferred, Failure, IntoDeferred};
use torsade_reactor::testing::{memory_pair, virtual_time_reactor};
use torsade_reactor::{
    Acceptor, Address, ClientEndpoint, ConnectionLost, NotFlushed, Port, Protocol, Reactor,
    Receiver, ServerEndpoint, Settle, Stream, TcpServerEndpoint, Transport,
};

use crate::common::{End, Log, connect, reactor, run_while, small_limits};

/// The shortest endpoints: a TCP port of this machine.
struct Loopback(Address);

impl ServerEndpoint for Loopback {
    fn listen_streams(&self, reactor: &Reactor, acceptor: Rc<dyn Acceptor>) -> Deferred<Port> {
        let accept = move |peer: &Address| {
            let _ = peer;
            Some(Handover(Rc::clone(&acceptor)))
        };
        reactor
            .listen_tcp(&self.0, accept)
            .map_err(Failure::from)
            .into_deferred()
    }
}

/// Gives its stream away as soon as it is connected.
struct Handover(Rc<dyn Acceptor>);

impl Protocol for Handover {
    fn connection_made(&mut self, transport: &Transport<Self>) {
        self.0.accept(Rc::clone(transport.stream()));
    }

    fn data_received(&mut self, _: &Transport<Self>, _: &[u8]) {
        unreachable!("another receiver has taken its place");
    }
}

impl ClientEndpoint for Loopback {
    fn connect_stream(&self, reactor: &Reactor) -> Deferred<Rc<dyn Stream>> {
        reactor
            .connect_tcp(&self.0, |_| Handover(Rc::new(|_| {})))
            .add_callback(|transport| Ok(Rc::clone(transport.stream())))
    }
}

#[test]
fn a_factory_listens_at_an_endpoint_and_a_protocol_is_connected_to_one() {
    let (reactor, log) = (reactor(), Log::default());
    let server = log.clone();
    let anywhere = Loopback(
        "127.0.0.1:0"
            .parse::<std::net::SocketAddr>()
            .unwrap()
            .into(),
    );
    let listening = reactor.listen(&anywhere, move |_: &Address| {
        End::new("server", &server).on_data(|transport, data| transport.write(data))
    });
    let port = reactor.run_until(listening).unwrap();
    let client = End::new("client", &log);
    let received = Rc::clone(&client.received);
    let connecting = reactor.connect(&Loopback(port.address()), |_| client);
    let transport = reactor.run_until(connecting).unwrap();
    transport.write("there and back");
    run_while(&reactor, || received.borrow().len() < 14);
}

#[test]
fn a_stream_that_nobody_has_taken_reads_nothing_and_loses_nothing() {
    let (reactor, log) = (reactor(), Log::default());
    let taken = Rc::new(RefCell::new(None));
    let place = Rc::clone(&taken);
    let acceptor: Rc<dyn Acceptor> = Rc::new(move |stream| drop(place.replace(Some(stream))));
    let port = reactor
        .listen_tcp("127.0.0.1:0", move |_: &Address| {
            Handover(Rc::clone(&acceptor))
        })
        .unwrap();
    let client = reactor.connect_tcp(port.address(), |_| End::new("client", &Log::default()));
    let client = reactor.run_until(client).unwrap();
    client.write("early");
    client.lose_connection();
    run_while(&reactor, || taken.borrow().is_none());
    let stream: Rc<dyn Stream> = taken.take().unwrap();
    let end = End::new("late", &log);
    let received = Rc::clone(&end.received);
    Transport::connect(end, stream);
    run_while(&reactor, || log.lines().len() < 2);
    log.check(["late made", "late lost: Done"]);
    assert_eq!(*received.borrow(), b"early");
}

#[test]
fn a_receiver_that_comes_after_the_end_is_told_the_reason() {
    let (reactor, log) = (reactor(), Log::default());
    let pair = connect(&reactor, End::new("client", &log), End::new("server", &log));
    let stream = Rc::clone(pair.client.stream());
    pair.client.abort_connection();
    run_while(&reactor, || log.lines().len() < 4);
    let successor = Log::default();
    Transport::connect(End::new("successor", &successor), stream);
    run_while(&reactor, || successor.lines().len() < 2);
    successor.check(["successor made", "successor lost: Done"]);
}

#[test]
fn a_flush_fires_when_what_was_written_before_it_has_left_and_not_later() {
    let (reactor, log) = (reactor(), Log::default());
    let pair = connect(&reactor, End::new("client", &log), End::new("server", &log));
    assert!(pair.client.flush().into_result().is_ok(), "it is idle");
    pair.server.pause_reading();
    pair.client.write(vec![0; 8 << 20]);
    let (first, log) = (pair.client.flush(), Log::default());
    pair.client.write(vec![0; 4 << 20]);
    let (one, two) = (log.clone(), log.clone());
    let transport = pair.client.clone();
    drop(first.add_callback(move |()| one.add(format!("first, {}", transport.unsent() > 0))));
    drop(
        pair.client
            .flush()
            .add_callback(move |()| two.add("second")),
    );
    reactor.turn(Some(std::time::Duration::ZERO)).unwrap();
    log.check([]);
    pair.server.resume_reading();
    run_while(&reactor, || log.lines().len() < 2);
    log.check(["first, true", "second"]);
}

#[test]
fn a_flush_fails_when_the_connection_is_lost_first() {
    let (reactor, log) = (reactor(), Log::default());
    let pair = connect(&reactor, End::new("client", &log), End::new("server", &log));
    pair.server.pause_reading();
    pair.client.write(vec![0; 16 << 20]);
    let flush = pair.client.flush();
    reactor.call_soon({
        let client = pair.client.clone();
        move || client.abort_connection()
    });
    let failure = reactor.run_until(flush).unwrap_err();
    assert!(failure.check::<NotFlushed>(), "{failure}");
    let after = pair.client.flush().into_result().unwrap().unwrap_err();
    assert!(after.check::<NotFlushed>(), "{after}");
}

#[test]
fn a_flush_that_is_tied_to_its_connection_is_not_heard_of_after_the_end() {
    let (reactor, log) = (reactor(), Log::default());
    let pair = connect(&reactor, End::new("client", &log), End::new("server", &log));
    pair.server.pause_reading();
    pair.client.write(vec![0; 16 << 20]);
    let heard = log.clone();
    pair.client
        .when(pair.client.flush(), move |_, _, _| heard.add("flushed"));
    pair.client.abort_connection();
    run_while(&reactor, || log.lines().len() < 4);
    assert_eq!(log.lines()[2], "client lost: Aborted");
    assert!(!log.lines().contains(&"flushed".to_owned()));
}

#[test]
fn a_layer_is_settled_after_the_callback_and_before_sockets_send() {
    struct Layer(Log, RefCell<Option<Transport<End>>>);
    impl Settle for Layer {
        fn settle(self: Rc<Self>) {
            self.0.add("settled");
            if let Some(transport) = self.1.take() {
                transport.write("written in settle");
                // Once more, in the same breath.
                transport.reactor().settle_later(self);
            }
        }
    }
    let (reactor, log) = (reactor(), Log::default());
    let server = End::new("server", &Log::default());
    let received = Rc::clone(&server.received);
    let pair = connect(&reactor, End::new("client", &Log::default()), server);
    pair.client.set_limits(small_limits());
    let layer = Rc::new(Layer(log.clone(), RefCell::new(Some(pair.client.clone()))));
    let asking = reactor.clone();
    let seen = log.clone();
    reactor.call_soon(move || {
        asking.settle_later(layer);
        seen.add("callback over");
    });
    reactor.call_soon(log.adds("next callback"));
    run_while(&reactor, || received.borrow().is_empty());
    log.check(["callback over", "settled", "settled", "next callback"]);
}

#[test]
fn streams_show_their_ends_and_are_found_by_their_type() {
    let (reactor, log) = (reactor(), Log::default());
    let pair = connect(&reactor, End::new("client", &log), End::new("server", &log));
    let stream = pair.client.stream();
    let (host, peer) = (pair.client.host(), pair.client.peer());
    assert_eq!(format!("{stream:?}"), format!("Stream({host} to {peer})"));
    struct Other;
    impl Stream for Other {
        fn write(&self, _: &[u8]) {}
        fn lose_connection(&self, _: ConnectionLost) {}
        fn abort_connection(&self, _: ConnectionLost) {}
        fn lose_write_connection(&self) {}
        fn pause_reading(&self) {}
        fn resume_reading(&self) {}
        fn is_connected(&self) -> bool {
            false
        }
        fn unsent(&self) -> usize {
            0
        }
        fn is_congested(&self) -> bool {
            false
        }
        fn flush(&self) -> Deferred<()> {
            torsade_deferred::succeed(())
        }
        fn limits(&self) -> torsade_reactor::Limits {
            small_limits()
        }
        fn set_limits(&self, _: torsade_reactor::Limits) {}
        fn set_receiver(&self, _: Rc<dyn Receiver>) {}
        fn socket(&self) -> &dyn torsade_reactor::Socket {
            unreachable!("nobody asks")
        }
    }
    assert!(stream.find::<Other>().is_none());
    let other: Rc<dyn Stream> = Rc::new(Other);
    assert!(other.find::<Other>().is_some());
}

#[test]
fn a_protocol_may_bring_the_layer_that_it_sits_on() {
    /// Changes every byte where it lies.
    struct Masked {
        above: RefCell<Option<Rc<dyn Receiver>>>,
        below: Rc<dyn Stream>,
    }
    impl Receiver for Masked {
        fn data_received(self: Rc<Self>, _: &[u8]) {
            unreachable!("a connection lends its own buffer");
        }
        fn data_received_mut(self: Rc<Self>, data: &mut [u8]) {
            for byte in &mut *data {
                *byte ^= 1;
            }
            let above = self.above.borrow().clone().unwrap();
            above.data_received_mut(data);
        }
        fn read_connection_lost(self: Rc<Self>) {
            self.below.lose_connection(ConnectionLost::Done);
        }
        fn write_paused(self: Rc<Self>) {}
        fn write_resumed(self: Rc<Self>) {}
        fn connection_lost(self: Rc<Self>, reason: ConnectionLost) {
            let above = self.above.take().unwrap();
            above.connection_lost(reason);
        }
    }
    struct Unmasked(Rc<RefCell<Vec<u8>>>, Log);
    impl Protocol for Unmasked {
        fn put_layer(&mut self, stream: Rc<dyn Stream>) -> Rc<dyn Stream> {
            self.1.add("layer");
            Rc::new(MaskedStream(Rc::new(Masked {
                above: RefCell::new(None),
                below: stream,
            })))
        }
        fn connection_made(&mut self, transport: &Transport<Self>) {
            self.1.add("made");
            assert!(transport.stream().find::<MaskedStream>().is_some());
        }
        fn data_received(&mut self, _: &Transport<Self>, data: &[u8]) {
            self.0.borrow_mut().extend_from_slice(data);
        }
    }
    struct MaskedStream(Rc<Masked>);
    impl Stream for MaskedStream {
        fn write(&self, data: &[u8]) {
            self.0.below.write(data);
        }
        fn lose_connection(&self, reason: ConnectionLost) {
            self.0.below.lose_connection(reason);
        }
        fn abort_connection(&self, reason: ConnectionLost) {
            self.0.below.abort_connection(reason);
        }
        fn lose_write_connection(&self) {}
        fn pause_reading(&self) {}
        fn resume_reading(&self) {}
        fn is_connected(&self) -> bool {
            self.0.below.is_connected()
        }
        fn unsent(&self) -> usize {
            self.0.below.unsent()
        }
        fn is_congested(&self) -> bool {
            false
        }
        fn flush(&self) -> Deferred<()> {
            self.0.below.flush()
        }
        fn limits(&self) -> torsade_reactor::Limits {
            small_limits()
        }
        fn set_limits(&self, _: torsade_reactor::Limits) {}
        fn set_receiver(&self, receiver: Rc<dyn Receiver>) {
            self.0.above.replace(Some(receiver));
            self.0
                .below
                .set_receiver(Rc::clone(&self.0) as Rc<dyn Receiver>);
        }
        fn socket(&self) -> &dyn torsade_reactor::Socket {
            self.0.below.socket()
        }
        fn below(&self) -> Option<&Rc<dyn Stream>> {
            Some(&self.0.below)
        }
    }
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let pair = memory_pair(&reactor);
    let received = Rc::new(RefCell::new(Vec::new()));
    Transport::connect(Unmasked(Rc::clone(&received), log.clone()), pair.server);
    let client = Transport::connect(End::new("client", &Log::default()), pair.client);
    client.write("`cb");
    pair.pump.run().unwrap();
    log.check(["layer", "made"]);
    assert_eq!(*received.borrow(), b"abc");
}

#[test]
fn a_stream_that_its_acceptor_drops_is_aborted() {
    let (reactor, log) = (reactor(), Log::default());
    let acceptor: Rc<dyn Acceptor> = Rc::new(drop::<Rc<dyn Stream>>);
    let listening = TcpServerEndpoint::new("127.0.0.1:0").listen_streams(&reactor, acceptor);
    let port = reactor.run_until(listening).unwrap();
    let end = End::new("client", &log);
    let client = reactor.connect_tcp(port.address(), |_| end);
    // It may see the reset before it has seen that it is connected.
    if reactor.run_until(client).is_ok() {
        run_while(&reactor, || log.lines().len() < 2);
        assert!(log.lines()[1].starts_with("client lost: Io("));
    }
}
