//! Connections: kept, shared, limited, and given up.

use std::time::Duration;

use torsade::protocols::http::{Body, ClientLimits, ClientRequest, Method};
use torsade::reactor::testing::{failure_of, no_result, success_of};
use torsade::reactor::{ConnectionLost, Stream};

use super::{ClientErrorKind, Net, OK, error, kind, shown};

fn limited(limits: ClientLimits) -> Net {
    Net::with(|client| client.limits(limits))
}

#[test]
fn a_connection_is_used_again() {
    let net = Net::new();
    for _ in 0..3 {
        let response = net.client.get("http://here/");
        net.say(0, OK);
        shown(response);
    }
    assert_eq!(net.connections(), 1);
    assert_eq!(net.client.pool().idle, 1);
}

#[test]
fn requests_at_once_go_on_connections_of_their_own() {
    let net = Net::new();
    let responses = [0, 1, 2].map(|_| net.client.get("http://here/"));
    assert_eq!(net.connections(), 3);
    for index in [2, 0, 1] {
        net.say(index, OK);
    }
    for response in responses {
        assert_eq!(shown(response), "200 OK: ok");
    }
    assert_eq!((net.client.pool().open, net.client.pool().idle), (3, 3));
}

#[test]
fn scheme_host_and_port_decide_who_shares() {
    let net = Net::new();
    let urls = [
        "http://here/a",
        "http://HERE:80/b",
        "http://here:81/",
        "http://there/",
    ];
    for url in urls {
        let index = net.connections();
        let response = net.client.get(url);
        net.say(if net.connections() > index { index } else { 0 }, OK);
        shown(response);
    }
    let origins = ["http://here", "http://here:81", "http://there"];
    assert_eq!(*net.dialled.origins.borrow(), origins);
}

#[test]
fn a_connection_that_says_close_is_not_used_again() {
    for wire in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ] {
        let net = Net::new();
        let response = net.client.get("http://here/");
        net.say(0, wire);
        shown(response);
        assert!(!net.is_open(0));
        net.settle();
        assert_eq!(net.client.pool().open, 0);
    }
    let net = Net::new();
    let response = net.client.get("http://here/");
    net.say(
        0,
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok",
    );
    shown(response);
    assert_eq!(net.client.pool().idle, 1);
}

#[test]
fn a_request_that_says_close_is_the_last() {
    let net = Net::new();
    let request = ClientRequest::<()>::builder()
        .uri("http://here/")
        .header("connection", "close")
        .body(());
    let response = net.client.request(request.expect("it is one"));
    net.say(0, OK);
    shown(response);
    assert!(!net.is_open(0));
}

#[test]
fn bytes_that_nobody_asked_for_end_the_connection() {
    let net = Net::new();
    // With the response.
    let response = net.client.get("http://here/");
    net.say(0, format!("{OK}HTTP/1.1 200 OK\r\n"));
    assert_eq!(shown(response), "200 OK: ok");
    assert!(!net.is_open(0));
    // After it.
    let response = net.client.get("http://here/");
    net.say(1, OK);
    shown(response);
    net.say(1, "HTTP/1.1 408 Request Timeout\r\n\r\n");
    assert!(!net.is_open(1));
    assert_eq!(net.client.pool().idle, 1);
    net.settle();
    assert_eq!(net.client.pool().open, 0);
}

#[test]
fn the_end_of_an_idle_connection_is_noticed() {
    let net = Net::new();
    let response = net.client.get("http://here/");
    net.say(0, OK);
    shown(response);
    net.stream(0).end_read();
    drop(net.client.get("http://here/"));
    assert_eq!(net.connections(), 2);
    net.settle();
    assert_eq!(net.client.pool().open, 1);
}

#[test]
fn an_idle_connection_is_closed_in_time_and_keeps_no_loop() {
    let net = Net::new();
    let response = net.client.get("http://here/");
    net.say(0, OK);
    shown(response);
    net.reactor.run_until_idle().expect("it can run");
    assert!(net.is_open(0));
    net.pass(Duration::from_secs(49));
    assert!(net.is_open(0));
    net.pass(Duration::from_secs(1));
    assert!(!net.is_open(0));
    assert_eq!(net.client.pool().open, 0);
}

#[test]
fn there_is_a_limit_for_each_origin_and_the_others_wait_in_line() {
    let net = limited(ClientLimits {
        per_origin: 1,
        ..ClientLimits::default()
    });
    let first = net.client.get("http://here/1");
    let second = net.client.get("http://here/2");
    let third = net.client.get("http://here/3");
    let elsewhere = net.client.get("http://there/");
    assert_eq!(net.connections(), 2);
    assert_eq!(net.client.pool().waiting, 2);
    net.asked(0);
    net.say(0, OK);
    shown(first);
    assert_eq!(net.asked(0), "GET /2 HTTP/1.1\r\nhost: here\r\n\r\n");
    net.say(0, OK);
    shown(second);
    assert_eq!(net.asked(0), "GET /3 HTTP/1.1\r\nhost: here\r\n\r\n");
    net.say(0, OK);
    shown(third);
    net.say(1, OK);
    shown(elsewhere);
}

