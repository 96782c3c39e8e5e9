//! What mio has of the tables: it waits for edges, and is woken.

use std::os::fd::AsRawFd;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

use crate::from_threads::{Boxed, boxed, calls_of, threads};
use crate::latency::{self, AWAKE, POSTS, heard};
use crate::{MADE, measure, report, turn};

pub const NO_CALL: &str = "it waits, and calls nothing";
pub const NO_TIMER: &str = "it has no timers";

const WAKING: Token = Token(0);

/// A loop that makes the calls that come through a channel, with its waker behind it.
struct Calls {
    poll: Poll,
    events: Events,
    waker: Arc<Waker>,
    sender: mpsc::Sender<Boxed>,
    receiver: mpsc::Receiver<Boxed>,
}

impl Calls {
    fn new() -> Self {
        let poll = Poll::new().expect("a descriptor is left");
        let waker = Waker::new(poll.registry(), WAKING).expect("a descriptor is left");
        let (sender, receiver) = mpsc::channel();
        Self {
            poll,
            events: Events::with_capacity(256),
            waker: Arc::new(waker),
            sender,
            receiver,
        }
    }

    fn poster(&self) -> impl Fn(Boxed) + Clone + Send + 'static {
        let (sender, waker) = (self.sender.clone(), Arc::clone(&self.waker));
        move |call| {
            assert!(sender.send(call).is_ok(), "somebody listens");
            waker.wake().expect("it can be written to");
        }
    }

    fn turn(&mut self, patience: Option<Duration>) {
        self.poll
            .poll(&mut self.events, patience)
            .expect("it waits");
        for event in &self.events {
            assert_eq!(event.token(), WAKING);
            while let Ok(call) = self.receiver.try_recv() {
                call();
            }
        }
    }
}

pub fn from_threads(count: usize) {
    let mut calls = Calls::new();
    let post = calls.poster();
    let poster = || {
        let post = post.clone();
        move |number| post(boxed(number))
    };
    threads(count, poster, || {
        while MADE.get() < calls_of(count) {
            calls.turn(None);
        }
    });
}

pub fn latency(busy: usize) {
    let mut calls = Calls::new();
    let made = Arc::new(AtomicUsize::new(0));
    let (post, count) = (calls.poster(), Arc::clone(&made));
    let thread = latency::poster(&made, move |posted| post(latency::boxed(posted, &count)));
    let patience = (busy == AWAKE).then_some(Duration::ZERO);
    while heard().count() < POSTS {
        calls.turn(patience);
    }
    thread.join().expect("it posts and ends");
    heard().report();
}

/// What is sent by the callback comes as an edge of its own: one answer for each.
pub fn answers(count: usize) {
    let mut poll = Poll::new().expect("a descriptor is left");
    let mut events = Events::with_capacity(256);
    let (near, far) = turn::pair();
    poll.registry()
        .register(
            &mut SourceFd(&near.as_raw_fd()),
            Token(0),
            Interest::READABLE,
        )
        .expect("it is new");
    let mut turns = || {
        let until = MADE.get() + count;
        while MADE.get() < until {
            poll.poll(&mut events, None).expect("it waits");
            for event in &events {
                assert_eq!(event.token(), Token(0));
                turn::answer(&near, &far);
            }
        }
    };
    turns();
    report(measure(count, turns));
}
