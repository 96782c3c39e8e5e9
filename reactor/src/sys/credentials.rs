//! Who is at the other end of a UNIX socket.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::unix::PeerCredentials;

/// Asks the system (`SO_PEERCRED`, unix(7)): what was true when the peer connected or began
/// to listen.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn of_peer(socket: BorrowedFd<'_>) -> io::Result<PeerCredentials> {
    // (`rustix` would make a `Pid` of the process id, which must not be 0. It is 0 for a peer
    // of another process namespace.)
    let mut found = libc::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the descriptor is open for as long as it is borrowed; the kernel writes at most
    // `length` bytes to `found`, which has as many and may hold any bytes, and the new length
    // to `length`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut found).cast(),
            &raw mut length,
        )
    };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(PeerCredentials {
        uid: found.uid,
        gid: found.gid,
        pid: u32::try_from(found.pid).ok().filter(|pid| *pid != 0),
    })
}

/// Not asked on other systems yet.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn of_peer(_socket: BorrowedFd<'_>) -> io::Result<PeerCredentials> {
    Err(io::ErrorKind::Unsupported.into())
}
