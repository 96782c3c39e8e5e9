//! One connection of a server: requests come in, answers go out in the same order.
//!
//! # A request's way
//!
//! ```text
//!              head                  handler answers              first in the line
//!   ┌──────┐ ───────▶ ┌─────────┐ ───────────────────▶ ┌──────────┐ ────────▶ ┌─────────┐ ──▶ sent
//!   │ none │          │ asked   │                      │ answered │           │ sending │
//!   └──────┘          └─────────┘                      └──────────┘           └─────────┘
//! ```
//!
//! Whether the next request is read meanwhile: yes, up to [`ServerLimits::pipelined`] of them; the handler
//! is called for each when its head has come and the body before it has ended.
//!
//! # Bounds
//!
//! Beside the limits: what is left of the chunk at hand, while requests wait.

use std::collections::VecDeque;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use torsade_deferred::{Deferred, Failure, Interrupted};
use torsade_reactor::{ConnectionLost, Limits, Protocol, Transport};

use super::super::body::Body;
use super::super::error::{BodyError, StatusError};
use super::super::head::{Framing, RequestHead};
use super::super::pipe::{self, Demand, Writer};
use super::super::reader::{Event, RequestReader};
use super::super::request::{Parts, Request};
use super::super::response::{Answer, Response};
use super::super::router::normalized;
use super::SiteCore;
use super::asked::{Asked, Facts};
use super::sending::{AccessDraft, Sending};
use super::watch::Watch;

/// A connection to a [`Site`](super::Site).
pub struct ServerConnection {
    pub(super) site: Rc<SiteCore>,
    id: u64,
    reader: RequestReader,
    /// What came and is not looked at yet: requests before it have to be answered first.
    rest: Vec<u8>,
    /// The body that is under way.
    pub(super) incoming: Option<Incoming>,
    /// Requests whose responses have not begun, in order.
    pub(super) asked: VecDeque<Asked>,
    /// One that has to be alone, and waits for those before it.
    waiting: Option<Box<Parts>>,
    /// The response that is being sent.
    pub(super) sending: Option<Sending>,
    next_number: u64,
    /// No further request is taken: the connection ends with the last response.
    pub(super) closing: bool,
    /// It has been told to end.
    pub(super) lost: bool,
    /// What comes next may be another protocol's: that depends on the answer to this request.
    at_crossing: Option<u64>,
    /// The connection is handed on: what is left is the next protocol's.
    pub(super) handing_over: bool,
    /// The client has ended its stream.
    read_ended: bool,
    /// The peer takes less than is written, and the connection says when that changes.
    pub(super) choked: bool,
    /// It did not, when something was handed to the connection last.
    pub(super) congested: bool,
    /// A call that goes on is scheduled.
    goes_on: bool,
    /// Reading is paused, by us.
    held: bool,
    /// Responses of the callback at hand.
    pub(super) out: Vec<u8>,
    pub(super) watch: Watch,
}

/// A body that is under way.
pub(super) struct Incoming {
    pub(super) number: u64,
    /// `None` when nobody wants it: the rest is thrown away.
    pub(super) writer: Option<Writer>,
    discarded: u64,
    /// The client waits for our word before it sends it.
    expects_continue: bool,
}

impl ServerConnection {
    pub(super) fn new(site: Rc<SiteCore>) -> Self {
        let reader = RequestReader::new(&site.limits.message);
        site.recycled.is_of(&site);
        Self {
            site,
            id: 0,
            reader,
            rest: Vec::new(),
            incoming: None,
            asked: VecDeque::new(),
            waiting: None,
            sending: None,
            next_number: 0,
            closing: false,
            lost: false,
            at_crossing: None,
            handing_over: false,
            read_ended: false,
            choked: false,
            congested: false,
            goes_on: false,
            held: false,
            out: Vec::new(),
            watch: Watch::default(),
        }
    }

