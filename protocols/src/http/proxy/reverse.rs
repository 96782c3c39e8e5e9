//! A proxy in front of servers.

use core::net::IpAddr;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderValue};
use http::uri::{Authority, PathAndQuery};
use http::{Method, StatusCode, Uri, Version};
use percent_encoding::percent_decode_str;
use torsade_deferred::{Deferred, Failure, fail, succeed};
use torsade_reactor::Reactor;

use super::super::body::Body;
use super::super::cache::CacheTarget;
use super::super::client::{BadUrl, Client, ClientRequest, ToUrl};
use super::super::error::StatusError;
use super::super::fetch::{Fetch, InterimHook};
use super::super::forwarding::{Earlier, ForwardedFor};
use super::super::request::Request;
use super::super::response::{Answer, Handler, IntoAnswer, Response};
use super::cookie_scope::{Mount, rescoped};
use super::location::{moved, refreshed};
use super::outcome::{FailureHook, is_news, is_servers_fault, is_unsent, kind_of, told};
use super::passing::{self, Asking, Name};
use super::tunnels::switched;
use super::upstreams::{Upstream, Upstreams};

/// Passes requests on to a server behind it, or to several, and their responses back. Twisted's
/// `ReverseProxyResource`.
///
/// A [`Handler`]: it can be a whole site, or stand below a prefix of one, behind layers, in an access log. The
/// server is asked through a [`Client`], whose limits and pool hold. Its redirects, cookies and decoding do not:
/// what comes goes through.
///
/// - **The path** is put below that of the upstream's URL. Below a prefix, [`Routes::nest`](super::super::Routes::nest), it
///   is what follows that. A `Location`, `Content-Location` or `Refresh` that leads to the upstream is told as the
///   client knows the place, and so are the paths of cookies; a cookie's `Domain` that is of the upstream and not of the client's host is left out, as the client would
///   refuse it. [`leave_cookies`](Self::leave_cookies) has them as they come. Links in pages are not looked into.
/// - **`Host`** is the upstream's, unless [`preserve_host`](Self::preserve_host) says otherwise.
/// - **The fields** of one hop stay behind (RFC 9110 §7.6.1), `Via` is added, and who asked stands in `Forwarded`
///   (RFC 7239) and `X-Forwarded-For`, `-Host` and `-Proto`; what a client wrote there is dropped.
/// - **How bodies are framed** is never copied, but said anew. They stream, both ways at once, with their
///   trailers; `Expect: 100-continue` waits for the upstream's word. Interim responses (103, 102) go through (RFC 9110
///   §15.2).
/// - **WebSocket** goes through as a tunnel; other protocols do not, unless they are [named](Self::upgrades).
///
/// # Errors
///
/// The client is told 502 if the upstream cannot be reached or breaks the rules, 504 if it is too slow, 503 if too
/// many wait for a connection, 508 if the request has been here before. What it was, and which URL, is for
/// [`on_failure`](Self::on_failure). Limits on requests are the [`Site`](super::super::Site)'s: bodies have 2 MiB there,
/// unless it says otherwise.
///
/// # Retries
///
/// Those of the [`Client`]. And of several upstreams, the next one is asked if one cannot be connected to, as
/// nothing of the request has left then; unless its body is under way.
///
/// # Examples
///
/// ```
/// use torsade_protocols::http::{self, Client, ReverseProxy};
/// use torsade_reactor::Reactor;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let reactor = Reactor::new()?;
/// let client = Client::new(&reactor);
/// let proxy = ReverseProxy::new(&client, "http://127.0.0.1:9000")?;
/// let server = http::serve(&reactor, "127.0.0.1:0", proxy)?;
/// println!("http://{}", server.address());
/// # reactor.stop();
/// reactor.run()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ReverseProxy {
    core: Rc<Core>,
}

struct Core {
    client: Client,
    fetch: Rc<dyn Fetch>,
    /// Somebody stands between, who may have to know what the client asked for.
    is_layered: bool,
    upstreams: Upstreams,
    name: Name,
    preserves_host: bool,
    leaves_cookies: bool,
    trusted: Vec<IpAddr>,
    upgrades: Vec<Box<str>>,
    tunnel_idle: Duration,
    serves_half_closed: bool,
    on_failure: Option<FailureHook>,
}

/// How long a tunnel may be silent: nginx has a minute, and everybody raises it.
const TUNNEL_IDLE: Duration = Duration::from_secs(10 * 60);

