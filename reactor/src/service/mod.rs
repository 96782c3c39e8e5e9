//! A client that keeps one connection, for as long as it runs.
//!
//! [`machine`] says what to do when; [`backoff`] how long to wait; here it is done.
//!
//! # Order
//!
//! What happens while an event is dealt with, in a callback of the user's for instance, waits
//! until that has been done to its end: no action meets a state that it was not made for.

mod backoff;
mod machine;
mod watched;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::mem;
use std::panic::Location;
use std::rc::Rc;
use std::time::Duration;

use torsade_deferred::{
    Canceller, Deferred, Failure, Interrupted, IntoDeferred, Trigger, fail, succeed,
};

use crate::address::Address;
use crate::delayed_call::{Call, DelayedCall};
use crate::endpoints::ClientEndpoint;
use crate::error::ConnectionLost;
use crate::panics;
use crate::protocol::{self, Built, Protocol};
use crate::reactor::Reactor;
use crate::stream::Stream;
use crate::transport::Transport;
use crate::weak_reactor::WeakReactor;

use self::machine::{Action, Event};
use self::watched::Watched;

pub use self::backoff::{Backoff, RetryPolicy};
pub use self::machine::ServiceState;

/// Keeps one connection to an endpoint: connects when it is started, and again after a while
/// when the attempt fails or the connection is lost, until it is stopped. Twisted's
/// `ClientService`.
///
/// A cheap clone: another handle on the same service. When the last handle is dropped, the
/// service stops. What it does is told by [`state`](Self::state); see the picture at
/// [`ServiceState`].
///
/// # Reentrancy
///
/// Everything may be called from every callback: of the protocol, of the retry policy, of the
/// Deferreds that it gives.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use torsade_reactor::{Address, Backoff, ClientService, Protocol, Reactor, TcpClientEndpoint};
/// use torsade_reactor::Transport;
///
/// struct Feed;
///
/// impl Protocol for Feed {
///     fn data_received(&mut self, _transport: &Transport<Self>, data: &[u8]) {
///         println!("{} bytes of news", data.len());
///     }
/// }
///
/// # fn main() -> Result<(), torsade_deferred::Failure> {
/// let reactor = Reactor::new()?;
/// let endpoint = TcpClientEndpoint::new("news.example:1234");
/// let service = ClientService::new(&reactor, endpoint, |_peer: &Address| Feed)
///     .retry_policy(Backoff::new(1).max(Duration::from_secs(10)))
///     .prepare_connection(|transport| {
///         transport.write("SUBSCRIBE\r\n");
///         transport.flush()
///     });
/// service.start();
/// let stopped = service.stop(); // fires when nothing is left
/// # reactor.run_until(stopped)?;
/// # Ok(())
/// # }
/// ```
#[must_use = "a service ends when its last handle is dropped"]
pub struct ClientService<P: Protocol> {
    owner: Rc<Owner<P>>,
}

impl<P: Protocol> ClientService<P> {
    /// A service that connects to `endpoint`, and seats what `build` makes on each connection.
    /// It connects when it is started.
    ///
    /// `build` is called for each connection with the peer's address; if it gives `None`, the
    /// attempt has failed.
    #[track_caller]
    pub fn new<B: Built<Protocol = P>>(
        reactor: &Reactor,
        endpoint: impl ClientEndpoint + 'static,
        mut build: impl FnMut(&Address) -> B + 'static,
    ) -> Self {
        let seed = reactor.core().driver().seed();
        let build: Build<P> = Box::new(move |peer| build(peer).into_protocol());
        let service = Rc::new(Service {
            reactor: reactor.downgrade(),
            origin: Location::caller(),
            endpoint: Box::new(endpoint),
            build: Cell::new(Some(build)),
            policy: Cell::new(Some(Box::new(Backoff::new(seed)))),
            failed_attempt: Cell::new(None),
            prepare: Cell::new(None),
            state: Cell::new(ServiceState::Stopped),
            events: RefCell::default(),
            feeding: Cell::new(false),
            wanted: Cell::new(false),
            attempt: RefCell::new(None),
            connection: RefCell::new(None),
            preparation: RefCell::new(None),
            retry: Cell::new(None),
            failed_attempts: Cell::new(0),
            last_failure: RefCell::new(None),
            waiting: RefCell::default(),
        });
        Self {
            owner: Rc::new(Owner { service }),
        }
    }

