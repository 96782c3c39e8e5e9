//! The server: a [`Site`] answers requests on any number of connections.

mod asked;
mod calendar;
mod connection;
mod hold;
mod interim;
mod refusing;
mod sending;
mod watch;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::mem;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use http::{Method, StatusCode, Version};
use torsade_deferred::{Deferred, Failure, Interrupted, Trigger, fail, succeed, unhandled};
use torsade_reactor::{
    Address, Factory, Hook, ListenError, Phase, Port, Reactor, ServerEndpoint, ToTcpAddress,
    Transport, WeakTransport,
};

use super::body::Body;
use super::limits::ServerLimits;
use super::recycled::{Place, Recycled};
use super::response::{Handler, Response};

pub use self::connection::ServerConnection;
pub use self::hold::ServerHold;
pub use self::interim::{Interim, NotInterim};

use self::calendar::Calendar;
use self::hold::Held;
use self::interim::Untaken;

/// Serves HTTP on a TCP address: every request goes to `handler`.
///
/// With the limits of [`ServerLimits::default`] and no access log; a [`Site`] has all that.
///
/// # Errors
///
/// As [`Reactor::listen_tcp`].
///
/// # Examples
///
/// ```
/// use torsade_protocols::http::{self, Request};
/// use torsade_reactor::Reactor;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let reactor = Reactor::new()?;
/// let server = http::serve(&reactor, "127.0.0.1:0", |request: Request| {
///     format!("You asked for {}.", request.path())
/// })?;
/// println!("http://{}", server.address());
/// # reactor.stop();
/// reactor.run()?;
/// # Ok(())
/// # }
/// ```
#[track_caller]
pub fn serve(
    reactor: &Reactor,
    address: impl ToTcpAddress,
    handler: impl Handler,
) -> Result<Server, ListenError> {
    Site::new(handler).listen(reactor, address)
}

/// What a server answers with, and what it allows.
///
/// A [`Factory`] of connections: it can be listened with on any endpoint, TLS included.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use torsade_protocols::http::{Request, ServerLimits, Site};
/// use torsade_reactor::Reactor;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let reactor = Reactor::new()?;
/// let server = Site::new(|_: Request| "hello")
///     .limits(ServerLimits { idle: Duration::from_secs(5), ..ServerLimits::default() })
///     .access_log(|access| println!("{} {} {}", access.method, access.target, access.status))
///     .listen(&reactor, "127.0.0.1:0")?;
/// # drop(server);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Site {
    core: Rc<SiteCore>,
}

/// What all connections of a site share.
pub(in crate::http) struct SiteCore {
    handler: Box<dyn Handler>,
    /// The line that made the site, for reports.
    origin: &'static Location<'static>,
    limits: ServerLimits,
    access_log: Option<AccessLog>,
    error_page: Option<ErrorPage>,
    body_max: Option<BodyMax>,
    recycled: Rc<Recycled>,
    /// Of the handlers that are on the stack.
    interims: RefCell<Vec<Untaken>>,
    calendar: Calendar,
    /// Where responses are put together; lent to the connection at hand.
    scratch: RefCell<Vec<u8>>,
    connections: RefCell<BTreeMap<u64, WeakTransport<ServerConnection>>>,
    next_connection: Cell<u64>,
    /// Connections that go on in another protocol, and are waited for.
    holds: RefCell<BTreeMap<u64, Held>>,
    stopping: Cell<bool>,
    /// Who waits for the last connection to end.
    waiting: RefCell<Vec<Trigger<()>>>,
}

type AccessLog = Box<dyn Fn(&Access)>;
type ErrorPage = Box<dyn Fn(StatusCode, Option<&Failure>) -> Body>;
type BodyMax = Box<dyn Fn(&Method, &str) -> u64>;

/// One request and what became of it, for a log.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Access {
    /// Who asked.
    pub peer: Address,
    /// The method.
    pub method: Method,
    /// The target, as it came.
    pub target: String,
    /// The version that the client speaks.
    pub version: Version,
    /// The status that was sent.
    pub status: StatusCode,
    /// Bytes of the response's body that were sent, without their framing.
    pub bytes: u64,
    /// Whether the response was sent to its end.
    pub complete: bool,
    /// When the request came.
    pub begun: SystemTime,
    /// From then to the end of the response.
    pub took: Duration,
    /// The page that led here, in the client's words.
    pub referer: Option<String>,
    /// The client's program, in its own words.
    pub user_agent: Option<String>,
    /// `X-Forwarded-For`, all of it: whatever the client, or proxies before us, wrote there.
    pub forwarded_for: Option<String>,
}

