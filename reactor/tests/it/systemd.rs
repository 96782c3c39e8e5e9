//! Sockets that systemd hands on, as it would: to a process of its own.

use std::env;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use torsade_reactor::systemd::{self, SystemdError};
use torsade_reactor::{Address, EndpointParsers};

use crate::common::{End, Log, reactor, run_while};

/// Set for the process that plays the service.
const SERVICE: &str = "TORSADE_TEST_SERVICE";

#[test]
fn sockets_are_taken_once_by_index_and_by_name() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // Two descriptors, from 3 on; the process that becomes the service is the shell's own.
    let output = Command::new("sh")
        .args([
            "-c",
            "LISTEN_PID=$$ exec \"$0\" \"$@\" 3<&0 4<&0 0</dev/null",
        ])
        .arg(env::current_exe().unwrap())
        .args(["--exact", "systemd::as_the_service", "--nocapture"])
        .envs([("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", "web:admin")])
        .env(SERVICE, address.to_string())
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(said.contains("1 passed"), "{said}");
}

#[test]
fn as_the_service() {
    let Ok(address) = env::var(SERVICE) else {
        // In a process that systemd did not start there is nothing to take.
        assert_eq!(systemd::names(), Err(SystemdError::NotActivated));
        let endpoint = EndpointParsers::new().server("systemd:index=0").unwrap();
        let reactor = reactor();
        let failure = reactor.run_until(reactor.listen(&endpoint, |_: &Address| None::<End>));
        assert!(failure.unwrap_err().check::<SystemdError>());
        return;
    };
    assert_eq!(systemd::names().unwrap(), ["web", "admin"]);
    let none = systemd::socket_named("mail").unwrap_err();
    assert!(matches!(none, SystemdError::NotOne { count: 0, .. }));
    let beyond = SystemdError::NoSuchIndex { index: 2, count: 2 };
    assert_eq!(systemd::socket(2).unwrap_err(), beyond);
    let (reactor, log) = (reactor(), Log::default());
    let factory = log.clone();
    let port = reactor
        .adopt_listener(
            systemd::socket_named("admin").unwrap(),
            move |_: &Address| {
                End::new("service", &factory).on_made(|transport| {
                    transport.write("hello");
                    transport.lose_connection();
                })
            },
        )
        .unwrap();
    assert_eq!(port.address().to_string(), address);
    let mut peer = TcpStream::connect(&address).unwrap();
    run_while(&reactor, || log.lines().len() < 2);
    let mut heard = String::new();
    peer.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "hello");
    let taken = SystemdError::Taken { index: 1 };
    assert_eq!(systemd::socket_named("admin").unwrap_err(), taken);
    // The other as an endpoint from text: taken when it listens, once, and the error comes through
    // the Deferred.
    let endpoint = EndpointParsers::new()
        .server("systemd:domain=INET:name=web")
        .unwrap();
    let port = reactor.listen(&endpoint, |_: &Address| None::<End>);
    let port = reactor.run_until(port).unwrap();
    assert_eq!(port.address().to_string(), address);
    assert!(systemd::socket(0).is_err());
    let again = EndpointParsers::new().server("systemd:index=0").unwrap();
    let failure = reactor.run_until(reactor.listen(&again, |_: &Address| None::<End>));
    let failure = failure.unwrap_err();
    let taken = SystemdError::Taken { index: 0 };
    assert_eq!(failure.downcast_ref(), Some(&taken));
}
