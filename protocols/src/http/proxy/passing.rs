//! What becomes of a message on its way through a proxy: RFC 9110 §7.6. Pure.

use std::rc::Rc;

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HeaderMap, HeaderName, HeaderValue, MAX_FORWARDS, TE,
    UPGRADE,
};
use http::request::Parts;
use http::{Method, StatusCode, Version};

use super::super::body::Body;
use super::super::client::{Client, ClientRequest, Guard};
use super::super::error::StatusError;
use super::super::fetch::{Fetch, InterimHook};
use super::super::forwarding::{
    append_via, count_in_via, decrement_max_forwards, remove_hop_by_hop, remove_present,
};
use super::super::response::{IntoResponse, Response};
use super::super::values::members;
use torsade_deferred::Deferred;

/// What a proxy is called that was given no name, and how often such a one may have seen a message: several
/// of them in a row are no loop.
const USUAL_NAME: &str = "torsade";
const USUAL_PASSES_MAX: usize = 3;

/// What a program may be told by a request beside its target, and is no client's to say: `HTTP_PROXY` of CGI.
const PROXY: HeaderName = HeaderName::from_static("proxy");

static NOT_PASSED_ON: [HeaderName; 2] = [CONTENT_LENGTH, PROXY];

/// The step that asks a server, as it is without layers around it.
pub(super) struct Asking {
    pub(super) client: Client,
    /// Refuses who may not be reached.
    pub(super) guard: Option<Guard>,
}

impl Fetch for Asking {
    fn fetch(&self, request: ClientRequest) -> Deferred<Response> {
        self.client.forward_to(request, self.guard.clone(), None)
    }

    fn fetch_with_interims(
        &self,
        request: ClientRequest,
        hook: &InterimHook,
    ) -> Deferred<Response> {
        let hook = Some(hook.clone());
        self.client.forward_to(request, self.guard.clone(), hook)
    }
}

/// What a proxy calls itself in `Via`.
#[derive(Clone, Debug)]
pub(super) struct Name {
    text: Rc<str>,
    passes_max: usize,
}

impl Default for Name {
    fn default() -> Self {
        Self {
            text: USUAL_NAME.into(),
            passes_max: USUAL_PASSES_MAX,
        }
    }
}

impl Name {
    /// One that nobody else has: what it has seen once it must not see again.
    pub(super) fn unique(text: &str) -> Self {
        Self {
            text: text.into(),
            passes_max: 0,
        }
    }
}

/// The answer to what is for the proxy itself: TRACE and OPTIONS that may go no further (RFC 9110 §7.6.2),
/// and OPTIONS of no target at all (§9.3.7). Else the request has been counted down.
pub(super) fn answer_here(parts: &mut Parts) -> Option<Response> {
    let is_trace = parts.method == Method::TRACE;
    if !is_trace && parts.method != Method::OPTIONS {
        return None;
    }
    if parts.uri.path() == "*" {
        return Some(StatusCode::NO_CONTENT.into_response());
    }
    if !parts.headers.contains_key(MAX_FORWARDS) || decrement_max_forwards(&mut parts.headers) {
        return None;
    }
    Some(match is_trace {
        true => traced(parts),
        false => StatusCode::NO_CONTENT.into_response(),
    })
}

/// RFC 9110 §9.3.8: the request as it came, but for what is secret.
fn traced(parts: &Parts) -> Response {
    let mut text = format!("{} {} {:?}\r\n", parts.method, parts.uri, parts.version).into_bytes();
    for (name, value) in &parts.headers {
        let is_secret = matches!(
            name.as_str(),
            "authorization" | "cookie" | "proxy-authorization"
        );
        if !is_secret {
            super::super::encode::write_field(&mut text, name.as_str(), value.as_bytes());
        }
    }
    text.extend_from_slice(b"\r\n");
    Response::new(Body::from(text).with_media_type("message/http"))
}

/// Makes the fields of a request ready for the next hop, which may be asked to switch to `upgrade`.
///
/// How the body is framed is not among them: that is said anew.
pub(super) fn prepare_request(
    parts: &mut Parts,
    body: &Body,
    name: &Name,
    upgrade: Option<&str>,
) -> Result<(), StatusError> {
    let headers = &mut parts.headers;
    if count_in_via(headers, &name.text) > name.passes_max {
        let problem = "the request has been here before";
        return Err(StatusError::because(StatusCode::LOOP_DETECTED, problem));
    }
    let takes_trailers = takes_trailers(headers);
    remove_hop_by_hop(headers);
    remove_present(headers, &NOT_PASSED_ON);
    // RFC 9110 §10.1.1: nothing to wait for, and a version that knows no waiting.
    if body.is_empty() || parts.version == Version::HTTP_10 {
        headers.remove(EXPECT);
    }
    let mut options = Vec::new();
    if takes_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
        options.push("te");
    }
    if let Some(protocol) = upgrade.and_then(|it| HeaderValue::from_str(it).ok()) {
        headers.insert(UPGRADE, protocol);
        options.push("upgrade");
    }
    if !options.is_empty() {
        let value = HeaderValue::from_str(&options.join(", "));
        headers.insert(CONNECTION, value.expect("these are tokens"));
    }
    append_via(headers, parts.version, &name.text);
    Ok(())
}

/// RFC 9110 §10.1.4.
fn takes_trailers(headers: &HeaderMap) -> bool {
    members(headers, &TE).any(|coding| coding.eq_ignore_ascii_case("trailers"))
}

