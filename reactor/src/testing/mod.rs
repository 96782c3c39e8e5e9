//! What tests of protocols and programs need: time that passes at once, streams in memory,
//! peers that play a script, and whole networks that are simulated.

mod captured;
pub mod contract;
mod every_chunking;
mod leftovers;
mod manual_clock;
mod memory_datagrams;
mod memory_pair;
mod memory_stream;
mod results;
mod script;
mod wire;

use std::io;
use std::rc::Rc;
use std::time::Duration;

use crate::driver::os::OsDriver;
use crate::driver::virtual_time::VirtualTime;
use crate::reactor::Reactor;

pub use self::captured::{CapturedEvent, CapturedEvents, capture_events};
pub use self::every_chunking::for_every_chunking;
pub use self::leftovers::{LeavesNothingBehind, leaves_nothing_behind};
pub use self::manual_clock::{ManualCall, ManualClock, PendingCall};
pub use self::memory_datagrams::MemoryDatagrams;
pub use self::memory_pair::{MemoryPair, Pump, memory_pair, memory_pair_between};
pub use self::memory_stream::MemoryStream;
pub use self::results::{failure_of, no_result, success_of};
pub use self::script::{Script, ScriptError, ScriptedPeer};
pub use self::wire::Chunks;
pub use crate::simulation::{
    Chunking, Fault, FaultKind, FaultRates, Happening, Host, Latency, Link, Simulation, Swarm,
    Trace,
};

/// A reactor whose time is virtual: a wait takes no time and moves the clock to the
/// next deadline, so that an hour of delays runs in a moment, the same way each time.
///
/// Time does not pass while a thread of a pool works for
/// [`defer_to_thread`](Reactor::defer_to_thread), or looks up a name: its answer comes at the
/// time at which it was asked for. (So work that waits for virtual time to pass waits for
/// ever.) A thread that only posts through a [`Remote`](crate::Remote) is not known of.
///
/// It has no network. When nothing is scheduled any more, `run` fails instead of waiting
/// for ever.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let reactor = torsade_reactor::testing::virtual_time_reactor();
/// let begin = reactor.now();
/// let handle = reactor.clone();
/// reactor.call_later(Duration::from_secs(3600), move || handle.stop());
/// reactor.run()?;
/// assert_eq!(reactor.now() - begin, Duration::from_secs(3600));
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn virtual_time_reactor() -> Reactor {
    Reactor::over(Rc::new(VirtualTime::new()))
}

/// A reactor of this machine's that waits the way every system knows, instead of the
/// fastest way of this one. For tests that both keep the same promises.
///
/// # Errors
///
/// The system has no descriptor left.
pub fn portable_reactor() -> io::Result<Reactor> {
    Ok(Reactor::over(Rc::new(OsDriver::portable()?)))
}

/// Suspends the machine of a [`virtual_time_reactor`] for `time`: its
/// [`boot_clock`](Reactor::boot_clock) goes on, its own clock stands still.
///
/// # Panics
///
/// For a reactor on the system's clock.
pub fn suspend(reactor: &Reactor, time: Duration) {
    reactor.core().driver().suspend(time);
}

/// Moves the clock of a [`virtual_time_reactor`], as a callback that computes for so long
/// would. A call that is due by then runs in the next turn.
///
/// # Panics
///
/// For a reactor on the system's clock, which cannot be moved.
pub fn pass_time(reactor: &Reactor, time: Duration) {
    reactor.core().driver().pass_time(time);
}
