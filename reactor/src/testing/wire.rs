//! One direction of a wire in memory: a plain value.
//!
//! What the writer hands over is *in flight* until a step lets the next chunk *arrive*;
//! from there the reader takes it. Both together count against the capacity, as the two
//! buffers of a socket do.

use std::collections::VecDeque;
use std::io;

/// In which pieces bytes arrive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Chunks {
    /// All that is in flight, at once.
    #[default]
    Whole,
    /// Pieces of this size.
    Of(usize),
    /// Pieces of these sizes, over and over.
    Sizes(Vec<usize>),
}

impl Chunks {
    /// The size of the chunk with this number; at least 1.
    fn size(&self, number: usize) -> usize {
        let size = match self {
            Self::Whole => usize::MAX,
            Self::Of(size) => *size,
            Self::Sizes(sizes) if sizes.is_empty() => usize::MAX,
            Self::Sizes(sizes) => sizes[number % sizes.len()],
        };
        size.max(1)
    }
}

/// What comes behind the last byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tail {
    /// More bytes, as far as anybody knows.
    #[default]
    Open,
    /// The end of the stream.
    End,
    /// An error: the wire was cut, or the other side reset it.
    Broken(io::ErrorKind),
}

/// What a step brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Arrival {
    pub(super) bytes: bool,
    pub(super) tail: bool,
}

#[derive(Debug)]
pub(super) struct Lane {
    in_flight: VecDeque<u8>,
    /// What is in flight becomes chunks when it arrives, and stays so until it is read.
    arrived: VecDeque<Vec<u8>>,
    /// How much of the first chunk has been read.
    taken: usize,
    /// What the writer put behind its last byte, and what of that has arrived.
    tail: Tail,
    arrived_tail: Tail,
    pub(super) chunks: Chunks,
    chunk_number: usize,
    pub(super) held: bool,
    /// Steps that each chunk waits, and those that the next one still has to.
    pub(super) delay: usize,
    delay_left: usize,
    pub(super) capacity: usize,
    /// A write found no room, and nobody has told the writer since that there is some.
    refused: bool,
    /// The reader left something, and is to be told again.
    left: bool,
}