    /// Does something that may write, and sends what was written.
    pub(super) fn enter(
        &mut self,
        transport: &Transport<Self>,
        work: impl FnOnce(&mut Self, Instant),
    ) {
        let reactor = transport.reactor();
        let now = reactor.now();
        self.site.calendar.set(&reactor, now);
        self.out = self.site.lend_scratch();
        self.note_congestion(transport);
        work(self, now);
        if self.read_ended && !self.handing_over {
            if !self.has_rest() {
                self.end_body();
                self.closing = true;
            }
            self.give_up_half_closed(transport);
        }
        if self.site.stopping.get() {
            self.wind_up(transport);
        }
        self.lose_if_done(transport);
        self.send_out(transport);
        let scratch = mem::take(&mut self.out);
        self.site.return_scratch(scratch);
        self.hold_or_resume(transport);
        self.go_on_later(transport);
        self.keep_watch(transport, now);
    }

    /// What was written so far has to leave first; nobody else says when it has.
    fn go_on_later(&mut self, transport: &Transport<Self>) {
        // Behind the last request nothing is taken in.
        let has_more =
            self.has_rest() && !self.closing && self.at_crossing.is_none() && self.has_room();
        let is_stuck = has_more || (self.sending.is_some() && transport.is_congested());
        if is_stuck && !self.choked && !self.lost && !self.goes_on {
            self.goes_on = true;
            let weak = transport.downgrade();
            transport.reactor().call_soon(move || {
                if let Some(transport) = weak.upgrade() {
                    transport.call(|this, transport| {
                        this.goes_on = false;
                        this.enter(transport, |this, now| this.go_on(transport, now));
                    });
                }
            });
        }
    }

    /// Whether there is something that came and was not taken in.
    fn has_rest(&self) -> bool {
        !self.rest.is_empty() || self.waiting.is_some()
    }

    /// Whether another request may be under way. RFC 9112 §9.3.2: beside safe ones, if it is safe itself.
    fn has_room(&self) -> bool {
        let under_way = self.asked.len() + usize::from(self.sending.is_some());
        under_way == 0
            || (under_way < self.site.limits.pipelined
                && self.waiting.is_none()
                && !self.is_alone())
    }

    /// Whether a request is under way that has to be alone.
    fn is_alone(&self) -> bool {
        // The first one: then it is the only one.
        let first = match &self.sending {
            Some(sending) => Some(&sending.facts),
            None => self.asked.front().map(|it| &it.facts),
        };
        first.is_some_and(|it| !it.is_safe)
    }

    /// Takes in what came, until it is used up or has to wait.
    fn take_in(&mut self, transport: &Transport<Self>, mut data: &[u8], now: Instant) {
        while self.can_take_more() {
            if let Some(parts) = self.waiting.take() {
                self.request_received(transport, parts, &mut data, now);
                continue;
            }
            if self.reader.is_in_body() {
                match self.reader.receive_body(&mut data) {
                    Ok(Some(Event::Data(piece))) => self.body_received(transport, piece),
                    Ok(Some(Event::End(trailers))) => {
                        self.body_ended(trailers.map(|trailers| *trailers).unwrap_or_default());
                    }
                    Ok(None) => return,
                    Err(bad) => return self.refuse(transport, bad),
                }
                continue;
            }
            if data.is_empty() {
                return;
            }
            let mut parts = self.site.recycled.take();
            match self.reader.receive_head(&mut data, &mut parts.head) {
                // RFC 9112 §9.3.2
                Ok(true) if self.is_unanswered() && !parts.head.method().is_safe() => {
                    self.waiting = Some(parts);
                }
                Ok(true) => self.request_received(transport, parts, &mut data, now),
                Ok(false) => return self.site.recycled.give_back(parts),
                Err(bad) => {
                    self.site.recycled.give_back(parts);
                    return self.refuse(transport, bad);
                }
            }
        }
        // What is behind the last request is nobody's, but a tunnel's if it becomes one.
        if !self.closing || self.handing_over || self.at_crossing.is_some() {
            self.rest.extend_from_slice(data);
        }
    }

    fn can_take_more(&self) -> bool {
        if self.closing {
            // The body of the last request may still be wanted.
            return self.incoming.is_some() && !self.lost;
        }
        // In the middle of a body, everything goes on: pipes have their own marks.
        self.incoming.is_some()
            || (self.at_crossing.is_none()
                && self.has_room()
                && !self.congested
                && self.out.len() < OUT_MAX)
    }

