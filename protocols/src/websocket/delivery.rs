//! Brings what comes to the protocol, one event at a time.
//!
//! # Order
//!
//! Before each event the loop asks anew whether there is to be another: the protocol may have paused, or closed.
//! What is not delivered is kept, and [`GoOn::go_on`] starts with that.
//!
//! # Design
//!
//! As that of lines: the loop is the only place that delivers, and it never runs inside itself or inside a method
//! of the stream.

use std::cell::Cell;
use std::rc::{Rc, Weak};

use torsade_reactor::{ConnectionLost, DelayedCall, Receiver, Stream, Transport, Visited};

use super::codes::CloseCode;
use super::frames::{Event, Role};
use super::protocol::{Closed, Message, WebSocketProtocol, WebSocketTransport};
use super::settings::WebSocketLimits;
use super::stream::{Stage, WebSocketStream};
use crate::http::{ServerHold, Upgraded};
use crate::succession::Succession;

/// Goes on with what is kept.
pub(super) trait GoOn {
    fn go_on(self: Rc<Self>);
}

struct Delivery<P: WebSocketProtocol> {
    transport: WebSocketTransport<P>,
    /// The server waits for it.
    hold: Cell<Option<ServerHold>>,
    /// How long it does, when it stops.
    deadline: Cell<Option<DelayedCall>>,
    /// The protocol has had its last words.
    is_warned: Cell<bool>,
}

/// Seats a protocol on a connection that has switched.
pub(super) fn seat<P: WebSocketProtocol>(
    mut upgraded: Upgraded,
    role: Role,
    limits: WebSocketLimits,
    subprotocol: Option<String>,
    protocol: P,
) -> WebSocketTransport<P> {
    let hold = upgraded.hold_server();
    let (below, mut unused) = upgraded.into_parts();
    let stream = WebSocketStream::over(Rc::clone(&below), role, limits, subprotocol);
    let delivery = Rc::new(Delivery {
        transport: Transport::over(protocol, Rc::clone(&stream)),
        hold: Cell::default(),
        deadline: Cell::default(),
        is_warned: Cell::default(),
    });
    let weak = Rc::downgrade(&delivery);
    stream.set_delivery(weak as Weak<dyn GoOn>);
    if let Some(hold) = hold {
        let weak = Rc::downgrade(&delivery);
        hold.on_stop(move || {
            if let Some(delivery) = weak.upgrade() {
                delivery.server_stops();
            }
        });
        delivery.hold.set(Some(hold));
    }
    stream.start_timers();
    let transport = delivery.transport.clone();
    below.set_receiver(Rc::clone(&delivery) as Rc<dyn Receiver>);
    transport.call(P::opened);
    if !unused.is_empty() {
        delivery.take_in(&mut unused);
    }
    transport
}

impl<P: WebSocketProtocol> Delivery<P> {
    fn stream(&self) -> &Rc<WebSocketStream> {
        self.transport.stream()
    }

    fn succession(&self) -> &Succession {
        &self.stream().succession
    }

    fn take_in(&self, data: &mut [u8]) {
        let stream = self.stream();
        stream.set_heard();
        if stream.is_kept_empty() && stream.is_flowing() && !stream.is_delivering() {
            let used = self.deliver(data);
            stream.keep(&data[used..]);
        } else {
            stream.keep(data);
        }
        self.deliver_kept();
    }

    fn deliver_kept(&self) {
        let stream = self.stream();
        if stream.is_delivering() {
            return;
        }
        while stream.is_flowing() && !stream.is_kept_empty() {
            let mut kept = stream.take_kept();
            let used = self.deliver(kept.rest());
            stream.put_back(kept, used);
        }
        if !stream.is_flowing() {
            return;
        }
        stream.resume_below();
        if stream.take_read_ended() {
            stream.end_came();
        }
    }

