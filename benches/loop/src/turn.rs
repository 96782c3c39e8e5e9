//! A turn in which one descriptor is ready: all that the loop does is wait and call.

use std::cell::Cell;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use calloop::generic::Generic;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair,
};
use tokio::io::unix::AsyncFd;
use torsade::prelude::Reactor;

use crate::{
    NS_OF_CPU, Table, made, measure, missing, on_may, on_mio, on_monoio, on_smol, report,
    tokio_runtime,
};

/// One descriptor that is always ready, watched as a level.
pub const READY: Table = Table {
    name: "turn",
    group: "turn",
    axis: None,
    sizes: &[500_000],
    contenders: &[
        ("ours", "torsade: add_reader", ours),
        ("bare", "bare: epoll_wait and a boxed callback", bare),
        ("calloop", "calloop: Generic", calloop),
        ("smol", "smol: Async", on_smol::turns),
        ("tokio", "tokio: AsyncFd", |_| missing(EDGES)),
        ("mio", "mio: SourceFd", |_| missing(EDGES)),
        ("monoio", "monoio", |_| missing(on_monoio::NO_WATCH)),
        ("may", "may", |_| missing(on_may::NO_WATCH)),
    ],
    unit: NS_OF_CPU,
};

/// One socket, from which the callback reads 64 B that it sent itself.
pub const ANSWERED: Table = Table {
    name: "turn_answered",
    group: "turn",
    axis: None,
    sizes: &[200_000],
    contenders: &[
        ("ours", "torsade: add_reader", ours_answers),
        (
            "bare",
            "bare: epoll_wait and a boxed callback",
            bare_answers,
        ),
        ("tokio", "tokio: AsyncFd", tokio_answers),
        ("calloop", "calloop: Generic", calloop_answers),
        ("smol", "smol: Async", on_smol::answers),
        ("mio", "mio: SourceFd", on_mio::answers),
        (
            "monoio",
            "monoio: UnixStream, read and write",
            on_monoio::answers,
        ),
        ("may", "may", |_| missing(on_may::NO_WATCH)),
    ],
    unit: NS_OF_CPU,
};

/// Of those that are told by edges.
const EDGES: &str = "it tells edges: what is always ready is told once";

pub fn always_ready() -> OwnedFd {
    eventfd(1, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).expect("a descriptor is left")
}

/// A socket that is ready, and the other end of it.
pub fn pair() -> (OwnedFd, OwnedFd) {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (near, far) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .expect("two descriptors are left");
    send(&far, &[0; 64], SendFlags::empty()).expect("there is room");
    (near, far)
}

/// Takes what came, and has as much come again.
pub fn answer(near: &OwnedFd, far: &OwnedFd) -> bool {
    let mut buffer = [0; 64];
    let Ok((count, _)) = recv(near, &mut buffer, RecvFlags::empty()) else {
        return false;
    };
    assert_eq!(count, 64);
    send(far, &buffer, SendFlags::empty()).expect("there is room");
    made();
    true
}

/// Runs until the callback has been called `count` times, twice, and measures the second.
fn run_ours(reactor: &Reactor, count: usize, until: &Cell<usize>) {
    reactor.set_stop_on_signals(false);
    let turns = || {
        until.set(crate::MADE.get() + count);
        reactor.run().expect("it runs");
    };
    turns();
    report(measure(count, turns));
}

/// Leaves the loop when enough calls have been made.
fn leave_at(reactor: &Reactor, until: &Cell<usize>) {
    if crate::MADE.get() == until.get() {
        reactor.crash();
    }
}

fn ours(count: usize) {
    let reactor = Reactor::new().expect("a descriptor is left");
    let until = Rc::new(Cell::new(0));
    let (handle, limit) = (reactor.clone(), Rc::clone(&until));
    reactor
        .add_reader(always_ready(), move |_| {
            made();
            leave_at(&handle, &limit);
        })
        .expect("it can be watched");
    run_ours(&reactor, count, &until);
}

fn ours_answers(count: usize) {
    let reactor = Reactor::new().expect("a descriptor is left");
    let until = Rc::new(Cell::new(0));
    let (handle, limit) = (reactor.clone(), Rc::clone(&until));
    let (near, far) = pair();
    let near = Rc::new(near);
    let own = Rc::clone(&near);
    reactor
        .add_reader(near, move |_| {
            answer(&own, &far);
            leave_at(&handle, &limit);
        })
        .expect("it can be watched");
    run_ours(&reactor, count, &until);
}

fn turn_bare(count: usize, source: &OwnedFd, callback: impl FnMut() + 'static) {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("a descriptor is left");
    epoll::add(&poll, source, epoll::EventData::new_u64(0), EventFlags::IN).expect("it is new");
    let mut callbacks: Vec<Box<dyn FnMut()>> = vec![Box::new(callback)];
    let mut events = Vec::with_capacity(256);
    let mut turns = || {
        let until = crate::MADE.get() + count;
        while crate::MADE.get() < until {
            events.clear();
            epoll::wait(&poll, spare_capacity(&mut events), None).expect("it waits");
            for event in &events {
                let event: &epoll::Event = event;
                callbacks[event.data.u64() as usize]();
            }
        }
    };
    turns();
    report(measure(count, turns));
}

fn bare(count: usize) {
    turn_bare(count, &always_ready(), made);
}

fn bare_answers(count: usize) {
    let (near, far) = pair();
    let near = Rc::new(near);
    let own = Rc::clone(&near);
    turn_bare(count, &near, move || {
        answer(&own, &far);
    });
}

fn tokio_answers(count: usize) {
    let runtime = tokio_runtime();
    let (near, far) = pair();
    let turns = |count: usize, near: AsyncFd<OwnedFd>, far: OwnedFd| {
        runtime.block_on(async move {
            let until = crate::MADE.get() + count;
            while crate::MADE.get() < until {
                let mut guard = near.readable().await.expect("it can be watched");
                if !answer(near.get_ref(), &far) {
                    guard.clear_ready();
                }
            }
            (near, far)
        })
    };
    #[expect(
        deprecated,
        reason = "its successor is unsafe; an `OwnedFd` keeps its number"
    )]
    let near = runtime.block_on(async { AsyncFd::new(near).expect("it can be watched") });
    let (near, far) = turns(count, near, far);
    report(measure(count, || {
        turns(count, near, far);
    }));
}

fn turn_calloop(count: usize, source: OwnedFd, mut callback: impl FnMut(&OwnedFd) + 'static) {
    let mut event_loop = calloop::EventLoop::<()>::try_new().expect("a descriptor is left");
    let source = Generic::new(source, calloop::Interest::READ, calloop::Mode::Level);
    event_loop
        .handle()
        .insert_source(source, move |_, source, ()| {
            callback(source);
            Ok(calloop::PostAction::Continue)
        })
        .expect("it is inserted");
    let mut turns = || {
        let until = crate::MADE.get() + count;
        while crate::MADE.get() < until {
            event_loop.dispatch(None, &mut ()).expect("it turns");
        }
    };
    turns();
    report(measure(count, turns));
}

fn calloop(count: usize) {
    turn_calloop(count, always_ready(), |_| made());
}

fn calloop_answers(count: usize) {
    let (near, far) = pair();
    turn_calloop(count, near, move |near| {
        answer(near, &far);
    });
}
