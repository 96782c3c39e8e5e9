//! Parts of a representation (RFC 9110 §14): `Range`, `Content-Range`, `multipart/byteranges`.
//!
//! [`select`] turns a `Range` into what a server sends of so many bytes; [`MultipartRanges`] lays out
//! an answer of several parts, with its exact length.
//!
//! # Bounds
//!
//! At most [`RANGES_MAX`] parts are answered; a request for more gets the whole (§14.2 and §17.15 allow
//! it). Parts that overlap, or are nearer to each other than the head of a part is long, become one,
//! so an answer is never longer than the whole and its heads.

use std::fmt;
use std::fmt::Write as _;

use http::{HeaderMap, HeaderValue, header};

use super::values::ascii_value;

/// How many parts a request may ask for before it gets the whole instead.
pub const RANGES_MAX: usize = 32;

/// Parts with a gap of fewer bytes than a part's head takes are sent as one (RFC 9110 §15.3.7.2).
const GAP_MAX: u64 = 80;

/// The bytes from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ByteRange {
    /// Where it begins.
    pub first: u64,
    /// Where its last byte is, at `first` or behind it.
    pub last: u64,
}

impl ByteRange {
    /// How many bytes it has: one at least.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a range is never empty")]
    pub fn len(&self) -> u64 {
        self.last - self.first + 1
    }
}

/// What of a representation a server sends.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Selection {
    /// All of it, with 200: no part was asked for, or not in a way that is to be followed.
    Whole,
    /// These parts, with 206: at least one, in ascending order, none touching another.
    Parts(Vec<ByteRange>),
    /// None, with 416 and the `Content-Range` of [`ContentRange::unsatisfied`].
    NotSatisfiable,
}

/// Selects what the `Range` of a request asks for, of `length` bytes.
///
/// Whether that field is to be looked at is [`range_applies`](super::conditional::range_applies).
/// Units other than bytes, bad syntax and several fields give the whole (RFC 9110 §14.2).
#[must_use]
pub fn select(headers: &HeaderMap, length: u64) -> Selection {
    let mut values = headers.get_all(header::RANGE).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => match value.to_str() {
            Ok(text) => select_from(text, length),
            Err(_) => Selection::Whole,
        },
        _ => Selection::Whole,
    }
}

fn select_from(text: &str, length: u64) -> Selection {
    // §14.1: names of units are case-insensitive.
    let Some((unit, set)) = text.split_once('=') else {
        return Selection::Whole;
    };
    if !unit.eq_ignore_ascii_case("bytes") {
        return Selection::Whole;
    }
    let mut parts = Vec::new();
    let mut asked = 0;
    for spec in set
        .split(',')
        .map(|spec| spec.trim_matches([' ', '\t']))
        .filter(|spec| !spec.is_empty())
    {
        asked += 1;
        if asked > RANGES_MAX {
            return Selection::Whole;
        }
        match parse_spec(spec, length) {
            Some(Some(part)) => parts.push(part),
            Some(None) => {}
            None => return Selection::Whole,
        }
    }
    match (asked, parts.is_empty()) {
        (0, _) => Selection::Whole,
        // §14.1.2: the last bytes of nothing can be had, but no Content-Range can say them.
        (_, true) if length == 0 && set.trim_start_matches([' ', '\t']).starts_with('-') => {
            Selection::Whole
        }
        (_, true) => Selection::NotSatisfiable,
        (_, false) => Selection::Parts(coalesce(parts)),
    }
}

/// `None` for bad syntax, `Some(None)` for what lies outside of `length`.
fn parse_spec(spec: &str, length: u64) -> Option<Option<ByteRange>> {
    let (first, last) = spec.split_once('-')?;
    if first.is_empty() {
        let suffix = number(last)?;
        return Some((suffix > 0 && length > 0).then(|| ByteRange {
            first: length.saturating_sub(suffix),
            last: length - 1,
        }));
    }
    let first = number(first)?;
    let last = match last {
        "" => u64::MAX,
        digits => number(digits)?,
    };
    // §14.1.1: "an int-range is invalid if the last-pos value is present and less than first-pos".
    if last < first {
        return None;
    }
    Some((first < length).then(|| ByteRange {
        first,
        last: last.min(length - 1),
    }))
}

