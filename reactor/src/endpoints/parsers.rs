//! Endpoints from text: which kinds there are.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use super::syntax::{EndpointArguments, EndpointError};
use super::tcp::{IpFamily, TcpClientEndpoint, TcpServerEndpoint};
use super::unix::{SystemdServerEndpoint, UnixClientEndpoint, UnixServerEndpoint};
use super::{ClientEndpoint, ServerEndpoint};

type ClientParser = Rc<
    dyn Fn(EndpointArguments, &EndpointParsers) -> Result<Rc<dyn ClientEndpoint>, EndpointError>,
>;
type ServerParser = Rc<
    dyn Fn(EndpointArguments, &EndpointParsers) -> Result<Rc<dyn ServerEndpoint>, EndpointError>,
>;

/// Makes endpoints from text. Twisted's `clientFromString` and `serverFromString`, with the
/// kinds of endpoint in a value instead of in a global.
///
/// | server | |
/// | --- | --- |
/// | `tcp:PORT:interface=HOST:backlog=N` | a TCP port, on every IPv4 interface unless told otherwise; also `tcp4:` and, for IPv6, `tcp6:` |
/// | `unix:ADDRESS:mode=OCTAL:backlog=N` | a UNIX socket: a path, or `@` and a name; Twisted's `lockfile=` is understood, and not needed |
/// | `systemd:index=N` or `systemd:name=NAME` | a socket that systemd has opened ([`systemd`](crate::systemd)), taken when it listens; Twisted's `domain=` is understood, and not needed |
///
/// | client | |
/// | --- | --- |
/// | `tcp:HOST:PORT:timeout=SECONDS:bindAddress=HOST` | a TCP port; `tcp4:` and `tcp6:` for addresses of that family alone |
/// | `unix:PATH:timeout=SECONDS` | a UNIX socket |
///
/// What stands by its place may be given by its name: `tcp:host=HOST:port=PORT`. A colon, an
/// `=` or a backslash in an argument has a backslash before it
/// ([`quote_endpoint_argument`](super::quote_endpoint_argument)): `interface=\:\:1`.
///
/// # Examples
///
/// A kind of one's own:
///
/// ```
/// use std::rc::Rc;
/// use torsade_reactor::{ClientEndpoint, EndpointParsers, TcpClientEndpoint};
///
/// # fn main() -> Result<(), torsade_reactor::EndpointError> {
/// let mut parsers = EndpointParsers::new();
/// parsers.add_client("redis", |mut arguments, _parsers| {
///     let host = arguments.take("host")?.unwrap_or("localhost".to_owned());
///     arguments.finish()?;
///     Ok(Rc::new(TcpClientEndpoint::new((host.as_str(), 6379))) as Rc<dyn ClientEndpoint>)
/// });
/// let endpoint = parsers.client("redis:db.example")?;
/// # let _ = endpoint;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct EndpointParsers {
    clients: BTreeMap<String, ClientParser>,
    servers: BTreeMap<String, ServerParser>,
}

impl EndpointParsers {
    /// The kinds that this crate knows.
    #[must_use]
    pub fn new() -> Self {
        let mut parsers = Self::empty();
        for (kind, family) in [
            ("tcp", None),
            ("tcp4", Some(IpFamily::V4)),
            ("tcp6", Some(IpFamily::V6)),
        ] {
            parsers.add_client(kind, move |arguments, _| tcp_client(arguments, family));
            parsers.add_server(kind, move |arguments, _| tcp_server(arguments, family));
        }
        parsers.add_client("unix", |arguments, _| unix_client(arguments));
        parsers.add_server("unix", |arguments, _| unix_server(arguments));
        parsers.add_server("systemd", |arguments, _| systemd_server(arguments));
        parsers
    }

    /// No kind at all.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// Has `parser` called for client endpoints whose text begins with `kind` and a colon; in
    /// place of another that was there.
    ///
    /// It gets the arguments, and these parsers: a kind that wraps another endpoint gives
    /// [`EndpointArguments::rest`] to [`client`](Self::client).
    pub fn add_client(
        &mut self,
        kind: &str,
        parser: impl Fn(EndpointArguments, &Self) -> Result<Rc<dyn ClientEndpoint>, EndpointError>
        + 'static,
    ) -> &mut Self {
        self.clients
            .insert(kind.to_ascii_lowercase(), Rc::new(parser));
        self
    }

    /// Has `parser` called for server endpoints whose text begins with `kind` and a colon; as
    /// [`add_client`](Self::add_client).
    pub fn add_server(
        &mut self,
        kind: &str,
        parser: impl Fn(EndpointArguments, &Self) -> Result<Rc<dyn ServerEndpoint>, EndpointError>
        + 'static,
    ) -> &mut Self {
        self.servers
            .insert(kind.to_ascii_lowercase(), Rc::new(parser));
        self
    }

    /// The client endpoint that a text describes. Connects to nothing, and looks nothing up.
    ///
    /// # Errors
    ///
    /// What is wrong with the text, and what would be right.
    pub fn client(&self, description: &str) -> Result<Rc<dyn ClientEndpoint>, EndpointError> {
        let arguments = EndpointArguments::read(description)?;
        match self.clients.get(&arguments.kind().to_ascii_lowercase()) {
            Some(parser) => parser(arguments, self),
            None => Err(arguments.unknown("client", self.clients.keys().cloned().collect())),
        }
    }

