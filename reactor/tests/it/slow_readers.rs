//! A client that asks and never reads costs what the documentation says, and costs it nobody
//! else.

use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::time::Duration;

use torsade_reactor::testing::{MemoryPair, memory_pair, virtual_time_reactor};
use torsade_reactor::{Address, ConnectionLost, Limits, Port, Protocol, Reactor, Transport};

use crate::common::{End, Log, reactor, run_while};

const ANSWER: usize = 1024;

/// Answers each byte with a kilobyte, as a naive server does: it looks at no mark.
struct Generous(Rc<Seen>);

#[derive(Default)]
struct Seen {
    most_unsent: Cell<usize>,
    largest_callback: Cell<usize>,
    lost: Cell<usize>,
}

impl Protocol for Generous {
    fn data_received(&mut self, transport: &Transport<Self>, data: &[u8]) {
        for byte in data {
            transport.write([*byte; ANSWER]);
        }
        let note = |seen: &Cell<usize>, size: usize| seen.set(seen.get().max(size));
        note(&self.0.most_unsent, transport.unsent());
        note(&self.0.largest_callback, data.len() * ANSWER);
    }

    fn connection_lost(&mut self, _: ConnectionLost) {
        self.0.lost.set(self.0.lost.get() + 1);
    }
}

fn turn(reactor: &Reactor) {
    let turned = reactor.turn(Some(Duration::ZERO));
    turned.expect("the loop can turn");
}

fn client(port: &Port) -> TcpStream {
    let Address::Tcp(address) = port.address() else {
        unreachable!("it listens on TCP");
    };
    let stream = TcpStream::connect(address).expect("loopback can connect");
    let set = stream.set_nonblocking(true);
    set.expect("a socket can be non-blocking");
    stream
}

/// Asks, in pieces, until the way to the server is full; reads nothing.
fn fill(reactor: &Reactor, deaf: &mut TcpStream, piece: usize) {
    let piece = vec![1; piece];
    let mut refused = 0;
    for _ in 0..1_000_000 {
        match deaf.write(&piece) {
            Ok(_) => refused = 0,
            Err(error) if error.kind() == ErrorKind::WouldBlock => refused += 1,
            Err(error) => panic!("{error}"),
        }
        turn(reactor);
        if refused == 10 {
            return;
        }
    }
    panic!("a client that reads nothing is never slowed down");
}

