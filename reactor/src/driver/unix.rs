//! The operating system's UNIX sockets: files that appear and go, descriptors that travel.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, ioctl_fionread};
use rustix::net::{self, AddressFamily, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType};

use crate::address::{Address, UnixAddress};
use crate::driver::{AnySocket, ListeningSocket, Received, StreamSocket, options, tcp};
use crate::slab::Token;
use crate::sockets::{ConnectOptions, ListenOptions, SocketOption};
use crate::sys::poller::{Poller, Watched};
use crate::sys::{credentials, queue, send_file};
use crate::unix::PeerCredentials;

/// The most descriptors that one message can carry (`SCM_MAX_FD`, unix(7)).
const DESCRIPTORS_PER_MESSAGE: usize = 253;
/// As many as a sender of ours puts into one message.
const DESCRIPTORS_SENT_AT_ONCE: usize = 64;
/// How often a folder's lock is tried for, before we go on without.
const LOCK_TRIES: usize = 1000;

pub(super) fn listen(
    poller: &Rc<Poller>,
    address: &UnixAddress,
    asked_for: &ListenOptions,
) -> io::Result<UnixListening> {
    let fd = stream_socket()?;
    asked_for
        .options
        .iter()
        .try_for_each(|option| options::set(fd.as_fd(), option))?;
    let name = system_address(address)?;
    let backlog = i32::try_from(asked_for.backlog).unwrap_or(i32::MAX);
    let file = match address {
        UnixAddress::Path(path) => {
            // Until it listens, a socket looks stale to whoever comes at the same time.
            let _locked = lock_folder_of(path);
            bind_to_file(fd.as_fd(), path, &name)?;
            let file = SocketFile::at(path)?;
            if let Err(error) = open_up(&fd, path, asked_for.mode, backlog) {
                file.remove_locked();
                return Err(error);
            }
            Some(file)
        }
        _ => {
            net::bind(&fd, &name)?;
            net::listen(&fd, backlog)?;
            None
        }
    };
    Ok(UnixListening {
        watched: Watched::new(fd, Rc::clone(poller)),
        address: address.clone(),
        file,
    })
}

fn open_up(fd: &OwnedFd, path: &Path, mode: Option<u32>, backlog: i32) -> io::Result<()> {
    if let Some(bits) = mode {
        fs::set_permissions(path, fs::Permissions::from_mode(bits))?;
    }
    Ok(net::listen(fd, backlog)?)
}

pub(super) fn connect(
    poller: &Rc<Poller>,
    peer: &UnixAddress,
    asked_for: &ConnectOptions,
) -> io::Result<UnixSocket> {
    let fd = stream_socket()?;
    asked_for
        .options
        .iter()
        .try_for_each(|option| options::set(fd.as_fd(), option))?;
    let name = system_address(peer)?;
    loop {
        match net::connect(&fd, &name) {
            Ok(()) | Err(Errno::ISCONN) => return Ok(UnixSocket::connecting(poller, fd)),
            Err(Errno::INTR) => {}
            // It would not be told when there is room.
            Err(Errno::AGAIN) => {
                return Err(io::Error::new(
                    io::ErrorKind::ResourceBusy,
                    "too many connections wait there to be accepted",
                ));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn stream_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    Ok(net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        flags,
        None,
    )?)
}

pub(super) fn system_address(address: &UnixAddress) -> io::Result<SocketAddrUnix> {
    Ok(match address {
        UnixAddress::Path(path) => SocketAddrUnix::new(path)?,
        UnixAddress::Abstract(name) => SocketAddrUnix::new_abstract_name(name)?,
        UnixAddress::Unnamed => return Err(io::ErrorKind::AddrNotAvailable.into()),
    })
}

pub(super) fn our_address(address: SocketAddrAny) -> io::Result<UnixAddress> {
    let address = SocketAddrUnix::try_from(address)?;
    if let Some(name) = address.abstract_name().filter(|name| !name.is_empty()) {
        return Ok(UnixAddress::Abstract(name.into()));
    }
    Ok(match address.path_bytes() {
        Some(path) if !path.is_empty() => {
            UnixAddress::Path(PathBuf::from(OsString::from_vec(path.to_vec())))
        }
        _ => UnixAddress::Unnamed,
    })
}

/// Makes the socket's file; one that is left of a server that is gone gives way.
pub(super) fn bind_to_file(
    fd: BorrowedFd<'_>,
    path: &Path,
    name: &SocketAddrUnix,
) -> io::Result<()> {
    match net::bind(fd, name) {
        Err(Errno::ADDRINUSE) if is_stale(path, name)? => {}
        outcome => return Ok(outcome?),
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(net::bind(fd, name)?),
    }
}

/// Whether a socket's file is there and nobody listens.
fn is_stale(path: &Path, name: &SocketAddrUnix) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
        Ok(_) => {}
    }
    // Not one for streams: whoever listens would be asked to accept it.
    let flags = SocketFlags::CLOEXEC;
    let probe = net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    Ok(matches!(
        net::connect(&probe, name),
        Err(Errno::CONNREFUSED | Errno::NOENT)
    ))
}

