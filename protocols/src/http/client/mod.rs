//! The client: requests go out over a pool of connections, responses come back as Deferreds.

mod base64;
mod caching;
mod connect;
mod connection;
mod decoding;
mod error;
mod exchange;
#[cfg(fuzzing)]
pub(super) mod fuzzed;
mod pool;
mod proxy;
mod redirect;
mod route;
mod sending;
mod settings;
mod to_url;
mod url;
mod watch;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::mem;
use std::rc::Rc;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::Authority;
use http::{Method, Request, Uri};
use serde::de::DeserializeOwned;
use torsade_deferred::{Deferred, Failure, Trigger, fail, succeed};
use torsade_reactor::{ClientEndpoint, ConnectionLost, Reactor, Stream, WeakReactor};

use super::body::Body;
use super::cache::Cache;
use super::cookie_jar::{CookieJar, CookieOrigin};
use super::cookies::Cookie;
use super::fetch::InterimHook;
use super::response::Response;
use super::upgrade::Upgraded;
#[cfg(feature = "tls")]
use crate::tls;

pub use self::error::{ClientError, ClientErrorKind, Stage};
pub use self::proxy::{Proxies, Proxy};
pub use self::settings::{ClientLimits, Redirects};
pub use self::to_url::ToUrl;
pub use self::url::{BadUrl, Origin};

#[cfg(feature = "websocket")]
pub(crate) use self::base64::base64;
use self::connect::Connector;
use self::exchange::{Draft, Exchange, Reply};
pub(in crate::http) use self::exchange::{Guard, Manner};
use self::pool::Pool;
use self::route::Route;
use self::to_url::without_credentials;
use self::url::Url;
pub(in crate::http) use self::url::{is_bare, whole_server};

/// Asks servers, over connections that it keeps for the next request. A cheap clone.
///
/// A response comes as soon as its head is there; its [`Body`] is read from the connection as fast as
/// somebody reads it, and no faster. Every status is a response: only what never became one is a
/// failure, a [`ClientError`].
///
/// By default it speaks TLS to `https` URLs and verifies the server with the platform's roots, follows
/// ten [redirects](Redirects), decodes gzip and deflate, keeps no cookies and uses no proxy, and gives
/// up on servers that are too slow: see [`ClientLimits`].
///
/// # Order
///
/// A request goes out when it is made, if there is a connection that has nothing to do; else when the
/// next one is made or becomes free, first come, first served. Connections carry one request at a time.
///
/// # Retries
///
/// A server may close a connection that has nothing to do at any time, and a request may be on its way
/// then. If no byte of a response has come, on a connection that had carried a request before, the
/// request is sent once more, on a new connection: if its method is idempotent (RFC 9110 §9.2.2) and its
/// body, if any, is in memory or in a file. Nothing else is ever sent twice.
///
/// # Cancellation
///
/// Cancelling a request's Deferred closes the connection that it is on. So does dropping a body that is
/// not read to its end, unless what is left of it is [small](ClientLimits::discarded).
///
/// # Examples
///
/// ```no_run
/// use torsade_protocols::http::Client;
/// use torsade_reactor::Reactor;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let reactor = Reactor::new()?;
/// let client = Client::new(&reactor);
/// let page = client
///     .get("https://example.com/")
///     .add_callback(|response| response.into_body().read_text(1 << 20))
///     .add_callback(|text| println!("{text}"));
/// reactor.run_until(page)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    core: Rc<ClientCore>,
}

/// What all clones of a client share. Its connections only look at it.
pub(super) struct ClientCore {
    reactor: WeakReactor,
    settings: Rc<Settings>,
    pool: Pool,
    closed: Cell<bool>,
    /// Where requests are put together; lent to the connection at hand.
    scratch: RefCell<Vec<u8>>,
    /// The way that was asked for last: mostly the next one's, too.
    last_route: RefCell<Option<(Url, Rc<Route>)>>,
}

/// What does not change.
pub(super) struct Settings {
    limits: ClientLimits,
    redirects: Redirects,
    proxies: Proxies,
    connector: Connector,
    /// Fields that a request gets which has none of that name.
    defaults: HeaderMap,
    /// Of those, what a stranger must not see: left behind when another origin is asked.
    credentials: HeaderMap,
    decodes: bool,
    cache: Option<Cache>,
    cookies: Option<RefCell<CookieJar>>,
    #[cfg(feature = "tls")]
    tls: std::cell::OnceCell<tls::ClientConfig>,
    #[cfg(feature = "tls")]
    tls_for: Option<TlsPolicy>,
}

