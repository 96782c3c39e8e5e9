//! Handing to the system what waits: bytes, and what stands among them.

use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

use crate::driver::StreamSocket;
use crate::error::ConnectionLost;
use crate::flow::Outgoing;
use crate::sockets::connection::attachments::Next;
use crate::sockets::connection::{Connection, Ending, Rarities};
use crate::standstill::Standstill;
use crate::stream::Stream;

/// Calls that send from files, for one connection in one turn: the system reads from a
/// disk meanwhile, and a fast peer would starve the others.
const FILE_CALLS_PER_TURN: usize = 2;

impl Connection {
    /// Hands what is unsent to the system, as much as it takes.
    pub(super) fn flush(&self) {
        if self.flags.attached.get() {
            self.flush_with_attachments();
            self.return_buffer(&mut self.outgoing.borrow_mut());
        } else {
            let mut outgoing = self.outgoing.borrow_mut();
            self.flush_bytes(&mut outgoing);
            self.return_buffer(&mut outgoing);
        }
    }

    /// Who has nothing to send keeps no buffer.
    #[inline]
    fn return_buffer(&self, outgoing: &mut Outgoing) {
        if outgoing.is_empty() {
            self.core
                .buffers
                .return_from_writing(outgoing.take_buffer());
        }
    }

    fn flush_bytes(&self, outgoing: &mut Outgoing) {
        while !outgoing.is_empty() && self.flags.writable.get() {
            let sent = match self.socket.borrow().as_ref() {
                Some(socket) => socket.write(outgoing.as_slice()),
                None => return,
            };
            let Some(count) = self.sent(sent) else {
                return;
            };
            outgoing.consume(count);
            self.note_sent(count);
        }
    }

    fn flush_with_attachments(&self) {
        let mut file_calls = 0;
        while self.flags.writable.get() && !self.flags.file_rests.get() {
            let (mut outgoing, mut rarities) =
                (self.outgoing.borrow_mut(), self.rarities.borrow_mut());
            let Some(rarities) = rarities.as_mut() else {
                return;
            };
            if file_calls == FILE_CALLS_PER_TURN {
                // The rest is the next turn's.
                self.flags.file_rests.set(true);
                return self.mark_again();
            }
            let goes_on = match self.socket.borrow().as_ref() {
                Some(socket) => self.send_next(&**socket, &mut outgoing, rarities, &mut file_calls),
                None => return,
            };
            if rarities.attachments.is_empty() {
                self.flags.attached.set(false);
            }
            if !goes_on {
                return;
            }
        }
    }

    /// Sends one piece; says whether there is a next.
    fn send_next(
        &self,
        socket: &dyn StreamSocket,
        outgoing: &mut Outgoing,
        rarities: &mut Rarities,
        file_calls: &mut usize,
    ) -> bool {
        let (sent, promised) = match rarities.attachments.next() {
            Next::File(part) => {
                *file_calls += 1;
                let sent = socket.write_file(&part.file, part.offset, part.length);
                return self.file_sent(sent, part.length, rarities);
            }
            Next::Bytes(count) => {
                let count = count.min(outgoing.len());
                (socket.write(&outgoing.as_slice()[..count]), count)
            }
            Next::Descriptors(descriptors, count) => {
                let count = count.min(outgoing.len());
                let data = &outgoing.as_slice()[..count];
                let descriptors: Vec<_> = descriptors.iter().map(|fd| fd.as_fd()).collect();
                match count {
                    // They wait for a byte.
                    0 => (Ok(0), 0),
                    _ => (socket.write_with_descriptors(data, &descriptors), count),
                }
            }
        };
        if promised == 0 {
            return false;
        }
        let Some(count) = self.sent(sent) else {
            return false;
        };
        outgoing.consume(count);
        rarities.attachments.bytes_sent(count);
        self.count_down(rarities, count);
        true
    }

    fn file_sent(&self, sent: io::Result<usize>, left: u64, rarities: &mut Rarities) -> bool {
        if let Ok(0) = sent
            && left > 0
        {
            self.doom(ConnectionLost::FileTooShort { missing: left });
            return false;
        }
        let Some(count) = self.sent(sent) else {
            return false;
        };
        rarities.attachments.file_sent(count as u64);
        self.count_down(rarities, count);
        true
    }

