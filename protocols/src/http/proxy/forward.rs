//! A proxy in front of clients.

use core::net::IpAddr;
use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use http::header::{self, HeaderValue};
use http::uri::Authority;
use http::{Method, StatusCode};
use torsade_deferred::{Deferred, Failure, fail, succeed};
use torsade_reactor::{Address, Carried};

use super::super::client::{Client, ClientRequest, Guard, is_bare, whole_server};
use super::super::error::StatusError;
use super::super::fetch::{Fetch, InterimHook};
use super::super::request::Request;
use super::super::response::{Answer, Handler, IntoAnswer, Response};
use super::super::upgrade::{Upgraded, accept_connect};
use super::credentials;
use super::outcome::{FailureHook, is_news, told};
use super::passing::{self, Asking, Name};
use super::tunnels::{Places, join, switched};

/// Passes the requests of clients on to whatever servers they name, and makes tunnels for them.
///
/// A [`Handler`]: `http::serve(&reactor, "127.0.0.1:3128", ForwardProxy::new(&client))`. Requests whose target is a whole
/// URL (RFC 9112 §3.2.2) are asked through the [`Client`], whose limits, pool and own proxies hold; its redirects,
/// cookies and decoding do not. CONNECT (RFC 9110 §9.3.6) connects to the host and carries bytes both ways, at the
/// pace of whoever is slower.
///
/// The fields of one hop stay behind, `Via` is added both ways, `Host` is that of the URL, and how bodies are framed is
/// never copied, but said anew. Who asked is not told.
///
/// # Who may reach what
///
/// By default: everybody who can connect to the proxy, so listen where only those can who should; with CONNECT
/// port 443 alone; otherwise ports 80, 443 and those from 1024 on, so that nobody has it talk to a mail server; and
/// nothing on the proxy's own host or link, whatever name leads there ([`allow_local`](Self::allow_local)). What is refused
/// is answered with 403. [`tunnel_ports`](Self::tunnel_ports), [`ports`](Self::ports), [`access`](Self::access) and
/// [`basic_auth`](Self::basic_auth) say it otherwise.
///
/// # Errors
///
/// As those of [`ReverseProxy`](super::ReverseProxy). Requests that are for no proxy, with a path alone, are answered
/// with 400, or [`otherwise`](Self::otherwise).
///
/// # Examples
///
/// ```
/// use torsade_protocols::http::{self, Client, ForwardProxy, ProxyRequest};
/// use torsade_reactor::Reactor;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let reactor = Reactor::new()?;
/// let proxy = ForwardProxy::new(&Client::new(&reactor))
///     .tunnel_ports(|port| matches!(port, 443 | 8443))
///     .access(|asked: &ProxyRequest<'_>| !asked.host.ends_with(".example"))
///     .basic_auth("the way out", |user, password| (user, password) == ("ali", "sesame"));
/// let server = http::serve(&reactor, "127.0.0.1:0", proxy)?;
/// println!("http://{}", server.address());
/// # reactor.stop();
/// reactor.run()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ForwardProxy {
    core: Rc<Core>,
}

struct Core {
    client: Client,
    fetch: Rc<dyn Fetch>,
    /// Not the client alone: a cache, perhaps.
    is_layered: bool,
    guard: Guard,
    allows_local: Rc<Cell<bool>>,
    ports: PortRule,
    tunnel_ports: PortRule,
    access: Option<AccessRule>,
    auth: Option<Auth>,
    otherwise: Option<Box<dyn Handler>>,
    name: Name,
    upgrades: Vec<Box<str>>,
    tunnels: Places,
    tunnel_idle: Duration,
    serves_half_closed: bool,
    on_tunnel_over: Option<TunnelLog>,
    on_failure: Option<FailureHook>,
}

