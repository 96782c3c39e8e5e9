//! Checks of what is nobody's business outside, for the fuzzer: built under `cfg(fuzzing)` alone.
//!
//! Each takes an input, and panics if a promise is broken.

use super::frames::{Decoder, Event, Role, Sizes};

/// How long a message may be here.
pub const MESSAGE_MAX: usize = 300;
/// How long a frame may be.
pub const FRAME_MAX: usize = 200;

/// What came, in the words that other libraries have, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Came {
    /// A message.
    Text(String),
    /// A message.
    Binary(Vec<u8>),
    /// A ping.
    Ping(Vec<u8>),
    /// A pong.
    Pong(Vec<u8>),
    /// A Close frame: code and reason.
    Close(Option<u16>, String),
    /// A frame that breaks a rule: what the peer is told, and why.
    Violated(u16, String),
}

/// Decodes what a client sends, or a server, in pieces of this size.
#[must_use]
pub fn decode(is_server: bool, wire: &[u8], size: usize) -> Vec<Came> {
    let role = if is_server {
        Role::Server
    } else {
        Role::Client
    };
    let sizes = Sizes {
        frame: FRAME_MAX,
        message: MESSAGE_MAX,
    };
    let mut decoder = Decoder::new(role, sizes);
    let mut came = Vec::new();
    for piece in wire.chunks(size.max(1)) {
        let mut piece = piece.to_vec();
        let mut rest = &mut piece[..];
        loop {
            let event = decoder.next(&mut rest);
            assert!(decoder.kept() <= MESSAGE_MAX + 125 + 14);
            let Some(event) = event else { break };
            came.push(match event {
                Event::Text(text) => Came::Text(text.into_owned()),
                Event::Binary(bytes) => Came::Binary(bytes.into_owned()),
                Event::Ping(bytes) => Came::Ping(bytes.into_owned()),
                Event::Pong(bytes) => Came::Pong(bytes.into_owned()),
                Event::Close(code, reason) => Came::Close(code.map(u16::from), reason),
                Event::Violated(it) => Came::Violated(it.code().into(), format!("{it:?}")),
            });
        }
        assert!(rest.is_empty(), "all is taken in");
    }
    let over = came
        .iter()
        .position(|it| matches!(it, Came::Close(..) | Came::Violated(..)));
    assert!(
        over.is_none_or(|at| at + 1 == came.len()),
        "those are the last"
    );
    came
}
