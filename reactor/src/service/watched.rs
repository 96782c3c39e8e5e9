//! A stream that tells when it is gone.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use torsade_deferred::Deferred;

use crate::error::ConnectionLost;
use crate::flow::Limits;
use crate::stream::{FilePart, Receiver, Socket, Stream};

/// A stream as it is, and a call with the reason, as text, after its `connection_lost`,
/// whoever its receiver is by then.
pub(super) struct Watched {
    below: Rc<dyn Stream>,
    /// Shared by the receivers that follow one another; the last one's end is the end.
    gone: Rc<Gone>,
}

type Gone = Cell<Option<Box<dyn FnOnce(String)>>>;

impl Watched {
    pub(super) fn new(below: Rc<dyn Stream>, gone: impl FnOnce(String) + 'static) -> Rc<Self> {
        Rc::new(Self {
            below,
            gone: Rc::new(Cell::new(Some(Box::new(gone)))),
        })
    }
}

impl Stream for Watched {
    fn write(&self, data: &[u8]) {
        self.below.write(data);
    }

    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.below.try_read(buffer)
    }

    fn write_file(&self, part: FilePart) -> Result<(), FilePart> {
        self.below.write_file(part)
    }

    fn lose_connection(&self, reason: ConnectionLost) {
        self.below.lose_connection(reason);
    }

    fn abort_connection(&self, reason: ConnectionLost) {
        self.below.abort_connection(reason);
    }

    fn lose_write_connection(&self) {
        self.below.lose_write_connection();
    }

    fn pause_reading(&self) {
        self.below.pause_reading();
    }

    fn resume_reading(&self) {
        self.below.resume_reading();
    }

    fn is_connected(&self) -> bool {
        self.below.is_connected()
    }

    fn unsent(&self) -> usize {
        self.below.unsent()
    }

    fn is_congested(&self) -> bool {
        self.below.is_congested()
    }

    fn flush(&self) -> Deferred<()> {
        self.below.flush()
    }

    fn limits(&self) -> Limits {
        self.below.limits()
    }

    fn set_limits(&self, limits: Limits) {
        self.below.set_limits(limits);
    }

    fn set_receiver(&self, receiver: Rc<dyn Receiver>) {
        let gone = Rc::clone(&self.gone);
        self.below.set_receiver(Rc::new(Watch { receiver, gone }));
    }

    fn socket(&self) -> &dyn Socket {
        self.below.socket()
    }

    fn below(&self) -> Option<&Rc<dyn Stream>> {
        Some(&self.below)
    }
}

/// Passes everything on, and sees the end.
struct Watch {
    receiver: Rc<dyn Receiver>,
    gone: Rc<Gone>,
}

impl Receiver for Watch {
    fn data_received(self: Rc<Self>, data: &[u8]) {
        Rc::clone(&self.receiver).data_received(data);
    }

    fn data_received_mut(self: Rc<Self>, data: &mut [u8]) {
        Rc::clone(&self.receiver).data_received_mut(data);
    }

    fn read_connection_lost(self: Rc<Self>) {
        Rc::clone(&self.receiver).read_connection_lost();
    }

    fn write_paused(self: Rc<Self>) {
        Rc::clone(&self.receiver).write_paused();
    }

    fn write_resumed(self: Rc<Self>) {
        Rc::clone(&self.receiver).write_resumed();
    }

    fn vanish(self: Rc<Self>) {
        let gone = self.gone.take();
        drop(gone);
        Rc::clone(&self.receiver).vanish();
    }

    fn about_to_be_lost(self: Rc<Self>) {
        Rc::clone(&self.receiver).about_to_be_lost();
    }

    fn connection_lost(self: Rc<Self>, reason: ConnectionLost) {
        let shown = reason.to_string();
        Rc::clone(&self.receiver).connection_lost(reason);
        if let Some(gone) = self.gone.take() {
            gone(shown);
        }
    }
}