    /// Has `policy` say how long to wait between attempts: a [`Backoff`], or a closure. A
    /// panic in it counts as 60 s.
    pub fn retry_policy(self, policy: impl RetryPolicy + 'static) -> Self {
        let replaced = self.service().policy.replace(Some(Box::new(policy)));
        drop(replaced);
        self
    }

    /// Has `hook` called when an attempt has failed and another will be made: with what it has
    /// failed with, and how long the service waits now. For logs, or to look elsewhere and
    /// [`stop`](Self::stop). Not called for the loss of a connection that was ready: that is
    /// told to the protocol.
    pub fn on_failed_attempt(self, hook: impl FnMut(&Failure, Duration) + 'static) -> Self {
        let hook: FailedAttempt = Box::new(hook);
        let replaced = self.service().failed_attempt.replace(Some(hook));
        drop(replaced);
        self
    }

    /// Has `prepare` called with each connection, after `connection_made`; the connection is
    /// ready when what it returns has fired, and only then do the failures count from zero
    /// again. Nothing, a `Result` or a Deferred.
    ///
    /// Nothing limits how long it takes: give what it returns a timeout, or a peer that says
    /// nothing keeps the service here for ever.
    ///
    /// If it fails, the connection is lost, and it counts as a failed attempt. If the connection
    /// is lost or the service stopped first, it is cancelled.
    pub fn prepare_connection<R>(
        self,
        mut prepare: impl FnMut(&Transport<P>) -> R + 'static,
    ) -> Self
    where
        R: IntoDeferred<Failure, Value = ()>,
    {
        let prepare: Prepare<P> = Box::new(move |transport| prepare(transport).into_deferred());
        let replaced = self.service().prepare.replace(Some(prepare));
        drop(replaced);
        self
    }

    /// Starts: connects now, or when what was stopped is gone. To start what is started is
    /// nothing.
    pub fn start(&self) {
        let service = self.service();
        service.wanted.set(true);
        service.feed(Event::Start);
    }

    /// Stops: gives up the attempt or the wait, loses the connection in order. Fires when it
    /// is really gone, which a peer that does not read can put off until
    /// [`Limits::flush`](crate::Limits::flush) has passed; at once, if there is nothing. Every caller has
    /// a Deferred of its own.
    ///
    /// Those who wait for a connection fail with
    /// [`Interrupted::Cancelled`](torsade_deferred::Interrupted::Cancelled).
    ///
    /// # Cancellation
    ///
    /// Ends the waiting, and nothing else.
    #[track_caller]
    #[expect(clippy::must_use_candidate, reason = "it is called for what it does")]
    pub fn stop(&self) -> Deferred<()> {
        let service = Rc::clone(self.service());
        let (trigger, stopped) = Deferred::new();
        service.wanted.set(false);
        service.waiting.borrow_mut().end_until(trigger);
        service.feed(Event::Stop);
        stopped
    }

    /// Fires with the connection: now if it is ready, else when the next one is. Every caller
    /// has a Deferred of its own.
    ///
    /// Fails with [`Interrupted::Cancelled`](torsade_deferred::Interrupted::Cancelled) when the
    /// service is stopped, or if it is not started.
    ///
    /// # Cancellation
    ///
    /// Ends the waiting, and nothing else.
    #[track_caller]
    #[must_use]
    pub fn when_connected(&self) -> Deferred<Transport<P>> {
        self.wait(None)
    }

    /// As [`when_connected`](Self::when_connected), but fails with what the attempt fails with,
    /// when `failures` attempts have failed from now on. Twisted's `failAfterFailures`.
    ///
    /// To lose a connection that was ready is no failure of an attempt. 0 counts as 1.
    #[track_caller]
    #[must_use]
    pub fn when_connected_or_failed(&self, failures: u32) -> Deferred<Transport<P>> {
        self.wait(Some(failures.max(1)))
    }

    #[track_caller]
    fn wait(&self, patience: Option<u32>) -> Deferred<Transport<P>> {
        let service = self.service();
        if !service.wanted.get() {
            return fail(Interrupted::Cancelled);
        }
        if let Some(transport) = service.ready_connection() {
            return succeed(transport);
        }
        let (trigger, connected) = Deferred::new();
        let weak = Rc::downgrade(service);
        let mut waiting = service.waiting.borrow_mut();
        let number = waiting.next_number();
        trigger.on_cancel(move || {
            let service = weak.upgrade();
            // Detach, then drop.
            let gone = service.and_then(|s| s.waiting.borrow_mut().for_connection.remove(&number));
            drop(gone);
        });
        waiting
            .for_connection
            .insert(number, ForConnection { patience, trigger });
        connected
    }

