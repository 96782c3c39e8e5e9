//! The heads of messages: the first line and the header fields, parsed and judged.
//!
//! `httparse` finds the parts; what RFC 9112 demands beyond that is checked here, once, so that
//! nothing behind this file meets an ambiguous message.

use std::cell::OnceCell;
use std::mem::MaybeUninit;
use std::ops::Range;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode, Uri, Version};

use super::error::BadMessage;
use super::limits::{HEADERS_MAX, MessageLimits};
use super::scan::{Scanned, scan};

/// Where something stands in the head. (Heads are shorter than 4 GiB.)
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    begin: u32,
    end: u32,
}

impl Span {
    pub(super) fn new(begin: usize, end: usize) -> Self {
        debug_assert!(
            begin <= end && u32::try_from(end).is_ok(),
            "heads are short"
        );
        Self {
            begin: begin as u32,
            end: end as u32,
        }
    }

    /// Where `part` lies in `whole`, of which it is a part.
    fn of(part: &[u8], whole: &[u8]) -> Self {
        if part.is_empty() {
            return Self::default();
        }
        let begin = part.as_ptr() as usize - whole.as_ptr() as usize;
        let end = begin + part.len();
        u32::try_from(end).expect("a head is shorter than its limit");
        Self::new(begin, end)
    }

    pub(super) fn range(self) -> Range<usize> {
        self.begin as usize..self.end as usize
    }
}

/// Where the body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is none.
    None,
    /// After so many bytes; more than none.
    Length(u64),
    /// It says so itself.
    Chunked,
    /// With the connection. Responses only.
    UntilClose,
}

/// What the head's fields say of the message itself and of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    length: Option<u64>,
    chunked: bool,
    /// A `Transfer-Encoding` whose last coding is not `chunked`.
    strange_coding: bool,
    hosts: u32,
    /// `Connection: close`, `keep-alive`, `upgrade`.
    close: bool,
    keep_alive: bool,
    upgrade: bool,
    has_upgrade: bool,
    expects_continue: bool,
}

/// The head of a request.
///
/// Its text is kept as it came; `Uri` and `HeaderMap` are made when somebody asks.
#[derive(Debug)]
pub(super) struct RequestHead {
    text: Vec<u8>,
    method: Method,
    target: Span,
    /// Of the target's origin form: without the query. Empty for the other forms.
    path: Span,
    is_1_0: bool,
    fields: Vec<(Span, Span)>,
    facts: Facts,
    framing: Framing,
    uri: OnceCell<Uri>,
    headers: OnceCell<HeaderMap>,
}

impl RequestHead {
    pub(super) fn empty() -> Self {
        Self {
            text: Vec::new(),
            method: Method::GET,
            target: Span::default(),
            path: Span::default(),
            is_1_0: false,
            fields: Vec::new(),
            facts: Facts::NONE,
            framing: Framing::None,
            uri: OnceCell::new(),
            headers: OnceCell::new(),
        }
    }

