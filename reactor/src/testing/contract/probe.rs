//! A receiver that writes down what it is told, and notices what it must not be told.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::error::ConnectionLost;
use crate::stream::Receiver;

/// What a receiver is told, save for the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Data,
    ReadLost,
    Paused,
    Resumed,
    Lost,
}

/// What both ends of a scene share.
#[derive(Default)]
pub(super) struct Watch {
    /// A method of a stream is on the stack.
    pub(super) calling: Cell<bool>,
    /// A receiver is, too.
    pub(super) told: Cell<bool>,
    /// Rules that were broken where a panic would be taken for the receiver's own.
    pub(super) violations: RefCell<Vec<String>>,
}

type Reaction = Box<dyn FnMut(Event)>;

pub(super) struct Probe {
    watch: Rc<Watch>,
    pub(super) data: RefCell<Vec<u8>>,
    /// Without the data.
    pub(super) events: RefCell<Vec<Event>>,
    pub(super) reason: RefCell<Option<ConnectionLost>>,
    reaction: RefCell<Option<Reaction>>,
}

impl Probe {
    pub(super) fn new(watch: &Rc<Watch>) -> Rc<Self> {
        Rc::new(Self {
            watch: Rc::clone(watch),
            data: RefCell::default(),
            events: RefCell::default(),
            reason: RefCell::default(),
            reaction: RefCell::default(),
        })
    }

    /// Does this at each event, after it was written down.
    pub(super) fn react(&self, reaction: impl FnMut(Event) + 'static) {
        self.reaction.replace(Some(Box::new(reaction)));
    }

    pub(super) fn is_lost(&self) -> bool {
        self.events.borrow().contains(&Event::Lost)
    }

    /// How often this has happened.
    pub(super) fn count(&self, event: Event) -> usize {
        let events = self.events.borrow();
        events.iter().filter(|seen| **seen == event).count()
    }

    fn is_told(&self, event: Event, write_down: impl FnOnce(&Self)) {
        if self.watch.calling.get() {
            self.violation(event, "from inside a method of a stream");
        }
        if self.watch.told.replace(true) {
            self.violation(event, "while another receiver is being told something");
        }
        if self.is_lost() {
            self.violation(event, "after connection_lost");
        }
        let last_mark = self.last_mark();
        match event {
            Event::Paused if last_mark == Some(Event::Paused) => self.violation(event, "twice"),
            Event::Resumed if last_mark != Some(Event::Paused) => {
                self.violation(event, "without a pause");
            }
            Event::Data | Event::ReadLost if self.count(Event::ReadLost) > 0 => {
                self.violation(event, "after the end of the peer's stream");
            }
            _ => {}
        }
        write_down(self);
        if event != Event::Data {
            self.events.borrow_mut().push(event);
        }
        let reaction = self.reaction.take();
        if let Some(mut reaction) = reaction {
            reaction(event);
            let mut place = self.reaction.borrow_mut();
            place.get_or_insert(reaction);
        }
        self.watch.told.set(false);
    }

    fn last_mark(&self) -> Option<Event> {
        let events = self.events.borrow();
        let is_mark = |event: &&Event| matches!(event, Event::Paused | Event::Resumed);
        events.iter().rfind(is_mark).copied()
    }

    fn violation(&self, event: Event, when: &str) {
        let mut violations = self.watch.violations.borrow_mut();
        violations.push(format!("the receiver was told {event:?} {when}"));
    }
}

impl Receiver for Probe {
    fn data_received(self: Rc<Self>, data: &[u8]) {
        if data.is_empty() {
            self.violation(Event::Data, "with no bytes");
        }
        self.is_told(Event::Data, |probe| {
            probe.data.borrow_mut().extend_from_slice(data);
        });
    }

    fn read_connection_lost(self: Rc<Self>) {
        self.is_told(Event::ReadLost, |_| {});
    }

    fn write_paused(self: Rc<Self>) {
        self.is_told(Event::Paused, |_| {});
    }

    fn write_resumed(self: Rc<Self>) {
        self.is_told(Event::Resumed, |_| {});
    }

    fn connection_lost(self: Rc<Self>, reason: ConnectionLost) {
        self.is_told(Event::Lost, |probe| {
            probe.reason.replace(Some(reason));
        });
    }
}
