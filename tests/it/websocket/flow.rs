//! Pausing, and peers that read slowly or not at all.

use torsade::protocols::http::serve;
use torsade::protocols::websocket::{WebSocketClient, accept};
use torsade::reactor::testing::memory_pair;

use super::*;

#[test]
fn pausing_holds_the_next_message_of_the_chunk_at_hand() {
    let peer = Peer::talking_to(Scribe::new(|transport, text| {
        if text == "pause" {
            transport.pause_reading();
        }
    }));
    let wire = [
        frame(TEXT, "pause"),
        frame(TEXT, "a"),
        frame(PING, "?"),
        frame(TEXT, "b"),
    ];
    peer.send(wire.concat());
    assert!(peer.stream.is_paused());
    assert_eq!(peer.book.take(), ["text pause"]);
    // As a layer below may have had already.
    peer.send(frame(TEXT, "c"));
    let transport = peer.book.transport();
    transport.resume_reading();
    assert_eq!(peer.book.take(), [""; 0], "not before it returns");
    peer.turn();
    assert_eq!(peer.book.take(), ["text a", "ping ?", "text b", "text c"]);
    assert_eq!(peer.frames(), ["pong ?"]);
    assert!(!peer.stream.is_paused());
}

#[test]
fn who_closes_while_paused_still_hears_the_peer_close() {
    let peer = Peer::talking_to(Scribe::new(|transport, _| transport.pause_reading()));
    peer.send(
        [
            frame(TEXT, "a"),
            frame(TEXT, "b"),
            frame(CLOSE, b"\x03\xe8"),
        ]
        .concat(),
    );
    peer.book.transport().lose_connection();
    assert!(!peer.stream.is_paused());
    peer.turn();
    assert!(peer.is_being_lost());
    peer.stream.end();
    assert_eq!(peer.book.take(), ["text a", "closed 1000 (normal) \"\""]);
    assert!(peer.book.closed().is_clean);
}

#[test]
fn an_end_that_comes_while_paused_waits_behind_what_is_kept() {
    let peer = Peer::talking_to(Scribe::new(|transport, text| {
        if text == "pause" {
            transport.pause_reading();
        }
    }));
    peer.send([frame(TEXT, "pause"), frame(TEXT, "a")].concat());
    peer.stream.end_read();
    assert!(!peer.is_being_lost());
    peer.book.transport().resume_reading();
    peer.turn();
    assert!(peer.is_being_lost());
    assert_eq!(peer.book.take(), ["text pause", "text a"]);
}

#[test]
fn a_server_whose_answers_are_not_taken_looks_at_no_further_message() {
    let peer = Peer::talking_to(Scribe::new(|transport, text| transport.send(text)));
    peer.stream.set_congested(true);
    peer.send([frame(TEXT, "a"), frame(TEXT, "b")].concat());
    peer.turn();
    assert!(peer.stream.is_paused());
    assert_eq!(peer.book.take(), ["write paused", "text a"]);
    peer.stream.set_congested(false);
    peer.turn();
    assert!(!peer.stream.is_paused());
    assert_eq!(peer.book.take(), ["write resumed", "text b"]);
    assert_eq!(peer.frames(), ["text a", "text b"]);
}

#[test]
fn one_that_minds_the_marks_itself_is_given_messages_all_the_same() {
    let peer = Peer::talking_to(Scribe::quiet());
    peer.stream.set_congested(true);
    peer.send([frame(TEXT, "a"), frame(TEXT, "b")].concat());
    peer.turn();
    assert_eq!(peer.book.take(), ["write paused", "text a"]);
    peer.book.transport().set_throttled(false);
    assert_eq!(peer.book.take(), [""; 0], "not before it returns");
    peer.turn();
    assert_eq!(peer.book.take(), ["text b"]);
    assert!(!peer.stream.is_paused());
    peer.book.transport().set_throttled(true);
    peer.send([frame(TEXT, "c"), frame(TEXT, "d")].concat());
    peer.turn();
    assert_eq!(peer.book.take(), ["text c"]);
}

