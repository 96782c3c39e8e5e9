//! Datagrams: the rule book in every world, and what each world has besides.

mod memory;
mod rules;
mod simulated;
mod system;
mod unix;

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use torsade_reactor::testing::Simulation;
use torsade_reactor::{
    Address, DatagramError, DatagramOptions, DatagramProtocol, DatagramTransport, ListenError,
    Reactor,
};

use crate::common::{Log, reactor, run_while};
use crate::unix::Folder;

/// Two places that can send to each other; the first one's reactor drives both.
pub(super) struct Places {
    pub(super) near: Reactor,
    pub(super) far: Reactor,
    pub(super) near_ip: IpAddr,
    pub(super) far_ip: IpAddr,
    /// Goes with the places.
    _simulation: Option<Simulation>,
    /// Where UNIX sockets have their files; without it they are UDP's.
    folder: Option<Folder>,
    files: Cell<usize>,
}

impl Places {
    pub(super) fn on_the_system() -> Self {
        let reactor = reactor();
        let ip = IpAddr::from([127, 0, 0, 1]);
        Self {
            near: reactor.clone(),
            far: reactor,
            near_ip: ip,
            far_ip: ip,
            _simulation: None,
            folder: None,
            files: Cell::new(0),
        }
    }

    pub(super) fn with_unix_sockets() -> Self {
        Self {
            folder: Some(Folder::new()),
            ..Self::on_the_system()
        }
    }

    /// One host, with UNIX sockets.
    pub(super) fn simulated_unix(seed: u64) -> Self {
        let places = Self::simulated(seed);
        Self {
            far: places.near.clone(),
            far_ip: places.near_ip,
            folder: Some(Folder::new()),
            ..places
        }
    }

    pub(super) fn simulated(seed: u64) -> Self {
        let simulation = Simulation::new(seed);
        let (near, far) = (simulation.host("near"), simulation.host("far"));
        Self {
            near: near.reactor(),
            far: far.reactor(),
            near_ip: near.ip(),
            far_ip: far.ip(),
            _simulation: Some(simulation),
            folder: None,
            files: Cell::new(0),
        }
    }

    pub(super) fn near(&self, protocol: Diary) -> DatagramTransport<Diary> {
        self.listen(&self.near, self.near_ip, &DatagramOptions::new(), protocol)
    }

    pub(super) fn far(&self, protocol: Diary) -> DatagramTransport<Diary> {
        self.far_with(&DatagramOptions::new(), protocol)
    }

    pub(super) fn far_with(
        &self,
        options: &DatagramOptions,
        protocol: Diary,
    ) -> DatagramTransport<Diary> {
        self.listen(&self.far, self.far_ip, options, protocol)
    }

    fn listen(
        &self,
        reactor: &Reactor,
        ip: IpAddr,
        options: &DatagramOptions,
        protocol: Diary,
    ) -> DatagramTransport<Diary> {
        let listening = match &self.folder {
            None => reactor.listen_udp_with((ip, 0), options, protocol),
            Some(folder) => {
                self.files.set(self.files.get() + 1);
                let path = folder.path(&self.files.get().to_string());
                reactor.listen_unix_datagrams_with(path, options, protocol)
            }
        };
        listening.expect("a port is free")
    }

    /// One more at the far place, with an address that is known.
    pub(super) fn far_at(
        &self,
        address: &Address,
        protocol: Diary,
    ) -> Result<DatagramTransport<Diary>, ListenError> {
        match &self.folder {
            None => self.far.listen_udp(address, protocol),
            Some(_) => self.far.listen_unix_datagrams(address, protocol),
        }
    }

    #[track_caller]
    pub(super) fn run_until(&self, log: &Log, line: &str) {
        run_while(&self.near, || !log.lines().iter().any(|said| said == line));
    }

    /// A few turns in which nothing is waited for.
    pub(super) fn turns(&self) {
        for _ in 0..5 {
            for reactor in [&self.near, &self.far] {
                let turned = reactor.turn(Some(Duration::ZERO));
                turned.expect("the loop can wait");
            }
        }
    }
}

type OnError = Box<dyn FnMut(&DatagramTransport<Diary>)>;
type OnDatagram = Box<dyn FnMut(&mut Diary, &DatagramTransport<Diary>, &[u8], &Address)>;

/// A protocol that writes down what happens, and does what the test says on datagrams.
pub(super) struct Diary {
    pub(super) name: &'static str,
    pub(super) log: Log,
    pub(super) last_from: Rc<RefCell<Option<Address>>>,
    pub(super) on_datagram: Option<OnDatagram>,
    pub(super) on_error: Option<OnError>,
    pub(super) received: Rc<Cell<usize>>,
}

impl Diary {
    pub(super) fn new(name: &'static str, log: &Log) -> Self {
        Self {
            name,
            log: log.clone(),
            last_from: Rc::default(),
            on_datagram: None,
            on_error: None,
            received: Rc::default(),
        }
    }

    pub(super) fn on_datagram(
        mut self,
        call: impl FnMut(&mut Self, &DatagramTransport<Self>, &[u8], &Address) + 'static,
    ) -> Self {
        self.on_datagram = Some(Box::new(call));
        self
    }

    pub(super) fn echo(name: &'static str, log: &Log) -> Self {
        Self::new(name, log)
            .on_datagram(|_, transport, datagram, from| transport.write_to(datagram, from))
    }

    fn note(&self, what: &str) {
        self.log.add(format!("{} {what}", self.name));
    }
}

fn text(datagram: &[u8]) -> String {
    match datagram.len() {
        0..100 => String::from_utf8_lossy(datagram).into_owned(),
        len => format!("{len} bytes"),
    }
}

impl DatagramProtocol for Diary {
    fn start_protocol(&mut self, _: &DatagramTransport<Self>) {
        self.note("starts");
    }

    fn datagram_received(
        &mut self,
        transport: &DatagramTransport<Self>,
        data: &[u8],
        from: &Address,
    ) {
        self.note(&format!("gets {}", text(data)));
        self.received.set(self.received.get() + 1);
        self.last_from.replace(Some(from.clone()));
        if let Some(mut call) = self.on_datagram.take() {
            call(self, transport, data, from);
            self.on_datagram = Some(call);
        }
    }

    fn datagram_truncated(
        &mut self,
        _: &DatagramTransport<Self>,
        data: &[u8],
        _: &Address,
        length: usize,
    ) {
        self.note(&format!("gets {} of {length}", text(data)));
    }

    fn connection_refused(&mut self, _: &DatagramTransport<Self>) {
        self.note("is refused");
    }

    fn error_received(&mut self, transport: &DatagramTransport<Self>, error: DatagramError) {
        self.note(&format!("hears: {error}"));
        if let Some(call) = &mut self.on_error {
            call(transport);
        }
    }

    fn write_paused(&mut self, _: &DatagramTransport<Self>) {
        self.note("pauses");
    }

    fn write_resumed(&mut self, _: &DatagramTransport<Self>) {
        self.note("resumes");
    }

    fn stop_protocol(&mut self) {
        self.note("stops");
    }
}
