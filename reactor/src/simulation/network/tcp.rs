//! What hosts do for their sockets: TCP.

use std::cmp::Reverse;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::descriptor::Readiness;
use crate::slab::Token;

use super::super::lane::{Ack, Segment};
use super::super::link::Fate;
use super::super::trace::Happening;
use super::{
    ANSWER_RETRIES, BROKEN, CONNECT_RETRIES, CONNECT_RETRY, Due, ENDED, EPHEMERAL, HEADERS, HostId,
    Network, Packet, Phase, READABLE, RETRIES, RETRY, RETRY_MAX, Ready, Side, SocketId, WRITABLE,
    What, merged,
};

impl Network {
    pub(super) fn side(&self, socket: SocketId) -> Option<&Side> {
        let connection = self.connections.get(socket.connection)?;
        Some(&connection.sides[socket.side])
    }

    pub(super) fn side_mut(&mut self, socket: SocketId) -> Option<&mut Side> {
        let connection = self.connections.get_mut(socket.connection)?;
        Some(&mut connection.sides[socket.side])
    }

    /// The addresses of a side and its peer.
    fn ends(&self, socket: SocketId) -> Option<(SocketAddr, SocketAddr)> {
        Some((
            self.side(socket)?.address,
            self.side(socket.peer())?.address,
        ))
    }

    /// Who is asked when `from` asks for `address`: of those who listen there the most exact
    /// one, or one of several who share that.
    fn listener_for(&self, host: HostId, address: SocketAddr, from: SocketAddr) -> Option<Token> {
        let (mut best, mut found) = (0, Vec::new());
        for token in self.hosts[host.0].listeners_at(address.port()) {
            let listener = self.listeners.get(*token)?;
            let exact = exactness(listener.address.ip(), listener.only_v6, address.ip());
            if exact > best {
                best = exact;
                found.clear();
            }
            if exact == best && exact > 0 {
                found.push(*token);
            }
        }
        let index = usize::from(from.port()).checked_rem(found.len())?;
        found.get(index).copied()
    }

    /// The next of the ports that are given to who asks for none, of those that are free.
    pub(super) fn free_port(
        &mut self,
        host: HostId,
        is_free: impl Fn(&Self, u16) -> bool,
    ) -> Option<u16> {
        for _ in EPHEMERAL..=u16::MAX {
            let next = &mut self.hosts[host.0].next_port;
            let port = *next;
            *next = port.checked_add(1).unwrap_or(EPHEMERAL);
            if is_free(self, port) {
                return Some(port);
            }
        }
        None
    }

    pub(super) fn schedule(&mut self, at: Duration, what: What) {
        self.queued = self.queued.wrapping_add(1);
        let order = (self.random.next() & 0xFFFF_FFFF_0000_0000) | u64::from(self.queued);
        self.queue.push(Reverse(Due { at, order, what }));
    }

    pub(super) fn arrive_after(&mut self, latency: Duration, what: What) {
        if let What::Datagram(key) = what {
            return self.datagram_arrives_after(latency, key);
        }
        let mut at = self.now.saturating_add(latency);
        // What one side gets from the other keeps its order.
        let sender = what.target().map(SocketId::peer);
        if let Some(sender) = sender.and_then(|sender| self.side_mut(sender)) {
            at = at.max(sender.last_arrival + Duration::from_nanos(1));
            sender.last_arrival = at;
        }
        self.schedule(at, what);
    }

