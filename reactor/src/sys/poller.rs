//! Waiting for descriptors.
//!
//! On Linux this is epoll, by way of the descriptor that [`polling::Poller`] owns:
//! registered once for edges and for the peer's half-close (which `polling` has no
//! word for), waited on with one system call. Elsewhere, and where a test asks for
//! it, it is `polling` itself.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use polling::{Event as PollEvent, Events as PollEvents, PollMode};
use rustix::buffer::{SpareCapacity, spare_capacity};
use rustix::event::{Timespec, epoll};

use crate::descriptor::{Interest, Mode, Readiness};
use crate::driver::Events;
use crate::error::RunError;
use crate::slab::Token;
use crate::sys::fork::Lineage;
use crate::sys::wake::WakeFd;

/// The most events taken from the kernel at once. More wait for the next turn, in
/// which the kernel hands out those first that were not seen yet.
const EVENTS_PER_WAIT: usize = 256;

/// The token of what ends a wait and has nothing else to say. It finds nobody.
pub(crate) const WAKE: u64 = u64::MAX - 1;

/// The longest wait, 24.8 days, after which the loop waits again: whole seconds that fit into the milliseconds
/// of `epoll_pwait`. Anything longer is a call that Linux has since 5.11, and sandboxes do not know.
const WAIT_MAX: Duration = Duration::from_secs(i32::MAX as u64 / 1000);

/// Which descriptors to wait for, and the waiting.
pub(crate) struct Poller {
    poller: polling::Poller,
    /// Whose it is: a fork of that process shares it, and is to change nothing.
    lineage: Lineage,
    /// Where the portable way has its events; `None` for epoll.
    portable: Option<RefCell<PollEvents>>,
}

