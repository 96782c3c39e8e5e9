//! A chat room for browsers, over WebSocket.
//!
//! `cargo run --release --example websocket_chat [ADDRESS]`, then open
//! `http://127.0.0.1:8088/` in two windows. The first line is your name.

#![allow(
    missing_debug_implementations,
    unreachable_pub,
    clippy::missing_errors_doc,
    reason = "the tests include this file"
)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::rc::Rc;

use torsade::prelude::*;
use torsade::protocols::http::router::BadRoute;
use torsade::protocols::http::{Body, Request, Routes, Site};
use torsade::protocols::websocket::{
    CloseCode, Closed, Message, WebSocketLimits, WebSocketProtocol, WebSocketServer,
    WebSocketTransport,
};

#[path = "common/mod.rs"]
mod common;

/// How long a name may be, in characters.
const NAME_MAX: usize = 20;

/// What all connections share: who is here, by name, and how to reach them.
///
/// A transport is a cheap clone and may be kept anywhere. Sending to it never calls us
/// back, so the map may stay borrowed meanwhile.
#[derive(Default)]
pub struct Room {
    members: RefCell<BTreeMap<String, WebSocketTransport<Chat>>>,
}

impl Room {
    fn say_to_all(&self, line: &str) {
        for transport in self.members.borrow().values() {
            transport.send(line);
        }
    }

    fn names(&self) -> String {
        let members = self.members.borrow();
        let names: Vec<&str> = members.keys().map(String::as_str).collect();
        names.join(", ")
    }
}

/// One connection.
pub struct Chat {
    room: Rc<Room>,
    /// `None` until it is known.
    name: Option<String>,
}

impl WebSocketProtocol for Chat {
    fn opened(&mut self, transport: &WebSocketTransport<Self>) {
        // What a member has not read waits in our memory, but no more than this: then its
        // connection is lost, with the reason `Overrun`.
        transport.set_limits(Limits {
            unsent_max: 256 * 1024,
            ..Limits::default()
        });
        transport.send("* what is your name?");
    }

    fn message_received(&mut self, transport: &WebSocketTransport<Self>, message: Message<'_>) {
        let Some(line) = message.as_text() else {
            return transport.close(CloseCode::UNSUPPORTED, "text only");
        };
        let line = line.trim();
        match &self.name {
            _ if line.is_empty() => {}
            None => self.join(transport, line),
            Some(_) if line == "/who" => {
                transport.send(&format!("* here: {}", self.room.names()));
            }
            Some(name) => self.room.say_to_all(&format!("{name}: {line}")),
        }
    }

    fn closed(&mut self, _: Closed) {
        if let Some(name) = self.name.take() {
            self.room.members.borrow_mut().remove(&name);
            self.room.say_to_all(&format!("* {name} left"));
        }
    }
}

impl Chat {
    fn join(&mut self, transport: &WebSocketTransport<Self>, name: &str) {
        if name.chars().count() > NAME_MAX {
            return transport.send(&format!("* a name has at most {NAME_MAX} characters"));
        }
        let mut members = self.room.members.borrow_mut();
        if members.contains_key(name) {
            return transport.send(&format!("* {name} is taken, choose another name"));
        }
        members.insert(name.to_owned(), transport.clone());
        drop(members);
        self.name = Some(name.to_owned());
        self.room.say_to_all(&format!("* {name} joined"));
    }
}

/// The page, and the room that its script connects to.
pub fn site() -> Result<Site, BadRoute> {
    let room = Rc::new(Room::default());
    // Nobody types more at once than this. Pages from elsewhere are refused by default.
    let sockets = WebSocketServer::new().limits(WebSocketLimits {
        message: 4096,
        ..WebSocketLimits::default()
    });
    let routes = Routes::new()
        .get("/", |_: Request| {
            Body::html(include_str!("websocket_chat.html"))
        })?
        .get("/chat", move |request: Request| {
            let chat = Chat {
                room: Rc::clone(&room),
                name: None,
            };
            sockets.accept(&request, chat)
        })?;
    Ok(Site::new(routes))
}

fn main() -> ExitCode {
    common::run("websocket_chat", |reactor| {
        let server = site()?.listen(reactor, common::address_or("127.0.0.1:8088"))?;
        common::say(&format!("http://{}/", server.address()));
        // Who is connected when this stops is told 1001: going away.
        reactor.run()?;
        Ok(())
    })
}
