//! What a proxy does to the fields of a message that it passes on (RFC 9110 §7.6, RFC 7239).
//!
//! # Not here
//!
//! Lengths and transfer codings: what is passed on is framed anew, never copied.

use core::net::IpAddr;
use std::fmt::Write as _;

use http::header::{
    CONNECTION, CONTENT_LENGTH, FORWARDED, HOST, MAX_FORWARDS, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::{HeaderMap, HeaderName, HeaderValue, Version};

use super::values::{ascii_value, is_token, members, pieces, quote_if_needed};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Removes what is for the next hop alone (RFC 9110 §7.6.1): `Connection` and all that it names,
/// `Keep-Alive`, `Proxy-Connection`, `TE`, `Transfer-Encoding`, `Upgrade`, and the credentials and
/// challenges between a client and a proxy (§11.7).
///
/// `Host` and `Content-Length` stay even if `Connection` names them: without them a message means
/// another thing. Whoever passes an upgrade on says so again in fields of its own.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let present = present_of(headers, &HOP_BY_HOP);
    if present.contains(&CONNECTION) {
        let named: Vec<HeaderName> = members(headers, &CONNECTION)
            .filter_map(|name| HeaderName::try_from(name).ok())
            .filter(|name| *name != HOST && *name != CONTENT_LENGTH)
            .collect();
        for name in &named {
            headers.remove(name);
        }
    }
    for name in &present {
        headers.remove(name);
    }
}

static HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
];

/// Removes what is there of these: most messages have none, and to look at the few names that there are costs
/// less than to look for each.
pub(super) fn remove_present(headers: &mut HeaderMap, names: &[HeaderName]) {
    for name in &present_of(headers, names) {
        headers.remove(name);
    }
}

fn present_of(headers: &HeaderMap, names: &[HeaderName]) -> Vec<HeaderName> {
    let present = headers.keys().filter(|name| names.contains(name));
    present.cloned().collect()
}

/// Appends a proxy to `Via` (RFC 9110 §7.6.3).
///
/// `version` is that of the message as it came; `pseudonym` is a host or a name of the proxy, a token
/// with a port at most. One that is no such thing is written as `proxy`.
pub fn append_via(headers: &mut HeaderMap, version: Version, pseudonym: &str) {
    let version = match version {
        Version::HTTP_09 => "0.9",
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        Version::HTTP_3 => "3",
        _ => "1.1",
    };
    let pseudonym = if is_pseudonym(pseudonym) {
        pseudonym
    } else {
        "proxy"
    };
    headers.append(VIA, ascii_value(&[version, " ", pseudonym].concat()));
}

fn is_pseudonym(text: &str) -> bool {
    let allowed =
        |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b',' | b';' | b'"' | b'(' | b')');
    !text.is_empty() && text.bytes().all(allowed)
}

/// How often a proxy of that name is in `Via`: more than a few times, and the message goes round in a
/// circle.
#[must_use]
pub fn count_in_via(headers: &HeaderMap, pseudonym: &str) -> usize {
    members(headers, &VIA)
        .filter(|member| {
            let received_by = member
                .split([' ', '\t'])
                .filter(|word| !word.is_empty())
                .nth(1);
            received_by.is_some_and(|name| name.eq_ignore_ascii_case(pseudonym))
        })
        .count()
}

/// Counts `Max-Forwards` down, for TRACE and OPTIONS (RFC 9110 §7.6.2).
///
/// Gives `false` if it was zero: then the proxy answers itself. What is no number is left as it is.
#[must_use]
pub fn decrement_max_forwards(headers: &mut HeaderMap) -> bool {
    let Some(value) = headers.get(MAX_FORWARDS).and_then(|it| it.to_str().ok()) else {
        return true;
    };
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return true;
    }
    match value.parse::<u64>().unwrap_or(u64::MAX) {
        0 => false,
        count => {
            headers.insert(MAX_FORWARDS, HeaderValue::from(count - 1));
            true
        }
    }
}

/// What a proxy tells the server behind it of who asked.
#[derive(Clone, Copy, Debug, Default)]
pub struct ForwardedFor<'a> {
    /// The client's address; `None` if it has none, such as on a UNIX socket.
    pub client: Option<IpAddr>,
    /// The `Host` that the client asked for.
    pub host: Option<&'a str>,
    /// `http` or `https`, as the client spoke.
    pub scheme: Option<&'a str>,
}

