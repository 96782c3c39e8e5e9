//! A seat in a loop that can watch no descriptor, and can only be posted to: winit's,
//! a game's, GLib's from another thread.
//!
//! A helper thread waits in the host's stead. When the reactor has something to do, it
//! asks the host to come by, through the host's own queue, and waits no further until
//! the host has.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::dump::{Kind, Listed, OnTheList};
use crate::error::RunError;
use crate::reactor::Reactor;
use crate::sys::signals;
use crate::sys::wake::WakeFd;

/// Drives a reactor from a host that can only be posted to.
///
/// Make it on the host's thread; then call [`turn`](Guest::turn) once, and again each
/// time the host receives what `post` sent. In between, any code of that thread may use the reactor. Dropping it ends its thread, which asks for
/// nothing after that; a post that is under way on the thread at that moment may arrive.
///
/// # Examples
///
/// A host whose queue is a channel:
///
/// ```
/// use std::sync::mpsc;
/// use std::time::Duration;
/// use torsade_reactor::{Guest, Reactor};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// enum Message { ReactorWantsATurn, Quit }
///
/// let (queue, messages) = mpsc::channel();
/// let reactor = Reactor::new()?;
/// let (post, quit) = (queue.clone(), queue);
/// let guest = Guest::new(&reactor, move || drop(post.send(Message::ReactorWantsATurn)))?;
/// reactor.call_later(Duration::from_millis(1), move || drop(quit.send(Message::Quit)));
/// guest.turn()?;
/// for message in messages {
///     match message {
///         Message::ReactorWantsATurn => guest.turn()?,
///         Message::Quit => break,
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct Guest {
    reactor: Reactor,
    _on_the_list: OnTheList,
    /// Until when the helper is to wait; `None` for ever. Closed when the guest leaves.
    waits: Option<Sender<Option<Instant>>>,
    /// The other end of `waits`, to take back a wait that the helper has not fetched.
    unfetched: Receiver<Option<Instant>>,
    /// Ends the helper's wait when there is a newer one, and when the guest leaves.
    notice: WakeFd,
}

impl Guest {
    /// Takes a seat: `post` asks the host to call [`turn`](Guest::turn) on its own thread.
    /// It is called on the helper thread, at most once between two turns.
    ///
    /// # Errors
    ///
    /// The system has no thread or descriptor left; [`Unsupported`](crate::Unsupported) for a
    /// reactor in virtual time or in a simulation.
    #[track_caller]
    pub fn new(reactor: &Reactor, post: impl Fn() + Send + 'static) -> io::Result<Self> {
        let descriptor = reactor.descriptor()?.try_clone_to_owned()?;
        let notice = WakeFd::new()?;
        // Only the newest wait counts.
        let (waits, received) = bounded(1);
        let helper = Helper {
            descriptor,
            notice: notice.clone(),
            waits: received.clone(),
        };
        let builder = thread::Builder::new().name("torsade-guest".into());
        signals::with_all_signals_blocked(|| builder.spawn(move || helper.run(post)))?;
        Ok(Self {
            reactor: reactor.clone(),
            _on_the_list: Listed::add(reactor.core(), Kind::Guest),
            waits: Some(waits),
            unfetched: received,
            notice,
        })
    }

    /// Runs one turn of the reactor, without waiting, and has the helper wait for what
    /// comes next.
    ///
    /// What is asked of the reactor outside of a turn has it ask for one, as everything else
    /// does; to call this at once saves the way through the host's queue.
    ///
    /// # Errors
    ///
    /// As for [`Reactor::turn`].
    pub fn turn(&self) -> Result<(), RunError> {
        let outcome = self.reactor.turn(Some(Duration::ZERO));
        if let Some(waits) = &self.waits {
            // Empty, if the helper has fetched the wait before this one.
            let _ = self.unfetched.try_recv();
            // Never full: this thread alone sends, and there is room for one.
            let _ = waits.try_send(self.reactor.next_deadline());
            // It may be waiting for an older deadline, which is perhaps the later one.
            self.notice.notify();
        }
        outcome
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // The helper ends when there is nobody to wait for; it is not waited for.
        self.waits = None;
        self.notice.notify();
    }
}

impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guest(driving {:?})", self.reactor)
    }
}

/// What waits in the host's stead, on a thread of its own.
struct Helper {
    descriptor: OwnedFd,
    notice: WakeFd,
    waits: Receiver<Option<Instant>>,
}

impl Helper {
    fn run(&self, post: impl Fn()) {
        // Detach, then call: the host is asked outside of everything. Its next turn brings
        // the next wait.
        while let Ok(deadline) = self.waits.recv() {
            if !self.wait_until(deadline) {
                return;
            }
            post();
        }
    }

    /// Waits until there is something to do; false if the guest has left.
    fn wait_until(&self, mut deadline: Option<Instant>) -> bool {
        loop {
            let is_readable = self.poll(deadline);
            // Order: first calm, then look. What was sent before a notice that is forgotten
            // here is seen below, and so is the end; what comes later has its own notice.
            self.notice.calm();
            let mut newer = None;
            let nothing_more = loop {
                match self.waits.try_recv() {
                    Ok(wait) => newer = Some(wait),
                    Err(nothing_more) => break nothing_more,
                }
            };
            match (nothing_more, newer) {
                (TryRecvError::Disconnected, _) => return false,
                // The host had its turn: what was found before may be done by now.
                (TryRecvError::Empty, Some(newer)) => deadline = newer,
                (TryRecvError::Empty, None) => {
                    let now = crate::driver::os::now();
                    if is_readable || deadline.is_some_and(|deadline| deadline <= now) {
                        return true;
                    }
                }
            }
        }
    }

    /// Waits once; true if the reactor's descriptor has something.
    fn poll(&self, deadline: Option<Instant>) -> bool {
        let limit = deadline.map(|deadline| {
            let limit = deadline.saturating_duration_since(crate::driver::os::now());
            Timespec::try_from(limit).unwrap_or(Timespec {
                tv_sec: i64::MAX,
                tv_nsec: 0,
            })
        });
        let mut fds = [
            PollFd::new(&self.descriptor, PollFlags::IN),
            PollFd::from_borrowed_fd(self.notice.as_fd(), PollFlags::IN),
        ];
        match poll(&mut fds, limit.as_ref()) {
            Ok(_) => !fds[0].revents().is_empty(),
            Err(Errno::INTR) => false,
            // The host gets a turn, and finds out.
            Err(_) => true,
        }
    }
}
