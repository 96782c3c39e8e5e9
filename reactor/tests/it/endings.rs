//! How connections end when things go wrong: resets, cut-off streams, panics in layers,
//! and peers that read only when they have written everything.

use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use rustix::net::{SendFlags, sockopt};
use torsade_deferred::Canceller;
use torsade_reactor::{Address, ConnectionLost, Limits, Reactor, Receiver, Transport};

use crate::common::{End, Log, count_unhandled, reactor};

/// A peer that is no reactor's, and the transport of the end that it talks to.
fn with_plain_peer(reactor: &Reactor, server: End) -> (TcpStream, Transport<End>) {
    let slot: Rc<RefCell<Option<Transport<End>>>> = Rc::default();
    let seen = Rc::clone(&slot);
    let mut end = Some(server);
    let port = reactor
        .listen_tcp("127.0.0.1:0", move |_: &Address| {
            let seen = Rc::clone(&seen);
            Some(end.take()?.on_made(move |transport| {
                seen.replace(Some(transport.clone()));
            }))
        })
        .unwrap();
    let peer = TcpStream::connect(port.address().to_string()).unwrap();
    for _ in 0..100 {
        if slot.borrow().is_some() {
            break;
        }
        reactor.turn(Some(Duration::from_millis(50))).unwrap();
    }
    drop(port.stop_listening());
    let transport = slot.take().unwrap();
    (peer, transport)
}

fn turns(reactor: &Reactor, mut goes_on: impl FnMut() -> bool) {
    for _ in 0..100 {
        if !goes_on() {
            return;
        }
        reactor.turn(Some(Duration::from_millis(20))).unwrap();
    }
}

fn reset(peer: TcpStream) {
    sockopt::set_socket_linger(&peer, Some(Duration::ZERO)).unwrap();
    drop(peer);
}

#[test]
fn connections_that_a_callback_closes_are_lost_in_the_order_of_its_closing() {
    for own_first in [true, false] {
        let (reactor, log) = (reactor(), Log::default());
        let (_peer, other) = with_plain_peer(&reactor, End::new("other", &log));
        let own = End::new("own", &log).on_data(move |own, _| {
            if own_first {
                own.abort_connection();
                other.abort_connection();
            } else {
                other.abort_connection();
                own.abort_connection();
            }
        });
        let (mut peer, own) = with_plain_peer(&reactor, own);
        peer.write_all(b"go").unwrap();
        turns(&reactor, || own.is_connected());
        let (first, second) = if own_first {
            ("own lost: Aborted", "other lost: Aborted")
        } else {
            ("other lost: Aborted", "own lost: Aborted")
        };
        log.check(["other made", "own made", first, second]);
    }
}

#[test]
fn a_reset_after_the_peers_end_is_told_to_who_keeps_half_open() {
    let (reactor, log) = (reactor(), Log::default());
    let (peer, _transport) = with_plain_peer(&reactor, End::new("server", &log).keeps_half_open());
    peer.shutdown(Shutdown::Write).unwrap();
    turns(&reactor, || log.lines().len() < 2);
    log.check(["server made", "server read lost"]);
    reset(peer);
    turns(&reactor, || log.lines().len() < 3);
    assert_eq!(log.lines().len(), 3, "{:?}", log.lines());
}

#[test]
fn a_reset_is_told_also_while_reading_is_paused() {
    let (reactor, log) = (reactor(), Log::default());
    let (peer, transport) = with_plain_peer(&reactor, End::new("server", &log));
    transport.pause_reading();
    reset(peer);
    turns(&reactor, || log.lines().len() < 2);
    assert_eq!(log.lines().len(), 2, "{:?}", log.lines());
}

#[test]
fn a_stream_that_was_cut_off_does_not_look_complete_to_the_peer() {
    let (reactor, log) = (reactor(), Log::default());
    let (mut peer, transport) = with_plain_peer(&reactor, End::new("server", &log));
    transport.set_limits(Limits {
        flush: Duration::from_millis(1),
        ..Limits::default()
    });
    let total = 64 << 20;
    transport.write(vec![0; total]);
    transport.lose_connection();
    turns(&reactor, || log.lines().len() < 2);
    assert!(log.lines()[1].starts_with("server lost: TimedOut"));
    let mut all = Vec::new();
    let outcome = peer.read_to_end(&mut all);
    assert!(
        outcome.is_err() || all.len() == total,
        "{} of {total} bytes, and then an orderly end",
        all.len()
    );
}

