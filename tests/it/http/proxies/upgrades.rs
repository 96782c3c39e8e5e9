//! Connections that go on in another protocol, through a proxy.

use std::time::Duration;

use torsade::protocols::http::cache::CacheKind;
use torsade::protocols::http::{Cache, ForwardProxy, ReverseProxy};
use torsade::reactor::testing::virtual_time_reactor;

use super::{Between, OK, body, status};

fn reverse() -> Between {
    Between::with(|asking| ReverseProxy::new(asking, "http://back").expect("a URL"))
}

const WEBSOCKET: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\n\
                         Upgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                      Sec-WebSocket-Accept: s\r\n\r\n";

#[test]
fn a_websocket_goes_through_as_a_tunnel_with_what_came_early() {
    let between = reverse();
    between.front.send(format!("{WEBSOCKET}early"));
    let asked = between.asked(0);
    for field in [
        "connection: upgrade\r\n",
        "upgrade: websocket\r\n",
        "sec-websocket-key: k\r\n",
    ] {
        assert!(asked.contains(field), "{asked}");
    }
    assert!(!asked.contains("early"), "not before it has switched");
    between.say(0, format!("{SWITCH}first"));
    between.front.turn();
    let answer = between.front.answers();
    assert_eq!(status(&answer), "HTTP/1.1 101 Switching Protocols");
    assert!(answer.contains("sec-websocket-accept: s\r\n"), "{answer}");
    assert!(answer.contains("connection: upgrade\r\n"), "{answer}");
    assert_eq!(body(&answer), "first");
    assert_eq!(between.asked(0), "early");
    between.front.send("ping");
    between.say(0, "pong");
    assert_eq!(
        (between.asked(0).as_str(), between.front.answers().as_str()),
        ("ping", "pong")
    );
    // Whoever is slow slows the other.
    between.front.stream.set_congested(true);
    assert!(between.server(0).is_paused());
    between.front.stream.set_congested(false);
    assert!(!between.server(0).is_paused());
    between.server(0).end();
    assert!(between.front.is_closed());
}

#[test]
fn a_tunnel_in_which_nothing_moves_ends() {
    let between = Between::with(|asking| {
        let proxy = ReverseProxy::new(asking, "http://back").expect("a URL");
        proxy.tunnel_idle(Duration::from_secs(60))
    });
    between.front.send(WEBSOCKET);
    between.say(0, SWITCH);
    for _ in 0..5 {
        between.front.wait(50);
        between.say(0, "ping");
    }
    assert!(!between.front.is_closed());
    between.front.wait(121);
    assert!(between.front.is_closed() && !between.is_open(0));
}

#[test]
fn a_server_that_does_not_switch_answers_as_it_would() {
    let between = reverse();
    between.front.send(WEBSOCKET);
    between.say(0, OK);
    assert_eq!(body(&between.front.answers()), "ok");
    let answer = between.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n", OK);
    assert_eq!((body(&answer), between.connections()), ("ok", 1));
}

#[test]
fn a_protocol_that_is_not_named_is_not_asked_for() {
    let between = reverse();
    between.front.send(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAMAAABk\r\n\r\n",
    );
    assert_eq!(between.asked(0), "GET / HTTP/1.1\r\nhost: back\r\n\r\n");
    between.say(0, OK);
    assert_eq!(body(&between.front.answers()), "ok");
}

#[test]
fn a_server_that_switches_to_something_else_is_502() {
    let between = reverse();
    between.front.send(WEBSOCKET);
    between.say(0, SWITCH.replace("Upgrade: websocket", "Upgrade: other"));
    assert_eq!(status(&between.front.answers()), "HTTP/1.1 502 Bad Gateway");
    assert!(!between.is_open(0));
}

#[test]
fn a_client_that_goes_away_before_the_switch_takes_it_back() {
    let between = reverse();
    between.front.send(WEBSOCKET);
    between.front.stream.end();
    assert!(!between.is_open(0));
}

#[test]
fn a_request_with_a_body_is_not_passed_on_as_one_that_asks_to_switch() {
    let between = reverse();
    let request = WEBSOCKET.replacen("\r\n\r\n", "\r\nContent-Length: 6\r\n\r\n", 1);
    between.front.send(&request);
    let asked = between.asked(0);
    assert!(!asked.contains("upgrade"), "{asked}");
    between.front.send("secret");
    assert_eq!(between.asked(0), "secret");
    // Nobody asked that server to.
    between.say(0, SWITCH);
    assert_eq!(status(&between.front.answers()), "HTTP/1.1 502 Bad Gateway");
    assert!(!between.is_open(0));
}

/// curl asks so with `--http2`.
#[test]
fn a_body_comes_whole_though_its_request_asks_to_switch() {
    let between = reverse();
    between.front.send(
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 8\r\n\r\nhalf",
    );
    assert!(
        !between.front.stream.is_paused(),
        "the rest of the body is to come"
    );
    between.front.send("half");
    assert_eq!(body(&between.asked(0)), "halfhalf");
    between.say(0, OK);
    assert_eq!(body(&between.front.answers()), "ok");
}

#[test]
fn rfc9111_4_4_a_request_that_changes_something_goes_through_the_cache_and_asks_nobody_to_switch() {
    let clock = virtual_time_reactor();
    let cache = || Cache::new(&clock, CacheKind::Shared);
    let reverse = Between::with(|asking| {
        let proxy = ReverseProxy::new(asking, "http://back").expect("a URL");
        proxy.through(|fetch| cache().around(fetch))
    });
    let forward = Between::with(|asking| {
        let proxy = ForwardProxy::new(asking).allow_local();
        proxy.through(|fetch| cache().around(fetch))
    });
    check_change(&reverse, "/chat");
    check_change(&forward, "http://a/chat");
}

/// What is stored for a target is over when it is changed by who asks to switch.
#[track_caller]
fn check_change(between: &Between, target: &str) {
    let get = &format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
    let kept = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 4\r\n\r\npage";
    between.front.send(get);
    between.say(0, kept);
    assert_eq!(body(&between.front.answers()), "page");
    between.front.send(get);
    assert_eq!(body(&between.front.answers()), "page");
    between.asked(0);
    let post = WEBSOCKET.replacen("GET /chat", &format!("POST {target}"), 1);
    let answer = between.exchange(&post, OK);
    assert_eq!(body(&answer), "ok");
    let asked = between.asked(0);
    assert!(asked.starts_with("POST /chat "), "{asked}");
    assert!(!asked.contains("upgrade"), "{asked}");
    between.front.send(get);
    assert_eq!(between.front.answers(), "");
    assert!(between.asked(0).starts_with("GET /chat "));
}
