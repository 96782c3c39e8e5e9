//! curl, through a reverse proxy with a cache.

use std::cell::Cell;
use std::rc::Rc;

use torsade::prelude::*;
use torsade::protocols::http::cache::{Cache, CacheKind};
use torsade::protocols::http::conditional::{ETag, Validators};
use torsade::protocols::http::{Client, Request, ReverseProxy, Site, answer_conditionally, header};

use super::super::programs::{Background, curl};

/// An origin that says how often it was asked, and a proxy before it, with a cache.
fn proxied(reactor: &Reactor) -> http::Server {
    let asked = Rc::new(Cell::new(0));
    let origin = Site::new(move |request: Request| {
        asked.set(asked.get() + 1);
        let current = Validators {
            etag: ETag::strong("v1").ok(),
            last_modified: None,
        };
        let text = format!("asked {:04} times", asked.get());
        let mut response = answer_conditionally(&request, &current, text);
        let control = header::HeaderValue::from_static("max-age=60");
        response
            .headers_mut()
            .insert(header::CACHE_CONTROL, control);
        response
    });
    let origin = origin
        .listen(reactor, "127.0.0.1:0")
        .expect("there is a port");
    let url = format!("http://{}", origin.address());
    let cache = Cache::new(reactor, CacheKind::Shared).name("edge");
    let proxy = ReverseProxy::new(&Client::new(reactor), url).expect("a URL");
    let proxy = proxy.through(move |fetch| cache.around(fetch));
    let site = Site::new(proxy);
    site.listen(reactor, "127.0.0.1:0")
        .expect("there is a port")
}

#[test]
fn curl_is_told_what_the_cache_did() {
    let server = Background::listening(proxied);
    let saved = tempfile::tempdir().expect("a folder");
    let tag = saved.path().join("tag");
    let tag = tag.to_str().expect("it is text");
    let show = "-w%{http_code} %header{cache-status}";
    for (arguments, expected) in [
        (&[][..], "asked 0001 times200 edge; fwd=uri-miss; stored"),
        (&["--etag-save", tag], "asked 0001 times200 edge; hit; ttl="),
        (&["--etag-compare", tag], "304 edge; hit; ttl="),
        (&["-r", "6-9"], "0001206 edge; hit; ttl="),
        (&["-r", "-5"], "times206 edge; hit; ttl="),
        (&["-I", "-o/dev/null"], "200 edge; hit; ttl="),
        (
            &["-H", "Cache-Control: no-cache"],
            "asked 0001 times200 edge; fwd=request; fwd-status=304",
        ),
        (&["-X", "POST"], "asked 0003 times200 edge; fwd=method"),
        (
            &["--http1.0"],
            "asked 0004 times200 edge; fwd=uri-miss; stored",
        ),
        (
            &["-H", "Cache-Control: only-if-cached"],
            "asked 0004 times200 edge; hit; ttl=",
        ),
    ] {
        let arguments = [arguments, &[show]].concat();
        let Some(got) = curl(&server, "/page", &arguments) else {
            return;
        };
        assert!(got.starts_with(expected), "{arguments:?}: {got}");
    }
}
