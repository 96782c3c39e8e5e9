//! One host of a simulation as the world below a reactor.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::address::{Address, UnixAddress, ascii_host_name};
use crate::capability::{Capability, WorldKind};
use crate::descriptor::{Interest, Mode};
use crate::driver::{
    AnySocket, DAWN, DatagramSocket, Driver, Events, ListeningSocket, Names, SignalSource,
    StreamSocket, WakeUp, virtual_time,
};
use crate::remains::crashed;
use crate::slab::Token;
use crate::sockets::{ConnectOptions, KeepAlive, ListenOptions, SocketOption};
use crate::udp::DatagramOptions;

use super::clock::HostClock;
use super::datagrams::HostDatagrams;
use super::network::{HostId, Network, SocketId};
use super::unix_datagrams::HostUnixDatagrams;
use super::world::World;

/// A life of a host: from its start to its crash.
pub(super) struct HostDriver {
    pub(super) host: HostId,
    pub(super) network: Rc<RefCell<Network>>,
    pub(super) world: Weak<World>,
    pub(super) clock: Rc<HostClock>,
    pub(super) woken: Arc<Woken>,
    /// This life is over: nothing that it asks for happens.
    pub(super) dead: Rc<Cell<bool>>,
    /// The world gives the turn at hand, and does not go on meanwhile.
    pub(super) has_turn: Rc<Cell<bool>>,
    pub(super) names: Rc<RefCell<BTreeMap<String, IpAddr>>>,
    /// When a wait is to end, whatever its limit.
    pub(super) alarm: Cell<Option<Instant>>,
}

impl HostDriver {
    fn living(&self) -> io::Result<()> {
        if self.dead.get() {
            return Err(crashed());
        }
        Ok(())
    }

    fn socket(&self, id: SocketId) -> AnySocket {
        AnySocket::other(HostSocket {
            id,
            network: Rc::clone(&self.network),
            dead: Rc::clone(&self.dead),
            resets: Cell::new(false),
            nodelay: Cell::new(true),
            host: self.host,
            world: Weak::clone(&self.world),
        })
    }

    /// When the alarm rings, unless it has rung.
    fn alarm(&self) -> Option<Duration> {
        let alarm = self.alarm.get()?;
        if alarm <= self.now() {
            self.alarm.set(None);
        }
        Some(self.clock.when(alarm))
    }
}

/// What work on a thread takes at most: a few disk accesses.
const THREAD_TIME_MAX: Duration = Duration::from_millis(20);

fn ip_address(address: &Address) -> io::Result<SocketAddr> {
    match address {
        Address::Tcp(address) => Ok(*address),
        Address::Unix(_) => Err(WorldKind::Simulation.lacks(Capability::UnixSockets).into()),
        // A name is looked up before.
        Address::Udp(_) | Address::Named(_) => Err(ErrorKind::Unsupported.into()),
    }
}

impl Driver for HostDriver {
    fn world(&self) -> WorldKind {
        WorldKind::Simulation
    }

    fn now(&self) -> Instant {
        self.clock.at(self.network.borrow().now())
    }

    fn system_time(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + DAWN + self.clock.passed(self.network.borrow().now())
    }

    fn begin_boot_time(&self) -> io::Result<()> {
        Ok(())
    }

    fn boot_now(&self) -> Instant {
        // A simulated host is up or down, and never asleep.
        self.now()
    }

    fn set_boot_alarm(&self, deadline: Option<Instant>) {
        self.alarm.set(deadline);
    }

    fn thread_time(&self) -> Option<Duration> {
        let mut network = self.network.borrow_mut();
        Some(network.draw_time(Duration::ZERO, THREAD_TIME_MAX))
    }

    fn seed(&self) -> u64 {
        self.network.borrow_mut().draw_seed()
    }

