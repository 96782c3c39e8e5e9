//! The header of the PROXY protocol: bytes in, addresses out.
//!
//! A plain value, fed in any pieces. Section numbers are those of HAProxy's `proxy-protocol.txt`.
//!
//! # Bounds
//!
//! Version 1: 107 bytes (§2.1). Version 2: 16 bytes and what they announce, at most
//! [`V2_LENGTH_MAX`]; what is not an address in there is skipped.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use torsade_reactor::{Address, UnixAddress};

/// §2.1: "the longest possible line ... is 107 chars", its end included.
const V1_LENGTH_MAX: usize = 107;

/// §2.2: the bytes that no other protocol begins with.
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Bytes of version 2 before the addresses.
const V2_FIXED: usize = 16;

/// §2.2.7 lets a header be as long as 64 KiB. The addresses take 216 bytes at most, and what
/// proxies add (certificates' names, identifiers) a few hundred.
const V2_LENGTH_MAX: usize = 4096;

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Header {
    /// Who connected to the proxy, and where.
    Proxied { peer: Address, host: Address },
    /// The connection is the proxy's own, or it does not know whose: its own addresses hold.
    Local,
}

/// Why a connection has no header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadHeader {
    /// The first bytes are those of neither version.
    #[error("no PROXY protocol header: the connection begins otherwise")]
    NotAHeader,
    /// Version 1: the line is longer than 107 bytes.
    #[error("bad PROXY protocol header: no end of the line within 107 bytes")]
    LineTooLong,
    /// Version 1: the line is not as it should be.
    #[error("bad PROXY protocol header: {problem} in {line:?}")]
    Line {
        /// The line, without its end.
        line: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// Version 2: a version or command that there is not.
    #[error("bad PROXY protocol header: version and command are {0:#04x}")]
    Command(u8),
    /// Version 2: a family of addresses or a transport that there is not.
    #[error("bad PROXY protocol header: family and transport are {0:#04x}")]
    Family(u8),
    /// Version 2: longer than is accepted here.
    #[error("bad PROXY protocol header: {length} bytes, more than {limit}")]
    TooLong {
        /// What it announces.
        length: usize,
        /// What is accepted.
        limit: usize,
    },
    /// Version 2: shorter than the addresses of its family.
    #[error("bad PROXY protocol header: {length} bytes are too few for its addresses")]
    TooShort {
        /// What it announces.
        length: usize,
    },
    /// The peer's stream ended within it.
    #[error("no PROXY protocol header: the connection ended within it")]
    Ended,
}

/// Collects a header.
#[derive(Debug, Default)]
pub(super) struct Parser {
    collected: Vec<u8>,
}

impl Parser {
    /// Takes the next bytes. Gives the header when it is there, and how many of these bytes
    /// belong to it; the others are what follows.
    pub(super) fn receive(&mut self, data: &[u8]) -> Result<Option<(Header, usize)>, BadHeader> {
        let before = self.collected.len();
        // No more than a header can have: what follows is not copied.
        let room = (V2_FIXED + V2_LENGTH_MAX).saturating_sub(before);
        self.collected
            .extend_from_slice(&data[..data.len().min(room)]);
        let parsed = parse(&self.collected)?;
        Ok(parsed.map(|(header, length)| (header, length - before)))
    }
}

/// Reads the header at the beginning of `bytes`, with its length; `None` if more is needed.
fn parse(bytes: &[u8]) -> Result<Option<(Header, usize)>, BadHeader> {
    if begins_like(bytes, V2_SIGNATURE) {
        parse_v2(bytes)
    } else if begins_like(bytes, b"PROXY ") {
        parse_v1(bytes)
    } else {
        Err(BadHeader::NotAHeader)
    }
}

/// Whether `bytes` begins with `start`, as far as it goes.
fn begins_like(bytes: &[u8], start: &[u8]) -> bool {
    bytes
        .iter()
        .zip(start)
        .all(|(found, expected)| found == expected)
}

