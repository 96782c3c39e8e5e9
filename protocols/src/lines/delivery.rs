//! Brings what came to the line receiver, one event at a time.
//!
//! # Order
//!
//! Before each event the loop asks anew whether there is to be another: the receiver
//! may have paused, lost the connection, changed the mode or given bytes back. What is
//! not delivered is kept, and [`GoOn::go_on`] starts with that.
//!
//! # Design
//!
//! The loop is the only place that delivers, and it never runs inside itself or inside
//! a method of the stream. Data that comes while it must not run is kept, in order.

use std::rc::Rc;

use torsade_reactor::{ConnectionLost, Visited};

use super::receiver::{LineReceiver, LineTransport};
use super::split::Event;
use super::stream::LineStream;
use crate::succession::Succession;

/// Goes on with what is kept.
pub(super) trait GoOn {
    fn go_on(self: Rc<Self>);
}

pub(super) struct Delivery<H: LineReceiver> {
    pub(super) transport: LineTransport<H>,
}

impl<H: LineReceiver> Delivery<H> {
    fn succession(&self) -> &Succession {
        &self.transport.stream().succession
    }

    pub(super) fn data_received(&self, data: &[u8]) {
        let stream = self.transport.stream();
        if stream.is_kept_empty() && stream.is_flowing() && !stream.is_delivering() {
            let used = self.deliver(data);
            stream.keep_rest(&data[used..]);
        } else {
            stream.keep(data);
        }
        self.deliver_kept();
        self.succession().tell_of_marks();
    }

    pub(super) fn read_connection_lost(&self) {
        self.transport.stream().set_read_ended();
        self.deliver_kept();
    }

    pub(super) fn write_paused(&self) {
        self.succession().set_choked(true);
        if !self.succession().is_begun() {
            self.transport.write_paused(H::write_paused);
        }
        self.succession().tell_of_marks();
    }

    pub(super) fn write_resumed(&self) {
        self.succession().set_choked(false);
        if !self.succession().is_begun() {
            self.transport.write_resumed(H::write_resumed);
        }
        self.succession().tell_of_marks();
        self.transport.stream().look_for_congestion();
        self.deliver_kept();
    }

    pub(super) fn about_to_be_lost(&self) {
        match self.succession().successor() {
            Some(successor) => successor.about_to_be_lost(),
            None => self.transport.call(H::about_to_be_lost),
        }
    }

    /// No end has come, and none will: nobody is called any more.
    pub(super) fn vanish(&self) {
        if let Some(successor) = self.transport.stream().take_successor() {
            successor.vanish();
        }
        self.transport.leave(|_| {});
    }

    pub(super) fn connection_lost(&self, reason: ConnectionLost) {
        match self.transport.stream().take_successor() {
            Some(successor) => {
                successor.connection_lost(reason);
                // The reason went to the one who spoke last.
                self.transport
                    .leave(|receiver| receiver.connection_lost(ConnectionLost::Done));
            }
            None => self
                .transport
                .leave(|receiver| receiver.connection_lost(reason)),
        }
    }

    fn deliver_kept(&self) {
        let stream = self.transport.stream();
        if stream.is_delivering() {
            return;
        }
        stream.give_up();
        while stream.is_flowing() && !stream.is_kept_empty() {
            let kept = stream.take_kept();
            let used = self.deliver(kept.rest());
            stream.put_back(kept, used);
            stream.give_up();
        }
        if !stream.is_flowing() {
            return;
        }
        stream.resume_below();
        if stream.take_read_ended() {
            match stream.succession.successor() {
                Some(successor) => successor.read_connection_lost(),
                None => self.transport.call(H::read_connection_lost),
            }
        }
    }

    /// Delivers `data`, as much as is wanted, and says how much that was.
    fn deliver(&self, data: &[u8]) -> usize {
        let stream = self.transport.stream();
        let mut rest = data;
        stream.set_delivering(true);
        while !rest.is_empty() && stream.is_flowing() && stream.is_in_order() {
            if let Some(successor) = stream.succession.successor() {
                successor.data_received(std::mem::take(&mut rest));
                break;
            }
            let visited = self.transport.visit(|receiver, transport| {
                deliver_next(receiver, transport, &mut rest);
            });
            match visited {
                Visited::Made => stream.look_for_congestion(),
                // It has left, or it panicked: nobody wants the rest.
                Visited::Over => rest = &[],
                // It is busy, in a method that this data came from inside of.
                Visited::Busy(_) => {
                    stream.set_delivering(false);
                    stream.schedule();
                }
            }
        }
        stream.set_delivering(false);
        if stream.is_held_up() {
            // What is unsent may be sent as soon as this callback returns; if it is not, the
            // stream below says so, and says when.
            stream.schedule();
        }
        data.len() - rest.len()
    }
}

impl<H: LineReceiver> GoOn for Delivery<H> {
    fn go_on(self: Rc<Self>) {
        let stream = self.transport.stream();
        stream.set_scheduled(false);
        stream.look_for_congestion();
        self.deliver_kept();
    }
}

/// Delivers the first event of `rest`.
fn deliver_next<H: LineReceiver>(receiver: &mut H, transport: &LineTransport<H>, rest: &mut &[u8]) {
    let stream: &LineStream = transport.stream();
    // Detach, then call: the event borrows the bytes, not the splitter.
    let event = stream.splitter.borrow_mut().next(rest);
    match event {
        Some(Event::Line(line)) => receiver.line_received(transport, &line),
        Some(Event::Raw(data)) => {
            stream.begin_raw(data);
            receiver.raw_data_received(transport, data);
            *rest = &data[data.len() - stream.end_raw()..];
        }
        Some(Event::TooLong(error)) => receiver.line_length_exceeded(transport, error),
        None => {}
    }
}
