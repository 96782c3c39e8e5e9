//! The callbacks and the functions of UDP ports.

#![expect(
    clippy::unit_arg,
    reason = "what answers nothing is shown as what it answers"
)]

use std::net::{Ipv4Addr, UdpSocket};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};

use torsade_deferred::{Failure, succeed};
use torsade_reactor::testing::MemoryDatagrams;
use torsade_reactor::{
    Address, DatagramError, DatagramLimits, DatagramOptions, DatagramProtocol, DatagramTransport,
    MulticastGroup, MulticastInterface, Reactor, SocketOption,
};

use super::places::{Place, act_on, place};
use super::rows::{Row, looked, row, say};
use super::world::{Act, Target, World};

/// Calls what it is given, when its moment comes.
#[derive(Default)]
pub(super) struct Listener {
    started: OnUdp,
    received: OnUdp,
    truncated: OnUdp,
    refused: OnUdp,
    error: OnUdp,
    paused: OnUdp,
    resumed: OnUdp,
    stopped: OnUdp,
    own: Option<DatagramTransport<Self>>,
}

type OnUdp = Option<Box<dyn FnMut(&DatagramTransport<Listener>)>>;

impl Listener {
    /// One that calls for every datagram and every error.
    pub(super) fn hearing(comes: impl Fn() + Clone + 'static) -> Self {
        let again = comes.clone();
        Self {
            received: Some(Box::new(move |_| comes())),
            error: Some(Box::new(move |_| again())),
            ..Self::default()
        }
    }
}

fn call(place: &mut OnUdp, transport: &DatagramTransport<Listener>) {
    if let Some(call) = place {
        call(transport);
    }
}

impl DatagramProtocol for Listener {
    fn start_protocol(&mut self, transport: &DatagramTransport<Self>) {
        call(&mut self.started, transport);
    }

    fn datagram_received(&mut self, transport: &DatagramTransport<Self>, _: &[u8], _: &Address) {
        call(&mut self.received, transport);
    }

    fn datagram_truncated(
        &mut self,
        transport: &DatagramTransport<Self>,
        _: &[u8],
        _: &Address,
        _: usize,
    ) {
        call(&mut self.truncated, transport);
    }

    fn connection_refused(&mut self, transport: &DatagramTransport<Self>) {
        call(&mut self.refused, transport);
    }

    fn error_received(&mut self, transport: &DatagramTransport<Self>, _: DatagramError) {
        call(&mut self.error, transport);
    }

    fn write_paused(&mut self, transport: &DatagramTransport<Self>) {
        call(&mut self.paused, transport);
    }

    fn write_resumed(&mut self, transport: &DatagramTransport<Self>) {
        call(&mut self.resumed, transport);
    }

    fn stop_protocol(&mut self) {
        if let Some(own) = self.own.take() {
            call(&mut self.stopped, &own);
        }
    }
}

fn acts(world: &Rc<World>) -> OnUdp {
    let mut act = Some(act_on(world));
    Some(Box::new(move |own: &DatagramTransport<Listener>| {
        if let Some(act) = act.take() {
            act(Target::Udp(own.clone()));
        }
    }))
}

pub(super) fn listen(reactor: &Reactor, protocol: Listener) -> DatagramTransport<Listener> {
    let listening = reactor.listen_udp((Ipv4Addr::LOCALHOST, 0), protocol);
    listening.expect("loopback can listen")
}

/// A socket that is memory, for what the system cannot be made to do.
fn memory(world: &Rc<World>, protocol: Listener) -> (MemoryDatagrams, DatagramTransport<Listener>) {
    let datagrams = MemoryDatagrams::new(&world.reactor_now());
    let limits = DatagramLimits {
        queue_high: 100,
        queue_low: 0,
        ..DatagramLimits::default()
    };
    let options = DatagramOptions::new().limits(limits).datagram_max(4);
    let transport = datagrams.listen_with(&options, protocol);
    (datagrams, transport)
}

/// Has the test do something with such a socket, outside of every callback of its own.
fn later(world: &Rc<World>, call: impl FnOnce() + 'static) {
    world.reactor_now().call_soon(call);
}

const PEER: &str = "192.0.2.7:7";

