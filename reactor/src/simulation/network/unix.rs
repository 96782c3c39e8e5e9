//! What hosts do for their sockets: datagrams over UNIX sockets.
//!
//! # The model
//!
//! They stay within their host, and are no part of the network: a datagram is there at once, and
//! none is lost. A name belongs to its host and is what is written, without a file: it goes with its
//! socket, or with the host when that crashes. A receiver holds a few datagrams, as on Linux, and
//! what nobody has read counts as its sender's; of room is told who is connected.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};

use rustix::io::Errno;

use crate::address::UnixAddress;
use crate::descriptor::Readiness;
use crate::slab::{Slab, Token};

use super::{HostId, NO_NEWS, Network, READABLE, Ready, WRITABLE, merged};

/// What one receiver holds: Linux's `net.unix.max_dgram_qlen`, which one more may exceed.
const QUEUE_MAX: usize = 10;
/// What a sender may have unread at others, where each datagram counts with its own book-keeping:
/// Linux's `net.core.wmem_default`.
pub(in crate::simulation) const SEND_BUFFER: usize = 212_992;
const BOOK_KEEPING: usize = 512;
/// The longest datagram that fits there.
const PAYLOAD_MAX: usize = SEND_BUFFER - 32;

/// The UNIX sockets of all hosts.
pub(super) struct UnixSockets {
    sockets: Slab<UnixSocket>,
    /// Names that were chosen for those who asked for any.
    chosen: u32,
}

impl UnixSockets {
    pub(super) fn new() -> Self {
        Self {
            sockets: Slab::new(),
            chosen: 0,
        }
    }
}

struct UnixSocket {
    host: HostId,
    name: UnixAddress,
    peer: Option<Peer>,
    inbox: VecDeque<Waiting>,
    /// Bytes of its own that others have not read, with the book-keeping.
    unread: usize,
    token: Option<Token>,
    news: Readiness,
    queued: bool,
}

impl UnixSocket {
    fn is_connected_to(&self, socket: Token) -> bool {
        let peer = self.peer.as_ref();
        peer.is_some_and(|peer| peer.socket == socket)
    }
}

struct Peer {
    name: UnixAddress,
    socket: Token,
}

struct Waiting {
    from: UnixAddress,
    sender: Token,
    data: Box<[u8]>,
}

/// What programs ask of their sockets.
impl Network {
    pub(in crate::simulation) fn open_unix(
        &mut self,
        host: HostId,
        name: &UnixAddress,
        peer: Option<&UnixAddress>,
    ) -> io::Result<Token> {
        let name = match name {
            UnixAddress::Abstract(name) if name.is_empty() => self.choose_unix_name(),
            name if self.unix_named(host, name).is_some() => {
                return Err(ErrorKind::AddrInUse.into());
            }
            name => name.clone(),
        };
        let socket = self.unix.sockets.insert(UnixSocket {
            host,
            name,
            peer: None,
            inbox: VecDeque::new(),
            unread: 0,
            token: None,
            news: NO_NEWS,
            queued: false,
        });
        if let Some(peer) = peer
            && let Err(error) = self.connect_unix(socket, Some(peer))
        {
            self.unix.sockets.remove(socket);
            return Err(error);
        }
        Ok(socket)
    }

    /// As Linux chooses them: five digits.
    fn choose_unix_name(&mut self) -> UnixAddress {
        self.unix.chosen += 1;
        let name = format!("{:05x}", self.unix.chosen);
        UnixAddress::Abstract(name.into_bytes().into())
    }

    /// Who has that name. Nobody is to be found under none.
    fn unix_named(&self, host: HostId, name: &UnixAddress) -> Option<Token> {
        let mut sockets = self.unix.sockets.iter();
        let has_it = |socket: &UnixSocket| {
            socket.host == host && socket.name == *name && *name != UnixAddress::Unnamed
        };
        let found = sockets.find(|(_, socket)| has_it(socket));
        found.map(|(token, _)| token)
    }

    fn unix(&self, socket: Token) -> io::Result<&UnixSocket> {
        let found = self.unix.sockets.get(socket);
        found.ok_or_else(|| ErrorKind::NotConnected.into())
    }

    pub(in crate::simulation) fn unix_address(&self, socket: Token) -> io::Result<UnixAddress> {
        Ok(self.unix(socket)?.name.clone())
    }

    pub(in crate::simulation) fn watch_unix(&mut self, socket: Token, token: Token) {
        if let Some(found) = self.unix.sockets.get_mut(socket) {
            found.token = Some(token);
            self.tell_unix(socket, WRITABLE);
        }
    }

    pub(in crate::simulation) fn connect_unix(
        &mut self,
        socket: Token,
        peer: Option<&UnixAddress>,
    ) -> io::Result<()> {
        let host = self.unix(socket)?.host;
        let peer = match peer {
            None => None,
            Some(name) => {
                let found = self.unix_named(host, name).ok_or(ErrorKind::NotFound)?;
                self.check_hears(found, socket)?;
                Some(Peer {
                    name: name.clone(),
                    socket: found,
                })
            }
        };
        if let Some(found) = self.unix.sockets.get_mut(socket) {
            found.peer = peer;
        }
        Ok(())
    }