    /// What came of handing bytes over: how many the system took, `None` if the
    /// connection broke.
    fn sent(&self, outcome: io::Result<usize>) -> Option<usize> {
        match outcome {
            Ok(count) => Some(count),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => {
                    self.flags.writable.set(false);
                    Some(0)
                }
                io::ErrorKind::Interrupted => Some(0),
                _ => {
                    self.doom(ConnectionLost::Io(error));
                    None
                }
            },
        }
    }

    /// Sends what the system takes at once, if nothing waits before it.
    pub(super) fn try_send(&self, data: &[u8]) -> io::Result<usize> {
        if self.ending.get() != Ending::Open || self.flags.write_ending.get() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        if data.is_empty() {
            return Ok(0);
        }
        if !self.is_flushed() || !self.flags.writable.get() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let rest = self.write_direct(&mut self.outgoing.borrow_mut(), data);
        if self.ending.get() != Ending::Open {
            return Err(io::ErrorKind::NotConnected.into());
        }
        match data.len() - rest.len() {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            taken => Ok(taken),
        }
    }

    /// Sends a large write past the buffer, and gives what the system did not take.
    pub(super) fn write_direct<'a>(&self, outgoing: &mut Outgoing, data: &'a [u8]) -> &'a [u8] {
        let waiting = outgoing.len();
        let sent = match self.socket.borrow().as_ref() {
            Some(socket) if waiting == 0 => socket.write(data),
            Some(socket) => socket.write_two(outgoing.as_slice(), data),
            None => return data,
        };
        let count = self.sent(sent).unwrap_or(0);
        outgoing.consume(count.min(waiting));
        self.note_sent(count.min(waiting));
        &data[count.saturating_sub(waiting)..]
    }

    /// The system has taken `count` more of the bytes that waited.
    fn note_sent(&self, count: usize) {
        if self.flags.awaited.get()
            && let Some(rarities) = self.rarities.borrow_mut().as_mut()
        {
            self.count_down(rarities, count);
        }
    }

    fn count_down(&self, rarities: &mut Rarities, count: usize) {
        for flush in &mut rarities.flushes {
            flush.left = flush.left.saturating_sub(count);
        }
    }

    /// Fires for those whose bytes have all been taken.
    pub(super) fn fire_flushes(&self) {
        while self.flags.awaited.get() {
            // Detach, then call.
            let trigger = match self.rarities.borrow_mut().as_mut() {
                Some(rarities) if rarities.flushes.first().is_some_and(|f| f.left == 0) => {
                    rarities.flushes.remove(0).trigger
                }
                Some(rarities) => return self.flags.awaited.set(!rarities.flushes.is_empty()),
                None => return,
            };
            trigger.callback(());
        }
    }

    /// The system has not taken everything yet: it may stand still for a while.
    pub(super) fn limit_the_flush(self: &Rc<Self>) {
        let rarities = self.rarities.borrow();
        let is_limited = rarities.as_ref().is_some_and(|it| it.flush_limit.is_some());
        drop(rarities);
        if !is_limited {
            let standstill = Standstill::begin(&**self, self.limits().flush);
            let first = standstill.first_look();
            self.look_at_the_flush_in(first, standstill);
        }
    }

    fn look_at_the_flush_in(self: &Rc<Self>, delay: Duration, standstill: Standstill) {
        let weak = Rc::downgrade(self);
        let look = self.core.call_later(delay, move || {
            let Some(connection) = weak.upgrade() else {
                return;
            };
            match standstill.look(&*connection) {
                Some(delay) => connection.look_at_the_flush_in(delay, standstill),
                None => connection.doom(ConnectionLost::TimedOut {
                    waiting_for: "sending the rest before closing",
                    limit: standstill.limit(),
                }),
            }
        });
        let mut rarities = self.rarities.borrow_mut();
        rarities.get_or_insert_default().flush_limit = Some(look);
    }

    /// Tells the writer, and the reading side, when too much is unsent, and when it is
    /// not any more.
    pub(super) fn mind_the_marks(self: &Rc<Self>) {
        let buffered = self.outgoing.borrow().len();
        if buffered == 0 && !self.flags.choked.get() && !self.flags.attached.get() {
            // As it mostly is: no mark can have been passed.
            return self.mind_the_cap(false);
        }
        let limits = self.limits();
        self.mind_the_cap(buffered > limits.unsent_max);
        let unsent = buffered.saturating_add(self.file_bytes());
        let choked = self.flags.choked.get();
        if !choked && unsent > limits.unsent_high {
            self.flags.choked.set(true);
            self.tell(|receiver| receiver.write_paused());
        } else if choked && unsent <= limits.unsent_low {
            self.flags.choked.set(false);
            if !self.flags.choke_untold.replace(false) {
                self.tell(|receiver| receiver.write_resumed());
            }
            if self.flags.readable.get() {
                self.mark_again();
            }
        }
    }

    /// What one callback has written beyond the cap has a while to leave.
    #[inline]
    fn mind_the_cap(self: &Rc<Self>, overfull: bool) {
        if overfull != self.flags.overfull.replace(overfull) {
            self.limit_the_excess(overfull);
        }
    }

    #[cold]
    fn limit_the_excess(self: &Rc<Self>, overfull: bool) {
        let mut rarities = self.rarities.borrow_mut();
        let rarities = rarities.get_or_insert_default();
        let previous = rarities.excess_limit.take();
        if let Some(limit) = previous {
            limit.cancel();
        }
        if overfull {
            let weak = Rc::downgrade(self);
            let call = self.core.call_later(rarities.limits.flush, move || {
                if let Some(connection) = weak.upgrade()
                    && connection.is_connected()
                {
                    let limit = connection.limits().unsent_max;
                    connection.doom(ConnectionLost::Overrun { limit });
                }
            });
            rarities.excess_limit = Some(call);
        }
    }

    /// How much of files waits to be sent.
    pub(super) fn file_bytes(&self) -> usize {
        if !self.flags.attached.get() {
            return 0;
        }
        self.rarities
            .borrow()
            .as_ref()
            .map_or(0, |rarities| rarities.attachments.file_bytes())
    }

    /// Whether everything that can be sent is with the system. (A descriptor cannot, before
    /// a byte is written after it.)
    pub(super) fn is_flushed(&self) -> bool {
        self.outgoing.borrow().is_empty() && self.file_bytes() == 0
    }
}