#[test]
fn an_overrun_does_not_look_complete_to_the_peer() {
    let (reactor, log) = (reactor(), Log::default());
    let (mut peer, transport) = with_plain_peer(&reactor, End::new("server", &log));
    transport.write(vec![0; 64 << 20]);
    turns(&reactor, || log.lines().len() < 2);
    transport.write("x");
    turns(&reactor, || log.lines().len() < 3);
    assert!(log.lines()[2].contains("Overrun"), "{:?}", log.lines());
    let mut all = Vec::new();
    let outcome = peer.read_to_end(&mut all);
    assert!(
        outcome.is_err(),
        "{} bytes, and then an orderly end",
        all.len()
    );
}

#[test]
fn a_protocol_that_panicked_is_not_visited_again() {
    let (reactor, log) = (reactor(), Log::default());
    let (_unhandled, _guard) = count_unhandled();
    let server = End::new("server", &log).on_data(|transport, _| {
        transport.call(|end, _| end.log.add("visited"));
        panic!("on purpose");
    });
    let (mut peer, _transport) = with_plain_peer(&reactor, server);
    peer.write_all(b"x").unwrap();
    turns(&reactor, || log.lines().len() < 2);
    log.check(["server made", "server lost: panic on purpose"]);
}

#[test]
fn urgent_data_is_data_and_what_is_behind_it_is_read() {
    let (reactor, log) = (reactor(), Log::default());
    let server = End::new("server", &log);
    let received = Rc::clone(&server.received);
    let (mut peer, _transport) = with_plain_peer(&reactor, server);
    peer.set_nodelay(true).unwrap();
    rustix::net::send(&peer, b"abc!", SendFlags::OOB).unwrap();
    peer.write_all(b"def").unwrap();
    turns(&reactor, || received.borrow().len() < 7);
    assert_eq!(&*received.borrow(), b"abc!def");
}

#[test]
fn a_protocol_seated_on_a_connection_that_is_over_is_told_so_and_freed() {
    let (reactor, log) = (reactor(), Log::default());
    let (_peer, transport) = with_plain_peer(&reactor, End::new("first", &log));
    transport.abort_connection();
    turns(&reactor, || log.lines().len() < 2);
    let second = End::new("second", &log);
    let received = Rc::downgrade(&second.received);
    drop(Transport::connect(second, Rc::clone(transport.stream())));
    drop(transport);
    turns(&reactor, || log.lines().len() < 4);
    drop(reactor);
    assert_eq!(received.strong_count(), 0, "leaked; {:?}", log.lines());
    assert_eq!(log.lines().len(), 4, "{:?}", log.lines());
}

/// A layer with a bug.
struct Broken;
impl Receiver for Broken {
    fn data_received(self: Rc<Self>, _: &[u8]) {
        panic!("a layer's own panic");
    }
    fn read_connection_lost(self: Rc<Self>) {}
    fn write_paused(self: Rc<Self>) {}
    fn write_resumed(self: Rc<Self>) {}
    fn connection_lost(self: Rc<Self>, _: ConnectionLost) {}
}

#[test]
fn a_panic_in_a_layer_ends_its_connection_and_nothing_else() {
    let (reactor, log) = (reactor(), Log::default());
    let (mut peer, transport) = with_plain_peer(&reactor, End::new("server", &log));
    transport.stream().set_receiver(Rc::new(Broken));
    peer.write_all(b"x").unwrap();
    let (unhandled, _guard) = count_unhandled();
    turns(&reactor, || transport.is_connected());
    assert!(!transport.is_connected());
    assert_eq!(unhandled.get(), 1);
}

#[test]
fn a_large_answer_arrives_though_the_peer_sends_on_while_it_is_flushed() {
    let (reactor, log) = (reactor(), Log::default());
    let answer = 16 << 20;
    let of_server = log.clone();
    let port = reactor
        .listen_tcp("127.0.0.1:0", move |_: &Address| {
            End::new("server", &of_server).on_data(move |transport, _| {
                if transport.is_connected() {
                    transport.set_limits(Limits {
                        flush: Duration::from_secs(3),
                        ..Limits::default()
                    });
                    transport.write(vec![b'x'; answer]);
                    transport.lose_connection();
                }
            })
        })
        .unwrap();
    let address = port.address().to_string();
    // A peer that reads when it has sent everything.
    let peer = thread::spawn(move || {
        let mut peer = TcpStream::connect(address).unwrap();
        let _ = peer.write_all(&vec![b'y'; 32 << 20]);
        let mut all = Vec::new();
        let _ = peer.read_to_end(&mut all);
        all.len()
    });
    for _ in 0..1000 {
        if peer.is_finished() {
            break;
        }
        reactor.turn(Some(Duration::from_millis(20))).unwrap();
    }
    assert_eq!(peer.join().unwrap(), answer, "{:?}", log.lines());
}