#[cfg(feature = "tls")]
type TlsPolicy = Box<dyn Fn(&Origin) -> Option<tls::ClientConfig>>;

/// A request that a client sends: the `http` crate's, with the body of this one.
///
/// # Examples
///
/// ```
/// use torsade_protocols::http::{Body, ClientRequest};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let request = ClientRequest::<()>::builder()
///     .method("PUT")
///     .uri("https://example.com/note")
///     .header("if-none-match", "*")
///     .body(Body::from("remember"))?;
/// assert_eq!(request.uri().host(), Some("example.com"));
/// # Ok(())
/// # }
/// ```
pub type ClientRequest<B = Body> = Request<B>;

/// In a response's extensions: where it comes from, if that is not where it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedirectedTo(pub Uri);

/// How many connections a client has, and how many requests wait for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolCounts {
    /// Connections, and attempts to connect.
    pub open: usize,
    /// Of those, the ones that have nothing to do.
    pub idle: usize,
    /// Requests that have no connection yet.
    pub waiting: usize,
}

impl Client {
    /// A client that connects through `reactor`. It does not keep that alive.
    #[must_use]
    pub fn new(reactor: &Reactor) -> Self {
        let mut defaults = HeaderMap::new();
        let name = concat!("torsade/", env!("CARGO_PKG_VERSION"));
        defaults.insert(header::USER_AGENT, HeaderValue::from_static(name));
        defaults.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        let settings = Settings {
            limits: ClientLimits::default(),
            redirects: Redirects::default(),
            proxies: Proxies::none(),
            connector: Box::new(connect::tcp),
            defaults,
            credentials: HeaderMap::new(),
            decodes: true,
            cache: None,
            cookies: None,
            #[cfg(feature = "tls")]
            tls: std::cell::OnceCell::new(),
            #[cfg(feature = "tls")]
            tls_for: None,
        };
        let core = ClientCore {
            reactor: reactor.downgrade(),
            settings: Rc::new(settings),
            pool: Pool::default(),
            closed: Cell::new(false),
            scratch: RefCell::default(),
            last_route: RefCell::default(),
        };
        Self {
            core: Rc::new(core),
        }
    }

    /// For who builds one: nobody else has it yet.
    fn build(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        let settings = Rc::get_mut(&mut self.core).and_then(|it| Rc::get_mut(&mut it.settings));
        change(settings.expect("a client is changed before it is cloned or used"));
        self
    }

    /// What it allows itself and its servers.
    ///
    /// # Panics
    ///
    /// As all of these: if the client has been cloned, or used.
    #[must_use]
    pub fn limits(self, limits: ClientLimits) -> Self {
        self.build(|settings| settings.limits = limits)
    }

    /// Which redirects it follows: ten in a row, by default.
    #[must_use]
    pub fn redirects(self, redirects: Redirects) -> Self {
        self.build(|settings| settings.redirects = redirects)
    }

    /// Which proxies it uses: none, by default, whatever the environment says.
    #[must_use]
    pub fn proxies(self, proxies: Proxies) -> Self {
        self.build(|settings| settings.proxies = proxies)
    }

    /// A field that every request gets which has none of that name; in place of the one before, which
    /// there is for `User-Agent` and `Accept`.
    ///
    /// `Authorization`, `Cookie` and `Proxy-Authorization` are not sent any more when a redirect leads to
    /// another origin.
    #[must_use]
    pub fn default_header(self, name: HeaderName, value: HeaderValue) -> Self {
        self.build(|settings| {
            let fields = match redirect::CREDENTIALS.contains(&name) {
                true => &mut settings.credentials,
                false => &mut settings.defaults,
            };
            fields.insert(name, value);
        })
    }

    /// Keeps cookies, and sends them back: in this jar, whatever it holds already.
    #[must_use]
    pub fn cookie_jar(self, jar: CookieJar) -> Self {
        self.build(|settings| settings.cookies = Some(RefCell::new(jar)))
    }

