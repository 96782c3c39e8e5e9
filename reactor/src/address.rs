//! Addresses: of peers and hosts, and as people write them.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

#[cfg(feature = "idna")]
use idna::AsciiDenyList;
#[cfg(feature = "idna")]
use idna::uts46::{DnsLength, Hyphens, Uts46};

/// The address of one end of a connection, or of who sends and gets datagrams.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Address {
    /// An IP address and a TCP port.
    Tcp(SocketAddr),
    /// An IP address and a UDP port.
    Udp(SocketAddr),
    /// A UNIX socket.
    Unix(UnixAddress),
    /// An end outside of any network, by its name: memory, a pipe, a process.
    Named(Box<str>),
}

/// The address of a UNIX socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum UnixAddress {
    /// None: what connects to a UNIX socket has no address of its own, as a rule.
    Unnamed,
    /// A path in the file system.
    Path(PathBuf),
    /// A name in Linux's abstract namespace, without the NUL in front.
    Abstract(Box<[u8]>),
}

impl fmt::Display for UnixAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unnamed => f.write_str("unix:(unnamed)"),
            Self::Path(path) => write!(f, "unix:{}", path.display()),
            Self::Abstract(name) => write!(f, "unix:@{}", name.escape_ascii()),
        }
    }
}

impl From<UnixAddress> for Address {
    fn from(address: UnixAddress) -> Self {
        Self::Unix(address)
    }
}

impl Address {
    /// The IP address, where there is one.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(address) | Self::Udp(address) => Some(address.ip()),
            Self::Unix(_) | Self::Named(_) => None,
        }
    }

    /// The port, where there is one.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp(address) | Self::Udp(address) => Some(address.port()),
            Self::Unix(_) | Self::Named(_) => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) | Self::Udp(address) => address.fmt(f),
            Self::Unix(address) => address.fmt(f),
            Self::Named(name) => f.write_str(name),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

/// A host, by number or by name, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpAddress {
    pub(crate) host: Host,
    pub(crate) port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// A literal: used as it is, no thread and no resolver.
    Literal(SocketAddr),
    Name(Box<str>),
}

impl TcpAddress {
    /// The address, if its host is a number.
    pub(crate) fn literal(&self) -> Option<SocketAddr> {
        match &self.host {
            Host::Literal(address) => Some(*address),
            Host::Name(_) => None,
        }
    }

