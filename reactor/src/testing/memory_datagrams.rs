//! A port for datagrams that records what it is asked to send, and has no network.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;

use crate::address::{Address, UnixAddress};
use crate::descriptor::Readiness;
use crate::driver::{DatagramSocket, Watching};
use crate::reactor::Reactor;
use crate::slab::Token;
use crate::sockets::SocketOption;
use crate::udp::{
    DATAGRAM_MAX, DatagramFamily, DatagramOption, DatagramOptions, DatagramProtocol,
    DatagramTransport, MulticastGroup, ToDatagramAddress, listen_on,
};

/// What [`MemoryDatagrams::new`] is bound to: an address for documentation, of RFC 5737.
const HOST: SocketAddr = SocketAddr::new(
    std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)),
    4000,
);
/// What [`MemoryDatagrams::unix`] is bound to. There is no such file.
const PATH: &str = "/run/memory";

/// A port for datagrams without a network, for a test that plays the peers itself. Twisted's
/// `FakeDatagramTransport`.
///
/// The transport is a real one, with its queue and its errors; only the socket below it is memory.
/// What is sent is kept until it is [taken](Self::take_sent); datagrams come when the test says
/// [`receive`](Self::receive), which calls the protocol at once, unless it is busy. Several
/// protocols that speak to each other want a [`Simulation`](super::Simulation) instead.
///
/// # Examples
///
/// ```
/// use torsade_reactor::testing::{MemoryDatagrams, virtual_time_reactor};
/// use torsade_reactor::{Address, DatagramProtocol, DatagramTransport};
///
/// struct Echo;
///
/// impl DatagramProtocol for Echo {
///     fn datagram_received(&mut self, transport: &DatagramTransport<Self>, data: &[u8], from: &Address) {
///         transport.write_to(data, from);
///     }
/// }
///
/// let datagrams = MemoryDatagrams::new(&virtual_time_reactor());
/// datagrams.listen(Echo);
/// datagrams.receive("hello", "192.0.2.7:5000");
/// let sent = datagrams.take_sent();
/// assert_eq!(sent[0].0, b"hello");
/// assert_eq!(sent[0].1.to_string(), "192.0.2.7:5000");
/// ```
#[derive(Clone)]
pub struct MemoryDatagrams {
    reactor: Reactor,
    wire: Rc<Wire>,
}

/// A datagram, and who sent it.
type Come = (Vec<u8>, Address);

/// What the test and the socket share.
struct Wire {
    host: Address,
    family: DatagramFamily,
    peer: RefCell<Option<Address>>,
    token: Cell<Option<Token>>,
    inbox: RefCell<VecDeque<io::Result<Come>>>,
    sent: RefCell<Vec<(Vec<u8>, Address)>>,
    congested: Cell<bool>,
    /// They have no room.
    full: RefCell<BTreeSet<Address>>,
    tries: Cell<usize>,
    refuses_next: Cell<Option<io::Error>>,
    closed: Cell<bool>,
}

impl MemoryDatagrams {
    /// A UDP socket on `192.0.2.1:4000` that nobody has yet.
    #[must_use]
    pub fn new(reactor: &Reactor) -> Self {
        Self::over(reactor, Address::Udp(HOST), DatagramFamily::Ipv4)
    }

    /// A UNIX socket on `/run/memory`, a file that is not there, which nobody has yet.
    #[must_use]
    pub fn unix(reactor: &Reactor) -> Self {
        let path = UnixAddress::Path(PathBuf::from(PATH));
        Self::over(reactor, path.into(), DatagramFamily::Unix)
    }

    fn over(reactor: &Reactor, host: Address, family: DatagramFamily) -> Self {
        Self {
            reactor: reactor.clone(),
            wire: Rc::new(Wire {
                host,
                family,
                peer: RefCell::default(),
                token: Cell::default(),
                inbox: RefCell::default(),
                sent: RefCell::default(),
                congested: Cell::default(),
                full: RefCell::default(),
                tries: Cell::default(),
                refuses_next: Cell::default(),
                closed: Cell::default(),
            }),
        }
    }

    /// Seats a protocol on it.
    ///
    /// # Panics
    ///
    /// There is one already.
    pub fn listen<P: DatagramProtocol>(&self, protocol: P) -> DatagramTransport<P> {
        self.listen_with(&DatagramOptions::new(), protocol)
    }

    /// The same with options, of which the limits and the longest datagram have an effect.
    ///
    /// # Panics
    ///
    /// There is one already.
    pub fn listen_with<P: DatagramProtocol>(
        &self,
        options: &DatagramOptions,
        protocol: P,
    ) -> DatagramTransport<P> {
        assert!(
            self.wire.token.get().is_none(),
            "there is a protocol already"
        );
        let socket = MemorySocket {
            wire: Rc::clone(&self.wire),
        };
        listen_on(self.reactor.core(), Box::new(socket), options, protocol)
    }

    /// A datagram comes, from whom the test says.
    ///
    /// # Panics
    ///
    /// `from` is no address of the socket's kind, or the datagram is longer than 65 535 bytes.
    pub fn receive(&self, datagram: impl AsRef<[u8]>, from: impl ToDatagramAddress) {
        let from = self.read(from);
        let datagram = datagram.as_ref().to_vec();
        assert!(datagram.len() <= DATAGRAM_MAX, "no datagram is so long");
        self.come(Ok((datagram, from)));
    }

