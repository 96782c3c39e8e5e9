//! HTTP requests, answered: from the bytes that the socket gives to those that it takes.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use torsade::prelude::*;
use torsade::protocols::http::cache::CacheKind;
use torsade::protocols::http::{
    Answer, Cache, Client, Handler, IntoAnswer, Json, Request, Response, ReverseProxy, StaticFiles,
    StatusCode, header,
};

const HELLO: &str = "Hello, world!";

/// As load generators write it.
const SHORT: &str = "Host: 127.0.0.1\r\n\r\n";

/// As browsers do.
const LONG: &str = "Host: www.example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:139.0) Gecko/20100101 Firefox/139.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
    Connection: keep-alive\r\nCookie: session=31d4d96e407aad42; theme=dark\r\n\
    Upgrade-Insecure-Requests: 1\r\nSec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\n\
    Sec-Fetch-Site: none\r\nSec-Fetch-User: ?1\r\nPriority: u=0, i\r\n\r\n";

pub fn hello(count: u64) {
    ask(&format!("GET / HTTP/1.1\r\n{SHORT}"), HELLO, 1, count);
}

pub fn hello_16_deep(count: u64) {
    ask(&format!("GET / HTTP/1.1\r\n{SHORT}"), HELLO, 16, count);
}

pub fn browser_16_deep(count: u64) {
    ask(&format!("GET / HTTP/1.1\r\n{LONG}"), HELLO, 16, count);
}

pub fn json(count: u64) {
    let text = r#"["Hello, world!",[1,2,3]]"#;
    ask(&format!("GET /json HTTP/1.1\r\n{SHORT}"), text, 1, count);
}

pub fn post(count: u64) {
    let body = "e".repeat(1024);
    let head = format!("POST /echo HTTP/1.1\r\nContent-Length: 1024\r\n{SHORT}");
    ask(&(head + &body), &body, 1, count);
}

pub fn file(count: u64) {
    let text = include_str!("../../../LICENSE-MIT");
    let request = format!("GET /LICENSE-MIT HTTP/1.1\r\n{SHORT}");
    ask(&request, text, 1, count);
}

/// Out of the cache of a reverse proxy.
pub fn cached(count: u64) {
    let request = format!("GET /cached HTTP/1.1\r\n{SHORT}");
    ask(&request, HELLO, 1, count);
}

/// A proxy with a cache, before a server whose page lasts.
fn cached_page(reactor: &Reactor) -> ReverseProxy {
    let origin = http::serve(reactor, "127.0.0.1:0", |_: Request| {
        let mut response = Response::new(HELLO.into());
        let lasting = header::HeaderValue::from_static("max-age=900000");
        // Of as many digits for as long as this runs.
        let age = header::HeaderValue::from_static("100");
        let fields = response.headers_mut();
        fields.insert(header::CACHE_CONTROL, lasting);
        fields.insert(header::AGE, age);
        response
    });
    let address = origin.expect("a port is free").address();
    let cache = Cache::new(reactor, CacheKind::Shared);
    let proxy = ReverseProxy::new(&Client::new(reactor), &*format!("http://{address}"));
    let proxy = proxy.expect("it is a URL");
    proxy.through(|fetch| cache.around(fetch))
}

fn answer(files: &StaticFiles, cached: Option<&ReverseProxy>, mut request: Request) -> Answer {
    match request.path() {
        "/" => HELLO.into_answer(),
        "/json" => Json((HELLO, [1, 2, 3])).into_answer(),
        "/LICENSE-MIT" => files.handle(request),
        "/cached" => cached.map_or_else(
            || StatusCode::NOT_FOUND.into_answer(),
            |cached| cached.handle(request),
        ),
        "/echo" => request.read_body().into_answer(),
        _ => StatusCode::NOT_FOUND.into_answer(),
    }
}

/// Sends so many requests at a time, and compares each answer with what it has to be.
fn ask(request: &str, body: &str, depth: u64, count: u64) {
    let reactor = Reactor::new().expect("a descriptor is left");
    let files = StaticFiles::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let cached = request.contains(" /cached ").then(|| cached_page(&reactor));
    let answer = move |request| answer(&files, cached.as_ref(), request);
    let server = http::serve(&reactor, "127.0.0.1:0", answer).expect("a port is free");
    let socket = TcpStream::connect(server.address().to_string()).expect("it listens");
    socket.set_nonblocking(true).expect("it can be asked");
    let mut asking = Asking {
        reactor,
        socket,
        buffer: vec![0; 64 * 1024],
    };
    // The first may be the one that comes from somewhere else.
    asking.exchange(request, 1);
    let expected = Expected::of(asking.exchange(request, 1), body);
    if depth == 1 {
        for _ in 0..count {
            expected.check(asking.exchange(request, expected.length));
        }
        return;
    }
    let batch = request.repeat(depth as usize);
    for _ in 0..count / depth {
        let answers = asking
            .exchange(&batch, expected.length * depth as usize)
            .chunks(expected.length);
        answers.for_each(|it| expected.check(it));
    }
}

struct Asking {
    reactor: Reactor,
    socket: TcpStream,
    buffer: Vec<u8>,
}

impl Asking {
    /// Asks, and gives what came: so many bytes at least.
    fn exchange(&mut self, request: &str, length: usize) -> &[u8] {
        let stands = self.socket.write_all(request.as_bytes());
        stands.expect("it stands");
        let (mut came, mut fruitless) = (0, 0);
        while came < length {
            match self.socket.read(&mut self.buffer[came..]) {
                Ok(0) => panic!("the server ends the connection"),
                Ok(count) => came += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let turned = self.reactor.turn(Some(Duration::from_secs(1)));
                    turned.expect("it turns");
                    fruitless += 1;
                    assert!(fruitless < TURNS_MAX, "the rest of it does not come");
                }
                Err(error) => panic!("{error}"),
            }
        }
        &self.buffer[..came]
    }
}

/// No answer here takes a tenth of so many turns, through the proxy neither.
const TURNS_MAX: u32 = 100;

/// Fields whose values tell the time. Their lengths stay as they are for as long as this runs.
const TIMES: [&str; 3] = ["\r\ndate: ", "\r\nage: ", "; ttl="];

/// An answer as it comes each time, but for what tells the time.
struct Expected {
    /// What stands between those, and where.
    pieces: Vec<(usize, Vec<u8>)>,
    length: usize,
}

impl Expected {
    /// From one that came.
    fn of(answer: &[u8], body: &str) -> Self {
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"), "it is answered");
        let text = str::from_utf8(answer).expect("it is text");
        let (head, came) = text.split_once("\r\n\r\n").expect("it has a head");
        assert_eq!(came, body, "the answer brings another body");
        let head = head.to_ascii_lowercase();
        let mut times: Vec<_> = TIMES
            .iter()
            .filter_map(|field| Some(head.find(field)? + field.len()))
            .collect();
        times.sort_unstable();
        assert!(!times.is_empty(), "each answer tells the time");
        let mut pieces = Vec::new();
        let mut from = 0;
        for time in times {
            pieces.push((from, answer[from..time].to_vec()));
            from = time + text[time..].find("\r\n").expect("a field ends");
        }
        pieces.push((from, answer[from..].to_vec()));
        Self {
            pieces,
            length: answer.len(),
        }
    }

    fn check(&self, answer: &[u8]) {
        let mut pieces = self.pieces.iter();
        assert!(
            answer.len() == self.length
                && pieces.all(|(from, piece)| answer[*from..].starts_with(piece)),
            "another answer came: {}",
            String::from_utf8_lossy(answer)
        );
    }
}
