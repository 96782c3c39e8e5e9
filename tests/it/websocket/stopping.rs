//! Servers that stop while there are WebSockets: RFC 6455 §7.4.1, 1001.

use torsade::protocols::http::{Response, Server, serve};
use torsade::protocols::websocket::{CloseCode, WebSocketClient, WebSocketLimits, accept};
use torsade::reactor::testing::{Host, Simulation, success_of};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// A server and a client on two hosts, with one connection between them.
struct Scene {
    simulation: Simulation,
    hosts: [Host; 2],
    server: Server,
    theirs: Rc<Book>,
    ours: Rc<Book>,
}

impl Scene {
    fn of(server: Scribe) -> Self {
        let theirs = Rc::clone(&server.book);
        Self::with(theirs, move |request| accept(&request, server.clone()))
    }

    fn with(theirs: Rc<Book>, accept: impl Fn(Request) -> Response + 'static) -> Self {
        let simulation = Simulation::new(1);
        let hosts = ["server", "client"].map(|name| simulation.host(name));
        let server = serve(&hosts[0].reactor(), ":80", accept).expect("the port is free");
        let scribe = Scribe::quiet();
        let ours = Rc::clone(&scribe.book);
        let connecting = WebSocketClient::new(&hosts[1].reactor()).connect("ws://server/", scribe);
        let connected = hosts[1].reactor().run_until(connecting);
        drop(connected.expect("it connects"));
        simulation.run_for(SECOND);
        assert_eq!(ours.take(), ["opened"]);
        Self {
            simulation,
            hosts,
            server,
            theirs,
            ours,
        }
    }

    fn pass(&self, seconds: u32) {
        self.simulation.run_for(SECOND * seconds);
    }
}

#[test]
fn a_server_that_stops_says_1001_and_waits_for_the_peer_to_say_so_too() {
    let scene = Scene::of(Scribe::quiet());
    scene.theirs.take();
    let book = Rc::clone(&scene.theirs);
    let stopped = scene.server.stop().map(move |()| book.add("stopped"));
    assert!(!stopped.is_fired());
    assert_eq!(scene.theirs.take(), [""; 0], "nothing before it returns");
    scene.pass(1);
    success_of(stopped);
    assert_eq!(scene.ours.take(), ["closed 1001 (going away) \"\""]);
    let ours = scene.ours.closed();
    assert!(ours.is_clean && ours.lost.is_clean(), "{ours:?}");
    let expected = ["closed 1001 (going away) \"\"", "stopped"];
    assert_eq!(scene.theirs.take(), expected);
    let theirs = scene.theirs.closed();
    assert!(theirs.is_clean && theirs.lost.is_clean(), "{theirs:?}");
}

#[test]
fn a_reactor_that_stops_waits_for_the_peers_of_its_servers() {
    let scene = Scene::of(Scribe::quiet());
    scene.hosts[0].reactor().stop();
    scene.pass(1);
    for book in [&scene.ours, &scene.theirs] {
        let closed = book.closed();
        assert_eq!(closed.code, CloseCode::GOING_AWAY);
        assert!(closed.is_clean && closed.lost.is_clean(), "{closed:?}");
    }
}

#[test]
fn a_peer_that_does_not_answer_has_its_time_and_no_more() {
    let scribe = Scribe::quiet();
    let theirs = Rc::clone(&scribe.book);
    let sockets = WebSocketServer::new().limits(WebSocketLimits {
        closing: SECOND * 8,
        ..Default::default()
    });
    let scene = Scene::with(theirs, move |request| {
        sockets.accept(&request, scribe.clone())
    });
    scene.simulation.partition(&scene.hosts[0], &scene.hosts[1]);
    let stopped = scene.server.stop();
    scene.pass(7);
    assert!(!stopped.is_fired() && !scene.theirs.is_closed());
    scene.pass(3);
    success_of(stopped);
    let closed = scene.theirs.closed();
    let is_late = matches!(closed.lost, ConnectionLost::TimedOut { .. });
    assert!(is_late && !closed.is_clean, "{closed:?}");
}

