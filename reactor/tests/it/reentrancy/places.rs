//! The callbacks: from where the functions are called.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::fs::File;
use std::rc::{Rc, Weak};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};
use torsade_deferred::{Deferred, Failure, fail, unhandled};
use torsade_reactor::task::{Cooperator, LoopingCall, TimerService, sleep};
use torsade_reactor::{
    Address, ChannelEvent, Factory, Guest, Hook, Interest, Limits, Mode, Phase, PoolLimits,
    Reactor, ThreadPool, Transport,
};

use super::rows::Settled;
use super::world::{OnTransport, Peer, SIGNAL, Target, WhenDropped, World, quiet};

pub(super) struct Place {
    pub(super) name: &'static str,
    /// Has the world act in this callback, with what the callback belongs to.
    pub(super) arrange: fn(&Rc<World>),
    /// It comes when the loop stops.
    pub(super) comes_at_the_stop: bool,
    /// What the reactor drove is lost already.
    pub(super) all_is_lost: bool,
    /// Sources that are made in it go before they are heard.
    pub(super) sources_go: bool,
    /// What it belongs to is at its very end: neither living nor gone.
    pub(super) own_is_ending: bool,
    /// The reactor is gone but for this callback: nothing comes of anything.
    pub(super) winds_up: bool,
    /// The place for functions that write to standard error.
    pub(super) hears_all: bool,
}

pub(super) const fn place(name: &'static str, arrange: fn(&Rc<World>)) -> Place {
    Place {
        name,
        arrange,
        comes_at_the_stop: false,
        all_is_lost: false,
        sources_go: false,
        own_is_ending: false,
        winds_up: false,
        hears_all: false,
    }
}

impl Place {
    const fn at_the_stop(mut self) -> Self {
        self.comes_at_the_stop = true;
        self
    }

    const fn all_is_lost(mut self) -> Self {
        self.all_is_lost = true;
        self
    }

    const fn sources_go(mut self) -> Self {
        self.sources_go = true;
        self
    }

    pub(super) const fn own_is_ending(mut self) -> Self {
        self.own_is_ending = true;
        self
    }

    const fn winds_up(mut self) -> Self {
        self.winds_up = true;
        self
    }

    const fn hears_all(mut self) -> Self {
        self.hears_all = true;
        self
    }
}

