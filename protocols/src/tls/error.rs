//! What can go wrong with TLS, and whose fault it is.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};
use torsade_reactor::ConnectionLost;

/// Why a TLS connection came to nothing, or to a bad end.
///
/// It arrives in two places: as [`ConnectionLost::Failed`] in `connection_lost`, where
/// [`TlsError::of`] finds it, and as the failure of [`handshake`](super::handshake).
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The peer's certificate, or one of those that vouch for it, has expired.
    #[error("the peer's certificate has expired")]
    CertificateExpired,
    /// The peer's certificate is not valid yet. (Or the clock here is wrong.)
    #[error("the peer's certificate is not valid yet")]
    CertificateNotYetValid,
    /// The peer's certificate is for other names.
    #[error("the peer's certificate is not for {expected}, but for {}", presented.join(", "))]
    WrongName {
        /// Whom we wanted.
        expected: String,
        /// Whom the certificate is for.
        presented: Vec<String>,
    },
    /// The peer's certificate is one for an authority (`CA:TRUE`), which signs others and is no
    /// server's and no client's own. What `openssl req -x509` makes is of that kind, unless it is given
    /// `-addext basicConstraints=critical,CA:FALSE`.
    #[error(
        "the peer's certificate is one for an authority (CA:TRUE), and not for a server or a client: \
         make it with basicConstraints=CA:FALSE"
    )]
    CertificateOfAuthority,
    /// Nobody that we trust vouches for the peer's certificate.
    #[error("the peer's certificate is from an authority that is not trusted here")]
    UnknownAuthority,
    /// The peer's certificate has been revoked.
    #[error("the peer's certificate has been revoked")]
    CertificateRevoked,
    /// The peer's certificate is bad in another way.
    #[error("the peer's certificate is not accepted: {0}")]
    BadCertificate(CertificateError),
    /// The client showed no certificate, and must.
    #[error("the client showed no certificate")]
    NoCertificate,
    /// The two sides know no application protocol in common (ALPN).
    #[error("no application protocol in common")]
    NoCommonProtocol,
    /// The two sides know no version of TLS in common.
    #[error("no version of TLS in common")]
    NoCommonVersion,
    /// The two sides have no ciphers in common, or otherwise nothing to agree on.
    #[error("the peer speaks a TLS that we do not: {0:?}")]
    Incompatible(PeerIncompatible),
    /// The peer says that something is wrong with us.
    #[error("the peer gave up: {}", in_words(*.0))]
    PeerAlert(AlertDescription),
    /// What came is no record of TLS: the peer may speak in the clear.
    #[error("what came is not TLS: the peer may speak in the clear here, as `http` does")]
    NotTls,
    /// What came was tampered with, or comes from a peer that breaks the rules.
    #[error("bad record: {0}")]
    BadRecord(Error),
    /// The peer ended its stream without a closing alert: what came may be cut short, by it or
    /// by somebody in between.
    #[error("the peer's stream ended without a closing alert: it may be cut short")]
    Truncated,
    /// The peer ended its stream in the middle of the handshake.
    #[error("the peer closed the connection during the handshake")]
    HandshakeCutShort,
    /// The handshake took too long.
    #[error("the handshake took longer than {limit:?}")]
    HandshakeTimedOut {
        /// How long it had.
        limit: Duration,
    },
    /// The connection was lost during the handshake, for a reason of the stream below or of
    /// whoever lost it.
    #[error("during the handshake: {reason}")]
    Interrupted {
        /// The reason that `connection_lost` was told.
        reason: String,
    },
    /// This side cannot go on: no random numbers, no time, keys used up.
    #[error("TLS: {0}")]
    Local(Error),
}

impl TlsError {
    /// The error in the reason that `connection_lost` was told, if TLS was the reason.
    ///
    /// ```
    /// use torsade_protocols::tls::TlsError;
    /// use torsade_reactor::ConnectionLost;
    ///
    /// let reason = ConnectionLost::Failed(TlsError::Truncated.into());
    /// assert_eq!(TlsError::of(&reason), Some(&TlsError::Truncated));
    /// assert_eq!(TlsError::of(&ConnectionLost::Done), None);
    /// ```
    #[must_use]
    pub fn of(reason: &ConnectionLost) -> Option<&Self> {
        match reason {
            ConnectionLost::Failed(failure) => failure.downcast_ref(),
            _ => None,
        }
    }

