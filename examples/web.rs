//! A small site: pages, a form, JSON, files, and an answer that takes its time.
//!
//! `cargo run --release --example web [ADDRESS]`, then a browser at http://127.0.0.1:8080/.

#![allow(
    missing_debug_implementations,
    unreachable_pub,
    clippy::missing_errors_doc,
    clippy::missing_panics_doc,
    reason = "the demo and the tests include this file"
)]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use torsade::prelude::*;
use torsade::protocols::http::cookies::{BadCookie, Cookie, SameSite};
use torsade::protocols::http::router::BadRoute;
use torsade::protocols::http::{
    Body, BodySender, Compression, Json, Request, Response, Routes, Server, Site, StaticFiles,
    StatusCode, StatusError, compress, redirect, set_cookie,
};

#[path = "common/mod.rs"]
mod common;

/// How many messages are kept, and how long one may be, in characters.
const MESSAGES_MAX: usize = 100;
const MESSAGE_MAX: usize = 500;

/// What everybody has written, the last first. Handlers share it in an `Rc`: there is one thread.
#[derive(Default)]
struct GuestBook {
    messages: RefCell<VecDeque<String>>,
}

impl GuestBook {
    fn write(&self, message: &str) -> Result<(), StatusError> {
        let message = message.trim();
        if message.is_empty() || message.chars().count() > MESSAGE_MAX {
            let problem = format!("a message has 1 to {MESSAGE_MAX} characters");
            return Err(StatusError::because(StatusCode::BAD_REQUEST, problem));
        }
        let mut messages = self.messages.borrow_mut();
        messages.push_front(message.to_owned());
        messages.truncate(MESSAGES_MAX);
        Ok(())
    }

    fn page(&self, visit: u32) -> String {
        let messages = self.messages.borrow();
        let items = messages
            .iter()
            .map(|text| format!("<li>{}</li>\n", escape(text)));
        let items: String = items.collect();
        format!(
            "<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"><title>Guest book</title>\
             <link rel=\"stylesheet\" href=\"/files/style.css\"></head>\n<body><h1>Guest book</h1>\n\
             <p>This is your visit number {visit}. <a href=\"/files/about.html\">About</a></p>\n\
             <form method=\"post\" action=\"/sign\"><input name=\"message\" maxlength=\"{MESSAGE_MAX}\" \
             autofocus> <button>Sign</button></form>\n<ul>\n{items}</ul>\n</body></html>\n"
        )
    }
}

/// Text as it stands in a page. What users write never gets there as it is.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// The first page, with a cookie that counts.
fn home(book: &GuestBook, request: &Request) -> Result<Response, BadCookie> {
    let before = request
        .cookie("visits")
        .and_then(|count| count.parse::<u32>().ok());
    let visit = before.unwrap_or(0).saturating_add(1);
    let mut response = Response::new(Body::html(book.page(visit)));
    let cookie = Cookie::new("visits", visit.to_string())?;
    set_cookie(&mut response, &cookie.http_only().same_site(SameSite::Lax));
    Ok(response)
}

/// Counts down, a line a second: a body that is written while it is sent.
fn countdown(request: Request) -> Result<Body, StatusError> {
    let from = request
        .parameter("from")
        .and_then(|from| from.parse::<u32>().ok());
    let from = from
        .filter(|from| *from <= 60)
        .ok_or_else(StatusError::not_found)?;
    let (sender, body) = Body::channel();
    count(request.reactor(), sender, from);
    Ok(body.with_media_type("text/plain; charset=utf-8"))
}

fn count(reactor: Reactor, sender: BodySender, left: u32) {
    // An error says that nobody listens any more: then this was the last of it.
    if sender.write(format!("{left}\n")).is_err() {
        return;
    }
    if left == 0 {
        return sender.finish();
    }
    let again = reactor.clone();
    reactor.call_later(Duration::from_secs(1), move || {
        count(again, sender, left - 1)
    });
}

/// The whole site.
pub fn site() -> Result<Site, BadRoute> {
    let book = Rc::new(GuestBook::default());
    let (shown, signed, listed, posted) = (book.clone(), book.clone(), book.clone(), book);
    let api = Routes::new()
        .get("/messages", move |_: Request| {
            Json(listed.messages.borrow().clone())
        })?
        .post("/messages", move |mut request: Request| {
            let book = Rc::clone(&posted);
            request.read_json::<String>().add_callback(move |message| {
                book.write(&message)?;
                Ok(StatusCode::CREATED)
            })
        })?;
    let files = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/web_files");
    let routes = Routes::new()
        .get("/", move |request: Request| home(&shown, &request))?
        .post("/sign", move |mut request: Request| {
            let book = Rc::clone(&signed);
            request.read_form().add_callback(move |form| {
                book.write(form.get("message").unwrap_or_default())?;
                // A browser that loads the page again must not send the form again.
                Ok(redirect(StatusCode::SEE_OTHER, "/"))
            })
        })?
        .get("/countdown/{from}", countdown)?
        .nest("/api", api)?
        .nest("/files", StaticFiles::new(files))?
        .wrap(compress(Compression::default()));
    Ok(Site::new(routes))
}

/// Listens, on a machine or on a simulated host.
pub fn listen(reactor: &Reactor, address: &str) -> Result<Server, ListenError> {
    let site = site().expect("no two of the routes are the same");
    site.listen(reactor, address)
}

fn main() -> ExitCode {
    common::run("web", |reactor| {
        let server = listen(reactor, &common::address_or("127.0.0.1:8080"))?;
        common::serve(reactor, server.port())
    })
}
