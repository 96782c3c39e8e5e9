//! Connections that have gone on in another protocol, and a server that stops.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use torsade::prelude::*;
use torsade::protocols::http::{
    Body, Client, ClientRequest, HeaderValue, Request, Server, ServerHold, Upgraded, serve,
    switch_protocols,
};
use torsade::reactor::testing::{Simulation, success_of};

const SECOND: Duration = Duration::from_secs(1);

/// What is spoken after the switch: nothing.
struct Silent;

impl Protocol for Silent {
    fn data_received(&mut self, _: &Transport<Self>, _: &[u8]) {}
}

fn ask(client: &Reactor) -> Deferred<Upgraded> {
    let request = ClientRequest::get("http://server/")
        .header("connection", "upgrade")
        .header("upgrade", "silence")
        .body(Body::empty())
        .expect("it is a request");
    let asked = Client::new(client).upgrade(request);
    asked.map(|(_, upgraded)| upgraded.expect("it switches"))
}

/// A server with one connection that has switched, and what `take` has made of that.
fn switched<T: 'static>(take: impl Fn(Upgraded) -> T + 'static) -> (Simulation, Server, T) {
    let simulation = Simulation::new(1);
    let [server, client] = ["server", "client"].map(|name| simulation.host(name).reactor());
    let (take, taken) = (Rc::new(take), Rc::new(RefCell::new(None)));
    let place = Rc::clone(&taken);
    let serving = serve(&server, ":80", move |_: Request| {
        let (take, place) = (Rc::clone(&take), Rc::clone(&place));
        switch_protocols(HeaderValue::from_static("silence"), move |upgraded| {
            place.replace(Some(take(upgraded)));
        })
    });
    let asked = ask(&client);
    let mut upgraded = client.run_until(asked).expect("it answers");
    assert!(upgraded.hold_server().is_none(), "it is a client's");
    drop(upgraded.seat(Silent));
    simulation.run_for(SECOND);
    let taken = taken.take().expect("it has switched");
    (simulation, serving.expect("the port is free"), taken)
}

fn held(mut upgraded: Upgraded) -> (Transport<Silent>, ServerHold) {
    let hold = upgraded.hold_server().expect("it is a server's");
    assert!(upgraded.hold_server().is_none(), "once");
    (upgraded.seat(Silent), hold)
}

#[test]
fn a_server_that_stops_waits_for_who_holds_it_and_says_so() {
    let (simulation, server, (transport, hold)) = switched(held);
    let told = Rc::new(Cell::new(0));
    for number in [1, 2] {
        let told = Rc::clone(&told);
        hold.on_stop(move || told.set(told.get() * 10 + number));
    }
    simulation.run_for(SECOND);
    assert_eq!(told.get(), 0);
    let stopped = server.stop();
    assert_eq!(told.get(), 0, "not before it returns");
    simulation.run_for(SECOND * 100);
    assert_eq!(told.get(), 2, "the last that was said, and once");
    assert!(!stopped.is_fired());
    let again = Rc::clone(&told);
    hold.on_stop(move || again.set(3));
    simulation.run_for(SECOND);
    assert_eq!(told.get(), 3, "it stops already");
    drop(hold);
    success_of(stopped);
    assert!(transport.is_connected(), "which is the holder's business");
}

#[test]
fn a_server_that_stops_knows_nothing_of_those_that_do_not_hold_it() {
    let (simulation, server, transport) = switched(|upgraded| upgraded.seat(Silent));
    success_of(server.stop());
    simulation.run_for(SECOND);
    assert!(transport.is_connected());
    // Of one that nobody has taken yet it knows.
    let (simulation, server, upgraded) = switched(|upgraded| upgraded);
    let stopped = server.stop();
    simulation.run_for(SECOND * 100);
    assert!(!stopped.is_fired());
    drop(upgraded);
    success_of(stopped);
}

#[test]
fn who_lets_go_in_between_is_not_told() {
    let (simulation, server, (_, hold)) = switched(held);
    let told = Rc::new(Cell::new(false));
    let tells = Rc::clone(&told);
    hold.on_stop(move || tells.set(true));
    let stopped = server.stop();
    drop(hold);
    success_of(stopped);
    simulation.run_for(SECOND);
    assert!(!told.get());
}
