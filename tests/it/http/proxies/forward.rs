//! The forward proxy: whole URLs, tunnels, and who may reach what.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use torsade::protocols::http::{ForwardProxy, ProxyRequest, Request};

use super::{Between, OK, body, sorted, status};

fn forward() -> Between {
    // The servers that a test is have addresses of this host.
    Between::with(|asking| ForwardProxy::new(asking).allow_local())
}

#[test]
fn a_whole_url_is_asked_for_at_its_host_and_via_is_told_both_ways() {
    let between = forward();
    let answer = between.exchange(
        "GET http://Far.example:8080/a?b HTTP/1.1\r\nHost: other.example\r\n\
         Proxy-Connection: keep-alive\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n",
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\nProxy-Authenticate: Basic\r\n\r\nok",
    );
    let expected = "GET /a?b HTTP/1.1\r\nhost: Far.example:8080\r\nx-forwarded-for: 1.2.3.4\r\n\
                    via: 1.1 torsade\r\n\r\n";
    assert_eq!(sorted(&between.asked_in_full(0)), sorted(expected));
    assert_eq!(
        *between.dialled.origins.borrow(),
        ["http://far.example:8080"]
    );
    assert_eq!(
        answer,
        "HTTP/1.1 200 OK\r\nvia: 1.0 torsade\r\ncontent-length: 2\r\n\r\nok"
    );
}

#[test]
fn rfc9112_3_2_4_options_of_a_url_without_a_path_asks_for_the_server_itself() {
    for (request, expected) in [
        ("OPTIONS http://far.example", "OPTIONS * HTTP/1.1"),
        ("OPTIONS http://far.example:8080", "OPTIONS * HTTP/1.1"),
        ("OPTIONS http://far.example/", "OPTIONS / HTTP/1.1"),
        ("OPTIONS http://far.example?a", "OPTIONS /?a HTTP/1.1"),
        ("GET http://far.example", "GET / HTTP/1.1"),
    ] {
        let between = forward();
        let answer = between.exchange(&format!("{request} HTTP/1.1\r\nHost: a\r\n\r\n"), OK);
        assert_eq!(status(&between.asked(0)), expected, "{request}");
        assert_eq!(body(&answer), "ok");
    }
}

