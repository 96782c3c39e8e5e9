//! A request that is under way to the origin, and who waits for its answer.
//!
//! ```text
//!   ┌────────┐  a head that may be stored   ┌────────┐  the end of the body   ┌──────┐
//!   │ Asking │ ───────────────────────────▶ │ Coming │ ─────────────────────▶ │ Over │
//!   └────────┘                              └────────┘                        └──────┘
//!        └────── nobody waits, any other answer, a failure ──────────────────────▲
//! ```

use std::cell::{Cell, RefCell};
use std::mem;
use std::rc::{Rc, Weak};
use std::time::SystemTime;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use torsade_deferred::{Canceller, Failure, Trigger};

use super::super::body::{Body, Source};
use super::super::client::{ClientRequest, RedirectedTo};
use super::super::fetch::InterimHook;
use super::super::response::Response;
use super::answer::{Content, Told};
use super::freshness::{Exchange, Stored};
use super::lookup::Asked;
use super::recording::{Keeper, Recording};
use super::status::{CacheStatus, Forwarded, STAND_IN};
use super::store::{CacheKey, CacheStore};
use super::{CacheCore, plan};

/// What is stored, and may still hold.
pub(super) struct Prior {
    pub(super) stored: Rc<Stored>,
    pub(super) content: Bytes,
}

pub(super) struct Flight {
    core: Weak<CacheCore>,
    asked: Asked,
    prior: Option<Prior>,
    reason: Forwarded,
    requested_at: SystemTime,
    /// Others may wait for it.
    is_open: bool,
    /// The cache asks for itself: nobody need wait for it.
    is_background: bool,
    /// What comes may be stored: nothing has been changed meanwhile.
    may_store: Cell<bool>,
    /// What comes is read to its end, although nobody takes it.
    is_kept_for_itself: Cell<bool>,
    waiters: RefCell<Vec<Waiter>>,
    /// The number of the next waiter.
    next_waiter: Cell<u64>,
    canceller: RefCell<Option<Canceller>>,
    stage: RefCell<Stage>,
}

/// An answer that may be used.
struct Holding<'a> {
    stored: &'a Stored,
    content: &'a Content,
    /// Fields that are for who asked first, and nobody else.
    own: &'a [(HeaderName, HeaderValue)],
}

enum Stage {
    Asking,
    Coming {
        stored: Rc<Stored>,
        recording: Rc<Recording>,
    },
    Over,
}

struct Waiter {
    number: u64,
    /// What it asked; `None` if it is the one who asked first.
    asked: Option<Asked>,
    trigger: Trigger<Response>,
}

impl Flight {
    /// Asks. `leader` is who is answered whatever comes; without one the cache asks for itself.
    pub(super) fn begin(
        core: &Rc<CacheCore>,
        asked: Asked,
        prior: Option<Prior>,
        reason: Forwarded,
        leader: Option<Trigger<Response>>,
        is_open: bool,
    ) {
        let Some(requested_at) = core.now() else {
            return;
        };
        let asks_not_to = super::freshness::CacheControl::of(&asked.parts.headers).no_store;
        let flight = Rc::new(Self {
            core: Rc::downgrade(core),
            prior,
            reason,
            requested_at,
            is_open,
            is_background: leader.is_none(),
            may_store: Cell::new(!asks_not_to),
            is_kept_for_itself: Cell::new(false),
            waiters: RefCell::default(),
            next_waiter: Cell::new(0),
            canceller: RefCell::new(None),
            stage: RefCell::new(Stage::Asking),
            asked,
        });
        if let Some(trigger) = leader {
            flight.add_waiter(None, trigger);
        }
        flight.take_off(core);
    }

