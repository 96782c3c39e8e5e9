//! What may be stored, and how long it may be used (RFC 9111).
//!
//! A [`Stored`] is an answer that may be used again, without its content: it says whether it fits a
//! request, whether it is fresh, and how to ask whether it still holds.
//!
//! # Not here
//!
//! What `Cache-Control` says: `control.rs`. Content, and where it is kept: see [`store`](super::store). Warnings (RFC 9111 §5.5
//! retired them) and parts: an answer with 206 is not stored.

use std::time::{Duration, SystemTime};

use http::header::{
    ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE, AGE, AUTHORIZATION, CACHE_CONTROL,
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_RANGE, DATE, ETAG, EXPIRES,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, LOCATION, PRAGMA, REFRESH, SET_COOKIE, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};

use super::super::conditional::{ETag, Validators};
use super::super::dates::{date_value, parse_date_value};
use super::super::forwarding::remove_hop_by_hop;
use super::super::values::{members, pieces};
use super::control::{SECONDS_MAX, seconds, withheld, withheld_by_name};

pub use super::control::CacheControl;

/// §4.2.2: how much of the time since its last change an answer is taken as fresh.
const HEURISTIC_DIVISOR: u32 = 10;

/// §4.2.2: and for how long at most, so that a mistake does not last.
const HEURISTIC_MAX: Duration = Duration::from_secs(86_400);

/// Whose cache it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CacheKind {
    /// One user's: a client's own.
    Private,
    /// Several users': a proxy's. What is meant for one of them is not kept.
    Shared,
}

/// What a cache does with a stored answer that fits a request (§4).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reuse {
    /// It answers with it.
    Fresh,
    /// It answers with it, although it is stale: the client said that it may.
    Stale,
    /// It answers with it, although it is stale, and asks meanwhile whether it still holds: the origin
    /// said that it may (RFC 5861 §3).
    Revalidate,
    /// It asks first whether it still holds.
    Validate,
    /// It would have to ask, and the client does not want that (`only-if-cached`): the answer is 504
    /// (§5.2.1.7).
    Unavailable,
}

/// A request and its answer, when they happened, and in whose cache: what a cache has to know of it.
#[derive(Clone, Debug)]
pub struct Stored {
    kind: CacheKind,
    status: StatusCode,
    headers: HeaderMap,
    /// Invariant: what `headers` says.
    control: CacheControl,
    /// §4.1: the fields of the request on which the answer depends, with the values that they had.
    selecting: Vec<(HeaderName, Vec<HeaderValue>)>,
    requested_at: SystemTime,
    received_at: SystemTime,
    /// Invariant: what `headers` and `control` say.
    times: Times,
}

/// What an answer says of times: read once, as each of its uses asks for all of them.
#[derive(Clone, Copy, Debug)]
struct Times {
    /// When it was made, as far as it says.
    date: SystemTime,
    last_modified: Option<SystemTime>,
    /// How old it was when it came (§4.2.3).
    initial_age: Duration,
    /// For how long it is fresh.
    lifetime: Duration,
}

/// What was asked and what was answered.
#[derive(Clone, Copy, Debug)]
pub struct Exchange<'a> {
    /// The method of the request.
    pub method: &'a Method,
    /// The fields of the request.
    pub request: &'a HeaderMap,
    /// The status of the answer.
    pub status: StatusCode,
    /// The fields of the answer.
    pub response: &'a HeaderMap,
    /// When the request was sent.
    pub requested_at: SystemTime,
    /// When the head of the answer came.
    pub received_at: SystemTime,
}

