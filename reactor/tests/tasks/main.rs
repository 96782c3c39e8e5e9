//! What repeats, waits and takes turns, statement by statement.
//!
//! The catalogue numbers what users of Twisted rely on; the number of a statement
//! stands in the doc line of its test, and `catalogue.rs` sees to it that none is
//! missing.

mod catalogue;
mod cooperator;
mod defer_later;
mod delayed_call;
mod looping_call;
mod manual_clock;
mod react;
mod support;
mod timer_service;