/// Asks all the time, and takes no answers.
struct Flood {
    wire: Vec<u8>,
}

impl Protocol for Flood {
    fn connection_made(&mut self, transport: &Transport<Self>) {
        transport.pause_reading();
        transport.write(HANDSHAKE);
        self.write_resumed(transport);
    }

    fn data_received(&mut self, _: &Transport<Self>, _: &[u8]) {
        unreachable!("it never reads");
    }

    fn write_resumed(&mut self, transport: &Transport<Self>) {
        while !transport.is_congested() {
            transport.write(&self.wire);
        }
    }
}

#[test]
fn a_peer_that_asks_and_takes_no_answers_fills_no_memory() {
    for wire in [
        frame(PING, "x".repeat(125)),
        frame(TEXT, "?"),
        frame(TEXT, "x".repeat(60_000)),
    ] {
        let reactor = virtual_time_reactor();
        let scribe = Scribe::new(|transport, _| transport.send(&"y".repeat(20_000)));
        let book = Rc::clone(&scribe.book);
        let site = Site::new(move |request: Request| accept(&request, scribe.clone()));
        let pair = memory_pair(&reactor);
        let protocol = site.clone().build_protocol(&pair.server.socket().peer());
        Transport::connect(
            protocol.expect("nobody is refused"),
            Rc::clone(&pair.server),
        );
        Transport::connect(Flood { wire }, pair.client);
        pair.pump.run().expect("it comes to rest");
        let unsent = book.transport().unsent();
        let high = Limits::default().unsent_high;
        assert!(unsent < 2 * high, "{unsent} bytes wait to be taken");
        assert!(book.lines.borrow().len() > 2);
        let shown = format!("{:?}", book.transport().stream());
        assert!(!shown.contains("00000 bytes kept"), "{shown}");
    }
}

/// Sends as fast as it may.
struct Fountain {
    sent: usize,
    count: usize,
    book: Rc<Book>,
}

impl Fountain {
    fn go_on(&mut self, transport: &WebSocketTransport<Self>) {
        while self.sent < self.count && !transport.is_congested() {
            self.sent += 1;
            transport.send(&vec![0; 10_000]);
        }
        if self.sent == self.count {
            transport.lose_connection();
        }
    }
}

impl WebSocketProtocol for Fountain {
    fn opened(&mut self, transport: &WebSocketTransport<Self>) {
        self.go_on(transport);
    }

    fn message_received(&mut self, _: &WebSocketTransport<Self>, _: Message<'_>) {}

    fn write_resumed(&mut self, transport: &WebSocketTransport<Self>) {
        self.go_on(transport);
    }

    fn closed(&mut self, closed: Closed) {
        self.book.closed.replace(Some(closed));
    }
}

#[test]
fn who_heeds_the_marks_sends_all_of_it_and_holds_little() {
    let simulation = torsade::reactor::testing::Simulation::new(1);
    let (server, client) = (simulation.host("server"), simulation.host("client"));
    let serving = serve(&server.reactor(), ":80", |request: Request| {
        accept(
            &request,
            Fountain {
                sent: 0,
                count: 500,
                book: Rc::default(),
            },
        )
    });
    let serving = serving.expect("the port is free");
    let scribe = Scribe::quiet();
    let book = Rc::clone(&scribe.book);
    let connecting = WebSocketClient::new(&client.reactor()).connect("ws://server/", scribe);
    let transport = client.reactor().run_until(connecting).expect("it connects");
    transport.pause_reading();
    simulation.run_for(Duration::from_secs(20));
    let before = book.lines.borrow().len();
    assert!(before < 100, "it waits for who does not read: {before}");
    transport.resume_reading();
    simulation.run_for(Duration::from_secs(60));
    let lines = book.take();
    assert_eq!(
        lines
            .iter()
            .filter(|line| line.starts_with("binary "))
            .count(),
        500
    );
    assert!(book.closed().is_clean);
    drop(serving);
}

#[test]
fn of_pings_that_come_while_nothing_can_be_sent_the_last_is_answered() {
    let peer = Peer::talking_to(Scribe::quiet());
    peer.stream.set_congested(true);
    for text in ["a", "b", "c"] {
        peer.send(frame(PING, text));
        peer.turn();
    }
    assert_eq!(peer.frames(), [""; 0]);
    peer.stream.set_congested(false);
    peer.turn();
    let frames = peer.frames();
    assert_eq!(
        frames.last().map(String::as_str),
        Some("pong c"),
        "{frames:?}"
    );
}

/// Reads a little, and then nothing for a while.
struct Sipping {
    heard: Rc<RefCell<Vec<u8>>>,
}

impl Protocol for Sipping {
    fn connection_made(&mut self, transport: &Transport<Self>) {
        transport.write(HANDSHAKE);
    }

