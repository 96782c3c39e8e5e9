//! The servers behind a proxy, and whose turn it is. Pure.
//!
//! # Order
//!
//! The one with the fewest requests under way; of several, the one after the last. One that has failed a few
//! times in a row is left alone for a while; if all are, the one that has rested longest is asked all the same.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::Uri;
use http::uri::{Authority, PathAndQuery, Scheme};

use super::super::client::{BadUrl, Origin};

/// Failures in a row after which a server is left alone, and for how long.
const FAILURES_MAX: u32 = 3;
const REST: Duration = Duration::from_secs(10);

/// A server behind the proxy.
#[derive(Debug)]
pub(super) struct Upstream {
    scheme: Scheme,
    authority: Authority,
    /// What stands before every path there: without a slash at its end.
    pub(super) base: Box<str>,
    pub(super) origin: Origin,
    /// Requests whose responses have not begun.
    busy: Cell<usize>,
    failures: Cell<u32>,
    rests_until: Cell<Option<Instant>>,
}

impl Upstream {
    pub(super) fn new(url: &Uri) -> Result<Self, BadUrl> {
        let origin = Origin::of(url)?;
        let (Some(scheme), Some(authority)) = (url.scheme(), url.authority()) else {
            return Err(BadUrl::Relative);
        };
        if url.query().is_some() {
            return Err(BadUrl::Malformed);
        }
        Ok(Self {
            scheme: scheme.clone(),
            authority: authority.clone(),
            base: url.path().trim_end_matches('/').into(),
            origin,
            busy: Cell::new(0),
            failures: Cell::new(0),
            rests_until: Cell::new(None),
        })
    }

    /// What a path below is there, with its query; `None` if that is no URL.
    pub(super) fn uri_of(&self, path: &PathAndQuery) -> Option<Uri> {
        let path = if self.base.is_empty() {
            path.clone()
        } else {
            format!("{}{path}", self.base).parse().ok()?
        };
        let uri = Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone());
        uri.path_and_query(path).build().ok()
    }

    /// One more is under way there, until this is dropped.
    pub(super) fn occupy(self: &Rc<Self>) -> Busy {
        self.busy.set(self.busy.get() + 1);
        Busy(Rc::clone(self))
    }

    pub(super) fn succeeded(&self) {
        self.failures.set(0);
        self.rests_until.set(None);
    }

    pub(super) fn failed(&self, now: Instant) {
        let failures = self.failures.get().saturating_add(1);
        self.failures.set(failures);
        if failures >= FAILURES_MAX {
            self.rests_until.set(Some(now + REST));
        }
    }
}

/// A request that is under way.
pub(super) struct Busy(Rc<Upstream>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.set(self.0.busy.get() - 1);
    }
}

/// All servers behind a proxy: one at least.
#[derive(Debug)]
pub(super) struct Upstreams {
    all: Vec<Rc<Upstream>>,
    /// Where the search begins.
    next: Cell<usize>,
    /// Kept from one search to the next.
    candidates: RefCell<Vec<usize>>,
}

impl Upstreams {
    pub(super) fn new(first: Upstream) -> Self {
        Self {
            all: vec![Rc::new(first)],
            next: Cell::new(0),
            candidates: RefCell::default(),
        }
    }

    pub(super) fn add(&mut self, upstream: Upstream) {
        self.all.push(Rc::new(upstream));
    }

