//! Chat: lines to everybody in the room.
//!
//! `cargo run --release --example chat [ADDRESS]`, then `nc 127.0.0.1 8008` in two
//! terminals. The first line is your name. `/who` tells who is there, `/quit` leaves.

#![allow(
    missing_debug_implementations,
    unreachable_pub,
    clippy::missing_errors_doc,
    reason = "the demo and the tests include this file"
)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::rc::Rc;

use torsade::prelude::*;

#[path = "common/mod.rs"]
mod common;

/// How long a line may be.
pub const LINE_MAX: usize = 1000;
/// How long a name may be, in characters.
const NAME_MAX: usize = 20;

/// What all connections share: who is here, by name, and how to reach them.
///
/// A transport is a cheap clone and may be kept anywhere. Writing to it never calls us
/// back, so the map may stay borrowed meanwhile.
#[derive(Default)]
pub struct Room {
    members: RefCell<BTreeMap<String, LineTransport<Chat>>>,
}

impl Room {
    fn say_to_all(&self, line: &str) {
        for transport in self.members.borrow().values() {
            transport.send_line(line);
        }
    }

    fn names(&self) -> String {
        self.members
            .borrow()
            .keys()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", ")
    }
}

/// One connection.
pub struct Chat {
    room: Rc<Room>,
    /// `None` until it is known.
    name: Option<String>,
}

impl LineReceiver for Chat {
    fn connection_made(&mut self, transport: &LineTransport<Self>) {
        // What a member has not read waits in our memory, but no more than this: then its
        // connection is lost, with the reason `Overrun`.
        transport.set_limits(Limits {
            unsent_max: 256 * 1024,
            ..Limits::default()
        });
        transport.send_line("* what is your name?");
    }

    fn line_received(&mut self, transport: &LineTransport<Self>, line: &[u8]) {
        let Ok(line) = str::from_utf8(line) else {
            transport.send_line("* that line is not UTF-8, nobody got it");
            return;
        };
        // What controls a terminal is not for the terminals of others.
        let line: String = line.trim().chars().filter(|c| !c.is_control()).collect();
        match (&self.name, line.as_str()) {
            (_, "") => {}
            (_, "/quit") => {
                transport.send_line("* goodbye");
                transport.lose_connection();
                self.leave("left");
            }
            (_, "/who") => transport.send_line(format!("* here: {}", self.room.names())),
            (_, command) if command.starts_with('/') => {
                transport.send_line(format!(
                    "* {command} is no command; there are /who and /quit"
                ));
            }
            (None, name) => self.join(transport, name),
            (Some(name), text) => self.room.say_to_all(&format!("{name}: {text}")),
        }
    }

    // The default would lose the connection. Here the line is skipped, and that is it.
    fn line_length_exceeded(&mut self, transport: &LineTransport<Self>, error: LineTooLong) {
        transport.send_line(format!("* {error}; nobody got it"));
    }

    fn connection_lost(&mut self, reason: ConnectionLost) {
        match reason {
            ConnectionLost::Done => self.leave("left"),
            reason => self.leave(&format!("left: {reason}")),
        }
    }
}

impl Chat {
    fn join(&mut self, transport: &LineTransport<Self>, name: &str) {
        if name.chars().count() > NAME_MAX || name.contains([' ', ':']) {
            transport.send_line(format!(
                "* a name has at most {NAME_MAX} characters, no space and no colon"
            ));
            return;
        }
        if self.room.members.borrow().contains_key(name) {
            transport.send_line(format!("* {name} is taken, choose another name"));
            return;
        }
        self.name = Some(name.to_owned());
        self.room
            .members
            .borrow_mut()
            .insert(name.to_owned(), transport.clone());
        self.room.say_to_all(&format!("* {name} joined"));
    }

    fn leave(&mut self, how: &str) {
        // `take`: whoever has left does not leave again.
        if let Some(name) = self.name.take() {
            self.room.members.borrow_mut().remove(&name);
            self.room.say_to_all(&format!("* {name} {how}"));
        }
    }
}

/// Listens, with a room of its own.
pub fn listen(reactor: &Reactor, address: &str) -> Result<Port, ListenError> {
    let room = Rc::new(Room::default());
    reactor.listen_tcp(address, move |_peer: &Address| {
        let chat = Chat {
            room: Rc::clone(&room),
            name: None,
        };
        // `nc` ends lines with `\n`, others with `\r\n`: this takes both.
        Lines::new(chat)
            .delimiter(Delimiter::LineFeed)
            .max_length(LINE_MAX)
    })
}

fn main() -> ExitCode {
    common::run("chat", |reactor| {
        let port = listen(reactor, &common::address_or("127.0.0.1:8008"))?;
        common::serve(reactor, &port)
    })
}