    /// Answers from this cache what it can, and has it store what comes: a
    /// [private](super::cache::CacheKind::Private) one, of the user whose cookies and credentials this client sends.
    ///
    /// Each hop of a redirect goes through it. Bodies are stored as they are sent, compressed or not. What is
    /// [passed on](Self::forward) and what asks to [switch](Self::upgrade) goes past it.
    ///
    /// # Examples
    ///
    /// ```
    /// use torsade_protocols::http::Client;
    /// use torsade_protocols::http::cache::{Cache, CacheKind};
    /// use torsade_reactor::Reactor;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let reactor = Reactor::new()?;
    /// let cache = Cache::new(&reactor, CacheKind::Private);
    /// let client = Client::new(&reactor).cache(&cache);
    /// # drop(client);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn cache(self, cache: &Cache) -> Self {
        self.build(|settings| settings.cache = Some(cache.clone()))
    }

    /// Whether it asks for compressed bodies and decodes them. It does, by default.
    #[must_use]
    pub fn decode(self, on: bool) -> Self {
        self.build(|settings| settings.decodes = on)
    }

    /// How it speaks TLS: with the platform's roots, by default. Its handshake's limit is that of
    /// [`ClientLimits::handshake`].
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(self, config: &tls::ClientConfig) -> Self {
        let config = config.clone();
        self.build(|settings| settings.tls = config.into())
    }

    /// How it speaks TLS with this origin: asked each time that one is connected to; `None` is as with all others.
    /// Twisted's `IPolicyForHTTPS`.
    ///
    /// Who makes configurations keeps them, since sessions are resumed with the one that they came from.
    ///
    /// # Examples
    ///
    /// One host has a certificate of its own making:
    ///
    /// ```
    /// use torsade_protocols::http::{Client, Origin};
    /// use torsade_protocols::tls;
    /// use torsade_reactor::Reactor;
    ///
    /// # fn with(reactor: &Reactor) -> Result<(), Box<dyn std::error::Error>> {
    /// let roots = tls::Roots::from_pem_file("inside.pem")?;
    /// let inside = tls::client_config().roots(roots).build()?;
    /// let client = Client::new(reactor).tls_for(move |origin: &Origin| {
    ///     (origin.host() == "inside.example").then(|| inside.clone())
    /// });
    /// # drop(client);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls_for(self, policy: impl Fn(&Origin) -> Option<tls::ClientConfig> + 'static) -> Self {
        self.build(|settings| settings.tls_for = Some(Box::new(policy)))
    }

    /// What leads to an origin, or to a proxy: TCP to its host and port, by default. TLS is put on top of
    /// it for `https`, whatever it is.
    ///
    /// # Examples
    ///
    /// A server behind a UNIX socket:
    ///
    /// ```
    /// use torsade_protocols::http::{Client, Origin};
    /// use torsade_reactor::{Reactor, UnixClientEndpoint};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let reactor = Reactor::new()?;
    /// let docker = Client::new(&reactor)
    ///     .connector(|_: &Origin| UnixClientEndpoint::new("/var/run/docker.sock"));
    /// # drop(docker);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn connector<E>(self, connector: impl Fn(&Origin) -> E + 'static) -> Self
    where
        E: ClientEndpoint + 'static,
    {
        self.build(|settings| {
            settings.connector = Box::new(move |origin| Box::new(connector(origin)));
        })
    }

    /// Asks for what is at a URL.
    ///
    /// Fires when the head of the response is there. Fails with a [`ClientError`].
    pub fn get(&self, url: impl ToUrl) -> Deferred<Response> {
        self.ask(Method::GET, url, Body::empty())
    }

    /// Asks what [`get`](Self::get) would give, without its body.
    pub fn head(&self, url: impl ToUrl) -> Deferred<Response> {
        self.ask(Method::HEAD, url, Body::empty())
    }

    /// Sends a body to a URL.
    ///
    /// Otherwise as [`get`](Self::get).
    pub fn post(&self, url: impl ToUrl, body: impl Into<Body>) -> Deferred<Response> {
        self.ask(Method::POST, url, body.into())
    }

    /// Asks what can be done with what is at a URL; of text that ends with the host, without a slash, with the server
    /// itself: `OPTIONS *` (RFC 9112 §3.2.4). A [`Uri`] has a slash there always: to ask for the server, its path is
    /// `*`.
    ///
    /// Otherwise as [`get`](Self::get).
    pub fn options(&self, url: impl ToUrl) -> Deferred<Response> {
        let is_bare = url.is_bare();
        let url = url.to_url().map(|uri| match is_bare {
            true => whole_server(uri),
            false => uri,
        });
        self.ask_at(Method::OPTIONS, url, Body::empty())
    }

    fn ask(&self, method: Method, url: impl ToUrl, body: Body) -> Deferred<Response> {
        self.ask_at(method, url.to_url(), body)
    }

    fn ask_at(&self, method: Method, url: Result<Uri, String>, body: Body) -> Deferred<Response> {
        match url {
            Ok(uri) => {
                let mut request = Request::new(body);
                *request.method_mut() = method;
                *request.uri_mut() = uri;
                self.request(request)
            }
            Err(text) => fail(bad_url(method, &text, BadUrl::Malformed)),
        }
    }

    /// Sends a request, whatever is in it; its URI is absolute. Its `Host`, `User-Agent` and the like are
    /// put in unless it has them; how its body is framed is decided here, and what it says of that must
    /// be right.
    ///
    /// A body that is in time is sent as it comes, `chunked` unless its length is known. With
    /// `Expect: 100-continue` it waits for the server's word, but not [for long](ClientLimits::expect).
    ///
    /// Otherwise as [`get`](Self::get).
    pub fn request<B: Into<Body>>(&self, request: Request<B>) -> Deferred<Response> {
        self.send(
            request.map(Into::into),
            Manner::Asked,
            None,
            Reply::Response,
        )
    }

    /// As [`request`](Self::request), and tells `hook` of the interim responses that come before the response. Who
    /// does not ask for them hears nothing of them.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use torsade_protocols::http::{Body, Client, ClientRequest, InterimHook};
    /// # fn with(client: &Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let hook = InterimHook::new(|status, headers| println!("{status}: {:?}", headers.get("link")));
    /// let request = ClientRequest::get("https://example.com/").body(Body::empty())?;
    /// let response = client.request_with_interims(request, &hook);
    /// # drop(response);
    /// # Ok(())
    /// # }
    /// ```
    pub fn request_with_interims<B: Into<Body>>(
        &self,
        request: Request<B>,
        hook: &InterimHook,
    ) -> Deferred<Response> {
        let hook = Some(hook.clone());
        self.send(
            request.map(Into::into),
            Manner::Asked,
            hook,
            Reply::Response,
        )
    }

    /// Sends a request that asks to go on in another protocol (RFC 9110 §7.8): with `Upgrade` and
    /// `Connection: upgrade` in it. Fires with the connection, if the server switches.
    ///
    /// Through a proxy it goes by CONNECT, also to `http` URLs: `Upgrade` is said to the next hop alone, and that has to be
    /// the server.
    ///
    /// Otherwise as [`request`](Self::request).
    pub fn upgrade<B: Into<Body>>(
        &self,
        request: Request<B>,
    ) -> Deferred<(Response, Option<Upgraded>)> {
        self.send(request.map(Into::into), Manner::Asked, None, Reply::Switch)
    }

    /// Sends a request as it is, and gives the response as it comes, as a proxy does: adds no fields but
    /// `Host` and what frames the body, follows no redirect, decodes nothing, and has no part in cookies.
    ///
    /// What is for one hop alone is the caller's to leave out:
    /// [`remove_hop_by_hop`](super::forwarding::remove_hop_by_hop). Otherwise as [`request`](Self::request).
    pub fn forward<B: Into<Body>>(&self, request: Request<B>) -> Deferred<Response> {
        self.forward_to(request.map(Into::into), None, None)
    }

    /// As [`forward`](Self::forward), and tells `hook` of the interim responses: a proxy passes them on (RFC 9110
    /// §15.2), with [`Interim::send`](super::Interim::send).
    pub fn forward_with_interims<B: Into<Body>>(
        &self,
        request: Request<B>,
        hook: &InterimHook,
    ) -> Deferred<Response> {
        self.forward_to(request.map(Into::into), None, Some(hook.clone()))
    }

    /// As [`forward`](Self::forward), to nobody whom `guard` refuses.
    pub(in crate::http) fn forward_to(
        &self,
        request: Request<Body>,
        guard: Option<Guard>,
        hook: Option<InterimHook>,
    ) -> Deferred<Response> {
        self.send(request, Manner::PassedOn(guard), hook, Reply::Response)
    }

    /// As [`forward`](Self::forward), of a request that asks to go on in another protocol.
    pub(in crate::http) fn forward_upgrade(
        &self,
        request: Request<Body>,
        guard: Option<Guard>,
        hook: Option<InterimHook>,
    ) -> Deferred<(Response, Option<Upgraded>)> {
        self.send(request, Manner::PassedOn(guard), hook, Reply::Switch)
    }

    /// A stream to a host, as it is: no TLS, no pool. Through the client's proxy, if it uses one.
    ///
    /// Fails with a [`ClientErrorKind`].
    pub(in crate::http) fn dial(
        &self,
        authority: &Authority,
        guard: Guard,
    ) -> Deferred<Rc<dyn Stream>> {
        let uri = Uri::builder().scheme("https").authority(authority.clone());
        let uri = uri.path_and_query("/").build();
        let Some(url) = uri.ok().and_then(|uri| Url::new(uri).ok()) else {
            return fail(ClientErrorKind::BadUrl(BadUrl::Malformed));
        };
        let Some(reactor) = self
            .core
            .reactor
            .upgrade()
            .filter(|_| !self.core.closed.get())
        else {
            return fail(ClientErrorKind::Closed);
        };
        let route = self.core.way_to(&url, true);
        let is_direct = route.is_direct();
        connect::dial(&self.core.settings, &reactor, &route).add_callback(move |stream| {
            let address = stream.socket().peer();
            if is_direct && !guard(&address) {
                stream.abort_connection(ConnectionLost::Aborted);
                return Err(ClientErrorKind::Forbidden { address }.into());
            }
            Ok(stream)
        })
    }

    fn send<T: 'static>(
        &self,
        request: Request<Body>,
        manner: Manner,
        hook: Option<InterimHook>,
        reply: impl FnOnce(Trigger<T>) -> Reply,
    ) -> Deferred<T> {
        match self.draft(request, manner) {
            Ok(mut draft) => {
                draft.hook = hook;
                let (trigger, deferred) = Deferred::new();
                Exchange::begin(Rc::clone(&self.core), draft, reply(trigger));
                deferred
            }
            Err(error) => fail(error),
        }
    }

    fn draft(&self, request: Request<Body>, manner: Manner) -> Result<Draft, Failure> {
        let url = match Url::new(request.uri().clone()) {
            Ok(url) => url,
            Err(problem) => {
                let text = request.uri().to_string();
                return Err(bad_url(request.method().clone(), &text, problem).into());
            }
        };
        if self.core.closed.get() {
            let (method, url) = (request.method().clone(), url.without_credentials());
            return Err(ClientError::new(method, url, ClientErrorKind::Closed).into());
        }
        Draft::new(&self.core.settings, url, request, manner)
    }

    /// Asks for what is at a URL, and reads it all, up to `limit` bytes.
    ///
    /// Fails as [`get`](Self::get) and [`Body::read`] do, and with [`ClientErrorKind::Status`] if the
    /// status is not a success.
    pub fn get_bytes(&self, url: impl ToUrl, limit: usize) -> Deferred<Bytes> {
        self.get_body(url)
            .add_callback(move |body| body.read(limit))
    }

    /// As [`get_bytes`](Self::get_bytes), of text in UTF-8.
    pub fn get_text(&self, url: impl ToUrl, limit: usize) -> Deferred<String> {
        self.get_body(url)
            .add_callback(move |body| body.read_text(limit))
    }

    /// As [`get_bytes`](Self::get_bytes), of JSON.
    pub fn get_json<T>(&self, url: impl ToUrl, limit: usize) -> Deferred<T>
    where
        T: DeserializeOwned + 'static,
    {
        self.get_body(url)
            .add_callback(move |body| body.read_json(limit))
    }

    fn get_body(&self, url: impl ToUrl) -> Deferred<Body> {
        let uri = match url.to_url() {
            Ok(uri) => uri,
            Err(text) => return fail(bad_url(Method::GET, &text, BadUrl::Malformed)),
        };
        let asked = uri.clone();
        self.get(uri).add_callback(move |response| {
            if response.status().is_success() {
                return Ok(response.into_body());
            }
            let kind = ClientErrorKind::Status(response.status());
            let url = without_credentials(&asked.to_string());
            Err(Failure::new(ClientError::new(Method::GET, url, kind)))
        })
    }

    /// How many connections there are.
    #[must_use]
    pub fn pool(&self) -> PoolCounts {
        let pool = &self.core.pool;
        PoolCounts {
            open: pool.open(),
            idle: pool.idle(),
            waiting: pool.waiting(),
        }
    }

    /// Visits the [cookie jar](Self::cookie_jar), if there is one: to save it, for instance.
    ///
    /// # Panics
    ///
    /// If `visit` visits it again.
    pub fn visit_cookies<T>(&self, visit: impl FnOnce(&mut CookieJar) -> T) -> Option<T> {
        let jar = self.core.settings.cookies.as_ref()?;
        Some(visit(&mut jar.borrow_mut()))
    }

    /// Closes the connections that have nothing to do. Others are made when they are needed.
    pub fn close_idle(&self) {
        self.core.close_idle();
    }

    /// Stops in order: refuses further requests, closes connections that have nothing to do, and the
    /// others when what is under way is over. Fires when the last one is closed.
    ///
    /// A client of which no clone is left, and no request under way, closes its connections by itself.
    pub fn close(&self) -> Deferred<()> {
        self.core.closed.set(true);
        self.core.close_idle();
        if self.core.pool.open() == 0 && self.core.pool.waiting() == 0 {
            return succeed(());
        }
        let (trigger, deferred) = Deferred::new();
        self.core.when_over(trigger);
        // The caller's may be the last clone, and be gone before the connections are.
        let core = Rc::clone(&self.core);
        deferred.add_both(move |outcome| {
            drop(core);
            outcome
        })
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("pool", &self.pool())
            .field("closed", &self.core.closed.get())
            .finish_non_exhaustive()
    }
}

