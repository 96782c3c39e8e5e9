//! What the fields of a head say of the message itself, and of the connection.

use super::super::error::BadMessage;
use super::Framing;

/// What the head's fields say of the message itself and of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) struct Facts {
    pub(super) length: Option<u64>,
    pub(super) chunked: bool,
    /// A `Transfer-Encoding` whose last coding is not `chunked`.
    pub(super) strange_coding: bool,
    pub(in crate::http) hosts: u32,
    /// `Connection: close`, `keep-alive`, `upgrade`.
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) upgrade: bool,
    pub(super) has_upgrade: bool,
    pub(super) expects_continue: bool,
}

impl Facts {
    pub(super) const NONE: Self = Self {
        length: None,
        chunked: false,
        strange_coding: false,
        hosts: 0,
        close: false,
        keep_alive: false,
        upgrade: false,
        has_upgrade: false,
        expects_continue: false,
    };

    /// Takes a header field into account, if it says something of the message itself.
    #[inline]
    pub(in crate::http) fn note(&mut self, name: &[u8], value: &[u8]) -> Result<(), BadMessage> {
        // Every request has one. Only letters become these letters so.
        if name
            .first_chunk()
            .map(|name: &[u8; 4]| name.map(|byte| byte | 0x20))
            == Some(*b"host")
            && name.len() == 4
        {
            self.hosts += 1;
            return check_host(value);
        }
        // Length and first letter tell most apart: nothing is compared for the others.
        match (name.len(), name.first().map(u8::to_ascii_lowercase)) {
            (6, Some(b'e')) | (7, Some(b'u')) | (10 | 14, Some(b'c')) | (17, Some(b't')) => {
                self.note_rare(name, value)
            }
            _ => Ok(()),
        }
    }

    fn note_rare(&mut self, name: &[u8], value: &[u8]) -> Result<(), BadMessage> {
        if name.eq_ignore_ascii_case(b"expect") {
            if !value.eq_ignore_ascii_case(b"100-continue") {
                return Err(BadMessage::Expectation);
            }
            self.expects_continue = true;
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            self.has_upgrade = true;
        } else if name.eq_ignore_ascii_case(b"connection") {
            // As browsers write it.
            if value == b"keep-alive" {
                self.keep_alive = true;
                return Ok(());
            }
            for option in list(value) {
                self.close |= option.eq_ignore_ascii_case(b"close");
                self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                self.upgrade |= option.eq_ignore_ascii_case(b"upgrade");
            }
        } else if name.eq_ignore_ascii_case(b"content-length") {
            // RFC 9112 §6.3 (5): a list of equal numbers may be taken for one. Not here: no
            // program means to send it.
            let length = number(value).ok_or(BadMessage::ContentLength)?;
            if self.length.replace(length).is_some() {
                return Err(BadMessage::ContentLength);
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.note_coding(value)?;
        }
        Ok(())
    }

    fn note_coding(&mut self, value: &[u8]) -> Result<(), BadMessage> {
        if self.chunked || self.strange_coding {
            return Err(BadMessage::TransferEncoding);
        }
        let codings: Vec<_> = list(value).collect();
        match &codings[..] {
            [only] if only.eq_ignore_ascii_case(b"chunked") => self.chunked = true,
            // Applied twice.
            [first @ .., last]
                if first.iter().all(|it| !it.eq_ignore_ascii_case(b"chunked"))
                    && last.eq_ignore_ascii_case(b"chunked") =>
            {
                return Err(BadMessage::TransferCoding);
            }
            // "identity" was taken out of the standard, and is how requests are smuggled.
            [_, ..]
                if codings
                    .iter()
                    .all(|it| !it.eq_ignore_ascii_case(b"chunked")) =>
            {
                self.strange_coding = true;
            }
            _ => return Err(BadMessage::TransferEncoding),
        }
        Ok(())
    }

    /// RFC 9112 §6.3, for requests.
    pub(super) fn request_framing(&self, is_1_0: bool) -> Result<Framing, BadMessage> {
        if self.hosts > 1 || (self.hosts == 0 && !is_1_0) {
            return Err(BadMessage::Host);
        }
        if self.strange_coding {
            return Err(BadMessage::TransferEncoding);
        }
        match (self.chunked, self.length) {
            (true, Some(_)) => Err(BadMessage::TwoLengths),
            // RFC 9112 §6.1: who says 1.0 and chunked has been tampered with.
            (true, None) if is_1_0 => Err(BadMessage::TransferEncoding),
            (true, None) => Ok(Framing::Chunked),
            (false, None | Some(0)) => Ok(Framing::None),
            (false, Some(length)) => Ok(Framing::Length(length)),
        }
    }
}

/// The members of a list: RFC 9110 §5.6.1.
fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty())
}

/// RFC 9110 §8.6: digits, and nothing else.
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(text).ok()?.parse().ok()
}

/// RFC 9112 §3.2: empty, or a host with perhaps a port.
fn check_host(value: &[u8]) -> Result<(), BadMessage> {
    // Without a branch for each: hosts are short, and nearly all of them good.
    let fits = value
        .iter()
        .fold(true, |fits, byte| fits & IN_HOST[usize::from(*byte)]);
    if fits { Ok(()) } else { Err(BadMessage::Host) }
}

/// What may stand in a host: RFC 3986 §3.2.2, and the colon before the port.
pub(in crate::http) const IN_HOST: [bool; 256] = {
    let mut allowed = [false; 256];
    let mut byte = 0;
    while byte < 0x80 {
        allowed[byte] = (byte as u8).is_ascii_alphanumeric()
            || matches!(
                byte as u8,
                b'-' | b'.'
                    | b'_'
                    | b'~'
                    | b'%'
                    | b'!'
                    | b'$'
                    | b'&'
                    | b'\''
                    | b'('
                    | b')'
                    | b'*'
                    | b'+'
                    | b','
                    | b';'
                    | b'='
                    | b':'
                    | b'['
                    | b']'
            );
        byte += 1;
    }
    allowed
};
