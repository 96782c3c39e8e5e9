//! Where lines end.
//!
//! A [`Splitter`] takes the next event from the front of the bytes at hand: a line, raw
//! bytes, or the news that a line is too long. It keeps what it must of a line whose
//! end has not come, and nothing else.
//!
//! # Not here
//!
//! Nobody is called, and nothing waits: see `delivery.rs`.

use std::borrow::Cow;
use std::mem;

/// What ends a line.
///
/// Made from bytes, too: `Lines::new(..).delimiter(b"\0")`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delimiter {
    /// `\r\n`, as most protocols of the Internet have it. A `\r` or a `\n` alone is an
    /// ordinary byte of the line. The default.
    #[default]
    CrLf,
    /// `\n`, and a `\r` before it does not count as part of the line: takes lines from
    /// people, whose programs end them this way or that. Lines are sent with `\n`.
    LineFeed,
    /// These bytes, exactly. At least one.
    Bytes(Box<[u8]>),
}

impl Delimiter {
    /// What is written behind a line.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::CrLf => b"\r\n",
            Self::LineFeed => b"\n",
            Self::Bytes(bytes) => bytes,
        }
    }

    /// How many bytes the end of a line takes at most.
    fn len_max(&self) -> usize {
        match self {
            Self::LineFeed => 2,
            Self::CrLf | Self::Bytes(_) => self.as_bytes().len(),
        }
    }

    /// How many bytes of `data` belong to the first line of `before` and `data`, its
    /// delimiter included. `before` has no whole delimiter in it.
    fn find(&self, before: &[u8], data: &[u8]) -> Option<usize> {
        let sought = self.as_bytes();
        let last = *sought.last()?;
        // The last byte of the delimiter is in `data`; the others may reach back.
        memchr::memchr_iter(last, data)
            .map(|at| at + 1)
            .find(|&end| {
                let (reaching_back, here) = sought.split_at(sought.len().saturating_sub(end));
                data[..end].ends_with(here) && before.ends_with(reaching_back)
            })
    }

    /// How many of the `end` bytes that [`find`](Self::find) found, and of those in
    /// `before`, are not part of the line.
    fn len_at(&self, before: &[u8], data: &[u8], end: usize) -> usize {
        let preceding = || {
            if end >= 2 {
                Some(data[end - 2])
            } else {
                before.last().copied()
            }
        };
        match self {
            Self::LineFeed if preceding() == Some(b'\r') => 2,
            _ => self.as_bytes().len(),
        }
    }
}

impl From<&[u8]> for Delimiter {
    /// # Panics
    ///
    /// If `bytes` is empty: no line would ever end.
    fn from(bytes: &[u8]) -> Self {
        assert!(!bytes.is_empty(), "a delimiter has at least one byte");
        if bytes == b"\r\n" {
            Self::CrLf
        } else {
            Self::Bytes(bytes.into())
        }
    }
}

impl<const N: usize> From<&[u8; N]> for Delimiter {
    fn from(bytes: &[u8; N]) -> Self {
        const { assert!(N > 0, "a delimiter has at least one byte") };
        Self::from(bytes.as_slice())
    }
}

/// The peer sent a line longer than the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line too long: at least {got_at_least} bytes, the limit is {limit}")]
#[non_exhaustive]
pub struct LineTooLong {
    /// How long a line may be, its delimiter not counted.
    pub limit: usize,
    /// How long it is, as far as it has come.
    pub got_at_least: usize,
}

