//! The rule book of streams, as checks: for who writes a [`Stream`].
//!
//! A protocol author must never need to know what is below. So whatever carries bytes, a
//! socket, memory, a layer that encrypts, keeps the same rules, which
//! [`Contract::check`] looks at one by one, over fresh pairs of connected streams.
//!
//! ```
//! use torsade_reactor::testing::contract::{Contract, Ends};
//! use torsade_reactor::testing::{memory_pair, virtual_time_reactor};
//!
//! let contract = Contract::new(|| {
//!     let reactor = virtual_time_reactor();
//!     let pair = memory_pair(&reactor);
//!     Ends::new(reactor, pair.client, pair.server)
//! });
//! # let contract = contract.volume(10_000);
//! contract.check();
//! ```

mod probe;
mod protocol_rules;
mod scene;
mod stream_rules;

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use crate::address::Address;
use crate::endpoints::{ClientEndpoint, ServerEndpoint};
use crate::error::ConnectionLost;
use crate::reactor::Reactor;
use crate::stream::Stream;

/// What is written where the amount matters.
const VOLUME: usize = 200_000;

/// Two connected streams to be looked at, and the reactor that drives them.
pub struct Ends {
    pub(super) reactor: Reactor,
    pub(super) client: Rc<dyn Stream>,
    pub(super) server: Rc<dyn Stream>,
    /// Dropped after them.
    pub(super) kept: Box<dyn Any>,
}

impl Ends {
    /// Streams that are connected to each other, and have no receiver yet.
    pub fn new(reactor: Reactor, client: Rc<dyn Stream>, server: Rc<dyn Stream>) -> Self {
        Self {
            reactor,
            client,
            server,
            kept: Box::new(()),
        }
    }

    /// Streams between two endpoints: `to` gives the one that connects to the address on
    /// which the other has come to listen.
    ///
    /// # Panics
    ///
    /// One cannot listen, or the other not connect.
    pub fn between<C: ClientEndpoint>(
        reactor: &Reactor,
        server: &impl ServerEndpoint,
        to: impl FnOnce(Address) -> C,
    ) -> Self {
        let accepted = Rc::new(RefCell::new(None::<Rc<dyn Stream>>));
        let place = Rc::clone(&accepted);
        let acceptor = move |stream| drop(place.replace(Some(stream)));
        let listening = server.listen_streams(reactor, Rc::new(acceptor));
        let port = reactor.run_until(listening).expect("it can listen");
        let connecting = to(port.address()).connect_stream(reactor);
        let client = reactor.run_until(connecting).expect("it connects");
        while accepted.borrow().is_none() {
            reactor.turn(None).expect("the loop can wait");
        }
        // It fires when the port has stopped, and nobody waits for that.
        drop(port.stop_listening());
        let server = accepted.take().expect("it was accepted above");
        Self::new(reactor.clone(), client, server)
    }

    /// Keeps something alive as long as the streams are looked at.
    #[must_use]
    pub fn keep(mut self, kept: impl Any) -> Self {
        self.kept = Box::new((self.kept, kept));
        self
    }
}

impl fmt::Debug for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ends({:?}, {:?})", self.client, self.server)
    }
}

/// The rules, and a way to make pairs of streams that are to keep them.
pub struct Contract {
    make: Box<dyn Fn() -> Ends>,
    volume: usize,
    is_reset: Box<dyn Fn(&ConnectionLost) -> bool>,
    resets: bool,
}

impl Contract {
    /// Looks at what `make` makes: fresh ends each time. They may share a reactor, unless
    /// one of them keeps the others from coming to rest.
    pub fn new(make: impl Fn() -> Ends + 'static) -> Self {
        Self {
            make: Box::new(make),
            volume: VOLUME,
            is_reset: Box::new(|reason| {
                matches!(reason, ConnectionLost::Io(error)
                    if error.kind() == io::ErrorKind::ConnectionReset)
            }),
            resets: true,
        }
    }

    /// How many bytes are written where the amount matters: 200 000, which is more than
    /// small buffers hold. Fewer for a stream that brings them one by one.
    #[must_use]
    pub fn volume(mut self, bytes: usize) -> Self {
        self.volume = bytes;
        self
    }

    /// What the peer of a stream that was aborted is told, if it is not
    /// `Io(ConnectionReset)`. A clean end it must not be.
    #[must_use]
    pub fn reset_is(mut self, is_reset: impl Fn(&ConnectionLost) -> bool + 'static) -> Self {
        self.is_reset = Box::new(is_reset);
        self
    }

    /// The peer of a stream that was aborted may see an end like any other: UNIX sockets
    /// know no reset.
    #[must_use]
    pub fn without_resets(mut self) -> Self {
        self.resets = false;
        self
    }

    /// The rules, by name: each is a sentence about what every stream does.
    pub fn rules() -> impl Iterator<Item = &'static str> {
        every_rule().map(|(name, _)| *name)
    }

    /// Looks at every rule, each over a pair of its own.
    ///
    /// # Panics
    ///
    /// With the rules that are broken, and how.
    #[track_caller]
    pub fn check(&self) {
        let broken: Vec<String> = every_rule().filter_map(|rule| self.broken(rule)).collect();
        assert!(
            broken.is_empty(),
            "{} rules of streams are broken:\n  {}",
            broken.len(),
            broken.join("\n  ")
        );
    }

    /// Looks at one of the [`rules`](Self::rules) alone, for who mends what breaks it.
    ///
    /// # Panics
    ///
    /// If it is broken, and how; and if there is no such rule.
    #[track_caller]
    pub fn check_rule(&self, name: &str) {
        let Some(rule) = every_rule().find(|(rule, _)| *rule == name) else {
            panic!("there is no rule {name:?}");
        };
        if let Some(broken) = self.broken(rule) {
            panic!("{broken}");
        }
    }

    /// How a rule is broken.
    fn broken(&self, (name, rule): &Rule) -> Option<String> {
        // The rule's own state is gone with it.
        let outcome = catch_unwind(AssertUnwindSafe(|| rule(self)));
        let payload = outcome.err()?;
        Some(format!("{name}: {}", text_of(&*payload)))
    }
}

fn every_rule() -> impl Iterator<Item = &'static Rule> {
    stream_rules::RULES.iter().chain(protocol_rules::RULES)
}

impl fmt::Debug for Contract {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contract")
            .field("volume", &self.volume)
            .finish_non_exhaustive()
    }
}

/// A rule by its name: a sentence about what every stream does.
type Rule = (&'static str, fn(&Contract));

/// Names the functions that are rules.
macro_rules! rules {
    ($($name:ident)*) => {
        pub(super) const RULES: &[super::Rule] = &[$((stringify!($name), $name)),*];
    };
}
use rules;

fn text_of(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("it panicked")
}
