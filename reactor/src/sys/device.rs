//! Binding a socket to a network interface.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Has `socket` use the interface of this name alone (`SO_BINDTODEVICE`, socket(7)); any,
/// if the name is empty.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn bind(socket: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    // The kernel would cut a longer one off, and might find another interface by what is left.
    let length = libc::socklen_t::try_from(name.len()).unwrap_or(libc::socklen_t::MAX);
    if name.len() >= libc::IFNAMSIZ {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "no network interface has a name as long as this",
        ));
    }
    // SAFETY: the descriptor is open for as long as it is borrowed, and the kernel reads
    // `length` bytes from the name, which has as many and outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_BINDTODEVICE,
            name.as_ptr().cast(),
            length,
        )
    };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Other systems have no such option.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn bind(_socket: BorrowedFd<'_>, _name: &str) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
