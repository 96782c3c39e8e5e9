//! Hosts, connections and what travels between them: a network as a plain value.
//!
//! A [`Network`] is told what programs do (listen, connect, write, read, close) and to
//! pass its time; it says which sockets have changed. It runs nothing and calls nothing.
//!
//! # The model
//!
//! TCP as programs see it, not packet by packet: bytes arrive in order and once, after
//! the latency of their link; what is lost is sent again after [`RETRY`], twice that, and
//! so on; who hears nothing for long gives up. A host that is down answers nothing; one
//! that has restarted resets the connections of its former life.
//!
//! # Order
//!
//! What happens at the same time to different sockets happens in an order that the seed
//! draws. What happens to one direction of one connection keeps its order.
//!
//! # Bounds
//!
//! Per connection and direction what [`lane`](super::lane) says; a listener holds
//! [`BACKLOG`] connections that nobody has accepted.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::descriptor::Readiness;
use crate::driver::Event;
use crate::slab::{Slab, Token};

use super::chunking::Chunking;
use super::lane::{Ack, Lane, Segment};
use super::link::{Fate, Latency, Link, LinkState};
use super::random::Random;
use super::trace::{Happening, Trace};

/// Connections that wait to be accepted.
const BACKLOG: usize = 128;
/// The first port given to who connects: RFC 6335 §6, the dynamic ports.
const EPHEMERAL: u16 = 49_152;
/// What TCP and IP add to the bytes of a packet.
const HEADERS: usize = 40;
/// When what was lost is sent again, the first time: Linux's shortest.
const RETRY: Duration = Duration::from_millis(200);
/// The same for a request to connect: RFC 6298 §2.
const CONNECT_RETRY: Duration = Duration::from_secs(1);
/// The longest pause between two tries: Linux's.
const RETRY_MAX: Duration = Duration::from_secs(120);
/// Tries before a silent peer is given up: Linux's `tcp_retries2` and `tcp_syn_retries`.
const RETRIES: u32 = 15;
const CONNECT_RETRIES: u32 = 6;
/// From a host to itself.
const LOOPBACK: Duration = Duration::from_micros(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct HostId(pub(super) usize);

/// One side of a connection, as a driver's socket holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SocketId {
    connection: Token,
    side: usize,
}

impl SocketId {
    fn peer(self) -> Self {
        Self {
            side: 1 - self.side,
            ..self
        }
    }
}

pub(super) struct Network {
    now: Duration,
    /// Breaks ties of the queue, and makes its order total.
    queued: u32,
    random: Random,
    /// What will happen, soonest first.
    queue: BinaryHeap<Reverse<Due>>,
    hosts: Vec<Host>,
    connections: Slab<Connection>,
    listeners: Slab<Listener>,
    links: BTreeMap<(HostId, HostId), LinkState>,
    default_link: Link,
    /// What waits on links that are held, in order.
    parked: BTreeMap<(HostId, HostId), Vec<What>>,
    pub(super) chunking: Chunking,
    pub(super) trace: Trace,
}

struct Host {
    ip: IpAddr,
    up: bool,
    next_port: u16,
    /// Sockets with news for their reactor.
    ready: Vec<Ready>,
}

#[derive(Clone, Copy, Debug)]
enum Ready {
    Socket(SocketId),
    Listener(Token),
}

struct Listener {
    host: HostId,
    address: SocketAddr,
    token: Option<Token>,
    waiting: VecDeque<SocketId>,
    queued: bool,
}

struct Connection {
    sides: [Side; 2],
}

/// One side, with the lane that leaves it.
struct Side {
    host: HostId,
    address: SocketAddr,
    phase: Phase,
    lane: Lane,
    /// Who is told of news.
    token: Option<Token>,
    news: Readiness,
    queued: bool,
    error: Option<ErrorKind>,
    /// A write found no room.
    starved: bool,
    /// The last segment arrives then; no later one before.
    last_arrival: Duration,
    /// An acknowledgement is on its way to this side.
    ack_due: bool,
    /// Something was lost and is sent again when a pause is over; nothing before.
    retrying: bool,
    /// How often that was so since something last arrived.
    tries: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The request is on its way.
    Connecting,
    Open,
    /// Its program has closed it; the host sends the rest.
    Closed,
    /// Nobody knows of it any more: reset, given up, or the host has crashed.
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at: Duration,
    /// Drawn, then counted: see the module's page.
    order: u64,
    what: What,
}

