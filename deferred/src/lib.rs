//! Deferred: a result that arrives later, and the chain of callbacks that waits
//! for it. Twisted's idea, with Rust's ownership.
//!
//! # The model
//!
//! ```text
//!   Trigger                                             Deferred
//!   fires, once      the chain                          waits
//!  ┌─────────┐   ┌────────────┐   ┌────────────┐   ┌────────────────┐
//!  │ callback├──▶│  callback  ├──▶│  callback  ├──▶│ result so far  │
//!  └─────────┘   └─────┬──────┘   └─────▲──────┘   └────────────────┘
//!                  Err │                │ Ok
//!  ┌─────────┐   ┌─────▼──────┐   ┌─────┴──────┐
//!  │ errback ├──▶│  (passed)  ├──▶│  errback   │
//!  └─────────┘   └────────────┘   └────────────┘
//! ```
//!
//! [`Deferred::new`] makes the two ends. Whoever does the work keeps the
//! [`Trigger`]; whoever wants the result gets the [`Deferred`], and adds to it
//! what is to happen: callbacks for a value, errbacks for a failure.
//!
//! - **Firing runs the chain**, from the trigger outwards, before
//!   [`Trigger::callback`] returns. A callback added after that runs at once.
//! - **A callback returns** nothing, a `Result`, or another Deferred. `Err` goes to
//!   the next errback; what an errback returns goes to the next callback.
//! - **Returning a Deferred waits for it**: the rest of the chain goes on with its
//!   result.
//! - **Cancelling travels up** to the innermost Deferred that is being waited for,
//!   and the failure travels down from there.
//! - **A failure that nobody handles** is reported when its Deferred is dropped.
//! - **Any depth** costs constant stack: firing, cancelling and dropping are loops. (The one
//!   exception: a cancellation that is [passed on](Trigger::forward_cancel), as by gatherings
//!   and hard timeouts around one another, is a call inside a call.)
//!
//! ```
//! use torsade_deferred::Deferred;
//!
//! let (inner_trigger, inner) = Deferred::<u32>::new();
//! let (trigger, deferred) = Deferred::<String>::new();
//! let sum = deferred
//!     .add_callback(|text| Ok(text.trim().parse::<u32>()?)) // a Result
//!     .add_callback(move |n| inner.map(move |m| n + m)); // a Deferred: wait for it
//!
//! trigger.callback("41\n".into());
//! assert!(!sum.is_fired()); // it waits for `inner`
//! inner_trigger.callback(1);
//! assert!(matches!(sum.into_result(), Ok(Ok(42))));
//! ```
//!
//! # Written as one goes on
//!
//! An `async` block becomes a Deferred that starts at once, and goes on inside the call
//! that fires what it awaits:
//!
//! ```
//! use torsade_deferred::{Deferred, Failure, gather_results};
//!
//! let (trigger, text) = Deferred::<&str>::new();
//! let length = Deferred::<usize>::from_future(async move {
//!     let text = text.await?;
//!     Ok(text.len())
//! });
//! let both = gather_results([length, Deferred::from_future(async { Ok(1) })]);
//! trigger.callback("four");
//! assert!(matches!(both.into_result(), Ok(Ok(lengths)) if lengths == [4, 1]));
//! ```
//!
//! # Where to go from here
//!
//! | for | there is |
//! | --- | --- |
//! | a bound on the time | [`Deferred::add_timeout`], [`Deferred::add_hard_timeout`], and a [`Timeout`] that moves |
//! | several at once | [`gather_results`], [`deferred_list`], [`race`], [`any`], [`gather_tuple`], [`TaskGroup`] |
//! | several consumers | [`Deferred::share`] |
//! | taking turns | [`DeferredLock`], [`DeferredSemaphore`], [`DeferredQueue`], [`DeferredEvent`] |
//! | stopping a chain for a while | [`Deferred::pause`] |
//! | cancelling what was given away | [`Deferred::canceller`] |
//! | tests that fail on lost failures | [`unhandled::set_hook`] |
//!
//! # Not here
//!
//! No I/O, no clock, no thread: whoever has those fires the triggers, and implements
//! [`Clock`]. Everything is `!Send`, save the wakers of tasks; a result crosses threads by
//! way of a reactor.

#![forbid(unsafe_code)]

mod chain;
mod clock;
mod combine;
mod deferred;
mod error;
mod failure;
#[cfg(doctest)]
mod forbidden;
mod future;
mod line;
mod links;
mod movable_timeout;
mod pause;
mod share;
mod sync;
mod task;
mod timeout;
mod trigger;
pub mod unhandled;

pub use crate::clock::{Clock, Scheduled};
pub use crate::combine::{
    FailureGroup, FireOn, FirstError, Gather, ListResult, any, deferred_list, gather_results,
    gather_results_or_cancel, gather_tuple, race,
};
pub use crate::deferred::{Canceller, Deferred, IntoDeferred, fail, maybe_deferred, succeed};
pub use crate::error::{ChainError, Interrupted};
pub use crate::failure::Failure;
pub use crate::future::CancelOnDrop;
pub use crate::movable_timeout::Timeout;
pub use crate::pause::Paused;
pub use crate::share::Shared;
pub use crate::sync::{
    DeferredEvent, DeferredLock, DeferredQueue, DeferredSemaphore, Permit, QueueOverflow,
    QueueUnderflow, TaskGroup,
};
pub use crate::task::{Resume, WakeHome};
pub use crate::trigger::Trigger;