    /// The host, if it is a name; else nothing.
    pub(crate) fn name(&self) -> &str {
        match &self.host {
            Host::Literal(_) => "",
            Host::Name(name) => name,
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for TcpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Literal(address) => address.fmt(f),
            // `fe80::1%eth0`
            Host::Name(name) if name.contains(':') => write!(f, "[{name}]:{}", self.port),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

/// Whether this is an IPv6 address with the name or number of an interface behind it, as
/// `fe80::1%eth0` (RFC 4007 §11).
pub(crate) fn is_scoped(host: &str) -> bool {
    host.split_once('%')
        .is_some_and(|(ip, zone)| ip.parse::<Ipv6Addr>().is_ok() && !zone.is_empty())
}

impl From<SocketAddr> for TcpAddress {
    fn from(address: SocketAddr) -> Self {
        Self {
            port: address.port(),
            host: Host::Literal(address),
        }
    }
}

/// A text that is not an address of the kind that is wanted.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an address: {problem}")]
pub struct AddressError {
    text: String,
    problem: Problem,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Problem {
    #[error("expected HOST:PORT, {0}")]
    Tcp(&'static str),
    #[cfg_attr(
        feature = "idna",
        error("no host has such a name, by the rules for internationalised ones (UTS 46)")
    )]
    #[cfg_attr(
        not(feature = "idna"),
        error("names that are not ASCII are the feature `idna`, which is off")
    )]
    HostName,
    #[error("expected IP:PORT, {0}")]
    Udp(&'static str),
    #[error("{0}")]
    Unix(&'static str),
    #[error("a UNIX socket's has at most {UNIX_ADDRESS_MAX} bytes")]
    TooLong,
}

/// What `sockaddr_un` holds, unix(7), less the NUL at the end of a path or in front of an
/// abstract name.
const UNIX_ADDRESS_MAX: usize = 107;

impl AddressError {
    pub(crate) fn udp(text: String, problem: &'static str) -> Self {
        Self {
            text,
            problem: Problem::Udp(problem),
        }
    }

    /// Whether it is the path or name of a UNIX socket, and longer than the system takes:
    /// 107 bytes. A path relative to the working folder may fit.
    #[must_use]
    pub fn is_too_long(&self) -> bool {
        matches!(self.problem, Problem::TooLong)
    }
}

/// Writes the name of a host as name servers and certificates have it: `bücher.example` as
/// `xn--bcher-kva.example` (UTS 46, as browsers do). What is ASCII already is given back as it
/// is.
///
/// Endpoints and [`Reactor::resolve`](crate::Reactor::resolve) do it themselves.
///
/// # Errors
///
/// The name is not ASCII, and breaks a rule: a character that no name holds, letters of both
/// directions mixed, a label that is too long. Without the feature `idna`: the name is not ASCII.
///
/// # Examples
///
/// ```
/// use torsade_reactor::ascii_host_name;
///
/// # fn main() -> Result<(), torsade_reactor::AddressError> {
/// # #[cfg(feature = "idna")]
/// assert_eq!(ascii_host_name("Bücher.example")?, "xn--bcher-kva.example");
/// assert_eq!(ascii_host_name("Example.com")?, "Example.com");
/// # Ok(())
/// # }
/// ```
pub fn ascii_host_name(host: &str) -> Result<Cow<'_, str>, AddressError> {
    if host.is_ascii() {
        return Ok(Cow::Borrowed(host));
    }
    by_uts_46(host).ok_or_else(|| AddressError {
        text: host.to_owned(),
        problem: Problem::HostName,
    })
}

#[cfg(feature = "idna")]
fn by_uts_46(host: &str) -> Option<Cow<'_, str>> {
    let (hyphens, length) = (Hyphens::Allow, DnsLength::VerifyAllowRootDot);
    Uts46::new()
        .to_ascii(host.as_bytes(), AsciiDenyList::URL, hyphens, length)
        .ok()
}

/// Its tables are ten crates: a program that does without them has no name that is not ASCII.
#[cfg(not(feature = "idna"))]
fn by_uts_46(_: &str) -> Option<Cow<'_, str>> {
    None
}

/// What can be written where a TCP address is wanted.
///
/// `"127.0.0.1:8007"`, `"[::1]:8007"`, `"[fe80::1%eth0]:8007"`, `"localhost:8007"`, `":8007"`
/// (every interface), a `SocketAddr`, `(host, port)`, or the [`Address`] of a port or peer.
/// A name that is not ASCII becomes what [`ascii_host_name`] makes of it.
pub trait ToTcpAddress {
    /// Reads it; looks nothing up.
    ///
    /// # Errors
    ///
    /// The text has no host and port, or no host has such a name.
    fn to_tcp_address(&self) -> Result<TcpAddress, AddressError>;
}

impl ToTcpAddress for str {
    fn to_tcp_address(&self) -> Result<TcpAddress, AddressError> {
        let wrong = |problem| AddressError {
            text: self.to_owned(),
            problem: Problem::Tcp(problem),
        };
        if let Ok(literal) = self.parse::<SocketAddr>() {
            return Ok(literal.into());
        }
        let (host, port) = self
            .rsplit_once(':')
            .ok_or_else(|| wrong("there is no port"))?;
        let port = port
            .parse()
            .ok()
            .ok_or_else(|| wrong("the port is not a number from 0 to 65535"))?;
        let bracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        if let Some(scoped) = bracketed.filter(|host| is_scoped(host)) {
            return (scoped, port).to_tcp_address();
        }
        if host.contains([':', '[', ']', '/', ' ']) {
            return Err(wrong("the host is neither a name nor an IP address"));
        }
        (host, port).to_tcp_address()
    }
}

impl ToTcpAddress for String {
    fn to_tcp_address(&self) -> Result<TcpAddress, AddressError> {
        self.as_str().to_tcp_address()
    }
}

impl ToTcpAddress for SocketAddr {
    fn to_tcp_address(&self) -> Result<TcpAddress, AddressError> {
        Ok((*self).into())
    }
}

impl ToTcpAddress for Address {
    fn to_tcp_address(&self) -> Result<TcpAddress, AddressError> {
        match self {
            // What listens on both has one address for both.
            Self::Tcp(address) | Self::Udp(address) => address.to_tcp_address(),
            Self::Unix(_) | Self::Named(_) => Err(AddressError {
                text: self.to_string(),
                problem: Problem::Tcp("this is no TCP port"),
            }),
        }
    }
}