/// What will happen to one side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Request(Packet),
    Answer(Packet),
    Refusal(Packet),
    Reset(Packet),
    Segment(Packet, usize, bool),
    Ack(Packet, usize, usize),
    Retry(Packet),
}

/// Whom it happens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Packet {
    connection: u64,
    side: usize,
}

impl Packet {
    fn to(socket: SocketId) -> Self {
        Self {
            connection: socket.connection.to_u64(),
            side: socket.side,
        }
    }

    fn socket(self) -> SocketId {
        SocketId {
            connection: Token::from_u64(self.connection),
            side: self.side,
        }
    }
}

impl What {
    fn target(self) -> SocketId {
        let (Self::Request(packet)
        | Self::Answer(packet)
        | Self::Refusal(packet)
        | Self::Reset(packet)
        | Self::Segment(packet, ..)
        | Self::Ack(packet, ..)
        | Self::Retry(packet)) = self;
        packet.socket()
    }
}

const NO_NEWS: Readiness = Readiness {
    readable: false,
    writable: false,
    hangup: false,
    broken: false,
    urgent: false,
};
const READABLE: Readiness = Readiness {
    readable: true,
    ..NO_NEWS
};
const WRITABLE: Readiness = Readiness {
    writable: true,
    ..NO_NEWS
};
const ENDED: Readiness = Readiness {
    readable: true,
    hangup: true,
    ..NO_NEWS
};
const BROKEN: Readiness = Readiness {
    readable: true,
    writable: true,
    hangup: true,
    broken: true,
    urgent: false,
};

fn merged(one: Readiness, other: Readiness) -> Readiness {
    Readiness {
        readable: one.readable | other.readable,
        writable: one.writable | other.writable,
        hangup: one.hangup | other.hangup,
        broken: one.broken | other.broken,
        urgent: one.urgent | other.urgent,
    }
}

/// Time, hosts and links.
impl Network {
    pub(super) fn new(random: Random) -> Self {
        Self {
            now: Duration::ZERO,
            queued: 0,
            random,
            queue: BinaryHeap::new(),
            hosts: Vec::new(),
            connections: Slab::new(),
            listeners: Slab::new(),
            links: BTreeMap::new(),
            default_link: Link::default(),
            parked: BTreeMap::new(),
            chunking: Chunking::default(),
            trace: Trace::default(),
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.now
    }

    pub(super) fn note(&mut self, text: impl AsRef<str>) {
        let note = Happening::Note(text.as_ref().into());
        self.trace.add(self.now, note);
    }

    pub(super) fn add_host(&mut self) -> (HostId, IpAddr) {
        let id = HostId(self.hosts.len());
        let number = u32::try_from(id.0 + 1).expect("fewer hosts than addresses");
        let ip = IpAddr::from(Ipv4Addr::from(
            u32::from(Ipv4Addr::new(10, 0, 0, 0)) + number,
        ));
        self.hosts.push(Host {
            ip,
            up: true,
            next_port: EPHEMERAL,
            ready: Vec::new(),
        });
        (id, ip)
    }

    pub(super) fn is_up(&self, host: HostId) -> bool {
        self.hosts[host.0].up
    }

    /// When the next thing happens.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.queue.peek().map(|Reverse(due)| due.at)
    }

    /// Lets everything happen that is due by `until`, and makes that the time.
    pub(super) fn advance(&mut self, until: Duration) {
        while let Some(Reverse(due)) = self.queue.peek() {
            if due.at > until {
                break;
            }
            let Some(Reverse(due)) = self.queue.pop() else {
                unreachable!("it was there when it was looked at");
            };
            self.now = self.now.max(due.at);
            self.happen(due.what);
        }
        self.now = self.now.max(until);
    }

    pub(super) fn has_news(&self, host: HostId) -> bool {
        !self.hosts[host.0].ready.is_empty()
    }

