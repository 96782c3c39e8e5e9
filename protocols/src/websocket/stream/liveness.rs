//! Whether the peer is still there: pings, pongs, silence.

use std::collections::VecDeque;
use std::mem;
use std::rc::Weak;
use std::time::{Duration, Instant};

use torsade_deferred::{Deferred, Trigger, fail};
use torsade_reactor::{ConnectionLost, Stream};

use super::{Stage, WebSocketStream};
use crate::websocket::codes::CloseCode;
use crate::websocket::error::PingError;
use crate::websocket::frames::Opcode;

/// Pings that wait for their pongs, the oldest first.
#[derive(Default)]
pub(super) struct Pings {
    sent: u64,
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    number: u64,
    since: Instant,
    trigger: Trigger<Duration>,
}

/// What was left to take when the peer was asked for a sign of life.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    left: usize,
    /// Something was left before the ping.
    is_behind: bool,
}

/// As many pings as may wait for their pongs.
const PINGS_MAX: usize = 64;

impl WebSocketStream {
    /// Sends a ping, and fires when its pong has come, or a later one's: with the time that it took.
    ///
    /// Not needed to keep a connection alive: see
    /// [`WebSocketLimits::ping_after`](crate::websocket::WebSocketLimits::ping_after).
    ///
    /// # Errors
    ///
    /// Fails with a [`PingError`].
    ///
    /// # Cancellation
    ///
    /// Cancels the waiting, not the ping.
    pub fn ping(&self) -> Deferred<Duration> {
        if self.stage.get() != Stage::Open {
            return fail(PingError::Lost);
        }
        if self.pings.borrow().waiting.len() >= PINGS_MAX {
            return fail(PingError::TooMany { limit: PINGS_MAX });
        }
        let (trigger, deferred) = Deferred::new();
        let since = self.socket().reactor().now();
        let number = self.send_ping();
        self.pings.borrow_mut().waiting.push_back(Waiting {
            number,
            since,
            trigger,
        });
        deferred
    }

    fn send_ping(&self) -> u64 {
        let number = {
            let mut pings = self.pings.borrow_mut();
            pings.sent += 1;
            pings.sent
        };
        self.send_frame(Opcode::Ping, &number.to_be_bytes());
        number
    }

    /// Answers a ping: §5.5.2. Of those that come while nothing can be sent, the last: §5.5.3.
    pub(in crate::websocket) fn answer_ping(&self, payload: &[u8]) {
        if self.stage.get() != Stage::Open {
            return;
        }
        if self.below.is_congested() {
            let before = self.owed_pong.replace(Some(payload.to_vec()));
            return drop(before);
        }
        self.send_frame(Opcode::Pong, payload);
    }

    pub(in crate::websocket) fn owes_pong(&self) -> bool {
        self.owed_pong.borrow().is_some()
    }

    pub(in crate::websocket) fn send_owed_pong(&self) {
        if let Some(payload) = self.owed_pong.take() {
            self.answer_ping(&payload);
        }
    }

    /// Fires what waited for this pong.
    pub(in crate::websocket) fn pong_came(&self, payload: &[u8]) {
        let Ok(number) = payload.try_into().map(u64::from_be_bytes) else {
            return;
        };
        let now = self.socket().reactor().now();
        loop {
            // Detach, then call: who is fired may ping again.
            let answered = {
                let mut pings = self.pings.borrow_mut();
                let is_answered = pings.waiting.front().is_some_and(|it| it.number <= number);
                // A number that was never sent is nobody's.
                match is_answered && number <= pings.sent {
                    true => pings.waiting.pop_front(),
                    false => None,
                }
            };
            match answered {
                Some(ping) => ping
                    .trigger
                    .callback(now.saturating_duration_since(ping.since)),
                None => return,
            }
        }
    }

    /// Those that will have no pong. Order: after `closed`, as with all that waits on a connection.
    pub(in crate::websocket) fn fail_pings(&self) {
        let pings = mem::take(&mut self.pings.borrow_mut().waiting);
        for ping in pings {
            ping.trigger.errback(PingError::Lost);
        }
    }
}

/// What runs by the clock.
impl WebSocketStream {
    pub(in crate::websocket) fn start_timers(&self) {
        self.listen();
        self.mind_idleness();
    }

    /// Waits for signs of life.
    fn listen(&self) {
        if let Some(silence) = self.limits.ping_after
            && self.stage.get() == Stage::Open
        {
            self.set_timer(silence, Self::look_for_life);
        }
    }

    fn look_for_life(&self) {
        // Who is not listened to cannot be heard. (One that takes no answers is no such one: it can take them.)
        let is_deaf = self.flags.paused.get();
        if self.flags.heard.take() || is_deaf || self.takes_what_waits() {
            self.flags.asked.set(None);
            return self.listen();
        }
        let limit = self.limits.pong_within;
        if self.flags.asked.get().is_some() {
            return self.abort_connection(ConnectionLost::TimedOut {
                waiting_for: "the pong",
                limit,
            });
        }
        let is_behind = self.left() > 0;
        if !self.below.is_congested() {
            self.send_ping();
        }
        let left = self.left();
        self.flags.asked.set(Some(Asked { left, is_behind }));
        self.flags.written.set(0);
        self.set_timer(limit, Self::look_for_life);
    }

    /// Whether the peer has taken something since it was asked, and no pong could be heard: one that waits behind
    /// other things has not been asked yet, and what a peer sends is not read while it takes too little. (The ping
    /// itself is taken by its system, whether anybody is there or not.)
    ///
    /// Not [`Standstill`](torsade_reactor::Standstill): of who fills up what was taken, as much is left at each look.
    fn takes_what_waits(&self) -> bool {
        let Some(Asked { left, is_behind }) = self.flags.asked.get() else {
            return false;
        };
        let is_choked = self.succession.is_choked() || self.below.is_congested();
        let if_none_is_taken = left.saturating_add(self.flags.written.get());
        (is_behind || is_choked) && self.left() < if_none_is_taken
    }

    /// What the peer's system has not taken, as far as the system here says so.
    fn left(&self) -> usize {
        let unacknowledged = self.socket().unacknowledged().unwrap_or(0);
        self.below.unsent().saturating_add(unacknowledged)
    }

    fn mind_idleness(&self) {
        let Some(idle) = self.limits.idle else {
            return;
        };
        if self.stage.get() != Stage::Open {
            return;
        }
        let this = Weak::clone(&self.this);
        let timer = self.socket().reactor().call_later(idle, move || {
            let Some(stream) = this.upgrade() else {
                return;
            };
            if stream.flags.messaged.take() {
                return stream.mind_idleness();
            }
            stream.close_because(
                CloseCode::GOING_AWAY,
                "nothing to say",
                ConnectionLost::TimedOut {
                    waiting_for: "a message",
                    limit: idle,
                },
            );
        });
        self.idle_timer.replace(Some(timer));
    }
}
