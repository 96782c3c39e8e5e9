//! Every order in which two peers may close, and every byte that may be changed on the way.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use torsade::prelude::*;
use torsade::protocols::tls::TlsStream;
use torsade::reactor::testing::{
    Chunks, MemoryPair, Simulation, memory_pair, virtual_time_reactor,
};
use torsade::reactor::{ClientEndpoint, ServerEndpoint, Stream};

use super::authority::{Authority, localhost};
use super::speaker::{Seen, Speaker};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Close {
    Lose,
    LoseWriting,
    Abort,
    /// Past TLS.
    Cut,
    Nothing,
}

const WAYS: [Close; 5] = [
    Close::Lose,
    Close::LoseWriting,
    Close::Abort,
    Close::Cut,
    Close::Nothing,
];

fn close(how: Close, transport: &Transport<Speaker>, below: &Rc<dyn Stream>) {
    match how {
        Close::Lose => transport.lose_connection(),
        Close::LoseWriting => transport.lose_write_connection(),
        Close::Abort => transport.abort_connection(),
        Close::Cut => below.lose_write_connection(),
        Close::Nothing => {}
    }
}

#[track_caller]
fn check_ended_once(seen: &Seen, what: &str) {
    let events = seen.events.borrow();
    let count = |name: &str| events.iter().filter(|event| *event == name).count();
    assert_eq!((count("made"), count("lost")), (1, 1), "{what}: {events:?}");
    assert!(count("read lost") <= 1, "{what}: {events:?}");
    assert_eq!(events.first().map(String::as_str), Some("made"), "{what}");
    assert_eq!(events.last().map(String::as_str), Some("lost"), "{what}");
}

/// Two ends, over whatever lies below them, and how time passes there.
struct Ends {
    client: Transport<Speaker>,
    server: Transport<Speaker>,
    at_client: Seen,
    at_server: Seen,
    /// What lies directly below each.
    below: [Rc<dyn Stream>; 2],
    turn: Box<dyn Fn()>,
    /// Goes on until it rests, without waiting for a limit.
    rest: Box<dyn Fn()>,
    /// Goes on to the next limit, or for a while.
    wait: Box<dyn Fn()>,
    now: Box<dyn Fn() -> Duration>,
}

fn seat(
    authority: &Authority,
    below: [Rc<dyn Stream>; 2],
) -> (Transport<Speaker>, Transport<Speaker>, Seen, Seen) {
    let [client_below, server_below] = below;
    let (client, server) = (Speaker::half_open(), Speaker::half_open());
    let (at_client, at_server) = (client.seen.clone(), server.seen.clone());
    let stream = TlsStream::client(client_below, &authority.client(), localhost());
    let client = Transport::connect(client, stream as Rc<dyn Stream>);
    let stream = TlsStream::server(server_below, &authority.server());
    let server = Transport::connect(server, stream as Rc<dyn Stream>);
    (client, server, at_client, at_server)
}

impl Ends {
    /// In memory; over another TLS, if so many.
    fn in_memory(authority: &Authority, nested: bool) -> Self {
        let reactor = virtual_time_reactor();
        let MemoryPair {
            mut client,
            mut server,
            pump,
            ..
        } = memory_pair(&reactor);
        pump.set_chunks(Chunks::Of(900));
        if nested {
            client = TlsStream::client(client, &authority.client(), localhost());
            server = TlsStream::server(server, &authority.server());
        }
        let below = [client, server];
        let (client, server, at_client, at_server) = seat(authority, below.clone());
        let [turning, waiting, watched] = [(); 3].map(|()| reactor.clone());
        let begin = reactor.now();
        Self {
            client,
            server,
            at_client,
            at_server,
            below,
            turn: Box::new(move || turning.turn(Some(Duration::ZERO)).expect("a turn")),
            rest: Box::new(move || pump.run().expect("it comes to rest")),
            wait: Box::new(move || waiting.turn(None).expect("a limit is scheduled")),
            now: Box::new(move || watched.now() - begin),
        }
    }

    /// Over TCP, between two hosts of a simulation.
    fn over_tcp(authority: &Authority) -> Self {
        let simulation = Rc::new(Simulation::new(5));
        let [server, client] = ["server", "client"].map(|name| simulation.host(name));
        let accepted: Rc<RefCell<Option<Rc<dyn Stream>>>> = Rc::default();
        let slot = Rc::clone(&accepted);
        let acceptor = Rc::new(move |stream| drop(slot.replace(Some(stream))));
        let listening = TcpServerEndpoint::new(":7").listen_streams(&server.reactor(), acceptor);
        let port = server.reactor().run_until(listening);
        drop(port.expect("the port is free"));
        let connecting = TcpClientEndpoint::new("server:7").connect_stream(&client.reactor());
        let stream = client.reactor().run_until(connecting);
        let stream = stream.expect("it listens");
        assert!(simulation.run_while(|| accepted.borrow().is_none()));
        let below = [stream, accepted.take().expect("it is accepted")];
        let (client, server, at_client, at_server) = seat(authority, below.clone());
        let [turning, resting, waiting, watched] = [(); 4].map(|()| Rc::clone(&simulation));
        Self {
            client,
            server,
            at_client,
            at_server,
            below,
            turn: Box::new(move || {
                turning.step();
            }),
            rest: Box::new(move || resting.run_for(Duration::from_secs(4))),
            wait: Box::new(move || waiting.run_for(Duration::from_secs(1))),
            now: Box::new(move || watched.now()),
        }
    }
}

