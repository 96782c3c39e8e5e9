//! What comes in one chunk with the end of the handshake: nothing of it is lost, nor told before it.

use std::rc::Rc;

use torsade::prelude::*;
use torsade::protocols::tls::{self, ClientConfig, ServerConfig, TlsStream, Versions};
use torsade::reactor::testing::{memory_pair, virtual_time_reactor};
use torsade::reactor::{Acceptor, ServerEndpoint, Stream};

use super::authority::{Authority, localhost};
use super::endpoints::Place;
use super::speaker::{Seen, Speaker, Talk};

/// For TLS 1.2, whose last message is the server's.
fn the_version_before() -> (ClientConfig, ServerConfig) {
    let authority = Authority::new();
    let (client, versions) = (tls::client_config(), Versions::Tls12);
    let client = client.roots(authority.roots()).versions(versions);
    let identity = authority.sign("localhost").identity();
    let server = tls::server_config(identity).versions(versions);
    (
        client.build().expect("it is good"),
        server.build().expect("it is good"),
    )
}

/// For TLS 1.3, whose last message is the client's where the server gives no tickets.
fn without_tickets() -> (ClientConfig, ServerConfig) {
    let authority = Authority::new();
    let identity = authority.sign("localhost").identity();
    let server = tls::server_config(identity).resumption(false);
    (authority.client(), server.build().expect("it is good"))
}

fn both_versions() -> [(ClientConfig, ServerConfig); 2] {
    [the_version_before(), without_tickets()]
}

/// Closes as soon as the handshake is complete: the alert leaves together with its last message.
fn close_when_secured(stream: &Rc<TlsStream>) {
    let closing = Rc::clone(stream);
    drop(
        stream
            .handshake()
            .add_callback(move |_| closing.lose_connection(ConnectionLost::Done)),
    );
}

fn stream_of(transport: &Transport<Speaker>) -> Rc<TlsStream> {
    let stream: Rc<dyn std::any::Any> = Rc::clone(transport.stream()) as Rc<dyn std::any::Any>;
    stream.downcast().expect("it is TLS")
}

/// Writes down when the handshake was complete.
fn note_when_secured(transport: &Transport<Speaker>, seen: &Seen) {
    let seen = seen.clone();
    drop(tls::handshake(transport).add_callback(move |_| seen.add("secured")));
}

#[test]
fn a_client_that_has_just_connected_hears_that_the_server_is_done() {
    for (client_config, server_config) in both_versions() {
        let (reactor, place) = (virtual_time_reactor(), Place::default());
        let acceptor = Closing(server_config);
        std::mem::forget(place.listen_streams(&reactor, Rc::new(acceptor)));
        let endpoint = TlsClientEndpoint::new(place.clone(), &client_config, localhost());
        let client = Speaker::default();
        let seen = client.seen.clone();
        let connecting = reactor.connect(&endpoint, |_| client);
        let transport = reactor.run_until(connecting).expect("it connects");
        place.pumps.borrow()[0].run().expect("it rests");
        seen.check(["made", "read lost", "lost"]);
        seen.is_lost_with("Done");
        drop(transport);
    }
}

/// Says goodbye to whoever connects.
struct Closing(ServerConfig);

impl Acceptor for Closing {
    fn accept(&self, below: Rc<dyn Stream>) {
        let stream = TlsStream::server(below, &self.0);
        close_when_secured(&stream);
        drop(Transport::connect(
            Speaker::default(),
            stream as Rc<dyn Stream>,
        ));
    }
}

#[test]
fn a_server_whose_client_leaves_with_its_last_message_builds_a_protocol_that_hears_of_it() {
    for (client_config, server_config) in both_versions() {
        let (reactor, place) = (virtual_time_reactor(), Place::default());
        let endpoint = TlsServerEndpoint::new(place.clone(), &server_config);
        let server = Speaker::default();
        let (at_server, mut server) = (server.seen.clone(), Some(server));
        std::mem::forget(reactor.listen(&endpoint, move |_: &Address| {
            server.take().expect("it is built once")
        }));
        let pair = memory_pair(&reactor);
        let acceptor = place.acceptor.borrow().clone().expect("it listens");
        acceptor.accept(pair.server);
        let client = TlsStream::client(pair.client, &client_config, localhost());
        close_when_secured(&client);
        drop(Transport::connect(
            Speaker::default(),
            client as Rc<dyn Stream>,
        ));
        pair.pump.run().expect("it rests");
        at_server.check(["made", "read lost", "lost"]);
        at_server.is_lost_with("Done");
    }
}

#[test]
fn the_end_is_told_after_the_handshake_and_not_while_reading_is_paused() {
    for is_paused in [false, true] {
        let (client_config, server_config) = the_version_before();
        let talk = Talk::new(
            (Speaker::default(), &client_config),
            (Speaker::default(), &server_config),
        );
        note_when_secured(&talk.client, &talk.at_client);
        close_when_secured(&stream_of(&talk.server));
        if is_paused {
            talk.client.pause_reading();
            talk.run();
            talk.at_client.check(["made", "secured"]);
            talk.client.resume_reading();
            talk.at_client.check(["made", "secured"]);
        }
        talk.run();
        talk.at_client
            .check(["made", "secured", "read lost", "lost"]);
        talk.at_client.is_lost_with("Done");
        talk.at_server.is_lost_with("Done");
    }
}

