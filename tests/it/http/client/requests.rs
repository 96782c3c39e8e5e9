//! What is sent, and what becomes of the answers.

use torsade::prelude::*;
use torsade::protocols::http::{
    Body, ClientError, ClientRequest, HeaderValue, Method, Proxies, Proxy, Request, StatusCode,
    Uri, header,
};
use torsade::reactor::testing::{for_every_chunking, no_result, success_of, virtual_time_reactor};

use super::{ClientErrorKind, Net, OK, client_of, error, kind, shown};

fn request(method: Method, url: &str, body: impl Into<Body>) -> ClientRequest {
    let mut request = ClientRequest::new(body.into());
    *request.method_mut() = method;
    *request.uri_mut() = url.parse().expect("a URI");
    request
}

#[test]
fn a_request_goes_out_and_its_response_comes_back() {
    let net = Net::new();
    let response = net.client.get("http://here/a?b");
    let written = String::from_utf8(net.stream(0).take_written()).expect("it is text");
    let agent = concat!("torsade/", env!("CARGO_PKG_VERSION"));
    assert_eq!(
        written,
        format!(
            "GET /a?b HTTP/1.1\r\nhost: here\r\nuser-agent: {agent}\r\naccept: */*\r\n\
             accept-encoding: gzip, deflate\r\n\r\n"
        )
    );
    no_result(&response);
    net.say(0, OK);
    assert_eq!(shown(response), "200 OK: ok");
}

#[test]
fn the_response_is_the_same_in_every_chunking() {
    for wire in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
         1\r\no\r\n1\r\nk\r\n0\r\n\r\n",
    ] {
        for_every_chunking(wire.as_bytes(), |chunks| {
            let net = Net::new();
            let response = net.client.get("http://here/");
            for chunk in chunks {
                net.say(0, chunk);
            }
            assert_eq!(shown(response), "200 OK: ok");
            assert_eq!(net.client.pool().idle, 1);
        });
    }
}

#[test]
fn each_kind_of_body_is_framed_by_what_is_known_of_it() {
    let net = Net::new();
    let first = net.client.post("http://here/", "abc");
    assert_eq!(
        net.asked(0),
        "POST / HTTP/1.1\r\nhost: here\r\ncontent-type: text/plain; charset=utf-8\r\n\
         content-length: 3\r\n\r\nabc"
    );
    net.say(0, OK);
    shown(first);
    let second = net.client.post("http://here/", ());
    assert_eq!(
        net.asked(0),
        "POST / HTTP/1.1\r\nhost: here\r\ncontent-length: 0\r\n\r\n"
    );
    net.say(0, OK);
    shown(second);
    let (sender, body) = Body::channel();
    let third = net.client.post("http://here/", body);
    sender.write("ab").expect("it is taken");
    sender.write("c").expect("it is taken");
    assert_eq!(
        net.asked(0),
        "POST / HTTP/1.1\r\nhost: here\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n"
    );
    sender.finish();
    assert_eq!(net.asked(0), "0\r\n\r\n");
    net.say(0, OK);
    shown(third);
    let (sender, body) = Body::sized_channel(2);
    let fourth = net.client.post("http://here/", body);
    sender.write("ab").expect("it is taken");
    sender.finish();
    assert_eq!(
        net.asked(0),
        "POST / HTTP/1.1\r\nhost: here\r\ncontent-length: 2\r\n\r\nab"
    );
    net.say(0, OK);
    shown(fourth);
    assert_eq!(net.connections(), 1);
}

#[test]
fn a_file_is_sent_whole() {
    let mut file = tempfile::tempfile().expect("a file");
    std::io::Write::write_all(&mut file, b"content").expect("it takes it");
    let net = Net::new();
    let body = Body::file(file).expect("it has a length");
    let put = net
        .client
        .request(request(Method::PUT, "http://here/f", body));
    net.turn();
    assert!(net.asked(0).ends_with("content-length: 7\r\n\r\ncontent"));
    net.say(0, OK);
    shown(put);
}

