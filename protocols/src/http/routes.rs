//! Routes that answer: from methods and paths to handlers, with layers around them.

use std::cell::OnceCell;
use std::fmt;
use std::rc::Rc;

use http::header::{ALLOW, HeaderValue};
use http::{Method, StatusCode};

use super::error::StatusError;
use super::request::{Parameters, Request};
use super::response::{Answer, Handler, IntoAnswer, IntoResponse};
use super::router::{BadRoute, Lookup, Router, check_prefix};

/// Hands each request to the handler of its method and path.
///
/// A pattern is one of [`Router::add`]: `{name}` is a segment, `{*name}` the rest of the path. What is
/// written out goes before a parameter, whatever was added first.
///
/// What no route answers: a path that is not there gets 404, or what the
/// [`fallback`](Self::fallback) says; a method that is not there 405 with `Allow`, or, if it is OPTIONS,
/// 204 with `Allow`. GET answers HEAD.
///
/// # Examples
///
/// ```
/// use torsade_protocols::http::{Request, Routes, Site, StatusError};
///
/// fn user(request: Request) -> Result<String, StatusError> {
///     let id = request.parameter("id").ok_or_else(StatusError::not_found)?;
///     Ok(format!("user {id}"))
/// }
///
/// let api = Routes::new()
///     .get("/users/{id}", user)?
///     .post("/users", |mut request: Request| request.read_json::<serde_json::Value>().map(|_| "made"))?;
/// let routes = Routes::new()
///     .get("/", |_: Request| "hello")?
///     .nest("/api", api)?
///     .wrap(|request, next| {
///         let path = request.path().to_owned();
///         next.handle(request).map(move |response| {
///             println!("{path}: {}", response.status());
///             response
///         })
///     });
/// let site = Site::new(routes);
/// # drop(site);
/// # Ok::<(), torsade_protocols::http::router::BadRoute>(())
/// ```
#[derive(Clone, Default)]
pub struct Routes {
    table: Rc<Table>,
    /// The first is the innermost.
    layers: Vec<Layer>,
    /// The table within its layers, made when the first request comes.
    outermost: OnceCell<Rc<dyn Handler>>,
}

type Layer = Rc<dyn Fn(Request, &Rc<dyn Handler>) -> Answer>;

#[derive(Clone, Default)]
struct Table {
    router: Router<Route>,
    fallback: Option<Rc<dyn Handler>>,
}

#[derive(Clone)]
struct Route {
    handler: Rc<dyn Handler>,
    /// How many segments stand before what the handler takes for its path; `None` if it takes all.
    below: Option<usize>,
}

/// The name of what is below a prefix, which is no word that a pattern of the user's has.
const BELOW: &str = "(below)";

impl Routes {
    /// No routes yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Answers GET, and HEAD.
    ///
    /// # Errors
    ///
    /// As all of these: [`BadRoute`], if the pattern is none, or the same paths are answered already; both
    /// patterns are in it.
    pub fn get(self, pattern: &str, handler: impl Handler) -> Result<Self, BadRoute> {
        self.route(&[Method::GET], pattern, handler)
    }

    /// Answers POST.
    ///
    /// # Errors
    ///
    /// [`BadRoute`]
    pub fn post(self, pattern: &str, handler: impl Handler) -> Result<Self, BadRoute> {
        self.route(&[Method::POST], pattern, handler)
    }

    /// Answers PUT.
    ///
    /// # Errors
    ///
    /// [`BadRoute`]
    pub fn put(self, pattern: &str, handler: impl Handler) -> Result<Self, BadRoute> {
        self.route(&[Method::PUT], pattern, handler)
    }

    /// Answers PATCH.
    ///
    /// # Errors
    ///
    /// [`BadRoute`]
    pub fn patch(self, pattern: &str, handler: impl Handler) -> Result<Self, BadRoute> {
        self.route(&[Method::PATCH], pattern, handler)
    }

    /// Answers DELETE.
    ///
    /// # Errors
    ///
    /// [`BadRoute`]
    pub fn delete(self, pattern: &str, handler: impl Handler) -> Result<Self, BadRoute> {
        self.route(&[Method::DELETE], pattern, handler)
    }

    /// Answers several methods; with none of them named, every one that has no route of its own.
    ///
    /// # Errors
    ///
    /// [`BadRoute`]
    pub fn route(
        mut self,
        methods: &[Method],
        pattern: &str,
        handler: impl Handler,
    ) -> Result<Self, BadRoute> {
        let route = Route {
            handler: Rc::new(handler),
            below: None,
        };
        let router = self.router();
        if methods.is_empty() {
            router.add_any(pattern, route)?;
        } else {
            for method in methods {
                router.add(method.clone(), pattern, route.clone())?;
            }
        }
        Ok(self)
    }

    /// Hands every request to `prefix` itself and to whatever is below it to `handler`: other routes,
    /// [`StaticFiles`](super::StaticFiles), anything.
    ///
    /// The handler takes what follows the prefix for the path, [`Request::path_below`]; for other routes
    /// that is the path that they look up. The parameters of the prefix are there, too. What the
    /// handler does not know is its own to answer: the fallback of these routes is not asked.
    ///
    /// # Errors
    ///
    /// [`BadRoute`]
    pub fn nest(mut self, prefix: &str, handler: impl Handler) -> Result<Self, BadRoute> {
        check_prefix(prefix)?;
        let base = prefix.strip_suffix('/').unwrap_or(prefix);
        let route = Route {
            handler: Rc::new(handler),
            below: Some(base.matches('/').count()),
        };
        let router = self.router();
        if !base.is_empty() {
            router.add_any(base, route.clone())?;
        }
        router.add_any(&format!("{base}/"), route.clone())?;
        router.add_any(&format!("{base}/{{*{BELOW}}}"), route)?;
        Ok(self)
    }