    /// Whether there is one of which not everything is to be reached.
    pub(super) fn have_base(&self) -> bool {
        self.all.iter().any(|upstream| !upstream.base.is_empty())
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Whose turn it is, of those that are not in `tried`; `None` if all are.
    pub(super) fn choose(&self, now: Instant, tried: &[Rc<Upstream>]) -> Option<Rc<Upstream>> {
        if let ([only], []) = (&self.all[..], tried) {
            return Some(Rc::clone(only));
        }
        let count = self.all.len();
        let begin = self.next.get();
        let mut candidates = self.candidates.borrow_mut();
        candidates.clear();
        candidates.extend((0..count).map(|step| (begin + step) % count));
        candidates.retain(|index| !tried.iter().any(|it| Rc::ptr_eq(it, &self.all[*index])));
        let rests = |upstream: &Upstream| upstream.rests_until.get().filter(|until| *until > now);
        let awake = candidates.iter().copied();
        let awake = awake.filter(|index| rests(&self.all[*index]).is_none());
        let chosen = awake.min_by_key(|index| self.all[*index].busy.get());
        let rested = || {
            let all = candidates.iter().copied();
            all.min_by_key(|index| self.all[*index].rests_until.get())
        };
        let chosen = chosen.or_else(rested)?;
        self.next.set((chosen + 1) % count);
        Some(Rc::clone(&self.all[chosen]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstreams(count: usize) -> Upstreams {
        let upstream = |index: usize| {
            let url: Uri = format!("http://back{index}:80/").parse().expect("a URL");
            Upstream::new(&url).expect("it can be asked")
        };
        let mut all = Upstreams::new(upstream(0));
        (1..count).for_each(|index| all.add(upstream(index)));
        all
    }

    fn chosen(all: &Upstreams, now: Instant, tried: &[Rc<Upstream>]) -> Option<usize> {
        let chosen = all.choose(now, tried)?;
        all.all.iter().position(|it| Rc::ptr_eq(it, &chosen))
    }

    fn now() -> Instant {
        torsade_reactor::testing::virtual_time_reactor().now()
    }

    #[test]
    fn they_take_turns_and_the_busier_one_is_spared() {
        let (all, now) = (upstreams(3), now());
        let turns: Vec<_> = (0..4).map(|_| chosen(&all, now, &[])).collect();
        assert_eq!(turns, [Some(0), Some(1), Some(2), Some(0)]);
        let busy = all.all[1].occupy();
        assert_eq!(chosen(&all, now, &[]), Some(2));
        assert_eq!(chosen(&all, now, &[]), Some(0));
        assert_eq!(chosen(&all, now, &[]), Some(2));
        drop(busy);
        assert_eq!(chosen(&all, now, &[]), Some(0));
        assert_eq!(chosen(&all, now, &[]), Some(1));
    }

    #[test]
    fn one_that_fails_again_and_again_rests_and_comes_back() {
        let (all, now) = (upstreams(2), now());
        (0..FAILURES_MAX).for_each(|_| all.all[0].failed(now));
        assert!((0..4).all(|_| chosen(&all, now, &[]) == Some(1)));
        let later = now + REST;
        let turns: Vec<_> = (0..2).map(|_| chosen(&all, later, &[])).collect();
        assert_eq!(turns, [Some(0), Some(1)]);
        // One more failure is enough, until it has succeeded.
        all.all[0].failed(later);
        assert!((0..4).all(|_| chosen(&all, later, &[]) == Some(1)));
        all.all[0].succeeded();
        assert!((0..2).any(|_| chosen(&all, later, &[]) == Some(0)));
    }

    #[test]
    fn where_all_rest_the_one_that_has_rested_longest_is_asked() {
        let (all, now) = (upstreams(2), now());
        let later = now + REST / 2;
        (0..FAILURES_MAX).for_each(|_| all.all[1].failed(now));
        (0..FAILURES_MAX).for_each(|_| all.all[0].failed(later));
        assert_eq!(chosen(&all, later, &[]), Some(1));
        let tried = [Rc::clone(&all.all[1])];
        assert_eq!(chosen(&all, later, &tried), Some(0));
        assert_eq!(chosen(&all, later, &all.all), None);
    }

    #[test]
    fn paths_are_put_below_the_base() {
        let check = |url: &str, path: &'static str| {
            let upstream = Upstream::new(&url.parse().expect("a URL")).expect("it can be asked");
            let uri = upstream.uri_of(&PathAndQuery::from_static(path));
            uri.expect("it is one").to_string()
        };
        assert_eq!(check("http://a:1", "/b?c"), "http://a:1/b?c");
        assert_eq!(check("http://a:1/", "/b?c"), "http://a:1/b?c");
        assert_eq!(check("https://a/x/", "/b?c"), "https://a/x/b?c");
        assert_eq!(check("https://a/x", "/"), "https://a/x/");
        for url in ["http://a/x?y", "ftp://a/", "/a"] {
            let upstream = Upstream::new(&url.parse().expect("a URL"));
            assert!(upstream.is_err(), "{url}");
        }
    }
}