    /// Forgets everything but its memory.
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.fields.clear();
        // Looked at first: most requests have not made them, and to move them costs more.
        if self.uri.get().is_some() {
            self.uri.take();
        }
        if self.headers.get().is_some() {
            self.headers.take();
        }
    }

    /// Bytes that it keeps when it is cleared.
    pub(super) fn memory(&self) -> usize {
        self.text.capacity() + self.fields.capacity() * size_of::<(Span, Span)>()
    }

    /// Takes the head at the beginning of `data` in; gives its length, or `None` if it is not
    /// complete. `self` is [empty](Self::clear) before, and is to be cleared if this fails.
    pub(super) fn parse(
        &mut self,
        data: &[u8],
        limits: &MessageLimits,
    ) -> Result<Option<usize>, BadMessage> {
        self.facts = Facts::NONE;
        let Some(found) = scan(data, limits, &mut self.fields, &mut self.facts) else {
            self.fields.clear();
            return self.judge(data, limits);
        };
        let Scanned {
            method,
            target,
            path,
            is_1_0,
            length,
        } = found;
        self.method = method;
        self.target = target;
        self.path = path;
        self.is_1_0 = is_1_0;
        self.framing = self.facts.request_framing(is_1_0)?;
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
        self.method = Method::from_bytes(method.as_bytes()).or(Err(BadMessage::Method))?;
        self.is_1_0 = minor == 0;
        self.target = Span::of(target.as_bytes(), text);
        let path = check_target(&self.method, target, &self.uri)?;
        self.path = Span::of(&target.as_bytes()[..path], text);
        self.facts = Facts::NONE;
        for field in parsed.headers.iter() {
            self.facts.note(field.name.as_bytes(), field.value)?;
            self.fields.push((
                Span::of(field.name.as_bytes(), text),
                Span::of(field.value, text),
            ));
        }
        self.framing = self.facts.request_framing(self.is_1_0)?;
        self.text.extend_from_slice(text);
        Ok(Some(length))
    }

    /// The method.
    pub(super) fn method(&self) -> &Method {
        &self.method
    }

    pub(super) fn take_method(&mut self) -> Method {
        std::mem::take(&mut self.method)
    }

    /// The target, as it came.
    pub(super) fn target(&self) -> &str {
        str::from_utf8(&self.text[self.target.range()]).expect("a target is checked to be ASCII")
    }

    /// The path of the target, as it came: percent-encoded, without the query.
    pub(super) fn path(&self) -> &str {
        // One byte of the origin form is the slash.
        match self.path.end - self.path.begin {
            0 => return self.uri().path(),
            1 => return "/",
            _ => {}
        }
        str::from_utf8(&self.text[self.path.range()]).expect("a target is checked to be ASCII")
    }

    /// The target.
    pub(super) fn uri(&self) -> &Uri {
        self.uri.get_or_init(|| {
            let target = Bytes::copy_from_slice(&self.text[self.target.range()]);
            Uri::from_maybe_shared(target).expect("a target is checked when it is parsed")
        })
    }

    pub(super) fn take_uri(&mut self) -> Uri {
        self.uri();
        self.uri.take().unwrap_or_default()
    }

    /// Whether this is HTTP/1.0.
    pub(super) fn is_1_0(&self) -> bool {
        self.is_1_0
    }

    /// The version.
    pub(super) fn version(&self) -> Version {
        if self.is_1_0 {
            Version::HTTP_10
        } else {
            Version::HTTP_11
        }
    }

    /// The value of the first header of this name, in whatever case, as it came.
    pub(super) fn header(&self, name: &str) -> Option<&[u8]> {
        let (_, value) = self.fields.iter().find(|(known, _)| {
            let known = &self.text[known.range()];
            known.eq_ignore_ascii_case(name.as_bytes())
        })?;
        Some(&self.text[value.range()])
    }

    /// Whether there is a field whose name begins like this, in whatever case.
    pub(super) fn has_field_beginning(&self, begin: &str) -> bool {
        self.fields.iter().any(|(name, _)| {
            let name = self.text[name.range()].get(..begin.len());
            name.is_some_and(|name| name.eq_ignore_ascii_case(begin.as_bytes()))
        })
    }

    /// The header fields.
    pub(super) fn headers(&self) -> &HeaderMap {
        self.headers
            .get_or_init(|| header_map(&self.text, &self.fields))
    }

    pub(super) fn take_headers(&mut self) -> HeaderMap {
        self.headers();
        self.headers.take().unwrap_or_default()
    }

    /// Where the body ends.
    pub(super) fn framing(&self) -> Framing {
        self.framing
    }

    /// Whether the client can take another response on this connection.
    pub(super) fn is_persistent(&self) -> bool {
        !self.facts.close && (!self.is_1_0 || self.facts.keep_alive)
    }

    /// Whether the client waits with the body for a word.
    pub(super) fn expects_continue(&self) -> bool {
        // RFC 9110 §10.1.1: ignored in HTTP/1.0.
        self.facts.expects_continue && !self.is_1_0 && self.framing != Framing::None
    }

    /// Whether it asks to go on in another protocol.
    pub(super) fn wants_upgrade(&self) -> bool {
        // RFC 9110 §7.8: ignored in HTTP/1.0.
        self.facts.upgrade && self.facts.has_upgrade && !self.is_1_0
    }
}

/// The head of a response.
#[derive(Debug)]
pub(super) struct ResponseHead {
    /// The status.
    pub(super) status: StatusCode,
    /// Whether this is HTTP/1.0.
    pub(super) is_1_0: bool,
    /// The header fields.
    pub(super) headers: HeaderMap,
    facts: Facts,
}

