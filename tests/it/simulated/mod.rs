//! The examples, not a line changed, on the hosts of simulated networks.

mod chat_room;
mod datagrams;
mod proxied;
mod replicated;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use torsade::prelude::*;
use torsade::reactor::testing::{FaultRates, Host, Simulation, Swarm};

use crate::embedding::frame_loop;
use crate::examples::{demo, echo, handle_request, poetry_client, poetry_server, web};

const SECOND: Duration = Duration::from_secs(1);

/// Says something when the connection stands, and writes down what it hears until the end.
struct Caller {
    says: &'static str,
    heard: Vec<u8>,
    done: Option<Trigger<String>>,
}

impl Protocol for Caller {
    fn connection_made(&mut self, transport: &Transport<Self>) {
        transport.write(self.says);
        transport.lose_write_connection();
    }

    fn data_received(&mut self, _: &Transport<Self>, data: &[u8]) {
        self.heard.extend_from_slice(data);
    }

    fn connection_lost(&mut self, reason: ConnectionLost) {
        let heard = String::from_utf8_lossy(&self.heard).into_owned();
        if let Some(done) = self.done.take() {
            done.fire(match reason {
                ConnectionLost::Done => Ok(heard),
                reason => Err(Failure::message(reason.to_string())),
            });
        }
    }
}

/// What a server answers to that, in all.
fn ask(host: &Host, address: &'static str, says: &'static str) -> Deferred<String> {
    let (done, heard) = Deferred::new();
    let caller = Caller {
        says,
        heard: Vec::new(),
        done: Some(done),
    };
    let connecting = host.reactor().connect_tcp(address, |_: &Address| caller);
    connecting.add_callback(|_| heard)
}

#[test]
fn echo_answers_on_a_host_that_is_known_by_its_name() {
    let simulation = Simulation::new(1);
    let (server, client) = (simulation.host("server"), simulation.host("client"));
    server.start(|reactor| {
        echo::listen(reactor, ":8007").expect("the port is free");
    });
    let answer = ask(&client, "server:8007", "hello");
    let heard = client.reactor().run_until(answer).expect("it comes back");
    assert_eq!(heard, "hello");
    let nobody = client
        .reactor()
        .run_until(ask(&client, "nobody:8007", "hello"));
    let failure = nobody.expect_err("there is no such host").to_string();
    assert!(failure.contains("nobody"), "{failure}");
}

#[test]
fn requests_are_answered_from_one_host_to_another() {
    let simulation = Simulation::new(2);
    let (server, client) = (simulation.host("server"), simulation.host("client"));
    server.start(|reactor| {
        handle_request::listen(reactor, ":8010").expect("the port is free");
    });
    let heard = Rc::new(RefCell::new(Vec::new()));
    let ear = Rc::clone(&heard);
    let connecting = client
        .reactor()
        .connect_tcp("server:8010", |_: &Address| Ear(ear));
    let transport = client.reactor().run_until(connecting).expect("it listens");
    let begin = simulation.now();
    transport.write("ann\nnobody\n");
    let expected = "200 ann is 36 years old\n404 nobody is called \"nobody\"\n";
    assert!(simulation.run_while(|| heard.borrow().len() < expected.len()));
    assert_eq!(*heard.borrow(), expected.as_bytes());
    // One at a time, and then the way there and back.
    assert!(simulation.now() - begin >= handle_request::LOOKUP * 2);
}

#[test]
fn the_web_site_is_visited_from_another_host() {
    let simulation = Simulation::new(4);
    let (server, client) = (simulation.host("server"), simulation.host("client"));
    server.start(|reactor| {
        web::listen(reactor, ":8080").expect("the port is free");
    });
    let visit = |request| {
        let answer = ask(&client, "server:8080", request);
        client.reactor().run_until(answer).expect("it is answered")
    };
    let signed = visit(
        "POST /sign HTTP/1.1\r\nHost: server\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: 13\r\nConnection: close\r\n\r\nmessage=hello",
    );
    assert!(signed.starts_with("HTTP/1.1 303 See Other\r\n"), "{signed}");
    let listed = "GET /api/messages HTTP/1.1\r\nHost: server\r\nConnection: close\r\n\r\n";
    let listed = visit(listed);
    assert!(listed.ends_with("\r\n\r\n[\"hello\"]"), "{listed}");
    let begin = simulation.now();
    let counted = visit("GET /countdown/9 HTTP/1.0\r\n\r\n");
    assert!(
        counted.ends_with("\r\n\r\n9\n8\n7\n6\n5\n4\n3\n2\n1\n0\n"),
        "{counted}"
    );
    assert!(simulation.now() - begin >= SECOND * 9);
}

struct Ear(Rc<RefCell<Vec<u8>>>);

