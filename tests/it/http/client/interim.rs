//! Interim responses, as a client sees them: RFC 9110 §15.2.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use torsade::deferred::Canceller;
use torsade::prelude::*;
use torsade::protocols::http::cache::{Cache, CacheKind};
use torsade::protocols::http::{
    Body, ClientRequest, Fetch, HeaderMap, InterimHook, Response, StatusCode,
};
use torsade::reactor::testing::{for_every_chunking, no_result};

use super::caching::net_with;
use super::{Net, OK, error, shown};

const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nLink: </b>\r\n\r\n";

type Seen = Rc<RefCell<Vec<String>>>;

/// Who writes down what it is told.
fn hook() -> (InterimHook, Seen) {
    let seen = Seen::default();
    let log = Rc::clone(&seen);
    let hook = InterimHook::new(move |status: StatusCode, headers: &HeaderMap| {
        let links = headers.get_all("link").iter();
        let links: Vec<_> = links.map(|it| it.to_str().expect("it is text")).collect();
        let line = format!("{} {}", status.as_u16(), links.join(" "));
        log.borrow_mut().push(line);
    });
    (hook, seen)
}

fn request(url: &str) -> ClientRequest {
    let request = ClientRequest::get(url).body(Body::empty());
    request.expect("it is a request")
}

fn ask(net: &Net, hook: &InterimHook) -> Deferred<Response> {
    net.client
        .request_with_interims(request("http://here/"), hook)
}

#[test]
fn who_asks_is_told_of_each_before_the_response_in_every_chunking() {
    let wire = format!("HTTP/1.1 102 Processing\r\n\r\n{HINTS}{HINTS}{OK}");
    for_every_chunking(wire.as_bytes(), |chunks| {
        let net = Net::new();
        let (hook, seen) = hook();
        let log = Rc::clone(&seen);
        let response = ask(&net, &hook).map(move |response| {
            log.borrow_mut().push("response".into());
            response
        });
        for chunk in chunks {
            net.say(0, chunk);
        }
        assert_eq!(shown(response), "200 OK: ok");
        let expected = ["102 ", "103 </a> </b>", "103 </a> </b>", "response"];
        assert_eq!(*seen.borrow(), expected);
    });
}

#[test]
fn they_are_told_when_they_come_and_not_with_the_response() {
    let net = Net::new();
    let (hook, seen) = hook();
    let response = ask(&net, &hook);
    net.say(0, HINTS);
    assert_eq!(seen.borrow().len(), 1);
    no_result(&response);
    net.say(0, OK);
    shown(response);
}

#[test]
fn who_passes_on_is_told_too() {
    let net = Net::new();
    let (hook, seen) = hook();
    let response = net
        .client
        .forward_with_interims(request("http://here/"), &hook);
    net.say(0, format!("{HINTS}{OK}"));
    shown(response);
    assert_eq!(*seen.borrow(), ["103 </a> </b>"]);
}