impl ResponseHead {
    /// The head at the beginning of `data`, with its length; `None` if it is not complete.
    pub(super) fn parse(
        data: &[u8],
        limits: &MessageLimits,
    ) -> Result<Option<(Self, usize)>, BadMessage> {
        let mut fields = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; HEADERS_MAX];
        let allowed = limits.headers.min(HEADERS_MAX);
        let mut parsed = httparse::Response::new(&mut []);
        // As of requests: what lies beyond the limit is not looked at.
        let data = &data[..data.len().min(limits.head + 1)];
        let outcome = httparse::ParserConfig::default().parse_response_with_uninit_headers(
            &mut parsed,
            data,
            &mut fields[..allowed],
        );
        let length = match outcome {
            Ok(httparse::Status::Complete(length)) if length <= limits.head => length,
            Ok(httparse::Status::Partial) if data.len() <= limits.head => return Ok(None),
            Ok(_) => return Err(BadMessage::HeadTooLong { limit: limits.head }),
            Err(error) => {
                return match as_1_1(data, VERSION_OF_RESPONSE) {
                    Some(data) => Self::parse(&data, limits),
                    None => Err(judged(error, data, allowed)),
                };
            }
        };
        let (Some(code), Some(minor)) = (parsed.code, parsed.version) else {
            return Err(BadMessage::NotHttp);
        };
        let text = &data[..length];
        check_line_ends(text, false, &[])?;
        let status = StatusCode::from_u16(code).or(Err(BadMessage::NotHttp))?;
        let mut facts = Facts::NONE;
        let kept = Bytes::copy_from_slice(text);
        let mut headers = HeaderMap::with_capacity(parsed.headers.len());
        for field in parsed.headers.iter() {
            facts.note(field.name.as_bytes(), field.value)?;
            let name = Span::of(field.name.as_bytes(), text);
            append(&mut headers, &kept, name, Span::of(field.value, text));
        }
        if facts.length.is_some() && (facts.chunked || facts.strange_coding) {
            return Err(BadMessage::TwoLengths);
        }
        let head = Self {
            status,
            is_1_0: minor == 0,
            headers,
            facts,
        };
        Ok(Some((head, length)))
    }

    /// Where the body ends, of a response to a request of this method: RFC 9112 §6.3.
    pub(super) fn framing(&self, method: &Method) -> Result<Framing, BadMessage> {
        let status = self.status.as_u16();
        let is_bare = status < 200 || status == 204 || status == 304;
        if is_bare || method == Method::HEAD {
            return Ok(Framing::None);
        }
        if method == Method::CONNECT && self.status.is_success() {
            return Ok(Framing::None);
        }
        if self.facts.strange_coding || (self.facts.chunked && self.is_1_0) {
            return Err(BadMessage::TransferCoding);
        }
        Ok(match self.facts.length {
            _ if self.facts.chunked => Framing::Chunked,
            Some(0) => Framing::None,
            Some(length) => Framing::Length(length),
            None => Framing::UntilClose,
        })
    }

    /// Whether the server takes another request on this connection.
    pub(super) fn is_persistent(&self) -> bool {
        !self.facts.close && (!self.is_1_0 || self.facts.keep_alive)
    }
}

impl Facts {
    const NONE: Self = Self {
        length: None,
        chunked: false,
        strange_coding: false,
        hosts: 0,
        close: false,
        keep_alive: false,
        upgrade: false,
        has_upgrade: false,
        expects_continue: false,
    };

    /// Takes a header field into account, if it says something of the message itself.
    #[inline]
    pub(super) fn note(&mut self, name: &[u8], value: &[u8]) -> Result<(), BadMessage> {
        // Every request has one. Only letters become these letters so.
        if name
            .first_chunk()
            .map(|name: &[u8; 4]| name.map(|byte| byte | 0x20))
            == Some(*b"host")
            && name.len() == 4
        {
            self.hosts += 1;
            return check_host(value);
        }
        // Length and first letter tell most apart: nothing is compared for the others.
        match (name.len(), name.first().map(u8::to_ascii_lowercase)) {
            (6, Some(b'e')) | (7, Some(b'u')) | (10 | 14, Some(b'c')) | (17, Some(b't')) => {
                self.note_rare(name, value)
            }
            _ => Ok(()),
        }
    }

