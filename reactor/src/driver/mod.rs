//! What the loop needs from the world.
//!
//! The reactor knows time, descriptors and peers only through a [`Driver`]: the
//! operating system's ([`os`]), or one made for tests. Everything above this seam
//! is the same code in both.
//!
//! # What a driver promises
//!
//! - **Time** never goes back; `wait` returns no earlier than its limit unless
//!   something happened or it was woken.
//! - **Readiness is an edge, reported at least once**: after `watch`, and after each
//!   operation that said `WouldBlock`, the next change is reported; after a write that
//!   did, it may have to be asked for ([`StreamSocket::watch_room`]). An event may be
//!   spurious; it is never lost. A short read means "nothing more at this moment"
//!   only if [`Driver::short_read_is_dry`] says so.
//! - **`hangup`** accompanies the end of the peer's stream where a short read means
//!   "nothing more", so that one that came with it is known not to be the last.
//! - **Tokens** come back as they were given. A socket that is dropped reports
//!   nothing new, but events fetched before may still be on their way: the reactor's
//!   tokens are generational and a stale one finds nobody.
//! - **Waking** works from any thread, also before `wait` is entered, and many wakes
//!   may count as one.
//! - Nothing here calls back.
//!
//! `contract.rs` has these as rules, and runs them on every driver that there is.

mod adopted;
mod any_socket;
mod boot_time;
#[cfg(all(test, feature = "testing"))]
mod contract;
mod events;
mod options;
pub(crate) mod os;
mod tcp;
mod udp;
mod unix;
mod unix_datagrams;
#[cfg(feature = "testing")]
pub(crate) mod virtual_time;

use std::fmt;
use std::fs::File;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use crate::address::{Address, UnixAddress};
use crate::capability::{Capability, WorldKind};
use crate::descriptor::{Interest, Mode};
pub(crate) use crate::driver::any_socket::AnySocket;
pub(crate) use crate::driver::events::{Change, Events};
use crate::slab::Token;
use crate::sockets::{ConnectOptions, KeepAlive, ListenOptions, SocketOption};
use crate::sys::poller::Poller;
use crate::udp::{DatagramOption, DatagramOptions, MulticastGroup};
use crate::unix::{AdoptError, PeerCredentials};

/// Where virtual time begins, by the calendar: 1 January 2000, 00:00 UTC, in time since the
/// epoch of UNIX.
pub(crate) const DAWN: Duration = Duration::from_secs(946_684_800);

/// The world below a reactor.
pub(crate) trait Driver {
    /// What there is in it.
    fn world(&self) -> WorldKind;

    fn now(&self) -> Instant;

    /// The time of day. Where time is virtual: [`DAWN`], and what has passed since.
    fn system_time(&self) -> SystemTime;

    /// To be called before the two below.
    fn begin_boot_time(&self) -> io::Result<()>;

    /// The time that passes while the machine is suspended, too.
    fn boot_now(&self) -> Instant;

    /// Has `wait` end when that time has come, whatever its limit.
    fn set_boot_alarm(&self, deadline: Option<Instant>);

    /// Moves the clock, where it is virtual.
    fn pass_time(&self, time: Duration) {
        panic!("{time:?} cannot be skipped: the clock is the system's");
    }

    /// Suspends the machine, where it is virtual.
    fn suspend(&self, time: Duration) {
        panic!("the machine cannot be suspended for {time:?}: it is a real one");
    }

    /// How long work on a thread takes, in a world without threads: there the loop does it,
    /// when that time has passed.
    fn thread_time(&self) -> Option<Duration> {
        None
    }

    /// Waits until somebody wakes the loop, where time is virtual and must not pass while
    /// threads work. False where time passes by itself.
    fn wait_for_threads(&self) -> bool {
        false
    }

    /// Waits until a watched socket changes, somebody wakes the loop, or `limit` has
    /// passed (`None`: for ever), and appends what happened to `events`.
    fn wait(&self, limit: Option<Duration>, events: &mut Events) -> io::Result<()>;

    /// What `wait` waits with, where that is epoll: for a loop that goes there directly.
    fn poller(&self) -> Option<Rc<Poller>> {
        None
    }

    fn wake_up(&self) -> Box<dyn WakeUp>;

    fn short_read_is_dry(&self) -> bool;

    /// Listens on an address of its own network; `Unsupported` for any other.
    fn listen(
        &self,
        address: &Address,
        options: &ListenOptions,
    ) -> io::Result<Box<dyn ListeningSocket>>;

    /// Begins to connect. The outcome is an event, and then `StreamSocket::take_error`.
    fn connect(&self, peer: &Address, options: &ConnectOptions) -> io::Result<AnySocket>;

    /// Opens a socket for datagrams on an address of its own network.
    fn bind_datagrams(
        &self,
        address: SocketAddr,
        options: &DatagramOptions,
    ) -> io::Result<Box<dyn DatagramSocket>>;