impl ToTcpAddress for (IpAddr, u16) {
    fn to_tcp_address(&self) -> Result<TcpAddress, AddressError> {
        SocketAddr::from(*self).to_tcp_address()
    }
}

impl ToTcpAddress for (&str, u16) {
    fn to_tcp_address(&self) -> Result<TcpAddress, AddressError> {
        let (host, port) = *self;
        if host.is_empty() {
            return Ok(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into());
        }
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(SocketAddr::from((ip, port)).into());
        }
        if let Some((ip, zone)) = host.split_once('%')
            && let (Ok(ip), Ok(number)) = (ip.parse(), zone.parse())
        {
            return Ok(SocketAddr::from(SocketAddrV6::new(ip, port, 0, number)).into());
        }
        if !host.is_ascii() && !is_scoped(host) {
            // Again: digits of another script are a number, too.
            return (&*ascii_host_name(host)?, port).to_tcp_address();
        }
        Ok(TcpAddress {
            host: Host::Name(host.into()),
            port,
        })
    }
}

impl<A: ToTcpAddress + ?Sized> ToTcpAddress for &A {
    fn to_tcp_address(&self) -> Result<TcpAddress, AddressError> {
        (**self).to_tcp_address()
    }
}

/// What can be written where the address of a UNIX socket is wanted.
///
/// A `Path` or `PathBuf`; a text, which is a path too, unless it begins with `@`: then the
/// rest is a name in Linux's abstract namespace; a [`UnixAddress`], or the [`Address`] of a
/// port or peer.
pub trait ToUnixAddress {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// It is empty, too long, or holds what no path can.
    fn to_unix_address(&self) -> Result<UnixAddress, AddressError>;
}

impl ToUnixAddress for UnixAddress {
    fn to_unix_address(&self) -> Result<UnixAddress, AddressError> {
        self.check()?;
        Ok(self.clone())
    }
}

impl UnixAddress {
    /// Whether a socket can have it.
    pub(crate) fn check(&self) -> Result<(), AddressError> {
        let (bytes, is_path) = match self {
            Self::Path(path) => (path.as_os_str().as_bytes(), true),
            Self::Abstract(name) => (&**name, false),
            Self::Unnamed => (&b""[..], true),
        };
        let problem = if bytes.len() > UNIX_ADDRESS_MAX {
            Problem::TooLong
        } else if bytes.is_empty() {
            Problem::Unix("a UNIX socket's is a path, or @ and a name")
        } else if is_path && bytes.contains(&0) {
            Problem::Unix("a path holds no NUL")
        } else {
            return Ok(());
        };
        Err(AddressError {
            text: self.to_string(),
            problem,
        })
    }
}

impl ToUnixAddress for Path {
    fn to_unix_address(&self) -> Result<UnixAddress, AddressError> {
        UnixAddress::Path(self.into()).to_unix_address()
    }
}

impl ToUnixAddress for PathBuf {
    fn to_unix_address(&self) -> Result<UnixAddress, AddressError> {
        self.as_path().to_unix_address()
    }
}

impl ToUnixAddress for str {
    fn to_unix_address(&self) -> Result<UnixAddress, AddressError> {
        match self.strip_prefix('@') {
            Some(name) => UnixAddress::Abstract(name.as_bytes().into()).to_unix_address(),
            None => Path::new(self).to_unix_address(),
        }
    }
}

impl ToUnixAddress for String {
    fn to_unix_address(&self) -> Result<UnixAddress, AddressError> {
        self.as_str().to_unix_address()
    }
}

impl ToUnixAddress for Address {
    fn to_unix_address(&self) -> Result<UnixAddress, AddressError> {
        match self {
            Self::Unix(address) => address.to_unix_address(),
            Self::Tcp(_) | Self::Udp(_) | Self::Named(_) => Err(AddressError {
                text: self.to_string(),
                problem: Problem::Unix("this is no UNIX socket's"),
            }),
        }
    }
}

