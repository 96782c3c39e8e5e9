//! Responses, compressed on their way out.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use http::StatusCode;
use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, ETAG, HeaderMap,
};

use super::body::{Body, Source};
use super::coding::Encoder;
use super::conditional::ETag;
use super::media_types;
use super::negotiate::{Coding, add_vary, choose_coding};
use super::pipe::{self, Demand, Next, Reader, Writer};
use super::request::Request;
use super::response::{Answer, Handler, Response};
use super::values::members;

/// What is compressed, and how much work that may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compression {
    /// Bodies that are known to be shorter stay as they are: 1 KiB.
    pub least: u64,
    /// From 1, which is quick, to 9, which makes the shortest: 6.
    pub level: u32,
}

impl Default for Compression {
    fn default() -> Self {
        Self {
            // About a packet: what is less is sent no sooner.
            least: 1024,
            level: 6,
        }
    }
}

/// A layer that compresses responses for clients that take it, with gzip or deflate
/// (RFC 9110 §8.4.1): for [`Routes::wrap`](super::Routes::wrap) and [`wrap`](super::wrap).
///
/// Text is, as [`is_compressible`](media_types::is_compressible) has it; images, what is compressed already,
/// parts, and what says `no-transform` are not. Bodies that are written while they are sent are
/// compressed as they come, and what has been written is not kept back for what may follow. An `ETag`
/// becomes a weak one: the bytes are no longer the same.
///
/// Pages that hold a secret beside what a stranger wrote should not be compressed: their lengths
/// tell of the secret (BREACH).
///
/// # Examples
///
/// ```
/// use torsade_protocols::http::{Compression, Request, Routes, compress};
///
/// let routes = Routes::new()
///     .get("/", |_: Request| "to be or not to be ".repeat(1000))?
///     .wrap(compress(Compression::default()));
/// # drop(routes);
/// # Ok::<(), torsade_protocols::http::router::BadRoute>(())
/// ```
pub fn compress(options: Compression) -> impl Fn(Request, &Rc<dyn Handler>) -> Answer {
    move |request, next| {
        let coding = choose_coding(request.headers(), &[Coding::Gzip, Coding::Deflate]);
        next.handle(request)
            .map(move |response| compressed(response, coding, options))
    }
}

/// A body of this size or less is compressed at once, and has a length.
const AT_ONCE: usize = 64 * 1024;

fn compressed(mut response: Response, coding: Coding, options: Compression) -> Response {
    if !is_eligible(&response, options) {
        return response;
    }
    let headers = response.headers_mut();
    add_vary(headers, &ACCEPT_ENCODING);
    if coding == Coding::Identity {
        return response;
    }
    headers.insert(CONTENT_ENCODING, coding.to_value());
    headers.remove(CONTENT_LENGTH);
    // A part of what is compressed is another one of what is not.
    headers.remove(ACCEPT_RANGES);
    let weak = headers
        .get(ETAG)
        .and_then(|value| ETag::parse(value.as_bytes()).ok());
    if let Some(tag) = weak.filter(|tag| !tag.is_weak()) {
        match ETag::weak(&String::from_utf8_lossy(tag.opaque())) {
            Ok(tag) => headers.insert(ETAG, tag.to_value()),
            Err(_) => headers.remove(ETAG),
        };
    }
    response.map(|body| {
        let media_type = body.media_type;
        let mut encoded = encode(body, Encoder::with_level(coding, options.level));
        encoded.media_type = media_type;
        encoded
    })
}

fn is_eligible(response: &Response, options: Compression) -> bool {
    let (headers, body) = (response.headers(), response.body());
    let is_other = matches!(
        response.status(),
        StatusCode::NO_CONTENT | StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED
    ) || response.status().is_informational()
        || matches!(body.source, Source::Upgrade(_));
    let is_short = body.length().is_some_and(|length| length < options.least);
    let is_fixed = headers.contains_key(CONTENT_ENCODING)
        || headers.contains_key(CONTENT_RANGE)
        // RFC 9110 §7.7, RFC 9111 §5.2.2.6.
        || members(headers, &CACHE_CONTROL).any(|it| it.eq_ignore_ascii_case("no-transform"));
    let media_type = match headers.get(CONTENT_TYPE) {
        Some(value) => value.to_str().ok(),
        None => body.media_type,
    };
    let is_compressible = media_type.is_some_and(media_types::is_compressible);
    is_compressible && !is_other && !is_short && !is_fixed
}

