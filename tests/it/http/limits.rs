//! What a client may not do.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use torsade::prelude::*;
use torsade::protocols::http::{MessageLimits, Request, ServerLimits, Site};
use torsade::reactor::testing::virtual_time_reactor;

use super::{Client, text};

fn limited(change: impl FnOnce(&mut ServerLimits)) -> Site {
    let mut limits = ServerLimits::default();
    change(&mut limits);
    Site::new(|mut request: Request| {
        request
            .read_body()
            .add_callback(|body| Ok(String::from_utf8_lossy(&body).into_owned()))
    })
    .limits(limits)
}

/// Lets so much time pass.
fn pass(client: &Client, time: Duration) {
    let stopped = client.reactor.clone();
    client.reactor.call_later(time, move || stopped.crash());
    client.reactor.run().expect("time passes");
}

fn check_refused(client: &Client, status: &str) {
    let answers = client.answers();
    assert!(
        answers.starts_with(&format!("HTTP/1.1 {status}\r\n")),
        "{answers}"
    );
    assert!(answers.contains("connection: close\r\n"), "{answers}");
    assert!(client.is_closed());
}

#[test]
fn a_body_that_is_announced_as_too_long_is_refused_unread() {
    let site = limited(|limits| limits.message.body = 10);
    let client = Client::of(&site);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n0123456789");
    assert_eq!(client.answers(), text("0123456789"));
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n");
    check_refused(&client, "413 Payload Too Large");
}

#[test]
fn a_body_in_chunks_is_refused_when_it_is_too_long() {
    let client = Client::of(&limited(|limits| limits.message.body = 10));
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n012345\r\n");
    assert_eq!(client.answers(), "");
    client.send("5\r\n");
    check_refused(&client, "413 Payload Too Large");
}

#[test]
fn the_limit_of_bodies_may_depend_on_the_path() {
    let site = limited(|_| {}).body_max(|_, path| if path == "/big" { 100 } else { 2 });
    let client = Client::of(&site);
    client.send("POST /big HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
    assert_eq!(client.answers(), text("abc"));
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
    check_refused(&client, "413 Payload Too Large");
}

#[test]
fn no_way_of_writing_a_path_has_another_limit() {
    let site = limited(|_| {}).body_max(|_, path| if path == "/small" { 2 } else { 100 });
    let client = Client::of(&site);
    client.send("POST /%73mall HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
    check_refused(&client, "413 Payload Too Large");
}

#[test]
fn heads_have_their_limits() {
    let small = MessageLimits {
        target: 20,
        head: 200,
        headers: 3,
        ..MessageLimits::default()
    };
    let check = |wire: String, status| {
        let client = Client::of(&limited(|limits| limits.message = small));
        for byte in wire.as_bytes() {
            client.send([*byte]);
        }
        check_refused(&client, status);
    };
    check(
        format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(20)),
        "414 URI Too Long",
    );
    check(
        format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(200)),
        "431 Request Header Fields Too Large",
    );
    check(
        String::from("GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\nC: 3\r\n\r\n"),
        "431 Request Header Fields Too Large",
    );
}

/// RFC 9112 §2.2 has one overlooked.
#[test]
fn four_empty_lines_before_a_request_are_overlooked_in_whatever_pieces_they_come() {
    let (request, answer) = (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nb",
        text("b"),
    );
    for size in 1..=11 {
        let send = |client: &Client, text: &str| {
            for piece in text.as_bytes().chunks(size) {
                client.send(std::str::from_utf8(piece).expect("ASCII"));
            }
        };
        let client = Client::of(&limited(|_| {}));
        for _ in 0..2 {
            send(&client, &format!("{}{request}", "\r\n".repeat(4)));
            assert_eq!(client.answers(), answer, "in pieces of {size}");
        }
        send(&client, &"\r\n".repeat(5));
        check_refused(&client, "400 Bad Request");
    }
}

#[test]
fn a_head_that_comes_byte_by_byte_is_late_at_its_limit() {
    let client = Client::of(&limited(|limits| limits.head = Duration::from_secs(10)));
    for byte in b"GET / HTT" {
        client.send([*byte]);
        pass(&client, Duration::from_secs(1));
    }
    assert!(!client.is_closed());
    pass(&client, Duration::from_secs(2));
    check_refused(&client, "408 Request Timeout");
}

#[test]
fn who_connects_and_says_nothing_is_closed_without_a_word() {
    let client = Client::of(&limited(|limits| limits.head = Duration::from_secs(10)));
    pass(&client, Duration::from_secs(9));
    assert!(!client.is_closed());
    pass(&client, Duration::from_secs(2));
    assert!(client.is_closed());
    assert_eq!(client.answers(), "");
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    let client = Client::of(&limited(|limits| limits.idle = Duration::from_secs(10)));
    for _ in 0..5 {
        client.get("/");
        assert_eq!(
            client.answers(),
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
        );
        pass(&client, Duration::from_secs(9));
    }
    assert!(!client.is_closed());
    pass(&client, Duration::from_secs(2));
    assert!(client.is_closed());
    assert_eq!(client.answers(), "");
}

#[test]
fn a_body_that_comes_too_slowly_is_late() {
    let site = limited(|limits| {
        limits.stall = Duration::from_secs(10);
        limits.body_rate = 100;
    });
    let client = Client::of(&site);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
    for _ in 0..30 {
        client.send([b'x'; 110]);
        pass(&client, Duration::from_secs(1));
    }
    assert!(!client.is_closed());
    for _ in 0..21 {
        client.send([b'x'; 50]);
        pass(&client, Duration::from_secs(1));
    }
    check_refused(&client, "408 Request Timeout");
}

#[test]
fn an_answer_that_takes_too_long_is_503_and_is_cancelled() {
    let limits = ServerLimits {
        answer: Some(Duration::from_secs(5)),
        ..ServerLimits::default()
    };
    let site = Site::new(|_: Request| {
        let (trigger, deferred) = Deferred::<&'static str>::new();
        std::mem::forget(trigger);
        deferred
    });
    let client = Client::at(&virtual_time_reactor(), &site.limits(limits));
    client.get("/");
    pass(&client, Duration::from_secs(6));
    assert!(client.answers().starts_with("HTTP/1.1 503 "));
}

#[test]
fn only_so_many_requests_are_under_way() {
    let limits = ServerLimits {
        pipelined: 2,
        ..ServerLimits::default()
    };
    let place = Rc::new(RefCell::new(Vec::new()));
    let waiting = Rc::clone(&place);
    let site = Site::new(move |request: Request| {
        let (trigger, deferred) = Deferred::<String>::new();
        waiting
            .borrow_mut()
            .push((request.path().to_owned(), trigger));
        deferred
    });
    let client = Client::of(&site.limits(limits));
    let wire: String = (0..5)
        .map(|number| format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n"))
        .collect();
    client.send(wire);
    assert_eq!(place.borrow().len(), 2);
    assert!(client.stream.is_paused());
    for number in 0..5 {
        let (path, trigger) = place.borrow_mut().remove(0);
        trigger.callback(path.clone());
        assert_eq!(client.answers(), text(&format!("/{number}")));
        client.turn();
    }
    assert!(!client.stream.is_paused());
}
