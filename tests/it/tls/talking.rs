//! Handshakes and data.

use std::io::{Read, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use torsade::prelude::*;
use torsade::protocols::tls::rustls::{self, ClientConnection, HandshakeKind, ServerConnection};
use torsade::protocols::tls::{self, Tls, TlsStream, Versions};
use torsade::reactor::Stream;
use torsade::reactor::testing::{Chunks, MemoryStream, memory_pair, virtual_time_reactor};

use super::authority::{Authority, localhost};
use super::speaker::{Speaker, Talk};

#[test]
fn what_is_written_before_the_handshake_arrives_after_it() {
    let authority = Authority::new();
    let talk = Talk::new(
        (Speaker::default(), &authority.client()),
        (Speaker::echo(), &authority.server()),
    );
    talk.client.write("early ");
    talk.client.write("words");
    assert_eq!(talk.client.unsent(), 11, "it counts as unsent");
    talk.run();
    assert_eq!(talk.at_server.text(), "early words");
    assert_eq!(talk.at_client.text(), "early words");
    assert_eq!(talk.at_server.deliveries.get(), 1, "one record");
    assert_eq!(talk.client.unsent(), 0);
}

/// Carries bytes between rustls's own client and whoever answers, until neither has more to say.
fn carry(client: &mut ClientConnection, mut answer: impl FnMut(&[u8]) -> Vec<u8>) {
    loop {
        let mut said = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut said).expect("memory takes all");
        }
        let answered = answer(&said);
        if said.is_empty() && answered.is_empty() {
            return;
        }
        let mut rest = &answered[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest).expect("it is read from memory");
            client.process_new_packets().expect("the server is good");
        }
    }
}

#[test]
fn a_client_that_sends_early_data_is_served_though_that_is_not_taken() {
    let authority = Authority::new();
    let base = Arc::clone(authority.server().rustls());
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(base.crypto_provider()));
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]);
    let builder = builder.expect("it is known").with_no_client_auth();
    let mut config = builder.with_cert_resolver(Arc::clone(&base.cert_resolver));
    config.max_early_data_size = 1000;
    let config = Arc::new(config);
    let mut client_config = rustls::ClientConfig::clone(authority.client().rustls());
    client_config.enable_early_data = true;
    let client_config = Arc::new(client_config);
    let client = || ClientConnection::new(Arc::clone(&client_config), localhost());

    // Whoever takes it gives a ticket that allows it.
    let mut first = client().expect("it is good");
    let mut server = ServerConnection::new(Arc::clone(&config)).expect("it is good");
    carry(&mut first, |mut said| {
        while !said.is_empty() {
            server.read_tls(&mut said).expect("it is read from memory");
            server.process_new_packets().expect("the client is good");
        }
        let mut answer = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut answer).expect("memory takes all");
        }
        answer
    });

    let reactor = virtual_time_reactor();
    let memory = MemoryStream::new(&reactor);
    let stream = TlsStream::server(memory.clone(), &tls::ServerConfig::from(config));
    let speaker = Speaker::echo();
    let seen = speaker.seen.clone();
    let _server = Transport::connect(speaker, stream as Rc<dyn Stream>);
    let answer = |said: &[u8]| {
        if !said.is_empty() {
            memory.receive(said);
        }
        let turned = reactor.turn(Some(Duration::ZERO));
        turned.expect("virtual time passes");
        memory.take_written()
    };
    let mut second = client().expect("it is good");
    let mut early = second.early_data().expect("the ticket allows it");
    early.write_all(b"early").expect("it is little");
    carry(&mut second, answer);
    assert!(!second.is_early_data_accepted());
    assert_eq!(second.handshake_kind(), Some(HandshakeKind::Resumed));
    second.writer().write_all(b"hello").expect("it is little");
    carry(&mut second, answer);
    let mut echo = [0; 5];
    let read = second.reader().read_exact(&mut echo);
    read.expect("it is echoed");
    assert_eq!(&echo, b"hello");
    assert_eq!(seen.text(), "hello");
}