type PortRule = Box<dyn Fn(u16) -> bool>;
type AccessRule = Box<dyn Fn(&ProxyRequest<'_>) -> bool>;
type PasswordCheck = Box<dyn Fn(&str, &str) -> bool>;
type TunnelLog = Box<dyn Fn(&TunnelRecord)>;

struct Auth {
    challenge: HeaderValue,
    check: PasswordCheck,
}

/// What somebody asks of a [`ForwardProxy`], for a rule that says who may reach what.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ProxyRequest<'a> {
    /// Who asks.
    pub client: &'a Address,
    /// The name that it has given, if there is a check of passwords.
    pub user: Option<&'a str>,
    /// The method; CONNECT is a tunnel.
    pub method: &'a Method,
    /// The host: a name in lower case, or a number; an IPv6 address stands in brackets.
    pub host: &'a str,
    /// The port.
    pub port: u16,
}

/// A tunnel that is over, for a log.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TunnelRecord {
    /// Who asked for it.
    pub client: Address,
    /// The name that it has given, if there is a check of passwords.
    pub user: Option<String>,
    /// Host and port, as the client wrote them.
    pub target: String,
    /// Bytes from the client, and to it.
    pub carried: Carried,
    /// From the connection to its end.
    pub took: Duration,
}

/// Tunnels at a time, and how long one may be silent.
const TUNNELS_MAX: usize = 1024;
const TUNNEL_IDLE: Duration = Duration::from_secs(10 * 60);

impl ForwardProxy {
    /// A proxy that asks through `client`.
    #[must_use]
    pub fn new(client: &Client) -> Self {
        let allows_local = Rc::new(Cell::new(false));
        let local = Rc::clone(&allows_local);
        let guard: Guard =
            Rc::new(move |address| local.get() || !address.ip().is_some_and(is_local));
        let asking = Asking {
            client: client.clone(),
            guard: Some(Rc::clone(&guard)),
        };
        let core = Core {
            client: client.clone(),
            fetch: Rc::new(asking),
            is_layered: false,
            guard,
            allows_local,
            ports: Box::new(|port| matches!(port, 80 | 443 | 1024..)),
            tunnel_ports: Box::new(|port| port == 443),
            access: None,
            auth: None,
            otherwise: None,
            name: Name::default(),
            upgrades: vec!["websocket".into()],
            tunnels: Places::new(TUNNELS_MAX),
            tunnel_idle: TUNNEL_IDLE,
            serves_half_closed: false,
            on_tunnel_over: None,
            on_failure: None,
        };
        Self {
            core: Rc::new(core),
        }
    }

    /// For who builds one: nobody else has it yet.
    fn build(mut self, change: impl FnOnce(&mut Core)) -> Self {
        let core = Rc::get_mut(&mut self.core);
        change(core.expect("a proxy is changed before it is cloned or used"));
        self
    }

    /// Which ports CONNECT may reach: 443, by default. What goes through a tunnel nobody sees, so this is
    /// all that keeps it from being mail.
    ///
    /// # Panics
    ///
    /// As all of these: if the proxy has been cloned, or used.
    #[must_use]
    pub fn tunnel_ports(self, may: impl Fn(u16) -> bool + 'static) -> Self {
        self.build(|core| core.tunnel_ports = Box::new(may))
    }

    /// Which ports other requests may reach: 80, 443 and those from 1024 on, by default.
    #[must_use]
    pub fn ports(self, may: impl Fn(u16) -> bool + 'static) -> Self {
        self.build(|core| core.ports = Box::new(may))
    }

    /// Lets clients reach the proxy's own host, its link and groups (127.0.0.0/8, ::1, 169.254.0.0/16, fe80::/10 and the
    /// like), which by default they cannot. The address counts that was connected to, not the name. An address
    /// that only a proxy of the [`Client`]'s own connects to is not known here.
    #[must_use]
    pub fn allow_local(self) -> Self {
        self.build(|core| core.allows_local.set(true))
    }

