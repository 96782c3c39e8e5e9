//! The door for other threads: the only `Send` way to a reactor.
//!
//! # Waking
//!
//! A loop that is about to sleep, or to be left, says so, and looks into its mailbox once more; a
//! thread that posts looks whether the loop sleeps, after it has posted. One of the
//! two sees the other. Whoever finds the loop asleep takes the flag and writes to the
//! driver's descriptor: one write however many calls are posted, none to a loop that is
//! awake.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::driver::WakeUp;
use crate::reactor::Reactor;

/// Reaches a reactor from other threads.
///
/// Cheap to clone. It keeps no reactor alive: what is posted to one that is gone is
/// dropped.
#[derive(Clone)]
pub struct Remote {
    posts: Sender<Post>,
    shared: Arc<Shared>,
}

impl Remote {
    /// Has the reactor call `call` on its own thread, in its next turn.
    ///
    /// From any thread, the reactor's own included, before it runs or while it does.
    /// Calls of one thread are made in their order. Twisted's `callFromThread`.
    pub fn call_from_thread(&self, call: impl FnOnce(&Reactor) + Send + 'static) {
        // It fails when the reactor is gone, and then nobody is left to make the call.
        if self.posts.send(Box::new(call)).is_ok() {
            self.shared.wake_sleeper();
        }
    }

    /// Stops the reactor: [`Reactor::stop`] from another thread.
    pub fn stop(&self) {
        self.call_from_thread(Reactor::stop);
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Remote({} calls posted)", self.posts.len())
    }
}

pub(crate) type Post = Box<dyn FnOnce(&Reactor) + Send>;

struct Shared {
    asleep: AtomicBool,
    wake_up: Box<dyn WakeUp>,
}

impl Shared {
    fn wake_sleeper(&self) {
        // Order: the post is visible before the flag is read; see the module's page.
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed) {
            self.wake_up.wake_up();
        }
    }
}

/// The reactor's end.
pub(crate) struct Mailbox {
    received: Receiver<Post>,
    remote: Remote,
}

impl Mailbox {
    pub(crate) fn new(wake_up: Box<dyn WakeUp>) -> Self {
        let (posts, received) = unbounded();
        let shared = Arc::new(Shared {
            asleep: AtomicBool::new(false),
            wake_up,
        });
        Self {
            received,
            remote: Remote { posts, shared },
        }
    }

    pub(crate) fn remote(&self) -> Remote {
        self.remote.clone()
    }

    /// How many calls are there to be made.
    pub(crate) fn len(&self) -> usize {
        // To count costs more than to look, and there is seldom anything.
        if self.received.is_empty() { 0 } else { self.received.len() }
    }

    pub(crate) fn take(&self) -> Option<Post> {
        self.received.try_recv().ok()
    }

    /// Before a wait: true if the loop may sleep, false if there is post.
    pub(crate) fn fall_asleep(&self) -> bool {
        let asleep = &self.remote.shared.asleep;
        asleep.store(true, Ordering::Relaxed);
        // Order: the flag is visible before the mailbox is looked into.
        fence(Ordering::SeqCst);
        if self.received.is_empty() {
            return true;
        }
        asleep.store(false, Ordering::Relaxed);
        false
    }

    /// After a wait.
    pub(crate) fn wake(&self) {
        self.remote.shared.asleep.store(false, Ordering::Relaxed);
    }
}
