//! Responses that are sent again and again as they are: their fields are written once.

use std::fmt;
use std::rc::Rc;

use bytes::Bytes;
use http::HeaderMap;
use http::header::DATE;

use super::body::Body;
use super::encode::{self, Beginning};
use super::response::Response;

/// A response that stays the same for a while, with 200: its content is in memory, and its fields are written
/// already. A cheap clone.
///
/// [`StaticFiles`](super::StaticFiles) answers with it, as [`Answer::Kept`](super::Answer::Kept).
#[derive(Clone)]
pub struct KeptResponse(Rc<Kept>);

struct Kept {
    headers: HeaderMap,
    /// As they are sent behind the line of the status, or the date: the length and the empty line are the last of them.
    fields: Vec<u8>,
    has_date: bool,
    content: Bytes,
}

impl KeptResponse {
    /// With these fields and no others, but for those that say how it is framed, and the date, if it has none.
    pub(super) fn new(headers: HeaderMap, content: Bytes) -> Self {
        let mut fields = Vec::new();
        encode::write_kept_fields(&mut fields, &headers, content.len() as u64);
        Self(Rc::new(Kept {
            has_date: headers.contains_key(DATE),
            headers,
            fields,
            content,
        }))
    }

    /// Writes all but the content, on a connection of HTTP/1.1 that lasts.
    pub(super) fn write_head(&self, out: &mut Vec<u8>, beginning: &Beginning) {
        out.extend_from_slice(match self.0.has_date {
            true => encode::STATUS_LINE,
            false => beginning,
        });
        out.extend_from_slice(&self.0.fields);
    }

    /// What it is about.
    #[must_use]
    pub fn content(&self) -> &Bytes {
        &self.0.content
    }

    /// The same as any other response: to be changed, or looked at.
    #[must_use]
    pub fn to_response(&self) -> Response {
        let mut body = Body::from(self.0.content.clone());
        body.media_type = None;
        let mut response = Response::new(body);
        response.headers_mut().clone_from(&self.0.headers);
        response
    }
}

impl fmt::Debug for KeptResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptResponse")
            .field("headers", &self.0.headers)
            .field("length", &self.0.content.len())
            .finish_non_exhaustive()
    }
}
