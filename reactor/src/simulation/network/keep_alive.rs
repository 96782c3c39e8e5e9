//! What hosts do for their sockets: asking a silent peer whether it is still there.
//!
//! # The model
//!
//! As on Linux (RFC 9293 §3.8.4): who has heard nothing for `idle` asks, again after each
//! `interval`, and gives up after `count` questions. A question that is bound to be answered changes
//! nothing that a program could see, so none travels while the ways between the two are open and
//! both know the connection: a simulation in which nothing else happens is idle. What a link
//! loses by chance is not counted.

use crate::sockets::KeepAlive;

use super::{HostId, Network, Packet, Phase, SocketId, What};

impl Network {
    pub(in crate::simulation) fn set_keep_alive(
        &mut self,
        socket: SocketId,
        keep_alive: Option<KeepAlive>,
    ) {
        let now = self.now;
        if let Some(side) = self.side_mut(socket) {
            side.keep_alive = keep_alive;
            side.questions = 0;
            side.heard = now;
            self.watch_over(socket);
        }
    }

    pub(in crate::simulation) fn keep_alive(&self, socket: SocketId) -> Option<KeepAlive> {
        self.side(socket)?.keep_alive
    }

    /// Something may keep the two hosts from hearing each other from now on.
    pub(super) fn watch_over_all_between(&mut self, one: HostId, two: HostId) {
        let connections = self.connections.iter().map(|(token, _)| token);
        let sides =
            connections.flat_map(|connection| [0, 1].map(|side| SocketId { connection, side }));
        let between: Vec<SocketId> = sides
            .filter(|socket| {
                let own = self.side(*socket);
                let peer = self.side(socket.peer());
                let (own, peer) = (own.map(|side| side.host), peer.map(|side| side.host));
                (own, peer) == (Some(one), Some(two)) || (own, peer) == (Some(two), Some(one))
            })
            .collect();
        for socket in between {
            self.watch_over(socket);
        }
    }

    /// Asks when it is time, if it might not be answered.
    pub(super) fn watch_over(&mut self, socket: SocketId) {
        let keep_alive = self.side(socket).and_then(|side| side.keep_alive);
        let Some(KeepAlive { idle, .. }) = keep_alive.filter(|_| self.is_at_risk(socket)) else {
            return;
        };
        let now = self.now;
        let Some(side) = self.side_mut(socket) else {
            return;
        };
        if side.keeping || side.phase != Phase::Open {
            return;
        }
        // Until now it was answered each time that it asked.
        let rounds = (now - side.heard).as_nanos() / idle.as_nanos();
        let rounds = u32::try_from(rounds).unwrap_or(u32::MAX);
        side.heard += idle * rounds;
        side.keeping = true;
        let at = side.heard + idle;
        self.schedule(at, What::Watch(Packet::to(socket)));
    }

    fn is_at_risk(&self, socket: SocketId) -> bool {
        let (Some(own), Some(peer)) = (self.side(socket), self.side(socket.peer())) else {
            return false;
        };
        let is_stopped = |from, to| {
            let link = self.links.get(&(from, to));
            link.is_some_and(|link| link.cut.is_set() || link.held.is_set())
        };
        let is_cut = is_stopped(own.host, peer.host) || is_stopped(peer.host, own.host);
        is_cut || peer.phase == Phase::Gone || !self.hosts[peer.host.0].up
    }

    /// It is time to ask, or to give up.
    pub(super) fn watch_again(&mut self, socket: SocketId) {
        let (now, at_risk) = (self.now, self.is_at_risk(socket));
        let Some(side) = self.side_mut(socket) else {
            return;
        };
        side.keeping = false;
        let keep_alive = side.keep_alive.filter(|_| side.phase == Phase::Open);
        let Some(KeepAlive {
            idle,
            interval,
            count,
        }) = keep_alive
        else {
            return;
        };
        if side.lane.unacknowledged() > 0 {
            // Those bytes ask, by being sent again; what acknowledges them goes on here.
            side.questions = 0;
            return;
        }
        if side.questions == 0 && !at_risk {
            return;
        }
        let mut at = now + interval;
        if side.questions == 0 && side.heard + idle > now {
            at = side.heard + idle;
        } else if side.questions >= count {
            return self.give_up(socket);
        } else {
            side.questions += 1;
            self.send(What::Probe(Packet::to(socket.peer())), 0);
        }
        if let Some(side) = self.side_mut(socket) {
            side.keeping = true;
            self.schedule(at, What::Watch(Packet::to(socket)));
        }
    }

    /// The host of `socket` is asked whether it is still there.
    pub(super) fn probed(&mut self, socket: SocketId) {
        match self.side(socket).map(|side| side.phase) {
            Some(Phase::Open | Phase::Closed) => {
                self.send(What::Alive(Packet::to(socket.peer())), 0);
            }
            _ => self.send_reset(socket.peer()),
        }
    }

    /// The peer is there.
    pub(super) fn has_heard(&mut self, socket: SocketId) {
        let now = self.now;
        if let Some(side) = self.side_mut(socket) {
            side.heard = now;
            side.questions = 0;
        }
    }
}
