//! Promises that cross crates: one module a promise.

#![expect(clippy::print_stderr, reason = "what is skipped is said loudly")]

mod examples;
mod lines;
