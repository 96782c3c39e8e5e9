//! Flow control through TLS.

use std::cell::Cell;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use torsade::prelude::*;
use torsade::protocols::tls::{Tls, TlsStream};
use torsade::reactor::testing::{Chunks, memory_pair, virtual_time_reactor};
use torsade::reactor::{FileSender, NotFlushed, Producer, Stream, Streaming};

use super::authority::{Authority, localhost};
use super::speaker::{Seen, Speaker, Talk};

fn secured(client: Speaker, server: Speaker) -> Talk {
    let authority = Authority::new();
    let talk = Talk::new((client, &authority.client()), (server, &authority.server()));
    talk.run();
    talk
}

#[test]
fn nothing_is_delivered_while_reading_is_paused_not_even_the_next_record() {
    let server = Speaker::default().on_data(|transport, _| transport.pause_reading());
    let talk = secured(Speaker::default(), server);
    for record in ["one ", "two ", "three"] {
        talk.client.write(record);
        // Each a record of its own, and all in one chunk.
        talk.pump.hold();
        talk.run();
    }
    talk.pump.release();
    for expected in ["one ", "one two ", "one two three", "one two three"] {
        talk.run();
        assert_eq!(talk.at_server.text(), expected);
        talk.server.resume_reading();
        assert_eq!(talk.at_server.text(), expected, "not before it returns");
    }
}

#[test]
fn writing_goes_on_while_reading_is_paused_in_the_middle_of_a_chunk() {
    let server = Speaker::default().on_data(|transport, _| transport.pause_reading());
    let talk = secured(Speaker::default(), server);
    talk.pump.hold();
    for _ in 0..3 {
        talk.client.write("record");
        talk.run();
    }
    talk.pump.release();
    talk.run();
    talk.server.write("an answer");
    talk.server.write(vec![b'.'; 100_000]);
    talk.run();
    assert_eq!(talk.at_client.data.borrow().len(), 100_009);
    assert_eq!(talk.at_server.text(), "record");
}

#[test]
fn a_peer_that_does_not_read_pauses_the_writer_through_tls() {
    let talk = secured(Speaker::default(), Speaker::default());
    talk.server.pause_reading();
    talk.client.write(vec![b'x'; 400_000]);
    assert!(talk.client.is_congested());
    talk.run();
    talk.at_client.check(["made", "paused"]);
    talk.server.resume_reading();
    talk.run();
    talk.at_client.check(["made", "paused", "resumed"]);
    assert_eq!(talk.at_server.data.borrow().len(), 400_000);
}

#[test]
fn a_writer_that_waits_for_the_handshake_is_paused_and_resumed() {
    let authority = Authority::new();
    let talk = Talk::new(
        (Speaker::default(), &authority.client()),
        (Speaker::default(), &authority.server()),
    );
    talk.pump.hold();
    talk.client.write(vec![b'x'; 70_000]);
    talk.run();
    talk.at_client.check(["made", "paused"]);
    talk.pump.release();
    talk.run();
    assert_eq!(
        talk.at_client.events.borrow().last().map(String::as_str),
        Some("resumed")
    );
    assert_eq!(talk.at_server.data.borrow().len(), 70_000);
}

#[test]
fn who_is_congested_for_good_is_told_to_pause() {
    // More than the high mark only together with the messages of the handshake.
    for written in [65_500, 65_536, 65_537] {
        let authority = Authority::new();
        let talk = Talk::new(
            (Speaker::default(), &authority.client()),
            (Speaker::default(), &authority.server()),
        );
        // The first message of the handshake has no room to leave.
        talk.pump.set_capacity(1);
        talk.pump.hold();
        talk.client.write(vec![b'x'; written]);
        talk.run();
        assert!(talk.client.unsent() > 65_536);
        let is_told = talk
            .at_client
            .events
            .borrow()
            .iter()
            .any(|it| it == "paused");
        assert_eq!(talk.client.is_congested(), is_told, "{written}");
        talk.pump.set_capacity(65_536);
        talk.pump.release();
        talk.run();
        assert_eq!(talk.at_server.data.borrow().len(), written);
    }
}

