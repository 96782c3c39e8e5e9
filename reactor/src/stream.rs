//! What lies below a transport, and what lies above a stream.
//!
//! A [`Stream`] carries bytes to a peer: a connection over a [`Socket`], memory, or a
//! layer over another stream. A [`Receiver`] takes what comes out of it: a protocol in
//! its seat, or a layer. Who only writes protocols needs neither; who writes a layer
//! implements both.

use std::any::Any;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::rc::{Rc, Weak};

use torsade_deferred::Deferred;

use crate::address::Address;
use crate::error::ConnectionLost;
use crate::flow::Limits;
use crate::reactor::Reactor;
use crate::sockets::{KeepAlive, SocketOption};
use crate::unix::PeerCredentials;

/// A way to a peer, whatever it is made of.
///
/// # Order
///
/// One rule book for every stream. Writes arrive in order. `lose_connection` sends
/// what was written, then closes; `abort_connection` closes at once. Writes after
/// either are dropped. The first reason given is the one that is told, save that an abort
/// overtakes an orderly end that is under way, and gives its own. No method calls the receiver
/// before it returns.
///
/// A stream without a receiver reads nothing, and keeps what became of it for the first
/// that it is given. One that is dropped before it had one is aborted, unless it has been
/// told to [`lose_connection`](Stream::lose_connection); so is the stream below a layer.
pub trait Stream: Any {
    /// Sends bytes: all of them, later, in order. Never blocks.
    fn write(&self, data: &[u8]);

    /// Sends as much of `data` as the system takes at once, and says how much that was. Nothing is
    /// kept: for what is worth something now or never, such as the next frame of a picture.
    /// A layer that cannot tell takes all of it, if nothing waits to be sent.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if nothing is taken, because the system takes
    /// nothing or something waits to be sent already, be it from this very callback;
    /// [`NotConnected`](io::ErrorKind::NotConnected) where a write would be dropped.
    fn try_write(&self, data: &[u8]) -> io::Result<usize> {
        if !self.is_connected() || self.is_write_ended() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        if self.unsent() > 0 || self.is_congested() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.write(data);
        Ok(data.len())
    }

    /// Takes what has come and was not delivered into the caller's own memory, as much as there is and
    /// fits, and says how much that was: nothing at the end of the peer's stream, which the receiver
    /// hears of all the same. Goes together with paused reading, or with no receiver: what is
    /// delivered is not there to be taken.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if nothing has come;
    /// [`NotConnected`](io::ErrorKind::NotConnected) if the connection is being lost;
    /// [`Unsupported`](io::ErrorKind::Unsupported) by a layer that hands on something else than bytes,
    /// such as lines; else what the system says, or TLS, for one, of an end that was cut short, and the
    /// connection is lost for that.
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let _ = buffer;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Sends a part of a file, after what was written before and before what is written
    /// after, without reading it into memory; it counts as unsent until it is sent.
    ///
    /// A file that turns out to be shorter than the part ends the connection with
    /// [`ConnectionLost::FileTooShort`], since the peer has been promised more.
    ///
    /// # Errors
    ///
    /// The part, if this stream has no way to send a file other than reading it: the
    /// caller does.
    fn write_file(&self, part: FilePart) -> Result<(), FilePart> {
        Err(part)
    }

    /// Closes the connection when everything written has been handed to the system, and
    /// tells `connection_lost` this reason.
    fn lose_connection(&self, reason: ConnectionLost);

    /// Closes the connection now, with this reason; what is unsent is dropped, and the
    /// peer sees a reset unless it had everything.
    fn abort_connection(&self, reason: ConnectionLost);

    /// Ends our stream when everything written has been handed to the system; the peer
    /// may go on sending.
    fn lose_write_connection(&self);

    /// Delivers no data until `resume_reading`. The peer is slowed down when the
    /// system's buffers are full. A connection that the peer resets meanwhile is lost at
    /// once, and what has come and was not delivered with it.
    fn pause_reading(&self);

    /// Delivers data again, not before it returns.
    fn resume_reading(&self);

    /// Whether writes are accepted: neither lost nor being lost.
    fn is_connected(&self) -> bool;

    /// Whether our stream has been ended, by
    /// [`lose_write_connection`](Stream::lose_write_connection): writes are dropped, though the
    /// connection may stand. A layer that has no end of its own says what the stream below says.
    fn is_write_ended(&self) -> bool {
        self.below().is_some_and(|below| below.is_write_ended())
    }

