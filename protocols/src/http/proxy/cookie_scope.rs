//! Where a cookie goes, told as the client knows the place. Pure.

use core::ops::Range;

/// What lies where: of the server behind, and of the client's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mount<'a> {
    /// The path of the upstream's URL, without a slash at its end.
    pub(super) base: &'a str,
    /// What the client knows that as.
    pub(super) above: &'a str,
    /// The upstream's host.
    pub(super) behind: &'a str,
    /// The host that the client asked for, without its port.
    pub(super) asked: Option<&'a str>,
}

/// What `Set-Cookie` must say to the client; `None` if it is right as it is.
pub(super) fn rescoped(cookie: &[u8], mount: &Mount<'_>) -> Option<Vec<u8>> {
    // RFC 6265bis §4.1.3.2: of such a name it has to be everywhere.
    let is_host_wide = cookie
        .get(..7)
        .is_some_and(|name| name.eq_ignore_ascii_case(b"__Host-"));
    let mut told = Vec::with_capacity(cookie.len() + mount.above.len());
    let mut is_changed = false;
    for (index, part) in cookie.split(|byte| *byte == b';').enumerate() {
        let change = match attribute(part) {
            // The first is the cookie itself.
            _ if index == 0 => None,
            Some(("path", value)) if !is_host_wide => {
                let path = str::from_utf8(&part[value.clone()]).ok();
                let path = path.and_then(|path| moved(path, mount));
                path.map(|path| [&part[..value.start], path.as_bytes()].concat())
            }
            Some(("domain", value)) => {
                let domain = str::from_utf8(&part[value]).ok();
                let is_foreign = domain.is_some_and(|domain| is_of_the_server(domain, mount));
                // Without it the cookie is of the host that was asked.
                is_foreign.then(Vec::new)
            }
            _ => None,
        };
        is_changed |= change.is_some();
        let part = change.as_deref().unwrap_or(part);
        if index > 0 && !part.is_empty() {
            told.push(b';');
        }
        told.extend_from_slice(part);
    }
    is_changed.then_some(told)
}

/// Which of the two a part is, and where its value stands.
fn attribute(part: &[u8]) -> Option<(&'static str, Range<usize>)> {
    let equals = part.iter().position(|byte| *byte == b'=')?;
    let name = part[..equals].trim_ascii();
    let name = ["path", "domain"]
        .into_iter()
        .find(|it| name.eq_ignore_ascii_case(it.as_bytes()))?;
    let value = &part[equals + 1..];
    let start = part.len() - value.trim_ascii_start().len();
    Some((name, start..start + part[start..].trim_ascii().len()))
}

/// A path below the upstream's base, as one below what the client knows.
fn moved(path: &str, mount: &Mount<'_>) -> Option<String> {
    let rest = path.strip_prefix(mount.base)?;
    if !rest.is_empty() && !rest.starts_with('/') || !path.starts_with('/') {
        return None;
    }
    // A cookie of `/a/` does not go to `/a`.
    let rest = if rest == "/" && !mount.above.is_empty() {
        ""
    } else {
        rest
    };
    // These are the client's words, and a semicolon would begin another attribute. A client compares paths as
    // they are sent (RFC 6265 §5.1.4), so this cookie does not come back: better than one that goes elsewhere.
    let above = mount.above.replace(';', "%3B");
    let moved = format!("{above}{rest}");
    let moved = if moved.is_empty() { "/".into() } else { moved };
    (moved != path).then_some(moved)
}

/// Whether a client would refuse that domain, as it asked another host than the server behind is.
fn is_of_the_server(domain: &str, mount: &Mount<'_>) -> bool {
    let domain = domain.strip_prefix('.').unwrap_or(domain);
    let is_below = |host: &str| {
        let end = host.len().checked_sub(domain.len());
        let matches = end.is_some_and(|end| {
            let bytes = host.as_bytes();
            bytes[end..].eq_ignore_ascii_case(domain.as_bytes())
                && (end == 0 || bytes[end - 1] == b'.')
        });
        !domain.is_empty() && matches
    };
    is_below(mount.behind) && !mount.asked.is_some_and(is_below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(base: &str, above: &str, cookie: &str, expected: Option<&str>) {
        let mount = Mount {
            base,
            above,
            behind: "app.back.example",
            asked: Some("www.front.example"),
        };
        let told = rescoped(cookie.as_bytes(), &mount);
        let told = told.map(|told| String::from_utf8(told).expect("it is text"));
        assert_eq!(told.as_deref(), expected, "{cookie}");
    }

    #[test]
    fn a_path_behind_the_proxy_is_told_as_the_client_knows_it() {
        for (base, above, cookie, expected) in [
            ("/v1", "/api", "a=b; Path=/v1", "a=b; Path=/api"),
            (
                "/v1",
                "/api",
                "a=b; path = /v1/x ;Secure",
                "a=b; path = /api/x;Secure",
            ),
            ("/v1", "", "a=b; Path=/v1", "a=b; Path=/"),
            ("/v1", "", "a=b; Path=/v1/", "a=b; Path=/"),
            ("", "/api", "a=b;Path=/", "a=b;Path=/api"),
            ("", "/api", "a=b; Path=/x", "a=b; Path=/api/x"),
            (
                "",
                "/t;Domain=a",
                "a=b; Path=/x; Secure",
                "a=b; Path=/t%3BDomain=a/x; Secure",
            ),
        ] {
            check(base, above, cookie, Some(expected));
        }
    }

    #[test]
    fn a_path_elsewhere_or_right_already_stays() {
        for (base, above, cookie) in [
            ("/v1", "/v1", "a=b; Path=/v1"),
            ("", "", "a=b; Path=/"),
            ("/v1", "/api", "a=b; Path=/"),
            ("/v1", "/api", "a=b; Path=/v10"),
            ("/v1", "/api", "a=b; Path=v1"),
            ("/v1", "/api", "a=b; Path"),
            ("", "/api", "a=b; Path="),
            ("/v1", "/api", "Path=/v1"),
            ("", "/api", "__Host-a=b; Path=/; Secure"),
        ] {
            check(base, above, cookie, None);
        }
    }

    #[test]
    fn a_domain_that_the_client_would_refuse_is_left_out() {
        for (cookie, expected) in [
            ("a=b; Domain=app.back.example; Path=/", Some("a=b; Path=/")),
            ("a=b; domain=.Back.Example", Some("a=b")),
            ("a=b; Domain=example", None),
            ("a=b; Domain=front.example", None),
            ("a=b; Domain=ack.example", None),
            ("a=b; Domain=x.app.back.example", None),
            ("a=b; Domain=", None),
        ] {
            check("", "", cookie, expected);
        }
    }
}