    /// Something was handed to the connection.
    pub(super) fn note_congestion(&mut self, transport: &Transport<Self>) {
        self.congested = transport.is_congested();
    }

    fn request_received(
        &mut self,
        transport: &Transport<Self>,
        mut parts: Box<Parts>,
        data: &mut &[u8],
        now: Instant,
    ) {
        let head = &parts.head;
        let number = self.next_number;
        self.next_number += 1;
        let access = self.site.access_log.as_ref().map(|_| {
            let begun = transport.reactor().system_time();
            Box::new(AccessDraft::new(head, begun, now))
        });
        let facts = Facts::new(head, number, access);
        // Behind a CONNECT with a body comes that, and no tunnel: RFC 9110 §9.3.6.
        let is_tunnel = facts.is_connect && head.framing() == Framing::None;
        if is_tunnel || head.wants_upgrade() {
            self.at_crossing = Some(number);
        }
        if !facts.persistent {
            self.closing = true;
        }
        let body_max = match &self.site.body_max {
            Some(limit) => limit(head.method(), &normalized(head.path())),
            None => self.site.limits.message.body,
        };
        if head.framing() != Framing::None {
            if let Err(bad) = self.reader.limit_body(body_max) {
                self.site.recycled.give_back(parts);
                return self.refuse_request(transport, facts, bad);
            }
            parts.body = self.take_body(transport, head, number, data);
        }
        parts.body_max = usize::try_from(body_max).unwrap_or(usize::MAX);
        parts.stream = Some(Rc::clone(transport.stream()));
        parts.place = (self.id, number);
        let request = Request::new(parts, Rc::clone(&self.site.recycled));
        let handled = catch_unwind(AssertUnwindSafe(|| self.site.handler.handle(request)));
        let is_its_turn = self.asked.is_empty() && self.sending.is_none();
        let mut interims = Vec::new();
        if self.site.has_interims() {
            interims = self.interims_of(&facts);
        } else if is_its_turn && let Ok(Answer::Body(body)) = handled {
            // As it mostly is: no answer is moved, only what is in it.
            return self.send_body(transport, facts, body);
        }
        let answer = handled.unwrap_or_else(|payload| {
            Answer::Failed(Failure::from(Interrupted::from_panic(&*payload)))
        });
        if is_its_turn {
            self.out.append(&mut interims);
            let response = match answer {
                Answer::Body(body) => return self.send_body(transport, facts, body),
                Answer::Kept(kept) => {
                    let mut facts = facts;
                    self.settle_facts(&mut facts);
                    return self.send_kept(transport, facts, &kept);
                }
                Answer::Now(response) => response,
                Answer::Failed(failure) => self.response_to(number, &failure),
                Answer::Later(deferred) => {
                    return self.answered_later(transport, facts, interims, deferred);
                }
            };
            return self.begin_response(transport, facts, response);
        }
        let outcome = match answer {
            Answer::Now(response) => Ok(response),
            Answer::Body(body) => Ok(Response::new(body)),
            Answer::Kept(kept) => Ok(kept.to_response()),
            Answer::Failed(failure) => Err(failure),
            Answer::Later(deferred) => {
                return self.answered_later(transport, facts, interims, deferred);
            }
        };
        self.asked.push_back(Asked {
            facts,
            answer: Some(outcome),
            interims,
        });
    }

    fn answered_later(
        &mut self,
        transport: &Transport<Self>,
        facts: Facts,
        interims: Vec<u8>,
        answer: Deferred<Response>,
    ) {
        let number = facts.number;
        self.asked.push_back(Asked {
            facts,
            answer: None,
            interims,
        });
        self.wait_for(transport, number, answer);
    }

