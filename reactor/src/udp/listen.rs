//! Opening ports for datagrams.

use std::io;
use std::os::fd::OwnedFd;
use std::panic::Location;
use std::rc::Rc;

use crate::address::{ToUnixAddress, UnixAddress};
use crate::connect_error::ConnectError;
use crate::core::Core;
use crate::driver::DatagramSocket;
use crate::error::ListenError;
use crate::reactor::Reactor;
use crate::sockets::listen_error;
use crate::udp::port::DatagramPort;
use crate::udp::{DatagramOptions, DatagramProtocol, DatagramTransport, ToUdpAddress};
use crate::unix::AdoptError;

impl Reactor {
    /// Opens a UDP port, and seats `protocol` on it:
    /// [`start_protocol`](DatagramProtocol::start_protocol) is called before this returns. The
    /// transport is the port, too.
    ///
    /// `address` is our own: `"0.0.0.0:0"` for a client, `":53"` for every interface of IPv4,
    /// `"[::]:53"` for all. Port 0 takes a free one. Names are not looked up.
    ///
    /// # Errors
    ///
    /// [`ListenError`], which names the address.
    #[track_caller]
    pub fn listen_udp<P: DatagramProtocol>(
        &self,
        address: impl ToUdpAddress,
        protocol: P,
    ) -> Result<DatagramTransport<P>, ListenError> {
        self.listen_udp_with(address, &DatagramOptions::new(), protocol)
    }

    /// The same with options.
    ///
    /// # Errors
    ///
    /// [`ListenError`], which names the address.
    #[track_caller]
    pub fn listen_udp_with<P: DatagramProtocol>(
        &self,
        address: impl ToUdpAddress,
        options: &DatagramOptions,
        protocol: P,
    ) -> Result<DatagramTransport<P>, ListenError> {
        let address = address.to_udp_address()?;
        let socket = || self.core().driver().bind_datagrams(address, options);
        self.open_datagrams(Location::caller(), socket, options, protocol)
            .map_err(|error| listen_error(address.to_string(), error))
    }

    /// Opens a UNIX socket for datagrams, and seats `protocol` on it:
    /// [`start_protocol`](DatagramProtocol::start_protocol) is called before this returns. All is as
    /// with UDP, but for the addresses; nothing is lost on its way, and a receiver that has no room
    /// makes what is sent there wait ([`DatagramLimits`](crate::DatagramLimits)).
    ///
    /// `address` is a path, or a text that begins with `@`, for a name in Linux's abstract
    /// namespace. The socket's file is removed when the port stops, if it is this one still. A file
    /// that is left of a program that died without removing it gives way; one where somebody
    /// listens does not.
    ///
    /// Twisted's `listenUNIXDatagram`.
    ///
    /// # Errors
    ///
    /// [`ListenError`], which names the address. In virtual time there are no UNIX sockets
    /// ([`Unsupported`](crate::Unsupported)); in a simulation they are there, and each host has its own names.
    ///
    /// # Examples
    ///
    /// ```
    /// # use torsade_reactor::{Address, DatagramProtocol, DatagramTransport, Reactor};
    /// struct Log;
    ///
    /// impl DatagramProtocol for Log {
    ///     fn datagram_received(&mut self, _: &DatagramTransport<Self>, line: &[u8], from: &Address) {
    ///         println!("{from}: {}", String::from_utf8_lossy(line));
    ///     }
    /// }
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let path = std::env::temp_dir().join(format!("torsade-doc-log-{}", std::process::id()));
    /// let reactor = Reactor::new()?;
    /// let log = reactor.listen_unix_datagrams(&path, Log)?;
    /// assert!(path.exists());
    /// drop(log.stop_listening());
    /// assert!(!path.exists());
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn listen_unix_datagrams<P: DatagramProtocol>(
        &self,
        address: impl ToUnixAddress,
        protocol: P,
    ) -> Result<DatagramTransport<P>, ListenError> {
        self.listen_unix_datagrams_with(address, &DatagramOptions::new(), protocol)
    }

    /// The same with options.
    ///
    /// # Errors
    ///
    /// As for [`listen_unix_datagrams`](Reactor::listen_unix_datagrams).
    #[track_caller]
    pub fn listen_unix_datagrams_with<P: DatagramProtocol>(
        &self,
        address: impl ToUnixAddress,
        options: &DatagramOptions,
        protocol: P,
    ) -> Result<DatagramTransport<P>, ListenError> {
        let address = address.to_unix_address()?;
        let driver = self.core().driver();
        let socket = || driver.open_unix_datagrams(&address, None, options);
        self.open_datagrams(Location::caller(), socket, options, protocol)
            .map_err(|error| listen_error(address.to_string(), error))
    }

