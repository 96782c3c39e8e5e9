//! What the servers of this package have in common: not more than this, so that each can be
//! read alone.

use std::env;

/// How much a server with a buffer for each connection reads at once: its only argument, and
/// else as much as those with one buffer for all.
///
/// # Panics
///
/// If the argument is no number.
#[must_use]
pub fn buffer_size() -> usize {
    env::args().nth(1).map_or(64 * 1024 + 256, |size| {
        size.parse().expect("a number of bytes")
    })
}
