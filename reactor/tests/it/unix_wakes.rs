//! What wakes a loop over UNIX sockets: what has come, and room to send where somebody waits for it.

use std::cell::RefCell;
use std::io::{ErrorKind, Read};
use std::os::unix::net::{UnixListener, UnixStream};
use std::rc::Rc;
use std::time::Duration;

use torsade_reactor::{Address, Reactor, Transport};

use crate::common::{End, Log, is_readable, reactor, run_while, small_limits};
use crate::unix::Folder;

/// A connection in each way in which one comes to be, with its peer, which is not in the loop.
fn in_every_way(reactor: &Reactor, log: &Log) -> [(Transport<End>, UnixStream); 3] {
    let (ours, adopted_peer) = UnixStream::pair().unwrap();
    let adopted = reactor.adopt_connection(ours, |_| End::new("adopted", log));

    let (folder, end) = (Folder::new(), End::new("connected", log));
    let listener = UnixListener::bind(folder.path("theirs")).unwrap();
    let connecting = reactor.connect_unix(folder.path("theirs"), |_| end);
    let connected = reactor.run_until(connecting).unwrap();
    let (connected_peer, _) = listener.accept().unwrap();

    let (place, log) = (Rc::new(RefCell::new(None)), log.clone());
    let slot = Rc::clone(&place);
    let factory = move |_: &Address| {
        let slot = Rc::clone(&slot);
        End::new("accepted", &log).on_made(move |transport| {
            slot.replace(Some(transport.clone()));
        })
    };
    let port = reactor.listen_unix(folder.path("ours"), factory).unwrap();
    let accepted_peer = UnixStream::connect(folder.path("ours")).unwrap();
    run_while(reactor, || place.borrow().is_none());
    drop(port.stop_listening());
    let accepted = place.take().expect("it was accepted above");

    let all = [
        (adopted.unwrap(), adopted_peer),
        (connected, connected_peer),
        (accepted, accepted_peer),
    ];
    for (_, peer) in &all {
        peer.set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
    }
    all
}

/// Whether a wait would end at once.
fn has_news(reactor: &Reactor) -> bool {
    is_readable(reactor, Some(Duration::ZERO))
}

/// Runs turns that do not wait, until nothing is left to be done.
#[track_caller]
fn come_to_rest(reactor: &Reactor) {
    for _ in 0..100 {
        reactor.turn(Some(Duration::ZERO)).unwrap();
        if !has_news(reactor) {
            return;
        }
    }
    panic!("the loop does not come to rest");
}

/// So many bytes, which the peer reads bit by bit; the loop runs when something wakes it, which is when
/// there is room enough, and at the latest when all has been read.
fn hear(reactor: &Reactor, peer: &mut UnixStream, count: usize) -> Vec<u8> {
    let (mut heard, mut piece, mut waits) = (Vec::new(), [0; 10_000], 0);
    peer.set_nonblocking(true).unwrap();
    while heard.len() < count {
        let most = piece.len().min(count - heard.len());
        match peer.read(&mut piece[..most]) {
            Ok(0) => panic!("it ended after {}", heard.len()),
            Ok(length) => heard.extend(&piece[..length]),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                reactor.turn(Some(Duration::from_secs(10))).unwrap();
                waits += 1;
                assert!(waits < 1000, "{} of {count}", heard.len());
            }
        }
        if has_news(reactor) {
            come_to_rest(reactor);
        }
    }
    peer.set_nonblocking(false).unwrap();
    heard
}

#[track_caller]
fn check_that_reading_wakes_nobody(
    reactor: &Reactor,
    transport: &Transport<End>,
    peer: &mut UnixStream,
) {
    for _ in 0..3 {
        transport.write("hello");
        come_to_rest(reactor);
        peer.read_exact(&mut [0; 5]).unwrap();
        assert!(!has_news(reactor), "{transport:?}");
    }
}

#[test]
fn what_the_peer_has_read_wakes_nobody() {
    let (reactor, log) = (reactor(), Log::default());
    for (transport, peer) in &mut in_every_way(&reactor, &log) {
        check_that_reading_wakes_nobody(&reactor, transport, peer);
    }
}

#[test]
fn a_writer_whose_peer_reads_slowly_is_told_when_to_go_on_and_loses_nothing() {
    let (reactor, log) = (reactor(), Log::default());
    let data: Vec<u8> = (0..1_000_000).map(|place| (place % 251) as u8).collect();
    for (transport, peer) in &mut in_every_way(&reactor, &log) {
        transport.set_limits(small_limits());
        let before = log.lines().len();
        for piece in data.chunks(1000) {
            transport.write(piece);
        }
        come_to_rest(&reactor);
        assert_eq!(log.lines().len(), before + 1, "it is paused");
        assert!(hear(&reactor, peer, data.len()) == data, "other bytes");
        let lines = log.lines();
        let told: Vec<_> = lines[before..].iter().collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].ends_with(" paused") && told[1].ends_with(" resumed"));
        // It need not wait any more.
        come_to_rest(&reactor);
        check_that_reading_wakes_nobody(&reactor, transport, peer);
    }
}

#[test]
fn who_was_refused_a_write_that_was_now_or_never_may_try_again_when_the_peer_has_read() {
    let (reactor, log) = (reactor(), Log::default());
    for (transport, peer) in &mut in_every_way(&reactor, &log) {
        let mut sent = 0;
        let refusal = loop {
            match transport.try_write([0; 5000]) {
                Ok(count) => sent += count,
                Err(error) => break error.kind(),
            }
        };
        assert_eq!(refusal, ErrorKind::WouldBlock);
        come_to_rest(&reactor);
        assert!(transport.try_write("x").is_err());
        peer.read_exact(&mut vec![0; sent]).unwrap();
        assert!(has_news(&reactor), "it would wait for ever");
        come_to_rest(&reactor);
        assert_eq!(transport.try_write("hello").unwrap(), 5);
        peer.read_exact(&mut [0; 5]).unwrap();
        check_that_reading_wakes_nobody(&reactor, transport, peer);
    }
}

#[test]
fn a_connection_that_closes_sends_what_its_peer_made_wait() {
    let (reactor, log) = (reactor(), Log::default());
    for (transport, peer) in &mut in_every_way(&reactor, &log) {
        transport.write(vec![7; 1_000_000]);
        transport.lose_connection();
        come_to_rest(&reactor);
        let heard = hear(&reactor, peer, 1_000_000);
        assert!(heard.iter().all(|byte| *byte == 7));
        come_to_rest(&reactor);
        assert_eq!(peer.read(&mut [0]).unwrap(), 0);
    }
}