#[test]
fn rfc9112_9_3_2_pipelined_requests_go_together_only_if_they_are_safe() {
    let between = forward();
    let of = |method: &str, host: &str| {
        format!("{method} http://{host}/ HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
    };
    let requests = [
        of("GET", "one"),
        of("HEAD", "two"),
        of("PUT", "one"),
        of("GET", "two"),
    ];
    between.front.send(requests.concat());
    assert_eq!(between.connections(), 2, "the first two");
    between.asked(0);
    between.say(0, OK);
    assert_eq!(between.asked(0), "", "one of them is not answered");
    between.asked(1);
    between.say(1, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
    between.front.turn();
    assert_eq!(status(&between.asked(0)), "PUT / HTTP/1.1");
    assert_eq!(between.asked(1), "", "it is alone");
    between.say(0, OK);
    between.front.turn();
    assert_eq!(status(&between.asked(1)), "GET / HTTP/1.1");
    between.say(1, OK);
    assert_eq!(
        between.front.answers().matches("HTTP/1.1 200 OK").count(),
        4
    );
}

#[test]
fn servers_have_connections_of_their_own() {
    let between = forward();
    for (index, host) in ["one", "two", "one"].into_iter().enumerate() {
        between.front.send(format!(
            "GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n"
        ));
        between.say(index % 2, OK);
        assert_eq!(body(&between.front.answers()), "ok");
    }
    assert_eq!(
        *between.dialled.origins.borrow(),
        ["http://one", "http://two"]
    );
}

#[test]
fn a_tunnel_carries_both_ways_and_ends_with_either_side() {
    let over = Rc::new(RefCell::new(Vec::new()));
    let log = Rc::clone(&over);
    let between = Between::with(|asking| {
        ForwardProxy::new(asking)
            .allow_local()
            .on_tunnel_over(move |record| {
                let (target, carried) = (&record.target, record.carried);
                let line = format!("{target}: {} forth, {} back", carried.forth, carried.back);
                log.borrow_mut().push(line);
            })
    });
    between
        .front
        .send("CONNECT far.example:443 HTTP/1.1\r\nHost: far.example:443\r\n\r\nhello");
    between.front.turn();
    assert_eq!(between.front.answers(), "HTTP/1.1 200 OK\r\n\r\n");
    assert_eq!(between.asked(0), "hello");
    between.say(0, "welcome");
    assert_eq!(between.front.answers(), "welcome");
    between.server(0).set_congested(true);
    assert!(
        between.front.stream.is_paused(),
        "whoever is slow slows the other"
    );
    between.server(0).set_congested(false);
    assert!(!between.front.stream.is_paused());
    between.front.stream.end();
    assert!(!between.is_open(0));
    between.server(0).end();
    // What came with the request was no tunnel's yet.
    assert_eq!(*over.borrow(), ["far.example:443: 0 forth, 7 back"]);
}

#[test]
fn what_is_behind_a_connect_that_keeps_no_connection_is_the_tunnels() {
    for head in [
        "CONNECT far.example:443 HTTP/1.0\r\n\r\n",
        "CONNECT far.example:443 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    ] {
        for is_late in [false, true] {
            let between = forward();
            between.dialled.late.set(is_late);
            between.front.send(format!("{head}ear"));
            // What a layer below had already.
            between.front.send("ly");
            between.front.turn();
            assert_eq!(status(&between.front.answers()), "HTTP/1.1 200 OK");
            assert_eq!(between.asked(0), "early");
            between.front.send(" and late");
            assert_eq!(between.asked(0), " and late");
        }
        // If there is none, it is nobody's.
        let between = forward();
        between.dialled.hanging.set(true);
        between.front.send(format!(
            "{head}GET http://far.example/ HTTP/1.1\r\nHost: a\r\n\r\n"
        ));
        between.front.wait(31);
        let answers = between.front.answers();
        assert_eq!(status(&answers), "HTTP/1.1 504 Gateway Timeout");
        assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{answers}");
        assert!(between.front.is_closed());
    }
}

#[test]
fn a_tunnel_waits_for_its_connection_and_is_taken_back_with_its_client() {
    let between = forward();
    between.dialled.hanging.set(true);
    between
        .front
        .send("CONNECT far.example:443 HTTP/1.1\r\nHost: a\r\n\r\nhello");
    assert!(
        between.front.stream.is_paused(),
        "what follows is not HTTP, perhaps"
    );
    between.front.wait(31);
    assert_eq!(
        status(&between.front.answers()),
        "HTTP/1.1 504 Gateway Timeout"
    );
    assert!(between.front.is_closed() || !between.front.stream.is_paused());
    let between = forward();
    between
        .dialled
        .refusing
        .borrow_mut()
        .push("https://far.example");
    between
        .front
        .send("CONNECT far.example:443 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(status(&between.front.answers()), "HTTP/1.1 502 Bad Gateway");
    // It can be asked for something else.
    let answer = between.exchange("GET http://near/ HTTP/1.1\r\nHost: near\r\n\r\n", OK);
    assert_eq!(body(&answer), "ok");
}

#[test]
fn there_are_only_so_many_tunnels_and_a_silent_one_ends() {
    let proxy = Rc::new(RefCell::new(None));
    let kept = Rc::clone(&proxy);
    let between = Between::with(move |asking| {
        let limited = ForwardProxy::new(asking)
            .allow_local()
            .tunnels_max(1)
            .tunnel_idle(Duration::from_secs(60));
        kept.replace(Some(limited.clone()));
        limited
    });
    let count = || proxy.borrow().as_ref().map_or(0, ForwardProxy::tunnels);
    between
        .front
        .send("CONNECT far.example:443 HTTP/1.1\r\nHost: a\r\n\r\n");
    between.front.turn();
    assert_eq!(count(), 1);
    let site = torsade::protocols::http::Site::new(proxy.borrow().clone().expect("it is there"));
    let second = super::Client::at(&between.front.reactor, &site);
    second.send("CONNECT far.example:443 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(
        status(&second.answers()),
        "HTTP/1.1 503 Service Unavailable"
    );
    between.front.wait(121);
    assert!(between.front.is_closed() && !between.is_open(0));
    between.server(0).end();
    between.front.stream.end();
    assert_eq!(count(), 0);
    let third = super::Client::at(&between.front.reactor, &site);
    third.send("CONNECT far.example:443 HTTP/1.1\r\nHost: a\r\n\r\n");
    third.turn();
    assert_eq!(third.answers(), "HTTP/1.1 200 OK\r\n\r\n");
}

#[test]
fn a_name_that_leads_to_this_host_is_403_and_nothing_is_said_to_it() {
    let between = Between::with(ForwardProxy::new);
    for (index, request) in ["GET http://far.example/", "CONNECT far.example:443"]
        .iter()
        .enumerate()
    {
        between
            .front
            .send(format!("{request} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(status(&between.front.answers()), "HTTP/1.1 403 Forbidden");
        assert_eq!(between.connections(), index + 1);
        assert_eq!(between.asked_in_full(index), "");
        assert!(!between.is_open(index));
    }
    assert_eq!(between.asking.pool().waiting, 0);
}

#[test]
fn what_may_not_be_reached_is_403_and_nobody_connects_to_it() {
    let between = Between::with(ForwardProxy::new);
    for request in [
        "CONNECT far.example:22 HTTP/1.1",
        "CONNECT far.example:8443 HTTP/1.1",
        "CONNECT 127.0.0.1:443 HTTP/1.1",
        "CONNECT [::1]:443 HTTP/1.1",
        "CONNECT [::ffff:127.0.0.1]:443 HTTP/1.1",
        "GET http://far.example:25/ HTTP/1.1",
        "GET http://169.254.169.254/latest/meta-data HTTP/1.1",
        "GET http://[fe80::1]/ HTTP/1.1",
        "GET https://0.0.0.0/ HTTP/1.1",
    ] {
        between.front.send(format!("{request}\r\nHost: a\r\n\r\n"));
        let answer = between.front.answers();
        assert_eq!(status(&answer), "HTTP/1.1 403 Forbidden", "{request}");
    }
    assert!(between.dialled.origins.borrow().is_empty());
}

#[test]
fn what_is_no_request_for_a_proxy_is_400() {
    let between = forward();
    for request in [
        "GET / HTTP/1.1",
        "GET ftp://far.example/ HTTP/1.1",
        "CONNECT far.example:0 HTTP/1.1",
        "GET http://far.example:99999/ HTTP/1.1",
    ] {
        between.front.send(format!("{request}\r\nHost: a\r\n\r\n"));
        let answer = between.front.answers();
        assert_eq!(status(&answer), "HTTP/1.1 400 Bad Request", "{request}");
    }
    between.front.send("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(status(&between.front.answers()), "HTTP/1.1 200 OK");
    assert!(between.dialled.origins.borrow().is_empty());
    let between = Between::with(|asking| {
        ForwardProxy::new(asking).otherwise(|request: Request| request.path().to_owned())
    });
    between.front.get("/status");
    assert_eq!(body(&between.front.answers()), "/status");
}

#[test]
fn rules_of_ones_own_see_who_asks_for_what() {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let sees = Rc::clone(&seen);
    let between = Between::with(|asking| {
        ForwardProxy::new(asking)
            .allow_local()
            .tunnel_ports(|port| port == 8443)
            .ports(|port| port == 80)
            .basic_auth("out", |user, password| {
                user == "ali" && password == "sesame"
            })
            .access(move |asked: &ProxyRequest<'_>| {
                let ProxyRequest {
                    method, host, port, ..
                } = asked;
                let user = asked.user.unwrap_or_default();
                sees.borrow_mut()
                    .push(format!("{user}: {method} {host}:{port}"));
                *host != "secret.example"
            })
    });
    let ask = |request: &str| {
        between.front.send(format!(
            "{request} HTTP/1.1\r\nHost: a\r\nProxy-Authorization: Basic YWxpOnNlc2FtZQ==\r\n\r\n"
        ));
        between.front.turn();
        between.front.answers()
    };
    assert_eq!(
        status(&ask("GET http://Secret.example/")),
        "HTTP/1.1 403 Forbidden"
    );
    assert_eq!(
        status(&ask("GET http://far.example:8080/")),
        "HTTP/1.1 403 Forbidden"
    );
    assert_eq!(
        status(&ask("CONNECT far.example:443")),
        "HTTP/1.1 403 Forbidden"
    );
    assert_eq!(ask("GET http://far.example/"), "");
    let asked = between.asked(0);
    assert!(
        !asked.contains("roxy"),
        "it was for this hop alone: {asked}"
    );
    between.say(0, OK);
    between.front.answers();
    assert_eq!(
        status(&ask("CONNECT [2001:db8::1]:8443")),
        "HTTP/1.1 200 OK"
    );
    assert_eq!(
        *seen.borrow(),
        [
            "ali: GET secret.example:80",
            "ali: GET far.example:80",
            "ali: CONNECT [2001:db8::1]:8443"
        ]
    );
}

#[test]
fn whoever_has_to_say_who_he_is_is_told_so_with_407() {
    let between = Between::with(|asking| {
        ForwardProxy::new(asking)
            .allow_local()
            .basic_auth("a \"way\" out", |user, _| user == "ali")
    });
    for authorization in [
        "",
        "Proxy-Authorization: Basic Ym9iOngK\r\n",
        "Proxy-Authorization: Bearer x\r\n",
        "Authorization: Basic YWxpOng=\r\n",
    ] {
        for request in [
            "CONNECT far.example:443",
            "GET http://far.example/",
            "OPTIONS *",
        ] {
            between.front.send(format!(
                "{request} HTTP/1.1\r\nHost: a\r\n{authorization}\r\n"
            ));
            let answer = between.front.answers();
            assert_eq!(
                status(&answer),
                "HTTP/1.1 407 Proxy Authentication Required"
            );
            let challenge =
                "proxy-authenticate: Basic realm=\"a \\\"way\\\" out\", charset=\"UTF-8\"\r\n";
            assert!(answer.contains(challenge), "{answer}");
        }
    }
    between.front.send("GET http://far.example/ HTTP/1.1\r\nHost: a\r\nProxy-Authorization: basic YWxpOng=\r\n\r\n");
    between.say(0, OK);
    assert_eq!(body(&between.front.answers()), "ok");
}

#[test]
fn a_loop_ends_and_what_may_go_no_further_is_answered() {
    let between = Between::with(|asking| ForwardProxy::new(asking).name("out"));
    let ask = |rest: &str| {
        between.front.send(format!("{rest}\r\nHost: a\r\n\r\n"));
        between.front.answers()
    };
    let answer = ask("GET http://far.example/ HTTP/1.1\r\nVia: 1.1 other, 1.1 out");
    assert_eq!(status(&answer), "HTTP/1.1 508 Loop Detected");
    let answer = ask("OPTIONS http://far.example/ HTTP/1.1\r\nMax-Forwards: 0");
    assert_eq!(status(&answer), "HTTP/1.1 204 No Content");
    let answer = ask("TRACE http://far.example/ HTTP/1.1\r\nMax-Forwards: 0");
    assert!(
        body(&answer).starts_with("TRACE http://far.example/ HTTP/1.1\r\n"),
        "{answer}"
    );
    assert_eq!(between.connections(), 0);
}

#[test]
fn a_websocket_to_a_plain_url_goes_through_as_a_tunnel() {
    let between = forward();
    between.front.send(
        "GET http://far.example/chat HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    );
    between.say(
        0,
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhi",
    );
    between.front.turn();
    assert_eq!(body(&between.front.answers()), "hi");
    between.front.send("ho");
    assert!(between.asked(0).ends_with("\r\n\r\nho"));
}
