//! One request and its response, over as many connections as that takes: retries and redirects.

use std::cell::{Cell, RefCell};
use std::mem;
use std::rc::{Rc, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use torsade_deferred::{Canceller, Failure, Trigger};
use torsade_reactor::{Address, DelayedCall, FilePart, Transport, WeakTransport};

use super::super::body::{Body, Source};
use super::super::encode;
use super::super::fetch::InterimHook;
use super::super::head::Framing;
use super::super::pipe::Reader;
use super::super::response::Response;
use super::super::upgrade::Upgraded;
use super::connection::ClientConnection;
use super::error::{ClientError, ClientErrorKind, Stage};
use super::redirect::{self, Step};
use super::url::Url;
use super::{ClientCore, RedirectedTo, Route, Settings};

/// A request under way.
pub(super) struct Exchange {
    client: Rc<ClientCore>,
    draft: RefCell<Draft>,
    route: RefCell<Rc<Route>>,
    /// It goes on in another protocol, with the origin and no proxy: through a tunnel, if there is one.
    tunnels: bool,
    reply: Cell<Option<Reply>>,
    place: RefCell<Place>,
    /// For the whole, and for its turn.
    timers: RefCell<[Option<DelayedCall>; 2]>,
    redirects: Cell<u32>,
    retried: Cell<bool>,
    /// Which of its connections it is on: what a former one says is not heard.
    leg: Cell<u32>,
}

/// Who waits for the response.
pub(super) enum Reply {
    Response(Trigger<Response>),
    /// And for the connection, if the server switches.
    Switch(Trigger<(Response, Option<Upgraded>)>),
}

pub(super) enum Place {
    Nowhere,
    /// With the cache, or whom that asks.
    Cached(Canceller),
    /// In the line, with this number.
    Waiting(u64),
    On(WeakTransport<ClientConnection>),
}

/// What is sent.
pub(super) struct Draft {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) content: Content,
    /// Asks to go on in another protocol.
    pub(super) asks_to_switch: bool,
    pub(super) expects_continue: bool,
    pub(super) manner: Manner,
    /// Who is told of interim responses.
    pub(super) hook: Option<InterimHook>,
}

/// How a request goes out, and its response comes back.
#[derive(Clone, Default)]
pub(in crate::http) enum Manner {
    /// With what the client adds, and as far as redirects lead.
    #[default]
    Asked,
    /// As it is, for a proxy; to nobody whom the guard refuses.
    PassedOn(Option<Guard>),
}

/// Whether somebody at this address may be asked.
pub(in crate::http) type Guard = Rc<dyn Fn(&Address) -> bool>;

/// A body that is sent.
pub(super) enum Content {
    Empty,
    Bytes(Bytes),
    File(FilePart),
    /// Can be sent once.
    Stream {
        reader: Rc<Reader>,
        length: Option<u64>,
    },
    /// It was sent, or it was begun to.
    Spent,
}

impl Content {
    pub(super) fn framing(&self) -> Framing {
        let length = match self {
            Self::Empty | Self::Spent => return Framing::None,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(part) => part.length,
            Self::Stream { reader, length } => match length {
                Some(0) => return Framing::None,
                Some(length) => *length,
                None if reader.is_complete() => reader.queued() as u64,
                None => return Framing::Chunked,
            },
        };
        Framing::Length(length)
    }

    fn is_replayable(&self) -> bool {
        matches!(self, Self::Empty | Self::Bytes(_) | Self::File(_))
    }

    pub(super) fn take(&mut self) -> Self {
        match self {
            Self::Empty => Self::Empty,
            Self::Bytes(bytes) => Self::Bytes(bytes.clone()),
            Self::File(part) => Self::File(part.clone()),
            Self::Stream { .. } | Self::Spent => mem::replace(self, Self::Spent),
        }
    }
}

