//! `tls:` and `ssl:` endpoints from text.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use torsade::prelude::*;
use torsade::protocols::tls::TlsStream;
use torsade::reactor::ClientEndpoint;

use super::authority::{Authority, localhost};
use super::speaker::Speaker;

#[test]
fn both_sides_are_made_from_text_and_talk() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("it can be written");
        path.display().to_string()
    };
    let signed = authority.sign("localhost");
    let (ca, chain) = (
        write("ca.pem", &authority.pem()),
        write("chain.pem", &signed.chain),
    );
    let key = write("key.pem", &signed.key);
    let server =
        format!("ssl:0:interface=127.0.0.1:privateKey={key}:certKey={chain}:extraCertChain={ca}");
    let server = torsade::server_from_string(&server).expect("it is well formed");
    let reactor = Reactor::new().expect("a reactor");
    let listening = reactor.listen(&server, |_: &Address| Speaker::echo());
    let port = reactor.run_until(listening).expect("a free port");
    let number = port.address().port().expect("TCP has one");
    let folder = folder.path().display();
    for roots in [format!("trustRoots={ca}"), format!("trustRoots={folder}")] {
        for place in [
            format!("tls:localhost:{number}:{roots}:timeout=20"),
            format!("tls:localhost:{roots}:endpoint=tcp\\:127.0.0.1\\:{number}"),
        ] {
            let client = torsade::client_from_string(&place).expect("it is well formed");
            let connecting = reactor.connect(&client, |_| Speaker::default());
            let transport = reactor.run_until(connecting).expect("it connects");
            assert!(tls::session(&transport).is_some());
            transport.abort_connection();
        }
    }
}

/// A certificate and its key as files, and the authority's.
struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new(authority: &Authority) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let signed = authority.sign("localhost");
        for (name, text) in [
            ("ca.pem", authority.pem()),
            ("chain.pem", signed.chain),
            ("key.pem", signed.key),
        ] {
            std::fs::write(folder.path().join(name), text).expect("it can be written");
        }
        Self { folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// The arguments of a server.
    fn identity(&self) -> String {
        let (key, chain) = (self.path("key.pem"), self.path("chain.pem"));
        format!("privateKey={key}:certKey={chain}")
    }
}

#[test]
fn a_server_from_text_speaks_tls_over_any_endpoint() {
    let authority = Authority::new();
    let files = Files::new(&authority);
    let (identity, socket) = (files.identity(), files.path("tls.sock"));
    let server = format!("tls:endpoint=unix\\:{socket}\\:mode=600:{identity}");
    // The argument of the endpoint below has backslashes of its own.
    let server = server.replace("mode=600", "mode\\=600");
    let server = torsade::server_from_string(&server).expect("it is well formed");
    let reactor = Reactor::new().expect("a reactor");
    let listening = reactor.listen(&server, |_: &Address| Speaker::echo());
    let port = reactor.run_until(listening).expect("it listens");
    assert_eq!(port.address().to_string(), format!("unix:{socket}"));
    let client = format!(
        "tls:localhost:trustRoots={}:endpoint=unix\\:{socket}",
        files.path("ca.pem")
    );
    let client = torsade::client_from_string(&client).expect("it is well formed");
    let connecting = reactor.connect(&client, |_| Speaker::default());
    let transport = reactor.run_until(connecting).expect("it connects");
    assert!(tls::session(&transport).is_some());
}

#[test]
fn a_proxy_s_header_comes_before_tls_or_within_it_as_the_text_says() {
    const HEADER: &str = "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n";
    let authority = Authority::new();
    let files = Files::new(&authority);
    let identity = files.identity();
    for (server, is_within) in [
        // What HAProxy sends: in the clear, and then the client's TLS.
        (
            format!("tls:endpoint=haproxy\\:tcp\\:0\\:interface\\=127.0.0.1:{identity}"),
            false,
        ),
        (
            format!("haproxy:tls:0:interface=127.0.0.1:{identity}"),
            true,
        ),
    ] {
        let server = torsade::server_from_string(&server).expect("it is well formed");
        let reactor = Reactor::new().expect("a reactor");
        let peers = Rc::new(RefCell::new(Vec::new()));
        let seen = Rc::clone(&peers);
        let listening = reactor.listen(&server, move |peer: &Address| {
            seen.borrow_mut().push(peer.to_string());
            Speaker::echo()
        });
        let port = reactor.run_until(listening).expect("a free port");
        let below = TcpClientEndpoint::new(("127.0.0.1", port.address().port().expect("TCP")));
        let config = authority.client();
        let speaker = Speaker::default();
        let heard = speaker.seen.clone();
        if is_within {
            let endpoint = TlsClientEndpoint::new(below, &config, localhost());
            let connecting = reactor.connect(&endpoint, |_| speaker);
            let transport = reactor.run_until(connecting).expect("it connects");
            transport.write(HEADER);
            transport.write("hello");
        } else {
            let below = reactor.run_until(below.connect_stream(&reactor));
            let below = below.expect("it connects");
            below.write(HEADER.as_bytes());
            let stream = TlsStream::client(below, &config, localhost());
            Transport::connect(speaker, stream).write("hello");
        }
        for _ in 0..10_000 {
            if heard.text() == "hello" {
                break;
            }
            reactor.turn(Some(Duration::from_secs(1))).expect("a turn");
        }
        assert_eq!(heard.text(), "hello", "within: {is_within}");
        assert_eq!(*peers.borrow(), ["192.0.2.1:56324"]);
    }
}

