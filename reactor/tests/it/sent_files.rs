//! Parts of files among the writes of a connection.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use torsade_reactor::{ConnectionLost, FilePart, Reactor, Transport};

use crate::common::{End, Log, connect, reactor, run_while};
use crate::unix::Folder;

/// A file with this text, whose name is gone already.
fn file_with(bytes: &[u8]) -> Rc<File> {
    let folder = Folder::new();
    let path = folder.path("file");
    let mut file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
        .unwrap();
    file.write_all(bytes).unwrap();
    Rc::new(file)
}

fn part(file: &Rc<File>, offset: u64, length: u64) -> FilePart {
    FilePart {
        file: Rc::clone(file),
        offset,
        length,
    }
}

/// A sender and a receiver, over TCP and over a UNIX socket in turn.
fn on_both(reactor: &Reactor, check: impl Fn(&str, Transport<End>, &Log, Transport<End>)) {
    for name in ["tcp", "unix"] {
        let log = Log::default();
        let (sender, receiver) = (End::new("sender", &log), End::new("receiver", &log));
        let (sender, receiver) = if name == "tcp" {
            let pair = connect(reactor, sender, receiver);
            (pair.client, pair.server)
        } else {
            reactor.connect_pair(|_| sender, |_| receiver).unwrap()
        };
        check(name, sender, &log, receiver);
    }
}

/// What the receiver has got.
fn received(receiver: &Transport<End>) -> Rc<std::cell::RefCell<Vec<u8>>> {
    let slot = Rc::new(std::cell::Cell::new(None));
    let put = Rc::clone(&slot);
    receiver.call(move |end, _| put.set(Some(Rc::clone(&end.received))));
    slot.take().expect("it is free")
}

fn has(log: &Log, line: &str) -> bool {
    log.lines().iter().any(|found| found == line)
}

#[test]
fn a_file_leaves_after_what_was_written_before_and_before_what_is_written_after() {
    let reactor = reactor();
    let file = file_with(b"0123456789");
    (&*file).seek(SeekFrom::Start(5)).unwrap();
    on_both(&reactor, |name, sender, log, receiver| {
        let received = received(&receiver);
        sender.write("before ");
        sender.stream().write_file(part(&file, 2, 3)).unwrap();
        sender.stream().write_file(part(&file, 0, 0)).unwrap();
        sender.stream().write_file(part(&file, 9, 1)).unwrap();
        sender.write(" after");
        assert_eq!(sender.unsent(), 17);
        let flushed = sender.flush();
        reactor.run_until(flushed).unwrap();
        assert_eq!(sender.unsent(), 0);
        sender.lose_connection();
        run_while(&reactor, || !has(log, "receiver lost: Done"));
        assert_eq!(*received.borrow(), b"before 2349 after", "{name}");
    });
    assert_eq!((&*file).stream_position().unwrap(), 5, "the position stays");
}

#[test]
fn a_large_file_is_sent_before_an_orderly_end_and_counts_as_unsent_until_then() {
    let reactor = reactor();
    let bytes: Vec<u8> = (0..5_000_000_u32).map(|n| (n % 251) as u8).collect();
    let file = file_with(&bytes);
    on_both(&reactor, |name, sender, log, receiver| {
        let received = received(&receiver);
        sender.write("x");
        sender
            .stream()
            .write_file(part(&file, 0, 5_000_000))
            .unwrap();
        // Larger than the limit on what waits in memory, and not in memory.
        assert_eq!(sender.unsent(), 5_000_001);
        assert!(sender.stream().is_congested());
        sender.lose_connection();
        run_while(&reactor, || !has(log, "receiver lost: Done"));
        assert_eq!(received.borrow().len(), 5_000_001, "{name}");
        assert!(received.borrow()[1..] == bytes, "{name}");
        assert!(has(log, "sender lost: Done"));
    });
}

