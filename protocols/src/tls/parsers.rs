//! Endpoints from text: `tls:` and `ssl:`.

use std::fs;
use std::path::Path;
use std::rc::Rc;

use rustls::pki_types::ServerName;
use torsade_reactor::{
    ClientEndpoint, EndpointArguments, EndpointError, EndpointParsers, ServerEndpoint,
    quote_endpoint_argument,
};

use super::certificates::{Identity, Roots};
use super::config::{client_config, server_config};
use super::endpoints::{TlsClientEndpoint, TlsServerEndpoint};
use super::error::ConfigError;

/// Adds the kinds of endpoint that speak TLS; the crate `torsade` has done it already.
///
/// | | |
/// |---|---|
/// | client | `tls:HOST:PORT:timeout=S:bindAddress=IP:certificate=FILE:privateKey=FILE:trustRoots=FILE-OR-FOLDER:endpoint=ENDPOINT` |
/// | server | `ssl:PORT:privateKey=FILE:certKey=FILE:extraCertChain=FILE:interface=HOST:backlog=N`, or `tls:` and the same |
///
/// A client connects to `HOST:PORT` by TCP, or to `endpoint`, and the server must show a certificate
/// for `HOST`; it trusts the platform's roots, or those in `trustRoots`. A server's `privateKey` is
/// `server.pem` unless it is given, and `certKey` the same file. All files are in PEM form, and are
/// read when the text is.
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
    parsers
        .add_client("tls", client)
        .add_server("ssl", server)
        .add_server("tls", server);
}

fn client(
    mut arguments: EndpointArguments,
    parsers: &EndpointParsers,
) -> Result<Rc<dyn ClientEndpoint>, EndpointError> {
    let host = arguments.required("host", "a name or an IP address")?;
    let port = arguments.take("port")?;
    let (timeout, bind) = (arguments.take("timeout")?, arguments.take("bindAddress")?);
    let certificate = arguments.take("certificate")?;
    let key = arguments.take("privateKey")?;
    let trusted = arguments.take("trustRoots")?;
    let endpoint = arguments.take("endpoint")?;
    let name = ServerName::try_from(host.clone())
        .ok()
        .ok_or_else(|| arguments.invalid("host", &*host, "a name or an IP address"))?;
    let below = match endpoint {
        Some(description) => description,
        None => {
            let mut description = format!("tcp:{}", quote_endpoint_argument(&host));
            for (name, value) in [("port", port), ("timeout", timeout), ("bindAddress", bind)] {
                if let Some(value) = value {
                    let value = quote_endpoint_argument(&value);
                    description.push_str(&format!(":{name}={value}"));
                }
            }
            description
        }
    };
    let mut config = client_config();
    if let Some(path) = trusted {
        let roots = roots(Path::new(&path));
        config = config.roots(checked(&arguments, "trustRoots", &path, roots)?);
    }
    if let Some(path) = certificate.as_ref().or(key.as_ref()) {
        let key = key.as_ref().unwrap_or(path);
        let identity = Identity::from_pem_files(path, key);
        config = config.identity(checked(&arguments, "certificate", path, identity)?);
    }
    let config = config.build();
    let config = checked(&arguments, "trustRoots", "the platform's", config)?;
    arguments.finish()?;
    let below = parsers.client(&below)?;
    Ok(Rc::new(TlsClientEndpoint::new(below, &config, name)))
}

fn server(
    mut arguments: EndpointArguments,
    parsers: &EndpointParsers,
) -> Result<Rc<dyn ServerEndpoint>, EndpointError> {
    let mut below = "tcp".to_owned();
    let port = arguments.take("port")?;
    let key = arguments.take("privateKey")?.unwrap_or("server.pem".into());
    let certificate = arguments.take("certKey")?.unwrap_or_else(|| key.clone());
    let more = arguments.take("extraCertChain")?;
    let (interface, backlog) = (arguments.take("interface")?, arguments.take("backlog")?);
    for (name, value) in [
        ("port", port),
        ("interface", interface),
        ("backlog", backlog),
    ] {
        if let Some(value) = value {
            below.push_str(&format!(":{name}={}", quote_endpoint_argument(&value)));
        }
    }
    let identity = identity(&certificate, &key, more.as_deref());
    let identity = checked(&arguments, "certKey", &certificate, identity)?;
    let config = server_config(identity).build();
    let config = checked(&arguments, "privateKey", &key, config)?;
    arguments.finish()?;
    Ok(Rc::new(TlsServerEndpoint::new(
        parsers.server(&below)?,
        &config,
    )))
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

/// The error of a file as one of the text that names it.
fn checked<T>(
    arguments: &EndpointArguments,
    name: &'static str,
    value: &str,
    outcome: Result<T, ConfigError>,
) -> Result<T, EndpointError> {
    outcome.map_err(|error| arguments.invalid(name, value, format!("another file: {error}")))
}
