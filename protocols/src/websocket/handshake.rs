//! How HTTP becomes WebSocket: RFC 6455 §4. Pure.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Uri};
use sha1_smol::Sha1;

use super::error::HandshakeError;
use crate::http::{base64, is_token};

/// §1.3.
const ACCEPT_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// §4.1: the only version that there is.
pub(super) const VERSION: &str = "13";

/// What a server answers to a key: §4.2.2, item 5.4.
pub(super) fn accept_of(key: &str) -> String {
    let digest = Sha1::from([key, ACCEPT_SUFFIX].concat()).digest().bytes();
    encoded(&digest)
}

pub(super) fn encoded(bytes: &[u8]) -> String {
    let mut text = String::new();
    base64(bytes, &mut text);
    text
}

/// Which pages may talk to a server: what a browser says in `Origin`, about the page whose script connects.
///
/// A browser sends a user's cookies with the handshake, whichever page asked for it, and its same-origin policy
/// does not stop WebSocket: a server that believed cookies and looked at no origin would be open to every page
/// that the user visits (RFC 6455 §10.2). Programs that are no browsers send no `Origin`, and could send any:
/// without one, nobody is refused.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Origins {
    /// Pages from the host and port that the request's `Host` names. The default.
    ///
    /// Those of `http` and of `https`, where each leaves out its own port: behind a proxy nobody knows which of
    /// the two the client speaks. A service of `wss` that is not to trust pages which came without TLS, and which
    /// anybody on the way can write, has the origin named: [`Only`](Self::Only).
    #[default]
    SameHost,
    /// Pages from these origins, as they stand in `Origin`: `https://example.com`.
    Only(Vec<String>),
    /// Pages from anywhere: for a service that believes no cookies and no addresses.
    Any,
}

impl Origins {
    fn allow(&self, headers: &HeaderMap) -> bool {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let Some(origin) = origins.next() else {
            return true;
        };
        let origin = origin.to_str().unwrap_or_default();
        match self {
            Self::Any => true,
            _ if origins.next().is_some() => false,
            Self::Only(list) => list.iter().any(|it| it.eq_ignore_ascii_case(origin)),
            Self::SameHost => {
                let host = headers
                    .get(header::HOST)
                    .and_then(|host| host.to_str().ok());
                host.is_some_and(|host| is_from_host(origin, host))
            }
        }
    }
}

/// Whether a page of this origin comes from this host and port.
fn is_from_host(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else {
        // `null`: nobody knows where from.
        return false;
    };
    // Both leave out the port that goes without saying, which is the scheme's.
    let default = match scheme {
        "https" => ":443",
        "http" => ":80",
        _ => return false,
    };
    let name = |text: &str| {
        text.strip_suffix(default)
            .unwrap_or(text)
            .to_ascii_lowercase()
    };
    !authority.is_empty() && name(authority) == name(host)
}

/// What a server says to a request that is none of WebSocket, or not wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It does not ask for WebSocket at all.
    NoUpgrade,
    Method,
    Version,
    /// It has no key, or one that is none.
    Key,
    Origin,
}

impl Refusal {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::NoUpgrade | Self::Version => StatusCode::UPGRADE_REQUIRED,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Key => StatusCode::BAD_REQUEST,
            Self::Origin => StatusCode::FORBIDDEN,
        }
    }

    pub(super) fn message(self) -> &'static str {
        match self {
            Self::NoUpgrade => "this is for WebSocket",
            Self::Method => "WebSocket begins with GET",
            Self::Version => "WebSocket is spoken in version 13",
            Self::Key => "Sec-WebSocket-Key is 16 bytes in base64",
            Self::Origin => "pages from elsewhere are not served",
        }
    }

    /// Fields that say what would be right.
    pub(super) fn fields(self) -> Vec<(HeaderName, &'static str)> {
        // RFC 9110 §15.5.22: with every 426.
        let upgrade = (header::UPGRADE, "websocket");
        match self {
            Self::NoUpgrade => vec![upgrade],
            Self::Method => vec![(header::ALLOW, "GET")],
            // §4.4.
            Self::Version => vec![upgrade, (header::SEC_WEBSOCKET_VERSION, VERSION)],
            Self::Key | Self::Origin => Vec::new(),
        }
    }
}

/// What a server says to a request that it takes.
#[derive(Debug, PartialEq)]
pub(super) struct Acceptance {
    pub(super) accept: String,
    pub(super) subprotocol: Option<String>,
}

/// Looks at a request: §4.2.1. `asks` says whether its `Upgrade` and `Connection` do.
pub(super) fn look_at(
    method: &Method,
    asks: bool,
    headers: &HeaderMap,
    ours: &[String],
    origins: &Origins,
) -> Result<Acceptance, Refusal> {
    if !asks {
        return Err(Refusal::NoUpgrade);
    }
    if *method != Method::GET {
        return Err(Refusal::Method);
    }
    if only(headers, &header::SEC_WEBSOCKET_VERSION) != Some(VERSION) {
        return Err(Refusal::Version);
    }
    let key = only(headers, &header::SEC_WEBSOCKET_KEY).filter(|key| is_key(key));
    let key = key.ok_or(Refusal::Key)?;
    if !origins.allow(headers) {
        return Err(Refusal::Origin);
    }
    let offered: Vec<&str> = offered(headers).collect();
    let chosen = ours.iter().find(|ours| offered.contains(&ours.as_str()));
    Ok(Acceptance {
        accept: accept_of(key),
        subprotocol: chosen.cloned(),
    })
}

