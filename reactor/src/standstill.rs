//! Whether what waits to leave still moves.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::stream::Stream;

/// In how many steps of its limit a standstill is looked at: so much of the limit it may last longer.
const LOOKS: u32 = 8;

/// How long a stream's unsent bytes may stand still, for layers that close in order: whoever takes
/// something, however little, goes on, and who takes nothing does not. What counts is what the peer's
/// system has taken, since a large buffer between takes more in large steps. That, too, is seen in steps,
/// of what the peer's system takes at once; and the whole close has no bound: a peer that takes a little
/// now and then holds it.
///
/// It reads the reactor's clock and sets no timer: [`look`](Standstill::look) says when to look again.
#[derive(Debug)]
pub struct Standstill {
    limit: Duration,
    left: Cell<usize>,
    since: Cell<Instant>,
}

impl Standstill {
    /// Begins now.
    #[must_use]
    pub fn begin(stream: &dyn Stream, limit: Duration) -> Self {
        Self {
            limit,
            left: Cell::new(left(stream)),
            since: Cell::new(stream.socket().reactor().now()),
        }
    }

    /// When to look the first time.
    #[must_use]
    pub fn first_look(&self) -> Duration {
        self.limit / LOOKS
    }

    /// When to look again; `None` if nothing has been taken for the whole limit, or for an eighth more
    /// at most.
    #[must_use]
    pub fn look(&self, stream: &dyn Stream) -> Option<Duration> {
        let now = stream.socket().reactor().now();
        let left = left(stream);
        if left < self.left.replace(left) {
            self.since.set(now);
        }
        let lasted = now.saturating_duration_since(self.since.get());
        let rest = self.limit.checked_sub(lasted)?;
        (!rest.is_zero()).then(|| rest.min(self.first_look()))
    }

    /// How long it may last.
    #[must_use]
    pub fn limit(&self) -> Duration {
        self.limit
    }
}

fn left(stream: &dyn Stream) -> usize {
    let unacknowledged = stream.socket().unacknowledged();
    // What waits in files may be as much as can be said.
    stream.unsent().saturating_add(unacknowledged.unwrap_or(0))
}