    /// Sends something to the other side; says whether it left for good.
    pub(super) fn send(&mut self, what: What, size: usize) -> bool {
        let Some(target) = what.target() else {
            return false;
        };
        let (Some(to), Some(from)) = (
            self.side(target).map(|side| side.host),
            self.side(target.peer()).map(|side| side.host),
        ) else {
            return false;
        };
        let now = self.now;
        // Detached from the map, because the numbers are drawn from the network's.
        let mut link = self.link(from, to);
        let fate = link.send(now, size + HEADERS, &mut self.random);
        let held = link.held.is_set();
        self.links.insert((from, to), link);
        match fate {
            Fate::Arrives(_) if held => self.parked.entry((from, to)).or_default().push(what),
            Fate::Arrives(at) => self.arrive_after(at - now, what),
            Fate::Lost => {
                if let Some((from, to)) = self.ends(target.peer()) {
                    self.trace.add(now, Happening::Lost { from, to });
                }
                return false;
            }
        }
        true
    }

    pub(super) fn tell(&mut self, socket: SocketId, news: Readiness) {
        let Some(side) = self.side_mut(socket) else {
            return;
        };
        side.news = merged(side.news, news);
        if side.token.is_some() && !side.queued {
            side.queued = true;
            let host = side.host;
            self.hosts[host.0].ready.push(Ready::Socket(socket));
        }
    }

    pub(super) fn tell_listener(&mut self, token: Token) {
        let Some(listener) = self.listeners.get_mut(token) else {
            return;
        };
        if listener.token.is_some() && !listener.queued {
            listener.queued = true;
            let host = listener.host;
            self.hosts[host.0].ready.push(Ready::Listener(token));
        }
    }

    pub(super) fn request(&mut self, socket: SocketId) {
        if !self.send(What::Request(Packet::to(socket.peer())), 0) {
            self.retry_later(socket);
        }
    }

    /// Sends what the lane of this side has and may send.
    pub(super) fn transmit(&mut self, socket: SocketId) {
        loop {
            let now = self.now;
            let Some(side) = self.side_mut(socket) else {
                return;
            };
            let may = matches!(side.phase, Phase::Open | Phase::Closed);
            if !may || side.retrying {
                return;
            }
            let Some(segment) = side.lane.next_segment() else {
                // The reader may have made room of which this side was not told.
                if side.lane.waits_for_reader() && side.lane.has_untold() {
                    self.acknowledge(socket);
                } else if side.lane.waits_for_reader() {
                    self.probe(socket);
                }
                return;
            };
            side.lane.sent(segment);
            let Some((from, to)) = self.ends(socket) else {
                return;
            };
            let Segment { len, end } = segment;
            self.trace.add(now, Happening::Sent { from, to, len, end });
            if !self.send(What::Segment(Packet::to(socket.peer()), len, end), len) {
                self.unsend(socket, segment);
            }
        }
    }

    /// Asks whether a reader that has no room is still there. RFC 9293 §3.8.6.1: the answer
    /// of one that is has no effect here, so only the others are asked.
    fn probe(&mut self, socket: SocketId) {
        let gone = self.side(socket.peer()).map(|side| side.phase) == Some(Phase::Gone);
        if gone && !self.send(What::Segment(Packet::to(socket.peer()), 0, false), 0) {
            self.retry_later(socket);
        }
    }

    /// This side is gone: a peer that waits for it to read will ask, some time.
    pub(super) fn have_peer_probe(&mut self, socket: SocketId) {
        let waits = self
            .side(socket.peer())
            .is_some_and(|peer| peer.lane.waits_for_reader());
        if waits {
            self.retry_later(socket.peer());
        }
    }

    /// A segment will not arrive: it is sent again, later.
    fn unsend(&mut self, sender: SocketId, segment: Segment) {
        if let Some(side) = self.side_mut(sender) {
            side.lane.lost(segment);
            self.retry_later(sender);
        }
    }

    fn retry_later(&mut self, socket: SocketId) {
        let Some(side) = self.side_mut(socket) else {
            return;
        };
        let (first, most) = match side.phase {
            Phase::Connecting => (CONNECT_RETRY, CONNECT_RETRIES),
            Phase::Answered => (CONNECT_RETRY, ANSWER_RETRIES),
            _ => (RETRY, RETRIES),
        };
        if side.phase == Phase::Gone || side.retrying {
            return;
        }
        if side.tries > most {
            return self.give_up(socket);
        }
        let pause = pause(first, side.tries);
        side.retrying = true;
        side.tries += 1;
        self.schedule(self.now + pause, What::Retry(Packet::to(socket)));
    }

