//! A client with a cache: what goes over its connections, and what does not.

use super::*;
use torsade::protocols::http::cache::{Cache, CacheKind};
use torsade::protocols::http::cookie_jar::CookieJar;
use torsade::protocols::http::{Body, ClientLimits, ClientRequest, RedirectedTo};

/// A client with a cache, set up.
pub(super) fn net_with(set_up: impl FnOnce(Client) -> Client) -> Net {
    let reactor = virtual_time_reactor();
    let dialled = Rc::<Dialled>::default();
    let endpoints = Rc::clone(&dialled);
    let client = Client::new(&reactor).connector(move |origin: &Origin| Dial {
        dialled: Rc::clone(&endpoints),
        origin: origin.to_string(),
    });
    let cache = Cache::new(&reactor, CacheKind::Private);
    Net {
        client: set_up(client.cache(&cache)),
        reactor,
        dialled,
    }
}

#[test]
fn what_is_fresh_goes_over_no_connection() {
    let net = net_with(|client| client);
    let response = net.client.get("http://a/x");
    assert_eq!(net.asked(0), "GET /x HTTP/1.1\r\nhost: a\r\n\r\n");
    net.say(
        0,
        "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 3\r\n\r\none",
    );
    assert_eq!(shown(response), "200 OK: one");
    assert_eq!(shown(net.client.get("http://a/x")), "200 OK: one");
    assert_eq!(net.asked(0), "");
    // The server is asked for what nobody has.
    let response = net.client.post("http://a/x", "two");
    assert!(net.asked(0).starts_with("POST /x HTTP/1.1\r\n"));
    net.say(0, OK);
    assert_eq!(shown(response), "200 OK: ok");
    let response = net.client.get("http://a/x");
    no_answer(&net, &response);
}

#[test]
fn rfc9111_4_4_what_changes_a_target_does_so_though_it_asks_to_switch() {
    let kept = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 3\r\n\r\none";
    for answers in [OK, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"] {
        let net = net_with(|client| client);
        let response = net.client.get("http://a/x");
        net.say(0, kept);
        assert_eq!(shown(response), "200 OK: one");
        net.asked(0);
        let request = ClientRequest::post("http://a/x")
            .header("connection", "upgrade")
            .header("upgrade", "else")
            .body(Body::empty())
            .expect("it is a request");
        let asked = net.client.upgrade(request);
        assert!(net.asked(0).starts_with("POST /x HTTP/1.1\r\n"));
        net.say(0, answers);
        let (_, upgraded) = success_of(asked);
        assert!(upgraded.is_none());
        let response = net.client.get("http://a/x");
        match answers == OK {
            true => no_answer(&net, &response),
            false => assert_eq!(shown(response), "200 OK: one"),
        }
    }
}

#[track_caller]
fn no_answer<T: 'static>(net: &Net, response: &Deferred<T>) {
    torsade::reactor::testing::no_result(response);
    assert_ne!(net.asked(0), "");
}

#[test]
fn each_hop_of_a_redirect_is_stored_for_itself() {
    let net = net_with(|client| client);
    let ask = || net.client.get("http://a/old");
    let response = ask();
    net.asked(0);
    net.say(0, "HTTP/1.1 301 Moved\r\nLocation: /new\r\nCache-Control: max-age=90\r\nContent-Length: 0\r\n\r\n");
    assert!(net.asked(0).starts_with("GET /new"));
    net.say(
        0,
        "HTTP/1.1 200 OK\r\nCache-Control: max-age=30\r\nContent-Length: 3\r\n\r\none",
    );
    assert_eq!(shown(response), "200 OK: one");
    let response = success_of(ask());
    let place = response.extensions().get::<RedirectedTo>().cloned();
    assert_eq!(
        place,
        Some(RedirectedTo("http://a/new".parse().expect("a URI")))
    );
    assert_eq!(net.asked(0), "");
    net.pass(Duration::from_secs(40));
    let response = ask();
    assert!(
        net.asked(0).starts_with("GET /new"),
        "the way there is still known"
    );
    drop(response);
}

