//! HTTP requests, answered: from the bytes that the socket gives to those that it takes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use torsade::prelude::*;
use torsade::protocols::http::cache::CacheKind;
use torsade::protocols::http::{
    Answer, Cache, Client, Handler, IntoAnswer, Json, Request, Response, ReverseProxy, StaticFiles,
    StatusCode, header,
};

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
    ask(&format!("GET / HTTP/1.1\r\n{SHORT}"), 1, count);
}

pub fn hello_16_deep(count: u64) {
    ask(&format!("GET / HTTP/1.1\r\n{SHORT}"), 16, count);
}

pub fn browser_16_deep(count: u64) {
    ask(&format!("GET / HTTP/1.1\r\n{LONG}"), 16, count);
}

pub fn json(count: u64) {
    ask(&format!("GET /json HTTP/1.1\r\n{SHORT}"), 1, count);
}

pub fn post(count: u64) {
    let body = "e".repeat(1024);
    let head = format!("POST /echo HTTP/1.1\r\nContent-Length: 1024\r\n{SHORT}");
    ask(&(head + &body), 1, count);
}

pub fn file(count: u64) {
    ask(&format!("GET /LICENSE-MIT HTTP/1.1\r\n{SHORT}"), 1, count);
}

/// Out of the cache of a reverse proxy.
pub fn cached(count: u64) {
    ask(&format!("GET /cached HTTP/1.1\r\n{SHORT}"), 1, count);
}

/// A proxy with a cache, before a server whose page lasts.
fn cached_page(reactor: &Reactor) -> ReverseProxy {
    let origin = http::serve(reactor, "127.0.0.1:0", |_: Request| {
        let mut response = Response::new("Hello, world!".into());
        let lasting = header::HeaderValue::from_static("max-age=900000");
        response
            .headers_mut()
            .insert(header::CACHE_CONTROL, lasting);
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
        "/" => "Hello, world!".into_answer(),
        "/json" => Json(("Hello, world!", [1, 2, 3])).into_answer(),
        "/LICENSE-MIT" => files.handle(request),
        "/cached" => cached.map_or_else(
            || StatusCode::NOT_FOUND.into_answer(),
            |cached| cached.handle(request),
        ),
        "/echo" => request.read_body().into_answer(),
        _ => StatusCode::NOT_FOUND.into_answer(),
    }
}

/// Sends so many requests at a time, and reads as much as the first answers were.
fn ask(request: &str, depth: u64, count: u64) {
    let reactor = Reactor::new().expect("a descriptor is left");
    let files = StaticFiles::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let cached = request.contains(" /cached ").then(|| cached_page(&reactor));
    let answer = move |request| answer(&files, cached.as_ref(), request);
    let server = http::serve(&reactor, "127.0.0.1:0", answer).expect("a port is free");
    let mut client = TcpStream::connect(server.address().to_string()).expect("it listens");
    client.set_nonblocking(true).expect("it can be asked");
    let mut buffer = vec![0; 64 * 1024];
    let mut exchange = |request: &str, length| {
        client.write_all(request.as_bytes()).expect("it stands");
        let mut came = 0;
        while came < length {
            match client.read(&mut buffer[came..]) {
                Ok(count) => came += count,
                Err(_) => drop(reactor.turn(Some(Duration::from_secs(1)))),
            }
        }
        assert!(buffer.starts_with(b"HTTP/1.1 200 OK\r\n"), "it is answered");
        came
    };
    // The first may be the one that comes from somewhere else.
    exchange(request, 1);
    let length = exchange(request, 1);
    let batch = request.repeat(depth as usize);
    for _ in 0..count / depth {
        exchange(&batch, length * depth as usize);
    }
}