    pub(super) fn give_up(&mut self, socket: SocketId) {
        if let Some((from, to)) = self.ends(socket) {
            self.trace.add(self.now, Happening::GaveUp { from, to });
        }
        self.break_off(socket, ErrorKind::TimedOut);
    }

    /// The end of one side: its program gets the error, its host forgets the rest.
    fn break_off(&mut self, socket: SocketId, error: ErrorKind) {
        self.forget(socket);
        if let Some(side) = self.side_mut(socket) {
            side.error = Some(error);
            self.tell(socket, BROKEN);
        }
        self.have_peer_probe(socket);
        self.forget_if_over(socket.connection);
    }

    /// This side knows nothing of the connection any more, without a word.
    pub(super) fn vanish(&mut self, socket: SocketId) {
        self.forget(socket);
        if let Some(side) = self.side_mut(socket) {
            side.token = None;
        }
        self.have_peer_probe(socket);
    }

    /// The host of this side forgets it, and has its port for another.
    pub(super) fn forget(&mut self, socket: SocketId) {
        let ends = self.ends(socket);
        let Some(side) = self.side_mut(socket) else {
            return;
        };
        side.lane.forget_unsent();
        let before = std::mem::replace(&mut side.phase, Phase::Gone);
        if let Some(ends) = ends.filter(|_| socket.side == 0 && before != Phase::Gone) {
            self.connected.remove(&ends);
        }
        self.watch_over(socket.peer());
    }

    /// This side breaks the connection off, and tells the other.
    pub(super) fn reset(&mut self, socket: SocketId) {
        self.vanish(socket);
        self.send_reset(socket.peer());
    }

    /// Tells a side that the other knows nothing of their connection.
    pub(super) fn send_reset(&mut self, target: SocketId) {
        let Some((from, to)) = self.ends(target.peer()) else {
            return;
        };
        self.trace.add(self.now, Happening::Reset { from, to });
        if !self.send(What::Reset(Packet::to(target)), 0) {
            // Who goes on sending is told again, and so is who goes on answering.
            match self.side(target) {
                Some(side) if side.phase == Phase::Answered => self.retry_later(target),
                Some(side) if side.lane.waits_for_reader() => self.retry_later(target),
                _ => self.ask_later(target),
            }
        }
    }

    /// The host of the receiver tells `sender` what has arrived and was read.
    pub(super) fn acknowledge(&mut self, sender: SocketId) {
        let receiver = self.side(sender.peer()).map(|side| side.phase);
        if !matches!(receiver, Some(Phase::Open | Phase::Closed)) {
            // Nobody is there to tell it; who asks is told that.
            return self.ask_later(sender);
        }
        let Some(side) = self.side_mut(sender) else {
            return;
        };
        if side.ack_due || !side.lane.has_untold() {
            return;
        }
        let ack = side.lane.take_ack();
        let Ack { arrived, read } = ack;
        if self.send(What::Ack(Packet::to(sender), arrived, read), 0) {
            if let Some(side) = self.side_mut(sender) {
                side.ack_due = true;
            }
        } else if let Some(side) = self.side_mut(sender) {
            // The next one says it, too.
            side.lane.untell(ack);
            self.ask_later(sender);
        }
    }

    /// `sender` waits for an acknowledgement that was lost: it will ask for it, by sending again
    /// what it believes lost. (Of bytes that the other side has already, only the question
    /// travels here.)
    fn ask_later(&mut self, sender: SocketId) {
        let Some(side) = self.side_mut(sender).filter(|side| side.is_unheard()) else {
            return;
        };
        if side.asking || side.retrying {
            return;
        }
        if side.tries > RETRIES {
            return self.give_up(sender);
        }
        side.asking = true;
        let pause = pause(RETRY, side.tries);
        side.tries += 1;
        self.schedule(self.now + pause, What::Ask(Packet::to(sender)));
    }

