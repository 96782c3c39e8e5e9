//! Bodies that say themselves where they end: RFC 9112 §7.1.
//!
//! A [`ChunkedReader`] takes bytes in any pieces and gives slices of them; it keeps no data, only
//! the trailers.

use http::HeaderMap;
use http::header::{self, HeaderName, HeaderValue};

use super::error::BadMessage;
use super::limits::{HEADERS_MAX, MessageLimits};

/// Digits of the size of a chunk: more would not fit.
const SIZE_DIGITS_MAX: u32 = 16;

/// What a piece of a body is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// A part of the data, never empty.
    Data(&'a [u8]),
    /// The end, with the trailers.
    End(HeaderMap),
    /// Everything given was used up, and there is more to come.
    More,
}

#[derive(Debug)]
enum State {
    /// Before, or among, the digits of a size.
    Size {
        digits: u32,
    },
    /// Behind the size: extensions, to the end of the line.
    Extension {
        quoted: bool,
        escaped: bool,
    },
    /// After the CR of a size line.
    SizeEnd,
    Data,
    /// Behind the data.
    DataCr,
    DataLf,
    /// The trailer section, as far as it has come.
    Trailers(Vec<u8>),
    Over,
}

/// Takes a chunked body apart.
#[derive(Debug)]
pub(super) struct ChunkedReader {
    state: State,
    /// Of the chunk at hand: its size while that is read, then what is left of it.
    left: u64,
    /// Of all data so far.
    total: u64,
    extensions: usize,
    limits: MessageLimits,
}

impl ChunkedReader {
    pub(super) fn new(limits: &MessageLimits) -> Self {
        Self {
            state: State::Size { digits: 0 },
            left: 0,
            total: 0,
            extensions: 0,
            limits: *limits,
        }
    }

    pub(super) fn set_body_max(&mut self, limit: u64) {
        self.limits.body = limit;
    }

    /// Takes from the front of `data` what belongs to the body; gives the next piece.
    pub(super) fn receive<'a>(&mut self, data: &mut &'a [u8]) -> Result<Piece<'a>, BadMessage> {
        loop {
            if let State::Data = self.state {
                if data.is_empty() {
                    return Ok(Piece::More);
                }
                let count = usize::try_from(self.left)
                    .unwrap_or(usize::MAX)
                    .min(data.len());
                let (piece, rest) = data.split_at(count);
                *data = rest;
                self.left -= count as u64;
                if self.left == 0 {
                    self.state = State::DataCr;
                }
                return Ok(Piece::Data(piece));
            }
            if let State::Trailers(_) = self.state {
                return self.receive_trailers(data);
            }
            let Some((byte, rest)) = data.split_first() else {
                return Ok(Piece::More);
            };
            if let State::Over = self.state {
                return Ok(Piece::More);
            }
            *data = rest;
            self.step(*byte)?;
        }
    }

    /// One byte that is no data.
    fn step(&mut self, byte: u8) -> Result<(), BadMessage> {
        let chunk = || Err(BadMessage::Chunk);
        match &mut self.state {
            State::Size { digits } => match byte {
                b'\r' if *digits > 0 => self.state = State::SizeEnd,
                b';' if *digits > 0 => self.enter_extension()?,
                // RFC 9112 §7.1.1: bad white space before an extension.
                b' ' | b'\t' if *digits > 0 => self.enter_extension()?,
                _ => {
                    let Some(digit) = char::from(byte).to_digit(16) else {
                        return chunk();
                    };
                    *digits += 1;
                    if *digits > SIZE_DIGITS_MAX {
                        return chunk();
                    }
                    self.left = self.left << 4 | u64::from(digit);
                }
            },
            State::Extension { quoted, escaped } => {
                match byte {
                    _ if *escaped => *escaped = false,
                    b'\\' if *quoted => *escaped = true,
                    b'"' => *quoted = !*quoted,
                    b'\r' if !*quoted => {
                        self.state = State::SizeEnd;
                        return Ok(());
                    }
                    _ => {}
                }
                let is_control = byte < b' ' && byte != b'\t' || byte == 0x7f;
                if is_control {
                    return chunk();
                }
                self.count_extension()?;
            }
            State::SizeEnd => {
                if byte != b'\n' {
                    return chunk();
                }
                self.begin_chunk()?;
            }
            State::DataCr => match byte {
                b'\r' => self.state = State::DataLf,
                _ => return chunk(),
            },
            State::DataLf => match byte {
                b'\n' => self.state = State::Size { digits: 0 },
                _ => return chunk(),
            },
            State::Data | State::Trailers(_) | State::Over => {
                unreachable!("these take no single bytes")
            }
        }
        Ok(())
    }

    fn enter_extension(&mut self) -> Result<(), BadMessage> {
        self.state = State::Extension {
            quoted: false,
            escaped: false,
        };
        self.count_extension()
    }

    fn count_extension(&mut self) -> Result<(), BadMessage> {
        self.extensions += 1;
        let limit = self.limits.chunk_extensions;
        if self.extensions > limit {
            return Err(BadMessage::ChunkExtrasTooLong { limit });
        }
        Ok(())
    }

    fn begin_chunk(&mut self) -> Result<(), BadMessage> {
        if self.left == 0 {
            self.state = State::Trailers(Vec::new());
            return Ok(());
        }
        self.total = self.total.saturating_add(self.left);
        let limit = self.limits.body;
        if self.total > limit {
            return Err(BadMessage::BodyTooLong { limit });
        }
        self.state = State::Data;
        Ok(())
    }

    fn receive_trailers<'a>(&mut self, data: &mut &'a [u8]) -> Result<Piece<'a>, BadMessage> {
        let State::Trailers(kept) = &mut self.state else {
            return Ok(Piece::More);
        };
        // Line by line: the section ends with an empty one.
        while !data.is_empty() {
            let line = memchr::memchr(b'\n', data).map_or(data.len(), |at| at + 1);
            let limit = self.limits.trailers;
            if kept.len() + line > limit {
                return Err(BadMessage::ChunkExtrasTooLong { limit });
            }
            let (head, rest) = data.split_at(line);
            kept.extend_from_slice(head);
            *data = rest;
            if kept.last() != Some(&b'\n') {
                break;
            }
            if !kept.ends_with(b"\r\n") {
                return Err(BadMessage::Trailer);
            }
            if *kept == b"\r\n" || kept.ends_with(b"\r\n\r\n") {
                let trailers = parse_trailers(kept, self.limits.headers)?;
                self.state = State::Over;
                return Ok(Piece::End(trailers));
            }
        }
        Ok(Piece::More)
    }
}

