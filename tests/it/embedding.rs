//! Embedding: the chores of `embedding/src/chores.rs`, done in hosts that need no peer, and
//! two reactors in one thread.

use std::cell::{Cell, RefCell};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;

use torsade::prelude::*;
use torsade::reactor::{Guest, Place};

use self::chores::Chores;
use self::inside_another::Seat;

#[path = "../../embedding/src/chores.rs"]
mod chores;

#[path = "../../examples/frame_loop.rs"]
#[allow(
    dead_code,
    clippy::duplicate_mod,
    reason = "a test calls the parts and not `main`; all share a module"
)]
pub mod frame_loop;

#[path = "../../examples/inside_another.rs"]
#[allow(
    dead_code,
    clippy::duplicate_mod,
    reason = "a test calls the parts and not `main`; all share a module"
)]
mod inside_another;

fn reactor() -> Reactor {
    Reactor::new().expect("the system has descriptors left")
}

#[test]
fn all_chores_are_done_by_one_turn_a_frame() {
    let reactor = reactor();
    let chores = Chores::begin(&reactor);
    let (mut ball, mut frames) = (frame_loop::Ball::default(), 0);
    let shown = frame_loop::play(&reactor, &mut ball, |_picture| {
        frames += 1;
        // Stands for the wait for the display: the frames of a test are short.
        std::thread::yield_now();
        !chores.is_done()
    });
    shown.expect("it can wait");
    assert_eq!(reactor.statistics().turns, frames, "one turn a frame");
    // The number of frames is the display's business.
    chores.check(0, 0);
}

#[test]
fn a_players_line_turns_the_ball_in_the_frame_after_it_came() {
    let reactor = reactor();
    let mut ball = frame_loop::Ball::default();
    let port = ball.listen(&reactor, "127.0.0.1:0").expect("loopback");
    let mut player = TcpStream::connect(port.address().to_string()).expect("it listens");
    let pictures = Rc::new(RefCell::new(Vec::new()));
    let mut play = |frames: usize| {
        let mut left = frames;
        let shown = frame_loop::play(&reactor, &mut ball, |picture| {
            pictures.borrow_mut().push(picture.len());
            left -= 1;
            left > 0
        });
        shown.expect("it can wait");
    };
    play(5);
    player.write_all(b"\n").expect("it is connected");
    play(2);
    let mut answer = String::new();
    let read = BufReader::new(&player).read_line(&mut answer);
    read.expect("the answer left with the frame");
    assert_eq!(answer, "turned\n");
    // It was on its way by the end of the fifth; the sixth saw it.
    assert_eq!(*pictures.borrow(), [2, 3, 4, 5, 6, 5, 4]);
}

#[test]
fn all_chores_are_done_by_posts_alone() {
    let reactor = reactor();
    let chores = Chores::begin(&reactor);
    let (queue, posts) = mpsc::channel();
    let guest =
        Guest::new(&reactor, move || queue.send(()).unwrap_or_default()).expect("a thread is left");
    let mut turns = 0;
    loop {
        guest.turn().expect("it can wait");
        turns += 1;
        if chores.is_done() {
            break;
        }
        posts.recv().expect("the guest lives");
    }
    chores.check(turns, chores::TURNS_MAX);
}

#[test]
fn all_chores_are_done_inside_another_reactor() {
    let (host, guest) = (reactor(), reactor());
    let chores = Chores::begin(&guest);
    let turns = Rc::new(Cell::new(0));
    let count = Rc::clone(&turns);
    host.add_hook(Place::Check, move || count.set(count.get() + 1));
    let seat = Seat::take(&guest, &host).expect("a reactor can be watched");
    while !chores.is_done() {
        host.turn(None).expect("it can wait");
    }
    chores.check(turns.get(), chores::TURNS_MAX);
    drop(seat);
}

#[test]
fn a_guest_counts_and_stops_its_host() {
    let (host, guest) = (reactor(), reactor());
    let lines = Rc::new(RefCell::new(Vec::new()));
    let paper = Rc::clone(&lines);
    inside_another::count(&guest, &host, move |line| {
        paper.borrow_mut().push(line.to_owned());
    });
    let _seat = Seat::take(&guest, &host).expect("a reactor can be watched");
    host.run().expect("it can wait");
    assert_eq!(lines.borrow().len(), 3);
}

/// Each call is scheduled on the other reactor, by a call of this one.
fn to_and_fro(here: &Reactor, there: &Reactor, left: usize, done: Trigger<()>) {
    if left == 0 {
        return done.callback(());
    }
    let (next, back) = (there.clone(), here.clone());
    let go_on = move || to_and_fro(&next, &back, left - 1, done);
    match left % 3 {
        0 => drop(there.call_soon(go_on)),
        1 => drop(there.call_later(Duration::from_micros(100), go_on)),
        // A Deferred of the one, waited for by the other.
        _ => drop(sleep(there, Duration::ZERO).add_callback(move |()| go_on())),
    }
}

#[test]
fn two_reactors_in_one_thread_are_used_from_each_others_callbacks() {
    let (host, guest) = (reactor(), reactor());
    let seat = Seat::take(&guest, &host).expect("a reactor can be watched");
    // The host's callbacks use the guest outside of its own.
    let refreshed = Rc::clone(&seat);
    host.add_hook(Place::Prepare, move || refreshed.refresh());
    let (trigger, done) = Deferred::<()>::new();
    to_and_fro(&host, &guest, 100, trigger);
    host.run_until(done).expect("both go on");
}

#[test]
fn a_turn_of_the_other_may_be_given_in_a_callback_and_one_of_its_own_is_an_error() {
    let (one, other) = (reactor(), reactor());
    let log = Rc::new(RefCell::new(Vec::new()));
    let paper = Rc::clone(&log);
    let (here, there) = (one.clone(), other.clone());
    one.call_soon(move || {
        let (back, inner_paper) = (here.clone(), Rc::clone(&paper));
        there.call_soon(move || {
            let refused = back.turn(Some(Duration::ZERO));
            inner_paper.borrow_mut().push(refused.is_err());
        });
        let turned = there.turn(Some(Duration::ZERO));
        paper.borrow_mut().push(turned.is_err());
    });
    one.turn(Some(Duration::ZERO)).expect("it can wait");
    assert_eq!(*log.borrow(), [true, false]);
}
