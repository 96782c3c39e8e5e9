//! What a server answers, and in which order.

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::time::Duration;

use torsade::prelude::*;
use torsade::protocols::http::{
    Access, Body, HeaderValue, IntoResponse, Json, Request, Response, Site, StatusCode,
    StatusError, accept_connect, header, redirect, switch_protocols,
};
use torsade::reactor::testing::for_every_chunking;

use super::{Client, text};

#[test]
fn a_request_is_answered() {
    let client =
        Client::asking(|request: Request| format!("{} {}", request.method(), request.path()));
    client.get("/a%20b?c");
    assert_eq!(client.answers(), text("GET /a%20b"));
    assert!(!client.is_closed());
}

#[test]
fn a_request_knows_who_asks_and_by_which_way() {
    let client = Client::asking(|request: Request| {
        let (peer, host) = (request.peer(), request.host_address());
        format!("{peer} at {host}, secure: {}", request.is_secure())
    });
    let socket = torsade::reactor::Stream::socket(&*client.stream);
    let (peer, host) = (socket.peer(), socket.host());
    client.get("/");
    let expected = format!("{peer} at {host}, secure: false");
    assert_eq!(client.answers(), text(&expected));
}

#[test]
fn the_response_has_a_date() {
    let client = Client::asking(|_: Request| "x");
    client.get("/");
    let written = String::from_utf8(client.stream.take_written()).expect("it is text");
    assert!(
        written.contains("\r\ndate: Sat, 01 Jan 2000 00:00:00 GMT\r\n"),
        "{written}"
    );
}

#[test]
fn pipelined_requests_are_answered_in_order_in_every_chunking() {
    let wire = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc\
        \r\nPOST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n1;x\r\nf\r\n0\r\n\r\n\
        HEAD /4 HTTP/1.1\r\nHost: a\r\n\r\nGET /5 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answer = |mut request: Request| {
        let path = request.path().to_owned();
        request
            .read_body()
            .add_callback(move |body| Ok(format!("{path} {}", String::from_utf8_lossy(&body))))
    };
    let head = text("/4 ");
    let head = head.strip_suffix("/4 ").expect("the body is its end");
    let close = "content-length: 3\r\nconnection: close\r\n\r\n/5 ";
    let last = text("/5 ").replace("content-length: 3\r\n\r\n/5 ", close);
    let expected = [&text("/1 "), &text("/2 abc"), &text("/3 def"), head, &last].concat();
    for_every_chunking(wire, |chunks| {
        let client = Client::asking(answer);
        for chunk in chunks {
            client.send(chunk);
        }
        assert_eq!(client.answers(), expected);
        assert!(client.is_closed());
    });
}

#[test]
fn an_answer_that_is_ready_first_waits_for_its_turn() {
    let triggers = Rc::new(RefCell::new(Vec::new()));
    let waiting = Rc::clone(&triggers);
    let client = Client::asking(move |_: Request| {
        let (trigger, deferred) = Deferred::<&'static str>::new();
        waiting.borrow_mut().push(trigger);
        deferred
    });
    for target in ["/1", "/2", "/3"] {
        client.get(target);
    }
    let mut triggers = triggers.take();
    triggers.remove(1).callback("second");
    assert_eq!(client.answers(), "");
    triggers.remove(0).callback("first");
    assert_eq!(client.answers(), [text("first"), text("second")].concat());
    triggers.remove(0).callback("third");
    assert_eq!(client.answers(), text("third"));
}

