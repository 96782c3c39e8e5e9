//! Fields of any value: conditions, negotiation, what proxies do.
#![no_main]

use std::time::{Duration, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use libfuzzer_sys::fuzz_target;
use torsade_protocols::http::conditional::{ETag, Validators, evaluate, range_applies};
use torsade_protocols::http::forwarding::{
    Earlier, ForwardedFor, append_via, client_by_forwarded, client_by_x_forwarded_for,
    count_in_via, decrement_max_forwards, remove_hop_by_hop,
};
use torsade_protocols::http::negotiate::{Coding, add_vary, choose_coding, choose_type};

const NAMES: [&str; 18] = [
    "accept",
    "accept-encoding",
    "vary",
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
    "if-range",
    "range",
    "connection",
    "via",
    "forwarded",
    "x-forwarded-for",
    "max-forwards",
    "te",
    "host",
    "content-length",
    "x-other",
];

fuzz_target!(|input: Vec<(u8, Vec<u8>)>| {
    let mut headers = HeaderMap::new();
    for (number, value) in &input {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            let name = NAMES[usize::from(*number) % NAMES.len()];
            headers.append(HeaderName::from_static(name), value.clone());
            if let Ok(tag) = ETag::parse(value.as_bytes()) {
                assert_eq!(ETag::parse(tag.to_value().as_bytes()).as_ref(), Ok(&tag));
                assert!(tag.weakly_equals(&tag));
                assert_eq!(tag.strongly_equals(&tag), !tag.is_weak());
            }
        }
    }
    let at = UNIX_EPOCH + Duration::from_secs(784_111_777);
    let current = Validators {
        etag: ETag::strong("a").ok(),
        last_modified: Some(at),
    };
    for method in [Method::GET, Method::PUT] {
        let _ = evaluate(&method, &headers, Some(&current));
        let _ = evaluate(&method, &headers, None);
        let _ = range_applies(&method, &headers, &current, at);
    }
    let _ = choose_coding(&headers, &[Coding::Gzip, Coding::Deflate]);
    if let Some(index) = choose_type(&headers, &["text/html", "text/plain;format=flowed"]) {
        assert!(index < 2);
    }
    add_vary(&mut headers, &http::header::ACCEPT);
    let _ = client_by_forwarded(&headers, 1);
    let _ = client_by_x_forwarded_for(&headers, 2);
    let _ = decrement_max_forwards(&mut headers);
    let has_host = headers.contains_key("host");
    remove_hop_by_hop(&mut headers);
    assert!(!headers.contains_key("connection"));
    assert_eq!(headers.contains_key("host"), has_host);
    append_via(&mut headers, Version::HTTP_11, "us");
    assert!(count_in_via(&headers, "us") > 0);
    let forwarded = ForwardedFor {
        client: "192.0.2.1".parse().ok(),
        host: input
            .first()
            .and_then(|(_, value)| std::str::from_utf8(value).ok()),
        scheme: None,
    };
    forwarded.write_forwarded(&mut headers, Earlier::Append);
    assert_eq!(client_by_forwarded(&headers, 1), forwarded.client);
    forwarded.write_x_forwarded(&mut headers, Earlier::Append);
    assert_eq!(client_by_x_forwarded_for(&headers, 1), forwarded.client);
});
