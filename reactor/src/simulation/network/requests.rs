//! What programs ask of their sockets.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use rustix::io::Errno;

use crate::slab::Token;
use crate::sockets::ListenOptions;

use super::super::lane::{Lane, RECEIVE_BUFFER, SEND_BUFFER};
use super::super::trace::Happening;
use super::tcp::overlap;
use super::{
    BACKLOG_MAX, BROKEN, Connection, ENDED, HostId, Listener, NO_NEWS, Network, Phase, READABLE,
    Side, SocketId, WRITABLE, merged,
};

/// Where it gets who sends there: nowhere in particular is here, as on Linux.
pub(super) fn meant_by(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

/// How a socket of IPv6 shows an address.
pub(super) fn as_v6(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    }
}

impl Network {
    pub(in crate::simulation) fn listen(
        &mut self,
        host: HostId,
        address: SocketAddr,
        options: &ListenOptions,
    ) -> io::Result<Token> {
        if !self.is_own(host, address) {
            return Err(ErrorKind::AddrNotAvailable.into());
        }
        let mut address = address;
        if address.port() == 0 {
            let is_free =
                |network: &Self, port| network.hosts[host.0].listeners_at(port).is_empty();
            let port = self.free_port(host, is_free).ok_or(ErrorKind::AddrInUse)?;
            address.set_port(port);
        }
        let own = (address.ip(), options.only_v6);
        let clashes = |token: &Token| {
            let other = self.listeners.get(*token);
            other.is_some_and(|other| {
                overlap(own, (other.address.ip(), other.only_v6))
                    && !(options.reuse_port && other.reuses_port)
            })
        };
        let mut others = self.hosts[host.0].listeners_at(address.port()).iter();
        if others.any(clashes) {
            return Err(ErrorKind::AddrInUse.into());
        }
        let listener = self.listeners.insert(Listener {
            host,
            address,
            reuses_port: options.reuse_port,
            only_v6: options.only_v6,
            token: None,
            waiting: VecDeque::new(),
            answered: BTreeSet::new(),
            backlog: options.backlog.min(BACKLOG_MAX) as usize,
            queued: false,
        });
        let listening = &mut self.hosts[host.0].listening;
        listening.entry(address.port()).or_default().push(listener);
        Ok(listener)
    }

    fn is_own(&self, host: HostId, address: SocketAddr) -> bool {
        let ip = address.ip();
        ip == self.hosts[host.0].ip || ip.is_unspecified() || ip.is_loopback()
    }

    pub(in crate::simulation) fn listening_address(&self, listener: Token) -> Option<SocketAddr> {
        self.listeners
            .get(listener)
            .map(|listener| listener.address)
    }

    pub(in crate::simulation) fn watch_listener(&mut self, listener: Token, token: Token) {
        if let Some(found) = self.listeners.get_mut(listener) {
            found.token = Some(token);
            if !found.waiting.is_empty() {
                self.tell_listener(listener);
            }
        }
    }

    /// A connection that waits; `None` if there is none.
    pub(in crate::simulation) fn accept(
        &mut self,
        listener: Token,
    ) -> Option<(SocketId, SocketAddr)> {
        loop {
            let found = self.listeners.get_mut(listener)?;
            let shows_v6 = found.address.is_ipv6();
            let socket = found.waiting.pop_front()?;
            // One that was reset meanwhile may be forgotten already.
            if let Some(side) = self.side_mut(socket) {
                side.shows_v6 = shows_v6;
                let peer = self.side(socket.peer())?.address;
                return Some((socket, if shows_v6 { as_v6(peer) } else { peer }));
            }
        }
    }

    pub(in crate::simulation) fn close_listener(&mut self, token: Token) {
        let Some(listener) = self.listeners.remove(token) else {
            return;
        };
        let port = listener.address.port();
        let listening = &mut self.hosts[listener.host.0].listening;
        if let Some(others) = listening.get_mut(&port) {
            others.retain(|other| *other != token);
            if others.is_empty() {
                listening.remove(&port);
            }
        }
        for socket in listener.waiting {
            self.reset(socket);
        }
    }

