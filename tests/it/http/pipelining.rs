//! Requests that come before the answers to those before them: RFC 9112 §9.3.2.

use std::cell::RefCell;
use std::rc::Rc;

use torsade::prelude::*;
use torsade::protocols::http::{Body, Request};
use torsade::reactor::testing::for_every_chunking;

use super::{Client, text};

/// A client whose requests wait until the test answers them, each with its path and its body.
struct Asked {
    client: Client,
    begun: Rc<RefCell<Vec<Begun>>>,
}

struct Begun {
    what: String,
    answer: Trigger<Body>,
}

impl Asked {
    fn new() -> Self {
        let begun = Rc::new(RefCell::new(Vec::new()));
        let list = Rc::clone(&begun);
        let client = Client::asking(move |mut request: Request| {
            let what = format!("{} {}", request.method(), request.path());
            let (answer, deferred) = Deferred::<Body>::new();
            list.borrow_mut().push(Begun { what, answer });
            let body = request.read_body();
            body.add_callback(|body| {
                let text = String::from_utf8_lossy(&body).into_owned();
                deferred.map(move |answer| match text.is_empty() {
                    true => answer,
                    false => text.into(),
                })
            })
        });
        Self { client, begun }
    }

    /// Which requests have begun, and wait.
    fn begun(&self) -> Vec<String> {
        let begun = self.begun.borrow();
        begun.iter().map(|it| it.what.clone()).collect()
    }

    /// Answers the first of those.
    fn answer(&self, body: impl Into<Body>) {
        let first = self.begun.borrow_mut().remove(0);
        first.answer.callback(body.into());
    }

    fn ask(&self, methods: &[&str]) {
        let heads = methods
            .iter()
            .enumerate()
            .map(|(number, method)| format!("{method} /{number} HTTP/1.1\r\nHost: a\r\n\r\n"));
        self.client.send(heads.collect::<String>());
    }
}

#[test]
fn rfc9112_9_3_2_safe_requests_go_together_and_others_alone_and_in_order() {
    let asked = Asked::new();
    asked.ask(&["GET", "HEAD", "POST", "DELETE", "GET", "OPTIONS"]);
    assert_eq!(asked.begun(), ["GET /0", "HEAD /1"]);
    asked.answer("a");
    assert_eq!(asked.begun(), ["HEAD /1"], "one of them is not answered");
    asked.answer("b");
    assert_eq!(asked.begun(), ["POST /2"]);
    asked.answer("c");
    assert_eq!(asked.begun(), ["DELETE /3"]);
    asked.answer("d");
    assert_eq!(asked.begun(), ["GET /4", "OPTIONS /5"]);
}

#[test]
fn an_unsafe_request_is_over_when_its_answer_has_been_sent_to_its_end() {
    let asked = Asked::new();
    asked.ask(&["POST", "GET"]);
    let (sender, body) = Body::channel();
    asked.answer(body);
    sender.write("some").expect("it is read");
    asked.client.turn();
    assert!(asked.client.answers().ends_with("4\r\nsome\r\n"));
    assert!(asked.begun().is_empty());
    sender.finish();
    assert_eq!(asked.begun(), ["GET /1"]);
}

#[test]
fn a_request_that_waits_gets_its_body_in_every_chunking() {
    let wire = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n\
        POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc\
        PUT /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n1\r\nf\r\n0\r\n\r\n\
        GET /4 HTTP/1.1\r\nHost: a\r\n\r\n";
    let expected = [text("1"), text("abc"), text("def"), text("4")].concat();
    for_every_chunking(wire, |chunks| {
        let asked = Asked::new();
        for chunk in chunks {
            asked.client.send(chunk);
        }
        for (first, answer) in [
            ("GET /1", "1"),
            ("POST /2", "2"),
            ("PUT /3", "3"),
            ("GET /4", "4"),
        ] {
            assert_eq!(asked.begun(), [first]);
            asked.answer(answer);
        }
        assert_eq!(asked.client.answers(), expected);
        assert!(!asked.client.is_closed());
    });
}

#[test]
fn a_request_that_waits_is_answered_though_the_client_has_ended_its_stream() {
    let asked = Asked::new();
    asked.ask(&["GET", "POST"]);
    asked.client.stream.end_read();
    asked.answer("a");
    assert_eq!(asked.begun(), ["POST /1"]);
    assert!(!asked.client.is_closed());
    asked.answer("b");
    assert_eq!(asked.client.answers(), [text("a"), text("b")].concat());
    assert!(asked.client.is_closed());
}

#[test]
fn the_body_of_a_request_that_waited_is_cut_where_the_client_ended_its_stream() {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let log = Rc::clone(&seen);
    let place = Rc::new(RefCell::new(None));
    let waiting = Rc::clone(&place);
    let client = Client::asking(move |mut request: Request| {
        let log = Rc::clone(&log);
        if request.path() == "/1" {
            let (trigger, deferred) = Deferred::<&'static str>::new();
            waiting.replace(Some(trigger));
            return deferred;
        }
        request.read_body().add_both(move |outcome| {
            let outcome = outcome.map(|_| ()).map_err(|failure| failure.to_string());
            log.borrow_mut().push(outcome);
            Ok("never whole")
        })
    });
    client.send(
        "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc",
    );
    client.stream.end_read();
    place.take().expect("it was asked").callback("first");
    client.turn();
    let seen = seen.take();
    let [Err(error)] = &seen[..] else {
        panic!("it is not whole: {seen:?}");
    };
    assert!(error.contains("the client ended its stream"), "{error}");
    assert!(client.is_closed());
}

#[test]
fn a_request_that_waits_on_a_connection_that_is_lost_is_not_begun() {
    let asked = Asked::new();
    asked.ask(&["GET", "POST"]);
    let first = asked.begun.borrow_mut().remove(0);
    asked.client.stream.end_because(ConnectionLost::Aborted);
    drop(first.answer);
    asked.client.turn();
    assert!(asked.begun().is_empty());
}

#[test]
fn a_request_that_waits_for_the_word_gets_it_when_it_begins() {
    let asked = Asked::new();
    asked.ask(&["GET"]);
    asked
        .client
        .send("POST /1 HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    assert_eq!(asked.begun(), ["GET /0"]);
    asked.answer("a");
    let expected = format!("{}HTTP/1.1 100 Continue\r\n\r\n", text("a"));
    assert_eq!(asked.client.answers(), expected);
    asked.client.send("ok");
    asked.answer("b");
    assert_eq!(asked.client.answers(), text("ok"));
}

#[test]
fn a_request_that_ends_with_its_client_takes_those_with_it_that_wait() {
    let begun = Rc::new(RefCell::new(Vec::new()));
    let list = Rc::clone(&begun);
    let client = Client::asking(move |request: Request| {
        request.end_with_client();
        let (trigger, deferred) = Deferred::<&'static str>::new();
        list.borrow_mut().push(trigger);
        deferred
    });
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".repeat(2));
    client.stream.end_read();
    client.turn();
    assert!(client.is_closed());
    assert_eq!(begun.borrow().len(), 1, "the second never began");
}
