//! Proxies between hosts of simulated networks, under faults.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use torsade::prelude::*;
use torsade::protocols::http::{
    BodyError, Client, ClientError, ForwardProxy, Proxies, Proxy, Request, ReverseProxy, Server,
    Site,
};
use torsade::reactor::task::defer_later;
use torsade::reactor::testing::{FaultRates, Simulation, Swarm};

use crate::examples::echo;

const SECOND: Duration = Duration::from_secs(1);

/// What came of what a client asked.
#[derive(Default)]
struct Tally {
    right: u32,
    /// The proxy said that the server could not be asked.
    told: u32,
    broken: u32,
}

/// How often each path was posted to.
type Posts = Rc<RefCell<BTreeMap<String, u32>>>;

/// Echoes bodies while they come.
fn start_server(simulation: &Simulation, posts: &Posts) -> Rc<RefCell<Option<Server>>> {
    let (seen, place) = (Rc::clone(posts), Rc::new(RefCell::new(None)));
    let kept = Rc::clone(&place);
    simulation.host("server").start(move |reactor| {
        let seen = Rc::clone(&seen);
        let site = Site::new(move |mut request: Request| {
            if request.method() == "POST" {
                let path = request.path().to_owned();
                *seen.borrow_mut().entry(path).or_default() += 1;
            }
            request.take_body()
        });
        kept.replace(Some(site.listen(reactor, ":80").expect("the port is free")));
        echo::listen(reactor, ":7").expect("the port is free");
    });
    place
}

/// Asks `left` times in a row, with bodies of every length that come back.
fn ask(
    client: Client,
    reactor: Reactor,
    url: String,
    left: u32,
    tally: Rc<RefCell<Tally>>,
) -> Deferred<()> {
    if left == 0 {
        return succeed(());
    }
    let size = (left as usize * 31_337) % 150_000;
    let body: String = format!("{url}/{left} ")
        .chars()
        .cycle()
        .take(size)
        .collect();
    let expected = body.clone();
    let method = if left.is_multiple_of(3) {
        "PUT"
    } else {
        "POST"
    };
    let request = http::ClientRequest::<()>::builder()
        .method(method)
        .uri(format!("{url}/{left}"));
    let request = request.body(body).expect("it is a request");
    let counted = Rc::clone(&tally);
    let answer = client.request(request).add_callback(|response| {
        let status = response.status().as_u16();
        response
            .into_body()
            .read_text(1 << 20)
            .map(move |text| (status, text))
    });
    answer
        .add_both(move |outcome| {
            let mut tally = counted.borrow_mut();
            match outcome {
                Ok((200, text)) => {
                    assert!(text == expected, "a wrong answer: {text:.100}");
                    tally.right += 1;
                }
                Ok((status, text)) => {
                    assert!(matches!(status, 400 | 408 | 502..=504), "{status}: {text}");
                    tally.told += 1;
                }
                Err(failure) => {
                    let is_told = failure.check::<ClientError>() || failure.check::<BodyError>();
                    assert!(is_told, "{failure}");
                    tally.broken += 1;
                }
            }
        })
        .add_callback(move |()| {
            let pause = Duration::from_millis(u64::from(left) * 200);
            let clock = reactor.clone();
            defer_later(&clock, pause, move || {
                ask(client, reactor, url, left - 1, tally)
            })
        })
}

fn faults() -> FaultRates {
    FaultRates {
        until: SECOND * 20,
        lasts_max: SECOND * 5,
        partitions: 3.0,
        cuts: 5.0,
        holds: 3.0,
        degradations: 3.0,
        ..Default::default()
    }
}

