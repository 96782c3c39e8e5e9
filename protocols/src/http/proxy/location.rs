//! Where a response sends a client, told as the client knows the place. Pure.

use std::ops::Range;

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

/// What `Refresh` must say, where the place that it leads to is to be told as `moved` has it; `None` if it is right
/// as it is.
///
/// The field is in no RFC: this is HTML's `http-equiv=refresh`, `5; url=/a`, as browsers read both.
pub(super) fn refreshed(
    refresh: &str,
    moved: impl FnOnce(&str) -> Option<String>,
) -> Option<String> {
    let place = place_in_refresh(refresh)?;
    let moved = moved(&refresh[place.clone()])?;
    Some([&refresh[..place.start], &moved, &refresh[place.end..]].concat())
}

/// Where the URL in it stands: behind the time, a semicolon or a comma, `url=` if that is there, and in quotes or not.
fn place_in_refresh(refresh: &str) -> Option<Range<usize>> {
    let is_time = |it: char| it.is_ascii_digit() || it == '.';
    let rest = refresh
        .trim_start()
        .trim_start_matches(is_time)
        .trim_start();
    let rest = rest.strip_prefix([';', ',']).unwrap_or(rest).trim_start();
    let is_named = rest
        .get(..3)
        .is_some_and(|name| name.eq_ignore_ascii_case("url"));
    let named = is_named
        .then(|| rest[3..].trim_start().strip_prefix('='))
        .flatten();
    let place = named.map_or(rest, str::trim_start);
    let (place, length) = match place.strip_prefix(['"', '\'']) {
        Some(quoted) => {
            let end = quoted.find(&place[..1]);
            (quoted, end.unwrap_or(quoted.len()))
        }
        None => (place, place.trim_end().len()),
    };
    let begin = refresh.len() - place.len();
    (length > 0).then_some(begin..begin + length)
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

    #[test]
    fn a_refresh_is_told_as_a_location_is_and_the_rest_of_it_stays() {
        let uri: Uri = "http://back:9000".parse().expect("a URL");
        let origin = Origin::of(&uri).expect("an origin");
        let told = |refresh: &str| {
            let moved = |place: &str| moved(place, &origin, "/app", "/api");
            refreshed(refresh, moved)
        };
        for (refresh, expected) in [
            ("5; url=http://back:9000/app/a", "5; url=/api/a"),
            ("0;URL=/app/a?b#c", "0;URL=/api/a?b#c"),
            (
                " 1.5 , url = '/app/a' and more",
                " 1.5 , url = '/api/a' and more",
            ),
            ("5;url=\"/app\"", "5;url=\"/api\""),
            ("5;url=\"/app/a", "5;url=\"/api/a"),
            ("5; /app/a", "5; /api/a"),
            ("5 /app/a ", "5 /api/a "),
        ] {
            assert_eq!(told(refresh).as_deref(), Some(expected), "{refresh}");
        }
        for refresh in [
            "",
            "5",
            "5;",
            "5; url=",
            "5; url=''",
            "5; url=http://elsewhere/app",
            "5; url=/other",
            "5; url=a",
            "5; \u{e4}\u{e4}",
        ] {
            assert_eq!(told(refresh), None, "{refresh}");
        }
    }
}
