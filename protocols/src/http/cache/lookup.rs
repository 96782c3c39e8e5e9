//! A request comes to the cache: what becomes of it.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::rc::Rc;
use std::time::SystemTime;

use http::header::HOST;
use http::request::Parts;
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use torsade_deferred::{Deferred, Failure, Trigger, succeed};

use super::super::body::Body;
use super::super::client::ClientRequest;
use super::super::fetch::{InterimHook, PlainGet};
use super::super::kept::KeptResponse;
use super::super::response::Response;
use super::answer::{Content, Told, answer};
use super::flight::{Flight, Prior};
use super::freshness::{CacheControl, Reuse, Stored, also_invalidated, invalidates};
use super::status::{CacheStatus, Forwarded, UNAVAILABLE};
use super::store::CacheKey;
use super::{CacheCore, CacheTarget, Fetch, UNSHARED_MAX, plan};

/// What there is for a request.
enum Found {
    /// An answer.
    Answer(Rc<Stored>, Content, Reuse),
    /// An answer, if it still holds.
    Question(Prior, Forwarded),
    /// Nothing.
    Nothing(Forwarded),
    /// Nothing, and nobody may be asked: RFC 9111 §5.2.1.7.
    Unavailable,
}

/// A request on its way: without its body, of which it has none.
pub(super) struct Asked {
    pub(super) parts: Parts,
    pub(super) key: CacheKey,
    pub(super) next: Rc<dyn Fetch>,
    /// Hears of interim responses.
    pub(super) hook: Option<InterimHook>,
}

impl Asked {
    /// Sends that in its place.
    pub(super) fn send(
        &self,
        request: ClientRequest,
        hook: Option<&InterimHook>,
    ) -> Deferred<Response> {
        send(&self.next, request, hook)
    }
}

fn send(
    next: &Rc<dyn Fetch>,
    request: ClientRequest,
    hook: Option<&InterimHook>,
) -> Deferred<Response> {
    match hook {
        Some(hook) => next.fetch_with_interims(request, hook),
        None => next.fetch(request),
    }
}

impl CacheCore {
    pub(super) fn fetch(
        self: &Rc<Self>,
        request: ClientRequest,
        next: &Rc<dyn Fetch>,
        hook: Option<&InterimHook>,
    ) -> Deferred<Response> {
        let Some(now) = self.now() else {
            return send(next, request, hook);
        };
        let (target, host) = target_of(&request);
        let key = CacheKey::new(target, host);
        let has_body = !request.body().is_empty();
        if let Some(reason) = plan::goes_past(request.method(), request.headers(), has_body) {
            return self.go_past(request, (next, hook), reason);
        }
        let found = self.look_up(&key, request.headers(), now);
        let (parts, _) = request.into_parts();
        let asked = Asked {
            parts,
            key,
            next: Rc::clone(next),
            hook: hook.cloned(),
        };
        if let Found::Answer(..) | Found::Unavailable = found {
            let response = self.answer_now(&asked, &found, now);
            return succeed(response);
        }
        if asked.parts.method == Method::HEAD {
            return self.ask_for_head(asked, found);
        }
        let (trigger, deferred) = Deferred::new();
        self.ask(asked, found, trigger, true);
        deferred
    }

    /// The response to a request of which nothing but its target matters, if that is the same for all and fresh.
    pub(super) fn at_hand(&self, asked: &PlainGet<'_>) -> Option<KeptResponse> {
        let now = self.now()?;
        let key = CacheKey::of_plain(asked)?;
        // What is coming is later than what is stored.
        let flights = self.flights.borrow();
        if !flights.is_empty() && flights.contains_key(&key) {
            return None;
        }
        let mut store = self.store.borrow_mut();
        let kept = store.at_hand(&key, now, |stored, content| {
            let mut headers = stored.answer_headers(now);
            let status = CacheStatus::hit(stored.seconds_left(now));
            status.append_to(&mut headers, &self.name);
            KeptResponse::new(headers, content.clone())
        })?;
        self.count(|counts| counts.hits += 1);
        Some(kept)
    }

    /// As [`fetch`](Self::fetch) for one who has waited for an answer in vain: it asks for itself.
    pub(super) fn fetch_alone(self: &Rc<Self>, asked: Asked, trigger: Trigger<Response>) {
        let Some(now) = self.now() else {
            return drop(trigger);
        };
        let found = self.look_up(&asked.key, &asked.parts.headers, now);
        if let Found::Answer(..) | Found::Unavailable = found {
            let response = self.answer_now(&asked, &found, now);
            return trigger.callback(response);
        }
        self.ask(asked, found, trigger, false);
    }

