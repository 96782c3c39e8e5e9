//! What stands around handlers: compression, and the log.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

use torsade::prelude::*;
use torsade::protocols::http::coding::Decoder;
use torsade::protocols::http::conditional::{ETag, Validators};
use torsade::protocols::http::negotiate::Coding;
use torsade::protocols::http::{
    AccessLog, Body, Compression, Handler, Request, Site, answer_conditionally, compress, wrap,
};
use torsade::reactor::testing::virtual_time_reactor;

use super::Client;

fn compressing(handler: impl Handler) -> Client {
    Client::asking(wrap(handler, compress(Compression::default())))
}

/// Asks with this `Accept-Encoding`; the head, and the body.
fn ask(client: &Client, accepted: &str) -> (String, Vec<u8>) {
    client.send(format!(
        "GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: {accepted}\r\n\r\n"
    ));
    client.turn();
    split(client.stream.take_written())
}

fn split(answer: Vec<u8>) -> (String, Vec<u8>) {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let (head, body) = answer.split_at(end.expect("there is a head") + 4);
    (String::from_utf8_lossy(head).into_owned(), body.to_vec())
}

fn decoded(coding: Coding, body: &[u8]) -> String {
    let mut decoder = Decoder::new(coding, 1 << 24);
    let (mut content, mut rest) = (Vec::new(), body);
    loop {
        let before = content.len();
        let used = decoder
            .decode(rest, &mut content, 4096)
            .expect("it is in order");
        rest = &rest[used..];
        if rest.is_empty() && content.len() == before {
            return String::from_utf8(content).expect("it is text");
        }
    }
}

/// What is in chunks.
fn joined(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = body.windows(2).position(|two| two == b"\r\n") {
        let size = std::str::from_utf8(&body[..end]).expect("a size is text");
        let size = usize::from_str_radix(size, 16).expect("a size is a number");
        whole.extend_from_slice(&body[end + 2..end + 2 + size]);
        body = &body[end + 2 + size + 2..];
    }
    whole
}

#[test]
fn text_is_compressed_for_who_takes_it() {
    let page = "to be or not to be ".repeat(100);
    let sent = page.clone();
    let client = compressing(move |_: Request| sent.clone());
    for (accepted, coding) in [("gzip, br", Coding::Gzip), ("deflate", Coding::Deflate)] {
        let (head, body) = ask(&client, accepted);
        let name = coding.name();
        assert!(
            head.contains(&format!("\r\ncontent-encoding: {name}\r\n")),
            "{head}"
        );
        assert!(head.contains("\r\nvary: accept-encoding\r\n"), "{head}");
        assert!(
            head.contains(&format!("\r\ncontent-length: {}\r\n", body.len())),
            "{head}"
        );
        assert!(
            head.contains("\r\ncontent-type: text/plain; charset=utf-8\r\n"),
            "{head}"
        );
        assert!(body.len() < 200);
        assert_eq!(decoded(coding, &body), page);
    }
    let (head, body) = ask(&client, "identity");
    assert!(head.contains("\r\nvary: accept-encoding\r\n"), "{head}");
    assert!(!head.contains("content-encoding"), "{head}");
    assert_eq!(body, page.as_bytes());
}

#[test]
fn what_is_short_no_text_or_a_part_stays_as_it_is() {
    let long = "x".repeat(2000);
    let image = Body::from(long.clone()).with_media_type("image/png");
    let image = RefCell::new(Some(image));
    let (head, body) = ask(&compressing(move |_: Request| image.take()), "gzip");
    assert!(!head.contains("vary") && body.len() == 2000, "{head}");
    let (head, body) = ask(&compressing(|_: Request| "short"), "gzip");
    assert!(
        !head.contains("content-encoding") && body == b"short",
        "{head}"
    );
    for (name, value) in [
        ("content-encoding", "br"),
        ("content-range", "bytes 0-1/2"),
        ("cache-control", "private, no-transform"),
    ] {
        let long = long.clone();
        let client = compressing(move |_: Request| {
            let mut response = http::Response::new(Body::from(long.clone()));
            let value = http::HeaderValue::from_static(value);
            response.headers_mut().insert(name, value);
            response
        });
        let (head, body) = ask(&client, "gzip");
        assert!(!head.contains("gzip") && body.len() == 2000, "{head}");
    }
}

#[test]
fn a_compressed_body_is_another_one_to_who_compares_bytes() {
    let client = compressing(|request: Request| {
        let etag = ETag::strong("7").ok();
        let current = Validators {
            etag,
            last_modified: None,
        };
        answer_conditionally(&request, &current, "x".repeat(2000))
    });
    let (head, _) = ask(&client, "gzip");
    assert!(head.contains("\r\netag: W/\"7\"\r\n"), "{head}");
    let (head, _) = ask(&client, "identity");
    assert!(head.contains("\r\netag: \"7\"\r\n"), "{head}");
    let (head, _) = ask(&client, "gzip\r\nIf-None-Match: W/\"7\"");
    assert!(head.starts_with("HTTP/1.1 304 "), "{head}");
}

#[test]
fn a_body_is_compressed_as_it_comes_and_nothing_is_kept_back() {
    let (sender, body) = Body::channel();
    let body = RefCell::new(Some(body.with_media_type("text/plain")));
    let client = compressing(move |_: Request| body.take());
    sender.write("hello, ").expect("it is read");
    let (head, begin) = ask(&client, "gzip");
    assert!(
        head.contains("\r\ntransfer-encoding: chunked\r\n"),
        "{head}"
    );
    assert_eq!(decoded(Coding::Gzip, &joined(&begin)), "hello, ");
    sender.write("world").expect("it is read");
    client.turn();
    let mut whole = begin;
    whole.extend(client.stream.take_written());
    assert_eq!(decoded(Coding::Gzip, &joined(&whole)), "hello, world");
    sender.finish();
    client.turn();
    whole.extend(client.stream.take_written());
    assert!(whole.ends_with(b"0\r\n\r\n"));
    assert_eq!(decoded(Coding::Gzip, &joined(&whole)), "hello, world");
}

