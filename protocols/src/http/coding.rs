//! Content codings as they go by (RFC 9110 §8.4): gzip (RFC 1952) and deflate (RFC 1950).
//!
//! An [`Encoder`] and a [`Decoder`] take content in any pieces and keep no more than DEFLATE's window,
//! so a body may be as long as it likes.
//!
//! # Bounds
//!
//! A decoder gives at most what it is asked for at a time, and ends with [`DecodeError::TooLong`] at
//! its limit: a few kilobytes may stand for gigabytes.
//!
//! # Design
//!
//! `flate2` has gzip only behind `Read` and `Write`, which give as much as the input holds. The frame
//! around DEFLATE is a dozen lines, so it is read and written here, and the output can be had in
//! pieces.

use std::fmt;

use flate2::{Compress, Compression, Crc, Decompress, FlushCompress, FlushDecompress, Status};

use super::negotiate::Coding;

/// Why content cannot be decoded.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// It is longer than is accepted here.
    #[error("the content is longer than {limit} bytes when decoded")]
    TooLong {
        /// What is accepted, in bytes.
        limit: u64,
    },
    /// The bytes are no content in that coding.
    #[error("bad {coding} content: {problem}", coding = .coding.name())]
    Bad {
        /// The coding that was announced.
        coding: Coding,
        /// What is wrong.
        problem: &'static str,
    },
    /// The content ended in the middle.
    #[error("bad {coding} content: it ends too early", coding = .coding.name())]
    Truncated {
        /// The coding that was announced.
        coding: Coding,
    },
}

/// Decodes content in pieces.
///
/// ```
/// use torsade_protocols::http::coding::{Decoder, Encoder};
/// use torsade_protocols::http::negotiate::Coding;
///
/// let mut encoder = Encoder::new(Coding::Gzip);
/// let mut coded = Vec::new();
/// encoder.encode(b"one, two, three", &mut coded);
/// encoder.finish(&mut coded);
///
/// let mut decoder = Decoder::new(Coding::Gzip, 1 << 20);
/// let mut content = Vec::new();
/// let mut rest = coded.as_slice();
/// while !rest.is_empty() {
///     let used = decoder.decode(rest, &mut content, 4096)?;
///     rest = &rest[used..];
/// }
/// decoder.finish()?;
/// assert_eq!(content, b"one, two, three");
/// # Ok::<(), torsade_protocols::http::coding::DecodeError>(())
/// ```
pub struct Decoder {
    coding: Coding,
    state: State,
    decompress: Decompress,
    crc: Crc,
    /// What may still come out.
    left: u64,
    limit: u64,
}

/// What the next bytes are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// Of the identity: content.
    Identity,
    /// Nothing came yet.
    Start,
    /// Of gzip, the ten bytes at the beginning: which one, and the flags.
    GzipFixed { at: u8, flags: u8 },
    /// Of gzip, the length of the extra field, low byte first.
    GzipExtraLength { low: Option<u8>, flags: u8 },
    /// Of gzip, the extra field.
    GzipExtra { left: u16, flags: u8 },
    /// Of gzip, a text up to a zero: the name, and then the comment.
    GzipText { flags: u8 },
    /// Of gzip, the checksum of the header, which nobody writes and nobody checks.
    GzipHeaderCrc { left: u8 },
    /// Of deflate, the first byte came, and the second will say whether it is zlib's.
    SecondByte { first: u8 },
    /// Compressed bytes, after the two that were looked at.
    Looked { bytes: [u8; 2], at: usize },
    /// Compressed bytes.
    Deflate,
    /// Of gzip, what stands behind them: checksum and length.
    GzipTrailer { at: u8, found: [u8; 8] },
    /// All came; of gzip, there may be another member.
    End,
    /// It was bad before.
    Broken,
}

/// RFC 1952 §2.3.1: bits of the flags.
const HEADER_CRC: u8 = 2;
const EXTRA: u8 = 4;
const NAME: u8 = 8;
const COMMENT: u8 = 16;
const RESERVED: u8 = 0xe0;

impl Decoder {
    /// A decoder of content that has at most `limit` bytes when it is decoded.
    #[must_use]
    pub fn new(coding: Coding, limit: u64) -> Self {
        Self {
            coding,
            state: match coding {
                Coding::Identity => State::Identity,
                Coding::Gzip | Coding::Deflate => State::Start,
            },
            decompress: Decompress::new(false),
            crc: Crc::new(),
            left: limit,
            limit,
        }
    }

