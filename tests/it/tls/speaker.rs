//! A protocol that writes down what happens to it, and two of them over TLS in memory.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use torsade::prelude::*;
use torsade::protocols::tls::{ClientConfig, ServerConfig, TlsStream};
use torsade::reactor::Stream;
use torsade::reactor::testing::{MemoryPair, Pump, memory_pair, virtual_time_reactor};

use super::authority::localhost;

/// What was seen at one end.
#[derive(Clone, Default)]
pub struct Seen(Rc<SeenThere>);

#[derive(Default)]
pub struct SeenThere {
    pub events: RefCell<Vec<String>>,
    pub data: RefCell<Vec<u8>>,
    pub deliveries: Cell<usize>,
    pub reason: RefCell<Option<ConnectionLost>>,
}

impl std::ops::Deref for Seen {
    type Target = SeenThere;

    fn deref(&self) -> &SeenThere {
        &self.0
    }
}

impl Seen {
    #[track_caller]
    pub fn check<const N: usize>(&self, expected: [&str; N]) {
        assert_eq!(*self.events.borrow(), expected);
    }

    pub fn add(&self, event: impl Into<String>) {
        self.events.borrow_mut().push(event.into());
    }

    pub fn text(&self) -> String {
        self.data.borrow().escape_ascii().to_string()
    }

    #[track_caller]
    pub fn error(&self) -> TlsError {
        let reason = self.reason.borrow();
        let reason = reason.as_ref().expect("the connection is lost");
        match TlsError::of(reason) {
            Some(error) => error.clone(),
            None => panic!("no TLS error, but {reason:?}"),
        }
    }

    #[track_caller]
    pub fn is_lost_with(&self, expected: &str) {
        let reason = self.reason.borrow();
        let reason = reason.as_ref().expect("the connection is lost");
        assert_eq!(format!("{reason:?}"), expected);
    }
}

type OnData = Box<dyn FnMut(&Transport<Speaker>, &[u8])>;

/// One end.
#[derive(Default)]
pub struct Speaker {
    pub seen: Seen,
    pub on_data: Option<OnData>,
    pub keeps_half_open: bool,
}

impl Speaker {
    pub fn on_data(mut self, hook: impl FnMut(&Transport<Self>, &[u8]) + 'static) -> Self {
        self.on_data = Some(Box::new(hook));
        self
    }

    pub fn echo() -> Self {
        Self::default().on_data(|transport, data| transport.write(data))
    }

    pub fn half_open() -> Self {
        Self {
            keeps_half_open: true,
            ..Self::default()
        }
    }
}

impl Protocol for Speaker {
    fn connection_made(&mut self, _: &Transport<Self>) {
        self.seen.add("made");
    }

    fn data_received(&mut self, transport: &Transport<Self>, data: &[u8]) {
        self.seen.data.borrow_mut().extend_from_slice(data);
        self.seen.deliveries.set(self.seen.deliveries.get() + 1);
        if let Some(hook) = &mut self.on_data {
            hook(transport, data);
        }
    }

    fn read_connection_lost(&mut self, transport: &Transport<Self>) {
        self.seen.add("read lost");
        if !self.keeps_half_open {
            transport.lose_connection();
        }
    }

    fn write_paused(&mut self, _: &Transport<Self>) {
        self.seen.add("paused");
    }

    fn write_resumed(&mut self, _: &Transport<Self>) {
        self.seen.add("resumed");
    }

    fn connection_lost(&mut self, reason: ConnectionLost) {
        self.seen.add("lost");
        self.seen.reason.replace(Some(reason));
    }
}

/// Two speakers over TLS in memory.
pub struct Talk {
    pub reactor: Reactor,
    pub pump: Pump,
    pub client: Transport<Speaker>,
    pub server: Transport<Speaker>,
    pub at_client: Seen,
    pub at_server: Seen,
    /// The streams below.
    pub below: MemoryPair,
}

impl Talk {
    pub fn new(
        (client, client_config): (Speaker, &ClientConfig),
        (server, server_config): (Speaker, &ServerConfig),
    ) -> Self {
        let reactor = virtual_time_reactor();
        let below = memory_pair(&reactor);
        let (at_client, at_server) = (client.seen.clone(), server.seen.clone());
        let stream = TlsStream::client(Rc::clone(&below.client), client_config, localhost());
        let client = Transport::connect(client, stream as Rc<dyn Stream>);
        let stream = TlsStream::server(Rc::clone(&below.server), server_config);
        let server = Transport::connect(server, stream as Rc<dyn Stream>);
        let pump = below.pump.clone();
        Self {
            reactor,
            pump,
            client,
            server,
            at_client,
            at_server,
            below,
        }
    }

    #[track_caller]
    pub fn run(&self) {
        self.pump.run().expect("it comes to rest");
    }
}
