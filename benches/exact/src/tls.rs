//! Messages there and back over TLS: the client is rustls on a blocking socket, on the same
//! thread, and what it costs is in the count.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use torsade::prelude::*;

use crate::work::{made, number_it, turn_until, turning};

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport<Self>, data: &[u8]) {
        transport.write(data);
        made();
    }
}

pub fn echo(count: u64) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a name");
    let pem = made.cert.pem();
    let identity = Identity::from_pem(pem.as_bytes(), made.signing_key.serialize_pem().as_bytes());
    let server = tls::server_config(identity.expect("it was just made")).build();
    let server = server.expect("it is complete");
    let reactor = turning();
    let port = reactor
        .listen_tcp("127.0.0.1:0", move |_peer: &Address| {
            Tls::server(&server, Echo)
        })
        .expect("a port is free");
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).expect("it is one");
    roots.add(certificate).expect("it signs itself");
    let config =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has them")
            .with_root_certificates(roots)
            .with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    let mut tls = ClientConnection::new(Arc::new(config), name).expect("it is complete");
    let mut socket = TcpStream::connect(port.address().to_string()).expect("it listens");
    socket.set_nonblocking(true).expect("it can be");
    while tls.is_handshaking() {
        while tls.wants_write() {
            tls.write_tls(&mut socket).expect("there is room");
        }
        receive(&reactor, &mut tls, &mut socket);
    }
    let (mut message, mut answer) = ([7; 64], [0; 64]);
    for asked in 1..=count {
        number_it(&mut message, asked);
        tls.writer().write_all(&message).expect("there is room");
        while tls.wants_write() {
            tls.write_tls(&mut socket).expect("there is room");
        }
        turn_until(&reactor, asked);
        let mut came = 0;
        while came < answer.len() {
            match tls.reader().read(&mut answer[came..]) {
                Ok(0) => panic!("the server ends it early"),
                Ok(count) => came += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    receive(&reactor, &mut tls, &mut socket);
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!(answer == message, "other bytes came back");
    }
}

/// Takes what has come; has the reactor turn if nothing has.
fn receive(reactor: &Reactor, tls: &mut ClientConnection, socket: &mut TcpStream) {
    match tls.read_tls(socket) {
        Ok(0) => panic!("the server ends the connection"),
        Ok(_) => drop(tls.process_new_packets().expect("they speak the same")),
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            reactor.turn(Some(Duration::ZERO)).expect("it turns");
        }
        Err(error) => panic!("{error}"),
    }
}
