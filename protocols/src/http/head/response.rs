//! The head of a response.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};

use super::super::error::BadMessage;
use super::super::limits::{HEADERS_MAX, MessageLimits};
use super::facts::Facts;
use super::lines::{VERSION_OF_RESPONSE, as_1_1, check_line_ends, judged};
use super::{Framing, Span, append};

/// The head of a response.
#[derive(Debug)]
pub(in crate::http) struct ResponseHead {
    /// The status.
    pub(in crate::http) status: StatusCode,
    /// Whether this is HTTP/1.0.
    pub(in crate::http) is_1_0: bool,
    /// The header fields.
    pub(in crate::http) headers: HeaderMap,
    facts: Facts,
}

impl ResponseHead {
    /// The head at the beginning of `data`, with its length; `None` if it is not complete.
    pub(in crate::http) fn parse(
        data: &[u8],
        limits: &MessageLimits,
    ) -> Result<Option<(Self, usize)>, BadMessage> {
        let mut fields = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; HEADERS_MAX];
        let allowed = limits.headers.min(HEADERS_MAX);
        let mut parsed = httparse::Response::new(&mut []);
        // As of requests: what lies beyond the limit is not looked at.
        let data = &data[..data.len().min(limits.head + 1)];
        let outcome = httparse::ParserConfig::default().parse_response_with_uninit_headers(
            &mut parsed,
            data,
            &mut fields[..allowed],
        );
        let length = match outcome {
            Ok(httparse::Status::Complete(length)) if length <= limits.head => length,
            Ok(httparse::Status::Partial) if data.len() <= limits.head => return Ok(None),
            Ok(_) => return Err(BadMessage::HeadTooLong { limit: limits.head }),
            Err(error) => {
                return match as_1_1(data, VERSION_OF_RESPONSE) {
                    Some(data) => Self::parse(&data, limits),
                    None => Err(judged(error, data, allowed)),
                };
            }
        };
        let (Some(code), Some(minor)) = (parsed.code, parsed.version) else {
            return Err(BadMessage::NotHttp);
        };
        let text = &data[..length];
        check_line_ends(text, false, &[])?;
        let status = StatusCode::from_u16(code).or(Err(BadMessage::NotHttp))?;
        let mut facts = Facts::NONE;
        let kept = Bytes::copy_from_slice(text);
        let mut headers = HeaderMap::with_capacity(parsed.headers.len());
        for field in parsed.headers.iter() {
            facts.note(field.name.as_bytes(), field.value)?;
            let name = Span::of(field.name.as_bytes(), text);
            append(&mut headers, &kept, name, Span::of(field.value, text));
        }
        if facts.length.is_some() && (facts.chunked || facts.strange_coding) {
            return Err(BadMessage::TwoLengths);
        }
        let head = Self {
            status,
            is_1_0: minor == 0,
            headers,
            facts,
        };
        Ok(Some((head, length)))
    }

    /// Where the body ends, of a response to a request of this method: RFC 9112 §6.3.
    pub(in crate::http) fn framing(&self, method: &Method) -> Result<Framing, BadMessage> {
        let status = self.status.as_u16();
        let is_bare = status < 200 || status == 204 || status == 304;
        if is_bare || method == Method::HEAD {
            return Ok(Framing::None);
        }
        if method == Method::CONNECT && self.status.is_success() {
            return Ok(Framing::None);
        }
        if self.facts.strange_coding || (self.facts.chunked && self.is_1_0) {
            return Err(BadMessage::TransferCoding);
        }
        Ok(match self.facts.length {
            _ if self.facts.chunked => Framing::Chunked,
            Some(0) => Framing::None,
            Some(length) => Framing::Length(length),
            None => Framing::UntilClose,
        })
    }

    /// Whether the server takes another request on this connection.
    pub(in crate::http) fn is_persistent(&self) -> bool {
        !self.facts.close && (!self.is_1_0 || self.facts.keep_alive)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_of_tls_answers_is_told_from_what_is_nothing() {
        let refused = |data: &[u8]| {
            let parsed = ResponseHead::parse(data, &MessageLimits::default());
            parsed.map(drop).expect_err("it is no response")
        };
        // A fatal alert, unexpected message.
        assert_eq!(refused(b"\x15\x03\x03\x00\x02\x02\x0a"), BadMessage::Tls);
        assert_eq!(refused(b"\x15"), BadMessage::Tls);
        assert_eq!(refused(b"\x15\x04"), BadMessage::NotHttp);
        assert_eq!(refused(b"SSH-2.0-"), BadMessage::NotHttp);
    }

    #[test]
    fn rfc9112_6_3_responses_have_their_ends() {
        let framing = |text: &str, method: &Method| {
            let parsed = ResponseHead::parse(text.as_bytes(), &MessageLimits::default());
            let (head, _) = parsed?.expect("it is complete");
            head.framing(method)
        };
        let get = &Method::GET;
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(framing(chunked, get), Ok(Framing::Chunked));
        assert_eq!(framing(chunked, &Method::HEAD), Ok(Framing::None));
        assert_eq!(framing(chunked, &Method::CONNECT), Ok(Framing::None));
        let until_close = "HTTP/1.0 200 OK\r\n\r\n";
        assert_eq!(framing(until_close, get), Ok(Framing::UntilClose));
        let length = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n";
        assert_eq!(framing(length, get), Ok(Framing::Length(7)));
        for status in ["100 Continue", "204 No Content", "304 Not Modified"] {
            let text = format!("HTTP/1.1 {status}\r\nContent-Length: 7\r\n\r\n");
            assert_eq!(framing(&text, get), Ok(Framing::None), "{status}");
        }
        let both = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(framing(both, get), Err(BadMessage::TwoLengths));
    }
}
