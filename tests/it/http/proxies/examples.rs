//! The examples, in the simulation.

use std::cell::{Cell, RefCell};
use std::io::{self, Write};
use std::rc::Rc;
use std::time::Duration;

use torsade::prelude::*;
use torsade::protocols::http::{AccessLog, Client, HeaderValue, Proxies, Proxy, Request, Response};
use torsade::reactor::testing::Simulation;

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
    forward_proxy = "../../../../examples/forward_proxy.rs"
    reverse_proxy = "../../../../examples/reverse_proxy.rs"
}

/// What an access log writes.
#[derive(Clone, Default)]
struct Paper(Rc<RefCell<Vec<u8>>>);

impl Write for Paper {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Paper {
    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.0.borrow()).into_owned();
        text.lines().map(str::to_owned).collect()
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// A host whose pages have its name.
fn start_server(simulation: &Simulation, name: &'static str) {
    simulation.host(name).start(move |reactor| {
        let server = http::serve(reactor, ":80", move |request: Request| {
            format!("{name}{}", request.path())
        });
        drop(server.expect("the port is free"));
    });
}

fn ask(client: &Client, reactor: &Reactor, url: &str) -> Result<String, String> {
    let page = client.get_text(url, 1000);
    reactor
        .run_until(page)
        .map_err(|failure| failure.to_string())
}

#[test]
fn the_reverse_proxy_takes_turns_with_its_servers_and_logs() {
    let simulation = Simulation::new(1);
    start_server(&simulation, "one");
    start_server(&simulation, "two");
    let (between, paper) = (simulation.host("between"), Paper::default());
    let written = paper.clone();
    between.start(move |reactor| {
        let options = reverse_proxy::Options {
            upstreams: vec!["http://one".to_owned(), "http://two/below".to_owned()],
            ..Default::default()
        };
        let proxy = options.proxy(reactor).expect("URLs");
        let site = reverse_proxy::site(proxy, AccessLog::to(reactor, written.clone()));
        drop(site.listen(reactor, ":80").expect("the port is free"));
    });
    let reactor = simulation.host("client").reactor();
    let client = Client::new(&reactor);
    let pages = [(); 3].map(|()| ask(&client, &reactor, "http://between/a"));
    assert_eq!(pages.map(Result::unwrap), ["one/a", "two/below/a", "one/a"]);
    simulation.run_for(SECOND * 5);
    let lines = paper.lines();
    assert_eq!(lines.len(), 3);
    assert!(lines[0].contains("\"GET /a HTTP/1.1\" 200 5"), "{lines:?}");
    let nobody = reverse_proxy::Options::default();
    assert!(nobody.proxy(&reactor).is_err(), "there is none");
}

#[test]
fn the_forward_proxy_wants_a_password_and_logs() {
    let simulation = Simulation::new(2);
    start_server(&simulation, "far");
    let (between, paper) = (simulation.host("between"), Paper::default());
    let written = paper.clone();
    between.start(move |reactor| {
        let options = forward_proxy::Options {
            address: ":3128".to_owned(),
            user: Some(("ali".to_owned(), "sesame".to_owned())),
            ..Default::default()
        };
        let proxy = options.proxy(reactor);
        let site = forward_proxy::site(proxy, AccessLog::to(reactor, written.clone()));
        drop(
            site.listen(reactor, &*options.address)
                .expect("the port is free"),
        );
    });
    let reactor = simulation.host("client").reactor();
    let through = |url: &str| {
        let proxy = Proxy::new(url).expect("a URL");
        Client::new(&reactor).proxies(Proxies::all(proxy))
    };
    let known = through("http://ali:sesame@between:3128");
    assert_eq!(
        ask(&known, &reactor, "http://far/a").as_deref(),
        Ok("far/a")
    );
    let stranger = through("http://between:3128");
    let refused = ask(&stranger, &reactor, "http://far/a").expect_err("it has no password");
    assert!(refused.contains("407"), "{refused}");
    // No tunnel to a port that is not named, and none without a password.
    for (client, status) in [(&known, "403"), (&stranger, "407")] {
        let refused = ask(client, &reactor, "https://far:80/").expect_err("it may not");
        assert!(refused.contains(status), "{refused}");
    }
    simulation.run_for(SECOND * 5);
    let lines = paper.lines();
    assert!(
        lines[0].contains("\"GET http://far/a HTTP/1.1\" 200 5"),
        "{lines:?}"
    );
    assert!(
        lines[2].contains("\"CONNECT far:80 HTTP/1.1\" 403"),
        "{lines:?}"
    );
}

/// A host whose pages last for a minute; how often it was asked.
fn start_lasting(simulation: &Simulation, name: &str) -> Rc<Cell<u32>> {
    let asked = Rc::new(Cell::new(0));
    let counts = Rc::clone(&asked);
    simulation.host(name).start(move |reactor| {
        let counts = Rc::clone(&counts);
        let server = http::serve(reactor, ":80", move |request: Request| {
            counts.set(counts.get() + 1);
            let mut response = Response::new(request.path().to_owned().into());
            let control = HeaderValue::from_static("max-age=60");
            response.headers_mut().insert("cache-control", control);
            response
        });
        drop(server.expect("the port is free"));
    });
    asked
}

#[test]
fn the_forward_proxy_keeps_what_may_be_kept() {
    let simulation = Simulation::new(3);
    let asked = start_lasting(&simulation, "far");
    simulation.host("between").start(|reactor| {
        let options = forward_proxy::Options {
            cache: Some(8),
            ..Default::default()
        };
        drop(http::serve(reactor, ":3128", options.proxy(reactor)).expect("the port is free"));
    });
    let reactor = simulation.host("client").reactor();
    let proxy = Proxy::new("http://between:3128").expect("a URL");
    let client = Client::new(&reactor).proxies(Proxies::all(proxy));
    for _ in 0..5 {
        assert_eq!(ask(&client, &reactor, "http://far/a").as_deref(), Ok("/a"));
    }
    assert_eq!(asked.get(), 1);
    let response = reactor.run_until(client.get("http://far/a"));
    let response = response.expect("it is kept");
    assert!(response.headers().contains_key("age"));
    assert_eq!(response.headers()["via"], "1.1 torsade");
    simulation.run_for(SECOND * 61);
    assert_eq!(ask(&client, &reactor, "http://far/a").as_deref(), Ok("/a"));
    assert_eq!(asked.get(), 2);
}

#[test]
fn the_reverse_proxy_keeps_what_may_be_kept() {
    let simulation = Simulation::new(4);
    let asked = start_lasting(&simulation, "one");
    simulation.host("between").start(|reactor| {
        let options = reverse_proxy::Options {
            upstreams: vec!["http://one".to_owned()],
            cache: Some(8),
            ..Default::default()
        };
        let proxy = options.proxy(reactor).expect("a URL");
        drop(http::serve(reactor, ":80", proxy).expect("the port is free"));
    });
    let reactor = simulation.host("client").reactor();
    let client = Client::new(&reactor);
    for _ in 0..5 {
        let page = ask(&client, &reactor, "http://between/a");
        assert_eq!(page.as_deref(), Ok("/a"));
    }
    assert_eq!(asked.get(), 1);
}
