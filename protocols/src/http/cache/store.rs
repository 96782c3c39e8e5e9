//! Answers in memory, up to a limit (RFC 9111 §2).
//!
//! A [`CacheStore`] keeps what [`Stored`] allows, with its content, and lets go what was longest out of
//! use when it is full.
//!
//! # Bounds
//!
//! [`CacheLimits`]: bytes of all answers together, with their fields, and of each; how many there are, and how
//! many for one target.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, Uri};

use super::super::fetch::PlainGet;
use super::super::kept::KeptResponse;
use super::freshness::{Reuse, Stored, port};
use super::status::push_number;

/// How much a cache keeps.
///
/// # Examples
///
/// ```
/// use torsade_protocols::http::cache::CacheLimits;
///
/// let limits = CacheLimits { bytes: 1 << 30, entry: 32 << 20, ..CacheLimits::default() };
/// assert_eq!(limits.variants, 16);
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CacheLimits {
    /// Bytes of all answers with their fields, and of those that are still coming: 64 MiB.
    pub bytes: usize,
    /// Bytes of one of them: 8 MiB.
    pub entry: usize,
    /// How many there are: 100,000.
    pub entries: usize,
    /// How many answers to one target are kept, for different fields of the request (RFC 9111 §4.1): 16.
    pub variants: usize,
    /// Bytes that may be left of a body that nobody waits for any more, for it to be read to its end and
    /// kept: 256 KiB. If more is left, or it is not known how much, it is broken off.
    pub unwanted: u64,
}

impl Default for CacheLimits {
    fn default() -> Self {
        Self {
            bytes: 64 << 20,
            entry: 8 << 20,
            entries: 100_000,
            variants: 16,
            unwanted: 256 << 10,
        }
    }
}

/// Bytes that an answer is counted for besides what can be seen: maps, lists, allocations.
const OVERHEAD: usize = 1024;

/// Bytes that a field is counted for besides name and value.
const FIELD_OVERHEAD: usize = 64;

/// How often a field may be there: as it came, and of the response that is at hand in a map and as it is written.
const FIELD_COPIES: usize = 3;

/// What answers are found by, beside the fields that they depend on: the target, with one way to write
/// it (RFC 9111 §2). A cheap clone.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CacheKey(Rc<str>);

impl CacheKey {
    /// The key of a target. `host` is what the request says in `Host`, if it says so: where that is not
    /// what the target says, it is part of the key, since the answer depends on it.
    #[must_use]
    pub fn new(target: &Uri, host: Option<&str>) -> Self {
        let Some((scheme, own_host)) = target.scheme_str().zip(target.host()) else {
            return Self::with_host(target.to_string(), target, host);
        };
        let path = target.path_and_query().map_or("/", |it| it.as_str());
        let mut key = String::with_capacity(scheme.len() + own_host.len() + path.len() + 9);
        push_origin(&mut key, scheme, own_host, port(target));
        key.push_str(path);
        Self::with_host(key, target, host)
    }

    /// The key of the target of such a request, where that says of the host what the URL does; `None` for what has to be
    /// looked at more closely.
    pub(super) fn of_plain(asked: &PlainGet<'_>) -> Option<Self> {
        let (host, port) = match asked.host.split_once(':') {
            Some((host, port)) => {
                let is_number = !port.is_empty() && port.bytes().all(|it| it.is_ascii_digit());
                (host, is_number.then(|| port.parse().ok())??)
            }
            None if asked.scheme == "https" => (asked.host, 443),
            None => (asked.host, 80),
        };
        if host.is_empty() {
            return None;
        }
        let length = asked.scheme.len() + host.len() + asked.target.len() + 9;
        let mut key = String::with_capacity(length);
        push_origin(&mut key, asked.scheme, host, port);
        key.push_str(asked.target);
        Some(Self(key.into()))
    }

    fn with_host(mut key: String, target: &Uri, host: Option<&str>) -> Self {
        let authority = target.authority().map(|it| it.as_str());
        if let Some(host) = host.filter(|host| Some(*host) != authority) {
            // No target has a space.
            key.push(' ');
            push_lower_case(&mut key, host);
        }
        Self(key.into())
    }
}

fn push_origin(text: &mut String, scheme: &str, host: &str, port: u16) {
    text.push_str(scheme);
    text.push_str("://");
    push_lower_case(text, host);
    text.push(':');
    push_number(text, u64::from(port));
}

fn push_lower_case(text: &mut String, added: &str) {
    let begin = text.len();
    text.push_str(added);
    text[begin..].make_ascii_lowercase();
}

