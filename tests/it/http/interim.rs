//! Interim responses, out of a server and into a client: RFC 9110 §15.2, RFC 8297.

use std::cell::RefCell;
use std::rc::Rc;

use torsade::prelude::*;
use torsade::protocols::http::{
    Body, Client as Asking, ClientRequest, HeaderMap, HeaderValue, Interim, InterimHook,
    NotInterim, Request, StatusCode, header, serve,
};

use super::programs::{Background, curl, run};
use super::{Client, text};

fn hints() -> HeaderMap {
    let mut hints = HeaderMap::new();
    let link = HeaderValue::from_static("</a.css>; rel=preload");
    hints.insert(header::LINK, link);
    hints
}

const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n";

/// What a handler has that answers when the test says so.
type Held = Rc<RefCell<Vec<(Interim, Trigger<&'static str>)>>>;

fn held() -> (Client, Held) {
    let held = Held::default();
    let list = Rc::clone(&held);
    let client = Client::asking(move |request: Request| {
        let (trigger, deferred) = Deferred::<&'static str>::new();
        list.borrow_mut().push((request.interim(), trigger));
        deferred
    });
    (client, held)
}

fn send(interim: &Interim) {
    let sent = interim.send(StatusCode::EARLY_HINTS, &hints());
    sent.expect("103 is one of them");
}

#[test]
fn hints_go_out_before_the_response_as_often_as_they_are_sent() {
    let (client, held) = held();
    client.get("/");
    let (interim, trigger) = held.borrow_mut().remove(0);
    send(&interim);
    assert_eq!(client.answers(), HINTS);
    let sent = interim.send(StatusCode::PROCESSING, &HeaderMap::new());
    sent.expect("102 is one of them");
    assert_eq!(client.answers(), "HTTP/1.1 102 Processing\r\n\r\n");
    trigger.callback("x");
    assert_eq!(client.answers(), text("x"));
    send(&interim);
    assert_eq!(client.answers(), "", "the response has been sent");
}

#[test]
fn hints_of_a_handler_that_answers_at_once_are_sent_all_the_same() {
    let client = Client::asking(|request: Request| {
        send(&request.interim());
        "x"
    });
    for _ in 0..2 {
        client.get("/");
        assert_eq!(client.answers(), format!("{HINTS}{}", text("x")));
    }
}

#[test]
fn hints_wait_for_the_responses_before_theirs() {
    let (client, held) = held();
    client.get("/1");
    client.get("/2");
    let mut held = held.take().into_iter();
    let [(_, first), (interim, second)] = [(); 2].map(|()| held.next().expect("two were asked"));
    send(&interim);
    assert_eq!(client.answers(), "");
    first.callback("first");
    assert_eq!(client.answers(), format!("{}{HINTS}", text("first")));
    second.callback("second");
    assert_eq!(client.answers(), text("second"));
}

#[test]
fn a_handler_of_one_connection_may_send_hints_on_another() {
    let last = Rc::new(RefCell::new(None));
    let list = Held::default();
    let held = Rc::clone(&list);
    let site = http::Site::new(move |request: Request| {
        let before = last.replace(Some(request.interim()));
        if let Some(before) = before {
            send(&before);
        }
        let (trigger, deferred) = Deferred::<&'static str>::new();
        list.borrow_mut().push((request.interim(), trigger));
        deferred
    });
    let [first, second] = [(); 2].map(|()| Client::of(&site));
    first.get("/");
    second.get("/");
    assert_eq!(first.answers(), HINTS);
    assert_eq!(second.answers(), "");
    drop(held.take());
}

#[test]
fn http_1_0_is_told_no_hints() {
    let (client, held) = held();
    client.send("GET / HTTP/1.0\r\n\r\n");
    let (interim, trigger) = held.borrow_mut().remove(0);
    send(&interim);
    assert_eq!(client.answers(), "");
    trigger.callback("x");
    assert!(client.answers().starts_with("HTTP/1.1 200 OK\r\n"));
    let client = Client::asking(|request: Request| {
        send(&request.interim());
        "x"
    });
    client.send("GET / HTTP/1.0\r\n\r\n");
    assert!(client.answers().starts_with("HTTP/1.1 200 OK\r\n"));
}

#[test]
fn what_frames_a_message_is_left_out_of_hints() {
    let (client, held) = held();
    client.get("/");
    let mut headers = hints();
    headers.insert(header::CONTENT_LENGTH, 3.into());
    headers.insert(
        header::TRANSFER_ENCODING,
        HeaderValue::from_static("chunked"),
    );
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    let (interim, _trigger) = held.borrow_mut().remove(0);
    let sent = interim.send(StatusCode::EARLY_HINTS, &headers);
    sent.expect("103 is one of them");
    assert_eq!(client.answers(), HINTS);
}

#[test]
fn only_interim_responses_are_sent_as_such() {
    let (client, held) = held();
    client.get("/");
    let (interim, _trigger) = held.borrow_mut().remove(0);
    for status in [StatusCode::OK, StatusCode::SWITCHING_PROTOCOLS] {
        let refused = interim.send(status, &HeaderMap::new());
        assert_eq!(refused, Err(NotInterim(status)));
    }
    let own = interim.send(StatusCode::CONTINUE, &HeaderMap::new());
    assert_eq!(own, Ok(()));
    assert_eq!(client.answers(), "");
}

#[test]
fn hints_for_a_connection_that_is_lost_go_nowhere() {
    let (client, held) = held();
    client.get("/");
    client.stream.end_because(ConnectionLost::Aborted);
    let (interim, _trigger) = held.borrow_mut().remove(0);
    send(&interim);
    client.turn();
    assert_eq!(client.answers(), "");
}

#[test]
fn hints_that_wait_for_their_turn_have_a_limit() {
    let (client, held) = held();
    client.get("/1");
    client.get("/2");
    let mut held = held.take().into_iter();
    let [(_, first), (interim, _second)] = [(); 2].map(|()| held.next().expect("two were asked"));
    for _ in 0..10_000 {
        send(&interim);
    }
    first.callback("first");
    let answers = client.answers();
    let hints = answers.strip_prefix(&text("first")).expect("it is first");
    assert_eq!(hints.len() / HINTS.len(), 16 * 1024 / HINTS.len());
    assert_eq!(hints.len() % HINTS.len(), 0, "none is cut");
}

#[test]
fn a_client_tells_who_asks_of_the_hints_of_a_server() -> Result<(), Failure> {
    let reactor = Reactor::new()?;
    let server = serve(&reactor, "127.0.0.1:0", |request: Request| {
        send(&request.interim());
        "x"
    })?;
    let client = Asking::new(&reactor);
    let seen = Rc::new(RefCell::new(Vec::new()));
    let log = Rc::clone(&seen);
    let hook = InterimHook::new(move |status, headers| {
        log.borrow_mut()
            .push((status, headers[header::LINK].clone()));
    });
    let url = format!("http://{}/", server.address());
    let request = ClientRequest::get(&url).body(Body::empty())?;
    let told = client.request_with_interims(request, &hook);
    let quiet = client.get_text(&url, 10);
    let told = told.add_callback(|response| response.into_body().read_text(10));
    let both = told.add_callback(move |told| quiet.map(move |quiet| (told, quiet)));
    let both = reactor.run_until(both)?;
    assert_eq!(both, ("x".to_owned(), "x".to_owned()));
    assert_eq!(
        *seen.borrow(),
        [(StatusCode::EARLY_HINTS, hints()[header::LINK].clone())]
    );
    Ok(())
}

/// What comes before the answer, for a program.
fn hinting() -> Background {
    Background::listening(|reactor| {
        let asked = |request: Request| {
            send(&request.interim());
            "x"
        };
        serve(reactor, "127.0.0.1:0", asked).expect("there is a port")
    })
}

#[test]
fn curl_shows_the_hints_and_takes_none_in_1_0() {
    let server = hinting();
    let Some(shown) = curl(&server, "/", &["--include", "--http1.1"]) else {
        return;
    };
    assert!(shown.starts_with(HINTS), "{shown}");
    assert!(shown.contains("\r\n\r\nHTTP/1.1 200 OK\r\n"), "{shown}");
    let shown = curl(&server, "/", &["--include", "--http1.0"]);
    let shown = shown.expect("it was there before");
    assert!(shown.starts_with("HTTP/1.1 200 OK\r\n"), "{shown}");
}

const NODE: &str = r"
const request = require('http').get('http://' + process.argv[1] + '/', response => {
  response.resume();
  response.on('end', () => console.log(response.statusCode));
});
request.on('information', it => console.log(it.statusCode + ' ' + it.headers.link));
";

#[test]
fn node_is_told_of_the_hints() {
    let server = hinting();
    let Some(output) = run("node", &["-e", NODE, &server.address]) else {
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text, "103 </a.css>; rel=preload\n200\n", "{output:?}");
}
