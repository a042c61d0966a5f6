//! The head of a frame: flags and length.

use super::violation::Violation;

/// Flags and length of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: Kind,
    pub(super) length: u64,
}

/// What a frame is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Command,
    /// A part of a message; the flag says whether another follows.
    Message {
        more: bool,
    },
}

impl Head {
    /// Writes the head in its short form where that is possible.
    pub(super) fn write(self, buffer: &mut impl Extend<u8>) {
        let kind = match self.kind {
            Kind::Command => COMMAND,
            Kind::Message { more } => u8::from(more),
        };
        match u8::try_from(self.length) {
            Ok(length) => buffer.extend([kind, length]),
            Err(_) => buffer.extend([kind | LONG].into_iter().chain(self.length.to_be_bytes())),
        }
    }
}

/// A head of which not all bytes have arrived.
#[derive(Debug, Default)]
pub(super) struct PartialHead {
    bytes: [u8; HEAD_BYTES_MAX],
    filled: usize,
}

impl PartialHead {
    /// Takes bytes, and gives the head once all are there. The next call starts the next head.
    pub(super) fn read(&mut self, input: &mut &[u8]) -> Result<Option<Head>, Violation> {
        while let Some((byte, rest)) = input.split_first() {
            self.bytes[self.filled] = *byte;
            self.filled += 1;
            *input = rest;
            let flags = self.bytes[0];
            if flags & !(MORE | LONG | COMMAND) != 0 || flags & (MORE | COMMAND) == MORE | COMMAND {
                return Err(Violation::Flags(flags));
            }
            if self.filled == if flags & LONG == 0 { 2 } else { HEAD_BYTES_MAX } {
                self.filled = 0;
                return self.head().map(Some);
            }
        }
        Ok(None)
    }

    fn head(&self) -> Result<Head, Violation> {
        let [flags, length @ ..] = self.bytes;
        let length = if flags & LONG == 0 { length[0].into() } else { u64::from_be_bytes(length) };
        if length > LENGTH_MAX {
            return Err(Violation::Length(length));
        }
        let kind = match flags & COMMAND {
            0 => Kind::Message { more: flags & MORE != 0 },
            _ => Kind::Command,
        };
        Ok(Head { kind, length })
    }
}

const MORE: u8 = 1;
const LONG: u8 = 1 << 1;
const COMMAND: u8 = 1 << 2;

/// Flags, and a long length.
const HEAD_BYTES_MAX: usize = 9;

/// The largest length that ZMTP allows.
const LENGTH_MAX: u64 = i64::MAX as u64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_as_they_are_written() {
        for kind in [Kind::Command, Kind::Message { more: false }, Kind::Message { more: true }] {
            for length in [0, 1, 255, 256, 1 << 32, LENGTH_MAX] {
                let (head, mut bytes) = (Head { kind, length }, Vec::new());
                head.write(&mut bytes);
                assert_eq!(bytes.len(), if length < 256 { 2 } else { 9 });
                let mut partial = PartialHead::default();
                for (n, byte) in bytes.iter().enumerate() {
                    let expected = (n + 1 == bytes.len()).then_some(head);
                    assert_eq!(partial.read(&mut &[*byte][..]), Ok(expected));
                }
            }
        }
    }

    #[test]
    fn length_beyond_the_protocol_is_a_violation() {
        for length in [1 << 63, u64::MAX] {
            let bytes: Vec<u8> = [LONG].into_iter().chain(length.to_be_bytes()).collect();
            assert_eq!(PartialHead::default().read(&mut &bytes[..]), Err(Violation::Length(length)));
        }
    }

    #[test]
    fn unknown_flags_and_commands_with_more_frames_are_violations() {
        for flags in [8, 0x80, 0xff, MORE | COMMAND] {
            assert_eq!(PartialHead::default().read(&mut &[flags][..]), Err(Violation::Flags(flags)));
        }
    }
}