    /// The body of the request that begins: in memory, if all of it is there.
    fn take_body(
        &mut self,
        transport: &Transport<Self>,
        head: &RequestHead,
        number: u64,
        data: &mut &[u8],
    ) -> Body {
        if let Some(whole) = self.reader.take_whole_body(data) {
            return Bytes::copy_from_slice(whole).into();
        }
        let (writer, reader) = pipe::pipe(self.site.limits.unread);
        let weak = transport.downgrade();
        writer.on_demand(move |demand| {
            if let Some(transport) = weak.upgrade() {
                transport.call(move |this, transport| {
                    this.body_demanded(transport, number, demand);
                });
            }
        });
        self.incoming = Some(Incoming {
            number,
            writer: Some(writer),
            discarded: 0,
            expects_continue: head.expects_continue(),
        });
        let length = match head.framing() {
            Framing::Length(length) => Some(length),
            _ => None,
        };
        Body::of_pipe(reader, length)
    }

    fn wait_for(
        &mut self,
        transport: &Transport<Self>,
        number: u64,
        mut deferred: Deferred<Response>,
    ) {
        if let Some(limit) = self.site.limits.answer {
            deferred = deferred.add_timeout(limit, &transport.reactor());
        }
        transport.when(deferred, move |this, transport, outcome| {
            this.enter(transport, |this, now| {
                this.answered(transport, number, outcome, now);
            });
        });
    }

    fn answered(
        &mut self,
        transport: &Transport<Self>,
        number: u64,
        outcome: Result<Response, Failure>,
        now: Instant,
    ) {
        let asked = self.asked.iter_mut().find(|it| it.facts.number == number);
        if let Some(asked) = asked {
            asked.answer = Some(outcome);
        }
        self.go_on(transport, now);
    }

    /// Sends what can be sent, and takes in what waited for that.
    fn go_on(&mut self, transport: &Transport<Self>, now: Instant) {
        loop {
            self.send_responses(transport);
            if !self.has_rest() || !self.can_take_more() {
                return;
            }
            let rest = mem::take(&mut self.rest);
            self.take_in(transport, &rest, now);
        }
    }

    /// Begins each response whose turn it is, and goes on with the one that is being sent.
    pub(super) fn send_responses(&mut self, transport: &Transport<Self>) {
        loop {
            if self.sending.is_some() && !self.pump(transport) {
                return self.offer_continue();
            }
            self.send_interims();
            let is_answered = self.asked.front().is_some_and(|it| it.answer.is_some());
            if !is_answered || self.lost {
                return self.offer_continue();
            }
            let Some(Asked {
                facts,
                answer: Some(outcome),
                ..
            }) = self.asked.pop_front()
            else {
                unreachable!("the first one is answered");
            };
            let response = match outcome {
                Ok(response) => response,
                Err(failure) => self.response_to(facts.number, &failure),
            };
            self.begin_response(transport, facts, response);
        }
    }

    /// Tells a client that waits for it to send its body: when somebody wants that, and every
    /// response before it has been sent.
    fn offer_continue(&mut self) {
        let Some(incoming) = self.incoming.as_mut().filter(|it| it.expects_continue) else {
            return;
        };
        let first = match &self.sending {
            Some(sending) => Some(sending.facts.number),
            None => self.asked.front().map(|it| it.facts.number),
        };
        let is_wanted = incoming.writer.as_ref().is_some_and(Writer::is_wanted);
        if is_wanted && first == Some(incoming.number) && self.sending.is_none() {
            incoming.expects_continue = false;
            self.out.extend_from_slice(CONTINUE);
        }
    }

    fn begin_response(
        &mut self,
        transport: &Transport<Self>,
        mut facts: Facts,
        response: Response,
    ) {
        self.settle_facts(&mut facts);
        self.start_sending(transport, facts, response);
    }

    /// A response that is nothing but a body.
    fn send_body(&mut self, transport: &Transport<Self>, mut facts: Facts, body: Body) {
        self.settle_facts(&mut facts);
        if !self.send_usual(transport, &mut facts, &body) {
            self.start_sending(transport, facts, Response::new(body));
        }
    }

    /// What is known of a request only when its response begins.
    fn settle_facts(&mut self, facts: &mut Facts) {
        if self.incoming.is_some() {
            self.drop_unwanted_body(facts);
        }
        let is_last = self.asked.is_empty();
        if self.site.stopping.get() && is_last {
            facts.persistent = false;
        }
    }