    /// Opens a UNIX socket for datagrams with this name, connected to that peer.
    fn open_unix_datagrams(
        &self,
        host: &UnixAddress,
        peer: Option<&UnixAddress>,
        options: &DatagramOptions,
    ) -> io::Result<Box<dyn DatagramSocket>> {
        let _ = (host, peer, options);
        Err(self.world().lacks(Capability::UnixDatagrams).into())
    }

    /// Takes over a socket for datagrams that somebody else made.
    fn adopt_datagrams(&self, fd: OwnedFd) -> Result<Box<dyn DatagramSocket>, AdoptError> {
        Err(AdoptError::new(
            fd,
            io::Error::from(self.world().lacks(Capability::Descriptors)).into(),
        ))
    }

    /// Takes over a socket that listens already.
    fn adopt_listener(&self, fd: OwnedFd) -> Result<Box<dyn ListeningSocket>, AdoptError> {
        Err(AdoptError::new(
            fd,
            io::Error::from(self.world().lacks(Capability::Descriptors)).into(),
        ))
    }

    /// Takes over a socket that is connected already, and says to whom.
    fn adopt_connection(&self, fd: OwnedFd) -> Result<(AnySocket, Address), AdoptError> {
        Err(AdoptError::new(
            fd,
            io::Error::from(self.world().lacks(Capability::Descriptors)).into(),
        ))
    }

    /// Begins to report the readiness of somebody's descriptor, as a level or whatever
    /// `mode` says. Fails with `PermissionDenied` for what is always ready, such as a
    /// regular file.
    fn watch_fd(
        &self,
        fd: BorrowedFd<'_>,
        token: Token,
        interest: Interest,
        mode: Mode,
    ) -> io::Result<()>;

    /// Changes what is reported, and arms a one-shot again.
    fn rewatch_fd(
        &self,
        fd: BorrowedFd<'_>,
        token: Token,
        interest: Interest,
        mode: Mode,
    ) -> io::Result<()>;

