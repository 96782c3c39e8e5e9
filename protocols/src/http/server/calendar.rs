//! The line `Date`, written once a second.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant, SystemTime};

use torsade_reactor::Reactor;

/// Knows the line for now.
#[derive(Debug, Default)]
pub(super) struct Calendar {
    line: RefCell<Vec<u8>>,
    /// When the line is out of date.
    until: Cell<Option<Instant>>,
}

impl Calendar {
    /// Brings the line up to date.
    pub(super) fn set(&self, reactor: &Reactor, now: Instant) {
        if self.until.get().is_some_and(|until| now < until) {
            return;
        }
        let time = reactor.system_time();
        let mut line = self.line.borrow_mut();
        line.clear();
        line.extend_from_slice(b"date: ");
        line.extend_from_slice(httpdate::fmt_http_date(time).as_bytes());
        line.extend_from_slice(b"\r\n");
        let since = time
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let left = Duration::from_secs(1) - Duration::from_nanos(since.subsec_nanos().into());
        self.until.set(Some(now + left));
    }

    /// Calls `with` with the line.
    pub(super) fn with_line<T>(&self, with: impl FnOnce(&[u8]) -> T) -> T {
        with(&self.line.borrow())
    }
}
