//! What a reactor's world has, and the error of what is asked of it in vain.
//!
//! # Not here
//!
//! What the world is: see `driver/` and `simulation/`.

use std::error::Error;
use std::fmt;
use std::io;

use crate::reactor::Reactor;

/// Something that a [`Reactor`] has in one world and not in another; see
/// [`Reactor::supports`].
///
/// Everything that is in no row here works in every world: calls, timers, channels, hooks,
/// futures, Deferreds.
///
/// | | this machine | simulation | virtual time | asked for in vain |
/// |---|---|---|---|---|
/// | `Network` | yes | yes | no | an error with [`Unsupported`] in it |
/// | `UnixSockets` | yes | no | no | an error with [`Unsupported`] in it |
/// | `UnixDatagrams` | yes | within a host | no | an error with [`Unsupported`] in it |
/// | `Descriptors` | yes | no | no | an error with [`Unsupported`] in it |
/// | `Processes` | yes | no | no | an error with [`Unsupported`] in it |
/// | `Threads` | yes | no | yes | the loop does the work itself |
/// | `Signals` | yes | no | no | watchers are taken, and nothing ever comes |
/// | `Suspension` | on Linux | no | yes | the boot clock is the usual one |
///
/// The last three fail nowhere, so that a program which uses them runs in a simulation as it
/// stands; but for two things that want a thread of their own. In a simulation a
/// [`blocking_call`](crate::Remote::blocking_call) in work that was given to a thread fails, as it
/// would wait for itself; and a [`ThreadPool`](crate::ThreadPool) that is given work directly, not
/// through a reactor, has real threads everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Capability {
    /// TCP and UDP: to listen and to connect; names are looked up.
    Network,
    /// UNIX sockets: to listen, to connect, and pairs.
    UnixSockets,
    /// Datagrams over UNIX sockets.
    UnixDatagrams,
    /// Anything that has a descriptor can be watched and adopted, and a host can wait for
    /// the reactor's own.
    Descriptors,
    /// Child processes can be waited for.
    Processes,
    /// Blocking work is done on threads.
    Threads,
    /// The signals of the process come.
    Signals,
    /// The [`boot_clock`](Reactor::boot_clock) goes on while the machine is suspended.
    Suspension,
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Network => "network",
            Self::UnixSockets => "UNIX sockets",
            Self::UnixDatagrams => "datagrams over UNIX sockets",
            Self::Descriptors => "descriptors",
            Self::Processes => "processes",
            Self::Threads => "threads",
            Self::Signals => "signals",
            Self::Suspension => "suspension",
        })
    }
}

/// Which world a driver is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WorldKind {
    System,
    Simulation,
    VirtualTime,
}

impl WorldKind {
    fn has(self, capability: Capability) -> bool {
        match (self, capability) {
            (Self::System, Capability::Suspension) => {
                cfg!(any(target_os = "linux", target_os = "android"))
            }
            (Self::System, _)
            | (Self::Simulation, Capability::Network | Capability::UnixDatagrams)
            | (Self::VirtualTime, Capability::Threads | Capability::Suspension) => true,
            (Self::Simulation | Self::VirtualTime, _) => false,
        }
    }

    /// The error of what this world does not have.
    pub(crate) fn lacks(self, capability: Capability) -> Unsupported {
        debug_assert!(!self.has(capability), "it has it: {capability}");
        Unsupported {
            capability,
            world: self,
        }
    }
}

impl fmt::Display for WorldKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::System => "on this system",
            Self::Simulation => "in a simulation",
            Self::VirtualTime => "in virtual time",
        })
    }
}

/// A reactor was asked for what its world does not have.
///
/// Inside an [`io::Error`] its kind is [`io::ErrorKind::Unsupported`]; wherever that is,
/// [`Unsupported::find`] finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no such thing as {capability} {world}")]
pub struct Unsupported {
    capability: Capability,
    world: WorldKind,
}

impl Unsupported {
    /// What was asked for.
    #[must_use]
    pub fn capability(&self) -> Capability {
        self.capability
    }

    /// The one that is behind an error of whatever type: a
    /// [`ListenError`](crate::ListenError), a [`ConnectError`](crate::ConnectError), an
    /// [`io::Error`].
    #[must_use]
    pub fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(unsupported) = error.downcast_ref() {
                return Some(unsupported);
            }
            next = match error
                .downcast_ref::<io::Error>()
                .and_then(io::Error::get_ref)
            {
                // An `io::Error` names as its source that of what is in it.
                Some(wrapped) => Some(wrapped),
                None => error.source(),
            };
        }
        None
    }
}

impl From<Unsupported> for io::Error {
    fn from(unsupported: Unsupported) -> Self {
        Self::new(io::ErrorKind::Unsupported, unsupported)
    }
}

impl Reactor {
    /// Whether this reactor's world has something: for libraries that can do without, and
    /// for tests. [`Capability`] has the table. Twisted's `IReactorUNIX.providedBy(reactor)`.
    ///
    /// # Examples
    ///
    /// ```
    /// use torsade_reactor::{Capability, Reactor, testing::virtual_time_reactor};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// assert!(Reactor::new()?.supports(Capability::UnixSockets));
    /// assert!(!virtual_time_reactor().supports(Capability::UnixSockets));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn supports(&self, capability: Capability) -> bool {
        self.core().driver().world().has(capability)
    }

    /// The same with an error, for those that cannot do without:
    /// `reactor.require(Capability::Descriptors)?`.
    ///
    /// # Errors
    ///
    /// [`Unsupported`].
    pub fn require(&self, capability: Capability) -> Result<(), Unsupported> {
        let world = self.core().driver().world();
        if world.has(capability) {
            Ok(())
        } else {
            Err(world.lacks(capability))
        }
    }
}