impl Protocol for Ear {
    fn data_received(&mut self, _: &Transport<Self>, data: &[u8]) {
        self.0.borrow_mut().extend_from_slice(data);
    }
}

#[test]
fn poems_are_fetched_from_many_hosts_and_one_that_is_down_is_reported() {
    let simulation = Simulation::new(3);
    let client = simulation.host("client");
    let hosts = ["amherst", "concord", "boston"].map(|name| simulation.host(name));
    for host in &hosts {
        host.start(|reactor| {
            let recital = poetry_server::Recital::default();
            poetry_server::listen(reactor, ":8009", recital).expect("the port is free");
        });
    }
    hosts[2].crash();
    let printed = Rc::new(RefCell::new(Vec::new()));
    let paper = Rc::clone(&printed);
    let all = poetry_client::fetch_all(
        &client.reactor(),
        ["amherst:8009", "concord:8009", "boston:8009"].map(str::to_owned),
        move |line| paper.borrow_mut().push(line.to_owned()),
    );
    let summary = client.reactor().run_until(all).expect("it is told");
    assert_eq!((summary.poems, summary.asked), (2, 3));
    let printed = printed.take().join("\n");
    assert!(
        printed.contains("boston:8009 failed after 30."),
        "{printed}"
    );
}

#[test]
fn a_game_that_turns_the_loop_itself_has_players_on_other_hosts() {
    let simulation = Simulation::new(4);
    let (console, client) = (simulation.host("console"), simulation.host("client"));
    let (mut ball, reactor) = (frame_loop::Ball::default(), console.reactor());
    let port = ball.listen(&reactor, ":5").expect("the port is free");
    let answer = ask(&client, "console:5", "\n\n\n");
    let mut frames = 0;
    let shown = frame_loop::play(&reactor, &mut ball, |_picture| {
        frames += 1;
        // The wait for the display.
        simulation.run_for(Duration::from_millis(16));
        !answer.is_fired() && frames < 100
    });
    shown.expect("it can wait");
    let heard = client.reactor().run_until(answer);
    assert_eq!(heard.expect("it ended in order"), "turned\n".repeat(3));
    drop(port.stop_listening());
}

#[test]
fn the_demo_starts_on_a_host_and_answers_there() {
    let simulation = Simulation::new(7);
    let host = simulation.host("host");
    let ports = demo::start(&host.reactor(), |_| ()).expect("the ports are free");
    assert_eq!(ports.len(), 5);
    for (address, says, answer) in [
        ("127.0.0.1:8007", "hello", "hello"),
        (
            "127.0.0.1:8080",
            "GET /nowhere HTTP/1.0\r\n\r\n",
            "HTTP/1.1 404 Not Found",
        ),
    ] {
        let heard = host.reactor().run_until(ask(&host, address, says));
        let heard = heard.expect("it is answered");
        assert!(heard.starts_with(answer), "{heard}");
    }
}

/// Whatever goes wrong on the way: a poem that is reported as complete is complete.
#[test]
fn in_every_seed_a_poem_comes_whole_or_is_reported_as_broken_off() {
    let command = "cargo test --test it in_every_seed_a_poem";
    let came = Cell::new(0);
    Swarm::new(command).seeds(50).run(|simulation| {
        let (server, client) = (simulation.host("server"), simulation.host("client"));
        let poem: Rc<str> = "a line of a poem\n".repeat(40).into();
        let recital = poetry_server::Recital {
            poem: Rc::clone(&poem),
            ..poetry_server::Recital::default()
        };
        server.start(move |reactor| {
            poetry_server::listen(reactor, ":8009", recital.clone()).expect("the port is free");
        });
        simulation.inject_faults(&short_faults());
        let reactor = client.reactor();
        let outcome = Rc::new(RefCell::new(None));
        let place = Rc::clone(&outcome);
        let fetching = poetry_client::fetch(&reactor, "server:8009");
        drop(fetching.add_both(move |result| {
            place.replace(Some(result));
            Ok::<(), Failure>(())
        }));
        simulation.run_for(SECOND * 3600);
        // Nobody tells a reader whose peer has crashed: then there is no outcome.
        if let Some(Ok(fetched)) = outcome.take() {
            assert_eq!(*fetched, *poem);
            came.set(came.get() + 1);
        }
    });
    assert!(came.get() > 0, "in no seed a poem came");
}

/// Much goes wrong in a few seconds.
fn short_faults() -> FaultRates {
    FaultRates {
        until: SECOND * 10,
        lasts_max: SECOND * 5,
        partitions: 6.0,
        cuts: 6.0,
        holds: 6.0,
        crashes: 3.0,
        degradations: 6.0,
        drifts: 3.0,
        ..Default::default()
    }
}
