//! Where a request goes: URLs, their origins, and references to others (RFC 3986).

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use http::uri::{Authority, PathAndQuery};
use http::{HeaderValue, Uri};
use percent_encoding::percent_decode_str;
use torsade_reactor::ascii_host_name;

use super::super::values::ascii_value;
use super::base64::base64;

/// Why a URL cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadUrl {
    /// It is none.
    #[error("it is malformed")]
    Malformed,
    /// It has no scheme and no host.
    #[error("it is not absolute")]
    Relative,
    /// A scheme other than `http` and `https`.
    #[error("its scheme is {scheme:?}, and only http and https are spoken here")]
    Scheme {
        /// Its scheme.
        scheme: String,
    },
}

/// A scheme, a host and a port: whom a request is for.
///
/// Requests for the same origin share connections.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    host: Box<str>,
    port: u16,
    is_https: bool,
}

impl Origin {
    pub(in crate::http) fn of(uri: &Uri) -> Result<Self, BadUrl> {
        let (is_https, host, port) = parts(uri)?;
        Ok(Self {
            host: host.to_ascii_lowercase().into(),
            port,
            is_https,
        })
    }

    /// The host: a name in lower case, or a number; an IPv6 address stands in brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether its scheme is `https`.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.is_https
    }

    /// Host and port, as a TCP address in text.
    #[must_use]
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_https { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.host)?;
        if self.port == default_port(self.is_https) {
            return Ok(());
        }
        write!(f, ":{}", self.port)
    }
}

/// What an origin consists of.
fn parts(uri: &Uri) -> Result<(bool, &str, u16), BadUrl> {
    let Some(scheme) = uri.scheme_str() else {
        return Err(BadUrl::Relative);
    };
    let is_https = match scheme {
        "http" => false,
        "https" => true,
        other => {
            return Err(BadUrl::Scheme {
                scheme: other.into(),
            });
        }
    };
    let authority = uri.authority().ok_or(BadUrl::Relative)?;
    let host = authority.host();
    let address = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    if host.is_empty() || address.unwrap_or(host).contains(['[', ']']) {
        return Err(BadUrl::Malformed);
    }
    let text = authority.as_str();
    let text = text.rsplit_once('@').map_or(text, |(_, text)| text);
    let port = match text.strip_prefix(host).ok_or(BadUrl::Malformed)? {
        // An empty one is none: RFC 3986 §3.2.3.
        "" | ":" => default_port(is_https),
        behind => {
            let port = behind.strip_prefix(':').ok_or(BadUrl::Malformed)?;
            port.parse().or(Err(BadUrl::Malformed))?
        }
    };
    Ok((is_https, host, port))
}

fn default_port(is_https: bool) -> u16 {
    if is_https { 443 } else { 80 }
}

/// An absolute URL of `http` or `https`.
#[derive(Clone, Debug)]
pub(super) struct Url {
    uri: Uri,
    pub(super) is_https: bool,
}

impl Url {
    pub(super) fn new(uri: Uri) -> Result<Self, BadUrl> {
        let target = uri.path_and_query().map_or("", |it| it.as_str());
        if !target.is_ascii() {
            // A `Uri` may have it; a message may not (RFC 9112 §3.2).
            return Self::new(parse(&uri.to_string())?);
        }
        let (is_https, ..) = parts(&uri)?;
        Ok(Self { uri, is_https })
    }

    pub(super) fn uri(&self) -> &Uri {
        &self.uri
    }

    pub(super) fn origin(&self) -> Origin {
        Origin::of(&self.uri).expect("a Url is checked when it is made")
    }

    pub(super) fn authority(&self) -> &Authority {
        let authority = self.uri.authority();
        authority.expect("a Url is checked when it is made")
    }