impl<A: ToUnixAddress + ?Sized> ToUnixAddress for &A {
    fn to_unix_address(&self) -> Result<UnixAddress, AddressError> {
        (**self).to_unix_address()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_unix_sockets_are_paths_and_names() {
        let check = |text: &str, expected: &str| {
            let found = text.to_unix_address().expect("it is one").to_string();
            assert_eq!(found, expected);
        };
        check("/run/a.sock", "unix:/run/a.sock");
        check("a", "unix:a");
        check("@a", "unix:@a");
        check(&"x".repeat(107), &format!("unix:{}", "x".repeat(107)));
    }

    #[test]
    fn what_is_no_address_of_a_unix_socket_is_named_with_its_problem() {
        let check = |text: &str| text.to_unix_address().expect_err("it is none");
        for text in ["x".repeat(108), format!("@{}", "x".repeat(108))] {
            assert!(check(&text).is_too_long());
        }
        for text in ["", "@", "a\0b"] {
            assert!(!check(text).is_too_long(), "{text:?}");
        }
        assert_eq!(
            check("a\0b").to_string(),
            "\"unix:a\\0b\" is not an address: a path holds no NUL"
        );
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let found = match text.to_tcp_address() {
            Ok(address) => address.to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn addresses_are_read_as_people_write_them() {
        check("127.0.0.1:8007", "127.0.0.1:8007");
        check("[::1]:8007", "[::1]:8007");
        check("localhost:8007", "localhost:8007");
        check(":8007", "0.0.0.0:8007");
        check("[fe80::1%3]:8007", "[fe80::1%3]:8007");
        check("[fe80::1%eth0]:8007", "[fe80::1%eth0]:8007");
    }

    #[test]
    fn an_interface_by_number_needs_no_lookup_and_one_by_name_is_kept() {
        let literal = |host: &str| (host, 80).to_tcp_address().map(|read| read.literal());
        let scoped = SocketAddrV6::new("fe80::1".parse().expect("it is one"), 80, 0, 3);
        assert_eq!(literal("fe80::1%3"), Ok(Some(scoped.into())));
        assert_eq!(literal("fe80::1%eth0"), Ok(None));
        assert!(is_scoped("fe80::1%eth0"));
        for name in ["eth0", "fe80::1", "fe80::1%", "name%eth0", "10.0.0.1%eth0"] {
            assert!(!is_scoped(name), "{name}");
        }
    }

    #[test]
    fn what_is_no_address_is_named_with_its_problem() {
        check(
            "localhost",
            "\"localhost\" is not an address: expected HOST:PORT, there is no port",
        );
        let port = "expected HOST:PORT, the port is not a number from 0 to 65535";
        check(
            "localhost:http",
            &format!("\"localhost:http\" is not an address: {port}"),
        );
        check(
            "localhost:65536",
            &format!("\"localhost:65536\" is not an address: {port}"),
        );
        let host = "expected HOST:PORT, the host is neither a name nor an IP address";
        check(
            "::1:8007",
            &format!("\"::1:8007\" is not an address: {host}"),
        );
    }

    #[test]
    fn host_names_of_every_script_are_written_in_ascii() {
        check("bücher.example:80", "xn--bcher-kva.example:80");
        check("BÜCHER.example:80", "xn--bcher-kva.example:80");
        check("bücher。example:80", "xn--bcher-kva.example:80");
        check("例え.テスト:80", "xn--r8jz45g.xn--zckzah:80");
        // What could be a name, and is a number.
        check("１２７.０.０.１:80", "127.0.0.1:80");
        // No host, but the name of an interface.
        check("[fe80::1%netzü]:80", "[fe80::1%netzü]:80");
    }

    #[test]
    fn host_names_in_ascii_are_left_alone() {
        for host in [
            "Example.COM",
            "xn--invalid-\u{7f}",
            "_under.score",
            "a..b",
            "-",
        ] {
            let name = ascii_host_name(host).expect("it is ASCII");
            assert!(
                matches!(name, Cow::Borrowed(same) if same == host),
                "{host}"
            );
            let address = (host, 80).to_tcp_address().expect("a name");
            assert_eq!(address.name(), host);
        }
    }

    #[test]
    fn what_is_no_host_name_is_named_with_its_problem() {
        let problem = "no host has such a name, by the rules for internationalised ones (UTS 46)";
        let too_long = "ü".repeat(64);
        for host in [
            "\u{ad}",
            "a\u{ad}..ü",
            "ü b",
            "ü%",
            "٠a",
            "\u{fffd}",
            &*too_long,
        ] {
            let error = (host, 80).to_tcp_address().expect_err("no name");
            assert_eq!(
                error.to_string(),
                format!("{host:?} is not an address: {problem}")
            );
        }
    }
}
