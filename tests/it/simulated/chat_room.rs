//! Fifty people in a chat room, on machines and links that fail.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use torsade::prelude::*;
use torsade::reactor::testing::{FaultRates, Host, Swarm};

use super::{SECOND, short_faults};
use crate::examples::chat;

const PEOPLE: usize = 50;
/// Until then they talk.
const TALK: Duration = Duration::from_secs(20);
/// From then on everything is quiet, and those who are there are known.
const QUIET: Duration = Duration::from_secs(7200);

/// What one visit to the room, over one connection, came to.
struct Visit {
    name: String,
    said: RefCell<Vec<String>>,
    /// The lines that everybody gets.
    shown: RefCell<Vec<String>>,
    /// Who is there, as far as this visitor was told; unknown before the first list.
    present: RefCell<Option<BTreeSet<String>>>,
    /// Who came and went before the first list.
    gone: RefCell<BTreeSet<String>>,
    is_over: Cell<bool>,
    lists: Cell<u32>,
}

/// All visits of one person.
struct Person {
    number: usize,
    visits: RefCell<Vec<Rc<Visit>>>,
    transport: RefCell<Option<LineTransport<Guest>>>,
    /// What connects again.
    service: RefCell<Option<ClientService<Lines<Guest>>>>,
}

struct Guest {
    visit: Rc<Visit>,
    person: Rc<Person>,
}

impl LineReceiver for Guest {
    fn connection_made(&mut self, transport: &LineTransport<Self>) {
        self.person.transport.replace(Some(transport.clone()));
        transport.send_line(&self.visit.name);
        transport.send_line("/who");
    }

    fn line_received(&mut self, _: &LineTransport<Self>, line: &[u8]) {
        let line = str::from_utf8(line).expect("what was said was UTF-8");
        if line != "* what is your name?" {
            self.visit.hear(line);
        }
    }

    fn connection_lost(&mut self, _: ConnectionLost) {
        self.visit.is_over.set(true);
        self.person.transport.take();
    }
}

impl Visit {
    fn hear(&self, line: &str) {
        let mut present = self.present.borrow_mut();
        if let Some(list) = line.strip_prefix("* here: ") {
            let names: BTreeSet<String> = list.split(", ").map(str::to_owned).collect();
            if let Some(present) = &*present {
                assert_eq!(names, *present, "who is here, told to {}", self.name);
            }
            assert!(names.contains(&self.name), "who asks is there: {line}");
            *present = Some(names);
            return self.lists.set(self.lists.get() + 1);
        }
        self.shown.borrow_mut().push(line.to_owned());
        if let Some(news) = line.strip_prefix("* ") {
            let (name, what) = news.split_once(' ').expect("somebody did something");
            if what == "joined" {
                let is_new = present
                    .as_mut()
                    .is_none_or(|present| present.insert(name.into()));
                assert!(is_new, "{name} was there already, told to {}", self.name);
            } else {
                assert!(what.starts_with("left"), "{line}");
                let was_there = present.as_mut().is_none_or(|present| present.remove(name));
                let is_first = self.gone.borrow_mut().insert(name.to_owned());
                assert!(was_there && is_first, "{line}, told to {}", self.name);
            }
            return;
        }
        let (name, _) = line.split_once(": ").expect("somebody said something");
        let is_there = match &*present {
            Some(present) => present.contains(name),
            None => !self.gone.borrow().contains(name),
        };
        assert!(
            is_there,
            "{line:?} of nobody who is there, told to {}",
            self.name
        );
    }
}

impl Person {
    /// The receiver of a new connection: another visit.
    fn visit(self: &Rc<Self>) -> Lines<Guest> {
        // A name of its own each time: the room may still know the former one.
        let visit = Rc::new(Visit {
            name: format!("p{}v{}", self.number, self.visits.borrow().len()),
            said: RefCell::default(),
            shown: RefCell::default(),
            present: RefCell::default(),
            gone: RefCell::default(),
            is_over: Cell::new(false),
            lists: Cell::new(0),
        });
        self.visits.borrow_mut().push(Rc::clone(&visit));
        let person = Rc::clone(self);
        Lines::new(Guest { visit, person }).delimiter(Delimiter::LineFeed)
    }

    /// The newest visit.
    fn newest(&self) -> Rc<Visit> {
        let visits = self.visits.borrow();
        Rc::clone(visits.last().expect("everybody got in some time"))
    }

    fn say(&self) {
        // Detach, then call.
        let transport = self.transport.borrow().clone();
        if let Some(transport) = transport {
            let visit = self.newest();
            let line = format!("line {}", visit.said.borrow().len());
            transport.send_line(&line);
            visit
                .said
                .borrow_mut()
                .push(format!("{}: {line}", visit.name));
        }
    }