    /// Path and query: the target in the origin form (RFC 9112 §3.2.1).
    pub(super) fn target(&self) -> Cow<'_, str> {
        let target = self.uri.path_and_query().map_or("/", |it| it.as_str());
        if target.starts_with('/') {
            Cow::Borrowed(target)
        } else {
            Cow::Owned(format!("/{target}"))
        }
    }

    /// Whether its path is [`WHOLE_SERVER`].
    pub(super) fn is_whole_server(&self) -> bool {
        let target = self.uri.path_and_query();
        target.is_some_and(|it| it.as_str() == WHOLE_SERVER)
    }

    /// Scheme and host, without credentials.
    pub(super) fn server(&self) -> String {
        let scheme = if self.is_https { "https" } else { "http" };
        format!("{scheme}://{}", self.host())
    }

    /// What `Host` says: RFC 9110 §7.2. Neither credentials nor a port that goes without saying.
    pub(super) fn host(&self) -> &str {
        let authority = self.authority();
        let all = authority.as_str();
        let host = all.rsplit_once('@').map_or(all, |(_, host)| host);
        let default = if self.is_https { ":443" } else { ":80" };
        host.strip_suffix(default)
            .or_else(|| host.strip_suffix(':'))
            .unwrap_or(host)
    }

    /// Scheme, host, path and query, without credentials: the target in the absolute form (RFC 9112
    /// §3.2.2), and what errors and logs show.
    pub(super) fn without_credentials(&self) -> String {
        match self.is_whole_server() {
            true => self.server(),
            false => format!("{}{}", self.server(), self.target()),
        }
    }

    /// The credentials, as `Authorization` wants them.
    pub(super) fn authorization(&self) -> Option<HeaderValue> {
        let (credentials, _) = self.authority().as_str().rsplit_once('@')?;
        let mut value = ascii_value(&basic(credentials));
        value.set_sensitive(true);
        Some(value)
    }

    /// What a reference that was found here refers to: RFC 3986 §5.2.
    pub(super) fn join(&self, reference: &[u8]) -> Result<Self, BadUrl> {
        let reference = escaped(reference);
        let reference = reference.split('#').next().unwrap_or_default();
        let scheme = if self.is_https { "https" } else { "http" };
        let host = self.authority();
        let joined = if has_scheme(reference) {
            reference.to_owned()
        } else if reference.starts_with("//") {
            format!("{scheme}:{reference}")
        } else {
            // Credentials are for what they were given for; a relative reference is the same.
            let (path, query) = match reference.split_once('?') {
                Some((path, query)) => (path, Some(query)),
                None => (reference, None),
            };
            let (path, query) = if path.is_empty() {
                (self.uri.path().to_owned(), query.or(self.uri.query()))
            } else if path.starts_with('/') {
                (without_dots(path), query)
            } else {
                let base = self.uri.path();
                let folder = base.rfind('/').map_or("/", |at| &base[..=at]);
                (without_dots(&format!("{folder}{path}")), query)
            };
            match query {
                Some(query) => format!("{scheme}://{host}{path}?{query}"),
                None => format!("{scheme}://{host}{path}"),
            }
        };
        Self::new(joined.parse::<Uri>().or(Err(BadUrl::Malformed))?)
    }
}

/// In the place of a path: the server itself, which can be asked for its options (RFC 9112 §3.2.4).
const WHOLE_SERVER: &str = "*";

/// The server of this URL, for [`WHOLE_SERVER`].
pub(in crate::http) fn whole_server(uri: Uri) -> Uri {
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::from_static(WHOLE_SERVER));
    Uri::from_parts(parts).unwrap_or(uri)
}

/// Whether this URL ends with its host and port, without so much as a slash. A [`Uri`] does not know.
pub(in crate::http) fn is_bare(text: &str) -> bool {
    let behind = text.split_once("://").map_or("", |(_, behind)| behind);
    !behind.is_empty() && !behind.contains(['/', '?', '#'])
}

/// A URL that somebody wrote: its host may be a name of any script, and what is behind it may have letters
/// of all kinds.
pub(super) fn parse(text: &str) -> Result<Uri, BadUrl> {
    let uri = match text.is_ascii() {
        true => text.parse(),
        false => escaped(text.as_bytes()).parse(),
    };
    // Of what it was made of, more is to be seen in the text than in the error.
    uri.or(Err(BadUrl::Malformed))
}

