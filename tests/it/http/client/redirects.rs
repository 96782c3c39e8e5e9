//! Redirects, cookies and proxies: what goes where, and what does not.

use torsade::protocols::http::cookie_jar::CookieJar;
use torsade::protocols::http::{
    Body, ClientRequest, HeaderValue, Proxies, Proxy, RedirectedTo, Redirects, StatusCode, header,
};
use torsade::reactor::testing::{no_result, success_of};

use super::{Net, OK, kind, shown};

fn to(location: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 4\r\n\r\ngone")
}

#[test]
fn a_redirect_is_followed_on_the_same_connection() {
    let net = Net::new();
    let response = net.client.get("http://here/a/b");
    net.asked(0);
    net.say(0, to("c?d"));
    assert_eq!(net.asked(0), "GET /a/c?d HTTP/1.1\r\nhost: here\r\n\r\n");
    net.say(0, to("/e"));
    net.asked(0);
    net.say(0, OK);
    let response = success_of(response);
    let to = response.extensions().get::<RedirectedTo>();
    assert_eq!(to.expect("it was").0, "http://here/e");
    assert_eq!(net.connections(), 1);
}

#[test]
fn credentials_stay_with_the_origin_that_they_are_for() {
    let net = Net::with(|client| {
        let token = HeaderValue::from_static("token");
        client.default_header(header::AUTHORIZATION, token)
    });
    let request = ClientRequest::<()>::builder()
        .uri("http://here/")
        .header("cookie", "a=b")
        .header("host", "alias")
        .header("x-mine", "1")
        .body(());
    let response = net.client.request(request.expect("it is one"));
    assert_eq!(
        net.asked(0),
        "GET / HTTP/1.1\r\nhost: alias\r\ncookie: a=b\r\nx-mine: 1\r\nauthorization: token\r\n\r\n"
    );
    net.say(0, to("/x"));
    assert!(net.asked(0).contains("authorization: token\r\n"));
    net.say(0, to("http://there/"));
    assert_eq!(
        net.asked(1),
        "GET / HTTP/1.1\r\nhost: there\r\nx-mine: 1\r\n\r\n"
    );
    // They do not come back, either.
    net.say(1, to("http://here/y"));
    assert_eq!(
        net.asked(0),
        "GET /y HTTP/1.1\r\nhost: here\r\nx-mine: 1\r\n\r\n"
    );
    net.say(0, OK);
    shown(response);
}

#[test]
fn a_body_goes_along_where_it_is_to_and_is_forgotten_where_it_is_not() {
    let net = Net::new();
    let response = net.client.post("http://here/", "abc");
    net.asked(0);
    net.say(
        0,
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: /a\r\nContent-Length: 0\r\n\r\n",
    );
    assert_eq!(
        net.asked(0),
        "POST /a HTTP/1.1\r\nhost: here\r\ncontent-type: text/plain; charset=utf-8\r\n\
         content-length: 3\r\n\r\nabc"
    );
    net.say(0, to("/b"));
    assert_eq!(net.asked(0), "GET /b HTTP/1.1\r\nhost: here\r\n\r\n");
    net.say(0, OK);
    shown(response);
    // One that was sent as it came is gone.
    let (sender, body) = Body::channel();
    let response = net.client.post("http://here/", body);
    sender.finish();
    net.say(
        0,
        "HTTP/1.1 308 Permanent Redirect\r\nLocation: /a\r\nContent-Length: 0\r\n\r\n",
    );
    let status = success_of(response).status();
    assert_eq!(status, StatusCode::PERMANENT_REDIRECT);
}

#[test]
fn redirects_have_an_end_and_can_be_refused() {
    let net = Net::with(|client| client.redirects(Redirects::at_most(1)));
    let response = net.client.get("http://here/");
    net.say(0, to("/a"));
    net.say(0, to("/b"));
    assert_eq!(kind(response), "redirected more than 1 times");
    let net = Net::with(|client| client.redirects(Redirects::none()));
    let response = net.client.get("http://here/");
    net.say(0, to("/a"));
    assert_eq!(shown(response), "302 Found: gone");
}

#[test]
fn a_redirect_with_a_long_body_does_not_wait_for_it() {
    let net = Net::new();
    let response = net.client.get("http://here/");
    net.say(
        0,
        "HTTP/1.1 302 Found\r\nLocation: /a\r\nContent-Length: 1000000\r\n\r\nlong",
    );
    assert!(!net.is_open(0));
    assert_eq!(net.asked(1), "GET /a HTTP/1.1\r\nhost: here\r\n\r\n");
    net.say(1, OK);
    assert_eq!(shown(response), "200 OK: ok");
}

