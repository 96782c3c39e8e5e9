//! What callers of the reactor rely on, one module per promise.

mod boot_clock;
mod channel;
mod common;
mod descriptors;
mod embedding;
mod embedding_contract;
mod endings;
mod endpoints;
mod fairness;
mod futures;
mod hooks;
mod inspection;
mod layers;
mod memory;
mod options;
mod ordering;
mod portable;
mod reentrancy;
mod remote;
mod running;
mod signals;
mod simulation;
mod threads;
mod traced;
mod transport;
mod weak;
