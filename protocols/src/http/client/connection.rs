//! One connection of a client: a request goes out, its response comes in, and then the next.
//!
//! # An exchange's way
//!
//! ```text
//!   ┌──────┐ start  ┌──────┐   head    ┌──────┐  end, and all is sent   ┌──────┐
//!   │ free │ ─────▶ │ asks │ ────────▶ │ body │ ──────────────────────▶ │ free │ ─▶ the pool
//!   └──────┘        └──────┘           └──────┘                         └──────┘
//! ```
//!
//! Where the response says that the connection ends with it, comes before the request is all sent, or
//! is followed by what nobody asked for, it is closed instead.
//!
//! # Order
//!
//! The pool has the connection back before anybody hears that the response has come, or that its body
//! has ended: who then asks again finds it free.

use std::mem;
use std::rc::{Rc, Weak};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use torsade_deferred::Failure;
use torsade_reactor::{ConnectionLost, Protocol, Transport};

use super::super::body::{Body, Source};
use super::super::error::{BadMessage, BodyError};
use super::super::head::{Framing, ResponseHead};
use super::super::pipe::{self, Demand, Writer};
use super::super::response::Response;
use super::super::response_reader::{ResponseEvent, ResponseReader, StreamEnd};
use super::super::upgrade::Upgraded;
use super::error::{ClientErrorKind, Stage};
use super::exchange::Exchange;
use super::sending::Sending;
use super::watch::Watch;
use super::{ClientCore, Route, Settings};

/// A connection to a server.
pub(super) struct ClientConnection {
    client: Weak<ClientCore>,
    pub(super) settings: Rc<Settings>,
    route: Rc<Route>,
    id: u64,
    reader: ResponseReader,
    /// The exchange under way, and which of its legs this is; to the end of its response.
    exchange: Option<(Rc<Exchange>, u32)>,
    /// How many there have been.
    exchanges: u64,
    /// What of the request is not sent.
    pub(super) sending: Option<Sending>,
    /// The body that is under way.
    incoming: Option<Incoming>,
    /// The head has come.
    answered: bool,
    /// It can be used again, as far as is known.
    persistent: bool,
    /// It has been told to end.
    pub(super) ending: bool,
    /// The peer takes less than is written, and the connection says when that changes.
    pub(super) choked: bool,
    /// Reading is paused, by us.
    held: bool,
    /// What is to be said when the chunk at hand has been taken in.
    news: News,
    /// Requests of the callback at hand.
    pub(super) out: Vec<u8>,
    pub(super) watch: Watch,
}

/// A body that is under way.
enum Incoming {
    /// It has been taken whole; its end comes next.
    Whole,
    /// Somebody reads it.
    Wanted(Writer),
    /// Nobody wants it: so many bytes have been thrown away.
    Unwanted(u64),
}

impl Incoming {
    fn writer(&self) -> Option<&Writer> {
        match self {
            Self::Wanted(writer) => Some(writer),
            _ => None,
        }
    }

    fn into_writer(self) -> Option<Writer> {
        match self {
            Self::Wanted(writer) => Some(writer),
            _ => None,
        }
    }
}

/// What others hear when the connection is in order again.
#[derive(Default)]
struct News {
    /// Before the response.
    interims: Vec<(Rc<Exchange>, ResponseHead)>,
    answered: Option<(Rc<Exchange>, Response)>,
    ended: Option<(Writer, HeaderMap)>,
    /// The response is all there.
    complete: bool,
    /// What follows is another protocol's.
    switched: bool,
}

impl ClientConnection {
    pub(super) fn new(client: &Rc<ClientCore>, route: Rc<Route>, id: u64) -> Self {
        Self {
            client: Rc::downgrade(client),
            settings: Rc::clone(&client.settings),
            reader: ResponseReader::new(&client.settings.limits.message),
            route,
            id,
            exchange: None,
            exchanges: 0,
            sending: None,
            incoming: None,
            answered: false,
            persistent: true,
            ending: false,
            choked: false,
            held: false,
            news: News::default(),
            out: Vec::new(),
            watch: Watch::default(),
        }
    }

    /// Sends the request of an exchange.
    pub(super) fn start(&mut self, transport: &Transport<Self>, exchange: Rc<Exchange>) {
        if self.ending || !transport.is_connected() || !self.reader.is_idle() {
            return exchange.was_not_sent();
        }
        self.exchanges += 1;
        self.answered = false;
        self.persistent = exchange.is_persistent();
        self.reader
            .expect(&exchange.method(), exchange.asks_to_switch());
        self.out = self.lend_scratch();
        let framed = exchange.write_head(&mut self.out);
        let waits = exchange.expects_continue();
        let leg = exchange.leg();
        self.exchange = Some((exchange, leg));
        self.begin_sending(transport, framed, waits);
        self.leave(transport);
    }

