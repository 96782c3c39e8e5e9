//! The cache, before an origin that is made of a test, in virtual time.

mod bodies;
mod changes;
mod directives;
mod programs;
mod sharing;
mod simulated;
mod validation;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use torsade::prelude::*;
use torsade::protocols::http::cache::{Cache, CacheKind, CacheLimits};
use torsade::protocols::http::dates::format_date;
use torsade::protocols::http::{Body, ClientRequest, Fetch, HeaderMap, Response};
use torsade::reactor::task::sleep;
use torsade::reactor::testing::{no_result, success_of, virtual_time_reactor};

/// A cache and its origin, which answers when the test says so.
struct Scene {
    reactor: Reactor,
    cache: Cache,
    next: Rc<dyn Fetch>,
    asked: Rc<RefCell<VecDeque<Asked>>>,
}

/// What came to the origin.
struct Asked {
    headers: HeaderMap,
    trigger: Trigger<Response>,
}

impl Scene {
    fn of(kind: CacheKind) -> Self {
        Self::with(kind, |cache| cache)
    }

    fn shared() -> Self {
        Self::of(CacheKind::Shared)
    }

    fn with_limits(limits: CacheLimits) -> Self {
        Self::with(CacheKind::Shared, |cache| cache.limits(limits))
    }

    fn with(kind: CacheKind, set_up: impl FnOnce(Cache) -> Cache) -> Self {
        let reactor = virtual_time_reactor();
        let asked = Rc::<RefCell<VecDeque<Asked>>>::default();
        let came = Rc::clone(&asked);
        let next = move |request: ClientRequest| {
            let (parts, _) = request.into_parts();
            let (trigger, deferred) = Deferred::new();
            came.borrow_mut().push_back(Asked {
                headers: parts.headers,
                trigger,
            });
            deferred
        };
        Self {
            cache: set_up(Cache::new(&reactor, kind)),
            reactor,
            next: Rc::new(next),
            asked,
        }
    }

    /// A client asks: `GET /path`, and fields.
    fn ask(&self, line: &str) -> Deferred<Response> {
        let (line, fields) = line.split_once('\n').unwrap_or((line, ""));
        let (method, path) = line.split_once(' ').expect("a method and a path");
        let mut request = ClientRequest::new(Body::empty());
        *request.method_mut() = method.parse().expect("a method");
        *request.uri_mut() = format!("http://origin{path}").parse().expect("a URI");
        *request.headers_mut() = self.headers(fields);
        self.cache.fetch(request, &self.next)
    }

    /// How many requests came to the origin that it has not answered.
    fn unanswered(&self) -> usize {
        self.asked.borrow().len()
    }

    /// The first request that the origin has not answered.
    #[track_caller]
    fn next(&self) -> Asked {
        let asked = self.asked.borrow_mut().pop_front();
        asked.expect("the origin is asked")
    }

    /// The origin answers the first: with a status, fields, an empty line and the body.
    #[track_caller]
    fn answer(&self, text: &str) -> Asked {
        let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
        self.answer_with(head, Body::from(body.to_owned()))
    }

    #[track_caller]
    fn answer_with(&self, head: &str, body: Body) -> Asked {
        let mut asked = self.next();
        let (status, fields) = head.split_once('\n').unwrap_or((head, ""));
        let mut response = Response::new(body);
        *response.status_mut() = status.parse().expect("a status");
        *response.headers_mut() = self.headers(fields);
        let (unused, _) = Deferred::new();
        let trigger = std::mem::replace(&mut asked.trigger, unused);
        trigger.callback(response);
        asked
    }

    /// A client asks for what nobody has, and the origin answers.
    #[track_caller]
    fn get(&self, line: &str, answer: &str) -> String {
        let response = self.ask(line);
        no_result(&response);
        self.answer(answer);
        shown(response)
    }

    /// A client asks for what is stored.
    #[track_caller]
    fn hit(&self, line: &str) -> String {
        let response = self.ask(line);
        assert_eq!(self.unanswered(), 0, "the origin is not asked");
        shown(response)
    }

    /// `@-5` is the date of five seconds before now.
    fn headers(&self, fields: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for field in fields.lines() {
            let (name, value) = field.split_once(": ").expect("a field");
            let value = match value.strip_prefix('@') {
                Some(seconds) => {
                    let seconds: i64 = seconds.parse().expect("a number");
                    let now = self.reactor.system_time();
                    let distance = Duration::from_secs(seconds.unsigned_abs());
                    let at = if seconds < 0 {
                        now - distance
                    } else {
                        now + distance
                    };
                    format_date(at)
                }
                None => value.to_owned(),
            };
            let name: http::HeaderName = name.parse().expect("a name");
            headers.append(name, value.parse().expect("a value"));
        }
        headers
    }

    fn pass(&self, seconds: u64) {
        let time = Duration::from_secs(seconds);
        let slept = self.reactor.run_until(sleep(&self.reactor, time));
        slept.expect("nobody stops it");
    }
}

/// A response: its status, its body, and what the cache says that it did, without its name.
#[track_caller]
fn shown(response: Deferred<Response>) -> String {
    let response = success_of(response);
    let status = response.status().as_u16();
    let done = done(&response);
    let body = success_of(response.into_body().read_text(1 << 20));
    format!("{status} {body} ({done})")
}

/// What the cache says that it did.
fn done(response: &Response) -> String {
    let status = response.headers().get("cache-status");
    let status = status.and_then(|it| it.to_str().ok()).unwrap_or("nothing");
    status
        .strip_prefix("torsade; ")
        .unwrap_or(status)
        .to_owned()
}

/// The value of a field.
fn field(response: &Response, name: &str) -> Option<String> {
    let value = response.headers().get(name)?;
    Some(value.to_str().expect("it is text").to_owned())
}