    /// What it is doing.
    #[must_use]
    pub fn state(&self) -> ServiceState {
        self.service().state.get()
    }

    /// How many failures there have been in a row: 0 when a connection is ready. A connection
    /// that is lost is one.
    #[must_use]
    pub fn failed_attempts(&self) -> u32 {
        self.service().failed_attempts.get()
    }

    /// What the last attempt that failed has failed with; `None` if none has, since the last
    /// connection was ready.
    #[must_use]
    pub fn last_failure(&self) -> Option<Failure> {
        self.service().last_failure.borrow().clone()
    }

    fn service(&self) -> &Rc<Service<P>> {
        &self.owner.service
    }
}

impl<P: Protocol> Clone for ClientService<P> {
    fn clone(&self) -> Self {
        Self {
            owner: Rc::clone(&self.owner),
        }
    }
}

impl<P: Protocol> fmt::Debug for ClientService<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ClientService({:?}, {} failures in a row)",
            self.state(),
            self.failed_attempts()
        )
    }
}

/// Counts the handles: when the last goes, the service stops.
struct Owner<P: Protocol> {
    service: Rc<Service<P>>,
}

impl<P: Protocol> Drop for Owner<P> {
    fn drop(&mut self) {
        self.service.wanted.set(false);
        self.service.waiting.borrow_mut().end_until_now();
        self.service.feed(Event::Stop);
    }
}

type Build<P> = Box<dyn FnMut(&Address) -> Option<P>>;
type FailedAttempt = Box<dyn FnMut(&Failure, Duration)>;
type Prepare<P> = Box<dyn FnMut(&Transport<P>) -> Deferred<()>>;

/// How long to wait if the policy panics: as long as Twisted's waits at most.
const WAIT_WITHOUT_POLICY: Duration = Duration::from_secs(60);

struct Service<P: Protocol> {
    reactor: WeakReactor,
    /// The line that made it, for reports.
    origin: &'static Location<'static>,
    endpoint: Box<dyn ClientEndpoint>,
    // User code, each taken out while it runs.
    build: Cell<Option<Build<P>>>,
    policy: Cell<Option<Box<dyn RetryPolicy>>>,
    failed_attempt: Cell<Option<FailedAttempt>>,
    prepare: Cell<Option<Prepare<P>>>,
    state: Cell<ServiceState>,
    /// What has happened and is not dealt with yet.
    events: RefCell<VecDeque<Event>>,
    feeding: Cell<bool>,
    /// Whether it was started last, and not stopped: ahead of the state by the events.
    wanted: Cell<bool>,
    attempt: RefCell<Option<Canceller>>,
    connection: RefCell<Option<Transport<P>>>,
    /// The preparation that is waited for. What another one says is too late.
    preparation: RefCell<Option<Rc<Preparation>>>,
    retry: Cell<Option<DelayedCall>>,
    failed_attempts: Cell<u32>,
    last_failure: RefCell<Option<Failure>>,
    waiting: RefCell<Waiting<P>>,
}

#[derive(Default)]
struct Preparation {
    canceller: RefCell<Option<Canceller>>,
}

/// Those who wait for something of the service.
struct Waiting<P: Protocol> {
    for_connection: BTreeMap<u64, ForConnection<P>>,
    for_end: Vec<Trigger<()>>,
    next: u64,
    /// Who came before the last stop waits in vain; who came after, for what is next.
    in_vain_below: u64,
}

struct ForConnection<P: Protocol> {
    /// How many attempts may still fail.
    patience: Option<u32>,
    trigger: Trigger<Transport<P>>,
}

impl<P: Protocol> Default for Waiting<P> {
    fn default() -> Self {
        Self {
            for_connection: BTreeMap::new(),
            for_end: Vec::new(),
            next: 0,
            in_vain_below: 0,
        }
    }
}

impl<P: Protocol> Waiting<P> {
    fn next_number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn end_until(&mut self, trigger: Trigger<()>) {
        self.for_end.push(trigger);
        self.end_until_now();
    }

    fn end_until_now(&mut self) {
        self.in_vain_below = self.next + 1;
    }

    fn take_in_vain(&mut self) -> BTreeMap<u64, ForConnection<P>> {
        let later = self.for_connection.split_off(&self.in_vain_below);
        mem::replace(&mut self.for_connection, later)
    }

