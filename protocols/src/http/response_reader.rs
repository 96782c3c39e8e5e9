//! Responses, taken from a stream of bytes: the client's half of what [`reader`](super::reader) is for
//! servers.
//!
//! A [`ResponseReader`] is a plain value: it is told of each request that is sent, since that decides
//! where the response ends (RFC 9112 §6.3), gets bytes, and gives events. It keeps an unfinished head,
//! bounded by [`MessageLimits::head`], and nothing else.
//!
//! # Order
//!
//! For each request: interim responses, if any; the head, the pieces of the body, the end. What comes
//! behind that is left where it is. After an error, nothing more.

use std::mem;

use http::{HeaderMap, Method, StatusCode};

use super::chunked::{ChunkedReader, Piece};
use super::error::BadMessage;
use super::head::{Framing, ResponseHead, Unfinished};
use super::limits::MessageLimits;

/// What has come.
#[derive(Debug)]
pub(super) enum ResponseEvent<'a> {
    /// An interim response: 100, 103 and the like. Another follows.
    Interim(Box<ResponseHead>),
    /// The response, with the framing of its body. That follows; unless the response is a
    /// [switch](ResponseReader::is_handed_on), [`End`](Self::End) comes even if there is none.
    Head(Box<ResponseHead>, Framing),
    /// A part of the body.
    Data(&'a [u8]),
    /// The end of the response, with the trailers if the body had any.
    End(Option<HeaderMap>),
}

/// What the end of the stream means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum StreamEnd {
    /// No response was expected.
    Idle,
    /// It ends the body.
    Body,
    /// None of the response had come.
    Unanswered,
    /// It breaks the response off.
    Cut,
}

#[derive(Debug)]
enum State {
    /// No request has been sent that is not answered.
    Idle,
    Head,
    /// No body, or none left.
    End,
    Length(u64),
    Chunked(Box<ChunkedReader>),
    UntilClose {
        so_far: u64,
    },
    /// What comes is another protocol's.
    HandedOn,
    Broken,
}

/// Takes responses from a stream of bytes.
#[derive(Debug)]
pub(super) struct ResponseReader {
    state: State,
    limits: MessageLimits,
    /// Of the request that is to be answered.
    method: Method,
    asked_to_switch: bool,
    unfinished: Unfinished,
    /// Something of the response has come.
    begun: bool,
}

impl ResponseReader {
    pub(super) fn new(limits: &MessageLimits) -> Self {
        Self {
            state: State::Idle,
            limits: *limits,
            method: Method::GET,
            asked_to_switch: false,
            unfinished: Unfinished::default(),
            begun: false,
        }
    }

    /// A request of this method is being sent, which asked to switch protocols or did not.
    pub(super) fn expect(&mut self, method: &Method, asked_to_switch: bool) {
        debug_assert!(
            self.is_idle(),
            "one request at a time, and none after an error"
        );
        self.state = State::Head;
        self.method = method.clone();
        self.asked_to_switch = asked_to_switch;
        self.begun = false;
    }

    /// Whether no response is expected: bytes that come now are nobody's.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// Whether HTTP is over: what comes is another protocol's.
    pub(super) fn is_handed_on(&self) -> bool {
        matches!(self.state, State::HandedOn)
    }

