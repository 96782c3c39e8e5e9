//! Messages from other threads, as events of the loop.
//!
//! # Bounds
//!
//! At most [`MESSAGES_A_TURN`] messages of one channel are delivered in a turn; the rest
//! waits for the next ones. A bounded channel holds no more than it was made for, and
//! its senders wait or are told.
//!
//! # Order
//!
//! Messages of one sender's thread arrive in its order. [`ChannelEvent::Closed`] comes
//! last, once, when every sender is gone.
//!
//! # Waking
//!
//! A sender rings after it has put its message into the queue, unless somebody has rung
//! already; the loop takes note of the ringing before it looks into the queue. So a
//! thousand messages to a loop that sleeps are one call from a thread and one write, and
//! none is overlooked: see the fences in `remote.rs`, which stand here, too.

use std::any::type_name;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::Location;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use crossbeam_channel::{Receiver, Sender as Queue, TryRecvError, TrySendError};

use crate::core::{Core, Source};
use crate::driver::Change;
use crate::panics;
use crate::reactor::Reactor;
use crate::remote::Remote;
use crate::slab::Token;

/// Messages of one channel that one turn delivers: calloop's number. Enough to make the
/// turn's own cost vanish, few enough to let the sockets be heard in between.
const MESSAGES_A_TURN: usize = 1024;

/// What a channel's callback is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelEvent<T> {
    /// A message came.
    Message(T),
    /// All senders are gone, and all messages were delivered. The last event.
    Closed,
}

impl Reactor {
    /// Makes a channel: `callback` is called on this thread with every message that its
    /// senders send, on whatever thread they are.
    ///
    /// There is no bound on the messages that wait: see
    /// [`bounded_channel`](Reactor::bounded_channel).
    ///
    /// Called in a turn after the events of sockets, at most 1024 messages a turn. When the
    /// reactor stops, its channels are removed. A panic in `callback` removes the channel.
    ///
    /// # Reentrancy
    ///
    /// The callback may send to its own channel, and remove it; what is sent is never
    /// delivered from inside a callback.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::thread;
    /// use torsade_reactor::{ChannelEvent, Reactor};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let reactor = Reactor::new()?;
    /// let mut sum = 0;
    /// let (sender, _channel) = reactor.channel(move |channel, event| match event {
    ///     ChannelEvent::Message(number) => sum += number,
    ///     ChannelEvent::Closed => {
    ///         assert_eq!(sum, 6);
    ///         channel.reactor().stop();
    ///     }
    /// });
    /// let worker = thread::spawn(move || (1..=3).try_for_each(|number| sender.send(number)));
    /// reactor.run()?;
    /// assert!(worker.join().is_ok_and(|sent| sent.is_ok()));
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn channel<T: Send + 'static>(
        &self,
        callback: impl FnMut(&Channel, ChannelEvent<T>) + 'static,
    ) -> (Sender<T>, Channel) {
        let (queue, messages) = crossbeam_channel::unbounded();
        listen(self.core(), queue, messages, callback)
    }

    /// Makes a channel that holds at most `capacity` messages (at least one); who sends
    /// more waits, or is told. Otherwise as [`channel`](Reactor::channel).
    #[track_caller]
    pub fn bounded_channel<T: Send + 'static>(
        &self,
        capacity: usize,
        callback: impl FnMut(&Channel, ChannelEvent<T>) + 'static,
    ) -> (Sender<T>, Channel) {
        // With no room at all a message would wait for the loop, and the loop for a message.
        let (queue, messages) = crossbeam_channel::bounded(capacity.max(1));
        listen(self.core(), queue, messages, callback)
    }

    /// Makes a wake-up that any thread may send: `callback` is called on this thread after
    /// [`Ping::ping`], once for all pings since it was last called. For news that is kept
    /// elsewhere.
    ///
    /// Called where the messages of a [`channel`](Reactor::channel) are; removed as one is,
    /// and when the last [`Ping`] is dropped.
    #[track_caller]
    pub fn ping(&self, mut callback: impl FnMut(&Channel) + 'static) -> (Ping, Channel) {
        let (sender, channel) = self.bounded_channel(1, move |channel, event| {
            if event == ChannelEvent::Message(()) {
                callback(channel);
            }
        });
        (Ping { sender }, channel)
    }
}

/// Sends messages to a [`Reactor::channel`], from any thread.
///
/// A cheap clone. When the last one is dropped, the channel is closed.
pub struct Sender<T> {
    end: Arc<SendingEnd<T>>,
}

