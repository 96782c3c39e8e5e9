//! What is left of a connection that closed while its last bytes were on the way.
//!
//! The protocol has been told that it is over. But a system that closes a socket
//! for good answers whatever the peer still sends with a reset, and forgets what the
//! peer has not acknowledged. So the socket stays: our stream is ended, what comes is
//! read and thrown away, until the peer ends its own or the limit has passed.
//!
//! A reactor that stops waits for nobody. What has come by then is read and thrown away, so
//! that the close is no reset; what the peer sends after that is answered with one.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::net::Shutdown;
use std::rc::Rc;
use std::time::Duration;

use crate::core::{Core, Source};
use crate::delayed_call::DelayedCall;
use crate::driver::{AnySocket, Change, StreamSocket};
use crate::slab::Token;

/// Reads of one lingering socket in one turn.
const READS_PER_TURN: usize = 4;

/// Reads of one socket when the reactor stops: 1 MiB.
const READS_AT_A_STOP: usize = 16;

struct Lingering {
    core: Rc<Core>,
    token: Token,
    // `None` when it is over.
    socket: RefCell<Option<AnySocket>>,
    limit: Cell<Option<DelayedCall>>,
}

/// Keeps a socket that is to be closed until its peer has everything, at most `limit`.
/// It takes the place of its connection under `token`.
pub(super) fn until_delivered(core: &Rc<Core>, token: Token, socket: AnySocket, limit: Duration) {
    if limit.is_zero() || socket.shutdown(Shutdown::Write).is_err() {
        // A socket that cannot be shut down is not connected any more.
        return core.remove_source(token);
    }
    socket.refuse_descriptors();
    let lingering = Rc::new(Lingering {
        core: Rc::clone(core),
        token,
        socket: RefCell::new(Some(socket)),
        limit: Cell::new(None),
    });
    let weak = Rc::downgrade(&lingering);
    core.replace_source(token, Rc::clone(&lingering) as Rc<dyn Source>);
    let call = core.call_later(limit, move || {
        if let Some(lingering) = weak.upgrade() {
            lingering.end();
        }
    });
    lingering.limit.set(Some(call));
    // What has come already will not be reported again.
    core.ready_again(token);
}

/// Throws away what has come, before a socket is closed at once.
pub(super) fn discard_unread(core: &Core, socket: &dyn StreamSocket) {
    socket.refuse_descriptors();
    let mut buffer = core.buffers.take_for_reading();
    for _ in 0..READS_AT_A_STOP {
        match socket.read(&mut buffer) {
            Ok(1..) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => break,
        }
    }
    core.buffers.return_from_reading(buffer);
}

impl Lingering {
    fn end(&self) {
        self.core.remove_source(self.token);
        drop(self.socket.take());
        if let Some(limit) = self.limit.take() {
            limit.cancel();
        }
    }

    fn drain(&self) {
        let mut buffer = self.core.buffers.take_for_reading();
        let mut outcome = Ok(0);
        for _ in 0..READS_PER_TURN {
            outcome = match self.socket.borrow().as_ref() {
                Some(socket) => socket.read(&mut buffer),
                None => Ok(0),
            };
            if !matches!(outcome, Ok(1..)) {
                break;
            }
        }
        self.core.buffers.return_from_reading(buffer);
        match outcome {
            Ok(1..) => self.core.ready_again(self.token),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.core.ready_again(self.token)
            }
            Ok(0) | Err(_) => self.end(),
        }
    }
}

impl Source for Lingering {
    fn ready(self: Rc<Self>, _change: Change) {
        self.drain();
    }

    fn again(self: Rc<Self>) {
        self.drain();
    }

    fn settle(self: Rc<Self>) {}

    fn stop(self: Rc<Self>) {
        if let Some(socket) = self.socket.borrow().as_ref() {
            discard_unread(&self.core, &**socket);
        }
        self.end();
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("closed connection whose last bytes are on the way")
    }
}