    fn ask_who(&self) {
        let transport = self.transport.borrow().clone();
        if let Some(transport) = transport {
            transport.send_line("/who");
        }
    }
}

/// Fifty people come at times of their own, talk, and come again when they are cut off.
fn gather(hosts: &[Host], seed: u64) -> Vec<Rc<Person>> {
    let mut dice = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut roll = move |bound: u64| {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        dice % bound
    };
    let people = (0..PEOPLE).map(|number| {
        let person = Rc::new(Person {
            number,
            visits: RefCell::default(),
            transport: RefCell::default(),
            service: RefCell::default(),
        });
        let reactor = hosts[number % hosts.len()].reactor();
        let visitor = Rc::clone(&person);
        let room = TcpClientEndpoint::new("server:8008");
        let service = ClientService::new(&reactor, room, move |_: &Address| visitor.visit());
        service.start();
        person.service.replace(Some(service));
        for _ in 0..3 {
            let speaker = Rc::clone(&person);
            let at = Duration::from_millis(roll(TALK.as_millis() as u64));
            reactor.call_later(at, move || speaker.say());
        }
        // Whoever is silent never learns that the other end is gone.
        for minute in 10..14 {
            let speaker = Rc::clone(&person);
            reactor.call_later(SECOND * 60 * minute, move || speaker.say());
        }
        let asks = Rc::clone(&person);
        reactor.call_later(QUIET, move || asks.ask_who());
        person
    });
    people.collect()
}

#[test]
fn in_every_seed_all_members_of_the_chat_are_shown_the_same() {
    let command = "cargo test --test it in_every_seed_all_members";
    Swarm::new(command).seeds(4).run(|simulation| {
        let server = simulation.host("server");
        server.start(|reactor| {
            chat::listen(reactor, ":8008").expect("the port is free");
        });
        let hosts: Vec<Host> = (0..10)
            .map(|number| simulation.host(&format!("client {number}")))
            .collect();
        simulation.inject_faults(&FaultRates {
            until: TALK,
            lasts_max: SECOND * 10,
            partitions: 30.0,
            // The people stay; the room may go.
            mortals: vec![0],
            ..short_faults()
        });
        let people = gather(&hosts, simulation.seed());
        simulation.run_for(QUIET + SECOND * 60);
        check_lines(&people);
        check_room(&people);
        for person in &people {
            // What connects again keeps the person.
            drop(person.service.take());
        }
    });
}

/// What anybody was shown was said once, and came in one order.
fn check_lines(people: &[Rc<Person>]) {
    let visits = people
        .iter()
        .flat_map(|person| person.visits.borrow().clone());
    let visits: Vec<Rc<Visit>> = visits.collect();
    let mut said = BTreeSet::new();
    for visit in &visits {
        for line in &*visit.said.borrow() {
            assert!(said.insert(line.clone()), "{line:?} is said once");
        }
    }
    // A visitor sees a stretch of what happened in the room: so each line has one that
    // follows it, and one that it follows, the same for all.
    let (mut after, mut before) = (BTreeMap::new(), BTreeMap::new());
    for visit in &visits {
        let shown = visit.shown.borrow();
        if let Some(first) = shown.first() {
            assert_eq!(*first, format!("* {} joined", visit.name));
        }
        let distinct: BTreeSet<&String> = shown.iter().collect();
        assert_eq!(
            distinct.len(),
            shown.len(),
            "{} saw a line twice",
            visit.name
        );
        for line in shown.iter().filter(|line| !line.starts_with('*')) {
            assert!(said.contains(line), "nobody said {line:?}");
        }
        for pair in shown.windows(2) {
            let follower = after.entry(pair[0].clone()).or_insert(pair[1].clone());
            assert_eq!(*follower, pair[1], "what follows {:?}", pair[0]);
            let leader = before.entry(pair[1].clone()).or_insert(pair[0].clone());
            assert_eq!(*leader, pair[0], "what goes before {:?}", pair[1]);
        }
    }
    assert!(after.len() > PEOPLE, "there was a conversation");
}

/// All are there again, and the room knows them and nobody else.
fn check_room(people: &[Rc<Person>]) {
    let newest: Vec<Rc<Visit>> = people.iter().map(|person| person.newest()).collect();
    let names: BTreeSet<String> = newest.iter().map(|visit| visit.name.clone()).collect();
    for visit in newest {
        assert!(!visit.is_over.get(), "{} is connected", visit.name);
        assert!(
            visit.lists.get() >= 2,
            "{} was told who is here",
            visit.name
        );
        assert_eq!(
            *visit.present.borrow(),
            Some(names.clone()),
            "told to {}",
            visit.name
        );
    }
}