/// The next thing that bytes say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event<'a> {
    /// A line, without its delimiter.
    Line(Cow<'a, [u8]>),
    /// Everything at hand, in raw mode.
    Raw(&'a [u8]),
    /// A line is too long. The rest of it will be skipped.
    TooLong(LineTooLong),
}

/// Twisted's limit.
const MAX_LENGTH: usize = 16 * 1024;

/// Finds lines.
#[derive(Debug)]
pub(crate) struct Splitter {
    delimiter: Delimiter,
    max_length: usize,
    mode: Mode,
    /// The beginning of a line that has no end yet; what may be the beginning of a
    /// delimiter, while skipping.
    // Invariant: there is no whole delimiter in it; shorter than the maximum length and
    // a delimiter; empty in raw mode.
    partial: Vec<u8>,
}

/// ```text
///       set_raw_mode           too long
///  ┌──▶ ┌─────┐     ┌──────┐ ──────────▶ ┌──────────┐
///  │    │ Raw │ ◀─▶ │ Line │             │ Skipping │
///  │    └─────┘     └──────┘ ◀────────── └──────────┘
///  │      set_line_mode        delimiter      │
///  └──────────────────────────────────────────┘ set_raw_mode
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Line,
    Skipping,
    Raw,
}

impl Default for Splitter {
    fn default() -> Self {
        Self {
            delimiter: Delimiter::default(),
            max_length: MAX_LENGTH,
            mode: Mode::Line,
            partial: Vec::new(),
        }
    }
}

impl Splitter {
    /// Takes the next event from the front of `data`. `None`: all of `data` was used, and
    /// more is needed.
    pub(crate) fn next<'a>(&mut self, data: &mut &'a [u8]) -> Option<Event<'a>> {
        if self.mode == Mode::Skipping {
            self.skip(data);
        }
        match self.mode {
            _ if data.is_empty() => None,
            Mode::Raw => Some(Event::Raw(mem::take(data))),
            Mode::Line => self.next_line(data),
            Mode::Skipping => None,
        }
    }

    // Each of these gives back the beginning of an unfinished line: to be put before
    // what comes, because it may mean something else now.

    #[must_use]
    pub(crate) fn set_raw_mode(&mut self) -> Vec<u8> {
        self.mode = Mode::Raw;
        mem::take(&mut self.partial)
    }

    #[must_use]
    pub(crate) fn set_line_mode(&mut self) -> Vec<u8> {
        if self.mode == Mode::Raw {
            self.mode = Mode::Line;
        }
        mem::take(&mut self.partial)
    }

    #[must_use]
    pub(crate) fn set_delimiter(&mut self, delimiter: Delimiter) -> Vec<u8> {
        self.delimiter = delimiter;
        mem::take(&mut self.partial)
    }

    #[must_use]
    pub(crate) fn set_max_length(&mut self, max_length: usize) -> Vec<u8> {
        self.max_length = max_length;
        mem::take(&mut self.partial)
    }

    pub(crate) fn delimiter(&self) -> &Delimiter {
        &self.delimiter
    }

    fn next_line<'a>(&mut self, data: &mut &'a [u8]) -> Option<Event<'a>> {
        let kept = self.partial.len();
        let Some(end) = self.delimiter.find(&self.partial, data) else {
            let got = kept + data.len();
            if got >= self.max_length.saturating_add(self.delimiter.len_max()) {
                let got_at_least = got - (self.delimiter.len_max() - 1);
                return Some(self.too_long(data, got_at_least));
            }
            self.partial.extend_from_slice(mem::take(data));
            return None;
        };
        let length = kept + end - self.delimiter.len_at(&self.partial, data, end);
        if length > self.max_length {
            return Some(self.too_long(data, length));
        }
        let (front, rest) = data.split_at(end);
        *data = rest;
        if kept == 0 {
            return Some(Event::Line(Cow::Borrowed(&front[..length])));
        }
        let mut line = mem::take(&mut self.partial);
        line.extend_from_slice(front);
        line.truncate(length);
        Some(Event::Line(Cow::Owned(line)))
    }

    /// Drops the one byte too many, and all before it; so a change to raw mode finds
    /// the same bytes behind it whatever the chunks were.
    fn too_long(&mut self, data: &mut &[u8], got_at_least: usize) -> Event<'static> {
        let limit = self.max_length;
        let dropped = limit + 1;
        let kept = self.partial.len();
        self.partial.drain(..dropped.min(kept));
        *data = &data[dropped.saturating_sub(kept)..];
        self.mode = Mode::Skipping;
        Event::TooLong(LineTooLong {
            limit,
            got_at_least,
        })
    }

    /// Drops bytes up to and with the next delimiter.
    fn skip(&mut self, data: &mut &[u8]) {
        if let Some(end) = self.delimiter.find(&self.partial, data) {
            *data = &data[end..];
            self.partial.clear();
            self.mode = Mode::Line;
            return;
        }
        // What may be the beginning of a delimiter stays.
        let reach = self.delimiter.as_bytes().len() - 1;
        let tail = &data[data.len().saturating_sub(reach)..];
        self.partial.extend_from_slice(tail);
        let surplus = self.partial.len().saturating_sub(reach);
        self.partial.drain(..surplus);
        *data = &[];
    }
}