pub(super) const PLACES: &[Place] = &[
    place("call_soon", |world| {
        let (own, act) = own(world, Target::Soon);
        own.replace(Some(world.reactor_now().call_soon(act)));
    })
    .hears_all(),
    place("call_later", |world| {
        let (own, act) = own(world, Target::Delayed);
        own.replace(Some(world.reactor_now().call_later(Duration::ZERO, act)));
    }),
    place("a call that holds its reactor", |world| {
        let (act, weak) = (act_on(world), world.reactor_now().downgrade());
        world
            .reactor_now()
            .call_soon(move || act(Target::Weak(weak)));
    }),
    place("call_when_running", |world| {
        world.reactor_now().call_when_running(act(world));
    }),
    place("a thread's call", |world| {
        let leave = leave_here(world);
        let remote = world.reactor_now().remote();
        let thread = thread::spawn(move || remote.call_from_thread(move |_| leave()));
        thread.join().expect("it posts and ends");
    }),
    place("a thread's call, with its remote", |world| {
        let act = act_on(world);
        let remote = world.reactor_now().remote();
        let own = remote.clone();
        let leave = leave(move || act(Target::Remote(own)));
        remote.call_from_thread(move |_| leave());
    }),
    place("a blocking call", |world| {
        let leave = leave_here(world);
        let remote = world.reactor_now().remote();
        // It ends when it has its answer, or is told of the stop.
        thread::spawn(move || remote.blocking_call(move |_| leave()));
    }),
    place("a watch", |world| {
        let watch = act_on(world);
        world
            .reactor_now()
            .watch(
                world.full_pipe(),
                Interest::Read,
                Mode::Level,
                move |own, _| watch(Target::Watch(own.clone())),
            )
            .expect("a pipe can be watched");
    }),
    place("a watch of a file", |world| {
        let act = act(world);
        let null = File::open("/dev/null").expect("it is there");
        let watch = world.reactor_now().add_reader(null, move |_| act());
        watch.expect("what is always ready can be watched");
    }),
    place("a signal's watcher", |world| {
        let act = act_on(world);
        let watcher = world
            .reactor_now()
            .on_signal(SIGNAL, move |own| act(Target::Signal(own.clone())));
        watcher.expect("it can be watched");
        world.reactor_now().call_soon(raise);
    }),
    place("a signal's watcher for once", |world| {
        let (own, act) = own(world, Target::Signal);
        let watcher = world.reactor_now().on_signal_once(SIGNAL, act);
        own.replace(Some(watcher.expect("it can be watched")));
        world.reactor_now().call_soon(raise);
    })
    .own_is_ending(),
    place("a prepare hook", |world| {
        hook(world, torsade_reactor::Place::Prepare)
    }),
    place("a check hook", |world| {
        hook(world, torsade_reactor::Place::Check)
    }),
    place("an idle hook", |world| {
        hook(world, torsade_reactor::Place::Idle)
    }),
    place("before the start", |world| starts(world, Phase::Before)).own_is_ending(),
    place("during the start", |world| starts(world, Phase::During)).own_is_ending(),
    place("after the start", |world| starts(world, Phase::After)).own_is_ending(),
    place("before the stop", |world| stops(world, Phase::Before))
        .at_the_stop()
        .own_is_ending()
        .sources_go(),
    place("during the stop", |world| stops(world, Phase::During))
        .at_the_stop()
        .all_is_lost()
        .own_is_ending(),
    place("after the stop", |world| stops(world, Phase::After))
        .at_the_stop()
        .all_is_lost()
        .own_is_ending(),
    place("a channel's message", |world| {
        let act = act_on(world);
        let (sender, _) = world
            .reactor_now()
            .channel(move |own, _: ChannelEvent<u8>| act(Target::Channel(own.clone())));
        sender.send(1).expect("it is open");
        world.keep(sender);
    }),
    place("a channel's message, with its sender", |world| {
        let sender = Rc::new(RefCell::new(None));
        let (own, act) = (Rc::clone(&sender), act_on(world));
        let (made, _) = world.reactor_now().channel(move |_, _: ChannelEvent<u8>| {
            if let Some(sender) = own.take() {
                act(Target::Sender(sender));
            }
        });
        made.send(1).expect("it is open");
        sender.replace(Some(made));
    }),
    place("a channel's end", |world| {
        let act = act_on(world);
        let (sender, _) = world
            .reactor_now()
            .channel(move |own, _: ChannelEvent<u8>| act(Target::Channel(own.clone())));
        drop(sender);
    })
    .own_is_ending(),
    place("a ping", |world| {
        let ping = Rc::new(RefCell::new(None));
        let (own, act) = (Rc::clone(&ping), act_on(world));
        let (made, _) = world.reactor_now().ping(move |_| {
            if let Some(ping) = own.take() {
                act(Target::Ping(ping));
            }
        });
        made.ping();
        ping.replace(Some(made));
    }),
    place("a pool's result", |world| {
        let act = act(world);
        let result = world
            .reactor_now()
            .defer_to_thread(|| Ok::<_, Infallible>(()));
        drop(result.map(move |()| act()));
    }),
    place("a pool's result, with the pool", |world| {
        let (act, reactor) = (act_on(world), world.reactor_now());
        let pool = reactor.thread_pool();
        let result = reactor.defer_to_thread_pool(&pool, || Ok::<_, Infallible>(()));
        drop(result.map(move |()| act(Target::Pool(pool))));
    }),
    place("a pool's refusal", |world| {
        let act = act(world);
        let full = ThreadPool::with_limits("full", nothing_at_all());
        let reactor = Rc::downgrade(world);
        world.reactor_now().call_soon(move || {
            let Some(reactor) = reactor.upgrade().and_then(|world| world.reactor()) else {
                return;
            };
            let refused = reactor.defer_to_thread_pool(&full, || Ok::<_, Infallible>(()));
            drop(refused.add_errback(move |_| {
                act();
                Ok(())
            }));
        });
    }),
    place("a Deferred's callback", |world| {
        let act = act(world);
        let (trigger, deferred) = Deferred::<()>::new();
        drop(deferred.map(move |()| act()));
        world.reactor_now().call_soon(move || trigger.callback(()));
    }),
    place("a Deferred's errback", |world| {
        let act = act(world);
        let (trigger, deferred) = Deferred::<()>::new();
        drop(deferred.add_errback(move |_| {
            act();
            Ok(())
        }));
        // Dropped, it fails its Deferred.
        world.reactor_now().call_soon(move || drop(trigger));
    }),
    place("what a cancelled Deferred calls", |world| {
        let act = act(world);
        let (trigger, deferred) = Deferred::<()>::new();
        trigger.on_cancel(act);
        let deferred = quiet(deferred);
        world.reactor_now().call_soon(move || {
            deferred.cancel();
            drop(trigger);
        });
    }),
    place("a timeout", |world| {
        let act = act(world);
        let (trigger, never) = Deferred::<()>::new();
        let late = never.add_timeout(Duration::ZERO, &world.reactor_now());
        drop(late.add_errback(move |_| {
            act();
            Ok(())
        }));
        world.keep(trigger);
    }),
    place("a future's first poll", |world| {
        let (weak, act) = (Rc::downgrade(world), act(world));
        world.reactor_now().call_soon(move || {
            if let Some(reactor) = reactor_of(&weak) {
                drop(quiet(reactor.spawn(async move {
                    act();
                    Ok(())
                })));
            }
        });
    }),
    place("a future that is woken", |world| {
        let (act, mut is_second) = (act(world), false);
        let woken = std::future::poll_fn(move |task| {
            if is_second {
                act();
                return Poll::Ready(Ok::<_, Failure>(()));
            }
            is_second = true;
            task.waker().wake_by_ref();
            Poll::Pending
        });
        drop(world.reactor_now().spawn(woken));
    }),
    place("a future that has slept", |world| {
        let (clock, act) = (world.reactor_now(), act(world));
        let sleeping = sleep(&clock, Duration::ZERO);
        drop(clock.spawn(async move {
            sleeping.await?;
            act();
            Ok::<_, Failure>(())
        }));
    }),
    place("a descriptor that is awaited", |world| {
        let act = act_on(world);
        let fd = world.reactor_now().async_fd(world.full_pipe());
        let fd = fd.expect("a pipe can be watched");
        let readable = fd.readable();
        drop(readable.map(move |()| act(Target::AsyncFd(Cell::new(Some(fd))))));
    }),
    place("connection_made", |world| {
        let act = act_on_transport(world);
        connect(
            world,
            Peer {
                made: Some(Box::new(act)),
                ..Peer::default()
            },
            |_| (),
        );
    }),
    place("data_received", |world| {
        let act = act_on_transport(world);
        connect(
            world,
            Peer {
                data: Some(Box::new(act)),
                ..Peer::default()
            },
            |peer| {
                peer.write("x");
            },
        );
    }),
    place("read_connection_lost", |world| {
        let act = act_on_transport(world);
        connect(
            world,
            Peer {
                read_lost: Some(Box::new(act)),
                ..Peer::default()
            },
            |peer| {
                peer.lose_write_connection();
            },
        );
    }),
    place("write_paused", |world| {
        let act = act_on_transport(world);
        let made: OnTransport = Some(Box::new(write_much));
        let peer = Peer {
            made,
            write_paused: Some(Box::new(act)),
            ..Peer::default()
        };
        connect(world, peer, Transport::pause_reading);
    }),
    place("write_resumed", |world| {
        let act = act_on_transport(world);
        let made: OnTransport = Some(Box::new(write_much));
        let peer = Peer {
            made,
            write_resumed: Some(Box::new(act)),
            ..Peer::default()
        };
        connect(world, peer, |_| ());
    }),
    place("connection_lost", |world| {
        let (act, own) = (act_on(world), Rc::new(RefCell::new(None)));
        let found = Rc::clone(&own);
        let lost: Box<dyn FnOnce()> = Box::new(move || {
            if let Some(own) = found.take() {
                act(Target::Transport(own));
            }
        });
        let made: OnTransport = Some(Box::new(move |transport| {
            own.replace(Some(transport.clone()));
            transport.lose_connection();
        }));
        connect(
            world,
            Peer {
                made,
                lost: Some(lost),
                ..Peer::default()
            },
            |_| (),
        );
    })
    .own_is_ending(),
    place("the drop of a protocol", |world| {
        let (act, own) = (act_on(world), Rc::new(RefCell::new(None)));
        let found = Rc::clone(&own);
        let dropped = WhenDropped(Some(Box::new(move || {
            if let Some(own) = found.take() {
                act(Target::Transport(own));
            }
        })));
        let made: OnTransport = Some(Box::new(move |transport| {
            own.replace(Some(transport.clone()));
            transport.abort_connection();
        }));
        connect(
            world,
            Peer {
                made,
                dropped: Some(dropped),
                ..Peer::default()
            },
            |_| (),
        );
    })
    .own_is_ending(),
    place("Transport::call", |world| {
        let act = act_on_transport(world);
        let transport = world.connected();
        world
            .reactor_now()
            .call_soon(move || transport.call(|_, own| act(own)));
    }),
    place("Transport::when", |world| {
        let act = act_on_transport(world);
        let (trigger, deferred) = Deferred::<()>::new();
        world.connected().when(deferred, |_, own, _| act(own));
        world.reactor_now().call_soon(move || trigger.callback(()));
    }),
    place("a factory that builds", |world| {
        let builds = Builds {
            act: Some(act_on_port(world)),
            ..Builds::default()
        };
        listen_and_connect(world, builds);
    }),
    place("a factory that stops", |world| {
        let builds = Builds {
            stop: Some(Box::new(act(world))),
            ..Builds::default()
        };
        let port = world.reactor_now().listen_tcp("127.0.0.1:0", builds);
        let port = port.expect("loopback can listen");
        world
            .reactor_now()
            .call_soon(move || drop(port.stop_listening()));
    }),
    place("a client that is built", |world| {
        let (act, reactor) = (act(world), world.reactor_now());
        let port = reactor.listen_tcp("127.0.0.1:0", |_: &Address| Peer::default());
        let port = port.expect("loopback can listen");
        drop(quiet(
            reactor
                .connect_tcp(port.address(), move |_| {
                    act();
                    Peer::default()
                })
                .map(drop),
        ));
    }),
    place("a connection that was made", |world| {
        let (act, reactor) = (act(world), world.reactor_now());
        let port = reactor.listen_tcp("127.0.0.1:0", |_: &Address| Peer::default());
        let port = port.expect("loopback can listen");
        let made = reactor.connect_tcp(port.address(), |_| Peer::default());
        drop(made.map(move |_| act()));
    }),
    place("a resolver's result", |world| {
        let act = act(world);
        // The resolver refuses it by itself, without a network.
        let name = format!("{}.invalid:1", "x".repeat(64));
        let unknown = world.reactor_now().connect_tcp(name, |_| Peer::default());
        drop(unknown.map(drop).add_errback(move |_| {
            act();
            Ok(())
        }));
    }),
    place("a LoopingCall's tick", |world| {
        let act = act_on(world);
        let looping = LoopingCall::with_handle(&world.reactor_now(), move |own, _| {
            act(Target::Looping(own.clone()));
        });
        drop(quiet(looping.start_later(Duration::ZERO).map(drop)));
    }),
    place("a TimerService's tick", |world| {
        let (own, act) = own(world, Target::Service);
        let service = TimerService::new(Duration::ZERO, &world.reactor_now(), act);
        own.replace(Some(service.clone()));
        world
            .reactor_now()
            .call_soon(move || service.start().expect("it is new"));
    }),
    place("a layer that is settled", |world| {
        let layer = Rc::new(Settled(Box::new(act(world))));
        let weak = world.reactor_now().downgrade();
        world.reactor_now().call_soon(move || {
            weak.upgrade().expect("it runs").settle_later(layer);
        });
    }),
    place("a step of a task", |world| {
        let (own, act) = own(world, Target::Task);
        let cooperator = Cooperator::new(&world.reactor_now());
        let mut act = Some(act);
        let task = cooperator.cooperate((0..3).map(move |_| act.take().map_or((), |act| act())));
        drop(quiet(task.when_done()));
        own.replace(Some(task));
        world.keep(cooperator);
    }),
    place("a step of a cooperator", |world| {
        let (own, act) = own(world, Target::Cooperator);
        let cooperator = Cooperator::new(&world.reactor_now());
        let mut act = Some(act);
        let steps = (0..3).map(move |_| act.take().map_or((), |act| act()));
        drop(quiet(cooperator.coiterate(steps)));
        own.replace(Some(cooperator));
    }),
    place("the end of a slice", |world| {
        let (own, act) = own(world, Target::Cooperator);
        let cooperator = Cooperator::new(&world.reactor_now());
        let act = Cell::new(Some(act));
        cooperator.set_slice_end(move || {
            let act = act.take();
            move || {
                act.as_ref().inspect(|act| act());
                true
            }
        });
        drop(quiet(cooperator.coiterate([(), ()])));
        own.replace(Some(cooperator));
    }),
    place("the hook for slow callbacks", |world| {
        let act = act(world);
        let reactor = world.reactor_now();
        reactor.watch_slow_callbacks(Some(Duration::ZERO), move |_| act());
    }),
    place("the hook for unhandled failures", |world| {
        let act = act(world);
        world.reactor_now().call_soon(move || {
            let guard = unhandled::set_hook(move |_| act());
            drop(fail::<(), Failure>(Failure::message("on purpose")));
            drop(guard);
        });
    }),
    place("a panic's report", |world| {
        let act = act(world);
        // Reported by the reactor, to this hook and then to the one below.
        let guard = RefCell::new(Some(unhandled::set_hook(move |_| act())));
        let guard = Rc::new(guard);
        let ends = Rc::clone(&guard);
        world
            .reactor_now()
            .call_soon(|| -> () { std::panic::resume_unwind(Box::new("on purpose")) });
        world.reactor_now().call_soon(move || drop(ends.take()));
        world.keep(guard);
    }),
    place("the drop of a call that is cancelled", |world| {
        let call = world.reactor_now().call_later(FAR, dropped(world));
        world
            .reactor_now()
            .call_soon(move || assert!(call.cancel()));
    }),
    place("the drop of a call for soon", |world| {
        let reactor = world.reactor_now();
        let (call, slot) = (dropped(world), Rc::new(RefCell::new(None)));
        let found = Rc::clone(&slot);
        reactor.call_soon(move || {
            let call: Option<torsade_reactor::SoonCall> = found.take();
            assert!(call.is_some_and(|call| call.cancel()));
        });
        slot.replace(Some(reactor.call_soon(call)));
    }),
    place("the drop of a hook", |world| {
        let hook = world
            .reactor_now()
            .add_hook(torsade_reactor::Place::Check, dropped(world));
        world
            .reactor_now()
            .call_soon(move || assert!(hook.remove()));
    }),
    place("the drop of a hook of the stop", |world| {
        let hook = world
            .reactor_now()
            .on_shutdown(Phase::During, dropped(world));
        world
            .reactor_now()
            .call_soon(move || assert!(hook.remove()));
    }),
    place("the drop of a watch's callback", |world| {
        let dropped = dropped(world);
        let watch = world
            .reactor_now()
            .add_reader(world.full_pipe(), move |_| dropped());
        let watch = watch.expect("a pipe can be watched");
        watch.disable();
        world.reactor_now().call_soon(move || drop(watch.remove()));
    }),
    place("the drop of a signal's watcher", |world| {
        let dropped = dropped(world);
        let watcher = world.reactor_now().on_signal(SIGNAL, move |_| dropped());
        let watcher = watcher.expect("it can be watched");
        world
            .reactor_now()
            .call_soon(move || assert!(watcher.remove()));
    }),
    place("the drop of a channel's callback", |world| {
        let dropped = dropped(world);
        let (sender, channel) = world
            .reactor_now()
            .channel(move |_, _: ChannelEvent<u8>| dropped());
        world
            .reactor_now()
            .call_soon(move || assert!(channel.remove()));
        world.keep(sender);
    }),
    place("the drop of a LoopingCall's call", |world| {
        let dropped = dropped(world);
        let looping = LoopingCall::new(&world.reactor_now(), dropped);
        drop(quiet(looping.start_later(FAR).map(drop)));
        world
            .reactor_now()
            .call_soon(move || assert!(looping.stop()));
    }),
    place("the drop of a task's work", |world| {
        let dropped = dropped(world);
        let cooperator = Cooperator::unstarted(&world.reactor_now());
        let task = cooperator.cooperate((0..3).map(move |_| dropped()));
        world
            .reactor_now()
            .call_soon(move || assert!(task.stop().is_ok()));
        world.keep(cooperator);
    }),
    place("a guest's host", |world| {
        let (own, act) = own(world, Target::Guest);
        let guest = Guest::new(&world.reactor_now(), || ());
        own.replace(Some(guest.expect("there are threads left")));
        world.reactor_now().call_soon(act);
    }),
    place("the end of its reactor", |world| {
        let (weak, reactor) = (Rc::downgrade(world), world.reactor_now());
        let (sender, channel) = reactor.channel(|_, _: ChannelEvent<u8>| ());
        world.keep(sender);
        let ends = WhenDropped(Some(Box::new(move || {
            let Some(world) = weak.upgrade() else {
                return;
            };
            // What is left of it.
            world.lend_reactor(channel.reactor());
            world.act(None);
            drop(world.take_reactor());
        })));
        reactor.call_later(FAR, move || drop(ends));
        // There is nothing to wait for before.
        let handle = Rc::downgrade(world);
        reactor.call_soon(move || {
            if let Some(reactor) = reactor_of(&handle) {
                reactor.stop();
            }
        });
    })
    .at_the_stop()
    .winds_up(),
];

