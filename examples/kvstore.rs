//! A key-value store that survives the loss of a machine: a primary, and a backup that has
//! every write before the primary says that it is done.
//!
//! `cargo run --release --example kvstore backup ADDRESS`, then in another terminal
//! `cargo run --release --example kvstore primary ADDRESS BACKUP [--acknowledge-early]`,
//! then `nc` to the primary: `set KEY VALUE`, `get KEY`.
//!
//! Between the two: the primary says `primary`, the backup answers `have N`, the number of
//! writes that it has seen. A primary that has just started asks for a `copy`; one that
//! knows more sends everything or what is missing, then each write as `put N KEY VALUE`.
//! Either machine may lose its memory: whoever comes back gets all of it from the other.
//!
//! `--acknowledge-early` is a mistake to be found: a write counts as done when it was sent.
//! `tests/it/simulated/` finds it, in a simulated network.

#![allow(
    missing_debug_implementations,
    unreachable_pub,
    clippy::missing_errors_doc,
    reason = "the tests include this file"
)]

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use torsade::prelude::*;

#[path = "common/mod.rs"]
mod common;

/// Writes that wait for the backup at most; a client that brings more is told so.
const PENDING_MAX: usize = 1000;
/// How long the primary waits before it connects to the backup again. It is one machine that
/// waits for one: nobody is flooded.
const RETRY: Duration = Duration::from_millis(500);
/// How often the primary asks whether the backup is there ...
const BEAT: Duration = Duration::from_secs(1);
/// ... and how often it asks in vain.
const SILENT_BEATS_MAX: u32 = 3;

/// Keys, values, and how many writes made them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    entries: BTreeMap<String, String>,
    version: u64,
}

impl Table {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.entries.get(key).map(String::as_str)
    }

    fn put(&mut self, key: &str, value: &str) {
        self.entries.insert(key.to_owned(), value.to_owned());
        self.version += 1;
    }

    /// Everything, in lines.
    fn lines(&self) -> impl Iterator<Item = String> {
        let entries = self.entries.iter();
        entries
            .map(|(key, value)| format!("entry {key} {value}"))
            .chain([format!("end {}", self.version)])
    }
}

/// The answer to `get`.
fn answer(table: &Table, key: &str) -> String {
    match table.get(key) {
        Some(value) => format!("value {value}"),
        None => "none".to_owned(),
    }
}

/// A line, as its words.
fn words(line: &[u8]) -> Vec<&str> {
    let line = str::from_utf8(line).unwrap_or_default();
    line.split_whitespace().collect()
}

/// The backup: it answers the newest primary, and `get` of everybody.
#[derive(Default)]
pub struct Backup {
    table: RefCell<Table>,
    /// Connections that said `primary`. The newest one counts: bytes of a former primary
    /// may still be on their way.
    primaries: Cell<u64>,
}

impl Backup {
    /// Listens for a primary and for readers.
    pub fn listen(self: &Rc<Self>, reactor: &Reactor, address: &str) -> Result<Port, ListenError> {
        let backup = Rc::clone(self);
        reactor.listen_tcp(address, move |_: &Address| {
            let session = BackupSession {
                backup: Rc::clone(&backup),
                primary: None,
                copy: Table::default(),
            };
            Lines::new(session).delimiter(Delimiter::LineFeed)
        })
    }

    /// What it has.
    pub fn table(&self) -> Table {
        self.table.borrow().clone()
    }
}

struct BackupSession {
    backup: Rc<Backup>,
    /// Which of the connections that said `primary` this is.
    primary: Option<u64>,
    /// What is being copied; it counts when it is complete.
    copy: Table,
}

impl BackupSession {
    fn tell(&self, transport: &LineTransport<Self>) {
        let version = self.backup.table.borrow().version;
        transport.send_line(format!("have {version}"));
    }

    /// What only a primary may say. `false` if it makes no sense.
    fn obey(&mut self, transport: &LineTransport<Self>, words: &[&str]) -> bool {
        match *words {
            ["ping"] => self.tell(transport),
            ["copy"] => {
                for line in self.backup.table.borrow().lines() {
                    transport.send_line(line);
                }
            }
            ["reset"] => self.copy = Table::default(),
            ["entry", key, value] => self.copy.put(key, value),
            ["end", version] => {
                let Ok(version) = version.parse() else {
                    return false;
                };
                let entries = std::mem::take(&mut self.copy).entries;
                self.backup.table.replace(Table { entries, version });
                self.tell(transport);
            }
            ["put", number, key, value] => {
                let mut table = self.backup.table.borrow_mut();
                if number.parse() != Ok(table.version + 1) {
                    return false;
                }
                table.put(key, value);
                drop(table);
                self.tell(transport);
            }
            _ => return false,
        }
        true
    }
}