/// One conversation that is ended in one way by each side, after so many turns, with so much
/// unsent.
fn check(ends: &Ends, client: Close, server: Close, turns: usize, unsent: usize) {
    let what = format!("{client:?}, {server:?} after {turns} turns with {unsent} unsent");
    for _ in 0..turns {
        (ends.turn)();
    }
    ends.client.write(vec![b'c'; unsent]);
    ends.server.write(vec![b's'; unsent]);
    close(client, &ends.client, &ends.below[0]);
    close(server, &ends.server, &ends.below[1]);
    (ends.rest)();
    let (at_client, at_server) = (&ends.at_client, &ends.at_server);
    // A peer that closes in order gets everything across to one that listens to the end.
    let listens = |how| matches!(how, Close::Nothing | Close::LoseWriting);
    for (how, other, seen, byte) in [
        (client, server, at_server, b'c'),
        (server, client, at_client, b's'),
    ] {
        if matches!(how, Close::Lose | Close::LoseWriting) && listens(other) {
            let data = seen.data.borrow();
            assert_eq!(data.len(), unsent, "{what}");
            assert!(data.iter().all(|it| *it == byte), "{what}");
        }
    }
    // Whoever is still there goes now; and nobody waits longer than the limits.
    ends.client.lose_connection();
    ends.server.lose_connection();
    (ends.rest)();
    let begin = (ends.now)();
    while at_client.reason.borrow().is_none() || at_server.reason.borrow().is_none() {
        (ends.wait)();
        assert!((ends.now)() - begin <= Duration::from_secs(60), "{what}");
    }
    check_ended_once(at_client, &what);
    check_ended_once(at_server, &what);
    // A cut is never taken for an end in order by one that did not close itself.
    if client == Close::Cut && server == Close::Nothing {
        assert!(TlsError::of(at_server.reason.borrow().as_ref().expect("lost")).is_some());
    }
}

#[track_caller]
fn check_all(ends: impl Fn() -> Ends, all_turns: &[usize]) {
    for client in WAYS {
        for server in WAYS {
            // Before, during and after the handshake.
            for turns in all_turns {
                for unsent in [0, 1, 40_000] {
                    check(&ends(), client, server, *turns, unsent);
                }
            }
        }
    }
}

#[test]
fn every_order_of_closing_ends_once_on_both_sides_and_loses_nothing() {
    let authority = Authority::new();
    let ends = || Ends::in_memory(&authority, false);
    check_all(ends, &[0, 1, 2, 3, 5, 40]);
}

#[test]
fn so_does_every_order_over_another_tls() {
    let authority = Authority::new();
    check_all(|| Ends::in_memory(&authority, true), &[0, 3, 9, 80]);
}

#[test]
fn so_does_every_order_over_tcp() {
    let authority = Authority::new();
    check_all(|| Ends::over_tcp(&authority), &[0, 7, 30, 200]);
}

/// Passes bytes on to the other side, and changes one of them.
struct Relay {
    other: Rc<dyn Stream>,
    /// How many bytes until the one that is changed; `None` when none is.
    left: Rc<Cell<Option<usize>>>,
}

impl Protocol for Relay {
    fn data_received(&mut self, _: &Transport<Self>, data: &[u8]) {
        let mut data = data.to_vec();
        if let Some(left) = self.left.get() {
            if let Some(byte) = data.get_mut(left) {
                *byte ^= 0x40;
            }
            self.left.set(left.checked_sub(data.len()));
        }
        self.other.write(&data);
    }

    fn read_connection_lost(&mut self, _: &Transport<Self>) {
        self.other.lose_write_connection();
    }
}

#[test]
fn a_byte_that_was_changed_on_the_way_is_never_delivered() {
    let authority = Authority::new();
    let (client_config, server_config) = (authority.client(), authority.server());
    let message = b"what was said, and nothing else";
    let (mut untouched, mut broken) = (0, 0);
    // Whose bytes, and which of them: both flights of the handshake, and the data.
    for from_client in [true, false] {
        for position in (0..2400).step_by(13) {
            let reactor = virtual_time_reactor();
            let (left, right) = (memory_pair(&reactor), memory_pair(&reactor));
            let target = Rc::new(Cell::new(Some(position)));
            let changed = |active| match active {
                true => Rc::clone(&target),
                false => Rc::default(),
            };
            Transport::connect(
                Relay {
                    other: Rc::clone(&right.client),
                    left: changed(from_client),
                },
                Rc::clone(&left.server),
            );
            Transport::connect(
                Relay {
                    other: Rc::clone(&left.server),
                    left: changed(!from_client),
                },
                Rc::clone(&right.client),
            );
            let (client, server) = (Speaker::default(), Speaker::echo());
            let (at_client, at_server) = (client.seen.clone(), server.seen.clone());
            let stream = TlsStream::client(left.client, &client_config, localhost());
            let client = Transport::connect(client, stream as Rc<dyn Stream>);
            let stream = TlsStream::server(right.server, &server_config);
            Transport::connect(server, stream as Rc<dyn Stream>);
            client.write(message);
            left.pump.run().expect("it rests");
            right.pump.run().expect("it rests");
            for seen in [&at_client, &at_server] {
                let data = seen.data.borrow();
                assert!(message.starts_with(&data), "{position}: {data:?}");
            }
            let whole = *at_client.data.borrow() == message;
            if target.get().is_some() {
                // It ended before that byte.
                assert!(whole, "{position}: nothing was changed");
                untouched += 1;
            }
            broken += usize::from(!whole);
        }
    }
    // How long a handshake is differs from run to run, by some bytes of signatures.
    assert!(
        untouched > 0 && broken > 50,
        "{untouched} untouched, {broken} broken"
    );
}