impl ClientCore {
    /// The way to a URL, which `tunnels` through a proxy also where that could be asked itself.
    fn route_to(&self, url: &Url, tunnels: bool) -> Rc<Route> {
        if tunnels {
            // These are few.
            return self.way_to(url, true);
        }
        if let Some((last, route)) = &*self.last_route.borrow()
            && last.is_https == url.is_https
            && last.authority() == url.authority()
        {
            return Rc::clone(route);
        }
        let route = self.way_to(url, false);
        let last = Some((url.clone(), Rc::clone(&route)));
        drop(self.last_route.replace(last));
        route
    }

    fn way_to(&self, url: &Url, tunnels: bool) -> Rc<Route> {
        let origin = url.origin();
        let proxy = self.settings.proxies.for_origin(&origin).cloned();
        let route = match proxy {
            None => Route {
                origin,
                absolute: false,
                proxy: None,
                tunnel: None,
            },
            Some(proxy) if tunnels || origin.is_https() => Route {
                origin,
                absolute: false,
                proxy: None,
                tunnel: Some(proxy),
            },
            Some(proxy) => Route {
                origin: Origin::clone(&proxy.origin),
                absolute: true,
                proxy: Some(proxy),
                tunnel: None,
            },
        };
        Rc::new(route)
    }

