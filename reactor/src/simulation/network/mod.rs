//! Hosts, connections and what travels between them: a network as a plain value.
//!
//! A [`Network`] is told what programs do (listen, connect, write, read, close) and to
//! pass its time; it says which sockets have changed. It runs nothing and calls nothing.
//!
//! # The model
//!
//! TCP as programs see it, not packet by packet: bytes arrive in order and once, after
//! the latency of their link; what is lost is sent again after [`RETRY`], twice that, and
//! so on; who hears nothing for long gives up. A connection is made by three words, as in
//! RFC 9293 §3.5: a request, the answer, and that this has come; only then is it accepted.
//! A host that is down answers nothing; one that has restarted resets the connections of
//! its former life.
//!
//! # Order
//!
//! What happens at the same time to different sockets happens in an order that the seed
//! draws. What happens to one direction of one connection keeps its order.
//!
//! # Bounds
//!
//! Per connection and direction what [`lane`](super::lane) says; a listener holds as
//! many connections that nobody has accepted as its program asks for, and [`BACKLOG_MAX`] at most.

mod keep_alive;
mod requests;
mod tcp;
pub(super) mod udp;
pub(super) mod unix;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::descriptor::Readiness;
use crate::driver::Events;
use crate::slab::{Slab, Token};
use crate::sockets::KeepAlive;

use self::udp::Datagrams;
use self::unix::UnixSockets;
use super::chunking::Chunking;
use super::lane::Lane;
use super::link::{Latency, Link, LinkState, StopBy};
use super::trace::{Happening, Trace};
use crate::random::Random;

/// Connections that wait to be accepted at most, whatever a program asks for: Linux's
/// `net.core.somaxconn`.
const BACKLOG_MAX: u32 = 4096;
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
/// Tries before a silent peer is given up: Linux's `tcp_retries2`, `tcp_syn_retries` and
/// `tcp_synack_retries`.
const RETRIES: u32 = 15;
const CONNECT_RETRIES: u32 = 6;
const ANSWER_RETRIES: u32 = 5;
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
    /// Who is connected with whom, or asks for it: their addresses.
    connected: BTreeSet<(SocketAddr, SocketAddr)>,
    listeners: Slab<Listener>,
    datagrams: Datagrams,
    unix: UnixSockets,
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
    /// Who listens on which port.
    listening: BTreeMap<u16, Vec<Token>>,
    /// Sockets with news for their reactor.
    ready: Vec<Ready>,
}

impl Host {
    fn listeners_at(&self, port: u16) -> &[Token] {
        self.listening.get(&port).map_or(&[], Vec::as_slice)
    }
}

#[derive(Clone, Copy, Debug)]
enum Ready {
    Socket(SocketId),
    Listener(Token),
    Udp(Token),
    Unix(Token),
}

struct Listener {
    host: HostId,
    address: SocketAddr,
    reuses_port: bool,
    only_v6: bool,
    token: Option<Token>,
    waiting: VecDeque<SocketId>,
    /// Who was answered, and has not said that the answer came.
    answered: BTreeSet<Packet>,
    /// As on Linux, one more than this may wait.
    backlog: usize,
    queued: bool,
}

struct Connection {
    sides: [Side; 2],
}

/// One side, with the lane that leaves it.
struct Side {
    host: HostId,
    address: SocketAddr,
    /// Its socket is one of IPv6, and shows IPv4's addresses as that does.
    shows_v6: bool,
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
    /// An acknowledgement was lost and is asked for when a pause is over.
    asking: bool,
    keep_alive: Option<KeepAlive>,
    /// Its host asks, now and then, whether the peer is still there.
    keeping: bool,
    /// So many times, since it heard from there.
    questions: u32,
    heard: Duration,
    /// How often that was so since something last arrived.
    tries: u32,
}

