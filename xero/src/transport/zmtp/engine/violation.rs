//! What a peer may not send.

use thiserror::Error;

use super::limits::{COMMAND_BYTES_MAX, FRAMES_MAX, PROPERTIES_MAX};

/// Why a connection ends: its peer has broken ZMTP, or a limit of this side.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Violation {
    /// The first bytes belong to another protocol, or to ZMTP 1.0.
    #[error("it does not greet as ZMTP 3 does")]
    Signature,
    /// ZMTP 2.0 or older.
    #[error("it speaks ZMTP {0}, and only 3.0 and 3.1 are supported")]
    Version(u8),
    /// A mechanism that this side does not have.
    #[error("it asks for the security mechanism {0:?}, and only NULL is supported")]
    Mechanism(String),
    /// Flags of a frame that no version defines, or that exclude each other.
    #[error("a frame has the flags {0:#04x}")]
    Flags(u8),
    /// A length that ZMTP does not allow: its first bit is set.
    #[error("a frame declares {0} bytes, and ZMTP ends at 2^63 - 1")]
    Length(u64),
    /// A length that no message of ours has, whatever the limits of its sender.
    #[error("a frame declares {0} bytes, and no message has more than 2^32 - 1")]
    Frame(u64),
    /// A command that is too long.
    #[error("a command declares {0} bytes, over the limit of {limit}", limit = COMMAND_BYTES_MAX)]
    Command(u64),
    /// A command without the structure of one.
    #[error("a command is malformed")]
    CommandSyntax,
    /// READY with too many properties.
    #[error("READY has more than {limit} properties", limit = PROPERTIES_MAX)]
    Properties,
    /// A message, or another command, in place of READY.
    #[error("its handshake does not start with READY")]
    NotReady,
    /// READY a second time.
    #[error("READY is repeated")]
    ReadyRepeated,
    /// A socket that cannot be connected to this one.
    #[error("it is a socket of type {0:?}")]
    SocketType(String),
    /// READY with the identity of this very connection, which has met itself.
    #[error("it is this side itself")]
    SelfConnected,
    /// The peer has refused this side.
    #[error("it refuses the connection: {0:?}")]
    Refused(String),
    /// A command of PUB and SUB sockets.
    #[error("it subscribes, which a ROUTER or DEALER does not know")]
    Subscription,
    /// A message without end.
    #[error("a message has more than {limit} frames", limit = FRAMES_MAX)]
    Frames,
    /// A peer that starts with a large payload, before it has introduced itself.
    #[error("its first message has a frame of {0} bytes behind the header")]
    FirstMessage(u64),
}
