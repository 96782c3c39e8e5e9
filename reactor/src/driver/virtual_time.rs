//! A world with nothing in it but time: a wait passes at once, and the clock with it.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::address::Address;
use crate::capability::{Capability, WorldKind};
use crate::descriptor::{Interest, Mode};
use crate::driver::{
    AnySocket, DAWN, DatagramSocket, Driver, Events, ListeningSocket, Names, SignalSource, WakeUp,
    os,
};
use crate::slab::Token;
use crate::sockets::{ConnectOptions, ListenOptions};
use crate::udp::DatagramOptions;

/// How far the clock jumps when it is to go beyond its range.
const FAR_FUTURE: Duration = Duration::from_secs(86_400 * 365 * 30);

/// A driver without sockets, whose clock jumps to whatever is waited for.
pub(crate) struct VirtualTime {
    begin: Instant,
    now: Cell<Instant>,
    /// How long the machine was suspended.
    suspended: Cell<Duration>,
    wake_up: Awake,
}

impl VirtualTime {
    pub(crate) fn new() -> Self {
        // An `Instant` can be had from a clock only; what it says does not matter.
        let begin = os::now();
        Self {
            begin,
            now: Cell::new(begin),
            suspended: Cell::default(),
            wake_up: Awake::default(),
        }
    }
}

impl Driver for VirtualTime {
    fn world(&self) -> WorldKind {
        WorldKind::VirtualTime
    }

    fn now(&self) -> Instant {
        self.now.get()
    }

    fn system_time(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + DAWN + (self.now.get() - self.begin)
    }

    fn pass_time(&self, time: Duration) {
        let now = self.now.get();
        self.now
            .set(now.checked_add(time).unwrap_or_else(|| now + FAR_FUTURE));
    }

    fn begin_boot_time(&self) -> io::Result<()> {
        Ok(())
    }

    fn boot_now(&self) -> Instant {
        let now = self.now.get();
        now.checked_add(self.suspended.get())
            .unwrap_or_else(|| now + FAR_FUTURE)
    }

    fn set_boot_alarm(&self, _deadline: Option<Instant>) {
        // No wait lasts.
    }

    fn suspend(&self, time: Duration) {
        self.suspended
            .set(self.suspended.get().saturating_add(time));
    }

    fn wait_for_threads(&self) -> bool {
        self.wake_up.wait();
        true
    }

    fn wait(&self, limit: Option<Duration>, _events: &mut Events) -> io::Result<()> {
        let Some(limit) = limit else {
            return Err(io::Error::new(
                io::ErrorKind::Deadlock,
                "nothing is scheduled and nothing else can happen in virtual time",
            ));
        };
        self.pass_time(limit);
        Ok(())
    }

    fn wake_up(&self) -> Box<dyn WakeUp> {
        Box::new(self.wake_up.clone())
    }

    fn short_read_is_dry(&self) -> bool {
        false
    }

    fn listen(
        &self,
        address: &Address,
        _options: &ListenOptions,
    ) -> io::Result<Box<dyn ListeningSocket>> {
        Err(no_sockets(address))
    }

    fn connect(&self, peer: &Address, _options: &ConnectOptions) -> io::Result<AnySocket> {
        Err(no_sockets(peer))
    }

    fn bind_datagrams(
        &self,
        _address: SocketAddr,
        _options: &DatagramOptions,
    ) -> io::Result<Box<dyn DatagramSocket>> {
        Err(no_network())
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
        Box::new(Nameless)
    }

    fn watch_signals(&self) -> io::Result<Rc<dyn SignalSource>> {
        Ok(undisturbed())
    }

    fn is_signal_default(&self, _signal: i32) -> bool {
        true
    }
}

fn no_network() -> io::Error {
    WorldKind::VirtualTime.lacks(Capability::Network).into()
}

/// A UNIX socket is no part of the network.
fn no_sockets(address: &Address) -> io::Error {
    match address {
        Address::Unix(_) => WorldKind::VirtualTime.lacks(Capability::UnixSockets).into(),
        Address::Tcp(_) | Address::Udp(_) | Address::Named(_) => no_network(),
    }
}

fn no_descriptors() -> io::Error {
    WorldKind::VirtualTime.lacks(Capability::Descriptors).into()
}

/// Ends the only wait that takes time: that for threads.
#[derive(Clone, Debug, Default)]
struct Awake {
    bell: Arc<(Mutex<bool>, Condvar)>,
}

impl Awake {
    /// Returns when it was rung, and as often as that at most.
    fn wait(&self) {
        let (has_rung, ringing) = &*self.bell;
        // Nothing that could panic happens under the lock.
        let has_rung = has_rung.lock().unwrap_or_else(PoisonError::into_inner);
        let mut has_rung = ringing
            .wait_while(has_rung, |has_rung| !*has_rung)
            .unwrap_or_else(PoisonError::into_inner);
        *has_rung = false;
    }
}

impl WakeUp for Awake {
    fn wake_up(&self) {
        let (has_rung, ringing) = &*self.bell;
        *has_rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        ringing.notify_one();
    }
}

struct Nameless;

impl Names for Nameless {
    fn resolve(&self, _host: &str, _port: u16) -> io::Result<Vec<SocketAddr>> {
        Err(no_network())
    }

    fn reverse_lookup(&self, _ip: IpAddr) -> io::Result<String> {
        Err(no_network())
    }
}

/// Signals that never come.
pub(crate) fn undisturbed() -> Rc<dyn SignalSource> {
    Rc::new(Undisturbed)
}

struct Undisturbed;

impl SignalSource for Undisturbed {
    fn add(&self, _signal: i32) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self, _signal: i32) {}

    fn has_some(&self) -> bool {
        false
    }

    fn take(&self) -> Vec<i32> {
        Vec::new()
    }
}
