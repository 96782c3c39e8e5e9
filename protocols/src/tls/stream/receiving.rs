//! What comes from below, and what is told above, or taken by who reads for itself.

use std::io;
use std::rc::Rc;

use torsade_reactor::{ConnectionLost, NotFlushed, Receiver, Stream};

use super::{AT_ONCE, Ending, Stage, TlsStream};
use crate::tls::error::TlsError;
use crate::tls::records::{Event, Outgoing, Records, Then};
use crate::tls::session::Session;

impl TlsStream {
    /// Whether what has come may be delivered, or thrown away, now.
    fn then(&self) -> Then {
        let held_back = self.flags.paused.get() || !self.flags.seated.get();
        match self.ending.get() {
            Ending::Open if held_back && self.stage.get() == Stage::Secured => Then::Stop,
            Ending::Open | Ending::Closing | Ending::Leaving => Then::GoOn,
            Ending::Over | Ending::Lost => Then::Stop,
        }
    }

    /// Takes in what has come: `data`, behind what is kept.
    pub(super) fn take_in(&self, data: &mut [u8]) {
        // Detach, then call: user code runs in between, and writes, and asks for its end.
        let Some(mut records) = self.records.take() else {
            return;
        };
        if self.flags.untold.get() {
            self.tell_untold();
        }
        if self.then() == Then::Stop {
            records.keep(data);
            return self.records.set(Some(records));
        }
        let mut outgoing = Outgoing::default();
        let outcome = records.receive(data, &mut outgoing, |event| self.deliver(event));
        if self.ending.get() != Ending::Lost {
            self.records.set(Some(records));
        }
        // Before all that was written meanwhile: that is encrypted when this is settled.
        if !outgoing.as_slice().is_empty() {
            self.below.write(outgoing.as_slice());
        }
        if let Err(error) = outcome {
            self.fail(TlsError::from_rustls(error));
        }
        self.regulate();
    }

    /// Tells what was decrypted for who reads for itself, and was not taken.
    #[cold]
    fn tell_untold(&self) {
        if self.then() == Then::Stop {
            return;
        }
        let unread = self.unread.take();
        if !unread.is_empty() && self.deliver(Event::Data(&unread)) == Then::Stop {
            return self.flags.untold.set(self.flags.end_untold.get());
        }
        self.flags.untold.set(false);
        if self.flags.end_untold.take() {
            self.deliver(Event::PeerClosed);
        }
    }

    /// Takes what has come and was not delivered, decrypted, into the caller's memory. Nobody is told
    /// anything from in here: what there is to be told waits.
    pub(super) fn read_into(&self, place: &mut [u8]) -> io::Result<usize> {
        if place.is_empty() {
            return Ok(0);
        }
        let mut unread = self.unread.take();
        if !unread.is_empty() {
            let count = unread.len().min(place.len());
            place[..count].copy_from_slice(&unread[..count]);
            unread.drain(..count);
            self.unread.set(unread);
            return Ok(count);
        }
        if self.flags.end_untold.get() || self.flags.peer_closed.get() {
            return Ok(0);
        }
        // They are out of their place while they are being delivered.
        let Some(mut records) = self.records.take() else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        let reactor = self.socket().reactor();
        let mut chunk = reactor.lend_buffer();
        if chunk.len() < AT_ONCE {
            chunk.resize(AT_ONCE, 0);
        }
        let outcome = self.decrypt_into(place, &mut records, &mut chunk);
        reactor.return_buffer(chunk);
        self.records.set(Some(records));
        if self.then() == Then::GoOn {
            // What is left is delivered: no event tells of it.
            self.look_soon();
        }
        outcome
    }

