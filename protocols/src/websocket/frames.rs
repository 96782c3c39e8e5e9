//! Frames and the messages that they make: RFC 6455 §5. Pure.
//!
//! A [`Decoder`] takes bytes in any pieces and gives [`Event`]s; [`Head`] is what stands before a
//! payload that goes out.
//!
//! # Order
//!
//! What comes out depends on the bytes alone, not on their pieces: each rule is looked at as soon as the
//! bytes that break it are there, text included. After a Close frame, and after a frame that breaks the
//! rules, nothing comes out any more.
//!
//! # Bounds
//!
//! A message under way takes as many bytes as have come of it, up to the limit on messages; a control frame
//! 125. Between messages nothing is kept. A message of one frame that lies whole in the bytes at hand is
//! unmasked where it lies, and not copied.

use std::borrow::Cow;
use std::mem;

use super::codes::CloseCode;
use super::error::Violation;

/// Which end of the connection this is: §5.1, one masks and the other does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Client,
    Server,
}

/// §5.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

impl Opcode {
    fn of(byte: u8) -> Option<Self> {
        Some(match byte & 0x0f {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// §5.5: a control frame's payload is no longer.
pub(super) const CONTROL_MAX: usize = 125;
const FINAL: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;
const HEAD_MAX: usize = 14;

/// What stands before a payload.
pub(super) struct Head {
    bytes: [u8; HEAD_MAX],
    length: usize,
}

impl Head {
    /// Of an unfragmented frame.
    pub(super) fn new(opcode: Opcode, payload: usize, mask: Option<[u8; 4]>) -> Self {
        let mut head = Self {
            bytes: [0; HEAD_MAX],
            length: 0,
        };
        head.push(&[FINAL | opcode as u8]);
        let masked = if mask.is_some() { MASKED } else { 0 };
        // §5.2: in as few bytes as it can be said.
        match payload {
            0..=125 => head.push(&[masked | payload as u8]),
            126..=0xffff => {
                head.push(&[masked | 126]);
                head.push(&(payload as u16).to_be_bytes());
            }
            _ => {
                head.push(&[masked | 127]);
                head.push(&(payload as u64).to_be_bytes());
            }
        }
        if let Some(mask) = mask {
            head.push(&mask);
        }
        head
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.length..][..bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Masks a part of a payload that begins `offset` bytes behind its beginning, or unmasks it: §5.3.
pub(super) fn mask(key: [u8; 4], offset: usize, payload: &mut [u8]) {
    let mut key = key;
    key.rotate_left(offset % 4);
    let mut wide = [0; 16];
    for piece in wide.chunks_exact_mut(4) {
        piece.copy_from_slice(&key);
    }
    let wide = u128::from_ne_bytes(wide);
    let (pieces, rest) = payload.as_chunks_mut::<16>();
    for piece in pieces {
        *piece = (u128::from_ne_bytes(*piece) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

/// What came.
#[derive(Debug, PartialEq)]
pub(super) enum Event<'a> {
    Text(Cow<'a, str>),
    Binary(Cow<'a, [u8]>),
    Ping(Cow<'a, [u8]>),
    Pong(Cow<'a, [u8]>),
    /// The last.
    Close(Option<CloseCode>, String),
    /// The last: the peer has broken a rule.
    Violated(Violation),
}

/// How much may come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) frame: usize,
    pub(super) message: usize,
}

/// Takes bytes, gives events.
#[derive(Debug)]
pub(super) struct Decoder {
    role: Role,
    sizes: Sizes,
    /// The head at hand, as much of it as has come.
    head: [u8; HEAD_MAX],
    head_length: usize,
    /// The frame whose head has come.
    frame: Option<Frame>,
    /// What the message under way is: text or binary.
    message: Option<Opcode>,
    /// What has come of it, of all its frames.
    payload: Vec<u8>,
    /// How much of it is known to be text.
    valid: usize,
    /// What has come of a control frame.
    control: Vec<u8>,
    over: bool,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    opcode: Opcode,
    is_final: bool,
    mask: Option<[u8; 4]>,
    length: usize,
    /// How much of it has come.
    came: usize,
}

impl Decoder {
    pub(super) fn new(role: Role, sizes: Sizes) -> Self {
        Self {
            role,
            sizes,
            head: [0; HEAD_MAX],
            head_length: 0,
            frame: None,
            message: None,
            payload: Vec::new(),
            valid: 0,
            control: Vec::new(),
            over: false,
        }
    }

    /// How many bytes are kept.
    pub(super) fn kept(&self) -> usize {
        self.payload.len() + self.control.len() + self.head_length
    }

    /// The next event; takes what it is made of from the front of `rest`. `None` when all is taken in.
    pub(super) fn next<'a>(&mut self, rest: &mut &'a mut [u8]) -> Option<Event<'a>> {
        while !self.over {
            let outcome = match self.frame.take() {
                Some(frame) => self.receive_payload(frame, rest),
                None => self.receive_head(rest).map(|()| None),
            };
            match outcome {
                Err(violation) => return Some(self.violated(violation)),
                Ok(Some(event)) => return Some(event),
                // Else it is a frame without payload, complete as it is.
                Ok(None) if rest.is_empty() && !self.is_frame_complete() => return None,
                Ok(None) => {}
            }
        }
        *rest = &mut [];
        None
    }

    fn violated<'a>(&mut self, violation: Violation) -> Event<'a> {
        self.over = true;
        self.payload = Vec::new();
        self.control = Vec::new();
        Event::Violated(violation)
    }

    fn is_frame_complete(&self) -> bool {
        self.frame.is_some_and(|frame| frame.came == frame.length)
    }

    /// Takes in a head, or as much of it as there is.
    fn receive_head(&mut self, rest: &mut &mut [u8]) -> Result<(), Violation> {
        loop {
            let wanted = match self.head_length {
                0 | 1 => 2,
                _ => head_length(self.head[1]),
            };
            let missing = wanted - self.head_length;
            if missing == 0 {
                break;
            }
            let piece = take(rest, missing);
            if piece.is_empty() {
                return Ok(());
            }
            self.head[self.head_length..][..piece.len()].copy_from_slice(piece);
            self.head_length += piece.len();
            if self.head_length == 2 {
                self.check_beginning(self.head[0], self.head[1])?;
            }
        }
        self.begin_frame()
    }

    /// What the first two bytes alone can break.
    fn check_beginning(&self, first: u8, second: u8) -> Result<(), Violation> {
        // §5.2: no extension has been agreed on that would use them.
        if first & RESERVED != 0 {
            return Err(Violation::ReservedBits);
        }
        let code = first & 0x0f;
        let opcode = Opcode::of(first).ok_or(Violation::ReservedOpcode { code })?;
        // §5.1.
        match (self.role, second & MASKED != 0) {
            (Role::Server, false) => return Err(Violation::NotMasked),
            (Role::Client, true) => return Err(Violation::Masked),
            _ => {}
        }
        // §5.5, §5.4.
        match opcode {
            _ if opcode.is_control() && first & FINAL == 0 => Err(Violation::FragmentedControl),
            _ if opcode.is_control() && usize::from(second & !MASKED) > CONTROL_MAX => {
                Err(Violation::LongControl)
            }
            Opcode::Continuation if self.message.is_none() => Err(Violation::NothingToContinue),
            Opcode::Text | Opcode::Binary if self.message.is_some() => Err(Violation::Interleaved),
            _ => Ok(()),
        }
    }

    /// The head is complete.
    fn begin_frame(&mut self) -> Result<(), Violation> {
        let head = &self.head[..mem::take(&mut self.head_length)];
        let code = head[0] & 0x0f;
        let opcode = Opcode::of(code).ok_or(Violation::ReservedOpcode { code })?;
        let (length, mask) = match head[1] & !MASKED {
            126 => (
                u64::from(u16::from_be_bytes([head[2], head[3]])),
                &head[4..],
            ),
            127 => {
                let (length, mask) = head[2..].split_at(8);
                let length = length.try_into().map_or(u64::MAX, u64::from_be_bytes);
                (length, mask)
            }
            short => (u64::from(short), &head[2..]),
        };
        let shortest = match length {
            0..=125 => 0,
            126..=0xffff => 126,
            _ => 127,
        };
        // §5.2: the shortest way to say it, and the highest bit is not used.
        if (head[1] & !MASKED).saturating_sub(125) != u8::saturating_sub(shortest, 125)
            || length > i64::MAX as u64
        {
            return Err(Violation::OddLength);
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if !opcode.is_control() {
            let limit = self.sizes.frame;
            if length > limit {
                return Err(Violation::LongFrame { limit });
            }
            let limit = self.sizes.message;
            if length > limit.saturating_sub(self.payload.len()) {
                return Err(Violation::LongMessage { limit });
            }
        }
        self.frame = Some(Frame {
            opcode,
            is_final: head[0] & FINAL != 0,
            mask: mask.try_into().ok(),
            length,
            came: 0,
        });
        Ok(())
    }

    /// Takes in a payload, or as much of it as there is.
    fn receive_payload<'a>(
        &mut self,
        mut frame: Frame,
        rest: &mut &'a mut [u8],
    ) -> Result<Option<Event<'a>>, Violation> {
        let piece = take(rest, frame.length - frame.came);
        if let Some(key) = frame.mask {
            mask(key, frame.came, piece);
        }
        frame.came += piece.len();
        let is_whole = piece.len() == frame.length;
        let is_complete = frame.came == frame.length;
        if !is_complete {
            self.frame = Some(frame);
        }
        if frame.opcode.is_control() {
            let payload = if is_whole {
                Cow::Borrowed(&*piece)
            } else {
                self.control.extend_from_slice(piece);
                if !is_complete {
                    return Ok(None);
                }
                Cow::Owned(mem::take(&mut self.control))
            };
            return self.control_event(frame.opcode, payload).map(Some);
        }
        let kind = self.message.take().unwrap_or(frame.opcode);
        let is_alone = frame.opcode != Opcode::Continuation && frame.is_final;
        if is_whole && is_alone {
            return match kind {
                Opcode::Text => match str::from_utf8(piece) {
                    Ok(text) => Ok(Some(Event::Text(Cow::Borrowed(text)))),
                    // §8.1.
                    Err(_) => Err(Violation::NotText),
                },
                _ => Ok(Some(Event::Binary(Cow::Borrowed(piece)))),
            };
        }
        self.payload.extend_from_slice(piece);
        let is_end = is_complete && frame.is_final;
        if kind == Opcode::Text {
            self.check_text(is_end)?;
        }
        // Within a frame, the frame says what it is; between frames, this does.
        if !is_end {
            if is_complete || frame.opcode == Opcode::Continuation {
                self.message = Some(kind);
            }
            return Ok(None);
        }
        self.valid = 0;
        let payload = mem::take(&mut self.payload);
        Ok(Some(match kind {
            Opcode::Text => {
                let text = String::from_utf8(payload).or(Err(Violation::NotText))?;
                Event::Text(Cow::Owned(text))
            }
            _ => Event::Binary(Cow::Owned(payload)),
        }))
    }

    /// Looks at what has come of a text, and not been looked at: §8.1.
    fn check_text(&mut self, is_end: bool) -> Result<(), Violation> {
        match str::from_utf8(&self.payload[self.valid..]) {
            Ok(_) => self.valid = self.payload.len(),
            // The beginning of a character, of which the rest may come.
            Err(error) if error.error_len().is_none() && !is_end => {
                self.valid += error.valid_up_to();
            }
            Err(_) => return Err(Violation::NotText),
        }
        Ok(())
    }

    fn control_event<'a>(
        &mut self,
        opcode: Opcode,
        payload: Cow<'a, [u8]>,
    ) -> Result<Event<'a>, Violation> {
        match opcode {
            Opcode::Ping => Ok(Event::Ping(payload)),
            Opcode::Pong => Ok(Event::Pong(payload)),
            _ => {
                let (code, reason) = close_payload(&payload)?;
                self.over = true;
                self.payload = Vec::new();
                Ok(Event::Close(code, reason))
            }
        }
    }
}

/// §5.5.1.
fn close_payload(payload: &[u8]) -> Result<(Option<CloseCode>, String), Violation> {
    let (code, reason) = match payload {
        [] => return Ok((None, String::new())),
        [_] => return Err(Violation::HalfCloseCode),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
    };
    // §7.4.
    let known = CloseCode::from(code);
    if !known.is_sendable() {
        return Err(Violation::BadCloseCode { code });
    }
    match str::from_utf8(reason) {
        Ok(reason) => Ok((Some(known), reason.to_owned())),
        Err(_) => Err(Violation::NotText),
    }
}

/// How long a head is whose second byte is this.
fn head_length(second: u8) -> usize {
    let extended = match second & !MASKED {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let mask = if second & MASKED == 0 { 0 } else { 4 };
    2 + extended + mask
}

/// Takes up to `count` bytes from the front.
fn take<'a>(rest: &mut &'a mut [u8], count: usize) -> &'a mut [u8] {
    let all = mem::take(rest);
    let (front, back) = all.split_at_mut(count.min(all.len()));
    *rest = back;
    front
}

#[cfg(test)]
mod tests {
    use super::*;
    use torsade_reactor::testing::for_every_chunking;

    const SIZES: Sizes = Sizes {
        frame: 1 << 20,
        message: 1 << 20,
    };

    /// A frame, as a client sends it.
    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let opcode = Opcode::of(first).expect("a kind that there is");
        let head = Head::new(opcode, payload.len(), Some([1, 2, 3, 4]));
        let mut wire = head.as_slice().to_vec();
        wire[0] = first;
        let begin = wire.len();
        wire.extend_from_slice(payload);
        mask([1, 2, 3, 4], 0, &mut wire[begin..]);
        wire
    }

    fn decoded_by(mut decoder: Decoder, chunks: &[&[u8]]) -> Vec<String> {
        let mut events = Vec::new();
        for chunk in chunks {
            let mut chunk = chunk.to_vec();
            let mut rest = &mut chunk[..];
            while let Some(event) = decoder.next(&mut rest) {
                events.push(shown(&event));
            }
            assert!(rest.is_empty(), "all is taken in");
        }
        events
    }

    fn shown(event: &Event<'_>) -> String {
        match event {
            Event::Text(text) => format!("text {text}"),
            Event::Binary(bytes) => format!("binary {}", bytes.escape_ascii()),
            Event::Ping(bytes) => format!("ping {}", bytes.escape_ascii()),
            Event::Pong(bytes) => format!("pong {}", bytes.escape_ascii()),
            Event::Close(None, _) => String::from("close"),
            Event::Close(Some(code), reason) => format!("close {code} {reason}"),
            Event::Violated(violation) => format!("violated {}: {violation:?}", violation.code()),
        }
    }

    /// What a server makes of these bytes, in every chunking.
    #[track_caller]
    fn check(wire: &[u8], expected: &[&str]) {
        check_within(SIZES, wire, expected);
    }

    #[track_caller]
    fn check_within(sizes: Sizes, wire: &[u8], expected: &[&str]) {
        for_every_chunking(wire, |chunks| {
            let events = decoded_by(Decoder::new(Role::Server, sizes), chunks);
            assert_eq!(events, expected);
        });
    }

    /// RFC 6455 §5.7.
    #[test]
    fn rfc6455_5_7_the_examples() {
        let hello = [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
        let as_client = |wire: &[u8]| decoded_by(Decoder::new(Role::Client, SIZES), &[wire]);
        assert_eq!(as_client(&hello), ["text Hello"]);
        let masked = [
            0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
        ];
        check(&masked, &["text Hello"]);
        let fragmented = [0x01, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f];
        assert_eq!(as_client(&fragmented), ["text Hello"]);
        let ping = [0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
        assert_eq!(as_client(&ping), ["ping Hello"]);
        let pong = [
            0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
        ];
        check(&pong, &["pong Hello"]);
        assert_eq!(
            Head::new(Opcode::Binary, 256, None).as_slice(),
            [0x82, 0x7E, 0x01, 0x00]
        );
        assert_eq!(
            Head::new(Opcode::Binary, 65536, None).as_slice(),
            [0x82, 0x7F, 0, 0, 0, 0, 0, 1, 0, 0]
        );
    }

    #[test]
    fn a_conversation_gives_the_same_events_in_every_chunking() {
        let wire = [
            masked(0x81, "gr\u{fc}\u{df}".as_bytes()),
            masked(0x82, b""),
            masked(0x01, "h\u{e4}".as_bytes()),
            masked(0x89, b"?"),
            masked(0x00, b""),
            masked(0x80, b"tte"),
            masked(0x8a, b""),
            masked(0x81, b""),
            masked(0x02, b"\xff"),
            masked(0x80, b"\xfe"),
            masked(0x88, b"\x03\xe8bye"),
            masked(0x81, b"too late"),
        ];
        check(
            &wire.concat(),
            &[
                "text gr\u{fc}\u{df}",
                "binary ",
                "ping ?",
                "text h\u{e4}tte",
                "pong ",
                "text ",
                "binary \\xff\\xfe",
                "close 1000 (normal) bye",
            ],
        );
    }

    #[test]
    fn a_character_may_be_cut_between_frames_and_not_at_the_end() {
        let character = "\u{1f60e}".as_bytes();
        let (front, back) = character.split_at(2);
        let cut = [masked(0x01, front), masked(0x80, back)].concat();
        check(&cut, &["text \u{1f60e}"]);
        let unfinished = [masked(0x01, b"a"), masked(0x80, front)].concat();
        check(&unfinished, &["violated 1007 (invalid data): NotText"]);
        check(
            &masked(0x81, front),
            &["violated 1007 (invalid data): NotText"],
        );
    }

    /// §8.1: at once, and not when the rest of the message has come.
    #[test]
    fn what_is_no_text_is_found_in_the_middle_of_a_message() {
        let wire = [masked(0x01, b"a\xff"), masked(0x89, b"")].concat();
        check(&wire, &["violated 1007 (invalid data): NotText"]);
        // Too long a form, half of a pair, beyond the last character.
        for bad in [&b"\xc0\xaf"[..], b"\xed\xa0\x80", b"\xf4\x90\x80\x80"] {
            check(
                &masked(0x81, bad),
                &["violated 1007 (invalid data): NotText"],
            );
        }
    }

    #[test]
    fn frames_that_break_a_rule_are_the_last() {
        let plain = [0x81, 0x01, b'a'];
        let long_control = [&[0x89, 0xfe, 0, 126, 0, 0, 0, 0][..], &[0; 126]].concat();
        let other = masked(0x82, b"more");
        for (wire, expected) in [
            (&plain[..], "NotMasked"),
            (&masked(0xc1, b"a"), "ReservedBits"),
            (&masked(0x91, b"a"), "ReservedBits"),
            (&[0x83, 0x80, 0, 0, 0, 0], "ReservedOpcode { code: 3 }"),
            (&[0x8f, 0x80, 0, 0, 0, 0], "ReservedOpcode { code: 15 }"),
            (&masked(0x09, b""), "FragmentedControl"),
            (&long_control, "LongControl"),
            (&masked(0x80, b"a"), "NothingToContinue"),
            (
                &[masked(0x01, b"a"), masked(0x81, b"b")].concat(),
                "Interleaved",
            ),
            (&[0x81, 0xfe, 0, 125, 0, 0, 0, 0], "OddLength"),
            (
                &[0x81, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0],
                "OddLength",
            ),
            (
                &[0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
                "OddLength",
            ),
            (&masked(0x88, b"\x03"), "HalfCloseCode"),
            (&masked(0x88, b"\x03\xed"), "BadCloseCode { code: 1005 }"),
            (&masked(0x88, b"\x03\xe7"), "BadCloseCode { code: 999 }"),
            (&masked(0x88, b"\x13\x88"), "BadCloseCode { code: 5000 }"),
        ] {
            let wire = [wire, &other].concat();
            check(
                &wire,
                &[&format!("violated 1002 (protocol error): {expected}")],
            );
        }
        let wire = masked(0x88, b"\x03\xe8\xff");
        check(&wire, &["violated 1007 (invalid data): NotText"]);
        // §5.1, the other way.
        let masked = masked(0x81, b"a");
        let events = decoded_by(Decoder::new(Role::Client, SIZES), &[&masked]);
        assert_eq!(events, ["violated 1002 (protocol error): Masked"]);
    }

    #[test]
    fn a_close_frame_may_say_nothing() {
        check(&masked(0x88, b""), &["close"]);
        check(&masked(0x88, b"\x0f\xa1"), &["close 4001 "]);
    }

    #[test]
    fn what_is_too_long_is_refused_before_it_comes() {
        let sizes = Sizes {
            frame: 4,
            message: 6,
        };
        let fits = [masked(0x01, b"abcd"), masked(0x80, b"ef")].concat();
        check_within(sizes, &fits, &["text abcdef"]);
        let long_frame = &masked(0x82, b"abcde")[..6];
        let expected = "violated 1009 (too big): LongFrame { limit: 4 }";
        check_within(sizes, long_frame, &[expected]);
        let long_message = [masked(0x02, b"abcd"), masked(0x00, b"efg")].concat();
        let expected = "violated 1009 (too big): LongMessage { limit: 6 }";
        check_within(sizes, &long_message, &[expected]);
        // As long as can be said, and nothing of it comes.
        let huge = [&[0x82, 0xff, 0x7f][..], &[0xff; 7], &[0; 4]].concat();
        check_within(
            sizes,
            &huge,
            &["violated 1009 (too big): LongFrame { limit: 4 }"],
        );
    }

    #[test]
    fn masking_twice_is_nothing_wherever_it_is_cut() {
        let plain: Vec<u8> = (0..=255).collect();
        let key = [0x12, 0x34, 0x56, 0x78];
        let naive: Vec<u8> = plain
            .iter()
            .zip(key.iter().cycle())
            .map(|(a, b)| a ^ b)
            .collect();
        for cut in 0..=plain.len() {
            let mut both = plain.clone();
            mask(key, 0, &mut both[..cut]);
            mask(key, cut, &mut both[cut..]);
            assert_eq!(both, naive);
        }
    }

    #[test]
    fn nothing_is_kept_between_messages() {
        let mut decoder = Decoder::new(Role::Server, SIZES);
        let wire = [
            masked(0x01, &[b'a'; 5000]),
            masked(0x80, b"b"),
            masked(0x89, b"?"),
        ]
        .concat();
        for chunk in wire.chunks(700) {
            let mut chunk = chunk.to_vec();
            let mut rest = &mut chunk[..];
            while decoder.next(&mut rest).is_some() {}
        }
        assert_eq!(decoder.kept(), 0);
        assert_eq!(
            (decoder.payload.capacity(), decoder.control.capacity()),
            (0, 0)
        );
    }
}
