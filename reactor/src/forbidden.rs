//! What the types forbid: use from the wrong thread.
//!
//! Only doctests. What may cross is a [`Remote`](crate::Remote), a
//! [`Sender`](crate::Sender), a [`Ping`](crate::Ping) and a
//! [`ThreadPool`](crate::ThreadPool).

/// The loop stays on its thread.
///
/// ```compile_fail,E0277
/// use torsade_reactor::Reactor;
///
/// let reactor = Reactor::new().unwrap();
/// std::thread::spawn(move || reactor.stop());
/// ```
///
/// Its remote does not.
///
/// ```
/// use torsade_reactor::Reactor;
///
/// let reactor = Reactor::new().unwrap();
/// let remote = reactor.remote();
/// std::thread::spawn(move || remote.stop());
/// reactor.run().unwrap();
/// ```
pub struct ReactorElsewhere;

/// A connection is written to from its reactor's thread.
///
/// ```compile_fail,E0277
/// use torsade_reactor::{Protocol, Transport};
///
/// fn answer<P: Protocol + Send>(transport: Transport<P>) {
///     std::thread::spawn(move || transport.write("hello"));
/// }
/// ```
pub struct TransportElsewhere;

/// A Deferred fires on the thread that waits for it.
///
/// ```compile_fail,E0277
/// use torsade_deferred::{Deferred, Failure};
///
/// let (trigger, deferred) = Deferred::<u32, Failure>::new();
/// std::thread::spawn(move || drop(deferred));
/// # trigger.callback(1);
/// ```
///
/// ```compile_fail,E0277
/// use torsade_deferred::{Deferred, Failure};
///
/// let (trigger, deferred) = Deferred::<u32, Failure>::new();
/// std::thread::spawn(move || trigger.callback(1));
/// # drop(deferred);
/// ```
pub struct DeferredElsewhere;

/// A call that was scheduled is cancelled from its reactor's thread.
///
/// ```compile_fail,E0277
/// use std::time::Duration;
/// use torsade_reactor::Reactor;
///
/// let call = Reactor::new().unwrap().call_later(Duration::ZERO, || ());
/// std::thread::spawn(move || call.cancel());
/// ```
pub struct DelayedCallElsewhere;

/// What another thread posts may own nothing of this one.
///
/// ```compile_fail,E0277
/// use std::rc::Rc;
/// use torsade_reactor::Reactor;
///
/// let (remote, name) = (Reactor::new().unwrap().remote(), Rc::new("here"));
/// remote.call_from_thread(move |_| println!("{name}"));
/// ```
///
/// ```compile_fail,E0277
/// use torsade_reactor::Reactor;
///
/// let reactor = Reactor::new().unwrap();
/// let handle = reactor.clone();
/// reactor.call_in_thread(move || handle.stop());
/// ```
pub struct CallWithLocals;

/// A message crosses threads, so it must be able to.
///
/// ```compile_fail,E0277
/// use std::rc::Rc;
/// use torsade_reactor::Reactor;
///
/// let reactor = Reactor::new().unwrap();
/// let (sender, channel) = reactor.channel::<Rc<u32>>(|_, _| ());
/// ```
pub struct MessageThatStays;
