//! What stands among the bytes on their way out: parts of files, and descriptors.
//!
//! [`Attachments`] knows at which byte of the buffer each one stands. The connection asks
//! it what comes next, sends that, and says how far it came.
//!
//! # Order
//!
//! A part of a file leaves after the bytes that were written before it and before those
//! that were written after. A descriptor travels with the first byte that was written
//! after it; a part of a file is not written, so a descriptor waits until it is sent.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use crate::stream::FilePart;

/// Descriptors that wait to be sent. The system takes them in flight only as many as a
/// process may have open.
pub(super) const DESCRIPTORS_MAX: usize = 64;

/// A queue of attachments, each with the bytes of the buffer between the one before it, or
/// the front, and itself.
#[derive(Debug, Default)]
pub(super) struct Attachments {
    queue: VecDeque<(usize, Attachment)>,
    /// Invariant: the sum of the gaps in `queue`; at most what is in the buffer.
    gaps: usize,
    /// Invariant: how many in `queue` are descriptors.
    descriptors: usize,
    /// Invariant: the sum of the lengths of the parts of files in `queue`, as far as it fits.
    file_bytes: u64,
}

#[derive(Debug)]
enum Attachment {
    File(FilePart),
    Descriptor(OwnedFd),
}

/// What is to be sent next.
#[derive(Debug)]
pub(super) enum Next<'a> {
    /// So many bytes of the buffer, if it has as many.
    Bytes(usize),
    /// A part of a file.
    File(&'a FilePart),
    /// These, together with so many bytes of the buffer, if it has as many.
    Descriptors(Vec<&'a OwnedFd>, usize),
}

impl Attachments {
    /// A part of a file, after `buffered` bytes.
    pub(super) fn push_file(&mut self, buffered: usize, part: FilePart) {
        self.file_bytes = self.file_bytes.saturating_add(part.length);
        let mut gap = buffered - self.gaps;
        let mut place = self.queue.len();
        // Descriptors wait for a byte that is written: this goes before them.
        while gap == 0
            && place > 0
            && let Some((before, Attachment::Descriptor(_))) = self.queue.get_mut(place - 1)
        {
            place -= 1;
            gap = std::mem::take(before);
        }
        self.queue.insert(place, (gap, Attachment::File(part)));
        self.gaps = self.queue.iter().map(|(gap, _)| gap).sum();
    }

    /// A descriptor, with what is written after `buffered` bytes. It comes back if too
    /// many wait.
    pub(super) fn push_descriptor(&mut self, buffered: usize, fd: OwnedFd) -> Result<(), OwnedFd> {
        if self.descriptors == DESCRIPTORS_MAX {
            return Err(fd);
        }
        self.descriptors += 1;
        let gap = buffered - self.gaps;
        self.gaps = buffered;
        self.queue.push_back((gap, Attachment::Descriptor(fd)));
        Ok(())
    }

    /// What comes next.
    pub(super) fn next(&self) -> Next<'_> {
        let mut descriptors = Vec::new();
        for (gap, attachment) in &self.queue {
            if *gap > 0 {
                return self.bytes(descriptors, *gap);
            }
            match attachment {
                Attachment::Descriptor(fd) => descriptors.push(fd),
                Attachment::File(part) => {
                    debug_assert!(descriptors.is_empty(), "see `push_file`");
                    return Next::File(part);
                }
            }
        }
        self.bytes(descriptors, usize::MAX)
    }

    fn bytes<'a>(&self, descriptors: Vec<&'a OwnedFd>, count: usize) -> Next<'a> {
        if descriptors.is_empty() {
            Next::Bytes(count)
        } else {
            Next::Descriptors(descriptors, count)
        }
    }

    /// So many bytes of the buffer have been sent, and the descriptors in front of them.
    pub(super) fn bytes_sent(&mut self, count: usize) {
        if count == 0 {
            return;
        }
        while let Some((0, Attachment::Descriptor(_))) = self.queue.front() {
            self.queue.pop_front();
            self.descriptors -= 1;
        }
        if let Some((gap, _)) = self.queue.front_mut() {
            debug_assert!(count <= *gap, "more was sent than `next` said");
            *gap -= count;
            self.gaps -= count;
        }
    }

    /// So many bytes of the file in front have been sent.
    pub(super) fn file_sent(&mut self, count: u64) {
        self.file_bytes = self.file_bytes.saturating_sub(count);
        if let Some((0, Attachment::File(part))) = self.queue.front_mut() {
            part.offset += count;
            part.length -= count;
            if part.length == 0 {
                self.queue.pop_front();
            }
        }
    }

    /// How much of files is unsent.
    pub(super) fn file_bytes(&self) -> usize {
        usize::try_from(self.file_bytes).unwrap_or(usize::MAX)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::rc::Rc;

    use super::*;

    /// Plays a sender that is given `step` bytes of room at a time: what leaves, in order.
    fn sent(steps: &[&str], room: usize) -> String {
        let file = Rc::new(File::open("/dev/null").expect("it is there"));
        let (mut attachments, mut buffer, mut sent) =
            (Attachments::default(), String::new(), String::new());
        for step in steps {
            match *step {
                "file" => attachments.push_file(
                    buffer.len(),
                    FilePart {
                        file: Rc::clone(&file),
                        offset: 0,
                        length: 3,
                    },
                ),
                "descriptor" => attachments
                    .push_descriptor(
                        buffer.len(),
                        file.try_clone().expect("descriptors are left").into(),
                    )
                    .expect("there is room"),
                text => buffer.push_str(text),
            }
        }
        loop {
            let (descriptors, limit) = match attachments.next() {
                Next::Bytes(count) => (0, count),
                Next::Descriptors(descriptors, count) => (descriptors.len(), count),
                Next::File(part) => {
                    let count = part.length.min(room as u64);
                    attachments.file_sent(count);
                    sent.push_str(&"F".repeat(count as usize));
                    continue;
                }
            };
            let count = limit.min(buffer.len()).min(room);
            if count == 0 {
                break;
            }
            sent.push_str(&"!".repeat(descriptors));
            sent.extend(buffer.drain(..count));
            attachments.bytes_sent(count);
        }
        assert_eq!(buffer, "");
        sent
    }

    #[track_caller]
    fn check(steps: &[&str], expected: &str) {
        for room in 1..10 {
            assert_eq!(sent(steps, room), expected, "{room} at a time");
        }
    }

    #[test]
    fn files_keep_their_place_among_the_bytes() {
        check(
            &["ab", "file", "cde", "file", "file", "f"],
            "abFFFcdeFFFFFFf",
        );
        check(&["file"], "FFF");
    }

    #[test]
    fn descriptors_travel_with_the_next_byte_that_is_written() {
        check(
            &["ab", "descriptor", "cd", "descriptor", "descriptor", "e"],
            "ab!cd!!e",
        );
        check(&["descriptor", "a"], "!a");
    }

    #[test]
    fn a_file_overtakes_descriptors_that_wait_for_a_byte() {
        check(&["ab", "descriptor", "descriptor", "file", "c"], "abFFF!!c");
        check(&["a", "file", "descriptor", "file", "b"], "aFFFFFF!b");
        check(&["descriptor", "a", "descriptor", "file", "b"], "!aFFF!b");
    }

    #[test]
    fn a_descriptor_without_a_byte_after_it_waits() {
        check(&["ab", "descriptor"], "ab");
    }

    #[test]
    fn more_descriptors_than_may_wait_come_back() {
        let mut attachments = Attachments::default();
        let file = File::open("/dev/null").expect("it is there");
        let mut push = || {
            let fd = file.try_clone().expect("descriptors are left").into();
            attachments.push_descriptor(0, fd)
        };
        for _ in 0..DESCRIPTORS_MAX {
            push().expect("there is room");
        }
        push().expect_err("there is none");
        attachments.bytes_sent(1);
        assert!(attachments.is_empty());
    }
}