    fn take_off(self: &Rc<Self>, core: &Rc<CacheCore>) {
        core.count(|counts| counts.forwarded += 1);
        {
            let mut flights = core.flights.borrow_mut();
            let under_way = flights.entry(self.asked.key.clone()).or_default();
            under_way.push(Rc::clone(self));
        }
        let going = self.asked.send(self.question(), self.hook().as_ref());
        self.canceller.replace(Some(going.canceller()));
        let (core, flight) = (Rc::clone(core), Rc::clone(self));
        drop(going.add_both(move |outcome| flight.arrived(&core, outcome)));
        // Whoever waited may have gone while it was asked.
        self.look_for_waiters();
    }

    /// What the origin is asked.
    fn question(&self) -> ClientRequest {
        let mut parts = self.asked.parts.clone();
        if let Some(prior) = &self.prior {
            prior.stored.add_validation(&mut parts.headers);
        }
        Request::from_parts(parts, Body::empty())
    }

    /// Who hears of interim responses: who asked first, as long as it waits.
    fn hook(self: &Rc<Self>) -> Option<InterimHook> {
        let hook = self.asked.hook.clone()?;
        let weak = Rc::downgrade(self);
        Some(InterimHook::new(move |status, headers| {
            // Detach, then call: it may cancel.
            if weak.upgrade().is_some_and(|flight| flight.has_leader()) {
                hook.tell(status, headers);
            }
        }))
    }

    /// Whether who asked first still waits.
    fn has_leader(&self) -> bool {
        let waiters = self.waiters.borrow();
        waiters.iter().any(|waiter| waiter.asked.is_none())
    }

    /// Waits for its answer.
    pub(super) fn join(self: &Rc<Self>, asked: Asked, trigger: Trigger<Response>) {
        self.add_waiter(Some(asked), trigger);
    }

    fn add_waiter(self: &Rc<Self>, asked: Option<Asked>, trigger: Trigger<Response>) {
        let number = self.next_waiter.get();
        self.next_waiter.set(number + 1);
        let weak = Rc::downgrade(self);
        trigger.on_cancel(move || {
            if let Some(flight) = weak.upgrade() {
                flight.leave(number);
            }
        });
        self.waiters.borrow_mut().push(Waiter {
            number,
            asked,
            trigger,
        });
    }

    fn leave(&self, number: u64) {
        let mut waiters = self.waiters.borrow_mut();
        let index = waiters.iter().position(|it| it.number == number);
        let gone = index.map(|index| waiters.remove(index));
        drop(waiters);
        drop(gone);
        self.look_for_waiters();
    }

    /// If nobody waits for it, it is given up.
    fn look_for_waiters(&self) {
        let is_asking = matches!(*self.stage.borrow(), Stage::Asking);
        if !is_asking || self.is_background || !self.waiters.borrow().is_empty() {
            return;
        }
        let canceller = self.canceller.take();
        // Not yet there: it is being asked.
        if let Some(canceller) = canceller {
            self.is_over();
            canceller.cancel();
        }
    }

    fn is_over(&self) {
        drop(self.stage.replace(Stage::Over));
        let Some(core) = self.core.upgrade() else {
            return;
        };
        let mut flights = core.flights.borrow_mut();
        let mut gone = None;
        if let Some(under_way) = flights.get_mut(&self.asked.key) {
            let index = under_way.iter().position(|it| std::ptr::eq(&**it, self));
            gone = index.map(|index| under_way.remove(index));
            if under_way.is_empty() {
                flights.remove(&self.asked.key);
            }
        }
        drop(flights);
        drop(gone);
    }

    /// What it asked for has been changed: what comes is not stored. The cache knows nothing of it any more.
    pub(super) fn is_overtaken(&self) {
        self.may_store.set(false);
        let recording = match &*self.stage.borrow() {
            Stage::Coming { recording, .. } => Some(Rc::clone(recording)),
            _ => None,
        };
        if let Some(recording) = recording {
            recording.stop_keeping();
        }
    }