/// RFC 7617, of what stands in a URL.
fn basic(credentials: &str) -> String {
    let decoded: Vec<u8> = percent_decode_str(credentials).collect();
    let mut text = String::from("Basic ");
    // Without a colon there is no password, which is written as an empty one.
    if credentials.contains(':') {
        base64(&decoded, &mut text);
    } else {
        base64(&[&decoded[..], b":"].concat(), &mut text);
    }
    text
}

/// Whether the reference begins with a scheme and a colon.
fn has_scheme(reference: &str) -> bool {
    let end = reference.find([':', '/', '?']);
    let Some(end) = end.filter(|end| reference[*end..].starts_with(':')) else {
        return false;
    };
    let scheme = &reference[..end];
    scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// What people and servers write though it may not stand in a URL, as browsers take it: hosts of every
/// script by their names in ASCII, spaces and letters of all kinds percent-encoded.
fn escaped(text: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    let host = host_in(text);
    let name = str::from_utf8(&text[host.clone()]);
    match name.map(ascii_host_name) {
        Ok(Ok(Cow::Owned(name))) => {
            escape(&text[..host.start], &mut out);
            out.push_str(&name);
            escape(&text[host.end..], &mut out);
        }
        _ => escape(text, &mut out),
    }
    out
}

/// Where the host of a reference stands; empty, if it has none.
fn host_in(text: &[u8]) -> Range<usize> {
    let slashes = text.windows(2).position(|it| it == b"//");
    let begin = match slashes.map(|at| (at, str::from_utf8(&text[..at]))) {
        Some((at, Ok(before))) if before.is_empty() || has_scheme(before) => at + 2,
        _ => return 0..0,
    };
    let end = text[begin..].iter().position(|byte| b"/?#".contains(byte));
    let end = end.map_or(text.len(), |length| begin + length);
    let credentials = memchr::memrchr(b'@', &text[begin..end]);
    let begin = credentials.map_or(begin, |at| begin + at + 1);
    let port = memchr::memchr(b':', &text[begin..end]);
    begin..port.map_or(end, |at| begin + at)
}

fn escape(text: &[u8], out: &mut String) {
    for byte in text {
        if byte.is_ascii_graphic() && !b"\"<>`".contains(byte) {
            out.push(char::from(*byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

/// RFC 3986 §5.2.4.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut parts = path.split('/').skip(1).peekable();
    while let Some(part) = parts.next() {
        let is_last = parts.peek().is_none();
        match part {
            "." | ".." => {
                if part == ".." {
                    kept.pop();
                }
                if is_last {
                    kept.push("");
                }
            }
            part => kept.push(part),
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::new(text.parse().expect("a URI")).expect("a URL")
    }

    #[test]
    fn a_url_has_its_parts() {
        let check = |text: &str, origin: &str, host: &str, target: &str| {
            let url = url(text);
            assert_eq!(url.origin().to_string(), origin);
            assert_eq!((url.host(), &*url.target()), (host, target), "{text}");
        };
        check("http://Here/a?b", "http://here", "Here", "/a?b");
        check("http://here", "http://here", "here", "/");
        check("http://here:80/", "http://here", "here", "/");
        check("https://here:80/", "https://here:80", "here:80", "/");
        check("https://here:443/", "https://here", "here", "/");
        check("http://here:/", "http://here", "here", "/");
        check("http://[::1]:81/x", "http://[::1]:81", "[::1]:81", "/x");
        check("http://me:secret@here/", "http://here", "here", "/");
        check("http://80:8080/", "http://80:8080", "80:8080", "/");
        check("http://80:80@80:81/", "http://80:81", "80:81", "/");
        check("http://here?a=b", "http://here", "here", "/?a=b");
        check("http://here/a#b", "http://here", "here", "/a");
    }

    #[test]
    fn names_and_paths_may_be_of_every_script() {
        let check = |text: &str, expected: &str| {
            let url = parse(text).and_then(Url::new).expect("a URL");
            assert_eq!(url.uri().to_string(), expected, "{text}");
        };
        let name = "xn--bcher-kva.example";
        check("http://B\u{fc}cher.example", &format!("http://{name}/"));
        check(
            "http://me:p\u{e4}@b\u{fc}cher.example:81/\u{e4}?\u{f6} \u{fc}",
            &format!("http://me:p%C3%A4@{name}:81/%C3%A4?%C3%B6%20%C3%BC"),
        );
        check("http://here/%C3%A4\u{e4}", "http://here/%C3%A4%C3%A4");
        check("http://[::1]:81/\u{e4}", "http://[::1]:81/%C3%A4");
        // What others have parsed.
        assert_eq!(url("http://here/\u{e4}").target(), "/%C3%A4");
        for none in [
            "http://\u{fc} /",
            "http://\u{fffd}/",
            "http://a\u{3002}\u{3002}b/",
        ] {
            assert_eq!(parse(none), Err(BadUrl::Malformed), "{none}");
        }
    }

    #[test]
    fn credentials_are_shown_to_nobody_but_the_server() {
        let url = url("http://me:s%20t@here/x");
        assert_eq!(url.without_credentials(), "http://here/x");
        // printf 'me:s t' | base64
        let value = url.authorization().expect("it has some");
        assert_eq!(value, "Basic bWU6cyB0");
        assert!(value.is_sensitive());
    }

    #[test]
    fn what_is_no_url_is_refused() {
        let check = |text: &str, problem: BadUrl| {
            let refused = Url::new(text.parse().expect("a URI")).map(|_| ());
            assert_eq!(refused, Err(problem), "{text}");
        };
        check("/a", BadUrl::Relative);
        check("here:80", BadUrl::Relative);
        let scheme = String::from("ftp");
        check("ftp://here/", BadUrl::Scheme { scheme });
        check("http://here:99999/", BadUrl::Malformed);
        // Brackets stand around an address and nowhere else (RFC 3986 §3.2.2); `http` finds these balanced.
        check("http://me[@he]re/", BadUrl::Malformed);
        check("http://me[:secret@here]:81/", BadUrl::Malformed);
        check("http://[::1]here/", BadUrl::Malformed);
    }

    /// RFC 3986 §5.4, as far as the schemes and hosts are spoken here.
    #[test]
    fn references_are_resolved() {
        let base = url("http://a/b/c/d;p?q");
        for (reference, expected) in [
            ("http://g/h", "http://g/h"),
            ("g", "http://a/b/c/g"),
            ("./g", "http://a/b/c/g"),
            ("g/", "http://a/b/c/g/"),
            ("/g", "http://a/g"),
            ("//g/x", "http://g/x"),
            ("?y", "http://a/b/c/d;p?y"),
            ("g?y", "http://a/b/c/g?y"),
            ("#s", "http://a/b/c/d;p?q"),
            ("g#s", "http://a/b/c/g"),
            (";x", "http://a/b/c/;x"),
            ("", "http://a/b/c/d;p?q"),
            (".", "http://a/b/c/"),
            ("..", "http://a/b/"),
            ("../g", "http://a/b/g"),
            ("../..", "http://a/"),
            ("../../../g", "http://a/g"),
            ("/../g", "http://a/g"),
            ("g/./h", "http://a/b/c/g/h"),
            ("g/../h", "http://a/b/c/h"),
            ("g?y/../x", "http://a/b/c/g?y/../x"),
            ("g:h/x/..", "g:"),
            ("a b\u{e4}", "http://a/b/c/a%20b%C3%A4"),
            (
                "//b\u{fc}cher.example:81/\u{e4}",
                "http://xn--bcher-kva.example:81/%C3%A4",
            ),
            (
                "https://x@b\u{fc}cher.example",
                "https://x@xn--bcher-kva.example/",
            ),
            ("x//b\u{fc}cher", "http://a/b/c/x//b%C3%BCcher"),
        ] {
            match base.join(reference.as_bytes()) {
                Ok(joined) => assert_eq!(joined.uri().to_string(), expected, "{reference}"),
                Err(_) => assert_eq!(expected, "g:", "{reference}"),
            }
        }
    }
}
