//! Why a connection was not made.

use std::error::Error;
use std::fmt;
use std::io;
use std::iter;
use std::net::SocketAddr;
use std::time::Duration;

use torsade_deferred::Interrupted;

use crate::address::AddressError;

/// Why a connection was not made.
///
/// `address` is the address as it was given; for a name, with the number that was tried behind
/// it in parentheses. `others` are the errors of the other addresses of the name, in the order
/// in which they came.
#[non_exhaustive]
pub enum ConnectError {
    /// Nobody listens there.
    Refused {
        /// What was connected to.
        address: String,
        /// How the other addresses failed.
        others: Vec<Self>,
    },
    /// The name has no address. Twisted's `DNSLookupError`.
    UnknownHost {
        /// What was connected to.
        address: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// No answer within the limit.
    TimedOut {
        /// What was connected to.
        address: String,
        /// How long it had.
        limit: Duration,
        /// The addresses that had failed before.
        others: Vec<Self>,
    },
    /// The network or the host cannot be reached from here.
    NoRoute {
        /// What was connected to.
        address: String,
        /// What the system said.
        source: io::Error,
        /// How the other addresses failed.
        others: Vec<Self>,
    },
    /// The process may not: a firewall, or a local port below 1024.
    NotPermitted {
        /// What was connected to.
        address: String,
        /// How the other addresses failed.
        others: Vec<Self>,
    },
    /// The local address cannot be had. Twisted's `ConnectBindError`.
    Bind {
        /// What was connected to.
        address: String,
        /// The local address that was asked for.
        local: SocketAddr,
        /// What the system said.
        source: io::Error,
        /// How the other addresses failed.
        others: Vec<Self>,
    },
    /// The connection stood, but no protocol was built for it, and it was closed. Twisted's
    /// `NoProtocol`.
    NoProtocol {
        /// What was connected to.
        address: String,
    },
    /// The text is not an address.
    Address(AddressError),
    /// The system refused for another reason.
    Io {
        /// What was connected to.
        address: String,
        /// What the system said.
        source: io::Error,
        /// How the other addresses failed.
        others: Vec<Self>,
    },
    /// The attempt was given up here: the reactor stopped.
    Interrupted(Interrupted),
}

impl ConnectError {
    /// This error, and those of the other addresses of the name.
    pub fn attempts(&self) -> impl Iterator<Item = &Self> {
        iter::once(self).chain(self.others())
    }

    /// What the system said of an attempt.
    pub(crate) fn of_system(address: String, source: io::Error, local: Option<SocketAddr>) -> Self {
        use io::ErrorKind;
        let others = Vec::new();
        match (source.kind(), local) {
            (ErrorKind::ConnectionRefused, _) => Self::Refused { address, others },
            (ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable, _) => Self::NoRoute {
                address,
                source,
                others,
            },
            (ErrorKind::PermissionDenied, _) => Self::NotPermitted { address, others },
            (ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable, Some(local)) => Self::Bind {
                address,
                local,
                source,
                others,
            },
            _ => Self::Io {
                address,
                source,
                others,
            },
        }
    }

    /// What is reported when every address of `given` has failed. There was one at least.
    pub(crate) fn of_attempts(given: &str, mut failures: Vec<Self>) -> Self {
        let most_telling = (0..failures.len())
            .min_by_key(|index| failures[*index].rank())
            .expect("an attempt has failed, for otherwise there was no address");
        let mut reported = failures.remove(most_telling);
        if let Some((address, others)) = reported.parts_mut() {
            *others = failures;
            if address != given {
                *address = format!("{given} ({address})");
            }
        }
        reported
    }

    /// How much it says of the peer: the lowest says most.
    fn rank(&self) -> u32 {
        match self {
            Self::Refused { .. } => 0,
            Self::TimedOut { .. } => 1,
            Self::NotPermitted { .. } | Self::Bind { .. } => 2,
            Self::NoRoute { .. } => 4,
            _ => 3,
        }
    }

    fn parts_mut(&mut self) -> Option<(&mut String, &mut Vec<Self>)> {
        match self {
            Self::Refused { address, others }
            | Self::TimedOut {
                address, others, ..
            }
            | Self::NoRoute {
                address, others, ..
            }
            | Self::NotPermitted { address, others }
            | Self::Bind {
                address, others, ..
            }
            | Self::Io {
                address, others, ..
            } => Some((address, others)),
            Self::UnknownHost { .. }
            | Self::NoProtocol { .. }
            | Self::Address(_)
            | Self::Interrupted(_) => None,
        }
    }

