//! The load of `load`: messages there and back over connections, each byte compared.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bench_rounds::{Result, wait};
use rustix::event::epoll;

/// What a server is asked.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub connections: u64,
    /// Bytes of a message.
    pub size: u64,
    /// Messages on their way on each connection.
    pub depth: u64,
    /// In all, if they can be shared out evenly; else a few more.
    pub messages: u64,
}

/// Where it is: all that who runs it hears in between.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stage {
    /// All connections stand.
    Connected,
    /// So many messages are back, and the connections stand.
    Done(u64),
}

struct Client {
    socket: TcpStream,
    /// Bytes sent and received since the beginning: the byte at position `n` is a
    /// function of `n`, so no copy of what was sent is needed.
    sent: u64,
    received: u64,
    /// Bytes that may be sent so far.
    allowed: u64,
}

/// The byte at a position: a pattern whose period is no power of two.
fn byte_at(position: u64) -> u8 {
    (position % 251) as u8
}

/// Has a server answer, and `meanwhile` do what is to be done at each stage.
///
/// # Errors
///
/// A byte that differs, one too many, a connection that ends early; or if no byte comes for `silence_max`
/// though some are due.
pub fn run(
    address: SocketAddr,
    load: Load,
    silence_max: Duration,
    mut meanwhile: impl FnMut(Stage) -> Result<()>,
) -> Result<()> {
    let Load {
        connections,
        size,
        depth,
        messages,
    } = load;
    let each = messages.div_ceil(connections) * size;
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut clients = Vec::with_capacity(connections as usize);
    for index in 0..connections {
        let mut socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(silence_max))?;
        socket.set_nodelay(true)?;
        // No more wait to be accepted than a short queue holds: the system drops who comes then,
        // and tries again a second later. The first byte of some connections is there and back.
        let met = u64::from(index % 50 == 49);
        if met == 1 {
            let mut first = [byte_at(0)];
            socket.write_all(&first)?;
            socket.read_exact(&mut first)?;
            if first != [byte_at(0)] {
                return Err("the first byte came back wrong".into());
            }
        }
        socket.set_nonblocking(true)?;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        epoll::add(&poll, &socket, epoll::EventData::new_u64(index), flags)?;
        clients.push(Client {
            socket,
            sent: met,
            received: met,
            allowed: (size * depth).min(each),
        });
    }
    // Long enough that a window of any position can be cut out of it.
    let pattern: Vec<u8> = (0..(1 << 20) + 251).map(byte_at).collect();
    let mut buffer = vec![0; 1 << 20];
    let mut events = Vec::with_capacity(1024);
    let mut open = connections;
    meanwhile(Stage::Connected)?;
    for client in &mut clients {
        send(client, &pattern)?;
    }
    while open > 0 {
        wait(&poll, &mut events, silence_max)?;
        for event in &events {
            let client = &mut clients[event.data.u64() as usize];
            if client.received == each {
                continue;
            }
            loop {
                match client.socket.read(&mut buffer) {
                    Ok(0) => return Err("the server closed a connection early".into()),
                    Ok(count) => {
                        let start = (client.received % 251) as usize;
                        if buffer[..count] != pattern[start..start + count] {
                            return Err(format!(
                                "wrong bytes after {} on a connection",
                                client.received
                            )
                            .into());
                        }
                        client.received += count as u64;
                        if count < buffer.len() {
                            break;
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error.into()),
                }
            }
            if client.received > client.sent {
                return Err("more came back than was sent".into());
            }
            if client.received == each {
                open -= 1;
                continue;
            }
            // Whole messages that came back allow as many new ones.
            client.allowed = (client.received / size * size + size * depth).min(each);
            send(client, &pattern)?;
        }
    }
    meanwhile(Stage::Done(each / size * connections))
}

fn send(client: &mut Client, pattern: &[u8]) -> Result<()> {
    while client.sent < client.allowed {
        let start = (client.sent % 251) as usize;
        let count = (client.allowed - client.sent).min(1 << 20) as usize;
        match client.socket.write(&pattern[start..start + count]) {
            Ok(count) => client.sent += count as u64,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;
    use std::time::Duration;

    use bench_rounds::SILENCE_MAX;

    use super::{Load, Stage, run};

    /// What a load says of a server that answers by `spoil`, which is told how many bytes have come before on
    /// the connection.
    fn outcome_of(silence_max: Duration, spoil: fn(u64, &mut Vec<u8>)) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let server = thread::spawn(move || {
            let (mut socket, _) = listener.accept().expect("the load comes");
            let (mut before, mut buffer) = (0, [0; 1024]);
            while let Ok(count @ 1..) = socket.read(&mut buffer) {
                let mut answer = buffer[..count].to_vec();
                spoil(before, &mut answer);
                before += count as u64;
                if socket.write_all(&answer).is_err() {
                    return;
                }
            }
        });
        let load = Load {
            connections: 1,
            size: 64,
            depth: 4,
            messages: 100,
        };
        let mut stages = Vec::new();
        let said = run(address, load, silence_max, |stage| {
            stages.push(stage);
            Ok(())
        });
        server.join().expect("it ends when the load does");
        if said.is_ok() {
            assert_eq!(stages, [Stage::Connected, Stage::Done(100)]);
        }
        said.map_err(|why| why.to_string())
    }

    #[test]
    fn a_server_that_gives_back_every_byte_passes() {
        assert_eq!(outcome_of(SILENCE_MAX, |_, _| ()), Ok(()));
    }

    #[test]
    fn a_lost_last_byte_fails_the_run_and_does_not_hang_it() {
        let said = outcome_of(Duration::from_millis(100), |before, answer| {
            if before + answer.len() as u64 == 6400 {
                answer.pop();
            }
        });
        let said = said.expect_err("a byte is missing");
        assert!(said.starts_with("nothing came for 100ms"), "{said}");
    }

    #[test]
    fn a_byte_lost_between_others_fails_the_run() {
        let said = outcome_of(SILENCE_MAX, |before, answer| {
            if before == 0 {
                answer.remove(7);
            }
        });
        assert_eq!(said, Err("wrong bytes after 0 on a connection".to_owned()));
    }

    #[test]
    fn zeros_fail_the_run() {
        let said = outcome_of(SILENCE_MAX, |_, answer| answer.fill(0));
        assert_eq!(said, Err("wrong bytes after 0 on a connection".to_owned()));
    }

    #[test]
    fn a_byte_too_many_fails_the_run() {
        let said = outcome_of(SILENCE_MAX, |before, answer| {
            if before == 0 {
                // As the pattern of the load goes on.
                answer.push((answer.len() % 251) as u8);
            }
        });
        assert!(said.is_err());
    }
}