#[test]
fn a_protocol_that_calls_itself_again_and_again_starves_nobody() {
    fn again(transport: &Transport<End>, left: usize, seen: Rc<Cell<bool>>, log: Log) {
        transport.call(move |_, transport| {
            if left == 0 || seen.get() {
                log.add(format!("ended with {left} left"));
            } else {
                again(transport, left - 1, seen, log);
            }
        });
    }
    let (reactor, log) = (reactor(), Log::default());
    let pair = crate::common::connect(&reactor, End::new("client", &log), End::new("server", &log));
    let seen = Rc::new(Cell::new(false));
    let flag = Rc::clone(&seen);
    reactor.call_soon(move || flag.set(true));
    // Outside of the loop and in the loop alike.
    again(&pair.client, 1_000_000, Rc::clone(&seen), log.clone());
    assert!(!log.lines().contains(&"ended with 0 left".to_owned()));
}

#[test]
fn an_attempt_that_is_cancelled_while_its_protocol_is_built_has_been_made() {
    let (reactor, log) = (reactor(), Log::default());
    let port = reactor
        .listen_tcp("127.0.0.1:0", |_: &Address| {
            End::new("server", &Log::default())
        })
        .unwrap();
    let own = Rc::new(RefCell::new(None::<Canceller>));
    let (found, seen) = (Rc::clone(&own), log.clone());
    let connecting = reactor.connect_tcp(port.address(), move |_| {
        let own = found.borrow();
        let own = own.as_ref().expect("it connects later");
        own.cancel();
        let canceller = own.clone();
        End::new("client", &seen).on_made(move |_| canceller.cancel())
    });
    own.replace(Some(connecting.canceller()));
    let transport = reactor.run_until(connecting).expect("it was too late");
    assert!(transport.is_connected());
    log.check(["client made"]);
}

#[test]
fn a_half_close_that_comes_too_late_says_how_the_connection_broke() {
    let (reactor, log) = (reactor(), Log::default());
    let server = End::new("server", &log).keeps_half_open();
    let pair = crate::common::connect(&reactor, End::new("client", &log), server);
    pair.client.lose_connection();
    let ended = |log: &Log| log.lines().contains(&"server read lost".to_owned());
    crate::common::run_while(&reactor, || !ended(&log));
    // What the first brings back may be here before the second.
    pair.server.write("to nobody");
    pair.server.lose_write_connection();
    let is_lost = |log: &Log| {
        log.lines()
            .iter()
            .any(|line| line.starts_with("server lost"))
    };
    crate::common::run_while(&reactor, || !is_lost(&log));
    let lines = log.lines();
    let reason = lines.last().expect("it was lost");
    let reasons = [
        "server lost: Done",
        "server lost: BrokenPipe",
        "server lost: ConnectionReset",
    ];
    assert!(reasons.contains(&reason.as_str()), "{reason}");
}

#[test]
fn a_paused_reader_learns_of_a_reset_at_once_and_what_was_unread_is_lost() {
    let (reactor, log) = (reactor(), Log::default());
    let end = End::new("server", &log);
    let received = Rc::clone(&end.received);
    let (mut peer, transport) = with_plain_peer(&reactor, end);
    transport.pause_reading();
    peer.write_all(b"last words").unwrap();
    reset(peer);
    turns(&reactor, || log.lines().len() < 2);
    log.check(["server made", "server lost: ConnectionReset"]);
    transport.resume_reading();
    turns(&reactor, || false);
    assert!(received.borrow().is_empty());
}

#[test]
fn what_came_before_a_reset_is_delivered_though_an_answer_can_no_longer_be_sent() {
    let (reactor, log) = (reactor(), Log::default());
    let end = End::new("server", &log);
    let received = Rc::clone(&end.received);
    let (mut peer, transport) = with_plain_peer(&reactor, end);
    // More than the system takes for a peer that reads nothing.
    transport.write(vec![0; 8 << 20]);
    for _ in 0..5 {
        reactor.turn(Some(Duration::ZERO)).unwrap();
    }
    assert!(transport.unsent() > 0);
    peer.write_all(b"request is too large").unwrap();
    reset(peer);
    turns(&reactor, || transport.is_connected());
    log.check([
        "server made",
        "server paused",
        "server lost: ConnectionReset",
    ]);
    assert_eq!(*received.borrow(), b"request is too large");
}

