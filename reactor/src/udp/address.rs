//! Where a datagram goes, as programs write it.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::address::{Address, AddressError, ToTcpAddress, ToUnixAddress, UnixAddress};

/// What the addresses are that a port sends to: those of the kind of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DatagramFamily {
    /// UDP over IPv4.
    Ipv4,
    /// UDP over IPv6.
    Ipv6,
    /// UNIX sockets.
    Unix,
}

impl DatagramFamily {
    /// Of an address that a datagram can come from.
    pub(crate) fn of(address: &Address) -> Option<Self> {
        match address {
            Address::Udp(SocketAddr::V4(_)) => Some(Self::Ipv4),
            Address::Udp(SocketAddr::V6(_)) => Some(Self::Ipv6),
            Address::Unix(_) => Some(Self::Unix),
            Address::Tcp(_) | Address::Named(_) => None,
        }
    }
}

/// What can be written where a datagram is sent to, or a port is connected to.
///
/// What a text says depends on the port that it is written for: on a UDP port it is an IP address and a
/// port, as for [`ToUdpAddress`]; on a UNIX socket a path, or `@` and a name, as for [`ToUnixAddress`].
/// The [`Address`] that a datagram came from is where the answer goes, and costs nothing to
/// read. An address of the other kind is refused.
pub trait ToDatagramAddress {
    /// Reads it, for a port of this family.
    ///
    /// # Errors
    ///
    /// It is no address of that kind, or a name that must be looked up first.
    fn to_datagram_address(&self, family: DatagramFamily)
    -> Result<Cow<'_, Address>, AddressError>;
}

impl ToDatagramAddress for Address {
    #[inline]
    fn to_datagram_address(
        &self,
        family: DatagramFamily,
    ) -> Result<Cow<'_, Address>, AddressError> {
        match (self, family) {
            (Self::Udp(_), DatagramFamily::Ipv4 | DatagramFamily::Ipv6) => Ok(Cow::Borrowed(self)),
            (Self::Unix(address), DatagramFamily::Unix) => {
                address.check()?;
                Ok(Cow::Borrowed(self))
            }
            (_, DatagramFamily::Unix) => of_unix(self.to_unix_address()?, family),
            _ => of_udp(self.to_udp_address()?, family),
        }
    }
}

impl ToDatagramAddress for str {
    fn to_datagram_address(
        &self,
        family: DatagramFamily,
    ) -> Result<Cow<'_, Address>, AddressError> {
        match family {
            DatagramFamily::Unix => of_unix(self.to_unix_address()?, family),
            _ => of_udp(self.to_udp_address()?, family),
        }
    }
}

impl ToDatagramAddress for String {
    fn to_datagram_address(
        &self,
        family: DatagramFamily,
    ) -> Result<Cow<'_, Address>, AddressError> {
        self.as_str().to_datagram_address(family)
    }
}

impl<A: ToDatagramAddress + ?Sized> ToDatagramAddress for &A {
    #[inline]
    fn to_datagram_address(
        &self,
        family: DatagramFamily,
    ) -> Result<Cow<'_, Address>, AddressError> {
        (**self).to_datagram_address(family)
    }
}

macro_rules! of_one_kind {
    ($read:ident by $way:ident: $($kind:ty),*) => {$(
        impl ToDatagramAddress for $kind {
            fn to_datagram_address(
                &self,
                family: DatagramFamily,
            ) -> Result<Cow<'_, Address>, AddressError> {
                $read(self.$way()?, family)
            }
        }
    )*};
}

of_one_kind!(of_udp by to_udp_address:
    SocketAddr, (IpAddr, u16), (Ipv4Addr, u16), (Ipv6Addr, u16), (&str, u16));
of_one_kind!(of_unix by to_unix_address: UnixAddress, Path, PathBuf);

fn of_udp(
    address: SocketAddr,
    family: DatagramFamily,
) -> Result<Cow<'static, Address>, AddressError> {
    let address = Address::Udp(address);
    Ok(Cow::Owned(match family {
        DatagramFamily::Unix => address.to_unix_address()?.into(),
        _ => address,
    }))
}

fn of_unix(
    address: UnixAddress,
    family: DatagramFamily,
) -> Result<Cow<'static, Address>, AddressError> {
    let address = Address::Unix(address);
    Ok(Cow::Owned(match family {
        DatagramFamily::Unix => address,
        _ => Address::Udp(address.to_udp_address()?),
    }))
}

/// What can be written where a UDP address is wanted: numbers only.
///
/// `"127.0.0.1:53"`, `"[::1]:53"`, `":53"` (every interface, to listen on), a `SocketAddr`,
/// `(ip, port)`, or the [`Address`] that a datagram came from. A name is refused: to look it up
/// takes time, and a datagram does not wait. [`Reactor::resolve`](crate::Reactor::resolve) does
/// it.
pub trait ToUdpAddress {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// It is a name, or no address.
    fn to_udp_address(&self) -> Result<SocketAddr, AddressError>;
}

