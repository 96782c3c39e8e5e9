//! What is ambiguous does not come through a proxy, in either direction, in whatever pieces it comes.

use std::cell::RefCell;
use std::rc::Rc;

use torsade::protocols::http::{ForwardProxy, Request, ReverseProxy};
use torsade::reactor::testing::for_every_chunking;

use super::{Between, Client, OK, status};

/// Requests of which two readers could think differently, behind the head's first lines.
const REQUESTS: [&str; 16] = [
    "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
    "Content-Length: 4, 4\r\n\r\nabcd",
    "Content-Length: +4\r\n\r\nabcd",
    "Content-Length: 0x4\r\n\r\nabcd",
    "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "X: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "X: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "X: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "X: y\0z\r\n\r\n",
    "Host: b\r\n\r\n",
    "Transfer-Encoding: chunked\r\n\r\n5\nabcde\r\n0\r\n\r\n",
];

#[test]
fn an_ambiguous_request_is_refused_and_no_server_reads_what_is_behind_it() {
    for rest in REQUESTS {
        for target in ["/", "http://a/"] {
            let request = format!(
                "POST {target} HTTP/1.1\r\nHost: a\r\n{rest}GET /smuggled HTTP/1.1\r\n\r\n"
            );
            let between = Between::with(|asking| {
                let forward = ForwardProxy::new(asking).allow_local();
                forward.otherwise(ReverseProxy::new(asking, "http://back").expect("a URL"))
            });
            between.front.send(&request);
            let answer = between.front.answers();
            let refused = ["HTTP/1.1 400 Bad Request", "HTTP/1.1 501 Not Implemented"];
            assert!(refused.contains(&status(&answer)), "{rest:?}: {answer}");
            assert!(between.front.is_closed(), "{rest:?}");
            for index in 0..between.connections() {
                let asked = between.asked(index);
                assert!(!asked.contains("smuggled"), "{rest:?}: {asked}");
                assert!(
                    !asked.ends_with("0\r\n\r\n"),
                    "{rest:?} is not whole: {asked}"
                );
            }
        }
    }
}

/// What a server takes these bytes for.
fn targets(wire: &str) -> Vec<String> {
    let targets = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&targets);
    let server = Client::asking(move |request: Request| {
        seen.borrow_mut().push(request.target().to_owned());
        "seen"
    });
    server.send(wire);
    targets.take()
}

#[test]
fn a_body_that_ends_before_the_server_wants_it_stays_a_body() {
    let hidden = "0\r\n\r\nGET /admin HTTP/1.1\r\nHost: a\r\n\r\n";
    let chunk = format!("{:x}\r\n{hidden}\r\n0\r\n\r\n", hidden.len());
    for has_word in [true, false] {
        let between =
            Between::with(|asking| ReverseProxy::new(asking, "http://back").expect("a URL"));
        between.front.send(format!(
            "POST /a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\
             Transfer-Encoding: chunked\r\n\r\n{chunk}"
        ));
        let head = between.asked(0);
        assert!(head.ends_with("\r\n\r\n"), "{head}");
        match has_word {
            true => between.say(0, "HTTP/1.1 100 Continue\r\n\r\n"),
            false => between.front.wait(2),
        }
        let body = between.asked(0);
        assert_eq!(body, chunk);
        assert_eq!(targets(&[head, body].concat()), ["/a"]);
    }
}

/// Responses of which two readers could think differently.
const RESPONSES: [&str; 10] = [
    "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
    "HTTP/1.1 200 OK\r\nContent-Length: -4\r\n\r\nabcd",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nabcd",
    "HTTP/1.1 200 OK\r\nX: y\r\n folded: z\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "HTTP/2 200 OK\r\n\r\n",
    "nonsense\r\n\r\n",
];

#[test]
fn an_ambiguous_response_is_502_and_its_connection_is_not_used_again() {
    for response in RESPONSES {
        let between =
            Between::with(|asking| ReverseProxy::new(asking, "http://back").expect("a URL"));
        between.front.get("/first");
        between.say(0, response);
        let answer = between.front.answers();
        assert_eq!(status(&answer), "HTTP/1.1 502 Bad Gateway", "{response:?}");
        assert!(!between.is_open(0), "{response:?}");
        between.front.get("/second");
        between.say(1, OK);
        assert_eq!(
            status(&between.front.answers()),
            "HTTP/1.1 200 OK",
            "{response:?}"
        );
    }
}

#[test]
fn a_server_that_says_more_than_it_was_asked_for_says_it_to_nobody() {
    let between = Between::with(|asking| ReverseProxy::new(asking, "http://back").expect("a URL"));
    between.front.get("/first");
    between.say(
        0,
        format!("{OK}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"),
    );
    assert!(between.front.answers().ends_with("\r\n\r\nok"));
    between.front.get("/second");
    assert_eq!(between.connections(), 2);
    between.say(1, OK);
    assert!(between.front.answers().ends_with("\r\n\r\nok"));
}

#[test]
fn in_every_chunking_the_same_request_goes_on() {
    let wire = b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n\
                 PUT /b HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nabcd";
    for_every_chunking(wire, |pieces| {
        let between =
            Between::with(|asking| ReverseProxy::new(asking, "http://back").expect("a URL"));
        for piece in pieces {
            between.front.send(piece);
        }
        let first = between.asked(0);
        let mut all: Vec<String> = (1..between.connections())
            .map(|it| between.asked(it))
            .collect();
        if all.is_empty() {
            between.say(0, OK);
            between.front.turn();
            all.push(between.asked(0));
        }
        // What comes at once has a length.
        let ways = [
            "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-t: 1\r\n\r\n",
            "transfer-encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\nx-t: 1\r\n\r\n",
            "transfer-encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\nx-t: 1\r\n\r\n",
            "transfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\nx-t: 1\r\n\r\n",
        ];
        assert!(ways.iter().any(|way| first.ends_with(way)), "{first}");
        let second = all.concat();
        assert!(second.starts_with("PUT /b HTTP/1.1\r\n"), "{second}");
        assert!(
            second.ends_with("content-length: 4\r\n\r\nabcd"),
            "{second}"
        );
    });
}
