//! A server and its clients on the hosts of simulated networks.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use torsade::prelude::*;
use torsade::protocols::http::{Body, Request, Response, Site, StatusCode};
use torsade::reactor::testing::{FaultRates, Simulation, Swarm};

const SECOND: Duration = Duration::from_secs(1);

/// What a pipelining client asks on one connection, and what it must get.
struct Conversation {
    wire: Vec<u8>,
    /// Each response, in every way in which it may be framed.
    expected: Vec<Vec<String>>,
}

impl Conversation {
    /// Requests of every kind, drawn from a number.
    fn drawn(mut number: u64) -> Self {
        let (mut wire, mut expected) = (Vec::new(), Vec::new());
        let mut draw = |below: u64| {
            number = number
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (number >> 33) % below
        };
        for index in 0..1 + draw(6) {
            let size = draw(3000);
            let body = "b".repeat(usize::try_from(size).expect("it is small"));
            match draw(4) {
                0 => {
                    wire.extend(format!("GET /text/{index} HTTP/1.1\r\nHost: a\r\n\r\n").bytes());
                    expected.push(vec![sized(&format!("/text/{index}"))]);
                }
                1 => {
                    let head =
                        format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n");
                    wire.extend(head.bytes().chain(body.bytes()));
                    expected.push(vec![binary(&body)]);
                }
                2 => {
                    let head =
                        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
                    let chunk =
                        format!("{head}5\r\nfirst\r\n{:x}\r\n{body}x\r\n0\r\n\r\n", size + 1);
                    wire.extend(chunk.bytes());
                    expected.push(vec![binary(&format!("first{body}x"))]);
                }
                _ => {
                    wire.extend(format!("GET /slow/{size} HTTP/1.1\r\nHost: a\r\n\r\n").bytes());
                    let chunks = "7\r\nslowly \r\n4\r\nbut \r\n6\r\nsurely\r\n0\r\n\r\n";
                    expected.push(vec![
                        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunks}"),
                        // It was all there before its turn came.
                        String::from(
                            "HTTP/1.1 200 OK\r\ncontent-length: 17\r\n\r\nslowly but surely",
                        ),
                    ]);
                }
            }
        }
        Self { wire, expected }
    }
}

/// How many of the responses have come, whole; the rest must be the beginning of the next.
#[track_caller]
fn count_whole(heard: &str, expected: &[Vec<String>]) -> usize {
    let mut rest = heard;
    for (index, ways) in expected.iter().enumerate() {
        if let Some(after) = ways.iter().find_map(|it| rest.strip_prefix(it.as_str())) {
            rest = after;
            continue;
        }
        let begins = ways.iter().any(|it| it.starts_with(rest));
        let shown: String = rest.chars().take(300).collect();
        assert!(
            begins,
            "response {index} is {shown:?}, not {:.300?}",
            ways[0]
        );
        return index;
    }
    assert!(rest.is_empty(), "nobody asked for {rest:?}");
    expected.len()
}

fn sized(text: &str) -> String {
    let length = text.len();
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {length}\r\n\r\n{text}"
    )
}

fn binary(text: &str) -> String {
    let length = text.len();
    if length == 0 {
        return String::from("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    }
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: {length}\r\n\r\n{text}"
    )
}

/// Answers at once, when the body is there, or bit by bit.
fn site(reactor: &Reactor) -> Site {
    let reactor = reactor.clone();
    Site::new(move |mut request: Request| -> Deferred<Response> {
        let path = request.path();
        if path.starts_with("/text/") {
            return succeed(Response::new(path.to_owned().into()));
        }
        if path == "/echo" {
            return request
                .read_body()
                .map(|body| Response::new(Body::from(body)));
        }
        let Some(millis) = path.strip_prefix("/slow/").and_then(|it| it.parse().ok()) else {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NOT_FOUND;
            return succeed(response);
        };
        let (sender, body) = Body::channel();
        let pause = Duration::from_millis(millis);
        write_slowly(&reactor, pause, sender, &["slowly ", "but ", "surely"]);
        succeed(Response::new(body))
    })
}

fn write_slowly(
    reactor: &Reactor,
    pause: Duration,
    sender: http::BodySender,
    pieces: &'static [&'static str],
) {
    let Some((first, rest)) = pieces.split_first() else {
        return sender.finish();
    };
    let again = reactor.clone();
    reactor.call_later(pause, move || {
        // Nobody may read it any more: then it ends here.
        if sender.write(*first).is_ok() {
            write_slowly(&again, pause, sender, rest);
        }
    });
}

/// Sends its requests, and writes down what comes.
struct Asking {
    wire: Vec<u8>,
    heard: Rc<RefCell<Vec<u8>>>,
    over: Rc<Cell<bool>>,
}