    /// Delivers `data`, as much as is wanted, and says how much that was.
    fn deliver(&self, data: &mut [u8]) -> usize {
        let stream = self.stream();
        let length = data.len();
        let mut rest = data;
        stream.set_delivering(true);
        while !rest.is_empty() && stream.is_flowing() {
            if stream.stage() != Stage::Open {
                look_for_close(stream, &mut rest);
                continue;
            }
            if let Some(successor) = stream.succession.successor() {
                let event = stream.decoder.borrow_mut().next(&mut rest);
                match event {
                    Some(Event::Text(text)) => {
                        stream.set_messaged();
                        successor.data_received(text.as_bytes());
                    }
                    Some(Event::Binary(bytes)) => {
                        stream.set_messaged();
                        successor.data_received(&bytes);
                    }
                    Some(event) => control(stream, event),
                    None => {}
                }
                continue;
            }
            let visited = self.transport.visit(|protocol, transport| {
                deliver_next(protocol, transport, &mut rest);
            });
            match visited {
                Visited::Made => stream.look_for_congestion(),
                // It has left, or it panicked: nobody wants the rest.
                Visited::Over => rest = &mut [],
                // It is busy, in a method that this data came from inside of.
                Visited::Busy(_) => {
                    stream.set_delivering(false);
                    stream.schedule();
                    break;
                }
            }
        }
        stream.set_delivering(false);
        if stream.is_held_up() || stream.owes_pong() {
            // What is unsent may be sent as soon as this callback returns; if it is not, the stream below says so,
            // and says when.
            stream.schedule();
        }
        length - rest.len()
    }
}

/// Delivers the first event of `rest`.
fn deliver_next<P: WebSocketProtocol>(
    protocol: &mut P,
    transport: &WebSocketTransport<P>,
    rest: &mut &mut [u8],
) {
    let stream: &WebSocketStream = transport.stream();
    // Detach, then call: the event borrows the bytes, not the decoder.
    let event = stream.decoder.borrow_mut().next(rest);
    match event {
        Some(Event::Text(text)) => {
            stream.set_messaged();
            protocol.message_received(transport, Message::Text(&text));
        }
        Some(Event::Binary(bytes)) => {
            stream.set_messaged();
            protocol.message_received(transport, Message::Binary(&bytes));
        }
        Some(Event::Ping(payload)) => {
            stream.answer_ping(&payload);
            protocol.ping_received(transport, &payload);
        }
        Some(Event::Pong(payload)) => {
            stream.pong_came(&payload);
            protocol.pong_received(transport, &payload);
        }
        Some(event) => control(stream, event),
        None => {}
    }
}

/// What a control frame does by itself.
fn control(stream: &WebSocketStream, event: Event<'_>) {
    match event {
        Event::Ping(payload) => stream.answer_ping(&payload),
        Event::Pong(payload) => stream.pong_came(&payload),
        Event::Close(code, reason) => stream.close_came(code, reason),
        Event::Violated(violation) => stream.fail(violation),
        Event::Text(_) | Event::Binary(_) => {}
    }
}

/// Nobody is given anything any more: only the peer's Close counts.
fn look_for_close(stream: &WebSocketStream, rest: &mut &mut [u8]) {
    if stream.stage() == Stage::Leaving {
        *rest = &mut [];
        return;
    }
    let event = stream.decoder.borrow_mut().next(rest);
    if let Some(event @ (Event::Close(..) | Event::Violated(_))) = event {
        control(stream, event);
    }
}

impl<P: WebSocketProtocol> GoOn for Delivery<P> {
    fn go_on(self: Rc<Self>) {
        let stream = self.stream();
        stream.set_scheduled(false);
        stream.send_owed_pong();
        stream.look_for_congestion();
        stream.succession.tell_of_marks();
        self.deliver_kept();
    }
}

