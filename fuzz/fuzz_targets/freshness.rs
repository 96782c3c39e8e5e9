//! A cache keeps within its limit, never answers with what does not fit, and never calls fresh what
//! may not be.
#![no_main]

use std::time::{Duration, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use torsade_protocols::http::cache::freshness::{
    CacheControl, CacheKind, Exchange, Reuse, Stored, also_invalidated,
};
use torsade_protocols::http::cache::store::{CacheKey, CacheLimits, CacheStore};

const NAMES: [&str; 12] = [
    "cache-control",
    "vary",
    "age",
    "date",
    "expires",
    "etag",
    "last-modified",
    "authorization",
    "pragma",
    "location",
    "accept",
    "set-cookie",
];
const LIMIT: usize = 20_000;

#[derive(Arbitrary, Debug)]
struct Fields(Vec<(u8, Vec<u8>)>);

impl Fields {
    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (number, value) in &self.0 {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                let name = NAMES[usize::from(*number) % NAMES.len()];
                headers.append(HeaderName::from_static(name), value);
            }
        }
        headers
    }
}

#[derive(Arbitrary, Debug)]
enum Action {
    Answer(u8, u16, Fields, Fields, u16),
    Ask(u8, Fields),
    NotModified(u8, Fields, Fields),
    Invalidate(u8),
    Wait(u32),
}

fuzz_target!(|input: (bool, Vec<Action>)| {
    let (is_shared, actions) = input;
    let kind = if is_shared {
        CacheKind::Shared
    } else {
        CacheKind::Private
    };
    let mut store = CacheStore::new(CacheLimits {
        bytes: LIMIT,
        entry: LIMIT / 8,
        ..CacheLimits::default()
    });
    let mut now = UNIX_EPOCH + Duration::from_secs(784_111_777);
    let target = |number: u8| -> Uri {
        format!("http://host{}/", number % 4)
            .parse()
            .expect("it is a target")
    };
    let key = |number: u8| CacheKey::new(&target(number), None);
    for action in &actions {
        match action {
            Action::Answer(number, status, request, response, length) => {
                let (request, response) = (request.headers(), response.headers());
                let exchange = Exchange {
                    method: &Method::GET,
                    request: &request,
                    status: StatusCode::from_u16(*status).unwrap_or(StatusCode::OK),
                    response: &response,
                    requested_at: now,
                    received_at: now,
                };
                let _ = also_invalidated(&target(*number), &response);
                if let Some(stored) = Stored::new(kind, &exchange) {
                    assert!(stored.fits(&request));
                    let control = CacheControl::of(&response);
                    assert!(!(is_shared && control.private));
                    let content = vec![0; usize::from(*length)].into();
                    store.insert(&key(*number), stored.into(), content);
                }
            }
            Action::Ask(number, request) => {
                let request = request.headers();
                if let Some((stored, _)) = store.get(&key(*number), &request) {
                    assert!(stored.fits(&request));
                    let is_fresh = stored.age(now) < stored.lifetime();
                    match stored.reuse(&request, now) {
                        Reuse::Fresh => assert!(is_fresh),
                        Reuse::Stale | Reuse::Revalidate => {
                            assert!(!is_fresh && stored.may_be_stale())
                        }
                        Reuse::Validate | Reuse::Unavailable => {}
                    }
                    assert!(stored.answer_headers(now).contains_key("age"));
                    let mut request = request;
                    stored.add_validation(&mut request);
                }
            }
            Action::NotModified(number, request, response) => {
                let (request, response) = (request.headers(), response.headers());
                store.refresh(&key(*number), &request, &response, now, now);
            }
            Action::Invalidate(number) => store.invalidate(&key(*number)),
            Action::Wait(seconds) => now += Duration::from_secs(u64::from(*seconds)),
        }
        assert!(store.used() <= LIMIT);
        assert_eq!(store.used() == 0, store.is_empty());
    }
});
