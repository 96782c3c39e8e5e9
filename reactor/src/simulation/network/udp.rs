//! What hosts do for their sockets: UDP.
//!
//! # The model
//!
//! Each datagram takes its own way: it is lost, doubled or delayed as its link says, and may
//! overtake others. A long one is cut up as IP does, and is lost if a piece is. It is lost, too,
//! if nobody is there, or if the receiver's buffer is full. Who sent it is told of none of
//! that, but if it is connected, and the port is closed on a host that is up: that answer travels
//! back like a datagram.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use rustix::io::Errno;

use crate::descriptor::Readiness;
use crate::slab::{Slab, Token};
use crate::udp::{DatagramOption, DatagramOptions, MulticastGroup};

use super::super::link::{Fate, Latency};
use super::super::trace::Happening;
use super::requests::{as_v6, meant_by};
use super::tcp::{exactness, overlap};
use super::{HostId, NO_NEWS, Network, READABLE, Ready, WRITABLE, What, merged};

/// The longest that UDP carries: what IPv4's length field holds, less the headers.
const PAYLOAD_MAX: usize = 65_507;
/// What one piece carries: Ethernet's 1500 less IP's header.
const PIECE: usize = 1480;
/// What a piece has besides: IP's header and Ethernet's frame.
const PIECE_HEADERS: usize = 20;
/// Bytes that wait to be read by one socket: Linux's, where each datagram counts with its own
/// book-keeping.
pub(in crate::simulation) const RECEIVE_BUFFER: usize = 212_992;
const BOOK_KEEPING: usize = 512;
/// Detours of those that are overtaken: so many times the latency of the way at most.
const DETOURS_MAX: u32 = 4;

/// The sockets of all hosts, and what is on its way between them.
pub(super) struct Datagrams {
    sockets: Slab<UdpSocket>,
    flying: Slab<Flying>,
    /// When the last one arrives of those that keep their order.
    last: BTreeMap<(HostId, HostId), Duration>,
}

impl Datagrams {
    pub(super) fn new() -> Self {
        Self {
            sockets: Slab::new(),
            flying: Slab::new(),
            last: BTreeMap::new(),
        }
    }
}

struct UdpSocket {
    host: HostId,
    address: SocketAddr,
    only_v6: bool,
    peer: Option<SocketAddr>,
    reuses_port: bool,
    broadcasts: bool,
    /// Its own datagrams to a group come to its host, too.
    loops_back: bool,
    groups: Vec<IpAddr>,
    inbox: VecDeque<(SocketAddr, Box<[u8]>)>,
    /// What is in the inbox, with the book-keeping.
    waiting: usize,
    /// The peer's host has said that nobody listens there.
    refused: bool,
    token: Option<Token>,
    news: Readiness,
    queued: bool,
}

/// Something on its way from one host to another.
struct Flying {
    way: (HostId, HostId),
    /// It waits for those before it.
    keeps_order: bool,
    from: SocketAddr,
    to: SocketAddr,
    what: Load,
}

enum Load {
    Datagram(Box<[u8]>),
    /// "Nobody listens there": to who sent from `to`, about what they sent to `from`.
    Refusal,
}

/// What programs ask of their sockets.
impl Network {
    pub(in crate::simulation) fn bind_udp(
        &mut self,
        host: HostId,
        address: SocketAddr,
        options: &DatagramOptions,
    ) -> io::Result<Token> {
        let ip = self.hosts[host.0].ip;
        let asked = address.ip();
        let own =
            asked == ip || asked.is_unspecified() || asked.is_loopback() || asked.is_multicast();
        if !own {
            return Err(ErrorKind::AddrNotAvailable.into());
        }
        let mut address = address;
        if address.port() == 0 {
            address.set_port(self.free_udp_port(host)?);
        } else if self.clashes(host, address, options) {
            return Err(ErrorKind::AddrInUse.into());
        }
        Ok(self.datagrams.sockets.insert(UdpSocket {
            host,
            address,
            only_v6: options.only_v6,
            peer: None,
            reuses_port: options.reuse_port,
            broadcasts: options.broadcast,
            loops_back: true,
            groups: Vec::new(),
            inbox: VecDeque::new(),
            waiting: 0,
            refused: false,
            token: None,
            news: NO_NEWS,
            queued: false,
        }))
    }