    /// Whether anything of the response has come, interim ones included.
    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }

    /// How many bytes of the peer's it keeps.
    #[cfg(fuzzing)]
    pub(super) fn memory(&self) -> usize {
        self.unfinished.len()
    }

    /// How many bytes of the body are still to come, if that is known.
    pub(super) fn left(&self) -> Option<u64> {
        match &self.state {
            State::Length(left) => Some(*left),
            State::End | State::Idle => Some(0),
            _ => None,
        }
    }

    /// Takes from the front of `data` what the next event needs; `None` when all is used up, and when
    /// what is left belongs to no response.
    pub(super) fn receive<'a>(
        &mut self,
        data: &mut &'a [u8],
    ) -> Result<Option<ResponseEvent<'a>>, BadMessage> {
        self.begun |= !data.is_empty();
        let event = self.next(data);
        if event.is_err() {
            self.state = State::Broken;
            self.unfinished = Unfinished::default();
        }
        event
    }

    fn next<'a>(&mut self, data: &mut &'a [u8]) -> Result<Option<ResponseEvent<'a>>, BadMessage> {
        match &mut self.state {
            State::Head => self.receive_head(data),
            State::End => {
                self.state = State::Idle;
                Ok(Some(ResponseEvent::End(None)))
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
                Ok(Some(ResponseEvent::Data(piece)))
            }
            State::Chunked(chunked) => match chunked.receive(data)? {
                Piece::Data(piece) => Ok(Some(ResponseEvent::Data(piece))),
                Piece::End(trailers) => {
                    self.state = State::Idle;
                    Ok(Some(ResponseEvent::End(Some(trailers))))
                }
                Piece::More => Ok(None),
            },
            State::UntilClose { so_far } => {
                if data.is_empty() {
                    return Ok(None);
                }
                *so_far += data.len() as u64;
                let limit = self.limits.body;
                if *so_far > limit {
                    return Err(BadMessage::BodyTooLong { limit });
                }
                Ok(Some(ResponseEvent::Data(mem::take(data))))
            }
            State::Idle | State::HandedOn | State::Broken => Ok(None),
        }
    }

    fn receive_head<'a>(
        &mut self,
        data: &mut &'a [u8],
    ) -> Result<Option<ResponseEvent<'a>>, BadMessage> {
        if self.unfinished.is_empty() {
            if data.is_empty() {
                return Ok(None);
            }
            // As it mostly is: the whole head lies in one piece.
            if let Some((head, length)) = ResponseHead::parse(data, &self.limits)? {
                *data = &data[length..];
                return self.begin(head).map(Some);
            }
            self.unfinished.begin(data);
            *data = &[];
            return Ok(None);
        }
        let known = self.unfinished.len();
        let may_be_complete = self.unfinished.add(data);
        let is_too_long = self.unfinished.len() > self.limits.head;
        if !may_be_complete && !is_too_long {
            *data = &[];
            return Ok(None);
        }
        let Some((head, length)) = ResponseHead::parse(self.unfinished.text(), &self.limits)?
        else {
            *data = &[];
            return Ok(None);
        };
        // What was there before was not complete, so the head ends in `data`.
        *data = &data[length - known..];
        self.unfinished.clear();
        self.begin(head).map(Some)
    }

    fn begin<'a>(&mut self, head: ResponseHead) -> Result<ResponseEvent<'a>, BadMessage> {
        let status = head.status;
        if status == StatusCode::SWITCHING_PROTOCOLS {
            // RFC 9110 §15.2.2: in answer to `Upgrade` alone.
            if !self.asked_to_switch {
                return Err(BadMessage::UnaskedSwitch);
            }
            self.state = State::HandedOn;
            return Ok(ResponseEvent::Head(Box::new(head), Framing::None));
        }
        if status.is_informational() {
            return Ok(ResponseEvent::Interim(Box::new(head)));
        }
        let framing = head.framing(&self.method)?;
        let is_tunnel = self.method == Method::CONNECT && status.is_success();
        let limit = self.limits.body;
        self.state = match framing {
            _ if is_tunnel => State::HandedOn,
            Framing::None => State::End,
            Framing::Length(length) if length > limit => {
                return Err(BadMessage::BodyTooLong { limit });
            }
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Chunked(Box::new(ChunkedReader::new(&self.limits))),
            Framing::UntilClose => State::UntilClose { so_far: 0 },
        };
        Ok(ResponseEvent::Head(Box::new(head), framing))
    }

    /// The peer's stream has ended.
    pub(super) fn end_of_stream(&mut self) -> StreamEnd {
        let end = match &self.state {
            State::Idle | State::HandedOn => StreamEnd::Idle,
            // RFC 9112 §8: a body that ends with the connection may be cut short, and nobody can tell.
            State::UntilClose { .. } => StreamEnd::Body,
            State::Head if !self.begun => StreamEnd::Unanswered,
            _ => StreamEnd::Cut,
        };
        if end != StreamEnd::Idle {
            self.state = State::Broken;
        }
        end
    }
}

#[cfg(test)]
mod tests {
    use torsade_reactor::testing::for_every_chunking;

    use super::*;

    /// What a stream of bytes says in answer to these requests, in lines; each body in one.
    fn events(asked: &[(Method, bool)], chunks: &[&[u8]]) -> Vec<String> {
        let mut reader = ResponseReader::new(&MessageLimits::default());
        let mut asked = asked.iter();
        let (mut lines, mut body) = (Vec::new(), Vec::new());
        let mut unused = Vec::new();
        for chunk in chunks {
            let mut data = *chunk;
            loop {
                if reader.is_idle() {
                    match asked.next() {
                        Some((method, switch)) => reader.expect(method, *switch),
                        None => break,
                    }
                }
                match reader.receive(&mut data) {
                    Ok(None) => break,
                    Ok(Some(ResponseEvent::Interim(head))) => {
                        lines.push(format!("({})", head.status))
                    }
                    Ok(Some(ResponseEvent::Head(head, framing))) => {
                        lines.push(format!("{} {framing:?}", head.status));
                    }
                    Ok(Some(ResponseEvent::Data(piece))) => body.extend_from_slice(piece),
                    Ok(Some(ResponseEvent::End(trailers))) => {
                        lines.push(format!("{:?}", String::from_utf8_lossy(&body)));
                        body.clear();
                        lines.extend(
                            trailers
                                .filter(|it| !it.is_empty())
                                .map(|it| format!("{it:?}")),
                        );
                    }
                    Err(error) => {
                        lines.push(error.to_string());
                        return lines;
                    }
                }
            }
            unused.extend_from_slice(data);
        }
        if !body.is_empty() {
            lines.push(format!("{:?}...", String::from_utf8_lossy(&body)));
        }
        match reader.end_of_stream() {
            StreamEnd::Idle => {}
            end => lines.push(format!("{end:?}")),
        }
        if !unused.is_empty() {
            lines.push(format!("unused {:?}", String::from_utf8_lossy(&unused)));
        }
        lines
    }