#[test]
fn whatever_is_a_response_can_be_returned() {
    let check = |client: Client, expected: &str| {
        client.get("/");
        let answers = client.answers();
        assert!(
            answers.starts_with(&format!("HTTP/1.1 {expected}\r\n")),
            "{answers}"
        );
        answers
    };
    let page = check(Client::asking(|_: Request| Body::html("<p>")), "200 OK");
    assert!(
        page.contains("content-type: text/html; charset=utf-8\r\n"),
        "{page}"
    );
    let json = check(Client::asking(|_: Request| Json([1, 2])), "200 OK");
    assert!(
        json.contains("content-type: application/json\r\n"),
        "{json}"
    );
    assert!(json.ends_with("\r\n\r\n[1,2]"), "{json}");
    check(
        Client::asking(|_: Request| StatusCode::NO_CONTENT),
        "204 No Content",
    );
    check(
        Client::asking(|_: Request| (StatusCode::ACCEPTED, "later")),
        "202 Accepted",
    );
    check(Client::asking(|_: Request| None::<&str>), "404 Not Found");
    check(
        Client::asking(|_: Request| succeed::<_, Failure>("now")),
        "200 OK",
    );
    let there = check(
        Client::asking(|_: Request| redirect(StatusCode::SEE_OTHER, "/there")),
        "303 See Other",
    );
    assert!(there.contains("location: /there\r\n"), "{there}");
    let refused = check(
        Client::asking(|_: Request| {
            Err::<&str, _>(StatusError::because(StatusCode::GONE, "it left"))
        }),
        "410 Gone",
    );
    assert!(refused.ends_with("410 Gone: it left\n"), "{refused}");
}

#[test]
fn a_status_without_a_body_has_none_and_no_length() {
    let client = Client::asking(|_: Request| (StatusCode::NO_CONTENT, "not sent"));
    client.get("/");
    assert_eq!(client.answers(), "HTTP/1.1 204 No Content\r\n\r\n");
    let client = Client::asking(|_: Request| (StatusCode::NOT_MODIFIED, "not sent"));
    client.get("/");
    assert_eq!(client.answers(), "HTTP/1.1 304 Not Modified\r\n\r\n");
}

#[test]
fn framing_headers_of_the_handler_are_not_believed() {
    let client = Client::asking(|_: Request| {
        let mut response = Response::new(Body::from("abc"));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("7"));
        headers.insert(
            header::TRANSFER_ENCODING,
            HeaderValue::from_static("chunked"),
        );
        headers.insert(header::CONNECTION, HeaderValue::from_static("x"));
        response
    });
    client.get("/");
    assert_eq!(client.answers(), text("abc"));
}

#[test]
fn a_failure_is_500_and_is_reported() {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let log = Rc::clone(&seen);
    let hook = torsade::deferred::unhandled::set_hook(move |report| {
        log.borrow_mut().push(report.to_string());
    });
    let line = line!() + 1;
    let site = Site::new(|request: Request| match request.path() {
        "/panic" => panic!("it burns"),
        "/later" => fail::<&str, Failure>(Failure::message("it broke")),
        _ => succeed("fine"),
    });
    let client = Client::of(&site);
    for target in ["/panic", "/later", "/"] {
        client.get(target);
    }
    let answers = client.answers();
    assert_eq!(
        answers.matches("500 Internal Server Error\r\n").count(),
        2,
        "{answers}"
    );
    assert!(answers.ends_with("fine"), "{answers}");
    assert!(
        !answers.contains("burns") && !answers.contains("broke"),
        "the client reads this"
    );
    let seen = seen.take();
    let said = |path: &str| format!("unhandled failure of what answers GET {path}: ");
    let panicked = format!("{}a callback panicked: it burns; ", said("/panic"));
    assert!(seen[0].starts_with(&panicked), "{seen:?}");
    assert!(
        seen[1].starts_with(&format!("{}it broke; ", said("/later"))),
        "{seen:?}"
    );
    let place = format!("; asked for at {}:{line}:", file!());
    assert!(seen.iter().all(|said| said.contains(&place)), "{seen:?}");
    drop(hook);
}

#[test]
fn an_answer_that_fails_later_is_reported_with_what_was_asked() {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let log = Rc::clone(&seen);
    let _hook = torsade::deferred::unhandled::set_hook(move |report| {
        log.borrow_mut().push(report.to_string());
    });
    let (trigger, broken) = Deferred::<Body>::new();
    let (sender, body) = Body::channel();
    let (mut broken, mut body) = (Some(broken), Some(body));
    let answers = RefCell::new(move |request: Request| match request.path() {
        // It keeps the request until it fails.
        "/later" => broken
            .take()
            .expect("asked once")
            .add_errback(move |failure| {
                drop(request);
                Err(failure)
            }),
        _ => succeed(body.take().expect("asked once")),
    });
    let client = Client::asking(move |request: Request| (answers.borrow_mut())(request));
    client.get("/later?secret=1");
    client.get("/body");
    trigger.errback(Failure::message("it broke"));
    assert!(client.answers().contains("500 Internal"));
    drop(sender);
    client.turn();
    let seen = seen.take();
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert!(seen[0].contains(" GET /later: it broke"), "{seen:?}");
    assert!(seen[1].contains(" GET /body: "), "{seen:?}");
}