#[test]
fn both_versions_talk_in_every_chunking() {
    let authority = Authority::new();
    let identity = authority.sign("localhost");
    let message: Vec<u8> = (0..70_000_u32).map(|i| (i % 251) as u8).collect();
    for versions in [Versions::Tls12, Versions::Tls13] {
        let server = tls::server_config(identity.identity()).versions(versions);
        let server = server.build().expect("it is good");
        for chunks in [
            Chunks::Whole,
            Chunks::Of(1),
            Chunks::Of(5),
            Chunks::Of(4096),
            Chunks::Sizes(vec![1, 2, 3, 1000, 5, 16_390, 7]),
        ] {
            let talk = Talk::new(
                (Speaker::default(), &authority.client()),
                (Speaker::echo(), &server),
            );
            talk.pump.set_chunks(chunks.clone());
            talk.client.write("small");
            talk.client.write(&message);
            talk.run();
            talk.client.write("more");
            talk.client.write("and more");
            talk.run();
            let mut expected = b"small".to_vec();
            expected.extend_from_slice(&message);
            expected.extend_from_slice(b"moreand more");
            assert!(
                *talk.at_client.data.borrow() == expected,
                "{versions:?} {chunks:?}"
            );
            let session = tls::session(&talk.client).expect("it is secured");
            let version = format!("{:?}", session.version().expect("a version"));
            let expected = if versions == Versions::Tls12 {
                "TLSv1_2"
            } else {
                "TLSv1_3"
            };
            assert_eq!(version, expected);
            talk.client.lose_connection();
            talk.run();
            talk.at_client.is_lost_with("Done");
            talk.at_server.is_lost_with("Done");
        }
    }
}

#[test]
fn small_writes_of_one_callback_are_one_record() {
    let authority = Authority::new();
    let server = Speaker::default().on_data(|transport, _| {
        for _ in 0..100 {
            transport.write("ten bytes.");
        }
    });
    let talk = Talk::new(
        (Speaker::default(), &authority.client()),
        (server, &authority.server()),
    );
    talk.client.write("go");
    talk.run();
    assert_eq!(talk.at_client.data.borrow().len(), 1000);
    assert_eq!(talk.at_client.deliveries.get(), 1);
}

#[test]
fn the_session_says_who_and_what() {
    let authority = Authority::new();
    let client = tls::client_config()
        .roots(authority.roots())
        .alpn(["second", "first"])
        .build()
        .expect("it is good");
    let server = tls::server_config(authority.sign("localhost").identity())
        .alpn(["first", "second"])
        .build()
        .expect("it is good");
    let talk = Talk::new((Speaker::default(), &client), (Speaker::default(), &server));
    assert!(tls::session(&talk.client).is_none(), "not yet");
    talk.run();
    let (at_client, at_server) = (tls::session(&talk.client), tls::session(&talk.server));
    let (at_client, at_server) = (at_client.expect("secured"), at_server.expect("secured"));
    assert_eq!(at_client.alpn(), Some(&b"first"[..]), "the server chooses");
    assert_eq!(at_server.alpn(), Some(&b"first"[..]));
    assert_eq!(at_client.server_name(), Some("localhost"));
    assert_eq!(at_server.server_name(), Some("localhost"));
    assert_eq!(at_client.peer_certificates().len(), 1);
    assert!(at_server.peer_certificates().is_empty(), "it did not ask");
    assert!(at_client.cipher_suite().is_some());
    let shown = format!("{at_client:?}");
    assert!(
        shown.contains("localhost") && shown.contains("first"),
        "{shown}"
    );
}

#[test]
fn the_handshake_fires_for_all_who_wait_and_at_once_afterwards() {
    let authority = Authority::new();
    let talk = Talk::new(
        (Speaker::default(), &authority.client()),
        (Speaker::echo(), &authority.server()),
    );
    let seen = talk.at_client.clone();
    for number in 0..2 {
        let seen = seen.clone();
        let fired = tls::handshake(&talk.client).add_callback(move |session| {
            assert!(!session.is_resumed());
            seen.add(format!("secured {number}"));
        });
        drop(fired);
    }
    talk.client.write("x");
    talk.run();
    talk.at_client.check(["made", "secured 0", "secured 1"]);
    assert!(
        tls::handshake(&talk.client).into_result().is_ok(),
        "at once"
    );
}

#[test]
fn a_handshake_that_is_waited_for_comes_before_the_data() {
    let authority = Authority::new();
    let server = Speaker::default();
    let seen = server.seen.clone();
    let order = seen.clone();
    let server = server.on_data(move |_, _| order.add("data"));
    let talk = Talk::new(
        (Speaker::default(), &authority.client()),
        (server, &authority.server()),
    );
    let order = seen.clone();
    drop(tls::handshake(&talk.server).add_callback(move |_| order.add("secured")));
    talk.client.write("the first");
    talk.run();
    seen.check(["made", "secured", "data"]);
}