impl Side {
    /// Whether it waits for the other side to say what has arrived, and nothing on its way says it.
    fn is_unheard(&self) -> bool {
        let waits = self.lane.has_arrivals_untold()
            || (self.lane.waits_for_reader() && self.lane.has_untold());
        waits && !self.ack_due && matches!(self.phase, Phase::Open | Phase::Closed)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The request is on its way, or its answer.
    Connecting,
    /// It was asked and has answered, and does not know whether the answer came.
    Answered,
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

/// What will happen, to one side of a connection as a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Request(Packet),
    Answer(Packet),
    /// The answer has come.
    Confirmation(Packet),
    Refusal(Packet),
    Reset(Packet),
    Segment(Packet, usize, bool),
    Ack(Packet, usize, usize),
    /// "Have you got it?"
    Question(Packet),
    /// A pause is over, after which something is sent again.
    Retry(Packet),
    /// A pause is over, after which is asked.
    Ask(Packet),
    /// "Are you there?"
    Probe(Packet),
    /// "I am."
    Alive(Packet),
    /// The peer was silent for a while.
    Watch(Packet),
    /// Something of UDP's reaches a host.
    Datagram(u64),
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
    /// The side that it happens to.
    fn target(self) -> Option<SocketId> {
        match self {
            Self::Request(packet)
            | Self::Answer(packet)
            | Self::Confirmation(packet)
            | Self::Refusal(packet)
            | Self::Reset(packet)
            | Self::Segment(packet, ..)
            | Self::Ack(packet, ..)
            | Self::Question(packet)
            | Self::Retry(packet)
            | Self::Ask(packet)
            | Self::Probe(packet)
            | Self::Alive(packet)
            | Self::Watch(packet) => Some(packet.socket()),
            Self::Datagram(_) => None,
        }
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
            connected: BTreeSet::new(),
            listeners: Slab::new(),
            datagrams: Datagrams::new(),
            unix: UnixSockets::new(),
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

    pub(super) fn draw_time(&mut self, min: Duration, max: Duration) -> Duration {
        self.random.between(min, max)
    }

    pub(super) fn draw_seed(&mut self) -> u64 {
        self.random.next()
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
            listening: BTreeMap::new(),
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
    pub(super) fn take_news(&mut self, host: HostId, events: &mut Events) {
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
                Ready::Udp(socket) => match self.take_udp_news(socket) {
                    Some(news) => news,
                    None => continue,
                },
                Ready::Unix(socket) => match self.take_unix_news(socket) {
                    Some(news) => news,
                    None => continue,
                },
            };
            if let Some(token) = token {
                events.push(token, readiness);
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

    /// The way is as bad as this, until the same is said to be over.
    pub(super) fn set_degraded(&mut self, from: HostId, to: HostId, like: Link, begins: bool) {
        let degraded = &mut self.link_mut(from, to).degraded;
        if begins {
            degraded.push(like);
        } else if let Some(place) = degraded.iter().position(|link| *link == like) {
            degraded.remove(place);
        }
    }

    /// Nothing gets from one host to the other any more; or this one no longer keeps it.
    pub(super) fn set_cut(&mut self, from: HostId, to: HostId, by: StopBy, cut: bool) {
        self.link_mut(from, to).cut.set(by, cut);
        if cut {
            self.watch_over_all_between(from, to);
        }
    }

    /// What gets from one host to the other waits; or what has waited goes on, unless
    /// somebody else still holds it.
    pub(super) fn set_held(&mut self, from: HostId, to: HostId, by: StopBy, held: bool) {
        let link = self.link_mut(from, to);
        link.held.set(by, held);
        if held {
            self.watch_over_all_between(from, to);
        } else if !link.held.is_set() {
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
        let listening = std::mem::take(&mut self.hosts[host.0].listening);
        for token in listening.into_values().flatten() {
            self.listeners.remove(token);
        }
        self.crash_udp(host);
        self.crash_unix(host);
        let connections: Vec<Token> = self.connections.iter().map(|(token, _)| token).collect();
        for connection in connections {
            for side in 0..2 {
                let socket = SocketId { connection, side };
                if let Some(side) = self.side_mut(socket).filter(|side| side.host == host) {
                    side.token = None;
                    side.news = NO_NEWS;
                    side.queued = false;
                    // Who is still asking for a connection may get it after a restart.
                    if socket.side == 0 || side.phase != Phase::Connecting {
                        self.forget(socket);
                    }
                    self.have_peer_probe(socket);
                }
            }
            self.forget_if_over(connection);
        }
    }

    /// The end: what is left of sockets finds nothing here any more.
    pub(super) fn forget_everything(&mut self) {
        self.queue = BinaryHeap::new();
        self.connections = Slab::new();
        self.connected = BTreeSet::new();
        self.listeners = Slab::new();
        self.datagrams = Datagrams::new();
        self.unix = UnixSockets::new();
        self.parked = BTreeMap::new();
        self.trace = Trace::default();
    }

    pub(super) fn restart(&mut self, host: HostId) {
        self.hosts[host.0].up = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sockets::ListenOptions;

    const SECOND: Duration = Duration::from_secs(1);

    /// A network of two hosts, and the second one's address.
    fn two(seed: u64) -> (Network, HostId, HostId, SocketAddr) {
        let mut network = Network::new(Random::new(seed));
        let (one, _) = network.add_host();
        let (two, ip) = network.add_host();
        (network, one, two, SocketAddr::new(ip, 7))
    }

    fn pass(network: &mut Network, time: Duration) {
        network.advance(network.now() + time);
    }

    #[test]
    fn attempts_that_came_to_nothing_leave_nothing_behind() {
        let (mut network, one, two, address) = two(1);
        let token = Token::from_u64(0);
        for time in [SECOND, Duration::ZERO] {
            for _ in 0..1000 {
                let socket = network.connect(one, None, address).expect("there is a way");
                network.watch(socket, token);
                pass(&mut network, time);
                network.close(socket, false);
            }
        }
        network.set_cut(two, one, StopBy::OneWay, true);
        for _ in 0..10 {
            let socket = network.connect(one, None, address).expect("there is a way");
            network.watch(socket, token);
            pass(&mut network, SECOND * 1000);
            assert!(network.connect_result(socket).is_err());
            network.close(socket, false);
        }
        assert_eq!(network.connections.len(), 0);
    }

    #[test]
    fn connections_that_are_over_at_both_ends_leave_nothing_behind_whatever_was_lost() {
        for seed in 0..300 {
            let (mut network, one, two, address) = two(seed);
            network.set_default_link(Link {
                loss: 0.3,
                ..Link::default()
            });
            let listener = network
                .listen(two, address, &ListenOptions::new())
                .expect("it is free");
            let mut choose = Random::new(seed);
            let mut served = Vec::new();
            for _ in 0..20 {
                let socket = network.connect(one, None, address).expect("there is a way");
                let waits = choose.between(Duration::ZERO, SECOND / 100);
                pass(&mut network, waits);
                // It may not be connected yet.
                drop(network.write(socket, b"hello"));
                while let Some((accepted, _)) = network.accept(listener) {
                    drop(network.write(accepted, b"hello, too"));
                    served.push(accepted);
                }
                let waits = choose.between(Duration::ZERO, SECOND * 2);
                pass(&mut network, waits);
                network.close(socket, choose.chance(0.5));
            }
            pass(&mut network, SECOND * 1000);
            while let Some((accepted, _)) = network.accept(listener) {
                served.push(accepted);
            }
            for socket in served {
                network.close(socket, choose.chance(0.5));
            }
            pass(&mut network, SECOND * 10_000);
            assert_eq!(network.connections.len(), 0, "seed {seed}");
        }
    }
}