const FAR: Duration = Duration::from_secs(3600);

/// What a callback does: acts, without keeping the world.
fn act(world: &Rc<World>) -> impl Fn() + use<> + 'static {
    let weak = Rc::downgrade(world);
    move || {
        if let Some(world) = weak.upgrade() {
            world.act(None);
        }
    }
}

/// The same, with what the callback belongs to.
pub(super) fn act_on(world: &Rc<World>) -> impl Fn(Target) + use<> + 'static {
    let weak = Rc::downgrade(world);
    move |own| {
        if let Some(world) = weak.upgrade() {
            world.act(Some(own));
        }
    }
}

fn act_on_transport(world: &Rc<World>) -> impl FnOnce(&Transport<Peer>) + 'static {
    let act = act_on(world);
    move |own: &Transport<Peer>| act(Target::Transport(own.clone()))
}

/// The same, where what it belongs to is known when it has been made: put it into the cell.
fn own<T: 'static>(
    world: &Rc<World>,
    target: fn(T) -> Target,
) -> (Rc<RefCell<Option<T>>>, impl Fn() + use<T> + 'static) {
    let own = Rc::new(RefCell::new(None));
    let (found, act) = (Rc::clone(&own), act_on(world));
    let act = move || {
        let own: Option<T> = found.take();
        if let Some(own) = own {
            act(target(own));
        }
    };
    (own, act)
}