#[test]
fn too_much_that_waits_for_the_handshake_ends_the_connection() {
    let authority = Authority::new();
    let talk = Talk::new(
        (Speaker::default(), &authority.client()),
        (Speaker::default(), &authority.server()),
    );
    let limits = Limits {
        unsent_max: 100_000,
        ..Limits::default()
    };
    talk.client.set_limits(limits);
    talk.pump.hold();
    for _ in 0..3 {
        talk.client.write(vec![b'x'; 60_000]);
        talk.run();
    }
    talk.at_client.is_lost_with("Overrun { limit: 100000 }");
}

#[test]
fn an_echo_to_a_peer_that_never_reads_stays_small() {
    let most = Rc::new(Cell::new(0));
    let seen = Rc::clone(&most);
    let server = Speaker::default().on_data(move |transport, data| {
        transport.write(data);
        seen.set(seen.get().max(transport.unsent()));
    });
    let talk = secured(Speaker::default(), server);
    talk.client.pause_reading();
    talk.client.write(vec![b'x'; 10 << 20]);
    talk.run();
    assert!(most.get() > 0, "it was asked");
    // The high mark, and what one read may add to it.
    assert!(most.get() < 512 << 10, "{} bytes unsent", most.get());
    talk.client.resume_reading();
    talk.run();
    assert_eq!(talk.at_client.data.borrow().len(), 10 << 20);
}

#[test]
fn a_flush_fires_when_everything_is_with_the_system() {
    let authority = Authority::new();
    let talk = Talk::new(
        (Speaker::default(), &authority.client()),
        (Speaker::default(), &authority.server()),
    );
    assert!(talk.client.flush().into_result().is_ok(), "nothing waits");
    talk.client.write("before the handshake");
    let flush = talk.client.flush();
    assert!(!flush.is_fired());
    talk.run();
    assert!(flush.into_result().expect("it has fired").is_ok());
    talk.client.write("never sent");
    let flush = talk.client.flush();
    talk.client.abort_connection();
    talk.run();
    let failure = flush
        .into_result()
        .expect("it has fired")
        .expect_err("lost");
    assert!(failure.check::<NotFlushed>());
}

#[test]
fn a_stream_that_nobody_has_taken_does_its_handshake_and_delivers_nothing() {
    let (reactor, authority) = (virtual_time_reactor(), Authority::new());
    let pair = memory_pair(&reactor);
    pair.pump.set_chunks(Chunks::Of(100));
    let server = TlsStream::server(pair.server, &authority.server());
    let stream = TlsStream::client(pair.client, &authority.client(), localhost());
    let client = Transport::connect(Speaker::default(), stream as Rc<dyn Stream>);
    client.write(vec![b'x'; 300_000]);
    pair.pump.run().expect("it rests");
    assert!(server.session().is_some());
    assert!(client.unsent() > 0, "the peer is slowed down");
    let late = Speaker::default();
    let seen = late.seen.clone();
    Transport::connect(late, server as Rc<dyn Stream>);
    assert_eq!(seen.data.borrow().len(), 0, "not before it returns");
    pair.pump.run().expect("it rests");
    assert_eq!(seen.data.borrow().len(), 300_000);
}

/// Writes a piece whenever it is asked, so many times.
struct Pieces {
    left: usize,
    transport: Transport<Speaker>,
    seen: Seen,
}

impl Producer for Pieces {
    fn resume_producing(&mut self) {
        self.seen.add("asked");
        self.transport.write(vec![b'x'; 30_000]);
        self.left -= 1;
        if self.left == 0 {
            self.transport.unregister_producer();
        }
    }

    fn pause_producing(&mut self) {
        self.seen.add("told to pause");
    }