impl Draft {
    /// Checks a request, and puts together what is sent.
    pub(super) fn new(
        settings: &Settings,
        url: Url,
        request: http::Request<Body>,
        manner: Manner,
    ) -> Result<Self, Failure> {
        let (parts, body) = request.into_parts();
        let (method, mut headers) = (parts.method, parts.headers);
        let refused = |method: &Method, problem| {
            let kind = ClientErrorKind::BadRequest(problem);
            ClientError::new(method.clone(), url.without_credentials(), kind)
        };
        let Body { source, media_type } = body;
        let mut content = match source {
            Source::Empty => Content::Empty,
            Source::Bytes(bytes) => Content::Bytes(bytes),
            Source::File(part) => Content::File(part),
            Source::Pipe { reader, length } => Content::Stream { reader, length },
            Source::Upgrade(_) => {
                let problem = "its body is the end of HTTP, which only a server can offer";
                return Err(refused(&method, problem).into());
            }
        };
        if let Err(problem) = check(&method, &mut headers, &mut content) {
            return Err(refused(&method, problem).into());
        }
        if matches!(manner, Manner::Asked) {
            if let Some(media_type) = media_type
                && content.framing() != Framing::None
                && !headers.contains_key(header::CONTENT_TYPE)
            {
                let value = HeaderValue::from_static(media_type);
                headers.insert(header::CONTENT_TYPE, value);
            }
            for (name, value) in &settings.credentials {
                if !headers.contains_key(name) {
                    headers.insert(name, value.clone());
                }
            }
        }
        if !headers.contains_key(header::AUTHORIZATION)
            && let Some(value) = url.authorization()
        {
            headers.insert(header::AUTHORIZATION, value);
        }
        let asks_to_switch = headers.contains_key(header::UPGRADE);
        let expects_continue = headers.contains_key(header::EXPECT);
        Ok(Self {
            method,
            url,
            headers,
            content,
            asks_to_switch,
            expects_continue,
            manner,
            hook: None,
        })
    }

    /// Whether it may be sent twice: RFC 9110 §9.2.2.
    fn is_repeatable(&self) -> bool {
        let is_idempotent = matches!(
            self.method,
            Method::GET
                | Method::HEAD
                | Method::OPTIONS
                | Method::TRACE
                | Method::PUT
                | Method::DELETE
        );
        is_idempotent && self.content.is_replayable()
    }
}

/// What [`check`] looks at. Most requests have none of them.
static CHECKED: [HeaderName; 4] = [
    header::TRANSFER_ENCODING,
    header::CONTENT_LENGTH,
    header::HOST,
    header::EXPECT,
];

/// What a caller may not say, or must not contradict: RFC 9112 §6.
fn check(
    method: &Method,
    headers: &mut HeaderMap,
    content: &mut Content,
) -> Result<(), &'static str> {
    if *method == Method::CONNECT {
        return Err("CONNECT is for proxies, which a client uses by itself");
    }
    if *method == Method::TRACE && content.framing() != Framing::None {
        return Err("TRACE has no body");
    }
    if !headers.keys().any(|name| CHECKED.contains(name)) {
        return Ok(());
    }
    if let Some(coding) = headers.remove(header::TRANSFER_ENCODING) {
        let is_ours = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
        if !is_ours || content.framing() != Framing::Chunked {
            return Err("its Transfer-Encoding is not that of its body");
        }
    }
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    if let Some(announced) = lengths.next() {
        let announced = announced.to_str().ok().and_then(|text| text.parse().ok());
        let fits = match (&mut *content, announced) {
            (Content::Stream { length, .. }, Some(announced)) if length.is_none() => {
                *length = Some(announced);
                true
            }
            (content, Some(announced)) => {
                content.framing() == Framing::Length(announced)
                    || (announced == 0 && content.framing() == Framing::None)
            }
            (_, None) => false,
        };
        if !fits || lengths.next().is_some() {
            return Err("its Content-Length is not that of its body");
        }
        headers.remove(header::CONTENT_LENGTH);
    }
    if headers.get_all(header::HOST).iter().count() > 1 {
        return Err("it has more than one Host");
    }
    match headers.get(header::EXPECT) {
        Some(value) if !value.as_bytes().eq_ignore_ascii_case(b"100-continue") => {
            Err("it expects something other than 100-continue")
        }
        _ => Ok(()),
    }
}

impl Exchange {
    /// Begins it.
    pub(super) fn begin(client: Rc<ClientCore>, draft: Draft, reply: Reply) {
        let is_asked = matches!(draft.manner, Manner::Asked);
        let tunnels = is_asked && matches!(reply, Reply::Switch(_));
        let route = client.route_to(&draft.url, tunnels);
        let limits = client.settings.limits;
        let exchange = Rc::new(Self {
            client,
            draft: RefCell::new(draft),
            route: RefCell::new(route),
            tunnels,
            reply: Cell::new(None),
            place: RefCell::new(Place::Nowhere),
            timers: RefCell::default(),
            redirects: Cell::new(0),
            retried: Cell::new(false),
            leg: Cell::new(0),
        });
        let weak = Rc::downgrade(&exchange);
        let cancel = move || {
            if let Some(exchange) = weak.upgrade() {
                // Who cancels knows what it means: no error of ours is told.
                let reply = exchange.reply.take();
                exchange.abandon(ClientErrorKind::Closed);
                drop(reply);
            }
        };
        match &reply {
            Reply::Response(trigger) => trigger.on_cancel(cancel),
            Reply::Switch(trigger) => trigger.on_cancel(cancel),
        }
        exchange.reply.set(Some(reply));
        if let Some(total) = limits.total {
            exchange.set_timer(TOTAL, total, Stage::Total);
        }
        exchange.go(false);
    }