#[test]
fn a_body_of_another_length_than_it_says_ends_the_connection() {
    let net = Net::new();
    for (piece, problem) in [("abc", "announced: 2, but 3"), ("a", "announced: 2, but 1")] {
        let (sender, body) = Body::sized_channel(2);
        let index = net.connections();
        let response = net.client.post("http://here/", body);
        sender.write(piece).expect("it is taken");
        sender.finish();
        let error = error(response);
        assert!(error.to_string().contains(problem), "{error}");
        assert!(!net.is_open(index));
        net.settle();
    }
}

#[test]
fn a_body_that_breaks_off_ends_the_connection() {
    let net = Net::new();
    let (sender, body) = Body::channel();
    let response = net.client.post("http://here/", body);
    sender.write("a").expect("it is taken");
    drop(sender);
    assert!(matches!(
        error(response).kind(),
        ClientErrorKind::RequestBody(_)
    ));
    assert!(!net.is_open(0));
    assert!(!net.asked(0).ends_with("0\r\n\r\n"));
}

#[test]
fn what_contradicts_the_body_is_refused() {
    let net = Net::new();
    let check = |name, value: &'static str, body: Body| {
        let mut request = request(Method::POST, "http://here/", body);
        let value = HeaderValue::from_static(value);
        request.headers_mut().append(name, value);
        let error = error(net.client.request(request));
        assert!(matches!(error.kind(), ClientErrorKind::BadRequest(_)));
    };
    check(header::CONTENT_LENGTH, "4", Body::from("abc"));
    check(header::CONTENT_LENGTH, "x", Body::from("abc"));
    check(header::TRANSFER_ENCODING, "chunked", Body::from("abc"));
    check(header::TRANSFER_ENCODING, "gzip", Body::channel().1);
    check(header::EXPECT, "a miracle", Body::from("abc"));
    let connect = request(Method::CONNECT, "http://here/", "");
    assert!(kind(net.client.request(connect)).contains("CONNECT"));
    assert_eq!(net.connections(), 0);
    // What is right is not sent twice.
    let mut right = request(Method::POST, "http://here/", "abc");
    let value = HeaderValue::from_static("3");
    right.headers_mut().insert(header::CONTENT_LENGTH, value);
    let response = net.client.request(right);
    assert_eq!(net.asked(0).matches("content-length").count(), 1);
    net.say(0, OK);
    shown(response);
}

#[test]
fn what_the_request_says_goes_before_what_it_would_say() {
    let net = Net::with(|client| {
        client
            .default_header(header::USER_AGENT, HeaderValue::from_static("me"))
            .default_header(header::AUTHORIZATION, HeaderValue::from_static("secret"))
            .decode(false)
    });
    let mut own = request(Method::GET, "http://here/", "");
    let host = HeaderValue::from_static("there");
    own.headers_mut().insert(header::HOST, host);
    let accept = HeaderValue::from_static("text/html");
    own.headers_mut().insert(header::ACCEPT, accept);
    drop(net.client.request(own));
    let written = String::from_utf8(net.stream(0).take_written()).expect("it is text");
    assert_eq!(
        written,
        "GET / HTTP/1.1\r\nhost: there\r\naccept: text/html\r\nauthorization: secret\r\n\
         user-agent: me\r\n\r\n"
    );
}

#[test]
fn credentials_in_a_url_become_a_header_and_are_in_no_error() {
    let net = Net::new();
    let response = net.client.get("http://me:secret@here/x");
    assert_eq!(
        net.asked(0),
        "GET /x HTTP/1.1\r\nhost: here\r\nauthorization: Basic bWU6c2VjcmV0\r\n\r\n"
    );
    net.say(0, "nonsense\r\n\r\n");
    let error = error(response);
    assert_eq!(error.url(), "http://here/x");
    assert_eq!(
        error.to_string(),
        "GET http://here/x: bad response: not a message of HTTP/1 (RFC 9112 §2)"
    );
}