/// Whether what a client says of where it comes from is kept.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Earlier {
    /// It is dropped: anybody may write these fields, and servers believe the first of them.
    #[default]
    Replace,
    /// It is kept, and ours goes behind it: the client is itself a proxy that we trust.
    Append,
}

impl ForwardedFor<'_> {
    /// Writes `Forwarded` (RFC 7239 §4).
    pub fn write_forwarded(&self, headers: &mut HeaderMap, earlier: Earlier) {
        let mut text = String::with_capacity(128);
        match self.client {
            // §6: addresses of version 6 in brackets, and so in quotes.
            Some(address @ IpAddr::V6(_)) => {
                text.push_str("for=\"[");
                write_address(&mut text, address);
                text.push_str("]\"");
            }
            Some(address) => {
                text.push_str("for=");
                write_address(&mut text, address);
            }
            None => text.push_str("for=unknown"),
        }
        for (name, value) in [(";host=", self.host), (";proto=", self.scheme)] {
            if let Some(value) = value.filter(|value| is_visible(value)) {
                text.push_str(name);
                text.push_str(&quote_if_needed(value));
            }
        }
        put(headers, FORWARDED, &text, earlier);
    }

    /// Writes `X-Forwarded-For`, `-Host` and `-Proto`, which are no standard, and what most servers
    /// look at. The last two say what the first proxy heard, so with [`Earlier::Append`] they stay
    /// where they are.
    pub fn write_x_forwarded(&self, headers: &mut HeaderMap, earlier: Earlier) {
        let mut client = String::with_capacity(40);
        match self.client {
            Some(address) => write_address(&mut client, address),
            None => client.push_str("unknown"),
        }
        put(headers, X_FORWARDED_FOR, &client, earlier);
        for (name, value) in [
            (X_FORWARDED_HOST, self.host),
            (X_FORWARDED_PROTO, self.scheme),
        ] {
            if earlier == Earlier::Append && headers.contains_key(&name) {
                continue;
            }
            match value.filter(|value| is_visible(value)) {
                Some("http") => headers.insert(name, HeaderValue::from_static("http")),
                Some("https") => headers.insert(name, HeaderValue::from_static("https")),
                Some(value) => headers.insert(name, ascii_value(value)),
                None => headers.remove(&name),
            };
        }
    }
}

