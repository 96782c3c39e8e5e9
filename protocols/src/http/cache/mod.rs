//! A cache in memory (RFC 9111), around whatever fetches: a client, or what a proxy asks its servers
//! with.
//!
//! ```no_run
//! use torsade_protocols::http::cache::{Cache, CacheKind};
//! use torsade_protocols::http::{self, Client, ReverseProxy};
//! use torsade_reactor::Reactor;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let reactor = Reactor::new()?;
//! let client = Client::new(&reactor);
//! let cache = Cache::new(&reactor, CacheKind::Shared);
//! let proxy = ReverseProxy::new(&client, "http://127.0.0.1:9000")?;
//! let proxy = proxy.through(|fetch| cache.around(fetch));
//! let server = http::serve(&reactor, "127.0.0.1:8080", proxy)?;
//! # drop(server);
//! # Ok(())
//! # }
//! ```
//!
//! # What is done
//!
//! | RFC 9111 | |
//! | --- | --- |
//! | §3 | answers to GET are stored, whole ones; §3.5 `Authorization`, `private`, `s-maxage` in a shared cache; `must-understand` |
//! | §3.2, §4.3.4 | 304 freshens what is stored; §4.3.5 so does HEAD, or ends it; §3.5 but not what others have, if it is one's own |
//! | §4 | a fresh answer goes out with its `Age`, to HEAD, too; several that want the same wait for one answer, if that may be stored |
//! | §4.1 | `Vary`: several answers to one target, [so many](CacheLimits::variants) |
//! | §4.2 | `s-maxage`, `max-age`, `Expires`, and a tenth of the time since `Last-Modified`, up to a day |
//! | §4.2.4 | stale ones: `max-stale`; RFC 5861: `stale-while-revalidate`, `stale-if-error`. Never where `must-revalidate`, `no-cache`, or, in a shared cache, `proxy-revalidate` or `s-maxage` forbid it |
//! | §4.3.2 | the client's `If-None-Match` and `If-Modified-Since` are answered with 304; ranges with parts of what is stored whole |
//! | §4.4 | what changes a target ends what is stored for it and for `Location` and `Content-Location` of the same origin; what is under way then is not stored. So does a change of which nobody knows whether it was made |
//! | §5.2.2.4, §5.2.2.7 | fields that `no-cache="..."` and, in a shared cache, `private="..."` name go to who asked, and nobody else |
//! | §5.2.1 | `no-cache`, `no-store`, `max-age`, `min-fresh`, `max-stale`, `only-if-cached` (504) |
//! | RFC 9211 | `Cache-Status` says what was done |
//!
//! # Order
//!
//! Who waits for the same answer gets it in the order of asking. Interim responses (RFC 9110 §15.2) are for who asked
//! first; they are not kept. A body goes to who takes it while it comes.
//!
//! # Not here
//!
//! Parts are not put together: an answer with 206 is not stored. What is coded is not decoded. Nothing is kept
//! on disk. A `Handler` cannot be cached: its requests are a server's.
//!
//! # Files
//!
//! Pure: `freshness.rs` (what may be stored and used), `store.rs`, `plan.rs` (what a request allows), `answer.rs`,
//! `status.rs`. The rim: `lookup.rs`, `flight.rs` (what is under way), `recording.rs` (bodies).

mod answer;
mod control;
mod flight;
pub mod freshness;
mod lookup;
mod plan;
mod recording;
mod status;
pub mod store;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, Method, StatusCode, Uri};
use torsade_deferred::Deferred;
use torsade_reactor::{Reactor, WeakReactor};

use super::client::ClientRequest;
use super::fetch::{Fetch, InterimHook, PlainGet};
use super::kept::KeptResponse;
use super::response::Response;

pub use self::freshness::CacheKind;
pub use self::store::{CacheKey, CacheLimits};

use self::flight::Flight;
use self::store::CacheStore;