fn parse_v1(bytes: &[u8]) -> Result<Option<(Header, usize)>, BadHeader> {
    let within = &bytes[..bytes.len().min(V1_LENGTH_MAX)];
    let Some(end) = within.windows(2).position(|pair| pair == b"\r\n") else {
        return if within.len() == V1_LENGTH_MAX {
            Err(BadHeader::LineTooLong)
        } else {
            Ok(None)
        };
    };
    let line = String::from_utf8_lossy(&bytes[..end]);
    match parse_line(&line) {
        Ok(header) => Ok(Some((header, end + 2))),
        Err(problem) => Err(BadHeader::Line {
            line: line.into_owned(),
            problem,
        }),
    }
}

/// §2.1: `PROXY TCP4 192.168.0.1 192.168.0.11 56324 443`.
fn parse_line(line: &str) -> Result<Header, &'static str> {
    let mut words = line.split(' ').skip(1);
    let mut next = || words.next().ok_or("a word is missing");
    let family = next()?;
    // §2.1: "the receiver must ignore anything presented before the CRLF".
    if family == "UNKNOWN" {
        return Ok(Header::Local);
    }
    let (source, destination) = (next()?, next()?);
    let (source, destination) = match family {
        "TCP4" => (ip::<Ipv4Addr>(source)?, ip::<Ipv4Addr>(destination)?),
        "TCP6" => (ip::<Ipv6Addr>(source)?, ip::<Ipv6Addr>(destination)?),
        _ => return Err("the family is none of TCP4, TCP6 and UNKNOWN"),
    };
    let (source_port, destination_port) = (port(next()?)?, port(next()?)?);
    if words.next().is_some() {
        return Err("there are too many words");
    }
    Ok(Header::Proxied {
        peer: SocketAddr::new(source, source_port).into(),
        host: SocketAddr::new(destination, destination_port).into(),
    })
}

fn ip<A: std::str::FromStr + Into<IpAddr>>(word: &str) -> Result<IpAddr, &'static str> {
    let address = word
        .parse::<A>()
        .ok()
        .ok_or("an address is not of its family")?;
    Ok(address.into())
}

fn port(word: &str) -> Result<u16, &'static str> {
    // No sign, and no zero in front: §2.1.
    let canonical = word == "0" || !word.starts_with(['0', '+']);
    let number = word.parse().ok().filter(|_| canonical);
    number.ok_or("a port is not a number from 0 to 65535")
}

fn parse_v2(bytes: &[u8]) -> Result<Option<(Header, usize)>, BadHeader> {
    let Some((fixed, rest)) = bytes.split_at_checked(V2_FIXED) else {
        return Ok(None);
    };
    let (command, family) = (fixed[12], fixed[13]);
    // §2.2: version 2, command LOCAL or PROXY; anything else must be refused.
    if !matches!(command, 0x20 | 0x21) {
        return Err(BadHeader::Command(command));
    }
    // §2.2: families up to AF_UNIX, transports up to DGRAM; others "must be rejected as invalid".
    if command == 0x21 && (family >> 4 > 3 || family & 0x0f > 2) {
        return Err(BadHeader::Family(family));
    }
    let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if length > V2_LENGTH_MAX {
        return Err(BadHeader::TooLong {
            length,
            limit: V2_LENGTH_MAX,
        });
    }
    let Some(block) = rest.get(..length) else {
        return Ok(None);
    };
    let too_short = BadHeader::TooShort { length };
    let header = match (command, family) {
        // §2.2: of a connection of the proxy's own, the rest is to be skipped.
        (0x20, _) => Header::Local,
        (_, 0x11) => {
            let block = block.first_chunk::<12>().ok_or(too_short)?;
            let [a, b, c, d, e, f, g, h, ports @ ..] = *block;
            proxied(
                Ipv4Addr::new(a, b, c, d).into(),
                Ipv4Addr::new(e, f, g, h).into(),
                ports,
            )
        }
        (_, 0x21) => {
            let (source, rest) = block.split_first_chunk::<16>().ok_or(too_short.clone())?;
            let (destination, rest) = rest.split_first_chunk::<16>().ok_or(too_short.clone())?;
            let ports = rest.first_chunk::<4>().ok_or(too_short)?;
            proxied(
                Ipv6Addr::from(*source).into(),
                Ipv6Addr::from(*destination).into(),
                *ports,
            )
        }
        (_, 0x31) => {
            let (source, rest) = block.split_first_chunk::<108>().ok_or(too_short.clone())?;
            let destination = rest.first_chunk::<108>().ok_or(too_short)?;
            Header::Proxied {
                peer: unix_address(source),
                host: unix_address(destination),
            }
        }
        // §2.2: of what is unspecified, or not supported here, the connection's own addresses hold.
        _ => Header::Local,
    };
    Ok(Some((header, V2_FIXED + length)))
}