#[test]
fn a_peer_that_takes_a_little_now_and_then_does_not_hold_the_server() {
    const LENGTH: usize = 64 * 1024;
    let scribe = Scribe::quiet();
    let theirs = Rc::clone(&scribe.book);
    let sockets = WebSocketServer::new().limits(WebSocketLimits {
        closing: SECOND * 8,
        ..Default::default()
    });
    let scene = Scene::with(theirs, move |request| {
        sockets.accept(&request, scribe.clone())
    });
    let peer = scene.ours.transport();
    peer.pause_reading();
    let transport = scene.theirs.transport();
    for _ in 0..32 {
        transport.send(&"x".repeat(LENGTH));
    }
    let take_some = || {
        peer.resume_reading();
        scene.simulation.run_for(Duration::from_millis(5));
        peer.pause_reading();
    };
    take_some();
    scene.pass(1);
    let unsent = transport.unsent();
    assert!(unsent > 4 * LENGTH, "{unsent}");
    let stopped = scene.server.stop();
    drop(transport);
    scene.pass(5);
    take_some();
    scene
        .simulation
        .run_for(SECOND * 3 - Duration::from_millis(10));
    assert!(!stopped.is_fired() && !scene.theirs.is_closed());
    scene.simulation.run_for(Duration::from_millis(10));
    success_of(stopped);
    let closed = scene.theirs.closed();
    let is_late = matches!(closed.lost, ConnectionLost::TimedOut { .. });
    assert!(is_late && !closed.is_clean, "{closed:?}");
}

/// Says something before the end, and perhaps why.
struct Polite {
    code: Option<u16>,
    count: Rc<RefCell<u32>>,
}

impl WebSocketProtocol for Polite {
    fn message_received(&mut self, _: &WebSocketTransport<Self>, _: Message<'_>) {}

    fn about_to_be_lost(&mut self, transport: &WebSocketTransport<Self>) {
        *self.count.borrow_mut() += 1;
        transport.send("good night");
        if let Some(code) = self.code {
            transport.close(code, "until tomorrow");
        }
    }
}

#[test]
fn a_protocol_has_its_last_words_once_and_may_say_another_code() {
    for (code, expected) in [
        (None, "closed 1001 (going away) \"\""),
        (Some(4000), "closed 4000 \"until tomorrow\""),
    ] {
        let count = Rc::new(RefCell::new(0));
        let counted = Rc::clone(&count);
        let scene = Scene::with(Rc::default(), move |request| {
            let count = Rc::clone(&counted);
            accept(&request, Polite { code, count })
        });
        // The peer says nothing more, and the reactor stops, too.
        scene.ours.transport().pause_reading();
        let stopped = scene.server.stop();
        scene.pass(1);
        scene.hosts[0].reactor().stop();
        scene.pass(1);
        assert_eq!(*count.borrow(), 1);
        scene.ours.transport().resume_reading();
        scene.pass(60);
        success_of(stopped);
        assert_eq!(scene.ours.take(), ["text good night", expected]);
    }
}

#[test]
fn a_server_may_be_stopped_from_a_callback_of_the_connection() {
    let place = Rc::new(RefCell::new(None::<Server>));
    let server = Rc::clone(&place);
    let stops = Scribe::new(move |transport, text| {
        let server = server.borrow().clone().expect("it is there");
        drop(server.stop());
        transport.send(&format!("{text}: done"));
    });
    let scene = Scene::of(stops);
    place.replace(Some(scene.server.clone()));
    scene.ours.transport().send("stop");
    scene.pass(1);
    let expected = ["text stop: done", "closed 1001 (going away) \"\""];
    assert_eq!(scene.ours.take(), expected);
    assert!(scene.theirs.closed().is_clean);
    success_of(scene.server.stop());
    place.take();
}

#[test]
fn what_switches_while_the_server_stops_is_closed_at_once() {
    let simulation = Simulation::new(2);
    let [server, client] = ["server", "client"].map(|name| simulation.host(name).reactor());
    let (scribe, waiting) = (Scribe::quiet(), Rc::new(RefCell::new(None)));
    let (theirs, place) = (scribe.clone(), Rc::clone(&waiting));
    let serving = serve(&server, ":80", move |request: Request| {
        let (trigger, deferred) = Deferred::<()>::new();
        place.replace(Some(trigger));
        let scribe = theirs.clone();
        deferred.map(move |()| accept(&request, scribe))
    });
    let serving = serving.expect("the port is free");
    let ours = Scribe::quiet();
    let book = Rc::clone(&ours.book);
    let connecting = WebSocketClient::new(&client).connect("ws://server/", ours);
    drop(connecting.map(drop));
    simulation.run_for(SECOND);
    let stopped = serving.stop();
    simulation.run_for(SECOND);
    assert!(!stopped.is_fired(), "it is not answered");
    let trigger = waiting.take().expect("it was asked");
    trigger.callback(());
    simulation.run_for(SECOND);
    success_of(stopped);
    assert_eq!(
        book.take(),
        ["opened", "closed 1001 (going away) \"\""],
        "it was promised"
    );
    assert!(scribe.book.closed().is_clean);
}
