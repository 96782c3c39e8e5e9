//! How long a server may take: one timer a connection, which is moved only when it has to fire earlier,
//! so that an exchange costs no timer.

use std::time::{Duration, Instant};

use torsade_reactor::{DelayedCall, Transport};

use super::connection::ClientConnection;
use super::error::Stage;

/// So much goes to the system at once.
const SMALL: usize = 16 * 1024;

/// How much the server has not acknowledged, where that can be known.
fn unacknowledged(transport: &Transport<ClientConnection>) -> Option<usize> {
    transport.stream().socket().unacknowledged().ok()
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Wait {
    /// For nothing of the server's.
    #[default]
    Nothing,
    /// The next exchange, after so many.
    Idle(u64),
    /// The word to send the body.
    Word(u64),
    /// That the server takes the request.
    Taken(u64),
    /// The head of the response.
    Head(u64),
    /// More of its body.
    Body(u64),
}

#[derive(Debug, Default)]
pub(super) struct Watch {
    wait: Wait,
    since: Option<Instant>,
    /// Something has come since then.
    progress: bool,
    /// Bytes of bodies that flowed to the connection.
    flowed: u64,
    /// How much had gone to the system then; only what it differs by is of interest.
    gone: i128,
    /// How much of that the server had not acknowledged, if somebody asked.
    unacknowledged: Option<usize>,
    timer: Option<DelayedCall>,
    fires_at: Option<Instant>,
}

impl Watch {
    pub(super) fn note_progress(&mut self) {
        self.progress = true;
    }

    /// So much more of a body was handed to the connection.
    pub(super) fn note_flow(&mut self, bytes: usize) {
        self.flowed += bytes as u64;
    }

    /// How much has gone to the system. What is unsent does not tell by itself: a body that flows fills up
    /// what is taken.
    fn gone(&self, unsent: usize) -> i128 {
        i128::from(self.flowed) - unsent as i128
    }

    /// Whether the server has taken anything since the last time.
    fn is_taking(&mut self, transport: &Transport<ClientConnection>, unsent: usize) -> bool {
        let gone = self.gone(unsent);
        if gone > self.gone {
            return true;
        }
        // The system takes more in large steps: what the server acknowledges is more to the point.
        let left = unacknowledged(transport);
        match (self.unacknowledged, left) {
            (Some(before), Some(left)) => left < before,
            // Not known yet: it is the next time.
            (None, Some(_)) => true,
            (_, None) => false,
        }
    }

    pub(super) fn stop(&mut self) {
        if let Some(timer) = self.timer.take() {
            timer.cancel();
        }
    }
}

impl ClientConnection {
    /// Looks what is waited for now, and sees to it that somebody looks at the clock in time.
    pub(super) fn keep_watch(&mut self, transport: &Transport<Self>, now: Instant) {
        let number = self.exchanges();
        let is_held_back = self.sending.as_ref().is_some_and(|it| it.is_held_back());
        let wait = match self.awaited() {
            None if self.is_free() => Wait::Idle(number),
            None => Wait::Nothing,
            Some(_) if is_held_back => Wait::Word(number),
            // As long as its source has nothing, nobody is late.
            Some(Stage::Send) if transport.unsent() == 0 => Wait::Nothing,
            Some(Stage::Send) => Wait::Taken(number),
            Some(Stage::Body) => Wait::Body(number),
            Some(_) => Wait::Head(number),
        };
        if wait != self.watch.wait || self.watch.progress {
            self.watch.wait = wait;
            self.watch.progress = false;
            self.watch.since = Some(now);
            let unsent = transport.unsent();
            self.watch.gone = self.watch.gone(unsent);
            // Asking costs a system call: not for what the system will take anyhow.
            self.watch.unacknowledged = match unsent > SMALL {
                true => unacknowledged(transport),
                false => None,
            };
        }
        if let (Some(since), Some(limit)) = (self.watch.since, self.limit_of(wait)) {
            self.fire_at(transport, now, since + limit);
        }
    }

    fn limit_of(&self, wait: Wait) -> Option<Duration> {
        let limits = &self.settings.limits;
        match wait {
            Wait::Nothing => None,
            Wait::Idle(_) => Some(limits.idle),
            Wait::Word(_) => Some(limits.expect),
            Wait::Taken(_) => Some(limits.send),
            Wait::Head(_) => Some(limits.head),
            Wait::Body(_) => Some(limits.body),
        }
    }

    /// Has the clock looked at no later than at `deadline`.
    fn fire_at(&mut self, transport: &Transport<Self>, now: Instant, deadline: Instant) {
        if self.watch.fires_at.is_some_and(|at| at <= deadline) {
            return;
        }
        self.watch.stop();
        let weak = transport.downgrade();
        let delay = deadline.saturating_duration_since(now);
        let timer = transport.reactor().call_later(delay, move || {
            if let Some(transport) = weak.upgrade() {
                transport.call(Self::look_at_clock);
            }
        });
        // The connection keeps the loop while something is under way, and only then.
        timer.set_background(true);
        self.watch.timer = Some(timer);
        self.watch.fires_at = Some(deadline);
    }

    fn look_at_clock(&mut self, transport: &Transport<Self>) {
        self.watch.timer = None;
        self.watch.fires_at = None;
        let now = transport.reactor().now();
        let (Some(since), Some(limit)) = (self.watch.since, self.limit_of(self.watch.wait)) else {
            return;
        };
        if now < since + limit {
            return self.fire_at(transport, now, since + limit);
        }
        let unsent = transport.unsent();
        let is_taking = unsent > 0 && self.watch.is_taking(transport, unsent);
        match self.watch.wait {
            Wait::Nothing => {}
            Wait::Idle(_) => self.end(transport),
            Wait::Word(_) => {
                // RFC 9110 §10.1.1: it does not wait for ever.
                self.may_continue(transport);
                self.leave(transport);
            }
            Wait::Taken(_) | Wait::Head(_) if is_taking => {
                self.watch.progress = true;
                self.keep_watch(transport, now);
            }
            Wait::Head(_) if unsent == 0 => self.time_out(transport, Stage::Head),
            Wait::Taken(_) | Wait::Head(_) => self.time_out(transport, Stage::Send),
            Wait::Body(_) => self.time_out(transport, Stage::Body),
        }
    }
}
