//! Clients, caches and an origin whose pages change, on simulated networks under faults: a cache in a proxy, and
//! one in each client.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use torsade::prelude::*;
use torsade::protocols::http::cache::{Cache, CacheCounts, CacheKind, CacheLimits};
use torsade::protocols::http::{
    Body, BodyError, BodySender, Client, ClientError, ClientRequest, Fetch, Request, Response,
    ReverseProxy, Site, StatusCode,
};
use torsade::reactor::task::defer_later;
use torsade::reactor::testing::{FaultRates, Swarm};

const SECOND: Duration = Duration::from_secs(1);

/// Little enough that not everything is stored.
const LIMITS: CacheLimits = CacheLimits {
    bytes: 80_000,
    entry: 40_000,
    entries: 100,
    variants: 2,
    unwanted: 10_000,
};

/// A kind of page: what it says of caches, and for how long it may be used after it has changed.
struct Kind {
    control: &'static str,
    old_for: u64,
    varies: bool,
    size: usize,
    /// It comes in pieces, of a length that is not announced.
    is_slow: bool,
}

const KINDS: [Kind; 7] = [
    kind("max-age=5", 5, false, 300, false),
    kind("s-maxage=8", 8, false, 20_000, true),
    kind(
        "max-age=3, stale-while-revalidate=4",
        7,
        false,
        5_000,
        false,
    ),
    kind("no-cache", 0, false, 2_000, false),
    kind("no-store", 0, false, 500, true),
    kind("private, max-age=60", 0, false, 500, false),
    kind("max-age=4", 4, true, 9_000, true),
];

const fn kind(
    control: &'static str,
    old_for: u64,
    varies: bool,
    size: usize,
    is_slow: bool,
) -> Kind {
    Kind {
        control,
        old_for,
        varies,
        size,
        is_slow,
    }
}

/// When each page had which version: the index is the version.
type History = Rc<RefCell<BTreeMap<usize, Vec<Instant>>>>;

/// What page `number` is in that version, for who accepts that: whatever is mixed in is seen.
fn text(number: usize, version: usize, accept: &str) -> String {
    let kind = &KINDS[number];
    let accept = if kind.varies { accept } else { "all" };
    let line = format!("page {number} version {version} for {accept}; ");
    line.repeat(1 + (kind.size + 37 * version) / line.len())
}

fn version_now(history: &History, number: usize) -> usize {
    history.borrow().get(&number).map_or(0, Vec::len)
}

fn change(history: &History, number: usize, now: Instant) {
    history.borrow_mut().entry(number).or_default().push(now);
}

/// The origin: pages that change by POST.
fn origin(reactor: &Reactor, history: &History) -> Site {
    let (reactor, history) = (reactor.clone(), Rc::clone(history));
    Site::new(move |request: Request| {
        let number = request.path().trim_start_matches('/').parse();
        let number: usize = number.expect("it is a page");
        let mut response = Response::new(Body::empty());
        if request.method() == "POST" {
            change(&history, number, reactor.now());
            *response.status_mut() = StatusCode::NO_CONTENT;
            return response;
        }
        let (kind, version) = (&KINDS[number], version_now(&history, number));
        let accept = request.header_text("accept").unwrap_or_default().to_owned();
        let etag = format!("\"{version}\"");
        let fields = response.headers_mut();
        fields.insert("etag", etag.parse().expect("a value"));
        fields.insert("cache-control", kind.control.parse().expect("a value"));
        if kind.varies {
            fields.insert("vary", "accept".parse().expect("a value"));
        }
        if request.header_text("if-none-match") == Some(&*etag) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return response;
        }
        let text = text(number, version, &accept);
        *response.body_mut() = if kind.is_slow {
            let (sender, body) = Body::channel();
            write_slowly(&reactor, sender, text.into_bytes());
            body
        } else {
            Body::from(text)
        };
        response
    })
}

fn write_slowly(reactor: &Reactor, sender: BodySender, mut text: Vec<u8>) {
    let rest = text.split_off(text.len().min(3_000));
    if sender.write(text).is_err() {
        return;
    }
    if rest.is_empty() {
        return sender.finish();
    }
    let again = reactor.clone();
    reactor.call_later(Duration::from_millis(150), move || {
        write_slowly(&again, sender, rest);
    });
}