fn is_visible(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn put(headers: &mut HeaderMap, name: HeaderName, text: &str, earlier: Earlier) {
    match earlier {
        Earlier::Replace => drop(headers.insert(name, ascii_value(text))),
        Earlier::Append => drop(headers.append(name, ascii_value(text))),
    }
}

/// As its `Display`, which takes ten times as long for most.
fn write_address(text: &mut String, address: IpAddr) {
    let IpAddr::V4(address) = address else {
        return write!(text, "{address}").expect("a string takes everything");
    };
    for (at, octet) in address.octets().into_iter().enumerate() {
        if at > 0 {
            text.push('.');
        }
        for (unit, leads) in [(100, octet >= 100), (10, octet >= 10), (1, true)] {
            if leads {
                text.push(char::from(b'0' + octet / unit % 10));
            }
        }
    }
}

/// The client's address by `X-Forwarded-For`, as the last `trusted` proxies on the way wrote it.
///
/// Each proxy appends whom it heard; what stands further to the left was written by whoever. With one
/// proxy in front of a server that is the last address, with two the last but one. `None` if there are
/// fewer, or it is no address.
#[must_use]
pub fn client_by_x_forwarded_for(headers: &HeaderMap, trusted: usize) -> Option<IpAddr> {
    let count = members(headers, &X_FORWARDED_FOR).count();
    let index = count.checked_sub(trusted.max(1))?;
    let member = members(headers, &X_FORWARDED_FOR).nth(index)?;
    address(member)
}

/// The client's address by `Forwarded`, as [`client_by_x_forwarded_for`] has it.
#[must_use]
pub fn client_by_forwarded(headers: &HeaderMap, trusted: usize) -> Option<IpAddr> {
    let count = members(headers, &FORWARDED).count();
    let index = count.checked_sub(trusted.max(1))?;
    let member = members(headers, &FORWARDED).nth(index)?;
    pieces(member, b';').find_map(|piece| {
        let (name, value) = super::values::pair(piece);
        let value = value.filter(|_| name.eq_ignore_ascii_case("for"))?;
        address(&value)
    })
}

/// An address, perhaps in brackets, perhaps with a port.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let is_port = port.is_empty() || port.strip_prefix(':').is_some_and(is_token);
        return address.parse().ok().filter(|_| is_port);
    }
    let (address, _port) = text.split_once(':')?;
    address.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let value = HeaderValue::from_str(value).expect("it is a value");
            headers.append(*name, value);
        }
        headers
    }

    fn values(headers: &HeaderMap, name: &str) -> Vec<String> {
        let values = headers.get_all(name).iter();
        values
            .map(|value| value.to_str().expect("it is text").to_owned())
            .collect()
    }

    #[test]
    fn rfc9110_7_6_1_what_is_for_one_hop_goes_no_further() {
        let mut headers = headers(&[
            ("connection", "close, X-Secret ,, keep-alive"),
            ("connection", "x-other, \"odd\""),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("proxy-authorization", "Basic eA=="),
            ("x-secret", "1"),
            ("x-other", "2"),
            ("x-third", "3"),
            ("authorization", "Basic eA=="),
        ]);
        remove_hop_by_hop(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["authorization", "x-third"]);
    }

    #[test]
    fn connection_cannot_take_away_what_a_message_stands_on() {
        let mut headers = headers(&[
            ("connection", "host, content-length, connection"),
            ("host", "a"),
            ("content-length", "3"),
        ]);
        remove_hop_by_hop(&mut headers);
        assert_eq!(values(&headers, "host"), ["a"]);
        assert_eq!(values(&headers, "content-length"), ["3"]);
        assert_eq!(headers.len(), 2);
    }

    #[test]
    fn rfc9110_7_6_3_each_proxy_stands_in_via() {
        let mut headers = headers(&[("via", "1.0 fred, 1.1 p.example.net (squid, 3)")]);
        append_via(&mut headers, Version::HTTP_11, "torsade");
        append_via(&mut headers, Version::HTTP_2, "bad name\r\n");
        assert_eq!(values(&headers, "via")[1..], ["1.1 torsade", "2 proxy"]);
        assert_eq!(count_in_via(&headers, "Torsade"), 1);
        assert_eq!(count_in_via(&headers, "fred"), 1);
        assert_eq!(count_in_via(&headers, "nobody"), 0);
    }

    #[test]
    fn rfc9110_7_6_2_a_message_has_so_many_forwards_left() {
        let mut none = HeaderMap::new();
        assert!(decrement_max_forwards(&mut none));
        for (value, expected, after) in [
            ("0", false, "0"),
            ("10", true, "9"),
            ("x", true, "x"),
            ("-1", true, "-1"),
            ("99999999999999999999999", true, "18446744073709551614"),
        ] {
            let mut headers = headers(&[("max-forwards", value)]);
            assert_eq!(decrement_max_forwards(&mut headers), expected, "{value}");
            assert_eq!(values(&headers, "max-forwards"), [after]);
        }
    }

    fn from(client: &str) -> ForwardedFor<'static> {
        ForwardedFor {
            client: client.parse().ok(),
            host: Some("example.com:8080"),
            scheme: Some("https"),
        }
    }

    #[test]
    fn rfc7239_4_the_server_is_told_who_asked() {
        for (client, expected) in [
            ("192.0.2.43", "for=192.0.2.43"),
            ("2001:db8::1", "for=\"[2001:db8::1]\""),
            ("", "for=unknown"),
        ] {
            let mut headers = HeaderMap::new();
            from(client).write_forwarded(&mut headers, Earlier::Replace);
            let expected = format!("{expected};host=\"example.com:8080\";proto=https");
            assert_eq!(values(&headers, "forwarded"), [expected]);
        }
    }

    #[test]
    fn an_address_is_written_as_it_displays_itself() {
        for octet in 0..=255_u8 {
            for address in [[octet, 0, 10, 255], [1, 99, 100, octet]] {
                let mut text = String::new();
                write_address(&mut text, address.into());
                assert_eq!(text, IpAddr::from(address).to_string());
            }
        }
        let mut text = String::new();
        write_address(&mut text, IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]));
        assert_eq!(text, "::1");
    }

    #[test]
    fn what_a_stranger_says_twice_is_dropped_twice() {
        let mut headers = headers(&[
            ("forwarded", "for=1.1.1.1"),
            ("forwarded", "for=1.1.1.2"),
            ("x-forwarded-host", "a"),
            ("x-forwarded-host", "b"),
        ]);
        let nameless = ForwardedFor {
            host: None,
            ..from("192.0.2.1")
        };
        nameless.write_forwarded(&mut headers, Earlier::Replace);
        nameless.write_x_forwarded(&mut headers, Earlier::Replace);
        assert_eq!(values(&headers, "forwarded"), ["for=192.0.2.1;proto=https"]);
        assert!(values(&headers, "x-forwarded-host").is_empty());
    }

    #[test]
    fn what_a_stranger_says_of_itself_is_dropped() {
        let told = [
            ("forwarded", "for=1.1.1.1"),
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-proto", "http"),
        ];
        let mut strangers = headers(&told);
        from("192.0.2.1").write_forwarded(&mut strangers, Earlier::Replace);
        from("192.0.2.1").write_x_forwarded(&mut strangers, Earlier::Replace);
        assert_eq!(values(&strangers, "x-forwarded-for"), ["192.0.2.1"]);
        assert_eq!(values(&strangers, "x-forwarded-proto"), ["https"]);
        assert_eq!(client_by_forwarded(&strangers, 1), "192.0.2.1".parse().ok());

        let mut trusted = headers(&told);
        from("192.0.2.1").write_forwarded(&mut trusted, Earlier::Append);
        from("192.0.2.1").write_x_forwarded(&mut trusted, Earlier::Append);
        assert_eq!(
            values(&trusted, "x-forwarded-for"),
            ["1.1.1.1", "192.0.2.1"]
        );
        assert_eq!(values(&trusted, "x-forwarded-proto"), ["http"]);
        assert_eq!(values(&trusted, "forwarded").len(), 2);
    }

    #[test]
    fn a_host_that_could_be_more_than_one_value_is_not_told() {
        let mut headers = HeaderMap::new();
        let odd = ForwardedFor {
            host: Some("a\r\nb: c"),
            ..from("192.0.2.1")
        };
        odd.write_forwarded(&mut headers, Earlier::Replace);
        odd.write_x_forwarded(&mut headers, Earlier::Replace);
        assert_eq!(values(&headers, "forwarded"), ["for=192.0.2.1;proto=https"]);
        assert!(!headers.contains_key("x-forwarded-host"));
        let quoted = ForwardedFor {
            host: Some("a\";for=x"),
            ..from("192.0.2.1")
        };
        quoted.write_forwarded(&mut headers, Earlier::Replace);
        assert_eq!(client_by_forwarded(&headers, 1), "192.0.2.1".parse().ok());
    }

    #[test]
    fn only_so_many_proxies_are_believed() {
        let headers = headers(&[
            ("x-forwarded-for", "6.6.6.6, 192.0.2.1"),
            ("x-forwarded-for", "2001:db8::2"),
            (
                "forwarded",
                "for=\"[2001:db8::7]:443\", for=192.0.2.8:80;proto=http, for=_hidden",
            ),
        ]);
        let by_x = |trusted| client_by_x_forwarded_for(&headers, trusted);
        assert_eq!(by_x(1), "2001:db8::2".parse().ok());
        assert_eq!(by_x(2), "192.0.2.1".parse().ok());
        assert_eq!(by_x(3), "6.6.6.6".parse().ok());
        assert_eq!(by_x(4), None);
        let by_forwarded = |trusted| client_by_forwarded(&headers, trusted);
        assert_eq!(by_forwarded(1), None);
        assert_eq!(by_forwarded(2), "192.0.2.8".parse().ok());
        assert_eq!(by_forwarded(3), "2001:db8::7".parse().ok());
    }
}
