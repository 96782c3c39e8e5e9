//! How much of what a socket sent is still on its way.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The bytes in the socket's send queue that the peer has not acknowledged
/// (`SIOCOUTQ`, tcp(7)); for a UNIX socket, that the peer has not read.
pub(crate) fn unacknowledged(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: the descriptor is open for as long as it is borrowed, and TIOCOUTQ (the
    // number that SIOCOUTQ is an alias of) writes one `int` to the address it is given,
    // which is that of a live `c_int`.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(usize::try_from(count).unwrap_or(0))
}
