//! Taking turns without threads: a lock, a semaphore, a queue, an event, a group.
//!
//! # Order
//!
//! First come, first served; what is handed over goes to the next in the line and
//! to no newcomer. Whoever is served inside a running chain goes on when that
//! chain has come to its end, so a line of any length is served by a loop.
//!
//! # Cancellation
//!
//! Cancelling a Deferred that waits leaves the line. One that has what it
//! waited for keeps it.

mod event;
mod group;
mod lock;
mod queue;

pub use self::event::DeferredEvent;
pub use self::group::TaskGroup;
pub use self::lock::{DeferredLock, DeferredSemaphore, Permit};
pub use self::queue::{DeferredQueue, QueueOverflow, QueueUnderflow};
