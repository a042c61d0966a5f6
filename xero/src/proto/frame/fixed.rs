//! The fixed header that every message starts with (`PROTOCOL.md` §3).

use std::time::Duration;

use crate::proto::message::CallId;

use super::{
    kind::{Kind, VERSION},
    malformed::{Malformed, Reason},
};

/// The first bytes of every header frame.
pub(super) const MAGIC: [u8; 4] = *b"XERO";
/// The start of the kind's fields in this version; a reader takes it from the header.
pub(super) const FIXED_BYTES: usize = 32;

/// REQUEST: the caller lets it run twice.
pub(super) const IDEMPOTENT: u16 = 1;
/// ERROR: the procedure may have run, in part or whole.
pub(super) const MAYBE_EXECUTED: u16 = 1 << 1;
/// SUBSCRIBE: the topic's events are wanted.
pub(super) const WANTED: u16 = 1 << 2;
/// REQUEST: workers declare that it is idempotent, and its caller does not know.
pub(super) const AS_DECLARED: u16 = 1 << 4;
/// REQUEST: it must not wait for a worker.
pub(super) const FAIL_FAST: u16 = 1 << 3;

/// The content of the fixed header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fixed {
    pub(super) kind: Kind,
    pub(super) flags: u16,
    pub(super) call: CallId,
    pub(super) remaining: Duration,
    pub(super) codec: u8,
    pub(super) attempt: u8,
    pub(super) sequence: u32,
}

impl Fixed {
    /// The header of a message that needs only its kind.
    pub(super) fn of(kind: Kind) -> Self {
        Self { kind, flags: 0, call: CallId(0), remaining: Duration::ZERO, codec: 0, attempt: 0, sequence: 0 }
    }

    /// The header of a message about a call.
    pub(super) fn of_call(kind: Kind, call: CallId) -> Self {
        Self { call, ..Self::of(kind) }
    }

    /// Reads the fixed header; also returns where the kind's fields start.
    pub(super) fn read(header: &[u8]) -> Result<(Self, usize), Malformed> {
        if !header.starts_with(&MAGIC) {
            return Err(Reason::Magic.into());
        }
        // Nothing after the version is read in another version: it may lie elsewhere there.
        if let Some(&version) = header.get(4).filter(|version| **version != VERSION) {
            return Err(Reason::Version(version).into());
        }
        let Some(fixed) = header.first_chunk() else {
            let (needed, left) = (FIXED_BYTES, header.len());
            return Err(Reason::CutShort { field: "fixed header", offset: 0, needed, left }.into());
        };
        let kind_number = fixed[5];
        let Some(kind) = Kind::from_wire(kind_number) else {
            return Err(Malformed { kind: Some(kind_number), ..Reason::Kind(kind_number).into() });
        };
        let (read, fields_at) = Self::from_bytes(kind, fixed);
        if fields_at < FIXED_BYTES || fields_at > header.len() {
            return Err(read.malformed(Reason::HeaderLength { length: fields_at, frame: header.len() }));
        }
        Ok((read, fields_at))
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let mut fixed = [0; FIXED_BYTES];
        fixed[..4].copy_from_slice(&MAGIC);
        fixed[4..6].copy_from_slice(&[VERSION, self.kind as u8]);
        fixed[6..8].copy_from_slice(&self.flags.to_be_bytes());
        fixed[8..16].copy_from_slice(&self.call.0.to_be_bytes());
        fixed[16..24].copy_from_slice(&micros(self.remaining).to_be_bytes());
        fixed[24..26].copy_from_slice(&[self.codec, self.attempt]);
        fixed[26..28].copy_from_slice(&(FIXED_BYTES as u16).to_be_bytes());
        fixed[28..].copy_from_slice(&self.sequence.to_be_bytes());
        out.extend_from_slice(&fixed);
    }

    pub(super) fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// Marks the message of this header as malformed.
    pub(super) fn malformed(&self, reason: Reason) -> Malformed {
        let call = Some(self.call).filter(|call| self.kind.has_call() && call.0 != 0);
        Malformed { kind: Some(self.kind as u8), call, ..reason.into() }
    }

    fn from_bytes(kind: Kind, b: &[u8; FIXED_BYTES]) -> (Self, usize) {
        let long = |at: usize| u64::from_be_bytes(std::array::from_fn(|i| b[at + i]));
        let read = Self {
            kind,
            flags: u16::from_be_bytes([b[6], b[7]]),
            call: CallId(long(8)),
            remaining: Duration::from_micros(long(16)),
            codec: b[24],
            attempt: b[25],
            sequence: u32::from_be_bytes([b[28], b[29], b[30], b[31]]),
        };
        (read, usize::from(u16::from_be_bytes([b[26], b[27]])))
    }
}

/// A duration in microseconds on the wire; a longer one becomes the longest that fits.
pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