    pub(super) fn route(&self) -> Rc<Route> {
        Rc::clone(&self.route.borrow())
    }

    /// Has itself sent, on whatever connection there is, or on a `fresh` one.
    fn go(self: &Rc<Self>, fresh: bool) {
        self.leg.set(self.leg.get() + 1);
        match &self.client.settings.cache {
            Some(cache) if self.is_cacheable() => self.go_through(cache),
            _ => self.client.acquire(self, fresh),
        }
    }

    /// Whether it is one that a cache knows what to do with.
    fn is_cacheable(&self) -> bool {
        let reply = self.reply.take();
        let is_plain = matches!(reply, Some(Reply::Response(_)));
        self.reply.set(reply);
        is_plain && !self.asks_to_switch() && !self.is_passed_on()
    }

    pub(super) fn client(&self) -> &Rc<ClientCore> {
        &self.client
    }

    pub(super) fn draft(&self) -> &RefCell<Draft> {
        &self.draft
    }

    /// It is there now.
    pub(super) fn stay(&self, place: Place) {
        drop(self.place.replace(place));
    }

    /// It has to wait for its turn.
    pub(super) fn is_waiting(self: &Rc<Self>, number: u64) {
        self.place.replace(Place::Waiting(number));
        let limits = &self.client.settings.limits;
        // Connecting has its own limits, which say more.
        let limit = limits.wait.max(limits.connect + limits.handshake);
        self.set_timer(TURN, limit, Stage::Waiting);
    }

    /// Here is a connection.
    pub(super) fn start_on(self: &Rc<Self>, transport: &Transport<ClientConnection>) {
        self.stop_timer(TURN);
        let address = transport.peer();
        if !self.may_ask(&address) {
            transport.lose_connection();
            return self.fail(ClientErrorKind::Forbidden { address });
        }
        self.place.replace(Place::On(transport.downgrade()));
        let handed = Handed(Some(Rc::clone(self)));
        transport.set_background(false);
        transport.call(move |connection, transport| {
            let mut handed = handed;
            if let Some(exchange) = handed.0.take() {
                connection.start(transport, exchange);
            }
        });
    }

    /// The connection ended before anything was sent on it.
    pub(super) fn was_not_sent(self: &Rc<Self>) {
        if self.is_awaited() {
            self.go(true);
        }
    }

    /// The connection ended before any of the response came: the request may be sent once more, if
    /// that can do no harm.
    pub(super) fn was_not_answered(self: &Rc<Self>, reason: String, was_reused: bool) {
        let may = was_reused && self.draft.borrow().is_repeatable() && self.is_awaited();
        if may && !self.retried.replace(true) {
            return self.go(true);
        }
        self.fail(ClientErrorKind::ConnectionLost { reason });
    }

    /// Whether the guard, if there is one, lets this address be asked; a proxy of our own always.
    fn may_ask(&self, address: &Address) -> bool {
        let guard = match &self.draft.borrow().manner {
            Manner::PassedOn(Some(guard)) => Rc::clone(guard),
            _ => return true,
        };
        let is_direct = self.route.borrow().is_direct();
        !is_direct || guard(address)
    }

    fn is_passed_on(&self) -> bool {
        matches!(self.draft.borrow().manner, Manner::PassedOn(_))
    }

    pub(super) fn is_awaited(&self) -> bool {
        let reply = self.reply.take();
        let is_awaited = reply.is_some();
        self.reply.set(reply);
        is_awaited
    }

    pub(super) fn method(&self) -> Method {
        self.draft.borrow().method.clone()
    }

    pub(super) fn asks_to_switch(&self) -> bool {
        self.draft.borrow().asks_to_switch
    }

    pub(super) fn interim_hook(&self) -> Option<InterimHook> {
        self.draft.borrow().hook.clone()
    }

    /// Whether it wants the server's word before it sends its body.
    pub(super) fn expects_continue(&self) -> bool {
        self.draft.borrow().expects_continue
    }