    pub(in crate::simulation) fn connect(
        &mut self,
        host: HostId,
        from: Option<SocketAddr>,
        peer: SocketAddr,
    ) -> io::Result<SocketId> {
        if from.is_some_and(|from| !self.is_own(host, from)) {
            return Err(ErrorKind::AddrNotAvailable.into());
        }
        if from.is_some_and(|from| from.is_ipv4() != peer.is_ipv4()) {
            return Err(Errno::AFNOSUPPORT.into());
        }
        let shows_v6 = peer.is_ipv6();
        let peer = SocketAddr::new(meant_by(peer.ip()), peer.port());
        let to = self
            .host_at(host, peer.ip())
            .ok_or(ErrorKind::HostUnreachable)?;
        let from = from.map(|from| SocketAddr::new(from.ip().to_canonical(), from.port()));
        let asked = from.map(|from| from.ip());
        let own = match asked.filter(|ip| !ip.is_unspecified()) {
            Some(own) => own,
            None if peer.is_ipv6() => Ipv6Addr::LOCALHOST.into(),
            None if peer.ip().is_loopback() => Ipv4Addr::LOCALHOST.into(),
            None => self.hosts[host.0].ip,
        };
        // Loopback's addresses mean something here alone.
        if to != host && own.is_loopback() {
            return Err(Errno::INVAL.into());
        }
        let is_free = |network: &Self, port| {
            let ends = (SocketAddr::new(own, port), peer);
            !network.connected.contains(&ends)
        };
        let port = match from.map_or(0, |from| from.port()) {
            0 => self.free_port(host, |network, port| {
                network.hosts[host.0].listeners_at(port).is_empty() && is_free(network, port)
            }),
            port => Some(port).filter(|port| is_free(self, *port)),
        };
        let own = SocketAddr::new(own, port.ok_or(ErrorKind::AddrNotAvailable)?);
        self.connected.insert((own, peer));
        let side = |host, address| Side {
            host,
            address,
            shows_v6,
            phase: Phase::Connecting,
            lane: Lane::default(),
            token: None,
            news: NO_NEWS,
            queued: false,
            error: None,
            starved: false,
            last_arrival: Duration::ZERO,
            ack_due: false,
            retrying: false,
            asking: false,
            keep_alive: None,
            keeping: false,
            questions: 0,
            heard: Duration::ZERO,
            tries: 0,
        };
        let connection = self.connections.insert(Connection {
            sides: [side(host, own), side(to, peer)],
        });
        let socket = SocketId {
            connection,
            side: 0,
        };
        self.trace.add(
            self.now,
            Happening::Connecting {
                from: own,
                to: peer,
            },
        );
        self.request(socket);
        Ok(socket)
    }

    pub(in crate::simulation) fn watch(&mut self, socket: SocketId, token: Token) {
        let Some(side) = self.side_mut(socket) else {
            return;
        };
        side.token = Some(token);
        // What is so already is news to who begins to watch.
        let mut news = match side.phase {
            Phase::Open if side.lane.is_roomy() => WRITABLE,
            _ => NO_NEWS,
        };
        if side.error.is_some() {
            news = BROKEN;
        }
        if let Some(peer) = self.side(socket.peer()) {
            if peer.lane.readable() > 0 {
                news = merged(news, READABLE);
            }
            if peer.lane.has_end_arrived() {
                news = merged(news, ENDED);
            }
        }
        if news != NO_NEWS {
            self.tell(socket, news);
        }
    }

    pub(in crate::simulation) fn connect_result(&self, socket: SocketId) -> io::Result<()> {
        let side = self.side(socket).ok_or(ErrorKind::NotConnected)?;
        match (side.error, side.phase) {
            (Some(error), _) => Err(error.into()),
            (None, Phase::Connecting) => Err(ErrorKind::WouldBlock.into()),
            (None, _) => Ok(()),
        }
    }

    pub(in crate::simulation) fn address(&self, socket: SocketId) -> Option<SocketAddr> {
        let side = self.side(socket)?;
        Some(if side.shows_v6 {
            as_v6(side.address)
        } else {
            side.address
        })
    }

    pub(in crate::simulation) fn set_nagle(&mut self, socket: SocketId, nagle: bool) {
        if let Some(side) = self.side_mut(socket) {
            side.lane.set_nagle(nagle);
            self.transmit(socket);
        }
    }

