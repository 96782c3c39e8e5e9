//! The examples that ask servers, over virtual time.

use std::cell::RefCell;
use std::rc::Rc;

use torsade::prelude::*;
use torsade::protocols::http::{AccessLog, Request};
use torsade::reactor::testing::{Simulation, virtual_time_reactor};

use super::client_of;

macro_rules! examples {
    ($($name:ident = $path:literal)*) => {
        $(
            #[path = $path]
            #[allow(
                dead_code,
                clippy::duplicate_mod,
                reason = "a test calls the parts and not `main`; all share a module"
            )]
            pub mod $name;
        )*
    };
}

examples! {
    downloads_async = "../../../../examples/downloads_async.rs"
    downloads_callbacks = "../../../../examples/downloads_callbacks.rs"
    top_posts = "../../../../examples/top_posts.rs"
}

/// What an example prints.
type Paper = Rc<RefCell<Vec<String>>>;

fn print_on(paper: &Paper) -> impl Fn(&str) + Clone + 'static {
    let paper = Rc::clone(paper);
    move |line| paper.borrow_mut().push(line.to_owned())
}

/// Two workers: half of the 1400 ms that the pages take together, and what the last one is longer.
const DOWNLOADS: [&str; 7] = [
    "two: http://slow.example/100: 22 bytes in 100 ms",
    "one: http://slow.example/400: 22 bytes in 400 ms",
    "two: http://slow.example/300: 22 bytes in 300 ms",
    "two: http://slow.example/100: 22 bytes in 100 ms",
    "one: http://slow.example/200: 22 bytes in 200 ms",
    "two: http://slow.example/300: 22 bytes in 300 ms",
    "all of it in 800 ms",
];

#[test]
fn downloads_with_callbacks_take_half_of_the_time() {
    use downloads_callbacks::{DELAYS, downloads, slow_page};
    let (reactor, paper) = (virtual_time_reactor(), Paper::default());
    let client = client_of(&reactor, |request: Request| slow_page(&request));
    let urls = DELAYS.map(|delay| format!("http://slow.example/{delay}"));
    let all = downloads(&reactor, &client, urls.into(), print_on(&paper));
    reactor.run_until(all).expect("they all come");
    assert_eq!(*paper.borrow(), DOWNLOADS);
}

#[test]
fn downloads_with_async_take_half_of_the_time() {
    use downloads_async::{DELAYS, downloads, slow_page};
    let (reactor, paper) = (virtual_time_reactor(), Paper::default());
    let client = client_of(&reactor, |request: Request| slow_page(&request));
    let urls = DELAYS.map(|delay| format!("http://slow.example/{delay}"));
    let all = downloads(&reactor, &client, urls.into(), print_on(&paper));
    reactor.run_until(all).expect("they all come");
    assert_eq!(*paper.borrow(), DOWNLOADS);
}

#[test]
fn top_posts_are_printed_as_they_come_and_one_that_fails_keeps_no_other() {
    use top_posts::{LISTS, answer, top_posts};
    let (reactor, paper) = (virtual_time_reactor(), Paper::default());
    let client = client_of(&reactor, |request: Request| answer(&request));
    let mut urls = LISTS
        .map(|(name, _)| format!("http://posts.example/{name}"))
        .to_vec();
    urls.push("http://posts.example/none".into());
    let all = top_posts(&client, urls, print_on(&paper));
    reactor.run_until(all).expect("they all come, or not");
    assert_eq!(
        *paper.borrow(),
        [
            "GET http://posts.example/none: the server answers with 404 Not Found",
            "3: All about python, part 3 (https://python.example/3)",
            "2: All about python, part 2 (https://python.example/2)",
            "3: All about erlang, part 3 (https://erlang.example/3)",
            "2: All about erlang, part 2 (https://erlang.example/2)",
            "3: All about rust, part 3 (https://rust.example/3)",
            "2: All about rust, part 2 (https://rust.example/2)",
        ]
    );
}

#[test]
fn what_is_left_of_top_posts_is_told_when_the_loop_stops() {
    use top_posts::{answer, top_posts};
    let (reactor, paper) = (virtual_time_reactor(), Paper::default());
    let client = client_of(&reactor, |request: Request| answer(&request));
    let urls = ["python", "rust"].map(|name| format!("http://posts.example/{name}"));
    let all = top_posts(&client, urls.into(), print_on(&paper));
    let stopping = reactor.clone();
    let stop = move || stopping.stop();
    reactor.call_later(std::time::Duration::from_millis(150), stop);
    reactor.run().expect("it stops");
    assert!(all.is_fired());
    let lines = paper.borrow();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[0].starts_with("3: All about python"));
    assert!(lines[2].starts_with("GET http://posts.example/rust: the connection ended"));
}

#[test]
fn pages_and_posts_and_files_come_from_another_host() {
    use crate::examples::static_files;
    let simulation = Simulation::new(6);
    let (server, client_host) = (simulation.host("server"), simulation.host("client"));
    let folder = tempfile::tempdir().expect("there is room");
    std::fs::write(folder.path().join("a.txt"), "hello").expect("there is room");
    let path = folder.path().to_owned();
    server.start(move |reactor| {
        let slow = |request: Request| downloads_callbacks::slow_page(&request);
        http::serve(reactor, ":80", slow).expect("the port is free");
        let posts = |request: Request| top_posts::answer(&request);
        http::serve(reactor, ":81", posts).expect("the port is free");
        let log = AccessLog::to(reactor, std::io::sink());
        let files = static_files::site(&path, log).listen(reactor, ":82");
        files.expect("the port is free");
    });
    let reactor = client_host.reactor();
    let client = http::Client::new(&reactor);
    let urls = || downloads_async::DELAYS.map(|delay| format!("http://server/{delay}"));
    let (called, awaited) = (Paper::default(), Paper::default());
    let all = downloads_callbacks::downloads(&reactor, &client, urls().into(), print_on(&called));
    reactor.run_until(all).expect("they all come");
    let all = downloads_async::downloads(&reactor, &client, urls().into(), print_on(&awaited));
    reactor.run_until(all).expect("they all come");
    for paper in [called, awaited] {
        let lines = paper.borrow();
        assert_eq!(lines.len(), DOWNLOADS.len(), "{lines:?}");
        assert!(lines[6].starts_with("all of it in 8"), "{lines:?}");
    }
    let paper = Paper::default();
    let urls = top_posts::LISTS.map(|(name, _)| format!("http://server:81/{name}"));
    let all = top_posts::top_posts(&client, urls.into(), print_on(&paper));
    reactor.run_until(all).expect("they all come");
    assert_eq!(paper.borrow().len(), 6, "{:?}", paper.borrow());
    let file = reactor.run_until(client.get_text("http://server:82/a.txt", 100));
    assert_eq!(file.expect("it is there"), "hello");
}
