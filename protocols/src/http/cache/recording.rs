//! A body that comes once, for several who take it, and for the cache.
//!
//! # States
//!
//! ```text
//!   ┌─────────┐  too large, no room, nobody wants it   ┌─────────┐
//!   │ Keeping │ ─────────────────────────────────────▶ │ Passing │
//!   └─────────┘                                        └─────────┘
//!        └──────────────────────┬───────────────────────────┘
//!                               ▼  its end, or a failure
//!                           ┌───────┐
//!                           │ Ended │
//!                           └───────┘
//! ```
//!
//! While it is kept it is read as fast as it comes: all of it is going to be in memory. From when it is
//! not kept any more, what everybody has taken is let go, and the slowest sets the pace.
//!
//! # Bounds
//!
//! What is held counts for the cache's bytes, until it is taken. While it is kept that is at most an entry;
//! while it is passed on it does not grow, save by a piece when all have taken everything.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use torsade_deferred::Failure;

use super::super::body::Body;
use super::super::pipe::{self, Demand, Next, Reader, Writer};

/// How much of it waits for one who takes it.
const WAITING: usize = 64 * 1024;

/// Bytes that a piece is counted for besides what is in it.
const PIECE_OVERHEAD: usize = 64;

/// Who keeps what comes.
pub(super) trait Keeper {
    /// Whether so many bytes more may be held, besides those that are.
    fn has_room(&self, held: usize, more: usize) -> bool;

    /// Whether what is left may be read although nobody takes it.
    fn wants_rest(&self, left: Option<u64>) -> bool;

    /// Called once: with all of it, or with nothing if it is not kept. Not under any borrow.
    fn ended(&self, content: Option<Bytes>);
}

pub(super) struct Recording {
    /// Until it is not kept any more.
    keeper: RefCell<Option<Weak<dyn Keeper>>>,
    /// Until the end.
    source: RefCell<Option<Rc<Reader>>>,
    held: RefCell<VecDeque<Bytes>>,
    /// The number of the first piece that is held.
    first: Cell<usize>,
    /// Bytes that came.
    received: Cell<u64>,
    /// How many there will be, if that is known.
    announced: Option<u64>,
    end: RefCell<Option<Result<HeaderMap, Failure>>>,
    takers: RefCell<Vec<Rc<Taker>>>,
    is_pumping: Cell<bool>,
    /// Bytes that all recordings hold; ours are among them.
    reserved: Rc<Cell<usize>>,
    ours: Cell<usize>,
}

/// One who takes it.
struct Taker {
    /// Out of its place while it is written to.
    writer: RefCell<Option<Writer>>,
    /// The number of the piece that it gets next.
    at: Cell<usize>,
    is_gone: Cell<bool>,
}

impl Recording {
    /// Of a body. Nothing is read before [`start`](Self::start).
    pub(super) fn new(
        source: Rc<Reader>,
        announced: Option<u64>,
        keeper: Weak<dyn Keeper>,
        reserved: Rc<Cell<usize>>,
    ) -> Rc<Self> {
        Rc::new(Self {
            keeper: RefCell::new(Some(keeper)),
            source: RefCell::new(Some(source)),
            held: RefCell::default(),
            first: Cell::new(0),
            received: Cell::new(0),
            announced,
            end: RefCell::new(None),
            takers: RefCell::default(),
            is_pumping: Cell::new(false),
            reserved,
            ours: Cell::new(0),
        })
    }

    /// Begins to read.
    pub(super) fn start(self: &Rc<Self>) {
        let weak = Rc::downgrade(self);
        let source = self.source.borrow().clone();
        if let Some(source) = source {
            source.on_data(move || {
                if let Some(recording) = weak.upgrade() {
                    recording.pump();
                }
            });
        }
        self.pump();
        self.look_for_takers();
    }

    /// Whether one more can take it from its beginning.
    pub(super) fn is_kept(&self) -> bool {
        self.keeper.borrow().is_some()
    }

