//! A request, as a handler gets it.

use std::any::Any;
use std::fmt;
use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Uri, Version};
use serde::de::DeserializeOwned;
use torsade_deferred::{Deferred, fail};
use torsade_reactor::{Address, Reactor, Stream};

use super::body::Body;
use super::conditional::{Precondition, Validators, evaluate};
use super::cookies::request_cookies;
use super::error::StatusError;
use super::fetch::PlainGet;
use super::forms::Form;
use super::head::RequestHead;
use super::recycled::{Place, Recycled};
use super::server::Interim;

/// A request that came, with the connection that it came on.
///
/// Its parts are those of the `http` crate; they are made when somebody asks for them.
pub struct Request {
    /// `None` only while it is taken apart.
    parts: Option<Box<Parts>>,
    recycled: Rc<Recycled>,
}

/// What a request consists of: in a box, so that it is moved cheaply, and is used again for the next one.
pub(super) struct Parts {
    pub(super) head: RequestHead,
    pub(super) body: Body,
    /// `None` only before the request begins.
    pub(super) stream: Option<Rc<dyn Stream>>,
    pub(super) body_max: usize,
    pub(super) place: Place,
    parameters: Parameters,
    /// How many bytes of the path stand before what a nested handler takes for it.
    above: usize,
    extension: Option<Box<dyn Any>>,
}

/// What a router found in the path: name and value, decoded.
pub(super) type Parameters = Vec<(Box<str>, String)>;

impl Parts {
    pub(super) fn empty() -> Self {
        Self {
            head: RequestHead::empty(),
            body: Body::empty(),
            stream: None,
            body_max: 0,
            place: (0, 0),
            parameters: Vec::new(),
            above: 0,
            extension: None,
        }
    }

    fn stream(&self) -> &Rc<dyn Stream> {
        let stream = self.stream.as_ref();
        stream.expect("a request came on a connection")
    }

    /// Forgets everything but its memory, and what was asked.
    pub(super) fn clear_all_but_head(&mut self) {
        self.head.forget_what_was_made();
        self.body = Body::empty();
        self.stream = None;
        self.parameters.clear();
        self.above = 0;
        self.extension = None;
    }
}

impl Request {
    pub(super) fn new(parts: Box<Parts>, recycled: Rc<Recycled>) -> Self {
        Self {
            parts: Some(parts),
            recycled,
        }
    }

    fn parts(&self) -> &Parts {
        self.parts.as_ref().expect(WHOLE)
    }

    fn parts_mut(&mut self) -> &mut Parts {
        self.parts.as_mut().expect(WHOLE)
    }

    fn head(&self) -> &RequestHead {
        &self.parts().head
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> &Method {
        self.head().method()
    }

    /// The target, in whatever form it came (RFC 9112 §3.2).
    #[must_use]
    pub fn uri(&self) -> &Uri {
        self.head().uri()
    }

    /// The path, as it came: percent-encoded.
    #[must_use]
    pub fn path(&self) -> &str {
        self.head().path()
    }

    /// The query, as it came, without the question mark.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.uri().query()
    }

    /// The fields of the query, decoded: `?name=Ada+Lovelace&tag=a&tag=b`.
    #[must_use]
    pub fn query_pairs(&self) -> Form {
        // As many as there is room for in a target, which has a limit.
        let query = self.query().unwrap_or_default();
        Form::parse_with_limit(query.as_bytes(), usize::MAX).unwrap_or_default()
    }

    /// The target, as it came.
    #[must_use]
    pub fn target(&self) -> &str {
        self.head().target()
    }

    /// HTTP/1.0 or 1.1.
    #[must_use]
    pub fn version(&self) -> Version {
        self.head().version()
    }