/// What all clients know.
#[derive(Clone)]
struct World {
    history: History,
    /// The version that each page has at least for who asks now: a change came back through the same cache.
    changed: Rc<RefCell<BTreeMap<usize, usize>>>,
    right: Rc<Cell<u32>>,
    failed: Rc<Cell<u32>>,
}

/// A client that asks so often.
struct Asking {
    reactor: Reactor,
    fetch: Rc<dyn Fetch>,
    /// Whom it asks.
    server: &'static str,
    world: World,
    number: u64,
    left: u32,
}

impl Asking {
    fn draw(&mut self, below: u64) -> usize {
        self.number = self
            .number
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.number >> 33) % below).expect("it is small")
    }

    fn go_on(mut self) -> Deferred<()> {
        if self.left == 0 {
            return succeed(());
        }
        self.left -= 1;
        let page = self.draw(KINDS.len() as u64);
        let pause = Duration::from_millis(self.draw(1500) as u64);
        let asked = if self.draw(12) == 0 {
            self.post(page)
        } else {
            self.get(page)
        };
        let world = self.world.clone();
        asked.add_both(move |outcome| {
            match outcome {
                Ok(()) => world.right.set(world.right.get() + 1),
                Err(failure) => {
                    let is_told = failure.check::<ClientError>() || failure.check::<BodyError>();
                    assert!(is_told, "{failure}");
                    world.failed.set(world.failed.get() + 1);
                }
            }
            let clock = self.reactor.clone();
            defer_later(&clock, pause, move || self.go_on())
        })
    }

    fn post(&self, page: usize) -> Deferred<()> {
        let world = self.world.clone();
        let before = version_now(&world.history, page);
        let posted = self.fetch.fetch(self.request("POST", page));
        posted.add_callback(move |response| {
            if response.status() == StatusCode::NO_CONTENT {
                let mut changed = world.changed.borrow_mut();
                let least = changed.entry(page).or_default();
                *least = (*least).max(before + 1);
            }
            Ok(())
        })
    }

    fn request(&self, method: &str, page: usize) -> ClientRequest {
        let uri = format!("http://{}/{page}", self.server);
        let request = ClientRequest::<()>::builder().method(method).uri(uri);
        request.body(Body::empty()).expect("it is a request")
    }

    fn get(&mut self, page: usize) -> Deferred<()> {
        let kind = &KINDS[page];
        let accept = ["text", "json", "any"][self.draw(3)];
        let mut request = self.request("GET", page);
        request
            .headers_mut()
            .insert("accept", accept.parse().expect("a value"));
        let range = match self.draw(5) {
            0 => Some((10, 99)),
            _ => None,
        };
        if let Some((first, last)) = range {
            let value = format!("bytes={first}-{last}");
            request
                .headers_mut()
                .insert("range", value.parse().expect("a value"));
        }
        let world = self.world.clone();
        let least = world.changed.borrow().get(&page).copied().unwrap_or(0);
        let (clock, begun) = (self.reactor.clone(), self.reactor.now());
        self.fetch.fetch(request).add_callback(move |response| {
            let (heads, ended) = (response.headers().clone(), clock.now());
            let status = response.status();
            if status.is_server_error() {
                // The proxy does not reach the origin.
                return fail(BodyError::Abandoned);
            }
            let said = heads["cache-status"]
                .to_str()
                .expect("it is text")
                .to_owned();
            let version = heads["etag"]
                .to_str()
                .expect("it is text")
                .trim_matches('"');
            let version: usize = version.parse().expect("a version");
            check_time(
                &world.history,
                page,
                version,
                begun,
                ended,
                kind.old_for,
                &said,
            );
            assert!(
                version >= least,
                "page {page}: {version} after {least}: {said}"
            );
            let whole = text(page, version, accept);
            let expected = match (status.as_u16(), range) {
                (206, Some((first, last))) => whole[first..=last].to_owned(),
                (200, _) => whole,
                (status, _) => panic!("{status} for {page}: {said}"),
            };
            response.into_body().read_text(1 << 20).map(move |got| {
                assert!(
                    got == expected,
                    "page {page} version {version} is {got:.200}: {said}"
                );
            })
        })
    }
}

