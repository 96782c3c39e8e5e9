//! The door for other threads: the only `Send` way to a reactor.
//!
//! # Waking
//!
//! A loop that is about to sleep, or to be left, says so, and looks into its mailbox once more; a
//! thread that posts looks whether the loop sleeps, after it has posted. One of the
//! two sees the other. Whoever finds the loop asleep takes the flag and writes to the
//! driver's descriptor: one write however many calls are posted, none to a loop that is
//! awake. A loop that finds post at the last moment takes its flag back and stays awake; if
//! somebody has taken the flag before it, a write is on its way, and the loop sleeps until
//! that comes. So there is at most one write for a wait that may sleep.
//!
//! That one of the two sees the other: the first thread to post into an empty mailbox sets
//! `posted` and then looks at `asleep`; the loop sets `asleep` and then looks at `posted`.
//! All four are sequentially consistent, so one of the looks comes after both stores. Who
//! posts into a mailbox that is not empty may rely on the first.
//!
//! # Design
//!
//! The mailbox is a list behind a lock that is held for one push. The loop takes the whole
//! list at once and makes its calls from there, so that a call costs it neither a lock nor
//! an atomic operation.
//!
//! # Order
//!
//! Calls of one thread are made in the order in which it posted them. Those of two
//! threads that know nothing of each other have none.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::fmt;
use std::mem;
use std::panic::Location;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use torsade_deferred::{Canceller, Failure, Interrupted};

use crate::driver::WakeUp;
use crate::panics;
use crate::reactor::Reactor;
use crate::remote_call::GiveUp;
use crate::slab::{Slab, Token};
use crate::sys::small_call::SendCall;

/// Reaches a reactor from other threads.
///
/// Cheap to clone. It keeps no reactor alive: what is posted to one that is gone is
/// dropped.
#[derive(Clone)]
pub struct Remote {
    shared: Arc<Shared>,
}

impl Remote {
    /// Has the reactor call `call` on its own thread, in its next turn.
    ///
    /// From any thread, the reactor's own included, before it runs or while it does.
    /// Calls of one thread are made in their order. Twisted's `callFromThread`.
    ///
    /// If the reactor is gone the call is dropped;
    /// [`try_call_from_thread`](Remote::try_call_from_thread) hands it back.
    #[track_caller]
    pub fn call_from_thread(&self, call: impl FnOnce(&Reactor) + Send + 'static) {
        // It fails when the reactor is gone, and then nobody is left to make the call.
        let _ = self.post(Post::new(call));
    }

    /// The same, for who wants to know whether the reactor is still there.
    ///
    /// # Errors
    ///
    /// [`ReactorGone`], with the call in it. A reactor that goes after this drops the call.
    #[track_caller]
    pub fn try_call_from_thread(
        &self,
        call: impl FnOnce(&Reactor) + Send + 'static,
    ) -> Result<(), ReactorGone> {
        self.post(Post::new(call))
    }

    fn post(&self, post: Post) -> Result<(), ReactorGone> {
        let shared = &self.shared;
        {
            let mut posts = shared.posts();
            if posts.gone {
                drop(posts);
                let call = Box::new(move |reactor: &Reactor| post.call.call(reactor));
                return Err(ReactorGone { call });
            }
            posts.calls.push_back(post);
            if posts.calls.len() == 1 {
                // Order: before the look at `asleep`; see the module's page.
                shared.posted.store(true, Ordering::SeqCst);
            }
        }
        shared.wake_sleeper();
        Ok(())
    }

    /// Notes who is to be told if the reactor ends, under a number; not, if it has.
    pub(crate) fn register(&self, give_up: GiveUp) -> Result<u64, Ending> {
        let mut waiting = self.shared.waiting();
        match waiting.ended {
            Some(ending) => Err(ending),
            None => Ok(waiting.callers.insert(give_up).to_u64()),
        }
    }

    pub(crate) fn is_registered(&self, number: u64) -> bool {
        let waiting = self.shared.waiting();
        waiting.callers.get(Token::from_u64(number)).is_some()
    }

    pub(crate) fn unregister(&self, number: u64) {
        let registered = {
            let mut waiting = self.shared.waiting();
            waiting.callers.remove(Token::from_u64(number))
        };
        // Detach, then drop: an answer that nobody took may be in it.
        drop(registered);
    }

    /// Whether this is the thread on which the reactor's callbacks are called. Twisted's
    /// `isInIOThread`.
    #[must_use]
    pub fn is_reactor_thread(&self) -> bool {
        self.shared.thread == thread::current().id()
    }