/// `Via`, `Forwarded`, and the three of `X-Forwarded-`: room is made for all at once.
const FIELDS_ADDED: usize = 5;

impl ReverseProxy {
    /// A proxy in front of the server at this URL, `http` or `https`.
    ///
    /// # Errors
    ///
    /// [`BadUrl`]: it cannot be asked, or has a query.
    pub fn new(client: &Client, upstream: impl ToUrl) -> Result<Self, BadUrl> {
        let asking = Asking {
            client: client.clone(),
            guard: None,
        };
        let core = Core {
            client: client.clone(),
            fetch: Rc::new(asking),
            is_layered: false,
            upstreams: Upstreams::new(upstream_at(upstream)?),
            name: Name::default(),
            preserves_host: false,
            leaves_cookies: false,
            trusted: Vec::new(),
            upgrades: vec!["websocket".into()],
            tunnel_idle: TUNNEL_IDLE,
            serves_half_closed: false,
            on_failure: None,
        };
        Ok(Self {
            core: Rc::new(core),
        })
    }

    /// For who builds one: nobody else has it yet.
    fn build(mut self, change: impl FnOnce(&mut Core)) -> Self {
        let core = Rc::get_mut(&mut self.core);
        change(core.expect("a proxy is changed before it is cloned or used"));
        self
    }

    /// One more server that answers the same. They take turns; the one with the fewest requests under way goes
    /// first, and one that has failed three times in a row is left alone for 10 s.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    ///
    /// # Panics
    ///
    /// As all of these: if the proxy has been cloned, or used.
    pub fn and(self, upstream: impl ToUrl) -> Result<Self, BadUrl> {
        let upstream = upstream_at(upstream)?;
        Ok(self.build(|core| core.upstreams.add(upstream)))
    }

    /// Tells the upstream the `Host` that the client asked for, in place of its own.
    #[must_use]
    pub fn preserve_host(self) -> Self {
        self.build(|core| core.preserves_host = true)
    }

    /// Passes `Set-Cookie` on as it comes, whatever its `Path` and its `Domain` say.
    #[must_use]
    pub fn leave_cookies(self) -> Self {
        self.build(|core| core.leaves_cookies = true)
    }

    /// Believes these proxies in front of this one: what they say in `Forwarded` and `X-Forwarded-For` is kept, and
    /// what is known here is put behind it. From others it is dropped: anybody may write these fields.
    #[must_use]
    pub fn trust_proxies(self, proxies: impl IntoIterator<Item = IpAddr>) -> Self {
        self.build(|core| core.trusted = proxies.into_iter().collect())
    }

    /// What it calls itself in `Via`: a name that no other proxy has, so that what comes round again is known.
    /// Without one, it is `torsade`, and a request ends when it has passed four of these.
    #[must_use]
    pub fn name(self, name: &str) -> Self {
        self.build(|core| core.name = Name::unique(name))
    }

    /// The protocols that a client may go on in (RFC 9110 §7.8): `websocket`, unless this names others. What else is
    /// asked for is not passed on, and the request is answered in HTTP.
    #[must_use]
    pub fn upgrades<'a>(self, protocols: impl IntoIterator<Item = &'a str>) -> Self {
        let protocols = protocols.into_iter().map(Into::into).collect();
        self.build(|core| core.upgrades = protocols)
    }

    /// How long nothing may move in a connection that goes on in another protocol: 10 minutes. Then it is
    /// aborted, within that time again.
    #[must_use]
    pub fn tunnel_idle(self, idle: Duration) -> Self {
        self.build(|core| core.tunnel_idle = idle)
    }

    /// Goes on for clients that have ended their stream, and still wait for their responses. By default they are
    /// taken to be gone, as nginx takes them: a client that closes its connection looks the same, and the server behind
    /// would go on for nobody.
    #[must_use]
    pub fn serve_half_closed(self) -> Self {
        self.build(|core| core.serves_half_closed = true)
    }

    /// Has `hook` called with what went wrong behind the proxy, a [`ClientError`](super::super::ClientError) as a
    /// rule, which names the URL; of a response that breaks off in the middle, also a
    /// [`BodyError`](super::super::BodyError). The client reads less, or sees its response break off.
    #[must_use]
    pub fn on_failure(self, hook: impl Fn(&Failure) + 'static) -> Self {
        self.build(|core| core.on_failure = Some(Box::new(hook)))
    }

    /// Puts a layer between the proxy and its client, such as a [`Cache`](super::super::Cache): `layer` gets the step that
    /// asks the upstream, and gives the one that is taken in its place. Upgrades do not go through it.
    ///
    /// The URL that the client asked for is in the extensions of the request, as
    /// [`CacheTarget`](super::super::cache::CacheTarget): the same for each upstream, and another for each `Host`.
    ///
    /// # Examples
    ///
    /// ```
    /// use torsade_protocols::http::cache::CacheKind;
    /// use torsade_protocols::http::{Cache, Client, ReverseProxy};
    /// use torsade_reactor::Reactor;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let reactor = Reactor::new()?;
    /// let cache = Cache::new(&reactor, CacheKind::Shared);
    /// let proxy = ReverseProxy::new(&Client::new(&reactor), "http://127.0.0.1:9000")?
    ///     .through(|fetch| cache.around(fetch));
    /// # drop(proxy);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn through<F: Fetch>(self, layer: impl FnOnce(Rc<dyn Fetch>) -> F) -> Self {
        self.build(|core| {
            core.fetch = Rc::new(layer(Rc::clone(&core.fetch)));
            core.is_layered = true;
        })
    }
}