#[test]
fn a_panic_in_the_access_log_or_the_error_page_is_reported_and_costs_no_answer() {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let log = Rc::clone(&seen);
    let _hook = torsade::deferred::unhandled::set_hook(move |report| {
        log.borrow_mut().push(report.to_string());
    });
    let line = line!() + 1;
    let site = Site::new(|request: Request| match request.path() {
        "/there" => Ok("there"),
        _ => Err(StatusError::not_found()),
    });
    let site = site
        .access_log(|_| panic!("the disk is full"))
        .error_page(|_, _| panic!("no template"));
    let client = Client::of(&site);
    client.get("/there");
    assert_eq!(client.answers(), text("there"));
    client.get("/none");
    let answer = client.answers();
    assert!(answer.ends_with("\r\n\r\n404 Not Found\n"), "{answer}");
    client.get("/there");
    assert_eq!(client.answers(), text("there"));
    let seen = seen.take();
    let place = format!("; asked for at {}:{line}:", file!());
    assert!(seen.iter().all(|said| said.contains(&place)), "{seen:?}");
    let count = |what: &str| seen.iter().filter(|said| said.starts_with(what)).count();
    assert_eq!(
        count("the access log of a site: a callback panicked: the disk is full"),
        3
    );
    assert_eq!(
        count("the error page of a site: a callback panicked: no template"),
        1
    );
}

#[test]
fn who_waits_for_an_answer_when_the_reactor_stops_is_told_that_there_will_be_none() {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let log = Rc::clone(&seen);
    let _hook = torsade::deferred::unhandled::set_hook(move |report| {
        log.borrow_mut().push(report.to_string());
    });
    let reactor = Reactor::new().expect("there is room for one");
    reactor.set_shutdown_limit(Duration::from_millis(1));
    let triggers = RefCell::new(Vec::new());
    let site = Site::new(move |request: Request| {
        request.reactor().stop();
        let (trigger, never) = Deferred::<Body>::new();
        triggers.borrow_mut().push(trigger);
        never
    });
    let line = line!() + 1;
    let listening = site.listen(&reactor, "127.0.0.1:0");
    let server = listening.expect("a port is free");
    let mut peer = TcpStream::connect(server.address().to_string()).expect("it listens");
    let request = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n";
    peer.write_all(request).expect("it is connected");
    reactor.run().expect("it stops");
    let mut answer = String::new();
    peer.read_to_string(&mut answer).expect("it ends in order");
    assert!(
        answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"),
        "{answer}"
    );
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    let seen = seen.take();
    let place = format!("{}:{line}:", file!());
    assert!(seen.len() == 1 && seen[0].contains(&place), "{seen:?}");
}