    /// Stops the reactor: [`Reactor::stop`] from another thread.
    #[track_caller]
    pub fn stop(&self) {
        self.call_from_thread(Reactor::stop);
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Remote({} calls posted)",
            self.shared.posts().calls.len()
        )
    }
}

/// The reactor of a [`Remote`] is gone. Gives the call back.
#[derive(thiserror::Error)]
#[error("the reactor is gone")]
#[non_exhaustive]
pub struct ReactorGone {
    /// What was to be called.
    pub call: Box<dyn FnOnce(&Reactor) + Send>,
}

impl fmt::Debug for ReactorGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReactorGone").finish_non_exhaustive()
    }
}

/// Why [`Remote::blocking_call`] has no value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlockingCallError {
    /// Called on the reactor's own thread, which would wait for itself.
    #[error("a blocking call on the reactor's own thread would never end")]
    OnReactorThread,
    /// The reactor was stopped before it answered, or had been and does not run again yet.
    #[error("the reactor was stopped")]
    Stopped,
    /// The reactor is gone.
    #[error("the reactor is gone")]
    Gone,
    /// The call failed.
    #[error(transparent)]
    Failed(#[from] RemoteFailure),
}

/// What is left of a [`Failure`] on another thread: it may hold what must not cross.
#[derive(Clone, Debug)]
pub struct RemoteFailure {
    message: String,
    origin: &'static Location<'static>,
    interrupted: Option<Interrupted>,
}

impl RemoteFailure {
    pub(crate) fn of(failure: &Failure) -> Self {
        let messages: Vec<_> = failure.sources().map(ToString::to_string).collect();
        Self {
            message: messages.join(": "),
            origin: failure.origin(),
            interrupted: failure.downcast_ref().cloned(),
        }
    }

    /// The message of the error, and of what caused it.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Where the error became a failure.
    #[must_use]
    pub fn origin(&self) -> &'static Location<'static> {
        self.origin
    }

    /// Whether it was cancelled, timed out, abandoned or panicked.
    #[must_use]
    pub fn interrupted(&self) -> Option<&Interrupted> {
        self.interrupted.as_ref()
    }
}

impl fmt::Display for RemoteFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for RemoteFailure {}

/// The flags come first, beside the counts of the `Arc`: the loop asks for all of them in each turn.
#[repr(C)]
struct Shared {
    /// There are posts: set by who posts the first, cleared by the loop, which takes all.
    posted: AtomicBool,
    asleep: AtomicBool,
    posts: Mutex<Posts>,
    wake_up: Box<dyn WakeUp>,
    thread: ThreadId,
    waiting: Mutex<Waiting>,
}

/// A call, and the line that posted it.
pub(crate) struct Post {
    pub(crate) call: SendCall,
    pub(crate) origin: &'static Location<'static>,
}

impl Post {
    #[track_caller]
    fn new(call: impl FnOnce(&Reactor) + Send + 'static) -> Self {
        Self {
            call: SendCall::new(call),
            origin: Location::caller(),
        }
    }
}

/// What was posted and not taken.
struct Posts {
    calls: VecDeque<Post>,
    /// The reactor is gone: nobody will take anything.
    gone: bool,
}

/// The calls from threads that have no answer yet.
struct Waiting {
    /// How each is told that no answer will come.
    callers: Slab<GiveUp>,
    /// Why nobody is to wait; `None` before the first run, and while the reactor runs.
    ended: Option<Ending>,
}

/// How a reactor has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ending {
    Stopped,
    Gone,
}

impl From<Ending> for BlockingCallError {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Stopped => Self::Stopped,
            Ending::Gone => Self::Gone,
        }
    }
}

impl Shared {
    fn posts(&self) -> MutexGuard<'_, Posts> {
        // Nothing that could panic leaves the list half changed.
        self.posts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Nothing that could panic leaves the table half changed.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake_sleeper(&self) {
        // Order: after the post; see the module's page.
        if self.asleep.load(Ordering::SeqCst) && self.asleep.swap(false, Ordering::SeqCst) {
            self.wake_up.wake_up();
        }
    }
}

/// The reactor's end.
pub(crate) struct Mailbox {
    remote: Remote,
    /// What was taken of the posts, in order.
    taken: RefCell<VecDeque<Post>>,
    ended: Cell<bool>,
    /// What cancels the calls from threads that have begun, by their numbers.
    cancellers: RefCell<BTreeMap<u64, Canceller>>,
}

/// Room for this many posts is kept: less is not worth the freeing.
const KEPT: usize = 256;

