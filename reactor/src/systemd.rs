//! Sockets that systemd has opened for this process: socket activation.
//!
//! A unit `web.socket` listens, and starts `web.service` with its sockets when the first
//! peer comes; [`Reactor::adopt_listener`](crate::Reactor::adopt_listener) makes ports of
//! them.
//!
//! ```no_run
//! use torsade_reactor::{Address, Protocol, Reactor, Transport, systemd};
//! # struct Echo;
//! # impl Protocol for Echo {
//! #     fn data_received(&mut self, transport: &Transport<Self>, data: &[u8]) {
//! #         transport.write(data);
//! #     }
//! # }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let reactor = Reactor::new()?;
//! reactor.adopt_listener(systemd::socket_named("web")?, |_: &Address| Echo)?;
//! # Ok(())
//! # }
//! ```
//!
//! # The environment
//!
//! `LISTEN_PID`, `LISTEN_FDS` and `LISTEN_FDNAMES` are read once, when a socket is first
//! asked for, and stay as they are: to remove a variable is unsound while other threads may
//! read the environment. A child process that inherits them finds that `LISTEN_PID` is not
//! its own, and inherits none of the descriptors.

use std::env;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::sys::inherited;

/// Why there is no such socket.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SystemdError {
    /// systemd did not start this process with sockets.
    #[error("this process was not started with sockets by systemd")]
    NotActivated,
    /// The environment does not say what systemd would.
    #[error("{variable} is {text:?}, which systemd would not have said")]
    Malformed {
        /// The variable.
        variable: &'static str,
        /// What it says.
        text: String,
    },
    /// There are fewer.
    #[error("there is no socket {index}, of {count}")]
    NoSuchIndex {
        /// Which was asked for, from 0 on.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// None has this name (`FileDescriptorName=` in the unit; the unit's own name, if it does
    /// not say), or several have.
    #[error("{count} sockets have the name {name:?}, and not one")]
    NotOne {
        /// The name that was asked for.
        name: String,
        /// How many have it.
        count: usize,
    },
    /// It has been taken already.
    #[error("socket {index} has been taken already")]
    Taken {
        /// Which it is, from 0 on.
        index: usize,
    },
    /// A descriptor that was promised is not open.
    #[error("a socket that systemd promised is not open: {message}")]
    NotOpen {
        /// What the system said.
        message: String,
    },
}

/// A socket that was handed on; `None` when it has been taken.
struct Handed {
    name: String,
    fd: Option<OwnedFd>,
}

/// Takes the socket with this number, in the order of the unit's `Listen...=` lines, from 0
/// on.
///
/// # Errors
///
/// [`SystemdError`]: there is none, or it has been taken.
pub fn socket(index: usize) -> Result<OwnedFd, SystemdError> {
    with_sockets(|sockets| {
        let count = sockets.len();
        let handed = sockets
            .get_mut(index)
            .ok_or(SystemdError::NoSuchIndex { index, count })?;
        handed.fd.take().ok_or(SystemdError::Taken { index })
    })
}

/// Takes the one socket with this name.
///
/// # Errors
///
/// [`SystemdError`]: there is none, there are several, or it has been taken.
pub fn socket_named(name: &str) -> Result<OwnedFd, SystemdError> {
    let index = {
        let names = names()?;
        let found: Vec<_> = (0..names.len()).filter(|i| names[*i] == name).collect();
        match found[..] {
            [index] => index,
            _ => {
                return Err(SystemdError::NotOne {
                    name: name.to_owned(),
                    count: found.len(),
                });
            }
        }
    };
    socket(index)
}

/// The names of all sockets, in order, those that have been taken included.
///
/// # Errors
///
/// [`SystemdError`]: there are none.
pub fn names() -> Result<Vec<String>, SystemdError> {
    with_sockets(|sockets| Ok(sockets.iter().map(|handed| handed.name.clone()).collect()))
}

