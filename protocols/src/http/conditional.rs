//! Conditional requests (RFC 9110 §13), and the validators that they compare (§8.8).
//!
//! [`evaluate`] says what a server does with the preconditions of a request, given what it has;
//! [`range_applies`] is the last step of the same table, for requests of a part.
//!
//! # Not here
//!
//! A server ignores preconditions when it would answer anything but success without them (§13.2.1):
//! that is the caller's to know.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{
    IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::dates::{parse_date_value, whole_seconds};
use super::values::ascii_value;

/// An entity tag (RFC 9110 §8.8.3): `"xyzzy"`, or `W/"xyzzy"`.
#[derive(Clone, Eq, PartialEq)]
pub struct ETag {
    /// As it is written, quotes and all.
    value: HeaderValue,
}

/// What is no entity tag: quotes are missing, or something between them may not be there.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not an entity tag")]
pub struct BadETag;

impl ETag {
    /// A strong tag: of representations that are the same to the byte.
    ///
    /// # Errors
    ///
    /// [`BadETag`] if `opaque` has a quote, a space or a control character.
    pub fn strong(opaque: &str) -> Result<Self, BadETag> {
        Self::parse(format!("\"{opaque}\"").as_bytes())
    }

    /// A weak tag: of representations that may stand for each other.
    ///
    /// # Errors
    ///
    /// As [`strong`](Self::strong).
    pub fn weak(opaque: &str) -> Result<Self, BadETag> {
        Self::parse(format!("W/\"{opaque}\"").as_bytes())
    }

    /// The tag of a file, from its length and the time of its last change, as other servers make it.
    ///
    /// A strong one: a file that is changed twice within what its file system counts as one moment,
    /// to the same length, keeps its tag.
    #[must_use]
    pub fn of_file(length: u64, modified: SystemTime) -> Self {
        let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            value: ascii_value(&format!("\"{:x}-{length:x}\"", since.as_nanos())),
        }
    }

    /// Reads the whole of `bytes` as a tag.
    ///
    /// # Errors
    ///
    /// [`BadETag`] if it is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadETag> {
        match split_tag(bytes) {
            Some((tag, b"")) => {
                let value = HeaderValue::from_bytes(tag).ok().ok_or(BadETag)?;
                Ok(Self { value })
            }
            _ => Err(BadETag),
        }
    }

    /// Whether it is weak.
    #[must_use]
    pub fn is_weak(&self) -> bool {
        self.value.as_bytes().starts_with(b"W/")
    }

    /// What is between the quotes, without them.
    #[must_use]
    pub fn opaque(&self) -> &[u8] {
        opaque(self.value.as_bytes())
    }

    /// The comparison that wants the same bytes (RFC 9110 §8.8.3.2).
    #[must_use]
    pub fn strongly_equals(&self, other: &Self) -> bool {
        !self.is_weak() && self.value == other.value
    }

    /// The comparison that wants the same meaning (RFC 9110 §8.8.3.2).
    #[must_use]
    pub fn weakly_equals(&self, other: &Self) -> bool {
        self.opaque() == other.opaque()
    }

    /// As the value of a field.
    #[must_use]
    pub fn to_value(&self) -> HeaderValue {
        self.value.clone()
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.value.as_bytes()))
    }
}

impl fmt::Debug for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Splits the tag off at the beginning of `bytes`.
fn split_tag(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let prefix = if bytes.starts_with(b"W/") { 2 } else { 0 };
    let quoted = bytes[prefix..].strip_prefix(b"\"")?;
    // §8.8.3: etagc is any visible character except the quote, and bytes above ASCII.
    let length = quoted
        .iter()
        .position(|byte| !matches!(byte, 0x21 | 0x23..=0x7e | 0x80..))?;
    if quoted[length] != b'"' {
        return None;
    }
    Some(bytes.split_at(prefix + length + 2))
}

fn opaque(tag: &[u8]) -> &[u8] {
    let quoted = tag.strip_prefix(b"W/").unwrap_or(tag);
    quoted.get(1..quoted.len() - 1).unwrap_or_default()
}

/// What tells one state of a resource from another (RFC 9110 §8.8).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Validators {
    /// The tag of the representation that would be sent.
    pub etag: Option<ETag>,
    /// When it was last changed; whole seconds count.
    pub last_modified: Option<SystemTime>,
}

