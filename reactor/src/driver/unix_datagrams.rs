//! The operating system's UNIX sockets for datagrams.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::rc::Rc;

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketAddrAny, SocketAddrUnix};
use rustix::net::{SocketFlags, SocketType};

use crate::address::{Address, UnixAddress};
use crate::driver::unix::{SocketFile, bind_to_file, lock_folder_of, our_address, system_address};
use crate::driver::{DatagramSocket, Watching, options, udp};
use crate::slab::Token;
use crate::sockets::SocketOption;
use crate::sys::poller::{Poller, Watched};
use crate::udp::DatagramOptions;

const IS_LINUX: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// Opens a socket of that name, connected to that peer.
pub(super) fn open(
    poller: &Rc<Poller>,
    host: &UnixAddress,
    peer: Option<&UnixAddress>,
    asked_for: &DatagramOptions,
) -> io::Result<UnixDatagrams> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let fd = net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    let socket = UnixDatagrams::adopted(poller, fd, None);
    asked_for
        .options
        .iter()
        .try_for_each(|option| socket.set_option(option))?;
    // Order: once it has a name, whoever it is not connected to could send there.
    if let Some(peer) = peer {
        socket.connect_to(peer)?;
    }
    let file = socket.bind(host, asked_for.mode)?;
    socket.file.replace(file);
    Ok(socket)
}

pub(super) struct UnixDatagrams {
    watched: Watched,
    peer: RefCell<Option<UnixAddress>>,
    /// The file to remove at the end. `None` for an abstract name or none, and for a socket that
    /// somebody else made.
    file: RefCell<Option<SocketFile>>,
}

impl UnixDatagrams {
    /// A socket that is there already, and whose file stays.
    pub(super) fn adopted(poller: &Rc<Poller>, fd: OwnedFd, peer: Option<UnixAddress>) -> Self {
        Self {
            watched: Watched::new(fd, Rc::clone(poller)),
            peer: RefCell::new(peer),
            file: RefCell::default(),
        }
    }

    fn bind(&self, host: &UnixAddress, mode: Option<u32>) -> io::Result<Option<SocketFile>> {
        let fd = self.watched.as_fd();
        let path = match host {
            UnixAddress::Unnamed => return Ok(None),
            UnixAddress::Abstract(name) => {
                // unix(7): to bind to nothing is to be given a free name.
                let name = match name.is_empty() {
                    true => SocketAddrUnix::new_unnamed(),
                    false => system_address(host)?,
                };
                net::bind(fd, &name)?;
                return Ok(None);
            }
            UnixAddress::Path(path) => path,
        };
        let name = system_address(host)?;
        if let Some(bits) = mode {
            // Linux makes the file with what the socket has of these, less the umask: it is never
            // more open than was asked for. Elsewhere it says no, and that is done below alone.
            let _ = rustix::fs::fchmod(fd, rustix::fs::Mode::from_bits_truncate(bits));
        }
        let _locked = lock_folder_of(path);
        bind_to_file(fd, path, &name)?;
        let file = SocketFile::at(path)?;
        if let Some(bits) = mode
            && let Err(error) = fs::set_permissions(path, fs::Permissions::from_mode(bits))
        {
            file.remove_locked();
            return Err(error);
        }
        Ok(Some(file))
    }

    fn connect_to(&self, peer: &UnixAddress) -> io::Result<()> {
        net::connect(&self.watched, &system_address(peer)?)?;
        self.peer.replace(Some(peer.clone()));
        Ok(())
    }

    fn send_to_peer(&self, data: &[u8]) -> io::Result<()> {
        match net::send(&self.watched, data, SendFlags::NOSIGNAL) {
            // The peer's socket is gone, and with it the connection. Another one may have its name:
            // a service that has started again.
            Err(Errno::CONNREFUSED | Errno::NOTCONN | Errno::DESTADDRREQ) => {
                self.connect_again()?;
                net::send(&self.watched, data, SendFlags::NOSIGNAL)?;
            }
            sent => drop(sent?),
        }
        Ok(())
    }

