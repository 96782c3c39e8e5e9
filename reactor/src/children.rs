//! Waiting for child processes.
//!
//! # Whose children
//!
//! Those that were given to us, one by one. Nobody here waits for "any child", so the
//! children of other code keep their status for whoever started them.
//!
//! # How
//!
//! Each has a descriptor of its own that is readable when it has ended (a pidfd), and is in
//! the loop as any other. Where there is none, each looks when SIGCHLD comes: a system call
//! a child and signal, and a handler of other code for it is silent meanwhile.
//!
//! # Not here
//!
//! Starting a process, and speaking with it.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::Location;
use std::process::{Child, ExitStatus};
use std::rc::{Rc, Weak};

use torsade_deferred::{Deferred, Trigger, fail, succeed};

use crate::capability::Capability;
use crate::core::{Core, Source};
use crate::descriptor::{Interest, Mode};
use crate::driver::Change;
use crate::error::RunError;
use crate::reactor::Reactor;
use crate::signals::{Signal, SignalWatcher};
use crate::slab::Token;

impl Reactor {
    /// Fires when `child` has ended, with how: what [`Child::wait`] does, without waiting.
    ///
    /// As there, `child.stdin` is closed first, so that a child which reads to the end comes
    /// to its own. Whoever wants to write, or to read what the child says, takes the pipes
    /// out before, makes them non-blocking, and [watches](Reactor::watch) them; or gives the
    /// child one end of a [`UnixStream::pair`](std::os::unix::net::UnixStream::pair), and
    /// [adopts](Reactor::adopt_connection) the other. The child is reaped, and no other is:
    /// children that other code waits for are left to it.
    ///
    /// # Errors
    ///
    /// Fails with a [`WaitError`], which gives the child back: its `error` is
    /// [`Unsupported`](crate::Unsupported) in a simulation and in virtual time,
    /// [`RunError::Stopped`] if the reactor stops before the child has ended (which goes on),
    /// or what the system says, for instance if somebody else has reaped it.
    ///
    /// # Cancellation
    ///
    /// Ends the waiting, and nothing else. The child goes on, and is reaped when it ends, as
    /// long as the reactor has not stopped by then; it keeps no
    /// [`run_until_idle`](Reactor::run_until_idle) going. To end it, ask it to end before it
    /// is given away, for instance with its [`id`](Child::id).
    ///
    /// # Reentrancy
    ///
    /// From any callback. For a child that has ended before, and for one that cannot be
    /// waited for, the Deferred has fired when this returns.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::process::Command;
    /// use torsade_reactor::Reactor;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let reactor = Reactor::new()?;
    /// let child = Command::new("sh").args(["-c", "exit 3"]).spawn()?;
    /// let status = reactor.run_until(reactor.wait_for_child(child))?;
    /// assert_eq!(status.code(), Some(3));
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    #[must_use]
    pub fn wait_for_child(&self, mut child: Child) -> Deferred<ExitStatus> {
        if let Err(error) = self.require(Capability::Processes) {
            let error = error.into();
            return fail(WaitError { child, error });
        }
        drop(child.stdin.take());
        // Before its number is used: that of a child which was reaped may be another's.
        match child.try_wait() {
            Ok(None) => {}
            Ok(Some(status)) => return succeed(status),
            Err(error) => return fail(WaitError { child, error }),
        }
        let (trigger, deferred) = Deferred::new();
        let awaited = Awaited::add(self.core(), child, Location::caller());
        let weak = Rc::downgrade(&awaited);
        trigger.on_cancel(move || {
            if let Some(awaited) = weak.upgrade() {
                awaited.is_given_up.set(true);
            }
        });
        awaited.trigger.set(Some(trigger));
        awaited.begin(self);
        deferred
    }
}

/// A child process cannot be waited for. Gives the child back.
#[derive(Debug)]
#[non_exhaustive]
pub struct WaitError {
    /// Who was to be waited for; it may still run. Its `stdin` is closed, unless the reactor's
    /// world has no processes.
    pub child: Child,
    /// Why.
    pub error: io::Error,
}

impl Error for WaitError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

impl fmt::Display for WaitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.child.id();
        write!(f, "cannot wait for the child process {id}: {}", self.error)
    }
}