    fn look_up(&self, key: &CacheKey, headers: &HeaderMap, now: SystemTime) -> Found {
        let is_only_if_cached = || CacheControl::of(headers).only_if_cached;
        // What is coming is later than what is stored.
        let is_any_coming = !self.flights.borrow().is_empty();
        if is_any_coming && let Some((stored, recording)) = self.coming(key, headers) {
            let reuse = stored.reuse(headers, now);
            if plan::is_used(reuse) {
                return Found::Answer(stored, Content::Coming(recording), reuse);
            }
        }
        let mut store = self.store.borrow_mut();
        let Some((stored, content)) = store.get(key, headers) else {
            let reason = match store.has_target(key) {
                true => Forwarded::VaryMiss,
                false => Forwarded::UriMiss,
            };
            return match is_only_if_cached() {
                true => Found::Unavailable,
                false => Found::Nothing(reason),
            };
        };
        match stored.reuse(headers, now) {
            Reuse::Unavailable => Found::Unavailable,
            Reuse::Validate => {
                let reason = plan::why_not_used(&stored, now);
                Found::Question(Prior { stored, content }, reason)
            }
            reuse => Found::Answer(stored, Content::Whole(content), reuse),
        }
    }

    /// Answers from what is stored.
    fn answer_now(self: &Rc<Self>, asked: &Asked, found: &Found, now: SystemTime) -> Response {
        let Found::Answer(stored, content, reuse) = found else {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
            let status = CacheStatus {
                detail: Some(UNAVAILABLE),
                ..CacheStatus::default()
            };
            status.append_to(response.headers_mut(), &self.name);
            return response;
        };
        self.count(|counts| counts.hits += 1);
        let status = CacheStatus::hit(stored.seconds_left(now));
        let response = self.respond(stored, content, &asked.parts, Told::WithAge, &status);
        if let (Reuse::Revalidate, Content::Whole(content)) = (reuse, content) {
            let prior = Prior {
                stored: Rc::clone(stored),
                content: content.clone(),
            };
            self.ask_in_background(asked, prior);
        }
        response
    }

    /// The response that a stored answer is for a request.
    pub(super) fn respond(
        &self,
        stored: &Stored,
        content: &Content,
        parts: &Parts,
        told: Told,
        status: &CacheStatus,
    ) -> Response {
        let now = self.now().unwrap_or(stored.received_at());
        let (method, headers) = (&parts.method, &parts.headers);
        let mut response = answer(stored, content, method, headers, now, told);
        status.append_to(response.headers_mut(), &self.name);
        response
    }

    fn ask_in_background(self: &Rc<Self>, asked: &Asked, prior: Prior) {
        if self.is_being_asked(&asked.key, &prior) {
            return;
        }
        let mut parts = asked.parts.clone();
        parts.method = Method::GET;
        plan::ask_for_all(&mut parts.headers);
        let asked = Asked {
            parts,
            key: asked.key.clone(),
            next: Rc::clone(&asked.next),
            // Who asked has its answer.
            hook: None,
        };
        Flight::begin(self, asked, Some(prior), Forwarded::Stale, None, true);
    }

    /// Asks the origin, or waits for what somebody else has asked it.
    fn ask(
        self: &Rc<Self>,
        asked: Asked,
        found: Found,
        trigger: Trigger<Response>,
        may_share: bool,
    ) {
        let (prior, reason) = match found {
            Found::Question(prior, reason) => (Some(prior), reason),
            Found::Nothing(reason) => (None, reason),
            Found::Answer(..) | Found::Unavailable => unreachable!("it has been answered"),
        };
        let headers = &asked.parts.headers;
        let is_shared = may_share && !self.unshared.borrow().contains(&hash(&asked.key));
        if is_shared && plan::may_wait(headers) {
            let flight = self.flight_for(&asked.key, headers);
            if let Some(flight) = flight {
                return flight.join(asked, trigger);
            }
        }
        // Its own conditions are replaced if there is something to validate.
        let is_open = is_shared && (plan::asks_for_all(headers) || prior.is_some());
        let is_open = is_open && plan::may_wait(headers);
        Flight::begin(self, asked, prior, reason, Some(trigger), is_open);
    }

