//! Endpoints from text: `tls:` and `ssl:`.

use std::fs;
use std::path::Path;
use std::rc::Rc;
use std::str::FromStr;

use torsade_reactor::{
    Address, ClientEndpoint, EndpointArguments, EndpointError, EndpointParsers, ServerEndpoint,
    quote_endpoint_argument,
};

use super::certificates::{Identity, Roots};
use super::config::{client_config, server_config};
use super::endpoints::{TlsClientEndpoint, TlsServerEndpoint, server_name};
use super::error::{ConfigError, TlsError};

/// Adds the kinds of endpoint that speak TLS; the crate `torsade` has done it already.
///
/// | | |
/// |---|---|
/// | client | `tls:HOST:PORT:timeout=S:bindAddress=IP:certificate=FILE:privateKey=FILE:trustRoots=FILE-OR-FOLDER`, or `tls:HOST:endpoint=ENDPOINT` and the same files |
/// | server | `ssl:PORT:privateKey=FILE:certKey=FILE:extraCertChain=FILE:interface=HOST:backlog=N`, or `ssl:endpoint=ENDPOINT` and the same files; `tls:` is the same |
///
/// A client connects to `HOST:PORT` by TCP, or to `endpoint`, and the server must show a certificate
/// for `HOST`; it trusts the platform's roots, or those in `trustRoots`. A server listens at `PORT`, or
/// at `endpoint`; its `privateKey` is `server.pem` unless it is given, and `certKey` the same file. All
/// files are in PEM form, and are read when the text is.
///
/// Each `:`, `=` and backslash in `endpoint` has a backslash before it
/// ([`quote_endpoint_argument`]): `tls:endpoint=unix\:/run/web.sock\:mode\=660`.
///
/// # The order of layers
///
/// What stands first is what the protocol sees, what is in `endpoint`, or behind a prefix, lies below.
/// A proxy sends its header before the client's TLS begins: `tls:endpoint=haproxy\:tcp\:443`. The text
/// `haproxy:tls:443` is for one that speaks TLS itself and sends the header within.
///
/// # Examples
///
/// ```no_run
/// use torsade_protocols::tls;
/// use torsade_reactor::EndpointParsers;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut parsers = EndpointParsers::new();
/// tls::add_endpoint_kinds(&mut parsers);
/// let client = parsers.client("tls:example.com:443")?;
/// let server = parsers.server("ssl:443:privateKey=key.pem:certKey=cert.pem")?;
/// # drop((client, server));
/// # Ok(())
/// # }
/// ```
pub fn add_endpoint_kinds(parsers: &mut EndpointParsers) {
    add_endpoint_kinds_with(parsers, |_, _| {});
}

/// Adds the kinds of endpoint that speak TLS, as [`add_endpoint_kinds`] does, in place of those that are
/// there; calls `on_failed_handshake` for each handshake that fails at a server made from text, with
/// the peer's address and the reason, as
/// [`TlsServerEndpoint::on_failed_handshake`] has it.
pub fn add_endpoint_kinds_with(
    parsers: &mut EndpointParsers,
    on_failed_handshake: impl Fn(&Address, &TlsError) + 'static,
) {
    let failed = Rc::new(on_failed_handshake);
    parsers.add_client("tls", client);
    for kind in ["ssl", "tls"] {
        let failed = Rc::clone(&failed);
        parsers.add_server(kind, move |arguments, parsers| {
            let failed = Rc::clone(&failed);
            let endpoint = server(arguments, parsers)?;
            let endpoint = endpoint.on_failed_handshake(move |peer, error| failed(peer, error));
            Ok(Rc::new(endpoint) as Rc<dyn ServerEndpoint>)
        });
    }
}

const PORT: &str = "a port from 0 to 65535";