fn reactor_of(world: &Weak<World>) -> Option<Reactor> {
    world.upgrade().and_then(|world| world.reactor())
}

/// A callback that acts when it is dropped.
fn dropped(world: &Rc<World>) -> impl Fn() + use<> + 'static {
    let acts = WhenDropped(Some(Box::new(act(world))));
    move || {
        let _ = &acts;
    }
}

thread_local! {
    /// For calls that cross threads, and may own nothing of this one.
    static LEFT_HERE: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) };
}

fn leave_here(world: &Rc<World>) -> fn() {
    leave(act(world))
}

fn leave(act: impl FnOnce() + 'static) -> fn() {
    LEFT_HERE.replace(Some(Box::new(act)));
    || {
        if let Some(act) = LEFT_HERE.take() {
            act();
        }
    }
}

fn raise() {
    kill_process(getpid(), Signal::URG).expect("a process may signal itself");
}

fn hook(world: &Rc<World>, place: torsade_reactor::Place) {
    let (own, act) = own(world, Target::Hook);
    own.replace(Some(world.reactor_now().add_hook(place, act)));
}

fn starts(world: &Rc<World>, phase: Phase) {
    let (own, act) = own(world, Target::Hook);
    own.replace(Some(world.reactor_now().on_startup(phase, act)));
}