#[test]
fn what_is_no_url_is_told_at_once() {
    let net = Net::new();
    let check = |url: &str, expected: &str| {
        assert_eq!(error(net.client.get(url)).to_string(), expected);
    };
    check("/a", "GET /a: bad URL: it is not absolute");
    check("http://a b/", "GET http://a b/: bad URL: it is malformed");
    check(
        "ftp://me:secret@here/",
        "GET ftp://here/: bad URL: its scheme is \"ftp\", and only http and https are spoken here",
    );
    assert_eq!(net.connections(), 0);
}

#[test]
fn a_body_waits_for_the_word_of_the_server_if_it_is_to() {
    let ask = |net: &Net| {
        let mut request = request(Method::PUT, "http://here/", "abc");
        let value = HeaderValue::from_static("100-continue");
        request.headers_mut().insert(header::EXPECT, value);
        net.client.request(request)
    };
    let net = Net::new();
    let response = ask(&net);
    assert!(net.asked(0).ends_with("content-length: 3\r\n\r\n"));
    net.say(0, "HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(net.asked(0), "abc");
    net.say(0, OK);
    assert_eq!(shown(response), "200 OK: ok");
    assert_eq!(net.client.pool().idle, 1);
    // A server that says nothing gets it all the same.
    let response = ask(&net);
    net.asked(0);
    net.pass(std::time::Duration::from_secs(1));
    assert_eq!(net.asked(0), "abc");
    net.say(0, OK);
    shown(response);
    // One that refuses does not get it, and the connection is not used again.
    let response = ask(&net);
    net.asked(0);
    net.say(0, "HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(success_of(response).status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(net.asked(0), "");
    assert!(!net.is_open(0));
}

#[test]
fn rfc9112_6_1_a_body_that_was_held_back_is_framed_as_its_head_says() {
    for (text, chunks) in [("hello", "5\r\nhello\r\n0\r\n\r\n"), ("", "0\r\n\r\n")] {
        for has_word in [true, false] {
            let net = Net::new();
            let (sender, body) = Body::channel();
            let request = ClientRequest::post("http://here/").header("expect", "100-continue");
            let response = net.client.request(request.body(body).expect("a request"));
            let head = net.asked(0);
            assert!(
                head.ends_with("transfer-encoding: chunked\r\n\r\n"),
                "{head}"
            );
            // All of it is there before the server says so.
            sender.write(text).expect("it is read");
            sender.finish();
            assert_eq!(net.asked(0), "");
            match has_word {
                true => net.say(0, "HTTP/1.1 100 Continue\r\n\r\n"),
                false => net.pass(std::time::Duration::from_secs(1)),
            }
            assert_eq!(net.asked(0), chunks);
            net.say(0, OK);
            assert_eq!(shown(response), "200 OK: ok");
            assert_eq!(net.client.pool().idle, 1);
        }
    }
}

#[test]
fn a_body_that_is_said_to_be_empty_has_no_bytes() {
    let get = || ClientRequest::get("http://here/");
    let (sized, unsized_body) = (Body::sized_channel(0), Body::channel());
    for (request, (sender, body)) in [
        (get(), sized),
        (get().header("content-length", "0"), unsized_body),
    ] {
        let net = Net::new();
        let response = net.client.request(request.body(body).expect("a request"));
        assert_eq!(net.asked(0), "GET / HTTP/1.1\r\nhost: here\r\n\r\n");
        sender
            .write("GET /admin HTTP/1.1\r\n\r\n")
            .expect("it is read");
        assert_eq!(net.asked(0), "");
        assert_eq!(
            kind(response),
            "the request's body: the body does not have the length that was announced: 0, but 23"
        );
        assert!(!net.is_open(0));
    }
}

#[test]
fn an_answer_that_comes_before_the_request_is_sent_ends_the_connection() {
    let net = Net::new();
    let (sender, body) = Body::channel();
    let response = net.client.post("http://here/", body);
    sender.write("abc").expect("it is taken");
    net.say(0, "HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(success_of(response).status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert!(!net.is_open(0));
    assert!(sender.write("more").is_err());
}

#[test]
fn a_bad_response_is_an_error_that_says_what_is_bad() {
    for (wire, problem) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "bad response: both Content-Length and Transfer-Encoding (RFC 9112 §6.3)",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "bad response: Content-Length is not exactly one number (RFC 9112 §6.3)",
        ),
        (
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
            "bad response: a switch of protocols that nobody asked for (RFC 9110 §15.2.2)",
        ),
    ] {
        let net = Net::new();
        let response = net.client.get("http://here/");
        net.say(0, wire);
        assert_eq!(kind(response), problem);
        assert!(!net.is_open(0));
    }
}

#[test]
fn a_connection_becomes_another_protocols() {
    let net = Net::new();
    let mut request = request(Method::GET, "http://here/chat", "");
    for (name, value) in [(header::CONNECTION, "upgrade"), (header::UPGRADE, "echo")] {
        let value = HeaderValue::from_static(value);
        request.headers_mut().insert(name, value);
    }
    let switched = net.client.upgrade(request);
    assert_eq!(
        net.asked(0),
        "GET /chat HTTP/1.1\r\nhost: here\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n"
    );
    net.say(
        0,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\n\r\nfirst",
    );
    let (response, upgraded) = success_of(switched);
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    struct Echo;
    impl Protocol for Echo {
        fn data_received(&mut self, transport: &Transport<Self>, data: &[u8]) {
            transport.write(data);
        }
    }
    upgraded.expect("it switched").seat(Echo);
    net.say(0, " second");
    assert_eq!(net.asked(0), "first second");
    assert_eq!(net.client.pool().open, 0);
}

#[test]
fn rfc9110_7_8_a_server_that_switches_in_the_middle_of_the_request_is_not_followed() {
    for expectation in ["100-continue", ""] {
        let net = Net::new();
        let (sender, body) = Body::channel();
        let mut request = ClientRequest::post("http://here/chat")
            .header("connection", "upgrade")
            .header("upgrade", "echo");
        if !expectation.is_empty() {
            request = request.header("expect", expectation);
        }
        let switched = net.client.upgrade(request.body(body).expect("a request"));
        sender.write("half").expect("it is read");
        net.say(
            0,
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\n\r\nfirst",
        );
        assert_eq!(
            kind(switched),
            "bad response: a switch of protocols in the middle of the request (RFC 9110 §7.8)"
        );
        assert!(!net.is_open(0));
    }
}

#[test]
fn a_server_that_does_not_switch_answers() {
    let net = Net::new();
    let mut request = request(Method::GET, "http://here/chat", "");
    let value = HeaderValue::from_static("echo");
    request.headers_mut().insert(header::UPGRADE, value);
    let switched = net.client.upgrade(request);
    net.say(0, OK);
    let (response, upgraded) = success_of(switched);
    assert_eq!(response.status(), StatusCode::OK);
    assert!(upgraded.is_none());
}

#[test]
fn our_own_server_understands_it() {
    let reactor = virtual_time_reactor();
    let client = client_of(&reactor, |mut request: Request| {
        let line = format!("{} {}", request.method(), request.target());
        request
            .read_body()
            .add_callback(move |body| Ok(format!("{line} {}", String::from_utf8_lossy(&body))))
    });
    let (sender, body) = Body::channel();
    sender.write("in ").expect("it is taken");
    sender.write("pieces").expect("it is taken");
    sender.finish();
    let answer = client
        .post("http://here/x", body)
        .add_callback(|response| response.into_body().read_text(100));
    assert_eq!(
        reactor.run_until(answer).expect("it is answered"),
        "POST /x in pieces"
    );
}

#[test]
fn the_short_ways_read_it_all_and_want_a_success() {
    let net = Net::new();
    let text = net.client.get_text("http://here/", 10);
    net.say(0, OK);
    assert_eq!(success_of(text), "ok");
    let json = net.client.get_json::<Vec<u8>>("http://here/", 10);
    net.say(0, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n[1,2]");
    assert_eq!(success_of(json), [1, 2]);
    let bytes = net.client.get_bytes("http://me@here/x", 10);
    net.say(0, "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno");
    assert_eq!(
        error(bytes).to_string(),
        "GET http://here/x: the server answers with 404 Not Found"
    );
    let long = net.client.get_bytes("http://here/", 1);
    net.say(0, OK);
    let failure = torsade::reactor::testing::failure_of(long);
    assert!(!failure.check::<ClientError>(), "{failure}");
    assert_eq!(net.connections(), 1);
}

#[test]
fn hosts_and_paths_may_be_of_every_script() {
    let net = Net::new();
    let asked = net
        .client
        .get("http://B\u{fc}cher.example:81/\u{e4}?q=\u{f6}");
    assert_eq!(
        *net.dialled.origins.borrow(),
        ["http://xn--bcher-kva.example:81"]
    );
    assert_eq!(
        net.asked(0),
        "GET /%C3%A4?q=%C3%B6 HTTP/1.1\r\nhost: xn--bcher-kva.example:81\r\n\r\n"
    );
    // Nor does a redirect have to be written as URLs are.
    net.say(
        0,
        "HTTP/1.1 302 Found\r\nLocation: http://b\u{fc}cher.example:81/\u{fc}\r\nContent-Length: 0\r\n\r\n",
    );
    assert!(net.asked(0).starts_with("GET /%C3%BC HTTP/1.1\r\n"));
    net.say(0, OK);
    assert_eq!(shown(asked), "200 OK: ok");
}

#[test]
fn rfc9112_3_2_4_options_without_a_path_is_about_the_server_itself() {
    let net = Net::new();
    for (url, line) in [
        ("http://here", "OPTIONS * HTTP/1.1\r\nhost: here\r\n\r\n"),
        (
            "http://me:secret@here",
            "OPTIONS * HTTP/1.1\r\nhost: here\r\n",
        ),
        ("http://here/", "OPTIONS / HTTP/1.1\r\nhost: here\r\n\r\n"),
        (
            "http://here?a",
            "OPTIONS /?a HTTP/1.1\r\nhost: here\r\n\r\n",
        ),
        ("http://here/a", "OPTIONS /a HTTP/1.1\r\nhost: here\r\n\r\n"),
    ] {
        let response = net.client.options(url);
        let asked = net.asked(0);
        assert!(asked.starts_with(line), "{url}: {asked}");
        net.say(0, OK);
        shown(response);
    }
    // A `Uri` always has a slash, but may have an asterisk.
    let uri = Uri::builder().scheme("http").authority("here");
    let uri = uri.path_and_query("*").build().expect("it is one");
    for (uri, line) in [
        (uri, "OPTIONS * HTTP/1.1\r\n"),
        (
            "http://here".parse().expect("a URI"),
            "OPTIONS / HTTP/1.1\r\n",
        ),
    ] {
        let mut asking = request(Method::OPTIONS, "http://here/", ());
        *asking.uri_mut() = uri;
        let response = net.client.request(asking);
        assert!(net.asked(0).starts_with(line));
        net.say(0, OK);
        shown(response);
    }
    let get = net.client.get("http://here");
    assert!(net.asked(0).starts_with("GET / HTTP/1.1\r\n"));
    net.say(0, OK);
    shown(get);
}

#[test]
fn rfc9112_3_2_4_a_proxy_is_asked_for_the_server_itself_by_its_url() {
    let proxies = Proxies::all(Proxy::new("http://proxy:3128").expect("a proxy"));
    let net = Net::with(|client| client.proxies(proxies));
    for (url, line) in [
        ("http://here", "OPTIONS http://here HTTP/1.1\r\n"),
        ("http://here/", "OPTIONS http://here/ HTTP/1.1\r\n"),
    ] {
        let response = net.client.options(url);
        let asked = net.asked(0);
        assert!(asked.starts_with(line), "{url}: {asked}");
        net.say(0, OK);
        shown(response);
    }
}
