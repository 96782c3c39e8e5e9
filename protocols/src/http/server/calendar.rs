//! What responses begin with, written once a second: the line of their status, and `Date`.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant, SystemTime};

use torsade_reactor::Reactor;

use super::super::encode::STATUS_LINE;

/// Knows the lines for now.
#[derive(Debug, Default)]
pub(super) struct Calendar {
    lines: RefCell<Vec<u8>>,
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
        let mut lines = self.lines.borrow_mut();
        lines.clear();
        lines.extend_from_slice(STATUS_LINE);
        lines.extend_from_slice(b"date: ");
        lines.extend_from_slice(httpdate::fmt_http_date(time).as_bytes());
        lines.extend_from_slice(b"\r\n");
        let since = time
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let left = Duration::from_secs(1) - Duration::from_nanos(since.subsec_nanos().into());
        self.until.set(Some(now + left));
    }

    /// Calls `with` with the lines.
    pub(super) fn with_beginning<T>(&self, with: impl FnOnce(&[u8]) -> T) -> T {
        with(&self.lines.borrow())
    }
}