#[test]
fn what_a_paused_end_writes_is_sent_whatever_came_with_the_last_message() {
    let (client_config, server_config) = the_version_before();
    let talk = Talk::new(
        (Speaker::default(), &client_config),
        (Speaker::default(), &server_config),
    );
    talk.client.pause_reading();
    talk.client.write("hello");
    talk.server.write("banner");
    talk.run();
    assert_eq!(talk.at_server.text(), "hello");
    assert_eq!(talk.at_client.text(), "");
    // And what it writes later, more than a record.
    talk.client.write(vec![b'.'; 20_000]);
    talk.run();
    assert_eq!(talk.at_server.data.borrow().len(), 20_005);
    talk.server.write(", and more");
    talk.client.resume_reading();
    talk.run();
    assert_eq!(talk.at_client.text(), "banner, and more");
    talk.client.lose_connection();
    talk.run();
    talk.at_client.is_lost_with("Done");
    talk.at_server.is_lost_with("Done");
}

#[test]
fn so_is_the_closing_alert_of_one_that_never_goes_on_reading() {
    let (client_config, server_config) = the_version_before();
    let talk = Talk::new(
        (Speaker::default(), &client_config),
        (Speaker::default(), &server_config),
    );
    talk.client.pause_reading();
    talk.server.write("banner");
    talk.run();
    talk.client.lose_connection();
    talk.run();
    talk.at_server.check(["made", "read lost", "lost"]);
    talk.at_server.is_lost_with("Done");
    talk.at_client.is_lost_with("Done");
    assert_eq!(talk.at_client.text(), "");
}

#[test]
fn whoever_takes_the_stream_later_gets_the_data_and_then_the_end() {
    for (client_config, server_config) in both_versions() {
        let reactor = virtual_time_reactor();
        let pair = memory_pair(&reactor);
        let client = TlsStream::client(pair.client, &client_config, localhost());
        let server = TlsStream::server(pair.server, &server_config);
        close_when_secured(&server);
        let server = Transport::connect(Speaker::default(), server as Rc<dyn Stream>);
        server.write("banner");
        pair.pump.run().expect("it rests");
        assert!(client.session().is_some(), "the handshake is complete");
        let speaker = Speaker::default();
        let seen = speaker.seen.clone();
        drop(Transport::connect(speaker, client as Rc<dyn Stream>));
        pair.pump.run().expect("it rests");
        assert_eq!(seen.text(), "banner");
        seen.check(["made", "read lost", "lost"]);
        seen.is_lost_with("Done");
    }
}

#[test]
fn what_came_with_the_last_message_can_be_read_by_who_reads_for_itself() {
    let (client_config, server_config) = the_version_before();
    let talk = Talk::new(
        (Speaker::default(), &client_config),
        (Speaker::default(), &server_config),
    );
    talk.client.pause_reading();
    talk.server.write("banner");
    close_when_secured(&stream_of(&talk.server));
    talk.run();
    let mut place = [0; 4];
    let mut read = || talk.client.try_read(&mut place).expect("there is some");
    assert_eq!((read(), read(), read()), (4, 2, 0));
    talk.at_client.check(["made"]);
    talk.client.resume_reading();
    talk.run();
    talk.at_client.check(["made", "read lost", "lost"]);
    assert_eq!(talk.at_client.text(), "");
}

#[test]
fn a_server_that_is_paused_still_completes_its_handshake() {
    for (client_config, server_config) in both_versions() {
        let talk = Talk::new(
            (Speaker::default(), &client_config),
            (Speaker::default(), &server_config),
        );
        talk.server.pause_reading();
        talk.client.write("hello");
        talk.run();
        assert!(tls::session(&talk.client).is_some(), "the client's");
        assert!(tls::session(&talk.server).is_some(), "the server's");
        talk.at_server.check(["made"]);
        assert_eq!(talk.at_server.text(), "");
        talk.server.resume_reading();
        talk.run();
        assert_eq!(talk.at_server.text(), "hello");
    }
}

#[test]
fn so_does_one_that_nobody_has_taken() {
    for (client_config, server_config) in both_versions() {
        let reactor = virtual_time_reactor();
        let pair = memory_pair(&reactor);
        let client = TlsStream::client(pair.client, &client_config, localhost());
        let server = TlsStream::server(pair.server, &server_config);
        let client = Transport::connect(Speaker::default(), client as Rc<dyn Stream>);
        pair.pump.run().expect("it rests");
        assert!(tls::session(&client).is_some(), "the client's");
        assert!(server.session().is_some(), "the server's");
    }
}