/// A child that is waited for, or was.
struct Awaited {
    core: Rc<Core>,
    token: Token,
    id: u32,
    /// There until it has ended, or the reactor has stopped.
    child: RefCell<Option<Child>>,
    trigger: Cell<Option<Trigger<ExitStatus>>>,
    bell: RefCell<Bell>,
    /// Cancelled: it is reaped all the same, but nobody waits.
    is_given_up: Cell<bool>,
}

/// What says that the child may have ended.
#[derive(Default)]
enum Bell {
    #[default]
    None,
    Descriptor(OwnedFd),
    Signal(SignalWatcher),
}

impl Awaited {
    fn add(core: &Rc<Core>, child: Child, origin: &'static Location<'static>) -> Rc<Self> {
        core.on_behalf_of(origin, || {
            core.add_source(|token| {
                Rc::new(Self {
                    core: Rc::clone(core),
                    token,
                    id: child.id(),
                    child: RefCell::new(Some(child)),
                    trigger: Cell::new(None),
                    bell: RefCell::default(),
                    is_given_up: Cell::new(false),
                })
            })
        })
    }

    /// Has itself told of the end.
    fn begin(self: &Rc<Self>, reactor: &Reactor) {
        // Whatever is in the way of a descriptor, a sandbox or a limit, is in no signal's.
        if let Ok(descriptor) = self.watch_descriptor() {
            self.bell.replace(Bell::Descriptor(descriptor));
            return;
        }
        let weak = Rc::downgrade(self);
        let watched = reactor.on_signal(Signal::CHLD, move |_| {
            if let Some(awaited) = Weak::upgrade(&weak) {
                awaited.look();
            }
        });
        match watched {
            Ok(watcher) => {
                // The child itself is what the loop goes on for.
                watcher.set_background(true);
                self.bell.replace(Bell::Signal(watcher));
                // It may have ended before there was a watcher.
                self.core.ready_again(self.token);
            }
            Err(error) => self.end(Err(io::Error::other(error))),
        }
    }

    fn watch_descriptor(&self) -> io::Result<OwnedFd> {
        let driver = self.core.driver();
        let descriptor = driver.process_descriptor(self.id)?;
        // It is readable as soon as the child has ended, but a debugger gets the status first,
        // and may take its time. When it lets go, the system tells the descriptor once more.
        driver.watch_fd(descriptor.as_fd(), self.token, Interest::Read, Mode::Edge)?;
        Ok(descriptor)
    }

    /// Asks whether it has ended.
    fn look(&self) {
        let answer = match &mut *self.child.borrow_mut() {
            Some(child) => child.try_wait(),
            None => return,
        };
        match answer {
            Ok(None) => {}
            Ok(Some(status)) => self.end(Ok(status)),
            Err(error) => self.end(Err(error)),
        }
    }

    /// Nothing more will be known.
    fn end(&self, outcome: io::Result<ExitStatus>) {
        self.silence();
        self.core.remove_source(self.token);
        // Detach, then call.
        let (child, trigger) = (self.child.take(), self.trigger.take());
        let (Some(child), Some(trigger)) = (child, trigger) else {
            return;
        };
        match outcome {
            Ok(status) => trigger.callback(status),
            Err(error) => trigger.errback(WaitError { child, error }),
        }
    }

    fn silence(&self) {
        match self.bell.take() {
            Bell::None => {}
            // It leaves the poller before it is closed.
            Bell::Descriptor(descriptor) => self.core.driver().unwatch_fd(descriptor.as_fd()),
            Bell::Signal(watcher) => {
                watcher.remove();
            }
        }
    }
}

impl Source for Awaited {
    fn ready(self: Rc<Self>, _: Change) {
        self.look();
    }

    fn again(self: Rc<Self>) {
        self.look();
    }

    fn settle(self: Rc<Self>) {}

    fn stop(self: Rc<Self>) {
        // What is known by now is told.
        self.look();
        if self.child.borrow().is_some() {
            self.end(Err(RunError::Stopped.into()));
        }
    }

    fn is_background(&self) -> bool {
        self.is_given_up.get()
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let given_up = if self.is_given_up.get() {
            ", given up"
        } else {
            ""
        };
        write!(f, "child process {}{given_up}", self.id)
    }
}