    /// Who is connected hears its peer alone.
    fn check_hears(&self, receiver: Token, sender: Token) -> io::Result<()> {
        let receiver = self.unix(receiver)?;
        if receiver.peer.is_none() || receiver.is_connected_to(sender) {
            return Ok(());
        }
        Err(Errno::PERM.into())
    }

    pub(in crate::simulation) fn send_unix(
        &mut self,
        socket: Token,
        data: &[u8],
        to: Option<&UnixAddress>,
    ) -> io::Result<()> {
        let receiver = match to {
            Some(name) => {
                let host = self.unix(socket)?.host;
                self.unix_named(host, name).ok_or(ErrorKind::NotFound)?
            }
            None => self.unix_peer(socket)?,
        };
        self.check_hears(receiver, socket)?;
        if data.len() > PAYLOAD_MAX {
            return Err(Errno::MSGSIZE.into());
        }
        let size = data.len() + BOOK_KEEPING;
        let taker = self.unix(receiver)?;
        let is_full =
            taker.inbox.len() > QUEUE_MAX && receiver != socket && !taker.is_connected_to(socket);
        if is_full || self.unix(socket)?.unread + size > SEND_BUFFER {
            return Err(ErrorKind::WouldBlock.into());
        }
        let Some(sender) = self.unix.sockets.get_mut(socket) else {
            return Err(ErrorKind::NotConnected.into());
        };
        sender.unread += size;
        let waiting = Waiting {
            from: sender.name.clone(),
            sender: socket,
            data: data.into(),
        };
        if let Some(taker) = self.unix.sockets.get_mut(receiver) {
            taker.inbox.push_back(waiting);
            self.tell_unix(receiver, READABLE);
        }
        Ok(())
    }

    /// The peer, or who has come in its place.
    fn unix_peer(&mut self, socket: Token) -> io::Result<Token> {
        let peer = self.unix(socket)?.peer.as_ref();
        let peer = peer.ok_or(ErrorKind::NotConnected)?;
        if self.unix.sockets.get(peer.socket).is_some() {
            return Ok(peer.socket);
        }
        let name = peer.name.clone();
        self.connect_unix(socket, Some(&name))?;
        let peer = self.unix(socket)?.peer.as_ref();
        Ok(peer.ok_or(ErrorKind::ConnectionRefused)?.socket)
    }

    pub(in crate::simulation) fn receive_unix(
        &mut self,
        socket: Token,
        buffer: &mut [u8],
    ) -> io::Result<(usize, UnixAddress)> {
        let Some(found) = self.unix.sockets.get_mut(socket) else {
            return Err(ErrorKind::NotConnected.into());
        };
        let was_full = found.inbox.len() > QUEUE_MAX;
        let Waiting { from, sender, data } =
            found.inbox.pop_front().ok_or(ErrorKind::WouldBlock)?;
        let shown = data.len().min(buffer.len());
        buffer[..shown].copy_from_slice(&data[..shown]);
        self.unix_has_read(sender, data.len());
        if was_full {
            self.tell_unix_peers_of(socket);
        }
        Ok((data.len(), from))
    }

    pub(in crate::simulation) fn close_unix(&mut self, socket: Token) {
        let Some(closed) = self.unix.sockets.remove(socket) else {
            return;
        };
        for waiting in closed.inbox {
            self.unix_has_read(waiting.sender, waiting.data.len());
        }
        self.tell_unix_peers_of(socket);
    }
}

/// What becomes of it.
impl Network {
    /// What it sent is no longer held for it.
    fn unix_has_read(&mut self, sender: Token, len: usize) {
        if let Some(found) = self.unix.sockets.get_mut(sender) {
            found.unread -= len + BOOK_KEEPING;
            self.tell_unix(sender, WRITABLE);
        }
    }

    /// There is room, or nobody any more.
    fn tell_unix_peers_of(&mut self, socket: Token) {
        let sockets = self.unix.sockets.iter();
        let peers: Vec<Token> = sockets
            .filter(|(_, other)| other.is_connected_to(socket))
            .map(|(token, _)| token)
            .collect();
        for peer in peers {
            self.tell_unix(peer, WRITABLE);
        }
    }

    fn tell_unix(&mut self, token: Token, news: Readiness) {
        let Some(socket) = self.unix.sockets.get_mut(token) else {
            return;
        };
        socket.news = merged(socket.news, news);
        if socket.token.is_some() && !socket.queued {
            socket.queued = true;
            let host = socket.host;
            self.hosts[host.0].ready.push(Ready::Unix(token));
        }
    }

    pub(super) fn take_unix_news(&mut self, token: Token) -> Option<(Option<Token>, Readiness)> {
        let socket = self.unix.sockets.get_mut(token)?;
        socket.queued = false;
        Some((socket.token, std::mem::replace(&mut socket.news, NO_NEWS)))
    }

    /// The host loses its memory.
    pub(super) fn crash_unix(&mut self, host: HostId) {
        let sockets = self.unix.sockets.iter();
        let lost: Vec<Token> = sockets
            .filter(|(_, socket)| socket.host == host)
            .map(|(token, _)| token)
            .collect();
        for token in lost {
            self.unix.sockets.remove(token);
        }
    }
}