    /// What has changed for the sockets of a host, in an order that the seed draws.
    pub(super) fn take_news(&mut self, host: HostId, events: &mut Vec<Event>) {
        let mut ready = std::mem::take(&mut self.hosts[host.0].ready);
        self.random.shuffle(&mut ready);
        for ready in ready.drain(..) {
            let (token, readiness) = match ready {
                Ready::Socket(socket) => {
                    let Some(side) = self.side_mut(socket) else {
                        continue;
                    };
                    side.queued = false;
                    (side.token, std::mem::replace(&mut side.news, NO_NEWS))
                }
                Ready::Listener(listener) => {
                    let Some(listener) = self.listeners.get_mut(listener) else {
                        continue;
                    };
                    listener.queued = false;
                    (listener.token, READABLE)
                }
            };
            if let Some(token) = token {
                events.push(Event { token, readiness });
            }
        }
        // Keeps the allocation.
        self.hosts[host.0].ready = ready;
    }

    pub(super) fn set_default_link(&mut self, link: Link) {
        self.default_link = link;
    }

    pub(super) fn set_link(&mut self, from: HostId, to: HostId, link: Link) {
        self.link_mut(from, to).link = link;
    }

    /// The way is as bad as this for a while; `None` ends that.
    pub(super) fn set_degraded(&mut self, from: HostId, to: HostId, link: Option<Link>) {
        self.link_mut(from, to).degraded = link;
    }

    /// Nothing gets from one host to the other any more, or does again.
    pub(super) fn set_cut(&mut self, from: HostId, to: HostId, cut: bool) {
        self.link_mut(from, to).cut = cut;
    }

    /// What gets from one host to the other waits; or what has waited goes on.
    pub(super) fn set_held(&mut self, from: HostId, to: HostId, held: bool) {
        self.link_mut(from, to).held = held;
        if !held {
            for what in self.parked.remove(&(from, to)).unwrap_or_default() {
                let latency = self.link(from, to).current().latency.draw(&mut self.random);
                self.arrive_after(latency, what);
            }
        }
    }

    fn link(&self, from: HostId, to: HostId) -> LinkState {
        match self.links.get(&(from, to)) {
            Some(link) => link.clone(),
            None => self.fresh_link(from, to),
        }
    }

    fn fresh_link(&self, from: HostId, to: HostId) -> LinkState {
        let link = if from == to {
            Link::with_latency(Latency::Fixed(LOOPBACK))
        } else {
            self.default_link
        };
        LinkState::new(link)
    }

    fn link_mut(&mut self, from: HostId, to: HostId) -> &mut LinkState {
        let fresh = self.fresh_link(from, to);
        self.links.entry((from, to)).or_insert(fresh)
    }

    /// The host loses its memory: sockets, what is unsent, what is unread.
    pub(super) fn crash(&mut self, host: HostId) {
        self.hosts[host.0].up = false;
        self.hosts[host.0].ready.clear();
        let listeners: Vec<Token> = self.listeners.iter().map(|(token, _)| token).collect();
        for token in listeners {
            if self.listeners.get(token).is_some_and(|l| l.host == host) {
                self.listeners.remove(token);
            }
        }
        let connections: Vec<Token> = self.connections.iter().map(|(token, _)| token).collect();
        for connection in connections {
            for side in 0..2 {
                let socket = SocketId { connection, side };
                // Who is still asking for this connection may get it after a restart.
                let asked = side == 1
                    && self.side(socket.peer()).map(|side| side.phase) == Some(Phase::Connecting);
                if let Some(side) = self.side_mut(socket).filter(|side| side.host == host) {
                    side.phase = if asked {
                        Phase::Connecting
                    } else {
                        Phase::Gone
                    };
                    side.token = None;
                    side.lane.forget_unsent();
                }
            }
            self.forget_if_over(connection);
        }
    }

    pub(super) fn restart(&mut self, host: HostId) {
        self.hosts[host.0].up = true;
    }
}

/// What programs ask for.
impl Network {
    pub(super) fn listen(&mut self, host: HostId, address: SocketAddr) -> io::Result<Token> {
        let ip = self.hosts[host.0].ip;
        let own = address.ip() == ip || address.ip().is_unspecified() || address.ip().is_loopback();
        if !own {
            return Err(ErrorKind::AddrNotAvailable.into());
        }
        let mut address = address;
        if address.port() == 0 {
            address.set_port(self.free_port(host));
        }
        if self.listener_at(host, address).is_some() {
            return Err(ErrorKind::AddrInUse.into());
        }
        Ok(self.listeners.insert(Listener {
            host,
            address,
            token: None,
            waiting: VecDeque::new(),
            queued: false,
        }))
    }

