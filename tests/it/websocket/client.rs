//! The client's end.

use std::cell::Cell;

use torsade::protocols::http::{Client, ClientError, Origin, header};
use torsade::protocols::tls::{ClientConfig, ServerConfig, TlsStream};
use torsade::protocols::websocket::{
    CloseCode, HandshakeError, Violation, WebSocketClient, accept,
};
use torsade::reactor::ClientEndpoint;
use torsade::reactor::testing::{failure_of, memory_pair, success_of};

use super::server::Echo;
use super::*;
use crate::tls::authority::Authority;

/// Leads to a stream in the hands of the test.
struct Dial(Rc<MemoryStream>);

impl ClientEndpoint for Dial {
    fn connect_stream(&self, _: &Reactor) -> Deferred<Rc<dyn Stream>> {
        succeed(Rc::clone(&self.0) as Rc<dyn Stream>)
    }
}

/// A client whose server is made of a test.
struct Asked {
    reactor: Reactor,
    stream: Rc<MemoryStream>,
    client: WebSocketClient,
    scribe: Scribe,
}

impl Asked {
    fn new() -> Self {
        let reactor = virtual_time_reactor();
        let stream = MemoryStream::new(&reactor);
        let end = Rc::clone(&stream);
        let http = Client::new(&reactor).connector(move |_: &Origin| Dial(Rc::clone(&end)));
        let client = WebSocketClient::over(http, &reactor).subprotocols(["v2", "v1"]);
        Self {
            reactor,
            stream,
            client,
            scribe: Scribe::quiet(),
        }
    }

    fn connect(&self) -> (Deferred<ScribeTransport>, String) {
        let connecting = self
            .client
            .connect("ws://here/chat?a=b", self.scribe.clone());
        let asked = String::from_utf8(self.stream.take_written()).expect("a request is text");
        (connecting, asked)
    }

    fn turn(&self) {
        for _ in 0..5 {
            let turned = self.reactor.turn(Some(Duration::ZERO));
            turned.expect("it can be turned");
        }
    }

    /// On a connection that speaks WebSocket.
    fn upgraded() -> (Self, ScribeTransport) {
        let asked = Self::new();
        let (connecting, request) = asked.connect();
        asked.stream.receive(answer_to(&request).as_bytes());
        let transport = success_of(connecting);
        assert_eq!(asked.scribe.book.take(), ["opened"]);
        (asked, transport)
    }

    fn lines(&self) -> Vec<String> {
        self.scribe.book.take()
    }
}

/// The right answer, by a server of ours.
fn answer_to(request: &str) -> String {
    let peer = Peer::of(WebSocketServer::new().subprotocols(["v1"]), Scribe::quiet());
    peer.send(request);
    peer.turn();
    String::from_utf8(peer.written()).expect("a head is text")
}

/// A client's frames, in words.
#[track_caller]
fn frames_from_client(mut wire: &[u8]) -> Vec<String> {
    let mut plain = Vec::new();
    while let [first, second, rest @ ..] = wire {
        assert_eq!(second & 0x80, 0x80, "a client masks");
        let (extended, length) = match second & 0x7f {
            126 => (2, usize::from(u16::from_be_bytes([rest[0], rest[1]]))),
            127 => (
                8,
                usize::try_from(u64::from_be_bytes(rest[..8].try_into().expect("eight")))
                    .expect("small"),
            ),
            length => (0, usize::from(length)),
        };
        let (key, rest) = rest[extended..].split_at(4);
        let (payload, rest) = rest.split_at(length);
        plain.extend([*first, second & 0x7f]);
        plain.extend(&wire[2..2 + extended]);
        plain.extend(payload.iter().zip(key.iter().cycle()).map(|(a, b)| a ^ b));
        wire = rest;
    }
    frames_of(&plain)
}

#[test]
fn a_client_asks_as_it_must() {
    let asked = Asked::new();
    let (_connecting, request) = asked.connect();
    assert!(
        request.starts_with("GET /chat?a=b HTTP/1.1\r\n"),
        "{request}"
    );
    let lower = request.to_ascii_lowercase();
    for field in [
        "host: here",
        "connection: upgrade",
        "upgrade: websocket",
        "sec-websocket-version: 13",
        "sec-websocket-protocol: v2, v1",
    ] {
        assert!(
            lower.contains(&format!("\r\n{field}\r\n")),
            "{field} in {request}"
        );
    }
    assert!(!lower.contains("sec-websocket-extensions"), "{request}");
}

