//! What a handler may answer with.

use std::fmt;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response as HttpResponse, StatusCode};
use serde::Serialize;
use torsade_deferred::{Deferred, Failure, fail, succeed};

use super::body::Body;
use super::conditional::{Precondition, Validators};
use super::cookies::Cookie;
use super::dates::date_value;
use super::error::StatusError;
use super::kept::KeptResponse;
use super::request::Request;

/// A response, with the body of this crate.
pub type Response = HttpResponse<Body>;

/// What can be made a response.
///
/// Text, bytes, a [`Body`], a status, a status and a body, [`Json`], a response with any of these
/// bodies; and an `Option` of one, where nothing is 404.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a response",
    note = "text, bytes, a `Body`, a `StatusCode`, `(StatusCode, body)`, `Json(value)` and \
            `http::Response<Body>` are; and `Option`, `Result` and `Deferred` of them"
)]
pub trait IntoResponse {
    /// The response.
    fn into_response(self) -> Response;

    /// The same as an answer: [`Answer::Body`], where a body says it all.
    fn into_answer_now(self) -> Answer
    where
        Self: Sized,
    {
        Answer::Now(self.into_response())
    }
}

/// An answer to a request: a response, now or later, or a failure.
///
/// Made by [`IntoAnswer`].
pub enum Answer {
    /// Here it is.
    Now(Response),
    /// Here is a body, and nothing else is to be said of it: 200, and the type that the body knows. What text,
    /// bytes and [`Json`] make: quicker than a [`Response`] around them, which has room for more.
    Body(Body),
    /// Here is one that has been put together before, and is sent again as it is. [`map`](Self::map) and
    /// [`into_deferred`](Self::into_deferred) make a [`Response`] of it.
    Kept(KeptResponse),
    /// It will come.
    Later(Deferred<Response>),
    /// Something went wrong: [`StatusError::status_of`](super::StatusError::status_of) says what is sent.
    Failed(Failure),
}

/// What a handler may return: whatever is a response, a `Result` or a Deferred of it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not answer a request",
    note = "a handler returns a response (text, bytes, `Body`, `StatusCode`, `Json`, `http::Response<Body>`), \
            a `Result` of one, or a `Deferred` of one"
)]
pub trait IntoAnswer {
    /// The answer.
    fn into_answer(self) -> Answer;
}

/// Answers requests. Implemented for closures.
pub trait Handler: 'static {
    /// Called for each request, when its head has come; its body may still be under way.
    ///
    /// Called on the reactor's thread, from inside `data_received`. A panic is answered with 500.
    fn handle(&self, request: Request) -> Answer;
}

impl<F, R> Handler for F
where
    F: Fn(Request) -> R + 'static,
    R: IntoAnswer,
{
    fn handle(&self, request: Request) -> Answer {
        self(request).into_answer()
    }
}

impl<T: IntoResponse> IntoAnswer for T {
    fn into_answer(self) -> Answer {
        self.into_answer_now()
    }
}

impl<T: IntoResponse, E: Into<Failure>> IntoAnswer for Result<T, E> {
    fn into_answer(self) -> Answer {
        match self {
            Ok(response) => response.into_answer_now(),
            Err(error) => Answer::Failed(error.into()),
        }
    }
}

impl<T: IntoResponse + 'static> IntoAnswer for Deferred<T> {
    fn into_answer(self) -> Answer {
        match self.into_result() {
            Ok(result) => result.into_answer(),
            Err(waiting) => Answer::Later(waiting.map(T::into_response)),
        }
    }
}

impl Answer {
    /// Changes the response, when it is there. A failure stays one: the server makes its response.
    #[must_use]
    pub fn map(self, change: impl FnOnce(Response) -> Response + 'static) -> Self {
        match self {
            Self::Now(response) => Self::Now(change(response)),
            Self::Body(body) => Self::Now(change(Response::new(body))),
            Self::Kept(kept) => Self::Now(change(kept.to_response())),
            Self::Later(waiting) => Self::Later(waiting.map(change)),
            Self::Failed(failure) => Self::Failed(failure),
        }
    }

    /// The response, in time: what a test, or a layer with more to do, waits for.
    pub fn into_deferred(self) -> Deferred<Response> {
        match self {
            Self::Now(response) => succeed(response),
            Self::Body(body) => succeed(Response::new(body)),
            Self::Kept(kept) => succeed(kept.to_response()),
            Self::Later(waiting) => waiting,
            Self::Failed(failure) => fail(failure),
        }
    }
}

impl From<StatusError> for Answer {
    fn from(error: StatusError) -> Self {
        Self::Failed(error.into())
    }
}

impl IntoAnswer for StatusError {
    fn into_answer(self) -> Answer {
        self.into()
    }
}

impl IntoAnswer for Answer {
    fn into_answer(self) -> Answer {
        self
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now(response) => write!(f, "Answer::Now({})", response.status()),
            Self::Body(body) => write!(f, "Answer::{body:?}"),
            Self::Kept(kept) => write!(f, "Answer::{kept:?}"),
            Self::Later(_) => f.write_str("Answer::Later(..)"),
            Self::Failed(failure) => write!(f, "Answer::Failed({failure})"),
        }
    }
}