    /// Has `may` asked who may reach what, after the other rules. What it refuses is answered with 403.
    ///
    /// Rules that take time are a layer around the proxy: see [`wrap`](super::super::wrap).
    #[must_use]
    pub fn access(self, may: impl Fn(&ProxyRequest<'_>) -> bool + 'static) -> Self {
        self.build(|core| core.access = Some(Box::new(may)))
    }

    /// Wants a name and a password (RFC 7617), which `check` knows or does not; else it is 407.
    ///
    /// They come with every request, unencrypted unless the proxy is listening with TLS.
    ///
    /// # Panics
    ///
    /// As all of these; and if `realm` has other than visible ASCII and spaces.
    #[must_use]
    pub fn basic_auth(self, realm: &str, check: impl Fn(&str, &str) -> bool + 'static) -> Self {
        let realm = realm.replace('\\', "\\\\").replace('"', "\\\"");
        let challenge = format!("Basic realm=\"{realm}\", charset=\"UTF-8\"");
        let challenge = HeaderValue::from_str(&challenge).expect("a realm is visible ASCII");
        self.build(|core| {
            core.auth = Some(Auth {
                challenge,
                check: Box::new(check),
            });
        })
    }

    /// Answers requests that are for no proxy: pages of its own, for instance.
    #[must_use]
    pub fn otherwise(self, handler: impl Handler) -> Self {
        self.build(|core| core.otherwise = Some(Box::new(handler)))
    }

    /// What it calls itself in `Via`: a name that no other proxy has, so that what comes round again is known.
    /// Without one, it is `torsade`, and a request ends when it has passed four of these.
    #[must_use]
    pub fn name(self, name: &str) -> Self {
        self.build(|core| core.name = Name::unique(name))
    }

    /// How many tunnels there may be at a time: 1024. For further ones it is 503.
    #[must_use]
    pub fn tunnels_max(self, count: usize) -> Self {
        self.build(|core| core.tunnels.limit = count)
    }

    /// How long nothing may move in a tunnel: 10 minutes. Then it is aborted, within that time again.
    #[must_use]
    pub fn tunnel_idle(self, idle: Duration) -> Self {
        self.build(|core| core.tunnel_idle = idle)
    }

    /// Goes on for clients that have ended their stream, and still wait for their responses: as
    /// [`ReverseProxy::serve_half_closed`](super::ReverseProxy::serve_half_closed). Tunnels carry the end of either
    /// stream on, whatever this says.
    #[must_use]
    pub fn serve_half_closed(self) -> Self {
        self.build(|core| core.serves_half_closed = true)
    }

    /// Has `log` called when a tunnel is over. The access log has its request when it begins.
    #[must_use]
    pub fn on_tunnel_over(self, log: impl Fn(&TunnelRecord) + 'static) -> Self {
        self.build(|core| core.on_tunnel_over = Some(Box::new(log)))
    }

    /// Has `hook` called with what went wrong behind the proxy, before a response and in the middle of it. The
    /// client reads less.
    #[must_use]
    pub fn on_failure(self, hook: impl Fn(&Failure) + 'static) -> Self {
        self.build(|core| core.on_failure = Some(Box::new(hook)))
    }

    /// Puts a layer between the proxy and its client, such as a [`Cache`](super::super::Cache): `layer` gets the step that
    /// asks the server, and gives the one that is taken in its place. Tunnels and upgrades do not go through it; what would
    /// change something (POST, say) is passed on without its `Upgrade`.
    #[must_use]
    pub fn through<F: Fetch>(self, layer: impl FnOnce(Rc<dyn Fetch>) -> F) -> Self {
        self.build(|core| {
            core.fetch = Rc::new(layer(Rc::clone(&core.fetch)));
            core.is_layered = true;
        })
    }

    /// How many tunnels there are.
    #[must_use]
    pub fn tunnels(&self) -> usize {
        self.core.tunnels.open()
    }
}

impl Handler for ForwardProxy {
    fn handle(&self, request: Request) -> Answer {
        let core = &self.core;
        let is_tunnel = request.method() == Method::CONNECT;
        if !is_tunnel
            && request.uri().authority().is_none()
            && let Some(otherwise) = &core.otherwise
        {
            return otherwise.handle(request);
        }
        if !core.serves_half_closed {
            request.end_with_client();
        }
        let answer = match is_tunnel {
            true => Core::connect(core, &request),
            false => Core::pass_on(core, request),
        };
        match answer {
            Ok(answer) => answer.into_answer(),
            Err(error) => error.into(),
        }
    }
}

impl Core {
    /// Asks for what has a URL.
    fn pass_on(self: &Rc<Self>, request: Request) -> Result<Deferred<Response>, StatusError> {
        let Some(authority) = request.uri().authority().cloned() else {
            // RFC 9110 §9.3.7: of no target at all, it is for us.
            if request.method() == Method::OPTIONS && request.target() == "*" {
                self.user_of(&request)?;
                return Ok(succeed(Response::new(().into())));
            }
            let problem = "this is a proxy: it is asked for whole URLs";
            return Err(StatusError::because(StatusCode::BAD_REQUEST, problem));
        };
        let port = match request.uri().scheme_str() {
            Some("http") => 80,
            Some("https") => 443,
            _ => {
                let problem = "this proxy speaks http and https";
                return Err(StatusError::because(StatusCode::BAD_REQUEST, problem));
            }
        };
        let port = port_of(&authority, port).ok_or(StatusError::new(StatusCode::BAD_REQUEST))?;
        let user = self.user_of(&request)?;
        self.check(&request, &authority, port, user.as_deref())?;
        let protocol =
            passing::wanted_upgrade(&request, &self.upgrades, self.is_layered).map(str::to_owned);
        let is_head = request.method() == Method::HEAD;
        let is_of_server = request.method() == Method::OPTIONS && is_bare(request.target());
        let hook = InterimHook::passing_on(request.interim());
        let (mut parts, body) = request.into_http().into_parts();
        if let Some(answer) = passing::answer_here(&mut parts) {
            return Ok(succeed(answer));
        }
        passing::prepare_request(&mut parts, &body, &self.name, protocol.as_deref())?;
        // RFC 9112 §3.2.2: that of the URL counts, and is written by the client.
        parts.headers.remove(header::HOST);
        if is_of_server {
            // RFC 9112 §3.2.4: of a URL without a path, the last proxy makes `*`.
            parts.uri = whole_server(parts.uri);
        }
        let request = ClientRequest::from_parts(parts, body);
        let core = Rc::clone(self);
        let fetched = self.fetch(request, protocol, hook);
        Ok(fetched.add_both(move |outcome| match outcome {
            Ok(mut response) => {
                passing::prepare_response(&mut response, is_head, Some(&core.name));
                response
                    .body()
                    .map_failure(move |failure| core.told(failure));
                Ok(response)
            }
            Err(failure) => Err(core.told(failure)),
        }))
    }