fn stops(world: &Rc<World>, phase: Phase) {
    let (own, act) = own::<Hook>(world, Target::Hook);
    own.replace(Some(world.reactor_now().on_shutdown(phase, act)));
}

/// A connection whose server is `peer`; `then` is what the client does.
fn connect(world: &Rc<World>, peer: Peer, then: impl FnOnce(&Transport<Peer>) + 'static) {
    let reactor = world.reactor_now();
    let mut peer = Some(peer);
    let port = reactor.listen_tcp("127.0.0.1:0", move |_: &Address| peer.take());
    let port = port.expect("loopback can listen");
    let made: OnTransport = Some(Box::new(then));
    let client = move |_: &Address| Peer {
        made,
        ..Peer::default()
    };
    drop(quiet(reactor.connect_tcp(port.address(), client).map(drop)));
}

fn write_much(transport: &Transport<Peer>) {
    transport.set_limits(Limits {
        unsent_high: 1,
        unsent_low: 0,
        unsent_max: 1 << 30,
        ..Limits::default()
    });
    transport.write(vec![0; 16 << 20]);
}

fn nothing_at_all() -> PoolLimits {
    PoolLimits {
        threads_max: 0,
        queued_max: 0,
        ..PoolLimits::default()
    }
}

type OnPort = Box<dyn FnOnce(Target)>;

/// A factory that says what it is asked.
#[derive(Default)]
struct Builds {
    act: Option<OnPort>,
    stop: Option<Box<dyn FnOnce()>>,
    own: Rc<RefCell<Option<torsade_reactor::Port>>>,
}

impl Factory for Builds {
    type Protocol = Peer;

    fn build_protocol(&mut self, _: &Address) -> Option<Peer> {
        if let Some((act, own)) = self.act.take().zip(self.own.take()) {
            act(Target::Port(own));
        }
        Some(Peer::default())
    }

    fn stop_factory(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop();
        }
    }
}

fn act_on_port(world: &Rc<World>) -> OnPort {
    Box::new(act_on(world))
}

fn listen_and_connect(world: &Rc<World>, builds: Builds) {
    let (reactor, own) = (world.reactor_now(), Rc::clone(&builds.own));
    let port = reactor.listen_tcp("127.0.0.1:0", builds);
    let port = port.expect("loopback can listen");
    own.replace(Some(port.clone()));
    let client = reactor.connect_tcp(port.address(), |_| Peer::default());
    drop(quiet(client.map(drop)));
}
