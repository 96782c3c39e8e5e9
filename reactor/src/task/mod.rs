//! Work that waits, repeats or takes turns, on any [`Clock`](torsade_deferred::Clock).
//!
//! | what | when |
//! | --- | --- |
//! | [`sleep`], [`defer_later`] | a result after a while |
//! | [`LoopingCall`], [`TimerService`] | a call every so often |
//! | [`Cooperator`] | long work in small steps, several at once |
//! | [`react`] | a whole program: a loop, one `main`, an exit code |
//!
//! # Not here
//!
//! No socket and no time of day. Everything is built from what a user has as well: a
//! clock and Deferreds.

mod cooperative_task;
mod cooperator;
mod grid;
mod looping_call;
mod react;
mod rota;
mod sleep;
mod timekeeper;
mod timer_service;

pub use self::cooperative_task::{CooperativeTask, TaskError};
pub use self::cooperator::Cooperator;
pub use self::grid::MissedTicks;
pub use self::looping_call::{AlreadyRunning, LoopingCall};
pub use self::react::{react, react_with};
pub use self::sleep::{defer_later, sleep};
pub use self::timer_service::TimerService;
