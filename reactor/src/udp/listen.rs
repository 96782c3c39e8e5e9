//! Opening UDP ports.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::panic::Location;
use std::rc::Rc;

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
        self.core().on_behalf_of(Location::caller(), || {
            let port = open(self.core(), address, options)?;
            Ok(DatagramTransport::seat(protocol, port))
        })
    }

    /// Takes over a UDP socket that somebody else has bound, and perhaps connected. Twisted's
    /// `adoptDatagramPort`.
    ///
    /// The socket is made non-blocking, which whoever else holds it will notice.
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

fn open(
    core: &Rc<Core>,
    address: SocketAddr,
    options: &DatagramOptions,
) -> Result<Rc<DatagramPort>, ListenError> {
    let socket = core.driver().bind_datagrams(address, options);
    socket
        .and_then(|socket| DatagramPort::open(core, socket, options))
        .map_err(|error| listen_error(address.to_string(), error))
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
