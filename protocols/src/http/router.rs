//! Routes: from a method and a path to a value, with the parameters that stand in the path.
//!
//! ```
//! use http::Method;
//! use torsade_protocols::http::router::{Lookup, Router};
//!
//! let mut router = Router::new();
//! router.add(Method::GET, "/users/{id}", "a user")?;
//! router.add(Method::GET, "/files/{*rest}", "a file")?;
//! let Lookup::Found { value, params } = router.lookup(&Method::GET, "/users/a%20b") else {
//!     panic!("there is a route");
//! };
//! assert_eq!((*value, params.get("id")), ("a user", Some("a b")));
//! # Ok::<(), torsade_protocols::http::router::BadRoute>(())
//! ```
//!
//! # Order
//!
//! What is written out goes before a parameter, and a parameter before the rest of a path; the order of
//! adding makes no difference.
//!
//! # Not here
//!
//! A router resolves no `..` and takes `/a` and `/a/` for two paths. What answers OPTIONS, and what
//! redirects, is the caller's.

use std::borrow::Cow;
use std::fmt;

use http::{HeaderValue, Method};
use percent_encoding::percent_decode_str;

use super::values::ascii_value;

/// Values by method and path.
#[derive(Clone)]
pub struct Router<T> {
    /// The path of a route to its place in `routes`.
    paths: matchit::Router<usize>,
    routes: Vec<Route<T>>,
}

#[derive(Clone)]
struct Route<T> {
    pattern: String,
    methods: Vec<(Method, T)>,
    /// For every method that is not named.
    any: Option<T>,
}

/// Why a route cannot be added.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BadRoute {
    /// The pattern is not one: no slash at its beginning, or braces that are not as they should be.
    #[error("bad route {pattern:?}: {problem}")]
    Pattern {
        /// As it was given.
        pattern: String,
        /// What is wrong.
        problem: String,
    },
    /// The same paths have a value for that method.
    #[error("the route {method} {pattern:?} is there already")]
    Taken {
        /// As it was given.
        pattern: String,
        /// The method, or `*` for every one.
        method: String,
    },
    /// Another pattern fits the same paths, with other names for the parameters.
    #[error("the route {pattern:?} fits the same paths as {other:?}")]
    Ambiguous {
        /// As it was given.
        pattern: String,
        /// The one that was there.
        other: String,
    },
}

/// What a router knows of a request.
#[derive(Debug)]
pub enum Lookup<'r, 'p, T> {
    /// There is a value.
    Found {
        /// What was added.
        value: &'r T,
        /// The parameters of the path.
        params: Params<'r, 'p>,
    },
    /// There is the path, and not with that method: the answer is 405, with `Allow`.
    MethodNotAllowed {
        /// The value of `Allow` (RFC 9110 §10.2.1).
        allow: HeaderValue,
    },
    /// There is no such path: the answer is 404.
    NotFound,
    /// A parameter is no UTF-8 when it is decoded, or the path has a `%` without two digits behind it: the answer is 400.
    Undecodable,
}

/// Parameters of a path, decoded, in their order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Params<'r, 'p> {
    params: Vec<(Cow<'r, str>, Cow<'p, str>)>,
}

impl<T> Router<T> {
    /// A router without routes.
    #[must_use]
    pub fn new() -> Self {
        Self {
            paths: matchit::Router::new(),
            routes: Vec::new(),
        }
    }

    /// Adds a value for a method. A value for GET serves HEAD, too, unless that has its own.
    ///
    /// In the pattern `{name}` stands for one segment, or the part of it that is left, and `{*name}`,
    /// at the end, for all that is left, at least one byte. `{{` and `}}` are braces. Other characters
    /// stand for themselves, whether the request escapes them or not; so write them unescaped. A segment
    /// that begins with a colon or an asterisk, as parameters do elsewhere, is refused; for one that does, write it
    /// twice: `/::new` is the path `/:new`.
    ///
    /// # Errors
    ///
    /// [`BadRoute`]; the router is as before then.
    pub fn add(&mut self, method: Method, pattern: &str, value: T) -> Result<(), BadRoute> {
        let route = self.route(pattern)?;
        if route.methods.iter().any(|(taken, _)| *taken == method) {
            return Err(BadRoute::Taken {
                pattern: pattern.to_owned(),
                method: method.to_string(),
            });
        }
        route.methods.push((method, value));
        Ok(())
    }

