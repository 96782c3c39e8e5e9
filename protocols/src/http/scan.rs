//! The heads of requests as nearly all clients write them, taken apart in one pass.
//!
//! [`scan`] takes fewer requests than `head/` allows, and finds the same parts in them. That it does not
//! take one says nothing: `httparse` and the rules behind it judge that, whether it is not complete, against
//! the rules, or merely rare (a lower-case method, an absolute target). So no rule stands here alone, and
//! what a refusal is called is said in one place.
//!
//! # Design
//!
//! A request of load generators costs a seventh of what `httparse` and a second look at its line ends cost,
//! because each byte is looked at once, those of values eight at a time.

use http::Method;

use super::head::{Facts, IN_HOST, IN_TARGET, Span};
use super::limits::{HEADERS_MAX, MessageLimits};

/// The first line.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) method: Method,
    pub(super) target: Span,
    /// Of the target's origin form: without the query. Empty for the other forms.
    pub(super) path: Span,
    pub(super) is_1_0: bool,
}

/// Takes the head at the beginning of `data` apart, if it is one of those, and says how long it is. `line`, `fields`
/// and `facts` are to be forgotten where it is not.
pub(super) fn scan(
    data: &[u8],
    limits: &MessageLimits,
    line: &mut Line,
    fields: &mut Vec<(Span, Span)>,
    facts: &mut Facts,
) -> Option<usize> {
    // So that every place in it is a `u32`.
    const SCANNED_MAX: usize = 1 << 20;
    let data = &data[..data.len().min(limits.head).min(SCANNED_MAX)];
    let fields_max = limits.headers.min(HEADERS_MAX);
    let begin = method_of(data, &mut line.method)?;
    let (path, end) = origin_form(data, begin)?;
    if end - begin > limits.target {
        return None;
    }
    line.target = Span::new(begin, end);
    line.path = Span::new(begin, path);
    // Compared as words: a pattern would be compared byte by byte.
    let (name, rest) = data[end..].split_first_chunk::<8>()?;
    let (minor, rest) = rest.split_first()?;
    if name != b" HTTP/1." || rest.first_chunk() != Some(b"\r\n") || minor & !1 != b'0' {
        return None;
    }
    line.is_1_0 = *minor == b'0';
    let mut at = end + " HTTP/1.1\r\n".len();
    // The first field of most, and one of all.
    if let Some(length) = host_line(&data[at..]).filter(|_| fields_max > 0) {
        let value = at + "Host: ".len();
        facts.hosts = 1;
        fields.push((Span::new(at, at + 4), Span::new(value, value + length)));
        at = value + length + 2;
    }
    loop {
        let rest = data.get(at..)?;
        if rest.first_chunk() == Some(b"\r\n") {
            return Some(at + 2);
        }
        let (name, rest) = rest.split_at(name_length(rest));
        let [b':', rest @ ..] = rest else {
            return None;
        };
        if name.is_empty() || fields.len() == fields_max {
            return None;
        }
        let name_end = at + name.len();
        let (mut begin, mut rest) = (name_end + 1, rest);
        while let [b' ' | b'\t', behind @ ..] = rest {
            (begin, rest) = (begin + 1, behind);
        }
        let (mut value, rest) = rest.split_at(value_length(rest));
        if rest.first_chunk() != Some(b"\r\n") {
            return None;
        }
        let next = begin + value.len() + 2;
        while let [before @ .., b' ' | b'\t'] = value {
            value = before;
        }
        facts.note(name, value).ok()?;
        let value = Span::new(begin, begin + value.len());
        fields.push((Span::new(at, name_end), value));
        at = next;
    }
}

/// The length of the value, if `data` begins with a `Host` that is good and written as most write it.
fn host_line(data: &[u8]) -> Option<usize> {
    let (name, rest) = data.split_first_chunk::<4>()?;
    let value = rest.strip_prefix(b": ")?;
    // Only letters become these letters so.
    if name.map(|byte| byte | 0x20) != *b"host" {
        return None;
    }
    let is_over = |byte: &u8| !IN_HOST[usize::from(*byte)];
    let length = value.iter().position(is_over)?;
    (value[length..].first_chunk() == Some(b"\r\n")).then_some(length)
}

