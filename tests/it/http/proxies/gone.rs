//! Clients that go away while their requests are under way, and those that only look like it.

use super::*;
use torsade::protocols::http::cache::{Cache, CacheKind};
use torsade::protocols::http::{ForwardProxy, IntoAnswer, Request, Response, ReverseProxy};

fn reverse() -> Between {
    Between::with(|asking| ReverseProxy::new(asking, "http://back").expect("a URL"))
}

fn forward() -> Between {
    Between::with(|asking| ForwardProxy::new(asking).allow_local())
}

const GET: &str = "GET http://back/ HTTP/1.1\r\nHost: back\r\n\r\n";

/// The client ends its stream, and what is asked of the server ends with that.
#[track_caller]
fn check_gone(between: &Between) {
    between.front.stream.end_read();
    assert!(between.front.is_closed(), "nothing is said to it any more");
    between.front.stream.end();
    between.front.turn();
    assert!(!between.is_open(0), "the server is not kept busy");
}

#[test]
fn a_client_that_ends_its_stream_takes_its_request_back() {
    for between in [reverse(), forward()] {
        between.front.send(GET);
        assert!(between.is_open(0));
        check_gone(&between);
        assert_eq!(between.front.answers(), "");
    }
}

#[test]
fn a_client_that_ends_its_stream_in_the_middle_of_a_response_takes_it_back() {
    for between in [reverse(), forward()] {
        between.front.send(GET);
        between.say(0, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nbegin");
        assert!(between.front.answers().ends_with("begin"));
        check_gone(&between);
    }
}

#[test]
fn a_client_that_ends_its_stream_behind_a_response_has_had_all_of_it() {
    let between = reverse();
    assert!(between.exchange(GET, OK).ends_with("\r\n\r\nok"));
    between.front.stream.end_read();
    between.front.turn();
    assert!(between.front.is_closed());
    assert!(between.is_open(0), "the next one may use it");
}

#[test]
fn a_client_that_has_only_ended_its_stream_is_served_where_that_is_wanted() {
    let reverse = Between::with(|asking| {
        let proxy = ReverseProxy::new(asking, "http://back");
        proxy.expect("a URL").serve_half_closed()
    });
    let forward = Between::with(|asking| {
        let proxy = ForwardProxy::new(asking).allow_local();
        proxy.serve_half_closed()
    });
    for between in [reverse, forward] {
        between.front.send(GET);
        between.front.stream.end_read();
        between.front.turn();
        between.say(0, OK);
        between.front.turn();
        let answers = between.front.answers();
        assert!(answers.ends_with("\r\n\r\nok"), "{answers}");
        assert!(between.front.is_closed());
    }
}

#[test]
fn what_was_asked_before_is_answered_first() {
    let own = Rc::new(RefCell::new(Vec::new()));
    let waiting = Rc::clone(&own);
    let between = Between::with(move |asking| {
        let proxy = ReverseProxy::new(asking, "http://back").expect("a URL");
        move |request: Request| {
            if request.path() == "/own" {
                let (trigger, deferred) = Deferred::<Response>::new();
                waiting.borrow_mut().push(trigger);
                return deferred.into_answer();
            }
            proxy.handle(request)
        }
    });
    let own_page = "GET /own HTTP/1.1\r\nHost: a\r\n\r\n";
    between.front.send(format!("{own_page}{GET}{own_page}"));
    between.front.stream.end_read();
    between.front.turn();
    assert!(between.is_open(0), "its turn has not come");
    let first = own.borrow_mut().remove(0);
    first.callback(Response::new("mine".into()));
    between.front.turn();
    let answers = between.front.answers();
    assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{answers}");
    assert!(answers.ends_with("mine"));
    assert!(between.front.is_closed());
    between.front.stream.end();
    assert!(!between.is_open(0));
    let last = own.borrow_mut().remove(0);
    assert!(!last.is_open(), "nobody waits behind it");
}

#[test]
fn a_body_that_came_whole_does_not_keep_a_client_that_is_gone() {
    let between = reverse();
    between
        .front
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
    check_gone(&between);
}

#[test]
fn what_others_wait_for_too_goes_on_without_one_of_them() {
    let clock = virtual_time_reactor();
    let cache = Cache::new(&clock, CacheKind::Shared);
    let mut site = None;
    let between = Between::within(ClientLimits::default(), |asking| {
        let proxy = ReverseProxy::new(asking, "http://back").expect("a URL");
        let made = Site::new(proxy.through(|fetch| cache.around(fetch)));
        site.insert(made).clone()
    });
    between.front.send(GET);
    let second = Client::at(&between.front.reactor, &site.expect("it is made"));
    second.send(GET);
    assert_eq!(between.connections(), 1, "they wait for one answer");
    between.front.stream.end_read();
    between.front.stream.end();
    assert!(between.is_open(0));
    let answer = "HTTP/1.1 200 OK\r\nCache-Control: max-age=9\r\nContent-Length: 2\r\n\r\nok";
    between.say(0, answer);
    between.front.turn();
    assert!(second.answers().ends_with("\r\n\r\nok"));
    assert_eq!(between.front.answers(), "");
}