fn encode(body: Body, mut encoder: Encoder) -> Body {
    if let Some(bytes) = body.as_bytes().filter(|bytes| bytes.len() <= AT_ONCE) {
        let mut encoded = Vec::with_capacity(bytes.len() / 2);
        encoder.encode(bytes, &mut encoded);
        encoder.finish(&mut encoded);
        return encoded.into();
    }
    let Some(source) = body.into_reader() else {
        return Body::empty();
    };
    let (writer, reader) = pipe::pipe(AT_ONCE);
    let encoding = Rc::new(Encoding {
        state: RefCell::new(None),
        source: RefCell::new(Some(Rc::clone(&source))),
    });
    let weak = Rc::downgrade(&encoding);
    source.on_data(move || {
        if let Some(encoding) = weak.upgrade() {
            encoding.go_on();
        }
    });
    let told = Rc::clone(&encoding);
    // The pipe keeps it, until its end.
    writer.on_demand(move |demand| match demand {
        Demand::Wanted | Demand::Room => told.go_on(),
        Demand::Gone => told.let_go(),
    });
    encoding.state.replace(Some(State {
        writer,
        encoder,
        waiting: Bytes::new(),
        is_flushed: true,
    }));
    Body::of_pipe(reader, None)
}

/// A body that is compressed as it goes by.
struct Encoding {
    /// Out of its place while it is worked on; `None` at the end.
    state: RefCell<Option<State>>,
    source: RefCell<Option<Rc<Reader>>>,
}

struct State {
    writer: Writer,
    encoder: Encoder,
    /// What was taken from the source, and has still to be encoded.
    waiting: Bytes,
    /// Whether everything that was encoded has been written.
    is_flushed: bool,
}

impl Encoding {
    /// Encodes until the pipe is full, or there is no more.
    fn go_on(&self) {
        // Detach, then call: who is called meanwhile and comes back here finds nothing to do, and what
        // it brought is found by the loop.
        let Some(mut state) = self.state.take() else {
            return;
        };
        while !state.writer.is_full() {
            if !state.waiting.is_empty() {
                let size = state.waiting.len().min(AT_ONCE);
                let piece = state.waiting.split_to(size);
                state.write(|encoder, output| encoder.encode(&piece, output));
                state.is_flushed = false;
                continue;
            }
            let source = self.source.borrow().clone();
            let Some(source) = source else { return };
            match source.next() {
                Next::Data(piece) => state.waiting = piece,
                // Somebody may wait for what was written so far.
                Next::Nothing if !state.is_flushed => {
                    state.write(Encoder::flush);
                    state.is_flushed = true;
                }
                Next::Nothing => break,
                Next::End(outcome) => {
                    self.let_go();
                    return state.end(outcome);
                }
            }
        }
        self.state.replace(Some(state));
    }

    /// Nobody reads any more, or there is nothing more to be read.
    fn let_go(&self) {
        let (state, source) = (self.state.take(), self.source.take());
        if let Some(source) = &source {
            source.forget_on_data();
        }
        drop((state, source));
    }
}

impl State {
    fn write(&mut self, make: impl FnOnce(&mut Encoder, &mut Vec<u8>)) {
        let mut output = Vec::new();
        make(&mut self.encoder, &mut output);
        self.writer.write(output.into());
    }

    fn end(self, outcome: Result<HeaderMap, torsade_deferred::Failure>) {
        match outcome {
            Ok(trailers) => {
                let mut output = Vec::new();
                self.encoder.finish(&mut output);
                self.writer.write(output.into());
                self.writer.finish(trailers);
            }
            Err(failure) => self.writer.fail(failure),
        }
    }
}
