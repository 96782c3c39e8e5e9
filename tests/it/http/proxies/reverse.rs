//! The reverse proxy: what goes on, what comes back, and what is told of what goes wrong.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use torsade::prelude::*;
use torsade::protocols::http::{BadUrl, ClientLimits, ReverseProxy, Routes, Site};
use torsade::reactor::testing::virtual_time_reactor;

use super::{Between, OK, body, sorted, status};

const BACK: &str = "http://back:9000";

fn reverse() -> Between {
    reverse_to(BACK)
}

fn reverse_to(url: &str) -> Between {
    Between::with(|asking| ReverseProxy::new(asking, url).expect("a URL"))
}

#[test]
fn a_request_goes_on_and_its_response_comes_back() {
    let between = reverse();
    between
        .front
        .send("GET /a?b=c HTTP/1.1\r\nHost: front.example\r\nX-Mine: 1\r\n\r\n");
    let expected = "GET /a?b=c HTTP/1.1\r\nhost: back:9000\r\nx-mine: 1\r\nvia: 1.1 torsade\r\n\
                    forwarded: for=127.0.0.1;host=front.example;proto=http\r\n\
                    x-forwarded-for: 127.0.0.1\r\nx-forwarded-host: front.example\r\n\
                    x-forwarded-proto: http\r\n\r\n";
    assert_eq!(sorted(&between.asked_in_full(0)), sorted(expected));
    between.say(0, "HTTP/1.1 203 Odd\r\nX-Theirs: 2\r\nServer: s\r\nConnection: x-hop\r\nX-Hop: 3\r\nKeep-Alive: timeout=5\r\nContent-Length: 4\r\n\r\nbody");
    let expected = "HTTP/1.1 203 Non Authoritative Information\r\nx-theirs: 2\r\nserver: s\r\n\
                    content-length: 4\r\n\r\nbody";
    assert_eq!(between.front.answers(), expected);
    // The connection to the server is kept, and so is the client's.
    between.front.get("/again");
    assert_eq!(between.connections(), 1);
    assert!(between.asked(0).starts_with("GET /again HTTP/1.1\r\n"));
}

#[test]
fn nothing_is_added_followed_or_decoded() {
    let between = reverse();
    let answer = between.exchange(
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\nContent-Encoding: gzip\r\n\
         Set-Cookie: a=b\r\nContent-Length: 3\r\n\r\n\x1f\x01\x02",
    );
    assert_eq!(
        between.asked(0),
        "GET / HTTP/1.1\r\nhost: back:9000\r\n\r\n"
    );
    let expected = "HTTP/1.1 302 Found\r\nlocation: http://elsewhere/\r\ncontent-encoding: gzip\r\n\
                    set-cookie: a=b\r\ncontent-length: 3\r\n\r\n\x1f\x01\x02";
    assert_eq!(answer, expected);
    assert_eq!(between.connections(), 1);
}

#[test]
fn a_small_body_without_a_type_gets_none() {
    let between = reverse();
    between
        .front
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
    let expected = "POST / HTTP/1.1\r\nhost: back:9000\r\ncontent-length: 3\r\n\r\nabc";
    assert_eq!(between.asked(0), expected);
}