    fn wait(&self, limit: Option<Duration>, events: &mut Events) -> io::Result<()> {
        self.living()?;
        // Who was woken before does not wait.
        let limit = match self.woken.take() {
            true => Some(Duration::ZERO),
            false => limit,
        };
        if self.has_turn.get() {
            self.network.borrow_mut().take_news(self.host, events);
            return Ok(());
        }
        let now = self.network.borrow().now();
        let world = self.world.upgrade().ok_or_else(is_over)?;
        // Beyond the clock's range is for ever.
        let until = limit.and_then(|limit| self.now().checked_add(limit));
        let until = until.map(|until| self.clock.when(until));
        let until = until.into_iter().chain(self.alarm()).min();
        world.wait_for(self.host, &self.dead, until)?;
        self.woken.take();
        debug_assert!(self.network.borrow().now() >= now, "time never goes back");
        self.living()?;
        self.network.borrow_mut().take_news(self.host, events);
        Ok(())
    }

    fn wake_up(&self) -> Box<dyn WakeUp> {
        Box::new(WakesHost(Arc::clone(&self.woken)))
    }

    fn short_read_is_dry(&self) -> bool {
        // A read gives as much as the seed says.
        false
    }

    fn listen(
        &self,
        address: &Address,
        options: &ListenOptions,
    ) -> io::Result<Box<dyn ListeningSocket>> {
        self.living()?;
        let mut network = self.network.borrow_mut();
        let listener = network.listen(self.host, ip_address(address)?, options)?;
        let address = network
            .listening_address(listener)
            .expect("it listens since a moment");
        Ok(Box::new(HostListener {
            id: listener,
            address,
            options: options.options.clone(),
            network: Rc::clone(&self.network),
            dead: Rc::clone(&self.dead),
            host: self.host,
            world: Weak::clone(&self.world),
        }))
    }

    fn connect(&self, peer: &Address, options: &ConnectOptions) -> io::Result<AnySocket> {
        self.living()?;
        let peer = ip_address(peer)?;
        let mut network = self.network.borrow_mut();
        let socket = network.connect(self.host, options.local_address, peer)?;
        drop(network);
        let socket = self.socket(socket);
        set_options(&*socket, &options.options)?;
        Ok(socket)
    }

    fn bind_datagrams(
        &self,
        address: SocketAddr,
        options: &DatagramOptions,
    ) -> io::Result<Box<dyn DatagramSocket>> {
        self.living()?;
        let mut network = self.network.borrow_mut();
        let id = network.bind_udp(self.host, address, options)?;
        let socket = HostDatagrams {
            id,
            network: Rc::clone(&self.network),
            dead: Rc::clone(&self.dead),
            peer: Cell::new(None),
            address: Cell::new(network.udp_address(id)?),
            host: self.host,
            world: Weak::clone(&self.world),
        };
        drop(network);
        let mut options = options.options.iter();
        options.try_for_each(|option| socket.set_option(option))?;
        Ok(Box::new(socket))
    }

    fn open_unix_datagrams(
        &self,
        host: &UnixAddress,
        peer: Option<&UnixAddress>,
        options: &DatagramOptions,
    ) -> io::Result<Box<dyn DatagramSocket>> {
        self.living()?;
        let mut network = self.network.borrow_mut();
        let id = network.open_unix(self.host, host, peer)?;
        let socket = HostUnixDatagrams {
            id,
            network: Rc::clone(&self.network),
            dead: Rc::clone(&self.dead),
            name: network.unix_address(id)?,
            peer: RefCell::new(peer.cloned()),
            host: self.host,
            world: Weak::clone(&self.world),
        };
        drop(network);
        let mut options = options.options.iter();
        options.try_for_each(|option| socket.set_option(option))?;
        Ok(Box::new(socket))
    }

    fn watch_fd(
        &self,
        _fd: BorrowedFd<'_>,
        _token: Token,
        _interest: Interest,
        _mode: Mode,
    ) -> io::Result<()> {
        Err(no_descriptors())
    }

    fn rewatch_fd(
        &self,
        _fd: BorrowedFd<'_>,
        _token: Token,
        _interest: Interest,
        _mode: Mode,
    ) -> io::Result<()> {
        Err(no_descriptors())
    }

