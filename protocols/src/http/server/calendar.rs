//! What responses begin with, written once a second: the line of their status, and `Date`.

use std::cell::Cell;
use std::time::{Duration, Instant, SystemTime};

use torsade_reactor::Reactor;

use super::super::dates::DateCache;
use super::super::encode::{BEGINNING, Beginning};

/// Knows the lines for now.
#[derive(Debug)]
pub(super) struct Calendar {
    lines: Cell<Beginning>,
    /// When they are out of date.
    until: Cell<Option<Instant>>,
}

impl Calendar {
    /// Brings them up to date.
    pub(super) fn set(&self, reactor: &Reactor, now: Instant) {
        if self.until.get().is_some_and(|until| now < until) {
            return;
        }
        let time = reactor.system_time();
        let mut lines = BEGINNING;
        let date = lines.len() - DateCache::LENGTH - 2;
        lines[date..][..DateCache::LENGTH].copy_from_slice(DateCache::default().at(time));
        self.lines.set(lines);
        let since = time
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let left = Duration::from_secs(1) - Duration::from_nanos(since.subsec_nanos().into());
        self.until.set(Some(now + left));
    }

    /// The lines.
    pub(super) fn beginning(&self) -> Beginning {
        self.lines.get()
    }
}

impl Default for Calendar {
    fn default() -> Self {
        Self {
            lines: Cell::new(BEGINNING),
            until: Cell::default(),
        }
    }
}
