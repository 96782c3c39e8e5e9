//! Whatever a client sends, in whatever pieces: the same answers, each with a head that a strict parser
//! takes, and a connection that is closed behind the first bad request.
#![no_main]

use std::cell::RefCell;
use std::rc::Rc;

use libfuzzer_sys::fuzz_target;
use torsade_protocols::http::{Answer, IntoAnswer, MessageLimits, Request, ServerLimits, Site};
use torsade_reactor::testing::{MemoryStream, virtual_time_reactor};
use torsade_reactor::{Factory, Stream, Transport};

/// What was asked, and what was answered.
fn converse<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> (Vec<String>, Vec<u8>, bool) {
    let asked = Rc::new(RefCell::new(Vec::new()));
    let log = Rc::clone(&asked);
    let limits = ServerLimits {
        message: MessageLimits {
            target: 64,
            head: 512,
            headers: 8,
            body: 200,
            trailers: 64,
            chunk_extensions: 32,
        },
        pipelined: 4,
        ..ServerLimits::default()
    };
    let site = Site::new(move |mut request: Request| -> Answer {
        let line = format!(
            "{} {} {:?} {:?}",
            request.method(),
            request.path(),
            request.uri(),
            request.headers()
        );
        log.borrow_mut().push(line);
        request.read_body().into_answer()
    });
    let reactor = virtual_time_reactor();
    let stream = MemoryStream::new(&reactor);
    let mut site = site.limits(limits);
    let peer = Stream::socket(&*stream).peer();
    let protocol = site.build_protocol(&peer).expect("nobody is refused");
    drop(Transport::connect(protocol, stream.clone()));
    for chunk in chunks {
        stream.receive(chunk);
        for _ in 0..3 {
            // What waits for the responses before it to leave.
            reactor
                .turn(Some(std::time::Duration::ZERO))
                .expect("it turns");
        }
    }
    let is_closed = !stream.is_connected();
    let written = stream.take_written();
    stream.end();
    let asked = asked.take();
    (asked, written, is_closed)
}

/// The answers, where one refusal is as good as another: with less of a bad request at hand, less can be
/// said of it.
fn answers(written: &[u8]) -> String {
    let text = String::from_utf8_lossy(written);
    // Nobody has to be told to go on whose body has come (RFC 9110 §10.1.1).
    let text = text.replace("HTTP/1.1 100 Continue\r\n\r\n", "");
    let refusals = ["HTTP/1.1 4", "HTTP/1.1 5"].map(|refusal| text.find(refusal));
    match refusals.into_iter().flatten().min() {
        Some(begin) => format!("{} refused", &text[..begin]),
        None => text,
    }
}

fuzz_target!(|input: (u8, &[u8])| {
    let (size, wire) = input;
    // So that a head that has begun is judged: one that comes in pieces is looked at when it may be
    // complete.
    let wire = &[wire, b"\n\n\r\n\r\n"].concat()[..];
    let whole = converse(std::iter::once(wire));
    let size = usize::from(size).max(1);
    let pieces = converse(wire.chunks(size));
    assert_eq!(pieces.0, whole.0, "the same requests");
    assert_eq!(pieces.2, whole.2, "the same end");
    assert_eq!(answers(&pieces.1), answers(&whole.1), "the same answers");
    let mut fields = [httparse::EMPTY_HEADER; 16];
    let mut response = httparse::Response::new(&mut fields);
    if !whole.1.is_empty() {
        let parsed = response.parse(&whole.1).expect("it is a response");
        assert!(parsed.is_complete());
    }
});