impl Stored {
    /// What may be stored of an exchange (§3); `None` if nothing may, or it would be of no use: never
    /// fresh, and without a validator.
    ///
    /// Only answers to GET are stored, and only whole ones: the content must have come to its end.
    #[must_use]
    pub fn new(kind: CacheKind, exchange: &Exchange<'_>) -> Option<Self> {
        let Exchange {
            request, response, ..
        } = *exchange;
        let asked = CacheControl::of(request);
        let control = CacheControl::of(response);
        let withheld = withheld(kind, &control, response);
        let is_understood = is_heuristically_cacheable(exchange.status);
        let no_store = control.no_store && !(control.must_understand && is_understood);
        let is_shared = kind == CacheKind::Shared;
        let is_explicit = control.public
            || control.max_age.is_some()
            || is_shared && control.s_maxage.is_some()
            || !is_shared && control.private
            || response.contains_key(EXPIRES);
        // It could be stored without; but who sets a cookie means the rest for one user, too, unless it says otherwise.
        let has_cookie_for_one = response.contains_key(SET_COOKIE)
            && withheld.contains(&SET_COOKIE)
            && !withheld_by_name(kind, response).contains(&SET_COOKIE);
        if *exchange.method != Method::GET
            || !is_final_and_whole(exchange.status)
            || response.contains_key(CONTENT_RANGE)
            || control.must_understand && !is_understood
            || no_store
            || asked.no_store
            || is_shared && control.private
            || !may_be_shared(kind, &control, request)
            || !is_explicit && !is_understood
            || has_cookie_for_one
        {
            return None;
        }
        let selecting = selecting(request, response)?;
        let mut headers = response.clone();
        // §3.1
        remove_hop_by_hop(&mut headers);
        for name in withheld {
            headers.remove(name);
        }
        let mut stored = Self {
            kind,
            status: exchange.status,
            headers,
            control,
            selecting,
            requested_at: exchange.requested_at,
            received_at: exchange.received_at,
            times: Times {
                date: exchange.received_at,
                last_modified: None,
                initial_age: Duration::ZERO,
                lifetime: Duration::ZERO,
            },
        };
        stored.read_times();
        let is_of_use = stored.lifetime() > stored.age(exchange.received_at)
            || stored.headers.contains_key(ETAG)
            || stored.headers.contains_key(LAST_MODIFIED);
        is_of_use.then_some(stored)
    }

    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The fields of the answer, without those that were for one hop, or for who asked alone.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Those of the fields that came which are for who asked, and nobody else (§5.2.2.4, §5.2.2.7, §7.3).
    pub(super) fn for_who_asked(&self, came: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
        let names = withheld(self.kind, &self.control, &self.headers).into_iter();
        let fields = names.flat_map(|name| {
            let values = came.get_all(&name).iter().cloned();
            values
                .map(|value| (name.clone(), value))
                .collect::<Vec<_>>()
        });
        fields.collect()
    }

    /// When the answer came, or was last found to hold.
    #[must_use]
    pub fn received_at(&self) -> SystemTime {
        self.received_at
    }

    /// Whether the answer is one to a request with these fields (§4.1).
    #[must_use]
    pub fn fits(&self, request: &HeaderMap) -> bool {
        let mut selecting = self.selecting.iter();
        selecting.all(|(name, values)| {
            let asked = request.get_all(name);
            asked.iter().eq(values) || is_same_list(name, asked.iter(), values.iter())
        })
    }

    /// Whether both answers are chosen by the same fields with the same values.
    pub(super) fn replaces(&self, other: &Self) -> bool {
        let (these, those) = (self.selecting.iter(), other.selecting.iter());
        these.len() == those.len()
            && these.zip(those).all(|((name, values), (theirs, others))| {
                let is_same = values == others || is_same_list(name, values.iter(), others.iter());
                name == theirs && is_same
            })
    }

    /// Whether two requests differ in what this answer depends on.
    pub(super) fn tells_apart(&self, one: &HeaderMap, other: &HeaderMap) -> bool {
        let mut selecting = self.selecting.iter();
        selecting.any(|(name, _)| {
            let values = |headers: &'_ HeaderMap| headers.get_all(name).iter().cloned().collect();
            let (one, other): (Vec<HeaderValue>, Vec<_>) = (values(one), values(other));
            one != other && !is_same_list(name, one.iter(), other.iter())
        })
    }

    /// Bytes of the fields that select it.
    pub(super) fn selecting_size(&self) -> usize {
        let values = self.selecting.iter().flat_map(|(_, values)| values);
        values.map(|value| 64 + value.len()).sum()
    }

    /// How old the answer is (§4.2.3).
    #[must_use]
    pub fn age(&self, now: SystemTime) -> Duration {
        let since = now.duration_since(self.received_at).unwrap_or_default();
        self.times.initial_age.saturating_add(since)
    }

    /// For how long the answer is fresh (§4.2.1), by a guess if it does not say (§4.2.2).
    #[must_use]
    pub fn lifetime(&self) -> Duration {
        self.times.lifetime
    }

    /// What to do with it for a request that it fits (§4, §5.2.1).
    #[must_use]
    pub fn reuse(&self, request: &HeaderMap, now: SystemTime) -> Reuse {
        let asked = CacheControl::of(request);
        let control = &self.control;
        let validate = if asked.only_if_cached {
            Reuse::Unavailable
        } else {
            Reuse::Validate
        };
        // §5.4: what was said before there was Cache-Control.
        let is_pragma = !request.contains_key(CACHE_CONTROL)
            && members(request, &PRAGMA).any(|it| it.eq_ignore_ascii_case("no-cache"));
        if asked.no_cache || control.no_cache || is_pragma {
            return validate;
        }
        let (age, lifetime) = (self.age(now), self.lifetime());
        if asked.max_age.is_some_and(|limit| age > limit) {
            return validate;
        }
        let fresh_for = lifetime.saturating_sub(age);
        if asked.min_fresh.is_some_and(|limit| fresh_for < limit) {
            return validate;
        }
        if lifetime > age {
            return Reuse::Fresh;
        }
        let stale_for = age - lifetime;
        if !self.may_be_stale() {
            return validate;
        }
        if asked.max_stale.is_some_and(|limit| stale_for <= limit) {
            return Reuse::Stale;
        }
        // §5.2.1.1: who says how old it may be does not want it stale, unless that is said, too.
        let is_wanted_fresh = asked.max_age.is_some() || asked.min_fresh.is_some();
        let window = control.stale_while_revalidate;
        if !is_wanted_fresh && window.is_some_and(|limit| stale_for <= limit) {
            return Reuse::Revalidate;
        }
        validate
    }