/// Digits alone; what is too large for a position stands behind every end.
fn number(digits: &str) -> Option<u64> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().unwrap_or(u64::MAX))
}

fn coalesce(mut parts: Vec<ByteRange>) -> Vec<ByteRange> {
    parts.sort_by_key(|part| part.first);
    let mut joined: Vec<ByteRange> = Vec::with_capacity(parts.len());
    for part in parts {
        match joined.last_mut() {
            Some(before) if part.first <= before.last.saturating_add(GAP_MAX) => {
                before.last = before.last.max(part.last);
            }
            _ => joined.push(part),
        }
    }
    joined
}

/// A `Content-Range` of bytes (RFC 9110 §14.4).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ContentRange {
    /// The part that is sent; `None` with 416.
    pub range: Option<ByteRange>,
    /// How long the whole is; `None` if the sender does not know.
    pub length: Option<u64>,
}

impl ContentRange {
    /// A part of a whole of `length` bytes.
    #[must_use]
    pub fn part(range: ByteRange, length: u64) -> Self {
        Self {
            range: Some(range),
            length: Some(length),
        }
    }

    /// What goes with 416: `bytes */length`.
    #[must_use]
    pub fn unsatisfied(length: u64) -> Self {
        Self {
            range: None,
            length: Some(length),
        }
    }

    /// Reads a value; `None` if it is none, of another unit, or invalid by RFC 9110 §14.4.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (unit, rest) = text.split_once(' ')?;
        let (range, length) = rest.split_once('/')?;
        if !unit.eq_ignore_ascii_case("bytes") {
            return None;
        }
        let exact = |digits: &str| digits.parse().ok().filter(|_| number(digits).is_some());
        let length = match length {
            "*" => None,
            digits => Some(exact(digits)?),
        };
        let range = match range {
            "*" => None,
            range => {
                let (first, last) = range.split_once('-')?;
                let (first, last) = (exact(first)?, exact(last)?);
                Some(ByteRange { first, last })
            }
        };
        let is_valid = match range {
            Some(range) => range.first <= range.last && range.last < length.unwrap_or(u64::MAX),
            None => length.is_some(),
        };
        is_valid.then_some(Self { range, length })
    }

    /// As the value of a field.
    #[must_use]
    pub fn to_value(&self) -> HeaderValue {
        ascii_value(&self.to_string())
    }
}

impl fmt::Display for ContentRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes ")?;
        match self.range {
            Some(range) => write!(f, "{}-{}", range.first, range.last)?,
            None => f.write_str("*")?,
        }
        match self.length {
            Some(length) => write!(f, "/{length}"),
            None => f.write_str("/*"),
        }
    }
}

/// An answer of several parts: `multipart/byteranges` (RFC 9110 §14.6).
///
/// The body is, for each part, its head and its bytes, and then the end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MultipartRanges {
    boundary: String,
    parts: Vec<(ByteRange, Vec<u8>)>,
    end: Vec<u8>,
}

impl MultipartRanges {
    /// Lays out the parts of a whole of `length` bytes.
    ///
    /// `boundary` makes the line between them: it must not occur in the content, so take a random
    /// number.
    #[must_use]
    pub fn new(
        parts: &[ByteRange],
        length: u64,
        content_type: Option<&HeaderValue>,
        boundary: u128,
    ) -> Self {
        let boundary = format!("{boundary:032x}");
        let mut start = format!("--{boundary}\r\n").into_bytes();
        if let Some(content_type) = content_type {
            start.extend_from_slice(b"Content-Type: ");
            start.extend_from_slice(content_type.as_bytes());
            start.extend_from_slice(b"\r\n");
        }
        let parts = parts.iter().enumerate().map(|(index, part)| {
            let mut head = if index == 0 {
                Vec::new()
            } else {
                b"\r\n".to_vec()
            };
            head.extend_from_slice(&start);
            let mut line = String::new();
            write!(
                line,
                "Content-Range: {}\r\n\r\n",
                ContentRange::part(*part, length)
            )
            .expect("a string takes everything");
            head.extend_from_slice(line.as_bytes());
            (*part, head)
        });
        Self {
            parts: parts.collect(),
            end: format!("\r\n--{boundary}--\r\n").into_bytes(),
            boundary,
        }
    }

