//! A stream socket of whatever driver.

use std::io;
use std::ops::Deref;

use crate::driver::tcp::TcpSocket;
use crate::driver::{Received, StreamSocket};

/// A stream socket. The system's TCP is known by name: most connections have it, and reach it
/// without a pointer to it and one to its methods.
pub(crate) enum AnySocket {
    Tcp(TcpSocket),
    Other(Box<dyn StreamSocket>),
}

impl AnySocket {
    pub(crate) fn other(socket: impl StreamSocket + 'static) -> Self {
        Self::Other(Box::new(socket))
    }

    /// See [`StreamSocket::receive`].
    #[inline]
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        match self {
            Self::Tcp(socket) => socket.receive(buffer),
            Self::Other(socket) => socket.receive(buffer),
        }
    }

    /// See [`StreamSocket::write`].
    #[inline]
    pub(crate) fn write(&self, data: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.write(data),
            Self::Other(socket) => socket.write(data),
        }
    }
}

impl Deref for AnySocket {
    type Target = dyn StreamSocket;

    fn deref(&self) -> &(dyn StreamSocket + 'static) {
        match self {
            Self::Tcp(socket) => socket,
            Self::Other(socket) => &**socket,
        }
    }
}