    /// Whether it may be used when it is stale and nobody can be asked (§4.2.4).
    #[must_use]
    pub fn may_be_stale(&self) -> bool {
        let control = &self.control;
        let is_strict_for_proxies = control.proxy_revalidate || control.s_maxage.is_some();
        !(control.must_revalidate
            || control.no_cache
            || self.kind == CacheKind::Shared && is_strict_for_proxies)
    }

    /// Whether it answers a request when nobody else does: the origin cannot be asked, or answers with an
    /// error of its own (RFC 5861 §4). The origin says for how long that is right, or the request, or, if
    /// neither does, `otherwise`.
    #[must_use]
    pub fn stands_in(&self, request: &HeaderMap, now: SystemTime, otherwise: Duration) -> bool {
        let asked = CacheControl::of(request);
        let stale_for = self.age(now).saturating_sub(self.lifetime());
        let window = asked.stale_if_error.or(self.control.stale_if_error);
        self.may_be_stale() && !asked.no_cache && stale_for <= window.unwrap_or(otherwise)
    }

    /// Whether it may still be kept by what it says now.
    pub(super) fn may_be_kept(&self) -> bool {
        let control = &self.control;
        let is_private = self.kind == CacheKind::Shared && control.private;
        (!control.no_store || control.must_understand) && !is_private
    }

    /// Whether what it says, if it came for a request with these fields, may be kept for everybody (§3.5).
    pub(super) fn may_be_shared(&self, request: &HeaderMap) -> bool {
        may_be_shared(self.kind, &self.control, request)
    }

    /// Whether it is a response with 200 to whoever asks for its target, in which a proxy changes nothing.
    pub(super) fn is_plain(&self) -> bool {
        static CHANGED: [HeaderName; 4] = [LOCATION, CONTENT_LOCATION, REFRESH, SET_COOKIE];
        self.status == StatusCode::OK
            && self.selecting.is_empty()
            && !self.headers.keys().any(|name| CHANGED.contains(name))
    }

    /// For how long it will be fresh, in seconds; below zero, for how long it has been stale.
    pub(super) fn seconds_left(&self, now: SystemTime) -> i64 {
        let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        seconds(self.lifetime()) - seconds(self.age(now))
    }

    /// The fields of an answer made of it: with its age (§4).
    #[must_use]
    pub fn answer_headers(&self, now: SystemTime) -> HeaderMap {
        let mut headers = self.headers.clone();
        // RFC 9110 §6.6.1: who has a clock puts it in.
        if !headers.contains_key(DATE) {
            headers.insert(DATE, date_value(self.date()));
        }
        let age = self.age(now).as_secs().min(SECONDS_MAX);
        headers.insert(AGE, HeaderValue::from(age));
        headers
    }

    /// Its validators, to evaluate the preconditions of a client's request (§4.3.2).
    #[must_use]
    pub fn validators(&self) -> Validators {
        let etag = self.headers.get(ETAG);
        Validators {
            etag: etag.and_then(|value| ETag::parse(value.as_bytes()).ok()),
            last_modified: self.times.last_modified,
        }
    }

    /// Makes a request one that asks whether this answer still holds (§4.3.1). Preconditions of the
    /// client's own are to be evaluated with the result, and are replaced.
    ///
    /// One with 404, say, is not asked for so, but anew: a 304 says that there would be 200 now (RFC 9110 §15.4.5).
    pub fn add_validation(&self, request: &mut HeaderMap) {
        for (ours, theirs) in [(ETAG, IF_NONE_MATCH), (LAST_MODIFIED, IF_MODIFIED_SINCE)] {
            let ours = self.headers.get(ours);
            match ours.filter(|_| self.status.is_success()) {
                Some(value) => drop(request.insert(theirs, value.clone())),
                None => drop(request.remove(theirs)),
            }
        }
    }

    /// Takes over what an answer with 304 says (§4.3.4, §3.2). Gives `false` if that is of another
    /// answer, by its tag or as this one is no success: then this one is not to be used.
    #[must_use]
    pub fn refresh(
        &mut self,
        not_modified: &HeaderMap,
        requested_at: SystemTime,
        received_at: SystemTime,
    ) -> bool {
        if !self.status.is_success() || !self.is_same_state(not_modified) {
            return false;
        }
        self.update(not_modified, requested_at, received_at);
        true
    }