    fn fetch(
        &self,
        request: ClientRequest,
        protocol: Option<String>,
        hook: InterimHook,
    ) -> Deferred<Response> {
        let Some(protocol) = protocol else {
            return self.fetch.fetch_with_interims(request, &hook);
        };
        let (guard, idle) = (Rc::clone(&self.guard), self.tunnel_idle);
        let asked = self
            .client
            .forward_upgrade(request, Some(guard), Some(hook));
        asked.add_callback(move |(response, server)| match server {
            Some(server) => switched(response, server, &protocol, idle),
            None => Ok(response),
        })
    }

    /// Makes a tunnel.
    fn connect(self: &Rc<Self>, request: &Request) -> Result<Deferred<Response>, StatusError> {
        let bad = || StatusError::new(StatusCode::BAD_REQUEST);
        let authority = request.uri().authority().cloned().ok_or_else(bad)?;
        let port = port_of(&authority, 0)
            .filter(|port| *port > 0)
            .ok_or_else(bad)?;
        if !request.body().is_empty() || authority.as_str().contains('@') {
            return Err(bad());
        }
        let user = self.user_of(request)?;
        self.check(request, &authority, port, user.as_deref())?;
        let Some(place) = self.tunnels.take() else {
            let problem = "there are too many tunnels";
            return Err(StatusError::because(
                StatusCode::SERVICE_UNAVAILABLE,
                problem,
            ));
        };
        let (client, reactor) = (request.peer(), request.reactor());
        let core = Rc::clone(self);
        let dialled = self.client.dial(&authority, Rc::clone(&self.guard));
        Ok(dialled.add_both(move |outcome| {
            let stream = match outcome {
                Ok(stream) => stream,
                Err(failure) => return fail(core.told(failure)),
            };
            // Until somebody takes it: given up, if nobody does.
            let server = Upgraded::new(stream, Vec::new());
            let begun = reactor.now();
            succeed(accept_connect(move |upgraded| {
                let over = join(upgraded, server, core.tunnel_idle);
                let target = authority.to_string();
                let record = move |carried| {
                    drop(place);
                    let took = reactor.now().saturating_duration_since(begun);
                    core.tunnel_over(&TunnelRecord {
                        client,
                        user,
                        target,
                        carried,
                        took,
                    });
                };
                // It cannot fail, but be interrupted; then nobody is there to be told.
                drop(over.map(record).add_errback(|_| Ok(())));
            }))
        }))
    }

