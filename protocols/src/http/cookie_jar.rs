//! A client's cookies (RFC 6265bis §5.6 to §5.8).
//!
//! # Bounds
//!
//! At most [`PER_DOMAIN_MAX`] cookies of a domain and [`TOTAL_MAX`] in all, each of 4096 bytes of name
//! and value; beyond that the one that was longest out of use goes. None is kept for longer than 400
//! days.
//!
//! # Not here
//!
//! A jar is not a browser: there are no pages, so no request comes from another site, and `SameSite`
//! changes nothing.

use core::net::IpAddr;
use std::fmt;
use std::time::{Duration, SystemTime};

use http::HeaderValue;

use super::cookies::{MaxAge, ReceivedCookie};

/// How many cookies a domain may have (§6.1 wants 50 at least).
pub const PER_DOMAIN_MAX: usize = 50;

/// How many cookies there may be in all (§6.1 wants 3000 at least).
pub const TOTAL_MAX: usize = 3_000;

/// §5.5: no cookie is kept for longer.
const AGE_MAX: Duration = Duration::from_secs(400 * 86_400);

/// Who sets cookies, or asks for them.
#[derive(Clone, Copy, Debug)]
pub struct CookieOrigin<'a> {
    /// The host of the target, without a port; an address of version 6 with or without its brackets.
    pub host: &'a str,
    /// The path of the target, without a query.
    pub path: &'a str,
    /// Whether the connection is safe: TLS, or this machine.
    pub is_secure: bool,
}

/// Cookies, as servers set them, and as they are sent back.
///
/// ```
/// use http::HeaderValue;
/// use std::time::UNIX_EPOCH;
/// use torsade_protocols::http::cookie_jar::{CookieJar, CookieOrigin};
/// use torsade_protocols::http::cookies::Cookie;
///
/// let origin = CookieOrigin { host: "example.com", path: "/login", is_secure: true };
/// let received = Cookie::parse(&HeaderValue::from_static("id=31d4; Path=/")).expect("a cookie");
/// let mut jar = CookieJar::new();
/// assert!(jar.store(received, &origin, UNIX_EPOCH));
/// assert_eq!(jar.cookies_for(&origin, UNIX_EPOCH).expect("one"), "id=31d4");
/// ```
#[derive(Clone)]
pub struct CookieJar {
    /// In the order in which they were first set.
    cookies: Vec<Stored>,
    /// Counts what is done: the later, the higher.
    tick: u64,
    is_public_suffix: fn(&str) -> bool,
}

#[derive(Clone, Debug)]
struct Stored {
    name: String,
    value: String,
    domain: String,
    /// It is for that host, not for those below it.
    is_host_only: bool,
    path: String,
    is_secure: bool,
    /// `None`: as long as the jar.
    expires: Option<SystemTime>,
    last_used: u64,
}

impl CookieJar {
    /// An empty jar. A domain of one label, such as `com`, counts as a public suffix, which no cookie
    /// may be set for; `co.uk` does not: see [`with_public_suffixes`](Self::with_public_suffixes).
    #[must_use]
    pub fn new() -> Self {
        Self::with_public_suffixes(|_| false)
    }

    /// An empty jar that asks whether hosts of strangers lie below a domain, such as `co.uk` or
    /// `github.io`: a cookie for all of it would be everybody's. The list of them changes every week
    /// and is large, so it is not here; the crate `psl` has it. It is asked for the domain in lower case, without a dot
    /// at either end.
    #[must_use]
    pub fn with_public_suffixes(is_public_suffix: fn(&str) -> bool) -> Self {
        Self {
            cookies: Vec::new(),
            tick: 0,
            is_public_suffix,
        }
    }