    fn stop_producing(&mut self) {
        self.seen.add("told to stop");
    }
}

#[test]
fn a_producer_goes_at_the_pace_of_the_handshake_and_the_peer_and_is_waited_for() {
    let authority = Authority::new();
    let talk = Talk::new(
        (Speaker::default(), &authority.client()),
        (Speaker::default(), &authority.server()),
    );
    talk.pump.hold();
    let seen = Seen::default();
    let pieces = Pieces {
        left: 20,
        transport: talk.client.clone(),
        seen: seen.clone(),
    };
    let registered = talk.client.register_producer(pieces, Streaming::Pull);
    registered.expect("there is no other");
    // In order: behind what the producer writes, and nothing else is dropped either until then.
    talk.client.lose_connection();
    talk.client.write("written meanwhile");
    for _ in 0..100 {
        talk.reactor.turn(Some(Duration::ZERO)).expect("a turn");
    }
    let asked = || seen.events.borrow().len();
    assert!(asked() <= 4, "{} pieces wait for the handshake", asked());
    talk.server.pause_reading();
    talk.pump.release();
    talk.run();
    assert!(asked() < 12, "{} pieces wait for the peer", asked());
    talk.server.resume_reading();
    talk.run();
    assert_eq!(talk.at_server.data.borrow().len(), 20 * 30_000 + 17);
    talk.at_server.is_lost_with("Done");
    talk.at_client.is_lost_with("Done");
}

#[test]
fn a_push_producer_that_comes_before_the_handshake_is_paused_and_stopped_at_the_end() {
    let authority = Authority::new();
    let talk = Talk::new(
        (Speaker::default(), &authority.client()),
        (Speaker::default(), &authority.server()),
    );
    talk.pump.hold();
    let seen = Seen::default();
    let pieces = Pieces {
        left: 100,
        transport: talk.client.clone(),
        seen: seen.clone(),
    };
    let registered = talk.client.register_producer(pieces, Streaming::Push);
    registered.expect("there is no other");
    talk.client.write(vec![b'x'; 70_000]);
    talk.run();
    seen.check(["told to pause"]);
    talk.pump.release();
    talk.run();
    seen.check(["told to pause", "asked"]);
    talk.server.abort_connection();
    talk.run();
    seen.check(["told to pause", "asked", "told to stop"]);
}

#[test]
fn a_file_is_sent_over_tls_whole_and_in_order() {
    let talk = secured(Speaker::default(), Speaker::default());
    let mut file = tempfile::tempfile().expect("a file");
    let content: Vec<u8> = (0..300_000_u32).map(|i| (i % 251) as u8).collect();
    std::io::Write::write_all(&mut file, &content).expect("it can be written");
    talk.client.write("before ");
    let sent = FileSender::new(file)
        .part(1_000, 250_000)
        .send(&talk.client);
    talk.run();
    talk.client.write(" behind");
    talk.run();
    let count = sent.into_result().expect("it has fired");
    assert_eq!(count.expect("it is sent"), 250_000);
    let expected = [b"before ", &content[1_000..251_000], b" behind"].concat();
    assert!(*talk.at_server.data.borrow() == expected);
}

#[test]
fn who_reads_for_itself_takes_what_was_sent_to_the_letter_and_not_in_the_middle_of_a_delivery() {
    let refused = Rc::new(Cell::new(None));
    let kind = Rc::clone(&refused);
    let server = Speaker::default().on_data(move |transport, _| {
        kind.set(transport.try_read(&mut [0; 4]).err().map(|it| it.kind()));
    });
    let talk = secured(Speaker::default(), server);
    talk.server.pause_reading();
    talk.client.write("first");
    talk.run();
    talk.client.write("second");
    talk.run();
    let mut place = [0; 4];
    let mut read = || {
        let count = talk.server.try_read(&mut place).map_err(|it| it.kind());
        count.map(|count| String::from_utf8_lossy(&place[..count]).into_owned())
    };
    // What a record has left is taken alone.
    assert_eq!(read(), Ok("firs".into()));
    assert_eq!(read(), Ok("t".into()));
    assert_eq!(read(), Ok("seco".into()));
    talk.server.resume_reading();
    assert_eq!(talk.at_server.text(), "", "not before it returns");
    talk.run();
    assert_eq!(talk.at_server.text(), "nd");
    assert_eq!(refused.get(), Some(ErrorKind::WouldBlock));
    assert_eq!(read(), Err(ErrorKind::WouldBlock));
}

