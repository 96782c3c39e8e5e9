//! Every order in which two peers may close, and every byte that may be changed on the way.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use torsade::prelude::*;
use torsade::protocols::tls::TlsStream;
use torsade::reactor::Stream;
use torsade::reactor::testing::{Chunks, memory_pair, virtual_time_reactor};

use super::authority::{Authority, localhost};
use super::speaker::{Seen, Speaker, Talk};

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

/// One conversation that is ended in one way by each side, after so many turns, with so much
/// unsent.
fn check(authority: &Authority, client: Close, server: Close, turns: usize, unsent: usize) {
    let what = format!("{client:?}, {server:?} after {turns} turns with {unsent} unsent");
    let talk = Talk::new(
        (Speaker::half_open(), &authority.client()),
        (Speaker::half_open(), &authority.server()),
    );
    talk.pump.set_chunks(Chunks::Of(900));
    for _ in 0..turns {
        talk.reactor.turn(Some(Duration::ZERO)).expect("a turn");
    }
    talk.client.write(vec![b'c'; unsent]);
    talk.server.write(vec![b's'; unsent]);
    close(client, &talk.client, &talk.below.client);
    close(server, &talk.server, &talk.below.server);
    talk.run();
    // A peer that closes in order gets everything across to one that listens to the end.
    let listens = |how| matches!(how, Close::Nothing | Close::LoseWriting);
    if matches!(client, Close::Lose | Close::LoseWriting) && listens(server) {
        assert_eq!(talk.at_server.data.borrow().len(), unsent, "{what}");
        assert!(
            talk.at_server
                .data
                .borrow()
                .iter()
                .all(|byte| *byte == b'c'),
            "{what}"
        );
    }
    if matches!(server, Close::Lose | Close::LoseWriting) && listens(client) {
        assert_eq!(talk.at_client.data.borrow().len(), unsent, "{what}");
    }
    // Whoever is still there goes now; and nobody waits longer than the limits.
    talk.client.lose_connection();
    talk.server.lose_connection();
    talk.run();
    let begin = talk.reactor.now();
    while talk.at_client.reason.borrow().is_none() || talk.at_server.reason.borrow().is_none() {
        talk.reactor.turn(None).expect("a limit is scheduled");
    }
    assert!(
        talk.reactor.now() - begin <= Duration::from_secs(60),
        "{what}"
    );
    check_ended_once(&talk.at_client, &what);
    check_ended_once(&talk.at_server, &what);
    // A cut is never taken for an end in order by one that did not close itself.
    if client == Close::Cut && server == Close::Nothing {
        assert!(TlsError::of(talk.at_server.reason.borrow().as_ref().expect("lost")).is_some());
    }
}

#[test]
fn every_order_of_closing_ends_once_on_both_sides_and_loses_nothing() {
    let authority = Authority::new();
    for client in WAYS {
        for server in WAYS {
            // Before, during and after the handshake.
            for turns in [0, 1, 2, 3, 5, 40] {
                for unsent in [0, 1, 40_000] {
                    check(&authority, client, server, turns, unsent);
                }
            }
        }
    }
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