    /// Takes over what an answer with 200 to HEAD says (§4.3.5). Gives `false` if the answer to GET would
    /// be another one now, by its status, its tag, its date or its `length`: then this one is not to be used.
    #[must_use]
    pub fn refresh_by_head(
        &mut self,
        response: &HeaderMap,
        length: usize,
        requested_at: SystemTime,
        received_at: SystemTime,
    ) -> bool {
        let agrees = |name: HeaderName| {
            let new = response.get(&name);
            new.is_none() || new == self.headers.get(&name)
        };
        // What the answer was coded with may be left out of an answer to HEAD, as its length may.
        let announced = response.get(CONTENT_LENGTH);
        let is_same = self.status == StatusCode::OK
            && self.is_same_state(response)
            && announced.is_none_or(|announced| *announced == *length.to_string())
            && agrees(LAST_MODIFIED)
            && agrees(CONTENT_ENCODING);
        if is_same {
            self.update(response, requested_at, received_at);
        }
        is_same
    }

    /// Whether that is of the same state, by its tag: if both have one.
    fn is_same_state(&self, response: &HeaderMap) -> bool {
        match (response.get(ETAG), self.headers.get(ETAG)) {
            (Some(new), Some(known)) => is_same_tag(new, known),
            _ => true,
        }
    }

    /// §3.2
    fn update(&mut self, response: &HeaderMap, requested_at: SystemTime, received_at: SystemTime) {
        let mut fields = response.clone();
        remove_hop_by_hop(&mut fields);
        for name in [CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE] {
            fields.remove(name);
        }
        // They were of the earlier answer.
        self.headers.remove(AGE);
        self.headers.remove(DATE);
        for name in fields.keys() {
            self.headers.remove(name);
            for value in fields.get_all(name) {
                self.headers.append(name.clone(), value.clone());
            }
        }
        self.control = CacheControl::of(&self.headers);
        // By what it says now: also what was for everybody until now.
        for name in withheld(self.kind, &self.control, &self.headers) {
            self.headers.remove(name);
        }
        self.requested_at = requested_at;
        self.received_at = received_at;
        self.read_times();
    }

    /// When the answer was made, as far as it says.
    pub(super) fn date(&self) -> SystemTime {
        self.times.date
    }

    /// Reads what the fields say of times.
    fn read_times(&mut self) {
        let date = self.headers.get(DATE).and_then(parse_date_value);
        let date = date.unwrap_or(self.received_at);
        let last_modified = self.headers.get(LAST_MODIFIED).and_then(parse_date_value);
        self.times = Times {
            date,
            last_modified,
            initial_age: self.initial_age(date),
            lifetime: self.lifetime_by(date, last_modified),
        };
    }

    /// §4.2.3
    fn initial_age(&self, date: SystemTime) -> Duration {
        let since = |later: SystemTime, earlier: SystemTime| {
            later.duration_since(earlier).unwrap_or_default()
        };
        let apparent = since(self.received_at, date);
        let delay = since(self.received_at, self.requested_at);
        let age = self.headers.get(AGE).and_then(|age| age.to_str().ok());
        // §5.1: of a list the first one counts.
        let age = age.map_or(Duration::ZERO, |age| {
            seconds(age.split(',').next().unwrap_or(age).trim())
        });
        apparent.max(age + delay)
    }

    /// §4.2.1, §4.2.2
    fn lifetime_by(&self, date: SystemTime, last_modified: Option<SystemTime>) -> Duration {
        let control = &self.control;
        if let Some(lifetime) = control.s_maxage.filter(|_| self.kind == CacheKind::Shared) {
            return lifetime;
        }
        if let Some(lifetime) = control.max_age {
            return lifetime;
        }
        let mut expires = self.headers.get_all(EXPIRES).iter();
        if let Some(value) = expires.next() {
            // §5.3: what is no date is one that has passed; so is what is there twice.
            let at = parse_date_value(value).filter(|_| expires.next().is_none());
            let left = at.and_then(|at| at.duration_since(date).ok());
            return left.unwrap_or_default();
        }
        if !is_heuristically_cacheable(self.status) {
            return Duration::ZERO;
        }
        let since = last_modified.and_then(|at| date.duration_since(at).ok());
        (since.unwrap_or_default() / HEURISTIC_DIVISOR).min(HEURISTIC_MAX)
    }
}

/// §3.5: what comes for one who is known is for others only where that is said.
fn may_be_shared(kind: CacheKind, control: &CacheControl, request: &HeaderMap) -> bool {
    let is_said = || control.is_for_everybody() || control.must_revalidate;
    kind == CacheKind::Private || !request.contains_key(AUTHORIZATION) || is_said()
}

fn is_same_tag(left: &HeaderValue, right: &HeaderValue) -> bool {
    match (ETag::parse(left.as_bytes()), ETag::parse(right.as_bytes())) {
        (Ok(left), Ok(right)) => left.weakly_equals(&right),
        _ => left == right,
    }
}

/// §3: final, and no part or confirmation of another answer, nor one to the range that somebody wanted.
fn is_final_and_whole(status: StatusCode) -> bool {
    !status.is_informational()
        && status != StatusCode::PARTIAL_CONTENT
        && status != StatusCode::NOT_MODIFIED
        && status != StatusCode::RANGE_NOT_SATISFIABLE
}