/// Answers to GET, with their content, by target.
#[derive(Debug)]
pub struct CacheStore {
    limits: CacheLimits,
    used: usize,
    reserved: Rc<Cell<usize>>,
    /// Counts what is done: the later, the higher.
    tick: u64,
    variants: BTreeMap<CacheKey, Vec<Entry>>,
    /// When each entry was last used, and for which target. Invariant: as many as there are entries.
    recency: BTreeMap<u64, CacheKey>,
    evicted: u64,
}

#[derive(Debug)]
struct Entry {
    stored: Rc<Stored>,
    content: Bytes,
    size: usize,
    last_used: u64,
    /// The response that it is for whoever asks for all of it, as it was when it was so many seconds old.
    at_hand: Option<(u64, KeptResponse)>,
}

impl CacheStore {
    /// A store that keeps as much.
    #[must_use]
    pub fn new(limits: CacheLimits) -> Self {
        Self {
            limits,
            used: 0,
            reserved: Rc::default(),
            tick: 0,
            variants: BTreeMap::new(),
            recency: BTreeMap::new(),
            evicted: 0,
        }
    }

    /// What it may keep.
    #[must_use]
    pub fn limits(&self) -> &CacheLimits {
        &self.limits
    }

    /// Keeps an answer to that target, in place of the one for the same fields of the request. Gives
    /// `false` if it is too large.
    ///
    /// `content` must be all of it: what was cut off is not to be stored (§3.3).
    pub fn insert(&mut self, key: &CacheKey, stored: Rc<Stored>, content: Bytes) -> bool {
        self.remove_where(key, |entry| entry.stored.replaces(&stored));
        let size = Self::size(key, &stored, content.len());
        if size > self.limits.entry || self.limits.variants == 0 {
            return false;
        }
        if self.variants.get(key).map_or(0, Vec::len) >= self.limits.variants {
            let oldest = self.variants[key].iter().map(|it| it.last_used).min();
            self.remove_where(key, |entry| Some(entry.last_used) == oldest);
            self.evicted += 1;
        }
        while self.recency.len() >= self.limits.entries && self.evict() {}
        if self.recency.len() >= self.limits.entries || !self.make_room(size) {
            return false;
        }
        self.tick += 1;
        self.used += size;
        self.recency.insert(self.tick, key.clone());
        self.variants.entry(key.clone()).or_default().push(Entry {
            stored,
            content,
            size,
            last_used: self.tick,
            at_hand: None,
        });
        true
    }

    /// The answer for a request with these fields, if there is one: the latest of those that fit
    /// (§4.1). Whether it may be used is [`Stored::reuse`].
    pub fn get(&mut self, key: &CacheKey, request: &HeaderMap) -> Option<(Rc<Stored>, Bytes)> {
        let entry = fitting(&mut self.variants, key, request)?;
        note_use(entry, &mut self.tick, &mut self.recency);
        Some((Rc::clone(&entry.stored), entry.content.clone()))
    }

    /// The response that is at hand for whoever asks for all there is, if what is stored for that target depends on
    /// nothing else, and is fresh. It says how old it is: `make` makes one each second at most.
    pub(super) fn at_hand(
        &mut self,
        key: &CacheKey,
        now: SystemTime,
        make: impl FnOnce(&Stored, &Bytes) -> KeptResponse,
    ) -> Option<KeptResponse> {
        let [entry] = &mut self.variants.get_mut(key)?[..] else {
            return None;
        };
        let stored = &entry.stored;
        if !stored.is_plain() || stored.reuse(&HeaderMap::new(), now) != Reuse::Fresh {
            return None;
        }
        let age = stored.age(now).as_secs();
        if entry
            .at_hand
            .as_ref()
            .is_none_or(|(known, _)| *known != age)
        {
            entry.at_hand = Some((age, make(stored, &entry.content)));
        }
        note_use(entry, &mut self.tick, &mut self.recency);
        entry.at_hand.as_ref().map(|(_, kept)| kept.clone())
    }

    /// Whether there is an answer to that target, whatever it depends on.
    #[must_use]
    pub fn has_target(&self, key: &CacheKey) -> bool {
        self.variants.contains_key(key)
    }

    /// Whether two requests for that target get different answers, as far as can be told from what is stored.
    pub(super) fn tells_apart(&self, key: &CacheKey, one: &HeaderMap, other: &HeaderMap) -> bool {
        let entries = self.variants.get(key).into_iter().flatten();
        entries
            .map(|it| &it.stored)
            .any(|stored| stored.tells_apart(one, other))
    }

