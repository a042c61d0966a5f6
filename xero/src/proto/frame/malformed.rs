//! What is wrong with a message that cannot be read (`PROTOCOL.md` §14).

use std::fmt;

use thiserror::Error;

use crate::proto::message::{CallId, ErrorCode};

use super::{
    TooLarge,
    fixed::{Kind, VERSION},
};

/// A message that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct Malformed {
    /// The kind that its header names, as far as that was readable; it need not be a known one.
    pub kind: Option<u8>,
    /// The call that it belongs to, for the kinds that have one.
    pub call: Option<CallId>,
    /// `Malformed` or `TooLarge`: what to answer where there is a call to answer for.
    pub code: ErrorCode,
    /// Which field is at fault, where it lies, and why.
    pub reason: Reason,
    /// What it counts for in a byte window all the same.
    pub window_bytes: u64,
}

impl Malformed {
    /// A message whose number of frames is not one or two, whose content the transport has dropped.
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

    /// Whether the message asked for a procedure to be run.
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

/// Which field of a message is at fault and why. Offsets count from the start of the header frame or, for the parts
/// of a batch, of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Reason {
    /// The message has another number of frames.
    #[error("{0} frames, where a message has one or two")]
    FrameCount(usize),
    /// The message is not of this protocol.
    #[error("the frame does not start with \"XERO\"")]
    Magic,
    /// The message is of another version of the protocol.
    #[error("version {0} at byte 4: only version {VERSION} is spoken here")]
    Version(u8),
    /// The kind is not one of version 1.
    #[error("kind {0} at byte 5 is unknown")]
    Kind(u8),
    /// The kind's fields cannot start where the header says.
    #[error("header length {length} at byte 26 is not within 32 and the frame's {frame} bytes")]
    HeaderLength {
        /// Where the kind's fields are said to start.
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
        /// What is left of the part that it lies in.
        left: usize,
    },
    /// A number means nothing in this version.
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
    /// A metadata key comes twice.
    #[error("metadata key at byte {offset} is there already")]
    RepeatedKey {
        /// Where its text starts.
        offset: usize,
    },
    /// A message that is about a call names none.
    #[error("call id 0 at byte 8 belongs to no call")]
    NoCall,
    /// A partial reply has a number that leaves none for the count of all of them.
    #[error("sequence 4294967295 at byte 28 is more than a request's partial replies can count to")]
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
    /// A batch lies in a batch.
    #[error("a batch may not hold a batch")]
    NestedBatch,
    /// A part is over its limit.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
}