/// RFC 9110 §15.1, without 206.
fn is_heuristically_cacheable(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501
    )
}

/// §4.1: `None` if the answer fits no other request.
fn selecting(
    request: &HeaderMap,
    response: &HeaderMap,
) -> Option<Vec<(HeaderName, Vec<HeaderValue>)>> {
    let mut names = Vec::new();
    for value in response.get_all(VARY) {
        // What cannot be read may be anything.
        let text = value.to_str().ok()?;
        for name in text.split(',').map(str::trim).filter(|it| !it.is_empty()) {
            // `*` is a token, and so would be a name.
            if name == "*" {
                return None;
            }
            names.push(HeaderName::try_from(name).ok()?);
        }
    }
    names.sort_unstable_by(|left, right| left.as_str().cmp(right.as_str()));
    names.dedup();
    let values = |name: &HeaderName| request.get_all(name).iter().cloned().collect();
    Some(
        names
            .into_iter()
            .map(|name| (name.clone(), values(&name)))
            .collect(),
    )
}

/// §4.1: whether two say the same, where that is a list and it is known that spaces around its members, and how
/// they are spread over fields, mean nothing.
fn is_same_list<'a>(
    name: &HeaderName,
    one: impl Iterator<Item = &'a HeaderValue>,
    other: impl Iterator<Item = &'a HeaderValue>,
) -> bool {
    if ![ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE].contains(name) {
        return false;
    }
    let members = |value: &'a HeaderValue| {
        // What is no text is one member, which nothing is like.
        let text = value.to_str().map_or("\n", |text| text);
        pieces(text, b',')
    };
    let (mut one, mut other) = (one.flat_map(members), other.flat_map(members));
    // One that is not there says nothing, which is another thing than saying that there is none.
    let mut is_same = false;
    loop {
        match (one.next(), other.next()) {
            (None, None) => return is_same,
            (Some(one), Some(other)) if one == other && one != "\n" => is_same = true,
            _ => return false,
        }
    }
}

/// Whether an answer to that method ends what is stored for its target (§4.4).
#[must_use]
pub fn invalidates(method: &Method, status: StatusCode) -> bool {
    let is_safe = matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE
    );
    !is_safe && (status.is_success() || status.is_redirection())
}

/// What else such an answer ends: `Location` and `Content-Location`, if they are of the same origin as
/// the target (§4.4: else anybody could empty anybody's cache). References that are neither absolute
/// nor begin with a slash are left out.
#[must_use]
pub fn also_invalidated(target: &Uri, response: &HeaderMap) -> Vec<Uri> {
    let mut found = Vec::new();
    for name in [LOCATION, CONTENT_LOCATION] {
        let value = response.get(name).and_then(|value| value.to_str().ok());
        let Some(Ok(uri)) = value.map(str::parse::<Uri>) else {
            continue;
        };
        let mut parts = uri.into_parts();
        if parts.scheme.is_none() && parts.authority.is_none() {
            parts.scheme = target.scheme().cloned();
            parts.authority = target.authority().cloned();
        }
        if let Ok(uri) = Uri::from_parts(parts)
            && origin(&uri) == origin(target)
        {
            found.push(uri);
        }
    }
    found
}

/// Scheme, host in lower case, and port.
fn origin(uri: &Uri) -> Option<(&str, String, u16)> {
    let host = uri.host()?.to_ascii_lowercase();
    Some((uri.scheme_str()?, host, port(uri)))
}