impl ToUdpAddress for SocketAddr {
    fn to_udp_address(&self) -> Result<SocketAddr, AddressError> {
        Ok(*self)
    }
}

impl ToUdpAddress for Address {
    fn to_udp_address(&self) -> Result<SocketAddr, AddressError> {
        match self {
            Self::Udp(address) | Self::Tcp(address) => Ok(*address),
            Self::Unix(_) | Self::Named(_) => {
                Err(AddressError::udp(self.to_string(), "this is no UDP port"))
            }
        }
    }
}

impl ToUdpAddress for (IpAddr, u16) {
    fn to_udp_address(&self) -> Result<SocketAddr, AddressError> {
        Ok(SocketAddr::from(*self))
    }
}

impl ToUdpAddress for (Ipv4Addr, u16) {
    fn to_udp_address(&self) -> Result<SocketAddr, AddressError> {
        Ok(SocketAddr::from(*self))
    }
}

impl ToUdpAddress for (Ipv6Addr, u16) {
    fn to_udp_address(&self) -> Result<SocketAddr, AddressError> {
        Ok(SocketAddr::from(*self))
    }
}

impl ToUdpAddress for str {
    fn to_udp_address(&self) -> Result<SocketAddr, AddressError> {
        literal(self, self.to_owned())
    }
}

impl ToUdpAddress for String {
    fn to_udp_address(&self) -> Result<SocketAddr, AddressError> {
        self.as_str().to_udp_address()
    }
}

impl ToUdpAddress for (&str, u16) {
    fn to_udp_address(&self) -> Result<SocketAddr, AddressError> {
        literal(self, format!("{}:{}", self.0, self.1))
    }
}

impl<A: ToUdpAddress + ?Sized> ToUdpAddress for &A {
    fn to_udp_address(&self) -> Result<SocketAddr, AddressError> {
        (**self).to_udp_address()
    }
}

fn literal(
    address: &(impl ToTcpAddress + ?Sized),
    text: String,
) -> Result<SocketAddr, AddressError> {
    let found = address.to_tcp_address().ok();
    found
        .map(|address| {
            let named = "and a name must be looked up first: Reactor::resolve";
            address.literal().ok_or(named)
        })
        .unwrap_or(Err("and there is none"))
        .map_err(|problem| AddressError::udp(text, problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(address: impl ToUdpAddress) -> String {
        let error = address.to_udp_address().expect_err("it is no number");
        error.to_string()
    }

    #[test]
    fn a_text_is_what_the_port_it_is_written_for_makes_of_it() {
        use DatagramFamily as Family;
        let ip = Address::Udp(SocketAddr::from(([127, 0, 0, 1], 53)));
        let path = Address::Unix(UnixAddress::Path("127.0.0.1:53".into()));
        let read = |family| {
            let read = "127.0.0.1:53".to_datagram_address(family);
            read.expect("it is an address").into_owned()
        };
        assert_eq!(read(Family::Ipv4), ip);
        assert_eq!(read(Family::Ipv6), ip);
        assert_eq!(read(Family::Unix), path);
        for (address, family) in [(&ip, Family::Ipv4), (&path, Family::Unix)] {
            let same = address.to_datagram_address(family);
            let same = same.expect("it is of this family");
            assert!(matches!(same, Cow::Borrowed(same) if same == address));
        }
        for (address, family) in [(&ip, Family::Unix), (&path, Family::Ipv4)] {
            address.to_datagram_address(family).expect_err("the other");
        }
        let other = Path::new("/run/log").to_datagram_address(Family::Ipv6);
        assert!(other.is_err_and(|error| error.to_string().contains("no UDP port")));
        let other = ("::1", 53).to_datagram_address(Family::Unix);
        assert!(other.is_err_and(|error| error.to_string().contains("no UNIX socket's")));
        let nobody = Address::Unix(UnixAddress::Unnamed);
        nobody
            .to_datagram_address(Family::Unix)
            .expect_err("there is no way to whoever has no name");
    }

    #[test]
    fn numbers_are_addresses_and_names_are_refused() {
        let expected = SocketAddr::from(([127, 0, 0, 1], 53));
        assert_eq!("127.0.0.1:53".to_udp_address(), Ok(expected));
        assert_eq!(("127.0.0.1", 53).to_udp_address(), Ok(expected));
        assert_eq!(Address::Udp(expected).to_udp_address(), Ok(expected));
        assert_eq!(
            ":53".to_udp_address(),
            Ok(SocketAddr::from(([0, 0, 0, 0], 53)))
        );
        assert!("[::1]:53".to_udp_address().is_ok());
        assert!(refused("localhost:53").contains("must be looked up"));
        assert!(refused(("localhost", 53)).contains("localhost:53"));
        assert!(refused("127.0.0.1").contains("there is none"));
        assert!(refused(Address::Named("memory".into())).contains("no UDP port"));
    }
}