impl LineReceiver for BackupSession {
    fn line_received(&mut self, transport: &LineTransport<Self>, line: &[u8]) {
        let words = words(line);
        match *words.as_slice() {
            ["get", key] => transport.send_line(answer(&self.backup.table.borrow(), key)),
            ["primary"] => {
                let newest = self.backup.primaries.get() + 1;
                self.backup.primaries.set(newest);
                self.primary = Some(newest);
                self.tell(transport);
            }
            _ => {
                let is_newest = self.primary == Some(self.backup.primaries.get());
                if !is_newest || !self.obey(transport, &words) {
                    transport.abort_connection();
                }
            }
        }
    }
}

/// The primary: it does what clients ask for, once the backup has it.
pub struct Primary {
    acknowledge_early: bool,
    /// `None` until the backup has told what there is.
    table: RefCell<Option<Table>>,
    /// What the backup does not have yet; the first is the one after the table's version.
    pending: RefCell<VecDeque<Write>>,
    link: RefCell<Option<LineTransport<Link>>>,
    /// Keeps the connection to the backup. `None` for a moment, at the start.
    service: RefCell<Option<ClientService<Lines<Link>>>>,
}

struct Write {
    key: String,
    value: String,
    done: Trigger<()>,
}

impl Primary {
    /// Connects to the backup, again and again if need be.
    pub fn start(reactor: &Reactor, backup: &str, acknowledge_early: bool) -> Rc<Self> {
        let primary = Rc::new(Self {
            acknowledge_early,
            table: RefCell::default(),
            pending: RefCell::default(),
            link: RefCell::default(),
            service: RefCell::default(),
        });
        // What the primary keeps must not keep the primary.
        let weak = Rc::downgrade(&primary);
        let link = move |_: &Address| {
            let link = Link {
                primary: weak.upgrade()?,
                is_greeted: false,
                copy: None,
                silent_beats: 0,
                beat: None,
            };
            Some(Lines::new(link).delimiter(Delimiter::LineFeed))
        };
        let service = ClientService::new(reactor, TcpClientEndpoint::new(backup), link)
            .retry_policy(|_attempts| RETRY);
        service.start();
        primary.service.replace(Some(service));
        primary
    }

    /// Listens for clients.
    pub fn listen(self: &Rc<Self>, reactor: &Reactor, address: &str) -> Result<Port, ListenError> {
        let primary = Rc::clone(self);
        reactor.listen_tcp(address, move |_: &Address| {
            let session = Session {
                primary: Rc::clone(&primary),
            };
            Lines::new(session).delimiter(Delimiter::LineFeed)
        })
    }

    /// What the backup has, too.
    pub fn table(&self) -> Option<Table> {
        self.table.borrow().clone()
    }

    /// Writes; the result is there when the backup has it.
    pub fn set(&self, key: &str, value: &str) -> Deferred<()> {
        let Some(version) = self.table.borrow().as_ref().map(|table| table.version) else {
            return fail(Failure::message("starting"));
        };
        let (done, deferred) = Deferred::new();
        let mut pending = self.pending.borrow_mut();
        if pending.len() == PENDING_MAX {
            return fail(Failure::message("busy"));
        }
        let (key, value) = (key.to_owned(), value.to_owned());
        pending.push_back(Write { key, value, done });
        let number = version + pending.len() as u64;
        drop(pending);
        if self.send(number) && self.acknowledge_early {
            self.commit(number);
        }
        deferred
    }

    /// Sends a write to the backup, if there is one.
    fn send(&self, number: u64) -> bool {
        let (table, pending) = (self.table.borrow(), self.pending.borrow());
        let version = table.as_ref().map_or(0, |table| table.version);
        let link = self.link.borrow();
        let (Some(write), Some(link)) = (pending.get((number - version - 1) as usize), &*link)
        else {
            return false;
        };
        link.send_line(format!("put {number} {} {}", write.key, write.value));
        true
    }

    /// All writes up to this one are done. `false` if there are not so many.
    fn commit(&self, number: u64) -> bool {
        let mut done = Vec::new();
        let mut place = self.table.borrow_mut();
        let Some(table) = &mut *place else {
            return false;
        };
        while table.version < number {
            let Some(write) = self.pending.borrow_mut().pop_front() else {
                return false;
            };
            table.put(&write.key, &write.value);
            done.push(write.done);
        }
        // Firing runs what waits for it, and that may ask for the table.
        drop(place);
        for trigger in done {
            trigger.callback(());
        }
        true
    }
}

