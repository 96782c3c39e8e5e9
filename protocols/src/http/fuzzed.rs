//! Checks of what is nobody's business outside, for the fuzzer: built under `cfg(fuzzing)` alone.
//!
//! Each takes an input, and panics if a promise is broken.

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::chunked::{self, ChunkedReader, Piece};
use super::error::BadMessage;
use super::limits::MessageLimits;
use super::response_reader::{ResponseEvent, ResponseReader};

pub use super::client::fuzzed::{proxy_lists, references};

const LIMITS: MessageLimits = MessageLimits {
    target: 64,
    head: 512,
    headers: 8,
    body: 200,
    trailers: 64,
    chunk_extensions: 32,
};

/// What a server said, and how it ended; each body in one.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    events: Vec<String>,
    bodies: Vec<Vec<u8>>,
    unused: Vec<u8>,
    is_refused: bool,
    /// How much of the last body came before may differ.
    is_too_long: bool,
}

fn hear<'a>(asked: &[(Method, bool)], chunks: impl Iterator<Item = &'a [u8]>) -> Said {
    let mut reader = ResponseReader::new(&LIMITS);
    let mut asked = asked.iter();
    let mut said = Said::default();
    for mut data in chunks {
        loop {
            if reader.is_idle() {
                match asked.next() {
                    Some((method, switch)) => reader.expect(method, *switch),
                    None => break,
                }
            }
            let before = data.len();
            match reader.receive(&mut data) {
                Ok(None) => break,
                Ok(Some(ResponseEvent::Data(piece))) => {
                    assert!(!piece.is_empty() && piece.len() <= before - data.len());
                    let body = said.bodies.last_mut().expect("a head comes first");
                    body.extend_from_slice(piece);
                    assert!(body.len() as u64 <= LIMITS.body);
                }
                Ok(Some(event)) => {
                    if let ResponseEvent::Head(head, _) = &event {
                        assert!(head.headers.len() <= LIMITS.headers);
                        said.bodies.push(Vec::new());
                    }
                    said.events.push(format!("{event:?}"));
                }
                Err(error) => {
                    assert!(matches!(reader.receive(&mut &b"x"[..]), Ok(None)));
                    // With less of a bad head at hand, less can be said of it.
                    said.is_refused = true;
                    said.is_too_long = matches!(error, BadMessage::BodyTooLong { .. });
                    return said;
                }
            }
            assert!(reader.memory() <= 2 * LIMITS.head + before);
        }
        said.unused.extend_from_slice(data);
    }
    said.events.push(format!("{:?}", reader.end_of_stream()));
    said
}

/// Every chunking of what a server says gives the same events.
pub fn responses(asked: &[(u8, bool)], wire: &[u8], size: usize) {
    const METHODS: [Method; 4] = [Method::GET, Method::HEAD, Method::POST, Method::CONNECT];
    let methods = asked.iter().take(8);
    let asked: Vec<_> = methods
        .map(|(number, switch)| (METHODS[usize::from(number % 4)].clone(), *switch))
        .collect();
    // So that a head that has begun is judged: one that comes in pieces is looked at when it may be
    // complete.
    let wire = &[wire, b"\n\n\r\n\r\n"].concat()[..];
    for size in [1, size.max(1)] {
        let mut whole = hear(&asked, std::iter::once(wire));
        let mut pieces = hear(&asked, wire.chunks(size));
        if whole.is_too_long {
            whole.bodies.pop();
            pieces.bodies.pop();
        }
        assert_eq!(pieces, whole);
    }
}

/// What comes of a chunked body: data, trailers, and what is behind it.
type Read = Result<(Vec<u8>, Option<HeaderMap>, Vec<u8>), BadMessage>;

fn read_chunks<'a>(limits: &MessageLimits, chunks: impl Iterator<Item = &'a [u8]>) -> Read {
    let mut reader = ChunkedReader::new(limits);
    let (mut body, mut trailers, mut rest) = (Vec::new(), None, Vec::new());
    for mut data in chunks {
        while trailers.is_none() {
            match reader.receive(&mut data)? {
                Piece::Data(piece) => {
                    assert!(!piece.is_empty());
                    body.extend_from_slice(piece);
                    assert!(body.len() as u64 <= limits.body);
                }
                Piece::End(fields) => trailers = Some(fields),
                Piece::More => {
                    assert!(data.is_empty());
                    break;
                }
            }
        }
        rest.extend_from_slice(data);
    }
    Ok((body, trailers, rest))
}

/// Every chunking of a chunked body gives the same; what is written can be read.
pub fn chunked(size: usize, wire: &[u8], data: &[Vec<u8>], fields: &[(Vec<u8>, Vec<u8>)]) {
    let whole = read_chunks(&LIMITS, std::iter::once(wire));
    assert_eq!(read_chunks(&LIMITS, wire.chunks(1)), whole);
    assert_eq!(read_chunks(&LIMITS, wire.chunks(size.max(1))), whole);
    if let Ok((_, Some(trailers), _)) = &whole {
        assert!(trailers.len() <= LIMITS.headers);
        assert!(!trailers.keys().any(chunked::is_forbidden));
    }

    let mut trailers = HeaderMap::new();
    for (name, value) in fields.iter().take(50) {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            trailers.append(name, value);
        }
    }
    let mut out = Vec::new();
    for piece in data {
        chunked::write_chunk(&mut out, piece);
    }
    chunked::write_end(&mut out, &trailers);
    let limits = MessageLimits {
        trailers: usize::MAX,
        ..MessageLimits::default()
    };
    let back = read_chunks(&limits, out.chunks(size.max(1)));
    let (body, back, rest) = back.expect("we wrote it");
    assert_eq!(body, data.concat());
    assert!(rest.is_empty());
    let back = back.expect("we wrote its end");
    let names = trailers.keys();
    let names: Vec<_> = names.filter(|name| !chunked::is_forbidden(name)).collect();
    assert_eq!(back.keys_len(), names.len());
    for name in names {
        let read: Vec<_> = back.get_all(name).iter().map(trimmed).collect();
        let wrote: Vec<_> = trailers.get_all(name).iter().map(trimmed).collect();
        assert_eq!(read, wrote);
    }
}

/// White space around a value is no part of it: RFC 9110 §5.5.
fn trimmed(value: &HeaderValue) -> &[u8] {
    value.as_bytes().trim_ascii()
}
