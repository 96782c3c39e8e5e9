//! Which handler gets a request, and what is around it.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use torsade::prelude::*;
use torsade::protocols::http::router::BadRoute;
use torsade::protocols::http::{
    Body, HeaderValue, Method, Request, Routes, Site, StatusCode, StatusError, header, wrap,
};
use torsade::reactor::testing::virtual_time_reactor;

use super::{Client, text};

/// What was asked of whom, and with which parameters.
fn says(name: &'static str) -> impl Fn(Request) -> String {
    move |request| {
        let id = request.parameter("id").unwrap_or("-");
        let (above, below) = (request.path_above(), request.path_below());
        format!("{name} {} {id} {above}|{below}", request.method())
    }
}

/// What the client sees: the status alone, or the body of a response that is all right.
#[track_caller]
fn check(client: &Client, request: &str, expected: &str) {
    client.send(format!("{request} HTTP/1.1\r\nHost: here\r\n\r\n"));
    let answers = client.answers();
    let seen = match answers.strip_prefix("HTTP/1.1 200 OK\r\n") {
        Some(rest) => rest.split_once("\r\n\r\n").map_or("", |(_, body)| body),
        None => answers["HTTP/1.1 ".len()..]
            .split_once("\r\n")
            .map_or("", |(line, _)| line),
    };
    assert_eq!(seen, expected, "{request}: {answers}");
}

#[test]
fn a_request_goes_to_the_route_of_its_method_and_path() -> Result<(), BadRoute> {
    let routes = Routes::new()
        .get("/", says("home"))?
        .get("/users/{id}", says("user"))?
        .post("/users/{id}", says("post"))?
        .put("/put", says("put"))?
        .patch("/put", says("patch"))?
        .delete("/put", says("delete"))?
        .get("/users/me", says("me"))?
        .route(&[], "/any", says("any"))?;
    let client = Client::asking(routes);
    check(&client, "GET /?q", "home GET - |/");
    check(&client, "GET /users/a%20b", "user GET a b |/users/a%20b");
    check(&client, "POST /users/1", "post POST 1 |/users/1");
    check(&client, "PUT /put", "put PUT - |/put");
    check(&client, "PATCH /put", "patch PATCH - |/put");
    check(&client, "DELETE /put", "delete DELETE - |/put");
    check(&client, "GET /users/me", "me GET - |/users/me");
    check(&client, "PURGE /any", "any PURGE - |/any");
    check(&client, "HEAD /users/1", "");
    check(&client, "GET /nowhere", "404 Not Found");
    check(&client, "GET /users/1/", "404 Not Found");
    check(&client, "GET /users/%ff", "400 Bad Request");
    check(&client, "GET /users/..%2f1", "user GET ../1 |/users/..%2f1");
    Ok(())
}

#[test]
fn a_method_that_is_not_there_is_told_which_are() -> Result<(), BadRoute> {
    let client = Client::asking(
        Routes::new()
            .get("/a", says("get"))?
            .post("/a", says("post"))?,
    );
    client.send("DELETE /a HTTP/1.1\r\nHost: a\r\n\r\nOPTIONS /a HTTP/1.1\r\nHost: a\r\n\r\n");
    let answers = client.answers();
    assert!(
        answers.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"),
        "{answers}"
    );
    let options = answers
        .find("HTTP/1.1 204 No Content\r\n")
        .expect("both are answered");
    assert!(
        answers[..options].contains("allow: GET, HEAD, POST\r\n"),
        "{answers}"
    );
    assert!(
        answers[options..].contains("allow: GET, HEAD, POST\r\n"),
        "{answers}"
    );
    let own = Client::asking(Routes::new().route(&[Method::OPTIONS], "/a", says("own"))?);
    check(&own, "OPTIONS /a", "own OPTIONS - |/a");
    Ok(())
}

#[test]
fn a_nested_handler_takes_what_is_below_for_its_path() -> Result<(), BadRoute> {
    let posts = Routes::new()
        .get("/", says("posts"))?
        .get("/{id}", says("post"))?;
    let user = Routes::new()
        .nest("/posts", posts)?
        .get("/{name}", says("user"))?;
    let routes = Routes::new()
        .nest("/api/{id}/", user)?
        .nest("/raw", says("raw"))?
        .get("/raw/it", says("it"))?
        .get("/{name}", says("name"))?;
    let client = Client::asking(routes);
    check(&client, "GET /api/7/x", "user GET 7 /api/7|/x");
    check(&client, "GET /api/7/posts", "posts GET 7 /api/7/posts|/");
    check(&client, "GET /api/7/posts/", "posts GET 7 /api/7/posts|/");
    // The inner one is nearer.
    check(&client, "GET /api/7/posts/8", "post GET 8 /api/7/posts|/8");
    check(&client, "GET /api/7/nowhere/", "404 Not Found");
    check(&client, "POST /raw/a//b%2Fc?d", "raw POST - /raw|/a//b%2Fc");
    check(&client, "GET /raw", "raw GET - /raw|/");
    check(&client, "GET /raw/it", "it GET - |/raw/it");
    check(&client, "POST /raw/it", "405 Method Not Allowed");
    check(&client, "GET /other", "name GET - |/other");
    let all = Client::asking(Routes::new().nest("/", says("all"))?);
    check(&all, "GET /a/b", "all GET - |/a/b");
    check(&all, "GET /", "all GET - |/");
    Ok(())
}