    /// Whether anybody takes it.
    pub(super) fn is_taken(&self) -> bool {
        !self.takers.borrow().is_empty()
    }

    /// A body that gives it from the beginning. Only while [it is kept](Self::is_kept).
    pub(super) fn body(self: &Rc<Self>) -> Body {
        let (writer, reader) = pipe::pipe(WAITING);
        let taker = Rc::new(Taker {
            writer: RefCell::new(None),
            at: Cell::new(0),
            is_gone: Cell::new(false),
        });
        let (recording, weak) = (Rc::clone(self), Rc::downgrade(&taker));
        writer.on_demand(move |demand| {
            if let Some(taker) = weak.upgrade() {
                recording.demanded(&taker, demand);
            }
        });
        taker.writer.replace(Some(writer));
        self.takers.borrow_mut().push(Rc::clone(&taker));
        let announced = self.announced;
        self.feed(&taker);
        Body::of_pipe(reader, announced)
    }

    /// It is not kept any more, whatever comes.
    pub(super) fn stop_keeping(&self) {
        let keeper = self.keeper.take();
        if let Some(keeper) = keeper.and_then(|it| it.upgrade()) {
            keeper.ended(None);
        }
        self.let_go_of_taken();
        self.look_for_takers();
    }

    fn demanded(self: &Rc<Self>, taker: &Rc<Taker>, demand: Demand) {
        if demand == Demand::Gone {
            taker.is_gone.set(true);
            self.takers.borrow_mut().retain(|it| !Rc::ptr_eq(it, taker));
            let writer = taker.writer.take();
            drop(writer);
            self.let_go_of_taken();
            self.look_for_takers();
            // The slowest may be gone.
            return self.pump();
        }
        self.feed(taker);
        self.let_go_of_taken();
        self.pump();
    }

    /// Reads what there is, as far as it may.
    fn pump(self: &Rc<Self>) {
        if self.is_pumping.replace(true) {
            return;
        }
        while self.may_read() {
            let source = self.source.borrow().clone();
            let Some(source) = source else { break };
            match source.next() {
                Next::Data(piece) => self.received(piece),
                Next::Nothing => break,
                Next::End(outcome) => {
                    self.source.take();
                    source.forget_on_data();
                    self.ended(outcome);
                }
            }
        }
        self.is_pumping.set(false);
    }

    fn may_read(&self) -> bool {
        if self.is_kept() {
            return true;
        }
        let end = self.first.get() + self.held.borrow().len();
        let takers = self.takers.borrow();
        let is_waiting = |taker: &Rc<Taker>| {
            let writer = taker.writer.borrow();
            taker.at.get() == end && writer.as_ref().is_some_and(|it| !it.is_full())
        };
        !takers.is_empty() && takers.iter().all(is_waiting)
    }

    fn received(self: &Rc<Self>, piece: Bytes) {
        self.received.set(self.received.get() + piece.len() as u64);
        let cost = piece.len() + PIECE_OVERHEAD;
        let keeper = self.keeper.borrow().as_ref().map(Weak::upgrade);
        if let Some(keeper) = keeper {
            let has_room = keeper.is_some_and(|it| it.has_room(self.ours.get(), cost));
            if !has_room {
                self.stop_keeping();
            }
        }
        self.reserve(cost);
        self.held.borrow_mut().push_back(piece);
        self.feed_all();
    }

    fn ended(self: &Rc<Self>, outcome: Result<HeaderMap, Failure>) {
        let received = self.received.get();
        let is_whole = outcome.is_ok() && self.announced.is_none_or(|length| length == received);
        self.end.replace(Some(outcome));
        let keeper = self.keeper.take();
        if let Some(keeper) = keeper.and_then(|it| it.upgrade()) {
            let content = is_whole.then(|| self.join());
            keeper.ended(content);
        }
        self.feed_all();
    }

