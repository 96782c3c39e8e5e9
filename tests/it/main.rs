//! Promises that cross crates: one module a promise.

#![allow(unreachable_pub, reason = "nobody reaches into a test")]
#![allow(
    missing_debug_implementations,
    reason = "nobody prints a test's own types"
)]

mod embedding;
mod examples;
mod haproxy;
mod http;
mod interrupted;
mod lines;
mod programs;
mod simulated;
mod syscalls;
mod tls;
mod tour;
mod unix_datagrams;
mod websocket;