pub(super) const PLACES: &[Place] = &[
    place("start_protocol", |world| {
        let started = acts(world);
        let listener = Listener {
            started,
            ..Listener::default()
        };
        let reactor = world.reactor_now();
        later(world, move || drop(listen(&reactor, listener)));
    }),
    place("datagram_received", |world| {
        let received = acts(world);
        let listener = Listener {
            received,
            ..Listener::default()
        };
        let own = listen(&world.reactor_now(), listener);
        own.write_to("hello", own.host());
    }),
    place("datagram_truncated", |world| {
        let truncated = acts(world);
        let listener = Listener {
            truncated,
            ..Listener::default()
        };
        let (datagrams, _) = memory(world, listener);
        later(world, move || datagrams.receive("hello", PEER));
    }),
    place("connection_refused", |world| {
        let refused = acts(world);
        let listener = Listener {
            refused,
            ..Listener::default()
        };
        let (datagrams, _) = memory(world, listener);
        later(world, move || datagrams.refuse());
    }),
    place("error_received", |world| {
        let error = acts(world);
        let listener = Listener {
            error,
            ..Listener::default()
        };
        let own = listen(&world.reactor_now(), listener);
        own.write("to nobody");
    }),
    place("a datagram protocol's write_paused", |world| {
        let paused = acts(world);
        let listener = Listener {
            paused,
            ..Listener::default()
        };
        let (datagrams, own) = memory(world, listener);
        datagrams.set_congested(true);
        own.write_to([0; 100], PEER);
    }),
    place("a datagram protocol's write_resumed", |world| {
        let resumed = acts(world);
        let listener = Listener {
            resumed,
            ..Listener::default()
        };
        let (datagrams, own) = memory(world, listener);
        datagrams.set_congested(true);
        own.write_to([0; 100], PEER);
        later(world, move || {
            own.call(|_, _| ());
            later_still(&own, move || datagrams.set_congested(false));
        });
    }),
    place("stop_protocol", |world| {
        let stopped = acts(world);
        let listener = Listener {
            stopped,
            ..Listener::default()
        };
        let own = listen(&world.reactor_now(), listener);
        let kept = own.clone();
        own.call(move |listener, _| listener.own = Some(kept));
        drop(own.stop_listening());
    })
    .own_is_ending(),
    place("DatagramTransport::call", |world| {
        let act = act_on(world);
        let own = listen(&world.reactor_now(), Listener::default());
        later(world, move || {
            own.call(move |_, own| act(Target::Udp(own.clone())));
        });
    }),
];

fn later_still(own: &DatagramTransport<Listener>, call: impl FnOnce() + 'static) {
    own.reactor().call_soon(call);
}

/// A name for a UNIX socket that no other has.
fn free_name() -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("@torsade-rows-{}-{count}", std::process::id())
}

fn group() -> MulticastGroup {
    let group = MulticastGroup::from(Ipv4Addr::new(239, 255, 77, 8));
    group.on(MulticastInterface::Address(Ipv4Addr::LOCALHOST))
}

