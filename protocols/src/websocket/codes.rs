//! Why a peer closes: RFC 6455 §7.4.

use std::fmt;

/// A number that says why a connection is closed. Of those that have a name there is a constant; 3000 to 3999
/// are registered by libraries, 4000 to 4999 are free for programs.
///
/// # Examples
///
/// ```
/// use torsade_protocols::websocket::CloseCode;
///
/// let kicked = CloseCode::from(4001);
/// assert!(kicked.is_sendable() && !CloseCode::ABNORMAL.is_sendable());
/// assert_eq!(CloseCode::GOING_AWAY.to_string(), "1001 (going away)");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(u16);

impl CloseCode {
    /// What there was to do is done.
    pub const NORMAL: Self = Self(1000);
    /// A server stops, a page is left.
    pub const GOING_AWAY: Self = Self(1001);
    /// The peer has broken the rules of RFC 6455.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// A kind of message that is not understood here, binary for instance.
    pub const UNSUPPORTED: Self = Self(1003);
    /// Never sent: the Close frame said nothing.
    pub const NO_STATUS: Self = Self(1005);
    /// Never sent: no Close frame came.
    pub const ABNORMAL: Self = Self(1006);
    /// A message is not what it says, a text that is not UTF-8 for instance.
    pub const INVALID_DATA: Self = Self(1007);
    /// A message that the program will have none of.
    pub const POLICY: Self = Self(1008);
    /// A message is too long.
    pub const TOO_BIG: Self = Self(1009);
    /// The client misses an extension.
    pub const MISSING_EXTENSION: Self = Self(1010);
    /// Something went wrong at the end that closes.
    pub const INTERNAL_ERROR: Self = Self(1011);
    /// The server starts anew: come back in a moment.
    pub const SERVICE_RESTART: Self = Self(1012);
    /// The server has too much to do: come back later.
    pub const TRY_AGAIN_LATER: Self = Self(1013);
    /// A server behind this one gave a bad answer.
    pub const BAD_GATEWAY: Self = Self(1014);

    /// Whether it may stand in a Close frame.
    #[must_use]
    pub fn is_sendable(self) -> bool {
        // §7.4.1 and the registry of IANA, §7.4.2.
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }

    fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::NORMAL => "normal",
            Self::GOING_AWAY => "going away",
            Self::PROTOCOL_ERROR => "protocol error",
            Self::UNSUPPORTED => "unsupported",
            Self::NO_STATUS => "no status",
            Self::ABNORMAL => "abnormal",
            Self::INVALID_DATA => "invalid data",
            Self::POLICY => "policy",
            Self::TOO_BIG => "too big",
            Self::MISSING_EXTENSION => "missing extension",
            Self::INTERNAL_ERROR => "internal error",
            Self::SERVICE_RESTART => "service restart",
            Self::TRY_AGAIN_LATER => "try again later",
            Self::BAD_GATEWAY => "bad gateway",
            _ => return None,
        })
    }
}

impl From<u16> for CloseCode {
    fn from(code: u16) -> Self {
        Self(code)
    }
}

impl From<CloseCode> for u16 {
    fn from(code: CloseCode) -> Self {
        code.0
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{} ({name})", self.0),
            None => write!(f, "{}", self.0),
        }
    }
}