#[test]
fn a_large_file_is_sent_before_our_stream_ends() {
    let reactor = reactor();
    let file = file_with(&[b'f'; 2_000_000]);
    on_both(&reactor, |name, sender, log, receiver| {
        let received = received(&receiver);
        sender
            .stream()
            .write_file(part(&file, 0, 2_000_000))
            .unwrap();
        sender.lose_write_connection();
        // As bytes would be.
        sender.stream().write_file(part(&file, 0, 1)).unwrap();
        run_while(&reactor, || !has(log, "receiver lost: Done"));
        assert_eq!(received.borrow().len(), 2_000_000, "{name}");
    });
}

#[test]
fn a_file_that_is_shorter_than_was_said_ends_the_connection_with_that_reason() {
    let reactor = reactor();
    let file = file_with(b"short");
    on_both(&reactor, |_, sender, log, _receiver| {
        sender.stream().write_file(part(&file, 3, 100)).unwrap();
        sender.write("never");
        run_while(&reactor, || {
            !has(log, "sender lost: FileTooShort { missing: 98 }")
        });
    });
    let told = ConnectionLost::FileTooShort { missing: 98 }.to_string();
    assert!(told.contains("98 bytes"), "{told}");
}

#[test]
fn a_part_that_is_said_to_be_as_long_as_can_be_waits_for_its_turn_before_an_orderly_end() {
    let reactor = reactor();
    let file = file_with(b"short");
    on_both(&reactor, |name, sender, log, receiver| {
        receiver.pause_reading();
        sender.write(vec![b'x'; 12_000_000]);
        sender
            .stream()
            .write_file(part(&file, 0, u64::MAX))
            .unwrap();
        sender.lose_connection();
        reactor.turn(Some(Duration::ZERO)).unwrap();
        let with_the_system = sender.stream().socket().unacknowledged().unwrap();
        assert!(with_the_system > 0, "{name}");
        assert_eq!(sender.unsent(), usize::MAX, "{name}");
        sender.abort_connection();
        run_while(&reactor, || !has(log, "sender lost: Aborted"));
    });
}

#[test]
fn while_a_peer_takes_no_file_others_are_heard_and_nothing_spins() {
    let reactor = reactor();
    let file = file_with(&[b'f'; 8_000_000]);
    on_both(&reactor, |name, sender, log, receiver| {
        receiver.pause_reading();
        sender
            .stream()
            .write_file(part(&file, 0, 8_000_000))
            .unwrap();
        // The system's buffers fill up; then there is nothing to do.
        for _ in 0..200 {
            reactor.turn(Some(Duration::ZERO)).unwrap();
        }
        let unsent = sender.unsent();
        assert!(unsent > 0 && unsent < 8_000_000, "{name}: {unsent}");
        assert_eq!(reactor.next_deadline(), None, "{name}: it wants a turn");
        assert!(has(log, "sender paused"));
        receiver.resume_reading();
        run_while(&reactor, || !has(log, "sender resumed"));
        sender.abort_connection();
        receiver.abort_connection();
        reactor.turn(Some(Duration::ZERO)).unwrap();
    });
}

#[test]
fn a_turn_sends_no_more_of_a_file_than_its_share() {
    const LENGTH: usize = 32 << 20;
    let (reactor, log) = (reactor(), Log::default());
    let file = file_with(&vec![b'f'; LENGTH]);
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    // A peer that takes everything as fast as it comes.
    let peer = thread::spawn(move || io::copy(&mut theirs, &mut io::sink()).unwrap());
    let end = End::new("sender", &log);
    let sender = reactor.adopt_connection(ours, |_| end).unwrap();
    let whole = part(&file, 0, LENGTH as u64);
    sender.stream().write_file(whole).unwrap();
    sender.lose_connection();
    let mut before = sender.unsent();
    while before > 0 {
        reactor.turn(Some(Duration::from_secs(10))).unwrap();
        let sent = before - sender.unsent();
        // Two calls of half a MiB each: before the wait, for an event, and for what was left.
        assert!(sent <= 3 << 20, "{sent} bytes in a turn");
        before -= sent;
    }
    run_while(&reactor, || !has(&log, "sender lost: Done"));
    drop(reactor);
    assert_eq!(peer.join().unwrap(), LENGTH as u64);
}