    /// How many bytes were written and are not yet with the system, those of the layers
    /// below included.
    fn unsent(&self) -> usize;

    /// Whether more than the high mark is unsent, so that who answers requests had better
    /// look at no further one. It may sink again without a word; if it does not,
    /// [`write_paused`](Receiver::write_paused) and in time
    /// [`write_resumed`](Receiver::write_resumed) follow. Never, for a stream without marks.
    fn is_congested(&self) -> bool;

    /// Fires when the system has everything that was written before the call; at once, if
    /// it has. Fails with the reason's text if the connection is lost first.
    fn flush(&self) -> Deferred<()>;

    /// This stream's limits.
    fn limits(&self) -> Limits;

    /// Sets this stream's limits; they hold from now on.
    fn set_limits(&self, limits: Limits);

    /// Whether reading stops while more than the high mark is unsent: who takes no answers
    /// gets to ask no more. So it is for connections that were accepted, and not for those that
    /// were made from here. A receiver that heeds [`write_paused`](Receiver::write_paused) itself,
    /// and whose peer may send everything before it reads anything, switches it off. A layer
    /// passes it on to the stream below.
    fn set_throttled(&self, on: bool) {
        if let Some(below) = self.below() {
            below.set_throttled(on);
        }
    }

    /// Whether [`set_throttled`](Stream::set_throttled) is on: a layer that keeps something back while more than
    /// the high mark is unsent does so only then. A layer gives what the stream below says; a stream that stands on
    /// none, and does not say, is taken for one that was accepted.
    fn is_throttled(&self) -> bool {
        self.below().is_none_or(|below| below.is_throttled())
    }

    /// Gives what comes in to `receiver` from now on, in place of the one before. If that one
    /// was told [`write_paused`](Receiver::write_paused) and not
    /// [`write_resumed`](Receiver::write_resumed) since, so is this one, in the next turn, unless
    /// it may go on by then. If the one before was told
    /// [`read_connection_lost`](Receiver::read_connection_lost), so is this one, later, and not while
    /// reading is paused.
    fn set_receiver(&self, receiver: Rc<dyn Receiver>);

    /// What it all stands on: addresses, options, the reactor. A layer gives the socket of
    /// the stream below.
    fn socket(&self) -> &dyn Socket;

    /// The stream below, if this is a layer.
    fn below(&self) -> Option<&Rc<dyn Stream>> {
        None
    }
}

/// A part of a file, to be sent.
#[derive(Clone, Debug)]
pub struct FilePart {
    /// A regular file, open for reading. Its own position is neither used nor moved.
    pub file: Rc<File>,
    /// Where the part begins, in bytes.
    pub offset: u64,
    /// How long it is, in bytes.
    pub length: u64,
}

impl FilePart {
    /// Reads a piece from the front, of at most `size` bytes, and leaves the rest of the part; an
    /// empty one if there is no more. Blocks, as files do.
    ///
    /// # Errors
    ///
    /// What the system says; [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) if the file ends before the
    /// part.
    pub fn take_piece(&mut self, size: usize) -> io::Result<Vec<u8>> {
        let size = usize::try_from(self.length).unwrap_or(size).min(size);
        let mut piece = vec![0; size];
        let count = self.read_some(self.offset, &mut piece)?;
        piece.truncate(count);
        self.offset += count as u64;
        self.length -= count as u64;
        Ok(piece)
    }

    /// Reads all of it behind what `out` has. Blocks, as files do.
    ///
    /// # Errors
    ///
    /// As [`take_piece`](Self::take_piece); `out` then has something more, or nothing.
    pub fn read_into(&self, out: &mut Vec<u8>) -> io::Result<()> {
        let length = usize::try_from(self.length).map_err(io::Error::other)?;
        let mut at = out.len();
        let mut offset = self.offset;
        out.resize(at + length, 0);
        while at < out.len() {
            let count = self.read_some(offset, &mut out[at..])?;
            at += count;
            offset += count as u64;
        }
        Ok(())
    }

    fn read_some(&self, offset: u64, place: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.file.read_at(place, offset) {
                Ok(0) if !place.is_empty() => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => return outcome,
            }
        }
    }
}