#[test]
fn there_is_a_limit_in_all_and_who_waited_longest_is_next() {
    let net = limited(ClientLimits {
        connections: 1,
        ..ClientLimits::default()
    });
    let first = net.client.get("http://one/");
    let other = net.client.get("http://two/");
    let last = net.client.get("http://one/");
    assert_eq!(net.connections(), 1);
    net.say(0, OK);
    shown(first);
    // The connection gives way to one for who waits longer.
    assert!(!net.is_open(0));
    net.settle();
    assert_eq!(net.connections(), 2);
    assert_eq!(net.asked(1), "GET / HTTP/1.1\r\nhost: two\r\n\r\n");
    net.say(1, OK);
    shown(other);
    net.settle();
    assert_eq!(net.asked(2), "GET / HTTP/1.1\r\nhost: one\r\n\r\n");
    net.say(2, OK);
    shown(last);
    assert_eq!(net.client.pool().idle, 1);
    // What is idle gives way at once.
    let third = net.client.get("http://three/");
    net.settle();
    net.say(3, OK);
    shown(third);
}

#[test]
fn the_line_is_no_longer_than_its_limit() {
    let net = limited(ClientLimits {
        per_origin: 1,
        waiting: 1,
        ..ClientLimits::default()
    });
    let _under_way = net.client.get("http://here/1");
    let waits = net.client.get("http://here/2");
    let refused = net.client.get("http://here/3");
    assert_eq!(
        error(refused).to_string(),
        "GET http://here/3: more than 1 requests wait for a connection"
    );
    no_result(&waits);
    // Who gives up makes room.
    waits.cancel();
    failure_of(waits);
    no_result(&net.client.get("http://here/4"));
}

#[test]
fn a_waiting_request_takes_whatever_connection_is_free_first() {
    let net = Net::new();
    let first = net.client.get("http://here/1");
    net.dialled.slow.set(true);
    let second = net.client.get("http://here/2");
    net.say(0, OK);
    shown(first);
    // It did not wait for its own.
    net.say(0, OK);
    shown(second);
    let (trigger, stream) = net.dialled.waiting.borrow_mut().remove(0);
    net.dialled.streams.borrow_mut().push(stream.clone());
    trigger.callback(stream);
    assert_eq!(net.client.pool().idle, 2);
}

#[test]
fn a_connection_that_cannot_be_made_is_the_error_of_who_waits_longest() {
    let net = Net::new();
    net.dialled.slow.set(true);
    let first = net.client.get("http://here/1");
    let second = net.client.get("http://here/2");
    let (trigger, _) = net.dialled.waiting.borrow_mut().remove(1);
    trigger.errback(torsade::prelude::Failure::message("no way"));
    assert_eq!(error(first).to_string(), "GET http://here/1: no way");
    no_result(&second);
    assert_eq!(net.client.pool().open, 1);
}

#[test]
fn ten_thousand_who_wait_hear_of_attempts_that_fail_at_once_on_a_small_stack() {
    let asking = || {
        let net = limited(ClientLimits {
            per_origin: 1,
            ..ClientLimits::default()
        });
        let first = net.client.get("http://here/");
        let line: Vec<_> = (0..10_000)
            .map(|_| net.client.get("http://here/"))
            .collect();
        net.dialled.refusing.set(true);
        net.say(0, "nonsense\r\n\r\n");
        error(first);
        net.settle();
        assert!(line.into_iter().all(|asked| kind(asked) == "refused"));
        assert_eq!((net.client.pool().open, net.client.pool().waiting), (0, 0));
    };
    let thread = std::thread::Builder::new().stack_size(256 * 1024);
    let outcome = thread.spawn(asking).expect("a thread").join();
    outcome.expect("its stack is large enough");
}

#[test]
fn a_request_that_was_not_answered_is_sent_once_more_where_that_does_no_harm() {
    let warm = || {
        let net = Net::new();
        let response = net.client.get("http://here/");
        net.say(0, OK);
        shown(response);
        net.asked(0);
        net
    };
    // The server closed the connection while the request was on its way.
    let net = warm();
    let response = net.client.get("http://here/x");
    net.stream(0).end_read();
    assert_eq!(net.asked(1), "GET /x HTTP/1.1\r\nhost: here\r\n\r\n");
    net.say(1, OK);
    assert_eq!(shown(response), "200 OK: ok");
    // A body in memory can be sent again.
    let net = warm();
    let put = ClientRequest::<()>::builder()
        .method(Method::PUT)
        .uri("http://here/x");
    let response = net.client.request(put.body("abc").expect("it is one"));
    net.stream(0).end_because(ConnectionLost::Io(
        std::io::ErrorKind::ConnectionReset.into(),
    ));
    assert!(net.asked(1).ends_with("\r\n\r\nabc"));
    // But not for ever.
    net.stream(1).end_read();
    assert!(kind(response).contains("the connection ended before the response"));
    assert_eq!(net.connections(), 2);
}

