//! Answers in memory, up to a limit (RFC 9111 §2).
//!
//! A [`CacheStore`] keeps what [`Stored`] allows, with its content, and lets go what was longest out of
//! use when it is full.
//!
//! # Bounds
//!
//! All answers together, with their fields, take at most as many bytes as the store may have, one of
//! them an eighth of that, and a target at most [`VARIANTS_MAX`] of them.

use std::collections::BTreeMap;
use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, Uri};

use super::freshness::{Stored, origin};

/// How many answers to one target are kept, for different fields of the request (RFC 9111 §4.1).
pub const VARIANTS_MAX: usize = 16;

/// Bytes that an answer is counted for besides what can be seen: maps, lists, allocations.
const OVERHEAD: usize = 1024;

/// Bytes that a field is counted for besides name and value.
const FIELD_OVERHEAD: usize = 64;

/// Answers to GET, with their content, by target.
#[derive(Debug)]
pub struct CacheStore {
    limit: usize,
    used: usize,
    /// Counts what is done: the later, the higher.
    tick: u64,
    variants: BTreeMap<String, Vec<Entry>>,
    /// When each entry was last used, and for which target. Invariant: as many as there are entries.
    recency: BTreeMap<u64, String>,
}

#[derive(Debug)]
struct Entry {
    stored: Stored,
    content: Bytes,
    size: usize,
    last_used: u64,
}

impl CacheStore {
    /// A store of at most `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            used: 0,
            tick: 0,
            variants: BTreeMap::new(),
            recency: BTreeMap::new(),
        }
    }

    /// Keeps an answer to that target, in place of the one for the same fields of the request. Gives
    /// `false` if it is too large.
    ///
    /// `content` must be all of it: what was cut off is not to be stored (§3.3).
    pub fn insert(&mut self, target: &Uri, stored: Stored, content: Bytes) -> bool {
        let key = key(target);
        self.remove_where(&key, |entry| entry.stored.replaces(&stored));
        let size = size(&key, &stored, &content);
        if size > self.limit / 8 {
            return false;
        }
        if self.variants.get(&key).map_or(0, Vec::len) >= VARIANTS_MAX {
            let oldest = self.variants[&key].iter().map(|it| it.last_used).min();
            self.remove_where(&key, |entry| Some(entry.last_used) == oldest);
        }
        while self.used + size > self.limit {
            let Some((&oldest, key)) = self.recency.first_key_value() else {
                break;
            };
            let key = key.clone();
            self.remove_where(&key, |entry| entry.last_used == oldest);
        }
        self.tick += 1;
        self.used += size;
        self.recency.insert(self.tick, key.clone());
        self.variants.entry(key).or_default().push(Entry {
            stored,
            content,
            size,
            last_used: self.tick,
        });
        true
    }

    /// The answer for a request with these fields, if there is one: the latest of those that fit
    /// (§4.1). Whether it may be used is [`Stored::reuse`].
    pub fn get(&mut self, target: &Uri, request: &HeaderMap) -> Option<(&Stored, Bytes)> {
        let key = key(target);
        self.tick += 1;
        let entry = fitting(&mut self.variants, &key, request)?;
        self.recency.remove(&entry.last_used);
        entry.last_used = self.tick;
        self.recency.insert(self.tick, key);
        Some((&entry.stored, entry.content.clone()))
    }

    /// Takes over what an answer with 304 says of the answer for that request
    /// ([`Stored::refresh`]). Gives `false` if there is none, or it is not that one; then it is gone.
    pub fn refresh(
        &mut self,
        target: &Uri,
        request: &HeaderMap,
        not_modified: &HeaderMap,
        requested_at: SystemTime,
        received_at: SystemTime,
    ) -> bool {
        let key = key(target);
        let Some(entry) = fitting(&mut self.variants, &key, request) else {
            return false;
        };
        let tick = entry.last_used;
        if entry
            .stored
            .refresh(not_modified, requested_at, received_at)
        {
            let size = size(&key, &entry.stored, &entry.content);
            self.used = self.used - entry.size + size;
            entry.size = size;
            if size <= self.limit / 8 && self.used <= self.limit {
                return true;
            }
        }
        self.remove_where(&key, |entry| entry.last_used == tick);
        false
    }

    /// Lets all answers to that target go (§4.4).
    pub fn invalidate(&mut self, target: &Uri) {
        self.remove_where(&key(target), |_| true);
    }

    /// Lets everything go.
    pub fn clear(&mut self) {
        *self = Self::new(self.limit);
    }

    /// How many bytes all answers take.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used
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

    fn remove_where(&mut self, key: &str, is_meant: impl Fn(&Entry) -> bool) {
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

fn fitting<'a>(
    variants: &'a mut BTreeMap<String, Vec<Entry>>,
    key: &str,
    request: &HeaderMap,
) -> Option<&'a mut Entry> {
    let entries = variants.get_mut(key)?.iter_mut();
    let fitting = entries.filter(|entry| entry.stored.fits(request));
    fitting.max_by_key(|entry| entry.stored.received_at())
}