/// Keeps others like us from making or removing sockets in the folder of `path`: two that
/// find a stale one must not remove each other's new one. Without, if the folder cannot be
/// locked or somebody keeps its lock: nothing waits for strangers.
pub(super) fn lock_folder_of(path: &Path) -> Option<File> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let folder = File::open(folder).ok()?;
    for _ in 0..LOCK_TRIES {
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Some(folder),
            Err(Errno::WOULDBLOCK | Errno::INTR) => std::thread::yield_now(),
            Err(_) => return None,
        }
    }
    None
}

/// The file of a socket that we made.
pub(super) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        let found = fs::symlink_metadata(path)?;
        // Absolute: the process may go to another folder meanwhile.
        let path = std::path::absolute(path)?;
        Ok(Self {
            path,
            device: found.dev(),
            inode: found.ino(),
        })
    }

    /// Removes the file, if it is this one still. To be called while the socket is open:
    /// until it is closed, no other file gets its number.
    pub(super) fn remove(&self) {
        let _locked = lock_folder_of(&self.path);
        self.remove_locked();
    }

    /// The same, for who has locked the folder.
    pub(super) fn remove_locked(&self) {
        let is_ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode));
        if is_ours && let Err(error) = fs::remove_file(&self.path) {
            let path = self.path.display();
            tracing::warn!(target: "torsade", %path, %error, "the file of a UNIX socket stays behind");
        }
    }
}

pub(super) struct UnixListening {
    watched: Watched,
    address: UnixAddress,
    /// The file to remove at the end. `None` for an abstract name, and for a socket that
    /// somebody else made.
    file: Option<SocketFile>,
}

impl UnixListening {
    /// A socket that somebody else made, and whose file stays.
    pub(super) fn adopted(poller: &Rc<Poller>, fd: OwnedFd, address: UnixAddress) -> Self {
        Self {
            watched: Watched::adopted(fd, Rc::clone(poller)),
            address,
            file: None,
        }
    }
}

impl Drop for UnixListening {
    fn drop(&mut self) {
        // Order: before the socket is closed, which is when `watched` is dropped.
        if let Some(file) = &self.file {
            file.remove();
        }
    }
}

impl ListeningSocket for UnixListening {
    fn address(&self) -> Address {
        self.address.clone().into()
    }

    fn watch(&self, token: Token) -> io::Result<()> {
        self.watched.watch(token)
    }

    fn accept(&self) -> io::Result<(AnySocket, Address)> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (fd, peer) = net::acceptfrom_with(&self.watched, flags)?;
        let peer = match peer {
            Some(peer) => our_address(peer)?,
            None => UnixAddress::Unnamed,
        };
        let socket = UnixSocket::accepted(self.watched.poller(), fd);
        Ok((AnySocket::other(socket), peer.into()))
    }
}

/// A stream. Linux tells whoever is watched for room to send of each message that the peer has
/// read, be there room before or not (TCP only tells who was refused): one sleep more for each. So
/// that is watched for no longer than somebody waits for it.
pub(super) struct UnixSocket {
    watched: Watched,
    /// That it can be written to is how it is told that it is connected.
    connects: bool,
    /// `None` unless somebody takes descriptors, as most do not.
    descriptors: RefCell<Option<Box<Unclaimed>>>,
}

/// Descriptors that have come, and nobody has claimed yet.
struct Unclaimed {
    queue: VecDeque<OwnedFd>,
    limit: usize,
}

impl UnixSocket {
    fn accepted(poller: &Rc<Poller>, fd: OwnedFd) -> Self {
        Self::over(Watched::new(fd, Rc::clone(poller)), false)
    }

    pub(super) fn adopted(poller: &Rc<Poller>, fd: OwnedFd) -> Self {
        Self::over(Watched::adopted(fd, Rc::clone(poller)), false)
    }

    fn connecting(poller: &Rc<Poller>, fd: OwnedFd) -> Self {
        Self::over(Watched::new(fd, Rc::clone(poller)), true)
    }

    fn over(watched: Watched, connects: bool) -> Self {
        Self {
            watched,
            connects,
            descriptors: RefCell::default(),
        }
    }

    /// Reads, and keeps the descriptors that come along.
    fn read_with_descriptors(
        &self,
        buffer: &mut [u8],
        unclaimed: &mut Unclaimed,
    ) -> io::Result<Received> {
        let mut space =
            [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_PER_MESSAGE))];
        let mut control = net::RecvAncillaryBuffer::new(&mut space);
        let message = net::recvmsg(
            &self.watched,
            &mut [io::IoSliceMut::new(buffer)],
            &mut control,
            net::RecvFlags::CMSG_CLOEXEC,
        )?;
        let before = unclaimed.queue.len();
        for part in control.drain() {
            if let net::RecvAncillaryMessage::ScmRights(descriptors) = part {
                unclaimed.queue.extend(descriptors);
            }
        }
        if message.flags.contains(net::ReturnFlags::CTRUNC) {
            // The kernel found no room for some of them, in this process's table.
            return Err(Errno::MFILE.into());
        }
        if unclaimed.queue.len() > unclaimed.limit {
            let limit = unclaimed.limit;
            unclaimed.queue.truncate(limit);
            return Err(io::Error::new(
                io::ErrorKind::QuotaExceeded,
                format!("more than {limit} descriptors have come and were not taken"),
            ));
        }
        Ok(Received {
            count: message.bytes,
            is_cut: unclaimed.queue.len() > before,
        })
    }
}