    /// Takes those whose patience is at its end.
    fn take_impatient(&mut self) -> Vec<ForConnection<P>> {
        let mut numbers = Vec::new();
        for (number, waiting) in &mut self.for_connection {
            if let Some(left) = &mut waiting.patience {
                *left -= 1;
                if *left == 0 {
                    numbers.push(*number);
                }
            }
        }
        let taken = numbers.iter();
        taken
            .filter_map(|n| self.for_connection.remove(n))
            .collect()
    }
}

impl<P: Protocol> Service<P> {
    /// Deals with an event; inside another, when that has been dealt with.
    fn feed(self: &Rc<Self>, event: Event) {
        self.events.borrow_mut().push_back(event);
        if self.feeding.replace(true) {
            return;
        }
        loop {
            // Detach, then call.
            let Some(event) = self.events.borrow_mut().pop_front() else {
                break;
            };
            let (state, actions) = machine::next(self.state.get(), event);
            self.state.set(state);
            for action in actions {
                // The panic, of a drop as a rule, has been reported.
                let _ = panics::catch_of(self.origin, || self.act(*action));
            }
        }
        self.feeding.set(false);
    }

    fn act(self: &Rc<Self>, action: Action) {
        match action {
            Action::Connect => self.connect(),
            Action::CancelAttempt => {
                let attempt = self.attempt.borrow().clone();
                if let Some(attempt) = attempt {
                    attempt.cancel();
                }
            }
            Action::Prepare => self.prepare(),
            Action::CancelPreparation => {
                let preparation = self.preparation.take();
                let canceller = preparation.and_then(|p| p.canceller.borrow().clone());
                if let Some(canceller) = canceller {
                    canceller.cancel();
                }
            }
            Action::LoseConnection => {
                let connection = self.connection.borrow().clone();
                if let Some(transport) = connection {
                    transport.lose_connection();
                }
            }
            Action::Count => {
                let failed = self.failed_attempts.get();
                self.failed_attempts.set(failed.saturating_add(1));
            }
            Action::ResetCount => {
                self.failed_attempts.set(0);
                let forgotten = self.last_failure.take();
                drop(forgotten);
            }
            Action::Wait => self.wait(),
            Action::CancelWait => {
                if let Some(retry) = self.retry.take() {
                    retry.cancel();
                }
            }
            Action::TellConnected => self.tell_connected(),
            Action::TellFailed => self.tell_failed(),
            Action::TellCancelled => {
                let in_vain = self.waiting.borrow_mut().take_in_vain();
                for waiting in in_vain.into_values() {
                    waiting.trigger.errback(Interrupted::Cancelled);
                }
            }
            Action::TellStopped => {
                let waiting = mem::take(&mut self.waiting.borrow_mut().for_end);
                for trigger in waiting {
                    trigger.callback(());
                }
            }
        }
    }

    fn connect(self: &Rc<Self>) {
        let service = Rc::clone(self);
        let stream = match self.reactor.upgrade() {
            Some(reactor) => panics::catch_of(self.origin, || {
                let core = reactor.core();
                core.on_behalf_of(self.origin, || self.endpoint.connect_stream(&reactor))
            }),
            None => Err(Interrupted::Cancelled),
        };
        let attempt = stream
            .unwrap_or_else(fail)
            .add_callback(move |stream| service.seat(stream));
        self.attempt.replace(Some(attempt.canceller()));
        let service = Rc::clone(self);
        // Dropped: both ways are handled.
        drop(attempt.add_both(move |outcome| {
            let ended = service.attempt.take();
            drop(ended);
            match outcome {
                Ok(transport) => {
                    let previous = service.connection.replace(Some(transport));
                    drop(previous);
                    service.feed(Event::Made);
                }
                Err(failure) => {
                    service.note_failure(failure);
                    service.feed(Event::Failed);
                }
            }
            Ok::<_, Failure>(())
        }));
    }

    fn seat(self: &Rc<Self>, stream: Rc<dyn Stream>) -> Result<Transport<P>, Failure> {
        let service = Rc::clone(self);
        let watched = Watched::new(stream, move |reason| {
            let lost = service.connection.take();
            drop(lost);
            if service.preparation.borrow().is_some() {
                service.note_failure(LostEarly { reason }.into());
            }
            service.feed(Event::Lost);
        });
        // Detach, then call.
        let Some(mut build) = self.build.take() else {
            // It connects once more from inside its own `build`: that is a cancelled attempt.
            watched.abort_connection(ConnectionLost::Aborted);
            return Err(Interrupted::Cancelled.into());
        };
        let seated = protocol::seat(watched, |peer| build(peer));
        self.build.set(Some(build));
        seated
    }

