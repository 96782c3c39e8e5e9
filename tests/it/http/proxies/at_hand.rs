//! What most clients ask for alike, out of a cache, without a request being made of theirs.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use torsade::prelude::*;
use torsade::protocols::http::cache::{CacheKind, Cached};
use torsade::protocols::http::{
    Cache, ClientRequest, Fetch, InterimHook, KeptResponse, PlainGet, Response, ReverseProxy,
};
use torsade::reactor::testing::virtual_time_reactor;

use super::Between;

/// A cache, and how often it was given a request.
struct Counted {
    cached: Cached,
    requests: Rc<Cell<u32>>,
}

impl Fetch for Counted {
    fn fetch(&self, request: ClientRequest) -> Deferred<Response> {
        self.requests.set(self.requests.get() + 1);
        self.cached.fetch(request)
    }

    fn fetch_with_interims(
        &self,
        request: ClientRequest,
        hook: &InterimHook,
    ) -> Deferred<Response> {
        self.requests.set(self.requests.get() + 1);
        self.cached.fetch_with_interims(request, hook)
    }

    fn at_hand(&self, asked: &PlainGet<'_>) -> Option<KeptResponse> {
        self.cached.at_hand(asked)
    }
}

/// Each with what it is kept for, 60 seconds, and whether it is at hand: it is a 200 that says nothing that a proxy may have to
/// change, and is the same for all.
const ANSWERS: [(&str, bool); 9] = [
    ("200 OK\r\nETag: \"a\"\r\nContent-Type: text/plain", true),
    (
        "200 OK\r\nAge: 5\r\nDate: Sat, 01 Jan 2000 00:00:00 GMT\r\nLast-Modified: Fri, 31 Dec 1999 00:00:00 GMT",
        true,
    ),
    (
        "200 OK\r\nConnection: x-hop, close\r\nX-Hop: 1\r\nX-Both: 1\r\nX-Both: 2",
        true,
    ),
    ("200 OK\r\nVary: accept", false),
    ("200 OK\r\nLocation: http://back/else", false),
    ("200 OK\r\nContent-Location: http://back/else", false),
    (
        "200 OK\r\nSet-Cookie: a=b; Path=/\r\nCache-Control: public",
        false,
    ),
    ("404 Not Found\r\nX-Why: gone", false),
    (
        "200 OK\r\nCache-Control: no-cache=\"x-own\"\r\nX-Own: 1\r\nContent-Encoding: gzip",
        true,
    ),
];

fn lines(answer: &str) -> Vec<&str> {
    let mut lines: Vec<_> = answer.split("\r\n").collect();
    lines.sort_unstable();
    lines
}

#[test]
fn what_is_at_hand_is_what_is_looked_up_otherwise() {
    for (stored, is_at_hand) in ANSWERS {
        let (clock, requests) = (virtual_time_reactor(), Rc::new(Cell::new(0)));
        let between = Between::with(|asking| {
            let proxy = ReverseProxy::new(asking, "http://back").expect("a URL");
            let cache = Cache::new(&clock, CacheKind::Shared);
            proxy.through(|fetch| Counted {
                cached: cache.around(fetch),
                requests: Rc::clone(&requests),
            })
        });
        let ask = |fields: &str| {
            let head = format!("GET /page?x HTTP/1.1\r\nHost: Here:80\r\n{fields}\r\n");
            between.front.send(head);
            between.front.answers()
        };
        assert_eq!(ask(""), "");
        between.say(
            0,
            format!(
                "HTTP/1.1 {stored}\r\nCache-Control: max-age=60\r\nContent-Length: 4\r\n\r\npage"
            ),
        );
        assert!(
            between.front.answers().ends_with("\r\n\r\npage"),
            "{stored}"
        );
        for _ in 0..3 {
            requests.set(0);
            let at_hand = ask("");
            assert_eq!(requests.get() == 0, is_at_hand, "{stored}");
            assert!(
                at_hand.contains("cache-status: torsade; hit; ttl="),
                "{at_hand}"
            );
            assert!(at_hand.contains("\r\nage: "), "{at_hand}");
            // It means nothing, and a cache has to look at it.
            requests.set(0);
            assert_eq!(lines(&at_hand), lines(&ask("Pragma: nothing\r\n")));
            assert_eq!(requests.get(), 1, "{stored}");
            assert_eq!(lines(&at_hand), lines(&ask("")));
            let passed = sleep(&clock, Duration::from_secs(7));
            clock.run_until(passed).expect("time passes");
        }
        between.asked(0);
        let passed = sleep(&clock, Duration::from_secs(60));
        clock.run_until(passed).expect("time passes");
        assert_eq!(ask(""), "", "{stored}");
    }
}

#[test]
fn what_a_request_says_to_caches_is_heard() {
    let clock = virtual_time_reactor();
    let between = Between::with(|asking| {
        let proxy = ReverseProxy::new(asking, "http://back").expect("a URL");
        let cache = Cache::new(&clock, CacheKind::Shared);
        proxy.through(|fetch| cache.around(fetch))
    });
    let kept = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nETag: \"a\"\r\n\
                Content-Length: 4\r\n\r\npage";
    let ask = |request: &str| {
        between.front.send(format!("{request}\r\n\r\n"));
        let answer = between.front.answers();
        answer.lines().next().unwrap_or_default().to_owned()
    };
    let get = "GET /page HTTP/1.1\r\nHost: here";
    assert_eq!(ask(get), "");
    between.say(0, kept);
    between.front.answers();
    for (field, expected) in [
        ("X-Else: x", "HTTP/1.1 200 OK"),
        ("Range: bytes=0-1", "HTTP/1.1 206 Partial Content"),
        ("If-None-Match: \"a\"", "HTTP/1.1 304 Not Modified"),
        (
            "if-modified-since: Sat, 01 Jan 2028 00:00:00 GMT",
            "HTTP/1.1 304 Not Modified",
        ),
        (
            "Via: 1.1 torsade, 1.1 torsade, 1.1 torsade, 1.1 torsade",
            "HTTP/1.1 508 Loop Detected",
        ),
    ] {
        assert_eq!(ask(&format!("{get}\r\n{field}")), expected, "{field}");
    }
    assert_eq!(ask("HEAD /page HTTP/1.1\r\nHost: here"), "HTTP/1.1 200 OK");
    assert_eq!(ask("GET /page HTTP/1.0\r\nHost: here"), "HTTP/1.1 200 OK");
}

#[test]
fn who_wants_it_anew_gets_it_from_the_server() {
    for field in [
        "Cache-Control: no-cache",
        "cache-control: max-age=0",
        "Pragma: no-cache",
    ] {
        let clock = virtual_time_reactor();
        let between = Between::with(|asking| {
            let proxy = ReverseProxy::new(asking, "http://back").expect("a URL");
            let cache = Cache::new(&clock, CacheKind::Shared);
            proxy.through(|fetch| cache.around(fetch))
        });
        let kept = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 4\r\n\r\npage";
        between.front.get("/page");
        between.say(0, kept);
        between.asked(0);
        assert!(between.front.answers().ends_with("page"));
        let passed = sleep(&clock, Duration::from_secs(1));
        clock.run_until(passed).expect("time passes");
        between.front.send(format!(
            "GET /page HTTP/1.1\r\nHost: here\r\n{field}\r\n\r\n"
        ));
        assert_eq!(between.front.answers(), "", "{field}");
        assert!(between.asked(0).starts_with("GET /page "), "{field}");
    }
}