    /// How many bytes of this side's may wait to be acknowledged, and how many of its peer's to be
    /// read.
    pub(in crate::simulation) fn buffer_sizes(&self, socket: SocketId) -> (usize, usize) {
        let to_send = self.side(socket).map(|side| side.lane.send_buffer());
        let to_read = self.side(socket.peer());
        let to_read = to_read.map(|side| side.lane.receive_buffer());
        (
            to_send.unwrap_or(SEND_BUFFER),
            to_read.unwrap_or(RECEIVE_BUFFER),
        )
    }

    pub(in crate::simulation) fn set_send_buffer(&mut self, socket: SocketId, bytes: usize) {
        if let Some(side) = self.side_mut(socket) {
            side.lane.set_send_buffer(bytes);
        }
    }

    pub(in crate::simulation) fn set_receive_buffer(&mut self, socket: SocketId, bytes: usize) {
        if let Some(side) = self.side_mut(socket.peer()) {
            side.lane.set_receive_buffer(bytes);
        }
    }

    pub(in crate::simulation) fn read(
        &mut self,
        socket: SocketId,
        buffer: &mut [u8],
    ) -> io::Result<usize> {
        let own = self.side(socket).ok_or(ErrorKind::NotConnected)?;
        let error = own.error;
        let sender = socket.peer();
        let lane = &mut self
            .connections
            .get_mut(socket.connection)
            .ok_or(ErrorKind::NotConnected)?
            .sides[sender.side]
            .lane;
        let there = lane.readable().min(buffer.len());
        if there == 0 {
            // As on Linux, an error stands behind the bytes that came before it.
            return if let Some(error) = error {
                Err(error.into())
            } else if lane.is_read_out() {
                Ok(0)
            } else {
                Err(ErrorKind::WouldBlock.into())
            };
        }
        let count = self.chunking.draw(there, &mut self.random);
        lane.read(&mut buffer[..count]);
        if lane.waits_for_reader() {
            self.acknowledge(sender);
        }
        Ok(count)
    }

    pub(in crate::simulation) fn write(
        &mut self,
        socket: SocketId,
        data: &[u8],
    ) -> io::Result<usize> {
        let side = self.side_mut(socket).ok_or(ErrorKind::NotConnected)?;
        if let Some(error) = side.error {
            return Err(error.into());
        }
        if side.lane.is_ended() || side.phase != Phase::Open {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let count = side.lane.write(data);
        side.starved = count < data.len();
        if count == 0 && !data.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.transmit(socket);
        Ok(count)
    }

    pub(in crate::simulation) fn end_write(&mut self, socket: SocketId) -> io::Result<()> {
        let side = self.side_mut(socket).ok_or(ErrorKind::NotConnected)?;
        if side.error.is_some() || side.phase != Phase::Open {
            return Err(ErrorKind::NotConnected.into());
        }
        side.lane.end();
        self.transmit(socket);
        Ok(())
    }

    pub(in crate::simulation) fn is_delivered(&self, socket: SocketId) -> bool {
        let is_read_out = |peer: &Side| peer.lane.readable() == 0;
        self.side(socket).is_none_or(|s| s.lane.is_delivered())
            && self.side(socket.peer()).is_none_or(is_read_out)
    }

    pub(in crate::simulation) fn unacknowledged(&self, socket: SocketId) -> usize {
        self.side(socket).map_or(0, |s| s.lane.unacknowledged())
    }

    /// The program closes its socket. Unread bytes, or a wish to, make it a reset.
    pub(in crate::simulation) fn close(&mut self, socket: SocketId, reset: bool) {
        let Some(side) = self.side_mut(socket) else {
            return;
        };
        side.token = None;
        let phase = side.phase;
        let unread = self
            .side(socket.peer())
            .is_some_and(|peer| peer.lane.readable() > 0);
        match phase {
            Phase::Open if reset || unread => self.reset(socket),
            Phase::Open => {
                if let Some(side) = self.side_mut(socket) {
                    side.phase = Phase::Closed;
                    side.lane.end();
                }
                self.transmit(socket);
            }
            Phase::Connecting => self.vanish(socket),
            Phase::Answered | Phase::Closed | Phase::Gone => {}
        }
        self.forget_if_over(socket.connection);
    }
}