    /// The server endpoint that a text describes. Listens nowhere yet.
    ///
    /// # Errors
    ///
    /// What is wrong with the text, and what would be right.
    pub fn server(&self, description: &str) -> Result<Rc<dyn ServerEndpoint>, EndpointError> {
        let arguments = EndpointArguments::read(description)?;
        match self.servers.get(&arguments.kind().to_ascii_lowercase()) {
            Some(parser) => parser(arguments, self),
            None => Err(arguments.unknown("server", self.servers.keys().cloned().collect())),
        }
    }
}

impl fmt::Debug for EndpointParsers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointParsers")
            .field("clients", &self.clients.keys())
            .field("servers", &self.servers.keys())
            .finish()
    }
}

const PORT: &str = "a port from 0 to 65535";

fn tcp_client(
    mut arguments: EndpointArguments,
    family: Option<IpFamily>,
) -> Result<Rc<dyn ClientEndpoint>, EndpointError> {
    let host = arguments.required("host", "a name or an IP address")?;
    let port = port(&mut arguments)?;
    let timeout = timeout(&mut arguments)?;
    let bind_address = arguments.parse::<IpAddr>("bindAddress", "an IP address")?;
    let mut endpoint = TcpClientEndpoint::new((host.as_str(), port));
    if let Some(limit) = timeout {
        endpoint = endpoint.timeout(limit);
    }
    if let Some(ip) = bind_address {
        endpoint = endpoint.local_address((ip, 0));
    }
    if let Some(family) = family {
        endpoint = endpoint.family(family);
    }
    arguments.finish()?;
    Ok(Rc::new(endpoint))
}

fn tcp_server(
    mut arguments: EndpointArguments,
    family: Option<IpFamily>,
) -> Result<Rc<dyn ServerEndpoint>, EndpointError> {
    let port = port(&mut arguments)?;
    let interface = arguments.take("interface")?.filter(|host| !host.is_empty());
    let interface = interface.unwrap_or_else(|| match family {
        Some(IpFamily::V6) => "::".to_owned(),
        _ => "0.0.0.0".to_owned(),
    });
    let backlog = arguments.parse("backlog", "a number of connections")?;
    arguments.finish()?;
    let mut endpoint = TcpServerEndpoint::new((interface.as_str(), port));
    if let Some(family) = family {
        endpoint = endpoint.family(family);
    }
    if let Some(connections) = backlog {
        endpoint = endpoint.backlog(connections);
    }
    Ok(Rc::new(endpoint))
}

fn unix_client(mut arguments: EndpointArguments) -> Result<Rc<dyn ClientEndpoint>, EndpointError> {
    let path = arguments.required("path", "a path, or @ and a name")?;
    let timeout = timeout(&mut arguments)?;
    arguments.flag("lockfile")?;
    arguments.finish()?;
    let endpoint = UnixClientEndpoint::new(path.as_str());
    Ok(Rc::new(match timeout {
        Some(limit) => endpoint.timeout(limit),
        None => endpoint,
    }))
}

fn unix_server(mut arguments: EndpointArguments) -> Result<Rc<dyn ServerEndpoint>, EndpointError> {
    const MODE: &str = "permission bits in octal, such as 660";
    let address = arguments.required("address", "a path, or @ and a name")?;
    let mode = arguments.take("mode")?;
    let backlog = arguments.parse("backlog", "a number of connections")?;
    arguments.flag("lockfile")?;
    let mut endpoint = UnixServerEndpoint::new(address.as_str());
    if let Some(text) = mode {
        let bits = u32::from_str_radix(&text, 8)
            .ok()
            .filter(|bits| *bits <= 0o777);
        endpoint = endpoint.mode(bits.ok_or_else(|| arguments.invalid("mode", text, MODE))?);
    }
    if let Some(connections) = backlog {
        endpoint = endpoint.backlog(connections);
    }
    arguments.finish()?;
    Ok(Rc::new(endpoint))
}

fn systemd_server(
    mut arguments: EndpointArguments,
) -> Result<Rc<dyn ServerEndpoint>, EndpointError> {
    arguments.take("domain")?;
    let index = arguments.parse("index", "a number from 0 on")?;
    let name = arguments.take("name")?;
    let endpoint = match (index, name) {
        (Some(index), None) => SystemdServerEndpoint::Numbered(index),
        (None, Some(name)) => SystemdServerEndpoint::Named(name),
        (Some(_), Some(name)) => {
            return Err(arguments.invalid("name", name, "a name or an index, and not both"));
        }
        (None, None) => {
            return Err(arguments.invalid("index", "", "a number from 0 on, or a name"));
        }
    };
    arguments.finish()?;
    Ok(Rc::new(endpoint))
}

fn timeout(arguments: &mut EndpointArguments) -> Result<Option<Duration>, EndpointError> {
    const TIMEOUT: &str = "a number of seconds";
    let Some(seconds) = arguments.parse::<f64>("timeout", TIMEOUT)? else {
        return Ok(None);
    };
    match Duration::try_from_secs_f64(seconds) {
        Ok(limit) => Ok(Some(limit)),
        Err(_) => Err(arguments.invalid("timeout", seconds.to_string(), TIMEOUT)),
    }
}

fn port(arguments: &mut EndpointArguments) -> Result<u16, EndpointError> {
    let text = arguments.required("port", PORT)?;
    text.parse()
        .ok()
        .ok_or_else(|| arguments.invalid("port", text, PORT))
}