    /// All of it as one; what is held for others is a part of that then, and takes no more room.
    ///
    /// A copy, also of one piece: that may be a part of something larger, or have an owner whose `Drop` is
    /// somebody else's, and what is stored is let go under a borrow.
    fn join(&self) -> Bytes {
        let pieces = self.held.take();
        let length = pieces.iter().map(Bytes::len).sum();
        let mut content = BytesMut::with_capacity(length);
        for piece in &pieces {
            content.extend_from_slice(piece);
        }
        let content = content.freeze();
        let mut begin = 0;
        let parts = pieces.iter().map(|piece| {
            let end = begin + piece.len();
            content.slice(std::mem::replace(&mut begin, end)..end)
        });
        self.held.replace(parts.collect());
        self.release(self.ours.get());
        content
    }

    fn feed_all(self: &Rc<Self>) {
        let takers = self.takers.borrow().clone();
        for taker in takers {
            self.feed(&taker);
        }
        self.let_go_of_taken();
    }

    /// Gives one who takes it what it has room for.
    fn feed(&self, taker: &Rc<Taker>) {
        // Detach, then call: out of its place, so that what its reader does meanwhile only asks.
        let Some(writer) = taker.writer.take() else {
            return;
        };
        while !writer.is_full() && !taker.is_gone.get() {
            let index = taker.at.get() - self.first.get();
            let piece = self.held.borrow().get(index).cloned();
            if let Some(piece) = piece {
                taker.at.set(taker.at.get() + 1);
                writer.write(piece);
                continue;
            }
            if self.end.borrow().is_none() {
                break;
            }
            let mut takers = self.takers.borrow_mut();
            takers.retain(|it| !Rc::ptr_eq(it, taker));
            // Whoever is alone with a failure can take it apart.
            let end = match takers.is_empty() {
                true => self.end.take(),
                false => self.end.borrow().clone(),
            };
            drop(takers);
            let Some(end) = end else { break };
            return match end {
                Ok(trailers) => writer.finish(trailers),
                Err(failure) => writer.fail(failure),
            };
        }
        if !taker.is_gone.get() {
            taker.writer.replace(Some(writer));
        }
    }

    /// What is not kept, and has been given to everybody, is let go.
    fn let_go_of_taken(&self) {
        if self.is_kept() {
            return;
        }
        let slowest = self.takers.borrow().iter().map(|it| it.at.get()).min();
        let mut held = self.held.borrow_mut();
        let end = self.first.get() + held.len();
        let count = slowest.unwrap_or(end) - self.first.get();
        self.first.set(self.first.get() + count);
        let taken: Vec<Bytes> = held.drain(..count).collect();
        drop(held);
        let cost = taken.iter().map(|it| it.len() + PIECE_OVERHEAD).sum();
        self.release(cost);
    }

    /// If nobody takes it, it is kept for its own sake, or broken off.
    fn look_for_takers(&self) {
        if !self.takers.borrow().is_empty() || self.source.borrow().is_none() {
            return;
        }
        let keeper = self.keeper.borrow().as_ref().and_then(Weak::upgrade);
        let received = self.received.get();
        let left = self.announced.map(|all| all.saturating_sub(received));
        if keeper.is_some_and(|it| it.wants_rest(left)) {
            return;
        }
        // Dropped before anybody is told: who wrote it sees that it is gone.
        let source = self.source.take();
        if let Some(source) = source {
            source.forget_on_data();
        }
        if self.is_kept() {
            self.stop_keeping();
        }
    }

    fn reserve(&self, bytes: usize) {
        self.ours.set(self.ours.get() + bytes);
        self.reserved.set(self.reserved.get() + bytes);
    }

    fn release(&self, bytes: usize) {
        // After `join` what is held is counted elsewhere.
        let bytes = bytes.min(self.ours.get());
        self.ours.set(self.ours.get() - bytes);
        self.reserved.set(self.reserved.get() - bytes);
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.release(self.ours.get());
    }
}
