//! TLS in the middle of a conversation.

use std::rc::Rc;

use torsade::prelude::*;
use torsade::protocols::tls::{
    self, ClientConfig, ServerConfig, StartTls, StartTlsError, TlsError,
};
use torsade::reactor::testing::{Chunks, Pump, memory_pair, virtual_time_reactor};

use super::authority::{Authority, localhost};
use super::speaker::{Seen, Speaker};

/// A server of lines that starts TLS when it is asked to, and answers everything.
struct Answers {
    seen: Seen,
    config: ServerConfig,
}

impl LineReceiver for Answers {
    fn connection_made(&mut self, _: &LineTransport<Self>) {
        self.seen.add("made");
    }

    fn line_received(&mut self, transport: &LineTransport<Self>, line: &[u8]) {
        let secured = tls::session(transport).is_some();
        let line = String::from_utf8_lossy(line).into_owned();
        self.seen.add(format!(
            "{line}, {}",
            if secured { "secured" } else { "clear" }
        ));
        if line == "STARTTLS" {
            transport.send_line("220 go ahead");
            transport
                .start_tls_server(&self.config)
                .expect("it is prepared");
        } else {
            transport.send_line(format!("250 {line}"));
        }
    }

    fn connection_lost(&mut self, reason: ConnectionLost) {
        self.seen.add("lost");
        self.seen.reason.replace(Some(reason));
    }
}

/// The other side: asks for TLS, and then for something else.
struct Asks {
    seen: Seen,
    config: ClientConfig,
}

impl LineReceiver for Asks {
    fn connection_made(&mut self, transport: &LineTransport<Self>) {
        transport.send_line("STARTTLS");
    }

    fn line_received(&mut self, transport: &LineTransport<Self>, line: &[u8]) {
        let line = String::from_utf8_lossy(line).into_owned();
        self.seen.add(line.clone());
        if line.starts_with("220") {
            transport
                .start_tls_client(&self.config, localhost())
                .expect("it is prepared");
            transport.send_line("EHLO me");
        } else {
            transport.lose_connection();
        }
    }

    fn connection_lost(&mut self, reason: ConnectionLost) {
        self.seen.add("lost");
        self.seen.reason.replace(Some(reason));
    }
}

/// A server of lines in memory, and whatever is at the other end.
fn against<P: Protocol>(authority: &Authority, other: P) -> (Transport<P>, Seen, Pump) {
    let reactor = virtual_time_reactor();
    let pair = memory_pair(&reactor);
    let seen = Seen::default();
    let answers = Answers {
        seen: seen.clone(),
        config: authority.server(),
    };
    Transport::connect(StartTls::new(Lines::new(answers)), pair.server);
    (Transport::connect(other, pair.client), seen, pair.pump)
}

#[test]
fn lines_go_on_over_tls_with_the_same_receiver_on_both_sides() {
    let authority = Authority::new();
    for chunks in [Chunks::Whole, Chunks::Of(1), Chunks::Of(7)] {
        let at_client = Seen::default();
        let asks = Asks {
            seen: at_client.clone(),
            config: authority.client(),
        };
        let (_client, at_server, pump) = against(&authority, StartTls::new(Lines::new(asks)));
        pump.set_chunks(chunks);
        pump.run().expect("it rests");
        at_server.check(["made", "STARTTLS, clear", "EHLO me, secured", "lost"]);
        at_client.check(["220 go ahead", "250 EHLO me", "lost"]);
        at_server.is_lost_with("Done");
        at_client.is_lost_with("Done");
    }
}

/// CVE-2011-0411: what is smuggled in behind the command must not be taken for something that
/// came over TLS.
#[test]
fn commands_smuggled_in_behind_starttls_are_never_delivered() {
    let authority = Authority::new();
    for smuggled in [
        "STARTTLS\r\nRSET\r\n",
        "STARTTLS\r\nRSET\r\nRCPT TO:<mallory>\r\n",
        "STARTTLS\r\nRSE",
        "STARTTLS\r\n\r\n",
    ] {
        for chunks in [Chunks::Whole, Chunks::Of(1), Chunks::Of(11)] {
            let (client, at_server, pump) = against(&authority, Speaker::default());
            pump.set_chunks(chunks);
            client.write(smuggled);
            // Even if a handshake followed it would not help.
            client.write([22; 100]);
            pump.run().expect("it rests");
            at_server.check(["made", "STARTTLS, clear", "lost"]);
            assert_eq!(at_server.error(), TlsError::NotTls);
        }
    }
}

