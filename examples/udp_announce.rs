//! Who is here: every program of this kind in the network tells a multicast group its name now
//! and then, and knows the others by theirs.
//!
//! `cargo run --release --example udp_announce NAME`, on several machines of one network, or
//! several times on one.

#![allow(
    missing_debug_implementations,
    unreachable_pub,
    clippy::missing_errors_doc,
    reason = "the tests include this file"
)]

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use torsade::prelude::*;
use torsade::reactor::{DatagramOptions, MulticastGroup, MulticastInterface};

#[path = "common/mod.rs"]
mod common;

/// RFC 2365 §6.2: groups for whoever wants one, within an organization.
const GROUP: Ipv4Addr = Ipv4Addr::new(239, 192, 80, 7);
const PORT: u16 = 8019;
/// How often a name is told.
pub const PERIOD: Duration = Duration::from_secs(1);
/// Who was silent for so long has gone: three announcements may get lost.
pub const GONE: Duration = Duration::from_millis(3_500);
/// Anybody can send anything: names are short, and not too many.
const NAME_MAX: usize = 40;
const NAMES_MAX: usize = 1_000;

/// One who tells its name, and listens to the others.
pub struct Announcer {
    name: String,
    print: Rc<dyn Fn(&str)>,
    /// Who is there, and when they are taken for gone.
    others: BTreeMap<String, DelayedCall>,
}

impl Announcer {
    fn announce(&mut self, transport: &DatagramTransport<Self>) {
        transport.write_to(&self.name, (GROUP, PORT));
        let again = transport.clone();
        let reactor = transport.reactor();
        reactor.call_later(PERIOD, move || again.call(Self::announce));
    }
}

impl DatagramProtocol for Announcer {
    fn start_protocol(&mut self, transport: &DatagramTransport<Self>) {
        self.announce(transport);
    }

    fn datagram_received(
        &mut self,
        transport: &DatagramTransport<Self>,
        data: &[u8],
        from: &Address,
    ) {
        let Ok(name) = str::from_utf8(data) else {
            return;
        };
        let speakable = name.chars().all(char::is_alphanumeric);
        if name == self.name || name.is_empty() || data.len() > NAME_MAX || !speakable {
            return;
        }
        if let Some(known) = self.others.get(name) {
            known.reset(GONE);
            return;
        }
        if self.others.len() == NAMES_MAX {
            return;
        }
        let ip = from.ip().map_or_else(String::new, |ip| ip.to_string());
        (self.print)(&format!("{name} is here, on {ip}"));
        let (this, gone) = (transport.clone(), name.to_owned());
        let call = move || {
            this.call(move |announcer, _| {
                announcer.others.remove(&gone);
                (announcer.print)(&format!("{gone} has gone"));
            });
        };
        let call = transport.reactor().call_later(GONE, call);
        self.others.insert(name.to_owned(), call);
    }
}

/// Tells `name` and listens, by way of one network interface.
pub fn announce(
    reactor: &Reactor,
    name: &str,
    interface: MulticastInterface,
    print: impl Fn(&str) + 'static,
) -> Result<DatagramTransport<Announcer>, Failure> {
    // Several programs of one machine share the port: each hears the whole group.
    let options = DatagramOptions::new().reuse_port(true);
    let announcer = Announcer {
        name: name.to_owned(),
        print: Rc::new(print),
        others: BTreeMap::new(),
    };
    let group = MulticastGroup::from(GROUP).on(interface);
    let transport = reactor.listen_udp_with((Ipv4Addr::UNSPECIFIED, PORT), &options, announcer)?;
    transport.set_multicast_interface(interface)?;
    transport.join_group(group)?;
    Ok(transport)
}

fn main() -> ExitCode {
    common::run("udp_announce", |reactor| {
        let name = std::env::args().nth(1);
        let name = name.ok_or_else(|| Failure::message("say your name"))?;
        let _transport = announce(reactor, &name, MulticastInterface::Any, common::say)?;
        common::say(&format!("{name} listens to the others"));
        reactor.run()?;
        Ok(())
    })
}