    /// The response comes before the end of its request's body: who holds that may read on; else
    /// the rest is thrown away, or is too much for that, and the connection ends.
    fn drop_unwanted_body(&mut self, facts: &mut Facts) {
        let Some(incoming) = &mut self.incoming else {
            return;
        };
        if incoming.number != facts.number {
            return;
        }
        if incoming.writer.as_ref().is_some_and(Writer::is_read) {
            // It may be the response's own body: then it has to be sent for before the head.
            if mem::take(&mut incoming.expects_continue) {
                self.out.extend_from_slice(CONTINUE);
            }
            return;
        }
        if incoming.expects_continue {
            // It will not send the body now, or will: nobody can tell. RFC 9110 §10.1.1.
            facts.persistent = false;
            self.closing = true;
        }
        let writer = incoming.writer.take();
        drop(writer);
    }

    fn body_received(&mut self, transport: &Transport<Self>, piece: &[u8]) {
        let limit = self.site.limits.discarded;
        let Some(incoming) = &mut self.incoming else {
            return;
        };
        incoming.expects_continue = false;
        self.watch.note_progress(piece.len());
        match &incoming.writer {
            Some(writer) if writer.is_read() => writer.write(Bytes::copy_from_slice(piece)),
            _ => {
                incoming.discarded += piece.len() as u64;
                if incoming.discarded > limit {
                    // Whatever is still to be answered is; then it ends.
                    self.incoming = None;
                    self.closing = true;
                    self.lose_if_done(transport);
                }
            }
        }
    }

    fn body_ended(&mut self, trailers: HeaderMap) {
        if let Some(writer) = self.incoming.take().and_then(|it| it.writer) {
            writer.finish(trailers);
        }
    }

    /// The client has ended its stream, and nothing of it is left: a body that is under way is cut.
    fn end_body(&mut self) {
        if self.has_rest() {
            return;
        }
        if let Some(writer) = self.incoming.take().and_then(|it| it.writer) {
            writer.fail(BodyError::lost("the client ended its stream").into());
        }
    }

    /// Whoever reads a body has begun to, has made room, or has gone.
    fn body_demanded(&mut self, transport: &Transport<Self>, number: u64, demand: Demand) {
        let incoming = self.incoming.as_mut().filter(|it| it.number == number);
        if let Some(incoming) = incoming
            && demand == Demand::Gone
        {
            let writer = incoming.writer.take();
            drop(writer);
        }
        self.enter(transport, |this, now| this.go_on(transport, now));
    }

    /// Ends the connection, if there is nothing more to send.
    pub(super) fn lose_if_done(&mut self, transport: &Transport<Self>) {
        if self.closing && self.asked.is_empty() && self.sending.is_none() && !self.lost {
            self.lost = true;
            self.send_out(transport);
            // The reactor would limit the time for all that is left; a client may take long for a long
            // response, as long as it takes something. See `watch.rs`.
            transport.set_limits(Limits {
                flush: LEAVING_MAX,
                ..transport.limits()
            });
            transport.lose_connection();
        }
    }

    /// The server stops: answers what is under way, and ends then.
    pub(super) fn wind_up(&mut self, transport: &Transport<Self>) {
        let is_idle = self.asked.is_empty()
            && self.sending.is_none()
            && !self.has_rest()
            && !self.reader.is_amid();
        if is_idle {
            self.closing = true;
            self.lose_if_done(transport);
        }
    }

    /// What comes next is another protocol's, or is not: the answer is there.
    pub(super) fn leave_crossing(&mut self, number: u64) {
        if self.at_crossing == Some(number) {
            self.at_crossing = None;
        }
    }