#[test]
fn http_1_0_is_kept_alive_if_it_asks_for_it() {
    let client = Client::asking(|_: Request| "x");
    client.send("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
    let answers = client.answers();
    assert!(answers.contains("connection: keep-alive\r\n"), "{answers}");
    client.send("GET / HTTP/1.0\r\n\r\n");
    assert!(client.answers().contains("connection: close\r\n"));
    assert!(client.is_closed());
}

#[test]
fn nothing_is_answered_behind_the_last_response() {
    let client = Client::asking(|request: Request| request.path().to_owned());
    client.send(
        "GET /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    let answers = client.answers();
    assert!(answers.ends_with("/1"), "{answers}");
}

#[test]
fn what_is_no_request_is_refused_after_the_answers_before_it() {
    let client = Client::asking(|_: Request| "x");
    client.send(
        "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost : a\r\n\r\nGET / HTTP/1.1\r\n",
    );
    let answers = client.answers();
    let rest = answers
        .strip_prefix(&text("x"))
        .expect("the first is answered");
    assert!(rest.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{rest}");
    assert!(rest.contains("connection: close\r\n"), "{rest}");
    assert!(client.is_closed());
}

#[test]
fn a_client_that_ends_its_stream_gets_its_answer() {
    let place = Rc::new(RefCell::new(None));
    let waiting = Rc::clone(&place);
    let client = Client::asking(move |_: Request| {
        let (trigger, deferred) = Deferred::<&'static str>::new();
        waiting.replace(Some(trigger));
        deferred
    });
    client.get("/");
    client.stream.end_read();
    assert!(!client.is_closed());
    place.take().expect("it was asked").callback("late");
    assert!(client.answers().ends_with("late"));
    assert!(client.is_closed());
}

#[test]
fn who_waits_is_cancelled_when_the_connection_is_lost() {
    let cancelled = Rc::new(Cell::new(false));
    let seen = Rc::clone(&cancelled);
    let client = Client::asking(move |_: Request| {
        let (trigger, deferred) = Deferred::<&'static str>::new();
        let seen = Rc::clone(&seen);
        trigger.on_cancel(move || seen.set(true));
        // Kept by who would fire it.
        std::mem::forget(trigger);
        deferred
    });
    client.get("/");
    client.stream.end_because(ConnectionLost::Aborted);
    assert!(cancelled.get());
}

#[test]
fn a_connection_is_handed_on_with_what_came_behind_the_request() {
    struct Shout;
    impl Protocol for Shout {
        fn data_received(&mut self, transport: &Transport<Self>, data: &[u8]) {
            transport.write(data.to_ascii_uppercase());
        }
    }
    let client = Client::asking(|request: Request| {
        if !request.wants_upgrade("shout") {
            return StatusCode::UPGRADE_REQUIRED.into_response_with("no");
        }
        switch_protocols(HeaderValue::from_static("shout"), |upgraded| {
            upgraded.seat(Shout);
        })
    });
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: Shout\r\n\r\nhello ");
    client.send("there");
    let answers = client.answers();
    let expected = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: shout\r\n\r\nHELLO THERE";
    assert_eq!(answers, expected);
    assert!(!client.is_closed());
}

#[test]
fn who_did_not_ask_to_switch_is_not_switched() {
    let client = Client::asking(|_: Request| {
        switch_protocols(HeaderValue::from_static("shout"), |_| {
            panic!("nobody asked")
        })
    });
    client.get("/");
    let answers = client.answers();
    assert!(answers.starts_with("HTTP/1.1 426 "), "{answers}");
    // RFC 9110 §15.5.22 and §7.8.
    assert!(answers.contains("\r\nupgrade: shout\r\n"), "{answers}");
    assert!(answers.contains("\r\nconnection: upgrade\r\n"), "{answers}");
}

/// Sends a request with a body, and another one behind that, in every chunking: the second one is answered as such, the
/// first one so.
#[track_caller]
fn check_stays_in_http(first: &str, answered: &str, answer: fn(&Request) -> Response) {
    let wire = format!("{first}Content-Length: 6\r\n\r\nsecretGET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
    for_every_chunking(wire.as_bytes(), |pieces| {
        let client = Client::asking(move |request: Request| match request.target() {
            "/2" => "two".into_response(),
            _ => answer(&request),
        });
        for piece in pieces {
            client.send(piece);
        }
        let answers = client.answers();
        assert!(answers.starts_with(answered), "{answers}");
        assert!(answers.ends_with(&text("two")), "{answers}");
    });
}

#[test]
fn rfc9110_7_8_a_request_with_a_body_does_not_become_another_protocol() {
    const UPGRADE: &str = "GET /1 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: shout\r\n";
    check_stays_in_http(UPGRADE, "HTTP/1.1 404 ", |request| {
        assert!(!request.wants_upgrade("shout"));
        StatusCode::NOT_FOUND.into_response()
    });
    check_stays_in_http(UPGRADE, "HTTP/1.1 426 ", |_| {
        switch_protocols(HeaderValue::from_static("shout"), |_| panic!("in HTTP"))
    });
    const CONNECT: &str = "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n";
    check_stays_in_http(CONNECT, "HTTP/1.1 400 ", |_| {
        accept_connect(|_| panic!("in HTTP"))
    });
}

#[test]
fn an_upgrade_that_is_refused_leaves_http() {
    let client = Client::asking(|request: Request| request.path().to_owned());
    client.send(
        "GET /1 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    assert_eq!(client.answers(), [text("/1"), text("/2")].concat());
}

#[test]
fn the_access_log_tells_what_became_of_each_request() {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let log = Rc::clone(&seen);
    let site = Site::new(|request: Request| request.path().to_owned()).access_log(
        move |access: &Access| {
            log.borrow_mut().push(format!(
                "{} {} {} {} {}",
                access.method, access.target, access.status, access.bytes, access.complete
            ));
        },
    );
    let client = Client::of(&site);
    client.get("/a?b");
    client.send("HEAD /c HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(
        *seen.borrow(),
        ["GET /a?b 200 OK 2 true", "HEAD /c 200 OK 0 true"]
    );
}

trait Refusal {
    fn into_response_with(self, text: &'static str) -> Response;
}

impl Refusal for StatusCode {
    fn into_response_with(self, text: &'static str) -> Response {
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = self;
        response
    }
}

#[test]
fn a_site_that_stops_turns_no_loop_for_requests_that_it_does_not_take() {
    let (trigger, answer) = Deferred::<Body>::new();
    let answer = RefCell::new(Some(answer));
    let site = Site::new(move |_: Request| answer.take().expect("it is asked once"));
    let reactor = Reactor::new().expect("there is room for one");
    let server = site
        .listen(&reactor, "127.0.0.1:0")
        .expect("a port is free");
    let client = Client::at(&reactor, &site);
    client.send(
        "GET /events HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n\
         GET /behind HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    let stopped = server.stop();
    let (sender, body) = Body::channel();
    trigger.callback(body);
    sender.write("first").expect("it is read");
    client.turn();
    assert!(client.answers().ends_with("\r\n\r\n5\r\nfirst\r\n"));
    let before = reactor.statistics().calls;
    for _ in 0..100 {
        client.turn();
    }
    let calls = reactor.statistics().calls - before;
    assert!(calls < 10, "{calls} calls while nothing happens");
    sender.finish();
    assert_eq!(client.answers(), "0\r\n\r\n");
    assert!(client.is_closed());
    client.stream.end();
    assert!(stopped.is_fired());
}

#[test]
fn an_interim_status_is_no_answer() {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let log = Rc::clone(&seen);
    let hook = torsade::deferred::unhandled::set_hook(move |report| {
        log.borrow_mut().push(report.message());
    });
    for status in [
        StatusCode::CONTINUE,
        StatusCode::SWITCHING_PROTOCOLS,
        StatusCode::EARLY_HINTS,
    ] {
        let client = Client::asking(move |_: Request| (status, "more"));
        client.get("/");
        let answers = client.answers();
        assert!(answers.starts_with("HTTP/1.1 500 "), "{answers}");
        assert!(!client.is_closed());
    }
    assert_eq!(seen.take().len(), 3);
    drop(hook);
}

#[test]
fn rfc9110_9_3_6_only_who_makes_a_tunnel_says_that_there_is_one() {
    let connect = "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n";
    let client = Client::asking(|_: Request| "hello");
    client.send(connect);
    let answers = client.answers();
    assert!(answers.starts_with("HTTP/1.1 501 "), "{answers}");
    let client = Client::asking(|_: Request| (StatusCode::CREATED, "hello"));
    client.send(connect);
    let answers = client.answers();
    assert!(answers.starts_with("HTTP/1.1 501 "), "{answers}");
    client.get("/");
    let answers = client.answers();
    assert!(
        answers.starts_with("HTTP/1.1 201 "),
        "HTTP goes on: {answers}"
    );
}

#[test]
fn rfc9110_15_3_6_a_response_that_resets_has_no_content() {
    let client = Client::asking(|_: Request| (StatusCode::RESET_CONTENT, "not sent"));
    client.get("/");
    let expected = "HTTP/1.1 205 Reset Content\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(client.answers(), expected);
}
