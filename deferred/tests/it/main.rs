//! What a Deferred does, statement by statement.
//!
//! The catalogue numbers what users of Twisted rely on; the number of a statement
//! stands in the doc line of its test, and `catalogue.rs` sees to it that none is
//! missing.

mod cancelling;
mod catalogue;
mod chaining;
mod combining;
mod depth;
mod explicit;
mod firing;
mod movable_timeouts;
mod pausing;
mod promises;
mod support;
mod tasks;
mod timeouts;
mod turns;
mod unhandled;
mod wakes;
