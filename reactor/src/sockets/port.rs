//! A listening port: accepting, within bounds, and surviving every error.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use torsade_deferred::{Deferred, succeed};

use crate::address::{Address, Host, ToTcpAddress};
use crate::core::{Core, Source};
use crate::delayed_call::DelayedCall;
use crate::driver::{AnySocket, Change, ListeningSocket};
use crate::error::{ConnectionLost, ListenError};
use crate::panics;
use crate::protocol::Acceptor;
use crate::slab::Token;
use crate::sockets::{Connection, ListenOptions};
use crate::stream::Stream;

/// Connections accepted by one port in one turn, so that a flood of them starves
/// nobody.
const ACCEPTS_PER_TURN: usize = 64;

/// How long a port rests when the system has no descriptor or memory left for another
/// connection, the first time and at most: each time is twice the last. The peers wait in
/// the backlog. A descriptor that this reactor gives back ends the rest at once.
const REST_FIRST: Duration = Duration::from_millis(100);
const REST_MAX: Duration = Duration::from_secs(2);

/// A port that listens. Cheap to clone; dropping it does not stop it.
#[derive(Clone)]
pub struct Port {
    listening: Rc<dyn Listening>,
}

impl Port {
    /// The address that it listens on, with the real port where 0 was asked for.
    #[must_use]
    pub fn address(&self) -> Address {
        self.listening.address()
    }

    /// Stops listening: the address is free when this returns. Connections that were
    /// accepted go on. To stop twice is to stop.
    ///
    /// The Deferred has fired already; it is one because not every kind of port can stop
    /// at once.
    pub fn stop_listening(&self) -> Deferred<()> {
        Rc::clone(&self.listening).stop_listening();
        succeed(())
    }

    /// Whether it listens.
    #[must_use]
    pub fn is_listening(&self) -> bool {
        self.listening.is_listening()
    }

    /// Whether [`Reactor::run_until_idle`](crate::Reactor::run_until_idle) goes on for this port: not, if it is in the
    /// background. To say so twice is to say it once. libuv's `unref`.
    pub fn set_background(&self, on: bool) {
        self.listening.background().set(on);
    }

    /// Whether it is in the background.
    #[must_use]
    pub fn is_background(&self) -> bool {
        self.listening.background().get()
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.is_listening() {
            "listening on"
        } else {
            "stopped, was on"
        };
        write!(f, "Port({state} {})", self.address())
    }
}

/// Listens on a TCP address; looks a name up now.
pub(crate) fn listen_tcp(
    core: &Rc<Core>,
    address: &impl ToTcpAddress,
    options: &ListenOptions,
    acceptor: Rc<dyn Acceptor>,
) -> Result<Port, ListenError> {
    let address = address.to_tcp_address()?;
    let shown = address.to_string();
    let candidates = match &address.host {
        Host::Literal(literal) => vec![*literal],
        Host::Name(name) => {
            core.driver()
                .names()
                .resolve(name, address.port)
                .map_err(|source| ListenError::UnknownHost {
                    address: shown.clone(),
                    source,
                })?
        }
    };
    let mut outcome = Err(io::ErrorKind::NotFound.into());
    for candidate in candidates {
        outcome = core.driver().listen(&candidate.into(), options);
        if outcome.is_ok() {
            break;
        }
    }
    let socket = outcome.map_err(|error| listen_error(shown.clone(), error))?;
    accept_on(core, socket, acceptor).map_err(|error| listen_error(shown, error))
}

/// Listens on an address that needs no lookup.
pub(crate) fn listen_on(
    core: &Rc<Core>,
    address: &Address,
    options: &ListenOptions,
    acceptor: Rc<dyn Acceptor>,
) -> Result<Port, ListenError> {
    core.driver()
        .listen(address, options)
        .and_then(|socket| accept_on(core, socket, acceptor))
        .map_err(|error| listen_error(address.to_string(), error))
}

