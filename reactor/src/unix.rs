//! UNIX sockets, and sockets that somebody else made.
//!
//! A UNIX socket is a stream between processes of one machine. Its address is a path, or a
//! name in Linux's abstract namespace; its peer has a user and a process; and it carries
//! open descriptors.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use torsade_deferred::Deferred;

use crate::address::{Address, ToUnixAddress};
use crate::capability::Capability;
use crate::core::Core;
use crate::endpoints::UnixClientEndpoint;
use crate::error::ListenError;
use crate::protocol::{self, Acceptor, Built, Factory, Protocol, Seating};
use crate::reactor::Reactor;
use crate::sockets::{self, Connection, ListenOptions, Port};
use crate::stream::Stream;
use crate::transport::Transport;

/// Who is at the other end of a UNIX socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerCredentials {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The process; `None` where it cannot be seen, as from inside a container.
    pub pid: Option<u32>,
}

/// A descriptor that was not adopted, with what is wrong with it.
#[derive(Debug, thiserror::Error)]
#[error("{problem}")]
pub struct AdoptError {
    /// The descriptor, as it was given; `None` if the system refused only after it had been
    /// taken over, and it is closed.
    pub fd: Option<OwnedFd>,
    /// What is wrong.
    #[source]
    pub problem: AdoptProblem,
}

impl AdoptError {
    pub(crate) fn new(fd: OwnedFd, problem: AdoptProblem) -> Self {
        Self {
            fd: Some(fd),
            problem,
        }
    }
}

/// Why a descriptor is not adopted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdoptProblem {
    /// It is a file, a pipe, ...
    #[error("the descriptor is no socket")]
    NotASocket,
    /// It is a socket for datagrams, packets, ...
    #[error("the socket carries no stream")]
    NotAStream,
    /// It was to be a port for datagrams, and is a socket for streams, packets, ...
    #[error("the socket carries no datagrams")]
    NotDatagrams,
    /// It is of no family that can be adopted so.
    #[error("the socket is of a family that is not known here")]
    UnknownFamily,
    /// It was to be a port.
    #[error("the socket does not listen")]
    NotListening,
    /// It was to be a connection.
    #[error("the socket is not connected")]
    NotConnected,
    /// The closure that was to build the protocol panicked.
    #[error("no protocol was built: {message}")]
    Panicked {
        /// What it said.
        message: Box<str>,
    },
    /// The system refused.
    #[error("the socket cannot be adopted: {0}")]
    Io(#[from] io::Error),
}

impl Reactor {
    /// Listens on a UNIX socket, and seats a protocol from `factory` on every connection.
    ///
    /// `address` is a path, or a text that begins with `@`, for a name in Linux's abstract
    /// namespace. The socket's file is removed when the port stops, if it is this one still.
    /// A file that is left of a server that died without removing it gives way; one where
    /// somebody listens does not.
    ///
    /// # Errors
    ///
    /// [`ListenError`], which names the address: [`Address`](ListenError::Address) if it is
    /// longer than a socket's can be (107 bytes), [`InUse`](ListenError::InUse) if somebody
    /// listens there or there is something else.
    ///
    /// # Examples
    ///
    /// ```
    /// # use torsade_reactor::{Address, Protocol, Reactor, Transport};
    /// # struct Echo;
    /// # impl Protocol for Echo {
    /// #     fn data_received(&mut self, transport: &Transport<Self>, data: &[u8]) {
    /// #         transport.write(data);
    /// #     }
    /// # }
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let path = std::env::temp_dir().join(format!("torsade-doc-{}", std::process::id()));
    /// let reactor = Reactor::new()?;
    /// let port = reactor.listen_unix(&path, |_peer: &Address| Echo)?;
    /// assert!(path.exists());
    /// drop(port.stop_listening());
    /// assert!(!path.exists());
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn listen_unix(
        &self,
        address: impl ToUnixAddress,
        factory: impl Factory,
    ) -> Result<Port, ListenError> {
        self.listen_unix_with(address, &ListenOptions::new(), factory)
    }

    /// Listens on a UNIX socket, as [`listen_unix`](Reactor::listen_unix) does, with these
    /// options.
    ///
    /// # Errors
    ///
    /// As for [`listen_unix`](Reactor::listen_unix).
    #[track_caller]
    pub fn listen_unix_with(
        &self,
        address: impl ToUnixAddress,
        options: &ListenOptions,
        factory: impl Factory,
    ) -> Result<Port, ListenError> {
        let address = Address::Unix(address.to_unix_address()?);
        let acceptor = Rc::new(Seating::new(factory));
        sockets::listen_on(self.core(), &address, options, acceptor)
    }

