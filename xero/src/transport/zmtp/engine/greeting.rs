//! The greeting: the first 64 bytes in both directions.

use super::violation::Violation;

/// The size of a greeting.
pub(super) const GREETING_BYTES: usize = 64;

/// How a connection is secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mechanism {
    /// Not at all.
    Null,
}

impl Mechanism {
    const ALL: [Self; 1] = [Self::Null];

    fn name(self) -> &'static str {
        match self {
            Self::Null => "NULL",
        }
    }
}

/// A greeting with version 3.1.
///
/// A peer of version 3.0 reads the same: the minor version changes commands that this side never sends first.
pub(super) fn write(mechanism: Mechanism, is_server: bool) -> [u8; GREETING_BYTES] {
    let mut bytes = [0; GREETING_BYTES];
    bytes[0] = SIGNATURE_START;
    bytes[9] = SIGNATURE_END;
    bytes[MAJOR_AT] = MAJOR;
    bytes[MAJOR_AT + 1] = 1;
    let name = mechanism.name().as_bytes();
    bytes[MECHANISM_AT..][..name.len()].copy_from_slice(name);
    bytes[MECHANISM_AT + MECHANISM_BYTES] = u8::from(is_server);
    bytes
}

/// A greeting of which not all bytes have arrived.
#[derive(Debug)]
pub(super) struct Greeting {
    bytes: [u8; GREETING_BYTES],
    filled: usize,
}

impl Greeting {
    pub(super) fn new() -> Self {
        Self { bytes: [0; GREETING_BYTES], filled: 0 }
    }

    /// Takes bytes, and gives the peer's mechanism once all are there.
    ///
    /// A foreign peer is refused at its first wrong byte: it may never send 64.
    pub(super) fn read(&mut self, input: &mut &[u8]) -> Result<Option<Mechanism>, Violation> {
        let (taken, rest) = input.split_at(input.len().min(GREETING_BYTES - self.filled));
        self.bytes[self.filled..][..taken.len()].copy_from_slice(taken);
        self.filled += taken.len();
        *input = rest;
        let bytes = &self.bytes[..self.filled];
        if bytes.first().is_some_and(|first| *first != SIGNATURE_START) {
            return Err(Violation::Signature);
        }
        // The bytes between are the length of a ZMTP 1.0 frame, for peers that detect versions by it.
        if bytes.get(9).is_some_and(|last| last & 1 != SIGNATURE_END & 1) {
            return Err(Violation::Signature);
        }
        if let Some(major) = bytes.get(MAJOR_AT).filter(|major| **major < MAJOR) {
            // The byte is ZMTP's revision there: 0 means version 1, 1 and 2 mean version 2.
            return Err(Violation::Version(if *major == 0 { 1 } else { 2 }));
        }
        if self.filled < GREETING_BYTES {
            return Ok(None);
        }
        self.mechanism().map(Some)
    }

    fn mechanism(&self) -> Result<Mechanism, Violation> {
        let padded = &self.bytes[MECHANISM_AT..][..MECHANISM_BYTES];
        let end = padded.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let known = Mechanism::ALL.into_iter().find(|known| known.name().as_bytes() == &padded[..end]);
        known.ok_or_else(|| Violation::Mechanism(String::from_utf8_lossy(&padded[..end]).into_owned()))
    }
}

const SIGNATURE_START: u8 = 0xff;
const SIGNATURE_END: u8 = 0x7f;
const MAJOR_AT: usize = 10;
const MAJOR: u8 = 3;
const MECHANISM_AT: usize = 12;
const MECHANISM_BYTES: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Option<Mechanism>, Violation> {
        Greeting::new().read(&mut &bytes[..])
    }

    #[test]
    fn own_greeting_is_read() {
        let bytes = write(Mechanism::Null, true);
        assert_eq!((bytes[10], bytes[11], bytes[32]), (3, 1, 1));
        assert_eq!(read(&bytes), Ok(Some(Mechanism::Null)));
        for end in 0..bytes.len() {
            assert_eq!(read(&bytes[..end]), Ok(None));
        }
    }

    #[test]
    fn minor_version_and_later_major_versions_are_accepted() {
        for (major, minor) in [(3, 0), (3, 1), (3, 9), (4, 0)] {
            let mut bytes = write(Mechanism::Null, false);
            (bytes[10], bytes[11]) = (major, minor);
            assert_eq!(read(&bytes), Ok(Some(Mechanism::Null)));
        }
    }

    #[test]
    fn older_versions_are_refused_by_their_name() {
        for (revision, version) in [(0, 1), (1, 2), (2, 2)] {
            let mut bytes = write(Mechanism::Null, false);
            bytes[10] = revision;
            assert_eq!(read(&bytes[..11]), Err(Violation::Version(version)));
        }
        // A ZMTP 1.0 peer that sends its identity at once.
        assert_eq!(read(b"\x01\x00"), Err(Violation::Signature));
    }

    #[test]
    fn another_protocol_is_refused_at_its_first_wrong_byte() {
        assert_eq!(read(b"G"), Err(Violation::Signature));
        assert_eq!(read(&[0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0x7e]), Err(Violation::Signature));
    }

    #[test]
    fn another_mechanism_is_refused_by_its_name() {
        for name in ["CURVE", "", "NULLX", "null"] {
            let mut bytes = write(Mechanism::Null, false);
            bytes[12..32].fill(0);
            bytes[12..][..name.len()].copy_from_slice(name.as_bytes());
            assert_eq!(read(&bytes), Err(Violation::Mechanism(name.to_owned())));
        }
    }
}
