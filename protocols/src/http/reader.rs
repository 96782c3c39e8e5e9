//! Requests, taken from a stream of bytes: the server's half of the engine.
//!
//! A [`RequestReader`] is a plain value: bytes in, heads and pieces of bodies out. It keeps an unfinished head, bounded by
//! [`MessageLimits::head`], and nothing else; bodies pass through.
//!
//! # Order
//!
//! For each request: its head, and if it has a body, the pieces of that and its end. Then the next. After an
//! error, nothing more: where the next message would begin is not known.

use http::HeaderMap;

use super::chunked::{ChunkedReader, Piece};
use super::error::BadMessage;
use super::head::{Framing, LINE_EXTRA, RequestHead, Unfinished};
use super::limits::MessageLimits;

/// Empty lines before a request that are overlooked: RFC 9112 §2.2 asks for one.
const EMPTY_LINES_MAX: u32 = 4;

/// What has come of a body.
#[derive(Debug)]
pub(super) enum Event<'a> {
    /// A part of it.
    Data(&'a [u8]),
    /// Its end, with the trailers if it had any.
    End(Option<Box<HeaderMap>>),
}

#[derive(Debug)]
enum State {
    Head,
    /// No body left.
    End,
    Length(u64),
    Chunked(Box<ChunkedReader>),
    Broken,
}

/// Takes requests from a stream of bytes.
#[derive(Debug)]
pub(super) struct RequestReader {
    state: State,
    limits: MessageLimits,
    unfinished: Unfinished,
    empty_lines: u32,
}

impl RequestReader {
    pub(super) fn new(limits: &MessageLimits) -> Self {
        Self {
            state: State::Head,
            limits: *limits,
            unfinished: Unfinished::default(),
            empty_lines: 0,
        }
    }

    /// Whether it is in the middle of a request.
    pub(super) fn is_amid(&self) -> bool {
        !self.unfinished.is_empty() || !matches!(self.state, State::Head | State::Broken)
    }

    /// Whether it is in the middle of a request's head.
    pub(super) fn is_amid_head(&self) -> bool {
        !self.unfinished.is_empty()
    }

    /// Allows the body that begins to be this long.
    pub(super) fn limit_body(&mut self, limit: u64) -> Result<(), BadMessage> {
        match &mut self.state {
            State::Length(length) if *length > limit => Err(BadMessage::BodyTooLong { limit }),
            State::Chunked(chunked) => {
                chunked.set_body_max(limit);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Whether a body comes next, or the rest of one, and not a head.
    pub(super) fn is_in_body(&self) -> bool {
        matches!(
            self.state,
            State::End | State::Length(_) | State::Chunked(_)
        )
    }

    /// Takes from the front of `data` what belongs to the next head. Whether that has come whole, and is in
    /// `head`, which was empty. After an error, `head` is of no use.
    pub(super) fn receive_head(
        &mut self,
        data: &mut &[u8],
        head: &mut RequestHead,
    ) -> Result<bool, BadMessage> {
        debug_assert!(!self.is_in_body(), "a body comes before the next head");
        if matches!(self.state, State::Broken) {
            *data = &[];
            return Ok(false);
        }
        let came = self.take_head(data, head);
        if came.is_err() {
            self.break_off();
        }
        came
    }

    /// Takes from the front of `data` what the next event of the body needs; `None` when all is used up.
    pub(super) fn receive_body<'a>(
        &mut self,
        data: &mut &'a [u8],
    ) -> Result<Option<Event<'a>>, BadMessage> {
        match &mut self.state {
            State::End => {
                self.state = State::Head;
                Ok(Some(Event::End(None)))
            }
            State::Length(left) => {
                if data.is_empty() {
                    return Ok(None);
                }
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(data.len());
                let (piece, rest) = data.split_at(count);
                *data = rest;
                *left -= count as u64;
                if *left == 0 {
                    self.state = State::End;
                }
                Ok(Some(Event::Data(piece)))
            }
            State::Chunked(chunked) => match chunked.receive(data) {
                Ok(Piece::Data(piece)) => Ok(Some(Event::Data(piece))),
                Ok(Piece::End(trailers)) => {
                    self.state = State::Head;
                    Ok(Some(Event::End(Some(Box::new(trailers)))))
                }
                Ok(Piece::More) => Ok(None),
                Err(bad) => {
                    self.break_off();
                    Err(bad)
                }
            },
            State::Head | State::Broken => {
                debug_assert!(false, "no body comes next");
                Ok(None)
            }
        }
    }

    /// The whole body that begins, if its length is known and it lies in front of `data`: then no event of
    /// it follows.
    pub(super) fn take_whole_body<'a>(&mut self, data: &mut &'a [u8]) -> Option<&'a [u8]> {
        let State::Length(length) = self.state else {
            return None;
        };
        let (whole, rest) = data.split_at_checked(usize::try_from(length).ok()?)?;
        *data = rest;
        self.state = State::Head;
        Some(whole)
    }

    fn break_off(&mut self) {
        self.state = State::Broken;
        self.unfinished = Unfinished::default();
    }

    fn take_head(&mut self, data: &mut &[u8], head: &mut RequestHead) -> Result<bool, BadMessage> {
        if self.unfinished.is_empty() {
            self.skip_empty_lines(data)?;
            if data.is_empty() {
                return Ok(false);
            }
            // As it mostly is: the whole head lies in one piece.
            if let Some(length) = head.parse(data, &self.limits)? {
                *data = &data[length..];
                self.begin(head);
                return Ok(true);
            }
            self.unfinished.begin(data);
            *data = &[];
            return Ok(false);
        }
        if self.unfinished.text() == b"\r" && data.first() == Some(&b'\n') {
            // An empty line as well, in two pieces.
            *data = &data[1..];
            self.unfinished.clear();
            self.note_empty_line()?;
            return self.take_head(data, head);
        }
        let known = self.unfinished.len();
        let may_be_complete = self.unfinished.add(data);
        let (now, target_max) = (self.unfinished.len(), self.limits.target + LINE_EXTRA);
        let is_too_long = now > self.limits.head || (known <= target_max && now > target_max);
        if !may_be_complete && !is_too_long {
            *data = &[];
            return Ok(false);
        }
        let Some(length) = head.parse(self.unfinished.text(), &self.limits)? else {
            *data = &[];
            return Ok(false);
        };
        // What was there before was not complete, so the head ends in `data`.
        *data = &data[length - known..];
        self.unfinished.clear();
        self.begin(head);
        Ok(true)
    }

    /// RFC 9112 §2.2: an empty line before a request is overlooked. A client that has sent one too
    /// many behind a body does no harm.
    fn skip_empty_lines(&mut self, data: &mut &[u8]) -> Result<(), BadMessage> {
        while let Some(rest) = data.strip_prefix(b"\r\n") {
            *data = rest;
            self.note_empty_line()?;
        }
        Ok(())
    }

    fn note_empty_line(&mut self) -> Result<(), BadMessage> {
        self.empty_lines += 1;
        if self.empty_lines > EMPTY_LINES_MAX {
            return Err(BadMessage::NotHttp);
        }
        Ok(())
    }

    fn begin(&mut self, head: &RequestHead) {
        self.empty_lines = 0;
        self.state = match head.framing() {
            Framing::None | Framing::UntilClose => return,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Chunked(Box::new(ChunkedReader::new(&self.limits))),
        };
    }
}
