//! Descriptors that this process began with.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Where those begin that a service manager hands on: sd_listen_fds(3).
const FIRST: libc::c_int = 3;

/// Takes the descriptors from the first on that a service manager handed on. Once in a
/// process: `None` from the second time on.
///
/// # Errors
///
/// One of them is not open; none is taken.
pub(crate) fn take(count: usize) -> Option<io::Result<Vec<OwnedFd>>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return None;
    }
    let numbers = || (FIRST..).take(count);
    Some(numbers().try_for_each(keep_from_children).map(|()| {
        numbers()
            .map(|number| {
                // SAFETY: `keep_from_children` has found it open. The service manager opened
                // it for this process, which its environment says, and nobody else in the
                // process closes it: whoever takes such descriptors does it here, once.
                unsafe { OwnedFd::from_raw_fd(number) }
            })
            .collect()
    }))
}

fn keep_from_children(number: libc::c_int) -> io::Result<()> {
    // SAFETY: FD_CLOEXEC is the one flag of a descriptor, and to set it is harmless whoever
    // owns it; a number that is not open is an error.
    let result = unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