    pub(super) fn listening_address(&self, listener: Token) -> Option<SocketAddr> {
        self.listeners
            .get(listener)
            .map(|listener| listener.address)
    }

    pub(super) fn watch_listener(&mut self, listener: Token, token: Token) {
        if let Some(found) = self.listeners.get_mut(listener) {
            found.token = Some(token);
            if !found.waiting.is_empty() {
                self.tell_listener(listener);
            }
        }
    }

    /// A connection that waits; `None` if there is none.
    pub(super) fn accept(&mut self, listener: Token) -> Option<(SocketId, SocketAddr)> {
        loop {
            let socket = self.listeners.get_mut(listener)?.waiting.pop_front()?;
            // One that was reset meanwhile may be forgotten already.
            if let Some(peer) = self.side(socket.peer()) {
                return Some((socket, peer.address));
            }
        }
    }

    pub(super) fn close_listener(&mut self, listener: Token) {
        let Some(listener) = self.listeners.remove(listener) else {
            return;
        };
        for socket in listener.waiting {
            self.reset(socket);
        }
    }

    pub(super) fn connect(&mut self, host: HostId, peer: SocketAddr) -> io::Result<SocketId> {
        let ip = self.hosts[host.0].ip;
        let local = peer.ip().is_loopback() || peer.ip().is_unspecified() || peer.ip() == ip;
        let to = if local {
            host
        } else {
            let found = self.hosts.iter().position(|other| other.ip == peer.ip());
            HostId(found.ok_or(ErrorKind::HostUnreachable)?)
        };
        let own = if local { peer.ip() } else { ip };
        let own = SocketAddr::new(own, self.free_port(host));
        let side = |host, address| Side {
            host,
            address,
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

    pub(super) fn watch(&mut self, socket: SocketId, token: Token) {
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

    pub(super) fn connect_result(&self, socket: SocketId) -> io::Result<()> {
        let side = self.side(socket).ok_or(ErrorKind::NotConnected)?;
        match (side.error, side.phase) {
            (Some(error), _) => Err(error.into()),
            (None, Phase::Connecting) => Err(ErrorKind::WouldBlock.into()),
            (None, _) => Ok(()),
        }
    }

    pub(super) fn address(&self, socket: SocketId) -> Option<SocketAddr> {
        self.side(socket).map(|side| side.address)
    }

    pub(super) fn set_nagle(&mut self, socket: SocketId, nagle: bool) {
        if let Some(side) = self.side_mut(socket) {
            side.lane.set_nagle(nagle);
            self.transmit(socket);
        }
    }

    pub(super) fn read(&mut self, socket: SocketId, buffer: &mut [u8]) -> io::Result<usize> {
        let own = self.side(socket).ok_or(ErrorKind::NotConnected)?;
        if let Some(error) = own.error {
            return Err(error.into());
        }
        let sender = socket.peer();
        let lane = &mut self
            .connections
            .get_mut(socket.connection)
            .ok_or(ErrorKind::NotConnected)?
            .sides[sender.side]
            .lane;
        let there = lane.readable().min(buffer.len());
        if there == 0 {
            return if lane.is_read_out() {
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

    pub(super) fn write(&mut self, socket: SocketId, data: &[u8]) -> io::Result<usize> {
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

    pub(super) fn end_write(&mut self, socket: SocketId) -> io::Result<()> {
        let side = self.side_mut(socket).ok_or(ErrorKind::NotConnected)?;
        if side.error.is_some() || side.phase != Phase::Open {
            return Err(ErrorKind::NotConnected.into());
        }
        side.lane.end();
        self.transmit(socket);
        Ok(())
    }

    pub(super) fn is_delivered(&self, socket: SocketId) -> bool {
        self.side(socket)
            .is_none_or(|side| side.lane.is_delivered())
    }

    /// The program closes its socket. Unread bytes, or a wish to, make it a reset.
    pub(super) fn close(&mut self, socket: SocketId, reset: bool) {
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
            Phase::Closed | Phase::Gone => {}
        }
        self.forget_if_over(socket.connection);
    }
}

/// What hosts do for them.
impl Network {
    fn side(&self, socket: SocketId) -> Option<&Side> {
        let connection = self.connections.get(socket.connection)?;
        Some(&connection.sides[socket.side])
    }

    fn side_mut(&mut self, socket: SocketId) -> Option<&mut Side> {
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

    fn listener_at(&self, host: HostId, address: SocketAddr) -> Option<Token> {
        let found = self.listeners.iter().find(|(_, listener)| {
            let ip = listener.address.ip();
            let matches =
                ip == address.ip() || ip.is_unspecified() || address.ip().is_unspecified();
            listener.host == host && listener.address.port() == address.port() && matches
        });
        found.map(|(token, _)| token)
    }

    fn free_port(&mut self, host: HostId) -> u16 {
        let host = &mut self.hosts[host.0];
        let port = host.next_port;
        host.next_port = port.checked_add(1).unwrap_or(EPHEMERAL);
        port
    }

    fn schedule(&mut self, at: Duration, what: What) {
        self.queued = self.queued.wrapping_add(1);
        let order = (self.random.next() & 0xFFFF_FFFF_0000_0000) | u64::from(self.queued);
        self.queue.push(Reverse(Due { at, order, what }));
    }

    fn arrive_after(&mut self, latency: Duration, what: What) {
        let mut at = self.now.saturating_add(latency);
        // What one side gets from the other keeps its order.
        if let Some(sender) = self.side_mut(what.target().peer()) {
            at = at.max(sender.last_arrival + Duration::from_nanos(1));
            sender.last_arrival = at;
        }
        self.schedule(at, what);
    }

    /// Sends something to the other side; says whether it left for good.
    fn send(&mut self, what: What, size: usize) -> bool {
        let target = what.target();
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
        let held = link.held;
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

    fn tell(&mut self, socket: SocketId, news: Readiness) {
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

    fn tell_listener(&mut self, token: Token) {
        let Some(listener) = self.listeners.get_mut(token) else {
            return;
        };
        if listener.token.is_some() && !listener.queued {
            listener.queued = true;
            let host = listener.host;
            self.hosts[host.0].ready.push(Ready::Listener(token));
        }
    }

    fn request(&mut self, socket: SocketId) {
        if !self.send(What::Request(Packet::to(socket.peer())), 0) {
            self.retry_later(socket);
        }
    }

    /// Sends what the lane of this side has and may send.
    fn transmit(&mut self, socket: SocketId) {
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
            _ => (RETRY, RETRIES),
        };
        if side.phase == Phase::Gone || side.retrying {
            return;
        }
        if side.tries > most {
            return self.give_up(socket);
        }
        let pause = (first * 2_u32.saturating_pow(side.tries)).min(RETRY_MAX);
        side.retrying = true;
        side.tries += 1;
        self.schedule(self.now + pause, What::Retry(Packet::to(socket)));
    }

    fn give_up(&mut self, socket: SocketId) {
        if let Some((from, to)) = self.ends(socket) {
            self.trace.add(self.now, Happening::GaveUp { from, to });
        }
        self.break_off(socket, ErrorKind::TimedOut);
    }

    /// The end of one side: its program gets the error, its host forgets the rest.
    fn break_off(&mut self, socket: SocketId, error: ErrorKind) {
        if let Some(side) = self.side_mut(socket) {
            side.error = Some(error);
            side.phase = Phase::Gone;
            side.lane.forget_unsent();
            self.tell(socket, BROKEN);
        }
        self.forget_if_over(socket.connection);
    }

    /// This side knows nothing of the connection any more, without a word.
    fn vanish(&mut self, socket: SocketId) {
        if let Some(side) = self.side_mut(socket) {
            side.phase = Phase::Gone;
            side.token = None;
            side.lane.forget_unsent();
        }
    }

    /// This side breaks the connection off, and tells the other.
    fn reset(&mut self, socket: SocketId) {
        self.vanish(socket);
        self.send_reset(socket.peer());
    }

    /// Tells a side that the other knows nothing of their connection.
    fn send_reset(&mut self, target: SocketId) {
        if let Some((from, to)) = self.ends(target.peer()) {
            self.trace.add(self.now, Happening::Reset { from, to });
            // Lost or not: who goes on sending is told again.
            self.send(What::Reset(Packet::to(target)), 0);
        }
    }

    /// The host of the receiver tells `sender` what has arrived and was read.
    fn acknowledge(&mut self, sender: SocketId) {
        let Some(side) = self.side_mut(sender) else {
            return;
        };
        if side.ack_due || !side.lane.has_untold() {
            return;
        }
        side.ack_due = true;
        let Ack { arrived, read } = side.lane.take_ack();
        let what = What::Ack(Packet::to(sender), arrived, read);
        if !self.send(what, 0) {
            // The next one says it, too: as if it were only late.
            self.schedule(self.now + RETRY, what);
        }
    }

    /// Drops a connection of which nothing is left to happen.
    fn forget_if_over(&mut self, connection: Token) {
        let Some(found) = self.connections.get(connection) else {
            return;
        };
        let over = found.sides.iter().enumerate().all(|(index, side)| {
            let peer_gone = found.sides[1 - index].phase == Phase::Gone;
            match side.phase {
                Phase::Gone => side.token.is_none(),
                Phase::Closed => peer_gone || side.lane.has_end_arrived(),
                Phase::Connecting | Phase::Open => false,
            }
        });
        if over {
            self.connections.remove(connection);
        }
    }

    fn happen(&mut self, what: What) {
        let socket = what.target();
        // A connection that is over gets nothing any more.
        let Some(side) = self.side(socket) else {
            return;
        };
        let (phase, up) = (side.phase, self.hosts[side.host.0].up);
        match what {
            What::Retry(_) => self.retry(socket, phase),
            What::Request(_) if up => self.requested(socket),
            What::Segment(_, len, end) if up => self.arrived(socket, Segment { len, end }),
            // A host that is down hears nothing, and its peers try again.
            What::Request(_) => self.retry_later(socket.peer()),
            What::Segment(_, len, end) => self.unsend(socket.peer(), Segment { len, end }),
            What::Answer(_) if phase == Phase::Connecting => {
                if let Some(side) = self.side_mut(socket) {
                    side.phase = Phase::Open;
                    side.retrying = false;
                    side.tries = 0;
                }
                self.tell(socket, WRITABLE);
                self.transmit(socket);
            }
            // It has given up, or crashed, meanwhile.
            What::Answer(_) if up && phase == Phase::Gone => self.send_reset(socket.peer()),
            What::Refusal(_) if phase == Phase::Connecting => {
                self.break_off(socket, ErrorKind::ConnectionRefused);
            }
            What::Reset(_) if matches!(phase, Phase::Open | Phase::Closed) => {
                self.break_off(socket, ErrorKind::ConnectionReset);
            }
            What::Ack(_, arrived, read) => self.acknowledged(socket, Ack { arrived, read }),
            What::Answer(_) | What::Refusal(_) | What::Reset(_) => {}
        }
    }

    fn retry(&mut self, socket: SocketId, phase: Phase) {
        if let Some(side) = self.side_mut(socket) {
            side.retrying = false;
        }
        match phase {
            Phase::Connecting if socket.side == 0 => self.request(socket),
            Phase::Connecting | Phase::Gone => {}
            Phase::Open | Phase::Closed => self.transmit(socket),
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
        let Some(listener) = self.listener_at(host, address) else {
            self.trace
                .add(self.now, Happening::Refused { from, to: address });
            let refusal = What::Refusal(Packet::to(socket.peer()));
            if !self.send(refusal, 0) {
                self.retry_later(socket.peer());
            }
            return;
        };
        if self.side(socket).map(|side| side.phase) == Some(Phase::Connecting) {
            let Some(found) = self.listeners.get_mut(listener) else {
                unreachable!("the listener was found above");
            };
            if found.waiting.len() >= BACKLOG {
                return self.retry_later(socket.peer());
            }
            found.waiting.push_back(socket);
            if let Some(side) = self.side_mut(socket) {
                side.phase = Phase::Open;
            }
            self.trace
                .add(self.now, Happening::Connected { from, to: address });
            self.tell_listener(listener);
        }
        if !self.send(What::Answer(Packet::to(socket.peer())), 0) {
            self.retry_later(socket.peer());
        }
    }

    /// A segment has reached the host of `socket`, from its peer.
    fn arrived(&mut self, socket: SocketId, segment: Segment) {
        let sender = socket.peer();
        let Some((to, from)) = self.ends(socket) else {
            return;
        };
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
    }
}