/// Accepts on a socket that listens.
pub(crate) fn accept_on(
    core: &Rc<Core>,
    socket: Box<dyn ListeningSocket>,
    acceptor: Rc<dyn Acceptor>,
) -> io::Result<Port> {
    acceptor.start_listening();
    let address = Rc::new(socket.address());
    let listening = core.add_source(|token| {
        Rc::new(Accepting {
            core: Rc::clone(core),
            token,
            address,
            socket: RefCell::new(Some(socket)),
            acceptor: RefCell::new(Some(acceptor)),
            rest: RefCell::new(None),
            rests: Cell::new(0),
            queued: Cell::new(false),
            background: Cell::new(false),
        })
    });
    let watched = listening
        .socket
        .borrow()
        .as_ref()
        .map(|socket| socket.watch(listening.token));
    if let Some(Err(error)) = watched {
        Rc::clone(&listening).stop_listening();
        return Err(error);
    }
    Ok(Port { listening })
}

trait Listening {
    fn background(&self) -> &Cell<bool>;
    fn address(&self) -> Address;
    fn is_listening(&self) -> bool;
    fn stop_listening(self: Rc<Self>);
}

struct Accepting {
    core: Rc<Core>,
    token: Token,
    address: Rc<Address>,
    /// `None` when it has stopped.
    socket: RefCell<Option<Box<dyn ListeningSocket>>>,
    /// `None` when it has stopped.
    acceptor: RefCell<Option<Rc<dyn Acceptor>>>,
    /// There while the system is out of something: what ends the rest.
    rest: RefCell<Option<DelayedCall>>,
    /// The rests since everybody in the backlog was last accepted.
    rests: Cell<u32>,
    /// It has asked to be called in the next turn.
    queued: Cell<bool>,
    /// The loop may come to its end though this listens.
    background: Cell<bool>,
}

impl Accepting {
    fn accept(self: &Rc<Self>) {
        if self.rest.borrow().is_some() {
            return;
        }
        for _ in 0..ACCEPTS_PER_TURN {
            let accepted = match self.socket.borrow().as_ref() {
                Some(socket) => socket.accept(),
                None => return,
            };
            match accepted {
                Ok((socket, peer)) => self.welcome(socket, peer),
                Err(error) => match verdict(&error) {
                    Verdict::NoMore => return self.rests.set(0),
                    Verdict::Next => {}
                    Verdict::Rest => return self.rest(&error),
                },
            }
        }
        self.queue();
    }

    /// Has itself called in the next turn, once.
    fn queue(&self) {
        if !self.queued.replace(true) {
            self.core.ready_again(self.token);
        }
    }

    fn welcome(&self, socket: AnySocket, peer: Address) {
        /// The reactor's and the one in here.
        const OURS: usize = 2;
        // Detach, then call: it may stop this port.
        let Some(acceptor) = self.acceptor.borrow().clone() else {
            return;
        };
        // Who came to a port on one address came to that address.
        let many = self.address.ip().is_some_and(|ip| ip.is_unspecified());
        let host = (!many).then(|| Rc::clone(&self.address));
        let connection = self.core.add_source(|token| {
            Connection::accepted(Rc::clone(&self.core), token, socket, peer, host)
        });
        connection.begin();
        let stream = Rc::clone(&connection) as Rc<dyn Stream>;
        if let Err(panicked) = panics::catch_with(|| self.core.origin(), || acceptor.accept(stream))
        {
            connection.abort_connection(ConnectionLost::panicked(&panicked));
        } else if !connection.is_seated() && connection.is_connected() {
            if Rc::strong_count(&connection) == OURS {
                // Nobody has it, so nobody will ever read it or close it.
                connection.abort_connection(ConnectionLost::Aborted);
            } else {
                connection.let_go();
            }
        }
        self.core.settle();
    }