    fn data_received(&mut self, transport: &Transport<Self>, data: &[u8]) {
        self.heard.borrow_mut().extend_from_slice(data);
        transport.pause_reading();
        let (reactor, transport) = (transport.reactor(), transport.clone());
        reactor.call_later(Duration::from_secs(10), move || transport.resume_reading());
    }
}

#[test]
fn closing_waits_for_a_peer_that_reads_slowly_and_not_for_one_that_does_not() {
    for capacity in [64 * 1024, 0] {
        let reactor = virtual_time_reactor();
        let scribe = Scribe::quiet();
        let book = Rc::clone(&scribe.book);
        let site = Site::new(move |request: Request| accept(&request, scribe.clone()));
        let pair = memory_pair(&reactor);
        let heard = Rc::new(RefCell::new(Vec::new()));
        let sipping = Sipping {
            heard: Rc::clone(&heard),
        };
        let protocol = site.clone().build_protocol(&pair.server.socket().peer());
        Transport::connect(protocol.expect("nobody is refused"), pair.server);
        Transport::connect(sipping, pair.client);
        pair.pump.run().expect("it comes to rest");
        pair.pump.set_capacity(capacity);
        let transport = book.transport();
        transport.send(&vec![b'x'; 1_000_000]);
        transport.lose_connection();
        drop(transport);
        let slept = sleep(&reactor, Duration::from_secs(100));
        reactor.run_until(slept).expect("time passes");
        // Sixteen sips of 64 KiB.
        assert_eq!(book.is_closed(), capacity == 0);
        let slept = sleep(&reactor, Duration::from_secs(200));
        reactor.run_until(slept).expect("time passes");
        assert_eq!(heard.borrow().len() > 1_000_000, capacity > 0);
        // It never says that it closes.
        let closed = book.closed();
        assert!(
            matches!(closed.lost, ConnectionLost::TimedOut { .. }),
            "{closed:?}"
        );
    }
}

/// Sixty sips of 64 KiB in ten minutes, of what is filled up at each: as much is unsent as before, and no pong is read.
#[test]
fn a_peer_that_takes_little_of_what_is_filled_up_again_stays_until_it_takes_nothing() {
    let reactor = virtual_time_reactor();
    let book = Rc::<Book>::default();
    let theirs = Rc::clone(&book);
    let site = Site::new(move |request: Request| {
        let fountain = Fountain {
            sent: 0,
            count: usize::MAX,
            book: Rc::clone(&theirs),
        };
        accept(&request, fountain)
    });
    let pair = memory_pair(&reactor);
    let heard = Rc::new(RefCell::new(Vec::new()));
    let sipping = Sipping {
        heard: Rc::clone(&heard),
    };
    let protocol = site.clone().build_protocol(&pair.server.socket().peer());
    Transport::connect(protocol.expect("nobody is refused"), pair.server);
    Transport::connect(sipping, pair.client);
    let wait = |seconds| {
        let slept = sleep(&reactor, Duration::from_secs(seconds));
        reactor.run_until(slept).expect("time passes");
    };
    wait(600);
    assert!(!book.is_closed(), "it takes something");
    assert!(heard.borrow().len() > 3_000_000);
    pair.pump.hold();
    wait(100);
    let text = "connection lost: the pong took longer than 30s";
    assert_eq!(book.closed().lost.to_string(), text);
}
