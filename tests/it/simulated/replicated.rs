//! The replicated store, on machines and links that fail: what was acknowledged is kept.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use torsade::prelude::*;
use torsade::reactor::testing::{FaultRates, Simulation, Swarm};

use super::{SECOND, short_faults};
use crate::examples::kvstore::{Backup, Primary};

const CLIENTS: usize = 3;
/// How long a client waits for an answer, and before it connects again.
const PATIENCE: Duration = Duration::from_secs(3);
/// Until then they write.
const WORK: Duration = Duration::from_secs(15);

/// A key of its own, the only one that writes it: the values are 1, 2, 3, ...
struct Key {
    name: String,
    /// The last value that was sent, and the last one that is known to be in the store.
    sent: Cell<u64>,
    known: Cell<u64>,
}

impl Key {
    /// A read gives what was acknowledged or something later, and never goes back.
    #[track_caller]
    fn check_read(&self, value: u64) {
        let (known, sent) = (self.known.get(), self.sent.get());
        assert!(
            (known..=sent).contains(&value),
            "{} is {value}, but {known} was acknowledged (and {sent} sent)",
            self.name
        );
        self.known.set(value);
    }
}

struct Client {
    number: usize,
    keys: RefCell<Vec<Rc<Key>>>,
    writes: Cell<u32>,
    service: RefCell<Option<ClientService<Lines<Conversation>>>>,
}

impl Client {
    fn key(&self) -> Rc<Key> {
        Rc::clone(
            self.keys
                .borrow()
                .last()
                .expect("there is one from the start"),
        )
    }

    /// Nobody knows what became of the last write, and it may still be on its way: so this
    /// key gets no further value.
    fn begin_key(&self) {
        let mut keys = self.keys.borrow_mut();
        let name = format!("client{}key{}", self.number, keys.len());
        let (sent, known) = Default::default();
        keys.push(Rc::new(Key { name, sent, known }));
    }

