//! What holds for all connections of a port: how many, and how long they may be silent.

use std::cell::RefCell;
use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use torsade_deferred::{Deferred, fail};
use torsade_reactor::task::sleep;
use torsade_reactor::testing::contract::{Contract, Ends};
use torsade_reactor::testing::{
    Chunks, MemoryPair, memory_pair, memory_pair_between, virtual_time_reactor,
};
use torsade_reactor::{
    Acceptor, Address, ConnectionLimits, ConnectionLost, IdleTimeout, LimitedServerEndpoint,
    Limits, Port, Protocol, RateLimit, RateLimitedServerEndpoint, Reactor, Seating, ServerEndpoint,
    Stream, TcpClientEndpoint, TcpServerEndpoint, TimeoutServerEndpoint, Transport,
};

use crate::common::{End, Log, count_unhandled, reactor, run_while};

const SECOND: Duration = Duration::from_secs(1);

/// More than four turns read.
const MUCH: usize = 4 << 20;

/// Takes connections where a port would, from memory.
struct Server {
    reactor: Reactor,
    acceptor: Rc<dyn Acceptor>,
    log: Log,
}

/// Whatever the test's clients ask of the server's protocol.
fn obey(transport: &Transport<End>, data: &[u8]) {
    match data {
        b"lose" => transport.lose_connection(),
        b"abort" => transport.abort_connection(),
        b"much" => transport.write(vec![b'x'; MUCH]),
        b"panic" => panic!("as asked"),
        _ => transport.write(data),
    }
}

fn seating(log: &Log) -> Rc<dyn Acceptor> {
    let log = log.clone();
    Rc::new(Seating::new(move |_: &Address| {
        End::new("server", &log).on_data(obey)
    }))
}

impl Server {
    fn limited(limits: &ConnectionLimits) -> Self {
        let log = Log::default();
        Self {
            reactor: virtual_time_reactor(),
            acceptor: limits.acceptor(seating(&log)),
            log,
        }
    }

    fn idle(period: Duration) -> Self {
        Self::behind(|below| TimeoutServerEndpoint::new(below).timeout(period))
    }

    fn behind<E: ServerEndpoint>(endpoint: impl FnOnce(Taken) -> E) -> Self {
        let log = Log::default();
        Self::seated(endpoint, seating(&log), log)
    }

    fn seated<E: ServerEndpoint>(
        endpoint: impl FnOnce(Taken) -> E,
        above: Rc<dyn Acceptor>,
        log: Log,
    ) -> Self {
        let reactor = virtual_time_reactor();
        let taken = Rc::new(RefCell::new(None));
        let endpoint = endpoint(Taken(Rc::clone(&taken)));
        let listening = endpoint.listen_streams(&reactor, above);
        // There is no port.
        assert!(listening.into_result().is_ok_and(|port| port.is_err()));
        let acceptor = taken.take().expect("it was handed down");
        Self {
            reactor,
            acceptor,
            log,
        }
    }

    fn connect(&self) -> Client {
        self.connect_from("127.0.0.1:9")
    }

    fn connect_from(&self, peer: &str) -> Client {
        let [client, server] =
            [peer, "127.0.0.1:1"].map(|text| text.parse::<SocketAddr>().expect("an address"));
        let pair = memory_pair_between(&self.reactor, client.into(), server.into());
        self.acceptor.accept(Rc::clone(&pair.server));
        let log = Log::default();
        let client = End::new("client", &log);
        let received = Rc::clone(&client.received);
        let transport = Transport::connect(client, Rc::clone(&pair.client));
        let client = Client {
            transport,
            received,
            log,
            pair,
        };
        client.run();
        client
    }

    fn wait(&self, time: Duration) {
        let waited = self.reactor.run_until(sleep(&self.reactor, time));
        waited.expect("time passes");
    }
}

struct Client {
    transport: Transport<End>,
    received: Rc<RefCell<Vec<u8>>>,
    log: Log,
    pair: MemoryPair,
}

impl Client {
    fn run(&self) {
        self.pair.pump.run().expect("it comes to rest");
    }