    /// Keeps a cookie that `origin` has set, or takes one away (§5.7). Gives `false` if it may not set
    /// it.
    pub fn store(
        &mut self,
        received: ReceivedCookie,
        origin: &CookieOrigin<'_>,
        now: SystemTime,
    ) -> bool {
        let cookie = received.cookie;
        let host = canonical_host(origin.host);
        // Steps 7 to 10: whose it is.
        let mut domain = cookie.domain.filter(|domain| !domain.is_empty());
        if let Some(suffix) = domain.as_deref()
            && self.is_public(suffix)
        {
            if suffix != host {
                return false;
            }
            domain = None;
        }
        let is_host_only = domain.is_none();
        let domain = match domain {
            Some(domain) if domain_matches(&host, &domain) => domain,
            Some(_) => return false,
            None => host,
        };
        // §4.1.3.2: a path that was said, not the default.
        let is_whole_host = is_host_only && cookie.path.as_deref() == Some("/");
        let path = match cookie.path {
            Some(path) => path,
            None => default_path(origin.path).to_owned(),
        };
        if cookie.is_secure && !origin.is_secure {
            return false;
        }
        // §4.1.3: names that say what they are.
        let prefix = cookie.name.to_ascii_lowercase();
        if prefix.starts_with("__secure-") && !cookie.is_secure
            || prefix.starts_with("__host-") && !(cookie.is_secure && is_whole_host)
        {
            return false;
        }
        // Without a name, the value would be read as a name that says so.
        let value = cookie.value.to_ascii_lowercase();
        if prefix.is_empty() && (value.starts_with("__secure-") || value.starts_with("__host-")) {
            return false;
        }
        // What was set over TLS is not shadowed by whoever listens in on a plain connection.
        let shadows = |it: &Stored| {
            it.is_secure
                && it.name == cookie.name
                && (domain_matches(&it.domain, &domain) || domain_matches(&domain, &it.domain))
                && path_matches(&path, &it.path)
        };
        self.remove_expired(now);
        if !origin.is_secure && self.cookies.iter().any(shadows) {
            return false;
        }
        let latest = now + AGE_MAX;
        let expires = match (cookie.max_age, cookie.expires) {
            (Some(MaxAge::Over), _) => Some(now),
            (Some(MaxAge::Left(age)), _) => Some(now + age.min(AGE_MAX)),
            (None, at) => at.map(|at| at.min(latest)),
        };
        self.tick += 1;
        let stored = Stored {
            name: cookie.name,
            value: cookie.value,
            domain,
            is_host_only,
            path,
            is_secure: cookie.is_secure,
            expires,
            last_used: self.tick,
        };
        self.put(stored, now);
        true
    }

    /// The value of `Cookie` for a request (§5.8.3); `None` if there is none to send.
    #[must_use]
    pub fn cookies_for(
        &mut self,
        origin: &CookieOrigin<'_>,
        now: SystemTime,
    ) -> Option<HeaderValue> {
        self.remove_expired(now);
        self.tick += 1;
        let host = canonical_host(origin.host);
        let path = request_path(origin.path);
        let mut chosen: Vec<&mut Stored> = self
            .cookies
            .iter_mut()
            .filter(|it| {
                (it.domain == host || !it.is_host_only && domain_matches(&host, &it.domain))
                    && path_matches(path, &it.path)
                    && (origin.is_secure || !it.is_secure)
            })
            .collect();
        // Step 2: longer paths first; the sort keeps the order in which they were set.
        chosen.sort_by_key(|it| std::cmp::Reverse(it.path.len()));
        let mut text = String::new();
        for cookie in chosen {
            cookie.last_used = self.tick;
            if !text.is_empty() {
                text.push_str("; ");
            }
            if !cookie.name.is_empty() {
                text.push_str(&cookie.name);
                text.push('=');
            }
            text.push_str(&cookie.value);
        }
        if text.is_empty() {
            return None;
        }
        HeaderValue::from_bytes(text.as_bytes()).ok()
    }

    /// Takes all cookies away.
    pub fn clear(&mut self) {
        self.cookies.clear();
    }

    /// How many cookies there are, with those that have expired and were not looked at since.
    #[must_use]
    pub fn len(&self) -> usize {
        self.cookies.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cookies.is_empty()
    }

    fn is_public(&self, domain: &str) -> bool {
        // `com.` is `com`, for hosts that are written with the dot.
        let domain = domain.trim_end_matches('.');
        !domain.contains('.') || (self.is_public_suffix)(domain)
    }

    /// §5.7 steps 22 to 24.
    fn put(&mut self, stored: Stored, now: SystemTime) {
        let same = |it: &Stored| {
            it.name == stored.name
                && it.domain == stored.domain
                && it.is_host_only == stored.is_host_only
                && it.path == stored.path
        };
        let is_over = stored.expires.is_some_and(|at| at <= now);
        match self.cookies.iter().position(same) {
            Some(index) if is_over => drop(self.cookies.remove(index)),
            // It keeps its place: the time of creation is that of the old one.
            Some(index) => self.cookies[index] = stored,
            None if is_over => {}
            None => {
                let domain = stored.domain.clone();
                self.cookies.push(stored);
                self.evict(PER_DOMAIN_MAX, |it| it.domain == domain);
                self.evict(TOTAL_MAX, |_| true);
            }
        }
    }

