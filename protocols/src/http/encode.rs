//! Heads of messages, written.

use http::header::{self, HeaderName};
use http::{HeaderMap, Method, StatusCode};

use super::head::Framing;

/// Writes one header field.
pub(super) fn write_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// What decides how a response is written, beside the response itself.
#[derive(Debug)]
pub(super) struct ResponseFacts<'a> {
    /// The client speaks HTTP/1.0.
    pub(super) to_1_0: bool,
    /// The connection lasts.
    pub(super) persistent: bool,
    /// The body's framing; for a response to HEAD, what a GET would have got.
    pub(super) framing: Framing,
    pub(super) media_type: Option<&'static str>,
    /// With the date of now.
    pub(super) beginning: &'a Beginning,
}

/// What most responses begin with: the line of their status, and the date.
pub(super) type Beginning = [u8; BEGINNING.len()];

/// One without its date.
pub(super) const BEGINNING: [u8; 54] =
    *b"HTTP/1.1 200 OK\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\n";

/// Whether a response with this status never has a body, nor a length: RFC 9112 §6.3 (1).
pub(super) fn is_bodiless(status: StatusCode) -> bool {
    status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
}

/// Writes the head of a response.
///
/// How the body is framed and whether the connection lasts is decided here alone: the response's own
/// `Content-Length`, `Transfer-Encoding` and `Connection` are left out, but for the length that stands
/// for a body that is not sent.
pub(super) fn write_response(
    out: &mut Vec<u8>,
    status: StatusCode,
    headers: &HeaderMap,
    facts: &ResponseFacts<'_>,
) {
    if let (StatusCode::OK, Some(media_type), Framing::Length(length)) =
        (status, facts.media_type, facts.framing)
        && headers.is_empty()
        && facts.persistent
        && !facts.to_1_0
    {
        return write_usual_response(out, facts.beginning, media_type, length);
    }
    // They are few: quicker than to hash the name.
    let has_date = headers.keys().any(|name| *name == header::DATE);
    if status == StatusCode::OK && !has_date {
        out.extend_from_slice(facts.beginning);
    } else {
        write_status_line(out, status);
        if !has_date {
            out.extend_from_slice(&facts.beginning[STATUS_LINE.len()..]);
        }
    }
    let is_upgrade = status == StatusCode::SWITCHING_PROTOCOLS;
    let is_bare = is_bodiless(status);
    let mut has_type = false;
    // Most responses have none of their own.
    if !headers.is_empty() {
        for (name, value) in headers {
            if is_framing(name) {
                let stands_for_itself = match *name {
                    header::CONTENT_LENGTH => {
                        status == StatusCode::NOT_MODIFIED || facts.framing == Framing::UntilClose
                    }
                    header::CONNECTION => is_upgrade,
                    _ => false,
                };
                if !stands_for_itself {
                    continue;
                }
            }
            has_type |= *name == header::CONTENT_TYPE;
            write_field(out, name.as_str(), value.as_bytes());
        }
    }
    let media_type = facts.media_type.filter(|_| !has_type && !is_bare);
    if let Some(media_type) = media_type {
        write_field(out, "content-type", media_type.as_bytes());
    }
    if !is_bare {
        write_framing(out, facts.framing);
    }
    if status == StatusCode::UPGRADE_REQUIRED && headers.contains_key(header::UPGRADE) {
        // RFC 9110 §7.8: `Upgrade` is of this hop, and has to be named as such.
        out.extend_from_slice(b"connection: upgrade\r\n");
    }
    match (facts.persistent, facts.to_1_0) {
        _ if is_upgrade => {}
        (false, _) => out.extend_from_slice(b"connection: close\r\n"),
        // RFC 9112 §9.3: who speaks 1.0 has to be told.
        (true, true) => out.extend_from_slice(b"connection: keep-alive\r\n"),
        (true, false) => {}
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes an interim response. It has no body, and says nothing of one: RFC 9110 §8.6, RFC 9112 §6.1.
pub(super) fn write_interim(out: &mut Vec<u8>, status: StatusCode, headers: &HeaderMap) {
    write_status_line(out, status);
    for (name, value) in headers {
        if !is_framing(name) {
            write_field(out, name.as_str(), value.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// As [`write_response`], where there is nothing to decide: 200, a body of this type and length, no field of its
/// own, on a connection of HTTP/1.1 that lasts.
pub(super) fn write_usual_response(
    out: &mut Vec<u8>,
    beginning: &Beginning,
    media_type: &str,
    length: u64,
) {
    out.extend_from_slice(beginning);
    // The same text, not only an equal one: copies of known size are none to speak of.
    if std::ptr::eq(media_type, PLAIN_TEXT) {
        out.extend_from_slice(b"content-type: text/plain; charset=utf-8\r\ncontent-length: ");
    } else {
        out.extend_from_slice(b"content-type: ");
        out.extend_from_slice(media_type.as_bytes());
        out.extend_from_slice(b"\r\ncontent-length: ");
    }
    // A copy of known size is none to speak of.
    match length {
        10..100 => {
            let (tens, ones) = (length as u8 / 10, length as u8 % 10);
            out.extend_from_slice(&[b'0' + tens, b'0' + ones, b'\r', b'\n', b'\r', b'\n']);
        }
        _ => {
            write_number(out, length);
            out.extend_from_slice(b"\r\n\r\n");
        }
    }
}

/// Writes what stands behind the date in a response with 200 that is sent again and again, on a connection of
/// HTTP/1.1 that lasts: as [`write_response`] would.
pub(super) fn write_kept_fields(out: &mut Vec<u8>, headers: &HeaderMap, length: u64) {
    for (name, value) in headers {
        if !is_framing(name) {
            write_field(out, name.as_str(), value.as_bytes());
        }
    }
    write_length(out, length);
    out.extend_from_slice(b"\r\n");
}

/// What the line of most responses is.
pub(super) const STATUS_LINE: &[u8] = b"HTTP/1.1 200 OK\r\n";

/// Text without a type of its own.
pub(super) static PLAIN_TEXT: &str = "text/plain; charset=utf-8";

fn write_framing(out: &mut Vec<u8>, framing: Framing) {
    match framing {
        Framing::None => out.extend_from_slice(b"content-length: 0\r\n"),
        Framing::Length(length) => write_length(out, length),
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Framing::UntilClose => {}
    }
}

/// What says how the message itself is to be taken, and so is ours to say.
fn is_framing(name: &HeaderName) -> bool {
    *name == header::CONTENT_LENGTH
        || *name == header::TRANSFER_ENCODING
        || *name == header::CONNECTION
        || name.as_str() == "keep-alive"
}

fn write_status_line(out: &mut Vec<u8>, status: StatusCode) {
    if status == StatusCode::OK {
        return out.extend_from_slice(STATUS_LINE);
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    let reason = status.canonical_reason().unwrap_or("");
    out.extend_from_slice(reason.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn write_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"content-length: ");
    write_number(out, length);
    out.extend_from_slice(b"\r\n");
}

/// Writes a number in digits.
pub(super) fn write_number(out: &mut Vec<u8>, number: u64) {
    // A copy of known size is none to speak of.
    if number < 1000 {
        let number = number as u32;
        let digit = |place: u32| b'0' + (number / place % 10) as u8;
        return match number {
            0..10 => out.push(digit(1)),
            10..100 => out.extend_from_slice(&[digit(10), digit(1)]),
            _ => out.extend_from_slice(&[digit(100), digit(10), digit(1)]),
        };
    }
    let mut digits = [0; 20];
    let (mut at, mut left) = (digits.len(), number);
    loop {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Writes the first line of a request. `target` is in whatever form is right.
pub(super) fn write_request_line(out: &mut Vec<u8>, method: &Method, target: &str) {
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// Writes the fields of a request; the empty line behind them is for the caller, who may have more.
///
/// `host` is the value of `Host`, unless `headers` has one. What says where the body ends is decided
/// by `framing` alone.
pub(super) fn write_request_fields(
    out: &mut Vec<u8>,
    method: &Method,
    host: &str,
    headers: &HeaderMap,
    framing: Framing,
) {
    // RFC 9110 §7.2: first.
    match headers.get(header::HOST) {
        Some(host) => write_field(out, "host", host.as_bytes()),
        None => write_field(out, "host", host.as_bytes()),
    }
    for (name, value) in headers {
        let is_ours = *name == header::HOST
            || *name == header::CONTENT_LENGTH
            || *name == header::TRANSFER_ENCODING;
        if !is_ours {
            write_field(out, name.as_str(), value.as_bytes());
        }
    }
    match framing {
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Framing::Length(length) => write_length(out, length),
        // RFC 9110 §8.6: a method that is about a body says that there is none.
        Framing::None | Framing::UntilClose => {
            if matches!(*method, Method::POST | Method::PUT | Method::PATCH) {
                out.extend_from_slice(b"content-length: 0\r\n");
            }
        }
    }
}
