//! Bodies that come compressed, as they were meant: RFC 9110 §8.4.

use std::cell::RefCell;
use std::rc::Rc;

use http::header;

use super::super::body::Body;
use super::super::coding::Decoder;
use super::super::negotiate::Coding;
use super::super::pipe::{self, Demand, Next, Reader, Writer};
use super::super::response::Response;

/// How much of a decoded body waits for its reader, and is decoded at a time.
const READY: usize = 64 * 1024;
const PIECE: usize = 16 * 1024;

/// The response with its body decoded, if it was coded as we know; without `Content-Encoding` and
/// `Content-Length` then, which were about the bytes on the way.
pub(super) fn decoded(mut response: Response, limit: u64) -> Response {
    let headers = response.headers_mut();
    let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
    let coding = match (values.next(), values.next()) {
        // Coded twice it stays as it is.
        (Some(value), None) => value.to_str().ok().and_then(Coding::from_name),
        _ => None,
    };
    let Some(coding) = coding.filter(|coding| *coding != Coding::Identity) else {
        return response;
    };
    headers.remove(header::CONTENT_ENCODING);
    headers.remove(header::CONTENT_LENGTH);
    response.map(|body| match body.into_reader() {
        Some(reader) => decode(reader, coding, limit),
        None => Body::empty(),
    })
}

fn decode(coded: Rc<Reader>, coding: Coding, limit: u64) -> Body {
    let (writer, reader) = pipe::pipe(READY);
    if coded.ends_with_connection() {
        writer.ends_with_connection();
    }
    let decoding = Rc::new(Decoding {
        coded,
        work: RefCell::new(Some(Work {
            writer,
            decoder: Decoder::new(coding, limit),
            rest: bytes::Bytes::new(),
        })),
    });
    // The writer keeps the rest; that one keeps itself by what it is called with.
    let demanded = Rc::clone(&decoding);
    if let Some(work) = &*decoding.work.borrow() {
        work.writer
            .on_demand(move |demand| demanded.demanded(demand));
    }
    Body::of_pipe(reader, None)
}

struct Decoding {
    coded: Rc<Reader>,
    /// Out of its place while it works, and after the end.
    work: RefCell<Option<Work>>,
}

struct Work {
    writer: Writer,
    decoder: Decoder,
    /// What came and is not decoded.
    rest: bytes::Bytes,
}

impl Decoding {
    fn demanded(self: &Rc<Self>, demand: Demand) {
        match demand {
            Demand::Wanted => {
                let weak = Rc::downgrade(self);
                self.coded.on_data(move || {
                    if let Some(decoding) = weak.upgrade() {
                        decoding.go_on();
                    }
                });
                self.go_on();
            }
            Demand::Room => self.go_on(),
            Demand::Gone => {
                self.coded.forget_on_data();
                let work = self.work.take();
                drop(work);
            }
        }
    }

    /// Decodes until the pipe is full, or nothing is left.
    fn go_on(&self) {
        // Detach, then call: out of its place, so that what the reader does meanwhile only asks.
        let Some(mut work) = self.work.take() else {
            return;
        };
        loop {
            if work.writer.is_full() || !work.writer.is_read() {
                break;
            }
            let mut out = Vec::new();
            match work.decoder.decode(&work.rest, &mut out, PIECE) {
                Ok(used) => work.rest = work.rest.slice(used..),
                Err(error) => {
                    self.coded.forget_on_data();
                    return work.writer.fail(error.into());
                }
            }
            if !out.is_empty() {
                work.writer.write(out.into());
                continue;
            }
            match self.coded.next() {
                Next::Data(piece) => work.rest = piece,
                Next::Nothing => break,
                Next::End(Ok(trailers)) => {
                    self.coded.forget_on_data();
                    return match work.decoder.finish() {
                        Ok(()) => work.writer.finish(trailers),
                        Err(error) => work.writer.fail(error.into()),
                    };
                }
                Next::End(Err(failure)) => {
                    self.coded.forget_on_data();
                    return work.writer.fail(failure);
                }
            }
        }
        if work.writer.is_read() {
            self.work.replace(Some(work));
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use torsade_reactor::testing::{failure_of, no_result, success_of};

    use super::super::super::coding::{DecodeError, Encoder};
    use super::*;

    fn coded(text: &[u8]) -> Vec<u8> {
        let (mut encoder, mut out) = (Encoder::new(Coding::Gzip), Vec::new());
        encoder.encode(text, &mut out);
        encoder.finish(&mut out);
        out
    }

    fn response(body: Body) -> Response {
        let mut response = Response::new(body);
        let gzip = HeaderValue::from_static("gzip");
        response
            .headers_mut()
            .insert(header::CONTENT_ENCODING, gzip);
        response
    }

    #[test]
    fn a_body_is_decoded_and_says_so() {
        let response = decoded(response(Body::from(coded(b"one two"))), 100);
        assert!(response.headers().is_empty());
        assert_eq!(success_of(response.into_body().read(100)), "one two");
    }

    #[test]
    fn what_comes_in_pieces_is_decoded_in_pieces() {
        let (sender, body) = Body::channel();
        let read = decoded(response(body), 1 << 20).into_body().read(1 << 20);
        let text = b"three ".repeat(100_000);
        for piece in coded(&text).chunks(100) {
            no_result(&read);
            sender.write(piece.to_vec()).expect("it is read");
        }
        sender.finish();
        assert_eq!(success_of(read), text);
    }

    #[test]
    fn a_few_bytes_do_not_become_more_than_the_limit() {
        let bomb = coded(&vec![0; 1 << 20]);
        assert!(bomb.len() < 2000);
        let body = decoded(response(Body::from(bomb)), 1000).into_body();
        let failure = failure_of(body.read(1 << 20));
        assert_eq!(
            failure.downcast_ref(),
            Some(&DecodeError::TooLong { limit: 1000 })
        );
    }

    #[test]
    fn the_reader_sets_the_pace() {
        let (sender, body) = Body::channel();
        let mut body = decoded(response(body), 1 << 30).into_body();
        success_of(sender.ready());
        let bomb = coded(&vec![0; 100 << 20]);
        sender.write(bomb).expect("it is read");
        let first = success_of(body.next_piece()).expect("a piece");
        assert_eq!(first.len(), PIECE);
        drop(body);
        assert!(sender.write("more").is_err());
    }

    #[test]
    fn a_body_that_ends_too_early_is_not_whole() {
        let mut cut = coded(b"one two");
        cut.pop();
        let body = decoded(response(Body::from(cut)), 100).into_body();
        assert!(failure_of(body.read(100)).check::<DecodeError>());
    }

    #[test]
    fn what_is_coded_otherwise_stays_as_it_is() {
        let mut strange = response(Body::from("x"));
        let value = HeaderValue::from_static("br");
        strange
            .headers_mut()
            .insert(header::CONTENT_ENCODING, value);
        let response = decoded(strange, 100);
        assert_eq!(response.headers()[header::CONTENT_ENCODING], "br");
        assert_eq!(success_of(response.into_body().read(100)), "x");
    }
}