impl StreamSocket for UnixSocket {
    fn watch(&self, token: Token) -> io::Result<()> {
        if self.connects {
            self.watched.watch(token)
        } else {
            self.watched.watch_without_room(token)
        }
    }

    fn watch_room(&self, token: Token, on: bool) -> io::Result<bool> {
        self.watched.watch_room(token, on)?;
        Ok(true)
    }

    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.receive(buffer).map(|received| received.count)
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        if let Some(unclaimed) = self.descriptors.borrow_mut().as_mut() {
            return self.read_with_descriptors(buffer, unclaimed);
        }
        // Descriptors that nobody wants are closed by the kernel, which says so. It never
        // gives more than one message that had some.
        let message = net::recvmsg(
            &self.watched,
            &mut [io::IoSliceMut::new(buffer)],
            &mut net::RecvAncillaryBuffer::default(),
            net::RecvFlags::empty(),
        )?;
        Ok(Received {
            count: message.bytes,
            is_cut: message.flags.contains(net::ReturnFlags::CTRUNC),
        })
    }

    fn write(&self, data: &[u8]) -> io::Result<usize> {
        Ok(net::send(&self.watched, data, net::SendFlags::NOSIGNAL)?)
    }

    fn write_two(&self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        let parts = [io::IoSlice::new(first), io::IoSlice::new(second)];
        Ok(net::sendmsg(
            &self.watched,
            &parts,
            &mut net::SendAncillaryBuffer::default(),
            net::SendFlags::NOSIGNAL,
        )?)
    }

    fn takes_files(&self) -> bool {
        true
    }

    fn write_file(&self, file: &File, offset: u64, length: u64) -> io::Result<usize> {
        send_file::send(self.watched.as_fd(), file.as_fd(), offset, length)
    }

    fn takes_descriptors(&self) -> bool {
        true
    }

    fn write_with_descriptors(
        &self,
        data: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<usize> {
        let mut space =
            [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_SENT_AT_ONCE))];
        let mut control = net::SendAncillaryBuffer::new(&mut space);
        let fits = control.push(net::SendAncillaryMessage::ScmRights(descriptors));
        debug_assert!(fits, "no more than 64 are queued");
        Ok(net::sendmsg(
            &self.watched,
            &[io::IoSlice::new(data)],
            &mut control,
            net::SendFlags::NOSIGNAL,
        )?)
    }

    fn accept_descriptors(&self, unclaimed_max: usize) -> io::Result<()> {
        let mut descriptors = self.descriptors.borrow_mut();
        if let Some(unclaimed) = descriptors.as_mut() {
            unclaimed.limit = unclaimed_max;
        } else {
            *descriptors = Some(Box::new(Unclaimed {
                queue: VecDeque::new(),
                limit: unclaimed_max,
            }));
        }
        Ok(())
    }

    fn take_descriptor(&self) -> Option<OwnedFd> {
        self.descriptors.borrow_mut().as_mut()?.queue.pop_front()
    }

    fn refuse_descriptors(&self) {
        self.descriptors.take();
    }

    fn peer_credentials(&self) -> io::Result<PeerCredentials> {
        credentials::of_peer(self.watched.as_fd())
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        Ok(net::shutdown(&self.watched, tcp::direction(how))?)
    }

    fn is_shared(&self) -> bool {
        self.watched.is_shared()
    }

    /// A UNIX socket knows no reset: its peer sees an end.
    fn reset_on_drop(&self) {}

    fn is_delivered(&self) -> bool {
        // A socket that is closed with something unread resets the connection, and what the
        // peer has not read of ours is lost to it.
        queue::unacknowledged(self.watched.as_fd()).is_ok_and(|bytes| bytes == 0)
            && ioctl_fionread(&self.watched).is_ok_and(|bytes| bytes == 0)
    }

    fn unacknowledged(&self) -> io::Result<usize> {
        queue::unacknowledged(self.watched.as_fd())
    }

    fn take_error(&self) -> io::Result<()> {
        tcp::connect_outcome(&self.watched)
    }

    fn local_address(&self) -> io::Result<Address> {
        Ok(our_address(net::getsockname(&self.watched)?)?.into())
    }

    fn set_option(&self, option: &SocketOption) -> io::Result<()> {
        options::set(self.watched.as_fd(), option)
    }

    fn buffer_sizes(&self) -> io::Result<(usize, usize)> {
        options::buffer_sizes(self.watched.as_fd())
    }

    fn duplicate(&self) -> io::Result<OwnedFd> {
        self.watched.duplicate()
    }
}