/// §2: the target, with one way to write it. What has no host is as it is.
fn key(target: &Uri) -> String {
    let path = target.path_and_query().map_or("/", |it| it.as_str());
    match origin(target) {
        Some((scheme, host, port)) => format!("{scheme}://{host}:{port}{path}"),
        None => target.to_string(),
    }
}

fn size(key: &str, stored: &Stored, content: &Bytes) -> usize {
    let fields = stored.headers().iter();
    let fields: usize = fields
        .map(|(name, value)| FIELD_OVERHEAD + name.as_str().len() + value.len())
        .sum();
    // The key is there twice.
    OVERHEAD + 2 * key.len() + fields + stored.selecting_size() + content.len()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use http::header::{ACCEPT, CACHE_CONTROL, ETAG, VARY};
    use http::{HeaderValue, Method, StatusCode};

    use super::super::freshness::{CacheKind, Exchange};
    use super::*;

    fn uri(text: &str) -> Uri {
        text.parse().expect("it is a target")
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn accepting(accept: &str) -> HeaderMap {
        let value = HeaderValue::from_str(accept).expect("it is a value");
        HeaderMap::from_iter([(ACCEPT, value)])
    }

    /// An answer that depends on what is accepted.
    fn answer(accept: &str, received: u64) -> Stored {
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
        Stored::new(CacheKind::Private, &exchange).expect("it may be stored")
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
        assert!(store.used() <= store.limit);
        let ticks: Vec<_> = store.recency.keys().copied().collect();
        let mut used: Vec<_> = entries().map(|it| it.last_used).collect();
        used.sort_unstable();
        assert_eq!(ticks, used);
        assert_eq!(store.len(), used.len());
        assert!(store.variants.values().all(|it| !it.is_empty()));
    }

    #[test]
    fn an_answer_is_found_by_its_target_and_the_fields_that_it_depends_on() {
        let mut store = CacheStore::new(1 << 20);
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
    fn a_new_answer_takes_the_place_of_the_old_one() {
        let mut store = CacheStore::new(1 << 20);
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
        let mut store = CacheStore::new(40_000);
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
        let mut store = CacheStore::new(40_000);
        insert(&mut store, "http://a/", "text", 10);
        let large = Bytes::from(vec![b'x'; 5_000]);
        assert!(!store.insert(&uri("http://b/"), answer("text", 0), large.clone()));
        assert_eq!(store.len(), 1);
        // What it would have replaced is gone: it is not the latest.
        assert!(!store.insert(&uri("http://a/"), answer("text", 0), large));
        assert!(store.is_empty());
        assert!(!CacheStore::new(0).insert(&uri("http://a/"), answer("text", 0), Bytes::new()));
    }

    #[test]
    fn a_target_has_so_many_variants() {
        let mut store = CacheStore::new(1 << 20);
        for number in 0..=VARIANTS_MAX {
            insert(&mut store, "http://a/", &format!("type{number}"), 1);
        }
        assert_eq!(store.len(), VARIANTS_MAX);
        assert!(found(&mut store, "http://a/", "type0").is_none());
        assert!(found(&mut store, "http://a/", "type1").is_some());
    }

    #[test]
    fn a_304_makes_an_answer_fresh_or_ends_it() {
        let mut store = CacheStore::new(1 << 20);
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
        let mut store = CacheStore::new(40_000);
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
