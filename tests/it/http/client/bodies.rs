//! Bodies of responses: as they come, at the reader's pace, to the end or not.

use torsade::prelude::*;
use torsade::protocols::http::coding::Encoder;
use torsade::protocols::http::negotiate::Coding;
use torsade::protocols::http::{Body, BodyError, ClientLimits, Request, Response, header};
use torsade::reactor::ConnectionLost;
use torsade::reactor::testing::{failure_of, no_result, success_of, virtual_time_reactor};

use super::{Net, OK, client_of, shown};

const LONG: &str = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n";

/// The response of which the first half has come.
fn begun(net: &Net) -> Response {
    let response = net.client.get("http://here/");
    net.say(0, LONG);
    net.say(0, "12345");
    success_of(response)
}

#[test]
fn a_response_is_there_before_its_body() {
    let net = Net::new();
    let mut body = begun(&net).into_body();
    assert_eq!(body.length(), Some(10));
    assert_eq!(success_of(body.next_piece()).expect("a piece"), "12345");
    let next = body.next_piece();
    no_result(&next);
    net.say(0, "67890");
    assert_eq!(success_of(next).expect("a piece"), "67890");
    assert!(success_of(body.next_piece()).is_none());
    assert_eq!(net.client.pool().idle, 1);
}

#[test]
fn a_body_that_is_cut_short_is_not_whole() {
    let net = Net::new();
    let body = begun(&net).into_body().read(100);
    net.stream(0).end_read();
    let failure = failure_of(body);
    assert_eq!(
        failure.to_string(),
        "the connection was lost in the middle of the body: the server ended its stream"
    );
    assert!(failure.check::<BodyError>());
}

#[test]
fn a_body_without_a_length_ends_with_the_stream_and_not_with_a_reset() {
    let ask = |net: &Net| {
        let response = net.client.get("http://here/");
        net.say(net.connections() - 1, "HTTP/1.1 200 OK\r\n\r\nall");
        success_of(response).into_body().read(100)
    };
    let net = Net::new();
    let body = ask(&net);
    no_result(&body);
    net.stream(0).end_read();
    assert_eq!(success_of(body), "all");
    let body = ask(&net);
    let reset = std::io::ErrorKind::ConnectionReset;
    net.stream(1).end_because(ConnectionLost::Io(reset.into()));
    assert!(failure_of(body).check::<BodyError>());
}

#[test]
fn a_bad_chunk_fails_the_body() {
    let net = Net::new();
    let response = net.client.get("http://here/");
    net.say(
        0,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\nx\r\n",
    );
    let mut body = success_of(response).into_body();
    assert_eq!(success_of(body.next_piece()).expect("a piece"), "ab");
    assert!(failure_of(body.next_piece()).check::<BodyError>());
    assert!(!net.is_open(0));
}

#[test]
fn trailers_come_at_the_end() {
    let net = Net::new();
    let response = net.client.get("http://here/");
    net.say(
        0,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX-Sum: 3\r\n\r\n",
    );
    let read = success_of(response).into_body().for_each(|_| ());
    assert_eq!(success_of(read)["x-sum"], "3");
}