    fn cookies_for(&self, jar: &RefCell<CookieJar>, url: &Url) -> Option<HeaderValue> {
        let now = self.reactor.upgrade()?.system_time();
        let origin = url.origin();
        jar.borrow_mut()
            .cookies_for(&cookie_origin(&origin, url), now)
    }

    fn keep_cookies(&self, jar: &RefCell<CookieJar>, url: &Url, headers: &HeaderMap) {
        let Some(reactor) = self.reactor.upgrade() else {
            return;
        };
        let (now, origin) = (reactor.system_time(), url.origin());
        for value in headers.get_all(header::SET_COOKIE) {
            if let Some(cookie) = Cookie::parse(value) {
                // One that the server may not set is no error.
                jar.borrow_mut()
                    .store(cookie, &cookie_origin(&origin, url), now);
            }
        }
    }

    /// Lends the place where requests are put together.
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

impl Drop for ClientCore {
    fn drop(&mut self) {
        self.pool.end();
    }
}

fn cookie_origin<'a>(origin: &'a Origin, url: &'a Url) -> CookieOrigin<'a> {
    CookieOrigin {
        host: origin.host(),
        path: url.uri().path(),
        is_secure: origin.is_https() || origin.host() == "localhost",
    }
}

#[cfg(feature = "tls")]
impl Settings {
    /// How TLS is spoken with it; for most made when it is first needed, since that reads the platform's roots.
    fn tls(&self, origin: &Origin) -> Result<tls::ClientConfig, ClientErrorKind> {
        if let Some(config) = self.tls_for.as_ref().and_then(|policy| policy(origin)) {
            return Ok(config);
        }
        if let Some(config) = self.tls.get() {
            return Ok(config.clone());
        }
        let config = tls::client_config().alpn(["http/1.1"]).build();
        let config = config.map_err(connect::no_tls)?;
        Ok(self.tls.get_or_init(|| config).clone())
    }
}

fn bad_url(method: Method, url: &str, problem: BadUrl) -> ClientError {
    let kind = ClientErrorKind::BadUrl(problem);
    ClientError::new(method, without_credentials(url), kind)
}