    /// Adds a value for every method that has none of its own on that path.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add).
    pub fn add_any(&mut self, pattern: &str, value: T) -> Result<(), BadRoute> {
        let route = self.route(pattern)?;
        if route.any.is_some() {
            return Err(BadRoute::Taken {
                pattern: pattern.to_owned(),
                method: "*".to_owned(),
            });
        }
        route.any = Some(value);
        Ok(())
    }

    /// Adds all routes of another router below `prefix`, which may have parameters: those of the
    /// prefix come first. Its route `/` becomes `prefix` itself, if that does not end with a slash.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add); the routes before the one that cannot be added are there then.
    pub fn nest(&mut self, prefix: &str, routes: Self) -> Result<(), BadRoute> {
        check_prefix(prefix)?;
        let base = prefix.strip_suffix('/').unwrap_or(prefix);
        for route in routes.routes {
            let pattern = match route.pattern.as_str() {
                "/" if !prefix.is_empty() => prefix.to_owned(),
                pattern => format!("{base}{pattern}"),
            };
            for (method, value) in route.methods {
                self.add(method, &pattern, value)?;
            }
            if let Some(value) = route.any {
                self.add_any(&pattern, value)?;
            }
        }
        Ok(())
    }

    /// The methods that a path has, for the answer to OPTIONS; `None` if there is no such path, or it
    /// takes every method.
    #[must_use]
    pub fn allow(&self, path: &str) -> Option<HeaderValue> {
        let path = normalized(path);
        let route = &self.routes[*self.paths.at(&path).ok()?.value];
        route.any.is_none().then(|| route.allow())
    }

    /// What there is for a method and the path of a target, without its query and as it was written:
    /// an escaped slash separates nothing.
    #[must_use]
    pub fn lookup<'r, 'p>(&'r self, method: &Method, path: &'p str) -> Lookup<'r, 'p, T> {
        match normalized(path) {
            Cow::Borrowed(path) => self.find(method, path, decode),
            Cow::Owned(normal) => {
                let is_well_escaped = is_well_escaped(path);
                self.find(method, &normal, |raw| {
                    let value = decode(raw).filter(|_| is_well_escaped)?;
                    Some(Cow::Owned(value.into_owned()))
                })
            }
        }
    }

    fn find<'r, 'p, 'n>(
        &'r self,
        method: &Method,
        path: &'n str,
        decode: impl Fn(&'n str) -> Option<Cow<'p, str>>,
    ) -> Lookup<'r, 'p, T> {
        let Ok(found) = self.paths.at(path) else {
            return Lookup::NotFound;
        };
        let route = &self.routes[*found.value];
        let Some(value) = route.value(method) else {
            return Lookup::MethodNotAllowed {
                allow: route.allow(),
            };
        };
        let mut params = Vec::with_capacity(found.params.len());
        for (name, raw) in found.params.iter() {
            let Some(value) = decode(raw) else {
                return Lookup::Undecodable;
            };
            params.push((Cow::Borrowed(name), value));
        }
        Lookup::Found {
            value,
            params: Params { params },
        }
    }

