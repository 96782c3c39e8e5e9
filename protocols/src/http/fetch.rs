//! The step from a request to its response: what proxies and caches have in common.

use std::rc::Rc;

use torsade_deferred::Deferred;

use super::client::{Client, ClientRequest};
use super::response::Response;

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
}

/// As [`Client::request`].
impl Fetch for Client {
    fn fetch(&self, request: ClientRequest) -> Deferred<Response> {
        self.request(request)
    }
}
