//! Whatever a server says, in whatever pieces: each request comes to an end, and to the same one; no
//! body is longer than it may be; where it leads is asked for in words that a strict parser takes.
#![no_main]

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use torsade_deferred::{Deferred, Failure, Interrupted, fail, succeed};
use torsade_protocols::http::cookie_jar::CookieJar;
use torsade_protocols::http::{Client, ClientLimits, MessageLimits, Origin, Response};
use torsade_reactor::testing::{MemoryStream, virtual_time_reactor};
use torsade_reactor::{ClientEndpoint, Reactor, Stream};

/// As many connections as a conversation may have.
const CONNECTIONS_MAX: usize = 4;
const BODY_MAX: usize = 300;

type Streams = Rc<RefCell<Vec<Rc<MemoryStream>>>>;

struct Dial(Streams);

impl ClientEndpoint for Dial {
    fn connect_stream(&self, reactor: &Reactor) -> Deferred<Rc<dyn Stream>> {
        let mut streams = self.0.borrow_mut();
        if streams.len() == CONNECTIONS_MAX {
            return fail(Failure::message("no more of them"));
        }
        let stream = MemoryStream::new(reactor);
        streams.push(Rc::clone(&stream));
        succeed(stream as Rc<dyn Stream>)
    }
}

/// What was asked on each connection, and what each request came to.
#[derive(Debug, PartialEq, Eq)]
struct Conversation {
    asked: Vec<Vec<u8>>,
    outcomes: Vec<String>,
}

fn turn(reactor: &Reactor, streams: &Streams) {
    for _ in 0..6 {
        reactor.turn(Some(Duration::ZERO)).expect("it turns");
        // Connections that were given up come to their end.
        let all = streams.borrow().clone();
        for stream in all {
            if let Some(reason) = stream.take_reason() {
                stream.end_because(reason);
            }
        }
    }
}

/// On each connection the server says the same, the next part of it whenever it is asked.
fn converse(wires: &[&[u8]], methods: &[u8], size: usize) -> Conversation {
    let reactor = virtual_time_reactor();
    let streams = Streams::default();
    let dialled = Rc::clone(&streams);
    let limits = ClientLimits {
        message: MessageLimits {
            head: 512,
            headers: 8,
            trailers: 64,
            chunk_extensions: 32,
            ..MessageLimits::default()
        },
        per_origin: 2,
        ..ClientLimits::default()
    };
    let client = Client::new(&reactor)
        .limits(limits)
        .cookie_jar(CookieJar::new())
        .connector(move |_: &Origin| Dial(Rc::clone(&dialled)));
    let outcomes = Rc::new(RefCell::new(Vec::new()));
    let mut asked: Vec<Vec<u8>> = Vec::new();
    let mut begun = 0;
    for method in methods {
        let url = "http://me:sesame@here.example/a/b?c";
        let response: Deferred<Response> = match method % 3 {
            0 => client.get(url),
            1 => client.head(url),
            _ => client.post(url, "body"),
        };
        let log = Rc::clone(&outcomes);
        let read = response.add_callback(|response| {
            let line = format!("{} {:?}", response.status(), response.headers());
            let body = response.into_body().read(BODY_MAX);
            body.map(move |body| (line, body))
        });
        drop(read.add_both(move |outcome| {
            log.borrow_mut().push(match outcome {
                Ok((line, body)) => {
                    assert!(body.len() <= BODY_MAX);
                    format!("{line} {body:?}")
                }
                Err(failure) => {
                    assert!(!failure.check::<Interrupted>(), "{failure}");
                    // With less of a bad response at hand, less can be said of it.
                    "failed".into()
                }
            });
        }));
        turn(&reactor, &streams);
        // The server answers on every connection on which it has been asked something, in pieces.
        for _ in 0..CONNECTIONS_MAX {
            let all = streams.borrow().clone();
            for (index, stream) in all.iter().enumerate() {
                let request = stream.take_written();
                if asked.len() <= index {
                    asked.push(Vec::new());
                }
                if request.is_empty() || !stream.is_connected() {
                    continue;
                }
                asked[index].extend_from_slice(&request);
                let wire = wires[begun % wires.len()];
                begun += 1;
                for chunk in wire.chunks(size) {
                    if stream.is_connected() {
                        stream.receive(chunk);
                    }
                    turn(&reactor, &streams);
                }
            }
        }
        let all = streams.borrow().clone();
        for stream in all {
            // What was not answered is answered by nobody.
            if stream.is_connected() && outcomes.borrow().len() < asked.len() {
                stream.end_read();
            }
        }
        turn(&reactor, &streams);
    }
    let all = streams.borrow().clone();
    for stream in all {
        if stream.is_connected() {
            stream.end_read();
        }
    }
    turn(&reactor, &streams);
    // Those that found no connection, and whose server is silent, end in time.
    let slept = torsade_reactor::task::sleep(&reactor, Duration::from_secs(600));
    reactor.run_until(slept).expect("nobody stops it");
    turn(&reactor, &streams);
    let outcomes = outcomes.take();
    assert_eq!(
        outcomes.len(),
        methods.len(),
        "every request comes to an end"
    );
    Conversation { asked, outcomes }
}

fn check_requests(mut text: &[u8]) {
    while !text.is_empty() {
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let mut request = httparse::Request::new(&mut fields);
        let parsed = request.parse(text).expect("it is a request");
        let httparse::Status::Complete(length) = parsed else {
            panic!("it is a whole head");
        };
        text = &text[length..];
        if let Some(rest) = text.strip_prefix(b"body") {
            text = rest;
        }
    }
}

fuzz_target!(|input: (u8, [u8; 2], &[u8])| {
    let (size, methods, wires) = input;
    let wires: Vec<_> = wires.split(|byte| *byte == 0xff).take(4).collect();
    let whole = converse(&wires, &methods, usize::MAX);
    let pieces = converse(&wires, &methods, usize::from(size).max(1));
    assert_eq!(pieces.outcomes, whole.outcomes);
    for asked in &whole.asked {
        check_requests(asked);
    }
});
