//! The head of a request.

use std::cell::OnceCell;
use std::mem::MaybeUninit;

use bytes::Bytes;
use http::{HeaderMap, Method, Uri, Version};

use super::super::error::BadMessage;
use super::super::limits::{HEADERS_MAX, MessageLimits};
use super::super::scan::{Line, scan};
use super::facts::Facts;
use super::lines::{
    METHOD_MAX, VERSION_OF_REQUEST, as_1_1, check_line_ends, check_unfinished_target, judged,
    too_long,
};
use super::target::check_target;
use super::{Framing, Span, header_map};

/// The head of a request.
///
/// Its text is kept as it came; `Uri` and `HeaderMap` are made when somebody asks.
#[derive(Debug)]
pub(in crate::http) struct RequestHead {
    text: Vec<u8>,
    line: Line,
    fields: Vec<(Span, Span)>,
    facts: Facts,
    framing: Framing,
    uri: OnceCell<Uri>,
    headers: OnceCell<HeaderMap>,
}

impl RequestHead {
    pub(in crate::http) fn empty() -> Self {
        Self {
            text: Vec::new(),
            line: Line::default(),
            fields: Vec::new(),
            facts: Facts::NONE,
            framing: Framing::None,
            uri: OnceCell::new(),
            headers: OnceCell::new(),
        }
    }

    /// Forgets its text. What was made of that is forgotten before.
    pub(in crate::http) fn clear_text(&mut self) {
        self.text.clear();
        self.fields.clear();
    }

    /// Whether it has no text: nothing else of it is to be asked for then.
    pub(in crate::http) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Forgets what was made of its text.
    pub(in crate::http) fn forget_what_was_made(&mut self) {
        // Looked at first: most requests have not made them, and to move them costs more.
        if self.uri.get().is_some() {
            self.uri.take();
        }
        if self.headers.get().is_some() {
            self.headers.take();
        }
    }

    /// Bytes that it keeps when it is cleared.
    pub(in crate::http) fn memory(&self) -> usize {
        self.text.capacity() + self.fields.capacity() * size_of::<(Span, Span)>()
    }

    /// Takes the head at the beginning of `data` in; gives its length, or `None` if it is not
    /// complete. `self` is [empty](Self::clear) before, and is to be cleared if this fails.
    pub(in crate::http) fn parse(
        &mut self,
        data: &[u8],
        limits: &MessageLimits,
    ) -> Result<Option<usize>, BadMessage> {
        self.facts = Facts::NONE;
        let found = scan(
            data,
            limits,
            &mut self.line,
            &mut self.fields,
            &mut self.facts,
        );
        let Some(length) = found else {
            self.fields.clear();
            return self.judge(data, limits);
        };
        self.framing = self.facts.request_framing(self.line.is_1_0)?;
        self.text.extend_from_slice(&data[..length]);
        Ok(Some(length))
    }

