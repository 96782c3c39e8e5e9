//! Clients, caches and servers whose pages change, on simulated networks under faults: a cache in a proxy between them, and
//! one in each client.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use torsade::prelude::*;
use torsade::protocols::http::cache::{Cache, CacheCounts, CacheKind, CacheLimits};
use torsade::protocols::http::{
    Body, BodyError, BodySender, Client, ClientError, ClientRequest, Fetch, Request, Response,
    ReverseProxy, Server, Site, StatusCode,
};
use torsade::reactor::task::defer_later;
use torsade::reactor::testing::{FaultRates, Simulation, Swarm};

const SECOND: Duration = Duration::from_secs(1);

/// Little enough that not everything is stored.
const LIMITS: CacheLimits = CacheLimits {
    bytes: 90_000,
    entry: 40_000,
    entries: 100,
    variants: 3,
    unwanted: 10_000,
};

/// A kind of page: what it says of caches, and for how long it may be used after it has changed.
struct Kind {
    control: &'static str,
    old_for: u64,
    varies: bool,
    /// Each user has a page of his own.
    is_personal: bool,
    size: usize,
    /// It comes in pieces, of a length that is not announced.
    is_slow: bool,
}

const KINDS: [Kind; 12] = [
    kind("max-age=5", 5).sized(300),
    kind("s-maxage=8", 8).sized(20_000).slow(),
    kind("max-age=3, stale-while-revalidate=4", 7).sized(5_000),
    kind("max-age=2, stale-if-error=6", 8).sized(2_000),
    kind("no-cache", 0).sized(2_000),
    kind("no-store", 0).sized(500).slow(),
    kind("max-age=4", 4).sized(9_000).varying().slow(),
    kind("max-age=6", 6).sized(700).varying(),
    // Each answer of a server has a field of its user's.
    kind("max-age=5, private=\"x-user\"", 5).sized(400),
    kind("private, max-age=60", 0).sized(500).personal(),
    // Nothing but who asks says that it is for one alone.
    kind("max-age=60", 0).sized(3_000).personal().slow(),
    kind("max-age=60, must-revalidate, no-cache", 0)
        .sized(800)
        .personal(),
];

const fn kind(control: &'static str, old_for: u64) -> Kind {
    Kind {
        control,
        old_for,
        varies: false,
        is_personal: false,
        size: 0,
        is_slow: false,
    }
}

impl Kind {
    const fn sized(self, size: usize) -> Self {
        Self { size, ..self }
    }

    const fn slow(self) -> Self {
        Self {
            is_slow: true,
            ..self
        }
    }

    const fn varying(self) -> Self {
        Self {
            varies: true,
            ..self
        }
    }

    const fn personal(self) -> Self {
        Self {
            is_personal: true,
            ..self
        }
    }
}

/// Who asks, and for what of a page that depends on it.
#[derive(Clone)]
struct Wants {
    accept: &'static str,
    language: &'static str,
    user: String,
}

/// When each page had which version: the index is the version.
type History = Rc<RefCell<BTreeMap<usize, Vec<Instant>>>>;

/// What page `number` is in that version, for who wants that: whatever is mixed in is seen.
fn text(number: usize, version: usize, wants: &Wants) -> String {
    let kind = &KINDS[number];
    let mut who = String::from("all");
    if kind.varies {
        who = format!("{} in {}", wants.accept, wants.language);
    }
    if kind.is_personal {
        who = wants.user.clone();
    }
    let line = format!("page {number} version {version} for {who}; ");
    line.repeat(1 + (kind.size + 37 * version) / line.len())
}

fn version_now(history: &History, number: usize) -> usize {
    history.borrow().get(&number).map_or(0, Vec::len)
}