fn proxied(source: IpAddr, destination: IpAddr, ports: [u8; 4]) -> Header {
    let [a, b, c, d] = ports;
    Header::Proxied {
        peer: SocketAddr::new(source, u16::from_be_bytes([a, b])).into(),
        host: SocketAddr::new(destination, u16::from_be_bytes([c, d])).into(),
    }
}

fn unix_address(bytes: &[u8; 108]) -> Address {
    let trimmed = |bytes: &[u8]| {
        let end = bytes
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |at| at + 1);
        bytes[..end].to_vec()
    };
    let address = match bytes {
        // In front of an abstract name stands a NUL.
        [0, name @ ..] if name.iter().any(|byte| *byte != 0) => {
            UnixAddress::Abstract(trimmed(name).into())
        }
        [0, ..] => UnixAddress::Unnamed,
        path => {
            let path = path.split(|byte| *byte == 0).next().unwrap_or_default();
            UnixAddress::Path(PathBuf::from(String::from_utf8_lossy(path).into_owned()))
        }
    };
    address.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `wire` whole, in single bytes and in all other sizes, each with bytes behind it.
    #[track_caller]
    fn check(wire: &[u8], expected: Result<&str, &str>) {
        let all = [wire, b"what follows"].concat();
        for size in 1..=all.len() {
            let mut parser = Parser::default();
            let mut used = 0;
            let mut outcome = None;
            for chunk in all.chunks(size) {
                match parser.receive(chunk) {
                    Ok(None) => used += chunk.len(),
                    Ok(Some((header, length))) => {
                        used += length;
                        outcome = Some(Ok(shown(&header)));
                        break;
                    }
                    Err(error) => {
                        outcome = Some(Err(error.to_string()));
                        break;
                    }
                }
            }
            let outcome = outcome.expect("a header, or none");
            let found = outcome.as_ref().map(String::as_str).map_err(String::as_str);
            assert_eq!(found, expected, "in chunks of {size}");
            if expected.is_ok() {
                assert_eq!(used, wire.len(), "in chunks of {size}");
            }
        }
    }

    fn shown(header: &Header) -> String {
        match header {
            Header::Proxied { peer, host } => format!("{peer} to {host}"),
            Header::Local => "local".to_owned(),
        }
    }

    /// A header of version 2.
    fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let length = u16::try_from(block.len()).expect("it is short");
        let mut wire = V2_SIGNATURE.to_vec();
        wire.extend([command, family]);
        wire.extend(length.to_be_bytes());
        wire.extend(block);
        wire
    }

    #[test]
    fn a_line_gives_the_addresses_that_it_names() {
        check(
            b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n",
            Ok("192.0.2.1:56324 to 192.0.2.2:443"),
        );
        check(
            b"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n",
            Ok("[2001:db8::1]:1 to [2001:db8::2]:65535"),
        );
        check(b"PROXY UNKNOWN\r\n", Ok("local"));
        check(b"PROXY UNKNOWN whatever 1 2 3\r\n", Ok("local"));
    }

    #[test]
    fn a_line_that_is_wrong_is_told_with_its_problem() {
        let line = |text: &str, problem: &str| {
            let wire = format!("{text}\r\n");
            let expected = format!("bad PROXY protocol header: {problem} in {text:?}");
            check(wire.as_bytes(), Err(&expected));
        };
        line("PROXY ", "a word is missing");
        line("PROXY TCP4 192.0.2.1", "a word is missing");
        line("PROXY TCP4 ::1 ::2 1 2", "an address is not of its family");
        line(
            "PROXY TCP6 192.0.2.1 ::2 1 2",
            "an address is not of its family",
        );
        for port in ["65536", "-1", "+1", "01", "x", ""] {
            let problem = "a port is not a number from 0 to 65535";
            line(&format!("PROXY TCP4 1.2.3.4 1.2.3.4 {port} 2"), problem);
        }
        line(
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3",
            "there are too many words",
        );
        line(
            "PROXY UDP4 1.2.3.4 1.2.3.4 1 2",
            "the family is none of TCP4, TCP6 and UNKNOWN",
        );
    }

    #[test]
    fn a_line_has_107_bytes_at_most() {
        let mut longest = b"PROXY UNKNOWN ".to_vec();
        longest.resize(105, b'x');
        check(&[&longest, b"\r\n".as_slice()].concat(), Ok("local"));
        longest.push(b'x');
        check(
            &[&longest, b"\r\n".as_slice()].concat(),
            Err("bad PROXY protocol header: no end of the line within 107 bytes"),
        );
    }

    #[test]
    fn what_begins_otherwise_is_no_header_from_its_first_byte_that_differs() {
        for wire in [
            b"GET / HTTP/1.1\r\n".as_slice(),
            b"PROXZ TCP4",
            b"\r\n\r\nQUIT",
            b"\0",
        ] {
            check(
                wire,
                Err("no PROXY protocol header: the connection begins otherwise"),
            );
        }
    }

    #[test]
    fn a_binary_header_gives_the_addresses_that_it_has() {
        let block = [192, 0, 2, 1, 192, 0, 2, 2, 0xdc, 0x04, 1, 0xbb];
        check(
            &v2(0x21, 0x11, &block),
            Ok("192.0.2.1:56324 to 192.0.2.2:443"),
        );
        // What stands behind the addresses is skipped.
        let with_more = [block.as_slice(), &[0x20, 0, 3, 1, 2, 3]].concat();
        check(
            &v2(0x21, 0x11, &with_more),
            Ok("192.0.2.1:56324 to 192.0.2.2:443"),
        );
        let mut block = [0; 36];
        (block[15], block[31], block[33], block[35]) = (1, 2, 80, 81);
        check(&v2(0x21, 0x21, &block), Ok("[::1]:80 to [::2]:81"));
        let mut block = [0; 216];
        block[..5].copy_from_slice(b"/path");
        block[109..113].copy_from_slice(b"name");
        check(&v2(0x21, 0x31, &block), Ok("unix:/path to unix:@name"));
    }

    #[test]
    fn a_binary_header_without_addresses_leaves_the_connection_its_own() {
        check(&v2(0x20, 0x00, &[]), Ok("local"));
        check(&v2(0x20, 0x11, &[1, 2, 3]), Ok("local"));
        check(&v2(0x21, 0x00, &[]), Ok("local"));
        // UDP, a datagram of UNIX, and what the proxy does not know or not say.
        for family in [0x01, 0x02, 0x10, 0x12, 0x20, 0x22, 0x30, 0x32] {
            check(&v2(0x21, family, &[0; 12]), Ok("local"));
        }
        // Of a connection of its own nothing is looked at.
        check(&v2(0x20, 0x99, &[0; 7]), Ok("local"));
    }

    #[test]
    fn a_family_or_a_transport_that_there_is_not_is_refused() {
        for family in [0x03, 0x13, 0x1f, 0x23, 0x33, 0x40, 0x41, 0x99, 0xf2] {
            let expected =
                format!("bad PROXY protocol header: family and transport are {family:#04x}");
            check(&v2(0x21, family, &[0; 216]), Err(&expected));
        }
    }

    #[test]
    fn a_binary_header_that_is_wrong_is_told() {
        check(
            &v2(0x22, 0x11, &[0; 12]),
            Err("bad PROXY protocol header: version and command are 0x22"),
        );
        check(
            &v2(0x11, 0x11, &[0; 12]),
            Err("bad PROXY protocol header: version and command are 0x11"),
        );
        for (family, length) in [(0x11, 11), (0x21, 35), (0x31, 215)] {
            let expected =
                format!("bad PROXY protocol header: {length} bytes are too few for its addresses");
            check(&v2(0x21, family, &vec![0; length]), Err(&expected));
        }
        check(
            &v2(0x21, 0x11, &[0; V2_LENGTH_MAX + 1]),
            Err("bad PROXY protocol header: 4097 bytes, more than 4096"),
        );
        check(&v2(0x21, 0x00, &[0; V2_LENGTH_MAX]), Ok("local"));
    }
}
