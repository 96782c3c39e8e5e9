//! A stream made of memory, for protocols in a real seat and no network.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use torsade::prelude::*;
use torsade::reactor::testing::virtual_time_reactor;
use torsade::reactor::{Receiver, Socket, Stream};

/// A stream that keeps what is written, and ends when the test says so.
pub struct Memory {
    pub reactor: Reactor,
    receiver: RefCell<Option<Rc<dyn Receiver>>>,
    pub written: RefCell<Vec<u8>>,
    pub paused: Cell<bool>,
    /// Set when it is being lost.
    pub reason: Cell<Option<ConnectionLost>>,
    pub open: Cell<bool>,
}

impl Memory {
    pub fn new() -> Rc<Self> {
        Rc::new(Self {
            reactor: virtual_time_reactor(),
            receiver: RefCell::default(),
            written: RefCell::default(),
            paused: Cell::default(),
            reason: Cell::default(),
            open: Cell::new(true),
        })
    }

    pub fn receiver(&self) -> Rc<dyn Receiver> {
        self.receiver
            .borrow()
            .clone()
            .expect("there is a receiver until the end")
    }

    pub fn take_written(&self) -> String {
        self.written
            .take()
            .escape_ascii()
            .to_string()
            .replace("\\r\\n", "\r\n")
    }

    pub fn end(&self) {
        self.lose(ConnectionLost::Done);
        let receiver = self.receiver.take().expect("it ends once");
        receiver.connection_lost(self.reason.take().unwrap_or(ConnectionLost::Done));
    }

    fn lose(&self, reason: ConnectionLost) {
        if self.open.replace(false) {
            self.reason.set(Some(reason));
        }
    }
}

impl Stream for Memory {
    fn write(&self, data: &[u8]) {
        if self.open.get() {
            self.written.borrow_mut().extend_from_slice(data);
        }
    }

    fn lose_connection(&self, reason: ConnectionLost) {
        self.lose(reason);
    }

    fn abort_connection(&self, reason: ConnectionLost) {
        self.lose(reason);
    }

    fn lose_write_connection(&self) {}

    fn pause_reading(&self) {
        self.paused.set(true);
    }

    fn resume_reading(&self) {
        self.paused.set(false);
    }

    fn is_connected(&self) -> bool {
        self.open.get()
    }

    fn unsent(&self) -> usize {
        0
    }

    fn is_congested(&self) -> bool {
        false
    }

    fn flush(&self) -> Deferred<()> {
        succeed(())
    }

    fn limits(&self) -> Limits {
        Limits::default()
    }

    fn set_limits(&self, _: Limits) {}

    fn set_receiver(&self, receiver: Rc<dyn Receiver>) {
        self.receiver.replace(Some(receiver));
    }

    fn socket(&self) -> &dyn Socket {
        self
    }
}

impl Socket for Memory {
    fn peer(&self) -> Address {
        SocketAddr::from(([127, 0, 0, 1], 1)).into()
    }

    fn host(&self) -> Address {
        SocketAddr::from(([127, 0, 0, 1], 2)).into()
    }

    fn reactor(&self) -> Reactor {
        self.reactor.clone()
    }

    fn set_nodelay(&self, _: bool) {}
}
