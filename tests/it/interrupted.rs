//! System calls that are interrupted, or that say "not now" though there is something: the
//! echo server loses nothing by them. The kernel rarely does it; a tracer does it to order.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::thread;

use rustix::process::Signal;

use crate::programs::{Running, connect, tool};

const CLIENTS: usize = 10;
const ROUNDS: usize = 20;

/// An example under a tracer that spoils its system calls, and the tracer's log.
fn start_spoiled(
    name: &str,
    arguments: &[&str],
    spoil: &str,
) -> Option<(Running, tempfile::TempPath)> {
    let strace = tool("strace")?;
    let log = tempfile::NamedTempFile::new()
        .expect("there is room")
        .into_temp_path();
    let inject = format!("inject={spoil}");
    // The tracer is a grandchild: our child is the program itself, and takes our signals.
    let options = ["-D", "-f", "-q", "-e", "signal=none", "-e", &inject, "-o"]
        .map(Into::into)
        .into_iter()
        .chain([log.as_os_str().into()]);
    let running = Running::start_under(strace, options, name, arguments)?;
    Some((running, log))
}

fn count_spoiled(log: &Path) -> usize {
    let text = fs::read_to_string(log).expect("the tracer writes text");
    text.matches("(INJECTED)").count()
}

fn check_echo(client: &mut TcpStream, text: &[u8]) {
    let mut heard = vec![0; text.len()];
    client.read_exact(&mut heard).expect("it answers");
    assert_eq!(heard, text);
}

/// Every other of these calls is interrupted.
fn check_interrupted(calls: &str) {
    let spoil = format!("{calls}:error=EINTR:when=1+2");
    let Some((mut server, log)) = start_spoiled("echo", &["127.0.0.1:0"], &spoil) else {
        return;
    };
    let address = server.address_after("listening on ");
    let mut clients: Vec<TcpStream> = (0..CLIENTS).map(|_| connect(address)).collect();
    for round in 0..ROUNDS {
        let text = format!("this is round {round}");
        for client in &mut clients {
            client.write_all(text.as_bytes()).expect("it is open");
        }
        for client in &mut clients {
            check_echo(client, text.as_bytes());
        }
    }
    assert!(
        count_spoiled(&log) >= CLIENTS / 2,
        "nothing was interrupted"
    );
    server.signal(Signal::TERM);
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn every_byte_is_echoed_though_every_other_wait_is_interrupted() {
    check_interrupted("epoll_wait,epoll_pwait,epoll_pwait2");
}

#[test]
fn every_byte_is_echoed_though_every_other_receive_is_interrupted() {
    check_interrupted("recvfrom");
}

#[test]
fn every_byte_is_echoed_though_every_other_send_is_interrupted() {
    check_interrupted("sendto,sendmsg");
}

#[test]
fn every_peer_is_accepted_though_every_other_accept_is_interrupted() {
    check_interrupted("accept4");
}

/// The first calls say "not now", falsely. Registered for edges, the server hears of what
/// it was refused with the next edge; then it is all there.
#[test]
fn nothing_is_lost_when_a_receive_or_a_send_says_not_now_falsely() {
    for call in ["recvfrom", "sendto"] {
        const REFUSALS: usize = 3;
        let spoil = format!("{call}:error=EAGAIN:when=1..{REFUSALS}");
        let Some((mut server, log)) = start_spoiled("echo", &["127.0.0.1:0"], &spoil) else {
            return;
        };
        let mut client = connect(server.address_after("listening on "));
        let mut sent = Vec::new();
        for refusals in 1..=REFUSALS + 1 {
            let text = format!("message {refusals}");
            client.write_all(text.as_bytes()).expect("it is open");
            sent.extend_from_slice(text.as_bytes());
            while count_spoiled(&log) < refusals.min(REFUSALS) {
                thread::yield_now();
            }
        }
        check_echo(&mut client, &sent);
        server.signal(Signal::TERM);
        assert_eq!(server.wait(), Some(0));
    }
}

#[test]
fn a_connection_is_made_though_connecting_is_interrupted() {
    let Some(mut server) = Running::start("poetry_server", &["127.0.0.1:0"]) else {
        return;
    };
    let address = server.address_after("listening on ").to_string();
    let spoil = "connect:error=EINTR:when=1..2";
    let Some((mut client, log)) = start_spoiled("poetry_client", &[&address], spoil) else {
        return;
    };
    assert_eq!(client.wait(), Some(0), "the poem did not come");
    assert_eq!(count_spoiled(&log), 2);
    server.signal(Signal::TERM);
    assert_eq!(server.wait(), Some(0));
}