    fn ask(&mut self, sender: SocketId) {
        let Some(side) = self.side_mut(sender) else {
            return;
        };
        side.asking = false;
        // What is on its way already asks, too.
        let asks = side.is_unheard() && !side.retrying && !side.lane.is_flying();
        if asks && !self.send(What::Question(Packet::to(sender.peer())), 0) {
            self.ask_later(sender);
        }
    }

    fn asked(&mut self, receiver: SocketId) {
        match self.side(receiver).map(|side| side.phase) {
            Some(Phase::Open | Phase::Closed) => self.acknowledge(receiver.peer()),
            _ => self.send_reset(receiver.peer()),
        }
    }

    /// Drops a connection of which nothing is left to happen.
    pub(super) fn forget_if_over(&mut self, connection: Token) {
        let Some(found) = self.connections.get(connection) else {
            return;
        };
        let over = found.sides.iter().enumerate().all(|(index, side)| {
            let peer_gone = found.sides[1 - index].phase == Phase::Gone;
            match side.phase {
                Phase::Gone => side.token.is_none(),
                Phase::Closed => peer_gone || side.lane.has_end_arrived(),
                // Nobody asks for it any more.
                Phase::Connecting => index == 1 && peer_gone,
                Phase::Answered | Phase::Open => false,
            }
        });
        if over {
            self.forget(SocketId {
                connection,
                side: 0,
            });
            self.connections.remove(connection);
        }
    }

    pub(super) fn happen(&mut self, what: What) {
        let socket = match what {
            What::Datagram(flying) => return self.datagram_arrives(flying),
            _ => match what.target() {
                Some(socket) => socket,
                None => return,
            },
        };
        // A connection that is over gets nothing any more.
        let Some(side) = self.side(socket) else {
            return;
        };
        let (phase, up) = (side.phase, self.hosts[side.host.0].up);
        match what {
            What::Retry(_) | What::Ask(_) | What::Watch(_) => {}
            _ if !up => return self.unheard(what, socket),
            _ => self.has_heard(socket),
        }
        match what {
            What::Retry(_) => self.retry(socket, phase),
            What::Ask(_) => self.ask(socket),
            What::Request(_) => self.requested(socket),
            What::Answer(_) => self.answered(socket, phase),
            What::Confirmation(_) => {
                self.confirmed(socket);
                if self.side(socket).map(|side| side.phase) == Some(Phase::Gone) {
                    self.send_reset(socket.peer());
                    self.forget_if_over(socket.connection);
                }
            }
            What::Segment(_, len, end) => self.arrived(socket, Segment { len, end }),
            What::Question(_) => self.asked(socket),
            What::Probe(_) => self.probed(socket),
            What::Watch(_) => self.watch_again(socket),
            What::Refusal(_) if phase == Phase::Connecting => {
                self.break_off(socket, ErrorKind::ConnectionRefused);
            }
            What::Reset(_) if phase == Phase::Answered => {
                self.vanish(socket);
                self.forget_if_over(socket.connection);
            }
            What::Reset(_) if matches!(phase, Phase::Open | Phase::Closed) => {
                // As on Linux: who has the end of the peer's stream already finds a broken pipe.
                let has_end = self
                    .side(socket.peer())
                    .is_some_and(|peer| peer.lane.has_end_arrived());
                let error = match has_end {
                    true => ErrorKind::BrokenPipe,
                    false => ErrorKind::ConnectionReset,
                };
                self.break_off(socket, error);
            }
            What::Ack(_, arrived, read) => self.acknowledged(socket, Ack { arrived, read }),
            What::Refusal(_) | What::Reset(_) | What::Alive(_) | What::Datagram(_) => {}
        }
    }