/// Runs a proxy between two clients and a server, in a world with faults or without; each client asks for
/// `url`, perhaps through the proxy as it is named to clients.
fn run(
    simulation: &Simulation,
    sum: &Sum,
    listen: impl Fn(&Reactor, &Client) -> Server + 'static,
    url: &str,
    proxies: Option<&str>,
) {
    let posts = Posts::default();
    let server = start_server(simulation, &posts);
    let between = simulation.host("between");
    let place = Rc::new(RefCell::new(None));
    let kept = Rc::clone(&place);
    between.start(move |reactor| {
        let asking = Client::new(reactor);
        kept.replace(Some((listen(reactor, &asking), asking)));
    });
    let has_faults = simulation.seed().is_multiple_of(2);
    if has_faults {
        simulation.inject_faults(&faults());
    }
    let mut under_way = Vec::new();
    for index in 0..2 {
        let host = simulation.host(&format!("client{index}"));
        let mut client = Client::new(&host.reactor());
        if let Some(proxy) = proxies {
            let proxy = Proxy::new(proxy).expect("a URL");
            client = client.proxies(Proxies::all(proxy));
        }
        for line in 0..3 {
            let tally = Rc::<RefCell<Tally>>::default();
            let url = format!("{url}/{index}-{line}");
            let done = ask(client.clone(), host.reactor(), url, 6, Rc::clone(&tally));
            under_way.push((client.clone(), done, tally));
        }
    }
    simulation.run_for(SECOND * 1200);
    for (client, done, tally) in under_way {
        assert!(done.is_fired(), "each comes to an end");
        assert_eq!(client.pool().open, 0, "idle connections are closed");
        let tally = tally.borrow();
        assert_eq!(tally.right + tally.told + tally.broken, 6);
        assert!(has_faults || tally.right == 6, "nothing went wrong");
        sum.right.set(sum.right.get() + tally.right);
        sum.wrong.set(sum.wrong.get() + tally.told + tally.broken);
    }
    let (listening, asking) = place.take().expect("it has started");
    assert_eq!(
        (listening.connections(), asking.pool().open),
        (0, 0),
        "the proxy is idle"
    );
    let left = server.borrow().as_ref().map_or(0, Server::connections);
    assert_eq!(left, 0, "and so is the server");
    for (path, count) in posts.borrow().iter() {
        assert_eq!(*count, 1, "{path} was sent more than once");
    }
}

#[derive(Default)]
struct Sum {
    right: Cell<u32>,
    wrong: Cell<u32>,
}

/// Whatever goes wrong on either side, every request comes to an end, none of the answers is another's or cut
/// short unseen, no POST is sent twice, and in the end no connection is left.
#[test]
fn in_every_seed_the_reverse_proxy_gives_each_its_own_answer_or_an_error() {
    let command = "cargo test --test it in_every_seed_the_reverse_proxy";
    let sum = Sum::default();
    Swarm::new(command).seeds(50).run(|simulation| {
        let listen = |reactor: &Reactor, asking: &Client| {
            let proxy = ReverseProxy::new(asking, "http://server").expect("a URL");
            http::serve(reactor, ":80", proxy).expect("the port is free")
        };
        run(simulation, &sum, listen, "http://between", None);
    });
    assert!(sum.right.get() > 0 && sum.wrong.get() > 0, "both were seen");
}

#[test]
fn in_every_seed_the_forward_proxy_gives_each_its_own_answer_or_an_error() {
    let command = "cargo test --test it in_every_seed_the_forward_proxy";
    let sum = Sum::default();
    Swarm::new(command).seeds(50).run(|simulation| {
        let listen = |reactor: &Reactor, asking: &Client| {
            let proxy = ForwardProxy::new(asking);
            http::serve(reactor, ":3128", proxy).expect("the port is free")
        };
        let proxy = Some("http://between:3128");
        run(simulation, &sum, listen, "http://server", proxy);
    });
    assert!(sum.right.get() > 0 && sum.wrong.get() > 0, "both were seen");
}

/// Asks for a tunnel, sends through it what comes back, and writes down what came.
struct Digging {
    sent: Vec<u8>,
    heard: Rc<RefCell<Vec<u8>>>,
    over: Rc<Cell<bool>>,
}

const CONNECT: &[u8] = b"CONNECT server:7 HTTP/1.1\r\nHost: server:7\r\n\r\n";

impl Protocol for Digging {
    fn connection_made(&mut self, transport: &Transport<Self>) {
        transport.write(CONNECT);
        transport.write(&self.sent);
    }

    fn data_received(&mut self, transport: &Transport<Self>, data: &[u8]) {
        let mut heard = self.heard.borrow_mut();
        heard.extend_from_slice(data);
        let head = heard.windows(4).position(|it| it == b"\r\n\r\n");
        let is_all = head.is_some_and(|head| heard.len() - head - 4 >= self.sent.len());
        drop(heard);
        if is_all {
            transport.lose_connection();
        }
    }

    fn connection_lost(&mut self, _: ConnectionLost) {
        self.over.set(true);
    }
}