    fn connect_again(&self) -> io::Result<()> {
        match self.peer.borrow().as_ref() {
            None => Err(Errno::NOTCONN.into()),
            Some(UnixAddress::Unnamed) => Err(Errno::CONNREFUSED.into()),
            Some(peer) => Ok(net::connect(&self.watched, &system_address(peer)?)?),
        }
    }
}

impl DatagramSocket for UnixDatagrams {
    fn watch(&self, token: Token) -> io::Result<Watching> {
        udp::watch(&self.watched, token)
    }

    fn watch_as(&self, token: Token, watching: Watching) -> io::Result<Watching> {
        udp::watch_as(&self.watched, token, watching)
    }

    fn local_address(&self) -> io::Result<Address> {
        Ok(our_address(net::getsockname(&self.watched)?)?.into())
    }

    fn peer(&self) -> Option<Address> {
        self.peer.borrow().clone().map(Address::Unix)
    }

    fn receive(&self, buffer: &mut [u8], from: &mut Address) -> io::Result<usize> {
        let (_, length, sender) = net::recvfrom(&self.watched, buffer, RecvFlags::TRUNC)?;
        note_sender(sender, from)?;
        Ok(length)
    }

    fn send(&self, data: &[u8], to: Option<&Address>) -> io::Result<()> {
        let sent = match to {
            None => self.send_to_peer(data),
            Some(Address::Unix(to)) => {
                let to = system_address(to)?;
                let sent = net::sendto(&self.watched, data, SendFlags::NOSIGNAL, &to);
                sent.map(drop).map_err(Into::into)
            }
            Some(_) => Err(Errno::AFNOSUPPORT.into()),
        };
        sent.map_err(|error| match Errno::from_io_error(&error) {
            // What BSD says where Linux says `AGAIN`.
            Some(Errno::NOBUFS) if !IS_LINUX => Errno::AGAIN.into(),
            _ => error,
        })
    }

    fn tells_of_room(&self, to: Option<&Address>) -> bool {
        // Linux wakes who is connected when the peer has read; nobody else, and BSD nobody.
        to.is_none() && IS_LINUX
    }

    fn connect(&self, peer: Option<&Address>) -> io::Result<()> {
        match peer {
            Some(Address::Unix(peer)) => self.connect_to(peer)?,
            Some(_) => return Err(Errno::AFNOSUPPORT.into()),
            None => {
                net::connect_unspec(&self.watched)?;
                self.peer.replace(None);
            }
        }
        Ok(())
    }

    fn set_option(&self, option: &SocketOption) -> io::Result<()> {
        match option {
            SocketOption::ResetOnClose(_) => Err(io::ErrorKind::Unsupported.into()),
            // Those of IP are refused there.
            _ => options::set(self.watched.as_fd(), option),
        }
    }

    fn buffer_sizes(&self) -> io::Result<(usize, usize)> {
        options::buffer_sizes(self.watched.as_fd())
    }
}

impl Drop for UnixDatagrams {
    fn drop(&mut self) {
        // Order: before the socket is closed, which is when `watched` is dropped.
        if let Some(file) = self.file.take() {
            file.remove();
        }
        // One that was adopted may live on elsewhere: what comes there would end each wait.
        self.watched.unwatch();
    }
}

/// Most datagrams come from whom the one before came from: then there is nothing to do.
fn note_sender(sender: Option<SocketAddrAny>, from: &mut Address) -> io::Result<()> {
    let Some(sender) = sender else {
        if !matches!(from, Address::Unix(UnixAddress::Unnamed)) {
            *from = Address::Unix(UnixAddress::Unnamed);
        }
        return Ok(());
    };
    let name = SocketAddrUnix::try_from(sender.clone())?;
    let is_same = match from {
        Address::Unix(UnixAddress::Path(path)) => {
            name.path_bytes() == Some(path.as_os_str().as_bytes())
        }
        Address::Unix(UnixAddress::Abstract(known)) => name.abstract_name() == Some(&**known),
        _ => false,
    };
    if !is_same {
        *from = our_address(sender)?.into();
    }
    Ok(())
}
