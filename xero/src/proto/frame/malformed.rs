//! Errors of unreadable messages (`PROTOCOL.md` §14).

use std::fmt;

use thiserror::Error;

use crate::proto::message::{CallId, ErrorCode};

use super::{
    TooLarge,
    kind::{Kind, VERSION},
};

/// An unreadable message.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct Malformed {
    /// The kind in its header, as far as readable; it may be unknown.
    pub kind: Option<u8>,
    /// The call that it belongs to, for the kinds that have one.
    pub call: Option<CallId>,
    /// The code of the answer, `Malformed` or `TooLarge`, if it names a call.
    pub code: ErrorCode,
    /// The field, its place, and the mistake.
    pub reason: Reason,
    /// What it counts in a byte window all the same.
    pub window_bytes: u64,
}

impl Malformed {
    /// A message of neither one nor two frames, whose content the transport has dropped.
    pub fn frame_count(frames: usize) -> Self {
        Reason::FrameCount(frames).into()
    }

    /// Whether the message was the last of its request.
    pub fn ends_request(&self) -> bool {
        self.kind.is_some_and(|kind| [Kind::Final as u8, Kind::Error as u8].contains(&kind))
    }

    /// Whether the structure of a BATCH is broken: nobody knows what else it held, nor what that counts for in a window.
    pub fn breaks_batch(&self) -> bool {
        self.kind == Some(Kind::Batch as u8)
    }

    /// Whether the message was about the services of its sender, which its receiver no longer knows.
    pub fn hides_offer(&self) -> bool {
        self.kind.is_some_and(|kind| [Kind::Ready as u8, Kind::Offer as u8].contains(&kind))
    }

    /// Whether the message was a request.
    pub fn is_request(&self) -> bool {
        self.kind == Some(Kind::Request as u8)
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.map_or("message", Kind::name))?;
        if let Some(call) = self.call {
            write!(f, " of call {call}")?;
        }
        write!(f, ": {}", self.reason)
    }
}

impl From<Reason> for Malformed {
    fn from(reason: Reason) -> Self {
        let code = match reason {
            Reason::TooLarge(_) => ErrorCode::TooLarge,
            _ => ErrorCode::Malformed,
        };
        Self { kind: None, call: None, code, reason, window_bytes: 0 }
    }
}

/// The faulty field of a message, and the mistake.
///
/// Offsets count from the start of the header frame or, for the parts of a batch, of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Reason {
    /// The message has another number of frames.
    #[error("{0} frames, where a message has one or two")]
    FrameCount(usize),
    /// The message belongs to another protocol.
    #[error("the frame does not start with \"XERO\"")]
    Magic,
    /// The message belongs to another version of the protocol.
    #[error("version {0} at byte 4 is not supported: this side has version {VERSION}")]
    Version(u8),
    /// The kind is not one of version 1.
    #[error("kind {0} at byte 5 is unknown")]
    Kind(u8),
    /// The kind's fields cannot start where the header says.
    #[error("header length {length} at byte 26 is not within 32 and the frame's {frame} bytes")]
    HeaderLength {
        /// The declared start of the kind's fields.
        length: usize,
        /// The header frame's size.
        frame: usize,
    },
    /// A field reaches past the end.
    #[error("{field} at byte {offset} needs {needed} bytes, {left} are left")]
    CutShort {
        /// The field.
        field: &'static str,
        /// Where it starts.
        offset: usize,
        /// Its size.
        needed: usize,
        /// The rest of the part that it lies in.
        left: usize,
    },
    /// A number has no meaning in this version.
    #[error("{field} {value} at byte {offset} is unknown")]
    Unknown {
        /// The field.
        field: &'static str,
        /// Where it lies.
        offset: usize,
        /// The number.
        value: u8,
    },
    /// A text is not UTF-8.
    #[error("{field} at byte {offset} is not UTF-8")]
    NotUtf8 {
        /// The field.
        field: &'static str,
        /// Where its text starts.
        offset: usize,
    },
    /// A metadata key is repeated.
    #[error("metadata key at byte {offset} is given twice")]
    RepeatedKey {
        /// Where its text starts.
        offset: usize,
    },
    /// A message that is about a call names none.
    #[error("call id 0 at byte 8 belongs to no call")]
    NoCall,
    /// A partial reply has a number that leaves none for the count of all of them.
    #[error("sequence 4294967295 at byte 28 is beyond the largest number of a partial reply")]
    PartialsBeyondCount,
    /// A batch holds no message.
    #[error("a batch must hold a message")]
    EmptyBatch,
    /// A batch holds more than its messages.
    #[error("{left} bytes follow the last message")]
    BatchNotEmptied {
        /// How many.
        left: usize,
    },
    /// A batch lies within a batch.
    #[error("a batch must not hold a batch")]
    NestedBatch,
    /// A batch goes on after the services and methods of four of the largest introductions.
    #[error("a batch announces more than {BATCH_ANNOUNCED_MAX} services and methods")]
    BatchAnnounces,
    /// A part exceeds its limit.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
}

/// The services and methods after which a BATCH holds no further message: four of the largest introductions. Each takes
/// time to handle, and all of a BATCH is handled in one turn.
pub(super) const BATCH_ANNOUNCED_MAX: usize = 20_000;