#[test]
fn the_word_to_go_on_is_told_and_heeded() {
    let net = Net::new();
    let (hook, seen) = hook();
    let request = ClientRequest::post("http://here/").header("expect", "100-continue");
    let request = request.body(Body::from("body")).expect("it is a request");
    let response = net.client.request_with_interims(request, &hook);
    assert!(net.asked(0).ends_with("\r\n\r\n"));
    net.say(0, "HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(net.asked(0), "body");
    assert_eq!(*seen.borrow(), ["100 "]);
    net.say(0, OK);
    shown(response);
}

#[test]
fn each_hop_of_a_redirect_is_told() {
    let net = Net::new();
    let (hook, seen) = hook();
    let response = ask(&net, &hook);
    let moved = "HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n";
    net.say(0, format!("{HINTS}{moved}"));
    net.say(0, format!("{HINTS}{OK}"));
    shown(response);
    assert_eq!(seen.borrow().len(), 2);
}

#[test]
fn a_cache_lets_them_through() {
    let net = Net::new();
    let cache = Cache::new(&net.reactor, CacheKind::Private);
    let cached = cache.around(net.client.clone());
    let (hook, seen) = hook();
    let response = cached.fetch_with_interims(request("http://here/"), &hook);
    net.say(0, format!("{HINTS}{OK}"));
    shown(response);
    assert_eq!(*seen.borrow(), ["103 </a> </b>"]);
}

#[test]
fn the_cache_of_a_client_lets_them_through() {
    let net = net_with(|client| client);
    let (hook, seen) = hook();
    let response = ask(&net, &hook);
    net.say(0, format!("{HINTS}{OK}"));
    shown(response);
    assert_eq!(*seen.borrow(), ["103 </a> </b>"]);
}

#[test]
fn those_that_come_before_what_breaks_the_rules_are_told() {
    let net = Net::new();
    let (hook, seen) = hook();
    let response = ask(&net, &hook);
    net.say(0, format!("{HINTS}HTTP/1.1 what\r\n\r\n"));
    assert_eq!(*seen.borrow(), ["103 </a> </b>"]);
    assert!(error(response).to_string().contains("bad response"));
}

#[test]
fn the_hook_may_cancel_the_request() {
    let net = Net::new();
    let place = Rc::new(RefCell::new(None::<Canceller>));
    let canceller = Rc::clone(&place);
    let hook = InterimHook::new(move |_, _| {
        let canceller = canceller.take();
        canceller.expect("it is told once").cancel();
    });
    let response = ask(&net, &hook);
    place.replace(Some(response.canceller()));
    net.say(0, HINTS);
    net.settle();
    let failure = torsade::reactor::testing::failure_of(response);
    assert!(failure.check::<Interrupted>(), "{failure}");
    assert!(!net.is_open(0));
}

/// Where a hook finds the canceller that it uses when it is told the first time.
type Place = Rc<RefCell<Option<Canceller>>>;

/// One that cancels, and how often it was told.
fn cancelling_hook() -> (InterimHook, Place, Rc<Cell<u32>>) {
    let place = Place::default();
    let told = Rc::new(Cell::new(0));
    let (canceller, count) = (Rc::clone(&place), Rc::clone(&told));
    let hook = InterimHook::new(move |_, _| {
        count.set(count.get() + 1);
        let canceller = canceller.take();
        if let Some(canceller) = canceller {
            canceller.cancel();
        }
    });
    (hook, place, told)
}

#[test]
fn a_request_that_the_hook_cancels_follows_no_redirect_and_hears_nothing_more() {
    let moved = "HTTP/1.1 302 Found\r\nLocation: /there\r\n";
    for rest in [
        format!("{HINTS}{moved}Content-Length: 9\r\n\r\nun"),
        format!("{HINTS}{moved}Content-Length: 0\r\n\r\n"),
        format!("{HINTS}{moved}\r\n"),
        format!("{HINTS}{OK}"),
    ] {
        for net in [Net::new(), net_with(|client| client)] {
            let (hook, place, told) = cancelling_hook();
            let response = ask(&net, &hook);
            place.replace(Some(response.canceller()));
            net.asked(0);
            net.say(0, format!("{HINTS}{rest}"));
            net.settle();
            let failure = torsade::reactor::testing::failure_of(response);
            assert!(failure.check::<Interrupted>(), "{failure}");
            assert_eq!(net.asked(0), "", "{rest}");
            assert_eq!(net.connections(), 1, "{rest}");
            assert_eq!(told.get(), 1, "{rest}");
        }
    }
}

#[test]
fn who_has_its_answer_hears_nothing_of_what_the_cache_asks_meanwhile() {
    let net = net_with(|client| client);
    let (hook, seen) = hook();
    let response = ask(&net, &hook);
    let fields = "Cache-Control: max-age=10, stale-while-revalidate=60\r\nETag: \"1\"\r\n";
    net.say(
        0,
        format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\nok"),
    );
    assert_eq!(shown(response), "200 OK: ok");
    net.pass(Duration::from_secs(15));
    net.asked(0);
    assert_eq!(shown(ask(&net, &hook)), "200 OK: ok");
    net.turn();
    assert!(net.asked(0).contains("if-none-match"), "it is asked");
    net.say(
        0,
        format!("{HINTS}HTTP/1.1 304 Not Modified\r\n{fields}\r\n"),
    );
    assert!(seen.borrow().is_empty());
    // It was heeded.
    assert_eq!(shown(ask(&net, &hook)), "200 OK: ok");
    assert_eq!(net.asked(0), "");
}

#[test]
fn who_has_cancelled_hears_nothing_of_what_others_wait_for() {
    let net = net_with(|client| client);
    let (hook, seen) = hook();
    let first = ask(&net, &hook);
    let second = net.client.get("http://here/");
    net.turn();
    first.cancel();
    drop(first.add_errback(|_| Ok(Response::default())));
    net.turn();
    let fields = "Cache-Control: max-age=10\r\nContent-Length: 2\r\n";
    net.say(0, format!("{HINTS}HTTP/1.1 200 OK\r\n{fields}\r\nok"));
    assert_eq!(shown(second), "200 OK: ok");
    assert!(seen.borrow().is_empty());
}
