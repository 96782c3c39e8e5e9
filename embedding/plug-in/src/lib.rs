//! A plug-in: it has everything of Torsade that a program has, and none of it is the
//! program's. A program may load it more than once, from copies of the file.
#![allow(unsafe_code, reason = "names that a loader can find")]

use std::cell::RefCell;
use std::time::Duration;

use torsade::prelude::Reactor;
use torsade::reactor::SignalWatcher;
use torsade::reactor::task::sleep;

thread_local! {
    static PLUG_IN: RefCell<Option<(Reactor, SignalWatcher)>> = const { RefCell::new(None) };
    static HEARD: RefCell<u32> = const { RefCell::new(0) };
}

/// Begins to watch a signal, with a reactor of its own.
#[unsafe(no_mangle)]
pub extern "C" fn plug_in_watch(signal: i32) {
    let reactor = Reactor::new().expect("a descriptor is left");
    let watcher = reactor
        .on_signal(signal, |_| HEARD.with_borrow_mut(|heard| *heard += 1))
        .expect("it can be watched");
    PLUG_IN.set(Some((reactor, watcher)));
}

/// Turns, and says how often the signal has come by now.
#[unsafe(no_mangle)]
pub extern "C" fn plug_in_turn() -> u32 {
    PLUG_IN.with_borrow(|plug_in| {
        if let Some((reactor, _)) = plug_in {
            reactor.turn(Some(Duration::ZERO)).expect("it turns");
        }
    });
    HEARD.with_borrow(|heard| *heard)
}

/// Lets go of the signal.
#[unsafe(no_mangle)]
pub extern "C" fn plug_in_leave() {
    if let Some((_, watcher)) = PLUG_IN.take() {
        watcher.remove();
    }
}

/// Uses the loop of the host by the host's own handle, as what is linked into the host would.
///
/// # Safety
///
/// `reactor` is a `Reactor` of a host that was built with this plug-in: by one compiler, of
/// one source. `done` is called with `argument` in a later turn.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plug_in_use(
    reactor: *const Reactor,
    done: extern "C" fn(*const ()),
    argument: *const (),
) {
    // SAFETY: by the contract it is a `Reactor`, and laid out as ours are.
    let reactor = unsafe { &*reactor };
    sleep(reactor, Duration::from_millis(1)).add_callback(move |()| done(argument));
}