type Sockets = Result<Vec<Handed>, SystemdError>;

fn with_sockets<T>(
    use_them: impl FnOnce(&mut Vec<Handed>) -> Result<T, SystemdError>,
) -> Result<T, SystemdError> {
    static SOCKETS: Mutex<Option<Sockets>> = Mutex::new(None);
    let mut sockets: MutexGuard<'_, _> = SOCKETS.lock().unwrap_or_else(PoisonError::into_inner);
    match sockets.get_or_insert_with(take_all) {
        Ok(sockets) => use_them(sockets),
        Err(error) => Err(error.clone()),
    }
}

fn take_all() -> Sockets {
    let variable = |name| env::var(name).ok();
    let names = read(
        variable("LISTEN_PID"),
        variable("LISTEN_FDS"),
        variable("LISTEN_FDNAMES"),
        std::process::id(),
    )?;
    let fds = inherited::take(names.len())
        .expect("it is asked once, under the lock")
        .map_err(|error: io::Error| SystemdError::NotOpen {
            message: error.to_string(),
        })?;
    Ok(names
        .into_iter()
        .zip(fds)
        .map(|(name, fd)| Handed { name, fd: Some(fd) })
        .collect())
}

/// What the environment says: a name for each socket (sd_listen_fds_with_names(3)).
fn read(
    pid: Option<String>,
    fds: Option<String>,
    names: Option<String>,
    own_pid: u32,
) -> Result<Vec<String>, SystemdError> {
    let (Some(pid), Some(fds)) = (pid, fds) else {
        return Err(SystemdError::NotActivated);
    };
    let malformed = |variable, text: &str| SystemdError::Malformed {
        variable,
        text: text.to_owned(),
    };
    let Ok(for_pid) = pid.parse::<u32>() else {
        return Err(malformed("LISTEN_PID", &pid));
    };
    if for_pid != own_pid {
        // Meant for the parent of this process.
        return Err(SystemdError::NotActivated);
    }
    // No process has more descriptors than fit 16 bits, unless somebody jokes.
    let count = match fds.parse::<u16>() {
        Ok(0) => return Err(SystemdError::NotActivated),
        Ok(count) => usize::from(count),
        Err(_) => return Err(malformed("LISTEN_FDS", &fds)),
    };
    let Some(names) = names else {
        // As libsystemd has it.
        return Ok(vec!["unknown".into(); count]);
    };
    let each: Vec<String> = names.split(':').map(Into::into).collect();
    if each.len() != count {
        return Err(malformed("LISTEN_FDNAMES", &names));
    }
    Ok(each)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pid: &str, fds: &str, names: Option<&str>) -> Result<Vec<String>, SystemdError> {
        read(Some(pid.into()), Some(fds.into()), names.map(Into::into), 7)
    }

    #[test]
    fn sockets_have_names_or_are_unknown() {
        assert_eq!(
            check("7", "2", Some("web:admin")),
            Ok(vec!["web".into(), "admin".into()])
        );
        assert_eq!(check("7", "1", None), Ok(vec!["unknown".into()]));
    }

    #[test]
    fn what_was_meant_for_another_process_is_left_alone() {
        let none = Err(SystemdError::NotActivated);
        assert_eq!(check("8", "2", None), none);
        assert_eq!(check("7", "0", None), none);
        assert_eq!(read(None, None, None, 7), none);
        assert_eq!(read(Some("7".into()), None, None, 7), none);
    }

    #[test]
    fn what_systemd_would_not_say_is_an_error() {
        for (pid, fds, names) in [
            ("me", "1", None),
            ("7", "-1", None),
            ("7", "99999", None),
            ("7", "many", None),
            ("7", "2", Some("one")),
            ("7", "1", Some("one:two")),
        ] {
            let error = check(pid, fds, names).expect_err("it makes no sense");
            assert!(matches!(error, SystemdError::Malformed { .. }), "{error}");
        }
    }
}
