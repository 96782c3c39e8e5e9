//! Torsade: a callback/Deferred event-loop framework in Twisted's style.
#![doc = ""]

pub use torsade_deferred as deferred;
#[cfg(feature = "lines")]
pub use torsade_protocols as protocols;
pub use torsade_reactor as reactor;

/// Everything that a program with callbacks needs, in one `use`.
pub mod prelude {
    pub use torsade_deferred::{
        Canceller, Deferred, Failure, Interrupted, IntoDeferred, Trigger, fail, maybe_deferred, succeed,
    };
    #[cfg(feature = "lines")]
    pub use torsade_protocols::lines::{Delimiter, LineReceiver, LineTooLong, LineTransport, Lines};
    pub use torsade_reactor::{
        Address, ConnectError, ConnectionLost, DelayedCall, Factory, Limits, ListenError, Port, Protocol, Reactor,
        Remote, RunError, Transport,
    };
}