#[test]
fn an_end_without_the_closing_alert_is_no_end_for_who_reads_for_itself() {
    let talk = secured(Speaker::default(), Speaker::default());
    talk.server.pause_reading();
    talk.client.write("half of what ");
    talk.run();
    talk.below.client.lose_connection(ConnectionLost::Done);
    talk.run();
    let mut place = [0; 64];
    assert_eq!(talk.server.try_read(&mut place).expect("it has come"), 13);
    for _ in 0..2 {
        let end = talk.server.try_read(&mut place);
        let end = end.expect_err("it is cut off").kind();
        assert_eq!(end, ErrorKind::UnexpectedEof);
    }
    assert!(talk.at_server.reason.borrow().is_none(), "not at once");
    talk.run();
    assert_eq!(talk.at_server.error(), TlsError::Truncated);
}

#[test]
fn what_was_tampered_with_is_not_read() {
    let talk = secured(Speaker::default(), Speaker::default());
    talk.server.pause_reading();
    talk.client.write("good");
    talk.run();
    // A record of data that nobody has encrypted.
    talk.below.client.write(&[
        23, 3, 3, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ]);
    talk.run();
    let mut place = [0; 64];
    assert_eq!(talk.server.try_read(&mut place).expect("it is good"), 4);
    let refused = talk.server.try_read(&mut place).map_err(|it| it.kind());
    assert!(
        matches!(
            refused,
            Err(ErrorKind::InvalidData | ErrorKind::NotConnected)
        ),
        "{refused:?}"
    );
    talk.run();
    assert!(matches!(talk.at_server.error(), TlsError::BadRecord(_)));
}

/// Whether a wait would end at once.
fn has_news(reactor: &Reactor) -> bool {
    let descriptor = reactor.as_fd();
    let mut fds = [PollFd::new(&descriptor, PollFlags::IN)];
    let ready = retry_on_intr(|| poll(&mut fds, Some(&Timespec::default())));
    ready.expect("the system can poll") > 0
}

fn come_to_rest(reactors: &[&Reactor]) {
    for _ in 0..100 {
        for reactor in reactors {
            reactor.turn(Some(Duration::ZERO)).expect("it can turn");
        }
        if !reactors.iter().any(|reactor| has_news(reactor)) {
            return;
        }
    }
    panic!("the loops do not come to rest");
}

#[test]
fn what_the_peer_has_read_over_a_unix_socket_wakes_nobody() {
    let authority = Authority::new();
    let [near, far] = [Reactor::new(), Reactor::new()].map(|reactor| reactor.expect("a reactor"));
    let (ours, theirs) = UnixStream::pair().expect("there are descriptors left");
    let (client, server) = (Speaker::default(), Speaker::default());
    let at_server = server.seen.clone();
    let client = Tls::client(&authority.client(), localhost(), client);
    let server = Tls::server(&authority.server(), server);
    let client = near.adopt_connection(ours, |_| client);
    let client = client.expect("it is a socket");
    let _server = far.adopt_connection(theirs, |_| server);
    come_to_rest(&[&near, &far]);
    for message in 1..=3 {
        client.call(|tls, _| tls.transport().expect("it is made").write("hello"));
        come_to_rest(&[&near]);
        come_to_rest(&[&far]);
        assert_eq!(at_server.data.borrow().len(), 5 * message);
        assert!(!has_news(&near), "there is no answer");
    }
}
