//! A reactor in GLib's main loop, as a guest: the loop of GTK programs. A helper thread waits
//! for the reactor, and posts into the host's queue when there is something to do.
//!
//! `cargo run --example in_glib`, then `nc 127.0.0.1 8007`.

use std::io;
use std::rc::Rc;

use futures_channel::mpsc;
use futures_util::StreamExt;
use glib::{MainContext, MainLoop};
use torsade::prelude::*;
use torsade::reactor::Guest;

/// Has the main context of this thread drive `reactor`, as long as the guest is held.
pub fn seat(reactor: &Reactor, host: &MainContext) -> io::Result<Rc<Guest>> {
    let (queue, mut posts) = mpsc::unbounded();
    // At most one post is under way: the queue holds no more.
    let post = move || queue.unbounded_send(()).unwrap_or_default();
    let guest = Rc::new(Guest::new(reactor, post)?);
    let weak = Rc::downgrade(&guest);
    host.spawn_local(async move {
        while let Some(()) = posts.next().await {
            let Some(guest) = weak.upgrade() else {
                return;
            };
            guest.turn().expect("the system can wait");
        }
    });
    guest.turn().map_err(io::Error::other)?;
    Ok(guest)
}

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport<Self>, data: &[u8]) {
        transport.write(data);
    }
}

fn main() -> Result<(), Failure> {
    let host = MainLoop::new(None, false);
    let reactor = Reactor::new()?;
    let port = reactor.listen_tcp("127.0.0.1:8007", |_: &Address| Echo)?;
    println!("listening on {}", port.address());
    let _guest = seat(&reactor, &host.context())?;
    // Windows and buttons of the host would stand beside it.
    host.run();
    Ok(())
}