impl dyn Stream {
    /// This stream, or the first of those below it, that is an `S`.
    ///
    /// How a protocol that does not care what it runs on asks all the same, for instance
    /// for the peer's certificate.
    pub fn find<S: Stream>(&self) -> Option<&S> {
        let mut stream = self;
        loop {
            let any: &dyn Any = stream;
            match any.downcast_ref() {
                Some(found) => return Some(found),
                None => stream = &**stream.below()?,
            }
        }
    }
}

impl fmt::Debug for dyn Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let socket = self.socket();
        write!(f, "Stream({} to {})", socket.host(), socket.peer())
    }
}

/// The socket at the bottom of a stream, or what stands for one.
pub trait Socket {
    /// The peer's address. Known also after the end.
    fn peer(&self) -> Address;

    /// Our own address. Known also after the end.
    fn host(&self) -> Address;

    /// The reactor that drives it. (After that one's end: one with nothing in it.)
    fn reactor(&self) -> Reactor;

    /// Which of its reactor's connections this is, counted from 1 in the order in which they were
    /// accepted or made; none has the number of another. 0 where there is no connection. For logs:
    /// Twisted's `sessionno`.
    fn session_number(&self) -> u64 {
        0
    }

    /// Whether small writes are sent at once (`TCP_NODELAY`), as they are by default;
    /// nothing, where that means nothing.
    fn set_nodelay(&self, on: bool);

    /// Whether [`Reactor::run_until_idle`](crate::Reactor::run_until_idle) goes on for this
    /// connection: not, if it is in the background. Nothing, where there is no connection.
    fn set_background(&self, on: bool) {
        let _ = on;
    }