    /// Whether somebody has that address already who does not share it.
    fn clashes(&self, host: HostId, address: SocketAddr, options: &DatagramOptions) -> bool {
        let own = (address.ip(), options.only_v6);
        self.datagrams.sockets.iter().any(|(_, other)| {
            other.host == host
                && other.address.port() == address.port()
                && overlap(own, (other.address.ip(), other.only_v6))
                && !(options.reuse_port && other.reuses_port)
        })
    }

    /// Where a socket sends that is told to send there.
    fn way_to(&self, socket: Token, to: SocketAddr) -> io::Result<SocketAddr> {
        let UdpSocket {
            host,
            address,
            only_v6,
            ..
        } = self.udp(socket)?;
        if address.is_ipv4() && to.is_ipv6() {
            return Err(Errno::AFNOSUPPORT.into());
        }
        let to = SocketAddr::new(meant_by(to.ip()), to.port());
        if address.is_ipv6() && to.is_ipv4() && (*only_v6 || !address.ip().is_unspecified()) {
            return Err(Errno::NETUNREACH.into());
        }
        // Loopback's addresses mean something here alone.
        let leaves = self.host_at(*host, to.ip()) != Some(*host);
        let is_to_one = !is_broadcast(to.ip()) && !to.ip().is_multicast();
        if address.ip().is_loopback() && leaves && is_to_one {
            return Err(Errno::INVAL.into());
        }
        Ok(to)
    }

    fn free_udp_port(&mut self, host: HostId) -> io::Result<u16> {
        let is_free = |network: &Self, port| {
            let mut sockets = network.datagrams.sockets.iter();
            !sockets.any(|(_, socket)| socket.host == host && socket.address.port() == port)
        };
        let port = self.free_port(host, is_free);
        port.ok_or_else(|| ErrorKind::AddrInUse.into())
    }

    fn udp(&self, socket: Token) -> io::Result<&UdpSocket> {
        let found = self.datagrams.sockets.get(socket);
        found.ok_or_else(|| ErrorKind::NotConnected.into())
    }

    fn udp_mut(&mut self, socket: Token) -> io::Result<&mut UdpSocket> {
        let found = self.datagrams.sockets.get_mut(socket);
        found.ok_or_else(|| ErrorKind::NotConnected.into())
    }

    pub(in crate::simulation) fn close_udp(&mut self, socket: Token) {
        self.datagrams.sockets.remove(socket);
    }

    pub(in crate::simulation) fn watch_udp(&mut self, socket: Token, token: Token) {
        if let Ok(found) = self.udp_mut(socket) {
            found.token = Some(token);
            self.tell_udp(socket, WRITABLE);
        }
    }

    pub(in crate::simulation) fn udp_address(&self, socket: Token) -> io::Result<SocketAddr> {
        let found = self.udp(socket)?;
        let mut address = found.address;
        if let Some(peer) = found.peer.filter(|_| address.ip().is_unspecified()) {
            address.set_ip(self.source(found.host, address, peer));
        }
        Ok(match found.address {
            SocketAddr::V4(_) => address,
            SocketAddr::V6(_) => as_v6(address),
        })
    }

    pub(in crate::simulation) fn connect_udp(
        &mut self,
        socket: Token,
        peer: Option<SocketAddr>,
    ) -> io::Result<()> {
        let peer = peer.map(|peer| self.way_to(socket, peer)).transpose()?;
        let found = self.udp_mut(socket)?;
        found.peer = peer;
        found.refused = false;
        Ok(())
    }

    pub(in crate::simulation) fn set_udp_option(
        &mut self,
        socket: Token,
        option: DatagramOption,
    ) -> io::Result<()> {
        let found = self.udp_mut(socket)?;
        match option {
            DatagramOption::Broadcast(on) => found.broadcasts = on,
            DatagramOption::MulticastLoopback(on) => found.loops_back = on,
            // All hosts are in one network, by one interface each.
            DatagramOption::MulticastTtl(_) | DatagramOption::MulticastInterface(_) => {}
        }
        Ok(())
    }