#[test]
fn nothing_else_is_ever_sent_twice() {
    let check = |ask: fn(&Net) -> torsade::prelude::Deferred<_>, is_reused: bool, says: &str| {
        let net = Net::new();
        if is_reused {
            let response = net.client.get("http://here/");
            net.say(0, OK);
            shown(response);
        }
        let response = ask(&net);
        net.say(0, says);
        net.stream(0).end_read();
        assert!(matches!(
            error(response).kind(),
            ClientErrorKind::ConnectionLost { .. }
        ));
        assert_eq!(net.connections(), 1);
    };
    let get = |net: &Net| net.client.get("http://here/");
    // On a new connection, it was no idle one that ended.
    check(get, false, "");
    // Some of the response has come.
    check(get, true, "H");
    check(get, true, "HTTP/1.1 102 Processing\r\n\r\n");
    // Not idempotent.
    check(|net| net.client.post("http://here/", "abc"), true, "");
    // Its body is gone.
    let streamed = |net: &Net| {
        let (sender, body) = Body::channel();
        sender.finish();
        let put = ClientRequest::<()>::builder()
            .method(Method::PUT)
            .uri("http://here/");
        net.client.request(put.body(body).expect("it is one"))
    };
    check(streamed, true, "");
}

#[test]
fn cancelling_a_request_ends_its_connection() {
    let net = Net::new();
    let response = net.client.get("http://here/");
    response.cancel();
    assert!(failure_of(response).check::<torsade::prelude::Interrupted>());
    assert!(!net.is_open(0));
    net.settle();
    assert_eq!(net.client.pool().open, 0);
}

#[test]
fn cancelling_a_request_that_waits_gives_the_attempt_up() {
    let net = Net::new();
    net.dialled.slow.set(true);
    let response = net.client.get("http://here/");
    response.cancel();
    assert!(failure_of(response).check::<torsade::prelude::Interrupted>());
    assert!(!net.dialled.waiting.borrow()[0].0.is_open());
    assert_eq!((net.client.pool().open, net.client.pool().waiting), (0, 0));
}

#[test]
fn cancelling_a_request_that_waits_fails_none_of_the_others() {
    let net = Net::new();
    net.dialled.slow.set(true);
    let ask = |number| net.client.get(format!("http://here/{number}"));
    let [first, second, third] = [1, 2, 3].map(ask);
    second.cancel();
    assert!(failure_of(second).check::<torsade::prelude::Interrupted>());
    no_result(&first);
    no_result(&third);
    assert_eq!((net.client.pool().open, net.client.pool().waiting), (2, 2));
}

#[test]
fn closing_waits_for_what_is_under_way() {
    let net = Net::new();
    let idle = net.client.get("http://here/");
    net.say(0, OK);
    shown(idle);
    let other = net.client.get("http://there/");
    let closed = net.client.close();
    assert!(!net.is_open(0) && net.is_open(1));
    net.settle();
    no_result(&closed);
    assert_eq!(kind(net.client.get("http://here/")), "the client is closed");
    net.say(1, OK);
    shown(other);
    assert!(!net.is_open(1));
    net.settle();
    success_of(closed);
    success_of(net.client.close());
}

#[test]
fn a_client_that_is_gone_leaves_no_connection() {
    let Net {
        reactor,
        client,
        dialled,
    } = Net::new();
    let first = client.get("http://here/");
    let second = client.get("http://here/");
    let [one, two] = [0, 1].map(|index| dialled.streams.borrow()[index].clone());
    one.receive(OK.as_bytes());
    shown(first);
    drop(client);
    // What is under way goes on.
    assert!(one.is_connected() && two.is_connected());
    two.receive(OK.as_bytes());
    assert_eq!(shown(second), "200 OK: ok");
    assert!(!one.is_connected() && !two.is_connected());
    drop(reactor);
}

#[test]
fn who_asks_again_in_the_callback_finds_the_connection_free() {
    let net = Net::new();
    let (first, again) = (net.client.get("http://here/1"), net.client.clone());
    let second = first
        .add_callback(|response| response.into_body().read(10))
        .add_callback(move |_| again.get("http://here/2"));
    // The end of the body comes by itself.
    net.say(0, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no");
    net.say(0, "k");
    net.say(0, OK);
    assert_eq!(shown(second), "200 OK: ok");
    assert_eq!(net.connections(), 1);
}

#[test]
fn a_client_that_is_gone_while_it_closes_still_says_when_it_is_over() {
    let net = Net::new();
    let asked = net.client.get("http://here/");
    net.say(0, OK);
    shown(asked);
    let Net {
        reactor,
        client,
        dialled,
    } = net;
    let closed = client.close();
    drop(client);
    no_result(&closed);
    let stream = dialled.streams.borrow().first().cloned();
    stream.expect("it was dialled").end();
    drop(reactor);
    success_of(closed);
}
