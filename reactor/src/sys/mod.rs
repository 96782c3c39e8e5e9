//! The OS boundary: every system call that no safe library gives, and every
//! `unsafe` of this crate.
//!
//! What is here, and nothing else:
//!
//! | file | gives |
//! | --- | --- |
//! | `poller.rs` | waiting for descriptors: epoll through `polling`'s descriptor, or `polling`'s own portable wait |
//! | `wake.rs` | a descriptor that wakes the loop from any thread |
//! | `signals/` | signals as flags and a write to that descriptor |
//! | `credentials.rs` | who is at the other end of a UNIX socket |
//! | `debugger.rs` | a test: a child whose end a debugger keeps to itself |
//! | `device.rs` | binding a socket to a network interface |
//! | `inherited.rs` | descriptors that this process began with |
//! | `names.rs` | the name of an address |
//! | `small_call.rs` | closures that are kept without a box |
//! | `send_file.rs` | sending a file without reading it into memory |
//! | `fork.rs` | whether this process is a fork of the one that something was made in |
//! | `queue.rs` | what a socket has sent and the peer not acknowledged |

#![allow(unsafe_code, reason = "the OS boundary")]

pub(crate) mod credentials;
#[cfg(test)]
mod debugger;
pub(crate) mod device;
pub(crate) mod fork;
pub(crate) mod inherited;
pub(crate) mod names;
pub(crate) mod poller;
pub(crate) mod queue;
pub(crate) mod send_file;
pub(crate) mod signals;
pub(crate) mod small_call;
pub(crate) mod wake;