fn upstream_at(url: impl ToUrl) -> Result<Upstream, BadUrl> {
    let url = url.to_url().or(Err(BadUrl::Malformed))?;
    Upstream::new(&url)
}

impl Core {
    /// What the client's server makes a response of, when whoever wants to know has heard of it.
    fn told(&self, failure: Failure) -> Failure {
        if let Some(hook) = self.on_failure.as_ref().filter(|_| is_news(&failure)) {
            hook(&failure);
        }
        told(failure)
    }
}

impl Handler for ReverseProxy {
    fn handle(&self, request: Request) -> Answer {
        if self.core.is_layered
            && let Some(kept) = request
                .as_plain_get()
                .and_then(|asked| self.core.fetch.at_hand(&asked))
        {
            return Answer::Kept(kept);
        }
        if !self.core.serves_half_closed {
            request.end_with_client();
        }
        match Passing::begin(&self.core, request) {
            Ok(Begun::Passing(passing)) => passing.ask(Vec::new()).into_answer(),
            Ok(Begun::Answered(response)) => Answer::Now(response),
            Err(error) => error.into(),
        }
    }
}

impl fmt::Debug for ReverseProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReverseProxy")
            .field("upstreams", &self.core.upstreams)
            .field("client", &self.core.client)
            .finish_non_exhaustive()
    }
}

/// A request on its way.
struct Passing {
    core: Rc<Core>,
    reactor: Reactor,
    method: Method,
    version: Version,
    headers: HeaderMap,
    body: Body,
    /// What follows the base of the upstream.
    path: PathAndQuery,
    /// What the client knows the base as.
    above: String,
    /// The host that the client asked for.
    host: Option<HeaderValue>,
    /// Hears of interim responses.
    hook: InterimHook,
    /// The protocol that it asks to go on in.
    upgrade: Option<Box<str>>,
    /// The URL that the client asked for, if somebody has to know.
    target: Option<CacheTarget>,
}

#[expect(
    clippy::large_enum_variant,
    reason = "it is made for nearly every request, and taken apart at once"
)]
enum Begun {
    Passing(Passing),
    /// It was for the proxy itself.
    Answered(Response),
}

impl Passing {
    /// Takes a request apart, and makes it ready to go on.
    fn begin(core: &Rc<Core>, request: Request) -> Result<Begun, StatusError> {
        if request.method() == Method::CONNECT {
            return Err(StatusError::new(StatusCode::NOT_IMPLEMENTED));
        }
        let reactor = request.reactor();
        let client = request.peer().ip();
        let scheme = scheme_of(&request);
        let upgrade = passing::wanted_upgrade(&request, &core.upgrades, core.is_layered);
        let upgrade = upgrade.map(Into::into);
        let above = request.path_above().to_owned();
        let hook = InterimHook::passing_on(request.interim());
        let path = path_below(&request, core.upstreams.have_base())?;
        let (mut parts, body) = request.into_http().into_parts();
        if let Some(answer) = passing::answer_here(&mut parts) {
            return Ok(Begun::Answered(answer));
        }
        let host = asked_host(&parts.uri, &parts.headers);
        let target = match core.is_layered {
            true => Some(asked_url(scheme, host.as_ref(), &parts.uri)?),
            false => None,
        };
        parts.headers.reserve(FIELDS_ADDED);
        passing::prepare_request(&mut parts, &body, &core.name, upgrade.as_deref())?;
        let is_trusted = client.is_some_and(|client| core.trusted.contains(&client));
        let earlier = match is_trusted {
            true => Earlier::Append,
            false => Earlier::Replace,
        };
        let forwarded = ForwardedFor {
            client,
            host: host.as_ref().and_then(|host| host.to_str().ok()),
            scheme: Some(scheme),
        };
        forwarded.write_forwarded(&mut parts.headers, earlier);
        forwarded.write_x_forwarded(&mut parts.headers, earlier);
        match host.clone().filter(|_| core.preserves_host) {
            Some(host) => parts.headers.insert(header::HOST, host),
            None => parts.headers.remove(header::HOST),
        };
        Ok(Begun::Passing(Self {
            core: Rc::clone(core),
            reactor,
            method: parts.method,
            version: parts.version,
            headers: parts.headers,
            body,
            path,
            above,
            host,
            hook,
            upgrade,
            target,
        }))
    }

