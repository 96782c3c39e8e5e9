//! A server behind a proxy: its peers are the proxy's clients.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use torsade::prelude::*;
use torsade::protocols::haproxy::{BadHeader, ProxiedServerEndpoint, ProxiedStream};
use torsade::reactor::testing::{Chunks, Pump, Simulation, memory_pair, virtual_time_reactor};
use torsade::reactor::{Acceptor, Seating, ServerEndpoint, Stream};

const HEADER: &str = "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n";

/// What servers saw, in order.
#[derive(Clone, Default)]
struct Seen(Rc<RefCell<Vec<String>>>);

impl Seen {
    fn add(&self, line: impl Into<String>) {
        self.0.borrow_mut().push(line.into());
    }

    #[track_caller]
    fn check<const N: usize>(&self, expected: [&str; N]) {
        assert_eq!(*self.0.borrow(), expected);
    }
}

/// A server that pauses at first, if it is told to.
struct Server {
    seen: Seen,
    pauses: bool,
    text: String,
    own: Rc<RefCell<Option<Transport<Self>>>>,
}

impl Protocol for Server {
    fn connection_made(&mut self, transport: &Transport<Self>) {
        let addresses = format!("{} at {}", transport.peer(), transport.host());
        self.seen.add(addresses);
        self.own.replace(Some(transport.clone()));
        if self.pauses {
            transport.pause_reading();
        }
    }

    fn data_received(&mut self, transport: &Transport<Self>, data: &[u8]) {
        self.text.push_str(&String::from_utf8_lossy(data));
        transport.write(data);
    }

    fn connection_lost(&mut self, reason: ConnectionLost) {
        self.seen.add(format!("{:?}, {reason}", self.text));
    }
}

/// An endpoint in memory, that takes any number of connections.
#[derive(Clone, Default)]
struct Place(Rc<RefCell<Option<Rc<dyn Acceptor>>>>);

impl ServerEndpoint for Place {
    fn listen_streams(&self, _: &Reactor, acceptor: Rc<dyn Acceptor>) -> Deferred<Port> {
        self.0.replace(Some(acceptor));
        Deferred::new().1
    }
}

/// A client: what comes back, and why it ended.
#[derive(Clone, Default)]
struct Client {
    text: Rc<RefCell<String>>,
    lost: Rc<RefCell<Option<String>>>,
}

impl Protocol for Client {
    fn data_received(&mut self, _: &Transport<Self>, data: &[u8]) {
        self.text
            .borrow_mut()
            .push_str(&String::from_utf8_lossy(data));
    }

    fn connection_lost(&mut self, reason: ConnectionLost) {
        self.lost.replace(Some(reason.to_string()));
    }
}

struct World {
    reactor: Reactor,
    seen: Seen,
    bad: Seen,
    place: Place,
    own: Rc<RefCell<Option<Transport<Server>>>>,
}

impl World {
    fn new(pauses: bool) -> Self {
        let (reactor, place) = (virtual_time_reactor(), Place::default());
        let (seen, bad) = (Seen::default(), Seen::default());
        let told = bad.clone();
        let endpoint = ProxiedServerEndpoint::new(place.clone()).on_bad_header(move |_, reason| {
            if let ConnectionLost::Failed(failure) = reason {
                assert!(failure.check::<BadHeader>());
            }
            told.add(reason.to_string());
        });
        let (server, own) = (seen.clone(), Rc::default());
        let slot = Rc::clone(&own);
        drop(reactor.listen(&endpoint, move |_: &Address| Server {
            seen: server.clone(),
            pauses,
            text: String::new(),
            own: Rc::clone(&slot),
        }));
        Self {
            reactor,
            seen,
            bad,
            place,
            own,
        }
    }

    fn connect(&self, chunks: Chunks) -> (Transport<Client>, Client, Pump) {
        let pair = memory_pair(&self.reactor);
        pair.pump.set_chunks(chunks);
        let acceptor = self.place.0.borrow().clone().expect("somebody listens");
        acceptor.accept(pair.server);
        let client = Client::default();
        let transport = Transport::connect(client.clone(), pair.client);
        (transport, client, pair.pump)
    }
}