    fn arrived(self: &Rc<Self>, core: &Rc<CacheCore>, outcome: Result<Response, Failure>) {
        if !matches!(*self.stage.borrow(), Stage::Asking) {
            return;
        }
        self.canceller.take();
        let waiters = self.waiters.take();
        let now = core.now().unwrap_or(self.requested_at);
        let response = match outcome {
            Ok(response) => response,
            Err(failure) => return self.failed(core, waiters, failure, now),
        };
        match &self.prior {
            Some(prior) if response.status() == StatusCode::NOT_MODIFIED => {
                let mut stored = Stored::clone(&prior.stored);
                let fields = response.headers();
                match stored.refresh(fields, self.requested_at, now) {
                    true => self.holds(core, waiters, stored.into(), prior, fields, now),
                    false => self.ask_anew(core, waiters),
                }
            }
            Some(prior) if plan::is_no_help(response.status()) => {
                let status = Some(response.status());
                let (helped, others): (Vec<_>, Vec<_>) = waiters
                    .into_iter()
                    .partition(|waiter| self.stands_in(core, prior, waiter, now));
                // Detach, then call: it is over before anybody is told.
                match others.is_empty() {
                    true => self.is_over(),
                    false => self.came(core, others, response, now),
                }
                self.tell_stand_in(core, prior, helped, status, now);
            }
            _ => self.came(core, waiters, response, now),
        }
    }

    /// Nothing came.
    fn failed(
        &self,
        core: &Rc<CacheCore>,
        waiters: Vec<Waiter>,
        failure: Failure,
        now: SystemTime,
    ) {
        self.is_over();
        let stood_in = |waiter: &Waiter| {
            let prior = self.prior.as_ref();
            prior.is_some_and(|prior| self.stands_in(core, prior, waiter, now))
        };
        let (helped, mut others): (Vec<_>, Vec<_>) = waiters.into_iter().partition(stood_in);
        if let Some(prior) = &self.prior {
            self.tell_stand_in(core, prior, helped, None, now);
        }
        // Whoever is alone with it can take it apart.
        let last = others.pop();
        for waiter in others {
            waiter.trigger.errback(failure.clone());
        }
        if let Some(waiter) = last {
            waiter.trigger.errback(failure);
        }
    }

    /// Whether what is stored stands in for what did not come.
    fn stands_in(&self, core: &CacheCore, prior: &Prior, waiter: &Waiter, now: SystemTime) -> bool {
        let headers = &self.parts_of(waiter).headers;
        let may = prior.stored.stands_in(headers, now, core.stands_in);
        may && self.may_store.get() && prior.stored.fits(headers)
    }

    fn parts_of<'a>(&'a self, waiter: &'a Waiter) -> &'a Parts {
        let asked = waiter.asked.as_ref().unwrap_or(&self.asked);
        &asked.parts
    }

    fn tell_stand_in(
        &self,
        core: &CacheCore,
        prior: &Prior,
        waiters: Vec<Waiter>,
        came: Option<StatusCode>,
        now: SystemTime,
    ) {
        let content = Content::Whole(prior.content.clone());
        for waiter in waiters {
            let status = CacheStatus {
                forwarded_status: came,
                collapsed: waiter.asked.is_some(),
                ttl: Some(prior.stored.seconds_left(now)),
                detail: Some(STAND_IN),
                ..CacheStatus::forwarded(self.reason)
            };
            let parts = self.parts_of(&waiter);
            let response = core.respond(&prior.stored, &content, parts, Told::WithAge, &status);
            waiter.trigger.callback(response);
        }
    }