    pub(in crate::simulation) fn set_membership(
        &mut self,
        socket: Token,
        group: &MulticastGroup,
        member: bool,
    ) -> io::Result<()> {
        let found = self.udp_mut(socket)?;
        let address = group.address;
        let place = found.groups.iter().position(|other| *other == address);
        if !address.is_multicast() {
            return Err(Errno::INVAL.into());
        }
        if group.source.is_some() {
            return Err(ErrorKind::Unsupported.into());
        }
        match (place, member) {
            (None, true) => found.groups.push(address),
            (Some(place), false) => drop(found.groups.remove(place)),
            (Some(_), true) => return Err(Errno::ADDRINUSE.into()),
            (None, false) => return Err(Errno::ADDRNOTAVAIL.into()),
        }
        Ok(())
    }

    pub(in crate::simulation) fn receive_udp(
        &mut self,
        socket: Token,
        buffer: &mut [u8],
    ) -> io::Result<(usize, SocketAddr)> {
        let found = self.udp_mut(socket)?;
        if std::mem::take(&mut found.refused) {
            return Err(ErrorKind::ConnectionRefused.into());
        }
        let (from, data) = found.inbox.pop_front().ok_or(ErrorKind::WouldBlock)?;
        found.waiting -= data.len() + BOOK_KEEPING;
        buffer[..data.len()].copy_from_slice(&data);
        let from = match found.address {
            SocketAddr::V4(_) => from,
            SocketAddr::V6(_) => as_v6(from),
        };
        Ok((data.len(), from))
    }

    pub(in crate::simulation) fn send_udp(
        &mut self,
        socket: Token,
        data: &[u8],
        to: Option<SocketAddr>,
    ) -> io::Result<()> {
        let found = self.udp_mut(socket)?;
        if std::mem::take(&mut found.refused) {
            return Err(ErrorKind::ConnectionRefused.into());
        }
        let to = to.or(found.peer).ok_or(Errno::DESTADDRREQ)?;
        if data.len() > PAYLOAD_MAX {
            return Err(Errno::MSGSIZE.into());
        }
        if to.port() == 0 {
            return Err(Errno::INVAL.into());
        }
        let (host, address, broadcasts) = (found.host, found.address, found.broadcasts);
        // Only what goes to a group can be kept from those at home.
        let loops_back = found.loops_back || !to.ip().is_multicast();
        let to = self.way_to(socket, to)?;
        if is_broadcast(to.ip()) && !broadcasts {
            return Err(Errno::ACCESS.into());
        }
        let from = SocketAddr::new(self.source(host, address, to), address.port());
        let len = data.len();
        self.trace
            .add(self.now, Happening::DatagramSent { from, to, len });
        if is_broadcast(to.ip()) || to.ip().is_multicast() {
            for index in 0..self.hosts.len() {
                let other = HostId(index);
                let reaches = if other == host {
                    loops_back
                } else {
                    !to.ip().is_loopback()
                };
                if reaches && self.is_for(other, to) {
                    self.fly(host, other, from, to, Load::Datagram(data.into()));
                }
            }
            return Ok(());
        }
        match self.host_at(host, to.ip()) {
            Some(other) => self.fly(host, other, from, to, Load::Datagram(data.into())),
            None => self.lose(from, to, &Load::Datagram(data.into())),
        }
        Ok(())
    }
}

/// What becomes of it.
impl Network {
    /// Under which address a host sends there.
    fn source(&self, host: HostId, bound: SocketAddr, to: SocketAddr) -> IpAddr {
        let bound_to_one = !bound.ip().is_unspecified() && !bound.ip().is_multicast();
        match to.ip() {
            _ if bound_to_one => bound.ip(),
            IpAddr::V4(to) if to.is_loopback() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            IpAddr::V4(_) => self.hosts[host.0].ip,
        }
    }

    pub(super) fn host_at(&self, from: HostId, ip: IpAddr) -> Option<HostId> {
        if ip.is_loopback() || ip.is_unspecified() || ip == self.hosts[from.0].ip {
            return Some(from);
        }
        self.hosts.iter().position(|host| host.ip == ip).map(HostId)
    }

    /// Whether somebody on this host wants what goes to a group, or to all.
    fn is_for(&self, host: HostId, to: SocketAddr) -> bool {
        let sockets = self.datagrams.sockets.iter();
        sockets
            .map(|(_, socket)| socket)
            .any(|socket| socket.host == host && socket.wants(to))
    }

