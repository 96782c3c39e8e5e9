//! Echo on calloop: a `Generic` source for the listener and for each connection.

use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;

use calloop::generic::Generic;
use calloop::{EventLoop, Interest, LoopHandle, Mode, PostAction, RegistrationToken};

struct Server {
    handle: LoopHandle<'static, Server>,
    buffer: Vec<u8>,
}

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result {
    let mut event_loop = EventLoop::try_new()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    println!("{}", listener.local_addr()?);
    let handle = event_loop.handle();
    let accepting = Generic::new(listener, Interest::READ, Mode::Level);
    handle.insert_source(accepting, |_, listener, server: &mut Server| {
        loop {
            match listener.accept() {
                Ok((stream, _)) => serve(&server.handle, stream)?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(PostAction::Continue)
    })?;
    let mut server = Server {
        handle,
        buffer: vec![0; 64 * 1024 + 256],
    };
    event_loop.run(None, &mut server, |_| ())?;
    Ok(())
}

fn serve(handle: &LoopHandle<'static, Server>, stream: TcpStream) -> std::io::Result<()> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    let token: Rc<RefCell<Option<RegistrationToken>>> = Rc::default();
    let own = Rc::clone(&token);
    let source = Generic::new(stream, Interest::READ, Mode::Level);
    let inserted = handle.insert_source(source, move |_, stream, server| {
        // SAFETY: the descriptor is read and written here, and neither dropped nor replaced.
        let stream = unsafe { stream.get_mut() };
        let count = match stream.read(&mut server.buffer) {
            Ok(0) => return Ok(PostAction::Remove),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(PostAction::Continue),
            Err(_) => return Ok(PostAction::Remove),
        };
        let sent = match stream.write(&server.buffer[..count]) {
            Ok(sent) => sent,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(_) => return Ok(PostAction::Remove),
        };
        if sent == count {
            return Ok(PostAction::Continue);
        }
        // The peer is slow: nothing is read until it has the rest.
        let (rest, writer) = (server.buffer[sent..count].to_vec(), stream.try_clone()?);
        let reader = own
            .borrow()
            .expect("it was set when the source was inserted");
        flush(&server.handle, writer, rest, reader)?;
        Ok(PostAction::Disable)
    });
    token.replace(Some(
        inserted
            .map_err(|error| error.error)
            .map_err(std::io::Error::other)?,
    ));
    Ok(())
}

/// Sends the rest, and then has the reader go on.
fn flush(
    handle: &LoopHandle<'static, Server>,
    writer: TcpStream,
    mut rest: Vec<u8>,
    reader: RegistrationToken,
) -> std::io::Result<()> {
    let source = Generic::new(writer, Interest::WRITE, Mode::Level);
    let inserted = handle.insert_source(source, move |_, writer, server| {
        // SAFETY: the descriptor is written, and neither dropped nor replaced.
        match unsafe { writer.get_mut() }.write(&rest) {
            Ok(sent) => drop(rest.drain(..sent)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => rest.clear(),
        }
        if rest.is_empty() {
            server
                .handle
                .enable(&reader)
                .map_err(std::io::Error::other)?;
            return Ok(PostAction::Remove);
        }
        Ok(PostAction::Continue)
    });
    inserted.map_err(|error| std::io::Error::other(error.error))?;
    Ok(())
}