fn parse_trailers(text: &[u8], headers_max: usize) -> Result<HeaderMap, BadMessage> {
    let mut trailers = HeaderMap::new();
    if text == b"\r\n" {
        return Ok(trailers);
    }
    let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let fields = &mut fields[..headers_max.min(HEADERS_MAX)];
    let Ok(httparse::Status::Complete((length, fields))) = httparse::parse_headers(text, fields)
    else {
        return Err(BadMessage::Trailer);
    };
    if length != text.len() {
        return Err(BadMessage::Trailer);
    }
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let value = HeaderValue::from_bytes(field.value);
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err(BadMessage::Trailer);
        };
        if !is_forbidden(&name) {
            trailers.append(name, value);
        }
    }
    Ok(trailers)
}

/// RFC 9110 §6.5.1: what decides on framing, routing, authentication or the handling of the body
/// comes too late in a trailer. It is left out.
pub(super) fn is_forbidden(name: &HeaderName) -> bool {
    [
        header::TRANSFER_ENCODING,
        header::CONTENT_LENGTH,
        header::HOST,
        header::TRAILER,
        header::TE,
        header::CONNECTION,
        header::UPGRADE,
        header::EXPECT,
        header::AUTHORIZATION,
        header::PROXY_AUTHORIZATION,
        header::COOKIE,
        header::SET_COOKIE,
        header::CONTENT_TYPE,
        header::CONTENT_ENCODING,
        header::CONTENT_RANGE,
        header::RANGE,
        header::CACHE_CONTROL,
    ]
    .contains(name)
}