    fn lose(&mut self, from: SocketAddr, to: SocketAddr, what: &Load) {
        let lost = match what {
            Load::Datagram(data) => {
                let len = data.len();
                Happening::DatagramLost { from, to, len }
            }
            Load::Refusal => Happening::Lost { from, to },
        };
        self.trace.add(self.now, lost);
    }

    /// Sends something on its way, by the link between two hosts.
    fn fly(
        &mut self,
        from_host: HostId,
        host: HostId,
        from: SocketAddr,
        to: SocketAddr,
        what: Load,
    ) {
        let len = match &what {
            Load::Datagram(data) => data.len(),
            Load::Refusal => 0,
        };
        // Detached from the map, because the numbers are drawn from the network's.
        let mut state = self.link(from_host, host);
        let link = state.current();
        let pieces = len.div_ceil(PIECE).max(1);
        let size = len + 8 + pieces * PIECE_HEADERS;
        // One draw is in `send`: the whole is lost if any piece is.
        let torn = (1..pieces).any(|_| self.random.chance(link.loss));
        let fate = state.send(self.now, size, &mut self.random);
        let held = state.held.is_set();
        self.links.insert((from_host, host), state);
        let at = match fate {
            Fate::Arrives(at) if !torn => at,
            _ => return self.lose(from, to, &what),
        };
        let mut latency = at - self.now;
        let detour = self.random.chance(link.reordering);
        if detour {
            let longest = link.latency.draw(&mut self.random) * DETOURS_MAX;
            latency += self.random.between(Duration::ZERO, longest);
        }
        let flying = Flying {
            way: (from_host, host),
            // Where each takes its own time, the one overtakes the other.
            keeps_order: !detour && matches!(link.latency, Latency::Fixed(_)),
            from,
            to,
            what,
        };
        if self.random.chance(link.duplication)
            && let Some(again) = flying.doubled()
        {
            let late = latency + link.latency.draw(&mut self.random);
            self.depart(again, held, late);
        }
        self.depart(flying, held, latency);
    }

    fn depart(&mut self, flying: Flying, held: bool, latency: Duration) {
        let way = flying.way;
        let key = self.datagrams.flying.insert(flying).to_u64();
        if held {
            let parked = self.parked.entry(way).or_default();
            parked.push(What::Datagram(key));
        } else {
            self.datagram_arrives_after(latency, key);
        }
    }

    pub(super) fn datagram_arrives_after(&mut self, latency: Duration, key: u64) {
        let mut at = self.now.saturating_add(latency);
        let flying = self.datagrams.flying.get(Token::from_u64(key));
        if let Some(flying) = flying.filter(|flying| flying.keeps_order) {
            let last = self.datagrams.last.entry(flying.way).or_default();
            at = at.max(*last + Duration::from_nanos(1));
            *last = at;
        }
        self.schedule(at, What::Datagram(key));
    }

    /// A datagram has reached its host.
    pub(super) fn datagram_arrives(&mut self, flying: u64) {
        let Some(flying) = self.datagrams.flying.remove(Token::from_u64(flying)) else {
            return;
        };
        let Flying {
            way: (_, host),
            from,
            to,
            what,
            ..
        } = flying;
        match what {
            what if !self.hosts[host.0].up => self.lose(from, to, &what),
            Load::Datagram(data) => self.take_in(host, from, to, data),
            Load::Refusal => self.refused(host, from, to),
        }
    }

    fn take_in(&mut self, host: HostId, from: SocketAddr, to: SocketAddr, data: Box<[u8]>) {
        let to_many = is_broadcast(to.ip()) || to.ip().is_multicast();
        let mut takers: Vec<Token> = self.takers(host, from, to);
        if !to_many && takers.len() > 1 {
            // Who shares a port has the datagrams of one peer for its own.
            let index = usize::from(from.port()) % takers.len();
            takers = vec![takers[index]];
        }
        if takers.is_empty() && !to_many {
            self.trace
                .add(self.now, Happening::DatagramRefused { from, to });
            if let Some(sender) = self.host_at(host, from.ip()) {
                self.fly(host, sender, to, from, Load::Refusal);
            }
        }
        let len = data.len();
        for taker in takers {
            let Some(socket) = self.datagrams.sockets.get_mut(taker) else {
                unreachable!("it was found above");
            };
            if socket.waiting + len + BOOK_KEEPING > RECEIVE_BUFFER {
                let dropped = Happening::DatagramDropped { from, to, len };
                self.trace.add(self.now, dropped);
                continue;
            }
            socket.waiting += len + BOOK_KEEPING;
            socket.inbox.push_back((from, data.clone()));
            let arrived = Happening::DatagramArrived { from, to, len };
            self.trace.add(self.now, arrived);
            self.tell_udp(taker, READABLE);
        }
    }

