//! A reactor in a loop of frames, as of a game: one turn a frame, and none of them waits.
//!
//! `cargo run --release --example frame_loop [ADDRESS]`, then `nc 127.0.0.1 8007`, and type.

#![allow(
    missing_debug_implementations,
    unreachable_pub,
    clippy::missing_errors_doc,
    reason = "the tests include this file"
)]

use std::cell::Cell;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use torsade::prelude::*;

#[path = "common/mod.rs"]
mod common;

/// How wide the field is, and how long a frame takes.
const WIDTH: usize = 60;
const FRAME: Duration = Duration::from_millis(16);

/// A ball on a line. Its direction is shared with whoever is connected.
#[derive(Default)]
pub struct Ball {
    position: usize,
    is_leftward: Rc<Cell<bool>>,
}

impl Ball {
    /// Listens for players: each line of theirs turns the ball round.
    pub fn listen(&self, reactor: &Reactor, address: &str) -> Result<Port, ListenError> {
        let is_leftward = Rc::clone(&self.is_leftward);
        reactor.listen_tcp(address, move |_: &Address| Player {
            is_leftward: Rc::clone(&is_leftward),
        })
    }

    fn step(&mut self) {
        match self.position {
            0 => self.is_leftward.set(false),
            WIDTH => self.is_leftward.set(true),
            _ => {}
        }
        if self.is_leftward.get() {
            self.position -= 1;
        } else {
            self.position += 1;
        }
    }
}

struct Player {
    is_leftward: Rc<Cell<bool>>,
}

impl Protocol for Player {
    fn data_received(&mut self, transport: &Transport<Self>, data: &[u8]) {
        for _ in data.iter().filter(|byte| **byte == b'\n') {
            self.is_leftward.set(!self.is_leftward.get());
            transport.write("turned\n");
        }
    }
}

/// Plays: each frame has its turn of the reactor, a step of the world, and is shown. `show`
/// waits for the display, and says whether there is to be another frame.
pub fn play(
    reactor: &Reactor,
    ball: &mut Ball,
    mut show: impl FnMut(&str) -> bool,
) -> Result<(), RunError> {
    loop {
        // Whatever has come since the last frame; it never waits.
        reactor.turn(Some(Duration::ZERO))?;
        ball.step();
        if !show(&format!("{:>1$}", "o", ball.position + 1)) {
            return Ok(());
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "stands for the wait for the display, which a game's own loop has"
)]
fn wait_for_the_display() {
    std::thread::sleep(FRAME);
}

fn main() -> ExitCode {
    common::run("frame_loop", |reactor| {
        let mut ball = Ball::default();
        let port = ball.listen(reactor, &common::address_or("127.0.0.1:8007"))?;
        common::say(&format!("listening on {}", port.address()));
        play(reactor, &mut ball, |picture| {
            common::say(picture);
            wait_for_the_display();
            true
        })?;
        Ok(())
    })
}