/// The primary's end of its connection to the backup.
struct Link {
    primary: Rc<Primary>,
    /// The backup has told what it has, and has been told the rest.
    is_greeted: bool,
    /// What is being copied from the backup.
    copy: Option<Table>,
    silent_beats: u32,
    beat: Option<DelayedCall>,
}

impl Link {
    /// Asks whether the backup is there, and gives it up if it has not been for long.
    fn ask(&mut self, transport: &LineTransport<Self>) {
        if self.silent_beats == SILENT_BEATS_MAX {
            return transport.abort_connection();
        }
        self.silent_beats += 1;
        if self.is_greeted {
            transport.send_line("ping");
        }
        let later = transport.clone();
        let ask = move || later.call(|link, transport| link.ask(transport));
        self.beat = Some(transport.reactor().call_later(BEAT, ask));
    }

    /// The backup has the writes up to `version`, and is told those that it lacks.
    fn greeted(&mut self, transport: &LineTransport<Self>, version: u64) -> bool {
        let primary = &self.primary;
        let Some(table) = primary.table() else {
            // Here is nothing: the backup knows.
            transport.send_line("copy");
            self.copy = Some(Table::default());
            return true;
        };
        if version < table.version {
            transport.send_line("reset");
            for line in table.lines() {
                transport.send_line(line);
            }
        }
        self.catch_up(transport, version)
    }

    /// From here on, writes are sent as they come.
    fn catch_up(&mut self, transport: &LineTransport<Self>, version: u64) -> bool {
        self.is_greeted = true;
        let primary = &self.primary;
        if !primary.commit(version) {
            return false;
        }
        primary.link.replace(Some(transport.clone()));
        let (first, count) = (
            primary.table().map_or(0, |table| table.version) + 1,
            primary.pending.borrow().len() as u64,
        );
        (first..first + count).all(|number| primary.send(number))
    }
}

impl LineReceiver for Link {
    fn connection_made(&mut self, transport: &LineTransport<Self>) {
        transport.send_line("primary");
        self.ask(transport);
    }

    fn line_received(&mut self, transport: &LineTransport<Self>, line: &[u8]) {
        self.silent_beats = 0;
        let makes_sense = match (words(line).as_slice(), &mut self.copy) {
            (["have", version], _) => match version.parse() {
                Ok(version) if self.is_greeted => self.primary.commit(version),
                Ok(version) => self.greeted(transport, version),
                Err(_) => false,
            },
            (["entry", key, value], Some(copy)) => {
                copy.put(key, value);
                true
            }
            (["end", version], Some(copy)) => {
                let entries = std::mem::take(&mut copy.entries);
                self.copy = None;
                version.parse().is_ok_and(|version| {
                    let table = Table { entries, version };
                    self.primary.table.replace(Some(table));
                    self.catch_up(transport, version)
                })
            }
            _ => false,
        };
        if !makes_sense {
            transport.abort_connection();
        }
    }

    fn connection_lost(&mut self, _reason: ConnectionLost) {
        if let Some(beat) = self.beat.take() {
            beat.cancel();
        }
        self.primary.link.take();
    }
}

/// A client's connection to the primary.
struct Session {
    primary: Rc<Primary>,
}

impl LineReceiver for Session {
    fn line_received(&mut self, transport: &LineTransport<Self>, line: &[u8]) {
        match *words(line).as_slice() {
            ["get", key] => match &*self.primary.table.borrow() {
                Some(table) => transport.send_line(answer(table, key)),
                None => transport.send_line("error starting"),
            },
            ["set", key, value] => {
                // One at a time, in their order.
                transport.pause_reading();
                let done = self.primary.set(key, value);
                transport.when(done, |_, transport, result| {
                    match result {
                        Ok(()) => transport.send_line("ok"),
                        Err(failure) => transport.send_line(format!("error {failure}")),
                    }
                    transport.resume_reading();
                });
            }
            _ => transport.send_line("error say set KEY VALUE, or get KEY"),
        }
    }
}

fn main() -> ExitCode {
    common::run("kvstore", |reactor| {
        let arguments: Vec<_> = std::env::args().skip(1).collect();
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let start = |address, backup, early| {
            let primary = Primary::start(reactor, backup, early);
            primary.listen(reactor, address)
        };
        let port = match *arguments.as_slice() {
            ["backup", address] => Rc::<Backup>::default().listen(reactor, address)?,
            ["primary", address, backup] => start(address, backup, false)?,
            ["primary", address, backup, "--acknowledge-early"] => start(address, backup, true)?,
            _ => {
                return Err(Failure::message(
                    "say backup ADDRESS, or primary ADDRESS BACKUP [--acknowledge-early]",
                ));
            }
        };
        common::serve(reactor, &port)
    })
}
