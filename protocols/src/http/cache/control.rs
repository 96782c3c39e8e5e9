//! What `Cache-Control` says, and what it keeps from others than who asked (RFC 9111 §5.2).

use std::time::Duration;

use http::header::{
    AGE, CACHE_CONTROL, DATE, ETAG, EXPIRES, LAST_MODIFIED, LOCATION, PRAGMA, SET_COOKIE, VARY,
};
use http::{HeaderMap, HeaderName};

use super::super::values::{members, pair};
use super::freshness::CacheKind;

/// §1.2.2: what a number of seconds is taken for that is too large.
pub(super) const SECONDS_MAX: u64 = 1 << 31;

/// What `Cache-Control` says, of a request or of an answer (§5.2).
///
/// What is not known is ignored. `no-cache` and `private` with names of fields (`no-cache="set-cookie"`, §5.2.2.4,
/// §5.2.2.7) are about those alone, and are not counted here; but as if they had none, which is stricter and
/// allowed, if one of the names is none, or of a field that a cache goes by itself.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a directive of the standard"
)]
#[non_exhaustive]
pub struct CacheControl {
    /// `no-store`
    pub no_store: bool,
    /// `no-cache`
    pub no_cache: bool,
    /// `private`
    pub private: bool,
    /// `public`
    pub public: bool,
    /// `must-revalidate`
    pub must_revalidate: bool,
    /// `proxy-revalidate`
    pub proxy_revalidate: bool,
    /// `must-understand`
    pub must_understand: bool,
    /// `no-transform`
    pub no_transform: bool,
    /// `only-if-cached`
    pub only_if_cached: bool,
    /// `immutable` (RFC 8246): nobody need ask whether a fresh answer holds. No cache here does, unless its client wants it.
    pub immutable: bool,
    /// `max-age`. What is no number is zero: §4.2.1 encourages to take such an answer as stale.
    pub max_age: Option<Duration>,
    /// `s-maxage`
    pub s_maxage: Option<Duration>,
    /// `min-fresh`
    pub min_fresh: Option<Duration>,
    /// `max-stale`; without a number, the longest time that there is.
    pub max_stale: Option<Duration>,
    /// `stale-while-revalidate` (RFC 5861 §3)
    pub stale_while_revalidate: Option<Duration>,
    /// `stale-if-error` (RFC 5861 §4)
    pub stale_if_error: Option<Duration>,
}

impl CacheControl {
    /// Reads all fields of that name. Of a directive that is there twice the stricter one counts
    /// (§4.2.1).
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let mut found = Self::default();
        for member in members(headers, &CACHE_CONTROL) {
            let (name, value) = pair(member);
            let seconds = || value.as_deref().map_or(Duration::ZERO, seconds);
            let least = |known: Option<Duration>, new: Duration| {
                Some(known.map_or(new, |known| known.min(new)))
            };
            match &*name.to_ascii_lowercase() {
                "no-store" => found.no_store = true,
                "no-cache" => found.no_cache |= named(value.as_deref()).is_none(),
                "private" => found.private |= named(value.as_deref()).is_none(),
                "immutable" => found.immutable = true,
                "public" => found.public = true,
                "must-revalidate" => found.must_revalidate = true,
                "proxy-revalidate" => found.proxy_revalidate = true,
                "must-understand" => found.must_understand = true,
                "no-transform" => found.no_transform = true,
                "only-if-cached" => found.only_if_cached = true,
                "max-age" => found.max_age = least(found.max_age, seconds()),
                "s-maxage" => found.s_maxage = least(found.s_maxage, seconds()),
                "min-fresh" => {
                    found.min_fresh = found.min_fresh.max(Some(seconds()));
                }
                "max-stale" => {
                    let new = value.as_deref().map_or(Duration::MAX, self::seconds);
                    found.max_stale = least(found.max_stale, new);
                }
                "stale-while-revalidate" => {
                    found.stale_while_revalidate = least(found.stale_while_revalidate, seconds());
                }
                "stale-if-error" => {
                    found.stale_if_error = least(found.stale_if_error, seconds());
                }
                _ => {}
            }
        }
        found
    }

    /// Whether it names shared caches: what comes with it is for all users, whoever asked.
    pub(super) fn is_for_everybody(&self) -> bool {
        self.public || self.s_maxage.is_some()
    }
}

/// The fields that a directive names; `None` if it is about all of the answer.
fn named(value: Option<&str>) -> Option<Vec<HeaderName>> {
    let names = value?.split(',').map(str::trim);
    let names = names.map(|name| {
        HeaderName::try_from(name)
            .ok()
            .filter(|name| !is_needed(name))
    });
    names.collect()
}

