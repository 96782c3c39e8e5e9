//! Three JSON documents at once, decoded, and printed in the order in which they arrive.
//!
//! `cargo run --release --example top_posts [URL ...]`
//!
//! The documents are lists of posts, as `{"posts": [{"score": 1, "title": "..", "link": ".."}]}`. Without
//! URLs, it asks a server of its own that takes its time. Ctrl-C stops it at any moment.

#![allow(
    missing_debug_implementations,
    unreachable_pub,
    clippy::missing_errors_doc,
    reason = "the tests include this file"
)]

use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;
use torsade::deferred::gather_results;
use torsade::prelude::*;
use torsade::protocols::http::{Client, Json, Request, StatusError};
use torsade::reactor::task::defer_later;

#[path = "common/mod.rs"]
mod common;

/// The largest document that is read: 1 MiB.
const DOCUMENT_MAX: usize = 1 << 20;

/// The lists of the example's own server, and how long it takes over each, in milliseconds.
pub const LISTS: [(&str, u64); 3] = [("rust", 300), ("python", 100), ("erlang", 200)];

/// The lines of a document: `score: title (link)`.
fn lines(document: &Value) -> Result<Vec<String>, Failure> {
    let posts = document["posts"].as_array();
    let posts = posts.ok_or_else(|| Failure::message("a document without posts"))?;
    let text = |post: &Value, name: &str| post[name].as_str().unwrap_or("?").to_owned();
    let line = |post: &Value| {
        let (title, link) = (text(post, "title"), text(post, "link"));
        format!("{}: {title} ({link})", post["score"].as_i64().unwrap_or(0))
    };
    Ok(posts.iter().map(line).collect())
}

/// Asks for all of them at once, and prints each as it comes. Fires when all have come, or have failed.
pub fn top_posts(
    client: &Client,
    urls: Vec<String>,
    print: impl Fn(&str) + Clone + 'static,
) -> Deferred<()> {
    let documents = urls.into_iter().map(|url| {
        let (print, complain) = (print.clone(), print.clone());
        client
            .get_json(&url, DOCUMENT_MAX)
            .add_callback(|document| lines(&document))
            .map(move |lines| lines.iter().for_each(|line| print(line)))
            // One that fails does not keep the others.
            .add_errback(move |failure| {
                complain(&failure.to_string());
                Ok(())
            })
    });
    gather_results(documents).map(drop)
}

/// The example's own server: `/python`, for instance.
pub fn answer(request: &Request) -> Deferred<Json<Value>> {
    let name = request.path().trim_start_matches('/');
    let Some((name, delay)) = LISTS.into_iter().find(|(known, _)| *known == name) else {
        return fail(StatusError::not_found());
    };
    let posts = [3, 2].map(|score| {
        serde_json::json!({
            "score": score,
            "title": format!("All about {name}, part {score}"),
            "link": format!("https://{name}.example/{score}"),
        })
    });
    let document = Json(serde_json::json!({ "posts": posts }));
    defer_later(
        &request.reactor(),
        Duration::from_millis(delay),
        move || Ok(document),
    )
}

fn main() -> ExitCode {
    common::run("top_posts", |reactor| {
        let mut urls: Vec<String> = std::env::args().skip(1).collect();
        if urls.is_empty() {
            let answer = |request: Request| answer(&request);
            let server = http::serve(reactor, "127.0.0.1:0", answer)?;
            let address = server.address();
            urls.extend(LISTS.map(|(name, _)| format!("http://{address}/{name}")));
        }
        let client = Client::new(reactor);
        let (stopping, all) = (reactor.clone(), top_posts(&client, urls, common::say));
        drop(all.add_both(move |_| stopping.stop()));
        // Ctrl-C makes `run` return, too: what has not come by then says that it was lost.
        reactor.run()?;
        Ok(())
    })
}