    fn lend_scratch(&self) -> Vec<u8> {
        let client = self.client.upgrade();
        client.map_or_else(Vec::new, |client| client.lend_scratch())
    }

    /// Hands on what was written, and sees to what has to come next.
    pub(super) fn leave(&mut self, transport: &Transport<Self>) {
        self.send_out(transport);
        let scratch = mem::take(&mut self.out);
        if scratch.capacity() > 0
            && let Some(client) = self.client.upgrade()
        {
            client.return_scratch(scratch);
        }
        self.hold_or_resume(transport);
        let now = transport.reactor().now();
        self.keep_watch(transport, now);
    }

    /// Hands what was put together to the connection.
    pub(super) fn send_out(&mut self, transport: &Transport<Self>) {
        if !self.out.is_empty() {
            transport.write(&self.out);
            self.out.clear();
        }
    }

    fn take_in(&mut self, transport: &Transport<Self>, data: &[u8]) {
        let mut rest = data;
        loop {
            match self.reader.receive(&mut rest) {
                Ok(Some(ResponseEvent::Interim(head))) => {
                    if head.status == StatusCode::CONTINUE {
                        self.may_continue(transport);
                    }
                    self.interim_received(*head);
                }
                Ok(Some(ResponseEvent::Head(..)))
                    if self.reader.is_handed_on() && self.sending.is_some() =>
                {
                    // The server reads the rest of the body, or takes it for the other protocol: nobody can tell.
                    return self.refuse(transport, BadMessage::EarlySwitch);
                }
                Ok(Some(ResponseEvent::Head(head, framing))) => {
                    self.head_received(transport, *head, framing, &mut rest);
                }
                Ok(Some(ResponseEvent::Data(piece))) => self.body_received(transport, piece),
                Ok(Some(ResponseEvent::End(trailers))) => {
                    self.response_ended(trailers.unwrap_or_default());
                }
                Ok(None) => break,
                Err(bad) => return self.refuse(transport, bad),
            }
        }
        if self.news.switched {
            return self.hand_over(transport, rest);
        }
        if !rest.is_empty() {
            // What nobody asked for.
            self.persistent = false;
            if self.exchange.is_none() {
                self.end(transport);
            }
        }
    }

    fn interim_received(&mut self, head: ResponseHead) {
        if let Some((exchange, _)) = &self.exchange
            && exchange.interim_hook().is_some()
        {
            self.news.interims.push((Rc::clone(exchange), head));
        }
    }

    fn head_received(
        &mut self,
        transport: &Transport<Self>,
        head: ResponseHead,
        framing: Framing,
        rest: &mut &[u8],
    ) {
        self.persistent &= head.is_persistent() && framing != Framing::UntilClose;
        self.answered = true;
        if self.sending.as_ref().is_some_and(Sending::is_held_back) {
            // The server does not want the body; whether it waits for it, nobody knows.
            self.sending = None;
            self.persistent = false;
        }
        let body = if self.reader.is_handed_on() {
            self.news.switched = true;
            Body::empty()
        } else {
            self.body_of(transport, framing, rest)
        };
        let mut response = Response::new(body);
        *response.status_mut() = head.status;
        *response.version_mut() = if head.is_1_0 {
            http::Version::HTTP_10
        } else {
            http::Version::HTTP_11
        };
        *response.headers_mut() = head.headers;
        if let Some((exchange, _)) = &self.exchange {
            self.news.answered = Some((Rc::clone(exchange), response));
        }
    }

    /// The body of the response that begins: in memory, if all of it is there.
    fn body_of(&mut self, transport: &Transport<Self>, framing: Framing, rest: &mut &[u8]) -> Body {
        let whole = match framing {
            Framing::None => Some(Bytes::new()),
            Framing::Length(length) => match usize::try_from(length) {
                Ok(length) if length <= rest.len() => Some(Bytes::copy_from_slice(&rest[..length])),
                _ => None,
            },
            _ => None,
        };
        if let Some(whole) = whole {
            self.incoming = Some(Incoming::Whole);
            return match whole.is_empty() {
                true => Body::empty(),
                false => Source::Bytes(whole).into(),
            };
        }
        let (writer, reader) = pipe::pipe(self.settings.limits.unread);
        let (weak, number) = (transport.downgrade(), self.exchanges);
        writer.on_demand(move |demand| {
            if let Some(transport) = weak.upgrade() {
                transport.call(move |this, transport| {
                    this.body_demanded(transport, number, demand);
                });
            }
        });
        if framing == Framing::UntilClose {
            writer.ends_with_connection();
        }
        self.incoming = Some(Incoming::Wanted(writer));
        let length = match framing {
            Framing::Length(length) => Some(length),
            _ => None,
        };
        Body::of_pipe(reader, length)
    }

