//! Where a response sends a client, told as the client knows the place. Pure.

use http::Uri;

use super::super::client::Origin;

/// What `Location` must say to a client that knows `above` as what is at `base` of `origin`; `None` if it is
/// right as it is.
pub(super) fn moved(location: &str, origin: &Origin, base: &str, above: &str) -> Option<String> {
    let (path, is_absolute) = path_at(location, origin)?;
    let rest = path.strip_prefix(base)?;
    if !rest.is_empty() && !rest.starts_with(['/', '?', '#']) {
        return None;
    }
    let slash = if rest.starts_with('/') || !above.is_empty() {
        ""
    } else {
        "/"
    };
    let moved = format!("{above}{slash}{rest}");
    if moved.starts_with("//") {
        // A path that begins so is another host's: as the URL standard writes it.
        return Some(format!("/.{moved}"));
    }
    (is_absolute || moved != path).then_some(moved)
}

/// The path with what follows it, if the location is at this origin; and whether the origin stands before it.
fn path_at<'a>(location: &'a str, origin: &Origin) -> Option<(&'a str, bool)> {
    if location.starts_with('/') && !location.starts_with("//") {
        return Some((location, false));
    }
    let (scheme, rest) = location.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let uri: Uri = format!("{scheme}://{}", &rest[..end]).parse().ok()?;
    let found = Origin::of(&uri).ok()?;
    (found == *origin).then_some((&rest[end..], true))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(location: &str, base: &str, above: &str) -> Option<String> {
        let uri: Uri = "http://back:9000".parse().expect("a URL");
        let origin = Origin::of(&uri).expect("an origin");
        moved(location, &origin, base, above)
    }

    #[test]
    fn a_place_behind_the_proxy_is_told_as_the_client_knows_it() {
        let table = [
            ("http://back:9000/a?b#c", "", "", Some("/a?b#c")),
            ("HTTP://Back:9000", "", "", Some("/")),
            ("http://back:9000?q", "", "", Some("/?q")),
            ("http://back:9000/app/a", "/app", "", Some("/a")),
            ("http://back:9000/app", "/app", "/api", Some("/api")),
            ("http://back:9000/app/a", "/app", "/api", Some("/api/a")),
            ("/app/a", "/app", "/api", Some("/api/a")),
            ("/a", "", "/api", Some("/api/a")),
            (
                "http://back:9000//evil.example",
                "",
                "",
                Some("/.//evil.example"),
            ),
        ];
        for (location, base, above, expected) in table {
            let got = check(location, base, above);
            assert_eq!(got.as_deref(), expected, "{location}");
        }
    }

    #[test]
    fn a_place_elsewhere_stays_as_it_is() {
        let table = [
            ("https://back:9000/a", "", ""),
            ("http://back/a", "", ""),
            ("http://other:9000/a", "", "/api"),
            ("//back:9000/a", "", "/api"),
            ("a/b", "", "/api"),
            ("/a", "", ""),
            ("/apparel", "/app", "/api"),
            ("http://back:9000/other", "/app", "/api"),
            ("", "", ""),
        ];
        for (location, base, above) in table {
            assert_eq!(check(location, base, above), None, "{location}");
        }
    }
}
