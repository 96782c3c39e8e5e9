//! What comes before the response, through the proxies: RFC 9110 §15.2.

use super::*;
use torsade::protocols::http::cache::{Cache, CacheKind};
use torsade::protocols::http::{ForwardProxy, ReverseProxy, Routes};

const GET: &str = "GET http://back/ HTTP/1.1\r\nHost: back\r\n\r\n";
const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n";
const TOLD: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n";

fn reverse() -> Between {
    Between::with(|asking| ReverseProxy::new(asking, "http://back").expect("a URL"))
}

fn forward() -> Between {
    Between::with(|asking| ForwardProxy::new(asking).allow_local())
}

#[test]
fn hints_go_through_before_the_response() {
    for between in [reverse(), forward()] {
        between.front.send(GET);
        between.say(0, HINTS);
        between.front.turn();
        assert_eq!(between.front.answers(), TOLD, "at once");
        between.say(
            0,
            "HTTP/1.1 102 Processing\r\nConnection: x\r\nX: 1\r\n\r\n",
        );
        between.front.turn();
        let processing = "HTTP/1.1 102 Processing\r\n\r\n";
        assert_eq!(between.front.answers(), processing, "x was for one hop");
        between.say(0, OK);
        between.front.turn();
        assert!(between.front.answers().starts_with("HTTP/1.1 200 OK\r\n"));
    }
}

#[test]
fn cookies_in_hints_are_told_as_those_of_the_response_are() {
    for leaves in [false, true] {
        let between = Between::with(|asking| {
            let proxy = ReverseProxy::new(asking, "http://back/v1").expect("a URL");
            let proxy = if leaves { proxy.leave_cookies() } else { proxy };
            Routes::new().nest("/api", proxy).expect("a route")
        });
        let hints = "HTTP/1.1 103 Early Hints\r\nSet-Cookie: a=1; Path=/v1/x; Domain=back\r\n\r\n";
        let request = "GET /api/ HTTP/1.1\r\nHost: front\r\n\r\n";
        let answers = between.exchange(request, &format!("{hints}{OK}"));
        let cookie = match leaves {
            true => "a=1; Path=/v1/x; Domain=back",
            false => "a=1; Path=/api/x",
        };
        let told = format!("HTTP/1.1 103 Early Hints\r\nset-cookie: {cookie}\r\n\r\n");
        assert!(answers.starts_with(&told), "{answers}");
    }
}

#[test]
fn hints_and_the_response_may_come_together() {
    for between in [reverse(), forward()] {
        let answers = between.exchange(GET, &format!("{HINTS}{OK}"));
        let rest = answers.strip_prefix(TOLD).expect("they are first");
        assert!(rest.starts_with("HTTP/1.1 200 OK\r\n"), "{rest}");
    }
}

#[test]
fn a_client_of_1_0_and_one_who_never_asked_to_go_on_are_told_nothing() {
    for between in [reverse(), forward()] {
        let request = "GET http://back/ HTTP/1.0\r\n\r\n";
        let answers = between.exchange(request, &format!("{HINTS}{OK}"));
        assert!(answers.starts_with("HTTP/1.1 200 OK\r\n"), "{answers}");
    }
    for between in [reverse(), forward()] {
        let continues = format!("HTTP/1.1 100 Continue\r\n\r\n{OK}");
        let answers = between.exchange(GET, &continues);
        assert!(answers.starts_with("HTTP/1.1 200 OK\r\n"), "{answers}");
    }
}

#[test]
fn hints_wait_for_the_responses_before_them() {
    let between = reverse();
    between.front.send(GET.repeat(2));
    between.say(1, HINTS);
    between.front.turn();
    assert_eq!(between.front.answers(), "");
    between.say(0, OK);
    between.front.turn();
    let answers = between.front.answers();
    assert!(answers.starts_with("HTTP/1.1 200 OK\r\n") && answers.ends_with(TOLD));
}

#[test]
fn hints_go_through_a_cache_to_who_asked_and_are_not_kept() {
    let clock = virtual_time_reactor();
    let cache = Cache::new(&clock, CacheKind::Shared);
    let between = Between::with(|asking| {
        let proxy = ReverseProxy::new(asking, "http://back").expect("a URL");
        proxy.through(|fetch| cache.around(fetch))
    });
    let kept = "HTTP/1.1 200 OK\r\nCache-Control: max-age=9\r\nContent-Length: 2\r\n\r\nok";
    let answers = between.exchange(GET, &format!("{HINTS}{kept}"));
    assert!(answers.starts_with(TOLD), "{answers}");
    between.front.send(GET);
    let answers = between.front.answers();
    assert!(answers.starts_with("HTTP/1.1 200 OK\r\n"), "{answers}");
    // What goes past the cache does so with its hints, too.
    for request in [
        "POST / HTTP/1.1\r\nHost: back\r\n\r\n",
        "HEAD /x HTTP/1.1\r\nHost: back\r\n\r\n",
    ] {
        between.front.send(request);
        between.say(0, HINTS);
        between.front.turn();
        assert_eq!(between.front.answers(), TOLD, "{request}");
        between.say(0, "HTTP/1.1 204 No Content\r\n\r\n");
        between.front.turn();
        assert!(between.front.answers().starts_with("HTTP/1.1 204 "));
    }
}