#[test]
fn wrapped_protocols_talk_and_hear_of_the_end_once() {
    let authority = Authority::new();
    let reactor = virtual_time_reactor();
    let pair = memory_pair(&reactor);
    let (client, server) = (Speaker::default(), Speaker::echo());
    let (at_client, at_server) = (client.seen.clone(), server.seen.clone());
    let client = Tls::client(&authority.client(), localhost(), client);
    let server = Tls::server(&authority.server(), server);
    let client = Transport::connect(client, pair.client);
    let server = Transport::connect(server, pair.server);
    // Also on the wrapper's own transport there is no way past TLS.
    client.write("over ");
    client.call(|tls, _| tls.transport().expect("it is connected").write("TLS"));
    pair.pump.run().expect("it rests");
    assert_eq!(at_client.text(), "over TLS");
    assert!(tls::session(&client).is_some());
    let tied = Deferred::<()>::new();
    let seen = at_server.clone();
    let (trigger, deferred) = tied;
    trigger.on_cancel(move || seen.add("tie cancelled"));
    server.when(deferred, |_, _, _| unreachable!("it is cancelled"));
    client.lose_connection();
    pair.pump.run().expect("it rests");
    at_client.check(["made", "lost"]);
    at_server.check(["made", "read lost", "lost", "tie cancelled"]);
}

#[test]
fn tls_over_tls_over_memory_talks_and_ends() {
    let authority = Authority::new();
    let reactor = virtual_time_reactor();
    let pair = memory_pair(&reactor);
    pair.pump.set_chunks(Chunks::Of(700));
    let (client_config, server_config) = (authority.client(), authority.server());
    let (client, server) = (Speaker::default(), Speaker::echo());
    let (at_client, at_server) = (client.seen.clone(), server.seen.clone());
    let outer = TlsStream::client(pair.client, &client_config, localhost());
    let both = TlsStream::client(outer as Rc<dyn Stream>, &client_config, localhost());
    let client = Transport::connect(client, both as Rc<dyn Stream>);
    let outer = TlsStream::server(pair.server, &server_config);
    let both = TlsStream::server(outer as Rc<dyn Stream>, &server_config);
    Transport::connect(server, both as Rc<dyn Stream>);
    let message = vec![b'x'; 100_000];
    client.write(&message);
    pair.pump.run().expect("it rests");
    assert!(*at_client.data.borrow() == message);
    client.lose_connection();
    pair.pump.run().expect("it rests");
    at_client.is_lost_with("Done");
    at_server.is_lost_with("Done");
}

#[test]
fn a_session_is_taken_up_again() {
    let authority = Authority::new();
    for versions in [Versions::Tls12, Versions::Tls13] {
        let (client, server) = (authority.client(), authority.sign("localhost").identity());
        let server = tls::server_config(server).versions(versions).build();
        let server = server.expect("it is good");
        for expected in [false, true] {
            let talk = Talk::new((Speaker::default(), &client), (Speaker::echo(), &server));
            talk.client.write("x");
            talk.run();
            let session = tls::session(&talk.server).expect("it is secured");
            assert_eq!(session.is_resumed(), expected, "{versions:?}");
            talk.client.lose_connection();
            talk.run();
        }
    }
}

#[test]
fn sessions_are_not_taken_up_again_where_that_is_switched_off() {
    let authority = Authority::new();
    let on = authority.client();
    let off = tls::client_config()
        .roots(authority.roots())
        .resumption(false);
    let off = off.build().expect("it is good");
    let identity = authority.sign("localhost");
    let never = tls::server_config(identity.identity()).resumption(false);
    let never = never.build().expect("it is good");
    let always = tls::server_config(identity.identity()).build();
    let always = always.expect("it is good");
    for (client, server) in [(&on, &never), (&off, &always)] {
        for _ in 0..2 {
            let talk = Talk::new((Speaker::default(), client), (Speaker::echo(), server));
            talk.client.write("x");
            talk.run();
            assert!(!tls::session(&talk.server).expect("secured").is_resumed());
            talk.client.lose_connection();
            talk.run();
        }
    }
}