/// Writes one chunk. Nothing, if `data` is empty: that would be the end.
pub(super) fn write_chunk(out: &mut Vec<u8>, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    write_size(out, data.len());
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// The line before a chunk.
pub(super) fn write_size(out: &mut Vec<u8>, size: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut shift = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1) * 4;
    while shift > 0 {
        shift -= 4;
        out.push(DIGITS[size >> shift & 15]);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the end, with the trailers.
pub(super) fn write_end(out: &mut Vec<u8>, trailers: &HeaderMap) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers {
        if !is_forbidden(name) {
            super::encode::write_field(out, name.as_str(), value.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use torsade_reactor::testing::for_every_chunking;

    use super::*;

    /// The data, the trailers, and what is left.
    type Read = (Vec<u8>, Option<HeaderMap>, Vec<u8>);

    /// Everything that comes out of it.
    fn read(chunks: &[&[u8]]) -> Result<Read, BadMessage> {
        let mut reader = ChunkedReader::new(&MessageLimits::default());
        let (mut body, mut trailers, mut rest) = (Vec::new(), None, Vec::new());
        for mut data in chunks.iter().copied() {
            while trailers.is_none() {
                match reader.receive(&mut data)? {
                    Piece::Data(piece) => body.extend_from_slice(piece),
                    Piece::End(fields) => trailers = Some(fields),
                    Piece::More => break,
                }
            }
            rest.extend_from_slice(data);
        }
        Ok((body, trailers, rest))
    }

    #[test]
    fn every_chunking_gives_the_same_body() {
        let wire =
            b"4\r\nWiki\r\n05;name=\"va\\\"lue\" ; x\r\npedia\r\n0\r\nA: 1\r\nHost: no\r\n\r\nGET";
        for_every_chunking(wire, |chunks| {
            let (body, trailers, rest) = read(chunks).expect("it is well formed");
            assert_eq!(body, b"Wikipedia");
            assert_eq!(rest, b"GET");
            let trailers = trailers.expect("it ends");
            assert_eq!(trailers.len(), 1, "a host comes too late: {trailers:?}");
        });
    }

    #[test]
    fn rfc9112_7_1_malformed_chunks_are_refused() {
        for wire in [
            "\r\n",
            "x\r\n",
            "-1\r\nab",
            "+1\r\nab",
            "0x1\r\na\r\n",
            " 1\r\na\r\n",
            "1\na\r\n",
            "1\r\na\n0\r\n\r\n",
            "1\r\nab",
            "1\rXa\r\n",
            "1;a\nb\r\na\r\n",
            "10000000000000000\r\n",
            "1;a=\"\n\"\r\n",
            "0\r\n\n",
            "0\r\nA: 1\n\r\n",
            "0\r\n A: 1\r\n\r\n",
            "0\r\nA : 1\r\n\r\n",
            "0\r\nA\r\n\r\n",
        ] {
            assert!(read(&[wire.as_bytes()]).is_err(), "{wire:?} was taken");
        }
    }

    #[test]
    fn limits_are_kept() {
        let limits = MessageLimits {
            body: 10,
            trailers: 30,
            chunk_extensions: 10,
            ..MessageLimits::default()
        };
        let check = |wire: &str| {
            let mut reader = ChunkedReader::new(&limits);
            let mut data = wire.as_bytes();
            loop {
                match reader.receive(&mut data) {
                    Ok(Piece::Data(_)) => {}
                    Ok(_) => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
        };
        assert_eq!(check("b\r\n"), Err(BadMessage::BodyTooLong { limit: 10 }));
        assert_eq!(
            check("6\r\nabcdef\r\n6\r\n"),
            Err(BadMessage::BodyTooLong { limit: 10 })
        );
        let extensions = BadMessage::ChunkExtrasTooLong { limit: 10 };
        assert_eq!(check("1;abcdefghijk"), Err(extensions));
        assert_eq!(check("1;abcde\r\na\r\n1;abcde"), Err(extensions));
        let trailers = BadMessage::ChunkExtrasTooLong { limit: 30 };
        assert_eq!(check(&format!("0\r\nA: {}", "x".repeat(30))), Err(trailers));
    }

    #[test]
    fn what_is_written_can_be_read() {
        let mut out = Vec::new();
        let pieces: [&[u8]; 4] = [b"a", b"", &[b'x'; 300], b"end"];
        for piece in pieces {
            write_chunk(&mut out, piece);
        }
        write_end(&mut out, &HeaderMap::new());
        let (body, trailers, rest) = read(&[&out]).expect("it is well formed");
        assert_eq!(body, pieces.concat());
        assert!(trailers.is_some() && rest.is_empty());
    }
}