    fn others(&self) -> &[Self] {
        match self {
            Self::Refused { others, .. }
            | Self::TimedOut { others, .. }
            | Self::NoRoute { others, .. }
            | Self::NotPermitted { others, .. }
            | Self::Bind { others, .. }
            | Self::Io { others, .. } => others,
            Self::UnknownHost { .. }
            | Self::NoProtocol { .. }
            | Self::Address(_)
            | Self::Interrupted(_) => &[],
        }
    }

    /// The address and the reason, without what is around them.
    fn write_reason(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { address, .. } => write!(f, "{address}: connection refused"),
            Self::UnknownHost { address, source } => {
                write!(f, "{address}: unknown host: {source}")
            }
            Self::TimedOut { address, limit, .. } => {
                write!(f, "{address}: no answer within {limit:?}")
            }
            Self::NoRoute {
                address, source, ..
            }
            | Self::Io {
                address, source, ..
            } => write!(f, "{address}: {source}"),
            Self::NotPermitted { address, .. } => write!(f, "{address}: permission denied"),
            Self::Bind {
                address,
                local,
                source,
                ..
            } => write!(f, "{address} from {local}: {source}"),
            Self::NoProtocol { address } => write!(f, "{address}: no protocol was built for it"),
            Self::Address(error) => write!(f, "{error}"),
            Self::Interrupted(interrupted) => write!(f, "{interrupted}"),
        }
    }
}

/// Others that the text shows; the rest is counted.
const OTHERS_SHOWN: usize = 4;

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interrupted(interrupted) => return write!(f, "connecting: {interrupted}"),
            Self::Address(error) => return write!(f, "cannot connect: {error}"),
            _ => f.write_str("cannot connect to ")?,
        }
        self.write_reason(f)?;
        let others = self.others();
        for other in others.iter().take(OTHERS_SHOWN) {
            f.write_str("; ")?;
            other.write_reason(f)?;
        }
        match others.len().saturating_sub(OTHERS_SHOWN) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

/// The text, as for `Display`: it is what a `main` that returns the error prints.
impl fmt::Debug for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for ConnectError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::UnknownHost { source, .. }
            | Self::NoRoute { source, .. }
            | Self::Bind { source, .. }
            | Self::Io { source, .. } => Some(source),
            Self::Address(error) => Some(error),
            Self::Interrupted(interrupted) => Some(interrupted),
            Self::Refused { .. }
            | Self::TimedOut { .. }
            | Self::NotPermitted { .. }
            | Self::NoProtocol { .. } => None,
        }
    }
}

impl From<AddressError> for ConnectError {
    fn from(error: AddressError) -> Self {
        Self::Address(error)
    }
}

impl From<Interrupted> for ConnectError {
    fn from(interrupted: Interrupted) -> Self {
        Self::Interrupted(interrupted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: io::ErrorKind, local: Option<SocketAddr>) -> ConnectError {
        ConnectError::of_system("10.0.0.1:80".into(), kind.into(), local)
    }

    #[test]
    fn what_the_system_says_is_told_by_type() {
        use ConnectError as E;
        use io::ErrorKind as K;
        let local = Some(SocketAddr::from(([127, 0, 0, 1], 9)));
        assert!(matches!(of(K::ConnectionRefused, None), E::Refused { .. }));
        assert!(matches!(of(K::NetworkUnreachable, None), E::NoRoute { .. }));
        assert!(matches!(of(K::HostUnreachable, None), E::NoRoute { .. }));
        assert!(matches!(
            of(K::PermissionDenied, None),
            E::NotPermitted { .. }
        ));
        assert!(matches!(of(K::AddrInUse, local), E::Bind { .. }));
        assert!(matches!(of(K::AddrNotAvailable, local), E::Bind { .. }));
        // Nobody asked for a local address: the system has run out of ports.
        assert!(matches!(of(K::AddrNotAvailable, None), E::Io { .. }));
        assert_eq!(
            of(K::AddrInUse, local).to_string(),
            "cannot connect to 10.0.0.1:80 from 127.0.0.1:9: address in use"
        );
    }

    #[test]
    fn of_several_errors_that_which_says_most_of_the_peer_is_reported() {
        use io::ErrorKind as K;
        let [no_route, other, refused] =
            [K::NetworkUnreachable, K::Other, K::ConnectionRefused].map(|kind| of(kind, None));
        let reported = ConnectError::of_attempts("name:80", vec![no_route, other, refused]);
        assert!(matches!(&reported, ConnectError::Refused { others, .. } if others.len() == 2));
        let many = (0..7).map(|_| of(K::ConnectionRefused, None)).collect();
        let text = ConnectError::of_attempts("10.0.0.1:80", many).to_string();
        assert!(text.starts_with("cannot connect to 10.0.0.1:80: connection refused; "));
        assert!(text.ends_with("; and 2 more"), "{text}");
    }
}
