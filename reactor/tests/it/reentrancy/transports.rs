//! What the functions of a transport answer.

#![expect(
    clippy::unit_arg,
    reason = "what answers nothing is shown as what it answers"
)]

use std::cell::Cell;
use std::io::ErrorKind;
use std::rc::Rc;

use torsade_deferred::{Failure, succeed};
use torsade_reactor::testing::MemoryStream;
use torsade_reactor::{
    ConnectionLimits, ConnectionLost, IdleTimeout, Limits, Producer, SocketOption, Stream,
    Streaming, Transport, Visited, tunnel, tunnel_with_timeout,
};

use super::rows::{FAR, NONE, Row, SOON, empty_file, is_some, looked, row, say};
use super::world::{Act, OnTransport, Peer, quiet};

/// One line a function. The order is that of the sources.
pub(super) const ROWS: &[Row] = &[
    // transport.rs
    row(
        "Transport::over",
        Act::Transport(|_, transport| {
            looked(Transport::over(
                Peer::default(),
                Rc::clone(transport.stream()),
            ))
        }),
        ["looked", "looked", "looked"],
    ),
    row(
        "Transport::connect",
        Act::Transport(|world, transport| {
            let comes = world.comes();
            let made: OnTransport = Some(Box::new(move |_| comes()));
            let next = Peer {
                made,
                ..Peer::default()
            };
            looked(Transport::connect(next, Rc::clone(transport.stream())))
        }),
        ["looked; at once", "looked; at once", "looked; at once"],
    ),
    row(
        "Transport::write",
        Act::Transport(|_, transport| say(transport.write("x"))),
        ["()", "()", "()"],
    ),
    row(
        "Transport::try_write",
        Act::Transport(|_, transport| {
            let taken = transport.try_write("x").map_err(|error| error.kind());
            match taken {
                // What the callback wrote before waits.
                Ok(1) | Err(ErrorKind::WouldBlock) => say("now or never"),
                other => say(other),
            }
        }),
        ["\"now or never\"", "Err(NotConnected)", "\"now or never\""],
    ),
    row(
        "Transport::try_read",
        Act::Transport(|_, transport| {
            let taken = transport.try_read(&mut [0]).map_err(|error| error.kind());
            match taken {
                Ok(_) | Err(ErrorKind::WouldBlock) => say("now or never"),
                other => say(other),
            }
        }),
        ["\"now or never\"", "Err(NotConnected)", "\"now or never\""],
    ),
    row(
        "Transport::session_number",
        Act::Transport(|_, transport| say(transport.session_number() > 0)),
        ["true", "true", "true"],
    ),
    row(
        "Transport::write_sequence",
        Act::Transport(|_, transport| say(transport.write_sequence(["x", "y"]))),
        ["()", "()", "()"],
    ),
    row(
        "Transport::register_producer",
        Act::Transport(|_, transport| {
            let registered = transport.register_producer(Idle, Streaming::Push);
            transport.unregister_producer();
            say(registered)
        }),
        ["Ok(())", "Ok(())", "Ok(())"],
    ),
    row(
        "Transport::unregister_producer",
        Act::Transport(|_, transport| say(transport.unregister_producer())),
        ["()", "()", "()"],
    ),
    row(
        "FileSender::new",
        Act::Transport(|_, transport| looked(quiet(empty_file().send(transport).map(drop)))),
        ["looked", "looked", "looked"],
    ),
    row(
        "FileSender::send",
        Act::Transport(|_, transport| looked(quiet(empty_file().send(transport).map(drop)))),
        ["looked", "looked", "looked"],
    ),
    row(
        "FileSender::part",
        Act::Transport(|_, _| looked(empty_file().part(0, 0))),
        ["looked", "looked", "looked"],
    ),
    row(
        "FileSender::transform",
        Act::Transport(|_, _| looked(empty_file().transform(|chunk| chunk.to_vec()))),
        ["looked", "looked", "looked"],
    ),
    row(
        "Transport::write_paused",
        Act::Transport(|_, transport| {
            transport.write_paused(|_, _| {});
            say(transport.write_resumed(|_, _| {}))
        }),
        ["()", "()", "()"],
    ),
    row(
        "Transport::write_resumed",
        Act::Transport(|_, transport| say(transport.write_resumed(|_, _| {}))),
        ["()", "()", "()"],
    ),
    row(
        "Transport::downgrade",
        Act::Transport(|_, transport| is_some(transport.downgrade().upgrade())),
        ["true", "true", "true"],
    ),
    row(
        "WeakTransport::upgrade",
        Act::Transport(|_, transport| is_some(transport.downgrade().upgrade())),
        ["true", "true", "true"],
    ),
    row(
        "ConnectionLimits::count",
        Act::Transport(|_, transport| {
            let (limits, accepted) = (ConnectionLimits::new(1), Rc::new(Cell::new(0)));
            let note = Rc::clone(&accepted);
            let acceptor = limits.acceptor(Rc::new(move |stream: Rc<dyn Stream>| {
                note.set(note.get() + 1);
                stream.abort_connection(ConnectionLost::Aborted);
            }));
            for _ in 0..2 {
                acceptor.accept(MemoryStream::new(&transport.reactor()));
            }
            // The first is being lost, and has its place until it is.
            say((accepted.get(), limits.count()))
        }),
        ["(1, 1)", "(1, 1)", "(1, 1)"],
    ),
    row(
        "ConnectionLimits::count_of",
        Act::Transport(|_, transport| say(ConnectionLimits::new(1).count_of(&transport.peer()))),
        ["0", "0", "0"],
    ),
    row(
        "IdleTimeout::set_timeout",
        Act::Transport(|_, transport| {
            say(IdleTimeout::default().set_timeout(transport, Some(SOON)))
        }),
        ["None", "None", "None"],
    ),
    row(
        "IdleTimeout::set_timeout_calling",
        Act::Transport(|_, transport| {
            let idle = IdleTimeout::default();
            idle.set_timeout_calling(transport, Some(FAR), |_, _| {});
            say(idle.set_timeout_calling(transport, None, |_, _| {}))
        }),
        ["Some(3600s)", "Some(3600s)", "Some(3600s)"],
    ),
    row(
        "IdleTimeout::reset_timeout",
        Act::Transport(|_, transport| {
            let idle = IdleTimeout::default();
            idle.set_timeout(transport, Some(FAR));
            say(idle.reset_timeout())
        }),
        [NONE, NONE, NONE],
    ),
    row(
        "IdleTimeout::timeout",
        Act::Transport(|_, transport| {
            let idle = IdleTimeout::default();
            idle.set_timeout(transport, Some(FAR));
            say(idle.timeout())
        }),
        ["Some(3600s)", "Some(3600s)", "Some(3600s)"],
    ),
    row(
        "task::tunnel",
        Act::Transport(|_, transport| {
            let stream = MemoryStream::new(&transport.reactor());
            let other = MemoryStream::new(&transport.reactor());
            looked(quiet(tunnel(stream, other).map(drop)))
        }),
        ["looked", "looked", "looked"],
    ),
    row(
        "task::tunnel_with_timeout",
        Act::Transport(|_, transport| {
            let stream = MemoryStream::new(&transport.reactor());
            let other = MemoryStream::new(&transport.reactor());
            looked(quiet(tunnel_with_timeout(stream, other, FAR).map(drop)))
        }),
        ["looked", "looked", "looked"],
    ),
    row(
        "Transport::lose_connection",
        Act::Transport(|_, transport| {
            transport.lose_connection();
            say(transport.is_connected())
        }),
        ["false", "false", "false"],
    ),
    row(
        "Transport::lose_connection_because",
        Act::Transport(|_, transport| {
            transport.lose_connection_because(ConnectionLost::Done);
            say(transport.is_connected())
        }),
        ["false", "false", "false"],
    ),
    row(
        "Transport::abort_connection",
        Act::Transport(|_, transport| {
            transport.abort_connection();
            say(transport.is_connected())
        }),
        ["false", "false", "false"],
    ),
    row(
        "Transport::lose_write_connection",
        Act::Transport(|_, transport| say(transport.lose_write_connection())),
        ["()", "()", "()"],
    ),
    row(
        "Transport::pause_reading",
        Act::Transport(|_, transport| say(transport.pause_reading())),
        ["()", "()", "()"],
    ),
    row(
        "Transport::resume_reading",
        Act::Transport(|_, transport| say(transport.resume_reading())),
        ["()", "()", "()"],
    ),
    row(
        "Transport::is_connected",
        Act::Transport(|_, transport| say(transport.is_connected())),
        ["true", "false", "true"],
    ),
    row(
        "Transport::unsent",
        Act::Transport(|_, transport| looked(transport.unsent())),
        ["looked", "looked", "looked"],
    ),
    row(
        "Transport::is_congested",
        Act::Transport(|_, transport| looked(transport.is_congested())),
        ["looked", "looked", "looked"],
    ),
    row(
        "Transport::set_throttled",
        Act::Transport(|_, transport| say(transport.set_throttled(false))),
        ["()", "()", "()"],
    ),
    row(
        "Transport::flush",
        Act::Transport(|_, transport| {
            let flushed = transport.flush();
            looked(quiet(flushed))
        }),
        ["looked", "looked", "looked"],
    ),
    row(
        "Transport::drain",
        Act::Transport(|_, transport| {
            let drained = transport.drain();
            looked(quiet(drained))
        }),
        ["looked", "looked", "looked"],
    ),
    row(
        "Transport::limits",
        Act::Transport(|_, transport| looked(transport.limits())),
        ["looked", "looked", "looked"],
    ),
    row(
        "Transport::set_limits",
        Act::Transport(|_, transport| say(transport.set_limits(Limits::default()))),
        ["()", "()", "()"],
    ),
    row(
        "Transport::set_option",
        Act::Transport(|_, transport| {
            say(transport.set_option(SocketOption::NoDelay(true)).is_ok())
        }),
        ["true", "false", "true"],
    ),
    row(
        "Transport::set_nodelay",
        Act::Transport(|_, transport| say(transport.set_nodelay(true))),
        ["()", "()", "()"],
    ),
    row(
        "Transport::set_background",
        Act::Transport(|_, transport| say(transport.set_background(false))),
        ["()", "()", "()"],
    ),
    row(
        "Transport::peer",
        Act::Transport(|_, transport| say(transport.peer().port().is_some())),
        ["true", "true", "true"],
    ),
    row(
        "Transport::host",
        Act::Transport(|_, transport| say(transport.host().port().is_some())),
        ["true", "true", "true"],
    ),
    row(
        "Transport::reactor",
        Act::Transport(|_, transport| looked(transport.reactor())),
        ["looked", "looked", "looked"],
    ),
    row(
        "Transport::stream",
        Act::Transport(|_, transport| say(transport.stream().is_connected())),
        ["true", "false", "true"],
    ),
    row(
        "Transport::call",
        Act::Transport(|world, transport| {
            let comes = world.comes();
            say(transport.call(move |_, _| comes()))
        }),
        ["(); at once", "(); silent", "(); called"],
    ),
    row(
        "Transport::when",
        Act::Transport(|world, transport| {
            let comes = world.comes();
            say(transport.when(succeed::<_, Failure>(()), move |_, _, _| comes()))
        }),
        ["(); at once", "(); silent", "(); called"],
    ),
    row(
        "Transport::visit",
        Act::Transport(|world, transport| {
            let comes = world.comes();
            visited(transport.visit(move |_, _| comes()))
        }),
        ["made; at once", "over; silent", "busy; silent"],
    ),
    row(
        "Transport::leave",
        Act::Transport(|world, transport| {
            let comes = world.comes();
            say(transport.leave(move |_| comes()))
        }),
        ["(); at once", "(); silent", "(); called"],
    ),
];

fn visited<F>(visited: Visited<F>) -> String {
    match visited {
        Visited::Made => "made",
        Visited::Over => "over",
        Visited::Busy(_) => "busy",
    }
    .into()
}

struct Idle;

impl Producer for Idle {
    fn pause_producing(&mut self) {}
    fn resume_producing(&mut self) {}
    fn stop_producing(&mut self) {}
}