#[test]
fn what_depends_on_cookies_is_asked_for_with_new_ones() {
    let net = net_with(|client| client.cookie_jar(CookieJar::new()));
    let varies = "Cache-Control: max-age=60\r\nVary: Cookie\r\n";
    let ask = |path: &str| net.client.get(format!("http://a/{path}"));
    let response = ask("in");
    net.asked(0);
    net.say(
        0,
        format!("HTTP/1.1 200 OK\r\n{varies}Set-Cookie: user=ali\r\nContent-Length: 2\r\n\r\nin"),
    );
    assert_eq!(shown(response), "200 OK: in");
    // Another page changes the cookie; what is stored does not change it back.
    let response = ask("as");
    assert!(net.asked(0).contains("cookie: user=ali\r\n"));
    net.say(0, "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nSet-Cookie: user=bo\r\nContent-Length: 2\r\n\r\nas");
    assert_eq!(shown(response), "200 OK: as");
    let response = ask("in");
    assert!(net.asked(0).contains("cookie: user=bo\r\n"));
    net.say(
        0,
        format!("HTTP/1.1 200 OK\r\n{varies}Set-Cookie: user=cy\r\nContent-Length: 2\r\n\r\nbo"),
    );
    assert_eq!(shown(response), "200 OK: bo");
    assert_eq!(shown(ask("as")), "200 OK: as");
    let response = ask("other");
    assert!(net.asked(0).contains("cookie: user=cy\r\n"));
    drop(response);
}

#[test]
fn cookies_come_also_with_what_goes_past_the_cache() {
    let net = net_with(|client| client.cookie_jar(CookieJar::new()));
    let request = || {
        let request = ClientRequest::get("http://a/chat").header("upgrade", "echo");
        let request = request.header("connection", "upgrade");
        request.body(Body::empty()).expect("a request")
    };
    let switched = net.client.upgrade(request());
    net.asked(0);
    net.say(
        0,
        "HTTP/1.1 401 No\r\nSet-Cookie: user=ali\r\nContent-Length: 0\r\n\r\n",
    );
    assert_eq!(success_of(switched).0.status(), 401);
    let response = net.client.get("http://a/x");
    assert!(net.asked(0).contains("cookie: user=ali\r\n"));
    net.say(0, OK);
    shown(response);
    // Also where nobody waits for the switch.
    let response = net.client.request(request());
    assert!(net.asked(0).contains("cookie: user=ali\r\n"));
    net.say(
        0,
        "HTTP/1.1 426 No\r\nSet-Cookie: user=bo\r\nContent-Length: 0\r\n\r\n",
    );
    assert_eq!(success_of(response).status(), 426);
    drop(net.client.get("http://a/y"));
    assert!(net.asked(0).contains("cookie: user=bo\r\n"));
}

#[test]
fn compressed_answers_are_stored_as_they_came_and_decoded_each_time() {
    // "one", by gzip.
    let coded = b"\x1f\x8b\x08\0\0\0\0\0\x02\xff\xcb\xcfK\x05\0\xf1\x86lz\x03\0\0\0";
    let net = net_with(|client| client);
    let response = net.client.get("http://a/x");
    net.asked(0);
    let head = format!(
        "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        coded.len()
    );
    net.say(0, [head.as_bytes(), coded].concat());
    assert_eq!(shown(response), "200 OK: one");
    assert_eq!(shown(net.client.get("http://a/x")), "200 OK: one");
}

#[test]
fn cancelling_closes_the_connection_if_nobody_else_waits() {
    let net = net_with(|client| client);
    let (first, second) = (net.client.get("http://a/x"), net.client.get("http://a/x"));
    net.turn();
    assert_eq!(net.connections(), 1);
    first.cancel();
    drop(first.add_errback(|_| Ok(Response::default())));
    net.turn();
    assert!(net.is_open(0));
    second.cancel();
    drop(second.add_errback(|_| Ok(Response::default())));
    net.settle();
    assert!(!net.is_open(0));
    assert_eq!(net.client.pool().open, 0);
}

#[test]
fn the_limit_of_the_whole_holds() {
    let limits = ClientLimits {
        total: Some(Duration::from_secs(5)),
        ..ClientLimits::default()
    };
    let net = net_with(|client| client.limits(limits));
    let response = net.client.get("http://a/x");
    net.pass(Duration::from_secs(6));
    assert_eq!(kind(response), "the whole exchange took longer than 5s");
    assert_eq!(net.client.pool().open, 0);
    let response = net.client.get("http://a/x");
    net.turn();
    net.say(
        1,
        "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 9\r\n\r\none",
    );
    let read = success_of(response).into_body().read(100);
    net.pass(Duration::from_secs(6));
    assert_eq!(kind(read), "the whole exchange took longer than 5s");
}

#[test]
fn an_error_says_which_request_it_is_about() {
    let net = net_with(|client| client);
    net.dialled.refusing.set(true);
    let error = error(net.client.get("http://user:secret@a/x"));
    assert_eq!(error.to_string(), "GET http://a/x: refused");
}
