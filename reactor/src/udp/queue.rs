//! Datagrams that the system did not take yet.
//!
//! # Order
//!
//! First in, first out: of all that waits for the system, and of what waits for each UNIX socket
//! that has no room. Those do not wait for each other.
//!
//! # Design
//!
//! Who waits for a receiver is told by nobody when there is room, so receivers are visited in turn;
//! an ordered map finds each by its name, and goes on where the last visits ended.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::time::{Duration, Instant};

use crate::address::{Address, UnixAddress};
use crate::udp::DatagramLimits;

/// What a datagram counts besides its bytes, so that empty ones have a bound, too.
const OWN_SIZE: usize = 64;
/// The part of the queue that one receiver may have: one that never reads leaves room for the others.
const SHARES: usize = 4;
/// Who has taken nothing for so long does not stop the writer any more: twice the longest pause.
const SILENCE: Duration = Duration::from_millis(200);
/// When a receiver without room is asked again: soon, for it may just be busy; later, if it is not
/// that.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));

#[derive(Debug)]
pub(super) struct Queue {
    /// What waits for the system: for room of our own, or that of the peer we are connected to.
    system: Line,
    /// What waits for receivers that have no room.
    ///
    /// Invariant: none of the lines is empty.
    receivers: BTreeMap<UnixAddress, Line>,
    /// Invariant: the sums of what is in the lines.
    len: usize,
    size: usize,
    /// Who was visited last.
    last: Option<UnixAddress>,
    pause: Duration,
}

#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<Waiting>,
    size: usize,
    /// When it began to wait, or moved last.
    since: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Waiting {
    /// `None`: to whom the port is connected.
    pub(super) to: Option<Address>,
    pub(super) data: Box<[u8]>,
}

/// A line of the queue: the system's, for `None`.
pub(super) type Name<'a> = Option<&'a UnixAddress>;