    fn body_received(&mut self, transport: &Transport<Self>, piece: &[u8]) {
        self.watch.note_progress();
        match &mut self.incoming {
            None | Some(Incoming::Whole) => {}
            Some(Incoming::Wanted(writer)) => writer.write(Bytes::copy_from_slice(piece)),
            Some(Incoming::Unwanted(discarded)) => {
                *discarded += piece.len() as u64;
                if *discarded > self.settings.limits.discarded {
                    self.drop_response(transport);
                }
            }
        }
    }

    /// Nobody wants the response, and there is too much of it to be thrown away.
    fn drop_response(&mut self, transport: &Transport<Self>) {
        self.ending = true;
        transport.abort_connection();
        self.incoming = None;
        if let Some((exchange, leg)) = self.exchange.take() {
            exchange.is_over(leg);
        }
    }

    fn response_ended(&mut self, trailers: HeaderMap) {
        self.news.complete = true;
        if let Some(writer) = self.incoming.take().and_then(Incoming::into_writer) {
            self.news.ended = Some((writer, trailers));
        }
    }

    /// Says what is to be said, when everything is in order.
    fn tell(&mut self, transport: &Transport<Self>) {
        let News {
            interims,
            answered,
            ended,
            complete,
            ..
        } = mem::take(&mut self.news);
        if complete {
            self.exchange_over(transport);
        }
        self.leave(transport);
        // Detach, then call.
        tell_interims(interims);
        if let Some((exchange, response)) = answered {
            exchange.answered(response, None);
        }
        if let Some((writer, trailers)) = ended {
            writer.finish(trailers);
        }
    }

    /// The response has ended: the connection is free, or over.
    fn exchange_over(&mut self, transport: &Transport<Self>) {
        if let Some((exchange, leg)) = self.exchange.take() {
            exchange.is_over(leg);
        }
        if self.sending.take().is_some() || transport.unsent() > 0 {
            // The server has answered, and does not want the rest.
            self.ending = true;
            return transport.abort_connection();
        }
        match self.client.upgrade() {
            Some(client) if self.persistent && !self.ending => {
                client.is_free(&self.route, self.id, transport.clone());
            }
            _ => self.end(transport),
        }
    }

    /// The connection is another protocol's from now on.
    fn hand_over(&mut self, transport: &Transport<Self>, rest: &[u8]) {
        let News {
            interims, answered, ..
        } = mem::take(&mut self.news);
        let exchange = self.exchange.take();
        let upgraded = Upgraded::new(Rc::clone(transport.stream()), rest.to_vec());
        self.ending = true;
        self.watch.stop();
        let client = self.client.upgrade();
        transport.leave(|_| {});
        if let Some(client) = client {
            client.connection_over(&self.route, self.id);
        }
        if let Some((exchange, leg)) = exchange {
            exchange.is_over(leg);
        }
        tell_interims(interims);
        if let Some((exchange, response)) = answered {
            exchange.answered(response, Some(upgraded));
        }
    }

    /// Ends it in order. Nothing is under way, or nothing that anybody wants.
    pub(super) fn end(&mut self, transport: &Transport<Self>) {
        if !self.ending {
            self.ending = true;
            self.send_out(transport);
            transport.lose_connection();
        }
    }

    /// The response breaks the rules.
    fn refuse(&mut self, transport: &Transport<Self>, bad: BadMessage) {
        let is_body = self.answered;
        self.break_off(transport, |exchange| match is_body {
            false => exchange.failure(ClientErrorKind::BadResponse(bad)),
            true => BodyError::Malformed(bad).into(),
        });
    }

    /// Something took too long.
    pub(super) fn time_out(&mut self, transport: &Transport<Self>, stage: Stage) {
        let limits = &self.settings.limits;
        let limit = match stage {
            Stage::Send => limits.send,
            Stage::Body => limits.body,
            _ => limits.head,
        };
        self.break_off(transport, |exchange| {
            exchange.failure(ClientErrorKind::Timeout { stage, limit })
        });
    }

    /// The exchange is given up.
    pub(super) fn give_up(
        &mut self,
        transport: &Transport<Self>,
        exchange: &Rc<Exchange>,
        failure: Failure,
    ) {
        let is_here = self
            .exchange
            .as_ref()
            .is_some_and(|(here, leg)| Rc::ptr_eq(here, exchange) && *leg == exchange.leg());
        if is_here {
            self.break_off(transport, |_| failure);
        } else {
            exchange.fail_with(failure);
        }
    }

    /// Ends the connection in the middle of an exchange, which gets this failure.
    pub(super) fn break_off(
        &mut self,
        transport: &Transport<Self>,
        failure: impl FnOnce(&Exchange) -> Failure,
    ) {
        self.ending = true;
        transport.abort_connection();
        self.fail_exchange(failure);
    }