#[test]
fn a_client_that_goes_lets_the_body_go_that_was_compressed() {
    let (sender, body) = Body::channel();
    let body = RefCell::new(Some(body.with_media_type("text/plain")));
    let client = compressing(move |_: Request| body.take());
    drop(ask(&client, "gzip"));
    assert!(sender.is_read());
    client.stream.end();
    client.turn();
    assert!(!sender.is_read());
}

#[test]
fn a_long_body_is_compressed_as_the_client_takes_it() {
    let line = "a line of many, and each is like the others\n";
    let page = line.repeat(20_000);
    let sent = page.clone();
    let client = compressing(move |_: Request| sent.clone());
    let (head, body) = ask(&client, "gzip");
    assert!(
        head.contains("\r\ntransfer-encoding: chunked\r\n"),
        "{head}"
    );
    assert_eq!(decoded(Coding::Gzip, &joined(&body)), page);
}

/// What was written to it.
#[derive(Clone, Default)]
struct Paper(Rc<RefCell<Vec<u8>>>);

impl io::Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Paper {
    fn take(&self) -> String {
        String::from_utf8(self.0.take()).expect("it is text")
    }
}

#[test]
fn the_log_has_a_line_for_each_request_in_time() {
    let (reactor, paper) = (virtual_time_reactor(), Paper::default());
    let log = AccessLog::to(&reactor, paper.clone());
    let written = log.clone();
    let site = Site::new(|_: Request| "hello").access_log(move |access| written.write(access));
    let client = Client::at(&reactor, &site);
    client.send("GET /a HTTP/1.1\r\nHost: a\r\nUser-Agent: \"me\"\r\n\r\n");
    client.send("HEAD /b HTTP/1.0\r\n\r\n");
    assert_eq!(paper.take(), "", "they are gathered");
    client.wait(2);
    let lines = paper.take();
    let peer = torsade::reactor::Stream::socket(&*client.stream).peer();
    let peer = peer
        .ip()
        .map_or_else(|| peer.to_string(), |ip| ip.to_string())
        .replace(' ', "\\x20");
    let expected = [
        "[01/Jan/2000:00:00:00 +0000] \"GET /a HTTP/1.1\" 200 5 \"-\" \"\\\"me\\\"\"\n",
        "[01/Jan/2000:00:00:00 +0000] \"HEAD /b HTTP/1.0\" 200 - \"-\" \"-\"\n",
    ]
    .map(|rest| format!("{peer} - - {rest}"));
    assert_eq!(lines, expected.concat());
    let client = Client::at(&reactor, &site);
    client.get("/c");
    log.flush();
    assert!(paper.take().contains("\"GET /c HTTP/1.1\""));
}

fn access(peer: &str, forwarded_for: Option<&str>) -> http::Access {
    // One that came over a connection, and then is changed.
    let seen = Rc::new(RefCell::new(None));
    let kept = Rc::clone(&seen);
    let site = Site::new(|_: Request| "").access_log(move |access| {
        kept.replace(Some(access.clone()));
    });
    Client::of(&site).get("/");
    let mut access = seen.take().expect("it is logged");
    access.peer = Address::Tcp(peer.parse().expect("it is an address"));
    access.forwarded_for = forwarded_for.map(str::to_owned);
    access.begun = UNIX_EPOCH + Duration::from_secs(1);
    access
}

#[test]
fn only_proxies_that_are_trusted_say_who_asks() {
    let (reactor, paper) = (virtual_time_reactor(), Paper::default());
    let proxies = ["10.0.0.1", "10.0.0.2"].map(|proxy| proxy.parse().expect("an address"));
    let log = AccessLog::to(&reactor, paper.clone())
        .common()
        .trust_proxies(proxies);
    for (peer, forwarded_for, expected) in [
        ("192.0.2.7:1", Some("203.0.113.9"), "192.0.2.7"),
        ("10.0.0.1:1", None, "10.0.0.1"),
        ("10.0.0.1:1", Some("203.0.113.9"), "203.0.113.9"),
        // What stands before the first stranger was written by that.
        (
            "10.0.0.1:1",
            Some("1.2.3.4, 203.0.113.9, 10.0.0.2"),
            "203.0.113.9",
        ),
        ("10.0.0.1:1", Some("nonsense"), "10.0.0.1"),
        ("10.0.0.1:1", Some("[2001:db8::1]:80"), "2001:db8::1"),
    ] {
        log.write(&access(peer, forwarded_for));
        log.flush();
        let line = paper.take();
        assert_eq!(line.split(' ').next(), Some(expected), "{forwarded_for:?}");
    }
}

#[test]
fn a_log_file_is_opened_anew_when_it_was_moved_away() {
    let folder = tempfile::tempdir().expect("there is room");
    let [path, old] = ["access.log", "access.log.1"].map(|name| folder.path().join(name));
    let reactor = virtual_time_reactor();
    let log = AccessLog::to_file(&reactor, &path).expect("there is room");
    log.write(&access("192.0.2.1:1", None));
    std::fs::rename(&path, &old).expect("it is there");
    log.reopen().expect("there is room");
    log.write(&access("192.0.2.2:1", None));
    drop(log);
    let read = |path| std::fs::read_to_string(path).expect("it was written");
    assert!(read(&old).starts_with("192.0.2.1 "));
    assert!(read(&path).starts_with("192.0.2.2 "));
    assert_eq!(read(&path).lines().count(), 1);
}
