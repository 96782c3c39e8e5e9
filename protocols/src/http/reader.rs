//! Requests, taken from a stream of bytes: the server's half of the engine.
//!
//! A [`RequestReader`] is a plain value: bytes in, events out. It keeps an unfinished head, bounded by
//! [`MessageLimits::head`], and nothing else; bodies pass through.
//!
//! # Order
//!
//! For each request: its head, the pieces of its body, its end. Then the next. After an error,
//! nothing more: where the next message would begin is not known.

use std::rc::Rc;

use http::HeaderMap;

use super::chunked::{ChunkedReader, Piece};
use super::error::BadMessage;
use super::head::{Framing, LINE_EXTRA, RequestHead};
use super::limits::MessageLimits;
use super::recycled::Heads;

/// Empty lines before a request that are overlooked: RFC 9112 §2.2 asks for one.
const EMPTY_LINES_MAX: u32 = 4;

/// What has come.
#[derive(Debug)]
pub(super) enum Event<'a> {
    /// A request. Its body follows, unless it has none: then [`Event::End`] does.
    Head(Box<RequestHead>),
    /// A part of the body.
    Data(&'a [u8]),
    /// The end of the request, with the trailers if the body had any.
    End(Option<HeaderMap>),
}

#[derive(Debug)]
enum State {
    Head,
    /// No body, or none left.
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
    /// The beginning of a head, of which the rest has not come.
    unfinished: Vec<u8>,
    /// How much of that is known not to be the end.
    searched: usize,
    empty_lines: u32,
    heads: Rc<Heads>,
}

impl RequestReader {
    pub(super) fn new(limits: &MessageLimits, heads: Rc<Heads>) -> Self {
        Self {
            state: State::Head,
            limits: *limits,
            unfinished: Vec::new(),
            searched: 0,
            empty_lines: 0,
            heads,
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

    /// Takes from the front of `data` what the next event needs; `None` when all is used up.
    pub(super) fn receive<'a>(
        &mut self,
        data: &mut &'a [u8],
    ) -> Result<Option<Event<'a>>, BadMessage> {
        let event = self.next(data);
        if event.is_err() {
            self.state = State::Broken;
            self.unfinished = Vec::new();
        }
        event
    }

    fn next<'a>(&mut self, data: &mut &'a [u8]) -> Result<Option<Event<'a>>, BadMessage> {
        match &mut self.state {
            State::Head => Ok(self.receive_head(data)?.map(Event::Head)),
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
            State::Chunked(chunked) => match chunked.receive(data)? {
                Piece::Data(piece) => Ok(Some(Event::Data(piece))),
                Piece::End(trailers) => {
                    self.state = State::Head;
                    Ok(Some(Event::End(Some(trailers))))
                }
                Piece::More => Ok(None),
            },
            State::Broken => {
                *data = &[];
                Ok(None)
            }
        }
    }

    fn receive_head(&mut self, data: &mut &[u8]) -> Result<Option<Box<RequestHead>>, BadMessage> {
        if self.unfinished.is_empty() {
            self.skip_empty_lines(data)?;
            if data.is_empty() {
                return Ok(None);
            }
            // As it mostly is: the whole head lies in one piece.
            let mut head = self.heads.take();
            if let Some(length) = head.parse(data, &self.limits)? {
                *data = &data[length..];
                return self.begin(head).map(Some);
            }
            self.heads.give_back(head);
            self.unfinished.extend_from_slice(data);
            self.searched = 0;
            *data = &[];
            return Ok(None);
        }
        let known = self.unfinished.len();
        self.unfinished.extend_from_slice(data);
        // Parsed again only when the end may have come: bytes that come one by one cost no square.
        let (now, target_max) = (self.unfinished.len(), self.limits.target + LINE_EXTRA);
        let is_too_long = now > self.limits.head || (known <= target_max && now > target_max);
        if !self.may_be_complete() && !is_too_long {
            *data = &[];
            return Ok(None);
        }
        let mut head = self.heads.take();
        let Some(length) = head.parse(&self.unfinished, &self.limits)? else {
            self.heads.give_back(head);
            *data = &[];
            return Ok(None);
        };
        // What was there before was not complete, so the head ends in `data`.
        *data = &data[length - known..];
        self.unfinished.clear();
        self.begin(head).map(Some)
    }

    /// Whether there is an empty line in what has come since the last time.
    fn may_be_complete(&mut self) -> bool {
        let text = &self.unfinished;
        let begin = self.searched.saturating_sub(3);
        self.searched = text.len();
        memchr::memchr_iter(b'\n', &text[begin..]).any(|at| {
            let rest = &text[begin + at + 1..];
            rest.starts_with(b"\n") || rest.starts_with(b"\r\n")
        })
    }

    /// RFC 9112 §2.2: an empty line before a request is overlooked. A client that has sent one too
    /// many behind a body does no harm.
    fn skip_empty_lines(&mut self, data: &mut &[u8]) -> Result<(), BadMessage> {
        while let Some(rest) = data.strip_prefix(b"\r\n") {
            self.empty_lines += 1;
            if self.empty_lines > EMPTY_LINES_MAX {
                return Err(BadMessage::NotHttp);
            }
            *data = rest;
        }
        Ok(())
    }

    fn begin(&mut self, head: Box<RequestHead>) -> Result<Box<RequestHead>, BadMessage> {
        self.empty_lines = 0;
        self.state = match head.framing() {
            Framing::None | Framing::UntilClose => State::End,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Chunked(Box::new(ChunkedReader::new(&self.limits))),
        };
        Ok(head)
    }
}
