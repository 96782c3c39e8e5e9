//! The system calls of the echo server, counted: one receive and one send a message, one
//! wait for many, and none at all when everybody is silent.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::programs::{Running, connect, tool};

const CLIENTS: usize = 50;
const ROUNDS: usize = 20;
const MESSAGE: [u8; 64] = [b'm'; 64];

#[test]
fn a_message_costs_one_receive_and_one_send_a_batch_one_wait_and_silence_nothing() {
    let Some((mut server, log)) = traced_echo() else {
        return;
    };
    let mut clients = connected(server.address_after("listening on "));
    let before = settled(&log);
    for _ in 0..ROUNDS {
        // The server stands still while everybody writes, so one wait can bring it all.
        server.signal(Signal::STOP);
        for client in &mut clients {
            client.write_all(&MESSAGE).expect("it is open");
        }
        server.signal(Signal::CONT);
        hear(&mut clients);
    }
    let after = settled(&log);
    let calls = |name: &str| after.get(name).unwrap_or(&0) - before.get(name).unwrap_or(&0);
    let messages = CLIENTS * ROUNDS;
    assert_eq!((calls("recvfrom"), calls("sendto")), (messages, messages));
    // Standing still interrupts the wait, so there are two for a round; and one more at
    // each end.
    assert!(calls("epoll_pwait") <= 2 * ROUNDS + 2, "{after:?}");
    let known = ["recvfrom", "sendto", "epoll_pwait"];
    let others: Vec<_> = after
        .keys()
        .filter(|name| !known.contains(&name.as_str()) && calls(name) > 0)
        .collect();
    assert!(
        others.is_empty(),
        "something else grows with the messages: {others:?}"
    );

    // Silence: nothing is asserted of how long it lasts, only that nothing happens in it.
    let (_keeps_open, never) = mpsc::channel::<()>();
    assert!(never.recv_timeout(Duration::from_secs(1)).is_err());
    assert_eq!(settled(&log), after, "an idle server made system calls");

    server.signal(Signal::TERM);
    assert_eq!(server.wait(), Some(0));
}

/// The echo server, which writes every system call to a log.
fn traced_echo() -> Option<(Running, tempfile::TempPath)> {
    let strace = tool("strace")?;
    let log = tempfile::NamedTempFile::new()
        .expect("there is room")
        .into_temp_path();
    // The tracer is a grandchild: our child is the server itself, and takes our signals.
    let arguments = ["-D", "-q", "-e", "signal=none", "-o"]
        .map(Into::into)
        .into_iter()
        .chain([log.as_os_str().into()]);
    let server = Running::start_under(strace, arguments, "echo", &["127.0.0.1:0"])?;
    Some((server, log))
}

/// Fifty clients that have been heard, so that the server is done with welcoming them.
fn connected(address: SocketAddr) -> Vec<TcpStream> {
    let mut clients: Vec<TcpStream> = (0..CLIENTS).map(|_| connect(address)).collect();
    for client in &mut clients {
        client.write_all(&MESSAGE).expect("it is open");
    }
    hear(&mut clients);
    clients
}

fn hear(clients: &mut [TcpStream]) {
    for client in clients {
        let mut heard = [0; MESSAGE.len()];
        client.read_exact(&mut heard).expect("it answers");
        assert_eq!(heard, MESSAGE);
    }
}

/// How often each call was made, once the server waits again.
fn settled(log: &Path) -> BTreeMap<String, usize> {
    loop {
        let text = fs::read_to_string(log).expect("the tracer writes text");
        // A call that has not returned has no end of line yet.
        if text
            .rsplit('\n')
            .next()
            .is_some_and(|last| last.starts_with("epoll_pwait("))
        {
            return count(log);
        }
        thread::yield_now();
    }
}

fn count(log: &Path) -> BTreeMap<String, usize> {
    let mut calls = BTreeMap::new();
    for line in fs::read_to_string(log)
        .expect("the tracer writes text")
        .lines()
    {
        if let Some((name, _)) = line.split_once('(') {
            *calls.entry(name.to_owned()).or_default() += 1;
        }
    }
    calls
}
