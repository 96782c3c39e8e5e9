//! What a cache says of what it did: `Cache-Status` (RFC 9211).

use std::fmt::Write as _;

use http::{HeaderMap, HeaderName, StatusCode};

use super::super::values::{ascii_value, is_token};

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
        let mut text = match is_token(name) && name.starts_with(|it: char| it.is_ascii_alphabetic())
        {
            true => name.to_owned(),
            false => format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\"")),
        };
        let is_answered = self.detail != Some(UNAVAILABLE);
        match self.forwarded {
            None if is_answered => text.push_str("; hit"),
            None => {}
            Some(reason) => {
                text.push_str("; fwd=");
                text.push_str(reason.name());
            }
        }
        let written = "a string takes everything";
        if let Some(status) = self.forwarded_status {
            write!(text, "; fwd-status={}", status.as_u16()).expect(written);
        }
        if let Some(ttl) = self.ttl {
            // RFC 8941 §3.3.1: fifteen digits at most.
            let ttl = ttl.clamp(-999_999_999_999_999, 999_999_999_999_999);
            write!(text, "; ttl={ttl}").expect(written);
        }
        for (is_so, name) in [(self.stored, "; stored"), (self.collapsed, "; collapsed")] {
            if is_so {
                text.push_str(name);
            }
        }
        if let Some(detail) = self.detail {
            write!(text, "; detail={detail}").expect(written);
        }
        headers.append(CACHE_STATUS, ascii_value(&text));
    }
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