/// Asks for one answer, and takes it: within a hundred turns.
fn is_answered(reactor: &Reactor, stream: &mut TcpStream) -> bool {
    let (mut answer, mut count) = ([0; ANSWER], 0);
    stream.write_all(b"?").expect("there is room for a byte");
    for _ in 0..100 {
        turn(reactor);
        match stream.read(&mut answer[count..]) {
            Ok(more) => count += more,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        if count == ANSWER {
            return answer == [b'?'; ANSWER];
        }
    }
    false
}

#[test]
fn a_client_that_pipelines_and_never_reads_is_throttled_and_the_others_go_on() {
    for piece in [64, 16 * 1024] {
        let (reactor, seen) = (reactor(), Rc::new(Seen::default()));
        let of_server = Rc::clone(&seen);
        let port = reactor
            .listen_tcp("127.0.0.1:0", move |_: &Address| {
                Generous(Rc::clone(&of_server))
            })
            .expect("loopback can listen");
        let mut deaf = client(&port);
        let mut other = client(&port);
        fill(&reactor, &mut deaf, piece);
        for _ in 0..10 {
            assert!(is_answered(&reactor, &mut other));
        }
        let (most, mark) = (seen.most_unsent.get(), Limits::default().unsent_high);
        assert!(most > mark, "it was deaf: {most}");
        // Not read above the mark: so there is that much, and one callback's answers. (What one
        // callback writes has no limit but the protocol's own.)
        let bound = mark + seen.largest_callback.get();
        assert!(most <= bound, "{most} of {bound}");
        drop(deaf);
        for _ in 0..100 {
            turn(&reactor);
        }
        assert_eq!(seen.lost.get(), 1, "it is gone, the other stays");
    }
}

const CAP: usize = 100_000;

/// A server on a memory pair, small in what it keeps, that has written `size` bytes in one
/// callback to a client that reads nothing.
fn overfull(size: usize) -> (Reactor, Log, MemoryPair, Transport<End>, Transport<End>) {
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let pair = memory_pair(&reactor);
    let client = Transport::connect(End::new("client", &log), Rc::clone(&pair.client));
    let server = Transport::connect(End::new("server", &log), Rc::clone(&pair.server));
    client.pause_reading();
    server.set_limits(Limits {
        unsent_max: CAP,
        flush: Duration::from_secs(7),
        ..Limits::default()
    });
    pair.pump.run().expect("it comes to rest");
    server.write(vec![b'x'; size]);
    pair.pump.run().expect("it comes to rest");
    (reactor, log, pair, client, server)
}

fn pass(reactor: &Reactor, time: Duration) {
    let passed = Rc::new(Cell::new(false));
    let noted = Rc::clone(&passed);
    reactor.call_later(time, move || noted.set(true));
    run_while(reactor, || !passed.get());
}

#[test]
fn what_one_callback_wrote_beyond_the_cap_is_kept_for_the_limit_of_a_flush_and_no_longer() {
    let (reactor, log, pair, _client, server) = overfull(10 * CAP);
    assert!(server.unsent() > CAP);
    pass(&reactor, Duration::from_millis(6_900));
    assert!(server.is_connected(), "the peer still may take it");
    pass(&reactor, Duration::from_millis(200));
    pair.pump.run().expect("it comes to rest");
    assert!(
        log.lines()
            .contains(&format!("server lost: Overrun {{ limit: {CAP} }}"))
    );
    assert_eq!(server.unsent(), 0, "its memory is free");
}

#[test]
fn what_sinks_below_the_cap_in_time_is_no_overrun() {
    // So much fits into the wire that taking that brings it below.
    let (reactor, log, pair, client, server) = overfull(CAP + 100_000);
    assert!(server.unsent() > CAP);
    pass(&reactor, Duration::from_secs(5));
    client.resume_reading();
    pair.pump.set_capacity(1);
    pair.pump.run().expect("it comes to rest");
    pass(&reactor, Duration::from_secs(60));
    pair.pump.run().expect("it comes to rest");
    assert!(server.is_connected(), "{:?}", log.lines());
}

#[test]
fn each_time_that_the_cap_is_exceeded_has_its_own_limit() {
    let (reactor, log, pair, client, server) = overfull(2 * CAP);
    pass(&reactor, Duration::from_secs(5));
    client.resume_reading();
    pair.pump.run().expect("it comes to rest");
    assert_eq!(server.unsent(), 0);
    client.pause_reading();
    server.write(vec![b'y'; 10 * CAP]);
    pass(&reactor, Duration::from_secs(5));
    assert!(server.is_connected(), "not by the limit of the first time");
    pass(&reactor, Duration::from_secs(3));
    pair.pump.run().expect("it comes to rest");
    assert!(!server.is_connected(), "{:?}", log.lines());
}

/// Takes what has come every twenty seconds, `times` times, and then nothing any more.
fn sip(transport: Transport<End>, times: usize) {
    const PAUSE: Duration = Duration::from_secs(20);
    if times == 0 {
        return transport.pause_reading();
    }
    let reactor = transport.reactor();
    drop(reactor.call_later(PAUSE, move || {
        transport.resume_reading();
        // What there is room for is delivered in the next turn; then it is full again.
        let reactor = transport.reactor();
        reactor.call_soon(move || {
            let reactor = transport.reactor();
            reactor.call_soon(move || {
                transport.pause_reading();
                sip(transport, times - 1);
            });
        });
    }));
}

/// Sends more than there is room for, and closes, to somebody who sips it: the log, what arrived
/// and how long that took.
fn leave_a_sipper(times: usize) -> (Vec<String>, usize, Duration) {
    const ROOM: usize = 1000;
    const ALL: usize = 10 * ROOM;
    let (reactor, log) = (virtual_time_reactor(), Log::default());
    let MemoryPair {
        client,
        server,
        pump,
        ..
    } = memory_pair(&reactor);
    pump.set_capacity(ROOM);
    let writer = Transport::connect(End::new("writer", &log), server);
    let end = End::new("reader", &Log::default());
    let received = Rc::clone(&end.received);
    let reader = Transport::connect(end, client);
    reader.pause_reading();
    let begun = reactor.now();
    writer.write(vec![b'x'; ALL]);
    writer.lose_connection();
    sip(reader.clone(), times);
    while log.lines().len() < 2 {
        reactor.turn(None).expect("the loop can turn");
    }
    let taken = received.borrow().len();
    (log.lines(), taken, reactor.now() - begun)
}

#[test]
fn who_takes_the_rest_slowly_gets_all_of_it() {
    let (lines, _, lasted) = leave_a_sipper(100);
    assert_eq!(lines, ["writer made", "writer lost: Done"]);
    // Else this shows nothing.
    assert!(lasted > 2 * Limits::default().flush, "{lasted:?}");
}

#[test]
fn who_stops_taking_the_rest_is_left_when_the_limit_has_passed_since() {
    let (lines, taken, lasted) = leave_a_sipper(3);
    let reason =
        "writer lost: TimedOut { waiting_for: \"sending the rest before closing\", limit: 30s }";
    assert_eq!(lines, ["writer made", reason]);
    assert!(taken > 0);
    let still = lasted - 3 * Duration::from_secs(20);
    let limit = Limits::default().flush;
    assert!(still >= limit && still <= limit + limit / 8, "{still:?}");
}