/// The port of a target, whether it says so or not.
pub(super) fn port(uri: &Uri) -> u16 {
    let usual = match uri.scheme_str() {
        Some("http") => 80,
        Some("https") => 443,
        _ => 0,
    };
    uri.port_u16().unwrap_or(usual)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::super::super::dates::format_date;
    use super::CacheKind::{Private, Shared};
    use super::*;

    /// Seconds after a moment at which everything happens.
    fn at(seconds: i64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(u64::try_from(1_000_000 + seconds).expect("it is after"))
    }

    fn headers(fields: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for field in fields.split('\n').filter(|it| !it.is_empty()) {
            let (name, value) = field.split_once(": ").expect("a field");
            let name = HeaderName::try_from(name.trim()).expect("it is a name");
            // `@5` is the date of then.
            let value = match value.strip_prefix('@') {
                Some(seconds) => format_date(at(seconds.parse().expect("a number"))),
                None => value.to_owned(),
            };
            headers.append(name, HeaderValue::try_from(value).expect("it is a value"));
        }
        headers
    }

    fn stored_with(
        kind: CacheKind,
        method: Method,
        request: &str,
        status: u16,
        response: &str,
    ) -> Option<Stored> {
        let exchange = Exchange {
            method: &method,
            request: &headers(request),
            status: StatusCode::from_u16(status).expect("it is one"),
            response: &headers(response),
            requested_at: at(0),
            received_at: at(0),
        };
        Stored::new(kind, &exchange)
    }

    #[track_caller]
    fn stored(request: &str, response: &str) -> Stored {
        stored_with(Shared, Method::GET, request, 200, response).expect("it may be stored")
    }

    #[test]
    fn rfc9111_3_what_may_be_stored() {
        let check = |kind, request: &str, status, response: &str, expected: bool| {
            let found = stored_with(kind, Method::GET, request, status, response);
            assert_eq!(
                found.is_some(),
                expected,
                "{kind:?} {request} {status} {response}"
            );
        };
        let both = |request: &str, status, response: &str, shared: bool, private: bool| {
            check(Shared, request, status, response, shared);
            check(Private, request, status, response, private);
        };
        both("", 200, "cache-control: max-age=5", true, true);
        both("", 200, "expires: @5", true, true);
        both("", 200, "etag: \"x\"", true, true);
        both("", 200, "last-modified: @-100", true, true);
        both("", 200, "", false, false);
        both("", 200, "cache-control: max-age=0", false, false);
        both("", 200, "cache-control: max-age=0\netag: \"x\"", true, true);
        both("", 200, "cache-control: no-store, max-age=5", false, false);
        both(
            "cache-control: no-store",
            200,
            "cache-control: max-age=5",
            false,
            false,
        );
        both("", 200, "cache-control: private, max-age=5", false, true);
        both("", 200, "cache-control: no-cache\netag: \"x\"", true, true);
        both("", 200, "cache-control: s-maxage=5", true, false);
        // By status.
        both("", 404, "cache-control: max-age=5", true, true);
        both("", 302, "cache-control: max-age=5", true, true);
        both("", 302, "last-modified: @-100", false, false);
        both("", 500, "last-modified: @-100", false, false);
        both("", 206, "cache-control: max-age=5", false, false);
        both("", 304, "cache-control: max-age=5", false, false);
        both(
            "",
            200,
            "cache-control: max-age=5\ncontent-range: bytes 0-1/2",
            false,
            false,
        );
        // §5.2.2.3: who understands the status need not heed the other directive.
        both(
            "",
            200,
            "cache-control: must-understand, no-store, max-age=5",
            true,
            true,
        );
        both(
            "",
            299,
            "cache-control: must-understand, max-age=5",
            false,
            false,
        );
        // §3.5
        let credentials = "authorization: Basic eA==";
        both(credentials, 200, "cache-control: max-age=5", false, true);
        for directive in ["public", "s-maxage=5", "must-revalidate"] {
            let response = format!("cache-control: max-age=5, {directive}");
            both(credentials, 200, &response, true, true);
        }
        both("", 200, "etag: \"x\"\nset-cookie: a=b", false, true);
        let with_cookie = "cache-control: max-age=5\nset-cookie: a=b";
        both("", 200, with_cookie, false, true);
        both(
            "",
            200,
            "cache-control: public\netag: \"x\"\nset-cookie: a=b",
            true,
            true,
        );
        // §4.1
        both(
            "",
            200,
            "cache-control: max-age=5\nvary: a, *",
            false,
            false,
        );
        both("", 200, "cache-control: max-age=5\nvary: a b", false, false);
        for method in [Method::HEAD, Method::POST, Method::PUT] {
            let response = "cache-control: max-age=5";
            assert!(stored_with(Private, method, "", 200, response).is_none());
        }
    }

    #[test]
    fn rfc9111_3_1_what_was_for_one_hop_is_not_stored() {
        let found = stored(
            "",
            "cache-control: max-age=5\nconnection: x-a\nx-a: 1\nx-b: 2\nte: x",
        );
        let mut names: Vec<_> = found.headers().keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["cache-control", "x-b"]);
        assert_eq!(found.status(), StatusCode::OK);
    }

    #[test]
    fn rfc9111_4_1_the_request_must_agree_in_the_fields_that_vary_names() {
        let found = stored(
            "accept: a\naccept-encoding: gzip\naccept-encoding: br\nx-other: 1",
            "cache-control: max-age=5\nvary: Accept, accept-encoding\nvary: X-Absent",
        );
        let fits = |request: &str| found.fits(&headers(request));
        assert!(fits(
            "accept: a\naccept-encoding: gzip\naccept-encoding: br"
        ));
        assert!(fits(
            "accept-encoding: gzip\naccept-encoding: br\naccept: a\nx-other: 2"
        ));
        assert!(!fits(
            "accept: b\naccept-encoding: gzip\naccept-encoding: br"
        ));
        assert!(!fits(
            "accept: a\naccept-encoding: br\naccept-encoding: gzip"
        ));
        assert!(!fits(
            "accept: a\naccept-encoding: gzip\naccept-encoding: br\nx-absent: 1"
        ));
        assert!(!fits(""));
        assert!(stored("accept: a", "cache-control: max-age=5").fits(&HeaderMap::new()));
    }

    #[test]
    fn rfc9111_4_2_3_age_is_the_largest_that_can_be_told() {
        let age = |response: &str, requested: i64, now: i64| {
            let exchange = Exchange {
                method: &Method::GET,
                request: &HeaderMap::new(),
                status: StatusCode::OK,
                response: &headers(&format!("cache-control: max-age=1000\n{response}")),
                requested_at: at(requested),
                received_at: at(0),
            };
            let found = Stored::new(Private, &exchange).expect("it may be stored");
            found.age(at(now)).as_secs()
        };
        assert_eq!(age("", 0, 0), 0);
        assert_eq!(age("", 0, 7), 7);
        // By the clock of the origin, or by what caches on the way say and the answer took.
        assert_eq!(age("date: @-10", 0, 0), 10);
        assert_eq!(age("date: @10", 0, 0), 0);
        assert_eq!(age("age: 20\ndate: @-10", -3, 0), 23);
        assert_eq!(age("age: 2\ndate: @-10", -3, 1), 11);
        assert_eq!(age("age: 20, 30", 0, 0), 20);
        assert_eq!(age("age: x", 0, 0), 0);
        // A clock that was put back.
        assert_eq!(age("age: 20", 0, -50), 20);
    }

    #[test]
    fn rfc9111_4_2_1_the_lifetime_is_what_is_said_first() {
        let lifetime = |kind, response: &str| {
            // A tag, so that it is of use in any case.
            let response = format!("etag: \"x\"\n{response}");
            let found = stored_with(kind, Method::GET, "", 200, &response);
            found.expect("it may be stored").lifetime().as_secs()
        };
        let all = "cache-control: public, s-maxage=1, max-age=2\nexpires: @3\nlast-modified: @-40";
        assert_eq!(lifetime(Shared, all), 1);
        assert_eq!(lifetime(Private, all), 2);
        assert_eq!(lifetime(Private, "expires: @3\nlast-modified: @-40"), 3);
        assert_eq!(lifetime(Private, "expires: @3\ndate: @-2"), 5);
        assert_eq!(lifetime(Private, "expires: @-3"), 0);
        assert_eq!(lifetime(Private, "expires: 0\nlast-modified: @-40"), 0);
        assert_eq!(lifetime(Private, "expires: @3\nexpires: @3"), 0);
        // §4.2.2
        assert_eq!(lifetime(Private, "last-modified: @-40"), 4);
        assert_eq!(lifetime(Private, "last-modified: @40"), 0);
        assert_eq!(lifetime(Private, "last-modified: @-999999"), 86_400);
        assert_eq!(lifetime(Private, ""), 0);
    }

    #[track_caller]
    fn check_reuse(response: &str, request: &str, now: i64, expected: Reuse) {
        let response = format!("etag: \"x\"\n{response}");
        let reuse = stored("", &response).reuse(&headers(request), at(now));
        assert_eq!(reuse, expected, "{response} / {request} at {now}");
    }

    #[test]
    fn rfc9111_4_an_answer_is_used_while_it_is_fresh() {
        let ten = "cache-control: max-age=10";
        check_reuse(ten, "", 9, Reuse::Fresh);
        check_reuse(ten, "", 10, Reuse::Validate);
        check_reuse(ten, "cache-control: only-if-cached", 9, Reuse::Fresh);
        check_reuse(ten, "cache-control: only-if-cached", 10, Reuse::Unavailable);
        check_reuse(
            "cache-control: max-age=10, no-cache",
            "",
            0,
            Reuse::Validate,
        );
        check_reuse(ten, "cache-control: no-cache", 0, Reuse::Validate);
        check_reuse(ten, "pragma: no-cache", 0, Reuse::Validate);
        check_reuse(
            ten,
            "pragma: no-cache\ncache-control: max-age=5",
            0,
            Reuse::Fresh,
        );
        check_reuse(ten, "cache-control: max-age=5", 5, Reuse::Fresh);
        check_reuse(ten, "cache-control: max-age=5", 6, Reuse::Validate);
        check_reuse(ten, "cache-control: max-age=0", 0, Reuse::Fresh);
        check_reuse(ten, "cache-control: min-fresh=5", 5, Reuse::Fresh);
        check_reuse(ten, "cache-control: min-fresh=5", 6, Reuse::Validate);
    }

    #[test]
    fn rfc9111_4_2_4_an_answer_is_used_stale_if_both_sides_allow_it() {
        let ten = "cache-control: max-age=10";
        check_reuse(ten, "cache-control: max-stale=5", 15, Reuse::Stale);
        check_reuse(ten, "cache-control: max-stale=5", 16, Reuse::Validate);
        check_reuse(ten, "cache-control: max-stale", 1_000_000, Reuse::Stale);
        for directive in ["must-revalidate", "proxy-revalidate", "s-maxage=10"] {
            let strict = format!("cache-control: max-age=10, {directive}");
            check_reuse(&strict, "cache-control: max-stale", 15, Reuse::Validate);
            assert!(!stored("", &format!("etag: \"x\"\n{strict}")).may_be_stale());
        }
        assert!(stored("", ten).may_be_stale());
    }

    #[test]
    fn an_answer_says_how_old_it_is() {
        let found = stored("", "cache-control: max-age=10\nage: 2");
        assert_eq!(
            found.answer_headers(at(5)).get(AGE).expect("it is there"),
            "7"
        );
    }

    #[test]
    fn rfc9111_4_3_1_a_question_names_what_is_there() {
        let found = stored("", "etag: W/\"x\"\nlast-modified: @-5");
        let mut request = headers("if-none-match: \"y\"");
        found.add_validation(&mut request);
        assert_eq!(request.get(IF_NONE_MATCH).expect("it is there"), "W/\"x\"");
        let date = format_date(at(-5));
        assert_eq!(
            request.get(IF_MODIFIED_SINCE).expect("it is there"),
            date.as_str()
        );
        assert_eq!(found.validators().last_modified, Some(at(-5)));
        let found = stored("", "etag: \"z\"");
        found.add_validation(&mut request);
        assert_eq!(request.get(IF_NONE_MATCH).expect("it is there"), "\"z\"");
        assert!(!request.contains_key(IF_MODIFIED_SINCE));
    }

    #[test]
    fn rfc9111_3_2_a_304_makes_the_answer_fresh_again() {
        let mut found = stored(
            "",
            "etag: \"x\"\ncache-control: max-age=10\nage: 5\ndate: @0\ncontent-length: 3\nx-a: 1\nx-a: 2",
        );
        let not_modified = headers(
            "etag: \"x\"\ncache-control: max-age=20\ncontent-length: 0\nconnection: close\nx-a: 3",
        );
        assert!(found.refresh(&not_modified, at(100), at(101)));
        assert_eq!(found.age(at(101)), Duration::from_secs(1));
        assert_eq!(found.lifetime(), Duration::from_secs(20));
        assert_eq!(
            found.headers().get(CONTENT_LENGTH).expect("it is there"),
            "3"
        );
        assert!(!found.headers().contains_key("connection"));
        assert_eq!(
            found.headers().get_all("x-a").iter().collect::<Vec<_>>(),
            ["3"]
        );
        // §4.3.4: it is of another answer.
        assert!(!found.refresh(&headers("etag: \"y\""), at(102), at(102)));
        assert!(found.refresh(&headers("etag: W/\"x\""), at(102), at(102)));
        assert!(found.refresh(&HeaderMap::new(), at(103), at(103)));
        assert_eq!(found.received_at(), at(103));
    }

    #[test]
    fn rfc9111_7_3_a_cookie_is_taken_over_only_where_it_may_be_stored() {
        let cookie = |kind, first: &str, then: &str| {
            let stored = || {
                let stored =
                    stored_with(kind, Method::GET, "", 200, &format!("etag: \"x\"\n{first}"));
                stored.expect("it may be stored")
            };
            let (mut by_304, mut by_head) = (stored(), stored());
            let then = headers(then);
            assert!(by_304.refresh(&then, at(100), at(100)));
            assert!(by_head.refresh_by_head(&then, 3, at(100), at(100)));
            let cookies = [by_304, by_head].map(|it| it.headers().get(SET_COOKIE).cloned());
            assert_eq!(cookies[0], cookies[1], "{first} / {then:?}");
            cookies[0].is_some()
        };
        let (one, all) = (
            "cache-control: max-age=5",
            "cache-control: max-age=5, public",
        );
        let with = |control: &str| format!("{control}\nset-cookie: a=b");
        assert!(!cookie(Shared, one, "set-cookie: a=b"));
        assert!(!cookie(Shared, one, &with(one)));
        assert!(!cookie(Shared, all, &with(one)));
        assert!(!cookie(Shared, &with(all), one), "it was for everybody");
        assert!(cookie(Shared, &with(all), "x-a: 1"));
        assert!(cookie(Shared, one, &with(all)));
        assert!(cookie(Shared, one, &with("cache-control: s-maxage=5")));
        assert!(cookie(Private, one, &with(one)));
    }

    #[test]
    fn rfc9111_4_4_what_changes_a_target_ends_what_is_stored_of_it() {
        let done = |method: Method, status| {
            invalidates(&method, StatusCode::from_u16(status).expect("it is one"))
        };
        assert!(done(Method::POST, 200) && done(Method::DELETE, 204) && done(Method::PUT, 303));
        assert!(!done(Method::POST, 404) && !done(Method::PUT, 500));
        assert!(!done(Method::GET, 200) && !done(Method::OPTIONS, 200));
        let target: Uri = "http://Example.com/a".parse().expect("it is one");
        let also = |response: &str| {
            let uris = also_invalidated(&target, &headers(response));
            uris.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(also("location: /b?c"), ["http://Example.com/b?c"]);
        assert_eq!(also("content-location: http://example.COM:80/b").len(), 1);
        for other in [
            "http://example.org/b",
            "https://example.com/b",
            "http://example.com:81/b",
            "",
            "\\",
        ] {
            assert_eq!(also(&format!("location: {other}")), [""; 0], "{other}");
        }
    }
}
