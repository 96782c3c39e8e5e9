//! Sending a file without reading it into memory.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::net;

use crate::sys::signals;

/// The most that one call sends: the kernel reads from the disk meanwhile.
const PART_MAX: usize = 512 * 1024;
/// What is read at once from a file that the kernel cannot send by itself.
const COPY_SIZE: usize = 32 * 1024;

/// Sends from `file` what the socket takes, at most `length` bytes from `offset` on; 0
/// where the file ends.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    file: BorrowedFd<'_>,
    mut offset: u64,
    length: u64,
) -> io::Result<usize> {
    let count = usize::try_from(length).unwrap_or(usize::MAX).min(PART_MAX);
    // `sendfile` has no flag like `MSG_NOSIGNAL`. Rust's programs ignore the signal from their
    // start; in a host of another language it may be deadly.
    if signals::is_default(libc::SIGPIPE) {
        return copy(socket, file, offset, count);
    }
    match rustix::fs::sendfile(socket, file, Some(&mut offset), count) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => copy(socket, file, offset, count),
        outcome => Ok(outcome?),
    }
}

/// The same by way of memory. What the socket does not take is read again later.
fn copy(
    socket: BorrowedFd<'_>,
    file: BorrowedFd<'_>,
    offset: u64,
    count: usize,
) -> io::Result<usize> {
    let mut buffer = vec![0; count.min(COPY_SIZE)];
    let read = rustix::io::pread(file, &mut buffer[..], offset)?;
    if read == 0 {
        return Ok(0);
    }
    Ok(net::send(
        socket,
        &buffer[..read],
        net::SendFlags::NOSIGNAL,
    )?)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn what_the_kernel_sends_and_what_goes_through_memory_are_the_same_bytes() {
        let mut path = std::env::temp_dir();
        path.push(format!("torsade-send-file-{}", std::process::id()));
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .expect("there is room");
        std::fs::remove_file(&path).expect("it was just made");
        file.write_all(b"0123456789").expect("there is room");
        let (ours, mut theirs) = UnixStream::pair().expect("there are descriptors");
        for way in [send_all, copy_all] {
            let sent = way(ours.as_fd(), file.as_fd(), 3, 4).expect("it is open");
            assert_eq!(sent, 4);
            let mut received = [0; 4];
            theirs.read_exact(&mut received).expect("it was sent");
            assert_eq!(&received, b"3456");
            assert_eq!(way(ours.as_fd(), file.as_fd(), 8, 4).expect("two"), 2);
            theirs.read_exact(&mut received[..2]).expect("it was sent");
            assert_eq!(way(ours.as_fd(), file.as_fd(), 10, 4).expect("the end"), 0);
        }
    }

    fn send_all(
        to: BorrowedFd<'_>,
        from: BorrowedFd<'_>,
        at: u64,
        count: u64,
    ) -> io::Result<usize> {
        send(to, from, at, count)
    }

    fn copy_all(
        to: BorrowedFd<'_>,
        from: BorrowedFd<'_>,
        at: u64,
        count: u64,
    ) -> io::Result<usize> {
        copy(to, from, at, count as usize)
    }
}
