//! The example `websocket_chat`, on simulated hosts.

use torsade::protocols::http::Client;
use torsade::protocols::websocket::{CloseCode, WebSocketClient};
use torsade::reactor::testing::Simulation;

use super::*;

#[path = "../../../examples/websocket_chat.rs"]
#[allow(dead_code, reason = "the test calls the parts and not `main`")]
mod websocket_chat;

const SECOND: Duration = Duration::from_secs(1);

/// Somebody in the room, who may say something at any time.
fn enter(simulation: &Simulation, host: &str) -> (Rc<Book>, ScribeTransport) {
    let reactor = simulation.host(host).reactor();
    let scribe = Scribe::quiet();
    let book = Rc::clone(&scribe.book);
    let client = WebSocketClient::new(&reactor);
    let connecting = client.connect("ws://server:8088/chat", scribe);
    let transport = reactor.run_until(connecting).expect("it connects");
    simulation.run_for(SECOND);
    assert_eq!(book.take(), ["opened", "text * what is your name?"]);
    (book, transport)
}

#[test]
fn websocket_chat_has_a_page_and_a_room() {
    let simulation = Simulation::new(1);
    let server = simulation.host("server").reactor();
    let site = websocket_chat::site().expect("its routes are right");
    let _serving = site.listen(&server, ":8088").expect("the port is free");
    let browser = simulation.host("browser").reactor();
    let page = Client::new(&browser).get_text("http://server:8088/", 1 << 20);
    let page = browser.run_until(page).expect("there is a page");
    assert!(page.contains("new WebSocket("), "{page}");

    let (ann, to_ann) = enter(&simulation, "ann");
    let (bob, to_bob) = enter(&simulation, "bob");
    to_ann.send("ann");
    simulation.run_for(SECOND);
    to_bob.send("ann");
    simulation.run_for(SECOND);
    to_bob.send("bob");
    simulation.run_for(SECOND);
    to_ann.send("hello");
    simulation.run_for(SECOND);
    to_bob.send("/who");
    simulation.run_for(SECOND);
    assert_eq!(
        ann.take(),
        ["text * ann joined", "text * bob joined", "text ann: hello"]
    );
    assert_eq!(
        bob.take(),
        [
            "text * ann is taken, choose another name",
            "text * bob joined",
            "text ann: hello",
            "text * here: ann, bob",
        ]
    );
    to_ann.send(b"\x00");
    simulation.run_for(SECOND);
    assert_eq!(bob.take(), ["text * ann left"]);
    assert_eq!(ann.closed().code, CloseCode::UNSUPPORTED);
    server.stop();
    simulation.run_for(SECOND);
    assert_eq!(bob.closed().code, CloseCode::GOING_AWAY);
}
