//! More peers than descriptors. A program of its own: it changes the limit of its process.

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, connect, socket};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use torsade_reactor::{Address, Protocol, Reactor, Transport};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

const CLIENTS: usize = 100;
/// What a process under `ulimit -n 32` has left when it has begun.
const DESCRIPTORS: u64 = 24;

/// Answers, and is done.
struct Answer {
    served: Rc<Cell<usize>>,
}

impl Protocol for Answer {
    fn data_received(&mut self, transport: &Transport<Self>, data: &[u8]) {
        self.served.set(self.served.get() + 1);
        transport.write(data);
        transport.lose_connection();
    }
}

/// Counts what is reported.
struct Count(Arc<AtomicUsize>);

impl Subscriber for Count {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "torsade"
    }

    fn event(&self, _: &Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[test]
fn a_hundred_peers_are_served_with_two_dozen_descriptors_and_one_report() {
    let reports = Arc::new(AtomicUsize::new(0));
    let _counting = tracing::subscriber::set_default(Count(Arc::clone(&reports)));
    let reactor = Reactor::new().unwrap();
    let served = Rc::new(Cell::new(0));
    let count = Rc::clone(&served);
    let port = reactor
        .listen_tcp("127.0.0.1:0", move |_: &Address| Answer {
            served: Rc::clone(&count),
        })
        .unwrap();
    let Address::Tcp(address) = port.address() else {
        unreachable!("it is TCP");
    };
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| socket(AddressFamily::INET, SocketType::STREAM, None).unwrap())
        .collect();
    let highest = clients.iter().map(AsRawFd::as_raw_fd).max().unwrap();
    let few = Rlimit {
        current: Some(u64::try_from(highest).unwrap() + 1 + DESCRIPTORS),
        maximum: getrlimit(Resource::Nofile).maximum,
    };
    setrlimit(Resource::Nofile, few).unwrap();
    let mut clients: Vec<_> = clients
        .into_iter()
        .map(|client| {
            connect(&client, &address).unwrap();
            TcpStream::from(client)
        })
        .collect();
    for client in &mut clients {
        client.write_all(b"question").unwrap();
    }
    let answered = thread::spawn(move || {
        let mut answered = 0;
        for mut client in clients {
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            assert_eq!(answer, "question");
            answered += 1;
        }
        answered
    });
    let mut turns = 0;
    while served.get() < CLIENTS || reactor.dump().sources.len() > 1 {
        reactor.turn(Some(Duration::from_secs(10))).unwrap();
        turns += 1;
        assert!(turns < 10 * CLIENTS, "it spins: {:#?}", reactor.dump());
    }
    assert_eq!(answered.join().unwrap(), CLIENTS);
    assert_eq!(reports.load(Ordering::Relaxed), 1, "one for the episode");
    // It does not wait for anything any more.
    reactor.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(reactor.next_deadline(), None);
}