    /// Sets an option.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](io::ErrorKind::Unsupported) where it means nothing, for instance TCP's
    /// on a UNIX socket; [`NotConnected`](io::ErrorKind::NotConnected) after the end; else what
    /// the system says of the value.
    fn set_option(&self, option: SocketOption) -> io::Result<()> {
        let _ = option;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Whether small writes are sent at once.
    ///
    /// # Errors
    ///
    /// As for [`set_option`](Socket::set_option).
    fn nodelay(&self) -> io::Result<bool> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// When a silent peer is asked whether it is still there; `None` for never.
    ///
    /// # Errors
    ///
    /// As for [`set_option`](Socket::set_option).
    fn keep_alive(&self) -> io::Result<Option<KeepAlive>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// How many bytes the system holds for this socket: to be sent, and received.
    ///
    /// # Errors
    ///
    /// As for [`set_option`](Socket::set_option).
    fn buffer_sizes(&self) -> io::Result<(usize, usize)> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// How many bytes the system has taken that the peer's has not acknowledged (TCP), or that the peer has
    /// not read (a UNIX socket). A peer that takes little at a time is told from one that takes nothing by this:
    /// a system with large buffers takes more in large steps, a minute apart if the peer is slow.
    ///
    /// # Errors
    ///
    /// As for [`set_option`](Socket::set_option).
    fn unacknowledged(&self) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Who is at the other end of a UNIX socket: as it was when they connected, or began to
    /// listen.
    ///
    /// # Errors
    ///
    /// As for [`set_option`](Socket::set_option).
    fn peer_credentials(&self) -> io::Result<PeerCredentials> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// From now on keeps the descriptors that a peer sends over a UNIX socket, for
    /// [`take_descriptor`](Socket::take_descriptor). More than `unclaimed_max` that nobody
    /// has taken end the connection. Until this is called, and from then on what is unclaimed
    /// at the end, they are closed.
    ///
    /// Called in `connection_made`, as a rule: nothing has been read before.
    ///
    /// # Errors
    ///
    /// As for [`set_option`](Socket::set_option).
    fn accept_descriptors(&self, unclaimed_max: usize) -> io::Result<()> {
        let _ = unclaimed_max;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The oldest descriptor that has come and was not taken. It comes no later than the
    /// byte that was sent with it: when `data_received` is called with that one, it is here.
    fn take_descriptor(&self) -> Option<OwnedFd> {
        None
    }

    /// Sends a descriptor to the peer of a UNIX socket, with the first byte that is written
    /// after this call, and closes ours then. Without such a byte, it is never sent.
    ///
    /// # Errors
    ///
    /// The descriptor comes back: this is no UNIX socket, the connection is ending, or 64 of
    /// them wait to be sent.
    fn send_descriptor(&self, fd: OwnedFd) -> Result<(), OwnedFd> {
        Err(fd)
    }

    /// The descriptor, a second time: for options that are not offered here. To read or
    /// write there is at your own risk. An orderly end is one for the peer though it lives on. Of an
    /// abort, a stream that is cut off, or a reactor that stops, the peer hears nothing before it is
    /// closed, too: who was handed it, a process that takes over, goes on with it.
    ///
    /// # Errors
    ///
    /// There is none, the connection is over, or the process has no more of them.
    fn duplicate(&self) -> io::Result<OwnedFd> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Takes what comes out of a stream.
///
/// Called by the stream, never from inside one of the stream's own methods.
/// [`connection_lost`](Receiver::connection_lost) comes last and once.
pub trait Receiver {
    /// Bytes have come.
    fn data_received(self: Rc<Self>, data: &[u8]);

    /// Bytes have come, into memory that the receiver may change: a layer decrypts or unmasks them
    /// where they lie. By default [`data_received`](Receiver::data_received).
    fn data_received_mut(self: Rc<Self>, data: &mut [u8]) {
        self.data_received(data);
    }

    /// The peer has ended its stream.
    fn read_connection_lost(self: Rc<Self>);

    /// More than the high mark is unsent.
    fn write_paused(self: Rc<Self>);

    /// What is unsent has sunk to the low mark.
    fn write_resumed(self: Rc<Self>);

    /// The connection will be lost when this returns, for a reason of those below: the reactor
    /// stops, or a policy has run out of patience. What is written in here is still sent; when the
    /// reactor stops, as far as the system takes it at once. A layer that owes its peer a word at the
    /// end, such as TLS, has whoever is above say theirs first, and then says its own; a layer that
    /// does not still passes it on. By default nothing.
    fn about_to_be_lost(self: Rc<Self>) {}

    /// The simulated machine has crashed, and its simulation ends: lets go of whoever receives above,
    /// and calls nobody. A protocol may keep its own transport, and so itself.
    fn vanish(self: Rc<Self>) {}

    /// The end.
    fn connection_lost(self: Rc<Self>, reason: ConnectionLost);
}

/// Passes everything on to a receiver that it keeps no hold of.
///
/// For a layer that must hear of the stream below before it has a receiver of its own, to do a handshake
/// or to count: the stream below gets one of these, and the layer itself in its place when its receiver
/// comes. Until then whoever was handed the layer holds it, and when it is dropped, it aborts the stream
/// below in its `drop`.
pub struct WeakReceiver<R> {
    to: Weak<R>,
}

impl<R: Receiver + 'static> WeakReceiver<R> {
    /// Passes on to `receiver`, while there is anybody who holds it.
    #[must_use]
    pub fn to(receiver: &Rc<R>) -> Rc<dyn Receiver> {
        let to = Rc::downgrade(receiver);
        Rc::new(Self { to })
    }

    fn tell(&self, event: impl FnOnce(Rc<R>)) {
        if let Some(receiver) = self.to.upgrade() {
            event(receiver);
        }
    }
}

impl<R: Receiver + 'static> Receiver for WeakReceiver<R> {
    fn data_received(self: Rc<Self>, data: &[u8]) {
        self.tell(|receiver| receiver.data_received(data));
    }

    fn data_received_mut(self: Rc<Self>, data: &mut [u8]) {
        self.tell(|receiver| receiver.data_received_mut(data));
    }

    fn read_connection_lost(self: Rc<Self>) {
        self.tell(R::read_connection_lost);
    }

    fn write_paused(self: Rc<Self>) {
        self.tell(R::write_paused);
    }

    fn write_resumed(self: Rc<Self>) {
        self.tell(R::write_resumed);
    }

    fn about_to_be_lost(self: Rc<Self>) {
        self.tell(R::about_to_be_lost);
    }

    fn vanish(self: Rc<Self>) {
        self.tell(R::vanish);
    }

    fn connection_lost(self: Rc<Self>, reason: ConnectionLost) {
        self.tell(|receiver| receiver.connection_lost(reason));
    }
}

impl<R> fmt::Debug for WeakReceiver<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WeakReceiver")
    }
}

/// A layer with work to do once the callback at hand has returned: what was written
/// during it becomes one record, one frame, one call.
///
/// See [`Reactor::settle_later`].
pub trait Settle {
    /// Called once for each `settle_later`, after the callback at hand and before sockets
    /// send what they have; outside of a callback, in the next turn.
    fn settle(self: Rc<Self>);
}
