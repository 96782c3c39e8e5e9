//! How long a client may take: one timer a connection, which is moved only when it has to fire
//! earlier, so that a request costs no timer.

use std::time::{Duration, Instant};

use torsade_reactor::{DelayedCall, Transport};

use super::super::error::BodyError;
use super::connection::ServerConnection;

/// What a connection waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Wait {
    /// For nothing of the client's.
    #[default]
    Nothing,
    /// The next request.
    Idle,
    /// The rest of the head of the request of this number.
    Head(u64),
    /// More of a body.
    Body(u64),
    /// That the client takes what is sent.
    Taken,
}

/// What the client has not taken of what was sent. A system with large buffers takes more in large steps: what
/// the client's acknowledges is to the point.
fn left(transport: &Transport<ServerConnection>) -> u64 {
    let unacknowledged = transport.stream().socket().unacknowledged();
    transport.unsent() as u64 + unacknowledged.unwrap_or(0) as u64
}

#[derive(Debug, Default)]
pub(super) struct Watch {
    wait: Wait,
    since: Option<Instant>,
    /// Bytes of a body since then.
    progress: u64,
    /// What the client had not taken then, of what was sent.
    left: u64,
    timer: Option<DelayedCall>,
    fires_at: Option<Instant>,
}

impl Watch {
    pub(super) fn note_progress(&mut self, bytes: usize) {
        self.progress += bytes as u64;
    }

    pub(super) fn stop(&mut self) {
        if let Some(timer) = self.timer.take() {
            timer.cancel();
        }
    }
}

impl ServerConnection {
    /// Looks what is waited for now, and sees to it that somebody looks at the clock in time.
    pub(super) fn keep_watch(&mut self, transport: &Transport<Self>, now: Instant) {
        let wait = if self.lost && transport.unsent() == 0 {
            Wait::Nothing
        } else if self.lost || self.choked {
            Wait::Taken
        } else if self.is_taking_body() {
            Wait::Body(self.requests())
        } else if self.is_unanswered() {
            Wait::Nothing
        } else if self.is_amid_head() {
            Wait::Head(self.requests())
        } else {
            Wait::Idle
        };
        let watch = &mut self.watch;
        if wait != watch.wait {
            watch.progress = 0;
            watch.left = if wait == Wait::Taken {
                left(transport)
            } else {
                0
            };
        } else if wait != Wait::Idle {
            // It began before.
            return;
        }
        watch.wait = wait;
        watch.since = Some(now);
        if let Some(limit) = self.limit_of(wait) {
            self.fire_at(transport, now, now + limit);
        }
    }

    fn limit_of(&self, wait: Wait) -> Option<Duration> {
        let limits = &self.site.limits;
        match wait {
            Wait::Nothing => None,
            // A connection without any request has as long as for a head.
            Wait::Idle if self.requests() == 0 => Some(limits.head),
            Wait::Idle => Some(limits.idle),
            Wait::Head(_) => Some(limits.head),
            Wait::Body(_) | Wait::Taken => Some(limits.stall),
        }
    }

    /// Has the clock looked at no later than at `deadline`.
    fn fire_at(&mut self, transport: &Transport<Self>, now: Instant, deadline: Instant) {
        if self.watch.fires_at.is_some_and(|at| at <= deadline) {
            return;
        }
        self.watch.stop();
        let weak = transport.downgrade();
        let timer = transport.reactor().call_later(deadline - now, move || {
            if let Some(transport) = weak.upgrade() {
                transport.call(Self::look_at_clock);
            }
        });
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
        match self.watch.wait {
            Wait::Nothing => {}
            // It has not even taken the response yet.
            Wait::Idle if transport.unsent() > 0 => {
                self.watch.wait = Wait::Taken;
                self.begin_again(transport, now, self.site.limits.stall);
            }
            Wait::Idle => {
                self.closing = true;
                self.lose_if_done(transport);
            }
            Wait::Head(_) => self.time_out(transport, BodyError::Abandoned),
            Wait::Body(_) => {
                let least = self.least(limit);
                if self.watch.progress < least {
                    return self.time_out(transport, BodyError::TooSlow { least, time: limit });
                }
                self.begin_again(transport, now, limit);
            }
            Wait::Taken if transport.unsent() == 0 => {
                self.watch.wait = Wait::Nothing;
                self.keep_watch(transport, now);
            }
            Wait::Taken => {
                let left = left(transport);
                let is_taking = match self.watch.left.checked_sub(left) {
                    Some(taken) => taken >= self.least(limit),
                    // More was sent.
                    None => true,
                };
                if !is_taking {
                    self.lost = true;
                    return transport.abort_connection();
                }
                self.begin_again(transport, now, limit);
            }
        }
    }

    /// What has to be sent, or taken, in such a time at least.
    fn least(&self, time: Duration) -> u64 {
        u64::from(self.site.limits.body_rate) * time.as_secs().max(1)
    }

    fn begin_again(&mut self, transport: &Transport<Self>, now: Instant, limit: Duration) {
        self.watch.since = Some(now);
        self.watch.progress = 0;
        if self.watch.wait == Wait::Taken {
            self.watch.left = left(transport);
        }
        self.fire_at(transport, now, now + limit);
    }
}