impl<T> Sender<T> {
    /// Sends a message. Waits while a bounded channel is full; but on the reactor's own
    /// thread, where that would never end, it is refused.
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`] if the channel was removed, or its reactor is gone;
    /// [`SendError::Full`]. The message is in it.
    pub fn send(&self, message: T) -> Result<(), SendError<T>> {
        match self.try_send(message) {
            Err(SendError::Full(message)) if !self.end.bell.remote.is_reactor_thread() => {
                let sent = self.end.queue().send(message);
                sent.map_err(|unsent| SendError::Closed(unsent.0))?;
                self.end.bell.ring();
                Ok(())
            }
            outcome => outcome,
        }
    }

    /// Sends a message, or says at once that a bounded channel is full.
    ///
    /// # Errors
    ///
    /// As for [`send`](Sender::send).
    pub fn try_send(&self, message: T) -> Result<(), SendError<T>> {
        self.end
            .queue()
            .try_send(message)
            .map_err(|unsent| match unsent {
                TrySendError::Full(message) => SendError::Full(message),
                TrySendError::Disconnected(message) => SendError::Closed(message),
            })?;
        self.end.bell.ring();
        Ok(())
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self {
            end: Arc::clone(&self.end),
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sender({} messages on the way)", self.end.queue().len())
    }
}

/// A message was not sent. Gives it back.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError<T> {
    /// The channel has no room, and this thread does not wait.
    #[error("the channel is full")]
    Full(T),
    /// Nobody will ever receive it.
    #[error("the channel is closed")]
    Closed(T),
}

impl<T> SendError<T> {
    /// The message.
    pub fn into_message(self) -> T {
        match self {
            Self::Full(message) | Self::Closed(message) => message,
        }
    }
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full(..)",
            Self::Closed(_) => "Closed(..)",
        })
    }
}

/// Wakes the callback of a [`Reactor::ping`], from any thread.
#[derive(Clone)]
pub struct Ping {
    sender: Sender<()>,
}

impl Ping {
    /// Has the callback called, in this turn or the next. If it is to be called already,
    /// or was removed, this does nothing.
    pub fn ping(&self) {
        // Full is as good as sent; and a callback that was removed wants to hear nothing.
        let _ = self.sender.try_send(());
    }
}

impl fmt::Debug for Ping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ping").finish_non_exhaustive()
    }
}

/// The receiving end of a channel, or of a ping.
///
/// Cheap to clone; dropping it does not remove the channel.
#[derive(Clone)]
pub struct Channel {
    listening: Rc<dyn Listens>,
}

impl Channel {
    /// Ends the channel: nothing is delivered any more, not even
    /// [`ChannelEvent::Closed`], and senders are told. The callback is dropped, at the
    /// latest when it returns. False if it had ended before.
    #[expect(clippy::must_use_candidate, reason = "it is called for what it does")]
    pub fn remove(&self) -> bool {
        self.listening.remove()
    }

    /// Whether something may still be delivered.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.listening.is_open()
    }

    /// Whether [`Reactor::run_until_idle`](crate::Reactor::run_until_idle) goes on for this channel: not, if it is in the
    /// background. To say so twice is to say it once. libuv's `unref`.
    pub fn set_background(&self, on: bool) {
        self.listening.background().set(on);
    }

    /// Whether it is in the background.
    #[must_use]
    pub fn is_background(&self) -> bool {
        self.listening.background().get()
    }

    /// The reactor, for callbacks: a handle that they held would keep it alive.
    #[must_use]
    pub fn reactor(&self) -> Reactor {
        Reactor::of(self.listening.core())
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.is_open() { "open" } else { "ended" };
        write!(f, "Channel({state})")
    }
}

/// What all senders of a channel share.
struct SendingEnd<T> {
    /// `Some` until this is dropped.
    queue: Option<Queue<T>>,
    bell: Arc<Bell>,
}

impl<T> SendingEnd<T> {
    fn queue(&self) -> &Queue<T> {
        self.queue.as_ref().expect("only the drop takes the queue")
    }
}

impl<T> Drop for SendingEnd<T> {
    fn drop(&mut self) {
        // Order: gone before the ringing, so that the loop finds nobody left.
        drop(self.queue.take());
        self.bell.ring();
    }
}

/// Says that there is something in the queue; see the module's page.
struct Bell {
    rung: AtomicBool,
    remote: Remote,
    token: Token,
}

impl Bell {
    /// From any thread, after something was put into the queue.
    fn ring(&self) {
        // Order: the message is in the queue before the flag is read.
        fence(Ordering::SeqCst);
        if !self.rung.load(Ordering::Relaxed) && !self.rung.swap(true, Ordering::Relaxed) {
            let token = self.token;
            self.remote
                .call_from_thread(move |reactor| reactor.core().ready_again(token));
        }
    }

    /// Before the queue is looked into.
    fn take_note(&self) {
        self.rung.store(false, Ordering::Relaxed);
        // Order: the flag is down before the queue is read.
        fence(Ordering::SeqCst);
    }

    /// True if the loop is to look again by itself; false if somebody has rung.
    fn is_silent(&self) -> bool {
        !self.rung.swap(true, Ordering::Relaxed)
    }
}

#[track_caller]
fn listen<T: Send + 'static>(
    core: &Rc<Core>,
    queue: Queue<T>,
    messages: Receiver<T>,
    callback: impl FnMut(&Channel, ChannelEvent<T>) + 'static,
) -> (Sender<T>, Channel) {
    let origin = Location::caller();
    let remote = core.mailbox.remote();
    let make = |token| {
        Rc::new(Listening {
            core: Rc::clone(core),
            token,
            messages: RefCell::new(Some(messages)),
            callback: Cell::new(Some(Box::new(callback))),
            background: Cell::new(false),
            bell: Arc::new(Bell {
                rung: AtomicBool::new(false),
                remote,
                token,
            }),
        })
    };
    let listening = core.on_behalf_of(origin, || core.add_source(make));
    let end = Arc::new(SendingEnd {
        queue: Some(queue),
        bell: Arc::clone(&listening.bell),
    });
    (Sender { end }, Channel { listening })
}

type Callback<T> = Box<dyn FnMut(&Channel, ChannelEvent<T>)>;

/// The reactor's end.
struct Listening<T> {
    core: Rc<Core>,
    token: Token,
    /// `None` once it has ended.
    messages: RefCell<Option<Receiver<T>>>,
    /// Taken out while it runs.
    callback: Cell<Option<Callback<T>>>,
    bell: Arc<Bell>,
    /// The loop may come to its end though this is open.
    background: Cell<bool>,
}

impl<T: 'static> Listening<T> {
    /// Delivers a turn's share. False if there is nothing more to do.
    fn deliver(self: &Rc<Self>) -> bool {
        for _ in 0..MESSAGES_A_TURN {
            let received = match &*self.messages.borrow() {
                Some(messages) => messages.try_recv(),
                None => return false,
            };
            match received {
                Ok(message) => self.call(ChannelEvent::Message(message)),
                Err(TryRecvError::Empty) => return false,
                Err(TryRecvError::Disconnected) => {
                    self.call(ChannelEvent::Closed);
                    self.end();
                    return false;
                }
            }
        }
        true
    }

    fn call(self: &Rc<Self>, event: ChannelEvent<T>) {
        let Some(mut callback) = self.callback.take() else {
            return;
        };
        let channel = Channel {
            listening: Rc::clone(self) as Rc<dyn Listens>,
        };
        let outcome = panics::catch_with(|| self.core.origin(), || callback(&channel, event));
        if self.is_open() {
            self.callback.set(Some(callback));
        } else {
            let _ = panics::catch(|| drop(callback));
        }
        if outcome.is_err() {
            // Reported; what it was in the middle of is lost.
            self.end();
        }
        // Every callback's writes leave before the next one runs.
        self.core.settle();
    }

    fn end(&self) {
        // A panic is that of a message's or the callback's drop, and has been reported.
        let _ = panics::catch(|| self.remove());
    }
}

/// A channel, whatever its messages are.
trait Listens {
    fn background(&self) -> &Cell<bool>;
    fn remove(&self) -> bool;
    fn is_open(&self) -> bool;
    fn core(&self) -> &Rc<Core>;
}

impl<T> Listens for Listening<T> {
    fn background(&self) -> &Cell<bool> {
        &self.background
    }

    fn remove(&self) -> bool {
        self.core.remove_source(self.token);
        // Detach, then drop: messages and callback may own anything.
        let messages = self.messages.take();
        let callback = self.callback.take();
        messages.is_some() | callback.is_some()
    }

    fn is_open(&self) -> bool {
        self.messages.borrow().is_some()
    }

    fn core(&self) -> &Rc<Core> {
        &self.core
    }
}

impl<T: 'static> Source for Listening<T> {
    fn ready(self: Rc<Self>, _change: Change) {}

    fn again(self: Rc<Self>) {
        self.bell.take_note();
        if self.deliver() && self.bell.is_silent() {
            self.core.ready_again(self.token);
        }
    }

    fn settle(self: Rc<Self>) {}

    fn stop(self: Rc<Self>) {
        self.end();
    }

    fn is_background(&self) -> bool {
        self.background.get()
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.messages.borrow().as_ref().map_or(0, Receiver::len);
        write!(f, "channel of {}, {waiting} messages", type_name::<T>())
    }
}