    /// Decodes the next bytes and appends what they say to `output`, at most `room` bytes.
    ///
    /// Gives how many of `input` were used. Call it again with the rest until that is empty and
    /// nothing more comes: what was used may say more than there was room for, so an answer that
    /// fills the room is to be followed by another call, if need be with no input.
    ///
    /// # Errors
    ///
    /// [`DecodeError::TooLong`] and [`DecodeError::Bad`], and from then on always. What was appended
    /// before is good as far as can be known then.
    pub fn decode(
        &mut self,
        input: &[u8],
        output: &mut Vec<u8>,
        room: usize,
    ) -> Result<usize, DecodeError> {
        let begin = output.len();
        let mut used = 0;
        loop {
            let room = room - (output.len() - begin);
            match self.step(&input[used..], output, room) {
                Ok(Step::Used(count)) => used += count,
                Ok(Step::Wait) => return Ok(used),
                Err(error) => {
                    self.state = State::Broken;
                    return Err(error);
                }
            }
        }
    }

    /// Tells that the content has ended. Nothing at all is taken as no content: an answer to HEAD,
    /// and what says 304, has a coding and no bytes.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Truncated`] if it ended in the middle.
    pub fn finish(&self) -> Result<(), DecodeError> {
        match self.state {
            State::Identity | State::Start | State::End => Ok(()),
            _ => Err(DecodeError::Truncated {
                coding: self.coding,
            }),
        }
    }

    fn step(
        &mut self,
        input: &[u8],
        output: &mut Vec<u8>,
        room: usize,
    ) -> Result<Step, DecodeError> {
        match self.state {
            State::Identity => return self.copy(input, output, room),
            State::Deflate => {
                let (used, made) = self.inflate(input, output, room)?;
                let idle = used == 0 && made == 0 && self.state == State::Deflate;
                return Ok(if idle { Step::Wait } else { Step::Used(used) });
            }
            State::Looked { at: 2, .. } => {
                self.state = State::Deflate;
                return Ok(Step::Used(0));
            }
            State::Looked { bytes, at } => {
                let (used, made) = self.inflate(&bytes[at..], output, room)?;
                if let State::Looked { at, .. } = &mut self.state {
                    *at += used;
                } else if at + used < 2 {
                    return self.bad("there is more behind its end");
                }
                let idle = used == 0 && made == 0;
                return Ok(if idle { Step::Wait } else { Step::Used(0) });
            }
            _ => {}
        }
        let Some(&byte) = input.first() else {
            return Ok(Step::Wait);
        };
        self.state = match self.state {
            State::Start if self.coding == Coding::Gzip => match byte {
                0x1f => State::GzipFixed { at: 1, flags: 0 },
                _ => return self.bad("it does not begin as gzip does"),
            },
            State::Start => State::SecondByte { first: byte },
            State::SecondByte { first } => self.begin_deflate(first, byte),
            State::GzipFixed { at, flags } => {
                let flags = if at == 3 { byte } else { flags };
                match (at, byte) {
                    (1, byte) if byte != 0x8b => {
                        return self.bad("it does not begin as gzip does");
                    }
                    (2, byte) if byte != 8 => return self.bad("its method is not known"),
                    (3, byte) if byte & RESERVED != 0 => {
                        return self.bad("it has flags that are not known");
                    }
                    (9, _) => self.next_field(flags),
                    _ => State::GzipFixed { at: at + 1, flags },
                }
            }
            State::GzipExtraLength { low: None, flags } => State::GzipExtraLength {
                low: Some(byte),
                flags,
            },
            State::GzipExtraLength {
                low: Some(low),
                flags,
            } => match u16::from_le_bytes([low, byte]) {
                0 => self.next_field(flags & !EXTRA),
                left => State::GzipExtra { left, flags },
            },
            State::GzipExtra { left: 1, flags } => self.next_field(flags & !EXTRA),
            State::GzipExtra { left, flags } => State::GzipExtra {
                left: left - 1,
                flags,
            },
            State::GzipText { flags } if byte != 0 => State::GzipText { flags },
            State::GzipText { flags } if flags & NAME != 0 => self.next_field(flags & !NAME),
            State::GzipText { flags } => self.next_field(flags & !COMMENT),
            State::GzipHeaderCrc { left: 1 } => self.next_field(0),
            State::GzipHeaderCrc { left } => State::GzipHeaderCrc { left: left - 1 },
            State::GzipTrailer { at, mut found } => {
                found[usize::from(at)] = byte;
                if at < 7 {
                    State::GzipTrailer { at: at + 1, found }
                } else {
                    let [a, b, c, d, e, f, g, h] = found;
                    if u32::from_le_bytes([a, b, c, d]) != self.crc.sum() {
                        return self.bad("its checksum is wrong");
                    }
                    if u32::from_le_bytes([e, f, g, h]) != self.crc.amount() {
                        return self.bad("its length is wrong");
                    }
                    State::End
                }
            }
            // RFC 1952 §2.2: a file may have several members, one behind the other.
            State::End if self.coding == Coding::Gzip && byte == 0x1f => {
                State::GzipFixed { at: 1, flags: 0 }
            }
            State::End => return self.bad("there is more behind its end"),
            State::Broken => return self.bad("it was bad before"),
            State::Identity | State::Deflate | State::Looked { .. } => {
                unreachable!("they take many bytes at once")
            }
        };
        Ok(Step::Used(1))
    }

