//! How TLS is spoken: rustls's configurations, with what a connection needs besides.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{SupportedProtocolVersion, version};

use super::certificates::{Certificates, Identity, Roots};
use super::error::ConfigError;

/// How long the peer may take, where TLS waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsLimits {
    /// For the whole handshake: 60 s. Then the connection is aborted.
    pub handshake: Duration,
    /// For its closing alert, after ours: 30 s. Then the connection is closed without.
    pub shutdown: Duration,
}

impl Default for TlsLimits {
    fn default() -> Self {
        Self {
            // asyncio's limits.
            handshake: Duration::from_secs(60),
            shutdown: Duration::from_secs(30),
        }
    }
}

/// The versions of TLS that are spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Versions {
    /// 1.2 and 1.3.
    #[default]
    Both,
    /// 1.2 alone, for tests of old peers.
    Tls12,
    /// 1.3 alone.
    Tls13,
}

impl Versions {
    fn as_slice(self) -> &'static [&'static SupportedProtocolVersion] {
        static BOTH: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];
        match self {
            Self::Both => &BOTH,
            Self::Tls13 => &BOTH[..1],
            Self::Tls12 => &BOTH[1..],
        }
    }
}

/// How a client speaks TLS. A cheap clone: make it once, and use it for all connections, which
/// then take up former sessions again.
///
/// The server's certificate is always verified. Who wants another verification makes a
/// `rustls::ClientConfig`, and one of these [`from`](From) that.
///
/// # Examples
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use torsade_protocols::tls::{self, Roots};
///
/// let public = tls::client_config().build()?;
/// let private = tls::client_config()
///     .roots(Roots::from_pem_file("our-authority.pem")?)
///     .alpn(["h2", "http/1.1"])
///     .build()?;
/// # drop((public, private));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ClientConfig {
    pub(super) rustls: Arc<rustls::ClientConfig>,
    pub(super) limits: TlsLimits,
}

/// Begins a client's configuration: TLS 1.2 and 1.3, the platform's roots, resumption.
pub fn client_config() -> ClientConfigBuilder {
    ClientConfigBuilder {
        roots: None,
        identity: None,
        alpn: Vec::new(),
        versions: Versions::default(),
        resumption: true,
    }
}

impl ClientConfig {
    /// Sets how long servers may take.
    #[must_use]
    pub fn limits(mut self, limits: TlsLimits) -> Self {
        self.limits = limits;
        self
    }

    /// rustls's own configuration.
    #[must_use]
    pub fn rustls(&self) -> &Arc<rustls::ClientConfig> {
        &self.rustls
    }
}

impl From<Arc<rustls::ClientConfig>> for ClientConfig {
    fn from(rustls: Arc<rustls::ClientConfig>) -> Self {
        Self {
            rustls,
            limits: TlsLimits::default(),
        }
    }
}

impl fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientConfig")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// What a [`ClientConfig`] is built from.
#[derive(Debug)]
#[must_use = "call `build`"]
pub struct ClientConfigBuilder {
    roots: Option<Roots>,
    identity: Option<Identity>,
    alpn: Vec<Vec<u8>>,
    versions: Versions,
    resumption: bool,
}

impl ClientConfigBuilder {
    /// Trusts these in place of the platform's.
    pub fn roots(mut self, roots: Roots) -> Self {
        self.roots = Some(roots);
        self
    }

    /// Shows this identity to servers that ask for one.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Speaks these application protocols, the most welcome first.
    pub fn alpn(mut self, protocols: impl IntoIterator<Item: AsRef<[u8]>>) -> Self {
        self.alpn = to_alpn(protocols);
        self
    }

    /// Speaks these versions.
    pub fn versions(mut self, versions: Versions) -> Self {
        self.versions = versions;
        self
    }

    /// Whether former sessions are taken up again, as they are by default.
    pub fn resumption(mut self, on: bool) -> Self {
        self.resumption = on;
        self
    }

