//! A world with nothing in it but time: a wait passes at once, and the clock with it.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::address::Address;
use crate::descriptor::{Interest, Mode};
use crate::driver::{
    Driver, Event, ListeningSocket, Names, SignalSource, StreamSocket, WakeUp, os,
};
use crate::slab::Token;
use crate::sockets::{ConnectOptions, ListenOptions};

/// How far the clock jumps when it is to go beyond its range.
const FAR_FUTURE: Duration = Duration::from_secs(86_400 * 365 * 30);

/// A driver without sockets, whose clock jumps to whatever is waited for.
pub(crate) struct VirtualTime {
    now: Cell<Instant>,
}

impl VirtualTime {
    pub(crate) fn new() -> Self {
        // An `Instant` can be had from a clock only; what it says does not matter.
        Self {
            now: Cell::new(os::now()),
        }
    }
}

impl Driver for VirtualTime {
    fn now(&self) -> Instant {
        self.now.get()
    }

    fn pass_time(&self, time: Duration) {
        let now = self.now.get();
        self.now
            .set(now.checked_add(time).unwrap_or_else(|| now + FAR_FUTURE));
    }

    fn wait(&self, limit: Option<Duration>, _events: &mut Vec<Event>) -> io::Result<()> {
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
        Box::new(Awake)
    }

    fn short_read_is_dry(&self) -> bool {
        false
    }

    fn listen(
        &self,
        _address: &Address,
        _options: &ListenOptions,
    ) -> io::Result<Box<dyn ListeningSocket>> {
        Err(no_network())
    }

    fn connect(
        &self,
        _peer: &Address,
        _options: &ConnectOptions,
    ) -> io::Result<Box<dyn StreamSocket>> {
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
        Ok(Rc::new(Undisturbed))
    }

    fn is_signal_default(&self, _signal: i32) -> bool {
        true
    }
}

fn no_network() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "there is no network in virtual time",
    )
}

fn no_descriptors() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "there are no descriptors in virtual time",
    )
}

/// The loop never sleeps here.
#[derive(Debug)]
struct Awake;

impl WakeUp for Awake {
    fn wake_up(&self) {}
}

struct Nameless;

impl Names for Nameless {
    fn resolve(&self, _host: &str, _port: u16) -> io::Result<Vec<SocketAddr>> {
        Err(no_network())
    }
}

struct Undisturbed;

impl SignalSource for Undisturbed {
    fn add(&self, _signal: i32) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self, _signal: i32) {}

    fn take(&self) -> Vec<i32> {
        Vec::new()
    }
}
