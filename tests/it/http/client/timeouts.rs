//! How long a server may take, at each stage.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use torsade::prelude::*;
use torsade::protocols::http::{
    Body, BodySender, Client, ClientError, ClientErrorKind, ClientLimits, Origin, Stage,
};
use torsade::reactor::task::sleep;
use torsade::reactor::testing::{
    Chunks, failure_of, memory_pair, no_result, success_of, virtual_time_reactor,
};
use torsade::reactor::{ClientEndpoint, Stream};

use super::{Net, OK, error, shown};

fn limited(limits: ClientLimits) -> Net {
    Net::with(|client| client.limits(limits))
}

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// That a request fails at this stage, and not before the time.
#[track_caller]
fn check<T: 'static>(net: &Net, asked: Deferred<T>, time: u64, stage: Stage) {
    net.pass(seconds(time) - Duration::from_millis(1));
    no_result(&asked);
    net.pass(Duration::from_millis(1));
    match error(asked).kind() {
        ClientErrorKind::Timeout {
            stage: found,
            limit,
        } => assert_eq!((*found, *limit), (stage, seconds(time))),
        other => panic!("it failed otherwise: {other}"),
    }
    assert_eq!(net.client.pool().open, 0);
}

#[test]
fn a_connection_has_its_time() {
    let net = Net::new();
    net.dialled.slow.set(true);
    let asked = net.client.get("http://here/");
    check(&net, asked, 30, Stage::Connect);
}

#[test]
fn a_tunnel_has_the_time_of_a_connection() {
    use torsade::protocols::http::{Proxies, Proxy};
    let net = Net::with(|client| {
        client.proxies(Proxies::all(Proxy::new("http://proxy").expect("a proxy")))
    });
    let asked = net.client.get("https://here/");
    check(&net, asked, 30, Stage::Connect);
}

#[test]
fn a_handshake_has_its_time() {
    let net = Net::new();
    let asked = net.client.get("https://here/");
    check(&net, asked, 30, Stage::TlsHandshake);
}

#[test]
fn a_response_has_its_time() {
    let net = Net::new();
    let asked = net.client.get("http://here/");
    check(&net, asked, 60, Stage::Head);
}

#[test]
fn interim_responses_do_not_make_it_longer() {
    let net = Net::new();
    let asked = net.client.get("http://here/");
    net.pass(seconds(30));
    net.say(0, "HTTP/1.1 102 Processing\r\n\r\n");
    net.pass(seconds(29));
    no_result(&asked);
    net.pass(seconds(1));
    assert!(failure_of(asked).check::<ClientError>());
}

#[test]
fn the_next_request_has_its_own_time() {
    let net = Net::new();
    let first = net.client.get("http://here/");
    net.pass(seconds(40));
    net.say(0, OK);
    shown(first);
    let second = net.client.get("http://here/");
    check(&net, second, 60, Stage::Head);
}

#[test]
fn a_server_that_takes_nothing_has_its_time() {
    let net = Net::new();
    let (sender, body) = Body::channel();
    let asked = net.client.post("http://here/", body);
    // As long as there is nothing to take, it is in no arrears.
    net.pass(seconds(100));
    net.say(0, OK);
    shown(asked);
    drop(sender);
}