    /// A host that is down hears nothing, and its peers try again.
    fn unheard(&mut self, what: What, socket: SocketId) {
        if let Some((from, to)) = self.ends(socket.peer()) {
            self.trace.add(self.now, Happening::Lost { from, to });
        }
        let sender = socket.peer();
        match what {
            What::Request(_) | What::Answer(_) => self.retry_later(sender),
            What::Segment(_, len, end) => self.unsend(sender, Segment { len, end }),
            What::Question(_) => self.ask_later(sender),
            _ => {}
        }
    }

    fn retry(&mut self, socket: SocketId, phase: Phase) {
        if let Some(side) = self.side_mut(socket) {
            side.retrying = false;
        }
        match phase {
            Phase::Connecting if socket.side == 0 => self.request(socket),
            Phase::Answered => {
                if !self.send(What::Answer(Packet::to(socket.peer())), 0) {
                    self.retry_later(socket);
                }
            }
            Phase::Connecting | Phase::Gone => {}
            Phase::Open | Phase::Closed => {
                self.transmit(socket);
                // An acknowledgement was lost, too, and nothing asks for it.
                self.ask(socket);
            }
        }
    }

    /// A request to connect has reached the host of `socket`.
    fn requested(&mut self, socket: SocketId) {
        let Some((address, from)) = self.ends(socket) else {
            return;
        };
        let Some(host) = self.side(socket).map(|side| side.host) else {
            return;
        };
        // Who asked has given up meanwhile.
        if self.side(socket.peer()).map(|side| side.phase) != Some(Phase::Connecting) {
            return;
        }
        let Some(listener) = self.listener_for(host, address, from) else {
            self.trace
                .add(self.now, Happening::Refused { from, to: address });
            let refusal = What::Refusal(Packet::to(socket.peer()));
            if !self.send(refusal, 0) {
                self.retry_later(socket.peer());
            }
            return;
        };
        if !self.has_room(listener) {
            let dropped = Happening::Dropped { from, to: address };
            self.trace.add(self.now, dropped);
            return self.retry_later(socket.peer());
        }
        if !self.send(What::Answer(Packet::to(socket.peer())), 0) {
            return self.retry_later(socket.peer());
        }
        if let Some(side) = self.side_mut(socket) {
            side.phase = Phase::Answered;
        }
        if let Some(found) = self.listeners.get_mut(listener) {
            found.answered.insert(Packet::to(socket));
        }
    }

    /// Whether one more may ask a listener for a connection.
    fn has_room(&mut self, listener: Token) -> bool {
        let connections = &self.connections;
        let Some(found) = self.listeners.get_mut(listener) else {
            return false;
        };
        if found.waiting.len() + found.answered.len() <= found.backlog {
            return true;
        }
        // Some may have come to nothing meanwhile.
        found.answered.retain(|packet| {
            let SocketId { connection, side } = packet.socket();
            let found = connections.get(connection);
            found.is_some_and(|found| found.sides[side].phase == Phase::Answered)
        });
        found.waiting.len() + found.answered.len() <= found.backlog
    }

    /// The answer to its request has reached a host.
    fn answered(&mut self, socket: SocketId, phase: Phase) {
        match phase {
            Phase::Connecting => {
                if let Some(side) = self.side_mut(socket) {
                    side.phase = Phase::Open;
                    side.retrying = false;
                    side.tries = 0;
                }
                self.tell(socket, WRITABLE);
                self.confirm(socket);
                self.transmit(socket);
                self.watch_over(socket);
            }
            Phase::Open | Phase::Closed => self.confirm(socket),
            // It has given up, or crashed, meanwhile.
            Phase::Gone | Phase::Answered => self.send_reset(socket.peer()),
        }
    }

