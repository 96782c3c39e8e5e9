//! One direction of a simulated TCP connection: bytes from a writer to a reader.
//!
//! A [`Lane`] knows which bytes are where, and nothing of time or links: those it is
//! told by the network, which asks it what may be sent and tells it what came of it.
//!
//! ```text
//!   write ─▶ │ unsent │ in flight │ arrived │ ─▶ read
//!            ◀────── unacknowledged ──────▶
//!                     ◀──── window ────▶       (what the sender believes)
//! ```
//!
//! # Invariants
//!
//! Bytes arrive in order and once. No more bytes are taken while [`SEND_BUFFER`] are
//! unacknowledged, and none sent while [`RECEIVE_BUFFER`] are in flight or unread.

use std::collections::VecDeque;

/// What a host takes from a writer before its peer has acknowledged it, if the writer asks for
/// nothing else.
pub(super) const SEND_BUFFER: usize = 256 * 1024;
/// What a host keeps for a reader that does not read, if that asks for nothing else.
pub(super) const RECEIVE_BUFFER: usize = 128 * 1024;
/// What both have at least: Linux's.
const BUFFER_MIN: usize = 2304;
/// What Nagle waits for: an Ethernet segment.
const SEGMENT: usize = 1448;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum End {
    /// The writer may write.
    #[default]
    Open,
    /// It has ended its stream; that leaves behind the last byte.
    Ending,
    /// The end is on its way.
    InFlight,
    /// The reader has it, behind the bytes that have arrived.
    Arrived,
}

/// What travels at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) len: usize,
    /// The stream ends behind it.
    pub(super) end: bool,
}

/// What the reader's host tells the writer's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ack {
    /// So many bytes more have arrived.
    pub(super) arrived: usize,
    /// So many bytes more have been read.
    pub(super) read: usize,
}

#[derive(Debug)]
pub(super) struct Lane {
    /// Arrived, in flight and unsent, in this order.
    bytes: VecDeque<u8>,
    arrived: usize,
    in_flight: usize,
    /// Written, and not known to the writer's host to have arrived.
    unacknowledged: usize,
    /// Sent, and not known to the writer's host to have been read.
    window: usize,
    /// What has happened here and was not told to the writer's host.
    untold: Ack,
    end: End,
    nagle: bool,
    send_buffer: usize,
    receive_buffer: usize,
}

impl Default for Lane {
    fn default() -> Self {
        Self {
            bytes: VecDeque::new(),
            arrived: 0,
            in_flight: 0,
            unacknowledged: 0,
            window: 0,
            untold: Ack::default(),
            end: End::default(),
            nagle: false,
            send_buffer: SEND_BUFFER,
            receive_buffer: RECEIVE_BUFFER,
        }
    }
}

impl Lane {
    /// Takes bytes from the writer; gives how many.
    pub(super) fn write(&mut self, data: &[u8]) -> usize {
        let room = self.send_buffer.saturating_sub(self.unacknowledged);
        let count = data.len().min(room);
        self.bytes.extend(&data[..count]);
        self.unacknowledged += count;
        count
    }

    /// Whether there is so much room that a writer who found none is told: a third, as on
    /// Linux, so that it does not come back for every byte.
    pub(super) fn is_roomy(&self) -> bool {
        self.unacknowledged <= self.send_buffer / 3 * 2
    }

    pub(super) fn send_buffer(&self) -> usize {
        self.send_buffer
    }

    /// From now on; what is there stays.
    pub(super) fn set_send_buffer(&mut self, bytes: usize) {
        self.send_buffer = bytes.max(BUFFER_MIN);
    }

    pub(super) fn receive_buffer(&self) -> usize {
        self.receive_buffer
    }

    /// From now on; what is there stays.
    pub(super) fn set_receive_buffer(&mut self, bytes: usize) {
        self.receive_buffer = bytes.max(BUFFER_MIN);
    }

    /// How much the writer's host does not know to have arrived.
    pub(super) fn unacknowledged(&self) -> usize {
        self.unacknowledged
    }

    /// Whether the writer's host knows that everything has arrived.
    pub(super) fn is_delivered(&self) -> bool {
        self.unacknowledged == 0
    }

    /// The writer ends its stream.
    pub(super) fn end(&mut self) {
        if self.end == End::Open {
            self.end = End::Ending;
        }
    }

    pub(super) fn is_ended(&self) -> bool {
        self.end != End::Open
    }

    pub(super) fn set_nagle(&mut self, nagle: bool) {
        self.nagle = nagle;
    }

    fn unsent(&self) -> usize {
        self.bytes.len() - self.arrived - self.in_flight
    }

    /// What may be sent now. [`sent`](Self::sent) says that it was.
    pub(super) fn next_segment(&self) -> Option<Segment> {
        let unsent = self.unsent();
        let len = unsent.min(self.receive_buffer.saturating_sub(self.window));
        // RFC 896: a small segment waits until everything before it is acknowledged.
        if self.nagle && len < SEGMENT && self.unacknowledged > unsent && self.end == End::Open {
            return None;
        }
        let end = self.end == End::Ending && len == unsent;
        (len > 0 || end).then_some(Segment { len, end })
    }

    /// Whether only the reader's slowness keeps bytes here.
    pub(super) fn waits_for_reader(&self) -> bool {
        self.unsent() > 0 && self.window >= self.receive_buffer
    }

    pub(super) fn sent(&mut self, segment: Segment) {
        self.in_flight += segment.len;
        self.window += segment.len;
        if segment.end {
            self.end = End::InFlight;
        }
    }