    /// Connects to a UNIX socket, and seats the protocol that `build` makes on the
    /// connection. Fires with its transport, after `connection_made`.
    ///
    /// # Errors
    ///
    /// Fails with a [`ConnectError`](crate::ConnectError), which names the address; after 30 s
    /// at the latest.
    ///
    /// # Cancellation
    ///
    /// Gives the attempt up; `build` is not called.
    #[track_caller]
    pub fn connect_unix<B: Built>(
        &self,
        address: impl ToUnixAddress,
        build: impl FnOnce(&Address) -> B + 'static,
    ) -> Deferred<Transport<B::Protocol>> {
        self.connect(&UnixClientEndpoint::new(address), build)
    }

    /// Takes over a socket that listens already, TCP or UNIX, from whoever made it: a
    /// parent process, systemd, another library. Seats a protocol from `factory` on every
    /// connection. Twisted's `adoptStreamPort`.
    ///
    /// The socket is made non-blocking, which whoever else holds it will notice. A UNIX
    /// socket's file stays when the port stops: it is not ours.
    ///
    /// # Errors
    ///
    /// [`AdoptError`], with the descriptor: it is no such socket.
    #[track_caller]
    pub fn adopt_listener(
        &self,
        fd: impl Into<OwnedFd>,
        factory: impl Factory,
    ) -> Result<Port, AdoptError> {
        adopt_listener(self.core(), fd.into(), Rc::new(Seating::new(factory)))
    }

    /// Takes over a socket that is connected already, TCP or UNIX, and seats the protocol
    /// that `build` makes on it. Twisted's `adoptStreamConnection`.
    ///
    /// The socket is made non-blocking, which whoever else holds it will notice. It is
    /// treated as one that a port accepted. An orderly end is one for the peer, so that nobody
    /// else can send on it any more. Where it is aborted, cut off, or the reactor stops, it is only
    /// closed: the system does not say whether somebody else has it, who may go on with it. If nobody
    /// has, the peer sees an end where it would have seen a reset; set
    /// [`SocketOption::ResetOnClose`](crate::SocketOption::ResetOnClose) before an abort for that.
    ///
    /// # Errors
    ///
    /// [`AdoptError`], with the descriptor: it is no such socket; `build` is not called.
    pub fn adopt_connection<P: Protocol>(
        &self,
        fd: impl Into<OwnedFd>,
        build: impl FnOnce(&Address) -> P,
    ) -> Result<Transport<P>, AdoptError> {
        let stream = adopt_connection(self.core(), fd.into())?;
        protocol::seat(stream, build).map_err(|failure| AdoptError {
            fd: None,
            problem: AdoptProblem::Panicked {
                message: failure.to_string().into(),
            },
        })
    }

    /// Two connections with each other, by way of a pair of UNIX sockets.
    ///
    /// # Errors
    ///
    /// The system has no descriptor left; one of the two closures panicked; or the reactor is
    /// in virtual time or in a simulation ([`Unsupported`](crate::Unsupported)).
    pub fn connect_pair<P: Protocol, Q: Protocol>(
        &self,
        first: impl FnOnce(&Address) -> P,
        second: impl FnOnce(&Address) -> Q,
    ) -> io::Result<(Transport<P>, Transport<Q>)> {
        self.require(Capability::UnixSockets)?;
        let (ours, theirs) = UnixStream::pair()?;
        let ours = self.adopt_connection(ours, first)?;
        let theirs = self.adopt_connection(theirs, second)?;
        Ok((ours, theirs))
    }
}

pub(crate) fn adopt_listener(
    core: &Rc<Core>,
    fd: OwnedFd,
    acceptor: Rc<dyn Acceptor>,
) -> Result<Port, AdoptError> {
    let socket = core.driver().adopt_listener(fd)?;
    sockets::accept_on(core, socket, acceptor).map_err(|error| AdoptError {
        fd: None,
        problem: error.into(),
    })
}

/// A stream over a socket that is connected.
pub(crate) fn adopt_connection(core: &Rc<Core>, fd: OwnedFd) -> Result<Rc<dyn Stream>, AdoptError> {
    let (socket, peer) = core.driver().adopt_connection(fd)?;
    let connection =
        core.add_source(|token| Connection::accepted(Rc::clone(core), token, socket, peer, None));
    connection.begin();
    connection.let_go();
    Ok(connection)
}

impl From<AdoptError> for io::Error {
    fn from(error: AdoptError) -> Self {
        match error.problem {
            AdoptProblem::Io(error) => error,
            problem => Self::new(io::ErrorKind::InvalidInput, problem),
        }
    }
}

impl fmt::Display for PeerCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user {}, group {}", self.uid, self.gid)?;
        match self.pid {
            Some(pid) => write!(f, ", process {pid}"),
            None => Ok(()),
        }
    }
}