    /// What is stored still holds: §4.3.4.
    fn holds(
        &self,
        core: &Rc<CacheCore>,
        waiters: Vec<Waiter>,
        stored: Rc<Stored>,
        prior: &Prior,
        came: &HeaderMap,
        now: SystemTime,
    ) {
        let own = stored.for_who_asked(came);
        core.count(|counts| counts.validated += 1);
        let key = &self.asked.key;
        if self.may_store.get() {
            let mut store = core.store.borrow_mut();
            if !stored.may_be_kept() {
                store.remove(key, &prior.stored);
            } else if self.may_share(&stored) {
                store.insert(key, Rc::clone(&stored), prior.content.clone());
            }
        }
        self.is_over();
        let content = Content::Whole(prior.content.clone());
        let status = CacheStatus {
            forwarded_status: Some(StatusCode::NOT_MODIFIED),
            ..CacheStatus::forwarded(self.reason)
        };
        let holding = Holding {
            stored: &stored,
            content: &content,
            own: &own,
        };
        self.tell(core, waiters, &holding, &status, now);
    }

    /// Whether others may have what was said to who asked: §3.5. If not, it is still unknown whether it holds for them.
    fn may_share(&self, stored: &Stored) -> bool {
        stored.may_be_shared(&self.asked.parts.headers)
    }

    /// What is stored is not what the origin means: §4.3.4. It is asked as if there were nothing.
    fn ask_anew(&self, core: &Rc<CacheCore>, waiters: Vec<Waiter>) {
        if let Some(prior) = &self.prior {
            let mut store = core.store.borrow_mut();
            store.remove(&self.asked.key, &prior.stored);
        }
        self.is_over();
        let asked = Asked {
            parts: self.asked.parts.clone(),
            key: self.asked.key.clone(),
            next: Rc::clone(&self.asked.next),
            hook: self.asked.hook.clone(),
        };
        let flight = Rc::new(Self {
            core: Rc::downgrade(core),
            asked,
            prior: None,
            reason: self.reason,
            requested_at: core.now().unwrap_or(self.requested_at),
            is_open: self.is_open,
            is_background: self.is_background,
            may_store: self.may_store.clone(),
            is_kept_for_itself: Cell::new(false),
            waiters: RefCell::default(),
            next_waiter: Cell::new(0),
            canceller: RefCell::new(None),
            stage: RefCell::new(Stage::Asking),
        });
        for waiter in waiters {
            flight.add_waiter(waiter.asked, waiter.trigger);
        }
        flight.take_off(core);
    }

    /// Another answer came.
    fn came(
        self: &Rc<Self>,
        core: &Rc<CacheCore>,
        waiters: Vec<Waiter>,
        response: Response,
        now: SystemTime,
    ) {
        let Some(stored) = self.stored(core, &response, now) else {
            return self.is_not_stored(core, waiters, response);
        };
        core.set_shared(&self.asked.key, true);
        let stored = Rc::new(stored);
        let status = CacheStatus {
            forwarded_status: self.prior.as_ref().map(|_| response.status()),
            stored: true,
            ..CacheStatus::forwarded(self.reason)
        };
        let announced = announced(&response);
        let own = stored.for_who_asked(response.headers());
        let whole = match response.into_body().source {
            // A copy, for the reasons of `Recording::join`.
            Source::Bytes(content) => Ok(Bytes::copy_from_slice(&content)),
            Source::Empty => Ok(Bytes::new()),
            source => Err(Body::from(source).into_reader()),
        };
        let source = match whole {
            Ok(content) => {
                let mut store = core.store.borrow_mut();
                store.insert(&self.asked.key, Rc::clone(&stored), content.clone());
                drop(store);
                self.is_over();
                let content = Content::Whole(content);
                let holding = Holding {
                    stored: &stored,
                    content: &content,
                    own: &own,
                };
                return self.tell(core, waiters, &holding, &status, now);
            }
            Err(None) => return self.is_over(),
            Err(Some(source)) => source,
        };
        let this: Rc<dyn Keeper> = Rc::<Self>::clone(self);
        let reserved = core.store.borrow().reserved();
        let recording = Recording::new(source, announced, Rc::downgrade(&this), reserved);
        self.stage.replace(Stage::Coming {
            stored: Rc::clone(&stored),
            recording: Rc::clone(&recording),
        });
        let content = Content::Coming(Rc::clone(&recording));
        let holding = Holding {
            stored: &stored,
            content: &content,
            own: &own,
        };
        let answers = self.answers(core, waiters, &holding, &status, now);
        // Who got 304, or asked for itself, takes nothing of it.
        self.is_kept_for_itself.set(!recording.is_taken());
        recording.start();
        drop((recording, content));
        self.deliver(core, answers);
    }