/// Makes a response ready for the client.
pub(super) fn prepare_response(response: &mut Response, is_head: bool, via: Option<&Name>) {
    let status = response.status();
    if status == StatusCode::SWITCHING_PROTOCOLS {
        // Made by `tunnels.rs`, for this client.
        return;
    }
    let version = response.version();
    let headers = response.headers_mut();
    remove_hop_by_hop(headers);
    if let Some(name) = via {
        append_via(headers, version, &name.text);
    }
    let has_length = headers.contains_key(CONTENT_LENGTH);
    if is_head && !has_length {
        // RFC 9110 §8.6: nobody knows how long it would be, so nothing says that it is empty.
        let (_, unknown) = Body::channel();
        *response.body_mut() = unknown;
    } else if has_length && !is_head && status != StatusCode::NOT_MODIFIED {
        headers.remove(CONTENT_LENGTH);
    }
}

/// Which of these protocols the request asks to go on in. What changes something does not where the proxy `is_layered`: a
/// cache has to see it (RFC 9111 §4.4), and sees nobody switch.
pub(super) fn wanted_upgrade<'a>(
    request: &super::super::request::Request,
    allowed: &'a [Box<str>],
    is_layered: bool,
) -> Option<&'a str> {
    if is_layered && !request.method().is_safe() {
        return None;
    }
    let mut allowed = allowed.iter().map(|it| &**it);
    allowed.find(|protocol| request.wants_upgrade(protocol))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(method: &str, fields: &[(&'static str, &str)]) -> Parts {
        let mut request = http::Request::builder().method(method).uri("/a");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).expect("it is a request").into_parts().0
    }

    fn shown(headers: &HeaderMap) -> String {
        let lines = headers.iter().map(|(name, value)| {
            let value = value.to_str().expect("it is text");
            format!("{name}: {value}\n")
        });
        lines.collect()
    }

    #[test]
    fn rfc9110_7_6_1_what_is_for_one_hop_is_left_out_and_said_anew() {
        let mut parts = parts(
            "POST",
            &[
                ("host", "a"),
                ("connection", "keep-alive, x-mine, TE, upgrade"),
                ("x-mine", "1"),
                ("x-theirs", "2"),
                ("te", "gzip, trailers"),
                ("upgrade", "websocket, other"),
                ("transfer-encoding", "chunked"),
                ("proxy-authorization", "Basic YTpi"),
                ("proxy", "http://evil.example"),
                ("expect", "100-continue"),
            ],
        );
        let body = Body::from("some");
        let prepared = prepare_request(&mut parts, &body, &Name::default(), Some("websocket"));
        prepared.expect("it is no loop");
        let expected = "host: a\nx-theirs: 2\nexpect: 100-continue\nte: trailers\n\
                        upgrade: websocket\nconnection: te, upgrade\nvia: 1.1 torsade\n";
        let mut lines: Vec<_> = expected.lines().collect();
        lines.sort_unstable();
        let text = shown(&parts.headers);
        let mut got: Vec<_> = text.lines().collect();
        got.sort_unstable();
        assert_eq!(got, lines);
    }

    #[test]
    fn rfc9110_10_1_1_an_expectation_without_a_body_is_not_passed_on() {
        let mut parts = parts("GET", &[("expect", "100-continue")]);
        let prepared = prepare_request(&mut parts, &Body::empty(), &Name::default(), None);
        prepared.expect("it is no loop");
        assert_eq!(shown(&parts.headers), "via: 1.1 torsade\n");
    }

    #[test]
    fn a_request_that_comes_round_again_is_a_loop() {
        let status = |via: &str, name: &Name| {
            let mut parts = parts("GET", &[("via", via)]);
            let prepared = prepare_request(&mut parts, &Body::empty(), name, None);
            prepared.err().map(|error| error.status().as_u16())
        };
        let unique = Name::unique("edge-1");
        assert_eq!(status("1.1 edge-2, 1.1 torsade", &unique), None);
        assert_eq!(status("1.1 edge-2, 1.1 Edge-1", &unique), Some(508));
        let usual = Name::default();
        let [three, four] = [3, 4].map(|count| ["1.1 torsade"].repeat(count).join(", "));
        assert_eq!(status(&three, &usual), None);
        assert_eq!(status(&four, &usual), Some(508));
    }

    #[test]
    fn rfc9110_7_6_2_max_forwards_is_counted_down_for_trace_and_options_alone() {
        let count = |method: &str, value: &str| {
            let mut parts = parts(method, &[("max-forwards", value)]);
            let answer = answer_here(&mut parts).map(|it| it.status().as_u16());
            let left = &parts.headers["max-forwards"];
            (answer, left.to_str().expect("it is text").to_owned())
        };
        assert_eq!(count("TRACE", "1"), (None, "0".into()));
        assert_eq!(count("TRACE", "0"), (Some(200), "0".into()));
        assert_eq!(count("OPTIONS", "0"), (Some(204), "0".into()));
        assert_eq!(count("GET", "0"), (None, "0".into()));
    }

    #[test]
    fn a_trace_shows_the_request_and_no_secret() {
        let fields = [
            ("host", "a"),
            ("cookie", "c"),
            ("authorization", "s"),
            ("max-forwards", "0"),
        ];
        let response = answer_here(&mut parts("TRACE", &fields)).expect("it ends here");
        let body = response.body().as_bytes().expect("it is in memory");
        let expected = "TRACE /a HTTP/1.1\r\nhost: a\r\nmax-forwards: 0\r\n\r\n";
        assert_eq!(String::from_utf8_lossy(body), expected);
    }

    #[test]
    fn the_head_of_a_body_of_unknown_length_says_nothing_of_its_length() {
        let mut response = Response::new(Body::empty());
        prepare_response(&mut response, true, None);
        assert_eq!(response.body().length(), None);
        let mut response = Response::new(Body::empty());
        response.headers_mut().insert(CONTENT_LENGTH, 7.into());
        prepare_response(&mut response, true, None);
        assert_eq!(response.headers()[CONTENT_LENGTH], "7");
    }
}