    /// Each part with the bytes that go before its own.
    pub fn parts(&self) -> impl Iterator<Item = (ByteRange, &[u8])> {
        self.parts
            .iter()
            .map(|(part, head)| (*part, head.as_slice()))
    }

    /// What goes behind the last part.
    #[must_use]
    pub fn end(&self) -> &[u8] {
        &self.end
    }

    /// How long the body is, in bytes.
    #[must_use]
    pub fn content_length(&self) -> u64 {
        let parts = self.parts();
        parts.fold(self.end.len() as u64, |sum, (part, head)| {
            sum.saturating_add(head.len() as u64)
                .saturating_add(part.len())
        })
    }

    /// The `Content-Type` of the whole answer.
    #[must_use]
    pub fn content_type(&self) -> HeaderValue {
        ascii_value(&format!("multipart/byteranges; boundary={}", self.boundary))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u64, last: u64) -> ByteRange {
        ByteRange { first, last }
    }

    #[track_caller]
    fn check(text: &str, length: u64, expected: &[(u64, u64)]) {
        let expected = expected.iter().map(|&(first, last)| range(first, last));
        let expected = Selection::Parts(expected.collect());
        assert_eq!(select_from(text, length), expected, "{text} of {length}");
    }

    #[test]
    fn rfc9110_14_1_2_examples_are_selected() {
        check("bytes=0-499", 10_000, &[(0, 499)]);
        check("bytes=500-999", 10_000, &[(500, 999)]);
        check("bytes=-500", 10_000, &[(9_500, 9_999)]);
        check("bytes=9500-", 10_000, &[(9_500, 9_999)]);
        check("bytes=0-0,-1", 10_000, &[(0, 0), (9_999, 9_999)]);
        check(
            "bytes= 0-999, 4500-5499, -1000",
            10_000,
            &[(0, 999), (4_500, 5_499), (9_000, 9_999)],
        );
        check("bytes=500-600,601-999", 10_000, &[(500, 999)]);
        check("bytes=500-700,601-999", 10_000, &[(500, 999)]);
    }

    #[test]
    fn what_reaches_beyond_the_end_is_cut() {
        check("bytes=0-", 5, &[(0, 4)]);
        check("bytes=3-99999999999999999999999", 5, &[(3, 4)]);
        check("bytes=-99999999999999999999999", 5, &[(0, 4)]);
        check("bytes=0-0,5-6", 5, &[(0, 0)]);
        check("BYTES=4-4", 5, &[(4, 4)]);
        check("bytes=0-", u64::MAX, &[(0, u64::MAX - 1)]);
    }

    #[test]
    fn what_lies_outside_is_not_satisfiable() {
        for (text, length) in [
            ("bytes=5-", 5),
            ("bytes=5-9,7-", 5),
            ("bytes=-0", 5),
            ("bytes=0-", 0),
            ("bytes=99999999999999999999999-", 5),
        ] {
            let selection = select_from(text, length);
            assert_eq!(selection, Selection::NotSatisfiable, "{text} of {length}");
        }
        // The last bytes of nothing are all of it.
        assert_eq!(select_from("bytes=-5", 0), Selection::Whole);
    }