    /// Opens a UNIX socket for datagrams that is [connected](DatagramTransport::connect) to `peer`, and
    /// seats `protocol` on it: it sends there alone and hears nobody else. It has no name, so that the
    /// peer cannot answer: [`connect_unix_datagrams_with`](Reactor::connect_unix_datagrams_with) gives it
    /// one.
    ///
    /// Twisted's `connectUNIXDatagram`. (A socket that has no name and is not connected, either, to
    /// send to many, is `UnixDatagram::unbound()` and
    /// [`adopt_datagrams`](Reactor::adopt_datagrams).)
    ///
    /// # Errors
    ///
    /// [`ConnectError`], which names the address: [`Refused`](ConnectError::Refused) if nobody listens
    /// there, [`Io`](ConnectError::Io) of kind `NotFound` if there is no such file.
    #[track_caller]
    pub fn connect_unix_datagrams<P: DatagramProtocol>(
        &self,
        peer: impl ToUnixAddress,
        protocol: P,
    ) -> Result<DatagramTransport<P>, ConnectError> {
        self.connect_unix_datagrams_with(peer, &DatagramOptions::new(), protocol)
    }

    /// The same with options, of which [`local_address`](DatagramOptions::local_address) is the name
    /// under which the peer's answers come.
    ///
    /// # Errors
    ///
    /// As for [`connect_unix_datagrams`](Reactor::connect_unix_datagrams); and what the system says
    /// of the local address.
    #[track_caller]
    pub fn connect_unix_datagrams_with<P: DatagramProtocol>(
        &self,
        peer: impl ToUnixAddress,
        options: &DatagramOptions,
        protocol: P,
    ) -> Result<DatagramTransport<P>, ConnectError> {
        let (peer, host) = (peer.to_unix_address()?, &options.local_address);
        if !is_of_the_systems_choosing(host) {
            host.check()?;
        }
        let driver = self.core().driver();
        let socket = || driver.open_unix_datagrams(host, Some(&peer), options);
        self.open_datagrams(Location::caller(), socket, options, protocol)
            .map_err(|error| {
                let address = match host {
                    UnixAddress::Unnamed => peer.to_string(),
                    host => format!("{peer} from {host}"),
                };
                ConnectError::of_system(address, error, None)
            })
    }

    fn open_datagrams<P: DatagramProtocol>(
        &self,
        origin: &'static Location<'static>,
        socket: impl FnOnce() -> io::Result<Box<dyn DatagramSocket>>,
        options: &DatagramOptions,
        protocol: P,
    ) -> io::Result<DatagramTransport<P>> {
        self.core().on_behalf_of(origin, || {
            let port = DatagramPort::open(self.core(), socket()?, options)?;
            Ok(DatagramTransport::seat(protocol, port))
        })
    }

    /// Takes over a socket for datagrams that somebody else has made, UDP or UNIX: bound or not,
    /// connected or not. Twisted's `adoptDatagramPort`.
    ///
    /// The socket is made non-blocking, which whoever else holds it will notice. A UNIX socket's file
    /// stays when the port stops: it is not ours.
    ///
    /// # Errors
    ///
    /// [`AdoptError`], with the descriptor: it is no such socket.
    #[track_caller]
    pub fn adopt_datagrams<P: DatagramProtocol>(
        &self,
        fd: impl Into<OwnedFd>,
        protocol: P,
    ) -> Result<DatagramTransport<P>, AdoptError> {
        self.core().on_behalf_of(Location::caller(), || {
            let socket = self.core().driver().adopt_datagrams(fd.into())?;
            let port = DatagramPort::open(self.core(), socket, &DatagramOptions::new());
            let port = port.map_err(|error| AdoptError {
                fd: None,
                problem: error.into(),
            })?;
            Ok(DatagramTransport::seat(protocol, port))
        })
    }
}

/// Whether it is no name, or whichever is free.
fn is_of_the_systems_choosing(host: &UnixAddress) -> bool {
    match host {
        UnixAddress::Unnamed => true,
        UnixAddress::Abstract(name) => name.is_empty(),
        UnixAddress::Path(_) => false,
    }
}

/// Seats `protocol` on a socket of whatever world.
pub(crate) fn listen_on<P: DatagramProtocol>(
    core: &Rc<Core>,
    socket: Box<dyn DatagramSocket>,
    options: &DatagramOptions,
    protocol: P,
) -> DatagramTransport<P> {
    let port = DatagramPort::open(core, socket, options);
    DatagramTransport::seat(
        protocol,
        port.expect("it fails with the system's sockets only"),
    )
}
