//! UNIX sockets, and sockets that listen already.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use torsade_deferred::{Deferred, Failure, IntoDeferred, fail};

use super::tcp::CONNECT_LIMIT;
use super::{ClientEndpoint, ServerEndpoint};
use crate::address::{Address, AddressError, ToUnixAddress, UnixAddress};
use crate::connect_error::ConnectError;
use crate::error::ListenError;
use crate::protocol::Acceptor;
use crate::reactor::Reactor;
use crate::sockets::{self, ConnectOptions, ListenOptions, Port};
use crate::stream::Stream;
use crate::systemd;
use crate::unix;

/// A UNIX socket to connect to. Twisted's `UNIXClientEndpoint`.
///
/// # Errors
///
/// [`ConnectError`].
#[derive(Clone, Debug)]
pub struct UnixClientEndpoint {
    /// What is wrong with it is told when it connects.
    address: Result<UnixAddress, AddressError>,
    limit: Duration,
}

impl UnixClientEndpoint {
    /// The UNIX socket at this path, or, behind a `@`, of this name in Linux's abstract
    /// namespace.
    pub fn new(address: impl ToUnixAddress) -> Self {
        Self {
            address: address.to_unix_address(),
            limit: CONNECT_LIMIT,
        }
    }

    /// How long it may take: 30 s unless this says otherwise. Then it fails with
    /// [`ConnectError::TimedOut`]. (On Linux it takes no time: where too many wait to be accepted,
    /// it fails at once.)
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }
}

impl ClientEndpoint for UnixClientEndpoint {
    fn connect_stream(&self, reactor: &Reactor) -> Deferred<Rc<dyn Stream>> {
        let peer = match &self.address {
            Ok(address) => Address::Unix(address.clone()),
            Err(error) => return fail(ConnectError::from(error.clone())),
        };
        let (limit, address) = (self.limit, peer.to_string());
        sockets::connect(reactor.core(), &peer, &ConnectOptions::new())
            .map_err(|error| match error {
                // As for TCP: who cancels is told that, and no error of connecting.
                ConnectError::Interrupted(interrupted) => Failure::from(interrupted),
                error => error.into(),
            })
            .add_timeout_with(limit, reactor, move |_| {
                let others = Vec::new();
                Err(ConnectError::TimedOut {
                    address,
                    limit,
                    others,
                }
                .into())
            })
    }
}

/// A UNIX socket to listen on. Twisted's `UNIXServerEndpoint`.
///
/// # Errors
///
/// [`ListenError`], through the Deferred.
#[derive(Clone, Debug)]
pub struct UnixServerEndpoint {
    /// What is wrong with it is told when it listens.
    address: Result<UnixAddress, AddressError>,
    options: ListenOptions,
}

impl UnixServerEndpoint {
    /// The UNIX socket at this path, or, behind a `@`, of this name in Linux's abstract
    /// namespace; see [`Reactor::listen_unix`].
    pub fn new(address: impl ToUnixAddress) -> Self {
        Self {
            address: address.to_unix_address(),
            options: ListenOptions::new(),
        }
    }

    /// The permission bits of the socket's file; see [`ListenOptions::mode`].
    #[must_use]
    pub fn mode(mut self, bits: u32) -> Self {
        self.options = self.options.mode(bits);
        self
    }

    /// How many connections the system holds that have not been accepted yet; see
    /// [`ListenOptions::backlog`].
    #[must_use]
    pub fn backlog(mut self, connections: u32) -> Self {
        self.options = self.options.backlog(connections);
        self
    }
}

impl ServerEndpoint for UnixServerEndpoint {
    fn listen_streams(&self, reactor: &Reactor, acceptor: Rc<dyn Acceptor>) -> Deferred<Port> {
        let address = match &self.address {
            Ok(address) => Address::Unix(address.clone()),
            Err(error) => return fail(ListenError::from(error.clone())),
        };
        sockets::listen_on(reactor.core(), &address, &self.options, acceptor)
            // Not as a path: the failure's origin would be a line of std's.
            .map_err(|error| Failure::new(error))
            .into_deferred()
    }
}

/// A socket that listens already, made by somebody else: a parent process, systemd. To be
/// listened on once. Twisted's `AdoptedStreamServerEndpoint`.
///
/// # Errors
///
/// [`AdoptError`](crate::AdoptError), through the Deferred: it is no such socket. The second
/// time, an `io::Error` of kind [`AlreadyExists`](io::ErrorKind::AlreadyExists).
#[derive(Debug)]
pub struct AdoptedServerEndpoint {
    fd: RefCell<Option<OwnedFd>>,
}

impl AdoptedServerEndpoint {
    /// The socket of this descriptor, `std::net::TcpListener` and the like included.
    pub fn new(fd: impl Into<OwnedFd>) -> Self {
        Self {
            fd: RefCell::new(Some(fd.into())),
        }
    }
}

impl ServerEndpoint for AdoptedServerEndpoint {
    fn listen_streams(&self, reactor: &Reactor, acceptor: Rc<dyn Acceptor>) -> Deferred<Port> {
        let Some(fd) = self.fd.take() else {
            let text = "the adopted socket has been listened on already";
            return fail(io::Error::new(io::ErrorKind::AlreadyExists, text));
        };
        unix::adopt_listener(reactor.core(), fd, acceptor)
            // Not as a path: the failure's origin would be a line of std's.
            .map_err(|error| Failure::new(error))
            .into_deferred()
    }
}

/// A socket that systemd has opened, taken when it listens.
#[derive(Debug)]
pub(super) enum SystemdServerEndpoint {
    Numbered(usize),
    Named(String),
}

impl ServerEndpoint for SystemdServerEndpoint {
    fn listen_streams(&self, reactor: &Reactor, acceptor: Rc<dyn Acceptor>) -> Deferred<Port> {
        let taken = match self {
            Self::Numbered(index) => systemd::socket(*index),
            Self::Named(name) => systemd::socket_named(name),
        };
        match taken {
            Ok(fd) => unix::adopt_listener(reactor.core(), fd, acceptor)
                .map_err(Failure::from)
                .into_deferred(),
            Err(error) => fail(error),
        }
    }
}