    /// A segment will not arrive; it is unsent again, and so is what was sent after it.
    pub(super) fn lost(&mut self, segment: Segment) {
        self.in_flight -= segment.len;
        self.window -= segment.len;
        if segment.end {
            self.end = End::Ending;
        }
    }

    /// A segment has reached the reader's host.
    pub(super) fn arrive(&mut self, segment: Segment) {
        self.in_flight -= segment.len;
        self.arrived += segment.len;
        self.untold.arrived += segment.len;
        if segment.end {
            self.end = End::Arrived;
        }
    }

    /// What the reader's host has to tell the writer's.
    pub(super) fn take_ack(&mut self) -> Ack {
        std::mem::take(&mut self.untold)
    }

    /// What was told was not heard.
    pub(super) fn untell(&mut self, ack: Ack) {
        self.untold.arrived += ack.arrived;
        self.untold.read += ack.read;
    }

    /// Whether something is on its way to the reader.
    pub(super) fn is_flying(&self) -> bool {
        self.in_flight > 0
    }

    pub(super) fn has_untold(&self) -> bool {
        self.untold != Ack::default()
    }

    pub(super) fn has_arrivals_untold(&self) -> bool {
        self.untold.arrived > 0
    }

    /// The writer's host has heard from the reader's.
    pub(super) fn acknowledge(&mut self, ack: Ack) {
        self.unacknowledged -= ack.arrived;
        self.window -= ack.read;
    }

    /// How many bytes a read may take.
    pub(super) fn readable(&self) -> usize {
        self.arrived
    }

    /// Whether a read gives the end of the stream.
    pub(super) fn is_read_out(&self) -> bool {
        self.arrived == 0 && self.end == End::Arrived
    }

    pub(super) fn has_end_arrived(&self) -> bool {
        self.end == End::Arrived
    }

    /// Gives bytes to the reader: at most what has arrived.
    pub(super) fn read(&mut self, buffer: &mut [u8]) {
        debug_assert!(
            buffer.len() <= self.arrived,
            "only what has arrived is read"
        );
        let (front, back) = self.bytes.as_slices();
        let (first, second) = buffer.split_at_mut(buffer.len().min(front.len()));
        first.copy_from_slice(&front[..first.len()]);
        second.copy_from_slice(&back[..second.len()]);
        self.bytes.drain(..buffer.len());
        self.arrived -= buffer.len();
        self.untold.read += buffer.len();
    }

    /// The writer's host is gone: only what has left it will arrive.
    pub(super) fn forget_unsent(&mut self) {
        let unsent = self.unsent();
        self.bytes.truncate(self.bytes.len() - unsent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn bytes_arrive_in_order_and_once_whatever_the_steps() {
        for seed in 0..200 {
            let (mut random, mut lane) = (Random::new(seed), Lane::default());
            let (mut written, mut seen, mut flying) = (Vec::new(), Vec::new(), VecDeque::new());
            let mut acks = VecDeque::new();
            for _ in 0..300 {
                match random.below(6) {
                    0 => {
                        let data: Vec<u8> = (0..random.below(60_000))
                            .map(|n| n as u8 ^ seed as u8)
                            .collect();
                        let count = lane.write(&data);
                        written.extend_from_slice(&data[..count]);
                    }
                    1 => {
                        if let Some(segment) = lane.next_segment() {
                            lane.sent(segment);
                            flying.push_back(segment);
                        }
                    }
                    2 => {
                        if let Some(segment) = flying.pop_front() {
                            lane.arrive(segment);
                        }
                    }
                    3 => {
                        let mut buffer = vec![0; random.index(lane.readable() + 1)];
                        lane.read(&mut buffer);
                        seen.extend_from_slice(&buffer);
                    }
                    4 => acks.push_back(lane.take_ack()),
                    _ => {
                        if let Some(ack) = acks.pop_front() {
                            lane.acknowledge(ack);
                        }
                    }
                }
                assert!(lane.unacknowledged <= SEND_BUFFER && lane.window <= RECEIVE_BUFFER);
                assert!(written.starts_with(&seen), "in order, each once");
            }
        }
    }

    #[test]
    fn the_end_arrives_behind_the_last_byte() {
        let mut lane = Lane::default();
        assert_eq!(lane.write(b"last"), 4);
        lane.end();
        let segment = lane.next_segment().expect("there is something to send");
        assert_eq!(segment, Segment { len: 4, end: true });
        lane.sent(segment);
        lane.arrive(segment);
        assert!(!lane.is_read_out());
        lane.read(&mut [0; 4]);
        assert!(lane.is_read_out());
    }

    #[test]
    fn nagle_holds_a_small_segment_until_the_one_before_is_acknowledged() {
        let mut lane = Lane::default();
        lane.set_nagle(true);
        lane.write(b"one");
        let first = lane.next_segment().expect("nothing is before it");
        lane.sent(first);
        lane.write(b"two");
        assert_eq!(lane.next_segment(), None);
        lane.arrive(first);
        let ack = lane.take_ack();
        lane.acknowledge(ack);
        assert!(lane.next_segment().is_some());
    }

    #[test]
    fn a_writer_that_is_gone_leaves_what_is_on_its_way() {
        let mut lane = Lane::default();
        lane.write(b"sent");
        let segment = lane.next_segment().expect("there is something to send");
        lane.sent(segment);
        lane.write(b"unsent");
        lane.forget_unsent();
        lane.arrive(segment);
        assert_eq!(lane.bytes, b"sent");
    }
}
