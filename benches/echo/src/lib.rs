//! The tables of the echo servers: see `bench-echo`.

pub mod accepts;
pub mod echo;
pub mod idle;
mod servers;
pub mod startup;