/// The method, and where what stands behind the space begins.
fn method_of(data: &[u8], method: &mut Method) -> Option<usize> {
    const KNOWN: [(&[u8], Method); 6] = [
        (b"POST ", Method::POST),
        (b"PUT ", Method::PUT),
        (b"HEAD ", Method::HEAD),
        (b"DELETE ", Method::DELETE),
        (b"OPTIONS ", Method::OPTIONS),
        (b"PATCH ", Method::PATCH),
    ];
    if data.starts_with(b"GET ") {
        // It mostly is already: it was that of the request before.
        if !matches!(*method, Method::GET) {
            *method = Method::GET;
        }
        return Some("GET ".len());
    }
    let found = KNOWN.into_iter().find(|(word, _)| data.starts_with(word));
    let (word, known) = found?;
    *method = known;
    Some(word.len())
}

/// Where the path ends and where the target does, which begins at `begin`. (RFC 9112 §3.2.1)
fn origin_form(data: &[u8], begin: usize) -> Option<(usize, usize)> {
    if *data.get(begin)? != b'/' {
        return None;
    }
    let is_over = |byte: &u8| *byte == b'?' || !IN_TARGET[usize::from(*byte)];
    let path = begin + data[begin..].iter().position(is_over)?;
    if data[path] != b'?' {
        return Some((path, path));
    }
    let is_over = |byte: &u8| !IN_TARGET[usize::from(*byte)];
    let query = data[path..].iter().position(is_over)?;
    Some((path, path + query))
}

/// How many bytes from the first on may stand in a name: RFC 9110 §5.6.2.
fn name_length(data: &[u8]) -> usize {
    let mut at = prefix_length(data, not_in_words);
    while data.get(at).is_some_and(|byte| IN_NAME[usize::from(*byte)]) {
        at += 1;
    }
    at
}

/// How many bytes from the first on may stand in a value: RFC 9110 §5.5, what is visible, spaces and tabs, and
/// everything above ASCII.
fn value_length(data: &[u8]) -> usize {
    let mut at = 0;
    loop {
        at += prefix_length(&data[at..], controls);
        match data.get(at) {
            Some(b'\t' | b' '..=b'~' | 0x80..) => at += 1,
            _ => return at,
        }
    }
}

/// How many bytes lie before the first that `stops` marks, in whole blocks of eight; those behind the last of
/// them are not looked at.
#[inline]
fn prefix_length(data: &[u8], stops: impl Fn(u64) -> u64) -> usize {
    let mut length = 0;
    for block in data.as_chunks().0 {
        let stops = stops(u64::from_le_bytes(*block));
        if stops != 0 {
            return length + stops.trailing_zeros() as usize / 8;
        }
        length += 8;
    }
    length
}

/// One in each byte of a block.
const EACH: u64 = u64::from_le_bytes([1; 8]);

/// The highest bit of each byte.
const HIGH: u64 = EACH << 7;

/// Marks the first byte that is below a space, or is DEL. (Marks above it may be wrong: a carry.)
fn controls(block: u64) -> u64 {
    let deleted = block ^ (EACH * 0x7f);
    let below_space = block.wrapping_sub(EACH * 0x20) & !block;
    let is_deleted = deleted.wrapping_sub(EACH) & !deleted;
    (below_space | is_deleted) & HIGH
}

/// Marks each byte that is neither a letter nor a dash, as nearly all of names are.
fn not_in_words(block: u64) -> u64 {
    // No sum exceeds its byte: the highest bit is out of the way.
    let low = block & !HIGH;
    let lower_case = low | (EACH * 0x20);
    let from_a = lower_case + EACH * u64::from(0x80 - b'a');
    let beyond_z = lower_case + EACH * u64::from(0x7f - b'z');
    let not_dash = (low ^ (EACH * u64::from(b'-'))) + EACH * 0x7f;
    let is_good = ((from_a & !beyond_z) | !not_dash) & !block;
    !is_good & HIGH
}

/// What may stand in a name: RFC 9110 §5.6.2.
const IN_NAME: [bool; 256] = {
    let mut allowed = [false; 256];
    let mut byte = 0;
    while byte < 0x80 {
        allowed[byte] = (byte as u8).is_ascii_alphanumeric()
            || matches!(
                byte as u8,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            );
        byte += 1;
    }
    allowed
};