    /// Takes away the one that was longest out of use, if there are too many of a kind.
    fn evict(&mut self, limit: usize, is_of_kind: impl Fn(&Stored) -> bool) {
        let of_kind = self.cookies.iter().enumerate();
        let of_kind = of_kind.filter(|(_, it)| is_of_kind(it));
        if of_kind.clone().count() <= limit {
            return;
        }
        // §5.7: those that are not secure go first.
        let oldest = of_kind.min_by_key(|(_, it)| (it.is_secure, it.last_used));
        if let Some((index, _)) = oldest {
            self.cookies.remove(index);
        }
    }

    fn remove_expired(&mut self, now: SystemTime) {
        self.cookies
            .retain(|it| it.expires.is_none_or(|at| at > now));
    }
}

impl Default for CookieJar {
    fn default() -> Self {
        Self::new()
    }
}

/// How many, and for whom: values are secrets.
impl fmt::Debug for CookieJar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cookies = self.cookies.iter();
        f.debug_list()
            .entries(cookies.map(|it| (&it.domain, &it.path, &it.name)))
            .finish()
    }
}

/// §5.1.2, as far as the host is in ASCII already.
fn canonical_host(host: &str) -> String {
    let host = host.strip_prefix('[').unwrap_or(host);
    let host = host.strip_suffix(']').unwrap_or(host);
    host.to_ascii_lowercase()
}

/// §5.1.3
fn domain_matches(host: &str, domain: &str) -> bool {
    if host == domain {
        return true;
    }
    let above = host.strip_suffix(domain);
    let is_address = || host.trim_end_matches('.').parse::<IpAddr>().is_ok();
    above.is_some_and(|above| above.ends_with('.')) && !is_address()
}

/// §5.1.4: the folder of the path.
fn default_path(path: &str) -> &str {
    match request_path(path).rfind('/') {
        None | Some(0) => "/",
        Some(end) => &path[..end],
    }
}

fn request_path(path: &str) -> &str {
    if path.starts_with('/') { path } else { "/" }
}

