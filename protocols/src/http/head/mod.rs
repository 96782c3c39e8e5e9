//! The heads of messages: the first line and the header fields, parsed and judged.
//!
//! `httparse` finds the parts; what RFC 9112 demands beyond that is checked here, once, so that
//! nothing behind this folder meets an ambiguous message.

mod facts;
mod lines;
mod request;
mod response;
mod target;
mod unfinished;

use std::ops::Range;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

pub(super) use self::facts::{Facts, IN_HOST};
pub(super) use self::lines::LINE_EXTRA;
pub(super) use self::request::RequestHead;
pub(super) use self::response::ResponseHead;
pub(super) use self::target::IN_TARGET;
pub(super) use self::unfinished::Unfinished;

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