    /// Asks the upstream whose turn it is, of those that have not been tried.
    fn ask(mut self, mut tried: Vec<Rc<Upstream>>) -> Deferred<Response> {
        let core = Rc::clone(&self.core);
        let Some(upstream) = core.upstreams.choose(self.reactor.now(), &tried) else {
            return fail(StatusError::new(StatusCode::BAD_GATEWAY));
        };
        let Some(uri) = upstream.uri_of(&self.path) else {
            return fail(StatusError::new(StatusCode::BAD_REQUEST));
        };
        let has_others = core.upstreams.len() > tried.len() + 1;
        let spare = has_others.then(|| self.copy()).flatten();
        let busy = upstream.occupy();
        let (reactor, is_head) = (self.reactor.clone(), self.method == Method::HEAD);
        let (above, host) = (std::mem::take(&mut self.above), self.host.take());
        if !core.leaves_cookies {
            self.hook = rescoping(self.hook, &upstream, &above, host.as_ref());
        }
        self.send(uri).add_both(move |outcome| {
            drop(busy);
            let failure = match outcome {
                Ok(mut response) => {
                    upstream.succeeded();
                    passing::prepare_response(&mut response, is_head, None);
                    tell_place(&mut response, &upstream, &above);
                    if !core.leaves_cookies {
                        let headers = response.headers_mut();
                        rescope_cookies(headers, &upstream, &above, host.as_ref());
                    }
                    response
                        .body()
                        .map_failure(move |failure| core.told(failure));
                    return succeed(response);
                }
                Err(failure) => failure,
            };
            let kind = kind_of(&failure);
            if kind.is_some_and(is_servers_fault) {
                upstream.failed(reactor.now());
            }
            let is_unsent = kind.is_some_and(is_unsent);
            let told = core.told(failure);
            match spare {
                Some(spare) if is_unsent => {
                    tried.push(upstream);
                    spare.ask(tried)
                }
                _ => fail(told),
            }
        })
    }

    /// Sends it there, once.
    fn send(self, uri: Uri) -> Deferred<Response> {
        let mut request = ClientRequest::new(self.body);
        *request.method_mut() = self.method;
        *request.uri_mut() = uri;
        *request.version_mut() = self.version;
        *request.headers_mut() = self.headers;
        if let Some(target) = self.target {
            request.extensions_mut().insert(target);
        }
        let Some(protocol) = self.upgrade else {
            return self.core.fetch.fetch_with_interims(request, &self.hook);
        };
        let idle = self.core.tunnel_idle;
        let client = &self.core.client;
        let asked = client.forward_upgrade(request, None, Some(self.hook));
        asked.add_callback(move |(response, server)| match server {
            Some(server) => switched(response, server, &protocol, idle),
            None => Ok(response),
        })
    }

    /// The same once more, if its body can be sent twice.
    fn copy(&self) -> Option<Self> {
        let body = self.body.try_clone()?;
        Some(Self {
            core: Rc::clone(&self.core),
            reactor: self.reactor.clone(),
            method: self.method.clone(),
            version: self.version,
            headers: self.headers.clone(),
            body,
            path: self.path.clone(),
            above: self.above.clone(),
            host: self.host.clone(),
            hook: self.hook.clone(),
            upgrade: self.upgrade.clone(),
            target: self.target.clone(),
        })
    }
}

