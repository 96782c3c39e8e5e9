//! What a cache says of what it did: `Cache-Status` (RFC 9211).

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::super::values::is_token;

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Why a request went on to the origin (RFC 9211 §2.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Forwarded {
    /// It asks for what a cache has no say in.
    Bypass,
    /// Its method changes something, or is not cached.
    Method,
    /// Nothing is stored for its target.
    UriMiss,
    /// What is stored for its target is for other fields.
    VaryMiss,
    /// What is stored is stale.
    Stale,
    /// What is stored would do, but the request wants none of it.
    Request,
}

impl Forwarded {
    fn name(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Stale => "stale",
            Self::Request => "request",
        }
    }
}

/// What was done for a request.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct CacheStatus {
    /// It went on, for that reason. `None`: it was answered from what is stored.
    pub(super) forwarded: Option<Forwarded>,
    /// What the origin answered, where that is not what is answered.
    pub(super) forwarded_status: Option<StatusCode>,
    /// What came is stored.
    pub(super) stored: bool,
    /// It waited for what another request had asked for.
    pub(super) collapsed: bool,
    /// For how many seconds the answer is fresh.
    pub(super) ttl: Option<i64>,
    pub(super) detail: Option<&'static str>,
}

impl CacheStatus {
    pub(super) fn hit(ttl: i64) -> Self {
        Self {
            ttl: Some(ttl),
            ..Self::default()
        }
    }

    pub(super) fn forwarded(reason: Forwarded) -> Self {
        Self {
            forwarded: Some(reason),
            ..Self::default()
        }
    }

    /// Appends it: the last member is of the cache that is nearest to the user (§2).
    pub(super) fn append_to(&self, headers: &mut HeaderMap, name: &str) {
        let mut text = String::with_capacity(name.len() + 64);
        match is_token(name) && name.starts_with(|it: char| it.is_ascii_alphabetic()) {
            true => text.push_str(name),
            false => {
                text.push('"');
                text.push_str(&name.replace('\\', "\\\\").replace('"', "\\\""));
                text.push('"');
            }
        }
        let is_answered = self.detail != Some(UNAVAILABLE);
        match self.forwarded {
            None if is_answered => text.push_str("; hit"),
            None => {}
            Some(reason) => {
                text.push_str("; fwd=");
                text.push_str(reason.name());
            }
        }
        if let Some(status) = self.forwarded_status {
            text.push_str("; fwd-status=");
            text.push_str(status.as_str());
        }
        if let Some(ttl) = self.ttl {
            // RFC 8941 §3.3.1: fifteen digits at most.
            let ttl = ttl.clamp(-999_999_999_999_999, 999_999_999_999_999);
            text.push_str("; ttl=");
            if ttl < 0 {
                text.push('-');
            }
            push_number(&mut text, ttl.unsigned_abs());
        }
        for (is_so, name) in [(self.stored, "; stored"), (self.collapsed, "; collapsed")] {
            if is_so {
                text.push_str(name);
            }
        }
        if let Some(detail) = self.detail {
            text.push_str("; detail=");
            text.push_str(detail);
        }
        let value = HeaderValue::from_maybe_shared(Bytes::from(text));
        headers.append(
            CACHE_STATUS,
            value.expect("a name is visible ASCII, and so is the rest"),
        );
    }
}

/// A number in digits, without the formatting of std, which takes ten times as long.
pub(super) fn push_number(text: &mut String, number: u64) {
    let mut digits = [0; 20];
    let (mut at, mut left) = (digits.len(), number);
    loop {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    text.extend(digits[at..].iter().map(|digit| char::from(*digit)));
}

/// It was to be answered from what is stored alone, and could not.
pub(super) const UNAVAILABLE: &str = "only-if-cached";

/// It was answered with what is stale, because the origin was of no help.
pub(super) const STAND_IN: &str = "stale-if-error";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc9211_2_a_cache_says_what_it_did() {
        let stale = CacheStatus::forwarded(Forwarded::Stale);
        for (name, status, expected) in [
            ("torsade", CacheStatus::hit(30), "torsade; hit; ttl=30"),
            ("a b\"c", CacheStatus::hit(-5), "\"a b\\\"c\"; hit; ttl=-5"),
            (
                "t",
                CacheStatus {
                    stored: true,
                    collapsed: true,
                    ..CacheStatus::forwarded(Forwarded::UriMiss)
                },
                "t; fwd=uri-miss; stored; collapsed",
            ),
            (
                "t",
                CacheStatus {
                    forwarded_status: Some(StatusCode::NOT_MODIFIED),
                    ttl: Some(i64::MAX),
                    ..stale
                },
                "t; fwd=stale; fwd-status=304; ttl=999999999999999",
            ),
            (
                "t",
                CacheStatus {
                    detail: Some(UNAVAILABLE),
                    ..CacheStatus::default()
                },
                "t; detail=only-if-cached",
            ),
        ] {
            let mut headers = HeaderMap::new();
            status.append_to(&mut headers, name);
            assert_eq!(headers[CACHE_STATUS], expected);
        }
    }
}
