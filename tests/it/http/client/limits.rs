//! How large a response may be, and what connections are kept.

use torsade::protocols::http::coding::Encoder;
use torsade::protocols::http::negotiate::Coding;
use torsade::protocols::http::{Body, ClientLimits, MessageLimits};
use torsade::reactor::testing::{failure_of, success_of};

use super::{Net, OK, kind, shown};

fn limited(change: impl FnOnce(&mut ClientLimits)) -> Net {
    let mut limits = ClientLimits::default();
    change(&mut limits);
    Net::with(|client| client.limits(limits))
}

const SMALL: MessageLimits = MessageLimits {
    target: 20,
    head: 200,
    headers: 3,
    body: 4,
    trailers: 20,
    chunk_extensions: 20,
};

#[test]
fn a_head_that_is_too_large_is_a_bad_response() {
    let long = "x".repeat(200);
    for (wire, problem) in [
        (
            format!("HTTP/1.1 200 OK\r\nX: {long}"),
            "bad response: the head has more than 200 bytes",
        ),
        (
            format!("HTTP/1.1 103 Early Hints\r\nX: {long}"),
            "bad response: the head has more than 200 bytes",
        ),
        (
            format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(4)),
            "bad response: more than 3 header fields",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n".to_owned(),
            "bad response: the body has more than 4 bytes",
        ),
    ] {
        let net = limited(|limits| limits.message = SMALL);
        let response = net.client.get("http://here/");
        net.say(0, wire);
        assert_eq!(kind(response), problem);
        assert!(!net.is_open(0));
    }
}

#[test]
fn a_body_that_turns_out_to_be_too_large_fails_its_reader() {
    let (extension, trailer) = ("e".repeat(30), "t".repeat(30));
    for (body, problem) in [
        (
            "3\r\nabc\r\n2\r\nde\r\n".to_owned(),
            "the body has more than 4 bytes",
        ),
        (
            format!("3;{extension}\r\nabc\r\n0\r\n\r\n"),
            "more than 20 bytes of trailers or chunk extensions",
        ),
        (
            format!("3\r\nabc\r\n0\r\nX: {trailer}\r\n\r\n"),
            "more than 20 bytes of trailers or chunk extensions",
        ),
    ] {
        let net = limited(|limits| limits.message = SMALL);
        let response = net.client.get("http://here/");
        net.say(0, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let read = success_of(response).into_body().read(100);
        net.say(0, &body);
        let failure = failure_of(read).to_string();
        assert!(failure.contains(problem), "{body}: {failure}");
        assert!(!net.is_open(0));
    }
}

#[test]
fn a_compressed_body_swells_to_its_limit_and_no_further() {
    let coded = |size: usize| {
        let (mut encoder, mut coded) = (Encoder::new(Coding::Gzip), Vec::new());
        encoder.encode(&vec![b'x'; size], &mut coded);
        encoder.finish(&mut coded);
        coded
    };
    for (size, is_whole) in [(1000, true), (1001, false), (10_000_000, false)] {
        let net = limited(|limits| limits.decoded = 1000);
        let response = net.client.get("http://here/");
        let coded = coded(size);
        let length = coded.len();
        net.say(
            0,
            format!(
                "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {length}\r\n\r\n"
            ),
        );
        let read = success_of(response).into_body().read(100_000_000);
        net.say(0, coded);
        match is_whole {
            true => assert_eq!(success_of(read).len(), size),
            false => drop(failure_of(read)),
        }
    }
}

#[test]
fn close_idle_closes_what_has_nothing_to_do_and_nothing_else() {
    let net = Net::new();
    let done = net.client.get("http://one/");
    let (sender, body) = Body::channel();
    let busy = net.client.post("http://two/", body);
    net.say(0, OK);
    shown(done);
    assert_eq!(net.client.pool().idle, 1);
    net.client.close_idle();
    net.settle();
    assert!(!net.is_open(0) && net.is_open(1));
    let counts = net.client.pool();
    assert_eq!((counts.open, counts.idle), (1, 0));
    sender.finish();
    net.say(1, OK);
    assert_eq!(shown(busy), "200 OK: ok");
    // And it goes on.
    let again = net.client.get("http://one/");
    net.say(2, OK);
    assert_eq!(shown(again), "200 OK: ok");
}
