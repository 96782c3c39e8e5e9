//! How it ends: in order, broken, too slow.

use std::time::Duration;

use torsade_reactor::{ConnectionLost, Limits, Standstill, Stream};

use super::{Ending, Stage, TlsStream};
use crate::tls::error::TlsError;
use crate::tls::records::Outgoing;

impl TlsStream {
    pub(super) fn send_closing_alert(&self) {
        if self.flags.write_ended.replace(true) {
            return;
        }
        if let Some(mut records) = self.records.take() {
            let mut outgoing = Outgoing::default();
            // Without keys there is no alert to be sent, and the peer sees the end all the same.
            let _ = records.close(&mut outgoing);
            self.records.set(Some(records));
            self.below.write(outgoing.as_slice());
        }
    }

    /// Goes on with the end: called when everything written has been encrypted, or waits for the
    /// handshake.
    pub(super) fn close(&self) {
        if self.stage.get() == Stage::Handshake {
            // Nobody waits for anything: there is no use in a handshake.
            if self.plaintext.borrow().is_empty() {
                self.leave_below();
            }
            return;
        }
        let nothing_unsent = self.below.unsent() == 0;
        self.send_closing_alert();
        if self.flags.peer_closed.get() {
            // A peer that has said goodbye may be gone before it hears ours.
            self.flags.all_sent.set(nothing_unsent);
            return self.leave_below();
        }
        self.ending.set(Ending::Leaving);
        // Peers that answer no alert notice the end of the stream.
        self.below.lose_write_connection();
        // A peer that reads only when it has written everything would otherwise wait for us, and we
        // for it: what it sends is read, and thrown away, however much is unsent.
        self.below.set_limits(Limits {
            unsent_high: usize::MAX,
            unsent_low: usize::MAX,
            ..self.below.limits()
        });
        let standstill = Standstill::begin(&*self.below, self.below.limits().flush);
        self.look_at_the_flush_in(standstill.first_look(), standstill);
        let weak = self.this.clone();
        let sent = move |()| {
            if let Some(this) = weak
                .upgrade()
                .filter(|this| this.ending.get() == Ending::Leaving)
            {
                this.flags.all_sent.set(true);
                this.set_timer(this.limits.get().shutdown, Self::leave_below);
            }
        };
        // If it is lost first, `connection_lost` knows.
        drop(self.below.flush().add_callbacks(sent, |_| ()));
    }

    /// Loses the stream below in order, with the reason that was given here.
    pub(super) fn leave_below(&self) {
        if matches!(self.ending.get(), Ending::Closing | Ending::Leaving) {
            self.ending.set(Ending::Over);
            self.cancel_timer();
            self.below.lose_connection(ConnectionLost::Done);
        }
    }

    /// The end of TLS: what is in the records already still goes out, an alert for one.
    pub(super) fn fail(&self, error: TlsError) {
        match self.ending.get() {
            Ending::Open | Ending::Closing => {}
            // All was said; what the peer makes of it does not matter any more.
            Ending::Leaving => return self.leave_below(),
            Ending::Over | Ending::Lost => return,
        }
        self.ending.set(Ending::Over);
        self.cancel_timer();
        self.failure.replace(Some(error.clone()));
        let reason = ConnectionLost::Failed(error.into());
        self.reason.set(Some(Box::new(reason)));
        self.below.lose_connection(ConnectionLost::Done);
    }

    pub(super) fn set_timer(&self, limit: Duration, call: impl FnOnce(&Self) + 'static) {
        let weak = self.this.clone();
        let timer = self.socket().reactor().call_later(limit, move || {
            if let Some(this) = weak.upgrade() {
                call(&this);
            }
        });
        if let Some(previous) = self.timer.replace(Some(timer)) {
            previous.cancel();
        }
    }

    pub(super) fn cancel_timer(&self) {
        if let Some(timer) = self.timer.take() {
            timer.cancel();
        }
    }

    pub(super) fn handshake_timed_out(&self) {
        let limit = self.limits.get().handshake;
        let error = TlsError::HandshakeTimedOut { limit };
        self.failure.replace(Some(error));
        self.time_out("the TLS handshake", limit);
    }

    /// Aborts when nothing of the rest has been taken for too long.
    fn look_at_the_flush_in(&self, delay: Duration, standstill: Standstill) {
        self.set_timer(delay, move |this| match standstill.look(&*this.below) {
            Some(delay) => this.look_at_the_flush_in(delay, standstill),
            None => this.time_out("sending the rest before closing", standstill.limit()),
        });
    }

    fn time_out(&self, waiting_for: &'static str, limit: Duration) {
        self.ending.set(Ending::Over);
        self.below
            .abort_connection(ConnectionLost::TimedOut { waiting_for, limit });
    }
}