/// What a server does with a request after a look at its preconditions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Precondition {
    /// It answers as if there were none.
    Proceed,
    /// It answers 304: the client has it already.
    NotModified,
    /// It answers 412 and does nothing.
    PreconditionFailed,
}

/// Evaluates the preconditions of a request in the order of RFC 9110 §13.2.2.
///
/// `current` is what the target has now, `None` if there is nothing. What is no date, or no list of
/// tags, is treated as RFC 9110 says: a date is ignored, a tag matches nothing.
#[must_use]
pub fn evaluate(
    method: &Method,
    headers: &HeaderMap,
    current: Option<&Validators>,
) -> Precondition {
    // §13.2.1: methods that do not select a representation.
    if matches!(*method, Method::CONNECT | Method::OPTIONS | Method::TRACE) {
        return Precondition::Proceed;
    }
    let is_read = matches!(*method, Method::GET | Method::HEAD);
    let last_modified = current.and_then(|it| it.last_modified).map(whole_seconds);

    // Steps 1 and 2.
    if headers.contains_key(IF_MATCH) {
        if !any_matches(headers, &IF_MATCH, current, strongly_equal) {
            return Precondition::PreconditionFailed;
        }
    } else if let (Some(since), Some(modified)) =
        (only_date(headers, &IF_UNMODIFIED_SINCE), last_modified)
        && modified > since
    {
        return Precondition::PreconditionFailed;
    }

    // Steps 3 and 4.
    if headers.contains_key(IF_NONE_MATCH) {
        if any_matches(headers, &IF_NONE_MATCH, current, weakly_equal) {
            return if is_read {
                Precondition::NotModified
            } else {
                Precondition::PreconditionFailed
            };
        }
    } else if is_read
        && let (Some(since), Some(modified)) =
            (only_date(headers, &IF_MODIFIED_SINCE), last_modified)
        && modified <= since
    {
        return Precondition::NotModified;
    }
    Precondition::Proceed
}

/// Whether the `Range` of a request is to be followed: step 5 of RFC 9110 §13.2.2.
///
/// `false` if there is none, if the method is not GET (§14.2), or if `If-Range` names another state
/// (§13.1.5). A date counts only if it is exact, and at least a second ago at `now`: within that
/// second there may have been another change (§8.8.2.2).
#[must_use]
pub fn range_applies(
    method: &Method,
    headers: &HeaderMap,
    current: &Validators,
    now: SystemTime,
) -> bool {
    if *method != Method::GET || !headers.contains_key(RANGE) {
        return false;
    }
    let mut values = headers.get_all(IF_RANGE).iter();
    let Some(value) = values.next() else {
        return true;
    };
    if values.next().is_some() {
        return false;
    }
    if let Ok(tag) = ETag::parse(value.as_bytes()) {
        let etag = current.etag.as_ref();
        return etag.is_some_and(|etag| etag.strongly_equals(&tag));
    }
    let (Some(date), Some(modified)) = (parse_date_value(value), current.last_modified) else {
        return false;
    };
    let modified = whole_seconds(modified);
    date == modified && modified + Duration::from_secs(1) <= now
}

fn strongly_equal(left: &[u8], right: &[u8]) -> bool {
    !left.starts_with(b"W/") && left == right
}

fn weakly_equal(left: &[u8], right: &[u8]) -> bool {
    opaque(left) == opaque(right)
}

/// Whether a list of tags has one that equals the current one, or is `*` and there is something.
fn any_matches(
    headers: &HeaderMap,
    name: &HeaderName,
    current: Option<&Validators>,
    equal: fn(&[u8], &[u8]) -> bool,
) -> bool {
    let Some(current) = current else {
        return false;
    };
    headers.get_all(name).iter().any(|value| {
        let mut rest = value.as_bytes().trim_ascii();
        if rest == b"*" {
            return true;
        }
        let Some(etag) = &current.etag else {
            return false;
        };
        // A list with something else in it counts as far as it is one.
        while let Some((tag, behind)) = split_tag(rest) {
            if equal(tag, etag.value.as_bytes()) {
                return true;
            }
            let behind = behind.trim_ascii_start();
            if !behind.is_empty() && !behind.starts_with(b",") {
                return false;
            }
            // §5.6.1.2: empty elements are to be ignored.
            let next = behind
                .iter()
                .position(|byte| !matches!(byte, b',' | b' ' | b'\t'));
            rest = next.map_or(b"".as_slice(), |next| &behind[next..]);
        }
        false
    })
}