#[test]
fn a_client_of_1_0_gets_what_it_understands() {
    let between = reverse();
    let answer = between.exchange(
        "GET / HTTP/1.0\r\nTE: trailers\r\nExpect: 100-continue\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    );
    let asked = between.asked_in_full(0);
    assert!(asked.contains("via: 1.0 torsade\r\n"), "{asked}");
    assert!(!asked.contains("expect"), "{asked}");
    assert_eq!(answer, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nok");
}

#[test]
fn the_head_of_a_body_has_its_length_or_none() {
    let between = reverse();
    let head = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n";
    let answer = between.exchange(head, "HTTP/1.1 200 OK\r\nContent-Length: 70\r\n\r\n");
    assert_eq!(answer, "HTTP/1.1 200 OK\r\ncontent-length: 70\r\n\r\n");
    for framing in ["Transfer-Encoding: chunked\r\n", ""] {
        let answer = between.exchange(head, &format!("HTTP/1.1 200 OK\r\n{framing}\r\n"));
        assert!(!answer.contains("content-length"), "{answer}");
    }
    let get = "GET / HTTP/1.1\r\nHost: a\r\nIf-None-Match: \"a\"\r\n\r\n";
    let not_modified = "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 70\r\n\r\n";
    let answer = between.exchange(get, not_modified);
    let expected = "HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\ncontent-length: 70\r\n\r\n";
    assert_eq!(answer, expected);
}

#[test]
fn the_host_is_the_upstreams_or_the_clients() {
    let host = |between: &Between| {
        let asked = between.asked(0);
        asked.lines().nth(1).map(str::to_owned)
    };
    let between = reverse();
    between
        .front
        .send("GET http://named.example/a HTTP/1.1\r\nHost: other.example\r\n\r\n");
    assert!(
        between
            .asked_in_full(0)
            .contains("x-forwarded-host: named.example\r\n")
    );
    let between = Between::with(|asking| {
        let proxy = ReverseProxy::new(asking, BACK).expect("a URL");
        proxy.preserve_host()
    });
    between
        .front
        .send("GET http://named.example/a HTTP/1.1\r\nHost: other.example\r\n\r\n");
    // RFC 9112 §3.2.2: the target's counts.
    assert_eq!(host(&between).as_deref(), Some("host: named.example"));
    between.say(0, OK);
    between.front.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(
        host(&between).as_deref(),
        Some("host: back:9000"),
        "nobody asked for one"
    );
}

#[test]
fn what_a_client_says_of_where_it_comes_from_is_dropped() {
    let between = reverse();
    between.front.send(
        "GET / HTTP/1.1\r\nHost: a\r\nForwarded: for=1.2.3.4\r\nX-Forwarded-For: 1.2.3.4\r\n\
         X-Forwarded-Proto: https\r\nX-Forwarded-Host: b\r\nConnection: x-forwarded-for\r\n\r\n",
    );
    let asked = between.asked_in_full(0);
    assert!(!asked.contains("1.2.3.4"), "{asked}");
    for field in [
        "forwarded: for=127.0.0.1;host=a;proto=http\r\n",
        "x-forwarded-for: 127.0.0.1\r\n",
        "x-forwarded-host: a\r\n",
        "x-forwarded-proto: http\r\n",
    ] {
        assert!(asked.contains(field), "{asked}");
    }
}

#[test]
fn below_a_prefix_the_path_and_the_places_are_told_as_each_side_knows_them() {
    let between = Between::with(|asking| {
        let proxy = ReverseProxy::new(asking, "http://back:9000/app/").expect("a URL");
        Routes::new().nest("/api", proxy).expect("a route")
    });
    for (target, expected) in [
        ("/api/users?id=1", "/app/users?id=1"),
        ("/api", "/app/"),
        ("/api/a%20b/", "/app/a%20b/"),
        ("/api//double", "/app//double"),
    ] {
        between.front.get(target);
        let asked = between.asked(0);
        assert_eq!(asked.split(' ').nth(1), Some(expected), "{target}");
        between.say(0, "HTTP/1.1 303 See Other\r\nLocation: http://back:9000/app/in?x#y\r\nContent-Location: /app/in\r\nRefresh: 5; url=http://back:9000/app/in\r\nContent-Length: 0\r\n\r\n");
        let answer = between.front.answers();
        assert!(answer.contains("location: /api/in?x#y\r\n"), "{answer}");
        assert!(answer.contains("content-location: /api/in\r\n"), "{answer}");
        assert!(answer.contains("refresh: 5; url=/api/in\r\n"), "{answer}");
    }
}

#[test]
fn cookies_of_the_server_behind_are_those_of_the_place_that_the_client_knows() {
    let cookies = "Set-Cookie: a=1; Path=/v1/x; HttpOnly\r\nSet-Cookie: b=2; Domain=back; Path=/v1\r\n\
                   Set-Cookie: c=3\r\nSet-Cookie: d=4; Path=/; Domain=front\r\n";
    let answer = format!("HTTP/1.1 204 No Content\r\n{cookies}\r\n");
    let told = |leaves: bool| {
        let between = Between::within(ClientLimits::default(), |asking| {
            let proxy = ReverseProxy::new(asking, "http://back/v1").expect("a URL");
            let proxy = if leaves { proxy.leave_cookies() } else { proxy };
            let routes = Routes::new().nest("/api", proxy).expect("a pattern");
            Site::new(routes)
        });
        let got = between.exchange("GET /api/ HTTP/1.1\r\nHost: front:8080\r\n\r\n", &answer);
        let lines = got.lines().filter(|line| line.starts_with("set-cookie: "));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    assert_eq!(
        told(false),
        "set-cookie: a=1; Path=/api/x; HttpOnly\nset-cookie: b=2; Path=/api\n\
         set-cookie: c=3\nset-cookie: d=4; Path=/; Domain=front\n"
    );
    assert_eq!(
        told(true),
        cookies
            .replace("\r\n", "\n")
            .replace("Set-Cookie", "set-cookie")
    );
}

#[test]
fn what_a_client_asks_for_adds_no_attribute_to_a_cookie() {
    let between = Between::with(|asking| {
        let proxy = ReverseProxy::new(asking, BACK).expect("a URL");
        Routes::new().nest("/{tenant}", proxy).expect("a route")
    });
    let answer = "HTTP/1.1 204 No Content\r\nSet-Cookie: a=1; Path=/; HttpOnly\r\n\r\n";
    let target = "/t;Domain=front.example;/login";
    let request = format!("GET {target} HTTP/1.1\r\nHost: www.front.example\r\n\r\n");
    let got = between.exchange(&request, answer);
    let told = "set-cookie: a=1; Path=/t%3BDomain=front.example%3B; HttpOnly\r\n";
    assert!(got.contains(told), "{got}");
}

#[test]
fn nobody_leaves_what_is_to_be_reached_by_going_up() {
    let nested = Between::with(|asking| {
        let proxy = ReverseProxy::new(asking, BACK).expect("a URL");
        Routes::new().nest("/api", proxy).expect("a route")
    });
    let based = reverse_to("http://back:9000/app");
    for path in [
        "/../admin",
        "/a/%2e%2E/../admin",
        "/..%2fadmin",
        "/..\\admin",
        "/..;x/admin",
        "/..",
    ] {
        for (between, above) in [(&nested, "/api"), (&based, "")] {
            between.front.get(&format!("{above}{path}"));
            let answer = between.front.answers();
            assert_eq!(status(&answer), "HTTP/1.1 400 Bad Request", "{path}");
            assert_eq!(between.connections(), 0);
        }
    }
    for path in ["/a..b/...", "/a?b=../c"] {
        based.front.get(path);
        assert_eq!(
            based.asked(0).split(' ').nth(1),
            Some(&*format!("/app{path}"))
        );
        based.say(0, OK);
        assert_eq!(status(&based.front.answers()), "HTTP/1.1 200 OK");
    }
}

#[test]
fn methods_that_are_for_proxies_are_answered_here() {
    let between = reverse();
    let answer = |request: &str| {
        between.front.send(request);
        between.front.answers()
    };
    let traced = answer("TRACE /x HTTP/1.1\r\nHost: a\r\nCookie: c\r\nMax-Forwards: 0\r\n\r\n");
    assert_eq!(status(&traced), "HTTP/1.1 200 OK");
    assert_eq!(
        body(&traced),
        "TRACE /x HTTP/1.1\r\nhost: a\r\nmax-forwards: 0\r\n\r\n"
    );
    for options in [
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        "OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n",
    ] {
        assert_eq!(status(&answer(options)), "HTTP/1.1 204 No Content");
    }
    let connect = answer("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(status(&connect), "HTTP/1.1 501 Not Implemented");
    assert_eq!(between.connections(), 0);
    between
        .front
        .send("OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 2\r\n\r\n");
    assert!(between.asked(0).contains("max-forwards: 1\r\n"));
}

#[test]
fn a_proxy_whose_upstream_is_itself_ends_the_loop() {
    for (name, passes) in [(None, 4), (Some("edge-1"), 1)] {
        let between = Between::with(|asking| {
            let proxy = ReverseProxy::new(asking, BACK).expect("a URL");
            match name {
                Some(name) => proxy.name(name),
                None => proxy,
            }
        });
        // What it asks comes to it again.
        between.front.get("/");
        let mut request = between.asked_in_full(0);
        for _ in 1..passes {
            between.say(0, OK);
            between.front.answers();
            between.front.send(&request);
            request = between.asked_in_full(0);
        }
        between.say(0, OK);
        between.front.answers();
        between.front.send(&request);
        assert_eq!(
            status(&between.front.answers()),
            "HTTP/1.1 508 Loop Detected"
        );
    }
}

#[test]
fn a_server_that_cannot_be_reached_is_502_and_whoever_looks_after_it_hears_why() {
    let heard = Rc::new(RefCell::new(Vec::new()));
    let hears = Rc::clone(&heard);
    let between = Between::with(|asking| {
        let proxy = ReverseProxy::new(asking, "http://user:secret@back:9000").expect("a URL");
        proxy.on_failure(move |failure| hears.borrow_mut().push(failure.to_string()))
    });
    between.dialled.refusing.borrow_mut().push(BACK);
    between.front.get("/a");
    let answer = between.front.answers();
    assert_eq!(status(&answer), "HTTP/1.1 502 Bad Gateway");
    assert!(
        !answer.contains("back"),
        "the client does not learn of it: {answer}"
    );
    assert_eq!(*heard.borrow(), ["GET http://back:9000/a: refused"]);
}

#[test]
fn a_server_that_is_too_slow_is_504() {
    let between = reverse();
    between.front.get("/");
    between.front.wait(59);
    assert_eq!(between.front.answers(), "");
    between.front.wait(2);
    assert_eq!(
        status(&between.front.answers()),
        "HTTP/1.1 504 Gateway Timeout"
    );
    assert!(!between.is_open(0));
    // And so is one that is not even connected to in time.
    let between = reverse();
    between.dialled.hanging.set(true);
    between.front.get("/");
    between.front.wait(31);
    assert_eq!(
        status(&between.front.answers()),
        "HTTP/1.1 504 Gateway Timeout"
    );
}

#[test]
fn where_too_many_wait_already_it_is_503() {
    let limits = ClientLimits {
        per_origin: 1,
        waiting: 1,
        ..ClientLimits::default()
    };
    let between = Between::within(limits, |asking| {
        Site::new(ReverseProxy::new(asking, BACK).expect("a URL"))
    });
    for _ in 0..3 {
        between.front.get("/");
    }
    between.say(0, OK);
    between.say(0, OK);
    let answers = between.front.answers();
    assert_eq!(
        answers.matches("HTTP/1.1 200 OK\r\n").count(),
        2,
        "{answers}"
    );
    assert_eq!(
        answers
            .matches("HTTP/1.1 503 Service Unavailable\r\n")
            .count(),
        1
    );
}

#[test]
fn a_server_that_ends_before_its_response_is_502_and_a_post_is_never_repeated() {
    let between = reverse();
    between.front.get("/");
    between.server(0).end();
    assert_eq!(status(&between.front.answers()), "HTTP/1.1 502 Bad Gateway");
    // On a connection that was used before, what can do no harm is asked once more.
    between.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n", OK);
    between.front.get("/again");
    between.server(1).end();
    assert!(between.asked(2).starts_with("GET /again "));
    between.say(2, OK);
    assert_eq!(status(&between.front.answers()), "HTTP/1.1 200 OK");
    between
        .front
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
    between.server(2).end();
    assert_eq!(status(&between.front.answers()), "HTTP/1.1 502 Bad Gateway");
    assert_eq!(between.connections(), 3);
}

#[test]
fn a_client_that_goes_away_takes_its_request_back() {
    let between = reverse();
    between.front.get("/");
    assert!(between.is_open(0));
    between.front.stream.end();
    assert!(!between.is_open(0));
    assert_eq!(between.asking.pool().waiting, 0);
    // Also in the middle of a response of which much is left.
    let between = reverse();
    between.front.get("/");
    between.say(0, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nbegin");
    between.front.stream.end();
    between
        .front
        .reactor
        .turn(Some(Duration::ZERO))
        .expect("it turns");
    assert!(!between.is_open(0));
}

#[test]
fn servers_take_turns_and_one_that_cannot_be_reached_is_passed_over() {
    let heard = Rc::new(RefCell::new(0));
    let hears = Rc::clone(&heard);
    let between = Between::with(|asking| {
        let proxy = ReverseProxy::new(asking, "http://one").expect("a URL");
        let proxy = proxy.and("http://two").expect("a URL");
        let proxy = proxy.and("http://three").expect("a URL");
        proxy.on_failure(move |_| *hears.borrow_mut() += 1)
    });
    between.dialled.refusing.borrow_mut().push("http://two");
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
    for _ in 0..12 {
        between.front.send(post);
        let last = between.connections() - 1;
        for index in 0..=last {
            if !between.asked(index).is_empty() {
                between.say(index, OK);
            }
        }
        assert_eq!(status(&between.front.answers()), "HTTP/1.1 200 OK");
    }
    let origins = between.dialled.origins.borrow();
    let tries = origins.iter().filter(|it| *it == "http://two").count();
    assert_eq!(tries, 3, "then it is left alone: {origins:?}");
    assert_eq!(*heard.borrow(), 3);
    assert_eq!(
        between.connections(),
        2,
        "the others are asked on one connection each"
    );
}

#[test]
fn a_body_that_is_under_way_is_not_sent_to_another_server() {
    let between = Between::with(|asking| {
        let proxy = ReverseProxy::new(asking, "http://one").expect("a URL");
        proxy.and("http://two").expect("a URL")
    });
    between.dialled.refusing.borrow_mut().push("http://one");
    between
        .front
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nhi");
    assert_eq!(status(&between.front.answers()), "HTTP/1.1 502 Bad Gateway");
    assert_eq!(*between.dialled.origins.borrow(), ["http://one"]);
}

#[test]
fn an_upstream_has_a_url_that_can_be_asked() {
    let reactor = virtual_time_reactor();
    let client = http::Client::new(&reactor);
    for url in [
        "back:9000",
        "/a",
        "ftp://a/",
        "http://a/?query",
        "http:///",
        "not a url",
    ] {
        let problem: Option<BadUrl> = ReverseProxy::new(&client, url).err();
        assert!(problem.is_some(), "{url}");
    }
}

#[test]
fn a_layer_stands_between_the_proxy_and_the_upstream() {
    use torsade::protocols::http::{Body, ClientRequest, Fetch, Response};
    let between = Between::with(|asking| {
        let proxy = ReverseProxy::new(asking, BACK).expect("a URL");
        proxy.through(|fetch: Rc<dyn Fetch>| {
            move |request: ClientRequest| match request.uri().path() {
                "/kept" => succeed(Response::new(Body::from("kept"))),
                _ => fetch.fetch(request),
            }
        })
    });
    between.front.get("/kept");
    assert_eq!(body(&between.front.answers()), "kept");
    assert_eq!(between.connections(), 0);
    let answer = between.exchange("GET /else HTTP/1.1\r\nHost: a\r\n\r\n", OK);
    assert_eq!(body(&answer), "ok");
}

#[test]
fn a_cache_knows_pages_by_what_the_client_asked_for() {
    use torsade::protocols::http::Cache;
    use torsade::protocols::http::cache::CacheKind;
    let clock = virtual_time_reactor();
    let between = Between::with(|asking| {
        let proxy = ReverseProxy::new(asking, "http://one").expect("a URL");
        let proxy = proxy.and("http://two").expect("a URL").preserve_host();
        let cache = Cache::new(&clock, CacheKind::Shared);
        proxy.through(|fetch| cache.around(fetch))
    });
    let kept = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 1\r\n\r\n";
    let ask = |host: &str| {
        between
            .front
            .send(format!("GET /page HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    };
    ask("a.example");
    between.say(0, format!("{kept}A"));
    assert_eq!(body(&between.front.answers()), "A");
    ask("b.example");
    assert_eq!(between.connections(), 2, "that is another page");
    between.say(1, format!("{kept}B"));
    assert_eq!(body(&between.front.answers()), "B");
    for (host, page) in [("a.example", "A"), ("b.example", "B"), ("A.example", "A")] {
        ask(host);
        assert_eq!(body(&between.front.answers()), page, "whoever's turn it is");
    }
}

#[test]
fn rfc9112_9_3_2_pipelined_requests_go_together_only_if_they_are_safe() {
    let between = reverse();
    let get = "GET /get HTTP/1.1\r\nHost: a\r\n\r\n";
    let post = "POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx";
    between.front.send([get, get, post, get, get].concat());
    assert_eq!(between.connections(), 2, "the first two");
    between.say(1, OK);
    assert_eq!(between.connections(), 2, "the first of all is not answered");
    between.asked(0);
    between.asked(1);
    between.say(0, OK);
    between.front.turn();
    assert!(between.asked(0).starts_with("POST /post "), "it is alone");
    assert_eq!((between.asked(1).as_str(), between.connections()), ("", 2));
    between.say(0, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n");
    between.front.turn();
    assert_eq!(between.asked(1), "", "to its end");
    between.say(0, "post");
    between.front.turn();
    assert_eq!(between.connections(), 2);
    for index in [0, 1] {
        assert!(between.asked(index).starts_with("GET /get "));
        between.say(index, OK);
    }
    let answers = between.front.answers();
    assert_eq!(answers.matches("HTTP/1.1 200 OK\r\n").count(), 5);
    assert_eq!(answers.matches("\r\n\r\npost").count(), 1);
}

#[test]
fn a_client_that_goes_away_takes_back_what_waits_behind_too() {
    let between = reverse();
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx";
    between.front.send(post.repeat(3));
    between.front.stream.end();
    between.front.turn();
    assert_eq!(between.connections(), 1, "the others were never asked");
    assert!(!between.is_open(0));
}