    fn note_rare(&mut self, name: &[u8], value: &[u8]) -> Result<(), BadMessage> {
        if name.eq_ignore_ascii_case(b"expect") {
            if !value.eq_ignore_ascii_case(b"100-continue") {
                return Err(BadMessage::Expectation);
            }
            self.expects_continue = true;
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            self.has_upgrade = true;
        } else if name.eq_ignore_ascii_case(b"connection") {
            for option in list(value) {
                self.close |= option.eq_ignore_ascii_case(b"close");
                self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                self.upgrade |= option.eq_ignore_ascii_case(b"upgrade");
            }
        } else if name.eq_ignore_ascii_case(b"content-length") {
            // RFC 9112 §6.3 (5): a list of equal numbers may be taken for one. Not here: no
            // program means to send it.
            let length = number(value).ok_or(BadMessage::ContentLength)?;
            if self.length.replace(length).is_some() {
                return Err(BadMessage::ContentLength);
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.note_coding(value)?;
        }
        Ok(())
    }

    fn note_coding(&mut self, value: &[u8]) -> Result<(), BadMessage> {
        if self.chunked || self.strange_coding {
            return Err(BadMessage::TransferEncoding);
        }
        let codings: Vec<_> = list(value).collect();
        match &codings[..] {
            [only] if only.eq_ignore_ascii_case(b"chunked") => self.chunked = true,
            // Applied twice.
            [first @ .., last]
                if first.iter().all(|it| !it.eq_ignore_ascii_case(b"chunked"))
                    && last.eq_ignore_ascii_case(b"chunked") =>
            {
                return Err(BadMessage::TransferCoding);
            }
            // "identity" was taken out of the standard, and is how requests are smuggled.
            [_, ..]
                if codings
                    .iter()
                    .all(|it| !it.eq_ignore_ascii_case(b"chunked")) =>
            {
                self.strange_coding = true;
            }
            _ => return Err(BadMessage::TransferEncoding),
        }
        Ok(())
    }

    /// RFC 9112 §6.3, for requests.
    fn request_framing(&self, is_1_0: bool) -> Result<Framing, BadMessage> {
        if self.hosts > 1 || (self.hosts == 0 && !is_1_0) {
            return Err(BadMessage::Host);
        }
        if self.strange_coding {
            return Err(BadMessage::TransferEncoding);
        }
        match (self.chunked, self.length) {
            (true, Some(_)) => Err(BadMessage::TwoLengths),
            // RFC 9112 §6.1: who says 1.0 and chunked has been tampered with.
            (true, None) if is_1_0 => Err(BadMessage::TransferEncoding),
            (true, None) => Ok(Framing::Chunked),
            (false, None | Some(0)) => Ok(Framing::None),
            (false, Some(length)) => Ok(Framing::Length(length)),
        }
    }
}

/// The members of a list: RFC 9110 §5.6.1.
fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty())
}

/// RFC 9110 §8.6: digits, and nothing else.
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(text).ok()?.parse().ok()
}

fn header_map(text: &[u8], fields: &[(Span, Span)]) -> HeaderMap {
    let text = Bytes::copy_from_slice(text);
    let mut headers = HeaderMap::with_capacity(fields.len());
    for (name, value) in fields {
        append(&mut headers, &text, *name, *value);
    }
    headers
}

fn append(headers: &mut HeaderMap, text: &Bytes, name: Span, value: Span) {
    let name = HeaderName::from_bytes(&text[name.range()]);
    let value = HeaderValue::from_maybe_shared(text.slice(value.range()));
    // The parser has passed both, by the same rules.
    if let (Ok(name), Ok(value)) = (name, value) {
        headers.append(name, value);
    } else {
        debug_assert!(false, "a field that was parsed is a field");
    }
}