    /// Whoever waits, for the head or for the body, gets this failure.
    fn fail_exchange(&mut self, failure: impl FnOnce(&Exchange) -> Failure) {
        let (sending, news) = (self.sending.take(), mem::take(&mut self.news));
        let writer = self.incoming.take().and_then(Incoming::into_writer);
        let Some((exchange, leg)) = self.exchange.take() else {
            return;
        };
        let failure = failure(&exchange);
        drop(sending);
        exchange.is_over(leg);
        tell_interims(news.interims);
        // The head came in the same chunk as what breaks the rest off.
        if let Some((exchange, response)) = news.answered {
            exchange.answered(response, None);
        }
        match writer {
            Some(writer) => writer.fail(failure),
            None if !self.answered => exchange.fail_with(failure),
            None => {}
        }
    }

    /// The server ended its stream, or the connection is lost.
    fn stream_over(&mut self, reason: String) {
        if self.exchange.is_none() {
            return;
        }
        if self.reader.has_begun() {
            let is_body = self.answered;
            return self.fail_exchange(|exchange| match is_body {
                false => exchange.failure(ClientErrorKind::ConnectionLost { reason }),
                true => BodyError::lost(reason).into(),
            });
        }
        let (sending, was_reused) = (self.sending.take(), self.exchanges > 1);
        let exchange = self.exchange.take();
        drop(sending);
        if let Some((exchange, _)) = exchange {
            exchange.was_not_answered(reason, was_reused);
        }
    }

    /// Whoever reads a body has begun to, has made room, or has gone.
    fn body_demanded(&mut self, transport: &Transport<Self>, number: u64, demand: Demand) {
        if number != self.exchanges || self.ending {
            return;
        }
        if demand == Demand::Gone && self.incoming.is_some() {
            let unwanted = self.incoming.replace(Incoming::Unwanted(0));
            let limit = self.settings.limits.discarded;
            let too_much = self.reader.left().is_some_and(|left| left > limit);
            if too_much || self.sending.is_some() || !self.persistent {
                self.drop_response(transport);
            }
            drop(unwanted);
        }
        self.leave(transport);
    }

    /// Reads from the peer as long as what comes can be taken in.
    fn hold_or_resume(&mut self, transport: &Transport<Self>) {
        let writer = self.incoming.as_ref().and_then(Incoming::writer);
        let hold = writer.is_some_and(Writer::is_full) && !self.ending;
        if hold && !self.held {
            transport.pause_reading();
        } else if !hold && self.held {
            transport.resume_reading();
        }
        self.held = hold;
    }

    /// What is waited for: the head, or the next piece of a body.
    pub(super) fn awaited(&self) -> Option<Stage> {
        if self.exchange.is_none() || self.ending {
            return None;
        }
        if !self.answered {
            return Some(if self.sending.is_some() {
                Stage::Send
            } else {
                Stage::Head
            });
        }
        (!self.held).then_some(Stage::Body)
    }

    pub(super) fn is_free(&self) -> bool {
        self.exchange.is_none() && !self.ending
    }

    pub(super) fn exchanges(&self) -> u64 {
        self.exchanges
    }
}

fn tell_interims(interims: Vec<(Rc<Exchange>, ResponseHead)>) {
    for (exchange, head) in interims {
        // The one before may have cancelled it.
        if let Some(hook) = exchange.interim_hook().filter(|_| exchange.is_awaited()) {
            hook.tell(head.status, &head.headers);
        }
    }
}

impl Protocol for ClientConnection {
    fn connection_made(&mut self, transport: &Transport<Self>) {
        let now = transport.reactor().now();
        self.keep_watch(transport, now);
    }

    fn data_received(&mut self, transport: &Transport<Self>, data: &[u8]) {
        if self.ending {
            return;
        }
        self.out = self.lend_scratch();
        self.take_in(transport, data);
        self.tell(transport);
    }

    fn read_connection_lost(&mut self, transport: &Transport<Self>) {
        if self.ending {
            return;
        }
        self.persistent = false;
        match self.reader.end_of_stream() {
            StreamEnd::Body => {
                self.response_ended(HeaderMap::new());
                self.tell(transport);
            }
            _ => {
                self.end(transport);
                self.stream_over("the server ended its stream".into());
            }
        }
    }

    fn write_paused(&mut self, _: &Transport<Self>) {
        self.choked = true;
    }

    fn write_resumed(&mut self, transport: &Transport<Self>) {
        self.choked = false;
        self.go_on(transport);
    }

    fn connection_lost(&mut self, reason: ConnectionLost) {
        self.watch.stop();
        self.ending = true;
        if let Some(client) = self.client.upgrade() {
            client.connection_over(&self.route, self.id);
        }
        self.stream_over(reason.to_string());
    }
}