/// A server: pages that change by POST.
fn origin(reactor: &Reactor, history: &History) -> Site {
    let (reactor, history) = (reactor.clone(), Rc::clone(history));
    Site::new(move |request: Request| {
        let number = request.path().trim_start_matches('/').parse();
        let number: usize = number.expect("it is a page");
        let mut response = Response::new(Body::empty());
        if request.method() == "POST" {
            let mut history = history.borrow_mut();
            history.entry(number).or_default().push(reactor.now());
            *response.status_mut() = StatusCode::NO_CONTENT;
            return response;
        }
        let (kind, version) = (&KINDS[number], version_now(&history, number));
        let user = match kind.is_personal {
            true => request.header_text("authorization").unwrap_or_default(),
            false => "",
        };
        let etag = format!("\"{version}-{user}\"");
        let fields = response.headers_mut();
        if let Some(user) = request.header_text("x-user") {
            fields.insert("x-user", user.parse().expect("a value"));
        }
        fields.insert("etag", etag.parse().expect("a value"));
        fields.insert("cache-control", kind.control.parse().expect("a value"));
        if kind.varies {
            fields.append("vary", "accept-language, accept".parse().expect("a value"));
        }
        if request.header_text("if-none-match") == Some(&*etag) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return response;
        }
        let known = |name: &str, all: &[&'static str]| {
            let said = request.header_text(name).unwrap_or_default();
            *all.iter().find(|it| **it == said).unwrap_or(&"nothing")
        };
        let wants = Wants {
            accept: known("accept", &ACCEPTED),
            language: known("accept-language", &LANGUAGES),
            user: user.to_owned(),
        };
        let text = text(number, version, &wants);
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

const ACCEPTED: [&str; 2] = ["text", "json"];
const LANGUAGES: [&str; 2] = ["en", "de"];

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

/// What came of what was asked.
#[derive(Default)]
struct Tally {
    right: Cell<u32>,
    failed: Cell<u32>,
    given_up: Cell<u32>,
}

/// What all clients of one cache know.
#[derive(Clone)]
struct World {
    history: History,
    /// The version that each page has at least for who asks now: a change came back through the same cache.
    changed: Rc<RefCell<BTreeMap<usize, usize>>>,
    /// All caches: those that a proxy had before it crashed, too.
    caches: Rc<RefCell<Vec<Cache>>>,
    tally: Rc<Tally>,
}

impl World {
    fn check_bounds(&self) {
        for cache in &*self.caches.borrow() {
            let counts = cache.counts();
            assert!(counts.bytes <= LIMITS.bytes, "{counts:?}");
            assert!(counts.entries <= LIMITS.entries, "{counts:?}");
        }
    }
}

/// One who asks so often, one thing after the other.
struct Asking {
    fetch: Rc<dyn Fetch>,
    /// Whom it asks.
    host: &'static str,
    reactor: Reactor,
    user: String,
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
        let mut asked = match self.draw(12) {
            0 => self.post(page),
            _ => self.get(page),
        };
        let gives_up = self.draw(8) == 0;
        if gives_up {
            let patience = Duration::from_millis(self.draw(600) as u64);
            asked = asked.add_timeout(patience, &self.reactor);
        }
        let world = self.world.clone();
        asked.add_both(move |outcome| {
            world.check_bounds();
            let tally = &world.tally;
            let counted = match outcome {
                Ok(()) => &tally.right,
                Err(failure) if failure.check::<Interrupted>() => {
                    assert!(gives_up, "{failure}");
                    &tally.given_up
                }
                Err(failure) => {
                    let is_told = failure.check::<ClientError>() || failure.check::<BodyError>();
                    assert!(is_told, "{failure}");
                    &tally.failed
                }
            };
            counted.set(counted.get() + 1);
            let clock = self.reactor.clone();
            defer_later(&clock, pause, move || self.go_on())
        })
    }

    fn request(&self, method: &str, page: usize) -> ClientRequest {
        let uri = format!("http://{}/{page}", self.host);
        let request = ClientRequest::<()>::builder().method(method).uri(uri);
        request.body(Body::empty()).expect("it is a request")
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

    fn get(&mut self, page: usize) -> Deferred<()> {
        let wants = Wants {
            accept: ACCEPTED[self.draw(2)],
            language: LANGUAGES[self.draw(2)],
            user: self.user.clone(),
        };
        let method = if self.draw(10) == 0 { "HEAD" } else { "GET" };
        let mut request = self.request(method, page);
        let mut set = |name: &'static str, value: &str| {
            let value = value.parse().expect("a value");
            request.headers_mut().insert(name, value);
        };
        set("accept", wants.accept);
        set("accept-language", wants.language);
        if KINDS[page].control.contains("x-user") {
            set("x-user", &wants.user);
        }
        if KINDS[page].is_personal {
            set("authorization", &wants.user);
        }
        let range = (self.draw(5) == 0 && method == "GET").then_some((10, 99));
        if let Some((first, last)) = range {
            set("range", &format!("bytes={first}-{last}"));
        }
        // What it says of caches, and how much older than others it may get a page; `None`: not even that old.
        let (said, patience) = match self.draw(12) {
            0 => ("no-cache", None),
            1 => ("max-age=1", Some(KINDS[page].old_for.min(1))),
            2 => ("max-stale=3", Some(KINDS[page].old_for + 3)),
            3 => ("min-fresh=1", Some(KINDS[page].old_for.saturating_sub(1))),
            4 => ("only-if-cached", Some(KINDS[page].old_for)),
            _ => ("", Some(KINDS[page].old_for)),
        };
        if !said.is_empty() {
            set("cache-control", said);
        }
        // `stale-if-error` overrules what is not `no-cache`.
        let by_error = match KINDS[page].control.contains("stale-if-error") {
            true => KINDS[page].old_for,
            false => 0,
        };
        let expected = Expected {
            page,
            wants,
            range,
            is_head: method == "HEAD",
            may_be_unavailable: said == "only-if-cached",
            old_for: patience.map_or(0, |it| it.max(by_error)),
            least: *self.world.changed.borrow().get(&page).unwrap_or(&0),
            begun: self.reactor.now(),
        };
        let (world, clock) = (self.world.clone(), self.reactor.clone());
        let asked = self.fetch.fetch(request);
        asked.add_callback(move |response| expected.check(response, &world, clock.now()))
    }
}

/// What may come for a request.
struct Expected {
    page: usize,
    wants: Wants,
    range: Option<(usize, usize)>,
    is_head: bool,
    may_be_unavailable: bool,
    /// In seconds.
    old_for: u64,
    least: usize,
    begun: Instant,
}

impl Expected {
    fn check(self, response: Response, world: &World, ended: Instant) -> Deferred<()> {
        let status = response.status();
        let said = response.headers().get("cache-status");
        let said = said.map_or("", |it| it.to_str().expect("it is text"));
        let said = said.to_owned();
        if self.may_be_unavailable && status == StatusCode::GATEWAY_TIMEOUT {
            return succeed(());
        }
        if status.is_server_error() {
            // The proxy does not reach the servers.
            assert!(matches!(status.as_u16(), 502..=504), "{status}");
            return fail(BodyError::Abandoned);
        }
        let etag = response.headers()["etag"].to_str().expect("it is text");
        let (version, user) = etag
            .trim_matches('"')
            .split_once('-')
            .expect("it has two parts");
        let version: usize = version.parse().expect("a version");
        let (page, kind) = (self.page, &KINDS[self.page]);
        if kind.is_personal {
            assert_eq!(user, self.wants.user, "page {page} is another's: {said}");
            let is_shared = said.contains("; hit") || said.contains("collapsed");
            assert!(!is_shared, "page {page}: {said}");
        }
        if let Some(user) = response.headers().get("x-user") {
            assert_eq!(*user, *self.wants.user, "another's: {said}");
        }
        self.check_time(world, version, ended, &said);
        let least = self.least;
        assert!(version >= least, "{page}: {version} after {least}: {said}");
        let whole = text(page, version, &self.wants);
        let expected = match (status.as_u16(), self.range) {
            _ if self.is_head => String::new(),
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
    }

    /// What came was what the servers had at some time from `old_for` before it was asked for.
    #[track_caller]
    fn check_time(&self, world: &World, version: usize, ended: Instant, said: &str) {
        let (page, begun) = (self.page, self.begun);
        let history = world.history.borrow();
        let changes = history.get(&page).map_or(&[][..], Vec::as_slice);
        let is_since = version.checked_sub(1).is_none_or(|it| changes[it] <= ended);
        let until = changes.get(version);
        let oldest = begun.checked_sub(Duration::from_secs(self.old_for));
        let is_until = until.is_none_or(|until| oldest.is_none_or(|oldest| *until >= oldest));
        assert!(
            is_since && is_until,
            "page {page} version {version}, asked {begun:?} to {ended:?}, changes {changes:?}: {said}"
        );
    }
}

/// What has to be idle in the end.
#[derive(Default)]
struct Idle {
    servers: RefCell<BTreeMap<&'static str, Server>>,
    asking: RefCell<Option<Client>>,
}

/// Where the caches are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Arrangement {
    /// In a proxy before all servers, which all clients ask.
    Proxy,
    /// In each client, which asks one of the servers.
    Clients,
}

fn start(simulation: &Simulation, world: &World, arrangement: Arrangement) -> Rc<Idle> {
    let idle = Rc::<Idle>::default();
    for name in ["one", "two"] {
        let (history, kept) = (Rc::clone(&world.history), Rc::clone(&idle));
        simulation.host(name).start(move |reactor| {
            let server = origin(reactor, &history).listen(reactor, ":80");
            let server = server.expect("the port is free");
            kept.servers.borrow_mut().insert(name, server);
        });
    }
    if arrangement == Arrangement::Clients {
        return idle;
    }
    let (caches, kept) = (Rc::clone(&world.caches), Rc::clone(&idle));
    simulation.host("proxy").start(move |reactor| {
        let cache = Cache::new(reactor, CacheKind::Shared).limits(LIMITS);
        caches.borrow_mut().push(cache.clone());
        let asking = Client::new(reactor);
        let proxy = ReverseProxy::new(&asking, "http://one").and_then(|it| it.and("http://two"));
        let proxy = proxy.expect("URLs").through(|fetch| cache.around(fetch));
        let server = Site::new(proxy).listen(reactor, ":80");
        let server = server.expect("the port is free");
        kept.servers.borrow_mut().insert("proxy", server);
        kept.asking.replace(Some(asking));
    });
    idle
}

#[test]
fn in_every_seed_a_proxy_with_a_cache_gives_what_the_servers_had() {
    let command = "cargo test --test it in_every_seed_a_proxy_with_a_cache";
    check_all(command, Arrangement::Proxy);
}

#[test]
fn in_every_seed_the_cache_of_a_client_gives_what_the_servers_had() {
    let command = "cargo test --test it in_every_seed_the_cache_of_a_client";
    check_all(command, Arrangement::Clients);
}

/// Whatever goes wrong on the way, or to servers and proxy: what a client gets is what they had
/// at a time that the freshness of the page and the client's own words allow, whole, of one version, in the form that
/// it wants, and its own where each has his own; who asks after a change that he was told of does not see what was
/// before. Every request comes to an end, what is held stays within its limit, and in the end nothing is under way.
fn check_all(command: &str, arrangement: Arrangement) {
    let tally = Rc::<Tally>::default();
    let sums = RefCell::new(CacheCounts::default());
    Swarm::new(command).seeds(15).run(|simulation| {
        let world = World {
            history: Rc::default(),
            changed: Rc::default(),
            caches: Rc::default(),
            tally: Rc::clone(&tally),
        };
        let idle = start(simulation, &world, arrangement);
        let hosts = [0, 1].map(|index| simulation.host(&format!("client{index}")));
        let has_faults = !simulation.seed().is_multiple_of(4);
        if has_faults {
            simulation.inject_faults(&FaultRates {
                until: SECOND * 30,
                lasts_max: SECOND * 4,
                partitions: 3.0,
                cuts: 6.0,
                holds: 4.0,
                degradations: 3.0,
                crashes: 2.0,
                // The servers, and the proxy, if there is one.
                mortals: match arrangement {
                    Arrangement::Proxy => vec![0, 1, 2],
                    Arrangement::Clients => vec![0, 1],
                },
                // Times of two hosts are compared.
                drifts: 0.0,
            });
        }
        let failed_before = tally.failed.get();
        let (mut clients, mut under_way) = (Vec::new(), Vec::new());
        for (host, index) in hosts.iter().zip(0_u64..) {
            let client = Client::new(&host.reactor());
            clients.push(client.clone());
            let (fetch, server, world): (Rc<dyn Fetch>, _, _) = match arrangement {
                Arrangement::Proxy => (Rc::new(client), "proxy", world.clone()),
                Arrangement::Clients => {
                    let cache = Cache::new(&host.reactor(), CacheKind::Shared).limits(LIMITS);
                    world.caches.borrow_mut().push(cache.clone());
                    let own = World {
                        changed: Rc::default(),
                        ..world.clone()
                    };
                    (Rc::new(cache.around(client)), "one", own)
                }
            };
            for line in 0..5 {
                let asking = Asking {
                    fetch: Rc::clone(&fetch),
                    host: server,
                    reactor: host.reactor(),
                    user: format!("user{}", line % 3),
                    world: world.clone(),
                    number: simulation.seed() * 16 + index * 8 + line,
                    left: 25,
                };
                under_way.push(asking.go_on());
            }
        }
        simulation.run_for(SECOND * 1200);
        for done in under_way {
            torsade::reactor::testing::success_of(done);
        }
        let are_right = has_faults || tally.failed.get() == failed_before;
        assert!(are_right, "nothing went wrong");
        for client in clients.iter().chain(&*idle.asking.borrow()) {
            assert_eq!(client.pool().open, 0, "idle connections are closed");
            assert_eq!(client.pool().waiting, 0, "nobody waits");
        }
        for (name, server) in &*idle.servers.borrow() {
            assert_eq!(server.connections(), 0, "{name} is idle");
        }
        let caches = world.caches.borrow();
        // What a proxy had that has crashed need not be in order.
        let lasting = match arrangement {
            Arrangement::Proxy => &caches[caches.len() - 1..],
            Arrangement::Clients => &caches[..],
        };
        let mut sums = sums.borrow_mut();
        for cache in lasting {
            let counts = cache.counts();
            assert_eq!(counts.under_way, 0);
            sums.hits += counts.hits;
            sums.validated += counts.validated;
            sums.collapsed += counts.collapsed;
            sums.evicted += counts.evicted;
        }
    });
    let Tally {
        right,
        failed,
        given_up,
    } = &*tally;
    let seen = [right, failed, given_up].map(Cell::get);
    assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
    let sums = sums.borrow();
    let done = [sums.hits, sums.validated, sums.collapsed, sums.evicted];
    assert!(done.iter().all(|count| *count > 0), "{sums:?}");
}