/// A cache in memory. A cheap clone; clones share what is stored.
///
/// It is bounded by [`CacheLimits`]; what was longest out of use goes first. Bodies go to the client while
/// they come, and are stored when they have come to their end; what is broken off is not stored. A
/// client that goes away in the middle ends the fetch, unless others take it, too, or
/// [little](CacheLimits::unwanted) is left.
///
/// # Collapsing
///
/// While a request for a target waits for its answer, further ones wait with it. When the head comes and
/// says that all may have it, they do; else each of them asks for itself, and for that target nobody waits
/// any more until an answer can be stored. A failure is everybody's. With a body that turns out to be
/// larger than may be stored the slowest of those who take it sets the pace.
///
/// # Cancellation
///
/// Cancelling a fetch cancels what it asked, if nobody else waits for that.
///
/// # Reentrancy
///
/// May be called from every callback, of a fetch, too.
#[derive(Clone)]
pub struct Cache {
    core: Rc<CacheCore>,
}

pub(super) struct CacheCore {
    reactor: WeakReactor,
    kind: CacheKind,
    name: Box<str>,
    stands_in: Duration,
    store: RefCell<CacheStore>,
    /// What is under way, by what it is for. Invariant: no list is empty.
    flights: RefCell<BTreeMap<CacheKey, Vec<Rc<Flight>>>>,
    /// Hashes of the targets whose last answer could not be stored: nobody waits for one.
    unshared: RefCell<BTreeSet<u64>>,
    counts: Cell<CacheCounts>,
}

/// How many [unshared](CacheCore::unshared) targets are remembered.
const UNSHARED_MAX: usize = 4096;

/// What a cache has, and has done.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct CacheCounts {
    /// Answers that are stored.
    pub entries: usize,
    /// Bytes that they are counted for, and those that are coming.
    pub bytes: usize,
    /// Requests that are under way to the origin and may be stored.
    pub under_way: usize,
    /// Requests that were answered from what is stored.
    pub hits: u64,
    /// Requests that went on to the origin, those that asked whether an answer holds among them.
    pub forwarded: u64,
    /// Answers that the origin said still hold.
    pub validated: u64,
    /// Requests that waited for another's answer and got it.
    pub collapsed: u64,
    /// Answers that were let go because there was no room.
    pub evicted: u64,
}

/// In the extensions of a request: the target that a cache takes it for, where that is not its URI. For who
/// asks one of several servers for the same thing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CacheTarget(pub Uri);

impl Cache {
    /// An empty one. It does not keep `reactor` alive, and caches nothing when that is gone.
    #[must_use]
    pub fn new(reactor: &Reactor, kind: CacheKind) -> Self {
        let core = CacheCore {
            reactor: reactor.downgrade(),
            kind,
            name: "torsade".into(),
            stands_in: Duration::ZERO,
            store: RefCell::new(CacheStore::new(CacheLimits::default())),
            flights: RefCell::default(),
            unshared: RefCell::default(),
            counts: Cell::default(),
        };
        Self {
            core: Rc::new(core),
        }
    }

    fn build(mut self, change: impl FnOnce(&mut CacheCore)) -> Self {
        let core = Rc::get_mut(&mut self.core);
        change(core.expect("a cache is changed before it is cloned or used"));
        self
    }

    /// How much it keeps.
    ///
    /// # Panics
    ///
    /// As all of these: if the cache has been cloned, or used.
    #[must_use]
    pub fn limits(self, limits: CacheLimits) -> Self {
        self.build(|core| core.store = RefCell::new(CacheStore::new(limits)))
    }

    /// What it calls itself in `Cache-Status`: `torsade`, by default. Visible ASCII; what is not is
    /// written as `?`.
    #[must_use]
    pub fn name(self, name: &str) -> Self {
        let is_visible = |it: char| it.is_ascii_graphic() || it == ' ';
        let visible = |it: char| if is_visible(it) { it } else { '?' };
        let name: String = name.chars().map(visible).collect();
        self.build(|core| core.name = name.into())
    }