#[test]
fn cookies_come_back_to_who_set_them() {
    let net = Net::with(|client| client.cookie_jar(CookieJar::new()));
    let response = net.client.get("http://here.example/login");
    net.asked(0);
    net.say(
        0,
        "HTTP/1.1 302 Found\r\nLocation: /\r\nSet-Cookie: id=1; Path=/\r\nContent-Length: 0\r\n\r\n",
    );
    assert_eq!(
        net.asked(0),
        "GET / HTTP/1.1\r\nhost: here.example\r\ncookie: id=1\r\n\r\n"
    );
    net.say(0, to("http://there.example/"));
    assert_eq!(
        net.asked(1),
        "GET / HTTP/1.1\r\nhost: there.example\r\n\r\n"
    );
    net.say(1, OK);
    shown(response);
    assert_eq!(net.client.visit_cookies(|jar| jar.len()), Some(1));
}

#[test]
fn a_proxy_is_told_the_whole_url_and_shared_by_all_origins() {
    let net = Net::with(|client| {
        let proxy = Proxy::new("http://me:secret@proxy:3128").expect("a proxy");
        client.proxies(Proxies::all(proxy).except("here"))
    });
    let response = net.client.get("http://one/a?b");
    assert_eq!(
        net.asked(0),
        "GET http://one/a?b HTTP/1.1\r\nhost: one\r\n\
         proxy-authorization: Basic bWU6c2VjcmV0\r\n\r\n"
    );
    net.say(0, OK);
    shown(response);
    let response = net.client.get("http://two:81/");
    assert!(
        net.asked(0)
            .starts_with("GET http://two:81/ HTTP/1.1\r\nhost: two:81\r\n")
    );
    // And not told what it is not asked.
    net.say(0, to("http://here/"));
    assert_eq!(net.asked(1), "GET / HTTP/1.1\r\nhost: here\r\n\r\n");
    net.say(1, OK);
    shown(response);
    let origins = ["http://proxy:3128", "http://here"];
    assert_eq!(*net.dialled.origins.borrow(), origins);
}

#[test]
fn a_proxy_makes_a_tunnel_for_https() {
    let net = Net::with(|client| {
        let proxy = Proxy::new("http://me:secret@proxy:3128").expect("a proxy");
        client.proxies(Proxies::all(proxy))
    });
    let response = net.client.get("https://here/");
    assert_eq!(
        net.asked(0),
        "CONNECT here:443 HTTP/1.1\r\nhost: here:443\r\n\
         proxy-authorization: Basic bWU6c2VjcmV0\r\n\r\n"
    );
    net.say(0, "HTTP/1.1 200 Connection established\r\n\r\n");
    net.turn();
    // What comes now is TLS: a handshake record.
    let hello = net.stream(0).take_written();
    assert_eq!(hello[..2], [22, 3]);
    no_result(&response);
    drop(response.add_errback(|_| Err(torsade::prelude::Failure::message("given up"))));
}

#[test]
fn rfc9110_7_8_to_go_on_in_another_protocol_a_tunnel_is_made_for_http_too() {
    let net = Net::with(|client| {
        let proxy = Proxy::new("http://proxy:3128").expect("a proxy");
        client.proxies(Proxies::all(proxy))
    });
    let request = ClientRequest::get("http://here/a")
        .header("connection", "upgrade")
        .header("upgrade", "other")
        .body(Body::empty())
        .expect("it is a request");
    let asked = net.client.upgrade(request);
    let expected = "CONNECT here:80 HTTP/1.1\r\nhost: here:80\r\n\r\n";
    assert_eq!(net.asked(0), expected);
    net.say(0, "HTTP/1.1 200 OK\r\n\r\n");
    net.turn();
    let expected = "GET /a HTTP/1.1\r\nhost: here\r\nconnection: upgrade\r\nupgrade: other\r\n\r\n";
    assert_eq!(net.asked(0), expected);
    // What is no such request goes to the proxy itself, on another connection.
    let plain = net.client.get("http://here/");
    assert!(net.asked(1).starts_with("GET http://here/ HTTP/1.1\r\n"));
    net.say(1, OK);
    shown(plain);
    net.say(
        0,
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n",
    );
    net.turn();
    let (response, upgraded) = success_of(asked);
    assert_eq!(
        (response.status().as_u16(), upgraded.is_some()),
        (101, true)
    );
}

#[test]
fn a_proxy_that_makes_no_tunnel_says_why() {
    let net = Net::with(|client| {
        let proxy = Proxy::new("http://proxy:3128").expect("a proxy");
        client.proxies(Proxies::all(proxy))
    });
    let response = net.client.get("https://here/");
    net.say(
        0,
        "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
    );
    assert_eq!(
        kind(response),
        "the proxy makes no tunnel: 407 Proxy Authentication Required"
    );
    assert!(!net.is_open(0));
    net.settle();
    // Nor does one that says more than it is asked.
    let response = net.client.get("https://here/");
    net.say(1, "HTTP/1.1 200 OK\r\n\r\nsurprise");
    assert!(kind(response).contains("bytes that nobody asked for"));
    let response = net.client.get("https://here/");
    net.stream(2).end_read();
    net.settle();
    assert!(kind(response).contains("the connection ended"));
}
