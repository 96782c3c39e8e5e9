//! Bodies that come in time, both ways.

use std::cell::RefCell;
use std::rc::Rc;

use torsade::prelude::*;
use torsade::protocols::http::{Body, BodyError, BodySender, Request, ServerLimits, Site};

use super::{Client, text};

/// A handler that answers with a channel, whose writing end it leaves to the test.
fn streaming() -> (Client, Rc<RefCell<Option<BodySender>>>) {
    let place = Rc::new(RefCell::new(None));
    let left = Rc::clone(&place);
    let client = Client::asking(move |_: Request| {
        let (sender, body) = Body::channel();
        left.replace(Some(sender));
        body
    });
    (client, place)
}

#[test]
fn a_body_of_unknown_length_goes_in_chunks() {
    let (client, place) = streaming();
    client.get("/");
    let sender = place.take().expect("it was asked");
    assert_eq!(
        client.answers(),
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    sender.write("hello").expect("it is sent");
    assert_eq!(client.answers(), "5\r\nhello\r\n");
    sender.write("x".repeat(20)).expect("it is sent");
    assert_eq!(client.answers(), format!("14\r\n{}\r\n", "x".repeat(20)));
    sender.finish();
    assert_eq!(client.answers(), "0\r\n\r\n");
    assert!(!client.is_closed());
}

#[test]
fn to_http_1_0_a_body_of_unknown_length_ends_with_the_connection() {
    let (client, place) = streaming();
    client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let sender = place.take().expect("it was asked");
    sender.write("hello").expect("it is sent");
    sender.finish();
    assert_eq!(
        client.answers(),
        "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello"
    );
    assert!(client.is_closed());
}

#[test]
fn a_body_that_breaks_off_breaks_the_connection() {
    let hook = torsade::deferred::unhandled::set_hook(|_| {});
    let (client, place) = streaming();
    client.get("/");
    let sender = place.take().expect("it was asked");
    sender.write("half").expect("it is sent");
    drop(sender);
    let answers = client.answers();
    assert!(
        answers.ends_with("4\r\nhalf\r\n"),
        "no end is told: {answers}"
    );
    assert!(client.is_closed());
    drop(hook);
}

#[test]
fn a_body_of_another_length_than_announced_breaks_the_connection() {
    let hook = torsade::deferred::unhandled::set_hook(|_| {});
    for written in ["123", "12345"] {
        let client = Client::asking(move |_: Request| {
            let (sender, body) = Body::sized_channel(4);
            sender.write(written).expect("it is read");
            sender.finish();
            body
        });
        client.get("/");
        assert!(client.is_closed(), "{written}");
    }
    drop(hook);
}

#[test]
fn a_client_that_does_not_read_pauses_who_writes() {
    let (client, place) = streaming();
    client.get("/");
    let sender = place.take().expect("it was asked");
    client.stream.set_congested(true);
    sender.write(vec![b'x'; 70_000]).expect("it is kept");
    assert!(sender.is_full());
    client.stream.set_congested(false);
    client.turn();
    assert!(!sender.is_full());
    assert!(client.answers().len() > 70_000);
}

#[test]
fn a_handler_that_does_not_read_pauses_the_client() {
    let place = Rc::new(RefCell::new(None));
    let left = Rc::clone(&place);
    let site = Site::new(move |mut request: Request| {
        left.replace(Some(request.take_body()));
        let (trigger, deferred) = Deferred::<&'static str>::new();
        std::mem::forget(trigger);
        deferred
    });
    let limits = ServerLimits {
        unread: 1000,
        ..ServerLimits::default()
    };
    let client = Client::of(&site.limits(limits));
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n");
    client.send(vec![b'x'; 1001]);
    assert!(client.stream.is_paused());
    let mut body: Body = place.take().expect("it was asked");
    let piece = body.next_piece().into_result().expect("it is there");
    assert_eq!(piece.expect("it came").map(|it| it.len()), Some(1001));
    client.turn();
    assert!(!client.stream.is_paused());
}

#[test]
fn the_body_of_a_request_can_be_the_body_of_the_response() {
    let client = Client::asking(|mut request: Request| request.take_body());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    assert!(client.answers().ends_with("\r\n\r\n3\r\nabc\r\n"));
    client.send("2\r\nde\r\n0\r\n\r\n");
    assert_eq!(client.answers(), "2\r\nde\r\n0\r\n\r\n");
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nfg");
    assert!(client.answers().ends_with("content-length: 2\r\n\r\nfg"));
}

#[test]
fn who_waits_for_a_word_gets_its_body_back() {
    let client = Client::asking(|mut request: Request| request.take_body());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    assert!(
        client
            .answers()
            .starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    );
    client.send("abc");
    assert_eq!(client.answers(), "abc");
}

#[test]
fn a_client_that_waits_for_a_word_gets_it_when_the_body_is_wanted() {
    let client = Client::asking(|mut request: Request| {
        let wants = request.path() == "/wanted";
        let body = request.take_body();
        if !wants {
            return succeed(String::from("no, thanks"));
        }
        body.read_text(100)
    });
    client.send(
        "POST /wanted HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-Continue\r\n\r\n",
    );
    assert_eq!(client.answers(), "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("abc");
    assert_eq!(client.answers(), text("abc"));
    client
        .send("POST /not HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    let answers = client.answers();
    assert!(answers.starts_with("HTTP/1.1 200 OK\r\n"), "{answers}");
    assert!(answers.contains("connection: close\r\n"), "{answers}");
}

#[test]
fn the_word_does_not_overtake_the_responses_before_it() {
    let place = Rc::new(RefCell::new(None));
    let waiting = Rc::clone(&place);
    let client = Client::asking(move |mut request: Request| {
        if request.path() == "/slow" {
            let (trigger, deferred) = Deferred::<String>::new();
            waiting.replace(Some(trigger));
            return deferred;
        }
        request.take_body().read_text(100)
    });
    client.get("/slow");
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.answers(), "");
    place.take().expect("it was asked").callback("slow".into());
    assert_eq!(
        client.answers(),
        [&text("slow"), "HTTP/1.1 100 Continue\r\n\r\n"].concat()
    );
    client.send("abc");
    assert_eq!(client.answers(), text("abc"));
}

#[test]
fn a_body_that_nobody_wants_is_thrown_away() {
    let client = Client::asking(|request: Request| request.path().to_owned());
    client.send("POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n01234");
    client.send("56789GET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answers(), [text("/1"), text("/2")].concat());
}

#[test]
fn too_much_of_a_body_that_nobody_wants_ends_the_connection() {
    let limits = ServerLimits {
        discarded: 100,
        ..ServerLimits::default()
    };
    let client = Client::of(&Site::new(|_: Request| "x").limits(limits));
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n");
    assert_eq!(client.answers(), text("x"));
    client.send(vec![b'x'; 100]);
    assert!(!client.is_closed());
    client.send("x");
    assert!(client.is_closed());
}

#[test]
fn who_reads_a_body_hears_that_the_connection_is_lost() {
    let seen = Rc::new(RefCell::new(None));
    let log = Rc::clone(&seen);
    let client = Client::asking(move |mut request: Request| {
        let log = Rc::clone(&log);
        request.read_body().add_errback(move |failure| {
            log.replace(failure.downcast_ref::<BodyError>().cloned());
            Ok("".into())
        })
    });
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n01234");
    client.stream.end_because(ConnectionLost::Aborted);
    let seen = seen.take();
    assert!(
        matches!(seen, Some(BodyError::ConnectionLost { .. })),
        "{seen:?}"
    );
}

/// curl asks so with `--http2`.
#[test]
fn a_body_that_comes_in_pieces_is_read_though_its_request_asks_to_switch() {
    let client = Client::asking(|mut request: Request| request.read_body());
    client.send(
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 8\r\n\r\nhalf",
    );
    assert!(
        !client.stream.is_paused(),
        "the rest of the body is to come"
    );
    client.send("half");
    assert!(client.answers().ends_with("\r\n\r\nhalfhalf"));
}