impl Mailbox {
    pub(crate) fn new(wake_up: Box<dyn WakeUp>) -> Self {
        let shared = Arc::new(Shared {
            posts: Mutex::new(Posts {
                calls: VecDeque::new(),
                gone: false,
            }),
            posted: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            wake_up,
            thread: thread::current().id(),
            waiting: Mutex::new(Waiting {
                callers: Slab::new(),
                ended: None,
            }),
        });
        Self {
            remote: Remote { shared },
            taken: RefCell::default(),
            ended: Cell::new(false),
            cancellers: RefCell::default(),
        }
    }

    pub(crate) fn add_canceller(&self, number: u64, canceller: Canceller) {
        self.cancellers.borrow_mut().insert(number, canceller);
    }

    pub(crate) fn take_canceller(&self, number: u64) -> Option<Canceller> {
        self.cancellers.borrow_mut().remove(&number)
    }

    pub(crate) fn remote(&self) -> Remote {
        self.remote.clone()
    }

    /// Whether there are calls to be made.
    #[inline]
    pub(crate) fn has_post(&self) -> bool {
        self.remote.shared.posted.load(Ordering::Relaxed) || !self.taken.borrow().is_empty()
    }

    /// How many calls are there to be made.
    pub(crate) fn len(&self) -> usize {
        self.collect();
        self.taken.borrow().len()
    }

    /// The lines that posted what is there to be made, in order.
    pub(crate) fn origins(&self) -> Vec<&'static Location<'static>> {
        self.collect();
        let taken = self.taken.borrow();
        taken.iter().map(|post| post.origin).collect()
    }

    pub(crate) fn take(&self) -> Option<Post> {
        if self.taken.borrow().is_empty() {
            self.collect();
        }
        self.taken.borrow_mut().pop_front()
    }

    /// Takes what was posted, behind what was taken before.
    #[inline]
    fn collect(&self) {
        // To ask costs less than the lock, and there is seldom anything. What is overlooked
        // here, because it comes at this moment, is seen before the loop sleeps.
        if self.remote.shared.posted.load(Ordering::Relaxed) {
            self.collect_some();
        }
    }

    #[inline(never)]
    fn collect_some(&self) {
        let shared = &self.remote.shared;
        let mut taken = self.taken.borrow_mut();
        let mut posts = shared.posts();
        shared.posted.store(false, Ordering::SeqCst);
        if taken.is_empty() {
            // Memory of a burst is given back when it is over.
            if taken.capacity() / 4 > posts.calls.len().max(KEPT) {
                taken.shrink_to(KEPT);
            }
            mem::swap(&mut *taken, &mut posts.calls);
        } else {
            taken.append(&mut posts.calls);
        }
    }

    /// Before a wait, or before the loop is left: true if it may sleep, false if there is post.
    pub(crate) fn fall_asleep(&self) -> bool {
        let shared = &self.remote.shared;
        // Who has post does not say that it sleeps: nobody would write for nothing.
        if shared.posted.load(Ordering::Relaxed) || !self.taken.borrow().is_empty() {
            return false;
        }
        // Order: before the look into the mailbox; see the module's page. (An exchange,
        // because it takes less time than a store and a fence.)
        shared.asleep.swap(true, Ordering::SeqCst);
        if !shared.posted.load(Ordering::SeqCst) {
            return true;
        }
        // If the flag is gone, its taker writes. To stay awake would leave that write to no
        // sleep at all, and have the next one end for nothing.
        !shared.asleep.swap(false, Ordering::SeqCst)
    }

    /// The same for a wait inside a turn: where no [`Remote`] is in anybody's hands, none can
    /// come into them before it ends, and nobody has to be told that the loop sleeps.
    #[inline]
    pub(crate) fn fall_asleep_in_a_turn(&self) -> bool {
        if Arc::strong_count(&self.remote.shared) > 1 {
            return self.fall_asleep();
        }
        // Order: what was posted through a `Remote` before it went is seen by who sees it gone.
        fence(Ordering::Acquire);
        !self.remote.shared.posted.load(Ordering::Relaxed) && self.taken.borrow().is_empty()
    }

    /// The reactor has ended: whoever waits for an answer waits no longer.
    pub(crate) fn end(&self, ending: Ending) {
        self.ended.set(true);
        let shared = &self.remote.shared;
        if matches!(ending, Ending::Gone) {
            // Nothing is posted from here on.
            shared.posts().gone = true;
            while let Some(post) = self.take() {
                // Detach, then drop. The panic has been reported.
                let _ = panics::catch(|| drop(post));
            }
        }
        let callers = {
            let mut waiting = shared.waiting();
            waiting.ended = Some(ending);
            // A new table would give the same tokens to the callers of the next run, and calls
            // that are still posted would take theirs for these.
            waiting.callers.take_all()
        };
        for give_up in callers {
            give_up(ending);
        }
    }

