//! What a peer may declare: settings of its owner, and bounds with their reasons.

/// The largest frames of a message that are delivered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The first frame.
    pub(crate) header_bytes_max: usize,
    /// The second frame.
    pub(crate) payload_bytes_max: usize,
}

/// The largest command: room for READY with every property that a peer has reason to send.
///
/// Known peers send 30 to 300 bytes.
pub(super) const COMMAND_BYTES_MAX: usize = 4096;

/// The most properties of a READY: known peers send two to four.
pub(super) const PROPERTIES_MAX: usize = 32;

/// The longest context of a PING, by ZMTP 3.1.
pub(super) const CONTEXT_BYTES_MAX: usize = 16;

/// The most frames of a message: ours have two, and envelopes of other patterns add a few.
///
/// Messages with another number are reported by it. One without end would be reported never.
pub(super) const FRAMES_MAX: usize = 64;

/// The longest frame that is read at all: no limit can be set higher (`payload_bytes_max`), so no peer of ours sends it.
///
/// A longer one is not skipped, because that could take for ever.
pub(super) const FRAME_BYTES_MAX: u64 = u32::MAX as u64;

/// The longest payload of a connection's first message: an introduction has none.
///
/// So a stranger makes this side hold only a header. The rest leaves room for other peers' small messages.
pub(super) const FIRST_PAYLOAD_BYTES_MAX: u64 = 4096;

/// What is kept of a header over the limit: the fixed part, which names the call, with room for later versions.
pub(super) const HEADER_BYTES_KEPT: u64 = 1024;
