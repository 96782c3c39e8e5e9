//! The server's end: the handshake, messages, pings.

use torsade::protocols::http::{Request, Routes, Site};
use torsade::protocols::websocket::{Origins, PingError, WebSocketLimits, accept};
use torsade::reactor::testing::{failure_of, for_every_chunking, success_of};

use super::*;

/// Sends back what comes.
pub(super) struct Echo;

impl WebSocketProtocol for Echo {
    fn message_received(&mut self, transport: &WebSocketTransport<Self>, message: Message<'_>) {
        transport.send(message);
    }
}

fn fields_of(answer: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(answer);
    let head = text.split("\r\n\r\n").next().expect("a head");
    let lines = head
        .split("\r\n")
        .filter(|line| !line.starts_with("date: "));
    lines.map(str::to_owned).collect()
}

#[test]
fn a_request_for_websocket_is_answered_with_the_key_that_it_must_be() {
    let peer = Peer::of(WebSocketServer::new(), Scribe::quiet());
    peer.send(HANDSHAKE);
    peer.turn();
    assert_eq!(
        fields_of(&peer.written()),
        [
            "HTTP/1.1 101 Switching Protocols",
            "connection: upgrade",
            "upgrade: websocket",
            "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        ]
    );
    assert_eq!(peer.book.take(), ["opened"]);
}

#[test]
fn who_does_not_ask_as_one_must_is_told_what_would_be_right() {
    let origin = HANDSHAKE.replace("Host:", "Origin: https://elsewhere\r\nHost:");
    for (request, status, field) in [
        (
            "GET / HTTP/1.1\r\nHost: here\r\n\r\n",
            426,
            "upgrade: websocket",
        ),
        (
            "GET / HTTP/1.1\r\nHost: here\r\n\r\n",
            426,
            "connection: upgrade",
        ),
        (
            &HANDSHAKE.replace("Version: 13", "Version: 8"),
            426,
            "sec-websocket-version: 13",
        ),
        (
            &HANDSHAKE.replace("Version: 13", "Version: 8"),
            426,
            "upgrade: websocket",
        ),
        (&HANDSHAKE.replace("GET", "PUT"), 405, "allow: GET"),
        (&HANDSHAKE.replace("==", "="), 400, ""),
        (&origin, 403, ""),
        (
            &HANDSHAKE.replace("HTTP/1.1", "HTTP/1.0"),
            426,
            "upgrade: websocket",
        ),
    ] {
        let peer = Peer::of(WebSocketServer::new(), Scribe::quiet());
        peer.send(request);
        peer.turn();
        let fields = fields_of(&peer.written());
        assert!(
            fields[0].starts_with(&format!("HTTP/1.1 {status} ")),
            "{fields:?}"
        );
        assert!(
            field.is_empty() || fields.iter().any(|it| it == field),
            "{fields:?}"
        );
        assert_eq!(peer.book.take(), [""; 0]);
        if status != 426 || !request.contains("1.0") {
            // The connection is still one of HTTP.
            peer.send(HANDSHAKE);
            peer.turn();
            assert!(peer.written().starts_with(b"HTTP/1.1 101 "));
        }
    }
}

#[test]
fn pages_that_are_named_may_connect() {
    let server = WebSocketServer::new().origins(Origins::Only(vec!["https://friend".into()]));
    let peer = Peer::of(server, Scribe::quiet());
    peer.send(HANDSHAKE.replace("Host:", "Origin: https://friend\r\nHost:"));
    peer.turn();
    assert!(peer.written().starts_with(b"HTTP/1.1 101 "));
}

#[test]
fn the_subprotocol_that_the_server_likes_best_is_chosen() {
    let server = WebSocketServer::new().subprotocols(["v2", "v1"]);
    let peer = Peer::of(server, Scribe::quiet());
    let offer = "Sec-WebSocket-Protocol: v1, v2\r\nHost:";
    peer.send(HANDSHAKE.replace("Host:", offer));
    peer.turn();
    let fields = fields_of(&peer.written());
    assert!(
        fields.iter().any(|it| it == "sec-websocket-protocol: v2"),
        "{fields:?}"
    );
    assert_eq!(peer.book.transport().subprotocol(), Some("v2"));
    assert!(!peer.book.transport().is_client());
}

#[test]
fn a_site_has_both_pages_and_sockets() {
    let routes = Routes::new()
        .get("/", |_: Request| "a page")
        .and_then(|routes| routes.get("/chat", |request: Request| accept(&request, Echo)))
        .expect("the routes are right");
    let reactor = virtual_time_reactor();
    let stream = MemoryStream::new(&reactor);
    let protocol = Site::new(routes).build_protocol(&stream.socket().peer());
    Transport::connect(protocol.expect("nobody is refused"), stream.clone());
    stream.receive(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n");
    assert!(stream.take_written().ends_with(b"\r\n\r\na page"));
    stream.receive(HANDSHAKE.as_bytes());
    stream.receive(&frame(TEXT, "hello"));
    assert!(stream.take_written().ends_with(b"\x81\x05hello"));
}

#[test]
fn messages_go_both_ways_whatever_their_length() {
    let peer = Peer::talking_to(Scribe::new(|transport, text| transport.send(text)));
    for length in [0, 1, 125, 126, 127, 65535, 65536, 100_000] {
        let text = "x".repeat(length);
        peer.say(&text);
        assert_eq!(peer.frames(), [format!("text {text}")]);
    }
    let transport = peer.book.transport();
    transport.send(b"\x01\x02");
    transport.send(&vec![3]);
    transport.send(&String::from("four"));
    transport.write("five");
    let frames = peer.frames();
    assert_eq!(
        frames,
        ["binary \x01\x02", "binary \x03", "text four", "binary five"]
    );
}

#[test]
fn every_chunking_gives_the_same_events_and_the_same_answers() {
    let wire = [
        HANDSHAKE.as_bytes().to_vec(),
        frame(TEXT, "gr\u{fc}n"),
        frame(0x01, "one, "),
        frame(PING, "?"),
        frame(0x80, "two"),
        frame(BINARY, b"\xff"),
        frame(PONG, "unasked"),
        frame(CLOSE, b"\x03\xe9gone"),
        frame(TEXT, "too late"),
    ];
    let wire = wire.concat();
    for_every_chunking(&wire, |chunks| {
        let peer = Peer::of(
            WebSocketServer::new(),
            Scribe::new(|transport, text| transport.send(text)),
        );
        for chunk in chunks {
            peer.send(chunk);
        }
        let written = peer.written();
        let end = written.windows(4).position(|it| it == b"\r\n\r\n");
        let (_, frames) = written.split_at(end.expect("a head") + 4);
        assert_eq!(
            frames_of(frames),
            ["text gr\u{fc}n", "pong ?", "text one, two", "close 1001 "]
        );
        assert!(peer.is_being_lost());
        peer.stream.end();
        assert_eq!(
            peer.book.take(),
            [
                "opened",
                "text gr\u{fc}n",
                "ping ?",
                "text one, two",
                "binary \\xff",
                "pong unasked",
                "closed 1001 (going away) \"gone\"",
            ]
        );
    });
}

#[test]
fn a_ping_fires_with_the_time_that_its_pong_took_and_a_later_pong_answers_it_too() {
    let peer = Peer::talking_to(Scribe::quiet());
    let transport = peer.book.transport();
    let pings = [transport.ping(), transport.ping(), transport.ping()];
    let wire = peer.written();
    let payloads: Vec<&[u8]> = wire.chunks(10).map(|frame| &frame[2..]).collect();
    assert_eq!(payloads.len(), 3);
    peer.wait(2);
    // Numbers that were never sent are nobody's.
    peer.send(frame(PONG, [0xff; 8]));
    peer.send(frame(PONG, "other"));
    assert!(pings.iter().all(|ping| !ping.is_fired()));
    peer.send(frame(PONG, payloads[1]));
    let [first, second, third] = pings;
    assert_eq!(success_of(first), Duration::from_secs(2));
    assert_eq!(success_of(second), Duration::from_secs(2));
    assert!(!third.is_fired());
    peer.stream.end();
    let failure = failure_of(third);
    assert_eq!(failure.downcast_ref(), Some(&PingError::Lost));
    let failure = failure_of(transport.ping());
    assert_eq!(failure.downcast_ref(), Some(&PingError::Lost));
}

#[test]
fn pings_that_nobody_answers_are_bounded() {
    let peer = Peer::talking_to(Scribe::quiet());
    let transport = peer.book.transport();
    let waiting: Vec<_> = (0..64).map(|_| transport.ping()).collect();
    assert!(waiting.iter().all(|ping| !ping.is_fired()));
    let failure = failure_of(transport.ping());
    assert_eq!(
        failure.downcast_ref(),
        Some(&PingError::TooMany { limit: 64 })
    );
    peer.stream.end();
    for ping in waiting {
        let failure = failure_of(ping);
        assert_eq!(failure.downcast_ref(), Some(&PingError::Lost));
    }
}

#[test]
fn a_message_that_is_too_long_is_told_1009_before_it_comes() {
    let limits = WebSocketLimits {
        message: 100,
        ..Default::default()
    };
    let peer = Peer::upgraded(WebSocketServer::new().limits(limits), Scribe::quiet());
    peer.say(&"x".repeat(100));
    peer.send(&frame(TEXT, "x".repeat(101))[..6]);
    assert_eq!(
        peer.frames(),
        ["close 1009 a message is longer than 100 bytes"]
    );
    assert!(peer.is_being_lost());
    assert_eq!(peer.book.take().len(), 1);
}

/// A protocol of bytes, on top of messages.
struct Bytes {
    heard: Rc<RefCell<Vec<String>>>,
}

impl Protocol for Bytes {
    fn connection_made(&mut self, transport: &Transport<Self>) {
        transport.write("made");
    }

    fn data_received(&mut self, _: &Transport<Self>, data: &[u8]) {
        self.heard
            .borrow_mut()
            .push(data.escape_ascii().to_string());
    }

    fn write_paused(&mut self, _: &Transport<Self>) {
        self.heard.borrow_mut().push("paused".into());
    }

    fn connection_lost(&mut self, reason: ConnectionLost) {
        self.heard.borrow_mut().push(reason.to_string());
    }
}

#[test]
fn any_protocol_can_be_seated_on_it() {
    let heard = Rc::new(RefCell::new(Vec::new()));
    let told = Rc::clone(&heard);
    let peer = Peer::talking_to(Scribe::new(move |transport, _| {
        let stream = Rc::clone(transport.stream()) as Rc<dyn Stream>;
        let heard = Rc::clone(&told);
        Transport::connect(Bytes { heard }, stream);
    }));
    let wire = [
        frame(TEXT, "go on"),
        frame(BINARY, "a"),
        frame(TEXT, "b"),
        frame(PING, ""),
    ];
    peer.send(wire.concat());
    assert_eq!(peer.frames(), ["binary made", "pong "]);
    peer.stream.set_congested(true);
    peer.send(frame(CLOSE, b"\x03\xe8"));
    assert_eq!(heard.take(), ["a", "b", "paused"]);
    peer.stream.end();
    assert_eq!(heard.take(), ["connection closed cleanly"]);
    assert_eq!(
        peer.book.take(),
        ["text go on", "closed 1000 (normal) \"\""]
    );
}

#[test]
fn one_that_is_seated_behind_the_end_hears_of_it() {
    let peer = Peer::talking_to(Scribe::quiet());
    let stream = Rc::clone(peer.book.transport().stream()) as Rc<dyn Stream>;
    peer.stream.end();
    let heard = Rc::new(RefCell::new(Vec::new()));
    let late = Bytes {
        heard: Rc::clone(&heard),
    };
    let late = Transport::connect(late, stream);
    assert_eq!(heard.take(), [""; 0]);
    peer.turn();
    assert_eq!(heard.take(), ["connection closed cleanly"]);
    let weak = Rc::downgrade(late.stream());
    drop((late, peer));
    assert_eq!(weak.strong_count(), 0, "a ring holds it");
}

#[test]
fn a_panic_in_a_callback_ends_this_connection_alone() {
    let peer = Peer::talking_to(Scribe::new(|_, _| panic!("on purpose")));
    peer.send([frame(TEXT, "a"), frame(TEXT, "b")].concat());
    assert!(peer.is_being_lost());
    assert_eq!(peer.frames(), ["close 1011 "], "RFC 6455 §7.4.1");
    peer.stream.end();
    let expected = ["text a", "closed 1006 (abnormal) \"\""];
    assert_eq!(peer.book.take(), expected, "nothing in between");
    let closed = peer.book.closed();
    assert!(
        matches!(closed.lost, ConnectionLost::Panicked { .. }),
        "{closed:?}"
    );
}

#[test]
fn a_panic_behind_the_end_is_only_the_end() {
    let scribe = Scribe::new(|transport, text| {
        transport.send(text);
        transport.close(4000, "mine");
        panic!("on purpose");
    });
    let peer = Peer::talking_to(scribe);
    peer.say("a");
    assert!(peer.is_being_lost());
    assert_eq!(peer.frames(), ["text a", "close 4000 mine"]);
    peer.stream.end();
    let lost = peer.book.closed().lost;
    assert!(matches!(lost, ConnectionLost::Panicked { .. }), "{lost}");
}

/// Panics at the first byte.
struct Fragile;

impl Protocol for Fragile {
    fn data_received(&mut self, _: &Transport<Self>, _: &[u8]) {
        panic!("on purpose");
    }
}

#[test]
fn a_panic_of_a_protocol_on_top_is_told_the_peer_too() {
    let peer = Peer::talking_to(Scribe::new(|transport, _| {
        Transport::connect(Fragile, Rc::clone(transport.stream()) as Rc<dyn Stream>);
    }));
    peer.say("go on");
    peer.say("a");
    assert_eq!(peer.frames(), ["close 1011 "]);
    assert!(peer.is_being_lost());
}

#[test]
fn what_a_protocol_asks_itself_for_from_outside_waits_until_it_is_free() {
    let peer = Peer::talking_to(Scribe::new(|transport, text| {
        transport.call(|scribe, _| scribe.book.add("called"));
        transport.when(succeed(7), |scribe, _, result: Result<i32, Failure>| {
            scribe.book.add(format!("when {:?}", result.ok()));
        });
        transport.send(text);
    }));
    peer.say("a");
    assert_eq!(peer.book.take(), ["text a", "called", "when Some(7)"]);
}