    /// What comes next in the header of gzip, of what `flags` say that is still to come.
    fn next_field(&mut self, flags: u8) -> State {
        if flags & EXTRA != 0 {
            State::GzipExtraLength { low: None, flags }
        } else if flags & (NAME | COMMENT) != 0 {
            State::GzipText { flags }
        } else if flags & HEADER_CRC != 0 {
            State::GzipHeaderCrc { left: 2 }
        } else {
            self.decompress.reset(false);
            self.crc.reset();
            State::Deflate
        }
    }

    /// §8.4.1.2: "Some non-conformant implementations send the deflate compressed data without the
    /// zlib wrapper." The first two bytes tell (RFC 1950 §2.2).
    fn begin_deflate(&mut self, first: u8, second: u8) -> State {
        let is_zlib = first & 0x0f == 8
            && first >> 4 <= 7
            && u16::from_be_bytes([first, second]).is_multiple_of(31);
        self.decompress.reset(is_zlib);
        State::Looked {
            bytes: [first, second],
            at: 0,
        }
    }

    fn copy(
        &mut self,
        input: &[u8],
        output: &mut Vec<u8>,
        room: usize,
    ) -> Result<Step, DecodeError> {
        let count = input.len().min(room);
        if count == 0 {
            return Ok(Step::Wait);
        }
        self.count(count)?;
        output.extend_from_slice(&input[..count]);
        Ok(Step::Used(count))
    }

    /// Gives how many bytes were used, and made.
    fn inflate(
        &mut self,
        input: &[u8],
        output: &mut Vec<u8>,
        room: usize,
    ) -> Result<(usize, usize), DecodeError> {
        if room == 0 {
            return Ok((0, 0));
        }
        let mut piece = [0; PIECE];
        let piece = &mut piece[..room.min(PIECE)];
        let before = (self.decompress.total_in(), self.decompress.total_out());
        let status = self
            .decompress
            .decompress(input, piece, FlushDecompress::None);
        let count = |after: u64, before: u64| {
            usize::try_from(after - before).expect("it is within the slices")
        };
        let used = count(self.decompress.total_in(), before.0);
        let made = &piece[..count(self.decompress.total_out(), before.1)];
        self.count(made.len())?;
        self.crc.update(made);
        output.extend_from_slice(made);
        match status {
            Ok(Status::StreamEnd) if self.coding == Coding::Gzip => {
                let found = [0; 8];
                self.state = State::GzipTrailer { at: 0, found };
            }
            Ok(Status::StreamEnd) => self.state = State::End,
            Ok(Status::Ok | Status::BufError) => {}
            Err(_) => return self.bad("its compressed bytes are damaged"),
        }
        Ok((used, made.len()))
    }

    /// Counts what comes out.
    fn count(&mut self, made: usize) -> Result<(), DecodeError> {
        let limit = self.limit;
        let left = self.left.checked_sub(made as u64);
        self.left = left.ok_or(DecodeError::TooLong { limit })?;
        Ok(())
    }

