//! A body on its way from who has it to who wants it, with back-pressure.
//!
//! # States
//!
//! ```text
//!                  finish, fail, dropped              the last piece is taken
//!   ┌─────────┐ ───────────────────────────▶ ┌───────┐ ───────────────────────▶ ┌──────┐
//!   │ Flowing │                              │ Ended │                          │ Over │
//!   └─────────┘ ──────────┐                  └───────┘ ──────────┐              └──────┘
//!                         └───────────── reader dropped ─────────┴─────────────────▲
//! ```
//!
//! # Bounds
//!
//! Nothing limits what is queued but its writer, who is told when it is [full](Writer::is_full) and
//! when there is room again.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use http::HeaderMap;
use torsade_deferred::Failure;

use super::error::BodyError;

/// What the reader gets.
#[derive(Debug)]
pub(super) enum Next {
    /// A piece, never empty.
    Data(Bytes),
    /// The end, once. The trailers, or what went wrong.
    End(Result<HeaderMap, Failure>),
    /// Nothing now: the reader is called when there is something.
    Nothing,
}

/// What the writer is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Demand {
    /// Somebody begins to read.
    Wanted,
    /// It was full, and has room again.
    Room,
    /// Nobody reads any more.
    Gone,
}

type Told = Rc<dyn Fn(Demand)>;
type Call = Rc<dyn Fn()>;
type Change = Box<dyn FnOnce(Failure) -> Failure>;

struct Pipe {
    pieces: RefCell<VecDeque<Bytes>>,
    queued: Cell<usize>,
    /// Above this it is full; at half of it there is room again.
    mark: usize,
    full: Cell<bool>,
    end: RefCell<Option<Result<HeaderMap, Failure>>>,
    /// The end has been written.
    ended: Cell<bool>,
    /// Nothing says where the end is but that of a connection.
    ends_with_connection: Cell<bool>,
    /// The end has been taken, or the reader is gone.
    over: Cell<bool>,
    /// Somebody has begun to read.
    wanted: Cell<bool>,
    on_data: RefCell<Option<Call>>,
    on_demand: RefCell<Option<Told>>,
    /// What makes of a failure what the reader gets.
    change: RefCell<Option<Change>>,
}

/// A pipe that is full above `mark` bytes.
pub(super) fn pipe(mark: usize) -> (Writer, Reader) {
    let pipe = Rc::new(Pipe {
        pieces: RefCell::default(),
        queued: Cell::new(0),
        mark,
        full: Cell::new(false),
        end: RefCell::new(None),
        ended: Cell::new(false),
        ends_with_connection: Cell::new(false),
        over: Cell::new(false),
        wanted: Cell::new(false),
        on_data: RefCell::new(None),
        on_demand: RefCell::new(None),
        change: RefCell::new(None),
    });
    let writer = Writer {
        pipe: Rc::clone(&pipe),
    };
    (writer, Reader { pipe })
}

impl Pipe {
    fn tell_reader(&self) {
        // Detach, then call.
        let call = self.on_data.borrow().clone();
        if let Some(call) = call {
            call();
        }
    }

    fn tell_writer(&self, demand: Demand) {
        let told = self.on_demand.borrow().clone();
        if let Some(told) = told {
            told(demand);
        }
    }

    fn end(&self, outcome: Result<HeaderMap, Failure>) {
        if self.ended.replace(true) || self.over.get() {
            return;
        }
        self.end.replace(Some(outcome));
        self.tell_reader();
    }
}

/// The end that a body is written to. Dropped before the end, it fails the body.
pub(super) struct Writer {
    pipe: Rc<Pipe>,
}

impl Writer {
    /// Queues a piece. Dropped, if nobody reads any more.
    pub(super) fn write(&self, piece: Bytes) {
        let pipe = &self.pipe;
        if piece.is_empty() || pipe.over.get() || pipe.ended.get() {
            return;
        }
        let queued = pipe.queued.get() + piece.len();
        pipe.queued.set(queued);
        pipe.pieces.borrow_mut().push_back(piece);
        if queued > pipe.mark {
            pipe.full.set(true);
        }
        pipe.tell_reader();
    }

    /// Whether it holds enough for now.
    pub(super) fn is_full(&self) -> bool {
        self.pipe.full.get()
    }

