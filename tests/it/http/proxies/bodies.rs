//! Bodies on their way through a proxy: both ways at once, at the pace of whoever is slower.

use std::cell::RefCell;
use std::rc::Rc;

use torsade::protocols::http::{MessageLimits, ReverseProxy, ServerLimits, Site};

use torsade::reactor::testing::leaves_nothing_behind;

use super::{Between, OK, body, status};

fn reverse() -> Between {
    Between::within(Default::default(), |asking| {
        let proxy = ReverseProxy::new(asking, "http://back").expect("a URL");
        let message = MessageLimits {
            body: 1 << 30,
            ..MessageLimits::default()
        };
        Site::new(proxy).limits(ServerLimits {
            message,
            ..ServerLimits::default()
        })
    })
}

const PIECE: usize = 16 * 1024;

/// What a proxy may hold of a body: the marks of both sides, what was read at once, and the framing.
const HELD_MAX: usize = 2 * 64 * 1024 + 4 * PIECE;

#[test]
fn bodies_flow_while_they_come_each_way_in_their_own_framing() {
    let between = reverse();
    between
        .front
        .send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\none\r\n");
    let asked = between.asked(0);
    assert!(
        asked.ends_with("transfer-encoding: chunked\r\n\r\n3\r\none\r\n"),
        "{asked}"
    );
    // The response begins before the request has ended.
    between.say(
        0,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
    );
    let expected = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n";
    assert_eq!(between.front.answers(), expected);
    between.front.send("3\r\ntwo\r\n");
    assert_eq!(between.asked(0), "3\r\ntwo\r\n");
    between.say(0, "00002\r\ncd\r\n");
    assert_eq!(between.front.answers(), "2\r\ncd\r\n");
    between
        .front
        .send("0\r\nX-Sum: 1\r\nContent-Length: 7\r\n\r\n");
    assert_eq!(between.asked(0), "0\r\nx-sum: 1\r\n\r\n");
    between.say(0, "0\r\nX-Time: 2\r\nTransfer-Encoding: x\r\n\r\n");
    assert_eq!(between.front.answers(), "0\r\nx-time: 2\r\n\r\n");
    // Both connections are good for the next.
    let answer = between.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n", OK);
    assert_eq!((body(&answer), between.connections()), ("ok", 1));
}

#[test]
fn a_response_that_ends_with_its_connection_is_passed_on_with_an_end_of_its_own() {
    let between = reverse();
    between.front.get("/");
    between.say(0, "HTTP/1.1 200 OK\r\n\r\nsome");
    between.say(0, " more");
    between.server(0).end_read();
    let expected =
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nsome\r\n5\r\n more\r\n0\r\n\r\n";
    assert_eq!(between.front.answers(), expected);
    assert!(!between.front.is_closed());
}

#[test]
fn a_slow_client_slows_the_server() {
    let between = reverse();
    between.front.get("/");
    between.say(0, "HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n");
    between.front.stream.set_congested(true);
    let mut sent = 0;
    while !between.server(0).is_paused() {
        between.say(0, [b'x'; PIECE]);
        sent += PIECE;
        assert!(
            sent <= HELD_MAX,
            "the server is read though nobody takes it"
        );
    }
    between.front.turn();
    assert!(between.server(0).is_paused());
    between.front.stream.set_congested(false);
    between.front.turn();
    let answered = body(&between.front.answers()).len();
    assert_eq!(answered, sent, "everything that was held");
    assert!(!between.server(0).is_paused());
}

#[test]
fn a_slow_server_slows_the_client() {
    let between = reverse();
    between
        .front
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n");
    between.server(0).set_congested(true);
    let mut sent = 0;
    while !between.front.stream.is_paused() {
        between.front.send([b'x'; PIECE]);
        sent += PIECE;
        assert!(
            sent <= HELD_MAX,
            "the client is read though nobody takes it"
        );
    }
    between.front.turn();
    assert!(between.front.stream.is_paused());
    between.server(0).set_congested(false);
    between.front.turn();
    assert_eq!(body(&between.asked(0)).len(), sent);
    assert!(!between.front.stream.is_paused());
}