    /// The peer's host says that nobody listens there.
    pub fn refuse(&self) {
        self.fail(ErrorKind::ConnectionRefused.into());
    }

    /// The system says that something is wrong.
    pub fn fail(&self, error: io::Error) {
        self.come(Err(error));
    }

    fn come(&self, what: io::Result<Come>) {
        self.wire.inbox.borrow_mut().push_back(what);
        self.tell(|news| news.readable = true);
    }

    /// The next datagram is not sent, for this reason.
    pub fn fail_to_send(&self, error: io::Error) {
        self.wire.refuses_next.set(Some(error));
    }

    /// The system takes no more, or takes more again.
    pub fn set_congested(&self, congested: bool) {
        self.wire.congested.set(congested);
        if !congested {
            self.tell(|news| news.writable = true);
        }
    }

    /// A receiver has no room, or has room again. A UNIX socket that is not connected to it is not
    /// told.
    ///
    /// # Panics
    ///
    /// `receiver` is no address of the socket's kind.
    pub fn set_full(&self, receiver: impl ToDatagramAddress, full: bool) {
        let receiver = self.read(receiver);
        if full {
            self.wire.full.borrow_mut().insert(receiver);
        } else {
            self.wire.full.borrow_mut().remove(&receiver);
            let is_peer = self.wire.peer.borrow().as_ref() == Some(&receiver);
            if is_peer || self.wire.family != DatagramFamily::Unix {
                self.tell(|news| news.writable = true);
            }
        }
    }

    fn read(&self, address: impl ToDatagramAddress) -> Address {
        let address = address.to_datagram_address(self.wire.family);
        address
            .expect("an address of the socket's kind")
            .into_owned()
    }

    /// How often the system was asked to take a datagram, in vain or not.
    #[must_use]
    pub fn tries(&self) -> usize {
        self.wire.tries.get()
    }

    /// Takes what was sent since the last time, and to whom.
    #[must_use]
    pub fn take_sent(&self) -> Vec<(Vec<u8>, Address)> {
        self.wire.sent.take()
    }

    /// Whether the port has been stopped.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.wire.closed.get()
    }

    fn tell(&self, mark: impl FnOnce(&mut Readiness)) {
        let mut news = Readiness {
            readable: false,
            writable: false,
            hangup: false,
            broken: false,
            urgent: false,
        };
        mark(&mut news);
        if let Some(token) = self.wire.token.get() {
            self.reactor.core().deliver(token, news);
        }
    }
}

impl fmt::Debug for MemoryDatagrams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryDatagrams")
            .field("to_receive", &self.wire.inbox.borrow().len())
            .field("sent", &self.wire.sent.borrow().len())
            .finish_non_exhaustive()
    }
}

struct MemorySocket {
    wire: Rc<Wire>,
}

impl DatagramSocket for MemorySocket {
    fn watch(&self, token: Token) -> io::Result<Watching> {
        self.wire.token.set(Some(token));
        Ok(Watching::Edges)
    }

    fn local_address(&self) -> io::Result<Address> {
        Ok(self.wire.host.clone())
    }

    fn peer(&self) -> Option<Address> {
        self.wire.peer.borrow().clone()
    }

    fn receive(&self, buffer: &mut [u8], from: &mut Address) -> io::Result<usize> {
        let next = self.wire.inbox.borrow_mut().pop_front();
        let (data, sender) = next.unwrap_or_else(|| Err(ErrorKind::WouldBlock.into()))?;
        buffer[..data.len()].copy_from_slice(&data);
        *from = sender;
        Ok(data.len())
    }

    fn send(&self, data: &[u8], to: Option<&Address>) -> io::Result<()> {
        self.wire.tries.set(self.wire.tries.get() + 1);
        let peer = self.wire.peer.borrow();
        let to = to.or(peer.as_ref()).ok_or(ErrorKind::NotConnected)?;
        if self.wire.congested.get() || self.wire.full.borrow().contains(to) {
            return Err(ErrorKind::WouldBlock.into());
        }
        if let Some(error) = self.wire.refuses_next.take() {
            return Err(error);
        }
        let mut sent = self.wire.sent.borrow_mut();
        sent.push((data.to_vec(), to.clone()));
        Ok(())
    }

    fn tells_of_room(&self, to: Option<&Address>) -> bool {
        to.is_none() || self.wire.family != DatagramFamily::Unix
    }

    fn connect(&self, peer: Option<&Address>) -> io::Result<()> {
        self.wire.peer.replace(peer.cloned());
        Ok(())
    }

    fn set_option(&self, _option: &SocketOption) -> io::Result<()> {
        Ok(())
    }

    fn set_datagram_option(&self, _option: DatagramOption) -> io::Result<()> {
        Ok(())
    }

    fn set_membership(&self, _group: &MulticastGroup, _member: bool) -> io::Result<()> {
        Ok(())
    }

    fn buffer_sizes(&self) -> io::Result<(usize, usize)> {
        Ok((0, 0))
    }
}

impl Drop for MemorySocket {
    fn drop(&mut self) {
        self.wire.closed.set(true);
    }
}