    /// Answers whatever has a path that no route has. Without it that is 404.
    #[must_use]
    pub fn fallback(mut self, handler: impl Handler) -> Self {
        let _ = self.outermost.take();
        Rc::make_mut(&mut self.table).fallback = Some(Rc::new(handler));
        self
    }

    /// Puts a layer around all routes, those that come later and the answers 404 and 405 among them: `layer`
    /// is called for each request, with what is within it. It may answer itself (who is not logged
    /// in), change the request, change the answer ([`Answer::map`]), keep the time. The layer that was added
    /// last is the outermost.
    ///
    /// What is within is an `Rc`, so that a layer that must wait (who is that, asks it of a database) can
    /// take it along.
    #[must_use]
    pub fn wrap<R: IntoAnswer>(
        mut self,
        layer: impl Fn(Request, &Rc<dyn Handler>) -> R + 'static,
    ) -> Self {
        let _ = self.outermost.take();
        self.layers.push(erased(layer));
        self
    }

    fn router(&mut self) -> &mut Router<Route> {
        let _ = self.outermost.take();
        &mut Rc::make_mut(&mut self.table).router
    }
}

impl Handler for Routes {
    fn handle(&self, request: Request) -> Answer {
        if self.layers.is_empty() {
            return self.table.handle(request);
        }
        let outermost = self.outermost.get_or_init(|| {
            let table: Rc<dyn Handler> = Rc::<Table>::clone(&self.table);
            self.layers.iter().fold(table, |within, layer| {
                let layer = Rc::clone(layer);
                Rc::new(Wrapped { layer, within })
            })
        });
        outermost.handle(request)
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Routes")
            .field("routes", &self.table.router)
            .field("layers", &self.layers.len())
            .field("has_fallback", &self.table.fallback.is_some())
            .finish_non_exhaustive()
    }
}

impl Handler for Table {
    fn handle(&self, mut request: Request) -> Answer {
        let mut parameters = Parameters::new();
        let route = match self.router.lookup(request.method(), request.path_below()) {
            Lookup::Found { value, params } => {
                if value.below.is_none() || params.len() > 1 {
                    let named = params.iter();
                    parameters.extend(named.map(|(name, value)| (name.into(), value.to_owned())));
                }
                value
            }
            Lookup::NotFound => {
                return match &self.fallback {
                    Some(handler) => handler.handle(request),
                    // RFC 9110 §9.3.7: what the server can do is no path's business; it is there.
                    None if request.method() == Method::OPTIONS && request.path() == "*" => {
                        Answer::Now(StatusCode::NO_CONTENT.into_response())
                    }
                    None => Answer::Failed(StatusError::not_found().into()),
                };
            }
            Lookup::MethodNotAllowed { allow } => return not_allowed(request.method(), allow),
            Lookup::Undecodable => {
                return Answer::Failed(StatusError::new(StatusCode::BAD_REQUEST).into());
            }
        };
        if let Some(segments) = route.below {
            // What is below is there as it was written, not as a parameter.
            parameters.retain(|(name, _)| **name != *BELOW);
            request.descend(segments);
        }
        request.add_parameters(parameters);
        route.handler.handle(request)
    }
}

/// RFC 9110 §15.5.6: 405 says what is allowed; §9.3.7: so does the answer to OPTIONS.
pub(super) fn not_allowed(method: &Method, allow: HeaderValue) -> Answer {
    if *method == Method::OPTIONS {
        let mut response = StatusCode::NO_CONTENT.into_response();
        response.headers_mut().insert(ALLOW, allow);
        return Answer::Now(response);
    }
    let error = StatusError::new(StatusCode::METHOD_NOT_ALLOWED).with_header(ALLOW, allow);
    Answer::Failed(error.into())
}

/// Puts a layer around one handler, as [`Routes::wrap`] does around all.
///
/// ```
/// use torsade_protocols::http::{Request, Routes, StatusError, StatusCode, wrap};
///
/// let admin = wrap(|_: Request| "secrets", |request, next| {
///     match request.header("authorization") {
///         Some(b"Bearer sesame") => next.handle(request),
///         _ => StatusError::new(StatusCode::FORBIDDEN).into(),
///     }
/// });
/// let routes = Routes::new().get("/admin", admin)?;
/// # drop(routes);
/// # Ok::<(), torsade_protocols::http::router::BadRoute>(())
/// ```
pub fn wrap<R: IntoAnswer>(
    handler: impl Handler,
    layer: impl Fn(Request, &Rc<dyn Handler>) -> R + 'static,
) -> impl Handler {
    Wrapped {
        layer: erased(layer),
        within: Rc::new(handler),
    }
}

struct Wrapped {
    layer: Layer,
    within: Rc<dyn Handler>,
}

impl Handler for Wrapped {
    fn handle(&self, request: Request) -> Answer {
        (self.layer)(request, &self.within)
    }
}

fn erased<R: IntoAnswer>(layer: impl Fn(Request, &Rc<dyn Handler>) -> R + 'static) -> Layer {
    Rc::new(move |request, within| layer(request, within).into_answer())
}
