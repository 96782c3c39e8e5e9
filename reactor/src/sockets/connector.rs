//! Connecting to one address: from a socket that tries to a connection.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use torsade_deferred::{Deferred, Interrupted, Trigger, fail};

use crate::address::Address;
use crate::connect_error::ConnectError;
use crate::core::{Core, Source};
use crate::driver::{AnySocket, Change};
use crate::error::ConnectionLost;
use crate::slab::Token;
use crate::sockets::{ConnectOptions, Connection};
use crate::stream::Stream;

/// The references to a connection that nobody else holds: the reactor's and the attempt's.
const KEPT_BY_THE_REACTOR: usize = 2;

/// Connects to one address. For how long it may try is its caller's to say.
pub(crate) fn connect(
    core: &Rc<Core>,
    peer: &Address,
    options: &ConnectOptions,
) -> Deferred<Rc<dyn Stream>, ConnectError> {
    let local = options.local_address;
    let socket = match core.driver().connect(peer, options) {
        Ok(socket) => socket,
        Err(error) => return fail(ConnectError::of_system(peer.to_string(), error, local)),
    };
    let (trigger, deferred) = Deferred::new();
    let attempt = core.add_source(|token| {
        Rc::new(Attempt {
            core: Rc::clone(core),
            token,
            peer: peer.clone(),
            local,
            begun: core.now(),
            socket: RefCell::new(Some(socket)),
            trigger: Cell::new(None),
        })
    });
    let weak = Rc::downgrade(&attempt);
    trigger.on_cancel(move || {
        if let Some(attempt) = weak.upgrade() {
            attempt.give_up();
        }
    });
    attempt.trigger.set(Some(trigger));
    let watched = attempt
        .socket
        .borrow()
        .as_ref()
        .map(|socket| socket.watch(attempt.token));
    if let Some(Err(error)) = watched {
        attempt.failed(error);
    }
    deferred
}

struct Attempt {
    core: Rc<Core>,
    token: Token,
    peer: Address,
    local: Option<SocketAddr>,
    begun: Instant,
    // These are `None` when the attempt is over.
    socket: RefCell<Option<AnySocket>>,
    trigger: Cell<Option<Trigger<Rc<dyn Stream>, ConnectError>>>,
}

impl Attempt {
    /// Ends the attempt; its trigger is the caller's to fire, or to drop.
    fn give_up(&self) -> Option<Trigger<Rc<dyn Stream>, ConnectError>> {
        if self.socket.take().is_some() {
            self.core.remove_source(self.token);
        }
        self.trigger.take()
    }

    fn failed(&self, error: io::Error) {
        let Some(trigger) = self.give_up() else {
            return;
        };
        let address = self.peer.to_string();
        trigger.errback(match error.kind() {
            // The system's own patience is at its end before ours.
            io::ErrorKind::TimedOut => ConnectError::TimedOut {
                address,
                limit: self.core.now().saturating_duration_since(self.begun),
                others: Vec::new(),
            },
            _ => ConnectError::of_system(address, error, self.local),
        });
    }

    fn connected(&self, socket: AnySocket, change: Change) {
        let Some(trigger) = self.trigger.take() else {
            return self.core.remove_source(self.token);
        };
        let peer = self.peer.clone();
        let connection = Connection::connected(Rc::clone(&self.core), self.token, socket, peer);
        self.core
            .replace_source(self.token, Rc::clone(&connection) as Rc<dyn Source>);
        trigger.callback(Rc::clone(&connection) as Rc<dyn Stream>);
        if Rc::strong_count(&connection) == KEPT_BY_THE_REACTOR {
            // Nobody took it: the Deferred was dropped, or its chain has failed.
            connection.lose_connection(ConnectionLost::Done);
        } else {
            connection.let_go();
        }
        self.core.settle();
        connection.ready(change);
    }
}

impl Source for Attempt {
    fn ready(self: Rc<Self>, change: Change) {
        let outcome = self
            .socket
            .borrow()
            .as_ref()
            .map(|socket| socket.take_error());
        match outcome {
            Some(Ok(())) => {
                if let Some(socket) = self.socket.take() {
                    self.connected(socket, change);
                }
            }
            Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
            Some(Err(error)) => self.failed(error),
            None => {}
        }
    }

    fn again(self: Rc<Self>) {}

    fn settle(self: Rc<Self>) {}

    fn stop(self: Rc<Self>) {
        if let Some(trigger) = self.give_up() {
            trigger.errback(Interrupted::Cancelled);
        }
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "attempt to connect to {}", self.peer)
    }
}