    /// What may be stored of it.
    fn stored(&self, core: &CacheCore, response: &Response, now: SystemTime) -> Option<Stored> {
        // What was redirected is an answer to another target.
        let is_elsewhere = response.extensions().get::<RedirectedTo>().is_some();
        if !self.may_store.get() || is_elsewhere {
            return None;
        }
        let stored = Stored::new(
            core.kind,
            &Exchange {
                method: &Method::GET,
                request: &self.asked.parts.headers,
                status: response.status(),
                response: response.headers(),
                requested_at: self.requested_at,
                received_at: now,
            },
        )?;
        let length = announced(response);
        if response
            .body()
            .length()
            .is_some_and(|it| Some(it) != length)
        {
            // It is not what it says.
            return None;
        }
        let length = length.unwrap_or_default();
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let fits = self.size(&stored, length) <= core.store.borrow().limits().entry;
        fits.then_some(stored)
    }

    fn size(&self, stored: &Stored, length: usize) -> usize {
        CacheStore::size(&self.asked.key, stored, 0).saturating_add(length)
    }

    /// It is for who asked alone.
    fn is_not_stored(&self, core: &Rc<CacheCore>, waiters: Vec<Waiter>, mut response: Response) {
        let status = response.status();
        if self.is_open && self.may_store.get() && !plan::is_no_help(status) {
            core.set_shared(&self.asked.key, false);
        }
        if let Some(prior) = &self.prior
            && plan::supersedes(status)
        {
            let mut store = core.store.borrow_mut();
            store.remove(&self.asked.key, &prior.stored);
        }
        self.is_over();
        let said = CacheStatus {
            forwarded_status: self.prior.as_ref().map(|_| status),
            ..CacheStatus::forwarded(self.reason)
        };
        said.append_to(response.headers_mut(), &core.name);
        let mut response = Some(response);
        for waiter in waiters {
            match waiter.asked {
                None => {
                    if let Some(response) = response.take() {
                        waiter.trigger.callback(response);
                    }
                }
                Some(asked) => core.fetch_alone(asked, waiter.trigger),
            }
        }
    }

    fn tell(
        &self,
        core: &Rc<CacheCore>,
        waiters: Vec<Waiter>,
        holding: &Holding<'_>,
        status: &CacheStatus,
        now: SystemTime,
    ) {
        let answers = self.answers(core, waiters, holding, status, now);
        self.deliver(core, answers);
    }

    /// What each of those who wait gets. Made before anybody is told.
    fn answers(
        &self,
        core: &CacheCore,
        waiters: Vec<Waiter>,
        holding: &Holding<'_>,
        status: &CacheStatus,
        now: SystemTime,
    ) -> Vec<(Waiter, Option<Response>)> {
        let (stored, content) = (holding.stored, holding.content);
        let answers = waiters.into_iter().map(|waiter| {
            let parts = self.parts_of(&waiter);
            let Some(asked) = &waiter.asked else {
                let mut response = core.respond(stored, content, parts, Told::AsItCame, status);
                let own = holding.own.iter().cloned();
                for (name, value) in own {
                    response.headers_mut().append(name, value);
                }
                return (waiter, Some(response));
            };
            let headers = &asked.parts.headers;
            // Also if it held, and is not for all any more.
            let is_theirs = stored.fits(headers) && stored.may_be_kept() && self.may_share(stored);
            if !is_theirs || !plan::is_used(stored.reuse(headers, now)) {
                return (waiter, None);
            }
            core.count(|counts| counts.collapsed += 1);
            let status = CacheStatus {
                collapsed: true,
                ..*status
            };
            let response = core.respond(stored, content, parts, Told::WithAge, &status);
            (waiter, Some(response))
        });
        answers.collect()
    }