    fn decrypt_into(
        &self,
        place: &mut [u8],
        records: &mut Records,
        chunk: &mut [u8],
    ) -> io::Result<usize> {
        // Bounded by what a peer can send that has nothing in it.
        let (mut come, mut all) = (0, 0);
        while all <= AT_ONCE {
            let (mut count, mut over, mut is_end) = (0, Vec::new(), false);
            let mut outgoing = Outgoing::default();
            let received = records.receive(&mut chunk[..come], &mut outgoing, |event| {
                match event {
                    Event::Data(data) => {
                        let room = &mut place[count..];
                        let (fits, rest) = data.split_at(data.len().min(room.len()));
                        room[..fits.len()].copy_from_slice(fits);
                        count += fits.len();
                        over.extend_from_slice(rest);
                    }
                    Event::PeerClosed => is_end = true,
                    Event::Secured(_) => {}
                }
                match count == place.len() || is_end {
                    true => Then::Stop,
                    false => Then::GoOn,
                }
            });
            self.flags.untold.set(!over.is_empty() || is_end);
            self.unread.set(over);
            self.flags.end_untold.set(is_end);
            if !outgoing.as_slice().is_empty() {
                self.below.write(outgoing.as_slice());
            }
            if let Err(error) = received {
                let error = TlsError::from_rustls(error);
                self.fail(error.clone());
                if count == 0 {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, error));
                }
            }
            if count > 0 || is_end {
                return Ok(count);
            }
            come = self.below.try_read(chunk)?;
            if come == 0 {
                // Not the end that it looks like: it must not be taken for one.
                self.flags.cut_off.set(true);
                self.settle_soon();
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    TlsError::Truncated,
                ));
            }
            all += come;
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn deliver(&self, event: Event<'_>) -> Then {
        match event {
            Event::Secured(session) => self.secured(session),
            Event::Data(data) => {
                // Once it is being lost, what comes is thrown away.
                if self.ending.get() == Ending::Open {
                    self.tell(|receiver| receiver.data_received(data));
                }
            }
            Event::PeerClosed => {
                self.flags.peer_closed.set(true);
                match self.ending.get() {
                    Ending::Open => {
                        self.tell_of_the_end();
                        self.settle_soon();
                    }
                    Ending::Leaving => self.leave_below(),
                    Ending::Closing | Ending::Over | Ending::Lost => {}
                }
            }
        }
        self.then()
    }

    fn tell_of_the_end(&self) {
        // The first receiver is told what nobody was there to be told.
        self.flags.told_read_ended.set(true);
        self.tell(|receiver| receiver.read_connection_lost());
    }

    fn secured(&self, session: Session) {
        self.stage.set(Stage::Secured);
        self.cancel_timer();
        // It is set here, and a handshake is completed once.
        let _ = self.session.set(session.clone());
        self.settle_soon();
        let waiting = self.waiting.take();
        for trigger in waiting {
            trigger.callback(session.clone());
        }
    }
}

impl Receiver for TlsStream {
    fn data_received(self: Rc<Self>, data: &[u8]) {
        match self.stage.get() {
            Stage::Clear => self.tell(|receiver| receiver.data_received(data)),
            Stage::Handshake | Stage::Secured => self.take_in(&mut data.to_vec()),
        }
    }

    fn data_received_mut(self: Rc<Self>, data: &mut [u8]) {
        match self.stage.get() {
            Stage::Clear => self.tell(|receiver| receiver.data_received_mut(data)),
            Stage::Handshake | Stage::Secured => self.take_in(data),
        }
    }

    fn read_connection_lost(self: Rc<Self>) {
        if self.stage.get() == Stage::Clear {
            return self.tell_of_the_end();
        }
        match self.ending.get() {
            // Its alert said so before.
            Ending::Open if self.flags.peer_closed.get() => {}
            Ending::Open | Ending::Closing if self.stage.get() == Stage::Handshake => {
                self.fail(TlsError::HandshakeCutShort);
            }
            Ending::Open => {
                // What was written so far goes out; the peer may still read.
                self.send_waiting();
                self.send_closing_alert();
                self.fail(TlsError::Truncated);
            }
            Ending::Closing => self.flags.peer_closed.set(true),
            Ending::Leaving => self.leave_below(),
            Ending::Over | Ending::Lost => {}
        }
    }

    fn write_paused(self: Rc<Self>) {
        self.flags.below_choked.set(true);
        self.mind_the_marks();
    }

    fn write_resumed(self: Rc<Self>) {
        self.flags.below_choked.set(false);
        self.mind_the_marks();
    }

    fn vanish(self: Rc<Self>) {
        let receiver = self.receiver.take();
        if let Some(receiver) = receiver {
            receiver.vanish();
        }
    }

    fn about_to_be_lost(self: Rc<Self>) {
        // What is above may be TLS, too.
        self.tell(|receiver| receiver.about_to_be_lost());
        let is_open = matches!(self.ending.get(), Ending::Open | Ending::Closing);
        if self.stage.get() == Stage::Secured && is_open {
            self.send_waiting();
            self.send_closing_alert();
        }
    }

    fn connection_lost(self: Rc<Self>, reason: ConnectionLost) {
        self.ending.set(Ending::Lost);
        self.cancel_timer();
        drop(self.records.take());
        drop(self.unread.take());
        drop(self.plaintext.take());
        let is_io = matches!(reason, ConnectionLost::Io(_));
        // What TLS was lost for came first; and once everything has been handed over, that the
        // peer is gone is no news.
        let is_settled = self.failure.borrow().is_some() || self.flags.all_sent.get();
        let reason = match self.reason.take() {
            Some(given) if reason.is_clean() || (is_io && is_settled) => *given,
            _ => reason,
        };
        // Detach, then call.
        let (waiting, flushes) = (self.waiting.take(), self.flushes.take());
        let failure = self.failure.borrow().clone();
        let error = failure.unwrap_or_else(|| TlsError::Interrupted {
            reason: reason.to_string(),
        });
        match self.receiver.take() {
            Some(receiver) => receiver.connection_lost(reason),
            // Kept for the first receiver.
            None => self.reason.set(Some(Box::new(reason))),
        }
        // Order: what a protocol tied to its connection was cancelled by the end.
        for trigger in waiting {
            trigger.errback(error.clone());
        }
        for trigger in flushes {
            trigger.errback(NotFlushed);
        }
        if let Some(call) = self.at_end.take() {
            call();
        }
    }
}