    fn tunnel_over(&self, record: &TunnelRecord) {
        if let Some(log) = &self.on_tunnel_over {
            log(record);
        }
    }

    fn told(&self, failure: Failure) -> Failure {
        if let Some(hook) = self.on_failure.as_ref().filter(|_| is_news(&failure)) {
            hook(&failure);
        }
        told(failure)
    }

    /// Who asks, if that has to be known: RFC 9110 §11.7.
    fn user_of(&self, request: &Request) -> Result<Option<String>, StatusError> {
        let Some(auth) = &self.auth else {
            return Ok(None);
        };
        let given = request.header_text("proxy-authorization");
        if let Some((user, password)) = given.and_then(credentials::basic)
            && (auth.check)(&user, &password)
        {
            return Ok(Some(user));
        }
        let error = StatusError::new(StatusCode::PROXY_AUTHENTICATION_REQUIRED);
        Err(error.with_header(header::PROXY_AUTHENTICATE, auth.challenge.clone()))
    }

    /// Whether that may be reached, as far as it can be told before somebody connects to it.
    fn check(
        &self,
        request: &Request,
        authority: &Authority,
        port: u16,
        user: Option<&str>,
    ) -> Result<(), StatusError> {
        let refused = |problem| Err(StatusError::because(StatusCode::FORBIDDEN, problem));
        let is_tunnel = request.method() == Method::CONNECT;
        let ports = match is_tunnel {
            true => &self.tunnel_ports,
            false => &self.ports,
        };
        if !ports(port) {
            return refused("this proxy does not reach that port");
        }
        let host = authority.host().to_ascii_lowercase();
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
        if address.is_ok_and(is_local) && !self.allows_local.get() {
            return refused("this proxy does not pass requests on to there");
        }
        let Some(access) = &self.access else {
            return Ok(());
        };
        let asked = ProxyRequest {
            client: &request.peer(),
            user,
            method: request.method(),
            host: &host,
            port,
        };
        match access(&asked) {
            true => Ok(()),
            false => refused("this proxy does not let you reach that"),
        }
    }
}

/// The port of an authority; an empty one is none (RFC 3986 §3.2.3).
fn port_of(authority: &Authority, usual: u16) -> Option<u16> {
    let behind = authority.as_str().strip_prefix(authority.host())?;
    match behind.strip_prefix(':') {
        None | Some("") => Some(usual),
        Some(port) => port.parse().ok(),
    }
}

/// Whether an address is on this host, on its link, or is nobody's.
fn is_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            address.is_loopback()
                || address.is_link_local()
                || address.is_multicast()
                || address.is_broadcast()
                // 0.0.0.0/8: this network, and this host on many systems.
                || address.octets()[0] == 0
        }
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(mapped) => is_local(IpAddr::V4(mapped)),
            None => {
                address.is_loopback()
                    || address.is_unspecified()
                    || address.is_multicast()
                    || address.is_unicast_link_local()
            }
        },
    }
}

impl fmt::Debug for ForwardProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwardProxy")
            .field("client", &self.core.client)
            .field("tunnels", &self.tunnels())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_this_host_or_its_link_is_local_however_it_is_written() {
        let local = [
            "127.0.0.1",
            "127.8.8.8",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "ff02::1",
            "::ffff:127.0.0.1",
        ];
        let far = [
            "10.0.0.1",
            "192.168.1.1",
            "93.184.216.34",
            "2001:db8::1",
            "::ffff:10.0.0.1",
        ];
        let is_local = |text: &str| is_local(text.parse().expect("an address"));
        assert!(local.iter().all(|text| is_local(text)));
        assert!(far.iter().all(|text| !is_local(text)));
    }
}
