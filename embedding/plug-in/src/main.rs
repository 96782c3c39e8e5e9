//! A program that loads plug-ins. Each has a copy of Torsade of its own, and so has this.
//!
//! `host SCENARIO PLUG_IN...`; tests/plug_in.rs has the scenarios.
#![allow(unsafe_code, reason = "what a loader finds has the type that one says")]

use std::cell::Cell;
use std::env;
use std::error::Error;
use std::ptr;
use std::rc::Rc;
use std::time::Duration;

use libloading::{Library, Symbol};
use rustix::process::{Signal as Number, getpid, kill_process};
use torsade::prelude::Reactor;
use torsade::reactor::SignalWatcher;

type Outcome = Result<(), Box<dyn Error>>;

const SIGUSR1: i32 = Number::USR1.as_raw();

/// A plug-in that stays loaded.
struct PlugIn(Library);

impl PlugIn {
    fn load(path: &str) -> Result<Self, Box<dyn Error>> {
        // SAFETY: the library is the one of this package, which does nothing when it is loaded.
        Ok(Self(unsafe { Library::new(path) }?))
    }

    fn watch(&self, signal: i32) -> Outcome {
        // SAFETY: the plug-in's source says that this is its type.
        let watch: Symbol<'_, extern "C" fn(i32)> = unsafe { self.0.get(b"plug_in_watch") }?;
        watch(signal);
        Ok(())
    }

    fn heard(&self) -> Result<u32, Box<dyn Error>> {
        // SAFETY: as above.
        let turn: Symbol<'_, extern "C" fn() -> u32> = unsafe { self.0.get(b"plug_in_turn") }?;
        Ok(turn())
    }

    fn leave(&self) -> Outcome {
        // SAFETY: as above.
        let leave: Symbol<'_, extern "C" fn()> = unsafe { self.0.get(b"plug_in_leave") }?;
        leave();
        Ok(())
    }

    /// Has the plug-in count one up, later, by the loop of this program.
    fn count_later(&self, reactor: &Reactor, count: &Cell<u32>) -> Outcome {
        type Use = unsafe extern "C" fn(*const Reactor, extern "C" fn(*const ()), *const ());
        extern "C" fn count_up(count: *const ()) {
            // SAFETY: it is the cell that was passed below, which the caller keeps.
            let count = unsafe { &*count.cast::<Cell<u32>>() };
            count.set(count.get() + 1);
        }
        // SAFETY: as above.
        let use_loop: Symbol<'_, Use> = unsafe { self.0.get(b"plug_in_use") }?;
        // SAFETY: the plug-in was built with this program.
        unsafe { use_loop(reactor, count_up, ptr::from_ref(count).cast()) };
        Ok(())
    }
}

/// What this program itself has heard.
struct Own {
    reactor: Reactor,
    watcher: SignalWatcher,
    heard: Rc<Cell<u32>>,
}

impl Own {
    fn watch(signal: i32) -> Result<Self, Box<dyn Error>> {
        let reactor = Reactor::new()?;
        let heard = Rc::new(Cell::new(0));
        let count = Rc::clone(&heard);
        let watcher = reactor.on_signal(signal, move |_| count.set(count.get() + 1))?;
        Ok(Self {
            reactor,
            watcher,
            heard,
        })
    }

    fn heard(&self) -> Result<u32, Box<dyn Error>> {
        self.reactor.turn(Some(Duration::ZERO))?;
        Ok(self.heard.get())
    }
}

fn raise() -> Outcome {
    // There is one thread: it is delivered before this returns.
    Ok(kill_process(getpid(), Number::USR1)?)
}

fn main() -> Outcome {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (scenario, paths) = arguments.split_first().ok_or("a scenario is wanted")?;
    let plug_ins = paths
        .iter()
        .map(|path| PlugIn::load(path))
        .collect::<Result<Vec<_>, _>>()?;
    let plug_in = plug_ins.first().ok_or("a plug-in is wanted")?;
    match &**scenario {
        "all_hear" => {
            let own = Own::watch(SIGUSR1)?;
            for plug_in in &plug_ins {
                plug_in.watch(SIGUSR1)?;
            }
            raise()?;
            println!("{}", own.heard()?);
            for plug_in in &plug_ins {
                println!("{}", plug_in.heard()?);
            }
            // One in the middle goes: who is beneath it still hears.
            plug_in.leave()?;
            raise()?;
            println!("{}", own.heard()?);
        }
        "first_leaves_first" => {
            let own = Own::watch(SIGUSR1)?;
            for plug_in in &plug_ins {
                plug_in.watch(SIGUSR1)?;
            }
            own.watcher.remove();
            for plug_in in &plug_ins {
                plug_in.leave()?;
            }
            println!("all have left");
            raise()?;
            println!("a signal that nobody watches was swallowed");
        }
        "comes_back" => {
            let own = Own::watch(SIGUSR1)?;
            plug_in.watch(SIGUSR1)?;
            own.watcher.remove();
            let own = Own::watch(SIGUSR1)?;
            raise()?;
            println!("{} {}", own.heard()?, plug_in.heard()?);
            plug_in.leave()?;
            raise()?;
            println!("{}", own.heard()?);
            own.watcher.remove();
            raise()?;
            println!("a signal that nobody watches was swallowed");
        }
        "host_loop" => {
            let reactor = Reactor::new()?;
            let count = Rc::new(Cell::new(0));
            for plug_in in &plug_ins {
                plug_in.count_later(&reactor, &count)?;
            }
            while (count.get() as usize) < plug_ins.len() {
                reactor.turn(None)?;
            }
            println!("{}", count.get());
        }
        _ => return Err("no such scenario".into()),
    }
    Ok(())
}
