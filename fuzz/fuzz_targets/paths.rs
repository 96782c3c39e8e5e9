//! No path leads out of the root, a route's parameters are those of its path, and what is logged
//! stays on its line.
#![no_main]

use std::path::{Component, Path};
use std::time::UNIX_EPOCH;

use http::Method;
use libfuzzer_sys::fuzz_target;
use torsade_protocols::http::access_log::Entry;
use torsade_protocols::http::media_types::media_type;
use torsade_protocols::http::paths::{DotFiles, SafePath};
use torsade_protocols::http::router::{Lookup, Router};

fuzz_target!(|input: (&str, &str)| {
    let (pattern, path) = input;
    if let Ok(found) = SafePath::new(path, DotFiles::Show) {
        let root = Path::new("/root");
        let below = found.below(root);
        let mut components = below.strip_prefix(root).expect("it is below").components();
        assert!(components.all(|it| matches!(it, Component::Normal(_))));
        let url = found.to_url_path(found.ends_with_slash());
        assert!(url.starts_with('/') && !url.starts_with("//") && url.is_ascii());
        assert_eq!(SafePath::new(&url, DotFiles::Show).as_ref(), Ok(&found));
    }
    let _ = media_type(path);

    let mut router = Router::new();
    let _ = router.add(Method::GET, "/a/{b}/c", 1);
    if router.add(Method::GET, pattern, 2).is_ok() {
        let _ = router.add_any(pattern, 3);
        let mut outer = Router::new();
        outer
            .nest("/{z}", router.clone())
            .expect("the prefix changes no conflict");
    }
    if let Lookup::Found { params, .. } = router.lookup(&Method::HEAD, path) {
        let length: usize = params.iter().map(|(_, value)| value.len()).sum();
        assert!(length <= path.len());
    }

    let entry = Entry {
        peer: pattern,
        user: Some(path),
        at: UNIX_EPOCH,
        request: path,
        status: 200,
        body_length: 1,
        referer: Some(pattern.as_bytes()),
        user_agent: None,
    };
    let mut line = String::new();
    entry.write_combined(&mut line);
    assert!(line.is_ascii());
    assert_eq!(line.chars().filter(char::is_ascii_control).count(), 1);
});