#[test]
fn the_peer_is_the_proxys_client_whatever_the_pieces_of_the_header() {
    for chunks in [
        Chunks::Of(1),
        Chunks::Of(7),
        Chunks::Of(44),
        Chunks::Of(1000),
    ] {
        let world = World::new(false);
        let (transport, client, pump) = world.connect(chunks);
        transport.write(format!("{HEADER}first"));
        transport.write(", second");
        pump.run().expect("it rests");
        assert_eq!(*client.text.borrow(), "first, second");
        transport.write(", third");
        transport.lose_write_connection();
        pump.run().expect("it rests");
        world.seen.check([
            "192.0.2.1:56324 at 192.0.2.2:443",
            "\"first, second, third\", connection closed cleanly",
        ]);
        world.bad.check([]);
    }
}

#[test]
fn a_header_without_addresses_leaves_the_connection_its_own() {
    let world = World::new(false);
    let (transport, _, pump) = world.connect(Chunks::Of(3));
    let (peer, host) = (transport.host(), transport.peer());
    transport.write("PROXY UNKNOWN\r\n");
    pump.run().expect("it rests");
    world.seen.check([&format!("{peer} at {host}")]);
}

#[test]
fn a_bad_header_ends_the_connection_with_its_reason_and_the_factory_sees_nothing() {
    for (wire, reason) in [
        (
            "GET / HTTP/1.1\r\n",
            "connection lost: no PROXY protocol header: the connection begins otherwise",
        ),
        (
            "PROXY TCP4 x\r\n",
            "connection lost: bad PROXY protocol header: a word is missing in \"PROXY TCP4 x\"",
        ),
    ] {
        let world = World::new(false);
        let (transport, client, pump) = world.connect(Chunks::Of(1));
        transport.write(wire);
        pump.run().expect("it rests");
        world.seen.check([]);
        world.bad.check([reason]);
        assert!(client.lost.borrow().is_some());
    }
}

#[test]
fn a_header_that_does_not_come_has_a_limit_and_one_that_ends_early_is_told() {
    let world = World::new(false);
    let (transport, _, _pump) = world.connect(Chunks::Of(1));
    transport.write("PROXY ");
    let wait = sleep(&world.reactor, Duration::from_secs(11));
    world.reactor.run_until(wait).expect("time passes");
    world
        .bad
        .check(["connection lost: the header of the PROXY protocol took longer than 10s"]);
    assert!(!transport.is_connected());

    let world = World::new(false);
    let (transport, _, pump) = world.connect(Chunks::Of(1));
    transport.write("PROXY ");
    transport.lose_write_connection();
    pump.run().expect("it rests");
    let expected = "connection lost: no PROXY protocol header: the connection ended within it";
    world.bad.check([expected]);
}

#[test]
fn what_came_behind_the_header_waits_for_a_protocol_that_pauses() {
    let world = World::new(true);
    let (transport, client, pump) = world.connect(Chunks::Of(1000));
    transport.write(format!("{HEADER}first"));
    pump.run().expect("it rests");
    transport.write(", second");
    pump.run().expect("it rests");
    assert_eq!(*client.text.borrow(), "");
    let server = world.own.borrow().clone().expect("it is made");
    let stream = server.stream().find::<ProxiedStream>().expect("it is one");
    assert_ne!(stream.proxy(), server.peer());
    server.resume_reading();
    assert_eq!(*client.text.borrow(), "", "not before it returns");
    pump.run().expect("it rests");
    assert_eq!(*client.text.borrow(), "first, second");
    server.lose_connection();
    pump.run().expect("it rests");
    assert!(client.lost.borrow().is_some());
}

#[test]
fn a_paused_connection_that_ends_is_told_its_end() {
    let world = World::new(true);
    let (transport, _, pump) = world.connect(Chunks::Of(1000));
    transport.write(format!("{HEADER}first"));
    pump.run().expect("it rests");
    let server = world.own.borrow().clone().expect("it is made");
    server.abort_connection();
    pump.run().expect("it rests");
    world.seen.check([
        "192.0.2.1:56324 at 192.0.2.2:443",
        "\"\", connection aborted",
    ]);
}

