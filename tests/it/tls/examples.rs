//! The examples that speak TLS.

use std::time::Duration;

use torsade::prelude::*;
use torsade::protocols::tls::ServerConfig;
use torsade::reactor::testing::{Simulation, memory_pair, virtual_time_reactor};

use super::authority::{Authority, localhost};
use super::speaker::Seen;

macro_rules! examples {
    ($($name:ident = $path:literal)*) => {
        $(
            #[path = $path]
            #[allow(
                dead_code,
                clippy::duplicate_mod,
                reason = "a test calls the parts and not `main`; all share a module"
            )]
            pub mod $name;
        )*
    };
}

examples! {
    starttls = "../../../examples/starttls.rs"
    tls_echo = "../../../examples/tls_echo.rs"
}

#[test]
fn tls_echo_hears_itself_and_trusts_nobody_else() {
    let reactor = Reactor::new().expect("a reactor");
    let own = tls_echo::make_identity("localhost").expect("it is made");
    let listening = tls_echo::listen(&reactor, "127.0.0.1:0", own.identity).expect("good");
    let port = reactor.run_until(listening).expect("a free port");
    let address = port.address().to_string();
    let trusted = Roots::from_pem(&own.certificate).expect("it is PEM");
    let answer = tls_echo::call(&reactor, &address, trusted, "there and back").expect("good");
    assert_eq!(
        reactor.run_until(answer).expect("it answers"),
        "there and back"
    );
    let stranger = Authority::new().roots();
    let answer = tls_echo::call(&reactor, &address, stranger, "a secret").expect("good");
    let failure = reactor.run_until(answer).expect_err("it is not trusted");
    assert_eq!(failure.downcast_ref(), Some(&TlsError::UnknownAuthority));
}

/// Says one line after the other, each when the one before is answered.
struct Script {
    lines: Vec<&'static str>,
    seen: Seen,
    authority: Authority,
}

/// What a script of commands comes to.
const ANSWERS: [&str; 11] = [
    "220 a notice board",
    "250-welcome",
    "250 STARTTLS",
    "530 STARTTLS first",
    "220 go ahead",
    "250 welcome",
    "250 it is there",
    "500 EHLO, READ, STARTTLS, WRITE or QUIT",
    "250-hello",
    "250 that is all",
    "221 goodbye",
];

impl Script {
    fn of(seen: &Seen, authority: Authority) -> Self {
        Self {
            lines: vec![
                "EHLO me",
                "WRITE in the clear",
                "STARTTLS",
                "EHLO me",
                "WRITE hello",
                "STARTTLS",
                "READ",
                "QUIT",
            ],
            seen: seen.clone(),
            authority,
        }
    }

    fn go_on(&mut self, transport: &LineTransport<Self>) {
        if !self.lines.is_empty() {
            transport.send_line(self.lines.remove(0));
        }
    }
}

impl LineReceiver for Script {
    fn line_received(&mut self, transport: &LineTransport<Self>, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        self.seen.add(&*line);
        if line == "220 go ahead" {
            let config = self.authority.client();
            transport
                .start_tls_client(&config, localhost())
                .expect("it is prepared");
        }
        if line.as_bytes().get(3) == Some(&b' ') {
            self.go_on(transport);
        }
    }

    fn connection_lost(&mut self, reason: ConnectionLost) {
        self.seen.reason.replace(Some(reason));
    }
}

#[test]
fn the_notice_board_is_written_to_over_tls_alone() {
    let authority = Authority::new();
    let config: ServerConfig = authority.server();
    let board = starttls::Board::default();
    let reactor = virtual_time_reactor();
    let pair = memory_pair(&reactor);
    Transport::connect(starttls::Visitor::new(&board, &config), pair.server);
    let seen = Seen::default();
    let script = Script::of(&seen, authority);
    Transport::connect(StartTls::new(Lines::new(script)), pair.client);
    pair.pump.run().expect("it rests");
    seen.check(ANSWERS);
    seen.is_lost_with("Done");
}

#[test]
fn the_notice_board_hangs_on_one_host_and_is_written_to_from_another() {
    let authority = Authority::new();
    let config: ServerConfig = authority.server();
    let simulation = Simulation::new(5);
    let (server, client) = (simulation.host("server"), simulation.host("client"));
    server.start(move |reactor| {
        // As it is started, and with a certificate that somebody trusts.
        starttls::listen(reactor, ":8025").expect("the port is free");
        let (board, config) = (starttls::Board::default(), config.clone());
        let accept = move |_: &Address| starttls::Visitor::new(&board, &config);
        reactor
            .listen_tcp(":8026", accept)
            .expect("the port is free");
    });
    let visit = |address, authority| {
        let seen = Seen::default();
        let script = StartTls::new(Lines::new(Script::of(&seen, authority)));
        let connecting = client.reactor().connect_tcp(address, |_: &Address| script);
        let connected = client.reactor().run_until(connecting);
        drop(connected.expect("it listens"));
        simulation.run_for(Duration::from_secs(5));
        seen
    };
    let seen = visit("server:8026", authority);
    seen.check(ANSWERS);
    seen.is_lost_with("Done");
    let seen = visit("server:8025", Authority::new());
    seen.check([ANSWERS[0], ANSWERS[1], ANSWERS[2], ANSWERS[3], ANSWERS[4]]);
    let reason = seen.reason.borrow();
    let reason = reason.as_ref().expect("nobody trusts its certificate");
    assert_eq!(TlsError::of(reason), Some(&TlsError::UnknownAuthority));
}
