//! Where a response sends the request: RFC 9110 §15.4. Pure.

use http::header::{self, HeaderMap, HeaderName};
use http::{Method, StatusCode};

use super::error::ClientErrorKind;
use super::settings::Redirects;
use super::url::Url;

/// What becomes of the request.
#[derive(Debug)]
pub(super) enum Step {
    /// Nothing: this is the response.
    Stay,
    /// It goes on, elsewhere.
    Go {
        url: Url,
        method: Method,
        /// The body goes along.
        with_body: bool,
        /// To another origin: what was for the first one stays behind.
        crosses: bool,
    },
}

/// What is known of the request that was answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) url: &'a Url,
    pub(super) method: &'a Method,
    /// Its body can be sent once more, or there is none.
    pub(super) replayable: bool,
    /// How often it has been redirected.
    pub(super) redirects: u32,
}

/// Where the response with this status and these headers sends the request.
pub(super) fn step(
    policy: &Redirects,
    asked: Asked<'_>,
    status: StatusCode,
    headers: &HeaderMap,
) -> Result<Step, ClientErrorKind> {
    let is_redirect = matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308);
    let (true, true, Some(location)) = (is_redirect, policy.follow, headers.get(header::LOCATION))
    else {
        return Ok(Step::Stay);
    };
    let (method, with_body) = match (status.as_u16(), asked.method) {
        // §15.4.4: whatever it was, a GET gets it; unless a GET was too much already.
        (303, &Method::HEAD) => (Method::HEAD, false),
        (303, _) => (Method::GET, false),
        // §15.4.2, §15.4.3: as everybody does, for historical reasons.
        (301 | 302, &Method::POST) => (Method::GET, false),
        (_, method) => (method.clone(), true),
    };
    if with_body && !asked.replayable {
        // It is gone: the caller sees where it should have gone.
        return Ok(Step::Stay);
    }
    if asked.redirects >= policy.limit {
        return Err(ClientErrorKind::TooManyRedirects {
            limit: policy.limit,
        });
    }
    let Ok(url) = asked.url.join(location.as_bytes()) else {
        return Err(ClientErrorKind::BadRedirect {
            location: String::from_utf8_lossy(location.as_bytes()).into_owned(),
        });
    };
    if asked.url.is_https && !url.is_https && !policy.insecure {
        return Err(ClientErrorKind::InsecureRedirect {
            url: url.without_credentials(),
        });
    }
    let crosses = url.origin() != asked.url.origin();
    Ok(Step::Go {
        url,
        method,
        with_body,
        crosses,
    })
}

/// Leaves out what was about a body that does not go along.
pub(super) fn forget_body(headers: &mut HeaderMap) {
    for name in [
        header::CONTENT_TYPE,
        header::CONTENT_LENGTH,
        header::CONTENT_ENCODING,
        header::CONTENT_LANGUAGE,
        header::CONTENT_LOCATION,
        header::TRANSFER_ENCODING,
        header::TRAILER,
        header::EXPECT,
    ] {
        headers.remove(name);
    }
}

/// Leaves out what was for the origin that was asked first, and is none of another's business.
pub(super) fn forget_origin(headers: &mut HeaderMap) {
    headers.remove(header::HOST);
    for name in CREDENTIALS {
        headers.remove(name);
    }
}

/// What a stranger must not see.
pub(super) const CREDENTIALS: [HeaderName; 3] = [
    header::AUTHORIZATION,
    header::COOKIE,
    header::PROXY_AUTHORIZATION,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::new(text.parse().expect("a URI")).expect("a URL")
    }

    fn asked<'a>(url: &'a Url, method: &'a Method) -> Asked<'a> {
        Asked {
            url,
            method,
            replayable: true,
            redirects: 0,
        }
    }

    /// Where it goes: the method, the URL, and what does not go along.
    fn outcome(asked: Asked<'_>, status: u16, location: &str) -> String {
        let status = StatusCode::from_u16(status).expect("a status");
        let mut headers = HeaderMap::new();
        if !location.is_empty() {
            let location = location.parse().expect("a value");
            headers.insert(header::LOCATION, location);
        }
        match step(&Redirects::default(), asked, status, &headers) {
            Ok(Step::Stay) => "stay".into(),
            Ok(Step::Go {
                url,
                method,
                with_body,
                crosses,
            }) => {
                let body = if with_body { "" } else { " without body" };
                let crosses = if crosses { " crossing" } else { "" };
                format!("{method} {}{body}{crosses}", url.uri())
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn rfc9110_15_4_the_method_changes_where_everybody_changes_it() {
        let here = url("http://here/a/b");
        let check = |method: Method, status, expected: &str| {
            let outcome = outcome(asked(&here, &method), status, "c");
            assert_eq!(outcome, expected, "{method} {status}");
        };
        for status in [301, 302] {
            check(Method::GET, status, "GET http://here/a/c");
            check(Method::HEAD, status, "HEAD http://here/a/c");
            check(Method::POST, status, "GET http://here/a/c without body");
            check(Method::PUT, status, "PUT http://here/a/c");
        }
        check(Method::POST, 303, "GET http://here/a/c without body");
        check(Method::DELETE, 303, "GET http://here/a/c without body");
        check(Method::HEAD, 303, "HEAD http://here/a/c without body");
        for status in [307, 308] {
            check(Method::GET, status, "GET http://here/a/c");
            check(Method::POST, status, "POST http://here/a/c");
        }
        for status in [200, 300, 304, 305, 404] {
            check(Method::GET, status, "stay");
        }
    }

    #[test]
    fn what_cannot_be_followed_is_the_response() {
        let here = url("http://here/");
        assert_eq!(outcome(asked(&here, &Method::GET), 302, ""), "stay");
        let mut streamed = asked(&here, &Method::POST);
        streamed.replayable = false;
        assert_eq!(outcome(streamed, 307, "/x"), "stay");
        assert_eq!(
            outcome(streamed, 303, "/x"),
            "GET http://here/x without body"
        );
    }

    #[test]
    fn another_scheme_host_or_port_is_another_origin() {
        let here = url("https://here/");
        let check = |location: &str, expected: &str| {
            assert_eq!(outcome(asked(&here, &Method::GET), 302, location), expected);
        };
        check("https://HERE:443/x", "GET https://HERE:443/x");
        check("//here/x", "GET https://here/x");
        check("https://here:444/x", "GET https://here:444/x crossing");
        check("https://there/x", "GET https://there/x crossing");
        check("http://here/x", "redirected from https to http://here/x");
        let wanted = Redirects::default().allow_insecure();
        let location = header::HeaderValue::from_static("http://here/x");
        let headers = HeaderMap::from_iter([(header::LOCATION, location)]);
        let step = step(
            &wanted,
            asked(&here, &Method::GET),
            StatusCode::FOUND,
            &headers,
        );
        assert!(
            matches!(step, Ok(Step::Go { crosses: true, .. })),
            "{step:?}"
        );
    }

    #[test]
    fn there_is_an_end_to_it() {
        let here = url("http://here/");
        let mut asked = asked(&here, &Method::GET);
        asked.redirects = 9;
        assert_eq!(outcome(asked, 302, "/x"), "GET http://here/x");
        asked.redirects = 10;
        assert_eq!(outcome(asked, 302, "/x"), "redirected more than 10 times");
        asked.redirects = 0;
        assert_eq!(
            outcome(asked, 302, "ftp://there/"),
            "redirected to no URL: \"ftp://there/\""
        );
    }
}