#[test]
fn each_piece_of_a_body_has_its_time() {
    let net = Net::new();
    let response = net.client.get("http://here/");
    net.say(0, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n");
    let body = success_of(response).into_body().read(100);
    for _ in 0..5 {
        net.pass(seconds(20));
        net.say(0, "piece");
    }
    check(&net, body, 30, Stage::Body);
}

#[test]
fn a_body_that_nobody_reads_is_not_late() {
    let net = limited(ClientLimits {
        unread: 3,
        ..ClientLimits::default()
    });
    let response = net.client.get("http://here/");
    net.say(0, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345");
    assert!(net.stream(0).is_paused());
    net.pass(seconds(1000));
    let body = success_of(response).into_body().read(100);
    assert!(!net.stream(0).is_paused());
    net.say(0, "67890");
    assert_eq!(success_of(body), "1234567890");
}

#[test]
fn the_whole_has_its_time_wherever_it_is() {
    let limits = ClientLimits {
        total: Some(seconds(10)),
        per_origin: 1,
        ..ClientLimits::default()
    };
    let net = limited(limits);
    let asked = net.client.get("http://here/");
    let waits = net.client.get("http://here/");
    net.pass(seconds(9));
    no_result(&waits);
    net.pass(seconds(1));
    for asked in [asked, waits] {
        let error = error(asked);
        let is_total = matches!(
            error.kind(),
            ClientErrorKind::Timeout {
                stage: Stage::Total,
                ..
            }
        );
        assert!(is_total, "{error}");
    }
    // In a redirect, and in the body.
    let net = limited(limits);
    let asked = net.client.get("http://here/");
    net.pass(seconds(5));
    net.say(
        0,
        "HTTP/1.1 302 Found\r\nLocation: /a\r\nContent-Length: 0\r\n\r\n",
    );
    net.pass(seconds(4));
    net.say(0, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n");
    let body = success_of(asked).into_body().read(100);
    net.pass(seconds(1));
    let error = error(body);
    assert_eq!(
        error.to_string(),
        "GET http://here/a: the whole exchange took longer than 10s"
    );
    assert!(!net.is_open(0));
}

#[test]
fn who_waits_too_long_for_a_connection_is_told() {
    let net = limited(ClientLimits {
        per_origin: 1,
        head: seconds(1000),
        ..ClientLimits::default()
    });
    let _under_way = net.client.get("http://here/");
    let waits = net.client.get("http://here/");
    net.pass(seconds(60));
    let error = error(waits);
    assert_eq!(
        error.to_string(),
        "GET http://here/: waiting for a free connection took longer than 60s"
    );
    assert_eq!((net.client.pool().open, net.client.pool().waiting), (1, 0));
}

/// A server that takes what it is told to, and no more.
struct Miser {
    reactor: Reactor,
    client: Client,
    server: Transport<Swallow>,
}

struct Swallow;

impl Protocol for Swallow {
    fn data_received(&mut self, _: &Transport<Self>, _: &[u8]) {}
}

struct Once(RefCell<Option<Rc<dyn Stream>>>);

impl ClientEndpoint for Once {
    fn connect_stream(&self, _: &Reactor) -> Deferred<Rc<dyn Stream>> {
        let stream = self.0.take();
        succeed(stream.expect("one connection is all that is needed"))
    }
}

impl Miser {
    fn new() -> Self {
        let reactor = virtual_time_reactor();
        let pair = memory_pair(&reactor);
        pair.pump.set_chunks(Chunks::Of(1000));
        let server = Transport::connect(Swallow, pair.server);
        server.pause_reading();
        let connection = Rc::new(Once(RefCell::new(Some(pair.client))));
        let client = Client::new(&reactor).connector(move |_: &Origin| Rc::clone(&connection));
        Self {
            reactor,
            client,
            server,
        }
    }

    /// Lets seconds pass, at the end of each of which the server takes something, or does not.
    fn pass(&self, count: u64, taking: bool) {
        for _ in 0..count {
            let slept = self.reactor.run_until(sleep(&self.reactor, seconds(1)));
            slept.expect("nobody stops it");
            if taking {
                self.server.resume_reading();
                let turned = self.reactor.turn(Some(Duration::ZERO));
                turned.expect("it can be turned");
                self.server.pause_reading();
            }
        }
    }
}

/// A body without an end, as fast as it is taken.
fn endless() -> Body {
    let (sender, body) = Body::channel();
    fn write(sender: BodySender) -> Deferred<()> {
        let ready = sender.ready();
        ready.add_callback(move |()| match sender.write(vec![b'x'; 10_000]) {
            Ok(()) => write(sender),
            Err(gone) => fail(gone),
        })
    }
    drop(write(sender).add_errback(|_gone| Ok(())));
    body
}

#[test]
fn a_server_that_takes_nothing_of_a_request_has_its_time() {
    for body in [Body::from(vec![b'x'; 1 << 20]), endless()] {
        let net = Miser::new();
        let asked = net.client.post("http://here/", body);
        net.pass(10, true);
        // The head has a longer time; but what is not taken cannot be answered.
        net.pass(130, false);
        match error(asked).kind() {
            ClientErrorKind::Timeout { stage, limit } => {
                assert!(matches!(stage, Stage::Send), "{stage}");
                assert_eq!(*limit, seconds(30));
            }
            other => panic!("it failed otherwise: {other}"),
        }
    }
}

#[test]
fn a_server_that_takes_a_little_at_a_time_is_waited_for() {
    for body in [Body::from(vec![b'x'; 2 << 20]), endless()] {
        let net = Miser::new();
        let asked = net.client.post("http://here/", body);
        net.pass(300, true);
        no_result(&asked);
        assert_eq!(net.client.pool().open, 1);
    }
}