    pub(super) fn is_at_crossing(&self, number: u64) -> bool {
        self.at_crossing == Some(number)
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn next_unanswered(&self) -> Option<u64> {
        self.asked.front().map(|it| it.facts.number)
    }

    /// No response follows any more.
    pub(super) fn forget_requests(&mut self) {
        self.asked.clear();
        self.waiting = None;
        self.rest.clear();
    }

    pub(super) fn resume_sending(&mut self, transport: &Transport<Self>) {
        self.enter(transport, |this, now| this.go_on(transport, now));
    }

    /// What came and was not taken in: for the protocol that comes next.
    pub(super) fn take_rest(&mut self) -> Vec<u8> {
        mem::take(&mut self.rest)
    }

    /// Reads from the peer as long as what comes can be taken in.
    fn hold_or_resume(&mut self, transport: &Transport<Self>) {
        let is_full = self
            .incoming
            .as_ref()
            .and_then(|it| it.writer.as_ref())
            .is_some_and(|writer| writer.is_read() && writer.is_full());
        let is_at_crossing = self.at_crossing.is_some() && !self.lost;
        let hold = is_full || !self.rest.is_empty() || is_at_crossing;
        if hold && !self.held {
            transport.pause_reading();
        } else if !hold && self.held {
            transport.resume_reading();
        }
        self.held = hold;
    }

    /// Whether a body is expected from the peer, and taken.
    pub(super) fn is_taking_body(&self) -> bool {
        let waits_for_us = |it: &Incoming| it.expects_continue;
        !self.held && self.incoming.as_ref().is_some_and(|it| !waits_for_us(it))
    }

    pub(super) fn is_amid_head(&self) -> bool {
        self.reader.is_amid_head() && self.rest.is_empty()
    }

    pub(super) fn is_unanswered(&self) -> bool {
        !self.asked.is_empty() || self.sending.is_some()
    }

    pub(super) fn requests(&self) -> u64 {
        self.next_number
    }
}

/// Responses are handed to the connection when they are this much.
pub(super) const OUT_MAX: usize = 64 * 1024;

/// RFC 9110 §15.2.1.
/// How long the last response of a connection may take to leave, at whatever rate.
const LEAVING_MAX: Duration = Duration::from_secs(24 * 3600);

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

impl Protocol for ServerConnection {
    fn connection_made(&mut self, transport: &Transport<Self>) {
        self.id = self.site.connection_made(transport.downgrade());
        let now = transport.reactor().now();
        self.keep_watch(transport, now);
    }

    fn data_received(&mut self, transport: &Transport<Self>, data: &[u8]) {
        self.enter(transport, |this, now| {
            if this.rest.is_empty() {
                this.take_in(transport, data, now);
            } else {
                this.rest.extend_from_slice(data);
            }
            this.send_responses(transport);
        });
    }

    fn read_connection_lost(&mut self, transport: &Transport<Self>) {
        // Who has asked and ended its stream still gets its answers, as a rule: RFC 9112 §9.6.
        self.read_ended = true;
        self.enter(transport, |this, now| {
            this.end_body();
            this.go_on(transport, now);
        });
    }

    fn write_paused(&mut self, transport: &Transport<Self>) {
        self.choked = true;
        self.keep_watch(transport, transport.reactor().now());
    }

    fn write_resumed(&mut self, transport: &Transport<Self>) {
        self.choked = false;
        self.resume_sending(transport);
    }

    /// Whoever waits for an answer is told that there will be none.
    fn about_to_be_lost(&mut self, transport: &Transport<Self>) {
        self.enter(transport, |this, _| {
            this.closing = true;
            if let Some(asked) = this.asked.front_mut() {
                asked.facts.persistent = false;
                let status = StatusCode::SERVICE_UNAVAILABLE;
                let unanswered = || Err(StatusError::new(status).into());
                asked.answer.get_or_insert_with(unanswered);
            }
            this.send_responses(transport);
        });
    }

    fn connection_lost(&mut self, reason: ConnectionLost) {
        self.watch.stop();
        if let Some(writer) = self.incoming.take().and_then(|it| it.writer) {
            writer.fail(BodyError::lost(reason.to_string()).into());
        }
        if let Some(sending) = self.sending.take() {
            sending.broken_off(&self.site);
        }
        self.site.connection_over(self.id);
    }
}

impl std::fmt::Debug for ServerConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerConnection")
            .field("unanswered", &self.asked.len())
            .field("closing", &self.closing)
            .finish_non_exhaustive()
    }
}