#[test]
fn who_makes_servers_from_text_may_hear_of_handshakes_that_fail() {
    let authority = Authority::new();
    let files = Files::new(&authority);
    let failed = Rc::new(RefCell::new(Vec::new()));
    let failures = Rc::clone(&failed);
    let mut parsers = torsade::endpoint_parsers();
    tls::add_endpoint_kinds_with(&mut parsers, move |peer, error| {
        failures.borrow_mut().push(format!(
            "{}: {error}",
            peer.ip().is_some_and(|ip| ip.is_loopback())
        ));
    });
    let text = format!("ssl:0:interface=127.0.0.1:{}", files.identity());
    let server = parsers.server(&text).expect("it is well formed");
    let reactor = Reactor::new().expect("a reactor");
    let listening = reactor.listen(&server, |_: &Address| Speaker::echo());
    let port = reactor.run_until(listening).expect("a free port");
    let endpoint = TlsClientEndpoint::new(
        TcpClientEndpoint::new(port.address()),
        &Authority::new().client(),
        localhost(),
    );
    let refused = reactor.run_until(reactor.connect(&endpoint, |_| Speaker::default()));
    assert!(refused.is_err());
    while failed.borrow().is_empty() {
        reactor.turn(None).expect("it can wait");
    }
    let expected =
        "true: the peer gave up: UnknownCA: it does not trust whoever signed our certificate";
    assert_eq!(*failed.borrow(), [expected]);
}

#[test]
fn texts_that_are_wrong_say_what_is_wrong() {
    let error = |text: &str| match torsade::client_from_string(text) {
        Ok(_) => panic!("{text} is accepted"),
        Err(error) => error.to_string(),
    };
    assert!(error("tls").contains("\"host\" is missing"));
    assert!(error("tls:a b:443").contains("expected a name"));
    let missing = error("tls:localhost:443:trustRoots=/nonexistent.pem");
    assert!(
        missing.contains("cannot read /nonexistent.pem"),
        "{missing}"
    );
    // Each file is blamed for what is wrong with it.
    let files = Files::new(&Authority::new());
    let other = Files::new(&Authority::new());
    let [roots, chain, key] = ["ca.pem", "chain.pem", "key.pem"].map(|name| files.path(name));
    let stranger = other.path("key.pem");
    for (identity, blamed) in [
        (
            format!("certificate={chain}:privateKey={stranger}"),
            format!("\"privateKey\" is {stranger:?}"),
        ),
        (
            format!("certificate={chain}:privateKey={roots}"),
            format!("\"privateKey\" is {roots:?}"),
        ),
        (
            format!("certificate={key}:privateKey={key}"),
            format!("\"certificate\" is {key:?}"),
        ),
        (
            format!("certificate={chain}:privateKey=/nonexistent.pem"),
            "\"privateKey\" is \"/nonexistent.pem\"".to_owned(),
        ),
        (
            format!("certificate={chain}"),
            format!("\"certificate\" is {chain:?}"),
        ),
        (
            format!("privateKey={key}"),
            format!("\"privateKey\" is {key:?}"),
        ),
    ] {
        let error = error(&format!("tls:localhost:443:trustRoots={roots}:{identity}"));
        assert!(error.contains(&blamed), "{identity}: {error}");
    }
    let server = |text: &str| match torsade::server_from_string(text) {
        Ok(_) => panic!("{text} is accepted"),
        Err(error) => error.to_string(),
    };
    let missing = server("ssl:443:privateKey=/nonexistent.pem");
    assert!(
        missing.contains("cannot read /nonexistent.pem"),
        "{missing}"
    );
    // What can be seen in the text is said before any file is read.
    let files = "privateKey=/nonexistent.pem:certKey=/nonexistent.pem";
    for (text, expected) in [
        (
            format!("tls:99999:{files}"),
            "\"port\" is \"99999\", expected a port",
        ),
        (format!("tls:{files}"), "\"port\" is missing"),
        (format!("tls:443:backlog=x:{files}"), "\"backlog\" is \"x\""),
        (
            format!("tls:443:colour=red:{files}"),
            "\"colour\" is one argument too many",
        ),
        (
            format!("tls:443:endpoint=tcp\\:443:{files}"),
            "\"endpoint\" is \"tcp:443\", expected",
        ),
        (
            format!("tls:endpoint=nothing:{files}"),
            "there is no kind \"nothing\"",
        ),
    ] {
        let error = server(&text);
        assert!(error.contains(expected), "{error}");
        assert!(
            error.contains("nothing") || error.contains(&format!("{text:?}")),
            "{error}"
        );
    }
    let files = "trustRoots=/nonexistent.pem";
    for (text, expected) in [
        (
            format!("tls:localhost:x:{files}"),
            "\"port\" is \"x\", expected a port",
        ),
        (format!("tls:localhost:{files}"), "\"port\" is missing"),
        (
            format!("tls:localhost:443:timeout=x:{files}"),
            "\"timeout\" is \"x\"",
        ),
        (
            format!("tls:localhost:443:colour=red:{files}"),
            "\"colour\" is one argument too many",
        ),
        (
            format!("tls:localhost:443:endpoint=tcp\\:a\\:1:{files}"),
            "\"endpoint\" is \"tcp:a:1\"",
        ),
    ] {
        let error = error(&text);
        assert!(error.contains(expected), "{error}");
    }
}
