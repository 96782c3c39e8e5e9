//! The sites of the examples, and what requests say.

use torsade::prelude::*;
use torsade::protocols::http::router::BadRoute;
use torsade::protocols::http::{AccessLog, Request, Routes};
use torsade::reactor::testing::virtual_time_reactor;

use super::{Client, text};
use crate::examples::{static_files, web};

const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";

fn post(client: &Client, target: &str, fields: &str, body: &str) -> String {
    let length = body.len();
    client.send(format!(
        "POST {target} HTTP/1.1\r\nHost: here\r\n{fields}Content-Length: {length}\r\n\r\n{body}"
    ));
    client.answers()
}

#[test]
fn fields_of_queries_and_forms_are_decoded() -> Result<(), BadRoute> {
    let shown = |form: http::forms::Form| {
        let fields = form.iter().map(|(name, value)| format!("{name}={value};"));
        fields.collect::<String>()
    };
    let routes = Routes::new()
        .get("/", move |request: Request| shown(request.query_pairs()))?
        .post("/", move |mut request: Request| {
            request.read_form().map(shown)
        })?;
    let client = Client::asking(routes);
    client.get("/?a=b+c&a=%26&d");
    assert_eq!(client.answers(), text("a=b c;a=&;d=;"));
    client.get("/");
    assert!(client.answers().ends_with("\r\ncontent-length: 0\r\n\r\n"));
    assert_eq!(
        post(&client, "/", FORM, "a=b+c&d=%C3%A9"),
        text("a=b c;d=é;")
    );
    let answer = post(&client, "/", "Content-Type: text/plain\r\n", "a=b");
    assert!(answer.starts_with("HTTP/1.1 415 "), "{answer}");
    let answer = post(&client, "/", FORM, &"a&".repeat(1001));
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    Ok(())
}

#[test]
fn cookies_are_read_and_json_that_is_none_is_the_fault_of_the_client() -> Result<(), BadRoute> {
    let routes = Routes::new()
        .get("/", |request: Request| {
            request.cookie("b").unwrap_or("none").to_owned()
        })?
        .post("/", |mut request: Request| {
            request.read_json::<Vec<u8>>().map(|_| "read")
        })?;
    let client = Client::asking(routes);
    client.send("GET / HTTP/1.1\r\nHost: a\r\nCookie: a=1; b=2; b=3\r\n\r\n");
    assert_eq!(client.answers(), text("2"));
    assert_eq!(post(&client, "/", "", "[1]"), text("read"));
    for bad in ["[", "[300]", ""] {
        let answer = post(&client, "/", "", bad);
        assert!(
            answer.starts_with("HTTP/1.1 400 Bad Request\r\n"),
            "{answer}"
        );
    }
    Ok(())
}

#[test]
fn the_web_site_has_pages_a_form_json_and_files() {
    let client = Client::of(&web::site().expect("its routes are good"));
    client.get("/");
    let page = client.answers();
    assert!(
        page.contains("\r\nset-cookie: visits=1; HttpOnly; SameSite=Lax\r\n"),
        "{page}"
    );
    assert!(page.contains("your visit number 1."), "{page}");
    let answer = post(&client, "/sign", FORM, "message=%3Cb%3E+%26");
    assert!(answer.starts_with("HTTP/1.1 303 See Other\r\n"), "{answer}");
    let answer = post(&client, "/api/messages", "", "\"from a program\"");
    assert!(answer.starts_with("HTTP/1.1 201 Created\r\n"), "{answer}");
    client.send("GET / HTTP/1.1\r\nHost: a\r\nCookie: visits=1\r\n\r\n");
    let page = client.answers();
    assert!(page.contains("your visit number 2."), "{page}");
    let messages = "<li>from a program</li>\n<li>&lt;b&gt; &amp;</li>\n";
    assert!(page.contains(messages), "{page}");
    client.get("/api/messages");
    assert!(client.answers().ends_with("[\"from a program\",\"<b> &\"]"));
    for (bad, status) in [("", "400"), ("message=+", "400")] {
        let answer = post(&client, "/sign", FORM, bad);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
    }
    client.get("/files/about.html");
    let file = client.answers();
    assert!(
        file.contains("content-type: text/html; charset=utf-8\r\n"),
        "{file}"
    );
    assert!(file.ends_with("</body></html>\n"), "{file}");
    client.get("/files/../web.rs");
    assert!(client.answers().starts_with("HTTP/1.1 400 "));
}

#[test]
fn the_web_site_counts_down_while_it_answers() {
    let client = Client::of(&web::site().expect("its routes are good"));
    client.get("/countdown/2");
    client.turn();
    let begin = client.answers();
    assert!(
        begin.contains("\r\ntransfer-encoding: chunked\r\n"),
        "{begin}"
    );
    assert!(begin.ends_with("\r\n\r\n2\r\n2\n\r\n"), "{begin}");
    client.wait(5);
    assert_eq!(client.answers(), "2\r\n1\n\r\n2\r\n0\n\r\n0\r\n\r\n");
    client.get("/countdown/61");
    assert!(client.answers().starts_with("HTTP/1.1 404 "));
}

#[test]
fn the_files_of_a_folder_are_served_and_logged() {
    let folder = tempfile::tempdir().expect("there is room");
    std::fs::write(folder.path().join("a.txt"), "hello").expect("there is room");
    let log_path = folder.path().join(".log");
    let reactor = virtual_time_reactor();
    let log = AccessLog::to_file(&reactor, &log_path).expect("there is room");
    let client = Client::at(&reactor, &static_files::site(folder.path(), log));
    client.get("/");
    let page = client.answers();
    assert!(page.contains("<a href=\"./a.txt\">a.txt</a>"), "{page}");
    client.get("/a.txt");
    assert!(client.answers().ends_with("\r\n\r\nhello"));
    client.wait(2);
    let log = std::fs::read_to_string(log_path).expect("it was written");
    assert_eq!(log.lines().count(), 2);
    assert!(log.contains("\"GET /a.txt HTTP/1.1\" 200 5 "), "{log}");
}
