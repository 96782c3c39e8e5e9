//! What the two sides have agreed on.

use std::fmt;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, CommonState, ProtocolVersion};

use super::records::is_resumed;

/// What the handshake came to: who the peer is, and what is spoken. A cheap clone.
#[derive(Clone)]
pub struct Session {
    agreed: Rc<Agreed>,
}

struct Agreed {
    peer_certificates: Vec<CertificateDer<'static>>,
    alpn: Option<Vec<u8>>,
    version: Option<ProtocolVersion>,
    cipher_suite: Option<CipherSuite>,
    server_name: Option<String>,
    is_resumed: bool,
}

impl Session {
    pub(super) fn of(common: &CommonState, asked: &Asked) -> Self {
        let certificates = common.peer_certificates().unwrap_or_default();
        let agreed = Agreed {
            peer_certificates: certificates.to_vec(),
            alpn: common.alpn_protocol().map(<[u8]>::to_vec),
            version: common.protocol_version(),
            cipher_suite: common.negotiated_cipher_suite().map(|suite| suite.suite()),
            server_name: asked.name(),
            is_resumed: is_resumed(common),
        };
        Self {
            agreed: Rc::new(agreed),
        }
    }

    /// The peer's certificate chain, its own certificate first. Empty if it showed none: a
    /// client that was not asked.
    #[must_use]
    pub fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        &self.agreed.peer_certificates
    }

    /// The application protocol that both sides know (ALPN), such as `b"h2"`; `None` if they
    /// did not speak of it.
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        self.agreed.alpn.as_deref()
    }

    /// The version of TLS.
    #[must_use]
    pub fn version(&self) -> Option<ProtocolVersion> {
        self.agreed.version
    }

    /// The ciphers.
    #[must_use]
    pub fn cipher_suite(&self) -> Option<CipherSuite> {
        self.agreed.cipher_suite
    }

    /// The name of the server: the one that we asked for, or, on the server, the one that the
    /// client asked for (SNI), if it did.
    #[must_use]
    pub fn server_name(&self) -> Option<&str> {
        self.agreed.server_name.as_deref()
    }

    /// Whether a former session was taken up again, which saves half of the handshake.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.agreed.is_resumed
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("version", &self.agreed.version)
            .field("cipher_suite", &self.agreed.cipher_suite)
            .field("server_name", &self.agreed.server_name)
            .field(
                "alpn",
                &self
                    .alpn()
                    .map(<[u8]>::escape_ascii)
                    .map(|text| text.to_string()),
            )
            .field("peer_certificates", &self.agreed.peer_certificates.len())
            .field("is_resumed", &self.agreed.is_resumed)
            .finish()
    }
}

/// The name of the server that was asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    /// Written while the client's hello is looked at, on the same thread; a lock because rustls
    /// wants what it calls to be `Sync`.
    name: Arc<Mutex<Option<String>>>,
}

impl Asked {
    pub(super) fn for_name(name: String) -> Self {
        Self {
            name: Arc::new(Mutex::new(Some(name))),
        }
    }

    fn name(&self) -> Option<String> {
        self.name.lock().ok()?.clone()
    }
}

/// Writes down which name the client asks for, and asks the other resolver. (rustls's
/// unbuffered interface does not tell the name.)
#[derive(Debug)]
pub(super) struct WritesNameDown {
    pub(super) resolver: Arc<dyn ResolvesServerCert>,
    pub(super) asked: Asked,
}

impl ResolvesServerCert for WritesNameDown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if let Ok(mut name) = self.asked.name.lock() {
            *name = hello.server_name().map(str::to_owned);
        }
        self.resolver.resolve(hello)
    }

    fn only_raw_public_keys(&self) -> bool {
        self.resolver.only_raw_public_keys()
    }
}
