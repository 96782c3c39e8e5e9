//! Checks of URLs and proxies, for the fuzzer.

use std::collections::BTreeMap;

use http::Uri;

use super::proxy::{Proxies, Proxy};
use super::url::{Origin, Url};

/// That a URL is one that can be asked for, and is read by others as by us.
fn check(url: &Url) {
    let target = url.target();
    assert!(target.starts_with('/'));
    assert!(
        target
            .bytes()
            .all(|byte| byte > b' ' && byte != 0x7f && byte != b'#')
    );
    let host = url.host();
    assert!(!host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic()));
    assert!(!host.contains(['@', '/', '?', '#']));
    let origin = url.origin();
    assert!(!origin.host().contains(|it: char| it.is_ascii_uppercase()));
    let plain = url.without_credentials();
    let again = Url::new(plain.parse().expect("it is shown as a URL")).expect("it is one");
    assert_eq!(again.origin(), origin);
    assert_eq!(again.target(), target);
    let text = origin.to_string();
    assert_eq!(Origin::of(&text.parse().expect("a URL")), Ok(origin));
    if let Some(value) = url.authorization() {
        assert!(value.is_sensitive());
    }
}

/// What a reference leads to can be asked for, and leads to itself; credentials stay where they were.
pub fn references(base: &str, reference: &[u8]) {
    let known = "https://me:sesame@here.example:81/a/b/../c?d=e";
    for base in [base, known] {
        let Ok(base) = base.parse::<Uri>() else {
            continue;
        };
        let Ok(base) = Url::new(base) else { continue };
        check(&base);
        let Ok(joined) = base.join(reference) else {
            continue;
        };
        check(&joined);
        let text = joined.uri().to_string();
        let again = joined.join(text.as_bytes()).expect("it is absolute");
        // What the base has of its own is not escaped again.
        assert_eq!(again.uri().to_string(), text.replace('"', "%22"));
        let from_base = base.join(text.as_bytes()).expect("it is absolute");
        assert_eq!(from_base.uri(), again.uri());
        // (A name of another script may become one with the password in it.)
        if joined.origin() != base.origin() && reference.is_ascii() {
            let is_told =
                text.contains("sesame") && !reference.windows(6).any(|it| it == b"sesame");
            assert!(!is_told, "{text} knows the password");
        }
    }
}

/// A list of exceptions is what its members are; whatever the variables say, passwords are not shown.
pub fn proxy_lists(lists: &[String], hosts: &[String], values: &[String]) {
    let to = |list: &str| Proxies::all(Proxy::new("http://proxy").expect("a proxy")).except(list);
    let all = to(&lists.join(","));
    for host in hosts {
        for scheme in ["http", "https"] {
            let Ok(uri) = format!("{scheme}://{host}").parse::<Uri>() else {
                continue;
            };
            let Ok(origin) = Origin::of(&uri) else {
                continue;
            };
            let is_direct = all.for_origin(&origin).is_none();
            let by_one = lists
                .iter()
                .any(|list| to(list).for_origin(&origin).is_none());
            assert_eq!(is_direct, by_one);
            assert!(to("*").for_origin(&origin).is_none());
            assert!(to("").for_origin(&origin).is_some());
            let is_member = !origin.host().contains([',', '/', '*']);
            let alone = to(&origin.address());
            assert!(
                !is_member || alone.for_origin(&origin).is_none(),
                "{origin}"
            );
        }
    }
    let names = [
        "http_proxy",
        "https_proxy",
        "HTTPS_PROXY",
        "all_proxy",
        "no_proxy",
    ];
    let known: BTreeMap<_, _> = names.into_iter().zip(values).collect();
    if let Ok(proxies) = Proxies::from_variables(|name| known.get(name).map(|it| (*it).clone())) {
        let _ = proxies
            .for_origin(&Origin::of(&Uri::from_static("https://a.example/")).expect("it is one"));
    }
    // (A name of another script may become one with the password in it.)
    if let Some(value) = values.first().filter(|value| value.is_ascii())
        && let Ok(proxy) = Proxy::new(&format!("http://me:sesame@{value}"))
    {
        assert!(
            value.to_ascii_lowercase().contains("sesame")
                || !format!("{proxy:?}").contains("sesame")
        );
    }
}
