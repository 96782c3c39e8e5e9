//! A reactor in calloop's loop, by descriptor and deadline: the loop of many Wayland
//! compositors and clients.
//!
//! `cargo run --example in_calloop`, then `nc 127.0.0.1 8007`.

use std::cell::RefCell;
use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use calloop::generic::Generic;
use calloop::timer::{TimeoutAction, Timer};
use calloop::{EventLoop, Interest, LoopHandle, Mode, PostAction, RegistrationToken};
use torsade::prelude::*;

/// A reactor's seat in a calloop loop. Dropping it ends it.
pub struct Seat<'l, Data> {
    reactor: Reactor,
    host: LoopHandle<'l, Data>,
    /// The timer that stands for the reactor's next deadline.
    timer: RefCell<Option<(Instant, RegistrationToken)>>,
}

impl<'l, Data: 'l> Seat<'l, Data> {
    /// Has the loop drive `reactor`, from its next dispatch on.
    pub fn take(reactor: &Reactor, host: LoopHandle<'l, Data>) -> calloop::Result<Rc<Self>> {
        let seat = Rc::new(Self {
            reactor: reactor.clone(),
            host,
            timer: RefCell::default(),
        });
        let descriptor = reactor.as_fd().try_clone_to_owned()?;
        let source = Generic::new(descriptor, Interest::READ, Mode::Level);
        let weak = Rc::downgrade(&seat);
        seat.host.insert_source(source, move |_, _, _| {
            let Some(seat) = weak.upgrade() else {
                return Ok(PostAction::Remove);
            };
            seat.turn()?;
            Ok(PostAction::Continue)
        })?;
        seat.refresh()?;
        Ok(seat)
    }

    fn turn(self: &Rc<Self>) -> calloop::Result<()> {
        let turned = self.reactor.turn(Some(Duration::ZERO));
        turned.map_err(io::Error::other)?;
        self.refresh()
    }

    /// Sets the timer to the reactor's next deadline.
    pub fn refresh(self: &Rc<Self>) -> calloop::Result<()> {
        let next = self.reactor.next_deadline();
        let mut timer = self.timer.borrow_mut();
        if timer.as_ref().map(|(deadline, _)| *deadline) == next {
            return Ok(());
        }
        if let Some((_, token)) = timer.take() {
            self.host.remove(token);
        }
        if let Some(deadline) = next {
            let (source, weak) = (Timer::from_deadline(deadline), Rc::downgrade(self));
            let token = self.host.insert_source(source, move |_, _, _| {
                if let Some(seat) = weak.upgrade() {
                    // It drops itself, below.
                    seat.timer.take();
                    seat.turn().expect("the system can wait");
                }
                TimeoutAction::Drop
            })?;
            *timer = Some((deadline, token));
        }
        Ok(())
    }
}

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport<Self>, data: &[u8]) {
        transport.write(data);
    }
}

fn main() -> Result<(), Failure> {
    let mut host = EventLoop::<()>::try_new()?;
    let reactor = Reactor::new()?;
    let port = reactor.listen_tcp("127.0.0.1:8007", |_: &Address| Echo)?;
    println!("listening on {}", port.address());
    let _seat = Seat::take(&reactor, host.handle())?;
    // Windows, keyboards and timers of the host would stand beside it.
    host.run(None, &mut (), |_| ())?;
    Ok(())
}