    /// Takes over what an answer with 304 says of the answer for that request
    /// ([`Stored::refresh`]). Gives `false` if there is none, or it is not that one; then it is gone. In a shared cache
    /// what is said to a request with `Authorization` changes nothing, unless all may know it (§3.5).
    pub fn refresh(
        &mut self,
        key: &CacheKey,
        request: &HeaderMap,
        not_modified: &HeaderMap,
        requested_at: SystemTime,
        received_at: SystemTime,
    ) -> bool {
        self.change(key, request, |stored, _| {
            stored.refresh(not_modified, requested_at, received_at)
        })
    }

    /// Takes over what an answer with 200 to HEAD says ([`Stored::refresh_by_head`]). Otherwise as
    /// [`refresh`](Self::refresh).
    pub fn refresh_by_head(
        &mut self,
        key: &CacheKey,
        request: &HeaderMap,
        response: &HeaderMap,
        requested_at: SystemTime,
        received_at: SystemTime,
    ) -> bool {
        self.change(key, request, |stored, length| {
            stored.refresh_by_head(response, length, requested_at, received_at)
        })
    }

    fn change(
        &mut self,
        key: &CacheKey,
        request: &HeaderMap,
        change: impl FnOnce(&mut Stored, usize) -> bool,
    ) -> bool {
        let Some(entry) = fitting(&mut self.variants, key, request) else {
            return false;
        };
        let (tick, content) = (entry.last_used, entry.content.clone());
        let mut stored = Stored::clone(&entry.stored);
        if !change(&mut stored, content.len()) || !stored.may_be_kept() {
            self.remove_where(key, |entry| entry.last_used == tick);
            return false;
        }
        // §3.5: what is said to one is none of the others' business.
        let is_for_all = stored.may_be_shared(request);
        // Its size may be another one.
        !is_for_all || self.insert(key, stored.into(), content)
    }

    /// Lets all answers to that target go (§4.4).
    pub fn invalidate(&mut self, key: &CacheKey) {
        self.remove_where(key, |_| true);
    }

    /// Lets that answer go, if it is still the one that is here.
    pub(super) fn remove(&mut self, key: &CacheKey, stored: &Rc<Stored>) {
        self.remove_where(key, |entry| Rc::ptr_eq(&entry.stored, stored));
    }

    /// Lets everything go.
    pub fn clear(&mut self) {
        self.variants.clear();
        self.recency.clear();
        self.used = 0;
    }

    /// How many bytes all answers take, those that are coming among them.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used + self.reserved.get()
    }

    /// How many answers there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.recency.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.recency.is_empty()
    }

    /// How many were let go because there was no room.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// How many bytes it is counted for.
    pub(super) fn size(key: &CacheKey, stored: &Stored, content: usize) -> usize {
        let fields = stored.headers().iter();
        let fields: usize = fields
            .map(|(name, value)| {
                FIELD_COPIES * (FIELD_OVERHEAD + name.as_str().len() + value.len())
            })
            .sum();
        OVERHEAD + key.0.len() + fields + stored.selecting_size() + content
    }

    /// Bytes of answers that are coming: they count as if they were here. Whoever adds to them asks for
    /// [room](Self::make_room) first, and takes off what is let go.
    pub(super) fn reserved(&self) -> Rc<Cell<usize>> {
        Rc::clone(&self.reserved)
    }

    /// Lets go what was longest out of use, until there is room. Gives `false` if there is not enough even
    /// so.
    pub(super) fn make_room(&mut self, bytes: usize) -> bool {
        if self.reserved.get().saturating_add(bytes) > self.limits.bytes {
            return false;
        }
        while self.used() + bytes > self.limits.bytes {
            if !self.evict() {
                return false;
            }
        }
        true
    }

    fn evict(&mut self) -> bool {
        let Some((&oldest, key)) = self.recency.first_key_value() else {
            return false;
        };
        let key = key.clone();
        self.remove_where(&key, |entry| entry.last_used == oldest);
        self.evicted += 1;
        true
    }

    fn remove_where(&mut self, key: &CacheKey, is_meant: impl Fn(&Entry) -> bool) {
        let Some(entries) = self.variants.get_mut(key) else {
            return;
        };
        for entry in entries.extract_if(.., |entry| is_meant(entry)) {
            self.used -= entry.size;
            self.recency.remove(&entry.last_used);
        }
        if entries.is_empty() {
            self.variants.remove(key);
        }
    }
}