/// The end, when it is ours to bring about.
impl<P: WebSocketProtocol> Delivery<P> {
    /// The server stops: says so behind the protocol's last words, and has the peer say so, too.
    fn server_stops(self: &Rc<Self>) {
        self.set_deadline();
        if self.stream().stage() == Stage::Open {
            self.warn();
            // A protocol that is busy has its last words first.
            let close = |_: &mut P, transport: &WebSocketTransport<P>| {
                transport.close(CloseCode::GOING_AWAY, "");
            };
            self.transport.call(close);
        }
    }

    /// However much still moves: a peer that takes a little now and then would hold the server for hours.
    fn set_deadline(self: &Rc<Self>) {
        let (weak, reactor) = (Rc::downgrade(self), self.stream().socket().reactor());
        let deadline = reactor.call_later(self.stream().closing(), move || {
            if let Some(delivery) = weak.upgrade() {
                delivery.stream().is_too_late();
            }
        });
        self.deadline.set(Some(deadline));
    }

    /// The server waits for it no longer.
    fn let_go(&self) {
        if let Some(deadline) = self.deadline.take() {
            deadline.cancel();
        }
        drop(self.hold.take());
    }

    /// Once: whoever was told has nothing to say the second time.
    fn warn(&self) {
        if self.is_warned.replace(true) {
            return;
        }
        match self.succession().successor() {
            Some(successor) => successor.about_to_be_lost(),
            None => self.transport.call(P::about_to_be_lost),
        }
    }
}

impl<P: WebSocketProtocol> Receiver for Delivery<P> {
    fn data_received(self: Rc<Self>, data: &[u8]) {
        self.take_in(&mut data.to_vec());
    }

    fn data_received_mut(self: Rc<Self>, data: &mut [u8]) {
        self.take_in(data);
    }

    fn read_connection_lost(self: Rc<Self>) {
        self.stream().set_read_ended();
        self.deliver_kept();
    }

    fn write_paused(self: Rc<Self>) {
        self.stream().set_choked(true);
        if self.stream().stage() != Stage::Open {
            return;
        }
        match self.succession().is_begun() {
            true => self.succession().tell_of_marks(),
            false => self.transport.write_paused(P::write_paused),
        }
    }

    fn write_resumed(self: Rc<Self>) {
        self.stream().set_choked(false);
        if self.stream().stage() == Stage::Open {
            match self.succession().is_begun() {
                true => self.succession().tell_of_marks(),
                false => self.transport.write_resumed(P::write_resumed),
            }
        }
        self.stream().look_for_congestion();
        self.deliver_kept();
    }

    fn about_to_be_lost(self: Rc<Self>) {
        self.warn();
        self.stream().say_goodbye();
    }

    fn vanish(self: Rc<Self>) {
        // No end has come, and none will: nobody is called any more.
        self.stream().end();
        if let Some(successor) = self.succession().take() {
            successor.vanish();
        }
        self.transport.leave(|_| {});
        self.let_go();
    }

    fn connection_lost(self: Rc<Self>, lost: ConnectionLost) {
        let stream = Rc::clone(self.stream());
        // What is kept came before the end, and the peer's Close may be in it.
        if stream.stage() == Stage::Closing {
            self.deliver_kept();
        }
        let said = stream.end();
        let successor = stream.succession.take();
        let (told, lost) = match &successor {
            // The reason goes to the one who spoke last.
            Some(_) => (Some(lost), ConnectionLost::Done),
            None => (None, lost),
        };
        if let (Some(successor), Some(lost)) = (successor, told) {
            successor.connection_lost(lost);
        }
        let is_clean = said.is_some();
        let (code, reason) = said.unwrap_or((CloseCode::ABNORMAL, String::new()));
        let closed = Closed {
            code,
            reason,
            is_clean,
            lost,
        };
        self.transport.leave(|protocol| protocol.closed(closed));
        stream.fail_pings();
        // Order: who waits for the server hears of it when everybody on the connection has.
        self.let_go();
    }
}
