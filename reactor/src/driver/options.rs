//! The options of the operating system's sockets.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::net::{AddressFamily, sockopt};

use crate::sockets::{KeepAlive, SocketOption};
use crate::sys;

/// Sets an option. TCP's fail with `Unsupported` on every other socket.
pub(super) fn set(fd: BorrowedFd<'_>, option: &SocketOption) -> io::Result<()> {
    match option {
        SocketOption::ResetOnClose(on) => {
            sockopt::set_socket_linger(fd, on.then_some(Duration::ZERO))?
        }
        SocketOption::SendBuffer(bytes) => sockopt::set_socket_send_buffer_size(fd, *bytes)?,
        SocketOption::ReceiveBuffer(bytes) => sockopt::set_socket_recv_buffer_size(fd, *bytes)?,
        SocketOption::NoDelay(on) => {
            ip_family(fd)?;
            sockopt::set_tcp_nodelay(fd, *on)?;
        }
        SocketOption::KeepAlive(keep_alive) => {
            ip_family(fd)?;
            set_keep_alive(fd, *keep_alive)?;
        }
        SocketOption::QuickAck(on) => {
            ip_family(fd)?;
            sockopt::set_tcp_quickack(fd, *on)?;
        }
        // An IPv6 socket may have an IPv4 peer, so it has both settings.
        SocketOption::TimeToLive(hops) => {
            if ip_family(fd)? == AddressFamily::INET6 {
                sockopt::set_ipv6_unicast_hops(fd, Some(*hops))?;
            }
            sockopt::set_ip_ttl(fd, u32::from(*hops))?;
        }
        SocketOption::TrafficClass(class) => {
            if ip_family(fd)? == AddressFamily::INET6 {
                sockopt::set_ipv6_tclass(fd, u32::from(*class))?;
            }
            sockopt::set_ip_tos(fd, *class)?;
        }
        SocketOption::Device(name) => {
            ip_family(fd)?;
            sys::device::bind(fd, name.as_deref().unwrap_or(""))?;
        }
    }
    Ok(())
}

fn set_keep_alive(fd: BorrowedFd<'_>, keep_alive: Option<KeepAlive>) -> io::Result<()> {
    if let Some(KeepAlive {
        idle,
        interval,
        count,
    }) = keep_alive
    {
        // The times first: switched on with the system's own, it would ask at the wrong ones.
        sockopt::set_tcp_keepidle(fd, idle)?;
        sockopt::set_tcp_keepintvl(fd, interval)?;
        sockopt::set_tcp_keepcnt(fd, count)?;
    }
    Ok(sockopt::set_socket_keepalive(fd, keep_alive.is_some())?)
}

pub(super) fn nodelay(fd: BorrowedFd<'_>) -> io::Result<bool> {
    ip_family(fd)?;
    Ok(sockopt::tcp_nodelay(fd)?)
}

pub(super) fn keep_alive(fd: BorrowedFd<'_>) -> io::Result<Option<KeepAlive>> {
    ip_family(fd)?;
    if !sockopt::socket_keepalive(fd)? {
        return Ok(None);
    }
    Ok(Some(KeepAlive {
        idle: sockopt::tcp_keepidle(fd)?,
        interval: sockopt::tcp_keepintvl(fd)?,
        count: sockopt::tcp_keepcnt(fd)?,
    }))
}

pub(super) fn buffer_sizes(fd: BorrowedFd<'_>) -> io::Result<(usize, usize)> {
    Ok((
        sockopt::socket_send_buffer_size(fd)?,
        sockopt::socket_recv_buffer_size(fd)?,
    ))
}

/// IPv4 or IPv6; `Unsupported` for any other.
fn ip_family(fd: BorrowedFd<'_>) -> io::Result<AddressFamily> {
    match sockopt::socket_domain(fd)? {
        family @ (AddressFamily::INET | AddressFamily::INET6) => Ok(family),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}