    /// Whether it lets the connection be used again.
    pub(super) fn is_persistent(&self) -> bool {
        let draft = self.draft.borrow();
        let Some(connection) = draft.headers.get(header::CONNECTION) else {
            return true;
        };
        let mut options = connection.as_bytes().split(|byte| *byte == b',');
        !options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
    }

    /// Writes the head, and gives the body and how that is framed: what the head says of it holds, whatever is known
    /// of the body when it is sent.
    pub(super) fn write_head(&self, out: &mut Vec<u8>) -> (Content, Framing) {
        let mut draft = self.draft.borrow_mut();
        let route = self.route.borrow();
        let target = if route.absolute {
            // RFC 9112 §3.2.4: of one without a path, a proxy makes `*`.
            draft.url.without_credentials().into()
        } else if draft.method == Method::OPTIONS && draft.url.is_whole_server() {
            "*".into()
        } else {
            draft.url.target()
        };
        encode::write_request_line(out, &draft.method, &target);
        let framing = draft.content.framing();
        let headers = &draft.headers;
        encode::write_request_fields(out, &draft.method, draft.url.host(), headers, framing);
        if matches!(draft.manner, Manner::Asked) {
            self.write_additions(out, &draft);
        }
        if route.absolute
            && let Some(authorization) = route.proxy_authorization()
        {
            encode::write_field(out, "proxy-authorization", authorization.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        (draft.content.take(), framing)
    }

    /// Writes what the client has to say by itself.
    fn write_additions(&self, out: &mut Vec<u8>, draft: &Draft) {
        let (settings, headers) = (&self.client.settings, &draft.headers);
        for (name, value) in &settings.defaults {
            if !headers.contains_key(name) {
                encode::write_field(out, name.as_str(), value.as_bytes());
            }
        }
        if settings.decodes && !headers.contains_key(header::ACCEPT_ENCODING) {
            // RFC 9110 §14.2: a range is of the bytes as they are sent.
            if !headers.contains_key(header::RANGE) {
                encode::write_field(out, "accept-encoding", b"gzip, deflate");
            }
        }
        if let Some(jar) = &settings.cookies
            && !headers.contains_key(header::COOKIE)
            && let Some(cookies) = self.client.cookies_for(jar, &draft.url)
        {
            encode::write_field(out, "cookie", cookies.as_bytes());
        }
    }

    /// Here is the response. A redirect is followed, unless it is for somebody else to see.
    pub(super) fn answered(self: &Rc<Self>, mut response: Response, upgraded: Option<Upgraded>) {
        let settings = &self.client.settings;
        let is_passed_on = self.is_passed_on();
        self.tell_cache(Some(&response));
        if let Some(jar) = &settings.cookies
            && !is_passed_on
            // What a server says to the cache is heeded there: see `caching.rs`.
            && !(settings.cache.is_some() && self.is_cacheable())
        {
            let draft = self.draft.borrow();
            self.client
                .keep_cookies(jar, &draft.url, response.headers());
        }
        match self.step(response.status(), response.headers()) {
            Ok(Step::Stay) => {}
            Ok(step) => {
                // What it says is thrown away.
                drop(response);
                return self.follow(step);
            }
            Err(kind) => {
                drop(response);
                return self.fail(kind);
            }
        }
        if self.redirects.get() > 0 {
            let uri = self.draft.borrow().url.uri().clone();
            response.extensions_mut().insert(RedirectedTo(uri));
        }
        if matches!(*self.place.borrow(), Place::Nowhere) {
            self.stop_timers();
        }
        if settings.decodes && !is_passed_on {
            response = super::decoding::decoded(response, settings.limits.decoded);
        }
        match self.reply.take() {
            Some(Reply::Response(trigger)) => trigger.callback(response),
            Some(Reply::Switch(trigger)) => trigger.callback((response, upgraded)),
            None => {}
        }
    }

    /// RFC 9111 §4.4: one that asks to switch goes past the cache, and may change what that has.
    fn tell_cache(&self, said: Option<&Response>) {
        let Some(cache) = &self.client.settings.cache else {
            return;
        };
        if self.is_passed_on() || self.is_cacheable() {
            return;
        }
        // Detach, then call: what is let go there may be somebody's.
        let (method, target, host) = {
            let draft = self.draft.borrow();
            let host = draft.headers.get(header::HOST);
            let host = host.and_then(|host| host.to_str().ok());
            let host = host.map(str::to_owned);
            (draft.method.clone(), draft.url.uri().clone(), host)
        };
        let said = said.map(|response| (response.status(), response.headers()));
        cache.note_change(&method, &target, host.as_deref(), said);
    }

    fn step(&self, status: StatusCode, headers: &HeaderMap) -> Result<Step, ClientErrorKind> {
        if !status.is_redirection() || self.is_passed_on() {
            return Ok(Step::Stay);
        }
        let draft = self.draft.borrow();
        let asked = redirect::Asked {
            url: &draft.url,
            method: &draft.method,
            replayable: draft.content.is_replayable(),
            redirects: self.redirects.get(),
        };
        redirect::step(&self.client.settings.redirects, asked, status, headers)
    }

    fn follow(self: &Rc<Self>, step: Step) {
        let Step::Go {
            url,
            method,
            with_body,
            crosses,
        } = step
        else {
            return;
        };
        self.redirects.set(self.redirects.get() + 1);
        self.retried.set(false);
        {
            let mut draft = self.draft.borrow_mut();
            draft.url = url;
            draft.method = method;
            if !with_body {
                draft.content = Content::Empty;
                draft.expects_continue = false;
                redirect::forget_body(&mut draft.headers);
            }
            if crosses {
                redirect::forget_origin(&mut draft.headers);
            }
            let route = self.client.route_to(&draft.url, self.tunnels);
            self.route.replace(route);
        }
        if self.is_awaited() {
            self.go(false);
        }
    }

    /// Nothing comes of it.
    pub(super) fn fail(&self, kind: ClientErrorKind) {
        let failure = self.failure(kind);
        self.fail_with(failure);
    }

    /// An error that says which request it is about.
    pub(super) fn failure(&self, kind: ClientErrorKind) -> Failure {
        let draft = self.draft.borrow();
        let url = draft.url.without_credentials();
        Failure::new(ClientError::new(draft.method.clone(), url, kind))
    }

    /// Gives up, wherever it is.
    fn abandon(self: &Rc<Self>, kind: ClientErrorKind) {
        match self.place.replace(Place::Nowhere) {
            Place::Nowhere => {}
            Place::Cached(canceller) => {
                // What it fails with then is not heard.
                self.leg.set(self.leg.get() + 1);
                canceller.cancel();
            }
            Place::Waiting(number) => {
                let route = self.route();
                self.client.leave_line(&route, number);
            }
            Place::On(transport) => {
                if let Some(transport) = transport.upgrade() {
                    let failure = self.failure(kind);
                    let exchange = Rc::clone(self);
                    return transport.call(move |connection, transport| {
                        connection.give_up(transport, &exchange, failure);
                    });
                }
            }
        }
        self.fail(kind);
    }

    pub(super) fn leg(&self) -> u32 {
        self.leg.get()
    }

    /// The response has come to its end, or nobody wants it any more.
    pub(super) fn is_over(&self, leg: u32) {
        if leg != self.leg.get() {
            return;
        }
        self.place.replace(Place::Nowhere);
        // Unless its head is still to be told, and may lead elsewhere.
        if !self.is_awaited() {
            self.stop_timers();
        }
    }

    /// Gives who waits this failure.
    pub(super) fn fail_with(&self, failure: Failure) {
        self.tell_cache(None);
        self.place.replace(Place::Nowhere);
        self.stop_timers();
        match self.reply.take() {
            Some(Reply::Response(trigger)) => trigger.errback(failure),
            Some(Reply::Switch(trigger)) => trigger.errback(failure),
            None => {}
        }
    }

    fn set_timer(self: &Rc<Self>, which: usize, limit: Duration, stage: Stage) {
        let Some(reactor) = self.client.reactor.upgrade() else {
            return;
        };
        let weak: Weak<Self> = Rc::downgrade(self);
        let timer = reactor.call_later(limit, move || {
            if let Some(exchange) = weak.upgrade() {
                exchange.abandon(ClientErrorKind::Timeout { stage, limit });
            }
        });
        if let Some(before) = self.timers.borrow_mut()[which].replace(timer) {
            before.cancel();
        }
    }

    fn stop_timer(&self, which: usize) {
        let timer = self.timers.borrow_mut()[which].take();
        if let Some(timer) = timer {
            timer.cancel();
        }
    }

    fn stop_timers(&self) {
        self.stop_timer(TOTAL);
        self.stop_timer(TURN);
    }
}

/// Which timer.
const TOTAL: usize = 0;
const TURN: usize = 1;

/// An exchange on its way to a connection, which may end before it takes it.
struct Handed(Option<Rc<Exchange>>);

impl Drop for Handed {
    fn drop(&mut self) {
        if let Some(exchange) = self.0.take() {
            exchange.was_not_sent();
        }
    }
}