/// Whether a cache goes by that field, or nobody can do without it.
fn is_needed(name: &HeaderName) -> bool {
    let needed = [
        AGE,
        CACHE_CONTROL,
        DATE,
        ETAG,
        EXPIRES,
        LAST_MODIFIED,
        LOCATION,
        PRAGMA,
        VARY,
    ];
    needed.contains(name) || name.as_str().starts_with("content-")
}

/// The fields of an answer that a cache gives to nobody but who asked: those that are [named](withheld_by_name) and, in
/// a shared cache, cookies. §7.3: the standard leaves these open; who does not name shared caches does not mean a
/// cookie to go to everybody. `control` is what `headers` says.
pub(super) fn withheld(
    kind: CacheKind,
    control: &CacheControl,
    headers: &HeaderMap,
) -> Vec<HeaderName> {
    let mut names = withheld_by_name(kind, headers);
    if kind == CacheKind::Shared && !control.is_for_everybody() {
        names.push(SET_COOKIE);
    }
    // Each once: who asked gets them as often as they are here.
    names.sort_unstable_by(|left, right| left.as_str().cmp(right.as_str()));
    names.dedup();
    names
}

/// Those that an answer says so of: `no-cache="..."` and, in a shared cache, `private="..."`.
pub(super) fn withheld_by_name(kind: CacheKind, headers: &HeaderMap) -> Vec<HeaderName> {
    let mut names = Vec::new();
    for member in members(headers, &CACHE_CONTROL) {
        let (directive, value) = pair(member);
        let is_private = directive.eq_ignore_ascii_case("private") && kind == CacheKind::Shared;
        if is_private || directive.eq_ignore_ascii_case("no-cache") {
            names.extend(named(value.as_deref()).into_iter().flatten());
        }
    }
    names
}

/// §1.2.2
pub(super) fn seconds(text: &str) -> Duration {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Duration::ZERO;
    }
    Duration::from_secs(text.parse().unwrap_or(SECONDS_MAX).min(SECONDS_MAX))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(fields: &str) -> HeaderMap {
        let values = fields.split('\n').map(|field| {
            let (name, value) = field.split_once(": ").expect("a field");
            assert_eq!(name, "cache-control");
            let value = HeaderValue::try_from(value).expect("it is a value");
            (CACHE_CONTROL, value)
        });
        let mut headers = HeaderMap::new();
        for (name, value) in values {
            headers.append(name, value);
        }
        headers
    }

    #[test]
    fn rfc9111_5_2_directives_are_read_and_the_stricter_counts() {
        let of = |text: &str| CacheControl::of(&headers(text));
        let found = of("cache-control: No-Store, max-age=5, S-MaxAge=\"7\", foo=bar, public");
        let seconds = |count| Some(Duration::from_secs(count));
        assert!(found.no_store && found.public && !found.private);
        assert_eq!((found.max_age, found.s_maxage), (seconds(5), seconds(7)));
        assert_eq!(
            of("cache-control: max-age=9, max-age=5").max_age,
            seconds(5)
        );
        assert_eq!(
            of("cache-control: max-age=5\ncache-control: max-age=9").max_age,
            seconds(5)
        );
        assert_eq!(
            of("cache-control: min-fresh=5, min-fresh=9").min_fresh,
            seconds(9)
        );
        assert_eq!(
            of("cache-control: max-stale").max_stale,
            Some(Duration::MAX)
        );
        assert_eq!(
            of("cache-control: max-stale, max-stale=5").max_stale,
            seconds(5)
        );
        for odd in ["", "=", "=x", "=-1", "=1.5", "=\"\""] {
            assert_eq!(
                of(&format!("cache-control: max-age{odd}")).max_age,
                seconds(0),
                "{odd}"
            );
        }
        let large = of("cache-control: max-age=99999999999999999999999");
        assert_eq!(large.max_age, seconds(SECONDS_MAX));
        // What is about some of the fields is not about all of them, unless a cache cannot do without one.
        for (value, is_about_all) in [
            ("", true),
            ("=\"a, b\"", false),
            ("=a", false),
            ("=\"set-cookie\"", false),
            ("=\"a b\"", true),
            ("=\"\"", true),
            ("=\"a, etag\"", true),
            ("=\"Content-Encoding\"", true),
        ] {
            let of = |name: &str| of(&format!("cache-control: {name}{value}"));
            let found = (of("no-cache").no_cache, of("private").private);
            assert_eq!(found, (is_about_all, is_about_all), "{value}");
        }
        assert!(of("cache-control: private=\"a\", private").private);
        assert!(of("cache-control: max-age=9, immutable").immutable);
    }
}
