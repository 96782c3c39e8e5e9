//! Messages there and back over TLS: the client is rustls on a blocking socket, on the same
//! thread, and what it costs is in the count.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use torsade::prelude::*;

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport<Self>, data: &[u8]) {
        transport.write(data);
        crate::work::made();
    }
}

pub fn echo(count: u64) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a name");
    let pem = made.cert.pem();
    let identity = Identity::from_pem(pem.as_bytes(), made.signing_key.serialize_pem().as_bytes());
    let server = tls::server_config(identity.expect("it was just made")).build();
    let server = server.expect("it is complete");
    let reactor = crate::work::turning();
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
        turn(&reactor);
        if tls.read_tls(&mut socket).is_ok() {
            tls.process_new_packets().expect("they speak the same");
        }
    }
    let mut message = [7; 64];
    for asked in 1..=count {
        tls.writer().write_all(&message).expect("there is room");
        while tls.wants_write() {
            tls.write_tls(&mut socket).expect("there is room");
        }
        crate::work::turn_until(&reactor, asked);
        while tls.reader().read(&mut message).is_err() {
            if tls.read_tls(&mut socket).is_err() {
                turn(&reactor);
            } else {
                tls.process_new_packets().expect("they speak the same");
            }
        }
    }
}

fn turn(reactor: &Reactor) {
    reactor.turn(Some(Duration::ZERO)).expect("it turns");
}