    #[test]
    fn what_is_no_range_of_bytes_gives_the_whole() {
        for text in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=-",
            "bytes=1",
            "bytes=a-b",
            "bytes=5-4",
            "bytes=0-1,5-4",
            "bytes=+1-2",
            "bytes=1--2",
            "bytes=0x1-2",
            "items=0-1",
            "bytes 0-1",
            "bytes=1 - 2",
            "bytes =0-1",
        ] {
            assert_eq!(select_from(text, 10), Selection::Whole, "{text}");
        }
        let mut headers = HeaderMap::new();
        assert_eq!(select(&headers, 10), Selection::Whole);
        headers.append(header::RANGE, HeaderValue::from_static("bytes=0-1"));
        assert_eq!(select(&headers, 10), Selection::Parts(vec![range(0, 1)]));
        headers.append(header::RANGE, HeaderValue::from_static("bytes=0-1"));
        assert_eq!(select(&headers, 10), Selection::Whole);
    }

    #[test]
    fn parts_that_overlap_or_nearly_touch_become_one() {
        check("bytes=200-300,0-10,5-20", 1_000, &[(0, 20), (200, 300)]);
        check("bytes=0-0,81-81", 1_000, &[(0, 0), (81, 81)]);
        check("bytes=0-0,80-80", 1_000, &[(0, 80)]);
        let many = vec!["0-"; RANGES_MAX].join(",");
        check(&format!("bytes={many}"), 1_000, &[(0, 999)]);
    }

    #[test]
    fn too_many_parts_give_the_whole() {
        let specs: Vec<String> = (0..=RANGES_MAX as u64)
            .map(|index| format!("{0}-{0}", index * 1_000))
            .collect();
        let text = format!("bytes={}", specs[1..].join(","));
        let Selection::Parts(parts) = select_from(&text, 1_000_000) else {
            panic!("as many as are allowed");
        };
        assert_eq!(parts.len(), RANGES_MAX);
        let text = format!("bytes={}", specs.join(","));
        assert_eq!(select_from(&text, 1_000_000), Selection::Whole);
    }

    #[test]
    fn rfc9110_14_4_a_content_range_is_read_as_it_is_written() {
        for (text, range, length) in [
            ("bytes 42-1233/1234", Some((42, 1233)), Some(1234)),
            ("bytes 42-1233/*", Some((42, 1233)), None),
            ("bytes */1234", None, Some(1234)),
        ] {
            let found = ContentRange::parse(text).expect(text);
            let pair = found.range.map(|it| (it.first, it.last));
            assert_eq!((pair, found.length), (range, length));
            assert_eq!(found.to_value(), text);
        }
        for text in [
            "",
            "bytes",
            "bytes */*",
            "bytes 5-4/10",
            "bytes 0-10/10",
            "bytes 0-9",
            "items 0-1/2",
            "bytes 0-99999999999999999999999/*",
            "bytes 0-18446744073709551615/*",
            "bytes +0-1/2",
            "bytes -1/2",
        ] {
            assert_eq!(ContentRange::parse(text), None, "{text}");
        }
    }

    #[test]
    fn several_parts_are_as_long_as_they_say() {
        let whole: Vec<u8> = (0..=255).collect();
        let parts = [range(0, 9), range(100, 100), range(250, 255)];
        let kind = HeaderValue::from_static("text/plain");
        for content_type in [None, Some(&kind)] {
            let ranges = MultipartRanges::new(&parts, 256, content_type, 0xabc);
            let mut body = Vec::new();
            for (part, head) in ranges.parts() {
                body.extend_from_slice(head);
                let (first, last) = (part.first as usize, part.last as usize);
                body.extend_from_slice(&whole[first..=last]);
            }
            body.extend_from_slice(ranges.end());
            assert_eq!(body.len() as u64, ranges.content_length());
        }
    }

    #[test]
    fn rfc9110_14_6_a_part_says_what_it_is() {
        let kind = HeaderValue::from_static("text/plain");
        let ranges = MultipartRanges::new(&[range(0, 1), range(500, 501)], 900, Some(&kind), 1);
        let heads: Vec<_> = ranges
            .parts()
            .map(|(_, head)| String::from_utf8_lossy(head))
            .collect();
        let boundary = "00000000000000000000000000000001";
        let head = |range: &str| {
            format!(
                "--{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes {range}/900\r\n\r\n"
            )
        };
        assert_eq!(heads, [head("0-1"), format!("\r\n{}", head("500-501"))]);
        assert_eq!(ranges.end(), format!("\r\n--{boundary}--\r\n").as_bytes());
        let expected = format!("multipart/byteranges; boundary={boundary}");
        assert_eq!(ranges.content_type(), expected.as_str());
    }
}
