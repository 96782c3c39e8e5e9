//! Handing to the system what waits: bytes, and what stands among them.

use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

use crate::driver::StreamSocket;
use crate::error::ConnectionLost;
use crate::flow::Outgoing;
use crate::sockets::connection::attachments::Next;
use crate::sockets::connection::flags::Flags;
use crate::sockets::connection::{Connection, DIRECT_WRITE, Ending, FIRINGS_PER_TURN, Rarities};
use crate::standstill::Standstill;
use crate::stream::Stream;

/// Calls that send from files, for one connection in one turn: the system reads from a
/// disk meanwhile, and a fast peer would starve the others.
const FILE_CALLS_PER_TURN: usize = 2;

impl Connection {
    /// Hands what is unsent to the system in one call, where nothing else is to be done after a
    /// callback, as is mostly so. False if there is, or if not all was taken.
    #[expect(clippy::inline_always, reason = "the way of every event")]
    #[inline(always)]
    pub(super) fn send_all_at_once(&self) -> bool {
        let rare = Flags::WRITE_ENDING
            | Flags::AWAITED
            | Flags::ATTACHED
            | Flags::CHOKED
            | Flags::OVERFULL
            | Flags::ROOM_WATCHED;
        let is_plain = self.flags.are(Flags::WRITABLE, Flags::WRITABLE | rare);
        if !is_plain || self.ending.get() != Ending::Open {
            return false;
        }
        let mut outgoing = self.outgoing.borrow_mut();
        if !outgoing.is_empty() {
            let sent = match self.socket.borrow().as_ref() {
                Some(socket) => socket.write(outgoing.as_slice()),
                None => return false,
            };
            match sent {
                Ok(count) if count == outgoing.len() => {}
                sent => return self.sent_in_part(&mut outgoing, sent),
            }
        }
        self.core
            .buffers
            .return_from_writing(outgoing.take_buffer());
        true
    }

    #[cold]
    fn sent_in_part(&self, outgoing: &mut Outgoing, sent: io::Result<usize>) -> bool {
        if let Some(count) = self.sent(sent) {
            outgoing.consume(count);
        }
        false
    }