    /// The route of a pattern, which is added if there is none.
    fn route(&mut self, pattern: &str) -> Result<&mut Route<T>, BadRoute> {
        let bad = |problem: String| BadRoute::Pattern {
            pattern: pattern.to_owned(),
            problem,
        };
        let known = self.routes.iter().position(|it| it.pattern == pattern);
        if let Some(index) = known {
            return Ok(&mut self.routes[index]);
        }
        if !pattern.starts_with('/') {
            return Err(bad("it does not begin with a slash".to_owned()));
        }
        for segment in pattern.split('/') {
            if let Some(problem) = foreign_parameter(segment) {
                return Err(bad(problem));
            }
        }
        let index = self.routes.len();
        match self.paths.insert(escaped(pattern), index) {
            Ok(()) => {}
            Err(matchit::InsertError::Conflict { with }) => {
                let mut patterns = self.routes.iter().map(|route| &route.pattern);
                let other = patterns.find(|other| escaped(other) == with);
                return Err(BadRoute::Ambiguous {
                    pattern: pattern.to_owned(),
                    other: other.cloned().unwrap_or(with),
                });
            }
            Err(error) => return Err(bad(error.to_string())),
        }
        self.routes.push(Route {
            pattern: pattern.to_owned(),
            methods: Vec::new(),
            any: None,
        });
        Ok(&mut self.routes[index])
    }
}

impl<T> Default for Router<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for Router<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let patterns = self.routes.iter().map(|route| &route.pattern);
        f.debug_list().entries(patterns).finish()
    }
}

impl<T> Route<T> {
    fn value(&self, method: &Method) -> Option<&T> {
        let of = |wanted: &Method| {
            let mut methods = self.methods.iter();
            methods.find_map(|(method, value)| (method == wanted).then_some(value))
        };
        let named = of(method);
        // RFC 9110 §9.3.2: HEAD is GET without the content.
        let read = || {
            (*method == Method::HEAD)
                .then(|| of(&Method::GET))
                .flatten()
        };
        named.or_else(read).or(self.any.as_ref())
    }

    fn allow(&self) -> HeaderValue {
        let mut names: Vec<&str> = Vec::new();
        for (method, _) in &self.methods {
            names.push(method.as_str());
            if *method == Method::GET && !self.methods.iter().any(|(it, _)| *it == Method::HEAD) {
                names.push("HEAD");
            }
        }
        ascii_value(&names.join(", "))
    }
}

impl Params<'_, '_> {
    /// The parameter of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter()
            .find_map(|(found, value)| (found == name).then_some(value))
    }

    /// All of them, name and value, as they stand in the path.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let params = self.params.iter();
        params.map(|(name, value)| (&**name, &**value))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.params.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.params.is_empty()
    }

    /// Those that outlive the request and the router.
    #[must_use]
    pub fn into_owned(self) -> Params<'static, 'static> {
        let params = self.params.into_iter();
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        Params {
            params: params
                .map(|(name, value)| (owned(name), owned(value)))
                .collect(),
        }
    }
}

fn decode(raw: &str) -> Option<Cow<'_, str>> {
    percent_decode_str(raw).decode_utf8().ok()
}

/// RFC 3986 §2.3 and §3.3: what may stand in a path as it is, and never is escaped by us.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte)
}

/// The same path with one way to write it (RFC 3986 §6.2.2): what need not be escaped is not, and what
/// is escaped is in capitals.
pub(super) fn normalized(path: &str) -> Cow<'_, str> {
    if path.bytes().all(|byte| is_plain(byte) || byte == b'/') {
        return Cow::Borrowed(path);
    }
    let mut normal = String::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        let escaped = behind.first_chunk::<2>().filter(|_| byte == b'%');
        let value = escaped.and_then(|digits| {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            u8::try_from(digit(digits[0])? * 16 + digit(digits[1])?).ok()
        });
        rest = if value.is_some() {
            &behind[2..]
        } else {
            behind
        };
        match value.unwrap_or(byte) {
            plain if is_plain(plain) => normal.push(char::from(plain)),
            b'/' if value.is_none() => normal.push('/'),
            other => normal.push_str(&format!("%{other:02X}")),
        }
    }
    Cow::Owned(normal)
}