    /// Ends the reports. To be called before the descriptor is closed.
    fn unwatch_fd(&self, fd: BorrowedFd<'_>);

    /// Gives a descriptor that is readable when a child, which nobody has reaped yet, has
    /// ended; `Unsupported` where there is no such thing.
    fn process_descriptor(&self, id: u32) -> io::Result<OwnedFd> {
        let _ = id;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// A descriptor that is readable while events are waiting to be fetched.
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;

    /// The addresses of a name. May block: called on a thread of its own, save for
    /// listening.
    fn names(&self) -> Box<dyn Names>;

    /// A number for what is to differ from one process to the next, such as the jitter of
    /// clients that connect again. The same each time, where everything is to be.
    fn seed(&self) -> u64 {
        0
    }

    /// A place where signals are noted, none to begin with. Those that come end a `wait`.
    fn watch_signals(&self) -> io::Result<Rc<dyn SignalSource>>;

    /// Whether a signal has its default effect, save for what `watch_signals` gave.
    fn is_signal_default(&self, signal: i32) -> bool;
}

/// A socket that accepts connections.
pub(crate) trait ListeningSocket {
    fn address(&self) -> Address;

    fn watch(&self, token: Token) -> io::Result<()>;

    fn accept(&self) -> io::Result<(AnySocket, Address)>;
}

/// A stream of bytes to a peer. Never blocks.
pub(crate) trait StreamSocket {
    /// Begins to report changes. To one that was accepted or adopted, room to send need not be
    /// reported before `watch_room`; to one that connects it is.
    fn watch(&self, token: Token) -> io::Result<()>;

    /// Has room to send reported from now on, and at once if there is some; or not any more, as it
    /// had better be while nobody waits for it. `false`: it is always reported, which costs
    /// nothing, since nobody is told who was not refused before.
    fn watch_room(&self, token: Token, on: bool) -> io::Result<bool> {
        let _ = (token, on);
        Ok(false)
    }

    fn read(&self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Reads, and says whether a short read is the last one for the moment.
    fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        self.read(buffer).map(|count| Received {
            count,
            is_cut: false,
        })
    }

    fn write(&self, data: &[u8]) -> io::Result<usize>;

    fn write_two(&self, first: &[u8], second: &[u8]) -> io::Result<usize>;

    /// Sends from a file, at most `length` bytes from `offset` on; 0 where the file ends.
    /// `Unsupported`, and not another time something else, where that cannot be done.
    fn write_file(&self, file: &File, offset: u64, length: u64) -> io::Result<usize> {
        let _ = (file, offset, length);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Whether `write_file` can be done.
    fn takes_files(&self) -> bool {
        false
    }

    /// Sends bytes together with descriptors: all of those with the first byte.
    fn write_with_descriptors(
        &self,
        data: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<usize> {
        let _ = (data, descriptors);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// From now on keeps descriptors that come, as long as no more than these are unclaimed.
    fn accept_descriptors(&self, unclaimed_max: usize) -> io::Result<()> {
        let _ = unclaimed_max;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Whether descriptors can be sent.
    fn takes_descriptors(&self) -> bool {
        false
    }

    /// The oldest descriptor that has come and was not claimed.
    fn take_descriptor(&self) -> Option<OwnedFd> {
        None
    }

    /// Keeps none any more, and closes those that nobody has taken.
    fn refuse_descriptors(&self) {}

    fn peer_credentials(&self) -> io::Result<PeerCredentials> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()>;

    /// Whether somebody else may have a descriptor of the same socket, so that to close this one is
    /// no end.
    fn is_shared(&self) -> bool {
        false
    }

    /// Ends our stream. Where the peer has broken the connection off, fails with what the
    /// system knows of that, and not with its being gone.
    fn end_stream(&self) -> io::Result<()> {
        let gone = |kind| kind == io::ErrorKind::NotConnected;
        match self.shutdown(Shutdown::Write) {
            Err(error) if gone(error.kind()) => match self.take_error() {
                Err(cause) if !gone(cause.kind()) && cause.kind() != io::ErrorKind::WouldBlock => {
                    Err(cause)
                }
                _ => Err(io::ErrorKind::ConnectionReset.into()),
            },
            outcome => outcome,
        }
    }

    /// Makes the coming drop reset the connection instead of closing it in order.
    fn reset_on_drop(&self);

    /// Whether the peer's system has everything that was written, and nothing that it sent
    /// waits unread: whether closing does no harm.
    fn is_delivered(&self) -> bool;

    /// How many bytes that were written the peer's system does not have.
    fn unacknowledged(&self) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// What became of `connect`; `WouldBlock` while it goes on.
    fn take_error(&self) -> io::Result<()>;

    fn local_address(&self) -> io::Result<Address>;

    fn set_option(&self, option: &SocketOption) -> io::Result<()>;

    fn nodelay(&self) -> io::Result<bool> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn keep_alive(&self) -> io::Result<Option<KeepAlive>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The bytes that the system holds for us: to send, and received.
    fn buffer_sizes(&self) -> io::Result<(usize, usize)>;

    fn duplicate(&self) -> io::Result<OwnedFd>;
}

/// How the readiness of a socket for datagrams is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watching {
    /// When it begins, to receive and to send, and when more comes: whoever is told receives
    /// until nothing is left.
    Edges,
    /// In every wait in which there is something to receive; nothing is said of sending.
    Arrivals,
}

/// Sends datagrams, each whole or not at all, and receives them. Never blocks.
pub(crate) trait DatagramSocket {
    /// Begins to report, arrivals if it can, and gives the way.
    fn watch(&self, token: Token) -> io::Result<Watching>;

    /// Reports in another way from now on, and again what holds already. Gives the way in which
    /// it does: where there is none but edges, these.
    fn watch_as(&self, token: Token, watching: Watching) -> io::Result<Watching> {
        let _ = (token, watching);
        Ok(Watching::Edges)
    }

    fn local_address(&self) -> io::Result<Address>;

    /// Whom it is connected to.
    fn peer(&self) -> Option<Address>;

    /// One datagram: how long it is, which may be more than the buffer holds, and in `from` who sent
    /// it. What is there already is left, if it is the same. `ConnectionRefused` for what has come
    /// back from the peer's host.
    fn receive(&self, buffer: &mut [u8], from: &mut Address) -> io::Result<usize>;

    /// To whom it is connected, for `None`. `WouldBlock` if there is no room at the moment. Of UDP
    /// `ConnectionRefused`, as above: the datagram has not been sent.
    fn send(&self, data: &[u8], to: Option<&Address>) -> io::Result<()>;

    /// Whether an event tells that there is room, after such a `WouldBlock`.
    fn tells_of_room(&self, to: Option<&Address>) -> bool {
        let _ = to;
        true
    }

    /// Connects to a peer, or to nobody.
    fn connect(&self, peer: Option<&Address>) -> io::Result<()>;

    fn set_option(&self, option: &SocketOption) -> io::Result<()>;

    /// `Unsupported` for what is no UDP socket.
    fn set_datagram_option(&self, option: DatagramOption) -> io::Result<()> {
        let _ = option;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Joins a group, or leaves it; `Unsupported`, as above.
    fn set_membership(&self, group: &MulticastGroup, member: bool) -> io::Result<()> {
        let _ = (group, member);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The bytes that the system holds for us: to send, and received.
    fn buffer_sizes(&self) -> io::Result<(usize, usize)>;
}

/// What came of a read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received {
    pub(crate) count: usize,
    /// There may be more, although the read was short: it stopped at a boundary.
    pub(crate) is_cut: bool,
}

/// Ends a `wait`, from any thread.
pub(crate) trait WakeUp: fmt::Debug + Send + Sync {
    fn wake_up(&self);
}

/// Looks names and addresses up. May block, and may be called on any thread.
pub(crate) trait Names: Send {
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;

    /// The name of an address; `NotFound` if it has none.
    fn reverse_lookup(&self, ip: IpAddr) -> io::Result<String>;
}

/// Notes signals while it lives.
pub(crate) trait SignalSource {
    fn add(&self, signal: i32) -> io::Result<()>;

    fn remove(&self, signal: i32);

    /// Whether `take` would give any.
    fn has_some(&self) -> bool;

    /// Those that have come since the last call, each once, in ascending order.
    fn take(&self) -> Vec<i32>;
}