impl<B: Into<Body>> IntoResponse for HttpResponse<B> {
    fn into_response(self) -> Response {
        self.map(Into::into)
    }
}

macro_rules! responses_by_body {
    ($($body:ty),*) => {$(
        impl IntoResponse for $body {
            fn into_response(self) -> Response {
                HttpResponse::new(self.into())
            }

            fn into_answer_now(self) -> Answer {
                Answer::Body(self.into())
            }
        }
    )*};
}

responses_by_body!(
    (),
    Body,
    Bytes,
    String,
    Vec<u8>,
    &'static str,
    &'static [u8]
);

impl IntoResponse for StatusCode {
    fn into_response(self) -> Response {
        (self, Body::empty()).into_response()
    }
}

impl<T: IntoResponse> IntoResponse for (StatusCode, T) {
    fn into_response(self) -> Response {
        let mut response = self.1.into_response();
        *response.status_mut() = self.0;
        response
    }
}

impl<T: IntoResponse> IntoResponse for Option<T> {
    fn into_response(self) -> Response {
        match self {
            Some(response) => response.into_response(),
            None => StatusCode::NOT_FOUND.into_response(),
        }
    }
}

/// A value, as JSON. One that cannot be written as JSON is answered with 500.
#[derive(Clone, Copy, Debug)]
pub struct Json<T>(pub T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match Body::json(&self.0) {
            Ok(body) => HttpResponse::new(body),
            Err(failure) => {
                super::server::report(failure);
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }

    fn into_answer_now(self) -> Answer {
        match Body::json(&self.0) {
            Ok(body) => Answer::Body(body),
            Err(failure) => Answer::Failed(failure),
        }
    }
}

/// Has the client keep a cookie, or throw it away ([`Cookie::removal`]).
///
/// ```
/// use torsade_protocols::http::cookies::{BadCookie, Cookie, SameSite};
/// use torsade_protocols::http::{Request, Response, StatusCode, redirect, set_cookie};
///
/// fn log_in(_: Request) -> Result<Response, BadCookie> {
///     let cookie = Cookie::new("session", "31d4d96e407aad42")?;
///     let cookie = cookie.path("/")?.http_only().same_site(SameSite::Lax);
///     let mut response = redirect(StatusCode::SEE_OTHER, "/");
///     set_cookie(&mut response, &cookie);
///     Ok(response)
/// }
/// # drop(log_in);
/// ```
pub fn set_cookie(response: &mut Response, cookie: &Cookie) {
    let headers = response.headers_mut();
    headers.append(header::SET_COOKIE, cookie.to_value());
}

/// Sends the client elsewhere, with 303 (after a form), 307 (the same request there) or another of
/// these statuses. A location that cannot be a header is answered with 500.
#[must_use]
pub fn redirect(status: StatusCode, location: &str) -> Response {
    match HeaderValue::from_str(location) {
        Ok(value) => {
            let mut response = status.into_response();
            response.headers_mut().insert(header::LOCATION, value);
            response
        }
        Err(error) => {
            super::server::report(error.into());
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Answers as the conditions of the request demand (RFC 9110 §13): 304 if the client has this state
/// already, 412 if it wants to change another one, and otherwise `response`, with `ETag` and
/// `Last-Modified`.
///
/// A response that is an error already is sent as it is. To know before the response is made, ask
/// [`Request::precondition`].
///
/// # Examples
///
/// ```
/// use torsade_protocols::http::conditional::{ETag, Validators};
/// use torsade_protocols::http::{Body, Request, Response, answer_conditionally};
///
/// fn page(request: Request) -> Response {
///     let current = Validators { etag: ETag::strong("version-7").ok(), last_modified: None };
///     answer_conditionally(&request, &current, Body::html("<p>the seventh"))
/// }
/// # drop(page);
/// ```
#[must_use]
pub fn answer_conditionally(
    request: &Request,
    current: &Validators,
    response: impl IntoResponse,
) -> Response {
    let mut response = response.into_response();
    // RFC 9110 §13.2.1: only if it would be a success. 416 comes from a precondition of its own.
    let is_range_error = response.status() == StatusCode::RANGE_NOT_SATISFIABLE;
    if !response.status().is_success() && !is_range_error {
        return response;
    }
    let headers = response.headers_mut();
    if let (Some(etag), false) = (&current.etag, headers.contains_key(header::ETAG)) {
        headers.insert(header::ETAG, etag.to_value());
    }
    if let (Some(at), false) = (
        current.last_modified,
        headers.contains_key(header::LAST_MODIFIED),
    ) {
        headers.insert(header::LAST_MODIFIED, date_value(at));
    }
    match request.precondition(current) {
        Precondition::Proceed => response,
        Precondition::PreconditionFailed => StatusCode::PRECONDITION_FAILED.into_response(),
        Precondition::NotModified => {
            // §15.4.5: without what tells of the content.
            for name in [
                header::CONTENT_TYPE,
                header::CONTENT_ENCODING,
                header::CONTENT_LENGTH,
                header::CONTENT_RANGE,
            ] {
                headers.remove(name);
            }
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            *response.body_mut() = Body::empty();
            response
        }
    }
}