    /// Tells who has answered that the answer has come. If that is lost, it answers again.
    fn confirm(&mut self, socket: SocketId) {
        let peer = socket.peer();
        let is_lost = !self.send(What::Confirmation(Packet::to(peer)), 0);
        let phase = self.side(peer).map(|side| side.phase);
        if is_lost && phase == Some(Phase::Answered) {
            self.retry_later(peer);
        }
    }

    /// The host of `socket` knows that its answer has come: its program is given the connection.
    fn confirmed(&mut self, socket: SocketId) {
        let (Some((address, from)), Some(side)) = (self.ends(socket), self.side_mut(socket)) else {
            return;
        };
        if side.phase != Phase::Answered {
            return;
        }
        side.retrying = false;
        side.tries = 0;
        let host = side.host;
        // It may have stopped to listen meanwhile.
        let Some(listener) = self.listener_for(host, address, from) else {
            return self.vanish(socket);
        };
        if let Some(side) = self.side_mut(socket) {
            side.phase = Phase::Open;
        }
        if let Some(found) = self.listeners.get_mut(listener) {
            found.answered.remove(&Packet::to(socket));
            found.waiting.push_back(socket);
        }
        self.trace
            .add(self.now, Happening::Connected { from, to: address });
        self.tell_listener(listener);
    }

    /// A segment has reached the host of `socket`, from its peer.
    fn arrived(&mut self, socket: SocketId, segment: Segment) {
        let sender = socket.peer();
        let Some((to, from)) = self.ends(socket) else {
            return;
        };
        // Who sends has the answer.
        self.confirmed(socket);
        let phase = self.side(socket).map(|side| side.phase);
        let wanted = match phase {
            Some(Phase::Open) => true,
            // The end alone asks for no answer.
            Some(Phase::Closed) => segment.len == 0,
            _ => false,
        };
        let Segment { len, end } = segment;
        self.trace
            .add(self.now, Happening::Arrived { from, to, len, end });
        let Some(side) = self.side_mut(sender) else {
            return;
        };
        side.lane.arrive(segment);
        if !wanted {
            // Bytes for a program that has closed its socket, or for a former life.
            if phase == Some(Phase::Closed) {
                self.vanish(socket);
            }
            self.send_reset(sender);
            return self.forget_if_over(socket.connection);
        }
        self.tell(socket, if end { ENDED } else { READABLE });
        self.acknowledge(sender);
        self.forget_if_over(socket.connection);
    }

    fn acknowledged(&mut self, socket: SocketId, ack: Ack) {
        let Some(side) = self.side_mut(socket) else {
            return;
        };
        side.ack_due = false;
        side.tries = 0;
        side.lane.acknowledge(ack);
        if side.starved && side.lane.is_roomy() {
            side.starved = false;
            self.tell(socket, WRITABLE);
        }
        // What has happened since this one left.
        if self
            .side(socket)
            .is_some_and(|side| side.lane.has_arrivals_untold())
        {
            self.acknowledge(socket);
        }
        self.transmit(socket);
        self.watch_over(socket);
    }
}

/// How exactly a socket that is bound to `own` is meant by who sends to `to`: not at all, if 0.
pub(super) fn exactness(own: IpAddr, only_v6: bool, to: IpAddr) -> u8 {
    if own == to {
        3
    } else if !own.is_unspecified() {
        0
    } else if own.is_ipv4() == to.is_ipv4() {
        2
    } else {
        // `[::]` takes IPv4, too, unless it is told not to.
        u8::from(own.is_ipv6() && !only_v6)
    }
}

/// Whether two sockets would be meant by the same address.
pub(super) fn overlap(one: (IpAddr, bool), two: (IpAddr, bool)) -> bool {
    let takes = |(own, only_v6): (IpAddr, bool), to| exactness(own, only_v6, to) > 0;
    takes(one, two.0) || takes(two, one.0)
}

/// How long to wait after so many tries.
fn pause(first: Duration, tries: u32) -> Duration {
    (first * 2_u32.saturating_pow(tries)).min(RETRY_MAX)
}
