//! The OS boundary: every system call that no safe library gives, and every
//! `unsafe` of this crate.
//!
//! What is here, and nothing else:
//!
//! | file | gives |
//! | --- | --- |
//! | `poller.rs` | waiting for descriptors: epoll through `polling`'s descriptor, or `polling`'s own portable wait |
//! | `wake.rs` | a descriptor that wakes the loop from any thread |
//! | `signals.rs` | signals as flags and a write to that descriptor |
//! | `device.rs` | binding a socket to a network interface |
//! | `queue.rs` | what a TCP socket has sent and the peer not acknowledged |

#![allow(unsafe_code, reason = "the OS boundary")]

pub(crate) mod device;
pub(crate) mod poller;
pub(crate) mod queue;
pub(crate) mod signals;
pub(crate) mod wake;