    fn start(self: &Rc<Self>, reactor: &Reactor) {
        // What the client keeps must not keep the client.
        let weak = Rc::downgrade(self);
        let conversation = move |_: &Address| {
            let conversation = Conversation {
                client: weak.upgrade()?,
                asked: Asked::Nothing,
                patience: None,
            };
            Some(Lines::new(conversation).delimiter(Delimiter::LineFeed))
        };
        let service =
            ClientService::new(reactor, TcpClientEndpoint::new("primary:1"), conversation)
                .retry_policy(|_attempts| SECOND / 2);
        service.start();
        self.service.replace(Some(service));
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Asked {
    Nothing,
    Set,
    Get,
}

struct Conversation {
    client: Rc<Client>,
    asked: Asked,
    patience: Option<DelayedCall>,
}

impl Conversation {
    fn ask(&mut self, transport: &LineTransport<Self>, what: Asked) {
        let key = self.client.key();
        if what == Asked::Set {
            key.sent.set(key.sent.get() + 1);
            transport.send_line(format!("set {} {}", key.name, key.sent.get()));
        } else {
            transport.send_line(format!("get {}", key.name));
        }
        self.asked = what;
        let waiting = transport.clone();
        let call = transport
            .reactor()
            .call_later(PATIENCE, move || waiting.abort_connection());
        self.patience = Some(call);
    }
}

impl LineReceiver for Conversation {
    fn connection_made(&mut self, transport: &LineTransport<Self>) {
        self.ask(transport, Asked::Get);
    }

    fn line_received(&mut self, transport: &LineTransport<Self>, line: &[u8]) {
        let line = str::from_utf8(line).expect("it is our own");
        let (key, asked) = (
            self.client.key(),
            std::mem::replace(&mut self.asked, Asked::Nothing),
        );
        if let Some(patience) = self.patience.take() {
            patience.cancel();
        }
        match (asked, line.split_once(' ').unwrap_or((line, ""))) {
            (Asked::Get, ("value", value)) => key.check_read(value.parse().expect("a number")),
            (Asked::Get, ("none", _)) => key.check_read(0),
            (Asked::Set, ("ok", _)) => {
                key.known.set(key.sent.get());
                self.client.writes.set(self.client.writes.get() + 1);
            }
            // It was not done, and will not be.
            (Asked::Set, ("error", _)) => key.sent.set(key.sent.get() - 1),
            (Asked::Get, ("error", _)) => {}
            answer => panic!("{answer:?} makes no sense"),
        }
        let next = if asked == Asked::Get {
            Asked::Set
        } else {
            Asked::Get
        };
        let later = transport.clone();
        let ask = move || later.call(move |this, transport| this.ask(transport, next));
        transport.reactor().call_later(SECOND / 5, ask);
    }

    fn connection_lost(&mut self, _: ConnectionLost) {
        if let Some(patience) = self.patience.take() {
            patience.cancel();
        }
        if self.asked == Asked::Set {
            self.client.begin_key();
        }
    }
}

/// One of the two may lose its memory, any number of times. What was acknowledged is kept.
fn acknowledged_writes_are_kept(simulation: &Simulation, acknowledge_early: bool) {
    let (primary, backup) = (simulation.host("primary"), simulation.host("backup"));
    let held = Rc::new(RefCell::new((None, None)));
    let place = Rc::clone(&held);
    primary.start(move |reactor| {
        let primary = Primary::start(reactor, "backup:2", acknowledge_early);
        primary.listen(reactor, ":1").expect("the port is free");
        place.borrow_mut().0 = Some(primary);
    });
    let place = Rc::clone(&held);
    backup.start(move |reactor| {
        let backup = Rc::<Backup>::default();
        backup.listen(reactor, ":2").expect("the port is free");
        place.borrow_mut().1 = Some(backup);
    });
    let clients: Vec<Rc<Client>> = (0..CLIENTS)
        .map(|number| {
            let client = Rc::new(Client {
                number,
                keys: RefCell::default(),
                writes: Cell::new(0),
                service: RefCell::default(),
            });
            client.begin_key();
            let host = simulation.host(&format!("client {number}"));
            client.start(&host.reactor());
            client
        })
        .collect();
    simulation.inject_faults(&FaultRates {
        until: WORK,
        lasts_max: SECOND * 3,
        crashes: 8.0,
        mortals: vec![(simulation.seed() % 2) as usize],
        ..short_faults()
    });
    simulation.run_for(WORK + SECOND * 5);
    // All is well again, and after a while both have everything.
    let writes = |clients: &[Rc<Client>]| clients.iter().map(|client| client.writes.get()).sum();
    let before: u32 = writes(&clients);
    simulation.run_for(SECOND * 60);
    let after: u32 = writes(&clients);
    assert!(after > before + 10, "they write again");
    let (primary, backup) = held.take();
    let (primary, backup) = (primary.expect("it is up"), backup.expect("it is up"));
    let mine = primary.table().expect("it has started");
    let copy = backup.table();
    for key in clients
        .iter()
        .flat_map(|client| client.keys.borrow().clone())
    {
        // The backup has it first.
        for table in [&mine, &copy] {
            key.check_read(
                table
                    .get(&key.name)
                    .map_or(0, |value| value.parse().expect("a number")),
            );
        }
    }
    for client in &clients {
        // What keeps its connection keeps the client.
        drop(client.service.take());
    }
}

#[test]
fn in_every_seed_the_store_keeps_what_it_has_acknowledged() {
    let command = "cargo test --test it in_every_seed_the_store";
    let property = |simulation: &Simulation| acknowledged_writes_are_kept(simulation, false);
    Swarm::new(command).seeds(60).run(property);
}

#[test]
fn a_store_that_acknowledges_early_is_found_out_within_a_thousand_seeds() {
    // Under this the environment asks for one seed of another test.
    if std::env::var_os("TORSADE_SEED").is_some() {
        return;
    }
    let command = "cargo test --test it a_store_that_acknowledges_early";
    let property = |simulation: &Simulation| acknowledged_writes_are_kept(simulation, true);
    let found = catch_unwind(AssertUnwindSafe(|| {
        Swarm::new(command).seeds(1000).run(property);
    }));
    let panic = found.expect_err("a thousand seeds are enough");
    let report = panic.downcast_ref::<String>().expect("a report");
    assert!(report.contains("was acknowledged"), "{report}");
    assert!(report.contains("Crash"), "it takes a crash: {report}");
}