    fn say(&self, text: &str) {
        self.transport.write(text);
        self.run();
    }

    fn is_lost(&self) -> bool {
        self.log.lines().len() > 1
    }
}

/// An endpoint that keeps the acceptor for the test.
struct Taken(Rc<RefCell<Option<Rc<dyn Acceptor>>>>);

impl ServerEndpoint for Taken {
    fn listen_streams(&self, _: &Reactor, acceptor: Rc<dyn Acceptor>) -> Deferred<Port> {
        self.0.replace(Some(acceptor));
        fail(torsade_deferred::Failure::message("there is no port"))
    }
}

#[test]
fn a_connection_within_limits_of_number_and_silence_keeps_the_contract() {
    Contract::new(|| {
        let limited = LimitedServerEndpoint::new(
            TcpServerEndpoint::new("127.0.0.1:0"),
            &ConnectionLimits::new(10),
        );
        let endpoint = TimeoutServerEndpoint::new(limited);
        Ends::between(&reactor(), &endpoint, TcpClientEndpoint::new)
    })
    .check();
}

#[test]
fn one_connection_too_many_is_aborted_and_the_others_go_on() {
    let limits = ConnectionLimits::new(2);
    let server = Server::limited(&limits);
    let clients = [server.connect(), server.connect(), server.connect()];
    assert_eq!(
        clients.each_ref().map(Client::is_lost),
        [false, false, true]
    );
    assert_eq!(limits.count(), 2);
    clients[2]
        .log
        .check(["client made", "client lost: ConnectionReset"]);
    clients[0].say("echo");
    assert_eq!(*clients[0].received.borrow(), b"echo");
}

#[test]
fn a_place_is_free_again_however_its_connection_ended() {
    let limits = ConnectionLimits::new(1);
    let server = Server::limited(&limits);
    let (panics, guard) = count_unhandled();
    for way in ["lose", "abort", "panic"] {
        let client = server.connect();
        assert_eq!(limits.count(), 1, "{way}");
        client.say(way);
        assert!(client.is_lost(), "{way}");
        assert_eq!(
            (limits.count(), limits.count_of(&client.transport.host())),
            (0, 0),
            "{way}"
        );
    }
    drop(guard);
    assert_eq!(panics.get(), 1);
    let client = server.connect();
    client.transport.abort_connection();
    client.run();
    assert_eq!(limits.count(), 0, "the peer's reset");
}

#[test]
fn a_place_is_free_when_connection_lost_is_called() {
    let (limits, log) = (ConnectionLimits::new(1), Log::default());
    struct Looks(ConnectionLimits, Log);
    impl Protocol for Looks {
        fn data_received(&mut self, _: &Transport<Self>, _: &[u8]) {}
        fn connection_lost(&mut self, _: ConnectionLost) {
            self.1.add(self.0.count());
        }
    }
    let (looked, note) = (limits.clone(), log.clone());
    let seating = Seating::new(move |_: &Address| Looks(looked.clone(), note.clone()));
    let server = Server {
        reactor: virtual_time_reactor(),
        acceptor: limits.acceptor(Rc::new(seating)),
        log: Log::default(),
    };
    let client = server.connect();
    assert_eq!(limits.count(), 1);
    client.transport.lose_connection();
    client.run();
    log.check(["0"]);
}