    /// The header fields.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        self.head().headers()
    }

    /// The value of the first header of this name, in whatever case: quicker than
    /// [`headers`](Self::headers), where one is all that is wanted.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.head().header(name)
    }

    /// As [`header`](Self::header); `None` also for a value that is not UTF-8.
    #[must_use]
    pub fn header_text(&self, name: &str) -> Option<&str> {
        str::from_utf8(self.header(name)?).ok()
    }

    /// The value of the first cookie of that name, as it was sent.
    #[must_use]
    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.cookies()
            .find_map(|(found, value)| (found == name).then_some(value))
    }

    /// All cookies, name and value; see [`request_cookies`].
    pub fn cookies(&self) -> impl Iterator<Item = (&str, &str)> {
        request_cookies(self.headers())
    }

    /// A part of the path that a router took for a parameter, decoded. Of two with that name, the one of
    /// the innermost router.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let mut parameters = self.parts().parameters.iter().rev();
        let found = parameters.find(|(known, _)| **known == *name)?;
        Some(&found.1)
    }

    pub(super) fn add_parameters(&mut self, parameters: Parameters) {
        self.parts_mut().parameters.extend(parameters);
    }

    /// The path, as it came, from where the handler was nested: with [`Routes::nest`](super::Routes::nest)
    /// below `/static` that is `/a` for `/static/a`, and `/` for `/static` itself. Elsewhere all of it.
    #[must_use]
    pub fn path_below(&self) -> &str {
        match &self.path()[self.parts().above..] {
            "" => "/",
            path => path,
        }
    }

    /// What stands before [`path_below`](Self::path_below): `/static`, or nothing.
    #[must_use]
    pub fn path_above(&self) -> &str {
        &self.path()[..self.parts().above]
    }

    /// Goes so many segments down.
    pub(super) fn descend(&mut self, segments: usize) {
        let path = &self.path()[self.parts().above..];
        let mut slashes = path.match_indices('/').map(|(at, _)| at);
        let length = slashes.nth(segments).unwrap_or(path.len());
        self.parts_mut().above += length;
    }

    /// What somebody before the handler has left for it; see [`set_extension`](Self::set_extension).
    #[must_use]
    pub fn extension<T: 'static>(&self) -> Option<&T> {
        self.parts().extension.as_ref()?.downcast_ref()
    }

    /// Leaves something for the handler: who is logged in, for instance.
    pub fn set_extension<T: 'static>(&mut self, value: T) {
        self.parts_mut().extension = Some(Box::new(value));
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &Body {
        &self.parts().body
    }

    /// The body, to be read in time. A request whose body is not taken by anybody has it thrown away.
    pub fn take_body(&mut self) -> Body {
        std::mem::take(&mut self.parts_mut().body)
    }

    /// Reads the whole body: [`Body::read`], up to the server's limit.
    pub fn read_body(&mut self) -> Deferred<Bytes> {
        let limit = self.parts().body_max;
        self.take_body().read(limit)
    }

    /// Reads the whole body as JSON, up to the server's limit.
    ///
    /// Fails as [`Body::read`] does. What is no JSON, or none of this type, is the client's fault: a
    /// [`StatusError`] of 400, which says what is wrong.
    pub fn read_json<T: DeserializeOwned + 'static>(&mut self) -> Deferred<T> {
        self.read_body().add_callback(|bytes| {
            serde_json::from_slice(&bytes).map_err(|error| {
                StatusError::because(StatusCode::BAD_REQUEST, error.to_string()).into()
            })
        })
    }

    /// Reads the whole body as a form, `application/x-www-form-urlencoded`, up to the server's limit and
    /// [`FIELDS_MAX`](super::forms::FIELDS_MAX) fields.
    ///
    /// Fails as [`Body::read`] does, and with a [`StatusError`]: 415 for a body that says that it is
    /// something else, 413 for too many fields.
    pub fn read_form(&mut self) -> Deferred<Form> {
        let media_type = self.header_text("content-type").unwrap_or_default();
        let media_type = media_type.split(';').next().unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return fail(StatusError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        }
        self.read_body().add_callback(|bytes| {
            Form::parse(&bytes).map_err(|error| {
                StatusError::because(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()).into()
            })
        })
    }

    /// Whether the client asks to go on in this protocol, `"websocket"` for instance; see
    /// [`switch_protocols`](super::switch_protocols). Not by a request with a body, which is answered in HTTP (RFC 9110
    /// §7.8 lets a server do so).
    #[must_use]
    pub fn wants_upgrade(&self, protocol: &str) -> bool {
        let asked = self.head().wants_upgrade();
        asked
            && self
                .headers()
                .get_all(http::header::UPGRADE)
                .iter()
                .filter_map(|value| value.to_str().ok())
                .flat_map(|value| value.split(','))
                .any(|name| name.trim().eq_ignore_ascii_case(protocol))
    }

    /// What the conditions of the request say of what there is now; see
    /// [`answer_conditionally`](super::answer_conditionally).
    #[must_use]
    pub fn precondition(&self, current: &Validators) -> Precondition {
        // Most have none, and then nothing is made of their fields.
        if !self.head().has_field_beginning("if-") {
            return Precondition::Proceed;
        }
        evaluate(self.method(), self.headers(), Some(current))
    }

    /// Whether it asks for all there is, on no condition: for no range, and not if something is so.
    pub(super) fn asks_for_all(&self) -> bool {
        !self.head().has_condition_or_range()
    }

    /// The same as a question for a cache, if its URL is all that matters of it.
    pub(super) fn as_plain_get(&self) -> Option<PlainGet<'_>> {
        if !self.head().is_plain_get() {
            return None;
        }
        Some(PlainGet {
            scheme: if self.is_secure() { "https" } else { "http" },
            host: self.header_text("host")?,
            target: self.target(),
        })
    }

    /// The client's address: of the connection. Behind a proxy, that proxy's.
    #[must_use]
    pub fn peer(&self) -> Address {
        self.stream().socket().peer()
    }

    /// Our own address.
    #[must_use]
    pub fn host_address(&self) -> Address {
        self.stream().socket().host()
    }

    /// Whether it came through TLS that ends here. Behind a proxy, that is said of the way from there.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        #[cfg(feature = "tls")]
        if self.stream().find::<crate::tls::TlsStream>().is_some() {
            return true;
        }
        // Without TLS there is nothing to find.
        false
    }

    /// What sends interim responses to this request, before its response: hints of what a browser will
    /// need, for instance.
    #[must_use]
    pub fn interim(&self) -> Interim {
        Interim::new(self.recycled.site(), self.parts().place)
    }

    /// The reactor that drives the connection.
    #[must_use]
    pub fn reactor(&self) -> Reactor {
        self.stream().socket().reactor()
    }

    /// Has the request end when its client ends its stream: nobody is answered any more, and what the handler
    /// has begun is cancelled. For what is dear to answer, or takes for ever; the proxies do it.
    ///
    /// A client that goes away and one that has but said all that it wants to say look the same, until
    /// something is written to them. Without this, both get their response (RFC 9112 §9.6). It counts when the turn of
    /// this request has come: those before it on its connection are answered first. Called when the client has ended its
    /// stream already, or while what it sends is not read, it does nothing.
    pub fn end_with_client(&self) {
        self.recycled.end_with_client(self.parts().place);
    }

    /// The connection, for what lies below: `request.stream().find::<TlsStream>()` is the TLS that it
    /// came through. Not to be written to.
    #[must_use]
    pub fn stream(&self) -> &Rc<dyn Stream> {
        self.parts().stream()
    }

    /// The request in the types of the `http` crate.
    #[must_use]
    pub fn into_http(mut self) -> http::Request<Body> {
        let body = self.take_body();
        let head = &mut self.parts_mut().head;
        let mut request = http::Request::new(body);
        *request.version_mut() = head.version();
        *request.uri_mut() = head.take_uri();
        *request.headers_mut() = head.take_headers();
        *request.method_mut() = head.take_method();
        request
    }
}

const WHOLE: &str = "a request is whole until it is dropped";

impl Drop for Request {
    fn drop(&mut self) {
        if let Some(parts) = self.parts.take() {
            self.recycled.give_back(parts);
        }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", self.method())
            .field("target", &self.target())
            .field("body", self.body())
            .finish_non_exhaustive()
    }
}
