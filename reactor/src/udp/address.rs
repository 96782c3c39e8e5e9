//! Where a datagram goes, as programs write it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::address::{Address, AddressError, ToTcpAddress};

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