impl Poller {
    /// Waits with one call to epoll.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            poller: polling::Poller::new()?,
            lineage: Lineage::here(),
            portable: None,
        })
    }

    /// Waits the way that works on every system that `polling` knows.
    pub(crate) fn portable() -> io::Result<Self> {
        Ok(Self {
            poller: polling::Poller::new()?,
            lineage: Lineage::here(),
            portable: Some(RefCell::new(PollEvents::new())),
        })
    }

    pub(crate) fn is_epoll(&self) -> bool {
        self.portable.is_none()
    }

    /// Waits for readiness, at most for `limit`, rounded up, and for no longer than [`WAIT_MAX`]. A
    /// signal ends the wait.
    pub(crate) fn wait(&self, limit: Option<Duration>, events: &mut Events) -> io::Result<()> {
        match &self.portable {
            Some(ready) => self.wait_portably(limit, &mut ready.borrow_mut(), events),
            None => self.wait_by_epoll(limit, events),
        }
    }

    /// The same, where the caller knows that it is epoll.
    #[inline]
    pub(crate) fn wait_by_epoll(
        &self,
        limit: Option<Duration>,
        events: &mut Events,
    ) -> io::Result<()> {
        debug_assert!(self.is_epoll());
        let events = events.as_vec();
        if events.len() == events.capacity() {
            // The kernel takes no list without room.
            events.reserve(EVENTS_PER_WAIT);
        }
        let room = spare_capacity(events);
        let outcome = match limit {
            None => epoll::wait(&self.poller, room, None),
            Some(limit) => self.wait_at_most(limit, room),
        };
        match outcome {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    #[inline(never)]
    fn wait_at_most(
        &self,
        limit: Duration,
        room: SpareCapacity<'_, epoll::Event>,
    ) -> Result<usize, rustix::io::Errno> {
        epoll::wait(&self.poller, room, Some(&timespec(limit)))
    }

    fn wait_portably(
        &self,
        limit: Option<Duration>,
        ready: &mut PollEvents,
        events: &mut Events,
    ) -> io::Result<()> {
        ready.clear();
        match self
            .poller
            .wait(ready, limit.map(|limit| limit.min(WAIT_MAX)))
        {
            Ok(_) => {
                for event in ready.iter() {
                    events.push(Token::from_u64(event.key as u64), readiness_of(&event));
                }
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Watches what wakes the loop. Its events carry a token that finds nobody: to end
    /// the wait is all they are for.
    pub(crate) fn add_wake(&self, wake: &WakeFd) -> io::Result<()> {
        if self.is_epoll() {
            use epoll::EventFlags as Flags;
            let data = epoll::EventData::new_u64(WAKE);
            return Ok(epoll::add(&self.poller, wake, data, Flags::IN | Flags::ET)?);
        }
        let key = usize::try_from(WAKE).expect("Torsade runs on 64-bit systems");
        // SAFETY: `polling` asks that the source be deleted before it is dropped. The caller
        // is the OS driver, which drops this poller first and its `WakeFd` after it.
        unsafe {
            self.poller.add_with_mode(
                wake.as_fd().as_raw_fd(),
                PollEvent::readable(key),
                PollMode::Edge,
            )
        }
    }

    /// Watches a timer that ends waits. Its events find nobody; the caller calls `delete_fd`
    /// before it is closed.
    pub(crate) fn add_alarm(&self, alarm: BorrowedFd<'_>) -> io::Result<()> {
        self.add_fd(alarm, Token::from_u64(WAKE), Interest::Read, Mode::Edge)
    }

    /// Whether it belongs to the process of which this one is a fork.
    pub(crate) fn is_forked(&self) -> bool {
        self.lineage.is_forked()
    }

    fn check_ours(&self) -> io::Result<()> {
        if self.is_forked() {
            return Err(RunError::Forked.into());
        }
        Ok(())
    }

    fn add(&self, fd: BorrowedFd<'_>, token: Token, interest: Interest) -> io::Result<()> {
        self.check_ours()?;
        if self.is_epoll() {
            let data = epoll::EventData::new_u64(token.to_u64());
            return Ok(epoll::add(&self.poller, fd, data, socket_flags(interest))?);
        }
        // SAFETY: `polling` asks that the source be deleted before it is dropped. The only
        // caller is `Watched`, which owns the source and deletes it in its drop.
        unsafe {
            self.poller
                .add_with_mode(fd.as_raw_fd(), poll_event(token, interest), PollMode::Edge)
        }
    }

    fn modify(&self, fd: BorrowedFd<'_>, token: Token, interest: Interest) -> io::Result<()> {
        self.check_ours()?;
        if self.is_epoll() {
            let data = epoll::EventData::new_u64(token.to_u64());
            let flags = socket_flags(interest);
            return Ok(epoll::modify(&self.poller, fd, data, flags)?);
        }
        self.poller
            .modify_with_mode(fd, poll_event(token, interest), PollMode::Edge)
    }

    /// Watches a descriptor that somebody else owns: the caller calls `delete_fd` before it
    /// is closed.
    pub(crate) fn add_fd(
        &self,
        fd: BorrowedFd<'_>,
        token: Token,
        interest: Interest,
        mode: Mode,
    ) -> io::Result<()> {
        self.check_ours()?;
        if self.is_epoll() {
            let data = epoll::EventData::new_u64(token.to_u64());
            return Ok(epoll::add(
                &self.poller,
                fd,
                data,
                epoll_flags(interest, mode),
            )?);
        }
        // SAFETY: `polling` asks that the source be deleted before it is dropped. The caller
        // is a `Watch`, by way of the driver; it owns its source and deletes it before it
        // drops or gives it away.
        unsafe {
            self.poller
                .add_with_mode(fd.as_raw_fd(), poll_event(token, interest), poll_mode(mode))
        }
    }

    pub(crate) fn modify_fd(
        &self,
        fd: BorrowedFd<'_>,
        token: Token,
        interest: Interest,
        mode: Mode,
    ) -> io::Result<()> {
        self.check_ours()?;
        if self.is_epoll() {
            let data = epoll::EventData::new_u64(token.to_u64());
            return Ok(epoll::modify(
                &self.poller,
                fd,
                data,
                epoll_flags(interest, mode),
            )?);
        }
        self.poller
            .modify_with_mode(fd, poll_event(token, interest), poll_mode(mode))
    }

    pub(crate) fn delete_fd(&self, fd: BorrowedFd<'_>) {
        if self.is_forked() {
            return;
        }
        // Both fail only for what is not there any more.
        if self.is_epoll() {
            let _ = epoll::delete(&self.poller, fd);
        } else {
            let _ = self.poller.delete(fd);
        }
    }
}

impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }
}

/// How sockets are watched: for edges, and for urgent data, in front of which a read stops.
fn socket_flags(interest: Interest) -> epoll::EventFlags {
    epoll_flags(interest, Mode::Edge) | epoll::EventFlags::PRI
}

fn epoll_flags(interest: Interest, mode: Mode) -> epoll::EventFlags {
    use epoll::EventFlags as Flags;
    let readable = if interest.is_read() {
        Flags::IN | Flags::RDHUP
    } else {
        Flags::empty()
    };
    let writable = if interest.is_write() {
        Flags::OUT
    } else {
        Flags::empty()
    };
    readable
        | writable
        | match mode {
            Mode::Level => Flags::empty(),
            Mode::Edge => Flags::ET,
            Mode::OneShot => Flags::ONESHOT,
        }
}

fn poll_event(token: Token, interest: Interest) -> PollEvent {
    let key = usize::try_from(token.to_u64()).expect("Torsade runs on 64-bit systems");
    PollEvent::new(key, interest.is_read(), interest.is_write())
}

fn poll_mode(mode: Mode) -> PollMode {
    match mode {
        Mode::Level => PollMode::Level,
        Mode::Edge => PollMode::Edge,
        Mode::OneShot => PollMode::Oneshot,
    }
}

/// A limit as the kernel takes it, shortened to what each kernel takes.
fn timespec(limit: Duration) -> Timespec {
    // One comparison in each turn with a deadline: the longest wait is of whole seconds.
    match limit.as_secs() {
        seconds if seconds < WAIT_MAX.as_secs() => Timespec {
            tv_sec: seconds as _,
            tv_nsec: limit.subsec_nanos().into(),
        },
        _ => Timespec {
            tv_sec: WAIT_MAX.as_secs() as _,
            tv_nsec: 0,
        },
    }
}

fn readiness_of(event: &PollEvent) -> Readiness {
    Readiness {
        readable: event.readable,
        writable: event.writable,
        hangup: false,
        broken: event.is_interrupt() || event.is_err().unwrap_or(false),
        urgent: event.is_priority(),
    }
}

/// A descriptor and its place in a poller. Owns the promise that it leaves the
/// poller before it is closed.
pub(crate) struct Watched {
    fd: OwnedFd,
    /// A duplicate may live on when it is closed.
    is_shared: Cell<bool>,
    poller: Rc<Poller>,
}

impl Watched {
    /// One that was made here, of which nobody has a duplicate.
    pub(crate) fn new(fd: OwnedFd, poller: Rc<Poller>) -> Self {
        Self {
            fd,
            is_shared: Cell::new(false),
            poller,
        }
    }

    /// One that somebody else has made, and may have a duplicate of.
    pub(crate) fn adopted(fd: OwnedFd, poller: Rc<Poller>) -> Self {
        let watched = Self::new(fd, poller);
        watched.is_shared.set(true);
        watched
    }

    /// Begins to report changes under `token`. Once only.
    pub(crate) fn watch(&self, token: Token) -> io::Result<()> {
        self.poller.add(self.fd.as_fd(), token, Interest::ReadWrite)
    }

    /// The same, save that nothing is said of room to send before [`watch_room`](Self::watch_room).
    pub(crate) fn watch_without_room(&self, token: Token) -> io::Result<()> {
        self.poller.add(self.fd.as_fd(), token, Interest::Read)
    }

    /// Reports room to send from now on, or not any more; and once again what holds already.
    pub(crate) fn watch_room(&self, token: Token, on: bool) -> io::Result<()> {
        let interest = if on {
            Interest::ReadWrite
        } else {
            Interest::Read
        };
        self.poller.modify(self.fd.as_fd(), token, interest)
    }

    /// The same for what is there to read, as a level. Epoll only.
    pub(crate) fn watch_arrivals(&self, token: Token) -> io::Result<()> {
        debug_assert!(self.poller.is_epoll());
        self.poller
            .add_fd(self.fd.as_fd(), token, Interest::Read, Mode::Level)
    }

    /// Reports in another way from now on, and again what holds already.
    pub(crate) fn watch_as(&self, token: Token, interest: Interest, mode: Mode) -> io::Result<()> {
        self.poller
            .modify_fd(self.fd.as_fd(), token, interest, mode)
    }

    /// Reports nothing from now on, also if a duplicate of the descriptor stays open.
    pub(crate) fn unwatch(&self) {
        self.poller.delete_fd(self.fd.as_fd());
    }

    /// Whether a duplicate may live on when it is closed.
    pub(crate) fn is_shared(&self) -> bool {
        self.is_shared.get()
    }

    /// The descriptor, a second time, for whoever asks.
    pub(crate) fn duplicate(&self) -> io::Result<OwnedFd> {
        let duplicate = self.fd.try_clone()?;
        self.is_shared.set(true);
        Ok(duplicate)
    }

    pub(crate) fn poller(&self) -> &Rc<Poller> {
        &self.poller
    }
}

impl AsFd for Watched {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // Epoll forgets a descriptor when its last duplicate is closed. Most sockets have none, and
        // their closing is enough. With one that lives on, each edge would wake the loop for nobody,
        // and the same number for the same socket could not be watched again. `polling` wants to be
        // told in any case.
        if self.is_shared.get() || !self.poller.is_epoll() {
            self.poller.delete_fd(self.fd.as_fd());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_wait_is_longer_than_the_milliseconds_of_the_oldest_call_can_say() {
        let longest = Duration::from_secs(i32::MAX as u64 / 1000);
        let nearly = longest - Duration::from_nanos(1);
        for (limit, told) in [
            (Duration::ZERO, Duration::ZERO),
            (Duration::from_nanos(1), Duration::from_nanos(1)),
            (nearly, nearly),
            (longest, longest),
            (longest + Duration::from_nanos(1), longest),
            (Duration::MAX, longest),
        ] {
            let timespec = timespec(limit);
            let seconds = u64::try_from(timespec.tv_sec).expect("none is negative");
            let nanos = u32::try_from(timespec.tv_nsec).expect("it is less than a second");
            assert_eq!(Duration::new(seconds, nanos), told, "of {limit:?}");
        }
    }
}
