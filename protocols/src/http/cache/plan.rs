//! What a request lets a cache do, by its method and its fields. Pure.

use http::header::{
    EXPECT, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE,
    UPGRADE,
};
use http::{HeaderMap, HeaderName, Method, StatusCode};

use super::freshness::{CacheControl, Reuse, Stored};
use super::status::Forwarded;

/// Why a request goes past the cache, if it does.
pub(super) fn goes_past(method: &Method, headers: &HeaderMap, has_body: bool) -> Option<Forwarded> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Some(Forwarded::Method);
    }
    // RFC 9111 §4.3.2: these two are for the origin to evaluate. What a GET with a body means nobody
    // knows (RFC 9110 §9.3.1).
    static IS_FOR_ORIGIN: [HeaderName; 4] = [IF_MATCH, IF_UNMODIFIED_SINCE, UPGRADE, EXPECT];
    let is_past = has_body || has_any(headers, &IS_FOR_ORIGIN);
    is_past.then_some(Forwarded::Bypass)
}

/// Whether there is any of these: most messages have few fields, and to look at their names costs less than to look for
/// each.
fn has_any(headers: &HeaderMap, names: &[HeaderName]) -> bool {
    headers.keys().any(|name| names.contains(name))
}

/// Whether its answer is one that others could have: it asks for all of it, unconditionally.
pub(super) fn asks_for_all(headers: &HeaderMap) -> bool {
    static FOR_PARTS: [HeaderName; 4] = [RANGE, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_RANGE];
    !has_any(headers, &FOR_PARTS)
}

/// Makes a question of the client's one of the cache's own: for all of it, unconditionally.
pub(super) fn ask_for_all(headers: &mut HeaderMap) {
    for name in [RANGE, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_RANGE] {
        headers.remove(name);
    }
}

/// Whether it may wait for what somebody else has asked for: not if it wants the origin itself to answer.
pub(super) fn may_wait(headers: &HeaderMap) -> bool {
    let asked = CacheControl::of(headers);
    let wants_origin = asked.no_cache || asked.max_age.is_some_and(|age| age.is_zero());
    !wants_origin && !asked.no_store && !headers.contains_key(RANGE)
}

/// Why a stored answer is not used: by itself, or by what the request says.
pub(super) fn why_not_used(stored: &Stored, now: std::time::SystemTime) -> Forwarded {
    match stored.seconds_left(now) > 0 && !CacheControl::of(stored.headers()).no_cache {
        true => Forwarded::Request,
        false => Forwarded::Stale,
    }
}

/// Whether a stored answer is used, now.
pub(super) fn is_used(reuse: Reuse) -> bool {
    matches!(reuse, Reuse::Fresh | Reuse::Stale | Reuse::Revalidate)
}

/// RFC 5861 §4: answers that are no better than none.
pub(super) fn is_no_help(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

/// Whether what is stored for a target is over when this comes in its place, even if this may not be
/// stored.
pub(super) fn supersedes(status: StatusCode) -> bool {
    let is_gone = matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE);
    let is_new = status.is_success() || status.is_redirection() || is_gone;
    is_new && status != StatusCode::NOT_MODIFIED
}

/// RFC 9110 §9.2.1
pub(super) fn is_safe(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE
    )
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let fields = fields.iter().map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        });
        fields.collect()
    }

    #[test]
    fn rfc9111_4_3_2_what_only_the_origin_can_answer_goes_there() {
        let past = |method: Method, fields: &[_]| goes_past(&method, &headers(fields), false);
        assert_eq!(past(Method::GET, &[]), None);
        assert_eq!(past(Method::HEAD, &[("if-none-match", "\"x\"")]), None);
        assert_eq!(past(Method::POST, &[]), Some(Forwarded::Method));
        assert_eq!(past(Method::OPTIONS, &[]), Some(Forwarded::Method));
        for name in ["if-match", "if-unmodified-since", "upgrade", "expect"] {
            assert_eq!(
                past(Method::GET, &[(name, "x")]),
                Some(Forwarded::Bypass),
                "{name}"
            );
        }
        let empty = HeaderMap::new();
        assert_eq!(
            goes_past(&Method::GET, &empty, true),
            Some(Forwarded::Bypass)
        );
    }

    #[test]
    fn who_wants_the_origin_does_not_wait_for_others() {
        for (value, expected) in [
            ("max-age=5", true),
            ("only-if-cached", true),
            ("max-age=0", false),
            ("no-cache", false),
            ("no-store", false),
        ] {
            assert_eq!(may_wait(&headers(&[("cache-control", value)])), expected);
        }
        assert!(may_wait(&HeaderMap::new()));
        assert!(!may_wait(&headers(&[("range", "bytes=0-1")])));
    }

    #[test]
    fn a_request_of_the_caches_own_asks_for_all() {
        let mut fields = headers(&[
            ("range", "bytes=0-1"),
            ("if-range", "\"x\""),
            ("if-none-match", "\"x\""),
            ("accept", "text/html"),
        ]);
        assert!(!asks_for_all(&fields));
        ask_for_all(&mut fields);
        assert!(asks_for_all(&fields));
        assert_eq!(fields.len(), 1);
    }
}