    fn unwatch_fd(&self, _fd: BorrowedFd<'_>) {}

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn names(&self) -> Box<dyn Names> {
        Box::new(KnownNames(self.names.borrow().clone()))
    }

    fn watch_signals(&self) -> io::Result<Rc<dyn SignalSource>> {
        Ok(virtual_time::undisturbed())
    }

    fn is_signal_default(&self, _signal: i32) -> bool {
        // None ever comes, and none is to be caught.
        false
    }
}

fn is_over() -> io::Error {
    io::Error::new(ErrorKind::NotConnected, "the simulation is over")
}

fn no_descriptors() -> io::Error {
    WorldKind::Simulation.lacks(Capability::Descriptors).into()
}

/// Whether something was posted to a host's reactor.
#[derive(Debug, Default)]
pub(super) struct Woken(AtomicBool);

impl Woken {
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

struct WakesHost(Arc<Woken>);

impl fmt::Debug for WakesHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WakesHost")
    }
}

impl WakeUp for WakesHost {
    fn wake_up(&self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// The names of the hosts, as [`known_name`] writes them.
pub(super) struct KnownNames(pub(super) BTreeMap<String, IpAddr>);

/// A name as it is looked up: in ASCII, without capital letters.
pub(super) fn known_name(name: &str) -> String {
    // What is no name is never asked for.
    let ascii = ascii_host_name(name).unwrap_or(Cow::Borrowed(name));
    ascii.to_ascii_lowercase()
}

impl Names for KnownNames {
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let ip = match &*known_name(host) {
            "localhost" => Some(IpAddr::from([127, 0, 0, 1])),
            host => self.0.get(host).copied().or_else(|| host.parse().ok()),
        };
        let ip = ip.ok_or_else(|| unknown("no host of the simulation has this name"))?;
        Ok(vec![SocketAddr::new(ip, port)])
    }

    fn reverse_lookup(&self, ip: IpAddr) -> io::Result<String> {
        if ip.is_loopback() {
            return Ok("localhost".to_owned());
        }
        let found = self.0.iter().find(|(_, known)| **known == ip);
        found
            .map(|(name, _)| name.clone())
            .ok_or_else(|| unknown("no host of the simulation has this address"))
    }
}

fn unknown(what: &'static str) -> io::Error {
    io::Error::new(ErrorKind::NotFound, what)
}

/// Whether Linux takes these times: whole seconds, from 1 to its `MAX_TCP_KEEPIDLE`.
fn is_keepable(asked: &KeepAlive) -> bool {
    let is_time = |time: Duration| (1..=32_767).contains(&time.as_secs());
    is_time(asked.idle) && is_time(asked.interval) && (1..=127).contains(&asked.count)
}

/// Sets on a socket what was asked for.
fn set_options(socket: &dyn StreamSocket, asked_for: &[SocketOption]) -> io::Result<()> {
    let mut options = asked_for.iter();
    options.try_for_each(|option| socket.set_option(option))
}

struct HostListener {
    id: Token,
    address: SocketAddr,
    /// What its connections inherit.
    options: Vec<SocketOption>,
    network: Rc<RefCell<Network>>,
    dead: Rc<Cell<bool>>,
    host: HostId,
    world: Weak<World>,
}

impl ListeningSocket for HostListener {
    fn address(&self) -> Address {
        self.address.into()
    }

    fn watch(&self, token: Token) -> io::Result<()> {
        self.network.borrow_mut().watch_listener(self.id, token);
        Ok(())
    }

    fn accept(&self) -> io::Result<(AnySocket, Address)> {
        if self.dead.get() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let accepted = self.network.borrow_mut().accept(self.id);
        let (id, peer) = accepted.ok_or(ErrorKind::WouldBlock)?;
        let socket = HostSocket {
            id,
            network: Rc::clone(&self.network),
            dead: Rc::clone(&self.dead),
            resets: Cell::new(false),
            nodelay: Cell::new(true),
            host: self.host,
            world: Weak::clone(&self.world),
        };
        set_options(&socket, &self.options)?;
        Ok((AnySocket::other(socket), peer.into()))
    }
}

impl Drop for HostListener {
    fn drop(&mut self) {
        if !self.dead.get() {
            self.network.borrow_mut().close_listener(self.id);
        }
    }
}

struct HostSocket {
    id: SocketId,
    network: Rc<RefCell<Network>>,
    dead: Rc<Cell<bool>>,
    resets: Cell<bool>,
    nodelay: Cell<bool>,
    host: HostId,
    world: Weak<World>,
}

impl HostSocket {
    fn about_to_write(&self) {
        if let Some(world) = self.world.upgrade().filter(|_| !self.dead.get()) {
            world.about_to_write(self.host);
        }
    }