impl Lane {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            in_flight: VecDeque::new(),
            arrived: VecDeque::new(),
            taken: 0,
            tail: Tail::Open,
            arrived_tail: Tail::Open,
            chunks: Chunks::Whole,
            chunk_number: 0,
            held: false,
            delay: 0,
            delay_left: 0,
            capacity,
            refused: false,
            left: false,
        }
    }

    /// Bytes that the writer handed over and that have not arrived.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Bytes that have arrived and that nobody has read.
    pub(super) fn unread(&self) -> usize {
        self.arrived.iter().map(Vec::len).sum::<usize>() - self.taken
    }

    fn room(&self) -> usize {
        let held = self.in_flight() + self.unread();
        self.capacity.saturating_sub(held)
    }

    /// Takes as much of `data` as there is room for.
    pub(super) fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.tail != Tail::Open {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let count = data.len().min(self.room());
        if count == 0 && !data.is_empty() {
            self.refused = true;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if self.in_flight.is_empty() {
            self.delay_left = self.delay;
        }
        self.in_flight.extend(&data[..count]);
        Ok(count)
    }

    /// Takes the next chunk, or as much of it as fits.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(chunk) = self.arrived.front() else {
            return match self.arrived_tail {
                Tail::Open => Err(io::ErrorKind::WouldBlock.into()),
                Tail::End => Ok(0),
                Tail::Broken(kind) => Err(kind.into()),
            };
        };
        let rest = &chunk[self.taken..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.taken += count;
        if self.taken == chunk.len() {
            self.arrived.pop_front();
            self.taken = 0;
        }
        self.left = !self.arrived.is_empty() || self.arrived_tail != Tail::Open;
        Ok(count)
    }

    /// Ends the stream behind what is in flight.
    pub(super) fn end(&mut self) {
        if self.tail == Tail::Open {
            self.tail = Tail::End;
        }
    }

    /// Breaks it: what is in flight never arrives.
    pub(super) fn break_off(&mut self, kind: io::ErrorKind) {
        self.in_flight.clear();
        self.delay_left = self.delay;
        if !matches!(self.tail, Tail::Broken(_)) {
            self.tail = Tail::Broken(kind);
        }
    }

    /// What has become of the reader's side, if it is broken.
    pub(super) fn error(&self) -> Option<io::ErrorKind> {
        match self.arrived_tail {
            Tail::Broken(kind) => Some(kind),
            Tail::Open | Tail::End => None,
        }
    }

    /// Whether the reader has heard of the end, of whatever kind.
    pub(super) fn is_over(&self) -> bool {
        self.arrived_tail != Tail::Open
    }

    /// Lets the next chunk arrive; when there is none any more, what is behind it.
    pub(super) fn step(&mut self) -> Arrival {
        let mut arrival = Arrival {
            bytes: std::mem::take(&mut self.left),
            tail: false,
        };
        if self.held || !self.is_travelling() {
            return arrival;
        }
        if self.delay_left > 0 {
            self.delay_left -= 1;
            return arrival;
        }
        self.delay_left = self.delay;
        if !self.in_flight.is_empty() {
            let size = self.chunks.size(self.chunk_number).min(self.in_flight());
            self.chunk_number += 1;
            self.arrived
                .push_back(self.in_flight.drain(..size).collect());
            arrival.bytes = true;
        }
        if self.in_flight.is_empty() && self.tail != self.arrived_tail {
            self.arrived_tail = self.tail;
            arrival.tail = true;
        }
        arrival
    }

    /// Whether the writer, who was refused, is to be told that there is room.
    pub(super) fn take_room(&mut self) -> bool {
        let told = self.refused && self.room() > 0;
        self.refused &= !told;
        told
    }

    fn is_travelling(&self) -> bool {
        !self.in_flight.is_empty() || self.tail != self.arrived_tail
    }

    /// Whether a step would do something.
    pub(super) fn is_busy(&self) -> bool {
        let has_room = self.refused && self.room() > 0;
        self.left || has_room || (!self.held && self.is_travelling())
    }

    /// Bytes arrive where nobody reads any more.
    pub(super) fn discard_arrived(&mut self) -> bool {
        let any = !self.arrived.is_empty();
        self.arrived.clear();
        self.taken = 0;
        self.left = false;
        any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lane: &mut Lane) -> io::Result<Vec<u8>> {
        let mut buffer = [0; 64];
        let count = lane.read(&mut buffer)?;
        Ok(buffer[..count].to_vec())
    }

    fn check_blocks<T: std::fmt::Debug>(outcome: io::Result<T>) {
        let error = outcome.expect_err("it blocks");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn bytes_arrive_in_order_in_the_chunks_that_were_asked_for_and_then_the_end() {
        for (chunks, expected) in [
            (Chunks::Whole, vec!["abcdefg"]),
            (Chunks::Of(3), vec!["abc", "def", "g"]),
            (Chunks::Of(0), vec!["a", "b", "c", "d", "e", "f", "g"]),
            (Chunks::Sizes(vec![1, 4]), vec!["a", "bcde", "f", "g"]),
            (Chunks::Sizes(vec![]), vec!["abcdefg"]),
        ] {
            let mut lane = Lane::new(64);
            lane.chunks = chunks;
            assert_eq!(lane.write(b"abcdefg").expect("there is room"), 7);
            lane.end();
            check_blocks(read(&mut lane));
            let mut seen = Vec::new();
            while lane.is_busy() {
                lane.step();
                while let Ok(data @ [_, ..]) = read(&mut lane).as_deref() {
                    seen.push(String::from_utf8_lossy(data).into_owned());
                }
            }
            assert_eq!(seen, expected);
            assert_eq!(read(&mut lane).expect("the end"), b"");
        }
    }

    #[test]
    fn a_full_lane_refuses_and_says_once_when_there_is_room() {
        let mut lane = Lane::new(4);
        assert_eq!(lane.write(b"abcdef").expect("there is some room"), 4);
        check_blocks(lane.write(b"ef"));
        lane.step();
        assert!(!lane.take_room(), "what has arrived is in the way, too");
        read(&mut lane).expect("it has arrived");
        assert!(lane.take_room());
        assert!(!lane.take_room());
    }

    #[test]
    fn a_held_lane_brings_nothing_and_a_slow_one_after_so_many_steps() {
        let mut lane = Lane::new(64);
        lane.held = true;
        lane.delay = 2;
        lane.write(b"a").expect("there is room");
        assert!(!lane.is_busy());
        lane.step();
        check_blocks(read(&mut lane));
        lane.held = false;
        for _ in 0..2 {
            assert!(lane.is_busy());
            lane.step();
            check_blocks(read(&mut lane));
        }
        lane.step();
        assert_eq!(read(&mut lane).expect("it has arrived"), b"a");
    }

    #[test]
    fn what_breaks_loses_what_is_in_flight_and_not_what_has_arrived() {
        let mut lane = Lane::new(64);
        lane.write(b"there").expect("there is room");
        lane.step();
        lane.write(b"lost").expect("there is room");
        lane.break_off(io::ErrorKind::ConnectionReset);
        lane.step();
        assert_eq!(read(&mut lane).expect("it had arrived"), b"there");
        let error = read(&mut lane).expect_err("it is broken");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        let error = lane.write(b"more").expect_err("it is broken");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