/// Listens in memory with this acceptor, and connects.
fn accepted_by(
    acceptor: Rc<dyn Acceptor>,
) -> (Rc<dyn Acceptor>, Reactor, Transport<Client>, Client, Pump) {
    let (reactor, place) = (virtual_time_reactor(), Place::default());
    let endpoint = ProxiedServerEndpoint::new(place.clone());
    drop(endpoint.listen_streams(&reactor, acceptor));
    let acceptor = place.0.borrow().clone().expect("somebody listens");
    let pair = memory_pair(&reactor);
    acceptor.accept(pair.server);
    let client = Client::default();
    let transport = Transport::connect(client.clone(), pair.client);
    (acceptor, reactor, transport, client, pair.pump)
}

#[test]
fn a_port_that_stops_goes_on_with_the_headers_that_are_under_way() {
    struct Told(Seen);
    impl Factory for Told {
        type Protocol = Server;
        fn build_protocol(&mut self, _: &Address) -> Option<Server> {
            Some(Server {
                seen: self.0.clone(),
                pauses: false,
                text: String::new(),
                own: Rc::default(),
            })
        }
        fn stop_factory(&mut self) {
            self.0.add("stopped");
        }
    }
    for ends_early in [false, true] {
        let seen = Seen::default();
        let seating = Rc::new(Seating::new(Told(seen.clone())));
        let (acceptor, _reactor, transport, client, pump) = accepted_by(seating);
        transport.write("PROXY TCP4 192.0.2.1 ");
        pump.run().expect("it rests");
        acceptor.stop_listening();
        seen.check([]);
        if ends_early {
            transport.abort_connection();
            pump.run().expect("it rests");
            seen.check(["stopped"]);
            continue;
        }
        transport.write("192.0.2.2 56324 443\r\nserved");
        pump.run().expect("it rests");
        assert_eq!(*client.text.borrow(), "served");
        seen.check(["192.0.2.1:56324 at 192.0.2.2:443", "stopped"]);
    }
}

#[test]
fn who_takes_a_connection_after_its_end_is_told_the_reason() {
    let taken = Rc::new(RefCell::new(None));
    let slot = Rc::clone(&taken);
    let keep: Rc<dyn Acceptor> = Rc::new(move |stream| drop(slot.replace(Some(stream))));
    let (_acceptor, _reactor, transport, _, pump) = accepted_by(keep);
    transport.write(format!("{HEADER}first"));
    pump.run().expect("it rests");
    let stream: Rc<dyn Stream> = taken.take().expect("it is handed on");
    let limit = Duration::from_secs(7);
    let waiting_for = "somebody to take it";
    stream.abort_connection(ConnectionLost::TimedOut { waiting_for, limit });
    pump.run().expect("it rests");
    let late = Client::default();
    Transport::connect(late.clone(), stream);
    assert_eq!(*late.lost.borrow(), None, "not before it returns");
    pump.run().expect("it rests");
    assert_eq!(
        late.lost.borrow().as_deref(),
        Some("connection lost: somebody to take it took longer than 7s")
    );
}

#[test]
fn a_connection_that_nobody_takes_is_aborted() {
    let leave: Rc<dyn Acceptor> = Rc::new(drop::<Rc<dyn Stream>>);
    let panics: Rc<dyn Acceptor> = Rc::new(|_| panic!("thrown in the acceptor"));
    for acceptor in [leave, panics] {
        let (_acceptor, _reactor, transport, client, pump) = accepted_by(acceptor);
        transport.write(format!("{HEADER}first"));
        pump.run().expect("it rests");
        assert!(client.lost.borrow().is_some());
    }
}

#[test]
fn a_connection_that_is_kept_without_a_receiver_goes_when_it_is_dropped() {
    let kept = Rc::<RefCell<Vec<Rc<dyn Stream>>>>::default();
    let slot = Rc::clone(&kept);
    let (_acceptor, reactor, transport, client, pump) =
        accepted_by(Rc::new(move |stream| slot.borrow_mut().push(stream)));
    transport.write(format!("{HEADER}first"));
    pump.run().expect("it rests");
    assert!(client.lost.borrow().is_none() && transport.is_connected());
    assert_eq!(reactor.dump().sources.len(), 2);
    kept.borrow_mut().clear();
    pump.run().expect("it rests");
    assert!(client.lost.borrow().is_some());
    assert!(reactor.dump().sources.is_empty());
}