/// Whether every `%` is the beginning of an escaped byte: RFC 3986 §2.1.
fn is_well_escaped(path: &str) -> bool {
    let mut behind = path.split('%').skip(1);
    behind.all(|text| matches!(text.as_bytes(), [high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit()))
}

/// What is wrong with a segment that is a parameter to other routers, and nothing but text to this one.
fn foreign_parameter(segment: &str) -> Option<String> {
    let (name, meant) = match segment.strip_prefix(':') {
        Some(name) => (name, format!("{{{name}}}")),
        None => segment
            .strip_prefix('*')
            .map(|name| (name, format!("{{*{name}}}")))?,
    };
    let sign = &segment[..1];
    (!name.starts_with(sign)).then(|| {
        format!(
            "{segment:?} is no parameter: write \"{meant}\", or \"{sign}{segment}\" for the text"
        )
    })
}

/// A prefix, below which a handler takes all that is left: it cannot take that itself.
pub(super) fn check_prefix(prefix: &str) -> Result<(), BadRoute> {
    let takes_rest = |segment: &str| segment.starts_with("{*");
    match prefix.split('/').find(|segment| takes_rest(segment)) {
        Some(rest) => Err(BadRoute::Pattern {
            pattern: prefix.to_owned(),
            problem: format!(
                "a prefix ends before {rest:?}: what is left of the path is that of the handler below it"
            ),
        }),
        None => Ok(()),
    }
}

/// A pattern as its paths are when they are normalized; its parameters stay.
fn escaped(pattern: &str) -> String {
    let mut escaped = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some(first) = rest.chars().next() {
        // Written twice, so that nobody takes it for a parameter.
        if escaped.ends_with('/') && (rest.starts_with("::") || rest.starts_with("**")) {
            escaped.push(first);
            rest = &rest[2..];
            continue;
        }
        let is_doubled = rest.starts_with("{{") || rest.starts_with("}}");
        let length = match first {
            '{' if !is_doubled => rest.find('}').map_or(rest.len(), |end| end + 1),
            _ => first.len_utf8(),
        };
        let piece = &rest[..length];
        rest = &rest[if is_doubled { 2 } else { length }..];
        if matches!(first, '{' | '}') && !is_doubled {
            escaped.push_str(piece);
            continue;
        }
        for &byte in piece.as_bytes() {
            if is_plain(byte) || byte == b'/' {
                escaped.push(char::from(byte));
            } else {
                escaped.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router(routes: &[(Method, &str)]) -> Router<String> {
        let mut router = Router::new();
        for (method, pattern) in routes {
            let added = router.add(method.clone(), pattern, format!("{method} {pattern}"));
            assert_eq!(added, Ok(()));
        }
        router
    }

    /// What was found, in words.
    fn shown<T: fmt::Display>(router: &Router<T>, method: Method, path: &str) -> String {
        match router.lookup(&method, path) {
            Lookup::Found { value, params } => {
                let mut text = value.to_string();
                for (name, value) in params.iter() {
                    text.push_str(&format!(" {name}={value}"));
                }
                text
            }
            Lookup::MethodNotAllowed { allow } => format!("405 {}", allow.to_str().expect("text")),
            Lookup::NotFound => "404".to_owned(),
            Lookup::Undecodable => "400".to_owned(),
        }
    }

    #[track_caller]
    fn check(router: &Router<String>, path: &str, expected: &str) {
        assert_eq!(shown(router, Method::GET, path), expected, "{path}");
    }

    #[test]
    fn what_is_written_out_goes_before_a_parameter_and_that_before_the_rest() {
        let routes = [
            (Method::GET, "/{*rest}"),
            (Method::GET, "/users/{id}"),
            (Method::GET, "/users/me"),
            (Method::GET, "/users/{id}/posts/{post}"),
            (Method::GET, "/"),
        ];
        let mut backwards = routes.clone();
        backwards.reverse();
        for router in [router(&routes), router(&backwards)] {
            check(&router, "/", "GET /");
            check(&router, "/users/me", "GET /users/me");
            check(&router, "/users/you", "GET /users/{id} id=you");
            check(
                &router,
                "/users/1/posts/2",
                "GET /users/{id}/posts/{post} id=1 post=2",
            );
            check(&router, "/users/1/x", "GET /{*rest} rest=users/1/x");
            check(&router, "/users/me/", "GET /{*rest} rest=users/me/");
            check(&router, "/a/b", "GET /{*rest} rest=a/b");
        }
    }

    #[test]
    fn a_path_without_a_route_is_not_found() {
        let router = router(&[(Method::GET, "/a/{b}"), (Method::GET, "/files/{*rest}")]);
        for path in [
            "", "*", "/", "/a", "/a/", "/a/b/", "/A/b", "a/b", "/files/", "host:80",
        ] {
            check(&router, path, "404");
        }
    }

    #[test]
    fn parameters_are_decoded_and_an_escaped_slash_separates_nothing() {
        let router = router(&[(Method::GET, "/a/{b}"), (Method::GET, "/files/{*rest}")]);
        check(&router, "/a/b%20c", "GET /a/{b} b=b c");
        check(&router, "/a/b+c", "GET /a/{b} b=b+c");
        check(&router, "/a/b%2Fc", "GET /a/{b} b=b/c");
        check(&router, "/a/b%2fc", "GET /a/{b} b=b/c");
        check(&router, "/a/%C3%A9", "GET /a/{b} b=\u{e9}");
        check(&router, "/a/\u{e9}", "GET /a/{b} b=\u{e9}");
        check(&router, "/a/%25", "GET /a/{b} b=%");
        for path in ["/a/%", "/a/%zz", "/a/%4", "/a/x%%41", "/a/%ff"] {
            check(&router, path, "400");
        }
        check(
            &router,
            "/files/a/%2e%2e/b",
            "GET /files/{*rest} rest=a/../b",
        );
    }

    #[test]
    fn it_makes_no_difference_what_a_client_escapes() {
        let router = router(&[
            (Method::GET, "/caf\u{e9}/{gr\u{f6}\u{df}e}"),
            (Method::GET, "/a b"),
            (Method::GET, "/{{x}}"),
        ]);
        let expected = "GET /caf\u{e9}/{gr\u{f6}\u{df}e} gr\u{f6}\u{df}e=1";
        check(&router, "/caf%c3%a9/%31", expected);
        check(&router, "/%63af%C3%A9/1", expected);
        check(&router, "/a%20b", "GET /a b");
        check(&router, "/%7bx%7d", "GET /{{x}}");
        check(&router, "/{x}", "GET /{{x}}");
    }

    #[test]
    fn rfc9110_15_5_6_another_method_is_told_which_there_are() {
        let mut router = router(&[
            (Method::GET, "/a"),
            (Method::POST, "/a"),
            (Method::PUT, "/b"),
        ]);
        assert_eq!(shown(&router, Method::DELETE, "/a"), "405 GET, HEAD, POST");
        assert_eq!(shown(&router, Method::GET, "/b"), "405 PUT");
        assert_eq!(shown(&router, Method::OPTIONS, "/a"), "405 GET, HEAD, POST");
        assert_eq!(router.allow("/a").expect("it is"), "GET, HEAD, POST");
        assert_eq!(router.allow("/c"), None);
        assert_eq!(router.add_any("/b", "any".to_owned()), Ok(()));
        assert_eq!(shown(&router, Method::GET, "/b"), "any");
        assert_eq!(shown(&router, Method::PUT, "/b"), "PUT /b");
        assert_eq!(router.allow("/b"), None);
    }

    #[test]
    fn rfc9110_9_3_2_head_is_served_by_get_unless_it_has_a_value() {
        let mut router = router(&[(Method::GET, "/a")]);
        assert_eq!(shown(&router, Method::HEAD, "/a"), "GET /a");
        assert_eq!(router.add(Method::HEAD, "/a", "own".to_owned()), Ok(()));
        assert_eq!(shown(&router, Method::HEAD, "/a"), "own");
        assert_eq!(router.allow("/a").expect("it is"), "GET, HEAD");
    }

    #[test]
    fn the_routes_of_another_router_stand_below_a_prefix() {
        let below = router(&[
            (Method::GET, "/"),
            (Method::GET, "/{post}"),
            (Method::PUT, "/{post}"),
        ]);
        let mut router = router(&[(Method::GET, "/")]);
        assert_eq!(router.nest("/users/{id}/posts", below.clone()), Ok(()));
        assert_eq!(router.nest("/posts/", below), Ok(()));
        check(&router, "/", "GET /");
        check(&router, "/users/1/posts", "GET / id=1");
        check(&router, "/users/1/posts/2", "GET /{post} id=1 post=2");
        check(&router, "/posts/", "GET /");
        check(&router, "/posts/2", "GET /{post} post=2");
        assert_eq!(
            shown(&router, Method::PUT, "/posts/2"),
            "PUT /{post} post=2"
        );
    }

    #[test]
    fn a_route_that_cannot_be_is_refused_and_changes_nothing() {
        let mut router = router(&[(Method::GET, "/a/{b}")]);
        let mut add = |pattern: &str| router.add(Method::GET, pattern, String::new());
        assert_eq!(
            add("/a/{b}"),
            Err(BadRoute::Taken {
                pattern: "/a/{b}".to_owned(),
                method: "GET".to_owned()
            })
        );
        assert_eq!(
            add("/a/{c}"),
            Err(BadRoute::Ambiguous {
                pattern: "/a/{c}".to_owned(),
                other: "/a/{b}".to_owned()
            })
        );
        for pattern in ["", "a", "*", "/{", "/}", "/{}", "/{*rest}/a", "/{a}{b}"] {
            assert!(
                matches!(add(pattern), Err(BadRoute::Pattern { .. })),
                "{pattern}"
            );
        }
        check(&router, "/a/1", "GET /a/{b} b=1");
        assert_eq!(format!("{router:?}"), "[\"/a/{b}\"]");
    }

    #[test]
    fn a_parameter_as_others_write_it_is_refused_unless_it_is_meant_as_text() {
        let mut router = router(&[]);
        for (pattern, meant) in [
            ("/orders/:id", "{id}"),
            ("/:user/posts", "{user}"),
            ("/files/*path", "{*path}"),
            ("/files/*", "{*}"),
        ] {
            let refused = router.add_any(pattern, String::new());
            let problem = refused.expect_err("it is no parameter here").to_string();
            assert!(problem.contains(&format!("{meant:?}")), "{problem}");
        }
        for pattern in ["/orders/::id", "/files/**", "/a:b", "/a*"] {
            let added = router.add_any(pattern, pattern.to_owned());
            assert_eq!(added, Ok(()), "{pattern}");
        }
        check(&router, "/orders/:id", "/orders/::id");
        check(&router, "/orders/%3aid", "/orders/::id");
        check(&router, "/files/*", "/files/**");
        check(&router, "/a:b", "/a:b");
        check(&router, "/a*", "/a*");
        check(&router, "/orders/7", "404");
    }

    #[test]
    fn a_prefix_cannot_take_the_rest_of_the_path() {
        for prefix in ["/a/{*rest}", "/{*rest}/"] {
            let refused = Router::<u8>::new().nest(prefix, Router::new());
            let problem = refused.expect_err("nothing is left for it").to_string();
            assert!(problem.contains("ends before \"{*rest}\""), "{problem}");
        }
    }

    #[test]
    fn parameters_can_be_kept() {
        let params = {
            let router = router(&[(Method::GET, "/{a}/{b}")]);
            match router.lookup(&Method::GET, "/1/%32") {
                Lookup::Found { params, .. } => params.into_owned(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!((params.len(), params.is_empty()), (2, false));
        assert_eq!((params.get("a"), params.get("b")), (Some("1"), Some("2")));
        assert_eq!(params.get("c"), None);
    }
}