/// §5.1.4
fn path_matches(path: &str, cookie_path: &str) -> bool {
    match path.strip_prefix(cookie_path) {
        Some(rest) => rest.is_empty() || cookie_path.ends_with('/') || rest.starts_with('/'),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::super::cookies::Cookie;
    use super::*;

    const NOW: SystemTime = UNIX_EPOCH;

    fn later(seconds: u64) -> SystemTime {
        NOW + Duration::from_secs(seconds)
    }

    /// Reads `https://host/path`.
    fn origin(url: &str) -> CookieOrigin<'_> {
        let (scheme, rest) = url.split_once("://").expect("a scheme");
        let path = rest.find('/').expect("a path");
        CookieOrigin {
            host: &rest[..path],
            path: &rest[path..],
            is_secure: scheme == "https",
        }
    }

    fn store_at(jar: &mut CookieJar, url: &str, text: &str, now: SystemTime) -> bool {
        let value = HeaderValue::from_str(text).expect("it is a value");
        let received = Cookie::parse(&value).expect("it is a cookie");
        jar.store(received, &origin(url), now)
    }

    fn store(jar: &mut CookieJar, url: &str, text: &str) -> bool {
        store_at(jar, url, text, NOW)
    }

    fn sent_at(jar: &mut CookieJar, url: &str, now: SystemTime) -> String {
        let value = jar.cookies_for(&origin(url), now);
        value.map_or(String::new(), |it| it.to_str().expect("text").to_owned())
    }

    fn sent(jar: &mut CookieJar, url: &str) -> String {
        sent_at(jar, url, NOW)
    }

    /// Sets a cookie at `url` and looks where it goes.
    #[track_caller]
    fn check(url: &str, text: &str, goes: &[&str], stays: &[&str]) {
        let mut jar = CookieJar::new();
        assert!(store(&mut jar, url, text), "{url}: {text}");
        for url in goes {
            assert!(!sent(&mut jar, url).is_empty(), "{text} goes to {url}");
        }
        for url in stays {
            assert_eq!(sent(&mut jar, url), "", "{text} does not go to {url}");
        }
    }

    #[track_caller]
    fn check_refused(url: &str, text: &str) {
        let mut jar = CookieJar::new();
        assert!(!store(&mut jar, url, text), "{url}: {text}");
        assert!(jar.is_empty());
    }

    #[test]
    fn a_cookie_goes_back_to_the_host_that_set_it() {
        check(
            "https://a.example.com/",
            "x=1",
            &[
                "https://a.example.com/",
                "https://A.EXAMPLE.com/b",
                "http://a.example.com/",
            ],
            &[
                "https://example.com/",
                "https://b.a.example.com/",
                "https://xa.example.com/",
            ],
        );
        check(
            "http://localhost/",
            "x=1",
            &["http://localhost/"],
            &["http://local/"],
        );
    }

    #[test]
    fn rfc6265bis_5_1_3_a_cookie_of_a_domain_goes_to_all_hosts_in_it() {
        check(
            "https://a.example.com/",
            "x=1; Domain=.Example.COM",
            &[
                "https://example.com/",
                "https://b.example.com/",
                "https://c.a.example.com/",
            ],
            &[
                "https://badexample.com/",
                "https://com/",
                "https://example.com.evil.net/",
            ],
        );
    }

    #[test]
    fn nobody_sets_cookies_for_others() {
        check_refused("https://a.example.com/", "x=1; Domain=b.example.com");
        check_refused("https://example.com/", "x=1; Domain=a.example.com");
        check_refused("https://example.com/", "x=1; Domain=com");
        check_refused("https://example.com/", "x=1; Domain=..");
        check_refused("https://10.0.0.1/", "x=1; Domain=0.0.1");
        check_refused("https://[::1]/", "x=1; Domain=1");
        check(
            "https://10.0.0.1/",
            "x=1; Domain=10.0.0.1",
            &["https://10.0.0.1/"],
            &[],
        );
        check(
            "https://[::1]/",
            "x=1",
            &["https://[::1]/"],
            &["https://[::2]/"],
        );
        // A suffix that is a host has cookies of its own, and none for those below.
        check(
            "http://com/",
            "x=1; Domain=com",
            &["http://com/"],
            &["http://a.com/"],
        );
    }

    #[test]
    fn a_dot_at_the_end_makes_no_domain_of_a_public_suffix() {
        check_refused("https://evil.com./", "x=1; Domain=com.");
        check_refused("https://evil.com./", "x=1; Domain=.com.");
        check_refused("https://evil.com../", "x=1; Domain=com..");
        check_refused("https://evil.com./", "x=1; Domain=com");
        check_refused("https://10.0.0.1./", "x=1; Domain=0.0.1.");
        let mut jar = CookieJar::with_public_suffixes(|domain| domain == "co.uk");
        assert!(!store(&mut jar, "https://a.co.uk./", "x=1; Domain=co.uk."));
        check(
            "http://com./",
            "x=1; Domain=com.",
            &["http://com./"],
            &["http://a.com./", "http://com/"],
        );
        check(
            "https://a.example.com./",
            "x=1; Domain=example.com.",
            &["https://b.example.com./"],
            &["https://b.example.com/"],
        );
    }

    #[test]
    fn public_suffixes_are_the_users_to_know() {
        let mut jar = CookieJar::with_public_suffixes(|domain| domain == "co.uk");
        assert!(!store(&mut jar, "https://a.co.uk/", "x=1; Domain=co.uk"));
        assert!(store(&mut jar, "https://b.a.co.uk/", "x=1; Domain=a.co.uk"));
    }

    #[test]
    fn rfc6265bis_5_1_4_a_cookie_goes_below_its_path() {
        check(
            "https://a.b/x/y/z",
            "x=1; Path=/x",
            &["https://a.b/x", "https://a.b/x/", "https://a.b/x/q"],
            &["https://a.b/", "https://a.b/xy", "https://a.b/y/x"],
        );
        check(
            "https://a.b/x/y",
            "x=1",
            &["https://a.b/x", "https://a.b/x/z"],
            &["https://a.b/"],
        );
        check("https://a.b/x", "x=1", &["https://a.b/"], &[]);
        check(
            "https://a.b/x/y",
            "x=1; Path=nonsense",
            &["https://a.b/x"],
            &["https://a.b/"],
        );
    }

    #[test]
    fn a_secure_cookie_is_neither_sent_nor_set_nor_shadowed_in_the_clear() {
        let mut jar = CookieJar::new();
        assert!(!store(&mut jar, "http://a.b/", "x=0; Secure"));
        assert!(store(&mut jar, "https://a.b/", "x=1; Secure; Path=/p"));
        assert!(!store(&mut jar, "http://a.b/", "x=2; Path=/p/q"));
        assert!(!store(
            &mut jar,
            "http://c.a.b/",
            "x=2; Domain=a.b; Path=/p"
        ));
        assert!(store(&mut jar, "http://a.b/", "x=3; Path=/"));
        assert_eq!(sent(&mut jar, "https://a.b/p"), "x=1; x=3");
        assert_eq!(sent(&mut jar, "http://a.b/p"), "x=3");
    }

    #[test]
    fn rfc6265bis_4_1_3_names_keep_what_they_say() {
        check_refused("https://a.b/", "__Secure-x=1");
        check_refused("https://a.b/", "__Host-x=1; Secure");
        check_refused("https://a.b/", "__host-x=1; Path=/");
        check_refused("https://a.b/", "__Host-x=1; Secure; Path=/; Domain=a.b");
        check_refused("https://a.b/", "=__Secure-x=1");
        check(
            "https://a.b/",
            "__Secure-x=1; Secure",
            &["https://a.b/"],
            &[],
        );
        check(
            "https://a.b/",
            "__Host-x=1; Secure; Path=/",
            &["https://a.b/"],
            &[],
        );
    }

    #[test]
    fn rfc6265bis_5_8_3_longer_paths_go_first_and_then_older_cookies() {
        let mut jar = CookieJar::new();
        for text in [
            "a=1; Path=/",
            "b=2; Path=/x",
            "c=3; Path=/",
            "d=4; Path=/x",
            "=e",
        ] {
            assert!(store(&mut jar, "https://a.b/", text));
        }
        assert_eq!(sent(&mut jar, "https://a.b/x"), "b=2; d=4; a=1; c=3; e");
        // A new value keeps its place.
        assert!(store(&mut jar, "https://a.b/", "a=5; Path=/"));
        assert_eq!(sent(&mut jar, "https://a.b/"), "a=5; c=3; e");
    }

    #[test]
    fn cookies_end_when_they_said() {
        let mut jar = CookieJar::new();
        let url = "https://a.b/";
        assert!(store(
            &mut jar,
            url,
            "a=1; Max-Age=10; Expires=Thu, 01 Jan 1970 00:00:01 GMT"
        ));
        assert!(store(
            &mut jar,
            url,
            "b=2; Expires=Thu, 01 Jan 1970 00:00:20 GMT"
        ));
        assert!(store(&mut jar, url, "c=3"));
        assert!(store(&mut jar, url, "d=4; Max-Age=99999999999999999999"));
        assert_eq!(sent_at(&mut jar, url, later(9)), "a=1; b=2; c=3; d=4");
        assert_eq!(sent_at(&mut jar, url, later(10)), "b=2; c=3; d=4");
        assert_eq!(sent_at(&mut jar, url, later(20)), "c=3; d=4");
        assert_eq!(jar.len(), 2);
        assert_eq!(sent_at(&mut jar, url, NOW + AGE_MAX), "c=3");
        // §5.7: one that is over takes away the one that was there.
        assert!(store_at(&mut jar, url, "c=x; Max-Age=0", later(30)));
        assert!(store_at(&mut jar, url, "new=x; Max-Age=-1", later(30)));
        assert!(jar.is_empty());
    }

    #[test]
    fn a_domain_with_too_many_cookies_loses_the_one_that_is_least_used() {
        let mut jar = CookieJar::new();
        assert!(store(&mut jar, "https://a.b/", "safe=1; Secure"));
        for index in 0..PER_DOMAIN_MAX - 1 {
            assert!(store(
                &mut jar,
                "https://a.b/",
                &format!("c{index}=1; Path=/p{index}")
            ));
        }
        assert!(store(&mut jar, "https://c.d/", "other=1"));
        assert_eq!(jar.len(), PER_DOMAIN_MAX + 1);
        assert!(sent(&mut jar, "https://a.b/p0").contains("c0=1"));
        assert!(store(&mut jar, "https://a.b/", "last=1"));
        assert_eq!(jar.len(), PER_DOMAIN_MAX + 1);
        assert!(!sent(&mut jar, "https://a.b/p1").contains("c1="));
        assert!(sent(&mut jar, "https://a.b/p0").contains("c0=1"));
        assert!(sent(&mut jar, "https://a.b/").contains("safe=1"));
        assert!(sent(&mut jar, "https://c.d/").contains("other=1"));
    }

    #[test]
    fn a_jar_has_a_limit() {
        let mut jar = CookieJar::new();
        for index in 0..TOTAL_MAX + 10 {
            let url = format!("https://h{index}.b/");
            assert!(store(&mut jar, &url, "x=1"));
        }
        assert_eq!(jar.len(), TOTAL_MAX);
        assert_eq!(sent(&mut jar, "https://h9.b/"), "");
        assert_eq!(sent(&mut jar, "https://h10.b/"), "x=1");
    }

    #[test]
    fn what_is_shown_has_no_secrets() {
        let mut jar = CookieJar::new();
        assert!(store(&mut jar, "https://a.b/", "id=secret"));
        assert!(!format!("{jar:?}").contains("secret"));
        jar.clear();
        assert!(jar.is_empty());
    }
}