/// What `httparse` did not like.
fn judged(error: httparse::Error, data: &[u8], headers: usize) -> BadMessage {
    match error {
        httparse::Error::HeaderName | httparse::Error::HeaderValue => BadMessage::Header,
        httparse::Error::NewLine => BadMessage::BareLineEnd,
        httparse::Error::TooManyHeaders => BadMessage::TooManyHeaders { limit: headers },
        httparse::Error::Version if speaks_another_version(data) => BadMessage::Version,
        httparse::Error::Token if data.first().is_some_and(u8::is_ascii_uppercase) => {
            BadMessage::Target
        }
        _ => BadMessage::NotHttp,
    }
}

/// Whether a version of HTTP stands where that of a request does, whichever.
fn speaks_another_version(data: &[u8]) -> bool {
    let version = word_of_line(data, VERSION_OF_REQUEST);
    version.is_some_and(|version| data[version].starts_with(b"HTTP/"))
}

/// Which word of the first line is the version.
const VERSION_OF_REQUEST: usize = 2;
const VERSION_OF_RESPONSE: usize = 0;

fn word_of_line(data: &[u8], index: usize) -> Option<Range<usize>> {
    let line = data.split(|byte| matches!(byte, b'\r' | b'\n')).next()?;
    let mut begin = 0;
    for word in line.split(|byte| *byte == b' ').take(index) {
        begin += word.len() + 1;
    }
    let length = line.get(begin..)?.split(|byte| *byte == b' ').next()?.len();
    Some(begin..begin + length)
}

/// RFC 9110 §2.5: 1.2 and the like are taken for 1.1, whose major version they share. That message, if it is one.
fn as_1_1(data: &[u8], index: usize) -> Option<Vec<u8>> {
    let version = word_of_line(data, index)?;
    let [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'2'..=b'9'] = &data[version.clone()] else {
        return None;
    };
    let mut data = data.to_vec();
    data[version.end - 1] = b'1';
    Some(data)
}

/// The head exceeds its limit: which part of it?
fn too_long(data: &[u8], limits: &MessageLimits) -> BadMessage {
    match check_unfinished_target(data, limits) {
        Err(error) => error,
        Ok(()) => BadMessage::HeadTooLong { limit: limits.head },
    }
}

/// No method that anybody has named is half as long.
const METHOD_MAX: usize = 32;

/// What a first line has beside its target, at most.
pub(super) const LINE_EXTRA: usize = METHOD_MAX + "  HTTP/1.1\r\n".len();

/// A target that is longer than its limit is found out before its end.
fn check_unfinished_target(data: &[u8], limits: &MessageLimits) -> Result<(), BadMessage> {
    let line = limits.target + LINE_EXTRA;
    if data.len() > line && !data[..line].contains(&b'\n') {
        return Err(BadMessage::TargetTooLong {
            limit: limits.target,
        });
    }
    Ok(())
}

/// RFC 9112 §2.2: `httparse` takes LF alone for the end of a line, and so does who wants to smuggle.
///
/// It has found the ends: behind the first line, of which the caller knows, behind each value and at
/// the very end. Where one cannot be told at a glance, all lines are looked at.
fn check_line_ends(
    text: &[u8],
    begins_well: bool,
    fields: &[httparse::Header<'_>],
) -> Result<(), BadMessage> {
    let ends_well = |field: &httparse::Header<'_>| {
        let end = Span::of(field.value, text).end as usize;
        !field.value.is_empty() && text[end] == b'\r'
    };
    if begins_well
        && text.ends_with(b"\r\n")
        && text[text.len() - 3] == b'\n'
        && fields.iter().all(ends_well)
    {
        return Ok(());
    }
    let mut before = 0;
    for at in memchr::memchr_iter(b'\n', text) {
        if at == before || text[at - 1] != b'\r' {
            return Err(BadMessage::BareLineEnd);
        }
        before = at;
    }
    Ok(())
}

