//! The step from a request to its response: what proxies and caches have in common.

use std::fmt;
use std::rc::Rc;

use http::{HeaderMap, StatusCode};
use torsade_deferred::Deferred;

use super::client::{Client, ClientRequest};
use super::forwarding::remove_hop_by_hop;
use super::kept::KeptResponse;
use super::response::Response;
use super::server::Interim;

/// Gets the response to a request: a [`Client`], a closure, or a layer around another one, such as a
/// cache.
///
/// Called on the reactor's thread. The URI of the request is absolute. Fires when the head of the response
/// is there; its body comes as fast as somebody reads it.
///
/// # Cancellation
///
/// Nobody wants the response any more: whatever was begun for it is given up.
///
/// # Examples
///
/// A layer that counts:
///
/// ```
/// use std::cell::Cell;
/// use std::rc::Rc;
/// use torsade_protocols::http::{ClientRequest, Fetch};
///
/// fn counted(fetch: Rc<dyn Fetch>, count: Rc<Cell<u32>>) -> impl Fetch {
///     move |request: ClientRequest| {
///         count.set(count.get() + 1);
///         fetch.fetch(request)
///     }
/// }
/// # drop(counted);
/// ```
pub trait Fetch: 'static {
    /// Asks for the response to `request`.
    fn fetch(&self, request: ClientRequest) -> Deferred<Response>;

    /// As [`fetch`](Self::fetch), and tells `hook` of the interim responses that come before it. By default, nobody
    /// is told.
    fn fetch_with_interims(
        &self,
        request: ClientRequest,
        hook: &InterimHook,
    ) -> Deferred<Response> {
        let _ = hook;
        self.fetch(request)
    }

    /// The response to a GET of which nothing but its URL matters, if it is there already: a cache has it at hand where
    /// most clients ask for the same, and no request need be made of theirs. By default there is none, and
    /// [`fetch`](Self::fetch) is asked. What came with `Location`, `Set-Cookie` or other fields that a proxy may have to
    /// change is never given here.
    fn at_hand(&self, asked: &PlainGet<'_>) -> Option<KeptResponse> {
        let _ = asked;
        None
    }
}

/// A GET without a body, and without a field that makes more of it than its URL does: no condition, no range, no word for
/// caches, no `Via`, `Expect` or `Upgrade`.
#[derive(Clone, Copy, Debug)]
pub struct PlainGet<'a> {
    /// `http` or `https`.
    pub scheme: &'a str,
    /// The host, and perhaps its port, as the client wrote them.
    pub host: &'a str,
    /// The path, and perhaps a query, as the client wrote them.
    pub target: &'a str,
}

/// Who is told of the interim responses to a request: 103 (Early Hints) and its like, RFC 9110 §15.2. A cheap clone.
///
/// Called on the reactor's thread, with the status and the fields, before the response is there: never for 101, which
/// is a response. May be called more than once, also with 100 (Continue), and with those of each hop of a redirect.
///
/// # Reentrancy
///
/// May do anything, cancelling the request included.
#[derive(Clone)]
pub struct InterimHook(Told);

type Tell = dyn Fn(StatusCode, &HeaderMap);

#[derive(Clone)]
enum Told {
    Call(Rc<Tell>),
    PassOn(Interim),
}

impl InterimHook {
    /// One that calls `tell`.
    pub fn new(tell: impl Fn(StatusCode, &HeaderMap) + 'static) -> Self {
        Self(Told::Call(Rc::new(tell)))
    }

    /// One that passes them on to a client: without what was for the hop from the server.
    pub(super) fn passing_on(client: Interim) -> Self {
        Self(Told::PassOn(client))
    }

    /// Tells it.
    pub fn tell(&self, status: StatusCode, headers: &HeaderMap) {
        match &self.0 {
            Told::Call(tell) => tell(status, headers),
            Told::PassOn(client) => {
                let mut headers = headers.clone();
                remove_hop_by_hop(&mut headers);
                // It fails for what is no interim response, and none of those is told here.
                let _ = client.send(status, &headers);
            }
        }
    }
}

impl fmt::Debug for InterimHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InterimHook").finish_non_exhaustive()
    }
}

impl<F> Fetch for F
where
    F: Fn(ClientRequest) -> Deferred<Response> + 'static,
{
    fn fetch(&self, request: ClientRequest) -> Deferred<Response> {
        self(request)
    }
}

impl Fetch for Rc<dyn Fetch> {
    fn fetch(&self, request: ClientRequest) -> Deferred<Response> {
        (**self).fetch(request)
    }

    fn fetch_with_interims(
        &self,
        request: ClientRequest,
        hook: &InterimHook,
    ) -> Deferred<Response> {
        (**self).fetch_with_interims(request, hook)
    }

    fn at_hand(&self, asked: &PlainGet<'_>) -> Option<KeptResponse> {
        (**self).at_hand(asked)
    }
}

/// As [`Client::request`].
impl Fetch for Client {
    fn fetch(&self, request: ClientRequest) -> Deferred<Response> {
        self.request(request)
    }

    fn fetch_with_interims(
        &self,
        request: ClientRequest,
        hook: &InterimHook,
    ) -> Deferred<Response> {
        self.request_with_interims(request, hook)
    }
}