impl Site {
    /// A site where `handler` answers. A handler that fails or panics is reported with the line that
    /// calls this, and with the method and the path of the request.
    #[track_caller]
    pub fn new(handler: impl Handler) -> Self {
        let core = SiteCore {
            handler: Box::new(handler),
            origin: Location::caller(),
            limits: ServerLimits::default(),
            access_log: None,
            error_page: None,
            body_max: None,
            recycled: Rc::default(),
            interims: RefCell::default(),
            calendar: Calendar::default(),
            scratch: RefCell::default(),
            connections: RefCell::default(),
            next_connection: Cell::new(0),
            holds: RefCell::default(),
            stopping: Cell::new(false),
            waiting: RefCell::default(),
        };
        Self {
            core: Rc::new(core),
        }
    }

    /// For who builds one: nobody else has it yet.
    fn build(mut self, change: impl FnOnce(&mut SiteCore)) -> Self {
        let core = Rc::get_mut(&mut self.core);
        change(core.expect("a site is changed before it is cloned or listens"));
        self
    }

    /// What it allows its clients.
    ///
    /// # Panics
    ///
    /// As all of these: if the site has been cloned, or listens already.
    #[must_use]
    pub fn limits(self, limits: ServerLimits) -> Self {
        self.build(|core| core.limits = limits)
    }

    /// Allows bodies that depend on the method and path of the request, where one limit for all
    /// ([`MessageLimits::body`](super::MessageLimits::body)) is too much here and too little there.
    ///
    /// The path is as a [`Router`](super::router::Router) compares it: nothing is escaped that need not be
    /// (RFC 3986 §6.2.2.2), so that no other way of writing it has another limit.
    #[must_use]
    pub fn body_max(self, limit: impl Fn(&Method, &str) -> u64 + 'static) -> Self {
        self.build(|core| core.body_max = Some(Box::new(limit)))
    }

    /// Has `log` called when a response has been handed to the connection, or has broken off. A panic
    /// in it is reported, and costs the client nothing.
    #[must_use]
    pub fn access_log(self, log: impl Fn(&Access) + 'static) -> Self {
        self.build(|core| core.access_log = Some(Box::new(log)))
    }

    /// Has `page` make the bodies of responses that are errors and of the server's own: refused
    /// requests, failures of the handler. The failure, if there is one, may say more than a client
    /// should read.
    #[must_use]
    pub fn error_page(self, page: impl Fn(StatusCode, Option<&Failure>) -> Body + 'static) -> Self {
        self.build(|core| core.error_page = Some(Box::new(page)))
    }

    /// Listens on a TCP address.
    ///
    /// # Errors
    ///
    /// As [`Reactor::listen_tcp`].
    #[track_caller]
    pub fn listen(
        &self,
        reactor: &Reactor,
        address: impl ToTcpAddress,
    ) -> Result<Server, ListenError> {
        let port = reactor.listen_tcp(address, self.clone())?;
        Ok(self.serving(reactor, port))
    }

    /// Listens at an endpoint: UNIX, TLS, what a text says.
    ///
    /// Fails as [`Reactor::listen`] does.
    #[track_caller]
    pub fn listen_at(
        &self,
        reactor: &Reactor,
        endpoint: &(impl ServerEndpoint + ?Sized),
    ) -> Deferred<Server> {
        let (site, reactor) = (self.clone(), reactor.clone());
        let listening = reactor.listen(endpoint, self.clone());
        listening.map(move |port| site.serving(&reactor, port))
    }

    #[track_caller]
    fn serving(&self, reactor: &Reactor, port: Port) -> Server {
        let (core, listening) = (Rc::clone(&self.core), port.clone());
        // Requests that are under way are answered before the reactor stops.
        let hook = reactor.on_shutdown(Phase::Before, move || core.wind_up(&listening));
        Server {
            core: Rc::clone(&self.core),
            port,
            hook: Rc::new(hook),
        }
    }
}

impl Factory for Site {
    type Protocol = ServerConnection;

    fn build_protocol(&mut self, _: &Address) -> Option<ServerConnection> {
        Some(ServerConnection::new(Rc::clone(&self.core)))
    }
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Site")
            .field("connections", &self.core.connections.borrow().len())
            .field("stopping", &self.core.stopping.get())
            .finish_non_exhaustive()
    }
}

/// A site that listens. Cheap to clone; dropping it stops nothing.
///
/// When the reactor stops, requests that are under way are answered first, and WebSockets closed, within
/// [`Reactor::set_shutdown_limit`].
#[derive(Clone)]
pub struct Server {
    core: Rc<SiteCore>,
    port: Port,
    hook: Rc<Hook>,
}

