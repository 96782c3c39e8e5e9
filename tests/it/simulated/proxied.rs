//! The proxy and the echo over TLS, each on its host.

use std::rc::Rc;

use torsade::prelude::*;
use torsade::reactor::testing::{Host, Simulation, Swarm};

use super::{SECOND, ask, short_faults};
use crate::examples::{echo, proxy};
use crate::tls::examples::tls_echo;

/// Starts the proxy on a host, in front of `back`.
fn start_proxy(host: &Host, back: &'static str) -> Rc<proxy::Statistics> {
    let statistics = Rc::new(proxy::Statistics::default());
    let shared = Rc::clone(&statistics);
    host.start(move |reactor| {
        let front = torsade::server_from_string("tcp:8008").expect("it is well formed");
        let back = torsade::client_from_string(back).expect("it is well formed");
        drop(proxy::listen(reactor, &front, back, &shared).map(drop));
    });
    statistics
}

fn start_tls_echo(host: &Host) -> Roots {
    let own = tls_echo::make_identity("localhost").expect("it is made");
    let roots = Roots::from_pem(&own.certificate).expect("it is PEM");
    let listening = tls_echo::listen(&host.reactor(), ":8443", own.identity);
    let port = host.reactor().run_until(listening.expect("it is good"));
    drop(port.expect("the port is free"));
    roots
}

#[test]
fn a_proxy_carries_an_echo_from_host_to_host_and_counts() {
    let simulation = Simulation::new(11);
    let [server, between, client] = ["server", "between", "client"].map(|it| simulation.host(it));
    server.start(|reactor| {
        echo::listen(reactor, ":8007").expect("the port is free");
    });
    let statistics = start_proxy(&between, "tcp:server:8007");
    let answer = ask(&client, "between:8008", "hello by way of others");
    let heard = client.reactor().run_until(answer).expect("it comes back");
    assert_eq!(heard, "hello by way of others");
    assert!(simulation.run_while(|| statistics.finished.get() == 0));
    let (forth, back) = (statistics.forth.get(), statistics.back.get());
    assert_eq!((forth, back), (22, 22));
    // Nobody behind it: the client is told, and so are the statistics.
    server.crash();
    let answer = ask(&client, "between:8008", "hello");
    assert!(client.reactor().run_until(answer).is_err());
    assert_eq!((statistics.refused.get(), statistics.open.get()), (1, 0));
}

#[test]
fn in_every_seed_what_comes_through_the_proxy_is_whole_or_broken_off() {
    let command = "cargo test --test it in_every_seed_what_comes_through_the_proxy";
    Swarm::new(command).seeds(15).run(|simulation| {
        let [server, between, client] =
            ["server", "between", "client"].map(|it| simulation.host(it));
        server.start(|reactor| {
            echo::listen(reactor, ":8007").expect("the port is free");
        });
        let statistics = start_proxy(&between, "tcp:server:8007");
        simulation.inject_faults(&short_faults());
        // From before the faults until after them.
        let answers: Vec<_> = (0..5)
            .map(|number| {
                let from = client.clone();
                let asked = sleep(&client.reactor(), SECOND * 3 * number);
                asked.add_callback(move |()| {
                    ask(&from, "between:8008", "a question of some length\n")
                })
            })
            .collect();
        simulation.run_for(SECOND * 3600);
        for answer in answers {
            match answer.into_result() {
                Ok(Ok(heard)) => assert_eq!(heard, "a question of some length\n"),
                Ok(Err(_)) => {}
                // The client itself crashed, perhaps.
                Err(waiting) => drop(waiting.add_errback(|_| Ok(String::new()))),
            }
        }
        assert!(statistics.open.get() <= 5);
    });
}

#[test]
fn the_echo_over_tls_answers_from_host_to_host_and_through_the_proxy() {
    let simulation = Simulation::new(12);
    let [server, between, client] = ["server", "between", "client"].map(|it| simulation.host(it));
    let roots = start_tls_echo(&server);
    let statistics = start_proxy(&between, "tcp:server:8443");
    for address in ["server:8443", "between:8008"] {
        let reactor = client.reactor();
        let answer = tls_echo::call(&reactor, address, roots.clone(), "hello over TLS");
        let heard = reactor.run_until(answer.expect("the roots are good"));
        assert_eq!(heard.expect("it comes back"), "hello over TLS", "{address}");
    }
    simulation.run_for(SECOND);
    assert_eq!(statistics.finished.get(), 1);
    assert!(statistics.forth.get() > 200, "there is a handshake");
}

#[test]
fn in_every_seed_an_answer_over_tls_is_whole_or_a_failure() {
    let command = "cargo test --test it in_every_seed_an_answer_over_tls";
    Swarm::new(command).seeds(20).run(|simulation| {
        let [server, client] = ["server", "client"].map(|it| simulation.host(it));
        let roots = start_tls_echo(&server);
        simulation.inject_faults(&short_faults());
        let reactor = client.reactor();
        let handle = reactor.clone();
        // In the middle of the faults.
        let answer = sleep(&reactor, SECOND * 3).add_callback(move |()| {
            let answer = tls_echo::call(&handle, "server:8443", roots, "there and back");
            answer.expect("the roots are good")
        });
        simulation.run_for(SECOND * 3600);
        match answer.into_result() {
            Ok(Ok(heard)) => assert_eq!(heard, "there and back"),
            Ok(Err(_)) => {}
            // The client itself crashed, perhaps.
            Err(waiting) => drop(waiting.add_errback(|_| Ok(String::new()))),
        }
    });
}