#[test]
fn a_connection_that_nobody_takes_gives_its_place_back() {
    type Fate = fn(Rc<dyn Stream>);
    let refuses: Fate = |stream| Seating::new(|_: &Address| None::<End>).accept(stream);
    let panics: Fate = |_| panic!("in an acceptor");
    let drops: Fate = drop;
    for (name, fate) in [("refuses", refuses), ("drops", drops)] {
        let limits = ConnectionLimits::new(1);
        let server = Server {
            reactor: virtual_time_reactor(),
            acceptor: limits.acceptor(Rc::new(fate)),
            log: Log::default(),
        };
        let client = server.connect();
        client.transport.abort_connection();
        client.run();
        assert_eq!(limits.count(), 0, "{name}");
    }
    // A panic is the port's to catch.
    let (reactor, limits) = (reactor(), ConnectionLimits::new(1));
    let (reported, _guard) = count_unhandled();
    let below = TcpServerEndpoint::new("127.0.0.1:0");
    let listening =
        LimitedServerEndpoint::new(below, &limits).listen_streams(&reactor, Rc::new(panics));
    let port = reactor.run_until(listening).expect("loopback can listen");
    let number = port.address().port().expect("TCP has one");
    let mut client = TcpStream::connect(("127.0.0.1", number)).expect("it listens");
    run_while(&reactor, || reported.get() == 0);
    reactor.turn(Some(Duration::ZERO)).expect("a turn");
    assert_eq!((limits.count(), reported.get()), (0, 1));
    let patience = Some(Duration::from_secs(30));
    client.set_read_timeout(patience).expect("it is no zero");
    let error = client.read(&mut [0]).expect_err("it is aborted");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn each_peer_has_its_own_limit_and_its_ports_are_one_peer() {
    let limits = ConnectionLimits::new(100).per_peer(2);
    let server = Server::limited(&limits);
    let first = server.connect_from("10.0.0.1:1");
    let clients = ["10.0.0.1:2", "10.0.0.1:3", "10.0.0.2:1"].map(|peer| server.connect_from(peer));
    assert_eq!(
        clients.each_ref().map(Client::is_lost),
        [false, true, false]
    );
    assert_eq!(limits.count_of(&first.transport.host()), 2);
    first.say("lose");
    assert!(!server.connect_from("10.0.0.1:4").is_lost());
    assert_eq!(limits.count(), 3);
}

#[test]
fn clones_count_together_and_peers_without_an_address_count_in_the_total() {
    let limits = ConnectionLimits::new(2).per_peer(1);
    let servers = [Server::limited(&limits), Server::limited(&limits.clone())];
    let unnamed: Address = Address::Named("memory".into());
    for server in &servers {
        let pair = memory_pair_between(&server.reactor, unnamed.clone(), unnamed.clone());
        server.acceptor.accept(pair.server);
    }
    assert_eq!((limits.count(), limits.count_of(&unnamed)), (2, 0));
    assert!(servers[0].connect().is_lost());
}

#[test]
fn the_overflow_is_told_so_and_is_bounded_itself() {
    let limits = ConnectionLimits::new(1).overflow(|_: &Address| {
        // It stays until the peer says something.
        let busy = End::new("busy", &Log::default()).on_made(|transport| transport.write("busy"));
        busy.on_data(|transport, _| transport.lose_connection())
    });
    let server = Server::limited(&limits);
    let within = server.connect();
    let overflow: Vec<_> = (0..64).map(|_| server.connect()).collect();
    assert!(
        overflow
            .iter()
            .all(|client| *client.received.borrow() == b"busy")
    );
    assert_eq!(limits.count(), 1);
    let excess = server.connect();
    excess
        .log
        .check(["client made", "client lost: ConnectionReset"]);
    overflow[0].say("understood");
    overflow[0].log.check(["client made", "client lost: Done"]);
    assert!(
        !server.connect().is_lost(),
        "there is room to be told again"
    );
    within.say("lose");
    assert!(server.connect().received.borrow().is_empty(), "served");
}

#[test]
fn a_connection_that_is_silent_for_the_period_is_lost_with_that_reason() {
    let server = Server::idle(10 * SECOND);
    let client = server.connect();
    server.wait(9 * SECOND);
    assert!(!client.is_lost());
    server.wait(SECOND);
    client.run();
    client.log.check(["client made", "client lost: Done"]);
    let lines = server.log.lines();
    assert!(lines[1].starts_with("server lost: TimedOut"), "{lines:?}");
    assert!(lines[1].contains("10s"), "{lines:?}");
}

/// Tells its peer why it goes.
struct Farewell(Log);

impl Protocol for Farewell {
    fn data_received(&mut self, _: &Transport<Self>, _: &[u8]) {}

    fn about_to_be_lost(&mut self, transport: &Transport<Self>) {
        self.0.add("about to be lost");
        transport.write("you have fallen asleep");
    }

    fn connection_lost(&mut self, reason: ConnectionLost) {
        self.0.add(reason);
    }
}

#[test]
fn the_protocol_has_a_last_word_before_a_silent_connection_is_lost() {
    let log = Log::default();
    let to_log = log.clone();
    let seating = Rc::new(Seating::new(move |_: &Address| Farewell(to_log.clone())));
    let idle = |below| TimeoutServerEndpoint::new(below).timeout(10 * SECOND);
    let server = Server::seated(idle, seating, log);
    let client = server.connect();
    server.wait(10 * SECOND);
    client.run();
    assert_eq!(*client.received.borrow(), b"you have fallen asleep");
    let expected = "connection lost: a sign of life took longer than 10s";
    server.log.check(["about to be lost", expected]);
}

#[test]
fn every_read_and_every_write_begins_the_period_again() {
    let server = Server::idle(10 * SECOND);
    let reads = server.connect();
    for _ in 0..5 {
        server.wait(9 * SECOND);
        reads.say("x");
    }
    server.wait(9 * SECOND);
    assert!(!reads.is_lost());
    server.wait(SECOND);
    reads.run();
    assert!(reads.is_lost());

    let (reactor, taken) = (&server.reactor, Rc::new(RefCell::new(None)));
    let endpoint = TimeoutServerEndpoint::new(Taken(Rc::clone(&taken))).timeout(10 * SECOND);
    let writer = Rc::new(RefCell::new(None));
    let place = Rc::clone(&writer);
    let log = Log::default();
    let seat = move |stream| {
        place.replace(Some(Transport::connect(End::new("server", &log), stream)));
    };
    drop(
        endpoint
            .listen_streams(reactor, Rc::new(seat))
            .into_result(),
    );
    let pair = memory_pair(reactor);
    taken.take().expect("handed down").accept(pair.server);
    let end = Log::default();
    let client = Transport::connect(End::new("client", &end), pair.client);
    let writer = writer.take().expect("it was accepted");
    for _ in 0..5 {
        server.wait(9 * SECOND);
        writer.write("still here");
    }
    server.wait(9 * SECOND);
    assert!(client.is_connected() && writer.is_connected());
    server.wait(2 * SECOND);
    assert!(!writer.is_connected());
}

#[test]
fn what_still_leaves_is_a_sign_of_life_and_what_is_stuck_is_not() {
    let server = Server::idle(10 * SECOND);
    let client = server.connect();
    client.transport.pause_reading();
    client.say("much");
    for _ in 0..4 {
        server.wait(10 * SECOND);
        // A little is taken in each period, and nothing is read or written by the protocols.
        client.transport.resume_reading();
        let turn = server.reactor.turn(Some(Duration::ZERO));
        turn.expect("it turns");
        client.transport.pause_reading();
    }
    assert!(client.received.borrow().len() < MUCH);
    server.log.check(["server made", "server paused"]);
    // Two periods, and the time that an orderly end has.
    server.wait(20 * SECOND + Limits::default().flush + SECOND);
    let lines = server.log.lines();
    assert!(lines[2].starts_with("server lost: TimedOut"), "{lines:?}");
}

#[test]
fn no_timer_moves_for_a_message() {
    let server = Server::idle(10 * SECOND);
    let client = server.connect();
    let due = server.reactor.next_deadline();
    assert!(due.is_some());
    for _ in 0..5 {
        server.wait(SECOND);
        client.say("x");
        assert_eq!(server.reactor.next_deadline(), due);
    }
    server.wait(9 * SECOND);
    assert!(!client.is_lost(), "though the timer has come meanwhile");
}

/// A protocol with a timeout of its own.
#[derive(Default)]
struct Impatient {
    idle: IdleTimeout,
    log: Log,
}

impl Protocol for Impatient {
    fn data_received(&mut self, _: &Transport<Self>, _: &[u8]) {
        self.idle.reset_timeout();
    }

    fn connection_lost(&mut self, reason: ConnectionLost) {
        self.log.add(reason);
    }
}

fn impatient() -> (Reactor, Transport<Impatient>, Transport<End>, Log) {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let pair = memory_pair(&reactor);
    let protocol = Impatient {
        log: log.clone(),
        ..Impatient::default()
    };
    let server = Transport::connect(protocol, pair.server);
    let client = Transport::connect(End::new("client", &Log::default()), pair.client);
    (reactor, server, client, log)
}

fn pass(reactor: &Reactor, time: Duration) {
    let waited = reactor.run_until(sleep(reactor, time));
    waited.expect("time passes");
}

#[test]
fn a_timeout_is_off_until_it_is_set_and_setting_it_answers_the_one_before() {
    let (reactor, server, _client, log) = impatient();
    server.call(|impatient, transport| {
        let idle = &impatient.idle;
        idle.reset_timeout();
        assert_eq!(idle.timeout(), None);
        assert_eq!(idle.set_timeout(transport, Some(5 * SECOND)), None);
        assert_eq!(
            idle.set_timeout(transport, Some(7 * SECOND)),
            Some(5 * SECOND)
        );
        assert_eq!(idle.timeout(), Some(7 * SECOND));
        assert_eq!(idle.set_timeout(transport, None), Some(7 * SECOND));
        assert_eq!(format!("{idle:?}"), "IdleTimeout(off)");
    });
    pass(&reactor, 100 * SECOND);
    log.check([]);
    assert!(server.is_connected());
}

#[test]
fn a_protocols_timeout_counts_from_the_last_reset_and_loses_the_connection() {
    let (reactor, server, client, log) = impatient();
    server.call(|impatient, transport| {
        impatient.idle.set_timeout(transport, Some(10 * SECOND));
    });
    for _ in 0..3 {
        pass(&reactor, 9 * SECOND);
        client.write("x");
        pass(&reactor, Duration::from_millis(1));
    }
    pass(&reactor, 9 * SECOND);
    log.check([]);
    pass(&reactor, SECOND);
    log.check(["connection lost: a sign of life took longer than 10s"]);
}

#[test]
fn an_expiry_may_call_the_protocol_instead_once() {
    let (reactor, server, _client, log) = impatient();
    server.call(|impatient, transport| {
        let idle = &impatient.idle;
        idle.set_timeout_calling(transport, Some(SECOND), |impatient, transport| {
            impatient.log.add("timed out");
            assert_eq!(impatient.idle.timeout(), None);
            // It has no effect on one that is off.
            impatient.idle.reset_timeout();
            transport.write("are you there?");
        });
    });
    pass(&reactor, 10 * SECOND);
    log.check(["timed out"]);
    assert!(server.is_connected());
}

#[test]
fn a_timeout_ends_with_its_connection() {
    let (reactor, server, client, log) = impatient();
    server.call(|impatient, transport| {
        impatient.idle.set_timeout(transport, Some(SECOND));
    });
    client.abort_connection();
    drop((server, client));
    reactor
        .run_until_idle()
        .expect("nothing is left that could call");
    assert_eq!(log.lines().len(), 1);
}

#[test]
fn a_connection_whose_rate_is_limited_keeps_the_contract() {
    Contract::new(|| {
        // Every read is held up, for no time to speak of. The contract counts how often writers are
        // paused, so writing is measured, but always within its limit.
        let fast = RateLimit::new(1 << 30);
        let endpoint = RateLimitedServerEndpoint::new(TcpServerEndpoint::new("127.0.0.1:0"))
            .reading(fast.clone().burst(1))
            .writing(fast);
        Ends::between(&reactor(), &endpoint, TcpClientEndpoint::new)
    })
    .check();
}

/// A thousand bytes a second.
const RATE: usize = 1000;

/// What a read or a write has in the tests of rates.
const PIECE: usize = 100;

fn rate() -> RateLimit {
    RateLimit::new(RATE as u64)
}

/// Whether this many bytes may have passed after so many seconds: all that there is, or what the limit
/// allows, less the quarter of a burst that is waited for.
#[track_caller]
fn check_rate(passed: usize, seconds: usize, all: usize) {
    let most = RATE + seconds * RATE + PIECE;
    assert!(passed <= most, "{passed} in {seconds} s");
    let least = (most - RATE / 4 - 2 * PIECE).min(all);
    assert!(passed >= least, "{passed} in {seconds} s");
}

#[test]
fn reading_takes_a_burst_and_then_goes_at_its_rate() {
    const ALL: usize = 5 * RATE;
    let server = Server::behind(|below| RateLimitedServerEndpoint::new(below).reading(rate()));
    let client = server.connect();
    client.pair.pump.set_chunks(Chunks::Of(PIECE));
    client.transport.write(vec![b'x'; ALL]);
    for second in 0..7 {
        client.run();
        // The server says back what it has read.
        check_rate(client.received.borrow().len(), second, ALL);
        server.wait(SECOND);
    }
    assert_eq!(client.received.borrow().len(), ALL);
}

/// Writes whenever it may.
struct Source;

impl Source {
    fn write(transport: &Transport<Self>) {
        while !transport.is_congested() {
            transport.write([b'x'; PIECE]);
        }
    }
}

impl Protocol for Source {
    fn connection_made(&mut self, transport: &Transport<Self>) {
        Self::write(transport);
    }

    fn data_received(&mut self, _: &Transport<Self>, _: &[u8]) {}

    fn write_resumed(&mut self, transport: &Transport<Self>) {
        Self::write(transport);
    }
}

#[test]
fn who_heeds_the_word_to_wait_writes_a_burst_and_then_at_its_rate() {
    let server = Server::seated(
        |below| RateLimitedServerEndpoint::new(below).writing(rate()),
        Rc::new(Seating::new(|_: &Address| Source)),
        Log::default(),
    );
    let client = server.connect();
    for second in 0..7 {
        client.run();
        check_rate(client.received.borrow().len(), second, usize::MAX);
        server.wait(SECOND);
    }
}

#[test]
fn what_is_written_at_once_leaves_at_once_and_is_paid_for_before_the_writer_goes_on() {
    let server = Server::behind(|below| RateLimitedServerEndpoint::new(below).writing(rate()));
    let client = server.connect();
    client.say(&"x".repeat(3 * RATE));
    assert_eq!(client.received.borrow().len(), 3 * RATE);
    server.wait(Duration::from_millis(2249));
    server.log.check(["server made", "server paused"]);
    server.wait(Duration::from_millis(1));
    server
        .log
        .check(["server made", "server paused", "server resumed"]);
}

#[test]
fn a_limit_in_all_is_one_for_all_connections() {
    let server =
        Server::behind(|below| RateLimitedServerEndpoint::new(below).reading(rate().in_all()));
    let clients = [server.connect(), server.connect()];
    for client in &clients {
        client.pair.pump.set_chunks(Chunks::Of(PIECE));
        client.transport.write(vec![b'x'; 3 * RATE]);
    }
    let received = || {
        clients
            .each_ref()
            .map(|client| client.received.borrow().len())
    };
    for second in 0..7 {
        clients.iter().for_each(Client::run);
        let passed: usize = received().iter().sum();
        // Each may have one read more than there is.
        assert!(
            passed <= RATE + second * RATE + 2 * PIECE,
            "{passed} in {second} s"
        );
        server.wait(SECOND);
    }
    clients.iter().for_each(Client::run);
    assert_eq!(received(), [3 * RATE; 2]);
}

/// A client that has much to say, and what has come back to it so far.
fn talkative(server: &Server, peer: &str) -> Client {
    let client = server.connect_from(peer);
    client.pair.pump.set_chunks(Chunks::Of(PIECE));
    client.transport.write(vec![b'x'; 20 * RATE]);
    client
}

fn passed(client: &Client) -> usize {
    client.run();
    client.received.borrow().len()
}

#[test]
fn a_limit_per_peer_is_one_for_the_connections_of_each() {
    let server =
        Server::behind(|below| RateLimitedServerEndpoint::new(below).reading(rate().per_peer()));
    let [first, second, other] =
        ["10.0.0.1:5", "10.0.0.1:6", "10.0.0.2:5"].map(|peer| talkative(&server, peer));
    for time in 0..7 {
        let both = passed(&first) + passed(&second);
        // Each may have one read more than there is.
        check_rate(both.saturating_sub(PIECE), time, usize::MAX);
        check_rate(passed(&other), time, usize::MAX);
        server.wait(SECOND);
    }
    assert!(passed(&first) > RATE && passed(&second) > RATE, "each");
}

#[test]
fn a_peer_that_comes_again_has_no_new_burst_before_it_has_paid() {
    let server =
        Server::behind(|below| RateLimitedServerEndpoint::new(below).reading(rate().per_peer()));
    let first = talkative(&server, "10.0.0.1:5");
    check_rate(passed(&first), 0, usize::MAX);
    first.transport.abort_connection();
    first.run();
    let again = talkative(&server, "10.0.0.1:6");
    assert_eq!(passed(&again), PIECE, "a read, and no more");
    again.transport.abort_connection();
    again.run();
    server.wait(2 * SECOND);
    let late = talkative(&server, "10.0.0.1:7");
    check_rate(passed(&late), 0, usize::MAX);
}

#[test]
fn limits_within_one_another_all_hold_and_count_each_byte_once() {
    const IN_ALL: usize = 3 * RATE / 2;
    let in_all = RateLimit::new(IN_ALL as u64).in_all();
    let limit = rate().per_peer().within(in_all);
    let server = Server::behind(|below| RateLimitedServerEndpoint::new(below).reading(limit));
    let alone = talkative(&server, "10.0.0.1:5");
    for second in 0..4 {
        check_rate(passed(&alone), second, usize::MAX);
        server.wait(SECOND);
    }
    let before = passed(&alone);
    let others = ["10.0.0.2:5", "10.0.0.3:5"].map(|peer| talkative(&server, peer));
    for second in 0..6 {
        let each = others.each_ref().map(passed);
        for count in each {
            assert!(
                count <= (1 + second) * RATE + PIECE,
                "{count} in {second} s"
            );
        }
        let all: usize = passed(&alone) - before + each.iter().sum::<usize>();
        assert!(
            all <= (1 + second) * IN_ALL + 3 * PIECE,
            "{all} in {second} s"
        );
        // It was not full when they came, and a quarter is waited for.
        assert!(all + IN_ALL / 4 >= second * IN_ALL, "{all} in {second} s");
        server.wait(SECOND);
    }
}

#[test]
fn who_is_within_the_rate_or_idle_or_gone_has_no_timer() {
    let server = Server::behind(|below| {
        RateLimitedServerEndpoint::new(below)
            .reading(rate())
            .writing(rate())
    });
    let client = server.connect();
    client.say(&"x".repeat(RATE));
    assert_eq!(server.reactor.next_deadline(), None, "within");
    client.say(&"x".repeat(RATE));
    assert!(server.reactor.next_deadline().is_some(), "held up");
    server.wait(10 * SECOND);
    assert_eq!(server.reactor.next_deadline(), None, "idle");
    client.say(&"x".repeat(3 * RATE));
    client.transport.abort_connection();
    // The server does not read; its next word shows it the reset.
    server.wait(10 * SECOND);
    assert!(server.log.lines().iter().any(|line| line.contains("lost")));
    assert_eq!(server.reactor.next_deadline(), None, "gone");
}

#[test]
fn what_was_held_up_arrives_whole_before_the_end() {
    let server = Server::behind(|below| RateLimitedServerEndpoint::new(below).reading(rate()));
    let client = server.connect();
    client.pair.pump.set_chunks(Chunks::Of(PIECE));
    client.transport.write(vec![b'x'; 3 * RATE]);
    client.transport.lose_write_connection();
    client.run();
    assert!(!client.is_lost());
    server.wait(10 * SECOND);
    client.run();
    assert_eq!(client.received.borrow().len(), 3 * RATE);
    client.log.check(["client made", "client lost: Done"]);
}
