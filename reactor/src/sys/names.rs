//! The name of an address.

use std::ffi::CStr;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ptr;

use rustix::net::addr::SocketAddrArg;

/// What a name takes at most, with the NUL behind it: `NI_MAXHOST`, netdb.h.
const NAME_MAX: usize = 1025;

/// Asks the system (`getnameinfo`): `/etc/hosts`, name servers, and whatever else it is set up for.
/// Blocks. [`NotFound`](io::ErrorKind::NotFound) if the address has no name.
pub(crate) fn of_address(ip: IpAddr) -> io::Result<String> {
    let mut name = [0_u8; NAME_MAX];
    let mut ask = |address: *const libc::sockaddr, length| {
        // SAFETY: `address` is valid for reads of `length` bytes while this closure runs, as
        // `with_sockaddr` promises; the system writes at most `name.len()` bytes to `name`, which
        // has as many, and nothing where the service would go, which is null and of length 0.
        unsafe {
            libc::getnameinfo(
                address,
                length,
                name.as_mut_ptr().cast(),
                name.len() as _,
                ptr::null_mut(),
                0,
                libc::NI_NAMEREQD,
            )
        }
    };
    // SAFETY: the closure keeps neither the address nor its pointer.
    let code = unsafe {
        SocketAddr::from((ip, 0)).with_sockaddr(|address, length| ask(address.cast(), length))
    };
    match code {
        0 => read(&name),
        code => Err(refusal(code)),
    }
}

/// What `getnameinfo` has answered, by the number that it returned just now.
fn refusal(code: libc::c_int) -> io::Error {
    match code {
        libc::EAI_NONAME => io::Error::new(io::ErrorKind::NotFound, "the address has no name"),
        libc::EAI_SYSTEM => io::Error::last_os_error(),
        code => {
            // SAFETY: it takes any number.
            let text = unsafe { libc::gai_strerror(code) };
            // SAFETY: for every number there is a text, which lives for ever and is not changed.
            let text = unsafe { CStr::from_ptr(text) };
            io::Error::other(text.to_string_lossy())
        }
    }
}

/// What stands in front of the NUL. Whoever owns an address gives it its name: what would break
/// out of a line of a log is none.
fn read(name: &[u8]) -> io::Result<String> {
    let name = CStr::from_bytes_until_nul(name)
        .ok()
        .and_then(|name| name.to_str().ok())
        .filter(|name| !name.is_empty() && !name.contains(is_blank));
    name.map(str::to_owned).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "what the address is called is no name",
        )
    })
}

fn is_blank(character: char) -> bool {
    character.is_control() || character.is_whitespace()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_no_blanks_and_ends() {
        let found = read(b"host.test\0behind").expect("it is a name");
        assert_eq!(found, "host.test");
        for no_name in ["\0", "endless", "a\nb\0", "a b\0", "\u{1b}[31m\0"] {
            let error = read(no_name.as_bytes()).expect_err(no_name);
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{no_name:?}");
        }
        assert!(read(b"\xff\0").is_err());
    }

    #[test]
    fn an_address_without_a_name_is_told_from_a_name_server_that_fails() {
        assert_eq!(refusal(libc::EAI_NONAME).kind(), io::ErrorKind::NotFound);
        let failed = refusal(libc::EAI_AGAIN);
        assert_eq!(failed.kind(), io::ErrorKind::Other);
        assert!(!failed.to_string().is_empty());
    }
}