#[test]
fn messages_go_out_masked_and_come_in_plain() {
    let (asked, transport) = Asked::upgraded();
    assert_eq!(transport.subprotocol(), Some("v1"));
    assert!(transport.is_client());
    let mut keys = Vec::new();
    for length in [0, 1, 125, 126, 4082, 4083, 4096, 65535, 65536] {
        let text: String = ('a'..='z').cycle().take(length).collect();
        transport.send(&text);
        let wire = asked.stream.take_written();
        keys.push(wire[wire.len() - length - 4..][..4].to_vec());
        assert_eq!(frames_from_client(&wire), [format!("text {text}")]);
    }
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 9, "a key for each frame");
    asked.stream.receive(b"\x81\x02hi\x82\x01!\x89\x01?");
    assert_eq!(asked.lines(), ["text hi", "binary !", "ping ?"]);
    assert_eq!(frames_from_client(&asked.stream.take_written()), ["pong ?"]);
}

#[test]
fn messages_that_come_with_the_answer_come_after_opened() {
    let asked = Asked::new();
    let (connecting, request) = asked.connect();
    let answer = [answer_to(&request).as_bytes(), b"\x81\x05early"].concat();
    asked.stream.receive(&answer);
    assert_eq!(asked.lines(), ["opened", "text early"]);
    drop(success_of(connecting));
}

#[test]
fn a_client_that_has_heard_close_waits_for_the_server_to_end_the_connection() {
    let (asked, _transport) = Asked::upgraded();
    asked.stream.receive(b"\x88\x05\x03\xe9bye");
    assert_eq!(
        frames_from_client(&asked.stream.take_written()),
        ["close 1001 "]
    );
    assert!(asked.stream.is_connected(), "the server first: §7.1.1");
    asked.stream.end_read();
    assert!(!asked.stream.is_connected());
    asked.stream.end();
    assert_eq!(asked.lines(), ["closed 1001 (going away) \"bye\""]);
    assert!(asked.scribe.book.closed().is_clean);
}

#[test]
fn a_server_that_never_ends_the_connection_is_left_in_time() {
    let (asked, transport) = Asked::upgraded();
    transport.close(CloseCode::NORMAL, "");
    asked.stream.receive(b"\x88\x02\x03\xe8");
    asked.turn();
    assert!(asked.stream.is_connected());
    let slept = sleep(&asked.reactor, Duration::from_secs(34));
    asked.reactor.run_until(slept).expect("time passes");
    assert!(!asked.stream.is_connected());
    asked.stream.end();
    assert!(asked.scribe.book.closed().is_clean, "both have said so");
}

#[test]
fn a_server_that_masks_is_told_1002() {
    let (asked, _transport) = Asked::upgraded();
    asked.stream.receive(&frame(TEXT, "a"));
    let frames = frames_from_client(&asked.stream.take_written());
    assert!(frames[0].starts_with("close 1002 "), "{frames:?}");
    asked.stream.end();
    let closed = asked.scribe.book.closed();
    let ConnectionLost::Failed(failure) = &closed.lost else {
        panic!("{closed:?}");
    };
    assert_eq!(failure.downcast_ref(), Some(&Violation::Masked));
}

#[test]
fn answers_that_are_none_to_this_request_are_refused() {
    for (from, to, expected) in [
        (
            "sec-websocket-accept: ",
            "sec-websocket-accept: x",
            "it does not answer this key",
        ),
        (
            "upgrade: websocket",
            "upgrade: other",
            "it switches to something else",
        ),
        (
            "connection: upgrade",
            "connection: keep-alive",
            "its Connection does not say Upgrade",
        ),
        (
            "protocol: v1",
            "protocol: v3",
            "it chooses a subprotocol that was not offered",
        ),
        (
            "sec-websocket-protocol: v1",
            "sec-websocket-extensions: permessage-deflate",
            "it uses an extension that was not offered",
        ),
    ] {
        let asked = Asked::new();
        let (connecting, request) = asked.connect();
        asked
            .stream
            .receive(answer_to(&request).replace(from, to).as_bytes());
        let failure = failure_of(connecting);
        let Some(HandshakeError::BadAnswer { problem }) = failure.downcast_ref() else {
            panic!("{failure}");
        };
        assert_eq!(*problem, expected);
        assert!(!asked.stream.is_connected(), "it is not left open");
        assert_eq!(asked.lines(), [""; 0], "it was never opened");
    }
}

#[test]
fn a_refusal_says_what_the_server_said() {
    let asked = Asked::new();
    let (connecting, _) = asked.connect();
    let answer = "HTTP/1.1 503 Busy\r\nRetry-After: 10\r\nContent-Length: 0\r\n\r\n";
    asked.stream.receive(answer.as_bytes());
    let failure = failure_of(connecting);
    let Some(HandshakeError::Refused { status, headers }) = failure.downcast_ref() else {
        panic!("{failure}");
    };
    assert_eq!(
        (status.as_u16(), &headers[header::RETRY_AFTER]),
        (503, &"10".parse().expect("a value"))
    );
}