    /// Makes the configuration. Reads the platform's roots unless others were given.
    ///
    /// # Errors
    ///
    /// There are no roots, or the identity's key does not fit its certificate.
    pub fn build(self) -> Result<ClientConfig, ConfigError> {
        let roots = match self.roots {
            Some(roots) => roots,
            None => Roots::platform()?,
        };
        let builder = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(self.versions.as_slice())?
            .with_root_certificates(roots.into_store());
        let mut config = match self.identity {
            Some(identity) => {
                let (chain, key) = identity.into_parts();
                builder.with_client_auth_cert(chain, key)?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = self.alpn;
        if !self.resumption {
            config.resumption = Resumption::disabled();
        }
        Ok(Arc::new(config).into())
    }
}

/// How a server speaks TLS. A cheap clone.
///
/// Who wants something that [`server_config`] does not offer makes a `rustls::ServerConfig`,
/// and one of these [`from`](From) that. Early data (0-RTT) is not taken, whatever its
/// `max_early_data_size` says, since it can be replayed: a client that sends some goes on without, and
/// sends it again.
#[derive(Clone)]
pub struct ServerConfig {
    pub(super) rustls: Arc<rustls::ServerConfig>,
    pub(super) limits: TlsLimits,
    certificates: Option<Certificates>,
}

/// Begins a server's configuration: TLS 1.2 and 1.3, clients need no certificate, resumption.
///
/// # Examples
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use torsade_protocols::tls::{self, Identity, Roots};
///
/// let identity = Identity::from_pem_files("fullchain.pem", "key.pem")?;
/// let other = Identity::from_pem_files("other.pem", "other-key.pem")?;
/// let config = tls::server_config(identity)
///     .identity_for("other.example.org", other)
///     .alpn(["http/1.1"])
///     .require_client_certificate(Roots::from_pem_file("our-clients.pem")?)
///     .build()?;
/// # drop(config);
/// # Ok(())
/// # }
/// ```
pub fn server_config(identity: Identity) -> ServerConfigBuilder {
    ServerConfigBuilder {
        identity,
        named: Vec::new(),
        clients: None,
        alpn: Vec::new(),
        versions: Versions::default(),
        resumption: true,
    }
}

impl ServerConfig {
    /// Sets how long clients may take.
    #[must_use]
    pub fn limits(mut self, limits: TlsLimits) -> Self {
        self.limits = limits;
        self
    }

    /// The certificates that are shown, to be replaced while the server runs; `None` for a
    /// configuration that was made with rustls, which has ways of its own.
    #[must_use]
    pub fn certificates(&self) -> Option<&Certificates> {
        self.certificates.as_ref()
    }

    /// rustls's own configuration.
    #[must_use]
    pub fn rustls(&self) -> &Arc<rustls::ServerConfig> {
        &self.rustls
    }
}

impl From<Arc<rustls::ServerConfig>> for ServerConfig {
    fn from(rustls: Arc<rustls::ServerConfig>) -> Self {
        Self {
            rustls,
            limits: TlsLimits::default(),
            certificates: None,
        }
    }
}

impl fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerConfig")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// What a [`ServerConfig`] is built from.
#[derive(Debug)]
#[must_use = "call `build`"]
pub struct ServerConfigBuilder {
    identity: Identity,
    named: Vec<(String, Identity)>,
    clients: Option<Clients>,
    alpn: Vec<Vec<u8>>,
    versions: Versions,
    resumption: bool,
}

/// Whose certificates are accepted.
#[derive(Debug)]
struct Clients {
    roots: Roots,
    required: bool,
}

impl ServerConfigBuilder {
    /// Shows this identity to clients that ask for `name` (SNI). `*.example.org` stands for
    /// every name with one label more.
    pub fn identity_for(mut self, name: &str, identity: Identity) -> Self {
        self.named.push((name.to_owned(), identity));
        self
    }

    /// Turns clients away that show no certificate that one of these vouches for.
    pub fn require_client_certificate(mut self, roots: Roots) -> Self {
        let required = true;
        self.clients = Some(Clients { roots, required });
        self
    }

    /// Asks clients for a certificate that one of these vouches for, and takes those that have
    /// none; see [`Session::peer_certificates`](super::Session::peer_certificates).
    pub fn accept_client_certificate(mut self, roots: Roots) -> Self {
        let required = false;
        self.clients = Some(Clients { roots, required });
        self
    }

    /// Speaks these application protocols, the most welcome first. A client that speaks only
    /// others is turned away; one that says nothing is not.
    pub fn alpn(mut self, protocols: impl IntoIterator<Item: AsRef<[u8]>>) -> Self {
        self.alpn = to_alpn(protocols);
        self
    }

    /// Speaks these versions.
    pub fn versions(mut self, versions: Versions) -> Self {
        self.versions = versions;
        self
    }

    /// Whether former sessions are taken up again, as they are by default: by tickets, so that
    /// the server keeps nothing; their keys change every six hours.
    pub fn resumption(mut self, on: bool) -> Self {
        self.resumption = on;
        self
    }

    /// Makes the configuration.
    ///
    /// # Errors
    ///
    /// A key does not fit its certificate, or the roots for clients cannot be used.
    pub fn build(self) -> Result<ServerConfig, ConfigError> {
        let provider = provider();
        let certificates = Certificates::new(self.identity, self.named, &provider)?;
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(self.versions.as_slice())?;
        let builder = match self.clients {
            None => builder.with_no_client_auth(),
            Some(Clients { roots, required }) => {
                let roots = roots.into_store();
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                let verifier = match required {
                    true => verifier,
                    false => verifier.allow_unauthenticated(),
                };
                let verifier = verifier.build().map_err(|error| ConfigError::NoRoots {
                    reason: error.to_string(),
                })?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_cert_resolver(certificates.resolver());
        config.alpn_protocols = self.alpn;
        if self.resumption {
            config.ticketer = ring::Ticketer::new()?;
        } else {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        let mut config = ServerConfig::from(Arc::new(config));
        config.certificates = Some(certificates);
        Ok(config)
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn to_alpn(protocols: impl IntoIterator<Item: AsRef<[u8]>>) -> Vec<Vec<u8>> {
    let protocols = protocols.into_iter();
    protocols
        .map(|protocol| protocol.as_ref().to_vec())
        .collect()
}