/// The date of a field that stands there once (§13.1.3, §13.1.4).
fn only_date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    let mut values = headers.get_all(name).iter();
    let date = parse_date_value(values.next()?)?;
    values.next().is_none().then_some(date)
}

#[cfg(test)]
mod tests {
    use super::Precondition::{NotModified, PreconditionFailed, Proceed};
    use super::*;

    const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    /// What is there: a strong tag and a date with half a second.
    fn current() -> Validators {
        Validators {
            etag: ETag::strong("a,b").ok(),
            last_modified: Some(UNIX_EPOCH + Duration::from_millis(784_111_777_500)),
        }
    }

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let value = HeaderValue::from_str(value).expect("it is a value");
            headers.append(*name, value);
        }
        headers
    }

    #[track_caller]
    fn check(method: Method, fields: &[(&'static str, &str)], expected: Precondition) {
        let outcome = evaluate(&method, &headers(fields), Some(&current()));
        assert_eq!(outcome, expected, "{method} {fields:?}");
    }

    #[test]
    fn a_tag_is_read_as_it_is_written() {
        for (text, is_weak, opaque) in [
            ("\"\"", false, ""),
            ("\"x\"", false, "x"),
            ("W/\"x\"", true, "x"),
            ("\"W/x,y\\z\"", false, "W/x,y\\z"),
        ] {
            let tag = ETag::parse(text.as_bytes()).expect(text);
            assert_eq!((tag.is_weak(), tag.opaque()), (is_weak, opaque.as_bytes()));
            assert_eq!(tag.to_string(), text);
            assert_eq!(tag.to_value(), text);
        }
        for text in [
            "",
            "\"",
            "x",
            "\"x",
            "x\"",
            "w/\"x\"",
            "\"x y\"",
            "\"x\"y\"",
            "\"x\" ",
            "W/x",
            "W/",
            "\"\u{7f}\"",
        ] {
            assert_eq!(ETag::parse(text.as_bytes()), Err(BadETag), "{text}");
        }
        assert_eq!(ETag::strong("a b"), Err(BadETag));
    }

    #[test]
    fn rfc9110_8_8_3_2_tags_are_compared_strongly_or_weakly() {
        let tag = |text: &str| ETag::parse(text.as_bytes()).expect(text);
        for (left, right, strongly, weakly) in [
            ("W/\"1\"", "W/\"1\"", false, true),
            ("W/\"1\"", "W/\"2\"", false, false),
            ("W/\"1\"", "\"1\"", false, true),
            ("\"1\"", "\"1\"", true, true),
        ] {
            let (left, right) = (tag(left), tag(right));
            assert_eq!(left.strongly_equals(&right), strongly, "{left} {right}");
            assert_eq!(right.strongly_equals(&left), strongly, "{left} {right}");
            assert_eq!(left.weakly_equals(&right), weakly, "{left} {right}");
        }
    }

    #[test]
    fn a_file_that_changes_changes_its_tag() {
        let at = UNIX_EPOCH + Duration::new(1, 2);
        let tag = ETag::of_file(16, at);
        assert_eq!(tag.to_string(), "\"3b9aca02-10\"");
        assert_ne!(tag, ETag::of_file(17, at));
        assert_ne!(tag, ETag::of_file(16, at + Duration::from_nanos(1)));
    }

    #[test]
    fn rfc9110_13_1_1_if_match_wants_the_same_bytes() {
        for (value, expected) in [
            ("\"a,b\"", Proceed),
            ("\"x\", \"a,b\"", Proceed),
            (", ,\"x\",,\"a,b\"", PreconditionFailed),
            ("\"x\",, ,\"a,b\"", Proceed),
            ("*", Proceed),
            ("W/\"a,b\"", PreconditionFailed),
            ("\"x\"", PreconditionFailed),
            ("a,b", PreconditionFailed),
            ("", PreconditionFailed),
        ] {
            check(Method::PUT, &[("if-match", value)], expected);
            check(Method::GET, &[("if-match", value)], expected);
        }
        check(
            Method::PUT,
            &[("if-match", "\"x\""), ("if-match", "\"a,b\"")],
            Proceed,
        );
    }

    #[test]
    fn rfc9110_13_1_2_if_none_match_takes_the_same_meaning() {
        for (value, is_match) in [
            ("\"a,b\"", true),
            ("W/\"a,b\"", true),
            ("W/\"x\" , W/\"a,b\"", true),
            ("*", true),
            ("\"x\"", false),
            ("\"x\" \"a,b\"", false),
        ] {
            let when = |outcome| if is_match { outcome } else { Proceed };
            let fields = [("if-none-match", value)];
            check(Method::GET, &fields, when(NotModified));
            check(Method::HEAD, &fields, when(NotModified));
            check(Method::PUT, &fields, when(PreconditionFailed));
        }
    }

    #[test]
    fn rfc9110_13_1_3_a_date_stands_for_its_whole_second() {
        for (date, expected) in [
            (EARLIER, Proceed),
            (MODIFIED, NotModified),
            (LATER, NotModified),
            ("nonsense", Proceed),
        ] {
            check(Method::GET, &[("if-modified-since", date)], expected);
            check(Method::POST, &[("if-modified-since", date)], Proceed);
        }
        let twice = [("if-modified-since", LATER), ("if-modified-since", LATER)];
        check(Method::GET, &twice, Proceed);
    }

    #[test]
    fn rfc9110_13_1_4_nothing_is_done_to_what_was_changed() {
        for (date, expected) in [
            (EARLIER, PreconditionFailed),
            (MODIFIED, Proceed),
            (LATER, Proceed),
            ("nonsense", Proceed),
        ] {
            check(Method::PUT, &[("if-unmodified-since", date)], expected);
        }
    }

    #[test]
    fn rfc9110_13_2_2_tags_go_before_dates() {
        // The date alone would say 412, and 304.
        check(
            Method::GET,
            &[("if-match", "\"a,b\""), ("if-unmodified-since", EARLIER)],
            Proceed,
        );
        check(
            Method::GET,
            &[("if-none-match", "\"x\""), ("if-modified-since", LATER)],
            Proceed,
        );
        // A request that may be done is still answered with 304.
        check(
            Method::GET,
            &[("if-match", "*"), ("if-none-match", "\"a,b\"")],
            NotModified,
        );
        check(
            Method::GET,
            &[("if-match", "\"x\""), ("if-none-match", "\"a,b\"")],
            PreconditionFailed,
        );
        check(Method::OPTIONS, &[("if-match", "\"x\"")], Proceed);
    }

    #[test]
    fn where_there_is_nothing_only_if_match_fails() {
        let outcome = |name, value| evaluate(&Method::PUT, &headers(&[(name, value)]), None);
        assert_eq!(outcome("if-match", "*"), PreconditionFailed);
        assert_eq!(outcome("if-none-match", "*"), Proceed);
        assert_eq!(outcome("if-unmodified-since", EARLIER), Proceed);
        let nothing = Validators::default();
        let headers = headers(&[("if-none-match", "*")]);
        let outcome = evaluate(&Method::GET, &headers, Some(&nothing));
        assert_eq!(outcome, NotModified);
    }

    #[test]
    fn rfc9110_13_1_5_a_part_is_sent_of_the_same_bytes_alone() {
        let much_later = UNIX_EPOCH + Duration::from_secs(800_000_000);
        let check = |value: &str, now: SystemTime, expected: bool| {
            let headers = headers(&[("range", "bytes=0-1"), ("if-range", value)]);
            let applies = range_applies(&Method::GET, &headers, &current(), now);
            assert_eq!(applies, expected, "{value}");
        };
        check("\"a,b\"", much_later, true);
        check("W/\"a,b\"", much_later, false);
        check("\"x\"", much_later, false);
        check(MODIFIED, much_later, true);
        check(LATER, much_later, false);
        check("nonsense", much_later, false);
        // §8.8.2.2: it may have been changed twice within that second.
        let modified = UNIX_EPOCH + Duration::from_secs(784_111_777);
        check(MODIFIED, modified + Duration::from_millis(999), false);
        check(MODIFIED, modified + Duration::from_secs(1), true);
    }

    #[test]
    fn a_range_is_for_get_alone() {
        let with = headers(&[("range", "bytes=0-1")]);
        let applies = |method: Method, headers: &HeaderMap| {
            range_applies(&method, headers, &current(), UNIX_EPOCH)
        };
        assert!(applies(Method::GET, &with));
        assert!(!applies(Method::HEAD, &with));
        assert!(!applies(Method::GET, &HeaderMap::new()));
    }
}
