//! Names to addresses, on threads of their own.
//!
//! # Bounds
//!
//! At most [`LOOKUPS_AT_ONCE`] threads, each gone when its lookup is done; further
//! lookups wait in line. They share nothing with any other pool: a slow name server
//! delays names and nothing else.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::thread;

use torsade_deferred::{Deferred, Trigger};

use crate::core::Core;
use crate::reactor::Reactor;
use crate::slab::{Slab, Token};
use crate::sys::signals;

/// Lookups that may block at the same time.
const LOOKUPS_AT_ONCE: usize = 4;

/// The lookups under way, and those in line.
pub(crate) struct Lookups {
    pending: Slab<Trigger<Vec<SocketAddr>, io::Error>>,
    line: VecDeque<(Token, Box<str>, u16)>,
    running: usize,
}

impl Default for Lookups {
    fn default() -> Self {
        Self {
            pending: Slab::new(),
            line: VecDeque::new(),
            running: 0,
        }
    }
}

/// Looks a name up. Cancelling gives the answer up; a thread that asks already cannot
/// be interrupted, its answer is thrown away.
pub(crate) fn resolve(
    core: &Rc<Core>,
    host: &str,
    port: u16,
) -> Deferred<Vec<SocketAddr>, io::Error> {
    let (trigger, deferred) = Deferred::new();
    let weak = Rc::downgrade(core);
    let token = {
        let mut lookups = core.lookups().borrow_mut();
        let token = lookups.pending.insert(trigger);
        lookups.line.push_back((token, host.into(), port));
        token
    };
    if let Some(trigger) = core.lookups().borrow().pending.get(token) {
        trigger.on_cancel(move || {
            if let Some(core) = weak.upgrade() {
                let trigger = core.lookups().borrow_mut().pending.remove(token);
                drop(trigger);
            }
        });
    }
    start_next(core);
    deferred
}

fn start_next(core: &Rc<Core>) {
    loop {
        let (token, host, port) = {
            let mut lookups = core.lookups().borrow_mut();
            if lookups.running == LOOKUPS_AT_ONCE {
                return;
            }
            let Some(next) = lookups.line.pop_front() else {
                return;
            };
            if lookups.pending.get(next.0).is_none() {
                continue;
            }
            lookups.running += 1;
            next
        };
        let (names, remote) = (core.driver().names(), Reactor::of(core).remote());
        let look_up = move || {
            let answer = names.resolve(&host, port);
            remote.call_from_thread(move |reactor| finish(reactor.core(), token, answer));
        };
        let builder = thread::Builder::new().name("torsade-resolver".into());
        // The loop's thread takes the signals, not this one.
        if let Err(error) = signals::with_all_signals_blocked(|| builder.spawn(look_up)) {
            finish(core, token, Err(error));
        }
    }
}

fn finish(core: &Rc<Core>, token: Token, answer: io::Result<Vec<SocketAddr>>) {
    let trigger = {
        let mut lookups = core.lookups().borrow_mut();
        lookups.running -= 1;
        lookups.pending.remove(token)
    };
    if let Some(trigger) = trigger {
        trigger.fire(answer);
    }
    start_next(core);
}
