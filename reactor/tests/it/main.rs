//! What callers of the reactor rely on, one module per promise.

mod common;
mod ordering;
mod portable;
mod reentrancy;
mod remote;
mod running;
mod transport;
