//! How it ends: RFC 6455 §7.

use std::rc::Weak;
use std::time::Duration;

use torsade_reactor::{ConnectionLost, Standstill, Stream};

use super::{Stage, WebSocketStream};
use crate::websocket::codes::CloseCode;
use crate::websocket::error::Violation;
use crate::websocket::frames::{CONTROL_MAX, Opcode, Role};

impl WebSocketStream {
    pub(super) fn close_because(&self, code: CloseCode, reason: &str, lost: ConnectionLost) {
        if self.stage.get() != Stage::Open {
            return;
        }
        self.send_close(code, reason);
        self.reason.set(Some(Box::new(lost)));
        self.stage.set(Stage::Closing);
        self.begin_to_end();
        // What is kept may have the peer's Close in it, and be it behind messages that nobody wants now.
        self.resume_below();
        self.schedule();
    }

    fn send_close(&self, code: CloseCode, reason: &str) {
        let code = match code {
            CloseCode::NO_STATUS => return self.send_frame(Opcode::Close, &[]),
            code if code.is_sendable() => code,
            _ => CloseCode::INTERNAL_ERROR,
        };
        let mut payload = u16::from(code).to_be_bytes().to_vec();
        let fits = (0..=CONTROL_MAX - payload.len()).rev();
        let reason = fits.filter_map(|length| reason.get(..length)).next();
        payload.extend_from_slice(reason.unwrap_or_default().as_bytes());
        self.send_frame(Opcode::Close, &payload);
    }

    /// No longer open: only the end has a limit now.
    pub(super) fn begin_to_end(&self) {
        if let Some(timer) = self.idle_timer.take() {
            timer.cancel();
        }
        let owed = self.owed_pong.take();
        drop(owed);
        let standstill = Standstill::begin(&*self.below, self.limits.closing);
        self.look_at_the_end_in(standstill.first_look(), standstill);
    }

    /// Aborts when nothing has moved for too long: neither what is unsent, nor the peer.
    fn look_at_the_end_in(&self, delay: Duration, standstill: Standstill) {
        self.set_timer(delay, move |stream| match standstill.look(&*stream.below) {
            Some(delay) => stream.look_at_the_end_in(delay, standstill),
            None => stream.is_too_late(),
        });
    }

    /// The end has taken too long.
    pub(in crate::websocket) fn is_too_late(&self) {
        self.abort_connection(ConnectionLost::TimedOut {
            waiting_for: "the closing handshake",
            limit: self.limits.closing,
        });
    }

    /// How long the end may stand still; and take, when a server stops.
    pub(in crate::websocket) fn closing(&self) -> Duration {
        self.limits.closing
    }

    pub(super) fn set_timer(&self, delay: Duration, call: impl FnOnce(&Self) + 'static) {
        let this = Weak::clone(&self.this);
        let timer = self.socket().reactor().call_later(delay, move || {
            if let Some(stream) = this.upgrade() {
                call(&stream);
            }
        });
        if let Some(before) = self.timer.replace(Some(timer)) {
            before.cancel();
        }
    }

    /// The peer has said that it closes.
    pub(in crate::websocket) fn close_came(&self, code: Option<CloseCode>, reason: String) {
        let code = code.unwrap_or(CloseCode::NO_STATUS);
        self.said.set(Some((code, reason)));
        if self.stage.get() == Stage::Open {
            // §5.5.1: with the same code.
            self.send_close(code, "");
            self.begin_to_end();
        }
        self.stage.set(Stage::Leaving);
        // §7.1.1: the server first. A client that waits has a limit.
        if self.role == Role::Server {
            self.leave();
        }
    }

    /// The peer has broken the rules: §7.1.7.
    pub(in crate::websocket) fn fail(&self, violation: Violation) {
        if self.stage.get() == Stage::Open {
            self.send_close(violation.code(), &violation.to_string());
            self.begin_to_end();
        }
        self.stage.set(Stage::Leaving);
        self.below
            .lose_connection(ConnectionLost::Failed(violation.into()));
    }

    /// A callback of the protocol has panicked: §7.4.1. What was sent are whole frames, so that this can follow.
    pub(super) fn broke(&self, panicked: ConnectionLost) {
        self.send_close(CloseCode::INTERNAL_ERROR, "");
        self.begin_to_end();
        self.stage.set(Stage::Leaving);
        self.below.lose_connection(panicked);
    }

    /// Ends the connection below in order.
    fn leave(&self) {
        let reason = self.reason.take().map_or(ConnectionLost::Done, |it| *it);
        self.below.lose_connection(reason);
    }

    /// The peer's stream has ended, and everything that came before has been looked at.
    pub(in crate::websocket) fn end_came(&self) {
        if self.stage.get() == Stage::Open {
            self.begin_to_end();
        }
        self.stage.set(Stage::Leaving);
        self.leave();
    }

    /// Last words, where no answer will be waited for.
    pub(in crate::websocket) fn say_goodbye(&self) {
        if self.stage.get() == Stage::Open {
            self.send_close(CloseCode::GOING_AWAY, "");
            self.begin_to_end();
            self.stage.set(Stage::Leaving);
        }
    }

    /// It is over: what the peer's Close frame said.
    pub(in crate::websocket) fn end(&self) -> Option<(CloseCode, String)> {
        self.stage.set(Stage::Over);
        for timer in [self.timer.take(), self.idle_timer.take()]
            .into_iter()
            .flatten()
        {
            timer.cancel();
        }
        drop(self.kept.take());
        self.said.take()
    }
}