#[cfg(test)]
mod tests {
    use torsade_reactor::testing::for_every_chunking;

    use super::*;

    /// What a run of a splitter came to, without what may depend on the chunks.
    #[derive(Clone, Debug, PartialEq, Eq)]
    enum Seen {
        Line(Vec<u8>),
        Raw(Vec<u8>),
        TooLong,
    }

    fn lines<const N: usize>(lines: [&[u8]; N]) -> Vec<Seen> {
        lines.iter().map(|line| Seen::Line(line.to_vec())).collect()
    }

    /// Runs the script in these chunks. A line `raw N` switches to raw mode for N bytes.
    fn run<'a>(splitter: &mut Splitter, chunks: impl Iterator<Item = &'a [u8]>) -> Vec<Seen> {
        let mut seen = Vec::new();
        let mut raw_left = 0;
        for chunk in chunks {
            let mut data = chunk;
            while let Some(event) = splitter.next(&mut data) {
                match event {
                    Event::Line(line) => {
                        assert!(line.len() <= splitter.max_length);
                        if let Some(count) = line.strip_prefix(b"raw ") {
                            raw_left = std::str::from_utf8(count).unwrap().parse().unwrap();
                            assert_eq!(splitter.set_raw_mode(), b"");
                        }
                        seen.push(Seen::Line(line.into_owned()));
                    }
                    Event::Raw(bytes) => {
                        let (raw, unused) = bytes.split_at(raw_left.min(bytes.len()));
                        raw_left -= raw.len();
                        match seen.last_mut() {
                            Some(Seen::Raw(before)) => before.extend_from_slice(raw),
                            _ => seen.push(Seen::Raw(raw.to_vec())),
                        }
                        if raw_left == 0 {
                            assert_eq!(splitter.set_line_mode(), b"");
                            data = unused;
                        }
                    }
                    Event::TooLong(LineTooLong {
                        limit,
                        got_at_least,
                    }) => {
                        assert_eq!(limit, splitter.max_length);
                        assert!(got_at_least > limit);
                        seen.push(Seen::TooLong);
                    }
                }
            }
            assert_eq!(data, b"", "what is not asked for is kept");
            assert!(splitter.partial.len() < splitter.max_length + splitter.delimiter.len_max());
        }
        seen
    }

    /// Checks that every chunking of `script` gives what is expected.
    #[track_caller]
    fn check(delimiter: impl Into<Delimiter>, max_length: usize, script: &[u8], expected: &[Seen]) {
        let delimiter = delimiter.into();
        for_every_chunking(script, |chunks| {
            let mut splitter = Splitter {
                delimiter: delimiter.clone(),
                max_length,
                ..Splitter::default()
            };
            assert_eq!(run(&mut splitter, chunks.iter().copied()), expected);
        });
    }

    #[test]
    fn lines_end_at_the_delimiter_in_every_chunking() {
        check(
            b"\r\n",
            80,
            b"one\r\n\r\ntwo\r\nunfinished",
            &lines([b"one", b"", b"two"]),
        );
    }

    #[test]
    fn under_crlf_a_bare_cr_or_lf_is_part_of_the_line() {
        check(
            b"\r\n",
            80,
            b"a\nb\r\r\nc\rd\r\n\n\r\n",
            &lines([b"a\nb\r", b"c\rd", b"\n"]),
        );
    }

    #[test]
    fn line_feed_takes_one_cr_before_it_along() {
        let expected = lines([b"one", b"two", b"", b"", b"three\r", b"a\rb"]);
        check(
            Delimiter::LineFeed,
            80,
            b"one\r\ntwo\n\n\r\nthree\r\r\na\rb\n",
            &expected,
        );
    }

    #[test]
    fn long_and_self_overlapping_delimiters_are_found_at_their_first_place() {
        check(b"aab", 80, b"aaab-aabaabaa", &lines([b"a", b"-", b""]));
        check(b"\n\n", 80, b"x\n\n\ny\n\n", &lines([b"x", b"\ny"]));
        check(
            b"--end--",
            80,
            b"--end--end--end--x--end--",
            &lines([b"", b"end", b"x"]),
        );
    }

    #[test]
    fn a_line_of_the_maximum_length_passes_and_one_byte_more_is_too_long_and_skipped() {
        for delimiter in [Delimiter::CrLf, Delimiter::LineFeed] {
            let mut expected = lines([b"1234", b"", b"x", b"y"]);
            expected.insert(2, Seen::TooLong);
            expected.insert(4, Seen::TooLong);
            check(
                delimiter,
                4,
                b"1234\r\n\r\n12345\r\nx\r\n1234567890\r\r\ny\r\n",
                &expected,
            );
        }
        let expected = [Seen::TooLong, Seen::Line(b"ABC".to_vec())];
        check(
            b"ABCD",
            3,
            b"xyzABCQABCD-ABCABCD".get(..11).unwrap(),
            &expected[..1],
        );
        check(b"ABCD", 3, b"xyzABCQABCDABCABCD", &expected);
    }

    #[test]
    fn an_unfinished_line_is_too_long_as_soon_as_no_delimiter_can_save_it() {
        let mut splitter = Splitter {
            max_length: 4,
            ..Splitter::default()
        };
        assert_eq!(run(&mut splitter, [b"12345".as_slice()].into_iter()), []);
        assert_eq!(
            run(&mut splitter, [b"6".as_slice()].into_iter()),
            [Seen::TooLong]
        );
        let mut data: &[u8] = &[b'x'; 100];
        let error = LineTooLong {
            limit: 10,
            got_at_least: 99,
        };
        let mut splitter = Splitter {
            max_length: 10,
            ..Splitter::default()
        };
        assert_eq!(splitter.next(&mut data), Some(Event::TooLong(error)));
        assert_eq!(
            error.to_string(),
            "line too long: at least 99 bytes, the limit is 10"
        );
    }

    #[test]
    fn raw_mode_begins_behind_the_line_and_ends_where_the_receiver_says() {
        let mut expected = lines([b"raw 6", b"after", b"raw 1", b"", b"z"]);
        expected.insert(1, Seen::Raw(b"\r\nabc\r".to_vec()));
        expected.insert(4, Seen::Raw(b"\n".to_vec()));
        check(
            b"\r\n",
            80,
            b"raw 6\r\n\r\nabc\rafter\r\nraw 1\r\n\n\r\nz\r\n",
            &expected,
        );
    }

    #[test]
    fn an_unfinished_line_is_given_back_when_the_mode_changes() {
        let mut splitter = Splitter::default();
        assert_eq!(splitter.next(&mut b"half a li".as_slice()), None);
        assert_eq!(splitter.set_raw_mode(), b"half a li");
        assert_eq!(splitter.set_line_mode(), b"");
    }

    #[test]
    fn a_silent_splitter_keeps_no_memory() {
        let mut splitter = Splitter::default();
        run(&mut splitter, b"one\r\ntwo\r\n".chunks(1));
        assert_eq!(splitter.partial.capacity(), 0);
    }

    #[test]
    fn a_long_line_costs_linear_time_byte_by_byte() {
        // Searched or copied from its start each time, this would take hours.
        let mut splitter = Splitter {
            max_length: usize::MAX,
            ..Splitter::default()
        };
        let mut line = vec![b'\r'; 4 << 20];
        line.push(b'\n');
        let mut found = 0;
        for byte in line.chunks(1) {
            let mut data = byte;
            found += usize::from(splitter.next(&mut data).is_some());
        }
        assert_eq!(found, 1);
    }
}
