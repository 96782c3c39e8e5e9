//! Clients and a server on the hosts of simulated networks, under faults.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use torsade::prelude::*;
use torsade::protocols::http::{BodyError, Client, ClientError, Request, Site};
use torsade::reactor::task::defer_later;
use torsade::reactor::testing::{FaultRates, Swarm};

const SECOND: Duration = Duration::from_secs(1);

/// What a client asks, one request after the other on three lines at once, and what came of it.
#[derive(Default)]
struct Tally {
    right: u32,
    failed: u32,
}

/// Asks `left` times in a row.
fn ask(
    reactor: Reactor,
    client: Client,
    name: String,
    left: u32,
    tally: Rc<RefCell<Tally>>,
) -> Deferred<()> {
    if left == 0 {
        return succeed(());
    }
    let body = format!("{name}/{left} ").repeat(1 + (left as usize * 37) % 400);
    let expected = body.clone();
    let answer = if left.is_multiple_of(3) {
        client.get(format!("http://server/{name}/{left}"))
    } else {
        client.post(format!("http://server/{name}/{left}"), body)
    };
    let counted = Rc::clone(&tally);
    answer
        .add_callback(|response| response.into_body().read_text(1 << 20))
        .add_both(move |text| match text {
            Ok(text) => {
                let right = text == expected || (left.is_multiple_of(3) && text == "got");
                assert!(right, "a wrong answer: {text:.100}");
                counted.borrow_mut().right += 1;
            }
            Err(failure) => {
                let is_told = failure.check::<ClientError>() || failure.check::<BodyError>();
                assert!(is_told, "{failure}");
                counted.borrow_mut().failed += 1;
            }
        })
        .add_callback(move |()| {
            let pause = Duration::from_millis(u64::from(left) * 200);
            let clock = reactor.clone();
            defer_later(&clock, pause, move || {
                ask(reactor, client, name, left - 1, tally)
            })
        })
}

/// Whatever goes wrong on the way, every request comes to an end, none of the answers is another's, no
/// request that may not be repeated is, and in the end no connection is left.
#[test]
fn in_every_seed_each_request_has_its_own_answer_or_an_error() {
    let command = "cargo test --test it in_every_seed_each_request_has_its_own_answer";
    let (right, failed) = (Cell::new(0), Cell::new(0));
    Swarm::new(command).seeds(50).run(|simulation| {
        let server = simulation.host("server");
        let posts = Rc::new(RefCell::new(BTreeMap::<String, u32>::new()));
        let seen = Rc::clone(&posts);
        server.start(move |reactor| {
            let seen = Rc::clone(&seen);
            let site = Site::new(move |mut request: Request| {
                if request.method() == "GET" {
                    return succeed(String::from("got"));
                }
                let path = request.path().to_owned();
                *seen.borrow_mut().entry(path).or_default() += 1;
                request
                    .read_body()
                    .map(|body| String::from_utf8_lossy(&body).into_owned())
            });
            drop(site.listen(reactor, ":80").expect("the port is free"));
        });
        let has_faults = simulation.seed() % 2 == 0;
        if has_faults {
            simulation.inject_faults(&FaultRates {
                until: SECOND * 20,
                lasts_max: SECOND * 5,
                partitions: 3.0,
                cuts: 5.0,
                holds: 3.0,
                degradations: 3.0,
                ..Default::default()
            });
        }
        let mut under_way = Vec::new();
        for index in 0..2 {
            let host = simulation.host(&format!("client{index}"));
            let client = Client::new(&host.reactor());
            for line in 0..3 {
                let tally = Rc::<RefCell<Tally>>::default();
                let name = format!("{index}-{line}");
                let (reactor, client) = (host.reactor(), client.clone());
                let done = ask(reactor, client.clone(), name, 12, Rc::clone(&tally));
                under_way.push((client, done, tally));
            }
        }
        simulation.run_for(SECOND * 1200);
        for (client, done, tally) in under_way {
            assert!(done.is_fired(), "each comes to an end");
            assert_eq!(client.pool().open, 0, "idle connections are closed");
            let tally = tally.borrow();
            assert_eq!(tally.right + tally.failed, 12);
            assert!(has_faults || tally.failed == 0, "nothing went wrong");
            right.set(right.get() + tally.right);
            failed.set(failed.get() + tally.failed);
        }
        for (path, count) in posts.borrow().iter() {
            assert_eq!(*count, 1, "{path} was sent more than once");
        }
    });
    assert!(right.get() > 0 && failed.get() > 0, "both were seen");
}