#[test]
fn a_connection_that_is_to_be_closed_in_order_is_dropped_without_loss() {
    let kept = Rc::<RefCell<Vec<Rc<dyn Stream>>>>::default();
    let slot = Rc::clone(&kept);
    let (_acceptor, reactor, transport, client, pump) =
        accepted_by(Rc::new(move |stream| slot.borrow_mut().push(stream)));
    transport.write(HEADER);
    pump.run().expect("it rests");
    let stream = kept.borrow_mut().remove(0);
    stream.write(b"the last words");
    stream.lose_connection(ConnectionLost::Done);
    drop(stream);
    pump.run().expect("it rests");
    assert_eq!(*client.text.borrow(), "the last words");
    let lost = client.lost.borrow();
    assert_eq!(lost.as_deref(), Some("connection closed cleanly"));
    assert!(reactor.dump().sources.is_empty());
}

#[test]
fn a_protocol_that_holds_its_transport_goes_when_its_machine_crashes() {
    struct Holder {
        _alive: Rc<()>,
        own: Option<Transport<Self>>,
    }
    impl Protocol for Holder {
        fn connection_made(&mut self, transport: &Transport<Self>) {
            transport.pause_reading();
            self.own = Some(transport.clone());
        }
        fn data_received(&mut self, _: &Transport<Self>, _: &[u8]) {}
        fn connection_lost(&mut self, _: ConnectionLost) {
            unreachable!("a crash tells nobody");
        }
    }
    let simulation = Simulation::new(3);
    let [host, client] = ["server", "client"].map(|name| simulation.host(name));
    let alive = Rc::new(());
    let mut holder = Some(Holder {
        _alive: Rc::clone(&alive),
        own: None,
    });
    let endpoint = ProxiedServerEndpoint::new(TcpServerEndpoint::new(":7"));
    let listening = host.reactor().listen(&endpoint, move |_: &Address| {
        holder.take().expect("one client connects")
    });
    let port = host.reactor().run_until(listening);
    drop(port.expect("the port is free"));
    let connecting = client
        .reactor()
        .connect_tcp("server:7", |_| Client::default());
    let transport = client.reactor().run_until(connecting);
    let transport = transport.expect("it listens");
    transport.write(format!("{HEADER}and more"));
    simulation.run_for(Duration::from_secs(1));
    assert_eq!(Rc::strong_count(&alive), 2);
    host.crash();
    drop((simulation, host, client, transport));
    assert_eq!(Rc::strong_count(&alive), 1, "a ring holds it");
}

#[test]
fn haproxy_is_a_prefix_of_any_server_endpoint() {
    let reactor = Reactor::new().expect("a reactor");
    let endpoint = torsade::server_from_string("haproxy:tcp:0:interface=127.0.0.1");
    let seen = Seen::default();
    let (server, own) = (seen.clone(), Rc::default());
    let slot = Rc::clone(&own);
    let listening = reactor.listen(&endpoint.expect("it is right"), move |_: &Address| Server {
        seen: server.clone(),
        pauses: false,
        text: String::new(),
        own: Rc::clone(&slot),
    });
    let port = reactor.run_until(listening).expect("loopback can listen");
    let connecting = reactor.connect_tcp(port.address(), |_| Client::default());
    let transport = reactor.run_until(connecting).expect("it listens");
    transport.write(HEADER);
    for _ in 0..1000 {
        if own.borrow().is_some() {
            break;
        }
        reactor
            .turn(Some(Duration::from_secs(1)))
            .expect("it turns");
    }
    seen.check(["192.0.2.1:56324 at 192.0.2.2:443"]);
    assert!(torsade::server_from_string("haproxy:nothing").is_err());
    // What the socket below knows.
    let server = own.borrow().clone().expect("it is made");
    let below = server.stream().below().expect("it is a layer");
    let (socket, below) = (server.stream().socket(), below.socket());
    assert_ne!(socket.session_number(), 0);
    assert_eq!(socket.session_number(), below.session_number());
    assert_eq!(socket.unacknowledged().expect("TCP knows"), 0);
}