    /// The system is out of something: it is not asked again for a while.
    fn rest(self: &Rc<Self>, error: &io::Error) {
        let rests = self.rests.get();
        self.rests.set(rests.saturating_add(1));
        if rests == 0 {
            // Once, however often it rests before the backlog is empty again.
            tracing::warn!(target: "torsade", address = %self.address, %error, "accepting rests");
        }
        let this = Rc::downgrade(self);
        let pause = REST_FIRST.saturating_mul(1 << rests.min(8)).min(REST_MAX);
        let call = self.core.call_later(pause, move || {
            if let Some(accepting) = this.upgrade() {
                accepting.rest.take();
                accepting.queue();
            }
        });
        self.rest.replace(Some(call));
        self.core.ready_with_a_descriptor(self.token);
    }

    fn end_rest(&self) {
        if let Some(call) = self.rest.take() {
            call.cancel();
        }
    }
}

impl Listening for Accepting {
    fn background(&self) -> &Cell<bool> {
        &self.background
    }

    fn address(&self) -> Address {
        Address::clone(&self.address)
    }

    fn is_listening(&self) -> bool {
        self.socket.borrow().is_some()
    }

    fn stop_listening(self: Rc<Self>) {
        let socket = self.socket.take();
        if socket.is_none() {
            return;
        }
        self.end_rest();
        self.core.remove_source(self.token);
        drop(socket);
        // Detach, then call.
        let acceptor = self.acceptor.take();
        // A panic has been reported, and the acceptor is dropped either way.
        let _ = panics::catch(|| {
            if let Some(acceptor) = acceptor {
                acceptor.stop_listening();
            }
        });
    }
}

impl Source for Accepting {
    fn ready(self: Rc<Self>, _change: Change) {
        self.accept();
    }

    fn again(self: Rc<Self>) {
        self.queued.set(false);
        self.end_rest();
        self.accept();
    }

    fn settle(self: Rc<Self>) {}

    fn stop(self: Rc<Self>) {
        self.stop_listening();
    }

    fn is_background(&self) -> bool {
        self.background.get()
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "port listening on {}", self.address)
    }
}

enum Verdict {
    /// The backlog is empty.
    NoMore,
    /// Something was wrong with that one peer.
    Next,
    /// Something is wrong with this machine, and may be so for a while.
    Rest,
}

fn verdict(error: &io::Error) -> Verdict {
    use rustix::io::Errno;
    let Some(errno) = Errno::from_io_error(error) else {
        return if error.kind() == io::ErrorKind::WouldBlock {
            Verdict::NoMore
        } else {
            Verdict::Rest
        };
    };
    match errno {
        Errno::WOULDBLOCK => Verdict::NoMore,
        // accept(2): errors of the network that are already pending on the new socket, and
        // a firewall's refusal.
        Errno::CONNABORTED
        | Errno::CONNRESET
        | Errno::HOSTDOWN
        | Errno::HOSTUNREACH
        | Errno::INTR
        | Errno::NETDOWN
        | Errno::NETUNREACH
        | Errno::NONET
        | Errno::NOPROTOOPT
        | Errno::OPNOTSUPP
        | Errno::PERM
        | Errno::PROTO
        | Errno::TIMEDOUT => Verdict::Next,
        // Out of something, or broken: to ask again at once would be to ask for ever.
        _ => Verdict::Rest,
    }
}

pub(crate) fn listen_error(address: String, source: io::Error) -> ListenError {
    match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::InUse { address },
        io::ErrorKind::PermissionDenied => ListenError::NotPermitted { address },
        _ => ListenError::Io { address, source },
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn an_error_that_lasts_makes_a_port_rest_and_a_peers_own_does_not() {
        for errno in [Errno::INVAL, Errno::BADF, Errno::MFILE, Errno::ACCESS] {
            assert!(matches!(verdict(&errno.into()), Verdict::Rest), "{errno}");
        }
        for errno in [Errno::CONNABORTED, Errno::PROTO, Errno::PERM, Errno::INTR] {
            assert!(matches!(verdict(&errno.into()), Verdict::Next), "{errno}");
        }
        assert!(matches!(
            verdict(&Errno::WOULDBLOCK.into()),
            Verdict::NoMore
        ));
    }
}
