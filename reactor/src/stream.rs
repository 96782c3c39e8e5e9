//! What lies below a transport, and what lies above a stream.
//!
//! A [`Stream`] carries bytes to a peer: a TCP connection, memory, or a layer over
//! another stream. A [`Receiver`] takes what comes out of it: a protocol in its seat,
//! or a layer. Who only writes protocols needs neither; who writes a layer implements
//! both.

use std::rc::Rc;

use torsade_deferred::Failure;

use crate::address::Address;
use crate::error::ConnectionLost;
use crate::flow::Limits;
use crate::reactor::Reactor;

/// A way to a peer, whatever it is made of.
///
/// # Order
///
/// One rule book for every stream. Writes arrive in order. `lose_connection` sends
/// what was written, then closes; `abort_connection` closes at once. Writes after
/// either are dropped. No method calls the receiver before it returns.
pub trait Stream: 'static {
    /// Sends bytes: all of them, later, in order. Never blocks.
    fn write(&self, data: &[u8]);

    /// Closes the connection when everything written has been handed to the system.
    fn lose_connection(&self);

    /// Like `lose_connection`, but `connection_lost` is told this reason.
    fn lose_connection_because(&self, failure: Failure);

    /// Closes the connection now; what is unsent is dropped, the peer sees a reset.
    fn abort_connection(&self);

    /// Ends our stream when everything written has been handed to the system; the peer
    /// may go on sending.
    fn lose_write_connection(&self);

    /// Delivers no data until `resume_reading`. The peer is slowed down when the
    /// system's buffers are full.
    fn pause_reading(&self);

    /// Delivers data again, not before it returns.
    fn resume_reading(&self);

    /// Whether writes are accepted: neither lost nor being lost.
    fn is_connected(&self) -> bool;

    /// How many bytes were written and are not yet with the system.
    fn unsent(&self) -> usize;

    /// Whether more than the high mark is unsent, so that who answers requests had better
    /// look at no further one. It may sink again without a word; if it does not,
    /// [`write_paused`](Receiver::write_paused) and in time
    /// [`write_resumed`](Receiver::write_resumed) follow. Never, for a stream without marks.
    fn is_congested(&self) -> bool {
        false
    }

    /// Sets this stream's limits; they hold from now on.
    fn set_limits(&self, limits: Limits);

    /// The peer's address. Known also after the end.
    fn peer(&self) -> Address;

    /// Our own address. Known also after the end.
    fn host(&self) -> Address;

    /// The reactor that drives it.
    fn reactor(&self) -> Reactor;

    /// Whether small writes are sent at once (`TCP_NODELAY`), as they are by default;
    /// nothing, where that means nothing.
    fn set_nodelay(&self, on: bool);

    /// Gives what comes in to `receiver` from now on, in place of the one before.
    fn set_receiver(&self, receiver: Rc<dyn Receiver>);

    /// Ends the connection because a callback of its protocol panicked. Called by the
    /// seat of that protocol.
    fn fail(&self, reason: ConnectionLost);
}

/// Takes what comes out of a stream.
///
/// Called by the stream, never from inside one of the stream's own methods.
/// [`connection_lost`](Receiver::connection_lost) comes last and once.
pub trait Receiver {
    /// Bytes have come.
    fn data_received(self: Rc<Self>, data: &[u8]);

    /// The peer has ended its stream.
    fn read_connection_lost(self: Rc<Self>);

    /// More than the high mark is unsent.
    fn write_paused(self: Rc<Self>);

    /// What is unsent has sunk to the low mark.
    fn write_resumed(self: Rc<Self>);

    /// The end.
    fn connection_lost(self: Rc<Self>, reason: ConnectionLost);
}