#[test]
fn the_client_waits_for_the_servers_word_before_it_sends_its_body() {
    let between = reverse();
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
    between.front.send(head);
    assert!(between.asked(0).contains("expect: 100-continue\r\n"));
    assert_eq!(between.front.answers(), "", "not before the server says so");
    between.say(0, "HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(between.front.answers(), "HTTP/1.1 100 Continue\r\n\r\n");
    between.front.send("body");
    assert_eq!(between.asked(0), "body");
    between.say(0, OK);
    assert_eq!(status(&between.front.answers()), "HTTP/1.1 200 OK");
    // One that says nothing gets the body in a second.
    between.front.send(head);
    between.front.wait(2);
    assert_eq!(between.front.answers(), "HTTP/1.1 100 Continue\r\n\r\n");
    between.front.send("body");
    between.say(0, OK);
    between.asked(0);
    // One that refuses gets none.
    between.front.answers();
    between.front.send(head);
    between.say(0, "HTTP/1.1 413 Too Much\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(
        status(&between.front.answers()),
        "HTTP/1.1 413 Payload Too Large"
    );
    assert!(!between.asked(0).contains("body"));
    assert!(
        between.front.is_closed(),
        "whether the body comes nobody can tell"
    );
}

#[test]
fn a_server_that_answers_early_is_passed_on_while_the_body_still_comes() {
    let between = reverse();
    between
        .front
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nbegin");
    between.say(0, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
    let answer = between.front.answers();
    assert_eq!(
        (status(&answer), body(&answer)),
        ("HTTP/1.1 403 Forbidden", "no")
    );
    assert!(!between.is_open(0), "it has only a part of the body");
    // What is left of it is read and thrown away, and the client goes on.
    between.front.send(vec![b'x'; 100_000 - 5]);
    let answer = between.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n", OK);
    assert_eq!(body(&answer), "ok");
}

#[test]
fn a_body_that_breaks_off_is_never_passed_on_as_a_whole() {
    // From the server.
    for response in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let heard = Rc::new(RefCell::new(Vec::new()));
        let hears = Rc::clone(&heard);
        let between = Between::with(|asking| {
            let proxy = ReverseProxy::new(asking, "http://back").expect("a URL");
            proxy.on_failure(move |failure| hears.borrow_mut().push(failure.to_string()))
        });
        let leaves_nothing = leaves_nothing_behind(&between.front.reactor);
        between.front.get("/");
        between.say(0, response);
        between.server(0).end();
        let why = "the connection was lost in the middle of the body: connection closed cleanly";
        assert_eq!(*heard.borrow(), [why]);
        assert!(leaves_nothing.take_failures().is_empty(), "it is told once");
        let answer = between.front.answers();
        assert!(answer.trim_end().ends_with("half"), "{answer}");
        assert!(between.front.is_closed());
        between.front.stream.end();
    }
    // From the client.
    for request in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let between = reverse();
        between.front.send(request);
        between.front.stream.end();
        between.front.turn();
        let asked = between.asked(0);
        assert!(asked.trim_end().ends_with("half"), "{asked}");
        assert!(!between.is_open(0));
    }
}

#[test]
fn a_body_that_is_too_long_is_refused_here() {
    let between = Between::with(|asking| ReverseProxy::new(asking, "http://back").expect("a URL"));
    between
        .front
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n");
    assert_eq!(
        status(&between.front.answers()),
        "HTTP/1.1 413 Payload Too Large"
    );
    assert_eq!(between.connections(), 0);
    let between = Between::with(|asking| ReverseProxy::new(asking, "http://back").expect("a URL"));
    between
        .front
        .send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    between.front.send("200000\r\n");
    between.front.send(vec![b'x'; 0x20_0000]);
    between.front.send("\r\n1\r\nx");
    assert_eq!(
        status(&between.front.answers()),
        "HTTP/1.1 413 Payload Too Large"
    );
    assert!(!between.is_open(0));
}