    /// As [`parse`](Self::parse), by all the rules: for what [`scan`] does not take.
    fn judge(&mut self, data: &[u8], limits: &MessageLimits) -> Result<Option<usize>, BadMessage> {
        let mut fields = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; HEADERS_MAX];
        let allowed = limits.headers.min(HEADERS_MAX);
        let mut parsed = httparse::Request::new(&mut []);
        // What lies beyond the limit is not looked at, in whatever pieces it comes.
        let data = &data[..data.len().min(limits.head + 1)];
        let outcome = parsed.parse_with_uninit_headers(data, &mut fields[..allowed]);
        let length = match outcome {
            Ok(httparse::Status::Complete(length)) if length <= limits.head => length,
            Ok(httparse::Status::Partial) if data.len() <= limits.head => {
                check_unfinished_target(data, limits)?;
                return Ok(None);
            }
            Ok(_) => return Err(too_long(data, limits)),
            Err(error) => {
                check_unfinished_target(data, limits)?;
                return match as_1_1(data, VERSION_OF_REQUEST) {
                    Some(data) => self.judge(&data, limits),
                    None => Err(judged(error, data, allowed)),
                };
            }
        };
        let (Some(method), Some(target), Some(minor)) =
            (parsed.method, parsed.path, parsed.version)
        else {
            return Err(BadMessage::NotHttp);
        };
        let text = &data[..length];
        let line = method.len() + target.len() + " HTTP/1.1".len() + 1;
        let begins_well = text[line] == b'\r' && text.starts_with(method.as_bytes());
        check_line_ends(text, begins_well, parsed.headers)?;
        if method.len() > METHOD_MAX {
            return Err(BadMessage::Method);
        }
        if target.len() > limits.target {
            return Err(BadMessage::TargetTooLong {
                limit: limits.target,
            });
        }
        self.line.method = Method::from_bytes(method.as_bytes()).or(Err(BadMessage::Method))?;
        self.line.is_1_0 = minor == 0;
        self.line.target = Span::of(target.as_bytes(), text);
        let path = check_target(&self.line.method, target, &self.uri)?;
        self.line.path = Span::of(&target.as_bytes()[..path], text);
        self.facts = Facts::NONE;
        for field in parsed.headers.iter() {
            self.facts.note(field.name.as_bytes(), field.value)?;
            self.fields.push((
                Span::of(field.name.as_bytes(), text),
                Span::of(field.value, text),
            ));
        }
        self.framing = self.facts.request_framing(self.line.is_1_0)?;
        self.text.extend_from_slice(text);
        Ok(Some(length))
    }

    /// The method.
    pub(in crate::http) fn method(&self) -> &Method {
        &self.line.method
    }

    pub(in crate::http) fn take_method(&mut self) -> Method {
        std::mem::take(&mut self.line.method)
    }

    /// The target, as it came.
    pub(in crate::http) fn target(&self) -> &str {
        str::from_utf8(&self.text[self.line.target.range()])
            .expect("a target is checked to be ASCII")
    }

    /// The path of the target, as it came: percent-encoded, without the query.
    pub(in crate::http) fn path(&self) -> &str {
        // One byte of the origin form is the slash.
        match self.line.path.end - self.line.path.begin {
            0 => return self.uri().path(),
            1 => return "/",
            _ => {}
        }
        str::from_utf8(&self.text[self.line.path.range()]).expect("a target is checked to be ASCII")
    }

    /// The target.
    pub(in crate::http) fn uri(&self) -> &Uri {
        self.uri.get_or_init(|| {
            let target = Bytes::copy_from_slice(&self.text[self.line.target.range()]);
            Uri::from_maybe_shared(target).expect("a target is checked when it is parsed")
        })
    }

    pub(in crate::http) fn take_uri(&mut self) -> Uri {
        self.uri();
        self.uri.take().unwrap_or_default()
    }

    /// Whether this is HTTP/1.0.
    pub(in crate::http) fn is_1_0(&self) -> bool {
        self.line.is_1_0
    }

    /// The version.
    pub(in crate::http) fn version(&self) -> Version {
        if self.line.is_1_0 {
            Version::HTTP_10
        } else {
            Version::HTTP_11
        }
    }

    /// The value of the first header of this name, in whatever case, as it came.
    pub(in crate::http) fn header(&self, name: &str) -> Option<&[u8]> {
        let (_, value) = self.fields.iter().find(|(known, _)| {
            let known = &self.text[known.range()];
            known.eq_ignore_ascii_case(name.as_bytes())
        })?;
        Some(&self.text[value.range()])
    }

    /// Whether there is a field whose name begins like this, in whatever case.
    pub(in crate::http) fn has_field_beginning(&self, begin: &str) -> bool {
        self.fields.iter().any(|(name, _)| {
            let name = self.text[name.range()].get(..begin.len());
            name.is_some_and(|name| name.eq_ignore_ascii_case(begin.as_bytes()))
        })
    }

    /// Whether there is `Range`, or a field whose name begins with `If-`.
    pub(in crate::http) fn has_condition_or_range(&self) -> bool {
        self.fields.iter().any(|(name, _)| {
            let name = &self.text[name.range()];
            match name.first() {
                Some(b'i' | b'I') => name
                    .get(..3)
                    .is_some_and(|it| it.eq_ignore_ascii_case(b"if-")),
                Some(b'r' | b'R') => name.eq_ignore_ascii_case(b"range"),
                _ => false,
            }
        })
    }

    /// Whether it is a GET of the origin form, without a body, of which nothing but its URL matters to a cache and what
    /// lies before one.
    pub(in crate::http) fn is_plain_get(&self) -> bool {
        self.line.method == Method::GET
            && self.framing == Framing::None
            && self.line.path.begin < self.line.path.end
            && !self.has_condition_or_range()
            && !self.fields.iter().any(|(name, _)| {
                let name = &self.text[name.range()];
                let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
                match name.len() {
                    3 => is(b"via"),
                    6 => is(b"pragma") || is(b"expect"),
                    7 => is(b"upgrade"),
                    13 => is(b"cache-control"),
                    _ => false,
                }
            })
    }

    /// The header fields.
    pub(in crate::http) fn headers(&self) -> &HeaderMap {
        self.headers
            .get_or_init(|| header_map(&self.text, &self.fields))
    }

    pub(in crate::http) fn take_headers(&mut self) -> HeaderMap {
        self.headers();
        self.headers.take().unwrap_or_default()
    }

    /// Where the body ends.
    pub(in crate::http) fn framing(&self) -> Framing {
        self.framing
    }

    /// Whether the client can take another response on this connection.
    pub(in crate::http) fn is_persistent(&self) -> bool {
        !self.facts.close && (!self.line.is_1_0 || self.facts.keep_alive)
    }

    /// Whether the client waits with the body for a word.
    pub(in crate::http) fn expects_continue(&self) -> bool {
        // RFC 9110 §10.1.1: ignored in HTTP/1.0.
        self.facts.expects_continue && !self.line.is_1_0 && self.framing != Framing::None
    }

    /// Whether it asks to go on in another protocol.
    pub(in crate::http) fn wants_upgrade(&self) -> bool {
        // RFC 9110 §7.8: ignored in HTTP/1.0. With a body it may be, and is: what would come next is that, and no
        // other protocol's.
        self.facts.upgrade
            && self.facts.has_upgrade
            && !self.line.is_1_0
            && self.framing == Framing::None
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    fn request(text: &str) -> Result<RequestHead, BadMessage> {
        let mut head = RequestHead::empty();
        let length = head.parse(text.as_bytes(), &MessageLimits::default())?;
        assert_eq!(length, Some(text.len()), "{text:?}");
        Ok(head)
    }

    #[track_caller]
    fn check_refused(text: &str, expected: BadMessage) {
        match request(text) {
            Err(error) => assert_eq!(error, expected, "{text:?}"),
            Ok(head) => panic!("{text:?} was taken: {head:?}"),
        }
    }

    #[test]
    fn a_request_has_its_parts() {
        let text = "POST /a%20b?c=d HTTP/1.1\r\nHost: here\r\nX-Thing: 1\r\nx-thing: 2\r\n\
                    Content-Length: 5\r\nConnection: Close\r\n\r\n";
        let head = request(text).expect("it is a request");
        assert_eq!(head.method(), Method::POST);
        assert_eq!(head.path(), "/a%20b");
        assert_eq!(head.uri().query(), Some("c=d"));
        assert_eq!(head.framing(), Framing::Length(5));
        assert!(!head.is_persistent());
        assert_eq!(head.header("HOST"), Some(&b"here"[..]));
        let things: Vec<_> = head.headers().get_all("x-thing").iter().collect();
        assert_eq!(things, ["1", "2"]);
    }

    /// Everything that a head says.
    fn parts(head: &RequestHead) -> impl PartialEq + std::fmt::Debug {
        let text = |span: Span| String::from_utf8_lossy(&head.text[span.range()]).into_owned();
        let fields: Vec<_> = head
            .fields
            .iter()
            .map(|it| (text(it.0), text(it.1)))
            .collect();
        let line = (
            head.line.method.clone(),
            text(head.line.target),
            text(head.line.path),
            head.line.is_1_0,
        );
        (line, fields, head.facts, head.framing)
    }

    /// What the quick way takes is what the rules take, with the same parts; gives whether it took it.
    #[track_caller]
    fn check_both_ways(text: &[u8], limits: &MessageLimits) -> bool {
        let (mut quick, mut judged) = (RequestHead::empty(), RequestHead::empty());
        let taken = scan(
            text,
            limits,
            &mut Line::default(),
            &mut Vec::new(),
            &mut Facts::NONE.clone(),
        )
        .is_some();
        let outcome = quick.parse(text, limits);
        let shown = String::from_utf8_lossy(text);
        assert_eq!(outcome, judged.judge(text, limits), "{shown:?}");
        if matches!(outcome, Ok(Some(_))) {
            assert_eq!(parts(&quick), parts(&judged), "{shown:?}");
        }
        taken
    }

    const USUAL: [&str; 4] = [
        "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        "GET /a/b.html?c=d&e HTTP/1.1\r\nhost:www.example.com:80\r\nAccept: */*\r\nConnection: close\r\n\r\nGET",
        "POST /form HTTP/1.0\r\nHost:\t h \t\r\nContent-Length: 12\r\nX-Empty:\r\nX-Tab: a\tb c\r\n\r\nabcdefghijkl",
        "PUT /%20 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nX-Umlaut: sch\u{f6}n und lang\r\n\r\n",
    ];

    #[test]
    fn what_is_taken_at_a_glance_is_what_the_rules_take() {
        let limits = MessageLimits::default();
        for text in USUAL {
            let text = text.as_bytes();
            assert!(check_both_ways(text, &limits), "that is the usual one");
            for end in 0..text.len() {
                check_both_ways(&text[..end], &limits);
            }
            for at in 0..text.len() {
                let mut changed = text.to_vec();
                let original = text[at];
                // Neighbours of what the rules tell apart, and what takes the place of another in a block.
                for byte in b"\0\x01\x08\t\n\x0b\r\x1f !\"#%&*,-./019:;<=>?@AZ[]^_`az{|}~\x7f\x80\x9f\xa0\xc3\xff" {
                    changed[at] = *byte;
                    check_both_ways(&changed, &limits);
                }
                for bit in 0..8 {
                    changed[at] = original ^ (1 << bit);
                    check_both_ways(&changed, &limits);
                }
                for byte in [
                    b"\r\n",
                    &b" "[..],
                    b":",
                    b"\n",
                    b"\r",
                    b"\t",
                    b"\0",
                    b"?",
                    b"\r\n\r\n",
                ] {
                    let inserted = [&text[..at], byte, &text[at..]].concat();
                    check_both_ways(&inserted, &limits);
                }
            }
        }
    }

    #[test]
    fn limits_are_the_same_at_a_glance() {
        for text in USUAL {
            for limit in 0..=text.len() + 1 {
                let limits = MessageLimits::default();
                let head = MessageLimits {
                    head: limit,
                    ..limits
                };
                check_both_ways(text.as_bytes(), &head);
                let target = MessageLimits {
                    target: limit,
                    ..limits
                };
                check_both_ways(text.as_bytes(), &target);
                let headers = MessageLimits {
                    headers: limit,
                    ..limits
                };
                check_both_ways(text.as_bytes(), &headers);
            }
        }
    }

    #[test]
    fn every_target_that_is_taken_is_a_uri() {
        for byte in 0..=255_u8 {
            for (before, after) in [("/a", "b"), ("/a?b", "c")] {
                let mut text = format!("GET {before}").into_bytes();
                text.push(byte);
                text.extend_from_slice(format!("{after} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
                let mut head = RequestHead::empty();
                if let Ok(Some(_)) = head.parse(&text, &MessageLimits::default()) {
                    let is_uri = head.target().parse::<Uri>().is_ok();
                    assert!(is_uri, "{byte:#x} in {}", head.target());
                    assert_eq!(head.uri().to_string(), head.target(), "{byte:#x}");
                }
            }
        }
    }

    #[test]
    fn a_target_may_be_absolute_or_an_authority_or_a_star() {
        let absolute = request("GET http://there:81/x?y HTTP/1.1\r\nHost: there:81\r\n\r\n");
        let absolute = absolute.expect("the absolute form");
        assert_eq!(absolute.uri().host(), Some("there"));
        assert_eq!(absolute.path(), "/x");
        let connect = request("CONNECT there:443 HTTP/1.1\r\nHost: there:443\r\n\r\n");
        assert_eq!(
            connect.expect("the authority form").uri().port_u16(),
            Some(443)
        );
        request("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").expect("the asterisk form");
        for line in [
            "GET * HTTP/1.1",
            "GET there:443 HTTP/1.1",
            "CONNECT / HTTP/1.1",
            "CONNECT there HTTP/1.1",
            "CONNECT there:443/ HTTP/1.1",
            "GET http://me@there/ HTTP/1.1",
            "GET there HTTP/1.1",
            "GET /a#b HTTP/1.1",
        ] {
            check_refused(&format!("{line}\r\nHost: a\r\n\r\n"), BadMessage::Target);
        }
    }

    #[test]
    fn rfc9112_6_3_lengths_that_can_be_read_in_two_ways_are_refused() {
        let check = |fields: &str, expected| {
            check_refused(
                &format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"),
                expected,
            );
        };
        for value in [
            "",
            "+5",
            "-5",
            "5 ",
            " ",
            "0x5",
            "5,5",
            "5, 6",
            "1_0",
            "18446744073709551616",
        ] {
            // Optional white space around a value is none of the value: RFC 9112 §5.
            if value != "5 " {
                check(
                    &format!("Content-Length: {value}\r\n"),
                    BadMessage::ContentLength,
                );
            }
        }
        check(
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            BadMessage::ContentLength,
        );
        check(
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            BadMessage::TwoLengths,
        );
        check(
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            BadMessage::TwoLengths,
        );
        check(
            "Transfer-Encoding: identity\r\n",
            BadMessage::TransferEncoding,
        );
        check(
            "Transfer-Encoding: chunked, identity\r\n",
            BadMessage::TransferEncoding,
        );
        check(
            "Transfer-Encoding: chunked, chunked\r\n",
            BadMessage::TransferEncoding,
        );
        check("Transfer-Encoding:\r\n", BadMessage::TransferEncoding);
        check(
            "Transfer-Encoding: xchunked\r\n",
            BadMessage::TransferEncoding,
        );
        check(
            "Transfer-Encoding: \"chunked\"\r\n",
            BadMessage::TransferEncoding,
        );
        check(
            "Transfer-Encoding: chunked;q=1\r\n",
            BadMessage::TransferEncoding,
        );
        check(
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            BadMessage::TransferEncoding,
        );
        check(
            "Transfer-Encoding: gzip, chunked\r\n",
            BadMessage::TransferCoding,
        );
        check_refused(
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
            BadMessage::TransferEncoding,
        );
    }

    #[test]
    fn rfc9112_2_2_a_line_ends_in_cr_and_lf_and_nothing_else_does() {
        let check = |text: &str| {
            let error = request(text).map(|_| ()).expect_err(text);
            assert_eq!(error.status(), StatusCode::BAD_REQUEST, "{text:?}: {error}");
        };
        check("GET / HTTP/1.1\nHost: a\r\n\r\n");
        check("GET / HTTP/1.1\r\nHost: a\n\r\n");
        check("GET / HTTP/1.1\r\nHost: a\r\n\n");
        check("GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n");
        check("GET / HTTP/1.1\r\nHost: a\r\r\n\r\n");
        check("GET / HTTP/1.1\rHost: a\r\n\r\n");
        check("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }

    #[test]
    fn rfc9112_5_malformed_fields_are_refused() {
        for field in [
            "Name : value",
            " Name: value",
            "Name: a\r\n folded",
            "Name: a\r\n\tfolded",
            ": value",
            "Name value",
            "Na(me: value",
            "Name: a\0b",
            "Name: a\x7fb",
            "N\u{e4}me: value",
        ] {
            let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n");
            check_refused(&text, BadMessage::Header);
        }
    }

    #[test]
    fn rfc9112_3_2_there_is_exactly_one_host() {
        check_refused("GET / HTTP/1.1\r\n\r\n", BadMessage::Host);
        check_refused(
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            BadMessage::Host,
        );
        for host in ["a b", "a/b", "a@b", "a?b", "a#b", "a\"b", "a\\b"] {
            check_refused(
                &format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"),
                BadMessage::Host,
            );
        }
        request("GET / HTTP/1.1\r\nHost:\r\n\r\n").expect("it may be empty");
        request("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n").expect("an address");
        request("GET / HTTP/1.0\r\n\r\n").expect("1.0 needs none");
    }

    #[test]
    fn rfc9110_2_5_a_newer_minor_version_is_taken_for_1_1() {
        for minor in [2, 9] {
            let wire = format!("GET / HTTP/1.{minor}\r\nHost: a\r\n\r\n");
            let head = request(&wire).expect("its major version is known");
            assert!(!head.is_1_0() && head.is_persistent());
        }
    }

    #[test]
    fn what_is_no_request_is_refused_by_name() {
        check_refused("GET / HTTP/2.0\r\nHost: a\r\n\r\n", BadMessage::Version);
        check_refused("GET / HTTP/3\r\nHost: a\r\n\r\n", BadMessage::Version);
        check_refused("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", BadMessage::NotHttp);
        check_refused("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", BadMessage::Target);
        check_refused("GET /\r\n\r\n", BadMessage::Target);
        check_refused("\x16\x03\x01\x02\r\n\r\n", BadMessage::Tls);
        check_refused("G@T / HTTP/1.1\r\nHost: a\r\n\r\n", BadMessage::Target);
        let method = "M".repeat(METHOD_MAX + 1);
        check_refused(
            &format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"),
            BadMessage::Method,
        );
        check_refused(
            "GET / HTTP/1.1\r\nHost: a\r\nExpect: a-miracle\r\n\r\n",
            BadMessage::Expectation,
        );
    }

    #[test]
    fn limits_are_kept_before_the_head_is_complete() {
        let limits = MessageLimits {
            target: 20,
            head: 300,
            headers: 2,
            ..MessageLimits::default()
        };
        let parse = |text: &str| RequestHead::empty().parse(text.as_bytes(), &limits);
        let long = "x".repeat(21);
        let target = BadMessage::TargetTooLong { limit: 20 };
        assert_eq!(
            parse(&format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n")),
            Err(target)
        );
        assert_eq!(parse(&format!("GET /{}", "x".repeat(200))), Err(target));
        let head = BadMessage::HeadTooLong { limit: 300 };
        let long = "x".repeat(300);
        assert_eq!(
            parse(&format!("GET / HTTP/1.1\r\nHost: {long}\r\n\r\n")),
            Err(head)
        );
        assert_eq!(parse(&format!("GET / HTTP/1.1\r\nHost: {long}")), Err(head));
        let many = BadMessage::TooManyHeaders { limit: 2 };
        assert_eq!(
            parse("GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\n\r\n"),
            Err(many)
        );
    }
}