    /// Whose datagram it is: of those to whom it could go, the ones that are most exact.
    fn takers(&self, host: HostId, from: SocketAddr, to: SocketAddr) -> Vec<Token> {
        let (mut takers, mut best) = (Vec::new(), 0);
        let to_many = is_broadcast(to.ip()) || to.ip().is_multicast();
        for (token, socket) in self.datagrams.sockets.iter() {
            let heard = socket.peer.is_none_or(|peer| peer == from);
            if socket.host != host || !socket.wants(to) || !heard {
                continue;
            }
            let exact = if to_many {
                0
            } else {
                4 * u8::from(socket.peer.is_some()) + socket.exactness(to.ip())
            };
            if exact > best {
                takers.clear();
                best = exact;
            }
            if exact == best {
                takers.push(token);
            }
        }
        takers
    }

    /// The host of a peer has said that nobody listens at `from`.
    fn refused(&mut self, host: HostId, from: SocketAddr, to: SocketAddr) {
        let sockets = self.datagrams.sockets.iter();
        let found = sockets
            .filter(|(_, socket)| {
                socket.host == host
                    && socket.address.port() == to.port()
                    && socket.peer == Some(from)
            })
            .map(|(token, _)| token)
            .next();
        if let Some(token) = found
            && let Ok(socket) = self.udp_mut(token)
        {
            socket.refused = true;
            self.tell_udp(token, merged(READABLE, WRITABLE));
        }
    }

    fn tell_udp(&mut self, token: Token, news: Readiness) {
        let Some(socket) = self.datagrams.sockets.get_mut(token) else {
            return;
        };
        socket.news = merged(socket.news, news);
        if socket.token.is_some() && !socket.queued {
            socket.queued = true;
            let host = socket.host;
            self.hosts[host.0].ready.push(Ready::Udp(token));
        }
    }

    pub(super) fn take_udp_news(&mut self, token: Token) -> Option<(Option<Token>, Readiness)> {
        let socket = self.datagrams.sockets.get_mut(token)?;
        socket.queued = false;
        Some((socket.token, std::mem::replace(&mut socket.news, NO_NEWS)))
    }

    /// The host loses its memory.
    pub(super) fn crash_udp(&mut self, host: HostId) {
        let sockets = self.datagrams.sockets.iter();
        let lost: Vec<Token> = sockets
            .filter(|(_, socket)| socket.host == host)
            .map(|(token, _)| token)
            .collect();
        for token in lost {
            self.datagrams.sockets.remove(token);
        }
    }
}

impl Flying {
    /// The same once more, if it is a datagram.
    fn doubled(&self) -> Option<Self> {
        let Load::Datagram(data) = &self.what else {
            return None;
        };
        Some(Self {
            way: self.way,
            keeps_order: false,
            from: self.from,
            to: self.to,
            what: Load::Datagram(data.clone()),
        })
    }
}

impl UdpSocket {
    /// Whether what goes to this address on its host comes to it, from whomever.
    fn wants(&self, to: SocketAddr) -> bool {
        let (own, ip) = (self.address.ip(), to.ip());
        let is_ours = if ip.is_multicast() {
            self.groups.contains(&ip)
        } else {
            !is_broadcast(ip) || own.is_unspecified()
        };
        is_ours && self.exactness(ip) > 0 && self.address.port() == to.port()
    }

    fn exactness(&self, to: IpAddr) -> u8 {
        exactness(self.address.ip(), self.only_v6, to)
    }
}

/// To everybody in this network: RFC 919 §7, the hosts' own network, 10.0.0.0/8, and the one
/// that each has for itself.
fn is_broadcast(ip: IpAddr) -> bool {
    let networks = [[255; 4], [10, 255, 255, 255], [127, 255, 255, 255]];
    networks.into_iter().any(|all| ip == IpAddr::from(all))
}