/// What came was what the origin had at some time from `old_for` seconds before it was asked for.
#[track_caller]
fn check_time(
    history: &History,
    page: usize,
    version: usize,
    begun: Instant,
    ended: Instant,
    old_for: u64,
    said: &str,
) {
    let history = history.borrow();
    let changes = history.get(&page).map_or(&[][..], Vec::as_slice);
    let is_since = version.checked_sub(1).is_none_or(|it| changes[it] <= ended);
    let until = changes.get(version);
    let oldest = begun.checked_sub(Duration::from_secs(old_for));
    let is_until = until.is_none_or(|until| oldest.is_none_or(|oldest| *until >= oldest));
    assert!(
        is_since && is_until,
        "page {page} version {version}, asked {begun:?} to {ended:?}, changes {changes:?}: {said}"
    );
}

/// Whatever goes wrong on the way: what comes is what the origin had at a time that the freshness allows,
/// whole and of one version; who has changed a page does not see what was before; and what is held stays
/// within the limit, and nothing is left under way.
#[test]
fn in_every_seed_the_cache_gives_what_the_origin_had() {
    let command = "cargo test --test it in_every_seed_the_cache_gives";
    let (right, failed) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let sums = RefCell::new(CacheCounts::default());
    Swarm::new(command).seeds(30).run(|simulation| {
        let history = History::default();
        let kept = Rc::clone(&history);
        simulation.host("origin").start(move |reactor| {
            drop(
                origin(reactor, &kept)
                    .listen(reactor, ":80")
                    .expect("the port is free"),
            );
        });
        let has_faults = simulation.seed() % 2 == 0;
        if has_faults {
            simulation.inject_faults(&FaultRates {
                until: SECOND * 30,
                lasts_max: SECOND * 4,
                partitions: 2.0,
                cuts: 6.0,
                holds: 3.0,
                degradations: 3.0,
                // Times of two hosts are compared.
                drifts: 0.0,
                ..Default::default()
            });
        }
        let (caches, mut under_way) = (Rc::<RefCell<Vec<Cache>>>::default(), Vec::new());
        // A server says it when the body of a response breaks off, as that of a proxy does, and that would be
        // taken for a mistake here: with faults each client has a cache of its own.
        let made = Rc::clone(&caches);
        simulation.host("proxy").start(move |reactor| {
            let cache = Cache::new(reactor, CacheKind::Shared).limits(LIMITS);
            made.borrow_mut().push(cache.clone());
            let proxy = ReverseProxy::new(&Client::new(reactor), "http://origin");
            let proxy = proxy.expect("a URL").through(|fetch| cache.around(fetch));
            drop(
                Site::new(proxy)
                    .listen(reactor, ":80")
                    .expect("the port is free"),
            );
        });
        let (right, failed) = (Rc::clone(&right), Rc::clone(&failed));
        let failed_before = failed.get();
        let shared = Rc::default();
        for index in 0..2_u64 {
            let host = simulation.host(&format!("client{index}"));
            let client = Client::new(&host.reactor());
            let (fetch, server, changed): (Rc<dyn Fetch>, _, _) = if has_faults {
                let cache = Cache::new(&host.reactor(), CacheKind::Shared).limits(LIMITS);
                caches.borrow_mut().push(cache.clone());
                (Rc::new(cache.around(client)), "origin", Rc::default())
            } else {
                (Rc::new(client), "proxy", Rc::clone(&shared))
            };
            let world = World {
                history: Rc::clone(&history),
                changed,
                right: Rc::clone(&right),
                failed: Rc::clone(&failed),
            };
            for line in 0..4 {
                let asking = Asking {
                    reactor: host.reactor(),
                    fetch: Rc::clone(&fetch),
                    server,
                    world: world.clone(),
                    number: simulation.seed() * 8 + index * 4 + line,
                    left: 30,
                };
                under_way.push(asking.go_on());
            }
        }
        simulation.run_for(SECOND * 1200);
        for done in under_way {
            torsade::reactor::testing::success_of(done);
        }
        let are_right = has_faults || failed.get() == failed_before;
        assert!(are_right, "nothing went wrong");
        for cache in &*caches.borrow() {
            let counts = cache.counts();
            assert_eq!(counts.under_way, 0);
            assert!(counts.bytes <= LIMITS.bytes, "{counts:?}");
            let mut sums = sums.borrow_mut();
            sums.hits += counts.hits;
            sums.validated += counts.validated;
            sums.collapsed += counts.collapsed;
            sums.evicted += counts.evicted;
        }
    });
    assert!(right.get() > 0 && failed.get() > 0, "both were seen");
    let sums = sums.borrow();
    let seen = [sums.hits, sums.validated, sums.collapsed, sums.evicted];
    assert!(seen.iter().all(|count| *count > 0), "{sums:?}");
}