#[test]
fn in_every_seed_what_comes_through_a_tunnel_is_what_was_sent_or_its_beginning() {
    let command = "cargo test --test it in_every_seed_what_comes_through_a_tunnel";
    let (whole, cut) = (Cell::new(0), Cell::new(0));
    Swarm::new(command).seeds(50).run(|simulation| {
        let _server = start_server(simulation, &Posts::default());
        let place = Rc::new(RefCell::new(None));
        let kept = Rc::clone(&place);
        simulation.host("between").start(move |reactor| {
            let proxy = ForwardProxy::new(&Client::new(reactor)).tunnel_ports(|port| port == 7);
            let server = http::serve(reactor, ":3128", proxy.clone());
            kept.replace(Some((proxy, server.expect("the port is free"))));
        });
        let has_faults = simulation.seed().is_multiple_of(2);
        if has_faults {
            simulation.inject_faults(&faults());
        }
        let client = simulation.host("client");
        let mut tunnels = Vec::new();
        for index in 0..6_usize {
            let sent: Vec<u8> = (0..index * 50_000)
                .map(|at| (at * (index + 1) % 251) as u8)
                .collect();
            let (heard, over) = (Rc::default(), Rc::default());
            let digging = Digging {
                sent: sent.clone(),
                heard: Rc::clone(&heard),
                over: Rc::clone(&over),
            };
            let reactor = client.reactor();
            let connecting = defer_later(&client.reactor(), SECOND * 3 * index as u32, move || {
                reactor.connect_tcp("between:3128", |_: &Address| digging)
            });
            // A connection that is not made is one of the faults.
            drop(connecting.map(drop).add_errback(|_| ()));
            tunnels.push((sent, heard));
        }
        simulation.run_for(SECOND * 3600);
        for (sent, heard) in tunnels {
            let heard: Vec<u8> = heard.take();
            let end = heard.windows(4).position(|it| it == b"\r\n\r\n");
            let came = end.map_or(&[][..], |end| &heard[end + 4..]);
            if heard.starts_with(b"HTTP/1.1 200 OK\r\n") {
                assert!(sent.starts_with(came), "something else came through");
            } else {
                let head = String::from_utf8_lossy(&heard);
                assert!(head.is_empty() || head.starts_with("HTTP/1.1 50"), "{head}");
            }
            if end.is_some() && came.len() == sent.len() {
                whole.set(whole.get() + 1);
            } else {
                assert!(has_faults, "nothing went wrong");
                cut.set(cut.get() + 1);
            }
        }
        let place = place.borrow();
        let (proxy, server) = place.as_ref().expect("it has started");
        assert_eq!(
            (proxy.tunnels(), server.connections()),
            (0, 0),
            "nothing is left"
        );
    });
    assert!(whole.get() > 0 && cut.get() > 0, "both were seen");
}

#[test]
fn who_asked_is_told_by_every_proxy_that_is_trusted() {
    let simulation = Simulation::new(5);
    let names = ["server", "inner", "outer", "client"];
    let [server, inner, outer, client] = names.map(|name| simulation.host(name));
    let listening = http::serve(&server.reactor(), ":80", |request: Request| {
        ["x-forwarded-for", "forwarded", "via"]
            .map(|name| {
                let fields = request.headers().get_all(name).iter();
                let fields = fields.map(|value| value.to_str().expect("it is text"));
                fields.collect::<Vec<_>>().join(", ")
            })
            .join("\n")
    });
    drop(listening.expect("the port is free"));
    let pass_on = |from: &torsade::reactor::testing::Host, to: &str, trusted| {
        let reactor = from.reactor();
        let proxy = ReverseProxy::new(&Client::new(&reactor), to).expect("a URL");
        let proxy = proxy.trust_proxies(trusted).name(from.name());
        drop(http::serve(&reactor, ":80", proxy).expect("the port is free"));
    };
    let address = |host: &torsade::reactor::testing::Host| host.ip();
    pass_on(&inner, "http://server", vec![address(&outer)]);
    pass_on(&outer, "http://inner", Vec::new());
    let reactor = client.reactor();
    let request =
        http::ClientRequest::<()>::get("http://outer/").header("x-forwarded-for", "9.9.9.9");
    let asked = Client::new(&reactor).request(request.body(()).expect("a request"));
    let text = asked.add_callback(|response| response.into_body().read_text(1 << 10));
    let text = reactor.run_until(text).expect("it is answered");
    let (client, outer) = (address(&client), address(&outer));
    let expected = format!(
        "{client}, {outer}\nfor={client};host=outer;proto=http, for={outer};host=inner;proto=http\n1.1 outer, 1.1 inner"
    );
    assert_eq!(text, expected);
}
