//! WebSocket, over streams made of memory and in simulated networks.

mod client;
mod endings;
mod example;
mod flow;
mod peers;
mod proxied;
mod server;
mod simulated;
mod stopping;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use torsade::prelude::*;
use torsade::protocols::http::{Request, Site};
use torsade::protocols::websocket::{
    Closed, Message, WebSocketProtocol, WebSocketServer, WebSocketTransport,
};
use torsade::reactor::task::sleep;
use torsade::reactor::testing::{MemoryStream, virtual_time_reactor};
use torsade::reactor::{Factory, Stream};

type ScribeTransport = WebSocketTransport<Scribe>;
type Act = Rc<dyn Fn(&ScribeTransport, &str)>;

/// Writes down what happens, and does what the test says for each text.
#[derive(Clone)]
struct Scribe {
    book: Rc<Book>,
    act: Act,
}

#[derive(Default)]
struct Book {
    lines: RefCell<Vec<String>>,
    transport: RefCell<Option<ScribeTransport>>,
    closed: RefCell<Option<Closed>>,
}

impl Book {
    fn add(&self, line: impl Into<String>) {
        self.lines.borrow_mut().push(line.into());
    }

    fn take(&self) -> Vec<String> {
        self.lines.take()
    }

    fn transport(&self) -> ScribeTransport {
        let transport = self.transport.borrow().clone();
        transport.expect("it was opened")
    }

    fn closed(&self) -> Closed {
        self.closed.take().expect("it was closed")
    }

    fn is_closed(&self) -> bool {
        self.closed.borrow().is_some()
    }
}

impl Scribe {
    fn new(act: impl Fn(&ScribeTransport, &str) + 'static) -> Self {
        Self {
            book: Rc::default(),
            act: Rc::new(act),
        }
    }

    fn quiet() -> Self {
        Self::new(|_, _| {})
    }
}

impl WebSocketProtocol for Scribe {
    fn opened(&mut self, transport: &ScribeTransport) {
        self.book.add("opened");
        self.book.transport.replace(Some(transport.clone()));
    }

    fn message_received(&mut self, transport: &ScribeTransport, message: Message<'_>) {
        self.book.add(match message {
            Message::Text(text) => format!("text {text}"),
            Message::Binary(bytes) => format!("binary {}", bytes.escape_ascii()),
        });
        if let Some(text) = message.as_text() {
            (self.act)(transport, text);
        }
    }

    fn ping_received(&mut self, _: &ScribeTransport, payload: &[u8]) {
        self.book.add(format!("ping {}", payload.escape_ascii()));
    }

    fn pong_received(&mut self, _: &ScribeTransport, payload: &[u8]) {
        self.book.add(format!("pong {}", payload.escape_ascii()));
    }

    fn write_paused(&mut self, _: &ScribeTransport) {
        self.book.add("write paused");
    }

    fn write_resumed(&mut self, _: &ScribeTransport) {
        self.book.add("write resumed");
    }

    fn closed(&mut self, closed: Closed) {
        self.book
            .add(format!("closed {} {:?}", closed.code, closed.reason));
        self.book.transport.take();
        self.book.closed.replace(Some(closed));
    }
}

/// A client that is made of a test: it sends bytes and sees bytes.
struct Peer {
    reactor: Reactor,
    stream: Rc<MemoryStream>,
    book: Rc<Book>,
}

const HANDSHAKE: &str = "GET /chat HTTP/1.1\r\nHost: here\r\nConnection: keep-alive, Upgrade\r\n\
                         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

impl Peer {
    /// On a connection that speaks HTTP.
    fn of(server: WebSocketServer, scribe: Scribe) -> Self {
        let reactor = virtual_time_reactor();
        let book = Rc::clone(&scribe.book);
        let site = Site::new(move |request: Request| server.accept(&request, scribe.clone()));
        let stream = MemoryStream::new(&reactor);
        let protocol = site.clone().build_protocol(&stream.socket().peer());
        Transport::connect(protocol.expect("nobody is refused"), stream.clone());
        Self {
            reactor,
            stream,
            book,
        }
    }

    /// On a connection that speaks WebSocket.
    fn upgraded(server: WebSocketServer, scribe: Scribe) -> Self {
        let peer = Self::of(server, scribe);
        peer.send(HANDSHAKE);
        peer.turn();
        let answer = peer.written();
        assert!(
            answer.starts_with(b"HTTP/1.1 101 "),
            "{}",
            answer.escape_ascii()
        );
        assert_eq!(peer.book.take(), ["opened"]);
        peer
    }

    fn talking_to(scribe: Scribe) -> Self {
        Self::upgraded(WebSocketServer::new(), scribe)
    }

    fn send(&self, bytes: impl AsRef<[u8]>) {
        self.stream.receive(bytes.as_ref());
    }

    fn say(&self, text: &str) {
        self.send(frame(TEXT, text));
    }

    fn written(&self) -> Vec<u8> {
        self.stream.take_written()
    }

    /// What came, as frames.
    #[track_caller]
    fn frames(&self) -> Vec<String> {
        frames_of(&self.written())
    }

    fn turn(&self) {
        for _ in 0..5 {
            let turned = self.reactor.turn(Some(Duration::ZERO));
            turned.expect("it can be turned");
        }
    }

    fn wait(&self, seconds: u64) {
        let slept = sleep(&self.reactor, Duration::from_secs(seconds));
        self.reactor.run_until(slept).expect("time passes");
    }

    fn is_being_lost(&self) -> bool {
        !self.stream.is_connected()
    }
}

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

/// A client's frame.
fn frame(first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    const KEY: [u8; 4] = [0xa5, 0x0f, 0x33, 0x42];
    let payload = payload.as_ref();
    let mut wire = vec![first];
    match payload.len() {
        length @ 0..126 => wire.push(0x80 | length as u8),
        length @ 126..0x10000 => {
            wire.push(0x80 | 126);
            wire.extend((length as u16).to_be_bytes());
        }
        length => {
            wire.push(0x80 | 127);
            wire.extend((length as u64).to_be_bytes());
        }
    }
    wire.extend(KEY);
    wire.extend(payload.iter().zip(KEY.iter().cycle()).map(|(a, b)| a ^ b));
    wire
}

/// A server's frames, in words.
#[track_caller]
fn frames_of(mut wire: &[u8]) -> Vec<String> {
    let mut frames = Vec::new();
    while let [first, second, rest @ ..] = wire {
        assert_eq!(second & 0x80, 0, "a server does not mask");
        let (length, rest) = match second {
            126 => (
                usize::from(u16::from_be_bytes([rest[0], rest[1]])),
                &rest[2..],
            ),
            127 => {
                let (length, rest) = rest.split_at(8);
                let length = u64::from_be_bytes(length.try_into().expect("eight"));
                (usize::try_from(length).expect("it is small"), rest)
            }
            length => (usize::from(*length), rest),
        };
        let (payload, rest) = rest.split_at(length);
        wire = rest;
        let kind = match *first {
            TEXT => "text",
            BINARY => "binary",
            CLOSE => "close",
            PING => "ping",
            PONG => "pong",
            other => panic!("no frame of ours begins with {other:x}"),
        };
        frames.push(match (kind, payload) {
            ("close", [high, low, reason @ ..]) => {
                let code = u16::from_be_bytes([*high, *low]);
                format!("close {code} {}", String::from_utf8_lossy(reason))
            }
            _ => format!("{kind} {}", String::from_utf8_lossy(payload)),
        });
    }
    assert!(wire.is_empty(), "a frame is whole");
    frames
}