    fn deliver(&self, core: &Rc<CacheCore>, answers: Vec<(Waiter, Option<Response>)>) {
        for (waiter, response) in answers {
            match (response, waiter.asked) {
                (Some(response), _) => waiter.trigger.callback(response),
                (None, Some(asked)) => core.fetch_alone(asked, waiter.trigger),
                (None, None) => unreachable!("who asked is answered"),
            }
        }
    }
}

/// How long the body says that it is.
fn announced(response: &Response) -> Option<u64> {
    let field = response.headers().get(CONTENT_LENGTH);
    match field {
        Some(field) => field.to_str().ok()?.parse().ok(),
        None => response.body().length(),
    }
}

impl Keeper for Flight {
    fn has_room(&self, held: usize, more: usize) -> bool {
        let Some(core) = self.core.upgrade() else {
            return false;
        };
        let stage = self.stage.borrow();
        let Stage::Coming { stored, .. } = &*stage else {
            return false;
        };
        let mut store = core.store.borrow_mut();
        let size = self.size(stored, held + more);
        self.may_store.get() && size <= store.limits().entry && store.make_room(more)
    }

    fn wants_rest(&self, left: Option<u64>) -> bool {
        let Some(core) = self.core.upgrade() else {
            return false;
        };
        let limit = core.store.borrow().limits().unwanted;
        self.is_kept_for_itself.get() || left.is_some_and(|left| left <= limit)
    }

    fn ended(&self, content: Option<Bytes>) {
        let stage = mem::replace(&mut *self.stage.borrow_mut(), Stage::Over);
        self.is_over();
        let Some(core) = self.core.upgrade() else {
            return;
        };
        if let (Stage::Coming { stored, .. }, Some(content), true) =
            (stage, content, self.may_store.get())
        {
            let mut store = core.store.borrow_mut();
            store.insert(&self.asked.key, stored, content);
        }
    }
}

impl CacheCore {
    /// What is coming for such a request, and can be had from its beginning.
    pub(super) fn coming(
        &self,
        key: &CacheKey,
        headers: &HeaderMap,
    ) -> Option<(Rc<Stored>, Rc<Recording>)> {
        if !plan::asks_for_all(headers) {
            return None;
        }
        let flights = self.flights.borrow();
        flights.get(key)?.iter().rev().find_map(|flight| {
            let stage = flight.stage.borrow();
            let Stage::Coming { stored, recording } = &*stage else {
                return None;
            };
            let is_it = stored.fits(headers) && recording.is_kept();
            is_it.then(|| (Rc::clone(stored), Rc::clone(recording)))
        })
    }

    /// A request that such a one may wait for.
    pub(super) fn flight_for(&self, key: &CacheKey, headers: &HeaderMap) -> Option<Rc<Flight>> {
        let flights = self.flights.borrow();
        let store = self.store.borrow();
        let is_it = |flight: &&Rc<Flight>| {
            let is_asking = matches!(*flight.stage.borrow(), Stage::Asking);
            let theirs = &flight.asked.parts.headers;
            is_asking && flight.is_open && !store.tells_apart(key, headers, theirs)
        };
        flights.get(key)?.iter().find(is_it).cloned()
    }

    /// Whether somebody asks already whether that holds.
    pub(super) fn is_being_asked(&self, key: &CacheKey, prior: &Prior) -> bool {
        let flights = self.flights.borrow();
        let under_way = flights.get(key).into_iter().flatten();
        let mut priors = under_way.filter_map(|flight| flight.prior.as_ref());
        priors.any(|it| Rc::ptr_eq(&it.stored, &prior.stored))
    }
}