/// The one value that a field has.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    Some(value.to_str().ok()?.trim())
}

/// The subprotocols that a client offers, the best first: §11.3.4.
fn offered(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    words(headers, header::SEC_WEBSOCKET_PROTOCOL).filter(|name| is_token(name))
}

/// What a list of tokens has, over all fields of that name.
fn words(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

/// 16 bytes in base64: 22 letters and two signs of equality. (The four bits that the last letter has too many
/// are not looked at: neither do others.)
fn is_key(key: &str) -> bool {
    let letters = key.strip_suffix("==").unwrap_or_default();
    letters.len() == 22
        && letters
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}

/// The fields that ask a server: §4.1.
pub(super) fn ask(headers: &mut HeaderMap, key: &str, subprotocols: &[String]) {
    let word = HeaderValue::from_static;
    headers.insert(header::CONNECTION, word("Upgrade"));
    headers.insert(header::UPGRADE, word("websocket"));
    headers.insert(header::SEC_WEBSOCKET_VERSION, word(VERSION));
    let names: Vec<&str> = subprotocols.iter().map(String::as_str).collect();
    for (name, text) in [
        (header::SEC_WEBSOCKET_KEY, key.to_owned()),
        (header::SEC_WEBSOCKET_PROTOCOL, names.join(", ")),
    ] {
        // Base64 and tokens are: nothing is left out but what is empty.
        if let Some(value) = HeaderValue::try_from(text).ok().filter(|it| !it.is_empty()) {
            headers.insert(name, value);
        }
    }
}

/// Looks at the fields of a 101: §4.1. Gives the subprotocol that the server has chosen.
pub(super) fn check_answer(
    headers: &HeaderMap,
    key: &str,
    offered: &[String],
) -> Result<Option<String>, HandshakeError> {
    let bad = |problem| Err(HandshakeError::BadAnswer { problem });
    let upgrade = only(headers, &header::UPGRADE);
    if !upgrade.is_some_and(|it| it.eq_ignore_ascii_case("websocket")) {
        return bad("it switches to something else");
    }
    let mut options = words(headers, header::CONNECTION);
    if !options.any(|it| it.eq_ignore_ascii_case("upgrade")) {
        return bad("its Connection does not say Upgrade");
    }
    if only(headers, &header::SEC_WEBSOCKET_ACCEPT) != Some(&accept_of(key)) {
        return bad("it does not answer this key");
    }
    if headers.contains_key(header::SEC_WEBSOCKET_EXTENSIONS) {
        return bad("it uses an extension that was not offered");
    }
    if !headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL) {
        return Ok(None);
    }
    let chosen = only(headers, &header::SEC_WEBSOCKET_PROTOCOL);
    match offered.iter().find(|it| Some(it.as_str()) == chosen) {
        Some(chosen) => Ok(Some(chosen.clone())),
        None => bad("it chooses a subprotocol that was not offered"),
    }
}

/// From `ws` to `http`, and from `wss` to `https`: §3. What has one of these already may stay.
pub(super) fn http_url(url: &Uri) -> Result<Uri, HandshakeError> {
    let bad = || HandshakeError::BadUrl {
        url: without_credentials(url),
    };
    let scheme = match url.scheme_str() {
        Some("ws" | "http") => "http",
        Some("wss" | "https") => "https",
        _ => return Err(bad()),
    };
    let mut parts = url.clone().into_parts();
    parts.scheme = scheme.parse().ok();
    Uri::from_parts(parts).or(Err(bad()))
}