impl Protocol for Asking {
    fn connection_made(&mut self, transport: &Transport<Self>) {
        transport.write(&self.wire);
    }

    fn data_received(&mut self, _: &Transport<Self>, data: &[u8]) {
        self.heard.borrow_mut().extend_from_slice(data);
    }

    fn connection_lost(&mut self, _: ConnectionLost) {
        self.over.set(true);
    }
}

/// The lines that a response has of its own: without its dates.
fn without_dates(wire: &[u8]) -> String {
    let text = String::from_utf8_lossy(wire).into_owned();
    let mut rest = text.as_str();
    let mut kept = String::new();
    while let Some((before, after)) = rest.split_once("date: ") {
        kept.push_str(before);
        match after.split_once("\r\n") {
            Some((_, after)) => rest = after,
            None => return kept,
        }
    }
    kept.push_str(rest);
    kept
}

/// Whatever goes wrong on the way: what comes is the beginning of what was to come; where nothing goes
/// wrong, all of it; and in the end no connection is left.
#[test]
fn in_every_seed_pipelined_requests_get_their_answers_in_order() {
    let command = "cargo test --test it in_every_seed_pipelined_requests";
    let faulty = Cell::new(0);
    let whole = Cell::new(0);
    Swarm::new(command).seeds(100).run(|simulation| {
        let server = simulation.host("server");
        let place = Rc::new(RefCell::new(None));
        let kept = Rc::clone(&place);
        server.start(move |reactor| {
            let listening = site(reactor).listen(reactor, ":80");
            kept.replace(Some(listening.expect("the port is free")));
        });
        let has_faults = simulation.seed() % 2 == 0;
        if has_faults {
            simulation.inject_faults(&FaultRates {
                until: SECOND * 20,
                lasts_max: SECOND * 5,
                partitions: 3.0,
                cuts: 3.0,
                holds: 3.0,
                degradations: 3.0,
                crashes: 1.0,
                ..Default::default()
            });
        }
        let mut asked = Vec::new();
        for index in 0..3_u64 {
            let client = simulation.host(&format!("client{index}"));
            let conversation = Conversation::drawn(simulation.seed() * 3 + index);
            let heard = Rc::default();
            let asking = Asking {
                wire: conversation.wire,
                heard: Rc::clone(&heard),
                over: Rc::default(),
            };
            let connecting = client
                .reactor()
                .connect_tcp("server:80", |_: &Address| asking);
            // A connection that is not made is one of the faults.
            drop(connecting.map(drop).add_errback(|_| ()));
            asked.push((conversation.expected, heard));
        }
        simulation.run_for(SECOND * 600);
        for (expected, heard) in asked {
            let answered = count_whole(&without_dates(&heard.borrow()), &expected);
            if has_faults {
                faulty.set(faulty.get() + 1);
            } else {
                assert_eq!(answered, expected.len(), "nothing went wrong");
                whole.set(whole.get() + 1);
            }
        }
        let left = place.borrow().as_ref().map_or(0, http::Server::connections);
        assert_eq!(left, 0, "idle connections are closed");
    });
    assert!(faulty.get() + whole.get() > 0);
}

#[test]
fn a_server_that_stops_answers_first_what_is_under_way() {
    let simulation = Simulation::new(1);
    let (server, client) = (simulation.host("server"), simulation.host("client"));
    let listening = site(&server.reactor())
        .listen(&server.reactor(), ":80")
        .expect("the port is free");
    let ask = |wire: &str| {
        let (heard, over) = (Rc::default(), Rc::default());
        let asking = Asking {
            wire: wire.into(),
            heard: Rc::clone(&heard),
            over: Rc::clone(&over),
        };
        let connecting = client
            .reactor()
            .connect_tcp("server:80", |_: &Address| asking);
        let connected = client.reactor().run_until(connecting);
        drop(connected.expect("it listens"));
        (heard, over)
    };
    let (idle, idle_over) = ask("GET /text/1 HTTP/1.1\r\nHost: a\r\n\r\n");
    let (busy, busy_over) = ask("GET /slow/1000 HTTP/1.1\r\nHost: a\r\n\r\n");
    simulation.run_for(SECOND);
    assert!(!idle.borrow().is_empty() && !idle_over.get());
    let stopped = listening.stop();
    simulation.run_for(SECOND / 2);
    assert!(idle_over.get(), "nothing is under way there");
    assert!(!busy_over.get() && !stopped.is_fired());
    simulation.run_for(SECOND * 5);
    assert!(busy_over.get() && stopped.is_fired());
    assert!(busy.borrow().ends_with(b"6\r\nsurely\r\n0\r\n\r\n"));
}
