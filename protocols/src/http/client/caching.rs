//! Requests that go through a cache on their way: one hop at a time, so that redirects are followed, cookies
//! kept and bodies decoded behind it, and it sees what the servers see.

use std::rc::Rc;

use http::Request;
use http::header::{self, HeaderMap, HeaderValue};
use torsade_deferred::{Deferred, Failure};

use super::super::body::{Body, Source};
use super::super::cache::Cache;
use super::super::fetch::{Fetch, InterimHook};
use super::super::response::Response;
use super::error::{ClientError, ClientErrorKind};
use super::exchange::{Content, Exchange, Place};
use super::url::Url;
use super::{Client, ClientCore, ClientRequest};

/// What the cache asks with.
struct Hop {
    client: Client,
}

impl Fetch for Hop {
    fn fetch(&self, request: ClientRequest) -> Deferred<Response> {
        self.ask(request, None)
    }

    fn fetch_with_interims(
        &self,
        request: ClientRequest,
        hook: &InterimHook,
    ) -> Deferred<Response> {
        self.ask(request, Some(hook.clone()))
    }
}

impl Hop {
    fn ask(&self, request: ClientRequest, hook: Option<InterimHook>) -> Deferred<Response> {
        let (client, uri) = (self.client.clone(), request.uri().clone());
        // Cookies come with what a server says, and never with what is stored.
        let asked = self.client.forward_to(request, None, hook);
        asked.map(move |response| {
            if let (Some(jar), Ok(url)) = (&client.core.settings.cookies, Url::new(uri)) {
                client.core.keep_cookies(jar, &url, response.headers());
            }
            response
        })
    }
}

impl Exchange {
    /// Has itself answered by the cache, or by whom that asks.
    pub(super) fn go_through(self: &Rc<Self>, cache: &Cache) {
        let client = Client {
            core: Rc::clone(self.client()),
        };
        let next: Rc<dyn Fetch> = Rc::new(Hop { client });
        // The cache knows when nobody is to be told: who asked may have its answer, or have gone.
        let hook = self.interim_hook();
        let answering = cache.fetch_and_tell(self.hop(), &next, hook.as_ref());
        self.stay(Place::Cached(answering.canceller()));
        let (exchange, leg) = (Rc::clone(self), self.leg());
        // Dropped: both ends are handled.
        drop(
            answering.add_both(move |outcome: Result<Response, Failure>| {
                if exchange.leg() != leg || !exchange.is_awaited() {
                    return;
                }
                exchange.stay(Place::Nowhere);
                match outcome {
                    Ok(response) => exchange.answered(response, None),
                    Err(failure) => {
                        let failure = match failure.check::<ClientError>() {
                            true => failure,
                            false => exchange.failure(ClientErrorKind::Closed),
                        };
                        exchange.fail_with(failure);
                    }
                }
            }),
        );
    }

    /// The request, with all that is sent.
    fn hop(&self) -> ClientRequest {
        let mut draft = self.draft().borrow_mut();
        let body = match draft.content.take() {
            Content::Empty | Content::Spent => Body::empty(),
            Content::Bytes(bytes) => Source::Bytes(bytes).into(),
            Content::File(part) => Source::File(part).into(),
            Content::Stream { reader, length } => Source::Pipe { reader, length }.into(),
        };
        let mut headers = draft.headers.clone();
        self.client().add_to(&mut headers, &draft.url);
        let mut request = Request::new(body);
        *request.method_mut() = draft.method.clone();
        *request.uri_mut() = draft.url.uri().clone();
        *request.headers_mut() = headers;
        request
    }
}

impl ClientCore {
    /// Adds what the client has to say by itself; as it is written where there is no cache.
    fn add_to(&self, headers: &mut HeaderMap, url: &Url) {
        let settings = &self.settings;
        for (name, value) in &settings.defaults {
            if !headers.contains_key(name) {
                headers.insert(name, value.clone());
            }
        }
        let is_decoded = settings.decodes && !headers.contains_key(header::ACCEPT_ENCODING);
        if is_decoded && !headers.contains_key(header::RANGE) {
            let value = HeaderValue::from_static("gzip, deflate");
            headers.insert(header::ACCEPT_ENCODING, value);
        }
        if let Some(jar) = &settings.cookies
            && !headers.contains_key(header::COOKIE)
            && let Some(cookies) = self.cookies_for(jar, url)
        {
            headers.insert(header::COOKIE, cookies);
        }
    }
}
