//! Frames become messages: a header, and a payload or none.

use std::mem;

use bytes::Bytes;

use super::{
    limits::{FIRST_PAYLOAD_BYTES_MAX, FRAME_BYTES_MAX, FRAMES_MAX, HEADER_BYTES_KEPT, Limits},
    violation::Violation,
};

/// A received message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// A message of one or two frames; an absent payload is empty.
    Message { header: Bytes, payload: Bytes },
    /// A message with another number of frames; its content is gone.
    WrongFrameCount(usize),
    /// A message over a limit; its content is gone, except the start of its header.
    Oversized { header: Bytes, header_bytes: u64, payload_bytes: u64 },
}

/// How much of a frame is kept; the rest is read and dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) kept: usize,
    pub(super) skipped: u64,
}

/// A message of which not all frames have arrived.
#[derive(Debug)]
pub(super) struct Assembly {
    limits: Limits,
    frames: usize,
    header: Bytes,
    header_bytes: u64,
    payload: Bytes,
    payload_bytes: u64,
    /// Whether the connection's first message is still to be completed.
    is_first: bool,
}

impl Assembly {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            frames: 0,
            header: Bytes::new(),
            header_bytes: 0,
            payload: Bytes::new(),
            payload_bytes: 0,
            is_first: true,
        }
    }

    /// Decides by its declared length what is kept of the next frame.
    pub(super) fn start(&mut self, length: u64, more: bool) -> Result<Plan, Violation> {
        if length > FRAME_BYTES_MAX {
            return Err(Violation::Frame(length));
        }
        self.frames += 1;
        if self.frames > FRAMES_MAX || self.frames == FRAMES_MAX && more {
            return Err(Violation::Frames);
        }
        if self.is_first && self.frames > 1 && length > FIRST_PAYLOAD_BYTES_MAX {
            return Err(Violation::FirstMessage(length));
        }
        let kept = match self.frames {
            1 if length > self.limits.header_bytes_max as u64 => HEADER_BYTES_KEPT.min(length),
            1 => length,
            // A message that cannot be delivered needs no payload.
            2 if more || self.is_oversized() || length > self.limits.payload_bytes_max as u64 => 0,
            2 => length,
            _ => 0,
        };
        match self.frames {
            1 => self.header_bytes = length,
            2 => self.payload_bytes = length,
            _ => {}
        }
        Ok(Plan { kept: usize::try_from(kept).map_err(|_| Violation::Frame(length))?, skipped: length - kept })
    }

    /// Takes what was kept of a frame.
    pub(super) fn keep(&mut self, bytes: Bytes) {
        match self.frames {
            1 => self.header = bytes,
            _ => self.payload = bytes,
        }
    }

    /// The message, after its last frame.
    pub(super) fn finish(&mut self) -> Received {
        let Self { limits, frames, header, header_bytes, payload, payload_bytes, .. } =
            mem::replace(self, Self { is_first: false, ..Self::new(self.limits) });
        if frames > 2 {
            return Received::WrongFrameCount(frames);
        }
        match exceeds(&limits, header_bytes, payload_bytes) {
            true => Received::Oversized { header, header_bytes, payload_bytes },
            false => Received::Message { header, payload },
        }
    }

    /// The bytes of complete frames.
    pub(super) fn held_bytes(&self) -> usize {
        self.header.len() + self.payload.len()
    }

    fn is_oversized(&self) -> bool {
        exceeds(&self.limits, self.header_bytes, self.payload_bytes)
    }
}

fn exceeds(limits: &Limits, header_bytes: u64, payload_bytes: u64) -> bool {
    header_bytes > limits.header_bytes_max as u64 || payload_bytes > limits.payload_bytes_max as u64
}
