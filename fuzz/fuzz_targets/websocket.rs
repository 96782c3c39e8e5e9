//! Every chunking gives the same frames, within their limits, and they are those that `tungstenite` sees; what it
//! lets pass and RFC 6455 does not is named.
#![no_main]

use std::io::{Error, ErrorKind, Read, Result, Write};

use libfuzzer_sys::fuzz_target;
use torsade_protocols::websocket::fuzzed::{Came, FRAME_MAX, MESSAGE_MAX, decode};
use tungstenite::Message;
use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};

/// A connection on which this has come, and nothing more will.
struct Wire<'a>(&'a [u8]);

impl Read for Wire<'_> {
    fn read(&mut self, place: &mut [u8]) -> Result<usize> {
        match self.0.read(place) {
            Ok(0) => Err(Error::from(ErrorKind::WouldBlock)),
            outcome => outcome,
        }
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, data: &[u8]) -> Result<usize> {
        Ok(data.len())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

/// What the other library makes of it, up to what it cannot read.
fn theirs(is_server: bool, wire: &[u8]) -> Vec<Came> {
    let role = if is_server {
        Role::Server
    } else {
        Role::Client
    };
    let config = WebSocketConfig::default()
        .max_frame_size(Some(FRAME_MAX))
        .max_message_size(Some(MESSAGE_MAX));
    let mut socket = WebSocket::from_raw_socket(Wire(wire), role, Some(config));
    let mut came = Vec::new();
    while let Ok(message) = socket.read() {
        came.push(match message {
            Message::Text(text) => Came::Text(text.to_string()),
            Message::Binary(bytes) => Came::Binary(bytes.to_vec()),
            Message::Ping(bytes) => Came::Ping(bytes.to_vec()),
            Message::Pong(bytes) => Came::Pong(bytes.to_vec()),
            Message::Close(None) => Came::Close(None, String::new()),
            Message::Close(Some(it)) => Came::Close(Some(it.code.into()), it.reason.to_string()),
            Message::Frame(_) => unreachable!("no such is read"),
        });
        if let Some(Came::Close(..)) = came.last() {
            break;
        }
    }
    came
}

fuzz_target!(|input: (bool, u8, &[u8])| {
    let (is_server, size, wire) = input;
    let ours = decode(is_server, wire, usize::MAX);
    assert_eq!(decode(is_server, wire, 1), ours);
    assert_eq!(decode(is_server, wire, usize::from(size)), ours);

    let theirs = theirs(is_server, wire);
    let mut other = theirs.iter();
    for event in &ours {
        match (event, other.next()) {
            // It takes a length that is said at length: §5.2.
            (Came::Violated(_, why), _) if why == "OddLength" || why == "LongControl" => return,
            // It gives 1002 for a code that must not be sent: §7.4.
            (Came::Violated(_, why), None | Some(Came::Close(Some(1002), _)))
                if why.starts_with("BadCloseCode") => {}
            (Came::Violated(..), None) => {}
            (Came::Close(Some(1012..=1014), _), Some(Came::Close(Some(1002), _))) => {}
            (event, same) => assert_eq!(Some(event), same, "{ours:?} and {theirs:?}"),
        }
    }
    assert_eq!(other.next(), None, "{ours:?} and {theirs:?}");
});