/// What a connection reads in one turn, at the most: four reads.
const IN_ONE_TURN: usize = 4 * 64 * 1024 + 1024;

/// Whether so many bytes take several turns. A system that has less room for them than Linux has by
/// default cannot show it.
#[expect(clippy::print_stderr, reason = "what is not tested is said")]
fn take_several_turns(words: &[u8], room: usize) -> bool {
    if words.len() <= IN_ONE_TURN && room < 400 * 1024 {
        eprintln!("SKIPPED: net.core.wmem_max leaves a socket no more than {room} bytes of room");
        return true;
    }
    words.len() > IN_ONE_TURN
}

/// A peer that writes a lot and goes, without having read what it was sent: its system resets the
/// connection behind that. Gives what it wrote.
fn writes_and_goes(mut peer: UnixStream) -> Vec<u8> {
    peer.set_nonblocking(true).unwrap();
    let words: Vec<_> = (0..400 * 1024_u32)
        .map(|place| (place % 251) as u8)
        .collect();
    let mut written = 0;
    while written < words.len() {
        match peer.write(&words[written..]) {
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    words[..written].to_vec()
}

/// A stream over a UNIX socket, whose system takes more than one turn reads before it is full.
fn with_roomy_peer(reactor: &Reactor, server: End) -> (UnixStream, Transport<End>) {
    let (ours, peer) = UnixStream::pair().unwrap();
    sockopt::set_socket_send_buffer_size(&peer, 1 << 20).unwrap();
    let transport = reactor.adopt_connection(ours, |_| server).unwrap();
    (peer, transport)
}

#[test]
fn what_came_before_a_reset_is_delivered_also_if_it_takes_several_turns() {
    for answers in [false, true] {
        let (reactor, log) = (reactor(), Log::default());
        let mut end = End::new("server", &log);
        if answers {
            end = end.on_data(|transport, _| transport.write("understood"));
        }
        let received = Rc::clone(&end.received);
        let (peer, transport) = with_roomy_peer(&reactor, end);
        // More than the system takes for a peer that reads nothing; or little, so that there
        // is room for the answers.
        transport.write(vec![0; if answers { 1 } else { 8 << 20 }]);
        for _ in 0..5 {
            reactor.turn(Some(Duration::ZERO)).unwrap();
        }
        assert_eq!(transport.unsent() > 0, !answers);
        let room = sockopt::socket_send_buffer_size(&peer).unwrap();
        let words = writes_and_goes(peer);
        assert!(take_several_turns(&words, room), "{}", words.len());
        turns(&reactor, || transport.is_connected());
        let lines = log.lines();
        assert_eq!(lines.contains(&"server paused".to_owned()), !answers);
        let last = lines.last().map(String::as_str);
        assert_eq!(last, Some("server lost: ConnectionReset"));
        assert_eq!(received.borrow().len(), words.len());
        assert!(*received.borrow() == words, "other bytes");
    }
}

/// What a connection does when something comes whose answer can no longer be sent.
type Answer = fn(&Transport<End>, &[u8]);

#[test]
fn what_came_before_a_reset_is_delivered_however_much_is_answered() {
    let answers: [Answer; 4] = [
        |transport, data| transport.write(data),
        // More than may be unsent.
        |transport, _| transport.write(vec![0; 8 << 20]),
        |transport, _| transport.lose_write_connection(),
        |transport, _| transport.write_sequence([[0; 40_000]; 4]),
    ];
    for (number, answer) in answers.into_iter().enumerate() {
        let (reactor, log) = (reactor(), Log::default());
        let end = End::new("server", &log).on_data(answer);
        let received = Rc::clone(&end.received);
        let (peer, transport) = with_roomy_peer(&reactor, end);
        transport.write("unread");
        reactor.turn(Some(Duration::ZERO)).unwrap();
        let room = sockopt::socket_send_buffer_size(&peer).unwrap();
        let words = writes_and_goes(peer);
        assert!(take_several_turns(&words, room), "{}", words.len());
        turns(&reactor, || transport.is_connected());
        log.check(["server made", "server lost: ConnectionReset"]);
        assert_eq!(received.borrow().len(), words.len(), "answer {number}");
        assert!(*received.borrow() == words, "other bytes");
    }
}