impl Server {
    /// Where it listens, with the real port where 0 was asked for.
    #[must_use]
    pub fn address(&self) -> Address {
        self.port.address()
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> &Port {
        &self.port
    }

    /// How many connections it has.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.core.connections.borrow().len()
    }

    /// Stops in order: accepts nothing more, closes connections on which nothing is under way, answers
    /// what is, and closes those then. WebSockets are told 1001 (going away), and have
    /// [their time](crate::websocket::WebSocketLimits::closing) to say so, too; of others that go on in another protocol
    /// it knows those that have [said so](super::Upgraded::hold_server). The tunnels of proxies do not, whatever goes through
    /// them, a WebSocket too: they go on. Fires when the last one that it knows is over.
    pub fn stop(&self) -> Deferred<()> {
        self.hook.remove();
        self.core.wind_up(&self.port)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("address", &self.address())
            .field("connections", &self.connections())
            .finish_non_exhaustive()
    }
}

impl SiteCore {
    fn wind_up(self: &Rc<Self>, port: &Port) -> Deferred<()> {
        self.stopping.set(true);
        // It has fired already, and cannot fail.
        drop(port.stop_listening());
        let connections: Vec<_> = self.connections.borrow().values().cloned().collect();
        for connection in connections {
            if let Some(transport) = connection.upgrade() {
                transport.call(ServerConnection::wind_up);
            }
        }
        self.tell_holders();
        if self.is_over() {
            return succeed(());
        }
        let (trigger, deferred) = Deferred::new();
        self.waiting.borrow_mut().push(trigger);
        deferred
    }

    fn connection_made(&self, transport: WeakTransport<ServerConnection>) -> u64 {
        let id = self.next_connection.get();
        self.next_connection.set(id + 1);
        self.connections.borrow_mut().insert(id, transport);
        id
    }

    pub(super) fn connection(&self, id: u64) -> Option<Transport<ServerConnection>> {
        self.connections.borrow().get(&id)?.upgrade()
    }

    fn connection_over(&self, id: u64) {
        self.forget_interims(id);
        self.connections.borrow_mut().remove(&id);
        self.recycled.are_over(id);
        self.look_whether_over();
    }

    fn is_over(&self) -> bool {
        self.connections.borrow().is_empty() && self.holds.borrow().is_empty()
    }

    fn look_whether_over(&self) {
        if self.is_over() {
            // Detach, then call.
            for trigger in self.waiting.take() {
                trigger.callback(());
            }
        }
    }

    /// A response of our own.
    fn error_response(&self, status: StatusCode, failure: Option<&Failure>) -> Response {
        let told = failure.and_then(|failure| failure.downcast_ref::<super::StatusError>());
        let body = match &self.error_page {
            Some(page) => match catch_unwind(AssertUnwindSafe(|| page(status, failure))) {
                Ok(body) => body,
                Err(payload) => {
                    self.report_panic("the error page of a site", &*payload);
                    Body::from(format!("{status}\n"))
                }
            },
            None => match told.and_then(super::StatusError::message) {
                Some(message) => Body::from(format!("{status}: {message}\n")),
                None => Body::from(format!("{status}\n")),
            },
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        for (name, value) in told.into_iter().flat_map(super::StatusError::headers) {
            response.headers_mut().append(name, value.clone());
        }
        response
    }

    /// A failure of what answers a request, where the client hears only that there was one.
    fn report_failure(&self, place: Place, failure: &Failure) {
        let what = match self.recycled.name_of(place) {
            Some(name) => format!("unhandled failure of what answers {name}"),
            None => "unhandled failure of what answers a request".to_owned(),
        };
        unhandled::report_failure_of(&what, failure, self.origin);
    }

    fn report_panic(&self, what: &str, payload: &(dyn Any + Send)) {
        let failure = Failure::from(Interrupted::from_panic(payload));
        unhandled::report_failure_of(what, &failure, self.origin);
    }

    /// Lends the place where responses are put together.
    fn lend_scratch(&self) -> Vec<u8> {
        mem::take(&mut self.scratch.borrow_mut())
    }

    fn return_scratch(&self, mut scratch: Vec<u8>) {
        const KEPT_MAX: usize = 256 * 1024;
        scratch.clear();
        if scratch.capacity() <= KEPT_MAX {
            self.scratch.replace(scratch);
        }
    }
}

/// A failure that nobody else hears of goes where unhandled ones go.
#[track_caller]
pub(in crate::http) fn report(failure: Failure) {
    drop(fail::<(), Failure>(failure));
}