    /// Hands what is unsent to the system, as much as it takes.
    pub(super) fn flush(&self) {
        if self.flags.has(Flags::ATTACHED) {
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
        while !outgoing.is_empty() && self.flags.has(Flags::WRITABLE) {
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
        while self.flags.has(Flags::WRITABLE) && !self.flags.has(Flags::FILE_RESTS) {
            let (mut outgoing, mut rarities) =
                (self.outgoing.borrow_mut(), self.rarities.borrow_mut());
            let Some(rarities) = rarities.as_mut() else {
                return;
            };
            if file_calls == FILE_CALLS_PER_TURN {
                // The rest is the next turn's.
                self.flags.add(Flags::FILE_RESTS);
                return self.mark_again();
            }
            let goes_on = match self.socket.borrow().as_ref() {
                Some(socket) => self.send_next(&**socket, &mut outgoing, rarities, &mut file_calls),
                None => return,
            };
            if rarities.attachments.is_empty() {
                self.flags.remove(Flags::ATTACHED);
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
                    self.flags.remove(Flags::WRITABLE);
                    self.watch_room(true);
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

    /// Who has nothing to send need not hear of room for it.
    pub(super) fn rest(&self) {
        let among = Flags::ROOM_WATCHED | Flags::WRITABLE | Flags::DIRTY;
        let is_idle = self.flags.are(Flags::ROOM_WATCHED | Flags::WRITABLE, among);
        // Who was told that it may go on, and has written more, is dirty.
        if is_idle && self.is_flushed() {
            self.watch_room(false);
        }
    }

    #[cold]
    fn watch_room(&self, on: bool) {
        if self.flags.has(Flags::ROOM_WATCHED) == on {
            return;
        }
        match self.ask(|socket| socket.watch_room(self.token, on)) {
            Ok(is_asked) => {
                self.flags.replace(Flags::ROOM_WATCHED, on && is_asked);
            }
            Err(error) => self.doom(ConnectionLost::Io(error)),
        }
    }

    /// Sends what the system takes at once, if nothing waits before it.
    pub(super) fn try_send(&self, data: &[u8]) -> io::Result<usize> {
        if self.ending.get() != Ending::Open || self.flags.has(Flags::WRITE_ENDING) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        if data.is_empty() {
            return Ok(0);
        }
        if !self.is_flushed() || !self.flags.has(Flags::WRITABLE) {
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

    /// A write that is large, together with what waits before it, or comes where too much is
    /// unsent.
    #[inline(never)]
    pub(super) fn write_much(&self, outgoing: &mut Outgoing, data: &[u8]) {
        let mut rest = data;
        let goes_at_once = self
            .flags
            .are(Flags::WRITABLE, Flags::WRITABLE | Flags::ATTACHED);
        if outgoing.len() + data.len() >= DIRECT_WRITE && goes_at_once {
            rest = self.write_direct(outgoing, data);
        }
        // Not what this callback alone has written: the peer had no chance to take that, and
        // gets one (see `mind_the_marks`).
        if self.flags.has(Flags::OVERFULL) {
            let limit = self.limits().unsent_max;
            if outgoing.len() > limit && self.flags.has(Flags::BROKEN) {
                // Nobody will get it, and what has come is still to be read.
                return self.flags.add(Flags::SPILT);
            }
            if outgoing.len() > limit {
                return self.doom(ConnectionLost::Overrun { limit });
            }
        }
        outgoing.push(rest, || self.core.buffers.take_for_writing());
        self.mark_dirty();
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
        if self.flags.has(Flags::AWAITED)
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

    /// Fires for those whose bytes have all been taken; in the next turn, if that has been so too
    /// often in this one.
    pub(super) fn fire_flushes(&self) {
        if !self.flags.has(Flags::AWAITED) || !self.is_flush_done() {
            return;
        }
        // Who waits for the end has nothing more to write.
        if self.ending.get() == Ending::Open && !self.may_fire() {
            return self.mark_again();
        }
        while self.flags.has(Flags::AWAITED) {
            // Detach, then call.
            let trigger = match self.rarities.borrow_mut().as_mut() {
                Some(rarities) if rarities.flushes.first().is_some_and(|f| f.left == 0) => {
                    rarities.flushes.remove(0).trigger
                }
                Some(rarities) => {
                    let is_awaited = !rarities.flushes.is_empty();
                    self.flags.replace(Flags::AWAITED, is_awaited);
                    return;
                }
                None => return,
            };
            trigger.callback(());
        }
    }

    fn is_flush_done(&self) -> bool {
        let rarities = self.rarities.borrow();
        let first = rarities.as_ref().and_then(|it| it.flushes.first());
        first.is_some_and(|flush| flush.left == 0)
    }

    fn may_fire(&self) -> bool {
        let turn = self.core.stop_watch.turns();
        let mut rarities = self.rarities.borrow_mut();
        let firings = &mut rarities.get_or_insert_default().firings;
        if firings.0 != turn {
            *firings = (turn, 0);
        }
        firings.1 += 1;
        firings.1 <= FIRINGS_PER_TURN
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
        if buffered == 0 && !self.flags.has(Flags::CHOKED) && !self.flags.has(Flags::ATTACHED) {
            // As it mostly is: no mark can have been passed.
            return self.mind_the_cap(false);
        }
        let limits = self.limits();
        self.mind_the_cap(buffered > limits.unsent_max);
        let unsent = buffered.saturating_add(self.file_bytes());
        let choked = self.flags.has(Flags::CHOKED);
        let is_broken = self.flags.has(Flags::BROKEN);
        if !choked && !is_broken && unsent > limits.unsent_high {
            self.flags.add(Flags::CHOKED);
            self.tell(|receiver| receiver.write_paused());
        } else if choked && unsent <= limits.unsent_low {
            self.flags.remove(Flags::CHOKED);
            if !self.flags.replace(Flags::CHOKE_UNTOLD, false) {
                self.tell(|receiver| receiver.write_resumed());
            }
            if self.flags.has(Flags::READABLE) {
                self.mark_again();
            }
        }
    }

    /// What one callback has written beyond the cap has a while to leave.
    #[inline]
    fn mind_the_cap(self: &Rc<Self>, overfull: bool) {
        if overfull != self.flags.replace(Flags::OVERFULL, overfull) {
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
        if !self.flags.has(Flags::ATTACHED) {
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