/// For errors, which may end in a log.
fn without_credentials(url: &Uri) -> String {
    let text = url.to_string();
    match url.authority().and_then(|it| it.as_str().rsplit_once('@')) {
        Some((credentials, _)) => text.replacen(&format!("{credentials}@"), "", 1),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name = HeaderName::try_from(*name).expect("a name");
            headers.append(name, value.parse().expect("a value"));
        }
        headers
    }

    const KEY: (&str, &str) = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    const VERSION_13: (&str, &str) = ("sec-websocket-version", "13");

    fn look(lines: &[(&str, &str)], origins: &Origins) -> Result<Acceptance, Refusal> {
        let ours = ["chat.v2".to_owned(), "chat.v1".to_owned()];
        look_at(&Method::GET, true, &headers(lines), &ours, origins)
    }

    /// RFC 6455 §1.3.
    #[test]
    fn rfc6455_1_3_the_example() {
        let accepted = look(&[KEY, VERSION_13], &Origins::Any).expect("it is right");
        assert_eq!(accepted.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(accepted.subprotocol, None);
    }

    #[test]
    fn the_servers_preference_decides_between_subprotocols() {
        let offer = |text| {
            look(
                &[KEY, VERSION_13, ("sec-websocket-protocol", text)],
                &Origins::Any,
            )
        };
        let chosen = |text| offer(text).expect("it is right").subprotocol;
        assert_eq!(
            chosen("chat.v1, other, chat.v2").as_deref(),
            Some("chat.v2")
        );
        assert_eq!(chosen("chat.v1").as_deref(), Some("chat.v1"));
        assert_eq!(chosen("other"), None);
        assert_eq!(chosen("chat v1"), None);
    }

    #[test]
    fn keys_and_versions_that_are_none_are_refused() {
        let bad_keys = [
            "",
            "dGhlIHNhbXBsZSBub25jZQ=",
            "dGhlIHNhbXBsZSBub25jZQ===",
            "dGhl IHNhbXBsZSBub25jZQ==",
        ];
        for key in bad_keys {
            let refused = look(&[("sec-websocket-key", key), VERSION_13], &Origins::Any);
            assert_eq!(refused, Err(Refusal::Key), "{key}");
        }
        assert_eq!(
            look(&[KEY, KEY, VERSION_13], &Origins::Any),
            Err(Refusal::Key)
        );
        for lines in [
            &[KEY][..],
            &[KEY, ("sec-websocket-version", "8")],
            &[KEY, VERSION_13, VERSION_13],
        ] {
            assert_eq!(look(lines, &Origins::Any), Err(Refusal::Version));
        }
    }

    #[test]
    fn pages_from_elsewhere_are_refused_and_programs_are_not() {
        let same = Origins::SameHost;
        let only = Origins::Only(vec!["https://Friend.example".into()]);
        for (origins, host, origin, is_let_in) in [
            (&same, "a.example", "https://a.example", true),
            (&same, "A.example", "http://a.example", true),
            (&same, "a.example:443", "https://a.example", true),
            (&same, "a.example:8080", "http://a.example:8080", true),
            (&same, "[::1]:80", "http://[::1]", true),
            (&same, "a.example:8080", "http://a.example", false),
            (&same, "a.example", "https://b.example", false),
            (&same, "a.example", "https://a.example.evil", false),
            (&same, "a.example", "null", false),
            (&same, "a.example", "file://", false),
            (&same, "", "https://", false),
            (&only, "a.example", "https://friend.example", true),
            (&only, "a.example", "http://friend.example", false),
            (&only, "a.example", "https://a.example", false),
            (&Origins::Any, "a.example", "null", true),
        ] {
            let lines = [KEY, VERSION_13, ("host", host), ("origin", origin)];
            let outcome = look(&lines, origins);
            assert_eq!(
                outcome.is_ok(),
                is_let_in,
                "{origin} at {host}: {outcome:?}"
            );
            assert!(look(&lines[..3], origins).is_ok(), "no origin");
        }
        let lines = [
            KEY,
            VERSION_13,
            ("host", "a"),
            ("origin", "http://a"),
            ("origin", "http://b"),
        ];
        assert_eq!(look(&lines, &same), Err(Refusal::Origin));
    }

    #[test]
    fn an_answer_must_be_one_to_this_key_and_take_what_was_offered() {
        let key = KEY.1;
        let accept = ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let upgrade = ("upgrade", "WebSocket");
        let connection = ("connection", "keep-alive, upgrade");
        let offered = ["a".to_owned(), "b".to_owned()];
        let check = |lines: &[(&str, &str)]| check_answer(&headers(lines), key, &offered);
        let right = [accept, upgrade, connection];
        assert_eq!(check(&right).expect("right"), None);
        let with = |field| [&right[..], &[field]].concat();
        let chosen = check(&with(("sec-websocket-protocol", "b")));
        assert_eq!(chosen.expect("right").as_deref(), Some("b"));
        for lines in [
            vec![upgrade, connection],
            vec![accept, connection],
            vec![accept, upgrade],
            vec![accept, upgrade, ("connection", "keep-alive, upgraded")],
            vec![accept, connection, ("upgrade", "h2c")],
            vec![
                upgrade,
                connection,
                ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOO="),
            ],
            with(("sec-websocket-protocol", "c")),
            with(("sec-websocket-protocol", "a, b")),
            with(("sec-websocket-extensions", "permessage-deflate")),
        ] {
            assert!(check(&lines).is_err(), "{lines:?}");
        }
    }

    #[test]
    fn schemes_are_those_of_websocket_and_errors_keep_no_password() {
        let uri = |text: &str| http_url(&text.parse().expect("a URI"));
        assert_eq!(
            uri("ws://a.example/b?c").expect("right"),
            "http://a.example/b?c"
        );
        assert_eq!(
            uri("wss://u:p@a.example").expect("right"),
            "https://u:p@a.example/"
        );
        let error = uri("ftp://user:secret@a.example/").expect_err("no scheme of ours");
        assert_eq!(
            error.to_string(),
            "\"ftp://a.example/\" is no URL of ws or wss"
        );
        assert!(uri("/b").is_err());
    }
}