pub(super) const ROWS: &[Row] = &[
    row(
        "Reactor::listen_udp",
        Act::Reactor(|_, reactor| {
            let listening = reactor.listen_udp("127.0.0.1:0", Listener::default());
            say(listening.is_ok_and(|port| port.is_listening()))
        }),
        ["true", "", "true"],
    ),
    row(
        "Reactor::listen_udp_with",
        Act::Reactor(|_, reactor| {
            let options = DatagramOptions::new();
            let listening = reactor.listen_udp_with("127.0.0.1:0", &options, Listener::default());
            say(listening.is_ok_and(|port| port.is_listening()))
        }),
        ["true", "", "true"],
    ),
    row(
        "Reactor::listen_unix_datagrams",
        Act::Reactor(|_, reactor| {
            let listening = reactor.listen_unix_datagrams(free_name(), Listener::default());
            say(listening.is_ok_and(|port| port.is_listening()))
        }),
        ["true", "", "true"],
    ),
    row(
        "Reactor::listen_unix_datagrams_with",
        Act::Reactor(|_, reactor| {
            let options = DatagramOptions::new();
            let listening =
                reactor.listen_unix_datagrams_with(free_name(), &options, Listener::default());
            say(listening.is_ok_and(|port| port.is_listening()))
        }),
        ["true", "", "true"],
    ),
    row(
        "Reactor::connect_unix_datagrams",
        Act::Reactor(|_, reactor| {
            let peer = free_name();
            let peer = (
                reactor.listen_unix_datagrams(&peer, Listener::default()),
                peer,
            );
            let connected = reactor.connect_unix_datagrams(peer.1, Listener::default());
            say(connected.is_ok_and(|port| port.peer().is_some()))
        }),
        ["true", "", "true"],
    ),
    row(
        "Reactor::connect_unix_datagrams_with",
        Act::Reactor(|_, reactor| {
            let options = DatagramOptions::new();
            let connected =
                reactor.connect_unix_datagrams_with(free_name(), &options, Listener::default());
            // Nobody is there.
            say(connected.is_ok())
        }),
        ["false", "", "false"],
    ),
    row(
        "Reactor::adopt_datagrams",
        Act::Reactor(|_, reactor| {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback can listen");
            let adopted = reactor.adopt_datagrams(socket, Listener::default());
            say(adopted.is_ok_and(|port| port.is_listening()))
        }),
        ["true", "", "true"],
    ),
    row(
        "DatagramTransport::write",
        // It is connected to nobody: `error_received` comes.
        Act::Udp(|_, port| say(port.write("x"))),
        ["(); called", "(); silent", "()"],
    ),
    row(
        "DatagramTransport::write_to",
        Act::Udp(|_, port| say(port.write_to("x", port.host()))),
        ["(); called", "(); silent", "()"],
    ),
    row(
        "DatagramTransport::send",
        Act::Udp(|_, port| say(port.send("x").is_ok())),
        ["false; silent", "false; silent", "false"],
    ),
    row(
        "DatagramTransport::send_to",
        Act::Udp(|_, port| say(port.send_to("x", port.host()).is_ok())),
        ["true; called", "false; silent", "true"],
    ),
    row(
        "DatagramTransport::connect",
        Act::Udp(|_, port| say(port.connect(port.host()).is_ok())),
        ["true", "false", "true"],
    ),
    row(
        "DatagramTransport::disconnect",
        Act::Udp(|_, port| say(port.disconnect().is_ok())),
        ["true", "false", "true"],
    ),
    row(
        "DatagramTransport::stop_listening",
        Act::Udp(|_, port| say(port.stop_listening().is_fired())),
        ["false", "true", "false"],
    ),
    row(
        "DatagramTransport::is_listening",
        Act::Udp(|_, port| say(port.is_listening())),
        ["true", "false", "true"],
    ),
    row(
        "DatagramTransport::host",
        Act::Udp(|_, port| say(port.host().port().is_some_and(|port| port > 0))),
        ["true", "true", "true"],
    ),
    row(
        "DatagramTransport::peer",
        Act::Udp(|_, port| say(port.peer().is_some())),
        ["false", "false", "false"],
    ),
    row(
        "DatagramTransport::unsent",
        Act::Udp(|_, port| looked(port.unsent())),
        ["looked", "looked", "looked"],
    ),
    row(
        "DatagramTransport::limits",
        Act::Udp(|_, port| looked(port.limits())),
        ["looked", "looked", "looked"],
    ),
    row(
        "DatagramTransport::set_limits",
        Act::Udp(|_, port| say(port.set_limits(DatagramLimits::default()))),
        ["()", "()", "()"],
    ),
    row(
        "DatagramTransport::pause_reading",
        Act::Udp(|_, port| {
            port.write_to("x", port.host());
            say(port.pause_reading())
        }),
        ["(); silent", "(); silent", "()"],
    ),
    row(
        "DatagramTransport::resume_reading",
        Act::Udp(|_, port| {
            port.pause_reading();
            port.write_to("x", port.host());
            say(port.resume_reading())
        }),
        ["(); called", "(); silent", "()"],
    ),
    row(
        "DatagramTransport::set_option",
        Act::Udp(|_, port| say(port.set_option(SocketOption::TimeToLive(3)).is_ok())),
        ["true", "false", "true"],
    ),
    row(
        "DatagramTransport::buffer_sizes",
        Act::Udp(|_, port| say(port.buffer_sizes().is_ok())),
        ["true", "false", "true"],
    ),
    row(
        "DatagramTransport::set_background",
        Act::Udp(|_, port| say(port.set_background(true))),
        ["()", "()", "()"],
    ),
    row(
        "DatagramTransport::is_background",
        Act::Udp(|_, port| say(port.is_background())),
        ["false", "false", "false"],
    ),
    row(
        "DatagramTransport::reactor",
        Act::Udp(|_, port| looked(port.reactor())),
        ["looked", "looked", "looked"],
    ),
    row(
        "DatagramTransport::call",
        Act::Udp(|world, port| {
            let comes = world.comes();
            say(port.call(move |_, _| comes()))
        }),
        ["(); at once", "(); silent", "(); called"],
    ),
    row(
        "DatagramTransport::when",
        Act::Udp(|world, port| {
            let comes = world.comes();
            say(port.when(succeed::<_, Failure>(()), move |_, _, _| comes()))
        }),
        ["(); at once", "(); silent", "(); called"],
    ),
    row(
        "DatagramTransport::join_group",
        Act::Udp(|_, port| say(port.join_group(group()).is_ok())),
        ["true", "false", "true"],
    ),
    row(
        "DatagramTransport::leave_group",
        Act::Udp(|_, port| {
            let joined = port.join_group(group());
            say(joined.and_then(|()| port.leave_group(group())).is_ok())
        }),
        ["true", "false", "true"],
    ),
    row(
        "DatagramTransport::set_multicast_ttl",
        Act::Udp(|_, port| say(port.set_multicast_ttl(1).is_ok())),
        ["true", "false", "true"],
    ),
    row(
        "DatagramTransport::set_multicast_loopback",
        Act::Udp(|_, port| say(port.set_multicast_loopback(true).is_ok())),
        ["true", "false", "true"],
    ),
    row(
        "DatagramTransport::set_multicast_interface",
        Act::Udp(|_, port| {
            let interface = MulticastInterface::Address(Ipv4Addr::LOCALHOST);
            say(port.set_multicast_interface(interface).is_ok())
        }),
        ["true", "false", "true"],
    ),
    row(
        "DatagramTransport::set_broadcast",
        Act::Udp(|_, port| say(port.set_broadcast(true).is_ok())),
        ["true", "false", "true"],
    ),
];
