//! The lines of a head: their ends, the version in the first, and what is wrong with one that is none.

use std::ops::Range;

use super::super::error::BadMessage;
use super::super::limits::MessageLimits;
use super::Span;

/// What `httparse` did not like.
pub(super) fn judged(error: httparse::Error, data: &[u8], headers: usize) -> BadMessage {
    match error {
        httparse::Error::HeaderName | httparse::Error::HeaderValue => BadMessage::Header,
        httparse::Error::NewLine => BadMessage::BareLineEnd,
        httparse::Error::TooManyHeaders => BadMessage::TooManyHeaders { limit: headers },
        httparse::Error::Version if speaks_another_version(data) => BadMessage::Version,
        httparse::Error::Token if data.first().is_some_and(u8::is_ascii_uppercase) => {
            BadMessage::Target
        }
        _ if is_tls(data) => BadMessage::Tls,
        _ => BadMessage::NotHttp,
    }
}

/// Whether it begins as a record of TLS does, an alert or a handshake: RFC 8446 §5.1.
fn is_tls(data: &[u8]) -> bool {
    matches!(data, [0x15 | 0x16] | [0x15 | 0x16, 0x03, ..])
}

/// Whether a version of HTTP stands where that of a request does, whichever.
pub(super) fn speaks_another_version(data: &[u8]) -> bool {
    let version = word_of_line(data, VERSION_OF_REQUEST);
    version.is_some_and(|version| data[version].starts_with(b"HTTP/"))
}

/// Which word of the first line is the version.
pub(super) const VERSION_OF_REQUEST: usize = 2;
pub(super) const VERSION_OF_RESPONSE: usize = 0;

pub(super) fn word_of_line(data: &[u8], index: usize) -> Option<Range<usize>> {
    let line = data.split(|byte| matches!(byte, b'\r' | b'\n')).next()?;
    let mut begin = 0;
    for word in line.split(|byte| *byte == b' ').take(index) {
        begin += word.len() + 1;
    }
    let length = line.get(begin..)?.split(|byte| *byte == b' ').next()?.len();
    Some(begin..begin + length)
}

/// RFC 9110 §2.5: 1.2 and the like are taken for 1.1, whose major version they share. That message, if it is one.
pub(super) fn as_1_1(data: &[u8], index: usize) -> Option<Vec<u8>> {
    let version = word_of_line(data, index)?;
    let [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'2'..=b'9'] = &data[version.clone()] else {
        return None;
    };
    let mut data = data.to_vec();
    data[version.end - 1] = b'1';
    Some(data)
}

/// The head exceeds its limit: which part of it?
pub(super) fn too_long(data: &[u8], limits: &MessageLimits) -> BadMessage {
    match check_unfinished_target(data, limits) {
        Err(error) => error,
        Ok(()) => BadMessage::HeadTooLong { limit: limits.head },
    }
}

/// No method that anybody has named is half as long.
pub(super) const METHOD_MAX: usize = 32;

/// What a first line has beside its target, at most.
pub(in crate::http) const LINE_EXTRA: usize = METHOD_MAX + "  HTTP/1.1\r\n".len();

/// A target that is longer than its limit is found out before its end.
pub(super) fn check_unfinished_target(
    data: &[u8],
    limits: &MessageLimits,
) -> Result<(), BadMessage> {
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
pub(super) fn check_line_ends(
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