#[test]
fn a_url_of_another_kind_is_the_callers_fault() {
    let asked = Asked::new();
    for url in ["ftp://here/", "here", "ws:///"] {
        let failure = failure_of(asked.client.connect(url, Scribe::quiet()));
        let is_ours = failure.check::<HandshakeError>() || failure.check::<ClientError>();
        assert!(is_ours, "{url}: {failure}");
    }
}

#[test]
fn a_cancelled_attempt_closes_its_connection() {
    let asked = Asked::new();
    let (connecting, _) = asked.connect();
    connecting.cancel();
    let failure = failure_of(connecting);
    assert!(failure.check::<Interrupted>(), "{failure}");
    assert!(!asked.stream.is_connected());
}

/// Leads to a server of ours, with TLS or without.
struct ToSite {
    site: Site,
    config: Option<ServerConfig>,
}

impl ClientEndpoint for ToSite {
    fn connect_stream(&self, reactor: &Reactor) -> Deferred<Rc<dyn Stream>> {
        let pair = memory_pair(reactor);
        let protocol = self
            .site
            .clone()
            .build_protocol(&pair.server.socket().peer());
        let stream: Rc<dyn Stream> = match &self.config {
            Some(config) => TlsStream::server(pair.server, config),
            None => pair.server,
        };
        Transport::connect(protocol.expect("nobody is refused"), stream);
        succeed(pair.client)
    }
}

/// Sends lines of growing length, closes when the last has come back, and says how many did.
struct Growing {
    came: Rc<Cell<usize>>,
}

impl WebSocketProtocol for Growing {
    fn opened(&mut self, transport: &WebSocketTransport<Self>) {
        transport.send("x");
    }

    fn message_received(&mut self, transport: &WebSocketTransport<Self>, message: Message<'_>) {
        let text = message.as_text().expect("as it was sent");
        self.came.set(self.came.get() + 1);
        if text.len() > 200_000 {
            return transport.close(CloseCode::NORMAL, "done");
        }
        transport.send(&text.repeat(3));
    }
}

#[track_caller]
fn check_growing(url: &str, client: impl Fn(Client) -> Client, config: Option<ServerConfig>) {
    let reactor = virtual_time_reactor();
    let site = Site::new(|request: Request| accept(&request, Echo));
    let http = Client::new(&reactor).connector(move |_: &Origin| ToSite {
        site: site.clone(),
        config: config.clone(),
    });
    let came = Rc::new(Cell::new(0));
    let growing = Growing {
        came: Rc::clone(&came),
    };
    let client = WebSocketClient::over(client(http), &reactor);
    let connected = reactor.run_until(client.connect(url, growing));
    drop(connected.expect("it connects"));
    let slept = sleep(&reactor, Duration::from_secs(5));
    reactor.run_until(slept).expect("time passes");
    assert_eq!(came.get(), 13);
    assert_eq!(Rc::strong_count(&came), 1, "the protocol has gone");
}

#[test]
fn both_ends_of_ours_talk_to_each_other() {
    check_growing("ws://here/", |client| client, None);
}

#[test]
fn wss_is_the_same_over_tls() {
    let authority = Authority::new();
    let config: ClientConfig = authority.client();
    check_growing(
        "wss://localhost/",
        move |client| client.tls(&config),
        Some(authority.server()),
    );
}

/// What is written to TLS in a callback is unsent until that returns, and nobody says so when it is not any more.
#[test]
fn a_ping_behind_a_request_for_much_is_answered_over_tls() {
    let authority = Authority::new();
    let reactor = virtual_time_reactor();
    let server = Scribe::new(|transport, text| {
        if text == "start" {
            transport.send("go");
            drop(transport.ping());
        }
    });
    let theirs = Rc::clone(&server.book);
    let site = Site::new(move |request: Request| accept(&request, server.clone()));
    let config = Some(authority.server());
    let http = Client::new(&reactor)
        .connector(move |_: &Origin| ToSite {
            site: site.clone(),
            config: config.clone(),
        })
        .tls(&authority.client());
    let ours = Scribe::new(|transport, text| {
        assert_eq!(text, "go");
        transport.send(&"x".repeat(100_000));
        assert!(transport.is_congested());
    });
    let connecting = WebSocketClient::over(http, &reactor).connect("wss://localhost/", ours);
    let transport = reactor.run_until(connecting).expect("it connects");
    transport.send("start");
    let slept = sleep(&reactor, Duration::from_secs(5));
    reactor.run_until(slept).expect("time passes");
    let lines = theirs.take();
    let pongs = lines
        .iter()
        .filter(|line| line.starts_with("pong "))
        .count();
    assert_eq!((lines.len(), pongs), (4, 1), "opened, start, much, a pong");
}