#[test]
fn a_body_that_nobody_wants_is_thrown_away_if_it_is_short() {
    let net = Net::new();
    drop(begun(&net));
    assert!(net.is_open(0));
    net.say(0, "67890");
    assert_eq!(net.client.pool().idle, 1);
    // And not waited for if it is long.
    let net = Net::with(|client| {
        client.limits(ClientLimits {
            discarded: 4,
            ..ClientLimits::default()
        })
    });
    drop(begun(&net));
    assert!(!net.is_open(0));
    // Of what does not say how long it is, the beginning is thrown away.
    let response = net.client.get("http://here/");
    net.say(1, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    drop(success_of(response));
    net.say(1, "4\r\nabcd\r\n");
    assert!(net.is_open(1));
    net.say(1, "1\r\ne\r\n");
    assert!(!net.is_open(1));
    // What ends with the connection ends at once.
    let response = net.client.get("http://here/");
    net.say(2, "HTTP/1.1 200 OK\r\n\r\n");
    drop(success_of(response));
    assert!(!net.is_open(2));
}

#[test]
fn cancelling_the_reading_ends_the_connection_or_the_body() {
    let net = Net::with(|client| {
        client.limits(ClientLimits {
            discarded: 0,
            ..ClientLimits::default()
        })
    });
    let read = begun(&net).into_body().read(100);
    read.cancel();
    assert!(!net.is_open(0));
    failure_of(read);
}

#[test]
fn compressed_bodies_are_decoded() {
    let (mut encoder, mut coded) = (Encoder::new(Coding::Gzip), Vec::new());
    encoder.encode(b"plain text", &mut coded);
    encoder.finish(&mut coded);
    let net = Net::new();
    let response = net.client.get("http://here/");
    let length = coded.len();
    net.say(
        0,
        format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {length}\r\n\r\n"),
    );
    let response = success_of(response);
    assert!(!response.headers().contains_key(header::CONTENT_ENCODING));
    let read = response.into_body().read_text(100);
    for byte in coded {
        net.say(0, [byte]);
    }
    assert_eq!(success_of(read), "plain text");
    assert_eq!(net.client.pool().idle, 1);
}

#[test]
fn a_head_has_no_body_whatever_it_says() {
    let net = Net::new();
    let response = net.client.head("http://here/");
    net.say(0, LONG);
    let response = success_of(response);
    assert_eq!(response.headers()[header::CONTENT_LENGTH], "10");
    assert!(response.body().is_empty());
    assert_eq!(net.client.pool().idle, 1);
}

#[test]
fn whoever_is_slower_sets_the_pace_from_end_to_end() {
    let reactor = virtual_time_reactor();
    let sent = std::rc::Rc::new(std::cell::Cell::new(0_usize));
    let counter = std::rc::Rc::clone(&sent);
    let client = client_of(&reactor, move |_: Request| {
        let (sender, body) = Body::channel();
        let counter = std::rc::Rc::clone(&counter);
        // Dropped: it ends when nobody reads any more.
        fn go_on(sender: http::BodySender, counter: std::rc::Rc<std::cell::Cell<usize>>) {
            let _ = sender.write(vec![7; 16 * 1024]);
            counter.set(counter.get() + 16 * 1024);
            let ready = sender.ready();
            drop(ready.add_callbacks(move |()| go_on(sender, counter), |_| ()));
        }
        go_on(sender, counter);
        body
    });
    let response = client.get("http://here/");
    let response = reactor.run_until(response).expect("it comes");
    let mut body = response.into_body();
    let turns = |count| {
        for _ in 0..count {
            let turned = reactor.turn(Some(std::time::Duration::ZERO));
            turned.expect("it can be turned");
        }
    };
    turns(1000);
    let before = sent.get();
    assert!(
        before < 1 << 20,
        "{before} bytes were sent to who does not read"
    );
    let mut read = 0;
    while read < 4 << 20 {
        let piece = reactor.run_until(body.next_piece());
        read += piece.expect("it goes on").expect("there is more").len();
        turns(3);
    }
    assert!(sent.get() < read + (1 << 20));
    drop(body);
    turns(100);
    assert_eq!(client.pool().open, 0);
}

#[test]
fn an_upload_waits_for_a_server_that_is_slow() {
    let reactor = virtual_time_reactor();
    let held = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let kept = std::rc::Rc::clone(&held);
    let client = client_of(&reactor, move |mut request: Request| {
        let (trigger, answer) = Deferred::<String>::new();
        kept.borrow_mut().push((request.take_body(), trigger));
        answer
    });
    let (sender, body) = Body::channel();
    let answer = client
        .post("http://here/", body)
        .add_callback(|response| response.into_body().read_text(100));
    let turns = |count| {
        for _ in 0..count {
            let turned = reactor.turn(Some(std::time::Duration::ZERO));
            turned.expect("it can be turned");
        }
    };
    let mut written = 0;
    for _ in 0..1000 {
        if !sender.is_full() {
            sender.write(vec![1; 8 * 1024]).expect("it is read");
            written += 8 * 1024;
        }
        turns(2);
    }
    assert!(written < 1 << 20, "{written} bytes for who does not read");
    let (body, trigger) = held.borrow_mut().remove(0);
    let read = body.read(8 << 20);
    turns(200);
    sender.finish();
    let all = reactor.run_until(read).expect("it is whole");
    assert_eq!(all.len(), written);
    trigger.callback("thanks".into());
    assert_eq!(reactor.run_until(answer).expect("it is answered"), "thanks");
}

#[test]
fn a_body_goes_from_one_server_to_another_as_it_comes() {
    let net = Net::new();
    let response = begun(&net);
    let forwarded = net.client.post("http://there/", response.into_body());
    assert!(net.asked(1).ends_with("content-length: 10\r\n\r\n12345"));
    net.say(0, "67890");
    assert_eq!(net.asked(1), "67890");
    net.say(1, OK);
    shown(forwarded);
}

#[test]
fn a_body_that_ends_with_its_connection_says_so() {
    let gzip = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n";
    for (head, expected) in [
        ("HTTP/1.1 200 OK\r\n\r\n", true),
        (gzip, true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", false),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            false,
        ),
        ("HTTP/1.1 204 No Content\r\n\r\n", false),
    ] {
        let net = Net::new();
        let response = net.client.get("http://here/");
        net.say(0, head);
        let body = success_of(response).into_body();
        assert_eq!(body.ends_with_connection(), expected, "{head}");
    }
}

#[test]
fn what_came_of_a_body_that_is_cut_is_in_the_error() {
    for head in ["Content-Length: 9", "Transfer-Encoding: chunked"] {
        let net = Net::new();
        let response = net.client.get("http://here/");
        net.say(0, format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n2\r\n"));
        let read = success_of(response).into_body().read(100);
        net.say(0, "ab");
        net.stream(0).end_read();
        let failure = failure_of(read);
        let Some(BodyError::ConnectionLost { received, .. }) = failure.downcast_ref() else {
            panic!("it was cut: {failure}");
        };
        assert!(received.ends_with(b"ab"), "{received:?}");
    }
}
