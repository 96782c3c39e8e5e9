//! Sockets: ports that listen, attempts that connect, connections.
//!
//! Everything here speaks to a [`Driver`](crate::driver::Driver)'s sockets, never to
//! the system's; it is the same in every world.

mod connection;
mod connector;
mod linger;
mod options;
mod port;

pub(crate) use self::connection::Connection;
pub(crate) use self::connector::connect_tcp;
pub use self::options::{ConnectOptions, KeepAlive, ListenOptions, SocketOption};
pub use self::port::Port;
#[allow(unused_imports, reason = "endpoints listen by it")]
pub(crate) use self::port::{listen_on, listen_tcp};