    /// For how long a stale answer stands in when the origin cannot be asked or answers 500, 502, 503 or
    /// 504, if nobody says so (`stale-if-error`): not at all, by default. Where the origin forbids stale
    /// answers it never does.
    #[must_use]
    pub fn stale_if_error(self, limit: Duration) -> Self {
        self.build(|core| core.stands_in = limit)
    }

    /// Answers a request from what is stored, or with what `next` gets.
    ///
    /// Fires when the head of the response is there, at once if it is stored. Fails as `next` does.
    pub fn fetch(&self, request: ClientRequest, next: &Rc<dyn Fetch>) -> Deferred<Response> {
        self.core.fetch(request, next, None)
    }

    /// As [`fetch`](Self::fetch), and tells `hook`, if there is one, of the interim responses that come before.
    pub(super) fn fetch_and_tell(
        &self,
        request: ClientRequest,
        next: &Rc<dyn Fetch>,
        hook: Option<&InterimHook>,
    ) -> Deferred<Response> {
        self.core.fetch(request, next, hook)
    }

    /// Hears of a request that did not come this way, and of what was said to it, if anything was.
    pub(super) fn note_change(
        &self,
        method: &Method,
        target: &Uri,
        host: Option<&str>,
        said: Option<(StatusCode, &HeaderMap)>,
    ) {
        self.core.note_change(method, target, host, said);
    }

    /// The same as one value: a fetch with this cache before it. As a proxy's layer:
    /// `proxy.through(move |fetch| cache.around(fetch))`.
    #[must_use]
    pub fn around(&self, next: impl Fetch) -> Cached {
        Cached {
            cache: self.clone(),
            next: Rc::new(next),
        }
    }

    /// Lets go what is stored for a target, whatever fields of the request it depends on. What is under way is
    /// not stored.
    pub fn invalidate(&self, target: &Uri) {
        self.core.invalidate(&CacheKey::new(target, None));
    }

    /// Lets everything go. What is under way is not stored.
    pub fn clear(&self) {
        self.core.clear();
    }

    /// What it has, and has done.
    #[must_use]
    pub fn counts(&self) -> CacheCounts {
        let store = self.core.store.borrow();
        let flights = self.core.flights.borrow();
        CacheCounts {
            entries: store.len(),
            bytes: store.used(),
            evicted: store.evicted(),
            under_way: flights.values().map(Vec::len).sum(),
            ..self.core.counts.get()
        }
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("kind", &self.core.kind)
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}

/// A fetch with a [`Cache`] before it; made by [`Cache::around`]. A cheap clone.
#[derive(Clone)]
pub struct Cached {
    cache: Cache,
    next: Rc<dyn Fetch>,
}

impl Cached {
    /// The cache.
    #[must_use]
    pub fn cache(&self) -> &Cache {
        &self.cache
    }
}

impl Fetch for Cached {
    fn fetch(&self, request: ClientRequest) -> Deferred<Response> {
        self.cache.fetch(request, &self.next)
    }

    fn fetch_with_interims(
        &self,
        request: ClientRequest,
        hook: &InterimHook,
    ) -> Deferred<Response> {
        self.cache.fetch_and_tell(request, &self.next, Some(hook))
    }

    fn at_hand(&self, asked: &PlainGet<'_>) -> Option<KeptResponse> {
        self.cache.core.at_hand(asked)
    }
}

impl fmt::Debug for Cached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cached").field(&self.cache).finish()
    }
}

impl CacheCore {
    fn now(&self) -> Option<SystemTime> {
        Some(self.reactor.upgrade()?.system_time())
    }

    fn count(&self, change: impl FnOnce(&mut CacheCounts)) {
        let mut counts = self.counts.get();
        change(&mut counts);
        self.counts.set(counts);
    }
}
