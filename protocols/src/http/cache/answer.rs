//! A stored answer as the response to a request: whole, a part of it, its head, or 304. Pure.

use std::rc::Rc;
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderValue,
};
use http::{HeaderMap, Method, StatusCode};

use super::super::body::Body;
use super::super::conditional::{Precondition, Validators, evaluate, range_applies};
use super::super::pipe;
use super::super::ranges::{ByteRange, ContentRange, MultipartRanges, Selection, select};
use super::super::response::Response;
use super::super::static_files::boundary;
use super::freshness::Stored;
use super::plan;
use super::recording::Recording;

/// What goes with a stored answer.
#[derive(Clone)]
pub(super) enum Content {
    /// All of it.
    Whole(Bytes),
    /// What is still coming.
    Coming(Rc<Recording>),
}

/// Whether its age is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Told {
    /// It comes from what is stored.
    WithAge,
    /// The origin has just made it, or said that it holds (RFC 9111 §5.1).
    AsItCame,
}

/// The response to a request with this method and these fields.
pub(super) fn answer(
    stored: &Stored,
    content: &Content,
    method: &Method,
    headers: &HeaderMap,
    now: SystemTime,
    told: Told,
) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = stored.status();
    *response.headers_mut() = match told {
        Told::WithAge => stored.answer_headers(now),
        Told::AsItCame => stored.headers().clone(),
    };
    let is_ok = stored.status() == StatusCode::OK;
    // As most do: then nothing is made of the fields.
    let is_for_all = plan::asks_for_all(headers);
    if is_ok && !is_for_all && is_not_modified(stored, method, headers) {
        not_modified(&mut response);
        return response;
    }
    match content {
        // What is not sent is not asked for.
        _ if *method == Method::HEAD => {
            if let Content::Whole(content) = content {
                let fields = response.headers_mut();
                fields.insert(CONTENT_LENGTH, HeaderValue::from(content.len()));
            }
        }
        Content::Coming(recording) => *response.body_mut() = recording.body(),
        Content::Whole(content) if is_for_all => {
            *response.body_mut() = untyped(content.clone());
        }
        Content::Whole(content) => {
            let validators = stored.validators();
            let selection = match is_ok && range_applies(method, headers, &validators, now) {
                true => select(headers, content.len() as u64),
                false => Selection::Whole,
            };
            select_from(&mut response, content, selection, &validators, now);
        }
    }
    response
}

/// §4.3.2
fn is_not_modified(stored: &Stored, method: &Method, headers: &HeaderMap) -> bool {
    let mut validators = stored.validators();
    // Who was never told when it was changed asks whether it was since it was made.
    let date = stored.date();
    validators.last_modified.get_or_insert(date);
    evaluate(method, headers, Some(&validators)) == Precondition::NotModified
}

/// RFC 9110 §15.4.5: without what tells of the content.
fn not_modified(response: &mut Response) {
    let headers = response.headers_mut();
    for name in [
        CONTENT_TYPE,
        CONTENT_ENCODING,
        CONTENT_LENGTH,
        CONTENT_RANGE,
    ] {
        headers.remove(name);
    }
    *response.status_mut() = StatusCode::NOT_MODIFIED;
}

/// RFC 9110 §14
fn select_from(
    response: &mut Response,
    content: &Bytes,
    selection: Selection,
    validators: &Validators,
    now: SystemTime,
) {
    let length = content.len() as u64;
    let part = |range: ByteRange| {
        let begin = usize::try_from(range.first).expect("it is within what is in memory");
        let count = usize::try_from(range.len()).expect("it is within what is in memory");
        content.slice(begin..begin + count)
    };
    let headers = response.headers_mut();
    let (status, body) = match selection {
        Selection::Whole => {
            *response.body_mut() = untyped(content.clone());
            return;
        }
        Selection::Parts(parts) if parts.len() == 1 => {
            let range = ContentRange::part(parts[0], length);
            headers.insert(CONTENT_RANGE, range.to_value());
            (StatusCode::PARTIAL_CONTENT, untyped(part(parts[0])))
        }
        Selection::Parts(parts) => {
            let boundary = boundary(validators, &parts, now);
            let content_type = headers.get(CONTENT_TYPE);
            let layout = MultipartRanges::new(&parts, length, content_type, boundary);
            headers.insert(CONTENT_TYPE, layout.content_type());
            let (writer, reader) = pipe::pipe(usize::MAX);
            for (range, head) in layout.parts() {
                writer.write(Bytes::copy_from_slice(head));
                writer.write(part(range));
            }
            writer.write(Bytes::copy_from_slice(layout.end()));
            writer.finish(HeaderMap::new());
            let body = Body::of_pipe(reader, Some(layout.content_length()));
            (StatusCode::PARTIAL_CONTENT, body)
        }
        Selection::NotSatisfiable => {
            let range = ContentRange::unsatisfied(length);
            headers.insert(CONTENT_RANGE, range.to_value());
            headers.remove(CONTENT_TYPE);
            (StatusCode::RANGE_NOT_SATISFIABLE, Body::empty())
        }
    };
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let length = body.length().unwrap_or_default();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    *response.status_mut() = status;
    *response.body_mut() = body;
}

/// Without a type of ours: what the origin did not say is not known.
fn untyped(content: Bytes) -> Body {
    let mut body = Body::from(content);
    body.media_type = None;
    body
}