#[test]
fn a_route_that_is_there_already_is_refused_with_both_paths() -> Result<(), BadRoute> {
    let routes = || Routes::new().get("/users/{id}", says("user"));
    let same = routes()?.get("/users/{id}", says("other"));
    assert_eq!(
        same.expect_err("it is taken").to_string(),
        "the route GET \"/users/{id}\" is there already"
    );
    let ambiguous = routes()?.get("/users/{name}", says("other"));
    assert_eq!(
        ambiguous.expect_err("it fits the same").to_string(),
        "the route \"/users/{name}\" fits the same paths as \"/users/{id}\""
    );
    let nested = Routes::new().nest("/a", says("a"))?.nest("/a", says("b"));
    assert!(nested.is_err());
    let rest = Routes::new().nest("/a/{*rest}", says("a"));
    let problem = rest.expect_err("nothing is left below it").to_string();
    assert!(
        problem.contains("\"/a/{*rest}\": a prefix ends"),
        "{problem}"
    );
    assert!(Routes::new().get("users", says("user")).is_err());
    Ok(())
}

#[test]
fn the_fallback_answers_what_no_route_has() -> Result<(), BadRoute> {
    let routes = Routes::new()
        .get("/a", says("a"))?
        .fallback(|_: Request| (StatusCode::NOT_FOUND, Body::html("<p>lost?")));
    let client = Client::asking(routes);
    check(&client, "POST /a", "405 Method Not Allowed");
    check(&client, "POST /b", "404 Not Found");
    client.get("/b");
    assert!(client.answers().ends_with("\r\n\r\n<p>lost?"));
    Ok(())
}

#[test]
fn layers_go_around_all_routes_the_last_one_outermost() -> Result<(), BadRoute> {
    let log = Rc::new(RefCell::new(Vec::new()));
    let layer = |name: &'static str| {
        let log = Rc::clone(&log);
        move |request: Request, next: &Rc<dyn http::Handler>| {
            log.borrow_mut().push(format!("{name} {}", request.path()));
            let log = Rc::clone(&log);
            next.handle(request).map(move |response| {
                log.borrow_mut()
                    .push(format!("{name} {}", response.status()));
                response
            })
        }
    };
    let (trigger, later) = Deferred::<&'static str>::new();
    let later = RefCell::new(Some(later));
    let routes = Routes::new()
        .wrap(layer("inner"))
        .get("/later", move |_: Request| {
            later.take().expect("asked once")
        })?
        .wrap(layer("outer"));
    let client = Client::asking(routes);
    client.get("/later");
    assert_eq!(log.take(), ["outer /later", "inner /later"]);
    trigger.callback("x");
    assert_eq!(log.take(), ["inner 200 OK", "outer 200 OK"]);
    assert_eq!(client.answers(), text("x"));
    check(&client, "GET /nowhere", "404 Not Found");
    assert_eq!(log.take(), ["outer /nowhere", "inner /nowhere"]);
    Ok(())
}

#[test]
fn a_layer_may_wait_before_it_goes_on_and_may_refuse() -> Result<(), BadRoute> {
    #[derive(Debug, PartialEq)]
    struct User(String);

    let reactor = virtual_time_reactor();
    let look_up = |reactor: &Reactor, name: Option<String>| {
        defer_later(reactor, Duration::from_secs(1), move || Ok(name))
    };
    let page = |request: Request| {
        format!(
            "hello {}",
            request.extension::<User>().expect("it is there").0
        )
    };
    let guarded = wrap(page, move |mut request, next| {
        let name = request.header_text("x-name").map(str::to_owned);
        let next = Rc::clone(next);
        look_up(&request.reactor(), name).add_callback(move |name| match name {
            Some(name) => {
                request.set_extension(User(name));
                next.handle(request).into_deferred()
            }
            None => {
                let challenge = HeaderValue::from_static("Basic");
                fail(Failure::from(
                    StatusError::because(StatusCode::UNAUTHORIZED, "who are you?")
                        .with_header(header::WWW_AUTHENTICATE, challenge),
                ))
            }
        })
    });
    let client = Client::at(&reactor, &Site::new(Routes::new().get("/", guarded)?));
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Name: ada\r\n\r\n");
    assert_eq!(client.answers(), "");
    client.wait(2);
    assert_eq!(client.answers(), text("hello ada"));
    client.get("/");
    client.wait(2);
    let answers = client.answers();
    assert!(
        answers.starts_with("HTTP/1.1 401 Unauthorized\r\n"),
        "{answers}"
    );
    assert!(
        answers.contains("\r\nwww-authenticate: Basic\r\n"),
        "{answers}"
    );
    assert!(answers.contains("who are you?"), "{answers}");
    Ok(())
}

#[test]
fn rfc9110_9_3_7_options_of_the_server_itself_are_answered_without_a_route() -> Result<(), BadRoute>
{
    let routes = Routes::new().get("/", says("home"))?;
    let client = Client::asking(routes);
    client.send("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answers(), "HTTP/1.1 204 No Content\r\n\r\n");
    Ok(())
}