/// Whether the client speaks TLS.
fn scheme_of(request: &Request) -> &'static str {
    if request.is_secure() { "https" } else { "http" }
}

/// RFC 9112 §3.2.2: of a target in the absolute form, its own authority counts.
fn asked_host(uri: &Uri, headers: &HeaderMap) -> Option<HeaderValue> {
    match uri.authority() {
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => headers.get(header::HOST).cloned(),
    }
}

/// What the client asked for, whole: what it said of the host is in what the upstream is told, too.
fn asked_url(
    scheme: &str,
    host: Option<&HeaderValue>,
    uri: &Uri,
) -> Result<CacheTarget, StatusError> {
    let host = host.and_then(|host| host.to_str().ok());
    // Who asked for none in HTTP/1.0 shares nothing with those who did.
    let host = host.filter(|host| !host.is_empty()).unwrap_or("0");
    let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let url = Uri::builder().scheme(scheme).authority(host);
    let url = url.path_and_query(path).build();
    let refused = |_| StatusError::new(StatusCode::BAD_REQUEST);
    url.map(CacheTarget).map_err(refused)
}

/// What is asked for of the upstream: what follows the prefix, with the query.
fn path_below(request: &Request, have_base: bool) -> Result<PathAndQuery, StatusError> {
    let refused = || StatusError::new(StatusCode::BAD_REQUEST);
    let path = request.path_below();
    let is_whole = request.path_above().is_empty();
    if (have_base || !is_whole) && goes_up(path) {
        // It would leave what is to be reached through here.
        return Err(refused());
    }
    if let Some(whole) = request.uri().path_and_query().filter(|_| is_whole) {
        return Ok(whole.clone());
    }
    let text = match request.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    text.parse().or(Err(refused()))
}

/// Whether a segment is `..`, written plainly or not. Clients resolve that themselves (RFC 3986 §5.2.4).
fn goes_up(path: &str) -> bool {
    if !path.contains("..") && !path.contains("%2e") && !path.contains("%2E") {
        return false;
    }
    let decoded: Vec<u8> = percent_decode_str(path).collect();
    decoded
        .split(|byte| matches!(byte, b'/' | b'\\' | b';'))
        .any(|segment| segment == b"..")
}

/// Says of a place behind the proxy what the client calls it: as nginx's `proxy_redirect`, and in
/// `Content-Location`, too.
fn tell_place(response: &mut Response, upstream: &Upstream, above: &str) {
    let moved = |place: &str| moved(place, &upstream.origin, &upstream.base, above);
    for name in [header::LOCATION, header::CONTENT_LOCATION, header::REFRESH] {
        let said = response.headers().get(&name);
        let said = said.and_then(|said| said.to_str().ok());
        let told = said.and_then(|said| match name == header::REFRESH {
            true => refreshed(said, moved),
            false => moved(said),
        });
        if let Some(told) = told.and_then(|told| HeaderValue::from_str(&told).ok()) {
            response.headers_mut().insert(name, told);
        }
    }
}

/// Passes interim responses on with cookies as the response has them.
fn rescoping(
    hook: InterimHook,
    upstream: &Rc<Upstream>,
    above: &str,
    asked: Option<&HeaderValue>,
) -> InterimHook {
    let (upstream, above, asked) = (Rc::clone(upstream), above.to_owned(), asked.cloned());
    InterimHook::new(move |status, headers| {
        let mut headers = headers.clone();
        rescope_cookies(&mut headers, &upstream, &above, asked.as_ref());
        hook.tell(status, &headers);
    })
}

/// Says of cookies where the client has to send them.
fn rescope_cookies(
    headers: &mut HeaderMap,
    upstream: &Upstream,
    above: &str,
    asked: Option<&HeaderValue>,
) {
    if !headers.contains_key(header::SET_COOKIE) {
        return;
    }
    let asked = asked.and_then(|host| host.to_str().ok());
    let asked = asked.and_then(|host| host.parse::<Authority>().ok());
    let mount = Mount {
        base: &upstream.base,
        above,
        behind: upstream.origin.host(),
        asked: asked.as_ref().map(Authority::host),
    };
    let header::Entry::Occupied(mut cookies) = headers.entry(header::SET_COOKIE) else {
        return;
    };
    for cookie in cookies.iter_mut() {
        let told = rescoped(cookie.as_bytes(), &mount);
        if let Some(told) = told.and_then(|told| HeaderValue::from_bytes(&told).ok()) {
            *cookie = told;
        }
    }
}