#[test]
fn half_a_line_in_the_clear_is_no_part_of_the_first_secured_line() {
    // The server starts TLS on its own account while half a line has come.
    struct Later {
        seen: Seen,
        config: ServerConfig,
    }
    impl LineReceiver for Later {
        fn connection_made(&mut self, transport: &LineTransport<Self>) {
            let tied = sleep(&transport.reactor(), std::time::Duration::from_secs(1));
            transport.when(tied, |this, transport, _| {
                transport
                    .start_tls_server(&this.config)
                    .expect("it is prepared");
            });
        }
        fn line_received(&mut self, _: &LineTransport<Self>, line: &[u8]) {
            self.seen.add(String::from_utf8_lossy(line));
        }
        fn connection_lost(&mut self, reason: ConnectionLost) {
            self.seen.reason.replace(Some(reason));
        }
    }
    let reactor = virtual_time_reactor();
    let pair = memory_pair(&reactor);
    let seen = Seen::default();
    let later = Later {
        seen: seen.clone(),
        config: Authority::new().server(),
    };
    Transport::connect(StartTls::new(Lines::new(later)), pair.server);
    let client = Transport::connect(Speaker::default(), pair.client);
    client.write("RSET half of a li");
    pair.pump.run().expect("it rests");
    reactor.turn(None).expect("the call is due");
    pair.pump.run().expect("it rests");
    seen.check([]);
    assert_eq!(seen.error(), TlsError::NotTls);
}

#[test]
fn what_a_server_says_behind_its_consent_fails_the_client_s_handshake() {
    let authority = Authority::new();
    let reactor = virtual_time_reactor();
    let pair = memory_pair(&reactor);
    let at_client = Seen::default();
    let asks = Asks {
        seen: at_client.clone(),
        config: authority.client(),
    };
    Transport::connect(StartTls::new(Lines::new(asks)), pair.client);
    let server = Transport::connect(Speaker::default(), pair.server);
    server.write("220 go ahead\r\n250 all is well\r\n");
    pair.pump.run().expect("it rests");
    at_client.check(["220 go ahead", "lost"]);
    assert_eq!(at_client.error(), TlsError::NotTls);
}

#[test]
fn a_protocol_of_bytes_starts_tls_with_what_it_has_not_used() {
    let authority = Authority::new();
    let reactor = virtual_time_reactor();
    for chunks in [Chunks::Whole, Chunks::Of(3)] {
        let pair = memory_pair(&reactor);
        pair.pump.set_chunks(chunks);
        let config = authority.server();
        let mut clear = true;
        let server = Speaker::default().on_data(move |transport, data| {
            if std::mem::take(&mut clear) {
                // Its command is one byte.
                tls::start_server(transport, &config, &data[1..]).expect("it is prepared");
                let again = tls::start_server(transport, &config, &[]);
                assert_eq!(again, Err(StartTlsError::AlreadyStarted));
            } else {
                transport.write(data);
            }
        });
        let client = Speaker::default();
        let (at_client, at_server) = (client.seen.clone(), server.seen.clone());
        Transport::connect(StartTls::new(server), pair.server);
        let client = StartTls::new(client);
        let client = Transport::connect(client, pair.client);
        client.call({
            let config = authority.client();
            move |client, _| {
                let transport = client.transport().expect("it is connected");
                // The command, and the handshake at once behind it.
                transport.write("!");
                tls::start_client(transport, &config, localhost(), &[]).expect("it is prepared");
                transport.write("secret");
            }
        });
        pair.pump.run().expect("it rests");
        assert_eq!(at_client.text(), "secret");
        assert!(at_server.text().ends_with("secret"), "{}", at_server.text());
        at_server.check(["made"]);
    }
}

#[test]
fn starting_tls_where_it_cannot_be_is_refused() {
    let authority = Authority::new();
    let reactor = virtual_time_reactor();
    let pair = memory_pair(&reactor);
    let bare = Transport::connect(Speaker::default(), pair.client);
    let refused = tls::start_server(&bare, &authority.server(), &[]);
    assert_eq!(refused, Err(StartTlsError::NotPrepared));
    let wrapped = Transport::connect(StartTls::new(Speaker::default()), pair.server);
    wrapped.lose_connection();
    let refused = tls::start_server(&wrapped, &authority.server(), &[]);
    assert_eq!(refused, Err(StartTlsError::NotConnected));
}

#[test]
fn in_the_clear_everything_is_as_without() {
    let reactor = virtual_time_reactor();
    let pair = memory_pair(&reactor);
    let (client, server) = (Speaker::half_open(), Speaker::echo());
    let (at_client, at_server) = (client.seen.clone(), server.seen.clone());
    let client = Transport::connect(StartTls::new(client), pair.client);
    let server = Transport::connect(StartTls::new(server), Rc::clone(&pair.server));
    client.write("as it is");
    pair.pump.run().expect("it rests");
    assert_eq!(at_client.text(), "as it is");
    assert!(client.flush().into_result().is_ok());
    client.lose_write_connection();
    pair.pump.run().expect("it rests");
    at_server.check(["made", "read lost", "lost"]);
    // Nothing can come and nothing can go.
    at_client.check(["made", "read lost", "lost"]);
    at_client.is_lost_with("Done");
    assert!(!server.is_connected());
}