/// RFC 9112 §3.2. Gives the length of the path of the origin form; a target of another form is parsed
/// at once, and the length is 0.
fn check_target(method: &Method, target: &str, uri: &OnceCell<Uri>) -> Result<usize, BadMessage> {
    let bytes = target.as_bytes();
    if bytes.first() == Some(&b'/') && method != Method::CONNECT {
        let mut path = bytes.len();
        for (at, byte) in bytes.iter().enumerate().rev() {
            if !IN_TARGET[usize::from(*byte)] {
                return Err(BadMessage::Target);
            }
            if *byte == b'?' {
                path = at;
            }
        }
        return Ok(path);
    }
    let parsed: Uri = target.parse().or(Err(BadMessage::Target))?;
    let fits = if method == Method::CONNECT {
        // §3.2.3: the authority form, which has a port.
        parsed.scheme().is_none() && parsed.port_u16().is_some() && parsed.path().is_empty()
    } else if target == "*" {
        // §3.2.4.
        method == Method::OPTIONS
    } else {
        // §3.2.2: the absolute form, without credentials (RFC 9110 §4.2.4).
        let plain = parsed
            .authority()
            .is_some_and(|it| !it.as_str().contains('@'));
        parsed.scheme().is_some() && plain && target.is_ascii()
    };
    if !fits {
        return Err(BadMessage::Target);
    }
    // Nobody else has set it: the head was empty.
    let _ = uri.set(parsed);
    Ok(0)
}

/// RFC 9112 §3.2: empty, or a host with perhaps a port.
fn check_host(value: &[u8]) -> Result<(), BadMessage> {
    // Without a branch for each: hosts are short, and nearly all of them good.
    let fits = value
        .iter()
        .fold(true, |fits, byte| fits & IN_HOST[usize::from(*byte)]);
    if fits { Ok(()) } else { Err(BadMessage::Host) }
}

/// What may stand in a target: what RFC 3986 allows, and what browsers send all the same.
pub(super) const IN_TARGET: [bool; 256] = {
    let mut allowed = [false; 256];
    let mut byte = b'!' as usize;
    while byte < 0x7f {
        allowed[byte] = !matches!(byte as u8, b'"' | b'#' | b'<' | b'>' | b'`');
        byte += 1;
    }
    allowed
};

/// What may stand in a host: RFC 3986 §3.2.2, and the colon before the port.
const IN_HOST: [bool; 256] = {
    let mut allowed = [false; 256];
    let mut byte = 0;
    while byte < 0x80 {
        allowed[byte] = (byte as u8).is_ascii_alphanumeric()
            || matches!(
                byte as u8,
                b'-' | b'.'
                    | b'_'
                    | b'~'
                    | b'%'
                    | b'!'
                    | b'$'
                    | b'&'
                    | b'\''
                    | b'('
                    | b')'
                    | b'*'
                    | b'+'
                    | b','
                    | b';'
                    | b'='
                    | b':'
                    | b'['
                    | b']'
            );
        byte += 1;
    }
    allowed
};

#[cfg(test)]
mod tests {
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
            head.method.clone(),
            text(head.target),
            text(head.path),
            head.is_1_0,
        );
        (line, fields, head.facts, head.framing)
    }

    /// What the quick way takes is what the rules take, with the same parts; gives whether it took it.
    #[track_caller]
    fn check_both_ways(text: &[u8], limits: &MessageLimits) -> bool {
        let (mut quick, mut judged) = (RequestHead::empty(), RequestHead::empty());
        let taken = scan(text, limits, &mut Vec::new(), &mut Facts::NONE.clone()).is_some();
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
        check_refused("\x16\x03\x01\x02\r\n\r\n", BadMessage::NotHttp);
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

    #[test]
    fn rfc9112_6_3_responses_have_their_ends() {
        let framing = |text: &str, method: &Method| {
            let parsed = ResponseHead::parse(text.as_bytes(), &MessageLimits::default());
            let (head, _) = parsed?.expect("it is complete");
            head.framing(method)
        };
        let get = &Method::GET;
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(framing(chunked, get), Ok(Framing::Chunked));
        assert_eq!(framing(chunked, &Method::HEAD), Ok(Framing::None));
        assert_eq!(framing(chunked, &Method::CONNECT), Ok(Framing::None));
        let until_close = "HTTP/1.0 200 OK\r\n\r\n";
        assert_eq!(framing(until_close, get), Ok(Framing::UntilClose));
        let length = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n";
        assert_eq!(framing(length, get), Ok(Framing::Length(7)));
        for status in ["100 Continue", "204 No Content", "304 Not Modified"] {
            let text = format!("HTTP/1.1 {status}\r\nContent-Length: 7\r\n\r\n");
            assert_eq!(framing(&text, get), Ok(Framing::None), "{status}");
        }
        let both = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(framing(both, get), Err(BadMessage::TwoLengths));
    }
}