    /// The machine has crashed: whoever would run the reactor again asks for that first.
    pub(crate) fn close(&self) {
        self.ended.set(true);
    }

    #[inline]
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.get()
    }

    /// The reactor runs again.
    pub(crate) fn begin_again(&self) {
        self.ended.set(false);
        let shared = &self.remote.shared;
        shared.posts().gone = false;
        shared.waiting().ended = None;
    }

    /// Somebody may run the reactor again, though it has ended.
    pub(crate) fn reopen(&self) {
        if self.has_ended() {
            self.begin_again();
        }
        // A host may wait for the descriptor before it gives the first turn.
        self.fall_asleep();
    }

    /// Wakes who waits in the loop's stead, unless somebody has.
    pub(crate) fn wake_sleeper(&self) {
        self.remote.shared.wake_sleeper();
    }

    /// After a wait.
    pub(crate) fn wake(&self) {
        self.remote.shared.asleep.store(false, Ordering::Relaxed);
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        self.end(Ending::Gone);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc;

    use crate::testing;

    use super::*;

    /// Counts the writes, and ends the sleep of a loop that waits on the channel.
    #[derive(Debug)]
    struct Counting {
        writes: Arc<AtomicUsize>,
        sleeper: mpsc::Sender<()>,
    }

    impl WakeUp for Counting {
        fn wake_up(&self) {
            self.writes.fetch_add(1, Ordering::Relaxed);
            self.sleeper.send(()).expect("the loop listens");
        }
    }

    /// Threads that post as fast as they can, or each only when its last call was made, so
    /// that the loop is always about to sleep.
    fn check_writes(each: usize, waits_for_its_call: bool) {
        const THREADS: usize = 4;
        thread_local! {
            static NEXT: RefCell<[usize; THREADS]> = const { RefCell::new([0; THREADS]) };
        }
        NEXT.set([0; THREADS]);
        let (sleeper, woken) = mpsc::channel();
        let writes = Arc::new(AtomicUsize::new(0));
        let mailbox = Mailbox::new(Box::new(Counting {
            writes: Arc::clone(&writes),
            sleeper,
        }));
        let threads: Vec<_> = (0..THREADS)
            .map(|index| {
                let remote = mailbox.remote();
                thread::spawn(move || {
                    let made = Arc::new(AtomicUsize::new(0));
                    for number in 0..each {
                        let makes = Arc::clone(&made);
                        remote.call_from_thread(move |_| {
                            NEXT.with_borrow_mut(|next| {
                                assert_eq!(next[index], number, "of thread {index}");
                                next[index] += 1;
                            });
                            makes.fetch_add(1, Ordering::Relaxed);
                        });
                        while waits_for_its_call && made.load(Ordering::Relaxed) <= number {
                            thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        let reactor = testing::virtual_time_reactor();
        let mut sleeps = 0;
        while NEXT.with_borrow(|next| *next != [each; THREADS]) {
            if mailbox.fall_asleep() {
                sleeps += 1;
                woken.recv().expect("the mailbox lives");
                // Writes that come together are one edge.
                woken.try_iter().for_each(drop);
                mailbox.wake();
            }
            while let Some(post) = mailbox.take() {
                post.call.call(&reactor);
            }
        }
        for thread in threads {
            thread.join().expect("it posts and ends");
        }
        assert!(mailbox.take().is_none());
        let writes = writes.load(Ordering::Relaxed);
        assert!(writes <= sleeps, "{writes} writes for {sleeps} sleeps");
    }

    #[test]
    fn loop_is_woken_by_at_most_one_write_a_sleep_and_no_call_is_lost_or_made_twice() {
        check_writes(50_000, false);
    }

    #[test]
    fn loop_that_is_always_about_to_sleep_is_woken_by_at_most_one_write_a_sleep() {
        check_writes(20_000, true);
    }

    #[test]
    fn loop_that_is_awake_is_sent_no_write() {
        let (sleeper, woken) = mpsc::channel();
        let writes = Arc::new(AtomicUsize::new(0));
        let mailbox = Mailbox::new(Box::new(Counting {
            writes: Arc::clone(&writes),
            sleeper,
        }));
        let remote = mailbox.remote();
        for _ in 0..100 {
            remote.call_from_thread(|_| ());
        }
        assert_eq!(writes.load(Ordering::Relaxed), 0);
        assert!(!mailbox.fall_asleep(), "there is post");
        while mailbox.take().is_some() {}
        assert!(mailbox.fall_asleep());
        for _ in 0..100 {
            remote.call_from_thread(|_| ());
        }
        assert_eq!(writes.load(Ordering::Relaxed), 1);
        assert_eq!(woken.try_iter().count(), 1);
    }
}