    fn living<T>(&self, act: impl FnOnce(&mut Network) -> io::Result<T>) -> io::Result<T> {
        if self.dead.get() {
            return Err(crashed());
        }
        act(&mut self.network.borrow_mut())
    }
}

impl StreamSocket for HostSocket {
    fn watch(&self, token: Token) -> io::Result<()> {
        self.living(|network| {
            network.watch(self.id, token);
            Ok(())
        })
    }

    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.living(|network| network.read(self.id, buffer))
    }

    fn write(&self, data: &[u8]) -> io::Result<usize> {
        self.about_to_write();
        if self.dead.get() {
            // Into the void: nobody may hear that the machine has crashed.
            return Ok(data.len());
        }
        self.living(|network| network.write(self.id, data))
    }

    fn write_two(&self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        self.about_to_write();
        if self.dead.get() {
            return Ok(first.len() + second.len());
        }
        self.living(|network| {
            let count = network.write(self.id, first)?;
            if count < first.len() || second.is_empty() {
                return Ok(count);
            }
            match network.write(self.id, second) {
                Ok(more) => Ok(count + more),
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(count),
                Err(error) => Err(error),
            }
        })
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match how {
            Shutdown::Read => Ok(()),
            Shutdown::Write | Shutdown::Both => self.living(|network| network.end_write(self.id)),
        }
    }

    fn reset_on_drop(&self) {
        self.resets.set(true);
    }

    fn is_delivered(&self) -> bool {
        self.network.borrow().is_delivered(self.id)
    }

    fn unacknowledged(&self) -> io::Result<usize> {
        Ok(self.network.borrow().unacknowledged(self.id))
    }

    fn take_error(&self) -> io::Result<()> {
        self.living(|network| network.connect_result(self.id))
    }

    fn local_address(&self) -> io::Result<Address> {
        let address = self.network.borrow().address(self.id);
        Ok(address.ok_or(ErrorKind::NotConnected)?.into())
    }

    fn set_option(&self, option: &SocketOption) -> io::Result<()> {
        match option {
            SocketOption::NoDelay(on) => {
                self.nodelay.set(*on);
                self.living(|network| {
                    network.set_nagle(self.id, !on);
                    Ok(())
                })
            }
            SocketOption::ResetOnClose(on) => {
                self.resets.set(*on);
                Ok(())
            }
            SocketOption::KeepAlive(Some(asked)) if !is_keepable(asked) => {
                Err(ErrorKind::InvalidInput.into())
            }
            SocketOption::KeepAlive(asked) => self.living(|network| {
                network.set_keep_alive(self.id, *asked);
                Ok(())
            }),
            SocketOption::SendBuffer(bytes) => self.living(|network| {
                network.set_send_buffer(self.id, *bytes);
                Ok(())
            }),
            SocketOption::ReceiveBuffer(bytes) => self.living(|network| {
                network.set_receive_buffer(self.id, *bytes);
                Ok(())
            }),
            // The others change nothing that a program could see here.
            _ => Ok(()),
        }
    }

    fn nodelay(&self) -> io::Result<bool> {
        Ok(self.nodelay.get())
    }

    fn keep_alive(&self) -> io::Result<Option<KeepAlive>> {
        Ok(self.network.borrow().keep_alive(self.id))
    }

    fn buffer_sizes(&self) -> io::Result<(usize, usize)> {
        Ok(self.network.borrow().buffer_sizes(self.id))
    }

    fn duplicate(&self) -> io::Result<OwnedFd> {
        Err(no_descriptors())
    }
}

impl Drop for HostSocket {
    fn drop(&mut self) {
        if !self.dead.get() {
            self.network.borrow_mut().close(self.id, self.resets.get());
        }
    }
}