    pub(super) fn from_rustls(error: Error) -> Self {
        match error {
            Error::InvalidCertificate(error) => Self::from_certificate(error),
            Error::NoCertificatesPresented => Self::NoCertificate,
            Error::NoApplicationProtocol => Self::NoCommonProtocol,
            Error::InvalidMessage(InvalidMessage::InvalidContentType) => Self::NotTls,
            Error::AlertReceived(AlertDescription::NoApplicationProtocol) => Self::NoCommonProtocol,
            Error::AlertReceived(AlertDescription::ProtocolVersion) => Self::NoCommonVersion,
            Error::AlertReceived(alert) => Self::PeerAlert(alert),
            Error::PeerIncompatible(
                PeerIncompatible::SupportedVersionsExtensionRequired
                | PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled
                | PeerIncompatible::Tls13RequiredForQuic
                | PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
            ) => Self::NoCommonVersion,
            Error::PeerIncompatible(error) => Self::Incompatible(error),
            Error::EncryptError
            | Error::FailedToGetCurrentTime
            | Error::FailedToGetRandomBytes
            | Error::General(_)
            | Error::Other(_) => Self::Local(error),
            error => Self::BadRecord(error),
        }
    }

    fn from_certificate(error: CertificateError) -> Self {
        match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                Self::CertificateExpired
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Self::CertificateNotYetValid
            }
            // Who is trusted under that name has a key of another kind: that is another authority.
            CertificateError::UnknownIssuer
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
                Self::UnknownAuthority
            }
            CertificateError::Revoked => Self::CertificateRevoked,
            CertificateError::NotValidForNameContext {
                expected,
                presented,
            } => Self::WrongName {
                expected: expected.to_str().into_owned(),
                presented: presented.iter().map(|name| plain(name)).collect(),
            },
            CertificateError::NotValidForName => Self::WrongName {
                expected: "the name that was asked for".into(),
                presented: Vec::new(),
            },
            // rustls has no name for it, and this crate none for the type that has.
            CertificateError::Other(error) if error.to_string() == "CaUsedAsEndEntity" => {
                Self::CertificateOfAuthority
            }
            error => Self::BadCertificate(error),
        }
    }
}

/// A name in a certificate, which rustls gives as `DnsName("example.org")`.
fn plain(name: &str) -> String {
    let within = name
        .split_once('(')
        .and_then(|(_, rest)| rest.strip_suffix(')'));
    within.unwrap_or(name).trim_matches('"').to_owned()
}

/// What the peer has said, and of the commonest what it means here.
fn in_words(alert: AlertDescription) -> String {
    let meaning = match alert {
        AlertDescription::UnknownCA => "it does not trust whoever signed our certificate",
        AlertDescription::CertificateExpired => "our certificate has expired, it says",
        AlertDescription::CertificateUnknown | AlertDescription::BadCertificate => {
            "it does not accept our certificate, which may be for another name"
        }
        AlertDescription::CertificateRequired => "it wants a certificate of ours",
        AlertDescription::UnrecognisedName => {
            "it has no certificate for the name that was asked for"
        }
        _ => return format!("{alert:?}"),
    };
    format!("{alert:?}: {meaning}")
}

/// Why a configuration cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The text holds no certificate in PEM form.
    #[error("no certificate in PEM form in {place}")]
    NoCertificate {
        /// Where it was looked for.
        place: String,
    },
    /// The text holds no private key in PEM form.
    #[error("no private key in PEM form in {place}")]
    NoKey {
        /// Where it was looked for.
        place: String,
    },
    /// There is nobody to trust: no roots were given, or the system has none.
    #[error("no trusted roots: {reason}")]
    NoRoots {
        /// Why there are none.
        reason: String,
    },
    /// There is no certificate for this name that could be replaced.
    #[error("no certificate for {name} to replace")]
    UnknownName {
        /// The name.
        name: String,
    },
    /// rustls does not accept it: the key does not fit the certificate, as a rule.
    #[error("TLS configuration: {0}")]
    Rejected(#[from] Error),
}

/// Why TLS was not started on a connection that stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartTlsError {
    /// The connection is not one that begins in the clear: wrap its protocol in
    /// [`StartTls`](super::StartTls).
    #[error("this connection cannot start TLS: its protocol is not wrapped in StartTls")]
    NotPrepared,
    /// TLS has been started on it already.
    #[error("TLS has been started already")]
    AlreadyStarted,
    /// The connection is lost, or being lost.
    #[error("the connection is being lost")]
    NotConnected,
}