    #[track_caller]
    fn check(asked: &[(Method, bool)], wire: &str, expected: &[&str]) {
        for_every_chunking(wire.as_bytes(), |chunks| {
            assert_eq!(events(asked, chunks), expected, "{wire:?}");
        });
    }

    const GET: (Method, bool) = (Method::GET, false);

    #[test]
    fn responses_come_one_after_the_other() {
        check(
            &[GET, GET, GET],
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc\
             HTTP/1.1 204 No Content\r\n\r\n\
             HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\nX: y\r\n\r\n",
            &[
                "200 OK Length(3)",
                "\"abc\"",
                "204 No Content None",
                "\"\"",
                "200 OK Chunked",
                "\"abc\"",
                "{\"x\": \"y\"}",
            ],
        );
    }

    #[test]
    fn rfc9110_2_5_a_newer_minor_version_is_taken_for_1_1() {
        check(
            &[GET],
            "HTTP/1.2 200 OK\r\nContent-Length: 1\r\n\r\na",
            &["200 OK Length(1)", "\"a\""],
        );
        check(
            &[GET],
            "HTTP/2.0 200 OK\r\n\r\n",
            &["not a message of HTTP/1 (RFC 9112 §2)"],
        );
    }

    #[test]
    fn interim_responses_come_before_the_one_that_counts() {
        check(
            &[GET],
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n\
             HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na",
            &[
                "(100 Continue)",
                "(103 Early Hints)",
                "200 OK Length(1)",
                "\"a\"",
            ],
        );
    }

    #[test]
    fn rfc9112_6_3_a_response_to_head_has_no_body() {
        check(
            &[(Method::HEAD, false), GET],
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n\
             HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
            &["200 OK None", "\"\"", "304 Not Modified None", "\"\""],
        );
    }

    #[test]
    fn a_body_without_a_length_ends_with_the_stream() {
        check(
            &[GET],
            "HTTP/1.0 200 OK\r\n\r\nabc",
            &["200 OK UntilClose", "\"abc\"...", "Body"],
        );
    }

    #[test]
    fn a_response_that_ends_in_its_middle_is_cut() {
        check(&[GET], "HTTP/1.1 200 O", &["Cut"]);
        check(
            &[GET],
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc",
            &["200 OK Length(4)", "\"abc\"...", "Cut"],
        );
        check(
            &[GET],
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
            &["200 OK Chunked", "\"abc\"...", "Cut"],
        );
        assert_eq!(events(&[GET], &[b""]), ["Unanswered"]);
    }

    #[test]
    fn what_follows_a_switch_is_another_protocols() {
        check(
            &[(Method::GET, true)],
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nabc",
            &["101 Switching Protocols None", "unused \"abc\""],
        );
        check(
            &[(Method::CONNECT, false)],
            "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nabc",
            &["200 OK None", "unused \"abc\""],
        );
        check(
            &[(Method::CONNECT, false)],
            "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 2\r\n\r\nno",
            &["407 Proxy Authentication Required Length(2)", "\"no\""],
        );
        check(
            &[GET],
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
            &["a switch of protocols that nobody asked for (RFC 9110 §15.2.2)"],
        );
    }

    #[test]
    fn what_nobody_asked_for_is_left_where_it_is() {
        check(
            &[GET],
            "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\n",
            &[
                "204 No Content None",
                "\"\"",
                "unused \"HTTP/1.1 200 OK\\r\\n\"",
            ],
        );
    }

    #[test]
    fn no_response_is_larger_than_its_limits() {
        let limits = MessageLimits {
            head: 60,
            body: 3,
            ..MessageLimits::default()
        };
        let check = |wire: &str, expected: BadMessage| {
            for_every_chunking(wire.as_bytes(), |chunks| {
                let mut reader = ResponseReader::new(&limits);
                reader.expect(&Method::GET, false);
                let outcome = chunks.iter().try_for_each(|chunk| {
                    let mut data = *chunk;
                    while reader.receive(&mut data)?.is_some() {}
                    Ok(())
                });
                assert_eq!(outcome, Err(expected), "{wire:?}");
            });
        };
        let long = "x".repeat(60);
        check(
            &format!("HTTP/1.1 200 OK\r\nX: {long}"),
            BadMessage::HeadTooLong { limit: 60 },
        );
        let body = BadMessage::BodyTooLong { limit: 3 };
        check("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", body);
        check("HTTP/1.1 200 OK\r\n\r\nabcd", body);
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n",
            body,
        );
    }
}
