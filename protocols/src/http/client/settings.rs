//! What a client allows itself and its servers.

use std::time::Duration;

use super::super::limits::MessageLimits;

/// How long servers may take, and how much there may be of everything.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use torsade_protocols::http::ClientLimits;
///
/// let limits = ClientLimits {
///     head: Duration::from_secs(5),
///     total: Some(Duration::from_secs(60)),
///     ..ClientLimits::default()
/// };
/// assert_eq!(limits.per_origin, 32);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// How large a response may be. Its body: as long as it likes, by default; who reads it says how
    /// much that may be.
    pub message: MessageLimits,
    /// Bytes of a body that was sent compressed, when it is decoded: 1 GiB.
    pub decoded: u64,
    /// Connections to one origin: 32.
    pub per_origin: usize,
    /// Connections in all: 256.
    pub connections: usize,
    /// Requests that wait because there may be no more connections: 10,000. Further ones fail.
    pub waiting: usize,
    /// How long a request waits for its turn: 60 s.
    pub wait: Duration,
    /// How long connecting may take, with looking the name up and with the tunnel through a proxy:
    /// 30 s.
    pub connect: Duration,
    /// How long the handshake of TLS may take: 30 s.
    pub handshake: Duration,
    /// How long the server may take nothing of the request that is being sent: 30 s.
    pub send: Duration,
    /// From the end of the request to the head of the response: 60 s.
    pub head: Duration,
    /// From one piece of the body to the next, while somebody wants it: 30 s.
    pub body: Duration,
    /// From the call to the end of the response's body, redirects included: no limit.
    pub total: Option<Duration>,
    /// How long a connection is kept that has nothing to do: 50 s.
    pub idle: Duration,
    /// How long a request with `Expect: 100-continue` waits for the word before it sends its body
    /// without: 1 s.
    pub expect: Duration,
    /// Bytes of a body that nobody has read yet, above which no more of it is taken from the
    /// connection: 64 KiB.
    pub unread: usize,
    /// Bytes of a body that nobody wants that are read and thrown away to keep the connection: 64 KiB.
    /// If there is more, it is closed.
    pub discarded: u64,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            message: MessageLimits {
                body: u64::MAX,
                ..MessageLimits::default()
            },
            decoded: 1 << 30,
            per_origin: 32,
            connections: 256,
            waiting: 10_000,
            wait: Duration::from_secs(60),
            connect: Duration::from_secs(30),
            handshake: Duration::from_secs(30),
            send: Duration::from_secs(30),
            head: Duration::from_secs(60),
            body: Duration::from_secs(30),
            total: None,
            // Less than what servers wait, which is 60 s and more mostly: who closes first is asked
            // nothing that is never answered.
            idle: Duration::from_secs(50),
            // curl's.
            expect: Duration::from_secs(1),
            unread: 64 * 1024,
            discarded: 64 * 1024,
        }
    }
}

/// Which redirects are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redirects {
    pub(super) limit: u32,
    pub(super) follow: bool,
    pub(super) insecure: bool,
}

impl Redirects {
    /// None: the caller gets the response with its `Location`.
    #[must_use]
    pub fn none() -> Self {
        Self {
            limit: 0,
            follow: false,
            insecure: false,
        }
    }

    /// So many in a row, and then an error.
    #[must_use]
    pub fn at_most(limit: u32) -> Self {
        Self {
            limit,
            follow: true,
            insecure: false,
        }
    }

    /// Also from `https` to `http`.
    #[must_use]
    pub fn allow_insecure(mut self) -> Self {
        self.insecure = true;
        self
    }
}

impl Default for Redirects {
    fn default() -> Self {
        Self::at_most(10)
    }
}