    /// RFC 9111 §4.3.5: asks for the head alone. What it says is also news of what is stored.
    fn ask_for_head(self: &Rc<Self>, asked: Asked, found: Found) -> Deferred<Response> {
        let (Found::Question(_, reason) | Found::Nothing(reason)) = found else {
            unreachable!("it has been answered");
        };
        self.count(|counts| counts.forwarded += 1);
        let Asked {
            parts,
            key,
            next,
            hook,
        } = asked;
        let (core, headers) = (Rc::clone(self), parts.headers.clone());
        let requested_at = self.now();
        let request = Request::from_parts(parts, Body::empty());
        let sent = send(&next, request, hook.as_ref());
        sent.map(move |mut response| {
            let times = requested_at.zip(core.now());
            if let (StatusCode::OK, Some((requested_at, now))) = (response.status(), times) {
                let mut store = core.store.borrow_mut();
                store.refresh_by_head(&key, &headers, response.headers(), requested_at, now);
            }
            let status = CacheStatus::forwarded(reason);
            status.append_to(response.headers_mut(), &core.name);
            response
        })
    }

    /// Sends what is none of a cache's business. If it changes something, what is stored of that is over
    /// (RFC 9111 §4.4).
    fn go_past(
        self: &Rc<Self>,
        request: ClientRequest,
        (next, hook): (&Rc<dyn Fetch>, Option<&InterimHook>),
        reason: Forwarded,
    ) -> Deferred<Response> {
        self.count(|counts| counts.forwarded += 1);
        let method = request.method().clone();
        let (target, host) = target_of(&request);
        let (target, host) = (target.clone(), host.map(str::to_owned));
        let core = Rc::clone(self);
        let sent = send(next, request, hook);
        sent.add_both(move |outcome: Result<Response, Failure>| {
            let said = outcome.as_ref().ok();
            let said = said.map(|response| (response.status(), response.headers()));
            core.note_change(&method, &target, host.as_deref(), said);
            let mut response = outcome?;
            let status = CacheStatus::forwarded(reason);
            status.append_to(response.headers_mut(), &core.name);
            Ok(response)
        })
    }

    /// RFC 9111 §4.4: what a request that went past the cache ends there; `None` if nobody knows whether it was done.
    pub(super) fn note_change(
        &self,
        method: &Method,
        target: &Uri,
        host: Option<&str>,
        said: Option<(StatusCode, &HeaderMap)>,
    ) {
        let is_changed = match said {
            Some((status, _)) => invalidates(method, status),
            None => !plan::is_safe(method),
        };
        if !is_changed {
            return;
        }
        self.invalidate(&CacheKey::new(target, host));
        let also = said.map(|(_, headers)| also_invalidated(target, headers));
        for also in also.into_iter().flatten() {
            self.invalidate(&CacheKey::new(&also, host));
        }
    }

    /// What is stored for that target is over, and what is under way for it.
    pub(super) fn invalidate(&self, key: &CacheKey) {
        self.store.borrow_mut().invalidate(key);
        let flights = self.flights.borrow_mut().remove(key);
        for flight in flights.into_iter().flatten() {
            flight.is_overtaken();
        }
    }

    pub(super) fn clear(&self) {
        self.store.borrow_mut().clear();
        let flights = self.flights.take();
        for flight in flights.into_values().flatten() {
            flight.is_overtaken();
        }
    }

    /// Nobody waits for an answer to that target again, until one can be stored.
    pub(super) fn set_shared(&self, key: &CacheKey, is_shared: bool) {
        let mut unshared = self.unshared.borrow_mut();
        if is_shared {
            unshared.remove(&hash(key));
            return;
        }
        if unshared.len() >= UNSHARED_MAX {
            unshared.clear();
        }
        unshared.insert(hash(key));
    }
}

/// Two targets with one hash: one of them does not wait where it could.
fn hash(key: &CacheKey) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

/// What a request is for: its target, and what it says in `Host`.
fn target_of(request: &ClientRequest) -> (&Uri, Option<&str>) {
    let target = request.extensions().get::<CacheTarget>();
    let target = target.map_or(request.uri(), |CacheTarget(target)| target);
    let host = request.headers().get(HOST);
    (target, host.and_then(|host| host.to_str().ok()))
}