    fn prepare(self: &Rc<Self>) {
        let connection = self.connection.borrow().clone();
        // Detach, then call.
        let (Some(transport), Some(mut prepare)) = (connection, self.prepare.take()) else {
            return self.feed(Event::Prepared);
        };
        let preparation = Rc::new(Preparation::default());
        self.preparation.replace(Some(Rc::clone(&preparation)));
        let prepared = panics::catch_of(self.origin, || prepare(&transport)).unwrap_or_else(fail);
        // Unless it has set another one.
        let another = self.prepare.take();
        self.prepare.set(Some(another.unwrap_or(prepare)));
        preparation.canceller.replace(Some(prepared.canceller()));
        let service = Rc::clone(self);
        // Dropped: both ways are handled.
        drop(prepared.add_both(move |outcome| {
            if service.ends_preparation(&preparation) {
                match outcome {
                    Ok(()) => service.feed(Event::Prepared),
                    Err(failure) => {
                        service.note_failure(failure);
                        service.feed(Event::NotPrepared);
                    }
                }
            }
            Ok::<_, Failure>(())
        }));
    }

    /// Whether it is this preparation that is waited for, which is so no more.
    fn ends_preparation(&self, ended: &Rc<Preparation>) -> bool {
        let mut awaited = self.preparation.borrow_mut();
        let is_awaited = awaited.as_ref().is_some_and(|it| Rc::ptr_eq(it, ended));
        if is_awaited {
            *awaited = None;
        }
        is_awaited
    }

    fn wait(self: &Rc<Self>) {
        let failed = self.failed_attempts.get();
        // Detach, then call.
        let delay = match self.policy.take() {
            Some(mut policy) => {
                let delay = panics::catch_of(self.origin, || policy.delay(failed));
                let another = self.policy.take();
                self.policy.set(Some(another.unwrap_or(policy)));
                delay.unwrap_or(WAIT_WITHOUT_POLICY)
            }
            None => WAIT_WITHOUT_POLICY,
        };
        let Some(reactor) = self.reactor.upgrade() else {
            // There is nobody left who could wait.
            return;
        };
        tracing::debug!(
            target: "torsade",
            service = %self.origin,
            failure = self.last_failure.borrow().as_ref().map(tracing::field::display),
            "connects again in {delay:?}"
        );
        let (service, origin, core) = (Rc::clone(self), self.origin, reactor.core());
        let run = move || {
            service.retry.take();
            service.feed(Event::Due);
        };
        let retry = core.call_at(core.later(delay), Call::at(origin, run));
        self.retry.set(Some(retry));
        self.tell_of_failed_attempt(delay);
    }

    fn tell_of_failed_attempt(&self, delay: Duration) {
        let Some(failure) = self.last_failure.borrow().clone() else {
            // The loss of a connection that was ready.
            return;
        };
        // Detach, then call.
        if let Some(mut hook) = self.failed_attempt.take() {
            let _ = panics::catch_of(self.origin, || hook(&failure, delay));
            // Unless it has set another one.
            let another = self.failed_attempt.take();
            self.failed_attempt.set(Some(another.unwrap_or(hook)));
        }
    }

    fn tell_connected(&self) {
        let waiting = mem::take(&mut self.waiting.borrow_mut().for_connection);
        let connection = self.connection.borrow().clone();
        for (number, who) in waiting {
            match &connection {
                Some(transport) if transport.is_connected() && self.wanted.get() => {
                    who.trigger.callback(transport.clone());
                }
                // One of those who were told has lost it, or stopped the service.
                _ => drop(self.waiting.borrow_mut().for_connection.insert(number, who)),
            }
        }
    }

    fn tell_failed(&self) {
        let impatient = self.waiting.borrow_mut().take_impatient();
        let failure = self.last_failure.borrow().clone();
        for waiting in impatient {
            // A failure is noted before it is told; without one, nobody would know why.
            let failure = failure.clone();
            let failure = failure.unwrap_or_else(|| Interrupted::Cancelled.into());
            waiting.trigger.errback(failure);
        }
    }

    fn note_failure(&self, failure: Failure) {
        let previous = self.last_failure.replace(Some(failure));
        drop(previous);
    }

    fn ready_connection(&self) -> Option<Transport<P>> {
        let connection = self.connection.borrow().clone();
        connection.filter(|it| self.state.get() == ServiceState::Connected && it.is_connected())
    }
}

/// The connection of a [`ClientService`] was lost before it was prepared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not prepared in time: {reason}")]
pub struct LostEarly {
    /// What `connection_lost` was told, as text.
    reason: String,
}