    fn bad<T>(&self, problem: &'static str) -> Result<T, DecodeError> {
        Err(DecodeError::Bad {
            coding: self.coding,
            problem,
        })
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder")
            .field("coding", &self.coding)
            .field("state", &self.state)
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

/// What became of a step.
enum Step {
    /// So many bytes were used, and perhaps more comes.
    Used(usize),
    /// Nothing more without input, or without room.
    Wait,
}

/// How many bytes are made at a time.
const PIECE: usize = 8192;

/// Encodes content in pieces.
pub struct Encoder {
    coding: Coding,
    compress: Compress,
    crc: Crc,
    /// The ten bytes of gzip's header were written.
    begun: bool,
}

/// RFC 1952 §2.3: no name, no time, no flags, made on an unknown system.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

impl Encoder {
    /// An encoder at the level that is a fair deal for most content.
    #[must_use]
    pub fn new(coding: Coding) -> Self {
        Self::with_level(coding, 6)
    }

    /// An encoder at a level from 0, which only wraps, over 1, which is fast, to 9, which is small.
    /// Higher levels are taken as 9.
    #[must_use]
    pub fn with_level(coding: Coding, level: u32) -> Self {
        Self {
            coding,
            compress: Compress::new(Compression::new(level.min(9)), coding == Coding::Deflate),
            crc: Crc::new(),
            begun: coding != Coding::Gzip,
        }
    }

    /// Encodes the next bytes and appends what there is to send to `output`: often nothing, since much
    /// is kept to be compressed with what follows.
    pub fn encode(&mut self, content: &[u8], output: &mut Vec<u8>) {
        if self.coding == Coding::Identity {
            return output.extend_from_slice(content);
        }
        self.crc.update(content);
        self.run(content, output, FlushCompress::None);
    }

    /// Appends everything that was kept, so that the other end can decode all it was given so far.
    /// Costs a few bytes: call it where somebody waits.
    pub fn flush(&mut self, output: &mut Vec<u8>) {
        if self.coding != Coding::Identity {
            self.run(&[], output, FlushCompress::Sync);
        }
    }

    /// Appends the end of the content.
    pub fn finish(mut self, output: &mut Vec<u8>) {
        if self.coding == Coding::Identity {
            return;
        }
        self.run(&[], output, FlushCompress::Finish);
        if self.coding == Coding::Gzip {
            output.extend_from_slice(&self.crc.sum().to_le_bytes());
            output.extend_from_slice(&self.crc.amount().to_le_bytes());
        }
    }

    fn run(&mut self, mut content: &[u8], output: &mut Vec<u8>, flush: FlushCompress) {
        if !self.begun {
            self.begun = true;
            output.extend_from_slice(&GZIP_HEADER);
        }
        loop {
            let mut piece = [0; PIECE];
            let before = (self.compress.total_in(), self.compress.total_out());
            let status = self
                .compress
                .compress(content, &mut piece, flush)
                .expect("the compressor is in order, and every content can be compressed");
            let count = |after: u64, before: u64| {
                usize::try_from(after - before).expect("it is within the slices")
            };
            let used = count(self.compress.total_in(), before.0);
            let made = count(self.compress.total_out(), before.1);
            content = &content[used..];
            output.extend_from_slice(&piece[..made]);
            // A piece that is not full had room for everything.
            let is_done = content.is_empty() && made < PIECE;
            if status == Status::StreamEnd || is_done || (used == 0 && made == 0) {
                return;
            }
        }
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder")
            .field("coding", &self.coding)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use torsade_reactor::testing::for_every_chunking;

    use super::Coding::{Deflate, Gzip, Identity};
    use super::*;

    const TEXT: &[u8] = b"to be or not to be, that is the question; to be or not to be";

    /// Decodes, never giving more room than `room`, and never letting it be exceeded.
    fn decode(
        decoder: &mut Decoder,
        chunks: &[&[u8]],
        room: usize,
    ) -> Result<Vec<u8>, DecodeError> {
        let mut content = Vec::new();
        for chunk in chunks {
            let mut rest = *chunk;
            loop {
                let before = content.len();
                let used = decoder.decode(rest, &mut content, room)?;
                rest = &rest[used..];
                let made = content.len() - before;
                assert!(made <= room);
                if rest.is_empty() && made < room {
                    break;
                }
            }
        }
        decoder.finish()?;
        Ok(content)
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(content).expect("a vector takes all");
        encoder.finish().expect("a vector takes all")
    }

    fn bad(coding: Coding, problem: &'static str) -> DecodeError {
        DecodeError::Bad { coding, problem }
    }

    #[track_caller]
    fn check(coding: Coding, coded: &[u8], expected: &Result<Vec<u8>, DecodeError>) {
        for room in [1, 7, 100_000] {
            let mut decoder = Decoder::new(coding, 1_000);
            let outcome = decode(&mut decoder, &[coded], room);
            assert_eq!(&outcome, expected, "{coding:?}, {room} at a time");
            let mut decoder = Decoder::new(coding, 1_000);
            let bytes: Vec<&[u8]> = coded.chunks(1).collect();
            assert_eq!(&decode(&mut decoder, &bytes, room), expected);
        }
        for_every_chunking(coded, |chunks| {
            let mut decoder = Decoder::new(coding, 1_000);
            assert_eq!(&decode(&mut decoder, chunks, 16), expected);
        });
    }

    #[test]
    fn what_others_encode_is_decoded_in_every_chunking() {
        check(Gzip, &gzip(TEXT), &Ok(TEXT.to_vec()));
        check(Gzip, &gzip(b""), &Ok(Vec::new()));
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(TEXT).expect("a vector takes all");
        let coded = encoder.finish().expect("a vector takes all");
        check(Deflate, &coded, &Ok(TEXT.to_vec()));
        check(Identity, TEXT, &Ok(TEXT.to_vec()));
    }

    #[test]
    fn rfc9110_8_4_1_2_deflate_without_its_wrapper_is_decoded_too() {
        for content in [TEXT, b"x", b""] {
            let mut encoder =
                flate2::write::DeflateEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(content).expect("a vector takes all");
            let coded = encoder.finish().expect("a vector takes all");
            check(Deflate, &coded, &Ok(content.to_vec()));
        }
    }

    #[test]
    fn rfc1952_2_3_every_field_of_the_header_is_skipped() {
        let coded = flate2::GzBuilder::new()
            .filename("name")
            .comment("comment")
            .extra(b"extra".as_slice())
            .mtime(1)
            .write(Vec::new(), Compression::default());
        let mut coded = {
            let mut coded = coded;
            coded.write_all(TEXT).expect("a vector takes all");
            coded.finish().expect("a vector takes all")
        };
        check(Gzip, &coded, &Ok(TEXT.to_vec()));
        // A checksum of the header, behind the comment.
        coded[3] |= HEADER_CRC;
        let end = coded
            .windows(8)
            .position(|it| it == b"comment\0")
            .expect("it is there")
            + 8;
        coded.splice(end..end, [1, 2]);
        check(Gzip, &coded, &Ok(TEXT.to_vec()));
        // An extra field with nothing in it.
        let mut coded = gzip(TEXT);
        coded[3] |= EXTRA;
        coded.splice(10..10, [0, 0]);
        check(Gzip, &coded, &Ok(TEXT.to_vec()));
    }

    #[test]
    fn rfc1952_2_2_members_follow_each_other() {
        let coded = [gzip(b"one, "), gzip(b""), gzip(b"two")].concat();
        check(Gzip, &coded, &Ok(b"one, two".to_vec()));
        let coded = [gzip(b"one"), b"\0\0".to_vec()].concat();
        check(
            Gzip,
            &coded,
            &Err(bad(Gzip, "there is more behind its end")),
        );
    }

    #[test]
    fn what_is_damaged_is_told() {
        let good = gzip(TEXT);
        let damaged = |at: usize| {
            let mut coded = good.clone();
            coded[at] ^= 0xff;
            coded
        };
        let begin = bad(Gzip, "it does not begin as gzip does");
        check(Gzip, &damaged(0), &Err(begin.clone()));
        check(Gzip, &damaged(1), &Err(begin));
        check(
            Gzip,
            &damaged(2),
            &Err(bad(Gzip, "its method is not known")),
        );
        let flags = bad(Gzip, "it has flags that are not known");
        check(Gzip, &damaged(3), &Err(flags));
        let (crc, length) = (good.len() - 8, good.len() - 1);
        check(
            Gzip,
            &damaged(crc),
            &Err(bad(Gzip, "its checksum is wrong")),
        );
        check(
            Gzip,
            &damaged(length),
            &Err(bad(Gzip, "its length is wrong")),
        );
        let damaged = bad(Deflate, "its compressed bytes are damaged");
        check(Deflate, b"\x07\xff\xff", &Err(damaged));
    }

    #[test]
    fn an_end_in_the_middle_is_told_and_none_at_all_is_no_content() {
        for coding in [Gzip, Deflate] {
            let mut coded = Vec::new();
            let mut encoder = Encoder::new(coding);
            encoder.encode(TEXT, &mut coded);
            encoder.finish(&mut coded);
            for end in 1..coded.len() {
                let outcome = decode(&mut Decoder::new(coding, 1_000), &[&coded[..end]], 16);
                assert_eq!(outcome, Err(DecodeError::Truncated { coding }), "{end}");
            }
            assert_eq!(
                decode(&mut Decoder::new(coding, 0), &[], 16),
                Ok(Vec::new())
            );
        }
    }

    #[test]
    fn a_bomb_ends_at_the_limit() {
        let zeros = vec![0; 10 << 20];
        let coded = gzip(&zeros);
        assert!(coded.len() < 16 << 10);
        let mut decoder = Decoder::new(Gzip, 100_000);
        let mut content = Vec::new();
        let mut rest = coded.as_slice();
        let error = loop {
            match decoder.decode(rest, &mut content, 30_000) {
                Ok(used) => rest = &rest[used..],
                Err(error) => break error,
            }
            assert!(content.len() <= 100_000);
        };
        assert_eq!(error, DecodeError::TooLong { limit: 100_000 });
        assert!(content.len() <= 100_000);
        assert!(decoder.decode(rest, &mut content, 30_000).is_err());
        assert!(decoder.finish().is_err());
    }

    #[test]
    fn the_limit_itself_is_allowed() {
        let length = TEXT.len() as u64;
        for coding in [Gzip, Deflate, Identity] {
            let mut coded = Vec::new();
            let mut encoder = Encoder::new(coding);
            encoder.encode(TEXT, &mut coded);
            encoder.finish(&mut coded);
            let outcome = decode(&mut Decoder::new(coding, length), &[&coded], 7);
            assert_eq!(outcome.as_deref(), Ok(TEXT));
            let limit = length - 1;
            let outcome = decode(&mut Decoder::new(coding, limit), &[&coded], 7);
            assert_eq!(outcome, Err(DecodeError::TooLong { limit }));
        }
    }

    #[test]
    fn others_decode_what_is_encoded_here_in_every_chunking() {
        for_every_chunking(TEXT, |chunks| {
            for coding in [Gzip, Deflate] {
                let mut coded = Vec::new();
                let mut encoder = Encoder::with_level(coding, 99);
                for chunk in chunks {
                    encoder.encode(chunk, &mut coded);
                }
                encoder.finish(&mut coded);
                let mut content = Vec::new();
                let read = match coding {
                    Gzip => {
                        flate2::read::GzDecoder::new(coded.as_slice()).read_to_end(&mut content)
                    }
                    _ => flate2::read::ZlibDecoder::new(coded.as_slice()).read_to_end(&mut content),
                };
                assert!(read.is_ok());
                assert_eq!(content, TEXT);
            }
        });
    }

    #[test]
    fn what_is_long_and_random_comes_back() {
        let mut state = 1_u32;
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        });
        let content: Vec<u8> = noise.take(100_000).collect();
        for coding in [Gzip, Deflate, Identity] {
            for level in [0, 1, 6] {
                let mut coded = Vec::new();
                let mut encoder = Encoder::with_level(coding, level);
                encoder.encode(&content, &mut coded);
                encoder.finish(&mut coded);
                let outcome = decode(&mut Decoder::new(coding, u64::MAX), &[&coded], 5_000);
                assert!(
                    outcome.as_deref() == Ok(&content),
                    "{coding:?} at level {level}"
                );
            }
        }
    }

    #[test]
    fn what_is_flushed_can_be_decoded_at_once() {
        for coding in [Gzip, Deflate, Identity] {
            let mut encoder = Encoder::new(coding);
            let mut decoder = Decoder::new(coding, 1_000);
            for line in [b"one".as_slice(), b"two", b""] {
                let (mut coded, mut content) = (Vec::new(), Vec::new());
                encoder.encode(line, &mut coded);
                encoder.flush(&mut coded);
                let used = decoder.decode(&coded, &mut content, 100);
                assert_eq!(used, Ok(coded.len()));
                assert_eq!(content, line);
            }
        }
    }
}
