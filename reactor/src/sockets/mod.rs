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
pub(crate) use self::connector::connect;
pub use self::options::{ConnectOptions, KeepAlive, ListenOptions, SocketOption};
pub use self::port::Port;
pub(crate) use self::port::{accept_on, listen_error, listen_on, listen_tcp};