/// Arguments that belong to the TCP endpoint below.
struct Tcp<const N: usize> {
    port: Option<u16>,
    others: [(&'static str, Option<String>); N],
}

impl<const N: usize> Tcp<N> {
    /// The endpoint below: the one that is given, or `kind` with these arguments.
    fn description(
        self,
        arguments: &mut EndpointArguments,
        endpoint: Option<String>,
        kind: String,
    ) -> Result<String, EndpointError> {
        const NO_PORT: &str = "either an endpoint or a port, and what belongs to that";
        let others = self.others.into_iter();
        let mut given = others.filter_map(|(name, value)| Some((name, value?)));
        match (endpoint, self.port) {
            (Some(description), None) => match given.next() {
                None => Ok(description),
                Some(_) => Err(arguments.invalid("endpoint", description, NO_PORT)),
            },
            (Some(description), Some(_)) => {
                Err(arguments.invalid("endpoint", description, NO_PORT))
            }
            // It is missing, as this says.
            (None, None) => arguments.required("port", PORT),
            (None, Some(port)) => {
                let mut description = format!("{kind}:port={port}");
                for (name, value) in given {
                    let value = quote_endpoint_argument(&value);
                    description.push_str(&format!(":{name}={value}"));
                }
                Ok(description)
            }
        }
    }
}

/// A number that the endpoint below will read, looked at here, where the whole text is known.
fn number<T: FromStr + ToString>(
    arguments: &mut EndpointArguments,
    name: &'static str,
    expected: &'static str,
) -> Result<Option<String>, EndpointError> {
    let parsed = arguments.parse::<T>(name, expected)?;
    Ok(parsed.map(|number| number.to_string()))
}

fn client(
    mut arguments: EndpointArguments,
    parsers: &EndpointParsers,
) -> Result<Rc<dyn ClientEndpoint>, EndpointError> {
    let host = arguments.required("host", "a name or an IP address")?;
    let tcp = Tcp {
        port: arguments.parse("port", PORT)?,
        others: [
            (
                "timeout",
                number::<f64>(&mut arguments, "timeout", "a number of seconds")?,
            ),
            ("bindAddress", arguments.take("bindAddress")?),
        ],
    };
    let certificate = arguments.take("certificate")?;
    let key = arguments.take("privateKey")?;
    let trusted = arguments.take("trustRoots")?;
    let endpoint = arguments.take("endpoint")?;
    let name = server_name(&host)
        .ok()
        .ok_or_else(|| arguments.invalid("host", &*host, "a name or an IP address"))?;
    let kind = format!("tcp:{}", quote_endpoint_argument(&host));
    let below = tcp.description(&mut arguments, endpoint, kind)?;
    // What can be seen in the text is told before any file is read.
    let below = parsers.client(&below)?;
    arguments.clone().finish()?;
    let mut config = client_config();
    let roots_from = trusted.as_deref().unwrap_or("the platform's");
    if let Some(path) = &trusted {
        let roots = roots(Path::new(path));
        config = config.roots(checked(&arguments, "trustRoots", path, roots)?);
    }
    // One file may be both.
    let certificate = certificate.map(|path| ("certificate", path));
    let key = key.map(|path| ("privateKey", path));
    let files = certificate.as_ref().or(key.as_ref());
    let files = files.map(|it| (it, key.as_ref().unwrap_or(it)));
    if let Some((chain, key)) = files {
        let identity = Identity::from_pem_files(&chain.1, &key.1);
        config = config.identity(checked_identity(&arguments, chain, key, identity)?);
    }
    let config = config.build();
    let config = match (files, &config) {
        (Some((chain, key)), Err(ConfigError::Rejected(_))) => {
            checked_identity(&arguments, chain, key, config)?
        }
        _ => checked(&arguments, "trustRoots", roots_from, config)?,
    };
    Ok(Rc::new(TlsClientEndpoint::new(below, &config, name)))
}

fn server(
    mut arguments: EndpointArguments,
    parsers: &EndpointParsers,
) -> Result<TlsServerEndpoint<Rc<dyn ServerEndpoint>>, EndpointError> {
    let port = arguments.parse("port", PORT)?;
    let key = arguments.take("privateKey")?.unwrap_or("server.pem".into());
    let certificate = arguments.take("certKey")?.unwrap_or_else(|| key.clone());
    let more = arguments.take("extraCertChain")?;
    let tcp = Tcp {
        port,
        others: [
            ("interface", arguments.take("interface")?),
            (
                "backlog",
                number::<u32>(&mut arguments, "backlog", "a number of connections")?,
            ),
        ],
    };
    let endpoint = arguments.take("endpoint")?;
    let below = tcp.description(&mut arguments, endpoint, "tcp".to_owned())?;
    // What can be seen in the text is told before any file is read.
    let below = parsers.server(&below)?;
    arguments.clone().finish()?;
    let identity = identity(&certificate, &key, more.as_deref());
    let (chain, key) = (("certKey", certificate), ("privateKey", key));
    let identity = checked_identity(&arguments, &chain, &key, identity)?;
    let config = server_config(identity).build();
    let config = checked(&arguments, key.0, &key.1, config)?;
    Ok(TlsServerEndpoint::new(below, &config))
}

fn roots(path: &Path) -> Result<Roots, ConfigError> {
    match path.is_dir() {
        true => Roots::from_directory(path),
        false => Roots::from_pem_file(path),
    }
}

fn identity(certificate: &str, key: &str, more: Option<&str>) -> Result<Identity, ConfigError> {
    let Some(more) = more else {
        return Identity::from_pem_files(certificate, key);
    };
    let read = |path: &str| {
        fs::read(path).map_err(|source| ConfigError::File {
            path: path.into(),
            source,
        })
    };
    let chain = [read(certificate)?, b"\n".to_vec(), read(more)?].concat();
    Identity::from_pem(chain, read(key)?)
}

/// The error of an identity as one of the argument, a name and a path, that it is in.
fn checked_identity<T>(
    arguments: &EndpointArguments,
    chain: &(&'static str, String),
    key: &(&'static str, String),
    outcome: Result<T, ConfigError>,
) -> Result<T, EndpointError> {
    let is_key = match &outcome {
        Err(ConfigError::NoKey { .. } | ConfigError::Rejected(_)) => true,
        Err(ConfigError::File { path, .. }) => path == Path::new(&key.1) && chain.1 != key.1,
        _ => false,
    };
    let (name, path) = if is_key { key } else { chain };
    checked(arguments, name, path, outcome)
}

/// The error of a file as one of the text that names it.
fn checked<T>(
    arguments: &EndpointArguments,
    name: &'static str,
    value: &str,
    outcome: Result<T, ConfigError>,
) -> Result<T, EndpointError> {
    outcome.map_err(|error| arguments.invalid(name, value, format!("another file: {error}")))
}