    /// How many bytes wait to be read.
    pub(super) fn queued(&self) -> usize {
        self.pipe.queued.get()
    }

    /// Whether somebody reads, or still may.
    pub(super) fn is_read(&self) -> bool {
        !self.pipe.over.get()
    }

    /// Whether somebody has begun to read.
    pub(super) fn is_wanted(&self) -> bool {
        self.pipe.wanted.get()
    }

    /// Nothing will say where the end is but that of a connection.
    pub(super) fn ends_with_connection(&self) {
        self.pipe.ends_with_connection.set(true);
    }

    /// Ends the body.
    pub(super) fn finish(self, trailers: HeaderMap) {
        self.pipe.end(Ok(trailers));
    }

    /// Ends it before its end.
    pub(super) fn fail(self, failure: Failure) {
        self.pipe.end(Err(failure));
    }

    /// Ends it before its end, and is kept.
    pub(super) fn abort(&self, failure: Failure) {
        self.pipe.end(Err(failure));
    }

    /// Has `told` called with each demand, from inside whatever the reader does.
    pub(super) fn on_demand(&self, told: impl Fn(Demand) + 'static) {
        let previous = self.pipe.on_demand.replace(Some(Rc::new(told)));
        drop(previous);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let told = self.pipe.on_demand.take();
        drop(told);
        self.pipe.end(Err(Failure::from(BodyError::Abandoned)));
    }
}

/// The end that a body is read from. Dropped before the end, it tells the writer.
pub(super) struct Reader {
    pipe: Rc<Pipe>,
}

impl Reader {
    /// The next piece, the end, or nothing yet.
    pub(super) fn next(&self) -> Next {
        let pipe = &self.pipe;
        if !pipe.wanted.replace(true) {
            pipe.tell_writer(Demand::Wanted);
        }
        let piece = pipe.pieces.borrow_mut().pop_front();
        if let Some(piece) = piece {
            let queued = pipe.queued.get() - piece.len();
            pipe.queued.set(queued);
            if queued <= pipe.mark / 2 && pipe.full.replace(false) {
                pipe.tell_writer(Demand::Room);
            }
            return Next::Data(piece);
        }
        if !pipe.ended.get() || pipe.over.replace(true) {
            return Next::Nothing;
        }
        match pipe.end.take() {
            Some(Err(failure)) => {
                // Detach, then call.
                let change = pipe.change.take();
                Next::End(Err(match change {
                    Some(change) => change(failure),
                    None => failure,
                }))
            }
            Some(outcome) => Next::End(outcome),
            None => Next::Nothing,
        }
    }

    /// Has `change` make of a failure what is read of it; called when that is read.
    pub(super) fn map_failure(&self, change: impl FnOnce(Failure) -> Failure + 'static) {
        let previous = self.pipe.change.replace(Some(Box::new(change)));
        drop(previous);
    }

    /// How many bytes wait to be read.
    pub(super) fn queued(&self) -> usize {
        self.pipe.queued.get()
    }

    /// Whether everything has come, in order: the length is known.
    pub(super) fn is_complete(&self) -> bool {
        matches!(&*self.pipe.end.borrow(), Some(Ok(trailers)) if trailers.is_empty())
    }

    /// Whether nothing says where the end is but that of a connection.
    pub(super) fn ends_with_connection(&self) -> bool {
        self.pipe.ends_with_connection.get()
    }

    /// Has `call` called when there is something to read, from inside whatever the writer does.
    pub(super) fn on_data(&self, call: impl Fn() + 'static) {
        let previous = self.pipe.on_data.replace(Some(Rc::new(call)));
        drop(previous);
    }

    /// Nobody is called any more.
    pub(super) fn forget_on_data(&self) {
        let previous = self.pipe.on_data.take();
        drop(previous);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let call = self.pipe.on_data.take();
        let change = self.pipe.change.take();
        drop((call, change));
        let is_first = !self.pipe.over.replace(true);
        let pieces = self.pipe.pieces.take();
        self.pipe.queued.set(0);
        let end = self.pipe.end.take();
        drop((pieces, end));
        if is_first && !self.pipe.ended.get() {
            self.pipe.tell_writer(Demand::Gone);
        }
    }
}
