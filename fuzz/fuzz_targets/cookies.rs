//! Whatever servers set, a jar sends what can be sent, to whom it may.
#![no_main]

use std::time::{Duration, UNIX_EPOCH};

use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use torsade_protocols::http::cookie_jar::{CookieJar, CookieOrigin};
use torsade_protocols::http::cookies::{Cookie, request_cookies};

const HOSTS: [&str; 6] = [
    "a.example",
    "b.a.example",
    "example",
    "[::1]",
    "127.0.0.1",
    "",
];

fuzz_target!(|input: Vec<(u8, bool, String, Vec<u8>)>| {
    let mut jar = CookieJar::new();
    let mut now = UNIX_EPOCH;
    for (number, is_secure, path, text) in &input {
        now += Duration::from_secs(u64::from(*number));
        let origin = CookieOrigin {
            host: HOSTS[usize::from(*number) % HOSTS.len()],
            path,
            is_secure: *is_secure,
        };
        let Ok(value) = HeaderValue::from_bytes(text) else {
            continue;
        };
        let mut headers = HeaderMap::new();
        headers.insert("cookie", value.clone());
        for (name, value) in request_cookies(&headers) {
            if let Ok(cookie) = Cookie::new(name, value).and_then(|it| it.path("/")) {
                assert!(Cookie::parse(&cookie.to_value()).is_some());
            }
        }
        if let Some(received) = Cookie::parse(&value) {
            let _ = jar.store(received, &origin, now);
        }
        if let Some(value) = jar.cookies_for(&origin, now) {
            assert!(!value.is_empty());
        }
        assert!(jar.len() <= input.len());
    }
});