impl Queue {
    pub(super) fn new() -> Self {
        Self {
            system: Line::default(),
            receivers: BTreeMap::new(),
            len: 0,
            size: 0,
            last: None,
            pause: PAUSES.0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// What the writer may be paused for: not what waits for receivers that seem to be gone, for then
    /// one of them would stop it for all.
    pub(super) fn size_that_moves(&self, now: Instant) -> usize {
        let lines = self.receivers.values();
        let silent = lines.filter(|line| line.is_stuck(SILENCE, now));
        self.size - silent.map(|line| line.size).sum::<usize>()
    }

    /// Whether something waits that what goes there must not overtake.
    #[inline]
    pub(super) fn is_before(&self, to: Option<&Address>) -> bool {
        self.len > 0 && self.line(line_of(to)).is_some()
    }

    fn line(&self, name: Name<'_>) -> Option<&Line> {
        match name {
            None => Some(&self.system).filter(|line| !line.waiting.is_empty()),
            Some(name) => self.receivers.get(name),
        }
    }

    /// Appends a datagram, unless the queue would then have more than it may; then it gives the
    /// limit.
    pub(super) fn push(
        &mut self,
        data: &[u8],
        to: Option<&Address>,
        limits: &DatagramLimits,
        now: Instant,
    ) -> Result<(), usize> {
        let (size, name) = (data.len() + OWN_SIZE, line_of(to));
        if self.size + size > limits.queue_max {
            return Err(limits.queue_max);
        }
        let share = limits.queue_max / SHARES;
        let waits = self.line(name).map_or(0, |line| line.size);
        if name.is_some() && waits + size > share {
            return Err(share);
        }
        let waiting = Waiting {
            to: to.cloned(),
            data: data.into(),
        };
        self.len += 1;
        self.size += size;
        let line = match name {
            None => &mut self.system,
            Some(name) => self.receivers.entry(name.clone()).or_default(),
        };
        line.append(waiting, now);
        Ok(())
    }

    pub(super) fn front(&self, name: Name<'_>) -> Option<&Waiting> {
        self.line(name)?.waiting.front()
    }

    /// The first of a line has left.
    pub(super) fn drop_front(&mut self, name: Name<'_>, now: Instant) {
        let line = match name {
            None => &mut self.system,
            Some(name) => match self.receivers.get_mut(name) {
                Some(line) => line,
                None => return,
            },
        };
        let Some(gone) = line.waiting.pop_front() else {
            return;
        };
        let size = gone.data.len() + OWN_SIZE;
        line.size -= size;
        line.since = Some(now);
        self.len -= 1;
        self.size -= size;
        if let Some(name) = name.filter(|_| line.waiting.is_empty()) {
            self.receivers.remove(name);
        }
    }

    /// Whether a line has not moved for so long.
    pub(super) fn is_stuck(&self, name: Name<'_>, limit: Duration, now: Instant) -> bool {
        self.line(name)
            .is_some_and(|line| line.is_stuck(limit, now))
    }

    /// Drops a whole line, and says how many there were.
    pub(super) fn give_up(&mut self, name: Name<'_>) -> usize {
        let line = match name {
            None => Some(std::mem::take(&mut self.system)),
            Some(name) => self.receivers.remove(name),
        };
        let line = line.unwrap_or_default();
        self.len -= line.waiting.len();
        self.size -= line.size;
        line.waiting.len()
    }

    /// Whose turn it is to be asked whether there is room: so many at most.
    pub(super) fn next_receivers(&mut self, count: usize) -> Vec<UnixAddress> {
        let after = match self.last.take() {
            Some(last) => (Bound::Excluded(last), Bound::Unbounded),
            None => (Bound::Unbounded, Bound::Unbounded),
        };
        let behind = self.receivers.range(after).map(|(name, _)| name);
        let all = behind.chain(self.receivers.keys());
        let all = all.take(count.min(self.receivers.len()));
        let next: Vec<UnixAddress> = all.cloned().collect();
        self.last = next.last().cloned();
        next
    }

    /// Whether somebody waits for room of which nobody tells; of the system's an event does, if
    /// `is_told`.
    fn is_asked(&self, is_told: bool) -> bool {
        !self.receivers.is_empty() || (!is_told && !self.system.waiting.is_empty())
    }

    /// How long it is until they are asked again that tell of no room, or, if there are none, until
    /// who does is given up; `None` if nothing waits.
    pub(super) fn pause(&self, limit: Duration, is_told: bool, now: Instant) -> Option<Duration> {
        if self.is_asked(is_told) {
            return Some(self.pause);
        }
        let since = self.line(None).and_then(|line| line.since)?;
        Some(limit.saturating_sub(now.saturating_duration_since(since)))
    }

    /// They have been asked: whether any of them had room.
    pub(super) fn learn(&mut self, had_room: bool, is_told: bool) {
        let (first, longest) = PAUSES;
        self.pause = if had_room || !self.is_asked(is_told) {
            first
        } else {
            (2 * self.pause).min(longest)
        };
    }

    /// The port is connected to `peer`: what waited for it is before what is sent there now.
    pub(super) fn connected_to(&mut self, peer: &Address) {
        let waited = line_of(Some(peer)).and_then(|name| self.receivers.remove(name));
        let Some(mut line) = waited else {
            return;
        };
        for waiting in &mut line.waiting {
            waiting.to = None;
        }
        let later = std::mem::replace(&mut self.system, line);
        self.system.size += later.size;
        self.system.waiting.extend(later.waiting);
    }

    /// The port is connected to somebody else, or to nobody: what waits for `peer` does so still.
    pub(super) fn readdress(&mut self, peer: &Address) {
        for waiting in &mut self.system.waiting {
            waiting.to.get_or_insert_with(|| peer.clone());
        }
        if let Some(name) = line_of(Some(peer)) {
            let line = std::mem::take(&mut self.system);
            if let Some(since) = line.since.filter(|_| !line.waiting.is_empty()) {
                let receiver = self.receivers.entry(name.clone()).or_default();
                for waiting in line.waiting {
                    receiver.append(waiting, since);
                }
            }
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new();
    }
}

impl Line {
    fn is_stuck(&self, limit: Duration, now: Instant) -> bool {
        let since = self.since.filter(|_| !self.waiting.is_empty());
        since.is_some_and(|since| now.saturating_duration_since(since) >= limit)
    }

    fn append(&mut self, waiting: Waiting, now: Instant) {
        if self.waiting.is_empty() {
            self.since = Some(now);
        }
        self.size += waiting.data.len() + OWN_SIZE;
        self.waiting.push_back(waiting);
    }
}

/// Where something waits that goes there.
#[inline]
fn line_of(to: Option<&Address>) -> Name<'_> {
    match to {
        Some(Address::Unix(name)) => Some(name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: DatagramLimits = DatagramLimits {
        queue_high: 0,
        queue_low: 0,
        queue_max: 1024,
        wait_max: Duration::from_secs(1),
    };

    fn receiver(name: &str) -> Address {
        Address::Unix(UnixAddress::Path(name.into()))
    }

    fn name(address: &Address) -> Name<'_> {
        line_of(Some(address))
    }

    #[track_caller]
    fn push(queue: &mut Queue, data: &str, to: Option<&Address>, now: Instant) {
        let pushed = queue.push(data.as_bytes(), to, &LIMITS, now);
        pushed.expect("there is room");
    }

    fn front(queue: &Queue, name: Name<'_>) -> Option<String> {
        let front = queue.front(name)?;
        Some(String::from_utf8_lossy(&front.data).into_owned())
    }

    #[test]
    fn what_waits_leaves_in_order_and_is_counted() {
        let (mut queue, now) = (Queue::new(), crate::driver::os::now());
        push(&mut queue, "one", None, now);
        push(&mut queue, "", None, now);
        assert_eq!((queue.len(), queue.size()), (2, 3 + 2 * OWN_SIZE));
        assert_eq!(front(&queue, None).as_deref(), Some("one"));
        assert!(queue.is_before(None));
        queue.drop_front(None, now);
        queue.drop_front(None, now);
        queue.drop_front(None, now);
        assert!(queue.is_empty() && !queue.is_before(None));
        assert_eq!(queue.size(), 0);
    }

    #[test]
    fn datagrams_without_bytes_have_a_bound_too() {
        let (mut queue, now) = (Queue::new(), crate::driver::os::now());
        let taken = (0..1000).filter(|_| queue.push(b"", None, &LIMITS, now).is_ok());
        assert_eq!(taken.count(), 16);
        assert_eq!(queue.push(b"", None, &LIMITS, now), Err(1024));
    }

    #[test]
    fn receivers_do_not_wait_for_each_other_and_have_a_share_each() {
        let (mut queue, now) = (Queue::new(), crate::driver::os::now());
        let (one, two) = (receiver("one"), receiver("two"));
        push(&mut queue, "first", Some(&one), now);
        assert!(queue.is_before(Some(&one)) && !queue.is_before(Some(&two)));
        assert!(!queue.is_before(None));
        push(&mut queue, "second", Some(&one), now);
        push(&mut queue, "other", Some(&two), now);
        queue.drop_front(name(&one), now);
        assert_eq!(front(&queue, name(&one)).as_deref(), Some("second"));
        assert_eq!(front(&queue, name(&two)).as_deref(), Some("other"));
        queue.drop_front(name(&one), now);
        assert!(!queue.is_before(Some(&one)));
        let more = (0..).take_while(|_| queue.push(b"", Some(&two), &LIMITS, now).is_ok());
        assert_eq!(more.count(), 2);
        assert_eq!(queue.push(b"", Some(&two), &LIMITS, now), Err(256));
        push(&mut queue, "", Some(&one), now);
        assert_eq!(queue.give_up(name(&two)), 3);
        assert_eq!((queue.len(), queue.size()), (1, OWN_SIZE));
    }

    #[test]
    fn receivers_are_asked_in_turn() {
        let (mut queue, now) = (Queue::new(), crate::driver::os::now());
        let all = ["a", "b", "c"].map(receiver);
        for to in &all {
            push(&mut queue, "x", Some(to), now);
        }
        let mut asked = |count| -> Vec<String> {
            let next = queue.next_receivers(count);
            let names = next.iter().map(ToString::to_string);
            names.map(|name| name.replace("unix:", "")).collect()
        };
        assert_eq!(asked(2), ["a", "b"]);
        assert_eq!(asked(2), ["c", "a"]);
        assert_eq!(asked(9), ["b", "c", "a"]);
        for to in &all[1..] {
            queue.give_up(name(to));
        }
        assert_eq!(queue.next_receivers(9).len(), 1);
        queue.give_up(name(&all[0]));
        assert_eq!(queue.next_receivers(9).len(), 0);
    }

    #[test]
    fn the_pauses_grow_while_nobody_has_room() {
        let (mut queue, now) = (Queue::new(), crate::driver::os::now());
        let to = receiver("full");
        let pause = |queue: &Queue| queue.pause(LIMITS.wait_max, true, now);
        assert_eq!(pause(&queue), None);
        push(&mut queue, "x", Some(&to), now);
        let mut pauses = vec![];
        for _ in 0..9 {
            pauses.extend(pause(&queue).map(|pause| pause.as_millis()));
            queue.learn(false, true);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 100, 100]);
        queue.learn(true, true);
        assert_eq!(pause(&queue), Some(PAUSES.0));
    }

    #[test]
    fn the_pauses_grow_also_for_a_peer_of_whose_room_nobody_tells() {
        let (mut queue, now) = (Queue::new(), crate::driver::os::now());
        push(&mut queue, "x", None, now);
        let mut pauses = vec![];
        for _ in 0..3 {
            let pause = queue.pause(LIMITS.wait_max, false, now);
            pauses.extend(pause.map(|pause| pause.as_millis()));
            queue.learn(false, false);
        }
        assert_eq!(pauses, [1, 2, 4]);
        queue.learn(true, false);
        assert_eq!(queue.pause(LIMITS.wait_max, false, now), Some(PAUSES.0));
    }

    #[test]
    fn who_is_told_of_room_is_asked_when_it_is_to_be_given_up() {
        let (mut queue, now) = (Queue::new(), crate::driver::os::now());
        push(&mut queue, "x", None, now);
        let limit = LIMITS.wait_max;
        assert_eq!(queue.pause(limit, true, now), Some(limit));
        assert_eq!(
            queue.pause(limit, true, now + limit / 4),
            Some(limit * 3 / 4)
        );
        assert_eq!(
            queue.pause(limit, true, now + 2 * limit),
            Some(Duration::ZERO)
        );
    }

    #[test]
    fn a_line_is_stuck_when_it_has_not_moved_for_the_limit() {
        let (mut queue, now) = (Queue::new(), crate::driver::os::now());
        let (to, limit) = (receiver("full"), LIMITS.wait_max);
        push(&mut queue, "x", Some(&to), now);
        push(&mut queue, "y", Some(&to), now + limit);
        let stuck = |queue: &Queue, after| queue.is_stuck(name(&to), limit, now + after);
        assert!(!stuck(&queue, limit / 2) && stuck(&queue, limit));
        queue.drop_front(name(&to), now + limit);
        assert!(!stuck(&queue, limit) && stuck(&queue, 2 * limit));
        assert!(!queue.is_stuck(None, limit, now + 2 * limit));
    }

    #[test]
    fn what_waits_for_a_peer_does_so_when_the_port_is_connected_to_it_no_more() {
        let (mut queue, now) = (Queue::new(), crate::driver::os::now());
        let ip = Address::Udp(std::net::SocketAddr::from(([127, 0, 0, 1], 7)));
        push(&mut queue, "x", None, now);
        queue.readdress(&ip);
        let to = queue.front(None).and_then(|waiting| waiting.to.clone());
        assert_eq!(to, Some(ip));
        queue.clear();
        let peer = receiver("peer");
        push(&mut queue, "before", Some(&peer), now);
        push(&mut queue, "x", None, now);
        queue.readdress(&peer);
        assert!(!queue.is_before(None));
        assert_eq!(front(&queue, name(&peer)).as_deref(), Some("before"));
        queue.drop_front(name(&peer), now);
        assert_eq!(front(&queue, name(&peer)).as_deref(), Some("x"));
        assert_eq!((queue.len(), queue.size()), (1, 1 + OWN_SIZE));
        queue.drop_front(name(&peer), now);
        assert_eq!((queue.len(), queue.size()), (0, 0));
    }
}