/// The entry is the one that was used last.
fn note_use(entry: &mut Entry, tick: &mut u64, recency: &mut BTreeMap<u64, CacheKey>) {
    if entry.last_used == *tick {
        return;
    }
    *tick += 1;
    if let Some(key) = recency.remove(&entry.last_used) {
        recency.insert(*tick, key);
    }
    entry.last_used = *tick;
}

fn fitting<'a>(
    variants: &'a mut BTreeMap<CacheKey, Vec<Entry>>,
    key: &CacheKey,
    request: &HeaderMap,
) -> Option<&'a mut Entry> {
    let entries = variants.get_mut(key)?.iter_mut();
    let fitting = entries.filter(|entry| entry.stored.fits(request));
    fitting.max_by_key(|entry| entry.stored.received_at())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use http::header::{ACCEPT, CACHE_CONTROL, ETAG, VARY};
    use http::{HeaderValue, Method, StatusCode};

    use super::super::freshness::{CacheKind, Exchange};
    use super::*;

    fn uri(text: &str) -> CacheKey {
        CacheKey::new(&text.parse().expect("it is a target"), None)
    }

    fn store_of(bytes: usize) -> CacheStore {
        CacheStore::new(CacheLimits {
            bytes,
            entry: bytes / 8,
            ..CacheLimits::default()
        })
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn accepting(accept: &str) -> HeaderMap {
        let value = HeaderValue::from_str(accept).expect("it is a value");
        HeaderMap::from_iter([(ACCEPT, value)])
    }

    /// An answer that depends on what is accepted.
    fn answer(accept: &str, received: u64) -> Rc<Stored> {
        let exchange = Exchange {
            method: &Method::GET,
            request: &accepting(accept),
            status: StatusCode::OK,
            response: &HeaderMap::from_iter([
                (CACHE_CONTROL, HeaderValue::from_static("max-age=60")),
                (VARY, HeaderValue::from_static("accept")),
                (ETAG, HeaderValue::from_static("\"x\"")),
            ]),
            requested_at: at(received),
            received_at: at(received),
        };
        Stored::new(CacheKind::Private, &exchange)
            .expect("it may be stored")
            .into()
    }

    fn found(store: &mut CacheStore, target: &str, accept: &str) -> Option<Vec<u8>> {
        let found = store.get(&uri(target), &accepting(accept));
        found.map(|(_, content)| content.to_vec())
    }

    #[track_caller]
    fn insert(store: &mut CacheStore, target: &str, accept: &str, length: usize) {
        let content = Bytes::from(vec![b'x'; length]);
        assert!(store.insert(&uri(target), answer(accept, 0), content));
        check(store);
    }

    /// What the store counts is what it has.
    #[track_caller]
    fn check(store: &CacheStore) {
        let entries = || store.variants.values().flatten();
        assert_eq!(store.used(), entries().map(|it| it.size).sum::<usize>());
        assert!(store.used() <= store.limits.bytes);
        let ticks: Vec<_> = store.recency.keys().copied().collect();
        let mut used: Vec<_> = entries().map(|it| it.last_used).collect();
        used.sort_unstable();
        assert_eq!(ticks, used);
        assert_eq!(store.len(), used.len());
        assert!(store.variants.values().all(|it| !it.is_empty()));
    }

    #[test]
    fn an_answer_is_found_by_its_target_and_the_fields_that_it_depends_on() {
        let mut store = store_of(1 << 20);
        insert(&mut store, "http://A.example/p?q", "text", 1);
        insert(&mut store, "http://a.example/p?q", "json", 2);
        for target in ["http://a.example/p?q", "http://a.EXAMPLE:80/p?q"] {
            assert_eq!(found(&mut store, target, "text"), Some(b"x".to_vec()));
            assert_eq!(found(&mut store, target, "json"), Some(b"xx".to_vec()));
            assert_eq!(found(&mut store, target, "other"), None);
        }
        for target in [
            "http://a.example/p",
            "https://a.example/p?q",
            "http://a.example/P?q",
            "/p?q",
        ] {
            assert_eq!(found(&mut store, target, "text"), None, "{target}");
        }
        check(&store);
    }

    #[test]
    fn a_plain_request_has_the_key_of_its_url_or_none() {
        for (scheme, host, target, has_key) in [
            ("http", "a.example", "/p?q", true),
            ("http", "A.Example", "/P", true),
            ("http", "a.example:80", "/", true),
            ("http", "a.example:8080", "/", true),
            ("https", "a.example", "/", true),
            ("https", "127.0.0.1:0443", "/?a%20b", true),
            ("http", "[::1]", "/", false),
            ("http", "a.example:", "/", false),
            ("http", "a.example:65536", "/", false),
            ("http", "", "/", false),
        ] {
            let key = CacheKey::of_plain(&PlainGet {
                scheme,
                host,
                target,
            });
            let expected = has_key.then(|| uri(&format!("{scheme}://{host}{target}")));
            assert_eq!(key, expected, "{host}");
        }
    }

    #[test]
    fn a_new_answer_takes_the_place_of_the_old_one() {
        let mut store = store_of(1 << 20);
        insert(&mut store, "http://a/", "text", 1);
        insert(&mut store, "http://a/", "text", 3);
        assert_eq!(store.len(), 1);
        assert_eq!(
            found(&mut store, "http://a/", "text"),
            Some(b"xxx".to_vec())
        );
        store.invalidate(&uri("http://a/"));
        assert!(store.is_empty());
        assert_eq!(store.used(), 0);
    }

    #[test]
    fn what_was_longest_out_of_use_goes_first() {
        let mut store = store_of(40_000);
        for target in ["http://a/", "http://b/", "http://c/", "http://d/"] {
            insert(&mut store, target, "text", 3_000);
        }
        let size = store.used() / 4;
        for number in 4..40_000 / size {
            insert(
                &mut store,
                &format!("http://x{number}/"),
                "text",
                3_000 - 2 * 2,
            );
        }
        assert!(found(&mut store, "http://a/", "text").is_some());
        insert(&mut store, "http://e/", "text", 3_000);
        assert!(found(&mut store, "http://a/", "text").is_some());
        assert!(found(&mut store, "http://b/", "text").is_none());
        assert!(found(&mut store, "http://e/", "text").is_some());
    }

    #[test]
    fn one_answer_does_not_push_out_all_others() {
        let mut store = store_of(40_000);
        insert(&mut store, "http://a/", "text", 10);
        let large = Bytes::from(vec![b'x'; 5_000]);
        assert!(!store.insert(&uri("http://b/"), answer("text", 0), large.clone()));
        assert_eq!(store.len(), 1);
        // What it would have replaced is gone: it is not the latest.
        assert!(!store.insert(&uri("http://a/"), answer("text", 0), large));
        assert!(store.is_empty());
        assert!(!store_of(0).insert(&uri("http://a/"), answer("text", 0), Bytes::new()));
    }

    #[test]
    fn a_target_has_so_many_variants() {
        let mut store = store_of(1 << 20);
        let variants = CacheLimits::default().variants;
        for number in 0..=variants {
            insert(&mut store, "http://a/", &format!("type{number}"), 1);
        }
        assert_eq!(store.len(), variants);
        assert!(found(&mut store, "http://a/", "type0").is_none());
        assert!(found(&mut store, "http://a/", "type1").is_some());
    }

    #[test]
    fn a_304_makes_an_answer_fresh_or_ends_it() {
        let mut store = store_of(1 << 20);
        insert(&mut store, "http://a/", "text", 1);
        let before = store.used();
        let refresh = |store: &mut CacheStore, target: &str, fields: &HeaderMap| {
            let done = store.refresh(&uri(target), &accepting("text"), fields, at(100), at(100));
            check(store);
            done
        };
        let more = HeaderMap::from_iter([(ETAG, HeaderValue::from_static("\"x\""))]);
        assert!(refresh(&mut store, "http://a/", &more));
        let mut longer = more.clone();
        longer.insert("x-more", HeaderValue::from_static("1"));
        assert!(refresh(&mut store, "http://a/", &longer));
        assert!(store.used() > before);
        let (stored, _) = store
            .get(&uri("http://a/"), &accepting("text"))
            .expect("it is there");
        assert_eq!(stored.age(at(100)), Duration::ZERO);
        assert!(!refresh(&mut store, "http://b/", &more));
        let other = HeaderMap::from_iter([(ETAG, HeaderValue::from_static("\"y\""))]);
        assert!(!refresh(&mut store, "http://a/", &other));
        assert!(store.is_empty());
    }

    #[test]
    fn a_304_that_makes_an_answer_too_large_ends_it() {
        let mut store = store_of(40_000);
        insert(&mut store, "http://a/", "text", 3_000);
        let long = HeaderValue::from_str(&"x".repeat(3_000)).expect("it is a value");
        let fields = HeaderMap::from_iter([(http::header::LINK, long)]);
        let done = store.refresh(&uri("http://a/"), &accepting("text"), &fields, at(1), at(1));
        assert!(!done);
        check(&store);
        assert!(store.is_empty());
        insert(&mut store, "http://a/", "text", 3_000);
        store.clear();
        check(&store);
        assert!(store.is_empty());
    }
}
